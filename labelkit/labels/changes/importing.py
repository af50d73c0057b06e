"""From the file of a change set into a store that moved on meanwhile, whole or not at all."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.datasets.reading import Reading, shown
from labelkit.errors import InvalidInput
from labelkit.labels.changes.change_set import (
    ChangeBatch,
    ChangeSet,
    NamedEvent,
    NamedVerdict,
    call_classes,
)
from labelkit.labels.changes.matching import (
    conflict_row,
    find_time,
    match_clips,
    read_clip_states,
    read_verdict_times,
)
from labelkit.labels.changes.merge import (
    APPLIED,
    KEPT,
    SAME,
    ClipState,
    Merge,
    RemoteEvent,
    allowed,
    merge_clip,
)
from labelkit.labels.changes.origins import describe_origin, name_batch, read_origins
from labelkit.labels.changes.reading import read_changes
from labelkit.labels.class_names import tell_renamed
from labelkit.labels.importing import check_kinship
from labelkit.labels.kind import REMEDY
from labelkit.project import Project
from labelkit.records import Batch, Clip, LabelEvents, Verdict
from labelkit.states import VERIFIED
from labelkit.stores.change_rows import read_batches, read_store_id
from labelkit.stores.clips import count_clips, count_known_paths, next_clip_id
from labelkit.stores.session import Session

_COUNTS = (
    "batches", "known", "classes", "clips", "applied", "same", "kept", "verdicts", "conflicts",
)  # fmt: skip


@dataclass
class ImportPlan:
    """What an import would do: the batches to append, and what to tell of it."""

    batches: list[Batch] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))


def import_changes(project: Project, file: Path, *, dry_run: bool = False) -> ImportPlan:
    """Bring a change set into the store; twice adds nothing.

    What only others changed is taken over, what both changed is decided by
    :func:`labelkit.labels.changes.merge.merge_clip` and told.

    Args:
        project: Where to.
        file: The change set.
        dry_run: Change nothing, tell what would be.

    Raises:
        FaultyFile: If the file has any fault; all of them are listed.
        InvalidInput: If the file cannot be read, is of another data set, or has a machine take
            back what a person did here, or the other way round.
    """
    changes = read_changes(file)
    if dry_run:
        with project.store.read() as session:
            return plan_import(session, changes)
    with project.store.write() as session:
        plan = plan_import(session, changes)
        for batch in plan.batches:
            session.append(batch)
    return plan


def plan_import(session: Session, changes: ChangeSet) -> ImportPlan:
    """Decide what becomes of a change set in an open store.

    Raises:
        InvalidInput: If it is of another data set.
    """
    _refuse_strangers(session, changes)
    _refuse_several(session, changes)
    changes, renamed = call_classes(changes, session.vocabulary().former)
    plan = _Planner(session, changes).plan()
    plan.told[:0] = tell_renamed(renamed)
    return plan


def _refuse_strangers(session: Session, changes: ChangeSet) -> None:
    """Refuse the set of a store with another name, none of whose recordings is here."""
    paths = sorted({path for batch in changes.batches for path, _ in batch.recordings()})
    if read_store_id(session) == changes.store_id or not count_clips(session) or not paths:
        return
    if not count_known_paths(session, paths):
        raise InvalidInput(
            f"the set is of another data set: none of its {len(paths)} recordings is here; "
            "bring clips in with: labelkit import FILE"
        )


def _refuse_several(session: Session, changes: ChangeSet) -> None:
    """Refuse a set in which clips have several labels where a clip here has one."""
    if session.allows_several() or not session.is_kind_known():
        return
    for batch in changes.batches:
        rows: tuple[Clip | NamedEvent, ...] = (*batch.clips, *batch.events)
        for row in rows:
            if len(row.labels) > 1:
                raise InvalidInput(f"{len(row.labels)} labels for {shown(row.path)}; {REMEDY}")


class _Planner:
    """What becomes of each batch of a set, in the order of the batches."""

    def __init__(self, session: Session, changes: ChangeSet) -> None:
        self.session, self.changes = session, changes
        self.made = ImportPlan()
        self.origins = read_origins(session)
        self.known = {origin.id: batch_id for batch_id, (origin, _) in self.origins.items()}
        self.batches = [batch for batch in changes.batches if batch.origin.id not in self.known]
        here = read_batches(session)
        self.undone = {row.undoes: row.batch_id for row in here if row.undoes is not None}
        self.by_person = {row.batch_id: row.by_person for row in here}
        self.next_batch = session.last_batch() + 1
        self.class_ids = {name: number for number, name in enumerate(session.classes())}
        self.clip_ids: dict[str, int] = {}
        self.new_clips: set[str] = set()
        # Of each path what became of it there, and which batch and event of it each one is.
        self.events: dict[str, list[tuple[ChangeBatch, NamedEvent]]] = defaultdict(list)
        self.places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.merges: dict[str, Merge] = {}

    def plan(self) -> ImportPlan:
        """Plan every batch of the set that is not here."""
        found = match_clips(self.session, self.changes, self.batches)
        self.clip_ids, self.made.rows = found.clip_ids, found.rows
        self._collect_events({row["path"] for row in found.rows})
        self._merge()
        self._add_clips({row["path"] for row in found.rows})
        self.verdict_times = read_verdict_times(self.session, self.clip_ids.values(), self.origins)
        for number, batch in enumerate(self.batches):
            self._plan_batch(number, batch)
        self.made.rows.sort(key=lambda row: row["path"])
        self._count(
            batches=len(self.batches),
            known=len(self.changes.batches) - len(self.batches),
            conflicts=sum(row["kept"] == "ours" for row in self.made.rows),
        )
        return self.made

    def _collect_events(self, refused: set[str]) -> None:
        for number, batch in enumerate(self.batches):
            for place, event in _events_of(batch):
                if event.path not in refused:
                    self.events[event.path].append((batch, event))
                    self.places[event.path].append((number, place))

    def _merge(self) -> None:
        """Decide on the clips that are here."""
        states = read_clip_states(self.session, self.clip_ids.values(), self.origins)
        order = {batch.origin.id: number for number, batch in enumerate(self.changes.batches)}
        for path, clip_id in self.clip_ids.items():
            if path not in self.events:
                continue
            ours, never = states[clip_id], len(order)
            events = [
                RemoteEvent(
                    before=None if event.before is None else event.before.content,
                    after=_state_after(batch, event),
                    knew=order.get(ours.batch, never) < order[batch.origin.id]
                    or (event.before is not None and event.before.batch == ours.batch),
                )
                for batch, event in self.events[path]
            ]
            merge = self.merges[path] = merge_clip(ours, events)
            if merge.why:
                kept = "ours" if merge.outcome == KEPT else "theirs"
                self._report(path, "labels", str(ours), str(events[-1].after), kept, merge.why)

    def _report(self, *cells: str | None) -> None:
        self.made.rows.append(conflict_row(*cells))

    def _count(self, **numbers: int) -> None:
        for name, number in numbers.items():
            self.made.counts[name] += number

    def _add_clips(self, refused: set[str]) -> None:
        """Give numbers to clips that come in, and report those that are nowhere."""
        new = [
            clip for batch in self.batches for clip in batch.clips
            if clip.path not in self.clip_ids and clip.path not in refused
        ]  # fmt: skip
        misfits = _find_misfits(self.session, new)
        for clip in new:
            later = [_state_after(batch, event) for batch, event in self.events[clip.path][1:]]
            if not allowed(clip.state, later):
                misfits[clip.path] = "a machine decides there on what a person left"
        next_clip = next_clip_id(self.session)
        for clip in new:
            if clip.path not in misfits:
                self.clip_ids[clip.path] = next_clip + len(self.new_clips)
                self.new_clips.add(clip.path)
                self.merges[clip.path] = Merge(APPLIED, 0)
        named = [path for batch in self.batches for path, _ in batch.recordings()]
        for path in dict.fromkeys(named):
            if path not in self.clip_ids and path not in refused:
                events = self.events.get(path)
                theirs = str(_state_after(*events[-1])) if events else None
                why = misfits.get(path, "no such clip here")
                self._report(path, "clip", None, theirs, "ours", why)

    def _outcome(self, number: int, place: int, path: str) -> str:
        """Say what becomes of one event."""
        merge = self.merges.get(path)
        if merge is None:
            return KEPT
        if merge.outcome == APPLIED and self.places[path].index((number, place)) < merge.first:
            return KEPT if merge.why else SAME
        return merge.outcome

    def _plan_batch(self, number: int, batch: ChangeBatch) -> None:
        outcomes = {
            (place, event.path): self._outcome(number, place, event.path)
            for place, event in _events_of(batch)
        }
        clips = [clip for clip in batch.clips if clip.path in self.new_clips]
        events = [
            event for place, event in _events_of(batch)
            if outcomes[place, event.path] == APPLIED
            and (event.before is not None or event.path not in self.new_clips)
        ]  # fmt: skip
        left = {path for (_, path), outcome in outcomes.items() if outcome == KEPT}
        verdicts = [verdict for verdict in batch.verdicts if self._counts(verdict, batch, left)]
        used = [*batch.classes, *(name for clip in clips for name in clip.labels)]
        used += [name for event in events for name in event.labels]
        used += [verdict.name for verdict in verdicts]
        classes = [name for name in dict.fromkeys(used) if name not in self.class_ids]
        for name in classes:
            self.class_ids[name] = len(self.class_ids)
        key, reason = name_batch(batch.origin, batch.reason)
        self.made.batches.append(
            Batch(
                key=key, kind=batch.kind, actor=batch.actor, by_person=batch.by_person,
                reason=reason, undoes=self._find_undone(batch), classes=classes, clips=clips,
                events=self._label_events(batch, events),
                verdicts=[self._verdict(verdict) for verdict in verdicts],
            )
        )  # fmt: skip
        self.known[batch.origin.id] = self.next_batch
        self.next_batch += 1
        kept = sum(outcome == KEPT for outcome in outcomes.values())
        self._count(
            clips=len(clips), classes=len(classes), applied=len(events), kept=kept,
            same=len(outcomes) - len(clips) - len(events) - kept, verdicts=len(verdicts),
        )  # fmt: skip
        self.made.told.append(
            f"{batch.kind} by {batch.actor}, {batch.origin.made_at:%Y-%m-%d %H:%M:%S}: "
            f"{len(clips)} clips added, {len(events)} events applied, {kept} kept out, "
            f"{len(verdicts)} verdicts"
        )

    def _find_undone(self, batch: ChangeBatch) -> int | None:
        """Find the batch here that an undo takes back, so that none is taken back twice."""
        if batch.undoes is None or batch.undoes.id not in self.known:
            return None
        batch_id, n = self.known[batch.undoes.id], 0
        same = self.by_person.get(batch_id, batch.by_person) == batch.by_person
        if not same and not batch.restores:
            who = "a person" if batch.by_person else "a machine"
            raise InvalidInput(
                f"batch {shown(batch.origin.key)} says that {who} takes back batch {batch_id}, "
                "which is none of theirs; export the changes again"
            )
        while batch_id in self.undone:
            batch_id, n = self.undone[batch_id], n + 1
        # Taken back here already; or taken back and brought back, which is taken back then.
        if n % 2:
            return None
        self.undone[batch_id] = self.next_batch
        return batch_id

    def _counts(self, verdict: NamedVerdict, batch: ChangeBatch, left: set[str]) -> bool:
        """Tell whether a verdict is to be written: a machine's goes with its event."""
        if verdict.path not in self.clip_ids:
            return False
        if not batch.by_person:
            return verdict.path not in left
        if verdict.path in self.new_clips:
            return not _comes_with_clip(verdict, batch)
        if verdict.start_s is not None:
            return True
        # What a person said before must not become their newest verdict.
        newest = self.verdict_times.get((self.clip_ids[verdict.path], verdict.name, batch.actor))
        return newest is None or newest <= batch.origin.made_at

    def _verdict(self, verdict: NamedVerdict) -> Verdict:
        return Verdict(
            clip_id=self.clip_ids[verdict.path], class_id=self.class_ids[verdict.name],
            verdict=verdict.verdict, rule=verdict.rule, score=verdict.score,
            start_s=verdict.start_s, end_s=verdict.end_s,
        )  # fmt: skip

    def _label_events(self, batch: ChangeBatch, events: Sequence[NamedEvent]) -> LabelEvents:
        return LabelEvents(
            clip_ids=np.array([self.clip_ids[event.path] for event in events], np.int64),
            states=[event.state for event in events],
            labels=[[self.class_ids[name] for name in event.labels] for event in events],
            sources=[event.source for event in events],
            iterations=[event.iteration for event in events],
            scores=[event.score for event in events],
            evidence=[_evidence(batch, event) for event in events],
        )


