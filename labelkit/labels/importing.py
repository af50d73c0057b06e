"""From label files to the store."""

from __future__ import annotations

import inspect
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path, PurePosixPath

from labelkit import registry
from labelkit.audio import io, pyav
from labelkit.config import FormatSpec, fingerprint
from labelkit.datasets.formats import refuse_unread
from labelkit.datasets.matching import NAME, Recordings
from labelkit.datasets.oddities import find_odd, suggest_class, tell_alike
from labelkit.datasets.reading import Reading, shown
from labelkit.datasets.sniffing import LABEL_STUDIO, find_format
from labelkit.datasets.walking import Walk, walk_recordings
from labelkit.errors import SHOWN_FAULTS, FaultyFile, InvalidInput
from labelkit.files import refuse_special
from labelkit.labels.kind import KIND, REMEDY
from labelkit.paths import is_dead_link, leads_out
from labelkit.progress import say, track
from labelkit.project import Project, user
from labelkit.records import ONE, SEVERAL, Batch, Clip, LabelEvent, Verdict, verdicts_of
from labelkit.states import MACHINE_STATES, REJECTED, UNVERIFIED
from labelkit.stores.columns import event_columns
from labelkit.stores.imports import find_kin, read_imported
from labelkit.stores.session import Session

# Recordings that a thread looks at, one after the other, and such handfuls that wait for one.
_HANDFUL, _BLOCK = 16, 256
# Faults of one kind and one remedy beyond which they are one.
_ALIKE = 5
# Missing recordings for which the nearest name is looked for: it takes a while.
_GUESSES = 3


@dataclass(frozen=True)
class ImportReport:
    """What an import did, or would do.

    Attributes:
        read: Clips that the file describes.
        added: Of these, new ones.
        changed: Clips of the store that got other labels.
        classes: The vocabulary afterwards.
        states: Clips of the file by state.
        counts: Clips of the file by class, most of all first.
        left_out: What was left out and why, with an example, a line each.
        odd: What looks odd, a line each.
        format: How the file was read.
        labels: How many labels a clip may have, ``one`` or ``several``, where this import said so.
    """

    read: int
    added: int
    changed: int
    classes: list[str]
    states: dict[str, int]
    counts: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    format: str = ""
    labels: str = ""


PERSON, MACHINE = "person", "machine"
# Called before anything is kept, with what would be; what it raises is raised.
Ask = Callable[[ImportReport], None]


def import_labels(
    project: Project,
    source: Path,
    format: str | None,
    spec: FormatSpec,
    *,
    metadata_only: bool = False,
    add_classes: bool = False,
    dry_run: bool = False,
    actor: str | None = None,
    by: str | None = None,
    ask: Ask | None = None,
) -> ImportReport:
    """Bring a label file into the store, whole or not at all; twice adds nothing.

    Args:
        project: Where to.
        source: The file or folder.
        format: Name of a reader; found out if None.
        spec: What the format leaves open.
        metadata_only: Do not look for the recordings.
        add_classes: Let new classes join a vocabulary that exists already.
        dry_run: Say what it would do, and change nothing.
        actor: Who brings it in, for the history; whoever runs this if None.
        by: Whether ``person`` or ``machine`` made corrections. Those of a machine leave what people
            decided as it is, and what they change stays unverified. Of ``person`` if None, but
            for those that only give a class another name.
        ask: Called before anything is kept; the store is free in the meantime.

    Raises:
        FaultyFile: If there is any fault; all of them are listed.
        InvalidInput: If the source does not exist, or nobody can tell what it is.
    """
    refuse_special(source)
    if not source.exists():
        raise InvalidInput(f"{source}: no such file or folder; give the file to import")
    if format is None:
        format = find_format(source, spec)
        say(f"{source.name} is read as --format {format}")
    reading = _read(project, source, format, spec, metadata_only=metadata_only)
    if by == MACHINE and not reading.corrects:
        raise InvalidInput(
            "--by machine is for corrections; labels that come in with their clips are unverified, "
            "unless the file or --state says otherwise: leave it out"
        )
    # A name need not be UTF-8, the reason must.
    name = source.name.encode(errors="backslashreplace").decode()
    batch = Batch(
        key="", kind="import", actor=_actor(actor, by), by_person=by != MACHINE,
        reason=f"{format} {name}",
    )  # fmt: skip
    if not (metadata_only or reading.corrects):
        look_at_files(project, reading, spec, beside=source.parent)
    plan = _plan_corrections if reading.corrects else _plan_clips

    def propose(session: Session) -> tuple[Batch | None, ImportReport]:
        facts = _kind_of(session, reading)
        proposed, report = plan(session, reading, spec, add_classes, batch)
        if by is None and reading.corrects and proposed is not None:
            _refuse_renames(session, proposed, reading)
        if reading.faults:
            raise FaultyFile(str(source), reading.faults)
        left_out = [*_left_out(reading), *report.left_out]
        report = replace(report, left_out=left_out, format=format, labels=facts.get(KIND, ""))
        return proposed and replace(proposed, facts=facts), report

    # How something was read that is no label file helps nobody.
    for line in [] if len(reading.faults) > SHOWN_FAULTS or _is_none(reading) else _told(reading):
        say(line)
    if dry_run or ask is not None:
        with project.store.read() as session:
            _, report = propose(session)
        _tell_odd(report, reading)
        if dry_run:
            return report
        if ask is not None:
            ask(report)
    with project.store.write() as session:
        proposed, report = propose(session)
        if proposed is not None:
            session.append(proposed)
    if ask is None:
        _tell_odd(report, reading)
    return report


