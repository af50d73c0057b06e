"""What lies in a project and is needed no more: found, told, and on request removed.

Labels, runs and scores are in the store and stay; so do recordings, spectrograms and embeddings.
What goes can be had again by training, but for copies of the store that a later restore or
repair made superfluous.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labelkit.errors import InvalidInput, StoreBusy
from labelkit.maintenance.environment import find_leftovers
from labelkit.progress import say
from labelkit.project import Project
from labelkit.stores.derived import list_large_runs
from labelkit.stores.lock import locked
from labelkit.stores.materialised import FOLDER
from labelkit.stores.overview import list_finished_runs, list_needed_runs

_COPY = re.compile(r"\.(before-restore|before-repair)-(\d{8}T\d{6}(?:-\d+)?)")
# Endings of the files that lock a run; see stores/lock.py.
_LOCKS = (".lock", ".queue", ".door")


@dataclass(frozen=True)
class Garbage:
    """A file or folder that nothing needs: where, how large, and why it is not needed."""

    path: str
    size_mb: float
    why: str
    files: tuple[Path, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class CollectReport:
    """What was freed, or would be."""

    removed: int
    freed_mb: float


def find_garbage(project: Project, *, keep: Collection[str] = ()) -> list[Garbage]:
    """List what nothing needs any more, the largest first.

    Needed are, of trainings: those that are not finished; the newest of each kind and recipe;
    those whose models the newest suggestions come from, for the doubtful seconds that ``push``
    shows; and ``keep``. Of others the weights, windows and logs of epochs go: one cannot start
    from them any more, nor make scores that read these. Of copies of the store the newest of
    each kind stays.

    Args:
        project: Whose files.
        keep: Runs to keep besides.

    Raises:
        InvalidInput: If there is no such run to keep.
        StoreError: If the store cannot be read: what it needs is not known then.
    """
    with project.current.read() as session:
        finished = {run.run_id for run in list_finished_runs(session)}
        needed = list_needed_runs(session) | set(keep)
        large = {run.file for run in list_large_runs(session)}
    unknown = sorted(set(keep) - finished)
    if unknown:
        raise InvalidInput(f"no finished run {unknown[0]!r} to keep; see: labelkit status")
    found = [
        *_find_runs(project, finished, needed),
        *_find_copies(project),
        *_find_predictions(project, large),
        *(_measure(project, [file], "unfinished") for file in find_leftovers(project)),
    ]
    return sorted(found, key=lambda one: (-one.size_mb, one.path))


def collect(
    project: Project, *, keep: Collection[str] = (), dry_run: bool = False
) -> tuple[list[Garbage], CollectReport]:
    """Remove what nothing needs any more; what cannot be removed is told and stays.

    Args:
        project: Whose files.
        keep: Runs to keep besides.
        dry_run: Only say what would go.

    Returns:
        What went, or would go, and how much that is.

    Raises:
        InvalidInput: If there is no such run to keep.
        StoreError: If the store cannot be read.
        StoreBusy: If a writer holds the store for longer than the time-out.
    """
    garbage = find_garbage(project, keep=keep)
    gone = garbage
    if not dry_run:
        # Nobody begins a run, or puts a store back, meanwhile.
        with locked(project.store.path, exclusive=True, timeout_s=project.store.timeout_s):
            gone = [one for one in garbage if _remove(project, one)]
    return gone, CollectReport(len(gone), round(sum(one.size_mb for one in gone), 1))


def _find_runs(
    project: Project, finished: Collection[str], needed: Collection[str]
) -> Iterator[Garbage]:
    """Find what lies of runs that are superseded, or of none; a folder begun is left alone."""
    runs, windows, epochs = project.runs, project.windows.folder, project.epochs.folder
    begun = {folder.name for folder in _list(runs) if folder.is_dir()} - set(finished)
    names = {file.name.removesuffix(".npz") for file in _list(windows)
             if ".partial" not in file.name}  # fmt: skip
    names |= {file.name for folder in (runs, epochs) for file in _list(folder)
              if file.is_dir()}  # fmt: skip
    for name in sorted(names - begun - set(needed)):
        places = [runs / name, windows / name, windows / f"{name}.npz", epochs / name]
        places += [runs / f"{name}{end}" for end in _LOCKS]
        there = [place for place in places if place.exists()]
        yield _measure(project, there, "superseded" if name in finished else "of no run")


def _find_copies(project: Project) -> Iterator[Garbage]:
    """Find copies of the store before a restore or repair that a later one superseded."""
    copies: dict[str, dict[str, list[Path]]] = {}
    store = project.store.path
    for file in store.parent.glob(f"{store.name}.before-re*"):
        match = _COPY.match(file.name.removeprefix(store.name))
        if match and file.is_file():
            copies.setdefault(match[1], {}).setdefault(match[2], []).append(file)
    for of_kind in copies.values():
        for stamp in sorted(of_kind)[:-1]:
            yield _measure(project, sorted(of_kind[stamp]), "a later copy is there")


def _find_predictions(project: Project, registered: Collection[str]) -> Iterator[Garbage]:
    for file in sorted((project.root / FOLDER).glob("*.parquet")):
        if f"{FOLDER}/{file.name}" not in registered and ".partial." not in file.name:
            yield _measure(project, [file], "of no run")


def _measure(project: Project, places: list[Path], why: str) -> Garbage:
    size = sum(
        file.lstat().st_size
        for place in places
        for file in (place.rglob("*") if place.is_dir() else [place])
        if not file.is_dir()
    )
    return Garbage(str(places[0].relative_to(project.root)), round(size / 1e6, 3), why,
                   tuple(places))  # fmt: skip


def _remove(project: Project, one: Garbage) -> bool:
    try:
        run = next((file for file in one.files if file.parent == project.runs), None)
        if run is None:
            _unlink(one.files)
        else:
            # Whoever works on it, or reads it to start from, has its lock.
            with locked(run, exclusive=True, timeout_s=0):
                _unlink([file for file in one.files if file.suffix not in _LOCKS])
            _unlink([run.with_name(f"{run.name}{end}") for end in _LOCKS])
    except (OSError, StoreBusy) as error:
        say(f"{one.path} stays: {error}")
        return False
    return True


def _unlink(places: Collection[Path]) -> None:
    for place in places:
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


def _list(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
