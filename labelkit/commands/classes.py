"""Commands on classes: how noisy they are, other names for them, and one clip's by hand."""

from __future__ import annotations

from pathlib import Path

import click

from labelkit.commands.cleaning import judge_options, judged_by
from labelkit.commands.options import Place, as_of_option, is_given, json_option, table_options
from labelkit.output import show, show_facts


@click.group(invoke_without_command=True)
@judge_options
@as_of_option
@table_options
@click.pass_context
def classes(ctx: click.Context, run_id: str | None, probs: Path | None, as_json: bool) -> None:
    """Show of each class how noisy its labels seem, and which class it is taken for.

    The commands below give classes other names, make some one, or take them out.
    """
    if ctx.invoked_subcommand is not None:
        given = {
            "--run": run_id, "--probs": probs, "--json": as_json, "--as-of": ctx.obj.as_of,
            "--wide": is_given("wide"),
        }  # fmt: skip
        odd = [name for name, value in given.items() if value]
        if odd:
            raise click.UsageError(
                f"{odd[0]} is for the table of classes; give it behind "
                f"{ctx.invoked_subcommand} where that has it, or leave it out"
            )
        return
    from labelkit.cleaning.inputs import read_inputs
    from labelkit.cleaning.score import class_table

    project, run_id = judged_by(ctx.obj, run_id, probs)
    inputs = read_inputs(project, run_id)
    show(class_table(inputs), as_json)


@classes.command()
@click.argument("old")
@click.argument("new")
@json_option
@click.pass_obj
def rename(place: Place, old: str, new: str, as_json: bool) -> None:
    """Call class OLD NEW: in labels, verdicts, predictions and on the page in Label Studio.

    States stay as they are, and undo brings the old name back.
    """
    from labelkit.labels.classes import rename_class

    show_facts(rename_class(place.project(), old, new), as_json, err=not as_json)


@classes.command()
@click.argument("old", nargs=-1, required=True)
@click.argument("into")
@json_option
@click.pass_obj
def merge(place: Place, old: tuple[str, ...], into: str, as_json: bool) -> None:
    """Make the classes OLD part of class INTO.

    What models said of them is added up; that one of them was called absent no longer counts.
    """
    from labelkit.labels.classes import merge_classes

    show_facts(merge_classes(place.project(), old, into), as_json, err=not as_json)


@classes.command()
@click.argument("names", metavar="CLASS...", nargs=-1, required=True)
@json_option
@click.pass_obj
def retire(place: Place, names: tuple[str, ...], as_json: bool) -> None:
    """Take classes out of the vocabulary; clips lose that label and keep their state."""
    from labelkit.labels.classes import retire_class

    show_facts(retire_class(place.project(), names), as_json, err=not as_json)


@click.command()
@click.argument("clip")
@click.argument("names", metavar="[CLASS]...", nargs=-1)
@click.option("--none", is_flag=True, help="No class of the vocabulary is in it.")
@click.option("--reject", is_flag=True, help="It has no usable sound.")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--actor", metavar="NAME", help="Who says so; you if not given.")
@click.option("--add-classes", is_flag=True, help="Let new classes join the vocabulary.")
@json_option
@click.pass_obj
def label(
    place: Place,
    clip: str,
    names: tuple[str, ...],
    none: bool,
    reject: bool,
    reason: str,
    actor: str | None,
    add_classes: bool,
    as_json: bool,
) -> None:
    """Give CLIP, a path below the audio folder, all the labels it shall have, as your decision.

    A clip with these labels already is verified by it, any other relabeled.
    """
    if (len(names) > 0) + none + reject != 1:
        raise click.UsageError("name the classes, or give --none, or --reject")
    from labelkit.labels.by_hand import label_clip

    report = label_clip(
        place.project(), clip, names, reject=reject, reason=reason, actor=actor,
        add_classes=add_classes,
    )  # fmt: skip
    show_facts(report, as_json, err=not as_json)


@click.command()
@click.argument("kind", required=False, type=click.Choice(("one", "several")))
@json_option
@click.pass_obj
def labels(place: Place, kind: str | None, as_json: bool) -> None:
    """Show whether a clip has one label or may have several, or state it.

    The first import says it where init did not: several where any clip has several.
    """
    from labelkit.labels.kind import read_kind, set_kind

    project = place.project()
    show_facts(read_kind(project) if kind is None else set_kind(project, kind), as_json)


COMMANDS = (classes, label, labels)
