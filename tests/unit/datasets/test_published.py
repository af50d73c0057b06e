"""Label files of published sets, in invented rows: by name, by their columns, and as csv."""

import json
import re

import pytest

from labelkit import registry
from labelkit.config import FormatSpec
from labelkit.datasets.published import LAYOUTS
from labelkit.datasets.sniffing import find_format
from labelkit.errors import FaultyFile, InvalidInput
from labelkit.labels.importing import import_labels
from labelkit.project import create_project

US8K = "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
ESC = "filename,fold,target,category,esc10,src_file,take\n"
SEGMENTS = (
    "# Segments csv created some day\n# num_ytids=2, num_segs=2\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
)
BIRDS = "primary_label,secondary_labels,type,author,license,rating,url,filename\n"
# Format, name and text of the file, recordings that are there, and the clips that come of it:
# their labels, group (or domain, where there is none), fold and subset.
FILES = {
    "ESC-50": (
        "esc50", "esc50.csv", ESC + "1-10-A-0.wav,1,0,dog,True,10,A\n"
        "1-10-B-0.wav,1,0,dog,True,10,B\n5-9-A-40.wav,5,40,helicopter,True,9,A\n",
        ["audio/1-10-A-0.wav", "audio/1-10-B-0.wav", "audio/5-9-A-40.wav"],
        {"audio/1-10-A-0.wav": ("dog", "10", 1, "train"),
         "audio/1-10-B-0.wav": ("dog", "10", 1, "train"),
         "audio/5-9-A-40.wav": ("helicopter", "9", 5, "train")},
    ),
    "ESC-50, of pandas": (
        "esc50", "x.csv", "," + ESC + "0,1-10-A-0.wav,1.0,0,dog,True,10.0,A\n", ["1-10-A-0.wav"],
        {"1-10-A-0.wav": ("dog", "10", 1, "train")},
    ),
    "UrbanSound8K": (
        "urbansound8k", "UrbanSound8K.csv", US8K + "7-3-0-0.wav,7,0.0,0.317551,1,1,3,dog_bark\n"
        "9-2-0-1.wav,9,5,9,1,10,2,children_playing\n", ["fold1/7-3-0-0.wav", "fold10/9-2-0-1.wav"],
        {"fold1/7-3-0-0.wav": ("dog_bark", "7", 1, "train"),
         "fold10/9-2-0-1.wav": ("children_playing", "9", 10, "train")},
    ),
    "UrbanSound8K, from above": (
        "urbansound8k", "UrbanSound8K.csv", US8K + "7-3-0-0.wav,7,0.0,0.317551,1,1,3,dog_bark\n",
        ["audio/fold1/7-3-0-0.wav"], {"audio/fold1/7-3-0-0.wav": ("dog_bark", "7", 1, "train")},
    ),
    "FSD50K, dev": (
        "fsd50k", "dev.csv", 'fname,labels,mids,split\n64760,"Guitar,Music","/m/1,/m/2",train\n'
        "163,Speech,/m/3,val\n", ["64760.wav", "163.wav"],
        {"64760.wav": ("Guitar,Music", None, None, "train"),
         "163.wav": ("Speech", None, None, "train")},
    ),
    "FSD50K, eval": (
        "fsd50k", "eval.csv", "fname,labels,mids\n37199,Speech,/m/3\n",
        ["FSD50K.eval_audio/37199.wav"],
        {"FSD50K.eval_audio/37199.wav": ("Speech", None, None, "test")},
    ),
    "DCASE, scenes": (
        "dcase", "meta.csv", "filename\tscene_label\tidentifier\tsource_label\n"
        "audio/airport-x-0.wav\tairport\tx-0\ta\naudio/airport-x-1.wav\tairport\tx-0\ta\n",
        ["airport-x-0.wav", "airport-x-1.wav"],
        {"airport-x-0.wav": ("airport", "x-0", None, "train"),
         "airport-x-1.wav": ("airport", "x-0", None, "train")},
    ),
    "DCASE, scenes of a fold": (
        "dcase", "fold1_train.csv", "filename\tscene_label\naudio/bus-y-1.wav\tbus\n",
        ["audio/bus-y-1.wav"], {"audio/bus-y-1.wav": ("bus", None, None, "train")},
    ),
    "DCASE, no header": (
        "dcase", "meta.txt", "audio/b020_90_100.wav\tbeach\tb020\naudio/b021_0_10.wav\tbus\tb021\n",
        ["audio/b020_90_100.wav", "audio/b021_0_10.wav"],
        {"audio/b020_90_100.wav": ("beach", "b020", None, "train"),
         "audio/b021_0_10.wav": ("bus", "b021", None, "train")},
    ),
    "DCASE, strong": (
        "dcase", "strong.tsv", "filename\tonset\toffset\tevent_label\nY1.wav\t0.1\t0.5\tDog\n"
        "Y1.wav\t0.4\t2.0\tCat\nY1.wav\t3.0\t4.0\tDog\nY2.wav\t\t\t\n", ["Y1.wav", "Y2.wav"],
        {"Y1.wav": ("Cat,Dog", None, None, "train"), "Y2.wav": ("", None, None, "train")},
    ),
    "DCASE, weak": (
        "dcase", "weak.tsv", "filename\tevent_labels\nY1.wav\tDog,Cat\nY2.wav\tDog\n",
        ["Y1.wav", "Y2.wav"],
        {"Y1.wav": ("Cat,Dog", None, None, "train"), "Y2.wav": ("Dog", None, None, "train")},
    ),
    "BirdCLEF, folders": (
        "birdclef", "train_metadata.csv",
        BIRDS + "abe,\"['xyz', 'uvw']\",['call'],Ann,cc,4,u,abe/XC1.ogg\n"
        "xyz,[],['song'],Ben,cc,5,u,xyz/XC2.ogg\n", ["abe/XC1.ogg", "xyz/XC2.ogg"],
        {"abe/XC1.ogg": ("abe,uvw,xyz", "domain Ann", None, "train"),
         "xyz/XC2.ogg": ("xyz", "domain Ben", None, "train")},
    ),
    "BirdCLEF, no folder": (
        "birdclef", "train.csv", BIRDS + "abe,[''],[''],Ann,cc,4,u,XC1.ogg\n",
        ["train_short_audio/abe/XC1.ogg"],
        {"train_short_audio/abe/XC1.ogg": ("abe", "domain Ann", None, "train")},
    ),
    "AudioSet": (
        "audioset", "balanced_train_segments.csv", SEGMENTS + '--PJ, 30.000, 40.000, "/m/1,/t/2"\n'
        '_y7, 0.000, 10.000, "/m/1"\n', ["--PJ.flac", "_y7.wav"],
        {"--PJ.flac": ("/m/1,/t/2", None, None, "train"), "_y7.wav": ("/m/1", None, None, "train")},
    ),
    "AudioSet, eval, names of downloaders": (
        "audioset", "eval_segments.csv", SEGMENTS + 'ab, 30.000, 40.000, "/m/1"\n'
        'cd, 30.000, 40.000, "/m/1"\nef, 30.000, 40.000, "/m/1"\n',
        ["eval/Yab.wav", "eval/cd_30.000_40.000.wav", "eval/Yef_30000_40000.m4a"],
        {"eval/Yab.wav": ("/m/1", None, None, "test"),
         "eval/cd_30.000_40.000.wav": ("/m/1", None, None, "test"),
         "eval/Yef_30000_40000.m4a": ("/m/1", None, None, "test")},
    ),
    "AudioSet, strong": (
        "audioset", "strong_train.tsv", "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
        "b0RF_30000\t0.000\t3.5\t/m/1\nb0RF_30000\t1.0\t2.5\t/m/2\n", ["b0RF_30000.wav"],
        {"b0RF_30000.wav": ("/m/1,/m/2", None, None, "train")},
    ),
}  # fmt: skip


