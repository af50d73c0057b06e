"""From label files to the store."""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath

from labelkit import registry
from labelkit.audio import io, pyav
from labelkit.config import FormatSpec, fingerprint
from labelkit.datasets.formats import refuse_unread
from labelkit.datasets.reading import Reading, shown
from labelkit.errors import SHOWN_FAULTS, FaultyFile, InvalidInput
from labelkit.files import refuse_special
from labelkit.paths import leads_out
from labelkit.progress import say, track
from labelkit.project import Project, user
from labelkit.records import Batch, Clip, LabelEvent, Verdict, verdicts_of
from labelkit.stores.imports import find_kin, read_imported
from labelkit.stores.session import Session

# Recordings that a thread looks at, one after the other, and such handfuls that wait for one.
_HANDFUL, _BLOCK = 16, 256


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
    refuse_special(source)
    if not source.exists():
        raise InvalidInput(f"{source}: no such file or folder; give the file to import")
    read = registry.resolve("format", format)
    refuse_unread(format, spec)
    wants_place = "audio_dir" in inspect.signature(read).parameters
    place = {"audio_dir": project.audio_dir} if wants_place else {}
    reading: Reading = read(source, spec, **place)
    # A name need not be UTF-8, the reason must.
    name = source.name.encode(errors="backslashreplace").decode()
    batch = Batch(key="", kind="import", actor=user(), by_person=True, reason=f"{format} {name}")
    if reading.corrects and metadata_only:
        raise InvalidInput(f"{format} looks for no recordings; leave out --metadata-only")
    if reading.corrects:
        return _import_corrections(project, source, reading, batch, add_classes=add_classes)
    clips = reading.clips
    if not metadata_only:
        clips = _look_at_files(project, reading, follow_links=spec.follow_links)
    if reading.linked_out:
        say(
            f"{len(reading.linked_out)} links lead out of the audio folder, "
            f"{shown(reading.linked_out[0])} say; they are left out, --follow-links takes them"
        )
    if reading.other:
        kinds = ", ".join(f"{n} {kind}" for kind, n in reading.other.most_common(5))
        say(f"{reading.other.total()} files are left out, by their names no recordings: {kinds}")
    with project.store.write() as session:
        classes = _new_classes(session, reading, add_classes)
        new = _new_clips(session, clips, reading)
        check_kinship(session, new, reading)
        if reading.noted:
            raise FaultyFile(str(source), reading.faults)
        if new or classes:
            key = f"import:{session.last_batch()}:{fingerprint([vars(clip) for clip in new])}"
            session.append(replace(batch, key=key, classes=classes, clips=new))
        vocabulary = session.classes()
    return ImportReport(len(clips), len(new), 0, vocabulary, _count_states(clips))


def _count_states(clips: Sequence[Clip]) -> dict[str, int]:
    return dict(sorted(Counter(clip.state for clip in clips).items()))


def _look_at_files(project: Project, reading: Reading, *, follow_links: bool) -> list[Clip]:
    """Hash every recording and read its length; a missing one is a fault.

    Those that links take out of the audio folder are left out, unless they are to be followed.

    What the file says of both is told where it differs; that of the recording counts.
    """
    root = project.audio_dir.resolve()
    if not follow_links:
        out = {clip.path for clip in reading.clips if leads_out(root, clip.path)}
        reading.linked_out += sorted(out)
        reading.clips = [clip for clip in reading.clips if clip.path not in out]

    def look(clip: Clip) -> Clip | OSError | None:
        path = project.audio_dir / clip.path
        try:
            if not path.is_file():
                return None
        except OSError:  # A name too long for the file system, say.
            return None
        try:
            return replace(clip, content_hash=io.hash_file(path), duration_s=io.duration_s(path))
        except OSError as error:
            return error

    def look_at(clips: Sequence[Clip]) -> list[Clip | OSError | None]:
        return [look(clip) for clip in clips]

    n = len(reading.clips)
    # A clip is looked at in less time than it takes to hand it to a thread.
    handfuls = [reading.clips[at : at + _HANDFUL] for at in range(0, n, _HANDFUL)]
    with ThreadPoolExecutor() as pool:
        # What is handed to the pool waits there whole, in far more memory than a clip takes.
        blocks = (
            pool.map(look_at, handfuls[at : at + _BLOCK]) for at in range(0, len(handfuls), _BLOCK)
        )
        done = chain.from_iterable(chain.from_iterable(blocks))
        found = list(track(done, n, "looking at recordings"))
    for clip, seen in zip(reading.clips, found, strict=True):
        if seen is None:
            reading.fault(
                clip.row,
                f"no recording {shown(clip.path)} in {project.audio_dir}",
                "put it there, give --prefix, or import with --metadata-only",
            )
        elif isinstance(seen, OSError):
            reading.fault(
                clip.row,
                f"{shown(clip.path)} cannot be read ({seen.strerror or seen})",
                "make it readable (chmod, chown), or import with --metadata-only",
            )
    looked = [clip for clip in found if isinstance(clip, Clip)]
    _tell_foreign(looked)
    said = {clip.path: clip.content_hash for clip in reading.clips}
    changed = [clip.path for clip in looked if said[clip.path] not in (None, clip.content_hash)]
    if changed:
        say(
            f"{len(changed)} recordings are not those whose hashes the file holds, for example "
            f"{shown(changed[0])}; they are taken as they are"
        )
    return looked


