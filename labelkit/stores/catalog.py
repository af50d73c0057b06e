"""The views and macros of one file or connection: made, made anew, and made to show the past."""

from __future__ import annotations

import hashlib
from typing import Any

from labelkit.stores.materialised import PREDICTIONS
from labelkit.stores.standing import Vocabulary, read_vocabulary, standing_views
from labelkit.stores.views import VIEWS, View

# Every view and macro but `predictions`, as they are where no class and no clip changed.
KNOWN_VIEWS = (*standing_views(Vocabulary()), *VIEWS)


def views_of(con: Any) -> list[View]:
    """Write the views and macros of an open store: those of rows as they stand, and the rest."""
    return [*standing_views(read_vocabulary(con)), *VIEWS]


def drop_views(con: Any) -> None:
    """Remove the views and macros of these names, whatever version made them.

    An older version may have a table of such a name, which a migration takes away.
    """
    views = "select lower(view_name) from system.main.duckdb_views() where not temporary"
    there = {name for (name,) in con.execute(views).fetchall()}
    for view in reversed(KNOWN_VIEWS):
        if view.macro or view.name in there:
            con.execute(view.drop())


def create_views(con: Any) -> None:
    """Make every view and macro, in an open transaction."""
    create_predictions(con)
    for view in views_of(con):
        con.execute(view.create())
    con.execute(f"comment on view {VIEWS[0].name} is '{_fingerprint()}'")


def renew_standing_views(con: Any) -> None:
    """Make the views of rows as they stand anew, in an open transaction that changed how."""
    for view in standing_views(read_vocabulary(con)):
        con.execute(view.create().replace("create view", "create or replace view", 1))


def are_views_old(con: Any) -> bool:
    """Tell whether the views of a store were made from other definitions than these."""
    said = con.execute(
        "select comment from duckdb_views() where view_name = ?", [VIEWS[0].name]
    ).fetchone()
    return said is None or said[0] != _fingerprint()


def find_altered(con: Any) -> list[str]:
    """List the views and macros of a store that are not what the code makes, or are not there.

    They are made once more for this connection alone and compared as the database writes them
    out.
    """
    make_own_views(con)
    expected, found = _definitions(con, "temp"), _definitions(con, "current_database()")
    drop_own_views(con)
    if find_missing(con):
        # How it is written out is known only where all files are there.
        expected.pop("predictions")
    return sorted(name for name in expected if found.get(name) != expected[name])


def _definitions(con: Any, database: str) -> dict[str, list[str]]:
    """Return how views and macros are written out by name; a macro may have several bodies."""
    database = database if database.endswith("()") else f"'{database}'"
    of = f"not internal and schema_name = 'main' and database_name = {database}"
    views = f"select view_name, sql from system.main.duckdb_views() where {of}"
    macros = (
        "select function_name, concat_ws(' ', function_type, parameters, macro_definition) "
        f"from system.main.duckdb_functions() where {of}"
    )
    found: dict[str, list[str]] = {}
    for name, sql in [*con.execute(views).fetchall(), *con.execute(macros).fetchall()]:
        found.setdefault(name, []).append(sql.replace("CREATE TEMP VIEW", "CREATE VIEW", 1))
    return {name: sorted(texts) for name, texts in found.items()}


def make_own_views(con: Any) -> None:
    """Make the views and macros for a connection alone, where they hide those of the file."""
    create_predictions(con, temporary=True)
    for view in views_of(con):
        con.execute(view.create(temporary=True))


def drop_own_views(con: Any) -> None:
    """Remove the views and macros that a connection made for itself: the file's are seen again."""
    for view in reversed(KNOWN_VIEWS):
        con.execute(view.drop(temporary=True))
    con.execute("drop view if exists temp.main.predictions")


def _fingerprint() -> str:
    return hashlib.sha256("".join(view.create() for view in KNOWN_VIEWS).encode()).hexdigest()


def create_predictions(con: Any, *, temporary: bool = False) -> None:
    """Make the view of all predictions: those in the store and those of runs kept as Parquet.

    Paths are relative to the folder of the store; connections search there.
    """
    sql = f"select {_COLUMNS} from prediction_rows"
    missing = find_missing(con) if temporary else []
    known = [file for file in _prediction_files(con) if file not in missing]
    if known:
        names = ", ".join(f"'{file}'" for file in known)
        sql += f" union all select {_COLUMNS} from read_parquet([{names}])"
    if missing:
        # The rest can be asked for; who needs this learns what is missing.
        said = f"{missing[0]} is not there, the predictions of a run: bring it back"
        sql += f" union all select null, null, null, null where error('{said}')::boolean"
    con.execute(f"create or replace {'temp ' if temporary else ''}view predictions as {sql}")


_COLUMNS = "run_id, clip_id, probs, top_class"


def _prediction_files(con: Any) -> list[str]:
    files = con.execute("select file from prediction_files order by file").fetchall()
    return [file for (file,) in files if PREDICTIONS.fullmatch(file)]


def find_missing(con: Any) -> list[str]:
    """List the files of predictions that are not there, or cannot be read."""
    import duckdb

    missing = []
    for file in _prediction_files(con):
        try:
            con.execute(
                f"select run_id, clip_id, probs, top_class from read_parquet('{file}') limit 0"
            )
        except duckdb.Error:
            missing.append(file)
    return missing


# Tables whose rows came in with a run rather than with a batch of their own.
_OF_RUNS = ("prediction_rows", "prediction_files", "score_rows", "suggestion_rows")


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
    kept = {
        name: f"exists (from {mark}_mark)"
        for name, mark in (("state_rows", "clip_state"), ("clip_scores", "clip_scores"))
    }
    filters = {table: f"batch_id <= {batch_id:d}" for (table,) in tables if table not in kept}
    runs = f'"{catalog}".main.runs where batch_id <= {batch_id:d}'
    filters |= dict.fromkeys(_OF_RUNS, f"run_id in (select run_id from {runs})")
    for table, condition in (*filters.items(), *kept.items()):
        con.execute(f'create temp view {table} as from "{catalog}".main.{table} where {condition}')
    make_own_views(con)
