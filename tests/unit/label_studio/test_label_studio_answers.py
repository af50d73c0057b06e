"""Tasks as Label Studio gives them, to reviews: nothing dropped, nothing guessed."""

import json
from datetime import datetime
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit.errors import InvalidInput
from labelkit.label_studio.answers import read_answers
from labelkit.label_studio.page import NO_SOUND, NONE, UNSURE, choice_names, create_page
from labelkit.label_studio.tasks import create_prediction
from labelkit.records import ANSWERS

CLASSES = ["Dog", "Cat", "US$", "bell\x07"]


def choices(control, *ticked, **other):
    value = {"choices": list(ticked)}
    return {"from_name": control, "to_name": "audio", "type": "choices", "value": value, **other}


def labels(*ticked, **other):
    return choices("labels", *ticked, **other)


def verdict(*ticked, **other):
    return choices("verdict", *ticked, **other)


def comment(*lines):
    return {"from_name": "comment", "to_name": "audio", "type": "textarea",
            "value": {"text": list(lines)}}  # fmt: skip


SECONDS = {"from_name": "seconds", "to_name": "audio", "type": "labels", "id": "x",
           "value": {"start": 0.5, "end": 1.0, "labels": ["doubtful"]}}  # fmt: skip


def annotate(*result, **other):
    return {
        "id": 31, "completed_by": 3, "was_cancelled": False, "result": list(result),
        "created_at": "2026-11-21T06:00:00Z", "updated_at": "2026-11-21T06:28:02.796806Z",
        "lead_time": 5.25, "ground_truth": False, "parent_prediction": None, **other,
    }  # fmt: skip


def task_of(*annotations, **other):
    return {"id": 12, "data": {"clip_id": 7}, "annotations": list(annotations), **other}


def read(*annotations, classes=CLASSES, users=None, renames=None, **task):
    return read_answers(
        task_of(*annotations, **task), classes, project="demo", users=users, renames=renames
    )


def read_one(*result, **other):
    (review,) = read(annotate(*result, **other))
    return review


def test_review_holds_everything():
    annotation = annotate(labels("Cat"), comment("a “meow”", "far away"), SECONDS)
    (review,) = read(annotation, users={3: "anna@example.org"})
    assert review.project == "demo"
    assert (review.task_id, review.annotation_id, review.clip_id) == (12, 31, 7)
    assert review.updated_at == datetime(2026, 11, 21, 6, 28, 2, 796806)
    assert (review.annotator_id, review.annotator) == (3, "anna@example.org")
    assert (review.answer, review.labels, review.problem) == ("labels", ("Cat",), None)
    assert review.comment == "a “meow”\nfar away"
    assert review.lead_time_s == 5.25
    assert review.raw == json.dumps(annotation, ensure_ascii=False, sort_keys=True)


