"""Tables as spreadsheets, pandas, R and people write them come to the same clips, and are told."""

import codecs

import pandas as pd
import pytest

from labelkit import registry
from labelkit.config import FormatSpec
from labelkit.datasets.cells import MISSING, read_list, split_names

DOG_AND_CAT = [("a.wav", ("Dog",)), ("b.wav", ("Cat",))]
# Text or bytes of a file, and what is told of how it was read.
SNIFFED = {
    "commas": ("fname,label\na.wav,Dog\nb.wav,Cat\n", ""),
    "TABs": ("fname\tlabel\na.wav\tDog\nb.wav\tCat\n", "parted by TABs"),
    "semicolons": ("fname;label\na.wav;Dog\nb.wav;Cat\n", "parted by semicolons"),
    "strokes": ("fname|label\na.wav|Dog\nb.wav|Cat\n", "parted by upright strokes"),
    "semicolons, commas in another column": (
        "fname;label;note, or more\na.wav;Dog;x, y, z\nb.wav;Cat;\n", "parted by semicolons",
    ),
    "a space after each comma": ("fname, label\na.wav, Dog\nb.wav, Cat\n", ""),
    "a space before a quote": ('fname, "label"\n"a.wav", "Dog"\nb.wav, "Cat"\n', ""),
    "a space before a quote, TABs": ('fname\t "label"\na.wav\t "Dog"\nb.wav\tCat\n', "TABs"),
    "spaces at the end of a name": ("fname ,label\t \na.wav,Dog\nb.wav,Cat\n", ""),
    "another case": ("FName,Label\na.wav,Dog\nb.wav,Cat\n", ""),
    "a mark of UTF-8": (b"\xef\xbb\xbffname,label\na.wav,Dog\nb.wav,Cat\n", ""),
    "two marks of UTF-8": (codecs.BOM_UTF8 * 2 + b"fname,label\na.wav,Dog\nb.wav,Cat\n", ""),
    "Excel's Unicode text": (
        "fname\tlabel\r\na.wav\tDog\r\nb.wav\tCat\r\n".encode("utf-16"), "read as UTF-16",
    ),
    "UTF-16, the other end first": (
        codecs.BOM_UTF16_BE + "fname,label\na.wav,Dog\nb.wav,Cat\n".encode("utf-16-be"), "UTF-16",
    ),
    "UTF-16 without a mark": ("fname,label\na.wav,Dog\nb.wav,Cat\n".encode("utf-16-le"), "UTF-16"),
    "UTF-16 without a mark, the other": (
        "fname\tlabel\na.wav\tDog\nb.wav\tCat\n".encode("utf-16-be"), "UTF-16",
    ),
    "choices of Label Studio": (
        'fname,label\na.wav,"{""choices"": [""Dog""]}"\nb.wav,Cat\n', "are lists",
    ),
    "Excel's first line": ("sep=;\nfname;label\na.wav;Dog\nb.wav;Cat\n", "semicolons"),
    "Excel's first line, in quotes": ('"sep=|"\r\nfname|label\r\na.wav|Dog\r\nb.wav|Cat\r\n', "st"),
    "Excel's empty rows": ("fname;label\n;\na.wav;Dog\n ; \nb.wav;Cat\n;;\n;;\n", "semicolons"),
    "a delimiter at the end of each row": ("fname,label\na.wav,Dog,\nb.wav,Cat,,\n", ""),
    "pandas' index": (",fname,label\n0,a.wav,Dog\n1,b.wav,Cat\n", ""),
    "pandas' index, read and written": ("Unnamed: 0,fname,label\n0,a.wav,Dog\n1,b.wav,Cat\n", ""),
    "two of them": ("Unnamed: 0.1,Unnamed: 0,fname,label\n0,0,a.wav,Dog\n1,1,b.wav,Cat\n", ""),
    "readr's index": ("...1,fname,label\n1,a.wav,Dog\n2,b.wav,Cat\n", ""),
    "R's write.csv": ('"","fname","label"\n"1","a.wav","Dog"\n"2","b.wav","Cat"\n', ""),
    "R's write.table": (
        '"fname" "label"\n'.replace(" ", ",") + '"1","a.wav","Dog"\n"2","b.wav","Cat"\n',
        "the first cell of each row is its number",
    ),
    "R's write.table, TABs": ("fname\tlabel\n1\ta.wav\tDog\n2\tb.wav\tCat\n", "is its number"),
    "R's write.table, as it is": (
        '"fname" "label"\n"1" "a.wav" "Dog"\n"2" "b.wav" "Cat"\n', "table parted by spaces",
    ),
    "R's write.table, a number": (
        '"fname" "label" "n"\n"1" "a.wav" "Dog" 1.5\n"2" "b.wav" "Cat" NA\n', "parted by spaces",
    ),
    "R's write.table, a quote in a text": (
        '"fname" "label" "note"\n"1" "a.wav" "Dog" "a \\"b\\""\n"2" "b.wav" "Cat" ""\n', "spaces",
    ),
    "R's write.table without rows' names": (
        '"fname" "label"\n"a.wav" "Dog"\n"b.wav" "Cat"\n', "parted by spaces",
    ),
    "names of an export, no states": ("path,labels\na.wav,Dog\nb.wav,Cat\n", ""),
    "one name of an export": ("path,label\na.wav,Dog\nb.wav,Cat\n", ""),
    "the other name of an export": ("fname,labels\na.wav,Dog\nb.wav,Cat\n", ""),
    "an index from 0, not named": ("fname,label\n0,a.wav,Dog\n1,b.wav,Cat\n", "is its number"),
    "comments above": ("# made by me\n# on a Monday\nfname,label\na.wav,Dog\nb.wav,Cat\n", ""),
    "the header is a comment": ("#fname,label\na.wav,Dog\nb.wav,Cat\n", ""),
    "the header is the last comment": ("# mine\n# fname\tlabel\na.wav\tDog\nb.wav\tCat\n", "TABs"),
    "blank lines above": ("\n\nfname,label\n\na.wav,Dog\n\nb.wav,Cat\n", ""),
    "old line ends": (b"fname,label\ra.wav,Dog\rb.wav,Cat\r", ""),
    "lists of pandas": ("fname,label\na.wav,['Dog']\nb.wav,['Cat']\n", "are lists"),
    "lists of JSON": ('fname,label\na.wav,"[""Dog""]"\nb.wav,"[""Cat""]"\n', "are lists"),
    "whole numbers of pandas": ("fname,label,n\na.wav,Dog,1.0\nb.wav,Cat,2.0\n", ""),
}  # fmt: skip


