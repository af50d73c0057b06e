"""Looking back: every command reads labels as they were, and writes to the present alone."""

import json
import shutil

import click
import numpy as np
import pytest

from labelkit.cleaning.external import import_probs
from labelkit.cleaning.missing import find_missing_labels
from labelkit.cleaning.score import score
from labelkit.cleaning.selection import select
from labelkit.cli import cli
from labelkit.config import FormatSpec, read_recipe
from labelkit.errors import InvalidInput
from labelkit.labels.importing import import_labels
from labelkit.labels.undo import undo
from labelkit.project import create_project, fix_as_of, open_project
from labelkit.records import Batch, Verdict
from labelkit.runs.dataset import read_dataset
from labelkit.runs.folds import freeze_folds
from labelkit.runs.train import train
from labelkit.runs.verify import verify
from labelkit.stores.labels import LabelStore
from tests.support.clips import write_csv, write_tone
from tests.support.commands import call, refused, rows
from tests.support.labelled import CLASSES, PATHS, write_probs
from tests.support.projects import allow_several, copy_project

RECIPE = read_recipe(
    "probe",
    (
        "features.sample_rate=8000", "features.n_fft=512", "features.n_mels=32",
        "verify.iterations=2", "verify.threshold=0.2", "verify.until=all",
    ),
)  # fmt: skip
HUMAN = ("verified", "relabeled", "rejected")


@pytest.fixture
def project(labelled, tmp_path):
    """A copy to write to."""
    return copy_project(labelled, tmp_path / "p")


def at(project, moment):
    return open_project(project.root, as_of=str(moment))


def last_batch(project):
    return rows(project, "select max(batch_id) from batches")[0][0]


def say_verdicts(project, *told, actor="ann"):
    with project.store.write() as session:
        verdicts = [Verdict(clip_id=c, class_id=k, verdict=v, rule="ear") for c, k, v in told]
        session.append(Batch(key=f"said {session.last_batch()}", kind="review", actor=actor,
                             by_person=True, verdicts=verdicts))  # fmt: skip


def correct(project, said):
    allow_several(project, said.values())
    file = project.root / "corrections.json"
    file.write_text(json.dumps(said))
    import_labels(project, file, "corrections", FormatSpec())


def replay(project, batch_id):
    """The store after a batch, told anew from the tables by plain Python."""
    raw = LabelStore(project.store.path)
    with raw.read() as session:
        events = session.rows("select clip_id, state, labels from label_events "
                              "where batch_id <= ? order by event_id", [batch_id])  # fmt: skip
        names = session.rows("select name from classes where batch_id <= ? order by class_id",
                             [batch_id])  # fmt: skip
        clips = session.rows("select clip_id, path, subset from clips where batch_id <= ?",
                             [batch_id])  # fmt: skip
        sets = session.rows("select fold_set, clip_id, fold, batch_id from folds "
                            "where batch_id <= ? order by batch_id", [batch_id])  # fmt: skip
    first, now = {}, {}
    for clip, state, labels in events:
        first.setdefault(clip, state)
        now[clip] = (state, labels)
    return {
        "classes": [name for (name,) in names],
        "now": now,
        "first": first,
        "path": {clip: path for clip, path, _ in clips},
        "train": sorted(clip for clip, _, subset in clips if subset == "train"),
        "fold_set": sets[-1][0] if sets else None,
        "folds": {c: fold for name, c, fold, _ in sets if name == sets[-1][0]},
    }


