"""SQL of the user's own: one SELECT on a locked, read-only connection with a time limit.

This prevents accidents. It is no sandbox: whoever runs other people's SQL needs one
around the process.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from labelkit.errors import InvalidInput, StoreError
from labelkit.stores import schema
from labelkit.stores.labels import LabelStore

_LIMITS: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "allow_persistent_secrets": "false",
    "memory_limit": "2GB",
    "temp_directory": "",
}


@dataclass(frozen=True)
class Answer:
    """Column names and rows of plain Python values."""

    columns: list[str]
    rows: list[tuple[Any, ...]]

    def dicts(self) -> list[dict[str, Any]]:
        """One object a row, keyed by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def query(store: LabelStore, sql: str, *, timeout_s: float) -> Answer:
    """Answer one SELECT.

    Args:
        store: The label store.
        sql: One statement that reads.
        timeout_s: Seconds after which it is stopped.

    Raises:
        InvalidInput: If it is not exactly one reading statement, or wrong SQL.
        StoreError: If it takes too long, or the store cannot be opened.
    """
    with store.connect(read_only=True, limits=_LIMITS) as con:
        schema.check_version(con, store.path.name)
        return _answer(con, sql, timeout_s)


def _answer(con: Any, sql: str, timeout_s: float) -> Answer:
    import duckdb

    try:
        statements = con.extract_statements(sql)
    except duckdb.Error as error:
        raise InvalidInput(_one_line(error)) from error
    reading = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    if len(statements) != 1 or statements[0].type not in reading:
        raise InvalidInput(f"one SELECT is needed, got {sql.strip()[:80]!r}")
    timer = threading.Timer(timeout_s, con.interrupt)
    timer.start()
    try:
        # Rows stream: an error may come as late as the last of them.
        result = con.execute(statements[0])
        columns = [column[0] for column in result.description]
        return Answer(_unique(columns), result.fetchall())
    except duckdb.InterruptException as error:
        raise StoreError(f"stopped after {timeout_s:g} s; narrow it, or give --timeout") from error
    except duckdb.Error as error:
        raise InvalidInput(_one_line(error)) from error
    finally:
        timer.cancel()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]


def _unique(names: list[str]) -> list[str]:
    """Column names told apart, so that none hides another in an object."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return unique
