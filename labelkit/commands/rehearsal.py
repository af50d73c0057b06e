"""The command that tries the whole loop out before it touches a label."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from labelkit import registry
from labelkit.commands.options import Place, as_of_option, table_options, training_options
from labelkit.output import show, show_facts
from labelkit.terminal import echo

if TYPE_CHECKING:
    from labelkit.cleaning.rehearsal import Rehearsal


@click.command()
@click.option(
    "--kind", type=click.Choice(registry.names("noise")), required=True, help="Errors to plant."
)
@click.option("--rate", type=float, required=True, help="Share of the hidden clips to get one.")
@click.option(
    "--hide", type=float, default=0.5, show_default=True,
    help="Share of the verified clips of each class to hide at a time.",
)  # fmt: skip
@click.option(
    "--repeats", type=int,
    help="How often, with other clips hidden each time; 2 where hide leaves room, if not given.",
)  # fmt: skip
@training_options
@as_of_option
@table_options
@click.pass_obj
def rehearse(place: Place, /, as_json: bool, **kwargs: Any) -> None:
    """Say what verify would find, repair and destroy on this data, before a label is touched.

    Some verified clips are hidden in a scratch project, wrong labels are planted among
    them, and the whole loop runs there. The same command again shows the finished result.
    """
    from labelkit.cleaning import rehearsal

    found = rehearsal.rehearse(place.project(), **kwargs)
    if as_json:
        show_facts(found, True)
        return
    show(describe(found), False)
    echo(found.signature, err=True)


def describe(found: Rehearsal) -> list[dict[str, Any]]:
    """Describe what a rehearsal found, as rows of ``what`` and ``found`` to print."""

    def share(value: float) -> str:
        return "-" if math.isnan(value) else f"{value:.1%}"

    n = found.planted
    about = "" if math.isnan(found.precision) else (
        f" ({found.precision_low:.1%} to {found.precision_high:.1%})"
    )  # fmt: skip
    right = found.hidden - n
    rows = {
        f"planted errors, {found.kind}": f"{n} of {found.hidden} hidden clips",
        "self-verified hidden clips": str(found.self_verified),
        "  precision": share(found.precision) + about,
        "  recall": f"{share(found.recall)} of {right} right ones",
        f"errors among the {n} lowest-scored": f"{found.found} ({share(found.found_share)})",
        "  repaired by their suggested class": str(found.repaired),
        "  right labels destroyed by it": str(found.destroyed),
        "average precision of the score": share(found.average_precision),
        "to review for 90 % of the errors": f"{share(found.effort)} of the clips",
        "hidden clips whose top class is right": share(found.hidden_accuracy),
    } | {f"held-out {name}": share(value) for name, value in found.test.items()}
    return [{"what": what, "found": text} for what, text in rows.items()]


COMMANDS = (rehearse,)
