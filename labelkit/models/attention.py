"""Networks with attention of the 1st place of Freesound Audio Tagging 2019 (argus-freesound)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from labelkit.models.layers import (
    Network,
    channel_gate,
    conv,
    conv_blocks,
    conv_bn_relu,
    doubling,
    mean_pool,
    prelu_head,
)


class ChannelAttention(nn.Module):
    """Weigh channels by their mean and maximum over the map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = channel_gate(channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, channels, height, width)`` to the same shape."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        maximum = x.amax(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.gate(mean) + self.gate(maximum))


class SpatialAttention(nn.Module):
    """Weigh places of the map by their mean and maximum over the channels."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = conv(2, 1, kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, channels, height, width)`` to the same shape."""
        maps = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.conv(maps))


def cbam(channels: int, kernel: int) -> nn.Sequential:
    """Make channel attention, then spatial attention (CBAM, Woo et al. 2018)."""
    return nn.Sequential(ChannelAttention(channels), SpatialAttention(kernel))


class SkipTrunk(nn.Module):
    """Four blocks whose outputs meet in one map that attention weighs."""

    def __init__(self, in_channels: int, width: int, kernel: int) -> None:
        super().__init__()
        *channels, filters = doubling(width, 4)
        self.blocks = nn.ModuleList(conv_blocks(in_channels, width))
        # Halving n times and dividing by 2 ** n round alike, so skips of odd sizes line up too.
        self.skips = nn.ModuleList(
            nn.Sequential(nn.AvgPool2d(factor), conv_bn_relu(c, filters))
            for c, factor in zip(channels, (8, 4, 2), strict=True)
        )
        self.attention = cbam(4 * filters, kernel)
        self.merge = conv_bn_relu(4 * filters, filters)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return maps of the merge and of skips 3, 2 and 1, all of one shape."""
        skips: list[torch.Tensor] = []
        for block, skip in zip(self.blocks, self.skips, strict=False):
            x = block(x)
            skips.append(skip(x))
        x = self.blocks[-1](x)
        merged = self.merge(self.attention(torch.cat([*skips, x], dim=1)))
        return merged, *reversed(skips)


def merged_mean(maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Average over the merged map of a trunk, ``(batch, channels)``."""
    return mean_pool(maps[0])


class AuxSkipNetwork(nn.Module):
    """A trunk with a head on the merged map and auxiliary ones on skips 3, 2 and 1."""

    def __init__(
        self,
        n_classes: int,
        in_channels: int,
        width: int,
        dropout: float,
        pool: Callable[[torch.Tensor], torch.Tensor] = mean_pool,
    ) -> None:
        super().__init__()
        self.trunk = SkipTrunk(in_channels, width, kernel=7)
        self.pool = pool
        self.heads = nn.ModuleList(
            prelu_head(8 * width, 4 * width, n_classes, dropout) for _ in range(4)
        )

    def forward_features(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return pooled features ``(batch, 8 * width)`` of the merge and of skips 3, 2 and 1."""
        merged, *skips = self.trunk(x)
        return self.pool(merged), *(mean_pool(skip) for skip in skips)

    def forward_head(self, features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Return logits ``(batch, n_classes)`` of the main head and auxiliary heads 3, 2 and 1."""
        return tuple(head(x) for head, x in zip(self.heads, features, strict=True))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return logits (main, aux3, aux2, aux1) of ``(batch, in_channels, n_mels, n_frames)``."""
        return self.forward_head(self.forward_features(x))


def aux_skip_attention(
    n_classes: int, *, in_channels: int = 3, width: int = 64, dropout: float = 0.4
) -> AuxSkipNetwork:
    """Make skips, attention and auxiliary heads, 17,326,950 parameters at 80 classes (argus).

    The network of five of the seven members of the winning ensemble.
    """
    return AuxSkipNetwork(n_classes, in_channels, width, dropout)


def skip_attention(
    n_classes: int, *, in_channels: int = 3, width: int = 64, dropout: float = 0.2
) -> Network:
    """Make skips and attention without auxiliary heads, "k7, fc 2" of argus-freesound.

    k is read as the kernel of the spatial attention: the trunk has one kernel that
    varies, and 7 and 3 are the two that Woo et al. (2018) compare. fc is the hidden
    layer in widths.
    """
    head = prelu_head(8 * width, 2 * width, n_classes, dropout)
    return Network(SkipTrunk(in_channels, width, kernel=7), merged_mean, head)


def skip_attention_k3(
    n_classes: int, *, in_channels: int = 3, width: int = 64, dropout: float = 0.2
) -> Network:
    """Make :func:`skip_attention` with a spatial attention of kernel 3 (argus-freesound)."""
    head = prelu_head(8 * width, 2 * width, n_classes, dropout)
    return Network(SkipTrunk(in_channels, width, kernel=3), merged_mean, head)


def simple_attention(
    n_classes: int, *, in_channels: int = 3, width: int = 64, dropout: float = 0.2
) -> Network:
    """Make four blocks, each followed by attention, without skips (argus-freesound).

    Only the parts are known; kernel, head and dropout follow :func:`skip_attention`.
    """
    layers: list[nn.Module] = []
    for block, channels in zip(conv_blocks(in_channels, width), doubling(width, 4), strict=True):
        layers += [block, cbam(channels, kernel=7)]
    return Network(
        nn.Sequential(*layers), mean_pool, prelu_head(8 * width, 2 * width, n_classes, dropout)
    )
