"""Classes that get other names while people answer, on a real server."""

import pytest

from labelkit.label_studio.page import read_page
from labelkit.labels.classes import merge_classes, rename_class, retire_class
from labelkit.labels.undo import undo
from labelkit.review import status as reporting
from labelkit.review.pull import pull
from labelkit.review.push import push
from labelkit.review.queue import Choice
from tests.integration.review.test_numbers import labels_of, send, standing, tasks_of
from tests.support.label_studio_server import answer

pytestmark = pytest.mark.slow


@pytest.fixture
def sent(project, start, label_studio):
    """Three clips that nobody has heard lie with an annotator: number and task of each."""
    setup, annotator = start(), label_studio.annotator()
    with project.store.read() as session:
        rows = session.rows(
            "select clip_id, path from labels_now where state = 'unverified' and subset = 'train' "
            "and not list_has_any(labels, ['Bell', 'Surf']) order by clip_id limit 3"
        )
    send(project, *(path for _, path in rows))
    task_of = {task["data"]["path"]: task["id"] for task in tasks_of(annotator, setup)}
    return setup, annotator, [(clip_id, task_of[path]) for clip_id, path in rows]


def page_now(annotator, setup):
    return read_page(annotator.json("GET", f"/api/projects/{setup.project_id}/")["label_config"])


def test_a_rename_takes_nothing_back_and_the_page_follows(project, sent):
    setup, annotator, [(first, one), (second, two), (third, three)] = sent
    annotator.submit(one, answer(["Bell"], origin="manual"))
    pull(project)
    batch = rename_class(project, "Bell", "Glocke").batch
    assert labels_of(project, first) == (["Glocke"], "relabeled")
    # An answer on the page of before.
    annotator.submit(two, answer(["Bell"], origin="manual"))
    report = pull(project)
    assert (report.deleted, report.quarantined, report.labels) == (0, 0, 1)
    assert labels_of(project, second) == (["Glocke"], "relabeled")
    push(project, Choice(where="state = 'unverified' and subset = 'train'"))
    classes = page_now(annotator, setup).labels
    assert "Glocke" in classes and "Bell" not in classes
    annotator.submit(three, answer(["Glocke"], origin="manual"))
    assert pull(project).labels == 1
    assert labels_of(project, third) == (["Glocke"], "relabeled")
    report = pull(project, full=True)
    assert (report.deleted, report.quarantined, report.labels) == (0, 0, 0)
    assert reporting.status(project).quarantine == 0
    undo(project, batch)
    assert pull(project, full=True).quarantined == 0
    assert labels_of(project, third) == (["Bell"], "relabeled")
    assert {tuple(row[1]) for row in standing(project)} == {("Bell",)}


def test_merged_and_retired_classes(project, sent):
    setup, annotator, [(first, one), (second, two), (third, three)] = sent
    annotator.submit(one, answer(["Bell"], origin="manual"))
    annotator.submit(two, answer(["Surf"], origin="manual"))
    pull(project)
    merge_classes(project, ["Bell"], "Surf")
    assert labels_of(project, first) == labels_of(project, second) == (["Surf"], "relabeled")
    annotator.submit(three, answer(["Bell"], origin="manual"))
    assert pull(project).quarantined == 0
    assert labels_of(project, third) == (["Surf"], "relabeled")
    retire_class(project, ["Surf"])
    assert labels_of(project, first) == ([], "relabeled")
    report = pull(project, full=True)
    assert report.deleted == 0 and labels_of(project, first)[1] == "relabeled"
    push(project, Choice(where="state = 'unverified' and subset = 'train'"))
    assert not {"Bell", "Surf"} & set(page_now(annotator, setup).labels)
