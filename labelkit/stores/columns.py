"""Rows as columns that the database takes in one go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def as_lists(rows: Iterable[Any]) -> np.ndarray:
    """A column of lists, whatever their lengths."""
    rows = list(rows)
    column = np.empty(len(rows), object)
    column[:] = rows
    return column


def as_column(values: Any) -> np.ndarray:
    """A column of numbers or objects; None stays None."""
    if isinstance(values, np.ndarray):
        return np.ascontiguousarray(values)
    if isinstance(values, range):
        return np.arange(values.start, values.stop)
    return np.array(list(values), dtype=object)
