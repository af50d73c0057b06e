"""Numbers of tasks and answers that come again, and answers that nobody gave, on a real server."""

import json
from dataclasses import replace

import pytest

from labelkit.config import ReviewSpec
from labelkit.errors import InvalidInput, ServiceError
from labelkit.label_studio.page import EXAMPLE_KEYS, create_page, page_hash, read_page
from labelkit.records import Batch
from labelkit.review import status as reporting
from labelkit.review.pull import pull, pull_file
from labelkit.review.push import push
from labelkit.review.queue import Choice
from labelkit.review.setup import set_up
from tests.support.label_studio_server import answer

pytestmark = pytest.mark.slow


def send(project, *paths):
    names = ", ".join(f"'{path}'" for path in paths)
    return push(project, Choice(where=f"path in ({names})"))


@pytest.fixture
def paths(project):
    """Clips that nobody has heard, by clip id."""
    with project.store.read() as session:
        rows = session.rows(
            "select clip_id, path from labels_now where state = 'unverified' and subset = 'train' "
            "and not list_has_any(labels, ['Bell', 'Surf']) order by clip_id"
        )
    return dict(rows[:6])


def tasks_of(annotator, setup):
    return annotator.json(
        "GET", "/api/tasks/", project=setup.project_id, page_size=2000, fields="all"
    )["tasks"]


def standing(project):
    with project.store.read() as session:
        return session.rows("select path, labels, answer from reviews_now order by path, annotator")


def labels_of(project, clip_id):
    with project.store.read() as session:
        return session.rows("select labels, state from labels_now where clip_id = ?", [clip_id])[0]


def withdrawn(project):
    with project.store.read() as session:
        return session.rows("select count(*) from label_verdicts where verdict = 'withdrawn'")[0][0]


@pytest.mark.parametrize("pulled_between", [True, False])
@pytest.mark.parametrize("same_clip", [True, False])
def test_number_again(project, start, label_studio, paths, pulled_between, same_clip):
    setup, annotator = start(), label_studio.annotator()
    (first, path), (second, other) = list(paths.items())[:2]
    send(project, path)
    [task] = tasks_of(annotator, setup)
    annotator.submit(task["id"], answer(["Bell"], origin="manual"))
    pull(project)
    assert labels_of(project, first) == (["Bell"], "relabeled")
    annotator.json("DELETE", f"/api/tasks/{task['id']}/")
    if pulled_between:
        assert pull(project).task_deleted == 1
    chosen, clip_id = (path, first) if same_clip else (other, second)
    send(project, chosen)
    [again] = tasks_of(annotator, setup)
    # Or there is nothing to be seen here.
    assert again["id"] == task["id"] and again["data"]["path"] == chosen
    assert pull(project).deleted == 0
    assert labels_of(project, first) == (["Bell"], "relabeled") and withdrawn(project) == 0
    annotation = annotator.submit(again["id"], answer(["Surf"], origin="manual"))
    assert pull(project).labels == 1
    assert labels_of(project, clip_id) == (["Surf"], "relabeled")
    assert [row for row in standing(project) if row[0] == chosen] == [(chosen, ["Surf"], "labels")]
    if not same_clip:
        assert labels_of(project, first) == (["Bell"], "relabeled")
    report = reporting.status(project)
    assert report.pushed == 1 and report.clips_with_two_tasks == 0 and report.quarantine == 0
    # What is taken back is taken back there alone.
    annotator.delete(annotation["id"])
    assert pull(project).deleted == 1
    assert labels_of(project, first) == (["Bell"], "relabeled")


def test_numbers_come_again_with_two_annotators(project, start, label_studio, paths):
    setup, ann = start(overlap=2), label_studio.annotator()
    bob = label_studio.annotator("bob-numbers@example.org")
    (first, path), (second, other) = list(paths.items())[:2]
    send(project, path)
    [task] = tasks_of(ann, setup)
    for who in (ann, bob):
        who.submit(task["id"], answer(["Bell"], origin="manual"))
    pull(project)
    ann.json("DELETE", f"/api/tasks/{task['id']}/")
    send(project, other)
    [again] = tasks_of(ann, setup)
    assert again["id"] == task["id"]
    bob.submit(again["id"], answer(["Surf"], origin="manual"))
    pull(project)
    assert labels_of(project, first) == (["Bell"], "relabeled")
    assert labels_of(project, second)[1] == "unverified"
    ann.submit(again["id"], answer(["Surf"], origin="manual"))
    pull(project)
    assert labels_of(project, first) == (["Bell"], "relabeled")
    assert labels_of(project, second) == (["Surf"], "relabeled") and withdrawn(project) == 0