@pytest.fixture
def place(tmp_path, tone):
    """A function that makes a project with recordings, and a label file."""

    def place(name, text, there):
        for number, path in enumerate(there):
            file = tmp_path / "audio" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tone + bytes([number]))
        project, _ = create_project(tmp_path, tmp_path / "audio")
        (tmp_path / name).write_text(text)
        return project, tmp_path / name

    return place


def stored(project):
    with project.store.read() as session:
        rows = session.rows(
            "select c.path, array_to_string(list_sort(l.labels), ','), "
            "coalesce(c.group_name, 'domain ' || c.domain_name), f.fold, "
            "c.subset from labels_now l join clips c using (clip_id) "
            "left join folds f using (clip_id)"
        )
    return {path: tuple(rest) for path, *rest in rows}


@pytest.mark.parametrize(("format", "name", "text", "there", "clips"), FILES.values(), ids=FILES)
def test_published_files_import_by_name_and_without(place, format, name, text, there, clips):
    project, source = place(name, text, there)
    assert import_labels(project, source, format, FormatSpec()).added == len(clips)
    assert stored(project) == clips
    if name != "meta.txt":
        # Nobody has to say what it is; and twice adds nothing.
        report = import_labels(project, source, None, FormatSpec())
        assert (report.format, report.added) == (format, 0)
        if format in ("esc50", "urbansound8k", "birdclef"):
            assert import_labels(project, source, "csv", FormatSpec()).added == 0


