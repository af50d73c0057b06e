"""Which clips of a store those of a change set are, and what was said of them here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labelkit.labels.changes.change_set import ChangeBatch, ChangeSet, Origin
from labelkit.labels.changes.merge import ClipState
from labelkit.stores.change_rows import find_person_verdicts, read_states
from labelkit.stores.clips import find_clips
from labelkit.stores.session import Session


@dataclass
class Match:
    """Clip ids by the path in the set, and a row for each clip that is not what it says."""

    clip_ids: dict[str, int]
    rows: list[dict[str, Any]]


def conflict_row(*cells: str | None) -> dict[str, Any]:
    """Make one row of the report."""
    columns = ("path", "what", "ours", "theirs", "kept", "why")
    return dict(zip(columns, cells, strict=True))


def match_clips(session: Session, changes: ChangeSet, batches: Iterable[ChangeBatch]) -> Match:
    """Find the clips of some batches of a set by path, and those not there by their content.

    Args:
        session: The open store.
        changes: The set.
        batches: Those of its batches that are to be brought in.
    """
    contents: dict[str, str | None] = {}
    for batch in batches:
        contents |= dict(batch.recordings())
    known = find_clips(session, contents)
    by_path = {clip.path: clip for clip in known}
    by_content: dict[str | None, list[int]] = defaultdict(list)
    for clip in known:
        by_content[clip.content_hash].append(clip.clip_id)
    found = Match({}, [])
    for path, content in contents.items():
        if path in by_path:
            own = by_path[path].content_hash
            if content is not None and own is not None and own != content:
                why = "another recording lies under this path"
                found.rows.append(conflict_row(path, "recording", own, content, "ours", why))
            else:
                found.clip_ids[path] = by_path[path].clip_id
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


def read_clip_states(
    session: Session, clip_ids: Iterable[int], origins: dict[int, tuple[Origin, str]]
) -> dict[int, ClipState]:
    """Read what clips are here and who made them so, by clip id.

    Args:
        session: The open store.
        clip_ids: The clips.
        origins: Origin and first reason of every batch.
    """
    found = {}
    for clip_id, row in read_states(session, clip_ids).items():
        origin, _ = origins[row.batch_id]
        found[clip_id] = ClipState(
            state=row.state, labels=row.labels, by_person=row.by_person, actor=row.actor,
            batch=origin.id, made_at=find_time(origin, row.evidence), intake=row.intake,
            undo=row.undo,
        )  # fmt: skip
    return found


def find_time(origin: Origin, evidence: dict[str, Any] | None) -> datetime:
    """Find when a clip was given its state: an answer says so itself."""
    answered_at = (evidence or {}).get("answered_at")
    return origin.made_at if answered_at is None else datetime.fromisoformat(answered_at)


def read_verdict_times(
    session: Session, clip_ids: Iterable[int], origins: dict[int, tuple[Origin, str]]
) -> dict[tuple[int, str, str], datetime]:
    """Read when each person last said something that stands of a clip and class.

    Args:
        session: The open store.
        clip_ids: The clips.
        origins: Origin and first reason of every batch.

    Returns:
        The time by clip id, class and person.
    """
    last: dict[tuple[int, str, str], datetime] = {}
    for verdict in find_person_verdicts(session, clip_ids):
        key = verdict.clip_id, verdict.class_name, verdict.actor
        made_at = origins[verdict.batch_id][0].made_at
        last[key] = max(made_at, last.get(key, made_at))
    return last
