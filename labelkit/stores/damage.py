"""Damaged files of a label store: how much of a log can be kept, and copies of what is given up.

DuckDB checks every entry of its log and names the byte at which the first bad one begins. What
lies before is an exact prefix of whole commits; what lies behind cannot be told from noise.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from labelkit.errors import StoreBusy, StoreError
from labelkit.files import replacing
from labelkit.stores.high_water_mark import mark_path
from labelkit.stores.labels import log_files

_NAMED = re.compile(r'Failure while replaying WAL file "(.+)": (.*)', re.S)
# What else may fail in a replay is the database itself.
_OF_LOG = re.compile(r"\bWAL\b|LEB128|database identifier in header")
_POSITION = re.compile(r"at byte position (\d+)")


@dataclass(frozen=True)
class TornLog:
    """A log that cannot be read to its end; all of it is lost if ``position`` is 0."""

    file: Path
    position: int
    said: str


def find_torn_log(store: Path, error: StoreError) -> TornLog | None:
    """Find the log that an error in opening a store is about; None if it is about another thing."""
    named = _NAMED.search(str(error)) or re.search(r"()(This WAL was created for .*)", str(error))
    if named is None or not _OF_LOG.search(re.sub('"[^"]*"', "", named[2])):
        return None
    position = _POSITION.search(named[2])
    # Without a position its very head is damaged, or it belongs to another file.
    file = store.with_name(Path(named[1] or f"{store.name}.wal").name)
    return TornLog(file, int(position[1]) if position else 0, named[2])


def is_held(error: StoreError) -> bool:
    """Tell whether a store does not open because a program other than labelkit has it open."""
    return isinstance(error, StoreBusy)


def cut_log(torn: TornLog) -> None:
    """Leave what lies before the damage, or no log at all."""
    if not torn.position:
        torn.file.unlink()
        return
    with torn.file.open("r+b") as file:
        file.truncate(torn.position)
        os.fsync(file.fileno())


def find_unreadable(con: Any) -> str:
    """Read every row of an open store, and say what could not be read; empty if all could.

    Blocks are only checked when they are read, so a file with a bad one opens.
    """
    import duckdb

    tables = "select table_name from duckdb_tables() where not internal order by 1"
    try:
        for (table,) in con.execute(tables).fetchall():
            con.execute(f'select bit_xor(hash(r)) from "{table}" r').fetchall()
    except duckdb.Error as error:
        return str(error).splitlines()[0]
    return ""


def copy_file(
    source: Path, target: Path, *, check: Callable[[Path], None] = lambda copy: None
) -> None:
    """Copy a file, whole or not at all, and who may read it.

    Args:
        source: The file; no connection of this process may be open to it.
        target: Where to.
        check: Looks at the copy before it gets its name, and may raise.
    """
    with source.open("rb") as reader, replacing(target) as writer:
        shutil.copyfileobj(reader, writer, 2**20)
        os.fchmod(writer.fileno(), source.stat().st_mode & 0o777)
        writer.flush()
        check(Path(writer.name))


def keep_copies(store: Path, reason: str, *, link: bool = False) -> list[Path]:
    """Copy a store, its logs and its high-water mark beside it under a name that is free.

    Args:
        store: Its file, with the lock held and no connection open.
        reason: Goes into the name, before the time in UTC.
        link: Give the files a second name where the file system can, which costs nothing;
            only right where they are replaced rather than written to.

    Returns:
        The copies, ``<store>.<reason>-<time>`` first, with the same endings as the originals.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    kept = next(_free_names(f"{store.name}.{reason}-{stamp}", store.parent))
    copies = []
    for file in (store, *log_files(store), mark_path(store)):
        if file.exists():
            copy = kept.with_name(kept.name + file.name.removeprefix(store.name))
            _link_or_copy(file, copy, link)
            copies.append(copy)
    return copies


def _free_names(name: str, folder: Path) -> Iterator[Path]:
    taken = {file.name for file in folder.iterdir()}
    for number in count(1):
        candidate = name if number == 1 else f"{name}-{number}"
        if not any(other.startswith(candidate) for other in taken):
            yield folder / candidate


def _link_or_copy(source: Path, target: Path, link: bool) -> None:
    if link:
        with suppress(OSError):
            os.link(source, target)
            return
    copy_file(source, target)
