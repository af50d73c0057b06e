"""The prompt of `labelkit sql`: completion, history, commands with a dot."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from labelkit.commands.query import print_answer
from labelkit.errors import InvalidInput, LabelkitError, StoreError
from labelkit.labels import query as querying
from labelkit.stores.completion import (
    Names,
    is_complete,
    read_definitions,
    split_statements,
)
from labelkit.stores.query import check_limits

MODES = ("table", "json", "csv")
HELP = """\
A statement ends with a semicolon; Ctrl-C stops it, Ctrl-D leaves.
.tables          what can be asked
.schema NAME     how a table, a view or a macro is made
.mode MODE       print as table, json or csv
.timeout S       seconds a statement may take
.help            this
.quit            leave"""
COMMANDS = re.findall(r"^\.\w+", HELP, re.M)
# Nobody who types waits longer than this for names to choose from.
_NAMES_LOCK_S = 0.2
_RELATION = re.compile(r"\b(?:from|join)\s+(\w+)(?:\s+(?:as\s+)?(\w+))?", re.I)


class SqlCompleter(Completer):
    """Completes names where they can stand: relations after FROM, columns of what is named.

    Args:
        names: Gives the names there are.
    """

    def __init__(self, names: Callable[[], Names]) -> None:
        self._names = names

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        """Yield what the word before the cursor may become, the likeliest first."""
        before = document.text_before_cursor
        word = re.search(r"[\w.]*$", before)[0]  # type: ignore[index]
        start = word if before.lstrip().startswith(".") else word.rpartition(".")[2]
        upper = start.isupper()
        for text, kind in self._candidates(document.text, before, word):
            if text.casefold().startswith(start.casefold()) and text != start:
                shown = text.upper() if upper and kind == "keyword" else text
                yield Completion(shown, -len(start), display_meta=kind)

    def _candidates(self, text: str, before: str, word: str) -> Iterable[tuple[str, str]]:
        names = self._names()
        if before.lstrip().startswith("."):
            return _dot_candidates(before.lstrip(), names)
        if before.count("'") % 2:
            return ()
        if "." in word:
            return self._columns(names, text, word.split(".")[-2])
        relations = [(name, "relation") for name in names.relations]
        macros = [(name, "macro") for name in names.macros]
        if re.search(r"\b(from|join)\s+\w*$", before, re.I):
            return relations + macros
        if not word:
            return ()
        columns = [
            c for name, _ in _RELATION.findall(text) for c in self._columns(names, text, name)
        ]
        keywords = [(name, "keyword") for name in names.keywords]
        return dict.fromkeys(columns + relations + macros + keywords)

    def _columns(self, names: Names, text: str, name: str) -> list[tuple[str, str]]:
        called = {alias.casefold(): full for full, alias in _RELATION.findall(text)}
        found = {full.casefold(): columns for full, columns in names.relations.items()}
        columns = found.get(name.casefold())
        if columns is None:
            columns = found.get(called.get(name.casefold(), "").casefold(), [])
        return [(column, "column") for column in columns]


def _dot_candidates(before: str, names: Names) -> Iterable[tuple[str, str]]:
    command, space, _ = before.partition(" ")
    if not space:
        return [(name, "command") for name in COMMANDS]
    if command == ".schema":
        return [(name, "relation") for name in (*names.relations, *names.macros)]
    return [(mode, "mode") for mode in MODES] if command == ".mode" else ()


# What people type who come from another shell.
_LEAVE = ("exit", "quit", "exit;", "quit;")


class Shell:
    """Statements and dot commands, one after another; the store is free between them.

    Args:
        project: The project.
        timeout_s: Seconds a statement may take.
        max_rows: Rows to print at most.
    """

    def __init__(self, project: Any, *, timeout_s: float, max_rows: int | None = None) -> None:
        self._project, self._timeout_s, self._max_rows = project, timeout_s, max_rows
        self._mode = "table"
        self._names, self._read_at = Names(), None

    def names(self) -> Names:
        """Return the names to complete with, read again when the store was written to."""
        try:
            written_at: Any = self._project.store.path.stat().st_mtime_ns
            if written_at != self._read_at:
                self._names = querying.read_names(self._project, lock_timeout_s=_NAMES_LOCK_S)
                self._read_at = written_at
        except (StoreError, OSError):
            # Names from before are better than none while somebody writes.
            pass
        return self._names

    def talk(self, **options: Any) -> None:
        """Ask at a prompt until the user leaves; an error is told and forgotten.

        Args:
            **options: For the ``PromptSession``, its input and output say.
        """
        self._project.work.mkdir(parents=True, exist_ok=True)
        session: PromptSession[str] = PromptSession(
            "labelkit> ",
            multiline=True,
            prompt_continuation="       -> ",
            completer=SqlCompleter(self.names),
            complete_in_thread=True,
            history=FileHistory(str(self._project.work / "sql_history")),
            key_bindings=_enter(),
            **options,
        )
        click.echo("A statement ends with a semicolon; .help tells more, Ctrl-D leaves.", err=True)
        while True:
            try:
                self.run(session.prompt())
            except EOFError:
                return
            except KeyboardInterrupt:
                click.echo("Stopped.", err=True)
            except LabelkitError as error:
                click.echo(f"Error: {error}", err=True)

    def run_script(self, text: str) -> None:
        """Run statements and dot commands, each of which starts a line, up to the first error.

        Raises:
            LabelkitError: What the first statement that fails raises.
        """
        waiting = ""
        try:
            for line in text.splitlines(keepends=True):
                waiting += line
                if is_ready(waiting):
                    self.run(waiting)
                    waiting = ""
            self.run(waiting)
        except EOFError:
            return

    def run(self, text: str) -> None:
        """Run what was typed: a dot command, or statements.

        Raises:
            EOFError: If it says to leave.
            LabelkitError: If a statement fails; those after it are not run.
        """
        text = text.strip()
        if text in _LEAVE:
            raise EOFError
        if text.startswith("."):
            self._command(*text.split())
            return
        for statement in split_statements(text):
            self._print(statement, self._mode)

    def _print(self, sql: str, mode: str) -> None:
        print_answer(self._project, sql, mode, timeout_s=self._timeout_s, max_rows=self._max_rows)

    def _command(self, name: str, *words: str) -> None:
        match name, *words:
            case (".quit",):
                raise EOFError
            case (".help",):
                click.echo(HELP, err=True)
            case (".tables",):
                names = querying.read_names(self._project)
                click.echo("\n".join(sorted([*names.relations, *names.macros])))
            case (".schema", relation):
                self._schema(relation)
            case (".mode", mode) if mode in MODES:
                self._mode = mode
            case (".timeout", seconds):
                self._timeout_s = _seconds(seconds)
            case _:
                raise InvalidInput(f"no command {' '.join((name, *words))!r}; see: .help")

    def _schema(self, relation: str) -> None:
        name = relation.rstrip(";")
        found = read_definitions(self._project.store, name, timeout_s=self._timeout_s)
        if not found:
            names = querying.read_names(self._project)
            close = difflib.get_close_matches(relation, [*names.relations, *names.macros], n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see: .tables"
            raise InvalidInput(f"nothing is called {relation!r}; {hint}")
        click.echo("\n".join(found))


def is_ready(text: str) -> bool:
    """Tell whether what is typed is to be run: nothing, a dot command, or a whole statement."""
    text = text.strip()
    return not text or text.startswith(".") or text in _LEAVE or is_complete(text)


def _enter() -> KeyBindings:
    """End a statement that is whole, and else the line."""
    bindings = KeyBindings()

    @bindings.add("enter", filter=has_focus(DEFAULT_BUFFER))
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state and buffer.complete_state.current_completion:
            buffer.complete_state = None
        elif is_ready(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    return bindings


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is no number of seconds; give one, as in .timeout 30"
        ) from error
    check_limits(seconds)
    return seconds
