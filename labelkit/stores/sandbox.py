"""A statement in a process of its own, with limits: a bomb takes that one down, not this one.

The child gets the statement as a line of JSON on stdin, and answers on stdout in pickles of
plain values, which are read without ever calling anything but these values' types. It ends
with its parent, whatever that one dies of.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from labelkit import errors
from labelkit.errors import LabelkitError, StoreError
from labelkit.personal import state_folder
from labelkit.stores.query import (
    LIMITS,
    Rows,
    check_limits,
    copy_rows,
    fetch,
    too_large,
    too_late,
)

# Address space: DuckDB's own limit, what DuckDB does not count, the rows of the answer, code.
MEMORY = 5 * 2**30
# Planning cannot be interrupted: so long after the time-out the process is ended.
GRACE_S = 0.5
# Variables without which an interpreter may not start; nothing else is handed on.
_KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")
_VALUES = {
    ("datetime", "date"), ("datetime", "datetime"), ("datetime", "time"),
    ("datetime", "timedelta"), ("datetime", "timezone"), ("decimal", "Decimal"),
    ("pytz", "_UTC"), ("uuid", "UUID"),
}  # fmt: skip
_START = "import sys; sys.path[:] = {path!r}; from labelkit.stores.sandbox import serve; serve()"


@dataclass(frozen=True)
class Reply:
    """Column names, whether there were more rows than asked for, and the rows in batches."""

    columns: list[str]
    more: bool
    batches: Iterator[Rows]


@contextmanager
def ask(store: Any, sql: str, *, timeout_s: float, max_rows: int | None = None) -> Iterator[Reply]:
    """Answer one SELECT in a process with limits.

    The statement is through, and the store free again, before the first row comes.

    Args:
        store: The label store.
        sql: One statement that reads.
        timeout_s: Seconds after which it is stopped, from when the store is open.
        max_rows: Rows after which it is stopped; all if None.

    Raises:
        InvalidInput: If it is not exactly one reading statement, or wrong SQL.
        StoreError: If a limit stops it, or the store cannot be opened.
        StoreBusy: If a writer holds the store for longer than its time-out.

    Example:
        >>> import tempfile
        >>> from labelkit.stores.labels import LabelStore
        >>> store = LabelStore(Path(tempfile.mkdtemp()) / "labels.duckdb")
        >>> store.create()
        >>> with ask(store, "select 1 as one", timeout_s=10) as reply:
        ...     reply.columns, list(reply.batches)
        (['one'], [[(1,)]])
    """
    with _child(store, sql, timeout_s, max_rows, None) as receive:
        columns, more = receive()
        yield Reply(columns, more, iter(receive, None))


def write_parquet(
    store: Any, sql: str, file: Path, *, timeout_s: float, max_rows: int | None = None
) -> int:
    """Write the answer of one SELECT as Parquet, by a process that may write nothing else.

    Args:
        store: The label store.
        sql: One statement that reads.
        file: The file, which is written over; it may become half as large as the disk is free.
        timeout_s: Seconds after which it is stopped.
        max_rows: Write no more than these.

    Returns:
        The number of rows.

    Raises:
        InvalidInput: If it is not exactly one reading statement, or wrong SQL.
        StoreError: If a limit stops it, or the store cannot be opened.
    """
    with _child(store, sql, timeout_s, max_rows, file.absolute()) as receive:
        n_rows: int = receive()
        return n_rows


def _environment() -> dict[str, str]:
    """Return what the process is started with, and where it finds which stores were noted."""
    kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
    with suppress(OSError):
        kept["XDG_STATE_HOME"] = str(state_folder().parent)
    return {"OMP_NUM_THREADS": "1"} | kept


@contextmanager
def _child(
    store: Any, sql: str, timeout_s: float, max_rows: int | None, file: Path | None
) -> Iterator[Any]:
    check_limits(timeout_s, max_rows)
    request = {
        "store": [str(store.path.absolute()), store.timeout_s, store.as_of],
        "sql": sql, "timeout_s": timeout_s, "max_rows": max_rows,
        "file": None if file is None else str(file),
    }  # fmt: skip
    path = [*sys.path, str(Path(errors.__file__).parent.parent)]
    child = subprocess.Popen(
        [sys.executable, "-s", "-S", "-P", "-X", "utf8", "-c", _START.format(path=path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(),
        # Ctrl-C is for this process, which then ends the other.
        process_group=0,
    )
    try:
        assert child.stdin is not None and child.stdout is not None
        with suppress(BrokenPipeError):
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
        yield _Replies(child, child.stdout, timeout_s)
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


class _Replies:
    """What a child says, one thing a call; its time runs from its first word to its second."""

    def __init__(self, child: subprocess.Popen[bytes], stream: IO[bytes], timeout_s: float) -> None:
        self._child, self._stream, self._timeout_s = child, stream, timeout_s
        self._started = self._late = False

    def __call__(self) -> Any:
        if not self._started:
            self._started = True
            self._read()
            timer = threading.Timer(self._timeout_s + GRACE_S, self._end)
            timer.start()
            try:
                return self._read()
            finally:
                timer.cancel()
        return self._read()

    def _end(self) -> None:
        self._late = True
        self._child.kill()

    def _read(self) -> Any:
        try:
            kind, value = _Unpickler(self._stream).load()
        except (EOFError, pickle.UnpicklingError) as error:
            raise self._death(error) from error
        if kind == "error":
            name, message = value
            raise getattr(errors, name)(message)
        return value

    def _death(self, error: Exception) -> StoreError:
        if isinstance(error, pickle.UnpicklingError) and not str(error).startswith("pickle data"):
            return StoreError(f"the answer cannot be read ({error}); cast its columns to varchar")
        code = self._child.wait()
        if self._late:
            return too_late(self._timeout_s)
        if code == -signal.SIGXCPU:
            return StoreError(
                f"stopped after {_cpu_s(self._timeout_s)} s of processor time; narrow it, "
                "or give a longer --timeout"
            )
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        return StoreError(
            f"the process that answered was ended {how}, likely for lack of memory (it gets "
            f"{MEMORY >> 30} GB); narrow it, or give --max-rows"
        )


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Find a class, only among the types of values that the store holds."""
        if (module, name) not in _VALUES:
            raise pickle.UnpicklingError(f"no value of the store: {module}.{name}")
        return super().find_class(module, name)


