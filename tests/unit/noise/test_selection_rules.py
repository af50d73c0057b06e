"""The selection rules of the literature: oracles by hand, and what all of them promise."""

import inspect
from functools import partial

import numpy as np
import pytest

from labelkit.errors import InvalidInput
from labelkit.noise.selection import (
    select_clean_share,
    select_complete,
    select_listed,
    select_mixture,
    select_rank_mean,
)
from labelkit.noise.simulate import plant_missing, plant_uniform

# Classes A, B, C; the mean binary log-loss and the lowest given probability of each clip.
LABELS = np.array([
    [1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0],
    [0, 1, 0], [0, 1, 0], [0, 1, 0],
    [0, 0, 1], [0, 0, 1], [0, 0, 1],
    [1, 0, 1],
])  # fmt: skip
PROBS = np.array([
    [0.97, 0.02, 0.01],  # 0  A   loss 0.0202, 0.97
    [0.96, 0.03, 0.01],  # 1  A   0.0271, 0.96
    [0.60, 0.30, 0.10],  # 2  A   0.324, 0.60
    [0.30, 0.60, 0.10],  # 3  A   0.742, 0.30
    [0.10, 0.30, 0.60],  # 4  A   1.192, 0.10
    [0.02, 0.98, 0.00],  # 5  B   0.01347, 0.98
    [0.05, 0.90, 0.05],  # 6  B   0.069, 0.90
    [0.50, 0.40, 0.10],  # 7  B   0.572, 0.40
    [0.01, 0.01, 0.98],  # 8  C   0.01343, 0.98
    [0.20, 0.50, 0.30],  # 9  C   0.707, 0.30
    [0.45, 0.35, 0.20],  # 10 C   0.879, 0.20
    [0.50, 0.10, 0.40],  # 11 A C 0.572, 0.40
])  # fmt: skip
SECOND = np.roll(PROBS, 1, axis=1) * 0.5 + 0.25
LISTED = np.isin(np.arange(12), [2, 4, 7, 9, 10])


def kept(mask):
    assert mask.dtype == bool and mask.shape == (12,)
    return set(np.flatnonzero(mask).tolist())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Four of A's six, two of B's three, three of C's four: 11 is in both A and C.
        ({}, {0, 1, 2, 11, 5, 6, 8, 9}),
        # Three of A, one of B, two of C: C keeps 11, which A would not.
        ({"keep": 0.5}, {0, 1, 2, 5, 8, 11}),
        # One of each at least.
        ({"keep": 0.01}, {0, 5, 8}),
        ({"keep": 1}, set(range(12))),
        # Over all the lowest six, and at least one.
        ({"keep": 0.5, "by_class": False}, {8, 5, 0, 1, 6, 2}),
        ({"keep": 0.01, "by_class": False}, {8}),
        # In order of loss 8, 5, 0, 1, 6 find room, then only 9, the second of C.
        ({"keep": 1, "per_class": 2}, {8, 5, 0, 1, 6, 9}),
    ],
)
def test_clean_share(options, expected):
    assert kept(select_clean_share(LABELS, PROBS, **options)) == expected


def test_shares_are_rounded_down_but_not_by_rounding_errors():
    assert 0.29 * 100 < 29
    labels, probs = np.ones((100, 1)), np.linspace(0.1, 0.9, 100)[:, None]
    for keep, n in ((0.29, 29), (0.299, 29), (0.3, 30)):
        assert np.flatnonzero(select_clean_share(labels, probs, keep=keep))[0] == 100 - n


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Sums of the three ranks: 4: 0, 10: 4, 3: 5.5, 9: 8.5, 7: 13, 11: 14.5, 2: 17.5,
        # 6: 21, 1: 24, 0: 27, 5: 30.5, 8: 32.5.
        ({"keep": 0.5}, {0, 1, 2, 5, 8, 11}),
        ({"keep": 0.4, "by_class": False}, {8, 5, 0, 1}),
        ({"keep": 1, "per_class": 1}, {8, 5, 0}),
        ({"keep": 1, "by_class": False}, set(range(12))),
    ],
)
def test_fusion(options, expected):
    assert kept(select_rank_mean(LABELS, PROBS, **options)) == expected


def naive_ranks(values):
    """Number of lower ones, equal ones counting half."""
    return np.array([sum((w < v) + 0.5 * (w == v) for w in values) - 0.5 for v in values])


