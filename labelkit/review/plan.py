"""What of the wanted tasks a server does not have, or has otherwise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labelkit.config import ReviewSpec
from labelkit.label_studio.audio import Share, local_url, web_url
from labelkit.label_studio.page import EXAMPLE_KEYS, SUGGESTION_KEYS
from labelkit.label_studio.tasks import create_prediction, create_task
from labelkit.review.queue import Item, Queue
from labelkit.stores.scores import Example

# Fields of tasks that a comparison reads.
INCLUDE = (
    "id,data,overlap,total_annotations,cancelled_annotations,draft_exists,predictions,"
    "model_version,score,result"
)
# By how much a score is moved to keep its clip behind the one before, and how far one may be
# that was moved for others.
STEP, NEAR = 1e-7, 1e-4
_UPLOADED = "/data/upload/"


@dataclass
class Plan:
    """What is to be done, by clip id.

    ``new`` have no task; ``changed`` are data to give to a task, ``unpredicted`` tasks that lack
    the newest prediction, ``reopened`` the number of annotators a finished task is to get;
    ``without_audio`` need their recording uploaded first. ``task_ids`` are the tasks that stay,
    ``places`` the scores of predictions by which Label Studio serves tasks, the lowest first,
    ``surplus`` further ones nobody worked on, ``stale_predictions`` are to go, and
    ``worked_duplicates`` are several tasks of one clip that people worked on.
    """

    new: dict[int, None] = field(default_factory=dict)
    changed: dict[int, dict[str, Any]] = field(default_factory=dict)
    unpredicted: dict[int, int] = field(default_factory=dict)
    reopened: dict[int, int] = field(default_factory=dict)
    without_audio: set[int] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)
    task_ids: dict[int, int] = field(default_factory=dict)
    places: dict[int, float] = field(default_factory=dict)
    surplus: list[int] = field(default_factory=list)
    stale_predictions: list[int] = field(default_factory=list)
    worked_duplicates: dict[int, list[int]] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether the server has all that is wanted."""
        return not (self.new or self.changed or self.unpredicted or self.reopened or self.surplus)

    def becomes(self, clip_id: int) -> str:
        """Tell what becomes of a clip's task, in a word."""
        if clip_id in self.new:
            return "new"
        if clip_id in self.answered:
            return "answered"
        parts = (self.changed, self.unpredicted, self.reopened)
        return "changed" if any(clip_id in part for part in parts) else "same"


@dataclass(frozen=True)
class Wanted:
    """Tasks as they should be: those of a queue, in a project with its settings.

    ``several`` tells whether a clip may have several labels; ``examples`` are the URLs of clips
    to compare others with, by clip id, None where they are uploaded first.
    """

    queue: Queue
    spec: ReviewSpec
    share: Share
    several: bool = True
    examples: Mapping[int, str] | None = field(default_factory=dict)

    def task(self, item: Item, audio: str) -> dict[str, Any]:
        """Make a task without its prediction."""
        return create_task(
            audio=audio, clip_id=item.clip_id, path=item.path, given=item.given,
            suggested=item.suggested, reason=item.reason, blind=self.spec.blind,
            given_example=self._example(item.given_example),
            suggested_example=self._example(item.suggested_example),
        )  # fmt: skip

    def _example(self, example: tuple[str, Example] | None) -> tuple[str, str] | None:
        """Return class and URL of a clip to compare with, if the browser can get it."""
        if example is None:
            return None
        name, clip = example
        url = (self.examples or {}).get(clip.clip_id)
        return None if url is None else (name, url)

    def prediction(self, item: Item, place: float | None = None) -> dict[str, Any]:
        """Make the prediction: what is suggested, and the place in the queue, a score."""
        return create_prediction(
            item.suggested, score=item.score if place is None else place,
            model_version=self.queue.model_version, region=item.seconds, blind=self.spec.blind,
            several=self.several,
        )  # fmt: skip

    def url(self, item: Item, before: str | None = None) -> str | None:
        """Return where the browser gets a recording; None if it must be uploaded first."""
        if self.share.mode == "local":
            return local_url(self.share, item.path)
        if self.share.mode == "url":
            return web_url(self.share, item.path)
        return before if before is not None and _UPLOADED in before else None

    def reopens(self, item: Item) -> bool:
        """Tell whether a clip goes to one more annotator although it was answered."""
        return item.disputed and item.clip_id in self.queue.chosen


