"""Which clips go to people, in which order, and what they are told about each."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from labelkit.cleaning.inputs import ScoreInputs, read_inputs
from labelkit.cleaning.missing import METRIC as MISSING
from labelkit.errors import InvalidInput, StoreError
from labelkit.project import Project
from labelkit.records import MACHINE_STATES, LabelTable
from labelkit.stores.query import query
from labelkit.stores.session import Session

# Scores that order clips that were chosen otherwise, the best first.
ORDERS = ("fusion", "lwlrap", "self_confidence")
NO_MODEL = "none"
# Of a clip nothing is known about, neither doubted nor trusted.
UNKNOWN = 0.5


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which clips to send, one of: so many with the lowest score, missing labels, SQL, a file."""

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
        given = (self.lowest, self.missing, self.where, self.clips, self.disagreements or None)
        if sum(part is not None for part in given) != 1:
            raise InvalidInput(
                "say which clips: one of --lowest-lwlrap N, --lowest SCORE N, --missing N, "
                "--where SQL, --clips FILE, --disagreements"
            )
        number = self.lowest[1] if self.lowest else self.missing
        if number is not None and number < 1:
            raise InvalidInput(f"{number} clips cannot be sent; give 1 or more")


@dataclass(frozen=True, kw_only=True)
class Item:
    """A clip to be listened to.

    ``score`` in [0, 1] orders, the lowest first; ``seconds`` are the doubtful ones, if single
    windows were judged.
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
    also: Sequence[int] = (),
) -> Queue:
    """Choose clips and say of each what is doubtful.

    Args:
        project: Where the labels and scores are.
        choice: Which clips.
        answered: Clip ids a person has answered; they are not among the lowest again.
        disputed: Reason by clip id, where annotators disagree.
        also: Clip ids that lie with annotators already; they get the new view, too.

    Raises:
        InvalidInput: If there is no such score, or the choice is none.
    """
    choice.check()
    with project.store.read() as session:
        table = session.labels()
        durations = dict(session.rows("select clip_id, duration_s from clips"))
        ordering = _ordering(session, choice)
        # Clips that wait keep their place where the new score says nothing of them.
        others = ordering if ordering.metric in ORDERS else _best_ordering(session)
    row = {int(clip_id): k for k, clip_id in enumerate(table.clip_ids)}
    unknown: list[str] = []
    added: dict[int, list[int]] = {}
    free = np.isin(table.states, MACHINE_STATES) & (table.subsets == "train")
    open_ids = set(table.clip_ids[free].tolist()) - set(answered)
    if choice.lowest or choice.missing:
        number = choice.lowest[1] if choice.lowest else choice.missing
        ranked = sorted((v, i) for i, v in ordering.values.items() if i in open_ids)
        chosen = [clip_id for _, clip_id in ranked[:number]]
        added = ordering.classes if choice.missing else {}
    elif choice.where is not None:
        chosen = _where(project, choice.where)
    elif choice.clips is not None:
        chosen, unknown = _listed(choice.clips, table)
    else:
        chosen = sorted(disputed or {})
    wanted = list(dict.fromkeys([*chosen, *(i for i in also if i in row)]))
    evidence = _evidence(project, ordering.judge, wanted)
    several = any(len(labels) > 1 for labels in table.labels)
    items = [
        _describe(
            table, row[clip_id], ordering if clip_id in ordering.values else others, evidence,
            added.get(clip_id, ()), durations[clip_id], (disputed or {}).get(clip_id), several,
        )
        for clip_id in wanted
    ]  # fmt: skip
    items.sort(key=lambda item: (item.score, item.clip_id))
    return Queue(ordering.version, items, set(chosen), unknown)


@dataclass(frozen=True)
class _Ordering:
    """The scores that order, the run that judged, and, for missing labels, the class of each."""

    metric: str = ""
    judge: str | None = None
    version: str = NO_MODEL
    values: dict[int, float] = field(default_factory=dict)
    classes: dict[int, list[int]] = field(default_factory=dict)

    @cached_property
    def _ranked(self) -> np.ndarray:
        return np.sort(list(self.values.values()))

    def doubted_more(self, score: float) -> float:
        """Share of the clips whose score is higher, so less doubtful."""
        return 1 - float(np.searchsorted(self._ranked, score, "right")) / len(self._ranked)


def _ordering(session: Session, choice: Choice) -> _Ordering:
    if choice.lowest or choice.missing:
        metric = choice.lowest[0] if choice.lowest else MISSING
        found = _newest_scores(session, metric)
        if found is None:
            make = "labelkit missing" if choice.missing else f"labelkit score --method {metric}"
            raise InvalidInput(f"no clip has the score {metric!r} yet; make it with: {make}")
        return found
    return _best_ordering(session)


def _best_ordering(session: Session) -> _Ordering:
    """The best of the scores that clips have."""
    for metric in ORDERS:
        found = _newest_scores(session, metric)
        if found is not None:
            return found
    return _Ordering()


def _newest_scores(session: Session, metric: str) -> _Ordering | None:
    """The scores of the last run that made some: those of one judgement, not of several."""
    rows = session.rows(
        "with mine as ("
        "  select s.clip_id, s.class_id, s.value, r.batch_id, coalesce(r.iteration, -1) as round, "
        "  coalesce(r.part_of, r.run_id) as root, "
        "  coalesce(json_extract_string(r.settings, '$.of'), root) as judge from scores s "
        "  join runs r on r.run_id = s.run_id where s.metric = ?"
        "), newest as ("
        # A loop that is not through has scores, but is no run yet.
        "  select max_by(root, batch_id) as root from mine "
        "  where judge in (select run_id from runs)"
        ") select root, judge, clip_id, list(class_id order by value, class_id), "
        "max_by(value, (batch_id, round, -value)) from mine "
        "where root = (select root from newest) group by root, judge, clip_id",
        [metric],
    )
    if not rows:
        return None
    root = rows[0][0]
    return _Ordering(
        metric=metric,
        judge=rows[0][1],
        version=f"{metric} {root}",
        values={clip_id: value for _, _, clip_id, _, value in rows},
        classes={clip_id: class_ids for _, _, clip_id, class_ids, _ in rows},
    )


def _where(project: Project, sql: str) -> list[int]:
    try:
        answer = query(
            project.store,
            "select clip_id from labels_now left join (select clip_id, fusion, lwlrap, "
            f"self_confidence, suggested from review_queue) using (clip_id) where ({sql}\n) "
            "order by clip_id",
            timeout_s=60.0,
        )
    except InvalidInput as error:
        # What follows is the statement around the condition.
        raise InvalidInput(f"--where {sql!r}: {str(error).partition(' LINE ')[0]}") from None
    return [clip_id for (clip_id,) in answer.rows]


def _listed(file: Path, table: LabelTable) -> tuple[list[int], list[str]]:
    """Clip ids of the paths in a file, and the paths that are no clips."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        found = json.loads(text) if file.suffix.lower() == ".json" else text.splitlines()
        paths = [path.strip() for path in found if path.strip()]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{file} cannot be read ({error}); give a path a line") from error
    clip_id = dict(zip(table.paths, table.clip_ids.tolist(), strict=True))
    known = [path for path in dict.fromkeys(paths) if path in clip_id]
    return [clip_id[p] for p in known], [p for p in dict.fromkeys(paths) if p not in clip_id]


