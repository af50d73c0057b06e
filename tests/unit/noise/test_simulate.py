"""Planted noise: counts, truth and distributions are exact and follow the seed."""

import math

import numpy as np
import pytest

from labelkit.errors import InvalidInput
from labelkit.noise.simulate import (
    KINDS,
    distort,
    plant_confusable,
    plant_extra,
    plant_missing,
    plant_out_of_vocabulary,
    plant_uniform,
)

SINGLE = np.eye(10)[np.arange(400) % 10]
SEVERAL = (np.random.default_rng(5).random((300, 12)) < 0.25).astype(int)
SIMILARITY = np.random.default_rng(6).random((12, 12))
PLANTERS = {
    "uniform": plant_uniform,
    "confusable": lambda labels, **options: plant_confusable(
        labels, SIMILARITY[: labels.shape[1], : labels.shape[1]], **options
    ),
    "missing": lambda labels, **options: plant_missing(labels, allow_empty=True, **options),
    "extra": plant_extra,
    "out_of_vocabulary": plant_out_of_vocabulary,
}


@pytest.fixture(params=PLANTERS)
def plant(request):
    return PLANTERS[request.param]


@pytest.mark.parametrize("labels", [SINGLE, SEVERAL], ids=["single", "several"])
@pytest.mark.parametrize("rate", [0, 0.05, 0.1])
def test_the_truth_is_exact(plant, labels, rate):
    before = labels.copy()
    planted = plant(labels, rate=rate, seed=3)
    assert (labels == before).all()
    assert planted.labels.dtype == np.float32 and set(np.unique(planted.labels)) <= {0, 1}
    assert (np.abs(planted.labels - labels) == (planted.wrong | planted.missing)).all()
    assert not (planted.wrong & (labels > 0)).any() and not (planted.missing & (labels == 0)).any()
    assert planted.clips.any() == (rate > 0)


def test_seeds(plant):
    first, again, other = (plant(SEVERAL, rate=0.1, seed=seed) for seed in (1, 1, 2))
    assert (first.labels == again.labels).all() and (first.labels != other.labels).any()
    by_generator = plant(SEVERAL, rate=0.1, seed=np.random.default_rng(1))
    assert (first.labels == by_generator.labels).all()


def test_bool_labels_are_as_good(plant):
    found, expected = (plant(x, rate=0.1, seed=1) for x in (SEVERAL > 0, SEVERAL))
    assert (found.labels == expected.labels).all()


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
def test_selfcleans_counts(rate):
    """20, 40 and 80 flips among the 400 clips of ESC-10, as its protocol has them."""
    for name in ("uniform", "confusable"):
        planted = PLANTERS[name](SINGLE, rate=rate, seed=42)
        assert planted.clips.sum() == math.ceil(rate * 400)
        assert (planted.labels.sum(axis=1) == 1).all()
        assert (planted.wrong.any(axis=1) == planted.clips).all()
        assert (planted.missing.any(axis=1) == planted.clips).all()


def test_counts_are_rounded_up_but_not_by_rounding_errors():
    assert 0.07 * 100 > 7
    assert plant_uniform(SINGLE[:100], rate=0.07, seed=0).clips.sum() == 7
    assert plant_uniform(SINGLE[:100], rate=0.071, seed=0).clips.sum() == 8
    assert plant_missing(SEVERAL, rate=0.1, seed=0).missing.sum() == math.ceil(SEVERAL.sum() * 0.1)
    assert plant_extra(SEVERAL, rate=0.1, seed=0).wrong.sum() == math.ceil(SEVERAL.sum() * 0.1)


def test_only_eligible_clips_change_and_the_rate_counts_among_them(plant):
    """The protocol of 40 % verified and 35 % of the others wrong."""
    eligible = np.random.default_rng(0).random(400) > 0.4
    planted = plant(SINGLE, rate=0.35, seed=1, eligible=eligible)
    # Two extra labels may fall on one clip.
    found = planted.wrong.sum() if plant is plant_extra else planted.clips.sum()
    assert found == math.ceil(0.35 * eligible.sum())
    assert not planted.clips[~eligible].any()
    assert not planted.wrong[~eligible].any()
    if plant is not plant_out_of_vocabulary:
        assert (planted.labels[~eligible] == SINGLE[~eligible]).all()


def test_one_of_several_labels_is_replaced():
    planted = plant_uniform(SEVERAL, rate=0.5, seed=2)
    assert (planted.wrong[planted.clips].sum(axis=1) == 1).all()
    assert (planted.missing[planted.clips].sum(axis=1) == 1).all()
    assert (planted.labels.sum(axis=1) == SEVERAL.sum(axis=1)).all()
    assert SEVERAL[planted.clips].any(axis=1).all()


