"""Which clips to trust: masks computed from probabilities and labels."""

from __future__ import annotations

import numpy as np

from labelkit import metrics
from labelkit.errors import InvalidInput


def select_confident(
    labels: np.ndarray,
    probs: np.ndarray,
    *,
    threshold: float = 0.95,
    per_class: int = 40,
) -> np.ndarray:
    """Keep the clips all of whose labels a model would have given itself.

    The rule of Dorfer and Widmer (DCASE 2018 task 2): the label is the most probable
    class, its probability is above a threshold, and of each class only the most
    probable clips are kept. Their released code has no threshold (0 here). A clip
    with several labels passes if they are its most probable classes, each above the
    threshold, and counts in each of its classes.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``; a clip without
            labels never passes.
        probs: Probabilities from a model that saw none of these clips, same shape.
        threshold: Every label's probability must be above it; 0 asks for nothing.
        per_class: At most so many clips of a class; 0 is no limit.

    Returns:
        Boolean mask, shape ``(n_clips,)``; ``True`` means kept.

    Raises:
        InvalidInput: If the arrays do not fit or an option is negative.

    Example:
        >>> labels = np.eye(2)[[0, 0, 1]]
        >>> probs = np.array([[0.97, 0.03], [0.6, 0.4], [0.7, 0.3]])
        >>> select_confident(labels, probs)
        array([ True, False, False])
        >>> select_confident(labels, probs, threshold=0)
        array([ True,  True, False])
    """
    labels, probs = metrics.check_arrays(labels, probs)
    if threshold < 0 or per_class < 0:
        raise InvalidInput(f"threshold {threshold} and per_class {per_class} must not be negative")
    passing = find_passing(labels, probs, threshold)
    if not per_class:
        return passing
    room = np.full(labels.shape[1], per_class)
    lowest = np.where(labels, probs, np.inf).min(axis=1)
    kept = np.zeros(len(labels), bool)
    candidates = np.flatnonzero(passing)
    for clip in candidates[np.argsort(-lowest[candidates], kind="stable")]:
        if (room[labels[clip]] > 0).all():
            kept[clip] = True
            room[labels[clip]] -= 1
    return kept


def find_passing(labels: np.ndarray, probs: np.ndarray, threshold: float) -> np.ndarray:
    """Clips whose labels are their most probable classes, each above ``threshold``.

    Args:
        labels: Boolean labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape.
        threshold: Exclusive lower bound; 0 asks for nothing.

    Returns:
        Boolean mask, shape ``(n_clips,)``.
    """
    clips, classes, ranks = metrics.label_ranks(labels, probs)
    fails = ranks > labels.sum(axis=1)[clips]
    if threshold > 0:
        fails |= probs[clips, classes] <= threshold
    passing = np.asarray(labels.any(axis=1))
    passing[clips[fails]] = False
    return passing
