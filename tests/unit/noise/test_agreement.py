"""The number for a judge: agreement with the given labels beside what chance gives."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, cohen_kappa_score

from labelkit.errors import InvalidInput
from labelkit.noise.agreement import measure_agreement, proportion_bounds


def guesses(n=600, n_classes=6, skill=0.0, seed=0):
    """Single labels, and a judge that knows a share of them and guesses the others."""
    rng = np.random.default_rng(seed)
    given = rng.choice(n_classes, n, p=np.arange(1, n_classes + 1) / np.arange(n_classes + 1).sum())
    said = np.where(rng.random(n) < skill, given, rng.permutation(given))
    return given, said, np.eye(n_classes)[said] * 0.5 + rng.random((n, n_classes)) * 0.1


@pytest.mark.parametrize("skill", [0, 0.3, 0.9, 1])
def test_skill_on_single_labels_is_cohens_kappa(skill):
    given, said, probs = guesses(skill=skill)
    found = measure_agreement(np.eye(6)[given], probs)
    assert (found.measure, found.clips) == ("accuracy", 600)
    assert found.agreement == pytest.approx((given == said).mean())
    assert found.skill == pytest.approx(cohen_kappa_score(given, said))
    assert found.low < found.agreement <= found.high and found.skill_low < found.skill
    assert found.skill == pytest.approx(skill, abs=0.06)


def test_naming_the_most_frequent_class_is_no_skill():
    labels = np.eye(2)[[0] * 95 + [1] * 5]
    found = measure_agreement(labels, np.tile([0.9, 0.1], (100, 1)))
    assert (found.agreement, found.chance, found.skill) == (0.95, 0.95, 0)


def test_chance_of_average_precision_is_the_mean_over_all_orders():
    labels = np.array([[1, 0], [1, 1], [0, 1], [0, 1], [0, 1]])
    orders = list(itertools.permutations(range(5)))
    means = [
        np.mean([average_precision_score(column, order) for order in orders]) for column in labels.T
    ]
    found = measure_agreement(labels, np.random.default_rng(0).random((5, 2)))
    assert found.chance == pytest.approx(np.mean(means))


@pytest.mark.parametrize("ties", [False, True])
def test_macro_average_precision_is_scikit_learns(ties):
    rng = np.random.default_rng(3)
    labels = rng.random((200, 5)) < 0.3
    probs = rng.random(labels.shape) + labels * 0.4
    if ties:
        probs = probs.round(1)
    found = measure_agreement(labels, probs)
    use = labels.any(axis=1)
    assert found.measure == "macro_ap" and found.clips == use.sum()
    expected = average_precision_score(labels[use], probs[use], average="macro")
    assert found.agreement == pytest.approx(expected)
    assert 0 < found.skill_low < found.skill < 1


@pytest.mark.parametrize("several", [False, True])
def test_labels_dealt_at_random_leave_no_skill(several):
    rng = np.random.default_rng(5)
    lows = []
    for _ in range(20):
        labels = rng.random((150, 5)) < 0.3 if several else np.eye(5)[rng.integers(0, 5, 150)]
        lows.append(measure_agreement(labels, rng.random((150, 5)), single=not several).skill_low)
    assert np.mean(np.array(lows) > 0) <= 0.1 and abs(np.mean(lows)) < 0.15


@pytest.mark.parametrize(
    ("labels", "probs"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.zeros((4, 3)), np.ones((4, 3))),
        (np.eye(3), np.full((3, 3), np.nan)),
    ],
    ids=["no clip", "no label", "nothing judged"],
)
def test_nothing_to_count_gives_nan(labels, probs):
    found = measure_agreement(labels, probs)
    assert found.clips == 0 and np.isnan([found.agreement, found.chance, found.skill_low]).all()


def test_clips_that_were_not_judged_do_not_count():
    given, _, probs = guesses(skill=0.5)
    labels, lacking = np.eye(6)[given], probs.copy()
    lacking[::3] = np.nan
    assert measure_agreement(labels, lacking) == measure_agreement(
        labels[~np.isnan(lacking[:, 0])], probs[~np.isnan(lacking[:, 0])]
    )


@pytest.mark.parametrize(
    ("labels", "probs"),
    [
        (np.eye(2), np.array([[0.5, np.nan], [1, 0]])),
        (np.eye(2), np.eye(3)),
        (np.eye(2) * 2, np.eye(2)),
        (np.ones(3), np.ones(3)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(labels, probs):
    with pytest.raises(InvalidInput):
        measure_agreement(labels, probs)


@pytest.mark.parametrize(("hits", "n"), [(0, 9), (9, 9), (45, 50), (1, 1), (300, 1000)])
def test_bounds_of_a_share_are_wilsons(hits, n):
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert proportion_bounds(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_bounds_of_no_share_are_nan():
    assert np.isnan(proportion_bounds(0, 0)).all()
