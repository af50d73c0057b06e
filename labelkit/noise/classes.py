"""What probabilities say of whole classes: which are confused, which noisy, which alike.

The counts follow Confident Learning (Northcutt et al., 2021): a class is likely
present where its probability reaches the mean of the clips that were given it, so
that badly calibrated and frequent classes are judged by their own measure.
"""

from __future__ import annotations

import numpy as np

from labelkit import metrics
from labelkit.errors import InvalidInput
from labelkit.types import Array, Bools, Floats, Ints

# What rounding may take from a probability that equals its threshold.
ROUNDING = 1e-6


def find_confusable(
    labels: Array, probs: Floats, *, top: int = 10, known: Bools | None = None
) -> list[tuple[int, int, float]]:
    """List pairs of classes where clips of the one look like the other, most often first.

    Each given label is held against the classes its clip was not given: it counts as
    the other class if that one is likely present and more probable. Of single labels
    this is the confident joint.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Out-of-fold probabilities of the same shape.
        top: How many pairs; those that never happen are left out.
        known: Classes that the judges of their clips can know, ``(n_classes,)``; those of two
            clips or more if None. The others are like none, and none is like them.

    Returns:
        Rows of given class, other class, and the share of the given class's labels.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN, or ``top`` is negative.

    Example:
        >>> labels = np.eye(3)[[0, 0, 0, 1, 1]]
        >>> probs = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.1, 0.9, 0], *[[0.2, 0.8, 0]] * 2])
        >>> find_confusable(labels, probs)
        [(0, 1, 0.3333333333333333)]
    """
    labels, probs = metrics.check_arrays(labels, probs)
    if top < 0:
        raise InvalidInput(f"top must not be negative, got {top}")
    known = _check_known(labels, known)
    joint = _confident_joint(labels, probs, known)
    joint[~known] = 0
    np.fill_diagonal(joint, 0)
    rates = joint / np.maximum(labels.sum(axis=0), 1)[:, None]
    best = np.argsort(-rates, axis=None, kind="stable")[:top]
    pairs = zip(*np.unravel_index(best, rates.shape), strict=True)
    return [(int(i), int(j), float(rates[i, j])) for i, j in pairs if rates[i, j] > 0]


def estimate_noise(labels: Array, probs: Floats, *, known: Bools | None = None) -> Floats:
    """Estimate the share of each class's given labels that are likely wrong.

    Single labels are counted by the confident joint across the classes, several labels
    one class against the rest. Labels that look like nothing at all do not count.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Out-of-fold probabilities of the same shape.
        known: As of :func:`find_confusable`.

    Returns:
        Shares in [0, 1], shape ``(n_classes,)``; NaN for a class that is not known.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.

    Example:
        >>> labels = np.eye(2)[[0, 0, 0, 1, 1]]
        >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.2, 0.8]])
        >>> estimate_noise(labels, probs).round(2)
        array([0.33, 0.  ])
    """
    labels, probs = metrics.check_arrays(labels, probs)
    known = _check_known(labels, known)
    if has_single_labels(labels, probs):
        joint = _confident_joint(labels, probs, known)
        right = np.diagonal(joint).copy()
        wrong = joint.sum(axis=1) - right
    else:
        right, wrong = _count_against_rest(labels, probs, known)
    shares = wrong / (np.maximum(right, 1) + wrong)
    return np.where(known, shares, np.nan)


def class_similarity(
    labels: Array,
    *,
    probs: Floats | None = None,
    embeddings: Floats | None = None,
) -> Floats:
    """Measure how much each class is like each other one, to simulate confusable noise.

    From probabilities: the mean given to the other class by clips that do not have
    it. From embeddings: the cosine of the class centres around the mean of all clips,
    moved to [0, 1].

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape, or
        embeddings: Vectors, shape ``(n_clips, dim)``; exactly one of both.

    Returns:
        Matrix ``(n_classes, n_classes)``, its diagonal 0 and each row summing to 1. A class
        without clips is like all others alike.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN, both or none are given, or
            there is only one class.

    Example:
        >>> probs = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.2, 0.2, 0.6]])
        >>> class_similarity(np.eye(3), probs=probs).round(2)
        array([[0.  , 0.75, 0.25],
               [0.67, 0.  , 0.33],
               [0.5 , 0.5 , 0.  ]])
    """
    if (probs is None) == (embeddings is None):
        raise InvalidInput("class_similarity: give either probs or embeddings")
    labels = metrics.check_labels(labels)
    n_classes = labels.shape[1]
    if n_classes < 2:
        raise InvalidInput(f"class_similarity needs two classes or more, got {n_classes}")
    if probs is not None:
        likeness = _mass_given(*metrics.check_arrays(labels, probs))
    else:
        assert embeddings is not None
        likeness = _centre_cosine(labels, np.asarray(embeddings))
    np.fill_diagonal(likeness, 0)
    empty = ~labels.any(axis=0) | (likeness.sum(axis=1) <= 0)
    likeness[empty] = 1 - np.eye(n_classes)[empty]
    rows: Floats = likeness / likeness.sum(axis=1, keepdims=True)
    return rows


