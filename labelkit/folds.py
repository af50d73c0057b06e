"""Folds: stratified by label sets, never parting a group, drawn once from a seed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from labelkit.errors import InvalidInput
from labelkit.types import Array, Bools, Floats, Ints


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
        raise InvalidInput(
            f"{n_groups} groups cannot fill {n} folds; more clips are needed, or fewer folds"
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
