"""How well a model's probabilities agree with the given labels, clip by clip.

Every function takes multi-hot labels and probabilities of one shape ``(n_clips,
n_classes)`` and returns ``(n_clips,)`` scores in [0, 1]; lower is worse. A clip
without labels, which no model can contradict, gets NaN.
"""

from __future__ import annotations

import numpy as np

from labelkit import metrics


def score_lwlrap(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Label-ranking average precision of each clip; 1 / rank if it has one label.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.

    Example:
        >>> score_lwlrap(np.eye(2)[[0, 0]], np.array([[0.9, 0.1], [0.2, 0.8]]))
        array([1. , 0.5])
    """
    return metrics.lwlrap_per_clip(labels, probs)


def score_self_confidence(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Lowest probability of a given label.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.
    """
    labels, probs = metrics.check_arrays(labels, probs)
    lowest = np.where(labels, probs, np.inf).min(axis=1)
    return np.where(labels.any(axis=1), np.clip(lowest, 0, 1), np.nan)


def score_margin(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Lowest given probability against the highest other one, moved from [-1, 1] to [0, 1].

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.
    """
    labels, probs = metrics.check_arrays(labels, probs)
    others = np.where(labels, 0, probs).max(axis=1)
    return (score_self_confidence(labels, probs) - np.clip(others, 0, 1) + 1) / 2


def score_cleanlab(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Label quality by cleanlab: self-confidence, or its multi-label aggregate.

    Clips with exactly one label each and probabilities that sum to 1 are judged as
    single-label, anything else as multi-label with cleanlab's default aggregator.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.
    """
    labels, probs = metrics.check_arrays(labels, probs)
    given = labels.any(axis=1)
    scores = np.full(len(labels), np.nan)
    if not given.any():
        return scores
    single = (labels[given].sum(axis=1) == 1).all() and np.allclose(
        probs[given].sum(axis=1), 1, atol=1e-3
    )
    if single:
        from cleanlab.rank import get_label_quality_scores

        scores[given] = get_label_quality_scores(labels[given].argmax(axis=1), probs[given])
    else:
        from cleanlab.multilabel_classification import get_label_quality_scores

        lists = [np.flatnonzero(row).tolist() for row in labels[given]]
        scores[given] = get_label_quality_scores(lists, probs[given])
    return scores
