"""Scores of probabilities against labels, on numpy arrays.

``labels`` is multi-hot and ``probs`` has the same shape ``(n_clips, n_classes)``.
Tied probabilities are ranked by class index, the lower index first.
"""

from __future__ import annotations

import numpy as np

from labelkit.errors import InvalidInput


def check_arrays(labels: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as a boolean and probs as a float matrix of one shape.

    Raises:
        InvalidInput: If shapes disagree, labels are not 0 or 1, or a probability
            is NaN or infinite; the message names the clip and the class.
    """
    labels, probs = np.asarray(labels), np.asarray(probs)
    if labels.ndim != 2 or labels.shape != probs.shape:
        raise InvalidInput(
            f"labels and probs must have one shape (n_clips, n_classes), "
            f"got {labels.shape} and {probs.shape}"
        )
    bad = np.argwhere(~np.isfinite(probs))
    if len(bad):
        clip, class_index = bad[0]
        raise InvalidInput(
            f"probs has {len(bad)} NaN or infinite values, the first is "
            f"{probs[clip, class_index]} at clip {clip}, class {class_index}"
        )
    if not np.isin(labels, (0, 1)).all():
        raise InvalidInput("labels must be multi-hot: only 0 and 1")
    return labels.astype(bool), probs


def label_ranks(labels: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank of every given label among the classes of its clip, 1 for the most probable.

    Returns:
        Clip index, class index and rank of each given label, one row each,
        ordered by clip and class.
    """
    order = np.argsort(-probs, axis=1, kind="stable")
    ranks = np.empty(order.shape, np.int64)
    np.put_along_axis(ranks, order, np.arange(1, probs.shape[1] + 1)[None], axis=1)
    clips, classes = np.nonzero(labels)
    return clips, classes, ranks[clips, classes]


def _precisions(labels: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clip, class and label-ranking precision of each given label."""
    clips, classes, ranks = label_ranks(labels, probs)
    by_rank = np.lexsort((ranks, clips))
    counts = np.bincount(clips, minlength=len(labels))
    first = np.repeat(np.cumsum(counts) - counts, counts)
    hits = np.empty(len(clips), np.int64)
    hits[by_rank] = np.arange(len(clips)) - first + 1
    return clips, classes, hits / ranks


def lwlrap(labels: np.ndarray, probs: np.ndarray) -> float:
    """Label-weighted label-ranking average precision, the metric of Freesound 2019.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``; clips without a
            label do not count.
        probs: Scores of the same shape, higher is more probable.

    Returns:
        Mean precision over all given labels; NaN if there is none.

    Raises:
        InvalidInput: If the arrays do not fit; see :func:`check_arrays`.

    Example:
        >>> lwlrap(np.array([[1, 0, 1]]), np.array([[0.9, 0.5, 0.1]])).__round__(4)
        0.8333
    """
    precisions = _precisions(*check_arrays(labels, probs))[2]
    return float(precisions.mean()) if len(precisions) else float("nan")


def lwlrap_per_class(labels: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lwlrap of each class and its weight, its share of all given labels.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Scores of the same shape.

    Returns:
        Score (0 for a class nobody has) and weight, each ``(n_classes,)``; their
        inner product is :func:`lwlrap`.

    Raises:
        InvalidInput: If the arrays do not fit.
    """
    labels, probs = check_arrays(labels, probs)
    _, classes, precisions = _precisions(labels, probs)
    counts = np.bincount(classes, minlength=labels.shape[1])
    sums = np.bincount(classes, precisions, minlength=labels.shape[1])
    return sums / np.maximum(counts, 1), counts / max(counts.sum(), 1)


def lwlrap_per_clip(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Label-ranking average precision of each clip, shape ``(n_clips,)``.

    A clip with one label gets 1 / rank of it. A clip without labels gets NaN.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Scores of the same shape.

    Raises:
        InvalidInput: If the arrays do not fit.
    """
    labels, probs = check_arrays(labels, probs)
    clips, _, precisions = _precisions(labels, probs)
    counts = np.bincount(clips, minlength=len(labels))
    sums = np.bincount(clips, precisions, minlength=len(labels))
    return np.where(counts, sums / np.maximum(counts, 1), np.nan)


def map_at_k(labels: np.ndarray, probs: np.ndarray, k: int = 3) -> float:
    """Mean average precision of the ``k`` most probable classes, Freesound 2018's metric.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``; clips without a
            label do not count.
        probs: Scores of the same shape.
        k: How many guesses count; with one label a clip this is its 1 / rank, or 0
            beyond ``k``.

    Returns:
        The mean over the clips; NaN if none has a label.

    Raises:
        InvalidInput: If the arrays do not fit or ``k`` is below 1.
    """
    labels, probs = check_arrays(labels, probs)
    if k < 1:
        raise InvalidInput(f"k must be at least 1, got {k}")
    top = np.argsort(-probs, axis=1, kind="stable")[:, :k]
    hit = np.take_along_axis(labels, top, axis=1)
    precision = np.cumsum(hit, axis=1) / np.arange(1, top.shape[1] + 1)
    given = labels.sum(axis=1)
    score = (precision * hit).sum(axis=1) / np.minimum(np.maximum(given, 1), k)
    return float(score[given > 0].mean()) if given.any() else float("nan")


def accuracy(labels: np.ndarray, probs: np.ndarray) -> float:
    """Share of the labelled clips whose most probable class is one of their labels.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Scores of the same shape.

    Raises:
        InvalidInput: If the arrays do not fit.
    """
    labels, probs = check_arrays(labels, probs)
    given = labels.any(axis=1)
    top = probs.argmax(axis=1)
    hits = labels[np.arange(len(labels)), top][given]
    return float(hits.mean()) if len(hits) else float("nan")


def log_loss(labels: np.ndarray, probs: np.ndarray) -> float:
    """Mean over clips of the cross-entropy of the label distribution, in nats.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``; the labels of a
            clip share its weight.
        probs: Probabilities of the same shape, clipped to at least 1e-7.

    Raises:
        InvalidInput: If the arrays do not fit.
    """
    labels, probs = check_arrays(labels, probs)
    given = labels.any(axis=1)
    shares = labels / np.maximum(labels.sum(axis=1, keepdims=True), 1)
    losses = -(shares * np.log(np.maximum(probs, 1e-7))).sum(axis=1)[given]
    return float(losses.mean()) if len(losses) else float("nan")


def binary_log_loss(labels: np.ndarray, probs: np.ndarray) -> float:
    """Mean over all (clip, class) pairs of the binary cross-entropy, in nats.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape, clipped to [1e-7, 1 - 1e-7].

    Raises:
        InvalidInput: If the arrays do not fit.
    """
    labels, probs = check_arrays(labels, probs)
    probs = np.clip(probs, 1e-7, 1 - 1e-7)
    losses = -np.where(labels, np.log(probs), np.log1p(-probs))
    return float(losses.mean()) if losses.size else float("nan")
