"""Several annotators: consensus, disagreements and agreement, on planted annotators."""

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from labelkit.errors import InvalidInput
from labelkit.noise.consensus import (
    consensus_majority,
    consensus_per_class,
    consensus_quality,
    measure_agreement,
)


def planted(accuracies, n=300, n_classes=4, answered=1.0, seed=0):
    """True classes and one-label votes of annotators who are right so often."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n)
    votes = np.full((len(accuracies), n, n_classes), np.nan)
    for annotator, accuracy in enumerate(accuracies):
        wrong = rng.random(n) >= accuracy
        said = np.where(wrong, (truth + rng.integers(1, n_classes, n)) % n_classes, truth)
        here = rng.random(n) < answered
        votes[annotator, here] = np.eye(n_classes)[said[here]]
    return truth, votes


def opinion(truth, n_classes=4, accuracy=0.8, seed=1):
    """Probabilities of a model that is right so often."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(truth)) >= accuracy
    said = np.where(wrong, (truth + rng.integers(1, n_classes, len(truth))) % n_classes, truth)
    probs = rng.random((len(truth), n_classes))
    probs[np.arange(len(truth)), said] += 1.5
    return probs / probs.sum(axis=1, keepdims=True)


def several_labels(n_annotators=4, n=200, n_classes=5, answered=0.7, seed=0):
    """Votes of several labels a clip, or none, on a part of the clips."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, n_classes)) < 0.3
    votes = np.where(rng.random((n_annotators, n, n_classes)) < 0.1, ~truth, truth).astype(float)
    votes[rng.random((n_annotators, n)) >= answered] = np.nan
    return votes


def given(votes, clip):
    """Annotator and answer of everyone who answered a clip, as tuples of 0 and 1."""
    return [(a, tuple(v[clip])) for a, v in enumerate(votes) if not np.isnan(v[clip]).any()]


def naive_majority(votes):
    rows = []
    for clip in range(votes.shape[1]):
        counted = Counter(answer for _, answer in given(votes, clip)).most_common()
        decided = counted and (len(counted) == 1 or counted[0][1] > counted[1][1])
        rows.append(counted[0][0] if decided else [np.nan] * votes.shape[2])
    return np.array(rows)


def naive_per_class(votes):
    rows = np.full(votes.shape[1:], np.nan)
    for clip, label in np.ndindex(rows.shape):
        said = [answer[label] for _, answer in given(votes, clip)]
        if said and sum(said) * 2 != len(said):
            rows[clip, label] = sum(said) * 2 > len(said)
    for clip, row in enumerate(rows):
        answers = [answer for _, answer in given(votes, clip)]
        silent = sum(not any(answer) for answer in answers)
        if answers and not (row == 1).any() and silent * 2 <= len(answers):
            row[:] = np.nan
    return rows


def jaccard(a, b):
    both, either = sum(x and y for x, y in zip(a, b, strict=True)), sum(np.maximum(a, b))
    return both / either if either else 1.0


def naive_kappa(pairs):
    """Weighted kappa of pairs of answers, by two loops over all of them."""
    distance = np.mean([1 - jaccard(a, b) for a, b in pairs])
    expected = np.mean([1 - jaccard(a, b) for a, _ in pairs for _, b in pairs])
    return 1 - distance / expected


def naive_crowdlab(said, probs):
    """Class of highest CROWDLAB quality among those given, from the formulas of the paper.

    ``said`` is (n_clips, n_annotators), NaN where not answered; no two classes may tie.
    """
    n_clips, n_annotators = said.shape
    n_classes = probs.shape[1]
    answers = [{a: int(c) for a, c in enumerate(row) if not np.isnan(c)} for row in said]
    several = [i for i in range(n_clips) if len(answers[i]) > 1]

    def most(clip):
        counts = Counter(answers[clip].values())
        return max(counts, key=lambda c: (counts[c], probs[clip, c]))

    consensus = [most(i) for i in range(n_clips)]
    for _ in range(2):
        likely = np.mean(
            [np.mean([c == consensus[i] for c in answers[i].values()]) for i in several]
        )
        common = Counter(consensus[i] for i in several).most_common(1)[0][1]
        baseline = max(1 - common / len(several), 1e-6)
        weights = []
        for a in range(n_annotators):
            pairs = [
                answers[i][a] == c
                for i in several
                if a in answers[i]
                for b, c in answers[i].items()
                if b != a
            ]
            weights.append(max(1 - (1 - np.mean(pairs)) / baseline, 1e-6))
        error = np.mean([probs[i].argmax() != consensus[i] for i in several])
        model = max(1 - error / baseline, 1e-6) * np.sqrt(np.mean([len(a) for a in answers]))
        quality = np.zeros((n_clips, n_classes))
        for i, c in np.ndindex(quality.shape):
            values = [model * probs[i, c]]
            for a, answer in answers[i].items():
                share = likely if answer == c else (1 - likely) / (n_classes - 1)
                values.append(weights[a] * share)
            quality[i, c] = sum(values) / (model + sum(weights[a] for a in answers[i]))
        consensus = quality.argmax(axis=1)
    return np.array(
        [max(set(answers[i].values()), key=lambda c: quality[i, c]) for i in range(n_clips)]
    )


@pytest.mark.parametrize("n_annotators", [1, 2, 3, 4, 5])
def test_consensus_equals_the_naive_one(n_annotators):
    votes = several_labels(n_annotators, seed=n_annotators)
    np.testing.assert_array_equal(consensus_majority(votes), naive_majority(votes))
    np.testing.assert_array_equal(consensus_per_class(votes), naive_per_class(votes))


def test_ties_stay_open():
    votes = np.array([[[1, 0, 0]], [[1, 1, 0]], [[0, 0, 1]]], float)
    assert np.isnan(consensus_majority(votes)).all()
    np.testing.assert_array_equal(consensus_per_class(votes), [[1, 0, 0]])
    np.testing.assert_array_equal(
        consensus_majority(np.concatenate([votes, votes[1:2]])), [[1, 1, 0]]
    )
    np.testing.assert_array_equal(consensus_per_class(votes[:2]), [[1, np.nan, 0]])


def test_none_of_these_is_an_answer_and_silence_is_not():
    votes = np.array([[[0, 0], [1, 0]], [[0, 0], [np.nan, np.nan]]])
    np.testing.assert_array_equal(consensus_majority(votes), [[0, 0], [1, 0]])
    np.testing.assert_array_equal(consensus_per_class(votes), [[0, 0], [1, 0]])


def test_more_classes_than_a_byte_has_bits():
    votes = np.zeros((3, 2, 20))
    votes[0, 0, 17] = votes[1, 0, 17] = votes[2, 0, 1] = 1
    votes[:, 1, [3, 12]] = 1
    np.testing.assert_array_equal(consensus_majority(votes), [votes[0, 0], votes[0, 1]])


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 2), (0, 0, 1)])
def test_nobody_and_nothing(shape):
    votes = np.empty(shape)
    for found in (
        consensus_majority(votes),
        consensus_per_class(votes),
        consensus_quality(votes, np.full(shape[1:], 0.5)),
    ):
        assert found.shape == shape[1:] and np.isnan(found).all()
    assert measure_agreement(votes).kappa.shape == (shape[0],)


def test_clips_nobody_answered():
    votes = np.full((2, 3, 2), np.nan)
    probs = np.full((3, 2), 0.5)
    for found in (
        consensus_majority(votes), consensus_per_class(votes), consensus_quality(votes, probs),
    ):  # fmt: skip
        assert np.isnan(found).all()
    agreement = measure_agreement(votes)
    assert agreement.answers.tolist() == agreement.shared.tolist() == [0, 0]
    assert np.isnan([agreement.exact, agreement.kappa, agreement.majority]).all()


def test_one_annotator_decides_alone():
    truth, votes = planted([0.9], answered=0.8)
    for found in (
        consensus_majority(votes),
        consensus_per_class(votes),
        consensus_quality(votes, opinion(truth)),
    ):
        np.testing.assert_array_equal(found, votes[0])
    agreement = measure_agreement(votes)
    assert agreement.answers[0] == (~np.isnan(votes[0, :, 0])).sum() > 0
    assert agreement.shared[0] == 0 and np.isnan(agreement.jaccard[0])


@pytest.mark.parametrize(("answered", "seed"), [(1.0, 0), (0.7, 1), (0.5, 2)])
def test_quality_equals_the_naive_one(answered, seed):
    truth, votes = planted([0.9, 0.8, 0.7, 0.5], 120, answered=answered, seed=seed)
    seen = ~np.isnan(votes).all(axis=(0, 2))
    votes, probs = votes[:, seen], opinion(truth, seed=seed + 10)[seen]
    said = np.where(np.isnan(votes[..., 0]), np.nan, votes.argmax(axis=2)).T
    found = consensus_quality(votes, probs)
    np.testing.assert_array_equal(found, np.eye(4)[naive_crowdlab(said, probs)])
    assert (found != np.nan_to_num(consensus_majority(votes), nan=-1)).any()


def test_quality_finds_more_than_the_majority():
    truth, votes = planted([0.95, 0.45, 0.4, 0.4], 400)
    probs = opinion(truth, accuracy=0.75)
    right = (consensus_quality(votes, probs) == np.eye(4)[truth]).all(axis=1).mean()
    by_majority = (consensus_majority(votes) == np.eye(4)[truth]).all(axis=1).mean()
    assert right > by_majority + 0.1


def test_quality_never_takes_what_nobody_said():
    # The model is always right and sure; the annotators seldom are.
    truth, votes = planted([0.5, 0.5, 0.5], 200, seed=3)
    found = consensus_quality(votes, opinion(truth, accuracy=1))
    nobody_right = ~(votes[:, np.arange(200), truth] == 1).any(axis=0)
    assert nobody_right.sum() > 10 and not np.isnan(found).any()
    assert ((found == 1) <= (votes == 1).any(axis=0)).all()
    agreed = np.array([len({a for _, a in given(votes, c)}) == 1 for c in range(200)])
    np.testing.assert_array_equal(found[agreed], votes[0, agreed])


def test_quality_does_not_depend_on_the_order_of_clips_or_annotators():
    truth, votes = planted([0.9, 0.7, 0.6], answered=0.8)
    probs = opinion(truth)
    rng = np.random.default_rng(0)
    clips, people = rng.permutation(len(truth)), [2, 0, 1]
    np.testing.assert_array_equal(
        consensus_quality(votes[people][:, clips], probs[clips]),
        consensus_quality(votes, probs)[clips],
    )


def test_quality_is_silent_and_draws_no_lots(capfd):
    truth, votes = planted([0.9, 0.7], 60)
    votes[:, :3] = np.eye(4)[[0, 1]][:, None]
    probs = opinion(truth)
    probs[:3] = 0.25
    # Of drawing lots cleanlab warns, which fails the test.
    found = consensus_quality(votes, probs)
    assert capfd.readouterr() == ("", "")
    assert np.isnan(found[:3]).all() and not np.isnan(found[3:]).any()


def test_quality_leaves_what_the_model_cannot_know_to_the_majority():
    truth, votes = planted([0.9, 0.9, 0.9], 80)
    probs = opinion(truth, accuracy=0.9)
    votes = np.concatenate([votes, np.zeros((3, 80, 1))], axis=2)
    second, first = np.eye(5)[probs[:4].argsort(axis=1)[:, -2:].T]
    nothing, no_sound = np.zeros((4, 5)), np.eye(5)[[4] * 4]
    votes[:, 0] = nothing[0]
    votes[:, 1] = [no_sound[1], no_sound[1], first[1]]
    votes[:, 2] = [nothing[2], no_sound[2], first[2]]
    votes[:, 3] = [first[3], second[3], no_sound[3]]
    found = consensus_quality(votes, probs)
    np.testing.assert_array_equal(found[:2], [nothing[0], no_sound[1]])
    assert np.isnan(found[2]).all()
    # Two of three name a class of the model's, so that it decides between those two.
    np.testing.assert_array_equal(found[3], first[3])
    assert (found[4:, 4] == 0).all()


def test_quality_leaves_clips_without_probabilities_to_the_majority():
    truth, votes = planted([0.9, 0.8, 0.6], 90)
    probs = opinion(truth)
    probs[::3] = np.nan
    found = consensus_quality(votes, probs)
    np.testing.assert_array_equal(found[::3], consensus_majority(votes)[::3])
    rest = np.arange(90) % 3 > 0
    np.testing.assert_array_equal(found[rest], consensus_quality(votes[:, rest], probs[rest]))
    assert np.isnan(found[::3]).any() and not np.isnan(found[rest]).any()


def test_quality_without_any_agreement_stays_open():
    votes = np.eye(3)[[[0, 1, 2], [1, 2, 0]]]
    probs = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    assert np.isnan(consensus_quality(votes, probs)).all()


def test_quality_with_annotators_who_share_nothing_with_others():
    truth, votes = planted([0.9, 0.8, 0.7], 90)
    votes[2, :60] = np.nan
    votes[:2, 60:] = np.nan
    found = consensus_quality(votes, opinion(truth))
    np.testing.assert_array_equal(found[60:], votes[2, 60:])
    assert not np.isnan(found).any()


@pytest.mark.parametrize("answered", [1.0, 0.6])
def test_the_poor_annotator_comes_last(answered):
    _, votes = planted([0.95, 0.9, 0.55, 0.92], answered=answered)
    agreement = measure_agreement(votes)
    for values in (agreement.exact, agreement.jaccard, agreement.kappa, agreement.majority):
        assert values.argmin() == 2 and (np.delete(values, 2) > values[2] + 0.1).all()


def test_agreement_of_single_labels_equals_the_naive_one():
    _, votes = planted([0.9, 0.8, 0.5], answered=0.7)
    said = np.where(np.isnan(votes[..., 0]), -1, votes.argmax(axis=2))
    found = measure_agreement(votes)
    for mine in range(3):
        rows = []
        for other in {0, 1, 2} - {mine}:
            both = (said[mine] >= 0) & (said[other] >= 0)
            same = (said[mine] == said[other])[both].mean()
            rows.append((both.sum(), same, cohen_kappa_score(said[mine, both], said[other, both])))
        weights, same, kappas = zip(*rows, strict=True)
        assert found.exact[mine] == pytest.approx(np.average(same, weights=weights))
        assert found.kappa[mine] == pytest.approx(np.average(kappas, weights=weights))
        assert found.jaccard[mine] == pytest.approx(found.exact[mine])
        others = naive_majority(np.delete(votes, mine, axis=0))
        known = (said[mine] >= 0) & ~np.isnan(others[:, 0])
        assert found.majority[mine] == (said[mine] == others.argmax(axis=1))[known].mean()


def test_agreement_of_several_labels_equals_the_naive_one():
    votes = several_labels(3, n=80)
    found = measure_agreement(votes)
    answers = [dict(given(votes, clip)) for clip in range(80)]
    for mine in range(3):
        assert found.answers[mine] == sum(mine in a for a in answers)
        assert found.shared[mine] == sum(mine in a and len(a) > 1 for a in answers)
        pairs = {
            other: [(a[mine], a[other]) for a in answers if mine in a and other in a]
            for other in {0, 1, 2} - {mine}
        }
        both = [pair for some in pairs.values() for pair in some]
        assert found.exact[mine] == pytest.approx(np.mean([a == b for a, b in both]))
        assert found.jaccard[mine] == pytest.approx(np.mean([jaccard(a, b) for a, b in both]))
        kappas = [naive_kappa(some) for some in pairs.values()]
        weights = [len(some) for some in pairs.values()]
        assert found.kappa[mine] == pytest.approx(np.average(kappas, weights=weights))


def test_kappa_of_guessing_and_of_constant_answers():
    rng = np.random.default_rng(0)
    guesses = np.eye(2)[rng.integers(0, 2, (2, 5000))]
    assert abs(measure_agreement(guesses).kappa).max() < 0.05
    constant = measure_agreement(np.eye(2)[np.zeros((2, 9), int)])
    assert np.isnan(constant.kappa).all() and constant.exact.tolist() == [1, 1]


def test_kappa_when_one_pair_of_three_has_none():
    said = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]])
    found = measure_agreement(np.eye(2)[said]).kappa
    assert found.tolist() == [0, 0, 0]


@pytest.mark.alone
@pytest.mark.slow
def test_agreement_is_quick_on_ten_thousand_clips():
    votes = several_labels(4, n=10_000, n_classes=80, answered=0.5)
    agreement = measure_agreement(votes)
    assert agreement.answers.sum() == (~np.isnan(votes[..., 0])).sum()
    assert np.isfinite(agreement.kappa).all() and (agreement.jaccard > 0.5).all()


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        (np.zeros((2, 3)), "n_annotators, n_clips, n_classes"),
        (np.zeros((2, 3, 0)), "n_annotators, n_clips, n_classes"),
        (np.full((2, 3, 2), 0.5), "annotator 0 on clip 0, class 0 is 0.5"),
        (np.full((1, 1, 2), np.inf), "class 0 is inf"),
        (np.array([[[0, 1]], [[np.nan, 1]]]), "annotator 1 on clip 0 is NaN in some classes"),
    ],
)
@pytest.mark.parametrize(
    "function",
    [
        consensus_majority, consensus_per_class, measure_agreement,
        lambda votes: consensus_quality(votes, np.full(votes.shape[1:], 0.5)),
    ],
)  # fmt: skip
def test_bad_votes_are_named(function, votes, message):
    with pytest.raises(InvalidInput, match=message):
        function(votes)


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        (np.full((3, 3), 0.3), r"\(2, 3\).*got \(3, 3\)"),
        (np.full((2, 4), 0.3), r"\(2, 3\).*got \(2, 4\)"),
        (np.full((2, 0), 0.3), r"got \(2, 0\)"),
        (np.full(2, 0.3), r"got \(2,\)"),
        (np.array([[0.1, 0.9, 0], [0.5, np.nan, 0]]), "probs is nan at clip 1, class 1"),
        (np.array([[0.1, 4.0, 0], [0.5, 0.5, -1]]), r"4.0 at clip 0, class 1; .*\[0, 1\]"),
    ],
)
def test_bad_probabilities_are_named(probs, message):
    with pytest.raises(InvalidInput, match=message):
        consensus_quality(np.eye(3)[[[0, 1], [1, 1]]], probs)


def test_quality_takes_one_label_a_clip():
    votes = np.eye(3)[[[0, 1], [1, 1]]]
    votes[1, 1, 2] = 1
    with pytest.raises(InvalidInput, match=r"clip 1 has 2 labels from annotator 1; .*per_class"):
        consensus_quality(votes, np.full((2, 3), 0.3))
