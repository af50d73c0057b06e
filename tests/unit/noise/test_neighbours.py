"""Nearest clips and the scores from them, against loops over clips."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit.errors import InvalidInput
from labelkit.noise.neighbours import (
    find_neighbours,
    find_off_topic,
    score_neighbour_vote,
    score_neighbours,
    score_typicality,
)


def naive_distance(a, b):
    if not a.any() or not b.any():
        return 0.0 if a.any() == b.any() else 0.5
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return 1 - (cosine + 1) / 2


def naive_neighbours(x, k, groups):
    indices, distances = np.full((len(x), k), -1), np.ones((len(x), k))
    for i in range(len(x)):
        others = [
            (round(naive_distance(x[i], x[j]), 7), j)
            for j in range(len(x))
            if j != i and (groups[i] < 0 or groups[i] != groups[j])
        ]
        for place, (distance, j) in enumerate(sorted(others)[:k]):
            indices[i, place], distances[i, place] = j, distance
    return indices, distances


def blobs(n=120, n_classes=4, seed=0):
    """Clips around one centre a class, a fifth of them with a wrong label."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n)
    x = (rng.standard_normal((n_classes, 12)) * 1.5)[truth] + rng.standard_normal((n, 12))
    labels = truth.copy()
    wrong = rng.random(n) < 0.2
    labels[wrong] = (truth[wrong] + rng.integers(1, n_classes, wrong.sum())) % n_classes
    return x, np.eye(n_classes)[labels], wrong


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 12), st.booleans())
def test_neighbours_against_a_loop_with_ties_groups_and_zeros(seed, n, k, grouped):
    rng = np.random.default_rng(seed)
    # Few values: many equal vectors, many equal distances, some zeros.
    x = rng.integers(-1, 2, (n, 3)).astype(float)
    groups = rng.integers(-1, max(1, n // 4), n) if grouped else np.full(n, -1)
    k = min(k, n - 1)
    indices, distances = find_neighbours(x, k=k, groups=groups if grouped else None)
    wanted, far = naive_neighbours(x, k, groups)
    np.testing.assert_allclose(distances, far, atol=1e-6)
    np.testing.assert_array_equal(indices < 0, wanted < 0)
    for i in range(n):
        found = indices[i][indices[i] >= 0]
        assert len({i, *found}) == len(found) + 1
        assert groups[i] < 0 or not (groups[found] == groups[i]).any()
        for place, j in enumerate(found):
            assert naive_distance(x[i], x[j]) == pytest.approx(far[i, place], abs=1e-6)
            # Of equal vectors the lower indices are there, and first.
            twins = np.flatnonzero((x[:j] == x[j]).all(axis=1))
            allowed = [t for t in twins if t != i and (groups[i] < 0 or groups[t] != groups[i])]
            assert set(allowed) <= set(found[:place])


@pytest.mark.slow
def test_neighbours_in_several_blocks_and_strips_are_those_of_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    x = np.random.default_rng(0).standard_normal((5000, 24))
    x[100:140] = x[7]
    indices, distances = find_neighbours(x, k=5)
    far, _ = NearestNeighbors(n_neighbors=6, metric="cosine", algorithm="brute").fit(x).kneighbors()
    np.testing.assert_allclose(distances, far[:, :5] / 2, atol=1e-7)
    np.testing.assert_array_equal(indices[105], [7, 100, 101, 102, 103])


def test_neighbours_of_some_clips_only():
    x = np.random.default_rng(0).standard_normal((50, 4))
    groups = np.arange(50) // 3
    every, asked = find_neighbours(x, k=3, groups=groups), [40, 2, 2]
    some = find_neighbours(x, k=3, groups=groups, queries=np.array(asked))
    for part, whole in zip(some, every, strict=True):
        np.testing.assert_array_equal(part, whole[asked])


def test_a_group_that_leaves_too_few_is_padded():
    indices, distances = find_neighbours(np.eye(4), k=2, groups=np.array([5, 5, 5, -1]))
    assert indices.tolist() == [[3, -1], [3, -1], [3, -1], [0, 1]]
    assert distances.tolist() == [[0.5, 1]] * 3 + [[0.5, 0.5]]


def test_length_of_a_vector_does_not_matter():
    x = np.random.default_rng(0).standard_normal((30, 5))
    scale = 10.0 ** np.random.default_rng(1).uniform(-60, 60, (30, 1))
    wanted, distances = find_neighbours(x, k=4)
    np.testing.assert_array_equal(find_neighbours(x * scale, k=4)[0], wanted)
    np.testing.assert_allclose(find_neighbours(x * scale, k=4)[1], distances, atol=1e-6)


def test_bad_input_is_one_line():
    x = np.eye(6)
    with pytest.raises(InvalidInput, match="10 neighbours asked of 6 clips; take a lower k"):
        find_neighbours(x, k=10)
    with pytest.raises(InvalidInput, match=r"embeddings of 1 clips hold NaN .* clip 2"):
        find_neighbours(np.where(np.arange(6)[:, None] == 2, np.nan, x), k=1)
    with pytest.raises(InvalidInput, match="groups must be one integer a clip"):
        find_neighbours(x, k=1, groups=np.array(list("abcdef")))
    with pytest.raises(InvalidInput, match="shape"):
        find_neighbours(x[0], k=1)
    with pytest.raises(InvalidInput, match="queries must be indices of 6 clips"):
        find_neighbours(x, k=1, queries=np.array([6]))
    with pytest.raises(InvalidInput, match="multi-hot"):
        score_neighbours(x * 2, x)
    with pytest.raises(InvalidInput, match="labels must have shape"):
        score_neighbour_vote(x[:5], x)
    with pytest.raises(InvalidInput, match="deviations must be above 0"):
        find_off_topic(x, k=2, deviations=0)


def naive_scores(labels, x, groups, k):
    scores = np.full(len(x), np.nan)
    given = np.flatnonzero(labels.any(axis=1))
    for i in given:
        sides = []
        for wanted in (True, False):
            near = sorted(
                naive_distance(x[i], x[j])
                for j in given
                if j != i
                and (groups[i] < 0 or groups[i] != groups[j])
                and bool(labels[i] @ labels[j]) is wanted
            )
            sides.append(np.mean(near[:k]) if near else 1.0)
        same, other = np.square(sides)
        scores[i] = other / (same + other) if same + other > 1e-12 else 0.5
    return scores


@pytest.mark.parametrize("k", [1, 3])
def test_kNN_ratio_against_a_loop(k):
    x, labels, _ = blobs(60)
    rng = np.random.default_rng(2)
    labels[rng.random(60) < 0.2, 0] = 1
    labels[[3, 30]] = 0
    x[10] = x[11] = x[12]
    groups = rng.integers(-1, 15, 60)
    found = score_neighbours(labels, x, groups=groups, k=k)
    np.testing.assert_allclose(found, naive_scores(labels, x, groups, k), atol=1e-5)


def test_kNN_ratio_at_its_edges():
    x = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    labels = np.array([[1, 0], [1, 0], [0, 1], [0, 0]])
    # Equal vectors on both sides: undecided. No other clip of its class: distance 1 to them.
    np.testing.assert_array_equal(score_neighbours(labels, x), [0.5, 0.5, 0, np.nan])
    assert score_neighbours(np.eye(1)[[0, 0]], x[[0, 3]]).tolist() == [0.8, 0.8]


def test_siblings_do_not_vouch_for_each_other():
    # Clips 0 and 1 are cut from one recording and both wrongly labelled 1.
    x = np.array([[1, 0], [1, 0.001], [1, 0.1], [1, 0.2], [0, 1], [0.1, 1]])
    labels = np.eye(2)[[1, 1, 0, 0, 1, 1]]
    groups = np.array([0, 0, 1, 2, 3, 4])
    assert (score_neighbours(labels, x)[:2] > 0.9).all()
    assert (score_neighbours(labels, x, groups=groups)[:2] < 0.1).all()
    assert (score_neighbour_vote(labels, x, k=1)[:2] > 0.9).all()
    assert (score_neighbour_vote(labels, x, groups=groups, k=1)[:2] < 0.1).all()


def test_vote_against_a_loop():
    x, labels, _ = blobs(60)
    labels[np.random.default_rng(2).random(60) < 0.3, 1] = 1
    labels[7] = 0
    groups = np.random.default_rng(3).integers(-1, 15, 60)
    found = score_neighbour_vote(labels, x, groups=groups, k=5)
    kept = np.flatnonzero(labels.any(axis=1))
    indices, _ = naive_neighbours(x[kept], 5, groups[kept])
    for clip, near in zip(kept, kept[indices], strict=True):
        share = min(labels[near, c].mean() for c in np.flatnonzero(labels[clip]))
        assert found[clip] == pytest.approx(share, abs=6e-4)
    assert np.isnan(found[7])


def test_nearer_neighbours_make_a_vote_more_certain():
    near, far = np.array([[1, 0.01], [1, 0.02], [1, 0.03]]), np.array([[-1, 0], [-1, 1], [-1, -1]])
    scores = score_neighbour_vote(np.eye(2)[[0, 1, 1, 0, 1, 1]], np.vstack([near, far]), k=2)
    assert scores[0] < scores[3] < 0.01
    agreed = score_neighbour_vote(np.ones((6, 1)), np.vstack([near, far]), k=2)
    assert agreed[0] > agreed[3] > 0.99


def test_a_clip_without_neighbours_outside_its_group_is_undecided():
    scores = score_neighbour_vote(np.ones((3, 1)), np.eye(3), groups=np.zeros(3, int), k=2)
    assert scores.tolist() == [0.5] * 3


@pytest.mark.parametrize("score", [score_neighbours, score_neighbour_vote])
def test_scores_find_known_errors_in_any_order(score):
    x, labels, wrong = blobs(300)
    scores = score(labels, x)
    pairs = scores[wrong][:, None] - scores[~wrong][None]
    assert ((pairs < 0) + 0.5 * (pairs == 0)).mean() > 0.9
    order = np.random.default_rng(1).permutation(len(x))
    np.testing.assert_allclose(score(labels[order], x[order]), scores[order], atol=1e-6)


def planted_off_topic(seed):
    """Blobs, and ten clips in directions of their own."""
    rng = np.random.default_rng(seed)
    x = (4 * np.eye(4, 40))[rng.integers(0, 4, 300)] + 0.5 * rng.standard_normal((300, 40))
    strange = np.zeros(300, bool)
    strange[rng.choice(300, 10, replace=False)] = True
    x[strange] = 4 * rng.standard_normal((10, 40))
    return x, strange


def test_clips_like_no_other_are_untypical():
    x, strange = planted_off_topic(0)
    scores = score_typicality(x)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores[strange].max() < scores[~strange].min()
    order = np.random.default_rng(1).permutation(300)
    np.testing.assert_allclose(score_typicality(x[order]), scores[order], atol=1e-6)
    wanted = np.sort([naive_distance(x[5], y) for y in np.delete(x, 5, axis=0)])[:10].mean()
    means = find_neighbours(x, k=10)[1].mean(axis=1)
    above = means - np.median(means)
    z = above[5] / (1.4826 * np.median(above[above >= 0]))
    assert means[5] == pytest.approx(wanted, abs=1e-6)
    assert scores[5] == pytest.approx(0.5 - np.arctan(z) / np.pi)


@pytest.mark.parametrize("seed", range(4))
def test_off_topic_clips_are_found_and_no_others(seed):
    x, strange = planted_off_topic(seed)
    np.testing.assert_array_equal(find_off_topic(x), strange)
    assert find_off_topic(x[~strange]).sum() <= 1


def test_copies_within_a_group_do_not_make_a_clip_typical():
    x, strange = planted_off_topic(0)
    clip = np.flatnonzero(strange)[0]
    x = np.vstack([x, np.repeat(x[[clip]], 15, axis=0)])
    groups = np.append(np.arange(300), np.full(15, clip))
    assert not find_off_topic(x)[clip] and find_off_topic(x, groups=groups)[clip]


def test_equal_clips_are_all_typical():
    assert (score_typicality(np.ones((20, 3)), k=5) == 0.5).all()
    mixed = np.vstack([np.ones((20, 3)), [[1, -1, 0]]])
    assert find_off_topic(mixed, k=5, deviations=0.5).nonzero()[0].tolist() == [20]


def test_sets_without_labels_or_clips():
    assert np.isnan(score_neighbours(np.zeros((3, 2)), np.eye(3))).all()
    for score, k in itertools.product((score_neighbours,), (1, 4)):
        assert score(np.zeros((0, 2)), np.zeros((0, 3)), k=k).shape == (0,)
