"""Questions to an open label store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import numpy as np

from labelkit.errors import StoreError
from labelkit.records import ONE, SEVERAL, LabelTable
from labelkit.stores.standing import Vocabulary, move_columns, read_vocabulary
from labelkit.stores.views import OF_THE_PRESENT
from labelkit.types import Array, Bools, Floats, Ints, Objects

# What each person, and each search for missing labels, last said of a clip and class.
_SAID = """
with said as (
    select v.clip_id, v.class_id, max_by(v.verdict, v.verdict_id) as verdict,
           max(v.verdict_id) as verdict_id, b.by_person
    from label_verdicts v join batches b on b.batch_id = v.batch_id
    where v.start_s is null and (b.by_person or b.kind = 'missing')
    and v.batch_id not in (select batch_id from taken_back)
    group by v.clip_id, v.class_id, b.actor, b.by_person
    having max_by(v.verdict, v.verdict_id) <> 'withdrawn'
)
"""


class Session:
    """Questions to an open store."""

    def __init__(self, con: Any) -> None:
        self._con = con

    def rows(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Fetch all rows of one of labelkit's own statements."""
        found: list[tuple[Any, ...]] = self._con.execute(sql, values).fetchall()
        return found

    def execute(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> None:
        """Run one of labelkit's own statements that has no rows to return."""
        self._con.execute(sql, values)

    def rows_beside(
        self, arrays: dict[str, Array], sql: str, values: Sequence[Any] | dict[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Fetch all rows of a statement that reads columns as the table ``arrays``."""
        with self._beside(arrays):
            found: list[tuple[Any, ...]] = self._con.execute(sql, values).fetchall()
            return found

    @contextmanager
    def _beside(self, arrays: dict[str, Array]) -> Iterator[None]:
        """Let statements read columns as the table ``arrays``."""
        import duckdb

        self._con.register("arrays", arrays)
        try:
            yield
        finally:
            # A transaction that broke takes the name along.
            with suppress(duckdb.Error):
                self._con.unregister("arrays")

    def classes(self) -> list[str]:
        """Read the vocabulary, in the order of the class ids."""
        return [name for (name,) in self.rows("select name from classes order by class_id")]

    def vocabulary(self) -> Vocabulary:
        """Read the classes with what became of them: renamed, merged or retired."""
        return read_vocabulary(self._con)

    def class_places(self, run_id: str, table: LabelTable | None = None) -> list[int | None]:
        """Find where each class of a run is in a vocabulary; None where it is not in it.

        Args:
            run_id: The run.
            table: Labels of some moment, whose vocabulary counts; that of today if None.

        Raises:
            StoreError: If there is no such run.
        """
        rows = self.rows("select classes, as_of from runs where run_id = ?", [run_id])
        if not rows:
            raise StoreError(f"no run {run_id!r}; see: labelkit status")
        vocabulary = self.vocabulary()
        among = vocabulary.stored if table is None else _numbers_of(vocabulary, table)
        return vocabulary.locate(vocabulary.find_numbers(*rows[0]), among)

    def places_of(self, table: LabelTable) -> list[int | None]:
        """Find where each class of a table is today; None where it is no more."""
        vocabulary = self.vocabulary()
        return vocabulary.locate(_numbers_of(vocabulary, table), vocabulary.stored)

    def labels_of(self, table: LabelTable) -> list[list[int]]:
        """Return the labels of a table in places of the vocabulary of today."""
        places = self.places_of(table)
        if places == list(range(len(places))):
            return table.labels
        return [
            sorted({place for label in labels if (place := places[label]) is not None})
            for labels in table.labels
        ]

    def allows_several(self, as_of: int | None = None) -> bool:
        """Tell whether a clip may have several labels, now or after a batch.

        That is a fact of the project; while nobody has stated it, the labels there are tell.
        """
        rows = self.rows(
            "select value from facts where name = 'labels' and batch_id <= coalesce(?, batch_id) "
            "order by batch_id desc limit 1",
            [as_of],
        )
        if rows and rows[0][0] is not None:
            return bool(rows[0][0] == SEVERAL)
        return bool(self.rows("select 1 from label_events where len(labels) > 1 limit 1"))

    def kind(self) -> str | None:
        """Tell whether clips have one label or may have several; None where nothing tells."""
        if not self.is_kind_known() and not self.rows("select 1 from clips limit 1"):
            return None
        return SEVERAL if self.allows_several() else ONE

    def is_kind_known(self) -> bool:
        """Tell whether it was stated that a clip has one label, or may have several."""
        rows = self.rows("select max_by(row(value), batch_id) from facts where name = 'labels'")
        return rows[0][0] is not None and rows[0][0][0] is not None

    def last_batch(self) -> int:
        """Find the id of the newest batch; 0 in an empty store."""
        return int(self.rows("select coalesce(max(batch_id), 0) from batches")[0][0])

    def labels(self, as_of: int | None = None) -> LabelTable:
        """Read the state of every clip, now or after batch ``as_of``."""
        events = "current_events"
        if as_of is not None:
            events = (
                "(from label_events where event_id in (select max(event_id) from label_events "
                "where batch_id <= $as_of group by clip_id))"
            )
        data = self._con.execute(
            "select c.clip_id, c.path, e.labels, e.state, c.group_name, c.subset, c.content_hash, "
            "c.domain_name "
            f"from {events} e join clips c on c.clip_id = e.clip_id order by c.clip_id",
            {} if as_of is None else {"as_of": as_of},
        ).fetchnumpy()
        return LabelTable(
            clip_ids=np.asarray(data["clip_id"], np.int64),
            paths=_objects(data["path"]),
            labels=[list(map(int, labels)) for labels in data["labels"]],
            states=np.array(_objects(data["state"]), "U16"),
            groups=_objects(data["group_name"]),
            subsets=np.array(_objects(data["subset"]), "U8"),
            content_hashes=_objects(data["content_hash"]),
            domains=_objects(data["domain_name"]),
            classes=self.classes(),
            as_of=self.last_batch() if as_of is None else as_of,
            several=self.allows_several(as_of),
        )

    def taken_back(self) -> list[int]:
        """List the ids of batches that were undone, where the undo was not undone in turn."""
        return [batch_id for (batch_id,) in self.rows("select batch_id from taken_back")]

    def fold_sets(self) -> list[str]:
        """List the names of the frozen fold sets, the newest last."""
        rows = self.rows("select fold_set from folds group by fold_set order by min(batch_id)")
        return [name for (name,) in rows]

    def folds(self, fold_set: str) -> dict[int, int]:
        """Read the fold of each clip id of a fold set."""
        return dict(self.rows("select clip_id, fold from folds where fold_set = ?", [fold_set]))

    def first_states(self) -> dict[int, str]:
        """Read the state of each clip id when it came in."""
        return dict(
            self.rows("select clip_id, min_by(state, event_id) from label_events group by clip_id")
        )

    def unsure(self) -> list[tuple[int, int]]:
        """List clip and class ids of which nobody knows whether the class is there.

        A person last said so of the whole clip; or a machine took the label for missing, and
        no person decided. What was undone or withdrawn does not count.
        """
        return [
            (clip_id, class_id)
            for clip_id, class_id in self.rows(
                f"{_SAID} select clip_id, class_id from said group by clip_id, class_id "
                "having max_by(verdict, (by_person, verdict_id)) = 'unsure' order by all",
            )
        ]

    def decided(self) -> list[tuple[int, int]]:
        """List clip and class ids of which a person said whether the class is there.

        What was undone does not count.
        """
        return [
            (clip_id, class_id)
            for clip_id, class_id in self.rows(
                f"{_SAID} select distinct clip_id, class_id from said "
                "where by_person and verdict <> 'unsure' order by all",
            )
        ]

    def durations_s(self) -> dict[int, float | None]:
        """Read the length of each recording in seconds, by clip id; None where it is unknown."""
        return dict(self.rows("select clip_id, duration_s from clips"))

    def content_hashes(self) -> dict[int, str | None]:
        """Read the hash of each recording, by clip id; None where it is unknown."""
        return dict(self.rows("select clip_id, content_hash from clips"))

    def paths_of(self, clip_ids: Sequence[int]) -> dict[int, str]:
        """Read the paths of those of some clips that are there, by clip id."""
        sql = "select clip_id, path from clips where clip_id in (select unnest($ids))"
        return dict(self.rows(sql, {"ids": list(clip_ids)}))

    def all_paths_of(self, clip_ids: Sequence[int]) -> dict[int, list[str]]:
        """Read where those of some clips that are there lie, and where they lay before, by id."""
        rows = self.rows(
            "select c.clip_id, list_prepend(c.path, list(p.path)) from clips c join ("
            "select clip_id, path from clip_rows union select clip_id, path from clip_changes"
            ") p on p.clip_id = c.clip_id where c.clip_id in (select unnest($ids)) "
            "group by c.clip_id, c.path",
            {"ids": list(clip_ids)},
        )
        return dict(rows)

    def former_paths(self) -> dict[str, str]:
        """Read where clips lie now that lay elsewhere before, by where they lay."""
        return dict(
            self.rows(
                "select p.path, c.path from clips c join (select clip_id, path from clip_rows "
                "union select clip_id, path from clip_changes) p on p.clip_id = c.clip_id "
                "where c.clip_id in (select clip_id from clip_changes) and p.path <> c.path "
                "and p.path not in (select path from clips) order by c.clip_id"
            )
        )

    def first_path(self) -> str | None:
        """Read the path of the clip that came in first."""
        rows = self.rows("select path from clips order by clip_id limit 1")
        return rows[0][0] if rows else None

    def last_event(self) -> int:
        """Find the id of the newest event; -1 in an empty store."""
        return int(self.rows("select coalesce(max(event_id), -1) from label_events")[0][0])

    def has_batch_key(self, key: str) -> bool:
        """Tell whether a batch of this key was written."""
        return bool(self.rows("select 1 from batches where batch_key = ?", [key]))

    def undone_batches(self, kind: str) -> list[int]:
        """List the undos that ever took a batch of a kind back."""
        rows = self.rows(
            "select u.batch_id from batches u join batches b on b.batch_id = u.undoes "
            "where b.kind = ? order by all",
            [kind],
        )
        return [batch_id for (batch_id,) in rows]

    def first_batch(self) -> tuple[str, datetime] | None:
        """Find key and time of the first batch, which tell a store from all others."""
        rows = self.rows("select batch_key, made_at from batches order by batch_id limit 1")
        return rows[0] if rows else None

    def run(self, run_id: str) -> dict[str, Any] | None:
        """Read a finished run with its settings and metrics; None if there is no such."""
        names = ("run_id", "kind", "recipe", "settings", "seed", "as_of", "fold_set", "metrics")
        found = self.rows(f"select {', '.join(names)} from runs where run_id = ?", [run_id])
        if not found:
            return None
        run = dict(zip(names, found[0], strict=True))
        return run | {key: json.loads(run[key]) for key in ("settings", "metrics")}

    def last_run(self, kinds: Sequence[str] = ("train", "verify")) -> str | None:
        """Find the id of the run that finished last, among whole runs of the given kinds.

        Runs on labels of the past that had changed by then do not count.
        """
        marks = ", ".join("?" for _ in kinds)
        rows = self.rows(
            f"select run_id from runs where kind in ({marks}) and {OF_THE_PRESENT} "
            "order by batch_id desc limit 1",
            kinds,
        )
        return rows[0][0] if rows else None

    def predictions(
        self, run_id: str, table: LabelTable | None = None
    ) -> tuple[Ints, Objects, Floats]:
        """Read the probabilities of a finished run and of the fold models it ended with.

        Args:
            run_id: The run.
            table: Labels of some moment, whose vocabulary counts; that of today if None.

        Returns:
            Clip ids ``(n,)``, the run that judged each of them ``(n,)``, and
            probabilities ``(n, n_classes)``, in the order of the clip ids and of the
            vocabulary; classes that the run did not know have 0.
        """
        data = self._con.execute(
            "select clip_id, run_id, probs from predictions where run_id = $run or run_id in "
            "(select unnest(parents) from runs where run_id = $run and kind <> 'fold') "
            "order by clip_id",
            {"run": run_id},
        ).fetchnumpy()
        judges = np.array(_objects(data["run_id"]), object)
        n_classes = len(self.classes() if table is None else table.classes)
        probs = np.zeros((len(judges), n_classes), np.float32)
        # A run may be judged by models of an older vocabulary than its own.
        for judge in set(judges):
            mine = judges == judge
            found = np.stack(data["probs"][mine])
            probs[mine] = move_columns(found, self.class_places(judge, table), n_classes)
        return np.asarray(data["clip_id"]), judges, probs

    def find_leaks(self, run_ids: Sequence[str] | None = None) -> list[tuple[str, int, str, int]]:
        """Find judgements by a model that, itself or through an ancestor, saw what it judged.

        A model saw a clip if it was trained on it, on a clip of its group, or on one
        with the same bytes.

        Args:
            run_ids: Look only at what these runs judged.

        Returns:
            Rows of the judging run, the clip, the run in its line that was trained,
            and the clip that one saw, the first hundred; none in a sound store.
        """
        return self.rows(
            """
            with recursive line as (
                select run_id, run_id as ancestor from runs
                where $runs is null or list_contains($runs, run_id)
                union
                select l.run_id, unnest(r.parents) from line l join runs r on r.run_id = l.ancestor
            ),
            judged as (
                select run_id, clip_id from predictions
                union select run_id, clip_id from scores
                union select run_id, clip_id from label_events where run_id is not null
            ),
            seen as (
                select t.run_id, c.* from (
                    select run_id, unnest(trained_on) as clip_id from runs
                    where run_id in (select ancestor from line)
                ) t join clips c on c.clip_id = t.clip_id
            ),
            pairs as (
                select j.run_id, j.clip_id, l.ancestor, c.group_name, c.content_hash
                from judged j join line l on l.run_id = j.run_id
                join clips c on c.clip_id = j.clip_id
            )
            select p.run_id, p.clip_id, p.ancestor, s.clip_id from pairs p
            join seen s on s.run_id = p.ancestor and s.clip_id = p.clip_id
            union
            select p.run_id, p.clip_id, p.ancestor, s.clip_id from pairs p
            join seen s on s.run_id = p.ancestor and s.group_name = p.group_name
            union
            select p.run_id, p.clip_id, p.ancestor, s.clip_id from pairs p
            join seen s on s.run_id = p.ancestor and s.content_hash = p.content_hash
            order by all limit 100
            """,
            {"runs": None if run_ids is None else list(run_ids)},
        )


def _numbers_of(vocabulary: Vocabulary, table: LabelTable) -> list[int | None]:
    """Find the numbers in ``class_rows`` of the classes of a table."""
    return vocabulary.find_numbers(table.classes, table.as_of)


def _objects(column: Any) -> list[Any]:
    """List a fetched column as plain objects, with None where it is NULL."""
    getmaskarray: Callable[..., Bools] = np.ma.getmaskarray
    return [
        None if masked else value
        for value, masked in zip(
            np.asarray(column).tolist(), getmaskarray(column).tolist(), strict=True
        )
    ]