@pytest.mark.parametrize("format", LAYOUTS)
def test_another_table_is_refused_with_its_format(place, format):
    other = "esc50" if format != "esc50" else "birdclef"
    _, name, text, there, _ = next(row for row in FILES.values() if row[0] == other)
    project, source = place(name, text, there)
    with pytest.raises(FaultyFile, match=f"give --format {other}"):
        import_labels(project, source, format, FormatSpec())
    source.write_text("a,b\n1,2\n")
    with pytest.raises(FaultyFile, match="its columns are a, b; give one with columns"):
        import_labels(project, source, format, FormatSpec())


@pytest.mark.parametrize("table", ["class_labels_indices.csv", "ontology.json"])
def test_classes_of_audioset_get_their_names(place, tmp_path, table, capsys):
    if table == "ontology.json":
        named = [{"id": "/m/1", "name": "Male speech, man speaking"}, {"id": "/t/2", "name": "Dog"}]
        (tmp_path / table).write_text(json.dumps(named))
    else:
        lines = 'index,mid,display_name\n0,/m/1,"Male speech, man speaking"\n1,/t/2,Dog\n'
        (tmp_path / table).write_text(lines)
    project, source = place("x.csv", SEGMENTS + 'ab, 30.0, 40.0, "/m/1,/t/2"\n', ["ab.wav"])
    report = import_labels(project, source, "audioset", FormatSpec())
    assert report.classes == ["Dog", "Male speech, man speaking"]
    assert "are ids" not in capsys.readouterr().err


def test_uploaders_of_fsd50k_are_domains(place, tmp_path):
    (tmp_path / "FSD50K.metadata").mkdir()
    about = {"64760": {"title": "x", "uploader": "ann"}, "163": {"uploader": "ann"}}
    (tmp_path / "FSD50K.metadata" / "dev_clips_info_FSD50K.json").write_text(json.dumps(about))
    rows = "64760,Guitar,/m/1,train\n163,Speech,/m/3,val\n"
    project, source = place("dev.csv", f"fname,labels,mids,split\n{rows}", ["64760.wav", "163.wav"])
    import_labels(project, source, "fsd50k", FormatSpec())
    assert {row[1] for row in stored(project).values()} == {"domain ann"}


def test_devices_of_scenes_are_domains_and_places_groups(place):
    format, name, text, there, _ = FILES["DCASE, scenes"]
    project, source = place(name, text, there)
    import_labels(project, source, format, FormatSpec())
    with project.store.read() as session:
        table = session.labels()
    assert (set(table.groups), set(table.domains)) == ({"x-0"}, {"a"})


def test_columns_that_are_named_count(place):
    rows = "abe,\"['xyz']\",['call'],Ann,cc,4,u,abe/XC1.ogg\n"
    project, source = place("train.csv", BIRDS + rows, ["abe/XC1.ogg"])
    spec = FormatSpec(label_column="primary_label", group_column="license")
    import_labels(project, source, "csv", spec)
    assert stored(project) == {"abe/XC1.ogg": ("abe", "cc", None, "train")}


