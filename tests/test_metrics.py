"""Metrics against naive versions written here."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelkit import metrics
from labelkit.errors import InvalidInput


def naive_precisions(labels, probs):
    """Per clip: label -> precision at it; ties ranked by class index."""
    found = []
    for truth, scores in zip(labels, probs, strict=True):
        order = sorted(range(len(scores)), key=lambda c: (-scores[c], c))
        hits, precisions = 0, {}
        for rank, label in enumerate(order, 1):
            if truth[label]:
                hits += 1
                precisions[label] = hits / rank
        found.append(precisions)
    return found


def naive_lwlrap(labels, probs):
    per_class = {}
    for precisions in naive_precisions(labels, probs):
        for label, value in precisions.items():
            per_class.setdefault(label, []).append(value)
    n = sum(map(len, per_class.values()))
    return sum(np.mean(v) * len(v) / n for v in per_class.values()) if n else np.nan


matrices = st.tuples(st.integers(1, 12), st.integers(1, 8)).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(bool, shape),
        # Few distinct values, so that ties are common.
        hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])),
    )
)


@settings(max_examples=200, deadline=None)
@given(matrices)
def test_lwlrap_equals_the_naive_one(arrays):
    labels, probs = arrays
    np.testing.assert_allclose(metrics.lwlrap(labels, probs), naive_lwlrap(labels, probs))
    per_clip = [np.mean(list(p.values())) if p else np.nan for p in naive_precisions(labels, probs)]
    np.testing.assert_allclose(metrics.lwlrap_per_clip(labels, probs), per_clip)
    scores, weights = metrics.lwlrap_per_class(labels, probs)
    if labels.any():
        np.testing.assert_allclose(scores @ weights, naive_lwlrap(labels, probs))


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_one_label_scores_one_over_its_rank(rank):
    probs = np.linspace(1, 0, 5)[None]
    assert metrics.lwlrap_per_clip(np.eye(5)[[rank - 1]], probs)[0] == pytest.approx(1 / rank)


def test_two_labels_ranked_one_and_three():
    probs, labels = np.array([[0.9, 0.5, 0.1]]), np.array([[1, 0, 1]])
    assert metrics.lwlrap_per_clip(labels, probs)[0] == pytest.approx((1 + 2 / 3) / 2)


def test_ties_rank_the_lower_class_first():
    assert metrics.lwlrap(np.array([[1, 0]]), np.array([[0.5, 0.5]])) == 1
    assert metrics.lwlrap(np.array([[0, 1]]), np.array([[0.5, 0.5]])) == 0.5


@settings(max_examples=100, deadline=None)
@given(matrices, st.integers(1, 4))
def test_map_at_k_equals_the_naive_one(arrays, k):
    labels, probs = arrays
    values = []
    for truth, scores in zip(labels, probs, strict=True):
        top = sorted(range(len(scores)), key=lambda c: (-scores[c], c))[:k]
        precisions = [sum(truth[top[: i + 1]]) / (i + 1) for i, c in enumerate(top) if truth[c]]
        if truth.any():
            values.append(sum(precisions) / min(truth.sum(), k))
    expected = np.mean(values) if values else np.nan
    np.testing.assert_allclose(metrics.map_at_k(labels, probs, k), expected)


def test_nan_names_clip_and_class():
    probs = np.full((3, 2), 0.5)
    probs[1, 1] = np.nan
    with pytest.raises(InvalidInput, match="nan at clip 1, class 1"):
        metrics.lwlrap(np.eye(2)[[0, 1, 0]], probs)


@pytest.mark.parametrize(
    ("labels", "probs", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 2)), r"\(2, 3\) and \(2, 2\)"),
        (np.zeros(2), np.zeros(2), "one shape"),
        (np.full((1, 2), 2), np.zeros((1, 2)), "multi-hot"),
    ],
)
def test_shapes_are_checked(labels, probs, message):
    with pytest.raises(InvalidInput, match=message):
        metrics.accuracy(labels, probs)


def test_losses_against_formulas():
    labels, probs = np.array([[1, 0], [0, 1]]), np.array([[0.8, 0.2], [0.4, 0.6]])
    assert metrics.log_loss(labels, probs) == pytest.approx(-np.log([0.8, 0.6]).mean())
    binary = -np.log([0.8, 0.8, 0.6, 0.6]).mean()
    assert metrics.binary_log_loss(labels, probs) == pytest.approx(binary)
    assert metrics.accuracy(labels, probs) == 1
