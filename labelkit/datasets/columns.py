"""From the rows of a table to clips: which column says what, and how its cells are read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import PurePosixPath

from labelkit.audio.io import EXTENSIONS
from labelkit.config import FormatSpec
from labelkit.datasets.cells import is_missing, read_list, unquote
from labelkit.datasets.reading import REMOVE, Reading, shown
from labelkit.datasets.tables import Table

# A row, by the names of its columns.
Row = Mapping[str, str]
Split = Callable[[str], "tuple[str, ...] | None"]
# Of options that are not called as what their columns say.
_OPTIONS = {"labels": "label", "content_hash": "hash", "duration_s": "duration"}
# Cells of columns that say of each class whether a clip has it, and rows that must agree.
_ONE_HOT = ("0", "1", "0.0", "1.0", "True", "False", "TRUE", "FALSE", "")
_PROBED = 100
# Of a table of corrections, which says nothing by them.
_IDLE = ("reason", "state", "status", "note", "notes", "comment", "comments", "why")
_DECIMAL_COMMA = re.compile(r"[0-9]+,[0-9]*")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which column says what of a clip, and how its cells are read.

    Attributes:
        at: Column of ``path`` and ``labels``, and of what else the table says of a clip.
        split: Makes labels of a cell, None if its quotes are wrong.
        join: A clip may have several rows, a label each.
        literal: A cell of labels is what it says, also where it says "nan".
        removes: A cell of labels may say that the clip is no use.
        may_be_empty: A row need not have a label; one with a state never needs any.
        path_of: Makes the path of a row, where that takes more than its column.
        others_of: What the recording of a row may be called besides.
        more_labels: Another column of labels, and what makes labels of its cells.
        domains: The domain of a path, where no column says it.
        subset: Of all rows, where the spec does not say it.
        layout: It is a table as it is published, whose other columns are known.
    """

    at: Mapping[str, str]
    split: Split
    join: bool = False
    literal: bool = False
    removes: bool = False
    may_be_empty: bool = False
    path_of: Callable[[Row], str] | None = None
    others_of: Callable[[Row], tuple[str, ...]] | None = None
    more_labels: tuple[str, Split] | None = None
    domains: Mapping[str, str] = field(default_factory=dict)
    subset: str | None = None
    layout: bool = False


def named_columns(spec: FormatSpec) -> dict[str, str]:
    """Return the columns that somebody named, by what they say."""
    named = {
        "path": spec.path_column,
        "labels": spec.label_column,
        "verified": spec.verified_column,
        "state": spec.state_column,
        "fold": spec.fold_column,
        "group": spec.group_column,
        "domain": spec.domain_column,
        "subset": spec.subset_column,
        "content_hash": spec.hash_column,
        "duration_s": spec.duration_column,
    }
    return {key: column for key, column in named.items() if column}


def take_rows(
    table: Table, columns: Columns, found: Reading, spec: FormatSpec, *, rows_needed: bool = True
) -> None:
    """Take the clips of a table's rows, or note what is wrong with them.

    Args:
        table: Its rows can be read once.
        columns: Which column says what.
        found: Where clips and faults go.
        spec: What the table leaves open.
        rows_needed: Whether a table without any is at fault.
    """
    _check(table, columns, found)
    if found.noted:
        return
    places = {key: table.place(column) or 0 for key, column in columns.at.items()}
    reach, width = max(places.values()), len(table.header)
    listed: list[str] = []
    n_rows = 0
    for number, row in table.rows:
        n_rows += 1
        if len(row) <= reach:
            found.fault(number, "too few cells", f"give {width}")
        elif len(row) > width:
            found.fault(number, "too many cells", "put quotes around commas in a cell")
        else:
            cells = {key: row[place].strip() for key, place in places.items()}
            whole = dict(zip(table.header, (cell.strip() for cell in row), strict=False))
            if n_rows == 1 and _take_vocabulary(cells, whole, columns, found):
                continue
            _take_row(number, cells, whole, table, columns, found, spec, listed)
    found.notes.extend(_tell_unread(table, columns, spec))
    if listed:
        found.notes.append(
            f"{len(listed)} cells of labels are lists as Python writes them: {shown(listed[0])} "
            f"say is read as {', '.join(read_list(listed[0]) or ['none'])}"
        )
    found.make_whole()
    if not n_rows and rows_needed and not found.noted:
        found.fault(0, "no rows below the header", "add some")


