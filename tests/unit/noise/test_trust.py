"""What may be trusted at a wanted precision: single labels, whole label sets, and when nothing."""

import itertools

import numpy as np
import pytest

from labelkit.errors import InvalidInput
from labelkit.noise import label_sets
from labelkit.noise.trust import trust_labels


def judged(*, skill=0.85, wrong=0.35, n=600, n_classes=8, verified=0.4, confusable=False, seed=0):
    """Single labels, a judge that knows the class of a share of the clips, and verified ones."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n)
    near = (truth + 1) % n_classes
    # A miss names the class next to the right one, and is less sure.
    hit = rng.random(n) < skill
    logits = rng.standard_normal((n, n_classes)) * 0.5
    logits[np.arange(n), np.where(hit, truth, near)] += np.where(hit, 4, 2) + rng.random(n)
    logits[np.arange(n), np.where(hit, near, truth)] += 1.5
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    known = rng.random(n) < verified
    given = truth.copy()
    flip = ~known & (rng.random(n) < wrong)
    others = (truth + rng.integers(1, n_classes, n)) % n_classes
    given[flip] = (near if confusable else others)[flip]
    return np.eye(n_classes)[given], probs, known, given == truth


@pytest.mark.parametrize("skill", [0.75, 0.85, 0.95])
@pytest.mark.parametrize("wrong", [0.1, 0.35, 0.6])
@pytest.mark.parametrize("confusable", [False, True])
def test_as_many_are_right_as_was_wanted(skill, wrong, confusable):
    rights, found = [], []
    for seed in range(5):
        labels, probs, known, right = judged(
            skill=skill, wrong=wrong, confusable=confusable, seed=seed
        )
        trusted = trust_labels(labels, probs, known, precision=0.97).trusted
        assert not trusted[known].any()
        rights += right[trusted].tolist()
        found.append(trusted.sum() / (right & ~known).sum())
    if rights:
        assert np.mean(rights) > 0.95
    if skill == 0.95 and wrong < 0.5 and not confusable:
        assert np.mean(found) > 0.85


@pytest.mark.parametrize(
    "situation",
    [
        {"skill": 0.125},
        {"n": 600, "verified": 0.003},
        {"verified": 0},
        {"verified": 1},
    ],
    ids=["a judge that guesses", "two verified", "none verified", "all verified"],
)
def test_nothing_is_trusted_where_nothing_can_be_told(situation):
    labels, probs, known, _ = judged(**situation)
    found = trust_labels(labels, probs, known, precision=0.98)
    assert not found.trusted.any() and np.isnan(found.expected)


def test_a_higher_precision_trusts_fewer_of_the_same_clips():
    labels, probs, known, _ = judged(skill=0.75)
    masks = [
        trust_labels(labels, probs, known, precision=p).trusted for p in (0.9, 0.96, 0.98, 0.99)
    ]
    for looser, stricter in itertools.pairwise(masks):
        assert (stricter <= looser).all()
    assert masks[0].sum() > masks[-1].sum()


@pytest.mark.parametrize("several", [False, True])
def test_the_order_of_clips_and_clips_without_labels_do_not_matter(several):
    labels, probs, known, _ = tagged() if several else judged()
    order = np.random.default_rng(1).permutation(len(labels))
    found = trust_labels(labels, probs, known, precision=0.9)
    again = trust_labels(labels[order], probs[order], known[order], precision=0.9)
    np.testing.assert_allclose(again.order, found.order[order], atol=1e-6)
    empty = ~known & (np.arange(len(labels)) % 7 == 0)
    labels[empty] = 0
    assert not trust_labels(labels, probs, known, precision=0.9).trusted[empty].any()


def test_only_candidates_are_trusted():
    labels, probs, known, _ = judged()
    candidates = np.arange(len(labels)) % 2 == 0
    trusted = trust_labels(labels, probs, known, precision=0.9, candidates=candidates).trusted
    assert trusted.any() and not trusted[~candidates].any()


def test_bad_arrays_are_refused():
    labels, probs, known, _ = judged()
    probs[3, 2] = np.nan
    with pytest.raises(InvalidInput, match="NaN"):
        trust_labels(labels, probs, known, precision=0.9)


def tagged(*, spread=1.0, n=500, n_classes=8, dropped=0.2, replaced=0.1, seed=0):
    """Two labels a clip, a calibrated judge of each, 40 % verified, and errors in the others."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((n, n_classes), bool)
    truth[np.arange(n)[:, None], rng.random((n, n_classes)).argsort(axis=1)[:, :2]] = True
    logits = np.where(truth, 2.5, -2.5) + rng.standard_normal(truth.shape) * spread
    known = rng.random(n) < 0.4
    given = truth.copy()
    fate = rng.random(truth.shape)
    given &= known[:, None] | (fate >= dropped + replaced)
    swapped = truth & ~known[:, None] & (fate < replaced)
    for clip in np.flatnonzero(swapped.any(axis=1)):
        given[clip, rng.choice(np.flatnonzero(~truth[clip]))] = True
    return given.astype(float), 1 / (1 + np.exp(-logits)), known, (given == truth).all(axis=1)


