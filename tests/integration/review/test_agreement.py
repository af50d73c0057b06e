"""What score lists, review_queue shows and annotators get is the same, push after push."""

from collections import Counter

import pytest

from labelkit.cleaning.score import score
from labelkit.config import read_recipe
from labelkit.label_studio.page import choice_name
from labelkit.labels.undo import undo
from labelkit.review.pull import pull
from labelkit.review.push import push
from labelkit.review.queue import Choice
from labelkit.runs.train import train
from tests.support.label_studio_server import answer
from tests.support.projects import PROBE

pytestmark = pytest.mark.slow

N = 6


def queue(project, but=()):
    """The first rows of the view, without some."""
    with project.store.read() as session:
        rows = session.rows("select path, labels, suggested, reason from review_queue")
    return [row for row in rows if row[0] not in but][:N]


def waiting(annotator, setup, model_version):
    """Unanswered tasks with the prediction that is shown, in the order they are served."""
    tasks = annotator.json(
        "GET", "/api/tasks/", project=setup.project_id, page_size=2000, fields="all"
    )["tasks"]
    shown = []
    for task in tasks:
        if task["total_annotations"] + task["cancelled_annotations"] == 0:
            [prediction] = [p for p in task["predictions"] if p["model_version"] == model_version]
            shown.append((prediction["score"], task["id"], task["data"], prediction))
    return sorted(shown, key=lambda row: row[:2])


def check(project, annotator, setup, *, but=()):
    """Push the default queue; it is the view's, and so is what lies with annotators."""
    expected = queue(project, but)
    clips, report = push(project, Choice(first=N))
    assert [clip.path for clip in clips] == [row[0] for row in expected]
    for clip, (_, labels, suggested, reason) in zip(clips, expected, strict=True):
        assert clip.labels == labels and clip.suggested[:1] == [suggested]
        assert reason is None or clip.reason.startswith(reason)
    asked = {clip.path for clip in clips if clip.task != "answered"}
    served = waiting(annotator, setup, report.model_version)
    assert [data["path"] for *_, data, _ in served if data["path"] in asked] == [
        clip.path for clip in clips if clip.path in asked
    ]
    for _, _, data, prediction in served:
        if data["path"] in asked:
            [clip] = [clip for clip in clips if clip.path == data["path"]]
            assert data["given"] == (", ".join(clip.labels) or "none")
            assert data["suggested"] == ", ".join(clip.suggested)
            assert data["reason"] == clip.reason
            ticked = [
                i["value"]["choices"] for i in prediction["result"] if "choices" in i["value"]
            ]
            assert ticked == [[choice_name(name) for name in clip.suggested]]
    return clips


def listed(project, methods, **options):
    """What score lists of the clips that nobody has decided."""
    found = score(project, methods=methods, lowest=1000, **options)
    with project.store.read() as session:
        undecided = {path for (path,) in session.rows("select path from review_queue")}
    return [clip.path for clip in found if clip.path in undecided][:N]


def last_review(project):
    with project.store.read() as session:
        return session.rows("select max(batch_id) from batches where kind = 'review'")[0][0]


def test_lists_views_and_tasks_agree(project, start, label_studio):
    setup, annotator = start(), label_studio.annotator()
    assert listed(project, ("lwlrap", "self_confidence")) == [row[0] for row in queue(project)]
    clips = check(project, annotator, setup)
    # Answers take their clips out of all of them, in the order they were asked.
    for clip in clips[:2]:
        task = annotator.next_task(setup.project_id)
        assert task["data"]["path"] == clip.path
        annotator.submit(task["id"], answer(["Bell"], origin="manual"))
    unsure = annotator.next_task(setup.project_id)
    annotator.submit(unsure["id"], answer(verdict=["unsure"], origin="manual"))
    pull(project)
    but = {unsure["data"]["path"]}
    after = check(project, annotator, setup, but=but)
    assert not {clip.path for clip in clips[:3]} & {clip.path for clip in after}
    # What is taken back is doubted again, and its task is answered.
    undo(project, last_review(project))
    back = check(project, annotator, setup)
    assert {clip.path for clip in back if clip.task == "answered"} == {
        clip.path for clip in clips[:3]
    }


def test_new_scores_order_all_of_them_anew(project, start, label_studio, tiny_recipe):
    setup, annotator = start(), label_studio.annotator()
    before = check(project, annotator, setup)
    # Some that lie there already, the least doubtful first.
    with project.store.read() as session:
        rest = [path for (path,) in session.rows("select path from review_queue")][N : N + 4]
    for path in reversed(rest):
        push(project, Choice(where=f"path = '{path}'"))
    train(project, tiny_recipe, workers=1, seed=7)
    options = {"probe": read_recipe("probe", PROBE), "workers": 1}
    assert listed(project, ("fusion", "self_confidence"), **options) == [
        row[0] for row in queue(project)
    ]
    # Fusion is a mean of ranks: ties are the rule, and broken in the same way everywhere.
    after = check(project, annotator, setup)
    assert [clip.path for clip in after] != [clip.path for clip in before]
    assert {clip.task for clip in after} <= {"new", "changed"}
    for clip in after:
        task = annotator.next_task(setup.project_id)
        assert task["data"]["path"] == clip.path
        annotator.submit(task["id"], answer(["Bell"], origin="manual"))


def test_scores_that_tie_are_served_in_the_order_of_the_queue(project, start, label_studio):
    setup, annotator = start(), label_studio.annotator()
    with project.store.read() as session:
        rows = session.rows("select path, lwlrap, fusion from review_queue")
    assert all(fusion is None for *_, fusion in rows)
    [(_, tied)] = Counter(score for _, score, _ in rows).most_common(1)
    value = next(score for score, n in Counter(r[1] for r in rows).items() if n == tied)
    # Or there is nothing to be seen here.
    assert tied > 2
    paths = [path for path, score, _ in rows if score == value][:3]
    for path in reversed(paths):
        push(project, Choice(where=f"path = '{path}'"))
    names = ", ".join(f"'{path}'" for path in paths)
    push(project, Choice(where=f"path in ({names})"))
    served = []
    while task := annotator.next_task(setup.project_id):
        served.append(task["data"]["path"])
        annotator.submit(task["id"], answer(["Bell"], origin="manual"))
    assert served == paths
