"""Tables, views and macros of the label store, as numbered migrations.

A migration is a number and its statements; it runs in one transaction with its own
record in ``schema_migrations``. Existing migrations never change.
"""

from __future__ import annotations

from typing import Any

from labelkit.errors import StoreError

_TABLES = """
create table clips (
    clip_id bigint primary key,
    path varchar not null unique,
    content_hash varchar,
    duration_s double,
    group_name varchar,
    subset varchar not null check (subset in ('train', 'test')),
    batch_id bigint not null
);
create table classes (
    class_id integer primary key,
    name varchar not null unique,
    batch_id bigint not null
);
create table batches (
    batch_id bigint primary key,
    batch_key varchar not null unique,
    kind varchar not null,
    actor varchar not null,
    by_person boolean not null,
    reason varchar not null,
    run_id varchar,
    undoes bigint,
    tool_version varchar not null,
    made_at timestamp not null
);
create table label_events (
    event_id bigint primary key,
    batch_id bigint not null,
    clip_id bigint not null,
    state varchar not null
        check (state in ('unverified', 'verified', 'self_verified', 'relabeled', 'rejected')),
    labels integer[] not null,
    source varchar not null,
    run_id varchar,
    iteration integer,
    score double check (isfinite(score)),
    evidence varchar,
    made_at timestamp not null
);
create table label_verdicts (
    verdict_id bigint primary key,
    batch_id bigint not null,
    clip_id bigint not null,
    class_id integer not null,
    start_s double,
    end_s double,
    verdict varchar not null check (verdict in ('present', 'absent', 'unsure')),
    rule varchar not null,
    score double check (isfinite(score)),
    check ((start_s is null) = (end_s is null) and coalesce(start_s < end_s, true))
);
create table folds (
    fold_set varchar not null,
    clip_id bigint not null,
    fold integer not null check (fold >= 0),
    batch_id bigint not null,
    primary key (fold_set, clip_id)
);
create table runs (
    run_id varchar primary key,
    kind varchar not null,
    part_of varchar,
    recipe varchar not null,
    settings varchar not null,
    seed bigint not null,
    classes varchar[] not null,
    as_of bigint not null,
    fold_set varchar,
    fold integer,
    iteration integer,
    parents varchar[] not null,
    trained_on bigint[] not null,
    metrics varchar not null,
    versions varchar not null,
    batch_id bigint not null,
    finished_at timestamp not null
);
create table predictions (
    run_id varchar not null,
    clip_id bigint not null,
    probs float[] not null,
    primary key (run_id, clip_id)
);
create table scores (
    run_id varchar not null,
    clip_id bigint not null,
    class_id integer not null default -1,
    metric varchar not null,
    value double not null check (isfinite(value)),
    primary key (run_id, clip_id, class_id, metric)
);
create table review_tasks (
    task_id bigint not null,
    project_id bigint not null,
    clip_id bigint not null,
    model_version varchar,
    config_hash varchar not null,
    batch_id bigint not null,
    primary key (project_id, task_id)
);
create table reviews (
    annotation_id bigint not null,
    updated_at timestamp not null,
    project_id bigint not null,
    task_id bigint not null,
    clip_id bigint,
    raw varchar not null,
    batch_id bigint not null,
    primary key (annotation_id, updated_at)
);
create table quarantine (
    quarantine_id bigint primary key,
    annotation_id bigint not null,
    clip_id bigint,
    reason varchar not null,
    raw varchar not null,
    batch_id bigint not null
);
"""

