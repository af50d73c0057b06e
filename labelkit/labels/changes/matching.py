"""Which clips of a store those of a change set are, and what was said of them here."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from labelkit.labels.changes.change_set import ChangeSet, Origin, Part
from labelkit.labels.changes.merge import Word
from labelkit.stores.columns import as_column
from labelkit.stores.session import Session


@dataclass
class Match:
    """Clip ids by the path in the set, and a row for each clip that is not what it says."""

    clip_ids: dict[str, int]
    rows: list[dict[str, Any]]


def clash(*cells: str | None) -> dict[str, Any]:
    """One row of the report."""
    columns = ("path", "what", "ours", "theirs", "kept", "why")
    return dict(zip(columns, cells, strict=True))


def match_clips(session: Session, changes: ChangeSet, parts: Iterable[Part]) -> Match:
    """Find the clips of some batches of a set by path, and those not there by their content.

    Args:
        session: The open store.
        changes: The set.
        parts: The batches to be brought in.
    """
    contents: dict[str, str | None] = {}
    for part in parts:
        contents |= dict(part.recordings())
    there = session.rows_beside(
        {"path": as_column(contents), "content_hash": as_column(contents.values())},
        # A column of nothing but None arrives without a type, hence the casts.
        "select clip_id, path, content_hash from clips "
        "where path in (select path::varchar from arrays) "
        "or content_hash in (select content_hash::varchar from arrays)",
    )
    by_path = {path: (clip_id, content) for clip_id, path, content in there}
    by_content: dict[str, list[int]] = defaultdict(list)
    for clip_id, _, content in there:
        by_content[content].append(clip_id)
    found = Match({}, [])
    for path, content in contents.items():
        if path in by_path:
            clip_id, own = by_path[path]
            if content is not None and own is not None and own != content:
                why = "another recording lies under this path"
                found.rows.append(clash(path, "recording", own, content, "ours", why))
            else:
                found.clip_ids[path] = clip_id
    missing = {path: content for path, content in contents.items() if path not in by_path}
    # A content that is there twice, here or there, tells no clip.
    shared, wanted = {*changes.shared_recordings}, Counter(missing.values())
    taken = {*found.clip_ids.values()}
    for path, content in missing.items():
        if content is None or content in shared or wanted[content] > 1:
            continue
        ids = by_content[content]
        if len(ids) == 1 and ids[0] not in taken:
            found.clip_ids[path] = ids[0]
    return found


def read_words(
    session: Session, clip_ids: Iterable[int], origins: dict[int, tuple[Origin, str]]
) -> dict[int, Word]:
    """What clips are here and who made them so, by clip id.

    Args:
        session: The open store.
        clip_ids: The clips.
        origins: Origin and first reason of every batch.
    """
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
        clip_id: Word(
            state=state, labels=tuple(sorted(names[label] for label in labels)),
            by_person=by_person, actor=actor, batch=origins[batch_id][0].id,
            made_at=time_given(origins[batch_id][0], evidence and json.loads(evidence)),
            intake=intake, undo=undo,
        )
        for clip_id, batch_id, state, labels, by_person, actor, intake, undo, evidence in rows
    }  # fmt: skip


def time_given(origin: Origin, evidence: dict[str, Any] | None) -> datetime:
    """When a word was given: an answer says so itself."""
    said = (evidence or {}).get("answered_at")
    return origin.made_at if said is None else datetime.fromisoformat(said)


def read_last_verdicts(
    session: Session, clip_ids: Iterable[int], origins: dict[int, tuple[Origin, str]]
) -> dict[tuple[int, str, str], datetime]:
    """When each person last said something that stands of a clip and class.

    Returns:
        The time by clip id, class and person.
    """
    last: dict[tuple[int, str, str], datetime] = {}
    for clip_id, name, actor, batch_id in session.rows_beside(
        _ids(clip_ids),
        "select distinct v.clip_id, k.name, b.actor, v.batch_id from label_verdicts v "
        "join batches b on b.batch_id = v.batch_id join classes k on k.class_id = v.class_id "
        "where b.by_person and v.start_s is null "
        "and v.clip_id in (select clip_id from arrays) "
        "and v.batch_id not in (select batch_id from taken_back)",
    ):
        when = origins[batch_id][0].made_at
        last[clip_id, name, actor] = max(when, last.get((clip_id, name, actor), when))
    return last


def _ids(clip_ids: Iterable[int]) -> dict[str, np.ndarray]:
    return {"clip_id": np.fromiter(clip_ids, np.int64)}
