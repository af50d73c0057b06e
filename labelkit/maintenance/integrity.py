"""Whether an open label store is right: numbers, references, replay, people first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from labelkit.maintenance.derived_state import (
    check_large_runs,
    check_replay,
    check_scores,
    check_state,
    check_views,
)
from labelkit.maintenance.findings import OK, PROBLEM, REPAIR, RESTORE, WARNING, Finding, judge
from labelkit.records import MACHINE_STATES
from labelkit.stores.damage import find_unreadable
from labelkit.stores.session import Session

# Columns that name a row of another table. What a run is part of is not among them, as it may
# not be finished, nor are numbers that Label Studio gave.
_REFERENCES = (
    *(
        (table, "batch_id", "batches", "batch_id")
        for table in (
            "clips", "classes", "label_events", "label_verdicts", "folds", "runs",
            "review_projects", "review_tasks", "reviews", "review_pulls", "clip_state_mark",
            "clip_scores_mark",
        )
    ),
    *(
        (table, "clip_id", "clips", "clip_id")
        for table in (
            "label_events", "label_verdicts", "folds", "prediction_rows", "scores", "suggestions",
            "review_tasks", "reviews", "clip_state", "clip_scores",
        )
    ),
    *(
        (table, "run_id", "runs", "run_id")
        for table in (
            "label_events", "prediction_rows", "prediction_files", "scores", "suggestions",
        )
    ),
    ("batches", "undoes", "batches", "batch_id"),
    ("runs", "nullif(as_of, 0)", "batches", "batch_id"),
    ("runs", "unnest(parents)", "runs", "run_id"),
    ("runs", "unnest(trained_on)", "clips", "clip_id"),
    ("runs", "fold_set", "folds", "fold_set"),
    ("label_verdicts", "class_id", "classes", "class_id"),
    ("scores", "nullif(class_id, -1)", "classes", "class_id"),
    ("label_events", "unnest(labels)", "classes", "class_id"),
    ("suggestions", "unnest(suggested)", "classes", "class_id"),
    ("review_tasks", "unnest(suggested)", "classes", "class_id"),
    ("reviews", "unnest(labels)", "classes", "class_id"),
    ("review_tasks", "project", "review_projects", "project"),
    ("review_pulls", "project", "review_projects", "project"),
)  # fmt: skip

# Numbers that are given one after the other, and the first of them.
_COUNTED = (
    ("batches", "batch_id", 1), ("clips", "clip_id", 0), ("classes", "class_id", 0),
    ("label_events", "event_id", 0), ("label_verdicts", "verdict_id", 0),
)  # fmt: skip

_STATES = ", ".join(f"'{state}'" for state in MACHINE_STATES)


def check_contents(con: Any) -> Iterator[Finding]:
    """Examine an open store of the newest version; every check says something.

    One that cannot be made costs a finding of its own, and no other.
    """
    session, unreadable = Session(con), find_unreadable(con)
    if unreadable:
        yield Finding("rows", PROBLEM, f"some cannot be read: {unreadable}", RESTORE)
        return
    yield Finding("rows", OK, "every row of every table can be read")
    large = list(check_large_runs(session))
    yield from large
    files_wrong = any(finding.state == PROBLEM for finding in large)
    views = list(_look("views", lambda _: check_views(con), session, RESTORE))
    yield from views
    # Where a view is to blame, making it anew is what helps.
    remedy = REPAIR if any(finding.state == PROBLEM for finding in views) else RESTORE
    for name, check in _CHECKS.items():
        if not (files_wrong and name in _OF_PREDICTIONS):
            yield from _look(name, check, session, remedy)


def _look(
    name: str, check: Callable[[Session], Iterator[Finding]], session: Session, remedy: str
) -> Iterator[Finding]:
    import duckdb

    try:
        found = list(check(session))
    except duckdb.Error as error:
        what = f"this could not be examined: {str(error).splitlines()[0]}"
        yield Finding(name, PROBLEM, what, remedy)
        return
    # A check that finds nothing wrong says what it looked at.
    wrong = [finding for finding in found if finding.state != OK]
    yield from wrong or (finding for finding in found if finding.what)


def _ids(session: Session) -> Iterator[Finding]:
    counts = []
    for table, column, first in _COUNTED:
        [(n, distinct, low, high)] = session.rows(
            f"select count(*), count(distinct {column}), min({column}), max({column}) from {table}"
        )
        counts.append(f"{n} {table}")
        if n and (distinct != n or low != first or high != first + n - 1):
            what = f"{table}: {n} rows with {distinct} numbers from {low} to {high}, not from "
            yield Finding("numbers", PROBLEM, f"{what}{first} to {first + n - 1}", RESTORE)
    keys = "select batch_key from batches group by batch_key having count(*) > 1 order by 1"
    yield judge(
        session, "numbers", keys, lambda n, named: f"{n} batch keys are there twice: {named}",
        f"{', '.join(counts)}: numbered without a gap",
    )  # fmt: skip


def _references(session: Session) -> Iterator[Finding]:
    for table, column, other, key in _REFERENCES:
        query = (
            f"select distinct v from (select {column} as v from {table}) "
            f"where v is not null and v not in (select {key} from {other}) order by v"
        )
        shown = column.replace("unnest", "").replace("nullif", "").strip("()").partition(",")[0]
        yield judge(
            session, "references", query,
            lambda n, named, t=table, c=shown, o=other: (  # type: ignore[misc]
                f"{t}.{c}: {n} that {o} does not know: {named}"
            ),
            "",
        )  # fmt: skip
    yield Finding("references", OK, f"{len(_REFERENCES)} columns name only rows that are there")


def _people(session: Session) -> Iterator[Finding]:
    query = f"""
    select event_id from (
        select e.event_id, e.state, b.by_person,
               lag(e.state) over (partition by e.clip_id order by e.event_id) as before
        from label_events e join batches b on b.batch_id = e.batch_id
    ) where not by_person and (state not in ({_STATES}) or before not in ({_STATES}))
    order by 1
    """
    yield judge(
        session, "people first", query,
        lambda n, named: f"a machine decided over a person in {n} events: {named}",
        "no machine decided over a person",
    )  # fmt: skip
    yield judge(
        session, "people first",
        "select u.batch_id from batches u join batches b on b.batch_id = u.undoes "
        "where u.by_person <> b.by_person and not (u.by_person and u.batch_id in ("
        f"select batch_id from label_events where state not in ({_STATES}))) order by 1",
        lambda n, named: f"{n} undos say they are a person's of a machine's batch, or the other "
        f"way round: {named}",
        "",
    )  # fmt: skip


def _runs(session: Session) -> Iterator[Finding]:
    query = """
    select distinct p.run_id from prediction_rows p join runs r on r.run_id = p.run_id
    where len(p.probs) <> len(r.classes)
       or len(list_filter(p.probs, lambda x: x is null or not isfinite(x))) > 0
       or (len(p.probs) > 0 and p.probs[p.top_class + 1] is distinct from list_max(p.probs))
    order by 1
    """
    [(n,)] = session.rows("select count(*) from prediction_rows")
    yield judge(
        session, "runs", query,
        lambda n, named: f"{n} runs have predictions that do not fit their classes: {named}",
        f"{n} predictions fit the classes of their runs",
    )  # fmt: skip
    yield judge(
        session, "runs", "select run_id from runs where as_of >= batch_id order by 1",
        lambda n, named: f"{n} runs read labels of a batch not before their own: {named}", "",
    )  # fmt: skip


def _label_sets(session: Session) -> Iterator[Finding]:
    yield judge(
        session, "label sets",
        "select event_id from label_events where len(labels) > 1 "
        "and labels <> list_sort(list_distinct(labels)) order by 1",
        lambda n, named: f"{n} events have labels out of order or twice: {named}",
        "the labels of every event are in order, each once",
    )  # fmt: skip


def _paths(session: Session) -> Iterator[Finding]:
    yield judge(
        session, "paths",
        "select path from clips group by path having count(*) > 1 order by 1",
        lambda n, named: f"{n} paths are there twice: {named}", "every path is there once",
    )  # fmt: skip
    yield judge(
        session, "paths",
        "select min(path) from clips group by nfc_normalize(path) "
        "having count(distinct path) > 1 order by 1",
        lambda n, named: f"{n} paths differ from others only in how accents are written: {named}",
        "", state=WARNING, remedy="rename the recordings and import again, or reject one of each",
    )  # fmt: skip


def _copies(session: Session) -> Iterator[Finding]:
    yield judge(
        session, "recordings twice",
        "select string_agg(path, ' = ' order by path) from clips where content_hash is not null "
        "group by content_hash having count(*) > 1 order by 1",
        lambda n, named: f"{n} recordings are there under several paths: {named}",
        "no two clips have the same bytes", state=WARNING, remedy="labelkit duplicates",
    )  # fmt: skip


def _times(session: Session) -> Iterator[Finding]:
    yield judge(
        session, "times",
        "select batch_id from (select batch_id, made_at, lag(made_at) over (order by batch_id) "
        "as before from batches) where made_at < before order by 1",
        lambda n, named: f"{n} batches are older than the one before them: {named}",
        "every batch is younger than the one before",
        state=WARNING, remedy="the clock was set back; name batches rather than dates",
    )  # fmt: skip


def _leaks(session: Session) -> Iterator[Finding]:
    rows: list[tuple[Any, ...]] = session.find_leaks()
    if not rows:
        yield Finding("leaks", OK, "no model judged what it, or one it came from, was trained on")
        return
    judge, clip, ancestor, seen = rows[0]
    many = "100 or more" if len(rows) == 100 else len(rows)
    what = f"{many} judgements of what was seen: {judge} judged clip {clip}, {ancestor} learnt "
    yield Finding("leaks", PROBLEM, f"{what}clip {seen}", "labelkit train with another --seed")


_CHECKS = {
    "numbers": _ids,
    "references": _references,
    "replay": check_replay,
    "clip_state": check_state,
    "clip_scores": check_scores,
    "people first": _people,
    "runs": _runs,
    "label sets": _label_sets,
    "paths": _paths,
    "recordings twice": _copies,
    "times": _times,
    "leaks": _leaks,
}
# These ask the view of all predictions, which a missing file of a large run breaks.
_OF_PREDICTIONS = ("leaks",)
