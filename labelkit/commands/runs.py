"""Commands that train."""

from __future__ import annotations

from typing import Any

import click

from labelkit import config
from labelkit.commands.options import (
    Finite,
    Place,
    as_of_option,
    json_option,
    options,
    tell_next,
    training_options,
)
from labelkit.config import RULES, VerifySpec
from labelkit.output import cell, show, show_facts
from labelkit.terminal import columns, echo, width

# What a line takes in a file.
_LINE = 100


@click.command()
@click.option("--trusted", is_flag=True, help="Learn from verified, relabeled, self-verified only.")
@click.option(
    "--rest", type=Finite(0, 1, min_open=True), metavar="WEIGHT",
    help="With --trusted: keep the other clips as the noisy pool, at this weight of their losses.",
)  # fmt: skip
@click.option("--start", metavar="RUN", help="Start from the models of a finished run.")
@training_options
@as_of_option
@json_option
@click.pass_obj
def train(place: Place, /, as_json: bool, **kwargs: Any) -> None:
    """Train one model per fold, and keep how it judges the clips it never saw.

    A recipe of several stages runs them one after the other; each is kept, so the same
    command goes on with the one it was stopped in.
    """
    from labelkit.runs.train import train as train_recipe

    def tell(row: dict[str, Any]) -> None:
        parts = [f"{name.replace('_', ' ')} {cell(value)}" for name, value in row.items()]
        echo(", ".join(parts), err=True)

    summary = train_recipe(place.project(), on_stage=tell, **kwargs)
    if not as_json:
        summary.pop("stages", None)
    show_facts(summary, as_json)


@click.command()
@click.option("--rule", type=click.Choice(sorted(RULES)), help="Thresholds of a published rule.")
@options(VerifySpec, as_changes=True)
@training_options
@as_of_option
@json_option
@click.pass_obj
def verify(
    place: Place,
    /,
    recipe: config.Recipe,
    rule: str | None,
    changes: dict[str, Any],
    as_json: bool,
    **kwargs: Any,
) -> None:
    """Find unverified labels that can be trusted: train, self-verify, fine-tune, round by round."""
    from labelkit.runs.verify import verify as self_verify

    recipe = config.change_verify(recipe, (RULES[rule] if rule else {}) | changes)

    def tell(row: dict[str, Any]) -> None:
        echo(round_line(row), err=as_json)
        for line in class_lines(row["per_class"]):
            echo(line, err=as_json)

    project = place.project()
    summary = self_verify(project, recipe, on_round=tell, **kwargs)
    if summary["finished_before"]:
        echo(f"{summary['run_id']} is finished, nothing was changed:", err=True)
        if "superseded_by" in summary:
            echo(f"{summary['superseded_by']} has decided since then", err=True)
        if "taken_back_by" in summary:
            again = "; ".join(f"labelkit undo {batch}" for batch in summary["taken_back_by"][::-1])
            echo(f"its decisions were taken back; have them again with: {again}", err=True)
        for row in summary["rounds"]:
            tell(row)
    rounds = summary.pop("rounds")
    if as_json:
        show([{"run_id": summary["run_id"], **row} for row in rounds], True)
    show_facts(summary, False, err=as_json)
    if not as_json:
        tell_next(project)


def round_line(row: dict[str, Any]) -> str:
    """Describe a round in one line."""
    scores = {name: value for name, value in row.items() if name.startswith("verified_")}
    loss = scores.pop("verified_loss")
    [(metric, value)] = scores.items()
    score = f"{metric.replace('_', ' ')} {value:.4f}, loss {loss:.4f}"
    if not row["iteration"]:
        return f"round  0: first training; {score}"
    share = row.get("expected_right")
    expected = f" ({share:.1%} right, estimated)" if share else ""
    return (
        f"round {row['iteration']:2}: {row['proposed']} proposed, {row['accepted']} accepted, "
        f"{row['revoked']} revoked, {row['self_verified']} self-verified{expected}; {score}"
    )


def class_lines(per_class: dict[str, dict[str, int]]) -> list[str]:
    """Describe what a round did in each class, where that is a line for each kind at most.

    Counts of many classes are for programs, which get them by ``--json``.
    """
    lines = [
        f"    {kind}: {', '.join(f'{name} {n}' for name, n in per_class[kind].items())}"
        for kind in ("proposed", "accepted", "revoked")
        if per_class[kind]
    ]
    return lines if all(width(line) <= (columns() or _LINE) for line in lines) else []


COMMANDS = (train, verify)
