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
from labelkit.labels.changes.change_set import Change, ChangeSet, Part, Said
from labelkit.labels.changes.matching import (
    clash,
    match_clips,
    read_last_verdicts,
    read_words,
    time_given,
)
from labelkit.labels.changes.merge import (
    APPLIED,
    KEPT,
    SAME,
    Merge,
    Step,
    Word,
    allowed,
    merge_clip,
)
from labelkit.labels.changes.origins import describe_origin, name_batch, read_origins
from labelkit.labels.changes.reading import read_changes
from labelkit.labels.importing import check_kinship
from labelkit.project import Project
from labelkit.records import VERIFIED, Batch, Clip, LabelEvents, Verdict
from labelkit.stores.columns import as_column
from labelkit.stores.session import Session

_COUNTS = (
    "batches", "known", "classes", "clips", "applied", "same", "kept", "verdicts", "conflicts",
)  # fmt: skip


@dataclass
class Plan:
    """What an import would do: the batches to append, and what to tell of it."""

    batches: list[Batch] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))


def import_changes(project: Project, file: Path, *, dry_run: bool = False) -> Plan:
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


def plan_import(session: Session, changes: ChangeSet) -> Plan:
    """Decide what becomes of a change set in an open store.

    Raises:
        InvalidInput: If it is of another data set.
    """
    _refuse_strangers(session, changes)
    return _Planner(session, changes).plan()


def _refuse_strangers(session: Session, changes: ChangeSet) -> None:
    """Refuse the set of a store with another name, none of whose recordings is here."""
    [(store_id, n_clips)] = session.rows(
        "select store_id, (select count(*) from clips) from store_info"
    )
    paths = sorted({path for part in changes.batches for path, _ in part.recordings()})
    if store_id == changes.store_id or not n_clips or not paths:
        return
    sql = "select count(*) from clips semi join arrays using (path)"
    if session.rows_beside({"path": as_column(paths)}, sql) == [(0,)]:
        raise InvalidInput(
            f"the set is of another data set: none of its {len(paths)} recordings is here; "
            "bring clips in with: labelkit import"
        )


