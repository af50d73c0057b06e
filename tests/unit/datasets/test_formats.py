"""One contract for every label format: what is written comes back, every fault is listed."""

import dataclasses
import json
import shutil

import duckdb
import pytest

from labelkit import registry
from labelkit.audio.io import hash_file
from labelkit.config import FormatSpec
from labelkit.datasets.cells import split_names
from labelkit.datasets.published import LAYOUTS
from labelkit.errors import FaultyFile, InvalidInput
from labelkit.labels.importing import import_labels
from labelkit.labels.kind import set_kind
from tests.support.clips import write_csv

CLIPS = {
    "a.wav": (("Dog",), "verified"),
    "b.wav": (("Cat",), "unverified"),
    "sub/c.wav": (("Dog",), "unverified"),
}


def sound_csv(folder):
    rows = [(p, ",".join(ls), int(s == "verified")) for p, (ls, s) in CLIPS.items()]
    return write_csv(folder / "x.csv", ("fname", "label", "manually_verified"), rows)


def sound_2019(folder):
    for name, state in (("curated", "verified"), ("noisy", "unverified")):
        rows = [(p, ",".join(ls)) for p, (ls, s) in CLIPS.items() if s == state]
        write_csv(folder / f"train_{name}.csv", ("fname", "labels"), rows)
    return folder


def sound_jsonl(folder):
    path = folder / "x.jsonl"
    lines = [
        {"path": p, "labels": list(ls), "verified": s == "verified"} for p, (ls, s) in CLIPS.items()
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def write_parquet(path, sql):
    duckdb.sql(f"copy ({sql}) to '{path}' (format parquet)")
    return path


def sound_parquet(folder):
    rows = ", ".join(str((p, list(ls), s)) for p, (ls, s) in CLIPS.items())
    return write_parquet(
        folder / "x.parquet", f"select * from (values {rows}) as t(path, labels, state)"
    )


def sound_folder(folder):
    for label, name in (("Dog", "a.wav"), ("Cat", "b.flac"), ("Dog", "deep/c.ogg")):
        path = folder / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "Dog" / "notes.txt").touch()
    return folder


def text_file(name, text):
    def write(folder):
        (folder / name).write_text(text)
        return folder / name

    return write


def sound_corrections(folder):
    path = folder / "x.json"
    path.write_text('{"a.wav": "Cat,Dog", "b.wav": "remove"}')
    return path


