"""What commands print: records as a table, JSON or CSV. stdout is data, stderr everything else."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from labelkit.terminal import echo, visible, visible_json

# Characters of a cell in a table.
WIDEST = 300


def as_row(record: Any) -> dict[str, Any]:
    """Make a row to print of a dataclass: a column a field, in their order; a row stays one.

    A field's ``metadata`` may say more: ``key`` is the name of its column, where that is not the
    field's; ``spread`` makes a column of each entry of its mapping, named by the entry's key in
    place of ``{}``; ``optional`` leaves the column out where the value is None.

    Example:
        >>> from dataclasses import dataclass, field
        >>> @dataclass
        ... class Doubt:
        ...     class_: str = field(metadata={"key": "class"})
        ...     scores: dict[str, float] = field(metadata={"spread": "{}"})
        ...     batch: int | None = field(default=None, metadata={"optional": True})
        >>> as_row(Doubt("Bark", {"margin": 0.25, "lwlrap": 0.5}))
        {'class': 'Bark', 'margin': 0.25, 'lwlrap': 0.5}
        >>> as_row(Doubt("Bark", {}, batch=3))
        {'class': 'Bark', 'batch': 3}
    """
    if isinstance(record, dict):
        return record
    row: dict[str, Any] = {}
    for column in fields(record):
        value = getattr(record, column.name)
        if spread := column.metadata.get("spread"):
            row |= {spread.format(key): entry for key, entry in value.items()}
        elif value is not None or not column.metadata.get("optional"):
            row[column.metadata.get("key", column.name)] = value
    return row


def show(records: Iterable[Any], as_json: bool, columns: Sequence[str] = ()) -> None:
    """Print dataclasses or rows as a JSON array of objects, or as a table."""
    rows = [as_row(record) for record in records]
    if as_json:
        echo(_as_json(_plain(rows)))
        return
    columns = columns or (list(rows[0]) if rows else [])
    cells = [[_shorten(cell(row[column])) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in [columns, ["-" * width for width in widths], *cells] if columns else []:
        text = "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
        echo(text.rstrip())


def _shorten(text: str) -> str:
    """Cut a text to what fits in a column; --json has all of it."""
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def show_facts(facts: Any, as_json: bool, *, err: bool = False) -> None:
    """Print one dataclass or row, a line a fact."""
    if as_json:
        show([facts], True)
        return
    for name, value in as_row(facts).items():
        echo(f"{name.replace('_', ' ')}: {cell(value)}", err=err)


def show_json_rows(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print what :func:`show` prints as JSON, a row at a time, however many there are."""
    start = "["
    for row in rows:
        item = _plain(dict(zip(columns, row, strict=True)))
        text = _as_json(item)
        echo(f"{start}\n " + text.replace("\n", "\n "), nl=False)
        start = ","
    echo("[]" if start == "[" else "\n]")


def show_csv_rows(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows as CSV (RFC 4180): NULL is empty, lists and the like are JSON.

    In a file texts are as they are; on a terminal they can be seen and steer nothing.
    """
    seen = visible if sys.stdout.isatty() else str
    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow([seen(column) for column in columns])
    for row in rows:
        cells = [_csv_cell(value) for value in row]
        writer.writerow([seen(cell) if isinstance(cell, str) else cell for cell in cells])


def cell(value: object) -> str:
    """Write a value for a table."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value))
    return visible(" ".join(str(value).split()))


def _as_json(value: object) -> str:
    return visible_json(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1))


def _csv_cell(value: object) -> object:
    # Here a number need not be one that JSON knows.
    value = value if isinstance(value, float | Decimal) else _plain(value)
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False)
    return value


def plain_setting(value: object) -> object:
    """Write a setting as in a recipe, whatever its size."""
    if isinstance(value, tuple):
        return [plain_setting(part) for part in value]
    return f"{value:g}" if isinstance(value, float) else value


def _plain(value: object) -> object:
    """Return what JSON can hold of a value from the store; NaN and infinity are null."""
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat() + ("" if value.tzinfo else "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    return value if value is None or isinstance(value, bool | int | str) else str(value)
