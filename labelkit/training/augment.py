"""Augmentation that changes one spectrogram at a time; ``mixing`` holds what mixes two.

Each class draws its parameters first, from an explicit numpy generator, and applies them
second, to whole batches on their device; applying is deterministic. Torch is imported only
to apply them, because recipes are also read by commands that never train. A batch has the
shape ``(batch, channels, n_mels, n_frames)``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from labelkit.config.settings import setting
from labelkit.errors import InvalidInput
from labelkit.types import Array, Bools, Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor

Params = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What every augmentation can be told.

    ``ordered`` names settings of which the first must not exceed the second.
    """

    mixes: ClassVar[bool] = False
    ordered: ClassVar[tuple[tuple[str, str], ...]] = ()

    p: float = setting(1.0, "Share of the samples it changes.", low=0, high=1)
    weight: float = setting(1.0, "one_of: how often it is taken.", low=0)

    def __post_init__(self) -> None:
        for low, high in self.ordered:
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and least > most:
                raise InvalidInput(f"{low} must not exceed {high}, got {least} and {most}")


@dataclass(frozen=True, kw_only=True)
class Drawn(Augmentation, ABC):
    """Change some samples of a batch; a subclass draws for all of them in ``_draw``."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """Draw which samples of a batch of ``shape`` change, boolean, ``(batch,)``, and how."""
        return (rng.random(shape[0]) < self.p, *self._draw(rng, shape))

    @abstractmethod
    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """Draw for every sample."""


@dataclass(frozen=True, kw_only=True)
class Single(Drawn):
    """Change single spectrograms; a subclass changes all of a batch in ``_change``."""

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """Change the drawn samples of ``x``; the others stay as they are, bit for bit."""
        chosen, *drawn = params
        return take(chosen, self._change(x, *drawn), x) if chosen.any() else x

    @abstractmethod
    def _change(self, x: Tensor, *drawn: Array) -> Tensor:
        """Change all of ``x``."""


@dataclass(frozen=True, kw_only=True)
class SpecAugment(Single):
    """Mask bands of mels and spans of frames (Park et al. 2019).

    Argus-freesound (2019) masks once or twice with the minimum, the ninth of the same year
    exactly twice with 0. The minimum and the mean are those of the sample before masking.
    """

    ordered = (("least", "masks"),)
    masks: int = setting(1, "Bands, and spans, of a sample at most.", low=0)
    least: int | None = setting(None, "And at least; always as many as masks if unset.", low=0)
    freq_share: float = setting(0.15, "Widest band, as a share of the mels.", low=0, high=1)
    time_share: float = setting(0.2, "Widest span, as a share of the frames.", low=0, high=1)
    fill: str = setting("zero", "What masked cells become.", choices=("zero", "min", "mean"))

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        least = self.masks if self.least is None else self.least
        counts = rng.integers(least, self.masks, (shape[0], 1), endpoint=True)
        used = np.arange(self.masks) < counts
        freq, time = (rng.uniform(0, s, used.shape) for s in (self.freq_share, self.time_share))
        bands = draw_spans(rng, freq * shape[2] * used, shape[2])
        return bands, draw_spans(rng, time * shape[3] * used, shape[3])

    def _change(self, x: Tensor, *drawn: Array) -> Tensor:
        freq, time = along(x, *drawn)
        return _fill(x, self.fill).where(freq | time, x)


@dataclass(frozen=True, kw_only=True)
class _Enlargement(Single):
    # Boxes are (batch, 4): first mel, first frame, mels, frames. Nothing outside is seen, as
    # if each were cut out first; a box that is everything must not be touched by rounding.
    def _change(self, x: Tensor, *drawn: Array) -> Tensor:
        from torch import broadcast_tensors, cat
        from torch.nn.functional import grid_sample

        (boxes,), full, axes = drawn, np.array(x.shape[2:]), []
        for axis, size in enumerate(full):
            first, length = boxes[:, [axis]], boxes[:, [axis + 2]]
            cells = (np.arange(size) + 0.5) * length / size - 0.5
            cells = first + np.clip(cells, 0, np.maximum(length - 1, 0))
            axes.append(((2 * cells + 1) / size - 1).astype(np.float32))
        rows, columns = per_sample(axes[0][:, :, None], x), per_sample(axes[1][:, None, :], x)
        # torch leaves it untyped.
        spread: Callable[..., list[Tensor]] = broadcast_tensors
        grid = cat(spread(columns, rows), dim=-1)
        moved = grid_sample(x.float(), grid, padding_mode="border", align_corners=False)
        return take((boxes == [0, 0, *full]).all(axis=1), x, moved)


@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop(_Enlargement):
    """Enlarge a random box to the full size, as argus-freesound (2019) did.

    Where none of the drawn boxes fits, the largest of an allowed aspect is taken from the
    centre, so a spectrogram far from these aspects always loses the same edges.
    """

    ordered = (("scale_low", "scale_high"), ("aspect_low", "aspect_high"))
    scale_low: float = setting(0.8, "Smallest share of the area.", low=0, high=1)
    scale_high: float = setting(1.0, "Largest share of the area.", low=0, high=1)
    aspect_low: float = setting(1.7, "Lowest frames over mels of the box.", low=1e-3)
    aspect_high: float = setting(2.3, "Highest frames over mels of the box.", low=1e-3)

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        full, tries = np.array(shape[2:]), (shape[0], 10)
        areas = rng.uniform(self.scale_low, self.scale_high, tries) * full.prod()
        logs = rng.uniform(math.log(self.aspect_low), math.log(self.aspect_high), tries)
        sizes, fits = _first_fit(areas, np.exp(logs), full)
        aspect = np.clip(full[1] / full[0], self.aspect_low, self.aspect_high)
        largest = np.rint(np.minimum(full, (full[1] / aspect, full[0] * aspect)))
        sizes = np.maximum(np.where(fits, sizes, largest), 1)
        room = full - sizes
        places = np.where(fits, np.floor(rng.random((shape[0], 2)) * (room + 1)), room // 2)
        return (np.concatenate([places, sizes], axis=1),)


@dataclass(frozen=True, kw_only=True)
class Zoom(_Enlargement):
    """Enlarge both axes alike, as fastai's transforms did for Bouteillon (2019)."""

    ordered = (("least", "most"),)
    least: float = setting(1.0, "Smallest magnification.", low=1)
    most: float = setting(1.05, "Largest magnification.", low=1)
    about: str = setting("random", "Point that stays in place.", choices=("centre", "random"))

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        full = np.array(shape[2:], float)
        sizes = full / rng.uniform(self.least, self.most, (shape[0], 1))
        points = rng.random((shape[0], 2)) if self.about == "random" else 0.5
        return (np.concatenate([points * (full - sizes), sizes], axis=1),)


