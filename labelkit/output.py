"""What commands print: records as a table, JSON or CSV. stdout is data, stderr everything else."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from labelkit.terminal import columns as terminal_columns
from labelkit.terminal import cut, echo, visible, visible_json, width

# Columns of a terminal that a text gets in a table if there is room, those it gets at least, and
# those between two of them.
_WANTED, _LEAST, _GAP = 14, 8, 2
# A column of a table in a file is no wider; longer values push what follows to the right.
_WIDEST = 300


@dataclass(frozen=True)
class Layout:
    """How a table is printed.

    Args:
        wide: Nothing is cut or left out to fit a terminal.
        record: A line a field, in place of a line a row.
    """

    wide: bool = False
    record: bool = False


# Under which a command's context knows its Layout.
LAYOUT = "labelkit.layout"


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


def show(
    records: Iterable[Any],
    as_json: bool,
    columns: Sequence[str] = (),
    *,
    spare: Sequence[str] = (),
    layout: Layout | None = None,
) -> None:
    """Print dataclasses or rows as a JSON array of objects, or as a table.

    On a terminal a table fits its width: long texts are cut, and columns are left out that may be
    spared; a table that does not fit even so is printed a line a field. In a file it is whole.

    Args:
        records: What is printed.
        as_json: As JSON, whole.
        columns: Which columns, in which order; those of the first row if not given.
        spare: Columns that may be left out, those that say least first.
        layout: How; as the options of the command say if not given.
    """
    rows = [as_row(record) for record in records]
    if as_json:
        echo(_as_json(_plain(rows)))
        return
    columns = list(columns or (rows[0] if rows else ()))
    layout = layout or _asked_layout()
    if layout.record:
        _show_records(columns, rows)
    elif columns:
        _show_table(columns, rows, None if layout.wide else terminal_columns(), spare)


def _asked_layout() -> Layout:
    """Return what the options of the running command say."""
    import click

    context = click.get_current_context(silent=True)
    layout: Layout = context.meta.get(LAYOUT, Layout()) if context else Layout()
    return layout


def _show_table(
    columns: list[str], rows: Sequence[dict[str, Any]], room: int | None, spare: Sequence[str]
) -> None:
    cells = {name: [cell(row[name]) for row in rows] for name in columns}
    widths = {name: max(map(width, [name, *cells[name]])) for name in columns}
    shown, left_out = list(columns), []
    if room is not None:
        texts = {name for name in columns if any(_is_text(row[name]) for row in rows)}
        for name in (*spare, None):
            kept = {n: widths[n] for n in shown}
            least = _LEAST if name is None else _WANTED
            if (fitting := fit_widths(kept, texts, room, least=least)) is not None:
                break
            if name in shown:
                shown.remove(name)
                left_out.append(name)
        if fitting is None:
            _show_records(columns, rows)
            return
        widths = fitting
    else:
        widths = {name: min(n, _WIDEST) for name, n in widths.items()}
    _print_line([cut(name, widths[name]) if room else name for name in shown], widths, shown)
    _print_line(["-" * widths[name] for name in shown], widths, shown)
    for number in range(len(rows)):
        texts_of = [cells[name][number] for name in shown]
        if room:
            texts_of = [cut(t, widths[n]) for t, n in zip(texts_of, shown, strict=True)]
        _print_line(texts_of, widths, shown)
    if left_out:
        echo(f"not shown, for want of width: {', '.join(left_out)}; --wide shows all", err=True)


def _print_line(texts: Sequence[str], widths: dict[str, int], shown: Sequence[str]) -> None:
    padded = (
        text + " " * (widths[name] - width(text)) for text, name in zip(texts, shown, strict=True)
    )
    echo((" " * _GAP).join(padded).rstrip())


def fit_widths(
    widths: dict[str, int], texts: Collection[str], room: int, *, least: int = _LEAST
) -> dict[str, int] | None:
    """Choose widths of columns that fit a terminal: short columns stay whole, long texts give way.

    Args:
        widths: What each column would take.
        texts: The columns that may be cut.
        room: Columns of the terminal.
        least: What a text gets at least, if it is not shorter.

    Returns:
        Widths, in the same order; None if there is no room for all.

    Example:
        >>> fit_widths({"n": 4, "path": 30, "reason": 90, "state": 10}, ["path", "reason"], 60)
        {'n': 4, 'path': 20, 'reason': 20, 'state': 10}
    """
    left = room - _GAP * (len(widths) - 1)
    left -= sum(n for name, n in widths.items() if name not in texts)
    narrowing = sorted((n, name) for name, n in widths.items() if name in texts)
    if left < sum(min(n, least) for n, _ in narrowing):
        return None
    found = dict(widths)
    for done, (n, name) in enumerate(narrowing):
        found[name] = min(n, left // (len(narrowing) - done))
        left -= found[name]
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str | list | tuple | dict | bytes)


def _show_records(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Print a line a field; rows are parted by a line with their number."""
    widest = max(map(width, columns), default=0)
    for number, row in enumerate(rows, 1):
        echo(f"-- {number} of {len(rows)} --")
        for name in columns:
            echo(f"{name}{' ' * (widest - width(name))}  {cell(row[name])}")


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
    if isinstance(value, datetime):
        # To the second, as people read it; --json and --csv have all of it.
        return value.isoformat(" ", "seconds")
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
