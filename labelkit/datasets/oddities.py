"""What looks odd in labels that are right by the letter: told before anything is kept."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from labelkit.datasets.cells import is_missing
from labelkit.datasets.reading import shown
from labelkit.folds import DOMAIN_REMEDY, describe_groups
from labelkit.records import Clip
from labelkit.registry import suggestion

# Letters of Greek and Cyrillic that look like Latin ones (Unicode Technical Standard 39).
_CONFUSABLE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501"
    "\u051b\u051d\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f"
    "\u03a1\u03a4\u03a5\u03a7\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420"
    "\u0421\u0422\u0423\u0425\u0406\u0408\u0405\u03bf\u03bd\u03c1",
    "aeopcyxijshdqwABEZHIKMNOPTYXABEKMHOPCTYXIJSovp",
)  # fmt: skip
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f"
                        "\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")  # fmt: skip
_SPACES = re.compile(r"[\s_]+")
# Between words alone: "-1" is not 1.
_HYPHENS = re.compile(r"(?<=\w)[\s_]*[-\u2010-\u2014\u2212][\s_]*(?=\w)")
# What people write where they know none, beside what programs write.
_NONE = re.compile(
    r"[-\u2013\u2014?._*!/\s]+|[<(\[{]*(unknown|unk|undefined|unlabell?ed|untagged|missing|empty|"
    r"no[ _-]?label|not[ _-]?sure|todo|tbd|xxx+)[>)\]}]*",
    re.IGNORECASE,
)
# Lists whose names stand without quotes, and halves of them: what parts labels has cut them.
_BRACKETED = re.compile(
    r"[\[{](?:.*[\]}]|[^\]}]*)|[^\[{]*[\]}]|\([^)]*|[^(]+\)|\(.*,.*\)", re.DOTALL
)
_SEPARATORS = {";": "';'", "|": "'|'", "\t": "TABs", ",": "','", "/": "'/'", "&": "'&'", "+": "'+'"}
_PART = re.compile(
    r"(train|test|val|valid|validation|dev|eval|evaluation)(ing|_?set|_?audio|_?data)?"
    r"|fold[ _-]?[0-9]+|audio|wavs?|clips|samples|recordings",
    re.IGNORECASE,
)
# Of clips or groups; of fewer nothing is odd.
_SOME = 10
# The share of the clips that one group may have; a fold would hold more than it should.
_GIANT = 0.25
_NAMED = 5


def find_alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    r"""Find names that people take for the same, by how they look on a page.

    They differ by case, by spaces of any kind or underscores, by how an accent is put together,
    by characters that cannot be seen, or by letters of another alphabet that look alike.

    Args:
        names: Names, of classes say; each counts once.

    Returns:
        Names that look alike, in their order, each group of them together.

    Example:
        >>> find_alike(["Dog bark", "Cat", "dog\u00a0bark", "Dog_bark"])
        [('Dog bark', 'dog\xa0bark', 'Dog_bark')]
    """
    alike: list[list[str]] = []
    by_look: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        looks = _looks(name)
        same = next((by_look[look] for look in looks if look in by_look), None)
        if same is None:
            same = []
            alike.append(same)
        same.append(name)
        for look in looks:
            by_look.setdefault(look, same)
    return [tuple(found) for found in alike if len(found) > 1]


def tell_alike(new: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """Tell which names look alike, a line each, where a new one is among them.

    They are written as a shell takes them, characters other than ASCII by their codes, so that they
    can be told apart and typed.
    """
    new = set(new)
    lines = []
    for names in find_alike([*known, *sorted(new)]):
        if not new.isdisjoint(names):
            said = ", ".join(map(typed, names))
            differ = describe_difference(names)
            how = " ($'...' is typed so in bash and zsh)" if "$'" in said else ""
            lines.append(f"classes that look alike differ only in {differ}: {said}{how}")
    return lines


def typed(name: str) -> str:
    r"""Write a name as one types it in a shell; in bash and zsh, if it is not all ASCII.

    What cannot be seen, or not be told from something else, is written by its code.

    Example:
        >>> print(typed("Dog bark"), typed("Do\u200bg"), typed("dog's"))
        'Dog bark' $'Do\u200bg' 'dog'"'"'s'
    """
    if name.isascii() and name.isprintable():
        return "'" + name.replace("'", """'"'"'""") + "'"
    return "$'" + "".join(map(_code, name)) + "'"


