"""Commands around Label Studio: people listen and decide, the store remembers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labelkit.commands.hints import Hinting
from labelkit.commands.options import (
    Finite,
    Place,
    json_option,
    options,
    refuse_given,
    table_options,
)
from labelkit.config import ReviewSpec
from labelkit.errors import InvalidInput, LabelkitError, NotYet
from labelkit.output import as_row, show, show_facts
from labelkit.terminal import echo, visible

if TYPE_CHECKING:
    from labelkit.project import Project
    from labelkit.review.pull import PullReport

token_option = click.option(
    "--token-file", type=click.Path(path_type=Path),
    help="File of the token, outside the project, where LABEL_STUDIO_API_KEY is not set.",
)  # fmt: skip


@click.group(cls=Hinting)
def review() -> None:
    """Let people decide in Label Studio.

    The token comes from LABEL_STUDIO_API_KEY, from the file LABEL_STUDIO_API_KEY_FILE names,
    or from --token-file; it is never stored.
    """


@click.command()
@click.option("--url", required=True, help="Address of Label Studio.")
@click.option("--project", "title", required=True, metavar="TITLE",
              help="Title of the project there, made if there is none; or an id.")  # fmt: skip
@options(ReviewSpec)
@token_option
@click.pass_obj
def init(place: Place, url: str, title: str, spec: ReviewSpec, token_file: Path | None) -> None:
    """Make or adopt a project in Label Studio, with a page for the vocabulary."""
    from labelkit.review.setup import set_up

    found, done = set_up(place.project(), url, title, spec, token_file=token_file)
    echo(
        f"project {found.project_id} ({found.title}) at {found.url} {done}; "
        f"label at {found.url}projects/{found.project_id}/data",
        err=True,
    )


@click.command()
@click.argument("url")
def confirm(url: str) -> None:
    """Confirm that your token may go to an address, for a store that names it.

    Addresses given to review init are confirmed, and so is LABEL_STUDIO_URL of the environment.
    """
    from labelkit.label_studio.access import check_url, find_origin
    from labelkit.personal import confirm_address

    address = find_origin(check_url(url))
    confirm_address(address)
    echo(f"your token may go to {address}", err=True)


def is_at_terminal() -> bool:
    """Tell whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask_for_address(project: Project) -> None:
    """Ask somebody at a terminal, once, whether the token may go where the store says."""
    from labelkit.personal import confirm_address
    from labelkit.review.setup import find_last, find_unconfirmed

    setup = find_last(project)
    if setup is None or not is_at_terminal():
        return
    address = find_unconfirmed(setup.url)
    question = f"This store names Label Studio at {address}. Shall your token go there?"
    if address and click.confirm(visible(question), err=True):
        confirm_address(address)


@click.command()
@click.argument("first", type=int, required=False, metavar="[N]")
@click.option("--lowest-lwlrap", type=int, metavar="N", help="The N clips of lowest lwlrap.")
@click.option("--lowest", nargs=2, type=(str, int), metavar="SCORE N",
              help="The N clips of another score that is lowest, fusion say.")  # fmt: skip
@click.option("--missing", type=int, metavar="N", help="N clips a label is likely missing of.")
@click.option("--where", metavar="SQL",
              help="Clips of labels_now, with their scores of review_queue.")  # fmt: skip
@click.option("--clips", type=click.Path(path_type=Path), help="Clips of a file, a path a line.")
@click.option("--disagreements", is_flag=True, help="Clips people differ on, to one more of them.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Send nothing, show what would be; asks no server, needs no token.",
)
@click.option("--follow-links", is_flag=True,
              help="Upload recordings, too, that links take out of the audio folder.")  # fmt: skip
@token_option
@table_options
@click.pass_obj
def push(
    place: Place,
    /,
    lowest_lwlrap: int | None,
    lowest: tuple[str, int] | None,
    dry_run: bool,
    follow_links: bool,
    token_file: Path | None,
    as_json: bool,
    **kwargs: Any,
) -> None:
    """Send the N most doubtful clips to annotators, or others; twice sends nothing twice.

    N are the first rows of the view review_queue: by fusion where clips have it, by lwlrap
    where they do not.
    """
    from labelkit.review.push import push as send
    from labelkit.review.queue import Choice

    if lowest_lwlrap is not None and lowest is not None:
        raise click.UsageError("--lowest-lwlrap and --lowest exclude one another")
    if lowest_lwlrap is not None:
        lowest = ("lwlrap", lowest_lwlrap)
    choice = Choice(lowest=lowest, **kwargs)
    project = place.project()
    if not dry_run:
        _ask_for_address(project)
    clips, report = send(
        project, choice, dry_run=dry_run, token_file=token_file, follow_links=follow_links
    )
    show(clips, as_json)
    facts = as_row(report)
    show_facts(facts | {"sent": "nothing, dry run"} if dry_run else facts, False, err=True)
    if report.left_out and not clips:
        raise InvalidInput("no clip could be sent; the lines above say why")


@click.command()
@click.option("--full", is_flag=True, help="Look at every task, not only at changed ones.")
@click.option("--watch", type=Finite(min=1), metavar="SECONDS",
              help="Pull again and again, until stopped.")  # fmt: skip
@click.option("--from", "file", type=click.Path(path_type=Path),
              help="Take the answers of a JSON export; no server is asked.")  # fmt: skip
