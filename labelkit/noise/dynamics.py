"""What the logits of every epoch of a training say of the labels it trained on.

A network learns right labels early and keeps them, and wrong ones late, if at all.
Unlike out-of-fold probabilities these come from the very model that learnt the
label. Of a clip with several labels the weakest one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np

from labelkit import metrics
from labelkit.errors import InvalidInput
from labelkit.types import Array, Bools, Floats, Ints

HEADS = ("softmax", "sigmoid")


@dataclass(frozen=True)
class Dynamics:
    """Five numbers a clip, float64 ``(n_clips,)`` each; NaN where nothing is known.

    ``aum`` is the mean margin between the lowest given and the highest other logit,
    ``confidence`` and ``variability`` are mean and standard deviation over the epochs
    of the lowest given probability, ``forgetting`` counts how often a clip went from
    right to wrong; one that never was right counts as many as there are epochs.
    ``epoch_margin`` is the logarithm of the lowest given probability over the highest other one,
    both of the probabilities averaged over the epochs.
    """

    aum: Floats
    confidence: Floats
    variability: Floats
    forgetting: Floats
    epoch_margin: Floats


def measure_dynamics(
    labels: Array, logits: Floats, *, head: str = "softmax", block: int = 256
) -> Dynamics:
    """Measure area under the margin, confidence, variability and forgetting of each clip.

    After Pleiss et al. (2020), Swayamdipta et al. (2020) and Toneva et al. (2019). A clip
    is right in an epoch if its labels' logits are above all others. The logits may lie
    in a memory map of any size: they are read in blocks of clips.

    Args:
        labels: Multi-hot labels as trained on, shape ``(n_clips, n_classes)``.
        logits: Shape ``(n_epochs, n_clips, n_classes)``, successive epochs.
        head: ``softmax`` or ``sigmoid``, what makes probabilities of the logits.
        block: Clips read at a time.

    Returns:
        The numbers of each clip; all NaN for a clip without labels, and the area under
        the margin also for one that has every class.

    Raises:
        InvalidInput: If the arrays do not fit, there is no epoch, a logit is NaN or
            infinite, or an option is out of range.

    Example:
        >>> labels, logits = np.eye(2)[[0, 0]], np.zeros((2, 2, 2))
        >>> logits[:, 0, 0], logits[:, 1, 0] = 2, (1, -1)
        >>> found = measure_dynamics(labels, logits)
        >>> found.aum, found.forgetting
        (array([2., 0.]), array([0., 1.]))
    """
    labels = metrics.check_labels(labels)
    if logits.ndim != 3 or logits.shape[1:] != labels.shape or not len(logits):
        raise InvalidInput(
            f"logits must have the shape (n_epochs, {labels.shape[0]}, {labels.shape[1]}), with "
            f"at least one epoch, got {logits.shape}"
        )
    if head not in HEADS:
        raise InvalidInput(f"head must be one of {', '.join(HEADS)}, got {head!r}")
    if block < 1:
        raise InvalidInput(f"block must be at least 1 clip, got {block}")
    found = np.full((len(fields(Dynamics)), len(labels)), np.nan)
    for start in range(0, len(labels), block):
        rows = slice(start, start + block)
        found[:, rows] = _measure_block(labels[rows], logits[:, rows], head, start)
    return Dynamics(*found)


def mean_dynamics(parts: Sequence[tuple[Ints, Dynamics]], n: int) -> Dynamics:
    """Average each clip's numbers over the models that trained on it.

    Args:
        parts: Of each model the clips it trained on, as rows of all clips and each once,
            and their dynamics in that order.
        n: Number of all clips.

    Returns:
        Dynamics of ``n`` clips, NaN where no model trained on a clip.

    Raises:
        InvalidInput: If a row is out of range or twice in a part, or lengths differ.

    Example:
        >>> one, two = (Dynamics(*np.full((5, 2), value)) for value in (1.0, 3.0))
        >>> mean_dynamics([(np.array([0, 1]), one), (np.array([1, 2]), two)], 4).aum
        array([ 1.,  2.,  3., nan])
    """
    sums, counts = np.zeros((len(fields(Dynamics)), n)), np.zeros((len(fields(Dynamics)), n))
    for number, (clips, part) in enumerate(parts):
        clips, values = np.asarray(clips, int), np.stack(astuple(part))
        if len(clips) != values.shape[1]:
            raise InvalidInput(
                f"part {number} has {len(clips)} rows and {values.shape[1]} clips; give one a clip"
            )
        if len(np.unique(clips)) < len(clips) or (len(clips) and not 0 <= min(clips)):
            raise InvalidInput(f"part {number}: rows must be from 0 to {n - 1}, each once")
        if len(clips) and max(clips) >= n:
            raise InvalidInput(f"part {number}: row {max(clips)} is beyond the last clip {n - 1}")
        sums[:, clips] += np.nan_to_num(values)
        counts[:, clips] += ~np.isnan(values)
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return Dynamics(*means)


def score_aum(labels: Array, dynamics: Dynamics) -> Floats:
    """Return the area under the margin, by the logistic function moved to [0, 1].

    Source:
        Pleiss et al. 2020.

    Use:
        With a network.

    Raises:
        InvalidInput: If labels and dynamics have different clips.

    Example:
        >>> score_aum(np.eye(2), Dynamics(*np.array([[0.0, 2.0]] * 5))).round(2)
        array([0.5 , 0.88])
    """
    from scipy.special import expit

    return _of_labelled(labels, expit(dynamics.aum))


def score_epoch_margin(labels: Array, dynamics: Dynamics) -> Floats:
    """Compare the weakest given label with the best other class, averaged over the epochs.

    The logarithm of the ratio of their mean probabilities, by the logistic function moved to
    [0, 1]: one epoch that was sure of itself counts less than in the area under the margin.

    Source:
        arXiv 2510.16211.

    Use:
        With a network.

    Raises:
        InvalidInput: If labels and dynamics have different clips.
    """
    from scipy.special import expit

    return _of_labelled(labels, expit(dynamics.epoch_margin))


def score_mean_confidence(labels: Array, dynamics: Dynamics) -> Floats:
    """Return the mean probability of the weakest given label over the epochs.

    Source:
        Swayamdipta et al. 2020.

    Use:
        Like the area under the margin.

    Raises:
        InvalidInput: If labels and dynamics have different clips.
    """
    return _of_labelled(labels, dynamics.confidence)


def score_variability(labels: Array, dynamics: Dynamics) -> Floats:
    """Return how steady the probability is over the epochs, 1 for steady, 0 for most variable.

    Low scores mark ambiguous clips, which are worth hearing. They do not mark wrong
    labels: a label that is never learnt is steady, too, at a low confidence.

    Source:
        Swayamdipta et al. 2020.

    Use:
        For ambiguous clips, not for wrong labels.

    Raises:
        InvalidInput: If labels and dynamics have different clips.
    """
    # Nothing in [0, 1] has a standard deviation above a half.
    return _of_labelled(labels, np.clip(1 - 2 * dynamics.variability, 0, 1))


def score_forgetting(labels: Array, dynamics: Dynamics) -> Floats:
    """Return ``1 / (1 + events)``: 1 for a clip never forgotten, lowest for one never learnt.

    Source:
        Toneva et al. 2019.

    Use:
        As further evidence; many clips tie.

    Raises:
        InvalidInput: If labels and dynamics have different clips.
    """
    return _of_labelled(labels, 1 / (1 + dynamics.forgetting))


def _measure_block(labels: Bools, logits: Floats, head: str, start: int) -> Floats:
    """Measure some clips, shape ``(5, n)``; ``start`` is the row of the first one."""
    from scipy.special import expit, log_softmax, logsumexp

    logits = np.asarray(logits, np.float32 if logits.dtype == np.float16 else None)
    if not np.isfinite(logits).all():
        epoch, clip, class_index = np.argwhere(~np.isfinite(logits))[0]
        raise InvalidInput(
            f"logits has NaN or infinite values, the first is {logits[epoch, clip, class_index]} "
            f"at epoch {epoch}, clip {clip + start}, class {class_index}"
        )
    given, some_absent = labels.any(axis=1), ~labels.all(axis=1)
    lowest = np.where(labels, logits, np.inf).min(axis=2)
    highest = np.where(labels, -np.inf, logits).max(axis=2)
    margins = np.where(given & some_absent, lowest, 0) - np.where(given & some_absent, highest, 0)
    lowest = np.where(given, lowest, 0).astype(np.float64)
    if head == "softmax":
        lowest -= logsumexp(logits, axis=2)
    probs = np.exp(np.minimum(lowest, 0)) if head == "softmax" else expit(lowest)
    each = np.exp(log_softmax(logits, axis=2)) if head == "softmax" else expit(logits)
    mean = each.mean(axis=0, dtype=np.float64)
    bounds = np.where(labels, mean, np.inf).min(axis=1), np.where(labels, 0, mean).max(axis=1)
    shares = [np.log(np.clip(part, np.finfo(np.float32).tiny, 1)) for part in bounds]
    right = (margins > 0) | ~some_absent
    forgotten = (right[:-1] & ~right[1:]).sum(axis=0)
    found = np.stack(
        [
            np.where(some_absent, margins.mean(axis=0, dtype=np.float64), np.nan),
            probs.mean(axis=0),
            probs.std(axis=0),
            np.where(right.any(axis=0), forgotten, len(logits)),
            np.where(some_absent, shares[0] - shares[1], np.nan),
        ]
    )
    return np.where(given, found, np.nan)


def _of_labelled(labels: Array, scores: Floats) -> Floats:
    labels = metrics.check_labels(labels)
    if scores.shape != (len(labels),):
        raise InvalidInput(f"labels has {len(labels)} clips, dynamics {len(scores)}")
    return np.where(labels.any(axis=1), scores, np.nan)
