"""Appending to an open label store: every row is checked before it is written."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

import labelkit
from labelkit.errors import StoreError
from labelkit.records import (
    MACHINE_STATES,
    STATES,
    VERIFIED,
    Batch,
    LabelEvent,
    Predictions,
    Receipt,
    Scores,
    Verdict,
    verdicts_of,
)
from labelkit.stores.columns import as_column, as_lists
from labelkit.stores.reviews import append_reviews
from labelkit.stores.session import Session

IMPORTED_FOLDS = "imported"


class WriteSession(Session):
    """An open transaction of the one writer."""

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
        self._append_classes(batch, batch_id)
        self._append_clips(batch, batch_id)
        self._append_runs(batch, batch_id)
        if batch.fold_set is not None and batch.folds:
            self._append_folds(batch.fold_set, batch.folds, batch_id)
        self._append_events(batch.events, batch.by_person, batch_id)
        self._append_verdicts(batch.verdicts, batch_id)
        for predictions in batch.predictions:
            self._append_predictions(predictions)
        for scores in batch.scores:
            self._append_scores(scores)
        append_reviews(self, batch, batch_id)
        return Receipt(batch_id=batch_id, repeated=False)

    def insert(
        self, table: str, columns: dict[str, Any], query: str = "select * from arrays"
    ) -> None:
        """Insert columns into a table, by a query over them where types need saying."""
        if len(next(iter(columns.values()))):
            arrays = {name: as_column(values) for name, values in columns.items()}  # noqa: F841
            self._con.execute(f"insert into {table} {query}")

    def next_id(self, table: str, column: str) -> int:
        """The first number a table has not given yet."""
        return self.rows(f"select coalesce(max({column}), -1) + 1 from {table}")[0][0]

    def _append_classes(self, batch: Batch, batch_id: int) -> None:
        known = set(self.classes())
        for name in batch.classes:
            if name in known:
                raise StoreError(f"class {name!r} is in the vocabulary already")
            known.add(name)
        first = self.next_id("classes", "class_id")
        ids = range(first, first + len(batch.classes))
        self.insert(
            "classes",
            {"class_id": ids, "name": batch.classes, "batch_id": [batch_id] * len(ids)},
        )

    def _append_clips(self, batch: Batch, batch_id: int) -> None:
        clips, first = batch.clips, self.next_id("clips", "clip_id")
        if not clips:
            return
        class_id = {name: index for index, name in enumerate(self.classes())}
        known = {path for (path,) in self.rows("select path from clips")}
        for clip in clips:
            if clip.path in known:
                raise StoreError(f"clip {clip.path!r} is in the store already")
            known.add(clip.path)
            for name in clip.labels:
                if name not in class_id:
                    raise StoreError(f"clip {clip.path!r}: no class {name!r} in the vocabulary")
        ids = range(first, first + len(clips))
        self.insert(
            "clips",
            {
                "clip_id": ids,
                "path": [c.path for c in clips],
                "content_hash": [c.content_hash for c in clips],
                "duration_s": [c.duration_s for c in clips],
                "group_name": [c.group for c in clips],
                "subset": [c.subset for c in clips],
                "batch_id": [batch_id] * len(clips),
            },
        )
        events = [
            LabelEvent(
                clip_id=index,
                state=clip.state,
                labels=[class_id[name] for name in clip.labels],
                source=batch.kind,
            )
            for index, clip in zip(ids, clips, strict=True)
        ]
        self._append_events(events, True, batch_id)
        # A verified label is somebody's word that its class is there.
        said = [verdicts_of(event, batch.kind) for event in events if event.state == VERIFIED]
        self._append_verdicts([verdict for part in said for verdict in part], batch_id)
        folds = {i: c.fold for i, c in zip(ids, clips, strict=True) if c.fold is not None}
        if folds:
            self._append_folds(IMPORTED_FOLDS, folds, batch_id)

    def _append_events(self, events: Sequence[LabelEvent], by_person: bool, batch_id: int) -> None:
        if not events:
            return
        n_classes, now = len(self.classes()), self._now()
        states = dict(
            self.rows("select clip_id, max_by(state, event_id) from label_events group by clip_id")
        )
        known = self._clip_ids()
        runs = {run_id for (run_id,) in self.rows("select run_id from runs")}
        for event in events:
            if event.run_id is not None and event.run_id not in runs:
                raise StoreError(f"label event of clip {event.clip_id}: no run {event.run_id!r}")
            _check_event(event, states.get(event.clip_id), known, n_classes, by_person)
        first = self.next_id("label_events", "event_id")
        self.insert(
            "label_events",
            {
                "event_id": range(first, first + len(events)),
                "batch_id": [batch_id] * len(events),
                "clip_id": [e.clip_id for e in events],
                "state": [e.state for e in events],
                "labels": as_lists(sorted(set(e.labels)) for e in events),
                "source": [e.source for e in events],
                "run_id": [e.run_id for e in events],
                "iteration": [e.iteration for e in events],
                "score": [e.score for e in events],
                "evidence": [None if e.evidence is None else _json(e.evidence) for e in events],
                "made_at": [now] * len(events),
            },
            # A column of nothing but None arrives without a type, hence the casts.
            "select event_id, batch_id, clip_id, state, labels, source, run_id::varchar, "
            "iteration::integer, score::double, evidence::varchar, made_at::timestamp from arrays",
        )

    def _append_verdicts(self, verdicts: Sequence[Verdict], batch_id: int) -> None:
        n_classes = len(self.classes())
        known = self._clip_ids()
        for v in verdicts:
            if v.clip_id not in known:
                raise StoreError(f"verdict on clip {v.clip_id}: no such clip")
            if not 0 <= v.class_id < n_classes:
                raise StoreError(f"verdict on clip {v.clip_id}: no class {v.class_id}")
            _check_number(v.score, f"verdict on clip {v.clip_id}")
        first = self.next_id("label_verdicts", "verdict_id")
        self.insert(
            "label_verdicts",
            {
                "verdict_id": range(first, first + len(verdicts)),
                "batch_id": [batch_id] * len(verdicts),
                "clip_id": [v.clip_id for v in verdicts],
                "class_id": [v.class_id for v in verdicts],
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
            "folds",
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
                    run.run_id, run.kind, run.part_of, run.recipe, _json(run.settings), run.seed,
                    list(run.classes), run.as_of, run.fold_set, run.fold, run.iteration,
                    list(run.parents), [int(i) for i in run.trained_on], _json(run.metrics),
                    _json(versions()), batch_id,
                ],
            )  # fmt: skip

    def _append_predictions(self, predictions: Predictions) -> None:
        found = self.rows("select len(classes) from runs where run_id = ?", [predictions.run_id])
        if not found:
            raise StoreError(f"predictions of {predictions.run_id!r}: no such run")
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
        columns = {name: probs[:, index] for index, name in enumerate(names)}
        self.insert(
            "predictions",
            {"run_id": [predictions.run_id] * len(clip_ids), "clip_id": clip_ids} | columns,
            f"select run_id, clip_id, [{', '.join(names)}] from arrays",
        )

    def _append_scores(self, scores: Scores) -> None:
        known = self.rows("select 1 from runs where run_id = ?", [scores.run_id])
        if not known:
            raise StoreError(f"scores of {scores.run_id!r}: no such run")
        self.check_clips(scores.clip_ids.tolist(), f"scores of {scores.run_id!r}")
        bad = np.flatnonzero(~np.isfinite(scores.values))
        if len(bad):
            raise StoreError(
                f"score {scores.metric} of clip {scores.clip_ids[bad[0]]} is "
                f"{scores.values[bad[0]]}; scores must be finite"
            )
        n = len(scores.clip_ids)
        self.insert(
            "scores",
            {
                "run_id": [scores.run_id] * n,
                "clip_id": scores.clip_ids,
                "class_id": [-1] * n if scores.class_ids is None else scores.class_ids,
                "metric": [scores.metric] * n,
                "value": scores.values,
            },
        )

    def _clip_ids(self) -> set[int]:
        return {clip_id for (clip_id,) in self.rows("select clip_id from clips")}

    def check_clips(self, clip_ids: Iterable[int], where: str) -> None:
        """Refuse clip ids that the store does not know."""
        unknown = set(clip_ids) - self._clip_ids()
        if unknown:
            raise StoreError(f"{where}: no clip {min(unknown)}")

    def _now(self) -> Any:
        return self.rows("select (now() at time zone 'utc')::varchar")[0][0]


def _check_event(
    event: LabelEvent, state: str | None, known: set[int], n_classes: int, by_person: bool
) -> None:
    where = f"label event of clip {event.clip_id}"
    if event.clip_id not in known:
        raise StoreError(f"{where}: no such clip")
    if event.state not in STATES:
        raise StoreError(f"{where}: no state {event.state!r}; known: {', '.join(STATES)}")
    for class_id in event.labels:
        if not 0 <= class_id < n_classes:
            raise StoreError(f"{where}: no class {class_id}")
    _check_number(event.score, where)
    if not by_person and (
        state not in (None, *MACHINE_STATES) or event.state not in MACHINE_STATES
    ):
        raise StoreError(
            f"{where}: a machine may not make it {event.state}, a person left it {state}"
        )


def _check_number(value: float | None, where: str) -> None:
    if value is not None and not np.isfinite(value):
        raise StoreError(f"{where}: score is {value}; scores must be finite")


def versions() -> dict[str, str]:
    """Versions of labelkit and of what its results depend on."""
    names = ("torch", "numpy", "librosa", "duckdb")
    found = {"labelkit": labelkit.__version__, "python": platform.python_version()}
    return found | {name: version(name) for name in names}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
