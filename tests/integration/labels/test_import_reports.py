"""What an import takes, leaves out and finds odd is told before anything is kept."""

import os
import pty
import re
import select
import subprocess
import sys

import pytest

from labelkit.config import FormatSpec
from labelkit.datasets.walking import is_junk
from labelkit.errors import FaultyFile, InvalidInput
from labelkit.labels.importing import import_labels
from labelkit.project import create_project
from tests.support.clips import write_csv
from tests.support.commands import call, rows, snapshot

# What computers leave in a folder of recordings; none of it is a clip or makes a class.
JUNK = [
    "Dog/._1.wav", "Dog/.ipynb_checkpoints/1-checkpoint.wav", "__MACOSX/Dog/._1.wav",
    "__MACOSX/Dog/1.wav", ".Trash-1000/files/x.wav", ".Trashes/501/x.wav", ".git/x.wav",
    "@eaDir/1.wav/SYNOAUDIO.wav", "Dog/@eaDir/x.wav", "#recycle/x.wav", "$RECYCLE.BIN/S-1/x.wav",
    "$Recycle.Bin/x.wav", "System Volume Information/x.wav", "lost+found/x.wav", "Thumbs.db",
    "Dog/Thumbs.db", "Dog/desktop.ini", ".DS_Store", "Dog/.DS_Store", "Dog/.hidden.wav",
    ".hidden/x.wav", "__pycache__/x.wav", "Dog/2.wav.part", "Dog/3.wav.crdownload", "Dog/~$4.wav",
    ".Spotlight-V100/x.wav", ".fseventsd/x.wav", "Network Trash Folder/x.wav",
]  # fmt: skip


@pytest.fixture
def place(tmp_path, tone):
    """A function that makes a project with these recordings, each of other bytes."""

    def place(*paths):
        (tmp_path / "audio").mkdir(exist_ok=True)
        for number, path in enumerate(paths):
            file = tmp_path / "audio" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tone + number.to_bytes(2, "big"))
        return create_project(tmp_path, tmp_path / "audio")[0]

    return place


def labels_of(project):
    return dict(rows(project, "select path, list_sort(labels) from labels_now"))


def table(project, *lines, header=("fname", "label")):
    return write_csv(project.root / "l.csv", header, lines)


def test_junk_is_no_clip_and_no_class(place):
    project = place("Dog/1.wav", "Cat/2.wav", *JUNK)
    report = import_labels(project, project.audio_dir, "folder", FormatSpec())
    assert labels_of(project) == {"Dog/1.wav": ["Dog"], "Cat/2.wav": ["Cat"]}
    # Folders count once, whatever is in them.
    tops = {re.match("(Dog/[^/]*|[^/]*)", path)[0] for path in JUNK}
    [line] = report.left_out
    assert line.startswith(f"{len(tops)} hidden files and folders") and "'#recycle/' say" in line
    # Who names such a file means it.
    assert call(project, "import", table(project, (".git/x.wav", "Dog"))).exit_code == 0


@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_known_by_its_name(junk):
    assert any(is_junk(part) for part in junk.split("/"))
    assert not any(is_junk(part) for part in ("1.wav", "Dog", "tmp", "a.b", "_x", "~a", "recycle"))


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_name_that_is_not_utf8_is_left_out_and_told(place, tone, kind):
    project = place("Dog/1.wav", "Cat/2.wav")
    name = b"V\xf6gel" if kind == "folder" else b"Dog"
    folder = os.path.join(os.fsencode(project.audio_dir), name)
    os.makedirs(folder, exist_ok=True)
    for number in range(3):
        with open(os.path.join(folder, b"V\xf6gel%d.wav" % number), "wb") as file:
            file.write(tone + b"x%d" % number)
    done = call(project, "import", project.audio_dir)
    assert done.exit_code == 0 and len(labels_of(project)) == 2
    count = 1 if kind == "folder" else 3
    assert f"{count} names are not UTF-8 and left out" in done.stderr
    assert f"rename the {kind}: convmv -r -f cp1252" in done.stderr and "Vögel" in done.stderr


def test_what_is_no_recording_and_linked_folders_are_told(place, tmp_path):
    project = place("Dog/1.wav", "Cat/2.wav", "Cat/notes.txt", "Cat/list.csv", "Cat/cover.jpg")
    (project.audio_dir / "Puppy").symlink_to(project.audio_dir / "Dog")
    report = import_labels(project, project.audio_dir, "folder", FormatSpec())
    assert report.counts == {"Cat": 1, "Dog": 1, "Puppy": 1}
    assert len(report.left_out) == 2
    assert "'Puppy' say; what lies there is taken under both names" in report.left_out[0]
    assert "3 files are left out, by their names no recordings: " in report.left_out[1]
    assert all(kind in report.left_out[1] for kind in ("1 .txt", "1 .csv", "1 .jpg", "'Cat/"))


