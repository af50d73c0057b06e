"""Single (clip, class) pairs against naive versions written here."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import metrics
from labelkit.errors import InvalidInput
from labelkit.noise import pairs
from labelkit.noise.pairs import (
    find_missing,
    rank_missing,
    score_pairs,
)


def planted(n=2000, n_classes=5, seed=0):
    """Probabilities of a good model, badly calibrated by class, and labels with two faults."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, n_classes)) < [0.4, 0.3, 0.2, 0.1, 0.05]
    signal = 3 * truth + rng.standard_normal((n, n_classes))
    probs = 1 / (1 + np.exp(-(signal - 2) * 2 + np.array([-4, -2, 0, 2, 4])))
    labels = truth.copy()
    missing, extra = (truth & (rng.random(truth.shape) < 0.1)), rng.random(truth.shape) < 0.03
    labels[missing] = False
    labels[extra] = True
    return labels, probs, truth


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_pair_scores_against_naive_ones(seed):
    rng = np.random.default_rng(seed)
    labels = rng.random((12, 4)) < 0.4
    probs = rng.choice([0.0, 0.25, 0.5, 1.0], (12, 4))
    plain, ranked = score_pairs(labels, probs), score_pairs(labels, probs, method="class_rank")
    for clip in range(12):
        for label in range(4):
            agree = lambda k, c=label: probs[k, c] if labels[k, c] else 1 - probs[k, c]  # noqa: E731
            same = [k for k in range(12) if labels[k, label] == labels[clip, label]]
            below = sum(agree(k) < agree(clip) for k in same)
            equal = sum(agree(k) == agree(clip) for k in same)
            assert plain[clip, label] == agree(clip)
            assert ranked[clip, label] == pytest.approx((below + equal / 2) / len(same))


@pytest.mark.parametrize("method", ["self_confidence", "class_rank"])
def test_pair_scores_find_both_faults(method):
    labels, probs, truth = planted()
    scores = score_pairs(labels, probs, method=method)
    assert ((scores >= 0) & (scores <= 1)).all() and scores.shape == labels.shape
    for known, wrong in ((labels, labels & ~truth), (~labels, truth & ~labels)):
        assert metrics.auroc(wrong[known], scores[known]) > 0.75


def test_class_rank_evens_out_bad_calibration():
    labels, probs, truth = planted()
    use = labels.astype(bool)
    found = [
        metrics.auroc((labels & ~truth)[use], score_pairs(labels, probs, method=m)[use])
        for m in ("self_confidence", "class_rank")
    ]
    # A monotone change of one class's probabilities must not matter.
    changed = probs ** np.array([1, 2, 3, 0.5, 1])
    again = score_pairs(labels, changed, method="class_rank")
    np.testing.assert_allclose(again, score_pairs(labels, probs, method="class_rank"), atol=1e-3)
    assert found[1] > 0.9


@pytest.mark.parametrize("method", ["self_confidence", "class_rank"])
def test_pair_scores_follow_clips_and_classes(method):
    labels, probs, _ = planted(n=200)
    rng = np.random.default_rng(2)
    clips, classes = rng.permutation(200), rng.permutation(5)
    there = score_pairs(labels[clips][:, classes], probs[clips][:, classes], method=method)
    np.testing.assert_array_equal(
        there, score_pairs(labels, probs, method=method)[clips][:, classes]
    )


def test_pair_scores_stay_narrow():
    labels, probs, _ = planted(n=100)
    for method in ("self_confidence", "class_rank"):
        assert score_pairs(labels, probs.astype(np.float32), method=method).dtype == np.float32


