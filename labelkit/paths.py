"""Paths of clips: below the audio folder, in one spelling; one rule for all that reads or writes.

A path is what a label file, a backup or a store says, and these come from elsewhere.
"""

from __future__ import annotations

import re
from pathlib import Path

# Parts that are empty, "." or ".." (so absolute paths, too), and control characters; the store
# asks it as a regular expression of SQL, where it means the same.
CONTROL = r"[\x00-\x1f\x7f-\x9f]"
BAD = rf"(^|/)\.{{0,2}}(/|$)|{CONTROL}"
_BAD = re.compile(BAD + "|[\ud800-\udfff]")


def is_clip_path(path: str) -> bool:
    """Tell whether a path lies below the audio folder, in the spelling that clips have.

    Example:
        >>> [is_clip_path(path) for path in ("a/b.wav", "/a.wav", "../a.wav", "a//b.wav", "..a")]
        [True, False, False, False, True]
    """
    return _BAD.search(path) is None


def leads_out(folder: Path, path: str) -> bool:
    """Tell whether links take a clip's path out of the audio folder.

    Args:
        folder: The audio folder, itself resolved.
        path: Path of the clip below it.
    """
    try:
        return not (folder / path).resolve().is_relative_to(folder)
    except (OSError, RuntimeError):  # A loop of links, or a name too long.
        return False


def is_dead_link(folder: Path, path: str) -> bool:
    """Tell whether a path below a folder is a link that leads nowhere, or lies below such a one.

    Args:
        folder: The folder.
        path: The path below it.
    """
    try:
        way = [folder / path, *(folder / path).parents]
        ways = [place for place in way if place.is_relative_to(folder) and place != folder]
        return any(place.is_symlink() and not place.exists() for place in ways)
    except (OSError, RuntimeError):  # A loop of links, or a name too long.
        return False
