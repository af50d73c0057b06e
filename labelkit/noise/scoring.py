"""How well a model's probabilities agree with the given labels, clip by clip.

Every function called ``score_`` takes multi-hot labels ``(n_clips, n_classes)`` and
returns ``(n_clips,)`` scores in [0, 1]; lower is worse. They read probabilities of the
shape of the labels. A clip without labels, which no model can contradict, gets NaN.
Nothing makes more than one copy of the probabilities.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from labelkit import metrics
from labelkit.errors import InvalidInput
from labelkit.noise.classes import adjust_probs, has_single_labels
from labelkit.types import Array, Bools, Floats

SMALLEST = 1e-7
# A mixture of two components in one dimension gains nothing from more numbers than this.
MIXTURE_SAMPLE = 100_000
# Fewer clips than this make no mixture of their own.
MIXTURE_LEAST = 10


def score_lwlrap(labels: Array, probs: Floats) -> Floats:
    """Return the label-ranking average precision of each clip; 1 / rank if it has one label.

    Source:
        DCASE 2019 task 2, clip by clip.

    Use:
        To compare with the challenges.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.

    Example:
        >>> score_lwlrap(np.eye(2)[[0, 0]], np.array([[0.9, 0.1], [0.2, 0.8]]))
        array([1. , 0.5])
    """
    return metrics.lwlrap_per_clip(labels, probs)


def score_self_confidence(labels: Array, probs: Floats, *, adjust: bool = False) -> Floats:
    """Return the lowest probability of a given label.

    Source:
        Northcutt et al. 2021.

    Use:
        With any model.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape.
        adjust: Adjust the probabilities to the classes first, see
            :func:`~labelkit.noise.classes.adjust_probs`.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.
    """
    labels, probs = _check(labels, probs, adjust)
    return np.where(labels.any(axis=1), np.clip(_lowest_given(labels, probs), 0, 1), np.nan)


def score_margin(labels: Array, probs: Floats, *, adjust: bool = False) -> Floats:
    """Compare the lowest given probability with the highest other one, in [0, 1].

    Source:
        Northcutt et al. 2021.

    Use:
        To find confusions.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape.
        adjust: Adjust the probabilities to the classes first, see
            :func:`~labelkit.noise.classes.adjust_probs`.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.
    """
    labels, probs = _check(labels, probs, adjust)
    lowest = np.clip(_lowest_given(labels, probs), 0, 1)
    others = np.empty(len(labels))
    for rows in metrics.split_rows(*labels.shape):
        others[rows] = np.where(labels[rows], 0, probs[rows]).max(axis=1)
    return np.where(labels.any(axis=1), (lowest - np.clip(others, 0, 1) + 1) / 2, np.nan)


def score_log_loss(labels: Array, probs: Floats) -> Floats:
    """Return the binary log-loss, the mean over the classes, as the likelihood ``exp(-loss)``.

    Unlike :func:`score_self_confidence` it falls with a missing label as well. It is
    the loss the 9th place of Freesound Audio Tagging 2019 selected clips by.

    Source:
        9th place, Freesound 2019.

    Use:
        If labels may be missing, too.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape, clipped to [1e-7, 1 - 1e-7].

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.

    Example:
        >>> score_log_loss(np.eye(2)[[0, 0]], np.array([[0.9, 0.1], [0.2, 0.8]]))
        array([0.9, 0.2])
    """
    return np.exp(-_log_losses(*metrics.check_arrays(labels, probs)))


def score_cleanlab(
    labels: Array,
    probs: Floats,
    *,
    aggregate: str = "exponential",
    method: str = "self_confidence",
) -> Floats:
    """Rate labels by cleanlab: the one label, or all classes in one number.

    Clips with exactly one label each and probabilities that sum to 1 are judged as
    single-label, anything else as multi-label. In cleanlab's own benchmarks (Thyagarajan
    et al., 2022) ``softmin`` and ``minimum`` find clips with any error best, and
    ``exponential`` those with several.

    Source:
        Thyagarajan et al. 2022.

    Use:
        Of several labels a clip, for clips with several errors.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape, in [0, 1].
        aggregate: Of several labels: ``exponential`` (moving average, forgetting 0.8,
            cleanlab's default), ``softmin`` (temperature 0.1) or ``minimum``.
        method: Of one class: ``self_confidence`` or ``normalized_margin``.

    Raises:
        InvalidInput: If the arrays do not fit, a probability is outside [0, 1] or an
            option is unknown.
    """
    labels, probs = metrics.check_arrays(labels, probs)
    aggregators: dict[str, dict[str, Any]] = {
        "exponential": {"method": "exponential_moving_average", "alpha": 0.8},
        "softmin": {"method": "softmin", "temperature": 0.1},
        "minimum": {"method": np.min},
    }
    _check_choice("aggregate", aggregate, aggregators)
    _check_choice("method", method, ("self_confidence", "normalized_margin"))
    if probs.size and not 0 <= probs.min() <= probs.max() <= 1:
        raise InvalidInput(
            f"cleanlab takes probabilities in [0, 1], got {probs.min()} to {probs.max()}; "
            "turn logits into probabilities first"
        )
    scores = np.full(len(labels), np.nan)
    given = np.asarray(labels.any(axis=1))
    single = has_single_labels(labels, probs)
    for rows in metrics.split_rows(*labels.shape, entries=1 << 22):
        mine, judged = labels[rows][given[rows]], probs[rows][given[rows]]
        if not len(mine):
            continue
        if single:
            from cleanlab.rank import get_label_quality_scores

            found = get_label_quality_scores(mine.argmax(axis=1), judged, method=method)
        else:
            from cleanlab.multilabel_classification import get_label_quality_scores

            lists = [np.flatnonzero(row).tolist() for row in mine]
            found = get_label_quality_scores(
                lists, judged, method=method, aggregator_kwargs=aggregators[aggregate]
            )
        scores[rows][given[rows]] = found
    return np.clip(scores, 0, 1)


def score_cleanlab_softmin(labels: Array, probs: Floats) -> Floats:
    """Rate labels by cleanlab, with the soft minimum over the classes of a clip.

    Source:
        Thyagarajan et al. 2022.

    Use:
        Of several labels a clip, for clips with any error.
    """
    return score_cleanlab(labels, probs, aggregate="softmin")


def score_cleanlab_minimum(labels: Array, probs: Floats) -> Floats:
    """Rate labels by cleanlab, with the lowest of the classes of a clip.

    Source:
        Thyagarajan et al. 2022.

    Use:
        Of several labels a clip, for clips with any error.
    """
    return score_cleanlab(labels, probs, aggregate="minimum")


def score_mixture(
    labels: Array, probs: Floats, *, per_class: bool = False, seed: int = 0
) -> Floats:
    """Return the chance that a clip's loss is of the lower of two Gaussians fitted to all.

    The automatic cut-off of DivideMix (Li et al., 2020) and of Arazo et al. (2019), on
    the mean binary log-loss. Two Gaussians of different width cross twice; beyond the
    point where the odds would turn back they stay as they are there, so that a higher
    loss never scores better. A class that is hard as a whole looks wrong: see ``per_class``.

    Source:
        Arazo et al. 2019, DivideMix (Li et al. 2020).

    Use:
        For a cut-off without a number; not where a whole class is hard.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape.
        per_class: Fit one mixture to the clips of each class; a clip of several gets its
            lowest score. A class with fewer than ten clips, or with equal losses,
            takes the mixture of all clips.
        seed: Start of the fit. It sees up to 100,000 losses, evenly over their order.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN, or all losses are equal.

    Example:
        >>> p = np.array([0.9, 0.88, 0.92, 0.1, 0.12])
        >>> score_mixture(np.eye(2)[[0] * 5], np.column_stack([p, 1 - p])).round(2)
        array([1., 1., 1., 0., 0.])
    """
    labels, probs = metrics.check_arrays(labels, probs)
    losses = _log_losses(labels, probs)
    scores = np.full(len(labels), np.nan)
    given = np.asarray(labels.any(axis=1))
    if not given.any():
        return scores
    if not _differ(losses[given]):
        raise InvalidInput(
            "all scores are equal, nothing to part: a mixture needs probabilities that differ"
        )
    scores[given] = _low_posterior(losses[given], seed)
    if not per_class:
        return scores
    lowest = np.full(len(labels), np.inf)
    for class_index in range(labels.shape[1]):
        clips = np.flatnonzero(labels[:, class_index])
        own = len(clips) >= MIXTURE_LEAST and _differ(losses[clips])
        found = _low_posterior(losses[clips], seed) if own else scores[clips]
        lowest[clips] = np.minimum(lowest[clips], found)
    return np.where(given, lowest, np.nan)


def fuse_ranks(scores: Sequence[Floats], weights: Sequence[float] | None = None) -> Floats:
    """Average each clip's ranks by several scores, so that their scales do not matter.

    Equal scores share their mean rank. Where a score is NaN the others decide. A score
    that is the same for all clips orders nothing and is left out; if none orders
    anything, the result is 0.5.

    Args:
        scores: One or more scores of the same clips, each ``(n_clips,)``, lower is worse.
        weights: Weight of each score, not negative; equal if None.

    Returns:
        Fused scores in [0, 1], shape ``(n_clips,)``; NaN where every score is.

    Raises:
        InvalidInput: If there is no score, lengths differ, or weights do not fit.

    Example:
        >>> fuse_ranks([np.array([0.1, 0.5, 0.9]), np.array([-7.0, 3.0, np.nan])])
        array([0. , 0.75, 1.  ])
    """
    from scipy.stats import rankdata

    parts = [np.asarray(part, np.float64) for part in scores]
    if not parts or any(part.ndim != 1 or len(part) != len(parts[0]) for part in parts):
        raise InvalidInput(
            f"give one or more scores of the same clips, got shapes {[p.shape for p in parts]}"
        )
    shares = np.ones(len(parts)) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (len(parts),) or not (shares >= 0).all() or not 0 < shares.sum() < np.inf:
        raise InvalidInput(
            f"weights must be {len(parts)} numbers of at least 0, not all 0, got {weights}"
        )
    total, weight = np.zeros(len(parts[0])), np.zeros(len(parts[0]))
    for part, share in zip(parts, shares, strict=True):
        known = ~np.isnan(part)
        if known.any() and part[known].min() < part[known].max():
            total[known] += share * (rankdata(part[known]) - 1) / (known.sum() - 1)
            weight[known] += share
    fused = np.divide(total, weight, out=np.full(len(total), 0.5), where=weight > 0)
    return np.where(np.isnan(parts).all(axis=0), np.nan, fused)


def _check(labels: Array, probs: Floats, adjust: bool) -> tuple[Bools, Floats]:
    labels, probs = metrics.check_arrays(labels, probs)
    return labels, adjust_probs(labels, probs) if adjust else probs


def _check_choice(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise InvalidInput(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _lowest_given(labels: Bools, probs: Floats) -> Floats:
    lowest = np.empty(len(labels))
    for rows in metrics.split_rows(*labels.shape):
        lowest[rows] = np.where(labels[rows], probs[rows], np.inf).min(axis=1)
    return lowest


def _log_losses(labels: Bools, probs: Floats) -> Floats:
    """Return the mean binary log-loss of each clip; NaN for a clip without labels."""
    losses = np.full(len(labels), np.nan)
    for rows in metrics.split_rows(*labels.shape):
        agreeing = np.where(labels[rows], probs[rows], 1 - probs[rows].astype(np.float64))
        losses[rows] = -np.log(np.clip(agreeing, SMALLEST, 1 - SMALLEST)).mean(axis=1)
    losses[~labels.any(axis=1)] = np.nan
    return losses


def _differ(losses: Floats) -> bool:
    """Tell whether losses differ by more than rounding."""
    return bool(np.ptp(losses) > 1e-9 * max(abs(losses).max(), 1e-9))


def _low_posterior(losses: Floats, seed: int) -> Floats:
    """Return the chance of the component of lower mean at each loss."""
    from scipy.special import expit
    from sklearn.mixture import GaussianMixture

    # In order, so that the fit does not depend on the order of the clips.
    ordered = np.sort(losses)
    if len(ordered) > MIXTURE_SAMPLE:
        ordered = ordered[np.linspace(0, len(ordered) - 1, MIXTURE_SAMPLE).round().astype(int)]
    low, span = ordered[0], ordered[-1] - ordered[0]
    # As in DivideMix's code the widths are bounded from below: without it a sharp peak of
    # low losses leaves many right labels to the other component.
    mixture = GaussianMixture(2, reg_covar=5e-4, tol=1e-5, max_iter=500, random_state=seed)
    mixture.fit(((ordered - low) / span)[:, None])
    order = np.argsort(mixture.means_[:, 0], kind="stable")
    means, weights = mixture.means_[order, 0], mixture.weights_[order]
    precisions = 1 / mixture.covariances_[order, 0, 0]
    x = (losses - low) / span
    # The odds are a parabola over the loss; only its falling side is used.
    bend = precisions[0] - precisions[1]
    if bend:
        turn = (precisions * means) @ [1, -1] / bend
        x = np.maximum(x, turn) if bend > 0 else np.minimum(x, turn)
    parts = np.log(weights) + np.log(precisions) / 2 - precisions * (x[:, None] - means) ** 2 / 2
    posterior: Floats = expit(parts[:, 0] - parts[:, 1])
    return posterior
