"""What people ask the store: every view and macro with what it is for, newest definition only.

Views hold no data, so a migration makes all of them anew. The same statements, made as temporary
views over filtered tables, are the store as it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from labelkit.states import MACHINE_STATES, UNVERIFIED


@dataclass(frozen=True)
class View:
    """A view or macro: its name with any arguments, what it is for, and its SELECT."""

    name: str
    about: str
    sql: str

    @property
    def macro(self) -> bool:
        """True where it takes arguments."""
        return "(" in self.name

    def called(self, argument: int) -> str:
        """Return what stands in FROM, with an argument where it takes one."""
        return re.sub(r"\(\w+\)", f"({argument:d})", self.name)

    def create(self, *, temporary: bool = False) -> str:
        """Return the statement that makes it."""
        kind = f"macro {self.name} as table" if self.macro else f"view {self.name} as"
        return f"create {'or replace temp ' if temporary else ''}{kind}{self.sql}"

    def drop(self, *, temporary: bool = False) -> str:
        """Return the statement that removes it where it is there."""
        kind, name = "macro table" if self.macro else "view", self.name.partition("(")[0]
        return f"drop {kind} if exists {'temp.main.' if temporary else ''}{name}"


# Names are selected from one list rather than joined per label, which stays fast on millions of
# events; by a left join, which comes last, as a list that travels through other joins does not.
_NAMES = "(select coalesce(list(name order by class_id), []) as names from classes)"
_SPELT = "list_select(v.names, list_transform({0}.labels, lambda class_id: class_id + 1))"
# Up to this event and this batch `clip_state` and `clip_scores` are maintained; what came later
# is looked up.
MARK = "(select coalesce(max(event_id), -1) from clip_state_mark)"
# A training by `--as-of` on labels that had changed since says nothing new of the present ones.
OF_THE_PRESENT = "coalesce(json_extract_string(settings, '$.of_the_past'), '') <> 'true'"
SCORES_MARK = "(select coalesce(max(batch_id), 0) from clip_scores_mark)"
_NOW = (
    f"c.clip_id, c.path, {_SPELT.format('e')} as labels, e.state, e.source, e.made_at, e.run_id, "
    "e.iteration, e.score, e.event_id, e.batch_id, c.group_name, c.subset, "
    "c.domain_name"
)
# Keeps, of standing events, those that count: what a machine did while a person's decision was
# taken back is covered since that stands again. Goes behind QUALIFY, over events of whole clips.
_MACHINE = ", ".join(f"'{state}'" for state in MACHINE_STATES)
UNCOVERED = (
    "by_person or coalesce(max_by(state, event_id) filter (by_person) "
    f"over (partition by clip_id order by event_id), '{UNVERIFIED}') in ({_MACHINE})"
)
_OPEN = f"e.state in ({_MACHINE})"
SCORED = "coalesce(s.fusion, s.lwlrap, s.self_confidence) is not null"
# A fusion older than the last training is of another judgement.
FUSION = "case when s.fused >= coalesce(s.trained, 0) then s.fusion end"
_QUEUED = (
    f"e.clip_id, s.path, {_SPELT.format('e')} as labels, e.state, {FUSION} as fusion, s.lwlrap, "
    "s.self_confidence, v.names[g.suggested[1] + 1] as suggested, "
    # A score is made of what a model said before: that one is the judge.
    "case when r.kind = 'score' then r.parents[1] else r.run_id end as run_id, "
    # Of other labels than the clip has now a reason would mislead.
    "case when g.given = e.labels then g.reason end as reason"
)
_SUGGESTED = """
left join suggestions g on g.run_id = s.judge and g.clip_id = s.clip_id
left join runs r on r.run_id = s.judge
"""
# The most doubtful first: the one order of lists, queues and what is sent. A fusion is a mean of
# ranks, so ties are common; what was scored with it breaks them.
DOUBT = (
    f"{FUSION} nulls last, case when {FUSION} is null then s.lwlrap else s.self_confidence end, "
    "s.self_confidence, s.clip_id"
)


# Events that made the labels of clips what they are, where one batch (`{toggled}`) changes sides:
# over `label_events`, or over `event_rows` for clips and classes that are no more.
STANDING = """
select e.event_id, e.batch_id, e.clip_id, e.state, e.labels, e.source, e.run_id, e.iteration,
       e.score, e.evidence, e.made_at, b.kind, b.actor, b.by_person, b.reason
