"""What can be wrong with a recording as such, whatever its label says."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from labelkit.audio import io
from labelkit.errors import InvalidInput
from labelkit.types import Floats

# Kept out of training; the others are used, padded or wrapped where they are short.
UNUSABLE = ("missing", "changed", "unreadable", "empty", "silent")
REASONS = {
    "missing": "no such file under the audio folder",
    "changed": "is not the recording that was imported",
    "unreadable": "cannot be decoded",
    "empty": "has no samples",
    "silent": "never leaves -80 dBFS",
    "truncated": "ends before its header says",
    "clipped": "runs of samples lie at full scale",
    "very_short": "is shorter than 0.1 s: hardly anything can be named by it",
    "short": "is shorter than a window",
    "sample_rate": "has an odd sample rate",
    "exact_duplicate": "has the same bytes as another clip",
    "near_duplicate": "holds the same sound as another clip",
    "outlier": "resembles no clip of another source",
}

_SILENCE = 1e-4  # -80 dBFS
_CLIPPED_SHARE = 1e-3
_CLIPPED_RUN = 4
_VERY_SHORT_S = 0.1
# A cut-off is a fall by so many dB, found within this part of half the rate: rates are
# mostly doubled or more, while coders leave out highs above two thirds of it.
_CUTOFF_DB = 45.0
_CUTOFF_RANGE = (0.1, 0.55)
_SPECTRUM = 2048
_LOUDEST = 400


def inspect(path: Path, *, window_s: float = 0.0) -> tuple[Floats, int, list[str]]:
    """Decode a recording and find its faults in one go.

    Args:
        path: The file.
        window_s: Length below which a recording is ``short``, in seconds.

    Returns:
        Samples ``(n_samples, n_channels)``, rate in Hz, and the faults; no samples
        if the recording is unusable.
    """
    nothing = np.zeros((0, 1), np.float32)
    if not path.is_file():
        return nothing, 0, ["missing"]
    if path.stat().st_size == 0:
        return nothing, 0, ["empty"]
    try:
        samples, rate = io.read_audio(path)
    except InvalidInput:
        return nothing, 0, ["unreadable"]
    if len(samples) == 0:
        return nothing, rate, ["unreadable" if is_truncated(path, 0) else "empty"]
    if np.ptp(samples, axis=0).max() < 2 * _SILENCE:
        return nothing, rate, ["silent"]
    faults = []
    if is_truncated(path, len(samples)):
        faults.append("truncated")
    if is_clipped(samples):
        faults.append("clipped")
    if len(samples) < _VERY_SHORT_S * rate:
        faults.append("very_short")
    elif len(samples) < window_s * rate:
        faults.append("short")
    return samples, rate, faults


def is_clipped(samples: Floats) -> bool:
    """Tell whether more than 0.1 % of the samples lie in runs at full scale.

    Args:
        samples: Shape ``(n_samples, n_channels)``, full scale 1.
    """
    at_peak = np.abs(samples) >= 0.999
    if at_peak.sum() <= _CLIPPED_SHARE * samples.size:
        return False
    n = len(samples) - _CLIPPED_RUN + 1
    runs = np.logical_and.reduce([at_peak[k : n + k] for k in range(_CLIPPED_RUN)])
    return bool(runs.sum() * _CLIPPED_RUN > _CLIPPED_SHARE * samples.size)


def find_cutoff(samples: Floats, rate: int) -> tuple[float, float] | None:
    """Find where the content of a recording ends as if cut off, far below half its rate.

    So it is after upsampling. Sounds without highs fade out instead and pure tones have
    nothing below them either: only a fall by 45 dB from a filled band to all that lies
    above, between a tenth and 0.55 of half the rate, counts.

    Args:
        samples: Shape ``(n_samples, n_channels)``, full scale 1.
        rate: Their rate in Hz.

    Returns:
        Frequency in Hz and fall in dB; None if there is no such fall, or less than a
        tenth of a second of sound.

    Example:
        >>> noise = np.random.default_rng(0).normal(0, 0.1, (16_000, 1))
        >>> find_cutoff(noise, 16_000) is None
        True
        >>> import soxr
        >>> edge_hz, fall_db = find_cutoff(soxr.resample(noise, 16_000, 44_100), 44_100)
        >>> 7_000 < edge_hz < 8_500
        True
    """
    mono = samples.mean(axis=1)
    if len(mono) < max(_SPECTRUM, _VERY_SHORT_S * rate):
        return None
    frames = np.lib.stride_tricks.sliding_window_view(mono, _SPECTRUM)[:: _SPECTRUM // 2]
    # Between loud moments there may be digital silence, which says nothing of the highs.
    energies = np.einsum("ij,ij->i", frames, frames)
    loudest = np.argsort(-energies)[: min(_LOUDEST, -(-len(frames) // 4))]
    power = (np.abs(np.fft.rfft(frames[loudest] * np.hanning(_SPECTRUM))) ** 2).mean(axis=0)
    # Steps of 16 bits are the least that is heard of any file.
    level = 10 * np.log10(power[:-8] + _SPECTRUM * 2.0**-32 / 12)
    highest_above = np.maximum.accumulate(level[::-1])[::-1]
    first, last = (int(share * _SPECTRUM / 2) for share in _CUTOFF_RANGE)
    falls = [
        np.percentile(level[int(0.7 * k) : int(0.97 * k)], 25) - highest_above[int(1.06 * k) + 1]
        for k in range(first, last, 2)
    ]
    steepest = int(np.argmax(falls))
    if falls[steepest] < _CUTOFF_DB:
        return None
    return (first + 2 * steepest) * rate / _SPECTRUM, float(falls[steepest])


def is_truncated(path: Path, n_decoded: int) -> bool:
    """Tell whether a file ends before its own structure says it does.

    Args:
        path: A wav, ogg, flac or mp3 file that could be decoded at least in part.
        n_decoded: Samples per channel that were decoded.
    """
    import soundfile

    if io.is_cut_off_ogg(path):
        return True
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == b"RIFF" and len(head) == 8:
        # Streaming encoders leave the length at 0 or at its maximum: nothing to compare.
        stated: int = struct.unpack("<I", head[4:])[0]
        return 0 < stated < 0xFFFFFF00 and stated + 8 > path.stat().st_size + 1
    frames: int = soundfile.info(path).frames
    return frames > n_decoded
