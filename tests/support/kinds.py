"""Spectrograms of others' kinds, as a plug-in brings them."""

import librosa


def energies(mono, spec):
    """Linear energies, which are small where the sound is faint."""
    found = librosa.feature.melspectrogram(
        y=mono,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        n_mels=spec.n_mels,
    )
    return found.T.astype("float32")


def scaled(mono, spec):
    """Which cannot be had of silence."""
    found = energies(mono, spec)
    assert found.max() > 0
    return found / found.max()
