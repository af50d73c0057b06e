"""What a run says of the labels: every score through the store, and as called by hand."""

import inspect
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from labelkit import registry
from labelkit.cleaning.inputs import is_in_sample, read_inputs, score_by
from labelkit.cleaning.score import score
from labelkit.cli import cli
from labelkit.config import FormatSpec, read_recipe
from labelkit.errors import InvalidInput, StoreError
from labelkit.labels.importing import import_labels
from labelkit.noise.dynamics import Dynamics
from labelkit.noise.fusion import score_fusion
from labelkit.noise.panel import fuse_opinions
from labelkit.recordings.embedding import read_embeddings
from labelkit.runs.train import train
from tests.support.projects import TINY, allow_several, copy_project

pytestmark = pytest.mark.slow

FEATURES = [text for text in TINY if text.startswith("features.")]
PROBE = read_recipe("probe", FEATURES)


def call(project, *args):
    return CliRunner().invoke(cli, ["-C", str(project.root), *map(str, args)])


def rows(project, sql, values=()):
    with project.store.read() as session:
        return session.rows(sql, values)


def correct(project, corrections):
    allow_several(project, corrections.values())
    """Bring in labels, as a person."""
    file = project.root / "corrections.json"
    file.write_text(json.dumps(corrections))
    import_labels(project, file, "corrections", FormatSpec())


def open_evidence(project, run_id=None):
    return read_inputs(project, run_id, probe=PROBE, workers=1)


@pytest.fixture(scope="module")
def logged(verified_project, tmp_path_factory):
    """A project whose last run keeps all its epochs; only ever read."""
    project = copy_project(verified_project[0], tmp_path_factory.mktemp("logged") / "p")
    train(project, read_recipe("quick", [*TINY, "pretrain.log_every=1"]), workers=1)
    return project


@pytest.fixture
def mine(logged, tmp_path):
    """A copy to write to."""
    return copy_project(logged, tmp_path / "mine")


def naive_dynamics(project, run_id, stage, clip_ids, labels):
    """The five numbers of each clip, a loop over folds, clips and epochs."""
    folder = project.work / "epochs" / run_id
    column = {int(i): k for k, i in enumerate(np.load(folder / "clips.npy"))}
    found = {int(i): [] for i in clip_ids}
    given = dict(zip(clip_ids.tolist(), labels.argmax(axis=1).tolist(), strict=True))
    for fold in range(3):
        name = f"{run_id}/{stage}/fold-{fold}"
        logits = np.load(folder / stage / f"fold-{fold}.npy").astype(np.float64)
        seen = rows(project, "select trained_on from runs where run_id = ?", [name])[0][0]
        assert len(seen) and logits.shape[1] == len(column)
        for clip in seen:
            z, label = logits[:, column[clip]], given[clip]
            margins = z[:, label] - np.delete(z, label, axis=1).max(axis=1)
            every = softmax(z, axis=1)
            p, mean = every[:, label], every.mean(axis=0)
            ratio = np.log(mean[label] / np.delete(mean, label).max())
            right = margins > 0
            lost = (right[:-1] & ~right[1:]).sum() if right.any() else len(z)
            found[clip].append((margins.mean(), p.mean(), p.std(), lost, ratio))
    return Dynamics(*np.array([np.mean(found[int(i)], axis=0) for i in clip_ids]).T)


