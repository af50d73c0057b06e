"""Whether two recordings hold the same sound: their waveforms, laid over each other.

A copy that was re-encoded, cut, made louder, sampled at another rate or turned over in polarity
still goes up and down with its original, sample by sample. Two recordings of the same word, bird or
instrument do not; where their lowest or loudest partial does by chance, the rest of the spectrum
does not, so phases have to agree over all that is heard of time and frequency.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from labelkit.audio.bandwidth import find_bandwidth
from labelkit.types import Array, Bools, Floats

# Rate in Hz at which sounds are compared, at most.
RATE = 16_000
# Of copies, at least: the correlation of samples, and how far phases agree. Two recordings of one
# tone reach either, but hardly both.
SAME, _AGREE = 0.95, 0.45
# Of channels by themselves phases must agree so far, and of the mixes so that these are tried.
_AGREE_ALONE, _AGREE_MIXED = 0.7, 0.2
# Less than that at a whole lag, nothing can be gained at its parts.
_HOPELESS = 0.3
# A coder of few bits keeps the lows better than the highs. Where samples correlate less than that,
# but so far, and nearly all of time and frequency does, what lies below 2 kHz decides.
_CODED, _CODED_PART, _CODED_HZ = 0.9, 0.7, 2000.0
# Of the parts, of so many frames by so many bins and heard down to that, so many may be worse.
_PART, _WORST_PARTS, _PART_DB = 4, 0.05, 40.0
# What lies so far below the loudest part of a recording is silence, by parts of so many seconds.
_SILENCE_DB, _PART_S = 70.0, 0.002
# So near to silence or an end, in seconds and as a share of the whole, filters ring.
_RINGING = (0.03, 0.05)
# So near to each other two files begin or end together, in seconds.
_TOGETHER_S = 0.005
# Such a share of the sound of the shorter one must lie over sound, and so many seconds.
_OVERLAP, _LEAST_S = 0.6, 0.02
# Of the energy that lies over silence may be so much, but for what was set to zero.
_OVER_SILENCE = 0.05
# Where sound breaks off, within so many seconds, it was at least so loud as it is in the other.
_EDGE_S, _BREAK = 0.01, 0.1
# Below lie offsets and rumble, which no filter leaves as they are.
_LOWEST_HZ = (60.0, 120.0)
# A channel that is so much like the mix is not tried by itself.
_LIKE_MIX = 0.99
# Phases are compared over frames of so many samples, fewer of what is shorter, where both are at
# most so far below their loudest cell.
_FRAMES, _CELL_DB = (512, 128), 60.0


@dataclass(frozen=True)
class Alignment:
    """How two recordings lie over each other best.

    Args:
        correlation: Of their samples where both sound, whatever gain and polarity, in [0, 1].
        agreement: How far their phases agree, over all that is heard of time and frequency: 1
            where they are the same, about 0 where they have nothing to do with each other.
        offset_s: Where the first one has what the second one begins with, in seconds; negative
            where the second one begins earlier.
        overlap_s: How much sound lies over sound.
    """

    correlation: float = 0.0
    agreement: float = 0.0
    offset_s: float = 0.0
    overlap_s: float = 0.0

    @property
    def is_same(self) -> bool:
        """Whether the two are one recording."""
        return self.correlation >= SAME and self.agreement >= _AGREE


@dataclass(frozen=True)
class _Voice:
    """The mix or a channel of a recording.

    ``samples`` are without rumble, ``whole`` with it; ``sounds`` marks what is not silence.
    """

    samples: Floats
    whole: Floats
    sounds: Bools


@dataclass(frozen=True)
class Sound:
    """A recording that is ready to be laid over others, see :func:`prepare`."""

    voices: tuple[_Voice, ...]
    rate: int
    bandwidth_hz: float


def prepare(samples: Floats, rate: int) -> Sound:
    """Make a recording ready to be laid over others.

    Args:
        samples: Full scale is 1; shape ``(n_samples, n_channels)``.
        rate: In Hz.
    """
    mono: Floats = samples.mean(axis=1, dtype=np.float32)
    bandwidth = find_bandwidth(mono, rate)
    # No gain counts, so none may lead out of what float32 holds.
    peak = max(float(np.abs(samples).max(initial=0)), 1e-20)
    mono, samples = mono / np.float32(peak), samples / np.float32(peak)
    target = min(rate, RATE)
    highest = min(bandwidth, target / 2)
    voices = [mono]
    for channel in samples.T if samples.shape[1] > 1 else ():
        if abs(_correlate(channel, mono)) < _LIKE_MIX and channel.any():
            voices.append(np.ascontiguousarray(channel, np.float32))
    if rate != target:
        import soxr

        voices = [soxr.resample(voice, rate, target) for voice in voices]
    return Sound(tuple(_filter(voice, target, highest) for voice in voices), target, highest)


def align(first: Sound, second: Sound) -> Alignment:
    """Lay two recordings over each other as they fit best.

    Channels are tried by themselves where the mixes do not fit.

    Example:
        >>> noise = np.random.default_rng(0).normal(0, 0.1, (16_000, 1)).astype(np.float32)
        >>> found = align(prepare(noise, 16_000), prepare(-0.2 * noise[4000:], 16_000))
        >>> found.is_same, round(found.correlation, 2), round(found.offset_s, 3)
        (True, 1.0, 0.25)
    """
    rate = min(first.rate, second.rate)
    highest = min(first.bandwidth_hz, second.bandwidth_hz)
    ours, theirs = (_match(sound, rate, highest) for sound in (first, second))
    best = Alignment()
    for a, b in itertools.product(range(len(ours)), range(len(theirs))):
        # Of two channels a copy has the same one in its place; and one that is a copy shows in the
        # mixes, too.
        if (a and b and a != b) or ((a or b) and best.agreement < _AGREE_MIXED):
            continue
        for one in _lay(ours[a], theirs[b], rate, highest):
            # A channel of another recording may fit by chance the more easily, the more there are.
            if (a or b) and one.agreement < _AGREE_ALONE:
                continue
            best = max(best, one, key=_rank)
            if best.is_same:
                return best
    return best


def _rank(one: Alignment) -> tuple[bool, float]:
    return one.is_same, one.correlation + one.agreement


def _match(sound: Sound, rate: int, highest: float) -> list[_Voice]:
    """Bring a sound to a lower rate and band."""
    voices = list(sound.voices)
    if sound.rate != rate:
        import soxr

        ratio = rate / sound.rate
        for k, voice in enumerate(voices):
            samples, whole = (
                soxr.resample(one, sound.rate, rate) for one in (voice.samples, voice.whole)
            )
            places = np.minimum(np.arange(len(samples)) / ratio, len(voice.sounds) - 1)
            sounds = voice.sounds[places.astype(int)] if len(samples) else voice.sounds[:0]
            voices[k] = _Voice(samples, whole, sounds)
    if sound.bandwidth_hz > 1.02 * highest:
        for k, voice in enumerate(voices):
            samples = _limit(voice.samples, rate, highest)
            voices[k] = replace(
                voice, samples=samples, whole=_limit(voice.whole, rate, highest, rumble=True)
            )
    return voices


def _filter(mono: Floats, rate: int, highest: float) -> _Voice:
    """Limit the band of a recording and mark what of it is sound."""
    size = max(1, int(_PART_S * rate))
    parts = np.add.reduceat(np.square(mono), np.arange(0, len(mono), size)) if len(mono) else mono
    loud = parts > parts.max(initial=0) * 10 ** (-_SILENCE_DB / 10)
    sounds: Bools = np.repeat(loud, size)[: len(mono)]
    whole = _limit(mono, rate, highest, rumble=True)
    return _Voice(_limit(mono, rate, highest), whole, sounds)


def _erode(mask: Bools, n: int, ends: tuple[bool, bool]) -> Bools:
    """Leave of what is marked only what lies further than ``n`` from the rest, and from an end."""
    marked = np.concatenate([np.full(n, not ends[0]), mask, np.full(n, not ends[1])])
    rest = np.concatenate([[0], np.cumsum(~marked)])
    found: Bools = rest[2 * n + 1 :] == rest[: -2 * n - 1]
    return found


def _limit(mono: Floats, rate: int, highest: float, *, rumble: bool = False) -> Floats:
    """Leave what lies between rumble, or offsets alone, and the highest frequency."""
    from scipy import fft

    if not len(mono):
        return mono
    n = fft.next_fast_len(len(mono), real=True)
    spectrum = fft.rfft(mono, n)
    hz = np.arange(len(spectrum), dtype=np.float32) * (rate / n)
    low, full = _LOWEST_HZ
    if rumble:
        spectrum[:1] = 0
    else:
        spectrum *= np.clip((hz - low) / (full - low), 0, 1)
    spectrum[hz > highest] = 0
    found: Floats = fft.irfft(spectrum, n)[: len(mono)]
    return found.astype(np.float32, copy=False)


def _lay(first: _Voice, second: _Voice, rate: int, highest: float) -> Iterator[Alignment]:
    """Yield how two voices fit at each lag that might be right."""
    least = _OVERLAP * min(int(first.sounds.sum()), int(second.sounds.sum()))
    for lag in _find_lags(first.samples, second.samples, rate, highest):
        x, y = first.samples[max(0, lag) :], second.samples[max(0, -lag) :]
        n = min(len(x), len(y))
        x, y = x[:n], y[:n]
        sounds = first.sounds[max(0, lag) :][:n], second.sounds[max(0, -lag) :][:n]
        both = sounds[0] & sounds[1]
        zeroed = _find_zeroed(x, y, *sounds, round(_EDGE_S * rate))
        if zeroed is None or both.sum() < max(least, _LEAST_S * rate):
            continue
        # Files that begin or end together ring alike.
        rest = len(first.samples) - len(second.samples) - lag
        cut = abs(lag) > _TOGETHER_S * rate, abs(rest) > _TOGETHER_S * rate
        use = _erode(~zeroed, round(min(_RINGING[0] * rate, _RINGING[1] * n)), cut)
        if not use.any():
            continue
        delay = _find_delay(x, y)
        y = _delay(y, delay)
        whole = first.whole[max(0, lag) :][:n], _delay(second.whole[max(0, -lag) :][:n], delay)
        correlation = _correlate(x[use], y[use])
        sign = np.float32(np.copysign(1, correlation))
        y = sign * y
        # Neither rumble nor what is left without it may be another one.
        with_rumble = float(sign) * _correlate(*(one[use] - one[use].mean() for one in whole))
        correlation = max(0.0, min(abs(correlation), with_rumble))
        if _CODED <= correlation < SAME and _agrees_all_over(x * use, y * use):
            lows = (_limit(samples, rate, _CODED_HZ)[use] for samples in (x, y))
            correlation = max(correlation, _correlate(*lows))
        yield Alignment(
            correlation=min(1.0, correlation),
            agreement=_agree(x * use, y * use, rate, highest),
            offset_s=lag / rate,
            overlap_s=float(both.sum()) / rate,
        )


def _find_zeroed(x: Floats, y: Floats, x_sounds: Bools, y_sounds: Bools, edge: int) -> Bools | None:
    """Mark what was set to zero in one of two copies; None if they are none.

    Two mixtures may have one note in common and all others over silence. What was set to zero in a
    copy breaks off amid sound that lasts in the other, at one end of it at least, and is the
    smaller part; noise over silence is faint.

    Args:
        x: Samples of one.
        y: Samples of the other.
        x_sounds: Which of them are no silence.
        y_sounds: Which of the other.
        edge: Samples around a break that are looked at.
    """
    both, one = x_sounds & y_sounds, x_sounds ^ y_sounds
    changes = np.flatnonzero(np.diff(one.astype(np.int8), prepend=0, append=0))
    zeroed: Bools = np.zeros_like(one)
    for start, stop in changes.reshape(-1, 2):
        lasting, broken = (x, y) if x_sounds[start] else (y, x)
        inside, ends = lasting[start:stop], ((start - edge, start), (stop, stop + edge))
        for part, (begin, end) in zip((inside[:edge], inside[-edge:]), ends, strict=True):
            outside = broken[max(0, begin) : end]
            if _rms(outside) > _BREAK * _rms(part):
                zeroed[start:stop] = True
    if max(_share(x, one & ~zeroed), _share(y, one & ~zeroed)) > _OVER_SILENCE:
        return None
    if max(_share(x, zeroed), _share(y, zeroed)) <= _OVER_SILENCE:
        return np.zeros_like(one)
    is_most = zeroed.sum() > (1 - _OVERLAP) / _OVERLAP * both.sum()
    return None if is_most else zeroed


def _rms(x: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(x)))) if len(x) else 0.0


def _share(x: Floats, mask: Bools) -> float:
    """Return the share of the energy that is marked."""
    return float(np.dot(x[mask], x[mask]) / max(np.dot(x, x), 1e-20))


def _correlate(x: Floats, y: Floats) -> float:
    """Correlate samples that have no offset; 0 for silence."""
    scale = float(np.sqrt(np.dot(x, x)) * np.sqrt(np.dot(y, y)))
    return float(np.dot(x, y)) / scale if scale else 0.0


def _find_lags(a: Floats, b: Floats, rate: int, highest: float) -> list[int]:
    """Find the lags at which samples, and at which phases, fit best."""
    from scipy import fft

    shorter = min(len(a), len(b))
    if shorter < _LEAST_S * rate or not (a.any() and b.any()):
        return []
    n = fft.next_fast_len(len(a) + len(b), real=True)
    cross = fft.rfft(a, n) * fft.rfft(b, n).conj()
    size = np.abs(cross)
    hz = np.arange(len(cross), dtype=np.float32) * (rate / n)
    in_band = (hz > _LOWEST_HZ[1]) & (hz < 0.9 * highest)
    phases = np.where(in_band, cross / np.maximum(size, 1e-20), 0)
    # Lags at which enough lies over each other, the second one later first.
    least = int(np.ceil(_OVERLAP * shorter))
    lags = np.arange(-(len(b) - least), len(a) - least + 1)
    start_a, start_b = np.maximum(lags, 0), np.maximum(-lags, 0)
    over = np.minimum(len(a) - start_a, len(b) - start_b)
    sums = [np.concatenate([[0.0], np.cumsum(np.square(s), dtype=np.float64)]) for s in (a, b)]
    energies = [
        np.maximum(total[start + over] - total[start], 1e-4 * total[-1])
        for total, start in zip(sums, (start_a, start_b), strict=True)
    ]
    by_samples = np.abs(fft.irfft(cross, n)[lags]) / np.sqrt(energies[0] * energies[1])
    by_phases = np.abs(fft.irfft(phases, n)[lags])
    best = {int(by_phases.argmax()), int(by_samples.argmax())}
    # Between two samples the correlation of noise is two thirds of what it is.
    around = np.maximum(by_samples, np.maximum(np.roll(by_samples, 1), np.roll(by_samples, -1)))
    return [int(lags[place]) for place in sorted(best) if around[place] > _HOPELESS]


def _find_delay(x: Floats, y: Floats) -> float:
    """Find the part of a sample that is left between two voices, by the slope of their phases."""
    from scipy import fft

    n = fft.next_fast_len(len(x), real=True)
    cross = fft.rfft(x, n) * fft.rfft(y, n).conj()
    omega = np.arange(len(cross), dtype=np.float32) * np.float32(2 * np.pi / n)
    sign = np.sign(cross.real.sum()) or 1.0
    weights, delay = np.abs(cross) * omega, 0.0
    # Twice, since the phases of the first time may turn around.
    for _ in range(2):
        angles = np.angle(sign * cross * np.exp(1j * omega * delay))
        delay -= float(weights @ angles) / max(float(weights @ omega), 1e-30)
    return delay if abs(delay) <= 1 else 0.0


def _delay(samples: Floats, delay: float) -> Floats:
    """Shift samples by a part of one."""
    from scipy import fft

    n = fft.next_fast_len(len(samples), real=True)
    spectrum = fft.rfft(samples, n)
    omega = np.arange(len(spectrum), dtype=np.float32) * np.float32(2 * np.pi / n)
    found: Floats = fft.irfft(spectrum * np.exp(-1j * omega * delay), n)[: len(samples)]
    return found.astype(np.float32, copy=False)


def _agree(x: Floats, y: Floats, rate: int, highest: float) -> float:
    """Compare phases over all cells of time and frequency that are heard in both."""
    size = _FRAMES[0] if len(x) >= 16 * _FRAMES[0] else _FRAMES[1]
    if len(x) < size:
        return 0.0
    cells = [_cells(samples, size) for samples in (x, y)]
    hz = np.arange(size // 2 + 1) * rate / size
    heard: Array = np.broadcast_to((hz > _LOWEST_HZ[1]) & (hz < 0.9 * highest), cells[0].shape)
    sizes = [np.abs(one) for one in cells]
    for one in sizes:
        heard = heard & (one > one.max() * 10 ** (-_CELL_DB / 20))
    if not heard.any():
        return 0.0
    products = (cells[0][heard] * cells[1][heard].conj()).real
    return float((products / (sizes[0][heard] * sizes[1][heard])).mean())


def _agrees_all_over(x: Floats, y: Floats) -> bool:
    """Tell whether samples correlate in nearly all parts of time and frequency."""
    size = _FRAMES[0] if len(x) >= 16 * _FRAMES[0] else _FRAMES[1]
    if len(x) < (_PART + 1) * size:
        return False
    a, b = (_cells(samples, size) for samples in (x, y))

    def gather(cells: Floats) -> Floats:
        n, m = len(cells) // _PART, cells.shape[1] // _PART
        parts = cells[: n * _PART, : m * _PART].reshape(n, _PART, m, _PART)
        found: Floats = parts.sum(axis=(1, 3))
        return found

    powers = [gather(np.square(np.abs(one))) for one in (a, b)]
    heard = np.logical_and.reduce([p > p.max() * 10 ** (-_PART_DB / 10) for p in powers])
    if not heard.any():
        return False
    parts = gather((a * b.conj()).real)[heard] / np.sqrt(powers[0] * powers[1])[heard]
    return bool(np.quantile(parts, _WORST_PARTS) >= _CODED_PART)


def _cells(samples: Floats, size: int) -> Array:
    """Return the spectra of frames that overlap by half."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: size // 2]
    found: Array = np.fft.rfft(frames * np.hanning(size).astype(np.float32))
    return found
