"""Training on a project: the stages of a recipe, one after the other, over all folds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from labelkit import registry
from labelkit.config import ROUND_STAGE, Recipe, drop_unread
from labelkit.errors import InvalidInput
from labelkit.progress import say
from labelkit.project import Project
from labelkit.recordings.fitting import settle_recipe
from labelkit.records import Batch, verdicts_of
from labelkit.runs.cross_validation import Work, device_name, plan_work
from labelkit.runs.dataset import Dataset, read_dataset
from labelkit.runs.domains import compare_domains
from labelkit.runs.persist import (
    claim_run,
    commit_run,
    commit_trainings,
    refuse_leaks,
    verified_metrics,
)
from labelkit.states import UNVERIFIED
from labelkit.stores.runs import read_parents
from labelkit.types import Bools, Floats

if TYPE_CHECKING:
    from labelkit.training.results import FoldState


@dataclass
class _Progress:
    """What is known while the stages of a run go by."""

    selected: Bools
    removed: Bools
    only: Bools | None
    probs: dict[str, Floats] = field(default_factory=dict)
    states: dict[str, list[FoldState]] = field(default_factory=dict)


def train(
    project: Project,
    recipe: Recipe,
    *,
    seed: int = 0,
    trusted: bool = False,
    rest: float | None = None,
    start: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    on_stage: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Train every stage of a recipe on every fold, and keep how its models judge unseen clips.

    A stage's trainings are one batch, a selection before it another. Stopped, the same
    call goes on with the stage it was in; finished, it is not repeated.

    Args:
        project: Where the labels are.
        recipe: All its stages but the one that ``verify`` repeats.
        seed: Number from which everything random follows.
        trusted: Learn from verified, relabeled and self-verified clips only; otherwise
            from every label, those nobody vouched for as the noisy pool.
        rest: Of a network, with ``trusted``: the other clips stay as the noisy pool all the same,
            and their losses get this weight, above 0 and at most 1.
        start: A finished run with the same folds, whose models the first stage starts from.
        workers: Processes at once; all cores if None.
        device: ``auto``, ``cpu`` or ``cuda``.
        on_stage: Gets one row after each stage is in the store.

    Returns:
        Run id, metric on verified clips out of fold and on held-out clips, signature.

    Raises:
        InvalidInput: If there is nothing to train on, or ``start`` or ``rest`` does not fit.
        LabelkitError: If a model judged what it saw.
        StoreBusy: If another process works on the same run.
    """
    names = [name for name in recipe.stages if name != ROUND_STAGE]
    if not names:
        raise InvalidInput(f"recipe {recipe.name} has no stage to train")
    chooses = any(recipe.stages[name].select or recipe.stages[name].remove for name in names)
    if chooses and trusted:
        raise InvalidInput(f"recipe {recipe.name} chooses clips itself; leave out --trusted")
    if start is not None and recipe.probe.classifier:
        raise InvalidInput(
            f"--start {start}: {recipe.name} fits a classifier, which starts from no weights; "
            "leave it out"
        )
    recipe = drop_unread(recipe, verifies=False)
    recipe = settle_recipe(project, recipe)
    if rest is not None:
        recipe = _weigh_rest(recipe, names, rest, trusted=trusted)
    device = device_name(device)
    data = read_dataset(project, recipe, workers=workers, device=device)
    _refuse_empty_stages(recipe, names, data)
    if trusted:
        _tell_rest(int((~data.trusted).sum()), rest, recipe)
    # Who keeps the rest learns from every label, as without --trusted, at another weight.
    trusted = trusted and rest is None
    if start is not None:
        recipe = replace(recipe, changes=(*recipe.changes, f"start={start}"))
    # A recipe that chooses starts from what people said alone.
    states = data.table.states[data.train]
    work = plan_work(
        project,
        recipe,
        data,
        np.where(data.human, states, UNVERIFIED) if chooses else states,
        kind="train-trusted" if trusted else "train",
        seed=seed,
        device=device,
        workers=workers,
        start=start,
    )
    with claim_run(project, work.rows.run_id) as done:
        if done:
            return done
        nobody = np.zeros(len(data.labels), bool)
        found = _Progress(
            selected=nobody if chooses else data.trusted & ~data.human,
            removed=nobody,
            only=data.trusted if trusted else None,
        )
        before = {} if start is None else _start_states(project, start, data)
        told: list[dict[str, Any]] = []
        with work.runner.executor:
            for iteration, name in enumerate(names):
                told.append(_train_stage(project, work, found, name, iteration, before))
                on_stage(told[-1])
        last = told[-1]["stage"]
        read = "trusted clips" if trusted else f"all {len(data.labels)} usable clips"
        return commit_run(
            project,
            work.rows,
            found.states[last],
            found.probs[last],
            kind="train",
            reason=f"{recipe.name}, {read}",
            summary={"stages": told} if len(told) > 1 else {},
            rest={"trained_on": read}
            | ({} if trusted else compare_domains(data, found.probs[last], seed=seed)),
        )


