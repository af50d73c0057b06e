"""What people type for a thing that is called otherwise here, and how it is called."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

# Words that mean a command, each with what to type for it: commands and options there are.
COMMANDS = {
    # Labels in, by hand or from a file.
    "accept": "select --rule NAME",
    "add": "import SOURCE --format NAME",
    "annotate": "review init --url URL --project TITLE",
    "apply": "select --rule NAME",
    "approve": "select --rule NAME",
    "convert": "export FILE --format NAME",
    "correct": "label CLIP CLASS",
    "delete": "undo BATCH",
    "dump": "export FILE --format NAME",
    "edit": "label CLIP CLASS",
    "fix": "import SOURCE --format corrections",
    "load": "import SOURCE --format NAME",
    "reject": "label CLIP --reject",
    "relabel": "label CLIP CLASS",
    "remove": "classes retire CLASS",
    "rename": "classes rename OLD NEW",
    "retire": "classes retire CLASS",
    "move": "check --moved",
    "mv": "check --moved",
    "rm": "classes retire CLASS",
    "save": "export FILE --format NAME",
    "set": "label CLIP CLASS",
    "update": "import SOURCE --format corrections",
    # A project.
    "create": "init AUDIO_DIR",
    "list": "status",
    "ls": "status",
    "new": "init AUDIO_DIR",
    "setup": "init AUDIO_DIR",
    "show": "status",
    "start": "init AUDIO_DIR",
    "stats": "status",
    "summary": "status",
    "example": "demo DIRECTORY",
    "tutorial": "demo DIRECTORY",
    "info": "status",
    # Recordings.
    "clips": "query 'from labels_now'",
    "dedup": "duplicates",
    "dups": "duplicates",
    "embeddings": "embed",
    "extract": "features",
    "inspect": "check",
    "lint": "check",
    "nearest": "similar CLIP",
    "neighbours": "similar CLIP",
    "preprocess": "features",
    "search": "similar CLIP",
    "spectrograms": "features",
    "split": "folds",
    "validate": "check",
    # Finding errors.
    "clean": "verify",
    "confusion": "classes",
    "detect": "score",
    "doubts": "score",
    "errors": "score",
    "evaluate": "rehearse --kind NAME --rate SHARE",
    "fit": "train",
    "find": "score",
    "issues": "score",
    "models": "recipes",
    "noise": "score",
    "predict": "train",
    "rank": "score",
    "self-verify": "verify",
    "simulate": "rehearse --kind NAME --rate SHARE",
    "suggest": "score",
    "train-model": "train",
    "trust": "select --rule NAME",
    # People.
    "annotators": "review annotators",
    "answers": "pull",
    "disagreements": "review disagreements",
    "fetch": "pull",
    "label-studio": "review init --url URL --project TITLE",
    "labelstudio": "review init --url URL --project TITLE",
    "quarantine": "review quarantine",
    "send": "push N",
    "sync": "pull",
    "tasks": "push N",
    "upload": "push N",
    # What was.
    "changelog": "log",
    "commits": "log",
    "compare": "diff A",
    "restore-labels": "undo BATCH",
    "revert": "undo BATCH",
    "rollback": "undo BATCH",
    "reset": "undo BATCH",
    "who": "blame CLIP",
    "why": "history CLIP",
    "runs": "status",
    # The store.
    "cleanup": "gc",
    "db": "sql",
    "diagnose": "doctor",
    "fsck": "doctor",
    "merge": "changes import FILE",
    "migrate": "init AUDIO_DIR",
    "prune": "gc",
    "repair": "doctor --repair",
    "select-sql": "query 'from labels_now'",
    "shell": "sql",
    "snapshot": "backup FILE",
    "upgrade": "init AUDIO_DIR",
    "help": "--help",
    "version": "--version",
}
# Words that mean an option: those of a command that mean it, the likeliest first.
OPTIONS = {
    "--api-key": ("--token-file",),
    "--as-json": ("--json",),
    "--at": ("--as-of",),
    "--author": ("--actor",),
    "--batch-size": ("--set batch_size=32",),
    "--by": ("--actor",),
    "--config": ("--recipe",),
    "--count": ("--lowest", "--most", "--limit", "--max-rows"),
    "--cpu": ("--device cpu",),
    "--cuda": ("--device cuda",),
    "--date": ("--as-of", "--since"),
    "--delimiter": ("--separator",),
    "--dryrun": ("--dry-run",),
    "--embedder": ("--encoder",),
    "--embedding": ("--encoder",),
    "--embeddings": ("--encoder",),
    "--epochs": ("--set epochs=3",),
    "--expanded": ("--record",),
    "--fold-count": ("--n",),
    "--from-date": ("--since",),
    "--gpu": ("--device cuda",),
    "--jobs": ("--workers",),
    "--k": ("--most", "--n"),
    "--kind-of": ("--kind",),
    "--limit": ("--max-rows", "--most", "--lowest"),
    "--lr": ("--set lr=0.001",),
    "--max": ("--max-rows", "--limit", "--most", "--lowest"),
    "--model": ("--recipe", "--run"),
    "--n-folds": ("--n",),
    "--no-truncate": ("--wide",),
    "--num-workers": ("--workers",),
    "--number": ("--lowest", "--most", "--limit", "--max-rows"),
    "--option": ("--set",),
    "--output-format": ("--json",),
    "--overwrite": ("--force",),
    "--param": ("--set",),
    "--password": ("--token-file",),
    "--predictions": ("--probs",),
    "--preset": ("--recipe",),
    "--probabilities": ("--probs",),
    "--processes": ("--workers",),
    "--quick": ("--fast",),
    "--random-state": ("--seed",),
    "--rounds": ("--iterations",),
    "--sep": ("--separator",),
    "--simulate": ("--dry-run",),
    "--sql": ("--where",),
    "--threads": ("--workers",),
    "--title": ("--project",),
    "--token": ("--token-file",),
    "--top": ("--lowest", "--most", "--limit"),
    "--type": ("--format", "--kind"),
    "--user": ("--actor",),
    "--vertical": ("--record",),
    "--what-if": ("--dry-run",),
    "--yes": ("--force",),
    "-f": ("--force", "--format"),
    "-j": ("--workers",),
    "-n": ("--dry-run", "--n", "--limit", "--most", "--lowest"),
    "-o": ("--parquet",),
    "-x": ("--record",),
    "-y": ("--force",),
}
# Words that mean an option before the command.
BEFORE = {"--dir": "-C", "--directory": "-C", "--folder": "-C", "--root": "-C", "--project": "-C",
          "--timeout": "--lock-timeout", "--traceback": "--debug", "--verbose": "--debug",
          "-v": "--debug"}  # fmt: skip


class Hinting(click.Group):
    """A group of commands that says what an unknown word may mean."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named, or say which one may be meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            name = str(args[0])
            if self.get_command(ctx, name) is not None or isinstance(error, click.NoSuchOption):
                raise
            hint = explain_command(name, ctx)
            raise click.UsageError(f"No such command {name!r}{hint}", ctx) from error


