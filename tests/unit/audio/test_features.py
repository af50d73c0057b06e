"""Spectrograms: preparation, the definitions, librosa, SoX and the batched version."""

from dataclasses import replace

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import registry
from labelkit.audio import banks, batched, features, io, sox
from labelkit.audio.spool import InMemory, Spool
from labelkit.config import FeatureSpec
from labelkit.errors import InvalidInput

HIGH = {"sample_rate": 44100, "fmin_hz": 20.0, "fmax_hz": 22050.0}
# The settings of the four published systems.
SPECS = {
    "argus": FeatureSpec(**HIGH, n_mels=128, n_fft=2560, hop_length=690, min_s=0.5, short="centre"),
    "dorfer_1": FeatureSpec(
        kind="perceptual_mel", trim="sox", n_mels=128, hop_length=192, fmin_hz=0.0, top_db=99.0
    ),
    "dorfer_2": FeatureSpec(
        kind="log_filter_bank", trim="sox", peak=1.0, n_mels=128, hop_length=128, fmax_hz=14000.0
    ),
    "bouteillon": FeatureSpec(**HIGH, n_mels=128, n_fft=2560, hop_length=694, min_s=2.0),
    "ninth": FeatureSpec(**HIGH, n_mels=64, n_fft=1920, hop_length=690, min_s=4.0),
}
SMALL = FeatureSpec(sample_rate=8000, n_fft=256, hop_length=80, n_mels=16)


def noise(n, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def framed(mono, spec, window):
    starts = range(0, len(mono) - spec.n_fft + 1, spec.hop_length)
    return np.array([np.fft.rfft(window * mono[k : k + spec.n_fft]) for k in starts]).T


def power_of(mono, spec):
    """Centred frames, edges reflected, periodic Hann window, in float64."""
    padded = np.pad(mono.astype(float), spec.n_fft // 2, mode="reflect")
    return np.abs(framed(padded, spec, np.hanning(spec.n_fft + 1)[:-1])) ** 2


def bank_of(spec):
    return librosa.filters.mel(
        sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_mels,
        fmin=spec.fmin_hz, fmax=spec.fmax_hz,
    )  # fmt: skip


# Preparation.


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    front=st.integers(0, 3000),
    sound=st.integers(0, 3000),
    back=st.integers(0, 3000),
    min_s=st.sampled_from([0, 0.1, 0.3, 0.5, 1.3]),
    trim=st.sampled_from(["peak", "sox", "none"]),
    short=st.sampled_from(["pad", "centre"]),
)
def test_prepared_are_long_enough_and_start_where_they_say(front, sound, back, min_s, trim, short):
    quiet = 1e-5 * noise(front + sound + back, 1)
    quiet[front : front + sound] = noise(sound)
    spec = replace(SMALL, trim=trim, trim_db=40.0, min_s=min_s, short=short)
    mono, start_s = features.prepare(quiet[:, None], 8000, spec)
    assert len(mono) >= min_s * 8000 and mono.dtype == np.float32
    start = round(start_s * 8000)
    assert start == pytest.approx(start_s * 8000, abs=1e-6)
    heard = np.flatnonzero(mono)
    if len(heard):
        # SoX scales; apart from that each sample is the recording's.
        gain = np.abs(mono).max() / np.abs(quiet[start + heard]).max()
        assert trim == "sox" or gain == 1
        np.testing.assert_allclose(mono[heard], gain * quiet[start + heard], rtol=1e-5)
    if trim != "none" and sound > 1000:
        assert np.abs(mono).max() >= np.abs(quiet).max() * (1 - 1e-6)


@pytest.mark.parametrize("before", [0, 7000, 12000, 19000])
def test_short_sounds_are_cut_around_their_own_middle(before):
    recording = 1e-6 * noise(20000, 1)
    recording[before : before + 1000] = noise(1000)
    spec = replace(SMALL, trim_db=40.0, min_s=0.5, short="centre")
    mono, start_s = features.prepare(recording[:, None], 8000, spec)
    assert len(mono) == 4000
    loud = np.flatnonzero(np.abs(mono) > 0.01)
    # The frames of the trim are 2,048 samples long.
    assert len(loud) > 850 and abs(loud.mean() - 2000) < 1100
    inside = 2000 < before < 18000
    assert np.all(mono != 0) == inside
    assert start_s * 8000 + loud.mean() == pytest.approx(before + 500, abs=20)


def test_a_recording_that_is_too_short_is_padded_on_both_sides():
    for short in ("pad", "centre"):
        spec = replace(SMALL, min_s=0.5, short=short)
        mono, start_s = features.prepare(noise(1001)[:, None], 8000, spec)
        assert start_s == -1499 / 8000 and len(mono) == 4000
        np.testing.assert_array_equal(mono[1499:2500], noise(1001))
        assert not mono[:1499].any() and not mono[2500:].any()


@pytest.mark.parametrize("n", [0, 1, 100, 3000])
@pytest.mark.parametrize(
    "options",
    [{}, {"speed": 4.0}, {"speed": 0.25}, {"semitones": 24.0}, {"semitones": -24.0},
     {"trim": "sox"}, {"trim": "none"}, {"min_s": 0.1, "short": "centre"}, {"peak": 1.0}],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["log_mel", "perceptual_mel", "log_filter_bank"])
def test_any_length_has_a_frame(kind, options, n):
    spec = replace(SMALL, kind=kind, fmin_hz=100.0, bands_per_octave=5, **options)
    frames, _ = features.compute(noise(n)[:, None], 8000, spec)
    assert len(frames) >= 1 and np.isfinite(frames).all()
    assert frames.dtype == np.float32 and frames.flags["C_CONTIGUOUS"]


def test_peak_scales_to_the_highest_amplitude():
    for trim in ("peak", "sox", "none"):
        mono, _ = features.prepare(noise(8000)[:, None], 8000, replace(SMALL, peak=1.0, trim=trim))
        assert np.abs(mono).max() == pytest.approx(1, abs=1e-6)
    silent, _ = features.prepare(np.zeros((800, 1), np.float32), 8000, replace(SMALL, peak=1.0))
    assert not silent.any()


def highest_hz(mono, rate):
    return np.abs(np.fft.rfft(mono * np.hanning(len(mono)))).argmax() * rate / len(mono)


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.25])
def test_speed_changes_the_length_and_not_the_pitch(speed):
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 8000).astype(np.float32)
    mono, start_s = features.prepare(tone[:, None], 8000, replace(SMALL, speed=speed, trim="none"))
    assert len(mono) == round(16000 / speed) and start_s == 0
    assert highest_hz(mono, 8000) == pytest.approx(440, abs=3)


