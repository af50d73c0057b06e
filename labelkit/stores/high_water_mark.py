"""The high-water mark: the number of the last batch, in a file beside the store.

A store whose last commits are lost looks like one that never had them (a log cut short, a
file put back from yesterday). What lies beside it remembers.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labelkit.files import replacing


@dataclass(frozen=True)
class HighWaterMark:
    """The last batch that was acknowledged, its key, and the store it belongs to."""

    store_id: str
    batch_id: int
    batch_key: str


def mark_path(store: Path) -> Path:
    """Return where the high-water mark of a store lies."""
    return store.with_name(f"{store.name}.hwm")


def read_mark(store: Path) -> HighWaterMark | None:
    """Read what the high-water mark of a store says; None if there is none, or none readable."""
    try:
        said = json.loads(mark_path(store).read_text(encoding="utf-8"))
        return HighWaterMark(str(said["store_id"]), int(said["batch_id"]), str(said["batch_key"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_mark(store: Path, mark: HighWaterMark) -> None:
    """Remember the last batch, so that it lasts."""
    with replacing(mark_path(store)) as file:
        file.write(json.dumps(asdict(mark)).encode())


def last_batch(con: Any) -> HighWaterMark:
    """Read what the high-water mark of an open store should say."""
    return HighWaterMark(
        *con.execute(
            "select (select store_id from store_info), coalesce(max(batch_id), 0), "
            "coalesce(max_by(batch_key, batch_id), '') from batches"
        ).fetchone()
    )


def missing_batches(store: Path, con: Any, found: HighWaterMark) -> str:
    """Tell what is lost of an open store, in words; empty if nothing is.

    Args:
        store: Its file.
        con: A connection to it.
        found: What its high-water mark says.
    """
    name, last = mark_path(store).name, last_batch(con)
    if found.store_id != last.store_id:
        return f"{name} is of another store"
    if last.batch_id < found.batch_id:
        return f"it ends at batch {last.batch_id}, but batch {found.batch_id} was acknowledged"
    key = con.execute("select batch_key from batches where batch_id = ?", [found.batch_id])
    if found.batch_id and key.fetchone() != (found.batch_key,):
        # A copy that went its own way may be as long.
        return f"batch {found.batch_id} is another one than {name} tells of: the file was replaced"
    return ""
