"""Training and self-verification on a project."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from labelkit import metrics
from labelkit.config import Recipe
from labelkit.errors import LabelkitError
from labelkit.noise.verify import Round, label_loss, self_verify
from labelkit.records import UNVERIFIED, Batch, verdicts_of
from labelkit.stores.append import WriteSession
from labelkit.stores.lock import locked
from labelkit.stores.session import Session
from labelkit.workflows.foldwork import plan_work
from labelkit.workflows.project import Project
from labelkit.workflows.recorder import ROUND_SCORES, Recorder, describe_rule
from labelkit.workflows.trainingset import TrainingSet, read_training_set


def _summary(session: Session, run_id: str) -> dict[str, Any] | None:
    run = session.run(run_id)
    return None if run is None else {"run_id": run_id, **run["metrics"]}


@contextmanager
def _sole(project: Project, run_id: str) -> Iterator[dict[str, Any] | None]:
    """Be the only process on a run; yields what is known of it if it is finished."""
    project.runs.mkdir(parents=True, exist_ok=True)
    timeout_s = project.store.timeout_s
    with locked(project.runs / run_id, exclusive=True, timeout_s=timeout_s):
        with project.store.read() as session:
            done = _summary(session, run_id)
        yield done


def _refuse_leaks(session: WriteSession, run_ids: list[str]) -> None:
    """Undo the transaction if a model judged what it, or an ancestor of it, saw."""
    leaks = session.find_leaks(run_ids)
    if leaks:
        judge, clip, ancestor, seen = leaks[0]
        many = "100 or more" if len(leaks) == 100 else len(leaks)
        raise LabelkitError(
            f"{judge} judged clip {clip}, but {ancestor} was trained on clip {seen} "
            f"({many} such cases); nothing of this was kept"
        )


def train(
    project: Project,
    recipe: Recipe,
    *,
    seed: int = 0,
    trusted: bool = False,
    workers: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Train one model per fold, and keep how it judges the clips it never saw.

    Args:
        project: Where the labels are; a finished run of the same is not repeated.
        recipe: Its stage ``pretrain`` is trained.
        seed: Number from which everything random follows.
        trusted: Learn from verified, relabeled and self-verified clips only; otherwise
            from every label, those nobody vouched for as the noisy pool.
        workers: Processes at once; all cores if None.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        Run id, metric on verified clips out of fold and on locked clips, signature.

    Raises:
        InvalidInput: If there is nothing to train on.
        LabelkitError: If a model judged what it saw.
        StoreBusy: If another process works on the same run.
    """
    data = read_training_set(project, recipe, workers=workers)
    work = plan_work(
        project,
        recipe,
        data,
        data.table.states[data.train],
        kind="train-trusted" if trusted else "train",
        seed=seed,
        device=device,
        workers=workers,
    )
    recorder, run_id = work.recorder, work.recorder.run_id
    with _sole(project, run_id) as done:
        if done:
            return done
        folds = np.unique(data.folds).tolist()
        mask = data.trusted if trusted else None
        with work.runner.executor:
            results = work.runner(work.fit_predict, [(mask, fold, None) for fold in folds])
        states = [state for _, state in results]
        probs = np.empty(data.labels.shape, np.float32)
        for fold, (held_out, _) in zip(folds, results, strict=True):
            probs[data.folds == fold] = held_out
        test_metrics, test_predictions = recorder.test_metrics(states)
        summary = {
            **_verified_metrics(data, probs),
            **test_metrics,
            "trained_on": "trusted clips" if trusted else "all clips",
            "signature": recorder.signature(),
        }
        names = [recorder.name(state) for state in states]
        with project.store.write() as session:
            session.append(
                Batch(
                    key=run_id,
                    kind="train",
                    actor="labelkit",
                    by_person=False,
                    reason=f"{recipe.name}, {summary['trained_on']}",
                    run_id=run_id,
                    runs=[
                        *recorder.fold_runs(states),
                        recorder.run(run_id=run_id, kind="train", parents=names, metrics=summary),
                    ],
                    predictions=[*recorder.predictions(states, probs), *test_predictions],
                    scores=recorder.scores(names, folds, probs, ROUND_SCORES),
                )
            )
            _refuse_leaks(session, [run_id, *names])
            return _summary(session, run_id) or {}


