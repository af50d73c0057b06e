"""Three states of a clip made one: what it was, what it is here, and what it became elsewhere.

A person beats a machine; of two of a kind the word here stays, and is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from labelkit.records import MACHINE_STATES

# What became of a clip's events: nothing to do, taken over, or left.
SAME, APPLIED, KEPT = "same", "applied", "kept"


@dataclass(frozen=True, kw_only=True)
class Word:
    """What was said of a clip: its state and its labels by name, sorted, and who said so.

    ``batch`` is the origin of the batch. ``intake`` is how the clip came in; ``undo`` took
    another word back.
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

        Who imports noisy labels vouches for nothing, and who takes a word back not for what a
        machine had said before it.
        """
        return self.by_person and not ((self.intake or self.undo) and self.state in MACHINE_STATES)

    @property
    def decision(self) -> bool:
        """Whether a person decided on this clip, rather than brought it in or took a word back."""
        return self.by_person and not self.intake and not self.undo

    def __str__(self) -> str:
        what = f"{self.state} {', '.join(self.labels)}".rstrip()
        return f"{what} ({self.actor}, {self.made_at:%Y-%m-%d %H:%M:%S})"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One event elsewhere: what the clip was, and what it became.

    ``before`` is None where the clip came in; ``knew`` says whether the word that counts here
    was known there by then.
    """

    before: tuple[str, tuple[str, ...]] | None
    after: Word
    knew: bool


@dataclass(frozen=True)
class Merge:
    """What becomes of the steps: those from ``first`` on are taken over; ``why`` tells of a clash.

    A clash is one where both sides said something, and not the same.
    """

    outcome: str
    first: int
    why: str = ""


def merge_clip(ours: Word, steps: Sequence[Step]) -> Merge:
    """Decide what becomes of what others did to a clip.

    Where they began from what the clip is here, or came by it, the rest follows. A person
    here of whose decision they did not know is not led on like that.

    Args:
        ours: What the clip is here.
        steps: What became of it elsewhere, the oldest first, at least one.

    Returns:
        Which of the steps to take over.

    Example:
        >>> when = datetime(2026, 1, 1)
        >>> said = dict(labels=("Dog",), made_at=when)
        >>> was = Word(state="unverified", by_person=False, actor="a", batch="1", **said)
        >>> now = Word(state="verified", by_person=True, actor="b", batch="2", **said)
        >>> step = Step(before=was.content, after=now, knew=True)
        >>> merge_clip(was, [step])
        Merge(outcome='applied', first=0, why='')
    """
    end, last = len(steps), steps[-1].after
    for first, step in enumerate(steps):
        known = step.knew or not ours.decision
        if (
            step.before == ours.content
            and known
            and allowed(ours.state, [step.after for step in steps[first:]])
        ):
            return Merge(APPLIED, first)
    if ours.content == last.content:
        return Merge(SAME, end)
    if steps[0].before == last.content and not last.decision:
        return Merge(SAME, end)
    if last.human and not ours.human:
        first = next(n for n, step in enumerate(steps) if step.after.human)
        if allowed(ours.state, [step.after for step in steps[first:]]):
            return Merge(APPLIED, first, "a person decides, not a machine")
    if ours.human and not last.human:
        return Merge(KEPT, end, "a person decides, not a machine")
    who = "two people" if ours.human else "two machines"
    return Merge(KEPT, end, f"{who} differ; what is here stays")


def allowed(state: str, words: Sequence[Word]) -> bool:
    """Whether no machine among those who speak decides on what a person left.

    Args:
        state: State of the clip until then.
        words: What is said of it, one after the other.
    """
    states = [state, *(word.state for word in words)]
    return all(
        word.by_person or before in MACHINE_STATES
        for word, before in zip(words, states, strict=False)
    )
