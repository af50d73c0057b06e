"""What a change set holds, and the file of it: a JSON that people can read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from typing import Any

from labelkit.records import Clip
from labelkit.states import MACHINE_STATES

VERSION = 1
# Containers of the file down to this depth have a line for each entry.
_OPEN = 4
_KEYS = {"name": "class"}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a batch was first made; the key alone may stand for two in copies that parted."""

    key: str
    made_at: datetime
    store_id: str

    @property
    def id(self) -> str:
        """What tells the batch from every other, in whatever copy it lies."""
        text = f"{self.made_at.isoformat()} {self.key}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class PriorState:
    """What a clip was before an event, and the batch (its ``Origin.id``) that made it so."""

    state: str
    labels: tuple[str, ...]
    batch: str

    @property
    def content(self) -> tuple[str, tuple[str, ...]]:
        """State and labels."""
        return self.state, self.labels


@dataclass(frozen=True, kw_only=True)
class NamedEvent:
    """A label event, its classes given by name; ``before`` is None where the clip came in."""

    path: str
    content_hash: str | None
    before: PriorState | None
    state: str
    labels: tuple[str, ...]
    source: str
    score: float | None
    iteration: int | None
    evidence: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class NamedVerdict:
    """A verdict, its class given by ``name``."""

    path: str
    content_hash: str | None
    name: str
    verdict: str
    rule: str
    score: float | None
    start_s: float | None
    end_s: float | None


@dataclass(frozen=True, kw_only=True)
class ChangeBatch:
    """One batch of a change set; ``undoes`` is the origin of the batch it takes back."""

    origin: Origin
    kind: str
    actor: str
    by_person: bool
    reason: str
    undoes: Origin | None
    classes: tuple[str, ...]
    clips: tuple[Clip, ...]
    events: tuple[NamedEvent, ...]
    verdicts: tuple[NamedVerdict, ...]

    @property
    def restores(self) -> bool:
        """Whether a person's decision is made, or brought back, by it."""
        return self.by_person and any(row.state not in MACHINE_STATES for row in self.events)

    def recordings(self) -> Iterator[tuple[str, str | None]]:
        """Give path and content hash of everything that is named."""
        rows: tuple[Clip | NamedEvent | NamedVerdict, ...]
        rows = (*self.clips, *self.events, *self.verdicts)
        for row in rows:
            yield row.path, row.content_hash


@dataclass(frozen=True, kw_only=True)
class ChangeSet:
    """What became of labels: batches, the oldest first, and the vocabulary they speak.

    ``shared_recordings`` are contents that several clips of the copy have: by these no
    clip can be told.
    """

    store_id: str
    made_at: datetime | None
    since: datetime | None
    people: bool
    classes: tuple[str, ...]
    shared_recordings: tuple[str, ...]
    batches: tuple[ChangeBatch, ...]


def call_classes(changes: ChangeSet, names: Mapping[str, str]) -> tuple[ChangeSet, dict[str, str]]:
    """Give classes of a change set other names; those that get the same one are one.

    Args:
        changes: The change set.
        names: New names by those that they replace.

    Returns:
        The change set, and which of its names were replaced.
    """
    said = set(changes.classes).union(*(_names_of(batch) for batch in changes.batches))
    renamed = {name: names[name] for name in sorted(said) if name in names}
    if not renamed:
        return changes, {}

    def call(labels: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(renamed.get(name, name) for name in labels))

    def call_event(event: NamedEvent) -> NamedEvent:
        before = event.before
        if before is not None:
            before = replace(before, labels=tuple(sorted(call(before.labels))))
        return replace(event, before=before, labels=tuple(sorted(call(event.labels))))

    batches = tuple(
        replace(
            batch,
            classes=call(batch.classes),
            clips=tuple(replace(clip, labels=call(clip.labels)) for clip in batch.clips),
            events=tuple(map(call_event, batch.events)),
            verdicts=tuple(
                replace(verdict, name=renamed.get(verdict.name, verdict.name))
                for verdict in batch.verdicts
            ),
        )
        for batch in changes.batches
    )
    return replace(changes, classes=call(changes.classes), batches=batches), renamed


def _names_of(batch: ChangeBatch) -> set[str]:
    """List the classes that a batch speaks of."""
    found = {*batch.classes, *(verdict.name for verdict in batch.verdicts)}
    for clip in batch.clips:
        found.update(clip.labels)
    for event in batch.events:
        found.update(event.labels, event.before.labels if event.before else ())
    return found


def format_changes(changes: ChangeSet) -> str:
    """Write a change set as text: the same one always as the same text."""
    return _open({"labelkit_changes": VERSION, **_plain(changes)}, _OPEN) + "\n"


def _plain(value: Any) -> Any:
    """Turn records into what JSON holds; their fields are its keys."""
    if is_dataclass(value):
        names = [
            f.name for f in fields(value) if not (type(value) is Clip and _is_unsaid(value, f.name))
        ]
        return {_KEYS.get(name, name): _plain(getattr(value, name)) for name in names}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _is_unsaid(clip: Clip, name: str) -> bool:
    """Tell whether a field of a clip is left out: earlier versions know no domains."""
    return name == "row" or (name == "domain" and clip.domain is None)


def _open(value: Any, depth: int, indent: str = "") -> str:
    """Write a value as JSON, with a line for each entry down to a depth."""
    if not depth or not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = indent + " "
    if isinstance(value, list):
        lines = [_open(part, depth - 1, inner) for part in value]
    else:
        lines = [f"{json.dumps(key)}: {_open(part, depth - 1, inner)}"
                 for key, part in value.items()]  # fmt: skip
    left, right = "[]" if isinstance(value, list) else "{}"
    return f"{left}\n{inner}" + f",\n{inner}".join(lines) + f"\n{indent}{right}"