from {events} e join batches b on b.batch_id = e.batch_id
where b.undoes is null
and (e.batch_id in (select batch_id from taken_back)) = (e.batch_id is not distinct from {toggled})
-- That a task was tidied away is told, and decides nothing.
and (e.evidence is null
     or coalesce(json_extract_string(e.evidence, '$.answer'), '') <> 'task_deleted')
"""


def of_deleted_task(row: str) -> str:
    """Write the condition that the task a row names was found deleted later.

    The number of a deleted task comes again, for the same clip or another one: Label Studio on
    SQLite counts on from the highest there is. So a task is known by its clip, too, and what
    came after a tombstone is of another task.

    Args:
        row: Alias of a table with ``project``, ``task_id``, ``clip_id`` and ``batch_id``.
    """
    return (
        "exists (select 1 from reviews d where d.answer = 'task_deleted' "
        f"and d.project = {row}.project and d.task_id = {row}.task_id "
        f"and d.clip_id is not distinct from {row}.clip_id and d.batch_id > {row}.batch_id "
        "and d.batch_id not in (select batch_id from taken_back))"
    )


VIEWS = (
    View(
        "taken_back",
        "Batches that were undone, where the undo was not undone in turn.",
        """
with recursive line as (
    select undoes as batch_id, batch_id as last, 1 as n from batches where undoes is not null
    union all
    select l.batch_id, b.batch_id, n + 1 from line l join batches b on b.undoes = l.last
)
select batch_id from line group by batch_id having max(n) % 2 = 1
""",
    ),
    View(
        "standing_events_but(toggled)",
        "`standing_events` as they would be if one batch changed sides: taken back if it stands, "
        "standing again if it was taken back.",
        STANDING.format(events="label_events", toggled="toggled"),
    ),
    View(
        "standing_events",
        "The events that made the labels of clips what they are, with who and why: of batches that "
        "were not taken back. An undo only lets others stand again, so it has none.",
        """
from standing_events_but(null::bigint)
""",
    ),
    View(
        "current_events",
        "The newest event of every clip, as numbers; what `labels_now` is made of.",
        f"""
select e.clip_id, e.event_id, e.batch_id, e.state, e.labels, e.source, e.run_id, e.iteration,
       e.score, e.made_at
from label_events e
where e.event_id in (
    select max(event_id) from label_events where event_id > {MARK} group by clip_id
)
union all
select s.clip_id, s.event_id, s.batch_id, s.state, s.labels, s.source, s.run_id, s.iteration,
       s.score, s.made_at
from clip_state s
anti join (select clip_id from label_events where event_id > {MARK}) t on t.clip_id = s.clip_id
""",
    ),
    View(
        "label_history",
        "Every event of every clip: what it made of the clip, and who, when and why.",
        f"""
select e.event_id, e.batch_id, e.clip_id, c.path, {_SPELT.format("e")} as labels,
       e.state, e.source, b.kind, b.actor, b.reason, e.made_at, e.run_id, e.iteration,
       e.score, e.evidence, b.by_person
from label_events e
join batches b on b.batch_id = e.batch_id
join clips c on c.clip_id = e.clip_id
left join {_NAMES} v on true
""",
    ),
    View(
        "labels_now",
        "The state and the labels of every clip as they stand, one row a clip.",
        f"""