def _events_of(batch: ChangeBatch) -> list[tuple[int, NamedEvent]]:
    """List clips that come in, and events, each with what tells it within its batch."""
    intake = [
        NamedEvent(
            path=clip.path, content_hash=clip.content_hash, before=None, state=clip.state,
            labels=clip.labels, source=batch.kind, score=None, iteration=None, evidence=None,
        )
        for clip in batch.clips
    ]  # fmt: skip
    return [*((-1, event) for event in intake), *enumerate(batch.events)]


def _state_after(batch: ChangeBatch, event: NamedEvent) -> ClipState:
    return ClipState(
        state=event.state, labels=event.labels, by_person=batch.by_person, actor=batch.actor,
        made_at=find_time(batch.origin, event.evidence), batch=batch.origin.id,
        intake=event.before is None, undo=batch.undoes is not None,
    )  # fmt: skip


def _evidence(batch: ChangeBatch, event: NamedEvent) -> str:
    """Write what was told of an event, and where and when it was."""
    evidence = (event.evidence or {}) | {"origin": describe_origin(batch.origin)}
    if batch.by_person and evidence.get("answered_at") is None:
        evidence["answered_at"] = batch.origin.made_at.isoformat()
    return json.dumps(evidence, sort_keys=True, ensure_ascii=False)


def _comes_with_clip(verdict: NamedVerdict, batch: ChangeBatch) -> bool:
    """Tell whether the store itself says so of a clip that comes in verified."""
    return (verdict.verdict, verdict.rule, verdict.score, verdict.start_s) == (
        "present", batch.kind, None, None
    ) and any(
        clip.path == verdict.path and clip.state == VERIFIED and verdict.name in clip.labels
        for clip in batch.clips
    )  # fmt: skip


def _find_misfits(session: Session, new: Sequence[Clip]) -> dict[str, str]:
    """Find clips that would put a recording, or a group, in two subsets or folds: path and why."""
    reading = Reading()
    if new:
        check_kinship(session, [replace(clip, row=n) for n, clip in enumerate(new, 1)], reading)
    return {new[row - 1].path: text.partition(": ")[2] for row, text in reversed(reading.noted)}
