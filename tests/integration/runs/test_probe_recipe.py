"""A classifier on embeddings through what serves the network."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from labelkit.cleaning.score import score
from labelkit.cli import cli
from labelkit.config import (
    EmbeddingSpec,
    FormatSpec,
    change_verify,
    drop_unread,
    find_words,
    read_recipe,
)
from labelkit.errors import InvalidInput, LabelkitError, UnknownName
from labelkit.labels.importing import import_labels
from labelkit.noise.selection import select_confident
from labelkit.project import create_project
from labelkit.recordings.embedding import read_embeddings
from labelkit.records import Batch, Verdict
from labelkit.runs.cross_validation import plan_work, run_key
from labelkit.runs.dataset import Classifier, Network, read_dataset
from labelkit.runs.folds import freeze_folds
from labelkit.runs.train import train
from labelkit.runs.verify import verify
from labelkit.training.crossfit import Decided
from labelkit.training.probefit import ProbeFit
from tests.support.clips import pair_clips, write_csv
from tests.support.projects import PROBE, TINY, copy_project

SMALL = (
    *PROBE, "verify.iterations=2", "verify.threshold=0.2", "verify.until=all", "verify.keep=last"
)  # fmt: skip
pytestmark = pytest.mark.slow


def probe(*settings):
    return read_recipe("probe", [*SMALL, *settings])


def rows(project, sql):
    with project.store.read() as session:
        return session.rows(sql)


def predictions(project, run_id):
    with project.store.read() as session:
        return session.predictions(run_id)


def everything(project):
    """What a run leaves in the store, without the moments it was written at."""
    return (
        rows(project, "select run_id, clip_id, probs from predictions order by all"),
        rows(project, "select run_id, clip_id, metric, value from scores order by all"),
        # A run that went on signs with the label batch it went on from.
        rows(
            project,
            "select run_id, parents, trained_on, "
            "regexp_replace(metrics, 'labels at batch [0-9]+', '') from runs order by all",
        ),
        rows(project, "select clip_id, labels, state from label_events order by event_id"),
    )


def call(project, *args):
    sets = [part for setting in SMALL for part in ("--set", setting)]
    command = ["-C", str(project.root), *args, "--workers", "1", "--recipe", "probe", *sets]
    return CliRunner().invoke(cli, command)


def leaks(project):
    with project.store.read() as session:
        return session.find_leaks()


@pytest.fixture(scope="module")
def probed(bare_project, tmp_path_factory):
    """A project after train and verify by the commands; only ever read."""
    project = copy_project(bare_project, tmp_path_factory.mktemp("probe") / "p")
    freeze_folds(project, n=3)
    trained = call(project, "train", "--json")
    assert call(project, "train", "--json").stdout == trained.stdout
    verified = call(project, "verify")
    assert trained.exit_code == verified.exit_code == 0, trained.stderr + verified.stderr
    return project, json.loads(trained.stdout)[0], verified.stdout


def naive(project, learn, fold):
    """Probabilities of all clips by one plain model, from embeddings read for the paths."""
    with project.store.read() as session:
        table, folds = session.labels(), session.folds("3-seed0")
    x, usable = read_embeddings(project, EmbeddingSpec(), probe().features, table.paths)
    folds = np.array([folds.get(int(clip_id), -1) for clip_id in table.clip_ids])
    use = usable & (folds >= 0) & (folds != fold) & learn(table)
    scaler = StandardScaler().fit(x[use])
    model = LogisticRegression(C=0.01, max_iter=1000)
    model.fit(scaler.transform(x[use]), [table.labels[k][0] for k in np.flatnonzero(use)])
    found = np.zeros((len(x), len(table.classes)))
    found[:, model.classes_] = model.predict_proba(scaler.transform(x))
    return table, folds, found


def test_a_run_is_a_plain_loop_over_the_folds(probed):
    project, summary, _ = probed
    clip_ids, judges, probs = predictions(project, summary["run_id"])
    parts = [naive(project, lambda table: True, fold) for fold in range(3)]
    table, folds, _ = parts[0]
    expected = np.mean([found for *_, found in parts], axis=0)
    for fold, (*_, found) in enumerate(parts):
        expected[folds == fold] = found[folds == fold]
    assert clip_ids.tolist() == table.clip_ids.tolist()
    np.testing.assert_allclose(probs, expected, atol=1e-5)
    assert set(judges[folds < 0]) == {summary["run_id"]} and (folds < 0).sum() == 20
    assert set(judges[folds == 1]) == {f"{summary['run_id']}/pretrain/fold-1"}
    human = (table.states == "verified") & (folds >= 0)
    truth = np.array([table.labels[k][0] for k in np.flatnonzero(human)])
    accuracy = (expected[human].argmax(axis=1) == truth).mean()
    assert summary["verified_accuracy"] == pytest.approx(accuracy)
    assert accuracy > 0.2  # One of ten by chance.


def test_rounds_trust_what_the_round_before_confirmed(probed):
    project, _, printed = probed
    with project.store.read() as session:
        run_id = session.last_run(["verify"])
        table, folds = session.labels(), session.folds("3-seed0")
        summary = session.run(run_id)["metrics"]
    judged = rows(
        project,
        "select r.iteration, p.clip_id, p.probs from predictions p join runs r using (run_id) "
        f"where r.part_of = '{run_id}' order by 1, 2",
    )
    train = np.array([int(clip_id) in folds for clip_id in table.clip_ids])
    noisy = (table.states != "verified")[train]
    labels = np.eye(len(table.classes))[[table.labels[k][0] for k in np.flatnonzero(train)]]
    chosen = []
    for number in range(2):
        probs = np.array([row[2] for row in judged if row[0] == number])
        kept = select_confident(labels[noisy], probs[noisy], threshold=0.2, per_class=0)
        chosen.append(set(table.clip_ids[train][noisy][kept].tolist()))
        assert summary["rounds"][number + 1]["self_verified"] == len(chosen[-1])
    assert len(chosen[-1]) > 10
    self_verified = table.clip_ids[table.states == "self_verified"]
    assert set(self_verified.tolist()) == chosen[-1]
    verified = set(table.clip_ids[(table.states == "verified")].tolist())
    for fold, iteration, parents, seen in rows(
        project,
        f"select fold, iteration, parents, trained_on from runs where part_of = '{run_id}'",
    ):
        assert parents == []
        mine = {clip for clip, number in folds.items() if number != fold}
        expected = (verified | chosen[iteration - 1]) & mine if iteration else mine
        assert set(seen) == expected
    assert "round  2: " in printed and leaks(project) == []


def test_what_is_printed_and_kept_says_what_judged(probed):
    project, summary, printed = probed
    signature = summary["signature"]
    assert "of probe with" in signature and "logistic_regression on pooled_mel-" in signature
    assert "labels are the top classes of the logistic_regression, each above 0.2" in printed
    run = rows(project, "select settings from runs where kind = 'train'")[0][0]
    assert json.loads(run)["probe"]["classifier"] == "logistic_regression"
    durations = dict(rows(project, "select clip_id, duration_s from clips"))
    windows = project.windows.read(f"{summary['run_id']}/pretrain/fold-0")
    assert (windows.starts_s == 0).all()
    assert windows.ends_s.tolist() == [durations[int(clip)] for clip in windows.clip_ids]


def test_other_commands_work_on_its_runs(probed):
    project, summary, _ = probed
    worst = score(project, run_id=summary["run_id"], methods=("lwlrap",), lowest=5)
    assert len(worst) == 5 and worst[0].scores["lwlrap"] <= worst[-1].scores["lwlrap"] < 1
    path = rows(project, "select path from labels_now where state = 'self_verified'")[0][0]
    for args in (
        ("history", path), ("query", "select count(*) from predictions"), ("status",),
        ("score", "--lowest", "3"),
    ):  # fmt: skip
        done = CliRunner().invoke(cli, ["-C", str(project.root), *args])
        assert done.exit_code == 0 and done.stdout, done.stderr
    assert leaks(project) == []


def test_the_same_again_is_shown_and_no_classifier_fitted(probed, monkeypatch):
    project, _, printed = probed
    before = everything(project)
    monkeypatch.setattr(ProbeFit, "_judge", None)
    again = call(project, "verify")
    assert again.stdout == printed.replace("before: False", "before: True")
    assert everything(project) == before


def test_trusted_clips_and_curated_ones(probed):
    """``train --trusted`` learns from people and the loop, the stage's clips from people alone."""
    project, *_ = probed
    states = dict(rows(project, "select clip_id, state from labels_now where subset = 'train'"))
    for settings, trusted, wanted in (
        ((), True, {"verified", "self_verified"}),
        (("pretrain.clips=curated",), False, {"verified"}),
        (("pretrain.clips=noisy",), False, {"unverified", "self_verified"}),
    ):
        run_id = train(project, probe(*settings), trusted=trusted, workers=1)["run_id"]
        seen = rows(project, f"select trained_on from runs where part_of = '{run_id}'")
        assert {states[clip] for (clips,) in seen for clip in clips} == wanted
    assert leaks(project) == []


