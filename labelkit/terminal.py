"""What people read on a terminal: names and texts come from elsewhere, and may steer it."""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata

# Control characters but for line breaks and tabs, separators of lines, marks that turn the
# direction of writing (Unicode Standard Annex 9), and halves of characters, which cannot be
# encoded.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

# Narrower words are not worth to be cut in the middle.
_CUT_WITHIN = 8


def visible(text: str) -> str:
    r"""Write out every character of a text that would steer a terminal rather than be seen.

    Example:
        >>> print(visible("a\x1b[2Jb\u202egnp.wav"))
        a\x1b[2Jb\u202egnp.wav
    """
    return _STEERING.sub(lambda found: _escape(found[0]), text)


def visible_json(text: str) -> str:
    r"""Write such characters in the text of a JSON document as JSON does; it means the same."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def echo(message: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a message for people, on stdout or stderr."""
    import click

    click.echo(visible(str(message)), err=err, nl=nl)


def width(text: str) -> int:
    """Count the columns of a terminal that a text takes.

    East Asian wide characters take two (Unicode Standard Annex 11), marks that are set on the
    letter before them none.

    Example:
        >>> width("Hund"), width("犬"), width("e\u0301")
        (4, 2, 1)
    """
    return len(text) if text.isascii() else sum(map(_letter_width, text))


def cut(text: str, room: int) -> str:
    """Cut a text to so many columns of a terminal, with an ellipsis where something is lost.

    A word, the path of a recording say, ends as it did; of a sentence the beginning stays.

    Example:
        >>> cut("dogs/outside/0001.wav", 12), cut("nobody said so", 12)
        ('dogs/…01.wav', 'nobody said…')
    """
    if width(text) <= room:
        return text
    if " " in text or room < _CUT_WITHIN:
        return f"{_begin(text, room - 1).rstrip()}…"
    behind = (room - 1) // 2 + 1
    start = len(text) - len(_begin(text[::-1], behind))
    while start < len(text) and not _letter_width(text[start]):
        start += 1  # Set on a letter that is cut off.
    return f"{_begin(text, room - 1 - behind)}…{text[start:]}"


def columns() -> int | None:
    """Return how many columns the terminal has that reads stdout; None if none does."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _begin(text: str, room: int) -> str:
    """Take letters, with what is set on them, as far as they fit."""
    taken = 0
    for at, letter in enumerate(text):
        taken += _letter_width(letter)
        if taken > room:
            return text[:at]
    return text


def _letter_width(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf") or "\u1160" <= letter <= "\u11ff":
        # The soft hyphen is the one among them that is seen.
        return int(letter == "\xad")
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _escape(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
