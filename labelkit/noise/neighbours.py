"""Nearest clips by their embeddings, and what they say about labels.

Distances are those of SelfClean (Gröger et al., 2024), ``1 - (cos + 1) / 2``: 0 for the same
direction, 1 for the opposite one. A vector of zeros has no direction: such vectors are the
same as each other and 0.5 away from any other. Clips of one group, say of one recording
or of one uploader, resemble each other for reasons that have nothing to do with labels,
so a clip's group is never among its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from labelkit.errors import InvalidInput
from labelkit.types import Array, Bools, Floats, Ints

# Similarities held at once, 4 bytes each.
_BLOCK = 2**24
# Clips of a strip, of which only the most similar one is looked at first.
_STRIP = 64
_TIES = 200  # Clips beyond k that are looked at one by one where many are as near.
# Rounding of float32 similarities; what lies closer is told apart in float64.
_ROUNDING = 2e-6


def find_neighbours(
    embeddings: Floats,
    *,
    k: int,
    groups: Ints | None = None,
    queries: Ints | None = None,
) -> tuple[Ints, Floats]:
    """Find the nearest other clips of each clip, exactly.

    Args:
        embeddings: One vector a clip, shape ``(n_clips, dim)``.
        k: How many neighbours.
        groups: Group of each clip, shape ``(n_clips,)``, -1 for none; clips of the clip's
            own group are left out.
        queries: Indices of the clips to ask for; all clips if None.

    Returns:
        Indices and distances, each ``(n_queries, k)``, nearest first, of equal
        vectors the lower index first. Where a clip's group leaves fewer than ``k`` others,
        the rest has index -1 and distance 1.

    Raises:
        InvalidInput: If the arrays do not fit, hold NaN, or there are too few clips.

    Example:
        >>> indices, distances = find_neighbours(np.array([[1, 0], [2, 0], [0, 1]]), k=1)
        >>> indices.ravel(), distances.ravel()
        (array([1, 0, 0]), array([0. , 0. , 0.5]))
    """
    unit, groups = _check(embeddings, groups)
    if not 1 <= k < len(unit):
        remedy = "take a lower k" if k > 1 else "give k from 1 and at least two clips"
        raise InvalidInput(f"find_neighbours: {k} neighbours asked of {len(unit)} clips; {remedy}")
    rows = np.arange(len(unit)) if queries is None else np.asarray(queries, int)
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(unit):
        raise InvalidInput(
            f"find_neighbours: queries must be indices of {len(unit)} clips, "
            f"got {rows.min()} to {rows.max()}"
        )
    indices, distances = np.full((len(rows), k), -1), np.ones((len(rows), k))
    for part, similarity in _similarities(unit, groups, rows):
        indices[part], distances[part] = _nearest(unit, rows[part], similarity, k)
    return indices, distances


def score_neighbours(
    labels: Array,
    embeddings: Floats,
    *,
    groups: Ints | None = None,
    k: int = 1,
) -> Floats:
    """Compare how near clips with the same label are with how near others are.

    The score of SelfClean (Gröger et al., NeurIPS 2024; for audio arXiv 2509.26291):
    ``other² / (same² + other²)`` of the distances to the nearest clip that shares a
    label and to the nearest that shares none. Here the clip's own group is left out:
    siblings cut from one recording share wrong labels too and would vouch for them.

    Source:
        SelfClean (Gröger et al. 2024).

    Use:
        With few errors and good embeddings.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``; clips without labels
            count as neither.
        embeddings: One vector a clip, shape ``(n_clips, dim)``.
        groups: Group of each clip, shape ``(n_clips,)``, -1 for none.
        k: Take the mean distance of so many nearest ones, or of fewer where there are.

    Returns:
        Scores in [0, 1], lower is worse, shape ``(n_clips,)``: 0.5 where both are equally
        near; a side without any clip is at distance 1. NaN for clips without labels.

    Raises:
        InvalidInput: If the arrays do not fit, hold NaN, or ``k`` is below 1.

    Example:
        >>> embeddings = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [1, 0.04]])
        >>> score_neighbours(np.eye(2)[[0, 0, 1, 1, 1]], embeddings).round(1)
        array([0. , 0.1, 1. , 1. , 0. ])
    """
    given, unit, groups = _check_labels(labels, embeddings, groups)
    if k < 1:
        raise InvalidInput(f"score_neighbours: k must be at least 1, got {k}")
    scores = np.full(len(given), np.nan)
    rows = np.flatnonzero(given.any(axis=1))
    unit, hot = unit[rows], given[rows].astype(np.float32)
    found = np.empty(len(rows))
    for part, similarity in _similarities(unit, groups[rows], np.arange(len(rows))):
        shared = hot[part] @ hot.T > 0
        same, other = (
            _mean_distance(*_nearest(unit, part, np.where(mask, similarity, -np.inf), k))
            for mask in (shared, ~shared)
        )
        total = same**2 + other**2
        found[part] = np.where(total > 0, other**2 / np.where(total > 0, total, 1), 0.5)
    scores[rows] = found
    return scores


def score_neighbour_vote(
    labels: Array,
    embeddings: Floats,
    *,
    groups: Ints | None = None,
    k: int = 10,
) -> Floats:
    """Return the share of the nearest clips with the clip's label, the lowest over its labels.

    Deep k-nearest neighbours (Bahri, Jiang and Gupta, ICML 2020). Many clips have equal
    shares: the nearer the neighbours, the further their vote is from a half, by a
    thousandth at most.

    Source:
        Bahri et al. 2020.

    Use:
        With larger classes.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``; clips without labels have
            no vote.
        embeddings: One vector a clip, shape ``(n_clips, dim)``.
        groups: Group of each clip, shape ``(n_clips,)``, -1 for none; clips of the clip's
            own group have no vote.
        k: How many neighbours, below 1000.

    Returns:
        Scores in [0, 1], lower is worse, shape ``(n_clips,)``; 0.5 for a clip whose group
        leaves no neighbour, NaN for one without labels.

    Raises:
        InvalidInput: If the arrays do not fit, hold NaN, or fewer than ``k`` other clips
            have labels.

    Example:
        >>> embeddings = np.array([[1, 0], [1, 0], [1, 0], [1, 0]])
        >>> score_neighbour_vote(np.eye(2)[[0, 0, 0, 1]], embeddings, k=3).round(2)
        array([0.67, 0.67, 0.67, 0.  ])
    """
    given, unit, groups = _check_labels(labels, embeddings, groups)
    scores = np.full(len(given), np.nan)
    rows = np.flatnonzero(given.any(axis=1))
    indices, distances = find_neighbours(unit[rows], k=k, groups=groups[rows])
    there = indices >= 0
    counts = there.sum(axis=1)
    clips, classes = np.nonzero(given[rows])
    votes = (given[rows[indices[clips]], classes[:, None]] & there[clips]).sum(axis=1)
    shares = np.ones(len(rows))
    np.minimum.at(shares, clips, votes / np.maximum(counts, 1)[clips])
    near = 1 - _mean_distance(indices, distances)
    found = shares + 1e-3 * (0.5 - shares) * (1 - near)
    scores[rows] = np.where(counts > 0, found, 0.5)
    return scores


def score_typicality(embeddings: Floats, *, groups: Ints | None = None, k: int = 10) -> Floats:
    """Rate how near a clip's nearest other clips are, against what is usual in the set.

    A clip that resembles no other is likely off-topic. Mean distances to the ``k``
    nearest are measured from their median in robust deviations ``z`` (1.4826 times the
    median absolute deviation of those above the median, since distances are skewed), and
    the score is ``1/2 - arctan(z) / pi``: 0.5 for the median clip.

    Source:
        labelkit.

    Use:
        For off-topic clips, not for labels.

    Args:
        embeddings: One vector a clip, shape ``(n_clips, dim)``.
        groups: Group of each clip, shape ``(n_clips,)``, -1 for none; clips of the clip's
            own group do not count.
        k: How many neighbours.

    Returns:
        Scores in [0, 1], lower is more off-topic, shape ``(n_clips,)``.

    Raises:
        InvalidInput: If the arrays do not fit, hold NaN, or there are too few clips.

    Example:
        >>> embeddings = np.array([[1, 0], [1, 0.1], [1, 0.2], [0.2, -1]])
        >>> score_typicality(embeddings, k=2).argmin()
        np.int64(3)
    """
    return 0.5 - np.arctan(_deviations(embeddings, groups, k)) / np.pi


def find_off_topic(
    embeddings: Floats,
    *,
    groups: Ints | None = None,
    k: int = 10,
    deviations: float = 5.0,
) -> Bools:
    """Find clips that resemble no other; few are found, so that few are found wrongly.

    Args:
        embeddings: One vector a clip, shape ``(n_clips, dim)``.
        groups: Group of each clip, shape ``(n_clips,)``, -1 for none; clips of the clip's
            own group do not count.
        k: How many neighbours.
        deviations: How many robust deviations the mean distance to them must lie above the
            median, see :func:`score_typicality`.

    Returns:
        Boolean mask, shape ``(n_clips,)``; ``True`` means off-topic.

    Raises:
        InvalidInput: If the arrays do not fit, hold NaN, there are too few clips, or
            ``deviations`` is not above 0.

    Example:
        >>> embeddings = np.random.default_rng(0).normal(1, 0.1, (50, 8))
        >>> embeddings[7, :4] = -1
        >>> find_off_topic(embeddings).nonzero()[0]
        array([7])
    """
    if not deviations > 0:
        raise InvalidInput(f"find_off_topic: deviations must be above 0, got {deviations}")
    return _deviations(embeddings, groups, k) > deviations


def _deviations(embeddings: Floats, groups: Ints | None, k: int) -> Floats:
    """Return the mean distance to the nearest, in robust deviations above the median clip's."""
    mean = _mean_distance(*find_neighbours(embeddings, k=k, groups=groups))
    above = mean - np.median(mean)
    # Where at least half of the distances are equal there is no deviation to count in.
    usual = np.median(above[above >= 0]) or above[above > 0].mean() if (above > 0).any() else 1.0
    return above / (1.4826 * usual)