@pytest.mark.parametrize(
    ("result", "answer", "said"),
    [
        ([labels("Dog")], "labels", ("Dog",)),
        ([labels("Cat", "Dog", "Cat")], "labels", ("Dog", "Cat")),
        ([labels("Cat"), labels("Dog")], "labels", ("Dog", "Cat")),
        ([labels("bell\\u0007", "US$")], "labels", ("US$", "bell\x07")),
        ([], "none", ()),
        ([labels()], "none", ()),
        ([comment(" ")], "none", ()),
        ([verdict(NONE)], "none", ()),
        ([verdict(NONE, NONE), comment("x"), SECONDS], "none", ()),
        ([verdict(UNSURE)], "unsure", ()),
        ([verdict(UNSURE), labels("Cat", "Dog")], "unsure", ("Dog", "Cat")),
        ([verdict(NO_SOUND)], "no_sound", ()),
        ([verdict(), labels("Dog"), SECONDS, comment()], "labels", ("Dog",)),
    ],
)
def test_answer_and_labels(result, answer, said):
    review = read_one(*result)
    assert (review.answer, review.labels, review.problem) == (answer, said, None)


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ([verdict(NONE), labels("Dog")], "'none of these' and 'Dog' exclude"),
        ([labels("Dog"), verdict(NO_SOUND)], "'no usable sound' and 'Dog' exclude"),
        ([verdict(NONE, NO_SOUND)], "'none of these' and 'no usable sound' exclude"),
        ([verdict(NO_SOUND), verdict(NONE)], "'no usable sound' and 'none of these' exclude"),
        ([verdict(UNSURE, NO_SOUND)], "'unsure' and 'no usable sound' exclude"),
        ([SECONDS], "nothing is ticked"),
        ([comment("a tractor")], "nothing is ticked"),
        ([labels("Dgo")], "label 'Dgo' is no class"),
        ([labels("Dog", "Dgo")], "label 'Dgo' is no class"),
        ([labels("bell\x07")], r"label 'bell\x07' is no class"),
        ([labels("")], "label is empty"),
        ([verdict("perhaps")], "verdict 'perhaps' is unknown"),
        ([verdict("")], "verdict '' is unknown"),
        ([choices("tags", "Dog")], "control 'tags' is unknown"),
        ([labels("Dog"), choices("tags", "Dog")], "control 'tags' is unknown"),
        ([{"x": 1}], "an item {'x': 1}"),
        ([labels("Dog"), None], "an item None"),
        ([labels("Dog"), "Cat"], "an item 'Cat'"),
        ([{"from_name": ["labels"], "value": {"choices": ["Dog"]}}], "an item {"),
        ([{"from_name": "labels", "value": ["Dog"]}], "an item {"),
        ([{"from_name": "labels", "value": {"choices": "Dog"}}], "no list of texts"),
        ([{"from_name": "labels", "value": {"choices": [["Dog"]]}}], "no list of texts"),
        ([{"from_name": "labels", "value": {"choices": [1]}}], "no list of texts"),
        ([{"from_name": "labels", "value": {"labels": ["Dog"]}}], "no list of texts"),
        ([{"from_name": "verdict", "value": {"choices": None}}], "no list of texts"),
        ([{"from_name": "comment", "value": {"text": 3}}], "no list of texts"),
        ([{"from_name": "seconds", "value": 3}], "an item {"),
    ],
)
def test_unreadable_answer_goes_to_quarantine(result, says):
    review = read_one(*result)
    assert (review.answer, review.labels) == ("quarantined", ())
    assert says in review.problem
    assert ";" in review.problem and "\n" not in review.problem
    assert json.loads(review.raw)["result"] == result


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"result": None}, "the result is None"),
        ({"result": {"labels": ["Dog"]}}, "the result is {"),
        ({"was_cancelled": None}, "was_cancelled is None"),
        ({"was_cancelled": "false"}, "was_cancelled is 'false'"),
        ({"updated_at": None}, "updated_at is None"),
        ({"updated_at": "yesterday"}, "updated_at is 'yesterday'"),
        ({"updated_at": "0001-01-01T00:00:00+14:00"}, "updated_at is '0001"),
        ({"id": None}, "id of the annotation is None"),
        ({"id": "31"}, "id of the annotation is '31'"),
        ({"id": True}, "id of the annotation is True"),
        ({"id": 2**63}, "id of the annotation is 9223372036854775808"),
    ],
)
def test_annotation_with_odd_fields_goes_to_quarantine(other, says):
    for cancelled in ({}, {"was_cancelled": True}) if "result" not in other else ({},):
        review = read_one(labels("Dog"), **cancelled | other)
        assert (review.answer, review.labels) == ("quarantined", ())
        assert says in review.problem


@pytest.mark.parametrize("field", ["was_cancelled", "result", "id", "updated_at"])
def test_field_that_was_not_asked_for_is_not_guessed(field):
    annotation = annotate(labels("Dog"))
    del annotation[field]
    (review,) = read(annotation)
    assert review.answer == "quarantined" and field.split("_")[0] in review.problem


@pytest.mark.parametrize("clip_id", [None, True, "7", 7.0, [7], 2**63])
def test_clip_without_id_goes_to_quarantine(clip_id):
    for annotation in (annotate(labels("Dog")), annotate(was_cancelled=True)):
        (review,) = read(annotation, data={"clip_id": clip_id})
        assert (review.answer, review.clip_id) == ("quarantined", None)
        assert f"clip_id is {clip_id!r}" in review.problem