select {_NOW}
from current_events e
join clips c on c.clip_id = e.clip_id
left join {_NAMES} v on true
""",
    ),
    View(
        "labels_at(moment)",
        "`labels_now` as it was: after a batch (its number), at the end of a day (UTC), or at a "
        "time, of the clips and with the classes of today; `--as-of` has those of then.",
        f"""
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
                when regexp_full_match(word, '\\d+-\\d+-\\d+')
                then time + interval 1 day - interval 1 microsecond
                else time end),
            last)
    end as batch_id
    from said
)
select {_NOW}
from label_events e
join clips c on c.clip_id = e.clip_id
left join {_NAMES} v on true
where e.event_id in (
    select max(event_id) from label_events
    where batch_id <= (select batch_id from ends)
    group by clip_id
)
""",
    ),
    View(
        "label_states",
        "Clip and class, wherever the clip has the label or somebody said something of it: "
        "whether it is given, and the verdict in force (of people before machines). A pair "
        "without a verdict is one nobody looked at, which is not the same as absent.",
        """
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
left join batches b on b.batch_id = p.batch_id
""",
    ),
    View(
        "flips",
        "Every label an event gave to a clip or took from it after the first: one row each.",
        """
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
join batches b on b.batch_id = h.batch_id
""",
    ),
    View(
        "class_summary",
        "Clips of each class by state, held-out clips apart.",
        """
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
order by k.class_id
""",
    ),
    View(
        "run_summary",
        "Finished runs: the labels they read, how many clips they (or their folds) were trained on "
        "and judged, their scores.",
        """
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
order by r.batch_id, r.run_id
""",
    ),
    View(
        "newest_scores",
        "The newest scores of every clip, and the run whose suggestion is the newest (`judge`): "
        "what `review_queue` is made of. `fused` and `trained` are the batches of the newest "
        "fusion and of the newest training.",
        f"""
with recency as not materialized (
    select run_id, kind, batch_id,
           row_number() over (order by batch_id, iteration nulls first, run_id) as age
    from runs where batch_id > {SCORES_MARK} and {OF_THE_PRESENT}
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
select k.* from clip_scores k anti join tail t on t.clip_id = k.clip_id
""",
    ),
    View(
        "review_queue",
        "Scored clips that no person has decided, the most doubtful first, with the newest scores, "
        "the most probable class of the newest suggestion, the model it comes from, and why.",
        f"""
select {_QUEUED}
from current_events e
join newest_scores s on s.clip_id = e.clip_id
{_SUGGESTED}
left join {_NAMES} v on true
where {_OPEN} and {SCORED}
order by {DOUBT}
""",
    ),
    View(
        "review_top(how_many)",
        "The first rows of `review_queue`, much sooner where there are millions of clips.",
        f"""
with decided as (select e.clip_id from current_events e where not ({_OPEN})),
top as materialized (
    select s.* from newest_scores s anti join decided d on d.clip_id = s.clip_id
    where {SCORED}
    order by {DOUBT}
    limit how_many
),
newest as (
    select max(e.event_id) as event_id
    from label_events e semi join top t on t.clip_id = e.clip_id
    group by e.clip_id
)
-- Labels are looked up last, for these clips only.
select {_QUEUED}
from label_events e
semi join newest n on n.event_id = e.event_id
join top s on s.clip_id = e.clip_id
{_SUGGESTED}
left join {_NAMES} v on true
order by {DOUBT}
""",
    ),
    View(
        "reviews_now",
        "What people answered in Label Studio and did not take back, in its newest version.",
        f"""
with newest as (
    select *, row_number() over (
               partition by project, annotation_id, clip_id order by review_id desc
           ) as age,
           -- Of another clip is another answer; of none that was known is the same one.
           max(review_id) over (partition by project, annotation_id, task_id) as last
    from reviews
    where answer <> 'task_deleted' and batch_id not in (select batch_id from taken_back)
)
select r.review_id, r.clip_id, c.path, r.annotator, r.answer, {_SPELT.format("r")} as labels,
       r.comment, r.origin, r.model_version, r.lead_time_s, r.updated_at, r.project, r.task_id,
       r.annotation_id, r.annotator_id, r.problem, r.raw, r.batch_id
from newest r
left join clips c on c.clip_id = r.clip_id
left join {_NAMES} v on true
where r.age = 1 and r.answer <> 'deleted' and (r.clip_id is not null or r.review_id = r.last)
and not {of_deleted_task("r")}
""",
    ),
    View(
        "quarantine",
        "Answers that do not fit the vocabulary, raw, until somebody repairs them.",
        """
select review_id, path, annotator, problem, raw, updated_at, project, task_id, annotation_id
from reviews_now where answer = 'quarantined' order by review_id
""",
    ),
    View(
        "disagreements",
        "Clip and class where one person says it is there and another that it is not.",
        """
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
order by c.path, k.name
""",
    ),
)
