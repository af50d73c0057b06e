"""Answers from projects in Label Studio that labelkit did not make, into the store.

Who comes to labelkit often has answers already. Each counts as a review by whoever gave it, as
if the clip had been sent; only which clip it is of must be found by the recording's name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from labelkit.config import FormatSpec, ReviewSpec, fingerprint
from labelkit.datasets.formats import refuse_unread
from labelkit.datasets.matching import NAME, Recordings, spell
from labelkit.datasets.oddities import find_odd
from labelkit.datasets.reading import Reading, is_class_name, shown, tell_respelt
from labelkit.datasets.sniffing import LABEL_STUDIO, find_format
from labelkit.datasets.walking import Walk, walk_recordings
from labelkit.errors import FaultyFile, InvalidInput, NotYet
from labelkit.label_studio.exports import ForeignExport, ForeignTask, read_foreign
from labelkit.labels.class_names import tell_renamed, unknown_class_remedy
from labelkit.labels.importing import (
    Ask,
    ImportReport,
    check_kinship,
    import_labels,
    tell_odd,
)
from labelkit.labels.kind import KIND
from labelkit.labels.locating import look_at_files
from labelkit.progress import say
from labelkit.project import Project, user
from labelkit.recordings.fitting import tell_newest
from labelkit.records import ANSWERS, ONE, SEVERAL, Batch, Clip
from labelkit.review.ledger import Ledger, foreign_projects
from labelkit.review.pull import read_export
from labelkit.review.resolution import by_clip, differ, pool
from labelkit.review.setup import lock_review
from labelkit.review.sources import find_source
from labelkit.states import REJECTED, RELABELED, VERIFIED
from labelkit.stores.append import WriteSession
from labelkit.stores.reviews import standing_reviews


class _OnlyTried(Exception):
    """Nothing of what was written is to be kept."""


@dataclass
class _Matched:
    """Tasks by the path of their clip, clips that are new, and tasks without a recording."""

    tasks: dict[str, list[ForeignTask]] = field(default_factory=lambda: defaultdict(list))
    new: list[Clip] = field(default_factory=list)
    missing: list[ForeignTask] = field(default_factory=list)
    unclear: list[tuple[ForeignTask, list[str]]] = field(default_factory=list)
    linked_out: list[str] = field(default_factory=list)
    respelt: dict[str, str] = field(default_factory=dict)
    # Why tasks of a clip cannot be believed, by path and number of their project.
    unlike: dict[str, dict[int | None, str]] = field(default_factory=lambda: defaultdict(dict))

    def leave_out(self, paths: Sequence[str]) -> None:
        """Leave out tasks whose recordings links take out of the audio folder, a path each."""
        self.linked_out = [path for path in paths for _ in self.tasks.pop(path, ())]
        for path in paths:
            self.respelt.pop(path, None)


@dataclass
class _Done:
    """What was taken in, what was known before, ticks by class, and what is to be told."""

    counts: Counter[str] = field(default_factory=Counter)
    known: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    @property
    def came_in(self) -> bool:
        return self.known > 0 or any(self.counts[kind] for kind in ANSWERS)


def import_file(
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
    of: str | None = None,
) -> ImportReport:
    """Bring in a label file, or the answers of a foreign export of Label Studio.

    Args:
        project: Where to.
        source: The file or folder.
        format: Name of a reader, or ``labelstudio``; found out if None.
        spec: What the format leaves open.
        metadata_only: Do not look for the recordings.
        add_classes: Let new classes join a vocabulary that exists already.
        dry_run: Say what it would do, and change nothing.
        actor: Who brings it in; whoever runs this if None.
        by: Whether ``person`` or ``machine`` made corrections.
        ask: Called before anything is kept.
        of: What to call the server or person a foreign export is of, where it does not tell.

    Raises:
        FaultyFile: If there is any fault; all of them are listed.
        InvalidInput: If the source does not exist, or nobody can tell what it is.
    """
    if format is None and source.is_file() and find_format(source, spec) == LABEL_STUDIO:
        say(f"{source.name} is read as --format {LABEL_STUDIO}")
        format = LABEL_STUDIO
    if format != LABEL_STUDIO:
        if of is not None:
            raise InvalidInput(
                f"--source tells exports of Label Studio apart, --format {LABEL_STUDIO}; leave it "
                "out"
            )
        report = import_labels(
            project, source, format, spec, metadata_only=metadata_only, add_classes=add_classes,
            dry_run=dry_run, actor=actor, by=by, ask=ask,
        )  # fmt: skip
        if not (dry_run or metadata_only):
            tell_newest(project, report.added)
        return report
    if by is not None or actor is not None:
        raise InvalidInput("an export says itself who answered; leave --by and --actor out")
    return _import_export(
        project, source, spec, metadata_only=metadata_only, add_classes=add_classes,
        dry_run=dry_run, ask=ask, of=of,
    )  # fmt: skip


def _import_export(
    project: Project,
    source: Path,
    spec: FormatSpec,
    *,
    metadata_only: bool,
    add_classes: bool,
    dry_run: bool,
    ask: Ask | None,
    of: str | None,
) -> ImportReport:
    refuse_unread(LABEL_STUDIO, spec)
    if not source.exists():
        raise InvalidInput(f"{source}: no such file or folder; give the file to import")
    export = read_foreign(read_export(source), key=spec.path_column, control=spec.label_column)
    with lock_review(project):
        matched = _match(project, export, spec, metadata_only=metadata_only)
        reading = Reading(clips=matched.new)
        if matched.new:
            look_at_files(project, reading, spec)
            matched.leave_out(reading.left.linked_out)
        left_out = _tell(export, matched)
        for line in left_out:
            say(line)
        tried = dry_run or ask is not None

        def take(*, keep: bool) -> ImportReport:
            with project.store.write() as session:
                report = _take(session, source, export, matched, reading, add_classes, of)
                if not keep:
                    raise _OnlyTried(replace(report, left_out=left_out + report.left_out))
            return replace(report, left_out=left_out + report.left_out)

        if tried:
            try:
                take(keep=False)
            except _OnlyTried as only:
                report: ImportReport = only.args[0]
            tell_odd(report, len(left_out))
            if ask is not None and not dry_run:
                ask(report)
        if dry_run:
            return report
        report = take(keep=True)
    if ask is None:
        tell_odd(report, len(left_out))
    return report


def _match(
    project: Project, export: ForeignExport, spec: FormatSpec, *, metadata_only: bool
) -> _Matched:
    """Find the clip of each task: in the store, or else among the recordings."""
    match, found = spec.match or NAME, _Matched()
    with project.store.read() as session:
        known = Recordings(session.labels().paths)
    there: Recordings | None = None
    new: dict[str, Clip] = {}
    for task in export.tasks:
        names = tuple(f"{spec.prefix.rstrip('/')}/{n}" if spec.prefix else n for n in task.names)
        hits = known.find(names[0], match, names[1:])
        if not hits and not metadata_only:
            if there is None:
                walk = walk_recordings(
                    project.audio_dir, project.audio_dir, Walk(), follow_links=spec.follow_links
                )
                there = Recordings(walk)
            hits = there.find(names[0], match, names[1:])
            if len(hits) == 1:
                new.setdefault(hits[0], Clip(path=hits[0], subset=spec.subset or "train"))
        if len(hits) == 1:
            found.tasks[hits[0]].append(task)
            if not _is_below(hits[0], names):
                found.respelt[hits[0]] = names[0]
        elif hits:
            found.unclear.append((task, hits))
        else:
            found.missing.append(task)
    found.new = list(new.values())
    _find_unlike(found)
    return found


def _is_below(path: str, names: Sequence[str]) -> bool:
    """Tell whether one of the names ends with the path, whatever folders stand before it."""
    return any(f"/{spell(name)}".endswith(f"/{spell(path)}") for name in names)


def _find_unlike(found: _Matched) -> None:
    """Note where uploads of one name, taken for one recording, got different answers.

    Nobody can tell which of them the recording is.
    """
    for path, tasks in found.tasks.items():
        for number in {task.project for task in tasks}:
            mine = [task for task in tasks if task.project == number]
            uploads = sorted({task.names[-1] for task in mine if task.is_upload})
            said = {frozenset(task.labels) for task in mine if task.labels}
            if len(uploads) > 1 and len(said) > 1:
                found.unlike[path][number] = (
                    f"{uploads[0]} and {uploads[1]} are both taken for {path!r}, and have "
                    "different answers; give the recordings names of their own, or leave the "
                    "wrong task out of the export, and import it again"
                )


def _tell(export: ForeignExport, matched: _Matched) -> list[str]:
    """Say what is left out and why, by count and example."""
    lines = []
    if export.own:
        lines.append(
            f"{export.own} tasks are labelkit's own and left out; take them with: "
            "labelkit pull --from FILE"
        )
    if export.nameless:
        lines.append(
            f"{len(export.nameless)} tasks name no recording and are left out, task "
            f"{export.nameless[0]} say; --path-column names the key of their data that does"
        )
    if matched.missing:
        name = shown(matched.missing[0].names[0])
        lines.append(
            f"{len(matched.missing)} tasks are left out, as their recordings are neither in the "
            f"store nor in the audio folder: {name} say; --match stem or nocase goes further"
        )
    if matched.unclear:
        task, hits = matched.unclear[0]
        lines.append(
            f"{len(matched.unclear)} tasks are left out, as several recordings could be meant: "
            f"{shown(task.names[0])} say is {shown(hits[0])} or {shown(hits[1])}"
        )
    if matched.linked_out:
        lines.append(
            f"{len(matched.linked_out)} tasks are left out, as links take their recordings out of "
            f"the audio folder: {shown(matched.linked_out[0])} say; --follow-links takes them"
        )
    if matched.unlike:
        problem = next(iter(next(iter(matched.unlike.values())).values()))
        lines.append(f"answers on {len(matched.unlike)} clips wait in quarantine: {problem}")
    if export.others:
        kinds = ", ".join(f"{n} of {kind}" for kind, n in sorted(export.others.items()))
        lines.append(
            f"annotations without choices are left out ({kinds}); only choices of whole clips can "
            "come in: turn them into such in Label Studio, or write them as CSV and import that"
        )
    if export.drafts:
        lines.append(
            f"{export.drafts} drafts were never submitted, and are left out; submit them in Label "
            "Studio and export again"
        )
    if export.unticked:
        lines.append(f"{export.unticked} annotations tick no choice, and count as not answered")
    if export.seconds:
        lines.append(f"{export.seconds} marks of some seconds are left out, choices are of clips")
    return lines


def _take(
    session: WriteSession,
    source: Path,
    export: ForeignExport,
    matched: _Matched,
    reading: Reading,
    add_classes: bool,
    of: str | None,
) -> ImportReport:
    known, vocabulary = session.classes(), session.vocabulary()
    ticked: Counter[str] = Counter()
    for tasks in matched.tasks.values():
        for task in tasks:
            ticked.update(task.labels)
    # The ledger reads names of before as what they are now.
    renamed = {old: vocabulary.former[old] for old in sorted(ticked) if old in vocabulary.former}
    counts: Counter[str] = Counter()
    for name, n in ticked.items():
        counts[renamed.get(name, name)] += n
    new_names = sorted(name for name in counts if name not in known)
    for name in new_names:
        if not is_class_name(name):
            reading.fault(0, f"choice {shown(name)} has a name no class can have", "rename it")
        elif known and not add_classes:
            remedy = unknown_class_remedy(name, known, vocabulary)
            reading.fault(0, f"unknown class {shown(name)}", remedy)
    check_kinship(session, reading.clips, reading)
    if reading.faults:
        raise FaultyFile(str(source), reading.faults)
    if not matched.tasks:
        raise InvalidInput(f"{source.name}: no task is of a recording that is here")
    facts = {} if session.is_kind_known() else {KIND: _kind_of(matched)}
    if new_names or reading.clips or facts:
        content = [new_names, [clip.path for clip in reading.clips], session.last_batch()]
        session.append(
            Batch(
                key=f"import:{session.last_batch()}:{fingerprint(content)}", kind="import",
                actor=user(), by_person=True, classes=new_names, clips=reading.clips, facts=facts,
                reason=f"{LABEL_STUDIO} {source.name.encode(errors='backslashreplace').decode()}",
            )
        )  # fmt: skip
    done = _take_answers(session, matched, of)
    if not done.came_in and not reading.clips and export.holds_answers:
        why = "; ".join(_tell(export, matched) + done.lines)
        raise NotYet(f"{source.name}: nothing of it came in: {why}")
    report = _report(session, matched, reading, done, known)
    told = [*tell_renamed(renamed), *tell_respelt(matched.respelt, "recordings")]
    return replace(report, labels=facts.get(KIND, ""), told=told)


def _take_answers(session: WriteSession, matched: _Matched, of: str | None) -> _Done:
    """Take in the answers on all tasks, each project's as its own."""
    table = session.labels()
    clip_ids = dict(zip(table.paths, table.clip_ids.tolist(), strict=True))
    by_number: dict[int | None, list[tuple[str, ForeignTask]]] = defaultdict(list)
    for path, tasks in matched.tasks.items():
        for task in tasks:
            by_number[task.project].append((path, task))
    done = _Done()
    for number, found in by_number.items():
        annotations = [each for _, task in found for each in task.annotations]
        source = find_source(session, number, annotations, of)
        if source.doubt:
            done.lines.append(source.doubt)
        items = [
            {"id": task.number, "data": {"clip_id": clip_ids[path], "path": path},
             "annotations": task.annotations, "problem": matched.unlike.get(path, {}).get(number)}
            for path, task in found
        ]  # fmt: skip
        counts = Ledger(session, source.name, ReviewSpec(), foreign=True).take_tasks(
            items, source.annotators, whole=False
        )
        done.counts += counts
        known = len(annotations) - counts["unheard"] - sum(counts[kind] for kind in ANSWERS)
        done.known += known
        if known:
            done.lines.append(
                f"{known} annotations are known as of {source.name} in this version or a newer "
                "one, and stay"
                + ("" if source.sure else "; if they are of another server: --source NAME")
            )
        numbers = [task.number for _, task in found]
        for review in standing_reviews(session, source.name, task_ids=numbers):
            done.classes.update(review.labels)
    if n := done.counts["unheard"]:
        done.lines.append(
            f"{n} annotations were made of predictions or of others, or imported: nobody "
            "listened, and they count as not answered; whoever opens and submits one has answered"
        )
    if n := done.counts["quarantined"]:
        done.lines.append(f"{n} answers cannot be read, see: labelkit review quarantine")
    if n := _count_differing(session, [clip_ids[path] for path in matched.tasks]):
        done.lines.append(
            f"on {n} clips people differ, and nothing is decided for them, see: labelkit review "
            "disagreements"
        )
    return done


