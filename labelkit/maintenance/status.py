"""A project at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labelkit.maintenance.gc import find_garbage
from labelkit.project import Project
from labelkit.states import SELF_VERIFIED, UNVERIFIED
from labelkit.stores.overview import LastRun, read_overview
from labelkit.stores.reviews import last_project

_GPU = Path("/dev/nvidiactl")
# Clips a person hears at one go.
_HEARD = 200


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
        Fact("labels a clip", found.labels or "as the first import says"),
    ]
    facts += [Fact(f"{s.subset} clips {s.state}", s.n_clips) for s in found.states]
    if project.fitted is not None:
        what, _, chosen = project.fitted.describe().partition(": ")
        facts.append(Fact(what, chosen))
    facts += [
        Fact(f"folds {folds.name}", f"{folds.n_folds} over {folds.n_clips} clips")
        for folds in found.fold_sets
    ]
    facts += [Fact(f"run {run.run_id}", _describe_run(run)) for run in found.last_runs]
    # What is on disk is of now.
    if project.store.as_of is None and project.runs.is_dir():
        facts += [
            Fact(f"run {folder.name}", "unfinished")
            for folder in sorted(project.runs.iterdir())
            if folder.is_dir() and folder.name not in found.run_ids
        ]
    facts.append(Fact("last batch", found.last_batch))
    if project.store.as_of is None:
        command, why = _choose_next(project)
        facts.append(Fact("next", command))
        facts += [Fact("why so", why)] if why else []
    if project.store.as_of is None and (garbage := find_garbage(project)):
        freed = sum(one.size_mb for one in garbage)
        facts.append(Fact("needed no more", f"{freed:.1f} MB; see: labelkit gc --dry-run"))
    return facts


def _describe_run(run: LastRun) -> str:
    """Say a run's recipe, when it finished, and how far it agrees with the labels."""
    about = f"{run.recipe}, {run.finished_at[:19]}"
    return about if run.skill is None else f"{about}, agreement beyond chance {run.skill:.2f}"


def next_step(project: Project) -> str:
    """Say what to type next, as far as the store tells how far the project is.

    Args:
        project: The project; what it was at an earlier moment is no matter.

    Returns:
        The command, and in brackets what speaks for it where that is not plain.
    """
    command, why = _choose_next(project)
    return f"{command} ({why})" if why else command


def _choose_next(project: Project) -> tuple[str, str]:
    """Choose a command, and say what speaks for it; nothing where that is plain."""
    with project.current.read() as session:
        found, in_review = read_overview(session), last_project(session) is not None
    if not found.states:
        return "labelkit import FILE --format NAME", "labelkit import --help lists the formats"
    kinds = [run.run_id.partition("-")[0] for run in found.last_runs]
    trained = next((kind for kind in kinds if kind in ("verify", "train")), None)
    states = {count.state for count in found.states if count.subset == "train"}
    if trained is None:
        # To verify takes labels that are trusted, and others that are to be.
        verb = "verify" if UNVERIFIED in states and states - {UNVERIFIED} else "train"
        if _GPU.exists():
            return f"labelkit check, then labelkit {verb}", ""
        if verb == "verify":
            verb = "verify --recipe panel"
        else:
            verb = "score"
        return (
            f"labelkit check, then labelkit {verb}",
            "no GPU: judges of embeddings take seconds, a network minutes",
        )
    if trained == "verify" and SELF_VERIFIED in states:
        return "labelkit train --trusted", "or labelkit score, for the most doubtful labels"
    if kinds[0] != "score":
        return "labelkit score", "for the most doubtful labels"
    if in_review:
        return f"labelkit push {_HEARD}", ""
    return "labelkit review init --url URL --project TITLE", "people hear the doubtful clips"
