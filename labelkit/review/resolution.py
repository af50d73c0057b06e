"""What people's answers make of a clip: verdicts, and its labels and state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from labelkit import registry
from labelkit.records import Review
from labelkit.states import REJECTED, RELABELED, VERIFIED
from labelkit.types import Floats

# Answers that say what the labels are, and those that count as given.
DECISIVE = ("labels", "none", "no_sound")
GIVEN = (*DECISIVE, "unsure")
# The rule that weighs annotators by a model.
BY_MODEL = "quality"


@dataclass(frozen=True)
class Decision:
    """What all answers on a clip come to.

    ``status`` is ``decided``, ``awaiting`` (fewer answers than asked for), ``disagreement``
    or ``open`` (nobody said what the labels are). ``labels`` are class ids, None where the
    clip has no usable sound; ``made_at`` is the time of the newest answer it rests on.
    """

    status: str
    labels: tuple[int, ...] | None = ()
    annotators: tuple[str, ...] = ()
    rule: str = ""
    made_at: datetime | None = None

    def state(self, given: Sequence[int]) -> tuple[str, list[int]]:
        """Return state and labels of a clip that had labels ``given`` before anybody listened."""
        if self.labels is None:
            return REJECTED, list(given)
        return (VERIFIED if list(self.labels) == list(given) else RELABELED), list(self.labels)


def verdicts_of_answer(
    review: Review | None, class_id: Mapping[str, int], doubted: Collection[int]
) -> dict[int, str]:
    """List what an answer says of single classes; of a class it is silent on, nobody knows.

    Args:
        review: The answer; None says nothing.
        class_id: Id of each class name.
        doubted: Ids of the classes the annotator was asked about: given and suggested ones.

    Returns:
        Class id to ``present``, ``absent`` or ``unsure``.
    """
    if review is None:
        return {}
    ticked = [class_id[name] for name in review.labels]
    if review.answer == "labels":
        return dict.fromkeys(doubted, "absent") | dict.fromkeys(ticked, "present")
    if review.answer == "none":
        return dict.fromkeys(class_id.values(), "absent")
    if review.answer == "unsure":
        return dict.fromkeys(ticked or doubted, "unsure")
    return {}


def by_clip(reviews: Iterable[Review]) -> dict[int, list[Review]]:
    """Collect the answers on each clip that is known."""
    found: dict[int, list[Review]] = defaultdict(list)
    for review in reviews:
        if review.clip_id is not None:
            found[review.clip_id].append(review)
    return dict(found)


def newest_answers(reviews: Iterable[Review]) -> dict[str, Review]:
    """Keep the last answer of each annotator, by who it is, in the order of their names.

    Where the server's number is known it tells who it is: an export knows no names. A skip,
    or what nobody could read, is no answer, and takes none back.
    """
    newest: dict[str, Review] = {}
    for review in sorted(reviews, key=lambda review: review.updated_at):
        if review.answer in GIVEN:
            who = review.annotator if review.annotator_id is None else str(review.annotator_id)
            newest[who] = review
    return dict(sorted(newest.items(), key=lambda item: item[1].annotator))


def pool(by_project: Mapping[str, Sequence[Review]]) -> list[Review]:
    """Join answers of several projects, in which people are known by their names.

    Servers count their users each from 1. Within a project the number still tells who it is, by
    the last name that it has there.
    """
    found: list[Review] = []
    for reviews in by_project.values():
        names = {r.annotator_id: r.annotator for r in reviews}
        found += [
            r if r.annotator_id is None
            else replace(r, annotator=names[r.annotator_id], annotator_id=None)
            for r in reviews
        ]  # fmt: skip
    return found


def decisive_answers(reviews: Iterable[Review]) -> list[Review]:
    """List the last answer of each annotator who said what the labels are."""
    return [r for r in newest_answers(reviews).values() if r.answer in DECISIVE]


def labels_of_answer(review: Review) -> tuple[str, ...] | None:
    """Return the labels of a decisive answer; None for no usable sound."""
    return None if review.answer == "no_sound" else tuple(sorted(review.labels))


def differ(reviews: Iterable[Review]) -> bool:
    """Tell whether annotators said different things of a clip."""
    return len({labels_of_answer(review) for review in decisive_answers(reviews)}) > 1


def resolve(
    reviews: Mapping[int, Sequence[Review]],
    classes: Sequence[str],
    *,
    overlap: int = 1,
    rule: str = "majority",
    probs: Mapping[int, Floats] | None = None,
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
        probs: Out-of-fold probabilities by clip id, for the rule that weighs annotators by them.
        only: Clip ids to decide on; all if None. The others still tell how good annotators are.
    """
    class_id = {name: index for index, name in enumerate(classes)}
    decisions: dict[int, Decision] = {}
    open_clips: dict[int, list[Review]] = {}
    for clip_id in reviews if only is None else only:
        given = newest_answers(reviews.get(clip_id, ()))
        decisive = [review for review in given.values() if review.answer in DECISIVE]
        if given and len(given) < overlap:
            decisions[clip_id] = _decision("awaiting", decisive)
        elif not decisive:
            decisions[clip_id] = Decision("open")
        elif not differ(decisive):
            decisions[clip_id] = _decision("decided", decisive, _ids(decisive[0], class_id))
        else:
            open_clips[clip_id] = decisive
    if not open_clips:
        return decisions
    several = {i for i, answers in open_clips.items() if any(len(r.labels) > 1 for r in answers)}
    if rule == BY_MODEL:
        everywhere = {i: decisive_answers(answers) for i, answers in reviews.items()}
        fit = {
            i: answers for i, answers in everywhere.items()
            if i not in several and all(len(r.labels) <= 1 for r in answers)
        }  # fmt: skip
        found = _consensus(fit, class_id, rule, probs or {})
        # It takes one label a clip; what somebody ticked two of is decided class by class.
        found |= _consensus({i: open_clips[i] for i in several}, class_id, "per_class")
    else:
        found = _consensus(open_clips, class_id, rule)
    for clip_id, answers in open_clips.items():
        status = "decided" if clip_id in found else "disagreement"
        used = "per_class" if rule == BY_MODEL and clip_id in several else rule
        decisions[clip_id] = _decision(status, answers, found.get(clip_id, ()), used)
    return decisions


