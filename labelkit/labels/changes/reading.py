"""Reading the file of a change set, with every fault it may have.

What is read was written by somebody else, so each value is checked before anything is made
of it. Nothing here knows the store.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from labelkit.config.specs import MOST_FOLDS
from labelkit.datasets.reading import (
    HALVES,
    REMOVE,
    is_class_name,
    is_hash,
    is_length,
    shown,
)
from labelkit.errors import FaultyFile, InvalidInput
from labelkit.files import refuse_special
from labelkit.labels.changes.change_set import (
    VERSION,
    ChangeBatch,
    ChangeSet,
    NamedEvent,
    NamedVerdict,
    Origin,
    PriorState,
)
from labelkit.paths import is_clip_path
from labelkit.records import Clip
from labelkit.states import MACHINE_STATES, STATES

_VERDICTS = ("present", "absent", "unsure", "withdrawn")
# Deeper than any evidence is, and far from what a parser minds.
_DEPTH = 30
# Whether a value is right, and what a right one is in words.
_Check = tuple[Callable[[Any], bool], str]


def read_changes(file: Path) -> ChangeSet:
    """Read the file of a change set.

    Raises:
        FaultyFile: If there is any fault; all of them are listed.
        InvalidInput: If the file cannot be read.
    """
    refuse_special(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read ({error.strerror})") from error
    return parse_changes(content, str(file))


def parse_changes(content: bytes, name: str) -> ChangeSet:
    """Make a change set of the bytes of a file called ``name``.

    Raises:
        FaultyFile: If there is any fault; all of them are listed.
    """
    faults: list[str] = []
    data = _parse(content, faults)
    if not faults:
        version = data.get("labelkit_changes") if isinstance(data, dict) else None
        if type(version) is not int:
            faults.append("no change set; make one with: labelkit changes export FILE")
        elif version != VERSION:
            faults.append(f"of version {version}, this labelkit reads {VERSION}; "
                          "export it again, or install another labelkit")  # fmt: skip
    if not faults:
        found = _Reader(faults).read(data)
        if found is not None:
            return found
    raise FaultyFile(name, faults)


def _parse(content: bytes, faults: list[str]) -> Any:
    """Parse JSON, and note as faults what JSON allows and a change set does not."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            double = next(key for key in keys if keys.count(key) > 1)
            faults.append(f"key {shown(double)} is there twice in one object; keep one")
        return found

    def number(text: str) -> float | None:
        value = float(text)
        if not math.isfinite(value):
            faults.append(f"number {text[:40]}; numbers must be finite")
        return value

    try:
        data = json.loads(
            content.decode("utf-8-sig"), object_pairs_hook=unique, parse_float=number,
            parse_constant=number,
        )  # fmt: skip
    except (ValueError, RecursionError) as error:
        faults[:] = [f"not a JSON file ({str(error)[:80]}); "
                     "make one with: labelkit changes export FILE"]  # fmt: skip
        return None
    _walk(data, faults)
    return data


def _walk(data: Any, faults: list[str]) -> None:
    """Look for text that is no Unicode, and for depths that nothing honest has."""
    todo = [(data, 0)]
    while todo:
        value, depth = todo.pop()
        if depth > _DEPTH:
            faults.append(f"nested more than {_DEPTH} deep; remove what is there")
            return
        if isinstance(value, str) and HALVES.search(value):
            faults.append(f"text {shown(value)} holds half a character; mend it")
        if isinstance(value, dict):
            todo += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            todo += [(part, depth + 1) for part in value]


def _path(value: Any) -> bool:
    return isinstance(value, str) and is_clip_path(value)


_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?", re.ASCII)


def _time(value: Any, zone: bool = False) -> bool:
    try:
        return bool(_TIME.fullmatch(value)) and (
            datetime.fromisoformat(value).tzinfo is None or zone
        )
    except (ValueError, TypeError):
        return False


def _number(value: Any) -> bool:
    # A whole number may be too large for a float.
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value < high


def _evidence(value: Any) -> bool:
    """Tell whether evidence is an object in which the store can read what it looks for."""
    return (
        isinstance(value, dict)
        and (value.get("answered_at") is None or _time(value["answered_at"], zone=True))
        and (value.get("task") is None or _whole(value["task"], -(2**63), 2**63))
    )


def _of(choices: Sequence[str]) -> _Check:
    return lambda value: isinstance(value, str) and value in choices, f"of {', '.join(choices)}"


def _maybe(check: _Check) -> _Check:
    return lambda value: value is None or check[0](value), f"null or {check[1]}"


def _list(check: _Check) -> _Check:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and all(map(check[0], value)) and (
            len(set(value)) == len(value)
        )  # fmt: skip

    return fits, f"a list, each entry {check[1]}, none twice"


