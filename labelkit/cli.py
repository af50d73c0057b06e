"""The labelkit command: parse, call one function of a room, print.

stdout is data, stderr everything else. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from labelkit import __version__
from labelkit.commands import (
    cleaning,
    history,
    labels,
    maintenance,
    project,
    query,
    recordings,
    rehearsal,
    review,
    runs,
)
from labelkit.commands.options import Finite, Place
from labelkit.errors import LabelkitError
from labelkit.terminal import echo


class Cli(click.Group):
    """Turns every labelkit error into one line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, reporting labelkit errors without a traceback."""
        try:
            return super().invoke(ctx)
        except LabelkitError as error:
            if ctx.params.get("debug"):
                raise
            echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            # Who reads the output has had enough: click ends quietly.
            if ctx.params.get("debug") or isinstance(error, BrokenPipeError):
                raise
            echo(f"Error: {error}; is there room, and may it be written to?", err=True)
            ctx.exit(1)
        except (KeyboardInterrupt, RuntimeError) as error:
            # Ctrl-C within a statement comes out of the database as a RuntimeError.
            if isinstance(error, RuntimeError) and "interrupted" not in str(error).lower():
                raise
            echo("Stopped; the same command goes on where it was.", err=True)
            ctx.exit(130)


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-C", "folder", type=click.Path(path_type=Path), help="Work on the project there.")
@click.option(
    "--lock-timeout", type=Finite(min=0), default=30.0, show_default=True,
    help="Seconds to wait for the store.",
)  # fmt: skip
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.version_option(__version__, prog_name="labelkit")
@click.pass_context
def cli(ctx: click.Context, folder: Path | None, lock_timeout: float, debug: bool) -> None:
    """Find and fix wrong labels in audio datasets.

    Exit codes: 0 done, 1 failed, 2 bad usage or input, 3 store, 4 outside service, 75 store busy.
    """
    ctx.obj = Place(folder, lock_timeout)


for module in (
    project, runs, cleaning, recordings, rehearsal, review, history, query, labels, maintenance
):  # fmt: skip
    for command in module.COMMANDS:
        cli.add_command(command)
