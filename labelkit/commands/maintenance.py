"""Commands that look after the store: a backup, the way back, and a doctor."""

from __future__ import annotations

from pathlib import Path

import click

from labelkit.commands.options import Place, table_options
from labelkit.output import show, show_facts
from labelkit.terminal import echo

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("file", type=_FILE)
@click.option("--force", is_flag=True, help="Replace FILE where it is there.")
@click.pass_obj
def backup(place: Place, file: Path, force: bool) -> None:
    """Write the label store into FILE, consistent, while others read it.

    It holds every label with its history, runs, predictions and reviews; neither recordings
    nor .labelkit/. Most of that can be computed again. Predictions of runs of more than ten
    million clips cannot: they lie in .labelkit/predictions, copy that folder, too.
    """
    from labelkit.maintenance.backup import backup as back_up

    show_facts(back_up(place.project(), file, force=force), False, err=True)


@click.command()
@click.argument("file", type=_FILE)
@click.pass_obj
def restore(place: Place, file: Path) -> None:
    """Put the backup FILE in the place of the label store; the present one is kept beside it.

    A backup of an older version is brought up to date on the way. FILE is only read.
    """
    from labelkit.maintenance.backup import restore as put_back

    show_facts(put_back(place.project(), file), False, err=True)


@click.command()
@click.option("--fast", is_flag=True, help="Do not read the recordings.")
@click.option(
    "--repair", is_flag=True,
    help="Mend what can be mended first; whatever is changed is copied beside it before.",
)  # fmt: skip
@table_options
@click.pass_context
def doctor(ctx: click.Context, fast: bool, repair: bool, as_json: bool) -> None:
    """Examine the label store and what belongs to it; works on damaged ones, too.

    Exit code 3 if there is a problem; warnings alone are none.
    """
    from labelkit.errors import StoreError
    from labelkit.maintenance.doctor import examine
    from labelkit.maintenance.repair import repair as mend

    project = ctx.obj.project()
    if repair:
        mend(project, lambda line: echo(line, err=True))
    findings = examine(project, fast=fast)
    show(findings, as_json)
    states = [finding.state for finding in findings]
    n, warnings = states.count("problem"), states.count("warning")
    echo(f"{n} problems, {warnings} warnings in {len(findings)} findings", err=True)
    if n:
        ctx.exit(StoreError.exit_code)


@click.command()
@click.option("--dry-run", is_flag=True, help="Remove nothing, show what would go.")
@click.option("--keep", metavar="RUN", multiple=True, help="Keep what this run needs, too.")
@table_options
@click.pass_obj
def gc(place: Place, dry_run: bool, keep: tuple[str, ...], as_json: bool) -> None:
    """Remove what nothing needs any more: weights, windows and logs of superseded runs, old copies.

    Kept are unfinished trainings, the newest of each kind and recipe, those the newest
    suggestions come from, and the last copy of the store before a restore and a repair. The
    store is not changed; spectrograms and embeddings stay.
    """
    from labelkit.maintenance.gc import collect

    garbage, report = collect(place.project(), keep=keep, dry_run=dry_run)
    rows = [{"path": one.path, "size_mb": one.size_mb, "why": one.why} for one in garbage]
    show(rows, as_json)
    verb = "would be" if dry_run else "were"
    echo(f"{report.removed} {verb} removed, {report.freed_mb} MB", err=True)


COMMANDS = (backup, restore, doctor, gc)
