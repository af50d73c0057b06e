"""Metrics against naive versions written here."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    roc_auc_score,
)

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
    # Of single clips equals stand where the last of them would.
    per_clip = [
        np.mean([truth[scores >= s].sum() / (scores >= s).sum() for s in scores[truth]])
        if truth.any() else np.nan
        for truth, scores in zip(labels, probs, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(metrics.lwlrap_per_clip(labels, probs), per_clip)


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


@pytest.mark.parametrize("per_clip", [1.2, 5, 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [None, 1, 2, 3, 10])
def test_lwlrap_per_clip_is_that_of_scikit_learn(per_clip, dtype, steps):
    rng = np.random.default_rng(0)
    labels = rng.random((250, 40)) < per_clip / 40
    probs = rng.random((250, 40)).astype(dtype)
    if steps:
        # Saturated sigmoids in float16, say.
        probs = np.floor(probs * steps) / steps
    found = metrics.lwlrap_per_clip(labels, probs)
    for k in range(250):
        if labels[k].any():
            expected = label_ranking_average_precision_score(labels[k : k + 1], probs[k : k + 1])
            assert found[k] == pytest.approx(expected, abs=1e-9)
        else:
            assert np.isnan(found[k])


def test_no_class_is_better_off_by_its_name():
    probs = np.array([[0.9, 0.9, 0.1]] * 3)
    found = metrics.lwlrap_per_clip(np.eye(3), probs)
    assert found.tolist() == pytest.approx([0.5, 0.5, 1 / 3])


@pytest.mark.parametrize("per_clip", [1, 3, 30])
def test_ranks_are_the_same_by_sorting_and_by_comparing(per_clip, monkeypatch):
    rng = np.random.default_rng(0)
    labels = rng.random((5000, 60)) < per_clip / 60
    probs = rng.integers(0, 12, (5000, 60)) / 12
    found = {}
    for few in (0, 99):
        monkeypatch.setattr(metrics, "FEW_LABELS", few)
        found[few] = metrics.label_ranks(labels, probs)
    for one, two in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_rows_are_split_without_a_gap():
    for n, width, entries in [(10, 3, 7), (0, 3, 7), (5, 0, 7), (5, 100, 7), (7, 1, 7)]:
        rows = [k for part in metrics.split_rows(n, width, entries=entries) for k in range(n)[part]]
        assert rows == list(range(n))


@pytest.mark.parametrize("value", [2, -1, 0.5, np.nan])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_are_zeros_and_ones(value, dtype):
    labels = np.eye(3, dtype=dtype)
    labels[1, 0] = value
    with pytest.raises(InvalidInput, match="multi-hot: only 0 and 1"):
        metrics.lwlrap(labels, np.eye(3))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([3, 1000]))
def test_detection_is_that_of_scikit_learn(seed, n, values):
    rng = np.random.default_rng(seed)
    wrong, scores = rng.random(n) < 0.4, rng.integers(0, values, n) / values
    if wrong.any():
        expected = average_precision_score(wrong, -scores)
        assert metrics.average_precision(wrong, scores) == pytest.approx(expected)
    if wrong.any() and not wrong.all():
        assert metrics.auroc(wrong, scores) == pytest.approx(roc_auc_score(wrong, -scores))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_effort_against_a_naive_review(seed, n, recall):
    rng = np.random.default_rng(seed)
    wrong, scores = rng.random(n) < 0.4, rng.integers(0, 8, n) / 8
    if not wrong.any():
        assert np.isnan(metrics.effort(wrong, scores, recall=recall))
        return
    found = reviewed = 0
    for _, is_wrong in sorted(zip(scores, wrong, strict=True)):
        reviewed, found = reviewed + 1, found + is_wrong
        if found >= recall * wrong.sum() - 1e-9:
            break
    assert metrics.effort(wrong, scores, recall=recall) == pytest.approx(reviewed / n)


def test_a_constant_score_saves_no_effort():
    wrong = np.arange(100) < 10
    assert metrics.effort(wrong, np.zeros(100)) == 0.99
    assert metrics.effort(wrong, np.arange(100)) == 0.09
    # 0.07 * 100 is a little more than 7 in floating point.
    assert metrics.effort(np.ones(100), np.arange(100), recall=0.07) == 0.07
    assert metrics.auroc(wrong, np.zeros(100)) == 0.5
    assert metrics.average_precision(wrong, np.zeros(100)) == pytest.approx(0.1)


def test_detection_without_wrong_clips_is_nan():
    for measure in (metrics.average_precision, metrics.auroc, metrics.effort):
        assert np.isnan(measure(np.zeros(3), np.arange(3)))
    assert np.isnan(metrics.auroc(np.ones(3), np.arange(3)))


@pytest.mark.parametrize("measure", [metrics.average_precision, metrics.auroc, metrics.effort])
@pytest.mark.parametrize(
    ("wrong", "scores", "message"),
    [
        ([1, 0], [0.5, np.nan], "scores has 1 NaN, the first at clip 1"),
        ([1, 0], [0.5], r"\(2,\) and \(1,\)"),
        ([1, 2], [0.5, 1], "only 0 and 1"),
    ],
)
def test_detection_checks_its_input(measure, wrong, scores, message):
    with pytest.raises(InvalidInput, match=message):
        measure(np.array(wrong), np.array(scores))


def test_effort_names_a_bad_recall():
    with pytest.raises(InvalidInput, match="recall must be above 0 and at most 1, got 0"):
        metrics.effort(np.ones(2), np.ones(2), recall=0)
