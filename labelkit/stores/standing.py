"""What was written, as it stands: classes that were renamed, merged or retired, clips that moved.

A row keeps the number its class was given when it came in, and a clip the path. What became of
them since is told by ``class_changes`` and ``clip_changes``. The views of this module show the
rows of ``event_rows``, ``verdict_rows`` and so on with the classes and clips of today; everything
else asks these. Where nothing changed they are the bare rows, so that they cost nothing.

Above this module the number of a class is its place in the vocabulary of today.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from labelkit.stores.views import View
from labelkit.types import Floats

# A logit that float16 holds.
_IMPOSSIBLE = -1e4
_PREDICTIONS = """
select p.run_id, p.clip_id, c.path, unnest(r.classes) as class, unnest(p.probs) as probability
from predictions p
join runs r on r.run_id = p.run_id
join clips c on c.clip_id = p.clip_id
"""
# Who was called so when the run read the labels; else who was called so first after that.
_PREDICTIONS_RENAMED = """
with named as (
    select class_id, name, batch_id from class_rows
    union all select class_id, name, batch_id from class_changes
),
spoken as (
    select run_id, as_of, unnest(classes) as name, generate_subscripts(classes, 1) as place
    from runs
),
meant as (
    select run_id, place, coalesce(
        max_by(n.class_id, n.batch_id) filter (n.batch_id <= as_of), min_by(n.class_id, n.batch_id)
    ) as class_id
    from spoken s join named n on n.name = s.name group by run_id, place, as_of
)
select p.run_id, p.clip_id, c.path, k.name as class,
       least(1, sum(p.probs[m.place]))::float as probability