@dataclass(frozen=True, kw_only=True)
class BrightnessContrast(Single):
    """Shift a sample by a share of its deviation and stretch it about its mean.

    After fastai's lighting, which Bouteillon (2019) used; its magnitudes there are unknown.
    """

    brightness: float = setting(0.1, "Largest shift either way, in deviations.", low=0)
    contrast: float = setting(0.1, "Stretch by 1 - this up to its inverse.", low=0, high=0.99)

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        shift = rng.uniform(-self.brightness, self.brightness, shape[0])
        limit = -math.log1p(-self.contrast)
        stretch = np.exp(rng.uniform(-limit, limit, shape[0]))
        return shift.astype(np.float32), stretch.astype(np.float32)

    def _change(self, x: Tensor, *drawn: Array) -> Tensor:
        shift, stretch = (per_sample(values, x) for values in drawn)
        exact = x.float()
        mean = exact.mean((1, 2, 3), keepdim=True)
        std = exact.std((1, 2, 3), correction=0, keepdim=True)
        return exact + (stretch - 1) * (exact - mean) + shift * std


@dataclass(frozen=True, kw_only=True)
class RandomErasing(Single):
    """Erase one box of a sample (Zhong et al. 2017).

    Random cells are uniform between the sample's extremes. If none of ten drawn boxes fits,
    the first of them is cut to the spectrogram.
    """

    ordered = (("area_low", "area_high"), ("aspect_low", "aspect_high"))
    area_low: float = setting(0.02, "Smallest share of the area.", low=0, high=1)
    area_high: float = setting(0.4, "Largest share of the area.", low=0, high=1)
    aspect_low: float = setting(0.3, "Lowest mels over frames of the box.", low=1e-3)
    aspect_high: float = setting(3.33, "Highest mels over frames of the box.", low=1e-3)
    fill: str = setting("random", "What erased cells become.", choices=("random", "zero", "min"))

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        full, tries = np.array(shape[2:]), (shape[0], 10)
        areas = rng.uniform(self.area_low, self.area_high, tries) * full.prod()
        aspects = rng.uniform(self.aspect_low, self.aspect_high, tries)
        sizes = np.minimum(_first_fit(areas, 1 / aspects, full)[0], full)
        freq, time = (draw_spans(rng, sizes[:, [axis]], full[axis]) for axis in (0, 1))
        return freq, time, rng.integers(1 << 62, size=1)

    def _change(self, x: Tensor, *drawn: Array) -> Tensor:
        freq, time = along(x, *drawn[:2])
        return _fill(x, self.fill, int(drawn[2][0])).where(freq & time, x)


