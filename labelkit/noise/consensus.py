"""What several annotators together say of a clip, and how far they agree.

The question of Dawid and Skene (1979). ``votes`` has the shape ``(n_annotators, n_clips,
n_classes)``: 1 for a class that was ticked, 0 for one that was not, and NaN in all classes
of a clip the annotator did not answer. An answer of zeros is an answer: none of these. A
consensus has the shape ``(n_clips, n_classes)`` and is NaN where none was reached: a tie is
a disagreement, never a coin toss.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from labelkit import metrics
from labelkit.errors import InvalidInput
from labelkit.types import Bools, Floats, Ints

# Qualities that differ by less are equal but for rounding.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Agreement:
    """How far each annotator agrees with the others; every array is ``(n_annotators,)``.

    ``answers`` counts the answers, ``shared`` those on clips somebody else answered as well.
    ``exact``, ``jaccard`` and ``kappa`` are means over all other annotators, each weighted by
    the clips shared. ``majority`` is the share of the answers that equal the most frequent
    one of the others, where they have one. NaN where nothing is shared.
    """

    answers: Ints
    shared: Ints
    exact: Floats
    jaccard: Floats
    kappa: Floats
    majority: Floats


def consensus_majority(votes: Floats) -> Floats:
    """Take the most frequent answer to each clip, all its labels together.

    Answers compete as wholes, so nobody's labels are mixed with another's and the result
    is always something a person said. It need not be more than half of them.

    Args:
        votes: Answers, shape ``(n_annotators, n_clips, n_classes)``; NaN if not answered.

    Returns:
        Multi-hot consensus, shape ``(n_clips, n_classes)``; a row of NaN where nobody
        answered or the most frequent answers tie.

    Raises:
        InvalidInput: If the votes have another shape or hold anything but 0, 1 and NaN.

    Example:
        >>> votes = np.array([[[1, 1], [1, 0]], [[1, 1], [0, 1]], [[0, 0], [np.nan, np.nan]]])
        >>> consensus_majority(votes)
        array([[ 1.,  1.],
               [nan, nan]])
    """
    codes, answers = _encode(*_check_votes(votes))
    return _rows_of(_majority(codes), answers)


def consensus_per_class(votes: Floats) -> Floats:
    """Decide each class by itself: present if more than half of the annotators ticked it.

    For several labels a clip, where two people seldom tick all the same. The labels
    together may be an answer that nobody gave.

    Args:
        votes: Answers, shape ``(n_annotators, n_clips, n_classes)``; NaN if not answered.

    Returns:
        Multi-hot consensus, shape ``(n_clips, n_classes)``; NaN in the classes that as
        many ticked as did not, and in all where nobody answered, or no class has a majority
        though at least half ticked some.

    Raises:
        InvalidInput: If the votes have another shape or hold anything but 0, 1 and NaN.

    Example:
        >>> consensus_per_class(np.array([[[1, 1, 0]], [[1, 0, 0]]]))
        array([[ 1., nan,  0.]])
    """
    answered, ticked = _check_votes(votes)
    n_answers = answered.sum(axis=0)
    lead = 2 * ticked.sum(axis=0) - n_answers[:, None]
    found = np.where(lead == 0, np.nan, (lead > 0).astype(float))
    # Three who each tick another class do not say together that there is none.
    empty = (answered & ~ticked.any(axis=2)).sum(axis=0)
    found[(lead <= 0).all(axis=1) & (2 * empty <= n_answers)] = np.nan
    return found


def consensus_quality(votes: Floats, probs: Floats) -> Floats:
    """Take the answer to each clip whose quality a model and the annotators' record support.

    CROWDLAB (Goh et al., 2022) by cleanlab: each annotator weighs as much as the others
    bear out, the model as much as the consensus does. Only answers that somebody gave
    compete, so a guess of the model never becomes a label; between two annotators who
    differ, though, the model decides. The model knows no "none of these": where at least
    half of the answers are none of its classes, and where it says nothing of the clip, the
    most frequent answer counts as in :func:`consensus_majority`. Where no two annotators
    agree on any clip there is no record, and all that differs stays open.

    Args:
        votes: Answers of at most one class each, shape ``(n_annotators, n_clips,
            n_classes)``; NaN if not answered. Further classes at the end are answers
            the model does not know, such as "no usable sound".
        probs: Out-of-fold probabilities, shape ``(n_clips, n_classes)``; a row of NaN for a
            clip without any.

    Returns:
        Multi-hot consensus, shape of one annotator's votes; a row of NaN where nobody
        answered, or where answers tie that the model finds equally probable as well.

    Raises:
        InvalidInput: If the arrays do not fit, a probability is outside [0, 1], or an
            answer has several classes.

    Example:
        >>> votes = np.eye(2)[[[0, 0, 1, 0], [0, 0, 1, 1]]]
        >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7]])
        >>> consensus_quality(votes, probs)
        array([[1., 0.],
               [1., 0.],
               [0., 1.],
               [0., 1.]])
    """
    answered, ticked = _check_votes(votes)
    probs = _check_probs(probs, ticked)
    codes, answers = _encode(answered, ticked)
    found = _rows_of(_majority(codes), answers)
    known = ticked[..., : probs.shape[1]]
    judged = 2 * known.any(axis=2).sum(axis=0) > answered.sum(axis=0)
    judged &= ~np.isnan(probs[:, 0])
    counts = known.sum(axis=0) * judged[:, None]
    differing = (counts > 0).sum(axis=1) > 1
    found[differing] = np.nan
    # On these ties cleanlab would draw lots.
    tied = _ties(counts, probs)
    fitted, open_clips = judged & ~tied, np.flatnonzero(differing & ~tied)
    if not len(open_clips) or not (counts[fitted] > 1).any():
        return found
    labels = np.where(known.any(axis=2), known.argmax(axis=2), np.nan)[:, fitted]
    chosen = _best_given(labels[~np.isnan(labels).all(axis=1)].T, probs[fitted])
    best = chosen[differing[fitted]]
    decided = open_clips[best >= 0]
    found[decided] = 0
    found[decided, best[best >= 0]] = 1
    return found


def measure_agreement(votes: Floats) -> Agreement:
    """Measure how far each annotator agrees with the others, beyond chance as well.

    Kappa is Cohen's (1960), weighted (1968) by the Jaccard distance of two answers, as
    Krippendorff's alpha takes a distance: with one label a clip it is the plain kappa,
    with several it does not call answers different that share most labels. It has no value
    for two annotators who gave one and the same answer to all clips they share.

    Args:
        votes: Answers, shape ``(n_annotators, n_clips, n_classes)``; NaN if not answered.

    Returns:
        Counts and agreements of each annotator.

    Raises:
        InvalidInput: If the votes have another shape or hold anything but 0, 1 and NaN.

    Example:
        >>> votes = np.eye(2)[[[0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 1, 0]]]
        >>> measure_agreement(votes).kappa
        array([0.5, 0.5, 0. ])
    """
    answered, ticked = _check_votes(votes)
    codes, answers = _encode(answered, ticked)
    n = len(codes)
    shared, exact, jaccard, kappa = np.zeros((n, n)), *np.full((3, n, n), np.nan)
    for pair in combinations(range(n), 2):
        mine, theirs = codes[list(pair)][:, answered[list(pair)].all(axis=0)]
        if len(mine):
            where = pair, pair[::-1]
            shared[where] = len(mine)
            exact[where] = (mine == theirs).mean()
            likeness, expected = _likeness(mine, theirs, answers)
            jaccard[where] = likeness
            if expected < 1 - ROUNDING:
                kappa[where] = 1 - (1 - likeness) / (1 - expected)
    majority = np.full(n, np.nan)
    for annotator, mine in enumerate(codes):
        others = _majority(np.delete(codes, annotator, axis=0))
        both = (mine >= 0) & (others >= 0)
        if both.any():
            majority[annotator] = (mine == others)[both].mean()
    return Agreement(
        answers=answered.sum(axis=1),
        shared=(answered & (answered.sum(axis=0) > 1)).sum(axis=1),
        exact=_weighted_mean(exact, shared),
        jaccard=_weighted_mean(jaccard, shared),
        kappa=_weighted_mean(kappa, shared),
        majority=majority,
    )


def _check_votes(votes: Floats) -> tuple[Bools, Bools]:
    """Return which clips each annotator answered, and which classes they ticked, as booleans."""
    votes = np.asarray(votes)
    if votes.ndim != 3 or not votes.shape[2]:
        raise InvalidInput(
            f"votes must have the shape (n_annotators, n_clips, n_classes), got {votes.shape}; "
            "stack one multi-hot matrix per annotator"
        )
    missing, ticked = np.isnan(votes), votes == 1
    bad = np.argwhere(~(missing | ticked | (votes == 0)))
    if len(bad):
        annotator, clip, label = bad[0]
        raise InvalidInput(
            f"votes of annotator {annotator} on clip {clip}, class {label} is "
            f"{votes[annotator, clip, label]}; give 1 if ticked, 0 if not, NaN if not answered"
        )
    unanswered = np.asarray(missing.all(axis=2))
    partial = np.argwhere(missing.any(axis=2) & ~unanswered)
    if len(partial):
        annotator, clip = partial[0]
        raise InvalidInput(
            f"votes of annotator {annotator} on clip {clip} is NaN in some classes only; give 0 "
            "for a class that was not ticked, NaN in all classes of a clip without an answer"
        )
    return ~unanswered, ticked


def _check_probs(probs: Floats, ticked: Bools) -> Floats:
    """Return the probabilities, if they fit and no answer has several classes."""
    probs = np.asarray(probs)
    _, n_clips, n_classes = ticked.shape
    if probs.ndim != 2 or len(probs) != n_clips or not 1 <= probs.shape[1] <= n_classes:
        raise InvalidInput(
            f"probs must have the shape ({n_clips}, {n_classes}) of one annotator's votes, or "
            f"fewer classes, got {probs.shape}"
        )
    good = ((probs >= 0) & (probs <= 1)) | np.isnan(probs).all(axis=1, keepdims=True)
    if not good.all():
        clip, label = np.argwhere(~good)[0]
        raise InvalidInput(
            f"probs is {probs[clip, label]} at clip {clip}, class {label}; give probabilities in "
            "[0, 1], or NaN in all classes of a clip without any"
        )
    several = np.argwhere(ticked.sum(axis=2) > 1)
    if len(several):
        annotator, clip = several[0]
        raise InvalidInput(
            f"clip {clip} has {ticked[annotator, clip].sum()} labels from annotator {annotator}; "
            "consensus_quality takes one label a clip, for more there is consensus_per_class"
        )
    return probs


def _encode(answered: Bools, ticked: Bools) -> tuple[Ints, Floats]:
    """Number the answers, -1 for none, and return the distinct ones, float."""
    given = ticked[answered]
    _, first, codes = np.unique(
        np.packbits(given, axis=1), axis=0, return_index=True, return_inverse=True
    )
    numbers = np.full(answered.shape, -1)
    numbers[answered] = codes.reshape(-1)
    return numbers, given[first].astype(float)


def _majority(codes: Ints) -> Ints:
    """Return the most frequent answer to each clip, -1 if nobody answered or several tie."""
    if not len(codes):
        return np.full(codes.shape[1], -1)
    support = np.stack([(codes == mine).sum(axis=0) for mine in codes])
    support[codes < 0] = 0
    winner = np.take_along_axis(codes, support.argmax(axis=0)[None], axis=0)[0]
    tied = ((support == support.max(axis=0)) & (codes != winner)).any(axis=0)
    return np.where(tied, -1, winner)


def _rows_of(codes: Ints, answers: Floats) -> Floats:
    """Return the answer of each number, NaN for -1."""
    return np.vstack([answers, np.full((1, answers.shape[1]), np.nan)])[codes]


def _ties(counts: Ints, probs: Floats) -> Bools:
    """Find clips whose most frequent classes include several of the most probable ones."""
    top = counts == counts.max(axis=1, keepdims=True)
    best = np.where(top, probs, -1).max(axis=1, keepdims=True)
    return np.asarray((top & (probs == best)).sum(axis=1) > 1)


def _best_given(labels: Floats, probs: Floats) -> Ints:
    """Return the class of the best label given to each clip, -1 if several are as good.

    Args:
        labels: Class index or NaN, shape ``(n_clips, n_annotators)``.
        probs: Probabilities, shape ``(n_clips, n_classes)``.
    """
    from cleanlab.multiannotator import get_label_quality_multiannotator

    found = get_label_quality_multiannotator(
        labels,
        probs,
        consensus_method="best_quality",
        return_annotator_stats=False,
        verbose=False,
    )
    quality = np.nan_to_num(found["detailed_label_quality"].to_numpy(), nan=-1)
    winner = np.take_along_axis(labels, quality.argmax(axis=1)[:, None], axis=1)
    close = quality >= quality.max(axis=1, keepdims=True) - ROUNDING
    return np.where((close & (labels != winner)).any(axis=1), -1, winner[:, 0]).astype(int)


def _likeness(mine: Ints, theirs: Ints, answers: Floats) -> tuple[float, float]:
    """Return the mean Jaccard index of the answers to the same clips, and of all to all."""
    left, right = answers[mine], answers[theirs]
    observed = _jaccard((left * right).sum(axis=1), left.sum(axis=1), right.sum(axis=1)).mean()
    (left, n_left), (right, n_right) = (_count_rows(codes, answers) for codes in (mine, theirs))
    expected = 0.0
    for rows in metrics.split_rows(len(left), len(right)):
        part = left[rows]
        block = _jaccard(part @ right.T, part.sum(axis=1)[:, None], right.sum(axis=1))
        expected += float(n_left[rows] @ block @ n_right)
    return float(observed), expected / len(mine) ** 2


def _count_rows(codes: Ints, answers: Floats) -> tuple[Floats, Ints]:
    distinct, counts = np.unique(codes, return_counts=True)
    return answers[distinct], counts


def _jaccard(both: Floats, left: Floats, right: Floats) -> Floats:
    """Divide shared labels by all labels, given the numbers of labels; 1 if there is none."""
    either = left + right - both
    return np.where(either, both / np.maximum(either, 1), 1)


def _weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Return the weighted mean of each row where it has values, NaN where it has none."""
    weights = weights * ~np.isnan(values)
    sums, totals = (np.nan_to_num(values) * weights).sum(axis=1), weights.sum(axis=1)
    means: Floats = np.divide(sums, totals, out=np.full(len(sums), np.nan), where=totals > 0)
    return means
