"""From label files to the store."""

from __future__ import annotations

import inspect
import os
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from labelkit import registry
from labelkit.config import FormatSpec, fingerprint
from labelkit.datasets.formats import refuse_unread
from labelkit.datasets.matching import EXACT, NAME, Recordings, spell
from labelkit.datasets.oddities import find_odd, tell_alike
from labelkit.datasets.reading import Reading, shown, tell_respelt
from labelkit.datasets.sniffing import LABEL_STUDIO, find_format
from labelkit.errors import SHOWN_FAULTS, FaultyFile, InvalidInput
from labelkit.files import refuse_special
from labelkit.labels.class_names import call_as_now, tell_renamed, unknown_class_remedy
from labelkit.labels.kind import KIND, REMEDY
from labelkit.labels.locating import look_at_files
from labelkit.progress import say
from labelkit.project import Project, user
from labelkit.records import ONE, SEVERAL, Batch, Clip, LabelEvent, Verdict, verdicts_of
from labelkit.states import MACHINE_STATES, REJECTED, UNVERIFIED
from labelkit.stores.columns import event_columns
from labelkit.stores.imports import find_kin, read_imported
from labelkit.stores.session import Session


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
        told: How names and paths were taken that are others in the store, a line each.
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
    told: list[str] = field(default_factory=list)


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
    _follow_moved(project, reading)
    if not (metadata_only or reading.corrects):
        look_at_files(project, reading, spec, beside=source.parent)
    plan = _plan_corrections if reading.corrects else _plan_clips

    def propose(session: Session) -> tuple[Batch | None, ImportReport]:
        said, renamed = call_as_now(reading, session.vocabulary().former)
        facts = _kind_of(session, said)
        proposed, report = plan(session, said, spec, add_classes, batch)
        if by is None and reading.corrects and proposed is not None:
            _refuse_renames(session, proposed, said)
        if said.faults:
            raise FaultyFile(str(source), said.faults)
        report = replace(
            report, left_out=[*_left_out(reading), *report.left_out], format=format,
            labels=facts.get(KIND, ""), told=[*tell_renamed(renamed), *report.told],
        )  # fmt: skip
        return proposed and replace(proposed, facts=facts), report

    # How something was read that is no label file helps nobody.
    for line in [] if len(reading.faults) > SHOWN_FAULTS or _is_none(reading) else _told(reading):
        say(line)
    if dry_run or ask is not None:
        with project.store.read() as session:
            _, report = propose(session)
        tell_odd(report, len(_left_out(reading)))
        if dry_run:
            return report
        if ask is not None:
            ask(report)
    with project.store.write() as session:
        proposed, report = propose(session)
        if proposed is not None:
            session.append(proposed)
    if ask is None:
        tell_odd(report, len(_left_out(reading)))
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
            f"{source.name} holds answers of people; take them with: "
            f"labelkit import {shlex.quote(str(source))} --format {LABEL_STUDIO}"
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


def _follow_moved(project: Project, reading: Reading) -> None:
    """Take clips by where they lay before ``check --moved`` for those that they are."""
    with project.store.read() as session:
        former = session.former_paths()
    paths = {clip.path for clip in reading.clips}
    moved = {
        path: former[path]
        for path in paths & former.keys()
        if former[path] not in paths and not (project.audio_dir / path).is_file()
    }
    reading.respelt |= {now: path for path, now in moved.items()}
    reading.move(moved)


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


def tell_odd(report: ImportReport, n_told: int) -> None:
    """Tell what only the store knew, and what looks odd.

    Args:
        report: Of the import.
        n_told: How many lines of what was left out were told before.
    """
    odd = [f"odd: {line}" for line in report.odd]
    for line in [*report.told, *report.left_out[n_told:], *odd]:
        say(line)


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
    vocabulary = session.vocabulary()
    for number, name in enumerate(unknown):
        # Nobody reads so many.
        few = number < SHOWN_FAULTS
        remedy = unknown_class_remedy(name, known, vocabulary, look=few)
        reading.fault(first_row[name], f"unknown class {shown(name)}", remedy)
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
        elif None not in (clip.domain, known.domain) and clip.domain != known.domain:
            reading.fault(
                clip.row,
                f"{shown(clip.path)} was imported before with domain {shown(known.domain)}",
                "a domain stays",
            )
    late = [c for c in clips if c.path in before and c.domain and before[c.path].domain is None]
    if late:
        reading.notes.append(
            f"{len(late)} clips came in before without a domain, {shown(late[0].path)} say, and "
            "stay so: take their import back (labelkit undo) and bring them in again"
        )
    return [clip for clip in clips if clip.path not in before]


def _find_corrected(recordings: Recordings, path: str, spec: FormatSpec) -> list[str]:
    """Find the clips that a path of corrections may mean.

    A bare name may lie in any folder; where a folder is given, that one is meant.
    """
    usual = EXACT if "/" in spell(path) else NAME
    return recordings.find(path, spec.match or usual)


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
    recordings, vocabulary = Recordings(table.paths), session.vocabulary()
    class_id = {name: number for number, name in enumerate(table.classes)}
    events: list[LabelEvent] = []
    verdicts: list[Verdict] = []
    row_of: dict[str, int] = {}
    respelt: dict[str, str] = {}
    decided: list[str] = []
    for clip in reading.clips:
        paths = _find_corrected(recordings, clip.path, spec)
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
        if paths[0] != clip.path:
            respelt[paths[0]] = clip.path
        if row_of.setdefault(paths[0], clip.row) != clip.row:
            problem = f"{shown(clip.path)} is the clip of row {row_of[paths[0]]}"
            reading.fault(clip.row, problem, "keep one of the two")
        for name in unknown:
            # Nobody reads so many.
            few = len(reading.noted) < SHOWN_FAULTS
            remedy = unknown_class_remedy(name, table.classes, vocabulary, look=few)
            problem = f"unknown class {shown(name)} for {shown(clip.path)}"
            reading.fault(clip.row, problem, remedy)
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
        told=tell_respelt(respelt, "clips"),
    )  # fmt: skip
    if not events:
        return None, report
    content = [(clip.path, clip.labels, clip.state) for clip in clips]
    key = f"corrections:{session.last_batch()}:{fingerprint(content)}"
    return replace(batch, key=key, classes=added, events=events, verdicts=verdicts), report