from predictions p
join meant m on m.run_id = p.run_id
join classes k on k.class_id = {place}
join clips c on c.clip_id = p.clip_id
group by p.run_id, p.clip_id, c.path, k.name
"""
# A clip whose import was taken back.
_GONE = (
    " anti join (select clip_id from clip_changes group by clip_id having max_by(gone, batch_id)) "
    "using (clip_id)"
)


@dataclass(frozen=True)
class _Naming:
    """What a class was from a batch on: its name, the class it was merged into, whether it went."""

    batch_id: int
    name: str
    into: int | None
    retired: bool

    @property
    def stands(self) -> bool:
        return self.into is None and not self.retired


def _without_detours(log: Sequence[_Naming]) -> list[_Naming]:
    """Leave out what a class was before it was again what it had been earlier."""
    kept: list[_Naming] = []
    for naming in log:
        same = [k for k, one in enumerate(kept) if replace(one, batch_id=0) == replace(
            naming, batch_id=0)]  # fmt: skip
        kept = kept[: same[0]] if same else kept
        kept.append(naming)
    return kept


@dataclass(frozen=True)
class Vocabulary:
    """The classes as they stand, and what became of every class there ever was.

    ``log`` holds what each class was and from when on, by its number in ``class_rows``.
    """

    log: tuple[tuple[_Naming, ...], ...] = ()
    clips_changed: bool = False

    @property
    def stored(self) -> list[int]:
        """The numbers in ``class_rows`` of the classes that stand, in their order."""
        return [number for number, log in enumerate(self.log) if log[-1].stands]

    @property
    def names(self) -> list[str]:
        """The names of the classes that stand."""
        return [self.log[number][-1].name for number in self.stored]

    @property
    def places(self) -> list[int | None]:
        """Where each class of ``class_rows`` is in the vocabulary; None where it is no more."""
        place = {number: place for place, number in enumerate(self.stored)}
        return [place.get(self._follow(number)) for number in range(len(self.log))]

    @property
    def unchanged(self) -> bool:
        """True where every class that ever came in stands."""
        return all(log[-1].stands for log in self.log)

    @property
    def named_once(self) -> bool:
        """True where every class is still called and counted as it came in."""
        return all(len(log) == 1 for log in self.log)

    @property
    def former(self) -> dict[str, str]:
        """What classes of former names are called now; of a name that several had, the last.

        A name that was taken back, or given up for an earlier one, is none.
        """
        names, places = self.names, self.places
        found = sorted(
            (naming.batch_id, naming.name, place)
            for log, place in zip(self.log, places, strict=True) if place is not None
            for naming in _without_detours(log)
        )  # fmt: skip
        return {name: names[place] for _, name, place in found if name not in names}

    @property
    def joined(self) -> dict[int, int]:
        """The batch that last merged other classes with one, by number in ``class_rows``."""
        groups: dict[int, list[int]] = {}
        for number in range(len(self.log)):
            groups.setdefault(self._follow(number), []).append(number)
        return {
            number: max(self.log[one][-1].batch_id for one in group if one != target)
            for target, group in groups.items()
            for number in group
            if len(group) > 1
        }

    def _follow(self, number: int) -> int:
        """Find the class that a class was merged into, or the one that class was merged into."""
        for _ in self.log:
            into = self.log[number][-1].into
            if into is None:
                break
            number = into
        return number

    def find_numbers(self, names: Sequence[str], as_of: int) -> list[int | None]:
        """Find the numbers in ``class_rows`` of what had these names after a batch.

        Args:
            names: What the classes were called.
            as_of: The batch; of names that none had yet the first to have it later is meant.

        Returns:
            Numbers; None for a name that no class ever had.
        """
        then: dict[str, int] = {}
        later: dict[str, tuple[int, int]] = {}
        for number, log in enumerate(self.log):
            before = [naming for naming in log if naming.batch_id <= as_of]
            if before and (before[-1].stands or before[-1].name not in then):
                then[before[-1].name] = number
            for naming in log[len(before) :]:
                found = (naming.batch_id, number)
                later[naming.name] = min(later.get(naming.name, found), found)
        return [
            then[name] if name in then else later[name][1] if name in later else None
            for name in names
        ]

    def locate(
        self, numbers: Sequence[int | None], among: Sequence[int | None]
    ) -> list[int | None]:
        """Find where classes are among others, as themselves or as what they were merged into.

        Args:
            numbers: Numbers in ``class_rows``.
            among: The numbers of a vocabulary, in its order.

        Returns:
            Places in that vocabulary; None where a class is not in it.
        """
        place = {number: k for k, number in enumerate(among) if number is not None}

        def find(number: int | None) -> int | None:
            for _ in self.log:
                if number is None or number in place:
                    break
                number = self.log[number][-1].into
            return None if number is None else place.get(number)

        return [find(number) for number in numbers]

    def find_retired(self, name: str) -> int | None:
        """Find the number in ``class_rows`` of a retired class of this name, the last there was."""
        found = [
            number for number, log in enumerate(self.log)
            if log[-1].retired and log[-1].name == name
        ]  # fmt: skip
        return found[-1] if found else None

    def labels_sql(self, column: str, *, ordered: bool = False) -> str:
        """Write an expression that gives the places of a list of numbers of ``class_rows``.

        Args:
            column: The list.
            ordered: Keep its order rather than sort it.
        """
        if self.unchanged:
            return column
        placed = (
            f"list_filter(list_transform({column}, lambda k: {self._place_sql('k')}), "
            "lambda k: k is not null)"
        )
        if not ordered:
            return f"list_sort(list_distinct({placed}))"
        return f"list_filter({placed}, lambda k, i: list_position({placed}, k) = i)"

    def class_sql(self, column: str) -> str:
        """Write an expression that gives the place of a number of ``class_rows``."""
        return column if self.unchanged else self._place_sql(column)

    def _place_sql(self, number: str) -> str:
        places = ", ".join("null" if place is None else str(place) for place in self.places)
        return f"list_extract([{places}]::integer[], {number} + 1)"


def read_vocabulary(con: Any) -> Vocabulary:
    """Read what became of the classes of an open store."""
    rows = con.execute(
        "select class_id, batch_id, name, null, false from class_rows union all "
        "select class_id, batch_id, name, into_id, retired from class_changes order by 1, 2"
    ).fetchall()
    log: list[list[_Naming]] = []
    for number, *rest in rows:
        # A number that is left out in a store that is damaged stands for no class.
        log += [[_Naming(0, "", None, True)] for _ in range(number - len(log))]
        if len(log) == number:
            log.append([])
        log[number].append(_Naming(*rest))
    changed = bool(con.execute("select 1 from clip_changes limit 1").fetchall())
    return Vocabulary(tuple(map(tuple, log)), changed)


def move_columns(probs: Floats, places: Sequence[int | None], n_classes: int) -> Floats:
    """Give probabilities of a run the columns of the vocabulary of today.

    Those of merged classes are added, up to 1: they exclude each other, or nearly so. Classes
    that the run did not know get 0.

    Args:
        probs: Probabilities of the run, the last axis its classes.
        places: Where each of its classes is now.
        n_classes: How many there are now.
    """
    if list(places) == list(range(n_classes)):
        return probs
    moved = np.zeros((*probs.shape[:-1], n_classes), probs.dtype)
    for column, place in enumerate(places):
        if place is not None:
            moved[..., place] += probs[..., column]
    return np.minimum(moved, 1)


def move_logits(logits: Floats, places: Sequence[int | None], n_classes: int) -> Floats:
    """Give logits of a run the columns of the vocabulary of today, merged ones as of a softmax.

    Args:
        logits: Logits of the run, the last axis its classes.
        places: Where each of its classes is now.
        n_classes: How many there are now; those the run did not know are next to impossible.
    """
    if list(places) == list(range(n_classes)):
        return logits
    moved = np.full((*logits.shape[:-1], n_classes), _IMPOSSIBLE, np.float32)
    for column, place in enumerate(places):
        if place is not None:
            moved[..., place] = np.logaddexp(moved[..., place], logits[..., column])
    return moved


def standing_views(vocabulary: Vocabulary) -> list[View]:
    """Write the views that show rows as they stand, for a vocabulary."""
    labels, place = vocabulary.labels_sql, vocabulary.class_sql
    gone = _GONE if vocabulary.clips_changed else ""
    moved = (
        " left join (select clip_id, max_by(path, batch_id) as moved_to from clip_changes "
        "group by clip_id) using (clip_id)"
    )
    path = "coalesce(moved_to, path) as path" if vocabulary.clips_changed else "path"
    stored = ", ".join(map(str, vocabulary.stored)) or "null"
    standing = "" if vocabulary.unchanged else f" where class_id in ({stored})"
    scores = "\nselect run_id, clip_id, class_id, metric, value from score_rows\n"
    if not vocabulary.unchanged:
        # Those of whole clips, which queues read, pass as they are.
        scores = f"""
