-- A small label store of schema version 7, as labelkit wrote it then: every statement that makes it anew.
CREATE TABLE batches(batch_id BIGINT PRIMARY KEY, batch_key VARCHAR NOT NULL UNIQUE, kind VARCHAR NOT NULL, actor VARCHAR NOT NULL, by_person BOOLEAN NOT NULL, reason VARCHAR NOT NULL, run_id VARCHAR, undoes BIGINT, tool_version VARCHAR NOT NULL, made_at TIMESTAMP NOT NULL);
CREATE TABLE class_changes(batch_id BIGINT NOT NULL, class_id INTEGER NOT NULL, "name" VARCHAR NOT NULL, into_id INTEGER, retired BOOLEAN NOT NULL);
CREATE TABLE class_rows(class_id INTEGER PRIMARY KEY, "name" VARCHAR NOT NULL, batch_id BIGINT NOT NULL);
CREATE TABLE clip_changes(batch_id BIGINT NOT NULL, clip_id BIGINT NOT NULL, path VARCHAR NOT NULL, gone BOOLEAN NOT NULL);
CREATE TABLE clip_rows(clip_id BIGINT PRIMARY KEY, path VARCHAR NOT NULL, content_hash VARCHAR, duration_s DOUBLE, group_name VARCHAR, subset VARCHAR NOT NULL, batch_id BIGINT NOT NULL, CHECK((subset IN ('train', 'test'))));
CREATE TABLE clip_scores(clip_id BIGINT NOT NULL, path VARCHAR NOT NULL, fusion DOUBLE, fused BIGINT, lwlrap DOUBLE, self_confidence DOUBLE, trained BIGINT, judge VARCHAR);
CREATE TABLE clip_scores_mark(batch_id BIGINT NOT NULL);
CREATE TABLE clip_state_mark(event_id BIGINT NOT NULL, batch_id BIGINT NOT NULL);
CREATE TABLE event_rows(event_id BIGINT PRIMARY KEY, batch_id BIGINT NOT NULL, clip_id BIGINT NOT NULL, state VARCHAR NOT NULL, labels INTEGER[] NOT NULL, "source" VARCHAR NOT NULL, run_id VARCHAR, iteration INTEGER, score DOUBLE, evidence VARCHAR, made_at TIMESTAMP NOT NULL, CHECK((state IN ('unverified', 'verified', 'self_verified', 'relabeled', 'rejected'))), CHECK(isfinite(score)));
CREATE TABLE facts(batch_id BIGINT NOT NULL, "name" VARCHAR NOT NULL, "value" VARCHAR);
CREATE TABLE fold_rows(fold_set VARCHAR, clip_id BIGINT, fold INTEGER NOT NULL, batch_id BIGINT NOT NULL, CHECK((fold >= 0)), PRIMARY KEY(fold_set, clip_id));
CREATE TABLE prediction_files(run_id VARCHAR PRIMARY KEY, file VARCHAR NOT NULL, n_clips BIGINT NOT NULL);
CREATE TABLE prediction_rows(run_id VARCHAR NOT NULL, clip_id BIGINT NOT NULL, probs FLOAT[] NOT NULL, top_class INTEGER NOT NULL);
CREATE TABLE review_projects(setup_id BIGINT PRIMARY KEY, project VARCHAR NOT NULL, url VARCHAR NOT NULL, project_id BIGINT NOT NULL, title VARCHAR NOT NULL, page VARCHAR NOT NULL, page_hash VARCHAR NOT NULL, settings VARCHAR NOT NULL, batch_id BIGINT NOT NULL);
CREATE TABLE review_pulls(project VARCHAR NOT NULL, watermark TIMESTAMP NOT NULL, batch_id BIGINT NOT NULL);
CREATE TABLE review_rows(review_id BIGINT PRIMARY KEY, project VARCHAR NOT NULL, task_id BIGINT NOT NULL, annotation_id BIGINT NOT NULL, updated_at TIMESTAMP NOT NULL, clip_id BIGINT, annotator_id BIGINT, annotator VARCHAR NOT NULL, answer VARCHAR NOT NULL, labels INTEGER[] NOT NULL, "comment" VARCHAR, origin VARCHAR, model_version VARCHAR, lead_time_s DOUBLE, problem VARCHAR, raw VARCHAR NOT NULL, batch_id BIGINT NOT NULL, CHECK((answer IN ('labels', 'none', 'unsure', 'no_sound', 'skipped', 'quarantined', 'deleted', 'task_deleted'))));
CREATE TABLE review_task_rows(project VARCHAR NOT NULL, task_id BIGINT NOT NULL, clip_id BIGINT NOT NULL, model_version VARCHAR NOT NULL, score DOUBLE NOT NULL, suggested INTEGER[] NOT NULL, page_hash VARCHAR NOT NULL, batch_id BIGINT NOT NULL, CHECK(isfinite(score)));
CREATE TABLE runs(run_id VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, part_of VARCHAR, recipe VARCHAR NOT NULL, settings VARCHAR NOT NULL, seed BIGINT NOT NULL, classes VARCHAR[] NOT NULL, as_of BIGINT NOT NULL, fold_set VARCHAR, fold INTEGER, iteration INTEGER, parents VARCHAR[] NOT NULL, trained_on BIGINT[] NOT NULL, metrics VARCHAR NOT NULL, versions VARCHAR NOT NULL, batch_id BIGINT NOT NULL, finished_at TIMESTAMP NOT NULL);
CREATE TABLE schema_migrations(number INTEGER PRIMARY KEY, "name" VARCHAR NOT NULL, applied_at TIMESTAMP NOT NULL);
CREATE TABLE score_rows(run_id VARCHAR NOT NULL, clip_id BIGINT NOT NULL, class_id INTEGER DEFAULT(-1) NOT NULL, metric VARCHAR NOT NULL, "value" DOUBLE NOT NULL, CHECK(isfinite("value")));
CREATE TABLE state_rows(clip_id BIGINT NOT NULL, event_id BIGINT NOT NULL, batch_id BIGINT NOT NULL, state VARCHAR NOT NULL, labels INTEGER[] NOT NULL, "source" VARCHAR NOT NULL, run_id VARCHAR, iteration INTEGER, score DOUBLE, made_at TIMESTAMP NOT NULL);
CREATE TABLE store_info(store_id VARCHAR NOT NULL, made_at TIMESTAMP NOT NULL);
CREATE TABLE suggestion_rows(run_id VARCHAR NOT NULL, clip_id BIGINT NOT NULL, given INTEGER[], suggested INTEGER[] NOT NULL, reason VARCHAR);
CREATE TABLE verdict_rows(verdict_id BIGINT PRIMARY KEY, batch_id BIGINT NOT NULL, clip_id BIGINT NOT NULL, class_id INTEGER NOT NULL, start_s DOUBLE, end_s DOUBLE, verdict VARCHAR NOT NULL, "rule" VARCHAR NOT NULL, score DOUBLE, CHECK((verdict IN ('present', 'absent', 'unsure', 'withdrawn'))), CHECK(isfinite(score)), CHECK((((start_s IS NULL) = (end_s IS NULL)) AND COALESCE((start_s < end_s), true))));
insert into batches values (1, 'import:0:a', 'import', 'ana', true, 'csv a.csv', NULL, NULL, '0.1.0', '2026-11-21 10:08:34.364634'), (2, 'train-1/end', 'train', 'labelkit', false, 'train', 'train-1', NULL, '0.1.0', '2026-11-21 10:08:34.511238'), (3, 'v/1', 'verify', 'labelkit', false, 'rule 0.7', 'train-1', NULL, '0.1.0', '2026-11-21 10:08:34.651863'), (4, 'corr:1', 'import', 'ana', true, 'corrections c.json', NULL, NULL, '0.1.0', '2026-11-21 10:08:34.732876'), (5, 'undo:3', 'undo', 'bo', false, 'takes back batch 3: rule 0.7', NULL, 3, '0.1.0', '2026-11-21 10:08:34.822028'), (6, 'review/init', 'review_init', 'ana', true, 'csv a.csv', NULL, NULL, '0.1.0', '2026-11-21 10:08:34.934842'), (7, 'push/1', 'push', 'ana', false, 'csv a.csv', NULL, NULL, '0.1.0', '2026-11-21 10:08:35.016438'), (8, 'review/1', 'review', 'cy', true, 'answers', NULL, NULL, '0.1.0', '2026-11-21 10:08:35.135495');
insert into class_rows values (0, 'Cat', 1), (1, 'Dog', 1);
insert into clip_rows values (0, 'dog/0.wav', 'h0', 1.5, 'g0', 'train', 1), (1, 'dog/1.wav', 'h1', 2.5, 'g0', 'train', 1), (2, 'dog/2.wav', 'h2', 3.5, 'g1', 'train', 1), (3, 'dog/3.wav', 'h3', 4.5, 'g1', 'train', 1), (4, 'dog/4.wav', 'h4', 5.5, 'g2', 'train', 1), (5, 'dog/5.wav', 'h5', 6.5, 'g2', 'train', 1), (6, 'tëst/löcked ''x''.wav', NULL, NULL, NULL, 'test', 1);
insert into event_rows values (0, 1, 0, 'verified', [0, 1], 'import', NULL, NULL, NULL, NULL, '2026-11-21 10:08:34.364634'), (1, 1, 1, 'verified', [1], 'import', NULL, NULL, NULL, NULL, '2026-11-21 10:08:34.364634'), (10, 5, 3, 'unverified', [1], 'undo', NULL, NULL, NULL, '{"undoes": 3}', '2026-11-21 10:08:34.822028'), (11, 8, 5, 'relabeled', [0, 1], 'label_studio', NULL, NULL, NULL, '{"answered_at": "2026-01-02T03:04:05", "project": "p", "task": 7}', '2026-11-21 10:08:35.135495'), (2, 1, 2, 'verified', [0, 1], 'import', NULL, NULL, NULL, NULL, '2026-11-21 10:08:34.364634'), (3, 1, 3, 'unverified', [1], 'import', NULL, NULL, NULL, NULL, '2026-11-21 10:08:34.364634'), (4, 1, 4, 'unverified', [0, 1], 'import', NULL, NULL, NULL, NULL, '2026-11-21 10:08:34.364634'), (5, 1, 5, 'unverified', [1], 'import', NULL, NULL, NULL, NULL, '2026-11-21 10:08:34.364634'), (6, 1, 6, 'verified', [0], 'import', NULL, NULL, NULL, NULL, '2026-11-21 10:08:34.364634'), (7, 3, 3, 'self_verified', [1], 'self_verification', 'train-1', 1, 0.75, '{"fold": 1, "rule": "r"}', '2026-11-21 10:08:34.651863'), (8, 4, 4, 'relabeled', [0], 'corrections', NULL, NULL, NULL, NULL, '2026-11-21 10:08:34.732876'), (9, 4, 5, 'rejected', [], 'corrections', NULL, NULL, NULL, NULL, '2026-11-21 10:08:34.732876');
insert into facts values (1, 'labels', 'several');
insert into fold_rows values ('imported', 0, 0, 1), ('imported', 1, 0, 1), ('imported', 2, 1, 1), ('imported', 3, 1, 1), ('imported', 4, 0, 1), ('imported', 5, 0, 1);
insert into prediction_rows values ('train-1', 3, [0.25, 0.75], 1), ('train-1', 4, [0.5, 0.5], 0), ('train-1', 5, [0.75, 0.25], 0);
insert into review_projects values (0, 'p', 'http://localhost:8080', 1, 't', '<View/>', 'x', '{"blind": false}', 6);
insert into review_pulls values ('p', '2026-01-02 03:04:06', 8);
insert into review_rows values (0, 'p', 7, 3, '2026-01-02 03:04:05', 5, 2, 'cy', 'labels', [0, 1], 'é', 'changed', 'train-1', 2.5, NULL, '{"id": 3}', 8);
insert into review_task_rows values ('p', 7, 5, 'train-1', 0.5, [0], 'x', 7);
insert into runs values ('score-1', 'score', NULL, 'quick', '{}', 0, ['Cat', 'Dog'], 1, NULL, NULL, NULL, ['train-1'], [], '{}', '{"duckdb": "2.0.0", "labelkit": "0.1.0", "librosa": "0.11.0", "numpy": "2.2.6", "python": "3.11.7", "torch": "2.13.0+cpu"}', 2, '2026-11-21 10:08:34.511238'), ('train-1', 'train', NULL, 'quick', '{"seed": 1}', 1, ['Cat', 'Dog'], 1, 'imported', NULL, NULL, [], [0, 1, 2], '{"verified_accuracy": 0.75}', '{"duckdb": "2.0.0", "labelkit": "0.1.0", "librosa": "0.11.0", "numpy": "2.2.6", "python": "3.11.7", "torch": "2.13.0+cpu"}', 2, '2026-11-21 10:08:34.511238');
insert into schema_migrations values (1, 'tables', '2026-11-21 10:08:34.201862'), (2, 'views', '2026-11-21 10:08:34.222279'), (3, 'review_queue by fusion', '2026-11-21 10:08:34.232799'), (4, 'reviews in Label Studio', '2026-11-21 10:08:34.238493'), (5, 'maintained state, large runs', '2026-11-29 19:44:34.964855'), (6, 'suggestions with their scores', '2026-11-30 12:16:16.473222'), (7, 'what was written, and what stands', '2026-11-30 17:00:30.193941');
insert into score_rows values ('score-1', 3, -1, 'fusion', 0.9), ('score-1', 4, -1, 'fusion', 0.2), ('score-1', 5, -1, 'fusion', 0.1), ('train-1', 3, -1, 'lwlrap', 1.0), ('train-1', 4, -1, 'lwlrap', 0.5), ('train-1', 5, -1, 'lwlrap', 0.5);
insert into store_info values ('cc1f92ea-9439-4001-baff-dde3b4e58ffb', '2026-11-29 19:44:34.964855');
insert into suggestion_rows values ('train-1', 3, NULL, [1], NULL), ('train-1', 4, NULL, [0], NULL), ('train-1', 5, NULL, [0], NULL);
insert into verdict_rows values (0, 1, 0, 0, NULL, NULL, 'present', 'import', NULL), (1, 1, 0, 1, NULL, NULL, 'present', 'import', NULL), (10, 8, 5, 0, NULL, NULL, 'present', 'label_studio', NULL), (11, 8, 5, 1, NULL, NULL, 'present', 'label_studio', NULL), (12, 8, 3, 0, NULL, NULL, 'withdrawn', 'label_studio', NULL), (2, 1, 1, 1, NULL, NULL, 'present', 'import', NULL), (3, 1, 2, 0, NULL, NULL, 'present', 'import', NULL), (4, 1, 2, 1, NULL, NULL, 'present', 'import', NULL), (5, 1, 6, 0, NULL, NULL, 'present', 'import', NULL), (6, 3, 3, 1, NULL, NULL, 'present', 'rule 0.7', 0.75), (7, 4, 4, 0, NULL, NULL, 'present', 'corrections', NULL), (8, 4, 4, 1, NULL, NULL, 'absent', 'corrections', NULL), (9, 4, 0, 1, 0.5, 1.0, 'unsure', 'me', NULL);
create or replace view predictions as select run_id, clip_id, probs, top_class from prediction_rows;
create view clips as
select clip_id, path, content_hash, duration_s, group_name, subset, batch_id
from clip_rows;
create view classes as
select class_id as class_id, coalesce(renamed, name) as name, batch_id
from class_rows left join (
    select class_id, max_by(name, batch_id) as renamed from class_changes group by class_id
) using (class_id);
create view label_events as
select event_id, batch_id, clip_id, state, labels as labels, source, run_id, iteration,
       score, evidence, made_at
