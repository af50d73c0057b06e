"""The labelkit command: parse, call one function of a room, print.

stdout is data, stderr everything else. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import gc
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from labelkit import __version__
from labelkit.commands import (
    classes,
    cleaning,
    history,
    labels,
    maintenance,
    project,
    query,
    recipes,
    recordings,
    rehearsal,
    review,
    runs,
)
from labelkit.commands.hints import Hinting, hinting_options
from labelkit.commands.options import Finite, Place
from labelkit.errors import LabelkitError
from labelkit.terminal import echo, visible

# What modules make while they are loaded stays: to look for garbage among it, again and again,
# takes a twentieth of a short command.
gc.set_threshold(50_000, 20, 20)

# What ends a command as Ctrl-C does; whoever started it under nohup has one of them ignored.
_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Ended(KeyboardInterrupt):
    """A signal that asks the process to end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let other signals end a command as Ctrl-C does: work is put down where it can be taken up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise Ended(number)

    before = {number: signal.getsignal(number) for number in _ENDING}
    taken = [number for number in _ENDING if before[number] == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


@contextmanager
def _speaking_plainly() -> Iterator[None]:
    """Write out what would steer a terminal in errors that click prints itself."""
    try:
        with hinting_options():
            yield
    except click.ClickException as error:
        error.message = visible(error.message)  # type: ignore[misc]  # Final only for readers.
        raise


class Cli(Hinting):
    """Turns every error into one line on stderr and an exit code."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the command line; what click says of it may repeat what is there."""
        with _speaking_plainly():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, reporting errors without a traceback unless ``--debug`` is given."""
        with _ending_in_order(), _speaking_plainly():
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            # Click's own ways to end; the first is a RuntimeError.
            raise
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
        except MemoryError as error:
            if ctx.params.get("debug"):
                raise
            more = " ".join(str(error).split())[:200]
            echo(
                f"Error: there is not enough memory{f' ({more})' if more else ''}; take fewer "
                "--workers, or give the process more",
                err=True,
            )
            ctx.exit(1)
        except (KeyboardInterrupt, RuntimeError) as error:
            # Ctrl-C within a statement comes out of the database as a RuntimeError.
            if isinstance(error, RuntimeError) and "interrupted" not in str(error).lower():
                self._tell_unexpected(ctx, error)
            echo("Stopped; the same command goes on where it was.", err=True)
            ctx.exit(128 + error.number if isinstance(error, Ended) else 130)
        except Exception as error:
            self._tell_unexpected(ctx, error)

    def _tell_unexpected(self, ctx: click.Context, error: Exception) -> NoReturn:
        """Tell an error that nobody expected: of a plug-in, or a fault of labelkit's."""
        if ctx.params.get("debug"):
            raise error
        said = " ".join(str(error).split())
        said = said if len(said) <= 300 else f"{said[:299]}…"
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        echo(
            f"Error: {type(error).__name__}: {said} (from {where}); nothing that was written "
            "before is lost; --debug shows the way there",
            err=True,
        )
        ctx.exit(1)


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

    Exit codes: 0 done, 1 failed or an earlier step is missing, 2 bad usage or input, 3 store,
    4 outside service, 75 store busy.
    """
    ctx.obj = Place(folder, lock_timeout)


for module in (
    project, recipes, runs, cleaning, classes, recordings, rehearsal, review, history, query,
    labels, maintenance,
):  # fmt: skip
    for command in module.COMMANDS:
        cli.add_command(command)