def test_held_out_files_can_be_taken_for_training(place):
    project, source = place("eval.csv", "fname,labels,mids\n37199,Speech,/m/3\n", ["37199.wav"])
    import_labels(project, source, "fsd50k", FormatSpec(subset="train"))
    assert stored(project)["37199.wav"][-1] == "train"


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("x.csv", "fname,label\na.wav,Dog\n", "csv"), ("x.tsv", "label\tfname\nDog\ta\n", "csv"),
        ("x.csv", "path,labels,state,fold\na.wav,Dog,verified,\n", "csv"),
        ("train.csv", "fname,label,manually_verified\na,Dog,1\n", "fsdkaggle2018"),
        ("train_noisy.csv", "fname,labels\na,Dog\n", "fsdkaggle2019"),
        ("x.json", '{"a.wav": "Dog", "b.wav": ["Cat"]}', "corrections"),
        ("x.jsonl", '{"path": "a.wav", "labels": []}\n{"path": "b.wav", "labels": []}\n', "jsonl"),
        ("x.jsonl", '\n{"classes": ["Dog"]}\n', "jsonl"), ("x", b"PAR1....PAR1", "parquet"),
        ("x.csv", "path,labels\na.wav,Dog\n", "csv"), ("x.csv", "path,label\na,Dog\n", "csv"),
        ("x.csv", "fname,labels\na,Dog\n", "csv"), ("x.txt", '"fname" "label"\n"1" "a" "b"', "csv"),
        ("x.json", '[{"path": "a.wav", "labels": ["Dog"]}]', "jsonl"),
        ("x.json", '[\n {"path": "a.wav",\n "labels": ["Dog"]}\n]', "jsonl"),
        ("x.jsonl", '{"path": null, "labels": null, "classes": ["Dog"]}\n', "jsonl"),
        ("x.csv", "file,tag\na.wav,Dog\n", None),
        ("x.json", "[1, 2]", None), ("x.json", "{}", None), ("x.json", '{"a": 1}', None),
    ],
)  # fmt: skip
def test_what_a_file_is_is_found_out(tmp_path, name, content, format):
    source = tmp_path / name
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    if format is None:
        with pytest.raises(
            InvalidInput, match=r"give --format, .*one of audioset, birdclef"
        ) as why:
            find_format(source)
        assert ("by its columns, file, tag; give --format, csv with" in str(why.value)) == (
            "file,tag" in str(content)
        )
        assert "\n" not in str(why.value)
    else:
        assert find_format(source) == format
        assert format in registry.names("format")


UNTOLD = {
    "empty": (b"", "x is empty|the file is empty"),
    "blank lines": (b"\n\n", "the file is empty; give one with a header"),
    "cp1252": ("fname,label\na.wav,V\u00f6gel\n".encode("cp1252"), "iconv -f cp1252 -t utf-8"),
    "half UTF-16": (b"\xff\xfe\xfd", "not UTF-16 at byte 2; save the file as UTF-8"),
    "a workbook": (b"PK\x03\x04rest", "a workbook .*save the sheet as CSV UTF-8"),
    "an old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel; save the sheet as CSV"),
    "gzip": (b"\x1f\x8b\x08", "compressed; unpack it with gunzip"),
    "a database": (b"SQLite format 3\0", "a database of SQLite; write the table"),
    "a recording": (b"RIFF\x24\0\0\0WAVE", "a recording; give a label file"),
    "numpy": (b"\x93NUMPY\x01", "an array of numpy; write the labels as CSV"),
    "a pickle": (b"\x80\x04\x95", "a pickle of Python; write the labels as CSV"),
    "no header": (b"a.wav,Dog\nb.wav,Cat\n", "row 1 looks like data, .*'a.wav,Dog'; put a line"),
    "no header, label first": (b"Dog;x/a.FLAC\nCat;b\n", "row 1 looks like data"),
    "spaces": (b"fname label\n1 a.wav Dog\n", "the header is one cell, 'fname label'; .*write.csv"),
    "numbers for names": (b"0,1\na.wav,Dog\n", "numbers in place of names: '0, 1'; name them"),
    "numbers for names, an index": (b",0,1\n0,a.wav,Dog\n", "numbers in place of names"),
    "one-hot": (b"fname,Dog,Cat\na,1,0\nb,0,1\n", "is one-hot, .* each of 2 classes: 'Dog, Cat'"),
    "one-hot of floats": (b"path,Dog,Cat,Cow\na,1.0,0.0,\n", "one-hot, .* each of 3 classes"),
    "one-hot of booleans": (b"file,Dog,Cat\na,True,False\nb,False,False\n", "one-hot"),
    "JSON-MIN": (
        b'[{"audio": "a.wav", "id": 1, "choice": "Dog", "annotator": 1, "lead_time": 2.5}]',
        "Label Studio as JSON-MIN, .*export as JSON",
    ),
    "Label Studio's CSV": (
        b"audio,id,choice,annotator,annotation_id,lead_time\na.wav,1,Dog,1,1,2.5\n",
        "an export of Label Studio .*export as JSON",
    ),
    "records": (b'[{"file": "a.wav", "tag": "Dog"}]', "keys are 'file, tag'; rename these, "),
    "records, a line each": (b'{"file": "a"}\n{"file": "b"}\n', "keys are 'file'; rename these"),
    "JSON of pandas": (b'{"path": {"0": "a"}, "labels": {"0": "x"}}', "orient='records', lines=Tr"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "why"), UNTOLD.values(), ids=UNTOLD)
