"""Rows as columns that the database takes in one go."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from labelkit.records import LabelEvent, LabelEvents
from labelkit.types import Array, Ints, Objects


def as_lists(rows: Iterable[Any]) -> Objects:
    """Make a column of lists, whatever their lengths."""
    rows = list(rows)
    column = np.empty(len(rows), object)
    column[:] = rows
    return column


def as_column(values: Any) -> Array:
    """Make a column of numbers or objects; None stays None."""
    if isinstance(values, np.ndarray):
        return np.ascontiguousarray(values)
    if isinstance(values, range):
        return np.arange(values.start, values.stop)
    return np.array(list(values), dtype=object)


# Labels of an event that travel as columns of numbers rather than as Python lists.
WIDE = 8


def label_columns(n: int, rows: Ints, classes: Ints) -> tuple[dict[str, Array], str]:
    """Make columns of sets of labels, and the SQL that makes lists of them, sorted and each once.

    A column a label is several times faster than a column of lists.

    Args:
        n: Number of sets.
        rows: Set of each label, ascending.
        classes: Class id of each label.

    Example:
        >>> columns, sql = label_columns(2, np.array([0, 0, 1]), np.array([5, 2, 3]))
        >>> {name: column.tolist() for name, column in columns.items()}
        {'label0': [2, 3], 'label1': [5, -1]}
        >>> sql
        'list_filter([label0, label1], lambda x: x >= 0)'
    """
    same = rows[1:] == rows[:-1]
    if (same & (classes[1:] <= classes[:-1])).any():
        order = np.lexsort((classes, rows))
        rows, classes = rows[order], classes[order]
        first = np.r_[True, (rows[1:] != rows[:-1]) | (classes[1:] != classes[:-1])]
        rows, classes = rows[first], classes[first]
    lengths = np.bincount(rows, minlength=n)
    ends = np.cumsum(lengths)
    width = int(lengths.max(initial=0))
    if width > WIDE:
        parts = np.split(classes, ends[:-1])
        return {"labels": as_lists(part.tolist() for part in parts)}, "labels"
    padded = np.full((width, n), -1, np.int32)
    padded[np.arange(len(rows)) - (ends - lengths)[rows], rows] = classes
    columns = {f"label{k}": padded[k] for k in range(width)}
    made = f"[{', '.join(columns)}]{'' if width else '::integer[]'}"
    if width and lengths.min() < width:
        made = f"list_filter({made}, lambda x: x >= 0)"
    return columns, made


def event_columns(events: Sequence[LabelEvent] | LabelEvents) -> LabelEvents:
    """Make columns of events."""
    if isinstance(events, LabelEvents):
        return events
    return LabelEvents(
        clip_ids=np.array([e.clip_id for e in events], np.int64),
        states=[e.state for e in events],
        labels=[list(e.labels) for e in events],
        sources=[e.source for e in events],
        run_ids=[e.run_id for e in events],
        iterations=[e.iteration for e in events],
        scores=[e.score for e in events],
        evidence=[None if e.evidence is None else as_json(e.evidence) for e in events],
    )


def as_json(value: Any) -> str:
    """Write a value as JSON; what that cannot hold, NaN and infinity, is null."""
    return json.dumps(_finite(value), sort_keys=True, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
