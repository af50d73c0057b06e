"""What the store knows of finished runs: their line, and what their trainings noted."""

from __future__ import annotations

import json
from dataclasses import dataclass

from labelkit.stores.session import Session


@dataclass(frozen=True)
class Training:
    """One finished training of a fold.

    ``logged`` is how many epochs its log holds; ``trained_on`` are clip ids.
    """

    run_id: str
    iteration: int | None
    trained_on: list[int]
    logged: int


def read_parents(session: Session, run_id: str) -> list[str]:
    """Read the runs that a finished run started from or consists of; none if there is no such."""
    rows = session.rows("select parents from runs where run_id = ?", [run_id])
    return rows[0][0] if rows else []


def read_trained_on(session: Session, run_id: str) -> list[int]:
    """Read the ids of the clips a finished run was trained on; none if there is no such."""
    rows = session.rows("select trained_on from runs where run_id = ?", [run_id])
    return rows[0][0] if rows else []


def read_trainings(session: Session, run_id: str) -> list[Training]:
    """Read the trainings of a run, in the order of rounds and folds."""
    rows = session.rows(
        "select run_id, iteration, trained_on, metrics from runs where part_of = ? "
        "and kind = 'fold' order by iteration, fold",
        [run_id],
    )
    return [
        Training(name, iteration, trained_on, _count_logged(metrics))
        for name, iteration, trained_on, metrics in rows
    ]


def _count_logged(metrics: str) -> int:
    return max((row.get("logged", 0) for row in json.loads(metrics)["history"]), default=0)