def test_the_start_of_a_variant_is_in_seconds_of_the_recording():
    recording = np.concatenate([np.zeros(16000, np.float32), noise(8000)])[:, None]
    for speed in (0.5, 1.0, 2.0):
        _, start_s = features.prepare(recording, 8000, replace(SMALL, speed=speed))
        assert start_s == pytest.approx(2, abs=0.4)  # The trim's frames are 0.26 s long.
    padded, start_s = features.prepare(recording, 8000, replace(SMALL, speed=2.0, min_s=3))
    assert len(padded) == 24000 and start_s < 0


@pytest.mark.parametrize("semitones", [-5, 2, 12])
def test_semitones_really_shift_the_pitch(semitones):
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 8000).astype(np.float32)
    spec = replace(SMALL, semitones=float(semitones), trim="none")
    mono, _ = features.prepare(tone[:, None], 8000, spec)
    assert len(mono) == 16000
    assert highest_hz(mono, 8000) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.02)


@pytest.mark.parametrize(
    "change",
    [{"speed": 0.8}, {"speed": 1.3}, {"semitones": 3.0}, {"speed": 1.1, "semitones": -4.0}],
)
@pytest.mark.parametrize("seconds", [6.1, 6.9, 9.0, 13.3])
def test_a_long_variant_is_made_in_parts_without_seams(monkeypatch, change, seconds):
    monkeypatch.setattr(features, "_STRETCHED", 12_000)
    monkeypatch.setattr(features, "_FADE", 2_000)
    monkeypatch.setattr(features, "_LEAD", 8_000)
    spec = replace(SMALL, trim="none", **change)
    n = int(8000 * seconds)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(n) / 8000).astype(np.float32)
    with Spool() as varied:
        stretch = features.place(InMemory(tone), spec, varied).stretch
        mono = stretch.read(0, len(stretch))
    assert len(mono) == pytest.approx(round(n / spec.speed), abs=1)
    pitch = 440 * 2 ** (spec.semitones / 12)
    assert highest_hz(mono, 8000) == pytest.approx(pitch, rel=0.02)
    # Where parts meet, two tones add up to anything; of noise the energies do.
    white = noise(n)
    with Spool() as varied:
        stretch = features.place(InMemory(white), spec, varied).stretch
        mono = stretch.read(0, len(stretch))
    levels = np.sqrt(np.square(mono[: len(mono) // 500 * 500]).reshape(-1, 500).mean(axis=1))
    levels = levels[8:-2]
    assert levels.min() > 0.7 * np.median(levels) and levels.max() < 1.4 * np.median(levels)


def test_no_variant_is_the_recording_itself():
    mono, start_s = features.prepare(noise(8000)[:, None], 8000, replace(SMALL, trim="none"))
    np.testing.assert_array_equal(mono, noise(8000))
    assert start_s == 0


# SoX.


def silent_edges(rate, front_s, back_s, hz):
    """A tone that swells and fades between silent edges with a click in each, -100 dBFS noise."""
    t = np.arange(int(0.6 * rate)) / rate
    tone = 0.4 * np.sin(2 * np.pi * hz * t) * np.sin(np.pi * t / 0.6) ** 4
    front, back = np.zeros(int(front_s * rate)), np.zeros(int(back_s * rate))
    front[len(front) // 3] = 0.9
    back[len(back) // 2 : len(back) // 2 + rate // 250] = 0.2
    samples = np.concatenate([front, tone, back])
    return (samples + 1e-5 * np.cos(np.arange(len(samples)) ** 2 % 7)).astype(np.float32)


# (rate, front_s, back_s, hz) -> first and last (exclusive) sample that SoX 14.4.2 keeps.
SOX = {
    (8000, 0.3, 0.5, 200): (2870, 6811),
    (11025, 0.21, 0.4, 900): (2963, 8393),
    (22050, 0.5, 0.1, 60): (12356, 23205),
    (32000, 0.4, 0.3, 1000): (14681, 30439),
    (44100, 0.25, 0.35, 440): (13613, 35325),
    (48000, 0.1, 0.2, 3000): (7625, 31254),
}


@pytest.mark.parametrize("case", SOX)
def test_silence_is_cut_where_sox_cuts_it(case):
    samples = silent_edges(*case)
    gains, start, stop = sox.normalise_and_trim(InMemory(samples), case[0])
    assert (start, stop) == SOX[case]
    assert np.abs(samples[start:stop] * np.prod(gains)).max() == pytest.approx(
        10 ** (-0.1 / 20), abs=1e-6
    )


def test_a_sound_begins_after_25_ms_above_the_threshold():
    # Measured with SoX: at 32 kHz the window lets a click of 161 samples sound for 25 ms.
    for length, expected in ((160, 20000), (161, 5000)):
        samples = np.zeros(30000)
        samples[5000 : 5000 + length] = samples[20000:] = 0.5
        assert sox.find_sound(samples, 32000) == expected
    for length, expected in ((799, 30000), (800, 29200)):
        samples = np.zeros(30000)
        samples[-length:] = 0.5
        assert sox.find_sound(samples, 32000) == expected


@pytest.mark.parametrize("n", [0, 10, 5000])
def test_what_sox_would_trim_away_is_kept(n):
    for samples in (np.zeros(n, np.float32), np.eye(1, n, n // 2, dtype=np.float32)[0]):
        assert sox.normalise_and_trim(InMemory(samples), 32000) == ((), 0, n)


# Definitions.


def test_log_mel_equals_its_definition_and_librosa():
    spec = FeatureSpec(
        sample_rate=16000, n_fft=512, hop_length=160, n_mels=20, fmax_hz=7000.0, trim="none"
    )
    mono = 10 * noise(16000)
    found, _ = features.compute(mono[:, None], 16000, spec)
    assert found.shape == (101, 20)
    energies = bank_of(spec) @ power_of(mono, spec)
    np.testing.assert_allclose(found.T, 10 * np.log10(np.maximum(energies, 1e-10)), atol=1e-4)
    melspectrogram = librosa.feature.melspectrogram(
        y=mono, sr=16000, n_fft=512, hop_length=160, n_mels=20, fmin=20, fmax=7000,
        pad_mode="reflect",
    )  # fmt: skip
    np.testing.assert_allclose(found.T, librosa.power_to_db(melspectrogram, top_db=None), atol=1e-4)


def test_floor_and_top_db_bound_log_mel():
    mono = np.concatenate([noise(4000), np.zeros(4000, np.float32)])
    assert features.log_mel(mono, replace(SMALL, floor_db=-60.0)).min() == pytest.approx(-60)
    frames = features.log_mel(mono, replace(SMALL, top_db=30.0))
    assert np.ptp(frames) == pytest.approx(30, abs=1e-4)


def test_perceptual_mel_equals_its_definition_and_librosa():
    spec = SPECS["dorfer_1"]
    mono = np.concatenate([noise(16000), np.zeros(8000, np.float32)])
    found = features.perceptual_mel(mono, spec)
    power = power_of(mono, spec)
    hz = np.arange(513) * 32000 / 1024
    decibels = 10 * np.log10(np.maximum(power, 1e-10))
    decibels = np.maximum(decibels, decibels.max() - 99)
    f = hz**2
    with np.errstate(divide="ignore"):
        weights = 2 + 20 * np.log10(
            12194.217**2 * f**2 / (f + 20.598997**2) / (f + 12194.217**2)
            / np.sqrt((f + 107.65265**2) * (f + 737.86223**2))
        )  # fmt: skip
    expected = bank_of(spec) @ (decibels + np.maximum(weights, -80)[:, None])
    np.testing.assert_allclose(found.T, expected, atol=1e-4)
    with np.errstate(divide="ignore"):
        weighted = librosa.perceptual_weighting(power, hz, ref=1, amin=1e-10, top_db=99.0)
    np.testing.assert_allclose(found.T, bank_of(spec) @ weighted, atol=1e-4)


def naive_log_bank(spec):
    """Band by band: corner bins nearest to the pitches, sides by hand, then divided by the sum."""
    per_octave, width = spec.bands_per_octave, spec.sample_rate / spec.n_fft
    pitches = [440 * 2 ** (k / per_octave) for k in range(-12 * per_octave, 8 * per_octave)]
    inside = [hz for hz in pitches if spec.fmin_hz <= hz <= spec.fmax_hz]
    bins = sorted({min(range(spec.n_fft // 2), key=lambda b: abs(b * width - hz)) for hz in inside})
    rows = []
    for low, middle, high in zip(bins, bins[1:], bins[2:], strict=False):
        row = np.zeros(spec.n_fft // 2 + 1)
        for b in range(low, middle):
            row[b] = (b - low) / (middle - low)
        for b in range(middle, high):
            row[b] = (high - b) / (high - middle)
        rows.append(row / row.sum())
    return np.array(rows)


LOG_SPECS = [
    SPECS["dorfer_2"],
    FeatureSpec(
        kind="log_filter_bank", sample_rate=16000, n_fft=512, hop_length=160,
        bands_per_octave=12, n_mels=58, fmin_hz=50.0, fmax_hz=7000.0,
    ),
]  # fmt: skip


@pytest.mark.parametrize("spec", LOG_SPECS)
def test_log_filter_bank_equals_its_definition(spec):
    bank = banks.log_bank(spec)
    expected = naive_log_bank(spec)
    assert bank.shape == expected.shape
    for band, wanted in zip(bank, expected, strict=True):
        np.testing.assert_allclose(band, wanted, atol=1e-12)
    mono = noise(spec.sample_rate // 2 + 1)
    found = features.log_filter_bank(mono, spec)
    n = -(-len(mono) // spec.hop_length)
    assert found.shape == (n, len(bank))
    padded = np.pad(mono, (0, spec.n_fft))
    spectrum = framed(padded, spec, np.hanning(spec.n_fft))[:, :n]
    np.testing.assert_allclose(found.T, np.log10(1 + expected @ np.abs(spectrum)), atol=1e-5)


def test_dorfers_filter_bank_has_128_bands():
    assert len(banks.log_bank(SPECS["dorfer_2"])) == 128
    for spec in SPECS.values():
        features.check_spec(spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_mels": 128, "bands_per_octave": 24}, r"has \d+ bands: n_mels must be \d+, got 128"),
        ({"n_mels": 64, "fmax_hz": 14000.0}, "has 128 bands: n_mels must be 128, got 64"),
        ({"n_mels": 64, "fmin_hz": 0.0}, "needs fmin_hz above 0"),
        ({"kind": "log_mel", "n_mels": 300}, r"\d+ of 300 mel bands hold no frequency"),
        ({"kind": "log_mel", "fmax_hz": 16001.0}, "does not hold"),
        ({"n_mels": 1, "fmin_hz": 100.0, "fmax_hz": 101.0}, "has 0 bands"),
    ],
)
def test_filter_banks_that_cannot_be_are_refused(options, message):
    with pytest.raises(InvalidInput, match=message):
        features.check_spec(FeatureSpec(**{"kind": "log_filter_bank", **options}))


@pytest.mark.parametrize(
    ("name", "seconds", "expected"),
    [
        ("argus", 4, 256), ("ninth", 4, 256), ("ninth", 1, 256), ("bouteillon", 2, 128),
        ("bouteillon", 0.5, 128), ("argus", 0.1, 32), ("dorfer_1", 18, 3001),
        ("dorfer_2", 12, 3000),
    ],
)  # fmt: skip
def test_frame_counts(name, seconds, expected):
    spec = SPECS[name]
    samples = noise(int(seconds * spec.sample_rate))[:, None]
    frames, _ = features.compute(samples, spec.sample_rate, replace(spec, trim="none"))
    assert frames.shape == (expected, spec.n_mels)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("n_frames", [3, 5, 8, 9, 10, 256])
def test_delta_matrix_equals_librosa(n_frames, order):
    matrix = features.delta_matrix(n_frames, order)
    assert matrix.dtype == np.float32 and matrix.shape == (n_frames, n_frames)
    x = 30 * np.random.default_rng(0).standard_normal((2, 4, n_frames))
    width = min(9, n_frames - 1 + n_frames % 2)
    expected = librosa.feature.delta(x, width=width, order=order, mode="interp")
    np.testing.assert_allclose(x @ matrix.T, expected, atol=1e-4)


def test_too_few_frames_have_no_deltas():
    for n_frames in (1, 2):
        assert not features.delta_matrix(n_frames, 1).any()


# Batched.


def assert_agree(reference, found, kind):
    """Within 1e-3 dB down to 80 dB below the maximum; 1e-4 of a log10 unit for the filter bank."""
    assert reference.shape == found.shape and found.dtype == np.float32
    if kind == "log_filter_bank":
        np.testing.assert_allclose(found, reference, atol=1e-4)
    else:
        heard = reference > reference.max() - 80
        np.testing.assert_allclose(found[heard], reference[heard], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_batches_agree_with_the_reference_on_real_clips(shared_data, name):
    spec = SPECS[name]
    clips = sorted((shared_data / "esc10" / "audio").iterdir())
    waves = [features.prepare(*io.read_audio(path), spec)[0] for path in clips[::10]]
    assert len({len(wave) for wave in waves}) > 3
    kind = registry.resolve("feature", spec.kind)
    for wave, found in zip(waves, batched.compute_batch(waves, spec), strict=True):
        assert_agree(kind(wave, spec), found, spec.kind)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("chunk", [2**20, 2**25])
def test_company_and_cuts_change_no_frame(monkeypatch, name, chunk):
    spec = replace(SPECS[name], top_db=50.0)
    monkeypatch.setattr(batched, "_CPU_BYTES", chunk)
    lengths = (0, 1, 700, 20000, 5000, 20001, 90)
    waves = [noise(n, seed) * np.linspace(0, 1, n, dtype=np.float32) for seed, n in
             enumerate(lengths)]  # fmt: skip
    kind = registry.resolve("feature", spec.kind)
    for wave, found in zip(waves, batched.compute_batch(waves, spec), strict=True):
        assert_agree(kind(wave, spec), found, spec.kind)


def test_no_recordings_are_no_spectrograms():
    assert batched.compute_batch([], SMALL) == []


def test_plug_ins_know_no_batches():
    with pytest.raises(InvalidInput, match="cannot be computed in batches"):
        batched.compute_batch([noise(100)], replace(SMALL, kind="package.module:function"))
