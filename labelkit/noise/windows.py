"""How the single windows of a clip agree on its labels.

Scores as in :mod:`labelkit.noise.scoring`: ``(n_clips,)``, in [0, 1], lower is worse.
"""

from __future__ import annotations

import numpy as np

from labelkit import metrics
from labelkit.errors import InvalidInput
from labelkit.types import Array, Bools, Floats, Ints

# What the mean probability adds to a share of windows, below the step of 1,000 windows.
TIE_SHARE = 1e-3


def score_window_consensus(labels: Array, window_clips: Ints, window_probs: Floats) -> Floats:
    """Return the share of a clip's windows that would have given its labels themselves.

    Of a clip with n labels, a window agrees with a label among its n most probable
    classes; the label fewest windows agree with decides. A thousandth of the score is
    the label's mean probability, which parts clips of equal shares.

    Source:
        labelkit.

    Use:
        If sounds fill a part of the clip.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        window_clips: Clip of each window, a row of ``labels``, in any order,
            shape ``(n_windows,)``.
        window_probs: Probabilities of each window, shape ``(n_windows, n_classes)``.

    Returns:
        Scores, shape ``(n_clips,)``; NaN for a clip without labels or without windows.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.

    Example:
        >>> windows = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
        >>> score_window_consensus(np.eye(2), np.array([0, 0, 0, 1]), windows).round(2)
        array([0.67, 1.  ])
    """
    labels, pairs, ranks, values = _window_labels(labels, window_clips, window_probs)
    clips = np.nonzero(labels)[0]
    counts = np.bincount(pairs, minlength=len(clips))
    agreeing = np.bincount(pairs, ranks <= labels.sum(axis=1)[clips][pairs], len(clips))
    means = np.bincount(pairs, np.clip(values, 0, 1), len(clips))
    with np.errstate(invalid="ignore"):
        found = ((1 - TIE_SHARE) * agreeing + TIE_SHARE * means) / counts
    return _worst_label(len(labels), clips, found, np.fmin)


def score_window_spread(labels: Array, window_clips: Ints, window_probs: Floats) -> Floats:
    """Return how steady the label's probability is over the windows, 1 if it never changes.

    Low scores mark clips of which only a part holds the sound, or that are ambiguous.

    Source:
        labelkit.

    Use:
        For sounds in a part of the clip and for ambiguous clips, not for wrong labels.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        window_clips: Clip of each window, shape ``(n_windows,)``.
        window_probs: Probabilities of each window, shape ``(n_windows, n_classes)``.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.
    """
    # Nothing in [0, 1] has a standard deviation above a half.
    return np.clip(1 - 2 * window_spread(labels, window_clips, window_probs), 0, 1)


def window_spread(labels: Array, window_clips: Ints, window_probs: Floats) -> Floats:
    """Return the standard deviation of a label's probability over the windows of its clip.

    Evidence for a person, no score: lower is steadier. A high spread says that the
    sound fills only a part of the clip, or that the model is unsure.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        window_clips: Clip of each window, a row of ``labels``, shape ``(n_windows,)``.
        window_probs: Probabilities of each window, shape ``(n_windows, n_classes)``.

    Returns:
        The highest deviation among the clip's labels, shape ``(n_clips,)``; NaN for a clip
        without labels or without windows.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.

    Example:
        >>> window_spread(np.eye(2)[[0]], np.array([0, 0]), np.array([[0.9, 0.1], [0.5, 0.5]]))
        array([0.2])
    """
    labels, pairs, _, values = _window_labels(labels, window_clips, window_probs)
    clips = np.nonzero(labels)[0]
    counts = np.bincount(pairs, minlength=len(clips))
    with np.errstate(invalid="ignore"):
        means = np.bincount(pairs, values, len(clips)) / counts
        found = np.sqrt(np.bincount(pairs, (values - means[pairs]) ** 2, len(clips)) / counts)
    return _worst_label(len(labels), clips, found, np.fmax)


def _window_labels(
    labels: Array, window_clips: Ints, window_probs: Floats
) -> tuple[Bools, Ints, Ints, Floats]:
    """Return labels, and of each label of each window's clip its place, rank and probability.

    The place counts the given labels by clip and class, as ``np.nonzero`` does.
    """
    labels = metrics.check_labels(labels)
    window_clips, window_probs = np.asarray(window_clips), np.asarray(window_probs)
    if window_probs.shape != (len(window_clips), labels.shape[1]):
        raise InvalidInput(
            f"window_probs must have the shape (n_windows, n_classes) = "
            f"({len(window_clips)}, {labels.shape[1]}), got {window_probs.shape}"
        )
    if len(window_clips) and not (
        np.issubdtype(window_clips.dtype, np.integer)
        and 0 <= window_clips.min() <= window_clips.max() < len(labels)
    ):
        raise InvalidInput(
            f"window_clips must be rows of labels, whole numbers from 0 to {len(labels) - 1}"
        )
    given = np.flatnonzero(labels)
    pairs, ranks, values = [], [], []
    for rows in metrics.split_rows(*window_probs.shape, entries=1 << 22):
        mine, probs = metrics.check_arrays(labels[window_clips[rows]], window_probs[rows])
        windows, classes, rank = metrics.label_ranks(mine, probs)
        flat = window_clips[rows][windows] * labels.shape[1] + classes
        pairs.append(np.searchsorted(given, flat))
        ranks.append(rank)
        values.append(probs[windows, classes].astype(np.float64))
    if not pairs:
        return labels, np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    return labels, np.concatenate(pairs), np.concatenate(ranks), np.concatenate(values)


def _worst_label(n: int, clips: Ints, found: Floats, worse: np.ufunc) -> Floats:
    """Return the worst number of each clip among those of its labels; NaN without any."""
    result = np.full(n, np.nan)
    worse.at(result, clips, found)
    return result
