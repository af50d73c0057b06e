"""What the encoder aisfx needs of its wheel, a file of weights, and what its network hears.

aisfx 0.1.2 on the package index carries the weights of Ma and Lerch's network for sound effects
(ISMIR 2022). Its weights are CC BY 4.0, its code is under another licence: it is never imported,
and nothing of it is here but the facts without which the weights mean nothing.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from importlib import metadata

import numpy as np

from labelkit.errors import InvalidInput, MissingPackage
from labelkit.types import Floats

PACKAGE, VERSION = "aisfx", "0.1.2"
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"
# Of the file of weights in the wheel, which the vectors depend on.
SHA256 = "499ea75909c932a2f94c35fa722fa4fabc5bcb7e84917209cc5f7402627b7eb5"
_WEIGHTS = "aisfx/models/checkpoint.pth"
# What their licence asks to be said.
ATTRIBUTION = (
    "weights by A. B. Ma and A. Lerch, Representation Learning for the Automatic Indexing of "
    "Sound Effects Libraries, ISMIR 2022 (https://github.com/alisonbma/aisfx), CC BY 4.0, unchanged"
)

# What vectors depend on, kept beside them; the last is of what is done here.
ABOUT = {"version": VERSION, "sha256": SHA256, "attribution": ATTRIBUTION, "blocks": 1}

# What the network was trained on: power spectra in mel bands of unit sum on HTK's scale.
SAMPLE_RATE, N_FFT, HOP, N_MELS = 44100, 2048, 1024, 96
# Frames of a block, 2.3 s; of the shortest one; and the network makes one moment of eight.
BLOCK, _SHORTEST, _MOMENT = 100, 48, 8
# log10(1 + 10,000 x power) is divided by the highest value of the training data.
_GAIN, _HIGHEST = np.float32(1e4), np.float32(9.457798957824707)


def read_weights() -> bytes:
    """Read the file of weights of the installed wheel, and nothing else of it.

    Raises:
        MissingPackage: If the wheel is not installed.
        InvalidInput: If it is of another version, or its weights are others.
    """
    try:
        wheel = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise MissingPackage(
            f"embedder {PACKAGE} needs the weights of the package {PACKAGE}, which is not "
            f"installed; install it with: {INSTALL}"
        ) from None
    if wheel.version != VERSION:
        raise InvalidInput(
            f"embedder {PACKAGE} knows the weights of {PACKAGE} {VERSION}, and {wheel.version} is "
            f"installed; install that one with: {INSTALL}"
        )
    file = wheel.locate_file(_WEIGHTS)
    again = f"install it anew with: {INSTALL} --force-reinstall"
    try:
        with open(str(file), "rb") as opened:
            weights = opened.read()
    except OSError as error:
        raise InvalidInput(
            f"the weights of {PACKAGE} {VERSION} cannot be read ({error.strerror}: {file}); {again}"
        ) from error
    found = hashlib.sha256(weights).hexdigest()
    if found != SHA256:
        raise InvalidInput(
            f"{file} has other weights than {PACKAGE} {VERSION} (sha256 {found[:12]}..., not "
            f"{SHA256[:12]}...), and its vectors would be others; {again}"
        )
    return weights


def cut_blocks(mono: Floats) -> Floats:
    """Make the spectrogram of a recording, cut into blocks of about 2.3 s.

    The blocks are of one length and leave out nothing. A recording of less than a second is
    repeated, and one of a single block up to a whole number of the network's moments: beside
    silence, what there is to hear would be mostly its end. The highest sample becomes 1, so that a
    gain changes nothing.

    Args:
        mono: Shape ``(n_samples,)``, at 44.1 kHz.

    Returns:
        Float32, shape ``(n_blocks, n_frames, 96)``, from 48 to 152 frames.

    Example:
        >>> [cut_blocks(np.ones(int(SAMPLE_RATE * s))).shape[:2] for s in (0.1, 2.3, 5, 60)]
        [(1, 48), (1, 104), (2, 112), (26, 104)]
    """
    peak = np.abs(mono).max(initial=0)
    wave = mono.astype(np.float32) / np.float32(peak or 1)
    n_frames = 1 + len(wave) // HOP
    n_blocks = max(1, round(n_frames / BLOCK))
    length = max(_SHORTEST, _MOMENT * math.ceil(n_frames / n_blocks / _MOMENT))
    if n_frames < length:
        wave = np.resize(wave, (length - 1) * HOP)
        n_frames = length
    frames = _compute(wave, n_frames)
    starts = np.linspace(0, n_frames - length, n_blocks).round().astype(int)
    blocks: Floats = frames[starts[:, None] + np.arange(length)]
    return blocks


def _compute(wave: Floats, n_frames: int) -> Floats:
    """Compute the logarithms of the bands, shape ``(n_frames, 96)``; silence is around the wave."""
    from scipy.fft import rfft

    frames = np.empty((n_frames, N_MELS), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(wave, N_FFT // 2), N_FFT)[::HOP]
    for first in range(0, n_frames, BLOCK):
        spectrum = rfft(windows[first : first + BLOCK] * _window(), axis=1, overwrite_x=True)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        frames[first : first + BLOCK] = np.log10(1 + _GAIN * (power @ _bank())) / _HIGHEST
    return frames


@lru_cache
def _window() -> Floats:
    window: Floats = np.hanning(N_FFT + 1)[:N_FFT].astype(np.float32)
    return window


@lru_cache
def _bank() -> Floats:
    """Make triangles of unit sum between points that lie evenly on HTK's mel scale."""
    highest = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, highest, N_MELS + 2) / 2595) - 1)
    ramps = corners[:, None] - np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE)
    widths = np.diff(corners)[:, None]
    bank = np.maximum(0, np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]))
    found: Floats = (bank / bank.sum(axis=1, keepdims=True)).T.astype(np.float32)
    return found