def shares(counts):
    return counts / counts.sum(axis=-1, keepdims=True)


def test_uniform_noise_is_uniform_over_other_classes():
    labels = np.eye(5)[np.zeros(20_000, int)]
    counts = plant_uniform(labels, rate=1, seed=0).labels.sum(axis=0)
    assert counts[0] == 0
    np.testing.assert_allclose(shares(counts[1:]), 0.25, atol=0.015)


def test_confusable_noise_follows_the_similarity():
    truth = np.arange(30_000) % 3
    similarity = np.array([[9.0, 1, 3], [0, 5, 2], [6, 4, 0]])
    noisy = plant_confusable(np.eye(3)[truth], similarity, rate=1, seed=0).labels
    found = shares(np.stack([noisy[truth == label].sum(axis=0) for label in range(3)]))
    np.testing.assert_allclose(found, [[0, 0.25, 0.75], [0, 0, 1], [0.6, 0.4, 0]], atol=0.02)


def test_a_class_like_no_other_is_never_mistaken():
    similarity = np.array([[0, 0, 0], [1, 0, 1], [1, 1, 0]])
    labels = np.eye(3)[[0, 0, 1, 2]]
    planted = plant_confusable(labels, similarity, rate=0.5, seed=0)
    assert planted.clips.tolist() == [False, False, True, True]
    with pytest.raises(InvalidInput, match="asks for 3 clips, only 2 eligible ones have a label"):
        plant_confusable(labels, similarity, rate=0.75, seed=0)


def test_missing_labels_fall_evenly_and_leave_one():
    labels = np.ones((4000, 3))
    planted = plant_missing(labels, rate=0.5, seed=0)
    assert planted.missing.sum() == 6000 and not planted.wrong.any()
    assert planted.labels.sum(axis=1).min() == 1
    np.testing.assert_allclose(shares(planted.missing.sum(axis=0)), 1 / 3, atol=0.02)
    emptied = plant_missing(labels, rate=0.5, seed=0, allow_empty=True)
    # A clip loses all three of its labels with chance 1/8.
    assert (emptied.labels.sum(axis=1) == 0).mean() == pytest.approx(1 / 8, abs=0.02)
    with pytest.raises(InvalidInput, match="asks to drop 40 labels, 0 can go"):
        plant_missing(SINGLE, rate=0.1, seed=0)
    assert plant_missing(SINGLE, rate=0.1, seed=0, allow_empty=True).missing.sum() == 40


def test_extra_labels_fall_evenly_on_labelled_clips():
    labels = np.eye(4)[np.zeros(9000, int)]
    labels[6000:] = 0
    planted = plant_extra(labels, rate=0.5, seed=0)
    assert planted.wrong.sum() == 3000 and not planted.missing.any()
    assert not planted.labels[6000:].any()
    np.testing.assert_allclose(shares(planted.wrong.sum(axis=0)[1:]), 1 / 3, atol=0.03)
    with pytest.raises(InvalidInput, match="asks to add 2 labels, only 0 are absent"):
        plant_extra(np.ones((1, 2)), rate=1, seed=0)


def test_out_of_vocabulary_hides_classes():
    planted = plant_out_of_vocabulary(SINGLE, rate=0.1, seed=0, classes=[2, 7])
    assert not planted.labels[:, [2, 7]].any()
    hidden = SINGLE[:, [2, 7]].any(axis=1)
    assert planted.clips.sum() == 40 and not planted.clips[~hidden].any()
    assert (planted.labels.sum(axis=1) == (planted.clips | ~hidden)).all()
    assert (planted.wrong.any(axis=1) == planted.clips).all()
    assert (planted.missing.any(axis=1) == hidden).all()
    assert (planted.labels[~hidden] == SINGLE[~hidden]).all()
    assert (planted.wrong.sum(axis=0) > 0).sum() == 8


def test_out_of_vocabulary_draws_as_many_classes_as_it_needs():
    for rate, n in ((0.1, 1), (0.11, 2), (0.3, 3)):
        planted = plant_out_of_vocabulary(SINGLE, rate=rate, seed=4)
        assert (planted.labels.sum(axis=0) == 0).sum() == n
        assert planted.clips.sum() == math.ceil(400 * rate)


