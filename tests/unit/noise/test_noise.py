"""Scores, selection and the self-verification loop, with models that are no networks."""

import inspect
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from labelkit import metrics, registry
from labelkit.config import RULES, VerifySpec
from labelkit.errors import InvalidInput
from labelkit.folds import make_folds
from labelkit.noise.dynamics import measure_dynamics
from labelkit.noise.selection import select_confident
from labelkit.noise.verify import self_verify


def noisy_set(n=400, n_classes=5, wrong=0.3, seed=0):
    """Blobs with known wrong labels, a third of them verified, and a classifier's opinion."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n)
    centres = rng.standard_normal((n_classes, 8)) * 1.2
    x = centres[truth] + rng.standard_normal((n, 8))
    verified = rng.random(n) < 0.33
    given = truth.copy()
    flip = ~verified & (rng.random(n) < wrong)
    given[flip] = (truth[flip] + rng.integers(1, n_classes, flip.sum())) % n_classes
    return x, truth, given, verified


class Probe:
    """Logistic regression as a fit_predict; remembers what each model learnt from."""

    def __init__(self, x, given, folds, noisy_first=True):
        self.x, self.given, self.folds = x, given, folds
        self.noisy_first, self.calls = noisy_first, []

    def __call__(self, trusted, fold, warm_start):
        use = self.folds != fold
        if trusted is not None:
            use &= trusted
        self.calls.append((fold, np.flatnonzero(use), warm_start))
        model = LogisticRegression(max_iter=2000).fit(self.x[use], self.given[use])
        probs = np.zeros(((self.folds == fold).sum(), self.given.max() + 1))
        probs[:, model.classes_] = model.predict_proba(self.x[self.folds == fold])
        return probs, len(self.calls)


# What these say of a clip has little to do with whether its label is right.
NO_ERRORS = ("typicality", "variability", "window_spread")


@pytest.fixture(params=registry.names("score"))
def score(request):
    """A registered score, given whatever it reads, made from probabilities and vectors."""
    function = registry.resolve("score", request.param)
    reads = inspect.signature(function).parameters

    def call(labels, probs, embeddings=None):
        logits = np.log(np.clip(probs, 1e-6, 1))[None] * np.array([0.5, 1])[:, None, None]
        parts = {
            "probs": probs,
            "probe_probs": probs,
            "embeddings": probs if embeddings is None else embeddings,
            "window_clips": np.arange(len(probs)),
            "window_probs": probs,
        }
        if "dynamics" in reads:
            parts["dynamics"] = measure_dynamics(labels, logits)
        return (
            function(labels, **{key: value for key, value in parts.items() if key in reads})
            if "labels" in reads
            else function(parts["embeddings"])
        )

    call.name, call.reads = request.param, set(reads)
    return call


def opinion(seed=0):
    x, truth, given, _ = noisy_set(seed=seed)
    labels = np.eye(5)[given]
    folds = make_folds(labels, n=4, seed=0)
    probs = np.zeros((len(x), 5))
    for fold in range(4):
        probs[folds == fold] = Probe(x, given, folds)(None, fold, None)[0]
    return labels, probs, given != truth


def test_scores_find_known_errors(score):
    labels, probs, wrong = opinion()
    scores = score(labels, probs, noisy_set()[0])
    assert scores.shape == (400,) and ((scores >= 0) & (scores <= 1)).all()
    if score.name not in NO_ERRORS:
        # One window, or two epochs, make coarser scores than the probabilities themselves.
        assert metrics.auroc(wrong, scores) > (0.75 if score.name == "forgetting" else 0.82)


def test_scores_do_not_depend_on_the_order(score):
    labels, probs, _ = opinion()
    order = np.random.default_rng(1).permutation(len(labels))
    np.testing.assert_allclose(
        score(labels[order], probs[order]), score(labels, probs)[order], atol=1e-9
    )


def test_scores_take_several_labels_and_none(score):
    labels, probs = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]]), np.full((3, 3), 0.4)
    probs[2] = [0.9, 0.8, 0.1]
    # More than three clips, so that there are neighbours.
    scores = score(np.tile(labels, (8, 1)), np.tile(probs, (8, 1)))
    assert np.isnan(scores[1]) or "labels" not in score.reads
    assert np.isfinite(scores[[0, 2]]).all()
    if "embeddings" not in score.reads and score.name not in (*NO_ERRORS, "forgetting"):
        assert scores[2] < scores[0]


def test_scores_refuse_nan(score):
    labels, probs, _ = opinion()
    probs[0, 1] = np.nan
    with pytest.raises(InvalidInput, match=r"(?i)nan|not finite"):
        score(labels, probs)


def test_cleanlab_agrees_with_self_confidence_on_single_labels():
    labels, probs, _ = opinion()
    cleanlab, own = (
        registry.resolve("score", n)(labels, probs) for n in ("cleanlab", "self_confidence")
    )
    np.testing.assert_allclose(cleanlab, own)


def rule(name):
    """The part of a rule that selects."""
    return {key: value for key, value in RULES[name].items() if key != "windows"}


def test_published_rule_keeps_the_forty_most_probable_above_the_threshold():
    n = 45
    labels = np.eye(2)[np.zeros(n, int)]
    p = np.linspace(0.96, 0.99, n)
    probs = np.column_stack([p, 1 - p])
    kept = select_confident(labels, probs, **rule("as_written"))
    assert kept.sum() == 40 and kept[-40:].all()


def test_coded_rule_has_no_threshold():
    labels = np.eye(3)[[0]]
    probs = np.array([[0.30, 0.29, 0.28]])
    assert select_confident(labels, probs, **rule("as_coded")).all()
    assert not select_confident(labels, probs, **rule("as_written")).any()


def test_the_threshold_itself_does_not_pass():
    labels, probs = np.eye(2)[[0]], np.array([[0.95, 0.05]])
    assert not select_confident(labels, probs, threshold=0.95).any()


def test_every_given_label_must_pass():
    labels = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 0], [0, 0, 0]])
    probs = np.array([[0.9, 0.8, 0.7], [0.9, 0.6, 0.7], [0.9, 0.4, 0.1], [0.9, 0.1, 0.1]])
    assert select_confident(labels, probs, threshold=0.5).tolist() == [True, False, False, False]


def test_a_clip_counts_in_each_of_its_classes():
    labels = np.array([[1, 1], [1, 0], [0, 1]])
    probs = np.array([[0.9, 0.9], [0.8, 0.1], [0.1, 0.8]])
    kept = select_confident(labels, probs, threshold=0, per_class=1)
    assert kept.tolist() == [True, False, False]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.99), st.integers(0, 10))
def test_selection_against_a_naive_one(seed, threshold, per_class):
    rng = np.random.default_rng(seed)
    labels = np.eye(4)[rng.integers(0, 4, 60)]
    probs = rng.dirichlet(np.ones(4) * 0.5, 60)
    kept = set()
    for label in range(4):
        mine = [k for k in range(60) if labels[k, label] and probs[k].argmax() == label]
        mine = [k for k in mine if not threshold or probs[k, label] > threshold]
        mine.sort(key=lambda k: -probs[k, label])
        kept |= set(mine[: per_class or None])
    found = select_confident(labels, probs, threshold=threshold, per_class=per_class)
    assert set(np.flatnonzero(found)) == kept
    order = rng.permutation(60)
    again = select_confident(labels[order], probs[order], threshold=threshold, per_class=per_class)
    assert (again == found[order]).all()


def test_negative_options_are_refused():
    with pytest.raises(InvalidInput, match="must not be negative"):
        select_confident(np.eye(2), np.eye(2), per_class=-1)


def run_loop(options=None, seed=0, **values):
    x, truth, given, verified = noisy_set(seed=seed)
    labels = np.eye(5)[given]
    folds = make_folds(labels, n=4, seed=0, verified=verified)
    probe = Probe(x, given, folds)
    given_options = {"iterations": 4, "threshold": 0.5, "until": "all"}
    spec = VerifySpec(**(given_options | (options or {})))
    rounds = list(self_verify(labels, verified, folds, probe, options=spec, **values))
    return rounds, probe, truth, given, verified, folds


def test_the_loop_finds_right_labels_with_any_classifier():
    rounds, _, truth, given, verified, _ = run_loop()
    assert [r.iteration for r in rounds] == [0, 1, 2, 3, 4]
    chosen = rounds[-1].trusted & ~verified
    right = given == truth
    assert right[chosen].mean() > 0.95
    assert right[chosen].mean() > right[~verified].mean() + 0.15
    assert (chosen & right).sum() > 0.5 * (~verified & right).sum()


def test_no_model_ever_learns_from_what_it_judges():
    _, probe, _, _, _, folds = run_loop()
    for fold, learnt, _ in probe.calls:
        assert not (folds[learnt] == fold).any()


def test_each_fold_goes_on_from_its_own_last_round():
    _, probe, *_ = run_loop()
    made_by = {number + 1: fold for number, (fold, _, _) in enumerate(probe.calls)}
    for fold, _, warm in probe.calls:
        assert warm is None or made_by[warm] == fold


def test_verified_clips_are_always_trusted_and_rounds_add_up():
    rounds, _, _, _, verified, _ = run_loop()
    before = verified
    for r in rounds:
        assert r.trusted[verified].all()
        assert (r.trusted == (before | r.accepted) & ~r.revoked).all()
        assert not (r.accepted & before).any() and not (r.revoked & verified).any()
        assert (r.trusted & ~verified <= r.proposed).all() or not r.iteration
        before = r.trusted


def test_reselection_starts_anew_and_accumulation_only_adds():
    anew, *_ = run_loop({"per_class": 8})
    added, *_ = run_loop({"per_class": 8, "accumulate": True})
    verified = anew[0].trusted
    assert (anew[-1].trusted & ~verified).sum() <= 8 * 5
    assert (added[-1].trusted & ~verified).sum() > 8 * 5
    for earlier, later in itertools.pairwise(added):
        assert (earlier.trusted <= later.trusted).all()


def test_only_candidates_are_chosen():
    candidates = np.arange(400) % 2 == 0
    rounds, _, _, _, verified, _ = run_loop(candidates=candidates)
    chosen = rounds[-1].trusted & ~verified
    assert chosen.any() and not chosen[~candidates].any()


def test_folds_may_run_elsewhere():
    def backwards(fn, jobs):
        return [fn(*job) for job in jobs[::-1]][::-1]

    there, here = run_loop(run_folds=backwards)[0], run_loop()[0]
    assert all((a.trusted == b.trusted).all() for a, b in zip(there, here, strict=True))


@pytest.mark.parametrize(
    ("fit_predict", "message"),
    [
        (lambda trusted, fold, warm: (np.full((5, 2), np.nan), None), "fold 0: probs has 10 NaN"),
        (lambda trusted, fold, warm: (np.zeros((3, 2)), None), r"fold 0: .*\(5, 2\) and \(3, 2\)"),
    ],
)
def test_a_bad_model_is_named_by_its_fold(fit_predict, message):
    labels, folds = np.eye(2)[np.arange(10) % 2], np.arange(10) // 5
    with pytest.raises(InvalidInput, match=message):
        list(self_verify(labels, np.arange(10) < 4, folds, fit_predict, options=VerifySpec()))


@pytest.mark.parametrize(
    ("verified", "message"),
    [(np.zeros(10, bool), "no clip is verified"), (np.ones(3, bool), "verified 3")],
)
def test_bad_starts(verified, message):
    labels = np.eye(2)[np.arange(10) % 2]
    with pytest.raises(InvalidInput, match=message):
        list(self_verify(labels, verified, np.arange(10) % 2, None, options=VerifySpec()))


def scripted(n_clips, n_classes, n_kinds, seed):
    """A model that says one of a few things at random, whatever it learnt: rounds come and go."""
    rng = np.random.default_rng(seed)
    sayings = rng.dirichlet(np.full(n_classes, 0.3), (n_kinds, n_clips))
    calls = []

    def fit_predict(trusted, fold, warm_start):
        number = 0 if warm_start is None else warm_start + 1
        if fold == 0:
            calls.append(None if trusted is None else trusted.copy())
        said = sayings[np.random.default_rng((seed, number)).integers(n_kinds)]
        return said[np.arange(n_clips) % 2 == fold], number

    return fit_predict, calls


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_kinds=st.integers(1, 4),
    iterations=st.integers(1, 10),
    threshold=st.sampled_from([None, 0.0, 0.5, 0.99]),
    accumulate=st.booleans(),
    several=st.booleans(),
)
def test_rounds_end_once_nothing_new_comes(
    seed, n_kinds, iterations, threshold, accumulate, several
):
    rng = np.random.default_rng(seed)
    labels = rng.random((40, 3)) < 0.5 if several else np.eye(3)[rng.integers(0, 3, 40)]
    verified, folds = np.arange(40) % 3 == 0, np.arange(40) % 2
    fit_predict, calls = scripted(40, 3, n_kinds, seed)
    options = VerifySpec(iterations=iterations, threshold=threshold, accumulate=accumulate)
    rounds = list(self_verify(labels, verified, folds, fit_predict, options=options))
    assert [r.iteration for r in rounds] == list(range(len(rounds))) and len(calls) == len(rounds)
    assert len(rounds) <= iterations + 1
    # Each round but the first is trained on a set that no round was trained on before it.
    sets = [r.trusted.tobytes() for r in rounds]
    assert len(set(sets)) == len(sets)
    # The loss falls from round to round, but for the last one.
    losses = [r.loss for r in rounds[:-1]]
    assert all(later <= min(losses[: k + 1]) for k, later in enumerate(losses[1:]))
    assert rounds[-1].end and not any(r.end for r in rounds[:-1])


@pytest.mark.parametrize(
    ("said", "iterations", "rounds", "end"),
    [
        ([0.9, 0.9, 0.9], 5, 1, "the trusted set stands still"),
        ([0.4, 0.4], 5, 0, "nothing can be trusted"),
        ([0.6, 0.9, 0.6], 5, 2, "the verified loss rises"),
        ([0.6, 0.7, 0.8], 1, 1, "1 rounds were asked for"),
    ],
)
def test_the_last_round_says_why_it_is(said, iterations, rounds, end):
    """A judge as sure of every label, in each round, as is said; the threshold lets more pass."""
    labels = np.eye(2)[np.arange(20) % 2]

    def fit_predict(trusted, fold, warm_start):
        number = 0 if warm_start is None else warm_start + 1
        own = said[min(number, len(said) - 1)]
        probs = np.where(labels > 0, own, 1 - own)
        # Clip 19 passes from .65 on only, so that the trusted set changes once.
        probs[19] = [0.5 - (own - 0.65), 0.5 + (own - 0.65)]
        return probs[np.arange(20) % 2 == fold], number

    options = VerifySpec(iterations=iterations, threshold=0.5)
    found = list(
        self_verify(labels, np.arange(20) < 6, np.arange(20) % 2, fit_predict, options=options)
    )
    assert len(found) - 1 == rounds and found[-1].end == end
