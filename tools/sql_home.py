"""SQL lives in ``labelkit/stores`` alone: find string literals elsewhere that name a table in SQL.

Run as ``python -m tools.sql_home``; ends with 1 and a line for each place if there is any.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from labelkit.stores.catalog import KNOWN_VIEWS
from labelkit.stores.schema import ABOUT

PACKAGE = Path(__file__).parents[1] / "labelkit"
TABLES = {*ABOUT, "predictions", *(view.name.partition("(")[0] for view in KNOWN_VIEWS)}

_NAMED = re.compile(
    rf'\b(?:from|join|into|update|table)\s+"?(?:{"|".join(sorted(TABLES))})\b', re.IGNORECASE
)
# Words of a statement; in a sentence for people "from clips" may stand without them.
_STATEMENT = re.compile(
    r"\b(?:select|insert\s+into|delete\s+from|update\s+\w+\s+set|create\s+(?:temp\s+)?(?:table|view)"
    r"|drop\s+(?:table|view)|alter\s+table|where|order\s+by|group\s+by)\b",
    re.IGNORECASE,
)


def names_table(text: str) -> bool:
    """Tell whether a text is SQL, or a part of it, that names a table or view of the store.

    Example:
        >>> names_table("select 1 from clips"), names_table("from runs"), names_table("no clips")
        (True, True, False)
        >>> names_table("predictions of runs from clips that people sent")
        False
    """
    found = _NAMED.search(text)
    return found is not None and (found.start() == 0 or _STATEMENT.search(text) is not None)


def find_sql(source: str) -> Iterator[tuple[int, str]]:
    """Find the literals of a module, docstrings aside, that name a table: line and text."""
    tree = ast.parse(source)
    docstrings = {id(node) for node in _docstrings(tree)}
    parts = {
        id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
        for value in node.values
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(value.value) if isinstance(value, ast.Constant) else "?"
                for value in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) in docstrings or id(node) in parts:
                continue
            text = node.value
        else:
            continue
        if names_table(text.strip()):
            yield node.lineno, text


def _docstrings(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        # A text that stands alone is a docstring, or documents what is above it.
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield statement.value


def find_places(files: Iterable[Path]) -> list[str]:
    """List every place in some files where SQL names a table."""
    return [
        f"{file}:{line}: {' '.join(text.split())[:80]}"
        for file in sorted(files)
        for line, text in find_sql(file.read_text(encoding="utf-8"))
    ]


def outside_stores() -> list[Path]:
    """List the modules of the package that must hold no SQL."""
    return [file for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE / "stores"]


if __name__ == "__main__":
    places = find_places(outside_stores())
    print("\n".join(places) or "SQL names tables in stores alone")
    sys.exit(bool(places))
