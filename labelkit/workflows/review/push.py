"""Clips to Label Studio: exactly one task a clip, however often and whatever fails.

Every push compares what is wanted with what the server has, sends the difference, and
compares again. A reply that is lost, a process that is killed, or another push changes
nothing of that: the next comparison sees what is there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelkit.config import ReviewSpec, fingerprint
from labelkit.errors import ServiceError
from labelkit.label_studio.audio import Share, check_urls, local_url, probe_audio, web_url
from labelkit.label_studio.client import Client
from labelkit.label_studio.page import SUGGESTION_KEYS, choice_names, read_page
from labelkit.label_studio.tasks import check_task, create_prediction, create_task
from labelkit.label_studio.uploads import upload_clips
from labelkit.records import Batch, ReviewProject, ReviewTask
from labelkit.stores.reviews import sent_tasks, standing_reviews
from labelkit.workflows.progress import say
from labelkit.workflows.project import Project, user
from labelkit.workflows.review.queue import Choice, Item, Queue, explain_dispute, read_queue
from labelkit.workflows.review.resolution import DECISIVE, newest_answers
from labelkit.workflows.review.setup import alone, connect, read_setup, update_page

CHUNK = 500
# Comparisons after which a server that keeps nothing of what it gets is given up.
ROUNDS = 4
INCLUDE = (
    "id,data,overlap,total_annotations,cancelled_annotations,draft_exists,predictions,"
    "model_version,score,result"
)


@dataclass
class _Plan:
    """What of the wanted tasks the server does not have, or has otherwise."""

    new: list[int] = field(default_factory=list)
    changed: dict[int, dict[str, Any]] = field(default_factory=dict)
    doubted: dict[int, int] = field(default_factory=dict)
    again: dict[int, int] = field(default_factory=dict)
    same: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    surplus: list[int] = field(default_factory=list)
    task_ids: dict[int, int] = field(default_factory=dict)
    stale: list[int] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return not (self.new or self.changed or self.doubted or self.again or self.surplus)

    def becomes(self, clip_id: int) -> str:
        """What the server has of a clip, in a word."""
        if clip_id in self.new:
            return "new"
        if clip_id in self.answered:
            return "answered"
        parts = (self.changed, self.doubted, self.again)
        return "changed" if any(clip_id in part for part in parts) else "same"


def push(
    project: Project,
    choice: Choice,
    *,
    dry_run: bool = False,
    token_file: Path | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Send clips to annotators, the most doubtful first; the same again changes nothing.

    Clips that lie with annotators already, unanswered, get the new model's view, too: Label
    Studio shows that of one model only.

    Args:
        project: Whose clips.
        choice: Which of them.
        dry_run: Send nothing, only say what would be sent.
        token_file: File of the token, where the environment holds none.

    Returns:
        A row a clip in the order they will be heard: path, labels, suggested, score, reason,
        and whether its task is new, changed, the same or answered already; and counts.

    Raises:
        InvalidInput: If nothing was set up, or the choice is none.
        ServiceError: If the server fails; repeat the push, nothing is there twice.
    """
    choice.check()
    with alone(project):
        setup, spec, share = read_setup(project)
        client = connect(project, setup.url, token_file)
        if not dry_run:
            setup = update_page(project, client, setup, spec)
        queue = _read(project, setup, choice)
        for path in queue.unknown:
            say(f"{path} is no clip of the project and is left out; give a path of labels_now")
        sender = _Sender(project, client, setup, spec, share, queue)
        if not queue.items:
            say("no clip fits: nothing to send")
        first = sender.compare()
        if not dry_run:
            sender.send(first)
    rows = sender.rows(first)
    counts = Counter(row["task"] for row in rows)
    report: dict[str, Any] = {name: counts[name] for name in ("new", "changed", "same", "answered")}
    report |= {"left_out": len(sender.faults) + len(queue.unknown)}
    report |= {"shown_by": queue.model_version, "project": setup.project_id}
    return rows, report


def _read(project: Project, setup: ReviewProject, choice: Choice) -> Queue:
    """The clips that were asked for, and those that lie with annotators already."""
    with project.store.read() as session:
        sent = sent_tasks(session, setup.name)
        reviews = standing_reviews(session, setup.name)
    by_clip = defaultdict(list)
    for review in reviews:
        if review.clip_id is not None:
            by_clip[review.clip_id].append(review)
    answers = {clip_id: newest_answers(found) for clip_id, found in by_clip.items()}
    disputed = {}
    for clip_id, found in answers.items():
        said = [None if r.answer == "no_sound" else r.labels
                for r in found if r.answer in DECISIVE]  # fmt: skip
        if len(set(said)) > 1:
            disputed[clip_id] = explain_dispute(said)
    answered = [clip_id for clip_id, found in answers.items() if found]
    waiting = sorted(set(sent) - set(answered))
    return read_queue(project, choice, answered=answered, disputed=disputed, also=waiting)


