"""How high the content of a recording reaches, which may be lower than its sample rate could hold.

What was sampled up, went through a coder of few bits or over a telephone ends at an edge: just
below it all is filled, and above it nothing is but the steps of the samples. A sound without highs
fades out instead, and a tone has nothing below it, either. So an edge is what falls far within a
few per cent of its frequency, from a band that is filled, and stays low.
"""

from __future__ import annotations

import numpy as np

from labelkit.types import Floats

# Samples of a frame, at least so many frames where it can be, and how many of the loudest are
# averaged, of a quarter of all at most.
_FRAME, _SHORTEST, _FEW, _LOUDEST = 2048, 256, 4, 100
# Steps of 16 bits are the least that is heard of any file.
_HALF_STEP = 2.0**-16
# Edges are looked for within this part of half the rate.
_RANGE = (0.05, 0.96)
# A cell of the spectrum as a part of its frequency; how many below an edge have to be filled and
# how many come before those; how far behind it, as a part of its frequency, all has ended.
_CELL, _BELOW, _BEFORE, _SLOPE = 0.01, 16, 16, 0.07
# The least fall at an edge in dB where what lies above is hardly more than the steps of 16 bits,
# and where it is more; and how many times as far as over the cells before the edge.
_FALL_DB, _NEAR_FLOOR_DB, _SHEER_DB, _STEEPER = 14.0, 10.0, 40.0, 2.0
# So far above what lies behind the edge half of the frames have to be.
_FILLED_DB = 4.0


def find_bandwidth(samples: Floats, rate: int) -> float:
    """Find how high the content of a recording reaches.

    Args:
        samples: Full scale is 1; shape ``(n_samples,)`` or ``(n_samples, n_channels)``.
        rate: In Hz.

    Returns:
        The frequency in Hz at which the content ends as if cut off; half the rate where no edge
        shows, as of silence, tones, sounds that fade out towards the highs, and less than 256
        samples.

    Example:
        >>> spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(32000))
        >>> spectrum[4000:] = 0
        >>> 3900 < find_bandwidth(0.1 * np.fft.irfft(spectrum), 32000) < 4200
        True
    """
    frames = LoudFrames()
    frames.add(samples if samples.ndim == 1 else samples.mean(axis=1))
    edge = frames.find_edge()
    return rate / 2 if edge is None else edge[0] * rate


