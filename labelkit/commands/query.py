"""Commands that answer SQL: one statement, or a prompt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from labelkit.commands.options import (
    Place,
    as_of_option,
    record_option,
    table_options,
    wide_option,
)
from labelkit.errors import InvalidInput, needing
from labelkit.output import Layout, show, show_csv_rows, show_json_rows
from labelkit.terminal import echo

# What a person still scrolls through, and what fits into memory as a table.
SCREEN_ROWS, TABLE_ROWS = 1000, 100_000

timeout_option = click.option(
    "--timeout", type=float, default=30.0, show_default=True, help="Seconds a statement may take."
)
max_rows_option = click.option(
    "--max-rows", type=int, metavar="N",
    help=f"Rows to answer at most; all if not given, but {SCREEN_ROWS} in a table on a terminal.",
)  # fmt: skip


@click.command()
@click.argument("sql", required=False)
@click.option("--file", type=click.Path(path_type=Path), help="File of the statement.")
@table_options
@record_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: NULL empty, lists as JSON.")
@click.option("--parquet", type=click.Path(path_type=Path), metavar="FILE", help="Write Parquet.")
@click.option("--force", is_flag=True, help="Write over the file of --parquet.")
@max_rows_option
@timeout_option
@as_of_option
@click.pass_obj
def query(
    place: Place,
    sql: str | None,
    file: Path | None,
    as_json: bool,
    as_csv: bool,
    parquet: Path | None,
    force: bool,
    max_rows: int | None,
    timeout: float,
) -> None:
    """Answer one SELECT over the store, from labels_now or label_history say.

    SQL may also come from --file or, if it is - or left out, from stdin. The statement runs in
    a process of its own that can only read the store, and is stopped when it takes too much.
    """
    from labelkit.labels import query as querying

    if as_json + as_csv + (parquet is not None) > 1:
        raise click.UsageError("--json, --csv and --parquet exclude one another")
    if force and parquet is None:
        raise click.UsageError("--force is for --parquet")
    text = _read_sql(sql, file)
    project = place.project()
    if parquet is not None:
        n_rows = querying.write_parquet(
            project, text, parquet, timeout_s=timeout, max_rows=max_rows, force=force
        )
        echo(f"{n_rows} rows in {parquet}", err=True)
        return
    mode = "json" if as_json else "csv" if as_csv else "table"
    print_answer(project, text, mode, timeout_s=timeout, max_rows=max_rows)


@click.command("sql")
@max_rows_option
@timeout_option
@wide_option
@record_option
@as_of_option
@click.pass_obj
def sql(place: Place, max_rows: int | None, timeout: float) -> None:
    """Ask the store in SQL at a prompt, which completes names; .help tells more.

    Without a terminal, statements are read from stdin up to the first that fails.
    """
    from labelkit.commands.shell import Shell
    from labelkit.stores.query import check_limits

    check_limits(timeout, max_rows)
    stream = sys.stdin
    shell = Shell(place.project(), timeout_s=timeout, max_rows=max_rows)
    if stream.isatty():
        with needing("the prompt", "prompt", "prompt_toolkit"):
            from labelkit.commands.prompt import talk
        talk(shell)
    else:
        shell.run_script(_decode(stream.buffer.read(), "stdin"))


def print_answer(
    project: Any, sql: str, mode: str, *, timeout_s: float, max_rows: int | None = None
) -> None:
    """Print the answer of one SELECT as a table, a line a field, JSON or CSV.

    Raises:
        InvalidInput: If the statement does not only read, or is too long for a table.
        StoreError: If a limit stops it, or the store cannot be opened.
    """
    from labelkit.labels import query as querying

    most, on_screen = max_rows, sys.stdout.isatty()
    if mode in ("table", "record") and most is None:
        most = SCREEN_ROWS if on_screen else TABLE_ROWS
    with querying.ask(project, sql, timeout_s=timeout_s, max_rows=most) as reply:
        if reply.more and max_rows is None and not on_screen:
            raise InvalidInput(
                f"more than {most} rows are too many for a table; "
                "give --csv, --json, --parquet or --max-rows"
            )
        rows = (row for batch in reply.batches for row in batch)
        if mode == "json":
            show_json_rows(reply.columns, rows)
        elif mode == "csv":
            show_csv_rows(reply.columns, rows)
        else:
            table = [dict(zip(reply.columns, row, strict=True)) for row in rows]
            layout = Layout(record=True) if mode == "record" else None
            show(table, False, reply.columns, layout=layout)
    if reply.more:
        echo(f"There are more than these {most} rows; --max-rows N shows more.", err=True)


def _read_sql(sql: str | None, file: Path | None) -> str:
    if file is not None:
        if sql is not None:
            raise click.UsageError("SQL and --file exclude one another")
        try:
            return _decode(file.read_bytes(), str(file))
        except OSError as error:
            raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error
    if sql is not None and sql != "-":
        return sql
    stream = sys.stdin
    if sql is None and stream.isatty():
        raise click.UsageError("give a statement, --file FILE, or see: labelkit sql")
    return _decode(stream.buffer.read(), "stdin")


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not UTF-8 ({error}); save it as UTF-8") from error


COMMANDS = (query, sql)
