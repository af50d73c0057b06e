"""Taking back a batch: facts stay, what followed from them is set right by another batch."""

from __future__ import annotations

from typing import Any

from labelkit.errors import InvalidInput
from labelkit.records import Batch, LabelEvent
from labelkit.workflows.progress import say
from labelkit.workflows.project import Project, user

KIND = "undo"


def undo(project: Project, batch_id: int) -> dict[str, Any]:
    """Give the clips of a batch the state and labels they would have without it.

    That is what the last batch that stands made of them, so clips on which something was
    decided since then keep that. An undo is a batch, too, and can be taken back like any
    other; what it had undone then stands again.

    Args:
        project: Where the batch is.
        batch_id: The batch to take back.

    Returns:
        The new batch, how many clips it sets back, and how many were left alone.

    Raises:
        InvalidInput: If there is no such batch, it was taken back already, or it brought
            clips in.
    """
    with project.store.write() as session:
        found = session.rows("select kind, reason, by_person from batches where batch_id = ?",
                             [batch_id])  # fmt: skip
        if not found:
            raise InvalidInput(f"no batch {batch_id}; see: labelkit query 'select * from batches'")
        kind, reason, by_person = found[0]
        done = session.rows("select batch_id from batches where undoes = ?", [batch_id])
        if done:
            raise InvalidInput(f"batch {batch_id} was taken back by batch {done[0][0]} already")
        if session.rows("select 1 from clips where batch_id = ? limit 1", [batch_id]):
            raise InvalidInput(f"batch {batch_id} brought clips in; their import cannot be undone")
        undid = dict(session.rows("select batch_id, undoes from batches where undoes is not null"))
        root = batch_id
        while root in undid:
            root = undid[root]
        away = {*session.taken_back()} ^ {root}
        rows = session.rows(
            "with mine as (select distinct clip_id from label_events where batch_id = $root) "
            "select m.clip_id, max_by(e.state, e.event_id), max_by(e.labels, e.event_id), "
            "max_by(e.state, e.event_id) filter (stands), "
            "max_by(e.labels, e.event_id) filter (stands) "
            "from mine m join (select clip_id, event_id, state, labels, undoes is null "
            # That a task was tidied away is told, and decides nothing.
            "    and not list_contains($away, batch_id) "
            "    and coalesce(json_extract_string(evidence, '$.answer'), '') <> 'task_deleted' "
            "    as stands from label_events "
            "    join batches using (batch_id)) e on e.clip_id = m.clip_id "
            "group by m.clip_id order by m.clip_id",
            {"root": root, "away": sorted(away)},
        )
        events = [
            LabelEvent(clip_id=clip_id, state=state, labels=labels, source=KIND,
                       evidence={"undoes": batch_id})
            for clip_id, *now, state, labels in rows
            if now != [state, labels]
        ]  # fmt: skip
        verdicts = session.rows(
            "select count(*) from label_verdicts where batch_id = ?", [batch_id]
        )[0][0]
        answers = session.rows("select count(*) from reviews where batch_id = ?", [batch_id])[0][0]
        if not events and not verdicts and not answers and kind != KIND:
            raise InvalidInput(f"batch {batch_id} ({kind}) changed nothing that still stands")
        receipt = session.append(
            Batch(
                key=f"{KIND}:{batch_id}",
                kind=KIND,
                actor=user(),
                by_person=by_person,
                reason=f"takes back batch {batch_id}: {reason}",
                undoes=batch_id,
                events=events,
            )
        )
    if kind == "review":
        say("answers of others on these clips are counted anew with: labelkit pull --full")
    left = len(rows) - len(events)
    if left:
        say(f"{left} clips stay as they are: other batches that stand made them so")
    return {
        "batch": receipt.batch_id, "undoes": batch_id, "clips": len(events), "left": left,
        "verdicts": verdicts,
    }  # fmt: skip
