"""Arrays of recordings on disk: one memory-mapped matrix a folder, spectrograms first of all.

A folder is named by the fingerprint of what it holds. One file has the rows (the frames)
of all recordings one after the other, ``journal.jsonl`` one line a file: what was found
under its path, and where the frames of those bytes lie. Frames are written first and
the line after them, so whatever a line names is there, and a stopped run goes on
behind the last line. Both are brought to the disk at least once a second.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.config import FeatureSpec, fingerprint
from labelkit.files import needing_room, open_own, parse_json
from labelkit.stores.lock import locked
from labelkit.types import Floats, Ints

# Begins the names of files that frames of long recordings wait in.
PARTIAL = "frames-"


@dataclass(frozen=True)
class Entry:
    """A journal line: the state of a file when it was read, and its frames.

    ``start_s`` is where the first frame lies in the recording, in seconds.
    """

    path: str
    size: int
    mtime_ns: int
    content_hash: str
    start: int = 0
    length: int = 0
    start_s: float = 0.0
    faults: list[str] = field(default_factory=list)


_FIELDS = {
    "path": str, "size": int, "mtime_ns": int, "content_hash": str, "start": int, "length": int,
    "start_s": float, "faults": list,
}  # fmt: skip


def file_state(path: Path) -> tuple[int, int]:
    """Read size in bytes and time of the last change in ns of a file; -1, -1 if there is none."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _read_entry(line: bytes) -> Entry | None:
    """Read a line of the journal; None if it is no whole one of ours."""
    try:
        values = parse_json(line)
    except ValueError:
        return None
    if not line.endswith(b"\n") or not isinstance(values, dict) or set(values) != set(_FIELDS):
        return None
    if any(type(values[name]) is not kind for name, kind in _FIELDS.items()):
        return None
    entry = Entry(**values)
    well = min(entry.start, entry.length) >= 0 and all(isinstance(f, str) for f in entry.faults)
    return entry if well else None


