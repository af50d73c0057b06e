"""How likely a clip's label set is right and whole, where clips may have several labels.

A judge says of each class alone how probable it is. That a set is whole takes more: what sets look
like (no clip of two sounds has one label), and which errors were made. Both are learnt, the first
from verified clips, the second from how the judge contradicts the others. A set is held against the
sets it may have come from: with a label dropped, one replaced by another, or one added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from labelkit import metrics
from labelkit.types import Bools, Floats, Ints

# So many absent classes, the most probable ones, may be what a set lacks.
MOST_ABSENT = 8
# Errors are planted so often into each verified set to see how often the judge misses them.
DRAWS = 12
_STEPS = 8
_LARGEST_LOGIT = 12.0


class ErrorRates(NamedTuple):
    """How labels go wrong: a true one is dropped or replaced, a clip gets one that is not true."""

    dropped: float
    replaced: float
    added: float


@dataclass(frozen=True)
class SetModel:
    """What true label sets look like to a judge, and which errors are made in them.

    ``offsets`` ``(n_classes,)`` and ``slope`` make log-odds of a judge's log-odds; ``log_sizes``
    are the logarithms of how often a set has 0, 1, 2 ... labels.
    """

    slope: float
    offsets: Floats
    log_sizes: Floats
    rates: ErrorRates

    def believe(self, labels: Bools, probs: Floats) -> Floats:
        """Return the chance that each set is right and whole, shape ``(n_clips,)``.

        Args:
            labels: Sets, shape ``(n_clips, n_classes)``.
            probs: Out-of-fold probabilities of the same shape.
        """
        beliefs = np.zeros(len(labels))
        for rows, origins in self._origins(labels, probs):
            beliefs[rows] = origins["same"].ravel()
        return beliefs

    def plant(self, labels: Bools, *, seed: int = 0) -> tuple[Bools, Ints]:
        """Make errors in label sets, as often and of the kinds that are made here.

        Args:
            labels: True sets, shape ``(n_clips, n_classes)``.
            seed: Of the draws; each set is drawn :data:`DRAWS` times.

        Returns:
            The sets that came out wrong and have labels, and the clip each is of.
        """
        rng = np.random.default_rng(seed)
        clips = np.tile(np.arange(len(labels)), DRAWS)
        true = labels[clips]
        fate = rng.random(true.shape)
        gone = true & (fate < self.rates.dropped + self.rates.replaced)
        replaced = true & (fate < self.rates.replaced)
        n_new = replaced.sum(axis=1) + (rng.random(len(clips)) < self.rates.added)
        # The first so many of the absent classes in a random order.
        places = np.where(true, np.inf, rng.random(true.shape)).argsort(axis=1).argsort(axis=1)
        planted = (true & ~gone) | (~true & (places < n_new[:, None]))
        wrong = (planted != true).any(axis=1) & planted.any(axis=1)
        return planted[wrong], clips[wrong]

    def share_wrong(self, labels: Bools) -> float:
        """Return the share of sets with an error, if these are sets as errors left them."""
        kept = 1 - self.rates.dropped - self.rates.replaced
        true = labels.sum(axis=1) / (1 - self.rates.dropped)
        whole = (1 - self.rates.added) * kept**true
        return float(1 - whole.mean())

    def learn_rates(self, labels: Bools, probs: Floats) -> SetModel:
        """Return the model with the rates that explain how a judge calls given sets (by EM)."""
        model = self
        for _ in range(_STEPS):
            gone = swapped = new = true = 0.0
            for _, origins in model._origins(labels, probs):
                sums = {name: float(part.sum()) for name, part in origins.items()}
                gone += sums["one dropped"] + 2 * sums["two dropped"] + sums["both"]
                swapped += sums["replaced"] + sums["both"]
                new += sums["added"]
                true += sums["one dropped"] + 2 * sums["two dropped"] + sums["both"] - sums["added"]
            true += float(labels.sum())
            # As if ten labels, or clips, more had been seen, one of them wrong.
            clips = len(labels)
            rates = ErrorRates(
                (gone + 1) / (true + 10), (swapped + 1) / (true + 10), (new + 1) / (clips + 10)
            )
            model = SetModel(self.slope, self.offsets, self.log_sizes, rates)
        return model

    def _origins(self, labels: Bools, probs: Floats) -> Iterator[tuple[slice, dict[str, Floats]]]:
        """Yield rows and, of each clip, the chances of what its set may have come from."""
        width = (1 + MOST_ABSENT) ** 2 * (1 + int(labels.sum(axis=1).max(initial=0)))
        for rows in metrics.split_rows(len(labels), width):
            if len(labels[rows]):
                yield rows, self._origins_of(labels[rows], self._calibrate(probs[rows]))

    def _calibrate(self, probs: Floats) -> Floats:
        return np.clip(self.slope * log_odds(probs) + self.offsets, -_LARGEST_LOGIT, _LARGEST_LOGIT)

    def _origins_of(self, labels: Bools, logits: Floats) -> dict[str, Floats]:
        n, n_classes = labels.shape
        sizes = labels.sum(axis=1)
        most = min(MOST_ABSENT, n_classes)
        absent = -np.sort(-np.where(labels, -np.inf, logits), axis=1)[:, :most]
        given = np.sort(np.where(labels, logits, np.inf), axis=1)[:, : max(int(sizes.max()), 1)]
        first, second = np.triu_indices(most, 1)
        pairs = absent[:, first] + absent[:, second]
        rates, kept = self.rates, np.log(1 - self.rates.dropped - self.rates.replaced)
        of_size = self._size_terms(logits, int(sizes.max()) + 2)
        rows = np.arange(n)

        def prior(more: int, n_kept: Ints) -> tuple[Floats, Floats]:
            size = sizes + more
            free = np.log(np.maximum(n_classes - size, 1))
            return (of_size[rows, np.maximum(size, 0)] + n_kept * kept)[:, None], free[:, None]

        swap = np.log(rates.replaced + rates.dropped * rates.added)
        none = (n, 1)
        terms: dict[str, Floats] = {}
        base, _ = prior(0, sizes)
        terms["same"] = base + np.log1p(-rates.added) + np.zeros(none)
        base, _ = prior(1, sizes)
        terms["one dropped"] = base + np.log(rates.dropped) + absent
        base, _ = prior(2, sizes)
        terms["two dropped"] = base + 2 * np.log(rates.dropped) + pairs
        base, free = prior(-1, sizes - 1)
        terms["added"] = base + np.log(rates.added) - free - given
        base, free = prior(0, sizes - 1)
        terms["replaced"] = _each(base + swap - free + absent, given)
        base, free = prior(1, sizes - 1)
        terms["both"] = _each(base + swap + np.log(rates.dropped) - free + pairs, given)
        highest = np.max([part.max(axis=1, initial=-np.inf) for part in terms.values()], axis=0)
        chances = {name: np.exp(part - highest[:, None]) for name, part in terms.items()}
        total = np.sum([part.sum(axis=1) for part in chances.values()], axis=0)
        return {name: part / total[:, None] for name, part in chances.items()}

    def _size_terms(self, logits: Floats, largest: int) -> Floats:
        """Return the log-chance of each size, less that of all sets of the size together.

        Those are the elementary symmetric polynomials of the odds, ``(n_clips, largest + 1)``.
        """
        sums = np.zeros((len(logits), largest + 1))
        sums[:, 0] = 1
        for odds in np.exp(logits).T:
            sums[:, 1:] += odds[:, None] * sums[:, :-1]
        known = np.full(largest + 1, self.log_sizes[-1])
        known[: min(len(self.log_sizes), largest + 1)] = self.log_sizes[: largest + 1]
        terms: Floats = np.where(sums > 0, known - np.log(np.maximum(sums, 1e-300)), -np.inf)
        return terms


def fit(labels: Bools, probs: Floats, known: Bools, candidates: Bools) -> SetModel:
    """Learn what verified sets look like to a judge, and which errors are made in the others.

    Args:
        labels: Sets as given, shape ``(n_clips, n_classes)``.
        probs: Out-of-fold probabilities of the same shape.
        known: Clips whose sets are right and whole, at least one.
        candidates: Clips whose sets may be wrong.
    """
    slope, offsets = _fit_odds(labels[known], probs[known])
    model = SetModel(
        slope, offsets, _fit_sizes(labels[known]), ErrorRates(dropped=0.1, replaced=0.1, added=0.05)
    )
    return model.learn_rates(labels[candidates], probs[candidates])


def log_odds(probs: Floats) -> Floats:
    """Return the logarithm of the odds of probabilities, which are kept off 0 and 1."""
    probs = np.clip(np.asarray(probs, float), 1e-4, 1 - 1e-4)
    found: Floats = np.log(probs) - np.log1p(-probs)
    return found


def _fit_odds(labels: Bools, probs: Floats) -> tuple[float, Floats]:
    """Calibrate (Platt 1999): one slope for all classes, an offset for each, held to the mean."""
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    n, n_classes = labels.shape
    if labels.all() or not labels.any():
        return 0.0, np.zeros(n_classes)
    columns = sparse.csr_matrix(
        (np.ones(labels.size), np.tile(np.arange(n_classes), n), np.arange(labels.size + 1)),
        shape=(labels.size, n_classes),
    )
    values = sparse.csr_matrix(log_odds(probs).reshape(-1, 1))
    model: Any = LogisticRegression(C=1.0, max_iter=2000)
    model.fit(sparse.hstack([values, columns]).tocsr(), labels.ravel())
    slope = max(float(model.coef_[0, 0]), 0.0)
    offsets: Floats = model.coef_[0, 1:] + model.intercept_[0]
    return slope, offsets


def _fit_sizes(labels: Bools) -> Floats:
    """Log-chances of set sizes; half a clip is spread over those up to one more than was seen."""
    counts = np.bincount(labels.sum(axis=1)).astype(float)
    counts = np.append(counts, 0)
    spread = np.full(len(counts), 0.5 / max(len(counts) - 1, 1))
    # Nobody leaves a clip empty by chance.
    spread[0] = 1e-6
    chances: Floats = (counts + spread) / (counts + spread).sum()
    return np.log(chances)


def _each(added: Floats, given: Floats) -> Floats:
    """Combine every addition with the removal of every given label, ``(n_clips, many)``."""
    return (added[:, :, None] - given[:, None, :]).reshape(len(added), -1)
