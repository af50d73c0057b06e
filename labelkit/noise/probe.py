"""A scikit-learn classifier on embeddings as the model that judges labels.

Where embeddings are good, this is the strongest simple method there is (SelfClean-Audio,
2025: a grouped out-of-fold probe beats neighbours from 10 % noise on), and it trains in
seconds: the loop of :func:`labelkit.noise.verify.self_verify` runs with it as with a network.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labelkit import metrics, registry
from labelkit.config import ProbeSpec
from labelkit.errors import InvalidInput
from labelkit.noise.panel import Opinions, Panel
from labelkit.noise.verify import FitPredict
from labelkit.types import Array, Bools, Floats, Ints

PANEL = "labelkit.noise.panel:Panel"
# Settings of a classifier where nothing else is said: cleanlab's own for audio embeddings.
DEFAULTS: dict[str, dict[str, Any]] = {
    "sklearn.linear_model:LogisticRegression": {"C": 0.01, "max_iter": 1000},
}


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A classifier on embeddings, as the ``fit_predict`` of one fold.

    Clips with at most one label each make one multi-class problem, several labels one
    problem per class. Classes that the training clips of a fold lack get probability 0.
    A classifier without ``predict_proba`` is judged by the softmax (the sigmoid, if
    several labels) of its ``decision_function``: good for ranks, not for thresholds.

    ``embeddings`` has the shape ``(n_clips, dim)``, ``labels`` is multi-hot ``(n_clips,
    n_classes)``, ``folds`` ``(n_clips,)`` are the frozen ones. ``classifier`` is a
    registered name or ``package.module:Class``, ``options`` its keyword arguments;
    ``standardise`` brings every dimension to mean 0 and deviation 1 over the training
    clips; ``seed`` is its ``random_state``, if it takes one. Of clips with several labels
    ``mask``, boolean ``(n_clips, n_classes)``, says which classes they teach. ``views`` are the
    widths of what the columns consist of, which a :class:`~labelkit.noise.panel.Panel` judges by
    each; to others they are one vector.

    Raises:
        InvalidInput: If the arrays do not fit, an embedding is not finite, or the
            classifier has no such option.
        UnknownName: If there is no such classifier.

    Example:
        >>> x = np.array([[-1.0], [1.0], [-0.9], [1.1], [-1.1], [0.9]])
        >>> probe = Probe(embeddings=x, labels=np.eye(2)[[0, 1] * 3], folds=np.arange(6) // 2)
        >>> cross_probs(probe, probe.folds).argmax(axis=1)
        array([0, 1, 0, 1, 0, 1])
    """

    embeddings: Floats = field(repr=False)
    labels: Array = field(repr=False)
    folds: Ints = field(repr=False)
    classifier: str = "sklearn.linear_model:LogisticRegression"
    options: Mapping[str, Any] = field(default_factory=dict)
    standardise: bool = True
    seed: int = 0
    mask: Bools | None = field(default=None, repr=False)
    views: Sequence[int] = ()
    _opinions: dict[bytes, Opinions] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        n_clips = len(metrics.check_labels(self.labels))
        if self.embeddings.ndim != 2 or not len(self.embeddings) == n_clips == len(self.folds):
            raise InvalidInput(
                f"embeddings must have shape (n_clips, dim), got {self.embeddings.shape}; labels "
                f"has {n_clips} clips, folds {len(self.folds)}"
            )
        bad = np.flatnonzero(~np.isfinite(self.embeddings).all(axis=1))
        if len(bad):
            raise InvalidInput(
                f"the embeddings of {len(bad)} clips are NaN or infinite, the first is clip "
                f"{bad[0]}; leave them out"
            )
        self._create()

    def __call__(self, trusted: Bools | None, fold: int, warm_start: object) -> tuple[Floats, None]:
        """Fit without the clips of ``fold``, and give the probabilities of exactly those.

        Args:
            trusted: Clips to fit to; None for all. Those without labels never count.
            fold: The fold to leave out and to judge.
            warm_start: Ignored; every fit starts anew.

        Returns:
            Probabilities, shape ``(n_held_out, n_classes)``, and no state.

        Raises:
            InvalidInput: If the clips to learn from are all of one class, or the classifier
                refuses them or its options.
        """
        if is_panel(self.classifier):
            return self._ask_panel(trusted).probs(fold), None
        labels = metrics.check_labels(self.labels)
        held_out = self.folds == fold
        use = ~held_out & labels.any(axis=1)
        if trusted is not None:
            use &= trusted
        x, y = self.embeddings[use], labels[use]
        counts = y.sum(axis=0)
        single = bool((labels.sum(axis=1) <= 1).all())
        learnable = np.flatnonzero((counts > 0) & (counts < len(y)))
        if not len(learnable):
            raise InvalidInput(
                f"fold {fold}: the {len(y)} labelled clips to learn from do not differ in their "
                "labels; trust more clips or make other folds"
            )
        x_out = self.embeddings[held_out]
        if self.standardise:
            from sklearn.preprocessing import StandardScaler

            scaler = StandardScaler().fit(x)
            x, x_out = scaler.transform(x), scaler.transform(x_out)
        probs = np.zeros((len(x_out), labels.shape[1]))
        try:
            if single:
                probs[:, learnable] = self._judge(x, y[:, learnable].argmax(axis=1), x_out)
            else:
                probs[:, counts == len(y)] = 1
                for index in learnable:
                    known = slice(None) if self.mask is None else self.mask[use][:, index]
                    if len(np.unique(y[known, index])) < 2:
                        probs[:, index] = y[known, index].mean() if y[known].size else 0
                        continue
                    probs[:, index] = self._judge(x[known], y[known, index], x_out)[:, 1]
        except ValueError as error:
            reason = str(error).partition("\n")[0]
            raise InvalidInput(f"{self.classifier}, fold {fold}: {reason}") from error
        return probs, None

    def _ask_panel(self, trusted: Bools | None) -> Opinions:
        """Let a panel judge all folds, as its members are weighed on all of them."""
        key = b"" if trusted is None else np.asarray(trusted, bool).tobytes()
        if key not in self._opinions:
            self._opinions.clear()
            panel = make_panel(
                self.embeddings, self.labels, self.folds, self.mask, self.views, self.seed
            )
            use = None if trusted is None else lambda fold: np.asarray(trusted, bool)
            self._opinions[key] = panel.judge(use)
        return self._opinions[key]

    def _judge(self, x: Floats, y: Bools | Ints, x_out: Floats) -> Floats:
        """Return the probability of each value of ``y``, in order, for every row of ``x_out``."""
        from sklearn.utils.extmath import softmax

        model = self._create().fit(x, y)
        if hasattr(model, "predict_proba"):
            probs: Floats = model.predict_proba(x_out)
            return probs
        if not hasattr(model, "decision_function"):
            raise InvalidInput("it has neither predict_proba nor decision_function; take another")
        found = model.decision_function(x_out)
        if found.ndim == 1:
            found = np.column_stack([np.zeros(len(found)), found])
        probs = softmax(found)
        return probs

    def _create(self) -> Any:
        """Create the classifier, not fitted yet."""
        target = registry.check("classifier", self.classifier)
        if is_panel(self.classifier):
            if self.options:
                raise InvalidInput(f"{self.classifier} has no options, got {[*self.options]}")
            return None
        cls = registry.resolve("classifier", self.classifier)
        known = inspect.signature(cls).parameters
        for key in self.options:
            if key not in known:
                raise InvalidInput(
                    f"{self.classifier} has no option {key!r}; "
                    f"{registry.suggestion(key, sorted(known))}"
                )
        seed = {"random_state": self.seed} if "random_state" in known else {}
        return cls(**seed, **DEFAULTS.get(target, {}) | dict(self.options))


