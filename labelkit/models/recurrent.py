"""Networks that read the map's frames in order."""

from __future__ import annotations

import torch
from torch import nn

from labelkit.models.attention import AuxSkipNetwork


class RecurrentPool(nn.Module):
    """Mean over frequency, a bidirectional LSTM, a linear layer, mean over time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, channels, height, width)`` to ``(batch, channels)``."""
        frames = x.mean(dim=2).transpose(1, 2).contiguous()
        read: torch.Tensor = self.linear(self.lstm(frames)[0])
        return read.mean(dim=1)


def rnn_aux_skip_attention(
    n_classes: int, *, in_channels: int = 3, width: int = 64, dropout: float = 0.4
) -> AuxSkipNetwork:
    """Let :func:`~labelkit.models.attention.aux_skip_attention` read the merged map in order.

    A member of the winning ensemble of argus-freesound (2019).
    """
    return AuxSkipNetwork(n_classes, in_channels, width, dropout, RecurrentPool(8 * width))
