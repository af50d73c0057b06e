"""The history of labels: batches, what became of a clip and by whom, and what changed when."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from labelkit.stores.session import Session
from labelkit.stores.views import UNCOVERED

# Below it a path is no likely slip of another.
_ALIKE = 0.8


@dataclass(frozen=True)
class LoggedBatch:
    """A batch: who, when and why, how many clips it touched, how many labels it gave or took."""

    batch_id: int = field(metadata={"key": "batch"})
    made_at: datetime
    kind: str
    actor: str
    by_person: bool
    clips: int
    labels: int
    run_id: str | None
    reason: str
    undone_by: int | None
    undoes: int | None


@dataclass(frozen=True)
class HistoryEntry:
    """Something that was said of a clip: an event, a verdict, a mask or an answer.

    Or what became of a class it was given, and of its place.
    """

    event_id: int | None
    made_at: datetime
    what: str
    state: str
    labels: list[str]
    kind: str
    source: str
    actor: str
    by_person: bool
    reason: str
    run_id: str | None
    iteration: int | None
    score: float | None
    evidence: str | None
    batch_id: int
    undone: bool


@dataclass(frozen=True)
class BlamedLabel:
    """A class of a clip: the event that gave it, and the verdict in force."""

    class_: str = field(metadata={"key": "class"})
    given: bool
    made_at: datetime | None
    batch_id: int | None
    kind: str | None
    actor: str | None
    by_person: bool | None
    source: str | None
    reason: str | None
    run_id: str | None
    score: float | None
    evidence: str | None
    verdict: str | None
    said_at: datetime | None
    said_in: int | None
    said_by: str | None
    said_by_person: bool | None
    rule: str | None
    said_score: float | None


@dataclass(frozen=True)
class ChangedClip:
    """A clip that is not at one moment what it was at an earlier one; None before it came in."""

    path: str
    before: list[str] | None
    after: list[str]
    state_before: str | None
    state_after: str
    made_at: datetime
    batch_id: int
    kind: str
    actor: str
    by_person: bool
    reason: str


@dataclass(frozen=True)
class BatchFilter:
    """Which batches to list; None asks for nothing."""

    clip_id: int | None = None
    kind: str | None = None
    actor: str | None = None
    first_batch: int | None = None
    since: datetime | None = None


def read_log(
    session: Session, wanted: BatchFilter, limit: int | None
) -> tuple[list[LoggedBatch], int]:
    """Read batches, the newest first, and count all that were asked for."""
    where, values = ["true"], dict[str, Any]()
    if wanted.clip_id is not None:
        values["clip"] = wanted.clip_id
        where.append(
            "batch_id in (select batch_id from label_events where clip_id = $clip union "
            "select batch_id from label_verdicts where clip_id = $clip union "
            "select batch_id from reviews where clip_id = $clip)"
        )
    for condition, value in (
        ("kind = $kind", wanted.kind),
        ("actor = $actor", wanted.actor),
        ("batch_id >= $first", wanted.first_batch),
        ("made_at >= $since", wanted.since),
    ):
        if value is not None:
            where.append(condition)
            values[condition.rpartition("$")[2]] = value
    chosen = session.rows(
        f"select batch_id, count(*) over () from batches where {' and '.join(where)} "
        "order by batch_id desc limit $limit",
        values | {"limit": limit},
    )
    ids = [batch_id for batch_id, _ in chosen]
    rows = session.rows(_LOG, {"ids": ids, "first": min(ids, default=0)})
    return [LoggedBatch(*row) for row in rows], chosen[0][1] if chosen else 0


# A clip's first event gives it all its labels; of later ones the difference counts.
_LOG = """
with mine as (
    select e.batch_id, e.event_id, e.clip_id, e.labels, c.batch_id = e.batch_id as first
    from event_rows e join clip_rows c on c.clip_id = e.clip_id
    where e.batch_id >= $first and e.batch_id in (select unnest($ids))
),
told as (
    select event_id, labels, lag(labels) over (partition by clip_id order by event_id) as before
    from event_rows where clip_id in (select clip_id from mine where not first)
),
changed as (
    select event_id, len(list_filter(labels, lambda x: not list_contains(before, x)))
                   + len(list_filter(before, lambda x: not list_contains(labels, x))) as n
    from told where before is not null and before <> labels
),
counts as (
    select m.batch_id, sum(case when m.first then len(m.labels) else coalesce(c.n, 0) end) as n
    from mine m left join changed c on c.event_id = m.event_id
    group by m.batch_id
),
touched as (
    select batch_id, count(distinct clip_id) as n from (
        select batch_id, clip_id from mine
        union all
        select batch_id, clip_id from verdict_rows
        where batch_id >= $first and batch_id in (select unnest($ids))
    ) group by batch_id
)
select b.batch_id, b.made_at, b.kind, b.actor, b.by_person, coalesce(t.n, 0),
       coalesce(n.n, 0)::bigint, b.run_id, b.reason,
       (select max(u.batch_id) from batches u
        where u.undoes = b.batch_id and b.batch_id in (select batch_id from taken_back)),
       b.undoes
