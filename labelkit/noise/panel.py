"""A panel of cheap judges on the same clips, each of which counts as much as it is worth here.

Which judge is good depends on the data: on words a linear model of pooled spectrograms, on
notes of instruments trees, on heart beats neighbours. So several are fitted, and their opinions
are pooled: the logarithms of their probabilities are added with weights, and these are the ones
by which the pool gives the given labels of clips that no judge had seen the highest likelihood
(a logarithmic opinion pool: Heskes, 1998). A judge that repeats another one gets little weight
beside it, and one that is no better than chance gets none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from labelkit.errors import InvalidInput
from labelkit.types import Array, Bools, Floats, Ints

# Inverse strengths of the linear models' penalties, for vectors whose length is about 1: which
# fits depends on how many clips there are, and how many of them are wrong.
_STRENGTHS = (3.0, 30.0)
_NEIGHBOURS = 10
_TREES = 150
# Share of given labels that are wrong, as the weighing supposes: a clip that all judges doubt
# must not decide what they are worth.
_WRONG = 0.1
# No judge is ever surer against a class than this part of what chance would give it.
_FLOOR = 0.02
# Clips a judge learns from at most.
_MOST = 20_000
# Deviations from the mean; beyond them single numbers would own the distances.
_FARTHEST = 6.0


class Judge(Protocol):
    """What the panel asks of a member."""

    def fit(self, x: Floats, y: Floats) -> Any:
        """Learn from vectors ``(n, dim)`` and labels ``(n, n_classes)`` in [0, 1]."""

    def judge(self, x: Floats) -> Floats:
        """Return a probability of each class, ``(n, n_classes)``."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A linear model, neighbours and extremely randomised trees on each view of the clips.

    Every clip is judged by members that learnt without its fold. Only their weights, a number a
    judge, are found on all of them: a weight of its own for each fold would make clips of
    different folds hard to compare.

    Args:
        embeddings: Views side by side, ``(n_clips, dim)``.
        labels: Multi-hot labels, ``(n_clips, n_classes)``; 0.5 where nobody knows.
        folds: Frozen fold of each clip, so that no recording is parted; -1 of clips that nothing
            learns from and all judge, ``(n_clips,)``.
        views: How many columns each view has, in their order; all are one view if empty.
        single: Whether probabilities of a clip sum to 1, as each clip has one label.
        seed: Seed of the trees.

    Raises:
        InvalidInput: If the views do not fill the columns.

    Example:
        >>> x = np.tile([[-1.0], [1.0]], (20, 1)) + np.linspace(-0.1, 0.1, 40)[:, None]
        >>> y, folds = np.tile(np.eye(2), (20, 1)), np.arange(40) // 8
        >>> opinions = Panel(embeddings=x, labels=y, folds=folds).judge()
        >>> opinions.probs(0).argmax(axis=1)
        array([0, 1, 0, 1, 0, 1, 0, 1])
    """

    embeddings: Floats = field(repr=False)
    labels: Floats = field(repr=False)
    folds: Ints = field(repr=False)
    views: Sequence[int] = ()
    single: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        dim = self.embeddings.shape[1]
        if self.views and sum(self.views) != dim:
            raise InvalidInput(
                f"views are {sum(self.views)} columns wide, the vectors {dim}; give their widths"
            )

    def judge(self, use: Callable[[int], Bools] | None = None) -> Opinions:
        """Fit all members of each fold, and ask them of the clips of the fold and of no fold.

        Args:
            use: Gives the clips to learn from without a fold, ``(n_clips,)``; all others that
                have a label if None.
        """
        from threadpoolctl import threadpool_limits

        learns = {}
        for fold in np.unique(self.folds[self.folds >= 0]).tolist():
            learns[fold] = (self.folds != fold) & (self.folds >= 0) & self.labels.any(axis=1)
            if use is not None:
                learns[fold] &= use(fold)
            if len(np.unique(self.labels[learns[fold]], axis=0)) < 2:
                raise InvalidInput(
                    f"fold {fold}: the {learns[fold].sum()} labelled clips to learn from do not "
                    "differ in their labels; trust more clips or make other folds"
                )
        # Many small problems gain nothing from several threads for each; trees take all cores.
        with threadpool_limits(1):
            said = {fold: self._judge_fold(fold, learns[fold]) for fold in learns}
        learnt = np.logical_or.reduce(list(learns.values()))
        return Opinions(said, self.labels, self.folds, learnt, self.single)

    def _judge_fold(self, fold: int, learns: Bools) -> Floats:
        return self._ask(self._fit(learns, fold), (self.folds == fold) | (self.folds < 0))

    def _cut(self, rows: Bools | Ints) -> list[Floats]:
        edges = np.cumsum(self.views)[:-1].tolist()
        return np.split(self.embeddings[rows], edges, axis=1)

    def _fit(self, use: Bools, fold: int) -> list[tuple[Scale, list[Judge]]]:
        rows = np.flatnonzero(use)
        rng = np.random.default_rng([self.seed, fold])
        if len(rows) > _MOST:
            rows = np.sort(rng.permutation(rows)[:_MOST])
        seed = int(rng.integers(2**31))
        fitted = []
        for view in self._cut(rows):
            scale = Scale(view)
            judges: list[Judge] = [
                *(Linear(self.single, strength) for strength in _STRENGTHS),
                Neighbours(),
                Trees(self.single, seed),
            ]
            for judge in judges:
                judge.fit(scale(view), self.labels[rows])
            fitted.append((scale, judges))
        return fitted

    def _ask(self, fitted: list[tuple[Scale, list[Judge]]], rows: Bools) -> Floats:
        """Return log probabilities, or log odds, by judge: ``(n_judges, n, n_classes)``."""
        return np.array([
            _logs(judge.judge(scale(view)), single=self.single)
            for view, (scale, judges) in zip(self._cut(rows), fitted, strict=True)
            for judge in judges
        ], np.float32)  # fmt: skip


@dataclass(frozen=True)
class Opinions:
    """What the members said of the clips they had not seen, and the labels they learnt from.

    ``said`` holds, by fold, log probabilities (log odds, if several labels) of the clips of the
    fold and of no fold, ``(n_judges, n, n_classes)``; ``learnt`` marks clips that anything
    learnt from.
    """

    said: dict[int, Floats]
    labels: Floats
    folds: Ints
    learnt: Bools
    single: bool

    @cached_property
    def weights(self) -> Floats:
        """Weight of each judge, the same in all folds, ``(n_judges,)``."""
        parts, labels = [], []
        for fold, said in self.said.items():
            # What stands in no fold was judged by all and counts for none.
            asked = np.flatnonzero((self.folds == fold) | (self.folds < 0))
            known = (self.folds[asked] == fold) & self.learnt[asked]
            parts.append(said[:, known])
            labels.append(self.labels[asked[known]])
        return weigh_opinions(
            np.concatenate(parts, axis=1), np.concatenate(labels), single=self.single
        )

    def probs(self, fold: int) -> Floats:
        """Return what the panel says of the clips of a fold and of no fold, in their order."""
        return pool_opinions(self.said[fold], self.weights, single=self.single)


def fuse_opinions(labels: Array, probs: Sequence[Floats], *, single: bool) -> Floats:
    """Pool what several judges say of clips they had not seen, each as good as it is on them.

    Args:
        labels: Multi-hot labels as given, ``(n_clips, n_classes)``.
        probs: Probabilities of each judge, of the same shape.
        single: Whether a clip has one label.

    Returns:
        Shape ``(n_clips, n_classes)``; of one judge what it says.
    """
    if len(probs) == 1:
        return np.asarray(probs[0], float)
    said = np.array([_logs(np.asarray(part, float), single=single) for part in probs])
    labelled = labels.any(axis=1)
    y = np.asarray(labels, float)[labelled]
    weights = weigh_opinions(said[:, labelled], y, single=single)
    return pool_opinions(said, weights, single=single)


class Scale:
    """Bring each number to mean 0 and deviation 1 over the clips, and vectors to length 1."""

    def __init__(self, x: Floats) -> None:
        deviation = x.std(axis=0)
        self._mean = x.mean(axis=0)
        self._factor = np.where(deviation > 1e-6 * (1 + abs(self._mean)), deviation, np.inf)

    def __call__(self, x: Floats) -> Floats:
        """Scale vectors ``(n, dim)``."""
        scaled = np.clip((x - self._mean) / self._factor, -_FARTHEST, _FARTHEST)
        lengths: Floats = scaled / np.sqrt(x.shape[1])
        return lengths


class Linear:
    """Logistic regression, all classes at once, whose targets may lie between 0 and 1."""

    def __init__(self, single: bool, strength: float) -> None:
        self._single, self._strength = single, strength

    def fit(self, x: Floats, y: Floats) -> None:
        """Minimise the loss and the penalty by L-BFGS."""
        from scipy.optimize import minimize

        basis = None
        if x.shape[1] > len(x):
            # The penalty knows no direction, so the clips' own space is all there is.
            _, sizes, basis = np.linalg.svd(x, full_matrices=False)
            basis = basis[sizes > 1e-9].T
            x = x @ basis
        x = np.column_stack([x, np.ones(len(x))])
        shape = (x.shape[1], y.shape[1])

        def loss(flat: Floats) -> tuple[float, Floats]:
            weights = flat.reshape(shape)
            logits = x @ weights
            penalty = weights.copy()
            penalty[-1] = 0
            if self._single:
                logs = _log_softmax(logits)
                value, error = -(y * logs).sum(), np.exp(logs) * y.sum(axis=1, keepdims=True) - y
            else:
                value = (np.logaddexp(0, logits) - y * logits).sum()
                error = _sigmoid(logits) - y
            return (
                self._strength * value + 0.5 * (penalty**2).sum(),
                (self._strength * x.T @ error + penalty).ravel(),
            )

        found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B",
                         options={"maxiter": 200, "ftol": 1e-7})  # fmt: skip
        weights = found.x.reshape(shape)
        self._weights = weights[:-1] if basis is None else basis @ weights[:-1]
        self._bias = weights[-1]

    def judge(self, x: Floats) -> Floats:
        """Return the probabilities."""
        logits = x @ self._weights + self._bias
        return np.exp(_log_softmax(logits)) if self._single else _sigmoid(logits)


class Neighbours:
    """The labels of the nearest clips by cosine, the nearer the more."""

    def fit(self, x: Floats, y: Floats) -> None:
        """Keep the clips."""
        self._x, self._y = _unit(x), y

    def judge(self, x: Floats) -> Floats:
        """Return the weighted share of each class among the neighbours."""
        k = min(_NEIGHBOURS, len(self._x))
        found = np.empty((len(x), self._y.shape[1]))
        step = max(1, 2**24 // max(1, len(self._x)))
        for start in range(0, len(x), step):
            near = _unit(x[start : start + step]) @ self._x.T
            nearest = np.argpartition(-near, k - 1, axis=1)[:, :k]
            weights = np.maximum(np.take_along_axis(near, nearest, axis=1), 1e-6)
            votes = (weights[..., None] * self._y[nearest]).sum(axis=1)
            # One vote more, which is everybody's: none of ten neighbours is not never.
            found[start : start + step] = (votes + self._y.mean(axis=0)) / (
                weights.sum(axis=1, keepdims=True) + 1
            )
        return found


class Trees:
    """Extremely randomised trees (Geurts et al., 2006), which few wrong labels mislead."""

    def __init__(self, single: bool, seed: int) -> None:
        self._single, self._seed = single, seed

    def fit(self, x: Floats, y: Floats) -> None:
        """Grow them."""
        from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

        options = {"n_estimators": _TREES, "min_samples_leaf": 2, "random_state": self._seed,
                   "max_features": "sqrt", "n_jobs": -1}  # fmt: skip
        self._n_classes = y.shape[1]
        given = y.argmax(axis=1)
        # Numbers of classes are faster; a class for every other clip makes scikit-learn wonder.
        if self._single and 2 * len(np.unique(given)) <= len(y):
            self._model: Any = ExtraTreesClassifier(**options).fit(x, given)
        else:
            self._model = ExtraTreesRegressor(**options).fit(x, y)

    def judge(self, x: Floats) -> Floats:
        """Return the mean over the trees."""
        if not hasattr(self._model, "classes_"):
            return np.asarray(self._model.predict(x)).reshape(len(x), self._n_classes)
        probs = np.zeros((len(x), self._n_classes))
        probs[:, self._model.classes_] = self._model.predict_proba(x)
        return probs


def weigh_opinions(said: Floats, y: Floats, *, single: bool) -> Floats:
    """Find the weights by which pooled opinions give the given labels the highest likelihood.

    Args:
        said: Log probabilities (log odds, if several labels) by judges that had not seen the
            clip, ``(n_judges, n_clips, n_classes)``.
        y: Labels, ``(n_clips, n_classes)``.
        single: Whether a clip has one label.

    Returns:
        Weights, at least 0, that sum to 1, ``(n_judges,)``. The likelihood alone would make the
        pool surer than each of the judges, who learnt from the same clips; then a sound that is
        of no class, of which none of them is sure, is taken for one that is.

    Example:
        >>> right, random = np.log([[0.9, 0.1], [0.1, 0.9]]), np.log(np.full((2, 2), 0.5))
        >>> weigh_opinions(np.array([right, random]), np.eye(2), single=True).round(1)
        array([0.9, 0.1])
    """
    from scipy.optimize import minimize

    n_classes = y.shape[1]

    def loss(weights: Floats) -> tuple[float, Floats]:
        pooled = np.tensordot(weights, said, 1)
        if single:
            probs = np.exp(_log_softmax(pooled))
            given = (probs * y).sum(axis=1)
            mixed = (1 - _WRONG) * given + _WRONG / n_classes
            error = (1 - _WRONG) * (given / mixed)[:, None] * (probs - y)
            value = -np.log(mixed).sum()
        else:
            probs = _sigmoid(pooled)
            given = y * probs + (1 - y) * (1 - probs)
            mixed = (1 - _WRONG) * given + _WRONG / 2
            error = -(1 - _WRONG) / mixed * (2 * y - 1) * probs * (1 - probs)
            value = -np.log(mixed).sum()
        return value / len(y), np.tensordot(said, error, 2) / len(y)

    start = np.full(len(said), 1 / len(said))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(said))
    weights: Floats = found.x / found.x.sum() if found.x.any() else start
    return weights


def pool_opinions(said: Floats, weights: Floats, *, single: bool) -> Floats:
    """Pool log probabilities, or log odds, with weights to probabilities.

    Args:
        said: ``(n_judges, n_clips, n_classes)``.
        weights: ``(n_judges,)``.
        single: Whether probabilities of a clip sum to 1.

    Returns:
        Shape ``(n_clips, n_classes)``.
    """
    pooled = np.tensordot(weights, said, 1)
    return np.exp(_log_softmax(pooled)) if single else _sigmoid(pooled)


def _logs(probs: Floats, *, single: bool) -> Floats:
    """Return log probabilities, or log odds, none of them beyond the floor."""
    if single:
        logs: Floats = np.log((probs + _FLOOR / probs.shape[1]) / (1 + _FLOOR))
        return logs
    held = np.clip(probs, _FLOOR / 2, 1 - _FLOOR / 2)
    odds: Floats = np.log(held / (1 - held))
    return odds


def _log_softmax(logits: Floats) -> Floats:
    logits = logits - logits.max(axis=1, keepdims=True)
    found: Floats = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return found


def _sigmoid(logits: Floats) -> Floats:
    from scipy.special import expit

    probs: Floats = expit(logits)
    return probs


def _unit(x: Floats) -> Floats:
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    scaled: Floats = x / np.where(lengths > 0, lengths, 1)
    return scaled
