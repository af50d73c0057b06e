"""What is exported comes back: the same labels, classes and folds, and then the same bytes."""

import csv
import json
import os

import pytest
from click.testing import CliRunner

from labelkit import registry
from labelkit.cli import cli
from labelkit.config import FormatSpec
from labelkit.datasets.formats import read_csv, read_folder
from labelkit.datasets.writers import fills_folder, write_csv
from labelkit.errors import InvalidInput, UnknownName
from labelkit.labels.exporting import export_labels
from labelkit.labels.importing import import_labels
from labelkit.project import create_project
from labelkit.records import Batch, Clip, LabelEvent

CLASSES = ["Dog", "Rain, heavy", "Alarm", ' "odd" ', "猫", "[]", "Unused", "tab;semicolon|pipe"]
WHOLE = ["csv", "jsonl", "parquet"]
CLIPS = [
    Clip(path="a.wav", labels=("Dog",), state="verified", group="u1", fold=0, duration_s=1 / 3),
    Clip(
        path="sub/b c.wav", labels=("猫", "Alarm", "Rain, heavy"), fold=1, content_hash="0af1" * 8
    ),
    Clip(
        path=" b.wav ", labels=(' "odd" ',), state="relabeled", fold=0, group=" u 2", domain=" 7.0"
    ),
    Clip(path='"q".wav', labels=("[]",), state="self_verified", group='"u"'),
    Clip(path="c,d.wav", state="unverified", fold=1, group=""),
    Clip(path="e.wav", labels=("tab;semicolon|pipe", "Dog"), state="rejected", duration_s=1e-9),
    Clip(path="f.wav", state="rejected", group="two\nlines\r"),
    Clip(path="g.wav", labels=("Alarm",), state="verified", subset="test", duration_s=2.0),
    Clip(path="ü/h.wav", labels=("Dog",), group="u1", fold=0, domain="Ånn"),
]


def make(folder, clips=CLIPS, classes=CLASSES):
    root = folder / "project"
    (root / "audio").mkdir(parents=True)
    project, _ = create_project(root, root / "audio")
    if clips:
        with project.store.write() as session:
            session.append(
                Batch(key="1", kind="import", actor="me", by_person=True, classes=classes,
                      clips=clips)
            )  # fmt: skip
    return project


def bring(folder, file, format, spec=None):
    project = make(folder, [])
    import_labels(project, file, format, spec or FormatSpec(), metadata_only=True)
    return project


def everything(project):
    with project.store.read() as session:
        return session.rows(
            "select c.path, list_sort(l.labels), l.state, c.group_name, c.subset, c.content_hash, "
            "c.duration_s, f.fold from labels_now l join clips c using (clip_id) "
            "left join folds f on f.clip_id = c.clip_id and f.fold_set = 'imported' "
            "order by c.clip_id"
        )


def classes(project):
    with project.store.read() as session:
        return session.classes()


def call(project, *args):
    return CliRunner().invoke(cli, ["-C", str(project.root), *map(str, args)])


def test_what_can_be_written_can_be_read():
    assert set(registry.names("writer")) <= set(registry.names("format"))


@pytest.mark.parametrize("format", WHOLE)
def test_a_round_trip_is_identity(tmp_path, format):
    project = make(tmp_path / "one")
    first = tmp_path / "first.file"
    report = export_labels(project, first, format)
    assert (report.clips, report.fold_set) == (len(CLIPS), "imported")
    second = bring(tmp_path / "two", first, format)
    assert everything(second) == everything(project)
    export_labels(second, tmp_path / "second.file", format)
    assert (tmp_path / "second.file").read_bytes() == first.read_bytes()
    if format == "csv":
        assert classes(second) == sorted(set(CLASSES) - {"Unused"})
        assert report.unsaid["class without a clip is not in the file"] == ["Unused"]
        assert any("order of the classes is lost" in what for what in report.unsaid)
    else:
        assert classes(second) == CLASSES and report.unsaid == {}
    # Into the project it came from, it says nothing new.
    again = import_labels(project, first, format, FormatSpec(), metadata_only=True)
    assert (again.added, again.changed) == (0, 0)
    assert everything(second) == everything(project)


@pytest.mark.parametrize("separator", [";", "|", " ", "; ", "o", "::", "\t"])
def test_any_separator_parts_any_names(tmp_path, separator):
    project = make(tmp_path / "one", classes=[*CLASSES, "a:", ":b", "c::d", "e f"])
    extra = [Clip(path="x.wav", labels=("a:", ":b", "c::d", "e f"), state="verified")]
    with project.store.write() as session:
        session.append(Batch(key="2", kind="import", actor="me", by_person=True, clips=extra))
    export_labels(project, tmp_path / "x.csv", "csv", separator=separator)
    second = bring(tmp_path / "two", tmp_path / "x.csv", "csv", FormatSpec(separator=separator))
    assert everything(second) == everything(project)