def read(tmp_path, content, **options):
    source = tmp_path / "x.csv"
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    return registry.resolve("format", "csv")(source, FormatSpec(**options))


@pytest.mark.parametrize(("content", "told"), SNIFFED.values(), ids=SNIFFED)
def test_the_same_table_however_it_is_written(tmp_path, content, told):
    found = read(tmp_path, content)
    assert found.faults == []
    assert [(clip.path, clip.labels) for clip in found.clips] == DOG_AND_CAT
    assert told in "\n".join(found.tell()) and bool(found.tell()) == bool(told)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        # Labels that stand unquoted are no row numbers, nor are they lost.
        ("fname,label\na.wav,Dog,Cat\nb.wav,Cat,Dog\n", "row 2: too many cells"),
        ("fname,label\n64760,Dog,Cat\n64761,Cat,Dog\n", "row 2: too many cells"),
        ("fname,label\n1,a.wav,Dog\n3,b.wav,Cat\n", "row 2: too many cells"),
        ("fname;label\na.wav\n", "row 2: too few cells"),
        ("file,tag\na.wav,Dog\n", "no column 'fname' in file, tag; rename it, or name yours"),
        ("fname,tag\na.wav,Dog\n", "name yours by --label-column"),
        ('sep=;\nfname;label\na.wav;"Dog\n', "not CSV"),
        ("# c\n# c\nfname;label\na.wav;\n", "row 4: label list ''"),
        (b"fname,label\na.wav,V\xf6gel\n", "in line 2: 'a.wav,Vögel' if it is cp1252; save"),
        (b"\xff\xfef\0n\0", "no column 'fname' in fn"), (b"\xff\xfef\0n", "not UTF-16"),
        ("fname,label\na.wav,[]\n", "label list '[]' is empty"),
        ("fname,label\na.wav,()\n", "label list '()' is empty"),
        ("fname,label\na.wav,set()\n", "label list 'set()' is empty"),
        ("fname,label\na.wav,\"['Dog', '']\"\n", "has an empty entry"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_by_its_line(tmp_path, text, fault):
    found = read(tmp_path, text)
    assert fault in "\n".join(found.faults), found.faults


@pytest.mark.parametrize("word", [*MISSING, *(word.upper() for word in MISSING), "NaN", "None"])
def test_what_programs_write_for_none_is_none(tmp_path, word):
    rows = f"a.wav,Dog,{word},{word},1\nb.wav,Cat,2,{word},0\nc.wav,Cat,2.0,x,\n"
    options = {"fold_column": "f", "group_column": "g", "verified_column": "v"}
    found = read(tmp_path, f"fname,label,f,g,v\n{rows}", **options)
    assert found.faults == []
    assert [(c.fold, c.group) for c in found.clips] == [(None, None), (2, None), (2, "x")]
    assert "2 groups are nan, NA or the like, and taken as none" in found.tell()
    # A label that is none is nothing to guess at, but a class may be called so in quotes.
    [fault] = read(tmp_path, f"fname,label\na.wav,{word}\n").faults
    assert "how programs write that there is none" in fault
    assert read(tmp_path, f'fname,label\na.wav,"""{word}"""\n').clips[0].labels == (word,)
    own = read(tmp_path, f"path,labels,state\na.wav,{word},rejected\n")
    assert own.faults == [] and own.clips[0].labels == ()


@pytest.mark.parametrize("flag", ["True", "TRUE", "true", "1", "1.0", "yes", "T"])
def test_booleans_of_every_program(tmp_path, flag):
    other = {"True": "False", "TRUE": "FALSE", "1.0": "0.0", "T": "F"}.get(flag, "0")
    text = f"fname,label,ok\na.wav,Dog,{flag}\nb.wav,Dog,{other}\nc.wav,Dog,NaN\n"
    found = read(tmp_path, text, verified_column="ok")
    assert [clip.state for clip in found.clips] == ["verified", "unverified", "unverified"]


@pytest.mark.parametrize("fold", ["3", "3.0", "fold3", "Fold 3", "fold_3", "FOLD-3", "03"])
def test_folds_however_they_are_called(tmp_path, fold):
    assert read(tmp_path, f"fname,label,f\na.wav,x,{fold}\n", fold_column="f").clips[0].fold == 3


@pytest.mark.parametrize("fold", ["-1", "1.5", "x3", "fold", "fold3b", "10000", "1e1", "3,0"])
def test_what_is_no_fold_is_a_fault(tmp_path, fold):
    found = read(tmp_path, f'fname,label,f\na.wav,x,"{fold}"\n', fold_column="f")
    assert f"fold is '{fold}'" in found.faults[0]


@pytest.mark.parametrize("column", ["group", "label"])
def test_whole_numbers_are_whole_unless_they_stand_in_quotes(tmp_path, column):
    def one(*cells):
        rows = "\n".join(f"{n}.wav,x,{cell}" for n, cell in enumerate(cells))
        where = {"group_column": "g"} if column == "group" else {"label_column": "g"}
        clips = read(tmp_path, f"fname,label,g\n{rows}\n", **where).clips
        return [clip.group if column == "group" else clip.labels[0] for clip in clips]

    assert one("1.0", "20.00") == ["1", "20"]
    assert one("1.0", "1.5") == ["1.0", "1.5"] and one("1.0", "x") == ["1.0", "x"]
    assert one('"""1.0"""', '"""2.0"""') == ["1.0", "2.0"]


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("['Dog', 'Cat']", ("Dog", "Cat")), ("['Dog' 'Cat']", ("Dog", "Cat")),
        ('["Dog","Cat"]', ("Dog", "Cat")), ("['Dog'\n 'Cat']", ("Dog", "Cat")),
        ("[np.str_('Dog'), np.str_('Cat')]", ("Dog", "Cat")), ("[]", ()), ("[ 'Dog', ]", ("Dog",)),
        ("['it\\'s', \"5'\"]", ("it's", "5'")), ('["Dog, big"]', ("Dog, big",)),
        ('["V\\u00f6gel"]', ("Vögel",)), ('{"choices": ["Dog", "Cat"]}', ("Dog", "Cat")),
        ('{"choices": "Dog"}', None), ("{}", None), ("['a]', 'b']", ("a]", "b")),
        ("[Dog]", None), ("['Dog'", None), ("['Dog'; 'Cat']", None), ("[1, 2]", None),
        ("['Dog', ['Cat']]", None), ("'Dog'", None), ("", None),
        ("('Dog', 'Cat')", ("Dog", "Cat")), ("('Cat',)", ("Cat",)), ("()", ()), ("( )", ()),
        ("{'Dog', 'Cat'}", ("Dog", "Cat")), ("set()", ()), ("{'Cat'}", ("Cat",)),
        ("frozenset({'Dog', 'Cat'})", ("Dog", "Cat")), ("frozenset()", ()),
        ("frozenset(['Dog'])", ("Dog",)), ("set(['Dog', 'Cat'])", ("Dog", "Cat")),
        ("array(['Dog', 'Cat'], dtype=object)", ("Dog", "Cat")), ("array([], dtype='<U3')", ()),
        ("list(('Dog',))", ("Dog",)), ("('Rain, heavy', \"it's\")", ("Rain, heavy", "it's")),
        ("('Dog')", ("Dog",)), ("(np.str_('Dog'), np.str_('Cat'))", ("Dog", "Cat")),
        ("(Dog)", None), ("(Dog, Cat)", None), ("('Dog', 'Cat'", None), ("set", None),
        ("('Dog') (small)", None), ("{'Dog': 1}", None), ("{Dog}", None), ("(1, 2)", None),
        ("['Dog')", None), ("array('Dog')", None), ("asset(['Dog'])", None),
    ],
)  # fmt: skip
def test_lists_in_cells(cell, names):
    assert read_list(cell) == names
    if names:
        assert split_names(cell, ",") == names


