"""Pairs that may be copies of each other are aligned, waveform on waveform."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from labelkit.audio import io
from labelkit.audio.alignment import Alignment, Sound, align, prepare
from labelkit.errors import InvalidInput
from labelkit.executor import Executor, worker_count
from labelkit.progress import track
from labelkit.recordings.features import WORKER_MB
from labelkit.types import Floats

# Of longer recordings so much is compared, and a little more of the second one.
LONGEST_S, _SLACK_S = 60.0, 2.0
# Recordings of a worker that are kept ready: those of its newest pairs.
_KEPT = 16
# A few pairs are done sooner than worker processes have started.
_FEW = 40


@dataclass(frozen=True)
class Candidate:
    """Two recordings that may be one.

    Args:
        path: Of the first one.
        other: Of the second one.
        start_s: From where on the first one is compared, in seconds; None for all of both.
        other_start_s: From where on the second one is.
    """

    path: str
    other: str
    start_s: float | None = None
    other_start_s: float | None = None


@dataclass(frozen=True)
class Aligner:
    """Aligns one recording with others; a top-level class, so that workers can have it."""

    audio_dir: Path

    def __call__(self, pairs: tuple[Candidate, ...]) -> list[Alignment]:
        """Align each pair; one that cannot be read now has nothing in common with any."""
        return [self._align(pair) for pair in pairs]

    def _align(self, pair: Candidate) -> Alignment:
        try:
            if pair.start_s is None or pair.other_start_s is None:
                return align(_read(self.audio_dir / pair.path), _read(self.audio_dir / pair.other))
            first = _read(self.audio_dir / pair.path, pair.start_s, LONGEST_S)
            earlier = max(0.0, pair.other_start_s - _SLACK_S)
            second = _read(self.audio_dir / pair.other, earlier, LONGEST_S + 2 * _SLACK_S)
        except (OSError, InvalidInput):
            return Alignment()
        found = align(first, second)
        return replace(found, offset_s=found.offset_s + pair.start_s - earlier)


def confirm(
    audio_dir: Path, pairs: Sequence[Candidate], *, workers: int | None = None
) -> list[Alignment]:
    """Align the recordings of each pair.

    Args:
        audio_dir: Where the recordings lie.
        pairs: Which to align.
        workers: Processes at once; as many as cores and memory allow if None.

    Returns:
        An alignment of each pair, in their order.
    """
    jobs: dict[str, list[Candidate]] = defaultdict(list)
    for pair in pairs:
        jobs[pair.path].append(pair)
    n_workers = (workers or worker_count(WORKER_MB)) if len(pairs) > _FEW else 1
    found: dict[Candidate, Alignment] = {}
    with Executor(n_workers) as executor:
        results = executor.map(Aligner(audio_dir), [tuple(job) for job in jobs.values()])
        for result in track(results, len(jobs), "aligning"):
            # Whatever kills a worker is told by the features, which are there.
            alike = [Alignment()] * len(result.item) if result.error else result.get()
            found |= dict(zip(result.item, alike, strict=True))
    _read.cache_clear()
    return [found[pair] for pair in pairs]


@lru_cache(maxsize=_KEPT)
def _read(file: Path, start_s: float = 0.0, seconds: float = np.inf) -> Sound:
    """Decode a part of a recording and make it ready.

    Raises:
        InvalidInput: If it cannot be decoded.
        OSError: If it cannot be read.
    """
    recording = io.Recording(file)
    start, stop = start_s * recording.rate, (start_s + seconds) * recording.rate
    parts: list[Floats] = [np.zeros((0, recording.channels), np.float32)]
    for block in recording.blocks():
        before = recording.n_samples - len(block)
        if before >= stop:
            break
        if recording.n_samples > start:
            first = max(0, round(start) - before)
            parts.append(block[first : len(block) if np.isinf(stop) else round(stop) - before])
    samples = np.nan_to_num(np.concatenate(parts), posinf=1.0, neginf=-1.0)
    return prepare(samples, recording.rate)
