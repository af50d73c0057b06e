"""Scores of the labels as they stand, from a finished run and what lies beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from labelkit import registry
from labelkit.cleaning.inputs import (
    ScoreInputs,
    is_in_sample,
    judge_first,
    list_inputs,
    read_inputs,
    score_by,
)
from labelkit.config import Recipe, fingerprint
from labelkit.errors import InvalidInput, check_count
from labelkit.noise import classes
from labelkit.noise.pairs import score_pairs
from labelkit.noise.scoring import fuse_ranks
from labelkit.noise.suggestion import suggest_and_explain
from labelkit.progress import say
from labelkit.project import Project
from labelkit.records import Batch, Run, Scores, Suggestions
from labelkit.runs.judge import tell_weak_judge
from labelkit.stores.scores import name_newest, newest_score_batch
from labelkit.types import Floats, Ints

DEFAULT = ("fusion", "self_confidence")
# The rank fusion of several scores.
FUSED = "fused"


@dataclass(frozen=True, kw_only=True)
class ScoredClip:
    """A judged clip: its labels, the class a model would give it, its scores by name, and why.

    ``score`` is the one that orders, whatever its name. Lower scores are worse; one is None where
    it says nothing of the clip.
    """

    path: str
    labels: list[str]
    state: str
    suggested: str
    score: float | None
    scores: dict[str, float | None] = field(metadata={"spread": "{}"})
    reason: str


@dataclass(frozen=True, kw_only=True)
class ScoredLabel:
    """A given label of a judged clip, and all labels of the clip; a lower score is worse."""

    path: str
    label: str
    labels: list[str]
    state: str
    suggested: str
    score: float | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class ClassNoise:
    """A class: how many clips have it, and the share of them that likely have it wrongly.

    ``looks_like`` is the class it is taken for most often, ``share`` how often, in [0, 1].
    """

    class_: str = field(metadata={"key": "class"})
    clips: int
    noise: float | None
    looks_like: str | None
    share: float | None


def score(
    project: Project,
    *,
    run_id: str | None = None,
    methods: Sequence[str] = DEFAULT,
    fuse: bool = False,
    lowest: int = 30,
    probe: Recipe | None = None,
    workers: int | None = None,
) -> list[ScoredClip]:
    """Score the labels as they stand now by a run's out-of-fold judgement, and keep the scores.

    Args:
        project: Where the run is; the scores go to its store.
        run_id: A finished run; the last one if None. Where there is none, or it is of the very
            judges and labels have changed, they judge first.
        methods: Names of scores; the first one orders the result, the next break ties.
        fuse: Order by the rank fusion of all of them instead.
        lowest: How many clips to return.
        probe: Recipe of embeddings and what judges them; ``panel`` if None.
        workers: Processes at once; all cores if None.

    Returns:
        Clips, the most doubtful first.

    Raises:
        InvalidInput: If there is no such run, or it lacks what a score reads.
        UnknownName: If there is no such score.
    """
    check_count("lowest", lowest)
    if not methods:
        raise InvalidInput(f"no score is named; known: {', '.join(registry.names('score'))}")
    for name in methods:
        registry.check("score", name)
    run_id = judge_first(project, run_id, probe, workers)
    inputs = read_inputs(project, run_id, probe=probe, workers=workers)
    tell_weak_judge(project, inputs.run_id)
    values = {name: score_by(name, inputs) for name in methods}
    for name, numbers in values.items():
        _tell_constant(name, numbers[np.isfinite(numbers)])
    _tell_unlabelled(inputs, values.values())
    if fuse:
        values = {FUSED: fuse_ranks(list(values.values())), **values}
    every = np.arange(len(inputs.rows))
    # What orders by run and probe together is suggested by both.
    both = any({"network_probs", "probe_probs"} <= {*list_inputs(name)} for name in methods)
    told = _suggest(inputs, inputs.both_probs if both else inputs.probs)
    _store(inputs, list(values), [(every, None, numbers) for numbers in values.values()], told)
    order = np.lexsort([inputs.clip_ids, *reversed(values.values())])
    order = order[np.isfinite(next(iter(values.values()))[order])][:lowest]
    suggested, reasons = told
    return [
        ScoredClip(
            path=inputs.paths[k],
            labels=inputs.names(k),
            state=str(inputs.table.states[inputs.rows[k]]),
            suggested=inputs.table.classes[suggested[k][0]],
            score=_rounded(next(iter(values.values()))[k]),
            scores={name: _rounded(numbers[k]) for name, numbers in values.items()},
            reason=reasons[k],
        )
        for k in order
    ]


def reads_probe(methods: Sequence[str]) -> bool:
    """Tell whether one of these scores reads embeddings, or a classifier on them."""
    return any({"embeddings", "probe_probs"} & {*list_inputs(name)} for name in methods)


def _suggest(inputs: ScoreInputs, probs: Floats) -> tuple[list[list[int]], list[str]]:
    """Return what is suggested for each judged clip, and why."""
    return suggest_and_explain(
        inputs.labels, probs, inputs.table.classes, several=inputs.table.several
    )


def score_given(
    project: Project,
    *,
    run_id: str | None = None,
    pairs: str = "self_confidence",
    lowest: int = 30,
    probe: Recipe | None = None,
    workers: int | None = None,
) -> list[ScoredLabel]:
    """Score every given label of every clip by run and probe together, and keep the scores.

    With several labels a clip, the single (clip, class) pair is what a person decides on.
    Labels that may be missing are another question: see :mod:`labelkit.cleaning.missing`.

    Args:
        project: Where the run is; the scores go to its store.
        run_id: A finished run; the last one if None.
        pairs: How, see :func:`labelkit.noise.pairs.score_pairs`.
        lowest: How many labels to return.
        probe: Recipe of embeddings and what judges them; ``panel`` if None.
        workers: Processes at once; all cores if None.

    Returns:
        Labels, the most doubtful first.

    Raises:
        InvalidInput: If there is no such run or method.
    """
    check_count("lowest", lowest)
    run_id = judge_first(project, run_id, probe, workers)
    inputs = read_inputs(project, run_id, probe=probe, workers=workers)
    tell_weak_judge(project, inputs.run_id)
    values = score_pairs(inputs.labels, inputs.both_probs, method=pairs)
    clips, class_ids = np.nonzero(inputs.labels)
    found = values[clips, class_ids].astype(float)
    told = _suggest(inputs, inputs.both_probs)
    _store(inputs, [f"pair_{pairs}"], [(clips, class_ids, found)], told)
    names = inputs.table.classes
    return [
        ScoredLabel(
            path=inputs.paths[clips[k]],
            label=names[class_ids[k]],
            labels=inputs.names(clips[k]),
            state=str(inputs.table.states[inputs.rows[clips[k]]]),
            suggested=names[told[0][clips[k]][0]],
            score=_rounded(found[k]),
            reason=told[1][clips[k]],
        )
        for k in np.lexsort([class_ids, clips, found])[:lowest]
    ]


def class_table(inputs: ScoreInputs) -> list[ClassNoise]:
    """Estimate of each class the share of its labels that is wrong, and what it is taken for."""
    names = inputs.table.classes
    known = inputs.knowable
    noise = classes.estimate_noise(inputs.labels, inputs.probs, known=known)
    pairs = classes.find_confusable(inputs.labels, inputs.probs, top=len(names) ** 2, known=known)
    double: dict[int, tuple[int, float]] = {}
    for given, other, rate in pairs:
        double.setdefault(given, (other, rate))
    counts = inputs.labels.sum(axis=0).astype(int)
    return [
        ClassNoise(
            class_=name,
            clips=int(counts[index]),
            noise=_rounded(noise[index]),
            looks_like=names[double[index][0]] if index in double else None,
            share=_rounded(double[index][1]) if index in double else None,
        )
        for index, name in enumerate(names)
    ]


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _tell_constant(name: str, numbers: Floats) -> None:
    """Say of a score that it orders nothing."""
    if not len(numbers):
        say(f"score {name} says nothing of any clip")
    elif len(numbers) > 1 and np.ptp(numbers) < 1e-12:
        say(f"score {name} is {numbers[0]:.4g} for all {len(numbers)} clips: it orders nothing")


def _tell_unlabelled(inputs: ScoreInputs, values: Iterable[Floats]) -> None:
    """Say of how many clips nothing is said, since there is no label that could be doubted."""
    unsaid = np.logical_or.reduce([~np.isfinite(numbers) for numbers in values])
    left_out = np.flatnonzero(unsaid & ~inputs.labels.any(axis=1))
    if len(left_out):
        say(
            f"{len(left_out)} clips without labels are not scored, "
            f"{inputs.paths[left_out[0]]} say; "
            "what may be missing there is listed by: labelkit missing"
        )


def _shows_seen(name: str, names: Sequence[str]) -> bool:
    """Tell whether a score, or one that it is fused of or that is a pair's, is in-sample."""
    if name == FUSED:
        return any(is_in_sample(part) for part in names if part != FUSED)
    return not name.startswith("pair_") and is_in_sample(name)


