"""Readers of label files.

A reader takes a path and a ``FormatSpec`` and returns the clips it found together
with every fault of the file, one line each: row, value, remedy. It checks the file
alone; whether classes and recordings exist is the importer's business. A reader whose
paths follow from where the recordings lie has a keyword ``audio_dir``, the project's folder of
recordings; one that corrects clips of the store says so in its ``Reading``.

A new format is one function here and one line in ``registry.TABLE["format"]``; what
labelkit can also write is in ``datasets/writers.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelkit.audio.io import EXTENSIONS
from labelkit.config import FormatSpec
from labelkit.datasets.cells import read_list, split_names
from labelkit.datasets.columns import Columns, Split, named_columns, take_rows
from labelkit.datasets.matching import STEM
from labelkit.datasets.published import AUDIOSET, LAYOUTS, layout_columns, recognise, tell_ids
from labelkit.datasets.reading import REMOVE, Reading, shown
from labelkit.datasets.tables import Table, read_table, read_text
from labelkit.datasets.walking import is_junk, walk_recordings
from labelkit.errors import InvalidInput
from labelkit.states import REJECTED, RELABELED, UNVERIFIED, VERIFIED

if TYPE_CHECKING:
    import duckdb

# What an exported file says of a clip.
COLUMNS = (
    "path", "labels", "state", "fold", "group", "subset", "content_hash", "duration_s", "domain",
)  # fmt: skip
# What a table calls path and labels, the first where it has both.
_USUAL = {"path": ("fname", "path"), "labels": ("label", "labels")}
# What pandas and R call the numbers of rows, where these become a column.
_INDEX = re.compile(
    r"|index|level_[0-9]+|__index_level_[0-9]+__|Unnamed: [0-9.]+|\.\.\.[0-9]+|row_?names?"
)
_INTEGER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
CURATED, NOISY = "train_curated.csv", "train_noisy.csv"
# Millions more than a project can hold; a file that claims them would fill the memory.
_MOST_ROWS = 20_000_000


_OF_ALL = {"subset", "prefix", "follow_links", "match"}
_OF_ANY_TABLE = _OF_ALL | {"fold_column", "group_column", "domain_column"}
_OF_ITEMS = _OF_ALL | {"state"}
# What of a spec each format reads; of others' formats nobody knows.
_READ = {
    "fsdkaggle2018": _OF_ANY_TABLE,
    "fsdkaggle2019": _OF_ANY_TABLE | {"state"},
    "folder": {"state", "subset", "follow_links"},
    "jsonl": _OF_ITEMS,
    "parquet": _OF_ITEMS,
    "corrections": {"separator", "prefix", "match", "path_column", "label_column"},
    "labelstudio": _OF_ALL | {"path_column", "label_column"},
    **dict.fromkeys(LAYOUTS, _OF_ANY_TABLE | {"state"}),
}


def refuse_unread(format: str, spec: FormatSpec) -> None:
    """Refuse settings that would have no effect, as the format says it otherwise or not at all.

    Raises:
        InvalidInput: If there is one.
    """
    read = _READ.get(format)
    for one in fields(spec):
        if read is not None and one.name not in read and getattr(spec, one.name) != one.default:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(read))
            raise InvalidInput(
                f"--{one.name.replace('_', '-')} is nothing that {format} reads; leave it out "
                f"(it reads {options})"
            )


def read_csv(path: Path, spec: FormatSpec, *, audio_dir: Path | None = None) -> Reading:
    """Read a table whose columns the spec names, or one that labelkit exported.

    With columns path, labels and state it is taken for an exported one, whose other columns
    count too; only there, or with a column of states, may a clip have no labels. One that is
    published with a set is read as that, as far as the spec does not say otherwise.
    """
    found = Reading(root=audio_dir)

    def split(text: str) -> tuple[str, ...] | None:
        return split_names(text, spec.separator)

    table = read_table(path, found, lambda table: _fits(table, spec))
    columns = Columns(at=_find_columns(table, spec), split=split, join=True)
    known = recognise(table)
    if known and (named_columns(spec) or not _has(table, columns.at.values())):
        format, layout = known
        columns = layout_columns(layout, path, table, spec, found, split)
        found.match = STEM
        found.notes.append(
            f"by its columns this is a label file of {layout.title}, read as --format {format} does"
        )
        take_rows(table, columns, found, spec)
        if format == AUDIOSET:
            tell_ids(found)
    else:
        take_rows(table, columns, found, spec)
    return found


def _fits(table: Table, spec: FormatSpec) -> bool:
    return bool(table.header) and (
        _has(table, _find_columns(table, spec).values()) or recognise(table) is not None
    )


def _has(table: Table, columns: Iterable[str]) -> bool:
    return all(table.place(column) is not None for column in columns)


def read_fsdkaggle2018(path: Path, spec: FormatSpec, *, audio_dir: Path | None = None) -> Reading:
    """Read FSDKaggle2018's training table: fname, one label, manually_verified."""
    at = {"path": "fname", "labels": "label", "verified": "manually_verified"}
    return _read_fsdkaggle(path, spec, at, lambda text: (text,), audio_dir)


