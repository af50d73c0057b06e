"""Spectrograms of recordings: the librosa reference."""

from __future__ import annotations

import numpy as np

from labelkit.audio import io
from labelkit.config import FeatureSpec
from labelkit.errors import InvalidInput


def check_spec(spec: FeatureSpec) -> None:
    """Refuse settings that no spectrogram can have.

    Raises:
        InvalidInput: If the band edges do not lie in order below half the rate.
    """
    top = spec.fmax_hz or spec.sample_rate / 2
    if not spec.fmin_hz < top <= spec.sample_rate / 2:
        raise InvalidInput(
            f"features: fmin_hz {spec.fmin_hz:g} < fmax_hz {top:g} <= "
            f"sample_rate / 2 = {spec.sample_rate / 2:g} does not hold"
        )


def log_mel(samples: np.ndarray, rate: int, spec: FeatureSpec) -> np.ndarray:
    """Log-mel spectrogram of a recording, mono, resampled and trimmed.

    Args:
        samples: Shape ``(n_samples, n_channels)``, in [-1, 1].
        rate: Their rate in Hz.
        spec: Every parameter of the spectrogram.

    Returns:
        Energies in dB, float32, shape ``(n_frames, n_mels)``, at least one frame.
    """
    import librosa

    mono = io.trim(io.to_mono(samples, rate, spec.sample_rate), spec.trim_db)
    mono = np.pad(mono, (0, max(0, spec.n_fft - len(mono))))
    mel = librosa.feature.melspectrogram(
        y=mono,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        n_mels=spec.n_mels,
        fmin=spec.fmin_hz,
        fmax=spec.fmax_hz or spec.sample_rate / 2,
        pad_mode="reflect",
    )
    floor = 10 ** (spec.floor_db / 10)
    return np.ascontiguousarray(librosa.power_to_db(mel, amin=floor, top_db=None).T, np.float32)
