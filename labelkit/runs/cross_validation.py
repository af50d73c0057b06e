"""Trainings of all folds of a run: in worker processes, or in series on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from labelkit.config import (
    ROUND_STAGE,
    UNREAD_BY_CLASSIFIERS,
    Recipe,
    fingerprint,
    list_verify_settings,
)
from labelkit.errors import InvalidInput
from labelkit.executor import Executor, core_count
from labelkit.progress import say
from labelkit.project import Project
from labelkit.runs.dataset import Dataset, Network
from labelkit.runs.rows import RunRows
from labelkit.types import Floats, Strings

if TYPE_CHECKING:
    from labelkit.training.crossfit import CrossFit
    from labelkit.training.probefit import ProbeFit
    from labelkit.training.results import FoldState


def device_name(device: str) -> str:
    """Return ``cuda`` if there is one and ``auto`` is asked for.

    Raises:
        InvalidInput: If CUDA is asked for and there is none, or something else.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise InvalidInput(f"device must be auto, cpu or cuda, got {device!r}")
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
    ) -> list[tuple[Floats, FoldState]]:
        """Train each fold with its arguments; results in the order of the jobs."""
        return self.executor.call(fit_predict, jobs)


@dataclass(frozen=True)
class Work:
    """A run about to be done: how to train a fold, where to run it, how to record it."""

    fit_predict: CrossFit | ProbeFit
    runner: FoldRunner
    rows: RunRows


def plan_work(
    project: Project,
    recipe: Recipe,
    data: Dataset,
    states: Strings,
    *,
    kind: str,
    seed: int,
    device: str,
    workers: int | None,
    judge_test_from: int = 0,
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
        workers: Processes at once; the learner chooses if None.
        judge_test_from: First round whose judgement of the held-out clips can count.
        start: The finished run that the first stage starts from.
    """
    if seed < 0:
        raise InvalidInput(f"seed must be at least 0, got {seed}")
    run_id = choose_name(project, kind, recipe, seed, device, data, states, start)
    n_folds, learner = len(np.unique(data.folds)), data.learner
    # Only a network is trained on a GPU.
    runner = FoldRunner(
        device if isinstance(learner, Network) else "cpu", n_folds, learner.workers(workers)
    )
    fit_predict = learner.fit_predict(
        data,
        {
            "folder": project.runs / run_id,
            "recipe": recipe,
            "labels": data.labels,
            "folds": data.folds,
            "noisy": ~data.human,
            "mask": data.mask(),
            "seed": seed,
            "judge_test_from": judge_test_from,
        },
        logs=project.epochs.folder / run_id,
        device=device,
        threads=runner.threads,
    )
    if any(stage.log_every for stage in recipe.stages.values()):
        project.epochs.write_clips(run_id, data.ids)
    of_the_past = project.labels_changed_since(data.table.as_of)
    rows = RunRows(recipe, seed, data, run_id, device, runner.threads, of_the_past)
    return Work(fit_predict, runner, rows)


def choose_name(
    project: Project,
    kind: str,
    recipe: Recipe,
    seed: int,
    device: str,
    data: Dataset,
    states: Strings,
    start: str | None = None,
) -> str:
    """Name a run by what its verb reads; one that an earlier version finished keeps its name."""
    # Only a network is trained where the device says.
    own = device if isinstance(data.learner, Network) else "cpu"
    name = run_key(kind, recipe, seed, own, data, states, start)
    before = run_key(kind, recipe, seed, device, data, states, start, whole=True)
    if before == name:
        return name
    with project.current.read() as session:
        if session.run(before) is not None:
            return before
    if (project.runs / before).is_dir() and not (project.runs / name).is_dir():
        say(f"{before} was begun by an earlier version and is begun anew as {name}")
    return name


def run_key(
    kind: str,
    recipe: Recipe,
    seed: int,
    device: str,
    data: Dataset,
    states: Strings,
    start: str | None = None,
    *,
    whole: bool = False,
) -> str:
    """Name a run: alike for equal settings, seed, device, recordings, folds and labels.

    Settings that the verb never reads do not count, unless the ``whole`` recipe does, as it did
    in versions before 0.2.
    """
    clips = [
        (path, data.table.labels[i], str(state), int(fold))
        for path, i, state, fold in zip(
            [data.table.paths[i] for i in data.train], data.train, states, data.folds, strict=True
        )
    ]
    held_out = [(data.table.paths[i], data.table.labels[i]) for i in data.test]
    settings = asdict(replace(recipe, changes=()))
    learner = data.learner.identify(settings)
    settings["verify"] = list_verify_settings(recipe.verify, of_before=whole)
    if kind != "verify" and not whole:
        del settings["verify"]
        settings["stages"].pop(ROUND_STAGE, None)
    elif recipe.probe.classifier and not whole:
        for key in UNREAD_BY_CLASSIFIERS:
            del settings["verify"][key.partition(".")[2]]
    content = [settings, seed, device, clips, held_out, data.learner.recordings, data.fold_set]
    content += [data.table.classes, data.head, data.unsure, data.once_noisy.tolist()]
    content += [start] if start else []
    return f"{kind}-{fingerprint([*content, *learner])}"