VERIFIED_COLUMN = FormatSpec(verified_column="manually_verified")
SOUND = {
    "csv": (sound_csv, VERIFIED_COLUMN, CLIPS),
    "fsdkaggle2018": (sound_csv, FormatSpec(), CLIPS),
    "fsdkaggle2019": (sound_2019, FormatSpec(), CLIPS),
    "jsonl": (sound_jsonl, FormatSpec(), CLIPS),
    "parquet": (sound_parquet, FormatSpec(), CLIPS),
    "folder": (
        sound_folder, FormatSpec(state="verified"),
        {
            "Cat/b.flac": (("Cat",), "verified"), "Dog/a.wav": (("Dog",), "verified"),
            "Dog/deep/c.ogg": (("Dog",), "verified"),
        },
    ),
    "corrections": (
        sound_corrections, FormatSpec(),
        {"a.wav": (("Cat", "Dog"), "relabeled"), "b.wav": ((), "rejected")},
    ),
    "esc50": (
        text_file("esc50.csv", "filename,fold,target,category,esc10,src_file,take\n"
                  "1-7-A-0.wav,1,0,dog,True,7,A\n5-9-B-1.wav,5,1,rooster,False,9,B\n"),
        FormatSpec(),
        {"1-7-A-0.wav": (("dog",), "unverified"), "5-9-B-1.wav": (("rooster",), "unverified")},
    ),
    "urbansound8k": (
        text_file("UrbanSound8K.csv", "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
                  "7-3-0-0.wav,7,0.0,0.3,1,5,3,dog_bark\n9-2-0-1.wav,9,5,9,1,10,2,drilling\n"),
        FormatSpec(state="verified"),
        {"fold5/7-3-0-0.wav": (("dog_bark",), "verified"),
         "fold10/9-2-0-1.wav": (("drilling",), "verified")},
    ),
    "fsd50k": (
        text_file("dev.csv", 'fname,labels,mids,split\n64760,"Guitar,Music","/m/1,/m/2",train\n'
                  '16399,Speech,/m/3,val\n'),
        FormatSpec(),
        {"64760": (("Guitar", "Music"), "unverified"), "16399": (("Speech",), "unverified")},
    ),
    "dcase": (
        text_file("meta.csv", "filename\tscene_label\tidentifier\tsource_label\n"
                  "audio/airport-a-0.wav\tairport\ta-0\ta\naudio/bus-b-1.wav\tbus\tb-1\ta\n"),
        FormatSpec(),
        {"audio/airport-a-0.wav": (("airport",), "unverified"),
         "audio/bus-b-1.wav": (("bus",), "unverified")},
    ),
    "birdclef": (
        text_file("train_metadata.csv", "primary_label,secondary_labels,type,author,filename\n"
                  "abe,\"['xyz', 'uvw']\",['call'],Anna,abe/XC1.ogg\nxyz,[],[''],Ben,xyz/XC2.ogg\n"
                  "uvw,[''],[''],Ben,uvw/XC3.ogg\n"),
        FormatSpec(),
        {"abe/XC1.ogg": (("abe", "xyz", "uvw"), "unverified"),
         "xyz/XC2.ogg": (("xyz",), "unverified"), "uvw/XC3.ogg": (("uvw",), "unverified")},
    ),
    "audioset": (
        text_file("balanced_train_segments.csv", "# Segments csv created some day\n"
                  "# num_ytids=2, num_segs=2, num_unique_labels=2, num_positive_labels=3\n"
                  "# YTID, start_seconds, end_seconds, positive_labels\n"
                  '--x, 30.000, 40.000, "/m/1,/t/2"\n_y, 0.000, 10.000, "/m/1"\n'),
        FormatSpec(),
        {"--x": (("/m/1", "/t/2"), "unverified"), "_y": (("/m/1",), "unverified")},
    ),
}  # fmt: skip


def broken_csv(folder, header="fname,label,manually_verified"):
    path = folder / "x.csv"
    path.write_text(
        f"{header}\na.wav,Dog,1\na.wav,Cat,0\n../up.wav,Dog,1\n/root.wav,Dog,1\nb.wav,,1\n"
        "c.wav,Dog,perhaps\nd.wav,Dog\n"
    )
    return path, [
        "row 3: duplicate file name 'a.wav', first in row 2", "row 4: path '../up.wav'",
        "row 5: path '/root.wav'", "row 6: label list '' has an empty entry",
        "row 7: verified is 'perhaps'", "row 8: too few cells",
    ]  # fmt: skip


def broken_2019(folder):
    path = folder / "train_curated.csv"
    path.write_text('fname,labels\na.wav,"Dog,,Cat"\nb.wav,"Dog,Dog"\nc.wav,Dog\nc.wav,Dog\n')
    return path, ["row 2: label list 'Dog,,Cat' has an empty entry", "repeats a class", "duplicate"]