def test_fusion_against_a_naive_one():
    rng = np.random.default_rng(0)
    given = rng.integers(0, 4, 50)
    labels = np.eye(4)[given]
    judges = [rng.dirichlet(np.ones(4), 50) for _ in range(3)]
    total = np.zeros(50)
    for probs in judges:
        mine = probs[np.arange(50), given]
        others = np.where(labels > 0, 0, probs).max(axis=1)
        losses = -np.log(np.where(labels > 0, probs, 1 - probs)).mean(axis=1)
        total += naive_ranks(mine) + naive_ranks(mine - others) + naive_ranks(-losses)
    expected = set(np.argsort(-total)[:20].tolist())
    mask = select_rank_mean(labels, *judges, keep=0.4, by_class=False)
    assert set(np.flatnonzero(mask).tolist()) == expected


def test_a_loud_judge_counts_no_more_than_another():
    """Squashing a judge's probabilities keeps all of its ranks."""
    rng = np.random.default_rng(1)
    labels = np.eye(2)[rng.integers(0, 2, 60)]
    first, second = (np.column_stack([p, 1 - p]) for p in rng.random((2, 60)))
    loud = first**4 / (first**4).sum(axis=1, keepdims=True)
    masks = [select_rank_mean(labels, part, second, keep=0.5) for part in (first, loud)]
    assert (masks[0] == masks[1]).all()
    means = [select_clean_share(labels, part, second, keep=0.5) for part in (first, loud)]
    assert (means[0] != means[1]).any()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Five losses lie below 0.07, the others between 0.32 and 1.2.
        ({}, {0, 1, 5, 6, 8}),
        ({"per_class": 1}, {0, 5, 8}),
        # 6, the highest of the low ones, is the least sure.
        ({"posterior": 0.985}, {0, 1, 5, 8}),
        # Fewer than ten clips a class make no mixture of their own.
        ({"by_class": True}, {0, 1, 5, 6, 8}),
    ],
)
def test_mixture(options, expected):
    assert kept(select_mixture(LABELS, PROBS, **options)) == expected


def test_mixtures_of_classes_part_a_hard_class_too():
    """All of the hard class lies above the easy one's losses, yet it has its own two groups."""
    rng = np.random.default_rng(0)
    means = np.repeat([0.95, 0.8, 0.4, 0.1], 40)
    p = np.clip(means + 0.01 * rng.standard_normal(160), 0, 1)
    labels = np.repeat(np.eye(2), 80, axis=0)
    probs = np.where(labels > 0, p[:, None], 1 - p[:, None])
    together, apart = (select_mixture(labels, probs, by_class=part) for part in (False, True))
    assert together[:80].all() and not together[120:].any()
    assert apart.tolist() == [True] * 40 + [False] * 40 + [True] * 40 + [False] * 40


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Above the median of those without it: A 7 and 10, B 3, 9 and 10, C 4.
        ({"percentile": 50}, {0, 1, 2, 5, 6, 8, 11}),
        ({"percentile": 50, "per_class": 2}, {0, 1, 5, 6, 8}),
        # Too few clips to have a hundredth.
        ({}, set(range(12))),
    ],
)
def test_complete(options, expected):
    assert kept(select_complete(LABELS, PROBS, **options)) == expected


def test_complete_clips_lack_fewer_labels():
    rng = np.random.default_rng(0)
    truth = rng.random((800, 6)) < 0.3
    planted = plant_missing(truth, rate=0.1, seed=1)
    probs = np.clip(np.where(truth, 0.8, 0.2) + 0.15 * rng.standard_normal(truth.shape), 0, 1)
    mask = select_complete(planted.labels, probs, percentile=95)
    lacking = planted.missing.any(axis=1)
    assert lacking[mask].mean() < 0.5 * lacking[planted.labels.any(axis=1)].mean()
    assert mask.mean() > 0.5


@pytest.mark.parametrize(
    ("judges", "per_class", "expected"),
    [
        ((), 0, {2, 4, 7, 9, 10}),
        ((PROBS,), 0, {2, 4, 7, 9, 10}),
        # Of A the surer one is 2, of C it is 9.
        ((PROBS,), 1, {2, 7, 9}),
        # Turned round, 4 and 10 are the surer ones; without a judge the first ones.
        ((1 - PROBS,), 1, {4, 7, 10}),
        ((), 1, {2, 7, 9}),
    ],
)
def test_listed(judges, per_class, expected):
    mask = select_listed(LABELS, *judges, listed=LISTED, per_class=per_class)
    assert kept(mask) == expected


RULES = {
    "clean_share": partial(select_clean_share, keep=0.6),
    "clean_share over all": partial(select_clean_share, keep=0.6, by_class=False),
    "complete": partial(select_complete, percentile=90),
    "fusion": partial(select_rank_mean, keep=0.6),
    "mixture": select_mixture,
    "mixture by class": partial(select_mixture, by_class=True),
}


