"""Answers from Label Studio: what changed since the last time, or all of it, or a file of it."""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from labelkit.cleaning.inputs import read_inputs
from labelkit.config import ReviewSpec, fingerprint
from labelkit.errors import InvalidInput, ServiceError, StoreBusy
from labelkit.files import parse_json, refuse_special
from labelkit.label_studio.answers import is_foreign, read_labels, read_time
from labelkit.label_studio.client import Client
from labelkit.progress import say
from labelkit.project import Project, user
from labelkit.records import Batch, Pull, ReviewProject
from labelkit.review.ledger import Ledger, foreign_projects
from labelkit.review.resolution import BY_MODEL
from labelkit.review.setup import connect, lock_review, read_setup, read_spec
from labelkit.stores.reviews import (
    clips_of_tasks,
    known_annotators,
    known_tasks,
    last_watermark,
    read_projects,
    read_quarantine,
    standing_reviews,
)
from labelkit.stores.session import Session
from labelkit.types import Floats

INCLUDE = (
    "id,data,updated_at,annotations,result,completed_by,was_cancelled,created_at,lead_time,"
    "ground_truth,parent_prediction,parent_annotation,last_action,updated_by,predictions,"
    "model_version"
)
# The server's clock decides what is new; answers that were on their way come in this time.
OVERLAP = timedelta(seconds=60)
# What takes in annotations on tasks that labelkit did not make.
IMPORT_COMMAND = "labelkit import export.json --format labelstudio"
# Tasks of an export that one transaction takes in.
CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class PullReport:
    """How many answers of each kind were new, and how many clips became what.

    ``unheard`` are annotations that nobody made, ``foreign`` those on tasks that are not
    labelkit's; neither is taken in.
    """

    labels: int = 0
    none: int = 0
    unsure: int = 0
    no_sound: int = 0
    skipped: int = 0
    quarantined: int = 0
    deleted: int = 0
    task_deleted: int = 0
    unheard: int = 0
    foreign: int = 0
    verified: int = 0
    relabeled: int = 0
    rejected: int = 0
    unverified: int = 0


@dataclass(frozen=True, kw_only=True)
class RepairReport(PullReport):
    """What a repair brought in, and how many answers stay in quarantine."""

    still_in_quarantine: int


def pull(project: Project, *, full: bool = False, token_file: Path | None = None) -> PullReport:
    """Bring in what people answered, changed and took back since the last pull.

    Twice brings nothing new. A pull that breaks off keeps what it has, and the next one
    brings the rest.

    Args:
        project: Where the answers go.
        full: Look at every task, not only at those that changed.
        token_file: File of the token, where the environment holds none.

    Returns:
        Counts of answers by kind, and of clips by what they became.

    Raises:
        InvalidInput: If nothing was set up.
        ServiceError: If the server fails or the project is gone.
    """
    with lock_review(project):
        setup, spec, _ = read_setup(project)
        client = connect(project, setup.url, token_file)
        users = client.users()
        with project.store.read() as session:
            last = last_watermark(session, setup.name)
        since = None if full or last is None else last - OVERLAP
        probs = read_probs(project, spec)
        # What changes while the pages are read may be missed, so the next pull begins here.
        change = client.last_change(setup.project_id)
        # First, so that an answer whose task is gone does not vote with those that came since.
        counts = _take_deleted(project, setup, spec, client, full=full)
        others: Counter[str] = Counter()
        for page in client.pages(setup.project_id, since=since, include=INCLUDE):
            others += _count_foreign(page)
            with project.store.write() as session:
                counts += Ledger(session, setup.name, spec, probs).take_tasks(page, users)
        if full or (spec.consensus == BY_MODEL and counts - Counter(unheard=counts["unheard"])):
            # Overlap and consensus may have changed since the answers came.
            with project.store.write() as session:
                counts += Ledger(session, setup.name, spec, probs).count_anew()
        _tell_unheard(counts)
        if others["foreign"]:
            say(
                f"{others['tasks']} tasks of the project are not labelkit's, and "
                f"{others['foreign']} annotations on them stay there; export them, and take them "
                f"with: {IMPORT_COMMAND}"
            )
        counts["foreign"] = others["foreign"]
        newest = None if change is None else read_time(change)
        if newest is not None and (last is None or newest > last):
            _record_pull(project, setup, newest)
    return PullReport(**_reported(counts))


def watch(
    project: Project, every_s: float, *, token_file: Path | None = None
) -> Iterator[PullReport]:
    """Pull again and again; a server that is away for a while is waited for.

    Args:
        project: Where the answers go.
        every_s: Seconds between two pulls.
        token_file: File of the token, where the environment holds none.

    Yields:
        The counts of each pull that brought something.
    """
    while True:
        try:
            report = pull(project, token_file=token_file)
            # What is not taken in is counted whenever it is come upon, and is no news.
            if replace(report, unheard=0, foreign=0) != PullReport():
                yield report
        except (ServiceError, StoreBusy) as error:
            say(f"{error}; trying again in {every_s:g} s")
        time.sleep(every_s)


