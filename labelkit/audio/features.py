"""Spectrograms of recordings, as librosa defines them, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from labelkit import registry
from labelkit.audio import banks, io, sox
from labelkit.audio.spool import InMemory, Samples, Spool, Stretch, highest
from labelkit.config import FeatureSpec
from labelkit.errors import InvalidInput
from labelkit.registry import TABLE
from labelkit.types import Floats

_STRETCH_FFT = 2048  # librosa's window for time stretching.
# Samples of a long recording that are stretched together; in how many more one part fades out;
# and how many come before, as a phase vocoder begins louder than it goes on.
_STRETCHED, _FADE, _LEAD = 2**18, 4 * _STRETCH_FFT, 2**15
_MOMENT_HZ = 32_000
# Of the windows that are transformed together: they shall stay in the processor's cache.
_SAMPLES_AT_ONCE = 2**17


def check_spec(spec: FeatureSpec) -> None:
    """Refuse settings that no spectrogram can have.

    Raises:
        InvalidInput: If the band edges do not lie in order below half the rate, or if a
            band holds no frequency of the transform.
    """
    low, top = spec.fmin_hz, banks.top_hz(spec)
    if not low < top <= spec.sample_rate / 2:
        raise InvalidInput(
            f"features: fmin_hz {low:g} < fmax_hz {top:g} <= "
            f"sample_rate / 2 = {spec.sample_rate / 2:g} does not hold"
        )
    if spec.kind == "log_filter_bank":
        if not low:
            raise InvalidInput("features: log_filter_bank needs fmin_hz above 0, got 0")
        bands = max(0, len(banks.log_bins(spec)) - 2)
        if bands != spec.n_mels:
            raise InvalidInput(
                f"features: log_filter_bank with bands_per_octave {spec.bands_per_octave} from "
                f"{low:g} to {top:g} Hz and n_fft {spec.n_fft} has {bands} bands: "
                f"n_mels must be {bands}, got {spec.n_mels}"
            )
    elif spec.kind in ("log_mel", "perceptual_mel"):
        empty = int((~banks.mel_bank(spec).any(axis=1)).sum())
        if empty:
            raise InvalidInput(
                f"features: {empty} of {spec.n_mels} mel bands hold no frequency of an n_fft "
                f"of {spec.n_fft}: lower n_mels or raise n_fft or fmin_hz"
            )


def compute(samples: Floats, rate: int, spec: FeatureSpec) -> tuple[Floats, float]:
    """Compute a recording's spectrogram, from what was decoded to the network's frames.

    Args:
        samples: Shape ``(n_samples, n_channels)``, in [-1, 1].
        rate: Their rate in Hz.
        spec: Every parameter of the spectrogram.

    Returns:
        Frames, float32, shape ``(n_frames, n_mels)``, at least one; and where they start
        in the recording, in seconds, as :func:`prepare` says.
    """
    placed = place(InMemory(io.to_mono(samples, rate, spec.sample_rate)), spec)
    return compute_whole(placed.stretch, spec), placed.start_s


def prepare(samples: Floats, rate: int, spec: FeatureSpec) -> tuple[Floats, float]:
    """Mix down, resample, stretch, shift, trim, lengthen and scale a recording, in this order.

    Stretching comes before trimming so that a variant is as long as ``min_s`` asks and has
    no faint edges of its own. ``short="centre"`` is argus-freesound's (2019): the middle is
    that of the sound, between the trimmed edges, so the window always holds it.

    Args:
        samples: Shape ``(n_samples, n_channels)``, in [-1, 1].
        rate: Their rate in Hz.
        spec: Which of these, and how.

    Returns:
        Mono float32 samples at ``spec.sample_rate``, no fewer than ``spec.min_s`` seconds;
        and where the first lies in the recording, in seconds of the recording as it was
        before stretching; negative if zeros were put in front.
    """
    placed = place(InMemory(io.to_mono(samples, rate, spec.sample_rate)), spec)
    stretch = placed.stretch
    return stretch.read(0, len(stretch)).astype(np.float32, copy=False), placed.start_s


@dataclass(frozen=True)
class Placed:
    """What of a recording is turned into frames.

    Args:
        stretch: The samples.
        start_s: Where the first lies in the recording, in seconds.
        is_moment: Whether trimming kept but a moment of it and cut sound away.
    """

    stretch: Stretch
    start_s: float
    is_moment: bool


def place(mono: Samples, spec: FeatureSpec, varied: Spool | None = None) -> Placed:
    """Do what :func:`prepare` does after mixing down and resampling, by places and gains alone.

    Args:
        mono: At ``spec.sample_rate``, in memory or not.
        spec: What is wanted.
        varied: Where a long recording may lie once it is stretched or shifted, in parts then.

    Returns:
        The samples, where they are from, and what was trimmed.
    """
    whole = _vary(mono, spec, varied)
    gains: tuple[np.float32, ...] = ()
    start, stop = 0, len(whole)
    if spec.trim == "sox":
        gains, start, stop = sox.normalise_and_trim(whole, spec.sample_rate)
    elif spec.trim == "peak":
        start, stop = io.find_sound(whole, spec.trim_db)
    is_moment = _is_moment(whole, start, stop, spec)
    wanted = int(np.ceil(round(spec.min_s * spec.sample_rate, 6)))
    if stop - start < wanted and spec.short == "centre":
        first = start + (stop - start) // 2 - wanted // 2
        start, stop = max(0, first), max(0, min(len(whole), first + wanted))
    length = max(stop - start, wanted)
    before = (length - (stop - start)) // 2
    if spec.peak:
        loudest = highest(Stretch(whole, start, stop, start, stop - start, gains))
        gains += (np.float32(spec.peak / loudest),) if loudest else ()
    stretch = Stretch(whole, start, stop, start - before, length, gains)
    return Placed(stretch, (start - before) / spec.sample_rate * spec.speed, is_moment)


def _is_moment(whole: Samples, start: int, stop: int, spec: FeatureSpec) -> bool:
    """Tell whether hardly anything was kept of a recording that is sound elsewhere, too."""
    kept = stop - start
    # Trimming keeps whole frames: 64 ms at 32 kHz, for which moment_s is meant, and more below.
    more = io.TRIM_FRAME * max(0.0, 1 - spec.sample_rate / _MOMENT_HZ) if spec.moment_s else 0.0
    if kept >= spec.moment_s * spec.sample_rate + more or len(whole) < 10 * kept:
        return False
    rest = max(highest(whole, 0, start), highest(whole, stop, len(whole)))
    return rest > 10 ** (spec.silence_db / 20)


def _vary(mono: Samples, spec: FeatureSpec, varied: Spool | None) -> Samples:
    if spec.speed == 1 and not spec.semitones:
        return mono
    n = len(mono)
    if varied is None or n <= 4 * _STRETCHED:
        return InMemory(_vary_part(mono.read(0, n), spec))
    at, is_last = 0, False
    rest: Floats = np.zeros(0, np.float32)
    while not is_last:
        behind, stop = at + _STRETCHED, min(n, at + _STRETCHED + _FADE)
        is_last = stop == n
        first = max(0, at - _LEAD)
        part = _vary_part(mono.read(first, stop), spec)
        part = part[round(at / spec.speed) - round(first / spec.speed) :]
        # The phases of two parts have nothing to do with each other: their energies add up.
        angle = np.linspace(0, np.pi / 2, min(len(rest), len(part)), dtype=np.float32)
        part[: len(angle)] *= np.sin(angle)
        part[: len(angle)] += rest[: len(angle)] * np.cos(angle)
        cut = len(part) if is_last else round(behind / spec.speed) - round(at / spec.speed)
        varied.add(part[:cut])
        at, rest = behind, part[cut:]
    return varied


def _vary_part(varied: Floats, spec: FeatureSpec) -> Floats:
    import librosa

    if spec.speed != 1:
        stretched = librosa.effects.time_stretch(pad_end(varied, _STRETCH_FFT), rate=spec.speed)
        varied = stretched[: round(len(varied) / spec.speed)]
    if spec.semitones:
        padded = pad_end(varied, _STRETCH_FFT)
        shifted = librosa.effects.pitch_shift(padded, sr=spec.sample_rate, n_steps=spec.semitones)
        varied = shifted[: len(varied)]
    return varied


def log_mel(mono: Floats, spec: FeatureSpec) -> Floats:
    """Compute the log-mel spectrogram: energies of mel bands in dB.

    Args:
        mono: Shape ``(n_samples,)``, at ``spec.sample_rate``.
        spec: Every parameter of the spectrogram.

    Returns:
        dB, float32, shape ``(n_frames, n_mels)``: frame ``n`` is centred on sample
        ``n * hop_length``, the edges reflected.
    """
    return _compute_all(InMemory(mono), spec, "log_mel")


def perceptual_mel(mono: Floats, spec: FeatureSpec) -> Floats:
    """Compute A-weighted decibels of every frequency, then sum them by a mel filter bank.

    The bank weighs decibels rather than energies, as Dorfer and Widmer's first
    spectrogram does (DCASE 2018 task 2); ``floor_db`` has no part in it.

    Args:
        mono: Shape ``(n_samples,)``, at ``spec.sample_rate``.
        spec: Every parameter of the spectrogram; ``top_db`` applies before the weighting.

    Returns:
        Weighted dB, float32, shape ``(n_frames, n_mels)``.
    """
    return _compute_all(InMemory(mono), spec, "perceptual_mel")


def log_filter_bank(mono: Floats, spec: FeatureSpec) -> Floats:
    """Compute madmom's logarithmic spectrogram (Böck et al., 2016), Dorfer and Widmer's second.

    Magnitudes of frame ``n``, which starts at sample ``n * hop_length``, go through
    :func:`labelkit.audio.banks.log_bank`, then ``log10(1 + x)``. madmom divides integer
    samples by their largest value, so its magnitudes are those of samples in [-1, 1], as
    here.

    Args:
        mono: Shape ``(n_samples,)``, at ``spec.sample_rate``; zeros follow.
        spec: Every parameter of the spectrogram.

    Returns:
        Float32, shape ``(ceil(n_samples / hop_length), n_mels)``, at least one frame.
    """
    return _compute_all(InMemory(mono), spec, "log_filter_bank")


def compute_whole(samples: Samples, spec: FeatureSpec) -> Floats:
    """Compute the whole spectrogram of prepared samples, of any kind."""
    if spec.kind in TABLE["feature"]:
        return _compute_all(samples, spec, spec.kind)
    kind: Callable[[Floats, FeatureSpec], Floats] = registry.resolve("feature", spec.kind)
    return kind(samples.read(0, len(samples)), spec)


@lru_cache(maxsize=8)
def silent_frame(spec: FeatureSpec) -> Floats | None:
    """Return a frame of the spectrogram of zeros, shape ``(n_mels,)``; None of a plug-in's."""
    if spec.kind not in TABLE["feature"]:
        return None
    frame: Floats = compute_whole(InMemory(np.zeros(spec.n_fft, np.float32)), spec)[0]
    return frame


