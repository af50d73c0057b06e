"""The history as change sets tell it: batches, and what each did to clips, in class names."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from labelkit.records import Clip
from labelkit.states import MACHINE_STATES
from labelkit.stores.append import IMPORTED_FOLDS
from labelkit.stores.session import Session
from labelkit.types import Ints

_BATCH = "batch_id, batch_key, made_at, kind, actor, by_person, reason, undoes"
# What became of classes and clips rather than of labels: the set speaks of them as they are now.
_BOOKKEEPING = (
    "(select batch_id from class_changes union select batch_id from clip_changes "
    "except select batch_id from event_rows)"
)
# Batches that say something of labels, in the part of the history that is wanted.
_WANTED = f"""
with wanted as (
    select b.batch_id from batches b
    where b.batch_id > $after and (b.by_person or not $people)
    and b.batch_id not in {_BOOKKEEPING}
    and (b.undoes is not null or b.batch_id in (
        select batch_id from classes union select batch_id from clips
        union select batch_id from label_events union select batch_id from label_verdicts
    ))
)
"""


@dataclass(frozen=True, kw_only=True)
class HistorySlice:
    """The batches that are wanted: those after batch ``after``, and only people's if ``people``."""

    after: int = 0
    people: bool = False


@dataclass(frozen=True)
class BatchRow:
    """A batch of the history; ``undoes`` is the id of the batch it takes back."""

    batch_id: int
    key: str
    made_at: datetime
    kind: str
    actor: str
    by_person: bool
    reason: str
    undoes: int | None


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """A label event, and the state, labels and batch of the event of its clip before it."""

    batch_id: int
    path: str
    content_hash: str | None
    state_before: str
    labels_before: tuple[str, ...]
    batch_before: int
    state: str
    labels: tuple[str, ...]
    source: str
    score: float | None
    iteration: int | None
    evidence: dict[str, Any] | None
    run_id: str | None


@dataclass(frozen=True)
class VerdictRow:
    """A verdict on a clip and a class."""

    batch_id: int
    path: str
    content_hash: str | None
    class_name: str
    verdict: str
    rule: str
    score: float | None
    start_s: float | None
    end_s: float | None


@dataclass(frozen=True, kw_only=True)
class StateRow:
    """What a clip is, and the batch that made it so.

    ``intake`` is how the clip came in; ``undo`` took back what was said before.
    """

    batch_id: int
    state: str
    labels: tuple[str, ...]
    by_person: bool
    actor: str
    intake: bool
    undo: bool
    evidence: dict[str, Any] | None


@dataclass(frozen=True)
class PersonVerdict:
    """That a person said in a batch whether a clip as a whole has a class."""

    clip_id: int
    class_name: str
    actor: str
    batch_id: int


def read_store_id(session: Session) -> str:
    """Read the name by which a store is told from every other."""
    store_id: str
    [(store_id,)] = session.rows("select store_id from store_info")
    return store_id


def read_times(session: Session, batch_id: int) -> tuple[datetime | None, datetime | None]:
    """Read when the newest batch was made, and when a given one was; None where there is none."""
    [(newest, given)] = session.rows(
        "select max(made_at), max(made_at) filter (batch_id = ?) from batches", [batch_id]
    )
    return newest, given


def read_batches(session: Session) -> list[BatchRow]:
    """Read every batch, the oldest first."""
    rows = session.rows(f"select {_BATCH} from batches order by batch_id")
    return [BatchRow(*row) for row in rows]


def read_label_batches(session: Session, wanted: HistorySlice) -> list[BatchRow]:
    """Read the wanted batches that say something of labels, the oldest first."""
    rows = session.rows(
        f"{_WANTED} select {_BATCH} from batches semi join wanted using (batch_id) "
        "order by batch_id",
        vars(wanted),
    )
    return [BatchRow(*row) for row in rows]


def read_bookkeeping(session: Session, after: int, until: int | None = None) -> list[str]:
    """Read what batches did that only gave classes and clips other names, or took imports back.

    Args:
        session: The open store.
        after: Only batches after this one.
        until: Only up to this one; all if None.
    """
    rows = session.rows(
        f"select reason from batches where batch_id > $after and batch_id in {_BOOKKEEPING} "
        "and batch_id <= coalesce($until, batch_id) "
        "and batch_id not in (from taken_back) order by batch_id",
        {"after": after, "until": until},
    )
    return [reason for (reason,) in rows]


def read_new_classes(session: Session) -> dict[int, list[str]]:
    """Read the classes that each batch brought in, in the order of their ids."""
    found: dict[int, list[str]] = defaultdict(list)
    for batch_id, name in session.rows("select batch_id, name from classes order by class_id"):
        found[batch_id].append(name)
    return dict(found)


