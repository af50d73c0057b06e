"""What is sent to Label Studio: tasks and predictions.

They are checked here, as the server takes everything. A task is a dict as
``Client.import_tasks`` takes it. A prediction fills in the page for the annotator; its score
orders the queue, lowest first.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, TypeGuard

from labelkit.label_studio.page import (
    CONTROLS,
    DOUBTFUL,
    EXAMPLE_KEYS,
    KEYS,
    choice_name,
    readable,
)


def create_task(
    *,
    audio: str,
    clip_id: int,
    path: str,
    given: Sequence[str],
    suggested: Sequence[str] = (),
    reason: str = "",
    prediction: dict[str, Any] | None = None,
    blind: bool = False,
    given_example: tuple[str, str] | None = None,
    suggested_example: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Describe a clip to the annotator.

    Args:
        audio: URL of the recording, as a browser gets it.
        clip_id: The store's id; answers come back with it.
        path: Path below the audio folder.
        given: Class names of the labels so far.
        suggested: Class names the model would give.
        reason: Why the clip is asked about, in plain words.
        prediction: Result of :func:`create_prediction` to send along.
        blind: Leave out what is suggested and why.
        given_example: Class and URL of a recording to compare with, of a label so far.
        suggested_example: The same of a suggested one.

    Returns:
        A task: ``data``, and ``predictions`` if there is one.

    Example:
        >>> task = create_task(audio="/a.wav", clip_id=7, path="a.wav", given=["Dog", "Cat"])
        >>> task["data"]["given"], task["data"]["suggested"]
        ('Dog, Cat', 'nothing')
    """
    data = {"audio": audio, "clip_id": clip_id, "path": path, "given": _in_words(given)}
    data |= _example("given", given_example)
    if not blind:
        data |= _example("suggested", suggested_example)
        data |= {
            "suggested": _in_words(suggested) if suggested else "nothing",
            "reason": readable(reason) or "not said",
        }
    return {"data": data} | ({"predictions": [prediction]} if prediction else {})


def create_prediction(
    suggested: Sequence[str],
    *,
    score: float,
    model_version: str,
    region: tuple[float, float] | None = None,
    blind: bool = False,
    several: bool = True,
) -> dict[str, Any]:
    """Fill in the page for the annotator, or in blind mode only give the clip its place.

    Args:
        suggested: Class names to tick.
        score: How trustworthy the labels so far are, in [0, 1]; lower is asked earlier.
        model_version: Which model suggests it.
        region: Start and end of the doubtful seconds.
        blind: Tick and mark nothing.
        several: Tick several classes, too; where a clip has one, several are a question of which,
            and none is ticked.

    Example:
        >>> create_prediction(["Dog"], score=0.25, model_version="r1")["result"][0]["value"]
        {'choices': ['Dog']}
    """
    result = []
    if suggested and not blind and (several or len(suggested) == 1):
        result.append(_item("labels", {"choices": [choice_name(name) for name in suggested]}))
    if region and not blind:
        start, end = region
        result.append(_item("seconds", {"start": start, "end": end, "labels": [DOUBTFUL]}))
    return {"model_version": model_version, "score": score, "result": result}


def check_task(
    task: dict[str, Any],
    names: Collection[str],
    *,
    keys: Collection[str] = KEYS,
    duration_s: float | None = None,
) -> str | None:
    """Say why a task must not be sent, if it must not.

    Args:
        task: Result of :func:`create_task`.
        names: Choice names of the vocabulary.
        keys: Data keys the page asks for, :attr:`Page.keys`.
        duration_s: Length of the recording in seconds, if known.

    Returns:
        One line with the remedy, or None if the task may be sent.

    Example:
        >>> prediction = create_prediction(["Dgo"], score=0.5, model_version="r1")
        >>> clip = {"audio": "/a.wav", "clip_id": 7, "path": "a.wav", "given": []}
        >>> check_task(create_task(**clip, prediction=prediction), ["Dog"])
        "clip 'a.wav': suggested label 'Dgo' is no class of the page; update the page, then push"
    """
    data = task.get("data", {})
    problem = _data_problem(data, keys)
    for prediction in task.get("predictions", []):
        problem = problem or _prediction_problem(prediction, names, duration_s)
    return problem and f"clip {data.get('path')!r}: {problem}"


def _example(key: str, example: tuple[str, str] | None) -> dict[str, str]:
    """Write an example's class and URL into the data of a task; both are empty without one."""
    name, url = example or ("", "")
    return {f"{key}_example": url, f"{key}_example_of": f"{readable(name)}:" if name else ""}


def _in_words(names: Sequence[str]) -> str:
    return readable(", ".join(names)) or "none"


def _item(control: str, value: dict[str, Any]) -> dict[str, Any]:
    kind = CONTROLS[control].lower()
    return {"from_name": control, "to_name": "audio", "type": kind, "value": value}


def _data_problem(data: dict[str, Any], keys: Collection[str]) -> str | None:
    missing = sorted({*KEYS, *keys} - set(data))
    if missing:
        return f"the task has no {missing[0]!r}, which the page asks for; take it out of the page"
    if type(data["clip_id"]) is not int:
        return f"clip_id must be a whole number, got {data['clip_id']!r}; take it from the store"
    wrong = [
        key for key, value in data.items()
        if key != "clip_id" and not _is_text(value) and not (key in EXAMPLE_KEYS and value == "")
    ]  # fmt: skip
    if wrong:
        return f"{wrong[0]} must be a text, got {data[wrong[0]]!r}; give one"
    return None


def _prediction_problem(
    prediction: dict[str, Any], names: Collection[str], duration_s: float | None
) -> str | None:
    score, version = prediction["score"], prediction["model_version"]
    if not _is_number(score) or not 0 <= score <= 1:
        return f"score must be a number in [0, 1], got {score!r}; score the clips anew"
    if not _is_text(version):
        return f"model_version must be a text, got {version!r}; name the run"
    for item in prediction["result"]:
        control, value = item.get("from_name"), item.get("value", {})
        if control not in ("labels", "seconds") or item != _item(control, value):
            return f"the prediction fills in {control!r} wrongly; make it with create_prediction"
        problem = (
            _choices_problem(value.get("choices"), names)
            if control == "labels"
            else _region_problem(value, duration_s)
        )
        if problem:
            return problem
    return None


def _choices_problem(choices: object, names: Collection[str]) -> str | None:
    if not isinstance(choices, list) or not choices:
        return f"the prediction must suggest a list of labels, got {choices!r}; leave it out"
    unknown = [choice for choice in choices if choice not in names]
    if unknown:
        return f"suggested label {unknown[0]!r} is no class of the page; update the page, then push"
    if len(set(choices)) < len(choices):
        return f"the suggested labels repeat one: {choices!r}; name each once"
    return None


def _region_problem(value: dict[str, Any], duration_s: float | None) -> str | None:
    start, end = value.get("start"), value.get("end")
    longest = math.inf if duration_s is None else duration_s
    if not (_is_number(start) and _is_number(end) and 0 <= start < end <= longest):
        within = "" if duration_s is None else f" of a recording of {duration_s:g} s"
        return f"the doubtful seconds {start!r} to {end!r} are no part{within}; cut them to it"
    if value.get("labels") != [DOUBTFUL]:
        return f"the doubtful seconds are called {value.get('labels')!r}; call them {DOUBTFUL!r}"
    return None


def _is_number(value: object) -> TypeGuard[float]:
    """Tell whether it is a finite number as JSON knows it."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