@pytest.fixture(params=RULES)
def rule(request):
    return RULES[request.param]


def judged(n=300, seed=1):
    """Clips of eight classes, 40 % of them of a wrong label, and two fair judges."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 8, n)
    planted = plant_uniform(np.eye(8)[truth], rate=0.4, seed=seed)
    logits = np.eye(8)[truth] * 3 + rng.standard_normal((2, n, 8))
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return planted, probs


def test_rules_beat_chance(rule):
    planted, probs = judged()
    mask = rule(planted.labels, *probs)
    right = ~planted.clips
    assert 60 < mask.sum() < 270
    assert right[mask].mean() > right.mean() + 0.15


def test_rules_follow_their_clips(rule):
    planted, probs = judged()
    order = np.random.default_rng(2).permutation(300)
    for per_class in (0, 9):
        chosen = partial(rule, per_class=per_class)
        mask = chosen(planted.labels, *probs)
        moved = chosen(planted.labels[order], *probs[:, order])
        assert (moved == mask[order]).all()


def test_quotas_take_the_surest(rule):
    planted, probs = judged()
    every = rule(planted.labels, *probs)
    some = rule(planted.labels, *probs, per_class=9)
    assert (some <= every).all()
    expected = np.minimum(planted.labels[every].sum(axis=0), 9)
    assert (planted.labels[some].sum(axis=0) == expected).all()
    assert (~planted.clips)[some].mean() >= (~planted.clips)[every].mean()


def test_several_judges(rule):
    planted, (first, second) = judged()
    labels = planted.labels
    assert (rule(labels, first, first) == rule(labels, first)).all()
    assert (rule(labels, first, second) == rule(labels, second, first)).all()
    if rule is not RULES["fusion"]:
        assert (rule(labels, first, second) == rule(labels, (first + second) / 2)).all()
    assert (rule(labels, first, second) != rule(labels, first)).any()


def test_clips_without_labels_are_never_kept(rule):
    planted, (probs, _) = judged()
    labels = planted.labels.copy()
    labels[:50] = 0
    assert not rule(labels, probs)[:50].any() and rule(labels, probs)[50:].any()
    assert not rule(np.zeros((3, 8)), probs[:3]).any()
    assert not select_listed(labels, listed=np.ones(300, bool))[:50].any()


def test_bounds_are_known_without_clips(rule):
    """A recipe is checked before there are any clips."""
    nothing = np.zeros((0, 1))
    assert rule(nothing, nothing).shape == (0,)
    with pytest.raises(InvalidInput, match="per_class -1 must not be negative"):
        rule(nothing, nothing, per_class=-1)
    plain = [p.default for p in inspect.signature(rule).parameters.values()
             if p.kind is p.KEYWORD_ONLY]  # fmt: skip
    assert plain and all(isinstance(value, bool | int | float | str) for value in plain)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *(
            (partial(rule, keep=keep), f"keep {keep} must be above 0 and at most 1")
            for rule in (select_clean_share, select_rank_mean)
            for keep in (0, 1.5, -1, float("nan"))
        ),
        (partial(select_mixture, posterior=1), "posterior 1 must be at least 0 and below 1"),
        (partial(select_mixture, posterior=-0.1), "posterior -0.1 must be"),
        (partial(select_complete, percentile=101), r"percentile must be in \[0, 100\], got 101"),
    ],
)
def test_bad_options(call, message):
    for labels, probs in ((LABELS, PROBS), (np.zeros((0, 1)), np.zeros((0, 1)))):
        with pytest.raises(InvalidInput, match=message):
            call(labels, probs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *(
            (lambda rule=rule: rule(LABELS), "give the probabilities of at least one model")
            for rule in RULES.values()
        ),
        *(
            (lambda rule=rule: rule(LABELS, PROBS, PROBS[:5]), r"\(12, 3\) and \(5, 3\)")
            for rule in RULES.values()
        ),
        (lambda: select_rank_mean(LABELS, PROBS, SECOND * np.nan), "36 NaN or infinite values"),
        (lambda: select_mixture(LABELS, PROBS * 0 + 0.5), "all scores are equal, nothing to part"),
        (
            lambda: select_listed(LABELS, listed=np.arange(12)),
            r"listed must be a mask of shape \(12,\), got int64 of shape \(12,\)",
        ),
        (lambda: select_listed(LABELS, listed=LISTED[:4]), r"got bool of shape \(4,\)"),
        (lambda: select_listed(LABELS, listed=LISTED, per_class=-2), "per_class -2 must not be"),
        (lambda: select_listed(LABELS, PROBS[:3], listed=LISTED), r"\(12, 3\) and \(3, 3\)"),
    ],
)
def test_bad_arrays(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