def explain_command(name: str, ctx: click.Context) -> str:
    """Say what may be meant by a word that is no command of a group, or where all are listed."""
    word, group = name.casefold().replace("_", "-"), ctx.command
    here = list(group.commands) if isinstance(group, click.Group) else []
    path = _path_of(ctx)
    root = ctx.find_root().command
    everywhere = dict(root.commands) if isinstance(root, click.Group) else {}
    if word in here:
        return f"; did you mean: {path} {word}"
    if word in COMMANDS:
        return f"; did you mean: labelkit {COMMANDS[word]}"
    if word in everywhere:
        return f"; did you mean: labelkit {word}"
    if close := difflib.get_close_matches(word, here, n=1):
        return f"; did you mean: {path} {close[0]}"
    if close := difflib.get_close_matches(word, [*COMMANDS, *everywhere], n=1):
        return f"; did you mean: labelkit {COMMANDS.get(close[0], close[0])}"
    return f"; all there are: {path} --help"


@contextmanager
def hinting_options() -> Iterator[None]:
    """Say which option may be meant by one that a command does not have."""
    try:
        yield
    except click.NoSuchOption as error:
        hint = explain_option(error.option_name, error.ctx) if error.ctx else ""
        error.message = f"No such option {error.option_name!r}{hint}"  # type: ignore[misc]
        error.possibilities = None  # type: ignore[misc]  # Final only for readers.
        raise


def explain_option(name: str, ctx: click.Context) -> str:
    """Say what may be meant by an option that a command does not have."""
    mine = list_options(ctx.command)
    before = list_options(ctx.find_root().command)
    word = name.casefold().replace("_", "-")
    found = next((text for text in OPTIONS.get(word, ()) if text.split()[0] in mine), None)
    if found is None and word in mine:
        found = word
    if found is None:
        moved = word if word in before and word not in mine else BEFORE.get(word)
        if moved and ctx.parent is not None:
            return f"; it stands before the command: labelkit {moved}"
        close = difflib.get_close_matches(word, mine, n=1)
        found = close[0] if close else None
    return f"; did you mean {found}" if found else f"; all there are: {_path_of(ctx)} --help"


def _path_of(ctx: click.Context) -> str:
    """Return the words of a command, whatever the program was called by."""
    return " ".join(
        ["labelkit", *ctx.command_path.split()[len(ctx.find_root().command_path.split()) :]]
    )


def list_options(command: Any) -> list[str]:
    """List the flags that a command takes."""
    return [
        flag
        for option in command.params
        if isinstance(option, click.Option)
        for flag in (*option.opts, *option.secondary_opts)
    ]