def broken_jsonl(folder):
    path = folder / "x.jsonl"
    path.write_text(
        'no json\n{"path": "a.wav"}\n{"path": "b.wav", "labels": [""]}\n'
        '{"path": "c.wav", "labels": [3]}\n{"path": "d.wav", "labels": ["Dog"], "colour": 1}\n'
        '{"path": "e.wav", "labels": ["Dog"], "subset": "half"}\n[1]\n'
        '{"path": "f.wav", "labels": ["Dog"], "fold": "x"}\n'
        '{"path": "g.wav", "labels": "Dog"}\n'
        '{"path": "h.wav", "labels": [], "verified": 1, "state": "verified"}\n'
        '{"path": "i.wav", "labels": [], "state": "good"}\n{"path": null, "labels": []}\n'
        '{"path": "j.wav", "path": "k.wav", "labels": []}\n[["path", "l.wav"], ["labels", []]]\n'
        '{"path": "m.wav", "labels": [], "duration_s": -1}\n'
        '{"path": "n.wav", "labels": [], "content_hash": "abc"}\n'
        '{"path": "o.wav", "labels": [], "group": "\\ud800"}\n{"classes": ["Dog"]}\n'
    )
    return path, [
        "row 1: not a JSON object", "row 2: no key 'labels'", "row 3: label list",
        "row 4: labels [3]", "row 5: unknown key 'colour'", "row 6: subset 'half'",
        "row 7: not a JSON", "row 8: fold is 'x'", "row 9: labels 'Dog'",
        "row 10: both verified and state", "row 11: state 'good'", "row 12: path None",
        "row 13: not a JSON object", "row 14: not a JSON object", "row 15: duration_s is '-1'",
        "row 16: content_hash 'abc'", "row 17: group '\\ud800'", "row 18: no key 'path'",
    ]  # fmt: skip


def broken_parquet(folder):
    path = write_parquet(
        folder / "x.parquet",
        "select * from (values ('a.wav', ['Dog'], 'verified', 1), ('a.wav', ['Dog'], 'good', -1), "
        "(null, ['Dog'], 'verified', 2), ('../b.wav', ['Dog', 'Dog'], null, 3), "
        "('c.wav', [null], null, null), ('a.wav', ['Dog'], null, null)) "
        "as t(path, labels, state, fold)",
    )
    return path, [
        "row 2: state 'good'", "row 2: fold is '-1'", "row 3: no key 'path'",
        "row 4: label list", "row 5: labels [None]", "row 6: duplicate file name 'a.wav'",
    ]  # fmt: skip


def broken_folder(folder):
    (folder / "loose.wav").touch()
    return folder, ["'loose.wav' lies in no class folder"]


def broken_corrections(folder):
    path = folder / "x.json"
    path.write_text('{"a.wav": "Dog,,Cat", "a2.wav": 3, "b.wav": "Dog", "b.wav": "Cat"}')
    return path, ["row 1: label list", "is no correction", "row 4: duplicate file name 'b.wav'"]


def broken_published(name):
    """A published file with another table's columns, and one with a path that leads out."""

    def write(folder):
        path = SOUND[name][0](folder)
        header, text = path.read_text().rpartition("\n")[0].rsplit("\n", 1)
        cells = text.replace("5-9", "../5-9").replace("10,2", "x,2").replace("16399", "/16399")
        cells = cells.replace("audio/", "../audio/").replace("uvw/", "../uvw/").replace("_y", "/y")
        path.write_text(f"{header}\n{cells}\n")
        return path, ["fold is 'x'" if name == "urbansound8k" else "give a path below"]

    return write


BROKEN = {
    **{name: (broken_published(name), FormatSpec()) for name in LAYOUTS},
    "csv": (broken_csv, VERIFIED_COLUMN),
    "fsdkaggle2018": (broken_csv, FormatSpec()),
    "fsdkaggle2019": (broken_2019, FormatSpec()),
    "jsonl": (broken_jsonl, FormatSpec()),
    "parquet": (broken_parquet, FormatSpec()),
    "folder": (broken_folder, FormatSpec()),
    "corrections": (broken_corrections, FormatSpec()),
}


@pytest.fixture(params=registry.names("format"))
def name(request):
    return request.param


def test_what_is_written_comes_back(name, tmp_path):
    write, spec, expected = SOUND[name]
    reading = registry.resolve("format", name)(write(tmp_path), spec)
    assert reading.faults == []
    assert {clip.path: (clip.labels, clip.state) for clip in reading.clips} == expected


def test_every_fault_is_listed(name, tmp_path):
    write, spec = BROKEN[name]
    source, expected = write(tmp_path)
    faults = registry.resolve("format", name)(source, spec).faults
    for part in expected:
        assert any(part in fault for fault in faults), (part, faults)
    assert all("; " in fault for fault in faults), "each fault names a remedy"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"fname,label,manually_verified\n"])
