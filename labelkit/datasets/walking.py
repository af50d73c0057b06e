"""What lies in a folder of recordings, without what computers leave there by themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labelkit.audio.io import EXTENSIONS
from labelkit.paths import leads_out

# Bins, indexes, archives' second forks and caches of macOS, Windows, Linux, NAS and editors;
# what begins with a dot, "._1.wav" or ".ipynb_checkpoints" say, needs no name here.
_JUNK = {
    "__macosx", "__pycache__", "@eadir", "#recycle", "#snapshot", "@recycle", "@tmp",
    "$recycle.bin", "recycler", "recycled", "system volume information", "found.000",
    "lost+found", "network trash folder", "temporary items", "thumbs.db", "ehthumbs.db",
    "desktop.ini", "icon\r", "node_modules",
}  # fmt: skip
# Unfinished downloads, and what editors keep open.
_JUNK_ENDS = (".part", ".partial", ".crdownload", ".download", ".tmp", ".bak", ".swp", "~")


def is_junk(name: str) -> bool:
    """Tell whether a file or folder of this name is a computer's own, or hidden.

    Example:
        >>> [is_junk(name) for name in ("._1.wav", "__MACOSX", "Thumbs.db", "1.wav", "..dots")]
        [True, True, True, False, True]
    """
    lower = name.lower()
    return lower.startswith((".", "~$")) or lower in _JUNK or lower.endswith(_JUNK_ENDS)


@dataclass
class Walk:
    """What a walk left out: paths below its folder, each with what is in it left out as well.

    ``linked_out`` are links that lead out of the audio folder, ``linked_in`` folders that are
    links inside of it and were followed, ``followed`` such that lead out and were as well, ``dead``
    links that lead nowhere, ``special`` pipes, sockets and devices, ``junk`` is what computers
    leave, ``other`` are files that are no recordings by their names, ``not_utf8`` are names that no
    store can hold, ``unread`` are folders that could not be looked into, ``empty`` are class
    folders of which no recording was taken.
    """

    linked_out: list[str] = field(default_factory=list)
    linked_in: list[str] = field(default_factory=list)
    followed: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    junk: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    not_utf8: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def walk_recordings(
    path: Path, audio_dir: Path, left: Walk, *, follow_links: bool = False
) -> Iterator[str]:
    """Yield the recordings below a folder, each as its path below it.

    Links are followed, but for those into a folder above.

    Args:
        path: The folder.
        audio_dir: Links that lead out of this one are left out.
        left: Where that is noted which is left out.
        follow_links: Take what links lead to outside of ``audio_dir``, too.
    """
    root = audio_dir.resolve()

    def note(error: OSError) -> None:
        left.unread.append(f"{os.path.relpath(error.filename, path)}/ ({error.strerror})")

    for folder, folders, names in os.walk(path, followlinks=True, onerror=note):
        here = Path(folder)
        below = "" if here == path else f"{here.relative_to(path).as_posix()}/"
        above = here.absolute().parent.resolve()
        if here.is_symlink() and here.resolve() in (above, *above.parents):
            folders.clear()
            continue
        kept = []
        for name in sorted(folders):
            out = not follow_links and leads_out(root, str(here.absolute() / name))
            if is_junk(name):
                left.junk.append(f"{below}{name}/")
            elif not _is_text(name):
                left.not_utf8.append(f"{below}{name}/")
            elif out:
                left.linked_out.append(f"{below}{name}")
            else:
                kept.append(name)
                if (here / name).is_symlink():
                    leads = leads_out(root, str(here.absolute() / name))
                    (left.followed if leads else left.linked_in).append(f"{below}{name}")
        folders[:] = kept
        for name in sorted(names):
            if not (here / name).is_file():
                if not is_junk(name):
                    kind = left.special if (here / name).exists() else left.dead
                    kind.append(f"{below}{name}")
                continue
            if is_junk(name):
                left.junk.append(f"{below}{name}")
            elif Path(name).suffix.lower() not in EXTENSIONS:
                left.other.append(f"{below}{name}")
            elif not _is_text(name):
                left.not_utf8.append(f"{below}{name}")
            else:
                yield f"{below}{name}"


def _is_text(name: str) -> bool:
    """Tell whether a name is UTF-8; Python gives halves of characters for bytes that are not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
