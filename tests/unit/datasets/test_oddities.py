"""What looks odd is told, and what does not is not."""

import os
import shutil
import subprocess
import unicodedata

import pytest

from labelkit.datasets.oddities import find_alike, find_odd, suggest_class, typed
from labelkit.records import Clip

NFC, NFD = (unicodedata.normalize(form, "Vögel") for form in ("NFC", "NFD"))
ALIKE = {
    "case": ("Dog bark", "dog bark", "only in case:"),
    "case of other alphabets": ("Собака", "собака", "only in case:"),
    "sharp s": ("Straße", "STRASSE", "only in case:"),
    "accents": (NFC, NFD, "how accents are written"),
    "accents and case": (NFC, NFD.upper(), "look alike differ only in"),
    "a no-break space": ("Dog bark", "Dog\u00a0bark", "only in spaces"),
    "two spaces": ("Dog bark", "Dog  bark", "only in spaces"),
    "a thin space": ("Dog bark", "Dog\u2009bark", "only in spaces"),
    "an underscore": ("Dog bark", "Dog_bark", "only in spaces"),
    "an underscore and case": ("Dog bark", "dog_bark", "differ only in"),
    "a hyphen and an underscore": ("dog-bark", "dog_bark", "only in hyphens"),
    "a hyphen and a space": ("dog bark", "Dog-bark", "look alike differ only in"),
    "a hyphen between spaces": ("dog - bark", "dog-bark", "only in hyphens"),
    "a hyphen that does not break": ("dog-bark", "dog\u2011bark", "only in hyphens"),
    "a dash": ("dog-bark", "dog\u2013bark", "only in hyphens"),
    "a space of no width": ("Dogbark", "Dog\u200bbark", "cannot be seen"),
    "a soft hyphen": ("Dogbark", "Dog\u00adbark", "cannot be seen"),
    "a mark of byte order": ("Dog", "\ufeffDog", "cannot be seen"),
    "a mark of direction": ("Dog", "Dog\u200e", "cannot be seen"),
    "Cyrillic letters": ("cop", "\u0441\u043e\u0440", "letters of another alphabet"),
    "one Cyrillic letter": ("Bark", "B\u0430rk", "letters of another alphabet"),
    "a Greek letter": ("Alarm", "\u0391larm", "letters of another alphabet"),
    "wide letters": ("Dog", "\uff24\uff4f\uff47", "how they are written"),
}
UNLIKE = ["Dog", "Dogs", "Cat", "A-B", "AB", "-1", "1", "\u00e9", "e", "B", "8", "l", "I", "\u30ab",
          "\u30ac", "-A", "A-"]  # fmt: skip


def clips(*labels, groups=None):
    return [
        Clip(path=f"{n}.wav", labels=(names,) if isinstance(names, str) else names,
             group=groups[n] if groups else None)
        for n, names in enumerate(labels)
    ]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "differ"), ALIKE.values(), ids=ALIKE)
def test_names_that_look_alike(one, other, differ):
    assert find_alike(["Cat", one, "Rain", other, one]) == [(one, other)]
    [line] = [line for line in find_odd(clips("Cat", one, other)) if "look alike" in line]
    assert differ in line and typed(one) in line and typed(other) in line
    assert line.isascii() and ("bash and zsh" in line) != (one + other).isascii()
    # A name that comes in is compared with those that are there.
    assert any("look alike" in line for line in find_odd(clips(one), known=["Cat", other]))
    assert find_odd(clips("Cat"), known=[one, other]) == []


SHELLS = [shell for shell in ("bash", "zsh") if shutil.which(shell)]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "name",
    [
        *(name for pair in ALIKE.values() for name in pair[:2]), "dog's", "Vo\u0308gel's", "$HOME",
        "a\\b", "\u00e9\\n", "`ls`", '"Dog"', "\U0001f436 dog", "\u200b0bark", "-n", "\u00e9!", "*",
    ],
)  # fmt: skip
def test_a_name_is_what_a_shell_makes_of_it(shell, name):
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    command = [shell, "-c", f"printf %s, {typed(name)}"]
    done = subprocess.run(command, capture_output=True, check=True, env=env)
    assert done.stdout.decode() == f"{name},"


def test_six_names_of_which_four_look_the_same():
    names = ["Dog bark", "dog bark", "Dog\u00a0bark", "Dog  bark", NFC, NFD]
    assert find_alike(names) == [tuple(names[:4]), tuple(names[4:])]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("Dog;Cat", "give --separator ';'"), ("Dog | Cat", "give --separator '|'"),
        ("Dog,Cat", "give --separator ','"),
        ("dog", "did you mean 'Dog', which differs only in case"),
        (NFD, r"did you mean $'V\u00f6gel', which differs only in how accents are written"),
        ("Dogg", "did you mean 'Dog'"), ("Zebra;Gnu", "known: Dog, Cat, Vögel"),
    ],
)  # fmt: skip
def test_the_class_that_is_meant_is_named(name, remedy):
    assert suggest_class(name, ["Dog", "Cat", NFC]) == remedy


def test_names_that_do_not_look_alike():
    assert find_alike(UNLIKE) == [] and find_alike([]) == []
    assert find_odd(clips(*UNLIKE)[:9]) == []