def _actor(name: str | None, by: str | None) -> str:
    """Say who brings labels in."""
    if by not in (None, PERSON, MACHINE):
        raise InvalidInput(f"by {by!r}: give {PERSON} or {MACHINE}")
    if name is None:
        return user()
    if not name.strip() or not name.isprintable():
        raise InvalidInput(f"actor {shown(name)}: give a name")
    return name.strip()


def _read(
    project: Project, source: Path, format: str, spec: FormatSpec, *, metadata_only: bool
) -> Reading:
    if format == LABEL_STUDIO:
        raise InvalidInput(
            f"{source.name} holds answers of people; labelkit.review.foreign.import_file takes them"
        )
    read = registry.resolve("format", format)
    refuse_unread(format, spec)
    wants_place = "audio_dir" in inspect.signature(read).parameters
    place = {"audio_dir": project.audio_dir} if wants_place else {}
    reading: Reading = read(source, spec, **place)
    if metadata_only and reading.corrects:
        raise InvalidInput(f"{format} looks for no recordings; leave out --metadata-only")
    if metadata_only and spec.match is not None:
        raise InvalidInput(
            "--match looks for the recordings, --metadata-only does not; leave one of them out"
        )
    return reading


def _kind_of(session: Session, reading: Reading) -> dict[str, str]:
    """State how many labels a clip may have where nobody has; note what breaks it as a fault."""
    several = [clip for clip in reading.clips if len(clip.labels) > 1]
    if not session.is_kind_known():
        return {KIND: SEVERAL if several else ONE}
    if not session.allows_several():
        for clip in several:
            reading.fault(clip.row, f"{len(clip.labels)} labels for {shown(clip.path)}", REMEDY)
    return {}


def _refuse_renames(session: Session, batch: Batch, reading: Reading) -> None:
    """Note corrections that put one class in place of another wherever that is as a fault.

    So people gave classes other names before there was a command for it; but whoever renames a
    class has not listened to its clips.
    """
    table = session.labels()
    row_of = {int(clip_id): row for row, clip_id in enumerate(table.clip_ids)}
    changes = Counter[tuple[int, int]]()
    events = event_columns(batch.events)
    for clip_id, labels in zip(events.clip_ids, events.labels, strict=True):
        row = row_of[int(clip_id)]
        before, after = set(table.labels[row]), set(labels)
        free = table.states[row] in MACHINE_STATES
        if free and len(before - after) == len(after - before) == 1:
            changes[(before - after).pop(), (after - before).pop()] += 1
    clips = Counter(label for labels in table.labels for label in labels)
    names = [*table.classes, *batch.classes]
    for (old, new), n in changes.items():
        if n > 1 and n == clips[old]:
            reading.fault(
                0,
                f"class {shown(names[old])} becomes {shown(names[new])} on all {n} clips that "
                "have it, of which nobody has decided on one",
                "where it is but another name, give it with labelkit classes rename or merge; "
                "where somebody listened to each, import with --by person",
            )


def _tell_odd(report: ImportReport, reading: Reading) -> None:
    """Tell what only the store knew, and what looks odd."""
    for line in report.left_out[len(_left_out(reading)) :]:
        say(line)
    for line in report.odd:
        say(f"odd: {line}")


def _is_none(reading: Reading) -> bool:
    """Tell whether a file as a whole is at fault."""
    return any(row == 0 for row, _ in reading.noted)


def _told(reading: Reading) -> list[str]:
    return [*reading.tell(), *_left_out(reading)]


