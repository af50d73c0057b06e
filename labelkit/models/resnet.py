"""Residual networks."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd

import torch
from torch import nn

from labelkit.models.layers import (
    Network,
    channel_gate,
    conv,
    conv_bn_relu,
    image_stem,
    mean_pool,
)


class SqueezeExcitation(nn.Module):
    """Weigh channels by their means over the map (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = channel_gate(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, channels, height, width)`` to the same shape."""
        return x * torch.sigmoid(self.gate(x.mean(dim=(2, 3), keepdim=True)))


class Residual(nn.Module):
    """Add a branch to its own input, which is projected where their shapes differ."""

    def __init__(self, branch: nn.Module, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.branch = branch
        same = stride == 1 and in_channels == out_channels
        self.shortcut = (
            nn.Identity() if same else conv_bn(in_channels, out_channels, 1, stride=stride)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, in, height, width)`` to ``(batch, out, height', width')``."""
        return torch.relu(self.branch(x) + self.shortcut(x))


def conv_bn(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    """Make a convolution and batch normalisation."""
    return nn.Sequential(
        conv(in_channels, out_channels, kernel, stride=stride), nn.BatchNorm2d(out_channels)
    )


Block = Callable[[int, int, int], Residual]


def basic_block(in_channels: int, out_channels: int, stride: int) -> Residual:
    """Make two 3 x 3 convolutions (He et al. 2016)."""
    branch = nn.Sequential(
        conv_bn_relu(in_channels, out_channels, stride=stride),
        conv_bn(out_channels, out_channels, 3),
    )
    return Residual(branch, in_channels, out_channels, stride)


def grouped_block(in_channels: int, out_channels: int, stride: int, groups: int) -> Residual:
    """Make a bottleneck with a grouped convolution (Xie et al. 2017), squeezed and excited."""
    inner = out_channels // 2
    branch = nn.Sequential(
        conv_bn_relu(in_channels, inner, 1),
        conv_bn_relu(inner, inner, stride=stride, groups=groups),
        conv_bn(inner, out_channels, 1),
        SqueezeExcitation(out_channels),
    )
    return Residual(branch, in_channels, out_channels, stride)


def resnet(
    n_classes: int, in_channels: int, width: int, depths: list[int], block: Block, expansion: int
) -> Network:
    """Make a stem, four stages of residual blocks that double the channels, mean, linear layer."""
    layers: list[nn.Module] = [image_stem(in_channels, width)]
    channels = width
    for stage, depth in enumerate(depths):
        out_channels = width * expansion * 2**stage
        for position in range(depth):
            stride = 2 if stage > 0 and position == 0 else 1
            layers.append(block(channels, out_channels, stride))
            channels = out_channels
    return Network(nn.Sequential(*layers), mean_pool, nn.Linear(channels, n_classes))


def resnet18(n_classes: int, *, in_channels: int = 3, width: int = 64) -> Network:
    """Make ResNet-18, 11,689,512 parameters at 1000 classes (He et al. 2016)."""
    return resnet(n_classes, in_channels, width, [2, 2, 2, 2], basic_block, 1)


def resnet34(n_classes: int, *, in_channels: int = 3, width: int = 64) -> Network:
    """Make ResNet-34, 21,797,672 parameters at 1000 classes (He et al. 2016)."""
    return resnet(n_classes, in_channels, width, [3, 4, 6, 3], basic_block, 1)


def se_resnext50(n_classes: int, *, in_channels: int = 3, width: int = 64) -> Network:
    """Make SE-ResNeXt-50 32x4d, 27,559,896 parameters at 1000 classes (Hu et al. 2018).

    The number of groups follows ``width``, so that a group of the first stage keeps
    its four channels.
    """
    # An odd width leaves channels that half of it does not divide.
    groups = gcd(max(1, width // 2), 2 * width)

    def block(channels: int, out_channels: int, stride: int) -> Residual:
        return grouped_block(channels, out_channels, stride, groups)

    return resnet(n_classes, in_channels, width, [3, 4, 6, 3], block, 4)
