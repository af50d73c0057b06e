"""What an examination finds: a check, how it stands, in words, and what helps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labelkit.stores.session import Session

OK, WARNING, PROBLEM = "ok", "warning", "problem"
RESTORE = "labelkit restore FILE"
REPAIR = "labelkit doctor --repair"
_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """What one check found; ``remedy`` is empty where none is needed."""

    check: str
    state: str
    what: str
    remedy: str = ""


def judge(
    session: Session,
    check: str,
    query: str,
    wrong: Callable[[int, str], str],
    right: str,
    *,
    state: str = PROBLEM,
    remedy: str = RESTORE,
) -> Finding:
    """A finding about the rows of a query, which should have none: how many and the first few."""
    rows = session.rows(f"select *, count(*) over () from ({query}) limit {_NAMED}")
    if not rows:
        return Finding(check, OK, right)
    n = rows[0][-1]
    named = ", ".join(" ".join(map(str, row[:-1])) for row in rows)
    return Finding(check, state, wrong(n, named + (", ..." if n > len(rows) else "")), remedy)