def test_a_class_of_which_nothing_can_be_taken_is_told(place):
    project = place("Dog/1.wav", "Bird/1.mid", "Bird/deep/2.mid")
    (project.audio_dir / "Cat").mkdir()
    done = call(project, "import", project.audio_dir)
    assert done.exit_code == 0 and labels_of(project) == {"Dog/1.wav": ["Dog"]}
    assert "2 class folders have no recording that can be taken" in done.stderr
    assert "'Bird' say" in done.stderr and "2 .mid" in done.stderr


def test_a_folder_that_cannot_be_looked_into_is_told(place, monkeypatch):
    project, look = place("Dog/1.wav", "Cat/1.wav"), os.scandir

    def refuse(folder):
        # As whoever is not root is refused, whom no folder can keep out.
        if str(folder).endswith("Cat"):
            raise PermissionError(13, "Permission denied", str(folder))
        return look(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    done = call(project, "import", project.audio_dir)
    assert "1 folders cannot be looked into" in done.stderr and "Cat" in done.stderr


LONG = [("a.wav", "Dog"), ("a.wav", "Cat"), ("b.wav", "Cat"), ("a.wav", "Rain"), ("b.wav", "Cat")]


def test_a_row_for_each_label_is_joined(place):
    project = place("a.wav", "b.wav")
    done = call(project, "import", table(project, *LONG))
    assert done.exit_code == 0
    assert labels_of(project) == {"a.wav": ["Cat", "Dog", "Rain"], "b.wav": ["Cat"]}
    assert "2 rows are further labels of clips" in done.stderr and "Dog, Cat, Rain" in done.stderr
    assert "1 rows say again what others say" in done.stderr
    assert "2 rows (2 unverified): 2 clips added" in done.stderr
    assert call(project, "import", table(project, *reversed(LONG))).exit_code == 0


@pytest.mark.parametrize(
    ("option", "cells"),
    [("verified", "10"), ("fold", "01"), ("group", "xy"), ("duration", ("1", "1.5")),
     ("hash", ("a" * 32, "b" * 32)), ("state", ("verified", "unverified")),
     ("subset", ("train", "test"))],
)  # fmt: skip
def test_rows_of_a_clip_that_differ_in_more_than_labels_are_a_fault(place, option, cells):
    project = place("a.wav")
    lines = [("a.wav", name, cell) for name, cell in zip(("Dog", "Cat"), cells, strict=True)]
    source = table(project, *lines, header=("fname", "label", "x"))
    spec = FormatSpec(**{f"{option}_column": "x"})
    with pytest.raises(
        FaultyFile, match=r"row 3: duplicate file name 'a.wav', first in row 2, but"
    ):
        import_labels(project, source, "csv", spec)
    alike = [("a.wav", "Dog", cells[0]), ("a.wav", "Cat", cells[0])]
    import_labels(project, table(project, *alike, header=("fname", "label", "x")), "csv", spec)
    assert labels_of(project) == {"a.wav": ["Cat", "Dog"]}


SOURCES = {
    "a table": (FormatSpec(), "csv", [("a.wav", "Dog"), ("b.wav", "dog")]),
    "corrections": (FormatSpec(), "corrections", '{"a.wav": "Cat"}'),
    "found out": (FormatSpec(), None, [("a.wav", "Dog")]),
    "a fault": (FormatSpec(), "csv", [("a.wav", "Dog"), ("z.wav", "Dog")]),
}


@pytest.mark.parametrize(("spec", "format", "content"), SOURCES.values(), ids=SOURCES)
def test_a_dry_run_says_what_an_import_does_and_changes_nothing(place, spec, format, content):
    project = place("a.wav", "b.wav", "c.wav")
    if format == "corrections":
        import_labels(project, table(project, ("a.wav", "Dog"), ("b.wav", "Cat")), "csv", spec)
        source = project.root / "c.json"
        source.write_text(content)
    else:
        source = table(project, *content)
    before = snapshot(project)
    options = [] if format is None else ["--format", format]
    tried = call(project, "import", source, *options, "--dry-run")
    assert snapshot(project) == before
    done = call(project, "import", source, *options)
    assert tried.exit_code == done.exit_code == (2 if "z.wav" in str(content) else 0)
    told = tried.stderr.replace("would be added", "added").replace(
        "a clip would have one label from then on",
        "one label a clip, from now on; labelkit labels shows and changes it",
    )
    assert sorted(told.splitlines()) == sorted(
        line for line in done.stderr.splitlines() if not line.startswith("next: ")
    )
    assert "from now on" not in tried.stderr
    assert (snapshot(project) == before) == (done.exit_code != 0)


@pytest.mark.parametrize(
    ("lines", "labels"),
    [([("a.wav", "Dog")], "one label"), ([("a.wav", "Dog"), ("a.wav", "Cat")], "several labels")],
)
def test_what_is_only_tried_holds_from_now_on_for_nothing(place, lines, labels):
    project = place("a.wav")
    for _ in range(2):
        tried = call(project, "import", table(project, *lines), "--dry-run")
        assert f"a clip would have {labels} from then on" in tried.stderr
        assert "from now on" not in tried.stderr
    done = call(project, "import", table(project, *lines))
    assert f"{labels} a clip, from now on; labelkit labels shows and changes it" in done.stderr
    assert "from then on" not in done.stderr


def test_answers_are_no_label_file_and_the_command_is_named(place):
    project = place("a.wav")
    file = project.root / "my export.json"
    file.write_text("[]")
    with pytest.raises(InvalidInput, match=r"labelkit import '.*my export.json' --format labels"):
        import_labels(project, file, "labelstudio", FormatSpec())


def test_classes_and_their_counts_are_told(place):
    project = place()
    lines = [(f"{n}.wav", f"class {n % 30:02}") for n in range(95)]
    done = call(project, "import", table(project, *lines), "--metadata-only")
    shown = [line for line in done.stderr.splitlines() if line.startswith("  class")]
    assert len(shown) == 20 and shown[0] == "  class 00  4" and shown[5] == "  class 05  3"
    assert "  ... and 10 more classes, of 30 labels" in done.stderr
    report = import_labels(project, project.root / "l.csv", None, FormatSpec(), metadata_only=True)
    assert sum(report.counts.values()) == 95 and report.odd == []


def test_new_names_are_compared_with_those_of_the_store(place):
    project = place("a.wav", "b.wav")
    import_labels(project, table(project, ("a.wav", "Dog bark")), "csv", FormatSpec())
    source = table(project, ("b.wav", "dog_bark"))
    report = import_labels(project, source, "csv", FormatSpec(), add_classes=True)
    assert "'Dog bark', 'dog_bark'" in report.odd[0]
    (project.root / "c.json").write_text('{"b.wav": "Dog  bark"}')
    report = import_labels(
        project, project.root / "c.json", "corrections", FormatSpec(), add_classes=True
    )
    assert "'Dog  bark'" in report.odd[0]


def test_a_separator_that_was_forgotten_is_named(place):
    project = place()
    source = table(project, ("a.wav", "Dog;Cat"), ("b.wav", "Cat"), ("c.wav", "Dog"))
    done = call(project, "import", source, "--metadata-only", "--dry-run")
    assert "odd: 1 class with ';' in the name: 'Dog;Cat'" in done.stderr
    assert "--separator ';'" in done.stderr
    done = call(project, "import", source, "--metadata-only", "--separator", ";")
    assert "odd" not in done.stderr and labels_of(project)["a.wav"] == ["Cat", "Dog"]


def on_terminal(project, answer, *args):
    """Run the command on a terminal of its own; returns its exit code and all that was said."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "labelkit", "-C", str(project.root), "import", *map(str, args)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said, asked = b"", False
    while select.select([ours], [], [], 60)[0]:
        try:
            part = os.read(ours, 4096)
        except OSError:  # So Linux says that the other end is closed.
            break
        if not part:
            break
        said += part
        if b"[y/N]" in said and not asked:
            asked = True
            os.write(ours, answer.encode() + b"\n")
    os.close(ours)
    return process.wait(60), said.decode().replace("\r\n", "\n"), asked


@pytest.mark.slow
@pytest.mark.parametrize(
    ("second", "answer", "options", "code", "asks"),
    [
        ("dog", "y", [], 0, True), ("dog", "n", [], 1, True), ("dog", "", [], 1, True),
        ("dog", "n", ["--yes"], 0, False), ("Cat", "n", [], 0, False),
        ("dog", "n", ["--dry-run"], 0, False),
    ],
)  # fmt: skip
def test_on_a_terminal_one_is_asked_where_something_looks_odd(
    place, second, answer, options, code, asks
):
    project = place("a.wav", "b.wav")
    source = table(project, ("a.wav", "Dog"), ("b.wav", second))
    found, said, asked = on_terminal(project, answer, source, *options)
    assert (found, asked) == (code, asks), said
    assert ("look alike" in said) == (second == "dog")
    kept = code == 0 and "--dry-run" not in options
    assert len(labels_of(project)) == (2 if kept else 0)


@pytest.mark.parametrize("format", ["csv", "jsonl", "corrections", "parquet", "esc50", None])
def test_a_label_file_that_cannot_be_read_says_so(place, format, monkeypatch):
    project = place("a.wav")
    source = table(project, ("a.wav", "Dog"))
    source.chmod(0)
    if os.access(source, os.R_OK):  # Root may read anything: a folder cannot be, whoever asks.
        source.unlink()
        source.mkdir()
        # Which is a format of its own, if nobody says otherwise.
        format = format or "csv"
    options = [] if format is None else ["--format", format]
    done = call(project, "import", source, *options)
    assert done.exit_code == 2 and "written to" not in done.stderr
    assert "cannot be read" in done.stderr or "not Parquet" in done.stderr
    with pytest.raises(InvalidInput, match="no such file"):
        import_labels(project, project.root / "none.csv", format, FormatSpec())