from batches b
left join touched t on t.batch_id = b.batch_id
left join counts n on n.batch_id = b.batch_id
where b.batch_id in (select unnest($ids))
order by b.batch_id desc
"""


def read_history(session: Session, clip_id: int) -> list[HistoryEntry]:
    """Read what was said of a clip, the oldest first.

    A verdict that only says what an event of its batch made of the clip is not told again.
    """
    return [HistoryEntry(*row) for row in session.rows(_HISTORY, {"clip": clip_id})]


_HISTORY = """
with names as (select list(name order by class_id) as names from classes),
events as (from label_events where clip_id = $clip),
told as (
    select batch_id, 2 as place, event_id as number, event_id, 'event' as what, state, labels,
           source, run_id, iteration, score, evidence, null as actor
    from events
    union all
    select v.batch_id, 3, verdict_id, null,
           case when v.verdict = 'unsure' and not b.by_person then 'mask' else 'verdict' end,
           v.verdict, [v.class_id], v.rule, null, null, v.score,
           case when v.start_s is not null
                then json_object('start_s', v.start_s, 'end_s', v.end_s)::varchar end, null
    from label_verdicts v join batches b on b.batch_id = v.batch_id
    where v.clip_id = $clip and not exists (
        from events e where e.batch_id = v.batch_id and v.start_s is null and case v.verdict
            when 'present' then list_contains(e.labels, v.class_id)
                and e.state in ('verified', 'relabeled', 'self_verified')
            when 'absent' then not list_contains(e.labels, v.class_id)
                and e.state in ('verified', 'relabeled', 'self_verified')
            when 'unsure' then list_contains(e.labels, v.class_id) and e.state = 'unverified'
            else false end
    )
    union all
    select batch_id, 1, review_id, null, 'answer', answer, labels, 'Label Studio', null, null, null,
           json_object('answered_at', updated_at, 'comment', comment, 'origin', origin)::varchar,
           annotator
    from reviews where clip_id = $clip
    union all
    -- What became of the classes that anybody gave it, while it was there.
    select k.batch_id, 0, k.class_id, null, 'class',
           case when k.retired then 'retired' when k.into_id is not null then 'merged'
                else 'named' end,
           null, 'classes', null, null, null, json_object('class', k.name)::varchar, null
    from class_changes k
    where k.batch_id > (select batch_id from clip_rows where clip_id = $clip)
    and k.class_id in (
        select unnest(labels) from event_rows where clip_id = $clip
        union select class_id from verdict_rows where clip_id = $clip
    )
    union all
    select batch_id, 0, clip_id, null, 'clip',
           case when gone then 'gone' when path = before then 'back' else 'moved' end, null,
           'clips', null, null, null, json_object('path', path, 'before', before)::varchar, null
    from (
        select *, lag(path) over (order by batch_id) as before from (
            select batch_id, clip_id, path, false as gone from clip_rows where clip_id = $clip
            union all
            select batch_id, clip_id, path, gone from clip_changes where clip_id = $clip
        )
    ) where before is not null
)
select t.event_id, b.made_at, t.what, t.state,
       coalesce(list_select(n.names, list_transform(t.labels, lambda x: x + 1)), []), b.kind,
       t.source, coalesce(t.actor, b.actor), b.by_person, b.reason, t.run_id, t.iteration, t.score,
       t.evidence, t.batch_id, t.batch_id in (select batch_id from taken_back)
