"""Selections: which noisy labels to trust by a rule, as a batch that can be undone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labelkit import registry
from labelkit.cleaning.inputs import ScoreInputs, read_inputs
from labelkit.config import FormatSpec, fill_options, fingerprint
from labelkit.errors import InvalidInput
from labelkit.files import parse_json, refuse_special
from labelkit.noise.scoring import score_self_confidence
from labelkit.progress import say
from labelkit.project import Project
from labelkit.records import Batch, Clip, LabelEvent, verdicts_of
from labelkit.runs.judge import tell_weak_judge
from labelkit.runs.persist import refuse_leaks
from labelkit.states import SELF_VERIFIED, UNVERIFIED
from labelkit.types import Bools


@dataclass(frozen=True, kw_only=True)
class SelectedClip:
    """A clip whose state a selection changes: how confidently it is judged, and what it becomes."""

    path: str
    labels: list[str]
    state: str
    judged_as: str
    score: float
    becomes: str


@dataclass(frozen=True, kw_only=True)
class SelectionReport:
    """What a selection did: the clips it kept, of those open to it, and how many changed.

    ``rule`` is the rule in words; ``batch`` is None where nothing was written.
    """

    kept: int
    of: int
    accepted: int
    revoked: int
    rule: str
    batch: int | None


def select(
    project: Project,
    rule: str,
    *,
    run_ids: Sequence[str | None] = (None,),
    options: Mapping[str, Any] | None = None,
    listed: Path | None = None,
    add: bool = False,
    dry_run: bool = False,
) -> tuple[list[SelectedClip], SelectionReport]:
    """Trust the noisy clips that a rule keeps, and none of the other judged ones.

    Args:
        project: Where the labels are.
        rule: Name of a selection.
        run_ids: Runs whose probabilities judge; the last one for None.
        options: Keyword arguments of the rule.
        listed: File of the clips that rule ``listed`` takes.
        add: Leave what was trusted before trusted.
        dry_run: Only say what would be done.

    Returns:
        Each clip whose state changes, and what was done in all.

    Raises:
        InvalidInput: If there is no such run, the runs judged different clips, or the
            options do not fit.
        UnknownName: If there is no such rule.
        LabelkitError: If a model judged what it saw.
    """
    for key in ("rule", "judges"):
        if key in (options or {}):
            raise InvalidInput(f"{key} is no option of a rule; give --rule, and --run for judges")
    table = fill_options("selection", {**(options or {}), "rule": rule}, "select.")
    chosen_options = {k: v for k, v in table.items() if k not in ("rule", "judges")}
    judges = [read_inputs(project, run_id) for run_id in run_ids]
    first = judges[0]
    for run_id in dict.fromkeys(judge.run_id for judge in judges):
        tell_weak_judge(project, run_id)
    for other in judges[1:]:
        if not np.array_equal(other.clip_ids, first.clip_ids):
            raise InvalidInput(
                f"{other.run_id} judged other clips than {first.run_id}; take runs on the same "
                "clips"
            )
    function = registry.resolve("selection", rule)
    parameters = inspect.signature(function).parameters
    takes_list = "listed" in parameters
    for judge in judges:
        if len(judge.probs) > 1 and (judge.probs == judge.probs[0]).all() and not takes_list:
            raise InvalidInput(
                f"{judge.run_id} judges all clips alike, so nothing can be selected by it; take "
                "another run"
            )
    open_to = first.machine & first.labels.any(axis=1)
    if not open_to.any():
        raise InvalidInput("no clip is left to a machine to decide: people decided on all")
    extra: dict[str, Any] = {}
    if "folds" in parameters:
        # Who only wants to see what would be done gets no folds dealt.
        extra["folds"] = (first.dealt_folds() if dry_run else first.folds)[open_to]
    if takes_list:
        extra["listed"] = _read_list(listed, first)[open_to]
    elif listed is not None:
        raise InvalidInput(f"rule {rule} takes no list; take rule listed, or leave out --list")
    kept = np.zeros(len(open_to), bool)
    kept[open_to] = function(
        first.labels[open_to], *(e.probs[open_to] for e in judges), **chosen_options, **extra
    )
    words = ", ".join([rule, *(f"{key} {value}" for key, value in chosen_options.items())])
    words += f", judged by {', '.join(e.run_id for e in judges)}"
    judged = set(first.clip_ids.tolist())
    table_ids = first.table.clip_ids[first.table.states == SELF_VERIFIED].tolist()
    untouched = len(set(table_ids) - judged)
    if untouched:
        say(f"{untouched} trusted clips were not judged and stay trusted")
    return _commit(judges, kept, open_to, words, add=add, dry_run=dry_run)


def _commit(
    judges: Sequence[ScoreInputs],
    kept: Bools,
    open_to: Bools,
    words: str,
    *,
    add: bool,
    dry_run: bool,
) -> tuple[list[SelectedClip], SelectionReport]:
    inputs = judges[0]
    table, probs = inputs.table, np.mean([judge.probs for judge in judges], axis=0)
    with inputs.project.current.read() as session:
        now, judged = session.labels(), session.labels_of(table)
    rows_now = np.searchsorted(now.clip_ids, inputs.clip_ids)
    states = now.states[rows_now]
    # Labels that are others now were not judged.
    open_to = open_to & np.array(
        [now.labels[i] == judged[k] for i, k in zip(rows_now, inputs.rows, strict=True)]
    )
    accepted = kept & open_to & (states == UNVERIFIED)
    revoked = open_to & ~kept & (states == SELF_VERIFIED) & (not add)
    confidence = score_self_confidence(inputs.labels, probs)
    tops = probs.argmax(axis=1)
    selected, events = [], []
    for k in np.flatnonzero(accepted | revoked):
        state = SELF_VERIFIED if accepted[k] else UNVERIFIED
        clip = SelectedClip(
            path=inputs.paths[k],
            labels=inputs.names(k),
            state=str(states[k]),
            judged_as=table.classes[int(tops[k])],
            score=round(float(confidence[k]), 4),
            becomes=state,
        )
        selected.append(clip)
        events.append(
            LabelEvent(
                clip_id=int(inputs.clip_ids[k]),
                state=state,
                labels=table.labels[inputs.rows[k]],
                source="selection",
                run_id=str(inputs.judges[k]),
                score=float(confidence[k]),
                evidence={
                    "rule": words,
                    "judged_as": clip.judged_as,
                    "probability": round(float(probs[k].max()), 4),
                },
            )
        )
    report = SelectionReport(
        kept=int(kept.sum()),
        of=int(open_to.sum()),
        accepted=int(accepted.sum()),
        revoked=int(revoked.sum()),
        rule=words,
        batch=None,
    )
    if dry_run or not events:
        return selected, report
    content = [words, now.as_of, [(e.clip_id, e.state) for e in events]]
    with inputs.project.store.write() as session:
        receipt = session.append(
            Batch(
                key=f"select-{fingerprint(content)}",
                kind="select",
                actor="labelkit",
                by_person=False,
                reason=words,
                run_id=inputs.run_id,
                events=events,
                spoken=(table.classes, table.as_of),
                verdicts=[v for event in events for v in verdicts_of(event, words)],
            )
        )
        refuse_leaks(session, sorted({str(name) for judge in judges for name in judge.judges}))
    return selected, replace(report, batch=receipt.batch_id)


def _read_list(file: Path | None, inputs: ScoreInputs) -> Bools:
    """Mark the judged clips that a file lists with the labels they have.

    A file of corrections lists a clip by giving it the labels it has already; one that it
    gives others, or that it removes, is not trusted as it stands.

    Raises:
        InvalidInput: If there is no such file, or it lists none of the clips.
    """
    if file is None:
        raise InvalidInput("rule listed takes its clips from a file; give it with --list FILE")
    said: dict[str, list[str] | None] = {}
    refuse_special(file)
    try:
        text = file.read_text(encoding="utf-8-sig")
        found = parse_json(text) if file.suffix.lower() == ".json" else text.splitlines()
        if isinstance(found, dict):
            said = {clip.path: sorted(clip.labels) for clip in _read_corrections(file)}
        else:
            said = {path.strip(): None for path in found if path.strip()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{file} cannot be read ({error}); give a path a line") from error
    named = np.array([path in said for path in inputs.paths])
    if not named.any():
        raise InvalidInput(f"{file} lists none of the {len(named)} judged clips; give their paths")
    if named.sum() < len(said):
        other = min(set(said) - set(inputs.paths))
        say(
            f"{file.name}: {len(said) - named.sum()} of {len(said)} are no judged clips, {other!r} "
            "is one"
        )
    listed = np.array([
        path in said and said[path] in (None, sorted(inputs.table.names(int(row))))
        for path, row in zip(inputs.paths, inputs.rows, strict=True)
    ])  # fmt: skip
    if (named & ~listed).any():
        say(
            f"{file.name}: {(named & ~listed).sum()} clips have other labels there and are not "
            "kept; bring those in with: labelkit import FILE --format corrections"
        )
    return listed


def _read_corrections(file: Path) -> list[Clip]:
    reading = registry.resolve("format", "corrections")(file, FormatSpec())
    if reading.faults:
        raise ValueError(reading.faults[0])
    clips: list[Clip] = reading.clips
    return clips