def _count_differing(session: WriteSession, clip_ids: Sequence[int]) -> int:
    """Count the clips on which people differ, whatever project they answered in."""
    answers = {
        name: standing_reviews(session, name, clip_ids=clip_ids)
        for name in foreign_projects(session)
    }
    return sum(differ(on_clip) for on_clip in by_clip(pool(answers)).values())


def _kind_of(matched: _Matched) -> str:
    """Tell whether clips have one label or several, by the answers of people."""
    ticks = (task.most_ticked for tasks in matched.tasks.values() for task in tasks)
    return SEVERAL if max(ticks, default=0) > 1 else ONE


def _report(
    session: WriteSession,
    matched: _Matched,
    reading: Reading,
    done: _Done,
    known: Sequence[str],
) -> ImportReport:
    former = session.vocabulary().former
    clips = [
        Clip(
            path=path,
            labels=tuple(
                dict.fromkeys(former.get(name, name) for task in tasks for name in task.labels)
            ),
        )
        for path, tasks in matched.tasks.items()
    ]
    states = {
        state: done.counts[state]
        for state in (RELABELED, REJECTED, VERIFIED) if done.counts[state]
    }  # fmt: skip
    changed = sum(states.values())
    return ImportReport(
        len(clips), len(reading.clips), changed, session.classes(), states,
        dict(done.classes.most_common()), done.lines, find_odd(clips, known), LABEL_STUDIO,
    )  # fmt: skip