def adjust_probs(labels: Array, probs: Floats) -> Floats:
    """Return the probabilities less what the model usually gives to clips of each class.

    The adjustment of Confident Learning: a frequent class, which a model favours, no
    longer makes rare labels look wrong. Clips with one label each and probabilities
    that sum to 1 are adjusted across the classes and sum to 1 again; otherwise each
    class is adjusted against its absence. A class of one clip or none is not, as nobody who
    judges that clip can know it.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape, clipped to [0, 1].

    Returns:
        Adjusted probabilities of the same shape, in [0, 1].

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.

    Example:
        >>> labels = np.eye(2)[[0, 0, 1, 1]]
        >>> probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5], [0.5, 0.5]])
        >>> adjust_probs(labels, probs).round(2)
        array([[0.64, 0.36],
               [0.64, 0.36],
               [0.36, 0.64],
               [0.36, 0.64]])
    """
    labels, probs = metrics.check_arrays(labels, probs)
    present, absent = _thresholds(labels, probs, _check_known(labels, None))
    single = has_single_labels(labels, probs)
    totals: Floats = np.ones(labels.shape[1])
    if single:
        best = np.nanmax(present, initial=0)
        offsets = best - np.where(np.isnan(present), best, present)
    else:
        known = ~np.isnan(present) & ~np.isnan(absent)
        present, absent = np.where(known, present, 0.5), np.where(known, absent, 0.5)
        highest = np.maximum(present, absent)
        offsets, totals = highest - present, 1 - present - absent + 2 * highest
    adjusted = np.empty(probs.shape, np.result_type(probs, np.float32))
    for rows in metrics.split_rows(*probs.shape):
        moved = np.clip(probs[rows], 0, 1) + offsets
        adjusted[rows] = moved / (moved.sum(axis=1, keepdims=True) if single else totals)
    return adjusted


def mean_confidence(labels: Bools, probs: Floats) -> tuple[Floats, Floats]:
    """Return the mean of ``probs`` where a class is given, and of ``1 - probs`` where not.

    Args:
        labels: Boolean labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape, clipped to [0, 1].

    Returns:
        Two arrays ``(n_classes,)``; NaN for a class that no clip, or every clip, has.
    """
    given, other = np.zeros(labels.shape[1]), np.zeros(labels.shape[1])
    counts = labels.sum(axis=0)
    for rows in metrics.split_rows(*labels.shape):
        block = np.clip(probs[rows].astype(np.float64), 0, 1)
        mine = np.where(labels[rows], block, 0)
        given += mine.sum(axis=0)
        other += np.where(labels[rows], 0, 1 - block).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return given / counts, other / (len(labels) - counts)


def _check_known(labels: Bools, known: Bools | None) -> Bools:
    """Return which classes can be known; one that only the clip in question has cannot."""
    found: Bools = labels.sum(axis=0) > 1
    if known is None:
        return found
    if np.shape(known) != found.shape:
        raise InvalidInput(f"known must have the shape {found.shape}, got {np.shape(known)}")
    return found & known


def _thresholds(labels: Bools, probs: Floats, known: Bools) -> tuple[Floats, Floats]:
    """Return :func:`mean_confidence`, of classes that can be known."""
    present, absent = mean_confidence(labels, probs)
    return np.where(known, present, np.nan), absent


def has_single_labels(labels: Bools, probs: Floats) -> bool:
    """Tell whether every labelled clip has one label, and probabilities that sum to 1."""
    counts = labels.sum(axis=1)
    given = counts > 0
    sums = probs.sum(axis=1, dtype=np.float64)[given]
    return bool(given.any() and counts.max() == 1 and np.allclose(sums, 1, atol=1e-3))


