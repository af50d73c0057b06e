"""Bytes of a file, read as they are needed, and other bytes put in their place."""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import BinaryIO, TypeAlias

_BLOCK = 2**16
_OVERLAP = 16

# Bytes of our own, or those between two places of a file.
Piece: TypeAlias = bytes | tuple[int, int]


class Source:
    """A file's bytes at any place, some ahead of those that were asked for kept in memory.

    A memory map would do the same but for what a lost disk does to it: that ends the process.
    """

    def __init__(self, file: BinaryIO | io.FileIO) -> None:
        self._file = file
        self.size = file.seek(0, io.SEEK_END)
        self._start, self._block = 0, b""

    def read(self, at: int, n: int) -> bytes:
        """Return ``n`` bytes from a place on, or as many as there are."""
        if not self._start <= at <= min(at + n, self.size) <= self._start + len(self._block):
            self._load(at, n)
        return self._block[at - self._start : at - self._start + n]

    def _load(self, at: int, n: int = 0) -> None:
        self._start, self._block = at, b""
        # What a size points to may lie further off than any place.
        if at < self.size:
            self._file.seek(at)
            self._block = _read(self._file, min(max(n, _BLOCK), self.size - at))

    def search(self, pattern: re.Pattern[bytes], at: int) -> int | None:
        """Find where a pattern of no more than 16 bytes next matches; None if nowhere."""
        if not self._start <= at < self._start + len(self._block):
            self._load(at)
        while self._block:
            if match := pattern.search(self._block, max(0, at - self._start)):
                return self._start + match.start()
            stop = self._start + len(self._block)
            # A file that has become shorter meanwhile gives no more.
            if stop >= self.size or len(self._block) <= _OVERLAP:
                return None
            self._load(max(at, stop - _OVERLAP))
        return None


def _read(file: BinaryIO | io.FileIO, n: int) -> bytes:
    """Read as many bytes as there are, of a file that may give less at a time."""
    block = file.read(n) or b""
    while len(block) < n and (more := file.read(n - len(block))):
        block += more
    return block


class Pieced(io.RawIOBase):
    """A file put together of pieces, to be read by a decoder.

    Args:
        source: The file that places refer to; closed with this one.
        pieces: In their order.
        claim: Say to be so many times as long as the pieces are.

    Attributes:
        error: What reading came to, as a decoder sees only an end.
    """

    def __init__(self, source: BinaryIO, pieces: Sequence[Piece], claim: int = 1) -> None:
        self._source, self._pieces = source, pieces
        sizes = [len(p) if isinstance(p, bytes) else p[1] - p[0] for p in pieces]
        self._stops = list(accumulate(sizes))
        self._end = claim * self._stops[-1]
        self._at = 0
        self.error: OSError | None = None

    def close(self) -> None:
        """Close the source, too."""
        self._source.close()
        super().close()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that any place can be gone to."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer, as far as there are bytes."""
        done, buffer = 0, memoryview(buffer).cast("B")
        while done < len(buffer) and self._at < self._stops[-1]:
            k = bisect_right(self._stops, self._at)
            piece = self._pieces[k]
            n = min(len(buffer) - done, self._stops[k] - self._at)
            if isinstance(piece, bytes):
                offset = self._at - (self._stops[k] - len(piece))
                buffer[done : done + n] = piece[offset : offset + n]
            else:
                try:
                    self._source.seek(piece[1] - (self._stops[k] - self._at))
                    n = len(data := self._source.read(n))
                except OSError as error:
                    self.error = error
                    break
                buffer[done : done + n] = data
                if not n:  # The file has become shorter meanwhile.
                    break
            done, self._at = done + n, self._at + n
        if done < len(buffer) and self._stops[-1] <= self._at < self._end:
            # Whoever looks for a tag at the end finds none.
            n = min(len(buffer) - done, self._end - self._at)
            buffer[done : done + n] = bytes(n)
            done, self._at = done + n, self._at + n
        return done