CLIPS = [
    ("a.wav", ("Dog",), "verified", 1, "7", 1.25),
    ("b.wav", ("Cat", "Rain, heavy"), "unverified", 0, "x y", 0.5),
    ("ü.wav", (), "rejected", None, None, None), ("d.wav", ("nan",), "relabeled", 1, "NA", 2.0),
    ("e.wav", ("[x]", 'say "so"'), "self_verified", 3, "1.0", 10.0),
    ("f.wav", ("'y')", "('x'"), "verified", 1, "()", 1.0),
    ("g.wav", ("()",), "verified", 1, None, 1.0),
    ("h.wav", ("(soft)", "set()", "{x}"), "verified", 1, "()", 1.0),
]  # fmt: skip


@pytest.fixture
def exported(tmp_path):
    """A file that labelkit wrote, with names that other programs could take for something else."""
    from labelkit.datasets.writers import write_csv
    from labelkit.records import Clip

    clips = [
        Clip(path=path, labels=labels, state=state, fold=fold, group=group, duration_s=seconds,
             content_hash=f"{n}a" * 16)
        for n, (path, labels, state, fold, group, seconds) in enumerate(CLIPS)
    ]  # fmt: skip
    write_csv(tmp_path / "out.csv", clips, ["Dog"])
    return tmp_path / "out.csv"


