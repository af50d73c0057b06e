"""Cells of text: names, lists of names, numbers, and what stands there where nothing does.

Cells hold names as they are, several parted by a separator. Where that would lose something,
a separator in a name say, the name stands in quotes, as a cell does in CSV.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

# What pandas, R, numpy, databases and spreadsheets write where there is no value.
MISSING = ("nan", "na", "n/a", "#n/a", "<na>", "none", "null", "nat", "\\n")
_TRUE = ("1", "1.0", "true", "t", "yes", "y")
_FALSE = ("0", "0.0", "false", "f", "no", "n", "")
_QUOTED = re.compile(r'\s*+"((?:[^"]++|"")*+)"')
_OPENED = re.compile(r'\s*+"')
_INTEGRAL = re.compile(r"[0-9]+\.0+")
_WHOLE = re.compile(r"([0-9]+)(?:\.0*)?")
# A text as Python or JSON writes it, numpy's way of naming its type around it.
_CHOICES = re.compile(r'\{\s*"choices"\s*:\s*(\[.*\])\s*\}', re.DOTALL)
# What Python puts around the texts of a list, a tuple or a set, numpy and pandas around an array.
_LIST = re.compile(
    r"(?P<around>(?:(?:np\.|numpy\.)?array|(?:frozen)?set|list|tuple)\()?\s*"
    r"(?:\[(?P<list>.*)\]|\{(?P<set>.*)\}|\((?P<tuple>.*)\))?"
    r"(?(around)\s*(?:,\s*dtype=[^()\[\]]*)?\))",
    re.DOTALL,
)
# How a text begins that may be one of them.
_LISTED = re.compile(
    r"[\[{]|\(\s*(?:['\")]|np\.|$)|(?:(?:np\.|numpy\.)?array|(?:frozen)?set|list|tuple)\("
)
_TEXT = r"""(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")"""
_ENTRY = re.compile(rf"(?:np\.str_\(\s*({_TEXT})\s*\)|({_TEXT}))(\s*,\s*|\s+|$)")


def is_missing(text: str) -> bool:
    """Tell whether a cell says that there is no value, in whatever way tools write it.

    Example:
        >>> [is_missing(text) for text in ("", "nan", "<NA>", "NULL", "Nancy", "0")]
        [True, True, True, True, False, False]
    """
    return not text or text.lower() in MISSING


def read_flag(text: str) -> bool | None:
    """Read yes or no, no where there is no value; None if it is neither."""
    if text.lower() in _TRUE:
        return True
    return False if text.lower() in _FALSE or is_missing(text) else None


def is_integral(text: str) -> bool:
    """Tell whether a text is a whole number as a float is written, "3.0" say."""
    return bool(_INTEGRAL.fullmatch(text))


def read_whole(text: str) -> str:
    """Write a whole number as one, "3.0" as "3"; anything else stays.

    Example:
        >>> [read_whole(text) for text in ("3.0", "3", "3.5", "x")]
        ['3', '3', '3.5', 'x']
    """
    number = _WHOLE.fullmatch(text)
    return number[1] if number else text


def read_list(text: str) -> tuple[str, ...] | None:
    """Read a list of texts as Python, JSON, numpy or Label Studio write it; None if it is none.

    Tuples, sets and arrays are lists, too.

    Example:
        >>> read_list("['Dog', 'Cat']"), read_list("['Dog' 'Cat']"), read_list('["Dog"]')
        (('Dog', 'Cat'), ('Dog', 'Cat'), ('Dog',))
        >>> read_list("('Dog',)"), read_list("{'Dog', 'Cat'}"), read_list("set()")
        (('Dog',), ('Dog', 'Cat'), ())
        >>> read_list("[Dog]") is None, read_list("[]"), read_list("(Dog)") is None
        (True, (), True)
    """
    if choices := _CHOICES.fullmatch(text):
        text = choices[1]
    found = _LIST.fullmatch(text) if _LISTED.match(text) else None
    # Braces around nothing are a mapping of Python.
    if found is None or text == "{}":
        return None
    inner = next((part for part in found.group("list", "set", "tuple") if part is not None), "")
    inner, at, names = inner.strip(), 0, []
    while at < len(inner):
        entry = _ENTRY.match(inner, at)
        if entry is None:
            return None
        try:
            names.append(ast.literal_eval(entry[1] or entry[2]))
        except (ValueError, SyntaxError):
            return None
        at = entry.end()
    return tuple(name.strip() for name in names)


def split_names(text: str, separator: str) -> tuple[str, ...] | None:
    """Split the names of a cell; None if a quote does not end where a name does.

    Example:
        >>> split_names('Dog, "Rain, heavy"', ",")
        ('Dog', 'Rain, heavy')
    """
    if (listed := read_list(text)) is not None:
        return listed
    if '"' not in text or '"' in separator:
        return tuple(part.strip() for part in text.split(separator))
    names, at = [], 0
    while True:
        quoted = _QUOTED.match(text, at)
        if quoted and (quoted.end() == len(text) or text.startswith(separator, quoted.end())):
            names.append(quoted[1].replace('""', '"'))
            end = quoted.end()
        elif _OPENED.match(text, at):
            return None
        else:
            found = text.find(separator, at)
            end = len(text) if found < 0 else found
            names.append(text[at:end].strip())
        if end == len(text):
            return tuple(names)
        at = end + len(separator)


def join_names(names: Iterable[str], separator: str) -> str:
    """Make a cell that :func:`split_names` reads as these names.

    Example:
        >>> join_names(["Dog", "Rain, heavy"], ",")
        'Dog,"Rain, heavy"'
    """
    return separator.join(quote(name, separator) for name in names)


def quote(name: str, separator: str = "") -> str:
    """Put a name in quotes where a reader would take it for another, or for none, without."""
    # One character of a longer separator is enough to move where it seems to stand.
    plain = (
        name == name.strip()
        and name[:1] not in ("", '"')
        and not _LISTED.match(name)
        and not set(separator) & set(name)
        and not is_missing(name)
        and not is_integral(name)
    )
    return name if plain else '"' + name.replace('"', '""') + '"'


def unquote(text: str) -> str:
    """Return the name that :func:`quote` wrote."""
    quoted = _QUOTED.fullmatch(text)
    return quoted[1].replace('""', '"') if quoted else text
