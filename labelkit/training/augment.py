"""Augmentation of whole batches on their device.

Each class draws its parameters first, from an explicit numpy generator, and applies
them second; applying is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class SpecAugment:
    """Mask bands of mels and spans of frames (Park et al., 2019); 0 is the fill.

    Each mask is drawn per sample: its width uniform up to the share, then its place.
    """

    freq_masks: int = 1
    freq_share: float = 0.15
    time_masks: int = 1
    time_share: float = 0.2

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masked places of a batch of ``shape`` ``(batch, channels, n_mels, n_frames)``.

        Returns:
            Boolean masks ``(batch, n_mels)`` and ``(batch, n_frames)``.
        """
        batch, _, n_mels, n_frames = shape
        return (
            _draw_spans(rng, batch, n_mels, self.freq_masks, self.freq_share),
            _draw_spans(rng, batch, n_frames, self.time_masks, self.time_share),
        )

    def apply(self, x: torch.Tensor, params: tuple[np.ndarray, np.ndarray]) -> torch.Tensor:
        """Set the masked places of ``x`` to 0."""
        freq, time = (torch.from_numpy(mask).to(x.device, non_blocking=True) for mask in params)
        return x.masked_fill(freq[:, None, :, None] | time[:, None, None, :], 0.0)


def _draw_spans(
    rng: np.random.Generator, batch: int, size: int, n_masks: int, share: float
) -> np.ndarray:
    widths = np.floor(rng.uniform(0, share, (batch, n_masks, 1)) * size)
    starts = np.floor(rng.uniform(0, 1, (batch, n_masks, 1)) * (size - widths + 1))
    places = np.arange(size)
    return ((places >= starts) & (places < starts + widths)).any(axis=1)


@dataclass(frozen=True)
class Mixup:
    """Blend each sample with another of its batch (Zhang et al., 2018).

    The share of the first is drawn from Beta(alpha, alpha) per sample and is never below
    a half, so that a sample's weight stays with what is mostly heard; alpha 0 blends nothing.
    """

    alpha: float = 0.4

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Partner and own share of each sample, both ``(batch,)``."""
        if self.alpha == 0:
            return np.arange(shape[0]), np.ones(shape[0], np.float32)
        share = rng.beta(self.alpha, self.alpha, shape[0]).astype(np.float32)
        return rng.permutation(shape[0]), np.maximum(share, 1 - share)

    def apply(self, x: torch.Tensor, params: tuple[np.ndarray, np.ndarray]) -> torch.Tensor:
        """Blend anything whose first axis is the batch: spectrograms, targets, weights."""
        partner, share = (torch.from_numpy(p).to(x.device, non_blocking=True) for p in params)
        share = share.view(-1, *[1] * (x.dim() - 1))
        return share * x + (1 - share) * x[partner]
