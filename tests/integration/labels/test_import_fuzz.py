"""Rubbish for every importer: a clear error and the store as it was, or a right import."""

import csv
import io
import json
import math
import os
import pickle
import re
import shutil
import zipfile
from contextlib import suppress

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit import registry
from labelkit.cleaning.external import import_probs
from labelkit.cli import cli
from labelkit.config import FormatSpec
from labelkit.datasets.published import LAYOUTS
from labelkit.errors import FaultyFile, InvalidInput
from labelkit.labels.importing import import_labels
from labelkit.project import create_project, open_project
from labelkit.records import Clip
from labelkit.states import STATES
from labelkit.stores.labels import log_files
from tests.support.labelled import CLASSES, PATHS, judge, make_labelled, write_probs

# More where somebody asks for it: LABELKIT_FUZZ=100 tries a hundred times as much.
MORE = int(os.environ.get("LABELKIT_FUZZ", "1"))
FORMATS = registry.names("format")
CLIPS = [
    Clip(path="a.wav", labels=("Dog",), state="verified", fold=1, group="x", duration_s=1.25),
    Clip(path="sub dir/ü.wav", labels=("Cat, loud", "Dog"), fold=0, content_hash="0" * 32),
    Clip(path="c.wav", labels=(' odd "one" ',), state="relabeled", subset="test", group=" y"),
    Clip(path="d.wav", labels=(), state="rejected", fold=1),
    Clip(path="e.wav", labels=("Cat, loud",), state="self_verified", duration_s=0.1),
    Clip(path="日本.wav", labels=("猫",), state="verified"),
]
# The first rows of label files that are published, invented.
PUBLISHED = {
    "esc50": "filename,fold,target,category,esc10,src_file,take\n1-7-A-0.wav,1,0,dog,True,7,A\n"
    "5-9-B-1.wav,5,1,rooster,False,9,B\n",
    "urbansound8k": "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
    "7-3-0-0.wav,7,0.0,0.3,1,5,3,dog_bark\n9-2-0-1.wav,9,5.0,9.0,1,10,2,drilling\n",
    "fsd50k": 'fname,labels,mids,split\n64760,"Guitar,Music","/m/1,/m/2",train\n'
    "16399,Bark,/m/3,val\n",
    "dcase": "filename\tonset\toffset\tevent_label\na.wav\t0.0\t1.5\tDog\na.wav\t1.0\t2.0\tCat\n"
    "b.wav\t\t\t\n",
    "birdclef": "primary_label,secondary_labels,author,filename\nabe,\"['xyz', 'uvw']\",Anna,"
    "abe/XC1.ogg\nxyz,[],Ben,xyz/XC2.ogg\n",
    "audioset": "# Segments\n# YTID, start_seconds, end_seconds, positive_labels\n"
    '--x, 30.000, 40.000, "/m/1,/t/2"\n_y, 0.000, 10.000, "/m/1"\n',
}
CLASS_NAMES = ["Dog", "Cat, loud", ' odd "one" ', "猫"]


def fuzz(n):
    return settings(deadline=None, derandomize=MORE == 1, max_examples=n * MORE, database=None)


# --- what is imported --------------------------------------------------------------------------


def sound(name, folder):
    """Bytes of a file in which nothing is wrong, made by the writer where there is one."""
    if name == "folder":
        return "Dog/a.wav\nCat, loud/deep/b.flac\nDog/ü.ogg".encode()
    if name in LAYOUTS:
        return PUBLISHED[name].encode()
    if name == "corrections":
        return json.dumps({"a.wav": "Cat", "b.wav": "remove", "c.wav": ["Dog", "Cat"]}).encode()
    target = folder / "sound"
    if name == "fsdkaggle2019":
        target.mkdir()
    registry.resolve("writer", name)(target, CLIPS, CLASS_NAMES)
    return (target / "train_noisy.csv" if name == "fsdkaggle2019" else target).read_bytes()