# Labels of clips, cells that a comma parted, and what is told.
ODD = {
    "a separator between classes": (["Dog;Cat", "Cat", "Dog"], {}, "--separator ';'"),
    "a separator between classes, one of them new": (["Dog;Cat", "Dog;Bird", "Cat"], {}, "';'"),
    "a stroke": (["Dog|Cat", "Cat", "Dog"], {}, "--separator '|'"),
    "a stroke in every name": (["Dog|Cat", "Bird|Cow"], {}, "2 classes with '|' in the name"),
    "a TAB": (["Dog\tCat"], {}, "$'\\t'"),
    "commas, where something else parts": (["Dog,Cat", "Cat", "Dog"], {}, "--separator ','"),
    "slashes between classes": (["Dog/Cat", "Cat", "Dog"], {}, "1 class with '/' in the name"),
    "and between classes": (["Dog & Cat", "Cat", "Dog"], {}, "1 class with '&'"),
    "names with commas": (
        [("Vehicle horn", "car horn", "honking"), "Dog"],
        {"Vehicle horn, car horn, honking": 1}, "read as several labels of a clip",
    ),
    "names with commas, often": (
        [("Male speech", "man speaking")] * 3, {"Male speech, man speaking": 3}, "never come alone",
    ),
    "parts of a set": (["train", "test"], {}, "2 classes called like a part of a set: 'train'"),
    "folds": (["fold1", "fold10"], {}, "import the folder below"),
    "a folder of recordings": (["audio", "Dog"], {}, "1 class called like a part of a set"),
    "a stroke in two names, one of known parts": (
        ["Dog;Cat", "Bird;Cow", "Cat", "Dog"], {}, "2 classes with ';' in the name: 'Dog;Cat', 'B",
    ),
    "a list without quotes": (["[Dog, Cat]", "Dog"], {}, "1 class with brackets around"),
    "a list cut by commas": ([("[Dog", "Cat]"), "Dog"], {}, "2 classes with brackets around"),
    "an array of a database": (["{Dog,Cat}"], {}, "1 class with brackets around or"),
    "a mapping": (["{'Dog': 1}"], {}, "write them as Dog,Cat or as [\"Dog\", \"Cat\"]"),
    "a tuple without quotes": (["(Dog, Cat)"], {}, "1 class with brackets around"),
    "a tuple cut by commas": ([("(Dog", "Cat)")], {}, "2 classes with brackets around"),
    "misread": (["H\u00c3\u00bcndin", "Hündin"], {}, "was 'Hündin', which is a class as well;"),
    "misread, alone": (["H\u00c3\u00bcndin"], {}, "was 'Hündin'; save the file anew"),
    "misread quotes": (["Dog\u00e2\u20ac\u2122s"], {}, "1 class of UTF-8 that was read as cp1252"),
    "misread Cyrillic": (["\u00d0\u00a1\u00d0\u00be\u00d0\u00b1"], {}, "was '\u0421\u043e\u0431'"),
    "replaced": (["H\ufffdndin", "Dog"], {}, "1 class with characters that a program could not"),
    **{
        f"no class, {name!r}": ([name, "Dog"], {}, f"class {name!r} (1) is called as people write")
        for name in ("-", "--", "?", "??", ".", "_", "unknown", "Unknown", "<unk>", "unlabeled",
                     "unlabelled", "not sure", "TODO", "no_label", "\u2014", "(empty)")
    },
    "no class": (["nan", "Dog"], {}, "class 'nan' (1) is called as programs write"),
    "NA": (["NA", "Dog"], {}, "class 'NA' (1)"),
    "a class of one clip": (["Dog"] * 9 + ["Solo"], {}, "1 class of one clip: 'Solo'"),
    "many classes of one clip": ([f"c{n}" for n in range(12)], {}, "12 classes of one clip"),
    "one class": (["Dog"] * 10, {}, "all clips are of one class, 'Dog'"),
}  # fmt: skip


@pytest.mark.parametrize(("labels", "parted", "told"), ODD.values(), ids=ODD)
def test_what_looks_odd_is_told(labels, parted, told):
    assert any(told in line for line in find_odd(clips(*labels), parted=parted))


@pytest.mark.parametrize(
    ("labels", "parted"),
    [
        (["Male speech/man", "Dog"], {}), (["R&B", "Rock & Roll"], {}), (["/m/09", "/t/dd00"], {}),
        ([("Dog", "Cat"), "Dog", "Cat"], {"Dog, Cat": 1}), ([("Dog", "Cat")] * 2, {"Dog,Cat": 2}),
        (["Dog", "Cat"] * 6, {}), (["C++", "C"], {}),
        (["Dog (small)", "(Dog)", "(a) b", "unknown bird", "[Dog] loud", "Hündin", "Ã"], {}),
        (["Bark, loud", "Cat", "Rain"], {}),
    ],
)  # fmt: skip
def test_what_does_not_look_odd_is_not_told(labels, parted):
    assert find_odd(clips(*labels), parted=parted) == []


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        (["nan"] * 6 + list("abcdef"), "group 'nan' has 6 of 12 clips"),
        (["x"] * 12, "group 'x' has 12 of 12 clips"),
        ([f"g{n}" for n in range(12)], "12 of 12 groups have one clip"),
        ([f"g{n // 3}" for n in range(15)], None),
        ([None] * 6 + list("aabbcc"), None),
        (list("aab"), None),
    ],
)
def test_groups_that_part_nothing_or_all(groups, told):
    found = find_odd(clips(*(["Dog", "Cat"] * 8)[: len(groups)], groups=groups))
    assert [told in line for line in found] == ([True] if told else [])