@pytest.mark.parametrize("task", [None, [], 3, {}, {"id": 5}, {"id": 5, "annotations": {"id": 1}}])
def test_task_without_annotations_is_not_silent(task):
    (review,) = read_answers(task, CLASSES, project="demo")
    assert (review.answer, review.annotation_id, review.updated_at.year) == ("quarantined", 0, 1970)
    assert "no annotation" in review.problem
    assert json.loads(review.raw) == task


def test_annotations_that_are_only_ids_are_not_silent():
    reviews = read(4, None, annotate(labels("Dog")))
    assert [review.answer for review in reviews] == ["quarantined", "quarantined", "labels"]


def test_task_nobody_answered_says_nothing():
    assert read() == []


@pytest.mark.parametrize(
    "result",
    [[labels("Dog", origin="prediction")], [verdict(NONE)], [], [{"x": 1}], [labels("Dgo")], None],
)
def test_skip_has_no_labels(result):
    (review,) = read(annotate() | {"result": result, "was_cancelled": True})
    assert (review.answer, review.labels, review.problem) == ("skipped", (), None)
    assert review.origin is None
    assert json.loads(review.raw)["result"] == result


def test_skip_keeps_its_comment():
    assert read_one(comment("too long"), was_cancelled=True).comment == "too long"


@pytest.mark.parametrize(
    ("origins", "origin"),
    [
        ([None], None),
        (["prediction"], "accepted"),
        (["prediction", "prediction"], "accepted"),
        (["manual"], "manual"),
        (["prediction-changed"], "changed"),
        (["prediction", "manual"], "changed"),
        (["prediction", None], "changed"),
        (["manual", "prediction-changed"], "changed"),
        ([], None),
    ],
)
def test_origin_of_an_answer(origins, origin):
    controls = [labels("Dog"), verdict(UNSURE)]
    items = [
        item | ({"origin": origin} if origin else {})
        for item, origin in zip(controls, origins, strict=False)
    ]
    marks = {"origin": "manual"}
    assert read_one(*items, SECONDS | marks, comment("x") | marks).origin == origin


def test_version_of_the_model_that_was_shown():
    there = {"predictions": [{"id": 1, "model_version": "old"}, {"id": 2, "model_version": "new"}]}
    mine = annotate(labels("Dog"), parent_prediction=2)
    assert read(mine, **there)[0].model_version == "new"
    assert read(mine | {"parent_prediction": 3}, **there)[0].model_version is None
    assert read(mine | {"parent_prediction": None}, **there)[0].model_version is None
    assert read(mine)[0].model_version is None
    assert read(mine, predictions=[1, 2])[0].model_version is None
    exported = mine | {"prediction": {"id": 2, "model_version": "of the export"}}
    assert read(exported, **there)[0].model_version == "of the export"
    assert read(mine | {"prediction": {}}, **there)[0].model_version == "new"


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (3, (3, "anna@example.org")),
        (4, (4, "annotator 4")),
        ({"id": 4, "email": "bo@example.org"}, (4, "bo@example.org")),
        ({"id": 3}, (3, "anna@example.org")),
        ({"id": 5, "email": ""}, (5, "annotator 5")),
        ({"email": "bo@example.org"}, (None, "bo@example.org")),
        (None, (None, "unknown annotator")),
        ("3", (None, "unknown annotator")),
        (True, (None, "unknown annotator")),
    ],
)
def test_annotator_by_id_or_by_user(who, expected):
    (review,) = read(annotate(completed_by=who), users={3: "anna@example.org"})
    assert (review.annotator_id, review.annotator) == expected


@pytest.mark.parametrize(
    "text", ["2026-01-02T03:04:05Z", "2026-01-02T05:04:05+02:00", "2026-01-02T03:04:05"]
)
def test_time_is_utc_without_a_zone(text):
    assert read_one(updated_at=text).updated_at == datetime(2026, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0.0), (1.5, 1.5), (None, None), ("x", None), (float("inf"), None), (10**400, None)],
)
def test_lead_time_is_a_finite_number_or_none(value, expected):
    assert read_one(lead_time=value).lead_time_s == expected