@pytest.mark.parametrize(
    ("settings", "lowest"),
    [
        (("probe.classifier=svm",), 0.2),
        (("probe.classifier=extra_trees", "probe.options.n_estimators=50"), 0.2),
        (("probe.classifier=sklearn.svm:LinearSVC", "probe.options.C=0.001"), 0.2),
        (("probe.options.C=1e-6",), 0.0),
    ],
)
def test_another_classifier_by_one_setting(probed, settings, lowest):
    project, summary, _ = probed
    recipe = probe(*settings)
    found = train(project, recipe, workers=1)
    assert found["run_id"] != summary["run_id"] and recipe.probe.classifier in found["signature"]
    assert found["verified_accuracy"] >= lowest
    np.testing.assert_allclose(predictions(project, found["run_id"])[2].sum(axis=1), 1, atol=1e-5)
    if not lowest:
        # So strong a regularisation hardly tells the classes apart.
        assert predictions(project, found["run_id"])[2].max() < 0.3


def test_seeds_and_workers(probed, tmp_path):
    """Another seed is another forest; two processes fit the same ones as one."""
    project, *_ = probed
    trees = probe("probe.classifier=extra_trees", "probe.options.n_estimators=10")
    data = read_dataset(project, trees, workers=1)
    nobody = np.zeros(len(data.labels), bool)
    found = []
    for number, (seed, workers) in enumerate(((1, 1), (1, 2), (2, 1))):
        work = plan_work(
            project, trees, data, data.table.states[data.train], kind="train", seed=seed,
            device="cpu", workers=workers,
        )  # fmt: skip
        fits = replace(work.fit_predict, folder=tmp_path / str(number))
        fit = partial(fits.fit, "pretrain", name="pretrain", iteration=0)
        with work.runner.executor:
            results = work.runner(fit, [(fold, Decided(nobody, nobody), None) for fold in range(3)])
        found.append(np.concatenate([probs for probs, _ in results]))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def test_a_run_stopped_between_folds_ends_like_an_unstopped_one(
    imported_project, tmp_path, monkeypatch
):
    whole = copy_project(imported_project, tmp_path / "whole")
    stopped = copy_project(imported_project, tmp_path / "stopped")
    for project in (whole, stopped):
        freeze_folds(project, n=3)
    verify(whole, probe(), workers=1)
    honest, fitted = ProbeFit._judge, []

    def fit(self, use, fold, number):
        if len(fitted) % 3 == 2:
            fitted.append(None)
            raise KeyboardInterrupt
        fitted.append((number, fold))
        return honest(self, use, fold, number)

    monkeypatch.setattr(ProbeFit, "_judge", fit)
    stops = 0
    while True:
        try:
            summary = verify(stopped, probe(), workers=1)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops == 4 and not summary["finished_before"]
    done = [fit for fit in fitted if fit]
    assert sorted(done) == [(number, fold) for number in range(3) for fold in range(3)]
    assert everything(stopped) == everything(whole)


