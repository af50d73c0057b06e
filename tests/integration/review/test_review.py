"""The whole review against a real Label Studio: push, people answer, pull, train."""

import json
import re
import shutil
import sys
from collections import Counter
from dataclasses import asdict

import pytest
from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.errors import InvalidInput, ServiceError
from labelkit.labels.undo import undo
from labelkit.project import open_project
from labelkit.records import Batch
from labelkit.review import status as reporting
from labelkit.review.pull import PullReport, pull, pull_file, repair
from labelkit.review.push import push
from labelkit.review.queue import Choice
from labelkit.review.setup import read_setup
from labelkit.runs.train import train
from labelkit.states import RELABELED, TRUSTED_STATES
from tests.support.label_studio_server import answer

pytestmark = pytest.mark.slow


def lowest(n):
    return Choice(lowest=("lwlrap", n))


def tasks(annotator, setup):
    """Every task of the project by clip id; a clip with two would fail."""
    found = annotator.json("GET", "/api/tasks/", project=setup.project_id, page_size=2000,
                           fields="all")["tasks"]  # fmt: skip
    by_clip = {task["data"]["clip_id"]: task for task in found}
    assert len(by_clip) == len(found)
    return by_clip


def now(project):
    with project.store.read() as session:
        rows = session.rows("select clip_id, labels, state from labels_now")
    return {clip_id: (labels, state) for clip_id, labels, state in rows}


def history(project, clip_id):
    with project.store.read() as session:
        return session.rows(
            "select state, labels, kind, actor, reason, evidence from label_history "
            "where clip_id = ? order by event_id", [clip_id],
        )  # fmt: skip


def test_the_full_loop(
    project, start, label_studio, demo_clips, tiny_recipe, capsys, record_property
):
    truth = {clip.fname: clip.truth for clip in demo_clips[0]}
    setup = start()
    before = now(project)
    seeds = (0, 1, 2)
    earlier = [train(project, tiny_recipe, trusted=True, workers=1, seed=seed) for seed in seeds]
    rows, report = push(project, lowest(30))
    assert (report.new, report.same) == (30, 0)
    assert [row.score for row in rows] == sorted(row.score for row in rows)
    assert push(project, lowest(30))[1].same == 30

    annotator = label_studio.annotator()
    expected, kinds = {}, []
    for number in range(30):
        # The queue gives the lowest score first, as the push printed it.
        task = annotator.next_task(setup.project_id)
        clip_id, path = task["data"]["clip_id"], task["data"]["path"]
        given, right = before[clip_id][0], truth[path]
        guess = task["predictions"][0]["result"]
        kind = ("skip", "none", "unsure", "silent")[number] if number < 4 else "labels"
        kinds.append((task["predictions"][0]["score"], kind))
        if kind == "skip":
            annotator.skip(task["id"], guess)
        elif kind == "none":
            annotator.submit(task["id"], answer(verdict=["none of these"], comment="a cough"))
            expected[clip_id] = ([], "relabeled")
        elif kind == "unsure":
            annotator.submit(task["id"], answer(verdict=["unsure"]))
        elif kind == "silent":
            annotator.submit(task["id"], answer(verdict=["no usable sound"]))
            expected[clip_id] = (given, "rejected")
        else:
            annotator.submit(task["id"], answer([right], origin="manual"), lead_time=2.5)
            expected[clip_id] = ([right], "verified" if [right] == given else "relabeled")
    assert annotator.next_task(setup.project_id) is None
    scores = [score for score, _ in kinds]
    assert scores == sorted(scores)

    report = pull(project)
    assert {key: n for key, n in asdict(report).items() if n} == (
        Counter(labels=26, none=1, unsure=1, no_sound=1, skipped=1)
        + Counter(state for _, state in expected.values())
    )
    after = now(project)
    assert after == before | expected
    for clip_id, (labels, state) in expected.items():
        event = history(project, clip_id)[-1]
        assert event[:4] == (state, labels, "review", "anna@example.org")
        assert "26 labels, 1 no usable sound, 1 none of these" in event[4]
        assert json.loads(event[5])["shown"].startswith("lwlrap ")
    assert pull(project) == pull(project, full=True) == PullReport()
    assert now(project) == after

    later = [train(project, tiny_recipe, trusted=True, workers=1, seed=seed) for seed in seeds]
    trusted = [
        {i: labels for i, (labels, state) in states.items() if state in TRUSTED_STATES}
        for states in (before, after)
    ]
    for summary, labels in [(s, trusted[0]) for s in earlier] + [(s, trusted[1]) for s in later]:
        with project.store.read() as session:
            rows = session.rows("select unnest(trained_on) from runs where part_of = ?",
                                [summary["run_id"]])  # fmt: skip
            subsets = dict(session.rows("select clip_id, subset from clips"))
        # A clip without any label teaches a softmax nothing.
        assert {i for (i,) in rows} == {i for i in labels if subsets[i] == "train" and labels[i]}
    changed = {i for i in before if trusted[0].get(i) != trusted[1].get(i)}
    assert changed == {i for i in expected if trusted[0].get(i) != trusted[1].get(i)}
    assert changed
    for name, runs in (("before", earlier), ("after", later)):
        accuracy = ", ".join(f"{run['test_accuracy']:.3f}" for run in runs)
        record_property(name, accuracy)
        with capsys.disabled():
            sys.stdout.write(f"\n  accuracy {name} the review, seeds 0 to 2: {accuracy}")


