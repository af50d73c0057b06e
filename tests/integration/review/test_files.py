"""Answers that came in files: no server is asked, nothing is dropped without a word."""

import json

import pytest

from labelkit.errors import InvalidInput
from labelkit.labels.undo import undo
from labelkit.project import create_project
from labelkit.records import Batch, Clip
from labelkit.review import status as reporting
from labelkit.review.pull import PullReport, pull_file, repair
from labelkit.review.queue import Choice, read_queue
from tests.support.commands import call, refused, rows
from tests.support.label_studio_server import answer
from tests.support.labelled import CLASSES, PATHS
from tests.support.projects import copy_project


@pytest.fixture
def project(labelled, tmp_path):
    """A copy to write to; nothing was ever set up in it."""
    return copy_project(labelled, tmp_path / "p")


def annotation(number, result, *, who=3, at=0, **fields):
    return {
        "id": number, "completed_by": who, "result": result, "was_cancelled": False,
        "lead_time": 2.5, "created_at": "2026-01-02T03:04:05Z",
        "updated_at": f"2026-01-02T03:{at:02d}:06Z", "parent_prediction": None,
        "parent_annotation": None, **fields,
    }  # fmt: skip


def task(clip_id, *annotations, number=None, project=7, **data):
    return {
        "id": clip_id + 100 if number is None else number, "project": project,
        "data": {"audio": "/a.wav", "clip_id": clip_id, "path": PATHS[clip_id], **data},
        "annotations": list(annotations), "drafts": [],
    }  # fmt: skip


def foreign(number, *annotations):
    return {"id": number, "project": 7, "data": {"audio": f"/data/upload/{number}.wav"},
            "annotations": list(annotations)}  # fmt: skip


def write(folder, *tasks, name="export.json"):
    (folder / name).write_text(json.dumps(tasks))
    return folder / name


def ticked(number, *labels, **fields):
    return annotation(number, answer(labels, origin="manual"), **fields)


def labels_of(project, clip_id):
    return rows(project, "select labels, state from labels_now where clip_id = ?", [clip_id])[0]


def open_clip(project, k=0):
    found = rows(project, "select clip_id from labels_now where state = 'unverified' "
                 "and subset = 'train' order by clip_id")  # fmt: skip
    return found[k][0]


def test_a_review_is_looked_at_without_server_and_token(project, tmp_path):
    one, two = open_clip(project), open_clip(project, 1)
    file = write(
        tmp_path,
        task(one, ticked(1, "Dog"), ticked(2, "Car", who=4)),
        task(two, ticked(3, "Dog"), ticked(4, "Dog", who=4)),
    )
    assert call(project, "pull", "--from", file).exit_code == 0
    done = call(project, "review", "disagreements", "--json")
    [clip] = json.loads(done.stdout)
    assert clip["path"] == PATHS[one] and len(clip["answers"]) == 2
    done = call(project, "review", "annotators", "--json")
    people = {row["annotator"]: row for row in json.loads(done.stdout)}
    assert sorted(people) == ["annotator 3", "annotator 4"]
    assert people["annotator 3"]["answers"] == 2 and people["annotator 3"]["agree"] == 0.5
    done = call(project, "review", "status", "--json")
    told = {row["what"]: row["value"] for row in json.loads(done.stdout)}
    assert told["reviewed"] == 2 and told["disagreements"] == 1
    assert "export-7" in told["project"] and told["server"].startswith("not asked")


def test_answers_of_two_files_are_told_apart(project, tmp_path):
    one = open_clip(project)
    for number, label in ((7, "Dog"), (8, "Car")):
        content = task(one, ticked(1, label), project=number)
        pull_file(project, write(tmp_path, content, name=f"{number}.json"))
    # Number 3 of one server is not number 3 of the other; each said what it said.
    assert reporting.list_disagreements(project) == []
    [both] = reporting.compare_annotators(project)
    assert both.answers == 2
    told = reporting.status(project)
    assert "export-7, export-8" in told.project and told.reviewed == 2


