"""The prompt of `labelkit sql` at a terminal: completion, history, several lines."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from labelkit.commands.shell import COMMANDS, MODES, Shell, is_ready
from labelkit.errors import LabelkitError
from labelkit.stores.completion import Names
from labelkit.terminal import echo

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


def _open_history(file: Path) -> History:
    """Open what was asked before: nobody else's business, and forgotten where it cannot be kept."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        os.fchmod(descriptor, 0o600)
        os.close(descriptor)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(file))


def talk(shell: Shell, **options: Any) -> None:
    """Ask at a prompt until the user leaves; an error is told and forgotten.

    Args:
        shell: Runs what is typed.
        **options: For the ``PromptSession``, its input and output say.
    """
    session: PromptSession[str] = PromptSession(
        "labelkit> ",
        multiline=True,
        prompt_continuation="       -> ",
        completer=SqlCompleter(shell.names),
        complete_in_thread=True,
        history=_open_history(shell.project.work / "sql_history"),
        key_bindings=_enter(),
        **options,
    )
    echo("A statement ends with a semicolon; .help tells more, Ctrl-D leaves.", err=True)
    while True:
        try:
            shell.run(session.prompt())
        except EOFError:
            return
        except KeyboardInterrupt:
            echo("Stopped.", err=True)
        except LabelkitError as error:
            echo(f"Error: {error}", err=True)


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