def test_renamed_labels_are_read():
    def answer(*ticked, **renames):
        (review,) = read(annotate(labels(*ticked)), renames=renames)
        return review

    assert answer("Hound").answer == "quarantined"
    assert answer("Hound", Hound="Dog").labels == ("Dog",)
    assert answer("Cat", "Hound", "Dog", Hound="Dog").labels == ("Dog", "Cat")
    lost = answer("Hound", Hound="Wolf")
    assert lost.answer == "quarantined" and "'Hound' is now called 'Wolf'" in lost.problem
    assert answer("Hound", Wolf="Dog").answer == "quarantined"


def test_lone_surrogates_can_be_stored():
    (review,) = read(
        annotate(labels("\ud800"), comment("\udfff"), completed_by={"email": "\ud800"})
    )
    for text in (review.raw, review.comment, review.annotator, review.problem):
        text.encode()
    assert json.loads(review.raw)["result"][0]["value"]["choices"] == ["\ud800"]


def test_unusable_vocabulary_is_refused():
    with pytest.raises(InvalidInput, match="2 times"):
        read(annotate(), classes=["Dog", "Dog"])


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.lists(
    st.sampled_from(["$a", "$", "\u200b", "\ufffd", "\x00", "\\", "\\u0000", "\\u005c", "a"]),
    min_size=1,
    max_size=5,
).map("".join)


@settings(deadline=None)
@given(st.lists(names, min_size=1, max_size=8, unique=True), st.data())
def test_any_class_comes_back(classes, data):
    # Those written as another is shown or stored are classes too.
    values = ElementTree.fromstring(create_page(classes)).findall(".//Choices[@name='labels']/*")
    others = [value for element in values for value in element.attrib.values()]
    classes = list(dict.fromkeys([*classes, *others]))
    picked = data.draw(st.lists(st.sampled_from(classes), unique=True))
    choices = ElementTree.fromstring(create_page(classes)).findall(".//Choices[@name='labels']/*")
    ticked = [
        element.get("alias") or element.get("value")
        for name, element in zip(classes, choices, strict=True)
        if name in picked
    ]
    (review,) = read(json.loads(json.dumps(annotate(labels(*ticked)))), classes=classes)
    assert review.labels == tuple(name for name in classes if name in picked)
    assert review.answer == ("labels" if picked else "none")
    suggested = create_prediction(picked, score=0.5, model_version="r")["result"]
    assert read(annotate(*suggested), classes=classes)[0].labels == review.labels


@settings(deadline=None)
@given(st.lists(st.sampled_from(CLASSES)), st.lists(st.sampled_from([NONE, UNSURE, NO_SOUND])))
def test_every_combination_has_one_answer(ticked, said):
    named = dict(zip(CLASSES, choice_names(CLASSES), strict=True))
    review = read_one(labels(*(named[name] for name in ticked)), verdict(*said))
    distinct = set(said)
    if not distinct:
        expected = "labels" if ticked else "none"
    elif len(distinct) > 1 or (ticked and distinct != {UNSURE}):
        expected = "quarantined"
    else:
        expected = {NONE: "none", UNSURE: "unsure", NO_SOUND: "no_sound"}[said[0]]
    assert review.answer == expected
    kept = set(ticked) if expected in ("labels", "unsure") else set()
    assert review.labels == tuple(name for name in CLASSES if name in kept)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(annotate(prediction=None))), json_values),
    st.dictionaries(st.sampled_from(["id", "data", "annotations", "predictions"]), json_values),
    st.lists(json_values | st.fixed_dictionaries({
        "from_name": st.sampled_from(["labels", "verdict", "seconds", "comment"]),
        "value": json_values | st.fixed_dictionaries({"choices": json_values, "text": json_values}),
    })),
)  # fmt: skip
def test_odd_content_is_never_raised_nor_dropped(fields, task, result):
    annotation = annotate(*result) | fields
    whole = task_of(annotation) | task
    reviews = read_answers(whole, CLASSES, project="demo", users={3: "anna@example.org"})
    there = whole["annotations"]
    assert len(reviews) == (len(there) if isinstance(there, list) else 1)
    for review in reviews:
        assert review.answer in ANSWERS
        assert (review.problem is None) == (review.answer != "quarantined")
        assert not review.labels or review.answer in ("labels", "unsure")
        assert review.updated_at.tzinfo is None
        json.loads(review.raw)
