"""Whether a store is the file that labelkit closed last, and what is checked in any other.

A store that was copied, unpacked, restored or written to by another program may hold anything
under the names that labelkit's own statements use: a macro called like a function of the
database answers in its place. Its views are made from code, its tables are compared with those
of this version, and paths in it are held to the rules for paths.
"""

from __future__ import annotations

import functools
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from labelkit.errors import StoreError
from labelkit.paths import BAD
from labelkit.stores import schema
from labelkit.stores.catalog import create_views, drop_own_views, drop_views, find_altered
from labelkit.stores.materialised import PREDICTIONS
from labelkit.stores.views import VIEWS

_MACROS = {view.name.partition("(")[0] for view in VIEWS if view.macro}
_VIEWS = {view.name for view in VIEWS if not view.macro} | {"predictions"}


def closed_path(store: Path) -> Path:
    """Return where it is noted which file was closed last."""
    return store.with_name(f"{store.name}.closed")


def remember(store: Path) -> None:
    """Note that the store, as it lies there, is one that was looked at; a help, so no error."""
    with suppress(OSError):
        closed_path(store).write_text(json.dumps(_identify(store)))


def is_own(store: Path) -> bool:
    """Tell whether nothing but labelkit, here, has written the file since it was looked at."""
    try:
        return bool(json.loads(closed_path(store).read_text()) == _identify(store))
    except (OSError, ValueError):
        return False


def _identify(store: Path) -> list[int]:
    """Return what no copy shares: where the file lies, and when it was last changed."""
    status = store.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns]


def find_functions(con: Any) -> list[tuple[str, str]]:
    """List the functions and types that labelkit did not make, with the statement that drops each.

    Names are asked of the database's own functions by their whole names, as short ones may
    be answered by what is looked for.
    """
    functions = con.execute(
        "select function_name, function_type from system.main.duckdb_functions() where not internal"
    ).fetchall()
    types = con.execute(
        "select type_name from system.main.duckdb_types() where not internal"
    ).fetchall()
    found = {(name, _drop("type", name)) for (name,) in types}
    for name, kind in functions:
        table = kind == "table_macro"
        if not table or name not in _MACROS:
            found.add((name, _drop("macro table" if table else "macro", name)))
    return sorted(found)


def _drop(kind: str, name: str) -> str:
    return f'drop {kind} main."{name.replace(chr(34), 2 * chr(34))}"'


def refuse_functions(con: Any, name: str) -> None:
    """Refuse a store with functions of somebody's, before any is called.

    Raises:
        StoreError: If there are some.
    """
    found = find_functions(con)
    if found:
        raise StoreError(
            f"{name} holds functions or types that labelkit did not make "
            f"({', '.join(sorted({of for of, _ in found})[:5])}), which would answer in place of "
            "the database's own; remove them with: labelkit doctor --repair"
        )


def find_faults(con: Any) -> list[str]:
    """Tell what in a store of this version is not as labelkit makes it, a line each.

    Functions must have been looked at before.
    """
    faults = []
    tables = {name for (name,) in con.execute(
        "select table_name from system.main.duckdb_tables() "
        "where not internal and schema_name = 'main' and not temporary").fetchall()}  # fmt: skip
    columns: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in con.execute(_COLUMNS).fetchall():
        columns.setdefault(table, []).append((column, kind))
    for table, expected in _expected().items():
        if table not in tables or sorted(columns[table]) != sorted(expected):
            faults.append(f"{table} is not the table that this labelkit makes")
    faults += [f"{name} is a table, not the view" for name in sorted(tables & _VIEWS)]
    if faults:
        return faults
    bad = [path for (path,) in con.execute(
        "select path from main.clips where regexp_matches(path, ?) order by clip_id limit 3", [BAD]
    ).fetchall()]  # fmt: skip
    faults += [f"the path {path!a} of a clip does not stay below the audio folder" for path in bad]
    files = con.execute("select file from main.prediction_files order by 1").fetchall()
    faults += [f"{file!a} is no file of predictions" for (file,) in files
               if not PREDICTIONS.fullmatch(file)]  # fmt: skip
    return faults


_COLUMNS = (
    "select table_name, column_name, data_type from system.main.duckdb_columns() "
    "where not internal and schema_name = 'main' and database_name <> 'temp' "
    "order by column_index"
)


@functools.cache
def _expected() -> dict[str, list[tuple[str, str]]]:
    """Return the columns of every table, of a store made in memory."""
    import duckdb

    with duckdb.connect() as con:
        con.execute("set TimeZone = 'UTC'")
        schema.migrate(con, "memory")
        tables: dict[str, list[tuple[str, str]]] = {name: [] for name in schema.ABOUT}
        for table, column, kind in con.execute(_COLUMNS).fetchall():
            if table in tables:
                tables[table].append((column, kind))
    return tables


def refuse_faults(con: Any, name: str) -> None:
    """Refuse a store that is not as labelkit makes it.

    Raises:
        StoreError: If a table is another, or a path leads elsewhere.
    """
    faults = find_faults(con)
    if faults:
        more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        raise StoreError(
            f"{name} is not as labelkit makes it: {faults[0]}{more}; take one you trust, with: "
            "labelkit restore FILE"
        )


def make_views(con: Any, *, read_only: bool) -> bool:
    """See to it that views and macros are those of the code; tell whether the file's are now.

    Where it is only read, and they are others, the connection gets its own; so it does where
    a file of predictions is missing, without which they cannot be made. A file whose views are
    right is not written to.
    """
    import duckdb

    altered = find_altered(con)
    if read_only or not altered:
        if not altered:
            drop_own_views(con)
        return not altered
    drop_own_views(con)
    con.execute("begin")
    try:
        drop_views(con)
        create_views(con)
    except duckdb.IOException:
        con.execute("rollback")
        find_altered(con)
        return False
    con.execute("commit")
    return True
