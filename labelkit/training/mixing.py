"""Augmentation that mixes two spectrograms and their targets, and choosing among several.

A mixer draws its parameters and applies them as ``augment`` does, but needs for each sample
another one; ``partners`` says which, where it is one of the batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from labelkit import registry
from labelkit.config.settings import setting
from labelkit.errors import InvalidInput
from labelkit.training.augment import (
    Augmentation,
    Drawn,
    Params,
    Single,
    along,
    draw_spans,
    per_sample,
    take,
)
from labelkit.types import Array, Bools, Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Partnered(Augmentation):
    """What may need another sample for each."""

    partner: str = setting(
        "permutation",
        "Whom a sample is mixed with: another of the batch by chance, the batch reversed, another "
        "of its pool in the batch, a fresh clip of its pool, any fresh clip.",
        choices=("permutation", "reverse", "batch_pool", "pool", "any"),
    )

    def partners(self, rng: np.random.Generator, pools: Ints) -> Ints | None:
        """Return whom each sample is mixed with; None where fresh clips are to be drawn.

        ``pools`` are integers, ``(batch,)``. Chance may give a sample itself.
        """
        if self.partner == "permutation":
            return rng.permutation(len(pools))
        if self.partner == "reverse":
            return np.arange(len(pools) - 1, -1, -1)
        if self.partner != "batch_pool":
            return None
        shuffled = rng.permutation(len(pools))
        found = np.empty_like(shuffled)
        of_pool = np.argsort(pools[shuffled], kind="stable")
        found[np.argsort(pools, kind="stable")] = shuffled[of_pool]
        return found


@dataclass(frozen=True, kw_only=True)
class Mixer(Partnered, Drawn):
    """Mix samples with others; a subclass says how in ``_draw``, ``_mix`` and ``_mix_targets``."""

    mixes: ClassVar[bool] = True

    def apply(self, x: Tensor, other: Tensor, params: Params) -> Tensor:
        """Mix the drawn samples of ``x`` with those in the same place of ``other``."""
        chosen, *drawn = params
        return take(chosen, self._mix(x, other, *drawn), x) if chosen.any() else x

    def apply_targets(self, targets: Tensor, other_targets: Tensor, params: Params) -> Tensor:
        """Mix anything whose first axis is the batch, as the drawn samples were mixed."""
        chosen, *drawn = params
        return take(chosen, self._mix_targets(targets, other_targets, *drawn), targets)

    @abstractmethod
    def _mix(self, x: Tensor, other: Tensor, *drawn: Array) -> Tensor:
        """Mix all of ``x`` with their partners."""

    def _mix_targets(self, targets: Tensor, other: Tensor, *drawn: Array) -> Tensor:
        return self._mix(targets, other, *drawn)


@dataclass(frozen=True, kw_only=True)
class Mixup(Mixer):
    """Blend two samples and their targets alike (Zhang et al. 2018).

    A larger own share keeps a sample's weight in the loss with what is mostly heard, as in
    Bouteillon (2019). ``uniform`` is what argus-freesound (2019) calls Add.
    """

    alpha: float = setting(0.4, "beta: both parameters of the distribution; 0 is off.", low=0)
    distribution: str = setting(
        "beta", "Of the own share; uniform: of the other's.", choices=("beta", "uniform")
    )
    uniform_high: float = setting(0.5, "uniform: largest share of the other.", low=0, high=1)
    per: str = setting("sample", "One share for what.", choices=("sample", "batch"))
    keep_larger: bool = setting(True, "beta: the own share is the larger of the two.")

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        count = shape[0] if self.per == "sample" else 1
        share: Floats = np.ones(count)
        if self.distribution == "uniform":
            share = 1 - rng.uniform(0, self.uniform_high, count)
        elif self.alpha > 0:
            share = rng.beta(self.alpha, self.alpha, count)
            share = np.maximum(share, 1 - share) if self.keep_larger else share
        return (np.resize(share.astype(np.float32), shape[0]),)

    def _mix(self, x: Tensor, other: Tensor, *drawn: Array) -> Tensor:
        share = per_sample(drawn[0], x)
        return share * x + (1 - share) * other


@dataclass(frozen=True, kw_only=True)
class SigmoidConcat(Mixer):
    """Fade from another sample into this one; the target is the union (argus-freesound 2019).

    Over the frames the own weight is the sigmoid of a ramp from ``-radius`` to ``radius``,
    so that a small radius blends all along and a large one changes over in the middle.
    """

    ordered = (("radius_low", "radius_high"),)
    radius_low: int = setting(3, "Smallest radius.", low=0)
    radius_high: int = setting(12, "Largest radius.", low=0)

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        radius = rng.integers(self.radius_low, self.radius_high, shape[0], endpoint=True)
        return (radius.astype(np.float32),)

    def _mix(self, x: Tensor, other: Tensor, *drawn: Array) -> Tensor:
        ramp = drawn[0][:, None] * np.linspace(-1, 1, x.shape[3], dtype=np.float32)
        share = per_sample(ramp[:, None, None, :], x).sigmoid()
        return share * x + (1 - share) * other

    def _mix_targets(self, targets: Tensor, other: Tensor, *drawn: Array) -> Tensor:
        return (targets + other).clamp(max=1)


@dataclass(frozen=True, kw_only=True)
class SpecMix(Mixer):
    """Replace bands of mels and spans of frames by another sample's (Bouteillon 2019).

    The other's share of the target is the area of the drawn fractions before they are rounded
    to cells: ``f + t - f * t``. With several masks each axis counts as if its spans overlapped
    by chance, ``f = 1 - (1 - f1) * (1 - f2)``, wherever they really fell.
    """

    freq_share: float = setting(0.25, "Widest band, as a share of the mels.", low=0, high=1)
    time_share: float = setting(0.25, "Widest span, as a share of the frames.", low=0, high=1)
    masks: int = setting(1, "Bands, and spans, of a sample.", low=0)

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        size = (shape[0], self.masks)
        freq, time = rng.uniform(0, self.freq_share, size), rng.uniform(0, self.time_share, size)
        bands = draw_spans(rng, freq * shape[2], shape[2])
        spans = draw_spans(rng, time * shape[3], shape[3])
        own = (1 - freq).prod(axis=1) * (1 - time).prod(axis=1)
        return bands, spans, (1 - own).astype(np.float32)

    def _mix(self, x: Tensor, other: Tensor, *drawn: Array) -> Tensor:
        freq, time = along(x, *drawn[:2])
        return other.where(freq | time, x)

    def _mix_targets(self, targets: Tensor, other: Tensor, *drawn: Array) -> Tensor:
        share = per_sample(drawn[2], targets)
        return (1 - share) * targets + share * other


@dataclass(frozen=True, kw_only=True)
class OneOf(Partnered):
    """Change each sample by one of several augmentations, taken by their weights.

    All of them mix or none does. What a choice says of ``p`` still counts; its ``partner``
    does not, because the partners are those of the whole.
    """

    of: Mapping[str, Any] = setting({}, "The choices.", tables="augmentation")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len({child.mixes for child in self.children}) > 1:
            raise InvalidInput("one_of: either all choices mix two clips or none does")
        if self.children and not sum(child.weight for child in self.children) > 0:
            raise InvalidInput("one_of: one of the weights must be above 0")

    @cached_property
    def children(self) -> tuple[Any, ...]:
        """The choices as objects."""
        return tuple(_create(self.of))

    @property
    def mixes(self) -> bool:  # type: ignore[override]
        """True where the choices mix."""
        return any(child.mixes for child in self.children)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """Draw which samples are changed, and for each choice what it does to its own."""
        chosen, weights = rng.random(shape[0]) < self.p, [child.weight for child in self.children]
        if not weights:
            return (np.zeros(shape[0], bool),)
        choice = rng.choice(len(weights), shape[0], p=np.divide(weights, sum(weights)))
        drawn = [
            _restrict(child.draw(rng, shape), chosen & (choice == k))
            for k, child in enumerate(self.children)
        ]
        return (np.any([own[0] for own in drawn], axis=0), *drawn)

    def apply(self, x: Tensor, *drawn: Any) -> Tensor:
        """Change ``x``; where the choices mix, the other samples come before the parameters."""
        *other, params = drawn
        for child, own in zip(self.children, params[1:], strict=True):
            x = child.apply(x, *other, own)
        return x

    def apply_targets(self, targets: Tensor, other_targets: Tensor, params: Params) -> Tensor:
        """Mix the targets, where the choices mix."""
        for child, own in zip(self.children, params[1:], strict=True):
            targets = child.apply_targets(targets, other_targets, own)
        return targets


class Compose:
    """Change single spectrograms by several steps, in order."""

    def __init__(self, steps: Iterable[Single | OneOf]) -> None:
        self.steps = list(steps)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """Draw the parameters of each step."""
        return tuple(step.draw(rng, shape) for step in self.steps)

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """Change ``x`` by each step."""
        for step, own in zip(self.steps, params, strict=True):
            x = step.apply(x, own)
        return x


def create_augmentations(
    tables: Mapping[str, Mapping[str, Any]],
) -> tuple[Compose, list[Mixer | OneOf]]:
    """Make what changes single spectrograms, and the mixers, which come after it.

    Args:
        tables: Settings of each augmentation; ``kind`` is its registered name, or else its key.
    """
    created = list(_create(tables))
    single = Compose(step for step in created if not step.mixes)
    return single, [step for step in created if step.mixes]


def _create(tables: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
    for name, table in tables.items():
        values = dict(table)
        yield registry.resolve("augmentation", values.pop("kind", name))(**values)


def _restrict(params: Params, mask: Bools) -> Params:
    # What is nested are the parameters of further choices, which must not act elsewhere either.
    chosen, *drawn = params
    nested = (_restrict(part, mask) if isinstance(part, tuple) else part for part in drawn)
    return (chosen & mask, *nested)
