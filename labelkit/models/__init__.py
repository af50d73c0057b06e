"""Networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from labelkit import registry
from labelkit.errors import InvalidInput

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["check_window", "create_model", "list_models", "main_logits"]


def list_models() -> list[str]:
    """List the names that :func:`create_model` knows, sorted."""
    return registry.names("model")


def create_model(
    name: str,
    n_classes: int,
    *,
    in_channels: int | None = None,
    width: int | None = None,
    dropout: float | None = None,
) -> nn.Module:
    """Make a network with fresh weights.

    Networks take spectrograms ``(batch, in_channels, n_mels, n_frames)`` and return
    logits ``(batch, n_classes)``; ``forward_features`` and ``forward_head`` are the
    two halves. A network with auxiliary heads returns a tuple of such logits, the
    main ones first; :func:`main_logits` takes those of either.

    Args:
        name: One of :func:`list_models`, or ``package.module:function``.
        n_classes: Number of outputs.
        in_channels: Channels of the input; None as published.
        width: Channels of the first block, to which all others are proportional; None as
            published.
        dropout: Largest dropout of the head, to which all others are proportional; None as
            published.

    Raises:
        UnknownName: If there is no such network.
        InvalidInput: If a size is below 1, or dropout is not in ``[0, 1)`` or the network
            has none.
    """
    sizes = {"n_classes": n_classes, "in_channels": in_channels, "width": width}
    for key, value in sizes.items():
        if value is not None and value < 1:
            raise InvalidInput(f"{name}: {key} must be at least 1, got {value}")
    if dropout is not None and not 0 <= dropout < 1:
        raise InvalidInput(f"{name}: dropout must be at least 0 and below 1, got {dropout}")
    create = registry.resolve("model", name)
    if dropout is not None and not _has_keyword(create, "dropout"):
        raise InvalidInput(f"{name} has no dropout to set; leave model.dropout unset")
    chosen = {"in_channels": in_channels, "width": width, "dropout": dropout}
    given = {key: value for key, value in chosen.items() if value is not None}
    network: nn.Module = create(n_classes, **given)
    return network


def _has_keyword(function: Callable[..., object], keyword: str) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == keyword or p.kind is p.VAR_KEYWORD for p in parameters)


def main_logits(output: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the logits of the main head, whether or not the network has auxiliary ones."""
    return output[0] if isinstance(output, tuple) else output


def check_window(model: nn.Module, name: str, in_channels: int, n_mels: int, n_frames: int) -> None:
    """Refuse a window of which the network's pooling leaves nothing.

    The network sees zeros once, without gradient and in evaluation mode, so its
    weights and statistics stay as they are.

    Args:
        model: The network, on any device.
        name: What the message calls it.
        in_channels: Channels of the input.
        n_mels: Bands of the window.
        n_frames: Frames of the window.

    Raises:
        InvalidInput: If the network fails, answers with infinite or undefined numbers, or
            does not fit into memory.
    """
    import torch

    window = f"a window of {n_mels} bands x {n_frames} frames is too"
    modes = [(module, module.training) for module in model.modules()]
    try:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        model.eval()
        with torch.no_grad():
            x = torch.zeros(2, in_channels, n_mels, n_frames, device=device)
            finite = bool(torch.isfinite(main_logits(model(x))).all())
        reason = "its output is not finite"
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        reason = str(error).strip().partition("\n")[0]
        if isinstance(error, MemoryError) or _is_out_of_memory(error):
            raise InvalidInput(
                f"{window} long for {name}: memory does not suffice; set input.frames lower"
            ) from error
        finite = False
    finally:
        for module, mode in modes:
            module.training = mode
    if not finite:
        raise InvalidInput(
            f"{window} small for {name}: {reason}; set input.frames or features.n_mels higher"
        )


def _is_out_of_memory(error: Exception) -> bool:
    # Only CUDA has a class for it; on the CPU the text alone tells.
    signs = ("out of memory", "not enough memory", "allocate", "alloc_failed", "overflow")
    return any(sign in str(error).lower() for sign in signs)
