"""The training loop. It knows nothing of clips, folds or stores."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F

from labelkit import registry
from labelkit.config import StageSpec
from labelkit.errors import InvalidInput, LabelkitError
from labelkit.training.batches import MiniBatch
from labelkit.training.callbacks import Callback
from labelkit.training.schedules import Schedule, gain, is_gain
from labelkit.types import Ints

# Of a network: logits or features, those of the main head first where it has several.
Output = torch.Tensor | tuple[torch.Tensor, ...]


class Batches(Protocol):
    """What the trainer asks of its data: batches by epoch number, the same ones each time."""

    def __len__(self) -> int: ...

    def epoch(self, number: int) -> Iterable[MiniBatch]:
        """Return the batches of one epoch, counted from 0."""
        ...


class Trainer:
    """Fits a network to batches and tells its callbacks what happens.

    The events are ``train_begin``, ``epoch_begin``, ``batch_begin``, ``gradients``,
    ``batch_end``, ``epoch_end`` and ``train_end``. The history is a list of plain
    rows, one an epoch; callbacks read it and write to its last row. What the schedule
    and early stopping do follows from the history alone.

    Args:
        model: The network, on its device.
        spec: Epochs, optimiser, schedule and losses.
        head: ``softmax`` or ``sigmoid``.
        callbacks: Told of every event in this order.
        clip_name: What a clip index is called in messages.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: StageSpec,
        *,
        head: str,
        callbacks: Sequence[Callback] = (),
        clip_name: Callable[[int], str] = str,
    ) -> None:
        self.model, self.spec, self.head, self.callbacks = model, spec, head, callbacks
        self.clip_name = clip_name
        self.device = next(model.parameters()).device
        self.optimizer = create_optimizer(model, spec)
        self.schedule: Schedule = registry.resolve("schedule", spec.schedule)
        plain = "cross_entropy" if head == "softmax" else "bce"
        self.loss = bind_loss(plain if spec.loss == "auto" else spec.loss, spec, head)
        self.noisy_loss = bind_loss(
            plain if spec.noisy_loss == "auto" else spec.noisy_loss, spec, head
        )
        self.history: list[dict[str, Any]] = []

    def fit(self, train: Batches, valid: Batches | None = None) -> list[dict[str, Any]]:
        """Train for the epochs that the history does not hold yet.

        Args:
            train: Batches to learn from.
            valid: Batches to measure the loss on after each epoch.

        Returns:
            The history.

        Raises:
            LabelkitError: If a loss is not finite; the batch and its clips are named.
        """
        self.notify("train_begin")
        for epoch in range(len(self.history), self.spec.epochs):
            if self.is_over(epoch):
                break
            self.history.append({"epoch": epoch + 1, "lr": self.rate(epoch)})
            self.notify("epoch_begin")
            self.history[-1]["loss"] = self.run_epoch(train, epoch, self.train_step)
            if valid is not None:
                self.history[-1]["valid_loss"] = self.run_epoch(valid, epoch, self.valid_step)
            self.notify("epoch_end")
        self.notify("train_end")
        return self.history

    def is_over(self, epoch: int) -> bool:
        """Tell whether early stopping ends the training before ``epoch``."""
        spec = self.spec
        if not self.history:
            return False
        best, since = -math.inf, 0
        for row in self.history:
            value = gain(row, spec.monitor)
            best, since = (value, 0) if is_gain(value, best) else (best, since + 1)
        return 0 < spec.stop_patience <= since or 0 < self.rate(epoch) <= spec.stop_lr * (1 + 1e-9)

    def rate(self, epoch: float) -> float:
        """Return the learning rate after ``epoch`` epochs, a fraction if it changes within one."""
        epoch = math.floor(epoch) if self.spec.per_epoch else epoch
        return self.spec.lr * self.schedule(epoch, self.spec, self.history)

    def run_epoch(
        self, batches: Batches, epoch: int, step: Callable[[MiniBatch, float], torch.Tensor]
    ) -> float:
        """Return the mean loss of one pass; ``step`` makes it a training or a validation."""
        sums, clips, count = [], [], 0
        for number, batch in enumerate(batches.epoch(epoch)):
            self.notify("batch_begin")
            losses = step(batch, epoch + number / len(batches))
            sums.append(losses.sum())
            clips.append(batch.clips)
            count += len(losses)
            # Reading a number would make a GPU wait for Python, so there all are read at the end.
            if self.device.type == "cpu":
                self._refuse_nan(sums[-1:], clips[-1:], epoch, number)
            self.notify("batch_end")
        if not sums:
            return 0.0
        self._refuse_nan(sums, clips, epoch, 0)
        return float(torch.stack(sums).sum() / count)

    def _refuse_nan(
        self, sums: Sequence[torch.Tensor], clips: Sequence[Ints], epoch: int, first: int
    ) -> None:
        finite = torch.isfinite(torch.stack(list(sums))).cpu()
        if bool(finite.all()):
            return
        bad = int((~finite).nonzero()[0, 0])
        names = [self.clip_name(int(clip)) for clip in clips[bad]]
        some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise LabelkitError(
            f"the loss of epoch {epoch + 1}, batch {first + bad + 1} is not finite; its clips: "
            f"{some}; lower lr, or look at them with: labelkit check"
        )

    def train_step(self, batch: MiniBatch, epoch: float) -> torch.Tensor:
        """Take one optimiser step and return the loss of each sample, detached."""
        self.model.train()
        rate = self.rate(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = self.losses(batch)
        self.optimizer.zero_grad(set_to_none=True)
        whole = losses.mean() if self.spec.over_clips == "mean" else losses.sum()
        backward: Callable[[], None] = whole.backward  # torch leaves it untyped.
        backward()
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        if self.spec.clip_value:
            nn.utils.clip_grad_value_(parameters, self.spec.clip_value)
        if self.spec.clip_norm:
            nn.utils.clip_grad_norm_(parameters, self.spec.clip_norm)
        self.notify("gradients")
        self.optimizer.step()
        return losses.detach()

    @torch.no_grad()
    def valid_step(self, batch: MiniBatch, epoch: float) -> torch.Tensor:
        """Return the loss of each sample, learning nothing."""
        self.model.eval()
        return self.losses(batch)

    def losses(self, batch: MiniBatch) -> torch.Tensor:
        """Return the weighted loss of each sample over all heads of the network, ``(batch,)``."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            output = self._output(batch.x)
        heads = output if isinstance(output, tuple) else (output,)
        if len(heads) > 1 and len(self.spec.head_weights) < len(heads):
            raise InvalidInput(
                f"the network has {len(heads)} heads, head_weights only "
                f"{len(self.spec.head_weights)}"
            )
        # A network of one head needs no weight for it.
        weights = self.spec.head_weights if len(heads) > 1 else (1.0,)
        parts = [
            weight * self._head_losses(logits.float(), batch)
            for weight, logits in zip(weights, heads, strict=False)
        ]
        return torch.stack(parts).sum(dim=0)

    def _output(self, x: torch.Tensor) -> Output:
        spec = self.spec
        if not (self.model.training and spec.dropout_samples):
            output: Output = self.model(x)
            return output
        features = self.model.forward_features(x)  # type: ignore[operator]
        outputs = [
            self.model.forward_head(_drop(features, spec.dropout_rate))  # type: ignore[operator]
            for _ in range(spec.dropout_samples)
        ]
        if isinstance(outputs[0], tuple):
            return tuple(torch.stack(head).mean(dim=0) for head in zip(*outputs, strict=True))
        return torch.stack(outputs).mean(dim=0)

    def _head_losses(self, logits: torch.Tensor, batch: MiniBatch) -> torch.Tensor:
        """Return each sample's loss, the noisy ones' by the noisy loss, each pool by its weight."""
        spec, rows, mask = self.spec, batch.noisy_rows, batch.mask
        losses = self.loss(logits, batch.targets, mask=mask)
        n_noisy = len(rows)
        scale = {"noisy": spec.noisy_weight, "trusted": spec.trusted_weight}
        if spec.weigh_by == "pool":
            scale["noisy"] *= len(losses) / max(n_noisy, 1)
            scale["trusted"] *= len(losses) / max(len(losses) - n_noisy, 1)
        losses = scale["trusted"] * losses
        if n_noisy:
            noisy = self.noisy_loss(
                logits[rows], batch.targets[rows], mask=None if mask is None else mask[rows]
            )
            losses = losses.index_copy(0, rows, scale["noisy"] * noisy)
        if self.head == "sigmoid" and spec.over_classes == "mean":
            losses = losses / logits.shape[1]
        return losses

    def notify(self, event: str) -> None:
        """Tell every callback of an event."""
        for callback in self.callbacks:
            getattr(callback, f"on_{event}")(self)

    def state(self) -> dict[str, Any]:
        """Return everything that goes on from here: weights, optimiser, history."""
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


def create_optimizer(model: nn.Module, spec: StageSpec) -> torch.optim.Optimizer:
    """Create the optimiser of a stage; parameters named by ``no_decay`` are not decayed."""
    spared: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (spared if any(part in name for part in spec.no_decay) else decayed).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, spec.weight_decay), (spared, 0.0))
        if parameters
    ]
    function = registry.resolve("optimizer", spec.optimizer)
    known = inspect.signature(function).parameters
    options = {"momentum": spec.momentum} if "momentum" in known else {}
    optimizer: torch.optim.Optimizer = function(groups, lr=spec.lr, **options)
    return optimizer


def bind_loss(name: str, spec: StageSpec, head: str) -> Callable[..., torch.Tensor]:
    """Bind a loss to the head and those settings of the stage that it has arguments for."""
    function = registry.resolve("loss", name)
    known = inspect.signature(function).parameters
    options = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name in known}
    return partial(function, head=head, **options)


def _drop(features: Output, rate: float) -> Output:
    if isinstance(features, tuple):
        return tuple(F.dropout(part, rate) for part in features)
    return F.dropout(features, rate)
