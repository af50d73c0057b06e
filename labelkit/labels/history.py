"""The history at hand: batches, what became of a clip, and by whom."""

from __future__ import annotations

from typing import Any

from labelkit.errors import InvalidInput
from labelkit.project import Project
from labelkit.records import MACHINE_STATES
from labelkit.stores.as_of import find_batch, read_time
from labelkit.stores.session import Session

# Below it a path is no likely slip of another.
_ALIKE = 0.8
# The events that made the labels of clips what they are: an undo only lets others stand again.
_STANDING = """
    b.undoes is null and b.batch_id not in (select batch_id from taken_back)
    and coalesce(json_extract_string(e.evidence, '$.answer'), '') <> 'task_deleted'
"""


def log(
    project: Project,
    clip: str | None = None,
    *,
    kind: str | None = None,
    actor: str | None = None,
    since: str | None = None,
    limit: int | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """The batches, the newest first.

    Args:
        project: The project.
        clip: Only those that said something of this clip.
        kind: Only those of this kind: import, verify, select, undo, say.
        actor: Only those of this actor.
        since: Only this batch and later ones, from this day or time on, or after the labels
            that this run read.
        limit: How many to tell at most.

    Returns:
        Rows of who, when and why, of the clips each touched, of the labels it gave to clips
        or took from them, and of the batch that takes it back; and how many there are in all.

    Raises:
        InvalidInput: If there is no such clip or moment.
    """
    with project.store.connect(read_only=True) as con:
        session = Session(con)
        where, values = ["true"], dict[str, Any]()
        if clip is not None:
            values["clip"] = _find_clip(session, clip)
            where.append(
                "batch_id in (select batch_id from label_events where clip_id = $clip union "
                "select batch_id from label_verdicts where clip_id = $clip union "
                "select batch_id from reviews where clip_id = $clip)"
            )
        for column, wanted in (("kind", kind), ("actor", actor)):
            if wanted is not None:
                where.append(f"{column} = ${column}")
                values[column] = wanted
        if since is not None:
            condition, values["since"] = _read_since(session, con, since)
            where.append(condition)
        chosen = session.rows(
            f"select batch_id, count(*) over () from batches where {' and '.join(where)} "
            "order by batch_id desc limit $limit",
            values | {"limit": limit},
        )
        ids = [batch_id for batch_id, _ in chosen]
        columns = "batch made_at kind actor by_person clips labels run_id reason undone_by undoes"
        rows = session.rows(_LOG, {"ids": ids, "first": min(ids, default=0)})
    return (
        [dict(zip(columns.split(), row, strict=True)) for row in rows],
        chosen[0][1] if chosen else 0,
    )


# A clip's first event gives it all its labels; of later ones the difference counts.
_LOG = """
with mine as (
    select e.batch_id, e.event_id, e.clip_id, e.labels, c.batch_id = e.batch_id as first
    from label_events e join clips c on c.clip_id = e.clip_id
    where e.batch_id >= $first and e.batch_id in (select unnest($ids))
),
told as (
    select event_id, labels, lag(labels) over (partition by clip_id order by event_id) as before
    from label_events where clip_id in (select clip_id from mine where not first)
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
        select batch_id, clip_id from label_verdicts
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


def _read_since(session: Session, con: Any, since: str) -> tuple[str, Any]:
    """A condition on batches, and its value."""
    word = since.strip()
    if word.isdecimal():
        return "batch_id >= $since", find_batch(con, word)
    if session.run(word) is not None:
        return "batch_id > $since", find_batch(con, word)
    return "made_at >= $since", read_time(word)


def history(project: Project, clip: str) -> list[dict[str, Any]]:
    """What was said of a clip, the oldest first: events, verdicts, masks and answers.

    A verdict that only says what an event of its batch made of the clip is not told again.

    Args:
        project: The project.
        clip: Path below the audio folder, as ``labels_now`` shows it.

    Returns:
        Rows whose ``what`` says what they are. The state of a verdict or mask is its word,
        of an answer its kind.

    Raises:
        InvalidInput: If there is no such clip.
    """
    columns = (
        "event_id made_at what state labels kind source actor by_person reason run_id iteration "
        "score evidence batch_id undone"
    )
    with project.store.read() as session:
        rows = session.rows(_HISTORY, {"clip": _find_clip(session, clip)})
    return [dict(zip(columns.split(), row, strict=True)) for row in rows]


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
)
select t.event_id, b.made_at, t.what, t.state,
       list_select(n.names, list_transform(t.labels, lambda x: x + 1)), b.kind, t.source,
       coalesce(t.actor, b.actor), b.by_person, b.reason, t.run_id, t.iteration, t.score,
       t.evidence, t.batch_id, t.batch_id in (select batch_id from taken_back)
from told t join batches b on b.batch_id = t.batch_id
left join names n on true
order by t.batch_id, t.place, t.number
"""


def blame(project: Project, clip: str, *, all_: bool = False) -> list[dict[str, Any]]:
    """Who gave a clip each of its labels, when and why, and who vouched for it last.

    What was taken back gave nothing: where an undo brought a label back, who had given it
    before is told.

    Args:
        project: The project.
        clip: Path below the audio folder, as ``labels_now`` shows it.
        all_: Also classes that the clip does not have, of which somebody said something.

    Returns:
        A row a class, the labels it has first.

    Raises:
        InvalidInput: If there is no such clip.
    """
    columns = (
        "class given made_at batch_id kind actor by_person source reason run_id score evidence "
        "verdict said_at said_in said_by said_by_person rule said_score"
    )
    with project.store.read() as session:
        values = {"clip": _find_clip(session, clip), "all": all_, "machine": list(MACHINE_STATES)}
        rows = session.rows(_BLAME, values)
    return [dict(zip(columns.split(), row, strict=True)) for row in rows]


_BLAME = f"""
with told as (
    select e.*, b.kind, b.actor, b.by_person, b.reason
    from label_events e join batches b on b.batch_id = e.batch_id
    where e.clip_id = $clip and {_STANDING}
    -- What a machine did while a decision was taken back is covered since that stands again.
    qualify b.by_person or list_contains($machine, coalesce(
        max_by(e.state, e.event_id) filter (b.by_person) over (order by e.event_id), $machine[1]))
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


def _find_clip(session: Session, path: str) -> int:
    """Id of a clip.

    Raises:
        InvalidInput: If there is none of this path.
    """
    found = session.rows("select clip_id from clips where path = ?", [path])
    if found:
        return found[0][0]
    close = session.rows(
        "select path from clips where jaro_winkler_similarity(path, $path) >= $alike "
        "order by jaro_winkler_similarity(path, $path) desc, path limit 1",
        {"path": path, "alike": _ALIKE},
    )
    hint = f"did you mean {close[0][0]!r}?" if close else "give a path of labels_now"
    raise InvalidInput(f"no clip {path!r}; {hint}")
