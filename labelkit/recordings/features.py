"""From recordings to spectrograms on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

import numpy as np

from labelkit.audio import faults, io
from labelkit.audio.features import check_spec, compute_parts, compute_whole, place, silent_frame
from labelkit.audio.spool import IN_MEMORY, Samples, Spool
from labelkit.config import FeatureSpec, create_spec
from labelkit.errors import InvalidInput, NoRoom
from labelkit.executor import Executor, worker_count
from labelkit.files import needing_room
from labelkit.progress import say, track
from labelkit.project import Project
from labelkit.recordings.fitting import settle
from labelkit.recordings.usable import refuse_gone
from labelkit.records import Frames
from labelkit.registry import TABLE
from labelkit.stores.arrays import PARTIAL, ArrayStore, Entry, FeatureStore, file_state
from labelkit.types import Floats

# Recordings whose spectrograms are computed together on a GPU.
BATCH = 256
# Of memory that a worker takes at most, whatever the length of a recording.
WORKER_MB = 400
# Recordings that are left out by name.
_NAMED = 5


@dataclass(frozen=True)
class Extracted:
    """What was found under a path.

    ``rows`` are its frames, float16 ``(n_frames, n_mels)``, those of a long recording in a file, or
    the samples if these were asked for; none if it is left out, ``why`` says more of that then.
    """

    entry: Entry
    rows: Floats | Path
    why: str = ""

    @property
    def is_passing(self) -> bool:
        """Tell whether what keeps it out says nothing of its content."""
        return bool(self.entry.faults) and self.entry.faults[0] in faults.PASSING


@dataclass(frozen=True)
class Extractor:
    """Reads a recording; a top-level class, so that workers can have it.

    Args:
        audio_dir: Folder of the recordings.
        spec: What to compute.
        folder: Where long recordings and their frames lie meanwhile.
        samples_only: Stop before the spectrogram, which is computed in batches then.
        longest: Samples beyond which it is computed here all the same; None if it never is.
    """

    audio_dir: Path
    spec: FeatureSpec
    folder: Path | None = None
    samples_only: bool = False
    longest: int | None = None

    def __call__(self, path: str) -> Extracted:
        """Decode the recording at ``path``, judge it, and compute what is wanted of it."""
        file = self.audio_dir / path
        size, mtime_ns = file_state(file)
        entry = Entry(path, size, mtime_ns, "")
        recording = faults.open_recording(file)
        if isinstance(recording, faults.Inspection):
            return self._leave_out(entry, file, recording)
        with Spool(self.folder) as mono, Spool(self.folder) as varied:
            examination = faults.Examination(
                recording.rate, self.spec, whole=False, floats=recording.holds_floats
            )
            try:
                for block in io.mix_down(
                    map(examination.add, recording.blocks()), recording.rate, self.spec.sample_rate
                ):
                    mono.add(block)
                content = io.hash_file(file)
            except (OSError, InvalidInput) as error:
                return self._leave_out(entry, file, faults.say_unread(file, error))
            found = faults.conclude(recording, examination)
            if found.unusable:
                return self._leave_out(entry, file, found)
            placed = place(mono, self.spec, varied)
            stretch = placed.stretch
            entry = replace(entry, content_hash=content, start_s=placed.start_s)
            if placed.is_moment:
                return Extracted(replace(entry, faults=["moment"]), self._nothing)
            entry = replace(entry, faults=found.faults)
            if self.samples_only and (self.longest is None or len(stretch) <= self.longest):
                return Extracted(entry, stretch.read(0, len(stretch)).astype(np.float32))
            return self._judge(entry, self._compute(stretch))

    def _compute(self, stretch: Samples) -> Iterator[Floats]:
        if len(stretch) > IN_MEMORY and self.spec.kind in TABLE["feature"]:
            yield from compute_parts(stretch, self.spec)
        else:
            yield compute_whole(stretch, self.spec)

    def _judge(self, entry: Entry, parts: Iterator[Floats]) -> Extracted:
        """Take frames as they come, and leave the recording out if they are of no use.

        Raises:
            NoRoom: If the disk is full, which is no fault of the recording.
        """
        with needing_room(self.folder or Path()):
            return self._take(entry, parts)

    def _take(self, entry: Entry, parts: Iterator[Floats]) -> Extracted:
        judge = make_judge(self.spec)
        rows: list[Floats] = []
        size, file = 0, None
        try:
            for part in parts:
                if not judge.add(part):
                    break
                rows.append(part.astype(np.float16))
                size += part.size
                if size > _KEPT_NUMBERS:
                    file = file or self._open_file()
                    file.writelines(row.tobytes() for row in rows)
                    rows, size = [], 0
            if fault := judge.conclude():
                return Extracted(replace(entry, faults=[fault]), self._nothing)
            if file is None:
                return Extracted(entry, np.concatenate(rows))
            file.writelines(row.tobytes() for row in rows)
            kept, file = file, None
            kept.close()
            return Extracted(entry, Path(kept.name))
        finally:
            if file is not None:
                file.close()
                Path(file.name).unlink()

    @property
    def _nothing(self) -> Floats:
        return np.zeros((0, self.spec.n_mels), np.float16)

    def _open_file(self) -> IO[bytes]:
        # Two clips of the same bytes may be under way at once.
        return NamedTemporaryFile(dir=self.folder, prefix=PARTIAL, delete=False)

    def _leave_out(self, entry: Entry, file: Path, found: faults.Inspection) -> Extracted:
        content = ""
        if found.unusable not in faults.PASSING:
            try:
                content = io.hash_file(file)
            except OSError as error:
                found = faults.say_unread(file, error)
        entry = replace(entry, content_hash=content, faults=found.faults)
        return Extracted(entry, self._nothing, found.why)


# Numbers of frames that a worker keeps before it writes them to a file: 16 MB.
_KEPT_NUMBERS = 2**23


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
        workers: Processes at once; as many as cores and memory allow if None.
        device: On ``cuda`` spectrograms are computed in batches; on ``cpu`` each by the
            worker that read the recording, which is the faster there.

    Raises:
        InvalidInput: If the spec fits no spectrogram.
        RecordingsGone: If the audio folder, or much of what lay in it, is not there, before or
            after.
        StoreBusy: If another process computes the same features.
    """
    spec = settle(project, spec)
    check_spec(spec)
    with project.store.read() as session:
        table = session.labels()
    refuse_gone(project, table)
    paths = table.paths
    store = FeatureStore(project.features, spec)
    missing = store.missing(project.audio_dir, paths)
    if not missing:
        return store
    # A plug-in knows no batches.
    batched = device != "cpu" and spec.kind in TABLE["feature"]
    extractor = Extractor(
        project.audio_dir, spec, store.folder, samples_only=batched, longest=IN_MEMORY
    )
    # A few recordings are done sooner than worker processes have started.
    n_workers = (workers or worker_count(WORKER_MB)) if len(missing) > 8 else 1
    with store.writing(timeout_s=project.store.timeout_s), Executor(n_workers) as executor:
        # Whoever was adding until now may have done some of it.
        missing = store.missing(project.audio_dir, paths)
        read = read_recordings(extractor, executor, missing)
        done = _in_batches(read, spec, device) if batched else read
        for found in track(done, len(missing), "features"):
            keep(store, found)
        if any(entry.faults[:1] in (["missing"], ["unread"]) for entry in store.entries.values()):
            refuse_gone(project, table, store)
    return store