from event_rows;
create view label_verdicts as
select verdict_id, batch_id, clip_id, class_id, start_s, end_s, verdict, rule, score from (
    select * replace (class_id as class_id) from verdict_rows
    where verdict <> 'absent' or not (false)
) where class_id is not null;
create view folds as
select fold_set, clip_id, fold, batch_id from fold_rows;
create view scores as
select run_id, clip_id, class_id, metric, value from score_rows;
create view suggestions as
select run_id, clip_id, given, suggested, reason from (
    select run_id, clip_id, given as given,
           suggested as suggested, reason
    from suggestion_rows
) where len(suggested) > 0;
create view review_tasks as
select project, task_id, clip_id, model_version, score,
       suggested as suggested, page_hash, batch_id
from review_task_rows;
create view reviews as
select review_id, project, task_id, annotation_id, updated_at, clip_id, annotator_id, annotator,
       answer, labels as labels, comment, origin, model_version, lead_time_s, problem,
       raw, batch_id
from review_rows;
create view predictions_long as
select p.run_id, p.clip_id, c.path, unnest(r.classes) as class, unnest(p.probs) as probability
from predictions p
join runs r on r.run_id = p.run_id
join clips c on c.clip_id = p.clip_id;
create view clip_state as
select clip_id, event_id, batch_id, state, labels as labels, source, run_id, iteration,
       score, made_at
