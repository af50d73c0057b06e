"""A project at a glance."""

from __future__ import annotations

from typing import Any

from labelkit.project import Project


def status(project: Project) -> list[dict[str, Any]]:
    """What the project holds, one row of ``what`` and ``value`` each."""
    with project.store.read() as session:
        n_classes = len(session.classes())
        states = session.rows(
            "select subset, state, count(*) from labels_now group by all order by all"
        )
        sets = session.rows(
            "select fold_set, count(distinct fold), count(*) from folds group by fold_set "
            "order by min(batch_id)"
        )
        runs = session.rows(
            "select run_id, recipe, finished_at::varchar from runs "
            "where kind in ('train', 'verify') order by batch_id desc limit 5"
        )
        finished = {run_id for (run_id,) in session.rows("select run_id from runs")}
        last_batch = session.last_batch()
    rows: list[dict[str, Any]] = [
        {"what": "project", "value": str(project.root.resolve())},
        {"what": "audio", "value": str(project.audio_dir.resolve())},
        {"what": "classes", "value": n_classes},
    ]
    rows += [{"what": f"{subset} clips {state}", "value": n} for subset, state, n in states]
    rows += [
        {"what": f"folds {name}", "value": f"{n} over {clips} clips"} for name, n, clips in sets
    ]
    rows += [
        {"what": f"run {name}", "value": f"{recipe}, {when[:19]}"} for name, recipe, when in runs
    ]
    # What is on disk is of now.
    if project.store.as_of is None and project.runs.is_dir():
        rows += [
            {"what": f"run {folder.name}", "value": "unfinished"}
            for folder in sorted(project.runs.iterdir())
            if folder.is_dir() and folder.name not in finished
        ]
    rows.append({"what": "last batch", "value": last_batch})
    return rows
