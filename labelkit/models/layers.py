"""Building blocks shared by the networks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn


class Network(nn.Module):
    """A body that makes maps, a pooling that makes features of them, and a head."""

    def __init__(self, body: nn.Module, pool: Callable[..., torch.Tensor], head: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.pool = pool
        self.head = head

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return features ``(batch, n_features)`` of ``(batch, in_channels, n_mels, n_frames)``."""
        return self.pool(self.body(x))

    def forward_head(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(batch, n_classes)`` of features."""
        logits: torch.Tensor = self.head(x)
        return logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(batch, n_classes)`` of ``(batch, in_channels, n_mels, n_frames)``."""
        return self.forward_head(self.forward_features(x))


def conv(
    in_channels: int,
    out_channels: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """Make a convolution with He's normal weights; unless padded otherwise it keeps the size."""
    padding = kernel // 2 if padding is None else padding
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Sequential:
    """Make a convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        conv(in_channels, out_channels, kernel, stride=stride, groups=groups, bias=bias),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def conv_block(in_channels: int, out_channels: int, *, bias: bool = False) -> nn.Sequential:
    """Make two 3 x 3 convolutions with batch normalisation and ReLU, then 2 x 2 mean pooling."""
    return nn.Sequential(
        conv_bn_relu(in_channels, out_channels, bias=bias),
        conv_bn_relu(out_channels, out_channels, bias=bias),
        nn.AvgPool2d(2),
    )


def doubling(width: int, n_blocks: int) -> list[int]:
    """Return the channels of blocks of which each has twice those of the one before."""
    return [width * 2**block for block in range(n_blocks)]


def conv_blocks(in_channels: int, width: int, *, bias: bool = False) -> list[nn.Sequential]:
    """Make four blocks of ``width`` to ``8 * width`` channels, which halve the map four times."""
    channels = [in_channels, *doubling(width, 4)]
    return [conv_block(a, b, bias=bias) for a, b in pairwise(channels)]


class DenseBlock(nn.Module):
    """Two convolutions, the second of which also sees the block's input, then 2 x 2 mean pooling.

    From the 9th place of Freesound Audio Tagging 2019 (Shugaev et al., DCASE 2019).
    """

    def __init__(self, in_channels: int, out_channels: int, *, pool: bool = True) -> None:
        super().__init__()
        self.conv1 = conv_bn_relu(in_channels, out_channels, bias=True)
        self.conv2 = conv_bn_relu(in_channels + out_channels, out_channels, bias=True)
        self.pool = nn.AvgPool2d(2) if pool else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, in, height, width)`` to ``(batch, out, height // 2, width // 2)``."""
        pooled: torch.Tensor = self.pool(self.conv2(torch.cat([x, self.conv1(x)], dim=1)))
        return pooled


def image_stem(in_channels: int, width: int) -> nn.Sequential:
    """Make a quarter of the height and width, as networks for ImageNet begin (He et al. 2016)."""
    return nn.Sequential(
        conv_bn_relu(in_channels, width, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1)
    )


def channel_gate(channels: int, *, reduction: int = 16, bias: bool = True) -> nn.Sequential:
    """Weigh channels by one another: ``(batch, channels, 1, 1)`` to the same, before a sigmoid.

    At least eight hidden units are kept: fewer easily all begin dead behind the ReLU.
    """
    hidden = max(8, channels // reduction)
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1, bias=bias),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, channels, 1, bias=bias),
    )


def prelu_head(n_features: int, hidden: int, n_classes: int, dropout: float) -> nn.Sequential:
    """Make two linear layers around a PReLU, with dropout before the first and half of it after."""
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(n_features, hidden),
        nn.PReLU(),
        nn.BatchNorm1d(hidden),
        nn.Dropout(dropout / 2),
        nn.Linear(hidden, n_classes),
    )


def mean_pool(x: torch.Tensor) -> torch.Tensor:
    """Average over the last two axes, ``(batch, c, h, w)`` to ``(batch, c)``."""
    return x.mean(dim=(2, 3))


def concat_pool(x: torch.Tensor) -> torch.Tensor:
    """Take mean and maximum over the last two axes, ``(batch, c, h, w)`` to ``(batch, 2 * c)``."""
    return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
