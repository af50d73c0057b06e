"""Several judgements of the same clips made into one."""

from __future__ import annotations

import numpy as np

from labelkit.errors import InvalidInput
from labelkit.types import Floats, Ints

SMALLEST = 1e-7


def mean_probs(probs: Floats, *, kind: str = "arithmetic", single: bool = False) -> Floats:
    """Average probabilities over the first axis.

    Args:
        probs: Shape ``(n_judges, n_clips, n_classes)``, in [0, 1].
        kind: ``arithmetic`` or ``geometric``; argus took the geometric mean over folds.
        single: Whether a clip has one class, so that its probabilities sum to 1 again
            after a geometric mean.

    Returns:
        Probabilities, float32, shape ``(n_clips, n_classes)``.

    Raises:
        InvalidInput: If there is no judge or ``kind`` is unknown.

    Example:
        >>> mean_probs(np.array([[[0.9]], [[0.4]]]), kind="geometric").round(3)
        array([[0.6]], dtype=float32)
    """
    probs = np.asarray(probs, np.float64)
    if not len(probs):
        raise InvalidInput("no probabilities to average; give those of at least one model")
    groups = np.zeros(len(probs), int)
    mean: Floats = mean_by_group(probs, groups, 1, kind=kind, single=single)[0]
    return mean


def mean_by_group(probs: Floats, groups: Ints, n_groups: int, *, kind: str, single: bool) -> Floats:
    """Average probabilities within each group of rows.

    Args:
        probs: Shape ``(n_rows, ...)``.
        groups: Group of each row, from 0, each with at least one row, ``(n_rows,)``.
        n_groups: Number of groups.
        kind: ``arithmetic`` or ``geometric``.
        single: Whether the last axis sums to 1 and shall again.

    Returns:
        Float32, shape ``(n_groups, ...)``.
    """
    if kind not in ("arithmetic", "geometric"):
        raise InvalidInput(f"mean must be arithmetic or geometric, got {kind!r}")
    values = np.asarray(probs, np.float64)
    values = np.log(np.maximum(values, SMALLEST)) if kind == "geometric" else values
    sums = np.zeros((n_groups, *values.shape[1:]))
    np.add.at(sums, groups, values)
    counts = np.bincount(groups, minlength=n_groups).reshape(-1, *[1] * (values.ndim - 1))
    means: Floats = sums / np.maximum(counts, 1)
    if kind == "geometric":
        means = np.exp(means)
        if single:
            means /= means.sum(axis=-1, keepdims=True)
    return means.astype(np.float32)
