"""How high the content of a recording reaches."""

import shutil
import subprocess
import time

import numpy as np
import pytest
import soundfile
import soxr

from labelkit.audio import io
from labelkit.audio.bandwidth import LoudFrames, find_bandwidth
from labelkit.datasets.demo import synthesise
from tests.support.requirements import absent

RATE = 32000


def noise(rate, seconds=1.0, level=0.1, seed=0):
    return level * np.random.default_rng(seed).standard_normal(int(seconds * rate))


def stored(wave, bits=16):
    """What is left of samples in a file of so many bits."""
    steps = 2 ** (bits - 1) - 1
    return np.round(np.clip(wave, -1, 1) * steps) / steps


def up(wave, low, high=RATE):
    return soxr.resample(wave, low, high)


def bursts(rate, level=0.1):
    """A fifth of a second of noise in silence, as words and knocks are."""
    wave = np.zeros(rate)
    wave[rate // 3 : rate // 3 + rate // 5] = noise(rate, 0.2, level)
    return wave


def falling(rate, db_an_octave, seed=0):
    """Noise that fades out towards the highs."""
    spectrum = np.fft.rfft(noise(rate, seed=seed))
    hz = np.maximum(np.fft.rfftfreq(rate, 1 / rate), 100) / 100
    wave = np.fft.irfft(spectrum * hz ** (-db_an_octave / 6.02), rate)
    return 0.5 * wave / np.abs(wave).max()


def sweep(low, high, seconds=1.0):
    t = np.arange(int(seconds * RATE)) / RATE
    return 0.3 * np.sin(2 * np.pi * (low + (high - low) * t / seconds / 2) * t)


def harmonics(f0, n):
    t = np.arange(RATE) / RATE
    return 0.5 * sum(0.5**k * np.sin(2 * np.pi * f0 * k * t) for k in range(1, n + 1))


ENDS = {
    "noise of 8 kHz": (up(noise(8000), 8000), 4000),
    "of 8 kHz, in 16 bits": (stored(up(stored(noise(8000)), 8000)), 4000),
    "of 8 kHz, faint": (stored(up(stored(noise(8000, level=2e-3)), 8000)), 4000),
    "of 8 kHz, in 24 bits": (stored(up(stored(noise(8000), 24), 8000), 24), 4000),
    "of 8 kHz, then with dither": (
        stored(up(noise(8000), 8000) + np.random.default_rng(1).uniform(-1, 1, RATE) / 32768), 4000,
    ),
    "of 8 kHz, then 12 dB louder": (4 * stored(up(stored(noise(8000, level=0.02)), 8000)), 4000),
    "of 11 kHz": (stored(up(noise(11025), 11025)), 5512),
    "of 16 kHz": (stored(up(noise(16000), 16000)), 8000),
    "of 22 kHz": (stored(up(noise(22050), 22050)), 11025),
    "bursts of 8 kHz": (stored(up(bursts(8000), 8000)), 4000),
    "fading sound of 8 kHz": (stored(up(falling(8000, 12), 8000)), 4000),
    "a twentieth of a second of 8 kHz": (stored(up(noise(8000, 0.05), 8000)), 4000),
    "two channels of 8 kHz": (stored(up(noise(16000).reshape(-1, 2), 8000)), 4000),
}  # fmt: skip
WHOLE = {
    "noise": noise(RATE),
    "faint noise": stored(noise(RATE, level=1e-4)),
    "bursts": stored(bursts(RATE)),
    "6 dB an octave": stored(falling(RATE, 6)),
    "12 dB an octave": stored(falling(RATE, 12)),
    "24 dB an octave": stored(falling(RATE, 24)),
    "48 dB an octave": stored(falling(RATE, 48)),
    "silence": np.zeros(RATE),
    "the steps of 16 bits": stored(noise(RATE, level=2e-5)),
    "a tone": stored(harmonics(440, 1)),
    "a tone at 3 kHz": stored(harmonics(3000, 1)),
    "a low tone with overtones": stored(harmonics(110, 20)),
    "a high tone with overtones": stored(harmonics(1500, 3)),
    "a click": np.eye(1, RATE, 9000)[0],
    "a sweep": stored(sweep(100, 6000)),
    "a fast sweep": stored(sweep(500, 3000, 0.1)),
    "an offset": np.full(RATE, 0.5),
    "nothing": np.zeros(0),
    "too little": up(noise(8000), 8000)[:200],
    "no numbers": np.full(RATE, np.nan),
    "numbers beyond all": np.full(RATE, 1e30),
}


@pytest.mark.parametrize("name", ENDS)
def test_content_that_ends_is_found_to(name):
    wave, hz = ENDS[name]
    assert find_bandwidth(wave, RATE) == pytest.approx(hz, rel=0.06)


@pytest.mark.parametrize("name", WHOLE)
def test_what_only_fades_or_sounds_low_has_the_whole_band(name):
    assert find_bandwidth(WHOLE[name].astype(np.float32), RATE) == RATE / 2


@pytest.mark.parametrize("name", ["Bell", "Falling_glide", "Gallop", "Surf", "Siren"])
@pytest.mark.parametrize("seed", range(4))
def test_synthesised_sounds_have_the_whole_band(name, seed):
    wave = stored(synthesise(name, np.random.default_rng(seed)))
    assert find_bandwidth(wave, 16000) == 8000


@pytest.mark.parametrize("steps", [[1], [100, 5000], [65536], [2048] * 9])
def test_parts_find_what_the_whole_does(steps):
    wave = stored(up(noise(8000), 8000)).astype(np.float32)
    frames, start = LoudFrames(), 0
    for step in steps:
        frames.add(wave[start : start + step])
        start += step
    frames.add(wave[start:])
    edge = frames.find_edge()
    assert edge is not None and edge[0] * RATE == find_bandwidth(wave, RATE)


@pytest.fixture(scope="module")
def decoders():
    if shutil.which("ffmpeg") is None:
        absent("decoders", "ffmpeg is not installed")


def by_ffmpeg(wave, rate, folder, *options):
    """Encode samples by ffmpeg and decode them."""
    soundfile.write(folder / "in.wav", wave, rate)
    target = folder / options[0]
    command = ["ffmpeg", "-v", "error", "-y", "-i", folder / "in.wav", *options[1:], target]
    subprocess.run([str(word) for word in command], check=True)
    return io.read_audio(target)


# The parts of a set that end by themselves, and of those at 8 kHz that are seen to end.
SETS = [
    ("arabic_commands", 0.0, 0.9),
    ("instrument_notes", 0.0, 0.75),
    ("motor_throttle", 0.0, 0.95),
    ("finch_syllables_gy", 0.0, 0.95),
    ("body_percussion_tags", 0.0, 0.85),
    ("instrument_mix_tags", 0.0, 0.85),
    ("esc10", 0.05, 0.8),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "false", "found"), SETS)
