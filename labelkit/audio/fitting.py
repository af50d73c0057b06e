"""Settings of a spectrogram that follow from the recordings: their rates and lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from labelkit.audio import banks
from labelkit.config import AUTO, COARSE, FeatureSpec, InputSpec
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
# A network hears every frame in every epoch; coarse frames are so many times further apart, and a
# window lasts at least so many of their hops, so that nothing falls between two.
COARSE_STRIDE, COARSE_OVERLAP = 2, 2
# Its own window holds this share of the recordings whole, within these bounds, in frames. Fewer
# would not outlive the pooling of most networks.
HELD_WHOLE = 0.8
WINDOW_FRAMES = (32, 128)
# Kinds of spectrograms whose bands are spread evenly over mels, as many as are wanted.
_OF_MELS = ("log_mel", "perceptual_mel")


@dataclass(frozen=True, kw_only=True)
class FittedFeatures:
    """What of :class:`~labelkit.config.FeatureSpec` and ``InputSpec`` follows from recordings.

    Attributes:
        sample_rate: In Hz.
        n_fft: Samples of a window at this rate.
        hop_length: Samples from one window to the next.
        coarse_n_fft: The same for a network, whose time goes with the number of frames.
        coarse_hop_length: Likewise.
        min_s: To which recordings are padded, in seconds.
        frames: Coarse frames that a network hears at once.
        recordings: How many it was chosen from.
        length_s: Their median length, in seconds; infinite where none is known.
    """

    sample_rate: int
    n_fft: int
    hop_length: int
    coarse_n_fft: int
    coarse_hop_length: int
    min_s: float
    frames: int
    recordings: int = 0
    length_s: float = math.inf

    def describe(self) -> str:
        """Say in a line what was chosen, and from what."""
        rate = self.sample_rate
        length = f" of {self.length_s:.2g} s" if math.isfinite(self.length_s) else ""
        source = f", from {self.recordings} recordings{length}" if self.recordings else ""
        return (
            f"features: {rate} Hz, window {1000 * self.n_fft / rate:.3g} ms, "
            f"hop {1000 * self.hop_length / rate:.3g} ms{source}"
        )

    def settle(self, spec: FeatureSpec) -> FeatureSpec:
        """Put numbers in the place of words; what is a number stays.

        Windows and hops keep their length in seconds where the rate is given. Where the window
        is chosen and a band would hold no frequency of it, there are fewer bands.
        """
        rate = self.sample_rate if spec.sample_rate == AUTO else spec.sample_rate
        scale = rate / self.sample_rate
        n_fft = {AUTO: self.n_fft, COARSE: self.coarse_n_fft}.get(spec.n_fft)
        hop = {AUTO: self.hop_length, COARSE: self.coarse_hop_length}.get(spec.hop_length)
        settled = replace(
            spec,
            sample_rate=rate,
            min_s=self.min_s if spec.min_s == AUTO else spec.min_s,
            n_fft=_scaled(n_fft, scale) if n_fft else spec.n_fft,
            hop_length=max(1, round(hop * scale)) if hop else spec.hop_length,
        )
        if n_fft and spec.kind in _OF_MELS:
            return _drop_empty_bands(settled)
        return settled

    def settle_input(self, spec: InputSpec, features: FeatureSpec) -> InputSpec:
        """Choose the window of a network, in frames of settled features, where a word stands."""
        if spec.frames != AUTO:
            return spec
        least, most = WINDOW_FRAMES
        hop_s = features.hop_length / features.sample_rate
        frames = round(self.frames * self.coarse_hop_length / self.sample_rate / hop_s)
        return replace(spec, frames=min(max(frames, least), most))


def fit_features(
    rates_hz: Sequence[float] | Floats, durations_s: Sequence[float] | Floats
) -> FittedFeatures:
    """Choose the settings of a spectrogram that fit recordings of such rates and lengths.

    - The rate is the highest that four fifths of the recordings reach, at most 48 kHz: their own
      where they agree, otherwise a lower one that most share, so that no band is empty for most.
    - The window lasts 46 ms where recordings last a second or more (the median), less for shorter
      ones, down to 10 ms for a tenth of a second, and never fewer than 64 samples.
    - Frames are a quarter of a window apart, closer where the median recording would have fewer
      than 100 of them, further apart where it would have more than 250, but at most 1/64 s.
    - Coarse frames, for a network, are twice as far apart, and their window lasts two hops or more.
    - Recordings shorter than a window are padded to its length, and to no more.
    - A network hears as much at once as four fifths of the recordings last, 32 to 128 coarse
      frames.

    Args:
        rates_hz: Rate of each recording; what is no positive number is not known.
        durations_s: Length of each, likewise. Nothing known counts as long.

    Returns:
        The settings.

    Example:
        >>> found = fit_features([16000] * 9 + [44100], [1.0] * 10)
        >>> found.sample_rate, found.n_fft, found.hop_length
        (16000, 750, 160)
    """
    rate = _choose_rate(_known(rates_hz))
    lengths = _known(durations_s)
    usual_s, most_s = (
        np.quantile(lengths, [0.5, HELD_WHOLE]).tolist() if len(lengths) else [math.inf] * 2
    )
    hop_s = _hop_s(usual_s)
    coarse_s = COARSE_STRIDE * hop_s
    window_s = _window_s(usual_s)
    n_fft = _fast_even(window_s * rate)
    coarse_hop = max(1, round(coarse_s * rate))
    least, most = WINDOW_FRAMES
    frames = most if math.isinf(most_s) else 1 + math.ceil(most_s * rate / coarse_hop - 1e-9)
    return FittedFeatures(
        sample_rate=rate,
        n_fft=n_fft,
        hop_length=max(1, round(hop_s * rate)),
        coarse_n_fft=_fast_even(max(window_s, COARSE_OVERLAP * coarse_s) * rate),
        coarse_hop_length=coarse_hop,
        min_s=round(n_fft / rate, 3),
        frames=min(max(frames, least), most),
        recordings=max(len(rates_hz), len(durations_s)),
        length_s=round(usual_s, 3),
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


def _scaled(n_fft: int, scale: float) -> int:
    """The same window at another rate."""
    return n_fft if scale == 1 else _fast_even(n_fft * scale)


def _fast_even(n_samples: float) -> int:
    """The next even number of samples that is transformed fast."""
    from scipy.fft import next_fast_len

    half = max(LEAST_SAMPLES // 2, math.ceil(n_samples / 2 - 0.5))
    return 2 * int(next_fast_len(half, real=True))


def _drop_empty_bands(spec: FeatureSpec) -> FeatureSpec:
    """As many bands as are wanted, or fewer, so that each holds a frequency of the transform."""
    if not spec.fmin_hz < banks.top_hz(spec) <= spec.sample_rate / 2:
        return spec
    for n_mels in range(spec.n_mels, 0, -1):
        fewer = replace(spec, n_mels=n_mels)
        if banks.mel_bank(fewer).any(axis=1).all():
            return fewer
    return spec
