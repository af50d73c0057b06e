"""SQL of the user's own: one SELECT on a locked, read-only connection with a time limit.

This prevents accidents. It is no sandbox: :mod:`labelkit.stores.sandbox` adds a process with
limits around it, and whoever runs other people's SQL needs a container around that.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelkit.errors import InvalidInput, LabelkitError, StoreError
from labelkit.stores.labels import LabelStore

LIMITS: dict[str, str | int] = {
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "allow_persistent_secrets": "false",
    "memory_limit": "2GB",
    "threads": 2,
    "temp_directory": "",
    "TimeZone": "UTC",
}
LONGEST_S = 1e6
_BATCH = 2000
# What follows is lexed the same with and without these words before it.
_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?(\s*\([\w\s,]*\))?\s+(.*)", re.I | re.S)

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Answer:
    """Column names and rows of plain Python values; ``more`` if ``max_rows`` cut them off."""

    columns: list[str]
    rows: Rows
    more: bool = False


def query(store: LabelStore, sql: str, *, timeout_s: float, max_rows: int | None = None) -> Answer:
    """Answer one SELECT in this process.

    The time limit is DuckDB's own interrupt, which comes late where it is still planning;
    a process of its own can be stopped at any moment (:func:`labelkit.stores.sandbox.ask`).

    Args:
        store: The label store.
        sql: One statement that reads.
        timeout_s: Seconds after which it is stopped.
        max_rows: Rows after which it is stopped; all if None.

    Raises:
        InvalidInput: If it is not exactly one reading statement, or wrong SQL.
        StoreError: If it takes too long or too much memory, or the store cannot be opened.
        StoreBusy: If a writer holds the store for longer than its time-out.

    Example:
        >>> import tempfile
        >>> store = LabelStore(Path(tempfile.mkdtemp()) / "labels.duckdb")
        >>> store.create()
        >>> query(store, "select count(*) as clips from labels_now", timeout_s=10)
        Answer(columns=['clips'], rows=[(0,)], more=False)
    """
    check_limits(timeout_s, max_rows)
    rows: Rows = []
    with store.connect(read_only=True, limits=LIMITS) as con:
        columns, more = fetch(con, sql, rows.extend, timeout_s=timeout_s, max_rows=max_rows)
    return Answer(columns, rows, more)


def check_limits(timeout_s: float, max_rows: int | None = None) -> None:
    """Refuse limits that are none.

    Raises:
        InvalidInput: If the time is not above 0 and finite, or the rows are below 1.
    """
    if not 0 < timeout_s <= LONGEST_S or math.isnan(timeout_s):
        raise InvalidInput(
            f"timeout must be above 0 and up to {LONGEST_S:.0f} seconds, got {timeout_s:g}"
        )
    if max_rows is not None and max_rows < 1:
        raise InvalidInput(f"max_rows must be at least 1, got {max_rows}")


def fetch(
    con: Any,
    sql: str,
    keep: Callable[[Rows], None],
    *,
    timeout_s: float,
    max_rows: int | None = None,
) -> tuple[list[str], bool]:
    """Run one reading statement and hand its rows to ``keep``, batch by batch.

    Returns:
        The column names, and whether there are more rows than ``max_rows``.
    """
    with _within(con, timeout_s):
        result = con.execute(read_statement(con, sql))
        columns = _unique([column[0] for column in result.description])
        # Rows stream: an error may come as late as the last of them.
        left = math.inf if max_rows is None else max_rows
        while rows := result.fetchmany(int(min(_BATCH, left + 1))):
            keep(rows if len(rows) <= left else rows[: int(left)])
            if len(rows) > left:
                return columns, True
            left -= len(rows)
    return columns, False


def copy_rows(
    con: Any, sql: str, file: Path, *, timeout_s: float, max_rows: int | None = None
) -> int:
    """Write the answer of one reading statement as Parquet, types kept.

    Args:
        con: A connection that may write ``file`` and nothing else.
        sql: One statement that reads.
        file: The file.
        timeout_s: Seconds after which it is stopped.
        max_rows: Write no more than these.

    Returns:
        The number of rows.

    Raises:
        LabelkitError: If there is no room for the file.
    """
    import duckdb

    name = str(file).replace("'", "''")
    limit = "" if max_rows is None else f" limit {max_rows:d}"
    with _within(con, timeout_s):
        statement = read_statement(con, sql)
        if statement.type.name == "EXPLAIN":
            raise InvalidInput("a plan has no rows to write; leave EXPLAIN out, or --parquet")
        text = statement.query.strip().rstrip(";")
        # A file written under a name of DuckDB's own would be outside what is allowed.
        copy = f"copy (from (\n{text}\n){limit}) to '{name}' (format parquet, use_tmp_file false)"
        try:
            return int(con.execute(copy).fetchone()[0])
        except duckdb.IOException as error:
            if not file.exists() or "write" not in str(error):
                raise
            raise LabelkitError(
                f"{file.parent} has no room for the answer, which may get half of what is free "
                "there; narrow it, or make room"
            ) from error


def read_statement(con: Any, sql: str) -> Any:
    """Parse the one statement of a text, if it is one that only reads.

    EXPLAIN ANALYZE runs what it explains, and DuckDB lets a connection write over its own
    store, read-only or not: what is explained must read, too.

    Raises:
        InvalidInput: If it is anything else.
    """
    if "\0" in sql or any("\ud800" <= letter <= "\udfff" for letter in sql):
        raise InvalidInput("the statement has a NUL or half a character; give plain UTF-8 text")
    statements = con.extract_statements(sql)
    kinds = [statement.type.name for statement in statements]
    if kinds == ["EXPLAIN"]:
        found = _EXPLAIN.fullmatch(statements[0].query)
        inner = con.extract_statements(found[3]) if found else []
        if [statement.type.name for statement in inner] == ["SELECT"]:
            return statements[0]
    elif kinds == ["SELECT"]:
        return statements[0]
    hint = "; PIVOT needs IN (...) within FROM (...)" if kinds == ["MULTI"] else ""
    shown = " ".join(sql.split())
    shown = shown if len(shown) <= 80 else f"{shown[:80]}..."
    raise InvalidInput(f"one SELECT is needed, got {shown!r}{hint}")


@contextmanager
def _within(con: Any, timeout_s: float) -> Iterator[None]:
    """Stop a statement in time, and turn what DuckDB raises into errors of labelkit's."""
    import duckdb

    done, late = threading.Event(), threading.Event()

    def stop() -> None:
        # An interrupt that comes between two steps is lost, so it comes again.
        if not done.wait(timeout_s):
            late.set()
            while not done.wait(0.05):
                con.interrupt()

    watch = threading.Thread(target=stop, daemon=True)
    watch.start()
    try:
        yield
    except duckdb.InterruptException as error:
        raise too_late(timeout_s) from error
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise too_large() from error
    except duckdb.Error as error:
        if late.is_set():
            raise too_late(timeout_s) from error
        raise InvalidInput(one_line(error)) from error
    except (ValueError, OverflowError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"a value has no counterpart in Python: {one_line(error)}") from error
    finally:
        done.set()
        watch.join()


def too_late(timeout_s: float) -> StoreError:
    """Make the error of a statement that took too long."""
    return StoreError(f"stopped after {timeout_s:g} s; narrow it, or give a longer --timeout")


def too_large() -> StoreError:
    """Make the error of a statement that wants more memory than it gets."""
    return StoreError(
        f"stopped for lack of memory ({LIMITS['memory_limit']} for the database); narrow it, "
        "or give --max-rows"
    )


def one_line(error: Exception) -> str:
    """Return what an error says, short and in one line."""
    return " ".join(str(error).split())[:400]


def _unique(names: list[str]) -> list[str]:
    """Tell column names apart, so that none hides another in an object."""
    taken = set(names)
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        new = name
        while seen[name] > 1 and new in taken:
            new = f"{name}_{seen[name]}"
            seen[name] += new in taken
        taken.add(new)
        unique.append(new)
    return unique