_TEXT = (lambda value: isinstance(value, str), "text")
_NAME = (
    lambda value: isinstance(value, str) and is_class_name(value),
    f"a name in printable text, and not {REMOVE}",
)
_FLAG = (lambda value: isinstance(value, bool), "true or false")
_WHEN = (_time, "a time in UTC, 2026-01-31T12:00:00 say")
_AMOUNT = (_number, "a finite number")
_LENGTH = (lambda value: _number(value) and is_length(value), "seconds, not below 0")
_HASH = (lambda value: isinstance(value, str) and is_hash(value), "32 hex digits")
# Keys that sets of before do not have.
_LATER: dict[str, frozenset[str]] = {"clip": frozenset({"domain"})}
_ANY = (lambda value: True, "anything")
_PLACE = (_path, "a path below the audio folder")
_NAMES, _STATE = _list(_NAME), _of(STATES)
_ROWS = (lambda value: isinstance(value, list), "a list")
# What every object holds, key by key: a check, and what it wants in words.
_RECORDS: dict[str, dict[str, _Check]] = {
    "set": {
        "labelkit_changes": _ANY, "store_id": _TEXT, "made_at": _maybe(_WHEN),
        "since": _maybe(_WHEN), "people": _FLAG, "classes": _NAMES,
        "shared_recordings": _list(_HASH), "batches": _ROWS,
    },
    "origin": {"key": _TEXT, "made_at": _WHEN, "store_id": _TEXT},
    "batch": {
        "origin": _ANY, "kind": _TEXT, "actor": _TEXT, "by_person": _FLAG, "reason": _TEXT,
        "undoes": _ANY, "classes": _NAMES, "clips": _ROWS, "events": _ROWS, "verdicts": _ROWS,
    },
    "clip": {
        "path": _PLACE, "labels": _NAMES, "state": _STATE, "group": _maybe(_TEXT),
        "fold": _maybe(
            (lambda value: _whole(value, 0, MOST_FOLDS), f"a whole number up to {MOST_FOLDS - 1}")
        ),
        "subset": _of(("train", "test")), "content_hash": _maybe(_HASH),
        "duration_s": _maybe(_LENGTH), "domain": _maybe(_TEXT),
    },
    "event": {
        "path": _PLACE, "content_hash": _maybe(_HASH), "before": _ANY, "state": _STATE,
        "labels": _NAMES, "source": _TEXT, "score": _maybe(_AMOUNT),
        "iteration": _maybe((lambda v: _whole(v, -(2**31), 2**31), "a whole number")),
        "evidence": _maybe((_evidence, "an object; its answered_at a time, its task a number")),
    },
    "before": {"state": _STATE, "labels": _NAMES, "batch": _TEXT},
    "verdict": {
        "path": _PLACE, "content_hash": _maybe(_HASH), "class": _NAME, "verdict": _of(_VERDICTS),
        "rule": _TEXT, "score": _maybe(_AMOUNT), "start_s": _maybe(_AMOUNT),
        "end_s": _maybe(_AMOUNT),
    },
}  # fmt: skip


