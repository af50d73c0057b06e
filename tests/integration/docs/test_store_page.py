"""docs/store.md: every question is run, on a store where it has an answer."""

import re
import shutil
from datetime import date, datetime

import duckdb
import numpy as np
import pytest

from labelkit.labels.undo import undo
from labelkit.project import Project, create_project, user
from labelkit.records import (
    Batch,
    Clip,
    LabelEvent,
    Predictions,
    Review,
    ReviewProject,
    ReviewTask,
    Run,
    Verdict,
    verdicts_of,
)
from labelkit.stores import schema
from labelkit.stores.query import query
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "store.md").read_text(encoding="utf-8")
QUESTIONS = dict(re.findall(r"\n\n([^\n]+(?:\n[^\n]+)?\?[^\n?]*)\n\n```sql\n(.*?)```", PAGE, re.S))


@pytest.fixture(scope="module")
def rich(verified_project, tmp_path_factory):
    """The small demonstration set, verified, then decided on by two people."""
    base = verified_project[0]
    root = tmp_path_factory.mktemp("rich") / "p"
    shutil.copytree(base.root, root)
    project = Project(root, base.audio_dir)
    with project.store.read() as session:
        clips = session.rows(
            "select clip_id, list_transform(labels, lambda x: x) from current_events e "
            "join clips using (clip_id) where state = 'self_verified' and subset = 'train' "
            "order by clip_id limit 3"
        )
    assert len(clips) == 3
    first, second, third = [clip_id for clip_id, _ in clips]
    for number, (clip_id, actor, state, labels) in enumerate(
        [
            (first, "ana", "relabeled", [0]), (first, "bo", "relabeled", [1]),
            (second, "ana", "rejected", []), (third, "bo", "relabeled", [2]),
        ]
    ):  # fmt: skip
        event = LabelEvent(clip_id=clip_id, state=state, labels=labels, source="test")
        say = verdicts_of(event, "test", [1 - labels[0]] if labels and labels[0] < 2 else [])
        with project.store.write() as session:
            session.append(Batch(key=f"p{number}", kind="relabel", actor=actor, by_person=True,
                                 reason="heard it", events=[event], verdicts=say))  # fmt: skip
    review = Review(
        project="p", task_id=1, annotation_id=1, updated_at=datetime(2026, 1, 1), clip_id=first,
        annotator_id=1, annotator="ana", answer="labels", lead_time_s=4.0, raw="{}",
    )  # fmt: skip
    task = ReviewTask(project="p", task_id=1, clip_id=first, model_version="m", score=0.5,
                      suggested=[0], page_hash="h")  # fmt: skip
    setup = ReviewProject(name="p", url="http://x", project_id=1, title="t", page="<View/>",
                          page_hash="h", settings={})  # fmt: skip
    unsure = Verdict(clip_id=third, class_id=0, verdict="unsure", rule="test")
    with project.store.write() as session:
        last = session.append(
            Batch(key="r", kind="review", actor="ana", by_person=True, reviews=[review],
                  review_tasks=[task], review_projects=[setup], verdicts=[unsure])
        ).batch_id  # fmt: skip
    undo(project, last - 1)
    return project


def test_there_are_twelve():
    assert len(QUESTIONS) == PAGE.count("```sql") == 12


