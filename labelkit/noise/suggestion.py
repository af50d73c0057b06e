"""What a model suggests for a clip, and why, in words: one rule for lists, queues and tasks."""

from __future__ import annotations

from collections.abc import Sequence

from labelkit import metrics
from labelkit.types import Array, Floats

# In a set of several labels a clip, a class more likely there than not is suggested.
LIKELY = 0.5


def suggest(labels: Array, probs: Floats, *, several: bool) -> list[list[int]]:
    """List the classes a model would give each clip, the most probable first.

    Where clips may have several labels these are all that are more likely there than not; where
    there is none of them, and where a clip has one label, the most probable class alone.

    Args:
        labels: Multi-hot labels, ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape.
        several: Whether clips may have several labels.

    Returns:
        Class ids of each clip, at least one; of equal ones the lower first.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.

    Example:
        >>> import numpy as np
        >>> probs = np.array([[0.6, 0.1, 0.9], [0.2, 0.3, 0.1]])
        >>> suggest(np.eye(3)[[0, 1]], probs, several=True)
        [[2, 0], [1]]
        >>> suggest(np.eye(3)[[0, 1]], probs, several=False)
        [[2], [1]]
    """
    probs = metrics.check_arrays(labels, probs)[1]
    found = [[top] for top in probs.argmax(axis=1).tolist()]
    if several:
        # Stable, so that of equal ones the lower comes first.
        order = (-probs).argsort(axis=1, kind="stable")
        counts = (probs > LIKELY).sum(axis=1)
        for k in counts.nonzero()[0]:
            found[k] = order[k, : counts[k]].tolist()
    return found


def suggest_and_explain(
    labels: Array, probs: Floats, classes: Sequence[str], *, several: bool
) -> tuple[list[list[int]], list[str]]:
    """List what a model would give each clip of a set, and why.

    Args:
        labels: Multi-hot labels, ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape.
        classes: Names of the classes.
        several: Whether clips may have several labels.

    Returns:
        Class ids of each clip as of :func:`suggest`, and a sentence each.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.
    """
    suggested = suggest(labels, probs, several=several)
    given = [row.nonzero()[0].tolist() for row in labels]
    rows = zip(given, suggested, probs, strict=True)
    return suggested, [explain(classes, *row) for row in rows]


def explain(
    classes: Sequence[str], given: Sequence[int], suggested: Sequence[int], probs: Floats
) -> str:
    """Say what is heard, against what was given.

    Args:
        classes: Names of the classes.
        given: Class ids the clip has.
        suggested: Class ids a model would give it.
        probs: Its probabilities, ``(n_classes,)``.

    Example:
        >>> import numpy as np
        >>> explain(["Cat", "Dog"], [0], [1], np.array([0.12, 0.88]))
        'The model hears Dog (88 %), not Cat (only 12 %).'
    """
    heard = ", ".join(f"{classes[k]} ({percent(probs[k])})" for k in suggested)
    doubted = ", ".join(
        f"{classes[k]} (only {percent(probs[k])})" for k in given if k not in suggested
    )
    if doubted:
        return f"The model hears {heard}, not {doubted}."
    if given:
        return f"The model hears {heard}, as the label says."
    return f"The model hears {heard}; no label is given."


def explain_missing(heard: Sequence[tuple[str, float]]) -> str:
    """Say which labels may be missing; pairs of class name and probability.

    Example:
        >>> explain_missing([("Dog", 0.83)])
        'The model also hears Dog (83 %), which may be missing.'
    """
    named = ", ".join(f"{name} ({percent(p)})" for name, p in heard)
    return f"The model also hears {named}, which may be missing."


def percent(p: float) -> str:
    """Write a share as whole per cent."""
    return f"{100 * p:.0f} %"
