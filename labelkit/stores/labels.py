"""The label store: facts are appended, never changed, and the current state is a view.

A clip's identity is its path below the audio root. Every append is one batch under a
key its caller made, so repeating it is harmless. A machine never overrides a person:
its batches may touch only unverified and self-verified clips.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from labelkit.errors import StoreBusy, StoreError
from labelkit.files import no_room, replacing
from labelkit.progress import say
from labelkit.stores import schema
from labelkit.stores.append import WriteSession
from labelkit.stores.as_of import find_batch
from labelkit.stores.catalog import show_past
from labelkit.stores.high_water_mark import (
    last_batch,
    mark_path,
    missing_batches,
    read_mark,
    write_mark,
)
from labelkit.stores.lock import locked
from labelkit.stores.materialised import FOLDER, PREDICTIONS
from labelkit.stores.origin import (
    is_noted,
    make_views,
    refuse_additions,
    refuse_faults,
    write_note,
)
from labelkit.stores.session import Session

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "storage_compatibility_version": "v1.5.0",
    "autoinstall_known_extensions": "false",
}
# What DuckDB says of a file that another process has open.
_HELD = re.compile(r"lock is held in (?:(.*?) \()?PID (\d+)")
_RETRY_S = 0.2
_FIRST_MARKED = 5
# The log of commits, and what a checkpoint that was stopped may leave beside it.
_LOGS = (".wal", ".wal.checkpoint", ".wal.recovery")


def log_files(store: Path) -> list[Path]:
    """List the logs that wait beside a store to be taken into it; a clean end leaves none."""
    files = [store.with_name(f"{store.name}{suffix}") for suffix in _LOGS]
    for file in files:
        if file.is_symlink():
            raise StoreError(f"{file.name} is a link, which labelkit never makes; remove it")
    return [file for file in files if file.exists() and file.stat().st_size]


class LabelStore:
    """A DuckDB file of labels and their history, opened late and closed early.

    Args:
        path: The file.
        timeout_s: How long to wait for another process to leave it.
        as_of: Read the store as it was: a batch, a date, a time or a run
            (:func:`labelkit.stores.as_of.find_batch`). Writing is always to the present.

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

    def __init__(self, path: Path, *, timeout_s: float = 30.0, as_of: str | None = None) -> None:
        self.path, self.timeout_s, self.as_of = Path(path), timeout_s, as_of

    def create(self) -> None:
        """Make the file if it is not there, and bring it to the newest version if it is older.

        An older file is copied beside itself first, as ``<name>.v<version>``.

        Raises:
            StoreError: If the file is of a newer version, is no label store, or is gone
                while its high-water mark tells of batches.
        """
        with self._locked(exclusive=True):
            new = not self.path.exists()
            self._look_at_log()
            found = read_mark(self.path)
            if new and found is not None and found.batch_id:
                raise StoreError(
                    f"{self.path} is gone, but it held {found.batch_id} batches; bring it back "
                    f"with: labelkit restore BACKUP, or start anew by removing "
                    f"{mark_path(self.path).name}"
                )
            if new:
                # What a lost store of this name left must not be taken for the new one's.
                for log in log_files(self.path):
                    aside = log.with_name(f"{log.name}.{time.strftime('%Y%m%dT%H%M%S')}")
                    log.rename(aside)
                    say(f"{log.name} belonged to a store that is gone; kept as {aside.name}")
                mark_path(self.path).unlink(missing_ok=True)
            own = new or self._is_noted()
            if not own:
                with self.opened(read_only=True) as con:
                    refuse_additions(con, self.path.name)
            if not new:
                self._back_up_older()
            with self.opened(read_only=False) as con:
                schema.migrate(con, self.path.name)
            with self.opened(read_only=False) as con:
                if not own:
                    refuse_faults(con, self.path, self.path.name)
                    own = make_views(con, read_only=False)
                self._check_mark(con)
                self._write_mark(con)
            if new:
                # Who may enter the folder may read it, and nobody else may write.
                self.path.chmod(self.path.parent.stat().st_mode & 0o664)
            if own:
                write_note(self.path)

    def _back_up_older(self) -> None:
        with self.opened(read_only=False) as con:
            found = schema.version(con)
            if found > schema.VERSION:
                schema.check_version(con, self.path.name)
            # Stores of these versions had no high-water mark: this is a copy, put back by hand.
            if found < _FIRST_MARKED and read_mark(self.path) is not None:
                raise StoreError(
                    f"{self.path.name} is of schema version {found}, its high-water mark of "
                    "a newer store; put the newer one back, and bring this one in with: "
                    "labelkit restore FILE"
                )
            con.execute("checkpoint")
        if 0 < found < schema.VERSION:
            copy = self.path.with_name(f"{self.path.name}.v{found}")
            with self.path.open("rb") as source, replacing(copy) as file:
                os.fchmod(file.fileno(), self.path.stat().st_mode & 0o777)
                shutil.copyfileobj(source, file)
            say(f"{self.path.name} is of schema version {found}; kept as {copy.name}")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a consistent view of the store, beside other readers.

        Raises:
            StoreError: If the file is missing, damaged or of another version, or lost batches.
            StoreBusy: If a writer holds it for longer than the time-out.
            InvalidInput: If ``as_of`` is no moment of this store.
        """
        with self.connect(read_only=True) as con:
            yield Session(con)

    @contextmanager
    def write(self) -> Iterator[WriteSession]:
        """Open a transaction: committed at the end, undone by any exception.

        Raises:
            StoreError: If the file is missing, damaged or of another version, lost batches, or
                there is no room: nothing of the transaction is kept then.
            StoreBusy: If others hold it for longer than the time-out.
        """
        import duckdb

        self._check_exists()
        with self._locked(exclusive=True):
            self._look_at_log()
            session: WriteSession | None = None
            committed = False
            try:
                own = self._is_noted()
                with self.opened(read_only=False) as con:
                    own = self._check(con, own, read_only=False)
                    con.execute("begin")
                    session = WriteSession(con)
                    try:
                        yield session
                    except BaseException:
                        # Where the transaction is gone already, the error that ended it
                        # matters more.
                        with suppress(duckdb.Error):
                            con.execute("rollback")
                        raise
                    con.execute("commit")
                    committed = True
                    if session.appended:
                        self._write_mark(con)
                if own:
                    write_note(self.path)
            except StoreError as error:
                # What follows a commit, a checkpoint say, may fail; and a commit that failed
                # may have got through.
                if session is None or not session.appended or not self._kept(session, committed):
                    raise
                say(f"{error}; the batch was kept all the same")

    def _kept(self, session: WriteSession, committed: bool) -> bool:
        """Tell whether a transaction that ended in an error is in the store."""
        try:
            with self.opened(read_only=False) as con:
                key = session.appended[-1]
                found = con.execute("select 1 from batches where batch_key = ?", [key]).fetchone()
                if found:
                    self._write_mark(con)
                return bool(found)
        except (StoreError, OSError):
            return committed

    @contextmanager
    def connect(
        self, *, read_only: bool, limits: dict[str, Any] | None = None, files: Sequence[Path] = ()
    ) -> Iterator[Any]:
        """Open a bare connection under the lock; what DuckDB raises becomes a StoreError.

        Args:
            read_only: Read beside others rather than be the one writer.
            limits: Settings of DuckDB that the connection cannot change afterwards; it can
                read no file but those of the store.
            files: What it may read and write besides.
        """
        self._check_exists()
        with self._locked(exclusive=not read_only):
            if not read_only:
                self._look_at_log()
            noted = self._is_noted()
            with self.opened(read_only=read_only, limits=limits, files=files) as con:
                own = self._check(con, noted, read_only=read_only)
                if read_only and self.as_of is not None:
                    show_past(con, find_batch(con, self.as_of))
                if limits is not None:
                    con.execute("set lock_configuration = true")
                yield con
            # A log is taken into the file by the next writer only.
            if own and not (noted and read_only) and not log_files(self.path):
                write_note(self.path)

    def _locked(self, *, exclusive: bool) -> Any:
        return locked(self.path, exclusive=exclusive, timeout_s=self.timeout_s)

    def _check_exists(self) -> None:
        if not self.path.exists():
            raise StoreError(f"{self.path} does not exist; make it with: labelkit init AUDIO_DIR")

    @contextmanager
    def opened(
        self,
        *,
        read_only: bool,
        limits: Mapping[str, Any] | None = None,
        files: Sequence[Path] = (),
    ) -> Iterator[Any]:
        """Open a connection with settings of DuckDB, with the lock held already.

        It reaches no file but those of the store, predictions beside it, and ``files``.
        """
        import duckdb

        con = self._open_file(read_only=read_only)
        try:
            # A long query would draw its bar on stdout, into the data.
            con.execute("set enable_progress_bar = false")
            # What needs more goes by way of a folder beside the store.
            con.execute("set memory_limit = '2GB'")
            # Times without an offset mean UTC, wherever the user is.
            con.execute("set TimeZone = 'UTC'")
            # Column types come from all rows, not from a sample that may miss the lists.
            con.execute("set pandas_analyze_sample = 0")
            folder = str(self.path.parent.resolve())
            con.execute(f"set file_search_path = {_quoted(folder)}")
            for name, value in (limits or {}).items():
                con.execute(f"set {name} = '{value}'")
            places = [f"{folder}/{FOLDER}", FOLDER]
            reached = [str(file) for file in files]
            if limits is not None:
                # Others' statements run here, which could write into a folder that is allowed:
                # they get the files that are there and have a name of ours.
                found = sorted(
                    file.name for file in Path(folder, FOLDER).glob("*.parquet") if file.is_file()
                )
                known = [name for name in found if PREDICTIONS.fullmatch(f"{FOLDER}/{name}")]
                reached += [f"{place}/{name}" for name in known for place in places]
                places = []
            _shut(con, places, reached)
            yield con
        except duckdb.Error as error:
            raise _store_error(self.path, error) from error
        finally:
            con.close()

    def _open_file(self, *, read_only: bool) -> Any:
        """Open the file, waiting for whoever has it open without labelkit's lock.

        Raises:
            StoreBusy: If the time is over.
            StoreError: If it cannot be opened at all.
        """
        import duckdb

        begun, told = time.monotonic(), False
        while True:
            try:
                return duckdb.connect(str(self.path), read_only=read_only, config=_CONFIG)
            except duckdb.Error as error:
                held = _HELD.search(str(error))
                if held is None:
                    raise _store_error(self.path, error) from error
                # Of somebody else's process DuckDB knows the number alone.
                holder = (
                    f"{held[1] or 'a process'} (PID {held[2]}), which opened it without labelkit"
                )
                waited = time.monotonic() - begun
                if waited >= self.timeout_s:
                    raise StoreBusy(
                        f"{self.path.name} is in use by {holder}; close it there, wait, or give a "
                        "longer --lock-timeout"
                    ) from error
            if waited > 1 and not told:
                told = True
                say(f"waiting for {self.path.name}, in use by {holder}")
            time.sleep(min(_RETRY_S, self.timeout_s))

    def _is_noted(self) -> bool:
        return not log_files(self.path) and is_noted(self.path)

    def _check(self, con: Any, noted: bool, *, read_only: bool) -> bool:
        """Look at a store that is open; at one of somebody else's before its word counts.

        Returns:
            Whether views and macros of the file are those of the code.
        """
        own = noted
        if not noted:
            refuse_additions(con, self.path.name)
        schema.check_version(con, self.path.name)
        if not noted:
            refuse_faults(con, self.path, self.path.name)
            own = make_views(con, read_only=read_only)
        self._check_mark(con)
        return own

    def _look_at_log(self) -> None:
        """Refuse a log that lost something before a writer takes it into the file."""
        if self.path.exists() and log_files(self.path):
            with self.opened(read_only=True) as con:
                refuse_additions(con, self.path.name)
                self._check_mark(con)

    def _check_mark(self, con: Any) -> None:
        found = read_mark(self.path)
        if found is None:
            return
        lost = missing_batches(self.path, con, found)
        if lost:
            raise StoreError(
                f"{self.path.name} has lost something: {lost}; bring a backup back with: labelkit "
                "restore FILE, or see: labelkit doctor"
            )

    def _write_mark(self, con: Any) -> None:
        """Remember the last batch; where that cannot be written, the store is none the worse."""
        try:
            write_mark(self.path, last_batch(con))
        except OSError as error:
            say(f"{mark_path(self.path).name} could not be written ({error.strerror})")


def _shut(con: Any, folders: Sequence[str], files: Sequence[str]) -> None:
    """Let a connection reach no file but these; others of this process share what it may."""
    setting = "select current_setting('enable_external_access')"
    if con.execute(setting).fetchone() != (True,):
        return
    con.execute(f"set allowed_directories = [{', '.join(map(_quoted, folders))}]")
    con.execute(f"set allowed_paths = [{', '.join(map(_quoted, files))}]")
    con.execute("set enable_external_access = false")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _store_error(path: Path, error: Exception) -> StoreError:
    first_line = str(error).splitlines()[0]
    if "No space left" in str(error) or "File too large" in str(error):
        return no_room(path.parent, first_line)
    if "same database file with a different configuration" in str(error):
        return StoreError(
            f"{path.name} is open in this process, by duckdb.connect() perhaps; close that "
            "connection, or ask by labelkit's query, whose answers are data frames in Python"
        )
    if "Python Conversion Failure" in str(error):
        return StoreError("a name or moment that was given is no valid text; give it in UTF-8")
    return StoreError(f"{path.name}: {first_line}")