def test_files_without_rows(name, tmp_path, content):
    if name == "folder":
        source = tmp_path
    else:
        source = tmp_path / "train_noisy.csv"
        source.write_bytes(content)
    reading = registry.resolve("format", name)(source, FormatSpec())
    assert reading.clips == []
    assert reading.faults or (name == "jsonl" and content == b"")


def test_columns_are_named_by_options(tmp_path):
    source = write_csv(
        tmp_path / "x.csv", ("file", "tags", "who", "part"),
        [("a.wav", "Dog|Cat", "anna", 2), ("b.wav", "Cat", "", "")],
    )  # fmt: skip
    spec = FormatSpec(
        path_column="file", label_column="tags", group_column="who", fold_column="part",
        separator="|", state="verified", subset="test", prefix="clips/",
    )  # fmt: skip
    first, second = registry.resolve("format", "csv")(source, spec).clips
    assert (first.path, first.labels, first.group, first.fold) == (
        "clips/a.wav",
        ("Dog", "Cat"),
        "anna",
        2,
    )
    assert (first.state, first.subset) == ("verified", "test")
    assert (second.group, second.fold) == (None, None)


def test_an_exported_csv_needs_no_options(tmp_path):
    source = tmp_path / "x.csv"
    source.write_text(
        'path,labels,state,fold,group,note\n" a.wav ","""Rain, heavy"",Dog",verified,1,anna,x\n'
        '""" b.wav """,,rejected,,,\n'
    )
    read = registry.resolve("format", "csv")
    found = read(source, FormatSpec())
    assert found.faults == []
    first, second = found.clips
    assert (first.path, first.labels, first.state, first.fold, first.group) == (
        "a.wav", ("Rain, heavy", "Dog"), "verified", 1, "anna",
    )  # fmt: skip
    assert (second.path, second.labels, second.state) == (" b.wav ", (), "rejected")
    assert (second.fold, second.group) == (None, None)
    # A column that is named counts instead of the one that would.
    found = read(source, FormatSpec(verified_column="fold", group_column="note"))
    assert [(c.state, c.group) for c in found.clips if c.labels] == [("verified", "x")]
    assert read(source, FormatSpec(verified_column="fold", state_column="state")).faults == [
        "columns of both verified and state; name one of them"
    ]


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("Dog, Cat ", ("Dog", "Cat")), ('"Dog"', ("Dog",)), ('"a ""b"" c",d', ('a "b" c', "d")),
        ('5" tape,7" tape', ('5" tape', '7" tape')), ('a, "b,c"', ("a", "b,c")),
        ('"a,b', None), ('"a"b,c', None), ('a,"', None), ('"a",', ("a", "")),
    ],
)  # fmt: skip
def test_names_in_quotes(cell, labels):
    assert split_names(cell, ",") == labels


def test_the_recordings_count_where_the_file_tells_of_others(tone_project, capsys):
    source = tone_project.root / "x.jsonl"
    source.write_text(
        json.dumps({"path": "0.wav", "labels": ["A"], "content_hash": "0" * 32, "duration_s": 9})
    )
    import_labels(tone_project, source, "jsonl", FormatSpec())
    said = capsys.readouterr().err
    assert (
        "1 recordings are not those whose hashes the file holds, for example '0.wav'; they are "
        "taken as they are" in said
    )
    with tone_project.store.read() as session:
        rows = session.rows("select content_hash, duration_s from clips")
    assert rows == [(hash_file(tone_project.audio_dir / "0.wav"), 1.0)]


def test_recordings_are_handed_to_the_pool_by_blocks(tone_project, monkeypatch):
    """Never more of them wait than a block holds, and none is lost between two."""
    from concurrent.futures import ThreadPoolExecutor

    handed, begin = [], ThreadPoolExecutor.map

    def count(self, look, clips):
        handed.append([len(handful) for handful in clips])
        return begin(self, look, clips)

    monkeypatch.setattr("labelkit.labels.locating._HANDFUL", 2)
    monkeypatch.setattr("labelkit.labels.locating._BLOCK", 2)
    monkeypatch.setattr(ThreadPoolExecutor, "map", count)
    names = [f"{k}.wav" for k in (0, 1, 2, 3, 4)]
    source = tone_project.root / "x.jsonl"
    source.write_text("\n".join(json.dumps({"path": n, "labels": ["A"]}) for n in names))
    import_labels(tone_project, source, "jsonl", FormatSpec())
    assert handed == [[2, 2], [1]]
    with tone_project.store.read() as session:
        found = dict(session.rows("select path, content_hash from clips order by clip_id"))
    assert list(found) == names
    assert found == {n: hash_file(tone_project.audio_dir / n) for n in names}


