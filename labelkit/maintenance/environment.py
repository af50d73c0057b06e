"""What a label store stands on: disk, file system, rights, and what others left beside it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from labelkit.maintenance.findings import OK, REPAIR, WARNING, Finding
from labelkit.project import Project
from labelkit.stores.high_water_mark import mark_path
from labelkit.stores.labels import log_files
from labelkit.stores.lock import side_files

# Names of what is written under another name first carry the process that does it.
_LEFTOVER = re.compile(r"\.(\d+)\.partial(\.wal.*|\.parquet)?")
_NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3",
    "smbfs", "virtiofs",
}  # fmt: skip
_FLEETING = {
    "overlay": "of a container and goes with it",
    "tmpfs": "in memory and goes with a restart",
    "ramfs": "in memory and goes with a restart",
}


def check_environment(project: Project) -> Iterator[Finding]:
    """Examine what the store needs around it."""
    yield _room(project.store.path)
    yield _file_system(project.root)
    yield from _rights(project.store.path)
    left = find_leftovers(project)
    if left:
        named = ", ".join(str(file.relative_to(project.root)) for file in left[:3])
        yield Finding("leftovers", WARNING, f"{len(left)} unfinished files: {named}", REPAIR)
    else:
        yield Finding("leftovers", OK, "no unfinished files")


def _room(store: Path) -> Finding:
    size = sum(file.stat().st_size for file in (store, *log_files(store)) if file.exists())
    free = shutil.disk_usage(store.parent).free
    what = f"{free / 1e6:.0f} MB free, the store takes {size / 1e6:.1f} MB"
    if free < size + 2**24:
        return Finding("room", WARNING, what, "make room: a checkpoint may need as much again")
    return Finding("room", OK, what)


def find_file_system(folder: Path, mounts: str) -> str | None:
    r"""Find the type of the file system a folder lies on.

    Args:
        folder: The folder, resolved.
        mounts: Text of ``/proc/mounts``.

    Example:
        >>> find_file_system(Path("/data/x"), "a / ext4 rw 0 0\nb /data nfs4 rw 0 0\n")
        'nfs4'
    """
    longest, found = -1, None
    for line in mounts.splitlines():
        _, place, kind, *_ = line.split(" ")
        # Blanks and the like are written as octal numbers there.
        path = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), place))
        # Of two on the same place the later one hides the other.
        if (folder == path or path in folder.parents) and len(path.parts) >= longest:
            longest, found = len(path.parts), kind
    return found


def is_on_network(kind: str | None) -> bool:
    """Tell whether a type of file system is one that other machines reach, too."""
    return kind is not None and (kind in _NETWORK or kind.startswith("fuse."))


def _own_file_system(folder: Path) -> str | None:
    try:
        return find_file_system(folder.resolve(), Path("/proc/mounts").read_text())
    except (OSError, ValueError):
        return None


def _file_system(folder: Path) -> Finding:
    kind = _own_file_system(folder)
    if kind is None:
        return Finding("file system", OK, "not known here")
    if is_on_network(kind):
        return Finding(
            "file system", WARNING,
            f"{kind}: locks and syncing were never tested on file systems of a network",
            "move the project to a disk of this machine; the recordings may stay",
        )  # fmt: skip
    if kind in _FLEETING:
        return Finding(
            "file system", WARNING, f"{kind}: it is {_FLEETING[kind]}",
            "move the project to a disk, or make backups elsewhere: labelkit backup FILE",
        )  # fmt: skip
    return Finding("file system", OK, kind)


def _rights(store: Path) -> Iterator[Finding]:
    named = (store, mark_path(store), *log_files(store), *side_files(store))
    files = [file for file in named if file.exists()]
    locked = [f.name for f in (store.parent, *files) if not os.access(f, os.R_OK | os.W_OK)]
    owners = {file.stat().st_uid for file in files}
    well = True
    if locked:
        well = False
        what = f"may not be read and written by this user: {', '.join(locked)}"
        yield Finding("rights", WARNING, what, "chmod or chown them, to write labels")
    if len(owners) > 1:
        well = False
        what = f"the files of the store belong to several users: {sorted(owners)}"
        yield Finding("rights", WARNING, what, "chown them to one, or keep them group-writable")
    if store.exists() and (store.is_symlink() or store.stat().st_nlink > 1):
        well = False
        what = "the store has a second name, under which it would have a lock of its own"
        yield Finding("rights", WARNING, what, "only ever open it under this one")
    if well:
        yield Finding("rights", OK, "the folder and all files of the store can be written")


def find_leftovers(project: Project) -> list[Path]:
    """Find unfinished files of labelkit in a project whose processes have ended."""
    if is_on_network(_own_file_system(project.root)):
        # Whether a process of another machine lives is not known here.
        return []
    own = project.root.glob(f"{project.store.path.name}.*.partial*")
    # A link in a project's place may lead to anybody's files.
    files = [*own, *(() if project.work.is_symlink() else project.work.rglob("*.partial*"))]
    return [file for file in sorted(files) if file.is_file() and _is_left(file)]


def _is_left(file: Path) -> bool:
    found = _LEFTOVER.search(file.name)
    if found is None or found.end() != len(file.name):
        return False
    try:
        os.kill(int(found[1]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False
