"""Whether an open label store is right: numbers, references, replay, people first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from labelkit.records import MACHINE_STATES
from labelkit.stores.damage import find_unreadable
from labelkit.stores.session import Session
from labelkit.stores.views import SCORES_MARK

OK, WARNING, PROBLEM = "ok", "warning", "problem"
RESTORE = "labelkit restore FILE"
REPAIR = "labelkit doctor --repair"
_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """What one check found; ``remedy`` is empty where none is needed."""

    check: str
    state: str
    what: str
    remedy: str = ""


# Every column that names a row of another table.
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
            "label_events", "label_verdicts", "folds", "prediction_rows", "scores", "review_tasks",
            "reviews", "clip_state", "clip_scores",
        )
    ),
    *(
        (table, "run_id", "runs", "run_id")
        for table in ("label_events", "prediction_rows", "prediction_files", "scores")
    ),
    ("batches", "undoes", "batches", "batch_id"),
    ("runs", "nullif(as_of, 0)", "batches", "batch_id"),
    ("runs", "unnest(parents)", "runs", "run_id"),
    ("runs", "unnest(trained_on)", "clips", "clip_id"),
    ("runs", "fold_set", "folds", "fold_set"),
    ("label_verdicts", "class_id", "classes", "class_id"),
    ("scores", "nullif(class_id, -1)", "classes", "class_id"),
    ("label_events", "unnest(labels)", "classes", "class_id"),
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

# What the events amount to, by another way than the views go.
_REPLAYED = """
select clip_id, event_id, batch_id, state, labels, source, run_id, iteration, score, made_at
from (
    select *, row_number() over (partition by clip_id order by event_id desc) as age
    from label_events where event_id <= {last}
) where age = 1
"""
_STATES = ", ".join(f"'{state}'" for state in MACHINE_STATES)


def check_contents(con: Any) -> Iterator[Finding]:
    """Examine an open store of the newest version; every check says something."""
    session, unreadable = Session(con), find_unreadable(con)
    if unreadable:
        yield Finding("rows", PROBLEM, f"some cannot be read: {unreadable}", RESTORE)
        return
    yield Finding("rows", OK, "every row of every table can be read")
    for check in (
        _ids, _references, _replay, _maintained_state, _maintained_scores, _people, _runs,
        _label_sets, _paths, _copies, _times, _leaks,
    ):  # fmt: skip
        found = list(check(session))
        # A check that finds nothing wrong says what it looked at.
        wrong = [finding for finding in found if finding.state != OK]
        yield from wrong or (finding for finding in found if finding.what)


def _judge(
    session: Session,
    check: str,
    query: str,
    wrong: Callable[[int, str], str],
    right: str,
    *,
    state: str = PROBLEM,
    remedy: str = RESTORE,
) -> Finding:
    """A finding about the rows of a query, which should have none: how many and the first few."""
    rows = session.rows(f"select *, count(*) over () from ({query}) limit {_NAMED}")
    if not rows:
        return Finding(check, OK, right)
    n = rows[0][-1]
    named = ", ".join(" ".join(map(str, row[:-1])) for row in rows)
    return Finding(check, state, wrong(n, named + (", ..." if n > len(rows) else "")), remedy)


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
    yield _judge(
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
        yield _judge(
            session, "references", query,
            lambda n, named, t=table, c=shown, o=other: (  # type: ignore[misc]
                f"{t}.{c}: {n} that {o} does not know: {named}"
            ),
            "",
        )  # fmt: skip
    yield Finding("references", OK, f"{len(_REFERENCES)} columns name only rows that are there")


def _replay(session: Session) -> Iterator[Finding]:
    [(n,)] = session.rows("select count(distinct clip_id) from label_events")
    query = f"""
    with replayed as ({_REPLAYED.format(last="9223372036854775807")}),
    spelt as (select map(list(class_id), list(name)) as names from classes)
    select coalesce(r.clip_id, n.clip_id) as clip_id
    from replayed r full join labels_now n on n.clip_id = r.clip_id
    left join clips c on c.clip_id = r.clip_id cross join spelt s
    where (n.event_id, n.batch_id, n.state, n.source, n.run_id, n.iteration, n.score, n.made_at,
           n.path, n.group_name, n.subset)
        is distinct from (r.event_id, r.batch_id, r.state, r.source, r.run_id, r.iteration,
           r.score, r.made_at, c.path, c.group_name, c.subset)
    or n.labels is distinct from list_transform(r.labels, lambda x: s.names[x])
    order by 1
    """
    yield _judge(
        session, "replay", query,
        lambda n, named: f"{n} clips are not what their events make of them: {named}",
        f"labels_now is what the events make of {n} clips", remedy=REPAIR,
    )  # fmt: skip
    yield _judge(
        session, "replay",
        "select clip_id from clips where clip_id not in (select clip_id from label_events) "
        "order by 1",
        lambda n, named: f"{n} clips have no event: {named}", "",
    )  # fmt: skip


def _maintained_state(session: Session) -> Iterator[Finding]:
    marks = session.rows("select event_id, batch_id from clip_state_mark")
    [(n,)] = session.rows("select count(*) from clip_state")
    right = f"clip_state: {n} clips, what their events make of them" if n else "clip_state: empty"
    if len(marks) > 1 or (n and not marks):
        what = f"clip_state has {n} rows and {len(marks)} marks"
        yield Finding("clip_state", PROBLEM, what, REPAIR)
        return
    last = marks[0][0] if marks else -1
    query = f"""
    with replayed as ({_REPLAYED.format(last=last)})
    select distinct clip_id from (
        (from replayed except all from clip_state)
        union all (from clip_state except all from replayed)
    ) order by 1
    """
    yield _judge(
        session, "clip_state", query,
        lambda n, named: f"clip_state is not what the events make of {n} clips: {named}", right,
        remedy=REPAIR,
    )  # fmt: skip
    if marks:
        known = session.rows("select batch_id from label_events where event_id = ?", [last])
        if known != [(marks[0][1],)]:
            what = f"clip_state ends at event {last} of batch {marks[0][1]}, which is not there"
            yield Finding("clip_state", PROBLEM, what, REPAIR)


def _maintained_scores(session: Session) -> Iterator[Finding]:
    [(n, marks)] = session.rows(
        "select (select count(*) from clip_scores), (select count(*) from clip_scores_mark)"
    )
    if marks > 1 or (n and not marks):
        what = f"clip_scores has {n} rows and {marks} marks"
        yield Finding("clip_scores", PROBLEM, what, REPAIR)
        return
    query = f"""
    with late as (select run_id, kind, batch_id, coalesce(iteration, -1) as iteration from runs
                  where batch_id <= {SCORES_MARK}),
    replayed as (
        select clip_id,
               max_by(value, (batch_id, iteration, run_id)) filter (metric = 'fusion') as fusion,
               max_by(value, (batch_id, iteration, run_id)) filter (metric = 'lwlrap') as lwlrap,
               max_by(value, (batch_id, iteration, run_id)) filter (metric = 'self_confidence')
                   as self_confidence
        from scores join late using (run_id) where class_id = -1 group by clip_id
    ),
    judged as (
        select clip_id, max_by(top_class, (batch_id, iteration, run_id)) as top_class
        from predictions join late using (run_id) group by clip_id
    ),
    wanted as (
        select clip_id, path, fusion, lwlrap, self_confidence, top_class
        from replayed full join judged using (clip_id) join clips using (clip_id)
        where exists (from clip_scores_mark)
    ),
    kept as (select clip_id, path, fusion, lwlrap, self_confidence, top_class from clip_scores)
    select distinct clip_id from (
        (from wanted except all from kept) union all (from kept except all from wanted)
    ) order by 1
    """
    yield _judge(
        session, "clip_scores", query,
        lambda n, named: f"clip_scores is not what the runs say of {n} clips: {named}",
        f"clip_scores: {n} clips, what their runs say" if n else "clip_scores: empty",
        remedy=REPAIR,
    )  # fmt: skip


def _people(session: Session) -> Iterator[Finding]:
    query = f"""
    select event_id from (
        select e.event_id, e.state, b.by_person,
               lag(e.state) over (partition by e.clip_id order by e.event_id) as before
        from label_events e join batches b on b.batch_id = e.batch_id
    ) where not by_person and (state not in ({_STATES}) or before not in ({_STATES}))
    order by 1
    """
    yield _judge(
        session, "people first", query,
        lambda n, named: f"a machine decided over a person in {n} events: {named}",
        "no machine decided over a person",
    )  # fmt: skip
    yield _judge(
        session, "people first",
        "select u.batch_id from batches u join batches b on b.batch_id = u.undoes "
        "where u.by_person <> b.by_person order by 1",
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
    yield _judge(
        session, "runs", query,
        lambda n, named: f"{n} runs have predictions that do not fit their classes: {named}",
        f"{n} predictions fit the classes of their runs",
    )  # fmt: skip
    yield _judge(
        session, "runs", "select run_id from runs where as_of >= batch_id order by 1",
        lambda n, named: f"{n} runs read labels of a batch not before their own: {named}", "",
    )  # fmt: skip


def _label_sets(session: Session) -> Iterator[Finding]:
    yield _judge(
        session, "label sets",
        "select event_id from label_events where len(labels) > 1 "
        "and labels <> list_sort(list_distinct(labels)) order by 1",
        lambda n, named: f"{n} events have labels out of order or twice: {named}",
        "the labels of every event are in order, each once",
    )  # fmt: skip


def _paths(session: Session) -> Iterator[Finding]:
    yield _judge(
        session, "paths",
        "select path from clips group by path having count(*) > 1 order by 1",
        lambda n, named: f"{n} paths are there twice: {named}", "every path is there once",
    )  # fmt: skip
    yield _judge(
        session, "paths",
        "select min(path) from clips group by nfc_normalize(path) "
        "having count(distinct path) > 1 order by 1",
        lambda n, named: f"{n} paths differ from others only in how accents are written: {named}",
        "", state=WARNING, remedy="rename the recordings and import again, or reject one of each",
    )  # fmt: skip


def _copies(session: Session) -> Iterator[Finding]:
    yield _judge(
        session, "recordings twice",
        "select string_agg(path, ' = ' order by path) from clips where content_hash is not null "
        "group by content_hash having count(*) > 1 order by 1",
        lambda n, named: f"{n} recordings are there under several paths: {named}",
        "no two clips have the same bytes", state=WARNING, remedy="labelkit duplicates",
    )  # fmt: skip


def _times(session: Session) -> Iterator[Finding]:
    yield _judge(
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