def count_votes(
    answers: Mapping[int, Sequence[Review]], class_id: Mapping[str, int]
) -> tuple[list[str], list[int], Floats]:
    """Return decisive answers as arrays.

    Returns:
        Names of annotators, clip ids, and votes ``(n_annotators, n_clips, n_classes + 1)``: 1
        ticked, 0 not ticked, NaN where somebody did not decide; "no usable sound" comes last.
    """
    clip_ids = sorted(answers)
    names = sorted({review.annotator for found in answers.values() for review in found})
    row_of = {name: k for k, name in enumerate(names)}
    votes = np.full((len(names), len(clip_ids), len(class_id) + 1), np.nan)
    for column, clip_id in enumerate(clip_ids):
        for review in answers[clip_id]:
            class_ids = _ids(review, class_id)
            row = votes[row_of[review.annotator], column]
            row[:] = 0
            row[[len(class_id)] if class_ids is None else list(class_ids)] = 1
    return names, clip_ids, votes


def _consensus(
    answers: Mapping[int, Sequence[Review]],
    class_id: Mapping[str, int],
    rule: str,
    probs: Mapping[int, Floats] | None = None,
) -> dict[int, tuple[int, ...] | None]:
    """Return the labels of the clips for which a rule finds some."""
    if not answers:
        return {}
    _, clip_ids, votes = count_votes(answers, class_id)
    function = registry.resolve("consensus", rule)
    if probs is None:
        agreed = function(votes)
    else:
        unknown = np.full(len(class_id), np.nan)
        agreed = function(votes, probs=np.stack([probs.get(i, unknown) for i in clip_ids]))
    found: dict[int, tuple[int, ...] | None] = {}
    for clip_id, row in zip(clip_ids, agreed, strict=True):
        if not np.isnan(row).any():
            no_sound = row[-1] > 0
            found[clip_id] = None if no_sound else tuple(map(int, np.flatnonzero(row[:-1])))
    return found


def _decision(
    status: str,
    decisive: Sequence[Review],
    labels: tuple[int, ...] | None = (),
    rule: str = "",
) -> Decision:
    names = tuple(review.annotator for review in decisive)
    made_at = max((review.updated_at for review in decisive), default=None)
    return Decision(status, labels, names, rule, made_at)


def _ids(review: Review, class_id: Mapping[str, int]) -> tuple[int, ...] | None:
    labels = labels_of_answer(review)
    return None if labels is None else tuple(sorted(class_id[name] for name in labels))