def test_what_a_person_says_of_classes(project, start, label_studio):
    setup = start()
    push(project, lowest(4))
    annotator = label_studio.annotator()
    by_clip = tasks(annotator, setup)
    one, two, three, four = sorted(by_clip)
    other = "Bell"
    annotator.submit(by_clip[one]["id"], answer([other]))
    annotator.submit(by_clip[two]["id"], answer(verdict=["none of these"]))
    annotator.submit(by_clip[three]["id"], answer(verdict=["unsure"]))
    annotator.submit(by_clip[four]["id"], answer(["Siren"], verdict=["unsure"]))
    pull(project)
    with project.store.read() as session:
        names = session.classes()
        said = {
            clip_id: dict(
                session.rows(
                    "select class_id, verdict from label_verdicts v "
                    "join batches b on b.batch_id = v.batch_id "
                    "where b.kind = 'review' and clip_id = ?", [clip_id],
                )
            )
            for clip_id in by_clip
        }  # fmt: skip
        unsure = session.unsure()
    asked = {
        clip_id: {*task["data"]["given"].split(", "), *task["data"]["suggested"].split(", ")}
        for clip_id, task in by_clip.items()
    }
    wanted = dict.fromkeys(asked[one] - {other}, "absent") | {other: "present"}
    assert {names[k]: verdict for k, verdict in said[one].items()} == wanted
    assert said[two] == dict.fromkeys(range(len(names)), "absent")
    assert {names[k]: verdict for k, verdict in said[three].items()} == dict.fromkeys(
        asked[three], "unsure"
    )
    assert said[four] == {names.index("Siren"): "unsure"}
    assert {pair for pair in unsure if pair[0] in (three, four)} == {
        (clip_id, class_id) for clip_id in (three, four) for class_id in said[clip_id]
    }


def test_edits_and_deletions_are_events(project, start, label_studio):
    setup = start()
    before = now(project)
    push(project, lowest(2))
    annotator = label_studio.annotator()
    by_clip = tasks(annotator, setup)
    one, two = sorted(by_clip)
    first = annotator.submit(by_clip[one]["id"], answer(["Bell"]))
    second = annotator.submit(by_clip[two]["id"], answer(["Surf"]))
    pull(project)
    assert now(project)[one][0] == ["Bell"]
    annotator.edit(first["id"], answer(["Siren"]))
    annotator.delete(second["id"])
    report = pull(project)
    assert (report.labels, report.deleted) == (1, 1)
    assert now(project)[one] == (["Siren"], RELABELED)
    assert now(project)[two] == before[two]
    assert [event[0] for event in history(project, two)][-1] == before[two][1]
    with project.store.read() as session:
        versions = Counter(session.rows("select answer from reviews"))
        assert versions == {("labels",): 3, ("deleted",): 1}
        assert (two, session.classes().index("Surf")) not in session.decided()
        assert (one, session.classes().index("Siren")) in session.decided()
    # An answer that becomes a skip says nothing any more.
    annotator.edit(first["id"], [], was_cancelled=True)
    assert pull(project).skipped == 1
    assert now(project) == before


