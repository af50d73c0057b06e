"""Corrections as a table or as JSON, by a person or by a machine."""

import json

import pytest

from labelkit.config import FormatSpec
from labelkit.errors import FaultyFile, InvalidInput
from labelkit.labels.importing import import_labels
from labelkit.labels.kind import set_kind
from labelkit.project import create_project
from tests.support.commands import call, rows

STATES = ("unverified", "self_verified", "verified", "relabeled", "rejected")


@pytest.fixture
def project(tmp_path):
    """A clip of each state, all of class Dog; no recordings."""
    (tmp_path / "audio").mkdir()
    project, _ = create_project(tmp_path, tmp_path / "audio")
    lines = [{"path": f"x/{state}.wav", "labels": ["Dog"], "state": state} for state in STATES]
    source = tmp_path / "l.jsonl"
    source.write_text("\n".join(map(json.dumps, [{"classes": ["Cat", "Dog"]}, *lines])))
    import_labels(project, source, "jsonl", FormatSpec(), metadata_only=True)
    return project


def correct(project, text, *options):
    source = project.root / "c.csv"
    source.write_text(text)
    return call(project, "import", source, "--format", "corrections", *options)


def stands(project):
    found = rows(project, "select path, list_sort(labels), state from labels_now")
    return {path[2:-4]: (labels, state) for path, labels, state in found}


TABLES = {
    "path and labels": ("path,labels\nx/verified.wav,Cat\nx/unverified.wav,remove\n", []),
    "names alone": ("path,labels\nverified.wav,Cat\nunverified.wav,remove\n", []),
    "fname and label": ("fname,label\nverified.wav,Cat\nunverified.wav,remove\n", []),
    "semicolons": ("path;labels\nverified.wav;Cat\nunverified.wav;remove\n", []),
    "TABs, another order": ("labels\tpath\nCat\tverified.wav\nremove\tunverified.wav\n", []),
    "an index": (",path,labels\n0,verified.wav,Cat\n1,unverified.wav,remove\n", []),
    "more columns": (
        "path,labels,state,why\nverified.wav,Cat,verified,x\nunverified.wav,remove,,\n", [],
    ),
    "lists": ("path,labels\nverified.wav,['Cat']\nunverified.wav,remove\n", []),
    "columns by name": (
        "clip,now\nverified.wav,Cat\nunverified.wav,remove\n",
        ["--path-column", "clip", "--label-column", "now"],
    ),
    "backslashes": ("path,labels\nx\\verified.wav,Cat\nx\\unverified.wav,remove\n", []),
    "no extension": (
        "path,labels\nverified,Cat\nunverified,remove\n", ["--match", "stem"],
    ),
    "JSON": ('{"verified.wav": "Cat", "x/unverified.wav": "remove"}', []),
}  # fmt: skip


@pytest.mark.parametrize(("text", "options"), TABLES.values(), ids=TABLES)
def test_corrections_however_they_are_written(project, text, options):
    before = stands(project)
    done = correct(project, text, *options)
    assert done.exit_code == 0, done.output
    expected = {"verified": (["Cat"], "relabeled"), "unverified": ([], "rejected")}
    assert stands(project) == before | expected
    assert correct(project, text, *options).exit_code == 0
    assert rows(project, "select count(*) from batches") == [(2,)]


def test_several_labels_of_a_correction(project):
    set_kind(project, "several")
    correct(project, 'path,labels\nverified.wav,"Cat,Dog"\n')
    correct(project, "path,labels\nunverified.wav,Cat|Dog\n", "--separator", "|")
    correct(project, "path,label\nself_verified.wav,Cat\nself_verified.wav,Dog\n")
    found = stands(project)
    assert {found[name][0] == ["Cat", "Dog"] for name in STATES[:3]} == {True}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("path,labels\nverified.wav,\n", "row 2: label list '' has an empty entry"),
        ("path,labels\nverified.wav,nan\n", "is how programs write that there is none"),
        ("path,labels\nverified.wav,remove\nverified.wav,Cat\n", "is removed and labelled"),
        ("path,labels\nverified.wav,Wolf\n", "unknown class 'Wolf' for 'verified.wav'"),
        ("path,labels\nverifed.wav,Cat\n", "is not in the store; give the path of one"),
        ("path,labels\nVerified,Cat\n", "but 'x/verified.wav'; give --match nocase"),
        ("path,labels\nverified.wav,Cat\nx/verified.wav,Cat\n", "is the clip of row 2"),
        ("path;text\nverified.wav;Cat\n", "no column 'labels' in path, text"),
    ],
)
def test_corrections_that_are_none(project, text, fault):
    before = stands(project)
    done = correct(project, text)
    assert done.exit_code == 2 and fault in done.stderr
    assert stands(project) == before


def test_a_machine_changes_what_no_person_decided_and_vouches_for_nothing(project):
    before = stands(project)
    text = "path,labels\n" + "".join(f"{state}.wav,Cat\n" for state in STATES)
    done = correct(project, text, "--by", "machine", "--actor", "my script")
    assert done.exit_code == 0
    assert "3 clips stay as people decided them, 'x/verified.wav' say" in done.stderr
    changed = dict.fromkeys(STATES[:2], (["Cat"], "unverified"))
    assert stands(project) == before | changed
    assert rows(project, "select actor, by_person from batches order by batch_id")[1:] == [
        ("my script", False)
    ]
    # What it says of labels that are there already demotes none.
    again = correct(project, text, "--by", "machine", "--actor", "my script")
    assert "0 clips added, 0 changed" in again.stderr


def test_what_a_machine_agrees_with_stays_self_verified(project):
    assert (
        correct(project, "path,labels\nself_verified.wav,Dog\n", "--by", "machine").exit_code == 0
    )
    assert stands(project)["self_verified"] == (["Dog"], "self_verified")


