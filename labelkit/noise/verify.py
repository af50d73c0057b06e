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
from labelkit.config import Recipe, VerifySpec
from labelkit.errors import InvalidInput, NotYet
from labelkit.noise.selection import find_passing, limit_classes, select_confident
from labelkit.noise.trust import trust_labels
from labelkit.types import Array, Bools, Floats, Ints

# Share of the trusted labels that is to be right, where nothing else is said: of single labels,
# and of whole label sets, of which any label may be wrong or missing.
PRECISION, PRECISION_OF_SETS = 0.98, 0.95


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
    fold, shape ``(n_clips, n_classes)``. ``expected`` is the share of the newly chosen labels that
    is estimated to be right, NaN where a threshold was given. ``end`` says why no round follows;
    it is empty if one does.
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
    expected: float = float("nan")
    end: str = ""

    @property
    def notes(self) -> dict[str, Any]:
        """What there is to say of the decision and of the end, by name."""
        found: dict[str, Any] = {}
        if not np.isnan(self.expected) and self.proposed.any():
            found["expected_right"] = round(self.expected, 4)
        return found | ({"end": self.end} if self.end else {})


@dataclass(frozen=True)
class _Decision:
    """Which clips the next round learns from, and how many could be trusted without a limit."""

    trusted: Bools
    proposed: Bools
    expected: float = float("nan")


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
    single: bool | None = None,
    run_folds: Callable[..., list[tuple[Floats, Any]]] = in_series,
) -> Iterator[Round]:
    """Decide round by round which unverified labels to trust.

    Round 0 is the first training and trusts only what people verified. Each later
    round selects by the rule of ``options`` from the previous round's out-of-fold
    probabilities, anew from the verified clips alone or, if accumulating, on top of
    what is trusted already, and fine-tunes every fold's model on the result. Rounds end
    where nothing new would come of another one, by ``options.until``.

    Args:
        labels: Multi-hot labels as given, shape ``(n_clips, n_classes)``.
        verified: Clips whose labels people vouch for, shape ``(n_clips,)``; they are
            never questioned.
        folds: Frozen fold of each clip, shape ``(n_clips,)``.
        fit_predict: The model, see :class:`FitPredict`.
        options: The rule and the number of rounds.
        candidates: Unverified clips that may be trusted; all if None.
        single: Whether clips have one label at most; None looks at the labels.
        run_folds: Runs ``fit_predict`` for a list of argument tuples, in any order in
            time but in order of the result.

    Yields:
        One :class:`Round` each, from 0 to ``options.iterations`` at most; the last one says
        in ``end`` why it is.

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
    if single is None:
        single = bool((labels.sum(axis=1) <= 1).all())
    numbers = np.unique(folds).tolist()
    states: list[Any] = [None] * len(numbers)
    before = verified
    decision = _Decision(verified, np.zeros(len(labels), bool))
    judged: Floats = np.zeros(labels.shape, np.float32)
    sets: list[Bools] = []
    losses: list[float] = []

    for iteration in range(options.iterations + 1):
        trusted = decision.trusted
        jobs = [
            (trusted if iteration else None, fold, state)
            for fold, state in zip(numbers, states, strict=True)
        ]
        probs, judges = np.empty(labels.shape, np.float32), states
        results = run_folds(fit_predict, jobs)
        for fold, (held_out, _) in zip(numbers, results, strict=True):
            probs[folds == fold] = _check_held_out(held_out, labels[folds == fold], fold)
        states = [state for _, state in results]
        sets.append(trusted)
        losses.append(label_loss(labels[verified], probs[verified], single=single))
        # What the next round would learn from tells whether there is one.
        coming = _decide(labels, probs, verified, candidates, trusted, options, single=single)
        end = _say_end(sets, losses, coming.trusted, options)
        yield Round(
            iteration=iteration,
            trusted=trusted,
            proposed=decision.proposed,
            accepted=trusted & ~before,
            revoked=before & ~trusted,
            judged=judged,
            probs=probs,
            states=states,
            judges=judges,
            loss=losses[-1],
            expected=decision.expected,
            end=end,
        )
        if end:
            return
        judged, before, decision = probs, trusted, coming


def wanted_precision(options: VerifySpec, *, single: bool) -> float:
    """Return the share of the trusted labels that is to be right, or of whole label sets."""
    return options.precision or (PRECISION if single else PRECISION_OF_SETS)


def describe_rule(recipe: Recipe, *, single: bool) -> str:
    """Say the rule of a recipe in a few words, as the store notes it.

    Args:
        recipe: Whose rule.
        single: Whether clips have one label at most.
    """
    options, classifier = recipe.verify, recipe.probe.classifier
    judge = f"the {classifier}" if classifier else f"the mean over {options.windows} windows"
    if options.threshold is not None:
        parts = [f"labels are the top classes of {judge}"]
        parts += [f"each above {options.threshold:g}"] if options.threshold > 0 else []
    else:
        what = (
            f"the label is the top class of {judge}"
            if single
            else f"by {judge} the labels are right and none is missing"
        )
        wanted = wanted_precision(options, single=single)
        parts = [what, f"so surely that {wanted:g} are right as far as verified clips tell"]
    if options.per_class:
        parts.append(f"at most {options.per_class} {'new ' if options.accumulate else ''}per class")
    return ", ".join(parts)


def describe_choice(kept: Round, last: Round, keep: str) -> str:
    """Say why a round is the one that counts, and why none came after the last."""
    if not kept.iteration or keep == "last":
        return last.end
    return f"lowest verified loss, {kept.loss:.4g}; {last.end}"


def describe_nothing(options: VerifySpec, n_verified: int, *, single: bool) -> str:
    """Say that no label is trusted, and what could be done."""
    if options.threshold is not None:
        return f"nothing is trusted: no label passes the threshold {options.threshold:g}"
    return (
        f"nothing is trusted: by the {n_verified} verified clips this judge can tell no labels of "
        f"which {wanted_precision(options, single=single):.1%} would be right; verify more, take a "
        "better judge (labelkit recipes), or a lower --precision"
    )


def label_loss(labels: Array, probs: Floats, *, single: bool) -> float:
    """Return the log-loss of single labels, the binary one where clips may have several."""
    return (metrics.log_loss if single else metrics.binary_log_loss)(labels, probs)


def _say_end(sets: list[Bools], losses: list[float], coming: Bools, options: VerifySpec) -> str:
    """Say why the round that is done is the last; an empty string if it is not.

    Args:
        sets: What each round so far trusted; round 0 what people verified.
        losses: Verified loss of each round.
        coming: What the next round would trust.
        options: How many rounds are asked for, and until when.
    """
    done = len(sets) - 1
    if options.until == "settled":
        if done and losses[-1] > min(losses[:-1]):
            return "the verified loss rises"
        for number in reversed(range(len(sets))):
            if np.array_equal(coming, sets[number]):
                if number == done:
                    return "the trusted set stands still" if done else "nothing can be trusted"
                return f"the trusted set comes back to that of round {number}"
    return f"{done} rounds were asked for" if done == options.iterations else ""


def _decide(
    labels: Bools,
    judged: Floats,
    verified: Bools,
    candidates: Bools,
    before: Bools,
    options: VerifySpec,
    *,
    single: bool,
) -> _Decision:
    """Choose what to learn from next, by the threshold given or by one that is found."""
    kept: Bools = np.zeros(len(labels), bool)
    proposed: Bools
    open_to = candidates & ~before if options.accumulate else candidates
    expected = float("nan")
    if options.threshold is None:
        wanted = wanted_precision(options, single=single)
        found = trust_labels(
            labels, judged, verified, precision=wanted, candidates=candidates, single=single
        )
        proposed, expected = found.trusted, found.expected
        kept = limit_classes(labels, -found.order, proposed & open_to, options.per_class)
    else:
        proposed = candidates & find_passing(labels, judged, options.threshold)
        kept[open_to] = select_confident(
            labels[open_to],
            judged[open_to],
            threshold=options.threshold,
            per_class=options.per_class,
        )
    return _Decision(kept | (before if options.accumulate else verified), proposed, expected)


def _check_held_out(probs: Floats, labels: Bools, fold: int) -> Floats:
    try:
        return metrics.check_arrays(labels, probs)[1]
    except InvalidInput as error:
        raise InvalidInput(f"the model of fold {fold}: {error}") from error