from state_rows;
create view taken_back as
with recursive line as (
    select undoes as batch_id, batch_id as last, 1 as n from batches where undoes is not null
    union all
    select l.batch_id, b.batch_id, n + 1 from line l join batches b on b.undoes = l.last
)
select batch_id from line group by batch_id having max(n) % 2 = 1;
create macro standing_events_but(toggled) as table
select e.event_id, e.batch_id, e.clip_id, e.state, e.labels, e.source, e.run_id, e.iteration,
       e.score, e.evidence, e.made_at, b.kind, b.actor, b.by_person, b.reason
from label_events e join batches b on b.batch_id = e.batch_id
where b.undoes is null
and (e.batch_id in (select batch_id from taken_back)) = (e.batch_id is not distinct from toggled)
-- That a task was tidied away is told, and decides nothing.
and (e.evidence is null
     or coalesce(json_extract_string(e.evidence, '$.answer'), '') <> 'task_deleted');
create view standing_events as
from standing_events_but(null::bigint);
create view current_events as
select e.clip_id, e.event_id, e.batch_id, e.state, e.labels, e.source, e.run_id, e.iteration,
       e.score, e.made_at
from label_events e
where e.event_id in (
    select max(event_id) from label_events where event_id > (select coalesce(max(event_id), -1) from clip_state_mark) group by clip_id
)
union all
select s.clip_id, s.event_id, s.batch_id, s.state, s.labels, s.source, s.run_id, s.iteration,
       s.score, s.made_at