def _check(embeddings: Floats, groups: Ints | None) -> tuple[Floats, Ints]:
    """Return vectors of length 1, float32, and a group for each clip."""
    vectors = np.asarray(embeddings)
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise InvalidInput(f"embeddings must have shape (n_clips, dim), got {vectors.shape}")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InvalidInput(
            f"embeddings of {len(bad)} clips hold NaN or infinite values, the first is "
            f"clip {bad[0]}; leave them out"
        )
    if groups is None:
        groups = np.full(len(vectors), -1)
    groups = np.asarray(groups)
    if groups.shape != (len(vectors),) or not np.issubdtype(groups.dtype, np.integer):
        raise InvalidInput(
            f"groups must be one integer a clip, -1 for none, shape ({len(vectors)},); "
            f"got {groups.dtype} of shape {groups.shape}"
        )
    # Scaled first: squares of large or small numbers do not fit float32.
    largest = np.abs(vectors).max(axis=1, initial=0, keepdims=True)
    unit = (vectors / np.where(largest > 0, largest, 1)).astype(np.float32)
    lengths = np.linalg.norm(unit, axis=1, keepdims=True)
    unit /= np.where(lengths > 0, lengths, 1)
    zero = largest == 0
    return (np.hstack([unit, zero.astype(np.float32)]) if zero.any() else unit), groups


