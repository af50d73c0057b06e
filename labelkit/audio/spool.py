"""Samples of a recording at any place: in memory while it is short, in a nameless file if not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import BinaryIO, Protocol

import numpy as np

from labelkit.files import needing_room
from labelkit.types import Floats

# Samples that are kept in memory, 32 MB, and those that are worked on at once.
IN_MEMORY, CHUNK = 2**23, 2**20
_BYTES = 4


class Samples(Protocol):
    """Mono float32 samples that can be read at any place."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Floats:
        """Return the samples of a stretch, which must lie within."""


class InMemory:
    """Samples of an array."""

    def __init__(self, samples: Floats) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, start: int, stop: int) -> Floats:
        """Return a view of the samples of a stretch."""
        return self._samples[start:stop]


class Spool:
    """Samples that come one block after the other, to be read any number of times.

    Args:
        folder: Where a file may be made that nobody sees; the system's folder for such if None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._blocks: list[Floats] = []
        self._file: BinaryIO | None = None
        self._n = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *rest: object) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return self._n

    def add(self, block: Floats) -> None:
        """Append samples.

        Raises:
            NoRoom: If the disk is full.
        """
        with needing_room(self._folder or Path(gettempdir())):
            self._add(block)

    def _add(self, block: Floats) -> None:
        self._n += len(block)
        if self._file is None and self._n > IN_MEMORY:
            self._file = TemporaryFile(dir=self._folder, prefix="spool-")
            for kept in self._blocks:
                self._file.write(np.ascontiguousarray(kept, np.float32).data)
            self._blocks = []
        if self._file is None:
            self._blocks.append(block)
        else:
            self._file.write(np.ascontiguousarray(block, np.float32).data)

    def read(self, start: int, stop: int) -> Floats:
        """Return the samples of a stretch."""
        if self._file is None:
            if len(self._blocks) != 1:
                self._blocks = [np.concatenate([np.zeros(0, np.float32), *self._blocks])]
            return self._blocks[0][start:stop]
        with needing_room(self._folder or Path(gettempdir())):
            self._file.flush()
        data = os.pread(self._file.fileno(), _BYTES * (stop - start), _BYTES * start)
        return np.frombuffer(data, np.float32)


class Stretch:
    """A part of some samples, longer or scaled if wanted: what is beyond the part is zeros.

    Args:
        samples: Of the whole.
        start: First sample of the part that counts.
        stop: Behind the last one.
        first: Where the stretch begins, which may be before ``start``, also below 0.
        length: Samples of the stretch.
        gains: What the samples are multiplied with, one after the other.
    """

    def __init__(
        self,
        samples: Samples,
        start: int,
        stop: int,
        first: int,
        length: int,
        gains: tuple[np.float32, ...] = (),
    ) -> None:
        self._samples, self._start, self._stop = samples, start, stop
        self._first, self._length, self._gains = first, length, gains

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> Floats:
        """Return the samples of a part of the stretch."""
        low, high = self._first + start, self._first + stop
        inside = max(low, self._start), max(max(low, self._start), min(high, self._stop))
        found = self._samples.read(*inside)
        for gain in self._gains:
            found = found * gain
        before = min(inside[0], high) - low
        after = high - low - before - len(found)
        return np.pad(found, (before, after)) if before or after else found


def chunks(samples: Samples, start: int = 0, stop: int | None = None) -> Iterator[Floats]:
    """Yield the samples of a stretch one chunk after the other."""
    stop = len(samples) if stop is None else stop
    for at in range(start, stop, CHUNK):
        yield samples.read(at, min(at + CHUNK, stop))


def highest(samples: Samples, start: int = 0, stop: int | None = None) -> float:
    """Return the highest amplitude of a stretch, 0 if it is empty."""
    return max((float(np.abs(chunk).max()) for chunk in chunks(samples, start, stop)), default=0.0)
