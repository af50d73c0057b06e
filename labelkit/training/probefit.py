"""A scikit-learn classifier on embeddings in the place of the network: one fit a fold and stage.

A finished fit is a folder with ``result.npz``; asked for again with the same clips, it is
read instead of repeated. Every fit starts anew, so none has a parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.config import Recipe, StageSpec, fingerprint, round_stages
from labelkit.noise.panel import Opinions
from labelkit.noise.probe import Probe, is_panel, make_panel
from labelkit.training.crossfit import Decided
from labelkit.training.results import FoldState, read_result, write_result
from labelkit.types import Bools, Floats, Ints


@dataclass(frozen=True)
class ProbeFit:
    """The classifier as a ``fit_predict``, kept on disk as :class:`CrossFit` keeps the network.

    Clips come in two parts: ``len(labels)`` training clips, which have folds, and
    held-out clips behind them, which are only ever judged.

    Args:
        folder: Where the fits of this run are kept; named like the run, whose name stands
            for everything but the clips that are learnt from.
        recipe: Classifier and stages.
        embeddings: Of the clips, training then held-out, ``(n_clips, dim)``.
        labels: Multi-hot labels of the training clips, ``(n_train, n_classes)``.
        folds: Frozen folds of the training clips, ``(n_train,)``.
        noisy: Training clips nobody vouches for, ``(n_train,)``.
        seed: Number from which, with stage and fold, everything random follows.
        mask: 0 where a person was unsure of a class, ``(n_train, n_classes)``; such a clip is
            judged, but not learnt from.
        judge_test_from: First round whose judgement of the held-out clips can count.
        views: Widths of what a vector consists of, to a panel.
    """

    folder: Path
    recipe: Recipe
    embeddings: Floats = field(repr=False)
    labels: Floats = field(repr=False)
    folds: Ints = field(repr=False)
    noisy: Bools = field(repr=False)
    seed: int
    mask: Floats | None = field(default=None, repr=False)
    judge_test_from: int = 0
    views: Sequence[int] = ()
    _opinions: dict[str, Opinions] = field(default_factory=dict, init=False, repr=False)

    def __call__(
        self, trusted: Bools | None, fold: int, warm_start: FoldState | None
    ) -> tuple[Floats, FoldState]:
        """Fit the model of a fold in a round of self-verification, or read it.

        Args:
            trusted: Training clips to learn from, ``(n_train,)``; None leaves it to the stage.
            fold: The fold to leave out and to judge.
            warm_start: The finished fit of the same fold in the round before; it only counts.

        Returns:
            Probabilities of the clips of ``fold``, ``(n_held_out, n_classes)``, and the
            finished fit.

        Raises:
            InvalidInput: If the recipe lacks the stage, or the clips to learn from are all
                of one class.
        """
        iteration = 0 if warm_start is None else warm_start.iteration + 1
        nobody = np.zeros(len(self.labels), bool)
        chosen = nobody if trusted is None else trusted & self.noisy
        stage = round_stages(self.recipe)[min(iteration, 1)]
        decided = Decided(chosen, nobody, trusted)
        return self.fit(
            stage, fold, decided, None, name=f"round-{iteration:02d}", iteration=iteration
        )

    def fit(
        self,
        stage_name: str,
        fold: int,
        decided: Decided,
        start: None,
        *,
        name: str,
        iteration: int,
    ) -> tuple[Floats, FoldState]:
        """Fit the model of a fold in one stage, or read it if it is finished.

        Args:
            stage_name: Which stage of the recipe.
            fold: The fold to leave out and to judge.
            decided: What has been decided of noisy clips.
            start: Nothing: a classifier has no weights to start from.
            name: Folder of the stage in the run's.
            iteration: Which stage or round of the run it is, from 0.

        Returns:
            Probabilities of the clips of ``fold``, ``(n_held_out, n_classes)``, and the
            finished fit.

        Raises:
            InvalidInput: If the clips to learn from are all of one class, or the classifier
                refuses them or its options.
        """
        use = self._examples(self.recipe.stages[stage_name], fold, decided)
        folder = self.folder / name / f"fold-{fold}"
        key = fingerprint(np.flatnonzero(use).tolist())
        about = {
            "key": key,
            "name": f"{self.folder.name}/{name}/fold-{fold}",
            "number": iteration,
            "fold": fold,
            "parent": None,
        }
        finished = read_result(folder, key)
        if finished is None:
            if is_panel(self.recipe.probe.classifier or ""):
                probs = self._ask_panel(stage_name, decided, iteration).probs(fold)
            else:
                probs = self._judge(use, fold, iteration)
            result = self._result(use, fold, probs.astype(np.float32))
            folder.mkdir(parents=True, exist_ok=True)
            write_result(folder, about, result)
            finished = read_result(folder, key)
        assert finished is not None
        return finished

    def _examples(self, stage: StageSpec, fold: int, decided: Decided) -> Bools:
        """Return a mask of the clips to learn from; one without labels teaches nothing."""
        noisy = self.noisy & ~decided.removed
        use: Bools = {
            "all": ~self.noisy | noisy,
            "trusted": ~self.noisy | decided.selected,
            "curated": ~self.noisy,
            "noisy": noisy,
        }[stage.clips] & (self.folds != fold)
        if decided.only is not None:
            use &= decided.only
        if self.mask is not None:
            # A label nobody is sure of teaches nothing; what may be missing is no label.
            use &= ~(self.labels.astype(bool) & (self.mask == 0)).any(axis=1)
        use &= self.labels.any(axis=1)
        return use

    def _n_test(self, iteration: int) -> int:
        """How many held-out clips are judged in a stage or round."""
        judges_test = iteration >= self.judge_test_from
        return len(self.embeddings) - len(self.labels) if judges_test else 0

    def _judge(self, use: Bools, fold: int, iteration: int) -> Floats:
        """Fit, and judge the fold and, behind it, the held-out clips."""
        spec, n_test = self.recipe.probe, self._n_test(iteration)
        probe = Probe(
            embeddings=self.embeddings[: len(self.labels) + n_test],
            labels=np.pad(self.labels, ((0, n_test), (0, 0))),
            mask=None if self.mask is None else np.pad(self.mask > 0, ((0, n_test), (0, 0))),
            # Held-out clips are judged with the fold, by the same model.
            folds=np.pad(self.folds, (0, n_test), constant_values=fold),
            classifier=spec.classifier or "",
            options=spec.options,
            standardise=spec.standardise,
            seed=self._seed(iteration, fold),
        )
        return probe(np.pad(use, (0, n_test)), fold, None)[0]

    def _ask_panel(self, stage_name: str, decided: Decided, iteration: int) -> Opinions:
        """Let a panel judge all folds at once: its members are weighed on all of them."""
        stage, numbers = self.recipe.stages[stage_name], np.unique(self.folds).tolist()
        use = {fold: self._examples(stage, fold, decided) for fold in numbers}
        key = fingerprint([iteration, *(np.flatnonzero(use[fold]).tolist() for fold in numbers)])
        if key not in self._opinions:
            self._opinions.clear()
            n_test = self._n_test(iteration)
            panel = make_panel(
                self.embeddings[: len(self.labels) + n_test],
                np.pad(self.labels, ((0, n_test), (0, 0))),
                np.pad(self.folds, (0, n_test), constant_values=-1),
                None if self.mask is None else np.pad(self.mask > 0, ((0, n_test), (0, 0))),
                self.views,
                self._seed(iteration, 0),
            )
            self._opinions[key] = panel.judge(lambda fold: np.pad(use[fold], (0, n_test)))
        return self._opinions[key]

    def _seed(self, iteration: int, fold: int) -> int:
        return int(np.random.SeedSequence((self.seed, iteration, fold)).generate_state(1)[0])

    def _result(self, use: Bools, fold: int, probs: Floats) -> dict[str, Any]:
        """Return the arrays of a finished fit: what it judged, and what it learnt from."""
        clips = np.flatnonzero(self.folds == fold)
        n_held_out, n_test = len(clips), len(probs) - len(clips)
        clips = np.append(clips, len(self.labels) + np.arange(n_test))
        return {
            "probs": probs[:n_held_out],
            "test_probs": probs[n_held_out:],
            "trained_on": np.flatnonzero(use),
            "history": [],
            "windows_clip": clips,
            # A clip is one window, and has no frames.
            "windows_first": np.zeros(len(clips), int),
            "windows_last": np.zeros(len(clips), int),
            "windows_probs": probs,
        }