def _take_vocabulary(
    cells: Mapping[str, str], whole: Row, columns: Columns, found: Reading
) -> bool:
    """Take the first row of JSON Lines that something made a table of: classes and no clip."""
    if "classes" not in whole or "classes" in columns.at.values():
        return False
    names = read_list(whole["classes"])
    if names is None or not all(map(is_missing, cells.values())):
        return False
    if found.check_labels(names, 1, whole["classes"]):
        found.classes = names
    return True


def _take_row(
    number: int,
    cells: dict[str, str],
    whole: Row,
    table: Table,
    columns: Columns,
    found: Reading,
    spec: FormatSpec,
    listed: list[str],
) -> None:
    path, said = unquote(cells.pop("path")), cells.pop("labels")
    if columns.path_of is not None:
        path = columns.path_of(whole)
    if columns.others_of is not None:
        found.others.setdefault(path, columns.others_of(whole))
    labels = _read_labels(said, "state" in cells, columns, number, found)
    if labels is None:
        return
    if columns.more_labels is not None:
        column, split = columns.more_labels
        more = split(whole[column])
        if more is None:
            problem = f"{column} {shown(whole[column])} may be one name or several"
            found.fault(number, problem, "write it as a list of names in quotes, ['a', 'b'] say")
            return
        labels += tuple(name for name in more if name and name not in labels)
    if not columns.literal:
        found.quotes_labels |= '"' in said
        if read_list(said) is not None:
            listed.append(said)
        elif len(labels) > 1 and '"' not in said:
            found.parted[said] += 1
    if table.has_decimal_commas:
        for key in ("duration_s", "fold"):
            if _DECIMAL_COMMA.fullmatch(cells.get(key, "")):
                cells[key] = cells[key].replace(",", ".")
    for what in ("group", "domain"):
        if is_missing(cells.get(what, "")):
            found.n_nameless_of[what] += bool(cells.pop(what, ""))
        else:
            if cells[what].startswith('"'):
                found.quotes.add(what)
            cells[what] = unquote(cells[what])
    if "domain" not in cells and path in columns.domains:
        cells["domain"] = columns.domains[path]
    if columns.subset and spec.subset is None:
        cells.setdefault("subset", columns.subset)
    if (columns.removes and labels == (REMOVE,)) or found.check_labels(labels, number, said):
        found.describe(path, labels, number, cells, spec, join=columns.join)


def _read_labels(
    said: str, has_state: bool, columns: Columns, number: int, found: Reading
) -> tuple[str, ...] | None:
    """Read a cell of labels; None if it is at fault."""
    may_be_empty = has_state or columns.may_be_empty
    is_none = is_missing(said) and not columns.literal
    if may_be_empty and (not said or is_none):
        found.n_nameless += bool(said)
        return ()
    if said and is_none:
        found.fault(
            number,
            f"label list {shown(said)} is how programs write that there is none",
            f"give a class or remove the row; a class of this name is {_in_quotes(said)}",
        )
        return None
    labels = columns.split(said)
    if labels is None:
        problem = f"label list {shown(said)} has a quote that ends in no name's end"
        found.fault(number, problem, "double each quote of a name, and quote the name")
    elif not labels and not may_be_empty:
        found.fault(number, f"label list {shown(said)} is empty", "give a class or remove the row")
        return None
    return labels


def _in_quotes(name: str) -> str:
    """Write a cell of CSV that holds a name in quotes."""
    return '"""' + name + '"""'


