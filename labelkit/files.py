"""Files that are whole or not there, and files of somebody else's."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from labelkit.errors import InvalidInput, NoRoom

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def needing_room(folder: Path) -> Iterator[None]:
    """Say whose disk is full where writing below a folder finds no room.

    Raises:
        NoRoom: If it does.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise no_room(folder, error.strerror or str(error)) from error


def no_room(folder: Path, why: str) -> NoRoom:
    """Make the error that says how much is free, and what to do."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free // 2**20
    return NoRoom(
        f"{folder}: there is no room ({free} MB free): {why}; "
        "make room and run the same command again"
    )


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file under another name, and give it its own once it is on the disk.

    What a failure leaves unfinished is removed.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def refuse_special(path: Path) -> None:
    """Refuse what is there and no plain file: a pipe or a device would be read without end.

    Raises:
        InvalidInput: If it is one.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InvalidInput(f"{path} is a pipe or a device; give a file")


def parse_json(text: str | bytes) -> Any:
    """Read JSON that somebody else wrote.

    Raises:
        ValueError: If it is none, also if it is nested deeper than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def open_own(path: Path, mode: str) -> Any:
    """Open a file of the project to write to, and no link that somebody put in its place."""
    return open(path, mode, opener=_open_no_link)


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