select run_id, clip_id, class_id, metric, value from score_rows where class_id < 0
union all
select run_id, clip_id, {place("class_id")} as class_id, metric, min(value) as value
from score_rows where class_id >= 0 and {place("class_id")} is not null
group by run_id, clip_id, {place("class_id")}, metric
"""
    # Of a class that is part of another one it was said before that, whenever it was written.
    absent = " or ".join(
        f"(class_id = {number} and batch_id <= {batch})"
        if vocabulary.log[number][-1].into is None
        else f"class_id = {number}"
        for number, batch in vocabulary.joined.items()
    )
    return [
        View(
            "clips",
            "A recording: its path below the audio folder, the hash of its bytes, its length in "
            "seconds, what it was cut from (group), and whether it is for training or held out; "
            "where it lies now, and only if its import stands.",
            f"""
select clip_id, {path}, content_hash, duration_s, group_name, subset, batch_id, domain_name
from clip_rows{moved + gone if vocabulary.clips_changed else ""}
""",
        ),
        View(
            "classes",
            "A class of the vocabulary as it is now, `class_id` its place in it; what was renamed, "
            "merged or retired is in `class_changes`.",
            f"""
select {place("class_id")} as class_id, coalesce(renamed, name) as name, batch_id
from class_rows left join (
    select class_id, max_by(name, batch_id) as renamed from class_changes group by class_id
) using (class_id){standing}
""",
        ),
        View(
            "label_events",
            "What became of a clip: its state and its whole label set afterwards (places of "
            "classes), from what source, with score and evidence (JSON).",
            f"""
select event_id, batch_id, clip_id, state, {labels("labels")} as labels, source, run_id, iteration,
       score, evidence, made_at
from event_rows{gone}
""",
        ),
        View(
            "label_verdicts",
            "What somebody said of a clip and class, for the whole clip or for seconds of it: "
            "present, absent, unsure, or that an earlier word is withdrawn. That a class was "
            "absent says nothing any more once others were merged with it.",
            f"""
select verdict_id, batch_id, clip_id, class_id, start_s, end_s, verdict, rule, score from (
    select * replace ({place("class_id")} as class_id) from verdict_rows
    where verdict <> 'absent' or not ({absent or "false"})
){gone} where class_id is not null
""",
        ),
        View(
            "folds",
            "The frozen fold of a clip in a fold set.",
            f"""
select fold_set, clip_id, fold, batch_id from fold_rows{gone}
""",
        ),
        View(
            "scores",
            "A number for a run and clip (`class_id` -1) or a run, clip and class; lower is worse.",
            scores,
        ),
        View(
            "suggestions",
            "What a run would give a clip it scored (places of classes, the most probable first), "
            "the labels the clip had then, and why, in words.",
            f"""
select run_id, clip_id, given, suggested, reason from (
    select run_id, clip_id, {labels("given")} as given,
           {labels("suggested", ordered=True)} as suggested, reason
    from suggestion_rows
) where len(suggested) > 0
""",
        ),
        View(
            "review_tasks",
            "A clip as it was sent to Label Studio, with what was suggested.",
            f"""
select project, task_id, clip_id, model_version, score,
       {labels("suggested", ordered=True)} as suggested, page_hash, batch_id
from review_task_rows
""",
        ),
        View(
            "reviews",
            "One version of an answer from Label Studio, verbatim in `raw`.",
            f"""
select review_id, project, task_id, annotation_id, updated_at, clip_id, annotator_id, annotator,
       answer, {labels("labels")} as labels, comment, origin, model_version, lead_time_s, problem,
       raw, batch_id
from review_rows
""",
        ),
        View(
            "predictions_long",
            "Probabilities, one row for each run, clip and class of today; those of merged classes "
            "are added up.",
            _PREDICTIONS
            if vocabulary.named_once
            else _PREDICTIONS_RENAMED.format(place=place("m.class_id")),
        ),
        View(
            "clip_state",
            "The newest event of each clip up to the mark, kept for speed; `labelkit doctor` "
            "compares it with the events. Ask `current_events`.",
            f"""
select clip_id, event_id, batch_id, state, {labels("labels")} as labels, source, run_id, iteration,
       score, made_at
from state_rows{gone}
""",
        ),
    ]
