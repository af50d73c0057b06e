"""Commands that take labels out of a project."""

from __future__ import annotations

from pathlib import Path

import click

from labelkit import registry
from labelkit.commands.hints import Hinting
from labelkit.commands.options import Place, as_of_option, table_options
from labelkit.output import show, show_facts
from labelkit.terminal import echo

# Of what a format cannot say, so many clips are named; the count is always told.
_NAMED = 10


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format", "format_", type=click.Choice(registry.names("writer")), required=True,
    help="What to make; for fsdkaggle2019 FILE is a folder.",
)  # fmt: skip
@click.option("--fold-set", metavar="NAME", help="Whose folds to write; the newest if not given.")
@click.option(
    "--separator", metavar="S",
    help="csv: what parts several labels, a comma if not given; a label that holds it stands in "
         "quotes.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over what is there.")
@as_of_option
@click.pass_obj
def export(
    place: Place, file: Path, format_: str, fold_set: str | None, separator: str | None, force: bool
) -> None:
    """Write all clips and their labels to FILE, whole or not at all.

    parquet, csv and jsonl hold everything that import reads back, csv not the order of the
    classes. Of the two FSDKaggle formats, what they cannot say is told.
    """
    from labelkit.labels import exporting

    report = exporting.export_labels(
        place.project(), file, format_, fold_set=fold_set, separator=separator, force=force
    )
    for what, names in report.unsaid.items():
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        echo(f"{what}: {len(names)} ({', '.join(names[:_NAMED])}{more})", err=True)
    folds = f" with the folds of {report.fold_set}" if report.fold_set else ""
    echo(f"wrote {report.clips} clips to {file}{folds}", err=True)
    if separator not in (None, ","):
        echo(
            f"bring it in with: labelkit import {file} --format csv --separator {separator!r}",
            err=True,
        )


@click.group(cls=Hinting)
def changes() -> None:
    """Carry what became of labels from one copy of a data set to another.

    A change set holds batches with their events, verdicts, new classes and new clips. It
    does not hold runs, predictions, scores, folds of labelkit's own, recordings, or the
    answers of Label Studio as they came.
    """


@changes.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--since", metavar="MOMENT",
    help="Only what came after a batch, a day, a time, or the labels a run read.",
)  # fmt: skip
@click.option("--people", is_flag=True, help="Only what people decided.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@click.pass_obj
def export_changes(place: Place, file: Path, since: str | None, people: bool, force: bool) -> None:
    """Write what became of the labels to FILE, a JSON; the same store gives the same file."""
    from labelkit.labels.changes import exporting

    counts = exporting.export_changes(
        place.project(), file, since=since, people=people, force=force
    )
    show_facts(counts, False, err=True)


@changes.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Change nothing, show what would be.")
@table_options
@click.pass_obj
def import_changes(place: Place, file: Path, dry_run: bool, as_json: bool) -> None:
    """Bring a change set in, whole or not at all; twice adds nothing.

    What only the other copy changed is taken over. Where both changed a clip, a person beats
    a machine, and of two of a kind what is here stays. Each such clip is shown, with what was
    kept; see also: labelkit review disagreements.
    """
    from labelkit.labels.changes import importing

    plan = importing.import_changes(place.project(), file, dry_run=dry_run)
    show(plan.rows, as_json)
    for line in plan.told:
        echo(line, err=True)
    show_facts(plan.counts | {"written": "nothing, dry run"} if dry_run else plan.counts, False,
               err=True)  # fmt: skip


COMMANDS = (export, changes)