class _Planner:
    """What becomes of each batch of a set, in the order of the batches."""

    def __init__(self, session: Session, changes: ChangeSet) -> None:
        self.session, self.changes = session, changes
        self.made = Plan()
        self.origins = read_origins(session)
        self.known = {origin.id: batch_id for batch_id, (origin, _) in self.origins.items()}
        self.parts = [part for part in changes.batches if part.origin.id not in self.known]
        rows = session.rows("select undoes, batch_id from batches where undoes is not null")
        self.undone = dict(rows)
        self.by_person = dict(session.rows("select batch_id, by_person from batches"))
        self.next_batch = session.last_batch() + 1
        self.class_ids = {name: number for number, name in enumerate(session.classes())}
        self.clip_ids: dict[str, int] = {}
        self.new_clips: set[str] = set()
        # Of each path what became of it there, and which batch and event of it each one is.
        self.events: dict[str, list[tuple[Part, Change]]] = defaultdict(list)
        self.places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.merges: dict[str, Merge] = {}

    def plan(self) -> Plan:
        found = match_clips(self.session, self.changes, self.parts)
        self.clip_ids, self.made.rows = found.clip_ids, found.rows
        self._collect_events({row["path"] for row in found.rows})
        self._merge()
        self._add_clips({row["path"] for row in found.rows})
        self.last_said = read_last_verdicts(self.session, self.clip_ids.values(), self.origins)
        for number, part in enumerate(self.parts):
            self._plan_part(number, part)
        self.made.rows.sort(key=lambda row: row["path"])
        self._count(
            batches=len(self.parts),
            known=len(self.changes.batches) - len(self.parts),
            conflicts=sum(row["kept"] == "ours" for row in self.made.rows),
        )
        return self.made

    def _collect_events(self, refused: set[str]) -> None:
        for number, part in enumerate(self.parts):
            for place, row in _rows(part):
                if row.path not in refused:
                    self.events[row.path].append((part, row))
                    self.places[row.path].append((number, place))

    def _merge(self) -> None:
        """Decide on the clips that are here."""
        words = read_words(self.session, self.clip_ids.values(), self.origins)
        order = {part.origin.id: number for number, part in enumerate(self.changes.batches)}
        for path, clip_id in self.clip_ids.items():
            if path not in self.events:
                continue
            ours, never = words[clip_id], len(order)
            steps = [
                Step(
                    before=None if row.before is None else row.before.content,
                    after=_word(part, row),
                    knew=order.get(ours.batch, never) < order[part.origin.id]
                    or (row.before is not None and row.before.batch == ours.batch),
                )
                for part, row in self.events[path]
            ]  # fmt: skip
            merge = self.merges[path] = merge_clip(ours, steps)
            if merge.why:
                kept = "ours" if merge.outcome == KEPT else "theirs"
                self._tell(path, "labels", str(ours), str(steps[-1].after), kept, merge.why)

    def _tell(self, *cells: str | None) -> None:
        self.made.rows.append(clash(*cells))

    def _count(self, **numbers: int) -> None:
        for name, number in numbers.items():
            self.made.counts[name] += number

    def _add_clips(self, refused: set[str]) -> None:
        """Give numbers to clips that come in, and tell of those that are nowhere."""
        new = [
            clip for part in self.parts for clip in part.clips
            if clip.path not in self.clip_ids and clip.path not in refused
        ]  # fmt: skip
        misfits = _find_misfits(self.session, new)
        for clip in new:
            words = [_word(part, row) for part, row in self.events[clip.path][1:]]
            if not allowed(clip.state, words):
                misfits[clip.path] = "a machine decides there on what a person left"
        [(next_clip,)] = self.session.rows("select coalesce(max(clip_id), -1) + 1 from clips")
        for clip in new:
            if clip.path not in misfits:
                self.clip_ids[clip.path] = next_clip + len(self.new_clips)
                self.new_clips.add(clip.path)
                self.merges[clip.path] = Merge(APPLIED, 0)
        named = [path for part in self.parts for path, _ in part.recordings()]
        for path in dict.fromkeys(named):
            if path not in self.clip_ids and path not in refused:
                theirs = str(_word(*self.events[path][-1])) if path in self.events else None
                why = misfits.get(path, "no such clip here")
                self._tell(path, "clip", None, theirs, "ours", why)

    def _fate(self, number: int, place: int, path: str) -> str:
        """What becomes of one step."""
        merge = self.merges.get(path)
        if merge is None:
            return KEPT
        if merge.outcome == APPLIED and self.places[path].index((number, place)) < merge.first:
            return KEPT if merge.why else SAME
        return merge.outcome

    def _plan_part(self, number: int, part: Part) -> None:
        fates = {
            (place, row.path): self._fate(number, place, row.path) for place, row in _rows(part)
        }
        clips = [clip for clip in part.clips if clip.path in self.new_clips]
        rows = [
            row for place, row in _rows(part) if fates[place, row.path] == APPLIED
            and (row.before is not None or row.path not in self.new_clips)
        ]  # fmt: skip
        left = {path for (_, path), fate in fates.items() if fate == KEPT}
        said = [word for word in part.verdicts if self._counts(word, part, left)]
        used = [*part.classes, *(name for clip in clips for name in clip.labels)]
        used += [name for change in rows for name in change.labels]
        used += [word.name for word in said]
        classes = [name for name in dict.fromkeys(used) if name not in self.class_ids]
        for name in classes:
            self.class_ids[name] = len(self.class_ids)
        key, reason = name_batch(part.origin, part.reason)
        self.made.batches.append(
            Batch(
                key=key, kind=part.kind, actor=part.actor, by_person=part.by_person,
                reason=reason, undoes=self._find_undone(part), classes=classes, clips=clips,
                events=self._events(part, rows), verdicts=[self._verdict(word) for word in said],
            )
        )  # fmt: skip
        self.known[part.origin.id] = self.next_batch
        self.next_batch += 1
        kept = sum(fate == KEPT for fate in fates.values())
        self._count(
            clips=len(clips), classes=len(classes), applied=len(rows), kept=kept,
            same=len(fates) - len(clips) - len(rows) - kept, verdicts=len(said),
        )  # fmt: skip
        self.made.told.append(
            f"{part.kind} by {part.actor}, {part.origin.made_at:%Y-%m-%d %H:%M:%S}: "
            f"{len(clips)} clips added, {len(rows)} events applied, {kept} kept out, "
            f"{len(said)} verdicts"
        )

    def _find_undone(self, part: Part) -> int | None:
        """The batch here that an undo takes back, so that no batch is taken back twice."""
        if part.undoes is None or part.undoes.id not in self.known:
            return None
        batch_id, n = self.known[part.undoes.id], 0
        same = self.by_person.get(batch_id, part.by_person) == part.by_person
        if not same and not part.restores:
            who = "a person" if part.by_person else "a machine"
            raise InvalidInput(
                f"batch {shown(part.origin.key)} says that {who} takes back batch {batch_id}, "
                "which is none of theirs; export the changes again"
            )
        while batch_id in self.undone:
            batch_id, n = self.undone[batch_id], n + 1
        # Taken back here already; or taken back and brought back, which is taken back then.
        if n % 2:
            return None
        self.undone[batch_id] = self.next_batch
        return batch_id

    def _counts(self, said: Said, part: Part, left: set[str]) -> bool:
        """Whether a verdict is to be written: a machine's goes with its event."""
        if said.path not in self.clip_ids:
            return False
        if not part.by_person:
            return said.path not in left
        if said.path in self.new_clips:
            return not _comes_with_clip(said, part)
        if said.start_s is not None:
            return True
        # What a person said before must not become their newest word.
        newest = self.last_said.get((self.clip_ids[said.path], said.name, part.actor))
        return newest is None or newest <= part.origin.made_at

    def _verdict(self, said: Said) -> Verdict:
        return Verdict(
            clip_id=self.clip_ids[said.path], class_id=self.class_ids[said.name],
            verdict=said.verdict, rule=said.rule, score=said.score, start_s=said.start_s,
            end_s=said.end_s,
        )  # fmt: skip

    def _events(self, part: Part, rows: Sequence[Change]) -> LabelEvents:
        return LabelEvents(
            clip_ids=np.array([self.clip_ids[row.path] for row in rows], np.int64),
            states=[row.state for row in rows],
            labels=[[self.class_ids[name] for name in row.labels] for row in rows],
            sources=[row.source for row in rows],
            iterations=[row.iteration for row in rows],
            scores=[row.score for row in rows],
            evidence=[_evidence(part, row) for row in rows],
        )