@token_option
@json_option
@click.pass_context
def pull(
    ctx: click.Context,
    full: bool,
    watch: float | None,
    file: Path | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Bring in what people answered, changed and took back."""
    from labelkit.review import pull as pulling

    if file is not None and (full or watch is not None):
        raise click.UsageError("--from excludes --full and --watch")
    if file is not None:
        refuse_given("--from asks no server", token_file="--token-file")
    if full and watch is not None:
        raise click.UsageError("--full and --watch exclude one another: pull --full once before")
    project = ctx.obj.project()
    if file is not None:
        report = pulling.pull_file(project, file)
        _tell_pulled(project, report, as_json)
        if report.foreign:
            # The lines above say which, and what takes them in.
            ctx.exit(LabelkitError.exit_code)
        return
    _ask_for_address(project)
    if watch is None:
        report = pulling.pull(project, full=full, token_file=token_file)
        _tell_pulled(project, report, as_json)
    else:
        for report in pulling.watch(project, watch, token_file=token_file):
            show_facts(_brought(report, as_json), as_json)


def _tell_pulled(project: Project, report: PullReport, as_json: bool) -> None:
    """Print what a pull brought, and what to do about it."""
    show_facts(_brought(report, as_json), as_json)
    if not as_json:
        echo(f"next: {_after_pull(project, report)}", err=True)


def _after_pull(project: Project, report: PullReport) -> str:
    from labelkit.review.status import list_disagreements

    if report.quarantined:
        return "labelkit review quarantine, for the answers that could not be read"
    try:
        differing = list_disagreements(project)
    except NotYet:  # Answers came in a file, and nothing was set up here.
        differing = []
    if differing:
        return "labelkit push --disagreements, for the clips on which people differ"
    if report.verified or report.relabeled or report.rejected:
        return "labelkit train --trusted"
    return (
        "labelkit pull again when people have answered; labelkit review status says how far it is"
    )


def _brought(report: PullReport, as_json: bool) -> dict[str, Any]:
    """Keep the counts that say something; all of them for programs."""
    found = {name: n for name, n in as_row(report).items() if as_json or n}
    return found or {"answers": "nothing new"}


@click.command()
@token_option
@table_options
@click.pass_obj
def status(place: Place, token_file: Path | None, as_json: bool) -> None:
    """Show how far the review is."""
    from labelkit.review import status as looking

    project = place.project()
    _ask_for_address(project)
    found = looking.status(project, token_file=token_file)
    show([{"what": what, "value": value} for what, value in as_row(found).items()], as_json)


@click.command()
@click.option("--url", help="Address to check before anything is set up.")
@token_option
@table_options
@click.pass_context
def doctor(ctx: click.Context, url: str | None, token_file: Path | None, as_json: bool) -> None:
    """Check address, token, version, project, page, storage and a recording.

    Exit code 4 if anything is wrong.
    """
    from labelkit.errors import ServiceError
    from labelkit.maintenance.findings import OK
    from labelkit.review.doctor import examine

    words: tuple[Any, Any] = (True, False) if as_json else ("yes", "NO")
    findings = examine(ctx.obj.project(), url=url, token_file=token_file)
    well = [finding.state == OK for finding in findings]
    show(
        [
            {"check": finding.check, "ok": words[0 if ok else 1], "what": finding.what}
            for finding, ok in zip(findings, well, strict=True)
        ],
        as_json,
    )
    if not all(well):
        ctx.exit(ServiceError.exit_code)


@click.command()
@table_options
@click.pass_obj
def disagreements(place: Place, as_json: bool) -> None:
    """Show clips on which people differ; send them back with: push --disagreements."""
    from labelkit.review import status as looking

    show(looking.list_disagreements(place.project()), as_json)


@click.command()
@table_options
@click.pass_obj
def annotators(place: Place, as_json: bool) -> None:
    """Show of each annotator how much was answered, and how far others agree."""
    from labelkit.review import status as looking

    show(looking.compare_annotators(place.project()), as_json)


@click.command()
@table_options
@click.pass_obj
def quarantine(place: Place, as_json: bool) -> None:
    """Show answers that could not be read, with why; mend them with: review repair."""
    from labelkit.review import status as looking

    show(looking.list_quarantine(place.project()), as_json)


@click.command()
@click.option("--rename", "renames", multiple=True, metavar="OLD=NEW",
              help="A label in Label Studio, and the class it is.")  # fmt: skip
@click.option("--drop", multiple=True, type=int, metavar="ID", help="Take an answer for skipped.")
@json_option
@click.pass_obj
def repair(place: Place, renames: tuple[str, ...], drop: tuple[int, ...], as_json: bool) -> None:
    """Read answers in quarantine again: classes may have come, or names be put right."""
    from labelkit.review import pull as pulling

    names = dict(text.partition("=")[::2] for text in renames)
    if not all(names.values()) or "" in names:
        raise click.UsageError("--rename wants OLD=NEW")
    report = pulling.repair(place.project(), renames=names, drop=drop)
    show_facts(_brought(report, as_json), as_json)


for command in (
    init, confirm, push, pull, status, doctor, disagreements, annotators, quarantine, repair,
):  # fmt: skip
    review.add_command(command)

COMMANDS = (review, push, pull)
