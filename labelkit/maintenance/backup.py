"""Backups of the label store: one file that holds every fact, and the way back from it.

Predictions of runs too large for the store lie beside it and are not in the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelkit.errors import InvalidInput, StoreError
from labelkit.progress import say
from labelkit.project import Project, check_target
from labelkit.stores import materialised, schema
from labelkit.stores.damage import copy_file, find_unreadable, is_held, keep_copies
from labelkit.stores.derived import list_large_runs
from labelkit.stores.high_water_mark import (
    HighWaterMark,
    last_batch,
    mark_path,
    missing_batches,
    read_mark,
    write_mark,
)
from labelkit.stores.labels import LabelStore, log_files
from labelkit.stores.lock import locked
from labelkit.stores.origin import find_additions, make_views, refuse_faults, write_note
from labelkit.stores.overview import BatchIdentity, Counts, count_rows, list_batches
from labelkit.stores.session import Session
from labelkit.stores.upkeep import checkpoint

_NOT_IN_IT = (
    "recordings, .labelkit/ (spectrograms, windows, weights), and what cannot be computed again: "
    f"predictions of runs of more than {materialised.ROWS_OF_RUN:,} clips ({materialised.FOLDER}/)"
)


@dataclass(frozen=True, kw_only=True)
class BackupReport:
    """What a backup holds, and in words what it does not.

    ``runs_beside_the_store`` counts runs whose predictions are not in it; None if there are none.
    """

    file: Path = field(metadata={"key": "backup"})
    batches: int
    clips: int
    events: int
    runs_beside_the_store: int | None = field(metadata={"optional": True})
    size_mb: float
    not_in_it: str


@dataclass(frozen=True, kw_only=True)
class RestoreReport:
    """What the store holds now, and the names of the files that the old one became.

    ``runs_beside_the_store`` is that of :class:`BackupReport`.
    """

    file: Path = field(metadata={"key": "restored"})
    batches: int
    clips: int
    events: int
    runs_beside_the_store: int | None = field(metadata={"optional": True})
    kept: list[str]


def backup(project: Project, file: Path, *, force: bool = False) -> BackupReport:
    """Copy the store into one file, as it is after a batch, while others read it.

    The bytes are copied with the store closed: any second open and close of the file would
    cost this process its lock on it.

    Args:
        project: Whose store.
        file: Where to; written whole or not at all.
        force: Put it in the place of a file that is there.

    Returns:
        What the backup holds, and what it does not.

    Raises:
        InvalidInput: If ``file`` is there already, lies in the audio folder, or is the store.
        StoreError: If the store is damaged, or is written to by something that is not labelkit.
        StoreBusy: If a writer holds the store for longer than the time-out.
    """
    target = check_target(project, file, force=force)
    if log_files(target):
        raise InvalidInput(f"{file} is a database with a log beside it; write elsewhere")
    store = project.store
    _take_in_logs(store)
    with locked(store.path, exclusive=False, timeout_s=store.timeout_s):
        with store.connect(read_only=True) as con:
            last, held = last_batch(con), count_rows(con)
        before = store.path.stat()

        def check(copy: Path) -> None:
            after = store.path.stat()
            if log_files(store.path) or (before.st_size, before.st_mtime_ns) != (
                after.st_size, after.st_mtime_ns
            ):  # fmt: skip
                raise StoreError(
                    f"{store.path.name} was written to meanwhile by a program other than labelkit, "
                    "or a writer was killed; run the same command again"
                )
            _check_copy(copy, file, last)

        copy_file(store.path, target, check=check)
    return BackupReport(
        file=file,
        batches=held.batches,
        clips=held.clips,
        events=held.events,
        runs_beside_the_store=held.large_runs or None,
        size_mb=round(target.stat().st_size / 1e6, 1),
        not_in_it=_NOT_IN_IT,
    )


def _take_in_logs(store: LabelStore) -> None:
    """Bring what a crash left in a log into the file, if there is any."""
    if log_files(store.path):
        with store.connect(read_only=False) as con:
            checkpoint(con)


def _check_copy(copy: Path, file: Path, last: HighWaterMark) -> None:
    with LabelStore(copy).opened(read_only=True) as con:
        bad = find_unreadable(con)
        if bad:
            raise StoreError(
                f"the store is damaged ({bad.replace(str(copy), file.name)}); see: labelkit doctor"
            )
        if schema.version(con) != schema.VERSION or last_batch(con) != last:
            raise StoreError(f"{file} did not become what the store is; run it again")


def restore(project: Project, file: Path) -> RestoreReport:
    """Put a backup in the place of the store, and keep what was there.

    Stopped at any moment, the old store is there or the new one, and the same command goes on.

    Args:
        project: Whose store; it may be missing, damaged or behind its high-water mark.
        file: A backup, or any label store; only read.

    Returns:
        What the store holds now, and what the old one is called.

    Raises:
        InvalidInput: If ``file`` is no sound label store, or of a newer version.
        StoreError: If a program other than labelkit has the store open.
        StoreBusy: If others hold the store for longer than the time-out.
    """
    store = project.store
    if not file.is_file():
        raise InvalidInput(f"{file} is not a file; give one that labelkit backup wrote")
    if store.path.exists() and file.samefile(store.path):
        raise InvalidInput(f"{file} is the store itself; give a backup")
    with (
        _prepared(store, file) as (copy, last, held, own),
        locked(store.path, exclusive=True, timeout_s=store.timeout_s),
    ):
        old, mark = _come_to_rest(store), read_mark(store.path)
        if store.path.exists():
            copy.chmod(store.path.stat().st_mode & 0o777)
        kept = keep_copies(store.path, "before-restore", link=True)
        # Without its high-water mark the old store is as right as the new one; a store that lost
        # batches is refused until a restore went through.
        if old is not None:
            mark_path(store.path).unlink(missing_ok=True)
        for log in log_files(store.path):
            log.unlink()
        copy.replace(store.path)
        if own:
            write_note(store.path)
        write_mark(store.path, last)
        with store.opened(read_only=True) as con:
            _tell_missing(store, con)
            new = list_batches(con)
    if old is not None:
        _tell_replaced(old - new, kept)
    elif mark and (mark.batch_id, mark.batch_key) not in {(b.batch_id, b.key) for b in new}:
        say(f"batch {mark.batch_id} of the old store was acknowledged and is not in {file}")
    return RestoreReport(
        file=file,
        batches=held.batches,
        clips=held.clips,
        events=held.events,
        runs_beside_the_store=held.large_runs or None,
        kept=[path.name for path in kept],
    )


def _tell_replaced(batches: set[BatchIdentity], kept: list[Path]) -> None:
    numbers = sorted(batch.batch_id for batch in batches)
    if numbers:
        named = (
            f"batch {numbers[0]} of the old store is no longer in force; it is"
            if len(numbers) == 1
            else f"batches {numbers[0]} to {numbers[-1]} of the old store are no longer in force; "
            "they are"
        )
        say(f"{named} in {kept[0].name}")


def _tell_missing(store: LabelStore, con: Any) -> None:
    for run in list_large_runs(Session(con)):
        if not (store.path.parent / run.file).is_file():
            say(
                f"{run.file} is not there, the predictions of {run.run_id}: bring it back from "
                "where the store was; until then scores cannot be asked for or appended"
            )


@contextmanager
def _prepared(store: LabelStore, file: Path) -> Iterator[tuple[Path, HighWaterMark, Counts, bool]]:
    """A private copy of a backup beside the store, examined and of the newest version."""
    copy = store.path.with_name(f"{store.path.name}.{os.getpid()}.partial")
    try:
        with _held(file, store.timeout_s):
            for source in (file, *log_files(file)):
                copy_file(source, copy.with_name(copy.name + source.name.removeprefix(file.name)))
        copy.chmod(file.stat().st_mode & 0o777 | 0o600)
        try:
            with LabelStore(copy).opened(read_only=False) as con:
                last, held, own = _examine(con, file, store.path)
        except StoreError as error:
            said = str(error).removeprefix(f"{copy.name}: ").replace(str(copy), str(file))
            raise InvalidInput(
                f"{file} is no sound label store ({said}); give another backup"
            ) from error
        yield copy, last, held, own
    finally:
        for left in (copy, *log_files(copy)):
            left.unlink(missing_ok=True)


def _held(file: Path, timeout_s: float) -> AbstractContextManager[None]:
    """The lock of a store in use, for reading; a backup has none, and gets none."""
    if Path(f"{file}.lock").exists():
        return locked(file, exclusive=False, timeout_s=timeout_s)
    return nullcontext()


def _examine(con: Any, file: Path, store: Path) -> tuple[HighWaterMark, Counts, bool]:
    """Take out what is somebody's; what is left, and whether its views are the code's."""
    for name, drop in find_additions(con):
        con.execute(drop)
        say(f"{file} holds {name!a}, which labelkit did not make; the store made from it does not")
    found = schema.version(con)
    if not found:
        raise InvalidInput(f"{file} is a database, but no label store; give another backup")
    if found > schema.VERSION:
        raise InvalidInput(
            f"{file} is of schema version {found}, this labelkit knows up to {schema.VERSION}; "
            "install a newer labelkit"
        )
    bad = find_unreadable(con)
    if bad:
        raise StoreError(bad)
    schema.migrate(con, file.name)
    refuse_faults(con, store, file.name)
    # Whatever made its views, and whatever they say of it.
    own = make_views(con, read_only=False)
    if found < schema.VERSION:
        say(f"{file} is of schema version {found}; the store made from it is of {schema.VERSION}")
    checkpoint(con)
    return last_batch(con), count_rows(con), own


def _come_to_rest(store: LabelStore) -> set[BatchIdentity] | None:
    """Take the log of a sound store into its file; its batches, None if there is none."""
    if not store.path.exists():
        return None
    try:
        with store.opened(read_only=True) as con:
            found = read_mark(store.path)
            if found and missing_batches(store.path, con, found):
                return None
            batches = list_batches(con)
    except StoreError as error:
        if is_held(error):
            # It would go on writing to the file under its old name, and to the new one's log.
            raise StoreError(f"{error}; end that program first") from error
        return None
    if log_files(store.path):
        with store.opened(read_only=False) as con:
            checkpoint(con)
    return batches