@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_trusted_sets_are_right_and_whole(spread):
    rights, found = [], []
    for seed in range(4):
        labels, probs, known, right = tagged(spread=spread, seed=seed)
        trusted = trust_labels(labels, probs, known, precision=0.95).trusted
        rights += right[trusted].tolist()
        found.append((trusted & right).sum() / (right & ~known).sum())
        # Every verified clip has two labels: one alone is incomplete, however sure it is.
        assert (labels[trusted].sum(axis=1) == 2).all()
    assert np.mean(rights) >= 0.95 and np.mean(found) > 0.5


def test_sets_are_not_trusted_by_a_judge_that_guesses():
    labels, probs, known, _ = tagged()
    probs = np.random.default_rng(0).permutation(probs)
    assert not trust_labels(labels, probs, known, precision=0.95).trusted.any()


@pytest.mark.parametrize(("dropped", "replaced"), [(0.3, 0.02), (0.05, 0.2), (0.15, 0.1)])
def test_the_errors_that_were_made_are_estimated(dropped, replaced):
    labels, probs, known, right = tagged(n=1500, dropped=dropped, replaced=replaced)
    model = label_sets.fit(labels > 0, probs, known, ~known)
    assert model.rates.dropped == pytest.approx(dropped, abs=0.04)
    assert model.rates.replaced == pytest.approx(replaced, abs=0.04)
    planted, clips = model.plant(labels[known] > 0)
    assert (planted != labels[known][clips]).any(axis=1).all() and planted.any(axis=1).all()
    share = model.share_wrong(labels[~known] > 0)
    assert share == pytest.approx(1 - right[~known].mean(), abs=0.08)


def test_beliefs_are_those_of_all_sets_that_one_may_come_from():
    labels, probs, known, _ = tagged(n_classes=5)
    model = label_sets.fit(labels > 0, probs, known, ~known)
    # Of five classes all absent ones are looked at, so every set is a possible origin.
    given, odds = labels[0] > 0, model._calibrate(probs[:1])[0]
    rates, kept = model.rates, 1 - model.rates.dropped - model.rates.replaced
    sets = [np.array(bits, bool) for bits in itertools.product([0, 1], repeat=5)]
    weights = {}
    for true in sets:
        size = true.sum()
        alike = sum(np.exp(odds[other].sum()) for other in sets if other.sum() == size)
        prior = np.exp(model.log_sizes[min(size, len(model.log_sizes) - 1)]) / alike
        gone, new = int((true & ~given).sum()), int((given & ~true).sum())
        free = 5 - size
        chance = {
            (0, 0): 1 - rates.added,
            (1, 0): rates.dropped,
            (2, 0): rates.dropped**2,
            (0, 1): rates.added / max(free, 1),
            (1, 1): (rates.replaced + rates.dropped * rates.added) / max(free, 1),
            (2, 1): (rates.replaced + rates.dropped * rates.added) * rates.dropped / max(free, 1),
        }.get((gone, new), 0.0)
        weights[true.tobytes()] = prior * np.exp(odds[true].sum()) * chance * kept ** (size - gone)
    expected = weights[given.tobytes()] / sum(weights.values())
    assert model.believe(labels[:1] > 0, probs[:1])[0] == pytest.approx(expected, rel=1e-6)
