"""A synthesised set whose every label error is known.

Ten classes differ by how their sound moves in time, not by their mean spectrum: a
rising glide and a falling one, a bell and the same bell backwards. So a bag of frames
does not tell them apart, and a network that hears windows does. Pitch, length, place,
timbre, background and level vary within every class.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelkit.types import Floats

SAMPLE_RATE = 16_000
CLIP_S = 3.0
N_TRAIN, N_TEST = 32, 12
VERIFIED_SHARE, WRONG_SHARE = 0.4, 0.35

_Wave = Floats


@dataclass(frozen=True)
class DemoClip:
    """One clip of the set: its file name, what it is, and what its label says."""

    fname: str
    truth: str
    label: str
    verified: bool
    subset: str


def plan_demo(seed: int, *, n_train: int = N_TRAIN, n_test: int = N_TEST) -> list[DemoClip]:
    """Choose labels: 40 % of the training clips verified, 35 % of the others mislabelled.

    Args:
        seed: Everything follows from it.
        n_train: Training clips of a class.
        n_test: Held-out clips of a class, all labelled right.

    Returns:
        One entry a clip, in the order of the file names.
    """
    rng = np.random.default_rng(seed)
    classes = sorted(SOUNDS)
    clips = []
    for truth in classes:
        n_verified = round(VERIFIED_SHARE * n_train)
        n_wrong = round(WRONG_SHARE * (n_train - n_verified))
        kinds = rng.permutation(
            ["verified"] * n_verified
            + ["wrong"] * n_wrong
            + ["right"] * (n_train - n_verified - n_wrong)
        )
        others = [name for name in classes if name != truth]
        for kind in [*kinds, *["test"] * n_test]:
            label = str(rng.choice(others)) if kind == "wrong" else truth
            clips.append((truth, label, kind == "verified", "test" if kind == "test" else "train"))
    # Numbers that say nothing of the class.
    numbers = rng.permutation(len(clips))
    named = [
        DemoClip(f"{subset}/{number:04d}.wav", truth, label, verified, subset)
        for number, (truth, label, verified, subset) in zip(numbers, clips, strict=True)
    ]
    return sorted(named, key=lambda clip: clip.fname)


def write_demo(folder: Path, clips: list[DemoClip], seed: int) -> None:
    """Write the recordings below ``folder/audio``, ``train.csv``, ``test.csv`` and ``truth.csv``.

    Files that are there already are left alone, so a stopped call can be repeated.
    """
    import soundfile

    # The truth first: it marks the folder as a demonstration's.
    folder.mkdir(parents=True, exist_ok=True)
    truth = [(clip.fname, clip.truth) for clip in clips]
    _write_csv(folder / "truth.csv", ("fname", "label"), truth)
    for number, clip in enumerate(clips):
        path = folder / "audio" / clip.fname
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            samples = synthesise(clip.truth, np.random.default_rng((seed, number)))
            partial = path.with_suffix(".partial")
            soundfile.write(partial, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
            partial.replace(path)
    for name in ("train", "test"):
        rows = [
            (clip.fname, clip.label, int(clip.verified or name == "test"))
            for clip in clips
            if clip.subset == name
        ]
        _write_csv(folder / f"{name}.csv", ("fname", "label", "manually_verified"), rows)


def _write_csv(path: Path, header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def synthesise(name: str, rng: np.random.Generator) -> _Wave:
    """Make one clip of a class, float32, shape ``(SAMPLE_RATE * CLIP_S,)``, peak below 1.

    Args:
        name: A key of ``SOUNDS``.
        rng: Source of everything that varies.
    """
    n = int(SAMPLE_RATE * CLIP_S)
    sound = SOUNDS[name](rng)[:n]
    clip: _Wave = np.zeros(n)
    start = int(rng.integers(0, n - len(sound) + 1))
    clip[start : start + len(sound)] = sound / max(np.abs(sound).max(), 1e-9)
    background = _noise(rng, n, rng.uniform(-2, 0)) * 10 ** (rng.uniform(-30, -8) / 20)
    clip = clip + background
    gain = 10 ** (rng.uniform(-14, -1) / 20)
    scaled: _Wave = gain * clip / np.abs(clip).max()
    return scaled.astype(np.float32)


def _times(seconds: float) -> Floats:
    return np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def _noise(rng: np.random.Generator, n: int, slope: float) -> _Wave:
    """Make noise whose power falls with frequency as ``f ** slope``, peak 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 30)
    noise = np.fft.irfft(spectrum * frequency ** (slope / 2), n)
    scaled: _Wave = noise / np.abs(noise).max()
    return scaled


