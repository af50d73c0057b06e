"""Batches of windows, drawn from pools of clips, augmented and mixed on their device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from labelkit.config import StageSpec
from labelkit.errors import InvalidInput
from labelkit.training.mixing import create_augmentations
from labelkit.training.spectrograms import Spectrograms
from labelkit.types import Array, Floats, Ints

POOLS = ("noisy", "selected", "curated")


@dataclass
class MiniBatch:
    """One step's input.

    ``x`` are windows ``(batch, channels, n_mels, n_frames)``, ``targets`` their labels,
    ``noisy_rows`` the rows whose labels nobody vouched for, ``clips`` the clip of each
    row, ``mask`` the classes that count in the loss, all of them if None.
    """

    x: torch.Tensor
    targets: torch.Tensor
    noisy_rows: torch.Tensor
    clips: Ints
    mask: torch.Tensor | None = None


@dataclass(frozen=True)
class Examples:
    """What a training may draw: clips, one row each, or two if a clip is in two pools.

    Args:
        clips: Indices into the bank, shape ``(n,)``.
        targets: Label of each, shape ``(n, n_classes)``.
        pools: Index into ``POOLS`` of each, shape ``(n,)``; pool 0 is the noisy one.
        mask: Classes that count in the loss of each, ``(n, n_classes)``; all if None.
    """

    clips: Ints
    targets: Floats
    pools: Ints
    mask: Floats | None = None


class TrainingBatches:
    """Augmented batches: every example once an epoch in random order, or drawn from pools.

    Args:
        banks: The spectrograms, and behind them offline variants of the same clips; one
            of them is drawn by chance each time.
        examples: What may be drawn.
        spec: Pools, batch size and augmentations.
        n_frames: Length of a window.
        seed: Numbers from which, with the epoch's, everything random follows.
    """

    def __init__(
        self,
        banks: Sequence[Spectrograms],
        examples: Examples,
        spec: StageSpec,
        *,
        n_frames: int,
        seed: tuple[int, ...],
    ) -> None:
        self.banks, self.examples, self.spec = banks, examples, spec
        self.n_frames, self.seed = n_frames, seed
        self.device = banks[0].device
        self.targets = torch.from_numpy(np.asarray(examples.targets, np.float32)).to(self.device)
        self.mask = None
        if examples.mask is not None:
            self.mask = torch.from_numpy(np.asarray(examples.mask, np.float32)).to(self.device)
        self.single, self.mixers = create_augmentations(spec.augment)
        self.members = [np.flatnonzero(examples.pools == k) for k in range(len(POOLS))]
        self.shares = _pool_shares(spec, self.members)
        self.drawn = np.zeros(len(banks[0].starts), bool)

    @property
    def n_draws(self) -> int:
        """Examples of an epoch."""
        return (
            self.spec.pools.draws
            if self.shares is not None and self.spec.pools.draws
            else len(self.examples.clips)
        )

    def __len__(self) -> int:
        """Return the steps of an epoch; one clip alone, too few for batch norm, is no step."""
        full, rest = divmod(self.n_draws, self.spec.batch_size)
        return full + (rest > 1)

    def epoch(self, number: int) -> Iterator[MiniBatch]:
        """Yield the batches of one epoch, the same ones whenever it is asked for."""
        rng = np.random.default_rng((*self.seed, number))
        order = self._draw_order(rng)
        for step in range(len(self)):
            yield self._batch(
                order[step * self.spec.batch_size : (step + 1) * self.spec.batch_size], rng
            )

    def _draw_order(self, rng: np.random.Generator) -> Ints:
        if self.shares is None:
            return rng.permutation(len(self.examples.clips))
        pools = rng.choice(len(POOLS), self.n_draws, p=self.shares)
        return self._draw_from(pools, rng)

    def _draw_from(self, pools: Ints, rng: np.random.Generator) -> Ints:
        """Draw a random example of each given pool."""
        places, rows = rng.random(len(pools)), np.zeros(len(pools), int)
        for pool, members in enumerate(self.members):
            here = pools == pool
            rows[here] = members[(places[here] * len(members)).astype(int)] if len(members) else 0
        return rows

    def _batch(self, rows: Ints, rng: np.random.Generator) -> MiniBatch:
        x, targets, mask = self._windows(rows, rng)
        pools = self.examples.pools[rows]
        for mixer in self.mixers:
            partners = mixer.partners(rng, pools)
            if partners is None:
                fresh = pools if mixer.partner == "pool" else self._any_pools(len(rows), rng)
                other = self._windows(self._draw_from(fresh, rng), rng)
            else:
                on_device = self._on_device(partners)
                other = (
                    x[on_device], targets[on_device], None if mask is None else mask[on_device]
                )  # fmt: skip
            params = mixer.draw(rng, tuple(x.shape))
            x = mixer.apply(x, other[0], params)
            targets = mixer.apply_targets(targets, other[1], params)
            if mask is not None and other[2] is not None:
                # A class that does not count for one of the two cannot count for their mix.
                mixed = self._on_device(params[0])[:, None]
                mask = torch.where(mixed, torch.minimum(mask, other[2]), mask)
        noisy = self._on_device(np.flatnonzero(pools == 0))
        return MiniBatch(x, targets, noisy, self.examples.clips[rows], mask)

    def _on_device(self, values: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, non_blocking=True)

    def _any_pools(self, n: int, rng: np.random.Generator) -> Ints:
        counts = np.array([len(members) for members in self.members], float)
        shares = self.shares if self.shares is not None else counts / counts.sum()
        return rng.choice(len(POOLS), n, p=shares)

    def _windows(
        self, rows: Ints, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return augmented windows of examples, with their targets and masks."""
        clips = self.examples.clips[rows]
        self.drawn[clips] = True
        which = rng.integers(len(self.banks), size=len(rows)) if len(self.banks) > 1 else None
        x = self.banks[0].training_windows(clips, self.n_frames, rng)
        for number, bank in enumerate(self.banks[1:], 1):
            here = np.flatnonzero(which == number)
            if len(here):
                x[self._on_device(here)] = bank.training_windows(clips[here], self.n_frames, rng)
        x = self.single.apply(x, self.single.draw(rng, tuple(x.shape)))
        on_device = self._on_device(rows)
        mask = None if self.mask is None else self.mask[on_device]
        return self.banks[0].add_channels(x), self.targets[on_device], mask


def _pool_shares(spec: StageSpec, members: Sequence[Ints]) -> Floats | None:
    """Return the share of draws of each pool with clips, or None if nothing is drawn from pools."""
    wanted = np.array([getattr(spec.pools, name) for name in POOLS])
    if not wanted.any():
        return None
    shares = np.where([len(part) > 0 for part in members], wanted, 0.0)
    if not shares.any():
        named = [name for name, share in zip(POOLS, wanted, strict=True) if share]
        raise InvalidInput(f"nothing to draw: the pools {', '.join(named)} have no clips")
    scaled: Floats = shares / shares.sum()
    return scaled