def _weigh_rest(recipe: Recipe, names: Sequence[str], rest: float, *, trusted: bool) -> Recipe:
    """Return the recipe with a weight of labels that nobody trusts.

    Raises:
        InvalidInput: If there is nothing to weigh, or the weight is out of range.
    """
    if not trusted:
        raise InvalidInput("--rest weighs what --trusted leaves out; give --trusted, too")
    if recipe.probe.classifier:
        raise InvalidInput(
            f"--rest {rest:g}: {recipe.name} fits a classifier, which weighs no clips; leave it out"
        )
    if not 0 < rest <= 1:
        raise InvalidInput(f"--rest must be above 0 and at most 1, got {rest:g}")
    stages = {
        name: replace(stage, noisy_weight=rest) if name in names else stage
        for name, stage in recipe.stages.items()
    }
    return replace(recipe, stages=stages, changes=(*recipe.changes, f"noisy_weight={rest:g}"))


def _tell_rest(n_clips: int, rest: float | None, recipe: Recipe) -> None:
    """Say what becomes of the clips that nobody trusts."""
    if not n_clips:
        return
    if rest is not None:
        say(f"{n_clips} clips that nobody trusts are the noisy pool, at a weight of {rest:g}")
    elif recipe.probe.classifier:
        say(f"{n_clips} clips that nobody trusts are not learnt from")
    else:
        say(
            f"{n_clips} clips that nobody trusts are not learnt from; --rest 0.5 keeps them as the "
            "noisy pool, at half the weight"
        )


def _refuse_empty_stages(recipe: Recipe, names: Sequence[str], data: Dataset) -> None:
    """Say before the first training that a later one would have nothing to learn from."""
    for name in names:
        clips = recipe.stages[name].clips
        if clips == "noisy" and data.human.all():
            raise InvalidInput(
                f"stage {name} of {recipe.name} learns from unverified clips, and there are none; "
                "take another recipe"
            )
        if clips == "curated" and not data.human.any():
            raise InvalidInput(
                f"stage {name} of {recipe.name} learns from verified clips, and there are none; "
                "verify some"
            )


def _train_stage(
    project: Project,
    work: Work,
    found: _Progress,
    name: str,
    iteration: int,
    before: Mapping[int, FoldState],
) -> dict[str, Any]:
    """Choose, train all folds, commit; returns a row about it."""
    from labelkit.training.crossfit import Decided

    rows, data = work.rows, work.rows.data
    stage = rows.recipe.stages[name]
    if stage.select or stage.remove:
        _choose(project, work, found, name, iteration)
    folds = np.unique(data.folds).tolist()
    starts: dict[int, FoldState | None] = {
        state.fold: state for state in found.states.get(stage.start, ())
    }
    if not iteration:
        starts = dict(before)
    decided = Decided(found.selected, found.removed, found.only)
    fit = partial(work.fit_predict.fit, name, name=name, iteration=iteration)
    results = work.runner(fit, [(fold, decided, starts.get(fold)) for fold in folds])
    probs = np.empty(data.labels.shape, np.float32)
    for fold, (held_out, _) in zip(folds, results, strict=True):
        probs[data.folds == fold] = held_out
    found.probs[name], found.states[name] = probs, [state for _, state in results]
    commit_trainings(
        project,
        rows,
        found.states[name],
        probs,
        key=f"{rows.run_id}/{name}",
        kind="train",
        reason=f"{rows.recipe.name}, stage {name}",
    )
    test_metrics, _ = rows.test_metrics(found.states[name])
    return {
        "stage": name,
        "trained_on": int(np.mean([len(state.trained_on) for state in found.states[name]])),
        "selected": int(found.selected.sum()),
        "removed": int(found.removed.sum()),
        **verified_metrics(data, probs),
        **test_metrics,
    }


