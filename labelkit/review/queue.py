"""Which clips go to people, in which order, and what they are told about each."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelkit import registry
from labelkit.cleaning.missing import METRIC as MISSING
from labelkit.cleaning.score import FUSED
from labelkit.errors import InvalidInput, NotYet, StoreError
from labelkit.files import parse_json, refuse_special
from labelkit.noise.suggestion import explain_missing
from labelkit.project import Project
from labelkit.records import LabelTable
from labelkit.states import MACHINE_STATES
from labelkit.stores.scores import (
    ORDERS,
    Example,
    NewestScores,
    Suggestion,
    find_examples,
    find_where,
    newest_pair_scores,
    newest_scores,
    newest_suggestions,
    rank_by_doubt,
)
from labelkit.stores.session import Session
from labelkit.stores.standing import move_columns
from labelkit.types import Floats

NO_MODEL = "none"
# Of a clip nothing is known about, neither doubted nor trusted.
UNKNOWN_SCORE = 0.5


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which clips to send: the first of the queue, of lowest score, missing labels, SQL, a file.

    ``first`` are so many rows of ``review_queue``, the one order of lists and of what is sent.
    """

    first: int | None = None
    lowest: tuple[str, int] | None = None
    missing: int | None = None
    where: str | None = None
    clips: Path | None = None
    disagreements: bool = False

    def check(self) -> None:
        """Refuse more or less than one way.

        Raises:
            InvalidInput: If not exactly one is given, or a number is below 1.
        """
        given = (
            self.first, self.lowest, self.missing, self.where, self.clips,
            self.disagreements or None,
        )  # fmt: skip
        if sum(part is not None for part in given) != 1:
            raise InvalidInput(
                "say which clips: N for the N most doubtful, or one of --lowest-lwlrap N, "
                "--lowest SCORE N, --missing N, --where SQL, --clips FILE, --disagreements"
            )
        pair = self.lowest is None or isinstance(self.lowest, tuple | list)
        if not pair or (
            self.lowest is not None and [type(part) for part in self.lowest] != [str, int]
        ):
            raise InvalidInput(f"lowest takes a score and a number of clips, got {self.lowest!r}")
        for name, value in (("first", self.first), ("missing", self.missing)):
            if value is not None and type(value) is not int:
                raise InvalidInput(f"{name} takes a number of clips, got {value!r}")
        for number in (self.first, self.missing, self.lowest and self.lowest[1]):
            if number is not None and number < 1:
                raise InvalidInput(f"{number} clips cannot be sent; give 1 or more")


@dataclass(frozen=True, kw_only=True)
class Item:
    """A clip to be listened to.

    ``score`` in [0, 1] orders, the lowest first; ``seconds`` are the doubtful ones, if single
    windows were judged. The examples are trusted clips to compare it with, and the class each is
    of: a label so far, and a suggested one that it does not have.
    """

    clip_id: int
    path: str
    given: tuple[str, ...]
    suggested: tuple[str, ...]
    reason: str
    score: float
    duration_s: float | None
    seconds: tuple[float, float] | None = None
    disputed: bool = False
    given_example: tuple[str, Example] | None = None
    suggested_example: tuple[str, Example] | None = None


@dataclass(frozen=True)
class Queue:
    """Clips in the order they are to be heard.

    ``model_version`` says who doubts them, ``chosen`` which were asked for; the others lie
    with annotators already. ``unknown`` are paths that are no clips.
    """

    model_version: str
    items: list[Item]
    chosen: set[int]
    unknown: list[str]


