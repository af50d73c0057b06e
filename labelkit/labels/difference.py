"""What changed between two moments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from labelkit.errors import InvalidInput
from labelkit.project import Project
from labelkit.records import STATES
from labelkit.stores.as_of import find_batch
from labelkit.stores.session import Session


def diff(project: Project, a: str, b: str | None = None) -> list[dict[str, Any]]:
    """Clips that are not at one moment what they were at an earlier one.

    Args:
        project: The project.
        a: The earlier moment: a batch, a date, a time, or a run, for the labels it read.
        b: The later one; now if None.

    Returns:
        Rows of labels and state before and after, None before for clips that came in
        between, and of who touched the clip last, when and why; in the order of the paths.

    Raises:
        InvalidInput: If there is no such moment, or ``b`` lies before ``a``.
    """
    columns = (
        "path before after state_before state_after made_at batch_id kind actor by_person reason"
    )
    with project.store.connect(read_only=True) as con:
        session = Session(con)
        first = find_batch(con, a)
        last = session.last_batch() if b is None else find_batch(con, b)
        if last < first:
            raise InvalidInput(
                f"{b} (batch {last}) lies before {a} (batch {first}); turn them round"
            )
        rows = session.rows(_DIFF, {"first": first, "last": last})
    return [dict(zip(columns.split(), row, strict=True)) for row in rows]


_DIFF = """
with names as (select list(name order by class_id) as names from classes),
touched as (
    select clip_id, max(event_id) as event_id from label_events
    where batch_id > $first and batch_id <= $last group by clip_id
),
old as (
    select clip_id, max(event_id) as event_id from label_events
    where batch_id <= $first and clip_id in (select clip_id from touched) group by clip_id
)
select c.path, list_select(n.names, list_transform(x.labels, lambda k: k + 1)),
       list_select(n.names, list_transform(y.labels, lambda k: k + 1)), x.state, y.state,
       y.made_at, y.batch_id, b.kind, b.actor, b.by_person, b.reason
from touched t
join label_events y on y.event_id = t.event_id
join batches b on b.batch_id = y.batch_id
join clips c on c.clip_id = t.clip_id
left join old o on o.clip_id = t.clip_id
left join label_events x on x.event_id = o.event_id
left join names n on true
where x.event_id is null or (x.labels, x.state) <> (y.labels, y.state)
order by c.path
"""


def describe_diff(rows: Sequence[dict[str, Any]]) -> str:
    """What a :func:`diff` found, in one line."""
    changed = [row for row in rows if row["before"] is not None]
    counts = Counter(row["state_after"] for row in changed if _state_changed(row))
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    relabeled = sum(row["before"] != row["after"] for row in changed)
    parts = [f"{relabeled} with other labels"] * bool(relabeled) + parts
    told = f": {', '.join(parts)}" if parts else ""
    return f"{len(changed)} clips changed{told}; {len(rows) - len(changed)} came in"


def _state_changed(row: dict[str, Any]) -> bool:
    return row["state_before"] != row["state_after"]
