"""Frozen folds of a project: dealt once, and joined by clips that come later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from labelkit.errors import InvalidInput, NotYet
from labelkit.folds import make_folds
from labelkit.progress import say
from labelkit.project import Project, user
from labelkit.recordings.usable import same_recordings
from labelkit.records import Batch, ClassFolds, LabelTable, multi_hot
from labelkit.states import REJECTED, TRUSTED_STATES
from labelkit.stores.append import IMPORTED_FOLDS, WriteSession
from labelkit.types import Ints

DEFAULT_FOLDS = 5


def freeze_folds(project: Project, *, n: int | None = None, seed: int = 0) -> str:
    """Deal the training clips into folds, once; clips that came later join the set.

    A project that looks back takes the set of that moment. Only where there was none, and
    none was made since, is one written.

    Args:
        project: The project.
        n: Number of folds; None takes the set that was made last or, where there is
            none, makes one of five.
        seed: Seed of a new set.

    Returns:
        Name of the fold set.

    Raises:
        InvalidInput: If there are too few clips, or imported folds part a group.
    """
    if project.store.as_of is None:
        with project.store.write() as session:
            fold_set = _name(n, seed, session.fold_sets()[-1:])
            _deal(session, session.labels(), fold_set, n, seed)
        return fold_set
    with project.store.read() as session:
        table, last = session.labels(), session.fold_sets()[-1:]
    with project.current.read() as session:
        # Where there were none yet, those that were made next: folds stand once they are made.
        fold_set = _name(n, seed, last or session.fold_sets()[:1])
        # Only whether every clip has its fold counts here; a set that is whole needs no writing.
        dealt = _fixed(table, session.folds(fold_set))[1]
    if (dealt < 0).any():
        with project.store.write() as session:
            _deal(session, table, fold_set, n, seed)
    return fold_set


def known_folds(project: Project) -> str | None:
    """Name the set that is taken where no number of folds is given; None where there is none."""
    with project.store.read() as session:
        sets = session.fold_sets()
    return sets[-1] if sets else None


def _name(n: int | None, seed: int, known: Sequence[str]) -> str:
    """The set that is asked for: who names no number goes on with the one there is."""
    if n is None and known:
        return known[0]
    return f"{n or DEFAULT_FOLDS}-seed{seed}"


def _fixed(table: LabelTable, standing: dict[int, int]) -> tuple[Ints, Ints]:
    """Indices of the training clips, and the folds they stand in, -1 where there is none."""
    train = np.flatnonzero(table.subsets == "train")
    if not len(train):
        raise NotYet("the project has no clips; bring some in with: labelkit import FILE")
    return train, np.array([standing.get(int(i), -1) for i in table.clip_ids[train]], int)


def _deal(
    session: WriteSession, table: LabelTable, fold_set: str, n: int | None, seed: int
) -> None:
    """Deal the training clips of a table that stand in no fold of a set."""
    standing = session.folds(fold_set)
    train, fixed = _fixed(table, standing)
    if (fixed >= 0).all():
        return
    groups = same_recordings(table)
    if fold_set == IMPORTED_FOLDS:
        numbers = sorted(set(standing.values()))
        fixed = np.where(fixed >= 0, np.searchsorted(numbers, fixed), -1)
    else:
        numbers = list(range(n or int(fold_set.split("-")[0])))
    try:
        folds = make_folds(
            multi_hot([table.labels[i] for i in train], len(table.classes)),
            n=len(numbers),
            seed=seed,
            verified=np.isin(table.states[train], TRUSTED_STATES),
            groups=[groups[i] for i in train],
            fixed=fixed,
        )
    except InvalidInput as error:
        raise InvalidInput(f"fold set {fold_set}: {error}") from error
    _tell_rare_classes(table, train, len(numbers))
    session.append(
        Batch(
            key=f"folds:{fold_set}:{session.last_batch()}",
            kind="folds",
            actor=user(),
            by_person=False,
            reason=f"{len(numbers)} folds, seed {seed}",
            fold_set=fold_set,
            folds={
                int(table.clip_ids[i]): numbers[fold]
                for i, fold, stands in zip(train, folds, fixed, strict=True)
                if stands < 0
            },
        )
    )


def _tell_rare_classes(table: LabelTable, train: Ints, n_folds: int) -> None:
    """Name the classes that some fold's model will not have heard, or cannot be asked about."""
    counts = Counter(name for clip in train for name in table.names(clip))
    for name in table.classes:
        if 0 < counts[name] < n_folds:
            n = f"{counts[name]} clip{'s' if counts[name] > 1 else ''}"
            say(f"class {name} has {n}, fewer than {n_folds} folds: it is judged poorly")


def fold_table(project: Project, fold_set: str) -> list[ClassFolds]:
    """Count the clips of each class in each fold, one entry a class."""
    with project.store.read() as session:
        table, folds = session.labels(), session.folds(fold_set)
    counts: Counter[tuple[str, int]] = Counter()
    for clip_id, clip in zip(table.clip_ids.tolist(), range(len(table.paths)), strict=True):
        if clip_id in folds and table.states[clip] != REJECTED:
            counts.update((name, folds[clip_id]) for name in table.names(clip))
    numbers = sorted(set(folds.values()))
    return [
        ClassFolds(class_=name, clips={fold: counts[name, fold] for fold in numbers})
        for name in table.classes
    ]
