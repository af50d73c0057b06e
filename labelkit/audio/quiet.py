"""What decoders print of their own, in no words of ours and without the name of a file, is dropped.

libmpg123 within libsndfile prints what it does not like to the stream ``stderr`` of the C library,
and nobody can ask libsndfile to turn that off. While something is decoded, that stream is another
one, which goes nowhere. Python does not write by it: notes and bars of other threads are printed
as ever, which they would not be were the file descriptor 2 itself turned away.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_lock = threading.Lock()
_depth = 0
_before: int | None = None


@contextmanager
def quietly() -> Iterator[None]:
    """Drop what C libraries print to stderr; within, also in several threads at once.

    Where the C library is not GNU's, nothing is done.
    """
    streams = _streams()
    if streams is None:
        yield
        return
    _turn_away(*streams)
    try:
        yield
    finally:
        _turn_back(streams[0])


def _turn_away(variable: Any, nowhere: int) -> None:
    global _depth, _before
    with _lock:
        if not _depth:
            _before, variable.value = variable.value, nowhere
        _depth += 1


def _turn_back(variable: Any) -> None:
    global _depth
    with _lock:
        _depth -= 1
        if not _depth:
            variable.value = _before


def _begin_anew() -> None:
    """Turn back in a child that was forked while another thread decoded, which the child lacks."""
    global _lock, _depth
    _lock = threading.Lock()
    if _depth and (streams := _streams()) is not None:
        streams[0].value = _before
    _depth = 0


@cache
def _streams() -> tuple[Any, int] | None:
    """Return the variable that holds the stream ``stderr``, and a stream that goes nowhere.

    Elsewhere than in GNU's library the variable may be one that is not to be written to.
    """
    if platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    nowhere = library.fopen(os.devnull.encode(), b"w")
    return (ctypes.c_void_p.in_dll(library, "stderr"), nowhere) if nowhere else None


os.register_at_fork(after_in_child=_begin_anew)
