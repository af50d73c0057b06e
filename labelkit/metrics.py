"""Scores of probabilities against labels, on numpy arrays.

``labels`` is multi-hot and ``probs`` has the same shape ``(n_clips, n_classes)``.
Tied probabilities are ranked by class index, the lower index first. What detects
wrong labels is measured by :func:`average_precision`, :func:`auroc` and :func:`effort`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from labelkit.errors import InvalidInput
from labelkit.types import Array, Bools, Floats, Ints

# Up to so many labels a clip it is faster to compare each with its clip than to sort.
FEW_LABELS = 8


def split_rows(n_rows: int, width: int, *, entries: int = 1 << 17) -> Iterator[slice]:
    """Yield consecutive slices of rows of about ``entries`` numbers each, to stay in the cache."""
    step = max(entries // max(width, 1), 1)
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))


def check_labels(labels: Array) -> Bools:
    """Return labels as a boolean matrix.

    Raises:
        InvalidInput: If labels are no matrix or not 0 or 1.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise InvalidInput(
            f"labels must have the shape (n_clips, n_classes), got {labels.shape}; make them "
            "multi-hot"
        )
    given = labels if labels.dtype == bool else labels != 0
    if labels.dtype != bool and not (labels[given] == 1).all():
        raise InvalidInput("labels must be multi-hot: only 0 and 1")
    return given


def check_arrays(labels: Array, probs: Floats) -> tuple[Bools, Floats]:
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
    for rows in split_rows(*probs.shape):
        if not np.isfinite(probs[rows]).all():
            n_bad = sum(
                np.count_nonzero(~np.isfinite(probs[part])) for part in split_rows(*probs.shape)
            )
            clip, class_index = np.argwhere(~np.isfinite(probs[rows]))[0] + (rows.start, 0)
            raise InvalidInput(
                f"probs has {n_bad} NaN or infinite values, the first is "
                f"{probs[clip, class_index]} at clip {clip}, class {class_index}"
            )
    return check_labels(labels), probs


def label_ranks(
    labels: Bools, probs: Floats, *, tied_last: bool = False
) -> tuple[Ints, Ints, Ints]:
    """Rank every given label among the classes of its clip, 1 for the most probable.

    Args:
        labels: Boolean labels, shape ``(n_clips, n_classes)``.
        probs: Scores of the same shape.
        tied_last: Give equal scores the rank of the last of them rather than ranks in the order
            of the classes.

    Returns:
        Clip index, class index and rank of each given label, one row each,
        ordered by clip and class.
    """
    clips, classes = np.nonzero(labels)
    ranks = np.empty(len(clips), np.int64)
    n_clips, n_classes = labels.shape
    if len(clips) > FEW_LABELS * n_clips:
        places = np.arange(1, n_classes + 1)[None]
        for rows in split_rows(n_clips, n_classes):
            order = np.argsort(-probs[rows], axis=1, kind="stable")
            place, ranked = np.empty(order.shape, np.int64), places
            if tied_last:
                ordered = np.take_along_axis(probs[rows], order, axis=1)
                # The place of the last of a run of equals, which the next ones are beyond.
                ends = np.where(ordered[:, 1:] == ordered[:, :-1], n_classes, places[:, :-1])
                ends = np.hstack([ends, np.full((len(order), 1), n_classes)])
                ranked = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
            np.put_along_axis(place, order, ranked, axis=1)
            first, last = np.searchsorted(clips, (rows.start, rows.stop))
            ranks[first:last] = place[labels[rows]]
        return clips, classes, ranks
    for part in split_rows(len(clips), n_classes):
        mine, own = probs[clips[part]], classes[part]
        value = mine[np.arange(len(own)), own][:, None]
        if tied_last:
            ranks[part] = (mine >= value).sum(axis=1)
            continue
        ranks[part] = (mine > value).sum(axis=1) + 1
        ties = np.flatnonzero((mine == value).sum(axis=1) > 1)
        if len(ties):
            before = np.arange(n_classes) < own[ties, None]
            ranks[part][ties] += ((mine[ties] == value[ties]) & before).sum(axis=1)
    return clips, classes, ranks


def _precisions(
    labels: Bools, probs: Floats, *, tied_last: bool = False
) -> tuple[Ints, Ints, Floats]:
    """Return clip, class and label-ranking precision of each given label."""
    clips, classes, ranks = label_ranks(labels, probs, tied_last=tied_last)
    keys = clips * (labels.shape[1] + 1) + ranks
    counts = np.bincount(clips, minlength=len(labels))
    first = np.repeat(np.cumsum(counts) - counts, counts)
    hits = np.searchsorted(np.sort(keys), keys, side="right") - first
    return clips, classes, hits / ranks


def lwlrap(labels: Array, probs: Floats) -> float:
    """Compute label-weighted label-ranking average precision, Freesound 2019's metric.

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


def lwlrap_per_clip(labels: Array, probs: Floats) -> Floats:
    """Compute the label-ranking average precision of each clip, shape ``(n_clips,)``.

    A clip with one label gets 1 / rank of it. A clip without labels gets NaN. Classes of equal
    scores stand where the last of them would, as in scikit-learn, so that no class is better off
    by its name; the figure over all clips, :func:`lwlrap`, follows the order of the classes, as
    the challenge's code does.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Scores of the same shape.

    Raises:
        InvalidInput: If the arrays do not fit.
    """
    labels, probs = check_arrays(labels, probs)
    clips, _, precisions = _precisions(labels, probs, tied_last=True)
    counts = np.bincount(clips, minlength=len(labels))
    sums = np.bincount(clips, precisions, minlength=len(labels))
    return np.where(counts, sums / np.maximum(counts, 1), np.nan)


def map_at_k(labels: Array, probs: Floats, k: int = 3) -> float:
    """Compute mean average precision of the ``k`` most probable classes, Freesound 2018's metric.

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