def test_another_group_of_an_imported_clip_is_a_fault(tone_project):
    spec = FormatSpec(group_column="who")
    import_csv(tone_project, [("0.wav", "A", "x")], ("fname", "label", "who"), spec)
    with pytest.raises(FaultyFile, match="imported before with group 'x'; a group stays"):
        import_csv(tone_project, [("0.wav", "A", "y")], ("fname", "label", "who"), spec)
    assert import_csv(tone_project, [("0.wav", "A")]).added == 0


def test_a_path_said_in_two_ways_is_one_clip(tone_project):
    columns = ("fname", "label", "ok")
    with pytest.raises(FaultyFile, match=r"row 3: duplicate file name '0.wav', first in row 2"):
        spec = FormatSpec(verified_column="ok")
        import_csv(tone_project, [("./0.wav", "A", 1), ("0.wav", "B", 0)], columns, spec)
    assert import_csv(tone_project, [(".//0.wav", "A")]).added == 1
    assert import_csv(tone_project, [("0.wav", "A")]).added == 0


def test_two_corrections_of_one_clip_are_a_fault(tone_project):
    import_csv(tone_project, [("deep/0.wav", "A"), ("1.wav", "B")], metadata_only=True)
    source = tone_project.root / "c.json"
    source.write_text('{"0.wav": "B", "deep/0.wav": "remove"}')
    with pytest.raises(FaultyFile, match=r"row 2: 'deep/0.wav' is the clip of row 1"):
        import_labels(tone_project, source, "corrections", FormatSpec())


@pytest.mark.parametrize(
    ("said", "labels"),
    [
        ("Dog,Cat", ("Dog", "Cat")), ("['Dog', 'Cat']", ("Dog", "Cat")), ("('Dog',)", ("Dog",)),
        ("{'Rain, heavy'}", ("Rain, heavy",)), ("(Dog)", ("(Dog)",)), ("[]", None), ("set()", None),
    ],
)  # fmt: skip
def test_lists_in_corrections_are_lists(tmp_path, said, labels):
    (tmp_path / "c.json").write_text(json.dumps({"a.wav": said}))
    found = registry.resolve("format", "corrections")(tmp_path / "c.json", FormatSpec())
    assert [clip.labels for clip in found.clips] == ([labels] if labels else [])
    assert bool(found.faults) == (labels is None)


def test_a_class_folder_cannot_be_called_remove(tmp_path):
    (tmp_path / "remove").mkdir()
    (tmp_path / "remove" / "a.wav").touch()
    found = registry.resolve("format", "folder")(tmp_path, FormatSpec())
    assert found.faults == [
        "row 1: label list 'remove' has a name no class can have; rename the class; that word "
        "removes a clip"
    ]


def test_a_file_name_need_not_be_utf8(tone_project):
    source = tone_project.root / "x\udcff.csv"
    source.write_text("fname,label\n0.wav,A\n")
    assert import_labels(tone_project, source, "csv", FormatSpec()).added == 1
    with tone_project.store.read() as session:
        assert session.rows("select reason from batches") == [("csv x\\udcff.csv",)]


def import_csv(project, rows, header=("fname", "label"), spec=None, **options):
    source = write_csv(project.root / "in.csv", header, rows)
    return import_labels(project, source, "csv", spec or FormatSpec(), **options)


def history(project):
    with project.store.read() as session:
        return session.rows("from label_history order by event_id")