@pytest.fixture(scope="module")
def moved_on(demo_clips, tmp_path_factory):
    """A project trained on day one (its batch, its run), of which nothing is as it was."""
    root = tmp_path_factory.mktemp("moved")
    shutil.copytree(demo_clips[1], root / "demo")
    project, _ = create_project((root / "p", (root / "p").mkdir())[0], root / "demo/audio")
    for name in ("train", "test"):
        file = root / f"demo/{name}.csv"
        import_labels(project, file, "fsdkaggle2018", FormatSpec(subset=name))
    paths = [path for (path,) in rows(project, "select path from clips order by clip_id")]
    names = [name for (name,) in rows(project, "select name from classes order by class_id")]
    correct(project, {paths[0]: "remove", paths[1]: names[1]})
    given = rows(project, "select labels from current_events where clip_id in (3, 4)")
    say_verdicts(project, (3, given[0][0][0], "unsure"),
                 (4, (given[1][0][0] + 1) % len(names), "unsure"))  # fmt: skip
    freeze_folds(project, n=3)
    day_one, data = last_batch(project), read_dataset(project, RECIPE, workers=1)
    run = train(project, RECIPE, workers=1)

    correct(
        project, {paths[1]: names[2], paths[2]: "remove", paths[5]: names[0], paths[0]: names[0]}
    )
    write_tone(root / "demo/audio/new-0.wav", 500)
    write_tone(root / "demo/audio/new-1.wav", 900)
    new = write_csv(root / "new.csv", ("fname", "label"), [("new-0.wav", "A new class"),
                                                           ("new-1.wav", names[0])])  # fmt: skip
    import_labels(project, new, "csv", FormatSpec(), add_classes=True)
    say_verdicts(project, (3, given[0][0][0], "present"), (6, 0, "unsure"))
    freeze_folds(project, n=2)
    verified = verify(project, RECIPE, workers=1)
    correct(project, {paths[7]: names[2]})
    undo(project, last_batch(project))
    undo(project, 3)
    return project, day_one, data, run, verified


@pytest.mark.slow
def test_the_training_set_of_that_day_to_the_clip(moved_on):
    project, day_one, data, *_ = moved_on
    told, found = (
        replay(project, day_one),
        read_dataset(at(project, day_one), RECIPE, workers=1),
    )
    assert found.table.as_of == day_one and found.table.classes == told["classes"]
    kept = [clip for clip in told["train"] if told["now"][clip][0] != "rejected"]
    assert found.ids.tolist() == kept
    assert found.fold_set == told["fold_set"] == "3-seed0"
    assert found.folds.tolist() == [told["folds"][clip] for clip in kept]
    hot = np.zeros((len(kept), len(told["classes"])))
    for k, clip in enumerate(kept):
        hot[k, told["now"][clip][1]] = 1
    np.testing.assert_array_equal(found.labels, hot)
    assert found.human.tolist() == [told["now"][c][0] in HUMAN for c in kept]
    assert found.once_noisy.tolist() == [told["first"][c] == "unverified" for c in kept]
    masked = {(int(found.ids[k]), int(c)) for k, c in np.argwhere(found.mask() == 0)}
    assert masked == set(data.unsure) and {clip for clip, _ in masked} == {3, 4}
    # As it was read on that day, and not as it is read today.
    for name in ("train", "test", "labels", "human", "trusted", "once_noisy", "folds"):
        np.testing.assert_array_equal(getattr(found, name), getattr(data, name))
    assert found.paths == data.paths and found.unsure == data.unsure
    today = read_dataset(project, RECIPE, workers=1)
    assert today.fold_set == "2-seed0" and len(today.table.classes) == len(told["classes"]) + 1
    assert today.unsure != found.unsure and today.ids.tolist() != kept


@pytest.mark.slow
def test_the_same_training_is_the_very_same_run(moved_on):
    project, day_one, _, run, verified = moved_on
    made_at = rows(project, f"select made_at::varchar from batches where batch_id = {day_one}")
    before = last_batch(project)
    for moment in (day_one, run["run_id"], made_at[0][0].replace(" ", "T")):
        assert train(at(project, moment), RECIPE, workers=1) == run
    of_verify = rows(project, f"select as_of from runs where run_id = '{verified['run_id']}'")
    for moment in (verified["run_id"], of_verify[0][0]):
        again = verify(at(project, moment), RECIPE, workers=1)
        assert again["finished_before"] and again["run_id"] == verified["run_id"]
    assert last_batch(project) == before
    assert train(project, RECIPE, workers=1)["run_id"] != run["run_id"]


