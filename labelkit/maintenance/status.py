"""A project at a glance."""

from __future__ import annotations

from dataclasses import dataclass

from labelkit.maintenance.gc import find_garbage
from labelkit.project import Project
from labelkit.stores.overview import read_overview


@dataclass(frozen=True)
class Fact:
    """One thing that a project holds: what it is, and how many or which."""

    what: str
    value: str | int


def status(project: Project) -> list[Fact]:
    """List what the project holds."""
    with project.store.read() as session:
        found = read_overview(session)
    facts = [
        Fact("project", str(project.root.resolve())),
        Fact("audio", str(project.audio_dir.resolve())),
        Fact("classes", found.n_classes),
        Fact("labels a clip", found.labels),
    ]
    facts += [Fact(f"{s.subset} clips {s.state}", s.n_clips) for s in found.states]
    facts += [
        Fact(f"folds {folds.name}", f"{folds.n_folds} over {folds.n_clips} clips")
        for folds in found.fold_sets
    ]
    facts += [
        Fact(f"run {run.run_id}", f"{run.recipe}, {run.finished_at[:19]}")
        for run in found.last_runs
    ]
    # What is on disk is of now.
    if project.store.as_of is None and project.runs.is_dir():
        facts += [
            Fact(f"run {folder.name}", "unfinished")
            for folder in sorted(project.runs.iterdir())
            if folder.is_dir() and folder.name not in found.run_ids
        ]
    facts.append(Fact("last batch", found.last_batch))
    if project.store.as_of is None and (garbage := find_garbage(project)):
        freed = sum(one.size_mb for one in garbage)
        facts.append(Fact("needed no more", f"{freed:.1f} MB; see: labelkit gc --dry-run"))
    return facts
