"""Probabilities of windows, and of clips as their mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from labelkit.config import WindowSpec
from labelkit.ensemble import mean_by_group
from labelkit.models import main_logits
from labelkit.training.spectrograms import Spectrograms
from labelkit.types import Floats, Ints

_HEADS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": partial(torch.softmax, dim=1),
    "sigmoid": torch.sigmoid,
    "none": lambda logits: logits,
}
# Frames judged at once: 128 windows of 256 frames.
FRAMES_AT_ONCE = 128 * 256


@dataclass(frozen=True)
class WindowProbs:
    """How single windows are judged.

    ``rows`` say which of the asked clips each window is of, ``first`` and ``last`` the
    frames of the clip it heard (``last`` is not heard any more), all ``(n_windows,)``;
    ``probs`` are ``(n_windows, n_classes)``.
    """

    rows: Ints
    first: Ints
    last: Ints
    probs: Floats


def plan_windows(
    lengths: Ints, n_frames: int, spec: WindowSpec, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Plan which windows of each clip to hear.

    Args:
        lengths: Frames of each clip, shape ``(n_clips,)``.
        n_frames: Length of a window.
        spec: How they are laid out; ``full`` is one window of the whole clip.
        rng: Where the places of random windows come from.

    Returns:
        Row of the clip and first frame of each window; a first tile begins before its
        clip where the margin is split (argus), other windows begin in it.

    Example:
        >>> spaced = WindowSpec(windows="spaced", step=48)
        >>> plan_windows(np.array([177]), 128, spaced, np.random.default_rng(0))[1]
        array([ 0, 24, 49])
    """
    room = np.maximum(lengths - n_frames, 0)
    if spec.windows in ("full", "centre"):
        middle = -((n_frames - lengths) // 2)
        return np.arange(len(lengths)), np.where(lengths > n_frames, room // 2, middle) * (
            spec.windows == "centre"
        )
    if spec.windows == "random":
        counts = np.where(room == 0, 1, spec.n)
        keep = np.arange(spec.n) < counts[:, None]
        places = rng.random((len(lengths), spec.n))
        first = np.floor(places * (room[:, None] + 1)).astype(np.int64)
        return np.nonzero(keep)[0], first[keep]
    if spec.windows == "regular":
        counts = np.where(room == 0, 1, spec.n)
    else:
        counts = -(-room // spec.step) + 1
    rows = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    if spec.windows == "tiles":
        margin = (counts - 1) * spec.step + n_frames - lengths
        return rows, number * spec.step - (margin // 2)[rows]
    return rows, number * room[rows] // np.maximum(counts - 1, 1)[rows]


@torch.no_grad()
def predict_windows(
    model: nn.Module,
    bank: Spectrograms,
    clips: Ints,
    spec: WindowSpec,
    *,
    head: str,
    n_frames: int,
    seed: tuple[int, ...],
) -> WindowProbs:
    """Judge windows of clips.

    Args:
        model: The network, on the bank's device.
        bank: The spectrograms.
        clips: Clip indices, shape ``(n_clips,)``.
        spec: Which windows.
        head: ``softmax`` or ``sigmoid``; ``none`` leaves the logits as they are.
        n_frames: Length of a window.
        seed: Numbers from which random windows follow.

    Returns:
        The windows of the clips, in their order.
    """
    model.eval()
    clips = np.asarray(clips, int)
    lengths = bank.lengths[clips]
    rows, first = plan_windows(lengths, n_frames, spec, np.random.default_rng(seed))
    sizes: Ints = np.full(len(rows), n_frames)
    if spec.windows == "full":
        sizes = np.maximum(lengths, n_frames)[rows]
    constant = bank.spec.pad != "wrap"
    short = (lengths[rows] < sizes) & (first >= 0)
    first = np.where(short & constant, -((sizes - lengths[rows]) // 2), first)
    outputs: list[torch.Tensor] = []
    order = np.argsort(sizes, kind="stable")
    begin = 0
    while begin < len(order):
        size = int(sizes[order[begin]])
        end = begin + max(1, FRAMES_AT_ONCE // size)
        part = order[begin:end]
        part = part[sizes[part] == size]
        x = bank.add_channels(bank.windows(clips[rows[part]], size, first[part], constant))
        with torch.autocast(bank.device.type, torch.bfloat16, enabled=bank.device.type == "cuda"):
            logits = main_logits(model(x))
        logits = logits.float()
        outputs.append(_HEADS[head](logits))
        begin += len(part)
    if not outputs:
        nothing = np.zeros(0, int)
        return WindowProbs(nothing, nothing, nothing, np.zeros((0, 0), np.float32))
    probs = np.empty((len(order), outputs[0].shape[1]), np.float32)
    probs[order] = torch.cat(outputs).cpu().numpy()
    stored = bank.stored[clips][rows]
    inside = np.where(first >= stored, first % stored, np.maximum(first, 0))
    last = np.clip(inside + sizes + np.minimum(first, 0), inside + 1, stored)
    return WindowProbs(rows, inside, last, probs)


def clip_probs(windows: WindowProbs, n_clips: int, *, kind: str, head: str) -> Floats:
    """Average over the windows of each clip, float32, ``(n_clips, n_classes)``."""
    if not len(windows.rows):
        return np.zeros((0, 0), np.float32)
    return mean_by_group(windows.probs, windows.rows, n_clips, kind=kind, single=head == "softmax")
