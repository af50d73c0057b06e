"""What people's answers make of a clip: verdicts, and its labels and state."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labelkit import registry
from labelkit.records import REJECTED, RELABELED, VERIFIED, Review

# Answers that say what the labels are, and those that count as given.
DECISIVE = ("labels", "none", "no_sound")
GIVEN = (*DECISIVE, "unsure")


@dataclass(frozen=True)
class Decision:
    """What all answers on a clip come to.

    ``status`` is ``decided``, ``awaiting`` (fewer answers than asked for), ``disagreement``
    or ``open`` (nobody said what the labels are). ``labels`` are class ids, None where the
    clip has no usable sound.
    """

    status: str
    labels: tuple[int, ...] | None = ()
    annotators: tuple[str, ...] = ()
    rule: str = ""

    def state(self, given: Sequence[int]) -> tuple[str, list[int]]:
        """State and labels of a clip that had the labels ``given`` before anybody listened."""
        if self.labels is None:
            return REJECTED, list(given)
        return (VERIFIED if list(self.labels) == list(given) else RELABELED), list(self.labels)


def verdicts_said(
    review: Review, class_id: Mapping[str, int], doubted: Collection[int]
) -> dict[int, str]:
    """What an answer says of single classes; of a class it is silent on, nobody knows.

    Args:
        review: The answer.
        class_id: Id of each class name.
        doubted: Ids of the classes the annotator was asked about: given and suggested ones.

    Returns:
        Class id to ``present``, ``absent`` or ``unsure``.
    """
    ticked = [class_id[name] for name in review.labels]
    if review.answer == "labels":
        return dict.fromkeys(doubted, "absent") | dict.fromkeys(ticked, "present")
    if review.answer == "none":
        return dict.fromkeys(class_id.values(), "absent")
    if review.answer == "unsure":
        return dict.fromkeys(ticked or doubted, "unsure")
    return {}


def newest_answers(reviews: Sequence[Review]) -> list[Review]:
    """The last answer of each annotator, in the order of their names.

    An annotator who skipped, or whose answer nobody could read, has not answered.
    """
    newest: dict[str, Review] = {}
    for review in sorted(reviews, key=lambda review: review.updated_at):
        newest[review.annotator] = review
    return [newest[name] for name in sorted(newest) if newest[name].answer in GIVEN]


def resolve(
    reviews: Mapping[int, Sequence[Review]],
    classes: Sequence[str],
    *,
    overlap: int = 1,
    rule: str = "majority",
    probs: Mapping[int, np.ndarray] | None = None,
    only: Collection[int] | None = None,
) -> dict[int, Decision]:
    """Bring the standing answers on each clip to one decision.

    Answers that agree decide; where they differ the rule does, and where it finds no winner
    the clip is a disagreement.

    Args:
        reviews: Standing answers by clip id.
        classes: The vocabulary.
        overlap: Answers a clip needs before it is decided.
        rule: A registered consensus.
        probs: Out-of-fold probabilities by clip id, for rules that weigh annotators by them.
        only: Clip ids to decide on; all if None. The others still tell how good annotators are.
    """
    class_id = {name: index for index, name in enumerate(classes)}
    answers = {clip_id: newest_answers(found) for clip_id, found in reviews.items()}
    decisions: dict[int, Decision] = {}
    open_clips = []
    for clip_id in reviews if only is None else only:
        given = answers.get(clip_id, [])
        decisive = [review for review in given if review.answer in DECISIVE]
        names = tuple(review.annotator for review in decisive)
        if given and len(given) < overlap:
            decisions[clip_id] = Decision("awaiting", annotators=names)
        elif not decisive:
            decisions[clip_id] = Decision("open")
        elif len({_said(review, class_id) for review in decisive}) == 1:
            decisions[clip_id] = Decision("decided", _said(decisive[0], class_id), names)
        else:
            open_clips.append(clip_id)
    if open_clips:
        found = _consensus(answers, class_id, rule, probs or {})
        for clip_id in open_clips:
            names = tuple(r.annotator for r in answers[clip_id] if r.answer in DECISIVE)
            if clip_id in found:
                decisions[clip_id] = Decision("decided", found[clip_id], names, rule)
            else:
                decisions[clip_id] = Decision("disagreement", annotators=names, rule=rule)
    return decisions


def count_votes(
    answers: Mapping[int, Sequence[Review]], class_id: Mapping[str, int]
) -> tuple[list[str], list[int], np.ndarray]:
    """Answers as arrays.

    Returns:
        Names of annotators, clip ids, and votes ``(n_annotators, n_clips, n_classes + 1)``: 1
        ticked, 0 not ticked, NaN where somebody did not decide; "no usable sound" comes last.
    """
    clip_ids = sorted(answers)
    decisive = [(k, r) for k, i in enumerate(clip_ids) for r in answers[i] if r.answer in DECISIVE]
    names = sorted({review.annotator for _, review in decisive})
    votes = np.full((len(names), len(clip_ids), len(class_id) + 1), np.nan)
    for row, review in decisive:
        who = names.index(review.annotator)
        said = _said(review, class_id)
        votes[who, row] = 0
        votes[who, row, [len(class_id)] if said is None else list(said)] = 1
    return names, clip_ids, votes


def _consensus(
    answers: Mapping[int, Sequence[Review]],
    class_id: Mapping[str, int],
    rule: str,
    probs: Mapping[int, np.ndarray],
) -> dict[int, tuple[int, ...] | None]:
    _, clip_ids, votes = count_votes(answers, class_id)
    function = registry.resolve("consensus", rule)
    extra = {}
    if "probs" in inspect.signature(function).parameters:
        unknown = np.full(len(class_id), np.nan)
        extra["probs"] = np.stack([probs.get(clip_id, unknown) for clip_id in clip_ids])
    agreed = function(votes, **extra)
    found: dict[int, tuple[int, ...] | None] = {}
    for clip_id, row in zip(clip_ids, agreed, strict=True):
        if not np.isnan(row).any():
            silent = row[-1] > 0
            found[clip_id] = None if silent else tuple(map(int, np.flatnonzero(row[:-1])))
    return found


def _said(review: Review, class_id: Mapping[str, int]) -> tuple[int, ...] | None:
    if review.answer == "no_sound":
        return None
    return tuple(sorted(class_id[name] for name in review.labels))