from clip_state s
anti join (select clip_id from label_events where event_id > (select coalesce(max(event_id), -1) from clip_state_mark)) t on t.clip_id = s.clip_id;
create view label_history as
select e.event_id, e.batch_id, e.clip_id, c.path, list_select(v.names, list_transform(e.labels, lambda class_id: class_id + 1)) as labels,
       e.state, e.source, b.kind, b.actor, b.reason, e.made_at, e.run_id, e.iteration,
       e.score, e.evidence, b.by_person
from label_events e
join batches b on b.batch_id = e.batch_id
join clips c on c.clip_id = e.clip_id
left join (select coalesce(list(name order by class_id), []) as names from classes) v on true;
create view labels_now as
select c.clip_id, c.path, list_select(v.names, list_transform(e.labels, lambda class_id: class_id + 1)) as labels, e.state, e.source, e.made_at, e.run_id, e.iteration, e.score, e.event_id, e.batch_id, c.group_name, c.subset
from current_events e
join clips c on c.clip_id = e.clip_id
left join (select coalesce(list(name order by class_id), []) as names from classes) v on true;
create macro labels_at(moment) as table
with said as (
    select moment::varchar as word, try_cast(moment::varchar as bigint) as batch_id,
           try_cast(moment::varchar as TIMESTAMPTZ) at time zone 'UTC' as time,
           (select coalesce(max(batch_id), 0) from batches) as last
),
ends as (
    select case
        when batch_id between 0 and last then batch_id
        when batch_id is not null then
            error('labels_at: no batch ' || word || ', the last is ' || last)
        when time is null then
            error('labels_at: ' || coalesce(word, 'null') || ' is no batch, date or time')
        else coalesce(
            (select min(b.batch_id) - 1 from batches b where b.made_at > case
                when regexp_full_match(word, '\d+-\d+-\d+')
                then time + interval 1 day - interval 1 microsecond
                else time end),
            last)
    end as batch_id
    from said
)
select c.clip_id, c.path, list_select(v.names, list_transform(e.labels, lambda class_id: class_id + 1)) as labels, e.state, e.source, e.made_at, e.run_id, e.iteration, e.score, e.event_id, e.batch_id, c.group_name, c.subset
from label_events e
join clips c on c.clip_id = e.clip_id
left join (select coalesce(list(name order by class_id), []) as names from classes) v on true
where e.event_id in (
    select max(event_id) from label_events
    where batch_id <= (select batch_id from ends)
    group by clip_id
);
create view label_states as
with lasting as (
    select v.clip_id, v.class_id, b.actor, b.by_person, max(v.verdict_id) as verdict_id
    from label_verdicts v
    join batches b on b.batch_id = v.batch_id
    where v.start_s is null and v.batch_id not in (select batch_id from taken_back)
    group by all
),
said as (
    select l.clip_id, l.class_id, max_by(v, (l.by_person, v.verdict_id)) as v,
           max_by(l.actor, (l.by_person, v.verdict_id)) as actor, max(l.by_person) as by_person
    from lasting l
    join label_verdicts v on v.verdict_id = l.verdict_id and v.clip_id = l.clip_id
    where v.verdict <> 'withdrawn'
    group by l.clip_id, l.class_id
),
pairs as (
    select clip_id, class_id, max(given) as given, max(verdict) as verdict,
           max(by_person) as by_person, max(actor) as actor, max(rule) as rule,
           max(score) as score, max(batch_id) as batch_id
    from (
        select clip_id, unnest(labels) as class_id, true as given, null as verdict,
               null as by_person, null as actor, null as rule, null as score, null as batch_id
        from current_events
        union all
        select clip_id, class_id, false, v.verdict, by_person, actor, v.rule, v.score, v.batch_id
        from said
    )
    -- Grouped rather than joined, so that a question about one clip reads one clip.
    group by clip_id, class_id
)
select p.clip_id, c.path, k.name as class, p.given, p.verdict, p.by_person, p.actor, p.rule,
       p.score, p.batch_id, b.made_at, e.state, c.group_name, c.subset