# An event with its names spelt out. The names are selected from one list rather than
# joined per label, which stays fast on millions of events.
_VIEWS = """
create view label_history as
with vocabulary as (select list(name order by class_id) as names from classes)
select e.event_id, e.batch_id, e.clip_id, c.path,
       list_select(v.names, list_transform(e.labels, lambda class_id: class_id + 1)) as labels,
       e.state, e.source, b.kind, b.actor, b.reason, e.made_at, e.run_id, e.iteration,
       e.score, e.evidence
from label_events e
join batches b on b.batch_id = e.batch_id
join clips c on c.clip_id = e.clip_id
cross join vocabulary v;

create view labels_now as
select h.clip_id, h.path, h.labels, h.state, h.source, h.made_at, h.run_id, h.iteration, h.score,
       h.event_id, h.batch_id, c.group_name, c.subset
from label_history h
join clips c on c.clip_id = h.clip_id
where h.event_id in (select max(event_id) from label_events group by clip_id);

create macro labels_at(moment) as table
select h.clip_id, h.path, h.labels, h.state, h.source, h.made_at, h.run_id, h.iteration, h.score,
       h.event_id, h.batch_id, c.group_name, c.subset
from label_history h
join clips c on c.clip_id = h.clip_id
where h.event_id in (
    select max(event_id) from label_events
    where batch_id <= try_cast(moment::varchar as bigint)
       or made_at <= try_cast(moment::varchar as timestamp)
    group by clip_id
);

create view review_queue as
with aged as (
    select s.clip_id, s.metric, s.value, s.run_id, row_number() over (
               partition by s.clip_id, s.metric order by r.batch_id desc, r.iteration desc
           ) as age
    from scores s
    join runs r on r.run_id = s.run_id
    where s.class_id = -1
),
newest as (
    select clip_id,
           max(value) filter (where metric = 'lwlrap') as lwlrap,
           max(value) filter (where metric = 'self_confidence') as self_confidence
    from aged where age = 1 group by clip_id
),
judged as (
    select p.clip_id, max_by(p.probs, r.batch_id) as probs, max_by(p.run_id, r.batch_id) as run_id
    from predictions p
    join runs r on r.run_id = p.run_id
    group by p.clip_id
),
vocabulary as (select list(name order by class_id) as names from classes)
select n.clip_id, n.path, n.labels, n.state, s.lwlrap, s.self_confidence,
       v.names[list_position(j.probs, list_max(j.probs))] as suggested, j.run_id
from labels_now n
join newest s on s.clip_id = n.clip_id
left join judged j on j.clip_id = n.clip_id
cross join vocabulary v
where n.state in ('unverified', 'self_verified')
order by s.lwlrap, s.self_confidence, n.clip_id;

create view disagreements as
with newest as (
    select d.clip_id, d.class_id, b.actor, d.verdict,
           row_number() over (
               partition by d.clip_id, d.class_id, b.actor order by d.verdict_id desc
           ) as age
    from label_verdicts d
    join batches b on b.batch_id = d.batch_id
    where d.start_s is null
)
select n.clip_id, c.path, k.name as class,
       list(n.actor order by n.actor) filter (where n.verdict = 'present') as present,
       list(n.actor order by n.actor) filter (where n.verdict = 'absent') as absent
from newest n
join clips c on c.clip_id = n.clip_id
join classes k on k.class_id = n.class_id
where n.age = 1
group by n.clip_id, c.path, k.name
having present is not null and absent is not null
order by c.path, k.name;
"""

# `labelkit score` orders by the fusion of several scores, so the queue does, too.
_FUSED_QUEUE = """
drop view review_queue;
create view review_queue as
with aged as (
    select s.clip_id, s.metric, s.value, s.run_id, r.batch_id,
           max(r.batch_id) filter (r.kind <> 'score') over (partition by s.clip_id) as trained,
           row_number() over (
               partition by s.clip_id, s.metric order by r.batch_id desc, r.iteration desc
           ) as age
    from scores s
    join runs r on r.run_id = s.run_id
    where s.class_id = -1
),
newest as (
    select clip_id,
           -- A fusion older than the last training is of another judgement.
           max(value) filter (where metric = 'fusion' and batch_id >= coalesce(trained, 0))
               as fusion,
           max(value) filter (where metric = 'lwlrap') as lwlrap,
           max(value) filter (where metric = 'self_confidence') as self_confidence
    from aged where age = 1 group by clip_id
),
judged as (
    select p.clip_id, max_by(p.probs, r.batch_id) as probs, max_by(p.run_id, r.batch_id) as run_id
    from predictions p
    join runs r on r.run_id = p.run_id
    group by p.clip_id
),
vocabulary as (select list(name order by class_id) as names from classes)
select n.clip_id, n.path, n.labels, n.state, s.fusion, s.lwlrap, s.self_confidence,
       v.names[list_position(j.probs, list_max(j.probs))] as suggested, j.run_id
from labels_now n
join newest s on s.clip_id = n.clip_id
left join judged j on j.clip_id = n.clip_id
cross join vocabulary v
where n.state in ('unverified', 'self_verified')
order by s.fusion nulls last, s.lwlrap, s.self_confidence, n.clip_id;
"""