@pytest.mark.slow
def test_another_seed_learns_from_that_day(moved_on):
    project, day_one, _, run, _ = moved_on
    told = replay(project, day_one)
    states = rows(project, "select path, state, labels from labels_now order by 1")
    queue = "from review_queue order by path"
    before = rows(project, queue)
    with project.store.read() as session:
        newest = [session.last_run([kind]) for kind in ("train", "verify")]
    found = train(at(project, day_one), RECIPE, seed=5, workers=1)
    assert found["run_id"] != run["run_id"] and f"labels at batch {day_one}," in found["signature"]
    assert rows(project, "select path, state, labels from labels_now order by 1") == states
    # What a model says of labels that were is no doubt about those that are, nor is it the model
    # that is asked where none is named.
    assert before and rows(project, queue) == before
    with project.store.read() as session:
        assert [session.last_run([kind]) for kind in ("train", "verify")] == newest
    runs = rows(
        project,
        "select fold, trained_on, classes, as_of, fold_set from runs where part_of = "
        f"'{found['run_id']}' order by fold",
    )
    # The clip whose own label is in doubt is judged and not learnt.
    learnt = [c for c in told["train"] if told["now"][c][0] != "rejected" and c != 3]
    assert [fold for fold, *_ in runs] == [0, 1, 2]
    for fold, trained_on, classes, as_of, fold_set in runs:
        assert sorted(trained_on) == [c for c in learnt if told["folds"][c] != fold]
        assert (classes, as_of, fold_set) == (told["classes"], day_one, told["fold_set"])
    judged = rows(project, "select distinct clip_id from predictions join runs using (run_id) "
                           f"where part_of = '{found['run_id']}' order by 1")  # fmt: skip
    assert {clip for (clip,) in judged} >= {*learnt, 3}
    with project.store.read() as session:
        assert session.find_leaks() == []


@pytest.mark.slow
def test_verifying_the_past_leaves_people_alone(moved_on):
    project, day_one, _, _, _ = moved_on
    query = f"select path, state, labels from labels_now where state in {HUMAN} order by 1"
    people = rows(project, query)
    first = last_batch(project)
    found = verify(at(project, day_one), RECIPE, seed=9, workers=1)
    assert not found["finished_before"] and rows(project, query) == people
    changed = rows(project, "select distinct state, by_person from label_events "
                            f"join batches using (batch_id) where batch_id > {first}")  # fmt: skip
    assert {(state, person) for state, person in changed} <= {
        ("self_verified", False), ("unverified", False)
    }  # fmt: skip
    # Every clip kept the labels it has today.
    assert rows(project, "select count(*) from flips where batch_id > " + str(first)) == [(0,)]


@pytest.mark.slow
def test_before_there_were_folds_those_made_next_are_taken(moved_on):
    project, *_ = moved_on
    n_folds = "select count(*) from batches where kind = 'folds'"
    before = rows(project, n_folds)
    assert rows(project, "select min(batch_id) > 2 from folds") == [(True,)]
    assert freeze_folds(at(project, 2)) == "3-seed0"
    assert freeze_folds(at(project, last_batch(project))) == "2-seed0"
    assert rows(project, n_folds) == before


def test_folds_are_dealt_where_there_never_were_any(tone_project):
    spec = FormatSpec()
    for part, numbers in (("a", range(4)), ("b", range(4, 6))):
        lines = [(f"{k}.wav", ("Low", "High")[k % 2]) for k in numbers]
        file = write_csv(tone_project.root / f"{part}.csv", ("fname", "label"), lines)
        import_labels(tone_project, file, "csv", spec)
    assert freeze_folds(at(tone_project, 1), n=2) == "2-seed0"
    with tone_project.store.read() as session:
        assert sorted(session.folds("2-seed0")) == [0, 1, 2, 3]
    # Those that came later join.
    assert freeze_folds(tone_project) == "2-seed0"
    with tone_project.store.read() as session:
        assert sorted(session.folds("2-seed0")) == list(range(6))
    assert freeze_folds(at(tone_project, 2)) == freeze_folds(at(tone_project, 1)) == "2-seed0"
    assert last_batch(tone_project) == 4


