"""The labelling page and the tasks: exact for any class name, and checked before they are sent."""

import json
import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit.errors import InvalidInput
from labelkit.label_studio.page import (
    CONTROLS,
    KEYS,
    NO_SOUND,
    NONE,
    SUGGESTION_KEYS,
    UNSURE,
    VERDICTS,
    check_page,
    choice_name,
    choice_names,
    create_page,
    page_hash,
    read_page,
)
from labelkit.label_studio.tasks import check_task, create_prediction, create_task

# Ticked one by one in a real browser, submitted and read back; those with a $ word came back
# wrong without the zero-width space.
ODD_NAMES = [
    "Fill_(with_liquid)", "Rock & roll", 'He said "hi"', "Cat's purr", "<angle>", "a, b", ";",
    "Gebläse", "🐕 dog", " leading", "trailing ", "dou  ble", "ta\tb", "new\nline", "{braces}",
    "percent%41", "back\\slash", "/", ":", "[br]", "#", "None", "0", "1e5", "true", "&amp;", "a|b",
    "=cmd", "A$B", "$audio", "US$", "$ 5", "$$",
]  # fmt: skip
# Names that get in each other's way: what one is shown as, or written as, another is called.
HOSTILE_NAMES = [
    "A$\u200bB", "$\u200baudio", "a\x00b", "a\x01b", "a\ufffdb", "a\ufffdb\ufffd", "a\\u0000b",
    "a\\u005cu0000b", "a\\\x00b", "\\", "\\u", "\\u00", "\ufffe", "\uffff", "r\rr", "\r\n",
    "\u2028", "\x85", "\u200b", " ", "  ", "none of these", "$labels", "${given}", "$[0]", "\ud800",
    "É", "E\u0301",
]  # fmt: skip

ALL_CONTROLS = {"audio": "Audio", **CONTROLS}

pieces = st.sampled_from(
    ["$", "$audio", "\u200b", "\ufffd", "\x00", "\x01", "\\", "\\u", "\\u0000", "\\u005c", "u0001",
     "a", "A", "&", '"', "\t", "\n", "\r", " "]
)  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.lists(
    pieces, min_size=1, max_size=5
).map("".join)


@st.composite
def vocabularies(draw):
    """Different class names, some of them what others are shown or written as."""
    names = draw(st.lists(texts, min_size=1, max_size=8, unique=True))
    root = ElementTree.fromstring(create_page(names))
    others = [value for choice in choices_of(root) for value in choice.attrib.values()]
    kept = draw(st.lists(st.sampled_from(others), unique=True))
    return list(dict.fromkeys([*names, *kept]))


def choices_of(root, control="labels"):
    return root.findall(f".//Choices[@name='{control}']/Choice")


def decode(choice):
    """Class of a choice name, by a second way: each escape is one character."""
    return re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), choice)


def answered(element, data):
    """What Label Studio stores for a ticked choice, after filling in $word as its editor does."""
    variable = re.compile(r"\$[\w[\].{}]+", re.ASCII)
    filled = variable.sub(lambda m: data.get(m[0][1:], "undefined"), element.get("value"))
    return element.get("alias") or filled


def check_exact(names):
    root = ElementTree.fromstring(create_page(names))
    elements = choices_of(root)
    data = {"audio": "/a.wav", "B": "b"}
    stored = [answered(element, data) for element in elements]
    assert stored == choice_names(names) == list(read_page(create_page(names)).labels)
    assert [decode(choice) for choice in stored] == names
    shown = [element.get("value") for element in elements]
    assert len(set(shown)) == len(shown), "two classes look the same"
    assert not any(re.search(r"\$\w", text) for text in shown)
    assert check_page(create_page(names), names) == []


@pytest.mark.parametrize("name", ODD_NAMES + HOSTILE_NAMES)
def test_odd_name_is_exact(name):
    check_exact([name])


def test_odd_names_live_together():
    check_exact(ODD_NAMES + HOSTILE_NAMES)
    assert choice_names(ODD_NAMES) == ODD_NAMES


@pytest.mark.slow
@settings(deadline=None)
@given(vocabularies())
def test_any_vocabulary_is_exact(names):
    check_exact(names)


@settings(deadline=None)
@given(vocabularies(), texts)
def test_added_class_changes_no_other(names, new):
    assert choice_names(list(dict.fromkeys([*names, new])))[: len(names)] == choice_names(names)
    assert [choice_name(name) for name in names] == choice_names(names)


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ([], "no class"),
        (["Dog", ""], "class 1 has an empty name"),
        (["a", "b", "a"], "'a' is 2 times"),
    ],
)
def test_unusable_vocabulary_is_refused(classes, says):
    for function in (choice_names, create_page, lambda c: check_page("<View/>", c)):
        with pytest.raises(InvalidInput, match=says):
            function(classes)


