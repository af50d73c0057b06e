"""Settings that follow from rates and lengths: what must hold of all, and of some by name."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelkit.audio import fitting
from labelkit.audio.features import check_spec, compute_whole, count_frames
from labelkit.audio.fitting import fit_features
from labelkit.audio.spool import InMemory
from labelkit.config import AUTO, COARSE, FeatureSpec, InputSpec, create_spec, find_words

FINE = FeatureSpec(sample_rate=AUTO, min_s=AUTO, n_fft=AUTO, hop_length=AUTO)
NETWORK = replace(FINE, n_fft=COARSE, hop_length=COARSE, n_mels=32)


def fit_network(rates, lengths):
    """What a network hears: settings of its spectrogram, and how many frames."""
    found = fit_features(rates, lengths)
    spec = found.settle(NETWORK)
    return spec, found.settle_input(InputSpec(frames=AUTO), spec).frames


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([44100] * 10, 44100),
        ([8000], 8000),
        # A few of a lower rate are no reason to hear less of all the others.
        ([44100] * 8 + [8000] * 2, 44100),
        ([44100] * 7 + [8000] * 3, 8000),
        # Between several rates the highest that four fifths reach.
        ([48000] * 3 + [44100] * 3 + [22050] * 2 + [8000] * 2, 22050),
        ([16000] * 9 + [96000], 16000),
        ([96000] * 3 + [192000] * 7, 48000),
        ([500] * 3, 1000),
        # What is not known does not count.
        ([0, np.nan, -1, np.inf, 22050], 22050),
        ([], 32000),
        ([np.nan] * 3, 32000),
        ([11025.4] * 2, 11025),
    ],
)
def test_the_rate_is_one_that_most_recordings_reach(rates, expected):
    assert fit_features(rates, [5.0] * len(rates)).sample_rate == expected


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize(
    ("length_s", "window_s", "hop_s"),
    [
        (5.0, 0.046, 1 / 64),
        (60.0, 0.046, 1 / 64),
        (2.0, 0.046, 0.0115),
        (1.0, 0.046, 0.01),
        (0.5, 0.029, 0.005),
        (0.1, 0.010, 0.001),
        (0.02, 0.010, 0.0002),
    ],
)
def test_window_and_hop_follow_the_length(rate, length_s, window_s, hop_s):
    found = fit_features([rate] * 3, [length_s] * 3)
    least = fitting.LEAST_SAMPLES / rate
    assert found.n_fft / rate == pytest.approx(max(window_s, least), rel=0.06)
    assert found.hop_length == pytest.approx(hop_s * rate, abs=0.5 + 1e-6)
    assert found.min_s == pytest.approx(found.n_fft / rate, abs=6e-4)


@pytest.mark.parametrize(
    ("length_s", "frames"), [(5.0, 128), (4.0, 128), (3.0, 126), (1.0, 51), (0.5, 51), (30.0, 128)]
)
def test_a_network_gets_half_the_frames_and_no_silence(length_s, frames):
    mine, n_frames = fit_network([16000] * 3, [length_s] * 3)
    other = fit_features([16000] * 3, [length_s] * 3).settle(FINE)
    assert mine.hop_length == pytest.approx(2 * other.hop_length, abs=1)
    assert mine.n_fft >= 2 * mine.hop_length - 1
    assert (mine.n_mels, other.n_mels) == (32, 64)
    assert n_frames == pytest.approx(frames, abs=2)
    # A clip fills its window.
    assert (n_frames - 2) * mine.hop_length <= length_s * 16000


def test_lengths_nobody_knows_count_as_long():
    def settings(lengths):
        return replace(fit_features([32000], lengths), length_s=0.0)

    assert settings([np.nan]) == settings([]) == settings([20.0])


def test_the_usual_length_counts_not_the_longest():
    some = fit_features([16000] * 10, [0.5] * 9 + [600.0])
    assert some == fit_features([16000] * 10, [0.5] * 10)
    # But four fifths shall fit into a network's window.
    spec, n_frames = fit_network([16000] * 10, [1.0] * 6 + [2.0] * 4)
    assert (n_frames - 1) * spec.hop_length >= 2.0 * 16000


@given(
    rates=st.lists(st.floats(1, 400_000), min_size=1, max_size=8),
    lengths=st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=8),
    wanted=st.sampled_from([FINE, NETWORK]),
    n_mels=st.sampled_from([1, 16, 64, 200]),
)
def test_whatever_the_recordings_the_settings_can_be_used(rates, lengths, wanted, n_mels):
    found = fit_features(rates, lengths)
    spec = found.settle(replace(wanted, n_mels=n_mels))
    frames = found.settle_input(InputSpec(frames=AUTO), spec).frames
    # As a recipe's settings are checked.
    assert create_spec(FeatureSpec, asdict(spec)) == spec and not find_words(spec)
    check_spec(spec)
    assert spec.n_mels <= n_mels
    assert fitting.RATES_HZ[0] <= found.sample_rate <= fitting.RATES_HZ[1]
    assert fitting.WINDOW_FRAMES[0] <= frames <= fitting.WINDOW_FRAMES[1]
    usual = float(np.median(lengths))
    n_frames = count_frames(round(usual * found.sample_rate), found.settle(FINE))
    # Unless hops are a few samples the usual clip has frames enough.
    if found.hop_length > 10 and usual > 0.1:
        assert n_frames >= 0.9 * fitting.FRAMES[0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # What is a number stays, and what follows keeps its length in seconds.
        ({"sample_rate": 22050}, (22050, 1024, 344)),
        ({"n_fft": 512}, (44100, 512, 689)),
        ({"hop_length": 100}, (44100, 2048, 100)),
        ({"n_fft": 4096, "hop_length": COARSE}, (44100, 4096, 1378)),
        ({"kind": "log_filter_bank"}, (44100, 2048, 689)),
    ],
)
def test_a_number_that_is_given_stays(change, expected):
    spec = fit_features([44100], [5.0]).settle(replace(FINE, **change))
    assert (spec.sample_rate, spec.n_fft, spec.hop_length) == expected
    assert spec.n_mels == 64 and spec.kind == change.get("kind", "log_mel")


def test_bands_that_are_wanted_of_a_given_window_are_not_dropped():
    found = fit_features([8000], [5.0])
    assert found.settle(replace(FINE, n_mels=400)).n_mels < 400
    assert found.settle(replace(FINE, n_mels=400, n_fft=64)).n_mels == 400


@pytest.mark.parametrize("rate", [1000, 2000, 8000, 44100])
@pytest.mark.parametrize("length_s", [0.05, 0.3, 2.0])
def test_no_band_is_silent_in_noise(rate, length_s):
    spec = fit_features([rate], [length_s]).settle(FINE)
    noise = np.random.default_rng(0).normal(size=round(rate * length_s)).astype(np.float32)
    frames = compute_whole(InMemory(noise), spec)
    assert (frames.max(axis=0) > -60).all()


def test_what_was_chosen_is_said_in_a_line():
    found = fit_features([16000] * 500, [1.0] * 500)
    assert found.describe() == (
        "features: 16000 Hz, window 46.9 ms, hop 10 ms, from 500 recordings of 1 s"
    )
