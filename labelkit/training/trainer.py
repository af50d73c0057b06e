"""The training loop. It knows nothing of clips, folds or stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from labelkit import registry
from labelkit.config import StageSpec
from labelkit.training.batches import Batch
from labelkit.training.callbacks import Callback


class Batches(Protocol):
    """What the trainer asks of its data: batches by epoch number, the same ones each time."""

    def __len__(self) -> int: ...

    def epoch(self, number: int) -> Iterable[Batch]:
        """The batches of one epoch, counted from 0."""
        ...


class Trainer:
    """Fits a network to batches and tells its callbacks what happens.

    The events are ``train_begin``, ``epoch_begin``, ``batch_begin``, ``gradients``,
    ``batch_end``, ``epoch_end`` and ``train_end``. The history is a list of plain
    rows, one an epoch; callbacks read it and write to its last row.

    Args:
        model: The network, on its device.
        spec: Epochs, optimiser, schedule and losses.
        head: ``softmax`` or ``sigmoid``.
        callbacks: Told of every event in this order.
    """

    def __init__(
        self, model: nn.Module, spec: StageSpec, *, head: str, callbacks: Sequence[Callback] = ()
    ) -> None:
        self.model, self.spec, self.head, self.callbacks = model, spec, head, callbacks
        self.device = next(model.parameters()).device
        self.optimizer: torch.optim.Optimizer = registry.resolve("optimizer", spec.optimizer)(
            model.parameters(), lr=spec.lr, weight_decay=spec.weight_decay
        )
        self.schedule = registry.resolve("schedule", spec.schedule)
        plain = "cross_entropy" if head == "softmax" else "bce"
        self.loss = registry.resolve("loss", plain if spec.loss == "auto" else spec.loss)
        self.noisy_loss = registry.resolve("loss", spec.noisy_loss)
        self.history: list[dict[str, Any]] = []

    def fit(self, train: Batches, valid: Batches | None = None) -> list[dict[str, Any]]:
        """Train for the epochs that the history does not hold yet.

        Args:
            train: Batches to learn from.
            valid: Batches to measure the loss on after each epoch.

        Returns:
            The history.
        """
        self.notify("train_begin")
        for epoch in range(len(self.history), self.spec.epochs):
            self.history.append({"epoch": epoch + 1})
            self.notify("epoch_begin")
            self.history[-1]["loss"] = self.run_epoch(train, epoch, self.train_step)
            if valid is not None:
                self.history[-1]["valid_loss"] = self.run_epoch(valid, epoch, self.valid_step)
            self.notify("epoch_end")
        self.notify("train_end")
        return self.history

    def run_epoch(
        self, batches: Batches, epoch: int, step: Callable[[Batch, float], torch.Tensor]
    ) -> float:
        """Mean loss of one pass; ``step`` makes it a training or a validation."""
        total, count = torch.zeros((), device=self.device), 0
        steps = self.spec.epochs * len(batches)
        for number, batch in enumerate(batches.epoch(epoch)):
            self.notify("batch_begin")
            # Summed on the device: reading a number would make the GPU wait for Python.
            losses = step(batch, (epoch * len(batches) + number) / steps)
            total += losses.sum()
            count += len(losses)
            self.notify("batch_end")
        return float(total / max(count, 1))

    def train_step(self, batch: Batch, done: float) -> torch.Tensor:
        """One optimiser step; returns the loss of each sample, detached."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.spec.lr * self.schedule(done, self.spec.turn)
        losses = self.losses(batch)
        self.optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        self.notify("gradients")
        self.optimizer.step()
        return losses.detach()

    @torch.no_grad()
    def valid_step(self, batch: Batch, done: float) -> torch.Tensor:
        """The loss of each sample, learning nothing."""
        self.model.eval()
        return self.losses(batch)

    def losses(self, batch: Batch) -> torch.Tensor:
        """Loss of each sample, the noisy ones by the noisy loss and its weight, ``(batch,)``."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.model(batch.x)
        options = {"head": self.head, "beta": self.spec.beta}
        trusted = self.loss(logits.float(), batch.targets, **options)
        noisy = self.noisy_loss(logits.float(), batch.targets, **options)
        return torch.where(batch.noisy > 0, self.spec.noisy_weight * noisy, trusted)

    def notify(self, event: str) -> None:
        """Tell every callback of an event."""
        for callback in self.callbacks:
            getattr(callback, f"on_{event}")(self)

    def state(self) -> dict[str, Any]:
        """Everything that goes on from here: weights, optimiser, history."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = state["history"]
