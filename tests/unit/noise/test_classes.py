"""Confusion, noise and likeness of classes against cleanlab and naive versions."""

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint
from cleanlab.internal.label_quality_utils import _subtract_confident_thresholds
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import metrics
from labelkit.errors import InvalidInput
from labelkit.noise.classes import (
    adjust_probs,
    class_similarity,
    estimate_noise,
    find_confusable,
    mean_confidence,
)


def confused(n=3000, seed=0):
    """Five classes; 0 is often labelled as 1, and 2 is often labelled as 3."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, n)
    logits = rng.standard_normal((n, 5))
    logits[np.arange(n), truth] += 4
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = truth.copy()
    labels[(truth == 0) & (rng.random(n) < 0.3)] = 1
    labels[(truth == 2) & (rng.random(n) < 0.1)] = 3
    return np.eye(5, dtype=bool)[labels], probs, truth


def naive_joint(labels, probs):
    """Each given label against the absent classes, clip by clip."""
    n_classes = labels.shape[1]
    thresholds = [
        probs[labels[:, c], c].mean() if labels[:, c].sum() > 1 else np.inf
        for c in range(n_classes)
    ]
    joint = np.zeros((n_classes, n_classes), int)
    for row, p in zip(labels, probs, strict=True):
        for label in np.flatnonzero(row):
            likely = [
                c
                for c in range(n_classes)
                if p[c] >= thresholds[c] - 1e-6 and (c == label or not row[c])
            ]
            if likely:
                joint[label, max(likely, key=lambda c: (p[c], c == label))] += 1
    return joint


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_confusable_pairs_against_a_naive_count(seed):
    rng = np.random.default_rng(seed)
    labels, probs = rng.random((40, 5)) < [0.4, 0.3, 0.3, 0.1, 0.0], rng.random((40, 5)).round(1)
    joint = naive_joint(labels, probs)
    rows = find_confusable(labels, probs, top=25)
    expected = {
        (i, j): joint[i, j] / labels[:, i].sum()
        for i in range(5)
        for j in range(5)
        if i != j and joint[i, j] and labels[:, i].sum() > 1
    }
    assert {(i, j): rate for i, j, rate in rows} == pytest.approx(expected)
    assert [row[2] for row in rows] == sorted((row[2] for row in rows), reverse=True)


def sure(n, n_classes, *lonely, several=False):
    """Every label the most probable, but of classes that those who judge never heard."""
    labels = np.zeros((n + len(lonely), n_classes + len(lonely)))
    labels[np.arange(n), np.arange(n) % n_classes] = 1
    for k in range(len(lonely)):
        labels[n + k, n_classes + k] = 1
    probs = np.where(labels > 0, 0.9, 0.1 / (labels.shape[1] - 1))
    for k, p in enumerate(lonely):
        probs[n + k] = (1 - p) / (labels.shape[1] - 1)
        probs[n + k, n_classes + k] = p
    return labels, np.where(labels > 0, 0.9, 0.05) if several else probs


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
@pytest.mark.parametrize("n, n_classes", [(8, 2), (30, 3), (40, 10)])
@pytest.mark.parametrize("lonely", [(0.001,), (0.0,), (0.3,), (0.001, 0.001)])
def test_a_class_that_nobody_heard_says_nothing_of_the_others(n, n_classes, lonely, several):
    labels, probs = sure(n, n_classes, *lonely, several=several)
    if several:
        probs[n:] = 0.05
        labels[0, 1] = probs[0, 1] = 1
    noise = estimate_noise(labels, probs)
    assert np.isnan(noise[n_classes:]).all() and (noise[:n_classes] == 0).all()
    assert find_confusable(labels, probs) == []
    adjusted = adjust_probs(labels, probs)
    given = labels[:n] > 0
    assert adjusted[:n][given].min() > adjusted[:n][~given].max()


def test_classes_can_be_said_to_be_unknown():
    labels, probs, _ = confused(300)
    known = np.array([True, True, False, True, True])
    assert np.isnan(estimate_noise(labels, probs, known=known)[2])
    assert not [pair for pair in find_confusable(labels, probs, known=known) if 2 in pair[:2]]
    with pytest.raises(InvalidInput, match=r"known must have the shape \(5,\)"):
        estimate_noise(labels, probs, known=known[:3])


def test_confusable_pairs_of_single_labels_are_cleanlabs():
    labels, probs, truth = confused()
    joint = compute_confident_joint(labels.argmax(axis=1), probs, calibrate=False)
    rows = find_confusable(labels, probs, top=2)
    assert [row[:2] for row in rows] == [(1, 0), (3, 2)]
    for given_class, other, rate in rows:
        assert rate == pytest.approx(joint[given_class, other] / labels[:, given_class].sum())
        mine = truth[labels[:, given_class]]
        assert rate == pytest.approx((mine == other).mean(), abs=0.12)


def test_confusable_pairs_may_be_none_and_few():
    labels, probs, _ = confused()
    assert len(find_confusable(labels, probs, top=3)) == 3
    assert find_confusable(labels, probs, top=0) == find_confusable(labels, labels * 1.0) == []
    with pytest.raises(InvalidInput, match="top must not be negative, got -1"):
        find_confusable(labels, probs, top=-1)


def test_noise_of_single_labels_is_cleanlabs_and_near_the_truth():
    labels, probs, truth = confused()
    joint = compute_confident_joint(labels.argmax(axis=1), probs, calibrate=False)
    found = estimate_noise(labels, probs)
    np.testing.assert_allclose(found, 1 - np.diag(joint) / joint.sum(axis=1), atol=1e-12)
    planted = [(truth[labels[:, c]] != c).mean() for c in range(5)]
    np.testing.assert_allclose(found, planted, atol=0.12)
    assert set(np.argsort(found)[-2:]) == {1, 3}


@pytest.mark.parametrize(("signal", "base"), [(0.6, 0.4), (-0.3, 0.4), (-0.3, 0.9)])
def test_noise_of_several_labels_is_cleanlabs_against_the_rest(signal, base):
    """A negative signal makes a class likely present and likely absent at once."""
    rng = np.random.default_rng(0)
    truth = rng.random((1500, 4)) < 0.35
    labels = truth ^ (rng.random(truth.shape) < [0.0, 0.05, 0.1, 0.2])
    labels[~labels.any(axis=1), 0] = True
    probs = np.clip(signal * truth + base + 0.3 * rng.standard_normal(truth.shape), 0, 1)
    lists = [np.flatnonzero(row).tolist() for row in labels]
    joint = compute_confident_joint(lists, probs, multi_label=True, calibrate=False)
    found = estimate_noise(labels, probs)
    np.testing.assert_allclose(found, joint[:, 1, 0] / joint[:, 1].sum(axis=1), atol=1e-12)


@pytest.mark.parametrize("several", [False, True])
def test_a_class_without_clips_has_no_known_noise(several):
    labels, probs, _ = confused()
    labels = labels[:, [0, 1, 2, 3, 4, 4]] & np.array([True] * 5 + [several])
    labels[:, 4] &= not several
    probs = np.column_stack([probs, np.zeros(len(probs))])
    found = estimate_noise(labels, probs)
    empty = 4 if several else 5
    assert np.isnan(found[empty]) and np.isfinite(np.delete(found, empty)).all()


def test_class_figures_do_not_depend_on_order_or_blocks(monkeypatch):
    labels, probs, _ = confused(n=500)
    order = np.random.default_rng(0).permutation(500)
    functions = (
        estimate_noise,
        find_confusable,
        lambda y, p: class_similarity(y, probs=p),
        lambda y, p: class_similarity(y, embeddings=p),
        mean_confidence,
    )
    whole = [f(labels, probs) for f in functions]
    split = metrics.split_rows
    monkeypatch.setattr(metrics, "split_rows", lambda n, width, **_: split(n, width, entries=43))
    for function, expected in zip(functions, whole, strict=True):
        np.testing.assert_allclose(function(labels[order], probs[order]), expected, atol=1e-12)


def test_similarity_of_probabilities_against_a_loop():
    rng = np.random.default_rng(0)
    labels, probs = rng.random((200, 5)) < 0.3, rng.random((200, 5))
    found = class_similarity(labels, probs=probs)
    for i in range(5):
        mass = [0 if i == j else probs[labels[:, i] & ~labels[:, j], j].mean() for j in range(5)]
        np.testing.assert_allclose(found[i], mass / np.sum(mass))


def test_similarity_of_embeddings_against_a_loop():
    rng = np.random.default_rng(0)
    labels = np.eye(4)[rng.integers(0, 4, 300)] > 0
    embeddings = 100 + labels @ rng.standard_normal((4, 6)) + rng.random((300, 6))
    centres = [embeddings[mask].mean(axis=0) - embeddings.mean(axis=0) for mask in labels.T]
    found = class_similarity(labels, embeddings=embeddings)
    for i in range(4):
        norm = np.linalg.norm
        cosine = [c @ centres[i] / norm(c) / norm(centres[i]) for c in centres]
        likeness = [0 if i == j else (cosine[j] + 1) / 2 for j in range(4)]
        np.testing.assert_allclose(found[i], likeness / np.sum(likeness), atol=1e-9)


@pytest.mark.parametrize("kind", ["probs", "embeddings"])
def test_similarity_rows_are_distributions_over_the_others(kind):
    labels, probs, _ = confused(n=300)
    labels = np.column_stack([labels, np.zeros(300, bool)])
    values = np.column_stack([probs, np.zeros(300)])
    found = class_similarity(labels, **{kind: values})
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found >= 0).all() and (np.diag(found) == 0).all()
    np.testing.assert_allclose(found[5, :5], 0.2)
    assert (found[:5, 5] == 0).all()


def test_alike_classes_are_the_most_similar():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 400)
    centres = np.array([[3.0, 0, 0], [3, 1, 0], [0, 0, 4], [0, -5, 0]])
    embeddings = centres[truth] + rng.standard_normal((400, 3))
    found = class_similarity(np.eye(4)[truth], embeddings=embeddings)
    assert found[:2].argmax(axis=1).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give either probs or embeddings"),
        ({"probs": np.eye(2), "embeddings": np.eye(2)}, "give either"),
        ({"embeddings": np.zeros((3, 4))}, r"shape \(2, dim\), got \(3, 4\)"),
        ({"embeddings": np.array([[1.0], [np.nan]])}, "in 1 clips, the first is clip 1"),
        ({"probs": np.array([[1.0, 0], [0, np.nan]])}, "nan at clip 1, class 1"),
    ],
)
def test_similarity_checks_its_input(values, message):
    with pytest.raises(InvalidInput, match=message):
        class_similarity(np.eye(2), **values)


def test_one_class_has_no_other():
    with pytest.raises(InvalidInput, match="two classes or more, got 1"):
        class_similarity(np.ones((3, 1)), probs=np.ones((3, 1)))


def test_adjusted_probabilities_are_cleanlabs():
    labels, probs, _ = confused()
    expected = _subtract_confident_thresholds(labels.argmax(axis=1), probs)
    np.testing.assert_allclose(adjust_probs(labels, probs), expected, atol=1e-12)
    assert adjust_probs(labels, probs.astype(np.float32)).dtype == np.float32


def test_adjusted_probabilities_of_several_labels_are_cleanlabs_of_each_class():
    rng = np.random.default_rng(0)
    labels, probs = rng.random((300, 4)) < 0.4, rng.random((300, 4))
    found = adjust_probs(labels, probs)
    for c in range(4):
        binary = np.column_stack([1 - probs[:, c], probs[:, c]])
        expected = _subtract_confident_thresholds(labels[:, c].astype(int), binary)[:, 1]
        np.testing.assert_allclose(found[:, c], expected, atol=1e-12)
    assert ((found >= 0) & (found <= 1)).all()


def test_classes_without_clips_are_not_adjusted():
    probs = np.array([[0.5, 0.3, 0.2], [0.7, 0.1, 0.2]])
    found = adjust_probs(np.eye(3)[[0, 0]], probs)
    np.testing.assert_allclose(found, probs)
    several = adjust_probs(np.array([[1, 0], [0, 0]]), np.array([[0.4, 0.9], [0.1, 0.3]]))
    np.testing.assert_allclose(several[:, 1], [0.9, 0.3])


def test_adjusting_keeps_right_labels_of_a_rare_class_from_looking_wrong():
    """A model that favours the frequent class gives rare labels low probabilities."""
    rng = np.random.default_rng(0)
    rare = rng.random(2000) < 0.1
    p = 1 / (1 + np.exp(-(3 * rare - 3 + rng.standard_normal(2000))))
    labels, probs = np.eye(2)[rare.astype(int)], np.column_stack([1 - p, p])
    share = {}
    for name, values in {"plain": probs, "adjusted": adjust_probs(labels, probs)}.items():
        scores = (values * labels).sum(axis=1)
        share[name] = rare[np.argsort(scores)[:200]].mean()
    assert share["plain"] > 0.7 and share["adjusted"] < 0.5 * share["plain"]
