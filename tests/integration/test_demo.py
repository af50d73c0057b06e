"""The demonstration set is what it says, hard enough, and the whole job works on it."""

import re
from collections import Counter

import librosa
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelkit.cleaning.rehearsal import rehearse
from labelkit.config import read_recipe
from labelkit.datasets.demo import CLIP_S, SAMPLE_RATE, SOUNDS, plan_demo, synthesise, write_demo
from labelkit.demo import SETTINGS, run_demo
from labelkit.project import open_project


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
    """The whole job, done once: its folder, what it found, and what it said."""
    folder, said = tmp_path_factory.mktemp("demonstration"), []
    found = {fact.what.strip(): fact.found for fact in run_demo(folder, say=said.append)}
    return folder, found, said


@pytest.mark.slow
def test_the_whole_job_on_it(demonstration):
    """At least 95 % of the self-verified clips are right, 20 of the 30 lowest are planted."""
    _, table, said = demonstration
    assert table["planted errors"] == "70 of 440 labels"
    assert float(table["precision"].rstrip("%")) >= 95
    assert float(re.match(r"[\d.]+", table["recall"])[0]) >= 50
    assert int(table["errors among the 30 lowest-scored clips"]) >= 20
    before, *after = (float(v.rstrip("%")) for k, v in table.items() if re.search("test|after", k))
    assert min(after) > before - 5 and before > 70
    assert any("self-verified" in line for line in said)


@pytest.mark.slow
def test_a_rehearsal_foretells_the_precision(demonstration):
    """From verified clips alone, within 5 points of what the real verify reached."""
    folder, table, _ = demonstration
    recipe = read_recipe("quick", SETTINGS)
    foretold = rehearse(open_project(folder), recipe, kind="uniform", rate=0.35)
    assert foretold.hidden >= 120 and foretold.self_verified >= 50
    assert 100 * foretold.precision == pytest.approx(float(table["precision"][:-1]), abs=5)
