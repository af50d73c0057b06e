"""The health of a project's store: what is there, whether it is right, and what it needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from labelkit.audio.io import hash_file
from labelkit.errors import StoreError
from labelkit.maintenance.environment import check_environment
from labelkit.maintenance.findings import OK, PROBLEM, REPAIR, RESTORE, WARNING, Finding
from labelkit.maintenance.integrity import check_contents
from labelkit.progress import track
from labelkit.project import Project
from labelkit.stores import schema
from labelkit.stores.damage import find_torn_log, is_held
from labelkit.stores.high_water_mark import last_batch, mark_path, missing_batches, read_mark
from labelkit.stores.labels import LabelStore, log_files
from labelkit.stores.lock import locked
from labelkit.stores.origin import find_additions, find_faults, find_others
from labelkit.stores.overview import (
    list_finished_runs,
    list_judging_folds,
    list_needed_runs,
    list_recordings,
)
from labelkit.stores.reviews import count_annotators
from labelkit.stores.session import Session

_BLOCK = 4096
_AGAIN = "train again with another --seed where they are wanted"


def examine(project: Project, *, fast: bool = False) -> list[Finding]:
    """Examine the store and what belongs to it; nothing is written.

    Args:
        project: Whose store; it need not open.
        fast: Leave the recordings out, which are read whole.

    Returns:
        At least one finding a check, in the order of the checks.

    Raises:
        StoreBusy: If a writer holds the store for longer than the time-out.
    """
    store = project.store
    recordings: list[tuple[str, str | None]] = []
    with locked(store.path, exclusive=False, timeout_s=store.timeout_s):
        findings = list(_check_store(project, recordings))
    findings += check_environment(project)
    findings += _check_recordings(project, recordings, fast)
    return findings


def _check_store(project: Project, recordings: list[tuple[str, str | None]]) -> Iterator[Finding]:
    store = project.store
    if not store.path.exists():
        found = read_mark(store.path)
        what = f"{store.path.name} is not there"
        if found is not None and found.batch_id:
            what += f", but it held {found.batch_id} batches"
        yield Finding("file", PROBLEM, what, RESTORE)
        return
    try:
        with store.opened(read_only=True) as con:
            yield Finding("file", OK, f"{store.path.name} opens")
            yield _check_log(store)
            additions = sorted({name for name, _ in find_additions(con)})
            if additions:
                what = f"holds what labelkit did not make: {', '.join(additions)}"
                yield Finding("origin", PROBLEM, what, REPAIR)
                return
            version = schema.version(con)
            yield _check_version(version)
            faults = find_faults(con, project.root) if version == schema.VERSION else []
            for fault in faults:
                yield Finding("origin", PROBLEM, fault, RESTORE)
            if version == schema.VERSION and not faults:
                others = find_others(con)
                what = "tables and paths are as labelkit makes them"
                what += f"; others beside them, not read: {', '.join(others)}" if others else ""
                yield Finding("origin", OK, what)
                yield check_mark(store, con)
                yield from check_contents(con)
                session = Session(con)
                yield _check_privacy(store, session)
                yield from _check_arrays(project, session)
                recordings += list_recordings(session)
    except StoreError as error:
        yield _say_damage(store, error)


def _check_privacy(store: LabelStore, session: Session) -> Finding:
    """Look who can read the addresses of people who answered in Label Studio."""
    n, shown = count_annotators(session), store.path.stat().st_mode & 0o004
    if n and shown:
        what = f"everybody on this machine can read the addresses of {n} annotators in the store"
        return Finding("privacy", WARNING, what, f"chmod o-r {store.path.name}")
    return Finding("privacy", OK, f"addresses of {n} annotators" if n else "no addresses of people")


def _say_damage(store: LabelStore, error: StoreError) -> Finding:
    torn = find_torn_log(store.path, error)
    if is_held(error):
        return Finding("file", PROBLEM, str(error), "end that program; labelkit waits its turn")
    if torn is None:
        denied = "Permission denied" in str(error)
        remedy = "chmod or chown it, so that it can be read" if denied else RESTORE
        return Finding("file", PROBLEM, str(error), remedy)
    what = f"{torn.file.name} cannot be read from its start on: {torn.said}"
    if torn.position:
        size = torn.file.stat().st_size
        what = f"{torn.file.name} is damaged at byte {torn.position} of {size}"
    return Finding("log", PROBLEM, what, f"{RESTORE}, or {REPAIR}")


def _check_log(store: LabelStore) -> Finding:
    files = log_files(store.path)
    if not files:
        return Finding("log", OK, "none is left over")
    size = sum(file.stat().st_size for file in files)
    return Finding("log", OK, f"{size / 1e3:.0f} kB of a stopped writer wait for the next one")


def _check_version(found: int) -> Finding:
    if not found:
        return Finding("version", PROBLEM, "a database, but no label store", RESTORE)
    what = f"schema version {found}"
    if found < schema.VERSION:
        what += f", {schema.VERSION} is needed; what it holds was not examined"
        return Finding("version", PROBLEM, what, "labelkit init AUDIO_DIR")
    if found > schema.VERSION:
        what += f", this labelkit knows up to {schema.VERSION}; what it holds was not examined"
        return Finding("version", PROBLEM, what, "install a newer labelkit")
    return Finding("version", OK, what)


def check_mark(store: LabelStore, con: Any) -> Finding:
    """Compare an open store with its high-water mark."""
    last, found, name = last_batch(con), read_mark(store.path), mark_path(store.path).name
    if found is None:
        if not last.batch_id and not mark_path(store.path).exists():
            return Finding("high-water mark", OK, "no batch yet, and none is told of")
        what = "cannot be read" if mark_path(store.path).exists() else "is not there"
        return Finding(
            "high-water mark", WARNING, f"{name} {what}: a loss would not be noticed", REPAIR
        )
    lost = missing_batches(store.path, con, found)
    if lost:
        remedy = f"{RESTORE}, or to go on with what is there: {REPAIR}"
        return Finding("high-water mark", PROBLEM, lost, remedy)
    if last.batch_id > found.batch_id:
        what = f"{name} tells of batch {found.batch_id}, the store ends at {last.batch_id}"
        return Finding("high-water mark", WARNING, f"{what}: a writer was stopped", REPAIR)
    return Finding("high-water mark", OK, f"both end at batch {last.batch_id}")


def _check_arrays(project: Project, session: Session) -> Iterator[Finding]:
    runs = list_finished_runs(session)
    known = {run.run_id for run in runs}
    # Of superseded runs they may go: labelkit gc.
    needed = list_needed_runs(session)
    judges = [run_id for run_id in list_judging_folds(session) if _root(run_id) in needed]
    trained = [
        run.parents for run in runs
        if run.kind in ("train", "verify") and run.run_id in needed
        and not json.loads(run.settings).get("probe", {}).get("classifier")
    ]  # fmt: skip
    logged = [
        run.run_id for run in runs
        if run.kind == "fold" and _root(run.run_id) in needed
        and any(row.get("logged") for row in json.loads(run.metrics).get("history", ()))
    ]  # fmt: skip
    for what, files in (
        ("windows", [project.windows.path(run_id) for run_id in judges]),
        ("weights", [project.runs / name / "weights.pt" for names in trained for name in names]),
        ("logs of epochs", [project.epochs.folder / f"{run_id}.npy" for run_id in logged]),
    ):
        gone = [file for file in files if not file.is_file()]
        if gone:
            first = gone[0].relative_to(project.work)
            said = f"{len(gone)} of {len(files)} are not there: .labelkit/{first}"
            yield Finding(what, WARNING, said, _AGAIN)
        else:
            yield Finding(what, OK, f"all {len(files)} are there")
    yield from _check_orphans(project, known)


def _root(run_id: str) -> str:
    """Return the whole run that a training is of, by its name."""
    return run_id.partition("/")[0]


def _check_orphans(project: Project, known: set[str]) -> Iterator[Finding]:
    open_runs = []
    if project.runs.is_dir():
        open_runs = [f.name for f in sorted(project.runs.iterdir())
                     if f.is_dir() and f.name not in known]  # fmt: skip
    named = f": {', '.join(open_runs[:3])}" if open_runs else ""
    yield Finding("unfinished runs", OK, f"{len(open_runs)}{named}")
    folder = project.windows.folder
    # Windows are written before their run is, so those of an unfinished run are no orphans.
    loose = [
        name for file in sorted(folder.rglob("*.npz"))
        if (name := file.relative_to(folder).with_suffix("").as_posix()) not in known
        and Path(name).parts[0] not in open_runs
    ]  # fmt: skip
    folders = project.epochs.folder.iterdir() if project.epochs.folder.is_dir() else ()
    loose += [f"epochs/{f.name}" for f in folders if f.name not in {*known, *open_runs}]
    if loose:
        what = f"{len(loose)} files of windows and epochs are of no run: {loose[0]}"
        yield Finding("arrays of no run", WARNING, what, "labelkit gc, where room is wanted")
    else:
        yield Finding("arrays of no run", OK, "none")


def _check_recordings(
    project: Project, recordings: list[tuple[str, str | None]], fast: bool
) -> Iterator[Finding]:
    if not recordings or fast:
        why = "left out by --fast" if fast else "none that could be compared"
        yield Finding("recordings", OK, why)
        return
    if not project.audio_dir.is_dir():
        what = f"the audio folder {project.audio_dir} is not there"
        remedy = "bring it back, or change audio in labelkit.toml"
        yield Finding("recordings", WARNING, what, remedy)
        return

    gone, changed = [], []
    hashes = _hash(project.audio_dir, [path for path, _ in recordings])
    for (path, then), now in zip(
        recordings, track(hashes, len(recordings), "recordings"), strict=True
    ):
        if now is None:
            gone.append(path)
        elif then is not None and now != then:
            changed.append(path)
    if changed:
        what = f"{len(changed)} are not what was labelled: {', '.join(changed[:3])}"
        yield Finding("recordings", PROBLEM, what, "bring the old ones back; see: labelkit check")
    if gone:
        what = f"{len(gone)} of {len(recordings)} cannot be read: {', '.join(gone[:3])}"
        yield Finding("recordings", WARNING, what, "bring them back; see: labelkit check")
    if not changed and not gone:
        yield Finding("recordings", OK, f"all {len(recordings)} are there and as they were")


def _hash(folder: Path, paths: list[str]) -> Iterator[str | None]:
    def read(path: str) -> str | None:
        try:
            return hash_file(folder / path)
        except (OSError, ValueError):
            return None

    with ThreadPoolExecutor(4) as pool:
        # A pool holds all that it is given at once.
        for start in range(0, len(paths), _BLOCK):
            yield from pool.map(read, paths[start : start + _BLOCK])