from pairs p
join clips c on c.clip_id = p.clip_id
join classes k on k.class_id = p.class_id
join current_events e on e.clip_id = p.clip_id
left join batches b on b.batch_id = p.batch_id;
create view flips as
with told as (
    select event_id, batch_id, clip_id, labels, state, source, run_id, made_at,
           lag(labels) over of_clip as before, lag(state) over of_clip as state_before
    from label_events
    window of_clip as (partition by clip_id order by event_id)
),
changed as (
    select *, unnest(list_concat(
        list_transform(list_filter(labels, lambda x: not list_contains(before, x)),
                       lambda x: {'class_id': x, 'change': 'added'}),
        list_transform(list_filter(before, lambda x: not list_contains(labels, x)),
                       lambda x: {'class_id': x, 'change': 'removed'})
    )) as flip
    from told where before is not null and before <> labels
)
select h.clip_id, c.path, k.name as class, h.flip.change as change, h.state_before, h.state,
       h.event_id, h.batch_id, h.made_at, h.source, b.kind, b.actor, b.by_person, b.reason,
       h.run_id
from changed h
join clips c on c.clip_id = h.clip_id
join classes k on k.class_id = h.flip.class_id
join batches b on b.batch_id = h.batch_id;
create view class_summary as
with given as (
    select unnest(e.labels) as class_id, e.state, c.subset
    from current_events e join clips c on c.clip_id = e.clip_id
),
counts as (
    select class_id,
           count(*) filter (state <> 'rejected') as clips,
           count(*) filter (state = 'verified' and subset = 'train') as verified,
           count(*) filter (state = 'relabeled' and subset = 'train') as relabeled,
           count(*) filter (state = 'self_verified' and subset = 'train') as self_verified,
           count(*) filter (state = 'unverified' and subset = 'train') as unverified,
           count(*) filter (state <> 'rejected' and subset = 'test') as held_out,
           count(*) filter (state = 'rejected') as rejected
    from given group by class_id
)
select k.class_id, k.name as class, coalesce(n.clips, 0) as clips,
       coalesce(n.verified, 0) as verified, coalesce(n.relabeled, 0) as relabeled,
       coalesce(n.self_verified, 0) as self_verified, coalesce(n.unverified, 0) as unverified,
       coalesce(n.held_out, 0) as held_out, coalesce(n.rejected, 0) as rejected
