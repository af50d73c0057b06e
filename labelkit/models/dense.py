"""Dense-block networks of the 9th place of Freesound Audio Tagging 2019."""

from __future__ import annotations

import torch
from torch import nn

from labelkit.models.layers import DenseBlock, concat_pool


class DenseNet(nn.Module):
    """A chain of dense blocks, concatenated mean and maximum pooling, and two linear layers."""

    def __init__(self, n_classes: int, in_channels: int, channels: list[int], hidden: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(DenseBlock(a, b) for a, b in zip([in_channels, *channels], channels, strict=False))
        )
        n_features = 2 * channels[-1]
        self.head = nn.Sequential(
            nn.BatchNorm1d(n_features),
            nn.Linear(n_features, hidden),
            nn.PReLU(),
            nn.BatchNorm1d(hidden),
            nn.Linear(hidden, n_classes),
        )

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Pooled features ``(batch, 2 * channels of the last block)``."""
        return concat_pool(self.blocks(x))

    def forward_head(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(batch, n_classes)`` of pooled features."""
        return self.head(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(batch, n_classes)`` of ``(batch, in_channels, n_mels, n_frames)``."""
        return self.forward_head(self.forward_features(x))


def dense_m1(n_classes: int, *, in_channels: int = 1, width: int = 64) -> DenseNet:
    """M1: four blocks, 6,380,753 parameters at 80 classes (Shugaev et al., DCASE 2019)."""
    return DenseNet(n_classes, in_channels, [width, 2 * width, 4 * width, 8 * width], 2 * width)
