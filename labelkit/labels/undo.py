"""Taking back batches: facts stay, what followed from them is set right by other batches."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from labelkit.errors import InvalidInput
from labelkit.progress import say
from labelkit.project import Project, user
from labelkit.records import Batch
from labelkit.states import MACHINE_STATES
from labelkit.stores.append import WriteSession
from labelkit.stores.as_of import read_number
from labelkit.stores.reviews import last_project
from labelkit.stores.session import Session
from labelkit.stores.undo import (
    RestoredThings,
    batches_of_run,
    count_decided_clips,
    deciding_batches,
    find_built_on,
    find_root,
    has_batch,
    read_batch,
    restored_events,
    restored_things,
    undo_line,
)

KIND = "undo"
# Of what stands in the way, and of classes, so many are named.
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class UndoReport:
    """What an undo did: clips set back, clips left alone, and verdicts that no longer count.

    ``batch`` is the new batch and ``undoes`` the one it takes back; both are lists where all of a
    run was taken back. ``batch`` is None where nothing was written.
    """

    batch: int | list[int] | None
    undoes: int | list[int]
    clips: int
    left: int
    verdicts: int


@dataclass(frozen=True)
class _Undone:
    """What became of one batch: the undo, the clips it set back, and what else fell with it."""

    batch: int
    undoes: int
    kind: str
    clips: int
    verdicts: int
    things: bool


class _OnlyTried(Exception):
    """Ends a transaction of which nothing is to be kept."""


def undo(project: Project, target: int | str, *, dry_run: bool = False) -> UndoReport:
    """Give the clips of a batch, or of all batches of a run, what they would have without it.

    That is what the last batch that stands made of them, of people before machines, so clips
    on which something was decided since then keep that. An undo is a batch, too, and can be
    taken back like any other; what it had undone then stands again. Of a run each batch that
    stands is taken back by one of its own, all of them or none.

    Clips that an import brought in are gone without it, and classes that no other clip has; so
    are new names of classes, and new places of clips.

    Args:
        project: Where the batch is.
        target: The number of the batch, or the id of the run.
        dry_run: Only say what would be done.

    Returns:
        The new batches, what they take back, and counts.

    Raises:
        InvalidInput: If there is no such batch or run, it was taken back already, something was
            built on the clips or classes it brought, or it changed nothing.
    """
    word = str(target).strip()
    found: list[_Undone] = []
    with suppress(_OnlyTried), project.store.write() as session:
        if word.isdecimal():
            mine = [_tip(session, read_number(word))]
            found = [_take_back(session, *mine)]
            if _is_empty(found[0]) and found[0].kind != KIND:
                raise InvalidInput(
                    f"batch {word} ({found[0].kind}) changed nothing that still stands"
                )
        else:
            mine = _standing_batches(session, word)
            found = [_take_back(session, batch_id) for batch_id in mine]
        roots = [find_root(session, batch_id) for batch_id in mine]
        touched = count_decided_clips(session, roots)
        if dry_run:
            raise _OnlyTried
    answers = [done for done in found if done.kind == "review"]
    if answers and not dry_run:
        with project.store.read() as session:
            is_set_up = last_project(session) is not None
        if is_set_up:
            say("answers of others on these clips are counted anew with: labelkit pull --full")
        else:
            say(f"the answers come back with: labelkit undo {answers[-1].batch}")
    clips = sum(done.clips for done in found)
    if touched > clips:
        say(f"{touched - clips} clips stay as they are: other batches that stand made them so")
    batches, undoes = [done.batch for done in found], [done.undoes for done in found]
    of_run = not word.isdecimal()
    written = batches if of_run else batches[0]
    return UndoReport(
        batch=None if dry_run else written,
        undoes=undoes if of_run else undoes[0],
        clips=clips,
        left=max(0, touched - clips),
        verdicts=sum(done.verdicts for done in found),
    )


def _tip(session: Session, batch_id: int) -> int:
    """Find the batch to take back so that a batch stands no more: itself, or what brought it back.

    Raises:
        InvalidInput: If there is no such batch, it does not stand, or it brought clips in.
    """
    if not has_batch(session, batch_id):
        raise InvalidInput(f"no batch {batch_id}; see: labelkit log")
    line = undo_line(session, batch_id)
    if not len(line) % 2:
        raise InvalidInput(f"batch {batch_id} was taken back by batch {line[-1]} already")
    # An undo that is taken back may have brought an import back.
    built = find_built_on(session, find_root(session, batch_id))
    if built:
        more = f", and {len(built) - _NAMED} more" if len(built) > _NAMED else ""
        raise InvalidInput(
            f"batch {batch_id} brought clips in on which was built: {', '.join(built[:_NAMED])}"
            f"{more}; take back what decided labels first (labelkit undo BATCH); what a run has "
            "learnt stays: set clips aside (labelkit label CLIP --reject), or mend names of "
            "classes (labelkit classes --help)"
        )
    return line[-1]


def _standing_batches(session: Session, run_id: str) -> list[int]:
    """List what to take back of a run: its batches that decided something and stand, oldest first.

    In this order each clip is set back once, by the undo of the batch that had the last word.

    Raises:
        InvalidInput: If there is no such run, or nothing of it stands.
    """
    mine = batches_of_run(session, run_id)
    if not mine or not run_id:
        raise InvalidInput(f"no batch or run {run_id!r}; see: labelkit log")
    standing = deciding_batches(session, mine)
    if not standing:
        raise InvalidInput(f"{run_id} changed nothing that still stands")
    return [_tip(session, batch_id) for batch_id in standing]


def _take_back(session: WriteSession, batch_id: int) -> _Undone:
    """Append the undo of one batch."""
    batch = read_batch(session, batch_id)
    events = restored_events(session, batch.root, KIND, {"undoes": batch_id})
    things = restored_things(session, batch_id)
    if things.overruled and not things:
        name, later = things.overruled[0]
        raise InvalidInput(
            f"{name} was changed since by batch {later}; take that back first: "
            f"labelkit undo {later}"
        )
    receipt = session.append(
        Batch(
            key=f"{KIND}:{batch_id}",
            kind=KIND,
            actor=user(),
            # What a person decided comes back as it was, whoever had covered it.
            by_person=batch.by_person or not set(events.states) <= set(MACHINE_STATES),
            reason=f"takes back batch {batch_id}: {batch.root_reason}",
            undoes=batch_id,
            events=events,
            class_changes=things.classes,
            clip_changes=things.clips,
            facts=things.facts,
        )
    )
    _tell_things(things)
    n_clips, n_verdicts = len(events.clip_ids), batch.verdicts + batch.answers
    n_clips += len({change.clip_id for change in things.clips} - set(events.clip_ids.tolist()))
    return _Undone(receipt.batch_id, batch_id, batch.kind, n_clips, n_verdicts, bool(things))


def _tell_things(things: RestoredThings) -> None:
    """Say what became of clips and classes, which no count of labels tells."""
    gone = sum(change.gone for change in things.clips)
    parts = [
        f"{gone} clips are gone from the project (their recordings stay where they are)",
        f"{len(things.clips) - gone} clips are back, or where they were",
        *(
            f"class {change.name!r} is {'gone' if change.retired else 'back'}"
            for change in things.classes[:_NAMED]
        ),
        f"{len(things.classes) - _NAMED} more classes likewise",
    ]
    counts = [gone, len(things.clips) - gone, *[1] * len(things.classes[:_NAMED])]
    counts.append(max(0, len(things.classes) - _NAMED))
    told = [part for part, n in zip(parts, counts, strict=True) if n]
    if told:
        say("; ".join(told))


def _is_empty(done: _Undone) -> bool:
    return not done.clips and not done.verdicts and not done.things