@pytest.fixture
def judged(project, tmp_path):
    """A project, a run on it that came last, and the number of the batch before."""
    before = last_batch(project)
    run_id = import_probs(project, write_probs(tmp_path / "a.csv"))
    return project, run_id, before


def test_a_later_run_judges_labels_of_the_past(judged):
    project, run_id, before = judged
    then = score(project, run_id=run_id, methods=("self_confidence",), lowest=99)
    scores = rows(project, "select count(*) from scores")
    path = then[0].path
    correct(project, {path: then[0].suggested})
    assert score(project, run_id=run_id, methods=("self_confidence",), lowest=99) != then
    scores = rows(project, "select count(*) from scores")
    queue = rows(project, "from review_queue")
    past = score(at(project, before), run_id=run_id, methods=("self_confidence",), lowest=99)
    assert past == then
    assert rows(project, "select count(*) from scores") == scores
    assert rows(project, "from review_queue") == queue
    with pytest.raises(InvalidInput, match="no run was finished by then; name a later one"):
        score(at(project, before), methods=("self_confidence",))


def test_a_run_may_know_clips_and_classes_that_were_not_there(project, tmp_path):
    before = last_batch(project)
    new = write_csv(tmp_path / "n.csv", ("fname", "label"), [("new.wav", "Owl")])
    import_labels(project, new, "csv", FormatSpec(), metadata_only=True, add_classes=True)
    rng = np.random.default_rng(0)
    probs = rng.random((len(PATHS) + 1, 5)).astype(np.float32)
    file = write_probs(tmp_path / "b.csv", probs, [*PATHS, "new.wav"], [*CLASSES, "Owl"])
    done = call(project, "classes", "--probs", file, "--as-of", before, "--json")
    assert [row["class"] for row in json.loads(done.stdout)] == CLASSES
    assert f"labels as of batch {before} (" in done.stderr
    today = call(project, "classes", "--probs", file, "--json")
    assert [row["class"] for row in json.loads(today.stdout)] == [*CLASSES, "Owl"]


def test_selecting_by_the_past_decides_only_what_is_open(judged):
    project, run_id, _ = judged
    moment = last_batch(project)
    would, _ = select(project, "clean_share", run_ids=[run_id], options={"keep": 0.5},
                      dry_run=True)  # fmt: skip
    paths = [clip.path for clip in would]
    correct(project, {paths[0]: "remove", paths[1]: "Car,Dog"})
    people = rows(project, f"from labels_now where state in {HUMAN} order by path")
    tried, _ = select(at(project, moment), "clean_share", run_ids=[run_id],
                      options={"keep": 0.5}, dry_run=True)  # fmt: skip
    done, report = select(at(project, moment), "clean_share", run_ids=[run_id],
                          options={"keep": 0.5})  # fmt: skip
    assert tried == done and [clip.path for clip in done] == paths[2:]
    assert rows(project, f"from labels_now where state in {HUMAN} order by path") == people
    assert report.batch == last_batch(project)
    # Again there is nothing to do, and after an undo there is.
    assert select(at(project, moment), "clean_share", run_ids=[run_id],
                  options={"keep": 0.5})[1].batch is None  # fmt: skip
    undo(project, report.batch)
    again = select(at(project, moment), "clean_share", run_ids=[run_id], options={"keep": 0.5})
    assert again[0] == done and again[1].batch == last_batch(project)


