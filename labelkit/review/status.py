"""Looking at a review: how far it is, who differs from whom, what could not be read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.config import ReviewSpec
from labelkit.datasets.sniffing import LABEL_STUDIO
from labelkit.errors import LabelkitError
from labelkit.label_studio.answers import is_foreign
from labelkit.label_studio.page import check_page, page_hash
from labelkit.noise.consensus import measure_agreement
from labelkit.project import Project
from labelkit.records import Review, ReviewProject
from labelkit.review.ledger import rule_in_force
from labelkit.review.pull import read_probs
from labelkit.review.resolution import (
    DECISIVE,
    by_clip,
    count_votes,
    decisive_answers,
    differ,
    newest_answers,
    pool,
    resolve,
)
from labelkit.review.setup import connect, read_setup, read_spec
from labelkit.stores.reviews import (
    answered_projects,
    count_deleted,
    last_project,
    last_watermark,
    read_projects,
    read_quarantine,
    sent_tasks,
    standing_reviews,
)


def _of_server(key: str) -> Any:
    return field(default=None, metadata={"key": key, "optional": True})


@dataclass(frozen=True, kw_only=True)
class ReviewStatus:
    """How far a review is, by the store; the last by the server, or why it did not say them."""

    project: str
    annotators_a_clip: int = field(metadata={"key": "annotators a clip"})
    suggestions: str
    audio: str
    last_pull: str = field(metadata={"key": "last pull up to"})
    pushed: int
    reviewed: int
    awaiting: int = field(metadata={"key": "awaiting more answers"})
    labels: int = field(metadata={"key": "answers with labels"})
    none: int = field(metadata={"key": "none of these"})
    no_sound: int = field(metadata={"key": "no usable sound"})
    unsure: int
    skipped: int
    disagreements: int
    quarantine: int
    deleted: int = field(metadata={"key": "answers deleted"})
    task_deleted: int = field(metadata={"key": "tasks deleted"})
    drafts: int | None = _of_server("drafts")
    clips_with_two_tasks: int | None = _of_server("clips with two tasks")
    page_drift: str | None = _of_server("page drift")
    server: str | None = _of_server("server")


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A clip on which annotators answered differently; ``decided`` if a rule found a winner."""

    path: str
    answers: list[str]
    labels: list[str]
    state: str
    decided: bool


@dataclass(frozen=True, kw_only=True)
class AnnotatorSummary:
    """How much an annotator answered, and how far others agree.

    ``suggestion_accepted`` is a share of the answers to which something was suggested. The last
    five are of clips that others answered, too, and None without any.
    """

    annotator: str
    answers: int
    unsure: int
    skipped: int
    suggestion_accepted: float | None
    median_s: float | None
    shared: int | None = None
    agree: float | None = None
    jaccard: float | None = None
    kappa: float | None = None
    with_majority: float | None = None


@dataclass(frozen=True, kw_only=True)
class UnreadAnswer:
    """An answer in quarantine; ``path`` is None where its clip is unknown."""

    review_id: int = field(metadata={"key": "id"})
    path: str | None
    annotator: str
    problem: str
    task_id: int = field(metadata={"key": "task"})
    annotation_id: int = field(metadata={"key": "annotation"})
    updated_at: datetime


