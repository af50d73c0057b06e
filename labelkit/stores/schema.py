"""Tables of the label store, as numbered migrations.

A migration is a number and its statements; all that a store lacks run in one transaction
with their records in ``schema_migrations``. Existing migrations never change.
"""

from __future__ import annotations

from typing import Any

from labelkit.errors import StoreError
from labelkit.stores.catalog import are_views_old, create_views, drop_views
from labelkit.stores.materialised import rebuild_state
from labelkit.stores.session import Session

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
"""

# The newest event and the newest scores of each clip, maintained in steps (stores/materialised.py):
# what came after a mark is looked up. Runs too large for the store lie beside it. What a run
# says comes in one batch with the run, which is checked as a whole: a key of its own would
# hold ten million entries in memory.
_GROWTH = """
create table store_info (store_id varchar not null, made_at timestamp not null);
insert into store_info values (uuid()::varchar, now() at time zone 'utc');

create table clip_state (
    clip_id bigint not null,
    event_id bigint not null,
    batch_id bigint not null,
    state varchar not null,
    labels integer[] not null,
    source varchar not null,
    run_id varchar,
    iteration integer,
    score double,
    made_at timestamp not null
);
create table clip_state_mark (event_id bigint not null, batch_id bigint not null);
create table clip_scores (
    clip_id bigint not null,
    path varchar not null,
    fusion double,
    fused bigint,
    lwlrap double,
    self_confidence double,
    trained bigint,
    top_class integer,
    judge varchar
);
create table clip_scores_mark (batch_id bigint not null);

create table prediction_rows (
    run_id varchar not null,
    clip_id bigint not null,
    probs float[] not null,
    top_class integer not null
);
insert into prediction_rows
select run_id, clip_id, probs, coalesce(list_position(probs, list_max(probs)) - 1, 0)
from predictions;
drop table predictions;

create table scores_anew (
    run_id varchar not null,
    clip_id bigint not null,
    class_id integer not null default -1,
    metric varchar not null,
    value double not null check (isfinite(value))
);
insert into scores_anew select * from scores;
drop table scores;
alter table scores_anew rename to scores;

create table prediction_files (
    run_id varchar primary key,
    file varchar not null,
    n_clips bigint not null
);
"""

# What a run would give each clip it scored, and why. Of earlier runs the most probable class is
# known and no reason; runs too large for the store suggest nothing until they are scored anew.
_SUGGESTIONS = """
create table suggestions (
    run_id varchar not null,
    clip_id bigint not null,
    given integer[],
    suggested integer[] not null,
    reason varchar
);
insert into suggestions
select p.run_id, p.clip_id, null, [p.top_class], null
from prediction_rows p join runs r on r.run_id = p.run_id join clips c on c.clip_id = p.clip_id
where c.subset = 'train' order by r.batch_id, p.run_id, p.clip_id;
alter table clip_scores drop column top_class;
delete from clip_scores;
delete from clip_scores_mark;
"""

# What is written stays as it was said, under names of its own; what it comes to today, with classes
# renamed or merged and clips moved or taken back, are the views of stores/standing.py. Paths and
# names may come again, so they are unique among what stands alone, which an append looks after.
# Whether a clip has one label or several is a fact of the project from now on; until now it was
# guessed from the rows.
_STANDING = """
create table clip_rows (
    clip_id bigint primary key,
    path varchar not null,
    content_hash varchar,
    duration_s double,
    group_name varchar,
    subset varchar not null check (subset in ('train', 'test')),
    batch_id bigint not null
);
insert into clip_rows select * from clips order by clip_id;
drop table clips;
create table class_rows (
    class_id integer primary key,
    name varchar not null,
    batch_id bigint not null
);
insert into class_rows select * from classes order by class_id;
drop table classes;
alter table label_events rename to event_rows;
alter table label_verdicts rename to verdict_rows;
alter table folds rename to fold_rows;
alter table scores rename to score_rows;
alter table suggestions rename to suggestion_rows;
alter table review_tasks rename to review_task_rows;
alter table reviews rename to review_rows;
alter table clip_state rename to state_rows;