def test_page_has_what_an_annotator_needs():
    page = create_page(["Dog", "Cat"])
    root = ElementTree.fromstring(page)
    assert root.find(".//Audio").attrib == {
        "name": "audio",
        "value": "$audio",
        "spectrogram": "true",
    }
    assert root.find(".//Filter").get("toName") == "labels"
    assert root.find(".//Choices[@name='labels']").get("choice") == "multiple"
    assert [e.get("value") for e in choices_of(root, "verdict")] == [NONE, UNSURE, NO_SOUND]
    keys = [e.get("hotkey") for e in choices_of(root, "verdict")]
    assert len(set(keys)) == 3 and all(keys)
    assert [e.get("value") for e in root.iter("Label")] == ["doubtful"]
    found = read_page(page)
    assert found.controls == ALL_CONTROLS
    assert found.verdicts == VERDICTS
    assert found.keys == {*KEYS, *SUGGESTION_KEYS} - {"clip_id"}
    names = [e.get("name") for e in root.iter() if e.get("name")]
    assert len(set(names)) == len(names), "Label Studio refuses names that repeat"


def test_blind_page_shows_no_suggestion():
    page = create_page(["Dog"], blind=True)
    assert read_page(page).keys == {*KEYS} - {"clip_id"}
    assert not re.search("suggest|reason|model", page, re.I)
    assert check_page(page, ["Dog"], blind=True) == []


@pytest.mark.parametrize("several", [True, False])
def test_page_lets_tick_as_many_labels_as_a_clip_may_have(several):
    page = create_page(["Dog", "Cat"], several=several)
    kind = ElementTree.fromstring(page).find(".//Choices[@name='labels']").get("choice")
    assert kind == ("multiple" if several else "single")
    assert read_page(page).several is several
    assert ("Tick everything" in page) is several and ("Tick one" in page) is not several
    assert check_page(page, ["Dog", "Cat"], several=several) == []
    [fault] = check_page(page, ["Dog", "Cat"], several=not several)
    assert ("a clip has one" if several else "a clip may have several") in fault
    assert "review init" in fault


def test_eighty_classes_have_a_page():
    names = [f"Class {k}" for k in range(80)]
    for several in (True, False):
        page = create_page(names, several=several)
        assert list(read_page(page).labels) == names
        assert check_page(page, names, several=several) == []


@pytest.mark.parametrize(
    ("suggested", "several", "ticked"),
    [
        (["Cat"], True, ["Cat"]),
        (["Cat"], False, ["Cat"]),
        (["Cat", "Dog"], True, ["Cat", "Dog"]),
        # Which of them is the question; a page of single choice can tick no two.
        (["Cat", "Dog"], False, None),
        ([], False, None),
    ],
)
def test_prediction_ticks_what_may_be_ticked(suggested, several, ticked):
    made = create_prediction(suggested, score=0.5, model_version="r", several=several)
    assert [item["value"]["choices"] for item in made["result"]] == ([ticked] if ticked else [])


@pytest.mark.parametrize("blind", [False, True])
def test_examples_are_told_with_their_class(blind):
    data = create_task(
        **CLIP, suggested=["Cat"], given_example=("bell\x07", "/d.wav"),
        suggested_example=("Cat", "/c.wav"), blind=blind,
    )["data"]  # fmt: skip
    assert data["given_example"] == "/d.wav" and data["given_example_of"] == "bell\ufffd:"
    told = {key: data[key] for key in data if key.startswith("suggested_example")}
    wanted = {"suggested_example": "/c.wav", "suggested_example_of": "Cat:"}
    assert told == ({} if blind else wanted)


def test_hash_minds_content_only():
    page = create_page(["Dog", "Cat"])
    root = ElementTree.fromstring(page)
    ElementTree.indent(root)
    for element in root.iter():
        element.attrib = dict(reversed(element.attrib.items()))
    other = ElementTree.tostring(root, encoding="unicode")
    assert other != page
    assert page_hash(other) == page_hash(page)
    pages = [page, create_page(["Cat", "Dog"]), create_page(["Dog", "Cat"], blind=True)]
    assert len({page_hash(each) for each in pages}) == 3


@pytest.mark.parametrize("xml", ["", "<View>", "no page", "<View>\x00</View>"])
def test_page_that_is_no_xml_is_named(xml):
    for function in (page_hash, read_page):
        with pytest.raises(InvalidInput, match="no XML"):
            function(xml)
    (fault,) = check_page(xml, ["Dog"])
    assert "no XML" in fault and "review init" in fault and "\n" not in fault


