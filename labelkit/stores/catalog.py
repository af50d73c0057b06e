"""The views and macros of one file or connection: made, made anew, and made to show the past."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from labelkit.stores.materialised import PREDICTIONS
from labelkit.stores.views import VIEWS


def drop_views(con: Any) -> None:
    """Remove the views and macros of these names, whatever version made them."""
    views = "select view_name from system.main.duckdb_views() where not temporary"
    there = {name for (name,) in con.execute(views).fetchall()}
    for view in reversed(VIEWS):
        if view.macro or view.name in there:
            con.execute(view.drop())


def create_views(con: Any) -> None:
    """Make every view and macro, in an open transaction."""
    create_predictions(con)
    for view in VIEWS:
        con.execute(view.create())
    con.execute(f"comment on view {VIEWS[0].name} is '{_fingerprint()}'")


def are_views_old(con: Any) -> bool:
    """Tell whether the views of a store were made from other definitions than these."""
    said = con.execute(
        "select comment from duckdb_views() where view_name = ?", [VIEWS[0].name]
    ).fetchone()
    return said is None or said[0] != _fingerprint()


def find_altered(con: Any) -> list[str]:
    """List the views and macros of a store that are not what the code makes, or are not there.

    They are made once more for this connection alone, where they hide the others, and compared
    as the database writes them out.
    """
    import duckdb

    steps: list[Callable[[], object]] = [partial(create_predictions, con, temporary=True)]
    steps += [partial(con.execute, view.create(temporary=True)) for view in VIEWS]
    for make in steps:
        # A file of a large run may be missing, which is told where it is asked for.
        with suppress(duckdb.IOException):
            make()
    made: dict[tuple[str, bool], str] = {}
    for name, temporary, sql in con.execute(
        "select view_name, temporary, sql from system.main.duckdb_views() where not internal"
    ).fetchall():
        made[name, temporary] = sql.partition(" AS ")[2]
    for name, database, parameters, body in con.execute(
        "select function_name, database_name, parameters, macro_definition "
        "from system.main.duckdb_functions() where not internal"
    ).fetchall():
        made[name, database == "temp"] = f"{parameters} {body}"
    names = sorted(name for name, temporary in made if temporary)
    return [name for name in names if made.get((name, False)) != made[name, True]]


def drop_own_views(con: Any) -> None:
    """Remove the views and macros that a connection made for itself: the file's are seen again."""
    for view in reversed(VIEWS):
        con.execute(view.drop(temporary=True))
    con.execute("drop view if exists temp.main.predictions")


def _fingerprint() -> str:
    return hashlib.sha256("".join(view.create() for view in VIEWS).encode()).hexdigest()


def create_predictions(con: Any, *, temporary: bool = False) -> None:
    """Make the view of all predictions: those in the store and those of runs kept as Parquet.

    Paths are relative to the folder of the store; connections search there.
    """
    sql = "select run_id, clip_id, probs, top_class from prediction_rows"
    files = con.execute("select file from prediction_files order by file").fetchall()
    known = [file for (file,) in files if PREDICTIONS.fullmatch(file)]
    if known:
        names = ", ".join(f"'{file}'" for file in known)
        sql += f" union all select run_id, clip_id, probs, top_class from read_parquet([{names}])"
    con.execute(f"create or replace {'temp ' if temporary else ''}view predictions as {sql}")


# Tables whose rows came in with a run rather than with a batch of their own.
_OF_RUNS = ("prediction_rows", "prediction_files", "scores", "suggestions")


def show_past(con: Any, batch_id: int) -> None:
    """Let the connection see the store as it was after a batch: tables, views and macros.

    Temporary views over the tables hide them; the views are made once more on top of these.
    """
    catalog = con.execute("select current_database()").fetchone()[0].replace('"', '""')
    tables = con.execute(
        "select table_name from duckdb_columns() where column_name = 'batch_id' "
        "and table_name in (select table_name from duckdb_tables() where not internal)"
    ).fetchall()
    # What is maintained up to a later batch knows too much; its mark is hidden then, too.
    kept = {name: f"exists (from {name}_mark)" for name in ("clip_state", "clip_scores")}
    filters = {table: f"batch_id <= {batch_id:d}" for (table,) in tables if table not in kept}
    runs = f'"{catalog}".main.runs where batch_id <= {batch_id:d}'
    filters |= dict.fromkeys(_OF_RUNS, f"run_id in (select run_id from {runs})")
    for table, condition in (*filters.items(), *kept.items()):
        con.execute(f'create temp view {table} as from "{catalog}".main.{table} where {condition}')
    create_predictions(con, temporary=True)
    for view in VIEWS:
        con.execute(view.create(temporary=True))
