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
from labelkit.records import Batch, LabelEvent, Review, ReviewTask, Verdict
from labelkit.stores.append import WriteSession
from labelkit.stores.reviews import known_tasks, known_versions, sent_tasks, standing_reviews
from labelkit.workflows.review.resolution import Decision, resolve, verdicts_said

KIND = "review"


@dataclass(frozen=True)
class _Clip:
    """A clip without any review, and as it is; ``reviewed`` if a review made it so."""

    base: tuple[str, list[int]]
    now: tuple[str, list[int]]
    reviewed: bool


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
        there = {
            int(task["id"]): {a.get("id") for a in task.get("annotations") or []}
            for task in tasks
        }  # fmt: skip
        known = known_versions(self.session, self.project, list(there))
        paths = self._paths(tasks)
        found = []
        for task in tasks:
            problem = _misplaced(task, paths)
            for review in read_answers(task, self.classes, project=self.project, users=users):
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

    def take_deleted(self, there: Collection[int], when: datetime, actor: str) -> Counter[str]:
        """Note which tasks are gone; the answers on them stay what they were.

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
        found = [replace(r, answer="task_deleted", labels=(), problem=None) for r in standing]
        found += [
            Review(
                project=self.project, task_id=task_id, annotation_id=0, updated_at=when,
                clip_id=clip_id, annotator_id=None, annotator=actor, answer="task_deleted",
                raw="{}",
            )
            for task_id, clip_id in gone.items()
            if task_id not in {review.task_id for review in standing}
        ]  # fmt: skip
        counts = self.take(found)
        return counts + Counter(task_deleted=len(gone) - counts["task_deleted"])

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

    def _paths(self, tasks: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        wanted = [task["data"].get("clip_id") for task in tasks if task.get("data")]
        return dict(
            self.session.rows(
                "select clip_id, path from clips where clip_id in (select unnest($ids))",
                {"ids": [i for i in wanted if type(i) is int]},
            )
        )

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
        clip_ids = sorted({r.clip_id for r in reviews if r.clip_id is not None})
        clips = self._clips(clip_ids)
        self.sent = sent_tasks(self.session, self.project, clip_ids)
        rule = self._rule()
        # How good an annotator is, is told by all of her answers.
        needed = None if rule == "quality" else clip_ids
        before = self._by_clip(standing_reviews(self.session, self.project, clip_ids=needed))
        reviews = [self._shown(review) for review in reviews]
        after = {clip_id: list(found) for clip_id, found in before.items()}
        verdicts: dict[str, list[Verdict]] = defaultdict(list)
        for review in reviews:
            if review.clip_id is None:
                continue
            mine = after.setdefault(review.clip_id, [])
            old = [r for r in mine if r.annotation_id == review.annotation_id]
            after[review.clip_id] = [r for r in mine if r not in old]
            if review.answer not in ("deleted", "task_deleted"):
                after[review.clip_id].append(review)
            for name, found in self._verdicts(review, old, clips[review.clip_id]).items():
                verdicts[name] += found
        decisions = [
            resolve(
                found,
                self.classes,
                overlap=self.spec.overlap,
                rule=rule,
                probs=self.probs,
                only=clip_ids,
            )
            for found in (before, after)
        ]
        events: dict[str, list[LabelEvent]] = defaultdict(list)
        for clip_id in clip_ids:
            last = [r for r in reviews if r.clip_id == clip_id][-1]
            event = self._event(last, clips[clip_id], *(found[clip_id] for found in decisions))
            if event is not None:
                events[last.annotator].append(event)
        self._write(reviews, verdicts, events, actor)
        counts = Counter(review.answer for review in reviews)
        return counts + Counter(e.state for found in events.values() for e in found)

    def _shown(self, review: Review) -> Review:
        """With the model whose suggestion the annotator saw, where the answer does not say it."""
        if self.spec.blind:
            return replace(review, model_version=None)
        sent = self.sent.get(review.clip_id) if review.clip_id is not None else None
        if review.model_version is not None or sent is None:
            return review
        return replace(review, model_version=sent.model_version)

    def _by_clip(self, reviews: Sequence[Review]) -> dict[int, list[Review]]:
        found: dict[int, list[Review]] = defaultdict(list)
        for review in reviews:
            if review.clip_id is not None:
                found[review.clip_id].append(review)
        return dict(found)

    def _rule(self) -> str:
        if self.spec.consensus != "auto":
            return self.spec.consensus
        several = self.session.rows(
            "select 1 from label_events where len(labels) > 1 and event_id in "
            "(select max(event_id) from label_events group by clip_id) limit 1"
        )
        return "per_class" if several else "majority"

    def _clips(self, clip_ids: Sequence[int]) -> dict[int, _Clip]:
        rows = self.session.rows(
            "with mine as ("
            "  select e.clip_id, e.event_id, e.state, e.labels, b.kind, "
            "    b.kind not in ($kind, 'undo') "
            "    and b.batch_id not in (select batch_id from taken_back) as base "
            "  from label_events e join batches b on b.batch_id = e.batch_id "
            "  where e.clip_id in (select unnest($ids))"
            ") select clip_id, max_by(state, event_id) filter (base), "
            "max_by(labels, event_id) filter (base), max_by(state, event_id), "
            "max_by(labels, event_id), max_by(kind, event_id) from mine group by clip_id",
            {"kind": KIND, "ids": list(clip_ids)},
        )
        return {
            clip_id: _Clip((state, labels), (state_now, labels_now), kind == KIND)
            for clip_id, state, labels, state_now, labels_now, kind in rows
        }

    def _verdicts(
        self, review: Review, old: Sequence[Review], clip: _Clip
    ) -> dict[str, list[Verdict]]:
        """What a new version says of single classes, and what it no longer says, by annotator."""
        if review.answer == "task_deleted":
            return {}
        clip_id = review.clip_id or 0
        sent = self.sent.get(clip_id)
        doubted = {*clip.base[1], *(sent.suggested if sent and not self.spec.blind else ())}
        said = {review.annotator: verdicts_said(review, self.class_id, doubted)}
        for version in old:
            mine = said.setdefault(version.annotator, {})
            # A class that was ticked and is not any more was looked at.
            looked = review.answer == "labels" and version.annotator == review.annotator
            for class_id in verdicts_said(version, self.class_id, doubted):
                mine.setdefault(class_id, "absent" if looked else "withdrawn")
        return {
            name: [
                Verdict(clip_id=clip_id, class_id=class_id, verdict=verdict, rule=review.answer)
                for class_id, verdict in sorted(found.items())
            ]
            for name, found in said.items()
        }

    def _event(
        self, review: Review, clip: _Clip, before: Decision, after: Decision
    ) -> LabelEvent | None:
        evidence = {
            "annotation": review.annotation_id, "task": review.task_id, "project": self.project,
            "answer": review.answer, "origin": review.origin, "shown": review.model_version,
            "lead_time_s": review.lead_time_s, "comment": review.comment,
        }  # fmt: skip
        if review.answer == "task_deleted":
            # Who tidies up the queue takes no answer back; that the task is gone is told.
            if not clip.reviewed:
                return None
            target = clip.now
        elif (before.status, before.labels) == (after.status, after.labels):
            return None
        elif after.status == "decided":
            target = after.state(clip.base[1])
            if target == clip.now:
                return None
        elif clip.reviewed and clip.now != clip.base:
            target = clip.base
        else:
            return None
        if len(after.annotators) > 1:
            evidence |= {"annotators": list(after.annotators), "rule": after.rule or "unanimous"}
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
        for name in sorted({review.annotator for review in reviews} | set(verdicts)):
            mine = [review for review in reviews if review.annotator == name]
            counts = Counter(review.answer.replace("_", " ") for review in mine)
            said = ", ".join(f"{n} {answer}" for answer, n in sorted(counts.items()))
            by = f", brought by {actor}" if actor else ""
            content = [start, self.project, name, [(r.annotation_id, r.answer) for r in mine]]
            self.session.append(
                Batch(
                    key=f"{KIND}-{fingerprint(content)}",
                    kind=KIND,
                    actor=name,
                    by_person=True,
                    reason=f"answers in Label Studio: {said}{by}",
                    events=events.get(name, []),
                    verdicts=verdicts.get(name, []),
                    reviews=mine,
                )
            )


def _misplaced(task: Mapping[str, Any], paths: Mapping[int, str]) -> str | None:
    """Why a task is not of this store, if it is not."""
    data = task.get("data") or {}
    clip_id, path = data.get("clip_id"), data.get("path")
    if type(clip_id) is not int or clip_id not in paths:
        return f"no clip {clip_id!r} in this store; is it another store's task?"
    if path is not None and path != paths[clip_id]:
        return (
            f"clip {clip_id} is {paths[clip_id]!r} here, not {path!r}; is it another store's task?"
        )
    return None