def test_importing_twice_adds_nothing(tone_project):
    rows = [(f"{n}.wav", "Low" if n % 2 else "High") for n in range(6)]
    assert import_csv(tone_project, rows).added == 6
    before = history(tone_project)
    assert import_csv(tone_project, rows).added == 0
    assert import_csv(tone_project, rows[:3]).added == 0
    assert history(tone_project) == before


def test_nothing_is_imported_by_halves(tone_project):
    rows = [("0.wav", "Low"), ("1.wav", "High"), ("nowhere.wav", "Low"), ("2.wav", "")]
    with pytest.raises(FaultyFile) as caught:
        import_csv(tone_project, rows)
    assert len(caught.value.faults) == 2
    assert history(tone_project) == []
    with tone_project.store.read() as session:
        assert session.classes() == [] and session.last_batch() == 0


LOW_HIGH = [("0.wav", "Low"), ("1.wav", "High")]
FOLDS = {
    "header": ("fname", "label", "fold", "who"),
    "spec": FormatSpec(fold_column="fold", group_column="who"),
}
FIRST, SECOND = ("0.wav", "A", 1, "x"), ("1.wav", "A", 2, "x")
TORN = r"fold 2, '0.wav' of the same group in fold 1; put them in one fold"
TESTED = {"spec": FormatSpec(subset="test")}
# What is imported first and how, what then and how, and what is said of it.
CONTRADICTIONS = {
    "other labels": (
        LOW_HIGH, {}, [("0.wav", "High")], {},
        r"imported before as Low \(unverified, train\).*corrections",
    ),
    "another subset": (
        LOW_HIGH, {}, [("0.wav", "Low")], TESTED, r"before as Low \(unverified, train\)",
    ),
    "a held-out clip that is a training clip's recording": (
        LOW_HIGH, {}, [("copy.wav", "Low")], TESTED,
        r"subset test, '0.wav' of the same recording in subset",
    ),
    "a group in two folds": ([], {}, [FIRST, SECOND], FOLDS, TORN),
    "a group in two folds by two files": ([FIRST], FOLDS, [SECOND], FOLDS, TORN),
}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "how", "lines", "options", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS
)
def test_contradictions_are_faults(tone_project, before, how, lines, options, message):
    shutil.copy(tone_project.audio_dir / "0.wav", tone_project.audio_dir / "copy.wav")
    if before:
        import_csv(tone_project, before, **how)
    with pytest.raises(FaultyFile, match=message):
        import_csv(tone_project, lines, **options)


def test_corrections_are_events_of_a_person(tone_project):
    import_csv(tone_project, [(f"{n}.wav", "Low" if n % 2 else "High") for n in range(6)])
    set_kind(tone_project, "several")
    source = tone_project.root / "c.json"
    source.write_text('{"0.wav": "Low", "1.wav": "remove", "2.wav": "Low,High"}')
    assert import_labels(tone_project, source, "corrections", FormatSpec()).changed == 3
    assert import_labels(tone_project, source, "corrections", FormatSpec()).changed == 0
    with tone_project.store.read() as session:
        rows = session.rows("select path, labels, state from labels_now order by path limit 4")
    assert rows == [
        ("0.wav", ["Low"], "relabeled"), ("1.wav", [], "rejected"),
        ("2.wav", ["High", "Low"], "relabeled"), ("3.wav", ["Low"], "unverified"),
    ]  # fmt: skip


def test_corrections_list_unknown_clips_and_classes(tone_project):
    import_csv(tone_project, [("0.wav", "Low")])
    source = tone_project.root / "c.json"
    source.write_text('{"9.wav": "Low", "0.wav": "Lov"}')
    with pytest.raises(FaultyFile) as caught:
        import_labels(tone_project, source, "corrections", FormatSpec())
    assert "'9.wav' is not in the store" in str(caught.value)
    assert "did you mean 'Low'" in str(caught.value)


