"""Whether a store is the file that labelkit closed last, and what is checked in any other.

A store that was copied, unpacked, restored or written to by another program may hold anything
under the names that labelkit's own statements use: a macro called like a function of the
database answers in its place. Its views are made from code, its tables are compared with those
of this version, and paths in it are held to the rules for paths.
"""

from __future__ import annotations

import functools
import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from labelkit.errors import StoreError
from labelkit.files import replacing
from labelkit.paths import BAD
from labelkit.personal import state_folder
from labelkit.stores import schema
from labelkit.stores.catalog import (
    KNOWN_VIEWS,
    create_views,
    drop_views,
    find_altered,
    find_missing,
    make_own_views,
)
from labelkit.stores.materialised import PREDICTIONS

_MACROS = {view.name.partition("(")[0] for view in KNOWN_VIEWS if view.macro}
_VIEWS = {view.name for view in KNOWN_VIEWS if not view.macro} | {"predictions"}
# The default of a column that is computed is how. Constraints differ between stores that began
# with different versions, and can only refuse what is written.
_TABLES = (
    "select table_name, concat_ws(' ', column_name, data_type, column_default) "
    "from system.main.duckdb_columns() "
    "where schema_name = 'main' and database_name = current_database()"
)


def note_path(store: Path) -> Path:
    """Return where it is noted how a store was left: not beside it, where others may write."""
    name = hashlib.blake2b(bytes(store.resolve()), digest_size=16).hexdigest()
    return state_folder() / "stores" / f"{name}.json"


def write_note(store: Path) -> None:
    """Note that the store, as it lies there, is one that was looked at; a help, so no error."""
    with suppress(OSError):
        note = note_path(store)
        note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(note) as file:
            file.write(json.dumps(_identify(store)).encode())


def is_noted(store: Path) -> bool:
    """Tell whether nothing but labelkit, of this user, has written the file since it was noted."""
    try:
        return bool(json.loads(note_path(store).read_text()) == _identify(store))
    except (OSError, ValueError):
        return False


def _identify(store: Path) -> list[int]:
    """Return what no copy shares: where the file lies, and when it was last changed."""
    status = store.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns]


def find_additions(con: Any) -> list[tuple[str, str]]:
    """List functions, types and schemas that labelkit did not make, with what drops each.

    The functions that are asked are called by their whole names: a macro of the short name
    would answer instead.
    """
    of = "where not internal and database_name = current_database()"
    main = f"{of} and schema_name = 'main'"
    schemas = f"select schema_name from system.main.duckdb_schemas() {of}"
    types = f"select type_name from system.main.duckdb_types() {main}"
    functions = f"select function_name, function_type from system.main.duckdb_functions() {main}"
    found = set()
    for (name,) in con.execute(schemas).fetchall():
        found.add((name, f"drop schema {_quoted(name)} cascade"))
    for (name,) in con.execute(types).fetchall():
        found.add((name, f"drop type main.{_quoted(name)}"))
    for name, kind in con.execute(functions).fetchall():
        table = kind == "table_macro"
        if not table or name not in _MACROS:
            found.add((name, f"drop macro {'table ' if table else ''}main.{_quoted(name)}"))
    return sorted(found)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def refuse_additions(con: Any, name: str) -> None:
    """Refuse a store with functions of somebody's, before any is called.

    Raises:
        StoreError: If there are some.
    """
    found = find_additions(con)
    if found:
        raise StoreError(
            f"{name} holds functions, types or schemas that labelkit did not make "
            f"({', '.join(sorted({of for of, _ in found})[:5])}), which would answer in place of "
            "the database's own; remove them with: labelkit doctor --repair"
        )


def find_faults(con: Any, folder: Path) -> list[str]:
    """Tell what in a store of this version is not as labelkit makes it, a line each.

    Additions must have been looked for before.

    Args:
        con: A connection to the store.
        folder: Where the store lies.
    """
    tables = [name for (name,) in con.execute(
        "select table_name from system.main.duckdb_tables() where not internal "
        "and schema_name = 'main' and database_name = current_database()").fetchall()]  # fmt: skip
    found = _read_tables(con)
    faults = [
        f"{table} is not the table that this labelkit makes"
        for table, expected in _expected().items()
        if table not in tables or found[table] != expected
    ]
    # The database knows no difference between large and small letters.
    faults += [f"{name} is a table, not the view" for name in sorted(tables)
               if name.lower() in _VIEWS]  # fmt: skip
    if faults:
        return faults
    bad = [path for (path,) in con.execute(
        "select path from (select clip_id, path from main.clip_rows union all select clip_id, path "
        "from main.clip_changes) where regexp_matches(path, ?) order by clip_id limit 3", [BAD]
    ).fetchall()]  # fmt: skip
    faults += [f"the path {path!a} of a clip does not stay below the audio folder" for path in bad]
    files = con.execute("select file from main.prediction_files order by 1").fetchall()
    faults += [f"{file!a} is no file of predictions" for (file,) in files
               if not PREDICTIONS.fullmatch(file) or _is_odd(folder / file)]  # fmt: skip
    return faults


def _is_odd(file: Path) -> bool:
    """Tell whether something is there that is no plain file; a pipe would be waited for."""
    return file.is_symlink() or (file.exists() and not file.is_file())


def _read_tables(con: Any) -> dict[str, list[str]]:
    """Return the columns of every table, as the database writes them out."""
    found: dict[str, list[str]] = {}
    for table, text in con.execute(_TABLES).fetchall():
        found.setdefault(table, []).append(text)
    return {table: sorted(texts) for table, texts in found.items()}


@functools.cache
def _expected() -> dict[str, list[str]]:
    """Return the same of a store made in memory."""
    import duckdb

    with duckdb.connect() as con:
        con.execute("set TimeZone = 'UTC'")
        schema.migrate(con, "memory")
        found = _read_tables(con)
    return {table: found[table] for table in schema.ABOUT}


def find_others(con: Any) -> list[str]:
    """List views and tables that labelkit neither made nor reads, of a user's own say."""
    found = con.execute(
        "select name from (select view_name as name, database_name, schema_name, internal "
        "from system.main.duckdb_views() union all select table_name, database_name, schema_name, "
        "internal from system.main.duckdb_tables()) where not internal and schema_name = 'main' "
        "and database_name = current_database()"
    ).fetchall()
    return sorted({name for (name,) in found} - _VIEWS - set(schema.ABOUT))


def refuse_faults(con: Any, store: Path, name: str) -> None:
    """Refuse a store that is not as labelkit makes it.

    Raises:
        StoreError: If a table is another, or a path leads elsewhere.
    """
    faults = find_faults(con, store.parent)
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

    if not find_altered(con) and not find_missing(con):
        return True
    if not read_only:
        con.execute("begin")
        try:
            drop_views(con)
            create_views(con)
            con.execute("commit")
        except duckdb.IOException:
            con.execute("rollback")
        else:
            return True
    make_own_views(con)
    return False