def test_a_skip_over_the_guess_is_no_label(project, start, label_studio):
    setup = start()
    before = now(project)
    push(project, lowest(1))
    annotator = label_studio.annotator()
    task = annotator.next_task(setup.project_id)
    assert task["predictions"][0]["result"][0]["value"]["choices"]
    annotator.skip(task["id"], task["predictions"][0]["result"])
    assert pull(project).skipped == 1
    assert now(project) == before
    with project.store.read() as session:
        assert not session.rows(
            "select 1 from label_verdicts v join batches b on b.batch_id = v.batch_id "
            "where b.kind = 'review'"
        )
        raw = json.loads(session.rows("select raw from reviews")[0][0])
    assert raw["result"] == task["predictions"][0]["result"]


def test_two_annotators(project, start, label_studio):
    setup = start(overlap=2)
    before = now(project)
    push(project, lowest(4))
    anna, ben = label_studio.annotator(), label_studio.annotator(f"ben{setup.project_id}@b.org")
    by_clip = tasks(anna, setup)
    same, differ, alone, bad = sorted(by_clip)
    for clip_id in (same, differ, alone):
        anna.submit(by_clip[clip_id]["id"], answer(["Bell"]))
    ben.submit(by_clip[same]["id"], answer(["Bell"]))
    ben.submit(by_clip[differ]["id"], answer(["Surf"]))
    pull(project)
    state = now(project)
    assert state[same][0] == ["Bell"] and state[same][1] in ("verified", "relabeled")
    assert state[differ] == before[differ] and state[alone] == before[alone]
    found = reporting.status(project)
    assert (found.disagreements, found.awaiting) == (1, 1)
    (clip,) = reporting.list_disagreements(project)
    assert clip.answers == [
        "anna@example.org: Bell", f"ben{setup.project_id}@b.org: Surf",
    ] and not clip.decided  # fmt: skip
    summaries = {found.annotator: found for found in reporting.compare_annotators(project)}
    of_anna = summaries["anna@example.org"]
    assert (of_anna.answers, of_anna.shared, of_anna.agree) == (3, 2, 0.5)
    # The clip they differ on goes to a third, whose answer decides.
    rows, report = push(project, Choice(disagreements=True))
    assert report.changed == 1 and rows[0].reason.startswith("People differ: Bell; or Surf.")
    assert push(project, Choice(disagreements=True))[1].same == 1
    third = label_studio.annotator(f"cleo{setup.project_id}@c.org")
    offered = []
    while task := third.next_task(setup.project_id):
        offered.append(task["data"]["clip_id"])
        third.submit(task["id"], answer(["Surf"]))
    assert differ in offered and same not in offered
    pull(project)
    assert now(project)[differ][0] == ["Surf"]
    evidence = json.loads(history(project, differ)[-1][5])
    assert evidence["rule"] == "majority" and len(evidence["annotators"]) == 3
    assert bad in offered


def test_blind_mode_shows_no_suggestion(project, start, label_studio):
    setup = start(blind=True)
    push(project, lowest(5))
    annotator = label_studio.annotator()
    scores = []
    while task := annotator.next_task(setup.project_id):
        assert not {"suggested", "reason"} & set(task["data"])
        assert all(p["result"] == [] for p in task["predictions"])
        scores.append(task["predictions"][0]["score"])
        annotator.submit(task["id"], answer(["Bell"]))
    assert len(scores) == 5 and scores == sorted(scores)
    assert (
        "$suggested"
        not in annotator.json("GET", f"/api/projects/{setup.project_id}/")["label_config"]
    )
    pull(project)
    with project.store.read() as session:
        assert session.rows("select distinct model_version from reviews") == [(None,)]


