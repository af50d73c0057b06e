"""Files that call classes as they were called before they were renamed, merged or retired."""

import json

import pytest

from labelkit.project import create_project
from tests.support.commands import call, rows, snapshot

LABELS = {"1.wav": "A", "2.wav": "B", "3.wav": "A", "4.wav": "C"}


def csv(labels):
    return "fname,label\n" + "".join(f"{path},{name}\n" for path, name in labels.items())


def jsonl(labels):
    lines = [{"path": path, "labels": [name]} for path, name in labels.items()]
    classes = {"classes": sorted(set(labels.values()))}
    return "\n".join(map(json.dumps, [classes, *lines]))


@pytest.fixture
def project(tmp_path):
    (tmp_path / "audio").mkdir()
    return create_project(tmp_path, tmp_path / "audio")[0]


def bring(project, text, *options, name="l.csv"):
    (project.root / name).write_text(text)
    return call(project, "import", project.root / name, "--metadata-only", *options)


def correct(project, text, *options):
    (project.root / "c.csv").write_text(text)
    return call(project, "import", project.root / "c.csv", "--format", "corrections", *options)


def labels_of(project):
    return {path: labels for path, labels in rows(project, "select path, labels from labels_now")}


def classes(project, *words):
    done = call(project, "classes", *words)
    assert done.exit_code == 0, done.output


CHANGES = {
    # What became of the classes, and what is told of names that are others now.
    "renamed": (["rename A X"], "1 class is called otherwise now: 'A' is 'X'"),
    "renamed twice": (["rename A Y", "rename Y X"], "'A' is 'X'"),
    "two renamed": (["rename A X", "rename B Y"], "2 classes are called otherwise now: 'A' is 'X', "
                    "'B' is 'Y'"),
    "merged": (["merge A B"], "'A' is 'B'"),
    "merged and renamed": (["merge A B", "rename B X"], "'A' is 'X', 'B' is 'X'"),
    "given to another": (["rename A X", "rename B A"], "1 class is called otherwise now: 'B' is"),
}  # fmt: skip


@pytest.mark.parametrize("format", [csv, jsonl])
@pytest.mark.parametrize(("changes", "told"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("options", [[], ["--add-classes"]])
def test_the_same_file_again_adds_nothing(project, format, changes, told, options):
    text, name = format(LABELS), f"l.{format.__name__}"
    assert bring(project, text, name=name).exit_code == 0
    for change in changes:
        classes(project, *change.split())
    before = snapshot(project)
    done = bring(project, text, *options, name=name)
    if "rename B A" in changes:
        # A class of today has its name, whatever was called so before.
        assert done.exit_code == 2 and "'1.wav' was imported before as X" in done.stderr
        return
    assert done.exit_code == 0, done.output
    assert told in done.stderr and "0 clips added, 0 changed" in done.stderr
    assert snapshot(project) == before


def test_new_clips_and_corrections_get_the_class_of_today(project):
    bring(project, csv(LABELS))
    classes(project, "rename", "A", "X")
    done = bring(project, csv({"5.wav": "A", "6.wav": "X"}), "--dry-run")
    assert "'A' is 'X'" in done.stderr and len(labels_of(project)) == 4
    assert bring(project, csv({"5.wav": "A", "6.wav": "X"})).exit_code == 0
    done = correct(project, "path,labels\n2.wav,A\n1.wav,A\n")
    assert done.exit_code == 0 and "'A' is 'X'" in done.stderr
    assert "2 changed" in done.stderr
    found = labels_of(project)
    assert {found[f"{k}.wav"][0] for k in (1, 2, 3, 5, 6)} == {"X"}
    assert rows(project, "select count(*) from classes") == [(3,)]
    assert "0 changed" in correct(project, "path,labels\n2.wav,A\n1.wav,A\n").stderr


def test_labels_that_became_one_are_one(project):
    text = "fname,label\n1.wav,A\n1.wav,B\n2.wav,B\n"
    assert bring(project, text).exit_code == 0
    classes(project, "merge", "A", "B")
    assert "0 clips added" in bring(project, text).stderr
    assert bring(project, "fname,label\n3.wav,A\n3.wav,B\n").exit_code == 0
    assert labels_of(project)["3.wav"] == ["B"]


@pytest.mark.parametrize("by", [csv, "corrections", "labelstudio"])
@pytest.mark.parametrize("former", [False, True])
def test_the_name_of_a_retired_class_is_told_as_such(project, by, former):
    bring(project, csv(LABELS))
    if former:
        classes(project, "rename", "A", "X")
    classes(project, "retire", "X" if former else "A")
    [(batch,)] = rows(project, "select max(batch_id) from batches")
    if by == "labelstudio":
        done = import_export(project, "A", "--metadata-only")
    elif by == "corrections":
        done = correct(project, "path,labels\n2.wav,A\n")
    else:
        done = bring(project, csv({"5.wav": "A"}))
    said = "as 'X'" if former else ""
    assert done.exit_code == 2 and "unknown class 'A'" in done.stderr
    assert f"it was retired{' ' * former}{said}: leave it out, take that back with" in done.stderr
    assert call(project, "undo", str(batch)).exit_code == 0
    assert bring(project, csv(LABELS)).exit_code == 0


def test_a_retired_class_comes_back_with_a_word(project):
    bring(project, csv(LABELS))
    classes(project, "retire", "A")
    assert bring(project, csv({"5.wav": "A"}), "--add-classes").exit_code == 0
    assert labels_of(project)["5.wav"] == ["A"] and labels_of(project)["1.wav"] == ["A"]


def import_export(project, name, *options):
    item = {"id": "x", "from_name": "c", "to_name": "audio", "type": "choices", "origin": "manual",
            "value": {"choices": [name]}}  # fmt: skip
    mark = {
        "id": 11, "completed_by": {"id": 4, "email": "anna@example.org"}, "was_cancelled": False,
        "lead_time": 2.0, "created_at": "2036-01-02T03:04:05Z",
        "updated_at": "2036-01-02T03:04:05Z", "parent_prediction": None,
        "parent_annotation": None, "result": [item],
    }  # fmt: skip
    task = {"id": 1, "project": 7, "data": {"audio": "2.wav"}, "annotations": [mark]}
    (project.root / "e.json").write_text(json.dumps([task]))
    return call(project, "import", project.root / "e.json", "--format", "labelstudio", *options)


@pytest.mark.parametrize("options", [[], ["--add-classes"]])
def test_a_foreign_export_says_a_former_name(project, options):
    bring(project, csv(LABELS))
    classes(project, "rename", "A", "X")
    done = import_export(project, "A", "--metadata-only", *options)
    assert done.exit_code == 0 and "1 class is called otherwise now: 'A' is 'X'" in done.stderr
    assert "  X  1" in done.stderr
    assert labels_of(project)["2.wav"] == ["X"]
    assert rows(project, "select count(*) from classes") == [(3,)]
    before = snapshot(project)
    assert import_export(project, "A", "--metadata-only").exit_code == 0
    assert snapshot(project) == before
