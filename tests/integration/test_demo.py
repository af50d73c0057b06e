"""The demonstration set is what it says, hard enough, and the whole job works on it."""

import json
from collections import Counter
from functools import partial

import librosa
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelkit.cleaning.rehearsal import rehearse
from labelkit.cleaning.score import score
from labelkit.config import FormatSpec, read_recipe
from labelkit.datasets.demo import CLIP_S, SAMPLE_RATE, SOUNDS, plan_demo, synthesise, write_demo
from labelkit.demo import FOLDS, LOWEST, SETTINGS, run_demo
from labelkit.labels.importing import import_labels
from labelkit.project import create_project, open_project
from labelkit.runs.folds import freeze_folds
from labelkit.runs.verify import verify
from tests.support.projects import TINY, copy_project


def test_the_plan_has_the_promised_shares():
    clips = plan_demo(0)
    train = [clip for clip in clips if clip.subset == "train"]
    test = [clip for clip in clips if clip.subset == "test"]
    others = [clip for clip in train if not clip.verified]
    assert len(SOUNDS) >= 8 and 300 <= len(clips) <= 900
    assert len(train) - len(others) == pytest.approx(0.4 * len(train), abs=len(SOUNDS))
    wrong = sum(clip.label != clip.truth for clip in others)
    assert wrong == pytest.approx(0.35 * len(others), abs=len(SOUNDS))
    assert all(clip.label == clip.truth for clip in test + train if clip.verified)
    assert all(clip.label == clip.truth for clip in test)
    assert min(Counter(clip.truth for clip in test).values()) == 12


def test_everything_follows_from_the_seed(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_demo(tmp_path / name, plan_demo(seed, n_train=2, n_test=1), seed)

    def content(name):
        files = sorted((tmp_path / name).rglob("*.*"))
        return {str(f.relative_to(tmp_path / name)): f.read_bytes() for f in files}

    assert content("a") == content("b") and content("a") != content("c")


@pytest.mark.parametrize("name", sorted(SOUNDS))
def test_sounds_vary_and_stay_in_range(name):
    first, second = (synthesise(name, np.random.default_rng(seed)) for seed in (1, 2))
    assert first.shape == (int(SAMPLE_RATE * CLIP_S),) and first.dtype == np.float32
    for wave in (first, second):
        assert np.isfinite(wave).all() and 0.1 < np.abs(wave).max() < 1
    assert np.corrcoef(first, second)[0, 1] < 0.5


@pytest.mark.slow
def test_a_bag_of_frames_does_not_solve_it():
    """Logistic regression on pooled MFCCs, with clean labels, stays below 85 %."""
    clips = plan_demo(0)
    x = []
    for number, clip in enumerate(clips):
        wave = synthesise(clip.truth, np.random.default_rng((0, number)))
        mfcc = librosa.feature.mfcc(y=wave, sr=SAMPLE_RATE, n_mfcc=20)
        x.append(np.concatenate([mfcc.mean(axis=1), mfcc.std(axis=1)]))
    x, truth = np.array(x), np.array([clip.truth for clip in clips])
    train = np.array([clip.subset == "train" for clip in clips])
    for c in (0.01, 0.1, 1, 10):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000))
        assert model.fit(x[train], truth[train]).score(x[~train], truth[~train]) < 0.85


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory):
    """The set at its size, imported and dealt into folds: its project, and what is true."""
    folder, clips = tmp_path_factory.mktemp("demonstration"), plan_demo(0)
    write_demo(folder, clips, 0)
    project, _ = create_project(folder, folder / "audio")
    for name in ("train", "test"):
        import_labels(project, folder / f"{name}.csv", "fsdkaggle2018", FormatSpec(subset=name))
    freeze_folds(project, n=FOLDS)
    return project, {clip.fname: [clip.truth] for clip in clips}


def self_verified_right(project, truth):
    """Of each self-verified clip whether its labels are right."""
    return [labels == truth[path] for path, labels in rows(
        project, "select path, labels from labels_now where state = 'self_verified'"
    )]  # fmt: skip


def rows(project, sql):
    with project.store.read() as session:
        return session.rows(sql)