def test_switching_to_blind_takes_the_suggestions_away(project, start, label_studio, capsys):
    setup = start()
    push(project, lowest(2))
    start(blind=True)
    assert "push again" in capsys.readouterr().err
    assert push(project, lowest(2))[1].changed == 2
    for task in tasks(label_studio.annotator(), setup).values():
        assert not {"suggested", "reason"} & set(task["data"])
        assert [p["result"] for p in task["predictions"]] == [[]]
    start()
    assert push(project, lowest(2))[1].changed == 2
    assert push(project, lowest(2))[1].same == 2


def test_a_new_model_is_shown_on_open_tasks(project, start, label_studio, tiny_recipe):
    setup = start()
    first = push(project, lowest(6))[1].model_version
    annotator = label_studio.annotator()
    done = annotator.next_task(setup.project_id)
    annotator.submit(done["id"], answer(["Bell"]))
    train(project, tiny_recipe, workers=1, seed=5)
    report = push(project, lowest(2))[1]
    assert report.model_version != first
    for clip_id, task in tasks(annotator, setup).items():
        shown = [p for p in task["predictions"] if p["model_version"] == report.model_version]
        assert len(shown) == (0 if clip_id == done["data"]["clip_id"] else 1)
    assert (
        annotator.next_task(setup.project_id)["predictions"][0]["model_version"]
        == report.model_version
    )


def test_undo_of_answers(project, start, label_studio):
    setup = start()
    before = now(project)
    push(project, lowest(1))
    annotator = label_studio.annotator()
    annotator.submit(annotator.next_task(setup.project_id)["id"], answer(["Bell"]))
    pull(project)
    with project.store.read() as session:
        batch = session.rows("select max(batch_id) from batches where kind = 'review'")[0][0]
    undo(project, batch)
    assert now(project) == before
    assert pull(project, full=True) == PullReport()
    assert now(project) == before
    with project.store.read() as session:
        assert not session.rows("select 1 from reviews_now")


def test_classes_come_and_go(project, start, label_studio):
    setup = start()
    push(project, lowest(3))
    annotator = label_studio.annotator()
    by_clip = tasks(annotator, setup)
    one, two, three = sorted(by_clip)
    path = f"/api/projects/{setup.project_id}/"
    page = annotator.json("GET", path)["label_config"]
    # Somebody renames a class on the server and answers with the new name.
    annotator.json("PATCH", path, {"label_config": page.replace('"Bell"', '"Glocke &amp; Co"')})
    annotator.submit(by_clip[one]["id"], answer(["Glocke & Co"]))
    annotator.submit(by_clip[two]["id"], answer(["Whale"]))
    with pytest.raises(ServiceError, match=r"lacks class 'Bell'.*labelkit review init"):
        push(project, lowest(3))
    report = pull(project)
    assert report.quarantined == 2
    rows = reporting.list_quarantine(project)
    assert "Glocke & Co" in rows[0].problem and "Whale" in rows[1].problem
    with pytest.raises(InvalidInput, match="no class 'Gong'"):
        repair(project, renames={"Glocke & Co": "Gong"})
    report = repair(project, renames={"Glocke & Co": "Bell"})
    assert report.labels == 1 and report.still_in_quarantine == 1
    assert now(project)[one][0] == ["Bell"]
    assert pull(project, full=True) == PullReport()
    # The vocabulary grows: the page follows, and the answer can be read.
    grow(project, "Whale")
    assert repair(project, renames={}).still_in_quarantine == 0
    assert now(project)[two][0] == ["Whale"]
    # The page may only be brought back once no answer has a label that it would lose.
    with pytest.raises(ServiceError, match="Glocke"):
        start()
    annotator.delete(
        annotator.json("GET", f"/api/tasks/{by_clip[one]['id']}/")["annotations"][0]["id"]
    )
    start()
    push(project, lowest(3))
    page = annotator.json("GET", path)["label_config"]
    assert '"Bell"' in page and '"Whale"' in page
    # A class that answers have cannot be dropped by a page of ours.
    annotator.json("PATCH", path, {"label_config": page.replace('"Whale"', '"Orca"')})
    annotator.submit(by_clip[three]["id"], answer(["Orca"]))
    with pytest.raises(ServiceError, match=r"Orca"):
        start()


