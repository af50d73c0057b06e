"""Which clips to trust: masks computed from probabilities and labels.

A rule takes multi-hot labels ``(n_clips, n_classes)`` and the probabilities of one or more
judges, models that saw none of these clips, each of that shape; it returns the mask
``(n_clips,)`` of the clips to keep. A clip without labels is never kept. ``per_class``
bounds the clips of a class, the surest first; a clip of several classes counts in each.
"""

from __future__ import annotations

import numpy as np

from labelkit import metrics
from labelkit.errors import InvalidInput
from labelkit.noise import scoring
from labelkit.noise.pairs import find_missing
from labelkit.types import Array, Bools, Floats, Ints


def select_confident(
    labels: Array, *probs: Floats, threshold: float = 0.95, per_class: int = 40
) -> Bools:
    """Keep the clips whose labels are the most probable classes, each above a threshold.

    The rule of Dorfer and Widmer (DCASE 2018 task 2): the label is the most probable
    class, its probability is above a threshold, and of each class only the most probable
    clips are kept. Their released code has no threshold (0 here). A clip with several
    labels passes if they are its most probable classes, each above the threshold.

    Source:
        Dorfer and Widmer, DCASE 2018 task 2.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of one or more judges, each of that shape; they are averaged.
        threshold: Every label's probability must be above it; 0 asks for nothing.
        per_class: At most so many clips of a class; 0 is no limit.

    Returns:
        Boolean mask, shape ``(n_clips,)``; ``True`` means kept.

    Raises:
        InvalidInput: If the arrays do not fit or an option is negative.

    Example:
        >>> labels = np.eye(2)[[0, 0, 1]]
        >>> probs = np.array([[0.97, 0.03], [0.6, 0.4], [0.7, 0.3]])
        >>> select_confident(labels, probs)
        array([ True, False, False])
        >>> select_confident(labels, probs, threshold=0)
        array([ True,  True, False])
    """
    labels, mean = _one_judge(labels, probs, threshold=threshold, per_class=per_class)
    passing = find_passing(labels, mean, threshold)
    return limit_classes(labels, _by_confidence(labels, mean), passing, per_class)


def find_passing(labels: Bools, probs: Floats, threshold: float) -> Bools:
    """Find clips whose labels are their most probable classes, each above ``threshold``.

    Args:
        labels: Boolean labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of the same shape.
        threshold: Exclusive lower bound; 0 asks for nothing.

    Returns:
        Boolean mask, shape ``(n_clips,)``.
    """
    clips, classes, ranks = metrics.label_ranks(labels, probs)
    fails = ranks > labels.sum(axis=1)[clips]
    if threshold > 0:
        fails |= probs[clips, classes] <= threshold
    passing = np.asarray(labels.any(axis=1))
    passing[clips[fails]] = False
    return passing


def select_lwlrap(
    labels: Array,
    *probs: Floats,
    at_least: float = 1.0,
    at_most: float = 1.0,
    per_class: int = 0,
    folds: Ints | None = None,
) -> Bools:
    """Keep the clips whose lwlrap, the geometric mean over several models, lies in a range.

    Bouteillon (Freesound Audio Tagging 2019, 8th place) kept a geometric mean of two
    models of at least 0.5, at most five clips per fold and label, and later every clip
    of lwlrap 1; argus (1st place) kept noisy clips of high lwlrap and, in its code only,
    left out others (a range at the lower end here; its limits are unpublished).

    Source:
        Bouteillon, Freesound 2019, both rules.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of one or more judges, each of that shape.
        at_least: Lowest mean that passes.
        at_most: Highest mean that passes.
        per_class: At most so many clips of a class, the highest means first and of equal
            ones those of more probable labels; 0 is no limit.
        folds: Fold of each clip, shape ``(n_clips,)``; the limit then counts in each.

    Returns:
        Boolean mask, shape ``(n_clips,)``; ``True`` means kept.

    Raises:
        InvalidInput: If the arrays do not fit, there is no model, or an option is negative.

    Example:
        >>> labels = np.eye(3)[[0, 0, 0]]
        >>> probs = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.3, 0.6]])
        >>> select_lwlrap(labels, probs, at_least=0.5)
        array([ True,  True, False])
    """
    labels, mean = _one_judge(labels, probs, at_least=at_least, per_class=per_class)
    if at_most < at_least:
        raise InvalidInput(f"at_least {at_least} must not be above at_most {at_most}")
    if folds is not None and len(folds) != len(labels):
        raise InvalidInput(f"folds has {len(folds)} clips, labels {len(labels)}; give one a clip")
    scores = np.stack([metrics.lwlrap_per_clip(labels, part) for part in probs])
    means = np.exp(np.log(np.maximum(scores, 1e-300)).mean(axis=0))
    # Rounding must not part 1 from 1, nor the root of a quarter from a half.
    passing = (means >= at_least - 1e-9) & (means <= at_most + 1e-9)
    # Many clips share a mean: the surer the models are of the labels, the better.
    order = np.empty(len(labels), int)
    order[np.lexsort([_by_confidence(labels, mean), -np.round(means, 9)])] = np.arange(len(order))
    return limit_classes(labels, order, passing, per_class, folds)