@pytest.fixture(scope="module")
def parts(logged):
    """Everything a score can ask for, put together from the store and the files by hand."""
    run_id = rows(logged, "select max_by(run_id, batch_id) from runs where kind = 'train'")[0][0]
    judged = rows(
        logged,
        "select clip_id, c.path, p.run_id, p.probs, f.fold, n.labels from predictions p "
        "join clips c using (clip_id) join labels_now n using (clip_id) "
        "join folds f using (clip_id) where fold_set = '3-seed0' and "
        "list_contains((select parents from runs where run_id = ?), p.run_id) order by clip_id",
        [run_id],
    )
    clip_ids, paths, judges, probs, folds, names = (list(c) for c in zip(*judged, strict=True))
    classes = [name for (name,) in rows(logged, "select name from classes order by class_id")]
    labels = np.eye(len(classes))[[classes.index(name) for (name,) in names]]
    vectors, usable = read_embeddings(logged, PROBE.embedding, PROBE.features, paths)
    assert usable.all() and len(paths) == 100
    folds, given = np.array(folds), labels.argmax(axis=1)
    probe_probs = np.zeros(labels.shape)
    for fold in range(3):
        scaler = StandardScaler().fit(vectors[folds != fold])
        model = LogisticRegression(C=0.01, max_iter=1000).fit(
            scaler.transform(vectors[folds != fold]), given[folds != fold]
        )
        probe_probs[folds == fold] = model.predict_proba(scaler.transform(vectors[folds == fold]))
    window_clips, window_probs = [], []
    for judge in sorted(set(judges)):
        with np.load(logged.work / "windows" / f"{judge}.npz") as saved:
            for clip, row in zip(saved["clip_ids"].tolist(), saved["probs"], strict=True):
                if clip in clip_ids and judges[clip_ids.index(clip)] == judge:
                    window_clips.append(clip_ids.index(clip))
                    window_probs.append(row)
    return {
        "labels": labels,
        "probs": np.array(probs),
        "groups": np.full(len(labels), -1),
        "dynamics": naive_dynamics(logged, run_id, "pretrain", np.array(clip_ids), labels),
        "window_clips": np.array(window_clips),
        "window_probs": np.array(window_probs),
        "embeddings": vectors,
        "probe_probs": probe_probs,
        "network_probs": np.array(probs),
    }


@pytest.fixture(scope="module")
def evidence(logged):
    # Embeddings are written on the way, whoever asks first.
    found = open_evidence(logged)
    assert found.embedded.all()
    return found


@pytest.mark.parametrize("name", registry.names("score"))
def test_every_score_equals_the_function_called_by_hand(evidence, parts, name):
    function = registry.resolve("score", name)
    wanted = set(inspect.signature(function).parameters) & set(parts)
    scores = score_by(name, evidence)
    expected = function(**{key: parts[key] for key in wanted})
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert scores.shape == (100,) and ((scores >= 0) & (scores <= 1)).all()
    assert np.ptp(scores) > 0


def test_the_log_has_a_row_for_every_epoch(logged, evidence):
    logs = list((logged.work / "epochs" / evidence.run_id / "pretrain").glob("*.npy"))
    assert [np.load(log).shape for log in logs] == [(3, 100, 10)] * 3


def test_scores_lie_in_the_store_under_the_model_that_judged(mine):
    settings = [word for text in FEATURES for word in ("--set", text)]
    methods = ["--method", "aum", "--method", "probe", "--method", "lwlrap"]
    done = call(mine, "score", *methods, "--fuse", "--lowest", 100, "--json", *settings)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    columns = ["path", "labels", "state", "suggested", "score"]
    columns += ["fused", "aum", "probe", "lwlrap", "reason"]
    assert list(found[0]) == columns and len(found) == 100
    assert all(row["score"] == row["fused"] for row in found)
    assert [row["fused"] for row in found] == sorted(row["fused"] for row in found)
    table = call(mine, "score", *methods, "--fuse", *settings).stdout.splitlines()
    assert table[0].split() == columns and len(table) == 32

    stored = rows(
        mine,
        "select s.metric, c.path, s.value, r.parents from scores s join runs r using (run_id) "
        "join clips c using (clip_id) where r.kind = 'score' and r.batch_id = "
        "(select max(batch_id) from batches) and s.class_id = -1",
    )
    values = {(metric, path): value for metric, path, value, _ in stored}
    assert len(values) == 4 * 100
    for row in found:
        for metric in ("fused", "aum", "probe", "lwlrap"):
            assert round(values[metric, row["path"]], 4) == row[metric]
    judge = dict(
        rows(
            mine,
            "select c.path, p.run_id from predictions p join clips c using (clip_id) "
            "join runs r using (run_id) where r.kind = 'fold' and "
            "r.part_of = (select max_by(run_id, batch_id) from runs where kind = 'train')",
        )
    )
    assert all(parents == [judge[path]] for _, path, _, parents in stored)

    # The mean over the methods of each clip's rank.
    ranks = [
        np.mean([
            [(values[m, b] < values[m, a]) + 0.5 * (values[m, b] == values[m, a]) for b in judge]
            for a in judge
        ], axis=1) for m in ("aum", "probe", "lwlrap")
    ]  # fmt: skip
    fused = np.array([values["fused", path] for path in judge])
    np.testing.assert_allclose(fused, (np.mean(ranks, axis=0) * 100 - 0.5) / 99, atol=1e-9)