@pytest.mark.parametrize("command", ["disagreements", "annotators", "status"])
def test_without_any_answer_the_way_to_begin_is_told(project, command):
    refused(call(project, "review", command), "labelkit review init", code=1)


@pytest.mark.parametrize(
    ("tasks", "code", "says"),
    [
        # Nobody's but his own: the whole export goes elsewhere.
        ([foreign(1, ticked(1, "Dog")), foreign(2)], 2,
         ["2 of 2 tasks", "1 annotations", "labelkit import", "--format labelstudio"]),
        ([foreign(1)], 2, ["1 of 1 tasks", "0 annotations", "--format labelstudio"]),
        # Of both kinds: ours come in, and the others are no success.
        ([task(9, ticked(1, "Dog")), foreign(2, ticked(2, "Car"), ticked(3, "Dog", who=4))], 1,
         ["1 of 2 tasks", "2 annotations", "--format labelstudio"]),
        # Theirs hold nothing: told, and nothing is lost.
        ([task(9, ticked(1, "Dog")), foreign(2)], 0, ["1 of 2 tasks", "0 annotations"]),
        # A clip_id of somebody's own numbering is none of ours.
        ([{**foreign(1, ticked(1, "Dog")), "data": {"clip_id": "bird-7"}}], 2,
         ["1 of 1 tasks", "--format labelstudio"]),
        ([task(9, ticked(1, "Dog")) | {"drafts": [{"result": []}]}], 0, ["1 drafts"]),
        ([task(9, ticked(1, "Dog", lead_time=None) | {"result": answer(["Dog"])})], 0,
         ["1 annotations were made of predictions"]),
    ],
)  # fmt: skip
def test_what_a_file_holds_beside_our_answers_is_counted(project, tmp_path, tasks, code, says):
    done = call(project, "pull", "--from", write(tmp_path, *tasks))
    assert done.exit_code == code, done.output
    for part in says:
        assert part in done.stderr
    assert "nothing new" not in done.stdout
    ours = [t for t in tasks if "path" in t["data"]]
    heard = [a for t in ours for a in t["annotations"] if a["lead_time"] is not None]
    assert rows(project, "select count(*) from reviews_now") == [(len(heard),)]