def _tell_foreign(clips: Sequence[Clip]) -> None:
    """Tell of recordings that only FFmpeg's decoders read, and of what is needed for them."""
    kinds = Counter(Path(clip.path).suffix.lower() for clip in clips)
    foreign = {kind: kinds[kind] for kind in pyav.EXTENSIONS if kinds[kind]}
    if foreign:
        said = ", ".join(f"{n} {kind}" for kind, n in foreign.items())
        how = "FFmpeg's decoders read them, by PyAV"
        if not pyav.is_there():
            how = f"{how}, which is not installed: pip install av, or convert them to flac"
        say(f"{said}: {how}")


def check_kinship(session: Session, new: Sequence[Clip], reading: Reading) -> None:
    """Note as faults the clips that share a group or their bytes, but not subset or given fold.

    Otherwise a model would be judged on what it was trained on.

    Args:
        session: The open store.
        new: The clips that come in; what is wrong with one is noted by its ``row``.
        reading: Where faults are noted.
    """
    first: dict[tuple[str, str, str], Clip] = {}
    for clip in [*find_kin(session, new), *new]:
        for kind, name in (("group", clip.group), ("recording", clip.content_hash)):
            for part, value in (("subset", clip.subset), ("fold", clip.fold)):
                if name is None or value is None:
                    continue
                other = first.setdefault((kind, name, part), clip)
                theirs = getattr(other, part)
                if theirs != value and clip.row:
                    reading.fault(
                        clip.row,
                        f"{shown(clip.path)} is in {part} {value}, {shown(other.path)} of the "
                        f"same {kind} in {part} {theirs}",
                        f"put them in one {part}, or leave one out",
                    )


def _new_classes(session: Session, reading: Reading, add_classes: bool) -> list[str]:
    """Choose the classes to append: in the order of the file if it has one, then sorted."""
    known = session.classes()
    first_row: dict[str, int] = dict.fromkeys(reading.classes, 0)
    for clip in reading.clips:
        for name in clip.labels:
            first_row.setdefault(name, clip.row)
    told = [name for name in reading.classes if name not in known]
    unknown = [*told, *sorted(set(first_row) - set(known) - set(told))]
    if not known or add_classes:
        return unknown
    for number, name in enumerate(unknown):
        # To look for the nearest takes long, and nobody reads so many.
        near = f"{registry.suggestion(name, known)}, or " if number < SHOWN_FAULTS else ""
        reading.fault(
            first_row[name], f"unknown class {shown(name)}", f"{near}import with --add-classes"
        )
    return []


def _new_clips(session: Session, clips: Sequence[Clip], reading: Reading) -> list[Clip]:
    """Find the clips that are not in the store; of the others, the file must say what it does.

    That is how it came in, or how it stands.
    """
    before = read_imported(session, [clip.path for clip in clips])
    for clip in clips:
        if clip.path not in before:
            continue
        known, content = before[clip.path], (frozenset(clip.labels), clip.state)
        if clip.subset != known.subset or content not in (known.first, known.now):
            labels, state = known.first
            reading.fault(
                clip.row,
                f"{shown(clip.path)} was imported before as {', '.join(sorted(labels))} "
                f"({state}, {known.subset})",
                "bring new labels in with --format corrections; a subset stays",
            )
        elif clip.group not in (None, known.group):
            reading.fault(
                clip.row,
                f"{shown(clip.path)} was imported before with group {shown(known.group)}",
                "a group stays",
            )
    return [clip for clip in clips if clip.path not in before]


def _import_corrections(
    project: Project, source: Path, reading: Reading, batch: Batch, *, add_classes: bool
) -> ImportReport:
    """Turn corrections into events on clips of the store; what holds already is left."""
    with project.store.write() as session:
        table = session.labels()
        known = set(table.classes)
        said = {name for clip in reading.clips for name in clip.labels}
        added = sorted(said - known) if add_classes else []
        table.classes.extend(added)
        index = {path: number for number, path in enumerate(table.paths)}
        by_name: dict[str, list[str]] = defaultdict(list)
        for path in table.paths:
            by_name[PurePosixPath(path).name].append(path)
        class_id = {name: number for number, name in enumerate(table.classes)}
        events: list[LabelEvent] = []
        verdicts: list[Verdict] = []
        row_of: dict[str, int] = {}
        for clip in reading.clips:
            paths = [clip.path] if clip.path in index else by_name.get(clip.path, [])
            unknown = [name for name in clip.labels if name not in class_id]
            if len(paths) != 1:
                problem = "is in the store under several paths" if paths else "is not in the store"
                reading.fault(
                    clip.row, f"clip {shown(clip.path)} {problem}", "give the path of one"
                )
                continue
            if row_of.setdefault(paths[0], clip.row) != clip.row:
                problem = f"{shown(clip.path)} is the clip of row {row_of[paths[0]]}"
                reading.fault(clip.row, problem, "keep one of the two")
            for name in unknown:
                # To look for the nearest takes long, and nobody reads so many.
                few = len(reading.noted) < SHOWN_FAULTS
                near = f"{registry.suggestion(name, table.classes)}, or " if few else ""
                problem = f"unknown class {shown(name)} for {shown(clip.path)}"
                reading.fault(clip.row, problem, f"{near}import with --add-classes")
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
        if reading.noted:
            raise FaultyFile(str(source), reading.faults)
        if events:
            content = [(clip.path, clip.labels, clip.state) for clip in reading.clips]
            session.append(
                replace(
                    batch,
                    key=f"corrections:{session.last_batch()}:{fingerprint(content)}",
                    classes=added,
                    events=events,
                    verdicts=verdicts,
                )
            )
    return ImportReport(
        len(reading.clips), 0, len(events), table.classes, _count_states(reading.clips)
    )