def read_fsdkaggle2019(path: Path, spec: FormatSpec, *, audio_dir: Path | None = None) -> Reading:
    """Read FSDKaggle2019's tables: fname and comma-joined labels.

    A folder stands for its ``train_curated.csv`` and ``train_noisy.csv``. The name of
    a file says which of the two it is; the curated labels count as verified.
    """
    found = Reading(root=audio_dir)
    files = [path / n for n in (CURATED, NOISY) if (path / n).exists()] if path.is_dir() else [path]
    if not files:
        found.fault(0, f"neither {CURATED} nor {NOISY} lies in {path}", "give the CSV file")
    for file in files:
        state = spec.state or next(
            (s for key, s in (("noisy", UNVERIFIED), ("curated", VERIFIED)) if key in file.stem),
            None,
        )
        if state is None:
            found.fault(0, f"{file.name} is neither curated nor noisy by name", "give --state")
            continue
        part = _read_fsdkaggle(
            file,
            replace(spec, state=state),
            {"path": "fname", "labels": "labels"},
            lambda text: tuple(name.strip() for name in text.split(",")),
            audio_dir,
            rows_needed=len(files) == 1,
        )
        found.noted += [(row, f"{file.name} {text}") for row, text in part.noted]
        found.notes += part.notes
        for clip in [*part.clips, *part.astray]:
            found.add(clip)
    if path.is_dir() and not found.clips and not found.faults:
        found.fault(0, f"no rows in {CURATED} and {NOISY}", "add some")
    return found


def _read_fsdkaggle(
    path: Path,
    spec: FormatSpec,
    at: dict[str, str],
    split: Split,
    audio_dir: Path | None,
    *,
    rows_needed: bool = True,
) -> Reading:
    found = Reading(root=audio_dir)
    columns = Columns(at=at | named_columns(spec), split=split, literal=True)
    table = read_table(path, found, lambda table: _has(table, columns.at.values()))
    take_rows(table, columns, found, spec, rows_needed=rows_needed)
    return found


def read_folder(path: Path, spec: FormatSpec, *, audio_dir: Path | None = None) -> Reading:
    """Read a folder with one folder of recordings per class.

    Args:
        path: The folder.
        spec: What the format leaves open; its prefix counts only without ``audio_dir``.
        audio_dir: Folder to which the paths are relative; ``path`` if None.

    Raises:
        InvalidInput: If the folder does not lie in ``audio_dir``.
    """
    found = Reading()
    if audio_dir is not None:
        spec = replace(spec, prefix=_below(audio_dir, path))
    if not path.is_dir():
        found.fault(0, f"{path} is not a folder", "give a folder with one folder per class")
        return found
    around = path if audio_dir is None else audio_dir
    files = sorted(
        walk_recordings(path, around, found.left, follow_links=spec.follow_links),
        key=lambda file: file.split("/"),
    )
    for number, file in enumerate(files, 1):
        parts = file.split("/")
        if len(parts) < 2:
            found.fault(number, f"{shown(file)} lies in no class folder", "move it into one")
        elif found.check_labels((parts[0],), number, parts[0]):
            found.describe(file, (parts[0],), number, {}, spec)
    with_files = {file.partition("/")[0] for file in files}
    told = {file.rstrip("/") for file in (*found.left.not_utf8, *found.left.linked_out)}
    found.left.empty = [
        folder.name
        for folder in sorted(path.iterdir())
        if folder.is_dir() and folder.name not in with_files | told and not is_junk(folder.name)
    ]
    if not files:
        found.fault(0, f"no recordings below {path}", f"known: {', '.join(EXTENSIONS)}")
    return found


def _below(audio_dir: Path, folder: Path) -> str:
    """Find the way from the folder of recordings to ``folder``."""
    try:
        way = folder.resolve().relative_to(audio_dir.resolve()).as_posix()
    except ValueError as error:
        raise InvalidInput(
            f"{folder} does not lie in the audio folder {audio_dir}; "
            "make a project on a folder that holds it"
        ) from error
    return "" if way == "." else way