from told t join batches b on b.batch_id = t.batch_id
left join names n on true
order by t.batch_id, t.place, t.number
"""


def read_blame(session: Session, clip_id: int, *, every_class: bool) -> list[BlamedLabel]:
    """Read who gave a clip each of its labels, and who vouched for it last; given ones first.

    Args:
        session: The open store.
        clip_id: The clip.
        every_class: Also classes it does not have, of which somebody said something.
    """
    rows = session.rows(_BLAME, {"clip": clip_id, "all": every_class})
    return [BlamedLabel(*row) for row in rows]


_BLAME = f"""
with told as (
    select * from standing_events where clip_id = $clip qualify {UNCOVERED}
),
said as (
    select k.class_id, s.* from label_states s join classes k on k.name = s.class
    where s.clip_id = $clip
),
-- Since the last event without the label, each had it; the first of them gave it.
gave as (
    select s.class_id, min(t.event_id) as event_id
    from said s join told t on list_contains(t.labels, s.class_id) and t.event_id > coalesce(
        (select max(o.event_id) from told o where not list_contains(o.labels, s.class_id)), -1)
    where s.given group by s.class_id
)
select s.class, s.given, t.made_at, t.batch_id, t.kind, t.actor, t.by_person, t.source, t.reason,
       t.run_id, t.score, t.evidence, s.verdict, s.made_at, s.batch_id, s.actor, s.by_person,
       s.rule, s.score
from said s
left join gave g on g.class_id = s.class_id
left join told t on t.event_id = g.event_id
where s.given or $all
order by not s.given, s.class
"""


def read_difference(session: Session, first: int, last: int) -> list[ChangedClip]:
    """Read the clips that are not after one batch what they were after an earlier one."""
    rows = session.rows(_DIFFERENCE, {"first": first, "last": last})
    return [ChangedClip(*row) for row in rows]


_DIFFERENCE = """
with names as (select list(name order by class_id) as names from classes),
touched as (
    select clip_id, max(event_id) as event_id from label_events
    where batch_id > $first and batch_id <= $last group by clip_id
),
old as (
    select clip_id, max(event_id) as event_id from label_events
    where batch_id <= $first and clip_id in (select clip_id from touched) group by clip_id
)
select c.path, list_select(n.names, list_transform(x.labels, lambda k: k + 1)),
       list_select(n.names, list_transform(y.labels, lambda k: k + 1)), x.state, y.state,
       y.made_at, y.batch_id, b.kind, b.actor, b.by_person, b.reason
from touched t
join label_events y on y.event_id = t.event_id
join batches b on b.batch_id = y.batch_id
join clips c on c.clip_id = t.clip_id
left join old o on o.clip_id = t.clip_id
left join label_events x on x.event_id = o.event_id
left join names n on true
where x.event_id is null or (x.labels, x.state) <> (y.labels, y.state)
order by c.path
"""


def find_clip(session: Session, path: str) -> tuple[int | None, str | None]:
    """Find the id of a clip; where there is none of this path, the path most like it."""
    found = session.rows("select clip_id from clips where path = ?", [path])
    if found:
        return found[0][0], None
    # What it was called before it moved.
    former = session.rows(
        "select c.path from clips c join (select clip_id, path from clip_rows union all "
        "select clip_id, path from clip_changes) p on p.clip_id = c.clip_id "
        "where p.path = ? order by c.clip_id desc limit 1",
        [path],
    )
    if former:
        return None, former[0][0]
    close = session.rows(
        "select path from clips where jaro_winkler_similarity(path, $path) >= $alike "
        "order by jaro_winkler_similarity(path, $path) desc, path limit 1",
        {"path": path, "alike": _ALIKE},
    )
    return None, close[0][0] if close else None


def changed_since(session: Session, batch_id: int) -> bool:
    """Tell whether any label changed after a batch."""
    sql = "select 1 from label_events where batch_id > ? limit 1"
    return bool(session.rows(sql, [batch_id]))


def newest_batch(session: Session) -> tuple[int, datetime]:
    """Find the number of the newest batch and its time."""
    sql = "select max(batch_id), max_by(made_at, batch_id) from batches"
    [(batch_id, made_at)] = session.rows(sql)
    return batch_id, made_at