def accuracy(labels: Array, probs: Floats) -> float:
    """Return the share of the labelled clips whose most probable class is one of their labels.

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


def log_loss(labels: Array, probs: Floats) -> float:
    """Average over clips the cross-entropy of the label distribution, in nats.

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


def binary_log_loss(labels: Array, probs: Floats) -> float:
    """Average over all (clip, class) pairs the binary cross-entropy, in nats.

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


def average_precision(wrong: Bools | Ints, scores: Floats | Ints) -> float:
    """Compute the average precision of finding the wrong clips, those of lowest scores first.

    Equal scores form one step, as in scikit-learn. A random order gives about the
    share of wrong clips, so figures of different shares do not compare.

    Args:
        wrong: Which clips are wrong, shape ``(n_clips,)``.
        scores: Score of each clip, lower is more suspicious, shape ``(n_clips,)``.

    Returns:
        A number in (0, 1]; NaN if no clip is wrong.

    Raises:
        InvalidInput: If the lengths differ or a score is NaN.

    Example:
        >>> average_precision(np.array([1, 0, 1, 0]), np.array([0.1, 0.2, 0.3, 0.4])).__round__(4)
        0.8333
    """
    wrong, scores = _check_detection(wrong, scores)
    if not wrong.any():
        return float("nan")
    found, reviewed = _steps(wrong, scores)
    return float((np.diff(found, prepend=0) * found / reviewed).sum() / found[-1])


def auroc(wrong: Bools | Ints, scores: Floats | Ints) -> float:
    """Return the chance that a wrong clip has a lower score than a right one; a tie is half.

    Args:
        wrong: Which clips are wrong, shape ``(n_clips,)``.
        scores: Score of each clip, lower is more suspicious, shape ``(n_clips,)``.

    Returns:
        A number in [0, 1], 0.5 by chance; NaN if no clip is wrong, or all are.

    Raises:
        InvalidInput: If the lengths differ or a score is NaN.

    Example:
        >>> auroc(np.array([1, 0, 1, 0]), np.array([0.1, 0.2, 0.3, 0.4]))
        0.75
    """
    wrong, scores = _check_detection(wrong, scores)
    if not wrong.any() or wrong.all():
        return float("nan")
    found, reviewed = _steps(wrong, scores)
    right = reviewed - found
    above = np.diff(right, prepend=0) * (found - np.diff(found, prepend=0) / 2)
    return float(above.sum() / (float(found[-1]) * float(right[-1])))


def effort(wrong: Bools | Ints, scores: Floats | Ints, *, recall: float = 0.9) -> float:
    """Return the share of clips to review, worst first, to find a share of the wrong ones.

    Among clips of equal score the right ones are taken to come first, the unluckiest
    order, so that a score that cannot tell clips apart gains nothing by it.

    Args:
        wrong: Which clips are wrong, shape ``(n_clips,)``.
        scores: Score of each clip, lower is more suspicious, shape ``(n_clips,)``.
        recall: Share of the wrong clips to find, in (0, 1].

    Returns:
        A number in (0, 1]; about ``recall`` in random order; NaN if no clip is wrong.

    Raises:
        InvalidInput: If the lengths differ, a score is NaN or ``recall`` is out of range.

    Example:
        >>> effort(np.array([1, 0, 1, 0]), np.array([0.1, 0.2, 0.3, 0.4]))
        0.75
    """
    wrong, scores = _check_detection(wrong, scores)
    if not 0 < recall <= 1:
        raise InvalidInput(f"recall must be above 0 and at most 1, got {recall}")
    positions = np.flatnonzero(wrong[np.lexsort((wrong, scores))]) + 1
    if not len(positions):
        return float("nan")
    # Rounding must not ask for one more: 0.9 of 10 is 9.
    needed = int(np.ceil(recall * len(positions) - 1e-9))
    return float(positions[needed - 1] / len(wrong))


def _check_detection(wrong: Array, scores: Array) -> tuple[Bools, Floats | Ints]:
    wrong, scores = np.asarray(wrong), np.asarray(scores)
    if wrong.ndim != 1 or wrong.shape != scores.shape:
        raise InvalidInput(
            f"wrong and scores must have one shape (n_clips,), got {wrong.shape} and {scores.shape}"
        )
    if not ((wrong == 0) | (wrong == 1)).all():
        raise InvalidInput("wrong must be a mask over the clips: only 0 and 1")
    bad = np.flatnonzero(np.isnan(scores))
    if len(bad):
        raise InvalidInput(
            f"scores has {len(bad)} NaN, the first at clip {bad[0]}; leave such clips out"
        )
    return wrong.astype(bool), scores


def _steps(wrong: Bools, scores: Floats | Ints) -> tuple[Ints, Ints]:
    """Count wrong clips found and clips reviewed after each distinct score, lowest first."""
    order = np.argsort(scores)
    scores = scores[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    return np.cumsum(wrong[order], dtype=int)[last], last + 1