def read_jsonl(path: Path, spec: FormatSpec, *, audio_dir: Path | None = None) -> Reading:
    """Read one JSON object a line: path, labels, and if wanted the keys of an exported file.

    These are state (or verified), fold, group, subset, content_hash, duration_s, domain. The first
    line may be ``{"classes": [...]}``, the vocabulary in its order.
    """
    found, first = Reading(root=audio_dir), True
    for number, said, item in _records(read_text(path, found)):
        if not isinstance(item, dict):
            remedy = "one object a line, each key once"
            found.fault(number, f"not a JSON object: {shown(said)}", remedy)
            first = False
            continue
        item = _without_extras(item)
        if first and list(item) == ["classes"]:
            _take_classes(item["classes"], number, found)
        else:
            _take_item(item, number, found, spec)
        first = False
    return found


def _records(text: str) -> Iterator[tuple[int, str, Any]]:
    """Yield number, text and value of each record, of lines or of one list of them all."""
    if text.lstrip().startswith("["):
        try:
            whole = json.loads(text, object_pairs_hook=_object)
        except (ValueError, RecursionError):
            whole = None
        if isinstance(whole, list) and all(isinstance(item, dict) for item in whole):
            yield from ((number, "", item) for number, item in enumerate(whole, 1))
            return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                item = json.loads(line, object_pairs_hook=_object)
            except (ValueError, RecursionError):
                item = None
            yield number, line, item


def _without_extras(item: dict[str, Any]) -> dict[str, Any]:
    """Take off what pandas adds to records: keys of other rows, and the numbers of rows."""
    known = {*COLUMNS, "verified", "classes"}
    kept = {
        key: value
        for key, value in item.items()
        if not (value is None and key in known) and not (_INDEX.fullmatch(key) and _is_int(value))
    }
    if "classes" not in kept:
        # A path that is not said is another fault than one that is nothing.
        kept |= {key: None for key in COLUMNS[:2] if key in item and key not in kept}
    for key in ("group", "domain"):
        value = kept.get(key)
        if isinstance(value, float) and value.is_integer():
            kept[key] = int(value)
    return kept


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def read_parquet(path: Path, spec: FormatSpec, *, audio_dir: Path | None = None) -> Reading:
    """Read a Parquet file with the columns of an exported one, of which two are needed.

    These are path (text) and labels (list of texts); the vocabulary in its order may stand
    as JSON in its metadata, under ``classes``.
    """
    import duckdb

    found = Reading(root=audio_dir)
    # As a pattern that only this name fits.
    source = [re.sub(r"([*?\[])", r"[\1]", str(path.absolute()))]
    table = "from read_parquet(?, hive_partitioning = false)"
    try:
        with duckdb.connect(config={"memory_limit": "2GB", "threads": 1}) as con:
            n_rows = con.execute("select num_rows from parquet_file_metadata(?)", source).fetchall()
            described = con.execute(f"describe {table}", source).fetchall()
            columns = [
                name for name, kind, *_ in described
                if not (_INDEX.fullmatch(name) and _INTEGER.fullmatch(kind))
            ]  # fmt: skip
            unknown = [name for name in columns if name not in COLUMNS]
            missing = [name for name in COLUMNS[:2] if name not in columns]
            if unknown or missing:
                name = shown((missing or unknown)[0])
                remedy = f"give path and labels, and none but {', '.join(COLUMNS)}"
                found.fault(0, f"{'no' if missing else 'unknown'} column {name}", remedy)
            elif n_rows[0][0] > _MOST_ROWS:
                found.fault(0, f"{n_rows[0][0]:,} rows", f"give at most {_MOST_ROWS:,} a file")
            else:
                _take_parquet(con, source, columns, table, found, spec)
    except (duckdb.Error, OSError, ValueError, MemoryError) as error:
        problem = f"not Parquet, or damaged: {shown(str(error))}"
        found.fault(0, problem, "give a file as labelkit export makes it")
    return found


def _take_parquet(
    con: duckdb.DuckDBPyConnection,
    source: list[str],
    columns: list[str],
    table: str,
    found: Reading,
    spec: FormatSpec,
) -> None:
    metadata = "select value from parquet_kv_metadata(?) where key = 'classes'::blob"
    for (text,) in con.execute(metadata, source).fetchall():
        _take_classes(_parse(text), 0, found)
    names = ", ".join(f'"{name}"' for name in columns)
    rows = con.execute(f"select {names} {table}", source)
    number = 0
    while batch := rows.fetchmany(10_000):
        for row in batch:
            number += 1
            values = dict(zip(columns, row, strict=True))
            _take_item(
                {key: value for key, value in values.items() if value is not None},
                number, found, spec,
            )  # fmt: skip