def _left_out(reading: Reading) -> list[str]:
    """Say what is left out and why, by count and example."""
    left = reading.left
    lines = []
    if left.linked_out:
        lines.append(
            f"{len(left.linked_out)} links lead out of the audio folder, "
            f"{shown(left.linked_out[0])} say; they are left out, --follow-links takes them"
        )
    if left.linked_in:
        lines.append(
            f"{len(left.linked_in)} folders are links into the audio folder, "
            f"{shown(left.linked_in[0])} say; what lies there is taken under both names"
        )
    if left.followed:
        lines.append(
            f"{len(left.followed)} folders are links out of the audio folder, "
            f"{shown(left.followed[0])} say; what lies there is taken, as --follow-links says"
        )
    if left.dead:
        lines.append(
            f"{len(left.dead)} links lead nowhere, {shown(left.dead[0])} say, and are left out; "
            "fetch the files (git annex get, dvc pull), or mend the links"
        )
    if left.special:
        lines.append(
            f"{len(left.special)} pipes, sockets or devices are left out: "
            f"{shown(left.special[0])} say"
        )
    if left.other:
        kinds = Counter(PurePosixPath(file).suffix.lower() or file for file in left.other)
        said = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(5))
        lines.append(
            f"{len(left.other)} files are left out, by their names no recordings: {said}, "
            f"{shown(left.other[0])} say"
        )
    if left.junk:
        lines.append(
            f"{len(left.junk)} hidden files and folders, and those that computers make for "
            f"themselves, are left out: {shown(left.junk[0])} say"
        )
    if left.empty:
        lines.append(
            f"{len(left.empty)} class folders have no recording that can be taken, and make no "
            f"class: {shown(left.empty[0])} say"
        )
    if left.unread:
        lines.append(
            f"{len(left.unread)} folders cannot be looked into and are left out: "
            f"{shown(left.unread[0])} say; make them readable (chmod, chown)"
        )
    if left.not_utf8:
        first = left.not_utf8[0]
        kind = "folder" if first.endswith("/") else "file"
        meant = os.fsencode(first).decode("cp1252", "replace")
        lines.append(
            f"{len(left.not_utf8)} names are not UTF-8 and left out, {shown(first)} say "
            f"({shown(meant)} if it is cp1252); rename the {kind}: "
            "convmv -r -f cp1252 -t utf8 --notest FOLDER"
        )
    return lines


def _count_states(clips: Sequence[Clip]) -> dict[str, int]:
    return dict(sorted(Counter(clip.state for clip in clips).items()))


def _count_classes(clips: Sequence[Clip]) -> dict[str, int]:
    counts = Counter(label for clip in clips for label in clip.labels)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _plan_clips(
    session: Session, reading: Reading, spec: FormatSpec, add_classes: bool, batch: Batch
) -> tuple[Batch | None, ImportReport]:
    """Say which clips and classes come in; what cannot is noted as a fault."""
    clips, known = reading.clips, session.classes()
    classes = _new_classes(session, reading, add_classes)
    new = _new_clips(session, clips, reading)
    check_kinship(session, new, reading)
    odd = find_odd(clips, known, reading.parted if spec.separator == "," else {})
    report = ImportReport(
        len(clips), len(new), 0, [*known, *classes], _count_states(clips), _count_classes(clips),
        odd=odd,
    )  # fmt: skip
    if not (new or classes) or reading.faults:
        return None, report
    key = f"import:{session.last_batch()}:{fingerprint([vars(clip) for clip in new])}"
    return replace(batch, key=key, classes=classes, clips=new), report


def look_at_files(
    project: Project, reading: Reading, spec: FormatSpec, *, beside: Path | None = None
) -> None:
    """Hash every recording and read its length; a missing one is a fault.

    Those that links take out of the audio folder are left out, unless they are to be followed.
    Where none lies at a path, the one that is meant is looked for; paths may as well be those
    from ``beside``, the folder of the label file.

    What the file says of both is told where it differs; that of the recording counts.
    """
    if not spec.follow_links:
        root = project.audio_dir.resolve()
        out = {
            clip.path
            for clip in reading.clips
            if leads_out(root, clip.path) and not is_dead_link(root, clip.path)
        }
        reading.left.linked_out += sorted(out)
        reading.clips = [clip for clip in reading.clips if clip.path not in out]
    said = {clip.path: clip.content_hash for clip in reading.clips}
    looked = _look(project, reading.clips)
    missing = [clip for clip in reading.clips if looked[clip.path] is None]
    if missing or reading.astray:
        moved = _find_moved(project, reading, missing, spec, beside)
        reading.move(moved)
        said = {moved.get(path, path): value for path, value in said.items()}
        there = {clip.path for clip in reading.clips}
        looked = {path: seen for path, seen in looked.items() if path in there}
        looked |= _look(project, [clip for clip in reading.clips if looked.get(clip.path) is None])
    found = []
    for clip in reading.clips:
        seen = looked[clip.path]
        if isinstance(seen, Clip):
            found.append(seen)
        elif isinstance(seen, OSError):
            reading.fault(
                clip.row,
                f"{shown(clip.path)} cannot be read ({seen.strerror or seen})",
                "make it readable (chmod, chown), or import with --metadata-only",
            )
    reading.clips = found
    _tell_foreign(found)
    changed = [clip.path for clip in found if said.get(clip.path) not in (None, clip.content_hash)]
    if changed:
        say(
            f"{len(changed)} recordings are not those whose hashes the file holds, for example "
            f"{shown(changed[0])}; they are taken as they are"
        )