def read_intake(session: Session, wanted: HistorySlice) -> list[tuple[int, Clip]]:
    """Read the clips of the wanted batches as they came in, each with the id of its batch."""
    names = session.classes()
    rows = session.rows(
        f"{_WANTED}, "
        "intake as (select min(event_id) as event_id from label_events group by clip_id) "
        "select c.batch_id, c.path, c.content_hash, c.duration_s, c.group_name, c.subset, "
        "c.domain_name, e.state, e.labels, f.fold from clips c semi join wanted using (batch_id) "
        "join (from label_events semi join intake using (event_id)) e on e.clip_id = c.clip_id "
        "left join folds f on f.clip_id = c.clip_id and f.fold_set = $folds order by c.clip_id",
        vars(wanted) | {"folds": IMPORTED_FOLDS},
    )
    return [
        (batch_id, Clip(path=path, content_hash=content, duration_s=duration_s, group=group,
                        subset=subset, domain=domain, state=state, labels=_spell(labels, names),
                        fold=fold))
        for batch_id, path, content, duration_s, group, subset, domain, state, labels, fold in rows
    ]  # fmt: skip


def read_events(session: Session, wanted: HistorySlice) -> list[EventRow]:
    """Read the events of the wanted batches, but the first of each clip.

    Where only people count, who took a word back gives a clip what people had left open before,
    rather than what a machine had made of it.
    """
    names = session.classes()
    rows = session.rows(
        f"""
        {_WANTED},
        told as (
            select *, lag(state) over w as state_before, lag(labels) over w as labels_before,
                   lag(batch_id) over w as batch_before,
                   last_value(if(by_person and undoes is null and list_contains($machine, state),
                                 {{'state': state, 'labels': labels}}, null)
                              ignore nulls) over w as left_open,
                   $people and undoes is not null and list_contains($machine, state)
                   and left_open is not null as opened
            from (select e.*, b.by_person, b.undoes from label_events e
                  join batches b on b.batch_id = e.batch_id)
            where clip_id in (select clip_id from label_events where batch_id > $after)
            window w as (partition by clip_id order by event_id)
        )
        select t.batch_id, c.path, c.content_hash, t.state_before, t.labels_before,
               t.batch_before, if(opened, left_open.state, t.state),
               if(opened, left_open.labels, t.labels), t.source, t.score, t.iteration, t.evidence,
               t.run_id
        from told t semi join wanted using (batch_id) join clips c on c.clip_id = t.clip_id
        where t.batch_before is not null order by t.event_id
        """,
        vars(wanted) | {"machine": list(MACHINE_STATES)},
    )
    found = []
    for batch_id, path, content, state_before, labels_before, batch_before, *now in rows:
        state, labels, source, score, iteration, evidence, run_id = now
        row = EventRow(
            batch_id=batch_id, path=path, content_hash=content, state_before=state_before,
            labels_before=_spell(labels_before, names), batch_before=batch_before, state=state,
            labels=_spell(labels, names), source=source, score=score, iteration=iteration,
            evidence=_parse(evidence), run_id=run_id,
        )  # fmt: skip
        found.append(row)
    return found


def read_verdicts(session: Session, wanted: HistorySlice) -> list[VerdictRow]:
    """Read the verdicts of the wanted batches, the oldest first."""
    names = session.classes()
    rows = session.rows(
        f"{_WANTED} select v.batch_id, c.path, c.content_hash, v.class_id, v.verdict, v.rule, "
        "v.score, v.start_s, v.end_s from label_verdicts v semi join wanted using (batch_id) "
        "join clips c on c.clip_id = v.clip_id order by v.verdict_id",
        vars(wanted),
    )
    return [
        VerdictRow(batch_id, path, content, names[class_id], *rest)
        for batch_id, path, content, class_id, *rest in rows
    ]


def read_states(session: Session, clip_ids: Iterable[int]) -> dict[int, StateRow]:
    """Read what clips are now and who made them so, by clip id."""
    names = session.classes()
    rows = session.rows_beside(
        _ids(clip_ids),
        "select e.clip_id, e.batch_id, e.state, e.labels, b.by_person, b.actor, "
        "e.batch_id = c.batch_id, b.undoes is not null, l.evidence "
        "from current_events e join batches b on b.batch_id = e.batch_id "
        "join clips c on c.clip_id = e.clip_id join label_events l on l.event_id = e.event_id "
        "where e.clip_id in (select clip_id from arrays)",
    )
    return {
        clip_id: StateRow(
            batch_id=batch_id, state=state, labels=_spell(labels, names), by_person=by_person,
            actor=actor, intake=intake, undo=undo, evidence=_parse(evidence),
        )
        for clip_id, batch_id, state, labels, by_person, actor, intake, undo, evidence in rows
    }  # fmt: skip


def find_person_verdicts(session: Session, clip_ids: Iterable[int]) -> list[PersonVerdict]:
    """Find what people said of some clips as a whole; what was taken back does not count."""
    rows = session.rows_beside(
        _ids(clip_ids),
        "select distinct v.clip_id, k.name, b.actor, v.batch_id from label_verdicts v "
        "join batches b on b.batch_id = v.batch_id join classes k on k.class_id = v.class_id "
        "where b.by_person and v.start_s is null "
        "and v.clip_id in (select clip_id from arrays) "
        "and v.batch_id not in (select batch_id from taken_back)",
    )
    return [PersonVerdict(*row) for row in rows]


def _ids(clip_ids: Iterable[int]) -> dict[str, Ints]:
    return {"clip_id": np.fromiter(clip_ids, np.int64)}


def _spell(labels: Iterable[int], names: list[str]) -> tuple[str, ...]:
    return tuple(sorted(names[label] for label in labels))


def _parse(evidence: str | None) -> dict[str, Any] | None:
    return json.loads(evidence) if evidence else None
