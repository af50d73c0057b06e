"""Options that several commands share, and what commands are given of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import click

from labelkit import config, registry
from labelkit.config import create_spec, value_type
from labelkit.output import LAYOUT, Layout
from labelkit.terminal import echo

Command = Callable[..., Any]


@dataclass(frozen=True)
class Place:
    """Where the user wants to work, from the options before the command."""

    folder: Path | None
    lock_timeout_s: float
    as_of: str | None = None

    def project(self) -> Any:
        """Open the project there, looking back where the user wants it to."""
        from labelkit.project import find_root, fix_as_of, open_project

        return fix_as_of(
            open_project(
                find_root(self.folder), lock_timeout_s=self.lock_timeout_s, as_of=self.as_of
            )
        )


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


def recipe_options(command: Command, *, hears_vectors: bool = False) -> Command:
    """Add ``--recipe``, ``--flavour`` and ``--set``, and pass the recipe itself.

    Args:
        command: To be given them.
        hears_vectors: Add ``--encoder``, too.
    """

    @functools.wraps(command)
    def run(
        recipe: str,
        flavour: str | None,
        set_: tuple[str, ...],
        encoder: str | None = None,
        **kwargs: Any,
    ) -> Any:
        # Who names what makes the vectors, and no recipe, means the one that reads them.
        name = recipe if encoder is None or is_given("recipe") else "panel"
        found = config.read_encoded(name, encoder, set_, flavour)
        return command(recipe=found, **kwargs)

    for option in (
        plugins_option,
        set_option,
        flavour_option,
        *([encoder_option] if hears_vectors else []),
        click.option(
            "--recipe", default="quick", show_default=True,
            help="Name or TOML file of the training; see: labelkit recipes.",
        ),
    ):  # fmt: skip
        run = option(run)
    return run


def rule_options(command: Command) -> Command:
    """Add ``--set`` for the options of a rule, passed as a dictionary."""

    @functools.wraps(command)
    def run(set_: tuple[str, ...], **kwargs: Any) -> Any:
        return command(options=dict(config.split_setting(text) for text in set_), **kwargs)

    return click.option(
        "--set", "set_", multiple=True, metavar="KEY=VALUE", help="An option of the rule: keep=0.7."
    )(run)


def probe_option(default: str) -> Callable[[Command], Command]:
    """Add ``--recipe``, once ``--probe``, ``--encoder``, ``--set``; pass the recipe that judges.

    Args:
        default: Recipe that is taken where none is named.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(probe: str, encoder: str | None, set_: tuple[str, ...], **kwargs: Any) -> Any:
            return command(probe=config.read_encoded(probe, encoder, set_), **kwargs)

        for option in (
            plugins_option,
            set_option,
            encoder_option,
            click.option(
                "--recipe", "--probe", "probe", default=default, show_default=True,
                help="Recipe of the embeddings and of what judges them.",
            ),
        ):  # fmt: skip
            run = option(run)
        return run

    return decorate


def training_options(command: Command) -> Command:
    """Add what every training takes: recipe, encoder, settings, seed, workers, device."""
    for option in (
        device_option,
        workers_option,
        click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of all chance."),
    ):  # fmt: skip
        command = option(command)
    return recipe_options(command, hears_vectors=True)


def is_given(name: str) -> bool:
    """Tell whether an option of the running command was typed, be it its default."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def refuse_given(why: str, **options: str) -> None:
    """Refuse options that would have no effect.

    Args:
        why: What makes them pointless; the option follows.
        **options: Each flag, by the name of its value.

    Raises:
        click.UsageError: If one was typed.
    """
    for name, flag in options.items():
        if is_given(name):
            raise click.UsageError(f"{why}; leave out {flag}")


def tell_unread(recipe: config.Recipe, *tables: str) -> None:
    """Tell of settings somebody changed of tables that a command does not read."""
    for change in recipe.changes:
        if change.strip().partition(".")[0] not in tables:
            echo(f"--set {change} is not read here; it changes nothing", err=True)


def _look_back(ctx: click.Context, option: click.Parameter, moment: str | None) -> None:
    if moment is not None:
        ctx.obj = replace(ctx.obj, as_of=moment)


def _allow(ctx: click.Context, option: click.Parameter, packages: tuple[str, ...]) -> None:
    named = [part.strip() for package in packages for part in package.split(",")]
    ctx.with_resource(registry.allowing(named))


plugins_option = click.option(
    "--allow-plugins", metavar="PACKAGE", multiple=True, callback=_allow, expose_value=False,
    is_eager=True,
    help="Let a recipe's file name code of this package, which is run.",
)  # fmt: skip
as_of_option = click.option(
    "--as-of", metavar="MOMENT", callback=_look_back, expose_value=False,
    help="Labels as they were: after a batch (its number), at the end of a day, at a time (UTC), "
         "or as a run read them.",
)  # fmt: skip


class Finite(click.FloatRange):
    """A number in a range that is neither NaN nor infinite."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Read the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


SEED = click.IntRange(min=0, max=2**31 - 1)
workers_option = click.option(
    "--workers", type=click.IntRange(min=1), help="Processes at once; all cores if not given."
)
set_option = click.option(
    "--set", "set_", multiple=True, metavar="KEY=VALUE",
    help="Change a setting: epochs=3 in every stage, finetune.epochs=3 in one.",
)  # fmt: skip
encoder_option = click.option(
    "--encoder", metavar="NAME",
    help="What hears the clips, aisfx say: short for --set embedding.embedder=NAME. The recipe "
         "panel, which a training takes with it, hears it beside its own.",
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


# Options that print something else than a table, by the name of their values.
_NO_TABLES = {"as_json": "--json", "as_csv": "--csv", "parquet": "--parquet"}


def _lay_out(ctx: click.Context, option: click.Parameter, given: bool) -> None:
    if given:
        before = ctx.meta.get(LAYOUT, Layout())
        ctx.meta[LAYOUT] = replace(before, **{str(option.name): True})


wide_option = click.option(
    "--wide", is_flag=True, callback=_lay_out, expose_value=False,
    help="Cut nothing to fit the terminal; in a file or a pipe nothing is cut anyway.",
)  # fmt: skip


def record_option(command: Command) -> Command:
    """Add ``--record``, of tables with many columns; what is no table is refused beside it."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        others = [flag for key, flag in _NO_TABLES.items() if kwargs.get(key)]
        layout = click.get_current_context().meta.get(LAYOUT, Layout())
        if layout.record and others:
            raise click.UsageError(f"--record and {others[0]} exclude one another")
        return command(*args, **kwargs)

    return click.option(
        "--record", is_flag=True, callback=_lay_out, expose_value=False,
        help="Print a line a field in place of a line a row.",
    )(run)  # fmt: skip


def table_options(command: Command) -> Command:
    """Add ``--json`` and ``--wide``."""
    return json_option(wide_option(command))


def tell_next(project: Any) -> None:
    """Say what to type next, on stderr."""
    from labelkit.maintenance.status import next_step

    echo(f"next: {next_step(project)}", err=True)