class _Sender:
    """Brings the server to where every item has exactly one task, with the newest view."""

    def __init__(
        self,
        project: Project,
        client: Client,
        setup: ReviewProject,
        spec: ReviewSpec,
        share: Share,
        queue: Queue,
    ) -> None:
        self.project, self.client, self.setup = project, client, setup
        self.spec, self.share, self.queue = spec, share, queue
        self.items = {item.clip_id: item for item in queue.items}
        self.faults: dict[int, str] = {}
        self.urls: dict[int, str] = {}
        with project.store.read() as session:
            self.classes = session.classes()
        self.names = choice_names(self.classes)
        self.keys = read_page(setup.page).keys

    def compare(self) -> _Plan:
        """List the project by clip id, and find what is to be sent."""
        plan, there = _Plan(), defaultdict(list)
        for page in self.client.pages(self.setup.project_id, include=INCLUDE):
            for task in page:
                clip_id = task["data"].get("clip_id")
                if type(clip_id) is int and clip_id in self.items:
                    there[clip_id].append(task)
        for clip_id, item in self.items.items():
            if clip_id in self.faults:
                continue
            if clip_id not in there:
                # A task that annotators had and somebody deleted comes back only if asked for.
                if clip_id in self.queue.chosen:
                    plan.new.append(clip_id)
                continue
            task = self._keep_one(there[clip_id], plan)
            plan.task_ids[clip_id] = task["id"]
            self._compare_task(item, task, plan)
        return plan

    def _keep_one(self, tasks: list[dict[str, Any]], plan: _Plan) -> dict[str, Any]:
        """The task of a clip that stays; others nobody worked on are surplus."""
        tasks = sorted(tasks, key=lambda task: (not _touched(task), task["id"]))
        plan.surplus += [task["id"] for task in tasks[1:] if not _touched(task)]
        worked = [task["id"] for task in tasks if _touched(task)]
        if len(worked) > 1:
            say(
                f"clip {tasks[0]['data'].get('path')!r} has {len(worked)} tasks that people worked "
                f"on: {', '.join(map(str, worked))}; all are pulled, delete what is too much"
            )
        return tasks[0]

    def _compare_task(self, item: Item, task: dict[str, Any], plan: _Plan) -> None:
        again = self._goes_again(item)
        if task["total_annotations"] and not again:
            plan.answered.append(item.clip_id)
            return
        # Keys that others added stay; a suggestion of before the blind mode does not.
        kept = {key: v for key, v in task["data"].items() if key not in SUGGESTION_KEYS}
        data = kept | self._task(item, task["data"]["audio"])["data"]
        if data != task["data"]:
            plan.changed[item.clip_id] = data
        mine = self._prediction(item)
        known = [p for p in task["predictions"] if p["model_version"] == mine["model_version"]]
        if not any(_same_prediction(p, mine) for p in known):
            plan.doubted[item.clip_id] = task["id"]
            plan.stale += [p["id"] for p in known]
        if again and task["overlap"] <= task["total_annotations"]:
            plan.again[item.clip_id] = task["total_annotations"] + 1
        if plan.becomes(item.clip_id) == "same":
            plan.same.append(item.clip_id)

    def _goes_again(self, item: Item) -> bool:
        """Whether a clip goes to one more annotator although it was answered."""
        return item.disputed and item.clip_id in self.queue.chosen

    def send(self, plan: _Plan) -> None:
        """Send what differs until nothing does, then note what is there."""
        failure: ServiceError | None = None
        for _ in range(ROUNDS):
            if plan.done:
                break
            try:
                self._apply(plan)
                failure = None
            except ServiceError as error:
                failure = error
            plan = self.compare()
        else:
            if not plan.done:
                raise failure or ServiceError(
                    f"project {self.setup.project_id} of {self.setup.url} does not keep what is "
                    f"sent: {len(plan.new)} tasks are missing; look into its log"
                )
        self._show()
        self._record(plan)

    def _apply(self, plan: _Plan) -> None:
        project_id = self.setup.project_id
        for task_id in plan.surplus:
            self.client.delete_task(task_id)
        for chunk in _chunks(self._ready(plan.new)):
            self.client.import_tasks(project_id, chunk)
        for clip_id, data in plan.changed.items():
            self.client.update_task(plan.task_ids[clip_id], data=data)
        for prediction_id in plan.stale:
            self.client.delete_prediction(prediction_id)
        rows = [
            {"task": task_id, **self._prediction(self.items[clip_id])}
            for clip_id, task_id in plan.doubted.items()
        ]
        for chunk in _chunks(rows):
            self.client.import_predictions(project_id, chunk)
        for clip_id, overlap in plan.again.items():
            self.client.update_task(plan.task_ids[clip_id], overlap=overlap, is_labeled=False)

    def _ready(self, clip_ids: Sequence[int]) -> list[dict[str, Any]]:
        """Tasks fit to be sent, in the order they are to be heard; the others are told."""
        items = [self.items[clip_id] for clip_id in clip_ids if clip_id not in self.faults]
        self._find_audio([item for item in items if item.clip_id not in self.urls])
        tasks = []
        for item in items:
            if item.clip_id in self.faults:
                continue
            task = self._task(item, self.urls[item.clip_id])
            task["predictions"] = [self._prediction(item)]
            problem = check_task(task, self.names, keys=self.keys, duration_s=item.duration_s)
            if problem is None:
                tasks.append(task)
            else:
                self._leave_out(item, problem)
        return tasks

    def _find_audio(self, items: Sequence[Item]) -> None:
        """URLs of recordings, each known to be there."""
        if self.share.mode == "url":
            urls = {item.clip_id: web_url(self.share, item.path) for item in items}
            faults = check_urls(self.client, urls.values())
            for item in items:
                url = urls[item.clip_id]
                self._place(item, url, faults.get(url))
            return
        self.project.check_audio()
        files = {item.clip_id: self.project.audio_dir / item.path for item in items}
        if self.share.mode == "upload":
            with self.project.store.read() as session:
                hashes = dict(session.rows("select clip_id, content_hash from clips"))
            urls, refused = upload_clips(
                self.client,
                self.share.box_project_id or 0,
                [(item.clip_id, files[item.clip_id], hashes[item.clip_id]) for item in items],
            )
            for item in items:
                self._place(item, urls.get(item.clip_id, ""), refused.get(files[item.clip_id]))
            return
        for item in items:
            there = files[item.clip_id].is_file()
            fault = None if there else "the recording is not there; see: labelkit check"
            self._place(item, local_url(self.share, item.path), fault)
        found = [item for item in items if item.clip_id in self.urls]
        if found:
            problem = probe_audio(self.client, self.urls[found[0].clip_id])
            if problem:
                raise ServiceError(f"{found[0].path}: {problem}")

    def _place(self, item: Item, url: str, fault: str | None) -> None:
        if fault is None:
            self.urls[item.clip_id] = url
        else:
            self._leave_out(item, f"clip {item.path!r}: {fault}")

    def _leave_out(self, item: Item, problem: str) -> None:
        self.faults[item.clip_id] = problem
        say(f"{problem}; it is left out")

    def _task(self, item: Item, audio: str) -> dict[str, Any]:
        return create_task(
            audio=audio, clip_id=item.clip_id, path=item.path, given=item.given,
            suggested=item.suggested, reason=item.reason, blind=self.spec.blind,
        )  # fmt: skip

    def _prediction(self, item: Item) -> dict[str, Any]:
        return create_prediction(
            item.suggested, score=item.score, model_version=self.queue.model_version,
            region=item.seconds, blind=self.spec.blind,
        )  # fmt: skip

    def _show(self) -> None:
        """Let annotators see the newest predictions; Label Studio goes on showing the first."""
        there = self.client.project(self.setup.project_id)
        if self.items and there["model_version"] != self.queue.model_version:
            versions = self.client.model_versions(self.setup.project_id)
            if self.queue.model_version in versions:
                self.client.update_project(
                    self.setup.project_id, model_version=self.queue.model_version
                )

    def _record(self, plan: _Plan) -> None:
        """Note in the store what lies with annotators, where it is not noted yet."""
        class_id = {name: index for index, name in enumerate(self.classes)}
        answered = set(plan.answered)
        tasks = [
            ReviewTask(
                project=self.setup.name,
                task_id=task_id,
                clip_id=clip_id,
                model_version=self.queue.model_version,
                score=self.items[clip_id].score,
                suggested=sorted(class_id[name] for name in self.items[clip_id].suggested),
                page_hash=self.setup.page_hash,
            )
            for clip_id, task_id in plan.task_ids.items()
            if clip_id not in answered
        ]
        with self.project.store.write() as session:
            known = sent_tasks(session, self.setup.name, [task.clip_id for task in tasks])
            tasks = [task for task in tasks if known.get(task.clip_id) != task]
            if not tasks:
                return
            content = [session.last_batch(), tasks]
            session.append(
                Batch(
                    key=f"push-{fingerprint(content)}",
                    kind="push",
                    actor=user(),
                    by_person=True,
                    reason=f"{len(tasks)} clips to {self.setup.title} ({self.queue.model_version})",
                    review_tasks=tasks,
                )
            )

    def rows(self, plan: _Plan) -> list[dict[str, Any]]:
        """What a command prints of each clip that was asked for."""
        return [
            {
                "path": item.path, "labels": list(item.given), "suggested": list(item.suggested),
                "score": round(item.score, 4), "task": plan.becomes(item.clip_id),
                "reason": item.reason,
            }
            for item in self.queue.items
            if item.clip_id in self.queue.chosen and item.clip_id not in self.faults
        ]  # fmt: skip


def _touched(task: dict[str, Any]) -> bool:
    """Whether somebody answered, skipped or began a task."""
    return bool(
        task["total_annotations"] or task["cancelled_annotations"] or task.get("draft_exists")
    )


def _same_prediction(there: dict[str, Any], mine: dict[str, Any]) -> bool:
    def values(prediction: dict[str, Any]) -> list[tuple[str, Any]]:
        return [(item["from_name"], item["value"]) for item in prediction["result"]]

    return (
        there["score"] is not None
        and abs(there["score"] - mine["score"]) < 1e-6
        and values(there) == values(mine)
    )


def _chunks(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), CHUNK):
        yield list(rows[start : start + CHUNK])