def read_corrections(path: Path, spec: FormatSpec) -> Reading:
    """Read corrections of clips that are in the store: ``{fname: "new,labels" or "remove"}``.

    A list of labels may stand for the string, where a class name holds the separator. A table of
    path (or fname) and labels (or label) says the same, a row a clip.

    The form in which argus (1st place, Freesound 2019) published its hand corrections.
    The clips come back as ``relabeled``, or ``rejected`` and without labels.

    Raises:
        InvalidInput: If columns are named of what is no table.
    """
    found = Reading(corrects=True)
    text = read_text(path, found)
    if found.noted:
        return found
    if not text.lstrip().startswith(("{", "[")):
        found.notes.clear()
        return _read_corrections_table(path, spec)
    if named_columns(spec):
        raise InvalidInput(f"{path.name} is JSON, and has no columns to name; leave them out")
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        found.fault(0, f"not a JSON file: {shown(str(error))}", 'give {"fname": "labels"}')
        return found
    for number, pair in enumerate(pairs if isinstance(pairs, list) else [pairs], 1):
        name, said = pair if isinstance(pair, tuple) else (None, None)
        if said == REMOVE:
            labels: tuple[str, ...] = ()
        elif isinstance(said, str) and (listed := read_list(said)) != ():
            labels = listed or tuple(label.strip() for label in said.split(spec.separator))
        elif isinstance(said, list) and said and all(isinstance(label, str) for label in said):
            labels = tuple(said)
        else:
            found.fault(number, f"{shown(pair)} is no correction", 'give "fname": "labels"')
            continue
        if found.check_labels(labels, number, said):
            clip = {"state": REJECTED if said == REMOVE else RELABELED}
            found.describe(name, labels, number, clip, spec)
    return found


def _read_corrections_table(path: Path, spec: FormatSpec) -> Reading:
    """Read a table of corrections: a row a clip, or a row a label."""
    found = Reading(corrects=True)

    def columns(table: Table) -> dict[str, str]:
        named = named_columns(spec)
        for what, usual in (("path", ("path", "fname")), ("labels", ("labels", "label"))):
            there = [name for name in usual if table.place(name) is not None]
            named.setdefault(what, there[0] if there else usual[0])
        return named

    def split(text: str) -> tuple[str, ...] | None:
        return (REMOVE,) if text == REMOVE else split_names(text, spec.separator)

    table = read_table(path, found, lambda table: _has(table, columns(table).values()))
    at = columns(table)
    take_rows(table, Columns(at=at, split=split, join=True, removes=True), found, spec)
    found.clips = [
        replace(clip, state=REJECTED if clip.labels == (REMOVE,) else RELABELED,
                labels=() if clip.labels == (REMOVE,) else clip.labels)
        for clip in found.clips
    ]  # fmt: skip
    for clip in found.clips:
        if REMOVE in clip.labels:
            found.fault(clip.row, f"{shown(clip.path)} is removed and labelled", "keep one of them")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    item = dict(pairs)
    if len(item) < len(pairs):
        raise ValueError("a key is there twice")
    return item


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _take_classes(names: object, row: int, found: Reading) -> None:
    """Take the vocabulary that travels with the clips."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        found.fault(row, f"classes {shown(names)}", "give a list of class names")
    elif found.check_labels(tuple(names), row, names):
        found.classes = tuple(names)


def _take_item(item: dict[str, Any], row: int, found: Reading, spec: FormatSpec) -> None:
    """Take a clip of which the file says things by name."""
    missing = [key for key in COLUMNS[:2] if key not in item]
    unknown = sorted(set(item) - {*COLUMNS, "verified"})
    if missing:
        found.fault(row, f"no key {missing[0]!r}", 'give {"path": ..., "labels": [...]}')
        return
    path, labels = item["path"], item["labels"]
    if not isinstance(path, str):
        found.fault(row, f"path {shown(path)}", "give a text")
    elif not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        found.fault(row, f"labels {shown(labels)}", "give a list of class names")
    elif unknown:
        found.fault(row, f"unknown key {shown(unknown[0])}", "remove it")
    elif "verified" in item and "state" in item:
        found.fault(row, "both verified and state", "give one of them")
    elif wrong := [
        key for key in ("group", "domain") if not isinstance(item.get(key, ""), str | int | None)
    ]:
        found.fault(row, f"{wrong[0]} {shown(item[wrong[0]])}", "give a text")
    elif found.check_labels(tuple(labels), row, labels):
        said = {k: str(v) for k, v in item.items() if k not in COLUMNS[:2] and v is not None}
        found.describe(path, tuple(labels), row, said, spec)


def _find_columns(table: Table, spec: FormatSpec) -> dict[str, str]:
    """Find the column of each thing a clip has: the spec's, and those of an exported file."""
    named = named_columns(spec)
    columns = {
        what: next((name for name in usual if table.place(name) is not None), usual[0])
        for what, usual in _USUAL.items()
    }
    exported = all(table.place(name) is not None for name in COLUMNS[:3])
    if exported and named.get("path", "path") == "path" and named.get("labels") in (None, "labels"):
        columns = {name: name for name in COLUMNS if table.place(name) is not None}
        if "verified" in named:
            del columns["state"]
    return columns | named
