"""Commands on recipes: which there are, and what one of them says."""

from __future__ import annotations

import click

from labelkit import config
from labelkit.commands.hints import Hinting
from labelkit.commands.options import flavour_option, set_option, table_options
from labelkit.output import as_row, plain_setting, show
from labelkit.terminal import echo


@click.group(cls=Hinting, invoke_without_command=True)
@table_options
@click.pass_context
def recipes(ctx: click.Context, as_json: bool) -> None:
    """List the trainings that come with labelkit; show one with: recipes show NAME."""
    if ctx.invoked_subcommand is None:
        show(config.recipe_table(), as_json)
    elif as_json:
        raise click.UsageError(
            f"--json before {ctx.invoked_subcommand} is of the list; put it behind"
        )


@recipes.command("show")
@click.argument("name")
@flavour_option
@set_option
@click.option("--all", "all_", is_flag=True, help="Every stage and default, one row each.")
@table_options
def show_recipe(
    name: str, flavour: str | None, set_: tuple[str, ...], all_: bool, as_json: bool
) -> None:
    """Show the settings of a recipe, where each comes from, and what is unknown.

    Nothing of a file is run: code that it names is shown, with the package to allow.

    Sources: written in the publication, coded in what was released, inferred from both,
    chosen by labelkit, default of labelkit, set on the command line. The column other
    says what the other flavour has.
    """
    about, rows, unknowns = config.explain_recipe(name, set_, flavour=flavour)
    if not (all_ or as_json):
        rows = config.summarise_rows(rows, config.list_stages(rows))
    echo(about, err=True)
    # Learning rates are too small for the four decimals of scores.
    show(
        [as_row(row) | ({} if as_json else {"value": plain_setting(row.value)}) for row in rows],
        as_json,
    )
    for unknown in unknowns:
        echo(f"unknown: {unknown}", err=as_json)


COMMANDS = (recipes,)