def _store(
    inputs: ScoreInputs,
    names: Sequence[str],
    columns: Sequence[tuple[Ints, Ints | None, Floats]],
    told: tuple[list[list[int]], list[str]],
) -> None:
    """Store a run per judging model, so that each score keeps its own line of ancestors.

    Args:
        inputs: What was scored.
        names: Names of the scores.
        columns: Of each the rows of the clips, their classes or None, and the numbers.
        told: What is suggested for each judged clip, and why.
    """
    run, table = inputs.run, inputs.table
    if inputs.project.store.as_of is not None:
        # They would stand as the newest word on labels that are others now.
        say("scores of labels of the past are shown and not kept")
        return
    content: list[Any] = [
        inputs.run_id, list(names),
        # As bytes: a million clips of text would be gigabytes.
        [blake2b(part.tobytes()).hexdigest() for column in columns for part in column
         if part is not None],
    ]  # fmt: skip
    with inputs.project.store.read() as session:
        # Labels that went back to what they were are scored anew: the newest scores count.
        score_id = f"score-{fingerprint([session.last_event(), *content])}"
        score_id = name_newest(session, score_id, newest_score_batch(session))
    settings = {
        "methods": list(names),
        "of": inputs.run_id,
        "in_sample": [name for name in names if _shows_seen(name, names)],
        "probe": asdict(inputs.probe.probe),
        "embedding": asdict(inputs.probe.embedding),
    }
    runs: list[Run] = []
    rows: list[Scores] = []
    suggestions: list[Suggestions] = []
    for number, judge in enumerate(sorted(set(inputs.judges))):
        name = f"{score_id}/{number}"
        runs.append(
            Run(
                run_id=name,
                kind="score",
                part_of=score_id,
                recipe=run["recipe"],
                settings=settings,
                seed=run["seed"],
                classes=table.classes,
                as_of=table.as_of,
                fold_set=run["fold_set"],
                parents=[judge],
            )
        )
        mine = np.flatnonzero(inputs.judges == judge).tolist()
        suggestions.append(
            Suggestions(
                run_id=name,
                clip_ids=inputs.clip_ids[mine],
                given=[table.labels[inputs.rows[k]] for k in mine],
                suggested=[told[0][k] for k in mine],
                reasons=[told[1][k] for k in mine],
            )
        )
        for metric, (clips, class_ids, numbers) in zip(names, columns, strict=True):
            use = (inputs.judges[clips] == judge) & np.isfinite(numbers)
            rows.append(
                Scores(
                    run_id=name,
                    metric=metric,
                    clip_ids=inputs.clip_ids[clips][use],
                    class_ids=None if class_ids is None else class_ids[use],
                    values=numbers[use],
                )
            )
    with inputs.project.store.write() as session:
        session.append(
            Batch(
                key=score_id,
                kind="score",
                actor="labelkit",
                by_person=False,
                reason=f"{', '.join(names)} of {inputs.run_id}",
                run_id=score_id,
                runs=runs,
                scores=rows,
                suggestions=suggestions,
            )
        )