def as_excel(frame, file):
    """As Excel writes it where a comma is the decimal point."""
    seconds = [f"{x:g}".replace(".", ",") if x == x else "" for x in frame.duration_s]
    frame = frame.assign(duration_s=seconds)
    file.write_bytes(b"\xef\xbb\xbf" + frame.to_csv(sep=";", index=False).encode())


def as_r(frame, file):
    """As write.csv of R does: row names, every text in quotes, and NA without."""

    def cell(value):
        if value != value:
            return "NA"
        return f"{value:g}" if isinstance(value, float) else '"' + value.replace('"', '""') + '"'

    lines = [",".join(['""', *(f'"{name}"' for name in frame.columns)])]
    for number, row in enumerate(frame.itertuples(index=False), 1):
        lines.append(",".join([f'"{number}"', *map(cell, row)]))
    file.write_text("\n".join(lines) + "\n")


REWRITES = {
    "pandas": lambda frame, file: frame.to_csv(file),
    "pandas without index": lambda frame, file: frame.to_csv(file, index=False),
    "pandas, with nan": lambda frame, file: frame.to_csv(file, na_rep="nan"),
    "pandas, twice": lambda frame, file: frame.reset_index().to_csv(file),
    "pandas, all in quotes": lambda frame, file: frame.to_csv(file, quoting=1),
    "pandas, TABs": lambda frame, file: frame.to_csv(file, sep="\t"),
    "pandas, other columns first": lambda frame, file: frame[frame.columns[::-1]].to_csv(file),
    "pandas, its own types": lambda frame, file: frame.convert_dtypes().to_csv(file),
    "pandas, a flag more": lambda frame, file: frame.assign(ok=True).to_csv(file),
    "Excel": as_excel,
    "Excel, Unicode text": lambda frame, file: frame.to_csv(file, sep="\t", encoding="utf-16"),
    "R": as_r,
}


