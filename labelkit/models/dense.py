"""Dense-block networks of the 9th place of Freesound Audio Tagging 2019."""

from __future__ import annotations

import torch
from torch import nn

from labelkit.models.layers import (
    DenseBlock,
    Network,
    concat_pool,
    conv_blocks,
    doubling,
    prelu_head,
)


class DenseNet(nn.Module):
    """A chain of dense blocks, concatenated mean and maximum pooling, and two linear layers.

    Args:
        n_classes: Number of outputs.
        in_channels: Channels of the input.
        channels: Channels of each block.
        hidden: Width of the hidden layer.
        n_pooled: Number of last blocks whose outputs are pooled: more than one is a pyramid.
        pool_last: Halve the map in the last block as in the others.
    """

    def __init__(
        self,
        n_classes: int,
        in_channels: int,
        channels: list[int],
        hidden: int,
        *,
        n_pooled: int = 1,
        pool_last: bool = True,
    ) -> None:
        super().__init__()
        self.n_pooled = n_pooled
        pools = [True] * (len(channels) - 1) + [pool_last]
        self.blocks = nn.Sequential(
            *(
                DenseBlock(a, b, pool=pool)
                for a, b, pool in zip([in_channels, *channels], channels, pools, strict=False)
            )
        )
        n_features = 2 * sum(channels[-n_pooled:])
        self.head = nn.Sequential(
            nn.BatchNorm1d(n_features),
            nn.Linear(n_features, hidden),
            nn.PReLU(),
            nn.BatchNorm1d(hidden),
            nn.Linear(hidden, n_classes),
        )

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return pooled features ``(batch, 2 * channels of the pooled blocks)``."""
        first = len(self.blocks) - self.n_pooled
        pooled = []
        for position, block in enumerate(self.blocks):
            x = block(x)
            if position >= first:
                pooled.append(concat_pool(x))
        return torch.cat(pooled, dim=1)

    def forward_head(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(batch, n_classes)`` of pooled features."""
        logits: torch.Tensor = self.head(x)
        return logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(batch, n_classes)`` of ``(batch, in_channels, n_mels, n_frames)``."""
        return self.forward_head(self.forward_features(x))


def mean_max_pool(x: torch.Tensor) -> torch.Tensor:
    """Average over frequency, then take the maximum over time, ``(b, c, h, w)`` to ``(b, c)``."""
    return x.mean(dim=2).amax(dim=2)


def dense_m0(
    n_classes: int, *, in_channels: int = 1, width: int = 64, dropout: float = 0.2
) -> Network:
    """Make M0: mhiro2's starter network, four blocks without skips (Shugaev et al., DCASE 2019)."""
    body = nn.Sequential(*conv_blocks(in_channels, width, bias=True))
    return Network(body, mean_max_pool, prelu_head(8 * width, 2 * width, n_classes, dropout))


def dense_m1(n_classes: int, *, in_channels: int = 1, width: int = 64) -> DenseNet:
    """Make M1: four blocks, 6,380,753 parameters at 80 classes (Shugaev et al., DCASE 2019)."""
    return DenseNet(n_classes, in_channels, doubling(width, 4), 2 * width)


def dense_m2(n_classes: int, *, in_channels: int = 1, width: int = 64) -> DenseNet:
    """Make M2: a pyramid of blocks 2 to 4, 6,720,593 parameters at 80 classes (Shugaev et al.)."""
    return DenseNet(
        n_classes, in_channels, doubling(width, 4), 4 * width, n_pooled=3, pool_last=False
    )


def dense_m3(n_classes: int, *, in_channels: int = 1, width: int = 64) -> DenseNet:
    """Make M3: a pyramid of blocks 2 to 5, 26,129,489 parameters at 80 classes (Shugaev et al.)."""
    return DenseNet(
        n_classes, in_channels, doubling(width, 5), 4 * width, n_pooled=4, pool_last=False
    )


def dense_m4(n_classes: int, *, in_channels: int = 1, width: int = 64) -> DenseNet:
    """Make M4: M3 without its pyramid (Shugaev et al., DCASE 2019)."""
    return DenseNet(n_classes, in_channels, doubling(width, 5), 4 * width, pool_last=False)
