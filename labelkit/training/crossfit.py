"""Models that judge what they never saw: one training per fold and stage, kept on disk.

A finished training is a folder with ``result.npz`` and ``weights.pt``; asked for again
with the same input, it is read instead of repeated. An unfinished one goes on from its
last checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from labelkit.config import Recipe, StageSpec, WindowSpec, fingerprint, round_stages
from labelkit.errors import InvalidInput
from labelkit.records import Frames
from labelkit.training.batches import Examples
from labelkit.training.fold_training import Training
from labelkit.training.results import FoldState, read_result, write_result
from labelkit.types import Bools, Floats, Ints


@dataclass(frozen=True)
class Decided:
    """What has been decided of noisy clips before a stage, ``(n_train,)`` each.

    ``selected`` are vouched for by a selection, ``removed`` are left out of the noisy
    pool; ``only`` limits a stage to some clips, None does not.
    """

    selected: Bools
    removed: Bools
    only: Bools | None = None


@dataclass(frozen=True)
class CrossFit:
    """The trainer as a ``fit_predict``: call it with trusted clips, a fold and a warm start.

    Clips come in two parts: ``len(labels)`` training clips, which have folds, and
    held-out clips behind them, which are only ever judged.

    Args:
        folder: Where the trainings of this run are kept; named like the run.
        recipe: Model, stages and windows.
        frames: Spectrograms of the clips, training then held-out; each worker maps them anew.
        variants: Spectrograms of offline variants of the same clips, by name.
        labels: Multi-hot labels of the training clips, ``(n_train, n_classes)``.
        folds: Frozen folds of the training clips, ``(n_train,)``.
        noisy: Training clips nobody vouches for, ``(n_train,)``.
        once_noisy: Training clips nobody vouched for at first, ``(n_train,)``.
        mask: Classes that count in the loss, ``(n_train, n_classes)``; all if None.
        paths: Names of the clips, for messages.
        classes: Names of the classes.
        head: ``softmax`` or ``sigmoid``.
        seed: Number from which, with stage and fold, everything random follows.
        logs: Folder of the epoch logs of this run; where stages are not logged, None.
        device: ``cpu`` or ``cuda``.
        threads: Processor threads of one training.
        judge_test_from: First round whose judgement of the held-out clips can count.
    """

    folder: Path
    recipe: Recipe
    frames: Frames
    labels: Floats = field(repr=False)
    folds: Ints = field(repr=False)
    noisy: Bools = field(repr=False)
    once_noisy: Bools = field(repr=False)
    paths: Sequence[str] = field(repr=False)
    classes: Sequence[str] = field(repr=False)
    head: str
    seed: int
    logs: Path | None = None
    variants: dict[str, Frames] = field(default_factory=dict, repr=False)
    mask: Floats | None = field(default=None, repr=False)
    device: str = "cpu"
    threads: int = 1
    judge_test_from: int = 0

    def __call__(
        self, trusted: Bools | None, fold: int, warm_start: FoldState | None
    ) -> tuple[Floats, FoldState]:
        """Train the model of a fold in a round of self-verification, or read it.

        Args:
            trusted: Training clips to learn from, ``(n_train,)``; None leaves it to the
                stage: all clips, the noisy ones by its noisy loss, or the others only.
            fold: The fold to leave out and to judge.
            warm_start: The finished training of the same fold to go on from.

        Returns:
            Probabilities of the clips of ``fold``, ``(n_held_out, n_classes)``, and the
            finished training.

        Raises:
            InvalidInput: If the recipe lacks the stage or no clip is left to learn from.
        """
        iteration = 0 if warm_start is None else warm_start.iteration + 1
        nobody = np.zeros(len(self.labels), bool)
        chosen = nobody if trusted is None else trusted & self.noisy
        first, repeated = round_stages(self.recipe)
        windows = self.recipe.verify.windows
        inference = WindowSpec(windows="random", n=windows) if windows else self.recipe.inference
        result = self.fit(
            repeated if iteration else first,
            fold,
            Decided(chosen, nobody, trusted),
            warm_start,
            name=f"round-{iteration:02d}",
            iteration=iteration,
            inference=inference,
        )
        if warm_start is not None and self.recipe.verify.keep == "last":
            for path in warm_start.folder.glob("*.pt"):
                path.unlink(missing_ok=True)
        return result

    def fit(
        self,
        stage_name: str,
        fold: int,
        decided: Decided,
        start: FoldState | None,
        *,
        name: str,
        iteration: int,
        inference: WindowSpec | None = None,
    ) -> tuple[Floats, FoldState]:
        """Train the model of a fold in one stage, or read it if it is finished.

        Args:
            stage_name: Which stage of the recipe.
            fold: The fold to leave out and to judge.
            decided: What has been decided of noisy clips.
            start: The finished training of the same fold whose weights it starts from.
            name: Folder of the stage in the run's.
            iteration: Which stage or round of the run it is, from 0.
            inference: Windows that judge the fold; those of the recipe's inference if None.

        Returns:
            Probabilities of the clips of ``fold``, ``(n_held_out, n_classes)``, and the
            finished training.

        Raises:
            InvalidInput: If no clip is left to learn from, or the window does not suit
                the network.
            LabelkitError: If a loss is not finite.
        """
        stage = self.recipe.stages[stage_name]
        examples = self._examples(stage, stage_name, fold, decided)
        folder = self.folder / name / f"fold-{fold}"
        content = [examples.clips.tolist(), examples.pools.tolist(), asdict(stage)]
        key = fingerprint([*content, None if start is None else start.name])
        about = {
            "key": key,
            "name": f"{self.folder.name}/{name}/fold-{fold}",
            "number": iteration,
            "fold": fold,
            "parent": None if start is None else start.name,
        }
        finished = read_result(folder, key)
        if finished is None:
            folder.mkdir(parents=True, exist_ok=True)
            training = Training(self, stage, examples, fold, iteration, folder, key)
            write_result(folder, about, training.run(start, inference or self.recipe.inference))
            finished = read_result(folder, key)
        assert finished is not None
        return finished

    def test_clips(self, iteration: int) -> Ints:
        """Return the held-out clips to judge in this round: none where a later round counts."""
        if iteration < self.judge_test_from:
            return np.array([], int)
        return np.arange(len(self.labels), len(self.frames.starts))

    def teaches(self) -> Bools:
        """Find clips whose label set says something: an empty one does if a person left it so."""
        labelled = np.asarray(self.labels.any(axis=1))
        return labelled if self.head == "softmax" else labelled | ~self.noisy

    def _examples(self, stage: StageSpec, name: str, fold: int, decided: Decided) -> Examples:
        free = (self.folds != fold) & self.teaches()
        if decided.only is not None:
            free &= decided.only
        selected = decided.selected & self.noisy
        curated = ~self.noisy & ~self.once_noisy
        shares = stage.pools
        if not shares.selected and (shares.noisy or shares.curated):
            # A pool that is never drawn must not swallow clips: each stays where it came from.
            selected, curated = np.zeros_like(selected), ~self.noisy
        chosen = selected | (~self.noisy & ~curated)
        noisy = self.noisy & ~decided.removed
        if stage.clips == "noisy":
            members = [free & self.noisy & ~decided.removed]
        elif stage.clips == "curated":
            members = [free & False, free & ~self.noisy & self.once_noisy, free & curated]
        elif stage.clips == "trusted":
            members = [free & False, free & chosen, free & curated]
        else:
            stay = stage.pools.selected_stay_noisy
            members = [free & noisy & (stay | ~selected), free & chosen, free & curated]
        clips = np.concatenate([np.flatnonzero(mask) for mask in members])
        pools = np.repeat(np.arange(len(members)), [mask.sum() for mask in members])
        if len(np.unique(clips)) < 2:
            raise InvalidInput(
                f"stage {name}, fold {fold}: {len(clips)} clips to learn from; verify more, or "
                "choose other clips for the stage"
            )
        mask = None if self.mask is None else self.mask[clips]
        return Examples(clips, self.labels[clips], pools, mask)
