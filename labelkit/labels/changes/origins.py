"""Where batches were first made; one that was brought in keeps that in its key and reason."""

from __future__ import annotations

import json
from datetime import datetime

from labelkit.labels.changes.change_set import Origin
from labelkit.stores.session import Session

_KEY, _OF, _JSON = "changes:", "; changes of ", '{"key": '


def name_batch(origin: Origin, reason: str) -> tuple[str, str]:
    """Key and reason of a batch that is brought in.

    Example:
        >>> name_batch(Origin(key="k", made_at=datetime(2026, 1, 1), store_id="s"), "why")[1]
        'why; changes of {"key": "k", "made_at": "2026-01-01T00:00:00", "store_id": "s"}'
    """
    told = json.dumps(describe_origin(origin), ensure_ascii=False)
    return _KEY + origin.id, f"{reason}{_OF}{told}"


def describe_origin(origin: Origin) -> dict[str, str]:
    """An origin as JSON holds it."""
    return {
        "key": origin.key, "made_at": origin.made_at.isoformat(), "store_id": origin.store_id
    }  # fmt: skip


def find_origin(own: Origin, reason: str) -> tuple[Origin, str]:
    """Where a batch was first made, and its first reason.

    Args:
        own: What it would be if it was made in this store.
        reason: Its reason here.
    """
    if own.key.startswith(_KEY):
        # Quotes within JSON are escaped, so the last of these begins it.
        before, mark, told = reason.rpartition(_OF + _JSON)
        try:
            said = json.loads(_JSON + told) if mark else {}
            found = Origin(**said | {"made_at": datetime.fromisoformat(said["made_at"])})
        except (ValueError, KeyError, TypeError):
            return own, reason
        if own.key == _KEY + found.id:
            return found, before
    return own, reason


def read_origins(session: Session) -> dict[int, tuple[Origin, str]]:
    """Origin and first reason of every batch, by its number here."""
    [(store_id,)] = session.rows("select store_id from store_info")
    return {
        batch_id: find_origin(Origin(key=key, made_at=made_at, store_id=store_id), reason)
        for batch_id, key, made_at, reason in session.rows(
            "select batch_id, batch_key, made_at, reason from batches order by batch_id"
        )
    }
