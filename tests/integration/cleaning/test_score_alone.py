"""`labelkit score` in a fresh project: judges first, keeps what they said, and asks them once."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from labelkit import metrics
from labelkit.cleaning.inputs import read_inputs
from labelkit.cleaning.score import score
from labelkit.cli import cli
from labelkit.config import FormatSpec, read_recipe
from labelkit.labels.importing import import_labels
from labelkit.noise.fusion import score_fusion
from labelkit.noise.panel import Panel
from labelkit.noise.probe import Probe, cross_probs
from labelkit.project import create_project
from labelkit.recordings.embedding import open_embeddings, read_embeddings, view_widths
from labelkit.runs.train import train
from tests.support.clips import write_csv, write_tone
from tests.support.projects import copy_project

pytestmark = pytest.mark.slow

PITCHES = (300, 900, 2700)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Sixty tones of three pitches, six of which have another's label; only ever read."""
    root = tmp_path_factory.mktemp("fresh")
    (root / "audio").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for k in range(60):
        pitch = PITCHES[k % 3] * (1 + rng.uniform(-0.2, 0.2))
        write_tone(root / "audio" / f"{k:02}.wav", pitch, seconds=0.3)
        rows.append((f"{k:02}.wav", "abc"[(k + (k < 6)) % 3]))
    project, _ = create_project(root / "p", root / "audio")
    write_csv(root / "l.csv", ("fname", "label"), rows)
    import_labels(project, root / "l.csv", "csv", FormatSpec())
    return project


@pytest.fixture
def mine(fresh, tmp_path):
    return copy_project(fresh, tmp_path / "p")


def call(project, *args):
    done = CliRunner().invoke(cli, ["-C", str(project.root), *map(str, args)])
    assert done.exit_code == 0, done.output
    return done


def runs(project):
    with project.store.read() as session:
        return session.rows("select run_id from runs where kind = 'train' and part_of is null")


def test_a_fresh_project_is_judged_and_scored(mine, monkeypatch):
    rows = json.loads(call(mine, "score", "--json", "--lowest", 60).stdout)
    assert len(rows) == 60 and all({"path", "score"} <= {*row} for row in rows)
    assert [row["score"] for row in rows] == sorted(row["score"] for row in rows)
    wrong = np.array([int(row["path"][:2]) < 6 for row in rows])
    assert metrics.average_precision(wrong, np.arange(60)) > 0.9
    assert len(runs(mine)) == 1

    # Nothing is fitted a second time.
    def refuse(*args):
        raise AssertionError("fitted again")

    monkeypatch.setattr(Panel, "judge", refuse)
    again = json.loads(call(mine, "score", "--json", "--lowest", 60).stdout)
    assert again == rows and len(runs(mine)) == 1
    call(mine, "missing")


def test_it_is_what_the_panel_says(mine):
    """The row `default` of benchmarks/head_to_head.py is made like this."""
    listed = {clip.path: clip.score for clip in score(mine, lowest=60)}
    inputs, recipe = read_inputs(mine, None), read_recipe("panel")
    parts = mine, recipe.embedding, recipe.features
    vectors, usable = read_embeddings(*parts, inputs.paths)
    assert usable.all() and len(view_widths(*parts)) == 3
    judge = Probe(embeddings=vectors, labels=inputs.labels, folds=inputs.folds,
                  classifier="panel", views=view_widths(*parts))  # fmt: skip
    by_hand = score_fusion(inputs.labels, cross_probs(judge, inputs.folds))
    order = np.argsort(by_hand)
    # Seeds of trees differ, so numbers do a little.
    assert {inputs.paths[k] for k in order[:6]} == {*[*listed][:6]}
    assert (
        np.abs(
            [listed[path] - value for path, value in zip(inputs.paths, by_hand, strict=True)]
        ).max()
        < 0.15
    )


def test_changed_labels_are_judged_anew(mine):
    call(mine, "score")
    call(mine, "label", "00.wav", "a")
    rows = json.loads(call(mine, "score", "--json", "--lowest", 60).stdout)
    assert len(runs(mine)) == 2
    assert "00.wav" not in [row["path"] for row in rows[:6]]


def test_who_trained_is_asked_with_the_panel(mine):
    """A classifier on a view that the panel has, too, gets no second vote; the last run stays."""
    train(mine, read_recipe("probe"), workers=1)
    inputs = read_inputs(mine, None)
    assert inputs.network_probs is None
    assert np.array_equal(inputs.both_probs, inputs.probe_probs)
    assert not np.array_equal(inputs.both_probs, inputs.probs)
    call(mine, "score")
    assert len(runs(mine)) == 1


def test_a_method_of_another_name_orders_score_as_well(mine):
    rows = json.loads(call(mine, "score", "--json", "--method", "log_loss").stdout)
    assert all(row["score"] == row["log_loss"] for row in rows)


def test_the_recipe_is_a_training_like_others(mine):
    done = call(mine, "train", "--recipe", "panel", "--json")
    assert "train-" in done.stdout
    assert len(runs(mine)) == 1
    call(mine, "score")
    assert len(runs(mine)) == 1


def test_who_chose_his_clips_is_not_replaced(mine):
    """A verify run writes labels itself, and stays the run that is asked."""
    call(mine, "score")
    for k in range(30):
        call(mine, "label", f"{k:02}.wav", "abc"[k % 3])
    call(mine, "verify", "--recipe", "panel", "--iterations", 1)
    n = len(runs(mine))
    call(mine, "score")
    assert len(runs(mine)) == n


def test_other_vectors_under_the_same_name_are_other_vectors(mine, tmp_path):
    file, rng = tmp_path / "v.npz", np.random.default_rng(0)
    paths = [f"{k:02}.wav" for k in range(60)]
    found = []
    for scale in (0, 1):
        truth = np.eye(3)[np.arange(60) % 3] * 5 * scale
        np.savez(file, paths=paths, embeddings=truth + rng.standard_normal((60, 3)))
        call(mine, "score", "--encoder", f"vectors:{file}")
        found.append([clip.score for clip in score(
            mine, probe=read_recipe("panel", [f"embedding.beside=ordered_mel,vectors:{file}"]),
            lowest=60)])  # fmt: skip
    assert found[0] != found[1]


def test_what_is_computed_is_read_where_nothing_may_be_written(mine):
    first = score(mine, lowest=60)
    recipe = read_recipe("panel")
    folder = open_embeddings(mine, recipe.embedding, recipe.features).folder
    written = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert score(mine, lowest=60) == first
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == written


def test_later_clips_are_judged_too(mine, tmp_path):
    call(mine, "score")
    for k in (60, 61):
        write_tone(mine.audio_dir / f"{k}.wav", 900, seconds=0.3)
    file = write_csv(tmp_path / "l.csv", ("fname", "label"), [("60.wav", "b"), ("61.wav", "b")])
    call(mine, "import", file, "--format", "csv")
    rows = json.loads(call(mine, "score", "--json", "--lowest", 99, "--recipe", "probe").stdout)
    assert len(rows) == 62
