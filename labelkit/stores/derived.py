"""Whether views, maintained state and files of large runs say what the facts amount to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelkit.stores.catalog import KNOWN_VIEWS, are_views_old, find_altered
from labelkit.stores.checks import Offenders, find_offenders
from labelkit.stores.session import Session
from labelkit.stores.views import OF_THE_PRESENT, SCORES_MARK

_NEWEST_EVENT = 2**63 - 1

# What the events amount to, by another way than the views go.
_REPLAYED = """
select clip_id, event_id, batch_id, state, labels, source, run_id, iteration, score, made_at
from (
    select *, row_number() over (partition by clip_id order by event_id desc) as age
    from {table} where event_id <= {last:d}
) where age = 1
"""


@dataclass(frozen=True)
class Maintained:
    """A maintained table: how many rows, and how many marks say up to where it goes."""

    n_rows: int
    n_marks: int

    @property
    def whole(self) -> bool:
        """True where there is one mark, or nothing to be marked."""
        return self.n_marks <= 1 and not (self.n_rows and not self.n_marks)


@dataclass(frozen=True)
class StateMark:
    """The event and batch up to which the state of clips is maintained."""

    event_id: int
    batch_id: int


@dataclass(frozen=True)
class BrokenView:
    """A view or macro that cannot be asked, and what the database says of it."""

    name: str
    said: str


@dataclass(frozen=True)
class ViewsFound:
    """How many views can be asked, which cannot, and which are not what this labelkit makes.

    ``old`` tells whether the store says itself that another version made them.
    """

    n: int
    broken: tuple[BrokenView, ...]
    altered: tuple[str, ...]
    old: bool


@dataclass(frozen=True)
class LargeRun:
    """A run whose predictions lie beside the store: the file, and how many clips it judged."""

    run_id: str
    file: str
    n_clips: int


def find_replay_differences(session: Session) -> Offenders:
    """Find clips whose state now is not what their events make of it, and count the clips."""
    [(n,)] = session.rows("select count(distinct clip_id) from label_events")
    return find_offenders(
        session,
        f"""
        with replayed as ({_REPLAYED.format(table="label_events", last=_NEWEST_EVENT)}),
        spelt as (select map(list(class_id), list(name)) as names from classes)
        select coalesce(r.clip_id, n.clip_id) as clip_id
        from replayed r full join labels_now n on n.clip_id = r.clip_id
        left join clips c on c.clip_id = r.clip_id cross join spelt s
        where (n.event_id, n.batch_id, n.state, n.source, n.run_id, n.iteration, n.score,
               n.made_at, n.path, n.group_name, n.subset, n.domain_name)
            is distinct from (r.event_id, r.batch_id, r.state, r.source, r.run_id, r.iteration,
               r.score, r.made_at, c.path, c.group_name, c.subset, c.domain_name)
        or n.labels is distinct from list_transform(r.labels, lambda x: s.names[x])
        order by 1
        """,
        n_examined=n,
    )


def count_state(session: Session) -> Maintained:
    """Count rows and marks of the maintained state of clips."""
    [(n_rows, n_marks)] = session.rows(
        "select (select count(*) from state_rows), (select count(*) from clip_state_mark)"
    )
    return Maintained(n_rows, n_marks)


def read_state_mark(session: Session) -> StateMark | None:
    """Read up to where the state of clips is maintained; None if none is."""
    marks = session.rows("select event_id, batch_id from clip_state_mark")
    return StateMark(*marks[0]) if marks else None


def find_state_differences(session: Session, mark: StateMark | None) -> Offenders:
    """Find clips whose maintained state is not what their events up to the mark make of it."""
    replayed = _REPLAYED.format(table="event_rows", last=mark.event_id if mark else -1)
    return find_offenders(
        session,
        f"""
        with replayed as ({replayed})
        select distinct clip_id from (
            (from replayed except all from state_rows)
            union all (from state_rows except all from replayed)
        ) order by 1
        """,
    )


def is_mark_known(session: Session, mark: StateMark) -> bool:
    """Look whether the event of a mark is there, and of its batch."""
    batches = session.rows("select batch_id from event_rows where event_id = ?", [mark.event_id])
    return batches == [(mark.batch_id,)]


def count_scores(session: Session) -> Maintained:
    """Count rows and marks of the maintained scores of clips."""
    [(n_rows, n_marks)] = session.rows(
        "select (select count(*) from clip_scores), (select count(*) from clip_scores_mark)"
    )
    return Maintained(n_rows, n_marks)


def find_score_differences(session: Session) -> Offenders:
    """Find clips whose maintained scores, in any column, are not what the runs say of them."""
    query = f"""
    with told as (select run_id, kind, batch_id, coalesce(iteration, -1) as iteration from runs
                  where batch_id <= {SCORES_MARK} and {OF_THE_PRESENT}),
    replayed as (
        select clip_id,
               max_by(value, (batch_id, iteration, run_id)) filter (metric = 'fusion') as fusion,
               max(batch_id) filter (metric = 'fusion') as fused,
               max_by(value, (batch_id, iteration, run_id)) filter (metric = 'lwlrap') as lwlrap,
               max_by(value, (batch_id, iteration, run_id)) filter (metric = 'self_confidence')
                   as self_confidence,
               max(batch_id) filter (kind <> 'score') as trained
        from scores join told using (run_id) where class_id = -1 group by clip_id
    ),
    judged as (
        select clip_id, max_by(run_id, (batch_id, iteration, run_id)) as judge
        from suggestions join told using (run_id) group by clip_id
    ),
    wanted as (
        select clip_id, path, fusion, fused, lwlrap, self_confidence, trained, judge
        from replayed full join judged using (clip_id) join clips using (clip_id)
        where exists (from clip_scores_mark)
    ),
    kept as (
        select clip_id, path, fusion, fused, lwlrap, self_confidence, trained, judge
        from clip_scores
    )
    select distinct clip_id from (
        (from wanted except all from kept) union all (from kept except all from wanted)
    ) order by 1
    """
    return find_offenders(session, query)


def find_broken_views(con: Any) -> ViewsFound:
    """Ask every view and macro for its columns."""
    import duckdb

    broken = []
    asked = {"predictions": "predictions"} | {view.name: view.called(0) for view in KNOWN_VIEWS}
    for name, called in asked.items():
        try:
            con.execute(f"describe from {called}")
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            broken.append(BrokenView(name, str(error).splitlines()[0]))
        except (duckdb.IOException, duckdb.PermissionException):
            # A file of a large run is missing, which is no fault of the view; or it wants another
            # file, and is not the one of the code.
            continue
    old = are_views_old(con)
    altered = tuple(find_altered(con))
    return ViewsFound(len(asked) - len(broken), tuple(broken), altered, old)


def find_folder(session: Session) -> Path:
    """Find the folder of the store, which files beside it are relative to."""
    [(root,)] = session.rows("select current_setting('file_search_path')")
    return Path(root)


def list_large_runs(session: Session) -> list[LargeRun]:
    """List the runs whose predictions lie beside the store, by name."""
    rows = session.rows("select run_id, file, n_clips from prediction_files order by 1")
    return [LargeRun(*row) for row in rows]


def count_predictions(session: Session, file: Path, run_id: str) -> int:
    """Count the clips in the file of a large run that have a probability for each class.

    Raises:
        duckdb.Error: If the file cannot be read as what it is.
    """
    [(n,)] = session.rows(
        "select count(*) from read_parquet(?) where run_id = ? "
        "and len(probs) = (select len(classes) from runs where run_id = ?)",
        [str(file), run_id, run_id],
    )
    return int(n)
