"""From label files to the store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from labelkit import registry
from labelkit.audio import io
from labelkit.config import FormatSpec, fingerprint
from labelkit.datasets.formats import Reading
from labelkit.errors import FaultyFile, InvalidInput
from labelkit.records import Batch, Clip, LabelEvent, Verdict, verdicts_of
from labelkit.stores.append import IMPORTED_FOLDS
from labelkit.stores.session import Session
from labelkit.workflows.progress import track
from labelkit.workflows.project import Project, user


@dataclass(frozen=True)
class ImportReport:
    """What an import did."""

    read: int
    added: int
    changed: int
    classes: list[str]
    states: dict[str, int]


def import_labels(
    project: Project,
    source: Path,
    format: str,
    spec: FormatSpec,
    *,
    metadata_only: bool = False,
    add_classes: bool = False,
) -> ImportReport:
    """Bring a label file into the store, whole or not at all; twice adds nothing.

    Args:
        project: Where to.
        source: The file or folder.
        format: Name of a reader.
        spec: What the format leaves open.
        metadata_only: Do not look for the recordings.
        add_classes: Let new classes join a vocabulary that exists already.

    Raises:
        FaultyFile: If there is any fault; all of them are listed.
        InvalidInput: If the source does not exist.
    """
    if not source.exists():
        raise InvalidInput(f"{source}: no such file or folder; give the file to import")
    if format == "folder":
        spec = replace(spec, prefix=_below_audio(project, source))
    reading: Reading = registry.resolve("format", format)(source, spec)
    batch = Batch(
        key="", kind="import", actor=user(), by_person=True, reason=f"{format} {source.name}"
    )
    if format == "corrections":
        return _import_corrections(project, source, reading, batch)
    clips = reading.clips if metadata_only else _look_at_files(project, reading)
    with project.store.write() as session:
        classes = _new_classes(session, reading, add_classes)
        new = _new_clips(session, clips, reading)
        _check_kinship(session, new, reading)
        if reading.faults:
            raise FaultyFile(str(source), reading.faults)
        if new or classes:
            key = f"import:{session.last_batch()}:{fingerprint([asdict(clip) for clip in new])}"
            session.append(replace(batch, key=key, classes=classes, clips=new))
        vocabulary = session.classes()
    return ImportReport(len(clips), len(new), 0, vocabulary, _count_states(clips))


def _count_states(clips: Sequence[Clip]) -> dict[str, int]:
    return dict(sorted(Counter(clip.state for clip in clips).items()))


def _below_audio(project: Project, folder: Path) -> str:
    """The way from the audio folder to ``folder``."""
    try:
        way = folder.resolve().relative_to(project.audio_dir.resolve()).as_posix()
    except ValueError as error:
        raise InvalidInput(
            f"{folder} does not lie in the audio folder {project.audio_dir}; "
            "make a project on a folder that holds it"
        ) from error
    return "" if way == "." else way


def _look_at_files(project: Project, reading: Reading) -> list[Clip]:
    """Hash every recording and read its length; a missing one is a fault."""

    def look(clip: Clip) -> Clip | None:
        path = project.audio_dir / clip.path
        try:
            if not path.is_file():
                return None
        except OSError:  # A name too long for the file system, say.
            return None
        return replace(clip, content_hash=io.hash_file(path), duration_s=io.duration_s(path))

    with ThreadPoolExecutor() as pool:
        found = list(
            track(pool.map(look, reading.clips), len(reading.clips), "looking at recordings")
        )
    for clip, seen in zip(reading.clips, found, strict=True):
        if seen is None:
            reading.fault(
                clip.row,
                f"no recording {clip.path!r} in {project.audio_dir}",
                "put it there, give --prefix, or import with --metadata-only",
            )
    return [clip for clip in found if clip is not None]


def _check_kinship(session: Session, new: Sequence[Clip], reading: Reading) -> None:
    """Clips of one group, or of the same bytes, must share their subset and any given fold.

    Otherwise a model would be judged on what it was trained on.
    """
    standing = session.rows(
        "select c.path, c.group_name, c.content_hash, c.subset, f.fold from clips c "
        "left join folds f on f.clip_id = c.clip_id and f.fold_set = ? order by c.clip_id",
        [IMPORTED_FOLDS],
    )
    kin = [
        Clip(path=path, group=group, content_hash=content, subset=subset, fold=fold)
        for path, group, content, subset, fold in standing
    ]
    first: dict[tuple[str, str, str], Clip] = {}
    for clip in [*kin, *new]:
        for kind, name in (("group", clip.group), ("recording", clip.content_hash)):
            for part, value in (("subset", clip.subset), ("fold", clip.fold)):
                if name is None or value is None:
                    continue
                other = first.setdefault((kind, name, part), clip)
                theirs = getattr(other, part)
                if theirs != value and clip.row:
                    reading.fault(
                        clip.row,
                        f"{clip.path!r} is in {part} {value}, {other.path!r} of the same {kind} "
                        f"in {part} {theirs}",
                        f"put them in one {part}, or leave one out",
                    )


def _new_classes(session: Session, reading: Reading, add_classes: bool) -> list[str]:
    """Classes to append to the vocabulary, sorted; the first import makes it."""
    known = session.classes()
    first_row: dict[str, int] = {}
    for clip in reading.clips:
        for name in clip.labels:
            first_row.setdefault(name, clip.row)
    unknown = sorted(set(first_row) - set(known))
    if not known or add_classes:
        return unknown
    for name in unknown:
        reading.fault(
            first_row[name],
            f"unknown class {name!r}",
            f"{registry.suggestion(name, known)}, or import with --add-classes",
        )
    return []


def _new_clips(session: Session, clips: Sequence[Clip], reading: Reading) -> list[Clip]:
    """Clips the store does not have; one it has from an import that said otherwise is a fault."""
    before = {
        path: (frozenset(labels), state, subset)
        for path, labels, state, subset in session.rows(
            "select h.path, h.labels, h.state, c.subset from label_history h "
            "join clips c using (clip_id) where h.event_id in "
            "(select min(event_id) from label_events group by clip_id)"
        )
    }
    for clip in clips:
        said = before.get(clip.path)
        if said is not None and said != (frozenset(clip.labels), clip.state, clip.subset):
            labels, state, subset = ", ".join(sorted(said[0])), said[1], said[2]
            reading.fault(
                clip.row,
                f"{clip.path!r} was imported before as {labels} ({state}, {subset})",
                "bring new labels in with --format corrections; a subset stays",
            )
    return [clip for clip in clips if clip.path not in before]


def _import_corrections(
    project: Project, source: Path, reading: Reading, batch: Batch
) -> ImportReport:
    """Turn corrections into events on clips of the store; what holds already is left."""
    with project.store.write() as session:
        table = session.labels()
        index = {path: number for number, path in enumerate(table.paths)}
        by_name: dict[str, list[str]] = defaultdict(list)
        for path in table.paths:
            by_name[PurePosixPath(path).name].append(path)
        class_id = {name: number for number, name in enumerate(table.classes)}
        events: list[LabelEvent] = []
        verdicts: list[Verdict] = []
        for clip in reading.clips:
            paths = [clip.path] if clip.path in index else by_name.get(clip.path, [])
            unknown = [name for name in clip.labels if name not in class_id]
            if len(paths) != 1:
                problem = "is in the store under several paths" if paths else "is not in the store"
                reading.fault(clip.row, f"clip {clip.path!r} {problem}", "give the path of one")
                continue
            for name in unknown:
                hint = registry.suggestion(name, table.classes)
                reading.fault(clip.row, f"unknown class {name!r} for {clip.path!r}", hint)
            if not unknown:
                number = index[paths[0]]
                labels = sorted(class_id[name] for name in clip.labels)
                if (table.states[number], table.labels[number]) != (clip.state, labels):
                    event = LabelEvent(
                        clip_id=int(table.clip_ids[number]),
                        state=clip.state,
                        labels=labels,
                        source="corrections",
                    )
                    events.append(event)
                    verdicts += verdicts_of(event, "corrections", table.labels[number])
        if reading.faults:
            raise FaultyFile(str(source), reading.faults)
        if events:
            content = [(clip.path, clip.labels, clip.state) for clip in reading.clips]
            session.append(
                replace(
                    batch,
                    key=f"corrections:{session.last_batch()}:{fingerprint(content)}",
                    events=events,
                    verdicts=verdicts,
                )
            )
    return ImportReport(
        len(reading.clips), 0, len(events), table.classes, _count_states(reading.clips)
    )