def test_all_deleted_and_the_export_imported_again(project, start, label_studio, paths, tmp_path):
    setup, annotator = start(), label_studio.annotator()
    send(project, *paths.values())
    for number, task in enumerate(tasks_of(annotator, setup)[:4]):
        annotator.submit(task["id"], answer([("Bell", "Surf")[number % 2]], origin="manual"))
    pull(project)
    before = {clip_id: labels_of(project, clip_id) for clip_id in paths}
    where = f"/api/projects/{setup.project_id}"
    export = annotator.json("GET", f"{where}/export", exportType="JSON",
                            download_all_tasks="true")  # fmt: skip
    annotator.json("DELETE", f"{where}/tasks/")
    # In another order, so that every number is that of another clip now.
    # (With its predictions the server takes no export back.)
    wanted = [{key: task[key] for key in ("data", "annotations")} for task in export]
    annotator.json("POST", f"{where}/import", wanted[::-1])
    clips = {task["id"]: task["data"]["clip_id"] for task in tasks_of(annotator, setup)}
    assert sorted(clips.values()) == sorted(paths)
    counts = pull(project)
    assert counts.deleted == 0 and counts.quarantined == 0
    assert {clip_id: labels_of(project, clip_id) for clip_id in paths} == before
    assert withdrawn(project) == 0
    pull(project, full=True)
    assert {clip_id: labels_of(project, clip_id) for clip_id in paths} == before
    # The old export brings nothing back, and nothing away.
    (tmp_path / "old.json").write_text(json.dumps(export))
    pull_file(project, tmp_path / "old.json")
    assert {clip_id: labels_of(project, clip_id) for clip_id in paths} == before
    # Whoever answers now is heard.
    [task] = [t for t in tasks_of(annotator, setup) if before[t["data"]["clip_id"]][1] ==
              "unverified"][:1]  # fmt: skip
    annotator.submit(task["id"], answer(["Bell"], origin="manual"))
    pull(project)
    assert labels_of(project, task["data"]["clip_id"])[0] == ["Bell"]


def test_two_projects_with_tasks_of_the_same_clips(project, label_studio, paths, request):
    annotator, (clip_id, path) = label_studio.annotator(), next(iter(paths.items()))
    settings = ReviewSpec(document_root=str(label_studio.documents))
    setups = []
    for k in range(2):
        setups.append(
            set_up(project, label_studio.url, f"{request.node.name[:40]} {k}", settings)[0]
        )
        send(project, path)
        [task] = tasks_of(annotator, setups[k])
        annotator.submit(task["id"], answer([("Bell", "Surf")[k]], origin="manual"))
        pull(project)
        assert labels_of(project, clip_id) == ([("Bell", "Surf")[k]], "relabeled")
    # The second is the one in use; its task goes, and its number comes again.
    [task] = tasks_of(annotator, setups[1])
    annotator.json("DELETE", f"/api/tasks/{task['id']}/")
    other = list(paths.values())[1]
    send(project, other)
    pull(project)
    assert labels_of(project, clip_id) == (["Surf"], "relabeled") and withdrawn(project) == 0


def test_annotations_made_of_predictions_in_bulk(project, start, label_studio, paths, capsys):
    setup, annotator = start(), label_studio.annotator()
    send(project, *paths.values())
    annotator.json(
        "POST", "/api/dm/actions/", {"selectedItems": {"all": True, "excluded": []}},
        id="predictions_to_annotations", project=setup.project_id,
    )  # fmt: skip
    assert all(task["annotations"] for task in tasks_of(annotator, setup))
    counts = pull(project)
    assert counts.unheard == len(paths) and counts.labels == counts.verified == 0
    assert f"{len(paths)} annotations were made of predictions" in capsys.readouterr().err
    assert standing(project) == []
    assert all(labels_of(project, clip_id)[1] == "unverified" for clip_id in paths)
    # Somebody looks at one, and submits it.
    task = tasks_of(annotator, setup)[0]
    annotator.edit(task["annotations"][0]["id"], answer(["Bell"], origin="manual"), lead_time=2.0)
    assert pull(project).labels == 1
    assert labels_of(project, task["data"]["clip_id"])[0] == ["Bell"]


