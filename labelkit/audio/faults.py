"""What can be wrong with a recording as such, whatever its label says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from labelkit.audio import io
from labelkit.audio.bandwidth import LoudFrames
from labelkit.audio.pyav import NoDecoder
from labelkit.config import FeatureSpec
from labelkit.errors import InvalidInput
from labelkit.types import Floats

# Kept out of training; the others are used, padded or wrapped where they are short.
UNUSABLE = (
    "missing", "unread", "changed", "unreadable", "empty", "rate", "silent", "wild", "cancelled",
    "spike", "moment", "not_finite", "blank",
)  # fmt: skip
# Of these, what is not of the recording: it may be read the next time.
PASSING = ("missing", "unread")
# What only the features show.
OF_FEATURES = ("moment", "not_finite", "blank")
REASONS = {
    "missing": "no such file under the audio folder",
    "changed": "is not the recording that was imported",
    "unread": "could not be read this time",
    "unreadable": "cannot be decoded",
    "empty": "has no samples",
    "rate": "states a sample rate that no recording has",
    "silent": "never leaves the level of silence, or is constant",
    "wild": "holds numbers far beyond any unit of sound",
    "cancelled": "its channels cancel each other out when they are mixed down",
    "spike": "single samples tower above all others, as damage does",
    "moment": "all but a moment of it is trimmed away, with sound in the rest, as damage makes it",
    "not_finite": "its spectrogram is not finite",
    "blank": "its spectrogram is that of silence, or constant",
    "truncated": "ends before its header says, or is damaged",
    "no_numbers": "holds samples that are no finite numbers; they are taken for 0 or full scale",
    "scale": "is a file of floats in other units than full scale 1",
    "clipped": "runs of samples lie at full scale",
    "very_short": "is shorter than 0.1 s: hardly anything can be named by it",
    "short": "is shorter than a window",
    "sample_rate": "has an odd sample rate",
    "exact_duplicate": "has the same bytes as another clip",
    "near_duplicate": "holds the same sound as another clip",
    "outlier": "resembles no clip of another source",
}

_CLIPPED_SHARE = 1e-3
_CLIPPED_RUN = 4
_VERY_SHORT_S = 0.1
# A file of floats may exceed full scale, by 24 dB at most; beyond it counts in other units.
_HIGHEST = 16.0
# Beyond the integers of 32 bits lies no unit of sound.
_WILD = 2.0**32
# Of samples that stand alone: all that lie within spike_db of the peak, in seconds.
_SPIKE_S = 1e-3
# A cut-off lies below this part of half the rate: rates are mostly doubled or more, while coders
# leave out highs above two thirds of it.
_CUTOFF_SHARE = 0.6
# Below so many Hz for each bit a second and channel no coder cuts off by itself.
_CODER_HZ_PER_BIT = 0.2
# Of dB: what a spectrogram of silence may differ from that of zeros.
_NOTHING_DB = 0.01


@dataclass(frozen=True)
class Inspection:
    """What one recording shows by itself.

    ``rate`` in Hz and ``n_samples`` per channel are 0 where nothing was decoded; ``why`` says more
    of a recording that could not be.
    """

    faults: list[str] = field(default_factory=list)
    rate: int = 0
    n_samples: int = 0
    why: str = ""
    cutoff: tuple[float, float] | None = None

    @property
    def unusable(self) -> str | None:
        """The fault that keeps it out; None if it can be used."""
        return next((fault for fault in self.faults if fault in UNUSABLE), None)


class Examination:
    """Looks at the samples of a recording as they are decoded.

    Args:
        rate: In Hz.
        spec: What counts as silence, cancelling and spikes.
        whole: Look for clipping and cut-offs, too, which only a check tells.
        floats: Whether the file holds numbers that may exceed full scale.
    """

    def __init__(self, rate: int, spec: FeatureSpec, *, whole: bool, floats: bool) -> None:
        self._rate, self._spec, self._whole, self._floats = rate, spec, whole, floats
        self._n = 0
        self._low: Floats | float = np.inf
        self._high: Floats | float = -np.inf
        # Samples by the exponent of their amplitude: those above a level are counted by it.
        self._exponents = np.zeros(256, np.int64)
        # Energies of the mix and of all channels, and the sums of these.
        self._mixed, self._apart = 0.0, 0.0
        self._sums: Floats | float = 0.0
        self._clipping = _Clipping(floats)
        self._loud = LoudFrames()

    def add(self, block: Floats) -> Floats:
        """Look at samples, shape ``(n, n_channels)``, and return them with finite numbers only."""
        exponents = np.bincount((block.view(np.uint32) >> 23 & 0xFF).ravel(), minlength=256)
        self._exponents += exponents
        if exponents[255]:
            block = np.nan_to_num(block, posinf=1.0, neginf=-1.0)
        self._n += len(block)
        self._low = np.minimum(self._low, block.min(axis=0))
        self._high = np.maximum(self._high, block.max(axis=0))
        if block.shape[1] > 1:
            with np.errstate(over="ignore"):
                mix = block.mean(axis=1)
                self._mixed += float(np.einsum("i,i->", mix, mix, dtype=np.float64))
                self._apart += float(np.einsum("ij,ij->", block, block, dtype=np.float64))
                self._sums = self._sums + block.sum(axis=0, dtype=np.float64)
        if self._whole:
            self._clipping.add(block)
            self._loud.add(block.mean(axis=1))
        return block

    def finish(self, n_channels: int) -> Iterator[str]:
        """Yield the faults, those that keep the recording out first."""
        peak = float(max(np.max(np.abs(self._low)), np.max(np.abs(self._high))))
        if np.max(self._high - self._low) < 2 * 10 ** (self._spec.silence_db / 20):
            yield "silent"
            if self._exponents[255]:
                yield "no_numbers"
            return
        if peak > _WILD:
            yield "wild"
        if self._spec.cancelled_db and self._apart:
            # Without the offsets, which do not cancel and are no sound.
            mixed = self._mixed - float(np.mean(self._sums)) ** 2 / self._n
            apart = self._apart - float(np.square(self._sums).sum()) / self._n
            # What channels that have nothing in common would keep.
            expected = apart / n_channels**2
            lost_db = 10 * np.log10(max(expected, 1e-300) / max(mixed, 1e-300))
            if lost_db > self._spec.cancelled_db:
                yield "cancelled"
        if self._spec.spike_db and self._n > _VERY_SHORT_S * self._rate:
            # A doubling is 6.02 dB.
            exponent = int(np.float32(peak).view(np.uint32) >> 23)
            first = max(1, exponent - round(self._spec.spike_db / 6.02))
            if self._exponents[first:255].sum() < _SPIKE_S * self._rate:
                yield "spike"
        if self._exponents[255]:
            yield "no_numbers"
        if _HIGHEST < peak <= _WILD:
            yield "scale"
        if self._whole and self._clipping.found(peak):
            yield "clipped"

    def cutoff(self) -> tuple[float, float] | None:
        """Find where the content ends far below half the rate, see :func:`find_cutoff`."""
        return _far_below(self._loud.find_edge(), self._rate)


def inspect(path: Path, spec: FeatureSpec | None = None, *, window_s: float = 0.0) -> Inspection:
    """Decode a recording and find its faults in one go.

    Args:
        path: The file.
        spec: What counts as silence, cancelling and spikes; the defaults if None.
        window_s: Length below which a recording is ``short``, in seconds.
    """
    found = open_recording(path)
    if isinstance(found, Inspection):
        return found
    examination = Examination(
        found.rate, spec or FeatureSpec(), whole=True, floats=found.holds_floats
    )
    try:
        for block in found.blocks():
            examination.add(block)
    except (OSError, InvalidInput) as error:
        return say_unread(path, error)
    return conclude(found, examination, window_s=window_s)


def open_recording(path: Path) -> io.Recording | Inspection:
    """Open a recording to be decoded, or say why it cannot be."""
    try:
        if not path.is_file():
            return Inspection(["missing"])
        if path.stat().st_size == 0:
            return Inspection(["empty"])
        found = io.Recording(path)
    except (OSError, InvalidInput) as error:
        return say_unread(path, error)
    low, high = io.RATES_HZ
    if not low <= found.rate <= high:
        return Inspection(["rate"], why=f"{found.rate} Hz")
    return found


def say_unread(path: Path, error: Exception) -> Inspection:
    """Tell a recording that cannot be decoded from one that could not be read this time."""
    if isinstance(error, InvalidInput):
        # Installing a decoder changes no file.
        fault = "unread" if isinstance(error, NoDecoder) else "unreadable"
        return Inspection([fault], why=str(error).removeprefix(f"{path}: "))
    return Inspection(["unread"], why=getattr(error, "strerror", None) or str(error))


def conclude(
    recording: io.Recording, examination: Examination, *, window_s: float = 0.0
) -> Inspection:
    """Say what is wrong with a recording that was decoded to its end."""
    n, rate = recording.n_samples, recording.rate
    if not n:
        return Inspection(["unreadable" if recording.lacks else "empty"], rate=rate)
    faults = list(examination.finish(recording.channels))
    if recording.lacks:
        faults.append("truncated")
    if n < _VERY_SHORT_S * rate:
        faults.append("very_short")
    elif n < window_s * rate:
        faults.append("short")
    cutoff = examination.cutoff()
    if cutoff and recording.is_lossy:
        # A lossy coder leaves out highs of itself, the more the fewer bits it has.
        bits = 8 * recording.path.stat().st_size / (n / rate) / recording.channels
        cutoff = cutoff if cutoff[0] < _CODER_HZ_PER_BIT * bits else None
    return Inspection(faults, rate, n, cutoff=cutoff)


class _Clipping:
    """Counts samples in runs at full scale, or where a file of floats goes flat."""

    def __init__(self, floats: bool) -> None:
        self._floats = floats
        self._tail: Floats | None = None
        self._n, self._n_runs, self._level = 0, 0, 0.999

    def add(self, block: Floats) -> None:
        """Look at the next samples, shape ``(n, n_channels)``."""
        self._n += block.size
        joined = block if self._tail is None else np.concatenate([self._tail, block])
        self._tail = joined[-(_CLIPPED_RUN - 1) :].copy()
        n = len(joined) - _CLIPPED_RUN + 1
        if n <= 0:
            return
        amplitudes = np.abs(joined)
        high = amplitudes >= self._level
        if not high.any():
            return
        runs = np.logical_and.reduce([high[k : n + k] for k in range(_CLIPPED_RUN)])
        if self._floats:
            # What exceeds full scale need not be clipped: only where it is flat.
            runs &= (joined[1 : n + 1] == joined[:n]) & (joined[2 : n + 2] == joined[:n])
            runs &= joined[3 : n + 3] == joined[:n]
            if not runs.any():
                return
            highest = float(amplitudes[:n][runs].max())
            if 0.999 * highest > self._level:
                self._level, self._n_runs = 0.999 * highest, 0
                runs &= amplitudes[:n] >= self._level
        self._n_runs += int(runs.sum())

    def found(self, peak: float) -> bool:
        """Tell whether more than 0.1 % of the samples lie in such runs, at the peak."""
        if self._floats and self._level < 0.99 * peak:
            return False
        return self._n_runs * _CLIPPED_RUN > _CLIPPED_SHARE * self._n


def find_cutoff(samples: Floats, rate: int) -> tuple[float, float] | None:
    """Find where the content of a recording ends as if cut off, far below half its rate.

    So it is after upsampling, and after a coder of few bits; see
    :func:`~labelkit.audio.bandwidth.find_bandwidth`, which tells of any edge.

    Args:
        samples: Shape ``(n_samples, n_channels)``, full scale 1.
        rate: Their rate in Hz.

    Returns:
        Frequency in Hz and fall in dB; None if there is no such fall below 0.6 of half the rate.

    Example:
        >>> noise = np.random.default_rng(0).normal(0, 0.1, (16_000, 1))
        >>> find_cutoff(noise, 16_000) is None
        True
        >>> import soxr
        >>> edge_hz, fall_db = find_cutoff(soxr.resample(noise, 16_000, 44_100), 44_100)
        >>> 7_000 < edge_hz < 8_500
        True
    """
    frames = LoudFrames()
    frames.add(samples.mean(axis=1))
    return _far_below(frames.find_edge(), rate)


def _far_below(edge: tuple[float, float] | None, rate: int) -> tuple[float, float] | None:
    """Return an edge in Hz and its fall in dB; None if it is near to half the rate."""
    if edge is None or edge[0] > _CUTOFF_SHARE / 2:
        return None
    return edge[0] * rate, edge[1]


class FrameJudge:
    """Finds what makes a spectrogram useless, whatever was wrong with the recording.

    Args:
        silence: A frame of the spectrogram of zeros, shape ``(n_mels,)``; None of kinds of
            others', which may have none.
        in_db: Whether numbers are decibels.
    """

    def __init__(self, silence: Floats | None, *, in_db: bool) -> None:
        self._silence, self._slack = silence, _NOTHING_DB if in_db else 0.0
        self._low, self._high, self._is_silent = np.inf, -np.inf, silence is not None
        self._is_finite = True

    def add(self, frames: Floats) -> bool:
        """Look at more frames, shape ``(n, n_mels)``; False if the rest need not be computed."""
        self._is_finite &= bool(np.isfinite(frames).all())
        self._low = min(self._low, float(frames.min()))
        self._high = max(self._high, float(frames.max()))
        if self._silence is not None and self._is_silent:
            self._is_silent = bool((frames <= self._silence + self._slack).all())
        return self._is_finite

    def conclude(self) -> str | None:
        """Return the fault; None if it can be used."""
        if not self._is_finite:
            return "not_finite"
        return "blank" if self._is_silent or self._high <= self._low else None