def test_corrections_may_go_back_and_forth(tone_project):
    import_csv(tone_project, [("0.wav", "A"), ("1.wav", "B")])
    source = tone_project.root / "c.json"
    for label in ("B", "A", "B"):
        source.write_text(json.dumps({"0.wav": label}))
        assert import_labels(tone_project, source, "corrections", FormatSpec()).changed == 1
    with tone_project.store.read() as session:
        assert session.rows("select labels from labels_now where path = '0.wav'") == [(["B"],)]
        newest = session.rows(
            "select k.name, max_by(d.verdict, d.verdict_id) from label_verdicts d "
            "join classes k using (class_id) where clip_id = 0 group by k.name order by 1"
        )
    assert newest == [("A", "absent"), ("B", "present")]


def test_many_clips_of_which_few_have_labels(tone_project):
    lines = [{"path": f"{n}.wav", "labels": ["A"] if n % 1700 == 3 else []} for n in range(5000)]
    source = tone_project.root / "x.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    report = import_labels(tone_project, source, "jsonl", FormatSpec(), metadata_only=True)
    assert report.added == 5000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fname,label\na.wav,Dog,Cat\n", "row 2: too many cells"),
        ('fname,label\na.wav,"Dog\nb.wav,Cat\n', "not CSV"),
        (
            'fname,label\na.wav,"Dog\nbark"\n',
            "a line end is in 'Dog\\nbark'; take it out, or give --separator $'",
        ),
        ('fname,label\na.wav,"Dog\tbark"\n', "a TAB is in 'Dog\\tbark'; take it out, or give --s"),
        ('fname,label\na.wav,"Cat,Dog\tbark"\n', "a TAB is in 'Dog\\tbark'"),
        ("fname,label\na.wav,Dog\x07bark\n", "a control character (U+0007) is in"),
        ("fname,label,label\na.wav,Dog,Cat\n", "column 'label' is there 2 times"),
        ("file;label\na.wav;Dog\n", "no column 'fname' in file, label"),
        ("fname,label\na.wav,nan\n", 'a class of this name is """nan"""'),
        ("fname,label\na.wav,remove\n", "a name no class can have"),
    ],
)
def test_labels_are_not_lost_to_sloppy_csv(tmp_path, text, message):
    source = tmp_path / "x.csv"
    source.write_text(text)
    found = registry.resolve("format", "csv")(source, FormatSpec())
    assert any(message in fault for fault in found.faults), found.faults


def test_corrections_may_be_lists(tone_project):
    (tone_project.audio_dir / "Low, loud").mkdir()
    for n in range(6):
        target = tone_project.audio_dir / ("Low, loud" if n % 2 else "High")
        target.mkdir(exist_ok=True)
        (tone_project.audio_dir / f"{n}.wav").rename(target / f"{n}.wav")
    import_labels(tone_project, tone_project.audio_dir, "folder", FormatSpec())
    source = tone_project.root / "c.json"
    source.write_text('{"High/0.wav": ["Low, loud"]}')
    assert import_labels(tone_project, source, "corrections", FormatSpec()).changed == 1


def test_cells_may_hold_line_ends(tmp_path):
    source = tmp_path / "x.csv"
    source.write_bytes(
        b'\xef\xbb\xbffname,label,note\r\na.wav,Dog,"two\nlines"\r\nb.wav,Cat\xe2\x80\xa8x,\r\n'
    )
    found = registry.resolve("format", "csv")(source, FormatSpec())
    assert [clip.labels for clip in found.clips] == [("Dog",), ("Cat\u2028x",)]


def test_folder_import_goes_from_the_audio_folder(tone_project):
    for n in range(6):
        target = tone_project.audio_dir / "set" / ("Low" if n % 2 else "High")
        target.mkdir(parents=True, exist_ok=True)
        (tone_project.audio_dir / f"{n}.wav").rename(target / f"{n}.wav")
    report = import_labels(tone_project, tone_project.audio_dir / "set", "folder", FormatSpec())
    assert report.added == 6
    with tone_project.store.read() as session:
        assert session.labels().paths[0] == "set/High/0.wav"
    with pytest.raises(InvalidInput, match="does not lie in the audio folder"):
        import_labels(tone_project, tone_project.root, "folder", FormatSpec())


