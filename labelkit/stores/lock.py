"""One writer at a time: an flock on a side file, held around every open of the store.

DuckDB's own lock is a POSIX one, which any second open and close of the file in the
same process drops without a word; this one stays.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labelkit.errors import StoreBusy, StoreError


def say(message: str) -> None:
    """Write one line to stderr."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def locked(
    path: Path, *, exclusive: bool, timeout_s: float, notify: Callable[[str], None] = say
) -> Iterator[None]:
    """Hold the lock of ``path``, waiting up to ``timeout_s`` for others to leave it.

    Args:
        path: The file to protect; the lock lies beside it as ``<path>.lock``.
        exclusive: True to write, False to read beside other readers.
        timeout_s: Seconds to wait.
        notify: Gets one line that names the holder after a second of waiting.

    Raises:
        StoreBusy: If the time is over.
        StoreError: If the lock file cannot be opened.
    """
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        try:
            # Where one may only read, one can still wait for those who write.
            descriptor = -1 if exclusive else os.open(f"{path}.lock", os.O_RDONLY)
        except OSError:
            descriptor = -1
        if descriptor < 0:
            reason = f"{error.strerror}; is the folder writable?"
            raise StoreError(f"{path}.lock: {reason}") from error
    try:
        _acquire(descriptor, path, exclusive, timeout_s, notify)
        if exclusive:
            os.ftruncate(descriptor, 0)
            command = " ".join(os.path.basename(part) for part in sys.argv[:2])
            os.pwrite(
                descriptor, f"PID {os.getpid()} on {socket.gethostname()} ({command})".encode(), 0
            )
        try:
            yield
        finally:
            if exclusive:
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _acquire(
    descriptor: int, path: Path, exclusive: bool, timeout_s: float, notify: Callable[[str], None]
) -> None:
    mode = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
    start, pause, told = time.monotonic(), 0.005, False
    while True:
        try:
            return fcntl.flock(descriptor, mode)
        except BlockingIOError:
            pass
        waited = time.monotonic() - start
        if waited >= timeout_s:
            raise StoreBusy(
                f"{path.name} is in use by {_holder(descriptor)}; "
                "wait, stop it, or give a longer --lock-timeout"
            )
        if waited >= 1 and not told:
            notify(f"waiting for {path.name}, in use by {_holder(descriptor)}")
            told = True
        time.sleep(min(pause, timeout_s - waited) * random.uniform(0.5, 1))
        pause = min(pause * 1.5, 0.25)


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 500, 0).decode(errors="replace") or "another process"