def _check_labels(
    labels: Array, embeddings: Floats, groups: Ints | None
) -> tuple[Bools, Floats, Ints]:
    """Return boolean labels, and what :func:`_check` returns."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or len(labels) != len(embeddings):
        raise InvalidInput(
            f"labels must have shape (n_clips, n_classes) for {len(embeddings)} embeddings, "
            f"got {labels.shape}"
        )
    if not ((labels == 0) | (labels == 1)).all():
        raise InvalidInput("labels must be multi-hot: only 0 and 1")
    return labels > 0, *_check(embeddings, groups)


def _similarities(unit: Floats, groups: Ints, rows: Ints) -> Iterator[tuple[Ints, Floats]]:
    """Yield blocks of ``rows``, as positions in it, and their cosines with all clips.

    A clip itself and its group are at minus infinity.
    """
    # Each clip of a group is followed by the others of it in this order.
    order = np.argsort(groups, kind="stable")
    first = np.searchsorted(groups[order], groups, side="left")
    last = np.searchsorted(groups[order], groups, side="right")
    step = max(1, _BLOCK // max(1, len(unit)))
    for start in range(0, len(rows), step):
        part = np.arange(start, min(start + step, len(rows)))
        clips = rows[part]
        similarity = unit[clips] @ unit.T
        similarity[np.arange(len(part)), clips] = -np.inf
        for row, clip in enumerate(clips):
            if groups[clip] >= 0:
                similarity[row, order[first[clip] : last[clip]]] = -np.inf
        yield part, similarity


def _nearest(unit: Floats, clips: Ints, similarity: Floats, k: int) -> tuple[Ints, Floats]:
    """Find the ``k`` nearest by a block of similarities: indices and distances, nearest first.

    The ``k`` most similar clips lie in the strips whose best are at least the ``k``-th
    best of all strips, so hardly more than ``k`` clips a row are looked at one by one.
    """
    n_rows, n = similarity.shape
    width = max(1, min(_STRIP, n // (4 * k)))
    n_strips = -(-n // width)
    whole = n - n % n_strips
    best = similarity[:, :whole].reshape(n_rows, -1, n_strips).max(axis=1)
    # The last clips make some of the strips one longer.
    longer = best[:, : n - whole]
    np.maximum(longer, similarity[:, whole:], out=longer)
    kth = min(k, n_strips)
    bound = np.partition(best, n_strips - kth, axis=1)[:, n_strips - kth] - _ROUNDING
    bound = np.maximum(bound, -2)[:, None]
    rows, strip = np.nonzero(best >= bound)
    members = strip[:, None] + n_strips * np.arange(width)
    there = members < n
    near = similarity[rows[:, None], np.where(there, members, 0)]
    hit, place = np.nonzero(there & (near >= bound[rows]))
    rows, found, near = rows[hit], members[hit, place], near[hit, place]
    if np.bincount(rows, minlength=1).max() > _TIES + k:
        # Among crowds of equal vectors any k will do, and these are the first of them.
        order = np.lexsort((found, -near, rows))
        order = order[np.arange(len(rows)) - np.searchsorted(rows, rows) < _TIES + k]
        rows, found = rows[order], found[order]
    distances = _distances(unit, clips[rows], found)
    order = np.lexsort((found, distances, rows))
    rows, found, distances = rows[order], found[order], distances[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    keep = rank < k
    indices, result = np.full((n_rows, k), -1), np.ones((n_rows, k))
    indices[rows[keep], rank[keep]] = found[keep]
    result[rows[keep], rank[keep]] = distances[keep]
    return indices, result


def _distances(unit: Floats, clips: Ints, others: Ints) -> Floats:
    """Return ``(1 - cos) / 2`` of pairs of clips, exactly 0 for equal vectors."""
    step = max(1, _BLOCK // 4 // unit.shape[1])
    result = np.empty(len(clips))
    for start in range(0, len(clips), step):
        part = slice(start, start + step)
        gap = unit[clips[part]].astype(np.float64) - unit[others[part]]
        result[part] = np.einsum("ij,ij->i", gap, gap) / 4
    return np.clip(result, 0, 1)


def _mean_distance(indices: Ints, distances: Floats) -> Floats:
    """Average over the neighbours that are there; 1 where there is none."""
    there = indices >= 0
    counts = there.sum(axis=1)
    sums = np.where(there, distances, 0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)