def read_queue(
    project: Project,
    choice: Choice,
    *,
    answered: Collection[int] = (),
    disputed: dict[int, str] | None = None,
    waiting: Sequence[int] = (),
    blind: bool = False,
) -> Queue:
    """Choose clips and say of each what is doubtful.

    Args:
        project: Where the labels and scores are.
        choice: Which clips.
        answered: Clip ids a person has answered; they are not among the lowest again.
        disputed: Reason by clip id, where annotators disagree.
        waiting: Clip ids that lie with annotators already; they get the new view, too.
        blind: Nothing may tell what is suggested.

    Raises:
        InvalidInput: If there is no such score, or the choice is none.
    """
    choice.check()
    with project.store.read() as session:
        table = session.labels()
        durations = session.durations_s()
        # As in ``review_queue``, a clip is doubted by the first of these that it has.
        orderings = [found for metric in ORDERS if (found := newest_scores(session, metric))]
        ranks, examples = rank_by_doubt(session), find_examples(session)
        wanted_by = _read_ordering(session, choice)
        if wanted_by is not None:
            orderings.insert(0, wanted_by)
    row = {int(clip_id): k for k, clip_id in enumerate(table.clip_ids)}

    def doubt(clip_id: int) -> tuple[float, float, int]:
        asked = wanted_by.values.get(clip_id, math.inf) if wanted_by else 0.0
        return asked, ranks.get(clip_id, math.inf), clip_id

    unknown: list[str] = []
    added: dict[int, list[tuple[int, float]]] = {}
    free = np.isin(table.states, MACHINE_STATES) & (table.subsets == "train")
    open_ids = set(table.clip_ids[free].tolist()) - set(answered)
    if wanted_by is not None:
        number = choice.missing if choice.lowest is None else choice.lowest[1]
        ranked = sorted((clip_id for clip_id in wanted_by.values if clip_id in open_ids), key=doubt)
        chosen = ranked[:number]
        added = wanted_by.classes if choice.missing is not None else {}
    elif choice.first is not None:
        if not ranks:
            raise InvalidInput("no clip has a score yet; make scores with: labelkit score")
        chosen = sorted((i for i in ranks if i in open_ids), key=doubt)[: choice.first]
    elif choice.where is not None:
        chosen = _find_where(project, choice.where)
    elif choice.clips is not None:
        chosen, unknown = _read_listed(choice.clips, table)
    else:
        chosen = sorted(disputed or {})
    # What others imported meanwhile is not in the table yet.
    wanted = list(dict.fromkeys(i for i in [*chosen, *waiting] if i in row))
    with project.store.read() as session:
        suggestions = newest_suggestions(session, wanted)
    windows = _windows(
        project,
        {clip_id: found.judge for clip_id, found in suggestions.items()},
        len(table.classes),
    )
    items = [
        _describe(
            table, row[i], next((scores for scores in orderings if i in scores.values), None),
            suggestions.get(i), added.get(i, ()), windows.get(i), durations[i],
            (disputed or {}).get(i), _Examples(examples, table, row[i], blind=blind),
        )
        for i in wanted
    ]  # fmt: skip
    items.sort(key=lambda item: doubt(item.clip_id))
    doubter = f"{orderings[0].metric} {orderings[0].run_id}" if orderings else NO_MODEL
    return Queue(doubter, items, set(chosen) & set(row), unknown)


def _read_ordering(session: Session, choice: Choice) -> NewestScores | None:
    """Read the scores that choose and order; None if clips are chosen otherwise.

    Raises:
        InvalidInput: If the score that was asked for is not there.
    """
    if choice.missing is not None:
        found = newest_pair_scores(session, MISSING)
        if found is None:
            raise NotYet(
                f"no clip has the score {MISSING!r} yet; make it with: labelkit missing, "
                "with a lower --percentile where that finds none"
            )
        return found
    if choice.lowest is None:
        return None
    metric = choice.lowest[0]
    # Of a score of single classes the lowest is the clip's.
    found = newest_scores(session, metric) or newest_pair_scores(session, metric)
    if found is None:
        make = f"labelkit score --method {metric}"
        if metric == FUSED:
            make = "labelkit score --fuse"
        elif metric != MISSING and not metric.startswith("pair_"):
            # What is no score at all nothing makes.
            registry.check("score", metric)
        if metric.startswith("pair_"):
            make = f"labelkit score --pairs {metric.removeprefix('pair_')}"
        raise NotYet(
            f"no clip has the score {metric!r} of the newest model; make it with: "
            f"{'labelkit missing' if metric == MISSING else make}"
        )
    return found


def _find_where(project: Project, sql: str) -> list[int]:
    try:
        return find_where(project.store, sql)
    except InvalidInput as error:
        # What follows is the statement around the condition.
        raise InvalidInput(f"--where {sql!r}: {str(error).partition(' LINE ')[0]}") from None


def _read_listed(file: Path, table: LabelTable) -> tuple[list[int], list[str]]:
    """Read the clip ids of the paths in a file, and the paths that are no clips."""
    refuse_special(file)
    try:
        text = file.read_text(encoding="utf-8-sig")
        found = parse_json(text) if file.suffix.lower() == ".json" else text.splitlines()
        paths = [path.strip() for path in found if path.strip()]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{file} cannot be read ({error}); give a path a line") from error
    clip_id = dict(zip(table.paths, table.clip_ids.tolist(), strict=True))
    known = [path for path in dict.fromkeys(paths) if path in clip_id]
    return [clip_id[p] for p in known], [p for p in dict.fromkeys(paths) if p not in clip_id]


def _windows(
    project: Project, models: Mapping[int, str], n_classes: int
) -> dict[int, tuple[Floats, Floats]]:
    """Read start and end ``(n, 2)`` and probabilities ``(n, n_classes)`` of each clip's windows.

    Args:
        project: Where windows are kept.
        models: The model that judged each clip, by clip id.
        n_classes: How many there are now.
    """
    found: dict[int, tuple[Floats, Floats]] = {}
    for model in sorted(set(models.values())):
        try:
            windows = project.windows.read(model)
        except StoreError:
            # A classifier on embeddings, or somebody else's model, judges whole clips.
            continue
        with project.current.read() as session:
            places = session.class_places(model)
        probs = move_columns(windows.probs, places, n_classes)
        order = np.argsort(windows.clip_ids, kind="stable")
        ids, firsts = np.unique(windows.clip_ids[order], return_index=True)
        seconds = np.stack([windows.starts_s, windows.ends_s], axis=1)
        for clip_id, part in zip(ids.tolist(), np.split(order, firsts[1:]), strict=True):
            if models.get(clip_id) == model:
                found[clip_id] = (seconds[part], probs[part])
    return found