def _verified_metrics(data: TrainingSet, probs: np.ndarray) -> dict[str, float]:
    """How out-of-fold probabilities fit the labels people vouch for."""
    labels, probs = data.labels[data.human], probs[data.human]
    if not len(labels):
        return {}
    single = data.head == "softmax"
    found = {
        f"verified_{data.metric}": data.score(labels, probs),
        "verified_loss": label_loss(labels, probs, single=single),
    }
    if single:
        found["verified_map3"] = metrics.map_at_k(labels, probs, 3)
    return found


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
    data = read_training_set(project, recipe, workers=workers)
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
        judge_locked_from=spec.iterations if spec.keep == "last" else 1,
    )
    with _sole(project, work.recorder.run_id) as done:
        if done:
            return {**done, **_superseded(project, done["run_id"]), "finished_before": True}
        rows: list[dict[str, Any]] = []
        final: Round | None = None
        with work.runner.executor:
            for found in self_verify(
                data.labels,
                data.human,
                data.folds,
                work.fit_predict,
                options=spec,
                run_folds=work.runner,
            ):
                rows.append(_round_row(found, data))
                _commit_round(project, work.recorder, found)
                if found.iteration and (
                    final is None or spec.keep == "last" or found.loss < final.loss
                ):
                    final = found
                on_round(rows[-1])
        assert final is not None, "there is at least one round"
        return {**_commit_end(project, work.recorder, final, rows), "finished_before": False}


def _superseded(project: Project, run_id: str) -> dict[str, str]:
    """The run whose decisions are in force, if it is a later one."""
    with project.store.read() as session:
        last = session.last_run(["verify"])
    return {"superseded_by": last} if last not in (None, run_id) else {}


def _round_row(found: Round, data: TrainingSet) -> dict[str, Any]:
    """What a round did, in numbers."""
    names = data.table.classes

    def per_class(mask: np.ndarray) -> dict[str, int]:
        counts = data.labels[mask].sum(axis=0).astype(int).tolist()
        return {name: count for name, count in zip(names, counts, strict=True) if count}

    chosen = found.trusted & ~data.human
    return {
        "iteration": found.iteration,
        "proposed": int(found.proposed.sum()),
        "accepted": int(found.accepted.sum()),
        "revoked": int(found.revoked.sum()),
        "self_verified": int(chosen.sum()),
        "per_class": {
            "proposed": per_class(found.proposed),
            "accepted": per_class(found.accepted),
            "revoked": per_class(found.revoked),
            "self_verified": per_class(chosen),
        },
        f"verified_{data.metric}": data.score(data.labels[data.human], found.probs[data.human]),
        "verified_loss": found.loss,
    }


def _commit_round(project: Project, recorder: Recorder, found: Round) -> None:
    """Write a round's runs, judgements and label changes as one batch."""
    names = [recorder.name(state) for state in found.states]
    rule = describe_rule(recorder.recipe.verify)
    with project.store.write() as session:
        events = recorder.changes(session, found) if found.iteration else []
        receipt = session.append(
            Batch(
                key=f"{recorder.run_id}/{found.iteration}",
                kind="verify",
                actor="labelkit",
                by_person=False,
                reason=rule if found.iteration else "first training",
                run_id=recorder.run_id,
                runs=recorder.fold_runs(found.states),
                events=events,
                verdicts=[v for event in events for v in verdicts_of(event, rule)],
                predictions=recorder.predictions(found.states, found.probs),
                scores=recorder.scores(
                    names, [state.fold for state in found.states], found.probs, ROUND_SCORES
                ),
            )
        )
        if receipt.repeated and not recorder.matches(session, found):
            raise LabelkitError(
                f"{project.runs / recorder.run_id} is not what the store says of round "
                f"{found.iteration}; bring the folder back, or take another --seed"
            )
        _refuse_leaks(session, names)


def _commit_end(
    project: Project, recorder: Recorder, final: Round, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write the run itself, and make the round that counts the state of the store."""
    data, run_id = recorder.data, recorder.run_id
    rule = describe_rule(recorder.recipe.verify)
    test_metrics, test_predictions = recorder.test_metrics(final.states)
    summary = {
        "rounds": rows,
        "kept_round": final.iteration,
        "self_verified": int((final.trusted & ~data.human).sum()),
        **_verified_metrics(data, final.probs),
        **test_metrics,
        "rule": rule,
        "signature": recorder.signature(),
    }
    names = [recorder.name(state) for state in final.states]
    with project.store.write() as session:
        events = recorder.changes(session, final)
        session.append(
            Batch(
                key=f"{run_id}/end",
                kind="verify",
                actor="labelkit",
                by_person=False,
                reason=f"round {final.iteration} counts",
                run_id=run_id,
                runs=[recorder.run(run_id=run_id, kind="verify", parents=names, metrics=summary)],
                events=events,
                verdicts=[v for event in events for v in verdicts_of(event, rule)],
                predictions=test_predictions,
            )
        )
        _refuse_leaks(session, [run_id])
        result = _summary(session, run_id) or {}
    _tidy(project.runs / run_id, final.iteration)
    return result


def _tidy(folder: Path, last_round: int) -> None:
    """Keep the weights of the round that counts; its numbers are all in the store."""
    for round_folder in folder.glob("round-*"):
        if int(round_folder.name.rpartition("-")[2]) != last_round:
            shutil.rmtree(round_folder)
