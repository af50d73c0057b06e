"""A project at a glance."""

from __future__ import annotations

from typing import Any

from labelkit.project import Project
from labelkit.stores.overview import read_overview


def status(project: Project) -> list[dict[str, Any]]:
    """What the project holds, one row of ``what`` and ``value`` each."""
    with project.store.read() as session:
        found = read_overview(session)
    rows: list[dict[str, Any]] = [
        {"what": "project", "value": str(project.root.resolve())},
        {"what": "audio", "value": str(project.audio_dir.resolve())},
        {"what": "classes", "value": found.n_classes},
    ]
    rows += [{"what": f"{s.subset} clips {s.state}", "value": s.n_clips} for s in found.states]
    rows += [
        {"what": f"folds {folds.name}", "value": f"{folds.n_folds} over {folds.n_clips} clips"}
        for folds in found.fold_sets
    ]
    rows += [
        {"what": f"run {run.run_id}", "value": f"{run.recipe}, {run.finished_at[:19]}"}
        for run in found.last_runs
    ]
    # What is on disk is of now.
    if project.store.as_of is None and project.runs.is_dir():
        rows += [
            {"what": f"run {folder.name}", "value": "unfinished"}
            for folder in sorted(project.runs.iterdir())
            if folder.is_dir() and folder.name not in found.run_ids
        ]
    rows.append({"what": "last batch", "value": found.last_batch})
    return rows