def select_small_loss(
    labels: Array,
    *probs: Floats,
    n: int = 5000,
    per_class: int = 50,
    single_label: bool = True,
) -> Bools:
    """Keep the first ``n`` clips by binary log-loss, and of each class only so many of them.

    The rule of the 9th place of Freesound Audio Tagging 2019 (Shugaev et al., DCASE
    2019), whose code caps each class within the first 5,000, so that fewer are kept.

    Source:
        Shugaev et al., Freesound 2019, 9th place.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of one or more judges, each of that shape; they are averaged.
        n: How many clips of lowest loss to look at.
        per_class: At most so many of them of a class; 0 is no limit.
        single_label: Pass over clips with several labels.

    Returns:
        Boolean mask, shape ``(n_clips,)``; ``True`` means kept.

    Raises:
        InvalidInput: If the arrays do not fit, there is no model, or an option is negative.

    Example:
        >>> labels = np.eye(2)[[0, 0, 1]]
        >>> probs = np.array([[0.9, 0.2], [0.6, 0.4], [0.3, 0.7]])
        >>> select_small_loss(labels, probs, n=2)
        array([ True, False,  True])
    """
    labels, mean = _one_judge(labels, probs, n=n, per_class=per_class)
    losses = _by_loss(labels, mean)
    n_labels = labels.sum(axis=1)
    candidates = np.flatnonzero(n_labels == 1 if single_label else n_labels)
    passing = np.zeros(len(labels), bool)
    passing[candidates[np.argsort(losses[candidates], kind="stable")[:n]]] = True
    return limit_classes(labels, losses, passing, per_class)


def select_clean_share(
    labels: Array,
    *probs: Floats,
    keep: float = 0.8,
    by_class: bool = True,
    per_class: int = 0,
) -> Bools:
    """Keep the share of the clips whose labels a model finds easiest to explain.

    The small-loss trick of Co-teaching (Han et al., 2018), by binary log-loss. Rare
    classes have high losses for honest reasons, so by default the share is taken inside
    each class; a clip with several labels is kept if any of them keeps it.

    Source:
        Co-teaching (Han et al. 2018).

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of one or more judges, each of that shape; they are averaged.
        keep: Share to keep, in (0, 1], rounded down, but at least one clip of a class.
        by_class: Take the share inside each class rather than over the whole set.
        per_class: At most so many clips of a class; 0 is no limit.

    Returns:
        Boolean mask, shape ``(n_clips,)``; ``True`` means kept.

    Raises:
        InvalidInput: If the arrays do not fit or an option is out of range.

    Example:
        >>> labels = np.eye(2)[[0, 0, 1, 1]]
        >>> probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        >>> select_clean_share(labels, probs, keep=0.5)
        array([ True, False, False,  True])
    """
    labels, mean = _one_judge(labels, probs, per_class=per_class)
    order = _by_loss(labels, mean)
    return limit_classes(labels, order, _keep_share(labels, order, keep, by_class), per_class)