def is_panel(classifier: str) -> bool:
    """Tell whether a classifier is a panel of several, which judges all folds together."""
    return registry.TABLE["classifier"].get(classifier, classifier) == PANEL


def make_panel(
    embeddings: Floats,
    labels: Array,
    folds: Ints,
    mask: Array | None,
    views: Sequence[int],
    seed: int,
) -> Panel:
    """Make a panel of what a :class:`Probe` is made of; ``folds`` may hold -1, as the panel's.

    Args:
        embeddings: Views side by side, ``(n_clips, dim)``.
        labels: Multi-hot labels, ``(n_clips, n_classes)``.
        folds: Frozen fold of each clip, ``(n_clips,)``.
        mask: Classes that a clip teaches, ``(n_clips, n_classes)``; all if None.
        views: Widths of the views.
        seed: Seed of its trees.
    """
    found = metrics.check_labels(labels)
    single = bool((found.sum(axis=1) <= 1).all())
    y = found.astype(float)
    if mask is not None and not single:
        y[~np.asarray(mask, bool)] = 0.5
    return Panel(
        embeddings=embeddings, labels=y, folds=np.asarray(folds), views=views, single=single,
        seed=seed,
    )  # fmt: skip


def cross_probs(fit_predict: FitPredict, folds: Ints) -> Floats:
    """Judge every clip by the model that was fitted without its fold.

    Args:
        fit_predict: The model, a :class:`Probe` say; it learns from all labels.
        folds: Frozen fold of each clip, shape ``(n_clips,)``.

    Returns:
        Out-of-fold probabilities, shape ``(n_clips, n_classes)``.

    Raises:
        InvalidInput: If there is no clip, or the model judges other clips than asked.
    """
    folds = np.asarray(folds)
    parts = [
        (folds == fold, fit_predict(None, fold, None)[0]) for fold in np.unique(folds).tolist()
    ]
    if not parts:
        raise InvalidInput("folds is empty; there is no clip to judge")
    probs = np.empty((len(folds), parts[0][1].shape[1]))
    for held_out, judged in parts:
        if len(judged) != held_out.sum():
            raise InvalidInput(
                f"the model judged {len(judged)} clips of a fold that has {held_out.sum()}; give "
                "the folds it was made with"
            )
        probs[held_out] = judged
    return probs


def check_probe(spec: ProbeSpec) -> None:
    """Refuse a classifier that cannot be made, before embeddings are computed for it.

    Raises:
        InvalidInput: If it has no such option.
        UnknownName: If there is no such classifier.
    """
    nothing = np.zeros((1, 2))
    try:
        Probe(
            embeddings=nothing,
            labels=nothing,
            folds=np.zeros(1, int),
            classifier=spec.classifier or "",
            options=spec.options,
        )
    except TypeError as error:
        raise InvalidInput(f"probe.classifier {spec.classifier}: {error}") from error