def _rows(part: Part) -> list[tuple[int, Change]]:
    """Clips that come in, and events, each with what tells it within its batch."""
    intake = [
        Change(
            path=clip.path, content_hash=clip.content_hash, before=None, state=clip.state,
            labels=clip.labels, source=part.kind, score=None, iteration=None, evidence=None,
        )
        for clip in part.clips
    ]  # fmt: skip
    return [*((-1, row) for row in intake), *enumerate(part.events)]


def _word(part: Part, row: Change) -> Word:
    return Word(
        state=row.state, labels=row.labels, by_person=part.by_person, actor=part.actor,
        made_at=time_given(part.origin, row.evidence), batch=part.origin.id,
        intake=row.before is None, undo=part.undoes is not None,
    )  # fmt: skip


def _evidence(part: Part, row: Change) -> str:
    """What was told of an event, and where and when it was."""
    evidence = (row.evidence or {}) | {"origin": describe_origin(part.origin)}
    if part.by_person and evidence.get("answered_at") is None:
        evidence["answered_at"] = part.origin.made_at.isoformat()
    return json.dumps(evidence, sort_keys=True, ensure_ascii=False)


def _comes_with_clip(said: Said, part: Part) -> bool:
    """Whether the store itself says so of a clip that comes in verified."""
    return (said.verdict, said.rule, said.score, said.start_s) == (
        "present", part.kind, None, None
    ) and any(
        clip.path == said.path and clip.state == VERIFIED and said.name in clip.labels
        for clip in part.clips
    )  # fmt: skip


def _find_misfits(session: Session, new: Sequence[Clip]) -> dict[str, str]:
    """Clips that would put one recording, or one group, in two subsets or folds: path and why."""
    reading = Reading()
    if new:
        check_kinship(session, [replace(clip, row=n) for n, clip in enumerate(new, 1)], reading)
    return {new[row - 1].path: text.partition(": ")[2] for row, text in reversed(reading.noted)}