def edit(old, new, classes=("Dog", "Cat"), **options):
    page = create_page(classes, **options)
    assert page.count(old) == 1, old
    return page.replace(old, new)


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (edit('<Choice value="Cat" />', ""), ["lacks class 'Cat'"]),
        (edit('value="Cat"', 'value="Bird"'), ["lacks class 'Cat'", "has class 'Bird'"]),
        (edit('<Choice value="Cat" />', '<Choice value="Cat"/>' * 2), ["has class 'Cat' 2 times"]),
        (edit('<Choices name="labels"', '<Choices name="tags"'),
         ["lacks the Choices control 'labels'", "has control 'tags'"]),
        (edit('<Audio name="audio"', '<Video name="audio"'), ["lacks the Audio control 'audio'"]),
        (edit('value="unsure"', 'value="maybe"'),
         ["lacks verdict 'unsure'", "has verdict 'maybe'"]),
        (edit('value="$given"', 'value="$hint"'), ["asks for $hint"]),
        (edit("Tick everything.", "Hi $name"), ["asks for $name"]),
        (edit('value="Cat"', 'value="Cat$food" alias="Cat"'), ["asks for $food"]),
        (
            edit("<Label value", '<Rating name="stars" toName="audio"/><Label value'),
            ["has control 'stars'"],
        ),
        ("<View/>", [f"lacks the {tag} control {name!r}" for name, tag in ALL_CONTROLS.items()]),
    ],
)  # fmt: skip
def test_faults_of_a_page_are_named(page, says):
    faults = check_page(page, ["Dog", "Cat"])
    assert len(faults) == len(says)
    for fault, part in zip(faults, says, strict=True):
        assert fault.startswith(f"the labelling page {part}")
        assert ";" in fault and "\n" not in fault


def test_page_with_suggestions_does_not_fit_blind_tasks():
    faults = check_page(create_page(["Dog"]), ["Dog"], blind=True)
    asked = [re.search(r"\$\w+", fault)[0] for fault in faults]
    assert asked == [f"${key}" for key in sorted(SUGGESTION_KEYS)]


def test_layout_is_the_users_own():
    page = create_page(["Dog", "Cat"])
    inner = page.removeprefix("<View>")[: -len("</View>")]
    again = '<Audio name="again" value="$audio"/>'
    mine = f'<View><Style>.a {{}}</Style><View className="a">{again}{inner}</View></View>'
    mine = mine.replace('value="Labels so far"', 'value="So far"').replace('rows="2"', 'rows="9"')
    mine = mine.replace('<Choice value="Cat" />', '<Choice value="Cat" hotkey="c" hint="meow"/>')
    assert check_page(mine, ["Dog", "Cat"]) == []
    assert check_page(page, ["Cat", "Dog"]) == []


CLIP = {"audio": "/a.wav", "clip_id": 7, "path": "a.wav", "given": ["Dog"]}


def test_task_says_everything_in_plain_words():
    prediction = create_prediction(
        ["Cat", "US$"], score=0.25, model_version="r1", region=(0.5, 1.25)
    )
    task = create_task(
        **CLIP | {"given": ["Dog", "bell\x07"]}, suggested=["Cat", "US$"], reason="too quiet",
        prediction=prediction,
    )  # fmt: skip
    assert task["data"] == {
        "audio": "/a.wav", "clip_id": 7, "path": "a.wav", "given": "Dog, bell\ufffd",
        "suggested": "Cat, US$", "reason": "too quiet", "given_example": "",
        "given_example_of": "", "suggested_example": "", "suggested_example_of": "",
    }  # fmt: skip
    assert task["predictions"] == [prediction]
    assert prediction == {
        "model_version": "r1",
        "score": 0.25,
        "result": [
            {"from_name": "labels", "to_name": "audio", "type": "choices",
             "value": {"choices": ["Cat", "US$"]}},
            {"from_name": "seconds", "to_name": "audio", "type": "labels",
             "value": {"start": 0.5, "end": 1.25, "labels": ["doubtful"]}},
        ],
    }  # fmt: skip
    keys = read_page(create_page(["Cat", "US$"])).keys
    assert check_task(task, ["Cat", "US$"], keys=keys, duration_s=1.25) is None
    assert json.loads(json.dumps(task)) == task


