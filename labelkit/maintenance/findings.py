"""What an examination finds: a check, how it stands, in words, and what helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from labelkit.stores.checks import Offenders
from labelkit.stores.session import Session

OK, WARNING, PROBLEM = "ok", "warning", "problem"
RESTORE = "labelkit restore FILE"
REPAIR = "labelkit doctor --repair"

Check = Callable[[Session], Iterator["Finding"]]


@dataclass(frozen=True)
class Finding:
    """What one check found; ``remedy`` is empty where none is needed."""

    check: str
    state: str
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Rule:
    """A question for rows that should not be, and what it means if there are some, or none.

    ``wrong`` has places for ``{n}`` and ``{named}``, ``right`` for ``{n_examined}``.
    """

    find: Callable[[Session], Offenders]
    wrong: str
    right: str = ""
    state: str = PROBLEM
    remedy: str = RESTORE


def conclude(
    check: str,
    found: Offenders,
    wrong: str,
    right: str,
    *,
    state: str = PROBLEM,
    remedy: str = RESTORE,
) -> Finding:
    """Put into words how many rows there are that should not be, and the first few."""
    if not found.n:
        return Finding(check, OK, right.format(n_examined=found.n_examined))
    more = ", ..." if found.n > len(found.named) else ""
    what = wrong.format(n=found.n, named=", ".join(found.named) + more)
    return Finding(check, state, what, remedy)


def follow(check: str, rules: Sequence[Rule]) -> Check:
    """Make a check that asks and judges by some rules, one after the other."""

    def examine(session: Session) -> Iterator[Finding]:
        for rule in rules:
            yield conclude(
                check, rule.find(session), rule.wrong, rule.right,
                state=rule.state, remedy=rule.remedy,
            )  # fmt: skip

    return examine
