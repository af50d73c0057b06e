"""Spectrograms of recordings: the librosa reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labelkit import registry
from labelkit.audio import banks, io, sox
from labelkit.config import FeatureSpec
from labelkit.errors import InvalidInput
from labelkit.types import Floats

_STRETCH_FFT = 2048  # librosa's window for time stretching.


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
    mono, start_s = prepare(samples, rate, spec)
    kind: Callable[[Floats, FeatureSpec], Floats] = registry.resolve("feature", spec.kind)
    return kind(mono, spec), start_s


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
    whole = _vary(io.to_mono(samples, rate, spec.sample_rate), spec)
    start, stop = 0, len(whole)
    if spec.trim == "sox":
        whole, start, stop = sox.normalise_and_trim(whole, spec.sample_rate)
    elif spec.trim == "peak":
        start, stop = io.find_sound(whole, spec.trim_db)
    mono = whole[start:stop]
    wanted = int(np.ceil(round(spec.min_s * spec.sample_rate, 6)))
    if len(mono) < wanted and spec.short == "centre":
        first = start + len(mono) // 2 - wanted // 2
        start = max(0, first)
        mono = whole[start : max(0, first + wanted)]
    if len(mono) < wanted:
        before = (wanted - len(mono)) // 2
        mono = np.pad(mono, (before, wanted - len(mono) - before))
        start -= before
    highest = np.abs(mono).max(initial=0)
    if spec.peak and highest:
        mono = mono * np.float32(spec.peak / highest)
    return mono.astype(np.float32, copy=False), start / spec.sample_rate * spec.speed


def _vary(mono: Floats, spec: FeatureSpec) -> Floats:
    import librosa

    if spec.speed != 1:
        stretched = librosa.effects.time_stretch(pad_end(mono, _STRETCH_FFT), rate=spec.speed)
        mono = stretched[: round(len(mono) / spec.speed)]
    if spec.semitones:
        padded = pad_end(mono, _STRETCH_FFT)
        shifted = librosa.effects.pitch_shift(padded, sr=spec.sample_rate, n_steps=spec.semitones)
        mono = shifted[: len(mono)]
    return mono


def log_mel(mono: Floats, spec: FeatureSpec) -> Floats:
    """Compute the log-mel spectrogram: energies of mel bands in dB.

    Args:
        mono: Shape ``(n_samples,)``, at ``spec.sample_rate``.
        spec: Every parameter of the spectrogram.

    Returns:
        dB, float32, shape ``(n_frames, n_mels)``: frame ``n`` is centred on sample
        ``n * hop_length``, the edges reflected.
    """
    import librosa

    bands = banks.mel_bank(spec) @ _power(mono, spec)
    floor = 10 ** (spec.floor_db / 10)
    return _as_frames(librosa.power_to_db(bands, amin=floor, top_db=spec.top_db))


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
    import librosa

    decibels = librosa.power_to_db(_power(mono, spec), amin=1e-10, top_db=spec.top_db)
    return _as_frames(banks.mel_bank(spec) @ (decibels + banks.a_weighting(spec)[:, None]))


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
    import librosa

    frames = max(1, -(-len(mono) // spec.hop_length))
    padded = pad_end(mono, (frames - 1) * spec.hop_length + spec.n_fft)
    spectrum = librosa.stft(
        padded,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        window=np.hanning(spec.n_fft),
        center=False,
    )[:, :frames]
    return _as_frames(np.log10(1 + banks.log_bank(spec) @ np.abs(spectrum)))


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


def _power(mono: Floats, spec: FeatureSpec) -> Floats:
    import librosa

    padded = pad_end(mono, spec.n_fft)
    stft = librosa.stft(padded, n_fft=spec.n_fft, hop_length=spec.hop_length, pad_mode="reflect")
    power: Floats = np.abs(stft) ** 2
    return power


def _as_frames(bands: Floats) -> Floats:
    return np.ascontiguousarray(bands.T, np.float32)
