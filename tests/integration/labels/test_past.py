"""The history at hand: the log, a clip's history, who gave a label, and what changed between."""

import json
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from labelkit.errors import InvalidInput
from labelkit.labels.history import blame, describe_diff, diff, history, log
from labelkit.labels.undo import undo
from labelkit.records import Batch, LabelEvent, Review, Run, Verdict, verdicts_of
from tests.support.commands import call, refused, rows
from tests.support.labelled import CLASSES, PATHS, make_labelled
from tests.support.projects import allow_several, copy_project

# Class ids.
BIRD, CAR, DOG, RAIN = range(4)


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A project with some history on the clips 8 to 12; only ever read.

    Batches 1 to 3 brought clips and folds; the clips were unverified.
    """
    project = make_labelled(tmp_path_factory.mktemp("lived") / "p")
    allow_several(project, [["Bird", "Dog"]])
    with project.store.write() as session:
        for clip, label in ((8, BIRD), (9, CAR), (10, DOG), (11, RAIN)):
            if session.labels().labels[clip] != [label]:
                decide(session, f"set {clip}", {clip: ("unverified", [label])}, person=False)
    return project


def decide(session, key, wanted, *, person, actor="labelkit", run_id=None, score=None, said=()):
    """A batch of events, with the verdicts that go with them and others."""
    before = dict(session.rows("select clip_id, labels from current_events"))
    events = [
        LabelEvent(clip_id=clip, state=state, labels=labels, source="rule", score=score,
                   run_id=run_id)
        for clip, (state, labels) in wanted.items()
    ]  # fmt: skip
    verdicts = [v for e in events for v in verdicts_of(e, key, before[e.clip_id])]
    run = Run(run_id=run_id, kind="train", recipe="quick", settings={}, seed=0, classes=CLASSES,
              as_of=session.last_batch()) if run_id else None  # fmt: skip
    return session.append(
        Batch(key=key, kind="edit" if person else "verify", actor=actor, by_person=person,
              reason=f"because {key}", run_id=run_id, runs=[run] if run else [], events=events,
              verdicts=[*verdicts, *said])
    ).batch_id  # fmt: skip


@pytest.fixture
def project(lived, tmp_path):
    """A copy to write to."""
    return copy_project(lived, tmp_path / "p")


@pytest.fixture
def told(project):
    """The project with batches of machines and people, by name."""
    mask = Verdict(clip_id=8, class_id=RAIN, verdict="unsure", rule="missing: much of it")
    part = Verdict(clip_id=8, class_id=CAR, verdict="present", rule="ear", start_s=0.5, end_s=1.5)
    answer = Review(project="p", task_id=1, annotation_id=7, updated_at=datetime(2026, 1, 2),
                    clip_id=8, annotator_id=1, annotator="ann", answer="labels", labels=("Bird",),
                    comment="loud", origin="manual", raw="{}")  # fmt: skip
    steps = {}
    with project.store.write() as session:
        steps["trust"] = decide(session, "trust", {8: ("self_verified", [BIRD]),
                                9: ("self_verified", [CAR])}, person=False, run_id="run-1",
                                score=0.75)  # fmt: skip
        steps["mask"] = session.append(
            Batch(key="mask", kind="missing", actor="labelkit", by_person=False, verdicts=[mask])
        ).batch_id
        steps["relabel"] = decide(session, "relabel", {9: ("relabeled", [CAR, DOG]),
                                  10: ("rejected", [])}, person=True, actor="bob")  # fmt: skip
        steps["answer"] = session.append(
            Batch(key="answer", kind="review", actor="ann", by_person=True, verdicts=[part],
                  reviews=[answer])
        ).batch_id  # fmt: skip
        steps["more"] = decide(session, "more", {9: ("verified", [DOG, RAIN])}, person=True,
                               actor="ann")  # fmt: skip
    steps["undo"] = undo(project, steps["more"]).batch
    return project, steps


def test_the_log(told):
    project, steps = told
    found, n = log(project, limit=4)
    assert n == rows(project, "select count(*) from batches")[0][0] == steps["undo"]
    assert [row.batch_id for row in found] == list(range(steps["undo"], steps["undo"] - 4, -1))
    by_batch = {row.batch_id: row for row in log(project)[0]}
    assert len(by_batch) == n
    for name, clips, labels, person in (
        ("trust", 2, 0, False), ("mask", 1, 0, False), ("relabel", 2, 2, True),
        ("answer", 1, 0, True), ("more", 1, 2, True), ("undo", 1, 2, True),
    ):  # fmt: skip
        row = by_batch[steps[name]]
        assert (row.clips, row.labels, row.by_person) == (clips, labels, person), name
    assert (by_batch[1].clips, by_batch[1].labels, by_batch[1].kind) == (40, 40, "import")
    assert by_batch[steps["more"]].undone_by == steps["undo"]
    assert by_batch[steps["undo"]].undoes == steps["more"]
    assert by_batch[steps["trust"]].run_id == "run-1"
    # Taken back and brought back, a batch stands.
    back = undo(project, steps["undo"]).batch
    by_batch = {row.batch_id: row for row in log(project)[0]}
    assert by_batch[steps["more"]].undone_by is None
    assert by_batch[steps["undo"]].undone_by == back


def test_labels_changed_are_those_of_a_plain_count(told):
    project, _ = told
    before, counts = {}, {}
    for batch_id, clip, labels in rows(
        project, "select batch_id, clip_id, labels from label_events order by event_id"
    ):
        changed = set(labels) ^ set(before.get(clip, ()))
        counts[batch_id] = counts.get(batch_id, 0) + len(changed)
        before[clip] = labels
    found = {row.batch_id: row.labels for row in log(project)[0]}
    assert {batch: n for batch, n in found.items() if n or batch in counts} == counts
    # The same, whatever is told beside it.
    for batch, n in counts.items():
        one = [row for row in log(project, since=str(batch), limit=99)[0] if row.batch_id == batch]
        assert one[0].labels == n


def test_the_log_of_a_clip_a_kind_an_actor(told):
    project, steps = told

    def batches(*args, **options):
        return [row.batch_id for row in log(project, *args, **options)[0]]

    wanted = {name: number for name, number in steps.items() if name not in ("mask", "answer")}
    touched = [b for (b,) in rows(
        project, "select distinct batch_id from label_events where clip_id = 9 order by all desc"
    )]  # fmt: skip
    assert batches(PATHS[9]) == touched and set(touched) >= set(wanted.values()) - {1}
    assert {steps["mask"], steps["answer"], steps["trust"]} <= set(batches(PATHS[8]))
    assert batches(kind="missing") == [steps["mask"]]
    assert batches(actor="bob") == [steps["relabel"]]
    assert batches(kind="review", actor="bob") == []
    assert batches(kind="edit", limit=1) == [steps["more"]]
    assert batches(since=str(steps["more"])) == [steps["undo"], steps["more"]]
    assert min(batches(since="run-1")) == steps["trust"]
    [(made_at,)] = rows(project, f"select made_at from batches where batch_id = {steps['undo']}")
    assert batches(since=made_at.isoformat()) == [steps["undo"]]
    assert batches(since=(made_at + timedelta(microseconds=1)).isoformat()) == []
    day = f"{made_at:%Y-%m-%d}"
    on_day = rows(project, f"select count(*) from batches where made_at >= '{day}'")
    assert len(batches(since=day)) == on_day[0][0]
    assert len(batches(since="2001-01-01")) == steps["undo"]


def test_the_history_of_a_clip_tells_verdicts_masks_and_answers(told):
    project, steps = told
    found = history(project, PATHS[8])[-4:]
    assert [(r.what, r.state, r.labels, r.actor) for r in found] == [
        ("event", "self_verified", ["Bird"], "labelkit"),
        ("mask", "unsure", ["Rain"], "labelkit"),
        ("answer", "labels", ["Bird"], "ann"),
        ("verdict", "present", ["Car"], "ann"),
    ]
    assert [r.batch_id for r in found] == [
        steps["trust"], steps["mask"], steps["answer"], steps["answer"]
    ]  # fmt: skip
    assert json.loads(found[2].evidence)["comment"] == "loud"
    assert json.loads(found[3].evidence) == {"start_s": 0.5, "end_s": 1.5}
    assert (found[0].score, found[0].run_id) == (0.75, "run-1")
    nine = history(project, PATHS[9])
    assert [r.undone for r in nine if r.batch_id in (steps["more"], steps["undo"])] == [
        True, False
    ]  # fmt: skip
    # Every event and every verdict is told, or is the event of its batch in other words.
    for clip in range(8, 12):
        told_rows = history(project, PATHS[clip])
        numbers = [r.event_id for r in told_rows if r.what == "event"]
        assert [(n,) for n in numbers] == rows(
            project, f"select event_id from label_events where clip_id = {clip} order by all"
        )
        moments = [r.made_at for r in told_rows]
        assert moments == sorted(moments)


def test_a_withdrawn_word_and_one_against_the_event_are_told(project):
    said = [Verdict(clip_id=9, class_id=RAIN, verdict="unsure", rule="x"),
            Verdict(clip_id=9, class_id=CAR, verdict="absent", rule="y"),
            Verdict(clip_id=9, class_id=BIRD, verdict="withdrawn", rule="z")]  # fmt: skip
    with project.store.write() as session:
        decide(session, "x", {9: ("verified", [CAR])}, person=True, actor="ann", said=said)
    found = [r for r in history(project, PATHS[9]) if r.what != "event"]
    assert [(r.what, r.state, r.labels) for r in found] == [
        ("verdict", "unsure", ["Rain"]), ("verdict", "absent", ["Car"]),
        ("verdict", "withdrawn", ["Bird"]),
    ]  # fmt: skip


def test_blame(told):
    project, steps = told
    found = {row.class_: row for row in blame(project, PATHS[9])}
    assert list(found) == ["Car", "Dog"]
    came_in = rows(
        project,
        "select max(batch_id) from label_events e where clip_id = 9 and "
        f"batch_id < {steps['trust']}",
    )[0][0]
    car, dog = found["Car"], found["Dog"]
    # What was taken back gave nothing, so the undo is nobody's word.
    assert (car.batch_id, car.given) == (came_in, True)
    assert (dog.batch_id, dog.actor, dog.by_person) == (steps["relabel"], "bob", True)
    assert (dog.reason, dog.source, dog.kind) == ("because relabel", "rule", "edit")
    for row in (car, dog):
        assert (row.verdict, row.said_by, row.said_in, row.rule) == (
            "present", "bob", steps["relabel"], "relabel"
        )  # fmt: skip
    [(bird)] = blame(project, PATHS[8])
    assert (bird.said_by, bird.said_by_person, bird.said_score) == (
        "labelkit", False, 0.75
    )  # fmt: skip
    others = blame(project, PATHS[8], all_=True)
    assert [(r.class_, r.given, r.verdict) for r in others] == [
        ("Bird", True, "present"), ("Rain", False, "unsure")
    ]  # fmt: skip
    assert others[1].batch_id is None and others[1].said_in == steps["mask"]
    assert blame(project, PATHS[10]) == []
    assert [r.verdict for r in blame(project, PATHS[10], all_=True)] == []
    undo(project, steps["undo"])
    found = {row.class_: row.batch_id for row in blame(project, PATHS[9])}
    assert found == {"Dog": steps["relabel"], "Rain": steps["more"]}


def test_a_label_that_came_in_says_so(lived):
    clip = next(k for k in range(12, 40))
    [row] = blame(lived, PATHS[clip])
    assert (row.kind, row.source, row.batch_id) == ("import", "import", 1)
    assert row.verdict is None and row.said_by is None


def test_blame_by_a_plain_replay(project):
    """Random labels of one clip; who gave each is the first of the last unbroken line."""
    rng = np.random.default_rng(1)
    given = [(batch_id, set(labels)) for batch_id, labels in rows(
        project, "select batch_id, labels from label_events where clip_id = 9 order by event_id"
    )]  # fmt: skip
    first, gone = len(given), set()
    for number in range(14):
        labels = np.flatnonzero(rng.random(4) < 0.6).tolist()
        with project.store.write() as session:
            given.append((decide(session, f"n{number}", {9: ("verified", labels)}, person=True),
                          set(labels)))  # fmt: skip
        if number % 4 == 3:
            chosen = given[int(rng.integers(first, len(given)))][0]
            if chosen not in gone:
                undo(project, chosen)
                gone.add(chosen)
        line = [(0, set()), *((b, has) for b, has in given if b not in gone)]
        expected = {}
        for (_, before), (batch_id, has) in pairwise(line):
            for label in has - before:
                expected[CLASSES[label]] = batch_id
        expected = {name: b for name, b in expected.items() if CLASSES.index(name) in line[-1][1]}
        found = {row.class_: row.batch_id for row in blame(project, PATHS[9])}
        assert found == expected


def test_diff(told):
    project, steps = told
    at = {
        batch: {
            path: tuple(rest)
            for path, *rest in rows(project, f"select path, labels, state from labels_at({batch})")
        }
        for batch in range(1, steps["undo"] + 1)
    }
    for a, b in ((1, steps["undo"]), (1, 2), (steps["trust"], steps["more"]),
                 (steps["more"] - 1, steps["undo"]), (3, 3)):  # fmt: skip
        found = diff(project, str(a), str(b))
        expected = {
            path: (at[a].get(path, (None, None)), at[b][path])
            for path in at[b] if at[a].get(path) != at[b][path]
        }  # fmt: skip
        assert [row.path for row in found] == sorted(expected)
        for row in found:
            assert ((row.before, row.state_before), (row.after, row.state_after)) == (
                expected[row.path]
            )
    now = diff(project, str(steps["trust"]))
    assert now == diff(project, str(steps["trust"]), str(steps["undo"]))
    by_path = {row.path: row for row in now}
    ten = by_path[PATHS[10]]
    assert (ten.actor, ten.batch_id) == ("bob", steps["relabel"])
    assert by_path[PATHS[9]].kind == "undo"
    assert describe_diff(now) == (
        "2 clips changed: 2 with other labels, 1 relabeled, 1 rejected; 0 came in"
    )
    assert describe_diff(diff(project, "1", "2")) == "0 clips changed; 6 came in"
    # The labels a run read, and what it did then.
    assert {row.path for row in diff(project, "run-1", str(steps["trust"]))} == {
        PATHS[8], PATHS[9]
    }  # fmt: skip
    with pytest.raises(InvalidInput, match=r"1 \(batch 1\) lies before 3 \(batch 3\)"):
        diff(project, "3", "1")


def test_the_commands(told):
    project, steps = told
    done = call(project, "log", "--limit", "2", "--json")
    assert [row["batch"] for row in json.loads(done.stdout)] == [steps["undo"], steps["more"]]
    assert done.stderr == f"2 of {steps['undo']} batches; more with --limit\n"
    done = call(project, "blame", PATHS[9], "--json")
    assert [row["class"] for row in json.loads(done.stdout)] == ["Car", "Dog"]
    done = call(project, "blame", PATHS[10])
    assert done.stdout == "" and done.stderr == f"{PATHS[10]} has no labels\n"
    done = call(project, "diff", steps["trust"], "--json")
    assert len(json.loads(done.stdout)) == 2 and done.stderr.startswith("2 clips changed: ")
    for name in ("log", "history", "blame"):
        assert PATHS[9] not in call(project, name, PATHS[9]).stderr
    done = call(project, "undo", steps["undo"], "--dry-run", "--json")
    assert json.loads(done.stdout)[0] == {
        "batch": None, "undoes": steps["undo"], "clips": 1, "left": 0, "verdicts": 3
    }  # fmt: skip
    assert rows(project, "select max(batch_id) from batches") == [(steps["undo"],)]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("history", "8.wave"), "no clip '8.wave'; "),
        (("blame", "O8.wav"), "no clip 'O8.wav'; did you mean "),
        (("log", "zzzz"), "no clip 'zzzz'; give a path of labels_now"),
        (("log", "--since", "soon"), "no moment 'soon'"),
        (("log", "--since", "999"), "no batch 999"),
        (("diff", "999"), "no batch 999; there are 1 to "),
        (("diff", "1", "last week"), "no moment 'last week'"),
        (("diff", "2001-01-01"), "2001-01-01 lies before the first batch"),
        (("undo", "train-0"), "no batch or run 'train-0'; see: labelkit log"),
    ],
)
def test_nonsense_is_one_line(lived, args, message):
    refused(call(lived, *args), message)