def test_argus_corrections_are_read(shared_data):
    read = registry.resolve("format", "corrections")
    curated = read(shared_data / "argus" / "corrections.json", FormatSpec())
    assert curated.faults == [] and len(curated.clips) == 73
    assert sum(clip.state == "rejected" for clip in curated.clips) == 15
    noisy = read(shared_data / "argus" / "noisy_corrections.json", FormatSpec())
    assert noisy.faults == [] and len(noisy.clips) == 8744
    assert sum(clip.state == "rejected" for clip in noisy.clips) == 6999


def test_real_metadata(shared_data, tmp_path):
    from labelkit.project import create_project
    from labelkit.runs.folds import fold_table, freeze_folds

    project, _ = create_project(tmp_path, tmp_path)
    source = shared_data / "fsdkaggle2018" / "train_post_competition.csv"
    report = import_labels(project, source, "fsdkaggle2018", FormatSpec(), metadata_only=True)
    assert report.added == 9473 and len(report.classes) == 41
    assert report.states == {"unverified": 5763, "verified": 3710}
    again = import_labels(project, source, "fsdkaggle2018", FormatSpec(), metadata_only=True)
    assert again.added == 0
    table = fold_table(project, freeze_folds(project, n=4))
    for row in table:
        counts = row.clips.values()
        assert max(counts) - min(counts) <= 1


# What each format reads of a spec; every other setting must be refused.
OF_TABLES = {
    "fold_column",
    "group_column",
    "domain_column",
    "subset",
    "prefix",
    "follow_links",
    "match",
}
READ = {
    "csv": {"path_column", "label_column", "verified_column", "state_column", "fold_column",
            "group_column", "domain_column", "subset_column", "hash_column", "duration_column",
            "separator", "state", "subset", "prefix", "follow_links", "match"},
    "fsdkaggle2018": OF_TABLES,
    "fsdkaggle2019": OF_TABLES | {"state"},
    "folder": {"subset", "state", "follow_links"},
    "jsonl": {"subset", "prefix", "state", "follow_links", "match"},
    "parquet": {"subset", "prefix", "state", "follow_links", "match"},
    "corrections": {"separator", "prefix", "match", "path_column", "label_column"},
    **dict.fromkeys(LAYOUTS, OF_TABLES | {"state"}),
}  # fmt: skip


@pytest.mark.parametrize("format", READ)
def test_a_setting_that_a_format_does_not_read_is_refused(tone_project, format):
    source = tone_project.root / "x.csv"
    source.write_text("nothing of any use")
    changes = {
        "state": "verified",
        "subset": "test",
        "follow_links": True,
        "separator": ";",
        "match": "stem",
    }
    for field in dataclasses.fields(FormatSpec):
        spec = FormatSpec(**{field.name: changes.get(field.name, "x")})
        option = f"--{field.name.replace('_', '-')} is nothing that {format} reads"
        with pytest.raises(InvalidInput) as caught:
            import_labels(tone_project, source, format, spec)
        assert (option in str(caught.value)) == (field.name not in READ[format])


def test_every_format_is_among_them():
    assert {*READ} == {*registry.names("format")}


@pytest.mark.parametrize("labels", ["Wolf", "Wolf,Low", "Wolf,Bear"])
def test_corrections_bring_classes_in_where_they_may(tone_project, labels):
    import_csv(tone_project, [("0.wav", "Low"), ("1.wav", "High")])
    set_kind(tone_project, "several")
    file = tone_project.root / "c.json"
    file.write_text(json.dumps({"0.wav": labels}))
    with pytest.raises(FaultyFile, match=r"unknown class 'Wolf'.*or import with --add-classes"):
        import_labels(tone_project, file, "corrections", FormatSpec())
    report = import_labels(tone_project, file, "corrections", FormatSpec(), add_classes=True)
    assert report.changed == 1 and "Wolf" in report.classes
    with tone_project.store.read() as session:
        [(now, state)] = session.rows("select labels, state from labels_now where path = '0.wav'")
        assert sorted(now) == sorted(labels.split(",")) and state == "relabeled"
        assert session.classes()[:2] == ["High", "Low"]
    again = import_labels(tone_project, file, "corrections", FormatSpec(), add_classes=True)
    assert again.changed == 0
