"""Which recording is meant where none lies at the path that is given.

Label files come from other computers: their paths have backslashes, a folder too many or too
few, another extension or none, another case, or accents in another spelling.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

from labelkit.audio.io import EXTENSIONS

# How far a path may be from a file's, each going further than the one before.
EXACT, NAME, STEM, NOCASE = MATCHES = ("exact", "name", "stem", "nocase")
# Label Studio puts eight digits before the name of a file that is uploaded.
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
# Beyond this nobody waits for the nearest of so many names.
_FEW = 20_000


def spell(path: str) -> str:
    r"""Write a path in one spelling: slashes, no empty parts and no dots, NFC.

    Example:
        >>> spell("./sub\\e.wav")
        'sub/e.wav'
    """
    parts = unicodedata.normalize("NFC", path).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def name_before_upload(name: str) -> str | None:
    """Take off what Label Studio puts before the name of a file that is uploaded; None without.

    Example:
        >>> name_before_upload("0a1b2c3d-dog.wav"), name_before_upload("dog.wav")
        ('dog.wav', None)
    """
    uploaded = _UPLOADED.fullmatch(name)
    return uploaded[1] if uploaded else None


def stem_of(name: str) -> str:
    """Take the extension of a recording off a name; "1.5 s" has none."""
    pure = PurePosixPath(name)
    return pure.stem if pure.suffix.lower() in EXTENSIONS else name


def _name(path: str) -> str:
    return path.rpartition("/")[2]


_KEYS: dict[str, Callable[[str], str]] = {
    EXACT: lambda path: path,
    NAME: _name,
    STEM: lambda path: stem_of(_name(path)),
    NOCASE: lambda path: stem_of(_name(path)).casefold(),
}


class Recordings:
    """The paths of recordings, and which of them another path may mean."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = list(paths)
        self._by: dict[str, dict[str, list[str]]] = {}

    def find(self, path: str, match: str, others: Sequence[str] = ()) -> list[str]:
        """Find the recordings that a path may mean; where it is one, it is that.

        Of several that are called alike those count whose folders are called alike, too.

        Args:
            path: As a label file gives it, backslashes and all.
            match: One of :data:`MATCHES`: how far a file's path may be from it.
            others: What the recording may be called instead.
        """
        for step in MATCHES[: MATCHES.index(match) + 1]:
            index = self._index(step)
            if step == EXACT and path in index.get(spell(path), ()):
                return [path]
            names = dict.fromkeys(
                _KEYS[step](spell(each)) for each in (path, *_variants(path, step), *others)
            )
            hits = [hit for name in names for hit in index.get(name, ())]
            if hits:
                return _nearest(spell(path), list(dict.fromkeys(hits)))
        return []

    def suggest(self, path: str, others: Sequence[str] = ()) -> tuple[str, list[str]]:
        """Say how far one must go to find a recording for a path, and which are there."""
        for match in MATCHES:
            if hits := self.find(path, match, others):
                return match, hits
        return "", []

    def guess(self, path: str) -> str | None:
        """Find the recording with the most similar name, where there are few enough to look."""
        if len(self.paths) > _FEW:
            return None
        index = self._index(NAME)
        close = difflib.get_close_matches(_name(spell(path)), index, n=1, cutoff=0.8)
        return index[close[0]][0] if close else None

    def _index(self, step: str) -> dict[str, list[str]]:
        if step not in self._by:
            index: dict[str, list[str]] = defaultdict(list)
            for path in self.paths:
                index[_KEYS[step](spell(path))].append(path)
            self._by[step] = dict(index)
        return self._by[step]


def _variants(path: str, step: str) -> list[str]:
    """List what a path of a web page, or of a file that was uploaded, was called before."""
    plain = unquote(path.removeprefix("file://"))
    before = name_before_upload(_name(spell(plain))) if step != EXACT else None
    return [name for name in (plain, before) if name and name != path]


def _nearest(path: str, hits: list[str]) -> list[str]:
    """Keep the recordings that share the most folders with a path, from the last one on."""
    wanted = [part.casefold() for part in path.split("/")[:-1]]
    beside = [hit for hit in hits if [p.casefold() for p in spell(hit).split("/")[:-1]] == wanted]
    if beside:
        return beside

    def shared(hit: str) -> int:
        folders = [part.casefold() for part in spell(hit).split("/")[:-1]]
        pairs = zip(reversed(wanted), reversed(folders), strict=False)
        return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(folders)))

    most = max(map(shared, hits))
    return [hit for hit in hits if shared(hit) == most]
