"""Where batches were first made; one that was brought in keeps that in its key and reason."""

from __future__ import annotations

import json
from datetime import datetime

from labelkit.labels.changes.change_set import Origin
from labelkit.stores.change_rows import read_batches, read_store_id
from labelkit.stores.session import Session

_KEY, _OF, _JSON = "changes:", "; changes of ", '{"key": '


def name_batch(origin: Origin, reason: str) -> tuple[str, str]:
    """Make key and reason of a batch that is brought in.

    Example:
        >>> name_batch(Origin(key="k", made_at=datetime(2026, 1, 1), store_id="s"), "why")[1]
        'why; changes of {"key": "k", "made_at": "2026-01-01T00:00:00", "store_id": "s"}'
    """
    described = json.dumps(describe_origin(origin), ensure_ascii=False)
    return _KEY + origin.id, f"{reason}{_OF}{described}"


def describe_origin(origin: Origin) -> dict[str, str]:
    """Describe an origin as JSON holds it."""
    return {
        "key": origin.key, "made_at": origin.made_at.isoformat(), "store_id": origin.store_id
    }  # fmt: skip


def find_origin(own: Origin, reason: str) -> tuple[Origin, str]:
    """Find where a batch was first made, and its first reason.

    Args:
        own: What it would be if it was made in this store.
        reason: Its reason here.
    """
    if own.key.startswith(_KEY):
        # Quotes within JSON are escaped, so the last of these begins it.
        before, mark, described = reason.rpartition(_OF + _JSON)
        try:
            values = json.loads(_JSON + described) if mark else {}
            found = Origin(**values | {"made_at": datetime.fromisoformat(values["made_at"])})
        except (ValueError, KeyError, TypeError):
            return own, reason
        if own.key == _KEY + found.id:
            return found, before
    return own, reason


def read_origins(session: Session) -> dict[int, tuple[Origin, str]]:
    """Read origin and first reason of every batch, by its number here."""
    store_id = read_store_id(session)
    return {
        batch.batch_id: find_origin(
            Origin(key=batch.key, made_at=batch.made_at, store_id=store_id), batch.reason
        )
        for batch in read_batches(session)
    }
