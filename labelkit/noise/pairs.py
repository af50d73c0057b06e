"""Single (clip, class) pairs: which given label is likely wrong, which absent one missing.

With several labels a clip the pair is what a person decides on. Matrices have the
shape ``(n_clips, n_classes)``; scores lie in [0, 1] and lower is worse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from labelkit import metrics, moved
from labelkit.errors import InvalidInput
from labelkit.types import Array, Bools, Floats

METHODS = ("self_confidence", "class_rank")


def score_pairs(labels: Array, probs: Floats, *, method: str = "self_confidence") -> Floats:
    """Rate how sure the model is that a given label is present, and an absent one absent.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape.
        method: ``self_confidence`` for the probability itself; ``class_rank`` for its
            place among the clips that have, or do not have, the class as well, so that
            rare and badly calibrated classes compare. A place is the share of clips
            that are worse, equal ones counting half.

    Returns:
        Scores of the shape of ``labels``, float32 unless ``probs`` are wider.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN, or the method is unknown.

    Example:
        >>> score_pairs(np.eye(2), np.array([[0.75, 0.5], [0.25, 0.5]]))
        array([[0.75, 0.5 ],
               [0.75, 0.5 ]])
    """
    labels, probs = metrics.check_arrays(labels, probs)
    if method not in METHODS:
        raise InvalidInput(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    scores = np.empty(probs.shape, np.result_type(probs, np.float32))
    for rows in metrics.split_rows(*probs.shape):
        block = np.clip(probs[rows], 0, 1)
        scores[rows] = np.where(labels[rows], block, 1 - block)
    if method == "class_rank":
        for class_index in range(labels.shape[1]):
            column = scores[:, class_index].copy()
            for direction in (labels[:, class_index], ~labels[:, class_index]):
                column[direction] = _places(column[direction])
            scores[:, class_index] = column
    return scores


def find_missing(
    labels: Array,
    probs: Floats,
    *,
    percentile: float = 99.0,
    known: Bools | None = None,
) -> Bools:
    """Find labels that are likely missing: absent, and yet among the class's most probable.

    The rule of Fonseca et al. (ICASSP 2020): of each class, the implicit negatives above a
    percentile of all its implicit negatives. A share is found even if nothing is
    missing. A class of too few implicit negatives to have such a share (100 at the
    99th percentile), or of no clip to learn it from, gets no proposal.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Out-of-fold probabilities of the same shape.
        percentile: Of a class's implicit negatives, in [0, 100]; those above are found.
        known: Pairs that people decided, a mask of the shape of ``labels``; they are
            neither proposed nor counted.

    Returns:
        Boolean mask of the shape of ``labels``.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN, or ``percentile`` is out of range.

    Example:
        >>> labels = np.array([[1, 0], [0, 1], [0, 1], [0, 1]])
        >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.9]])
        >>> find_missing(labels, probs, percentile=50)[:, 0]
        array([False,  True, False, False])
    """
    labels, probs = metrics.check_arrays(labels, probs)
    if not 0 <= percentile <= 100:
        raise InvalidInput(f"percentile must be in [0, 100], got {percentile}")
    known = np.zeros((1, labels.shape[1]), bool) if known is None else np.asarray(known)
    if known.dtype != bool or (len(known) != 1 and known.shape != labels.shape):
        raise InvalidInput(
            f"known must be a boolean mask of the shape {labels.shape}, got {known.dtype} "
            f"{known.shape}"
        )
    found = np.zeros(labels.shape, bool)
    for class_index in np.flatnonzero(labels.any(axis=0)):
        candidates = np.flatnonzero(~(labels[:, class_index] | known[:, class_index]))
        if len(candidates):
            scores = probs[candidates, class_index]
            # A score that occurs, and none below the percentile: few clips, no proposal.
            bound = np.percentile(scores, percentile, method="higher")
            found[candidates[scores > bound], class_index] = True
    return found


def rank_missing(missing: Bools, probs: Floats) -> list[tuple[int, int, float]]:
    """Order proposals, most probable first.

    Args:
        missing: Mask of :func:`find_missing`, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape.

    Returns:
        Rows of clip, class and probability; equal ones by clip and class.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.

    Example:
        >>> rank_missing(np.array([[True, False], [True, True]]), np.array([[0.5, 1], [0.75, 0.5]]))
        [(1, 0, 0.75), (0, 0, 0.5), (1, 1, 0.5)]
    """
    missing, probs = metrics.check_arrays(missing, probs)
    clips, classes = np.nonzero(missing)
    values = probs[clips, classes]
    order = np.argsort(-values, kind="stable")
    columns = (clips[order], classes[order], values[order])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _places(values: Floats) -> Floats:
    """Return the share of the values below each, equal ones counting half."""
    from scipy.stats import rankdata

    places: Floats = (rankdata(values) - 0.5) / max(len(values), 1)
    return places


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Find what the documentation showed of this module until 0.1."""
        return moved.find_gone(__name__, name)
