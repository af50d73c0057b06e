"""The history at hand: batches, what became of a clip and by whom, and what changed when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from labelkit.errors import InvalidInput
from labelkit.progress import say
from labelkit.project import Project
from labelkit.states import STATES
from labelkit.stores.as_of import find_batch, read_time
from labelkit.stores.change_rows import read_bookkeeping
from labelkit.stores.history import (
    BatchFilter,
    BlamedLabel,
    ChangedClip,
    HistoryEntry,
    LoggedBatch,
    find_clip,
    read_blame,
    read_difference,
    read_history,
    read_log,
)
from labelkit.stores.session import Session


def log(
    project: Project,
    clip: str | None = None,
    *,
    kind: str | None = None,
    actor: str | None = None,
    since: str | None = None,
    limit: int | None = None,
) -> tuple[list[LoggedBatch], int]:
    """List the batches, the newest first.

    Args:
        project: The project.
        clip: Only those that said something of this clip.
        kind: Only those of this kind: import, verify, select, undo, say.
        actor: Only those of this actor.
        since: Only this batch and later ones, from this day or time on, or after the labels
            that this run read.
        limit: How many to tell at most.

    Returns:
        Batches, and how many there are in all.

    Raises:
        InvalidInput: If there is no such clip or moment.
    """
    with project.store.connect(read_only=True) as con:
        session = Session(con)
        wanted = BatchFilter(
            clip_id=None if clip is None else find_known_clip(session, clip), kind=kind, actor=actor
        )
        if since is not None:
            wanted = _from(session, con, since, wanted)
        return read_log(session, wanted, limit)


def _from(session: Session, con: Any, since: str, wanted: BatchFilter) -> BatchFilter:
    """Ask for a batch and later ones, for those behind the labels a run read, or from a time on."""
    word = since.strip()
    if word.isdecimal():
        return replace(wanted, first_batch=find_batch(con, word))
    if session.run(word) is not None:
        return replace(wanted, first_batch=find_batch(con, word) + 1)
    return replace(wanted, since=read_time(word))


def history(project: Project, clip: str) -> list[HistoryEntry]:
    """List what was said of a clip, the oldest first: events, verdicts, masks and answers.

    A verdict that only says what an event of its batch made of the clip is not told again.

    Args:
        project: The project.
        clip: Path below the audio folder, as ``labels_now`` shows it.

    Returns:
        Entries whose ``what`` says what they are. The state of a verdict or mask is its word,
        of an answer its kind.

    Raises:
        InvalidInput: If there is no such clip.
    """
    with project.store.read() as session:
        return read_history(session, find_known_clip(session, clip))


def blame(project: Project, clip: str, *, all_: bool = False) -> list[BlamedLabel]:
    """Tell who gave a clip each of its labels, when and why, and who vouched for it last.

    What was taken back gave nothing: where an undo brought a label back, who had given it
    before is told.

    Args:
        project: The project.
        clip: Path below the audio folder, as ``labels_now`` shows it.
        all_: Also classes that the clip does not have, of which somebody said something.

    Returns:
        Classes, the labels it has first.

    Raises:
        InvalidInput: If there is no such clip.
    """
    with project.store.read() as session:
        return read_blame(session, find_known_clip(session, clip), every_class=all_)


def diff(project: Project, a: str, b: str | None = None) -> list[ChangedClip]:
    """List the clips that are not at one moment what they were at an earlier one.

    Args:
        project: The project.
        a: The earlier moment: a batch, a date, a time, or a run, for the labels it read.
        b: The later one; now if None.

    Returns:
        Clips, with who touched them last, when and why; in the order of the paths.

    Raises:
        InvalidInput: If there is no such moment, or ``b`` lies before ``a``.
    """
    with project.store.connect(read_only=True) as con:
        session = Session(con)
        first = find_batch(con, a)
        last = session.last_batch() if b is None else find_batch(con, b)
        if last < first:
            raise InvalidInput(
                f"{b} (batch {last}) lies before {a} (batch {first}); turn them round"
            )
        renamed = read_bookkeeping(session, first, last)
        if renamed:
            say(
                f"labels are compared under the names of today; in between {'; '.join(renamed[:5])}"
                f"{'; ...' if len(renamed) > 5 else ''}"
            )
        return read_difference(session, first, last)


def describe_diff(clips: Sequence[ChangedClip]) -> str:
    """Describe in one line what a :func:`diff` found."""
    changed = [clip for clip in clips if clip.before is not None]
    counts = Counter(clip.state_after for clip in changed if clip.state_before != clip.state_after)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    relabeled = sum(clip.before != clip.after for clip in changed)
    parts = [f"{relabeled} with other labels"] * bool(relabeled) + parts
    told = f": {', '.join(parts)}" if parts else ""
    return f"{len(changed)} clips changed{told}; {len(clips) - len(changed)} came in"


def find_known_clip(session: Session, path: str) -> int:
    """Find the id of a clip by its path.

    Raises:
        InvalidInput: If there is none of this path.
    """
    clip_id, close = find_clip(session, path)
    if clip_id is None:
        hint = f"did you mean {close!r}?" if close else "give a path of labels_now"
        raise InvalidInput(f"no clip {path!r}; {hint}")
    return clip_id
