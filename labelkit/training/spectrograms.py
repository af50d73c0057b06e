"""Spectrograms on the device, and windows cut from them without a Python loop."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from labelkit.audio.features import delta_matrix
from labelkit.config import InputSpec
from labelkit.errors import InvalidInput
from labelkit.types import Array, Bools, Floats, Ints


class Spectrograms:
    """All spectrograms of a training as one long matrix of frames.

    Where they fit they lie on the device for the whole training; otherwise batches
    are copied out of the memory map.

    Args:
        frames: Frames of all clips, one after the other, shape ``(total, n_mels)``,
            float16, an array or a memory map.
        starts: First frame of each clip, shape ``(n_clips,)``.
        lengths: Frames of each clip, at least 1, shape ``(n_clips,)``.
        spec: How windows are padded, placed and normalised, and their channels.
        device: Where windows shall be.
    """

    def __init__(
        self,
        frames: Floats,
        starts: Ints,
        lengths: Ints,
        spec: InputSpec | None = None,
        device: str = "cpu",
    ) -> None:
        if len(lengths) and np.min(lengths) < 1:
            raise InvalidInput("every clip needs at least one frame; leave out those without")
        self.device, self.spec = torch.device(device), spec or InputSpec()
        self.starts, self.stored = np.asarray(starts), np.asarray(lengths)
        # Frames a clip counts as having: more than are stored where it is repeated.
        fill = self.spec.fill_frames
        self.lengths = np.full_like(self.stored, fill) if fill else self.stored
        self.n_mels = frames.shape[1]
        self._source = frames
        self._frames = torch.from_numpy(np.array(frames)) if self._fits(frames) else frames
        if isinstance(self._frames, torch.Tensor):
            self._frames = self._frames.to(self.device)
        self._mean = torch.full((self.n_mels,), self.spec.mean, device=self.device)
        self._std = torch.full((self.n_mels,), self.spec.std, device=self.device)
        self._clip_stats = np.full((len(self.starts), 4), np.nan, np.float32)

    def _fits(self, frames: Floats) -> bool:
        if self.device.type == "cuda":
            # What earlier trainings left in the allocator's cache is free as well.
            cached = torch.cuda.memory_reserved(self.device)
            cached -= torch.cuda.memory_allocated(self.device)
            return frames.nbytes < 0.5 * (torch.cuda.mem_get_info(self.device)[0] + cached)
        return frames.nbytes < 1 << 28

    def _clip(self, clip: int) -> Floats:
        """Return the stored frames of a clip in float64."""
        start = int(self.starts[clip])
        return np.asarray(self._source[start : start + int(self.stored[clip])], np.float64)

    def statistics(self, clips: Ints) -> tuple[Floats, Floats]:
        """Return mean and deviation of each mel band over ``clips``, both ``(n_mels,)``."""
        total, total_sq, count = np.zeros(self.n_mels), np.zeros(self.n_mels), 0
        for clip in clips:
            block = self._clip(clip)
            total += block.sum(axis=0)
            total_sq += (block**2).sum(axis=0)
            count += len(block)
        mean = total / max(count, 1)
        if not np.isfinite(mean).all():
            raise InvalidInput("spectrograms hold NaN; delete .labelkit/features and run again")
        std = np.sqrt(np.maximum(total_sq / max(count, 1) - mean**2, 1e-6))
        return mean.astype(np.float32), std.astype(np.float32)

    def normalise(self, mean: Floats, std: Floats) -> None:
        """Let every window be ``(x - mean) / std`` per mel band from now on."""
        self._mean = torch.from_numpy(np.asarray(mean, np.float32)).to(self.device)
        self._std = torch.from_numpy(np.asarray(std, np.float32)).to(self.device)

    def _stats_of(self, clips: Ints) -> Floats:
        """Return minimum, range, mean and standard deviation of clips, ``(len(clips), 4)``."""
        for clip in np.unique(clips[np.isnan(self._clip_stats[clips, 0])]):
            block = self._clip(clip)
            self._clip_stats[clip] = block.min(), np.ptp(block), block.mean(), block.std()
        return self._clip_stats[clips]

    @cached_property
    def _energy(self) -> Floats:
        """Running sum of the energy of all frames, from 0, ``(total + 1,)``."""
        total = int((self.starts + self.stored).max(initial=0))
        sums = np.zeros(total + 1)
        for begin in range(0, total, 65_536):
            block = np.asarray(self._source[begin : min(begin + 65_536, total)], np.float64)
            sums[begin + 1 : begin + 1 + len(block)] = (10 ** (block / 10)).sum(axis=1)
        return np.cumsum(sums)

    def training_windows(
        self, clips: Ints, n_frames: int, rng: np.random.Generator
    ) -> torch.Tensor:
        """Cut one window of each clip, placed and padded by chance as the spec says.

        Args:
            clips: Clip indices, shape ``(batch,)``.
            n_frames: Length of a window.
            rng: Where chance comes from.

        Returns:
            Normalised float32 windows of one channel, ``(batch, 1, n_mels, n_frames)``.
        """
        constant: Bools = np.full(len(clips), self.spec.pad == "constant")
        if self.spec.pad == "either":
            constant = rng.random(len(clips)) < 0.5
        first = self.place(clips, n_frames, rng.random(len(clips)), constant)
        if self.spec.place == "energy":
            first = self._by_energy(clips, n_frames, rng.random(len(clips)), first)
        return self.windows(clips, n_frames, first, constant)

    def place(self, clips: Ints, n_frames: int, places: Floats, constant: Bools) -> Ints:
        """Return the first frame of windows at ``places`` in [0, 1), all possible ones alike.

        A clip to be repeated may begin anywhere in itself; one to be padded is centred,
        and so are all short ones where the padding is drawn by chance.
        """
        lengths = self.lengths[clips]
        short = lengths < n_frames
        choices = np.where(short, lengths, lengths - n_frames + 1)
        first = np.floor(places * choices).astype(np.int64)
        centred = short & (constant | (self.spec.pad == "either"))
        return np.where(centred, -((n_frames - lengths) // 2), first)

    def _by_energy(self, clips: Ints, n_frames: int, places: Floats, first: Ints) -> Ints:
        """Place windows whose centre is drawn in proportion to the energy of its frame."""
        starts, ends = self.starts[clips], self.starts[clips] + self.stored[clips]
        low, high = self._energy[starts], self._energy[ends]
        centre = np.searchsorted(self._energy, low + places * (high - low), side="right") - 1
        centre = np.clip(centre, starts, ends - 1) - starts
        room = self.lengths[clips] - n_frames
        return np.where(room < 0, first, np.clip(centre - n_frames // 2, 0, np.maximum(room, 0)))

    def windows(
        self, clips: Ints, n_frames: int, first: Ints, constant: Bools | bool
    ) -> torch.Tensor:
        """Cut one window from each clip.

        Args:
            clips: Clip indices, shape ``(batch,)``.
            n_frames: Length of a window.
            first: Frame of the clip at which each window starts, may be negative, ``(batch,)``.
            constant: Whether frames outside of a clip are its minimum rather than the
                clip repeated, ``(batch,)``.

        Returns:
            Normalised float32 windows of one channel, ``(batch, 1, n_mels, n_frames)``.
        """
        first = np.asarray(first, np.int64)
        if isinstance(self._frames, torch.Tensor):
            # Only a number a clip goes to the device; the rest of the index is made there.
            begin, stored, offset = (
                self._on_device(part)[:, None]
                for part in (self.starts[clips], self.stored[clips], first)
            )
            wanted = offset + torch.arange(n_frames, device=self.device)
            x = self._frames[begin + torch.remainder(wanted, stored)]
        else:
            places = first[:, None] + np.arange(n_frames)
            index = self.starts[clips][:, None] + places % self.stored[clips][:, None]
            wanted = self._on_device(places)
            x = torch.from_numpy(self._frames[index]).to(self.device, non_blocking=True)
        x = x.float()
        lengths = self.lengths[clips]
        padded = np.broadcast_to(np.asarray(constant), clips.shape)
        padded = padded & ((first < 0) | (first + n_frames > lengths))
        if padded.any():
            outside = (wanted < 0) | (wanted >= self._on_device(lengths)[:, None])
            outside &= self._on_device(padded)[:, None]
            least = self._on_device(self._stats_of(clips)[:, 0])[:, None, None]
            x = torch.where(outside[:, :, None], least, x)
        return self._normalised(x, clips).transpose(1, 2).unsqueeze(1)

    def _normalised(self, x: torch.Tensor, clips: Ints) -> torch.Tensor:
        kind = self.spec.normalise
        if kind in ("band", "fixed"):
            return (x - self._mean) / self._std
        if kind == "none":
            return x
        least, extent, mean, std = (
            self._on_device(column)[:, None, None] for column in self._stats_of(clips).T
        )
        if kind == "clip":
            return (x - mean) / (std + 1e-6)
        return ((x - least) / extent.clamp_min(1e-6) * 255).floor() / 255

    def _on_device(self, values: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, non_blocking=True)

    def add_channels(self, x: torch.Tensor) -> torch.Tensor:
        """Add deltas of windows and copies of it all, ``(batch, channels, n_mels, n_frames)``.

        argus computed deltas of what remains after cropping and augmentation.
        """
        if self.spec.deltas:
            n_frames = x.shape[3]
            known = n_frames == self.spec.frames
            matrices = self._window_deltas if known else self._delta_matrices(n_frames)
            x = torch.cat([x, *(x @ matrix for matrix in matrices)], dim=1)
        return x.repeat(1, self.spec.copies, 1, 1) if self.spec.copies > 1 else x

    @cached_property
    def _window_deltas(self) -> list[torch.Tensor]:
        return self._delta_matrices(self.spec.frames)

    def _delta_matrices(self, n_frames: int) -> list[torch.Tensor]:
        orders = range(1, self.spec.deltas + 1)
        return [self._on_device(delta_matrix(n_frames, order).T) for order in orders]
