"""Listeners of the trainer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from labelkit import metrics
from labelkit.errors import LabelkitError
from labelkit.training.results import read_state, write_state
from labelkit.training.schedules import gain
from labelkit.types import Array, Floats

if TYPE_CHECKING:
    from labelkit.training.trainer import Trainer


class Callback:
    """Hears the seven events of a training and ignores them."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Hear of the training before its first epoch."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Hear that the history has a new row."""

    def on_batch_begin(self, trainer: Trainer) -> None:
        """Hear of a step before it."""

    def on_gradients(self, trainer: Trainer) -> None:
        """Hear that gradients are there and the optimiser has not stepped."""

    def on_batch_end(self, trainer: Trainer) -> None:
        """Hear of a step after it."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Hear that the row of the epoch holds its losses."""

    def on_train_end(self, trainer: Trainer) -> None:
        """Hear of the training after its last epoch."""


class Timer(Callback):
    """Writes the seconds of each epoch to the history."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Record the seconds."""
        trainer.history[-1]["seconds"] = round(time.perf_counter() - self._start, 3)


class Checkpoint(Callback):
    """Saves the trainer's state now and then, and goes on from it when there is one.

    Args:
        path: The file; written under another name first, so it is whole or not there.
        every_s: Least seconds between two saves; 0 saves after every epoch.
    """

    def __init__(self, path: Path, *, every_s: float = 5.0) -> None:
        self.path, self.every_s = path, every_s

    def on_train_begin(self, trainer: Trainer) -> None:
        """Go on from the file."""
        self._saved = time.perf_counter()
        if self.path.exists():
            trainer.load_state(read_state(self.path))

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Save, if the last time is long enough ago."""
        if time.perf_counter() - self._saved >= self.every_s:
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save now."""
        write_state(self.path, trainer.state())
        self._saved = time.perf_counter()


class Seeding(Callback):
    """Seeds torch at every epoch, so that dropout is the same whenever it is trained.

    Args:
        seed: Numbers from which, with the epoch's, the seed follows.
    """

    def __init__(self, seed: tuple[int, ...]) -> None:
        self.seed = seed

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Seed the generators of all devices."""
        numbers = np.random.SeedSequence((*self.seed, len(trainer.history)))
        torch.manual_seed(int(numbers.generate_state(1)[0]))


class EpochLog(Callback):
    """Writes how every clip is judged after some of the epochs, as a memory-mapped array.

    From it follow the area under the margin (Pleiss et al. 2020), the data maps of
    Swayamdipta et al. (2020) and forgetting events (Toneva et al. 2019). Augmented and
    mixed batches say little of single clips, so each is judged once more, as it is.

    The history says in ``logged`` how many rows are written so far. A stopped training that
    goes on writes the rows it lacks.

    Args:
        path: A ``.npy`` file, float16, ``(n_rows, n_clips, n_classes)``.
        predict: Gives the logits of all clips as the network now is, ``(n_clips, n_classes)``.
        n_rows: How many rows the file has.
        every: Epochs from one row to the next.
    """

    def __init__(
        self, path: Path, predict: Callable[[], Floats], *, n_rows: int, every: int
    ) -> None:
        self.path, self.predict, self.n_rows, self.every = path, predict, n_rows, every

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Judge all clips, if it is an epoch to be logged.

        Raises:
            LabelkitError: If the rows of earlier epochs are gone.
        """
        row, rest = divmod(len(trainer.history), self.every)
        if rest:
            return
        logits = np.clip(self.predict(), -6e4, 6e4).astype(np.float16)
        shape = (self.n_rows, *logits.shape)
        # A training that begins anew begins a new file, whatever a stopped one left there.
        mode: Literal["r+", "w+"] = "w+" if row == 1 else "r+"
        if mode == "r+" and not self.path.exists():
            raise LabelkitError(f"{self.path} is gone, half written; take another --seed")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # numpy leaves it untyped.
        open_memmap: Callable[..., np.memmap[Any, Any]] = np.lib.format.open_memmap
        # Opened for each row: a map that stays open keeps its pages in memory.
        rows = open_memmap(self.path, mode, np.float16, shape)
        rows[row - 1] = logits
        rows.flush()
        trainer.history[-1]["logged"] = row


class Validation(Callback):
    """Writes scores on held-out clips to the history: ``valid_loss`` and the rest.

    Args:
        predict: Gives the probabilities of the clips as the network now is, ``(n, n_classes)``.
        labels: Their multi-hot labels, ``(n, n_classes)``.
        single: Whether each clip has one label.
    """

    def __init__(self, predict: Callable[[], Floats], labels: Array, *, single: bool) -> None:
        self.predict, self.labels, self.single = predict, labels, single

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Judge the clips."""
        row, probs = trainer.history[-1], self.predict()
        row["valid_loss"] = (metrics.log_loss if self.single else metrics.binary_log_loss)(
            self.labels, probs
        )
        row["valid_lwlrap"] = metrics.lwlrap(self.labels, probs)
        if self.single:
            row["valid_accuracy"] = metrics.accuracy(self.labels, probs)
            row["valid_map3"] = metrics.map_at_k(self.labels, probs, 3)


class BestWeights(Callback):
    """Keeps the weights of the best epochs on disk and ends with those of the best one.

    Files are named by epoch and score, as ``best-012-0.8731.pt``. Which epochs they
    are follows from the history, so a stopped training ends with the same ones.

    Args:
        folder: Where they are kept.
        monitor: Score that decides, see :class:`~labelkit.config.StageSpec`.
        keep: How many.
        checkpoint: Saved before the weights of an epoch are dropped, so that a stopped
            training never goes back to when they were the best.
    """

    def __init__(self, folder: Path, monitor: str, keep: int, checkpoint: Checkpoint) -> None:
        self.folder, self.monitor, self.keep = folder, monitor, keep
        self.checkpoint = checkpoint

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Keep the weights if the epoch is among the best so far, and drop what no longer is."""
        best = self._ranked(trainer)[: self.keep]
        if len(trainer.history) - 1 in best:
            write_state(self._path(trainer, len(trainer.history) - 1), trainer.model.state_dict())
        names = {self._path(trainer, epoch) for epoch in best}
        old = [path for path in self.folder.glob("best-*.pt") if path not in names]
        if old:
            self.checkpoint.save(trainer)
        for path in old:
            path.unlink(missing_ok=True)

    def on_train_end(self, trainer: Trainer) -> None:
        """Go back to the best epoch's weights."""
        best = self._ranked(trainer)[0]
        trainer.model.load_state_dict(read_state(self._path(trainer, best)))
        trainer.history[best]["best"] = True

    def _ranked(self, trainer: Trainer) -> list[int]:
        """Order the epochs, the best first, the earlier of equals before the later."""
        scores = [gain(row, self.monitor) for row in trainer.history]
        return sorted(range(len(scores)), key=lambda epoch: (-scores[epoch], epoch))

    def _path(self, trainer: Trainer, epoch: int) -> Path:
        score = abs(gain(trainer.history[epoch], self.monitor))
        return self.folder / f"best-{epoch + 1:03d}-{score:.4f}.pt"