@given(st.integers(0, 10_000), st.sampled_from([0, 50, 80, 95, 100]))
@settings(max_examples=40, deadline=None)
def test_missing_labels_against_a_naive_rule(seed, percentile):
    rng = np.random.default_rng(seed)
    labels = rng.random((60, 4)) < [0.3, 0.1, 0.0, 1.0]
    probs = rng.random((60, 4)).round(2)
    known = rng.random((60, 4)) < 0.2
    found = find_missing(labels, probs, percentile=percentile, known=known)
    for label in range(4):
        open_to = [k for k in range(60) if not labels[k, label] and not known[k, label]]
        values = sorted(probs[k, label] for k in open_to)
        for k in range(60):
            expected = False
            if k in open_to and labels[:, label].any():
                bound = values[int(np.ceil(percentile / 100 * (len(values) - 1) - 1e-9))]
                expected = probs[k, label] > bound
            assert found[k, label] == expected


def test_missing_labels_are_found_far_above_chance():
    labels, probs, truth = planted(n=5000)
    found = find_missing(labels, probs, percentile=97)
    hidden = truth & ~labels
    assert not (found & labels).any()
    assert (found.sum(axis=0) <= 0.031 * (~labels).sum(axis=0)).all()
    assert hidden[found].mean() > 5 * hidden[~labels].mean()
    # Bad calibration must not keep a class from its proposals.
    assert (found.sum(axis=0) > 0).all()


def test_few_clips_and_unknown_classes_get_no_proposal():
    labels = np.zeros((50, 2), bool)
    labels[:5, 0] = True
    probs = np.random.default_rng(0).random((50, 2))
    assert not find_missing(labels, probs).any()
    assert find_missing(labels, probs, percentile=90).sum(axis=0).tolist() == [4, 0]


def test_what_people_decided_is_never_proposed_nor_counted():
    labels, probs, _ = planted(n=1000)
    known = np.random.default_rng(0).random(labels.shape) < 0.5
    found = find_missing(labels, probs, percentile=90, known=known)
    assert found.any() and not (found & known).any()
    changed = np.where(known, np.random.default_rng(1).random(labels.shape), probs)
    assert (find_missing(labels, changed, percentile=90, known=known) == found).all()


def test_missing_labels_follow_the_clips():
    labels, probs, _ = planted(n=700)
    order = np.random.default_rng(1).permutation(700)
    assert (find_missing(labels[order], probs[order]) == find_missing(labels, probs)[order]).all()


def test_no_clips_have_no_missing_labels():
    assert find_missing(np.zeros((0, 2)), np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 101}, r"percentile must be in \[0, 100\], got 101"),
        ({"percentile": np.nan}, "percentile must be in"),
        ({"known": np.zeros((3, 2), bool)}, "known must be a boolean mask"),
        ({"known": np.zeros((2, 2))}, "boolean mask of the shape .* float64"),
    ],
)
def test_missing_options_are_checked(options, message):
    with pytest.raises(InvalidInput, match=message):
        find_missing(np.eye(2), np.eye(2), **options)


@pytest.mark.parametrize(
    "function",
    [score_pairs, find_missing, rank_missing],
    ids=lambda f: f.__name__,
)
def test_pairs_refuse_nan(function):
    with pytest.raises(InvalidInput, match="nan at clip 1, class 0"):
        function(np.eye(2), np.array([[0.5, 0.5], [np.nan, 0.5]]))


def test_unknown_method_is_named():
    with pytest.raises(InvalidInput, match="one of self_confidence, class_rank, got 'rank'"):
        score_pairs(np.eye(2), np.eye(2), method="rank")


def test_proposals_come_most_probable_first():
    labels, probs, _ = planted(n=800)
    probs = probs.round(1)
    missing = find_missing(labels, probs, percentile=80)
    rows = rank_missing(missing, probs)
    pairs = [(int(k), int(c)) for k, c in np.argwhere(missing)]
    expected = sorted(pairs, key=lambda pair: (-probs[pair], pair))
    assert [row[:2] for row in rows] == expected and len(rows) == missing.sum() > 0
    assert all(score == probs[k, c] for k, c, score in rows)
    assert rank_missing(np.zeros((2, 2), bool), np.eye(2)) == []


def test_the_command_offers_every_method():
    from labelkit.commands import cleaning

    assert cleaning.METHODS == pairs.METHODS