def pull_file(project: Project, file: Path) -> PullReport:
    """Bring in the answers of a JSON export, without any server.

    What is in the store already stays; an answer that an export does not have is not taken
    for deleted, as an export may hold a part of the tasks only.

    Args:
        project: Where the answers go.
        file: JSON as Label Studio exports it (not JSON_MIN).

    Returns:
        Counts as of :func:`pull`.

    Raises:
        InvalidInput: If the file cannot be read as an export, or no task of it is labelkit's.
    """
    tasks = read_export(file)
    others = _count_foreign(tasks)
    if others:
        remedy = f"take them with: {IMPORT_COMMAND.replace('export.json', shlex.quote(str(file)))}"
        told = (
            f"{others['tasks']} of {len(tasks)} tasks in {file} are not labelkit's, with "
            f"{others['foreign']} annotations on them"
        )
        if others["tasks"] == len(tasks):
            raise InvalidInput(f"{told}; {remedy}")
        say(f"{told}, which are left out; {remedy}")
        tasks = [task for task in tasks if not is_foreign(task)]
    drafts = sum(len(task.get("drafts") or ()) for task in tasks)
    if drafts:
        say(f"{drafts} drafts in {file} were never submitted, and are left out")
    with project.store.read() as session:
        setups = read_projects(session)
    counts: Counter[str] = Counter()
    with lock_review(project):
        probs = _read_probs_by_project(project, setups)
        with project.store.read() as session:
            by_project = _split_by_project(session, setups, tasks)
        for name, its_tasks in by_project.items():
            spec = _spec_of(setups, name)
            for start in range(0, len(its_tasks), CHUNK):
                with project.store.write() as session:
                    ledger = Ledger(session, name, spec, probs.get(name))
                    users = known_annotators(session, name)
                    counts += ledger.take_tasks(
                        its_tasks[start : start + CHUNK], users, whole=False
                    )
            if spec.consensus == BY_MODEL and counts:
                with project.store.write() as session:
                    counts += Ledger(session, name, spec, probs.get(name)).count_anew()
    _tell_unheard(counts)
    counts["foreign"] = others["foreign"]
    return PullReport(**_reported(counts))