@pytest.mark.parametrize("rewrite", REWRITES.values(), ids=REWRITES)
def test_an_export_comes_back_whatever_wrote_it_again(exported, tmp_path, rewrite):
    read = registry.resolve("format", "csv")
    want = read(exported, FormatSpec())
    assert [(c.path, c.labels, c.state, c.fold, c.group, c.duration_s) for c in want.clips] == CLIPS
    rewrite(pd.read_csv(exported), tmp_path / "again.csv")
    found = read(tmp_path / "again.csv", FormatSpec())
    assert found.faults == []
    drop = {"row": 0}
    assert [vars(c) | drop for c in found.clips] == [vars(c) | drop for c in want.clips]


AGAIN = {
    "lines": ("jsonl", lambda frame: frame.to_json(orient="records", lines=True)),
    "lines, with an index": (
        "jsonl", lambda frame: frame.reset_index().to_json(orient="records", lines=True),
    ),
    "a list": ("jsonl", lambda frame: frame.to_json(orient="records", indent=1)),
    "a table": ("csv", lambda frame: frame.to_csv(index=False)),
    "a table with an index": ("csv", lambda frame: frame.to_csv()),
    "a table, nan": ("csv", lambda frame: frame.to_csv(index=False, na_rep="nan")),
    "a table, TABs": ("csv", lambda frame: frame.to_csv(sep="\t")),
}  # fmt: skip


@pytest.mark.parametrize(("format", "rewrite"), AGAIN.values(), ids=AGAIN)
def test_json_lines_come_back_however_pandas_writes_them_again(tmp_path, format, rewrite):
    from labelkit.datasets.sniffing import find_format
    from labelkit.datasets.writers import write_jsonl
    from labelkit.records import Clip

    clips = [
        Clip(path="a.wav", labels=("Dog",), state="verified", fold=1, group="7", duration_s=1.5),
        Clip(path="b.wav", labels=("Cat", "Rain, heavy"), content_hash="0a" * 16, duration_s=2.0),
        Clip(path="c.wav", labels=(), state="rejected"),
    ]
    source, again = tmp_path / "out.jsonl", tmp_path / "again"
    write_jsonl(source, clips, ["Rain, heavy", "Dog", "Cat"])
    again.write_text(rewrite(pd.read_json(source, lines=True)))
    want = registry.resolve("format", "jsonl")(source, FormatSpec())
    assert find_format(again) == format
    found = registry.resolve("format", format)(again, FormatSpec())
    assert found.faults == [] and found.classes == want.classes
    drop = {"row": 0}
    assert [vars(c) | drop for c in found.clips] == [vars(c) | drop for c in want.clips]