def put(name, folder, data):
    """A file of these bytes; for a folder of classes, of recordings named by its lines."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if name != "folder":
        file = folder / "train_noisy.csv"
        file.write_bytes(data)
        return file
    root = os.fsencode(folder / "audio")
    os.mkdir(root)
    for line in data.split(b"\n"):
        path = os.path.normpath(os.path.join(root, line.lstrip(b"/")))
        if path.startswith(root + b"/"):
            with suppress(OSError, ValueError):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "xb"):
                    pass
    return folder / "audio"


def stored_bytes(project):
    """The store as it lies on disk: what is refused leaves not a byte of it changed."""
    assert not log_files(project.store.path)
    return project.store.path.read_bytes()


class Bench:
    """An empty project, made anew after every import that worked."""

    def __init__(self, folder):
        self.folder, self.work = folder, folder / "work"
        self.empty = folder / "empty"
        self.empty.mkdir()
        create_project(self.empty, self.empty)
        self.project = self.labelled = None

    def copy(self, name):
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return open_project(shutil.copytree(self.empty, self.folder / name))

    def fresh(self):
        if self.project is None:
            self.project = self.copy("p")
            self.before = stored_bytes(self.project)
        return self.project

    def to_correct(self):
        """A project with clips to correct, made anew after every correction."""
        if self.labelled is None:
            self.labelled = self.copy("labelled")
            source = self.folder / "clips.jsonl"
            names = ("a.wav", "b.wav", "c.wav", "deep/d.wav")
            lines = [{"path": p, "labels": ["Dog"]} for p in names]
            source.write_text("\n".join(map(json.dumps, [{"classes": ["Dog", "Cat"]}, *lines])))
            import_labels(self.labelled, source, "jsonl", FormatSpec(), metadata_only=True)
            self.before_corrections = stored_bytes(self.labelled)
            self.states = stored_states(self.labelled)
        return self.labelled

    def try_import(self, name, data, spec=None):
        """Import rubbish; returns the rows it made, or None where it was refused."""
        project = self.fresh()
        source = put(name, self.work, data)
        if name == "folder":
            project.audio_dir = source
        try:
            import_labels(project, source, name, spec or FormatSpec(), metadata_only=True)
        except FaultyFile as error:
            check_message(error)
            assert stored_bytes(project) == self.before
            return None
        except InvalidInput as error:
            assert "\n" not in str(error) and len(str(error)) < 2000
            assert stored_bytes(project) == self.before
            return None
        self.project = None
        return stored(project)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("bench"))


def stored(project):
    """What an import made of an empty project, one row a clip."""
    with project.store.read() as session:
        assert session.last_batch() <= 1
        return session.rows(
            "select c.path, coalesce(list_sort(l.labels), []), l.state, f.fold, c.group_name, "
            "c.subset, c.content_hash, c.duration_s from labels_now l join clips c using (clip_id) "
            "left join folds f using (clip_id) order by c.clip_id"
        )


def check_message(error):
    """One clear line a fault, however many there are and whatever they quote."""
    lines = str(error).split("\n")
    assert "nothing was imported" in lines[0] and len(lines) <= 52
    assert error.faults
    for fault in error.faults:
        assert fault.isprintable() and len(fault) < 1000, fault
        assert "; " in fault, "each fault names a remedy"


# --- the same files, read in the plainest way ----------------------------------------------------


# State, fold, group, subset, hash and length where the file does not say them.
UNTOLD = ("unverified", None, None, "train", None, None)


def split(cell):
    """Names between commas, commas in quotes apart."""
    parts, part, inside = [], "", False
    for letter in cell:
        if letter == '"' and (inside or not part.strip()):
            inside = not inside
        elif letter == '"' and part.strip().startswith('"'):
            inside = True
        if letter == "," and not inside:
            parts.append(part)
            part = ""
        else:
            part += letter
    return [plain(part) for part in [*parts, part]]


def plain(cell):
    cell = cell.strip()
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def tidy(path):
    return os.path.normpath(path).lstrip("/")


NOTHING = ("", "nan", "na", "n/a", "#n/a", "<na>", "none", "null", "nat", "\\n")


class NotPlain(Exception):
    """A file that only the importer's own ways can read: there is nothing to compare with."""


def text_of(data):
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def rows_plainly(data, *needed):
    """Rows of a table of commas; others are for the importer alone."""
    text = text_of(data)
    lines = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    rows = [row for row in lines if any(cell.strip() for cell in row)]
    header = [name.strip() for name in rows[0]]
    if text.startswith("#") or not {*needed} <= {*header}:
        raise NotPlain
    for row in rows[1:]:
        cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
        if len(row) > len(header) and any(cell.strip() for cell in row[len(header) :]):
            raise NotPlain
        yield cells


