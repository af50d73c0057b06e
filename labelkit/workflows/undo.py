"""Taking back a batch: facts stay, what followed from them is set right by another batch."""

from __future__ import annotations

from typing import Any

from labelkit.errors import InvalidInput
from labelkit.records import Batch, LabelEvent
from labelkit.workflows.progress import say
from labelkit.workflows.project import Project, user

KIND = "undo"


def undo(project: Project, batch_id: int) -> dict[str, Any]:
    """Give the clips of a batch back the state and labels they had before it.

    Clips on which something was decided since then keep that. An undo is a batch, too, and
    can be taken back like any other.

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
        rows = session.rows(
            "with mine as (select clip_id, max(event_id) as event_id, min(event_id) as first "
            "              from label_events where batch_id = ? group by clip_id) "
            "select m.clip_id, m.event_id = (select max(event_id) from label_events e "
            "           where e.clip_id = m.clip_id), "
            "       max_by(b.state, b.event_id), max_by(b.labels, b.event_id) "
            "from mine m join label_events b on b.clip_id = m.clip_id and b.event_id < m.first "
            "group by m.clip_id, m.event_id order by m.clip_id",
            [batch_id],
        )
        events = [
            LabelEvent(clip_id=clip_id, state=state, labels=labels, source=KIND,
                       evidence={"undoes": batch_id})
            for clip_id, newest, state, labels in rows
            if newest
        ]  # fmt: skip
        verdicts = session.rows(
            "select 1 from label_verdicts where batch_id = ? limit 1", [batch_id]
        )
        if not events and not verdicts and kind != KIND:
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
    left = len(rows) - len(events)
    if left:
        say(f"{left} clips were decided on since, and stay")
    return {"batch": receipt.batch_id, "undoes": batch_id, "clips": len(events), "left": left}