OTHERS = {
    "a number of theirs": {"audio": "/x/zz.wav", "clip_id": 3},
    "the number of the clip meant": {"audio": "/x/0.wav", "clip_id": 0},
    "a text": {"audio": "/x/zz.wav", "clip_id": "3", "path": "zz.wav"},
    "a float": {"audio": "/x/zz.wav", "clip_id": 3.0, "path": "zz.wav"},
    "a truth": {"audio": "/x/zz.wav", "clip_id": True, "path": "zz.wav"},
    "no path": {"audio": "/x/zz.wav", "clip_id": 3, "path": None},
    "a path alone": {"audio": "/x/zz.wav", "path": "zz.wav"},
    "a number as path": {"audio": "/x/zz.wav", "clip_id": 3, "path": 3},
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_a_clip_number_of_somebodys_own_is_none_of_ours(project, tmp_path, data):
    before = rows(project, "from labels_now order by clip_id")
    theirs = {**foreign(1, ticked(1, "Dog")), "data": data}
    done = call(project, "pull", "--from", write(tmp_path, theirs))
    assert done.exit_code == 2 and "1 of 1 tasks" in done.stderr, done.output
    # Beside ours it is counted, and changes nothing.
    mine = task(open_clip(project), ticked(2, "Dog"))
    done = call(project, "pull", "--from", write(tmp_path, theirs, mine))
    assert done.exit_code == 1 and "1 of 2 tasks" in done.stderr, done.output
    after = rows(project, "from labels_now order by clip_id")
    changed = [now[0] for now, then in zip(after, before, strict=True) if now != then]
    assert changed == [mine["data"]["clip_id"]]
    # The command that is named takes it for what its recording is called.
    assert (
        "1 tasks are labelkit's own"
        in call(
            project,
            "import",
            tmp_path / "export.json",
            "--format",
            "labelstudio",
            "--metadata-only",
        ).stderr
    )


@pytest.mark.parametrize(
    "data",
    [{"path": "zz.wav"}, {"clip_id": 10**9}, {"clip_id": -1}, {"clip_id": 2**63},
     {"clip_id": 10**30}],
)  # fmt: skip
def test_a_task_of_another_store_waits_in_quarantine(project, tmp_path, data):
    before = rows(project, "from labels_now order by clip_id")
    sent = task(open_clip(project), ticked(1, "Dog"))
    pull_file(project, write(tmp_path, {**sent, "data": sent["data"] | data}))
    assert rows(project, "from labels_now order by clip_id") == before
    [(problem,)] = rows(project, "select problem from quarantine")
    assert "is it another store's task?" in problem


def test_names_put_right_are_remembered(project, tmp_path):
    one, two, three = (open_clip(project, k) for k in range(3))
    pull_file(project, write(tmp_path, task(one, ticked(1, "Dogs"))))
    report = repair(project, renames={"Dogs": "Dog"})
    assert (report.labels, report.still_in_quarantine) == (1, 0)
    assert labels_of(project, one)[0] == ["Dog"]
    # Who goes on with the old name says the same; another wrong name is another matter.
    later = [task(two, ticked(2, "Dogs")), task(three, ticked(3, "Cars"))]
    report = pull_file(project, write(tmp_path, *later))
    assert (report.labels, report.quarantined) == (1, 1)
    assert labels_of(project, two)[0] == ["Dog"]
    # An answer that changes is read so, too; of another person as well.
    report = pull_file(project, write(tmp_path, task(three, ticked(3, "Dogs", at=9, who=4))))
    assert report.labels == 1 and labels_of(project, three)[0] == ["Dog"]
    assert repair(project, renames={}).still_in_quarantine == 0


def test_names_put_right_are_forgotten_with_the_repair(project, tmp_path):
    one, two, three = (open_clip(project, k) for k in range(3))
    pull_file(project, write(tmp_path, task(one, ticked(1, "Dogs"))))
    before = labels_of(project, one)
    repair(project, renames={"Dogs": "Dog"})
    [(batch,)] = rows(project, "select max(batch_id) from batches where kind = 'review'")
    undo(project, batch)
    assert labels_of(project, one) == before
    assert pull_file(project, write(tmp_path, task(two, ticked(2, "Dogs")))).quarantined == 1
    # Taken back in turn, the undo lets it stand again.
    [(last,)] = rows(project, "select max(batch_id) from batches where undoes is not null")
    undo(project, last)
    assert pull_file(project, write(tmp_path, task(three, ticked(3, "Dogs")))).labels == 1


def test_a_name_that_nobody_ticked_is_told(project, tmp_path, capsys):
    pull_file(project, write(tmp_path, task(open_clip(project), ticked(1, "Dogs"))))
    repair(project, renames={"Dgos": "Dog"})
    assert "no answer in quarantine has the label 'Dgos'" in capsys.readouterr().err
    assert pull_file(
        project, write(tmp_path, task(open_clip(project, 1), ticked(2, "Dgos")))
    ).quarantined == 1  # fmt: skip
    with pytest.raises(InvalidInput, match="no class 'Hound'"):
        repair(project, renames={"Dogs": "Hound"})


def test_a_class_of_its_own_is_called_as_it_is(project, tmp_path):
    one, two = open_clip(project), open_clip(project, 1)
    pull_file(project, write(tmp_path, task(one, ticked(1, "Wolf"))))
    repair(project, renames={"Wolf": "Dog"})
    with project.store.write() as session:
        session.append(Batch(key="w", kind="import", actor="me", by_person=True, classes=["Wolf"]))
    pull_file(project, write(tmp_path, task(two, ticked(2, "Wolf"))))
    assert labels_of(project, two)[0] == ["Wolf"]


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (answer(["Dog", "Car"], origin="manual"), False),
        (answer(CLASSES, origin="manual"), False),
        # Who is not sure gives no labels.
        (answer(["Dog", "Car"], verdict=["unsure"], origin="manual"), True),
        (answer(["Dog"], origin="manual"), True),
        (answer(["Dog", "Dog"], origin="manual"), True),
        (answer(verdict=["none of these"], origin="manual"), True),
    ],
)
def test_several_labels_where_a_clip_has_one_go_to_quarantine(project, tmp_path, result, kept):
    one = open_clip(project)
    before = labels_of(project, one)
    report = pull_file(project, write(tmp_path, task(one, annotation(1, result))))
    assert report.quarantined == (not kept)
    if not kept:
        [unread] = reporting.list_quarantine(project)
        assert "a clip has one label" in unread.problem
        assert "labelkit labels several" in unread.problem
        assert labels_of(project, one) == before
        assert repair(project, renames={}).still_in_quarantine == 1
    assert rows(project, "select 1 from label_events where len(labels) > 1") == []


