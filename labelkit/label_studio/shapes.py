"""What an answer of a server must look like before anything is read from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

# Fields of tasks that are read without looking whether they are there.
_TASK: Mapping[str, type] = {
    "id": int, "data": dict, "updated_at": datetime, "annotations": list, "predictions": list,
    "total_annotations": int, "overlap": int,
}  # fmt: skip
_PREDICTION: Mapping[str, type] = {"id": int, "result": list}
_PROJECT: Mapping[str, type] = {"id": int, "title": str, "label_config": str}
_STORAGE: Mapping[str, type] = {"id": int, "path": str}


def check_project(row: Any) -> dict[str, Any]:
    """Return a project, if it is one.

    Raises:
        TypeError: If it is not; so do the others.
    """
    return _check(row, _PROJECT, _PROJECT)


def check_storage(row: Any) -> dict[str, Any]:
    """Return a folder that is served, if it is one."""
    return _check(row, {"id": int}, _STORAGE)


def check_tasks(rows: Any, names: Collection[str], *, after: int) -> list[dict[str, Any]]:
    """Return tasks, if they are some, in the order of their ids.

    Args:
        rows: What came.
        names: Fields that were asked for.
        after: Id behind which they begin: a server that repeats itself would never end.
    """
    if not isinstance(rows, list):
        raise TypeError("no list")
    tasks = [_check(row, names, _TASK) for row in rows]
    for task in tasks:
        for prediction in task.get("predictions") or ():
            _check(prediction, _PREDICTION, _PREDICTION)
        for annotation in task.get("annotations") or ():
            _check(annotation, (), _TASK)
        if task["id"] <= after:
            raise ValueError("ids do not rise")
        after = task["id"]
    return tasks


def _check(row: Any, names: Collection[str], kinds: Mapping[str, type]) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TypeError("no object")
    for name in names:
        kind, value = kinds.get(name, object), row.get(name)
        if kind is datetime:
            datetime.fromisoformat(value)  # type: ignore[arg-type]
        elif name in kinds and not (isinstance(value, kind) and not isinstance(value, bool)):
            raise TypeError(f"{name} is {type(value).__name__}")
    return row
