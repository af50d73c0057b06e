"""Which unverified labels to trust so that a wanted share of them is right, as far as can be told.

What is right is learnt from verified clips alone: how a judge that never saw them calls them, and
how it would call them with wrong labels. How many unverified labels are wrong, and of which kind,
is estimated from how the judge calls those. Where too few clips are verified, or the judge is too
weak, nothing reaches the wanted precision, and nothing is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelkit import metrics
from labelkit.noise import label_sets
from labelkit.types import Array, Bools, Floats, Ints

# Labels are never taken to be cleaner than this: estimates of few errors are unsure.
LEAST_NOISE = 0.05
# How far wrong labels may follow what the judge confuses: 0 not at all, 1 as often as it does.
_LEANINGS = np.arange(0, 5.01, 0.1)
_SMALLEST = 1e-3
# Of a verified set that was called wrong, so much of its wrong sets would have passed.
_SPARE = 1.0


@dataclass(frozen=True)
class Trust:
    """Which clips may be trusted, and how far.

    ``trusted`` and ``order`` have the shape ``(n_clips,)``: a mask, and how sure the judge is of
    each clip, higher is surer. ``expected`` is the share of the trusted labels that is estimated
    to be right, ``noise`` the share of wrong ones among all candidates; NaN where nothing is
    trusted, or nothing can be told.
    """

    trusted: Bools
    order: Floats
    expected: float
    noise: float


def trust_labels(
    labels: Array,
    probs: Floats,
    verified: Bools,
    *,
    precision: float,
    candidates: Bools | None = None,
    single: bool | None = None,
) -> Trust:
    """Find as many candidates as can be trusted if a share of ``precision`` is to be right.

    A single label passes if it is the most probable class, above a threshold; a set of several
    if it is likely right and whole, see :mod:`labelkit.noise.label_sets`. The threshold is the
    lowest at which the estimate reaches ``precision``. It is careful: one more verified clip is
    taken to be called wrong than is.

    Args:
        labels: Multi-hot labels as given, shape ``(n_clips, n_classes)``.
        probs: Out-of-fold probabilities of the same shape.
        verified: Clips whose labels people vouch for, shape ``(n_clips,)``.
        precision: Wanted share of right labels among the trusted, in (0, 1).
        candidates: Clips to choose from; all that are not verified if None. One without labels
            is never trusted.
        single: Whether clips have one label at most; None looks at the labels.

    Returns:
        What is trusted, never a verified clip.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.
    """
    labels, probs = metrics.check_arrays(labels, probs)
    if single is None:
        single = bool((labels.sum(axis=1) <= 1).all())
    labelled = labels.any(axis=1)
    candidates = ~verified if candidates is None else candidates & ~verified
    candidates = candidates & labelled
    # A person may have left a clip without any label: of several that is an answer, too.
    known = verified & labelled if single else verified
    if not known.any() or not candidates.any():
        return Trust(np.zeros(len(labels), bool), np.zeros(len(labels)), float("nan"), float("nan"))
    find = _find_single if single else _find_sets
    return find(labels, probs, known, candidates, precision)


def _find_single(
    labels: Bools, probs: Floats, known: Bools, candidates: Bools, precision: float
) -> Trust:
    """Trust labels that are the most probable class, from some probability on."""
    given, top = labels.argmax(axis=1), probs.argmax(axis=1)
    order = np.where(top == given, probs[np.arange(len(probs)), top], 0)
    weights = _wrong_label_chances(
        probs[known], given[known], _leaning(probs, given, candidates, known)
    )
    # A wrong label passes if it is just the class that the judge takes the clip for.
    wrong = weights[np.arange(len(weights)), top[known]]
    bound, expected, noise = _lowest_bound(
        rights=order[known],
        wrongs=np.where(wrong > 0, probs[known].max(axis=1), 0),
        chances=wrong,
        spare=float(weights.max(axis=1).mean()),
        seen=order[candidates],
        precision=precision,
    )
    return Trust(candidates & (order > bound), order, expected, noise)


def _find_sets(
    labels: Bools, probs: Floats, known: Bools, candidates: Bools, precision: float
) -> Trust:
    """Trust label sets that are likely right and whole, from some belief on."""
    model = label_sets.fit(labels, probs, known, candidates)
    order = np.zeros(len(labels))
    use = known | candidates
    order[use] = model.believe(labels[use], probs[use])
    planted, clips = model.plant(labels[known])
    beliefs = model.believe(planted, probs[known][clips])
    bound, expected, noise = _lowest_bound(
        rights=order[known],
        wrongs=beliefs,
        chances=np.full(len(clips), known.sum() / max(len(clips), 1)),
        spare=_SPARE,
        seen=order[candidates],
        precision=precision,
        # What is likelier wrong than right is not trusted for the sake of the others.
        floor=0.5,
        noise=model.share_wrong(labels[candidates]),
    )
    return Trust(candidates & (order > bound), order, expected, noise)


def _lowest_bound(
    *,
    rights: Floats,
    wrongs: Floats,
    chances: Floats,
    spare: float,
    seen: Floats,
    precision: float,
    floor: float = 0.0,
    noise: float | None = None,
) -> tuple[float, float, float]:
    """Find the lowest bound above which a share of ``precision`` is right, as far as can be told.

    Args:
        rights: How sure the judge is of verified labels, ``(n_verified,)``.
        wrongs: How sure it is of wrong labels of the same clips.
        chances: How many of the verified clips each of those stands for.
        spare: How many wrong ones more pass than did.
        seen: How sure it is of the candidates.
        precision: Wanted share.
        floor: The bound is at least this.
        noise: Share of wrong labels among the candidates; found from ``seen`` if None.

    Returns:
        The bound, infinite if there is none; the estimate there; the share of wrong candidates.
    """
    bounds = np.unique(np.concatenate([[floor], rights, seen]))
    bounds = bounds[bounds >= floor]
    n = len(rights)
    right = _share_above(rights, np.full(n, 1 / n), bounds)
    wrong = _share_above(wrongs, chances / n, bounds)
    if noise is None:
        # Where right and wrong ones differ most, the candidates tell best how many are wrong.
        best = (right - wrong).argmax()
        all_seen = _share_above(seen, np.full(len(seen), 1 / len(seen)), bounds)
        gap = right[best] - wrong[best]
        noise = float((right[best] - all_seen[best]) / gap) if gap > 0 else 1.0
    noise = float(np.clip(noise, LEAST_NOISE, 1.0))
    passing = (1 - noise) * right
    estimate = passing / np.maximum(passing + noise * (wrong + spare / n), 1e-12)
    good = np.flatnonzero((estimate >= precision) & (right > 0))
    if not len(good):
        return float("inf"), float("nan"), noise
    return float(bounds[good[0]]), float(estimate[good[0]]), noise


def _share_above(values: Floats, weights: Floats, bounds: Floats) -> Floats:
    """Sum the weights of the values above each bound."""
    order = np.argsort(values)
    sums = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)
    found: Floats = sums[np.searchsorted(values[order], bounds, side="right")]
    return found


def _leaning(probs: Floats, given: Ints, candidates: Bools, known: Bools) -> float:
    """Estimate how far wrong labels are those that the judge confuses with the right ones.

    Candidates that it calls surely, and otherwise than they are labelled, are mostly wrong, and
    the class it names is the right one.
    """
    surest, top = probs.max(axis=1), probs.argmax(axis=1)
    use = candidates & (top != given) & (surest >= np.median(surest[known]))
    if not use.any():
        return 1.0
    rows, labels = np.arange(use.sum()), given[use]
    likelihoods = [
        np.log(_wrong_label_chances(probs[use], top[use], float(leaning))[rows, labels]).sum()
        for leaning in _LEANINGS
    ]
    return float(_LEANINGS[int(np.argmax(likelihoods))])


def _wrong_label_chances(probs: Floats, right: Ints, leaning: float) -> Floats:
    """Return how likely each class is the label of a clip that has a wrong one."""
    chances = np.maximum(probs, _SMALLEST) ** leaning
    chances[np.arange(len(chances)), right] = 0
    found: Floats = chances / chances.sum(axis=1, keepdims=True)
    return found