def test_the_page_follows_a_vocabulary_that_grows(project, start, label_studio, capsys):
    setup = start()
    push(project, lowest(2))
    annotator = label_studio.annotator()
    path = f"/api/projects/{setup.project_id}/"
    # A heading of the user's own makes no difference to the answers, and stays.
    mine = annotator.json("GET", path)["label_config"].replace("Why you are asked", "Why?")
    annotator.json("PATCH", path, {"label_config": mine})
    assert push(project, lowest(2))[1].same == 2
    assert annotator.json("GET", path)["label_config"] == mine
    grow(project, "Rock & $roll")
    with pytest.raises(ServiceError, match=r"lacks class 'Rock & \$roll'.*review init"):
        push(project, lowest(2))
    start()
    grow(project, "Später 🦆")
    push(project, lowest(2))
    assert "12 classes" in capsys.readouterr().err
    annotator.submit(annotator.next_task(setup.project_id)["id"],
                     answer(["Später 🦆"]))  # fmt: skip
    assert pull(project).relabeled == 1
    with project.store.read() as session:
        assert session.rows("select labels from labels_now where source = 'review'") == [
            (["Später 🦆"],)
        ]


def grow(project, name):
    """Let a class join the vocabulary."""
    with project.store.write() as session:
        session.append(Batch(key=name, kind="import", actor="me", by_person=True, classes=[name]))


def test_deleted_tasks_leave_their_answers(project, start, label_studio):
    setup = start()
    push(project, lowest(3))
    annotator = label_studio.annotator()
    by_clip = tasks(annotator, setup)
    one, two, three = sorted(by_clip)
    annotator.submit(by_clip[one]["id"], answer(["Bell"]))
    pull(project)
    state = now(project)
    for clip_id in (one, two):
        annotator.json("DELETE", f"/api/tasks/{by_clip[clip_id]['id']}/")
    report = pull(project)
    assert report.task_deleted == 2
    assert now(project) == state
    assert json.loads(history(project, one)[-1][5])["answer"] == "task_deleted"
    assert pull(project, full=True) == PullReport()
    found = reporting.status(project)
    assert (found.pushed, found.task_deleted) == (1, 2)
    # What was never answered comes back when it is asked for again.
    assert push(project, lowest(3))[1].new >= 1
    assert {two, three} <= set(tasks(annotator, setup))


def test_the_same_from_an_export(project, start, label_studio, tmp_path):
    setup = start()
    push(project, lowest(4))
    annotator = label_studio.annotator()
    one, two, three, _ = (task["id"] for task in tasks(annotator, setup).values())
    annotator.submit(one, answer(["Bell"]))
    annotator.submit(two, answer(verdict=["none of these"]))
    annotator.skip(three, answer(["Surf"]))
    export = annotator.json("GET", f"/api/projects/{setup.project_id}/export",
                            exportType="JSON", download_all_tasks="true")  # fmt: skip
    file = tmp_path / "export.json"
    file.write_text(json.dumps(export))
    shutil.copytree(project.root, tmp_path / "other")
    other = open_project(tmp_path / "other")
    report = pull(project)
    assert pull_file(other, file) == report
    assert now(other) == now(project)
    assert pull_file(other, file) == PullReport()
    assert pull(other, full=True) == PullReport()
    # Without any set-up, too: the numbers of annotators stand for their names.
    (other.root / "labels.duckdb").unlink()
    shutil.copy(project.root / "labels.duckdb", other.root / "labels.duckdb")
    for content in ("[]x", "{}", '[{"id": 1}]'):
        file.write_text(content)
        with pytest.raises(InvalidInput, match="JSON_MIN"):
            pull_file(project, file)


