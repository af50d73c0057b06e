"""Self-verification on a project: rounds of training, trusting and fine-tuning."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.config import Recipe, drop_unread, round_stages
from labelkit.noise.verify import Round, describe_choice, describe_nothing, self_verify
from labelkit.progress import say
from labelkit.project import Project
from labelkit.recordings.fitting import settle_recipe
from labelkit.runs.cross_validation import device_name, plan_work
from labelkit.runs.dataset import Dataset, read_dataset
from labelkit.runs.persist import claim_run, commit_run, commit_trainings
from labelkit.runs.rows import RunRows
from labelkit.states import UNVERIFIED
from labelkit.stores.undo import batches_of_run, undone_by
from labelkit.types import Bools


def verify(
    project: Project,
    recipe: Recipe,
    *,
    seed: int = 0,
    workers: int | None = None,
    device: str = "auto",
    on_round: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Train, then self-verify and fine-tune round by round; each round is one batch.

    The same recipe, seed and human labels are the same run: stopped, it goes on where
    it was; finished, it is only shown. Changed human labels start a new one.

    Args:
        project: Where the labels are.
        recipe: Stages, rule and number of rounds.
        seed: Number from which everything random follows.
        workers: Processes at once; all cores if None.
        device: ``auto``, ``cpu`` or ``cuda``.
        on_round: Gets one row after each round is in the store.

    Returns:
        Run id, the rows of all rounds, scores, signature, and whether it was there already.

    Raises:
        InvalidInput: If there is nothing to train on or nothing verified.
        LabelkitError: If a model judged what it saw, or the folder of the run is not
            what the store says of it.
        StoreBusy: If another process works on the same run.
    """
    round_stages(recipe)
    recipe = drop_unread(recipe, verifies=True)
    recipe = settle_recipe(project, recipe)
    device = device_name(device)
    data = read_dataset(project, recipe, workers=workers, device=device)
    for name, n_verified in zip(
        data.table.classes, data.labels[data.human].sum(axis=0), strict=True
    ):
        if not n_verified:
            say(f"class {name} has no verified clip: its labels are trusted on noisy ones alone")
    spec = recipe.verify
    work = plan_work(
        project,
        recipe,
        data,
        np.where(data.human, data.table.states[data.train], UNVERIFIED),
        kind="verify",
        seed=seed,
        device=device,
        workers=workers,
        judge_test_from=spec.iterations if (spec.keep, spec.until) == ("last", "all") else 0,
    )
    with claim_run(project, work.rows.run_id) as done:
        if done:
            return {**done, **_since(project, done["run_id"]), "finished_before": True}
        told: list[dict[str, Any]] = []
        final: Round | None = None
        with work.runner.executor:
            for found in self_verify(
                data.labels,
                data.human,
                data.folds,
                work.fit_predict,
                options=spec,
                single=data.head == "softmax",
                run_folds=work.runner,
            ):
                told.append(_round_row(found, data))
                _commit_round(project, work.rows, found)
                if found.iteration and (
                    final is None or spec.keep == "last" or found.loss < final.loss
                ):
                    final = found
                on_round(told[-1])
        if final is None:
            final = replace(found, judged=found.probs, judges=found.states)
            say(describe_nothing(spec, int(data.human.sum()), single=data.head == "softmax"))
        decided, why = _decision(work.rows, final), describe_choice(final, found, spec.keep)
        summary = commit_run(
            project,
            work.rows,
            final.states,
            final.probs,
            kind="verify",
            reason=f"round {final.iteration} counts: {why}",
            summary={
                "rounds": told,
                "kept_round": final.iteration,
                "kept_because": why,
                "self_verified": int((final.trusted & ~data.human).sum()),
            },
            rest={"rule": work.rows.rule},
            # The round that counts becomes the state of the store.
            decide=lambda session: work.rows.changes(session, *decided),
            rule=work.rows.rule,
        )
        _tidy(project.runs / work.rows.run_id, final.iteration)
        return {**summary, "finished_before": False}


def _since(project: Project, run_id: str) -> dict[str, Any]:
    """Which later run is in force, and which undos took decisions of this one back."""
    with project.current.read() as session:
        last = session.last_run(["verify"])
        undos = undone_by(session, batches_of_run(session, run_id))
    found: dict[str, Any] = {"superseded_by": last} if last not in (None, run_id) else {}
    return found | ({"taken_back_by": undos} if undos else {})


def _round_row(found: Round, data: Dataset) -> dict[str, Any]:
    """What a round did, in numbers."""
    names = data.table.classes

    def per_class(mask: Bools) -> dict[str, int]:
        counts = data.labels[mask].sum(axis=0).astype(int).tolist()
        return {name: count for name, count in zip(names, counts, strict=True) if count}

    chosen = found.trusted & ~data.human
    return {
        "iteration": found.iteration,
        "proposed": int(found.proposed.sum()),
        "accepted": int(found.accepted.sum()),
        "revoked": int(found.revoked.sum()),
        "self_verified": int(chosen.sum()),
        **found.notes,
        "per_class": {
            "proposed": per_class(found.proposed),
            "accepted": per_class(found.accepted),
            "revoked": per_class(found.revoked),
            "self_verified": per_class(chosen),
        },
        f"verified_{data.metric}": data.score(data.labels[data.human], found.probs[data.human]),
        "verified_loss": found.loss,
    }


def _commit_round(project: Project, rows: RunRows, found: Round) -> None:
    """Write a round's runs, judgements and label changes as one batch."""
    decided = _decision(rows, found)
    commit_trainings(
        project,
        rows,
        found.states,
        found.probs,
        key=f"{rows.run_id}/round {found.iteration}",
        kind="verify",
        reason=rows.rule if found.iteration else "first training",
        decide=lambda session: rows.changes(session, *decided) if found.iteration else [],
    )


def _decision(rows: RunRows, found: Round) -> tuple[Any, ...]:
    """What a round decided, as :meth:`RunRows.changes` takes it."""
    rule = rows.rule
    return found.trusted & ~rows.data.human, found.judged, found.judges, rule, found.iteration


def _tidy(folder: Path, last_round: int) -> None:
    """Keep the weights of the round that counts; its numbers are all in the store."""
    for round_folder in folder.glob("round-*"):
        if int(round_folder.name.rpartition("-")[2]) != last_round:
            shutil.rmtree(round_folder)
