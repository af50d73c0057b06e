"""Commands that find wrong, missing and off-topic labels."""

from __future__ import annotations

from collections.abc import Sequence

import click

from labelkit import registry
from labelkit.commands.options import Place, json_option
from labelkit.output import show


@click.command()
@click.option(
    "--run", "run_id", help="The run whose probabilities judge; the last one if not given."
)
@click.option(
    "--method", "methods", type=click.Choice(registry.names("score")), multiple=True,
    default=("lwlrap", "self_confidence"), show_default=True, help="First orders, next break ties.",
)  # fmt: skip
@click.option("--lowest", type=click.IntRange(min=1), default=30, show_default=True)
@json_option
@click.pass_obj
def score(
    place: Place, run_id: str | None, methods: Sequence[str], lowest: int, as_json: bool
) -> None:
    """Score every label by a run's out-of-fold probabilities, and show the most doubtful."""
    from labelkit.workflows import score as scoring

    rows = scoring.score(place.project(), run_id=run_id, methods=methods, lowest=lowest)
    show(rows, as_json)


COMMANDS = (score,)