def test_a_task_of_another_store_goes_to_quarantine(project, start, label_studio):
    setup = start()
    push(project, lowest(2))
    annotator = label_studio.annotator()
    one, two = tasks(annotator, setup).values()
    annotator.json("PATCH", f"/api/tasks/{one['id']}/",
                   {"data": {**one["data"], "path": "other.wav"}})  # fmt: skip
    annotator.json("PATCH", f"/api/tasks/{two['id']}/",
                   {"data": {**two["data"], "clip_id": 10**9}})  # fmt: skip
    before = now(project)
    for task in (one, two):
        annotator.submit(task["id"], answer(["Bell"]))
    assert pull(project).quarantined == 2
    assert now(project) == before
    assert all("another store" in row.problem for row in reporting.list_quarantine(project))


def test_commands_print_arrays(project, start, label_studio, monkeypatch):
    setup = start()

    def run(*words):
        done = CliRunner().invoke(cli, ["-C", str(project.root), *words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    rows = run("push", "3", "--dry-run")
    assert rows == run("push", "3")
    assert list(rows[0]) == ["path", "labels", "suggested", "score", "task", "reason"]
    annotator = label_studio.annotator()
    annotator.submit(annotator.next_task(setup.project_id)["id"], answer(["Bell"]))
    kinds = ["labels", "none", "unsure", "no_sound", "skipped", "quarantined", "deleted",
             "task_deleted", "unheard", "foreign", "verified", "relabeled", "rejected",
             "unverified"]  # fmt: skip
    [counts] = run("pull")
    assert counts["labels"] == 1 and list(counts) == kinds
    facts = run("review", "status")
    assert {"what": "reviewed", "value": 1} in facts
    assert [fact["what"] for fact in facts] == [
        "project", "annotators a clip", "suggestions", "audio", "last pull up to", "pushed",
        "reviewed", "awaiting more answers", "answers with labels", "none of these",
        "no usable sound", "unsure", "skipped", "disagreements", "quarantine", "answers deleted",
        "tasks deleted", "drafts", "clips with two tasks", "page drift",
    ]  # fmt: skip
    [summary] = run("review", "annotators")
    assert summary["answers"] == 1 and list(summary) == [
        "annotator", "answers", "unsure", "skipped", "suggestion_accepted", "median_s", "shared",
        "agree", "jaccard", "kappa", "with_majority",
    ]  # fmt: skip
    assert run("review", "disagreements") == run("review", "quarantine") == []
    assert list(run("review", "repair")[0]) == [*kinds, "still_in_quarantine"]
    checks = run("review", "doctor")
    assert all(list(row) == ["check", "ok", "what"] and row["ok"] is True for row in checks)
    told = {row["check"]: row["what"] for row in checks}
    assert re.fullmatch(r"Community .*\d+\.\d+.*", told["version"])
    assert any(what.endswith(" can be heard") for what in told.values())
    # What the server alone knows is left out where it is not reached, with why.
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)
    last = run("review", "status")[-1]
    assert last["what"] == "server" and "401" in last["value"]


def test_setting_up_twice_adopts_and_changes(project, start, label_studio):
    setup = start()
    assert start() == setup
    changed = start(overlap=3)
    assert changed.project_id == setup.project_id
    annotator = label_studio.annotator()
    there = annotator.json("GET", f"/api/projects/{setup.project_id}/")
    assert there["maximum_annotations"] == 3 and there["sampling"] == "Uncertainty sampling"
    assert read_setup(project)[1].overlap == 3
    # Somebody else's labelkit project is left alone.
    annotator.json("PATCH", f"/api/projects/{setup.project_id}/",
                   {"description": "labelkit:0123456789ab"})  # fmt: skip
    with pytest.raises(InvalidInput, match="another labelkit project"):
        start()
