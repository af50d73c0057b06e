"""What readers of label files share: the clips and faults they found, and what they tell."""

from __future__ import annotations

import math
import re
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from labelkit.config import FormatSpec
from labelkit.config.specs import MOST_FOLDS
from labelkit.datasets.cells import is_integral, is_missing, read_flag, read_whole
from labelkit.datasets.matching import EXACT
from labelkit.datasets.walking import Walk
from labelkit.paths import CONTROL, is_clip_path
from labelkit.records import Clip
from labelkit.states import STATES, UNVERIFIED, VERIFIED

REMOVE = "remove"
_SUBSETS = ("train", "test")
# Control characters, and halves of characters, which no UTF-8 holds.
UNSAYABLE = re.compile(f"{CONTROL}|[\ud800-\udfff]")
HALVES = re.compile("[\ud800-\udfff]")
_FOLD = re.compile(r"fold[ _-]?([0-9]+)", re.IGNORECASE)
_HASH = re.compile("[0-9a-f]{32}")

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

    Attributes:
        root: The folder of the recordings, where the reader is told of it: absolute paths below
            it are read as what they are there.
        classes: The vocabulary in its order, where the file holds one.
        corrects: The clips are those of the store, to be given other labels, and no new ones.
        left: What a walk through a folder left out.
        notes: How the file was read where that goes without saying nowhere, a line each.
        match: How far from the file's paths the recordings may lie, where nobody says.
        others: What a recording may be called besides its path, by that path.
        astray: Clips whose paths lead out of every folder of recordings: no clips as they are.
        respelt: Paths as the file has them, by those that the clips got.
        parted: Cells that a separator parted, and how many clips have each.
        n_joined: Rows that are further labels of a clip.
        n_repeated: Rows that say what another said.
        n_nameless_of: Cells of groups, and of domains, that say "nan" or the like.
        n_nameless: Cells of labels that do, where there need not be any.
        quotes: Of groups and domains those that stand in quotes, and are what they are.
        quotes_labels: So do labels.
    """

    clips: list[Clip] = field(default_factory=list)
    noted: list[tuple[int, str]] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    corrects: bool = False
    root: Path | None = None
    left: Walk = field(default_factory=Walk)
    notes: list[str] = field(default_factory=list)
    match: str = EXACT
    others: dict[str, tuple[str, ...]] = field(default_factory=dict)
    astray: list[Clip] = field(default_factory=list)
    respelt: dict[str, str] = field(default_factory=dict)
    parted: Counter[str] = field(default_factory=Counter)
    n_joined: int = 0
    n_repeated: int = 0
    n_nameless_of: Counter[str] = field(default_factory=Counter)
    n_nameless: int = 0
    quotes: set[str] = field(default_factory=set)
    quotes_labels: bool = False
    _at: dict[str, int] = field(default_factory=dict)

    def fault(self, row: int, problem: str, remedy: str) -> None:
        """Note what is wrong with a row and how to mend it."""
        where = f"row {row}: " if row else ""
        self.noted.append((row, f"{where}{problem}; {remedy}"))

    @property
    def faults(self) -> list[str]:
        """One line a fault, in the order of the rows, those of the whole file first."""
        astray = [(clip.row, _astray(clip)) for clip in self.astray]
        return [text for _, text in sorted(self.noted + astray, key=lambda fault: fault[0])]

    def add(self, clip: Clip, *, join: bool = False) -> None:
        """Take a clip, unless its path cannot be one or was there before.

        Args:
            clip: The clip; its path may have empty parts and dots, or be absolute.
            join: A clip that was there before gets these labels as well, if all else is the same.
        """
        path = self._below_root(clip.path)
        if HALVES.search(path):
            # So Python gives bytes of a name that are not UTF-8.
            remedy = "its name is not UTF-8: rename the file, with convmv say"
            self.fault(clip.row, f"path {shown(clip.path)}", remedy)
        elif path.startswith("/") or not is_clip_path(path):
            self.astray.append(clip)
        elif path not in self._at:
            self._at[path] = len(self.clips)
            self.clips.append(clip if clip.path == path else replace(clip, path=path))
        elif join:
            self._join(self._at[path], clip)
        else:
            self.fault(
                clip.row,
                f"duplicate file name {shown(path)}, first in row {self._row_of(path)}",
                "give all labels of a clip in one row",
            )

    def move(self, moved: Mapping[str, str]) -> None:
        """Give clips the paths of the recordings that were found for them.

        Args:
            moved: Their new paths by their old ones; none may be another clip's.
        """
        self.clips = [
            replace(clip, path=moved[clip.path]) if clip.path in moved else clip
            for clip in self.clips
        ]
        self._at = {clip.path: at for at, clip in enumerate(self.clips)}

    def tell(self) -> list[str]:
        """Tell how the file was read where somebody could have meant it otherwise."""
        told = list(self.notes)
        if self.n_joined:
            first = next(clip for clip in self.clips if len(clip.labels) > 1)
            told.append(
                f"{self.n_joined} rows are further labels of clips, and are joined with their "
                f"first: {shown(first.path)} say has {', '.join(first.labels)}"
            )
        if self.n_repeated:
            told.append(f"{self.n_repeated} rows say again what others say, and count once")
        for what, n in self.n_nameless_of.items():
            if n:
                told.append(f"{n} {what}s are nan, NA or the like, and taken as none")
        if self.n_nameless:
            told.append(
                f"{self.n_nameless} cells of labels are nan, NA or the like, and taken as none; a "
                "class of such a name stands in quotes"
            )
        return told + tell_respelt(self.respelt, "recordings")

    def _below_root(self, path: str) -> str:
        """Write a path as that of a clip, one that is absolute as below the folder if it is."""
        if path.startswith("/") and self.root is not None:
            for root in (self.root.absolute(), self.root.resolve()):
                if path.startswith(f"{root}/"):
                    below = tidy(path[len(str(root)) :])
                    self.respelt.setdefault(below, path)
                    return below
        below = tidy(path)
        return f"/{below}" if path.startswith("/") else below

    def _join(self, at: int, clip: Clip) -> None:
        first = self.clips[at]
        for what in (
            "state", "fold", "group", "subset", "content_hash", "duration_s", "domain",
        ):  # fmt: skip
            if getattr(clip, what) != getattr(first, what):
                self.fault(
                    clip.row,
                    f"duplicate file name {shown(first.path)}, first in row {first.row}, but with "
                    f"another {what.removesuffix('_s')}",
                    "say the same in all rows of a clip, or give all its labels in one row",
                )
                return
        new = tuple(label for label in clip.labels if label not in first.labels)
        self.clips[at] = replace(first, labels=first.labels + new)
        if new:
            self.n_joined += 1
        else:
            self.n_repeated += 1

    def _row_of(self, path: str) -> int:
        return self.clips[self._at[path]].row

    def check_labels(self, labels: tuple[str, ...], row: int, said: object) -> bool:
        """Tell whether classes can have these names, each said once; note a fault if not."""
        if wrong := next((name for name in labels if name and not is_class_name(name)), None):
            problem, remedy = _unfit(wrong)
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
        *,
        join: bool = False,
    ) -> None:
        """Take a clip of which the file says more, as text; what it does not, the spec does.

        Args:
            path: Its path as the file gives it.
            labels: Its labels, checked.
            row: Where it stands.
            said: Text of ``state`` or ``verified``, ``fold``, ``group``, ``subset``,
                ``content_hash``, ``duration_s`` and ``domain``, as far as the file has them.
            spec: How the file is to be read.
            join: Whether a clip may have several rows.
        """
        n_faults = len(self.noted)
        state = said.get("state", spec.state or UNVERIFIED)
        subset = said.get("subset", spec.subset or _SUBSETS[0])
        content_hash = said.get("content_hash") or None
        group, domain = said.get("group"), said.get("domain")
        if content_hash is not None and is_missing(content_hash):
            content_hash = None
        if "verified" in said:
            state = VERIFIED if self._flag(said["verified"], row) else UNVERIFIED
        if state not in STATES:
            self.fault(row, f"state {shown(state)}", f"give one of {', '.join(STATES)}")
        if subset not in _SUBSETS:
            self.fault(row, f"subset {shown(subset)}", "give train or test")
        if content_hash is not None and not is_hash(content_hash):
            self.fault(row, f"content_hash {shown(content_hash)}", "give 32 hex digits, or none")
        for what, name in (("group", group), ("domain", domain)):
            if name is not None and HALVES.search(name):
                self.fault(row, f"{what} {shown(name)}", "give a text that UTF-8 can hold")
        prefix = f"{spec.prefix.rstrip('/')}/" if spec.prefix else ""
        clip = Clip(
            path=path if path.startswith("/") else f"{prefix}{path}",
            labels=labels,
            state=state,
            fold=self._fold(said.get("fold", ""), row),
            group=group,
            subset=subset,
            content_hash=content_hash,
            duration_s=self._duration(said.get("duration_s", ""), row),
            domain=domain,
            row=row,
        )
        if len(self.noted) == n_faults:
            self.add(clip, join=join)

    def make_whole(self) -> None:
        """Write names as whole numbers where all of a kind are floats that are, as of pandas."""
        for what in ("group", "domain"):
            names = {getattr(clip, what) for clip in self.clips} - {None}
            if names and all(map(is_integral, names)) and what not in self.quotes:
                whole: dict[str | None, str] = {name: read_whole(name) for name in names}
                self.clips = [
                    replace(clip, group=whole.get(clip.group))
                    if what == "group"
                    else replace(clip, domain=whole.get(clip.domain))
                    for clip in self.clips
                ]
                self.notes.append(f"all {what}s are whole numbers with .0, and are read without")
        labels = {label for clip in self.clips for label in clip.labels}
        if labels and all(map(is_integral, labels)) and not self.quotes_labels:
            self.clips = [
                replace(clip, labels=tuple(map(read_whole, clip.labels))) for clip in self.clips
            ]
            self.notes.append("all labels are whole numbers with .0, and are read without")

    def _flag(self, text: str, row: int) -> bool:
        flag = read_flag(text)
        if flag is None:
            self.fault(row, f"verified is {shown(text)}", "give 1 or 0")
        return bool(flag)

    def _fold(self, text: str, row: int) -> int | None:
        if is_missing(text):
            return None
        named = _FOLD.fullmatch(text)
        number = read_whole(named[1] if named else text)
        if not number.isdecimal() or len(number) > 4 or int(number) >= MOST_FOLDS:
            remedy = f"give a whole number from 0 to {MOST_FOLDS - 1}"
            self.fault(row, f"fold is {shown(text)}", remedy)
            return None
        return int(number)

    def _duration(self, text: str, row: int) -> float | None:
        if is_missing(text):
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not is_length(seconds):
            self.fault(row, f"duration_s is {shown(text)}", "give seconds, or none")
            return None
        return seconds


def tell_respelt(respelt: Mapping[str, str], of: str) -> list[str]:
    """Tell that paths were taken for others, in a line if any.

    Args:
        respelt: Paths as they were given, by those that they were taken for.
        of: What the paths are of, ``recordings`` say.
    """
    if not respelt:
        return []
    new, old = next(iter(respelt.items()))
    return [
        f"{len(respelt)} paths are not quite those of the {of}; {shown(old)} say is taken for "
        f"{shown(new)}"
    ]


def _unfit(name: str) -> tuple[str, str]:
    """Say why no class can have a name, and what to do."""
    found = UNSAYABLE.search(name)
    if found is None:
        return "has a name no class can have", "rename the class; that word removes a clip"
    letter = found[0]
    known = {"\t": "a TAB", "\n": "a line end", "\r": "a carriage return", "\0": "a NUL"}
    what = known.get(letter, f"a control character (U+{ord(letter):04X})")
    if HALVES.match(letter):
        what = f"half a character (U+{ord(letter):04X})"
    problem = f"has a name no class can have: {what} is in {shown(name)}"
    if letter in "\t\n":
        how = "$'\\t'" if letter == "\t" else "$'\\n'"
        return problem, f"take it out, or give --separator {how} if it parts labels"
    return problem, "take it out"


def tidy(path: str) -> str:
    """Write a path without empty parts and dots that mean nothing."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _astray(clip: Clip) -> str:
    where = f"row {clip.row}: " if clip.row else ""
    return f"{where}path {shown(clip.path)}; give a path below the audio folder"
