"""The panel: who counts how much, that nobody judges what he learnt from, and odd clips."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from labelkit import metrics
from labelkit.errors import InvalidInput
from labelkit.noise.fusion import score_fusion
from labelkit.noise.panel import (
    Linear,
    Panel,
    Scale,
    fuse_opinions,
    pool_opinions,
    weigh_opinions,
)
from labelkit.noise.probe import Probe, cross_probs

JUDGES = 4  # Of each view.


def blobs(n=240, n_classes=4, seed=0, distance=2.5):
    """Points around class centres, and their classes."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % n_classes
    return rng.standard_normal((n_classes, 8))[truth] * distance + rng.standard_normal(
        (n, 8)
    ), truth


def out_of_fold(panel):
    """Probabilities of all clips."""
    opinions, probs = panel.judge(), np.zeros(panel.labels.shape)
    for fold in np.unique(panel.folds):
        probs[panel.folds == fold] = opinions.probs(fold)
    return probs


@pytest.mark.parametrize("seed", range(3))
def test_errors_among_good_labels_come_first(seed):
    x, truth = blobs(seed=seed)
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(x), bool)
    wrong[rng.permutation(len(x))[:24]] = True
    given = np.where(wrong, (truth + rng.integers(1, 4, len(x))) % 4, truth)
    panel = Panel(embeddings=x, labels=np.eye(4)[given], folds=np.arange(len(x)) // 4 % 5)
    assert metrics.average_precision(wrong, score_fusion(panel.labels, out_of_fold(panel))) > 0.95


@pytest.mark.parametrize("noise_first", [False, True])
def test_a_view_that_says_nothing_gets_little_weight(noise_first):
    x, truth = blobs()
    nothing = np.random.default_rng(1).standard_normal((len(x), 5))
    parts = [nothing, x] if noise_first else [x, nothing]
    panel = Panel(embeddings=np.hstack(parts), labels=np.eye(4)[truth],
                  folds=np.arange(len(x)) // 4 % 5, views=[p.shape[1] for p in parts])  # fmt: skip
    weights = panel.judge().weights.reshape(2, JUDGES).sum(axis=1)
    assert weights[int(noise_first)] > 10 * weights[int(not noise_first)]


def test_nobody_judges_what_he_learnt_from():
    """Labels of a fold, turned into nonsense, change nothing of what its judges say."""
    x, truth = blobs()
    folds = np.arange(len(x)) // 4 % 5
    other = np.where(folds == 2, (truth + 1) % 4, truth)
    said = [
        Panel(embeddings=x, labels=np.eye(4)[given], folds=folds).judge().said[2]
        for given in (truth, other)
    ]
    assert np.array_equal(*said)


def test_clips_of_no_fold_are_judged_by_all_and_taught_by_none():
    x, truth = blobs()
    folds = np.where(np.arange(len(x)) < 40, -1, np.arange(len(x)) // 4 % 5)
    labels = np.eye(4)[truth]
    first = Panel(embeddings=x, labels=labels, folds=folds).judge()
    labels[:40] = 0
    second = Panel(embeddings=x, labels=labels, folds=folds).judge()
    for fold in range(5):
        probs = first.probs(fold)
        assert len(probs) == 40 + (folds == fold).sum()
        assert np.array_equal(probs, second.probs(fold))


@pytest.mark.parametrize("single", [True, False])
def test_weights_are_those_of_highest_likelihood(single):
    """No other shares do better, at any sharpness."""
    rng = np.random.default_rng(0)
    y = np.eye(3)[rng.integers(0, 3, 300)]
    said = [y * s + rng.standard_normal(y.shape) for s in (0.5, 1.5, 0.0)]
    said = np.array([log_softmax(part, axis=1) if single else part for part in said])
    weights = weigh_opinions(said, y, single=single)

    def loss(shares):
        found = []
        for sharpness in np.linspace(0.2, 6, 60):
            probs = pool_opinions(said, sharpness * shares, single=single)
            if single:
                found.append(-np.log(0.9 * (probs * y).sum(axis=1) + 0.1 / 3).mean())
            else:
                right = np.where(y > 0, probs, 1 - probs)
                found.append(-np.log(0.9 * right + 0.05).sum(axis=1).mean())
        return min(found)

    assert (weights >= 0).all() and weights.sum() == pytest.approx(1)
    assert weights[1] > weights[0] > weights[2]
    for step in 0.05 * (np.eye(3) - np.roll(np.eye(3), 1, axis=0)):
        for other in (weights + step, weights - step):
            assert (other < 0).any() or loss(weights) <= loss(other) + 1e-3


def test_an_opinion_said_twice_counts_once():
    rng = np.random.default_rng(0)
    y = np.eye(3)[rng.integers(0, 3, 200)]
    one, other = (softmax(2 * y + rng.standard_normal(y.shape), axis=1) for _ in range(2))
    once = fuse_opinions(y, [one, other], single=True)
    twice = fuse_opinions(y, [one, other, one], single=True)
    assert np.abs(once - twice).max() < 0.01


@pytest.mark.parametrize("strength", [0.5, 10.0])
@pytest.mark.parametrize("shape", [(60, 5), (20, 40)])
def test_linear_is_logistic_regression(shape, strength):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    y = rng.integers(0, 3, len(x))
    mine = Linear(True, strength)
    mine.fit(x, np.eye(3)[y])
    theirs = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(x, y)
    assert np.abs(mine.judge(x) - theirs.predict_proba(x)).max() < 5e-3
    several = Linear(False, strength)
    several.fit(x, np.eye(3)[y])
    for k in range(3):
        each = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(x, y == k)
        assert np.abs(several.judge(x)[:, k] - each.predict_proba(x)[:, 1]).max() < 5e-3


def test_the_gradient_of_the_weights_is_right(monkeypatch):
    rng = np.random.default_rng(0)
    y = np.eye(4)[rng.integers(0, 4, 50)]
    said = rng.standard_normal((3, 50, 4))
    found = {}

    def spy(loss, start, **options):
        found["error"] = check_grad(lambda w: loss(w)[0], lambda w: loss(w)[1], start)
        raise StopIteration

    monkeypatch.setattr("scipy.optimize.minimize", spy)
    for single in (True, False):
        with pytest.raises(StopIteration):
            weigh_opinions(said, y, single=single)
        assert found["error"] < 1e-5


def odd(kind):
    """Vectors, labels and folds that occur."""
    x, truth = blobs(n=40)
    labels, folds = np.eye(4)[truth], np.arange(40) // 4 % 5
    if kind == "constant number":
        x[:, 3] = 7.0
    elif kind == "all alike":
        x[:] = 1.0
    elif kind == "one clip a class":
        labels, folds = np.eye(40), np.arange(40) % 5
    elif kind == "a class of one fold":
        labels[:, 3] = 0
        labels[folds == 1] = [0, 0, 0, 1]
    elif kind == "no label":
        labels[5:9] = 0
    elif kind == "several labels":
        labels[:, 0] = truth % 2
    elif kind == "few clips":
        x, labels, folds = x[:6], labels[:6], np.arange(6) % 3
    elif kind == "outlier":
        x[3] = 1e6
    return x, labels, folds


@pytest.mark.parametrize("kind", [
    "constant number", "all alike", "one clip a class", "a class of one fold", "no label",
    "several labels", "few clips", "outlier",
])  # fmt: skip
def test_whatever_comes_is_judged(kind):
    x, labels, folds = odd(kind)
    probs = cross_probs(
        Probe(embeddings=x, labels=labels, folds=folds, classifier="panel", views=(3, 5)), folds
    )
    assert probs.shape == labels.shape and np.isfinite(probs).all()
    assert ((probs >= 0) & (probs <= 1)).all()
    if kind != "several labels":
        assert np.allclose(probs.sum(axis=1), 1)


def test_what_nobody_knows_teaches_nothing():
    """A mask of unsure pairs is neither presence nor absence."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4))
    labels = np.column_stack([x[:, 0] > 0, x[:, 1] > 0, np.ones(200)]).astype(float)
    folds, mask = np.arange(200) % 5, np.ones((200, 3), bool)
    # Half of the first class's clips were not named, and somebody said that this is not sure.
    unsure = (x[:, 0] > 0) & (rng.random(200) < 0.5)
    labels[unsure, 0] = 0
    truth = x[:, 0] > 0
    found = []
    for known in (None, mask):
        mask[unsure, 0] = False
        judge = Probe(embeddings=x, labels=labels, folds=folds, classifier="panel", mask=known)
        found.append(cross_probs(judge, folds)[truth, 0].mean())
    assert found[1] > found[0] + 0.1


@pytest.mark.parametrize(("views", "options", "message"), [
    ((3, 4), {}, "views are 7 columns wide, the vectors 8"),
    ((8,), {"C": 3}, "panel has no options"),
])  # fmt: skip
def test_what_cannot_be_is_refused(views, options, message):
    x, truth = blobs(n=40)
    with pytest.raises(InvalidInput, match=message):
        judge = Probe(embeddings=x, labels=np.eye(4)[truth], folds=np.arange(40) % 5,
                      classifier="panel", views=views, options=options)  # fmt: skip
        cross_probs(judge, judge.folds)


def test_scale_leaves_constant_numbers_out():
    x = np.column_stack([np.full(10, 1e9), np.arange(10.0)])
    scaled = Scale(x)(x + np.array([5, 0]))
    assert not scaled[:, 0].any() and scaled[:, 1].std() == pytest.approx(2**-0.5)


@pytest.mark.parametrize("n_classes", [2, 10, 60])
def test_a_panel_can_be_sure(n_classes):
    """Whatever the number of classes: others compare what it says with thresholds."""
    x, truth = blobs(n=12 * n_classes, n_classes=n_classes, distance=40.0)
    folds = np.arange(len(x)) // n_classes % 4
    probs = out_of_fold(Panel(embeddings=x, labels=np.eye(n_classes)[truth], folds=folds))
    assert np.median(probs[np.arange(len(x)), truth]) > 0.9


@pytest.mark.parametrize("trusted", ["one fold", "one class", "none"])
def test_a_fold_without_anything_to_learn_is_one_line(trusted):
    x, truth = blobs(n=40)
    folds = np.arange(40) // 4 % 5
    mask = {"one fold": folds == 2, "one class": truth == 1, "none": np.zeros(40, bool)}[trusted]
    judge = Probe(embeddings=x, labels=np.eye(4)[truth], folds=folds, classifier="panel")
    with pytest.raises(InvalidInput, match=r"fold \d: the \d+ labelled clips to learn from do not"):
        judge(mask, 2, None)
