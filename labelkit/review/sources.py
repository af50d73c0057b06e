"""Which project of which server an export is of: every server counts from 1.

Two exports may name the same project, tasks, annotations and users by number, and yet be of two
people who each have a Label Studio. What is in the annotations tells them apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from labelkit.config import fingerprint
from labelkit.datasets.sniffing import LABEL_STUDIO
from labelkit.errors import InvalidInput
from labelkit.label_studio.answers import read_time
from labelkit.stores.reviews import annotations_by_project, known_annotators
from labelkit.stores.session import Session

# What a pair of annotations of one number says of their projects. The first is beyond doubt; the
# next cannot be in one project; the last two may also be a number that came again, or a chance.
_SURE, _IMPOSSIBLE, _LIKE, _UNLIKE = "sure", "impossible", "like", "unlike"
_DIGEST = re.compile(r"[0-9a-f]{8}")
_NAME = re.compile(r"[\w.@+ -]{1,60}")


@dataclass(frozen=True)
class Source:
    """A project that labelkit did not make, as the store names it.

    Attributes:
        name: Its name in the store.
        annotators: Name of each annotator whom the export tells by number.
        doubt: What was taken for granted, if anything was; to be told.
        sure: Whether unique ids of annotations say that it is this one.
    """

    name: str
    annotators: Mapping[int, str]
    doubt: str = ""
    sure: bool = False


def find_source(
    session: Session, number: int | None, annotations: Sequence[Any], wanted: str | None = None
) -> Source:
    """Find out which project some annotations are of: one that is known, or a new one.

    Args:
        session: The open store.
        number: Of the project, as the export says it.
        annotations: All of them that the export has.
        wanted: What the user calls the source, where nobody else could tell.

    Raises:
        InvalidInput: If several known projects could be meant, or the name is of another one.
    """
    base = LABEL_STUDIO if number is None else f"{LABEL_STUDIO}-{number}"
    # Without a number another one still needs a place for it.
    stem = f"{base}-x-" if number is None else f"{base}-"
    known = {
        name: found
        for name, found in annotations_by_project(session, LABEL_STUDIO).items()
        if name == base or name.startswith(stem)
    }
    said = {name: _compare_all(annotations, found) for name, found in known.items()}
    sure = [name for name in known if said[name][_SURE]]
    if wanted is not None:
        name = _named(wanted, stem, known)
        if sure and name not in sure:
            raise InvalidInput(
                f"these answers are known as of {sure[0]} already; import them without --source"
            )
        return _source(session, name, stem, annotations)
    if sure:
        return replace(_source(session, sure[0], stem, annotations), sure=True)
    alike = [name for name in known if _weigh(said[name]) > 0]
    if alike:
        return _source(session, max(alike, key=lambda name: _weigh(said[name])), stem, annotations)
    open_ones = [name for name in known if _weigh(said[name]) == 0]
    if len(open_ones) > 1:
        raise InvalidInput(
            f"these answers could be of {' or '.join(open_ones)}, or of another server's project; "
            f"say which: --source {open_ones[0]} say, or a new name"
        )
    if open_ones and annotations:
        doubt = (
            f"project {'without number' if number is None else number} is taken for the one known "
            f"as {open_ones[0]}, as nothing tells them apart; if it is of another server, import "
            "it with --source NAME"
        )
        return _source(session, open_ones[0], stem, annotations, doubt)
    name = base if base not in known else open_ones[0] if open_ones else stem + _digest(annotations)
    return _source(session, name, stem, annotations)


def _named(wanted: str, stem: str, known: Mapping[str, Any]) -> str:
    if not _NAME.fullmatch(wanted):
        raise InvalidInput(
            f"--source {wanted!r} is no name; give one of at most 60 letters, digits, spaces and "
            ".@+-_"
        )
    return wanted if wanted in known else stem + wanted


def _source(
    session: Session, name: str, stem: str, annotations: Sequence[Any], doubt: str = ""
) -> Source:
    """Name the people of a source; one known by a number is not that of another server."""
    call = name
    if name.startswith(stem) and not _DIGEST.fullmatch(name.removeprefix(stem)):
        call = name.removeprefix(stem)
    of = f" of {call}" if name.startswith(stem) else ""
    numbers = sorted({n for n, _ in _people(annotations) if n is not None})
    plain = {n: f"annotator {n}{of}" for n in numbers}
    return Source(name, plain | known_annotators(session, name), doubt)


def _digest(annotations: Sequence[Any]) -> str:
    """Return eight digits for annotations, whatever their order."""
    marks = [
        [a.get(key) for key in ("unique_id", "id", "created_at", "completed_by", "result")]
        for a in annotations
        if isinstance(a, dict)
    ]
    return fingerprint(sorted(marks, key=str))[:8]


def _weigh(said: Mapping[str, int]) -> int:
    """Return above 0 for the same project, below for another one, 0 if nobody can tell."""
    if said[_SURE]:
        return 1 + said[_LIKE]
    if said[_IMPOSSIBLE]:
        return -1
    if said[_LIKE] or said[_UNLIKE]:
        return said[_LIKE] - said[_UNLIKE] or -1
    return 0


def _compare_all(annotations: Sequence[Any], known: Sequence[tuple[int, Any]]) -> Counter[str]:
    """Count what pairs of the same number say; without any, people of the same number tell."""
    versions: dict[Any, list[Any]] = {}
    for number, raw in known:
        if isinstance(raw, dict):
            versions.setdefault(number, []).append(raw)
    said: Counter[str] = Counter()
    for new in annotations:
        if isinstance(new, dict) and type(new.get("id")) is int and new["id"] in versions:
            pairs = {_compare(new, old) for old in versions[new["id"]]}
            # Of several versions of an answer one is like it.
            said[next((k for k in (_SURE, _LIKE, _IMPOSSIBLE, _UNLIKE) if k in pairs), "")] += 1
    del said[""]
    if not said:
        here = dict(_people([raw for _, raw in known]))
        for who, email in set(_people(annotations)):
            if email and who is not None and here.get(who):
                said[_LIKE if here[who] == email else _UNLIKE] += 1
    return said


def _compare(new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    """Tell what two annotations of the same number say of their projects; "" for nothing."""
    unique = new.get("unique_id"), old.get("unique_id")
    if all(isinstance(one, str) and one for one in unique):
        return _SURE if unique[0] == unique[1] else _UNLIKE
    who = [email for one in (new, old) for _, email in _people([one])]
    if len(who) == 2 and all(who) and who[0] != who[1]:
        return _UNLIKE
    changed = [read_time(one.get("updated_at")) for one in (new, old)]
    if changed[0] is not None and changed[0] == changed[1]:
        same = all(new.get(key) == old.get(key) for key in ("result", "was_cancelled"))
        return _LIKE if same else _IMPOSSIBLE
    made = [read_time(one.get("created_at")) for one in (new, old)]
    if None not in made:
        return _LIKE if made[0] == made[1] else _UNLIKE
    return ""


def _people(annotations: Sequence[Any]) -> Iterator[tuple[int | None, str]]:
    """Yield number and address of who made each annotation; what is not told is None or empty."""
    for annotation in annotations:
        who = annotation.get("completed_by") if isinstance(annotation, dict) else None
        number = who.get("id") if isinstance(who, dict) else who
        email = who.get("email") if isinstance(who, dict) else None
        yield (
            number if type(number) is int else None,
            email if isinstance(email, str) else "",
        )