def joined(rows):
    """Rows of one clip are one, with all their labels."""
    found = {}
    for path, labels, *rest in rows:
        before = found.setdefault(path, (path, [], *rest))
        before[1].extend(name for name in labels if name not in before[1])
    return list(found.values())


def whole(cell):
    return int(float(cell)) if cell and cell.lower() not in NOTHING else None


def read_csv_plainly(data):
    try:
        own = list(rows_plainly(data, "path", "labels", "state"))
    except NotPlain:
        rows = rows_plainly(data, "fname", "label")
        return joined((tidy(plain(r["fname"])), split(r["label"]), *UNTOLD) for r in rows)
    return joined(
        (
            tidy(plain(cells["path"])),
            split(cells["labels"]) if cells["labels"].lower() not in NOTHING else [],
            cells["state"], whole(cells.get("fold")),
            plain(cells["group"]) if cells.get("group", "").lower() not in NOTHING else None,
            cells.get("subset", "train"),
            cells.get("content_hash", "") if cells.get("content_hash") not in NOTHING else None,
            float(cells["duration_s"])
            if cells.get("duration_s", "").lower() not in NOTHING else None,
        )
        for cells in own
    )  # fmt: skip


def read_2018_plainly(data):
    for row in rows_plainly(data, "fname", "label", "manually_verified"):
        checked = row["manually_verified"].lower() in ("1", "1.0", "true", "t", "yes", "y")
        state = "verified" if checked else "unverified"
        yield (tidy(plain(row["fname"])), [row["label"]], state, *UNTOLD[1:])


def read_2019_plainly(data):
    for row in rows_plainly(data, "fname", "labels"):
        labels = [name.strip() for name in row["labels"].split(",")]
        yield (tidy(plain(row["fname"])), labels, *UNTOLD)


def of_item(item):
    state = item.get("state") or "unverified"
    if item.get("verified") is not None:
        told = str(item["verified"]).lower() in ("1", "true", "yes")
        state = "verified" if told else "unverified"
    group, fold, seconds = item.get("group"), item.get("fold"), item.get("duration_s")
    seconds = None if seconds != seconds else seconds
    return (
        tidy(item["path"]), item["labels"], state, None if fold in (None, "") else int(fold),
        None if group is None else str(group), item.get("subset") or "train",
        item.get("content_hash") or None, None if seconds in (None, "") else float(seconds),
    )  # fmt: skip


def read_jsonl_plainly(data):
    items = [json.loads(line) for line in text_of(data).split("\n") if line.strip()]
    return [of_item(item) for item in items if list(item) != ["classes"]]


def read_parquet_plainly(data, file):
    file.write_bytes(data)
    frame = duckdb.sql(f"from read_parquet('{file}')")
    return [of_item(dict(zip(frame.columns, row, strict=True))) for row in frame.fetchall()]


def read_folder_plainly(source):
    ends = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
    names = [
        os.path.relpath(os.path.join(folder, name), source)
        for folder, _, files in os.walk(source)
        for name in files
        if re.search(r"[^/]\.\w+$", name) and name.lower().endswith(ends)
    ]
    # What is hidden or not UTF-8 is left out, and told.
    seen = [name for name in names if not re.search("(^|/)[.]|[~](/|$)|[\ud800-\udfff]", name)]
    return [(name, [name.split("/")[0]], *UNTOLD) for name in seen]


def expected(name, data, work):
    if name == "parquet":
        rows = read_parquet_plainly(data, work / "plain.parquet")
    elif name == "folder":
        rows = read_folder_plainly(work / "audio")
    else:
        rows = {
            "csv": read_csv_plainly, "jsonl": read_jsonl_plainly,
            "fsdkaggle2018": read_2018_plainly, "fsdkaggle2019": read_2019_plainly,
        }[name](data)  # fmt: skip
    return [(path, sorted(labels), *rest) for path, labels, *rest in rows]