def test_what_is_no_label_file_is_told_with_a_remedy(tmp_path, content, why):
    source = tmp_path / "x"
    source.write_bytes(content)
    with pytest.raises(InvalidInput, match=why) as told:
        find_format(source)
    assert "\n" not in str(told.value)
    # Who gives the format is told the same, of a table.
    if not content.startswith((b"{", b"[")):
        found = registry.resolve("format", "csv")(source, FormatSpec())
        assert re.search(why, found.faults[0]), found.faults


def test_a_one_hot_table_made_as_the_remedy_says_imports(tmp_path):
    import pandas

    source, made = tmp_path / "old.csv", tmp_path / "new.csv"
    source.write_text('file,seconds,Dog,"Rain, heavy"\na.wav,2.5,1,1\nb.wav,1.5,0,1\n')
    with pytest.raises(InvalidInput) as told:
        find_format(source)
    code = str(told.value).partition("with pandas: ")[2]
    for name, file in (("OLD", source), ("NEW", made)):
        code = code.replace(f"({name})", f"({str(file)!r})")
    exec(code, {"pandas": pandas})
    assert find_format(made) == "csv"
    found = registry.resolve("format", "csv")(made, FormatSpec())
    assert [clip.labels for clip in found.clips] == [("Dog", "Rain, heavy"), ("Rain, heavy",)]


def test_who_names_both_columns_has_a_table(tmp_path):
    source = tmp_path / "x.csv"
    source.write_text("file,tag\na.wav,Dog\n")
    assert find_format(source, FormatSpec(path_column="file", label_column="tag")) == "csv"
    with pytest.raises(InvalidInput, match="give --format, csv with"):
        find_format(source, FormatSpec(path_column="file"))


@pytest.mark.parametrize("id_", ["/m/0dgw9r", "/t/dd00125", "/g/1"])
def test_an_id_without_a_name_is_told_by_one_of_the_file(tmp_path, id_):
    source = tmp_path / "s.csv"
    source.write_text(f'# YTID, start_seconds, end_seconds, positive_labels\nx, 0, 10, "{id_}"\n')
    [note] = registry.resolve("format", "audioset")(source, FormatSpec()).tell()
    assert note.startswith(f"1 labels are ids, {id_} say: put class_labels_indices.csv")


@pytest.mark.parametrize(
    ("format", "content", "told"),
    [
        ("urbansound8k", f"{US8K}1-2.wav,1,0.0,0.3,1,5,3,dog_bark\n", False),
        ("esc50", f"{ESC}1-2.wav,1,0,dog,True,2,A\n", False),
        ("dcase", "filename\tonset\toffset\tevent_label\na.wav\t0.1\t2.0\tDog\n", True),
    ],
)
def test_times_are_told_where_recordings_are_not_cut(tmp_path, format, content, told):
    source = tmp_path / "x.csv"
    source.write_text(content)
    lines = registry.resolve("format", format)(source, FormatSpec()).tell()
    assert [line for line in lines if "not read" in line] == (
        ["columns 'onset', 'offset' are not read: a label is of a whole recording, cut these if it "
         "is of a part"] if told else []
    )  # fmt: skip


def test_what_a_folder_is_is_found_out(tmp_path):
    assert find_format(tmp_path) == "folder"
    (tmp_path / "train_noisy.csv").touch()
    assert find_format(tmp_path) == "fsdkaggle2019"


FSD = "fname,labels,mids\n37199,Speech,/m/3\n"
FSD_DEV = "fname,labels,mids,split\n37199,Speech,/m/3,train\n"
NAMED = [
    # Format, file, text, subset, and what is told of it.
    ("fsd50k", "eval.csv", FSD, "test", "is what FSD50K holds out"),
    ("fsd50k", "FSD50K_Eval.csv", FSD, "test", "is what FSD50K holds out"),
    ("fsd50k", "evaluation.csv", FSD, "test", "is what FSD50K holds out"),
    ("fsd50k", "eval.csv", FSD_DEV, "test", "is what FSD50K holds out"),
    ("fsd50k", "dev.csv", FSD, "train", "no column 'split'"),
    ("fsd50k", "retrieval.csv", FSD, "train", "no column 'split'"),
    ("fsd50k", "my clips.csv", FSD, "train", "--subset test holds them out"),
    ("fsd50k", "dev.csv", FSD_DEV, "train", None),
    ("audioset", "eval_segments.csv", SEGMENTS + '37199, 0, 10, "/m/1"\n', "test", "of AudioSet|"),
    ("audioset", "medieval.csv", SEGMENTS + '37199, 0, 10, "/m/1"\n', "train", None),
]


