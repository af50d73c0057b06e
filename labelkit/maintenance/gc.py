"""What lies in a project and is needed no more: found, told, and on request removed.

Labels, runs and scores are in the store and stay; so do recordings, spectrograms and embeddings.
What goes can be had again by training, but for copies of the store that a later restore or
repair made superfluous.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from labelkit.errors import InvalidInput, StoreBusy, StoreError
from labelkit.maintenance.environment import find_leftovers
from labelkit.progress import say
from labelkit.project import Project
from labelkit.stores.derived import list_large_runs
from labelkit.stores.labels import LabelStore
from labelkit.stores.lock import locked, side_files
from labelkit.stores.materialised import FOLDER
from labelkit.stores.origin import refuse_additions
from labelkit.stores.overview import list_finished_runs, list_needed_runs
from labelkit.stores.session import Session

_COPY = re.compile(r"\.(before-restore|before-repair)-(\d{8}T\d{6}(?:-\d+)?)")


@dataclass(frozen=True)
class Garbage:
    """A file or folder that nothing needs: where, how large, and why it is not needed.

    ``files`` are all that goes with it; ``run`` is the name of the training they are of.
    """

    path: str
    size_mb: float
    why: str
    files: tuple[Path, ...] = field(default=(), repr=False)
    run: str | None = None


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
        return _find(project, session, keep)


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
    gone = find_garbage(project, keep=keep)
    if not dry_run and gone:
        # Asked again where nobody commits a run or puts a store back meanwhile.
        store = project.current
        with locked(store.path, exclusive=True, timeout_s=store.timeout_s):
            with store.opened(read_only=True) as con:
                found = _find(project, Session(con), keep)
            gone = [one for one in found if _remove(project, one)]
    return gone, CollectReport(len(gone), round(sum(one.size_mb for one in gone), 1))


def _find(project: Project, session: Session, keep: Collection[str]) -> list[Garbage]:
    finished = {run.run_id for run in list_finished_runs(session)}
    unknown = sorted(set(keep) - finished)
    if unknown:
        raise InvalidInput(f"no finished run {unknown[0]!r} to keep; see: labelkit status")
    superseded, kept = _sort_copies(project)
    found = [
        *_find_runs(project, finished, list_needed_runs(session) | set(keep)),
        *(_measure(project, copies, "a later copy is there") for copies in superseded),
        *_find_predictions(project, session, kept),
        *(_measure(project, [file], "unfinished") for file in find_leftovers(project)),
    ]
    return sorted(found, key=lambda one: (-one.size_mb, one.path))


def _find_runs(
    project: Project, finished: Collection[str], needed: Collection[str]
) -> Iterator[Garbage]:
    """Find what lies of runs that are superseded, or of none; a folder begun is left alone."""
    runs, windows, epochs = (
        _Folder(project, folder)
        for folder in (project.runs, project.windows.folder, project.epochs.folder)
    )
    begun = {file.name for file in runs.files if file.is_dir()} - set(finished)
    ends = {file.suffix for file in side_files(Path("run"))}
    names = {file.name for folder in (runs, epochs) for file in folder.files if file.is_dir()}
    names |= {file.name.removesuffix(".npz") for file in windows.files
              if ".partial" not in file.name}  # fmt: skip
    names |= {file.stem for file in runs.files if file.suffix in ends}
    for name in sorted(names - begun - set(needed)):
        places = [*runs.find(name), *windows.find(name), *windows.find(f"{name}.npz"),
                  *epochs.find(name)]  # fmt: skip
        places += [place for file in side_files(Path(name)) for place in runs.find(file.name)]
        why = "superseded" if name in finished else "of no run"
        yield replace(_measure(project, places, why), run=name)


class _Folder:
    """What lies in a folder of the project; nothing where it leads elsewhere."""

    def __init__(self, project: Project, folder: Path) -> None:
        linked = project.work.is_symlink() or folder.is_symlink()
        own = folder.is_dir() and not linked
        self.files = sorted(folder.iterdir()) if own else []

    def find(self, name: str) -> list[Path]:
        return [file for file in self.files if file.name == name]


def _sort_copies(project: Project) -> tuple[list[list[Path]], list[Path]]:
    """Find copies of the store that a later restore or repair superseded, and the newest ones."""
    copies: dict[str, dict[str, list[Path]]] = {}
    store = project.store.path
    for file in sorted(store.parent.glob(f"{store.name}.before-re*")):
        match = _COPY.match(file.name.removeprefix(store.name))
        if match and file.is_file():
            copies.setdefault(match[1], {}).setdefault(match[2], []).append(file)
    superseded = [of_kind[stamp] for of_kind in copies.values() for stamp in sorted(of_kind)[:-1]]
    return superseded, [of_kind[max(of_kind)][0] for of_kind in copies.values()]


def _find_predictions(
    project: Project, session: Session, copies: Collection[Path]
) -> Iterator[Garbage]:
    """Find large predictions that neither the store knows nor a copy of it that is kept."""
    known = {run.file for run in list_large_runs(session)}
    for copy in copies:
        try:
            with LabelStore(copy).opened(read_only=True) as con:
                refuse_additions(con, copy.name)
                known |= {run.file for run in list_large_runs(Session(con))}
        except StoreError as error:
            say(f"{copy.name} cannot be read, so no predictions are superfluous: {error}")
            return
    for file in find_loose_predictions(project, known):
        yield _measure(project, [file], "of no run")


def find_loose_predictions(project: Project, known: Collection[str]) -> list[Path]:
    """Find files of predictions that are none of those known."""
    folder = _Folder(project, project.root / FOLDER)
    return [file for file in folder.files if file.suffix == ".parquet"
            and f"{FOLDER}/{file.name}" not in known and ".partial." not in file.name]  # fmt: skip


def _measure(project: Project, places: list[Path], why: str) -> Garbage:
    size = sum(
        file.lstat().st_size
        for place in places
        for file in ([place] if place.is_symlink() or not place.is_dir() else place.rglob("*"))
        if file.is_symlink() or not file.is_dir()
    )
    return Garbage(str(places[0].relative_to(project.root)), round(size / 1e6, 3), why,
                   tuple(places))  # fmt: skip


def _remove(project: Project, one: Garbage) -> bool:
    try:
        if one.run is None:
            _unlink(one.files)
        else:
            # Whoever works on it, or reads it to start from, has its lock.
            run = project.runs / one.run
            with locked(run, exclusive=True, timeout_s=0):
                _unlink((*one.files, *side_files(run)))
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