def test_plain_names_stay_plain_in_csv(tmp_path):
    clips = [Clip(path="a.wav", labels=("Dog", "Cat")), Clip(path="b.wav", duration_s=0.1)]
    export_labels(make(tmp_path, clips, ["Dog", "Cat"]), tmp_path / "x.csv", "csv")
    assert list(csv.reader((tmp_path / "x.csv").read_text().splitlines())) == [
        ["path", "labels", "state", "fold", "group", "subset", "content_hash", "duration_s"],
        ["a.wav", "Cat,Dog", "unverified", "", "", "train", "", ""],
        ["b.wav", "", "unverified", "", "", "train", "", "0.1"],
    ]


# The clips that both FSDKaggle formats can say, and those that 2019 can say besides.
PLAIN = [
    Clip(path="a.wav", labels=("Dog",), state="verified"),
    Clip(path="b,c.wav", labels=('a "quoted" cat',), state="unverified"),
    Clip(path="d.wav", labels=("Alarm",), state="verified"),
]
SEVERAL = [Clip(path="e.wav", labels=("Alarm", "Dog")), *PLAIN]
PLAIN_CLASSES = ["Alarm", "Dog", 'a "quoted" cat']


@pytest.mark.parametrize(
    ("format", "clips"), [("fsdkaggle2018", PLAIN), ("fsdkaggle2019", SEVERAL)]
)
def test_what_fsdkaggle_can_say_comes_back(tmp_path, format, clips):
    project = make(tmp_path / "one", clips, PLAIN_CLASSES)
    assert export_labels(project, tmp_path / "first", format).unsaid == {}
    second = bring(tmp_path / "two", tmp_path / "first", format)
    assert sorted(everything(second)) == sorted(everything(project))
    assert classes(second) == PLAIN_CLASSES
    export_labels(second, tmp_path / "second", format)
    names = ("train_curated.csv", "train_noisy.csv") if format == "fsdkaggle2019" else ("",)
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_what_fsdkaggle2018_cannot_say_is_told(tmp_path):
    project = make(tmp_path)
    done = call(project, "export", tmp_path / "x.csv", "--format", "fsdkaggle2018")
    assert done.exit_code == 0 and done.stdout == "", done.output
    for line in (
        "left out, rejected: 2 (e.wav, f.wav)",
        "left out, subset test: 1 (g.wav)",
        "left out, no label: 1 (c,d.wav)",
        "left out, several labels: 1 (sub/b c.wav)",
        'left out, a space or a quote at the end of a name: 2 ( b.wav , "q".wav)',
        "fold is not in the file: 2 (a.wav, ü/h.wav)",
        "group is not in the file: 2 (a.wav, ü/h.wav)",
        "duration_s is not in the file: 1 (a.wav)",
        "wrote 2 clips to",
    ):
        assert line in done.stderr
    assert (tmp_path / "x.csv").read_text() == (
        "fname,label,manually_verified\na.wav,Dog,1\nü/h.wav,Dog,0\n"
    )


def test_what_fsdkaggle2019_cannot_say_is_told(tmp_path):
    clips = [
        Clip(path="a.wav", labels=("Rain, heavy",)), Clip(path="b.wav", labels=("Dog",)),
        Clip(path="c.wav", labels=("Dog",), state="self_verified"),
        Clip(path="d.wav", labels=("Dog",), state="relabeled"),
    ]  # fmt: skip
    report = export_labels(make(tmp_path, clips), tmp_path / "set", "fsdkaggle2019")
    assert report.clips == 3
    said = report.unsaid
    assert said["left out, a comma in a label"] == ["a.wav"]
    assert said["self_verified, which the file calls not manually verified"] == ["c.wav"]
    assert said["relabeled, which the file calls manually verified"] == ["d.wav"]
    second = bring(tmp_path / "two", tmp_path / "set", "fsdkaggle2019")
    states = {row[0]: row[2] for row in everything(second)}
    assert states == {"b.wav": "unverified", "c.wav": "unverified", "d.wav": "verified"}


