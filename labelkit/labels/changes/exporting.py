"""From the store to the file of a change set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from labelkit.files import replacing
from labelkit.labels.changes.change_set import (
    ChangeBatch,
    ChangeSet,
    NamedEvent,
    NamedVerdict,
    Origin,
    PriorState,
    format_changes,
)
from labelkit.labels.changes.origins import read_origins
from labelkit.progress import say
from labelkit.project import Project, check_target
from labelkit.stores import change_rows
from labelkit.stores.as_of import find_batch
from labelkit.stores.change_rows import EventRow, HistorySlice, VerdictRow
from labelkit.stores.clips import find_shared_recordings
from labelkit.stores.session import Session

# Changes of classes and clips that are named.
_NAMED = 5
_T = TypeVar("_T")


def export_changes(
    project: Project,
    file: Path,
    *,
    since: str | None = None,
    people: bool = False,
    force: bool = False,
) -> dict[str, int]:
    """Write what became of the labels, for another copy of the data set.

    The same store gives the same file. Runs, predictions, scores, folds and the answers of
    Label Studio as they came stay here.

    Args:
        project: Whose labels.
        file: Where to.
        since: Only batches after this moment
            (:func:`labelkit.stores.as_of.find_batch`); all if None.
        people: Only what people stand behind.
        force: Write over a file that is there.

    Returns:
        How many batches, clips, events and verdicts the file holds.

    Raises:
        InvalidInput: If ``since`` is no moment of this store, or the file is there.
    """
    file = check_target(project, file, force=force)
    with project.store.connect(read_only=True) as con:
        first = 0 if since is None else find_batch(con, since)
        changes = collect_changes(Session(con), first=first, people=people)
        left_out = change_rows.read_bookkeeping(Session(con), first)
    if left_out:
        some = "; ".join(left_out[:_NAMED]) + ("; ..." if len(left_out) > _NAMED else "")
        say(
            f"{len(left_out)} batches changed classes and clips rather than labels ({some}): the "
            "set speaks of them as they are called here; do the same in the other copy first"
        )
    text = format_changes(changes).encode()
    with replacing(file) as out:
        out.write(text)
    return {
        "batches": len(changes.batches),
        "clips": sum(len(batch.clips) for batch in changes.batches),
        "events": sum(len(batch.events) for batch in changes.batches),
        "verdicts": sum(len(batch.verdicts) for batch in changes.batches),
    }


def collect_changes(session: Session, *, first: int = 0, people: bool = False) -> ChangeSet:
    """Collect what became of labels after a batch.

    Args:
        session: The open store.
        first: The last batch to leave out.
        people: Only what people stand behind.
    """
    wanted = HistorySlice(after=first, people=people)
    described = read_origins(session)
    origins = {batch_id: origin for batch_id, (origin, _) in described.items()}
    classes = change_rows.read_new_classes(session)
    clips = _by_batch(change_rows.read_intake(session, wanted))
    events = _by_batch(
        (row.batch_id, _name_event(row, origins))
        for row in change_rows.read_events(session, wanted)
    )
    verdicts = _by_batch(
        (row.batch_id, _name_verdict(row)) for row in change_rows.read_verdicts(session, wanted)
    )
    batches = tuple(
        ChangeBatch(
            origin=origins[batch.batch_id], kind=batch.kind, actor=batch.actor,
            by_person=batch.by_person, reason=described[batch.batch_id][1],
            undoes=None if batch.undoes is None else origins[batch.undoes],
            classes=tuple(classes.get(batch.batch_id, ())), clips=tuple(clips[batch.batch_id]),
            events=tuple(events[batch.batch_id]), verdicts=tuple(verdicts[batch.batch_id]),
        )
        for batch in change_rows.read_label_batches(session, wanted)
    )  # fmt: skip
    made_at, since = change_rows.read_times(session, first)
    named = {content for batch in batches for _, content in batch.recordings()}
    return ChangeSet(
        store_id=change_rows.read_store_id(session), made_at=made_at, since=since, people=people,
        classes=tuple(session.classes()), batches=batches,
        shared_recordings=tuple(
            content for content in find_shared_recordings(session) if content in named
        ),
    )  # fmt: skip


def _by_batch(rows: Iterable[tuple[int, _T]]) -> defaultdict[int, list[_T]]:
    found: defaultdict[int, list[_T]] = defaultdict(list)
    for batch_id, row in rows:
        found[batch_id].append(row)
    return found


def _name_event(row: EventRow, origins: dict[int, Origin]) -> NamedEvent:
    evidence = row.evidence
    if row.run_id is not None:
        # The run stays here, its name tells who judged.
        evidence = (evidence or {}) | {"run": row.run_id}
    return NamedEvent(
        path=row.path, content_hash=row.content_hash, state=row.state, labels=row.labels,
        before=PriorState(
            state=row.state_before, labels=row.labels_before, batch=origins[row.batch_before].id
        ),
        source=row.source, score=row.score, iteration=row.iteration, evidence=evidence,
    )  # fmt: skip


def _name_verdict(row: VerdictRow) -> NamedVerdict:
    return NamedVerdict(
        path=row.path, content_hash=row.content_hash, name=row.class_name, verdict=row.verdict,
        rule=row.rule, score=row.score, start_s=row.start_s, end_s=row.end_s,
    )  # fmt: skip
