"""Commands on what was: the log, a clip's history, who to ask about a label, and undo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from labelkit.commands.options import (
    Place,
    as_of_option,
    json_option,
    record_option,
    table_options,
)
from labelkit.output import show, show_facts
from labelkit.terminal import echo

if TYPE_CHECKING:
    from labelkit.stores.history import ChangedClip

# Batches that fit on a screen.
_MOST = 30
# What a narrow terminal shows last, the first of each goes first.
_SPARE_OF_LOG = ("undoes", "by_person", "labels", "run_id", "undone_by")
_SPARE_OF_HISTORY = (
    "event_id", "iteration", "by_person", "evidence", "run_id", "score", "source", "undone",
    "batch_id", "kind",
)  # fmt: skip
_SPARE_OF_BLAME = (
    "said_score", "said_by_person", "rule", "said_in", "evidence", "by_person", "run_id", "score",
    "source", "said_at", "said_by", "batch_id", "verdict",
)  # fmt: skip
# What is told of each clip that changed; why stands above them.
_CHANGES = ("path", "before", "after", "state_before", "state_after")


@click.command()
@click.argument("clip", required=False)
@click.option("--kind", help="Only batches of this kind: import, verify, select, undo, say.")
@click.option("--actor", help="Only batches of this person or program.")
@click.option(
    "--since", metavar="MOMENT",
    help="Only a batch and later ones, from a day or time (UTC) on, or since a run read labels.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), default=_MOST, show_default=True,
              help="How many to show.")  # fmt: skip
@as_of_option
@table_options
@record_option
@click.pass_obj
def log(
    place: Place,
    clip: str | None,
    kind: str | None,
    actor: str | None,
    since: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List the batches, the newest first, or those that said something of CLIP.

    labels counts what a batch gave to clips and took from them; undone_by is the batch that
    takes it back.
    """
    from labelkit.labels import history as of_labels

    batches, n = of_labels.log(
        place.project(), clip, kind=kind, actor=actor, since=since, limit=limit
    )
    show(batches, as_json, spare=_SPARE_OF_LOG)
    if n > len(batches):
        echo(f"{len(batches)} of {n} batches; more with --limit", err=True)


@click.command()
@click.argument("clip")
@as_of_option
@table_options
@record_option
@click.pass_obj
def history(place: Place, clip: str, as_json: bool) -> None:
    """Show what was said of a clip, named by its path below the audio folder.

    Events made it what it is; verdicts, masks and answers of people stand between them, but
    for verdicts that only repeat an event.
    """
    from labelkit.labels import history as of_labels

    show(of_labels.history(place.project(), clip), as_json, spare=_SPARE_OF_HISTORY)


@click.command()
@click.argument("clip")
@click.option("--all", "all_", is_flag=True, help="Also classes that were called absent or unsure.")
@as_of_option
@table_options
@record_option
@click.pass_obj
def blame(place: Place, clip: str, all_: bool, as_json: bool) -> None:
    """Show who gave a clip each of its labels, when and why, and who vouched for it last.

    Kind import means that the label came in with the clip.
    """
    from labelkit.labels import history as of_labels

    labels = of_labels.blame(place.project(), clip, all_=all_)
    show(labels, as_json, spare=_SPARE_OF_BLAME)
    if not labels:
        echo(f"{clip} has no labels", err=True)


@click.command()
@click.argument("a")
@click.argument("b", required=False)
@table_options
@click.pass_obj
def diff(place: Place, a: str, b: str | None, as_json: bool) -> None:
    """Show which clips changed from moment A to moment B, or to now.

    A moment is a batch (its number), the end of a day, a time (UTC), or the labels a run read.
    Clips that changed for the same reason stand together.
    """
    from labelkit.labels import history as of_labels

    clips = of_labels.diff(place.project(), a, b)
    if as_json:
        show(clips, True)
    else:
        _show_by_reason(clips)
    echo(of_labels.describe_diff(clips), err=True)


def _show_by_reason(clips: Sequence[ChangedClip]) -> None:
    """Print a table for each reason that clips changed for, the most frequent first."""
    groups: dict[tuple[str, str, str], list[ChangedClip]] = {}
    for clip in clips:
        groups.setdefault((clip.reason, clip.kind, clip.actor), []).append(clip)
    for number, ((reason, kind, actor), members) in enumerate(
        sorted(groups.items(), key=lambda group: -len(group[1]))
    ):
        batches = sorted({clip.batch_id for clip in members})
        found = f"{len(members)} clip{'s' if len(members) > 1 else ''}"
        which = f"batch{'es' if len(batches) > 1 else ''} {', '.join(map(str, batches))}"
        gap = "\n" if number else ""
        echo(f"{gap}{found}, {kind} by {actor} ({which}): {' '.join(reason.split())}")
        show(members, False, _CHANGES)


@click.command()
@click.argument("batch", metavar="BATCH|RUN")
@click.option("--dry-run", is_flag=True, help="Change nothing, say what would be done.")
@json_option
@click.pass_obj
def undo(place: Place, batch: str, dry_run: bool, as_json: bool) -> None:
    """Take a batch back, or all of a run: its clips get the state and labels they had before it.

    What was decided since then stays. An undo is a batch of its own, and can be taken back.
    """
    from labelkit.labels.undo import undo as take_back

    report = take_back(place.project(), batch, dry_run=dry_run)
    show_facts(report, as_json, err=not as_json)
    if not as_json and report.batch is not None:
        batches = report.batch if isinstance(report.batch, list) else [report.batch]
        # The newest first, so that each finds what it left.
        commands = "; ".join(f"labelkit undo {number}" for number in reversed(batches))
        echo(f"to have it back: {commands}", err=True)


COMMANDS = (log, history, blame, diff, undo)
