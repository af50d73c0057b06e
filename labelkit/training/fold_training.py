"""One stage of one fold: a network made, trained, left on disk, and asked for its judgement."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from labelkit.config import StageSpec, WindowSpec, fingerprint
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
from labelkit.training.results import FoldState, read_weights, write_state
from labelkit.training.spectrograms import Spectrograms
from labelkit.training.trainer import Trainer
from labelkit.types import Floats

if TYPE_CHECKING:
    from labelkit.training.crossfit import CrossFit


@dataclass(frozen=True)
class Training:
    """One stage of one fold, being trained.

    Args:
        cross: The whole it is part of.
        stage: Its settings.
        examples: What it may draw.
        fold: The fold it judges.
        iteration: Which stage or round it is.
        folder: Where it keeps its state.
        key: Of its input, so that no other's checkpoint is taken up.
    """

    cross: CrossFit
    stage: StageSpec
    examples: Examples
    fold: int
    iteration: int
    folder: Path
    key: str

    def run(self, start: FoldState | None, inference: WindowSpec) -> dict[str, Any]:
        """Train, judge and leave the weights; returns the arrays of the result."""
        cross, recipe = self.cross, self.cross.recipe
        if cross.device == "cpu":
            torch.set_num_threads(cross.threads)
        seed = (cross.seed, self.iteration, self.fold)
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
        held_out, test_clips = (
            np.flatnonzero(cross.folds == self.fold),
            cross.test_clips(self.iteration),
        )
        found = predict(held_out, inference, seed=(*seed, 1))
        test = predict(test_clips, recipe.inference, seed=(*seed, 2))
        average = partial(clip_probs, head=cross.head)
        # What was meant to be seen and what was drawn: a resumed training knows only of
        # what it drew since, and drawing too much must not go unrecorded.
        result = {
            "probs": average(found, len(held_out), kind=inference.mean),
            "test_probs": average(test, len(test_clips), kind=recipe.inference.mean),
            "trained_on": np.union1d(self.examples.clips, np.flatnonzero(batches.drawn)),
            "history": history,
            "windows_clip": np.concatenate([held_out[found.rows], test_clips[test.rows]]),
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

        def predict_now() -> Floats:
            return predict_windows(
                model, bank, clips, spec, head="none",
                n_frames=cross.recipe.input.frames, seed=seed,
            ).probs  # fmt: skip

        path = cross.logs / self.folder.parent.name / f"{self.folder.name}.npy"
        n_rows = stage.epochs // stage.log_every
        return [EpochLog(path, predict_now, n_rows=n_rows, every=stage.log_every)]

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

            def predict_now() -> Floats:
                windows = predict_windows(
                    model, bank, valid, spec, head=cross.head,
                    n_frames=cross.recipe.input.frames, seed=(*seed, 3),
                )  # fmt: skip
                return clip_probs(windows, len(valid), kind=spec.mean, head=cross.head)

            single = cross.head == "softmax"
            callbacks.append(Validation(predict_now, cross.labels[valid], single=single))
        return callbacks