def compute_parts(samples: Samples, spec: FeatureSpec) -> Iterator[Floats]:
    """Compute a spectrogram part by part, in memory that does not grow with the recording.

    What stands against the whole, ``top_db``, is found beforehand; the recording is gone over
    twice then.

    Args:
        samples: As :func:`place` returns them.
        spec: Every parameter of the spectrogram, of a kind of ours.

    Yields:
        Consecutive frames, float32, shape ``(n, n_mels)``.
    """
    lowest = None
    if spec.top_db is not None and spec.kind == "log_mel":
        lowest = max(float(part.max()) for part in _parts(samples, spec)) - spec.top_db
    for part in _parts(samples, spec):
        yield part if lowest is None else np.maximum(part, np.float32(lowest))


def _compute_all(samples: Samples, spec: FeatureSpec, kind: str) -> Floats:
    spec = spec if spec.kind == kind else replace(spec, kind=kind)
    frames = np.concatenate(list(_parts(samples, spec)))
    if spec.top_db is not None and kind == "log_mel":
        np.maximum(frames, frames.max() - np.float32(spec.top_db), out=frames)
    return frames


def _parts(samples: Samples, spec: FeatureSpec) -> Iterator[Floats]:
    """Yield the frames of a spectrogram of ours, before what stands against its maximum."""
    if spec.kind == "log_filter_bank":
        bank = _as_float32(banks.log_bank)(spec).T
        for spectrum in _spectra(samples, spec):
            yield np.log10(1 + np.abs(spectrum) @ bank)
        return
    bank = _as_float32(banks.mel_bank)(spec).T
    if spec.kind == "log_mel":
        floor = np.float32(10 ** (spec.floor_db / 10))
        for spectrum in _spectra(samples, spec):
            yield _decibels(_power(spectrum) @ bank, floor)
        return
    weights, lowest = _as_float32(banks.a_weighting)(spec), -np.inf
    if spec.top_db is not None:
        highest_power = max(float(_power(spectrum).max()) for spectrum in _spectra(samples, spec))
        lowest = 10 * np.log10(max(1e-10, highest_power)) - spec.top_db
    for spectrum in _spectra(samples, spec):
        decibels = np.maximum(_decibels(_power(spectrum), np.float32(1e-10)), np.float32(lowest))
        yield (decibels + weights) @ bank