def test_a_killed_process_goes_on(imported_project, tmp_path):
    """SIGKILL as soon as one fold is on disk; the second process ends like an unkilled one."""
    whole = copy_project(imported_project, tmp_path / "whole")
    killed = copy_project(imported_project, tmp_path / "killed")
    for project in (whole, killed):
        freeze_folds(project, n=3)
    trees = ("probe.classifier=extra_trees", "probe.options.n_estimators=300")
    verify(whole, probe(*trees), workers=1)
    command = [sys.executable, "-m", "labelkit", "-C", str(killed.root), "verify"]
    command += ["--workers", "1", "--recipe", "probe"]
    for setting in (*SMALL, *trees):
        command += ["--set", setting]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (first := list(killed.runs.glob("*/round-0?/fold-*/result.npz"))):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert rows(killed, "select count(*) from runs where kind = 'verify'") == [(0,)]
    written = first[0].stat().st_mtime_ns
    assert first[0].parent.parent.name == "round-00"
    subprocess.run(command, capture_output=True, check=True)
    assert everything(killed) == everything(whole)
    if first[0].exists():  # Only the last round is kept in the end.
        assert first[0].stat().st_mtime_ns == written


def test_a_planted_leak_is_caught(demo_project, monkeypatch):
    freeze_folds(demo_project, n=2)
    honest = ProbeFit._examples
    monkeypatch.setattr(
        ProbeFit, "_examples", lambda self, stage, fold, choice: honest(self, stage, -1, choice)
    )
    with pytest.raises(LabelkitError, match=r"round-00/fold-0 judged clip .* nothing of this was"):
        verify(demo_project, probe(), workers=1)
    assert rows(demo_project, "select count(*) from predictions") == [(0,)]


