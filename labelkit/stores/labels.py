"""The label store: facts are appended, never changed, and the current state is a view.

A clip's identity is its path below the audio root. Every append is one batch under a
key its caller made, so repeating it is harmless. A machine never overrides a person:
its batches may touch only unverified and self-verified clips.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from labelkit.errors import StoreError
from labelkit.stores import schema
from labelkit.stores.append import WriteSession
from labelkit.stores.lock import locked
from labelkit.stores.session import Session

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "storage_compatibility_version": "v1.5.0",
    "autoinstall_known_extensions": "false",
}


class LabelStore:
    """A DuckDB file of labels and their history, opened late and closed early.

    Args:
        path: The file.
        timeout_s: How long to wait for another process to leave it.

    Example:
        >>> import tempfile
        >>> from labelkit.records import Batch, Clip
        >>> store = LabelStore(Path(tempfile.mkdtemp()) / "labels.duckdb")
        >>> store.create()
        >>> clip = Clip(path="a.wav", labels=("Dog",), state="verified")
        >>> with store.write() as session:
        ...     batch = Batch(key="1", kind="import", actor="me", by_person=True,
        ...                   classes=["Dog"], clips=[clip])
        ...     session.append(batch).repeated
        False
        >>> with store.read() as session:
        ...     session.labels().names(0)
        ['Dog']
    """

    def __init__(self, path: Path, *, timeout_s: float = 30.0) -> None:
        self.path, self.timeout_s = Path(path), timeout_s

    def create(self) -> None:
        """Make the file if it is not there, and bring it to the newest version if it is older.

        Raises:
            StoreError: If the file is of a newer version or is no label store.
        """
        with self.connect(read_only=False, must_exist=False) as con:
            schema.migrate(con, self.path.name)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view of the store, beside other readers.

        Raises:
            StoreError: If the file is missing, damaged or of another version.
            StoreBusy: If a writer holds it for longer than the time-out.
        """
        with self.connect(read_only=True) as con:
            schema.check_version(con, self.path.name)
            yield Session(con)

    @contextmanager
    def write(self) -> Iterator[WriteSession]:
        """One transaction: committed at the end, undone by any exception.

        Raises:
            StoreError: If the file is missing, damaged or of another version.
            StoreBusy: If others hold it for longer than the time-out.
        """
        import duckdb

        with self.connect(read_only=False) as con:
            schema.check_version(con, self.path.name)
            con.execute("begin")
            try:
                yield WriteSession(con)
            except BaseException:
                # Where the transaction is gone already, the error that ended it matters more.
                with suppress(duckdb.Error):
                    con.execute("rollback")
                raise
            con.execute("commit")

    @contextmanager
    def connect(
        self, *, read_only: bool, must_exist: bool = True, limits: dict[str, Any] | None = None
    ) -> Iterator[Any]:
        """A bare connection under the lock; what DuckDB raises becomes a StoreError.

        Args:
            read_only: Read beside others rather than be the one writer.
            must_exist: Refuse to make a new file.
            limits: Settings of DuckDB that the connection cannot change afterwards.
        """
        import duckdb

        if must_exist and not self.path.exists():
            raise StoreError(f"{self.path} does not exist; make it with: labelkit init AUDIO_DIR")
        with locked(self.path, exclusive=not read_only, timeout_s=self.timeout_s):
            try:
                con = duckdb.connect(
                    str(self.path), read_only=read_only, config=_CONFIG | (limits or {})
                )
            except duckdb.Error as error:
                raise _store_error(self.path, error) from error
            try:
                # A long query would draw its bar on stdout, into the data.
                con.execute("set enable_progress_bar = false")
                # Column types come from all rows, not from a sample that may miss the lists.
                con.execute("set pandas_analyze_sample = 0")
                if limits:
                    con.execute("set lock_configuration = true")
                yield con
            except duckdb.Error as error:
                raise _store_error(self.path, error) from error
            finally:
                con.close()


def _store_error(path: Path, error: Exception) -> StoreError:
    first_line = str(error).splitlines()[0]
    return StoreError(f"{path.name}: {first_line}")