def _voice(rng: np.random.Generator, frequency: Floats) -> _Wave:
    """Make a harmonic sound along a line of frequencies in Hz, faded in and out."""
    phase = 2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE
    partials = int(rng.integers(1, 6))
    fall = rng.uniform(0.5, 2)
    wave = sum(np.sin(k * phase + rng.uniform(0, 6)) / k**fall for k in range(1, partials + 1))
    fade = min(len(phase) // 4, SAMPLE_RATE // 20)
    envelope = np.ones(len(phase))
    envelope[:fade] = np.linspace(0, 1, fade)
    envelope[-fade:] = np.linspace(1, 0, fade)
    return np.asarray(wave) * envelope


def _glide(rng: np.random.Generator, *, up: bool) -> _Wave:
    t = _times(rng.uniform(0.7, 2.2))
    low = rng.uniform(150, 900)
    line = low * rng.uniform(1.5, 4.0) ** (t / t[-1]) ** rng.uniform(0.6, 1.6)
    return _voice(rng, line if up else line[::-1])


def _siren(rng: np.random.Generator, rate_low: float, rate_high: float) -> _Wave:
    t = _times(rng.uniform(1.2, 2.8))
    sweep = np.sin(2 * np.pi * rng.uniform(rate_low, rate_high) * t + rng.uniform(0, 6))
    return _voice(rng, rng.uniform(250, 1300) * rng.uniform(1.15, 1.8) ** sweep)


def _bell(rng: np.random.Generator) -> _Wave:
    t = _times(rng.uniform(0.6, 1.8))
    base = rng.uniform(200, 1500)
    ratios = np.cumprod(rng.uniform(1.2, 1.9, 5)) / 1.2
    decay = rng.uniform(3, 7)
    ring = sum(
        np.exp(-decay * t * (1 + k / 3)) * np.sin(2 * np.pi * base * ratio * t)
        for k, ratio in enumerate(ratios)
        if base * ratio < SAMPLE_RATE / 2
    )
    wave: _Wave = np.asarray(ring) + 0.02 * rng.standard_normal(len(t)) * np.exp(-30 * t)
    return wave


def _pulses(rng: np.random.Generator, onsets: Floats) -> _Wave:
    """Make short bursts of one timbre at the given times in s."""
    t = _times(rng.uniform(0.03, 0.09))
    tone = np.sin(2 * np.pi * rng.uniform(300, 2500) * t)
    mix = rng.uniform(0, 1)
    burst = (mix * tone + (1 - mix) * _noise(rng, len(t), rng.uniform(-2, 0))) * np.exp(-60 * t)
    wave = np.zeros(int((onsets[-1] + 0.1) * SAMPLE_RATE) + len(t))
    for onset in onsets:
        at = int(onset * SAMPLE_RATE)
        wave[at : at + len(t)] += burst * rng.uniform(0.6, 1)
    return wave


def _knocks(rng: np.random.Generator) -> _Wave:
    """Space the pulses evenly."""
    return _pulses(rng, np.arange(rng.integers(5, 9)) * rng.uniform(0.2, 0.32))


def _gallop(rng: np.random.Generator) -> _Wave:
    """Put the pulses in pairs."""
    period = rng.uniform(0.42, 0.62)
    pairs = np.arange(rng.integers(3, 5))[:, None] * period
    return _pulses(rng, (pairs + np.array([0, period * rng.uniform(0.2, 0.3)])).ravel())


def _bounce(rng: np.random.Generator) -> _Wave:
    """Let the pulses follow ever faster."""
    gaps = rng.uniform(0.35, 0.55) * rng.uniform(0.72, 0.82) ** np.arange(rng.integers(6, 10))
    return _pulses(rng, np.concatenate([[0], np.cumsum(gaps)]))


def _surf(rng: np.random.Generator) -> _Wave:
    """Make noise that swells slowly and breaks off."""
    t = _times(rng.uniform(1.2, 2.6))
    wave: _Wave = _noise(rng, len(t), rng.uniform(-2, 0)) * (t / t[-1]) ** rng.uniform(1.5, 3)
    return wave


def _spray(rng: np.random.Generator) -> _Wave:
    """Make noise that breaks out and dies away slowly."""
    return _surf(rng)[::-1]


SOUNDS: dict[str, Callable[[np.random.Generator], _Wave]] = {
    "Bell": _bell,
    "Bounce": _bounce,
    "Falling_glide": lambda rng: _glide(rng, up=False),
    "Gallop": _gallop,
    "Knocks": _knocks,
    "Reversed_bell": lambda rng: _bell(rng)[::-1],
    "Rising_glide": lambda rng: _glide(rng, up=True),
    "Siren": lambda rng: _siren(rng, 0.5, 1.1),
    "Spray": _spray,
    "Surf": _surf,
}