def test_several_labels_a_clip(tmp_path):
    """One problem a class, and lwlrap as the score, on sums of two sounds."""
    classes, pairs = pair_clips(tmp_path, 60, seed=0)
    content = [
        (name, ",".join(labels), int(number % 3 == 0))
        for number, (name, labels) in enumerate(pairs)
    ]
    source = write_csv(tmp_path / "x.csv", ("fname", "labels", "ok"), content)
    (tmp_path / "p").mkdir()
    project, _ = create_project(tmp_path / "p", tmp_path / "audio")
    spec = FormatSpec(label_column="labels", verified_column="ok")
    import_labels(project, source, "csv", spec)
    freeze_folds(project, n=3)
    recipe = change_verify(probe(), {"threshold": 0.4})
    found = verify(project, recipe, workers=1)
    assert found["verified_lwlrap"] > 0.5 and "lwlrap of probe" in found["signature"]
    assert found["self_verified"] > 0 and leaks(project) == []
    probs = predictions(project, found["run_id"])[2]
    assert probs.shape == (60, len(classes)) and (abs(probs.sum(axis=1) - 1) > 0.05).any()


def test_embeddings_of_ones_own_and_clips_without_one(bare_project, tmp_path, capsys):
    """The vectors know the class; the clip that has none is left out, and said to be."""
    demo_project = copy_project(bare_project, tmp_path / "p")
    with demo_project.store.read() as session:
        table = session.labels()
    rng = np.random.default_rng(0)
    x = np.eye(len(table.classes))[[labels[0] for labels in table.labels]]
    x += 0.1 * rng.standard_normal(x.shape)
    file = demo_project.root / "mine.npz"
    np.savez(file, paths=np.array(table.paths[1:]), embeddings=x[1:])
    freeze_folds(demo_project, n=3)
    recipe = probe(f"embedding.embedder=vectors:{file}")
    data = read_dataset(demo_project, recipe, workers=1)
    assert isinstance(data.learner, Classifier) and data.learner.name.startswith("mine-")
    np.testing.assert_allclose(data.learner.matrix, x[1:], atol=1e-6)
    said = f"of all recordings are left out: 1 no_vector ({table.paths[0]} say)"
    assert said in capsys.readouterr().err
    assert not demo_project.features.exists()
    first = train(demo_project, recipe, workers=1)
    assert first["verified_accuracy"] == 1
    assert len(predictions(demo_project, first["run_id"])[0]) == len(table.paths) - 1
    # Other vectors under the same name are another run.
    np.savez(file, paths=np.array(table.paths[1:]), embeddings=x[:-1])
    assert train(demo_project, recipe, workers=1)["run_id"] != first["run_id"]


def test_what_a_person_is_unsure_of_is_judged_but_not_learnt(demo_project):
    freeze_folds(demo_project, n=2)
    data = read_dataset(demo_project, probe(), workers=1)
    doubtful = int(data.ids[7])
    with demo_project.store.write() as session:
        given = data.table.labels[data.train[7]][0]
        absent = next(k for k in range(3) if k not in data.table.labels[data.train[8]])
        verdicts = [
            Verdict(clip_id=clip, class_id=class_id, verdict="unsure", rule="ear")
            # What may be missing is no reason not to learn the label that is there.
            for clip, class_id in ((doubtful, given), (int(data.ids[8]), absent))
        ]
        session.append(
            Batch(key="a", kind="review", actor="ann", by_person=True, verdicts=verdicts)
        )
    run_id = train(demo_project, probe(), workers=1)["run_id"]
    seen = rows(demo_project, f"select trained_on from runs where part_of = '{run_id}'")
    assert sorted(clip for (clips,) in seen for clip in clips) == sorted(
        set(data.ids.tolist()) - {doubtful}
    )
    assert doubtful in predictions(demo_project, run_id)[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("probe.classifier=svn",), "no classifier called 'svn'; did you mean 'svm'"),
        (("probe.classifier=no_such:Thing",), "no classifier called 'no_such:Thing'"),
        (
            ("probe.options.max_itr=9",),
            "has no option 'max_itr'; did you mean 'max_iter'",
        ),
        (("probe.options.C=-1",), r"logistic_regression, fold 0: The 'C' parameter .* -1 instead"),
        (("probe.options=C",), "probe.options must be a table, got 'C'"),
        (("probe.options.C.D=1",), "probe.options.C must be a number, a string or a list"),
        (("probe.options.random_state=1",), "probe.classifier logistic_regression: .*random_state"),
        (("probe.classifier=sklearn.multiclass:OneVsRestClassifier",), "missing 1 required"),
        (("epochs=3",), "stages.pretrain.epochs is a setting of networks, but probe.classifier"),
        (("model.width=4",), "model.width is a setting of networks"),
        (("embedding.embedder=vectors:none.npz",), "no such file none.npz"),
    ],
)
def test_bad_settings_are_one_clear_line(probed, settings, message):
    project, *_ = probed
    with pytest.raises((InvalidInput, UnknownName), match=message) as raised:
        train(project, probe(*settings), workers=1)
    assert "\n" not in str(raised.value)