def test_a_fold_set_is_chosen_by_name(tmp_path):
    project = make(tmp_path)
    with project.store.write() as session:
        session.append(
            Batch(key="2", kind="folds", actor="me", by_person=False, fold_set="2-seed0",
                  folds={0: 1, 8: 1, 1: 0})
        )  # fmt: skip
    for named, wanted, folds in (
        (None, "2-seed0", {0: 1, 8: 1, 1: 0}),
        ("imported", "imported", {0: 0, 1: 1, 2: 0, 4: 1, 8: 0}),
    ):
        report = export_labels(project, tmp_path / "x", "jsonl", fold_set=named, force=True)
        items = [json.loads(line) for line in (tmp_path / "x").read_text().splitlines()[1:]]
        assert report.fold_set == wanted
        assert {n: item["fold"] for n, item in enumerate(items) if "fold" in item} == folds
    with pytest.raises(UnknownName, match="no fold set 'importd'; did you mean 'imported'"):
        export_labels(project, tmp_path / "y", "jsonl", fold_set="importd")


def test_labels_as_they_were(tmp_path):
    project = make(tmp_path, PLAIN, PLAIN_CLASSES)
    export_labels(project, tmp_path / "before", "csv")
    event = LabelEvent(clip_id=0, state="relabeled", labels=[0], source="me")
    with project.store.write() as session:
        session.append(
            Batch(key="2", kind="review", actor="me", by_person=True, events=[event],
                  classes=["Late"])
        )  # fmt: skip
    for options, same in (([], False), (["--as-of", 1], True)):
        done = call(project, "export", tmp_path / "x", "--format", "csv", "--force", *options)
        assert done.exit_code == 0, done.output
        assert ((tmp_path / "x").read_bytes() == (tmp_path / "before").read_bytes()) == same


@pytest.mark.parametrize("format", registry.names("writer"))
def test_nothing_is_written_over_or_by_halves(tmp_path, format, monkeypatch):
    project = make(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    file = out / "x"
    export_labels(project, file, format)
    inner = file / "train_noisy.csv" if file.is_dir() else file
    before = inner.read_bytes()
    inner.write_text("mine")
    done = call(project, "export", file, "--format", format)
    assert done.exit_code == 2 and "is there already; give another name, or --force" in done.stderr
    assert inner.read_text() == "mine"
    # What fails half way leaves what was there.
    monkeypatch.setattr(
        "labelkit.files.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full"))
    )
    done = call(project, "export", file, "--format", format, "--force")
    assert done.exit_code == 1 and "full" in done.stderr and "Traceback" not in done.stderr
    done = call(project, "export", out / "new", "--format", format)
    assert done.exit_code == 1
    assert inner.read_text() == "mine"
    assert list(out.iterdir()) == [file] and (not file.is_dir() or len(list(file.iterdir())) == 2)
    monkeypatch.undo()
    assert call(project, "export", file, "--format", format, "--force").exit_code == 0
    assert inner.read_bytes() == before


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("n", range(1, 8))
def test_both_tables_are_new_or_neither_is(tmp_path, monkeypatch, there, n):
    """The n-th time the disk is full."""
    project, folder = make(tmp_path, SEVERAL, PLAIN_CLASSES), tmp_path / "out" / "set"
    folder.parent.mkdir()
    names = ("train_curated.csv", "train_noisy.csv")
    export_labels(project, tmp_path / "new", "fsdkaggle2019")
    new = [(tmp_path / "new" / name).read_text() for name in names]
    old = ["old", "old"]
    if there:
        folder.mkdir()
        for name in names:
            (folder / name).write_text("old")
    calls, fsync = [], os.fsync

    def fail(descriptor):
        calls.append(descriptor)
        if len(calls) == n:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    done = call(project, "export", folder, "--format", "fsdkaggle2019", "--force")
    assert (done.exit_code == 0) == (len(calls) < n)
    assert done.exit_code == 0 or "No space left" in done.stderr
    assert "Traceback" not in done.stderr and "not empty" not in done.stderr
    assert {file.name for file in folder.parent.iterdir()} <= {"set"}
    if folder.exists():
        assert {file.name for file in folder.iterdir()} == set(names)
        found = [(folder / name).read_text() for name in names]
        assert found == new or (there and found == old)
    assert there or n > 4 or not folder.exists()


