"""Listeners of the trainer."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelkit.errors import LabelkitError

if TYPE_CHECKING:
    from labelkit.training.trainer import Trainer


class Callback:
    """Hears the seven events of a training and ignores them."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """The history has a new row."""

    def on_batch_begin(self, trainer: Trainer) -> None:
        """Before a step."""

    def on_gradients(self, trainer: Trainer) -> None:
        """Gradients are there, the optimiser has not stepped."""

    def on_batch_end(self, trainer: Trainer) -> None:
        """After a step."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """The row of the epoch holds its losses."""

    def on_train_end(self, trainer: Trainer) -> None:
        """After the last epoch."""


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
            write_state(self.path, trainer.state())
            self._saved = time.perf_counter()


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Save tensors and plain data so that the file is whole or not there."""
    import torch

    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_state(path: Path) -> dict[str, Any]:
    """Read what :func:`write_state` wrote, on the CPU; runs no code from the file.

    Raises:
        LabelkitError: If the file is missing or damaged.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler stumbles over.
        raise LabelkitError(
            f"{path} cannot be read; delete the folder {path.parents[2]} and run again"
        ) from error