@dataclass(frozen=True)
class _Judged:
    """What a run says of some clips: probabilities and the windows they are the mean of."""

    probs: dict[int, np.ndarray] = field(default_factory=dict)
    windows: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def _evidence(project: Project, judge: str | None, clip_ids: Sequence[int]) -> _Judged:
    if judge is None:
        return _Judged()
    evidence = read_inputs(project, judge)
    wanted = set(clip_ids)
    rows = [k for k, clip_id in enumerate(evidence.clip_ids) if int(clip_id) in wanted]
    probs = {int(evidence.clip_ids[k]): evidence.probs[k] for k in rows}
    return _Judged(probs, _windows(project, evidence, rows))


def _windows(
    project: Project, evidence: ScoreInputs, rows: Sequence[int]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Start and end ``(n, 2)`` and probabilities ``(n, n_classes)`` of each clip's windows."""
    mine = {int(evidence.clip_ids[k]): str(evidence.judges[k]) for k in rows}
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for judge in sorted(set(mine.values())):
        try:
            windows = project.windows.read(judge)
        except StoreError:
            # A classifier on embeddings judges whole clips.
            continue
        order = np.argsort(windows.clip_ids, kind="stable")
        ids, firsts = np.unique(windows.clip_ids[order], return_index=True)
        seconds = np.stack([windows.starts_s, windows.ends_s], axis=1)
        for clip_id, part in zip(ids.tolist(), np.split(order, firsts[1:]), strict=True):
            if mine.get(clip_id) == judge:
                found[clip_id] = (seconds[part], windows.probs[part])
    return found


def _describe(
    table: LabelTable,
    row: int,
    ordering: _Ordering,
    judged: _Judged,
    added: Sequence[int],
    duration_s: float | None,
    dispute: str | None,
    several: bool,
) -> Item:
    clip_id = int(table.clip_ids[row])
    given = table.labels[row]
    probs = judged.probs.get(clip_id)
    score = ordering.values.get(clip_id)
    suggested = [] if probs is None else _suggest(given, probs, added, several)
    words = [dispute] if dispute else []
    if probs is not None:
        words.append(_explain(table.classes, given, suggested, probs, added))
    if score is not None and not added:
        share = ordering.doubted_more(score)
        metric = ordering.metric.replace("_", " ")
        # Rounded down: nothing is more doubtful than all.
        words.append(f"More doubtful than {math.floor(100 * share)} % of the clips, by {metric}.")
    elif probs is None and not dispute:
        words.append("No model has judged this clip yet.")
    seconds = None
    if probs is not None and clip_id in judged.windows:
        seconds = _doubtful_seconds(*judged.windows[clip_id], given, suggested, duration_s)
    return Item(
        clip_id=clip_id,
        path=table.paths[row],
        given=tuple(table.names(row)),
        suggested=tuple(table.classes[k] for k in suggested),
        reason=" ".join(words),
        score=UNKNOWN if score is None else float(np.clip(score, 0, 1)),
        duration_s=duration_s,
        seconds=seconds,
        disputed=dispute is not None,
    )


def _suggest(
    given: Sequence[int], probs: np.ndarray, added: Sequence[int], several: bool
) -> list[int]:
    """What the model would tick: what is more likely there than not, or else its first choice."""
    if added:
        return sorted({*given, *added})
    likely = np.flatnonzero(probs > 0.5).tolist() if several else []
    return likely or [int(probs.argmax())]


def _explain(
    classes: Sequence[str],
    given: Sequence[int],
    suggested: Sequence[int],
    probs: np.ndarray,
    added: Sequence[int],
) -> str:
    if added:
        heard = ", ".join(f"{classes[k]} ({_percent(probs[k])})" for k in added)
        return f"The model also hears {heard}, which may be missing."
    heard = ", ".join(f"{classes[k]} ({_percent(probs[k])})" for k in suggested)
    doubted = ", ".join(
        f"{classes[k]} (only {_percent(probs[k])})" for k in given if k not in suggested
    )
    if doubted:
        return f"The model hears {heard}, not {doubted}."
    if given:
        return f"The model hears {heard}, as the label says."
    return f"The model hears {heard}; no label is given."


def _percent(p: float) -> str:
    return f"{100 * p:.0f} %"


def _doubtful_seconds(
    seconds: np.ndarray,
    probs: np.ndarray,
    given: Sequence[int],
    suggested: Sequence[int],
    duration_s: float | None,
) -> tuple[float, float] | None:
    """The window that speaks most for what is suggested and against what is given.

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
    """Why a clip comes back: what people answered, without who."""
    said: list[str] = []
    for labels in answers:
        words = "no usable sound" if labels is None else ", ".join(labels) or "none of these"
        if words not in said:
            said.append(words)
    return f"People differ: {'; or '.join(said)}."