# Columns beside fname and label, and what is told of them.
UNREAD = {
    "fold": (["fold"], "column 'fold' is not read; if a clip's, give --fold-column fold"),
    "another case": (["Fold"], "give --fold-column Fold"),
    "a number of folds": (["fold_id"], "--fold-column fold_id"),
    "cross-validation": (["cv_fold"], "--fold-column cv_fold"),
    "group": (["group"], "--group-column group"),
    "an uploader": (["uploader"], "--domain-column uploader"),
    "a space in the name": (["Group", "is test"], "--group-column Group"),
    "a recording": (["src_file"], "--group-column src_file"),
    "a speaker": (["speaker_id"], "--domain-column speaker_id"),
    "split": (["split"], "column 'split' is not read; if a clip's, give --subset-column split"),
    "subset": (["subset"], "--subset-column subset"),
    "verified": (["verified"], "--verified-column verified"),
    "verified by hand": (["manually_verified"], "--verified-column manually_verified"),
    "state": (["state"], "--state-column state"),
    "a hash": (["md5"], "--hash-column md5"),
    "a length": (["duration"], "--duration-column duration"),
    "several": (
        ["fold", "group", "split"],
        "columns 'fold', 'group', 'split' are not read; if a clip's, give --fold-column fold "
        "--group-column group --subset-column split",
    ),
    "times": (["onset", "offset"], "columns 'onset', 'offset' are not read: a label is of a whole"),
    "times in seconds": (["start_s", "end_s"], "columns 'start_s', 'end_s' are not read: a label"),
    "times of other tools": (["tmin", "tmax"], "'tmin', 'tmax' are not read: a label is of a w"),
    "a second label": (
        ["label2"],
        "column 'label2' is not read, labels are those of 'label'; --la",
    ),
    "tags": (["tags"], "--label-column tags reads that instead"),
    "more labels": (["secondary_labels"], "--label-column secondary_labels reads that instead"),
    "others": (["note", "id", "start", "Unnamed: 0", "tempo", "manifold", "settings"], ""),
}


@pytest.mark.parametrize(("names", "told"), UNREAD.values(), ids=UNREAD)
def test_columns_that_are_not_read_are_told(tmp_path, names, told):
    header, row = (
        ",".join(["fname", "label", *names]),
        ",".join(["a.wav", "Dog", *"0" * len(names)]),
    )
    found = read(tmp_path, f"{header}\n{row}\n")
    assert found.faults == [] and len(found.clips) == 1
    assert [told in line for line in found.tell()] == ([True] if told else [])
    # What is read is not told.
    if "--fold-column fold " in f"{told} ":
        assert "fold" not in "".join(
            read(tmp_path, f"{header}\n{row}\n", fold_column="fold").tell()
        )


def test_an_export_has_no_columns_that_are_not_read(exported):
    assert registry.resolve("format", "csv")(exported, FormatSpec()).tell() == []


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["reason"], "column 'reason' is not read of corrections"),
        (["state"], "column 'state' is not read of corrections: what they give is relabeled"),
        (["Reason", "state", "fold"], "columns 'Reason', 'state' are not read of corrections"),
        (["comment"], "labelkit label has --reason"), (["fold"], ""), ([], ""),
    ],
)  # fmt: skip
def test_columns_of_corrections_that_are_not_read_are_told(tmp_path, names, told):
    header, row = (
        ",".join(["fname", "label", *names]),
        ",".join(["a.wav", "Dog", *"x" * len(names)]),
    )
    source = tmp_path / "c.csv"
    source.write_text(f"{header}\n{row}\n")
    found = registry.resolve("format", "corrections")(source, FormatSpec())
    assert found.faults == []
    assert [told in line for line in found.tell()] == ([True] if told else [])


@pytest.mark.parametrize("name", ["__index_level_0__", "index", "level_0", "Unnamed: 0", "...1"])
def test_parquet_with_an_index_comes_back(tmp_path, name):
    import duckdb

    rows = "(select ['Dog'] as labels, 'a.wav' as path, {} as \"" + name + '")'
    for number, (value, n_faults) in enumerate([("7", 0), ("7::utinyint", 0), ("'x'", 1)]):
        file = tmp_path / f"{number}.parquet"
        duckdb.execute(f"copy {rows.format(value)} to '{file}' (format parquet)")
        found = registry.resolve("format", "parquet")(file, FormatSpec())
        assert len(found.faults) == n_faults, found.faults
        assert len(found.clips) == 1 - n_faults


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ('{"path": null, "labels": ["Dog"]}', "path None"),
        ('{"path": "a", "labels": null}', "None"),
        ('{"path": "a", "labels": ["Dog"], "note": null}', "unknown key 'note'"),
        ('{"path": "a", "labels": ["Dog"], "index": "x"}', "unknown key 'index'"),
        ('{"path": "a", "labels": ["Dog"], "classes": ["Dog"]}', "unknown key 'classes'"),
    ],
)  # fmt: skip
def test_what_is_null_for_no_reason_is_a_fault(tmp_path, item, fault):
    (tmp_path / "x").write_text(item)
    [found] = registry.resolve("format", "jsonl")(tmp_path / "x", FormatSpec()).faults
    assert fault in found
