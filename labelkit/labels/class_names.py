"""Class names of files from before: what they mean in a vocabulary that has changed since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from labelkit.datasets.oddities import suggest_class
from labelkit.datasets.reading import Reading, shown
from labelkit.stores.standing import Vocabulary

_NAMED = 5


def call_as_now(reading: Reading, former: Mapping[str, str]) -> tuple[Reading, dict[str, str]]:
    """Give the classes of a file the names that they have today.

    Args:
        reading: What the file says; it stays as it is.
        former: What classes of former names are called now.

    Returns:
        What the file says in names of today, and which names of it were others.
    """
    said = {name for clip in reading.clips for name in clip.labels}.union(reading.classes)
    renamed = {name: former[name] for name in sorted(said) if name in former}
    if not renamed:
        return reading, {}

    def now(names: Iterable[str]) -> tuple[str, ...]:
        # Classes that were merged are one.
        return tuple(dict.fromkeys(renamed.get(name, name) for name in names))

    clips = [
        clip if renamed.keys().isdisjoint(clip.labels) else replace(clip, labels=now(clip.labels))
        for clip in reading.clips
    ]
    return replace(reading, clips=clips, classes=now(reading.classes)), renamed


def tell_renamed(renamed: Mapping[str, str]) -> list[str]:
    """Tell which classes a file calls otherwise than they are called now, in a line if any."""
    if not renamed:
        return []
    pairs = [f"{shown(old)} is {shown(new)}" for old, new in list(renamed.items())[:_NAMED]]
    more = f" and {len(renamed) - _NAMED} more" if len(renamed) > _NAMED else ""
    n = "1 class is" if len(renamed) == 1 else f"{len(renamed)} classes are"
    return [f"{n} called otherwise now: {', '.join(pairs)}{more}"]


def unknown_class_remedy(
    name: str, known: Sequence[str], vocabulary: Vocabulary, *, look: bool = True
) -> str:
    """Say what to do about a name that is no class.

    Args:
        name: The name.
        known: The classes there are.
        vocabulary: What became of all classes there ever were.
        look: Look for the nearest name, which takes long.
    """
    for log in reversed(vocabulary.log):
        if log[-1].retired and any(naming.name == name for naming in log):
            then = "" if log[-1].name == name else f" as {shown(log[-1].name)}"
            return (
                f"it was retired{then}: leave it out, take that back with labelkit undo "
                f"{log[-1].batch_id}, or import with --add-classes"
            )
    near = f"{suggest_class(name, known)}, or " if look else ""
    return f"{near}import with --add-classes"
