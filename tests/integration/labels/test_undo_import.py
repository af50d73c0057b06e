"""An import can be taken back as long as nothing was built on it."""

import json

import numpy as np
import pytest

from labelkit.project import create_project
from labelkit.records import (
    Batch,
    LabelEvent,
    Predictions,
    ReviewProject,
    ReviewTask,
    Run,
    Scores,
    Verdict,
)
from tests.support.clips import write_csv
from tests.support.commands import call, refused, rows


@pytest.fixture
def project(tmp_path):
    """Two clips and two classes."""
    (tmp_path / "audio").mkdir()
    project, _ = create_project(tmp_path, tmp_path / "audio")
    bring(project, "first", [("a.wav", "Dog"), ("b.wav", "Cat")])
    return project


def bring(project, name, lines, *words, header=("fname", "label")):
    file = write_csv(project.root / f"{name}.csv", header, lines)
    return call(project, "import", file, "--format", "csv", "--metadata-only", *words)


def wrong(project):
    """A wrong file on top: two clips and two classes."""
    done = bring(project, "wrong", [("x.wav", "Dgo"), ("y.wav", "Cta"), ("z.wav", "Dog")],
                 "--add-classes")  # fmt: skip
    assert done.exit_code == 0, done.output
    return rows(project, "select max(batch_id) from batches")[0][0]


def seen(project):
    return (
        rows(project, "select path, labels, state from labels_now order by path"),
        rows(project, "select name from classes order by class_id"),
        rows(project, "select class, clips from class_summary"),
        rows(project, "from folds order by all"),
        rows(project, "select path, class, verdict from label_states order by all"),
    )


def sound(project):
    done = call(project, "doctor", "--fast", "--json")
    assert [r for r in json.loads(done.stdout) if r["state"] == "problem"] == [], done.output


KINDS = [
    # Columns beyond path and label, and options: everything an import can bring in.
    ((), ()),
    (("verified",), ("--verified-column", "verified")),
    (("fold",), ("--fold-column", "fold")),
    (("group",), ("--group-column", "group")),
    ((), ("--subset", "test")),
    ((), ("--state", "verified")),
]


@pytest.mark.parametrize(("columns", "options"), KINDS)
def test_all_that_came_in_is_gone_and_comes_again(project, columns, options):
    before = seen(project)
    lines = [(f"{k}.wav", ("Dgo", "Dog")[k % 2], *["1"] * len(columns)) for k in range(6)]
    done = bring(project, "wrong", lines, "--add-classes", *options,
                 header=("fname", "label", *columns))  # fmt: skip
    assert done.exit_code == 0, done.output
    with_it = seen(project)
    assert with_it != before
    batch = rows(project, "select max(batch_id) from batches")[0][0]
    tried = call(project, "undo", batch, "--dry-run")
    assert tried.exit_code == 0 and seen(project) == with_it
    done = call(project, "undo", batch)
    assert done.exit_code == 0 and "clips: 6" in done.stderr and "left: 0" in done.stderr
    assert "6 clips are gone" in done.stderr and "class 'Dgo' is gone" in done.stderr
    assert seen(project) == before
    sound(project)
    # What is looked back at is as it was.
    past = call(project, "query", "--csv", "--as-of", batch, "select count(*) from clips")
    assert past.stdout.split() == ["count_star()", "8"]
    done = call(project, "undo", batch + 1)
    assert done.exit_code == 0 and seen(project) == with_it
    sound(project)


def test_the_right_file_can_come_in_its_place(project, tmp_path):
    """The separator was forgotten: undo, import once more."""
    call(project, "undo", "1")
    assert rows(project, "select count(*) from clips") == [(0,)]
    lines = [("a.wav", "Dog;Cat"), ("b.wav", "Cat"), ("c.wav", "Dog")]
    assert bring(project, "l", lines).exit_code == 0
    assert ("Dog;Cat",) in rows(project, "select name from classes")
    assert call(project, "undo", "3").exit_code == 0
    assert bring(project, "l", lines, "--separator", ";").exit_code == 0
    assert rows(project, "select name from classes order by 1") == [("Cat",), ("Dog",)]
    assert rows(project, "select labels from labels_now where path = 'a.wav'") == [
        (["Cat", "Dog"],)
    ]
    sound(project)
    # Now the first import cannot come back: its clips are there.
    done = call(project, "undo", "4")
    assert done.exit_code in (2, 3) and done.stderr.count("\n") == 1, done.output
    assert "take the later import back" in done.stderr or "rename one first" in done.stderr
    sound(project)


def clip_id(project, path):
    return rows(project, "select clip_id from clips where path = ?", [path])[0][0]


def a_run(project, ids, run_id="r", trained_on=(), kind="train"):
    return Run(run_id=run_id, kind=kind, recipe="t", settings={}, seed=0, classes=["Dog"],
               as_of=1, trained_on=trained_on)  # fmt: skip