def test_no_weights_to_start_from(probed, tiny_recipe):
    project, summary, _ = probed
    done = call(project, "train", "--start", summary["run_id"])
    assert done.exit_code == 2 and done.stderr.splitlines()[-1] == (
        f"Error: --start {summary['run_id']}: probe fits a classifier, which starts from no "
        "weights; leave it out"
    )
    with pytest.raises(InvalidInput, match="it fitted a classifier, which has no weights"):
        train(project, tiny_recipe, start=summary["run_id"], workers=1)


def test_settings_of_the_probe_do_not_rename_the_run_of_a_network(probed, tiny_recipe):
    project, *_ = probed
    data = read_dataset(project, tiny_recipe, workers=1)
    assert isinstance(data.learner, Network)
    states = data.table.states[data.train]
    other = replace(tiny_recipe, embedding=EmbeddingSpec(sample_rate=8000))
    wider = replace(tiny_recipe, model=replace(tiny_recipe.model, width=5))
    plain, same, changed = (
        run_key("train", recipe, 0, "cpu", data, states) for recipe in (tiny_recipe, other, wider)
    )
    assert plain == same != changed


def test_settings_of_verify_do_not_rename_a_training_and_are_told(probed, tiny_recipe, capsys):
    project, *_ = probed
    data = read_dataset(project, tiny_recipe, workers=1)
    states = data.table.states[data.train]
    names = set()
    for setting in ("verify.threshold=0.3", "finetune.lr=0.01", "stages.finetune.epochs=7"):
        recipe = read_recipe("quick", [*TINY, setting])
        names.add(run_key("train", recipe, 0, "cpu", data, states))
        capsys.readouterr()
        drop_unread(recipe, verifies=False)
        assert f"--set {setting} is read by labelkit verify alone" in capsys.readouterr().err
    drop_unread(read_recipe("quick", ["verify.threshold=0.3", "finetune.lr=0.1"]), verifies=True)
    assert capsys.readouterr().err == ""
    for setting in ("probe.standardise=false", "embedding.hop_s=0"):
        drop_unread(read_recipe("quick", [setting]), verifies=True)
        assert f"--set {setting} is of a classifier on embeddings" in capsys.readouterr().err
        kept = drop_unread(read_recipe("probe", [setting]), verifies=True)
        assert capsys.readouterr().err == "" and kept.changes == (setting,)
    for verifies in (True, False):
        kept = drop_unread(read_recipe("probe", ["verify.windows=9"]), verifies=verifies)
        assert "verify.windows=9 is " in capsys.readouterr().err and kept.changes == ()
    assert names == {run_key("train", tiny_recipe, 0, "cpu", data, states)}
    assert len({run_key("verify", read_recipe("quick", [*TINY, s]), 0, "cpu", data, states)
                for s in ("verify.threshold=0.3", "finetune.lr=0.01")}) == 2  # fmt: skip
    other = read_recipe("quick", [*TINY, "pretrain.lr=0.01"])
    assert run_key("train", other, 0, "cpu", data, states) not in names


def test_the_recipe_shows_what_matters(probed):
    shown = CliRunner().invoke(cli, ["recipes", "show", "probe", "--set", "probe.options.C=0.1"])
    keys = [line.split()[0] for line in shown.stdout.splitlines()[1:] if line.strip()]
    assert shown.exit_code == 0 and len(keys) < 15
    assert "probe.options.C" in keys and "probe.classifier" in keys
    whole = CliRunner().invoke(cli, ["recipes", "show", "probe", "--all"]).stdout
    assert "epochs" not in whole and "model.name" not in whole
    assert "stages.pretrain.clips" in whole
    words = {"sample_rate", "min_s", "n_fft", "hop_length"}
    assert set(find_words(read_recipe("probe").features)) == words
