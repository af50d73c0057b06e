"""Commands on the project itself: what comes in, and looking at it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from labelkit import config, registry
from labelkit.commands.options import (
    SEED,
    Place,
    as_of_option,
    device_option,
    options,
    recipe_options,
    refuse_given,
    table_options,
    tell_next,
    tell_unread,
    workers_option,
)
from labelkit.config import FormatSpec
from labelkit.config.specs import MOST_FOLDS
from labelkit.output import cell, show
from labelkit.terminal import echo, visible

# Classes whose counts an import prints.
SHOWN_CLASSES = 20


@click.command()
@click.argument("audio_dir", type=click.Path(path_type=Path))
@click.option(
    "--labels", "kind", type=click.Choice(("one", "several")),
    help="Whether a clip has one label or may have several; the first import tells if not given.",
)  # fmt: skip
@click.pass_obj
def init(place: Place, audio_dir: Path, kind: str | None) -> None:
    """Make a project in the current folder, on recordings that may lie anywhere."""
    from labelkit.labels.kind import set_kind
    from labelkit.project import create_project

    project, new = create_project(place.folder or Path.cwd(), audio_dir)
    if kind is not None:
        set_kind(project, kind)
    echo(f"{'Made a' if new else 'There is a'} project in {project.root.resolve()}", err=True)
    tell_next(project)


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--format", "format_", type=click.Choice([*registry.names("format"), "labelstudio"]),
    help="What the file or folder is; found out by its columns if not given.",
)  # fmt: skip
@click.option("--metadata-only", is_flag=True, help="Do not look for the recordings.")
@click.option("--add-classes", is_flag=True, help="Let new classes join the vocabulary.")
@click.option("--dry-run", is_flag=True, help="Say what it would do, and change nothing.")
@click.option(
    "--actor", metavar="NAME", help="Who brings it in, for the history; you if not given."
)
@click.option(
    "--by", type=click.Choice(["person", "machine"]),
    help="corrections: who made them, a person if not given; those of a machine stay unverified, "
         "and leave what people decided as it is.",
)  # fmt: skip
@click.option(
    "--source", "of", metavar="NAME",
    help="labelstudio: what to call the server or person an export is of, where two cannot be told "
         "apart.",
)  # fmt: skip
@click.option(
    "--yes", is_flag=True, help="On a terminal, do not ask where something looks odd."
)  # fmt: skip
@options(FormatSpec)
@click.pass_obj
def import_(
    place: Place,
    source: Path,
    format_: str | None,
    metadata_only: bool,
    add_classes: bool,
    dry_run: bool,
    actor: str | None,
    by: str | None,
    of: str | None,
    yes: bool,
    spec: FormatSpec,
) -> None:
    """Bring labels into the store, whole or not at all; twice adds nothing.

    What labelkit exported needs no option, nor do label files of published sets. What looks odd,
    classes that look alike say, is told; on a terminal it is asked about before anything is kept.
    """
    from labelkit.labels.importing import ImportReport
    from labelkit.review.foreign import import_file

    asked: list[bool] = []

    def ask(proposed: ImportReport) -> None:
        if proposed.odd:
            _show_counts(proposed.counts)
            asked.append(True)
            click.confirm(visible("Bring it in like this?"), abort=True, err=True)

    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    project = place.project()
    report = import_file(
        project,
        source,
        format_,
        spec,
        metadata_only=metadata_only,
        add_classes=add_classes,
        dry_run=dry_run,
        actor=actor,
        by=by,
        ask=ask if on_terminal and not yes else None,
        of=of,
    )
    if not asked:
        _show_counts(report.counts)
    states = ", ".join(f"{count} {state}" for state, count in report.states.items())
    done = "would be added" if dry_run else "added"
    echo(
        f"{report.read} rows ({states}): {report.added} clips {done}, {report.changed} changed; "
        f"{len(report.classes)} classes",
        err=True,
    )
    if report.labels:
        labels = "several labels" if report.labels == "several" else "one label"
        now = f"{labels} a clip, from now on; labelkit labels shows and changes it"
        echo(f"a clip would have {labels} from then on" if dry_run else now, err=True)
    if not dry_run:
        tell_next(project)


def _show_counts(counts: Mapping[str, int]) -> None:
    """Print how many clips each class has, those of most clips first, to stderr."""
    most = list(counts.items())[:SHOWN_CLASSES]
    width = max((len(cell(name)) for name, _ in most), default=0)
    for name, count in most:
        echo(f"  {cell(name):{width}}  {count}", err=True)
    if len(counts) > len(most):
        rest = sum(list(counts.values())[SHOWN_CLASSES:])
        echo(f"  ... and {len(counts) - len(most)} more classes, of {rest} labels", err=True)


@click.command()
@click.option("--fast", is_flag=True, help="Leave out near-duplicates and outliers.")
@click.option(
    "--moved", is_flag=True,
    help="Instead, give clips whose recordings were renamed or moved the paths these have now.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="--moved: change nothing, show what would be.")
@click.option(
    "--probe", default="probe", show_default=True,
    help="Recipe of the spectrograms and embeddings by which clips are compared.",
)  # fmt: skip
@recipe_options
@workers_option
@as_of_option
@table_options
@click.pass_context
def check(
    ctx: click.Context,
    fast: bool,
    moved: bool,
    dry_run: bool,
    probe: str,
    recipe: config.Recipe,
    workers: int | None,
    as_json: bool,
) -> None:
    """List what is wrong with clips apart from their labels, each with its reason.

    Kept out of training: missing, unread, changed, unreadable, empty, rate, silent, cancelled,
    spike, wild, moment, not_finite, blank. Told, and used: truncated, no_numbers, scale, clipped,
    very_short, short, sample_rate, exact_duplicate, near_duplicate, outlier; but of the same bytes
    in several folds or subsets only one is used. What is true of most clips is one line.
    """
    from labelkit.audio.faults import UNUSABLE
    from labelkit.datasets.oddities import tell_alike
    from labelkit.recordings import checking
    from labelkit.recordings.moving import MOVED, move_clips

    project = ctx.obj.project()
    if moved:
        refuse_given(
            "--moved looks for recordings alone", fast="--fast", probe="--probe",
            recipe="--recipe", flavour="--flavour", set_="--set", workers="--workers",
        )  # fmt: skip
        if project.store.as_of is not None:
            raise click.UsageError("--moved is of now; leave --as-of out")
        missing = move_clips(project, dry_run=dry_run)
        show(missing, as_json)
        n, done = sum(clip.what == MOVED for clip in missing), "would be" if dry_run else "were"
        echo(f"{len(missing)} recordings are not at their place; {n} clips {done} moved", err=True)
        return
    if dry_run:
        raise click.UsageError("--dry-run is for --moved; a check changes nothing")
    if fast:
        refuse_given("--fast compares no clips", probe="--probe")
    tell_unread(recipe, "features", "input")
    issues = checking.check(
        project,
        recipe,
        probe=config.read_recipe(probe),
        fast=fast,
        workers=workers,
    )
    show(issues if as_json else checking.gather(issues, project), as_json)
    with project.store.read() as session:
        names = session.classes()
    for line in tell_alike(names):
        echo(f"{line}; make them one with: labelkit classes merge OLD NEW", err=True)
    clips = {issue.path for issue in issues}
    faulty = {issue.path for issue in issues if issue.issue in UNUSABLE}
    others = len({issue.path for issue in issues if not issue.used} - faulty)
    echo(
        f"{len(issues)} issues of {len(clips)} clips; {len(faulty)} cannot be used"
        + (f", {others} are held out, rejected or copies of others" if others else ""),
        err=True,
    )
    if any(issue.issue == "missing" for issue in issues):
        echo("if some were renamed, their clips follow with: labelkit check --moved", err=True)


@click.command()
@click.option(
    "--refit", is_flag=True,
    help="First choose anew by the recordings there are now what recipes leave to them (auto).",
)  # fmt: skip
@recipe_options
@workers_option
@device_option
@as_of_option
@click.pass_obj
def features(
    place: Place, refit: bool, recipe: config.Recipe, workers: int | None, device: str
) -> None:
    """Compute the spectrograms of a recipe that are not there yet.

    What a recipe leaves to the recordings (auto: rate, window, hop, padding) is chosen by their
    rates and lengths once, here or by whatever first needs it, and kept in labelkit.toml.
    """
    from labelkit.recordings import fitting
    from labelkit.recordings.features import compute_features
    from labelkit.runs.cross_validation import device_name

    tell_unread(recipe, "features")
    project = place.project()
    if refit:
        fitting.refit(project)
    store = compute_features(project, recipe.features, workers=workers, device=device_name(device))
    usable = sum(entry.length > 0 for entry in store.entries.values())
    echo(
        f"{usable} spectrograms in {store.folder.name}, {len(store.entries) - usable} recordings "
        "left out (see: labelkit check)",
        err=True,
    )


@click.command()
@click.option(
    "--n", type=click.IntRange(2, MOST_FOLDS), help="Number of folds; 5 where there are none."
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of a new set.")
@click.option(
    "--by", type=click.Choice(["recording", "domain"]), default="recording", show_default=True,
    help="What no fold parts: clips of one recording, or all of one domain, too (--domain-column).",
)  # fmt: skip
@table_options
@click.pass_obj
def folds(place: Place, n: int | None, seed: int, by: str, as_json: bool) -> None:
    """Deal the clips into folds that stay; clips that came later join them.

    Another --n, or --by domain, makes another set, which train and verify take from then on.
    """
    from labelkit.runs.folds import fold_table, freeze_folds, known_folds

    project = place.project()
    if n is None and by == "recording" and (known := known_folds(project)):
        refuse_given(f"fold set {known} stands, and without --n no other is made", seed="--seed")
    fold_set = freeze_folds(project, n=n, seed=seed, by=by)
    show(fold_table(project, fold_set), as_json)
    echo(f"fold set {fold_set}", err=True)


@click.command()
@as_of_option
@table_options
@click.pass_obj
def status(place: Place, as_json: bool) -> None:
    """Show what the project holds."""
    from labelkit.maintenance.status import status as look_at

    show(look_at(place.project()), as_json)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the sounds and the errors."
)
@workers_option
@click.pass_obj
def demo(place: Place, directory: Path, seed: int, workers: int | None) -> None:
    """Synthesise a set with known errors, run the whole job on it, and compare with the truth."""
    from labelkit.demo import run_demo

    facts = run_demo(directory, seed=seed, workers=workers, say=echo)
    show(facts, False)


COMMANDS = (init, import_, check, features, folds, status, demo)