def status(project: Project, *, token_file: Path | None = None) -> ReviewStatus:
    """Tell how far a review is.

    Drafts, duplicates and drift are the server's to tell; where it cannot be reached, why
    stands in their place.

    Args:
        project: Whose review.
        token_file: File of the token, where the environment holds none.

    Raises:
        InvalidInput: If nothing was set up.
    """
    with project.store.read() as session:
        setup, names = last_project(session), answered_projects(session)
        if setup is not None:
            set_up = {each.name for each in read_projects(session)}
            names = [setup.name, *(name for name in names if name not in set_up)]
        of_project = {name: standing_reviews(session, name) for name in names}
        sent = {(name, clip_id) for name in names for clip_id in sent_tasks(session, name)}
        watermark = last_watermark(session, setup.name) if setup is not None else None
        unread = len(read_quarantine(session))
        deleted = sum((Counter(count_deleted(session, name)) for name in names), Counter[str]())
    if setup is None and not names:
        # Says how to begin.
        read_setup(project)
    spec = read_spec(setup)
    groups = _group(of_project, () if setup is None else (setup.name,))
    found = [on_clip for reviews in groups.values() for on_clip in by_clip(reviews).values()]
    asked = spec.overlap if setup is not None else 1
    mine = groups.get(setup.name, []) if setup is not None else []
    kinds = Counter(review.answer for reviews in of_project.values() for review in reviews)
    return ReviewStatus(
        project=_name_project(setup, names),
        annotators_a_clip=spec.overlap,
        suggestions="unknown" if setup is None else "hidden" if spec.blind else "shown",
        audio="unknown" if setup is None else read_setup(project)[2].mode,
        last_pull="never" if watermark is None else f"{watermark:%Y-%m-%d %H:%M:%S} UTC",
        pushed=len(sent),
        reviewed=sum(bool(newest_answers(on_clip)) for on_clip in found),
        awaiting=sum(0 < len(newest_answers(each)) < asked for each in by_clip(mine).values()),
        labels=kinds["labels"],
        none=kinds["none"],
        no_sound=kinds["no_sound"],
        unsure=kinds["unsure"],
        skipped=kinds["skipped"],
        disagreements=sum(differ(on_clip) for on_clip in found),
        quarantine=unread,
        deleted=deleted["deleted"],
        task_deleted=deleted["task_deleted"],
        **_ask_server(project, setup, token_file),
    )


def _group(
    of_project: Mapping[str, Sequence[Review]], set_up: Collection[str]
) -> dict[str, list[Review]]:
    """Group answers that count together: of a project, or of all that labelkit did not make."""
    others = {
        name: found for name, found in of_project.items()
        if name.startswith(LABEL_STUDIO) and name not in set_up
    }  # fmt: skip
    groups = {name: list(found) for name, found in of_project.items() if name not in others}
    if len(others) == 1:
        return groups | {name: list(found) for name, found in others.items()}
    return groups | ({", ".join(others): pool(others)} if others else {})


def _name_project(setup: ReviewProject | None, names: Sequence[str]) -> str:
    if setup is not None:
        others = f", and answers of files: {', '.join(names[1:])}" if names[1:] else ""
        return f"{setup.title} ({setup.project_id} at {setup.url}){others}"
    return f"{', '.join(names)} (answers of files; none is set up here)"


def _ask_server(
    project: Project, setup: ReviewProject | None, token_file: Path | None
) -> dict[str, Any]:
    """Return the fields of a status that only the server knows, or why it did not say them."""
    if setup is None:
        return {"server": "not asked: all answers came from files"}
    try:
        return _read_server(project, setup, token_file)
    except LabelkitError as error:
        return {"server": str(error)}


def _read_server(project: Project, setup: ReviewProject, token_file: Path | None) -> dict[str, Any]:
    client = connect(project, setup.url, token_file)
    existing = client.project(setup.project_id)
    tasks_of: Counter[int] = Counter()
    drafts = 0
    for page in client.pages(setup.project_id, include="id,data,draft_exists,drafts"):
        for task in page:
            if not is_foreign(task):
                drafts += bool(task.get("draft_exists") or task.get("drafts"))
                tasks_of[task["data"]["clip_id"]] += 1
    with project.store.read() as session:
        classes, several = session.classes(), session.allows_several()
    blind = read_spec(setup).blind
    faults = check_page(existing["label_config"], classes, blind=blind, several=several)
    drift = "none" if page_hash(existing["label_config"]) == setup.page_hash else "page changed"
    return {
        "drafts": drafts,
        "clips_with_two_tasks": sum(n > 1 for n in tasks_of.values()),
        "page_drift": "; ".join(faults) or drift,
    }