class _Examples:
    """Chooses what a clip is compared with: never itself, nor what was cut from the same source."""

    def __init__(
        self,
        found: Mapping[int, Sequence[Example]],
        table: LabelTable,
        row: int,
        *,
        blind: bool,
    ) -> None:
        self.found, self.classes, self.blind = found, table.classes, blind
        self.clip_id, self.group = int(table.clip_ids[row]), table.groups[row]
        self.given = table.labels[row]

    def of_given(self, suggested: Sequence[int]) -> tuple[str, Example] | None:
        """Choose one of a label so far, of a doubted one if there is one and it may be told."""
        doubted = [] if self.blind else [k for k in self.given if k not in suggested]
        return self._of([*doubted, *self.given])

    def of_suggested(self, suggested: Sequence[int]) -> tuple[str, Example] | None:
        """Choose one of a class that is suggested and was not given."""
        return self._of([k for k in suggested if k not in self.given])

    def _of(self, class_ids: Sequence[int]) -> tuple[str, Example] | None:
        for class_id in class_ids:
            for example in self.found.get(class_id, ()):
                akin = self.group is not None and example.group == self.group
                if example.clip_id != self.clip_id and not akin:
                    return self.classes[class_id], example
        return None


def _describe(
    table: LabelTable,
    row: int,
    ordering: NewestScores | None,
    suggestion: Suggestion | None,
    added: Sequence[tuple[int, float]],
    windows: tuple[Floats, Floats] | None,
    duration_s: float | None,
    dispute: str | None,
    examples: _Examples,
) -> Item:
    clip_id, given, names = int(table.clip_ids[row]), table.labels[row], table.classes
    score = None if ordering is None else ordering.values.get(clip_id)
    reasons = [dispute] if dispute else []
    suggested: list[int] = []
    if added:
        # What is asked is whether these are there, too.
        suggested = sorted({*given, *(k for k, _ in added)})
        reasons.append(explain_missing([(names[k], 1 - value) for k, value in added]))
    elif suggestion is not None:
        suggested = suggestion.suggested
        reasons += _explain(suggestion, names)
    elif score is None and not dispute:
        reasons.append("No model has judged this clip yet.")
    if score is not None and ordering is not None and not added:
        metric = ordering.metric.replace("_", " ")
        # Rounded down: nothing is more doubtful than all.
        share = math.floor(100 * ordering.share_above(score))
        reasons.append(f"More doubtful than {share} % of the clips, by {metric}.")
    seconds = None
    if windows is not None and suggested:
        seconds = _doubtful_seconds(*windows, given, suggested, duration_s)
    return Item(
        clip_id=clip_id,
        path=table.paths[row],
        given=tuple(table.names(row)),
        suggested=tuple(names[k] for k in suggested),
        reason=" ".join(reasons),
        score=UNKNOWN_SCORE if score is None else float(np.clip(score, 0, 1)),
        duration_s=duration_s,
        seconds=seconds,
        disputed=dispute is not None,
        given_example=examples.of_given(suggested),
        suggested_example=examples.of_suggested(suggested),
    )


def _explain(suggestion: Suggestion, names: Sequence[str]) -> list[str]:
    """Tell why something is suggested, as it was kept with the suggestion."""
    if suggestion.outdated:
        return ["The label has changed since the model heard this clip."]
    # Versions before 0.1.0 kept no reason.
    heard = ", ".join(names[k] for k in suggestion.suggested)
    return [suggestion.reason or f"The model hears {heard}."]


def _doubtful_seconds(
    seconds: Floats,
    probs: Floats,
    given: Sequence[int],
    suggested: Sequence[int],
    duration_s: float | None,
) -> tuple[float, float] | None:
    """Find the window that speaks most for what is suggested and against what is given.

    None where windows are about as long as the clip: then there is nothing to point at.
    """
    new = [k for k in suggested if k not in given]
    old = [k for k in given if k not in suggested]
    if not new and not old:
        return None
    doubt = probs[:, new].mean(axis=1) if new else np.zeros(len(probs))
    if old:
        doubt = doubt - probs[:, old].mean(axis=1)
    start, end = (float(value) for value in seconds[int(doubt.argmax())])
    start, end = max(start, 0.0), end if duration_s is None else min(end, duration_s)
    if duration_s is None or end - start <= 0 or end - start > 0.8 * duration_s:
        return None
    # Rounded down: the end of the clip is the last one may point at.
    return math.floor(1000 * start) / 1000, math.floor(1000 * end) / 1000


def explain_dispute(answers: Sequence[Sequence[str] | None]) -> str:
    """Tell why a clip comes back: what people answered, without who."""
    different: list[str] = []
    for labels in answers:
        answer = "no usable sound" if labels is None else ", ".join(labels) or "none of these"
        if answer not in different:
            different.append(answer)
    return f"People differ: {'; or '.join(different)}."
