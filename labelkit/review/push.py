"""Clips to Label Studio: exactly one task a clip, however often and whatever fails.

Every push compares what is wanted with what the server has, sends the difference, and
compares again. A reply that is lost, a process that is killed, or another push changes
nothing of that: the next comparison sees what is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from labelkit.config import ReviewSpec, fingerprint
from labelkit.errors import InvalidInput, ServiceError
from labelkit.label_studio.access import read_token
from labelkit.label_studio.audio import Share, check_urls, local_url, probe_audio, web_url
from labelkit.label_studio.client import Client
from labelkit.label_studio.page import choice_names, read_page
from labelkit.label_studio.tasks import check_task
from labelkit.label_studio.uploads import upload_clips
from labelkit.paths import leads_out
from labelkit.progress import say
from labelkit.project import Project, user
from labelkit.records import Batch, ReviewProject, ReviewTask
from labelkit.review.ledger import Ledger, rule_in_force
from labelkit.review.plan import INCLUDE, Plan, Wanted, compare, has_work
from labelkit.review.pull import read_probs
from labelkit.review.queue import Choice, Item, Queue, explain_dispute, read_queue
from labelkit.review.resolution import (
    by_clip,
    decisive_answers,
    labels_of_answer,
    newest_answers,
    resolve,
)
from labelkit.review.setup import (
    check_token_file,
    connect,
    lock_review,
    read_setup,
    read_spec,
    update_page,
)
from labelkit.runs.judge import tell_weak_judge
from labelkit.stores.reviews import last_project, sent_tasks, standing_reviews

CHUNK = 500
# Comparisons after which a server that keeps nothing of what it gets is given up.
ROUNDS = 4


@dataclass(frozen=True, kw_only=True)
class PushedClip:
    """A clip that was asked for: what its annotators are told, and what becomes of its task.

    ``score`` in [0, 1] orders, the lowest first; ``task`` is new, changed, same or answered.
    """

    path: str
    labels: list[str]
    suggested: list[str]
    score: float
    task: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PushReport:
    """Counts of tasks, the model whose view annotators get, and the project in Label Studio."""

    new: int
    changed: int
    same: int
    answered: int
    left_out: int
    model_version: str = field(metadata={"key": "shown_by"})
    project_id: int | None = field(metadata={"key": "project"})


def push(
    project: Project,
    choice: Choice,
    *,
    dry_run: bool = False,
    token_file: Path | None = None,
    follow_links: bool = False,
) -> tuple[list[PushedClip], PushReport]:
    """Send clips to annotators, the most doubtful first; the same again changes nothing.

    Clips that lie with annotators already, unanswered, get the new model's view, too: Label
    Studio shows that of one model only.

    Args:
        project: Whose clips.
        choice: Which of them.
        dry_run: Send nothing, only say what would be sent as far as the store knows: neither a
            server nor a token is needed, nor that anything was set up.
        token_file: File of the token, where the environment holds none.
        follow_links: Upload recordings, too, that links take out of the audio folder.

    Returns:
        The clips in the order they will be heard, and counts of their tasks.

    Raises:
        InvalidInput: If nothing was set up, or the choice is none.
        ServiceError: If the server fails; repeat the push, nothing is there twice.
    """
    choice.check()
    if choice.lowest is not None or choice.missing is not None:
        tell_weak_judge(project)
    if dry_run:
        return _foresee(project, choice, token_file, follow_links)
    with lock_review(project):
        setup, spec, share = read_setup(project)
        _refuse_unread(share.mode, follow_links)
        client = connect(project, setup.url, token_file)
        setup = update_page(project, client, setup, spec)
        queue, _ = _read_wanted(project, setup, spec, choice)
        with project.store.read() as session:
            several = session.allows_several()
        examples = _example_urls(project, queue, share)
        wanted = Wanted(queue, spec, share, several=several, examples=examples)
        sender = _Sender(project, client, setup, wanted, follow_links)
        first = sender.compare()
        sender.send(first)
    return _tell(queue, first.becomes, sender.faults, setup.project_id)


def _foresee(
    project: Project, choice: Choice, token_file: Path | None, follow_links: bool
) -> tuple[list[PushedClip], PushReport]:
    """Say what would be sent, by what the store knows of the server."""
    if token_file is not None:
        check_token_file(project, token_file)
        read_token(token_file)
    with project.store.read() as session:
        setup = last_project(session)
        known = sent_tasks(session, setup.name) if setup else {}
        class_id = {name: index for index, name in enumerate(session.classes())}
    if setup is None:
        say("nothing is set up in Label Studio yet: before the push comes labelkit review init")
        queue, answered = _tell_left_out(read_queue(project, choice)), set[int]()
    else:
        queue, answered = _read_wanted(project, setup, read_spec(setup), choice)
    items = {item.clip_id: item for item in queue.items}
    mode = read_spec(setup).audio
    _refuse_unread(mode, follow_links)
    faults: dict[int, str | None] = {}
    if mode != "url":
        project.check_audio()
        faults = _find_local_faults(
            project,
            [items[clip_id] for clip_id in queue.chosen if clip_id in items],
            follow_links=follow_links or mode != "upload",
        )
        _tell_faults(queue.items, faults)
    left_out = {clip_id for clip_id, fault in faults.items() if fault}

    def becomes(clip_id: int) -> str:
        task, item = known.get(clip_id), items[clip_id]
        if clip_id in answered and not item.disputed:
            return "answered"
        if task is None:
            return "new"
        suggested = sorted(class_id[name] for name in item.suggested)
        shown = (task.model_version, task.score, list(task.suggested))
        same = shown == (queue.model_version, item.score, suggested) and not item.disputed
        return "same" if same else "changed"

    return _tell(queue, becomes, left_out, setup.project_id if setup else None)


def _refuse_unread(mode: str, follow_links: bool) -> None:
    """Refuse an option that is of no matter for how the audio gets to the annotators."""
    if follow_links and mode != "upload":
        raise InvalidInput(
            f"--follow-links is for uploaded recordings, and here they go by --audio {mode}, "
            "which links do not matter to; leave it out"
        )


def _find_local_faults(
    project: Project, items: Sequence[Item], *, follow_links: bool
) -> dict[int, str | None]:
    """Find the recordings that are not there, or that links take out of the audio folder."""
    root = project.audio_dir.resolve()
    return {
        item.clip_id: _GONE if not (project.audio_dir / item.path).is_file()
        else _LINKED_OUT if not follow_links and leads_out(root, item.path)
        else None
        for item in items
    }  # fmt: skip


def _tell_faults(items: Sequence[Item], faults: Mapping[int, str | None]) -> None:
    """Say which recordings are left out, a line for each reason."""
    for fault, n in Counter(fault for fault in faults.values() if fault).items():
        first = next(item for item in items if faults.get(item.clip_id) == fault)
        more = f" and {n - 1} more clips" if n > 1 else ""
        say(f"{first.path}{more}: {fault}; left out")


def _tell(
    queue: Queue, becomes: Callable[[int], str], faults: Collection[int], project_id: int | None
) -> tuple[list[PushedClip], PushReport]:
    """List the clips that were asked for, and count what becomes of their tasks."""
    clips = [
        PushedClip(
            path=item.path, labels=list(item.given), suggested=list(item.suggested),
            score=round(item.score, 4), task=becomes(item.clip_id), reason=item.reason,
        )
        for item in queue.items
        if item.clip_id in queue.chosen and item.clip_id not in faults
    ]  # fmt: skip
    counts = Counter(clip.task for clip in clips)
    return clips, PushReport(
        new=counts["new"],
        changed=counts["changed"],
        same=counts["same"],
        answered=counts["answered"],
        left_out=len(faults) + len(queue.unknown),
        model_version=queue.model_version,
        project_id=project_id,
    )


def _tell_left_out(queue: Queue) -> Queue:
    """Say which paths are no clips, and that nothing fits."""
    for path in queue.unknown:
        say(f"{path} is no clip of the project and is left out; give a path of labels_now")
    if not queue.items:
        say("no clip fits: nothing to send")
    return queue


def _read_wanted(
    project: Project, setup: ReviewProject, spec: ReviewSpec, choice: Choice
) -> tuple[Queue, set[int]]:
    """Read the clips that were asked for, those that lie with annotators, and who is answered."""
    with project.store.read() as session:
        sent = sent_tasks(session, setup.name)
        reviews = by_clip(standing_reviews(session, setup.name))
        rule, classes = rule_in_force(session, spec), session.classes()
    probs = read_probs(project, spec)
    decisions = resolve(reviews, classes, overlap=spec.overlap, rule=rule, probs=probs)
    disputed = {
        clip_id: explain_dispute([labels_of_answer(r) for r in decisive_answers(reviews[clip_id])])
        for clip_id, decision in decisions.items()
        if decision.status == "disagreement"
    }
    # An answer in quarantine waits for repair, not for somebody else.
    answered = {
        clip_id for clip_id, answers in reviews.items()
        if len(newest_answers(answers)) >= spec.overlap
        or any(review.answer == "quarantined" for review in answers)
    }  # fmt: skip
    waiting = sorted(set(sent) - answered)
    queue = read_queue(
        project, choice, answered=answered, disputed=disputed, waiting=waiting, blind=spec.blind
    )
    return _tell_left_out(queue), answered


def _examples_of(queue: Queue) -> dict[int, str]:
    """List the clips that others are compared with, by id, with their paths."""
    pairs = (pair for item in queue.items for pair in (item.given_example, item.suggested_example))
    return {pair[1].clip_id: pair[1].path for pair in pairs if pair is not None}


def _example_urls(project: Project, queue: Queue, share: Share) -> dict[int, str] | None:
    """Find where the browser gets the clips to compare with; None if they are uploaded first.

    One that is not there is left out: it is a help, and no clip that somebody asked for.
    """
    if share.mode == "upload":
        return None
    if share.mode == "url":
        return {clip_id: web_url(share, path) for clip_id, path in _examples_of(queue).items()}
    return {
        clip_id: local_url(share, path)
        for clip_id, path in _examples_of(queue).items()
        if (project.audio_dir / path).is_file()
    }


_GONE = "the recording is not there; see: labelkit check"
_LINKED_OUT = "links take it out of the audio folder; copy it there, or push with --follow-links"


class _Sender:
    """Brings the server to where every item has exactly one task, with the newest view."""

    def __init__(
        self,
        project: Project,
        client: Client,
        setup: ReviewProject,
        wanted: Wanted,
        follow_links: bool,
    ) -> None:
        self.follow_links = follow_links
        self.project, self.client, self.setup, self.wanted = project, client, setup, wanted
        self.items = {item.clip_id: item for item in wanted.queue.items}
        self.faults: dict[int, str] = {}
        self.urls: dict[int, str] = {}
        with project.store.read() as session:
            self.classes, self.as_of = session.classes(), session.last_batch()
        self.names = choice_names(self.classes)
        self.keys = read_page(setup.page).keys

    def compare(self) -> Plan:
        """List the project, and find what is to be sent."""
        pages = self.client.pages(self.setup.project_id, include=INCLUDE)
        return compare(self.wanted, chain.from_iterable(pages), without=self.faults)

    def send(self, plan: Plan) -> None:
        """Send what differs until nothing does, then note what is there."""
        for clip_id, task_ids in plan.worked_duplicates.items():
            say(
                f"clip {self.items[clip_id].path!r} has {len(task_ids)} tasks that people worked "
                f"on: {', '.join(map(str, task_ids))}; all are pulled, delete what is too much"
            )
        self._bury_deleted(plan)
        if self.wanted.examples is None and _examples_of(self.wanted.queue):
            self._upload_examples()
            plan = self.compare()
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
        self._show_predictions()
        self._record(plan)

    def _bury_deleted(self, plan: Plan) -> None:
        """Note that tasks are gone before others get their numbers, perhaps of the same clips."""
        with self.project.store.write() as session:
            sent = sent_tasks(session, self.setup.name, list(plan.new))
            gone = [(task.task_id, clip_id) for clip_id, task in sent.items()]
            if gone:
                Ledger(session, self.setup.name, self.wanted.spec).bury(gone)

    def _apply(self, plan: Plan) -> None:
        project_id = self.setup.project_id
        for task_id in plan.surplus:
            # Somebody may have begun it since it was listed, and would lose the work.
            task = self.client.task(task_id)
            if task is not None and not has_work(task):
                self.client.delete_task(task_id)
        for chunk in _chunks(self._make_tasks(plan)):
            self.client.import_tasks(project_id, chunk)
        self._find_audio([self.items[clip_id] for clip_id in sorted(plan.without_audio)])
        for clip_id, data in plan.changed.items():
            if clip_id in plan.without_audio:
                if clip_id in self.faults:
                    continue
                data = data | {"audio": self.urls[clip_id]}
            self.client.update_task(plan.task_ids[clip_id], data=data)
        for prediction_id in plan.stale_predictions:
            self.client.delete_prediction(prediction_id)
        rows = [
            {
                "task": task_id,
                **self.wanted.prediction(self.items[clip_id], plan.places[clip_id]),
            }
            for clip_id, task_id in plan.unpredicted.items()
        ]
        for chunk in _chunks(rows):
            self.client.import_predictions(project_id, chunk)
        for clip_id, overlap in plan.reopened.items():
            self.client.update_task(plan.task_ids[clip_id], overlap=overlap, is_labeled=False)

    def _upload_examples(self) -> None:
        """Upload the clips to compare with; one that cannot be sent is left out."""
        root = self.project.audio_dir.resolve()
        paths = {
            clip_id: path for clip_id, path in _examples_of(self.wanted.queue).items()
            if self.follow_links or not leads_out(root, path)
        }  # fmt: skip
        with self.project.store.read() as session:
            hashes = session.content_hashes()
        urls, _ = upload_clips(
            self.client, self.wanted.share.box_project_id or 0,
            [(i, self.project.audio_dir / path, hashes[i]) for i, path in paths.items()],
        )  # fmt: skip
        self.wanted = replace(self.wanted, examples=urls)

    def _make_tasks(self, plan: Plan) -> list[dict[str, Any]]:
        """List tasks fit to be sent, in the order they are to be heard; the others are told."""
        items = [self.items[clip_id] for clip_id in plan.new if clip_id not in self.faults]
        self._find_audio([item for item in items if item.clip_id not in self.urls])
        tasks = []
        for item in items:
            if item.clip_id in self.faults:
                continue
            task = self.wanted.task(item, self.urls[item.clip_id])
            task["predictions"] = [self.wanted.prediction(item, plan.places[item.clip_id])]
            problem = check_task(task, self.names, keys=self.keys, duration_s=item.duration_s)
            if problem is None:
                tasks.append(task)
            else:
                self.faults[item.clip_id] = problem
                say(f"{problem}; it is left out")
        return tasks

    def _find_audio(self, items: Sequence[Item]) -> None:
        """Find the URLs of recordings, each known to be there; what is not is told."""
        if not items:
            return
        share = self.wanted.share
        urls = {item.clip_id: self.wanted.url(item) or "" for item in items}
        faults: dict[int, str | None] = {}
        if share.mode == "url":
            found = check_urls(self.client, urls.values())
            faults = {clip_id: found.get(url) for clip_id, url in urls.items()}
        else:
            self.project.check_audio()
            files = {item.clip_id: self.project.audio_dir / item.path for item in items}
            if share.mode == "upload":
                root = self.project.audio_dir.resolve()
                out = {
                    item.clip_id for item in items
                    if not self.follow_links and leads_out(root, item.path)
                }  # fmt: skip
                with self.project.store.read() as session:
                    hashes = session.content_hashes()
                sent, refused = upload_clips(
                    self.client, share.box_project_id or 0,
                    [(clip_id, file, hashes[clip_id]) for clip_id, file in files.items()
                     if clip_id not in out],
                )  # fmt: skip
                urls |= sent
                faults = {clip_id: refused.get(path) for clip_id, path in files.items()}
                faults |= dict.fromkeys(out, _LINKED_OUT)
            else:
                faults = _find_local_faults(self.project, items, follow_links=True)
        for item in items:
            fault = faults[item.clip_id]
            if fault is None:
                self.urls[item.clip_id] = urls[item.clip_id]
            else:
                self.faults[item.clip_id] = fault
        _tell_faults(items, faults)
        playable = [item for item in items if item.clip_id in self.urls]
        if share.mode == "local" and playable:
            problem = probe_audio(self.client, self.urls[playable[0].clip_id])
            if problem:
                raise ServiceError(f"{playable[0].path}: {problem}")

    def _show_predictions(self) -> None:
        """Let annotators see the newest predictions; Label Studio goes on showing the first."""
        shown = self.client.project(self.setup.project_id)["model_version"]
        if self.items and shown != self.wanted.queue.model_version:
            versions = self.client.model_versions(self.setup.project_id)
            if self.wanted.queue.model_version in versions:
                self.client.update_project(
                    self.setup.project_id, model_version=self.wanted.queue.model_version
                )

    def _record(self, plan: Plan) -> None:
        """Note in the store what lies with annotators, where it is not noted yet."""
        class_id = {name: index for index, name in enumerate(self.classes)}
        version = self.wanted.queue.model_version
        tasks = [
            ReviewTask(
                project=self.setup.name,
                task_id=task_id,
                clip_id=clip_id,
                model_version=version,
                score=self.items[clip_id].score,
                suggested=sorted(class_id[name] for name in self.items[clip_id].suggested),
                page_hash=self.setup.page_hash,
            )
            for clip_id, task_id in plan.task_ids.items()
            if clip_id not in plan.answered
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
                    reason=f"{len(tasks)} clips to {self.setup.title} ({version})",
                    review_tasks=tasks,
                    spoken=(self.classes, self.as_of),
                )
            )


def _chunks(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), CHUNK):
        yield list(rows[start : start + CHUNK])