def _look(project: Project, clips: Sequence[Clip]) -> dict[str, Clip | OSError | None]:
    """Hash recordings and read their lengths, by path; None where there is none."""

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

    n = len(clips)
    # A clip is looked at in less time than it takes to hand it to a thread.
    handfuls = [clips[at : at + _HANDFUL] for at in range(0, n, _HANDFUL)]
    with ThreadPoolExecutor() as pool:
        # What is handed to the pool waits there whole, in far more memory than a clip takes.
        blocks = (
            pool.map(look_at, handfuls[at : at + _BLOCK]) for at in range(0, len(handfuls), _BLOCK)
        )
        done = chain.from_iterable(chain.from_iterable(blocks))
        found = list(track(done, n, "looking at recordings"))
    return {clip.path: seen for clip, seen in zip(clips, found, strict=True)}


def _find_moved(
    project: Project,
    reading: Reading,
    missing: Sequence[Clip],
    spec: FormatSpec,
    beside: Path | None,
) -> dict[str, str]:
    """Find the recordings that are meant where none lies at a path, by the path of the clip.

    Where none is found, or the wrong one could be, that is a fault.
    """
    walk = walk_recordings(
        project.audio_dir, project.audio_dir, Walk(), follow_links=spec.follow_links
    )
    recordings = Recordings(walk)
    there = set(recordings.paths)
    match = spec.match or reading.match
    taken = {clip.path: clip.row for clip in reading.clips}
    moved: dict[str, str] = {}
    n_guesses = 0
    astray, reading.astray = reading.astray, []
    strays = set(map(id, astray))
    folder, root = beside and beside.resolve(), project.audio_dir.resolve()
    offers: dict[str, list[tuple[Clip, str]]] = defaultdict(list)
    dead = [clip for clip in missing if is_dead_link(root, clip.path)]
    if len(dead) > _ALIKE:
        reading.fault(
            0,
            f"{len(dead)} recordings are links that lead nowhere: {shown(dead[0].path)} of row "
            f"{dead[0].row}, say",
            "fetch the files (git annex get, dvc pull), or mend the links",
        )
        gone = {clip.path for clip in dead}
        missing = [clip for clip in missing if clip.path not in gone]
    for clip in [*missing, *astray]:
        others = reading.others.get(clip.path, ())
        from_there = folder and os.path.relpath(folder / clip.path, root)
        if from_there in there:
            others = (from_there, *others)
        hits = recordings.find(clip.path, match, others)
        if len(hits) != 1:
            how, hits = recordings.suggest(clip.path, others)
            if len(hits) == 1:
                offers[how].append((clip, hits[0]))
                continue
            guess = None
            if not hits and n_guesses < _GUESSES:
                guess, n_guesses = recordings.guess(clip.path), n_guesses + 1
            reading.fault(clip.row, *_missing(project, clip, how, hits, guess))
        elif hits[0] in taken:
            reading.fault(
                clip.row,
                f"{shown(clip.path)} and {shown(reading.respelt.get(hits[0], hits[0]))} in row "
                f"{taken[hits[0]]} are the same recording, {shown(hits[0])}",
                "keep one of them, or give both paths as they are",
            )
        else:
            taken[hits[0]] = clip.row
            reading.respelt[hits[0]] = clip.path
            if id(clip) in strays:
                reading.add(replace(clip, path=hits[0]))
            else:
                moved[clip.path] = hits[0]
    for how, found in offers.items():
        if len(found) > _ALIKE:
            clip, hit = found[0]
            reading.fault(
                0,
                f"{len(found)} recordings do not lie at their paths: {shown(clip.path)} of row "
                f"{clip.row} at {shown(hit)}, say",
                f"take them with --match {how}, or give their paths",
            )
            continue
        for clip, hit in found:
            reading.fault(clip.row, *_missing(project, clip, how, [hit], None))
    return moved


