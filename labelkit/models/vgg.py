"""Chains of convolutions and pooling."""

from __future__ import annotations

import torch
from torch import nn

from labelkit.models.layers import (
    Network,
    concat_pool,
    conv,
    conv_blocks,
    conv_bn_relu,
    mean_pool,
)

# Channels in widths; "pool" halves both axes, "time" the frames; dropout follows both.
VGG_GAP: list[int | str] = [1, "pool", 2, 2, "pool"]
VGG_GAP += [4, "drop", 4, "drop", 6, "drop", 6, "pool", 8, 8, "time", 8, 8, "time"]

# Channels in widths of the blocks of Simonyan and Zisserman's net D.
VGG_16 = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))


def conv_relu_bn(
    in_channels: int, out_channels: int, kernel: int = 3, *, stride: int = 1, valid: bool = False
) -> nn.Sequential:
    """Make a convolution, ReLU, batch normalisation; ``valid`` pads nothing."""
    return nn.Sequential(
        conv(in_channels, out_channels, kernel, stride=stride, padding=0 if valid else None),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(out_channels),
    )


class MapHead(nn.Module):
    """Logits of every place of a map, and their mean."""

    def __init__(self, channels: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.conv = conv_relu_bn(channels, n_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, channels, height, width)`` to ``(batch, n_classes)``."""
        return mean_pool(self.conv(self.dropout(x)))


def vgg_gap(
    n_classes: int, *, in_channels: int = 1, width: int = 64, dropout: float = 0.5
) -> Network:
    """Make Dorfer and Widmer's fully convolutional net (DCASE 2018), for windows of any length.

    14,865,124 numbers at 41 classes with the statistics of batch normalisation,
    8,369,492 at width 48. Its features are a map, of which the head makes logits
    place by place. Of ``dropout`` the body takes three fifths: .3 where the head has
    .5. As stated, every convolution has a ReLU and then batch normalisation, which is
    taken to include the last.
    """
    layers: list[nn.Module] = [conv_relu_bn(in_channels, width, 5, stride=2)]
    channels = width
    for entry in VGG_GAP:
        if isinstance(entry, int):
            layers.append(conv_relu_bn(channels, entry * width))
            channels = entry * width
            continue
        if entry != "drop":
            layers.append(nn.MaxPool2d(2 if entry == "pool" else (1, 2)))
        layers.append(nn.Dropout(0.6 * dropout))
    layers += [
        conv_relu_bn(channels, channels, valid=True),
        nn.Dropout(dropout),
        conv_relu_bn(channels, channels, 1),
    ]
    head = MapHead(channels, n_classes, dropout)
    return Network(nn.Sequential(*layers), nn.Identity(), head)


def pooling_head(n_features: int, hidden: int, n_classes: int, dropout: float) -> nn.Sequential:
    """Make two linear layers, each after batch normalisation and dropout, half of it first."""
    return nn.Sequential(
        nn.BatchNorm1d(n_features),
        nn.Dropout(dropout / 2),
        nn.Linear(n_features, hidden),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(hidden),
        nn.Dropout(dropout),
        nn.Linear(hidden, n_classes),
    )


def cnn_model_1(
    n_classes: int, *, in_channels: int = 3, width: int = 64, dropout: float = 0.5
) -> Network:
    """Make four blocks and a pooling head, 5,258,128 parameters at 80 classes (Bouteillon 2019)."""
    body = nn.Sequential(*conv_blocks(in_channels, width, bias=True))
    return Network(body, concat_pool, pooling_head(16 * width, 8 * width, n_classes, dropout))


def vgg16_body(in_channels: int, width: int) -> nn.Sequential:
    """Make thirteen convolutions in five blocks, each ended by 2 x 2 maximum pooling."""
    layers: list[nn.Module] = []
    channels = in_channels
    for block in VGG_16:
        for multiple in block:
            layers.append(conv_bn_relu(channels, multiple * width, bias=True))
            channels = multiple * width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def vgg16_bn(
    n_classes: int, *, in_channels: int = 3, width: int = 64, dropout: float = 0.5
) -> Network:
    """Make VGG-16 with batch normalisation, as for ImageNet (Simonyan and Zisserman 2015)."""
    hidden = 64 * width
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten())
    head = nn.Sequential(
        nn.Linear(49 * 8 * width, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, n_classes),
    )
    return Network(vgg16_body(in_channels, width), pool, head)


def vgg16_bn_pooled(
    n_classes: int, *, in_channels: int = 3, width: int = 64, dropout: float = 0.5
) -> Network:
    """Put the head of :func:`cnn_model_1` on VGG-16's convolutions (Bouteillon 2019).

    What fastai, which cuts a network after its convolutions, makes of VGG-16.
    """
    head = pooling_head(16 * width, 8 * width, n_classes, dropout)
    return Network(vgg16_body(in_channels, width), concat_pool, head)