def test_annotations_imported_with_their_tasks(project, start, label_studio, paths):
    setup, annotator = start(), label_studio.annotator()
    clip_id, path = next(iter(paths.items()))
    send(project, path)
    [task] = tasks_of(annotator, setup)
    where = f"/api/projects/{setup.project_id}"
    annotator.json("DELETE", f"{where}/tasks/")
    made = {"data": task["data"], "annotations": [{"result": answer(["Bell"])}]}
    annotator.json("POST", f"{where}/import", [made])
    assert pull(project).unheard == 1
    assert labels_of(project, clip_id)[1] == "unverified" and standing(project) == []


def act(annotator, setup, action, **fields):
    """A bulk action of the data manager, on all tasks."""
    body = {"selectedItems": {"all": True, "excluded": []}, **fields}
    annotator.json("POST", "/api/dm/actions/", body, id=action, project=setup.project_id)


@pytest.mark.parametrize("origin", [None, "manual", "prediction"])
def test_propagated_annotations(project, start, label_studio, paths, origin):
    setup, annotator = start(), label_studio.annotator()
    send(project, *paths.values())
    first, second, *rest = tasks_of(annotator, setup)
    made = annotator.submit(first["id"], answer(["Bell"], origin=origin))
    act(annotator, setup, "propagate_annotations", source_annotation_id=made["id"])
    copies = tasks_of(annotator, setup)
    assert all(task["annotations"] for task in copies)
    counts = pull(project)
    # What one was heard on is an answer; its copies are none, whatever their marks say.
    assert (counts.labels, counts.unheard) == (1, len(paths) - 1)
    heard = first["data"]["clip_id"]
    assert labels_of(project, heard) == (["Bell"], "relabeled")
    assert all(labels_of(project, i)[1] == "unverified" for i in paths if i != heard)
    assert reporting.status(project).reviewed == 1 and reporting.list_quarantine(project) == []
    # Somebody opens a copy, changes and submits it.
    [copy] = [task for task in copies if task["id"] == second["id"]]
    annotator.edit(copy["annotations"][0]["id"], answer(["Surf"], origin="manual"), lead_time=2.0)
    assert pull(project).labels == 1
    assert labels_of(project, second["data"]["clip_id"]) == (["Surf"], "relabeled")
    # And somebody throws the others away: nobody's answer was withdrawn.
    for task in copies:
        if task["id"] in {other["id"] for other in rest}:
            annotator.delete(task["annotations"][0]["id"])
    assert pull(project).deleted == 0 and withdrawn(project) == 0


def test_predictions_in_bulk_beside_answers_of_two(project, start, label_studio, paths):
    setup, ann = start(overlap=2), label_studio.annotator()
    bob = label_studio.annotator("bob-bulk@example.org")
    (clip_id, path), (other_id, other) = list(paths.items())[:2]
    send(project, path, other)
    by_clip = {task["data"]["clip_id"]: task for task in tasks_of(ann, setup)}
    ann.submit(by_clip[clip_id]["id"], answer(["Bell"], origin="manual"))
    act(ann, setup, "predictions_to_annotations")
    counts = pull(project)
    assert counts.labels == 1 and counts.unheard == 2
    # One of two said something; what was made of a prediction is not the second.
    assert labels_of(project, clip_id)[1] == labels_of(project, other_id)[1] == "unverified"
    assert reporting.status(project).awaiting == 1
    bob.submit(by_clip[clip_id]["id"], answer(["Bell"], origin="manual"))
    pull(project)
    assert labels_of(project, clip_id) == (["Bell"], "relabeled")
    assert labels_of(project, other_id)[1] == "unverified" and withdrawn(project) == 0


@pytest.mark.parametrize("where", ["the same project", "another project"])
def test_two_imported_again(project, start, label_studio, paths, request, where):
    setup, ann = start(overlap=2), label_studio.annotator()
    name = "same" if where == "the same project" else "other"
    bob = label_studio.annotator(f"bob-{name}@example.org")
    send(project, *paths.values())
    tasks = tasks_of(ann, setup)
    for task in tasks[:3]:
        ann.submit(task["id"], answer(["Bell"], origin="manual"), lead_time=1.5)
    for task in tasks[:2]:
        bob.submit(task["id"], answer(["Bell"], origin="manual"), lead_time=2.5)
    pull(project)
    before = {clip_id: labels_of(project, clip_id) for clip_id in paths}
    reviewed = standing(project)
    assert [b[1] for b in before.values()].count("relabeled") == 2 and len(reviewed) == 5
    export = ann.json("GET", f"/api/projects/{setup.project_id}/export", exportType="JSON",
                      download_all_tasks="true")  # fmt: skip
    wanted = [{key: task[key] for key in ("data", "annotations")} for task in export][::-1]
    if where == "the same project":
        ann.json("DELETE", f"/api/projects/{setup.project_id}/tasks/")
    else:
        spec = ReviewSpec(document_root=str(label_studio.documents), overlap=2)
        setup, _ = set_up(project, label_studio.url, f"{request.node.name} 2", spec)
    ann.json("POST", f"/api/projects/{setup.project_id}/import", wanted)
    counts = pull(project)
    assert counts.deleted == counts.quarantined == 0 and withdrawn(project) == 0
    assert {clip_id: labels_of(project, clip_id) for clip_id in paths} == before
    assert reporting.list_quarantine(project) == []
    pull(project, full=True)
    assert {clip_id: labels_of(project, clip_id) for clip_id in paths} == before
    assert withdrawn(project) == 0


