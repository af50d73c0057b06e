"""How far a judge agrees with the labels as given, beside what chance would give.

The one number for a judge where nothing is verified: lists of doubtful labels, and rounds of
self-verification, are worth no more than the model they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from labelkit import metrics
from labelkit.types import Array, Bools, Floats

# Of a normal distribution, so many deviations on either side hold 95 %.
_DEVIATIONS = 1.959964
# A skill that may be lower than this, at the end of its interval, is too little for lists.
WEAK = 0.1
# An interval rests on so many draws of the clips: the more, the fewer numbers each takes.
_DRAWS, _ENTRIES = (20, 200), 1 << 25


@dataclass(frozen=True)
class Agreement:
    """How far out-of-fold probabilities agree with labels, and how far they would by chance.

    ``measure`` is ``accuracy``, the share of the clips whose most probable class is their label,
    or, of several labels a clip, ``macro_ap``, the average precision of finding a class's clips,
    the mean over the classes. ``low`` and ``high`` bound it at 95 %, over clips like these that
    are independent of each other. ``chance`` is what it comes to if the judge's answers were
    dealt to the clips at random. All are in [0, 1], and NaN where no clip can be counted.
    """

    measure: Literal["accuracy", "macro_ap"]
    clips: int
    agreement: float
    low: float
    high: float
    chance: float

    @property
    def skill(self) -> float:
        """What is beyond chance: 1 agrees always, 0 by chance alone, less is below chance.

        Of single labels this is Cohen's kappa.
        """
        return self._beyond_chance(self.agreement)

    @property
    def skill_low(self) -> float:
        """The skill at the lower bound."""
        return self._beyond_chance(self.low)

    def describe(self, what: str) -> str:
        """Say in words what was measured, ``what`` being whose labels: given ones, say."""
        if self.measure == "accuracy":
            return f"names the label of {self.agreement:.1%} of {self.clips} clips {what}"
        return f"macro average precision {self.agreement:.3f} on {self.clips} clips {what}"

    def _beyond_chance(self, value: float) -> float:
        # A judge that cannot fail has shown nothing.
        return 0.0 if self.chance == 1 else (value - self.chance) / (1 - self.chance)


def measure_agreement(labels: Array, probs: Floats, *, single: bool | None = None) -> Agreement:
    """Measure how far probabilities agree with the labels of the same clips, beyond chance.

    Chance knows how frequent each class is, among the labels and among the answers, and nothing
    of the clips: a judge that always names the most frequent class has no skill. For the average
    precision it is the mean over all orders of the clips (Bestgen 2015).

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``; clips without any do not count.
        probs: Out-of-fold probabilities of the same shape; a clip whose row is NaN was not judged
            and does not count.
        single: Whether clips have one label at most; None looks at the labels.

    Returns:
        Agreement, its bounds, and what chance would give.

    Raises:
        InvalidInput: If the arrays do not fit, or single probabilities are NaN.

    Example:
        >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.6, 0.4]])
        >>> found = measure_agreement(np.eye(2)[[0, 0, 1, 1]], probs)
        >>> found.agreement, found.chance, found.skill
        (0.75, 0.5, 0.5)
    """
    labels, probs = np.asarray(labels), np.asarray(probs)
    if labels.shape == probs.shape and probs.ndim == 2:
        judged = ~np.isnan(probs).all(axis=1)
        labels, probs = labels[judged], probs[judged]
    labels, probs = metrics.check_arrays(labels, probs)
    labelled = labels.any(axis=1)
    labels, probs = labels[labelled], probs[labelled]
    if single is None:
        single = bool((labels.sum(axis=1) <= 1).all())
    return (_of_single if single else _of_several)(labels, probs)


def agreement_metrics(
    labels: Array, probs: Floats, verified: Bools, *, single: bool
) -> dict[str, Any]:
    """Measure a judge by all given labels and by the verified ones, as a run keeps it.

    Args:
        labels: Multi-hot labels as given, shape ``(n_clips, n_classes)``.
        probs: Out-of-fold probabilities of the same shape.
        verified: Clips whose labels people vouch for, shape ``(n_clips,)``.
        single: Whether clips have one label at most.

    Returns:
        Numbers by name, and ``judge``, the same in words; nothing where no clip can be counted.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.
    """
    given = measure_agreement(labels, probs, single=single)
    if np.isnan(given.agreement):
        return {}
    words = [
        f"{given.describe('as labelled')} ({_as_share(given.chance, given)} by chance, "
        f"{given.skill:.2f} of what is beyond it)"
    ]
    found = {
        "agreement_measure": given.measure,
        "agreement": given.agreement,
        "agreement_by_chance": given.chance,
        "agreement_beyond_chance": given.skill,
        "agreement_beyond_chance_low": given.skill_low,
    }
    known = measure_agreement(labels[verified], probs[verified], single=single)
    if not np.isnan(known.agreement):
        bounds = f"{_as_share(known.low, known)} to {_as_share(known.high, known)}"
        words.append(f"{known.describe('that people verified')} (95 % interval {bounds})")
        found |= {
            "verified_clips": known.clips,
            f"verified_{known.measure}": known.agreement,
            f"verified_{known.measure}_low": known.low,
            f"verified_{known.measure}_high": known.high,
        }
    return {"judge": "out of fold: " + "; ".join(words), **found}


def warn_of_judge(metrics_: Mapping[str, Any]) -> str | None:
    """Say what is to be thought of lists by a judge that a run measured; None if nothing is wrong.

    Args:
        metrics_: What the run keeps, of :func:`agreement_metrics`.
    """
    low = metrics_.get("agreement_beyond_chance_low")
    if low is None or low >= WEAK:
        return None
    return (
        f"this judge agrees with the labels little more than chance does "
        f"({metrics_['agreement']:.3f}, {metrics_['agreement_by_chance']:.3f} by chance): what it "
        "finds doubtful, missing or trustworthy is hardly better than a random draw; take a better "
        "one, see: labelkit recipes"
    )


def _as_share(value: float, of: Agreement) -> str:
    return f"{value:.1%}" if of.measure == "accuracy" else f"{value:.3f}"


def proportion_bounds(hits: int, n: int) -> tuple[float, float]:
    """Bound a share at 95 % by Wilson's interval.

    Args:
        hits: How many of them.
        n: Of how many; of none the bounds are NaN.

    Example:
        >>> low, high = proportion_bounds(45, 50)
        >>> round(low, 3), round(high, 3)
        (0.786, 0.957)
    """
    if not n:
        return float("nan"), float("nan")
    from scipy.stats import binomtest

    low, high = binomtest(int(hits), int(n)).proportion_ci(method="wilson")
    # Rounding must not leave the share itself outside.
    return min(float(low), hits / n), max(float(high), hits / n)


def _of_single(labels: Bools, probs: Floats) -> Agreement:
    n = len(labels)
    if not n:
        return Agreement("accuracy", 0, *[float("nan")] * 4)
    top = probs.argmax(axis=1)
    hits = int(labels[np.arange(n), top].sum())
    said = np.bincount(top, minlength=labels.shape[1])
    low, high = proportion_bounds(hits, n)
    return Agreement("accuracy", n, hits / n, low, high, float(said @ labels.sum(axis=0)) / n**2)


def _of_several(labels: Bools, probs: Floats) -> Agreement:
    n = len(labels)
    counts = labels.sum(axis=0)
    told = np.flatnonzero((counts > 0) & (counts < n))
    if not len(told):
        return Agreement("macro_ap", n, *[float("nan")] * 4)
    value = float(np.mean([_average_precision(labels[:, k], probs[:, k]) for k in told]))
    half = _DEVIATIONS * _resampled_deviation(labels[:, told], probs[:, told])
    chance = float(np.mean([_random_precision(int(counts[k]), n) for k in told]))
    return Agreement("macro_ap", n, value, max(value - half, 0.0), min(value + half, 1.0), chance)


def _average_precision(has_class: Bools, scores: Floats) -> float:
    return metrics.average_precision(has_class, -scores)


def _resampled_deviation(labels: Bools, probs: Floats) -> float:
    """Deviation of the macro average precision over other draws of such clips.

    Clips are weighed at random (Rubin's Bayesian bootstrap 1981), so that no class ever loses all.
    """
    n_draws = int(np.clip(_ENTRIES // labels.size, *_DRAWS))
    weights = np.random.default_rng(0).exponential(size=(n_draws, len(labels)))
    total = np.zeros(n_draws)
    for has_class, scores in zip(labels.T, probs.T, strict=True):
        order = np.argsort(-scores, kind="stable")
        everyone, members = weights[:, order], weights[:, order] * has_class[order]
        precisions = members.cumsum(axis=1) / everyone.cumsum(axis=1)
        total += (members * precisions).sum(axis=1) / members.sum(axis=1)
    return float((total / labels.shape[1]).std(ddof=1))


def _random_precision(n_hits: int, n: int) -> float:
    """Return the mean of the average precision over all orders of ``n`` clips."""
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    return (harmonic + (n_hits - 1) / (n - 1) * (n - harmonic)) / n