create table class_changes (
    batch_id bigint not null,
    class_id integer not null,
    name varchar not null,
    into_id integer,
    retired boolean not null
);
create table clip_changes (
    batch_id bigint not null,
    clip_id bigint not null,
    path varchar not null,
    gone boolean not null
);
create table facts (
    batch_id bigint not null,
    name varchar not null,
    value varchar
);
insert into facts
select min(batch_id), 'labels', case when exists (
    -- A slip in Label Studio that was set right since does not count.
    from event_rows e join batches b on b.batch_id = e.batch_id
    where len(e.labels) > 1 and (b.kind not in ('review', 'undo') or e.event_id in (
        select max(event_id) from event_rows group by clip_id
    ))
) then 'several' else 'one' end
from clip_rows having count(*) > 0;
"""

# What a clip may be parted from others by, where somebody asks for it: its speaker, site, device.
# A column of the rows, as it came in with the clip and never changes.
_DOMAINS = """
alter table clip_rows add column domain_name varchar;
"""

# Views are no part of a migration: after the last one they are made anew (stores/catalog.py).
MIGRATIONS: list[tuple[int, str, str]] = [
    (1, "tables", _TABLES),
    (2, "views", ""),
    (3, "review_queue by fusion", ""),
    (4, "reviews in Label Studio", _REVIEWS),
    (5, "maintained state, large runs", _GROWTH),
    (6, "suggestions with their scores", _SUGGESTIONS),
    (7, "what was written, and what stands", _STANDING),
    (8, "domains of clips", _DOMAINS),
]
VERSION = MIGRATIONS[-1][0]

# What a row of each table is; docs/store.md is made of it.
ABOUT = {
    "clip_rows": "A clip as it came in. Ask `clips`.",
    "clip_changes": "That a clip lies elsewhere from a batch on, or is gone with its import.",
    "class_rows": "A class as it came in; the number that other rows name it by never changes. "
    "Ask `classes`.",
    "class_changes": "What a class is from a batch on: its name, the class (`into_id`) it was "
    "merged into, whether it was retired.",
    "facts": "What holds of the project from a batch on: `labels`, whether a clip has one or "
    "several.",
    "batches": "One atomic append: the caller's key, who and why, when (UTC), by which version; "
    "`undoes` names the batch it takes back.",
    "event_rows": "What became of a clip, with the numbers of classes that were then. Ask "
    "`label_events`.",
    "verdict_rows": "What somebody said of a clip and class, likewise. Ask `label_verdicts`.",
    "fold_rows": "The fold of a clip in a fold set, also of clips that are gone. Ask `folds`.",
    "runs": "A finished training or selection: settings, seed, classes, the batch whose labels it "
    "read (`as_of`), the clips it was trained on, the runs it started from, metrics (JSON).",
    "prediction_rows": "Probabilities of a run for a clip, in the order of the run's classes, and "
    "the place of the most probable class among these. Ask `predictions`, which has large runs, "
    "too, or `predictions_long`, which knows classes by their names of today.",
    "prediction_files": "A run whose predictions lie beside the store as Parquet.",
    "score_rows": "A number for a run and clip, or a run, clip and class. Ask `scores`.",
    "suggestion_rows": "What a run would give a clip it scored. Ask `suggestions`.",
    "review_projects": "A project in Label Studio as it was set up; the last one is in force.",
    "review_task_rows": "A clip as it was sent to Label Studio. Ask `review_tasks`.",
    "review_rows": "One version of an answer from Label Studio. Ask `reviews`.",
    "review_pulls": "A complete pull, and up to when it went.",
    "state_rows": "The newest event of each clip up to the mark, kept for speed. Ask "
    "`current_events`.",
    "clip_state_mark": "Up to which event and batch `clip_state` goes.",
    "clip_scores": "The newest scores of each clip, and the run whose suggestion is the newest, by "
    "runs up to the mark; kept for speed. Ask `newest_scores`.",
    "clip_scores_mark": "Up to which batch `clip_scores` goes.",
    "store_info": "The name of the store, which its copies share.",
    "schema_migrations": "Versions of these tables, and when they were made.",
}


def version(con: Any) -> int:
    """Read the number of the last migration of an open store; 0 for an empty file."""
    import duckdb

    try:
        # No function is called: one of somebody's might answer.
        rows = con.execute("select number from schema_migrations").fetchall()
        return max((int(number) for (number,) in rows), default=0)
    except duckdb.CatalogException:
        return 0


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
    """Bring an open store to the newest tables and views, all or nothing.

    Raises:
        StoreError: If the store is newer than this labelkit, or a step fails; nothing of
            it is kept then.
    """
    found = version(con)
    if found > VERSION:
        check_version(con, name)
    if found == VERSION and not are_views_old(con):
        return
    con.execute("begin")
    try:
        con.execute(
            "create table if not exists schema_migrations "
            "(number integer primary key, name varchar not null, applied_at timestamp not null)"
        )
        drop_views(con)
        for number, title, statements in MIGRATIONS[found:]:
            if statements:
                con.execute(statements)
            con.execute(
                "insert into schema_migrations values (?, ?, now() at time zone 'utc')",
                [number, title],
            )
        create_views(con)
        if found < VERSION:
            # What is maintained is made by asking the views.
            rebuild_state(Session(con))
        con.execute("commit")
    except Exception:
        con.execute("rollback")
        raise