# What a column is called that may say a thing, by the option that would read it.
_CALLED = {
    "fold": re.compile(r"(cv|k)?_?folds?(_?(id|no|nr|num|number))?|kfold"),
    "group": re.compile(
        r"groups?(_?id)?|src_?file|source(_?(id|file|name|clip|path))?|session(_?id)?|"
        r"(original_?|parent_?)?recording(_?id)?|take(_?(id|group))?|fsid|freesound_?id"
    ),
    "domain": re.compile(
        r"domains?(_?id)?|uploader|user(name|_?id)?|author|speakers?(_?(id|name))?|recordist|"
        r"sites?(_?(id|name))?|devices?(_?(id|name))?|location|mic(rophone)?|patient(_?id)?|"
        r"subject(_?id)?"
    ),
    "subset": re.compile(r"subset|split|set|partition|is_?test|usage|train_?test"),
    "verified": re.compile(r"(manually_?|is_?)?verified|curated|reviewed"),
    "state": re.compile(r"state|status"),
    "hash": re.compile(r"(content_?)?(hash|md5)|md5_?(sum|hash)"),
    "duration": re.compile(
        r"durations?(_?(s|sec|secs|seconds))?|length(_?(s|sec|seconds))?|seconds"
    ),
}
_MORE_LABELS = re.compile(
    r"(label|class|tag|category)(_?[2-9]|_?names?)?|labels|classes|tags|categories|"
    r"(secondary|other|extra|more|fine|coarse|event)_?(labels?|class|classes|tags?)"
)
_TIMES = re.compile(
    r"(event_?)?(on|off)set(_?(s|sec|seconds|ms))?|(start|end|begin|stop|from|to)_?(s|sec|seconds|"
    r"ms|time|time_?s|time_?seconds)?|t_?(start|end|0|1|min|max)|tmin|tmax|xmin|xmax"
)


def _tell_unread(table: Table, columns: Columns, spec: FormatSpec) -> list[str]:
    """Tell of columns that are not read and look as if they said something of a clip."""
    read = {table.place(column) for column in columns.at.values()}
    unread = {name: name.strip().casefold() for place, name in enumerate(table.header)
              if name and place not in read}  # fmt: skip
    lines = []
    if columns.removes:
        idle = [name for name, plain in unread.items() if plain in _IDLE]
        if idle:
            lines.append(
                f"{_columns(idle)} not read of corrections: what they give is relabeled, or "
                f"rejected by {REMOVE!r}; labelkit label has --reason"
            )
        return lines
    taken = set(columns.at) | ({"subset"} if spec.subset or columns.subset else set())
    taken |= {"domain"} if columns.domains else set()
    taken |= {"state", "verified"} if taken & {"state", "verified"} or spec.state else set()
    taken |= {option for what, option in _OPTIONS.items() if what in taken}
    offered = []
    for option, called in _CALLED.items():
        name = next((name for name, plain in unread.items() if called.fullmatch(plain)), None)
        if name is not None and option not in taken and option in _offered(columns):
            offered.append((name, f"--{option}-column {shlex.quote(name)}"))
    if offered:
        names = [name for name, _ in offered]
        how = " ".join(how for _, how in offered)
        lines.append(f"{_columns(names)} not read; if a clip's, give {how}")
    times = [name for name, plain in unread.items() if _TIMES.fullmatch(plain)]
    # Recordings of published sets are cut already, but for those with a row an event.
    if len(times) > 1 and not columns.others_of and (columns.join or not columns.layout):
        lines.append(
            f"{_columns(times)} not read: a label is of a whole recording, cut these if it is of "
            "a part"
        )
    more = [name for name, plain in unread.items() if _MORE_LABELS.fullmatch(plain)]
    if more and not columns.literal and columns.more_labels is None and not columns.layout:
        lines.append(
            f"{_columns(more)} not read, labels are those of {shown(columns.at['labels'])}; "
            f"--label-column {shlex.quote(more[0])} reads that instead, and several labels of a "
            "clip belong into one column"
        )
    return lines


