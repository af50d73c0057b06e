"""What a label file is, where nobody says it: by its first bytes, its columns, or its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labelkit import registry
from labelkit.config import FormatSpec
from labelkit.datasets.columns import tell_unusable
from labelkit.datasets.formats import COLUMNS, CURATED, NOISY
from labelkit.datasets.published import recognise
from labelkit.datasets.reading import Reading, shown
from labelkit.datasets.tables import Table, read_table
from labelkit.errors import InvalidInput

# The answers of people, which the review takes.
LABEL_STUDIO = "labelstudio"
# Of a file that is read to find out what it is.
_LOOKED_AT = 64 * 2**20


def find_format(source: Path, spec: FormatSpec | None = None) -> str:
    r"""Find out which format a file or folder has.

    Args:
        source: It is there.
        spec: Who names the columns of paths and labels has a table.

    Raises:
        InvalidInput: If that cannot be told.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "esc50.csv"
        >>> _ = file.write_text("filename,fold,target,category,esc10,src_file,take\n")
        >>> find_format(file)
        'esc50'
    """
    if source.is_dir():
        return "fsdkaggle2019" if any((source / n).exists() for n in (CURATED, NOISY)) else "folder"
    try:
        with source.open("rb") as file:
            head = file.read(_LOOKED_AT)
    except OSError as error:
        raise InvalidInput(
            f"{source} cannot be read ({error.strerror}); make it readable (chmod, chown)"
        ) from error
    if head.startswith(b"PAR1"):
        return "parquet"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start in (b"{", b"["):
        found, columns = _of_json(source, head), ""
    elif spec is not None and spec.path_column and spec.label_column:
        found, columns = "csv", ""
    else:
        found, columns = _of_table(source)
    if found is None:
        remedy = "csv with --path-column and --label-column say, or " if columns else ""
        raise InvalidInput(
            f"{source.name}: nobody can tell what it is by its "
            f"{f'columns, {columns}' if columns else 'first lines'}; give --format, {remedy}one of "
            f"{', '.join([*registry.names('format'), LABEL_STUDIO])}"
        )
    return found


def _of_json(source: Path, head: bytes) -> str | None:
    text = head.decode("utf-8-sig", "replace")
    line = next((line for line in text.split("\n") if line.strip()), "")
    first = _parse(line)
    of_clips = isinstance(first, dict) and not isinstance(first.get("path"), dict)
    if of_clips and ("path" in first or list(first) == ["classes"]):
        return "jsonl"
    whole = first if first is not None and line.strip() == text.strip() else _parse(text)
    if isinstance(whole, list) and whole and all(isinstance(item, dict) for item in whole):
        if "annotations" in whole[0] and "data" in whole[0]:
            return LABEL_STUDIO
        if any({"path", "labels"} <= set(item) for item in whole[:2]):
            return "jsonl"
        raise _no_clips(source, whole[0])
    if isinstance(whole, dict) and whole and any(isinstance(v, dict) for v in whole.values()):
        raise InvalidInput(
            f"{source.name} is JSON by columns, or of no table; in pandas, write it with "
            "to_json(orient='records', lines=True), with path and labels in each"
        )
    if isinstance(first, dict) and whole is None:
        raise _no_clips(source, first)
    if isinstance(whole, dict) and whole:
        said = all(isinstance(value, str | list) for value in whole.values())
        return "corrections" if said else None
    return None


def _no_clips(source: Path, record: dict[str, Any]) -> InvalidInput:
    """Say what JSON of records lacks."""
    keys = shown(", ".join(map(str, record)))
    if {"annotation_id", "annotator", "lead_time"} & set(record):
        return InvalidInput(
            f"{source.name} is an export of Label Studio as JSON-MIN, without what people answered "
            "on; export as JSON and import that"
        )
    return InvalidInput(
        f"{source.name} is JSON of records without path and labels, their keys are {keys}; rename "
        'these, {"path": "a.wav", "labels": ["Dog"]} say, or write it as CSV and give '
        "--path-column and --label-column"
    )


def _of_table(source: Path) -> tuple[str | None, str]:
    """Find out which format a table has, and its columns, on one line."""
    found = Reading()
    table = read_table(source, found, lambda table: _name(table, source) is not None)
    name = None if found.noted else _name(table, source)
    if found.noted:
        raise InvalidInput(f"{source.name}: {found.faults[0]}")
    if name is None and (told := tell_unusable(table)):
        raise InvalidInput(f"{source.name}: {told[0]}; {told[1]}")
    columns = ", ".join(table.header)
    if len(table.header) < 2 or not columns.isprintable() or len(columns) > 300:
        columns = ""
    return name, columns


def _name(table: Table, source: Path) -> str | None:
    has = {name for name in ("fname", "label", "labels", "manually_verified", *COLUMNS)
           if table.place(name) is not None}  # fmt: skip
    if has.issuperset(COLUMNS[:3]):
        return "csv"
    if has.issuperset({"fname", "label", "manually_verified"}):
        return "fsdkaggle2018"
    known = recognise(table)
    if known is not None:
        return known[0]
    if has.issuperset({"fname", "labels"}) and ("curated" in source.stem or "noisy" in source.stem):
        return "fsdkaggle2019"
    return "csv" if has & {"fname", "path"} and has & {"label", "labels"} else None


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