def _confident_joint(labels: Bools, probs: Floats, known: Bools) -> Ints:
    """Count labels of class i (rows) that are likely class j, but none like no class."""
    thresholds = np.nan_to_num(_thresholds(labels, probs, known)[0], nan=np.inf) - ROUNDING
    n_classes = labels.shape[1]
    joint = np.zeros(n_classes * n_classes, np.int64)
    for rows in metrics.split_rows(*labels.shape):
        likely = np.where(probs[rows] >= thresholds, probs[rows], -np.inf)
        other = np.where(labels[rows], -np.inf, likely)
        best = other.argmax(axis=1)
        clips, given = np.nonzero(labels[rows])
        own, against = likely[clips, given], other[clips, best[clips]]
        guess = np.where(own >= against, given, best[clips])
        counted = np.maximum(own, against) > -np.inf
        joint += np.bincount((given * n_classes + guess)[counted], minlength=len(joint))
    return joint.reshape(n_classes, n_classes)


def _count_against_rest(labels: Bools, probs: Floats, known: Bools) -> tuple[Ints, Ints]:
    """Count the given labels of each class that are likely present, and likely absent."""
    present, absent = _thresholds(labels, probs, known)
    present, absent = (np.nan_to_num(t, nan=np.inf) - ROUNDING for t in (present, absent))
    right, wrong = np.zeros((2, labels.shape[1]), np.int64)
    for rows in metrics.split_rows(*labels.shape):
        block = np.clip(probs[rows].astype(np.float64), 0, 1)
        likely, unlikely = block >= present, 1 - block >= absent
        # Where both are likely the more probable one counts.
        both = likely & unlikely
        right += (labels[rows] & likely & ~(both & (block < 0.5))).sum(axis=0)
        wrong += (labels[rows] & unlikely & ~(both & (block >= 0.5))).sum(axis=0)
    return right, wrong


def _mass_given(labels: Bools, probs: Floats) -> Floats:
    sums = np.zeros((labels.shape[1], labels.shape[1]))
    counts = np.zeros_like(sums)
    for rows in metrics.split_rows(*labels.shape):
        given = labels[rows].astype(np.float64)
        sums += given.T @ np.where(labels[rows], 0, np.clip(probs[rows], 0, 1))
        counts += given.T @ (1 - given)
    means: Floats = sums / np.maximum(counts, 1)
    return means


def _centre_cosine(labels: Bools, embeddings: Floats) -> Floats:
    if embeddings.ndim != 2 or len(embeddings) != len(labels):
        raise InvalidInput(
            f"embeddings must have the shape ({len(labels)}, dim), got {embeddings.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        raise InvalidInput(
            f"embeddings has NaN or infinite values in {len(bad)} clips, the first is clip "
            f"{bad[0]}; leave them out"
        )
    counts = labels.sum(axis=0)
    sums = np.stack([embeddings[mask].sum(axis=0, dtype=np.float64) for mask in labels.T])
    centres = sums / np.maximum(counts, 1)[:, None] - embeddings.mean(axis=0, dtype=np.float64)
    norms = np.linalg.norm(centres, axis=1, keepdims=True)
    unit = centres / np.maximum(norms, 1e-12)
    likeness: Floats = np.clip((unit @ unit.T + 1) / 2, 0, 1)
    likeness[:, counts == 0] = 0
    return likeness


def find_class_order(labels: Array, probs: Floats) -> Ints:
    """Find the class that each column of probabilities fits best, to notice another order.

    Columns are dealt to classes so that clips get most of their probability where their
    label is (Kuhn, 1955). Unless that lifts the accuracy from near chance to above twice
    it, nothing is held to be moved: noisy labels and poor models must not look like it.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape.

    Returns:
        For each class the column it has, shape ``(n_classes,)``; 0, 1, 2 ... if all is well.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.

    Example:
        >>> find_class_order(np.eye(4), np.eye(4)[[1, 0, 3, 2]])
        array([1, 0, 3, 2])
    """
    from scipy.optimize import linear_sum_assignment

    labels, probs = metrics.check_arrays(labels, probs)
    n_classes = labels.shape[1]
    same = np.arange(n_classes)
    counts = np.maximum(labels.sum(axis=0), 1)[:, None]
    order: Ints = linear_sum_assignment(-(labels.T.astype(float) @ probs) / counts)[1]
    moved = metrics.accuracy(labels, probs[:, order])
    # A permutation always fits a little better by chance.
    if not moved > max(2 * metrics.accuracy(labels, probs), 2 / max(n_classes, 1)):
        return same
    return order