class ArrayStore:
    """The rows of numbers of each recording; ``frames_path`` is the file to map.

    Args:
        frames_path: The file, in a folder of its own.
        about: What the numbers are, written beside them.
        width: Numbers in a row.
        dtype: Their type.
    """

    def __init__(
        self, frames_path: Path, about: Mapping[str, Any], *, width: int, dtype: type[np.floating]
    ) -> None:
        self.folder, self.frames_path = frames_path.parent, frames_path
        self._about, self._dtype = about, dtype
        self._row_bytes = width * np.dtype(dtype).itemsize
        self._journal = self.folder / "journal.jsonl"
        self.entries: dict[str, Entry] = {}
        self._by_hash: dict[str, Entry] = {}
        for entry in self._read_journal()[0]:
            self._remember(entry)

    def missing(self, audio_dir: Path, paths: Sequence[str]) -> list[str]:
        """List those of ``paths`` that were never read, or have changed since."""
        return [
            path
            for path in paths
            if path not in self.entries
            or file_state(audio_dir / path)
            != (self.entries[path].size, self.entries[path].mtime_ns)
        ]

    @contextmanager
    def writing(self, *, timeout_s: float = 30.0) -> Iterator[None]:
        """Be the one process that adds to this folder.

        Args:
            timeout_s: How long to wait for another one.

        Raises:
            StoreBusy: If another process is still adding to it then.
            NoRoom: If the disk is full; what the journal names by then stays.
        """
        with needing_room(self.folder.parent), self._writing(timeout_s):
            yield

    @contextmanager
    def _writing(self, timeout_s: float) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "spec.json").write_text(json.dumps(self._about, indent=1) + "\n")
        with (
            locked(self._journal, exclusive=True, timeout_s=timeout_s),
            open_own(self._journal, "ab") as journal,
            open_own(self.frames_path, "ab") as frames,
        ):
            # What a killed run left: files of frames, and what is behind the last whole line.
            for file in self.folder.glob(f"{PARTIAL}*"):
                file.unlink()
            entries, n_bytes = self._read_journal()
            for entry in entries:
                self._remember(entry)
            journal.truncate(n_bytes)
            end = max((e.start + e.length for e in entries), default=0)
            frames.truncate(end * self._row_bytes)
            self._open, self._end = (journal, frames), end
            self._lines: list[bytes] = []
            self._synced = time.monotonic()
            try:
                yield
            finally:
                self._sync()
                del self._open

    def note(self, entry: Entry) -> None:
        """Keep for this process alone what says nothing of the file's content.

        The next one looks again: a file that could not be read may be readable then.
        """
        self.entries[entry.path] = entry

    def add(self, entry: Entry, frames: Floats | Path) -> None:
        """Append what was found under a path; bytes already known are not stored twice.

        Args:
            entry: The file's state, hash and faults.
            frames: Its rows, shape ``(n_frames, width)``; none if unusable. Those of a long
                recording are in a file, as they will be here.
        """
        data = self._open[1]
        known = self._by_hash.get(entry.content_hash)
        length = 0
        if known is None and isinstance(frames, Path):
            with frames.open("rb") as source:
                shutil.copyfileobj(source, data, 2**20)
            length = frames.stat().st_size // self._row_bytes
        elif known is None and not isinstance(frames, Path):
            data.write(np.ascontiguousarray(frames, self._dtype).tobytes())
            length = len(frames)
        if length:
            start = self._end
            self._end += length
        else:
            start, length = (known.start, known.length) if known else (0, 0)
        start_s = known.start_s if known else entry.start_s
        places = {"start": start, "length": length, "start_s": start_s}
        entry = Entry(**(asdict(entry) | places))
        self._lines.append(json.dumps(asdict(entry)).encode() + b"\n")
        self._remember(entry)
        if time.monotonic() - self._synced > 1:
            self._sync()

    def knows(self, content_hash: str) -> bool:
        """Tell whether rows of these bytes are here already."""
        return content_hash in self._by_hash

    def _sync(self) -> None:
        """Bring to the disk the frames first, then the lines that name them."""
        journal, data = self._open
        for file, lines in ((data, []), (journal, self._lines)):
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        self._lines, self._synced = [], time.monotonic()

    def places(self, paths: Iterable[str]) -> tuple[Ints, Ints]:
        """Return first frame and number of frames of each path, 0 frames where it is unusable."""
        nothing = Entry("", -1, -1, "")
        found = [self.entries.get(path, nothing) for path in paths]
        return (
            np.array([e.start for e in found], np.int64),
            np.array([e.length for e in found], np.int64),
        )

    def starts_s(self, paths: Iterable[str]) -> Floats:
        """Return where the first frame of each path lies in its recording, in seconds."""
        return np.array([self.entries[path].start_s for path in paths], np.float64)

    def _remember(self, entry: Entry) -> None:
        self.entries[entry.path] = entry
        if entry.length:
            self._by_hash[entry.content_hash] = entry

    def _read_journal(self) -> tuple[list[Entry], int]:
        """Read the whole lines of the journal, and how many bytes they take."""
        if not self._journal.exists():
            return [], 0
        entries, n_bytes = [], 0
        size = self.frames_path.stat().st_size if self.frames_path.exists() else 0
        n_frames = size // self._row_bytes
        for line in self._journal.read_bytes().splitlines(keepends=True):
            entry = _read_entry(line)
            # Frames that are not there, lost or cut off, are computed again.
            if entry is None or entry.start + entry.length > n_frames:
                break
            entries.append(entry)
            n_bytes += len(line)
        return entries, n_bytes


class FeatureStore(ArrayStore):
    """The spectrograms of one spec, float16 ``(n_frames, n_mels)``.

    Args:
        folder: Parent of all feature folders of a project.
        spec: What the spectrograms are.
    """

    def __init__(self, folder: Path, spec: FeatureSpec) -> None:
        self.spec = spec
        path = folder / f"{spec.kind}-{fingerprint(spec)}" / "frames.f16"
        super().__init__(path, asdict(spec), width=spec.n_mels, dtype=np.float16)
