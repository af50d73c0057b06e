"""The labelkit command: parse, call one function of ``workflows``, print.

stdout is data, stderr everything else. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import click

from labelkit import __version__, config, registry
from labelkit.config import RULES, FormatSpec, VerifySpec, create_spec, value_type
from labelkit.errors import LabelkitError
from labelkit.output import cell, plain_setting, show, show_facts

Command = Callable[..., Any]


class Cli(click.Group):
    """Turns every labelkit error into one line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, reporting labelkit errors without a traceback."""
        try:
            return super().invoke(ctx)
        except LabelkitError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"Error: {error}; is there room, and may it be written to?", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("Stopped; the same command goes on where it was.", err=True)
            ctx.exit(130)


@dataclass(frozen=True)
class Place:
    """Where the user wants to work, from the options before the command."""

    folder: Path | None
    lock_timeout_s: float

    def project(self) -> Any:
        """The project there."""
        from labelkit.workflows.project import find_root, open_project

        return open_project(find_root(self.folder), lock_timeout_s=self.lock_timeout_s)


def options(spec: type, *, as_changes: bool = False) -> Callable[[Command], Command]:
    """Give a command one option per field of ``spec``.

    The command gets a ready ``spec``, or, ``as_changes``, a dictionary of those fields
    that were given.
    """
    hints = get_type_hints(spec)

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(**kwargs: Any) -> Any:
            values = {f.name: kwargs.pop(f.name) for f in fields(spec)}
            given = {name: value for name, value in values.items() if value is not None}
            if as_changes:
                return command(changes=given, **kwargs)
            return command(spec=create_spec(spec, given), **kwargs)

        for f in reversed(fields(spec)):
            flag = "--" + f.name.replace("_", "-")
            if hints[f.name] is bool:
                flag += "/--no-" + f.name.replace("_", "-")
            choices = f.metadata.get("choices")
            run = click.option(
                flag,
                f.name,
                type=click.Choice(choices) if choices else value_type(hints[f.name]),
                default=None if as_changes else f.default,
                show_default=not as_changes,
                help=f.metadata["help"],
            )(run)
        return run

    return decorate


def recipe_options(command: Command) -> Command:
    """Add ``--recipe``, ``--flavour`` and ``--set``, and pass the recipe itself."""

    @functools.wraps(command)
    def run(recipe: str, flavour: str | None, set_: tuple[str, ...], **kwargs: Any) -> Any:
        return command(recipe=config.read_recipe(recipe, set_, flavour=flavour), **kwargs)

    for option in (
        set_option,
        flavour_option,
        click.option(
            "--recipe", default="quick", show_default=True,
            help="Name or TOML file of the training; see: labelkit recipes.",
        ),
    ):  # fmt: skip
        run = option(run)
    return run


def training_options(command: Command) -> Command:
    """Add what every training takes: recipe, settings, seed, workers, device."""
    for option in (
        device_option,
        workers_option,
        click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of all chance."),
    ):  # fmt: skip
        command = option(command)
    return recipe_options(command)


SEED = click.IntRange(min=0, max=2**31 - 1)
workers_option = click.option(
    "--workers", type=click.IntRange(min=1), help="Processes at once; all cores if not given."
)
set_option = click.option(
    "--set", "set_", multiple=True, metavar="KEY=VALUE",
    help="Change a setting: epochs=3 in every stage, finetune.epochs=3 in one.",
)  # fmt: skip
flavour_option = click.option(
    "--flavour", type=click.Choice(config.FLAVOURS),
    help="Where write-up and code differ: which one; as_coded if not given.",
)  # fmt: skip
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
    help="Where to compute; auto is cuda where there is one.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print an array of objects.")


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-C", "folder", type=click.Path(path_type=Path), help="Work on the project there.")
@click.option(
    "--lock-timeout", type=click.FloatRange(min=0), default=30.0, show_default=True,
    help="Seconds to wait for the store.",
)  # fmt: skip
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.version_option(__version__, prog_name="labelkit")
@click.pass_context
def cli(ctx: click.Context, folder: Path | None, lock_timeout: float, debug: bool) -> None:
    """Find and fix wrong labels in audio datasets.

    Exit codes: 0 done, 1 failed, 2 bad usage or input, 3 store, 75 store busy.
    """
    ctx.obj = Place(folder, lock_timeout)


@cli.command()
@click.argument("audio_dir", type=click.Path(path_type=Path))
@click.pass_obj
def init(place: Place, audio_dir: Path) -> None:
    """Make a project in the current folder, on recordings that may lie anywhere."""
    from labelkit.workflows.project import create_project

    project, new = create_project(place.folder or Path.cwd(), audio_dir)
    click.echo(f"{'Made a' if new else 'There is a'} project in {project.root.resolve()}", err=True)


@cli.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--format", "format_", type=click.Choice(registry.names("format")), required=True,
    help="What the file or folder is.",
)  # fmt: skip
@click.option("--metadata-only", is_flag=True, help="Do not look for the recordings.")
@click.option("--add-classes", is_flag=True, help="Let new classes join the vocabulary.")
@options(FormatSpec)
@click.pass_obj
def import_(
    place: Place,
    source: Path,
    format_: str,
    metadata_only: bool,
    add_classes: bool,
    spec: FormatSpec,
) -> None:
    """Bring labels into the store, whole or not at all; twice adds nothing."""
    from labelkit.workflows import importing

    report = importing.import_labels(
        place.project(), source, format_, spec, metadata_only=metadata_only, add_classes=add_classes
    )
    states = ", ".join(f"{count} {state}" for state, count in report.states.items())
    click.echo(
        f"{report.read} rows ({states}): {report.added} clips added, {report.changed} changed; "
        f"{len(report.classes)} classes",
        err=True,
    )


@cli.command()
@recipe_options
@workers_option
@json_option
@click.pass_obj
def check(place: Place, recipe: config.Recipe, workers: int | None, as_json: bool) -> None:
    """List recordings that are unreadable, empty, silent, truncated, clipped or duplicate."""
    from labelkit.workflows import prepare

    rows = prepare.check(place.project(), recipe, workers=workers)
    left_out = len({row["path"] for row in rows if not row["used"]})
    show(rows, as_json)
    click.echo(f"{len(rows)} faults; {left_out} clips are kept out of training", err=True)


@cli.command()
@recipe_options
@workers_option
@device_option
@click.pass_obj
def features(place: Place, recipe: config.Recipe, workers: int | None, device: str) -> None:
    """Compute the spectrograms of a recipe that are not there yet."""
    from labelkit.workflows.extraction import compute_features
    from labelkit.workflows.foldwork import device_name

    store = compute_features(
        place.project(), recipe.features, workers=workers, device=device_name(device)
    )
    usable = sum(entry.length > 0 for entry in store.entries.values())
    click.echo(
        f"{usable} spectrograms in {store.folder.name}, {len(store.entries) - usable} recordings "
        "left out (see: labelkit check)",
        err=True,
    )


@cli.command()
@click.option("--n", type=click.IntRange(min=2), help="Number of folds; 5 where there are none.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of a new set.")
@json_option
@click.pass_obj
def folds(place: Place, n: int | None, seed: int, as_json: bool) -> None:
    """Deal the clips into folds that stay; clips that came later join them.

    Another --n makes another set, which train and verify take from then on.
    """
    from labelkit.workflows import prepare

    project = place.project()
    fold_set = prepare.freeze_folds(project, n=n, seed=seed)
    show(prepare.fold_table(project, fold_set), as_json)
    click.echo(f"fold set {fold_set}", err=True)


@cli.command()
@click.option("--trusted", is_flag=True, help="Learn from verified, relabeled, self-verified only.")
@click.option("--start", metavar="RUN", help="Start from the models of a finished run.")
@training_options
@json_option
@click.pass_obj
def train(place: Place, as_json: bool, **kwargs: Any) -> None:
    """Train one model per fold, and keep how it judges the clips it never saw.

    A recipe of several stages runs them one after the other; each is kept, so the same
    command goes on with the one it was stopped in.
    """
    from labelkit.workflows import stages

    def tell(row: dict[str, Any]) -> None:
        parts = [f"{name.replace('_', ' ')} {cell(value)}" for name, value in row.items()]
        click.echo(", ".join(parts), err=True)

    summary = stages.train(place.project(), on_stage=tell, **kwargs)
    if not as_json:
        summary.pop("stages", None)
    show_facts(summary, as_json)


@cli.group(invoke_without_command=True)
@json_option
@click.pass_context
def recipes(ctx: click.Context, as_json: bool) -> None:
    """List the trainings that come with labelkit; show one with: recipes show NAME."""
    if ctx.invoked_subcommand is None:
        show(config.recipe_table(), as_json)


@recipes.command("show")
@click.argument("name")
@flavour_option
@set_option
@click.option("--all", "all_", is_flag=True, help="Every stage and default, one row each.")
@json_option
def show_recipe(
    name: str, flavour: str | None, set_: tuple[str, ...], all_: bool, as_json: bool
) -> None:
    """Show the settings of a recipe, where each comes from, and what is unknown.

    Sources: written in the publication, coded in what was released, inferred from both,
    chosen by labelkit, default of labelkit, set on the command line. The column other
    says what the other flavour has.
    """
    about, rows, unknowns = config.explain_recipe(name, set_, flavour=flavour)
    if not (all_ or as_json):
        stages = config.read_recipe(name, set_, flavour=flavour).stages
        rows = config.summarise_rows(rows, list(stages))
    click.echo(about, err=True)
    # Learning rates are too small for the four decimals of scores.
    show(
        [asdict(row) | ({} if as_json else {"value": plain_setting(row.value)}) for row in rows],
        as_json,
    )
    for unknown in unknowns:
        click.echo(f"unknown: {unknown}", err=as_json)


@cli.command()
@click.option("--rule", type=click.Choice(sorted(RULES)), help="Thresholds of a published rule.")
@options(VerifySpec, as_changes=True)
@training_options
@json_option
@click.pass_obj
def verify(
    place: Place,
    recipe: config.Recipe,
    rule: str | None,
    changes: dict[str, Any],
    as_json: bool,
    **kwargs: Any,
) -> None:
    """Find unverified labels that can be trusted: train, self-verify, fine-tune, round by round."""
    from labelkit.workflows import verification

    recipe = config.change_verify(recipe, (RULES[rule] if rule else {}) | changes)

    def tell(row: dict[str, Any]) -> None:
        click.echo(round_line(row), err=as_json)
        for kind in ("proposed", "accepted", "revoked"):
            counts = ", ".join(f"{name} {n}" for name, n in row["per_class"][kind].items())
            if counts:
                click.echo(f"    {kind}: {counts}", err=as_json)

    summary = verification.verify(place.project(), recipe, on_round=tell, **kwargs)
    if summary["finished_before"]:
        click.echo(f"{summary['run_id']} is finished, nothing was changed:", err=True)
        if "superseded_by" in summary:
            click.echo(f"{summary['superseded_by']} has decided since then", err=True)
        for row in summary["rounds"]:
            tell(row)
    rounds = summary.pop("rounds")
    if as_json:
        show([{"run_id": summary["run_id"], **row} for row in rounds], True)
    show_facts(summary, False, err=as_json)


def round_line(row: dict[str, Any]) -> str:
    """One line about a round."""
    metric, value = next(item for item in row.items() if item[0].startswith("verified_"))
    score = f"{metric.replace('_', ' ')} {value:.4f}, loss {row['verified_loss']:.4f}"
    if not row["iteration"]:
        return f"round  0: first training; {score}"
    return (
        f"round {row['iteration']:2}: {row['proposed']} proposed, {row['accepted']} accepted, "
        f"{row['revoked']} revoked, {row['self_verified']} self-verified; {score}"
    )


@cli.command()
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


@cli.command()
@json_option
@click.pass_obj
def status(place: Place, as_json: bool) -> None:
    """Show what the project holds."""
    from labelkit.workflows import review

    show(review.status(place.project()), as_json)


@cli.command()
@click.argument("clip")
@json_option
@click.pass_obj
def history(place: Place, clip: str, as_json: bool) -> None:
    """Show every event of a clip, named by its path below the audio folder."""
    from labelkit.workflows import review

    show(review.history(place.project(), clip), as_json)


@cli.command()
@click.argument("sql")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=30.0, show_default=True,
    help="Seconds it may take.",
)  # fmt: skip
@json_option
@click.pass_obj
def query(place: Place, sql: str, timeout: float, as_json: bool) -> None:
    """Answer one SELECT over the store, from labels_now or label_history say."""
    from labelkit.workflows import review

    answer = review.query(place.project(), sql, timeout_s=timeout)
    show(answer.dicts(), as_json, answer.columns)


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the sounds and the errors."
)
@workers_option
@click.pass_obj
def demo(place: Place, directory: Path, seed: int, workers: int | None) -> None:
    """Synthesise a set with known errors, run the whole job on it, and compare with the truth."""
    from labelkit.workflows import demo as demonstration

    report = demonstration.run_demo(directory, seed=seed, workers=workers, say=click.echo)
    show(report, False)
