"""The same sound, whatever was done to it, and what only sounds like it."""

import numpy as np
import pytest
import soxr

from labelkit.audio.alignment import Alignment, align, prepare

RATE = 16000


def noise(seed=0, seconds=1.0, level=0.1, rate=RATE):
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(int(seconds * rate))).astype(np.float32)


def note(hz, seed=0, seconds=1.0):
    """A tone with overtones that dies away, and a little noise of its own."""
    t = np.arange(int(seconds * RATE)) / RATE
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, 6)
    tones = sum(np.sin(2 * np.pi * hz * k * t + phases[k]) / k for k in range(1, 6))
    return (0.2 * np.exp(-3 * t) * tones).astype(np.float32) + noise(seed + 1, seconds, 2e-3)


def burst(seed=0):
    """A knock: noise that dies away within a tenth of a second, then silence."""
    wave = np.zeros(RATE, np.float32)
    wave[2000:8000] = noise(seed, 0.375) * np.exp(-np.arange(6000) / 1500)
    return wave


def mono(wave):
    return np.asarray(wave, np.float32)[:, None]


def zeroed(wave, start, stop):
    copy = wave.copy()
    copy[start:stop] = 0
    return copy


def clip(wave, level):
    return np.clip(wave, -level, level)


def through(wave, rate):
    return soxr.resample(wave, RATE, rate)


N, LONG, NOTE, KNOCK = noise(), noise(1, 3), note(220), burst()
FALLING = np.cumsum(noise(5)).astype(np.float32)
FALLING = 0.5 * FALLING / np.abs(FALLING).max()
STEREO = np.column_stack([noise(7), noise(8)])
# Two recordings and their rates, and where in the first one the second one begins.
SAME = {
    "itself": (mono(N), RATE, mono(N), RATE, 0),
    "fainter": (mono(N), RATE, mono(0.01 * N), RATE, 0),
    "in steps of 16 bits": (mono(N), RATE, mono(np.round(0.01 * N * 32767) / 32767), RATE, 0),
    "clipped": (mono(N), RATE, mono(clip(N, 0.15)), RATE, 0),
    "inverted": (mono(N), RATE, mono(-N), RATE, 0),
    "cut at its begin": (mono(N), RATE, mono(N[4000:]), RATE, 0.25),
    "cut at its end": (mono(N), RATE, mono(N[:-4000]), RATE, 0),
    "another begin and end of one": (mono(N[2000:]), RATE, mono(N[:-2000]), RATE, -0.125),
    "a second of three": (mono(LONG), RATE, mono(LONG[17000:33000]), RATE, 1.0625),
    "silence before": (mono(N), RATE, mono(np.concatenate([np.zeros(5000), N])), RATE, -0.3125),
    "silence around a knock": (
        mono(KNOCK), RATE, mono(np.concatenate([np.zeros(9000), KNOCK, np.zeros(9000)])), RATE,
        -0.5625,
    ),
    "a part set to zero": (mono(N), RATE, mono(zeroed(N, 3000, 6000)), RATE, 0),
    "with noise": (mono(N), RATE, mono(N + noise(9, 1, 0.01)), RATE, 0),
    "a note with noise": (mono(NOTE), RATE, mono(NOTE + noise(9, 1, 1e-3)), RATE, 0),
    "at another rate": (mono(N), RATE, mono(through(N, 44100)), 44100, 0),
    "at half its rate": (mono(N), RATE, mono(through(N, 8000)), 8000, 0),
    "down to 8 kHz and up again": (
        mono(N), RATE, mono(soxr.resample(through(N, 8000), 8000, 32000)), 32000, 0,
    ),
    "cut between two samples": (
        mono(through(LONG, 48000)), 48000, mono(through(LONG, 48000)[10001:]), 48000, 10001 / 48000,
    ),
    "its left channel": (STEREO, RATE, mono(STEREO[:, 0]), RATE, 0),
    "its right channel, inverted": (mono(-STEREO[:, 1]), RATE, STEREO, RATE, 0),
    "its mix": (STEREO, RATE, mono(STEREO.mean(axis=1)), RATE, 0),
    "a note cut": (mono(NOTE), RATE, mono(NOTE[1600:]), RATE, 0.1),
    "with a slow offset": (mono(FALLING), RATE, mono(0.3 * FALLING[3000:]), RATE, 0.1875),
    "a twentieth of a second": (mono(N[:800]), RATE, mono(0.1 * N[:800]), RATE, 0),
    "in units of 24 bits": (mono(N), RATE, mono(N * 2.0**23), RATE, 0),
}  # fmt: skip
ALIKE = {
    "two noises": (N, noise(2)),
    "two short noises": (noise(3, 0.05), noise(4, 0.05)),
    "two knocks": (burst(1), burst(2)),
    "two notes of one pitch": (note(220, 3), note(220, 4)),
    "two high notes of one pitch": (note(1500, 3), note(1500, 4)),
    "one hum below two noises": (
        N + 2 * np.sin(2 * np.pi * 50 * np.arange(RATE) / RATE),
        noise(2) + 2 * np.sin(2 * np.pi * 50 * np.arange(RATE) / RATE),
    ),
    "one hum of 100 Hz below two noises": (
        0.1 * N + np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE),
        0.1 * noise(2) + np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE),
    ),
    "one note in two mixtures": (NOTE + note(330, 8), NOTE + note(277, 9)),
    "one knock, and another one over silence": (
        np.concatenate([KNOCK, burst(1), np.zeros(RATE)]),
        np.concatenate([KNOCK, np.zeros(RATE), burst(2)]),
    ),
    "a tenth of a second in common": (
        np.concatenate([N, noise(2)[:1600]]), np.concatenate([noise(2)[:1600], noise(3)]),
    ),
    "noise and silence": (N, np.zeros(RATE)),
    "silence and silence": (np.zeros(RATE), np.zeros(RATE)),
    "noise and an offset": (N, np.full(RATE, 0.5)),
    "noise and nothing": (N, np.zeros(0)),
    "nothing and a sample": (np.zeros(0), np.ones(1)),
    "noise and a click": (N, np.eye(1, RATE, 800)[0]),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("turned", [False, True])
def test_copies_are_the_same_sound(name, turned):
    first, rate, second, other_rate, offset_s = SAME[name]
    sounds = [prepare(first, rate), prepare(second, other_rate)]
    found = align(*sounds[:: -1 if turned else 1])
    assert found.is_same, found
    assert found.offset_s == pytest.approx(-offset_s if turned else offset_s, abs=1e-3)
    assert 0 < found.overlap_s <= 3 and found.correlation <= 1


@pytest.mark.parametrize("name", ALIKE)
def test_what_is_alike_is_not_the_same(name):
    first, second = (prepare(mono(wave), RATE) for wave in ALIKE[name])
    for found in (align(first, second), align(second, first)):
        assert not found.is_same, found
        assert np.isfinite([found.correlation, found.agreement, found.offset_s]).all()


def test_correlation_is_that_of_the_samples():
    copy = N + noise(9, 1, 0.02)
    found = align(prepare(mono(N), RATE), prepare(mono(copy), RATE))
    assert found.correlation == pytest.approx(np.corrcoef(N, copy)[0, 1], abs=2e-3)


@pytest.mark.parametrize(
    ("correlation", "agreement", "same"),
    [(0.95, 0.45, True), (0.9499, 1.0, False), (1.0, 0.44, False), (0.0, 0.0, False)],
)
def test_samples_and_phases_both_decide(correlation, agreement, same):
    assert Alignment(correlation, agreement).is_same == same
