"""Filter banks and weightings: what maps a transform's frequencies to bands."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps

import numpy as np

from labelkit.config import FeatureSpec
from labelkit.types import Floats, Ints

_A4 = 440.0


def _kept(make: Callable[[FeatureSpec], Floats]) -> Callable[[FeatureSpec], Floats]:
    """Keep what was made of the last settings: it is asked for with every clip, by readers only."""

    @lru_cache(maxsize=8)
    @wraps(make)
    def kept(spec: FeatureSpec) -> Floats:
        bank = make(spec)
        bank.flags.writeable = False
        return bank

    return kept


def top_hz(spec: FeatureSpec) -> float:
    """Return the upper edge of the highest band, in Hz."""
    return spec.fmax_hz or spec.sample_rate / 2


@_kept
def mel_bank(spec: FeatureSpec) -> Floats:
    """Make Slaney's mel filters of equal area, shape ``(n_mels, n_fft // 2 + 1)``.

    Those of :func:`librosa.filters.mel`, whose import alone takes a worker longer than a hundred
    spectrograms.
    """
    frequencies = np.fft.rfftfreq(spec.n_fft, 1 / spec.sample_rate)
    low, high = _hz_to_mel(np.array([spec.fmin_hz, top_hz(spec)])).tolist()
    corners = _mel_to_hz(np.linspace(low, high, spec.n_mels + 2))
    widths = np.diff(corners)
    ramps = corners[:, None] - frequencies
    rising, falling = -ramps[:-2] / widths[:-1, None], ramps[2:] / widths[1:, None]
    bank: Floats = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    bank *= (2 / (corners[2:] - corners[:-2]))[:, None]
    return bank


# Slaney's mel scale (Auditory Toolbox, 1998): even up to 1 kHz, then logarithmic.
_HZ_PER_MEL, _KNEE_HZ = 200 / 3, 1000.0
_KNEE_MEL, _STEP = _KNEE_HZ / _HZ_PER_MEL, np.log(6.4) / 27


def _hz_to_mel(hz: Floats) -> Floats:
    above = _KNEE_MEL + np.log(np.maximum(hz, _KNEE_HZ) / _KNEE_HZ) / _STEP
    return np.where(hz >= _KNEE_HZ, above, hz / _HZ_PER_MEL)


def _mel_to_hz(mel: Floats) -> Floats:
    above = _KNEE_HZ * np.exp(_STEP * (np.maximum(mel, _KNEE_MEL) - _KNEE_MEL))
    return np.where(mel >= _KNEE_MEL, above, mel * _HZ_PER_MEL)


@_kept
def a_weighting(spec: FeatureSpec) -> Floats:
    """Return A-weights (IEC 61672-1) of the transform's frequencies in dB, no less than -80."""
    squares = np.fft.rfftfreq(spec.n_fft, 1 / spec.sample_rate) ** 2
    poles = np.array([12194.217, 20.598997, 107.65265, 737.86223]) ** 2
    with np.errstate(divide="ignore"):  # 0 Hz, which is then raised to -80 dB.
        weights = 2.0 + 20 * (
            np.log10(poles[0])
            + 2 * np.log10(squares)
            - np.log10(squares + poles[0])
            - np.log10(squares + poles[1])
            - 0.5 * np.log10(squares + poles[2])
            - 0.5 * np.log10(squares + poles[3])
        )
    found: Floats = np.maximum(weights, -80.0)
    return found


@_kept
def log_bank(spec: FeatureSpec) -> Floats:
    """Make overlapping triangles of sum 1 between pitches aligned to 440 Hz.

    Each pitch is moved to the nearest frequency of the transform, those that fall together
    count once, and a triangle reaches from one neighbour to the other. madmom leaves out
    half the rate itself.

    Returns:
        Shape ``(n_bands, n_fft // 2 + 1)``.
    """
    bins = log_bins(spec)
    bank = np.zeros((max(0, len(bins) - 2), spec.n_fft // 2 + 1))
    for row, corners in zip(bank, zip(bins, bins[1:], bins[2:], strict=False), strict=True):
        row[:] = np.interp(np.arange(len(row)), corners, (0, 1, 0))
        row /= row.sum()
    return bank


def log_bins(spec: FeatureSpec) -> Ints:
    """Return indices of the transform's frequencies that are corners of :func:`log_bank`."""
    per_octave = spec.bands_per_octave
    low, high = (per_octave * np.log2(hz / _A4) for hz in (spec.fmin_hz, top_hz(spec)))
    pitches = _A4 * 2 ** (np.arange(np.ceil(low), np.ceil(high)) / per_octave)
    bins = np.floor(pitches * spec.n_fft / spec.sample_rate + 0.5).astype(int)
    corners: Ints = np.unique(np.minimum(bins, spec.n_fft // 2 - 1))
    return corners