class LoudFrames:
    """Keeps the loudest frames of a recording as it is decoded, and finds where they end.

    Between loud moments there may be digital silence, which says nothing of the highs.
    """

    def __init__(self) -> None:
        self._n, self._n_frames = 0, 0
        self._head: Floats = np.zeros(0, np.float32)
        self._tail: Floats = np.zeros(0, np.float32)
        self._energies: Floats = np.zeros(0)
        self._frames: Floats = np.zeros((0, _FRAME), np.float32)

    def add(self, mono: Floats) -> None:
        """Look at the next samples, shape ``(n,)``."""
        mono = np.asarray(mono, np.float32)
        self._n += len(mono)
        if len(self._head) < _FEW * _FRAME:
            self._head = np.concatenate([self._head, mono[: _FEW * _FRAME]])
        mono = np.concatenate([self._tail, mono])
        n = max(0, 1 + (len(mono) - _FRAME) // (_FRAME // 2))
        self._tail = mono[n * _FRAME // 2 :]
        if not n:
            return
        self._n_frames += n
        frames = _cut(mono, _FRAME)
        energies = np.concatenate([self._energies, _energies(frames)])
        kept = np.sort(np.argsort(-energies, kind="stable")[:_LOUDEST])
        old = kept[kept < len(self._energies)]
        self._frames = np.concatenate(
            [self._frames[old], frames[kept[len(old) :] - len(self._energies)]]
        )
        self._energies = energies[kept]

    def find_edge(self) -> tuple[float, float] | None:
        """Find where the content ends as if cut off.

        Returns:
            The frequency as a part of the rate, and the fall in dB; None if there is no edge.
        """
        if self._n < _SHORTEST:
            return None
        if self._n >= _FEW * _FRAME:
            return _find_edge(*_average(self._frames, self._energies, self._n_frames))
        size = _FRAME
        while size > _SHORTEST and self._n < _FEW * size:
            size //= 2
        frames = _cut(self._head, size)
        return _find_edge(*_average(frames, _energies(frames), len(frames)))


def _cut(mono: Floats, size: int) -> Floats:
    """Cut samples into frames that overlap by half."""
    found: Floats = np.lib.stride_tricks.sliding_window_view(mono, size)[:: size // 2]
    return found


def _energies(frames: Floats) -> Floats:
    with np.errstate(over="ignore"):
        found: Floats = np.einsum("ij,ij->i", frames, frames)
    return found


def _average(frames: Floats, energies: Floats, n_frames: int) -> tuple[Floats, Floats]:
    """Return the spectrum of the loudest of so many frames in dB: of the mean and of the median."""
    some = np.argsort(-energies, kind="stable")[: min(_LOUDEST, -(-n_frames // 4))]
    size = frames.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        spectra = np.fft.rfft(frames[some] * np.hanning(size).astype(np.float32))
        power = spectra.real**2 + spectra.imag**2
        middle = np.partition(power, len(some) // 2, axis=0)[len(some) // 2]
        mean, median = (10 * np.log10(p + _floor(size)) for p in (power.mean(axis=0), middle))
    return mean, median


def _floor(size: int) -> float:
    """Return the power in a bin of frames of that size that the steps of 16 bits have."""
    return size * _HALF_STEP**2 / 12


def _find_edge(mean: Floats, median: Floats) -> tuple[float, float] | None:
    """Find where a spectrum ends as if cut off.

    Args:
        mean: Level of each bin in dB, which any frame may have raised.
        median: What half of the frames have, which of a sweep is next to nothing.
    """
    if not np.isfinite(mean).all():
        return None
    half = len(mean) - 1
    # Cells as wide as a part of their frequency: all widths below are numbers of cells.
    low = max(8, int(_RANGE[0] * half)) * np.exp(-_CELL * (_BEFORE + _BELOW))
    n_cells = int(np.log(half / low) / _CELL)
    grid = low * np.exp(_CELL * np.arange(n_cells + 1))
    # An edge lies behind cell ``edges - 1``.
    edges = np.arange(_BEFORE + _BELOW, n_cells + 1)
    bins = grid[edges]
    smooth = _smooth(mean)
    highest = np.maximum.accumulate(smooth[::-1])[::-1]
    above = highest[np.minimum(half, np.ceil(bins * (1 + _SLOPE)).astype(int))]
    below = _quartiles(_means(mean, grid), _BELOW)[edges - _BELOW]
    before = _quartiles(_means(mean, grid), _BEFORE)[edges - _BELOW - _BEFORE]
    filled = _quartiles(_means(median, grid), _BELOW)[edges - _BELOW]
    is_empty = above < 10 * np.log10(_floor(2 * half)) + _NEAR_FLOOR_DB
    fall = below - above
    least = np.where(is_empty, _FALL_DB, _SHEER_DB)
    fall[fall < np.maximum(least, _STEEPER * (before - below))] = 0
    fall[(filled < above + _FILLED_DB) | (bins > _RANGE[1] * half)] = 0
    if not fall.any():
        return None
    best = int(fall.argmax())
    # Of the slope, where it is half-way down.
    slope = smooth[int(bins[best]) : int(np.ceil(bins[best] * (1 + _SLOPE))) + 1]
    steps = np.flatnonzero(slope > above[best] + fall[best] / 2)
    end = int(bins[best]) + (steps[-1] + 0.5 if len(steps) else 0)
    return float(end / (2 * half)), float(fall[best])


def _quartiles(cells: Floats, n: int) -> Floats:
    """Return what a quarter of each ``n`` cells in a row lies below."""
    windows = np.lib.stride_tricks.sliding_window_view(cells, n)
    found: Floats = np.partition(windows, n // 4, axis=1)[:, n // 4]
    return found


def _means(level: Floats, edges: Floats) -> Floats:
    """Return the mean of the level between each two edges, in bins."""
    sums = np.concatenate([[0.0], np.cumsum(level)])
    found: Floats = np.diff(np.interp(edges, np.arange(len(sums)) - 0.5, sums)) / np.diff(edges)
    return found


def _smooth(level: Floats) -> Floats:
    """Take the median of each bin and those around it, so that no spur stands for a band."""
    from scipy.ndimage import median_filter

    found: Floats = median_filter(level, 5, mode="nearest")
    return found