def _count_foreign(tasks: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Count tasks that labelkit did not make, and the annotations on them, as ``foreign``."""
    foreign = [task for task in tasks if is_foreign(task)]
    annotations = sum(len(task.get("annotations") or ()) for task in foreign)
    return Counter(tasks=len(foreign)) + Counter(foreign=annotations)


def repair(
    project: Project, *, renames: Mapping[str, str], drop: Sequence[int] = ()
) -> RepairReport:
    """Read answers in quarantine again, with a vocabulary that grew or with names put right.

    Args:
        project: Where they are.
        renames: Name in Label Studio to class.
        drop: Ids of answers in quarantine (``review_id``) to be taken for skipped.

    Returns:
        Counts as of :func:`pull`, and how many stay in quarantine.

    Raises:
        InvalidInput: If a class or an id is unknown.
    """
    with lock_review(project):
        with project.store.read() as session:
            setups = read_projects(session)
        probs = _read_probs_by_project(project, setups)
        return _repair(project, setups, probs, renames, drop)


def _repair(
    project: Project,
    setups: Sequence[ReviewProject],
    probs: Mapping[str, dict[int, Floats] | None],
    renames: Mapping[str, str],
    drop: Sequence[int],
) -> RepairReport:
    with project.store.write() as session:
        classes = session.classes()
        unknown = sorted(set(renames.values()) - set(classes))
        if unknown:
            raise InvalidInput(
                f"no class {unknown[0]!r} to rename to; see: labelkit query 'from classes'"
            )
        waiting = read_quarantine(session)
        lost = sorted(set(drop) - {answer.review_id for answer in waiting})
        if lost:
            raise InvalidInput(
                f"no answer {lost[0]} in quarantine; see: labelkit review quarantine"
            )
        ticked = {
            label
            for name in {answer.project for answer in waiting}
            for review in standing_reviews(session, name, answer="quarantined")
            for label in read_labels(json.loads(review.raw))
        }
        for old in sorted(set(renames) - ticked):
            say(f"no answer in quarantine has the label {old!r}; nothing is remembered of it")
        renames = {old: new for old, new in renames.items() if old in ticked}
        counts: Counter[str] = Counter()
        for name in sorted({answer.project for answer in waiting}):
            ledger = Ledger(
                session, name, _spec_of(setups, name), probs.get(name),
                foreign=name in foreign_projects(session),
            )  # fmt: skip
            counts += ledger.repair(renames=renames, drop=set(drop), actor=user())
            if ledger.deferred:
                counts += ledger.count_anew()
        left = len(read_quarantine(session))
    return RepairReport(**_reported(counts), still_in_quarantine=left)


def _tell_unheard(counts: Mapping[str, int]) -> None:
    if n := counts["unheard"]:
        say(
            f"{n} annotations were made of predictions or of others, or imported: nobody listened, "
            "and they count as not answered; whoever opens and submits one has answered"
        )


def _take_deleted(
    project: Project, setup: ReviewProject, spec: ReviewSpec, client: Client, *, full: bool
) -> Counter[str]:
    """Note tombstones of tasks that are gone; the ids are listed only where some must be."""
    with project.store.read() as session:
        known = known_tasks(session, setup.name)
    if not full and client.count_tasks(setup.project_id) >= len(known):
        return Counter()
    there = {
        task["id"] for page in client.pages(setup.project_id, include="id", size=5000)
        for task in page
    }  # fmt: skip
    if not set(known) - there:
        return Counter()
    with project.store.write() as session:
        gone = Ledger(session, setup.name, spec).take_deleted(there)
    say(
        f"{gone} tasks were deleted in Label Studio; answers on them stay, take "
        "them back with: labelkit undo BATCH, or push the clips again"
    )
    return Counter(task_deleted=gone)


def _read_probs_by_project(
    project: Project, setups: Sequence[ReviewProject]
) -> dict[str, dict[int, Floats] | None]:
    """Read them once a project, as it was set up last."""
    newest = {setup.name: setup for setup in setups}
    return {name: read_probs(project, read_spec(setup)) for name, setup in newest.items()}


def read_probs(project: Project, spec: ReviewSpec) -> dict[int, Floats] | None:
    """Read out-of-fold probabilities by clip id, where the consensus weighs annotators by them."""
    if spec.consensus != BY_MODEL:
        return None
    try:
        inputs = read_inputs(project, None)
    except InvalidInput as error:
        say(f"answers that differ are decided by majority: {error}")
        return {}
    return dict(zip(inputs.clip_ids.tolist(), inputs.probs, strict=True))


def _record_pull(project: Project, setup: ReviewProject, watermark: datetime) -> None:
    with project.store.write() as session:
        session.append(
            Batch(
                key=f"pull-{fingerprint([session.last_batch(), setup.name, watermark])}",
                kind="pull",
                actor=user(),
                by_person=True,
                reason=f"answers of project {setup.project_id} up to {watermark} UTC",
                pulls=[Pull(project=setup.name, watermark=watermark)],
            )
        )


def _reported(counts: Counter[str]) -> dict[str, int]:
    """Keep what a report has a place for; a clip may also become self-verified again."""
    return {field.name: counts[field.name] for field in fields(PullReport)}


def read_export(file: Path) -> list[dict[str, Any]]:
    """Read the tasks of an export, each with data, number and annotations.

    Raises:
        InvalidInput: If it is none.
    """
    wanted = "export the project as JSON (not JSON_MIN), and give that file"
    refuse_special(file)
    try:
        tasks = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read ({error}); {wanted}") from error
    if not isinstance(tasks, list):
        raise InvalidInput(f"{file} is no list of tasks; {wanted}")
    for number, task in enumerate(tasks):
        fit = isinstance(task, dict) and isinstance(task.get("data"), dict)
        if (
            not fit
            or not isinstance(task.get("annotations"), list)
            or type(task.get("id")) is not int
        ):
            raise InvalidInput(f"{file}: entry {number} is no task with annotations; {wanted}")
    return tasks


def _split_by_project(
    session: Session, setups: Sequence[ReviewProject], tasks: Sequence[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Split the tasks of an export by the name of their project in the store.

    The number tells which project it is, unless tasks known there are of other clips: every
    server counts from 1. A project that was never set up here is named by its number.
    """
    numbers = {setup.name: setup.project_id for setup in setups}
    known = {name: clips_of_tasks(session, name) for name in numbers}
    found: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for task in tasks:
        found[task.get("project")].append(task)
    by_project: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, its_tasks in found.items():
        fitting = [
            name for name in numbers
            if number in (None, numbers[name])
            and all(
                not (clips := known[name].get(task["id"])) or task["data"].get("clip_id") in clips
                for task in its_tasks
            )
        ]  # fmt: skip
        by_project[fitting[-1] if fitting else f"export-{number}"] += its_tasks
    return by_project


def _spec_of(setups: Sequence[ReviewProject], name: str) -> ReviewSpec:
    """Read how answers of a project count."""
    return read_spec(next((setup for setup in reversed(setups) if setup.name == name), None))
