"""From recordings to spectrograms on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from labelkit.audio import faults, io
from labelkit.audio.features import check_spec, compute, prepare
from labelkit.config import FeatureSpec, create_spec
from labelkit.errors import InvalidInput
from labelkit.executor import Executor
from labelkit.progress import say, track
from labelkit.project import Project
from labelkit.records import Frames
from labelkit.registry import TABLE
from labelkit.stores.arrays import Entry, FeatureStore, file_state
from labelkit.types import Floats

# Recordings whose spectrograms are computed together on a GPU.
BATCH = 256


@dataclass(frozen=True)
class Extractor:
    """Reads a recording; a top-level class, so that workers can have it.

    Args:
        audio_dir: Folder of the recordings.
        spec: What to compute.
        samples_only: Stop before the spectrogram, which is computed in batches then.
    """

    audio_dir: Path
    spec: FeatureSpec
    samples_only: bool = False

    def __call__(self, path: str) -> tuple[Entry, Floats]:
        """Return the journal entry of a recording and frames, float16 ``(n_frames, n_mels)``."""
        file = self.audio_dir / path
        size, mtime_ns = file_state(file)
        samples, rate, found = faults.inspect(file)
        content = io.hash_file(file) if size >= 0 else ""
        result: Floats = np.zeros((0, self.spec.n_mels), np.float16)
        start_s = 0.0
        if len(samples) and self.samples_only:
            result, start_s = prepare(samples, rate, self.spec)
        elif len(samples):
            frames, start_s = compute(samples, rate, self.spec)
            result = frames.astype(np.float16)
        return Entry(path, size, mtime_ns, content, start_s=start_s, faults=found), result


def compute_features(
    project: Project,
    spec: FeatureSpec,
    *,
    workers: int | None = None,
    device: str = "cpu",
) -> FeatureStore:
    """Compute the spectrograms that are not there yet; a bad file costs only itself.

    Args:
        project: Whose recordings.
        spec: What to compute.
        workers: Processes at once; all cores if None.
        device: On ``cuda`` spectrograms are computed in batches; on ``cpu`` each by the
            worker that read the recording, which is the faster there.

    Raises:
        InvalidInput: If the spec fits no spectrogram.
        StoreBusy: If another process computes the same features.
    """
    check_spec(spec)
    project.check_audio()
    with project.store.read() as session:
        paths = session.labels().paths
    store = FeatureStore(project.features, spec)
    missing = store.missing(project.audio_dir, paths)
    if not missing:
        return store
    # A plug-in knows no batches.
    batched = device != "cpu" and spec.kind in TABLE["feature"]
    extractor = Extractor(project.audio_dir, spec, samples_only=batched)
    # A few recordings are done sooner than worker processes have started.
    with (
        store.writing(timeout_s=project.store.timeout_s),
        Executor(workers if len(missing) > 8 else 1) as executor,
    ):
        # Whoever was adding until now may have done some of it.
        missing = store.missing(project.audio_dir, paths)
        read = read_recordings(extractor, executor, missing)
        done = _in_batches(read, spec, device) if batched else read
        for entry, frames in track(done, len(missing), "features"):
            store.add(entry, frames)
    return store


def read_recordings(
    extractor: Extractor, executor: Executor, paths: Sequence[str]
) -> Iterator[tuple[Entry, Floats]]:
    """Yield what was found under each path; nothing where reading failed."""
    for result in executor.map(extractor, paths):
        if result.error is None:
            yield result.get()
            continue
        size, mtime_ns = file_state(extractor.audio_dir / result.item)
        say(f"{result.item}: left out ({result.error})")
        key = f"error:{result.item}"
        nothing = np.zeros((0, extractor.spec.n_mels), np.float16)
        yield Entry(result.item, size, mtime_ns, key, faults=["unreadable"]), nothing


def _in_batches(
    read: Iterator[tuple[Entry, Floats]], spec: FeatureSpec, device: str
) -> Iterator[tuple[Entry, Floats]]:
    """Turn samples into frames, many recordings at once."""
    from labelkit.audio.batched import compute_batch

    waiting: list[tuple[Entry, Floats]] = []
    for item in read:
        if len(item[1]):
            waiting.append(item)
        else:
            yield item
        if len(waiting) == BATCH:
            yield from _flush(waiting, compute_batch([w for _, w in waiting], spec, device))
    yield from _flush(waiting, compute_batch([w for _, w in waiting], spec, device))


def _flush(
    waiting: list[tuple[Entry, Floats]], frames: Sequence[Floats]
) -> Iterator[tuple[Entry, Floats]]:
    for (entry, _), found in zip(waiting, frames, strict=True):
        yield entry, found.astype(np.float16)
    waiting.clear()


def read_variant(spec: FeatureSpec, name: str) -> FeatureSpec:
    """Read the features of an offline variant, ``speed:0.9`` or ``semitones:2``.

    Raises:
        InvalidInput: If it is neither.
    """
    key, _, value = name.partition(":")
    if key not in ("speed", "semitones"):
        raise InvalidInput(f"no variant {name!r}; write speed:FACTOR or semitones:NUMBER")
    return create_spec(FeatureSpec, asdict(spec) | {key: value}, "variant ")


def compute_variant(
    project: Project,
    spec: FeatureSpec,
    paths: list[str],
    workers: int | None,
    device: str,
) -> Frames:
    """Compute the spectrograms of an offline variant of some clips; all must have one.

    Raises:
        InvalidInput: If a clip cannot be had in it.
    """
    features = compute_features(project, spec, workers=workers, device=device)
    starts, lengths = features.places(paths)
    if not lengths.all():
        raise InvalidInput(
            f"{paths[int(lengths.argmin())]} cannot be had at speed {spec.speed:g}, shifted by "
            f"{spec.semitones:g} semitones; leave out variants"
        )
    return Frames(features.frames_path, starts, lengths)
