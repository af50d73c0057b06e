"""Appending to an open label store: every row is checked before it is written."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np

import labelkit
from labelkit.errors import StoreError
from labelkit.paths import is_clip_path
from labelkit.records import (
    Batch,
    ClassChange,
    LabelEvents,
    Predictions,
    Receipt,
    Scores,
    Suggestions,
    Verdict,
)
from labelkit.states import MACHINE_STATES, RELABELED, STATES, VERIFIED
from labelkit.stores import materialised
from labelkit.stores.catalog import create_predictions, renew_standing_views
from labelkit.stores.clips import find_clips_with_several
from labelkit.stores.columns import as_column, as_json, as_lists, event_columns, label_columns
from labelkit.stores.reviews import append_reviews
from labelkit.stores.session import Session
from labelkit.stores.standing import Vocabulary
from labelkit.stores.views import MARK
from labelkit.types import Array, Ints

IMPORTED_FOLDS = "imported"


class WriteSession(Session):
    """An open transaction of the one writer; ``appended`` are the keys of its batches."""

    def __init__(self, con: Any) -> None:
        super().__init__(con)
        self.appended: list[str] = []

    def append(self, batch: Batch) -> Receipt:
        """Write a batch, or nothing if its key is there already.

        Raises:
            StoreError: If the batch names an unknown clip, class or run, repeats a
                path, holds a NaN or infinite number, or lets a machine touch a clip
                that a person decided on. The message names the first such row.
        """
        known = self.rows("select batch_id from batches where batch_key = ?", [batch.key])
        if known:
            return Receipt(batch_id=known[0][0], repeated=True)
        batch_id = self.last_batch() + 1
        self._con.execute(
            "insert into batches values (?, ?, ?, ?, ?, ?, ?, ?, ?, now() at time zone 'utc')",
            [
                batch_id, batch.key, batch.kind, batch.actor, batch.by_person, batch.reason,
                batch.run_id, batch.undoes, labelkit.__version__,
            ],
        )  # fmt: skip
        self._append_facts(batch, batch_id)
        numbers = self._append_classes(batch, batch_id)
        self._append_clips(batch, batch_id)
        self._append_clip_changes(batch, batch_id)
        self._append_runs(batch, batch_id)
        if batch.fold_set is not None and batch.folds:
            self._append_folds(batch.fold_set, batch.folds, batch_id)
        self._append_events(event_columns(batch.events), batch.by_person, batch_id, numbers)
        self._append_verdicts(batch.verdicts, batch_id, numbers)
        _check_judgements(batch)
        for predictions in batch.predictions:
            self._append_predictions(predictions)
        for scores in batch.scores:
            self._append_scores(scores, numbers)
        for suggestions in batch.suggestions:
            self._append_suggestions(suggestions, numbers)
        if batch.suggestions or batch.scores:
            materialised.keep_scores(self, batch_id)
        append_reviews(self, batch, batch_id, numbers)
        self.appended.append(batch.key)
        return Receipt(batch_id=batch_id, repeated=False)

    def insert(
        self,
        table: str,
        columns: dict[str, Any],
        query: str = "select * from arrays",
        values: Sequence[Any] = (),
    ) -> None:
        """Insert columns into a table, by a query over them where types need saying."""
        if len(next(iter(columns.values()))):
            with self._beside({name: as_column(column) for name, column in columns.items()}):
                self._con.execute(f"insert into {table} {query}", values)

    def next_id(self, table: str, column: str) -> int:
        """Find the first number a table has not given yet."""
        return int(self.rows(f"select coalesce(max({column}), -1) + 1 from {table}")[0][0])

    def _append_facts(self, batch: Batch, batch_id: int) -> None:
        for name, value in batch.facts.items():
            self.execute("insert into facts values (?, ?, ?)", [batch_id, name, value])

    def _append_classes(self, batch: Batch, batch_id: int) -> list[int]:
        """Add classes and note what becomes of others.

        Returns:
            The numbers in ``class_rows`` of the classes by whose places the batch speaks: those of
            the vocabulary it was made with, and behind them its new ones.
        """
        vocabulary = self.vocabulary()
        numbers, new = _numbers_of(batch, vocabulary), list[str]()
        known, changes = set(vocabulary.names), list(batch.class_changes)
        first = self.next_id("class_rows", "class_id")
        for name in batch.classes:
            if name in known:
                raise StoreError(f"class {name!r} is in the vocabulary already")
            known.add(name)
            # One of a name that was retired is that class again.
            retired = vocabulary.find_retired(name)
            if retired is None:
                numbers.append(first + len(new))
                new.append(name)
            else:
                numbers.append(retired)
                changes.append(ClassChange(class_id=retired, name=name))
        ids = range(first, first + len(new))
        self.insert("class_rows", {"class_id": ids, "name": new, "batch_id": [batch_id] * len(ids)})
        for change in changes:
            self.execute(
                "insert into class_changes values (?, ?, ?, ?, ?)",
                [batch_id, change.class_id, change.name, change.into, change.retired],
            )
        if changes or (new and not vocabulary.unchanged):
            renew_standing_views(self._con)
        if changes:
            self._check_changes(changes)
        return numbers

    def _check_changes(self, changes: Sequence[ClassChange]) -> None:
        """Refuse classes of one name, classes merged into none, and clips of several labels."""
        vocabulary = self.vocabulary()
        names, places = vocabulary.names, vocabulary.places
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise StoreError(
                f"class {twice!r} would be in the vocabulary twice; give the one that is there "
                f"another name first: labelkit classes rename {shlex.quote(twice)} NEW"
            )
        for change in changes:
            if change.into is not None and places[change.class_id] is None:
                raise StoreError(
                    f"class {change.name!r} would be part of a class that is none any more; take "
                    "back what became of that one first: labelkit undo"
                )
        if self.is_kind_known() and not self.allows_several():
            paths, n = find_clips_with_several(self)
            if n:
                raise StoreError(
                    f"clip {paths[0]!r} and {n - 1} others would have several labels, but clips of "
                    "this project have one; allow several with: labelkit labels several"
                )

    def _append_clip_changes(self, batch: Batch, batch_id: int) -> None:
        """Note where clips lie now, and which are gone; no two may lie at one place."""
        if not batch.clip_changes:
            return
        self.insert(
            "clip_changes",
            {
                "batch_id": [batch_id] * len(batch.clip_changes),
                "clip_id": [change.clip_id for change in batch.clip_changes],
                "path": [change.path for change in batch.clip_changes],
                "gone": [change.gone for change in batch.clip_changes],
            },
        )
        renew_standing_views(self._con)
        for change in batch.clip_changes:
            if not is_clip_path(change.path):
                raise StoreError(
                    f"the path {change.path!a} of a clip does not stay below the audio folder"
                )
        twice = self.rows(
            "select path, max(batch_id) from clips group by path having count(*) > 1 limit 1"
        )
        if twice:
            raise StoreError(
                f"clip {twice[0][0]!r} would be in the store twice; take the later import back "
                f"first: labelkit undo {twice[0][1]}"
            )
        self.execute(
            "update clip_scores set path = c.path from clips c where c.clip_id = "
            "clip_scores.clip_id and c.path <> clip_scores.path"
        )

    def _append_clips(self, batch: Batch, batch_id: int) -> None:
        clips, first = batch.clips, self.next_id("clip_rows", "clip_id")
        if not clips:
            return
        vocabulary = self.vocabulary()
        class_id = dict(zip(vocabulary.names, vocabulary.stored, strict=True))
        paths = [clip.path for clip in clips]
        known = self._known_paths(paths)
        for clip in clips:
            if not is_clip_path(clip.path):
                raise StoreError(
                    f"the path {clip.path!a} of a clip does not stay below the audio folder"
                )
            if clip.path in known:
                raise StoreError(f"clip {clip.path!r} is in the store already")
            known.add(clip.path)
            for name in clip.labels:
                if name not in class_id:
                    raise StoreError(f"clip {clip.path!r}: no class {name!r} in the vocabulary")
        ids = range(first, first + len(clips))
        self.insert(
            "clip_rows",
            {
                "clip_id": ids,
                "path": paths,
                "content_hash": [c.content_hash for c in clips],
                "duration_s": [c.duration_s for c in clips],
                "group_name": [c.group for c in clips],
                "subset": [c.subset for c in clips],
                "batch_id": [batch_id] * len(clips),
                "domain_name": [c.domain for c in clips],
            },
        )
        labels = [sorted({class_id[name] for name in c.labels}) for c in clips]
        states = [c.state for c in clips]
        self._append_events(
            LabelEvents(
                clip_ids=np.array(ids),
                states=states,
                labels=labels,
                sources=[batch.kind] * len(clips),
            ),
            True,
            batch_id,
            range(len(vocabulary.log)),
        )
        # A label that people gave or confirmed is somebody's word that its class is there.
        said = [
            Verdict(clip_id=index, class_id=label, verdict="present", rule=batch.kind)
            for index, state, given in zip(ids, states, labels, strict=True)
            if state in (VERIFIED, RELABELED)
            for label in given
        ]
        self._append_verdicts(said, batch_id, range(len(vocabulary.log)))
        folds = {i: c.fold for i, c in zip(ids, clips, strict=True) if c.fold is not None}
        if folds:
            self._append_folds(IMPORTED_FOLDS, folds, batch_id)

    def _known_paths(self, paths: list[str]) -> set[str]:
        """Find those of some paths that are in the store."""
        sql = "select path from clips semi join arrays using (path)"
        return {path for (path,) in self.rows_beside({"path": as_column(paths)}, sql)}

    def _append_events(
        self, events: LabelEvents, by_person: bool, batch_id: int, numbers: Sequence[int]
    ) -> None:
        n = len(events.clip_ids)
        if not n:
            return
        if events.numbered:
            numbers = range(len(self.vocabulary().log))
        labels, spell_labels = label_columns(n, *self._check_events(events, numbers))
        if not by_person:
            self._check_machine(events)
        first = self.next_id("event_rows", "event_id")
        columns = {
            "event_id": range(first, first + n),
            "clip_id": events.clip_ids,
            "state": events.states,
            "source": events.sources,
            **labels,
        }
        optional = {
            "run_id::varchar": events.run_ids,
            "iteration::integer": events.iterations,
            "score::double": events.scores,
            "evidence::varchar": events.evidence,
        }
        for name, values in optional.items():
            if values is not None:
                columns[name.partition(":")[0]] = values
        # A column of nothing but None arrives without a type, hence the casts.
        rest = ["null" if values is None else name for name, values in optional.items()]
        self.insert(
            "event_rows",
            columns,
            f"select event_id, {batch_id}, clip_id, state, {spell_labels}, source, "
            f"{', '.join(rest)}, now() at time zone 'utc' from arrays",
        )
        materialised.keep_state(self, first + n - 1, batch_id)

    def _check_events(self, events: LabelEvents, numbers: Sequence[int]) -> tuple[Ints, Ints]:
        """Refuse columns that name what is not there, and name the first row that does.

        Returns:
            Row of the event and number in ``class_rows`` of each label.
        """

        def refuse(row: int, problem: str) -> None:
            raise StoreError(f"label event of clip {events.clip_ids[row]}: {problem}")

        n = len(events.clip_ids)
        for name, column in vars(events).items():
            if column is not None and name != "numbered" and len(column) != n:
                raise StoreError(f"label events: {len(column)} {name} for {n} clips")
        n_clips = self.next_id("clip_rows", "clip_id")
        odd = np.flatnonzero((events.clip_ids < 0) | (events.clip_ids >= n_clips))
        if len(odd):
            refuse(odd[0], "no such clip")
        for state in set(events.states) - set(STATES):
            known = ", ".join(STATES)
            refuse(list(events.states).index(state), f"no state {state!r}; known: {known}")
        n_classes = len(numbers)
        lengths = np.fromiter(map(len, events.labels), np.int64, len(events.labels))
        rows = np.repeat(np.arange(len(lengths)), lengths)
        classes = np.array(list(chain.from_iterable(events.labels)))
        if classes.dtype.kind not in "iu":
            if len(classes):
                raise StoreError(f"label events: labels are {classes.dtype}, not ids of classes")
            classes = classes.astype(np.int64)
        odd = np.flatnonzero((classes < 0) | (classes >= n_classes))
        if len(odd):
            refuse(rows[odd[0]], f"no class {classes[odd[0]]}")
        stored = _take(numbers, classes)
        if lengths.max(initial=0) > 1 and self.is_kind_known() and not self.allows_several():
            places = self.vocabulary().places
            for row in np.flatnonzero(lengths > 1):
                # Of merged classes several may be one.
                standing = {places[k] for k in stored[rows == row]} - {None}
                if len(standing) > 1:
                    refuse(
                        int(row),
                        f"{len(standing)} labels, but clips of this project have one; allow "
                        "several with: labelkit labels several",
                    )
        if events.scores is not None:
            scores = np.asarray(events.scores)
            if scores.dtype == object:
                scores = np.array([0 if score is None else score for score in scores], float)
            odd = np.flatnonzero(~np.isfinite(scores))
            if len(odd):
                refuse(odd[0], f"score is {scores[odd[0]]}; scores must be finite")
        for run_id in set(events.run_ids or ()) - {None}:
            if not self.rows("select 1 from runs where run_id = ?", [run_id]):
                refuse(list(events.run_ids or ()).index(run_id), f"no run {run_id!r}")
        return rows, stored

    def _check_machine(self, events: LabelEvents) -> None:
        """Refuse events by which a machine decides for a person, or against one."""
        wanted = np.array(events.states, object)
        odd: Any = []
        if set(events.states) - set(MACHINE_STATES):
            odd = np.flatnonzero(~np.isin(wanted, MACHINE_STATES))
        # Of the few clips that a person ever decided among these, the newest event counts.
        people = dict(
            self.rows_beside(
                {"clip_id": events.clip_ids},
                f"""
                with decided as (
                    select clip_id from clip_state where not list_contains($machine, state)
                    union all
                    select clip_id from label_events
                    where event_id > {MARK} and not list_contains($machine, state)
                )
                select clip_id, max_by(state, event_id) as state from label_events
                where clip_id in (select clip_id from decided semi join arrays using (clip_id))
                group by clip_id having not list_contains($machine, state)
                """,
                {"machine": list(MACHINE_STATES)},
            )
        )
        overridden: Any = []
        if people:
            overridden = np.flatnonzero(np.isin(events.clip_ids, list(people)))
        if len(odd) or len(overridden):
            row = min([*odd, *overridden])
            clip_id = int(events.clip_ids[row])
            raise StoreError(
                f"label event of clip {clip_id}: a machine may not make it {wanted[row]}"
                + (f", a person left it {people[clip_id]}" if clip_id in people else "")
            )

    def _append_verdicts(
        self, verdicts: Sequence[Verdict], batch_id: int, numbers: Sequence[int]
    ) -> None:
        if not verdicts:
            return
        n_classes, n_clips = len(numbers), self.next_id("clip_rows", "clip_id")
        for v in verdicts:
            if not 0 <= v.clip_id < n_clips:
                raise StoreError(f"verdict on clip {v.clip_id}: no such clip")
            if not 0 <= v.class_id < n_classes:
                raise StoreError(f"verdict on clip {v.clip_id}: no class {v.class_id}")
            _check_number(v.score, f"verdict on clip {v.clip_id}")
        first = self.next_id("verdict_rows", "verdict_id")
        self.insert(
            "verdict_rows",
            {
                "verdict_id": range(first, first + len(verdicts)),
                "batch_id": [batch_id] * len(verdicts),
                "clip_id": [v.clip_id for v in verdicts],
                "class_id": _take(numbers, [v.class_id for v in verdicts]),
                "start_s": [v.start_s for v in verdicts],
                "end_s": [v.end_s for v in verdicts],
                "verdict": [v.verdict for v in verdicts],
                "rule": [v.rule for v in verdicts],
                "score": [v.score for v in verdicts],
            },
            "select verdict_id, batch_id, clip_id, class_id, start_s::double, end_s::double, "
            "verdict, rule, score::double from arrays",
        )

    def _append_folds(self, fold_set: str, folds: dict[int, int], batch_id: int) -> None:
        self.check_clips(folds, f"fold set {fold_set!r}")
        standing = self.folds(fold_set)
        for clip_id, fold in folds.items():
            if standing.get(clip_id, fold) != fold:
                raise StoreError(
                    f"fold set {fold_set!r} is frozen: clip {clip_id} stands in fold "
                    f"{standing[clip_id]}, not {fold}"
                )
        new = {clip_id: fold for clip_id, fold in folds.items() if clip_id not in standing}
        self.insert(
            "fold_rows",
            {
                "fold_set": [fold_set] * len(new),
                "clip_id": list(new),
                "fold": list(new.values()),
                "batch_id": [batch_id] * len(new),
            },
        )

    def _append_runs(self, batch: Batch, batch_id: int) -> None:
        for run in batch.runs:
            known = {run_id for (run_id,) in self.rows("select run_id from runs")}
            if run.run_id in known:
                raise StoreError(f"run {run.run_id!r} is finished already")
            missing = set(run.parents) - known
            if missing:
                raise StoreError(f"run {run.run_id!r}: no parent run {min(missing)!r}")
            self._con.execute(
                "insert into runs values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
                "now() at time zone 'utc')",
                [
                    run.run_id, run.kind, run.part_of, run.recipe, as_json(run.settings), run.seed,
                    list(run.classes), run.as_of, run.fold_set, run.fold, run.iteration,
                    list(run.parents), [int(i) for i in run.trained_on], as_json(run.metrics),
                    as_json(versions()), batch_id,
                ],
            )  # fmt: skip

    def _append_predictions(self, predictions: Predictions) -> None:
        found = self.rows("select len(classes) from runs where run_id = ?", [predictions.run_id])
        clip_ids, probs = predictions.clip_ids, predictions.probs
        self.check_clips(clip_ids.tolist(), f"predictions of {predictions.run_id!r}")
        if probs.shape != (len(clip_ids), found[0][0]):
            raise StoreError(
                f"predictions of {predictions.run_id!r} have shape {probs.shape}, "
                f"its {found[0][0]} classes and {len(clip_ids)} clips need another"
            )
        bad = np.flatnonzero(~np.isfinite(probs).all(axis=1))
        if len(bad):
            raise StoreError(
                f"predictions of {predictions.run_id!r}: clip {clip_ids[bad[0]]} has a NaN or "
                f"infinite probability, and so have {len(bad) - 1} others"
            )
        if not len(clip_ids):
            return
        # One column a class, put together by the database: a flat copy, no Python lists.
        names = [f"c{index}" for index in range(probs.shape[1])]
        columns: dict[str, Array] = {name: probs[:, index] for index, name in enumerate(names)}
        columns |= {"clip_id": clip_ids, "top_class": probs.argmax(axis=1).astype(np.int32)}
        query = (
            f"select ? as run_id, clip_id, [{', '.join(names)}]::float[] as probs, top_class "
            "from arrays"
        )
        if len(clip_ids) <= materialised.ROWS_OF_RUN:
            self.insert("prediction_rows", columns, query, [predictions.run_id])
        else:
            with materialised.prediction_file(self, predictions.run_id, len(clip_ids)) as file:
                target = str(file).replace("'", "''")
                with self._beside(columns):
                    self.execute(f"copy ({query}) to '{target}'", [predictions.run_id])
            create_predictions(self._con)

    def _append_scores(self, scores: Scores, numbers: Sequence[int]) -> None:
        self.check_clips(scores.clip_ids.tolist(), f"scores of {scores.run_id!r}")
        bad = np.flatnonzero(~np.isfinite(scores.values))
        if len(bad):
            raise StoreError(
                f"score {scores.metric} of clip {scores.clip_ids[bad[0]]} is "
                f"{scores.values[bad[0]]}; scores must be finite"
            )
        n = len(scores.clip_ids)
        self.insert(
            "score_rows",
            {
                "run_id": [scores.run_id] * n,
                "clip_id": scores.clip_ids,
                "class_id": (
                    [-1] * n if scores.class_ids is None else _take(numbers, scores.class_ids)
                ),
                "metric": [scores.metric] * n,
                "value": scores.values,
            },
        )

    def _append_suggestions(self, told: Suggestions, numbers: Sequence[int]) -> None:
        self.check_clips(told.clip_ids.tolist(), f"suggestions of {told.run_id!r}")
        n_classes = len(numbers)
        for clip_id, ids in zip(told.clip_ids, told.suggested, strict=True):
            if not len(ids) or not all(0 <= k < n_classes for k in ids):
                raise StoreError(f"suggestions of {told.run_id!r}: clip {clip_id} gets {list(ids)}")
        n = len(told.clip_ids)
        given, suggested = (
            [_take(numbers, ids).tolist() for ids in column]
            for column in (told.given, told.suggested)
        )
        self.insert(
            "suggestion_rows",
            {
                "run_id": [told.run_id] * n,
                "clip_id": told.clip_ids,
                "given": as_lists(given),
                "suggested": as_lists(suggested),
                "reason": told.reasons,
            },
            "select run_id, clip_id, given::integer[], suggested::integer[], reason from arrays",
        )

    def check_clips(self, clip_ids: Iterable[int], where: str) -> None:
        """Refuse clip ids that the store does not know; ids are given without a gap."""
        n_clips = self.next_id("clip_rows", "clip_id")
        unknown = [clip_id for clip_id in clip_ids if not 0 <= clip_id < n_clips]
        if unknown:
            raise StoreError(f"{where}: no clip {min(unknown)}")


def _numbers_of(batch: Batch, vocabulary: Vocabulary) -> list[int]:
    """Find the numbers of the classes by whose places a batch speaks.

    A run, and whoever read the labels in an earlier session, speaks of the vocabulary of then;
    meanwhile classes may have been renamed, merged or retired.
    """
    run = next(iter(batch.runs), None)
    spoken = batch.spoken or (None if run is None else (run.classes, run.as_of))
    if spoken is None:
        return vocabulary.stored
    found = vocabulary.find_numbers(*spoken)
    return [place if number is None else number for place, number in enumerate(found)]


def _take(numbers: Sequence[int], places: Sequence[int] | Ints) -> Ints:
    """Return the numbers at some places."""
    return np.asarray(numbers, np.int64)[np.asarray(places, np.int64)]


def _check_judgements(batch: Batch) -> None:
    """Refuse what is said of a run of another batch, or twice of a clip."""
    runs = {run.run_id for run in batch.runs}
    parts: dict[tuple[str, str], list[Ints]] = {}
    for p in batch.predictions:
        parts.setdefault((p.run_id, "predictions"), []).append(p.clip_ids)
    for t in batch.suggestions:
        parts.setdefault((t.run_id, "suggestions"), []).append(t.clip_ids)
    for s in batch.scores:
        # Clip and class as one number.
        classes = -1 if s.class_ids is None else s.class_ids
        keys = s.clip_ids.astype(np.int64) * 2**20 + classes + 1
        parts.setdefault((s.run_id, f"scores {s.metric}"), []).append(keys)
    for (run_id, what), ids in parts.items():
        if run_id not in runs:
            raise StoreError(f"{what} of {run_id!r}: no such run in the batch")
        together = np.concatenate(ids)
        if len(np.unique(together)) < len(together):
            raise StoreError(f"{what} of {run_id!r}: a clip is there twice")


def _check_number(value: float | None, where: str) -> None:
    if value is not None and not np.isfinite(value):
        raise StoreError(f"{where}: score is {value}; scores must be finite")


def versions() -> dict[str, str]:
    """Read the versions of labelkit and of what its results depend on."""
    names = ("torch", "numpy", "librosa", "duckdb")
    found = {"labelkit": labelkit.__version__, "python": platform.python_version()}
    return found | {name: version(name) for name in names}
