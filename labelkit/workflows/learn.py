"""Training and self-verification on a project."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labelkit import metrics
from labelkit.config import Recipe
from labelkit.errors import InvalidInput, LabelkitError
from labelkit.executor import Executor, core_count
from labelkit.noise.verify import Round, self_verify, verified_loss
from labelkit.records import SELF_VERIFIED, UNVERIFIED, Batch, Verdict
from labelkit.workflows.project import Project
from labelkit.workflows.recorder import ROUND_SCORES, Recorder, describe_rule
from labelkit.workflows.trainingset import TrainingSet, read_training_set, run_key


def device_name(device: str) -> str:
    """``cuda`` if there is one and ``auto`` is asked for.

    Raises:
        InvalidInput: If CUDA is asked for and there is none.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device cuda: no CUDA device is to be seen; use --device cpu")
    return device


class FoldRunner:
    """Runs ``fit_predict`` over folds in worker processes, or in series on a GPU."""

    def __init__(self, device: str, n_folds: int, workers: int | None) -> None:
        self.threads = max(1, core_count() // n_folds)
        self.executor = Executor(
            1 if device == "cuda" else min(workers or core_count(), n_folds, core_count())
        )

    def __call__(
        self, fit_predict: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]
    ) -> list[tuple[np.ndarray, Any]]:
        """Results in the order of the jobs.

        Raises:
            LabelkitError: What went wrong in a fold, after the others are through.
        """
        found = {}
        for result in self.executor.map(_Spread(fit_predict), list(enumerate(jobs))):
            found[result.item[0]] = result
        return [found[number].get() for number in range(len(jobs))]


@dataclass(frozen=True)
class _Spread:
    """Calls a function with a numbered job's arguments; picklable, unlike a closure."""

    fn: Callable[..., tuple[np.ndarray, Any]]

    def __call__(self, job: tuple[int, tuple[Any, ...]]) -> tuple[np.ndarray, Any]:
        return self.fn(*job[1])


def _cross_fit(
    project: Project, recipe: Recipe, seed: int, data: TrainingSet, run_id: str, device: str
) -> Any:
    from labelkit.training.crossfit import CrossFit

    return CrossFit(
        folder=project.runs / run_id,
        recipe=recipe,
        frames=data.frames,
        starts=data.starts,
        lengths=data.lengths,
        labels=data.labels,
        folds=data.folds,
        noisy=~data.human,
        head=data.head,
        seed=seed,
        device=device,
    )


