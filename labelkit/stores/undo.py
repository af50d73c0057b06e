"""What taking batches back needs to know of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelkit.records import ClassChange, ClipChange, LabelEvents
from labelkit.stores.append import IMPORTED_FOLDS
from labelkit.stores.session import Session
from labelkit.stores.views import STANDING, UNCOVERED


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
    root_reason: str


def has_batch(session: Session, batch_id: int) -> bool:
    """Tell whether there is a batch of this number."""
    return bool(session.rows("select 1 from batches where batch_id = ?", [batch_id]))


@dataclass(frozen=True, kw_only=True)
class RestoredThings:
    """What classes, clips and facts are again without a batch, and whose word stands instead.

    ``overruled`` names what was changed once more since, and the batch that did.
    """

    classes: list[ClassChange]
    clips: list[ClipChange]
    facts: dict[str, str | None]
    overruled: list[tuple[str, int]]

    def __bool__(self) -> bool:
        return bool(self.classes or self.clips or self.facts)


_CLASS_LOG = """
select class_id as id, batch_id, name, null as into_id, false as retired from class_rows
union all select class_id, batch_id, name, into_id, retired from class_changes
"""
_CLIP_LOG = """
select clip_id as id, batch_id, path, false as gone from clip_rows
union all select clip_id, batch_id, path, gone from clip_changes
"""
_FACT_LOG = "select name as id, batch_id, value from facts"


def restored_things(session: Session, batch_id: int) -> RestoredThings:
    """Find what classes, clips and facts were before a batch changed them, or brought them in.

    A class that came with the batch stays where clips of other batches have it.

    Args:
        session: The open store.
        batch_id: The batch to take back, an undo perhaps.
    """
    overruled: list[tuple[str, int]] = []

    def before(log: str, columns: str) -> list[tuple[Any, Any, Any]]:
        """List each thing the batch touched: id, what it was before the batch, what it is now."""
        rows = session.rows(
            f"""
            with log as ({log}),
            mine as (select id, {columns} as mine from log where batch_id = $batch),
            old as (select id, max_by({columns}, batch_id) as old from log
                    where batch_id < $batch group by id),
            now as (select id, max_by({columns}, batch_id) as now, max(batch_id) as last
                    from log group by id)
            select id, old, mine, now, last from mine left join old using (id)
            join now using (id) order by id
            """,
            {"batch": batch_id},
        )
        # What came with the batch goes with it, also under another name it got since.
        mine = [
            row for row in rows if row[3] == row[2] or (row[1] is None and row[3][1:] == row[2][1:])
        ]
        overruled.extend((str(row[3][0]), row[4]) for row in rows if row not in mine)
        return [(row[0], row[1], row[3]) for row in mine]

    clips = [
        ClipChange(
            clip_id=clip_id, path=(old or now)[0], gone=old[1] if old else True
        )
        for clip_id, old, now in before(_CLIP_LOG, "(path, gone)")
    ]  # fmt: skip
    root = find_root(session, batch_id)
    used = _classes_used_beside(session, root)
    # Who had a class when it was retired does not need it any more.
    used_since = _classes_used_beside(session, root, since=batch_id)
    classes = [
        ClassChange(
            class_id=class_id, name=(old or now)[0], into=old[1] if old else None,
            retired=old[2] if old else True,
        )
        for class_id, old, now in before(_CLASS_LOG, "(name, into_id, retired)")
        # It would go, or go again.
        if not (old[2] if old else True) or class_id not in (used_since if old else used)
    ]  # fmt: skip
    facts = {
        name: old[0] if old else None for name, old, _ in before(_FACT_LOG, "row(value)")
    }  # fmt: skip
    return RestoredThings(classes=classes, clips=clips, facts=facts, overruled=overruled)


def _classes_used_beside(session: Session, batch_id: int, *, since: int = 0) -> set[int]:
    """Find the numbers in ``class_rows`` of classes that clips have which a batch did not bring.

    A class that others were merged into is one that their clips have.

    Args:
        session: The open store.
        batch_id: The batch.
        since: Look only at what was said after this batch.
    """
    rows = session.rows(
        """
        with others as (
            select clip_id from clip_rows where batch_id <> $batch
        )
        select distinct unnest(labels) from event_rows semi join others using (clip_id)
        where batch_id <> $batch and batch_id > $since and batch_id not in (from taken_back)
        union select class_id from verdict_rows semi join others using (clip_id)
        where batch_id <> $batch and batch_id > $since and batch_id not in (from taken_back)
        """,
        {"batch": batch_id, "since": since},
    )
    vocabulary = session.vocabulary()
    places = vocabulary.places
    standing = {places[class_id] for (class_id,) in rows} - {None}
    return {vocabulary.stored[place] for place in standing if place is not None}


def find_built_on(session: Session, batch_id: int) -> list[str]:
    """Tell in words what was built on the clips that a batch brought in; nothing if it is empty.

    What was taken back since does not count, but runs do, which judged or learnt them.
    """
    session.execute(
        "create or replace temp table mine as select clip_id from clip_rows where batch_id = "
        f"{batch_id:d} and clip_id in (select clip_id from clips)"
    )
    other = f"batch_id <> {batch_id:d} and batch_id not in (from taken_back)"
    decided = session.rows(
        f"""
        select b.batch_id, b.kind, count(distinct clip_id) from (
            select batch_id, clip_id from event_rows semi join mine using (clip_id) where {other}
            union all
            select batch_id, clip_id from verdict_rows semi join mine using (clip_id) where {other}
        ) join batches b using (batch_id) where b.undoes is null group by all order by all
        """
    )
    runs = session.rows(
        """
        select distinct coalesce(r.part_of, r.run_id) from runs r where r.run_id in (
            select run_id from predictions semi join mine using (clip_id)
            union select run_id from score_rows semi join mine using (clip_id)
        ) or len(list_intersect(r.trained_on, (select list(clip_id) from mine))) > 0 order by 1
        """
    )
    dealt = session.rows(
        "select fold_set, count(*) from fold_rows semi join mine using (clip_id) "
        "where fold_set <> ? group by fold_set order by 1",
        [IMPORTED_FOLDS],
    )
    [(sent,)] = session.rows(
        "select count(distinct clip_id) from review_task_rows semi join mine using (clip_id)"
    )
    session.execute("drop table mine")
    return [
        *(f"batch {number} ({kind}) said something of {n} of them" for number, kind, n in decided),
        *(f"run {run_id} learnt or judged some" for (run_id,) in runs),
        *(f"fold set {name} holds {n} of them" for name, n in dealt if not runs),
        *([f"{sent} of them are tasks in Label Studio"] if sent else []),
    ]


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
        "(select count(*) from reviews where batch_id = $root), "
        "(select reason from batches where batch_id = $root) "
        "from batches where batch_id = $batch",
        {"batch": batch_id, "root": root},
    )
    kind, reason, by_person, verdicts, answers, root_reason = row
    return BatchFacts(batch_id, kind, reason, by_person, root, verdicts, answers, root_reason)


def restored_events(
    session: Session, root: int, source: str, evidence: dict[str, Any]
) -> LabelEvents:
    """Make events for the clips of a batch that are not what stands without, or again with, it.

    Labels are numbers of ``class_rows``: what an undo does to classes does not move them. Clips
    that are gone are set right, too, for when they are back.

    Args:
        session: The open store.
        root: The batch that changes sides, no undo.
        source: Of the events.
        evidence: Of each event.
    """
    rows = session.rows(
        f"""
        with mine as (select distinct clip_id from event_rows where batch_id = $root),
        counted as (
            select * from ({STANDING.format(events="event_rows", toggled="$root")})
            where clip_id in (from mine) qualify {UNCOVERED}
        ),
        stood as (
            select clip_id, max_by((state, labels), event_id) as stood
            from counted group by clip_id
        ),
        now as (
            select clip_id, max_by((state, labels), event_id) as now
            from event_rows where clip_id in (from mine) group by clip_id
        )
        select clip_id, stood[1], stood[2] from stood join now using (clip_id)
        where now <> stood order by clip_id
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
        numbered=True,
    )


def count_decided_clips(session: Session, roots: Sequence[int]) -> int:
    """Count the clips on which some batches decided, those that are gone since among them."""
    [(n,)] = session.rows(
        "select count(distinct clip_id) from event_rows where batch_id in (select unnest($roots))",
        {"roots": list(roots)},
    )
    return int(n)
