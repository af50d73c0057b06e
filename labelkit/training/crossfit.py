"""Models that judge what they never saw: one training per fold and stage, kept on disk.

A finished training is a folder with ``result.npz`` and ``weights.pt``; asked for again
with the same input, it is read instead of repeated. An unfinished one goes on from its
last checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from labelkit.config import Recipe, StageSpec, WindowSpec, fingerprint, round_stages
from labelkit.errors import InvalidInput
from labelkit.models import check_window, create_model
from labelkit.records import Frames
from labelkit.training.batches import Examples, TrainingBatches
from labelkit.training.callbacks import (
    BestWeights,
    Callback,
    Checkpoint,
    EpochLog,
    Seeding,
    Timer,
    Validation,
)
from labelkit.training.predict import clip_probs, predict_windows
from labelkit.training.results import (
    FoldState,
    read_result,
    read_weights,
    write_result,
    write_state,
)
from labelkit.training.spectrograms import Spectrograms
from labelkit.training.trainer import Trainer
from labelkit.types import Bools, Floats, Ints


@dataclass(frozen=True)
class Choice:
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
    locked clips behind them, which are only ever judged.

    Args:
        folder: Where the trainings of this run are kept; named like the run.
        recipe: Model, stages and windows.
        frames: Spectrograms of the clips, training then locked; each worker maps them anew.
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
        judge_locked_from: First round whose judgement of the locked clips can count.
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
    judge_locked_from: int = 0

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
        number = 0 if warm_start is None else warm_start.number + 1
        nobody = np.zeros(len(self.labels), bool)
        chosen = nobody if trusted is None else trusted & self.noisy
        first, repeated = round_stages(self.recipe)
        windows = self.recipe.verify.windows
        judge = WindowSpec(windows="random", n=windows) if windows else self.recipe.inference
        result = self.fit(
            repeated if number else first,
            fold,
            Choice(chosen, nobody, trusted),
            warm_start,
            name=f"round-{number:02d}",
            number=number,
            judge=judge,
        )
        if warm_start is not None and self.recipe.verify.keep == "last":
            for path in warm_start.folder.glob("*.pt"):
                path.unlink(missing_ok=True)
        return result

    def fit(
        self,
        stage_name: str,
        fold: int,
        choice: Choice,
        start: FoldState | None,
        *,
        name: str,
        number: int,
        judge: WindowSpec | None = None,
    ) -> tuple[Floats, FoldState]:
        """Train the model of a fold in one stage, or read it if it is finished.

        Args:
            stage_name: Which stage of the recipe.
            fold: The fold to leave out and to judge.
            choice: What has been decided of noisy clips.
            start: The finished training of the same fold whose weights it starts from.
            name: Folder of the stage in the run's.
            number: Which stage or round of the run it is, from 0.
            judge: Windows that judge the fold; those of the recipe's inference if None.

        Returns:
            Probabilities of the clips of ``fold``, ``(n_held_out, n_classes)``, and the
            finished training.

        Raises:
            InvalidInput: If no clip is left to learn from, or the window does not suit
                the network.
            LabelkitError: If a loss is not finite.
        """
        stage = self.recipe.stages[stage_name]
        examples = self._examples(stage, stage_name, fold, choice)
        folder = self.folder / name / f"fold-{fold}"
        content = [examples.clips.tolist(), examples.pools.tolist(), asdict(stage)]
        key = fingerprint([*content, None if start is None else start.name])
        about = {
            "key": key,
            "name": f"{self.folder.name}/{name}/fold-{fold}",
            "number": number,
            "fold": fold,
            "parent": None if start is None else start.name,
        }
        finished = read_result(folder, key)
        if finished is None:
            folder.mkdir(parents=True, exist_ok=True)
            training = Training(self, stage, examples, fold, number, folder, key)
            write_result(folder, about, training.run(start, judge or self.recipe.inference))
            finished = read_result(folder, key)
        assert finished is not None
        return finished

    def locked(self, number: int) -> Ints:
        """Return the locked clips to judge in this round: none where a later round counts."""
        if number < self.judge_locked_from:
            return np.array([], int)
        return np.arange(len(self.labels), len(self.frames.starts))

    def teaches(self) -> Bools:
        """Find clips whose label set says something: an empty one does if a person left it so."""
        labelled = np.asarray(self.labels.any(axis=1))
        return labelled if self.head == "softmax" else labelled | ~self.noisy

    def _examples(self, stage: StageSpec, name: str, fold: int, choice: Choice) -> Examples:
        free = (self.folds != fold) & self.teaches()
        if choice.only is not None:
            free &= choice.only
        selected = choice.selected & self.noisy
        curated = ~self.noisy & ~self.once_noisy
        shares = stage.pools
        if not shares.selected and (shares.noisy or shares.curated):
            # A pool that is never drawn must not swallow clips: each stays where it came from.
            selected, curated = np.zeros_like(selected), ~self.noisy
        chosen = selected | (~self.noisy & ~curated)
        noisy = self.noisy & ~choice.removed
        if stage.clips == "noisy":
            members = [free & self.noisy & ~choice.removed]
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


@dataclass(frozen=True)
class Training:
    """One stage of one fold, being trained.

    Args:
        cross: The whole it is part of.
        stage: Its settings.
        examples: What it may draw.
        fold: The fold it judges.
        number: Which stage or round it is.
        folder: Where it keeps its state.
        key: Of its input, so that no other's checkpoint is taken up.
    """

    cross: CrossFit
    stage: StageSpec
    examples: Examples
    fold: int
    number: int
    folder: Path
    key: str

    def run(self, start: FoldState | None, judge: WindowSpec) -> dict[str, Any]:
        """Train, judge and leave the weights; returns the arrays of the result."""
        cross, recipe = self.cross, self.cross.recipe
        if cross.device == "cpu":
            torch.set_num_threads(cross.threads)
        seed = (cross.seed, self.number, self.fold)
        bank = self._bank(cross.frames)
        model = self._create_model(seed)
        mean, std = self._warm_start(model, bank, start)
        bank.normalise(mean, std)
        variants = [self._bank(cross.variants[name]) for name in self.stage.variants]
        for variant in variants:
            variant.normalise(mean, std)
        model = model.to(cross.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        batches = TrainingBatches(
            [bank, *variants],
            self.examples,
            self.stage,
            n_frames=recipe.input.frames,
            seed=(*seed, 0),
        )
        checkpoint = Checkpoint(self.folder / f"checkpoint-{self.key}.pt")
        callbacks = [
            Seeding((*seed, 4)),
            *self._validation(model, bank, seed),
            *self._epoch_log(model, bank, seed),
            Timer(),
            *self._best_weights(checkpoint),
            checkpoint,
        ]
        trainer = Trainer(
            model,
            self.stage,
            head=cross.head,
            callbacks=callbacks,
            clip_name=lambda clip: cross.paths[clip],
        )
        history = trainer.fit(batches)
        predict = partial(
            predict_windows, model, bank, head=cross.head, n_frames=recipe.input.frames
        )
        held_out, locked = np.flatnonzero(cross.folds == self.fold), cross.locked(self.number)
        found = predict(held_out, judge, seed=(*seed, 1))
        test = predict(locked, recipe.inference, seed=(*seed, 2))
        average = partial(clip_probs, head=cross.head)
        # What was meant to be seen and what was drawn: a resumed training knows only of
        # what it drew since, and drawing too much must not go unrecorded.
        result = {
            "probs": average(found, len(held_out), kind=judge.mean),
            "test_probs": average(test, len(locked), kind=recipe.inference.mean),
            "trained_on": np.union1d(self.examples.clips, np.flatnonzero(batches.drawn)),
            "history": history,
            "windows_clip": np.concatenate([held_out[found.rows], locked[test.rows]]),
            "windows_first": np.concatenate([found.first, test.first]),
            "windows_last": np.concatenate([found.last, test.last]),
            "windows_probs": np.concatenate([p for p in (found.probs, test.probs) if len(p)]),
        }
        write_state(
            self.folder / "weights.pt",
            {
                "model": model.state_dict(),
                "mean": torch.tensor(mean),
                "std": torch.tensor(std),
                "classes": list(cross.classes),
                "network": recipe.model.name,
                "heard": self._heard(),
            },
        )
        if self.stage.keep_best == 1:  # It is the same as the weights.
            for path in self.folder.glob("best-*.pt"):
                path.unlink()
        checkpoint.path.unlink(missing_ok=True)
        return result

    def _bank(self, frames: Frames) -> Spectrograms:
        recipe = self.cross.recipe
        # Only what this training needs: others may be adding to the end of the file.
        shape = (int((frames.starts + frames.lengths).max()), recipe.features.n_mels)
        matrix = np.memmap(frames.path, np.float16, "r", shape=shape)
        return Spectrograms(matrix, frames.starts, frames.lengths, recipe.input, self.cross.device)

    def _create_model(self, seed: tuple[int, ...]) -> nn.Module:
        recipe = self.cross.recipe
        spec, channels = recipe.model, recipe.input.channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
            model = create_model(
                spec.name,
                len(self.cross.classes),
                in_channels=channels,
                width=spec.width,
                dropout=spec.dropout,
            )
        check_window(model, spec.name, channels, recipe.features.n_mels, recipe.input.frames)
        return model

    def _warm_start(
        self, model: nn.Module, bank: Spectrograms, start: FoldState | None
    ) -> tuple[Floats, Floats]:
        """Return mean and deviation of the bands, and load the weights to start from."""
        spec = self.cross.recipe.input
        if start is not None:
            weights = read_weights(start.folder / "weights.pt", self.cross.classes, self._heard())
            try:
                model.load_state_dict(weights["model"])
            except RuntimeError as error:
                raise InvalidInput(
                    f"{start.name} is a {weights['network']} of another shape than this "
                    f"{self.cross.recipe.model.name}; start from a run of the same model settings"
                ) from error
            return weights["mean"].numpy(), weights["std"].numpy()
        if spec.normalise == "band":
            return bank.statistics(np.unique(self.examples.clips))
        ones = np.ones(bank.n_mels, np.float32)
        return spec.mean * ones, spec.std * ones

    def _heard(self) -> str:
        recipe = self.cross.recipe
        return fingerprint([asdict(recipe.features), asdict(recipe.input)])

    def _epoch_log(
        self, model: nn.Module, bank: Spectrograms, seed: tuple[int, ...]
    ) -> list[Callback]:
        """Make the log of all training clips, if the stage is logged."""
        cross, stage = self.cross, self.stage
        if cross.logs is None or not stage.log_every or stage.log_every > stage.epochs:
            return []
        clips, spec = np.arange(len(cross.labels)), WindowSpec(windows="centre")

        def judge() -> Floats:
            return predict_windows(
                model, bank, clips, spec, head="none",
                n_frames=cross.recipe.input.frames, seed=seed,
            ).probs  # fmt: skip

        path = cross.logs / self.folder.parent.name / f"{self.folder.name}.npy"
        n_rows = stage.epochs // stage.log_every
        return [EpochLog(path, judge, n_rows=n_rows, every=stage.log_every)]

    def _best_weights(self, checkpoint: Checkpoint) -> list[Callback]:
        stage = self.stage
        if not stage.keep_best:
            return []
        by = stage.monitor if stage.keep_by == "monitor" else stage.keep_by
        return [BestWeights(self.folder, by, stage.keep_best, checkpoint)]

    def _validation(
        self, model: nn.Module, bank: Spectrograms, seed: tuple[int, ...]
    ) -> list[Callback]:
        """Make scores on the held-out verified clips, if the stage decides by one."""
        cross, stage = self.cross, self.stage
        callbacks: list[Callback] = []
        wanted = {stage.monitor, stage.keep_by if stage.keep_best else "monitor"}
        wanted -= {"none", "monitor"}
        if wanted:
            valid = np.flatnonzero((cross.folds == self.fold) & ~cross.noisy & cross.teaches())
            if not len(valid) or not cross.labels[valid].any():
                raise InvalidInput(
                    f"monitor {stage.monitor}: fold {self.fold} holds no verified clip to measure "
                    "it on; verify some, or set monitor=none, keep_best=0"
                )
            single_only = wanted & {"accuracy", "map3"}
            if cross.head == "sigmoid" and single_only:
                raise InvalidInput(
                    f"monitor {min(single_only)} is for one label a clip; take lwlrap"
                )
            spec = cross.recipe.validation

            def judge() -> Floats:
                windows = predict_windows(
                    model, bank, valid, spec, head=cross.head,
                    n_frames=cross.recipe.input.frames, seed=(*seed, 3),
                )  # fmt: skip
                return clip_probs(windows, len(valid), kind=spec.mean, head=cross.head)

            single = cross.head == "softmax"
            callbacks.append(Validation(judge, cross.labels[valid], single=single))
        return callbacks