def _spectra(samples: Samples, spec: FeatureSpec) -> Iterator[Floats]:
    """Yield the short-time spectra of some frames after the other, ``(n, n_fft // 2 + 1)``."""
    from scipy.fft import rfft

    window = _window(spec.n_fft, spec.kind == "log_filter_bank")
    n_frames, at_once = count_frames(len(samples), spec), max(1, _SAMPLES_AT_ONCE // spec.n_fft)
    for first in range(0, n_frames, at_once):
        cut = cut_frames(samples, first, min(at_once, n_frames - first), spec)
        frames = np.lib.stride_tricks.sliding_window_view(cut, spec.n_fft)[:: spec.hop_length]
        yield rfft(frames * window, axis=1, overwrite_x=True)


@lru_cache(maxsize=8)
def _window(n_fft: int, symmetric: bool) -> Floats:
    """Make a Hann window; madmom's is symmetric, librosa's periodic."""
    window: Floats = np.hanning(n_fft if symmetric else n_fft + 1)[:n_fft].astype(np.float32)
    return window


def _as_float32(make: Callable[[FeatureSpec], Floats]) -> Callable[[FeatureSpec], Floats]:
    return lambda spec: make(spec).astype(np.float32, copy=False)


def _power(spectrum: Floats) -> Floats:
    power: Floats = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    return power


def _decibels(power: Floats, floor: np.float32) -> Floats:
    np.maximum(power, floor, out=power)
    np.log10(power, out=power)
    power *= np.float32(10)
    return power


def count_frames(n_samples: int, spec: FeatureSpec) -> int:
    """Count the frames of so many prepared samples, for the kinds of spectrograms of ours."""
    if spec.kind == "log_filter_bank":
        return max(1, -(-n_samples // spec.hop_length))
    reflected = max(n_samples, spec.n_fft) + spec.n_fft // 2 * 2
    return 1 + (reflected - spec.n_fft) // spec.hop_length


def cut_frames(samples: Samples, first: int, n_frames: int, spec: FeatureSpec) -> Floats:
    """Cut the samples under some frames, beyond the recording's edges as its kind has them."""
    low = first * spec.hop_length
    length = (n_frames - 1) * spec.hop_length + spec.n_fft
    n = len(samples)
    if spec.kind == "log_filter_bank":
        return pad_end(samples.read(min(low, n), min(low + length, n)), length)
    low -= spec.n_fft // 2
    if low >= 0 and low + length <= n:
        return samples.read(low, low + length)
    # Reflected, as librosa does; what is shorter than a window is filled with zeros first.
    last = max(n, spec.n_fft) - 1
    index = last - np.abs(last - np.abs(np.arange(low, low + length)))
    start, stop = int(index.min()), int(index.max()) + 1
    found = pad_end(samples.read(min(start, n), min(stop, n)), stop - start)
    cut: Floats = found[index - start]
    return cut


def delta_matrix(n_frames: int, order: int, width: int = 9) -> Floats:
    """Return the matrix of :func:`librosa.feature.delta`, whose edges are interpolated.

    Args:
        n_frames: Frames of a window.
        order: 1 for the slope, 2 for the curvature.
        width: Frames of the fit, odd; the largest odd number that fits if there are fewer.

    Returns:
        Float32, shape ``(n_frames, n_frames)``: ``x @ D.T`` are the deltas along the last
        axis of ``x``; zeros if there are too few frames for any.
    """
    import librosa

    width = min(width, n_frames - 1 + n_frames % 2)
    if width <= order:
        return np.zeros((n_frames, n_frames), np.float32)
    eye = np.eye(n_frames)
    return librosa.feature.delta(eye, width=width, order=order).T.astype(np.float32)


def pad_end(mono: Floats, length: int) -> Floats:
    """Return the same samples with zeros behind, up to ``length`` of them."""
    return mono if len(mono) >= length else np.pad(mono, (0, length - len(mono)))
