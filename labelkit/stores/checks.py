"""Rows of an open label store that should not be: numbers, references, people first, runs, paths.

Each question returns how many there are and the first few; what they mean is said elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from labelkit.states import MACHINE_STATES
from labelkit.stores.session import Session

_NAMED = 3

# Columns that name a row of another table. What a run is part of is not among them, as it may
# not be finished, nor are numbers that Label Studio gave.
_REFERENCES = (
    *(
        (table, "batch_id", "batches", "batch_id")
        for table in (
            "clip_rows", "class_rows", "event_rows", "verdict_rows", "fold_rows", "runs",
            "review_projects", "review_task_rows", "review_rows", "review_pulls",
            "clip_state_mark", "clip_scores_mark", "class_changes", "clip_changes", "facts",
        )
    ),
    *(
        (table, "clip_id", "clip_rows", "clip_id")
        for table in (
            "event_rows", "verdict_rows", "fold_rows", "prediction_rows", "score_rows",
            "suggestion_rows", "review_task_rows", "review_rows", "state_rows", "clip_scores",
            "clip_changes",
        )
    ),
    *(
        (table, "run_id", "runs", "run_id")
        for table in (
            "event_rows", "prediction_rows", "prediction_files", "score_rows", "suggestion_rows",
        )
    ),
    ("batches", "undoes", "batches", "batch_id"),
    ("runs", "nullif(as_of, 0)", "batches", "batch_id"),
    ("runs", "unnest(parents)", "runs", "run_id"),
    ("runs", "unnest(trained_on)", "clip_rows", "clip_id"),
    ("runs", "fold_set", "fold_rows", "fold_set"),
    ("verdict_rows", "class_id", "class_rows", "class_id"),
    ("score_rows", "nullif(class_id, -1)", "class_rows", "class_id"),
    ("event_rows", "unnest(labels)", "class_rows", "class_id"),
    ("suggestion_rows", "unnest(suggested)", "class_rows", "class_id"),
    ("review_task_rows", "unnest(suggested)", "class_rows", "class_id"),
    ("review_rows", "unnest(labels)", "class_rows", "class_id"),
    ("class_changes", "class_id", "class_rows", "class_id"),
    ("class_changes", "into_id", "class_rows", "class_id"),
    ("review_task_rows", "project", "review_projects", "project"),
    ("review_pulls", "project", "review_projects", "project"),
)  # fmt: skip

# Numbers that are given one after the other, and the first of them.
_COUNTED = (
    ("batches", "batch_id", 1), ("clip_rows", "clip_id", 0), ("class_rows", "class_id", 0),
    ("event_rows", "event_id", 0), ("verdict_rows", "verdict_id", 0),
)  # fmt: skip

_STATES = ", ".join(f"'{state}'" for state in MACHINE_STATES)


@dataclass(frozen=True)
class Offenders:
    """Rows that should not be: how many, the first few in words, and of how many things.

    ``n_examined`` is 0 where nobody counted them.
    """

    n: int
    named: tuple[str, ...]
    n_examined: int = 0


@dataclass(frozen=True)
class Numbering:
    """The numbers of a table: how many rows and different numbers, the lowest and the highest."""

    table: str
    n_rows: int
    n_distinct: int
    low: int | None
    high: int | None
    first: int

    @property
    def last(self) -> int:
        """The highest number where none is left out."""
        return self.first + self.n_rows - 1

    @property
    def gapless(self) -> bool:
        """True where every number from the first on is there once."""
        return not self.n_rows or (self.n_distinct, self.low, self.high) == (
            self.n_rows, self.first, self.last
        )  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """A column, the table it names rows of, and values that are not there."""

    table: str
    column: str
    other: str
    dangling: Offenders


def find_offenders(session: Session, query: str, *, n_examined: int = 0) -> Offenders:
    """Count the rows of a query of this package, which should have none, and name the first.

    Args:
        session: An open store.
        query: A statement in whose order the first few are taken.
        n_examined: Goes into the result.
    """
    rows = session.rows(f"select *, count(*) over () from ({query}) limit {_NAMED}")
    named = tuple(" ".join(map(str, row[:-1])) for row in rows)
    return Offenders(rows[0][-1] if rows else 0, named, n_examined)


def read_numbering(session: Session) -> list[Numbering]:
    """Look at the numbers of every table that gives them one after the other."""
    found = []
    for table, column, first in _COUNTED:
        [(n_rows, n_distinct, low, high)] = session.rows(
            f"select count(*), count(distinct {column}), min({column}), max({column}) from {table}"
        )
        found.append(Numbering(table, n_rows, n_distinct, low, high, first))
    return found


def find_repeated_keys(session: Session) -> Offenders:
    """Find keys that several batches have."""
    return find_offenders(
        session,
        "select batch_key from batches group by batch_key having count(*) > 1 order by 1",
    )


def find_dangling(session: Session) -> list[Reference]:
    """Find values of every column that names rows of another table and names none."""
    found = []
    for table, column, other, key in _REFERENCES:
        dangling = find_offenders(
            session,
            f"select distinct v from (select {column} as v from {table}) "
            f"where v is not null and v not in (select {key} from {other}) order by v",
        )
        shown = column.replace("unnest", "").replace("nullif", "").strip("()").partition(",")[0]
        found.append(Reference(table, shown, other, dangling))
    return found


def find_overridden_people(session: Session) -> Offenders:
    """Find events by which a machine decided for a person, or over one."""
    return find_offenders(
        session,
        f"""
        select event_id from (
            select e.event_id, e.state, b.by_person,
                   lag(e.state) over (partition by e.clip_id order by e.event_id) as before
            from event_rows e join batches b on b.batch_id = e.batch_id
        ) where not by_person and (state not in ({_STATES}) or before not in ({_STATES}))
        order by 1
        """,
    )


def find_misattributed_undos(session: Session) -> Offenders:
    """Find undos that are a person's and take a machine's batch back, or the other way round."""
    return find_offenders(
        session,
        "select u.batch_id from batches u join batches b on b.batch_id = u.undoes "
        "where u.by_person <> b.by_person and not (u.by_person and u.batch_id in ("
        f"select batch_id from event_rows where state not in ({_STATES}))) order by 1",
    )


def find_unfit_predictions(session: Session) -> Offenders:
    """Find runs with predictions that do not fit their classes, and count the predictions."""
    [(n,)] = session.rows("select count(*) from prediction_rows")
    return find_offenders(
        session,
        """
        select distinct p.run_id from prediction_rows p join runs r on r.run_id = p.run_id
        where len(p.probs) <> len(r.classes)
           or len(list_filter(p.probs, lambda x: x is null or not isfinite(x))) > 0
           or (len(p.probs) > 0 and p.probs[p.top_class + 1] is distinct from list_max(p.probs))
        order by 1
        """,
        n_examined=n,
    )


def find_runs_of_the_future(session: Session) -> Offenders:
    """Find runs that read labels of a batch that is not before their own."""
    return find_offenders(session, "select run_id from runs where as_of >= batch_id order by 1")


def find_unsorted_labels(session: Session) -> Offenders:
    """Find events whose labels are out of order or there twice."""
    return find_offenders(
        session,
        "select event_id from event_rows where len(labels) > 1 "
        "and labels <> list_sort(list_distinct(labels)) order by 1",
    )


def find_repeated_paths(session: Session) -> Offenders:
    """Find paths that several clips have."""
    return find_offenders(
        session, "select path from clips group by path having count(*) > 1 order by 1"
    )


def find_confusable_paths(session: Session) -> Offenders:
    """Find paths that differ from others only in how accents are written, one of each."""
    return find_offenders(
        session,
        "select min(path) from clips group by nfc_normalize(path) "
        "having count(distinct path) > 1 order by 1",
    )


def find_copies(session: Session) -> Offenders:
    """Find clips with the same bytes: each group's paths in one."""
    return find_offenders(
        session,
        "select string_agg(path, ' = ' order by path) from clips where content_hash is not null "
        "group by content_hash having count(*) > 1 order by 1",
    )


def find_times_that_go_back(session: Session) -> Offenders:
    """Find batches that are older than the one before them."""
    return find_offenders(
        session,
        "select batch_id from (select batch_id, made_at, lag(made_at) over (order by batch_id) "
        "as before from batches) where made_at < before order by 1",
    )


def find_clips_without_events(session: Session) -> Offenders:
    """Find clips of which no event tells."""
    return find_offenders(
        session,
        "select clip_id from clip_rows where clip_id not in (select clip_id from event_rows) "
        "order by 1",
    )
