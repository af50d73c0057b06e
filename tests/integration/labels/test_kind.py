"""Whether a clip has one label or several is said once, and no slip changes it."""

import json

import pytest

from labelkit.config import choose_head
from labelkit.project import create_project
from tests.support.clips import write_csv
from tests.support.commands import call, refused, rows

ONE = [("a.wav", "Dog"), ("b.wav", "Cat"), ("c.wav", "Dog")]
SEVERAL = [("a.wav", "Dog,Cat"), ("b.wav", "Cat"), ("c.wav", "Dog")]


@pytest.fixture
def project(tmp_path):
    """Nothing in it."""
    (tmp_path / "audio").mkdir()
    return create_project(tmp_path, tmp_path / "audio")[0]


def bring(project, name, lines, *words):
    file = write_csv(project.root / f"{name}.csv", ("fname", "label"), lines)
    return call(project, "import", file, "--format", "csv", "--metadata-only", *words)


def kind(project):
    done = call(project, "labels", "--json")
    with project.store.read() as session:
        assert session.labels().several == (json.loads(done.stdout)[0]["labels"] == "several")
    status = call(project, "status", "--json")
    said = {row["what"]: row["value"] for row in json.loads(status.stdout)}
    assert said["labels a clip"] == json.loads(done.stdout)[0]["labels"]
    return said["labels a clip"]


@pytest.mark.parametrize(("lines", "found"), [(ONE, "one"), (SEVERAL, "several")])
def test_the_first_import_says_it(project, lines, found):
    done = bring(project, "l", lines)
    label = {"one": "one label a clip", "several": "several labels a clip"}[found]
    assert label in done.stderr and "labelkit labels" in done.stderr
    assert kind(project) == found
    # A later one does not.
    assert "a clip, from now on" not in bring(project, "m", [("d.wav", "Dog")]).stderr
    assert kind(project) == found
    # What said it can be taken back.
    batches = rows(project, "select batch_id from batches order by 1 desc")
    for (batch,) in batches:
        assert call(project, "undo", batch).exit_code == 0
    other = SEVERAL if lines is ONE else ONE
    assert bring(project, "o", other).exit_code == 0
    assert kind(project) == {"one": "several", "several": "one"}[found]


def test_init_may_say_it(tmp_path):
    (tmp_path / "audio").mkdir()

    class Place:
        root = tmp_path

    for said in ("several", "one"):
        done = call(Place, "init", tmp_path / "audio", "--labels", said)
        assert done.exit_code == 0, done.output
        assert json.loads(call(Place, "labels", "--json").stdout)[0]["labels"] == said
    done = bring(Place, "l", SEVERAL)
    assert done.exit_code == 2 and "labelkit labels several" in done.stderr


BREAKS = [
    # A file, its format, and how it goes against one label a clip.
    ("x.csv", 'fname,label\nd.wav,"Dog,Cat"\n', "csv"),
    ("x.jsonl", '{"path": "d.wav", "labels": ["Dog", "Cat"]}\n', "jsonl"),
    ("x.json", '{"a.wav": "Dog,Cat"}', "corrections"),
    ("x.json", '{"a.wav": ["Cat", "Dog"], "b.wav": "Dog"}', "corrections"),
    ("train_curated.csv", 'fname,labels\nd.wav,"Dog,Cat"\n', "fsdkaggle2019"),
    ("long.csv", "fname,label\nd.wav,Dog\nd.wav,Cat\n", "csv"),
]


@pytest.mark.parametrize(("name", "text", "format"), BREAKS)
def test_what_breaks_it_is_refused_and_the_way_named(project, name, text, format):
    bring(project, "l", ONE)
    file = project.root / name
    file.write_text(text)
    words = [] if format == "corrections" else ["--metadata-only"]
    before = rows(project, "select path, labels, state from labels_now order by 1")
    done = call(project, "import", file, "--format", format, *words)
    assert done.exit_code == 2 and "labelkit labels several" in done.stderr, done.output
    assert rows(project, "select path, labels, state from labels_now order by 1") == before
    assert kind(project) == "one"
    assert call(project, "labels", "several").exit_code == 0
    assert call(project, "import", file, "--format", format, *words).exit_code == 0
    assert kind(project) == "several"


def test_back_to_one_only_where_clips_have_one(project):
    bring(project, "l", SEVERAL)
    refused(call(project, "labels", "one"), "1 clips have several labels, 'a.wav' say",
            "labelkit label CLIP CLASS")  # fmt: skip
    assert call(project, "label", "a.wav", "Dog").exit_code == 0
    assert call(project, "labels", "one").exit_code == 0
    assert kind(project) == "one"
    again = call(project, "labels", "one", "--json")
    assert json.loads(again.stdout)[0]["batch"] is None
    # It was so then.
    past = call(project, "status", "--as-of", "1", "--json")
    assert {"what": "labels a clip", "value": "several"} in json.loads(past.stdout)


@pytest.mark.parametrize(
    ("head", "several", "found"),
    [("auto", False, "softmax"), ("auto", True, "sigmoid"), ("softmax", False, "softmax"),
     ("sigmoid", False, "sigmoid"), ("sigmoid", True, "sigmoid")],
)  # fmt: skip
def test_the_head_follows_the_project(head, several, found):
    assert choose_head(head, several=several) == found
