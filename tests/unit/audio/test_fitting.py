"""Settings that follow from rates and lengths: what must hold of all, and of some by name."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelkit.audio import fitting
from labelkit.audio.features import check_spec, compute_whole, count_frames
from labelkit.audio.fitting import fit_features
from labelkit.audio.spool import InMemory
from labelkit.config import FeatureSpec, InputSpec, create_spec


def as_spec(found):
    """The settings of a spectrogram, checked as those of a recipe are."""
    values = asdict(found)
    create_spec(InputSpec, {"frames": values.pop("frames")})
    return create_spec(FeatureSpec, values)


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
    ("length_s", "frames"), [(5.0, 128), (4.0, 128), (3.0, 127), (1.0, 51), (0.5, 51), (30.0, 128)]
)
def test_a_network_gets_half_the_frames_and_no_silence(length_s, frames):
    mine = fit_features([16000] * 3, [length_s] * 3, for_network=True)
    other = fit_features([16000] * 3, [length_s] * 3)
    assert mine.hop_length == pytest.approx(2 * other.hop_length, abs=1)
    assert mine.n_mels == 32
    assert mine.frames == pytest.approx(frames, abs=2)
    # A clip fills its window.
    assert (mine.frames - 2) * mine.hop_length <= max(length_s, 0.1) * 16000


def test_lengths_nobody_knows_count_as_long():
    assert fit_features([32000], [np.nan]) == fit_features([32000], [20.0])
    assert fit_features([32000], []) == fit_features([32000], [20.0])


def test_the_usual_length_counts_not_the_longest():
    some = fit_features([16000] * 10, [0.5] * 9 + [600.0])
    assert some == fit_features([16000] * 10, [0.5] * 10)
    # But four fifths shall fit into a network's window.
    most = fit_features([16000] * 10, [1.0] * 6 + [2.0] * 4, for_network=True)
    assert (most.frames - 1) * most.hop_length >= 2.0 * 16000


@given(
    rates=st.lists(st.floats(1, 400_000), min_size=1, max_size=8),
    lengths=st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=8),
    for_network=st.booleans(),
)
def test_whatever_the_recordings_the_settings_can_be_used(rates, lengths, for_network):
    found = fit_features(rates, lengths, for_network=for_network)
    spec = as_spec(found)
    check_spec(spec)
    assert fitting.RATES_HZ[0] <= found.sample_rate <= fitting.RATES_HZ[1]
    assert fitting.WINDOW_FRAMES[0] <= found.frames <= fitting.WINDOW_FRAMES[1]
    assert found.hop_length <= found.n_fft / 2 or found.hop_length <= 1 + (
        fitting.NETWORK_STRIDE * fitting.LONGEST_HOP_S * found.sample_rate
    )
    usual = float(np.median(lengths))
    n_frames = count_frames(round(usual * found.sample_rate), spec)
    # Unless a sample is longer than that, the usual clip has frames enough, and never too many.
    least, share = fitting.FRAMES[0], fitting.NETWORK_STRIDE if for_network else 1
    if usual > 0.1 and found.hop_length > 10:
        assert n_frames >= least / share * 0.9


@pytest.mark.parametrize("rate", [1000, 2000, 8000, 44100])
@pytest.mark.parametrize("length_s", [0.05, 0.3, 2.0])
def test_no_band_is_silent_in_noise(rate, length_s):
    found = fit_features([rate], [length_s])
    noise = np.random.default_rng(0).normal(size=round(rate * length_s)).astype(np.float32)
    frames = compute_whole(InMemory(noise), as_spec(found))
    assert (frames.max(axis=0) > -60).all()
