"""What people answered: a task as Label Studio gives it, to reviews.

Nothing is dropped and nothing guessed: an annotation that cannot be read becomes a review in
quarantine that says why, and a skipped task has no labels although Label Studio sends along
what the model had ticked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from labelkit.label_studio.page import CONTROLS, NO_SOUND, NONE, UNSURE, choice_names
from labelkit.records import Review

_ANSWERS = {NONE: "none", UNSURE: "unsure", NO_SOUND: "no_sound"}
EPOCH = datetime(1970, 1, 1)
_CORRECT = "correct the answer in Label Studio"
# What lets a clip have several labels, in a project where it has one.
SEVERAL_COMMAND = "labelkit labels several"


class _Unreadable(Exception):
    """Why an annotation is no answer, and what to do."""


def read_answers(
    task: Mapping[str, Any],
    classes: Sequence[str],
    *,
    project: str,
    users: Mapping[int, str] | None = None,
    renames: Mapping[str, str] | None = None,
    several: bool = True,
) -> list[Review]:
    """Read the annotations of a task, one review each.

    Args:
        task: A task of the server's list, of ``Client.task`` or of a JSON export.
        classes: Class names of the vocabulary.
        project: Name of the review project.
        users: E-mail address of each annotator id.
        renames: What a label in Label Studio is called in the vocabulary, where they differ.
        several: Whether a clip may have several labels; where it may not, an answer with several
            comes of another page, or of none, and ends in quarantine.

    Returns:
        Reviews in the order of the annotations; odd content ends in quarantine. An id that
        is missing is 0, a missing time 1970.

    Raises:
        InvalidInput: If the vocabulary is unusable.

    Example:
        >>> item = {"from_name": "labels", "type": "choices", "value": {"choices": ["Dog"]}}
        >>> mark = {"id": 5, "updated_at": "2026-01-02T03:04:05Z", "was_cancelled": False}
        >>> task = {"id": 9, "data": {"clip_id": 7}, "annotations": [{**mark, "result": [item]}]}
        >>> [(r.clip_id, r.answer, r.labels) for r in read_answers(task, ["Dog"], project="p")]
        [(7, 'labels', ('Dog',))]
    """
    known = _by_choice(tuple(classes)) | dict(renames or {})
    order = {name: index for index, name in enumerate(classes)}
    content = _mapping(task)
    annotations = content.get("annotations")
    # Without a list there is no telling what was answered: the task itself stands for it.
    found = annotations if isinstance(annotations, list) else [task]
    reviews = [_review(a, content, known, order, project, users or {}) for a in found]
    return reviews if several else [_refuse_several(review) for review in reviews]


def _refuse_several(review: Review) -> Review:
    """Put an answer with several labels into quarantine, where a clip has one."""
    if review.answer != "labels" or len(review.labels) < 2:
        return review
    ticked = " and ".join(_brief(name) for name in review.labels[:3])
    more = f" and {n} more" if (n := len(review.labels) - 3) > 0 else ""
    problem = (
        f"{ticked}{more} are ticked, but a clip has one label in this project; {_CORRECT}, "
        f"or let clips have several with: {SEVERAL_COMMAND}"
    )
    return replace(review, answer="quarantined", labels=(), problem=problem)


def is_foreign(task: object) -> bool:
    """Tell whether a task was not made by labelkit, whose tasks all name clip and path.

    Others count their clips, too: a number alone says nothing.

    Example:
        >>> ours, theirs = {"clip_id": 7, "path": "a.wav"}, {"clip_id": 7, "audio": "/a.wav"}
        >>> is_foreign({"data": ours}), is_foreign({"data": theirs})
        (False, True)
    """
    data = _mapping(_mapping(task).get("data"))
    return type(data.get("clip_id")) is not int or not isinstance(data.get("path"), str)


def read_labels(annotation: object) -> list[str]:
    """List the labels that are ticked in an annotation, as far as it can be read."""
    found: list[str] = []
    for item in _items_of(_mapping(annotation), "labels"):
        with suppress(_Unreadable):
            found += _read_item(item)[1]
    return found


def is_by_nobody(annotation: object) -> bool:
    """Tell whether an annotation came about without anybody who listened.

    So are those that Label Studio makes of predictions in bulk, or of other annotations, and
    those that were imported with a task: its page sends how long somebody took, and writes into
    each mark where it came from.
    """
    fields = _mapping(annotation)
    items = fields.get("result")
    if not isinstance(items, list) or fields.get("was_cancelled") is not False:
        return False
    if fields.get("lead_time") is not None:
        return False
    if fields.get("parent_annotation"):
        # Marks are copied with where they came from on the task that somebody listened to.
        return True
    if any(_mapping(item).get("origin") for item in items):
        return False
    return bool(fields.get("parent_prediction")) or "lead_time" in fields


def is_copy(annotation: object, other: object) -> bool:
    """Tell whether an annotation was imported from another one: same marks, same time it took."""
    mine, theirs = _mapping(annotation), _mapping(other)
    if mine.get("id") == theirs.get("id") and mine.get("updated_at") == theirs.get("updated_at"):
        return False  # The very same, whose task came back.
    return mine.get("lead_time") is not None and all(
        mine.get(key) == theirs.get(key) for key in ("result", "lead_time", "was_cancelled")
    )


@lru_cache(maxsize=8)
def _by_choice(classes: tuple[str, ...]) -> dict[str, str]:
    """Map each choice name to its class; thousands of tasks share a vocabulary."""
    return dict(zip(choice_names(classes), classes, strict=True))


def _review(
    annotation: object,
    task: Mapping[str, Any],
    known: Mapping[str, str],
    order: Mapping[str, int],
    project: str,
    users: Mapping[int, str],
) -> Review:
    fields = {} if annotation is task else _mapping(annotation)
    annotator_id, annotator = _annotator(fields.get("completed_by"), users)
    clip_id = _whole_number(_mapping(task.get("data")).get("clip_id"))
    updated_at = read_time(fields.get("updated_at"))
    answer, labels = "quarantined", tuple[str, ...]()
    problem = _problem(fields, task, clip_id, updated_at)
    if problem is None:
        try:
            answer, labels = _read_result(fields, known, order)
        except _Unreadable as error:
            problem = str(error)
    return Review(
        project=project,
        task_id=_whole_number(task.get("id")) or 0,
        annotation_id=_whole_number(fields.get("id")) or 0,
        updated_at=updated_at or EPOCH,
        clip_id=clip_id,
        annotator_id=annotator_id,
        annotator=annotator,
        answer=answer,
        labels=labels,
        comment=_comment(fields),
        origin=_origin(fields),
        model_version=_model_version(fields, task),
        lead_time_s=_seconds(fields.get("lead_time")),
        problem=problem,
        raw=_verbatim(annotation),
    )


def _problem(
    fields: Mapping[str, Any],
    task: Mapping[str, Any],
    clip_id: int | None,
    updated_at: datetime | None,
) -> str | None:
    """Say why an annotation is no answer to anything, whatever it says."""
    remedy = "pull it again, or give a JSON export of the project"
    if not fields:
        return f"there is no annotation to read; {remedy}"
    for name, value in (("task", task.get("id")), ("annotation", fields.get("id"))):
        if _whole_number(value) is None:
            return f"the id of the {name} is {_brief(value)}; {remedy}"
    if updated_at is None:
        return f"updated_at is {_brief(fields.get('updated_at'))}, no time; {remedy}"
    if not isinstance(fields.get("was_cancelled"), bool):
        # Read as an answer, a skip would make labels of what the model had ticked.
        return f"was_cancelled is {_brief(fields.get('was_cancelled'))}, no true or false; {remedy}"
    if clip_id is None:
        value = _mapping(task.get("data")).get("clip_id")
        return f"the task's clip_id is {_brief(value)}, no clip's; send the clip with labelkit push"
    return None


def _read_result(
    fields: Mapping[str, Any], known: Mapping[str, str], order: Mapping[str, int]
) -> tuple[str, tuple[str, ...]]:
    """Return the answer, and its labels in the order of the vocabulary."""
    if fields["was_cancelled"]:
        return "skipped", ()
    items = fields.get("result")
    if not isinstance(items, list):
        raise _Unreadable(f"the result is {_brief(items)}, no list; {_CORRECT}")
    ticked: dict[str, dict[str, None]] = {"labels": {}, "verdict": {}}
    marked = False
    for item in items:
        control, texts = _read_item(item)
        if control in ticked:
            ticked[control] |= dict.fromkeys(texts)
        marked |= control == "seconds" or any(text.strip() for text in texts)
    labels = {_class_of(label, known, order) for label in ticked["labels"]}
    for verdict in ticked["verdict"]:
        if verdict not in _ANSWERS:
            raise _Unreadable(f"verdict {_brief(verdict)} is unknown; {_CORRECT}")
    ticks = [*ticked["verdict"], *ticked["labels"]]
    exclusive = len(ticked["verdict"]) > 1 or NONE in ticks[:1] or NO_SOUND in ticks[:1]
    if exclusive and len(ticks) > 1:
        raise _Unreadable(f"{ticks[0]!r} and {ticks[1]!r} exclude each other; {_CORRECT}")
    if not ticks and marked:
        # Somebody who writes that nothing can be heard does not mean that nothing is there.
        raise _Unreadable(f"nothing is ticked; {_CORRECT}: tick a class, or {NONE!r}")
    answer = _ANSWERS[ticks[0]] if ticked["verdict"] else "labels" if labels else "none"
    return answer, tuple(sorted(labels, key=order.__getitem__))


def _read_item(item: object) -> tuple[str, list[str]]:
    """Return control and texts of an item of a result; marked seconds have none."""
    control, value = (_mapping(item).get(key) for key in ("from_name", "value"))
    if not isinstance(control, str) or not isinstance(value, Mapping):
        raise _Unreadable(f"the result has an item {_brief(item)}; {_CORRECT}")
    if control not in CONTROLS:
        raise _Unreadable(
            f"control {_brief(control)} is unknown; take it out of the page and the answer"
        )
    if control == "seconds":
        return control, []
    texts = value.get("text" if control == "comment" else "choices")
    if control == "comment" and isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _Unreadable(f"{control} is {_brief(value)}, no list of texts; {_CORRECT}")
    return control, texts


def _class_of(label: str, known: Mapping[str, str], order: Mapping[str, int]) -> str:
    if not label:
        raise _Unreadable(f"a label is empty; {_CORRECT}")
    name, shown = known.get(label), _brief(label)
    if name is None:
        raise _Unreadable(
            f"label {shown} is no class; {_CORRECT}, add the class, or say what it is called now"
        )
    if name not in order:
        raise _Unreadable(f"label {shown} is now called {name!r}, but that is no class; name one")
    return name


def _items_of(fields: Mapping[str, Any], *controls: str) -> Iterator[Mapping[str, Any]]:
    """Yield the items of the controls, as far as they can be read."""
    items = fields.get("result")
    for item in items if isinstance(items, list) else []:
        if _mapping(item).get("from_name") in controls:
            yield item


def _comment(fields: Mapping[str, Any]) -> str | None:
    lines = []
    for item in _items_of(fields, "comment"):
        try:
            lines += _read_item(item)[1]
        except _Unreadable:
            continue
    return _storable("\n".join(lines)) or None


def _origin(fields: Mapping[str, Any]) -> str | None:
    """Tell what became of the suggestion; a skip says nothing of it."""
    origins = {_brief(item.get("origin")) for item in _items_of(fields, "labels", "verdict")}
    if fields.get("was_cancelled") or origins <= {"None"}:
        return None
    if len(origins) > 1:
        return "changed"
    return {"'prediction'": "accepted", "'manual'": "manual"}.get(origins.pop(), "changed")


def _model_version(fields: Mapping[str, Any], task: Mapping[str, Any]) -> str | None:
    """Return the version of the model whose prediction was shown, of an export or by its id."""
    shown = _mapping(fields.get("prediction"))
    parent, predictions = fields.get("parent_prediction"), task.get("predictions")
    if "model_version" not in shown and _whole_number(parent) is not None:
        predictions = predictions if isinstance(predictions, list) else []
        same = (_mapping(each) for each in predictions if _mapping(each).get("id") == parent)
        shown = next(same, {})
    version = shown.get("model_version")
    return _storable(version) if isinstance(version, str) and version else None


def _annotator(who: object, users: Mapping[int, str]) -> tuple[int | None, str]:
    """Return id and e-mail address of an annotator, given as an id or as a user."""
    user = _mapping(who)
    number = _whole_number(user.get("id") if user else who)
    email = user.get("email") or (users.get(number) if number is not None else None)
    if isinstance(email, str):
        return number, _storable(email)
    return number, "unknown annotator" if number is None else f"annotator {number}"


def read_time(text: Any) -> datetime | None:
    """Return a time in UTC without a zone, as the store keeps it; None if it is none."""
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo is None else time.astimezone(UTC)).replace(tzinfo=None)
    except (TypeError, ValueError, OverflowError):
        return None


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def _whole_number(value: object) -> int | None:
    """Return the value if it is a whole number that the store can hold."""
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _verbatim(annotation: object) -> str:
    return _storable(json.dumps(annotation, ensure_ascii=False, sort_keys=True))


def _storable(text: str) -> str:
    """Write lone surrogates, which no UTF-8 can hold, by their code."""
    return text.encode(errors="backslashreplace").decode()


def _brief(value: object) -> str:
    """Return the value in at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