def test_an_answer_whose_task_came_to_name_another_file_is_told(project, tmp_path):
    one = open_clip(project)
    pull_file(project, write(tmp_path, task(one, ticked(1, "Dog"))))
    moved = task(one, ticked(1, "Car", at=9), path="elsewhere.wav")
    assert pull_file(project, write(tmp_path, moved)).quarantined == 1
    [unread] = reporting.list_quarantine(project)
    assert "another store" in unread.problem
    assert f"until then its earlier answer on '{PATHS[one]}' stands" in unread.problem
    assert labels_of(project, one)[0] == ["Dog"]
    assert pull_file(project, write(tmp_path, moved)) == PullReport()


GROUPED = [
    # path, labels, state, group
    ("a1.wav", ["Dog"], "verified", "a"),
    ("a2.wav", ["Dog"], "verified", "a"),
    ("b1.wav", ["Dog", "Cat"], "verified", "b"),
    ("c1.wav", ["Cat"], "self_verified", None),
    ("d1.wav", ["Rain"], "verified", "d"),
    ("d2.wav", ["Rain"], "unverified", "d"),
    ("e1.wav", ["Dog"], "unverified", "e"),
    ("f1.wav", ["Cat"], "relabeled", "f"),
    ("g1.wav", ["Wind"], "unverified", None),
]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        # Two of one source would leave none for each other.
        ("a1.wav", "b1.wav"),
        ("a2.wav", "b1.wav"),
        # Of those people vouched for, one of the class alone.
        ("b1.wav", "a1.wav"),
        ("c1.wav", "f1.wav"),
        ("e1.wav", "a1.wav"),
        ("f1.wav", "b1.wav"),
        # The only trusted one is of the same source, or the clip itself; or there is none.
        ("d2.wav", None),
        ("d1.wav", None),
        ("g1.wav", None),
    ],
)  # fmt: skip
def test_an_example_is_of_another_source(tmp_path, path, wanted):
    (tmp_path / "audio").mkdir()
    project, _ = create_project(tmp_path, tmp_path / "audio")
    clips = [Clip(path=p, labels=tuple(names), state=state, group=group, subset="train")
             for p, names, state, group in GROUPED]  # fmt: skip
    with project.store.write() as session:
        session.append(Batch(key="c", kind="import", actor="me", by_person=True, clips=clips,
                             classes=["Dog", "Cat", "Rain", "Wind"]))  # fmt: skip
    [item] = read_queue(project, Choice(where=f"path = '{path}'")).items
    found = item.given_example
    assert (None if found is None else found[1].path) == wanted


def test_examples_are_of_the_class_and_of_another_source(project):
    state = "select path, labels, state from labels_now"
    known = {path: (labels, clip_state) for path, labels, clip_state in rows(project, state)}
    items = read_queue(project, Choice(where="subset = 'train'")).items
    assert any(item.given_example for item in items)
    for item in items:
        if item.given_example is not None:
            name, example = item.given_example
            assert name in item.given and example.clip_id != item.clip_id
            labels, clip_state = known[example.path]
            assert name in labels and clip_state == "verified"