def check(bench, name, data):
    """The one property: refused and nothing changed, or every row as a plain reading has it."""
    if name == "corrections":
        check_corrections(bench, data)
        return
    rows = bench.try_import(name, data)
    if name in LAYOUTS:
        check_published(rows or [], data)
    elif rows is not None:
        try:
            wanted = expected(name, data, bench.work)
        except NotPlain:
            return
        if name == "folder":
            rows, wanted = sorted(rows), sorted(wanted)
        assert rows == wanted


def check_published(rows, data):
    """All that is kept stands in the file, and no more clips than it has lines."""
    text = text_of(data) if rows else ""
    assert len(rows) <= text.count("\n") + text.count("\r") + 1
    for path, labels, *_ in rows:
        assert os.path.basename(path) in text and all(label in text for label in labels)


def check_corrections(bench, data):
    project = bench.to_correct()
    source, states = put("corrections", bench.work, data), dict(bench.states)
    try:
        import_labels(project, source, "corrections", FormatSpec())
    except FaultyFile as error:
        check_message(error)
        assert stored_bytes(project) == bench.before_corrections
        return
    bench.labelled = None
    for name, said in json.loads(text_of(data)).items():
        names = [n.strip() for n in said.split(",")] if isinstance(said, str) else said
        path = tidy(name) if tidy(name) in states else f"deep/{tidy(name)}"
        removed = said == "remove"
        states[path] = (sorted([] if removed else names), "rejected" if removed else "relabeled")
    assert stored_states(project) == states


def stored_states(project):
    with project.store.read() as session:
        rows = session.rows("select path, list_sort(labels), state from labels_now")
    return {path: (labels, state) for path, labels, state in rows}


# --- rubbish -------------------------------------------------------------------------------------

TOKENS = [
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b'"', b'""', b",", b"\n", b"\r", b"\r\n", b";",
    b"[", b"]", b"{", b"}", b":", b"null", b"NaN", b"-1", b"1e999", b"9" * 5000, b"x" * 140_000,
    b"[" * 3000, b'{"a":' * 2000, b"..", b"/", b"../", b"remove", b" ", b"\xed\xa0\x80", b"\\ud800",
    "\u2028".encode(), b"\x85", b"\\", b"PAR1", b"\x1b[31m",
]  # fmt: skip
ALPHABET = np.frombuffer(b',"\n\r[]{}:; ad1.\\/\x00', np.uint8)


