"""Iterative self-verification: train, trust what the model agrees with, fine-tune, again.

After Dorfer and Widmer (DCASE 2018 task 2, 2nd place), with the leak of their code
closed: folds are frozen, so the model that judges a clip never saw it, whether in
this round or in one it was fine-tuned from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from labelkit import metrics
from labelkit.config import VerifySpec
from labelkit.errors import InvalidInput, NotYet
from labelkit.noise.selection import find_passing, select_confident
from labelkit.types import Array, Bools, Floats, Ints


class FitPredict(Protocol):
    """Trains the model of one fold and judges the clips of that fold with it."""

    def __call__(self, trusted: Bools | None, fold: int, warm_start: Any) -> tuple[Floats, Any]:
        """Fit without the clips of ``fold``, and give the probabilities of exactly those.

        Args:
            trusted: Mask of the clips to fit to; None for the first training, which
                may use every label as it sees fit.
            fold: The fold to leave out and to judge.
            warm_start: What the previous round of the same fold returned, or None.

        Returns:
            Probabilities of the clips of ``fold``, in order, shape ``(n_held_out,
            n_classes)``, and the state to warm-start the next round from.
        """
        ...


@dataclass(frozen=True)
class Round:
    """What one round decided, and how its models judge every clip.

    ``judged`` are the probabilities the decision came from, those of the previous
    round; ``probs`` come from the models fine-tuned on the decision. Both are out of
    fold, shape ``(n_clips, n_classes)``.
    """

    iteration: int
    trusted: Bools
    proposed: Bools
    accepted: Bools
    revoked: Bools
    judged: Floats
    probs: Floats
    states: list[Any]
    judges: list[Any]
    loss: float


def in_series(
    fn: Callable[..., tuple[Floats, Any]], jobs: Iterable[tuple[Any, ...]]
) -> list[tuple[Floats, Any]]:
    """Call ``fn`` with each job's arguments, one after the other."""
    return [fn(*job) for job in jobs]


def self_verify(
    labels: Array,
    verified: Bools,
    folds: Ints,
    fit_predict: FitPredict,
    *,
    options: VerifySpec,
    candidates: Bools | None = None,
    run_folds: Callable[..., list[tuple[Floats, Any]]] = in_series,
) -> Iterator[Round]:
    """Decide round by round which unverified labels to trust.

    Round 0 is the first training and trusts only what people verified. Each later
    round selects by the rule of ``options`` from the previous round's out-of-fold
    probabilities, anew from the verified clips alone or, if accumulating, on top of
    what is trusted already, and fine-tunes every fold's model on the result.

    Args:
        labels: Multi-hot labels as given, shape ``(n_clips, n_classes)``.
        verified: Clips whose labels people vouch for, shape ``(n_clips,)``; they are
            never questioned.
        folds: Frozen fold of each clip, shape ``(n_clips,)``.
        fit_predict: The model, see :class:`FitPredict`.
        options: The rule and the number of rounds.
        candidates: Unverified clips that may be trusted; all if None.
        run_folds: Runs ``fit_predict`` for a list of argument tuples, in any order in
            time but in order of the result.

    Yields:
        One :class:`Round` each, from 0 to ``options.iterations``.

    Raises:
        InvalidInput: If shapes disagree, nothing is verified, or ``fit_predict``
            returns NaN or a wrong shape; the message names the fold.
    """
    labels = np.asarray(labels) > 0
    verified, folds = np.asarray(verified, bool), np.asarray(folds)
    if not len(labels) == len(verified) == len(folds):
        raise InvalidInput(
            f"labels has {len(labels)} clips, verified {len(verified)}, folds {len(folds)}"
        )
    if not verified.any():
        raise NotYet("no clip is verified; self-verification needs some to start from")
    candidates = ~verified if candidates is None else np.asarray(candidates, bool) & ~verified
    single = bool((labels.sum(axis=1) <= 1).all())
    numbers = np.unique(folds).tolist()
    states: list[Any] = [None] * len(numbers)
    trusted: Bools = verified
    judged: Floats = np.zeros(labels.shape, np.float32)

    for iteration in range(options.iterations + 1):
        proposed: Bools = np.zeros(len(labels), bool)
        before = trusted
        if iteration:
            proposed = candidates & find_passing(labels, judged, options.threshold)
            trusted = _select(labels, judged, verified, candidates, before, options)
        jobs = [
            (trusted if iteration else None, fold, state)
            for fold, state in zip(numbers, states, strict=True)
        ]
        probs, judges = np.empty(labels.shape, np.float32), states
        results = run_folds(fit_predict, jobs)
        for fold, (held_out, _) in zip(numbers, results, strict=True):
            probs[folds == fold] = _check_held_out(held_out, labels[folds == fold], fold)
        states = [state for _, state in results]
        yield Round(
            iteration=iteration,
            trusted=trusted,
            proposed=proposed,
            accepted=trusted & ~before,
            revoked=before & ~trusted,
            judged=judged,
            probs=probs,
            states=states,
            judges=judges,
            loss=label_loss(labels[verified], probs[verified], single=single),
        )
        judged = probs


def label_loss(labels: Array, probs: Floats, *, single: bool) -> float:
    """Return the log-loss of single labels, the binary one where clips may have several."""
    return (metrics.log_loss if single else metrics.binary_log_loss)(labels, probs)


def _select(
    labels: Bools,
    judged: Floats,
    verified: Bools,
    candidates: Bools,
    before: Bools,
    options: VerifySpec,
) -> Bools:
    open_to = candidates & ~before if options.accumulate else candidates
    kept = np.zeros(len(labels), bool)
    kept[open_to] = select_confident(
        labels[open_to],
        judged[open_to],
        threshold=options.threshold,
        per_class=options.per_class,
    )
    return kept | (before if options.accumulate else verified)


def _check_held_out(probs: Floats, labels: Bools, fold: int) -> Floats:
    try:
        return metrics.check_arrays(labels, probs)[1]
    except InvalidInput as error:
        raise InvalidInput(f"the model of fold {fold}: {error}") from error