# What people answer in Label Studio: every version of it, verbatim; quarantine is what of it
# nobody could read yet. An annotator who takes an answer back says nothing any more.
_REVIEWS = """
drop table review_tasks;
drop table reviews;
drop table quarantine;

create table review_projects (
    setup_id bigint primary key,
    project varchar not null,
    url varchar not null,
    project_id bigint not null,
    title varchar not null,
    page varchar not null,
    page_hash varchar not null,
    settings varchar not null,
    batch_id bigint not null
);
create table review_tasks (
    project varchar not null,
    task_id bigint not null,
    clip_id bigint not null,
    model_version varchar not null,
    score double not null check (isfinite(score)),
    suggested integer[] not null,
    page_hash varchar not null,
    batch_id bigint not null
);
create table reviews (
    review_id bigint primary key,
    project varchar not null,
    task_id bigint not null,
    annotation_id bigint not null,
    updated_at timestamp not null,
    clip_id bigint,
    annotator_id bigint,
    annotator varchar not null,
    answer varchar not null check (answer in (
        'labels', 'none', 'unsure', 'no_sound', 'skipped', 'quarantined', 'deleted',
        'task_deleted'
    )),
    labels integer[] not null,
    comment varchar,
    origin varchar,
    model_version varchar,
    lead_time_s double,
    problem varchar,
    raw varchar not null,
    batch_id bigint not null
);
create table review_pulls (
    project varchar not null,
    watermark timestamp not null,
    batch_id bigint not null
);

create table verdicts_anew (
    verdict_id bigint primary key,
    batch_id bigint not null,
    clip_id bigint not null,
    class_id integer not null,
    start_s double,
    end_s double,
    verdict varchar not null check (verdict in ('present', 'absent', 'unsure', 'withdrawn')),
    rule varchar not null,
    score double check (isfinite(score)),
    check ((start_s is null) = (end_s is null) and coalesce(start_s < end_s, true))
);
insert into verdicts_anew select * from label_verdicts order by verdict_id;
drop table label_verdicts;
alter table verdicts_anew rename to label_verdicts;

create view taken_back as
with recursive line as (
    select undoes as batch_id, batch_id as last, 1 as n from batches where undoes is not null
    union all
    select l.batch_id, b.batch_id, n + 1 from line l join batches b on b.undoes = l.last
)
select batch_id from line group by batch_id having max(n) % 2 = 1;

create view reviews_now as
with newest as (
    select *, row_number() over (
               partition by project, annotation_id, answer = 'task_deleted'
               order by review_id desc
           ) as age
    from reviews where batch_id not in (select batch_id from taken_back)
),
vocabulary as (select list(name order by class_id) as names from classes)
select r.review_id, r.clip_id, c.path, r.annotator, r.answer,
       list_select(v.names, list_transform(r.labels, lambda class_id: class_id + 1)) as labels,
       r.comment, r.origin, r.model_version, r.lead_time_s, r.updated_at, r.project, r.task_id,
       r.annotation_id, r.annotator_id, r.problem, r.raw, r.batch_id
from newest r
left join clips c on c.clip_id = r.clip_id
cross join vocabulary v
where r.age = 1 and r.answer not in ('deleted', 'task_deleted')
and not exists (
    from newest d where d.project = r.project and d.task_id = r.task_id
    and d.answer = 'task_deleted'
);

create view quarantine as
select review_id, path, annotator, problem, raw, updated_at, project, task_id, annotation_id
from reviews_now where answer = 'quarantined' order by review_id;

drop view disagreements;
create view disagreements as
with newest as (
    select d.clip_id, d.class_id, b.actor, d.verdict,
           row_number() over (
               partition by d.clip_id, d.class_id, b.actor order by d.verdict_id desc
           ) as age
    from label_verdicts d
    join batches b on b.batch_id = d.batch_id
    where d.start_s is null and d.batch_id not in (select batch_id from taken_back)
)
select n.clip_id, c.path, k.name as class,
       list(n.actor order by n.actor) filter (where n.verdict = 'present') as present,
       list(n.actor order by n.actor) filter (where n.verdict = 'absent') as absent
from newest n
join clips c on c.clip_id = n.clip_id
join classes k on k.class_id = n.class_id
where n.age = 1
group by n.clip_id, c.path, k.name
having present is not null and absent is not null
order by c.path, k.name;
"""

MIGRATIONS: list[tuple[int, str, str]] = [
    (1, "tables", _TABLES),
    (2, "views", _VIEWS),
    (3, "review_queue by fusion", _FUSED_QUEUE),
    (4, "reviews in Label Studio", _REVIEWS),
]
VERSION = MIGRATIONS[-1][0]


def version(con: Any) -> int:
    """Number of the last migration of an open store; 0 for an empty file."""
    tables = con.execute(
        "select count(*) from duckdb_tables() where table_name = 'schema_migrations'"
    ).fetchone()[0]
    if not tables:
        return 0
    return con.execute("select coalesce(max(number), 0) from schema_migrations").fetchone()[0]


def check_version(con: Any, name: str) -> None:
    """Refuse a store that this labelkit cannot read.

    Raises:
        StoreError: If the store is newer, or older and not yet migrated.
    """
    found = version(con)
    if found > VERSION:
        raise StoreError(
            f"{name} is of schema version {found}, this labelkit knows up to {VERSION}; "
            "install a newer labelkit"
        )
    if found < VERSION:
        raise StoreError(
            f"{name} is of schema version {found}, {VERSION} is needed; "
            "bring it up with: labelkit init AUDIO_DIR"
        )


def migrate(con: Any, name: str) -> None:
    """Bring an open store to the newest version, each step whole or not at all.

    Raises:
        StoreError: If the store is newer than this labelkit.
    """
    found = version(con)
    if found > VERSION:
        check_version(con, name)
    for number, title, statements in MIGRATIONS:
        if number <= found:
            continue
        con.execute("begin")
        try:
            con.execute(
                "create table if not exists schema_migrations "
                "(number integer primary key, name varchar not null, applied_at timestamp not null)"
            )
            con.execute(statements)
            con.execute(
                "insert into schema_migrations values (?, ?, now() at time zone 'utc')",
                [number, title],
            )
            con.execute("commit")
        except Exception:
            con.execute("rollback")
            raise
