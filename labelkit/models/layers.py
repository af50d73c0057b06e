"""Building blocks shared by the networks."""

from __future__ import annotations

import torch
from torch import nn


def conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3 x 3 convolution that keeps the size, batch normalisation, ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class DenseBlock(nn.Module):
    """Two convolutions, the second of which also sees the block's input, then 2 x 2 mean pooling.

    From the 9th place of Freesound Audio Tagging 2019 (Shugaev et al., DCASE 2019).
    """

    def __init__(self, in_channels: int, out_channels: int, *, pool: bool = True) -> None:
        super().__init__()
        self.conv1 = conv_bn_relu(in_channels, out_channels)
        self.conv2 = conv_bn_relu(in_channels + out_channels, out_channels)
        self.pool = nn.AvgPool2d(2) if pool else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, in, height, width)`` to ``(batch, out, height // 2, width // 2)``."""
        return self.pool(self.conv2(torch.cat([x, self.conv1(x)], dim=1)))


def concat_pool(x: torch.Tensor) -> torch.Tensor:
    """Mean and maximum over the last two axes, ``(batch, c, h, w)`` to ``(batch, 2 * c)``."""
    return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