def test_an_export_of_somebodys_own_project(project, start, label_studio, paths, tmp_path):
    ours, annotator = start(), label_studio.annotator()
    send(project, *paths.values())
    title = "birds of my own"
    page = (
        '<View><Audio name="sound" value="$sound"/><Choices name="kind" toName="sound">'
        '<Choice value="Bell"/></Choices></View>'
    )
    own = annotator.json("POST", "/api/projects/", {"title": title, "label_config": page})
    annotator.json("POST", f"/api/projects/{own['id']}/import",
                   [{"sound": f"/data/upload/{path}"} for path in paths.values()])  # fmt: skip
    listed = annotator.json("GET", "/api/tasks/", project=own["id"], fields="all")["tasks"]
    item = {"from_name": "kind", "to_name": "sound", "type": "choices",
            "value": {"choices": ["Bell"]}, "origin": "manual"}  # fmt: skip
    annotator.submit(listed[0]["id"], [item])
    export = annotator.json("GET", f"/api/projects/{own['id']}/export", exportType="JSON",
                            download_all_tasks="true")  # fmt: skip
    (tmp_path / "own.json").write_text(json.dumps(export))
    with pytest.raises(InvalidInput, match=r"6 of 6 tasks .* 1 annotations .*labelstudio"):
        pull_file(project, tmp_path / "own.json")
    assert standing(project) == []
    # Somebody's tasks in our project are counted, and stay there.
    annotator.json("POST", f"/api/projects/{ours.project_id}/import",
                   [{"audio": "/data/upload/mine.wav", "given": "", "suggested": "", "path": "",
                     "reason": "", **dict.fromkeys(EXAMPLE_KEYS, "")}])  # fmt: skip
    [mine] = [t for t in tasks_of(annotator, ours) if "clip_id" not in t["data"]]
    annotator.submit(mine["id"], answer(["Bell"], origin="manual"))
    counts = pull(project)
    assert counts.foreign == 1 and counts.labels == 0 and standing(project) == []


def test_a_page_of_before_takes_several_where_a_clip_has_one(
    project, start, label_studio, paths, capsys
):
    setup, annotator = start(), label_studio.annotator()
    where = f"/api/projects/{setup.project_id}/"
    one = annotator.json("GET", where)["label_config"]
    path, other = list(paths.values())[:2]
    send(project, path, other)
    # As an earlier version wrote it, in server and store.
    several = create_page(list(read_page(one).labels), several=True)
    annotator.json("PATCH", where, {"label_config": several})
    old = replace(setup, page=several, page_hash=page_hash(several))
    with project.store.write() as session:
        session.append(Batch(key="old", kind="review_setup", actor="me", by_person=True,
                             review_projects=[old]))  # fmt: skip
    [task, _] = tasks_of(annotator, setup)
    made = annotator.submit(task["id"], answer(["Bell", "Surf"], origin="manual"))
    assert pull(project).quarantined == 1
    [unread] = reporting.list_quarantine(project)
    assert "labelkit labels several" in unread.problem
    assert labels_of(project, task["data"]["clip_id"])[1] == "unverified"
    # The next push brings the page up to date, as it does where classes came.
    capsys.readouterr()
    send(project, path, other)
    assert "of which one can be ticked" in capsys.readouterr().err
    assert annotator.json("GET", where)["label_config"] == one
    annotator.edit(made["id"], answer(["Surf"], origin="manual"))
    assert pull(project).labels == 1 and reporting.list_quarantine(project) == []
    # One that somebody changed is not overwritten; what to do is told.
    mine = several.replace("Why you are asked", "Why?")
    annotator.json("PATCH", where, {"label_config": mine})
    with pytest.raises(ServiceError, match=r"lets several labels be ticked.*review init"):
        send(project, path)
    start()
    assert annotator.json("GET", where)["label_config"] == one
