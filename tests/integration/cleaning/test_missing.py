"""Labels that may be missing: proposals in the store, and a mask that training heeds."""

import json

import numpy as np
import pytest

from labelkit.cleaning.external import import_probs
from labelkit.config import FormatSpec, read_recipe
from labelkit.labels.importing import import_labels
from labelkit.runs.dataset import read_dataset
from labelkit.runs.train import train
from labelkit.stores.scores import newest_pair_scores
from tests.support.clips import write_csv
from tests.support.commands import call, refused, rows, snapshot
from tests.support.labelled import CLASSES, PATHS, N, judge, write_probs
from tests.support.projects import TINY, allow_several, copy_project


@pytest.fixture
def project(labelled, tmp_path):
    """A copy to write to."""
    return copy_project(labelled, tmp_path / "p")


@pytest.fixture
def judged(project, tmp_path):
    return project, import_probs(project, write_probs(tmp_path / "a.csv"))


def missing(project, *args):
    done = call(project, "missing", *args, "--most", 999, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), done.stderr


def naive(project, percentile, known=()):
    """Of each class, clips without it above the percentile of all of them."""
    found = {}
    given = dict(rows(project, "select path, labels from labels_now"))
    for c, name in enumerate(CLASSES):
        open_to = [k for k in range(N) if name not in given[PATHS[k]] and (k, c) not in known]
        values = np.array([judge()[k, c] for k in open_to])
        bound = np.percentile(values, percentile, method="higher")
        found |= {(PATHS[k], name): v for k, v in zip(open_to, values, strict=True) if v > bound}
    return found


def test_proposals_lie_in_the_store_with_their_class(judged):
    project, run_id = judged
    expected = naive(project, 90)
    assert 4 <= len(expected) <= 12
    found, told = missing(project, "--run", run_id, "--percentile", 90)
    assert {(row["path"], row["suggested"]) for row in found} == set(expected)
    assert [row["score"] for row in found] == sorted(row["score"] for row in found)
    for row in found:
        p = expected[row["path"], row["suggested"]]
        assert row["score"] == pytest.approx(1 - p, abs=1e-4)
        assert row["suggested"] not in row["labels"] and len(row["labels"]) == 1
        assert row["reason"] == (
            f"The model also hears {row['suggested']} ({100 * p:.0f} %), which may be missing."
        )
    assert f"proposed: {len(expected)}" in told and "masked" not in told
    stored = rows(
        project,
        "select c.path, k.name, s.value, s.metric, r.parents from scores s "
        "join clips c using (clip_id) join classes k using (class_id) join runs r using (run_id)",
    )
    assert {(path, name) for path, name, *_ in stored} == set(expected)
    assert len(stored) == len(expected)
    for path, name, value, metric, parents in stored:
        assert value == pytest.approx(1 - expected[path, name]) and parents == [run_id]
        assert metric == "missing"
    assert rows(project, "select count(*) from review_queue") == [(0,)]
    before = snapshot(project)
    assert missing(project, "--run", run_id, "--percentile", 90)[0] == found
    assert snapshot(project) == before
    top = json.loads(call(project, "missing", "--run", run_id, "--percentile", "90", "--most", "3",
                          "--json").stdout)  # fmt: skip
    assert top == found[:3]


def test_what_is_listed_is_what_push_would_take(judged):
    """A, then B, then A again: the newest proposals are those that were just listed."""
    project, run_id = judged

    def newest():
        with project.store.read() as session:
            return len(newest_pair_scores(session, "missing").values)

    few = len({row["path"] for row in missing(project, "--run", run_id, "--percentile", 95)[0]})
    assert newest() == few
    many = len({row["path"] for row in missing(project, "--run", run_id, "--percentile", 60)[0]})
    assert newest() == many > few
    for _ in range(2):
        missing(project, "--run", run_id, "--percentile", 95)
        assert newest() == few
    before = snapshot(project)
    missing(project, "--run", run_id, "--percentile", 95)
    assert snapshot(project) == before


def test_what_people_decided_is_never_proposed(judged):
    project, run_id = judged
    (path, name), *_ = [pair for pair in naive(project, 90) if PATHS.index(pair[0]) >= 8]
    given = dict(rows(project, "select path, labels from labels_now"))[path][0]
    # Somebody adds the label, then takes it away again: it is not there.
    for labels in (f"{given},{name}", given):
        file = project.root / "c.json"
        file.write_text(json.dumps({path: labels}))
        allow_several(project, [labels])
        import_labels(project, file, "corrections", FormatSpec())
    known = {(PATHS.index(path), CLASSES.index(name))}
    found, _ = missing(project, "--run", run_id, "--percentile", 90)
    assert {(row["path"], row["suggested"]) for row in found} == set(naive(project, 90, known))
    assert (path, name) not in {(row["path"], row["suggested"]) for row in found}