from classes k left join counts n on n.class_id = k.class_id
order by k.class_id;
create view run_summary as
with judged as (select run_id, count(*) as n from predictions group by run_id),
learnt as (
    select run_id, count(distinct clip_id) as n from (
        select run_id, unnest(trained_on) as clip_id from runs
        union all
        select part_of, unnest(trained_on) from runs where part_of is not null
    ) group by run_id
)
select r.run_id, r.kind, r.recipe, r.part_of, r.iteration, r.fold, r.fold_set, r.seed, r.as_of,
       a.made_at as labels_of, coalesce(l.n, 0) as trained_on, coalesce(j.n, 0) as judged,
       coalesce(json_extract(r.metrics, '$.verified_accuracy'),
                json_extract(r.metrics, '$.verified_lwlrap'))::DOUBLE as verified_score,
       coalesce(json_extract(r.metrics, '$.test_accuracy'),
                json_extract(r.metrics, '$.test_lwlrap'))::DOUBLE as test_score,
       json_extract(r.metrics, '$.self_verified')::bigint as self_verified,
       b.actor, r.finished_at, r.batch_id, r.parents, r.settings, r.metrics
from runs r
join batches b on b.batch_id = r.batch_id
left join batches a on a.batch_id = r.as_of
left join judged j on j.run_id = r.run_id
left join learnt l on l.run_id = r.run_id
order by r.batch_id, r.run_id;
create view newest_scores as
with recency as not materialized (
    select run_id, kind, batch_id,
           row_number() over (order by batch_id, iteration nulls first, run_id) as age
    from runs where batch_id > (select coalesce(max(batch_id), 0) from clip_scores_mark) and coalesce(json_extract_string(settings, '$.of_the_past'), '') <> 'true'
),
scored as not materialized (
    select s.clip_id,
           max_by(s.value, r.age) filter (s.metric = 'fusion') as fusion,
           max(r.batch_id) filter (s.metric = 'fusion') as fused,
           max_by(s.value, r.age) filter (s.metric = 'lwlrap') as lwlrap,
           max_by(s.value, r.age) filter (s.metric = 'self_confidence') as self_confidence,
           max(r.batch_id) filter (r.kind <> 'score') as trained
    from scores s join recency r on r.run_id = s.run_id
    where s.class_id = -1
    group by s.clip_id
),
judged as not materialized (
    select g.clip_id, max(r.age) as age
    from suggestions g join recency r on r.run_id = g.run_id
    group by g.clip_id
),
tail as not materialized (
    select coalesce(s.clip_id, j.clip_id) as clip_id, s.fusion, s.fused, s.lwlrap,
           s.self_confidence, s.trained, r.run_id as judge
    from scored s
    full join judged j on j.clip_id = s.clip_id
    left join recency r on r.age = j.age
)
select t.clip_id, c.path,
       coalesce(t.fusion, k.fusion) as fusion, coalesce(t.fused, k.fused) as fused,
       coalesce(t.lwlrap, k.lwlrap) as lwlrap,
       coalesce(t.self_confidence, k.self_confidence) as self_confidence,
       coalesce(t.trained, k.trained) as trained, coalesce(t.judge, k.judge) as judge
