r"""The labelling page: class names to Label Studio's XML and back.

Label Studio knows a class by the *choice name* that stands in results and predictions. It is
the class name itself, but for characters that XML 1.0 cannot hold: they are written by their
code, ``\u0007``, and so is the backslash of a name that has such a thing already. Every name
has one of its own therefore, whatever the other classes are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from xml.etree import ElementTree

from labelkit.errors import InvalidInput

NONE, UNSURE, NO_SOUND = "none of these", "unsure", "no usable sound"
VERDICTS = (NONE, UNSURE, NO_SOUND)
# Label Studio gives the plain keys to the first classes, and none to the verdicts of a long list.
VERDICT_KEYS = ("n", "u", "x")
DOUBTFUL = "doubtful"
# Data keys every task has, and those only a task that is not blind has.
# An example is a recording of a class that is trusted, and the class it is of; or empty.
KEYS = ("audio", "clip_id", "path", "given", "given_example", "given_example_of")
SUGGESTION_KEYS = ("suggested", "reason", "suggested_example", "suggested_example_of")
EXAMPLE_KEYS = tuple(key for key in (*KEYS, *SUGGESTION_KEYS) if "_example" in key)
CONTROLS = {"labels": "Choices", "verdict": "Choices", "seconds": "Labels", "comment": "TextArea"}

_UNHOLDABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_CODED = re.compile(_UNHOLDABLE.pattern + r"|\\(?=u[0-9a-f]{4})")
_VARIABLE = re.compile(r"\$(\w+)")
# All of the page fits on a laptop's screen.
_TABLE = (
    "display: grid; grid-template-columns: max-content 1fr; column-gap: 1.5em; "
    "align-items: center; padding: 0.5em 0"
)
_APART = "display: flex; align-items: center; justify-content: space-between; gap: 2em"
_BESIDE = "display: flex; gap: 1em; align-items: flex-start"
_CENTRED = "display: flex; gap: 1em; align-items: center"
_ROW = "display: flex; align-items: center; justify-content: space-between; gap: 1em"
_HIDDEN = "display: none"
_SMALL = "font-size: 0.7em; line-height: 1.2; opacity: 0.8"
# Label Studio fetches what computes a spectrogram when the first recording is decoded, and does
# not draw again when it has come; a change of width makes it draw. The steps become rarer, for a
# browser that is slow; what is drawn already is drawn from memory.
_STYLE = """
@keyframes labelkit-draw {
  0% { padding-right: 0 } 4% { padding-right: 1px } 8% { padding-right: 2px }
  16% { padding-right: 3px } 33% { padding-right: 4px } 100% { padding-right: 5px }
}
.labelkit-sound { animation: labelkit-draw 30s step-end forwards }
.labelkit-example audio { height: 2em; width: 16em; vertical-align: middle }
.labelkit-example audio:not([src]) { display: none }
"""
# Label Studio places its numbers at the frequency axis as if the scale were linear, whatever it
# is: on the mel scale, which is the first, a tone of 2 kHz lies beside its "8 kHz".
AXES = (
    "Time (h:min:s) to the right, frequency (Hz) upwards to half the sampling rate. The numbers "
    "between are right on the linear scale (gear > Spectrogram); the first scale is mel."
)
_TITLES = {True: "What do you hear? Tick everything.", False: "What do you hear? Tick one."}
_REMEDY = "write it anew with labelkit review init"


@dataclass(frozen=True, kw_only=True)
class Page:
    """What labelkit needs of a labelling page.

    ``labels`` and ``verdicts`` are the choices as results name them, ``controls`` maps the
    name of everything an annotator can fill in, and of the sound, to its tag; ``keys`` are the
    data keys that the page asks of every task; ``several`` tells whether it lets several labels
    be ticked. ``former`` are choices that nobody sees: names in answers of before.
    """

    labels: tuple[str, ...]
    verdicts: tuple[str, ...]
    controls: dict[str, str]
    keys: frozenset[str]
    several: bool
    former: tuple[str, ...] = ()


def choice_name(name: str) -> str:
    r"""Name a class in results and predictions; it depends on nothing but the class.

    Example:
        >>> choice_name("US$"), choice_name("bell\x07"), choice_name("\\u0007")
        ('US$', 'bell\\u0007', '\\u005cu0007')
    """
    return _CODED.sub(lambda found: f"\\u{ord(found[0]):04x}", name)


def choice_names(classes: Sequence[str]) -> list[str]:
    """Name the classes in results and predictions, all differently, in their order.

    Raises:
        InvalidInput: If there is no class, or one without a name, or one twice.

    Example:
        >>> choice_names(["Rock & roll", "A$AP"])
        ['Rock & roll', 'A$AP']
    """
    if not classes:
        raise InvalidInput("the vocabulary has no class; import labels before the review")
    if "" in classes:
        raise InvalidInput(f"class {list(classes).index('')} has an empty name; give it one")
    name, count = Counter(classes).most_common(1)[0]
    if count > 1:
        raise InvalidInput(f"class {name!r} is {count} times in the vocabulary; keep one of them")
    return [choice_name(name) for name in classes]


def readable(text: str) -> str:
    """Put U+FFFD in place of each character of a text that a page cannot show."""
    return _UNHOLDABLE.sub("\ufffd", text)


def create_page(
    classes: Sequence[str],
    *,
    blind: bool = False,
    several: bool = True,
    former: Sequence[str] = (),
) -> str:
    """Write the labelling page of a vocabulary.

    Label Studio fills in ``$word`` wherever it stands, in class names too; a zero-width space
    behind the ``$`` prevents it, and an alias keeps the name in the results exact.

    Args:
        classes: Class names, in the order in which they are shown.
        blind: Leave out what is suggested and why, for an unbiased opinion.
        several: Let several labels be ticked; one alone otherwise.
        former: What answers of before call classes that were renamed, merged or retired: choices
            nobody sees, without which Label Studio takes no page that lacks them.

    Returns:
        XML, Label Studio's ``label_config``.

    Raises:
        InvalidInput: If the vocabulary is unusable.

    Example:
        >>> page = create_page(["Dog", "A$AP"])
        >>> read_page(page).labels
        ('Dog', 'A$AP')
    """
    names = choice_names(classes)
    view = ElementTree.Element("View")
    _add(view, "Style").text = _STYLE
    sound = _add(view, "View", className="labelkit-sound")
    _add(sound, "Audio", name="audio", value="$audio", spectrogram="true")
    _add(_add(view, "View", style=_SMALL), "Text", name="axes", value=AXES)
    facts = _add(view, "View", style=_TABLE)
    _add_text(facts, "path", "File")
    _add_text(facts, "given", "Labels so far", example=True)
    if not blind:
        _add_text(facts, "suggested", "Suggested", example=True)
        _add_text(facts, "reason", "Why you are asked")
    line = _add(view, "View", style=_APART)
    _add(line, "Header", value=_TITLES[several], size="5")
    box = _add(line, "View", style="flex: 0 0 16em")
    # With a key of its own it leaves the first one to the first class.
    _add(box, "Filter", name="filter", toName="labels", minlength="0", hotkey="f",
         placeholder="Find a class")  # fmt: skip
    kind = "multiple" if several else "single"
    choices = _add_control(view, "labels", choice=kind, showInline="true")
    for name, shown in zip(names, _display_names(classes), strict=True):
        alias = {} if shown == name else {"alias": name}
        _add(choices, "Choice", value=shown, **alias)
    for name in former:
        if name not in names:
            _add(choices, "Choice", value=name.replace("$", "$\u200b"), alias=name, style=_HIDDEN)
    below = _add(view, "View", style="border-top: 1px solid #8884; margin-top: 0.5em")
    verdict = _add_control(below, "verdict", choice="multiple", showInline="true")
    for value, key in zip(VERDICTS, VERDICT_KEYS, strict=True):
        _add(verdict, "Choice", value=value, hotkey=key)
    last = _add(view, "View", style=_BESIDE)
    seconds = _add_control(last, "seconds")
    _add(seconds, "Label", value=DOUBTFUL, background="#d95f02", hotkey="d")
    rest = _add(last, "View", style="flex: 1")
    _add_control(
        rest, "comment", rows="2", maxSubmissions="1", editable="true", placeholder="Comment"
    )
    return ElementTree.tostring(view, encoding="unicode")


def page_hash(xml: str) -> str:
    """Hash what a page says, the same however it is indented and its attributes ordered.

    Raises:
        InvalidInput: If the page is no XML.
    """
    _parse(xml)
    canonical = ElementTree.canonicalize(xml, strip_text=True)
    return blake2b(canonical.encode(), digest_size=16).hexdigest()


def read_page(xml: str) -> Page:
    """Read what a labelling page asks for.

    Raises:
        InvalidInput: If the page is no XML.
    """
    root = _parse(xml)
    tags = {element.get("name", ""): element.tag for element in root.iter() if element.get("name")}
    fillable = {e.get("name", "") for e in root.iter() if e.get("toName") and e.tag != "Filter"}
    asked = (_VARIABLE.findall(element.get("value", "")) for element in root.iter())
    return Page(
        labels=_choices_of(root, "labels"),
        verdicts=_choices_of(root, "verdict"),
        controls={k: tag for k, tag in tags.items() if k in fillable or k == "audio"},
        keys=frozenset(key for keys in asked for key in keys),
        several=any(
            element.get("name") == "labels" and element.get("choice") == "multiple"
            for element in root.iter("Choices")
        ),
        former=_choices_of(root, "labels", hidden=True),
    )


def check_page(
    xml: str, classes: Sequence[str], *, blind: bool = False, several: bool = True
) -> list[str]:
    """Compare a page on the server with the vocabulary; the layout is the user's own business.

    Args:
        xml: The page as the server has it.
        classes: Class names of the vocabulary.
        blind: Whether tasks are sent without suggestions.
        several: Whether a clip may have several labels.

    Returns:
        One line a fault, with its remedy.

    Raises:
        InvalidInput: If the vocabulary is unusable.

    Example:
        >>> check_page(create_page(["Dog"]), ["Dog", "Cat"])
        ["the labelling page lacks class 'Cat'; write it anew with labelkit review init"]
    """
    names = dict(zip(choice_names(classes), classes, strict=True))
    try:
        page = read_page(xml)
    except InvalidInput as error:
        return [str(error)]
    controls = {"audio": "Audio"} | CONTROLS
    counts, asked = Counter(page.labels), page.keys - {*KEYS, *(() if blind else SUGGESTION_KEYS)}
    faults = [
        f"lacks the {tag} control {name!r}; {_REMEDY}"
        for name, tag in controls.items()
        if page.controls.get(name) != tag
    ]
    # Where a control is missing, so are its choices: one line says it.
    if page.controls.get("labels") == "Choices":
        lost = [name for choice, name in names.items() if choice not in counts]
        faults += [f"lacks class {name!r}; {_REMEDY}" for name in lost]
        if page.several and not several:
            faults.append(f"lets several labels be ticked, where a clip has one; {_REMEDY}")
        elif several and not page.several:
            faults.append(f"lets one label be ticked, where a clip may have several; {_REMEDY}")
    if page.controls.get("verdict") == "Choices":
        faults += [f"lacks verdict {v!r}; {_REMEDY}" for v in VERDICTS if v not in page.verdicts]
    faults += [
        f"has class {choice!r}, which is not in the vocabulary; import it, or {_REMEDY}"
        for choice in counts
        if choice not in names
    ]
    faults += [f"has class {c!r} {n} times; keep one of them" for c, n in counts.items() if n > 1]
    faults += [
        f"has verdict {verdict!r}, which labelkit does not know; take it out"
        for verdict in page.verdicts
        if verdict not in VERDICTS
    ]
    faults += [
        f"has control {name!r}, whose answers labelkit cannot read; take it out"
        for name in page.controls
        if name not in controls
    ]
    faults += [f"asks for ${key}, which no task has; take it out" for key in sorted(asked)]
    return [f"the labelling page {fault}" for fault in faults]


def _display_names(classes: Sequence[str]) -> list[str]:
    """Write each class for the page; a name that has lost characters stays unique."""
    taken = {name for name in classes if not _UNHOLDABLE.search(name)}
    shown = []
    for name in classes:
        text = readable(name)
        while text != name and text in taken:
            text += "\ufffd"
        taken.add(text)
        shown.append(text.replace("$", "$\u200b"))
    return shown


def _add(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, attributes)


def _add_text(view: ElementTree.Element, key: str, header: str, *, example: bool = False) -> None:
    """Add a row of the facts; with an example, a player of a recording to compare with.

    The player is the browser's own: another of Label Studio's would decode its recording before
    the page can be used, and try out the browser for a second.
    """
    _add(view, "Header", value=header, size="6")
    if not example:
        _add(view, "Text", name=key, value=f"${key}")
        return
    row = _add(view, "View", style=_ROW)
    _add(row, "Text", name=key, value=f"${key}")
    beside = _add(row, "View", style=_CENTRED, className="labelkit-example")
    _add(beside, "Text", name=f"{key}_example_of", value=f"${key}_example_of")
    player = f"<audio controls preload='none' src=\"${key}_example\"></audio>"
    _add(beside, "HyperText", name=f"{key}_example", value=player, inline="true")


def _add_control(view: ElementTree.Element, name: str, **attributes: str) -> ElementTree.Element:
    return _add(view, CONTROLS[name], name=name, toName="audio", **attributes)


def _choices_of(
    root: ElementTree.Element, control: str, *, hidden: bool = False
) -> tuple[str, ...]:
    """Return what the choices of a control that are seen, or not, are called in results."""
    found = next((e for e in root.iter("Choices") if e.get("name") == control), None)
    choices = [] if found is None else found.iter("Choice")
    return tuple(
        choice.get("alias") or choice.get("value") or ""
        for choice in choices
        if (choice.get("style") == _HIDDEN) == hidden
    )


def _parse(xml: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise InvalidInput(f"the labelling page is no XML: {error}; {_REMEDY}") from None
