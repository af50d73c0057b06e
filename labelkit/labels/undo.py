"""Taking back batches: facts stay, what followed from them is set right by other batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelkit.errors import InvalidInput
from labelkit.progress import say
from labelkit.project import Project, user
from labelkit.records import MACHINE_STATES, Batch, LabelEvents
from labelkit.stores.append import WriteSession
from labelkit.stores.as_of import read_number
from labelkit.stores.session import Session

KIND = "undo"


@dataclass(frozen=True)
class _Undone:
    """What became of one batch: the undo, the clips it set back, and what else fell with it."""

    batch: int
    undoes: int
    kind: str
    clips: int
    verdicts: int


class _OnlyTried(Exception):
    """Ends a transaction of which nothing is to be kept."""


def undo(project: Project, target: int | str, *, dry_run: bool = False) -> dict[str, Any]:
    """Give the clips of a batch, or of all batches of a run, what they would have without it.

    That is what the last batch that stands made of them, of people before machines, so clips
    on which something was decided since then keep that. An undo is a batch, too, and can be
    taken back like any other; what it had undone then stands again. Of a run each batch that
    stands is taken back by one of its own, all of them or none.

    Args:
        project: Where the batch is.
        target: The number of the batch, or the id of the run.
        dry_run: Only say what would be done.

    Returns:
        The new batches and what they take back, how many clips are set back, how many are
        left alone, and how many verdicts no longer count; ``batch`` and ``undoes`` are
        lists for a run, and ``batch`` is None where nothing was written.

    Raises:
        InvalidInput: If there is no such batch or run, it was taken back already, it brought
            clips in, or it changed nothing.
    """
    word = str(target).strip()
    found: list[_Undone] = []
    with suppress(_OnlyTried), project.store.write() as session:
        if word.isdecimal():
            mine = [_tip(session, read_number(word))]
            found = [_take_back(session, *mine)]
            if _is_empty(found[0]) and found[0].kind != KIND:
                raise InvalidInput(
                    f"batch {word} ({found[0].kind}) changed nothing that still stands"
                )
        else:
            mine = _standing_batches(session, word)
            found = [_take_back(session, batch_id) for batch_id in mine]
        touched = _count_clips(session, mine)
        if dry_run:
            raise _OnlyTried
    if any(done.kind == "review" for done in found) and not dry_run:
        say("answers of others on these clips are counted anew with: labelkit pull --full")
    clips = sum(done.clips for done in found)
    if touched > clips:
        say(f"{touched - clips} clips stay as they are: other batches that stand made them so")
    batches: list[Any] = [None if dry_run else done.batch for done in found]
    undoes: list[Any] = [done.undoes for done in found]
    of_run = not word.isdecimal()
    return {
        "batch": (None if dry_run else batches) if of_run else batches[0],
        "undoes": undoes if of_run else undoes[0],
        "clips": clips,
        "left": touched - clips,
        "verdicts": sum(done.verdicts for done in found),
    }


def _tip(session: Session, batch_id: int) -> int:
    """The batch to take back so that a batch stands no more: itself, or what brought it back.

    Raises:
        InvalidInput: If there is no such batch, it does not stand, or it brought clips in.
    """
    if not session.rows("select 1 from batches where batch_id = ?", [batch_id]):
        raise InvalidInput(f"no batch {batch_id}; see: labelkit log")
    line = [batch_id, *_line(session, batch_id)]
    if not len(line) % 2:
        raise InvalidInput(f"batch {batch_id} was taken back by batch {line[-1]} already")
    if session.rows("select 1 from clips where batch_id = ? limit 1", [batch_id]):
        raise InvalidInput(f"batch {batch_id} brought clips in; their import cannot be undone")
    return line[-1]


def _line(session: Session, batch_id: int) -> list[int]:
    """The undo of a batch, the undo of that one, and so on."""
    rows = session.rows(
        "with recursive line as (select ?::bigint as batch_id union all "
        "select b.batch_id from line l join batches b on b.undoes = l.batch_id) "
        "select batch_id from line order by batch_id",
        [batch_id],
    )
    return [found for (found,) in rows[1:]]


def _standing_batches(session: Session, run_id: str) -> list[int]:
    """What to take back of a run: its batches that decided something and stand, oldest first.

    In this order each clip is set back once, by the undo of the batch that had the last word.

    Raises:
        InvalidInput: If there is no such run, or nothing of it stands.
    """
    # A run names its batches after itself; those that only were judged by it are others'.
    mine = session.rows(
        "select batch_id from batches where (batch_key = $run or starts_with(batch_key, $run || "
        "'/')) and undoes is null order by batch_id",
        {"run": run_id},
    )
    if not mine or not run_id:
        raise InvalidInput(f"no batch or run {run_id!r}; see: labelkit log")
    rows = session.rows(
        "select batch_id from batches where batch_id in (select unnest($mine)) "
        "and batch_id not in (from taken_back) and (batch_id in (select batch_id from "
        "label_events) or batch_id in (select batch_id from label_verdicts)) order by batch_id",
        {"mine": [batch_id for (batch_id,) in mine]},
    )
    if not rows:
        raise InvalidInput(f"{run_id} changed nothing that still stands")
    return [_tip(session, batch_id) for (batch_id,) in rows]


def _root(session: Session, batch_id: int) -> int:
    """The batch at the start of a line of undos."""
    undid = dict(session.rows("select batch_id, undoes from batches where undoes is not null"))
    while batch_id in undid:
        batch_id = undid[batch_id]
    return batch_id


def _take_back(session: WriteSession, batch_id: int) -> _Undone:
    """Append the undo of one batch."""
    [(kind, reason, by_person)] = session.rows(
        "select kind, reason, by_person from batches where batch_id = ?", [batch_id]
    )
    root = _root(session, batch_id)
    # The root changes sides: an undo takes it out of what stands, the undo of that puts it back.
    away = {*session.taken_back()} ^ {root}
    events = _restored(session, root, sorted(away), {"undoes": batch_id})
    [(verdicts, answers)] = session.rows(
        "select (select count(*) from label_verdicts where batch_id = $root), "
        "(select count(*) from reviews where batch_id = $root)",
        {"root": root},
    )
    receipt = session.append(
        Batch(
            key=f"{KIND}:{batch_id}",
            kind=KIND,
            actor=user(),
            # What a person decided comes back as it was, whoever had covered it.
            by_person=by_person or not set(events.states) <= set(MACHINE_STATES),
            reason=f"takes back batch {batch_id}: {reason}",
            undoes=batch_id,
            events=events,
        )
    )
    return _Undone(receipt.batch_id, batch_id, kind, len(events.clip_ids), verdicts + answers)


def _restored(
    session: Session, root: int, away: Sequence[int], evidence: dict[str, Any]
) -> LabelEvents:
    """Events for the clips of a batch that are not as what stands made them.

    What a person decided last stands, whatever machines did while it was taken back; where
    no person decided, or one left it open again, the last event does.
    """
    rows = session.rows(
        """
        with told as (
            select e.clip_id, e.event_id, e.state, e.labels, b.by_person,
                   b.undoes is null and not list_contains($away, e.batch_id)
                   -- That a task was tidied away is told, and decides nothing.
                   and coalesce(json_extract_string(e.evidence, '$.answer'), '') <> 'task_deleted'
                   as stands
            from label_events e join batches b on b.batch_id = e.batch_id
            where e.clip_id in (select clip_id from label_events where batch_id = $root)
        ),
        newest as (
            select clip_id, max_by((state, labels), event_id) as now,
                   max_by((state, labels), event_id) filter (stands) as last,
                   max_by((state, labels), event_id) filter (stands and by_person) as of_person
            from told group by clip_id
        ),
        settled as (
            select clip_id, now, case when list_contains($machine, of_person[1])
                or of_person is null then last else of_person end as stood
            from newest
        )
        select clip_id, stood[1], stood[2] from settled where now <> stood order by clip_id
        """,
        {"root": root, "away": list(away), "machine": list(MACHINE_STATES)},
    )
    clip_ids, states, labels = zip(*rows, strict=True) if rows else ((), (), ())
    n = len(rows)
    return LabelEvents(
        clip_ids=np.array(clip_ids, np.int64),
        states=states,
        labels=labels,
        sources=[KIND] * n,
        evidence=[json.dumps(evidence)] * n,
    )


def _count_clips(session: Session, batch_ids: Sequence[int]) -> int:
    """Clips on which some batches, or those that they take back, decided."""
    roots = [_root(session, batch_id) for batch_id in batch_ids]
    [(n,)] = session.rows(
        "select count(distinct clip_id) from label_events "
        "where batch_id in (select unnest($roots))",
        {"roots": roots},
    )
    return n


def _is_empty(done: _Undone) -> bool:
    return not done.clips and not done.verdicts
