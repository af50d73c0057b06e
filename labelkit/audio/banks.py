"""Filter banks and weightings: what maps a transform's frequencies to bands."""

from __future__ import annotations

import warnings
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
    """Make Slaney's mel filters of equal area, shape ``(n_mels, n_fft // 2 + 1)``."""
    import librosa

    with warnings.catch_warnings():
        # check_spec tells it as an error.
        warnings.filterwarnings("ignore", message="Empty filters detected")
        return librosa.filters.mel(
            sr=spec.sample_rate,
            n_fft=spec.n_fft,
            n_mels=spec.n_mels,
            fmin=spec.fmin_hz,
            fmax=top_hz(spec),
        )


@_kept
def a_weighting(spec: FeatureSpec) -> Floats:
    """Return A-weights of the transform's frequencies in dB, no less than -80."""
    import librosa

    with np.errstate(divide="ignore"):  # 0 Hz, which is then raised to -80 dB.
        frequencies = librosa.fft_frequencies(sr=spec.sample_rate, n_fft=spec.n_fft)
        weights: Floats = librosa.A_weighting(frequencies)
    return weights


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