def _choose(project: Project, work: Work, found: _Progress, name: str, iteration: int) -> None:
    """Select and remove noisy clips before a stage, as one batch."""
    rows, data = work.rows, work.rows.data
    stage = rows.recipe.stages[name]
    rules = []
    if stage.select:
        found.selected = apply_rule(stage.select, data, found.probs)
        rules.append(describe_selection(stage.select))
    if stage.remove:
        found.removed = apply_rule(stage.remove, data, found.probs) & ~found.selected
        rules.append(f"removed: {describe_selection(stage.remove)}")
    rule = "; ".join(rules)
    judge = (stage.select or stage.remove)["judges"][-1]
    with project.store.write() as session:
        events = rows.changes(
            session, found.selected, found.probs[judge], found.states[judge], rule, iteration
        )
        verdicts = [v for event in events for v in verdicts_of(event, rule)]
        session.append(
            Batch(
                key=f"{rows.run_id}/{name}/select",
                kind="select",
                actor="labelkit",
                by_person=False,
                reason=rule,
                run_id=rows.run_id,
                events=events,
                verdicts=[*verdicts, *rows.removals(session, found.removed, rule)],
            )
        )
        refuse_leaks(session, [state.name for state in found.states[judge]])


def apply_rule(table: Mapping[str, Any], data: Dataset, probs: Mapping[str, Floats]) -> Bools:
    """Find the noisy training clips that a rule of a recipe keeps, ``(n_train,)``.

    Args:
        table: The rule, its judges and its options.
        data: Labels and folds.
        probs: Out-of-fold probabilities of each stage, ``(n_train, n_classes)``.
    """
    options = {key: value for key, value in table.items() if key not in ("rule", "judges")}
    rule = registry.resolve("selection", table["rule"])
    noisy = ~data.human
    if "folds" in inspect.signature(rule).parameters:
        options["folds"] = data.folds[noisy]
    kept = np.zeros(len(noisy), bool)
    kept[noisy] = rule(data.labels[noisy], *(probs[j][noisy] for j in table["judges"]), **options)
    return kept


def describe_selection(table: Mapping[str, Any]) -> str:
    """Say a rule of a recipe in a few words, as the store notes it."""
    options = ", ".join(f"{k} {v}" for k, v in table.items() if k not in ("rule", "judges"))
    return f"{table['rule']} ({options}) judged by {', '.join(table['judges'])}"


def _start_states(project: Project, run_id: str, data: Dataset) -> dict[int, FoldState]:
    """The models of each fold that a finished run ended with.

    Raises:
        InvalidInput: If it is not finished, its folds are others, or its weights are gone.
    """
    from labelkit.training.results import read_result

    with project.current.read() as session:
        run = session.run(run_id)
        parents = read_parents(session, run_id)
    if run is None or run["kind"] not in ("train", "verify"):
        raise InvalidInput(f"--start {run_id}: no finished run of that name; see: labelkit status")
    if run["settings"].get("probe", {}).get("classifier"):
        raise InvalidInput(
            f"--start {run_id}: it fitted a classifier, which has no weights; name the run of a "
            "network"
        )
    if run["fold_set"] != data.fold_set:
        raise InvalidInput(
            f"--start {run_id}: it was trained on folds {run['fold_set']}, these are "
            f"{data.fold_set}; its models have seen what they would judge"
        )
    found = {}
    for name in parents:
        result = read_result(project.runs / name)
        if result is None or not (project.runs / name / "weights.pt").exists():
            raise InvalidInput(f"--start {run_id}: the weights of {name} are gone; train it again")
        found[result[1].fold] = result[1]
    return found
