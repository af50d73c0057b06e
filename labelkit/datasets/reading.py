"""What readers of label files share: the clips and faults they found, and cells of text.

Cells hold names as they are, several parted by a separator. Where that would lose something,
a separator in a name say, the name stands in quotes, as a cell does in CSV.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from labelkit.config import FormatSpec
from labelkit.config.specs import MOST_FOLDS
from labelkit.paths import CONTROL, is_clip_path
from labelkit.records import Clip
from labelkit.states import STATES, UNVERIFIED, VERIFIED

REMOVE = "remove"
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no", "")
_SUBSETS = ("train", "test")
# Control characters, and halves of characters, which no UTF-8 holds.
UNSAYABLE = re.compile(f"{CONTROL}|[\ud800-\udfff]")
HALVES = re.compile("[\ud800-\udfff]")
_HASH = re.compile("[0-9a-f]{32}")
_QUOTED = re.compile(r'\s*+"((?:[^"]++|"")*+)"')
_OPENED = re.compile(r'\s*+"')

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def shown(value: object) -> str:
    """Show a value in a message: on one line, and of a long one only the ends."""
    return _short.repr(value)


def is_class_name(text: str) -> bool:
    """Tell whether a class can have this name."""
    return bool(text) and text != REMOVE and not UNSAYABLE.search(text)


def is_hash(text: str) -> bool:
    """Tell whether a text may be the hash of a recording."""
    return bool(_HASH.fullmatch(text))


def is_length(seconds: float) -> bool:
    """Tell whether a recording may last so long."""
    return 0 <= seconds < math.inf


@dataclass
class Reading:
    """What a reader found: clips in the order of the file, and its faults.

    ``classes`` is the vocabulary in its order, where the file holds one. ``corrects`` says that
    the clips are those of the store, to be given other labels, and no new ones. ``linked_out``
    are paths left out because links take them out of the audio folder, ``other`` counts files that
    are no recordings by their names.
    """

    clips: list[Clip] = field(default_factory=list)
    noted: list[tuple[int, str]] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    corrects: bool = False
    linked_out: list[str] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)
    _rows: dict[str, int] = field(default_factory=dict)

    def fault(self, row: int, problem: str, remedy: str) -> None:
        """Note what is wrong with a row and how to mend it."""
        where = f"row {row}: " if row else ""
        self.noted.append((row, f"{where}{problem}; {remedy}"))

    @property
    def faults(self) -> list[str]:
        """One line a fault, in the order of the rows, those of the whole file first."""
        return [text for _, text in sorted(self.noted, key=lambda fault: fault[0])]

    def add(self, clip: Clip) -> None:
        """Take a clip, unless its path cannot be one or was there before."""
        parts = [part for part in clip.path.split("/") if part not in ("", ".")]
        path = "/".join(parts)
        if HALVES.search(path):
            # So Python gives bytes of a name that are not UTF-8.
            remedy = "its name is not UTF-8: rename the file, with convmv say"
            self.fault(clip.row, f"path {shown(clip.path)}", remedy)
        elif clip.path.startswith("/") or not is_clip_path(path):
            self.fault(clip.row, f"path {shown(clip.path)}", "give a path below the audio folder")
        elif path in self._rows:
            self.fault(
                clip.row,
                f"duplicate file name {shown(path)}, first in row {self._rows[path]}",
                "keep one of the two",
            )
        else:
            self._rows[path] = clip.row
            self.clips.append(clip if clip.path == path else replace(clip, path=path))

    def check_labels(self, labels: tuple[str, ...], row: int, said: object) -> bool:
        """Tell whether classes can have these names, each said once; note a fault if not."""
        if not all(is_class_name(label) for label in labels if label):
            problem, remedy = "has a name no class can have", "rename the class"
        elif not all(labels):
            problem, remedy = "has an empty entry", "give a class or remove it"
        elif len(set(labels)) < len(labels):
            problem, remedy = "repeats a class", "name each class once"
        else:
            return True
        self.fault(row, f"label list {shown(said)} {problem}", remedy)
        return False

    def describe(
        self,
        path: str,
        labels: tuple[str, ...],
        row: int,
        said: Mapping[str, str],
        spec: FormatSpec,
    ) -> None:
        """Take a clip of which the file says more, as text; what it does not, the spec does.

        Args:
            path: Its path as the file gives it.
            labels: Its labels, checked.
            row: Where it stands.
            said: Text of ``state`` or ``verified``, ``fold``, ``group``, ``subset``,
                ``content_hash`` and ``duration_s``, as far as the file has them.
            spec: How the file is to be read.
        """
        n_faults = len(self.noted)
        state = said.get("state", spec.state or UNVERIFIED)
        subset = said.get("subset", spec.subset)
        content_hash, group = said.get("content_hash") or None, said.get("group")
        if "verified" in said:
            state = VERIFIED if self._flag(said["verified"], row) else UNVERIFIED
        if state not in STATES:
            self.fault(row, f"state {shown(state)}", f"give one of {', '.join(STATES)}")
        if subset not in _SUBSETS:
            self.fault(row, f"subset {shown(subset)}", "give train or test")
        if content_hash is not None and not is_hash(content_hash):
            self.fault(row, f"content_hash {shown(content_hash)}", "give 32 hex digits, or none")
        if group is not None and HALVES.search(group):
            self.fault(row, f"group {shown(group)}", "give a text that UTF-8 can hold")
        clip = Clip(
            path=f"{spec.prefix.rstrip('/')}/{path}" if spec.prefix else path,
            labels=labels,
            state=state,
            fold=self._fold(said.get("fold", ""), row),
            group=group,
            subset=subset,
            content_hash=content_hash,
            duration_s=self._duration(said.get("duration_s", ""), row),
            row=row,
        )
        if len(self.noted) == n_faults:
            self.add(clip)

    def _flag(self, text: str, row: int) -> bool:
        if text.lower() not in _TRUE + _FALSE:
            self.fault(row, f"verified is {shown(text)}", "give 1 or 0")
        return text.lower() in _TRUE

    def _fold(self, text: str, row: int) -> int | None:
        if text == "":
            return None
        if not text.isdecimal() or len(text) > 4 or int(text) >= MOST_FOLDS:
            remedy = f"give a whole number from 0 to {MOST_FOLDS - 1}"
            self.fault(row, f"fold is {shown(text)}", remedy)
            return None
        return int(text)

    def _duration(self, text: str, row: int) -> float | None:
        if text == "":
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not is_length(seconds):
            self.fault(row, f"duration_s is {shown(text)}", "give seconds, or none")
            return None
        return seconds


def split_names(text: str, separator: str) -> tuple[str, ...] | None:
    """Split the names of a cell; None if a quote does not end where a name does.

    Example:
        >>> split_names('Dog, "Rain, heavy"', ",")
        ('Dog', 'Rain, heavy')
    """
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
    """Put a name in quotes where a reader would take it for another without."""
    # One character of a longer separator is enough to move where it seems to stand.
    plain = name == name.strip() and name[:1] not in ("", '"') and not set(separator) & set(name)
    return name if plain else '"' + name.replace('"', '""') + '"'


def unquote(text: str) -> str:
    """Return the name that :func:`quote` wrote."""
    quoted = _QUOTED.fullmatch(text)
    return quoted[1].replace('""', '"') if quoted else text