@st.composite
def spoilt(draw, data):
    """A good file with a few things wrong."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 40)))
        how = draw(st.sampled_from("flip insert delete repeat cut token utf16".split()))
        if how == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif how == "insert":
            data = data[:at] + draw(st.binary(max_size=8)) + data[at:]
        elif how == "delete":
            data = data[:at] + data[end:]
        elif how == "repeat":
            data = data[:end] + data[at:end] * draw(st.integers(1, 3)) + data[end:]
        elif how == "cut":
            data = data[:at]
        elif how == "token":
            data = data[:at] + draw(st.sampled_from(TOKENS)) + data[at:]
        elif draw(st.integers(0, 9)) == 0:
            with suppress(UnicodeDecodeError):
                data = data.decode().encode("utf-16")
    return data


def test_every_format_is_tried(tmp_path):
    for name in FORMATS:
        (tmp_path / name).mkdir()
        assert sound(name, tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_few_bytes(bench, name):
    @fuzz(10)
    @given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
    def run(data):
        check(bench, name, data)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_good_file_spoilt(bench, name, tmp_path):
    data = sound(name, tmp_path)
    if name in ("csv", "jsonl", "parquet"):
        assert len(bench.try_import(name, data)) == len(CLIPS)
    check(bench, name, data)

    @fuzz(25)
    @given(spoilt(data))
    def run(data):
        check(bench, name, data)

    run()


def call(project, *args):
    return CliRunner().invoke(cli, ["-C", str(project.root), *map(str, args)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["any bytes", "half a syntax", "rows"])
@pytest.mark.parametrize("name", [n for n in FORMATS if n not in {"folder", *LAYOUTS} - {"dcase"}])
def test_a_million_bytes_of_rubbish(bench, name, kind, tmp_path):
    rng = np.random.default_rng(0)
    if kind == "any bytes":
        data = rng.bytes(1_000_000)
    elif kind == "half a syntax":
        data = rng.choice(ALPHABET, 1_000_000).tobytes()
    else:
        head = sound(name, tmp_path)[:-1] + b"\n"
        data = (head + b'../x,"",\n{"path": 1}\n' * 50_000)[:1_000_000]
    assert len(data) == 1_000_000
    project = bench.fresh()
    source = put(name, bench.work, data)
    done = call(project, "import", source, "--format", name, "--metadata-only")
    assert done.exit_code == 2 and done.stdout == "", done.output
    assert done.stderr.startswith("Error: ") and "Traceback" not in done.stderr, done.stderr[:300]
    assert len(done.stderr.splitlines()) <= 52 and len(done.stderr) < 50_000
    assert stored_bytes(project) == bench.before


@pytest.mark.slow
def test_a_million_bytes_of_names(bench):
    check(bench, "folder", np.random.default_rng(0).bytes(1_000_000))


NAMES = st.sampled_from(
    ["Dog", "Cat, loud", " Dog", "Dog ", '"Dog"', 'a "b" c', "猫", "a,b;c|d", "", "remove", "a\nb"]
) | st.text(max_size=8)
ODD_PATHS = st.sampled_from(
    ["a.wav", "b.wav", "sub/c.wav", "./a.wav", "sub//c.wav", "../up.wav", "/root.wav", "", ".", " ",
     " a.wav", 'say "a".wav', '"a".wav', "a/../b.wav", "a,b.wav", "ü.wav", "u\u0308.wav", "~/a.wav",
     "C:\\a.wav", "a" * 5000, "con\x00trol.wav"]
) | st.text(max_size=12)  # fmt: skip
ITEMS = st.lists(
    st.fixed_dictionaries(
        {"path": ODD_PATHS, "labels": st.lists(NAMES, max_size=3)},
        optional={
            "state": st.sampled_from([*STATES, *STATES, "Verified", ""]),
            "fold": st.sampled_from([0, 1, 9999, 10_000, -1, 10**30, 1.5]),
            "group": NAMES,
            "subset": st.sampled_from(["train", "test", "half"]),
            "content_hash": st.sampled_from(["0" * 32, "f" * 32, "F" * 32, "x"]),
            "duration_s": st.sampled_from([0.0, 0.1, 1e300, -1.0, math.nan, math.inf]),
        },
    ),
    min_size=1, max_size=5,
)  # fmt: skip


def is_sound(items):
    """Whether nothing is wrong with rows, as the help and the design say it."""
    paths = [os.path.normpath(item["path"]) for item in items]
    control = re.compile("[\x00-\x1f\x7f-\x9f]")
    kin = {}
    return len(set(paths)) == len(paths) and all(
        item["path"] not in ("", ".")
        and not item["path"].startswith("/")
        and ".." not in item["path"].split("/")
        and not control.search(item["path"])
        and len(set(item["labels"])) == len(item["labels"])
        and all(n and n != "remove" and not control.search(n) for n in item["labels"])
        and item.get("state", "unverified") in STATES
        and item.get("fold", 0) in (0, 1, 9999)
        and item.get("subset", "train") in ("train", "test")
        and item.get("content_hash", "f" * 32) in ("0" * 32, "f" * 32)
        and (0 <= item.get("duration_s", 0) < math.inf or math.isnan(item["duration_s"]))
        and all(
            kin.setdefault((kind, item[kind], part), item.get(part, default))
            == item.get(part, default)
            for kind in ("group", "content_hash")
            if kind in item
            for part, default in (("subset", "train"), ("fold", None))
            if part == "subset" or "fold" in item
        )
        for item in items
    )


def as_csv(items):
    text = io.StringIO(newline="")
    names = ["path", "labels", "state", "fold", "group", "subset", "content_hash", "duration_s"]
    writer = csv.writer(text)
    writer.writerow(names)
    for item in items:
        quoted = {"state": "unverified", "subset": "train"} | item
        for key in ("path", "group"):
            if key in item:
                quoted[key] = '"' + item[key].replace('"', '""') + '"'
        quoted["labels"] = ",".join('"' + n.replace('"', '""') + '"' for n in item["labels"])
        writer.writerow([quoted.get(name, "") for name in names])
    return text.getvalue().encode()


def as_jsonl(items):
    return "\n".join(map(json.dumps, items)).encode()


def as_parquet(items, folder):
    file = folder / "rows.parquet"
    clips = [
        Clip(path=item["path"], labels=tuple(item["labels"]),
             **{key: value for key, value in item.items() if key not in ("path", "labels")})
        for item in items
    ]  # fmt: skip
    registry.resolve("writer", "parquet")(file, clips, [])
    return file.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_rows_that_are_almost_right(bench, name, tmp_path):
    seen = []

    @fuzz(40)
    @given(ITEMS)
    def run(items):
        if name == "parquet":
            # What it cannot hold is nothing to import.
            items = [
                i | ({"fold": 0} if i.get("fold", 0) not in range(-9, 99999) else {}) for i in items
            ]
            data = as_parquet(items, tmp_path)
        else:
            data = as_csv(items) if name == "csv" else as_jsonl(items)
        check(bench, name, data)
        # An import that worked leaves no project behind.
        seen.append(is_sound(items))
        assert (bench.project is None) == seen[-1]

    run()
    assert any(seen) and not all(seen)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["csv", "fsdkaggle2018", "fsdkaggle2019"])
def test_plain_tables_that_are_almost_right(bench, name):
    header = ["fname", "labels" if name == "fsdkaggle2019" else "label", "manually_verified"]
    flags = st.sampled_from(["0", "1", "", "yes", "perhaps"])

    @fuzz(25)
    @given(st.lists(st.tuples(ODD_PATHS, st.lists(NAMES, max_size=2).map(",".join), flags)))
    def run(rows):
        text = io.StringIO(newline="")
        csv.writer(text).writerows([header, *rows])
        check(bench, name, text.getvalue().encode())

    run()


@pytest.mark.slow
def test_corrections_that_are_almost_right(bench):
    names = st.sampled_from(["a.wav", "b.wav", "./a.wav", "d.wav", "deep/d.wav", "x.wav", ""])
    said = st.sampled_from(
        ["remove", "Dog", "Cat,Dog", " Cat ", "Cat,", "Bird", "\ud800", 3, [], {}]
    )

    @fuzz(40)
    @given(
        st.dictionaries(
            names, said | st.lists(st.sampled_from(["Dog", "Cat", "remove"])), max_size=3
        )
    )
    def run(items):
        check(bench, "corrections", json.dumps(items).encode())

    run()


# --- probabilities -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return make_labelled(tmp_path_factory.mktemp("judged") / "p")


def read_probs_plainly(file):
    """Probability of each clip and class, by name."""
    if file.suffix == ".csv":
        text = file.read_bytes().decode("utf-8-sig")
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
        return {(r[0], n): float(v) for r in rows for n, v in zip(header[1:], r[1:], strict=True)}
    loaded = np.load(file)
    if file.suffix == ".npy":
        paths, names, probs = sorted(PATHS), CLASSES, loaded
    else:
        paths, names, probs = loaded["paths"], loaded["classes"], loaded["probs"]
        loaded.close()
    return {
        (str(path), str(name)): float(probs[i, j])
        for i, path in enumerate(np.ravel(paths))
        for j, name in enumerate(np.ravel(names))
    }


def check_probs(project, file):
    before = stored_bytes(project)
    try:
        run_id = import_probs(project, file)
    except InvalidInput as error:
        assert str(error).isprintable() and len(str(error)) < 2000
        assert stored_bytes(project) == before
        return False
    with project.store.read() as session:
        rows = session.rows(
            "select c.path, p.probs, r.classes from predictions p join clips c using (clip_id) "
            "join runs r using (run_id) where run_id = ?", [run_id],
        )  # fmt: skip
    found = {(path, n): p for path, probs, names in rows for n, p in zip(names, probs, strict=True)}
    wanted = {key: float(np.float32(p)) for key, p in read_probs_plainly(file).items()}
    assert found == wanted
    return True


def good_probs(folder, suffix):
    return write_probs(folder / f"good{suffix}").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".npz", ".npy"])
def test_probabilities_spoilt(judged, suffix, tmp_path):
    data, file = good_probs(tmp_path, suffix), tmp_path / f"x{suffix}"

    @fuzz(30)
    @given(st.binary(max_size=300) | spoilt(data))
    def run(data):
        file.write_bytes(data)
        check_probs(judged, file)

    run()
    file.write_bytes(data)
    assert check_probs(judged, file)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".npz", ".npy"])
def test_a_million_bytes_of_probabilities(judged, suffix, tmp_path):
    rng, file = np.random.default_rng(0), tmp_path / f"x{suffix}"
    good = good_probs(tmp_path, suffix)
    for data in (rng.bytes(1_000_000), rng.choice(ALPHABET, 1_000_000).tobytes(),
                 (good + rng.bytes(1_000_000))[:1_000_000]):  # fmt: skip
        assert len(data) == 1_000_000
        before = stored_bytes(judged)
        file.write_bytes(data)
        done = call(judged, "score", "--probs", file)
        # numpy takes what its header tells of, whatever follows.
        if not (suffix == ".npy" and data.startswith(good)):
            assert done.exit_code == 2 and done.stdout == "", done.output
            assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
            assert len(done.stderr) < 2000 and stored_bytes(judged) == before


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_pickles_are_never_loaded(judged, suffix, tmp_path):
    trap, file = tmp_path / "sprung", tmp_path / f"x{suffix}"
    objects = np.array([Trap(trap)], object)
    if suffix == ".npy":
        np.save(file, objects)
    else:
        np.savez(file, paths=objects, classes=objects, probs=objects)
    assert not check_probs(judged, file)
    file.write_bytes(pickle.dumps(Trap(trap)))
    assert not check_probs(judged, file)
    assert not trap.exists()


def test_arrays_that_claim_more_than_memory_holds(judged, tmp_path):
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }"
    for shape in (
        "1000000000000, 4",
        "46, 4000000000",
        "99999999999999999999, 4",
        "-1, 4",
        "46, 4",
    ):
        text = (header % shape).ljust(117).encode() + b"\n"
        start = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
        (tmp_path / "x.npy").write_bytes(start)
        assert not check_probs(judged, tmp_path / "x.npy")
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as parts:
            for name in ("paths", "classes", "probs"):
                parts.writestr(f"{name}.npy", start)
        assert not check_probs(judged, tmp_path / "x.npz")


def test_a_zip_that_unpacks_without_end(judged, tmp_path):
    file = tmp_path / "x.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as parts:
        for name in ("paths", "classes", "probs"):
            with parts.open(f"{name}.npy", "w") as part:
                part.write(b"\x93NUMPY\x01\x00")
                for _ in range(50):
                    part.write(bytes(2**20))
    assert file.stat().st_size < 500_000
    with pytest.raises(InvalidInput, match="it unpacks to 157,286,424 bytes"):
        import_probs(judged, file)
    good = write_probs(tmp_path / "good.npz")
    with zipfile.ZipFile(good) as parts, zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as other:
        for part in parts.namelist():
            other.writestr(part, parts.read(part))
    data = file.read_bytes()
    assert check_probs(judged, file)
    for at in range(60, len(data), max(1, len(data) // 25)):
        file.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
        check_probs(judged, file)


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@pytest.mark.parametrize("bits", [0x7F800001, 0xFF800001, 0x7FC00000, 0xFF800000])
def test_whatever_bits_are_no_number_are_refused_in_silence(judged, suffix, bits, tmp_path):
    probs = judge()
    probs.view(np.uint32)[3, 1] = bits
    assert not check_probs(judged, write_probs(tmp_path / f"x{suffix}", probs))


@pytest.mark.parametrize("probs", [judge() + 0j, judge().astype("M8[s]"), judge().astype("U9"),
                                   judge().astype(np.float64) * 1e300])  # fmt: skip
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_numbers_that_are_no_probabilities(judged, suffix, probs, tmp_path):
    assert not check_probs(judged, write_probs(tmp_path / f"x{suffix}", probs))


def test_faults_are_told_up_to_fifty(bench):
    project = bench.fresh()
    lines = b"fname,label\n" + b"/x.wav,Dog\n" * 1_000
    with pytest.raises(FaultyFile) as caught:
        import_labels(project, put("csv", bench.work, lines), "csv", FormatSpec())
    assert len(caught.value.faults) == 1_000
    told = str(caught.value).splitlines()
    assert len(told) == 52 and told[0].endswith("1000 faults, nothing was imported")
    assert told[-1] == "  ... and 950 more"