def compare(
    wanted: Wanted, tasks: Iterable[dict[str, Any]], *, without: Iterable[int] = ()
) -> Plan:
    """Find what is to be sent so that every clip has exactly one task, with the newest view.

    Args:
        wanted: The tasks as they should be.
        tasks: All tasks of the project, with the fields of :data:`INCLUDE`.
        without: Clip ids that cannot be sent.
    """
    plan, tasks_of = Plan(), defaultdict(list)
    items = {item.clip_id: item for item in wanted.queue.items}
    for task in tasks:
        clip_id, path = task["data"].get("clip_id"), task["data"].get("path")
        # Anybody may have tasks in the project; ours name clip and path.
        if type(clip_id) is int and clip_id in items and items[clip_id].path == path:
            tasks_of[clip_id].append(task)
    left_out = set(without)
    plan.places = _find_places(wanted, tasks_of)
    for clip_id, item in items.items():
        if clip_id in left_out:
            continue
        if clip_id in tasks_of:
            _compare_task(wanted, item, _keep_one(clip_id, tasks_of[clip_id], plan), plan)
        elif clip_id in wanted.queue.chosen:
            # A task that lay with annotators and was deleted comes back only if asked for.
            plan.new[clip_id] = None
    return plan


def _find_places(
    wanted: Wanted, tasks_of: Mapping[int, Sequence[dict[str, Any]]]
) -> dict[int, float]:
    """Give each clip a score that keeps the order of the queue, its own or a little more.

    Scores tie, and where some clips have another metric than the rest they do not compare. One
    that a task has already stays as long as it is in order, so that little is sent anew.
    """
    places: dict[int, float] = {}
    last = -1.0
    for item in wanted.queue.items:
        lowest = max(item.score, last + STEP)
        shown = [
            found["score"]
            for task in tasks_of.get(item.clip_id, ())
            for found in task["predictions"]
            if found["model_version"] == wanted.queue.model_version and found["score"] is not None
        ]
        fitting = [s for s in shown if s > last and item.score - STEP < s <= lowest + NEAR]
        last = places[item.clip_id] = min(fitting[0] if fitting else lowest, 1.0)
    return places


def has_work(task: dict[str, Any]) -> bool:
    """Tell whether somebody answered, skipped or began a task."""
    return any(
        task.get(key)
        for key in (
            "total_annotations", "cancelled_annotations", "draft_exists", "drafts", "annotations",
        )
    )  # fmt: skip


def _keep_one(clip_id: int, tasks: Sequence[dict[str, Any]], plan: Plan) -> dict[str, Any]:
    """Choose the task of a clip that stays; others nobody worked on are surplus."""
    tasks = sorted(tasks, key=lambda task: (not has_work(task), task["id"]))
    plan.task_ids[clip_id] = tasks[0]["id"]
    plan.surplus += [task["id"] for task in tasks[1:] if not has_work(task)]
    worked_on = [task["id"] for task in tasks if has_work(task)]
    if len(worked_on) > 1:
        plan.worked_duplicates[clip_id] = worked_on
    return tasks[0]


def _compare_task(wanted: Wanted, item: Item, task: dict[str, Any], plan: Plan) -> None:
    clip_id, reopened = item.clip_id, wanted.reopens(item)
    if task["total_annotations"] >= task["overlap"] and not reopened:
        plan.answered.add(clip_id)
        return
    before = task["data"].get("audio")
    url = wanted.url(item, before)
    if url is None:
        plan.without_audio.add(clip_id)
    # Keys that others added stay; a suggestion of before the blind mode does not.
    kept = {key: value for key, value in task["data"].items() if key not in SUGGESTION_KEYS}
    data = kept | wanted.task(item, url or "")["data"]
    if wanted.examples is None:
        # Which of them are there is not known before they are uploaded.
        data |= {
            key: task["data"][key] for key in EXAMPLE_KEYS if key in task["data"] and key in data
        }
    if data != task["data"]:
        plan.changed[clip_id] = data
    prediction = wanted.prediction(item, plan.places[clip_id])
    version = prediction["model_version"]
    known = [shown for shown in task["predictions"] if shown["model_version"] == version]
    if not any(_same_prediction(shown, prediction) for shown in known):
        plan.unpredicted[clip_id] = task["id"]
        plan.stale_predictions += [shown["id"] for shown in known]
    if reopened and task["overlap"] <= task["total_annotations"]:
        plan.reopened[clip_id] = task["total_annotations"] + 1


def _same_prediction(shown: dict[str, Any], wanted: dict[str, Any]) -> bool:
    def values(prediction: dict[str, Any]) -> list[tuple[str, Any]]:
        return [(item["from_name"], item["value"]) for item in prediction["result"]]

    return (
        shown["score"] is not None
        and abs(shown["score"] - wanted["score"]) < STEP / 2
        and values(shown) == values(wanted)
    )
