"""Bringing a damaged store back to what is left of it; copies of everything are kept first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labelkit.errors import StoreError
from labelkit.maintenance.doctor import check_mark
from labelkit.maintenance.environment import find_leftovers
from labelkit.maintenance.findings import OK, PROBLEM, REPAIR
from labelkit.maintenance.integrity import check_contents
from labelkit.project import Project
from labelkit.stores import schema
from labelkit.stores.damage import cut_log, find_torn_log, find_unreadable, keep_copies
from labelkit.stores.high_water_mark import last_batch, mark_path, read_mark, write_mark
from labelkit.stores.labels import LabelStore
from labelkit.stores.lock import locked
from labelkit.stores.origin import find_additions, find_faults
from labelkit.stores.upkeep import checkpoint, rebuild

# More damaged places than this are no torn log.
_CUTS = 5


def repair(project: Project, say: Callable[[str], None]) -> None:
    """Do what can be done without losing anything that is still there.

    A torn log is cut where it is damaged, the high-water mark set to what is there, the maintained
    state made anew, and unfinished files of processes that ended are removed. What cannot be
    read at all stays as it is, for a backup to be put in its place.

    Args:
        project: Whose store; copies lie beside it, with ``before-repair`` in their names.
        say: Gets a line for everything that is done.

    Raises:
        StoreBusy: If others hold the store for longer than the time-out.
    """
    store = project.store
    with locked(store.path, exclusive=True, timeout_s=store.timeout_s):
        for file in find_leftovers(project):
            file.unlink(missing_ok=True)
            say(f"removed {file.relative_to(project.root)}, unfinished")
        if store.path.exists():
            _Repair(store, say).run()


class _Repair:
    """The repair of one store, under its lock; copies are made once, before the first change."""

    def __init__(self, store: LabelStore, say: Callable[[str], None]) -> None:
        self.store, self.say, self._copies = store, say, False

    def run(self) -> None:
        if self._cut_logs():
            self._set_right()

    def _keep(self) -> None:
        if not self._copies:
            copies = keep_copies(self.store.path, "before-repair")
            self.say(f"kept as they were: {', '.join(file.name for file in copies)}")
            self._copies = True

    def _cut_logs(self) -> bool:
        """Cut torn logs until the store opens; False if it does not."""
        for _ in range(_CUTS):
            try:
                with self.store.opened(read_only=True):
                    return True
            except StoreError as error:
                torn = find_torn_log(self.store.path, error)
                if torn is None:
                    return False
            self._keep()
            size = torn.file.stat().st_size
            cut_log(torn)
            self.say(
                f"{torn.file.name}: cut at byte {torn.position} of {size}, where the damage is"
            )
        return False

    def _set_right(self) -> None:
        path = self.store.path
        with self.store.opened(read_only=True) as con:
            additions = find_additions(con)
        if additions:
            self._keep()
            with self.store.opened(read_only=False) as con:
                for name, drop in additions:
                    con.execute(drop)
                    self.say(f"removed {name!a}, which labelkit did not make")
        with self.store.opened(read_only=True) as con:
            if schema.version(con) != schema.VERSION or find_unreadable(con):
                return
            if find_faults(con, path.parent):
                return
            mark = check_mark(self.store, con)
            findings = list(check_contents(con))
            last, found = last_batch(con), read_mark(path)
        anew = any(finding.remedy == REPAIR for finding in findings)
        if anew and any(f.check == "large runs" and f.state == PROBLEM for f in findings):
            self.say("views, clip_state and clip_scores: not made anew while large runs are wrong")
            anew = False
        if mark.state == PROBLEM:
            self._keep()
        if anew:
            self._keep()
            with self.store.opened(read_only=False) as con:
                rebuild(con)
            self.say("clip_state, clip_scores and views: made anew")
        if self._copies:
            # What is left of a log goes into the file, so that no later accident meets it.
            with self.store.opened(read_only=False) as con:
                checkpoint(con)
        if mark.state != OK:
            write_mark(path, last)
            self.say(_tell_loss(path, last.batch_id, found.batch_id if found else None, mark.what))
        elif self._copies:
            self.say(f"every batch that was acknowledged is there, up to {last.batch_id}")


def _tell_loss(path: Path, last: int, said: int | None, what: str) -> str:
    name = mark_path(path).name
    there = f"batches 1 to {last} are there" if last else "no batch is there"
    if said is not None and said > last:
        lost = f"{last + 1} to {said}" if said > last + 1 else f"{said}"
        return f"{there}; what was written in {lost} is LOST; {name} now ends at {last}"
    return f"{there}; {name} now says so ({what})"
