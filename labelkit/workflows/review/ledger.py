"""Answers from Label Studio into the store: nothing twice, nothing lost, nothing guessed."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from labelkit.config import ReviewSpec, fingerprint
from labelkit.label_studio.answers import read_answers
from labelkit.records import MACHINE_STATES, Batch, LabelEvent, Review, ReviewTask, Verdict
from labelkit.stores.append import WriteSession
from labelkit.stores.reviews import known_tasks, known_versions, sent_tasks, standing_reviews
from labelkit.stores.session import Session
from labelkit.workflows.review.resolution import (
    BY_MODEL,
    Decision,
    by_clip,
    newest_answers,
    resolve,
    verdicts_said,
)

KIND = "review"
# Versions that end an answer rather than give one.
_ENDS = ("deleted", "task_deleted")


@dataclass(frozen=True)
class _Clip:
    """A clip as it would be without the answers of this project, and as it is.

    ``decided_at`` is when a person made it so, None if nobody did.
    """

    base: tuple[str, list[int]]
    decided_at: datetime | None
    now: tuple[str, list[int]]


class Ledger:
    """Takes in versions of answers, within one transaction.

    Args:
        session: The open store.
        project: Name of the project in Label Studio.
        spec: How answers count.
        probs: Out-of-fold probabilities by clip id, for a consensus that reads them.
    """

    def __init__(
        self,
        session: WriteSession,
        project: str,
        spec: ReviewSpec,
        probs: Mapping[int, np.ndarray] | None = None,
    ) -> None:
        self.session, self.project, self.spec, self.probs = session, project, spec, probs
        self.classes = session.classes()
        self.class_id = {name: index for index, name in enumerate(self.classes)}
        self.sent: dict[int, ReviewTask] = {}

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
        tasks = [task for task in tasks if "clip_id" in (task.get("data") or {})]
        ids = [int(task["id"]) for task in tasks]
        # What was taken for deleted and is there has come back; an export may just be old.
        known = known_versions(self.session, self.project, ids, revive=whole)
        paths = self._paths(tasks)
        found: list[Review] = []
        there: dict[int, set[int]] = {}
        for task in tasks:
            problem = _misplaced(task, paths)
            reviews = read_answers(task, self.classes, project=self.project, users=users)
            there[int(task["id"])] = {review.annotation_id for review in reviews}
            for review in reviews:
                newest = known.get(review.annotation_id)
                if newest is not None and review.updated_at <= newest:
                    continue
                if problem:
                    review = replace(
                        review, answer="quarantined", labels=(), clip_id=None, problem=problem
                    )
                found.append(review)
        if whole:
            standing = standing_reviews(self.session, self.project, task_ids=list(there))
            found += [
                replace(review, answer="deleted", labels=(), problem=None)
                for review in standing
                if review.annotation_id not in there[review.task_id]
            ]
        return self.take(found)

    def take_deleted(self, there: Collection[int], when: datetime, actor: str) -> int:
        """Note which tasks are gone, and how many; the answers on them stay what they were.

        Args:
            there: Ids of all tasks the project still has.
            when: Time of the tombstones.
            actor: Who found it, for tasks nobody had answered.
        """
        gone = {
            task_id: clip_id
            for task_id, clip_id in known_tasks(self.session, self.project).items()
            if task_id not in there
        }
        standing = standing_reviews(self.session, self.project, task_ids=list(gone))
        answered = {review.task_id for review in standing}
        found = [replace(r, answer="task_deleted", labels=(), problem=None) for r in standing]
        found += [
            Review(
                project=self.project, task_id=task_id, annotation_id=0, updated_at=when,
                clip_id=clip_id, annotator_id=None, annotator=actor, answer="task_deleted",
                raw="{}",
            )
            for task_id, clip_id in gone.items()
            if task_id not in answered
        ]  # fmt: skip
        self.take(found)
        return len(gone)

    def repair(self, renames: Mapping[str, str], drop: Collection[int], actor: str) -> Counter[str]:
        """Read what is in quarantine again.

        Args:
            renames: Name in Label Studio to class.
            drop: Ids of answers that are taken for skipped.
            actor: Who repairs them.
        """
        ids = dict(self.session.rows("select annotation_id, review_id from quarantine "
                                     "where project = ?", [self.project]))  # fmt: skip
        found = []
        for old in standing_reviews(self.session, self.project, answer="quarantined"):
            task = {
                "id": old.task_id, "data": {"clip_id": old.clip_id},
                "annotations": [json.loads(old.raw)],
            }  # fmt: skip
            new = read_answers(task, self.classes, project=self.project, renames=renames)[0]
            if ids[old.annotation_id] in drop:
                new = replace(new, answer="skipped", labels=(), problem=None)
            if new.answer != "quarantined":
                found.append(
                    replace(
                        old, answer=new.answer, labels=new.labels, problem=None,
                        comment=new.comment, origin=new.origin,
                    )
                )  # fmt: skip
        return self.take(found, actor=actor)

    def take(self, reviews: Sequence[Review], *, actor: str | None = None) -> Counter[str]:
        """Write new versions of answers, and what follows from them for the clips.

        Args:
            reviews: Versions the store does not have yet.
            actor: Who brings them, where it is not the annotators themselves.

        Returns:
            How many answers of each kind there were, and how many clips became what.
        """
        if not reviews:
            return Counter()
        reviews = sorted(reviews, key=lambda review: review.updated_at)
        events, verdicts = self._settle(reviews)
        self._write(reviews, verdicts, events, actor)
        counts = Counter(review.answer for review in reviews)
        return counts + Counter(e.state for found in events.values() for e in found)

    def count_anew(self) -> Counter[str]:
        """Decide on every answered clip by the rule in force; how many became what."""
        events, _ = self._settle(standing_reviews(self.session, self.project))
        self._write([], {}, events, None)
        return Counter(e.state for found in events.values() for e in found)

    def _settle(
        self, reviews: Sequence[Review]
    ) -> tuple[dict[str, list[LabelEvent]], dict[str, list[Verdict]]]:
        """What follows from versions of answers, by annotator; those that stand change nothing."""
        touched = by_clip(reviews)
        clip_ids = sorted(touched)
        clips = self._clips(clip_ids)
        self.sent = sent_tasks(self.session, self.project, clip_ids)
        rule = rule_in_force(self.session, self.spec)
        # How good an annotator is, is told by all of her answers.
        needed = None if rule == BY_MODEL else clip_ids
        before = by_clip(standing_reviews(self.session, self.project, clip_ids=needed))
        after = {clip_id: list(found) for clip_id, found in before.items()}
        for review in reviews:
            if review.clip_id is not None:
                mine = after.setdefault(review.clip_id, [])
                mine[:] = [r for r in mine if r.annotation_id != review.annotation_id]
                if review.answer not in _ENDS:
                    mine.append(review)
        decisions = resolve(
            after, self.classes, overlap=self.spec.overlap, rule=rule, probs=self.probs,
            only=clip_ids,
        )  # fmt: skip
        verdicts: dict[str, list[Verdict]] = defaultdict(list)
        events: dict[str, list[LabelEvent]] = defaultdict(list)
        for clip_id in clip_ids:
            new = touched[clip_id]
            if any(review.answer != "task_deleted" for review in new):
                old = before.get(clip_id, [])
                for name, found in self._verdicts(
                    clip_id, clips[clip_id], old, after[clip_id]
                ).items():
                    verdicts[name] += found
            decision = decisions[clip_id]
            # The last of those whose answer made it so, or who took one back.
            cause = [r for r in new if r.annotator in decision.annotators] or new
            event = self._event(self._shown(cause[-1]), clips[clip_id], decision)
            if event is not None:
                events[cause[-1].annotator].append(event)
        return events, verdicts

    def _paths(self, tasks: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        wanted = [task["data"]["clip_id"] for task in tasks]
        return dict(
            self.session.rows(
                "select clip_id, path from clips where clip_id in (select unnest($ids))",
                {"ids": [i for i in wanted if type(i) is int]},
            )
        )

    def _shown(self, review: Review) -> Review:
        """With the model whose suggestion the annotator saw, where the answer does not say it."""
        if self.spec.blind:
            return replace(review, model_version=None)
        sent = self.sent.get(review.clip_id) if review.clip_id is not None else None
        if review.model_version is not None or sent is None:
            return review
        return replace(review, model_version=sent.model_version)

    def _clips(self, clip_ids: Sequence[int]) -> dict[int, _Clip]:
        """Clips with the newest event that stands and is of no answer in this project."""
        rows = self.session.rows(
            "with mine as ("
            "  select e.clip_id, e.event_id, e.state, e.labels, b.by_person "
            "    and b.batch_id <> c.batch_id and not list_contains($machine, e.state) as decided, "
            "    coalesce(json_extract_string(e.evidence, '$.answered_at')::timestamp, b.made_at) "
            "      as made_at, "
            "    b.undoes is null and b.batch_id not in (select batch_id from taken_back) "
            "    and not (b.kind = $kind "
            "      and json_extract_string(e.evidence, '$.project') = $project "
            # An answer whose task was tidied away is no answer of the project any more.
            "      and json_extract_string(e.evidence, '$.answer') <> 'task_deleted') as base "
            "  from label_events e join batches b on b.batch_id = e.batch_id "
            "  join clips c on c.clip_id = e.clip_id "
            "  where e.clip_id in (select unnest($ids))"
            ") select clip_id, max_by(state, event_id) filter (base), "
            "max_by(labels, event_id) filter (base), max_by(decided, event_id) filter (base), "
            "max_by(made_at, event_id) filter (base), max_by(state, event_id), "
            "max_by(labels, event_id) from mine group by clip_id",
            {
                "kind": KIND,
                "project": self.project,
                "ids": list(clip_ids),
                "machine": list(MACHINE_STATES),
            },
        )
        return {
            clip_id: _Clip((state, labels), made_at if decided else None, (state_now, labels_now))
            for clip_id, state, labels, decided, made_at, state_now, labels_now in rows
        }

    def _verdicts(
        self, clip_id: int, clip: _Clip, before: Sequence[Review], after: Sequence[Review]
    ) -> dict[str, list[Verdict]]:
        """What annotators now say of single classes, and what they no longer say, by name."""
        sent = self.sent.get(clip_id)
        doubted = {*clip.base[1], *(sent.suggested if sent and not self.spec.blind else ())}
        old, new = newest_answers(before), newest_answers(after)
        found = {}
        for name in sorted({*old, *new}):
            review = new.get(name)
            if review == old.get(name):
                continue
            said = verdicts_said(review, self.class_id, doubted)
            # A class that was ticked and is not any more was looked at.
            gone = "absent" if review is not None and review.answer == "labels" else "withdrawn"
            for class_id in verdicts_said(old.get(name), self.class_id, doubted):
                said.setdefault(class_id, gone)
            rule = "withdrawn" if review is None else review.answer
            found[name] = [
                Verdict(clip_id=clip_id, class_id=class_id, verdict=verdict, rule=rule)
                for class_id, verdict in sorted(said.items())
            ]
        return found

    def _event(self, review: Review, clip: _Clip, decision: Decision) -> LabelEvent | None:
        """What a clip becomes by a decision, or by there being none any more; None if nothing.

        Of decisions of people the newest counts, in whatever way it came in.
        """
        evidence: dict[str, Any] = {
            "annotation": review.annotation_id, "task": review.task_id, "project": self.project,
            "answer": review.answer, "origin": review.origin, "shown": review.model_version,
            "lead_time_s": review.lead_time_s, "comment": review.comment,
        }  # fmt: skip
        made_at = decision.made_at
        if review.answer == "task_deleted":
            # Who tidies up the queue takes no answer back; that the task is gone is told.
            if clip.now == clip.base:
                return None
            target, made_at = clip.now, review.updated_at
        else:
            overruled = clip.decided_at and made_at and clip.decided_at > made_at
            stands = decision.status == "decided" and not overruled
            target = decision.state(clip.base[1]) if stands else clip.base
            if target == clip.now:
                return None
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
    ) -> None:
        start = self.session.next_id("reviews", "review_id")
        mine: dict[str, list[Review]] = defaultdict(list)
        for review in reviews:
            mine[review.annotator].append(self._shown(review))
        for name in sorted({*mine, *verdicts, *events}):
            counts = Counter(review.answer.replace("_", " ") for review in mine[name])
            said = ", ".join(f"{n} {answer}" for answer, n in sorted(counts.items()))
            by = f", brought by {actor}" if actor else ""
            content = [
                self.session.last_batch(), start, self.project, name,
                [(r.annotation_id, r.answer) for r in mine[name]],
            ]  # fmt: skip
            self.session.append(
                Batch(
                    key=f"{KIND}-{fingerprint(content)}",
                    kind=KIND,
                    actor=name,
                    by_person=True,
                    reason=f"answers in Label Studio: {said or 'counted anew'}{by}",
                    events=events.get(name, []),
                    verdicts=verdicts.get(name, []),
                    reviews=mine[name],
                )
            )


def rule_in_force(session: Session, spec: ReviewSpec) -> str:
    """The consensus that ``auto`` stands for: by class, where clips came with several labels."""
    if spec.consensus != "auto":
        return spec.consensus
    several = session.rows(
        "select 1 from label_events e join batches b on b.batch_id = e.batch_id "
        "where len(e.labels) > 1 and b.kind not in (?, 'undo') limit 1",
        [KIND],
    )
    return "per_class" if several else "majority"


def _misplaced(task: Mapping[str, Any], paths: Mapping[int, str]) -> str | None:
    """Why a task is not of this store, if it is not."""
    clip_id, path = task["data"]["clip_id"], task["data"].get("path")
    if type(clip_id) is not int or clip_id not in paths:
        return f"no clip {clip_id!r} in this store; is it another store's task?"
    if path is not None and path != paths[clip_id]:
        return (
            f"clip {clip_id} is {paths[clip_id]!r} here, not {path!r}; is it another store's task?"
        )
    return None
