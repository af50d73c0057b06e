"""Arrays in files that somebody else made, read without believing what they claim to hold."""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from labelkit.types import Array

# What reading a file of the wrong kind, or half of one, can come to; RuntimeError is an
# encrypted or unknown kind of zip.
UNREADABLE = (
    EOFError, KeyError, MemoryError, OSError, OverflowError, RuntimeError, SyntaxError, TypeError,
    ValueError, lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
# An archive may unpack to so many times its own size, and to so many bytes whatever its size.
RATIO, FLOOR = 100, 2**26


def explain(error: BaseException) -> str:
    """Return in one short line why a file of arrays cannot be read."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return reason if len(reason) < 200 else f"{reason[:190]} ..."


def map_array(file: Path) -> Array:
    """Open the array of an ``.npy`` file; mapped, one that claims more than it holds is an error.

    Raises:
        UNREADABLE: If it is no such file.
    """
    if not file.stat().st_size:
        raise ValueError("No data left in file")
    with file.open("rb") as opened:
        _check_claim(opened, file.name, file.stat().st_size)
    open_memmap: Callable[..., np.memmap[Any, Any]] = np.lib.format.open_memmap
    return open_memmap(file, mode="r")


@contextmanager
def open_arrays(file: Path, *, most: int | None = None) -> Iterator[Any]:
    """Open the arrays of an ``.npz`` file by name, once their sizes were looked at.

    Args:
        file: The file.
        most: Bytes that it may unpack to; if None 100 times its own size, or 64 MB.

    Raises:
        UNREADABLE: If it is no such file, or unpacks to more, or an array claims to be larger
            than what is there for it.
    """
    with file.open("rb") as opened:
        archive = zipfile.ZipFile(opened)
        size = sum(part.file_size for part in archive.infolist())
        believed = max(FLOOR, RATIO * file.stat().st_size) if most is None else most
        if size > believed:
            raise ValueError(f"it unpacks to {size:,} bytes, far more than {believed:,}")
        for part in archive.infolist():
            if part.filename.endswith(".npy"):
                with archive.open(part) as stream:
                    _check_claim(stream, part.filename, part.file_size)
        opened.seek(0)
        # Nothing pickled is ever loaded.
        with np.load(opened, allow_pickle=False) as saved:
            yield saved


def _check_claim(stream: IO[bytes], name: str, size: int) -> None:
    """Refuse an array whose shape does not fit into the bytes that are stored of it."""
    form: Any = np.lib.format  # numpy leaves these untyped.
    readers = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}
    version = form.read_magic(stream)
    if version not in readers:
        raise ValueError(f"{name} is of version {version} of numpy's format")
    shape, _, dtype = readers[version](stream)
    # Texts of no length, say, take no room, however many.
    claimed = math.prod(shape) * max(1, dtype.itemsize)
    if claimed > size:
        raise ValueError(f"{name} claims {claimed:,} bytes and holds {size:,}")