@pytest.mark.slow
def test_a_rehearsal_foretells_the_precision(demonstration, tmp_path):
    """From verified clips alone, within what some fifty clips can tell."""
    project, truth = demonstration
    project = copy_project(project, tmp_path / "p")
    # Of a part of the verified clips alone the rule that estimates its threshold trusts nothing.
    settings = [text for text in SETTINGS if not text.startswith("input.")]
    recipe = read_recipe("probe", [*settings, "verify.threshold=0.3"])
    foretold = rehearse(project, recipe, kind="uniform", rate=0.35, workers=1)
    assert foretold.hidden >= 120 and foretold.self_verified >= 30
    verify(project, recipe, workers=1)
    right = self_verified_right(project, truth)
    assert len(right) >= 30
    assert foretold.precision == pytest.approx(np.mean(right), abs=0.1)


@pytest.mark.slow
def test_verify_finds_what_can_be_trusted(demonstration, tmp_path):
    """At least 95 % of the self-verified clips are right, 20 of the 30 lowest are planted."""
    project, truth = demonstration
    project, recipe = copy_project(project, tmp_path / "p"), read_recipe("quick", SETTINGS)
    noisy = rows(project, "select path, labels from labels_now where state = 'unverified'")
    assert sum(labels != truth[path] for path, labels in noisy) == 70
    verified = verify(project, recipe, workers=1)
    right = self_verified_right(project, truth)
    assert np.mean(right) >= 0.95
    assert sum(right) >= 0.5 * sum(labels == truth[path] for path, labels in noisy)
    doubtful = score(project, run_id=verified["run_id"], lowest=LOWEST, workers=1)
    assert sum(clip.labels != truth[clip.path] for clip in doubtful) >= 20
    assert verified["test_accuracy"] > 0.7


@pytest.mark.slow
def test_the_job_says_what_came_of_it(tmp_path, monkeypatch):
    """All of it on a tenth of the set, stopped once; what it tells is counted anew."""
    monkeypatch.setattr("labelkit.demo.plan_demo", partial(plan_demo, n_train=10, n_test=2))
    monkeypatch.setattr("labelkit.demo.SETTINGS", TINY)
    said = []

    def stop(line):
        said.append(line)
        if "cleaned store" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path / "d", workers=1, say=stop)
    # It goes on where it was, with the labels as they came in.
    facts = run_demo(tmp_path / "d", workers=1, say=said.append)
    again = run_demo(tmp_path / "d", workers=1, say=lambda line: None)
    assert again == facts
    found = {fact.what.strip(): fact.found for fact in facts}
    clips = plan_demo(0, n_train=10, n_test=2)
    project, truth = open_project(tmp_path / "d"), {clip.fname: [clip.truth] for clip in clips}
    planted = sum(clip.label != clip.truth for clip in clips)
    findable = sum(not c.verified and c.label == c.truth for c in clips if c.subset == "train")
    right = self_verified_right(project, truth)
    assert len(right) > 0
    counts = dict(rows(project, "select kind, count(*) from runs where part_of is null "
                       "and kind in ('train', 'verify') group by kind"))  # fmt: skip
    assert counts == {"train": 2, "verify": 1}
    metrics = dict(rows(project, "select kind, max_by(metrics, batch_id) from runs "
                        "where part_of is null group by kind"))  # fmt: skip
    run_id = rows(project, "select run_id from runs where kind = 'verify'")[0][0]
    doubtful = score(project, run_id=run_id, lowest=LOWEST, workers=1)
    errors = sum(clip.labels != truth[clip.path] for clip in doubtful)
    before, after = (json.loads(text)["test_accuracy"] for (text,) in rows(
        project, "select metrics from runs where kind = 'train' order by batch_id"
    ))  # fmt: skip
    assert found == {
        "planted errors": f"{planted} of {len(clips)} labels",
        "self-verified clips": str(len(right)),
        "precision": f"{np.mean(right):.1%}",
        "recall": f"{sum(right) / findable:.1%} of {findable} right ones",
        f"errors among the {LOWEST} lowest-scored clips": str(errors),
        "held-out accuracy before": f"{before:.1%}",
        "after self-verification": f"{json.loads(metrics['verify'])['test_accuracy']:.1%}",
        "after retraining on the cleaned store": f"{after:.1%}",
    }
    assert sum("self-verified" in line for line in said) >= 2