def test_blind_task_gives_nothing_away():
    prediction = create_prediction(
        ["Cat"], score=0.25, model_version="r1", region=(0.0, 1.0), blind=True
    )
    task = create_task(
        **CLIP, suggested=["Cat"], reason="looks like a Cat", prediction=prediction, blind=True
    )
    assert "Cat" not in json.dumps(task)
    assert prediction == {"model_version": "r1", "score": 0.25, "result": []}
    keys = read_page(create_page(["Cat"], blind=True)).keys
    assert check_task(task, ["Cat"], keys=keys) is None
    assert "'reason'" in check_task(task, ["Cat"], keys=read_page(create_page(["Cat"])).keys)


def test_task_without_labels_shows_no_empty_text():
    data = create_task(**CLIP | {"given": []})["data"]
    assert data["given"] == "none" and data["suggested"] == "nothing" and data["reason"]


@settings(deadline=None)
@given(vocabularies())
def test_every_class_may_be_suggested(names):
    prediction = create_prediction(names, score=0.5, model_version="r1")
    task = create_task(**CLIP | {"given": names}, suggested=names, prediction=prediction)
    page = read_page(create_page(names))
    assert check_task(task, page.labels, keys=page.keys) is None
    assert [decode(choice) for choice in prediction["result"][0]["value"]["choices"]] == names


def item(control, value, **other):
    kind = CONTROLS.get(control, "x").lower()
    return {"from_name": control, "to_name": "audio", "type": kind, "value": value, **other}


def seconds(start, end, labels=("doubtful",)):
    return {"result": [item("seconds", {"start": start, "end": end, "labels": list(labels)})]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"score": math.nan}, "score must be"),
        ({"score": math.inf}, "score must be"),
        ({"score": 1.0001}, "got 1.0001"),
        ({"score": -0.1}, "got -0.1"),
        ({"score": None}, "got None"),
        ({"score": True}, "got True"),
        ({"model_version": ""}, "model_version"),
        ({"result": [item("labels", {"choices": ["Dog", "Dgo"]})]}, "'Dgo' is no class"),
        ({"result": [item("labels", {"choices": [""]})]}, "'' is no class"),
        ({"result": [item("labels", {"choices": "Dog"})]}, "a list of labels"),
        ({"result": [item("labels", {"choices": []})]}, "a list of labels"),
        ({"result": [item("labels", {"choices": ["Dog", "Dog"]})]}, "repeat"),
        ({"result": [item("verdict", {"choices": [NONE]})]}, "fills in 'verdict'"),
        ({"result": [item("tags", {"choices": ["Dog"]})]}, "fills in 'tags'"),
        ({"result": [item("labels", {"choices": ["Dog"]}, to_name="sound")]}, "fills in 'labels'"),
        ({"result": [item("labels", {"choices": ["Dog"]}, type="labels")]}, "fills in 'labels'"),
        ({"result": [{"x": 1}]}, "fills in None"),
        (seconds(-0.1, 1), "-0.1 to 1 "),
        (seconds(1, 1), "1 to 1 "),
        (seconds(1, 2.01), "2.01 are no part of a recording of 2 s"),
        (seconds(0, math.nan), "0 to nan"),
        (seconds(None, 1), "None to 1"),
        (seconds(0, 1, ["bad"]), "'bad'"),
    ],
)  # fmt: skip
def test_prediction_that_may_not_be_sent(change, says):
    good = create_prediction(["Dog"], score=0.5, model_version="r1", region=(0, 2))
    assert check_task(create_task(**CLIP, prediction=good), ["Dog"], duration_s=2) is None
    problem = check_task(create_task(**CLIP, prediction=good | change), ["Dog"], duration_s=2)
    assert problem.startswith("clip 'a.wav': ") and says in problem
    assert ";" in problem and "\n" not in problem


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"audio": ""}, "audio must be a text"),
        ({"audio": None}, "audio must be a text"),
        ({"path": 3}, "path must be a text"),
        ({"clip_id": "7"}, "clip_id must be a whole number, got '7'"),
        ({"clip_id": True}, "got True"),
        ({"clip_id": 7.0}, "got 7.0"),
    ],
)
def test_data_that_may_not_be_sent(change, says):
    task = create_task(**CLIP)
    assert check_task(task, ["Dog"]) is None
    assert says in check_task({"data": task["data"] | change}, ["Dog"])
    del task["data"][next(iter(change))]
    assert f"no '{next(iter(change))}'" in check_task(task, ["Dog"])


def test_key_a_user_put_into_the_page_is_missing():
    keys = read_page(edit('value="What do you hear? Tick everything."', 'value="$site"')).keys
    assert "'site'" in check_task(create_task(**CLIP), ["Dog"], keys=keys)