def decided(project, clip):
    event = LabelEvent(clip_id=clip, state="relabeled", labels=[0], source="t")
    return {"kind": "corrections", "by_person": True, "events": [event]}


def said(project, clip):
    word = Verdict(clip_id=clip, class_id=0, verdict="unsure", rule="t")
    return {"kind": "review", "by_person": True, "verdicts": [word]}


def learnt(project, clip):
    return {"kind": "train", "runs": [a_run(project, [clip], trained_on=[clip])]}


def judged(project, clip):
    probs = Predictions(run_id="r", clip_ids=np.array([clip]), probs=np.ones((1, 1), np.float32))
    return {"kind": "external", "runs": [a_run(project, [clip])], "predictions": [probs]}


def scored(project, clip):
    one = Scores(run_id="r", metric="m", clip_ids=np.array([clip]), values=np.ones(1))
    return {"kind": "score", "runs": [a_run(project, [clip])], "scores": [one]}


def dealt(project, clip):
    return {"kind": "folds", "fold_set": "mine", "folds": {clip: 0}}


def sent(project, clip):
    page = ReviewProject(name="p", url="http://127.0.0.1:1", project_id=1, title="t", page="",
                         page_hash="", settings={})  # fmt: skip
    task = ReviewTask(project="p", task_id=1, clip_id=clip, model_version="m", score=0.5,
                      suggested=[0], page_hash="")  # fmt: skip
    return {"kind": "push", "review_projects": [page], "review_tasks": [task]}


BUILT = [
    (decided, "(corrections) said something of 1 of them"),
    (said, "(review) said something of 1 of them"),
    (learnt, "run r learnt or judged some"),
    (judged, "run r learnt or judged some"),
    (scored, "run r learnt or judged some"),
    (dealt, "fold set mine holds 1 of them"),
    (sent, "1 of them are tasks in Label Studio"),
]


@pytest.mark.parametrize(("build", "message"), BUILT, ids=[f.__name__ for f, _ in BUILT])
def test_what_was_built_on_it_is_named(project, build, message):
    batch = wrong(project)
    parts = {"by_person": False} | build(project, clip_id(project, "x.wav"))
    with project.store.write() as session:
        session.append(Batch(key="built", actor="t", **parts))
    before = seen(project)
    refused(call(project, "undo", batch), message, "labelkit undo")
    assert seen(project) == before


@pytest.mark.parametrize("build", [decided, said])
def test_what_was_taken_back_is_built_no_more(project, build):
    batch = wrong(project)
    parts = build(project, clip_id(project, "x.wav"))
    with project.store.write() as session:
        session.append(Batch(key="built", actor="t", **parts))
    assert call(project, "undo", batch + 1).exit_code == 0
    assert call(project, "undo", batch).exit_code == 0
    assert rows(project, "select count(*) from clips") == [(2,)]
    sound(project)


def test_what_was_built_on_others_is_no_matter(project):
    batch = wrong(project)
    for n, build in enumerate((decided, learnt, dealt)):
        parts = {"by_person": False} | build(project, clip_id(project, "a.wav"))
        with project.store.write() as session:
            session.append(Batch(key=f"built {n}", actor="t", **parts))
    assert call(project, "undo", batch).exit_code == 0
    assert rows(project, "select path from clips order by 1") == [("a.wav",), ("b.wav",)]
    sound(project)


def test_a_class_that_another_clip_has_stays(project):
    batch = wrong(project)
    assert call(project, "label", "a.wav", "Dgo").exit_code == 0
    assert call(project, "undo", batch).exit_code == 0
    assert rows(project, "select name from classes order by 1") == [("Cat",), ("Dgo",), ("Dog",)]
    assert rows(project, "select labels from labels_now where path = 'a.wav'") == [(["Dgo"],)]
    sound(project)


def test_a_class_goes_under_the_name_it_got_since(project):
    batch = wrong(project)
    assert call(project, "classes", "rename", "Dgo", "Wolf").exit_code == 0
    assert call(project, "undo", batch).exit_code == 0
    assert rows(project, "select name from classes order by 1") == [("Cat",), ("Dog",)]
    refused(call(project, "undo", batch + 1), "changed since")
    # All of it comes back, with the name it had last.
    assert call(project, "undo", batch + 2).exit_code == 0
    assert ("Wolf",) in rows(project, "select name from classes")
    sound(project)


def test_a_class_that_was_merged_since_stays_merged(project):
    batch = wrong(project)
    assert call(project, "classes", "merge", "Dgo", "Dog").exit_code == 0
    assert call(project, "undo", batch).exit_code == 0
    assert rows(project, "select name from classes order by 1") == [("Cat",), ("Dog",)]
    sound(project)
    assert call(project, "undo", batch + 2).exit_code == 0
    assert rows(project, "select labels from labels_now where path = 'x.wav'") == [(["Dog"],)]
    sound(project)