def test_links_are_followed(tmp_path):
    project = make(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    long = tmp_path / ("x" * 300)
    for file in (tmp_path / "loop", tmp_path / "loop" / "x", long, long / "x"):
        for format in ("csv", "fsdkaggle2019"):
            done = call(project, "export", file, "--format", format, "--force")
            assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.output
            assert "is no file that can be made" in done.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name, format in (("x.csv", "csv"), ("train_noisy.csv", "fsdkaggle2019")):
        (elsewhere / name).write_text("mine")
        link = tmp_path / ("set" if format == "fsdkaggle2019" else ".") / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(elsewhere / name)
        file = link.parent if format == "fsdkaggle2019" else link
        assert call(project, "export", file, "--format", format).exit_code == 2
        assert (elsewhere / name).read_text() == "mine"
        assert call(project, "export", file, "--format", format, "--force").exit_code == 0
        assert link.is_symlink() and (elsewhere / name).read_text() != "mine"
    # One that leads to nothing yet is made where it leads.
    (tmp_path / "to come").symlink_to(elsewhere / "new")
    done = call(project, "export", tmp_path / "to come", "--format", "fsdkaggle2019")
    assert done.exit_code == 0 and (elsewhere / "new" / "train_noisy.csv").exists(), done.output


def test_where_labelkit_never_writes(tmp_path):
    project = make(tmp_path)
    before = (project.root / "labels.duckdb").read_bytes()
    for file, format in (
        (project.audio_dir / "x.csv", "csv"), (project.audio_dir / "set", "fsdkaggle2019"),
        (project.audio_dir, "fsdkaggle2019"), (project.root / "labels.duckdb", "parquet"),
        (project.root / "labelkit.toml", "csv"), (tmp_path / "nowhere" / "x", "fsdkaggle2019"),
        (project.root / "labelkit.toml", "fsdkaggle2019"), (tmp_path, "csv"),
    ):  # fmt: skip
        done = call(project, "export", file, "--format", format, "--force")
        assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.output
    assert list(project.audio_dir.iterdir()) == []
    assert (project.root / "labels.duckdb").read_bytes() == before


def test_what_cannot_be_exported(tmp_path):
    project = make(tmp_path, [])
    with pytest.raises(InvalidInput, match="has no clips; bring some in with: labelkit import"):
        export_labels(project, tmp_path / "x", "csv")
    with pytest.raises(InvalidInput, match="jsonl has no separator"):
        export_labels(project, tmp_path / "x", "jsonl", separator=";")
    for separator in ("", '"', '","'):
        with pytest.raises(InvalidInput, match="give one without a quote"):
            export_labels(make(tmp_path / f"s{len(separator)}"), tmp_path / "x", "csv",
                          separator=separator)  # fmt: skip
    assert not (tmp_path / "x").exists()


@fills_folder("one.csv", "two.csv")
def write_halves(folder, clips, classes, *, separator="/"):
    for name, part in (("one.csv", clips[::2]), ("two.csv", clips[1::2])):
        write_csv(folder / name, part, classes, separator=separator)
    return {}


def read_corrected(path, spec):
    found = read_csv(path, spec)
    found.corrects = True
    return found


def read_tree(path, spec, *, audio_dir):
    return read_folder(path, spec, audio_dir=audio_dir)


def test_a_plug_in_declares_what_it_needs(tmp_path):
    project, target = make(tmp_path), tmp_path / "halves"
    export_labels(project, target, f"{__name__}:write_halves", separator=";")
    assert sorted(file.name for file in target.iterdir()) == ["one.csv", "two.csv"]
    assert "猫" in (target / "one.csv").read_text() + (target / "two.csv").read_text()
    with pytest.raises(InvalidInput, match=r"one\.csv is there"):
        export_labels(project, target, f"{__name__}:write_halves")
    file = tmp_path / "new.csv"
    file.write_text("path,labels,state\na.wav,Alarm,relabeled\n")
    report = import_labels(project, file, f"{__name__}:read_corrected", FormatSpec())
    assert (report.added, report.changed) == (0, 1)
    (project.audio_dir / "set" / "Dog").mkdir(parents=True)
    (project.audio_dir / "set" / "Dog" / "x.wav").touch()
    import_labels(
        project, project.audio_dir / "set", f"{__name__}:read_tree", FormatSpec(),
        metadata_only=True,
    )  # fmt: skip
    with project.store.read() as session:
        assert session.labels().paths[-1] == "set/Dog/x.wav"


def test_names_that_are_patterns_to_a_database(tmp_path):
    project = make(tmp_path)
    for name in ("a*.parquet", "a[1].parquet", "a?.parquet", "it's.parquet", "path=x.parquet"):
        export_labels(project, tmp_path / name, "parquet")
    (tmp_path / "ab.parquet").write_bytes(b"no parquet")
    second = bring(tmp_path / "two", tmp_path / "a*.parquet", "parquet")
    assert everything(second) == everything(project)


def test_real_metadata_comes_back(shared_data, tmp_path):
    source = shared_data / "fsdkaggle2018" / "train_post_competition.csv"
    first = bring(tmp_path / "one", source, "fsdkaggle2018")
    for format in registry.names("writer"):
        report = export_labels(first, tmp_path / format, format)
        assert (report.clips, report.unsaid) == (9473, {})
        second = bring(tmp_path / f"of {format}", tmp_path / format, format)
        assert sorted(everything(second)) == sorted(everything(first))
        assert classes(second) == classes(first)
