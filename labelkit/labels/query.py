"""Questions in SQL: answered by a process with limits, written as Parquet, helped by names."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from labelkit.errors import InvalidInput
from labelkit.files import replacing
from labelkit.project import Project, check_target
from labelkit.stores import sandbox
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


def ask(
    project: Project, sql: str, *, timeout_s: float = 30.0, max_rows: int | None = None
) -> AbstractContextManager[sandbox.Reply]:
    """Answer one SELECT in a process with limits; see :func:`labelkit.stores.sandbox.ask`."""
    return sandbox.ask(project.store, sql, timeout_s=timeout_s, max_rows=max_rows)


def write_parquet(
    project: Project,
    sql: str,
    file: Path,
    *,
    timeout_s: float = 30.0,
    max_rows: int | None = None,
    force: bool = False,
) -> int:
    """Write the answer of one SELECT as Parquet, whole or not at all.

    Args:
        project: The project.
        sql: One statement that reads.
        file: The file to make.
        timeout_s: Seconds after which the statement is stopped.
        max_rows: Write no more than these; all if None.
        force: Write over ``file`` if it is there.

    Returns:
        The number of rows.

    Raises:
        InvalidInput: If ``file`` is there, cannot be made, or belongs to the project or its
            recordings; or if the statement does not only read.
        StoreError: If a limit stops the statement, or the store cannot be opened.
    """
    with replacing(check_target(project, file, force=force)) as stream:
        return sandbox.write_parquet(
            project.store, sql, Path(stream.name), timeout_s=timeout_s, max_rows=max_rows
        )


def read_names(
    project: Project, *, timeout_s: float = 5.0, lock_timeout_s: float | None = None
) -> Names:
    """Names to complete a statement with, as the store has them now.

    Args:
        project: The project.
        timeout_s: Seconds the question may take.
        lock_timeout_s: Wait no longer than this for a writer; as long as the store says if None.

    Raises:
        StoreError: If the store cannot be opened.
        StoreBusy: If a writer holds it for longer.
    """
    store = copy.copy(project.store)
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


def split_statements(text: str) -> list[str]:
    r"""The statements of a text, as DuckDB parts them.

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
    """Whether a text ends where a statement does, at a semicolon that is no part of it.

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