def _missing(
    project: Project, clip: Clip, how: str, hits: Sequence[str], guess: str | None
) -> tuple[str, str]:
    """Say that a recording is missing, what there is instead, and what to do."""
    if is_dead_link(project.audio_dir, clip.path):
        return (
            f"{shown(clip.path)} is a link that leads nowhere, or below one",
            "fetch the file (git annex get, dvc pull), or mend the link",
        )
    problem = f"no recording {shown(clip.path)} in {project.audio_dir}"
    if len(hits) == 1:
        return f"{problem}, but {shown(hits[0])}", f"give its path, or take it with --match {how}"
    if hits:
        more = f" and {len(hits) - 2} more" if len(hits) > 2 else ""
        there = f"{shown(hits[0])}, {shown(hits[1])}{more}"
        return f"{problem}, but several that could be meant: {there}", "give the path of one"
    if guess is not None:
        problem += f"; the nearest name is {shown(guess)}"
    return problem, "put it there, give --prefix, or import with --metadata-only"


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
        near = f"{suggest_class(name, known)}, or " if number < SHOWN_FAULTS else ""
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


def _plan_corrections(
    session: Session, reading: Reading, spec: FormatSpec, add_classes: bool, batch: Batch
) -> tuple[Batch | None, ImportReport]:
    """Turn corrections into events on clips of the store; what holds already is left."""
    table = session.labels()
    known = set(table.classes)
    said = {name for clip in reading.clips for name in clip.labels}
    added = sorted(said - known) if add_classes else []
    table.classes.extend(added)
    index = {path: number for number, path in enumerate(table.paths)}
    recordings = Recordings(table.paths)
    class_id = {name: number for number, name in enumerate(table.classes)}
    events: list[LabelEvent] = []
    verdicts: list[Verdict] = []
    row_of: dict[str, int] = {}
    decided: list[str] = []
    for clip in reading.clips:
        paths = recordings.find(clip.path, spec.match or NAME)
        unknown = [name for name in clip.labels if name not in class_id]
        if len(paths) != 1:
            problem, remedy = "is in the store under several paths", "give the path of one"
            if not paths:
                problem = "is not in the store"
                how, near = recordings.suggest(clip.path)
                if len(near) == 1:
                    problem, remedy = f"{problem}, but {shown(near[0])}", f"give --match {how}"
            reading.fault(clip.row, f"clip {shown(clip.path)} {problem}", remedy)
            continue
        if row_of.setdefault(paths[0], clip.row) != clip.row:
            problem = f"{shown(clip.path)} is the clip of row {row_of[paths[0]]}"
            reading.fault(clip.row, problem, "keep one of the two")
        for name in unknown:
            # To look for the nearest takes long, and nobody reads so many.
            few = len(reading.noted) < SHOWN_FAULTS
            near_name = f"{suggest_class(name, table.classes)}, or " if few else ""
            problem = f"unknown class {shown(name)} for {shown(clip.path)}"
            reading.fault(clip.row, problem, f"{near_name}import with --add-classes")
        number = index[paths[0]]
        before = str(table.states[number])
        if not batch.by_person and clip.state == REJECTED and before in MACHINE_STATES:
            problem = f"a machine cannot remove {shown(clip.path)}"
            reading.fault(clip.row, problem, "leave it out, or give --by person if one decided it")
        elif not batch.by_person and before not in MACHINE_STATES:
            decided.append(paths[0])
        elif not unknown:
            labels = sorted(class_id[name] for name in clip.labels)
            state = clip.state if batch.by_person else UNVERIFIED
            same = table.labels[number] == labels
            if not same or (batch.by_person and before != state):
                event = LabelEvent(
                    clip_id=int(table.clip_ids[number]),
                    state=state,
                    labels=labels,
                    source="corrections",
                )
                events.append(event)
                verdicts += verdicts_of(event, "corrections", table.labels[number])
    clips = reading.clips
    report = ImportReport(
        len(clips), 0, len(events), table.classes, _count_states(clips), _count_classes(clips),
        left_out=[f"{len(decided)} clips stay as people decided them, {shown(decided[0])} say"]
        if decided else [],
        odd=tell_alike([name for name in said if name not in known], known),
    )  # fmt: skip
    if not events:
        return None, report
    content = [(clip.path, clip.labels, clip.state) for clip in clips]
    key = f"corrections:{session.last_batch()}:{fingerprint(content)}"
    return replace(batch, key=key, classes=added, events=events, verdicts=verdicts), report