def _offered(columns: Columns) -> Collection[str]:
    """List the options that name columns, which formats of one name have few of."""
    return ("fold", "group", "domain") if columns.literal or columns.layout else _CALLED


def _columns(names: Sequence[str]) -> str:
    listed = ", ".join(map(shown, names[:6]))
    return f"column {listed} is" if len(names) == 1 else f"columns {listed} are"


def tell_unusable(table: Table) -> tuple[str, str] | None:
    """Say what a table is that has not the columns it should, and a remedy; None if unknown.

    Args:
        table: Its rows count as far as they were not read yet; they stay.
    """
    if not table.header:
        return "the file is empty", "give one with a header, fname,label say, and a row a clip"
    if any(_looks_like_path(name) for name in table.header):
        first = f"{table.delimiter if table.delimiter != ' ' else ','}".join(table.header)
        return (
            f"row 1 looks like data, not like a header: {shown(first)}",
            "put a line above it that names the columns, fname,label say",
        )
    if len(table.header) == 1 and len(words := table.header[0].split()) > 1:
        return (
            f"the header is one cell, {shown(table.header[0])}",
            f"if these are {len(words)} columns, part them by commas or TABs (R: write.csv, or "
            "write.table with sep = ',')",
        )
    if len(table.header) > 1 and all(name.isdecimal() or not name for name in table.header):
        return (
            f"the columns have numbers in place of names: {shown(', '.join(table.header))}",
            "name them fname and label say, or give --path-column and --label-column",
        )
    if {"annotation_id", "lead_time"} & set(table.header):
        return (
            "the table is an export of Label Studio that leaves out what people answered on",
            "export as JSON and import that",
        )
    rows = iter(table.rows)
    probed = list(islice(rows, _PROBED))
    table.rows = chain(probed, rows)
    flags = [
        name for at, name in enumerate(table.header)
        if name and probed and all(len(row) > at and row[at].strip() in _ONE_HOT
                                   for _, row in probed)
    ]  # fmt: skip
    names = [name for name in table.header if name and name not in flags]
    if len(flags) < 2 or not names:
        return None
    path = next((name for name in ("fname", "path") if name in names), names[0])
    return (
        f"the table is one-hot, with a column of 0 and 1 for each of {len(flags)} classes: "
        f"{shown(', '.join(flags))}",
        "make one column of labels of them; with pandas: "
        f"pandas.read_csv(OLD).set_index({path!r}).loc[:, {flags[0]!r}:{flags[-1]!r}]"
        ".apply(lambda row: list(row.index[row == 1]), axis=1)"
        ".rename_axis('fname').rename('label').to_csv(NEW)",
    )


def _looks_like_path(text: str) -> bool:
    return PurePosixPath(text.replace("\\", "/")).suffix.lower() in EXTENSIONS


def _check(table: Table, columns: Columns, found: Reading) -> None:
    """Note columns that are not there, or more than once."""
    if found.noted:
        return
    missing = any(table.place(column) is None for column in columns.at.values())
    if missing and (told := tell_unusable(table)):
        found.fault(0, *told)
        return
    if "verified" in columns.at and "state" in columns.at:
        found.fault(0, "columns of both verified and state", "name one of them")
    for what, column in columns.at.items():
        if table.place(column) is None:
            there = ", ".join(table.header)
            # Formats of one name have no options that name columns.
            csv = "--format csv with " if columns.literal else ""
            found.fault(
                0,
                f"no column {column!r} in {_on_one_line(there) or 'an empty file'}",
                f"rename it, or name yours by {csv}--{_OPTIONS.get(what, what)}-column",
            )
        elif table.count(column) > 1:
            found.fault(1, f"column {column!r} is there {table.count(column)} times", "keep one")


def _on_one_line(text: str) -> str:
    return text if len(text) < 400 and text.isprintable() else shown(text)
