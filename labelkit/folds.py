"""Folds: stratified by label sets, never parting a group, drawn once from a seed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from labelkit.errors import InvalidInput
from labelkit.types import Array, Bools, Floats, Ints

# Fewer groups a fold than this, and every model lacks a good part of what there is.
_GROUPS_A_FOLD = 3
# Groups are like domains that have so many clips in the mean, most of them in groups that hold so
# many classes, and such a share of all of them.
_LARGE, _CLASSES, _ACROSS = 8, 3, 1 / 3


def make_folds(
    labels: Array,
    *,
    n: int,
    seed: int,
    verified: Bools | None = None,
    groups: Sequence[Hashable] | None = None,
    fixed: Ints | None = None,
) -> Ints:
    """Deal clips into folds of equal class shares.

    Groups are dealt whole, the ones that are hardest to place first, each to the
    fold that lacks its labels most; this is the iterative stratification of Sechidis
    et al. (2011) with groups in the place of clips. Verified and unverified clips
    are balanced apart, as Dorfer and Widmer did, because they are judged apart.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        n: Number of folds, at least 2.
        seed: Order of what is otherwise equal.
        verified: Mask of clips whose labels are trusted, shape ``(n_clips,)``.
        groups: Source or uploader of each clip; None or NaN is a group of its own.
        fixed: Folds that stand already, -1 where there is none. Their groups follow.

    Returns:
        Fold of each clip, from 0 to ``n - 1``, shape ``(n_clips,)``.

    Raises:
        InvalidInput: If shapes disagree, there are fewer groups than folds, or
            ``fixed`` has one group in two folds.

    Example:
        >>> make_folds(np.eye(2)[[0, 0, 1, 1]], n=2, seed=0).tolist().count(0)
        2
    """
    labels = np.asarray(labels) > 0
    if labels.ndim != 2:
        raise InvalidInput(f"labels must have shape (n_clips, n_classes), got {labels.shape}")
    n_clips = len(labels)
    if n < 2:
        raise InvalidInput(f"folds: n must be at least 2, got {n}")
    verified = np.zeros(n_clips, bool) if verified is None else np.asarray(verified, bool)
    fixed = np.full(n_clips, -1) if fixed is None else np.asarray(fixed)
    for name, values in (("verified", verified), ("fixed", fixed), ("groups", groups)):
        if values is not None and len(values) != n_clips:
            raise InvalidInput(f"labels has {n_clips} clips, {name} has {len(values)}")
    group_of = group_indices(groups, n_clips)
    n_groups = int(group_of.max()) + 1 if n_clips else 0
    if n_groups < n:
        few = "1 group" if n_groups == 1 else f"{n_groups} groups"
        parted = (
            ""
            if n_groups == n_clips
            else "; where groups are speakers, sites or devices rather than recordings, import "
            "their column by --domain-column"
        )
        raise InvalidInput(
            f"{few} cannot fill {n} folds; more clips are needed, or fewer folds{parted}"
        )

    # Verified and unverified labels and clips are balanced apart; where that leaves a
    # choice, so are all labels together.
    apart = [labels & verified[:, None], labels & ~verified[:, None], verified, ~verified]
    columns = np.column_stack([*apart, labels]).astype(np.int64)
    weights = np.repeat([1.0, 0.01, 0.1], [2 * labels.shape[1], 2, labels.shape[1]])
    content = np.zeros((n_groups, columns.shape[1]), np.int64)
    np.add.at(content, group_of, columns)
    fold_of = _fixed_folds(group_of, fixed, n_groups)
    return _deal(content, weights, fold_of, n, seed)[group_of]


def describe_groups(
    groups: Sequence[Hashable] | None, labels: Array, n: int | None = None
) -> str | None:
    """Say what makes groups unfit to be kept whole, and what may be meant instead.

    A group is a recording that clips were cut from: to part it is to show a model what it shall
    judge. Speakers, sites and devices are domains: to keep them whole asks how a model does on
    strangers, and a model that lacks a tenth of the speakers judges labels worse.

    Args:
        groups: Group of each clip; None or NaN where there is none.
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        n: Number of folds; None leaves open how many are needed.

    Returns:
        A line, or None where nothing is odd.

    Example:
        >>> describe_groups(["ann", "bob"] * 20, np.eye(4)[np.arange(40) // 10])
        '2 groups of 20 clips each hold many classes each, as speakers, sites or devices do'
    """
    labels = np.asarray(labels) > 0
    known = [k for k, g in enumerate(groups or ()) if not (g is None or g != g)]
    if groups is None or not known:
        return None
    group_of = group_indices(groups, len(labels))
    n_groups = int(group_of.max()) + 1
    sizes = np.bincount(group_of[known], minlength=n_groups)
    classes = np.zeros((n_groups, labels.shape[1]), bool)
    np.logical_or.at(classes, group_of[known], labels[known])
    n_classes = classes.sum(axis=1)
    n_all = int(labels.any(axis=0).sum())
    wide = (n_classes > 1) & (n_classes >= max(min(_CLASSES, n_all), _ACROSS * n_all))
    named = sizes > 0
    if named.sum() > 1 and sizes[named].mean() >= _LARGE and 2 * sizes[wide].sum() > sizes.sum():
        each = f"{sizes[named].mean():.0f} clips each"
        return (
            f"{int(named.sum())} groups of {each} hold many classes each, as speakers, sites or "
            "devices do"
        )
    if n is not None and n <= n_groups < _GROUPS_A_FOLD * n:
        return (
            f"{n_groups} groups for {n} folds are fewer than {_GROUPS_A_FOLD} a fold: each model "
            "lacks much of what it shall judge"
        )
    return None


# What to do about groups that are none.
DOMAIN_REMEDY = (
    "where they are that rather than recordings, take the import back (labelkit undo) and give "
    "their column by --domain-column in the place of --group-column"
)


def group_indices(groups: Sequence[Hashable] | None, n_clips: int) -> Ints:
    """Number the groups from 0; a clip without a group is one of its own.

    Args:
        groups: Group of each clip, None or NaN where there is none.
        n_clips: Number of clips.

    Returns:
        Group index of each clip, shape ``(n_clips,)``, in order of appearance.
    """
    if groups is None:
        return np.arange(n_clips)
    numbers: dict[Hashable, int] = {}
    return np.array(
        [
            numbers.setdefault(
                ("clip", clip) if g is None or g != g else ("group", g), len(numbers)
            )
            for clip, g in enumerate(groups)
        ],
        int,
    )


def _fixed_folds(group_of: Ints, fixed: Ints, n_groups: int) -> Ints:
    fold_of = np.full(n_groups, -1)
    for clip in np.flatnonzero(fixed >= 0):
        group = group_of[clip]
        if fold_of[group] not in (-1, fixed[clip]):
            raise InvalidInput(
                f"clip {clip} stands in fold {fixed[clip]}, others of its group in "
                f"fold {fold_of[group]}; a group must lie in one fold"
            )
        fold_of[group] = fixed[clip]
    return fold_of


def _deal(content: Ints, weights: Floats, fold_of: Ints, n: int, seed: int) -> Ints:
    """Deal groups, the largest share of the rarest column first, to the neediest fold."""
    lacking = np.tile(content.sum(axis=0) / n, (n, 1))
    for group in np.flatnonzero(fold_of >= 0):
        lacking[fold_of[group]] -= content[group]
    rng = np.random.default_rng(seed)
    free = rng.permutation(np.flatnonzero(fold_of < 0))
    tie = rng.random((len(free), n)) * 1e-9
    totals = content.sum(axis=0)
    scarcity = weights / np.maximum(totals, 1)
    rarest = np.where(content[free] > 0, totals, np.iinfo(np.int64).max).min(axis=1)
    # Several clips in one group are hard to place, so they go while there is room.
    order = np.lexsort((rarest, -content[free].sum(axis=1)))
    for k in order:
        group = free[k]
        weight = content[group] * scarcity
        fold = int(np.argmax(lacking @ weight + tie[k]))
        fold_of[group] = fold
        lacking[fold] -= content[group]
    return fold_of