def test_a_mask_of_the_past_leaves_what_was_settled_since(judged):
    project, run_id, _ = judged
    moment = last_batch(project)
    found, report = find_missing_labels(at(project, moment), run_id=run_id, percentile=80, most=999)
    assert rows(project, "select count(*) from scores") == [(0,)] and len(found) > 4
    clip, other = PATHS.index(found[0].path), PATHS.index(found[1].path)
    say_verdicts(project, (clip, CLASSES.index(found[0].suggested), "absent"))
    correct(project, {found[1].path: f"{found[1].suggested},{found[1].labels[0]}"})
    again, report = find_missing_labels(
        at(project, moment), run_id=run_id, percentile=80, most=999, mask=True
    )
    assert again == found and report.proposed == len(found) == report.masked + 2
    with project.store.read() as session:
        unsure = session.unsure()
    assert len(unsure) == report.masked
    # What is kept of labels of the past is the mask alone.
    assert rows(project, "select count(*) from scores") == [(0,)]
    assert (clip, CLASSES.index(found[0].suggested)) not in unsure
    assert (other, CLASSES.index(found[1].suggested)) not in unsure


# What reads labels looks back; all others, each named here, have a reason not to: they write, make
# a copy of all there is, ask a server, or, as diff does, are told two moments.
IN_THE_PRESENT = {
    "init", "import", "folds", "demo", "recipes show", "push", "pull", "diff", "undo", "backup",
    "restore", "doctor", "review init", "review push", "review pull", "review status",
    "review doctor", "review disagreements", "review annotators", "review quarantine",
    "review repair", "review confirm", "changes export", "changes import", "gc", "label", "labels",
    "classes rename", "classes merge", "classes retire",
}  # fmt: skip


def all_commands(group, before=()):
    """Every command by its words, those of groups, too."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


def flags(command):
    return {flag for parameter in command.params for flag in getattr(parameter, "opts", ())}


def test_commands_that_read_labels_look_back_and_others_do_not():
    found = dict(all_commands(cli))
    reading = {name for name, command in found.items() if "--as-of" in flags(command)}
    assert reading == found.keys() - IN_THE_PRESENT
    assert IN_THE_PRESENT <= found.keys() and {"query", "sql", "export", "train"} <= reading


def test_each_says_which_batch_it_reads(judged):
    project, run_id, before = judged
    correct(project, {PATHS[9]: "Car,Dog", PATHS[10]: "remove"})
    [(made_at,)] = rows(project, f"select made_at from batches where batch_id = {before}")
    line = f"labels as of batch {before} ({made_at:%Y-%m-%d %H:%M:%S})\n"
    for moment in (before, made_at.isoformat(), f"{made_at.isoformat()}+00:00", run_id):
        for args in (("status",), ("log",), ("history", PATHS[9]), ("blame", PATHS[9]),
                     ("classes", "--run", run_id)):  # fmt: skip
            done = call(project, *args, "--json", "--as-of", moment)
            assert done.exit_code == 0 and done.stderr == line, done.stderr
    states = json.loads(call(project, "status", "--as-of", before, "--json").stdout)
    told = {row["what"]: row["value"] for row in states}
    assert told["last batch"] == before and "train clips rejected" not in told
    assert not [what for what in told if what.startswith("run ")]
    found = json.loads(call(project, "history", PATHS[9], "--as-of", before, "--json").stdout)
    assert [row["state"] for row in found] == ["unverified"]
    assert "labels as of" not in call(project, "status").stderr


def test_a_day_that_is_not_over_stands_still(judged):
    project, *_ = judged
    moment = last_batch(project)
    looking = fix_as_of(at(project, "9999-12-31"))
    correct(project, {PATHS[9]: "Car,Dog"})
    with looking.store.read() as session:
        assert session.last_batch() == moment
    with looking.current.read() as session:
        assert session.last_batch() == moment + 1
    assert fix_as_of(project) is project


@pytest.mark.parametrize("moment", [
    "99", "0", "2001-01-01", "yesterday", "train-0", "", "-1", pytest.param("9" * 5000, id="long"),
])  # fmt: skip
def test_a_bad_moment_is_one_line(judged, moment):
    project, *_ = judged
    for name in ("status", "log", "classes", "train", "check"):
        refused(call(project, name, "--as-of", moment))