def list_disagreements(project: Project) -> list[Disagreement]:
    """List clips on which annotators answered differently, with what each of them said.

    No server is asked. Answers of the project that is set up come first, then those of files.

    Raises:
        InvalidInput: If nothing was set up, and no answer came from a file.
    """
    answered, setups = _read_answered(project)
    with project.store.read() as session:
        classes, table = session.classes(), session.labels()
        answered = _group(answered, setups)
        rules = {name: rule_in_force(session, _spec_of(setups, name)) for name in answered}
    row_of = {int(clip_id): row for row, clip_id in enumerate(table.clip_ids)}
    disagreements = []
    for name, reviews in answered.items():
        found, spec = by_clip(reviews), _spec_of(setups, name)
        probs = read_probs(project, spec)
        decisions = resolve(found, classes, overlap=spec.overlap, rule=rules[name], probs=probs)
        for clip_id, on_clip in sorted(found.items()):
            if differ(on_clip):
                row = row_of[clip_id]
                disagreements.append(
                    Disagreement(
                        path=table.paths[row],
                        answers=[
                            f"{r.annotator}: {_describe_answer(r)}"
                            for r in newest_answers(on_clip).values()
                        ],
                        labels=table.names(row),
                        state=str(table.states[row]),
                        decided=decisions[clip_id].status == "decided",
                    )
                )
    return disagreements


def _spec_of(setups: Mapping[str, ReviewProject], name: str) -> ReviewSpec:
    return read_spec(setups.get(name))


def _read_answered(
    project: Project,
) -> tuple[dict[str, list[Review]], dict[str, ReviewProject]]:
    """Read the answers that stand, by project, that in force first; and projects as set up last.

    Raises:
        InvalidInput: If nothing was set up, and no answer came from a file.
    """
    with project.store.read() as session:
        last, names = last_project(session), answered_projects(session)
        setups = {setup.name: setup for setup in read_projects(session)}
        if last is not None:
            # Of another project that was set up here once, it was before this one.
            names = [last.name, *(name for name in names if name not in setups)]
        answered = {name: standing_reviews(session, name) for name in names}
    if not answered:
        # Says how to begin.
        read_setup(project)
    return answered, setups


def compare_annotators(project: Project) -> list[AnnotatorSummary]:
    """Tell how much each annotator answered, and how far others answered the same.

    No server is asked.

    Raises:
        InvalidInput: If nothing was set up, and no answer came from a file.
    """
    answered, _ = _read_answered(project)
    with project.store.read() as session:
        classes = session.classes()
    reviews = pool(answered)
    by_annotator = defaultdict(list)
    for review in reviews:
        by_annotator[review.annotator].append(review)
    answers = {i: decisive_answers(on_clip) for i, on_clip in by_clip(reviews).items()}
    shared = {i: on_clip for i, on_clip in answers.items() if len(on_clip) > 1}
    names, _, votes = count_votes(shared, {name: k for k, name in enumerate(classes)})
    agreement = measure_agreement(votes) if names else None
    summaries = []
    for name in sorted(by_annotator):
        kinds = Counter(review.answer for review in by_annotator[name])
        shown = [r for r in by_annotator[name] if r.origin is not None]
        times = [r.lead_time_s for r in by_annotator[name] if r.lead_time_s is not None]
        summary = AnnotatorSummary(
            annotator=name,
            answers=sum(kinds[kind] for kind in DECISIVE),
            unsure=kinds["unsure"],
            skipped=kinds["skipped"],
            suggestion_accepted=_fraction([r.origin == "accepted" for r in shown]),
            median_s=None if not times else round(float(np.median(times)), 1),
        )
        if agreement is not None and name in names:
            k = names.index(name)
            summary = replace(
                summary,
                shared=int(agreement.shared[k]),
                agree=_rounded(agreement.exact[k]),
                jaccard=_rounded(agreement.jaccard[k]),
                kappa=_rounded(agreement.kappa[k]),
                with_majority=_rounded(agreement.majority[k]),
            )
        summaries.append(summary)
    return summaries


def list_quarantine(project: Project) -> list[UnreadAnswer]:
    """List answers that could not be read, with why and what to do."""
    with project.store.read() as session:
        answers = read_quarantine(session)
    return [
        UnreadAnswer(
            review_id=answer.review_id, path=answer.path, annotator=answer.annotator,
            problem=answer.problem, task_id=answer.task_id, annotation_id=answer.annotation_id,
            updated_at=answer.updated_at,
        )
        for answer in answers
    ]  # fmt: skip


def _describe_answer(review: Review) -> str:
    return ", ".join(review.labels) or {
        "none": "none of these", "no_sound": "no usable sound", "unsure": "unsure",
    }.get(review.answer, review.answer)  # fmt: skip


def _fraction(flags: list[bool]) -> float | None:
    return round(sum(flags) / len(flags), 4) if flags else None


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
