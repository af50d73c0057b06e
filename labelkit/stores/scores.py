"""The newest scores of clips, and what was last suggested for each: read by queue and lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from labelkit.states import SELF_VERIFIED, TRUSTED_STATES
from labelkit.stores.labels import LabelStore
from labelkit.stores.query import query
from labelkit.stores.session import Session
from labelkit.stores.views import DOUBT, FUSION, OF_THE_PRESENT, SCORED
from labelkit.types import Floats

# A newest number of each clip, by runs in the order of their batches, rounds and names.
_ORDER = "(r.batch_id, coalesce(r.iteration, -1), r.run_id)"
_OF_VIEW = {"fusion": FUSION, "lwlrap": "s.lwlrap", "self_confidence": "s.self_confidence"}
# The scores that order ``review_queue``, the first that a clip has.
ORDERS = tuple(_OF_VIEW)


@dataclass(frozen=True)
class NewestScores:
    """The newest score of each clip under one metric.

    ``run_id`` is the newest run that gave some; ``values`` are by clip id. Where a score is of
    single classes, ``classes`` holds class id and value of each clip, the lowest first, and the
    lowest is the clip's.
    """

    metric: str
    run_id: str
    values: dict[int, float]
    classes: dict[int, list[tuple[int, float]]]

    @cached_property
    def _ranked(self) -> Floats:
        return np.sort(list(self.values.values()))

    def share_above(self, score: float) -> float:
        """Return the share of the clips whose score is higher, so less doubtful."""
        return 1 - float(np.searchsorted(self._ranked, score, "right")) / len(self._ranked)


@dataclass(frozen=True)
class Suggestion:
    """What was last suggested for a clip: class ids, the most probable first, and why.

    ``judge`` is the model it comes from; ``reason`` is None where none was kept, and
    ``outdated`` where it speaks of other labels than the clip has now.
    """

    judge: str
    suggested: list[int]
    reason: str | None
    outdated: bool


def newest_scores(session: Session, metric: str) -> NewestScores | None:
    """Read the newest score of every clip under a metric; None if there is none.

    A fusion older than the newest training of a clip is none, as in ``review_queue``.
    """
    if metric in _OF_VIEW:
        sql = f"select s.clip_id, {_OF_VIEW[metric]} as value from newest_scores s"
    else:
        sql = (
            f"select s.clip_id, max_by(s.value, {_ORDER}) as value from scores s "
            "join runs r on r.run_id = s.run_id "
            f"where s.metric = $metric and s.class_id = -1 and {OF_THE_PRESENT} group by s.clip_id"
        )
    rows = session.rows(
        f"from ({sql}) where value is not null", {} if metric in _OF_VIEW else {"metric": metric}
    )
    run_id = _newest_run(session, metric)
    if rows and run_id:
        return NewestScores(metric, run_id, dict(rows), {})
    return None


def rank_by_doubt(session: Session) -> dict[int, int]:
    """Rank the clips that a score says something of, as in ``review_queue``, the worst at 0."""
    rows = session.rows(f"select s.clip_id from newest_scores s where {SCORED} order by {DOUBT}")
    return {clip_id: rank for rank, (clip_id,) in enumerate(rows)}


def newest_pair_scores(session: Session, metric: str) -> NewestScores | None:
    """Read the scores of single classes that the newest run gave; None if there is none.

    What that run says nothing of, it no longer proposes, so older ones do not count.
    """
    run_id = _newest_run(session, metric)
    if run_id is None:
        return None
    rows = session.rows(
        "select clip_id, class_id, value from scores s join runs r on r.run_id = s.run_id "
        "where s.metric = $metric and coalesce(r.part_of, r.run_id) = $run "
        "order by value, class_id",
        {"metric": metric, "run": run_id},
    )
    classes: dict[int, list[tuple[int, float]]] = {}
    for clip_id, class_id, value in rows:
        classes.setdefault(clip_id, []).append((class_id, value))
    return NewestScores(metric, run_id, {i: mine[0][1] for i, mine in classes.items()}, classes)


def _newest_run(session: Session, metric: str) -> str | None:
    """Find the newest whole run that gave scores under a metric."""
    run_id: str | None
    [(run_id,)] = session.rows(
        f"select max_by(coalesce(r.part_of, r.run_id), {_ORDER}) from runs r "
        f"where {OF_THE_PRESENT} and run_id in (select run_id from scores where metric = $metric)",
        {"metric": metric},
    )
    return run_id


def find_where(store: LabelStore, condition: str) -> list[int]:
    """Find the clips of ``labels_now``, with their scores of ``review_queue``, a user asks for.

    Args:
        store: The label store.
        condition: SQL of the user, for WHERE; it can only read.

    Raises:
        InvalidInput: If it is no such condition.
        StoreError: If it takes longer than a minute.
    """
    answer = query(
        store,
        "select clip_id from labels_now left join (select clip_id, fusion, lwlrap, "
        f"self_confidence, suggested from review_queue) using (clip_id) where ({condition}\n) "
        "order by clip_id",
        timeout_s=60.0,
    )
    return [clip_id for (clip_id,) in answer.rows]


def newest_score_batch(session: Session) -> tuple[int, str]:
    """Find the batch whose suggestions are the newest, and its key; 0 and nothing without one."""
    rows = session.rows(
        "select batch_id, batch_key from batches where batch_id = (select max(batch_id) from runs "
        f"where {OF_THE_PRESENT} and run_id in (select run_id from suggestions))"
    )
    return rows[0] if rows else (0, "")


def newest_proposal_batch(session: Session, metric: str) -> tuple[int, str]:
    """Find the batch whose scores under a metric are the newest, and its key, as above."""
    rows = session.rows(
        "select batch_id, batch_key from batches where batch_id = (select max(batch_id) from runs "
        f"where {OF_THE_PRESENT} and run_id in (select run_id from scores where metric = ?))",
        [metric],
    )
    return rows[0] if rows else (0, "")


def name_newest(session: Session, name: str, newest: tuple[int, str]) -> str:
    """Name a batch so that it is the newest once it is there: what was just listed shall count.

    Args:
        session: The store.
        name: Its name by its content; as it is where there is no such batch yet.
        newest: Id and key of the newest batch of its kind: that one is the same where it has
            this name. Where others came since, the name gets a number.
    """
    batch_id, key = newest
    if key.partition("@")[0] == name:
        return key
    return f"{name}@{batch_id}" if session.has_batch_key(name) else name


def newest_suggestions(session: Session, clip_ids: Sequence[int]) -> dict[int, Suggestion]:
    """Read what was last suggested for some clips, by clip id; the same as in ``review_queue``."""
    rows = session.rows(
        """
        select s.clip_id, case when r.kind = 'score' then r.parents[1] else r.run_id end,
               g.suggested, g.reason, g.given is not null and g.given <> e.labels
        from newest_scores s
        join suggestions g on g.run_id = s.judge and g.clip_id = s.clip_id
        join runs r on r.run_id = s.judge
        join current_events e on e.clip_id = s.clip_id
        where s.clip_id in (select unnest($ids))
        """,
        {"ids": list(clip_ids)},
    )
    return {clip_id: Suggestion(*rest) for clip_id, *rest in rows}


@dataclass(frozen=True)
class Example:
    """A trusted clip of a class, and what it was cut from, if that is known."""

    clip_id: int
    path: str
    group: str | None


def find_examples(session: Session) -> dict[int, list[Example]]:
    """Find clips to compare others with, by class id: two of each class, of different sources.

    Clips that people vouched for come first, of these those of the class alone, and the ones
    the newest scores are surest of.
    """
    best = f"state = '{SELF_VERIFIED}', n_labels, sure desc nulls last, clip_id"
    rows = session.rows(
        f"""
        with trusted as (
            select e.clip_id, c.path, c.group_name, e.state, len(e.labels) as n_labels,
                   unnest(e.labels) as class_id, s.self_confidence as sure,
                   coalesce('g' || c.group_name, 'c' || e.clip_id) as source
            from current_events e join clips c on c.clip_id = e.clip_id
            left join newest_scores s on s.clip_id = e.clip_id
            where list_contains($trusted, e.state)
        ),
        best as (
            from trusted
            qualify row_number() over (partition by class_id, source order by {best}) = 1
        )
        select class_id, clip_id, path, group_name from best
        qualify row_number() over (partition by class_id order by {best}) <= 2
        order by class_id, {best}
        """,
        {"trusted": list(TRUSTED_STATES)},
    )
    found: dict[int, list[Example]] = {}
    for class_id, *rest in rows:
        found.setdefault(class_id, []).append(Example(*rest))
    return found
