"""The shell of `labelkit sql`: statements and commands with a dot, one after the other."""

from __future__ import annotations

import difflib
import re
from typing import Any

from labelkit.commands.query import print_answer
from labelkit.errors import InvalidInput, StoreError
from labelkit.labels import query as querying
from labelkit.stores.completion import Names, is_complete, read_definitions, split_statements
from labelkit.stores.query import check_limits
from labelkit.terminal import echo

MODES = ("table", "record", "json", "csv")
HELP = """\
A statement ends with a semicolon; Ctrl-C stops it, Ctrl-D leaves.
.tables          what can be asked
.schema NAME     how a table, a view or a macro is made
.mode MODE       print as table, record (a line a field), json or csv
.timeout S       seconds a statement may take
.help            this
.quit            leave"""
COMMANDS = re.findall(r"^\.\w+", HELP, re.M)
# Nobody who types waits longer than this for names to choose from.
_NAMES_LOCK_S = 0.2
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
        self.project, self._timeout_s, self._max_rows = project, timeout_s, max_rows
        self._mode = "table"
        self._names, self._read_at = Names(), None

    def names(self) -> Names:
        """Return the names to complete with, read again when the store was written to."""
        try:
            written_at: Any = self.project.store.path.stat().st_mtime_ns
            if written_at != self._read_at:
                self._names = querying.read_names(self.project, lock_timeout_s=_NAMES_LOCK_S)
                self._read_at = written_at
        except (StoreError, OSError):
            # Names from before are better than none while somebody writes.
            pass
        return self._names

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
        print_answer(self.project, sql, mode, timeout_s=self._timeout_s, max_rows=self._max_rows)

    def _command(self, name: str, *words: str) -> None:
        match name, *words:
            case (".quit",):
                raise EOFError
            case (".help",):
                echo(HELP, err=True)
            case (".tables",):
                names = querying.read_names(self.project)
                echo("\n".join(sorted([*names.relations, *names.macros])))
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
        found = read_definitions(self.project.store, name, timeout_s=self._timeout_s)
        if not found:
            names = querying.read_names(self.project)
            close = difflib.get_close_matches(relation, [*names.relations, *names.macros], n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see: .tables"
            raise InvalidInput(f"nothing is called {relation!r}; {hint}")
        echo("\n".join(found))


def is_ready(text: str) -> bool:
    """Tell whether what is typed is to be run: nothing, a dot command, or a whole statement."""
    text = text.strip()
    return not text or text.startswith(".") or text in _LEAVE or is_complete(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is no number of seconds; give one, as in .timeout 30"
        ) from error
    check_limits(seconds)
    return seconds