def _code(letter: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    if letter.isascii() and letter.isprintable():
        return letter
    # Of a single byte a shell would make no character.
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def suggest_class(name: str, known: Sequence[str]) -> str:
    """Say which class may be meant by a name that is none, in the words of a remedy.

    Example:
        >>> suggest_class("Dog;Cat", ["Cat", "Dog"]), suggest_class("dog", ["Cat", "Dog"])
        ("give --separator ';'", "did you mean 'Dog', which differs only in case")
    """
    for mark in _SEPARATORS:
        parts = [part.strip() for part in name.split(mark)]
        if len(parts) > 1 and set(parts) <= set(known):
            return f"give --separator {mark!r}"
    for alike in find_alike([*known, name]):
        if name in alike:
            differ = describe_difference([alike[0], name])
            return f"did you mean {typed(alike[0])}, which differs only in {differ}"
    return suggestion(name, list(known))


def describe_difference(names: Sequence[str]) -> str:
    """Say in what names that look alike differ."""
    kinds: dict[str, Callable[[str], str]] = {
        "case": lambda name: name.casefold(),
        "how accents are written": lambda name: unicodedata.normalize("NFC", name),
        "spaces": lambda name: " ".join(_SPACES.split(name)),
        "hyphens": lambda name: _HYPHENS.sub("-", name),
        "characters that cannot be seen": lambda name: _INVISIBLE.sub("", name),
        "letters of another alphabet": lambda name: name.translate(_CONFUSABLE),
    }
    differ = [kind for kind, plain in kinds.items() if len(set(map(plain, names))) < len(names)]
    spaced = {kinds["spaces"](name) for name in names}
    if len({_HYPHENS.sub(" ", name) for name in spaced}) < len(spaced) and "hyphens" not in differ:
        differ.append("hyphens")
    return " and ".join(differ) or "how they are written"


def find_odd(
    clips: Sequence[Clip], known: Collection[str] = (), parted: Mapping[str, int] | None = None
) -> list[str]:
    """Tell what looks odd in the labels and groups of clips, a line each, the worst first.

    Args:
        clips: Clips that come in.
        known: Classes that are there already.
        parted: Cells that a comma parted into several labels, and how many clips have each.
    """
    counts = Counter(label for clip in clips for label in clip.labels)
    lines = tell_alike(counts, known)
    lines += _unparted(counts)
    lines += _overparted(clips, parted or {})
    lines += _nameless(counts)
    lines += _bracketed(counts)
    lines += _misread(counts)
    lines += _parts(counts)
    lines += _groups(clips)
    single = [name for name, n in counts.items() if n == 1 and name not in known]
    if single and len(clips) >= _SOME:
        lines.append(
            f"{_classes(len(single))} of one clip: {_some(single)}; no model can learn from one"
        )
    if len(counts) == 1 and not known and len(clips) >= _SOME:
        lines.append(f"all clips are of one class, {shown(next(iter(counts)))}")
    return lines


def _looks(name: str) -> tuple[str, str]:
    """Write a name in two ways of which names that look alike share one.

    Letters that look alike in one case need not do so in the other.
    """
    plain = unicodedata.normalize("NFKC", _INVISIBLE.sub("", unicodedata.normalize("NFKC", name)))
    plain = _HYPHENS.sub(" ", _SPACES.sub(" ", plain).strip())
    folded, latin = plain.casefold(), plain.translate(_CONFUSABLE).casefold()
    return unicodedata.normalize("NFC", folded), unicodedata.normalize("NFC", latin)


def _unparted(counts: Mapping[str, int]) -> list[str]:
    """Tell of names that hold what parts labels elsewhere."""
    lines = []
    for mark, said in _SEPARATORS.items():
        holding = {name: [part.strip() for part in name.split(mark)] for name in counts
                   if mark in name.strip(mark)}  # fmt: skip
        parts = Counter(part for names in holding.values() for part in set(names))
        # Its parts are classes themselves, or come again in other names.
        sure = [
            name for name, names in holding.items()
            if all(part in counts or parts[part] > 1 for part in names)
        ]  # fmt: skip
        many = mark in ";|\t" or (mark == "," and len(holding) > len(counts) / 2)
        # Where it parts labels for sure, it does so in the others, too.
        odd = list(holding) if many else sure
        if odd:
            option = f"--separator {mark!r}" if mark != "\t" else "--separator $'\\t'"
            lines.append(
                f"{_classes(len(odd))} with {said} in the name: {_some(odd)}; if these are several "
                f"labels, give {option}"
            )
    return lines


def _overparted(clips: Sequence[Clip], parted: Mapping[str, int]) -> list[str]:
    """Tell of cells parted into labels that are never seen but together: one name, perhaps."""
    odd = []
    times = Counter(label for clip in clips for label in clip.labels)
    for cell, n in parted.items():
        labels = [label.strip() for label in cell.split(",")]
        if ", " in cell and all(times[label] == n for label in labels):
            odd.append(cell)
    if not odd:
        return []
    return [
        f"{len(odd)} cells are read as several labels of a clip that never come alone: "
        f"{shown(odd[0])} say; if that is one name, give a --separator that no name holds, "
        "--separator ';' say"
    ]


def _nameless(counts: Mapping[str, int]) -> list[str]:
    return [
        f"class {shown(name)} ({n}) is called as {who} write that there is none"
        for name, n in counts.items()
        if (who := "programs" if is_missing(name) else "people" if _NONE.fullmatch(name) else "")
    ]


def _bracketed(counts: Mapping[str, int]) -> list[str]:
    """Tell of names that are lists, or pieces of some, in a notation that is not read."""
    odd = [name for name in counts if _BRACKETED.fullmatch(name) and not _NONE.fullmatch(name)]
    if not odd:
        return []
    return [
        f"{_classes(len(odd))} with brackets around or an end of some: {_some(odd)}; if these are "
        'lists of labels, write them as Dog,Cat or as ["Dog", "Cat"]'
    ]


def _misread(counts: Mapping[str, int]) -> list[str]:
    """Tell of names whose bytes somebody took for those of another encoding."""
    meant = {name: right for name in counts if (right := _reread(name)) != name}
    lost = [name for name in counts if "\ufffd" in name]
    lines = []
    if meant:
        name, right = next(iter(meant.items()))
        beside = ", which is a class as well" if right in counts else ""
        lines.append(
            f"{_classes(len(meant))} of UTF-8 that was read as cp1252: {_some([*meant])}; "
            f"{shown(name)} was {shown(right)}{beside}; save the file anew from its source as UTF-8"
        )
    if lost:
        lines.append(
            f"{_classes(len(lost))} with characters that a program could not read and replaced: "
            f"{_some(lost)}; save the file anew from its source as UTF-8"
        )
    return lines


def _reread(name: str) -> str:
    """Undo what makes "H\u00c3\u00bcndin" of a name; one to which that was not done stays."""
    try:
        return b"".join(map(_byte, name)).decode()
    except UnicodeError:
        return name


def _byte(letter: str) -> bytes:
    """Encode a letter as cp1252 does, which leaves five bytes out."""
    return letter.encode("latin-1" if "\x80" <= letter <= "\x9f" else "cp1252")


def _parts(counts: Mapping[str, int]) -> list[str]:
    """Tell of classes that are called like parts of a set: folders above those of classes."""
    parts = [name for name in counts if _PART.fullmatch(name)]
    if not parts:
        return []
    return [
        f"{_classes(len(parts))} called like a part of a set: {_some(parts)}; import the folder "
        "below, with --subset test for what is held out, or the label file of the set"
    ]


def _groups(clips: Sequence[Clip]) -> list[str]:
    groups = Counter(clip.group for clip in clips if clip.group is not None)
    total = groups.total()
    if total < _SOME:
        return []
    lines = []
    name, most = groups.most_common(1)[0]
    if most > max(_GIANT * len(clips), 1):
        lines.append(
            f"group {shown(name)} has {most} of {len(clips)} clips; no fold parts a group, so that "
            "one fold gets them all"
        )
    names = {name: k for k, name in enumerate({name for clip in clips for name in clip.labels})}
    labels = np.zeros((len(clips), max(len(names), 1)), bool)
    for row, clip in zip(labels, clips, strict=True):
        row[[names[name] for name in clip.labels]] = True
    if odd := describe_groups([clip.group for clip in clips], labels):
        lines.append(f"{odd}; {DOMAIN_REMEDY}")
    single = sum(n == 1 for n in groups.values())
    if single > 0.9 * total:
        lines.append(
            f"{single} of {len(groups)} groups have one clip, so that they hold nothing together; "
            "is it the right column?"
        )
    return lines


def _classes(n: int) -> str:
    return "1 class" if n == 1 else f"{n} classes"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(shown, names[:_NAMED])) + more
