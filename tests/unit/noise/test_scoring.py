"""Scores of clips against naive versions written here, and against the libraries they follow."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.mixture import GaussianMixture

from labelkit import metrics
from labelkit.errors import InvalidInput
from labelkit.noise import scoring, windows


def blobs(n=600, n_classes=6, wrong=0.2, seed=0, second=0.0):
    """Labels of which some are wrong, and the probabilities of a fairly good model."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n)
    logits = rng.standard_normal((n, n_classes)) * 1.2
    logits[np.arange(n), truth] += 4
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    flipped = rng.random(n) < wrong
    given_class = np.where(flipped, (truth + rng.integers(1, n_classes, n)) % n_classes, truth)
    labels = np.eye(n_classes, dtype=bool)[given_class]
    more = rng.random(n) < second
    labels[more, rng.integers(0, n_classes, more.sum())] = True
    return labels, probs, flipped


def multi_label(n=400, n_classes=6, seed=1):
    """Several labels a clip and probabilities that do not sum to 1; one clip has no label."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n, n_classes)) < 0.3
    labels[0] = False
    return labels, np.clip(labels * 0.5 + rng.random((n, n_classes)) * 0.5, 0, 1)


SCORES = {
    "lwlrap": scoring.score_lwlrap,
    "self_confidence": scoring.score_self_confidence,
    "self_confidence_adjusted": lambda y, p: scoring.score_self_confidence(y, p, adjust=True),
    "margin": scoring.score_margin,
    "margin_adjusted": lambda y, p: scoring.score_margin(y, p, adjust=True),
    "log_loss": scoring.score_log_loss,
    "cleanlab": scoring.score_cleanlab,
    "cleanlab_softmin": lambda y, p: scoring.score_cleanlab(y, p, aggregate="softmin"),
    "cleanlab_margin": lambda y, p: scoring.score_cleanlab(
        y, p, aggregate="minimum", method="normalized_margin"
    ),
    "mixture": scoring.score_mixture,
    "mixture_per_class": lambda y, p: scoring.score_mixture(y, p, per_class=True),
    "window_consensus": lambda y, p: windows.score_window_consensus(y, np.arange(len(y)), p),
}


@pytest.fixture(params=SCORES)
def score(request):
    return SCORES[request.param]


def test_every_score_finds_wrong_labels(score):
    labels, probs, wrong = blobs()
    scores = score(labels, probs)
    assert scores.shape == (600,) and ((scores >= 0) & (scores <= 1)).all()
    assert metrics.auroc(wrong, scores) > 0.9


@pytest.mark.parametrize("arrays", [blobs()[:2], multi_label()], ids=["single", "multi"])
def test_scores_follow_the_clips(score, arrays):
    labels, probs = arrays
    order = np.random.default_rng(3).permutation(len(labels))
    np.testing.assert_allclose(
        score(labels[order], probs[order]), score(labels, probs)[order], atol=1e-9
    )


def test_scores_do_not_depend_on_the_blocks(score, monkeypatch):
    labels, probs = multi_label()
    whole, split = score(labels, probs), metrics.split_rows
    monkeypatch.setattr(metrics, "split_rows", lambda n, width, **_: split(n, width, entries=43))
    np.testing.assert_allclose(score(labels, probs), whole, atol=1e-12)


def test_scores_take_float32_and_leave_their_input_alone(score):
    labels, probs = multi_label()
    single, before = probs.astype(np.float32), labels.copy()
    kept = single.copy()
    np.testing.assert_allclose(score(labels, single), score(labels, probs), atol=1e-4)
    assert (single == kept).all() and (labels == before).all()


def test_only_clips_without_labels_have_no_score(score):
    labels, probs = multi_label()
    assert (
        np.flatnonzero(np.isnan(score(labels, probs))).tolist()
        == np.flatnonzero(~labels.any(axis=1)).tolist()
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_refuse_what_is_no_number(score, value):
    labels, probs = multi_label()
    probs[5, 2] = value
    with pytest.raises(InvalidInput, match=r"probs has 1 NaN or infinite .* clip 5, class 2"):
        score(labels, probs)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_simple_scores_against_naive_ones(seed):
    labels, probs = multi_label(n=20, seed=seed)
    for k in range(20):
        mine = [probs[k, c] for c in range(6) if labels[k, c]]
        others = [probs[k, c] for c in range(6) if not labels[k, c]]
        if mine:
            likelihoods = mine + [1 - p for p in others]
            product = np.prod(np.clip(likelihoods, 1e-7, 1 - 1e-7)) ** (1 / 6)
            part = (labels[k : k + 1], probs[k : k + 1])
            assert scoring.score_self_confidence(*part)[0] == pytest.approx(min(mine))
            margin = (min(mine) - max(others, default=0) + 1) / 2
            assert scoring.score_margin(*part)[0] == pytest.approx(margin)
            assert scoring.score_log_loss(*part)[0] == pytest.approx(product)


def test_log_loss_falls_with_a_missing_label_as_well():
    probs = np.array([[0.9, 0.1], [0.9, 0.8]])
    assert np.diff(scoring.score_log_loss(np.eye(2)[[0, 0]], probs)) < 0
    assert np.diff(scoring.score_self_confidence(np.eye(2)[[0, 0]], probs)) == 0


@pytest.mark.parametrize("method", ["self_confidence", "normalized_margin"])
def test_cleanlab_is_cleanlab(method):
    from cleanlab.internal.multilabel_scorer import exponential_moving_average, softmin

    labels, probs = multi_label()
    use = labels.any(axis=1)
    # Of two classes, present or absent, a margin is the probability itself.
    agreeing = np.where(labels, probs, 1 - probs)[use]
    expected = {
        "exponential": exponential_moving_average(agreeing, alpha=0.8),
        "softmin": softmin(agreeing, temperature=0.1),
        "minimum": agreeing.min(axis=1),
    }
    for aggregate, values in expected.items():
        found = scoring.score_cleanlab(labels, probs, aggregate=aggregate, method=method)
        np.testing.assert_allclose(found[use], values, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregate": "mean"}, "aggregate must be one of exponential, softmin, minimum"),
        ({"method": "entropy"}, "method must be one of self_confidence, normalized_margin"),
    ],
)
def test_cleanlab_names_its_options(options, message):
    with pytest.raises(InvalidInput, match=message):
        scoring.score_cleanlab(*multi_label(), **options)


def test_cleanlab_refuses_logits():
    with pytest.raises(InvalidInput, match="turn logits into probabilities"):
        scoring.score_cleanlab(np.eye(2), np.array([[3.0, -2.0], [0.1, 0.2]]))


@pytest.mark.parametrize("seed", range(4))
def test_a_higher_loss_never_scores_better(seed):
    """Whichever of the two components is the wider one."""
    rng = np.random.default_rng(seed)
    narrow, wide = rng.normal(1.5, 0.03, 500), rng.normal(0.7, 0.3, 500)
    losses = np.concatenate([narrow, wide, [0.001, 2.2, 2.4]])
    losses = np.abs(losses if seed % 2 else 2 - losses).clip(1e-3)
    p = np.exp(-losses)
    labels, probs = np.eye(2)[np.zeros(len(p), int)], np.column_stack([p, 1 - p])
    scores = scoring.score_mixture(labels, probs)
    in_order = scores[np.argsort(losses)]
    assert (np.diff(in_order) <= 1e-12).all() and in_order[0] > 0.5 > in_order[-1]


def test_mixture_recovers_two_known_gaussians():
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(0.6, 0.1, 3000), rng.normal(1.0, 0.1, 1000)])
    p = np.exp(-losses)
    scores = scoring.score_mixture(np.eye(2)[np.zeros(4000, int)], np.column_stack([p, 1 - p]))
    low, high = 3 * norm.pdf(losses, 0.6, 0.1), norm.pdf(losses, 1.0, 0.1)
    between = (losses > 0.6) & (losses < 1.0)
    assert abs(scores - low / (low + high))[between].max() < 0.08


@pytest.mark.parametrize("wide", [0, 1])
def test_mixture_is_scikit_learns_between_the_means(wide):
    rng = np.random.default_rng(wide)
    deviations = [0.3, 0.1] if wide == 0 else [0.1, 0.3]
    losses = np.concatenate(
        [rng.normal(1.2, deviations[0], 900), rng.normal(2, deviations[1], 600)]
    )
    p = np.exp(-losses)
    scores = scoring.score_mixture(np.eye(2)[np.zeros(1500, int)], np.column_stack([p, 1 - p]))
    x = ((losses - losses.min()) / np.ptp(losses))[:, None]
    mixture = GaussianMixture(2, reg_covar=5e-4, tol=1e-5, max_iter=500, random_state=0).fit(x)
    low = mixture.means_[:, 0].argmin()
    between = (x[:, 0] > mixture.means_.min()) & (x[:, 0] < mixture.means_.max())
    expected = mixture.predict_proba(x)[:, low]
    np.testing.assert_allclose(scores[between], expected[between], atol=0.01)
    assert ((expected > 0.1) & (expected < 0.9) & between).sum() > 20


def test_mixture_of_each_class_lets_a_class_be_hard():
    rng = np.random.default_rng(0)
    easy, hard = rng.normal(0.95, 0.01, 100), rng.normal(0.5, 0.01, 100)
    easy[:20], hard[:20] = 0.6, 0.05
    p = np.concatenate([easy, hard])
    labels = np.eye(2)[np.repeat([0, 1], 100)]
    probs = np.where(labels > 0, p[:, None], 1 - p[:, None])
    wrong = np.tile(np.arange(100) < 20, 2)
    apart = scoring.score_mixture(labels, probs, per_class=True)
    assert metrics.auroc(wrong, apart) > 0.95 > metrics.auroc(wrong, 1 * probs[labels > 0])


def test_mixture_of_each_class_is_that_of_its_clips_and_the_lowest_counts():
    labels, probs = multi_label()
    lowest = np.full(len(labels), np.nan)
    for mask in labels.T:
        lowest[mask] = np.fmin(lowest[mask], scoring.score_mixture(labels[mask], probs[mask]))
    np.testing.assert_allclose(scoring.score_mixture(labels, probs, per_class=True), lowest)


def test_mixture_of_a_rare_class_is_that_of_all():
    labels, probs, _ = blobs()
    labels[:] = np.eye(6)[np.where(np.arange(600) < 5, 1, 0)]
    probs[300:305] = probs[:5][:, [1, 0, 2, 3, 4, 5]]
    together = scoring.score_mixture(labels, probs)
    apart = scoring.score_mixture(labels, probs, per_class=True)
    np.testing.assert_array_equal(apart[:5], together[:5])


@pytest.mark.parametrize("per_class", [False, True])
def test_equal_losses_cannot_be_parted(per_class):
    with pytest.raises(InvalidInput, match="all scores are equal, nothing to part"):
        scoring.score_mixture(np.eye(3), np.full((3, 3), 1 / 3), per_class=per_class)


@pytest.mark.slow
def test_mixture_samples_many_clips():
    labels, probs, wrong = blobs(n=250_000)
    assert metrics.auroc(wrong, scoring.score_mixture(labels, probs)) > 0.9


def naive_windows(labels, clips, probs):
    share, spread = np.full(len(labels), np.nan), np.full(len(labels), np.nan)
    for k, row in enumerate(labels):
        mine, given_classes = probs[clips == k], np.flatnonzero(row)
        if len(mine) and len(given_classes):
            tops = [np.argsort(-p, kind="stable")[: len(given_classes)] for p in mine]
            share[k] = min(
                0.999 * np.mean([c in top for top in tops]) + 0.001 * mine[:, c].mean()
                for c in given_classes
            )
            spread[k] = max(mine[:, c].std() for c in given_classes)
    return share, spread


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_windows_against_a_naive_version(seed):
    rng = np.random.default_rng(seed)
    labels = rng.random((15, 5)) < 0.3
    clips = rng.integers(0, 15, 40)
    probs = rng.choice([0.0, 0.1, 0.25, 0.5, 1.0], (40, 5))
    share, spread = naive_windows(labels, clips, probs)
    np.testing.assert_allclose(windows.score_window_consensus(labels, clips, probs), share)
    np.testing.assert_allclose(windows.window_spread(labels, clips, probs), spread, atol=1e-12)
    order, rows = rng.permutation(15), rng.permutation(40)
    moved = np.argsort(order)[clips[rows]]
    again = windows.score_window_consensus(labels[order], moved, probs[rows])
    np.testing.assert_allclose(again, share[order])


def test_windows_may_be_none():
    nothing = np.zeros(0, int), np.zeros((0, 2))
    assert np.isnan(windows.score_window_consensus(np.eye(2), *nothing)).all()
    assert np.isnan(windows.window_spread(np.eye(2), *nothing)).all()


@pytest.mark.parametrize("function", [windows.score_window_consensus, windows.window_spread])
@pytest.mark.parametrize(
    ("clips", "probs", "message"),
    [
        ([0, 1, 1], np.ones((2, 2)), r"\(n_windows, n_classes\) = \(3, 2\), got \(2, 2\)"),
        ([0, 2], np.ones((2, 2)), "whole numbers from 0 to 1"),
        ([0, -1], np.ones((2, 2)), "whole numbers from 0 to 1"),
        ([0.0, 1.0], np.ones((2, 2)), "whole numbers from 0 to 1"),
        ([0, 1], np.array([[1, 0], [np.nan, 1]]), "probs has 1 NaN"),
    ],
)
def test_windows_are_checked(function, clips, probs, message):
    with pytest.raises(InvalidInput, match=message):
        function(np.eye(2), np.array(clips), probs)


def test_ranks_are_fused_whatever_the_scale():
    rng = np.random.default_rng(0)
    one, two = rng.random(50), rng.random(50)
    fused = scoring.fuse_ranks([one, np.exp(9 * two)], weights=[3, 1])
    places = [np.argsort(np.argsort(s)) / 49 for s in (one, two)]
    np.testing.assert_allclose(fused, (3 * places[0] + places[1]) / 4)


def test_equal_scores_share_their_rank_and_nan_leaves_it_to_the_others():
    fused = scoring.fuse_ranks([np.array([1, 1, 5, np.nan]), np.array([np.nan, 1, 2, np.nan])])
    assert fused[:3].tolist() == [0.25, 0.125, 1] and np.isnan(fused[3])


def test_a_constant_score_changes_nothing():
    one, flat = np.random.default_rng(0).random(30), np.full(30, 0.7)
    np.testing.assert_array_equal(scoring.fuse_ranks([one, flat]), scoring.fuse_ranks([one]))
    assert (scoring.fuse_ranks([flat, flat]) == 0.5).all()


@pytest.mark.parametrize(
    ("scores", "weights", "message"),
    [
        ([], None, "one or more scores"),
        ([np.zeros(3), np.zeros(2)], None, r"\(3,\), \(2,\)"),
        ([np.arange(3)], [1, 2], "weights must be 1 numbers"),
        ([np.arange(3)], [-1], "at least 0"),
        ([np.arange(3)], [0], "not all 0"),
        ([np.arange(3)], [np.nan], "at least 0"),
    ],
)
def test_fusing_checks_its_input(scores, weights, message):
    with pytest.raises(InvalidInput, match=message):
        scoring.fuse_ranks(scores, weights)


def test_fusing_two_judges_beats_the_worse():
    labels, probs, wrong = blobs(wrong=0.3)
    noisy = probs + np.random.default_rng(5).random(probs.shape)
    scores = [scoring.score_margin(labels, p) for p in (probs, noisy)]
    assert metrics.auroc(wrong, scoring.fuse_ranks(scores)) > metrics.auroc(wrong, scores[1])


def test_no_score_warns_on_clips_without_any_label(score):
    labels, probs = np.zeros((3, 2)), np.full((3, 2), 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(score(labels, probs)).all()


def test_scores_of_no_clips_are_none(score):
    assert score(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)