@pytest.mark.parametrize(("format", "name", "text", "subset", "told"), NAMED)
@pytest.mark.parametrize("said", [True, False])
def test_a_name_that_sets_the_subset_is_told(place, capsys, format, name, text, subset, told, said):
    project, source = place(name, text, ["37199.wav"])
    import_labels(project, source, format if said else None, FormatSpec())
    assert stored(project)["37199.wav"][-1] == subset
    notes = capsys.readouterr().err
    assert ("--subset" in notes) == (told is not None)
    assert told is None or any(part in notes for part in told.split("|"))


@pytest.mark.parametrize("subset", ["train", "test"])
@pytest.mark.parametrize("name", ["eval.csv", "x.csv"])
def test_who_says_the_subset_is_told_nothing_of_it(place, capsys, name, subset):
    project, source = place(name, FSD, ["37199.wav"])
    import_labels(project, source, "fsd50k", FormatSpec(subset=subset))
    assert stored(project)["37199.wav"][-1] == subset
    assert "subset" not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", '{"37199": {}}', '{"37199": 3}'])
def test_metadata_that_cannot_be_read_are_told(place, tmp_path, capsys, text):
    (tmp_path / "dev_clips_info_FSD50K.json").write_text(text)
    project, source = place("dev.csv", FSD_DEV, ["37199.wav"])
    import_labels(project, source, "fsd50k", FormatSpec())
    assert "cannot be read, so that uploaders are no domains" in capsys.readouterr().err


SECONDARY = {
    # A cell of further birds, and which they are; None is a fault.
    "[]": "", "['']": "", '""': "", "nan": "", "[nan]": "", "\"['b', 'c']\"": "b,c",
    "['b' 'c']": "b,c", '"[b, c]"': "b,c", "[b]": "b", "b": "b", '"b,c"': "b,c", "[ b ]": "b",
    "\"['b x', 'c']\"": "b x,c", '"[1139490, 65448]"': "1139490,65448",
    "b c": None, "[b c]": None, "b;c": None, "b|c": None, "\"['b', c]\"": None, "['b": None,
    "{b}": None, '"[b, c d]"': None, "[[b]]": None,
}  # fmt: skip


@pytest.mark.parametrize(("cell", "birds"), SECONDARY.items())
@pytest.mark.parametrize("format", ["birdclef", None])
def test_further_birds_are_read_or_a_fault(place, cell, birds, format):
    rows = f"abe,{cell},['call'],Ann,cc,4,u,abe/XC1.ogg\n"
    project, source = place("train.csv", BIRDS + rows, ["abe/XC1.ogg"])
    if birds is None:
        with pytest.raises(FaultyFile, match=r"row 2: secondary_labels .* may be one name or sev"):
            import_labels(project, source, format, FormatSpec())
        assert stored(project) == {}
        return
    import_labels(project, source, format, FormatSpec())
    assert stored(project)["abe/XC1.ogg"][0] == ",".join(sorted(filter(None, ["abe", birds])))


@pytest.mark.parametrize("cell", ["nan", "NA", "None", "null"])
def test_cells_that_say_that_there_is_no_label_are_told(place, capsys, cell):
    text = f"filename\tevent_labels\nY1.wav\tDog\nY2.wav\t{cell}\n"
    project, source = place("weak.tsv", text, ["Y1.wav", "Y2.wav"])
    import_labels(project, source, "dcase", FormatSpec())
    assert stored(project)["Y2.wav"][0] == ""
    assert "1 cells of labels are nan, NA or the like" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["audioset", "csv", None])
def test_ids_without_names_are_told_however_they_are_read(place, capsys, format):
    project, source = place("x.csv", SEGMENTS + 'ab, 30.0, 40.0, "/m/1,/t/2"\n', ["ab.wav"])
    import_labels(project, source, format, FormatSpec())
    assert "2 labels are ids" in capsys.readouterr().err