class _Reader:
    """Objects of a file made records, with a line for each fault."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        self.classes: set[str] = set()
        # Contents of every clip named so far, and the origins of batches.
        self.clips: dict[str, str | None] = {}
        # Whether a person made each batch, by its origin.
        self.by_person: dict[str, bool] = {}

    def read(self, data: Any) -> ChangeSet | None:
        """Make the change set; None where there are faults."""
        values = self._check("set", data, "file")
        if values is None:
            return None
        del values["labelkit_changes"]
        self.classes = set(values["classes"])
        batches = [self._batch(row, f"batches[{n}]") for n, row in enumerate(data["batches"])]
        return None if self.faults else ChangeSet(**values | {"batches": tuple(batches)})

    def _check(self, kind: str, value: Any, where: str) -> dict[str, Any] | None:
        """Check an object and give its values as Python holds them; None if anything is wrong."""
        wanted, before = _RECORDS[kind], len(self.faults)
        if not isinstance(value, dict):
            self.faults.append(f"{where} is {shown(value)}; give an object")
            return None
        for key in wanted.keys() - value.keys() - _LATER.get(kind, frozenset()):
            self.faults.append(f"{where} has no {key}; give it")
        for key in value.keys() - wanted.keys():
            self.faults.append(f"{where} has {shown(key)}, which nothing reads; remove it")
        for key in wanted.keys() & value.keys():
            fits, words = wanted[key]
            if not fits(value[key]):
                self.faults.append(f"{where}.{key} is {shown(value[key])}; it must be {words}")
        self.faults[before:] = sorted(self.faults[before:])
        if len(self.faults) > before:
            return None
        return {key: _python(key, part) for key, part in value.items()}

    def _rows(self, kind: str, rows: list[Any], where: str) -> list[tuple[str, dict[str, Any]]]:
        """Find the objects that are right, each with where it is."""
        checked = [(f"{where}[{n}]", row) for n, row in enumerate(rows)]
        found = [(place, self._check(kind, row, place)) for place, row in checked]
        return [(place, values) for place, values in found if values is not None]

    def _batch(self, data: Any, where: str) -> ChangeBatch | None:
        values = self._check("batch", data, where)
        if values is None:
            return None
        origin = self._check("origin", data["origin"], f"{where}.origin")
        undoes = None
        if data["undoes"] is not None:
            undoes = self._check("origin", data["undoes"], f"{where}.undoes")
        self._name_classes(values["classes"], where)
        clips = [
            self._clip(place, row, values["by_person"])
            for place, row in self._rows("clip", data["clips"], f"{where}.clips")
        ]
        events = [
            self._event(place, row, values["by_person"])
            for place, row in self._rows("event", data["events"], f"{where}.events")
        ]
        verdicts = [
            self._verdict(place, row)
            for place, row in self._rows("verdict", data["verdicts"], f"{where}.verdicts")
        ]
        if self.faults or origin is None:
            return None
        made = Origin(**origin)
        if made.id in self.by_person:
            self.faults.append(f"{where}: batch {shown(made.key)} is there twice; keep one")
        self.by_person[made.id] = values["by_person"]
        taken = undoes and Origin(**undoes)
        # An undo that brings back what a person decided is a person's, whatever it takes back.
        by_person = values["by_person"]
        restores = by_person and any(e and e.state not in MACHINE_STATES for e in events)
        if taken and not restores and self.by_person.get(taken.id, by_person) != by_person:
            self.faults.append(
                f"{where}: by_person is {values['by_person']}, of the batch it takes back it is "
                "not; give the same"
            )
        return ChangeBatch(**values | {
            "origin": made, "undoes": taken, "clips": tuple(clips),
            "events": tuple(events), "verdicts": tuple(verdicts),
        })  # fmt: skip

    def _clip(self, where: str, row: dict[str, Any], by_person: bool) -> Clip:
        if row["path"] in self.clips:
            self.faults.append(
                f"{where}: clip {shown(row['path'])} comes in, but was named before; keep one"
            )
        if not by_person and row["state"] not in MACHINE_STATES:
            self.faults.append(
                f"{where}: a machine brings a clip in as {row['state']}; "
                f"it may give {' or '.join(MACHINE_STATES)}"
            )
        self._know(where, row)
        self._name_classes(row["labels"], where)
        return Clip(**row)

    def _event(self, where: str, row: dict[str, Any], by_person: bool) -> NamedEvent | None:
        before = self._check("before", row["before"], f"{where}.before")
        self._know(where, row)
        if before is None:
            return None
        self._name_classes({*row["labels"], *before["labels"]}, where)
        if not by_person and not {row["state"], before["state"]} <= {*MACHINE_STATES}:
            self.faults.append(
                f"{where}: a machine makes a clip {row['state']} that was {before['state']}; "
                f"it decides only between {' and '.join(MACHINE_STATES)}"
            )
        return NamedEvent(**row | {"before": PriorState(**before)})

    def _verdict(self, where: str, row: dict[str, Any]) -> NamedVerdict:
        self._know(where, row)
        name, start_s, end_s = row.pop("class"), row["start_s"], row["end_s"]
        self._name_classes([name], where)
        if (start_s is None) != (end_s is None) or (start_s is not None and start_s >= end_s):
            self.faults.append(
                f"{where} is of seconds {start_s} to {end_s}; give both, the first before the "
                "last, or null twice"
            )
        return NamedVerdict(name=name, **row)

    def _know(self, where: str, row: dict[str, Any]) -> None:
        path, content = row["path"], row["content_hash"]
        if self.clips.setdefault(path, content) != content:
            self.faults.append(
                f"{where}: clip {shown(path)} has another content_hash than before; give the same"
            )

    def _name_classes(self, names: Any, where: str) -> None:
        for name in sorted({*names} - self.classes):
            self.faults.append(
                f"{where}: class {shown(name)} is not among the classes of the file; add it there"
            )


def _python(key: str, value: Any) -> Any:
    if key in ("made_at", "since") and value is not None:
        return datetime.fromisoformat(value)
    # Labels are a set; told in one order, two of them are the same or not.
    if key == "labels":
        return tuple(sorted(value))
    return tuple(value) if key in ("classes", "shared_recordings") else value