def test_a_machine_removes_nothing(project):
    done = correct(project, "path,labels\nunverified.wav,remove\n", "--by", "machine")
    assert done.exit_code == 2 and "a machine cannot remove 'unverified.wav'" in done.stderr
    done = correct(project, "path,labels\nverified.wav,remove\n", "--by", "machine")
    assert done.exit_code == 0 and "stay as people decided them" in done.stderr


def test_who_corrected_is_in_the_history(project):
    assert correct(project, "path,labels\nverified.wav,Cat\n", "--actor", "anna").exit_code == 0
    assert rows(project, "select actor, by_person from batches order by batch_id")[1] == (
        "anna", True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "machine", "format": "csv"}, "--by machine is for corrections"),
        ({"actor": " ", "format": "csv"}, "actor ' '; give|actor ' ': give a name"),
        ({"by": "robot", "format": "csv"}, "by 'robot': give person or machine"),
        ({"spec": FormatSpec(path_column="p"), "format": "corrections"}, "has no columns to name"),
    ],
)
def test_options_that_would_do_nothing_are_refused(project, options, message):
    source = project.root / "x.csv"
    corrects = options["format"] == "corrections"
    source.write_text('{"verified.wav": "Cat"}' if corrects else "fname,label\na.wav,Dog\n")
    options = {"spec": FormatSpec()} | options
    with pytest.raises(InvalidInput, match=message) as caught:
        import_labels(project, source, metadata_only=True, **options)
    assert not isinstance(caught.value, FaultyFile)


def fill(project, *lines):
    source = project.root / "f.csv"
    source.write_text("fname,label\n" + "\n".join(lines) + "\n")
    done = call(project, "import", source, "--format", "csv", "--metadata-only", "--add-classes")
    assert done.exit_code == 0, done.output


RENAMES = [
    # Corrections, and whether they are but another name for a class of three clips.
    ("m1.wav,Katze\nm2.wav,Katze\nm3.wav,Katze", True),
    ("m1.wav,Katze\nm2.wav,Katze\nm3.wav,Katze\nr1.wav,Katze", True),
    ("m1.wav,Katze\nm2.wav,Katze", False),
    ("m1.wav,Katze\nm2.wav,Katze\nm3.wav,Regen", False),
    ("m1.wav,Katze\nm2.wav,Katze\nm3.wav,remove", False),
    ("r1.wav,Katze", False),
]


@pytest.mark.parametrize(("lines", "refused"), RENAMES)
def test_another_name_for_a_class_is_nobody_s_decision(project, lines, refused):
    fill(project, "m1.wav,Meow", "m2.wav,Meow", "m3.wav,Meow", "r1.wav,Regen", "k.wav,Katze")
    done = correct(project, f"path,labels\n{lines}\n")
    if refused:
        assert done.exit_code == 2 and "becomes 'Katze' on all 3 clips" in done.stderr
        assert "classes rename or merge" in done.stderr
        assert correct(project, f"path,labels\n{lines}\n", "--by", "person").exit_code == 0
        assert rows(project, "select state from labels_now where path = 'm1.wav'") == [
            ("relabeled",)
        ]
    else:
        assert done.exit_code == 0, done.output


FOLDERS = {
    # Path, options, the clip that is meant or what is said.
    "as it is": ("fold1/a.wav", [], "fold1/a.wav"),
    "another spelling": ("./fold1//a.wav", [], "fold1/a.wav"),
    "backslashes": ("fold1\\b.wav", [], "fold1/b.wav"),
    "NFD": ("fold1/Vo\u0308gel.wav", [], "fold1/V\u00f6gel.wav"),
    "another folder": ("fold1/c.wav", [], "but 'fold2/c.wav'; give --match name"),
    "a folder too many": ("clips/fold2/c.wav", [], "but 'fold2/c.wav'; give --match name"),
    "a folder too few": ("deep/d.wav", [], "but 'fold2/deep/d.wav'; give --match name"),
    "another folder of two": ("fold3/a.wav", [], "'fold3/a.wav' is not in the store; give the pa"),
    "backslashes of elsewhere": ("D:\\x\\c.wav", [], "but 'fold2/c.wav'; give --match name"),
    "of the prefix": ("c.wav", ["--prefix", "fold1"], "but 'fold2/c.wav'; give --match name"),
    "another folder, on request": ("fold1/c.wav", ["--match", "name"], "fold2/c.wav"),
    "a bare name": ("c.wav", [], "fold2/c.wav"),
    "a bare name, exact": ("c.wav", ["--match", "exact"], "but 'fold2/c.wav'; give --match name"),
    "a bare name of two": ("a.wav", [], "is in the store under several paths"),
    "no folder": ("top.wav", [], "top.wav"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "options", "found"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_is_given_is_meant(project, path, options, found):
    there = ["fold1/a.wav", "fold2/a.wav", "fold1/b.wav", "fold2/c.wav", "fold2/deep/d.wav",
             "top.wav", "deep/top.wav", "fold1/V\u00f6gel.wav"]  # fmt: skip
    fill(project, *(f"{name},Dog" for name in there))
    done = correct(project, f"path,labels\n{path},Cat\n", *options)
    changed = rows(project, "select path from labels_now where state = 'relabeled' and "
                   "list_contains(labels, 'Cat')")  # fmt: skip
    if found not in there:
        assert done.exit_code == 2 and found in done.stderr and changed == []
        return
    assert done.exit_code == 0 and changed == [(found,)], done.output
    # Empty parts and dots mean nothing.
    told = path not in (found, "./fold1//a.wav")
    assert ("1 paths are not quite those of the clips" in done.stderr) == told
    assert not told or f"say is taken for {found!r}" in done.stderr
