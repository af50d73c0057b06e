"""Training dynamics against naive loops, and on a network that is no network."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import SGDClassifier

from labelkit import metrics
from labelkit.errors import InvalidInput
from labelkit.noise import dynamics
from labelkit.noise.dynamics import Dynamics, mean_dynamics, measure_dynamics

FIELDS = [field.name for field in dataclasses.fields(Dynamics)]


def naive_dynamics(labels, logits, head):
    found = {name: np.full(len(labels), np.nan) for name in FIELDS}
    for k, row in enumerate(labels):
        mine, others = np.flatnonzero(row), np.flatnonzero(~row)
        if not len(mine):
            continue
        margins, confidences, right, means = [], [], [], 0
        for z in logits[:, k].astype(np.float64):
            p = np.exp(z) / np.exp(z).sum() if head == "softmax" else 1 / (1 + np.exp(-z))
            confidences.append(min(p[c] for c in mine))
            means = means + p / len(logits)
            margins.append(min(z[mine]) - max(z[others]) if len(others) else np.nan)
            right.append(not len(others) or min(z[mine]) > max(z[others]))
        found["aum"][k] = np.mean(margins)
        if len(others):
            found["epoch_margin"][k] = np.log(min(means[mine])) - np.log(max(means[others]))
        found["confidence"][k], found["variability"][k] = np.mean(confidences), np.std(confidences)
        losses = sum(a and not b for a, b in itertools.pairwise(right))
        found["forgetting"][k] = losses if any(right) else len(logits)
    return found


def assert_equal(found, expected):
    for name in FIELDS:
        value = expected[name] if isinstance(expected, dict) else getattr(expected, name)
        np.testing.assert_allclose(getattr(found, name), value, atol=2e-6, err_msg=name)


@given(st.integers(0, 10_000), st.sampled_from(["softmax", "sigmoid"]), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_dynamics_against_a_naive_loop(seed, head, n_epochs):
    rng = np.random.default_rng(seed)
    labels = rng.random((11, 4)) < 0.4
    labels[0], labels[1] = False, True
    # Few values, so that ties are common.
    logits = rng.integers(-3, 4, (n_epochs, 11, 4)).astype(rng.choice(["f2", "f4", "f8"]))
    found = measure_dynamics(labels, logits, head=head, block=int(rng.integers(1, 13)))
    assert_equal(found, naive_dynamics(labels, logits, head))


def test_dynamics_read_a_memory_map(tmp_path):
    rng = np.random.default_rng(0)
    labels, logits = np.eye(7)[rng.integers(0, 7, 90)], rng.standard_normal((5, 90, 7))
    logits.astype(np.float16).tofile(tmp_path / "logits")
    mapped = np.memmap(tmp_path / "logits", np.float16, "r", shape=(5, 90, 7))
    assert_equal(measure_dynamics(labels, mapped, block=32), measure_dynamics(labels, mapped[:]))
    order = rng.permutation(90)
    expected = Dynamics(*(a[order] for a in dataclasses.astuple(measure_dynamics(labels, mapped))))
    assert_equal(measure_dynamics(labels[order], mapped[:, order]), expected)


def test_forgetting_counts_by_hand():
    z = np.array([[1, -1, 1, -1, 1], [1, 1, 1, 1, 1], [-1, -1, -1, -1, 1], [-1, -1, 0, -1, -1]])
    logits = np.stack([z, np.zeros_like(z)], axis=-1).transpose(1, 0, 2).astype(float)
    found = measure_dynamics(np.eye(2)[[0] * 4], logits)
    assert found.forgetting.tolist() == [2, 0, 0, 5]
    assert found.aum == pytest.approx([0.2, 1, -0.6, -0.8])
    scores = dynamics.score_forgetting(np.eye(2)[[0] * 4], found)
    assert scores == pytest.approx([1 / 3, 1, 1, 1 / 6])


def test_extreme_logits_stay_finite():
    labels = np.eye(2)[[0, 1]]
    for head in ("softmax", "sigmoid"):
        found = measure_dynamics(labels, np.full((3, 2, 2), [6e4, -6e4], np.float16), head=head)
        assert all(np.isfinite(part).all() for part in dataclasses.astuple(found))
        assert found.confidence == pytest.approx([1, 0]) and found.aum.tolist() == [12e4, -12e4]


@pytest.fixture(scope="module")
def trained():
    """Logits after each epoch of a linear model that learns labels of which a fifth are wrong."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 500)
    x = 1.5 * rng.standard_normal((5, 20))[truth] + 0.8 * rng.standard_normal((500, 20))
    wrong = rng.random(500) < 0.2
    given_class = np.where(wrong, (truth + rng.integers(1, 5, 500)) % 5, truth)
    model = SGDClassifier(loss="log_loss", alpha=0.01, random_state=0)
    epochs = [
        model.partial_fit(x, given_class, classes=range(5)).decision_function(x) for _ in range(8)
    ]
    return np.eye(5)[given_class], np.stack(epochs), wrong