def test_a_clip_with_other_labels_only_loses_the_hidden_one():
    planted = plant_out_of_vocabulary(
        np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]]), rate=0.3, seed=0, classes=[0]
    )
    assert planted.clips.tolist() == [False, True, False]
    assert planted.labels[0].tolist() == [0, 1, 0] and planted.missing[0].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plant_uniform(SINGLE, rate=1.1, seed=0), "rate 1.1 must be from 0 to 1"),
        (lambda: plant_missing(SINGLE, rate=float("nan"), seed=0), "rate nan must be from 0"),
        (lambda: plant_extra(SINGLE * 2, rate=0.1, seed=0), "multi-hot"),
        (
            lambda: plant_uniform(SINGLE, rate=0.1, seed=0, eligible=np.ones(3, bool)),
            r"eligible must be a mask of shape \(400,\), got bool of shape \(3,\)",
        ),
        (
            lambda: plant_uniform(SINGLE, rate=0.1, seed=0, eligible=np.arange(400)),
            "got int64 of shape",
        ),
        (
            lambda: plant_confusable(SINGLE, np.ones((3, 3)), rate=0.1, seed=0),
            r"similarity must have shape \(10, 10\), got \(3, 3\)",
        ),
        (
            lambda: plant_confusable(SINGLE, -np.ones((10, 10)), rate=0.1, seed=0),
            "its lowest value is -1.0",
        ),
        (
            lambda: plant_out_of_vocabulary(SINGLE, rate=0.2, seed=0, classes=[1]),
            "asks for 80 clips, only 40 eligible ones have hidden classes alone",
        ),
        (
            lambda: plant_out_of_vocabulary(SINGLE, rate=0.2, seed=0, classes=[10]),
            "there is no class 10, only 0 to 9",
        ),
        (
            lambda: plant_out_of_vocabulary(SINGLE, rate=1, seed=0),
            "all 10 classes would be hidden",
        ),
        (lambda: plant_uniform(np.ones((4, 2)), rate=0.5, seed=0), "asks for 2 clips, only 0"),
        (
            lambda: distort(np.zeros(9), 8000, "echo", np.random.default_rng(0)),
            "no kind of copy called 'echo'; known: exact, gain, noise, crop",
        ),
        (
            lambda: distort(np.zeros((9, 2)), 8000, "gain", np.random.default_rng(0)),
            r"shape \(n_samples,\), got \(9, 2\)",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()


def tone(n=8000, rate=8000):
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(n) / rate)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_stay_recordings_and_follow_the_generator(kind):
    for seed in range(20):
        copy, again = (distort(tone(), 8000, kind, np.random.default_rng(seed)) for _ in "ab")
        assert copy.dtype == np.float32 and np.abs(copy).max() <= 1
        np.testing.assert_array_equal(copy, again)
        assert len(distort(tone(0), 8000, kind, np.random.default_rng(seed))) == 0


def test_an_exact_copy_is_a_copy():
    samples = tone()
    copy = distort(samples, 8000, "exact", np.random.default_rng(0))
    assert (copy == samples).all() and not np.shares_memory(copy, samples)


def test_gains_span_their_range_and_clip():
    gains = []
    for seed in range(200):
        copy = distort(tone(), 8000, "gain", np.random.default_rng(seed))
        gains.append(20 * np.log10(copy[1] / tone()[1]))
        factor = copy[1] / tone()[1]
        np.testing.assert_allclose(copy, np.clip(tone() * factor, -1, 1), atol=1e-5)
    assert -20 <= min(gains) < -18 and 10 < max(gains) <= 12.001


def test_noise_lies_below_the_clip():
    ratios = []
    for seed in range(100):
        noise = distort(tone(), 8000, "noise", np.random.default_rng(seed)) - tone()
        ratios.append(10 * np.log10((tone() ** 2).mean() / (noise**2).mean()))
    assert 9.5 < min(ratios) < 13 and 27 < max(ratios) < 30.5
    silence = np.zeros(10, np.float32)
    assert not distort(silence, 8000, "noise", np.random.default_rng(0)).any()


def test_crops_are_parts_of_the_clip_faded_where_they_are_cut():
    ramp = np.linspace(0, 1, 40)
    seen = set()
    for seed in range(60):
        copy = distort(np.arange(1, 8001) / 8000, 8000, "crop", np.random.default_rng(seed))
        assert 0.75 * 8000 - 1 <= len(copy) <= 0.9 * 8000
        begin = round(copy[100] * 8000) - 101
        end = begin + len(copy)
        expected = np.arange(begin + 1, end + 1) / 8000
        if begin > 0:
            expected[:40] *= ramp
        if end < 8000:
            expected[-40:] *= ramp[::-1]
        np.testing.assert_allclose(copy, expected, atol=1e-12)
        seen.add((begin > 0, end < 8000))
    assert seen == {(True, False), (False, True), (True, True)}
