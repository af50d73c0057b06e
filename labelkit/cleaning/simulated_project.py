"""A scratch project in which verified clips play unverified ones, with the truth beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.errors import InvalidInput, NotYet
from labelkit.files import replacing
from labelkit.folds import group_indices
from labelkit.noise.simulate import Planted
from labelkit.project import Project, user
from labelkit.recordings.usable import same_recordings
from labelkit.records import (
    ONE,
    SEVERAL,
    Batch,
    Clip,
    LabelEvent,
    LabelTable,
    Verdict,
    multi_hot,
    verdicts_of,
)
from labelkit.states import MACHINE_STATES, REJECTED, RELABELED, UNVERIFIED, VERIFIED
from labelkit.stores.lock import locked
from labelkit.types import Bools, Floats

TRUTH = "truth.json"


@dataclass(frozen=True)
class Source:
    """What a rehearsal reads of the user's store, taken at one moment.

    ``labels`` is the multi-hot matrix of all clips of ``table``, ``open_to`` marks those
    that may be hidden: verified training clips with a label and no open question.
    """

    table: LabelTable
    labels: Floats
    open_to: Bools
    folds: dict[int, int]
    first_states: dict[int, str]
    unsure: list[tuple[int, int]]


def read_source(project: Project, say: Callable[[str], None]) -> Source:
    """Read the labels as they stand, without rejected clips."""
    with project.store.read() as session:
        table, fold_sets = session.labels(), session.fold_sets()
        folds = session.folds(fold_sets[-1]) if fold_sets else {}
        first_states, unsure = session.first_states(), session.unsure()
    labels = multi_hot(table.labels, len(table.classes))
    human = np.isin(table.states, (VERIFIED, RELABELED)) & (table.subsets == "train")
    if not human.any():
        raise NotYet(
            "no training clip is verified; a rehearsal hides some of those and needs others to "
            "learn from: import or verify some"
        )
    for index in np.flatnonzero(~labels[human].any(axis=0)):
        say(f"class {table.classes[index]} has no verified clip: nothing is said of it")
    asked = np.isin(table.clip_ids, [clip_id for clip_id, _ in unsure])
    open_to = human & labels.any(axis=1) & ~asked
    return Source(table, labels, open_to, folds, first_states, unsure)


def label_state(source: Source) -> list[Any]:
    """List what people said of every clip, so far as it matters to a run."""
    table = source.table
    states = np.where(np.isin(table.states, MACHINE_STATES), UNVERIFIED, table.states)
    firsts = [source.first_states[clip_id] for clip_id in table.clip_ids.tolist()]
    folds = [source.folds.get(clip_id) for clip_id in table.clip_ids.tolist()]
    columns = (table.paths, table.labels, states.tolist(), firsts, folds, table.groups)
    rest = (table.subsets.tolist(), table.content_hashes)
    return [table.classes, source.unsure, *columns, *rest]


def count_parts(hide: float) -> int:
    """Count how many times a share can be hidden without hiding a clip twice."""
    return int(1 / hide + 1e-9)


def deal_parts(source: Source, hide: float, n: int, seed: int) -> list[Bools]:
    """Mask the clips to hide together, none in two masks, of like shares of each class.

    Groups are dealt whole, the largest first, each to the part that lacks its labels most.
    A class keeps its only group.

    Args:
        source: The clips.
        hide: Share of each class to hide at a time.
        n: How many masks, at most :func:`count_parts`; the first ones of more.
        seed: Order of what is otherwise equal.

    Raises:
        InvalidInput: If there are too few groups.
    """
    open_to, n_parts = source.open_to, count_parts(hide)
    group_of = group_indices(same_recordings(source.table), len(open_to))
    content = np.zeros((group_of.max() + 1, source.labels.shape[1]))
    np.add.at(content, group_of[open_to], source.labels[open_to])
    totals = content.sum(axis=0)
    # The last part is what stays verified in all of them.
    shares = np.array([hide] * n_parts + [1 - n_parts * hide])
    lacking = shares[:, None] * totals
    part_of = np.full(len(content), -1)
    rng = np.random.default_rng(seed)
    sole = (content == totals) & (content > 0)
    free = rng.permutation(np.flatnonzero(content.any(axis=1) & ~sole.any(axis=1)))
    for group in free[np.argsort(-content[free].sum(axis=1), kind="stable")]:
        need = lacking @ (content[group] / np.maximum(totals, 1))
        part = int(np.argmax(need + 1e-9 * rng.random(len(need))))
        part_of[group] = part
        lacking[part] -= content[group]
    parts = [open_to & (part_of[group_of] == part) for part in range(n)]
    for hidden in parts:
        if not hidden.any() or not (open_to & ~hidden).any():
            raise InvalidInput(
                f"{int(open_to.sum())} verified clips are too few to hide {hide:g} of them and to "
                "leave each class one; verify more, or change hide"
            )
    return parts


def write_scratch(
    project: Project, folder: Path, source: Source, hidden: Bools, planted: Planted
) -> Project:
    """Make a project on the same recordings with the planted labels; what is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    timeout_s = project.store.timeout_s
    scratch = Project(
        folder,
        project.audio_dir,
        lock_timeout_s=timeout_s,
        cache=project.cache,
        fitted=project.fitted,
    )
    truth_file = folder / TRUTH
    with locked(truth_file, exclusive=True, timeout_s=timeout_s):
        scratch.store.create()
        with scratch.store.read() as session:
            if session.classes():
                return scratch
        # The labels come last: where they are, the truth about them is.
        table = source.table
        given = planted.labels > 0
        right = (source.labels > 0) & given.any(axis=0)
        names = np.array(table.classes, object)
        truth = {table.paths[i]: names[right[i]].tolist() for i in np.flatnonzero(hidden)}
        with replacing(truth_file) as file:
            file.write(json.dumps(truth, ensure_ascii=False, indent=1).encode())
        _fill(scratch, source, hidden, given)
    return scratch


