"""Losses per sample: ``(logits, targets) -> (batch,)``, both ``(batch, n_classes)``.

Every loss takes the head it follows, ``softmax`` or ``sigmoid``, and Lsoft's ``beta``.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, *, head: str = "softmax", beta: float = 1.0
) -> torch.Tensor:
    """Cross-entropy of softmax against a target distribution, which may be mixed."""
    return -(targets * F.log_softmax(logits, dim=1)).sum(dim=1)


def bce(
    logits: torch.Tensor, targets: torch.Tensor, *, head: str = "sigmoid", beta: float = 1.0
) -> torch.Tensor:
    """Binary cross-entropy, summed over the classes."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1)


def lsoft(
    logits: torch.Tensor, targets: torch.Tensor, *, head: str = "softmax", beta: float = 0.7
) -> torch.Tensor:
    """Bootstrapped targets: ``beta`` of the label and the rest of what the net believes.

    No gradient flows through the belief. Reed et al. (2015), as Fonseca et al. (2019)
    and argus used it on noisy clips.

    Args:
        logits: Shape ``(batch, n_classes)``.
        targets: Shape ``(batch, n_classes)``.
        head: ``softmax`` or ``sigmoid``: how beliefs and loss follow from the logits.
        beta: Share of the label, in [0, 1]; 1 is the plain loss.

    Returns:
        Loss of each sample, shape ``(batch,)``.
    """
    if head == "softmax":
        beliefs, plain = logits.detach().softmax(dim=1), cross_entropy
    else:
        beliefs, plain = logits.detach().sigmoid(), bce
    return plain(logits, beta * targets + (1 - beta) * beliefs)
