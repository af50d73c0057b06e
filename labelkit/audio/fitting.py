"""Settings of a spectrogram that follow from the recordings: their rates and lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelkit.audio import banks
from labelkit.config import FeatureSpec
from labelkit.types import Floats

# The rate is the highest that at least this share of the recordings reach: of the others the upper
# bands are empty. Below and above these rates, in Hz, none is chosen.
REACHED = 0.8
RATES_HZ = (1_000, 48_000)
# A window grows with the median length of the recordings, as a power of it, from the first length
# and window to the second, in seconds; shorter and longer recordings change nothing more.
SHORT_S, SHORT_WINDOW_S = 0.1, 0.010
LONG_S, LONG_WINDOW_S = 1.0, 0.046
# Fewer samples tell hardly any frequencies apart, however low the rate.
LEAST_SAMPLES = 64
# From one window to the next: a share of a window, and as many as these in the median recording,
# but never further than so many seconds.
HOPS_IN_WINDOW = 4
FRAMES = (100, 250)
LONGEST_HOP_S = 1 / 64
BANDS = 64
# A network hears every frame in every epoch: it gets fewer of them, and fewer bands.
NETWORK_STRIDE, NETWORK_BANDS = 2, 32
# Its window holds this share of the recordings whole, within these bounds, in frames. Fewer would
# not outlive the pooling of most networks.
HELD_WHOLE = 0.8
WINDOW_FRAMES = (32, 128)


@dataclass(frozen=True)
class FittedFeatures:
    """What of :class:`~labelkit.config.FeatureSpec` and ``InputSpec`` follows from recordings.

    The names are those of the settings. ``frames`` is the window of a network.
    """

    sample_rate: int
    n_fft: int
    hop_length: int
    n_mels: int
    min_s: float
    frames: int


def fit_features(
    rates_hz: Sequence[float] | Floats,
    durations_s: Sequence[float] | Floats,
    *,
    for_network: bool = False,
) -> FittedFeatures:
    """Choose the settings of a spectrogram that fit recordings of such rates and lengths.

    - The rate is the highest that four fifths of the recordings reach, at most 48 kHz: their own
      where they agree, otherwise a lower one that most share, so that no band is empty for most.
    - The window lasts 46 ms where recordings last a second or more (the median), less for shorter
      ones, down to 10 ms for a tenth of a second, and never fewer than 64 samples.
    - Frames are a quarter of a window apart, closer where the median recording would have fewer
      than 100 of them, further apart where it would have more than 250, but at most 1/64 s.
    - There are 64 bands, fewer where one would hold no frequency of such a window.
    - Recordings shorter than a window are padded to its length, and to no more.
    - For a network the frames are twice as far apart, there are 32 bands at most, and its window
      is as long as four fifths of the recordings, from 32 to 128 frames.

    Args:
        rates_hz: Rate of each recording; what is no positive number is not known.
        durations_s: Length of each, likewise. Nothing known counts as long.
        for_network: Whether a network hears the frames, rather than a classifier what was pooled
            of them.

    Returns:
        The settings, which hold together: every band of this rate and window has a frequency.

    Example:
        >>> fit_features([16000] * 9 + [44100], [1.0] * 10)
        FittedFeatures(sample_rate=16000, n_fft=750, hop_length=160, n_mels=64, min_s=0.047, \
frames=101)
    """
    rate = _choose_rate(_known(rates_hz))
    lengths = _known(durations_s)
    usual_s, most_s = (
        np.quantile(lengths, [0.5, HELD_WHOLE]).tolist() if len(lengths) else [math.inf] * 2
    )
    n_fft = _fast_even(_window_s(usual_s) * rate)
    hop_s = _hop_s(usual_s) * (NETWORK_STRIDE if for_network else 1)
    hop_length = max(1, round(hop_s * rate))
    n_mels = _filled_bands(rate, n_fft, NETWORK_BANDS if for_network else BANDS)
    least, most = WINDOW_FRAMES
    frames = most if math.isinf(most_s) else 1 + math.ceil(most_s * rate / hop_length - 1e-9)
    return FittedFeatures(
        sample_rate=rate,
        n_fft=n_fft,
        hop_length=hop_length,
        n_mels=n_mels,
        min_s=round(n_fft / rate, 3),
        frames=min(max(frames, least), most),
    )


def _known(numbers: Sequence[float] | Floats) -> Floats:
    found = np.asarray(numbers, float)
    known: Floats = found[np.isfinite(found) & (found > 0)]
    return known


def _choose_rate(rates: Floats) -> int:
    """The highest rate that enough recordings reach; where none is known, what settings have."""
    if not len(rates):
        return FeatureSpec().sample_rate
    falling = np.sort(rates)[::-1]
    reached = falling[math.ceil(REACHED * len(falling) - 1e-9) - 1]
    low, high = RATES_HZ
    return int(min(max(round(float(reached)), low), high))


def _window_s(length_s: float) -> float:
    """How long a window is for recordings of such a length."""
    power = math.log(LONG_WINDOW_S / SHORT_WINDOW_S) / math.log(LONG_S / SHORT_S)
    within = min(max(length_s, SHORT_S), LONG_S)
    return float(SHORT_WINDOW_S * (within / SHORT_S) ** power)


def _hop_s(length_s: float) -> float:
    """How far apart frames are for recordings of such a length, in seconds."""
    if math.isinf(length_s):
        return LONGEST_HOP_S
    fewest, most = FRAMES
    hop_s = _window_s(length_s) / HOPS_IN_WINDOW
    return min(max(hop_s, length_s / most), length_s / fewest, LONGEST_HOP_S)


def _fast_even(n_samples: float) -> int:
    """The next even number of samples that is transformed fast."""
    from scipy.fft import next_fast_len

    half = max(LEAST_SAMPLES // 2, math.ceil(n_samples / 2 - 0.5))
    return 2 * int(next_fast_len(half, real=True))


def _filled_bands(rate: int, n_fft: int, wanted: int) -> int:
    """As many bands as are wanted, or fewer, so that each holds a frequency of the transform."""
    for n_mels in range(wanted, 1, -1):
        spec = FeatureSpec(sample_rate=rate, n_fft=n_fft, n_mels=n_mels)
        if banks.mel_bank(spec).any(axis=1).all():
            return n_mels
    return 1