def per_sample(values: Array, x: Tensor) -> Tensor:
    """Bring values of each sample to the device of ``x``, with as many axes as it has."""
    import torch

    on_device = torch.from_numpy(values).to(x.device, non_blocking=True)
    return on_device.view(*values.shape, *[1] * (x.dim() - values.ndim))


def take(chosen: Bools, changed: Tensor, x: Tensor) -> Tensor:
    """Take the chosen samples from ``changed`` and the others from ``x``, in its type."""
    return changed.to(x.dtype).where(per_sample(chosen, x), x)


def along(x: Tensor, freq: Bools, time: Bools) -> tuple[Tensor, ...]:
    """Lay ``(batch, n_mels)`` and ``(batch, n_frames)`` along their axes of ``x``."""
    return per_sample(freq[:, None, :, None], x), per_sample(time[:, None, None, :], x)


def draw_spans(rng: np.random.Generator, widths: Floats, size: int) -> Bools:
    """Place spans of ``widths`` ``(batch, n)``, rounded down; ``(batch, size)`` is True there."""
    widths = np.floor(widths)[:, :, None]
    starts = np.floor(rng.random(widths.shape) * (size - widths + 1))
    cells = np.arange(size)
    return np.asarray(((cells >= starts) & (cells < starts + widths)).any(axis=1))


def _first_fit(areas: Floats, aspects: Floats, full: Ints) -> tuple[Floats, Bools]:
    # Sizes (batch, 2) of the first box that fits, or else the first of all, and whether one did.
    sizes = np.rint(np.sqrt(np.stack([areas / aspects, areas * aspects], axis=-1)))
    fits = (sizes <= full).all(axis=-1)
    return sizes[np.arange(len(fits)), fits.argmax(axis=1)], fits.any(axis=1, keepdims=True)


def _fill(x: Tensor, kind: str, seed: int = 0) -> Tensor:
    import torch

    if kind in ("zero", "mean"):
        return x.new_zeros(1) if kind == "zero" else x.mean((1, 2, 3), keepdim=True)
    low = x.amin((1, 2, 3), keepdim=True)
    if kind == "min":
        return low
    generator = torch.Generator(x.device).manual_seed(seed)
    noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return torch.lerp(low, x.amax((1, 2, 3), keepdim=True), noise)