def select_rank_mean(
    labels: Array,
    *probs: Floats,
    keep: float = 0.8,
    by_class: bool = True,
    per_class: int = 0,
) -> Bools:
    """Keep a share of the clips by mean rank: self-confidence, margin, log-loss of all judges.

    Of every judge self-confidence, margin and log-loss are ranked, so that a judge whose
    probabilities are extreme counts no more than another one.

    Source:
        labelkit.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of one or more judges, each of that shape.
        keep: Share to keep, in (0, 1], rounded down, but at least one clip of a class.
        by_class: Take the share inside each class rather than over the whole set.
        per_class: At most so many clips of a class; 0 is no limit.

    Returns:
        Boolean mask, shape ``(n_clips,)``; ``True`` means kept.

    Raises:
        InvalidInput: If the arrays do not fit or an option is out of range.

    Example:
        >>> probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]])
        >>> select_rank_mean(np.eye(2)[[0, 0, 0]], probs, keep=0.7)
        array([ True, False,  True])
    """
    labels, _ = _one_judge(labels, probs, per_class=per_class)
    methods = (scoring.score_self_confidence, scoring.score_margin, scoring.score_log_loss)
    order = -scoring.fuse_ranks([score(labels, part) for part in probs for score in methods])
    return limit_classes(labels, order, _keep_share(labels, order, keep, by_class), per_class)


def select_mixture(
    labels: Array,
    *probs: Floats,
    posterior: float = 0.5,
    by_class: bool = False,
    per_class: int = 0,
) -> Bools:
    """Keep the clips that more likely belong to the low losses than to the high ones.

    DivideMix's cut-off (Li et al., 2020), which finds itself how many clips are clean;
    see :func:`labelkit.noise.scoring.score_mixture`.

    Source:
        DivideMix (Li et al. 2020).

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of one or more judges, each of that shape; they are averaged.
        posterior: The chance must be above it, in [0, 1).
        by_class: Part the losses of each class rather than all.
        per_class: At most so many clips of a class, the lowest losses first; 0 is no limit.

    Returns:
        Boolean mask, shape ``(n_clips,)``; ``True`` means kept.

    Raises:
        InvalidInput: If arrays do not fit, an option is out of range, or all losses are equal.

    Example:
        >>> p = np.array([0.9, 0.88, 0.92, 0.1, 0.12])
        >>> select_mixture(np.eye(2)[[0] * 5], np.column_stack([p, 1 - p]))
        array([ True,  True,  True, False, False])
    """
    labels, mean = _one_judge(labels, probs, per_class=per_class)
    if not 0 <= posterior < 1:
        raise InvalidInput(f"posterior {posterior} must be at least 0 and below 1")
    passing = np.asarray(scoring.score_mixture(labels, mean, per_class=by_class) > posterior)
    return limit_classes(labels, _by_loss(labels, mean), passing, per_class)


def select_complete(
    labels: Array, *probs: Floats, percentile: float = 99.0, per_class: int = 0
) -> Bools:
    """Keep the clips that likely lack no label.

    After Fonseca et al. (ICASSP 2020); see :func:`labelkit.noise.pairs.find_missing`. Says
    nothing of the labels that are given: those may be wrong.

    Source:
        Fonseca et al. 2020.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of one or more judges, each of that shape; they are averaged.
        percentile: Of a class's probabilities among the clips without it, in [0, 100];
            a clip above it likely lacks the class.
        per_class: At most so many clips of a class, the surest labels first; 0 is no limit.

    Returns:
        Boolean mask, shape ``(n_clips,)``; ``True`` means kept.

    Raises:
        InvalidInput: If the arrays do not fit or an option is out of range.

    Example:
        >>> labels = np.array([[1, 0], [0, 1], [0, 1], [0, 1]])
        >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.9]])
        >>> select_complete(labels, probs, percentile=50)
        array([ True, False,  True,  True])
    """
    labels, mean = _one_judge(labels, probs, per_class=per_class)
    complete = np.logical_not(find_missing(labels, mean, percentile=percentile).any(axis=1))
    return limit_classes(labels, _by_confidence(labels, mean), complete, per_class)


