"""Three states of a clip made one: what it was, what it is here, and what it became elsewhere.

A person beats a machine; of two of a kind what is here stays, and is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from labelkit.states import MACHINE_STATES, may_machine_change

# What became of a clip's events: nothing to do, taken over, or left.
SAME, APPLIED, KEPT = "same", "applied", "kept"


@dataclass(frozen=True, kw_only=True)
class ClipState:
    """State of a clip and its labels by name, sorted, and who gave it them when.

    ``batch`` is the origin of the batch. ``intake`` is how the clip came in; ``undo`` took
    back what it was given before.
    """

    state: str
    labels: tuple[str, ...]
    by_person: bool
    actor: str
    made_at: datetime
    batch: str
    intake: bool = False
    undo: bool = False

    @property
    def content(self) -> tuple[str, tuple[str, ...]]:
        """State and labels."""
        return self.state, self.labels

    @property
    def human(self) -> bool:
        """Whether a person stands behind it.

        Who imports noisy labels vouches for nothing, and who takes something back not for what a
        machine had said before it.
        """
        return self.by_person and not ((self.intake or self.undo) and self.state in MACHINE_STATES)

    @property
    def decision(self) -> bool:
        """Whether a person decided, rather than brought the clip in or took something back."""
        return self.by_person and not self.intake and not self.undo

    def __str__(self) -> str:
        what = f"{self.state} {', '.join(self.labels)}".rstrip()
        return f"{what} ({self.actor}, {self.made_at:%Y-%m-%d %H:%M:%S})"


@dataclass(frozen=True, kw_only=True)
class RemoteEvent:
    """An event in the other copy: what the clip was there, and what it became.

    ``before`` is None where the clip came in; ``knew`` says whether what the clip is here
    was known there by then.
    """

    before: tuple[str, tuple[str, ...]] | None
    after: ClipState
    knew: bool


@dataclass(frozen=True)
class Merge:
    """What becomes of remote events: those from ``first`` on are applied; ``why`` is of a conflict.

    A conflict is one where both sides said something, and not the same.
    """

    outcome: str
    first: int
    why: str = ""


def merge_clip(ours: ClipState, events: Sequence[RemoteEvent]) -> Merge:
    """Decide what becomes of what others did to a clip.

    Where they began from what the clip is here, or came by it, the rest follows. A person
    here of whose decision they did not know is not led on like that.

    Args:
        ours: What the clip is here.
        events: What became of it elsewhere, the oldest first, at least one.

    Returns:
        Which of the events to apply.

    Example:
        >>> when = datetime(2026, 1, 1)
        >>> said = dict(labels=("Dog",), made_at=when)
        >>> was = ClipState(state="unverified", by_person=False, actor="a", batch="1", **said)
        >>> now = ClipState(state="verified", by_person=True, actor="b", batch="2", **said)
        >>> event = RemoteEvent(before=was.content, after=now, knew=True)
        >>> merge_clip(was, [event])
        Merge(outcome='applied', first=0, why='')
    """
    end, last = len(events), events[-1].after
    for first, event in enumerate(events):
        known = event.knew or not ours.decision
        if (
            event.before == ours.content
            and known
            and allowed(ours.state, [later.after for later in events[first:]])
        ):
            return Merge(APPLIED, first)
    if ours.content == last.content:
        return Merge(SAME, end)
    if events[0].before == last.content and not last.decision:
        return Merge(SAME, end)
    if last.human and not ours.human:
        first = next(n for n, event in enumerate(events) if event.after.human)
        if allowed(ours.state, [later.after for later in events[first:]]):
            return Merge(APPLIED, first, "a person decides, not a machine")
    if ours.human and not last.human:
        return Merge(KEPT, end, "a person decides, not a machine")
    who = "two people" if ours.human else "two machines"
    return Merge(KEPT, end, f"{who} differ; what is here stays")


def allowed(state: str, later: Sequence[ClipState]) -> bool:
    """Tell whether no machine decides on what a person left.

    Args:
        state: State of the clip until then.
        later: What it was given after that, one after the other.
    """
    states = [state, *(given.state for given in later)]
    return all(
        given.by_person or may_machine_change(before, given.state)
        for given, before in zip(later, states, strict=False)
    )