def _summary(session: Any, run_id: str) -> dict[str, Any] | None:
    run = session.run(run_id)
    return None if run is None else {"run_id": run_id, **run["metrics"]}


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
        recipe: Its first stage is trained.
        seed: Number from which everything random follows.
        trusted: Learn from verified, relabeled and self-verified clips only; otherwise
            from every label, those nobody vouched for as the noisy pool.
        workers: Processes at once; all cores if None.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        Run id, metric on verified clips out of fold and on locked clips, signature.

    Raises:
        InvalidInput: If there is nothing to train on.
    """
    data = read_training_set(project, recipe, workers=workers)
    kind = "train-trusted" if trusted else "train"
    run_id = run_key(kind, recipe, seed, data, data.table.states[data.train])
    with project.store.read() as session:
        done = _summary(session, run_id)
    if done:
        return done
    device = device_name(device)
    folds = np.unique(data.folds).tolist()
    runner = FoldRunner(device, len(folds), workers)
    fit_predict = replace(
        _cross_fit(project, recipe, seed, data, run_id, device), threads=runner.threads
    )
    mask = data.trusted if trusted else None
    with runner.executor:
        results = runner(fit_predict, [(mask, fold, None) for fold in folds])
    states = [state for _, state in results]
    probs = np.empty(data.labels.shape, np.float32)
    for fold, (held_out, _) in zip(folds, results, strict=True):
        probs[data.folds == fold] = held_out
    recorder = Recorder(recipe, seed, data, run_id, "train")
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
        return _summary(session, run_id) or {}


def _verified_metrics(data: TrainingSet, probs: np.ndarray) -> dict[str, float]:
    """How out-of-fold probabilities fit the labels people vouch for."""
    labels, probs = data.labels[data.human], probs[data.human]
    if not len(labels):
        return {}
    found = {
        f"verified_{data.metric}": data.score(labels, probs),
        "verified_loss": verified_loss(labels, probs),
    }
    if data.head == "softmax":
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
        LabelkitError: If a model is about to judge what it saw.
    """
    data = read_training_set(project, recipe, workers=workers)
    base = np.where(data.human, data.table.states[data.train], UNVERIFIED)
    run_id = run_key("verify", recipe, seed, data, base)
    with project.store.read() as session:
        done = _summary(session, run_id)
    if done:
        return {**done, "finished_before": True}
    device = device_name(device)
    folds = np.unique(data.folds).tolist()
    runner = FoldRunner(device, len(folds), workers)
    fit_predict = replace(
        _cross_fit(project, recipe, seed, data, run_id, device), threads=runner.threads
    )
    recorder = Recorder(recipe, seed, data, run_id, "verify")
    rows: list[dict[str, Any]] = []
    rounds: list[Round] = []
    with runner.executor:
        for found in self_verify(
            data.labels,
            data.human,
            data.folds,
            fit_predict,
            options=recipe.verify,
            run_folds=runner,
        ):
            rows.append(_round_row(found, data))
            _commit_round(project, recorder, found)
            rounds = [found] if recipe.verify.keep == "last" else [*rounds, found]
            on_round(rows[-1])
    final = min(rounds, key=lambda r: (r.loss if r.iteration else np.inf, r.iteration))
    test_metrics, test_predictions = recorder.test_metrics(final.states)
    summary = {
        "rounds": rows,
        "kept_round": final.iteration,
        "self_verified": int((final.trusted & ~data.human).sum()),
        **_verified_metrics(data, final.probs),
        **test_metrics,
        "rule": describe_rule(recipe.verify),
        "signature": recorder.signature(),
    }
    with project.store.write() as session:
        session.append(
            Batch(
                key=f"{run_id}/end",
                kind="verify",
                actor="labelkit",
                by_person=False,
                reason=f"round {final.iteration} counts",
                run_id=run_id,
                runs=[
                    recorder.run(
                        run_id=run_id,
                        kind="verify",
                        parents=[recorder.name(state) for state in final.states],
                        metrics=summary,
                    )
                ],
                events=recorder.changes(session, final),
                predictions=test_predictions,
            )
        )
        result = _summary(session, run_id) or {}
    _tidy(project.runs / run_id, final.iteration)
    return {**result, "finished_before": False}


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
    _data, names = recorder.data, [recorder.name(state) for state in found.states]
    with project.store.write() as session:
        events = recorder.changes(session, found) if found.iteration else []
        rule = describe_rule(recorder.recipe.verify)
        verdicts = [
            Verdict(
                clip_id=event.clip_id,
                class_id=label,
                verdict="present",
                rule=rule,
                score=event.score,
            )
            for event in events
            if event.state == SELF_VERIFIED
            for label in event.labels
        ]
        session.append(
            Batch(
                key=f"{recorder.run_id}/{found.iteration}",
                kind="verify",
                actor="labelkit",
                by_person=False,
                reason=rule if found.iteration else "first training",
                run_id=recorder.run_id,
                runs=recorder.fold_runs(found.states),
                events=events,
                verdicts=verdicts,
                predictions=recorder.predictions(found.states, found.probs),
                scores=recorder.scores(
                    names, [state.fold for state in found.states], found.probs, ROUND_SCORES
                ),
            )
        )
        leaks = session.find_leaks(recorder.run_id)
        if leaks:
            judge, clip, ancestor, seen = leaks[0]
            raise LabelkitError(
                f"{judge} judged clip {clip}, but {ancestor} was trained on clip {seen} "
                f"({len(leaks)} such cases); nothing of this round was kept"
            )


def _tidy(folder: Path, last_round: int) -> None:
    """Keep the weights of the round that counts; its numbers are all in the store."""
    for round_folder in folder.glob("round-*"):
        if int(round_folder.name.rpartition("-")[2]) != last_round:
            shutil.rmtree(round_folder)