@pytest.mark.parametrize(
    "name", ["score_aum", "score_epoch_margin", "score_mean_confidence", "score_forgetting"]
)
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_dynamics_find_wrong_labels(name, head, trained):
    labels, logits, wrong = trained
    scores = getattr(dynamics, name)(labels, measure_dynamics(labels, logits, head=head))
    assert ((scores >= 0) & (scores <= 1)).all()
    assert metrics.auroc(wrong, scores) > 0.85


def test_variability_is_low_for_the_unsteady():
    logits = np.zeros((4, 3, 2))
    logits[:, 0, 0] = 9
    logits[:, 1, 0] = (9, -9, 9, -9)
    logits[:, 2, 0] = (1, 0, 1, 0)
    labels = np.eye(2)[[0] * 3]
    scores = dynamics.score_variability(labels, measure_dynamics(labels, logits))
    assert scores[1] < scores[2] < scores[0] and scores[1] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    "name", ["aum", "epoch_margin", "mean_confidence", "variability", "forgetting"]
)
def test_scores_of_dynamics_know_their_clips(name):
    labels = np.array([[1, 0], [0, 0]])
    score = getattr(dynamics, f"score_{name}")
    found = score(labels, Dynamics(*np.full((5, 2), 0.25)))
    assert np.isfinite(found[0]) and np.isnan(found[1])
    with pytest.raises(InvalidInput, match="labels has 2 clips, dynamics 3"):
        score(labels, Dynamics(*np.zeros((5, 3))))


def test_means_over_the_models_that_trained_on_a_clip():
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(3):
        rows = rng.permutation(20)[:12]
        parts.append((rows, Dynamics(*rng.random((5, 12)))))
    parts[0][1].aum[3] = np.nan
    found = mean_dynamics(parts, 20)
    for name in FIELDS:
        for clip in range(20):
            values = [getattr(d, name)[rows == clip] for rows, d in parts]
            values = [v for v in np.concatenate(values) if not np.isnan(v)]
            expected = np.mean(values) if values else np.nan
            assert getattr(found, name)[clip] == pytest.approx(expected, nan_ok=True)


def test_no_model_means_nothing_known():
    assert all(np.isnan(part).all() for part in dataclasses.astuple(mean_dynamics([], 3)))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0], "part 0 has 1 rows and 2 clips"),
        ([0, 0], "each once"),
        ([-1, 0], "rows must be from 0 to 2"),
        ([0, 3], "row 3 is beyond the last clip 2"),
    ],
)
def test_means_check_their_rows(rows, message):
    with pytest.raises(InvalidInput, match=message):
        mean_dynamics([(np.array(rows), Dynamics(*np.zeros((5, 2))))], 3)


@pytest.mark.parametrize(
    ("logits", "options", "message"),
    [
        (np.zeros((2, 2)), {}, r"\(n_epochs, 2, 2\), with at least one epoch, got \(2, 2\)"),
        (np.zeros((0, 2, 2)), {}, "at least one epoch"),
        (np.zeros((1, 3, 2)), {}, r"got \(1, 3, 2\)"),
        (np.zeros((1, 2, 2)), {"head": "linear"}, "one of softmax, sigmoid, got 'linear'"),
        (np.zeros((1, 2, 2)), {"block": 0}, "block must be at least 1 clip, got 0"),
        (
            np.array([[[0, 0], [0, 0]], [[0, 0], [0, np.nan]]]),
            {"block": 1},
            "nan at epoch 1, clip 1, class 1",
        ),
    ],
)
def test_dynamics_check_their_input(logits, options, message):
    with pytest.raises(InvalidInput, match=message):
        measure_dynamics(np.eye(2), logits, **options)