from tail t
join clips c on c.clip_id = t.clip_id
left join clip_scores k on k.clip_id = t.clip_id
union all
select k.* from clip_scores k anti join tail t on t.clip_id = k.clip_id;
create view review_queue as
select e.clip_id, s.path, list_select(v.names, list_transform(e.labels, lambda class_id: class_id + 1)) as labels, e.state, case when s.fused >= coalesce(s.trained, 0) then s.fusion end as fusion, s.lwlrap, s.self_confidence, v.names[g.suggested[1] + 1] as suggested, case when r.kind = 'score' then r.parents[1] else r.run_id end as run_id, case when g.given = e.labels then g.reason end as reason
from current_events e
join newest_scores s on s.clip_id = e.clip_id

left join suggestions g on g.run_id = s.judge and g.clip_id = s.clip_id
left join runs r on r.run_id = s.judge

left join (select coalesce(list(name order by class_id), []) as names from classes) v on true
where e.state in ('unverified', 'self_verified') and coalesce(s.fusion, s.lwlrap, s.self_confidence) is not null
order by case when s.fused >= coalesce(s.trained, 0) then s.fusion end nulls last, case when case when s.fused >= coalesce(s.trained, 0) then s.fusion end is null then s.lwlrap else s.self_confidence end, s.self_confidence, s.clip_id;
create macro review_top(how_many) as table
with decided as (select e.clip_id from current_events e where not (e.state in ('unverified', 'self_verified'))),
top as materialized (
    select s.* from newest_scores s anti join decided d on d.clip_id = s.clip_id
    where coalesce(s.fusion, s.lwlrap, s.self_confidence) is not null
    order by case when s.fused >= coalesce(s.trained, 0) then s.fusion end nulls last, case when case when s.fused >= coalesce(s.trained, 0) then s.fusion end is null then s.lwlrap else s.self_confidence end, s.self_confidence, s.clip_id
    limit how_many
),
newest as (
    select max(e.event_id) as event_id
    from label_events e semi join top t on t.clip_id = e.clip_id
    group by e.clip_id
)
-- Labels are looked up last, for these clips only.
select e.clip_id, s.path, list_select(v.names, list_transform(e.labels, lambda class_id: class_id + 1)) as labels, e.state, case when s.fused >= coalesce(s.trained, 0) then s.fusion end as fusion, s.lwlrap, s.self_confidence, v.names[g.suggested[1] + 1] as suggested, case when r.kind = 'score' then r.parents[1] else r.run_id end as run_id, case when g.given = e.labels then g.reason end as reason
from label_events e
semi join newest n on n.event_id = e.event_id
join top s on s.clip_id = e.clip_id

