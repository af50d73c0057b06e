"""Trainings of all folds of a run: in worker processes, or in series on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from labelkit.config import Recipe
from labelkit.errors import InvalidInput
from labelkit.executor import Executor, core_count
from labelkit.project import Project
from labelkit.runs.dataset import Dataset, run_key
from labelkit.runs.rows import RunRows

if TYPE_CHECKING:
    from labelkit.training.crossfit import CrossFit
    from labelkit.training.probefit import ProbeFit


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


@dataclass(frozen=True)
class Work:
    """A run about to be done: how to train a fold, where to run it, how to record it."""

    fit_predict: CrossFit | ProbeFit
    runner: FoldRunner
    recorder: RunRows


def plan_work(
    project: Project,
    recipe: Recipe,
    data: Dataset,
    states: np.ndarray,
    *,
    kind: str,
    seed: int,
    device: str,
    workers: int | None,
    judge_locked_from: int = 0,
    start: str | None = None,
) -> Work:
    """Name a run and set up its trainings.

    Args:
        project: Where it is kept.
        recipe: What to train.
        data: What to train on.
        states: Label state of each training clip, as far as it matters to the run.
        kind: First part of the run's name.
        seed: Number from which everything random follows.
        device: ``cpu`` or ``cuda``.
        workers: Processes at once; if None, all cores for networks, and one for a classifier,
            whose linear algebra takes all cores by itself.
        judge_locked_from: First round whose judgement of the locked clips can count.
        start: The finished run that the first stage starts from.
    """
    run_id = run_key(kind, recipe, seed, device, data, states, start)
    n_folds = len(np.unique(data.folds))
    shared: dict[str, Any] = {
        "folder": project.runs / run_id,
        "recipe": recipe,
        "labels": data.labels,
        "folds": data.folds,
        "noisy": ~data.human,
        "mask": data.mask(),
        "seed": seed,
        "judge_locked_from": judge_locked_from,
    }
    of_the_past = project.labels_changed_since(data.table.as_of)
    if data.embeddings is not None:
        from labelkit.training.probefit import ProbeFit

        runner = FoldRunner("cpu", n_folds, workers or 1)
        probe = ProbeFit(**shared, embeddings=data.embeddings.matrix)
        recorder = RunRows(recipe, seed, data, run_id, device, runner.threads, of_the_past)
        return Work(probe, runner, recorder)
    from labelkit.training.crossfit import CrossFit

    assert data.frames is not None
    runner = FoldRunner(device, n_folds, workers)
    fit_predict = CrossFit(
        **shared,
        frames=data.frames,
        variants=data.variants,
        once_noisy=data.once_noisy,
        paths=data.paths,
        classes=data.table.classes,
        head=data.head,
        logs=project.epochs.folder / run_id,
        device=device,
        threads=runner.threads,
    )
    if any(stage.log_every for stage in recipe.stages.values()):
        project.epochs.write_clips(run_id, data.ids)
    recorder = RunRows(recipe, seed, data, run_id, device, runner.threads, of_the_past)
    return Work(fit_predict, runner, recorder)