def unsure(project):
    with project.store.read() as session:
        return {(PATHS[clip], CLASSES[c]) for clip, c in session.unsure()}


def test_a_person_who_decides_later_wins(judged):
    project, run_id = judged
    found, told = missing(project, "--run", run_id, "--percentile", 90, "--mask")
    pairs = {(row["path"], row["suggested"]) for row in found}
    assert unsure(project) == pairs and f"masked: {len(pairs)}" in told
    path, name = next(pair for pair in pairs if PATHS.index(pair[0]) >= 8)
    given = dict(rows(project, "select path, labels from labels_now"))[path][0]
    file = project.root / "c.json"
    for labels, still in ((f"{given},{name}", False), (given, False)):
        file.write_text(json.dumps({path: labels}))
        allow_several(project, [labels])
        import_labels(project, file, "corrections", FormatSpec())
        assert ((path, name) in unsure(project)) == still
    # Whatever a machine says after that.
    missing(project, "--run", run_id, "--percentile", 60, "--mask")
    assert (path, name) not in unsure(project) and unsure(project) > pairs - {(path, name)}
    labels = rows(project, "select labels, state from labels_now where path = ?", [path])
    assert labels == [([given], "relabeled")]


def test_classes_without_clips_are_told(judged, tmp_path):
    project, _ = judged
    source = write_csv(project.root / "new.csv", ("fname", "label"), [("new.wav", "Wind")])
    spec = FormatSpec(subset="test")
    import_labels(project, source, "csv", spec, metadata_only=True, add_classes=True)
    probs = np.column_stack([judge() * 0.5, np.full(len(PATHS), 0.5)])
    file = write_probs(tmp_path / "b.csv", probs, names=[*CLASSES, "Wind"])
    found, told = missing(project, "--probs", file, "--percentile", 90)
    assert "nothing is proposed for classes without clips: Wind" in told
    assert {row["suggested"] for row in found} <= set(CLASSES) and found


def test_too_few_clips_for_a_percentile_are_told(judged):
    project, run_id = judged
    before = snapshot(project)
    found, told = missing(project, "--run", run_id)
    assert found == [] and "proposed: 0" in told
    assert "no label is likely missing; of few clips only a lower --percentile finds some" in told
    assert snapshot(project) == before


@pytest.mark.parametrize("value", ["-1", "101", "nan", "much"])
def test_a_percentile_is_a_percentile(judged, value):
    project, run_id = judged
    before = snapshot(project)
    done = call(project, "missing", "--run", run_id, "--percentile", value)
    assert done.exit_code == 2 and "percentile" in done.stderr and "Traceback" not in done.stderr
    assert snapshot(project) == before
    refused(call(project, "missing", "--run", "nothing"), "no finished run 'nothing'")


@pytest.mark.slow
def test_training_heeds_the_mask(verified_project, tmp_path):
    source, *_ = verified_project
    copied = copy_project(source, tmp_path / "copy")
    recipe = read_recipe("quick", [*TINY, "pretrain.epochs=1", "pretrain.log_every=0"])
    assert read_dataset(copied, recipe, workers=1).mask() is None
    plain = train(copied, recipe, workers=1)["run_id"]
    settings = [word for t in TINY if t.startswith("features.") for word in ("--set", t)]
    found, told = missing(copied, "--percentile", 90, "--mask", *settings)
    assert len(found) >= 50
    data = read_dataset(copied, recipe, workers=1)
    mask = data.mask()
    paths, classes = data.paths, data.table.classes
    zeros = {(paths[k], classes[c]) for k, c in zip(*np.nonzero(mask == 0), strict=True)}
    assert zeros == {(row["path"], row["suggested"]) for row in found}
    assert set(np.unique(mask)) == {0, 1} and mask.shape == data.labels.shape
    assert not (data.labels.astype(bool) & (mask == 0)).any()
    with copied.store.read() as session:
        assert session.find_leaks() == []

    masked = train(copied, recipe, workers=1)["run_id"]
    assert masked != plain

    def judgements(run_id):
        return np.array([
            probs for (probs,) in rows(
                copied, "select probs from predictions where run_id like ? order by clip_id",
                [f"{run_id}/%"],
            )
        ])  # fmt: skip

    assert judgements(plain).shape == judgements(masked).shape == (100, 10)
    # The same seed gives the same bits, so that all of the difference is the mask's.
    assert np.abs(judgements(plain) - judgements(masked)).max() > 1e-4
    batch_id = int(next(line for line in told.splitlines() if line.startswith("batch: "))[7:])
    assert call(copied, "undo", batch_id).exit_code == 0
    assert read_dataset(copied, recipe, workers=1).mask() is None
    assert train(copied, recipe, workers=1)["run_id"] == plain
