"""The scikit-learn probe: nothing but a plain loop, and a model for every rule."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from labelkit import registry
from labelkit.config import VerifySpec
from labelkit.errors import InvalidInput, UnknownName
from labelkit.folds import make_folds
from labelkit.noise.probe import Probe, cross_probs
from labelkit.noise.verify import self_verify

NAMES = {
    "logistic_regression": "sklearn.linear_model:LogisticRegression",
    "svm": "sklearn.svm:SVC",
    "random_forest": "sklearn.ensemble:RandomForestClassifier",
    "extra_trees": "sklearn.ensemble:ExtraTreesClassifier",
    "gradient_boosting": "sklearn.ensemble:HistGradientBoostingClassifier",
    "knn": "sklearn.neighbors:KNeighborsClassifier",
}


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(registry.TABLE, "classifier", NAMES | registry.TABLE.get("classifier", {}))


def blobs(n=240, n_classes=4, wrong=0.0, seed=0, distance=2.0):
    """Points around class centres, each dimension of its own scale, some labels wrong."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % n_classes
    x = rng.standard_normal((n_classes, 6))[truth] * distance + rng.standard_normal((n, 6))
    flip = rng.random(n) < wrong
    given = np.where(flip, (truth + rng.integers(1, n_classes, n)) % n_classes, truth)
    return x * 10.0 ** np.arange(-2, 4), truth, given


