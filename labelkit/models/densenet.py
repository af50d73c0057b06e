"""Densely connected networks."""

from __future__ import annotations

import torch
from torch import nn

from labelkit.models.layers import Network, conv, image_stem, mean_pool


def bn_relu(channels: int) -> nn.Sequential:
    """Make batch normalisation and ReLU."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class DenseLayer(nn.Module):
    """Append ``growth`` channels to the input, made by a bottleneck."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            bn_relu(channels),
            conv(channels, 4 * growth, 1),
            bn_relu(4 * growth),
            conv(4 * growth, growth),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, c, height, width)`` to ``(batch, c + growth, height, width)``."""
        return torch.cat([x, self.branch(x)], dim=1)


def densenet121(n_classes: int, *, in_channels: int = 3, width: int = 64) -> Network:
    """Make DenseNet-121, 7,978,856 parameters at 1000 classes (Huang et al. 2017).

    Its growth rate is half of ``width``.
    """
    growth = max(1, width // 2)
    layers: list[nn.Module] = [image_stem(in_channels, width)]
    channels = width
    for position, depth in enumerate([6, 12, 24, 16]):
        if position:
            half = channels // 2
            layers += [bn_relu(channels), conv(channels, half, 1), nn.AvgPool2d(2)]
            channels = half
        for _ in range(depth):
            layers.append(DenseLayer(channels, growth))
            channels += growth
    layers.append(bn_relu(channels))
    return Network(nn.Sequential(*layers), mean_pool, nn.Linear(channels, n_classes))
