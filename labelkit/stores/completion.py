"""What a prompt for SQL needs: names to complete with, and where statements end."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from labelkit.errors import InvalidInput
from labelkit.stores import sandbox
from labelkit.stores.labels import LabelStore
from labelkit.stores.query import one_line

_NAMES = """
select 'table' as kind, table_name as name, 0 as place, '' as part
    from duckdb_tables() where not internal
union select 'view', view_name, 0, '' from duckdb_views() where not internal
union select 'macro', function_name, 0, '' from duckdb_functions()
    where not internal and function_type in ('macro', 'table_macro')
union select 'column', table_name, column_index, column_name
    from duckdb_columns() where not internal
union select 'keyword', keyword_name, 0, '' from duckdb_keywords()
    where keyword_category in ('reserved', 'type_function')
order by all
"""


@dataclass(frozen=True)
class Names:
    """What a statement can name: relations with their columns, macros, keywords of SQL."""

    relations: dict[str, list[str]] = field(default_factory=dict)
    macros: list[str] = field(default_factory=list)
    keywords: list[str] = field(default_factory=list)


def read_names(
    store: LabelStore, *, timeout_s: float = 5.0, lock_timeout_s: float | None = None
) -> Names:
    """Read the names to complete a statement with, as a store has them now.

    Args:
        store: The label store.
        timeout_s: Seconds the question may take.
        lock_timeout_s: Wait no longer than this for a writer; as long as the store says if None.

    Raises:
        StoreError: If the store cannot be opened.
        StoreBusy: If a writer holds it for longer.
    """
    store = copy.copy(store)
    if lock_timeout_s is not None:
        store.timeout_s = min(store.timeout_s, lock_timeout_s)
    with sandbox.ask(store, _NAMES, timeout_s=timeout_s) as reply:
        rows = [row for batch in reply.batches for row in batch]
    names = Names({name: [] for kind, name, _, _ in rows if kind in ("table", "view")})
    for kind, name, _, part in rows:
        if kind == "column":
            names.relations.setdefault(name, []).append(part)
        elif kind == "macro":
            names.macros.append(name)
        elif kind == "keyword":
            names.keywords.append(name)
    return names


def read_definitions(store: LabelStore, name: str, *, timeout_s: float = 30.0) -> list[str]:
    """Read the statements that make the tables, views and macros of a name.

    Raises:
        StoreError: If the store cannot be opened, or it takes longer than ``timeout_s``.
    """
    quoted = name.replace("'", "''")
    statement = (
        f"select sql from duckdb_tables() where table_name = '{quoted}' union all "
        f"select sql from duckdb_views() where view_name = '{quoted}' union all "
        "select 'create macro ' || function_name || '(' || array_to_string(parameters, ', ') "
        "|| ') as ' || macro_definition || ';' from duckdb_functions() "
        f"where function_name = '{quoted}' and macro_definition is not null and not internal"
    )
    with sandbox.ask(store, statement, timeout_s=timeout_s) as reply:
        return [text for batch in reply.batches for (text,) in batch]


def split_statements(text: str) -> list[str]:
    r"""Split a text into its statements, as DuckDB parts them.

    Raises:
        InvalidInput: If it is no SQL.

    Example:
        >>> split_statements("select ';' as x; -- two\nfrom clips;")
        ["select ';' as x; -- two\n", 'from clips;']
    """
    import duckdb

    try:
        return [statement.query for statement in duckdb.extract_statements(text)]
    except duckdb.Error as error:
        raise InvalidInput(one_line(error)) from error


def is_complete(text: str) -> bool:
    """Tell whether a text ends where a statement does, at a semicolon that is no part of it.

    Example:
        >>> is_complete("select ';"), is_complete("select 1 -- ;"), is_complete("selec 1;")
        (False, False, True)
    """
    if not text.rstrip().endswith(";"):
        return False
    import duckdb

    # A word more would be one of its own, unless a quotation or a comment swallows it.
    marked = text.rstrip() + " zzz"
    tokens = duckdb.tokenize(marked)
    return bool(tokens) and tokens[-1][0] == len(marked.encode()) - 3
