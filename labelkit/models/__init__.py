"""Networks by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import registry
from labelkit.errors import InvalidInput

if TYPE_CHECKING:
    from torch import nn


def list_models() -> list[str]:
    """Names that :func:`create_model` knows, sorted."""
    return registry.names("model")


def create_model(
    name: str, n_classes: int, *, in_channels: int | None = None, width: int | None = None
) -> nn.Module:
    """Make a network with fresh weights.

    Networks take spectrograms ``(batch, in_channels, n_mels, n_frames)`` and return
    logits ``(batch, n_classes)``; ``forward_features`` and ``forward_head`` are the
    two halves.

    Args:
        name: One of :func:`list_models`, or ``package.module:function``.
        n_classes: Number of outputs.
        in_channels: Channels of the input; None as published.
        width: Channels of the first block; None as published.

    Raises:
        UnknownName: If there is no such network.
        InvalidInput: If a size is below 1.
    """
    sizes = {"n_classes": n_classes, "in_channels": in_channels, "width": width}
    for key, value in sizes.items():
        if value is not None and value < 1:
            raise InvalidInput(f"{name}: {key} must be at least 1, got {value}")
    chosen = {"in_channels": in_channels, "width": width}
    given = {key: value for key, value in chosen.items() if value is not None}
    return registry.resolve("model", name)(n_classes, **given)