left join suggestions g on g.run_id = s.judge and g.clip_id = s.clip_id
left join runs r on r.run_id = s.judge

left join (select coalesce(list(name order by class_id), []) as names from classes) v on true
order by case when s.fused >= coalesce(s.trained, 0) then s.fusion end nulls last, case when case when s.fused >= coalesce(s.trained, 0) then s.fusion end is null then s.lwlrap else s.self_confidence end, s.self_confidence, s.clip_id;
create view reviews_now as
with newest as (
    select *, row_number() over (
               partition by project, annotation_id, clip_id order by review_id desc
           ) as age,
           -- Of another clip is another answer; of none that was known is the same one.
           max(review_id) over (partition by project, annotation_id, task_id) as last
    from reviews
    where answer <> 'task_deleted' and batch_id not in (select batch_id from taken_back)
)
select r.review_id, r.clip_id, c.path, r.annotator, r.answer, list_select(v.names, list_transform(r.labels, lambda class_id: class_id + 1)) as labels,
       r.comment, r.origin, r.model_version, r.lead_time_s, r.updated_at, r.project, r.task_id,
       r.annotation_id, r.annotator_id, r.problem, r.raw, r.batch_id
from newest r
left join clips c on c.clip_id = r.clip_id
left join (select coalesce(list(name order by class_id), []) as names from classes) v on true
where r.age = 1 and r.answer <> 'deleted' and (r.clip_id is not null or r.review_id = r.last)
and not exists (select 1 from reviews d where d.answer = 'task_deleted' and d.project = r.project and d.task_id = r.task_id and d.clip_id is not distinct from r.clip_id and d.batch_id > r.batch_id and d.batch_id not in (select batch_id from taken_back));
create view quarantine as
select review_id, path, annotator, problem, raw, updated_at, project, task_id, annotation_id
from reviews_now where answer = 'quarantined' order by review_id;
create view disagreements as
with newest as (
    select d.clip_id, d.class_id, b.actor, d.verdict,
           row_number() over (
               partition by d.clip_id, d.class_id, b.actor order by d.verdict_id desc
           ) as age
    from label_verdicts d
    join batches b on b.batch_id = d.batch_id
    where b.by_person and d.start_s is null
    and d.batch_id not in (select batch_id from taken_back)
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
comment on view taken_back is '0f51bf2951c2e201bb4e85eb9a5ea0d5ccb8ed026e6c212f8823ea490980cd40';
