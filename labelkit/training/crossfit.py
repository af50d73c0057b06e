"""Models that judge what they never saw: one training per fold and round, kept on disk.

A finished training is a folder with ``result.npz`` and ``weights.pt``; asked for again
with the same input, it is read instead of repeated. An unfinished one goes on from its
last checkpoint.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelkit.config import Recipe, StageSpec, fingerprint
from labelkit.errors import InvalidInput
from labelkit.models import create_model
from labelkit.training.augment import Mixup, SpecAugment
from labelkit.training.batches import FeatureBank, TrainingBatches
from labelkit.training.callbacks import Checkpoint, Timer, read_state, write_state
from labelkit.training.predict import predict_clips
from labelkit.training.trainer import Trainer

FIRST_STAGE, NEXT_STAGE = "pretrain", "finetune"


@dataclass(frozen=True)
class FoldState:
    """A finished training: what to warm-start from, and the record of what it saw.

    ``trained_on`` are the indices of the clips that were really drawn, ``test_probs``
    the judgement of the locked clips, shape ``(n_test, n_classes)``.
    """

    name: str
    folder: Path
    round: int
    fold: int
    parent: str | None
    trained_on: np.ndarray
    test_probs: np.ndarray
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class CrossFit:
    """The trainer as a ``fit_predict``: call it with trusted clips, a fold and a warm start.

    Clips come in two parts: ``len(labels)`` training clips, which have folds, and
    locked clips behind them, which are only ever judged.

    Args:
        folder: Where the trainings of this run are kept.
        recipe: Model, stages and windows.
        frames: File of all frames, float16 ``(total, n_mels)``; each worker maps it anew.
        starts: First frame of each clip, training then locked, ``(n_clips,)``.
        lengths: Number of frames of each, ``(n_clips,)``.
        labels: Multi-hot labels of the training clips, ``(n_train, n_classes)``.
        folds: Frozen folds of the training clips, ``(n_train,)``.
        noisy: Training clips nobody vouches for, ``(n_train,)``.
        head: ``softmax`` or ``sigmoid``.
        seed: Number from which, with round and fold, everything random follows.
        device: ``cpu`` or ``cuda``.
        threads: Processor threads of one training.
        judge_locked_from: First round whose judgement of the locked clips can count.
    """

    folder: Path
    recipe: Recipe
    frames: Path
    starts: np.ndarray = field(repr=False)
    lengths: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    folds: np.ndarray = field(repr=False)
    noisy: np.ndarray = field(repr=False)
    head: str
    seed: int
    device: str = "cpu"
    threads: int = 1
    judge_locked_from: int = 0

    def __call__(
        self, trusted: np.ndarray | None, fold: int, warm_start: FoldState | None
    ) -> tuple[np.ndarray, FoldState]:
        """Train the model of a fold, or read it if it is finished.

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
        number = 0 if warm_start is None else warm_start.round + 1
        stage_name = NEXT_STAGE if number else FIRST_STAGE
        if stage_name not in self.recipe.stages:
            raise InvalidInput(f"recipe {self.recipe.name} has no stage {stage_name!r}")
        stage = self.recipe.stages[stage_name]
        use = (self.folds != fold) & self._teaches()
        if trusted is not None:
            use &= trusted
        elif stage.clips == "trusted":
            use &= ~self.noisy
        clips = np.flatnonzero(use)
        if len(clips) < 2:
            raise InvalidInput(f"fold {fold} leaves {len(clips)} clips to learn from; verify more")
        noisy = self.noisy[clips] & (trusted is None)

        name = f"round-{number:02d}/fold-{fold}"
        folder = self.folder / name
        key = fingerprint([clips.tolist(), noisy.tolist(), asdict(stage)])
        finished = _read_result(folder, name, key)
        if finished is None:
            folder.mkdir(parents=True, exist_ok=True)
            _write_result(folder, key, self._train(stage, clips, noisy, fold, warm_start, folder))
            finished = _read_result(folder, name, key)
        if warm_start is not None and self.recipe.verify.keep == "last":
            (warm_start.folder / "weights.pt").unlink(missing_ok=True)
        assert finished is not None
        return finished

    def _locked(self, number: int) -> np.ndarray:
        """Locked clips to judge in this round: none where a later round counts."""
        if number < self.judge_locked_from:
            return np.array([], int)
        return np.arange(len(self.labels), len(self.starts))

    def _teaches(self) -> np.ndarray:
        """Clips whose label set says something: an empty one does if a person left it so."""
        labelled = np.asarray(self.labels.any(axis=1))
        return labelled if self.head == "softmax" else labelled | ~self.noisy

    def _train(
        self,
        stage: StageSpec,
        clips: np.ndarray,
        noisy: np.ndarray,
        fold: int,
        warm_start: FoldState | None,
        folder: Path,
    ) -> dict[str, Any]:
        number = 0 if warm_start is None else warm_start.round + 1
        if self.device == "cpu":
            torch.set_num_threads(self.threads)
        # Only what this training needs: others may be adding to the end of the file.
        shape = (int((self.starts + self.lengths).max()), self.recipe.features.n_mels)
        frames = np.memmap(self.frames, np.float16, "r", shape=shape)
        bank = FeatureBank(frames, self.starts, self.lengths, self.device)
        seed = (self.seed, number, fold)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
            model = create_model(
                self.recipe.model.name, self.labels.shape[1], width=self.recipe.model.width
            )
        if warm_start is None:
            mean, std = bank.statistics(clips)
        else:
            weights = read_state(warm_start.folder / "weights.pt")
            model.load_state_dict(weights["model"])
            mean, std = weights["mean"].numpy(), weights["std"].numpy()
        bank.normalise(mean, std)
        model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

        n_frames = self.recipe.model.frames
        batches = TrainingBatches(
            bank,
            clips,
            self.labels[clips],
            noisy,
            batch_size=stage.batch_size,
            n_frames=n_frames,
            spec_augment=SpecAugment(
                stage.freq_masks, stage.freq_share, stage.time_masks, stage.time_share
            ),
            mixup=Mixup(stage.mixup_alpha),
            seed=(*seed, 0),
        )
        checkpoint = Checkpoint(folder / f"checkpoint-{fingerprint(clips.tolist())}.pt")
        trainer = Trainer(model, stage, head=self.head, callbacks=[Timer(), checkpoint])
        history = trainer.fit(batches)
        judge = partial(
            predict_clips,
            model,
            bank,
            head=self.head,
            n_frames=n_frames,
            n_windows=self.recipe.verify.windows,
            seed=(*seed, 1),
        )
        # What was meant to be seen and what was drawn: a resumed training knows only of
        # what it drew since, and drawing too much must not go unrecorded.
        result = {
            "probs": judge(np.flatnonzero(self.folds == fold)),
            "test_probs": judge(self._locked(number)),
            "trained_on": np.union1d(clips, np.flatnonzero(batches.drawn)),
            "history": history,
        }
        state = {"model": model.state_dict(), "mean": torch.tensor(mean), "std": torch.tensor(std)}
        write_state(folder / "weights.pt", state)
        checkpoint.path.unlink(missing_ok=True)
        return result


def _write_result(folder: Path, key: str, result: dict[str, Any]) -> None:
    about = json.dumps({"key": key, "history": result.pop("history")})
    temporary = folder / f"result.{os.getpid()}.partial"
    with temporary.open("wb") as file:
        np.savez(file, about=about, **result)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "result.npz")


def _read_result(folder: Path, name: str, key: str) -> tuple[np.ndarray, FoldState] | None:
    """The finished training of a folder, unless it is another's: made from other clips."""
    path = folder / "result.npz"
    if not path.exists():
        return None
    try:
        return _parse_result(path, name, key)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # Damaged: the training is done again.


def _parse_result(path: Path, name: str, key: str) -> tuple[np.ndarray, FoldState] | None:
    folder = path.parent
    with np.load(path) as saved:
        about = json.loads(str(saved["about"]))
        if about["key"] != key:
            return None
        number, fold = (int(part.rpartition("-")[2]) for part in name.split("/"))
        state = FoldState(
            name=name,
            folder=folder,
            round=number,
            fold=fold,
            parent=f"round-{number - 1:02d}/fold-{fold}" if number else None,
            trained_on=saved["trained_on"],
            test_probs=saved["test_probs"],
            history=about["history"],
        )
        return saved["probs"], state
