"""Spectrograms on the device, and batches of windows cut from them without a Python loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from labelkit.errors import InvalidInput
from labelkit.training.augment import Mixup, SpecAugment


class FeatureBank:
    """All spectrograms of a training as one long matrix of frames.

    Where they fit they lie on the device for the whole training; otherwise batches
    are copied out of the memory map.

    Args:
        frames: Frames of all clips, one after the other, shape ``(total, n_mels)``,
            float16, an array or a memory map.
        starts: First frame of each clip, shape ``(n_clips,)``.
        lengths: Frames of each clip, at least 1, shape ``(n_clips,)``.
        device: Where batches shall be.
    """

    def __init__(
        self, frames: np.ndarray, starts: np.ndarray, lengths: np.ndarray, device: str = "cpu"
    ) -> None:
        if len(lengths) and np.min(lengths) < 1:
            raise InvalidInput("every clip needs at least one frame")
        self.device = torch.device(device)
        self.starts, self.lengths = np.asarray(starts), np.asarray(lengths)
        self.n_mels = frames.shape[1]
        self._frames = torch.from_numpy(np.array(frames)) if self._fits(frames) else frames
        if isinstance(self._frames, torch.Tensor):
            self._frames = self._frames.to(self.device)
        self._mean = torch.zeros(self.n_mels, device=self.device)
        self._std = torch.ones(self.n_mels, device=self.device)

    def _fits(self, frames: np.ndarray) -> bool:
        if self.device.type == "cuda":
            # What earlier trainings left in the allocator's cache is free as well.
            cached = torch.cuda.memory_reserved(self.device)
            cached -= torch.cuda.memory_allocated(self.device)
            return frames.nbytes < 0.5 * (torch.cuda.mem_get_info(self.device)[0] + cached)
        return frames.nbytes < 1 << 28

    def statistics(self, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each mel band over ``clips``, both ``(n_mels,)``."""
        total, total_sq, count = np.zeros(self.n_mels), np.zeros(self.n_mels), 0
        for clip in clips:
            start, length = int(self.starts[clip]), int(self.lengths[clip])
            part = self._frames[start : start + length]
            block = part.cpu().numpy() if isinstance(part, torch.Tensor) else np.array(part)
            block = block.astype(np.float64)
            total += block.sum(axis=0)
            total_sq += (block**2).sum(axis=0)
            count += length
        mean = total / max(count, 1)
        if not np.isfinite(mean).all():
            raise InvalidInput("spectrograms hold NaN; delete .labelkit/features and run again")
        std = np.sqrt(np.maximum(total_sq / max(count, 1) - mean**2, 1e-6))
        return mean.astype(np.float32), std.astype(np.float32)

    def normalise(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Let every window be ``(x - mean) / std`` per mel band from now on."""
        self._mean = torch.from_numpy(np.asarray(mean, np.float32)).to(self.device)
        self._std = torch.from_numpy(np.asarray(std, np.float32)).to(self.device)

    def windows(self, clips: np.ndarray, n_frames: int, places: np.ndarray) -> torch.Tensor:
        """Cut one window from each clip; a shorter clip is repeated to fill it.

        Args:
            clips: Clip indices, shape ``(batch,)``.
            n_frames: Length of a window.
            places: Where each window starts, from 0 (first) to 1 (last possible), ``(batch,)``.

        Returns:
            Normalised float32 windows, shape ``(batch, 1, n_mels, n_frames)``.
        """
        lengths = self.lengths[clips]
        room = np.maximum(lengths - n_frames, 0)
        # A clip to be repeated may begin anywhere in itself.
        room = np.where(lengths < n_frames, lengths - 1, room)
        first = np.rint(places * room).astype(np.int64)
        offsets = (first[:, None] + np.arange(n_frames)) % lengths[:, None]
        index = self.starts[clips][:, None] + offsets
        if isinstance(self._frames, torch.Tensor):
            x = self._frames[torch.from_numpy(index).to(self.device, non_blocking=True)]
        else:
            x = torch.from_numpy(self._frames[index]).to(self.device, non_blocking=True)
        x = (x.float() - self._mean) / self._std
        return x.transpose(1, 2).unsqueeze(1)


@dataclass
class Batch:
    """One step's input: windows, their targets, and which of them carry noisy labels."""

    x: torch.Tensor
    targets: torch.Tensor
    noisy: torch.Tensor


class TrainingBatches:
    """Shuffled, augmented batches of the training clips; each clip once an epoch.

    Args:
        bank: The spectrograms.
        clips: Indices into the bank, shape ``(n_train,)``.
        targets: Label of each of them, shape ``(n_train, n_classes)``.
        noisy: Which of them nobody vouched for, shape ``(n_train,)``.
        batch_size: Clips of a step; a last step of a single clip is left out, because
            batch normalisation cannot use it.
        n_frames: Length of a window.
        spec_augment: Masks.
        mixup: Blending.
        seed: Numbers from which, with the epoch's, everything random follows.
    """

    def __init__(
        self,
        bank: FeatureBank,
        clips: np.ndarray,
        targets: np.ndarray,
        noisy: np.ndarray,
        *,
        batch_size: int,
        n_frames: int,
        spec_augment: SpecAugment,
        mixup: Mixup,
        seed: tuple[int, ...],
    ) -> None:
        self.bank, self.clips, self.n_frames = bank, np.asarray(clips), n_frames
        self.targets = torch.from_numpy(np.asarray(targets, np.float32)).to(bank.device)
        self.noisy = torch.from_numpy(np.asarray(noisy, np.float32)).to(bank.device)
        self.batch_size, self.seed = batch_size, seed
        self.spec_augment, self.mixup = spec_augment, mixup
        self.drawn = np.zeros(len(bank.starts), bool)

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.clips) // self.batch_size) - (len(self.clips) % self.batch_size == 1)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch, the same ones whenever it is asked for."""
        rng = np.random.default_rng((*self.seed, number))
        order = rng.permutation(len(self.clips))
        for step in range(len(self)):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            clips = self.clips[rows]
            self.drawn[clips] = True
            x = self.bank.windows(clips, self.n_frames, rng.random(len(rows)))
            x = self.spec_augment.apply(x, self.spec_augment.draw(rng, tuple(x.shape)))
            mix = self.mixup.draw(rng, tuple(x.shape))
            on_device = torch.from_numpy(rows).to(self.bank.device, non_blocking=True)
            yield Batch(
                self.mixup.apply(x, mix),
                self.mixup.apply(self.targets[on_device], mix),
                self.noisy[on_device],
            )
