"""What taking batches back needs to know of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelkit.records import LabelEvents
from labelkit.stores.session import Session
from labelkit.stores.views import UNCOVERED


@dataclass(frozen=True)
class BatchFacts:
    """A batch to be taken back; ``root`` is the batch at the start of its line of undos.

    ``verdicts`` and ``answers`` are how many the root holds.
    """

    batch_id: int
    kind: str
    reason: str
    by_person: bool
    root: int
    verdicts: int
    answers: int


def has_batch(session: Session, batch_id: int) -> bool:
    """Tell whether there is a batch of this number."""
    return bool(session.rows("select 1 from batches where batch_id = ?", [batch_id]))


def brought_clips(session: Session, batch_id: int) -> bool:
    """Tell whether a batch brought clips in."""
    return bool(session.rows("select 1 from clips where batch_id = ? limit 1", [batch_id]))


def undo_line(session: Session, batch_id: int) -> list[int]:
    """List a batch, its undo, the undo of that one, and so on."""
    rows = session.rows(
        "with recursive line as (select ?::bigint as batch_id union all "
        "select b.batch_id from line l join batches b on b.undoes = l.batch_id) "
        "select batch_id from line order by batch_id",
        [batch_id],
    )
    return [found for (found,) in rows]


def batches_of_run(session: Session, run_id: str) -> list[int]:
    """List the batches a run wrote, the oldest first.

    A run names its batches after itself; those that only were judged by it are others'.
    """
    rows = session.rows(
        "select batch_id from batches where (batch_key = $run or starts_with(batch_key, $run || "
        "'/')) and undoes is null order by batch_id",
        {"run": run_id},
    )
    return [batch_id for (batch_id,) in rows]


def deciding_batches(session: Session, batch_ids: Sequence[int]) -> list[int]:
    """List those of some batches that decided something and stand, the oldest first."""
    rows = session.rows(
        "select batch_id from batches where batch_id in (select unnest($mine)) "
        "and batch_id not in (from taken_back) and (batch_id in (select batch_id from "
        "label_events) or batch_id in (select batch_id from label_verdicts)) order by batch_id",
        {"mine": list(batch_ids)},
    )
    return [batch_id for (batch_id,) in rows]


def undone_by(session: Session, batch_ids: Sequence[int]) -> list[int]:
    """List the undos on which it rests that some batches do not stand, the oldest first."""
    rows = session.rows(
        "select batch_id from taken_back where batch_id in (select unnest(?))", [list(batch_ids)]
    )
    return sorted(undo_line(session, batch_id)[-1] for (batch_id,) in rows)


def find_root(session: Session, batch_id: int) -> int:
    """Find the batch at the start of a line of undos."""
    undid = dict(session.rows("select batch_id, undoes from batches where undoes is not null"))
    while batch_id in undid:
        batch_id = undid[batch_id]
    return batch_id


def read_batch(session: Session, batch_id: int) -> BatchFacts:
    """Read what there is to know of a batch before it is taken back."""
    root = find_root(session, batch_id)
    [row] = session.rows(
        "select kind, reason, by_person, "
        "(select count(*) from label_verdicts where batch_id = $root), "
        "(select count(*) from reviews where batch_id = $root) "
        "from batches where batch_id = $batch",
        {"batch": batch_id, "root": root},
    )
    kind, reason, by_person, verdicts, answers = row
    return BatchFacts(batch_id, kind, reason, by_person, root, verdicts, answers)


def restored_events(
    session: Session, root: int, source: str, evidence: dict[str, Any]
) -> LabelEvents:
    """Make events for the clips of a batch that are not what stands without, or again with, it.

    Args:
        session: The open store.
        root: The batch that changes sides, no undo.
        source: Of the events.
        evidence: Of each event.
    """
    rows = session.rows(
        f"""
        with mine as (select distinct clip_id from label_events where batch_id = $root),
        counted as (
            select * from standing_events_but($root) where clip_id in (from mine)
            qualify {UNCOVERED}
        ),
        stood as (
            select clip_id, max_by((state, labels), event_id) as stood
            from counted group by clip_id
        )
        select clip_id, stood[1], stood[2] from stood join current_events n using (clip_id)
        where (n.state, n.labels) <> stood order by clip_id
        """,
        {"root": root},
    )
    clip_ids, states, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return LabelEvents(
        clip_ids=np.array(clip_ids, np.int64),
        states=states,
        labels=labels,
        sources=[source] * len(rows),
        evidence=[json.dumps(evidence)] * len(rows),
    )


def count_decided_clips(session: Session, roots: Sequence[int]) -> int:
    """Count the clips on which some batches decided."""
    [(n,)] = session.rows(
        "select count(distinct clip_id) from label_events "
        "where batch_id in (select unnest($roots))",
        {"roots": list(roots)},
    )
    return int(n)