def select_listed(
    labels: Array,
    *probs: Floats,
    listed: Bools | None = None,
    per_class: int = 0,
) -> Bools:
    """Keep the clips that somebody listed as good.

    The list of argus (Freesound Audio Tagging 2019, 1st place), checked by ear, is one.

    Source:
        argus, Freesound 2019, 1st place.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Probabilities of any number of judges; they only say whom ``per_class`` takes.
        listed: Mask of the clips of the list, shape ``(n_clips,)``; only where there is no
            clip may it be left out.
        per_class: At most so many clips of a class, the surest labels first or, without a
            model, the first ones; 0 is no limit.

    Returns:
        Boolean mask, shape ``(n_clips,)``; ``True`` means kept.

    Raises:
        InvalidInput: If the arrays do not fit, there is no list, or ``per_class`` is negative.

    Example:
        >>> select_listed(np.eye(2)[[0, 0, 1]], listed=np.array([True, True, False]), per_class=1)
        array([ True, False, False])
    """
    labels, mean = _one_judge(labels, probs or (labels,), per_class=per_class)
    if listed is None and len(labels):
        raise InvalidInput(
            "rule listed takes its clips from a list, and none is given; labelkit select --list "
            "reads one"
        )
    listed = np.zeros(0, bool) if listed is None else np.asarray(listed)
    if listed.shape != (len(labels),) or listed.dtype != bool:
        raise InvalidInput(
            f"listed must be a mask of shape ({len(labels)},), got {listed.dtype} of shape "
            f"{listed.shape}"
        )
    return limit_classes(labels, _by_confidence(labels, mean), listed, per_class)


def _one_judge(labels: Array, probs: tuple[Floats, ...], **options: float) -> tuple[Bools, Floats]:
    """Return boolean labels and the mean of the judges, if they fit and no option is negative."""
    if not probs:
        raise InvalidInput("give the probabilities of at least one model after the labels")
    if not all(value >= 0 for value in options.values()):
        told = " and ".join(f"{name} {value}" for name, value in options.items())
        raise InvalidInput(f"{told} must not be negative")
    parts = [metrics.check_arrays(labels, part)[1] for part in probs]
    return metrics.check_labels(labels), sum(parts[1:], parts[0]) / len(parts)


def _by_loss(labels: Bools, probs: Floats) -> Floats:
    """Order by binary log-loss, the lowest first."""
    return -scoring.score_log_loss(labels, probs)


def _by_confidence(labels: Bools, probs: Floats) -> Floats:
    """Order by the lowest probability of a given label, the highest first."""
    return -scoring.score_self_confidence(labels, probs)


def _keep_share(labels: Bools, order: Floats, keep: float, by_class: bool) -> Bools:
    """Keep the lowest ``order`` of each class or of all labelled clips: a share, at least one."""
    if not 0 < keep <= 1:
        raise InvalidInput(f"keep {keep} must be above 0 and at most 1")
    kept = np.zeros(len(labels), bool)
    for members in labels.T if by_class else [labels.any(axis=1)]:
        clips = np.flatnonzero(members)
        # Rounding must not make 28 of 0.29 times 100.
        n = max(int(keep * len(clips) + 1e-9), 1)
        kept[clips[np.argsort(order[clips], kind="stable")[:n]]] = True
    return kept


def limit_classes(
    labels: Bools,
    order: Floats | Ints,
    passing: Bools,
    per_class: int,
    folds: Ints | None = None,
) -> Bools:
    """Keep passing clips with labels, lowest ``order`` first, while each class has room.

    Args:
        labels: Boolean labels, shape ``(n_clips, n_classes)``.
        order: Rank of each clip.
        passing: Mask of the clips to choose from.
        per_class: At most so many clips of a class; 0 is no limit.
        folds: Fold of each clip; the limit then counts in each.
    """
    passing = passing & np.asarray(labels.any(axis=1))
    if not per_class:
        return passing
    parts = (
        np.zeros(len(labels), int) if folds is None else np.unique(folds, return_inverse=True)[1]
    )
    room = np.full((parts.max(initial=0) + 1, labels.shape[1]), per_class)
    kept = np.zeros(len(labels), bool)
    candidates = np.flatnonzero(passing)
    for clip in candidates[np.argsort(order[candidates], kind="stable")]:
        left = room[parts[clip]]
        if (left[labels[clip]] > 0).all():
            kept[clip] = True
            left[labels[clip]] -= 1
    return kept
