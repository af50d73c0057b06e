"""The recording conditioning of SoX, on arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labelkit.audio.spool import CHUNK, InMemory, Samples, Stretch, highest
from labelkit.types import Floats

_PEAK = 10 ** (-0.1 / 20)  # norm -0.1
_THRESHOLD = 0.0015  # silence: 0.15 %
_SOUND_S = 0.025
_WINDOW_S = 0.02  # Fixed in SoX.


def normalise_and_trim(samples: Samples, rate: int) -> tuple[tuple[np.float32, ...], int, int]:
    """Bring to -0.1 dBFS and find the silence at both ends, as Dorfer and Widmer (2018) do by SoX.

    Their chain is ``norm -0.1``, ``silence 1 0.025 0.15%``, ``norm -0.1``, ``reverse``,
    ``silence 1 0.025 0.15%``, ``reverse``. Here it runs on the mono recording at the rate
    of the spectrogram rather than on the file, and nothing is dithered. SoX 14.4.2 given
    the same samples cuts at the same ones and differs by rounding (1.2e-7).

    Args:
        samples: Mono samples.
        rate: Their rate in Hz.

    Returns:
        Gains to apply one after the other, and the first and last (exclusive) sample that SoX
        keeps; no gain, and all of them, if it keeps none.
    """
    n = len(samples)

    def scaled(*gains: np.float32) -> Stretch:
        return Stretch(samples, 0, n, 0, n, gains)

    first = _gain(highest(samples))
    start = _find(scaled(first).read, n, rate)
    second = _gain(highest(scaled(first), start, n))
    both = scaled(first, second)

    def reversed_read(low: int, high: int) -> Floats:
        return both.read(n - high, n - low)[::-1]

    stop = n - _find(reversed_read, n - start, rate)
    if start == stop:
        return (), 0, n
    return (first, second), start, stop


def find_sound(samples: Floats, rate: int) -> int:
    """Return the first sample that ``silence 1 0.025 0.15%`` lets through.

    The root mean square of the last 20 ms, of zeros before the first sample, must
    stay at or above 0.15 % of full scale for 25 ms; the sound begins with those.

    Args:
        samples: Mono, shape ``(n_samples,)``, full scale 1.
        rate: Their rate in Hz.

    Returns:
        An index; ``n_samples`` if there is no sound.
    """
    return _find(InMemory(samples).read, len(samples), rate)


def _find(read: Callable[[int, int], Floats], n: int, rate: int) -> int:
    window, needed = int(_WINDOW_S * rate), int(_SOUND_S * rate + 0.5)
    last = n - needed + 1
    for start in range(0, last, CHUNK):
        stop = min(start + CHUNK, last) + needed - 1
        low = max(0, start - window)
        energy = read(low, stop).astype(np.float64) ** 2
        sums = np.concatenate([np.zeros(window + 1 - (start - low)), np.cumsum(energy)])
        loud = sums[window + 1 :] - sums[1:-window] >= window * _THRESHOLD**2
        loud = loud[-(stop - start) :]
        count = np.concatenate([[0], np.cumsum(loud)])
        found = np.flatnonzero(count[needed:] - count[:-needed] == needed)
        if len(found):
            return start + int(found[0])
    return n


def _gain(peak: float) -> np.float32:
    return np.float32(_PEAK / peak if peak else 1)