@pytest.mark.slow
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_an_answer(rich, question):
    answer = query(rich.store, QUESTIONS[question], timeout_s=60)
    assert answer.columns and answer.rows


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Four clips (a, b, d: Dog, Cat, Bird; c: Dog), and thirteen batches known by number."""
    root = tmp_path_factory.mktemp("known")
    (root / "audio").mkdir()
    project, _ = create_project(root, root / "audio")
    dog, cat, bird = range(3)
    a, b, c, d = range(4)

    def append(number, kind, actor, by_person=True, reason="", **content):
        events = [
            LabelEvent(clip_id=clip_id, state=state, labels=labels, source="test")
            for clip_id, state, labels in content.pop("events", ())
        ]
        with project.store.write() as session:
            given = {"actor": actor, "by_person": by_person, "reason": reason, "events": events}
            receipt = session.append(Batch(key=str(number), kind=kind, **given, **content))
        assert receipt.batch_id == number

    def judge(number, run_id, of_a):
        run = Run(run_id=run_id, kind="train", recipe="test", settings={}, seed=0,
                  classes=["Dog", "Cat", "Bird"], as_of=number - 1, trained_on=[b, c])  # fmt: skip
        said = Predictions(run_id=run_id, clip_ids=np.array([a]),
                           probs=np.array([of_a], np.float32))  # fmt: skip
        append(number, "train", "labelkit", False, runs=[run], predictions=[said])

    def say(clip_id, verdicts):
        return [
            Verdict(clip_id=clip_id, class_id=class_id, verdict=verdict, rule="test")
            for class_id, verdict in verdicts.items()
        ]

    clips = [
        Clip(path=f"{name}.wav", labels=(label,))
        for name, label in zip("abcd", ("Dog", "Cat", "Dog", "Bird"), strict=True)
    ]
    append(1, "import", "ann", clips=clips, classes=["Dog", "Cat", "Bird"])
    # By name the older run would be the last.
    judge(2, "z-older", [0.5, 0.25, 0.25])
    append(3, "verify", "labelkit", False, "rule one",
           events=[(a, "self_verified", [dog]), (b, "self_verified", [cat]),
                   (c, "self_verified", [dog])])  # fmt: skip
    append(4, "relabel", "ann", events=[(a, "relabeled", [cat])],
           verdicts=say(a, {dog: "absent", cat: "present"}))  # fmt: skip
    append(5, "relabel", "bo", events=[(a, "relabeled", [dog])],
           verdicts=say(a, {dog: "present", cat: "absent"}))  # fmt: skip
    append(6, "verify", "ann", events=[(b, "verified", [cat])])
    append(7, "relabel", "ann", events=[(c, "rejected", [])])
    undo(project, 7)
    judge(9, "a-newer", [0.375, 0.625, 0.0])
    append(10, "relabel", "ann", events=[(c, "relabeled", [dog, bird])])
    # A machine is no second person.
    append(11, "missing", "labelkit", False, verdicts=say(d, {bird: "absent"}))
    append(12, "relabel", "bo", verdicts=say(d, {bird: "present"}))
    append(13, "verify", "labelkit", False, "rule two", events=[(d, "self_verified", [bird])])
    with duckdb.connect(str(project.store.path)) as con:
        con.execute(
            "update event_rows set made_at = if(batch_id <= 3, timestamp '2026-01-01 12:00', "
            "timestamp '2026-01-02 12:00')"
        )
    return project


# By hand from the batches above.
KNOWN = {
    "changed its mind": [
        ("a.wav", "Cat", 2, ["ann", "bo"]),
        ("a.wav", "Dog", 2, ["ann", "bo"]),
        ("c.wav", "Dog", 2, ["ann", user()]),
    ],
    # Ann made a Cat, and gave c Bird; that she had rejected c was taken back.
    "overturn": [("rule one", 3, 3, 2), ("rule two", 1, 0, 0)],
    "two people differ": [
        ("a.wav", "Cat", ["ann"], ["bo"], 0.625, "a-newer"),
        ("a.wav", "Dog", ["bo"], ["ann"], 0.375, "a-newer"),
    ],
    "set grow": [(date(2026, 1, 1), 4, 3, 4), (date(2026, 1, 2), 6, 1, 4)],
    "take away": [("Cat", "Dog", 1), ("Dog", "Cat", 1)],
    # b was only verified with the labels it had.
    "trained on": [
        ("a-newer", "c.wav", "Bird", "added", "ann", 10),
        ("z-older", "c.wav", "Dog", "removed", "ann", 7),
        ("z-older", "c.wav", "Dog", "added", user(), 8),
        ("z-older", "c.wav", "Bird", "added", "ann", 10),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("words", KNOWN)
def test_a_question_has_the_known_answer(known, words):
    (sql,) = (sql for question, sql in QUESTIONS.items() if words in question)
    assert query(known.store, sql, timeout_s=60).rows == KNOWN[words]


def test_every_table_and_view_is_on_the_page():
    assert all(f"### {name}\n" in PAGE for name in schema.ABOUT)
