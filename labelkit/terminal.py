"""What people read on a terminal: names and texts come from elsewhere, and may steer it."""

from __future__ import annotations

import re

# Control characters but for line breaks and tabs, separators of lines, marks that turn the
# direction of writing (Unicode Standard Annex 9), and halves of characters, which cannot be
# encoded.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


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


def _escape(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
