"""Which clips to trust: masks computed from probabilities and labels."""

from __future__ import annotations

import numpy as np

from labelkit import metrics
from labelkit.errors import InvalidInput


def select_confident(
    labels: np.ndarray,
    *probs: np.ndarray,
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
        probs: Probabilities from one or more models that saw none of these clips, each
            of the shape of ``labels``; several are averaged.
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
    if not probs:
        raise InvalidInput("select_confident: give the probabilities of at least one model")
    labels, mean = metrics.check_arrays(labels, np.mean(probs, axis=0))
    if threshold < 0 or per_class < 0:
        raise InvalidInput(f"threshold {threshold} and per_class {per_class} must not be negative")
    passing = find_passing(labels, mean, threshold)
    lowest = np.where(labels, mean, np.inf).min(axis=1)
    return _fill_classes(labels, -lowest, passing, per_class, None)


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


def select_lwlrap(
    labels: np.ndarray,
    *probs: np.ndarray,
    at_least: float = 1.0,
    at_most: float = 1.0,
    per_class: int = 0,
    folds: np.ndarray | None = None,
) -> np.ndarray:
    """Keep the clips whose lwlrap, the geometric mean over several models, lies in a range.

    Bouteillon (Freesound Audio Tagging 2019, 8th place) kept a geometric mean of two
    models of at least 0.5, at most five clips per fold and label, and later every clip
    of lwlrap 1; argus (1st place) kept noisy clips of high lwlrap and, in its code only,
    left out others (a range at the lower end here; its limits are unpublished).

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``; a clip without labels
            never passes.
        probs: Probabilities from one or more models that saw none of these clips, each
            of the shape of ``labels``.
        at_least: Lowest mean that passes.
        at_most: Highest mean that passes.
        per_class: At most so many clips of a class, the highest means first and of equal
            ones those of more probable labels; 0 is no limit.
        folds: Fold of each clip, shape ``(n_clips,)``; the limit then counts in each.

    Returns:
        Boolean mask, shape ``(n_clips,)``; ``True`` means kept.

    Raises:
        InvalidInput: If the arrays do not fit, there is no model, or an option is negative.

    Example:
        >>> labels = np.eye(3)[[0, 0, 0]]
        >>> probs = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.3, 0.6]])
        >>> select_lwlrap(labels, probs, at_least=0.5)
        array([ True,  True, False])
    """
    if not probs:
        raise InvalidInput("select_lwlrap: give the probabilities of at least one model")
    if per_class < 0 or at_least < 0:
        raise InvalidInput(f"at_least {at_least} and per_class {per_class} must not be negative")
    if at_most < at_least:
        raise InvalidInput(f"at_least {at_least} must not be above at_most {at_most}")
    if folds is not None and len(folds) != len(labels):
        raise InvalidInput(f"folds has {len(folds)} clips, labels {len(labels)}; give one a clip")
    scores = np.stack([metrics.lwlrap_per_clip(labels, part) for part in probs])
    labels = np.asarray(labels) > 0
    means = np.exp(np.log(np.maximum(scores, 1e-300)).mean(axis=0))
    # Rounding must not part 1 from 1, nor the root of a quarter from a half.
    passing = (means >= at_least - 1e-9) & (means <= at_most + 1e-9)
    # Many clips share a mean: the surer the models are of the labels, the better.
    sure = np.where(labels, np.mean(probs, axis=0), np.inf).min(axis=1)
    order = np.empty(len(labels), int)
    order[np.lexsort([-sure, -np.round(means, 9)])] = np.arange(len(labels))
    return _fill_classes(labels, order, passing, per_class, folds)


def select_small_loss(
    labels: np.ndarray,
    *probs: np.ndarray,
    n: int = 5000,
    per_class: int = 50,
    single_label: bool = True,
) -> np.ndarray:
    """Keep the first ``n`` clips by binary log-loss, and of each class only so many of them.

    The rule of the 9th place of Freesound Audio Tagging 2019 (Shugaev et al., DCASE
    2019), whose code caps each class within the first 5,000, so that fewer are kept.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``; a clip without labels
            never passes.
        probs: Probabilities from one or more models that saw none of these clips, each
            of the shape of ``labels``; several are averaged.
        n: How many clips of lowest loss to look at.
        per_class: At most so many of them of a class; 0 is no limit.
        single_label: Pass over clips with several labels.

    Returns:
        Boolean mask, shape ``(n_clips,)``; ``True`` means kept.

    Raises:
        InvalidInput: If the arrays do not fit, there is no model, or an option is negative.

    Example:
        >>> labels = np.eye(2)[[0, 0, 1]]
        >>> probs = np.array([[0.9, 0.2], [0.6, 0.4], [0.3, 0.7]])
        >>> select_small_loss(labels, probs, n=2)
        array([ True, False,  True])
    """
    if not probs:
        raise InvalidInput("select_small_loss: give the probabilities of at least one model")
    if n < 0 or per_class < 0:
        raise InvalidInput(f"n {n} and per_class {per_class} must not be negative")
    labels, mean = metrics.check_arrays(labels, np.mean(probs, axis=0))
    mean = np.clip(mean, 1e-7, 1 - 1e-7)
    losses = -np.where(labels, np.log(mean), np.log1p(-mean)).mean(axis=1)
    open_to = labels.sum(axis=1) == 1 if single_label else labels.any(axis=1)
    candidates = np.flatnonzero(open_to)
    first = candidates[np.argsort(losses[candidates], kind="stable")[:n]]
    passing = np.zeros(len(labels), bool)
    passing[first] = True
    return _fill_classes(labels, losses, passing, per_class, None)


def _fill_classes(
    labels: np.ndarray,
    order: np.ndarray,
    passing: np.ndarray,
    per_class: int,
    folds: np.ndarray | None,
) -> np.ndarray:
    """Passing clips, lowest ``order`` first, as long as each of their classes has room."""
    if not per_class:
        return passing
    parts = (
        np.zeros(len(labels), int) if folds is None else np.unique(folds, return_inverse=True)[1]
    )
    room = np.full((parts.max(initial=0) + 1, labels.shape[1]), per_class)
    kept = np.zeros(len(labels), bool)
    candidates = np.flatnonzero(passing)
    for clip in candidates[np.argsort(order[candidates], kind="stable")]:
        left = room[parts[clip]]
        if (left[labels[clip]] > 0).all():
            kept[clip] = True
            left[labels[clip]] -= 1
    return kept
