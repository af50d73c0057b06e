"""Answers from Label Studio into the store: nothing twice, nothing lost, nothing guessed."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from labelkit.config import ReviewSpec, fingerprint
from labelkit.datasets.sniffing import LABEL_STUDIO
from labelkit.label_studio.answers import (
    EPOCH,
    is_by_nobody,
    is_copy,
    is_foreign,
    read_answers,
    read_time,
)
from labelkit.label_studio.page import choice_name, choice_names
from labelkit.project import user
from labelkit.records import Batch, LabelEvent, Review, ReviewTask, Verdict
from labelkit.review.resolution import (
    BY_MODEL,
    Decision,
    by_clip,
    decisive_answers,
    newest_answers,
    pool,
    resolve,
    verdicts_of_answer,
)
from labelkit.stores.append import WriteSession
from labelkit.stores.reviews import (
    REVIEW,
    UnreviewedClip,
    answered_projects,
    answers_in_other_projects,
    answers_on_deleted_tasks,
    known_tasks,
    known_versions,
    read_clips,
    read_projects,
    read_quarantine,
    repair_reasons,
    said_before,
    sent_versions,
    standing_reviews,
    versions_that_stand,
)
from labelkit.stores.session import Session
from labelkit.types import Floats

KIND = REVIEW
_KIND_NAMES = {
    "none": "none of these", "no_sound": "no usable sound", "task_deleted": "of deleted tasks",
}  # fmt: skip
# Behind it a batch of repaired answers says, in JSON, what labels are called in the vocabulary.
_READ_WITH = "; read with "
# Versions that end an answer rather than give one.
_ENDS = ("deleted", "task_deleted")


class Ledger:
    """Takes in versions of answers, within one transaction.

    Args:
        session: The open store.
        project: Name of the project in Label Studio.
        spec: How answers count.
        probs: Out-of-fold probabilities by clip id, for a consensus that reads them.
        foreign: Whether labelkit did not make the project. Its answers count together with those of
            others of that kind, and what was taken back comes in again when it is brought again.
    """

    def __init__(
        self,
        session: WriteSession,
        project: str,
        spec: ReviewSpec,
        probs: Mapping[int, Floats] | None = None,
        *,
        foreign: bool = False,
    ) -> None:
        self.session, self.project, self.spec, self.probs = session, project, spec, probs
        self.foreign = foreign
        self.classes = session.classes()
        self.class_id = {name: index for index, name in enumerate(self.classes)}
        self.several = session.allows_several()
        self.renames = read_renames(session, project)
        self.sent: dict[int, list[tuple[datetime, ReviewTask]]] = {}
        self.earlier_verdicts: dict[tuple[int, str], list[tuple[int, str]]] = {}
        # How good an annotator is, is told by all of her answers: that is for the end.
        self.deferred = rule_in_force(session, spec) == BY_MODEL

    def take_tasks(
        self,
        tasks: Sequence[Mapping[str, Any]],
        users: Mapping[int, str],
        *,
        whole: bool = True,
    ) -> Counter[str]:
        """Take in what changed on tasks, as the server or an export gives them.

        Tasks that labelkit did not make, and versions of answers that are there already, are
        left alone; an answer that is gone gets a tombstone; one that cannot be read, or is of
        another store's clip, goes to quarantine.

        Args:
            tasks: Tasks with their annotations.
            users: Annotator's id to name.
            whole: Whether every annotation there is comes with its task; an export may be old.
        """
        # Others may have tasks of their own in the project.
        tasks = [task for task in tasks if not is_foreign(task)]
        ids = [int(task["id"]) for task in tasks]
        # What was taken for deleted and is there has come back; an export may just be old.
        known = (
            versions_that_stand(self.session, self.project, ids) if self.foreign
            else known_versions(self.session, self.project, ids, revive=whole)
        )  # fmt: skip
        paths = self._read_paths(tasks)
        counts = self._bury_followed(tasks) if whole else Counter[str]()
        gone_answers = answers_on_deleted_tasks(self.session, self.project, list(paths))
        elsewhere = answers_in_other_projects(self.session, self.project, list(paths))
        standing = standing_reviews(self.session, self.project, task_ids=ids)
        found: dict[tuple[int, int | None], Review] = {}
        there: dict[int, set[int]] = {}
        for task in tasks:
            problem = _misplaced(task, paths) or task.get("problem")
            clip_id = task["data"]["clip_id"]
            said = [*gone_answers.get(clip_id, ()), *elsewhere.get(clip_id, ())]
            heard, unheard = _part_unheard(task, said)
            counts["unheard"] += len(unheard)
            reviews = read_answers(
                heard, self.classes, project=self.project, users=users, renames=self.renames,
                several=self.several,
            )  # fmt: skip
            # What was taken for an answer before is still there.
            listed = {review.annotation_id for review in reviews} | unheard
            if 0 not in listed:
                there[int(task["id"])] = listed
            for review in reviews:
                if problem:
                    review = replace(
                        review, answer="quarantined", labels=(), clip_id=None,
                        problem=problem + _tell_standing(review, standing, self.session),
                    )  # fmt: skip
                if review.annotation_id == 0:
                    # Without a number of its own an answer is known by what it says.
                    number = int(fingerprint([review.task_id, review.raw]), 16)
                    review = replace(review, annotation_id=-number)
                key = review.annotation_id, review.clip_id
                newest, before = known.get(key), found.get(key)
                if (newest is None or review.updated_at > newest) and (
                    before is None or review.updated_at > before.updated_at
                ):
                    found[key] = review
        gone = [
            replace(review, answer="deleted", labels=(), problem=None)
            for review in standing
            if whole
            and review.task_id in there
            and review.annotation_id not in there[review.task_id]
        ]
        return counts + self.take([*found.values(), *gone])

    def _bury_followed(self, tasks: Sequence[Mapping[str, Any]]) -> Counter[str]:
        """Note tombstones of tasks whose numbers others have now; answers stay what they were.

        Label Studio on SQLite gives the number of a deleted task again, if it was the highest.
        """
        clips = {int(task["id"]): task["data"]["clip_id"] for task in tasks}
        begun = {int(task["id"]): read_time(task.get("created_at")) for task in tasks}
        followed = {
            (task_id, clip_id)
            for task_id, clip_id in known_tasks(self.session, self.project, list(clips)).items()
            if clip_id is not None and clips.get(task_id, clip_id) != clip_id
        }
        for review in standing_reviews(self.session, self.project, task_ids=list(clips)):
            begun_at = begun[review.task_id]
            # An answer without a time is of 1970, and tells nothing.
            is_older = begun_at is not None and EPOCH < review.updated_at < begun_at
            if review.clip_id is not None and (is_older or clips[review.task_id] != review.clip_id):
                followed.add((review.task_id, review.clip_id))
        return Counter(task_deleted=self.bury(followed)["task_deleted"])

    def bury(self, tasks: Collection[tuple[int, int | None]]) -> Counter[str]:
        """Note that tasks are gone, given by their numbers and clips.

        Returns:
            How many answers were on them, as ``task_deleted``; they stay what they were.
        """
        tasks = set(tasks)
        alone = {task_id for task_id, _ in tasks}
        standing = [
            replace(review, answer="task_deleted", labels=(), problem=None)
            for review in standing_reviews(
                self.session, self.project, task_ids=[task_id for task_id, _ in tasks]
            )
            # What nobody could read names no clip, and goes with its task.
            if (review.task_id, review.clip_id) in tasks
            or (review.clip_id is None and review.task_id in alone)
        ]
        unanswered = tasks - {(review.task_id, review.clip_id) for review in standing}
        now = datetime.now(UTC).replace(tzinfo=None)
        return self.take(
            [
                *standing,
                *(
                    Review(
                        project=self.project, task_id=task_id, annotation_id=0, updated_at=now,
                        clip_id=clip_id, annotator_id=None, annotator=user(),
                        answer="task_deleted", raw="{}",
                    )
                    for task_id, clip_id in sorted(unanswered, key=str)
                ),
            ]
        )  # fmt: skip

    def take_deleted(self, there: Collection[int]) -> int:
        """Note which tasks are gone, and how many.

        Args:
            there: Ids of all tasks the project still has.
        """
        known = known_tasks(self.session, self.project)
        gone = {(task_id, clip_id) for task_id, clip_id in known.items() if task_id not in there}
        self.bury(gone)
        return len(gone)

    def repair(self, renames: Mapping[str, str], drop: Collection[int], actor: str) -> Counter[str]:
        """Read what is in quarantine again.

        Names that were put right are remembered with the answers they helped to read: answers
        that come later are read with them, too, until all of those are taken back.

        Args:
            renames: Name in Label Studio to class.
            drop: Ids of answers that are taken for skipped.
            actor: Who repairs them.
        """
        ids = {
            (answer.task_id, answer.annotation_id): answer.review_id
            for answer in read_quarantine(self.session) if answer.project == self.project
        }  # fmt: skip
        found = []
        for old in standing_reviews(self.session, self.project, answer="quarantined"):
            task = {
                "id": old.task_id, "data": {"clip_id": old.clip_id},
                "annotations": [json.loads(old.raw)],
            }  # fmt: skip
            [new] = read_answers(
                task, self.classes, project=self.project, renames=self.renames | dict(renames),
                several=self.several,
            )  # fmt: skip
            if ids[old.task_id, old.annotation_id] in drop:
                new = replace(new, answer="skipped", labels=(), problem=None)
            if new.answer != "quarantined":
                found.append(
                    replace(
                        old, answer=new.answer, labels=new.labels, problem=None,
                        comment=new.comment, origin=new.origin,
                    )
                )  # fmt: skip
        return self.take(found, actor=actor, renames=renames)

    def take(
        self,
        reviews: Sequence[Review],
        *,
        actor: str | None = None,
        renames: Mapping[str, str] | None = None,
    ) -> Counter[str]:
        """Write new versions of answers, and what follows from them for the clips.

        Args:
            reviews: Versions the store does not have yet.
            actor: Who brings them, where it is not the annotators themselves.
            renames: Name in Label Studio to class, to be remembered with them.

        Returns:
            How many answers of each kind there were, and how many clips became what.
        """
        if not reviews:
            return Counter()
        reviews = sorted(reviews, key=lambda review: review.updated_at)
        events, verdicts = self._decide(reviews)
        self._write(reviews, verdicts, events, actor, renames)
        counts = Counter(review.answer for review in reviews)
        return counts + Counter(e.state for found in events.values() for e in found)

    def count_anew(self) -> Counter[str]:
        """Decide on every answered clip by the rule in force; how many became what."""
        self.deferred = False
        events, _ = self._decide(standing_reviews(self.session, self.project))
        self._write([], {}, events, None)
        return Counter(e.state for found in events.values() for e in found)

    def _decide(
        self, reviews: Sequence[Review]
    ) -> tuple[dict[str, list[LabelEvent]], dict[str, list[Verdict]]]:
        """Decide what versions of answers lead to, by annotator; a standing one changes nothing."""
        new_by_clip = by_clip(reviews)
        clip_ids = sorted(new_by_clip)
        clips = read_clips(self.session, self.project, clip_ids)
        self.sent = sent_versions(self.session, self.project, clip_ids)
        self.earlier_verdicts = said_before(self.session, self.project, clip_ids)
        rule = rule_in_force(self.session, self.spec)
        before = by_clip(standing_reviews(self.session, self.project, clip_ids=clip_ids))
        after = {clip_id: list(found) for clip_id, found in before.items()}
        for review in reviews:
            if review.clip_id is not None:
                answers = after.setdefault(review.clip_id, [])
                answers[:] = [r for r in answers if r.annotation_id != review.annotation_id]
                if review.answer not in _ENDS:
                    answers.append(review)
        elsewhere = self._answers_elsewhere(clip_ids)
        decisions = resolve(
            {
                clip_id: pool({"": found, **elsewhere[clip_id]}) if clip_id in elsewhere else found
                for clip_id, found in after.items()
            },
            self.classes, overlap=self.spec.overlap,
            rule="majority" if self.deferred else rule, probs=self.probs, only=clip_ids,
        )  # fmt: skip
        verdicts: dict[str, list[Verdict]] = defaultdict(list)
        events: dict[str, list[LabelEvent]] = defaultdict(list)
        for clip_id in clip_ids:
            new = new_by_clip[clip_id]
            if any(review.answer != "task_deleted" for review in new):
                old = before.get(clip_id, [])
                for name, found in self._verdicts(
                    clip_id, clips[clip_id], old, after[clip_id]
                ).items():
                    verdicts[name] += found
            decision = decisions[clip_id]
            if self.deferred and decision.rule:
                continue
            # The last of those whose answer made it so, or who took one back.
            cause = [r for r in new if r.annotator in decision.annotators] or new
            tidied = not after[clip_id] and cause[-1].answer == "task_deleted"
            event = self._event(
                self._add_shown_model(cause[-1]), clips[clip_id], decision, tidied=tidied,
                again=_is_said_again(decision, pool(elsewhere.get(clip_id, {}))),
            )  # fmt: skip
            if event is not None:
                events[cause[-1].annotator].append(event)
        return events, verdicts

    def _answers_elsewhere(self, clip_ids: Sequence[int]) -> dict[int, dict[str, list[Review]]]:
        """Read answers in other projects that labelkit did not make, by clip and project."""
        found: dict[int, dict[str, list[Review]]] = defaultdict(dict)
        if self.foreign:
            for name in foreign_projects(self.session):
                if name != self.project:
                    reviews = standing_reviews(self.session, name, clip_ids=clip_ids)
                    for clip_id, on_clip in by_clip(reviews).items():
                        found[clip_id][name] = on_clip
        return dict(found)

    def _read_paths(self, tasks: Sequence[Mapping[str, Any]]) -> dict[int, list[str]]:
        return self.session.all_paths_of([task["data"]["clip_id"] for task in tasks])

    def _add_shown_model(self, review: Review) -> Review:
        """Add the model whose suggestion the annotator saw, where the answer does not say it."""
        if self.spec.blind:
            return replace(review, model_version=None)
        sent = self._find_sent(review)
        if review.model_version is not None or sent is None:
            return review
        return replace(review, model_version=sent.model_version)

    def _find_sent(self, review: Review) -> ReviewTask | None:
        """Find what the annotator was shown: by the model an answer names, or last sent before."""
        versions = self.sent.get(review.clip_id, []) if review.clip_id is not None else []
        named = [task for _, task in versions if task.model_version == review.model_version]
        earlier = [task for when, task in versions if when <= review.updated_at]
        found = named or earlier or [task for _, task in versions[:1]]
        return found[-1] if found else None

    def _verdicts(
        self, clip_id: int, clip: UnreviewedClip, before: Sequence[Review], after: Sequence[Review]
    ) -> dict[str, list[Verdict]]:
        """List what annotators now say of single classes, and what they no longer say, by name."""
        old, new = newest_answers(before), newest_answers(after)
        found: dict[str, list[Verdict]] = {}
        for key in sorted({*old, *new}):
            review = new.get(key)
            if review == old.get(key):
                continue
            name = (review or old[key]).annotator
            sent = self._find_sent(review) if review is not None and not self.spec.blind else None
            doubted = {*clip.base[1], *(sent.suggested if sent is not None else ())}
            verdicts = verdicts_of_answer(review, self.class_id, doubted)
            for class_id, verdict in self.earlier_verdicts.get((clip_id, name), []):
                # A class that was ticked and is not any more was looked at.
                looked = verdict == "present" and review is not None and review.answer == "labels"
                verdicts.setdefault(class_id, "absent" if looked else "withdrawn")
            rule = "withdrawn" if review is None else review.answer
            if verdicts:
                found[name] = [
                    Verdict(clip_id=clip_id, class_id=class_id, verdict=verdict, rule=rule)
                    for class_id, verdict in sorted(verdicts.items())
                ]
        return found

    def _event(
        self,
        review: Review,
        clip: UnreviewedClip,
        decision: Decision,
        *,
        tidied: bool = False,
        again: bool = False,
    ) -> LabelEvent | None:
        """Make the event of a decision, or of there being none any more; None if nothing changes.

        Of decisions of people the newest counts, in whatever way it came in; nobody confirms what
        she said herself elsewhere (``again``).
        """
        evidence: dict[str, Any] = {
            "annotation": review.annotation_id, "task": review.task_id, "project": self.project,
            "answer": review.answer, "origin": review.origin, "shown": review.model_version,
            "lead_time_s": review.lead_time_s, "comment": review.comment,
        }  # fmt: skip
        made_at = decision.made_at
        if tidied:
            # Who tidies up the queue takes no answer back; that the task is gone is told.
            if review.annotation_id == 0:
                return None
            target = clip.now
        else:
            overruled = clip.decided_at and made_at and clip.decided_at > made_at
            stands = decision.status == "decided" and not overruled
            target = decision.state(clip.base[1]) if stands else clip.base
            if again and clip.decided_at and target[1] == clip.base[1]:
                target = clip.base
            if target == clip.now:
                return None
            evidence["restored"] = None if stands else True
        evidence["answered_at"] = made_at and made_at.isoformat()
        if len(decision.annotators) > 1:
            evidence["annotators"] = list(decision.annotators)
            evidence["rule"] = decision.rule or "unanimous"
        return LabelEvent(
            clip_id=review.clip_id or 0,
            state=target[0],
            labels=target[1],
            source=KIND,
            evidence={key: value for key, value in evidence.items() if value is not None},
        )

    def _write(
        self,
        reviews: Sequence[Review],
        verdicts: Mapping[str, list[Verdict]],
        events: Mapping[str, list[LabelEvent]],
        actor: str | None,
        renames: Mapping[str, str] | None = None,
    ) -> None:
        read_with = f"{_READ_WITH}{json.dumps(dict(renames))}" if renames else ""
        by_annotator: dict[str, list[Review]] = defaultdict(list)
        for review in reviews:
            by_annotator[review.annotator].append(self._add_shown_model(review))
        for name in sorted({*by_annotator, *verdicts, *events}):
            counts = Counter(
                _KIND_NAMES.get(review.answer, review.answer) for review in by_annotator[name]
            )
            answers = ", ".join(f"{n} {answer}" for answer, n in sorted(counts.items()))
            by = f", brought by {actor}" if actor else ""
            content = [
                self.session.last_batch(), self.project, name,
                [(r.annotation_id, r.answer) for r in by_annotator[name]],
            ]  # fmt: skip
            self.session.append(
                Batch(
                    key=f"{KIND}-{fingerprint(content)}",
                    kind=KIND,
                    actor=name,
                    by_person=True,
                    reason=f"answers in Label Studio: {answers or 'counted anew'}{read_with}{by}",
                    events=events.get(name, []),
                    verdicts=verdicts.get(name, []),
                    reviews=by_annotator[name],
                )
            )


def _part_unheard(
    task: Mapping[str, Any], said: Sequence[Any]
) -> tuple[Mapping[str, Any], set[int]]:
    """Leave out annotations that nobody made, which answer nothing, and return their ids.

    Args:
        task: With its annotations.
        said: What was said of its clip on tasks that are gone, and in other projects: one that was
            imported again with its task says no more than it did.
    """
    annotations = task.get("annotations")
    if not isinstance(annotations, list):
        return task, set()
    unheard = [
        annotation
        for annotation in annotations
        if is_by_nobody(annotation) or any(is_copy(annotation, other) for other in said)
    ]
    kept = [annotation for annotation in annotations if annotation not in unheard]
    return {**task, "annotations": kept}, {a["id"] for a in unheard if type(a.get("id")) is int}


def read_renames(session: Session, project: str) -> dict[str, str]:
    """Read what labels in Label Studio are called in the vocabulary, of former names.

    Classes were renamed or merged since the page was made, or a repair that stands said so. What
    is a class of its own meanwhile is called as it is.
    """
    former = session.vocabulary().former
    found = {choice_name(old): new for old, new in former.items()}
    for reason in repair_reasons(session, project, _READ_WITH):
        found |= json.JSONDecoder().raw_decode(reason.partition(_READ_WITH)[2])[0]
    if not found:
        return {}
    known = set(choice_names(session.classes()))
    # What a repair named may have got another name since.
    return {old: former.get(new, new) for old, new in found.items() if old not in known}


def foreign_projects(session: Session) -> list[str]:
    """List the projects with answers that stand which labelkit did not make."""
    set_up = {setup.name for setup in read_projects(session)}
    return [
        name for name in answered_projects(session)
        if name.startswith(LABEL_STUDIO) and name not in set_up
    ]  # fmt: skip


def _is_said_again(decision: Decision, elsewhere: Sequence[Review]) -> bool:
    """Tell whether everybody on whom a decision rests had a say on the clip elsewhere."""
    return set(decision.annotators) <= {review.annotator for review in decisive_answers(elsewhere)}


def rule_in_force(session: Session, spec: ReviewSpec) -> str:
    """Name the consensus ``auto`` stands for: by class, where clips may have several labels."""
    if spec.consensus != "auto":
        return spec.consensus
    return "per_class" if session.allows_several() else "majority"


def _tell_standing(review: Review, standing: Sequence[Review], session: Session) -> str:
    """Tell which earlier answer stands as long as a newer version of it is of no clip."""
    earlier = [
        old for old in standing
        if (old.task_id, old.annotation_id) == (review.task_id, review.annotation_id)
        and old.clip_id is not None
    ]  # fmt: skip
    if not earlier:
        return ""
    path = session.paths_of([earlier[-1].clip_id or 0])[earlier[-1].clip_id or 0]
    return f"; until then its earlier answer on {path!r} stands"


def _misplaced(task: Mapping[str, Any], paths: Mapping[int, Sequence[str]]) -> str | None:
    """Tell why a task is not of this store, if it is not."""
    clip_id, path = task["data"]["clip_id"], task["data"]["path"]
    if clip_id not in paths:
        return f"no clip {clip_id!r} in this store; is it another store's task?"
    # A task keeps the path that its clip had when it was sent.
    if path not in paths[clip_id]:
        here = paths[clip_id][0]
        return f"clip {clip_id} is {here!r} here, not {path!r}; is it another store's task?"
    return None
