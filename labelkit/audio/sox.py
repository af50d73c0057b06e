"""The recording conditioning of SoX, on arrays."""

from __future__ import annotations

import numpy as np

from labelkit.types import Floats

_PEAK = 10 ** (-0.1 / 20)  # norm -0.1
_THRESHOLD = 0.0015  # silence: 0.15 %
_SOUND_S = 0.025
_WINDOW_S = 0.02  # Fixed in SoX.


def normalise_and_trim(samples: Floats, rate: int) -> tuple[Floats, int, int]:
    """Bring to -0.1 dBFS and find the silence at both ends, as Dorfer and Widmer (2018) do by SoX.

    Their chain is ``norm -0.1``, ``silence 1 0.025 0.15%``, ``norm -0.1``, ``reverse``,
    ``silence 1 0.025 0.15%``, ``reverse``. Here it runs on the mono recording at the rate
    of the spectrogram rather than on the file, and nothing is dithered. SoX 14.4.2 given
    the same samples cuts at the same ones and differs by rounding (1.2e-7).

    Args:
        samples: Mono, shape ``(n_samples,)``.
        rate: Their rate in Hz.

    Returns:
        All samples, scaled, and the first and last (exclusive) that SoX keeps; the
        samples as they are, and all of them, if it keeps none.
    """
    scaled = samples * _gain(samples)
    start = find_sound(scaled, rate)
    scaled = scaled * _gain(scaled[start:])
    stop = len(scaled) - find_sound(scaled[start:][::-1], rate)
    if start == stop:
        return samples, 0, len(samples)
    return scaled, start, stop


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
    window, needed = int(_WINDOW_S * rate), int(_SOUND_S * rate + 0.5)
    if len(samples) < needed:
        return len(samples)
    energy = np.concatenate([np.zeros(window + 1), np.cumsum(samples.astype(np.float64) ** 2)])
    loud = energy[window + 1 :] - energy[1:-window] >= window * _THRESHOLD**2
    count = np.concatenate([[0], np.cumsum(loud)])
    found = np.flatnonzero(count[needed:] - count[:-needed] == needed)
    return int(found[0]) if len(found) else len(samples)


def _gain(samples: Floats) -> np.float32:
    peak = np.abs(samples).max(initial=0)
    return np.float32(_PEAK / peak if peak else 1)