def several(n=240, seed=0):
    """Two independent directions, each with a label of its own, and a third for both."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 5))
    labels = np.column_stack([x[:, 0] > 0, x[:, 1] > 0.5, (x[:, 0] > 0) & (x[:, 1] > 0.5)])
    return x, labels.astype(float)


def make(x, labels, folds=None, **options):
    folds = np.arange(len(x)) // 4 % 4 if folds is None else folds
    return Probe(embeddings=x, labels=labels, folds=folds, **options)


@pytest.mark.parametrize("standardise", [True, False])
def test_a_probe_is_a_plain_loop(standardise):
    x, _, given = blobs()
    x = x if standardise else x / x.std(axis=0)
    folds = np.arange(len(x)) // 10 % 3
    expected = np.zeros((len(x), 4))
    for fold in range(3):
        train, test = x[folds != fold], x[folds == fold]
        if standardise:
            scaler = StandardScaler().fit(train)
            train, test = scaler.transform(train), scaler.transform(test)
        model = LogisticRegression(C=0.01, max_iter=1000).fit(train, given[folds != fold])
        expected[folds == fold] = model.predict_proba(test)
    probe = make(x, np.eye(4)[given], folds, standardise=standardise)
    np.testing.assert_allclose(cross_probs(probe, folds), expected, atol=1e-12)


def test_several_labels_are_one_problem_a_class():
    x, labels = several()
    folds = np.arange(len(x)) // 4 % 4
    expected = np.zeros(labels.shape)
    for fold in range(4):
        use = (folds != fold) & labels.any(axis=1)
        scaler = StandardScaler().fit(x[use])
        for index in range(3):
            model = LogisticRegression(C=1, max_iter=1000)
            model.fit(scaler.transform(x[use]), labels[use, index])
            found = model.predict_proba(scaler.transform(x[folds == fold]))
            expected[folds == fold, index] = found[:, 1]
    found = cross_probs(make(x, labels, options={"C": 1}), folds)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "sklearn.svm:LinearSVC", "sklearn.linear_model:Ridge"
                                  "Classifier"])  # fmt: skip
def test_every_classifier_judges_well_and_the_same_again(name):
    x, truth, given = blobs(wrong=0.1)
    probe = make(x, np.eye(4)[given], classifier=name)
    probs = cross_probs(probe, probe.folds)
    assert ((probs >= 0) & (probs <= 1)).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert (probs.argmax(axis=1) == truth).mean() > 0.85
    np.testing.assert_array_equal(cross_probs(probe, probe.folds), probs)
    x, labels = several()
    probs = cross_probs(make(x, labels, classifier=name), np.arange(len(x)) // 4 % 4)
    assert ((probs >= 0) & (probs <= 1)).all()
    assert ((probs > 0.5) == labels)[labels.any(axis=1)].mean() > 0.8


def test_seeds_and_other_options_reach_the_classifier():
    x, _, given = blobs(n=80, wrong=0.3)
    labels = np.eye(4)[given]
    forest = {"classifier": "random_forest", "options": {"n_estimators": 5}}
    one, again, two = (make(x, labels, seed=seed, **forest)(None, 0, None)[0] for seed in (1, 1, 2))
    assert (one == again).all() and (one != two).any()
    strong, weak = (make(x, labels, options={"C": c})(None, 0, None)[0] for c in (10, 1e-4))
    assert strong.max() > 0.8 > 0.3 > weak.max()


def test_scores_without_probabilities_keep_their_order():
    """Softmax of the decision function; of two classes its sigmoid."""
    from sklearn.svm import LinearSVC

    x, _, given = blobs(n_classes=2)
    probe = make(x, np.eye(2)[given], classifier="sklearn.svm:LinearSVC")
    found, _ = probe(None, 0, None)
    use = probe.folds != 0
    scaler = StandardScaler().fit(x[use])
    model = LinearSVC(random_state=0).fit(scaler.transform(x[use]), given[use])
    sure = model.decision_function(scaler.transform(x[~use]))
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp(-sure)))
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_a_class_too_rare_for_the_folds_gets_probability_nought():
    x, _, given = blobs(n=81, n_classes=3)
    labels = np.zeros((81, 5))
    labels[np.arange(81), given] = 1
    labels[7] = [0, 0, 0, 1, 0]
    folds = np.arange(81) % 3
    probs = cross_probs(make(x, labels, folds), folds)
    assert probs.shape == (81, 5) and not probs[:, 4].any()
    assert not probs[folds == folds[7], 3].any() and probs[folds != folds[7], 3].all()
    np.testing.assert_allclose(probs.sum(axis=1), 1)


def test_classes_that_never_vary_among_several_labels():
    x, labels = several()
    labels = np.column_stack([labels, np.zeros(len(x)), labels.any(axis=1)])
    probs = cross_probs(make(x, labels), np.arange(len(x)) // 4 % 4)
    assert not probs[:, 3].any() and (probs[:, 4] == 1).all()
    assert (probs[:, :3] > 0).all()


def test_clips_without_labels_are_judged_but_never_learnt_from():
    x, _, given = blobs(n=80)
    labels = np.eye(4)[given]
    labels[5] = 0
    wild = x.copy()
    wild[5] *= 1000
    folds = np.arange(80) // 4 % 4
    tame, moved = (cross_probs(make(points, labels), folds) for points in (x, wild))
    np.testing.assert_array_equal(np.delete(tame, 5, axis=0), np.delete(moved, 5, axis=0))
    assert np.isfinite(tame).all()


def test_only_trusted_clips_of_other_folds_are_learnt_from():
    x, _, given = blobs(n=80)
    trusted = np.arange(80) % 3 > 0
    found, state = make(x, np.eye(4)[given])(trusted, 2, None)
    held_out = np.arange(80) // 4 % 4 == 2
    use = trusted & ~held_out
    scaler = StandardScaler().fit(x[use])
    model = LogisticRegression(C=0.01, max_iter=1000).fit(scaler.transform(x[use]), given[use])
    np.testing.assert_allclose(
        found, model.predict_proba(scaler.transform(x[held_out])), atol=1e-12
    )
    assert state is None


@pytest.mark.slow
def test_groups_are_never_on_both_sides():
    """Copies of a wrongly labelled clip vouch for each other unless folds keep them together."""
    rng = np.random.default_rng(0)
    x, truth, given = blobs(n=120, wrong=0.3, distance=0.6)
    x, given = np.repeat(x, 2, axis=0), np.repeat(given, 2)
    wrong = np.repeat(truth, 2) != given
    labels = np.eye(4)[given]
    groups = np.repeat(np.arange(120), 2)
    grouped = make_folds(labels, n=4, seed=0, groups=groups.tolist())
    assert all(len(set(grouped[groups == group])) == 1 for group in range(120))
    loose = rng.permutation(np.arange(240) % 4)
    options = {"classifier": "knn", "options": {"n_neighbors": 1}}
    caught = {
        name: (cross_probs(make(x, labels, folds, **options), folds)[labels > 0] == 0)[wrong].mean()
        for name, folds in (("grouped", grouped), ("loose", loose))
    }
    assert caught["grouped"] > caught["loose"] + 0.3


def test_self_verification_with_a_probe():
    x, truth, given = blobs(n=400, wrong=0.3)
    verified = (np.arange(400) % 7 < 2) & (given == truth)
    labels = np.eye(4)[given]
    folds = make_folds(labels, n=4, seed=0, verified=verified)
    probe = make(x, labels, folds, options={"C": 1})
    spec = VerifySpec(iterations=3, threshold=0.5, per_class=0)
    rounds = list(self_verify(labels, verified, folds, probe, options=spec))
    chosen = rounds[-1].trusted & ~verified
    right = given == truth
    assert right[chosen].mean() > 0.95 > right[~verified].mean() + 0.2
    assert (chosen & right).sum() > 0.8 * (~verified & right).sum()
    assert rounds[-1].loss < 0.5


X, _, GIVEN = blobs(n=24)
LABELS = np.eye(4)[GIVEN]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(np.where(np.arange(24)[:, None] == 9, np.nan, X), LABELS),
         "the embeddings of 1 clips are NaN or infinite, the first is clip 9; leave"),
        (lambda: make(X[:9], LABELS, np.zeros(9)),
         r"got \(9, 6\); labels has 24 clips, folds 9"),
        (lambda: make(X, LABELS * 2), "multi-hot"),
        (lambda: make(X, LABELS, options={"Q": 1}),
         "LogisticRegression has no option 'Q'; known: C,"),
        (lambda: make(X, LABELS, classifier="knn", options={"n_neighbours": 1}),
         "knn has no option 'n_neighbours'; did you mean 'n_neighbors'"),
        (lambda: make(X, LABELS, options={"C": -1})(None, 0, None),
         "fold 0: The 'C' parameter of LogisticRegression must be"),
        (lambda: make(X, LABELS, classifier="sklearn.linear_model:LinearRegression")(None, 1, None),
         "LinearRegression, fold 1: it has neither predict_proba nor decision_function"),
        (lambda: make(X, LABELS)(GIVEN == 2, 0, None),
         "fold 0: the 4 labelled clips to learn from do not differ in their labels; trust"),
        (lambda: make(X, LABELS)(np.zeros(24, bool), 0, None), "the 0 labelled clips to learn"),
        (lambda: make(X, np.ones((24, 2)))(None, 3, None), "fold 3: the 20 labelled clips"),
        (lambda: cross_probs(make(X, LABELS), np.arange(24) % 2),
         "the model judged 8 clips of a fold that has 12"),
        (lambda: cross_probs(make(X, LABELS), np.zeros(0)), "there is no clip to judge"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["svn", "sklearn.svm:Nothing", "no_such_package.svm:SVC"])
def test_unknown_classifiers(name):
    with pytest.raises(UnknownName, match="no classifier called"):
        make(X, LABELS, classifier=name)
