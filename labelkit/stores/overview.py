"""What an open label store holds, in numbers and names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labelkit.stores.session import Session

_LAST_RUNS = 5


@dataclass(frozen=True)
class StateCount:
    """How many clips of a subset are in a state."""

    subset: str
    state: str
    n_clips: int


@dataclass(frozen=True)
class FoldSet:
    """How many folds a fold set has, over how many clips."""

    name: str
    n_folds: int
    n_clips: int


@dataclass(frozen=True)
class LastRun:
    """A training that finished: its recipe, when, in UTC, and how good a judge it is.

    ``skill`` is its agreement with the given labels beyond chance; None where nobody measured it.
    """

    run_id: str
    recipe: str
    finished_at: str
    skill: float | None


@dataclass(frozen=True)
class Overview:
    """What a project shows at a glance.

    ``labels`` is how many a clip may have, one or several, None where nothing tells;
    ``last_runs`` are whole ones, the newest first.
    """

    n_classes: int
    labels: str | None
    states: tuple[StateCount, ...]
    fold_sets: tuple[FoldSet, ...]
    last_runs: tuple[LastRun, ...]
    run_ids: frozenset[str]
    last_batch: int


@dataclass(frozen=True)
class Counts:
    """How many rows a store holds, and how many runs lie beside it."""

    batches: int
    clips: int
    events: int
    large_runs: int


@dataclass(frozen=True)
class BatchIdentity:
    """What tells a batch from all others, also from those of a copy that went its own way."""

    batch_id: int
    key: str
    made_at: datetime


@dataclass(frozen=True)
class FinishedRun:
    """What a run left outside the store can be told from; settings and metrics are JSON."""

    run_id: str
    kind: str
    parents: tuple[str, ...]
    settings: str
    metrics: str


def read_overview(session: Session) -> Overview:
    """Count classes, clips by state and folds, and name the runs that finished last."""
    n_classes = len(session.classes())
    states = session.rows(
        "select subset, state, count(*) from labels_now group by all order by all"
    )
    sets = session.rows(
        "select fold_set, count(distinct fold), count(*) from folds group by fold_set "
        "order by min(batch_id)"
    )
    last_runs = session.rows(
        "select run_id, recipe, finished_at::varchar, "
        "(metrics->>'agreement_beyond_chance')::double from runs "
        f"where part_of is null order by batch_id desc limit {_LAST_RUNS}"
    )
    return Overview(
        n_classes,
        session.kind(),
        tuple(StateCount(*row) for row in states),
        tuple(FoldSet(*row) for row in sets),
        tuple(LastRun(*row) for row in last_runs),
        frozenset(run_id for (run_id,) in session.rows("select run_id from runs")),
        session.last_batch(),
    )


def count_rows(con: Any) -> Counts:
    """Count batches, clips, events and the runs that lie beside the store."""
    return Counts(
        *con.execute(
            "select (select count(*) from batches), (select count(*) from clips), "
            "(select count(*) from label_events), (select count(*) from prediction_files)"
        ).fetchone()
    )


def list_batches(con: Any) -> set[BatchIdentity]:
    """List what tells every batch from all others."""
    rows = con.execute("select batch_id, batch_key, made_at from batches").fetchall()
    return {BatchIdentity(*row) for row in rows}


def list_finished_runs(session: Session) -> list[FinishedRun]:
    """List every finished run, by name."""
    rows = session.rows("select run_id, kind, parents, settings, metrics from runs order by all")
    return [
        FinishedRun(run_id, kind, tuple(parents), settings, metrics)
        for run_id, kind, parents, settings, metrics in rows
    ]


def list_needed_runs(session: Session) -> set[str]:
    """List the whole trainings that are needed yet, by name.

    The newest of each kind and recipe, and those of the models that the newest suggestions of
    clips come from.
    """
    rows = session.rows(
        """
        with newest as (
            select max_by(run_id, batch_id) as run_id from runs
            where part_of is null and kind in ('train', 'verify') group by kind, recipe
        ),
        judges as (
            select distinct case when r.kind = 'score' then r.parents[1] else r.run_id end as judge
            from newest_scores s join runs r on r.run_id = s.judge
        )
        select run_id from newest
        union
        select coalesce(r.part_of, r.run_id) from judges j join runs r on r.run_id = j.judge
        """
    )
    return {run_id for (run_id,) in rows}


def list_judging_folds(session: Session) -> list[str]:
    """List the runs of single folds that have predictions, by name."""
    rows = session.rows(
        "select run_id from (select run_id from prediction_rows "
        "union select run_id from prediction_files) "
        "semi join (from runs where kind = 'fold') using (run_id) order by 1"
    )
    return [run_id for (run_id,) in rows]


def list_recordings(session: Session) -> list[tuple[str, str | None]]:
    """List the path of every clip, and the hash of its bytes where that is known."""
    rows = session.rows("select path, content_hash from clips order by clip_id")
    return [(path, content_hash) for path, content_hash in rows]