def test_the_default_is_fusion_and_orders_the_review_queue(mine):
    first = score(mine, probe=PROBE, workers=1, lowest=100)
    batches = rows(mine, "select count(*) from batches")
    assert score(mine, probe=PROBE, workers=1, lowest=100) == first
    assert rows(mine, "select count(*) from batches") == batches
    queue = rows(mine, "select path, fusion, self_confidence from review_queue")
    values = [fusion for _, fusion, _ in queue]
    assert values == sorted(values) and len(set(values)) > 30
    shown = {clip.path: clip.scores["fusion"] for clip in first}
    noisy = {clip.path for clip in first if clip.state in ("unverified", "self_verified")}
    assert {path for path, *_ in queue} == noisy
    assert all(shown[path] == round(fusion, 4) for path, fusion, _ in queue)


def test_reasons_name_what_is_heard_against_what_was_given(logged, evidence, parts):
    found = score(
        copy_project(logged, logged.root.parent / "reasons"), probe=PROBE, lowest=100, workers=1
    )
    # The default hears with both ears, the network and the classifier on embeddings.
    both = fuse_opinions(parts["labels"], [parts["probe_probs"], parts["probs"]], single=True)
    probs = dict(zip(evidence.paths, both, strict=True))
    classes = evidence.table.classes
    for clip in found:
        p, given = probs[clip.path], clip.labels[0]
        assert clip.suggested == classes[p.argmax()]
        best = f"The model hears {clip.suggested} ({100 * p.max():.0f} %), "
        if given == clip.suggested:
            assert clip.reason == best + "as the label says."
        else:
            doubted = f"not {given} (only {100 * p[classes.index(given)]:.0f} %)."
            assert clip.reason == best + doubted


def test_without_a_log_only_what_needs_one_is_refused(mine, parts):
    settings = [*TINY, "pretrain.epochs=1", "pretrain.log_every=0"]
    run_id = train(mine, read_recipe("quick", settings), workers=1)["run_id"]
    for name in ("aum", "epoch_margin", "forgetting", "mean_confidence", "variability"):
        done = call(mine, "score", "--method", name)
        assert done.exit_code == 2 and done.stderr.count("Error: ") == 1
        assert f"score {name} needs a log of the epochs, and run {run_id} kept none" in done.stderr
        assert "with --set log_every=1" in done.stderr
    evidence = open_evidence(mine)
    assert evidence.run_id == run_id and evidence.dynamics is None
    expected = score_fusion(parts["labels"], parts["probe_probs"], evidence.probs)
    np.testing.assert_allclose(score_by("fusion", evidence), expected, atol=1e-9)


def test_a_lost_log_is_said_and_not_taken_for_none(mine, evidence):
    shutil.rmtree(mine.work / "epochs" / evidence.run_id / "pretrain")
    with pytest.raises(StoreError, match=r"fold-0.npy is gone; train again with another --seed"):
        score(mine, probe=PROBE, workers=1)
    done = call(mine, "score", "--method", "self_confidence")
    assert done.exit_code == 0, done.output


