"""Losses per sample: ``(logits, targets) -> (batch,)``, both ``(batch, n_classes)``.

Every loss takes the head it follows, ``softmax`` or ``sigmoid``, and a ``mask`` of the
classes that count, ``(batch, n_classes)``: 0 leaves a class out of a sample's loss, and
out of softmax's competition. Under sigmoid the classes are summed.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

Mask = torch.Tensor | None


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, *, head: str = "softmax", mask: Mask = None
) -> torch.Tensor:
    """Return the cross-entropy of softmax against a target distribution, maybe a mixed one."""
    terms = targets * F.log_softmax(_compete(logits, mask), dim=1)
    return -(terms if mask is None else terms.masked_fill(mask == 0, 0)).sum(dim=1)


def bce(
    logits: torch.Tensor, targets: torch.Tensor, *, head: str = "sigmoid", mask: Mask = None
) -> torch.Tensor:
    """Return the binary cross-entropy, summed over the classes."""
    return _sum(F.binary_cross_entropy_with_logits(logits, targets, reduction="none"), mask)


def lsoft(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    head: str = "softmax",
    mask: Mask = None,
    beta: float = 0.7,
) -> torch.Tensor:
    """Return the loss of bootstrapped targets: ``beta`` of the label, the rest of the net's belief.

    No gradient flows through the belief. Reed et al. (2015), as Fonseca et al. (2019)
    and argus used it on noisy clips.

    Args:
        logits: Shape ``(batch, n_classes)``.
        targets: Shape ``(batch, n_classes)``.
        head: ``softmax`` or ``sigmoid``: how beliefs and loss follow from the logits.
        mask: Classes that count, ``(batch, n_classes)``; all if None.
        beta: Share of the label, in [0, 1]; 1 is the plain loss.

    Returns:
        Loss of each sample, shape ``(batch,)``.
    """
    plain = cross_entropy if head == "softmax" else bce
    beliefs = _beliefs(logits.detach(), head, mask)
    return plain(logits, beta * targets + (1 - beta) * beliefs, mask=mask)


def lq(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    head: str = "softmax",
    mask: Mask = None,
    q: float = 0.5,
) -> torch.Tensor:
    """Return the generalised cross-entropy ``(1 - p**q) / q`` (Zhang and Sabuncu, 2018).

    Under softmax ``p`` is the probability of the target; under sigmoid each class has its
    own, ``p`` where the target is present and ``1 - p`` where it is absent, so that both
    teach; the form of argus's code has no gradient on absent classes. Mixed targets weigh
    both sides. ``q`` 0 is the plain loss.
    """
    if q == 0:
        return (cross_entropy if head == "softmax" else bce)(logits, targets, mask=mask)
    if head == "softmax":
        # From the logarithm: p**q alone has no finite gradient at 0.
        powers = (q * F.log_softmax(_compete(logits, mask), dim=1)).exp()
        return _sum(targets * (1 - powers) / q, mask)
    present = (1 - (q * F.logsigmoid(logits)).exp()) / q
    absent = (1 - (q * F.logsigmoid(-logits)).exp()) / q
    return _sum(targets * present + (1 - targets) * absent, mask)


def max_outlier(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    head: str = "sigmoid",
    mask: Mask = None,
    outlier: float = 0.8,
) -> torch.Tensor:
    """Return the plain loss, 0 for samples above ``outlier`` times the batch's highest.

    Fonseca et al. (2019); argus offers it for the noisy clips of a batch.
    """
    losses = (cross_entropy if head == "softmax" else bce)(logits, targets, mask=mask)
    if not len(losses):
        return losses
    return losses.masked_fill(losses.detach() > outlier * losses.detach().amax(), 0)


def _compete(logits: torch.Tensor, mask: Mask) -> torch.Tensor:
    return logits if mask is None else logits.masked_fill(mask == 0, -1e4)


def _beliefs(logits: torch.Tensor, head: str, mask: Mask) -> torch.Tensor:
    return _compete(logits, mask).softmax(dim=1) if head == "softmax" else logits.sigmoid()


def _sum(terms: torch.Tensor, mask: Mask) -> torch.Tensor:
    return (terms if mask is None else terms * mask).sum(dim=1)