def test_real_clips_end_once_they_were_sampled_up(name, false, found, shared_data):
    files = sorted((shared_data / name).rglob("*.flac")) or sorted(
        (shared_data / name).rglob("*.ogg")
    )
    files = files[:: len(files) // 25]
    low, before = [], []
    for file in files:
        samples, rate = io.read_audio(file)
        mono = samples.mean(axis=1)
        before.append(find_bandwidth(mono, rate) < 0.6 * rate / 2)
        wave = stored(up(stored(soxr.resample(mono, rate, 8000)), 8000))
        low.append(find_bandwidth(wave, RATE))
    assert np.mean(before) <= false
    assert np.mean([3600 < hz < 4300 for hz in low]) >= found
    assert all(3400 < hz < 4300 or hz == RATE / 2 for hz in low)


@pytest.mark.usefixtures("decoders")
@pytest.mark.parametrize(
    "options",
    [
        ("x.wav", "-ar", "32000"),
        ("x.wav", "-ar", "44100", "-af", "aresample=resampler=soxr"),
        ("x.flac", "-ar", "48000", "-dither_method", "triangular"),
        ("x.mp3", "-ar", "32000", "-b:a", "128k"),
    ],
)
def test_what_ffmpeg_sampled_up(options, tmp_path):
    # Its own resampler has a slope up to 4.7 kHz.
    samples, rate = by_ffmpeg(noise(8000), 8000, tmp_path, *options)
    assert 3700 < find_bandwidth(samples, rate) < 4700


@pytest.mark.usefixtures("decoders")
@pytest.mark.parametrize(("bits", "highest"), [("32k", 9000), ("64k", 17000), ("128k", 21000)])
def test_what_a_coder_of_few_bits_left(bits, highest, tmp_path):
    samples, rate = by_ffmpeg(noise(44100, 2), 44100, tmp_path, "x.mp3", "-b:a", bits)
    assert 0.7 * highest < find_bandwidth(samples, rate) < highest


def test_it_is_cheap():
    wave = noise(44100, 5).astype(np.float32)
    find_bandwidth(wave, 44100)
    start = time.process_time()
    for _ in range(10):
        find_bandwidth(wave, 44100)
    assert (time.process_time() - start) / 10 < 0.05
