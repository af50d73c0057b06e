"""Frozen folds of a project: dealt once, and joined by clips that come later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from labelkit.errors import InvalidInput, NotYet
from labelkit.folds import DOMAIN_REMEDY, describe_groups, make_folds
from labelkit.progress import say
from labelkit.project import Project, user
from labelkit.recordings.usable import same_recordings
from labelkit.records import Batch, ClassFolds, LabelTable, multi_hot
from labelkit.states import REJECTED, TRUSTED_STATES
from labelkit.stores.append import IMPORTED_FOLDS, WriteSession
from labelkit.types import Floats, Ints

DEFAULT_FOLDS = 5
# What a set keeps whole: what was cut from one recording, or all of a speaker, site or device, too.
RECORDING, DOMAIN = "recording", "domain"
_OF_DOMAINS = "-domain"


def freeze_folds(
    project: Project, *, n: int | None = None, seed: int = 0, by: str = RECORDING
) -> str:
    """Deal the training clips into folds, once; clips that came later join the set.

    A project that looks back takes the set of that moment. Only where there was none, and
    none was made since, is one written.

    Args:
        project: The project.
        n: Number of folds; None takes the set that was made last or, where there is
            none, makes one of five.
        seed: Seed of a new set.
        by: ``domain`` keeps the clips of a domain in one fold, too, so that each model judges
            speakers, sites or devices that it never heard. A set stays what it was made as.

    Returns:
        Name of the fold set.

    Raises:
        InvalidInput: If there are too few clips, or imported folds part a group.
    """
    if project.store.as_of is None:
        with project.store.write() as session:
            fold_set = _name(n, seed, session.fold_sets()[-1:], by)
            _deal(session, session.labels(), fold_set, n, seed)
        return fold_set
    with project.store.read() as session:
        table, last = session.labels(), session.fold_sets()[-1:]
    with project.current.read() as session:
        # Where there were none yet, those that were made next: folds stand once they are made.
        fold_set = _name(n, seed, last or session.fold_sets()[:1], by)
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


def _name(n: int | None, seed: int, known: Sequence[str], by: str) -> str:
    """The set that is asked for: who names neither number nor domains goes on with the last."""
    if by == DOMAIN:
        return f"{n or DEFAULT_FOLDS}-seed{seed}{_OF_DOMAINS}"
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
    by_domain = fold_set.endswith(_OF_DOMAINS)
    if by_domain and not any(table.domains):
        raise InvalidInput(
            f"fold set {fold_set}: no clip has a domain; import with --domain-column, or leave out "
            "--by domain"
        )
    recordings = same_recordings(table, domains=by_domain)
    groups = [recordings[i] for i in train]
    labels = multi_hot([table.labels[i] for i in train], len(table.classes))
    if fold_set == IMPORTED_FOLDS:
        numbers = sorted(set(standing.values()))
        fixed = np.where(fixed >= 0, np.searchsorted(numbers, fixed), -1)
    else:
        numbers = list(range(n or int(fold_set.split("-")[0])))
    try:
        folds = make_folds(
            labels,
            n=len(numbers),
            seed=seed,
            verified=np.isin(table.states[train], TRUSTED_STATES),
            groups=groups,
            fixed=fixed,
        )
    except InvalidInput as error:
        raise InvalidInput(f"fold set {fold_set}: {error}") from error
    if not by_domain:
        _tell_odd_groups([table.groups[i] for i in train], labels, len(numbers))
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


def _tell_odd_groups(groups: Sequence[str | None], labels: Floats, n_folds: int) -> None:
    """Tell of groups that look like domains, or are too few."""
    if odd := describe_groups(groups, labels, n_folds):
        say(f"{odd}; {DOMAIN_REMEDY}")


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
