"""Probabilities of clips: the mean over windows."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from labelkit.training.batches import FeatureBank


@torch.no_grad()
def predict_clips(
    model: nn.Module,
    bank: FeatureBank,
    clips: np.ndarray,
    *,
    head: str,
    n_frames: int,
    n_windows: int,
    seed: tuple[int, ...],
    batch_size: int = 128,
) -> np.ndarray:
    """Mean probability over random windows of each clip.

    Dorfer and Widmer judged unverified clips by 25 such windows.

    Args:
        model: The network, on the bank's device.
        bank: The spectrograms.
        clips: Clip indices, shape ``(n_clips,)``.
        head: ``softmax`` or ``sigmoid``.
        n_frames: Length of a window.
        n_windows: Windows per clip; a clip of exactly one window is heard once.
        seed: Numbers from which the windows' places follow.
        batch_size: Windows at once.

    Returns:
        Probabilities, float32, shape ``(n_clips, n_classes)``.
    """
    model.eval()
    rng = np.random.default_rng(seed)
    places = rng.random((len(clips), n_windows))
    heard = np.where(bank.lengths[clips] == n_frames, 1, n_windows)
    keep = np.arange(n_windows) < heard[:, None]
    rows, places = np.nonzero(keep)[0], places[keep]
    outputs = []
    for begin in range(0, len(rows), batch_size):
        part = slice(begin, begin + batch_size)
        x = bank.windows(clips[rows[part]], n_frames, places[part])
        with torch.autocast(bank.device.type, torch.bfloat16, enabled=bank.device.type == "cuda"):
            logits = model(x)
        logits = logits.float()
        outputs.append(logits.softmax(dim=1) if head == "softmax" else logits.sigmoid())
    if not outputs:
        return np.zeros((0, 0), np.float32)
    probs = torch.cat(outputs).cpu().numpy().astype(np.float64)
    sums = np.zeros((len(clips), probs.shape[1]))
    np.add.at(sums, rows, probs)
    return (sums / heard[:, None]).astype(np.float32)