def _fill(scratch: Project, source: Source, hidden: Bools, given: Bools) -> None:
    """Bring the clips into the scratch store as they stand, the hidden ones unverified."""
    table = source.table
    names = np.array(table.classes, object)
    # A clip whose classes all left the vocabulary goes with them.
    emptied = source.labels.any(axis=1) & ~given.any(axis=1)
    kept = np.flatnonzero(~emptied & (table.states != REJECTED))
    machine = hidden | np.isin(table.states, MACHINE_STATES)
    states = np.where(machine, UNVERIFIED, table.states)
    clips = [
        Clip(
            path=table.paths[i],
            labels=tuple(names[given[i]]),
            state=UNVERIFIED if hidden[i] else source.first_states[int(table.clip_ids[i])],
            group=table.groups[i],
            fold=source.folds.get(int(table.clip_ids[i])),
            subset=str(table.subsets[i]),
            content_hash=table.content_hashes[i],
            domain=table.domains[i],
        )
        for i in kept
    ]
    batch = Batch(key="rehearsal", kind="import", actor=user(), by_person=True)
    with scratch.store.write() as session:
        facts = {"labels": SEVERAL if table.several else ONE}
        session.append(replace(batch, classes=table.classes, clips=clips, facts=facts))
        now = session.labels()
        new_id = dict(zip(now.paths, now.clip_ids.tolist(), strict=True))
        ids = {int(table.clip_ids[i]): new_id[table.paths[i]] for i in kept}
        events = [
            LabelEvent(
                clip_id=new_id[clip.path],
                state=str(states[i]),
                labels=np.flatnonzero(given[i]).tolist(),
                source="rehearsal",
            )
            for i, clip in zip(kept, clips, strict=True)
            if states[i] != clip.state
        ]
        verdicts = [
            Verdict(clip_id=ids[clip_id], class_id=class_id, verdict="unsure", rule="rehearsal")
            for clip_id, class_id in source.unsure
            if clip_id in ids
        ]
        verdicts = [v for event in events for v in verdicts_of(event, "rehearsal")] + verdicts
        session.append(replace(batch, key="rehearsal:now", events=events, verdicts=verdicts))
