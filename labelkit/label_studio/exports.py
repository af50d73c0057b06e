"""Exports of projects in Label Studio that labelkit did not make: which recording, which choices.

Their pages have other controls, and their tasks know nothing of a store. An answer is written
anew as labelkit's own page would have given it, and nothing of it is guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from labelkit.audio.io import EXTENSIONS
from labelkit.datasets.matching import name_before_upload
from labelkit.errors import InvalidInput
from labelkit.label_studio.answers import is_by_nobody, is_foreign
from labelkit.label_studio.page import choice_name


@dataclass
class ForeignTask:
    """A task of an export: what its recording may be called, and its answers.

    Attributes:
        number: Its number in the project.
        project: The number of the project, if the export says it.
        names: Paths of its recording, the likeliest first.
        annotations: As labelkit's page would have given them.
        labels: Class names that people ticked, and how often.
        most_ticked: Classes that somebody ticked at once.
    """

    number: int
    project: int | None
    names: tuple[str, ...]
    annotations: list[dict[str, Any]]
    labels: Counter[str] = field(default_factory=Counter)
    most_ticked: int = 0

    @property
    def is_upload(self) -> bool:
        """Whether the recording was uploaded, and has digits of its own before its name."""
        return name_before_upload(self.names[-1]) is not None


@dataclass
class ForeignExport:
    """What an export holds.

    ``own`` counts tasks that labelkit made, ``unticked`` annotations in which no choice is
    ticked, ``seconds`` marks that are of some seconds only, ``drafts`` what was never submitted,
    ``others`` annotations without choices by the kind of mark they hold instead; ``nameless`` are
    tasks without a recording.
    """

    tasks: list[ForeignTask] = field(default_factory=list)
    own: int = 0
    unticked: int = 0
    seconds: int = 0
    drafts: int = 0
    others: Counter[str] = field(default_factory=Counter)
    nameless: list[int] = field(default_factory=list)

    @property
    def holds_answers(self) -> bool:
        """Whether anything is in it that somebody may take for an answer."""
        left_out = self.unticked + self.seconds + self.drafts + self.others.total()
        return left_out > 0 or any(task.annotations for task in self.tasks)


def read_foreign(
    tasks: Sequence[Mapping[str, Any]], *, key: str | None = None, control: str | None = None
) -> ForeignExport:
    """Read the tasks of an export of a project that is not labelkit's.

    Args:
        tasks: Tasks with their annotations, as JSON has them.
        key: Where in a task's data the recording is named; found out if None.
        control: Name of the choices that are classes; the only ones there are if None.

    Raises:
        InvalidInput: If it cannot be told which choices or which recordings are meant.

    Example:
        >>> item = {"from_name": "c", "type": "choices", "value": {"choices": ["Dog"]}}
        >>> task = {"id": 1, "data": {"audio": "/data/upload/1/0a1b2c3d-a.wav"},
        ...         "annotations": [{"id": 2, "result": [item], "lead_time": 2.0,
        ...                          "was_cancelled": False}]}
        >>> [found] = read_foreign([task]).tasks
        >>> found.names, list(found.labels)
        (('a.wav', '0a1b2c3d-a.wav'), ['Dog'])
    """
    found = ForeignExport()
    foreign = [task for task in tasks if is_foreign(task)]
    found.own = len(tasks) - len(foreign)
    control = _find_control(foreign, control)
    for task in foreign:
        drafts = task.get("drafts")
        found.drafts += len(drafts) if isinstance(drafts, list) else 0
        names = _names_of(task, key)
        if not names:
            found.nameless.append(task["id"])
            continue
        project = task.get("project")
        read = ForeignTask(task["id"], project if type(project) is int else None, names, [])
        for annotation in task["annotations"]:
            translated = _translate(annotation, control, read, found)
            if translated is not None:
                read.annotations.append(translated)
        found.tasks.append(read)
    return found


def _find_control(tasks: Sequence[Mapping[str, Any]], wanted: str | None) -> str | None:
    controls = Counter(
        item["from_name"]
        for task in tasks
        for annotation in task["annotations"]
        for item in _items(annotation)
        if item.get("type") == "choices" and isinstance(item.get("from_name"), str)
    )
    known = ", ".join(sorted(controls)) or "none"
    if wanted is not None and wanted not in controls:
        raise InvalidInput(f"no choices called {wanted!r} in the answers; there are: {known}")
    if wanted is None and len(controls) > 1:
        raise InvalidInput(
            f"several choices are in the answers, {known}; say which are classes, "
            f"--label-column {min(controls)} say"
        )
    return wanted or next(iter(controls), None)


def _translate(
    annotation: object, control: str | None, task: ForeignTask, found: ForeignExport
) -> dict[str, Any] | None:
    """Write an annotation as labelkit's page gives it; None where it ticks nothing."""
    if not isinstance(annotation, Mapping):
        return {"result": annotation}
    items = []
    for item in _items(annotation):
        value = item.get("value")
        value = value if isinstance(value, Mapping) else {}
        if "start" in value or "end" in value:
            found.seconds += 1
        elif item.get("type") == "choices" and item.get("from_name") == control:
            names = value.get("choices")
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                plain = [name.strip() for name in names]
                if not is_by_nobody(annotation) and annotation.get("was_cancelled") is False:
                    task.labels.update(plain)
                    task.most_ticked = max(task.most_ticked, len(set(plain)))
                choices = [choice_name(name) for name in plain]
                items.append({**item, "from_name": "labels", "value": {"choices": choices}})
        elif item.get("type") == "textarea":
            items.append({**item, "from_name": "comment"})
    ticked = any(item["from_name"] == "labels" for item in items)
    if not ticked and annotation.get("was_cancelled") is False:
        held = {item.get("type") for item in _items(annotation)} - {"choices", "textarea"}
        if held:
            found.others.update(str(kind) for kind in held)
        else:
            found.unticked += 1
        return None
    return {**annotation, "result": items}


def _items(annotation: object) -> list[Mapping[str, Any]]:
    result = annotation.get("result") if isinstance(annotation, Mapping) else None
    return (
        [item for item in result if isinstance(item, Mapping)] if isinstance(result, list) else []
    )


def _names_of(task: Mapping[str, Any], key: str | None) -> tuple[str, ...]:
    """List what the recording of a task may be called, by its data and the file it came in."""
    data = task["data"]
    texts = [data.get(key)] if key else [*data.values(), task.get("file_upload")]
    for text in texts:
        if isinstance(text, str) and (names := _paths_in(text)):
            ends = tuple(name for name in names if name.lower().endswith(EXTENSIONS))
            if ends or key:
                return ends or names
    return ()


def _paths_in(text: str) -> tuple[str, ...]:
    """List the paths that an address, or a path, stands for."""
    parts = urlsplit(text) if "://" in text or text.startswith("/") else None
    path = text if parts is None else unquote(parts.path)
    if parts is not None and (local := parse_qs(parts.query).get("d")):
        path = local[0]
    name = path.rpartition("/")[2]
    if before := name_before_upload(name):
        return before, name
    return (path.lstrip("/"),) if name else ()
