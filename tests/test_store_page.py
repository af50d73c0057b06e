"""docs/store.md: every question is run, on a store where it has an answer."""

import re
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from labelkit.records import (
    Batch,
    LabelEvent,
    Review,
    ReviewProject,
    ReviewTask,
    Verdict,
    verdicts_of,
)
from labelkit.stores import schema
from labelkit.stores.query import query
from labelkit.workflows.project import Project
from labelkit.workflows.undo import undo

PAGE = (Path(__file__).parent.parent / "docs" / "store.md").read_text(encoding="utf-8")
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


@pytest.mark.slow
def test_overturned_means_people_changed_what_a_rule_verified(rich):
    sql = next(sql for question, sql in QUESTIONS.items() if "overturn" in question)
    found = query(rich.store, sql, timeout_s=60).dicts()
    assert sum(row["overturned"] for row in found) >= 2
    assert all(row["overturned"] <= row["heard_by_people"] <= row["verified"] for row in found)


def test_every_table_and_view_is_on_the_page():
    assert all(f"### {name}\n" in PAGE for name in schema.ABOUT)
