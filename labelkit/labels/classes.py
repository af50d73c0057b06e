"""Classes get another name, become one, or go: bookkeeping, which is nobody's word on a clip.

No label is written anew: what was said of the class, by people and by models, is shown under what
it is called now, states and history stay, and an undo brings the old names back.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from labelkit import registry
from labelkit.datasets.reading import is_class_name, shown
from labelkit.errors import InvalidInput
from labelkit.project import Project, user
from labelkit.records import Batch, ClassChange
from labelkit.stores.append import WriteSession
from labelkit.stores.clips import count_clips_with, count_clips_without_labels

KIND = "classes"


@dataclass(frozen=True, kw_only=True)
class ClassReport:
    """What became of classes: the batch that says so, the clips concerned, and how many there are.

    ``clips`` counts those that had one of the classes that are called otherwise, or are no more;
    ``left_without`` those of them that have no label now.
    """

    batch: int
    clips: int
    left_without: int
    classes: int


def rename_class(project: Project, old: str, new: str) -> ClassReport:
    """Give a class another name, in labels, verdicts, predictions and in Label Studio's page.

    Args:
        project: Where it is.
        old: Its name.
        new: The name it gets, which no class has.

    Raises:
        InvalidInput: If there is no such class, or the new name is none or taken.
    """
    with project.store.write() as session:
        class_id = _find(session, old)
        if not is_class_name(new) or new != new.strip():
            raise InvalidInput(
                f"{shown(new)} can be no name of a class; give one without control characters and "
                "outer spaces that is not 'remove'"
            )
        if new in session.classes():
            raise InvalidInput(
                f"there is a class {shown(new)} already; make the two one with: "
                f"labelkit classes merge {shlex.quote(old)} {shlex.quote(new)}"
            )
        change = ClassChange(class_id=class_id, name=new)
        return _write(session, [old], [change], f"renames {old} to {new}")


def merge_classes(project: Project, old: Sequence[str], into: str) -> ClassReport:
    """Make classes one: what has one of them has the last one.

    What models said of them is added up. That a person called one of them absent says nothing of
    all together, so such verdicts no longer count.

    Args:
        project: Where they are.
        old: Classes that end.
        into: The class that they are part of from now on.

    Raises:
        InvalidInput: If there is no such class, or one is to be merged into itself.
    """
    with project.store.write() as session:
        target = _find(session, into)
        numbers = [_find(session, name) for name in dict.fromkeys(old)]
        if target in numbers:
            raise InvalidInput(f"class {shown(into)} cannot be merged into itself; leave it out")
        changes = [
            ClassChange(class_id=number, name=name, into=target)
            for number, name in zip(numbers, dict.fromkeys(old), strict=True)
        ]
        reason = f"merges {', '.join(dict.fromkeys(old))} into {into}"
        return _write(session, old, changes, reason)


def retire_class(project: Project, names: Sequence[str]) -> ClassReport:
    """Take classes out of the vocabulary; the clips lose that label and keep their state.

    Args:
        project: Where they are.
        names: The classes.

    Raises:
        InvalidInput: If there is no such class, or none would be left.
    """
    with project.store.write() as session:
        wanted = list(dict.fromkeys(names))
        changes = [
            ClassChange(class_id=_find(session, name), name=name, retired=True) for name in wanted
        ]
        if len(changes) == len(session.classes()):
            raise InvalidInput("no class would be left; leave one")
        return _write(session, wanted, changes, f"retires {', '.join(wanted)}")


def _find(session: WriteSession, name: str) -> int:
    """Find the number in ``class_rows`` of a class.

    Raises:
        InvalidInput: If there is none of this name.
    """
    vocabulary = session.vocabulary()
    if name not in vocabulary.names:
        near = registry.suggestion(name, vocabulary.names) if vocabulary.names else "there is none"
        raise InvalidInput(f"no class {shown(name)}; {near}")
    return vocabulary.stored[vocabulary.names.index(name)]


def _write(
    session: WriteSession, names: Sequence[str], changes: Sequence[ClassChange], reason: str
) -> ClassReport:
    clips, bare = count_clips_with(session, names), count_clips_without_labels(session)
    receipt = session.append(
        Batch(
            key=f"{KIND}:{session.last_batch()}",
            kind=KIND,
            actor=user(),
            by_person=True,
            reason=reason,
            class_changes=changes,
        )
    )
    return ClassReport(
        batch=receipt.batch_id,
        clips=clips,
        left_without=count_clips_without_labels(session) - bare,
        classes=len(session.classes()),
    )
