"""Which clips a store has, and what their recordings are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from labelkit.stores.columns import as_column
from labelkit.stores.session import Session


@dataclass(frozen=True)
class KnownClip:
    """A clip of the store, and the hash of its recording where that was looked at."""

    clip_id: int
    path: str
    content_hash: str | None


def count_clips(session: Session) -> int:
    """Count the clips."""
    n: int
    [(n,)] = session.rows("select count(*) from clips")
    return n


def next_clip_id(session: Session) -> int:
    """Find the id that the next clip to come in gets."""
    clip_id: int
    [(clip_id,)] = session.rows("select coalesce(max(clip_id), -1) + 1 from clip_rows")
    return clip_id


def count_known_paths(session: Session, paths: Collection[str]) -> int:
    """Count the clips that lie under one of some paths."""
    n: int
    sql = "select count(*) from clips semi join arrays using (path)"
    [(n,)] = session.rows_beside({"path": as_column(paths)}, sql)
    return n


def find_clips(session: Session, recordings: Mapping[str, str | None]) -> list[KnownClip]:
    """Find the clips that have the path or the content of one of some recordings.

    Args:
        session: The open store.
        recordings: Content hashes by path.

    Returns:
        The clips, in no promised order.
    """
    rows = session.rows_beside(
        {"path": as_column(recordings), "content_hash": as_column(recordings.values())},
        # A column of nothing but None arrives without a type, hence the casts.
        "select clip_id, path, content_hash from clips "
        "where path in (select path::varchar from arrays) "
        "or content_hash in (select content_hash::varchar from arrays)",
    )
    return [KnownClip(*row) for row in rows]


def find_shared_recordings(session: Session) -> list[str]:
    """Find the content hashes that several clips have, in order."""
    rows = session.rows(
        "select content_hash from clips where content_hash is not null "
        "group by content_hash having count(*) > 1 order by content_hash"
    )
    return [content for (content,) in rows]


def count_clips_with(session: Session, names: Collection[str]) -> int:
    """Count the clips that have one of some classes."""
    n: int
    [(n,)] = session.rows(
        "select count(*) from current_events where list_has_any(labels, "
        "(select list(class_id) from classes where name in (select unnest($names))))",
        {"names": list(names)},
    )
    return n


def count_clips_without_labels(session: Session) -> int:
    """Count the clips that are not rejected and have no label."""
    n: int
    [(n,)] = session.rows(
        "select count(*) from current_events where len(labels) = 0 and state <> 'rejected'"
    )
    return n


def find_clips_with_several(session: Session, most: int = 3) -> tuple[list[str], int]:
    """Find clips that have several labels: the first few paths, and how many there are."""
    rows = session.rows(
        "select path, count(*) over () from current_events join clips using (clip_id) "
        "where len(labels) > 1 order by path limit ?",
        [most],
    )
    return [path for path, _ in rows], rows[0][1] if rows else 0


def find_import(session: Session, path: str) -> int | None:
    """Find the batch that brought the clip of a path in; None if there is no such clip."""
    rows = session.rows("select batch_id from clips where path = ?", [path])
    return rows[0][0] if rows else None
