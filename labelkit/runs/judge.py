"""What is to be thought of a run as a judge, said where others read its probabilities."""

from __future__ import annotations

from labelkit.noise.agreement import warn_of_judge
from labelkit.progress import say
from labelkit.project import Project


def tell_weak_judge(project: Project, run_id: str | None = None) -> None:
    """Warn in one line if a run agrees with the labels little more than chance does.

    Args:
        project: Where the run is.
        run_id: A finished run; the last training if None. What kept no agreement, as one of an
            earlier version or from a file, is not warned of.
    """
    with project.store.read() as session:
        named = run_id or session.last_run()
        run = session.run(named) if named else None
    if run is not None and (warning := warn_of_judge(run["metrics"])):
        say(f"{named}: {warning}")
