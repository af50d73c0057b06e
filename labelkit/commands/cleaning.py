"""Commands that find wrong and missing labels, and act on what they find."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from labelkit import registry
from labelkit.commands.options import (
    Command,
    Finite,
    Place,
    as_of_option,
    probe_option,
    refuse_given,
    rule_options,
    table_options,
    tell_unread,
    workers_option,
)
from labelkit.output import as_row, show, show_facts
from labelkit.terminal import echo

# As of labelkit.noise.pairs, which loads numpy; a test compares the two.
METHODS = ("self_confidence", "class_rank")

run_option = click.option(
    "--run", "run_id", help="The run whose probabilities judge; the last one if not given."
)
probs_option = click.option(
    "--probs", type=click.Path(path_type=Path),
    help="Judge by the probabilities of a CSV, npz or npy file instead.",
)  # fmt: skip


def judged_by(place: Place, run_id: str | None, probs: Path | None) -> tuple[Any, str | None]:
    """Return the project, and the run that judges: the one named, or that of a file."""
    project = place.project()
    if probs is None:
        return project, run_id
    if run_id is not None:
        raise click.UsageError("--run and --probs exclude one another")
    from labelkit.cleaning.external import import_probs

    found = import_probs(project, probs)
    echo(f"{probs.name} is run {found}; whether its model saw the clips is not known",
               err=True)  # fmt: skip
    return project, found


def judge_options(command: Command) -> Command:
    """Add ``--run`` and ``--probs``."""
    return run_option(probs_option(command))


@click.command()
@judge_options
@click.option(
    "--method", "methods", multiple=True, metavar="NAME",
    help="First orders, next break ties; fusion and self_confidence if not given. "
    f"Known: {', '.join(registry.names('score'))}.",
)  # fmt: skip
@click.option("--fuse", is_flag=True, help="Order by the mean rank over all methods.")
@click.option("--lowest", type=click.IntRange(min=1), default=30, show_default=True)
@click.option(
    "--pairs", type=click.Choice(METHODS),
    help="Score each given label of each clip instead, for clips of several labels.",
)  # fmt: skip
@probe_option("panel")
@workers_option
@as_of_option
@table_options
@click.pass_obj
def score(
    place: Place,
    /,
    run_id: str | None,
    probs: Path | None,
    pairs: str | None,
    lowest: int,
    as_json: bool,
    **kwargs: Any,
) -> None:
    """Score every label, keep the scores in the store, and show the most doubtful clips."""
    from labelkit.cleaning import score as scoring

    project, run_id = judged_by(place, run_id, probs)
    methods, fuse = kwargs.pop("methods"), kwargs.pop("fuse")
    if pairs and (methods or fuse):
        raise click.UsageError("--pairs excludes --method and --fuse")
    tell_unread(kwargs["probe"], "embedding", "features", "probe")
    doubtful: Sequence[object]
    if not pairs and not scoring.reads_probe(methods or scoring.DEFAULT):
        named = ", ".join(methods)
        why = f"{named} reads no embeddings"
        refuse_given(why, probe="--recipe", encoder="--encoder", set_="--set")
    if pairs:
        doubtful = scoring.score_given(project, run_id=run_id, pairs=pairs, lowest=lowest, **kwargs)
    else:
        kwargs |= {"methods": methods or scoring.DEFAULT, "fuse": fuse}
        doubtful = scoring.score(project, run_id=run_id, lowest=lowest, **kwargs)
    show(doubtful, as_json)


@click.command()
@click.option(
    "--rule", required=True, metavar="NAME",
    help=f"Known: {', '.join(registry.names('selection'))}.",
)  # fmt: skip
@click.option(
    "--run", "run_ids", multiple=True,
    help="A run whose probabilities judge, or several; the last one if not given.",
)  # fmt: skip
@probs_option
@rule_options
@click.option("--list", "listed", type=click.Path(path_type=Path),
              help="listed: file of a path a line, or JSON of paths.")  # fmt: skip
@click.option("--add", is_flag=True, help="Leave what a machine trusted before trusted.")
@click.option("--dry-run", is_flag=True, help="Change nothing, show what would change.")
@as_of_option
@table_options
@click.pass_obj
def select(
    place: Place,
    /,
    rule: str,
    run_ids: tuple[str, ...],
    probs: Path | None,
    as_json: bool,
    **kwargs: Any,
) -> None:
    """Trust the noisy clips a rule keeps, as one batch; take it back with: labelkit undo.

    What a machine trusted before and the rule does not keep is trusted no longer, unless
    --add is given. Clips that people decided on stay as they are.
    """
    from labelkit.cleaning import selection

    project, external = judged_by(place, None, probs)
    judges = (*run_ids, *([external] if external else [])) or (None,)
    clips, report = selection.select(project, rule, run_ids=judges, **kwargs)
    show(clips, as_json)
    batch = "none, dry run" if kwargs["dry_run"] else report.batch or "none, nothing to change"
    show_facts(as_row(report) | {"batch": batch}, False, err=True)


@click.command()
@judge_options
@click.option(
    "--percentile", type=Finite(0, 100), default=99.0, show_default=True,
    help="Of each class's absent labels, those above are proposed.",
)  # fmt: skip
@click.option("--mask", is_flag=True, help="Let none of them count as absent in training.")
@click.option("--most", type=click.IntRange(min=1), default=50, show_default=True,
              help="How many to show.")  # fmt: skip
@probe_option("panel")
@workers_option
@as_of_option
@table_options
@click.pass_obj
def missing(
    place: Place, /, run_id: str | None, probs: Path | None, as_json: bool, **kwargs: Any
) -> None:
    """Propose labels that are likely missing, the most probable first (Fonseca et al. 2020).

    Unknown is not negative: with --mask, training leaves these (clip, class) pairs out of
    the loss until somebody decides; labelkit undo takes that back.
    """
    from labelkit.cleaning.missing import find_missing_labels

    tell_unread(kwargs["probe"], "embedding", "features", "probe")
    project, run_id = judged_by(place, run_id, probs)
    labels, report = find_missing_labels(project, run_id=run_id, **kwargs)
    show(labels, as_json)
    show_facts(report, False, err=True)


COMMANDS = (score, select, missing)