def serve() -> None:
    """Answer the one statement that stdin holds; what the child runs."""
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever prints must not get into the answer.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    batches: list[bytes] = []
    try:
        _limit(resource.RLIMIT_AS, MEMORY)
        reply = _answer(request, batches, answers)
    except MemoryError:
        batches.clear()
        reply = _failure(too_large())
    except LabelkitError as error:
        batches.clear()
        reply = _failure(error)
    except Exception as error:
        batches.clear()
        reply = _failure(LabelkitError(f"the query failed: {type(error).__name__}: {error}"))
    # Handing the answer over is no part of its time.
    _limit(resource.RLIMIT_CPU, resource.RLIM_INFINITY)
    with suppress(BrokenPipeError):
        for message in (reply, *batches, pickle.dumps(("end", None))):
            answers.write(message)
        answers.flush()
    os._exit(0)


def _answer(request: dict[str, Any], batches: list[bytes], answers: IO[bytes]) -> bytes:
    # What values are made of must be there before no file can be opened any more.
    import datetime  # noqa: F401
    import decimal  # noqa: F401
    import uuid  # noqa: F401

    import pytz  # type: ignore[import-untyped]  # noqa: F401

    from labelkit.stores.labels import LabelStore

    path, lock_timeout_s, as_of = request["store"]
    file = request["file"] and Path(request["file"])
    limits: dict[str, Any] = {key: request[key] for key in ("timeout_s", "max_rows")}
    store = LabelStore(Path(path), timeout_s=lock_timeout_s, as_of=as_of)
    with store.connect(read_only=True, limits=LIMITS, files=[file] if file else []) as con:
        # Nor must what a library says when it dies get between the lines of the parent.
        os.dup2(1, 2)
        needs_files = file or con.execute("select 1 from prediction_files limit 1").fetchone()
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_FSIZE, shutil.disk_usage(file.parent).free // 2 if file else 0)
        _limit(resource.RLIMIT_CPU, _cpu_s(limits["timeout_s"]))
        if not needs_files:
            _limit(resource.RLIMIT_NOFILE, 0)
        answers.write(pickle.dumps(("started", None)))
        answers.flush()
        if file:
            return pickle.dumps(("written", copy_rows(con, request["sql"], file, **limits)))

        def keep(rows: Rows) -> None:
            batches.append(pickle.dumps(("rows", rows), pickle.HIGHEST_PROTOCOL))

        return pickle.dumps(("answer", fetch(con, request["sql"], keep, **limits)))


def _failure(error: LabelkitError) -> bytes:
    return pickle.dumps(("error", (type(error).__name__, str(error))))


def _limit(kind: int, value: int) -> None:
    """Set a limit, or leave it where it is lower already."""
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = hard if value == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, hard))


def _cpu_s(timeout_s: float) -> int:
    """Return the seconds of all threads together; only what nobody is left to stop gets there."""
    return int(int(LIMITS["threads"]) * (timeout_s + GRACE_S)) + 10


def _leave_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)