def keep(store: ArrayStore, found: Extracted) -> None:
    """Add what was found to a store; what says nothing of a recording's content only for now."""
    if found.is_passing:
        store.note(found.entry)
        return
    try:
        store.add(found.entry, found.rows)
    finally:
        if isinstance(found.rows, Path):
            found.rows.unlink(missing_ok=True)


def read_recordings(
    extractor: Extractor, executor: Executor, paths: Sequence[str]
) -> Iterator[Extracted]:
    """Yield what was found under each path; what could not be read is told by name.

    Raises:
        NoRoom: If a worker finds the disk full.
    """
    n_told = 0
    for result in executor.map(extractor, paths):
        if isinstance(result.error, NoRoom):
            raise result.error
        if result.error is None:
            found = result.get()
        else:
            size, mtime_ns = file_state(extractor.audio_dir / result.item)
            entry = Entry(result.item, size, mtime_ns, "", faults=["unread"])
            nothing = np.zeros((0, extractor.spec.n_mels), np.float16)
            why = str(result.error) or type(result.error).__name__
            found = Extracted(entry, nothing, why)
        if found.entry.faults[:1] == ["unread"]:
            n_told += 1
            if n_told <= _NAMED:
                say(
                    f"{result.item}: left out for now, it could not be read ({found.why}); "
                    "the same command tries again"
                )
        yield found
    if n_told > _NAMED:
        say(f"{n_told - _NAMED} more could not be read, for the reasons above or others")


def _in_batches(read: Iterator[Extracted], spec: FeatureSpec, device: str) -> Iterator[Extracted]:
    """Turn samples into frames, many recordings at once."""
    waiting: list[Extracted] = []
    for found in read:
        if isinstance(found.rows, Path) or found.rows.ndim > 1:
            yield found
            continue
        waiting.append(found)
        if len(waiting) == BATCH:
            yield from _flush(waiting, spec, device)
            waiting = []
    yield from _flush(waiting, spec, device)


def _flush(waiting: list[Extracted], spec: FeatureSpec, device: str) -> Iterator[Extracted]:
    from labelkit.audio.batched import compute_batch

    waves = [found.rows for found in waiting if not isinstance(found.rows, Path)]
    for found, frames in zip(waiting, compute_batch(waves, spec, device), strict=True):
        judge = make_judge(spec)
        judge.add(frames)
        if fault := judge.conclude():
            yield Extracted(replace(found.entry, faults=[fault]), frames[:0])
        else:
            yield replace(found, rows=frames.astype(np.float16))


def make_judge(spec: FeatureSpec) -> faults.FrameJudge:
    """Make what looks at the spectrograms of a kind."""
    return faults.FrameJudge(silent_frame(spec), in_db=spec.kind in ("log_mel", "perceptual_mel"))


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