def test_a_label_that_changed_since_has_a_fusion_but_no_dynamics(mine, evidence):
    before = dict(zip(evidence.paths, evidence.dynamics.aum, strict=True))
    noisy = [path for path, ok in zip(evidence.paths, evidence.machine, strict=True) if ok]
    names = {p: evidence.table.classes[k] for p, k in
             zip(evidence.paths, evidence.labels.argmax(axis=1), strict=True)}  # fmt: skip
    changed, same = noisy[:2], noisy[2]
    correct(mine, {p: "Siren" if names[p] != "Siren" else "Bell" for p in changed})
    # Somebody else says what the label was: it is what the models learnt.
    correct(mine, {same: names[same]})
    now = open_evidence(mine)
    aum = dict(zip(now.paths, score_by("aum", now), strict=True))
    assert {path for path, value in aum.items() if np.isnan(value)} == set(changed)
    after = dict(zip(now.paths, now.dynamics.aum, strict=True))
    assert all(after[path] == before[path] for path in before if path not in changed)
    fusion = score_by("fusion", now)
    assert np.isfinite(fusion).all()
    found = score(mine, methods=("aum",), probe=PROBE, lowest=100, workers=1)
    assert len(found) == 98 and not {clip.path for clip in found} & set(changed)


def test_a_verify_run_has_the_log_of_its_first_training(verified_project):
    project, _, summary, _ = verified_project
    found = open_evidence(project, summary["run_id"])
    expected = naive_dynamics(project, found.run_id, "round-00", found.clip_ids, found.labels)
    for name, values in vars(expected).items():
        np.testing.assert_allclose(getattr(found.dynamics, name), values, atol=1e-6, err_msg=name)
    assert found.dynamics.aum.std() > 0
    assert {judge.split("/")[1] for judge in found.judges} == {f"round-{summary['kept_round']:02}"}


def test_locked_and_rejected_clips_are_not_scored(mine, evidence):
    gone = evidence.paths[0]
    correct(mine, {gone: "remove"})
    now = open_evidence(mine)
    assert set(evidence.paths) - set(now.paths) == {gone} and len(evidence.paths) == 100
    assert (now.table.subsets[now.rows] == "train").all()


def test_a_clip_without_labels_is_shown_by_scores_that_need_none(mine, evidence, monkeypatch):
    path = evidence.paths[0]
    with mine.store.write() as session:
        session.rows(
            "update event_rows set labels = [] where clip_id = ?", [int(evidence.clip_ids[0])]
        )
    found = score(mine, methods=("typicality",), probe=PROBE, lowest=100, workers=1)
    clip = next(clip for clip in found if clip.path == path)
    assert clip.labels == [] and clip.reason.endswith("; no label is given.")


def score_own(labels, probs, *, power=2.0):
    """A score of somebody else."""
    return (labels * probs).max(axis=1) ** power


def score_what(labels, weather):
    """Asks for what no run has."""
    return labels[:, 0] * weather


def score_pairs(labels, probs):
    """Gives a number a pair."""
    return probs


def test_a_score_of_ones_own(mine, evidence):
    name = "tests.integration.cleaning.test_evidence:score_own"
    expected = score_own(evidence.labels, evidence.probs)
    np.testing.assert_allclose(score_by(name, evidence), expected)
    done = call(mine, "score", "--method", name, "--json")
    assert json.loads(done.stdout)[0][name] == round(expected.min(), 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tests.integration.cleaning.test_evidence:score_what",
            "asks for weather; known: labels, probs, groups",
        ),
        (
            "tests.integration.cleaning.test_evidence:score_pairs",
            r"shape \(100, 10\) for 100 clips; it must give one",
        ),
    ],
)
def test_a_score_that_does_not_fit(evidence, name, message):
    with pytest.raises(InvalidInput, match=message):
        score_by(name, evidence)


def test_a_score_says_itself_whether_it_shows_seen_labels():
    """Whatever reads the course of a training does; no list beside the registry says so."""
    seen = {"aum", "epoch_margin", "forgetting", "fusion", "mean_confidence", "variability"}
    assert {name for name in registry.names("score") if is_in_sample(name)} == seen
