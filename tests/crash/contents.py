"""What a store holds, batch by batch and replayed, worked out without labelkit's own views."""

import json

import numpy as np

PEOPLE = ("verified", "relabeled", "rejected")
_COUNTS = """
with e as (
    select batch_id, count(*) as n,
           bit_xor(hash(event_id, clip_id, state, labels, source, run_id, score)) as content
    from label_events where batch_id > $after group by batch_id
),
v as (
    select batch_id, count(*) as n, bit_xor(hash(verdict_id, clip_id, class_id, verdict)) as content
    from label_verdicts where batch_id > $after group by batch_id
),
c as (select batch_id, count(*) as n from clips where batch_id > $after group by batch_id),
a as (select batch_id, count(*) as n from reviews where batch_id > $after group by batch_id),
p as (
    select r.batch_id, count(distinct r.run_id) as runs, count(*) as n,
           bit_xor(hash(p.run_id, p.clip_id, p.probs)) as content
    from runs r left join prediction_rows p on p.run_id = r.run_id
    where r.batch_id > $after group by r.batch_id
),
s as (
    select r.batch_id, count(*) as n,
           bit_xor(hash(s.run_id, s.clip_id, s.class_id, s.metric, s.value)) as content
    from runs r join scores s on s.run_id = r.run_id
    where r.batch_id > $after group by r.batch_id
),
f as (
    select batch_id, count(*) as n, bit_xor(hash(fold_set, clip_id, fold)) as content
    from folds where batch_id > $after group by batch_id
),
l as (
    select r.batch_id, count(*) as n, bit_xor(hash(l.run_id, l.file, l.n_clips)) as content
    from runs r join prediction_files l on l.run_id = r.run_id
    where r.batch_id > $after group by r.batch_id
)
select b.batch_id, b.batch_key, coalesce(e.n, 0), e.content::varchar, coalesce(v.n, 0),
       v.content::varchar, coalesce(c.n, 0), coalesce(a.n, 0), coalesce(p.runs, 0),
       coalesce(p.n, 0), p.content::varchar, coalesce(s.n, 0), s.content::varchar,
       coalesce(f.n, 0), f.content::varchar, coalesce(l.n, 0), l.content::varchar
from batches b
left join e on e.batch_id = b.batch_id left join v on v.batch_id = b.batch_id
left join c on c.batch_id = b.batch_id left join a on a.batch_id = b.batch_id
left join p on p.batch_id = b.batch_id left join s on s.batch_id = b.batch_id
left join f on f.batch_id = b.batch_id left join l on l.batch_id = b.batch_id
where b.batch_id > $after order by b.batch_id
"""


def batch_contents(con, after=0):
    """Of each batch: id, key, number of events, a sum over them, and so on for all it brought.

    Rows without a batch of their own are those of the run that brought them.
    """
    return [list(row) for row in con.execute(_COUNTS, {"after": after}).fetchall()]


def read_notes(path):
    """What children noted: batches that were acknowledged, and what was wanted of which key."""
    batches, wanted = {}, {}
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        if line.endswith(b"\n"):
            kind, *said = json.loads(line)
            if kind == "batch":
                batches[said[0]] = said
            elif kind == "wanted":
                wanted[said[0]] = said[1]
    return batches, wanted


def find_faults(con):
    """All that is wrong with an open store: gaps, broken rules, views that say another thing."""
    faults = []
    for table, column, first in (
        ("batches", "batch_id", 1),
        ("label_events", "event_id", 0),
        ("label_verdicts", "verdict_id", 0),
        ("clips", "clip_id", 0),
    ):
        found = con.execute(
            f"select count(*), count(distinct {column}), coalesce(min({column}), {first}), "
            f"coalesce(max({column}), {first} - 1) from {table}"
        ).fetchone()
        if found != (found[0], found[0], first, first + found[0] - 1):
            faults.append(f"{table}.{column} has gaps or doubles: {found}")
    for table in ("label_events", "label_verdicts", "clips", "classes", "folds", "runs", "reviews"):
        orphans = con.execute(
            f"select count(*) from {table} t anti join batches b on b.batch_id = t.batch_id"
        ).fetchone()[0]
        if orphans:
            faults.append(f"{table}: {orphans} rows of no batch")
    return faults + _replay_faults(con)


def _replay_faults(con):
    events = con.execute(
        "select event_id, clip_id, state, by_person from label_events "
        "join batches using (batch_id) order by event_id"
    ).fetchnumpy()
    clip_ids, by_person = np.asarray(events["clip_id"]), np.asarray(events["by_person"])
    decided = np.isin(np.asarray(events["state"], str), PEOPLE)
    # The event of the same clip before each one: neighbours once sorted by clip, stably.
    order = np.argsort(clip_ids, kind="stable")
    same = clip_ids[order][1:] == clip_ids[order][:-1]
    before = np.zeros(len(order), bool)
    before[order[1:][same]] = decided[order[:-1][same]]
    faults = []
    if (odd := ~by_person & (decided | before)).any():
        faults.append(f"a machine decided over a person: event {np.flatnonzero(odd)[0]}")
    last = {int(clip): number for number, clip in enumerate(clip_ids.tolist())}
    said = {
        clip: (number, state, labels)
        for clip, number, state, labels in con.execute(
            "select clip_id, event_id, state, labels from label_events where event_id in "
            "(select unnest(?))",
            [list(last.values())],
        ).fetchall()
    }
    names = [
        name for (name,) in con.execute("select name from classes order by class_id").fetchall()
    ]
    expected = {
        clip: (number, state, [names[k] for k in labels])
        for clip, (number, state, labels) in said.items()
    }
    now = con.execute("select clip_id, event_id, state, labels from labels_now").fetchall()
    if {clip: tuple(rest) for clip, *rest in now} != expected or len(now) != len(expected):
        faults.append("labels_now is not what the events lead to")
    mark = con.execute("select event_id from clip_state_mark").fetchall()
    upto = {int(c): k for k, c in enumerate(clip_ids[: mark[0][0] + 1].tolist())} if mark else {}
    kept = con.execute(
        "select s.clip_id, s.event_id, s = {'clip_id': e.clip_id, 'event_id': e.event_id, "
        "'batch_id': e.batch_id, 'state': e.state, 'labels': e.labels, 'source': e.source, "
        "'run_id': e.run_id, 'iteration': e.iteration, 'score': e.score, 'made_at': e.made_at} "
        "from clip_state s left join label_events e on e.event_id = s.event_id"
    ).fetchall()
    if len(mark) > 1 or sorted(kept) != [(c, k, True) for c, k in sorted(upto.items())]:
        faults.append("clip_state is not what the events up to its mark lead to")
    return faults


# What differs between work that was stopped and work that was not, besides times and the name
# of the store: the label batch that a run went on from, in its row and in its signature.
_SHOWN = {
    "metrics": r"regexp_replace(metrics, 'labels at batch \d+', '')",
    "as_of": "null",
}


def everything(con):
    """All rows of all tables, without what stopping and going on may change."""
    tables = con.execute(
        "select table_name, list(column_name order by column_index) from duckdb_columns() "
        "where not internal and data_type <> 'TIMESTAMP' and table_name in "
        "(select table_name from duckdb_tables()) and table_name not in "
        "('store_info', 'schema_migrations') group by table_name order by table_name"
    ).fetchall()
    found = {}
    for table, columns in tables:
        shown = ", ".join(_SHOWN.get(name, name) for name in columns)
        found[table] = con.execute(f"select {shown} from {table} order by all").fetchall()
    return found
