"""What went to Label Studio and what came back, in an open label store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from labelkit.errors import StoreError
from labelkit.records import ANSWERS, Batch, Pull, Review, ReviewProject, ReviewTask
from labelkit.states import MACHINE_STATES
from labelkit.stores.columns import as_lists
from labelkit.stores.session import Session
from labelkit.stores.views import UNCOVERED, of_deleted_task

if TYPE_CHECKING:
    from labelkit.stores.append import WriteSession

_REVIEW = (
    "project, task_id, annotation_id, updated_at, clip_id, annotator_id, annotator, answer, "
    "labels, comment, origin, model_version, lead_time_s, problem, raw"
)

# Kind of the batches that hold answers.
REVIEW = "review"


def read_projects(session: Session) -> list[ReviewProject]:
    """Read the projects in Label Studio as they were set up, the last one in force."""
    rows = session.rows(
        "select project, url, project_id, title, page, page_hash, settings from review_projects "
        "order by setup_id"
    )
    return [
        ReviewProject(
            name=name, url=url, project_id=project_id, title=title, page=page,
            page_hash=page_hash, settings=json.loads(settings),
        )
        for name, url, project_id, title, page, page_hash, settings in rows
    ]  # fmt: skip


def last_project(session: Session) -> ReviewProject | None:
    """Read the project in Label Studio as it was set up last."""
    found = read_projects(session)
    return found[-1] if found else None


def sent_tasks(
    session: Session, project: str, clip_ids: Sequence[int] | None = None
) -> dict[int, ReviewTask]:
    """Read what was last sent of clips, by clip id; tasks that were deleted since are left out.

    Args:
        session: The open store.
        project: Name of the project.
        clip_ids: Only of these clips; of all if None.
    """
    rows = session.rows(
        "select task_id, clip_id, model_version, score, suggested, page_hash from review_tasks t "
        "where project = $project and ($clips is null or clip_id in (select unnest($clips))) "
        f"and not {of_deleted_task('t')} and not exists (select 1 from review_tasks o "
        "where o.project = t.project and o.task_id = t.task_id and o.clip_id <> t.clip_id "
        "and o.batch_id > t.batch_id) order by batch_id",
        {"project": project, "clips": None if clip_ids is None else list(clip_ids)},
    )
    return {
        clip_id: ReviewTask(
            project=project, task_id=task_id, clip_id=clip_id, model_version=model_version,
            score=score, suggested=suggested, page_hash=page_hash,
        )
        for task_id, clip_id, model_version, score, suggested, page_hash in rows
    }  # fmt: skip


def sent_versions(
    session: Session, project: str, clip_ids: Sequence[int]
) -> dict[int, list[tuple[datetime, ReviewTask]]]:
    """Read all that was sent of clips, by clip id, with the time of the push, oldest first."""
    found: dict[int, list[tuple[datetime, ReviewTask]]] = {}
    for when, task_id, clip_id, model_version, score, suggested, page_hash in session.rows(
        "select b.made_at, t.task_id, t.clip_id, t.model_version, t.score, t.suggested, "
        "t.page_hash from review_tasks t join batches b on b.batch_id = t.batch_id "
        "where t.project = ? and t.clip_id in (select unnest(?)) order by t.batch_id",
        [project, list(clip_ids)],
    ):
        task = ReviewTask(
            project=project, task_id=task_id, clip_id=clip_id, model_version=model_version,
            score=score, suggested=suggested, page_hash=page_hash,
        )  # fmt: skip
        found.setdefault(clip_id, []).append((when, task))
    return found


def said_before(
    session: Session, project: str, clip_ids: Sequence[int]
) -> dict[tuple[int, str], list[tuple[int, str]]]:
    """Read what each annotator of a project last said of classes, by clip id and name.

    Returns:
        Pairs of class id and verdict, without what was withdrawn or taken back.
    """
    found: dict[tuple[int, str], list[tuple[int, str]]] = {}
    for clip_id, actor, class_id, verdict in session.rows(
        "select v.clip_id, b.actor, v.class_id, max_by(v.verdict, v.verdict_id) as said "
        "from label_verdicts v join batches b on b.batch_id = v.batch_id "
        "where v.clip_id in (select unnest(?)) "
        "and b.batch_id in (select batch_id from reviews where project = ?) "
        "and b.batch_id not in (select batch_id from taken_back) group by all "
        "having said <> 'withdrawn' order by v.class_id",
        [list(clip_ids), project],
    ):
        found.setdefault((clip_id, actor), []).append((class_id, verdict))
    return found


@dataclass(frozen=True)
class UnreviewedClip:
    """A clip as it would be without the answers of a project, and as it is.

    ``decided_at`` is when a person made it so, None if nobody did.
    """

    base: tuple[str, list[int]]
    decided_at: datetime | None
    now: tuple[str, list[int]]


def read_clips(
    session: Session, project: str, clip_ids: Sequence[int]
) -> dict[int, UnreviewedClip]:
    """Read clips with the newest event that stands and is of no answer in this project."""
    rows = session.rows(
        f"""
        with told as (
            select e.clip_id, e.event_id, e.batch_id, e.state, e.labels, e.evidence, b.by_person,
                   b.kind = $kind as ours,
                   b.by_person and b.batch_id <> c.batch_id
                       and not list_contains($machine, e.state) as decided,
                   coalesce(json_extract_string(e.evidence, '$.answered_at')::timestamp,
                            b.made_at) as made_at,
                   json_extract_string(e.evidence, '$.project') as project,
                   json_extract_string(e.evidence, '$.task')::bigint as task_id,
                   coalesce(json_extract_string(e.evidence, '$.restored') = 'true', false)
                       as restored,
                   s.event_id is not null as stands
            from label_events e join batches b on b.batch_id = e.batch_id
            left join (
                select event_id from standing_events where clip_id in (select unnest($ids))
            ) s on s.event_id = e.event_id
            join clips c on c.clip_id = e.clip_id
            where e.clip_id in (select unnest($ids))
        ),
        mine as (
            select *, stands and (
                not ours
                -- Of another project the last word counts, unless it took a word back.
                or (project <> $project and not restored and event_id = max(event_id)
                    filter (stands and ours) over (partition by clip_id, project))
                -- An answer whose task was tidied away is no answer of this one any more.
                or (project = $project and not restored and {of_deleted_task("told")})
            ) as base
            from told
        ),
        counted as (select * from mine where base qualify {UNCOVERED}),
        bases as (
            select clip_id, max_by(state, event_id) as state, max_by(labels, event_id) as labels,
                   max_by(decided, event_id) as decided, max_by(made_at, event_id) as made_at
            from counted group by clip_id
        )
        select n.clip_id, b.state, b.labels, b.decided, b.made_at, n.state, n.labels
        from current_events n left join bases b on b.clip_id = n.clip_id
        where n.clip_id in (select unnest($ids))
        """,
        {
            "kind": REVIEW, "project": project, "ids": list(clip_ids),
            "machine": list(MACHINE_STATES),
        },
    )  # fmt: skip
    return {
        clip_id: UnreviewedClip(
            (state, labels), made_at if decided else None, (state_now, labels_now)
        )
        for clip_id, state, labels, decided, made_at, state_now, labels_now in rows
    }


@dataclass(frozen=True)
class QuarantinedAnswer:
    """An answer that could not be read; ``path`` is None where its clip is unknown."""

    review_id: int
    path: str | None
    annotator: str
    problem: str
    task_id: int
    annotation_id: int
    updated_at: datetime
    project: str


def read_quarantine(session: Session) -> list[QuarantinedAnswer]:
    """Read the answers of all projects that could not be read, in the order they came in."""
    rows = session.rows(
        "select review_id, path, annotator, problem, task_id, annotation_id, updated_at, project "
        "from quarantine"
    )
    return [QuarantinedAnswer(*row) for row in rows]


def count_annotators(session: Session) -> int:
    """Count the people whose addresses are in the store, as annotators of answers."""
    [(n,)] = session.rows("select count(distinct annotator) from reviews where annotator <> ''")
    return int(n)


def count_deleted(session: Session, project: str) -> dict[str, int]:
    """Count answers and tasks of a project that were found deleted, by ``answer``."""
    return dict(
        session.rows(
            "select answer, "
            "count(distinct (if(answer = 'deleted', annotation_id, task_id), clip_id)) "
            "from reviews where project = ? and answer in ('deleted', 'task_deleted') "
            "group by answer",
            [project],
        )
    )


def last_watermark(session: Session, project: str) -> datetime | None:
    """Read where the last complete pull of a project ended."""
    watermark: datetime | None
    [(watermark,)] = session.rows(
        "select max(watermark) from review_pulls where project = ?", [project]
    )
    return watermark


def known_versions(
    session: Session, project: str, task_ids: Sequence[int], *, revive: bool = False
) -> dict[tuple[int, int | None], datetime]:
    """Read the time of the newest version pulled of each answer on some tasks, by id and clip.

    Args:
        session: The open store.
        project: Name of the project.
        task_ids: The tasks.
        revive: Leave out answers that were last found deleted.
    """
    rows = session.rows(
        "select annotation_id, clip_id, max(updated_at) from reviews where project = ? "
        "and task_id in (select unnest(?)) and answer <> 'task_deleted' "
        "group by all having not ? or max_by(answer, review_id) <> 'deleted'",
        [project, list(task_ids), revive],
    )
    return {(annotation_id, clip_id): when for annotation_id, clip_id, when in rows}


_NAMED_TASKS = (
    "select project, task_id, clip_id, batch_id from review_tasks where project = $project "
    "and ($tasks is null or task_id in (select unnest($tasks))) "
    "union all select project, task_id, clip_id, batch_id from reviews "
    "where project = $project and ($tasks is null or task_id in (select unnest($tasks))) "
    "and answer <> 'task_deleted'"
)


def known_tasks(
    session: Session, project: str, task_ids: Sequence[int] | None = None
) -> dict[int, int | None]:
    """Read the clip id of every task that was sent or answered, and not found deleted since.

    Args:
        session: The open store.
        project: Name of the project.
        task_ids: Only of these tasks; of all if None.
    """
    return dict(
        session.rows(
            f"select task_id, max_by(clip_id, batch_id) from ({_NAMED_TASKS}) t "
            f"where not {of_deleted_task('t')} group by task_id",
            {"project": project, "tasks": None if task_ids is None else list(task_ids)},
        )
    )


def clips_of_tasks(session: Session, project: str) -> dict[int, set[int]]:
    """Read the ids of all clips that each task ever was of, also before it was deleted."""
    return {
        task_id: set(clip_ids)
        for task_id, clip_ids in session.rows(
            f"select task_id, list(distinct clip_id) from ({_NAMED_TASKS}) "
            "where clip_id is not null group by task_id",
            {"project": project, "tasks": None},
        )
    }


def answers_on_deleted_tasks(
    session: Session, project: str, clip_ids: Sequence[int]
) -> dict[int, list[Any]]:
    """Read the annotations that were answers of clips until their tasks were deleted, verbatim."""
    found: dict[int, list[Any]] = {}
    for clip_id, raw in session.rows(
        "select clip_id, raw from reviews r where project = ? and answer not in "
        "('deleted', 'task_deleted') and clip_id in (select unnest(?)) "
        "and batch_id not in (select batch_id from taken_back) "
        f"and {of_deleted_task('r')} order by review_id",
        [project, list(clip_ids)],
    ):
        found.setdefault(clip_id, []).append(json.loads(raw))
    return found


def known_annotators(session: Session, project: str) -> dict[int, str]:
    """Read the name of every annotator whose answers were pulled, by the server's id."""
    return dict(
        session.rows(
            "select annotator_id, max_by(annotator, review_id) from reviews "
            "where project = ? and annotator_id is not null group by annotator_id",
            [project],
        )
    )


def standing_reviews(
    session: Session,
    project: str,
    *,
    task_ids: Sequence[int] | None = None,
    clip_ids: Sequence[int] | None = None,
    answer: str | None = None,
) -> list[Review]:
    """Read the newest version of every answer that stands, in the order they came in.

    Args:
        session: The open store.
        project: Name of the project.
        task_ids: Only of these tasks; of all if None.
        clip_ids: Only of these clips; of all if None.
        answer: Only of this kind; of all if None.
    """
    classes = session.classes()
    return [
        _read_review(row, classes)
        for row in session.rows(
            f"select {_REVIEW} from reviews where review_id in ("
            "  select review_id from reviews_now where project = $project "
            "  and ($tasks is null or task_id in (select unnest($tasks))) "
            "  and ($clips is null or clip_id in (select unnest($clips))) "
            "  and ($answer is null or answer = $answer)) order by review_id",
            {
                "project": project,
                "tasks": None if task_ids is None else list(task_ids),
                "clips": None if clip_ids is None else list(clip_ids),
                "answer": answer,
            },
        )
    ]


def _read_review(row: Sequence[Any], classes: Sequence[str]) -> Review:
    values = dict(zip(_REVIEW.split(", "), row, strict=True))
    return Review(**values | {"labels": tuple(classes[index] for index in values["labels"])})


def append_reviews(
    session: WriteSession, batch: Batch, batch_id: int, numbers: Sequence[int]
) -> None:
    """Write what a batch holds of Label Studio; ``numbers`` are those of its classes.

    Raises:
        StoreError: If a row names an unknown clip or class, or an unknown answer.
    """
    _append_projects(session, batch.review_projects, batch_id)
    _append_tasks(session, batch.review_tasks, batch_id, numbers)
    _append_versions(session, batch.reviews, batch_id)
    _append_pulls(session, batch.pulls, batch_id)


def _append_projects(
    session: WriteSession, projects: Sequence[ReviewProject], batch_id: int
) -> None:
    first = session.next_id("review_projects", "setup_id")
    session.insert(
        "review_projects",
        {
            "setup_id": range(first, first + len(projects)),
            "project": [p.name for p in projects],
            "url": [p.url for p in projects],
            "project_id": [p.project_id for p in projects],
            "title": [p.title for p in projects],
            "page": [p.page for p in projects],
            "page_hash": [p.page_hash for p in projects],
            "settings": [json.dumps(p.settings, sort_keys=True) for p in projects],
            "batch_id": [batch_id] * len(projects),
        },
    )


def _append_tasks(
    session: WriteSession, tasks: Sequence[ReviewTask], batch_id: int, numbers: Sequence[int]
) -> None:
    session.check_clips((task.clip_id for task in tasks), "tasks in Label Studio")
    bad = [task for task in tasks if not np.isfinite(task.score)]
    if bad:
        raise StoreError(f"score of task {bad[0].task_id} is {bad[0].score}; it must be finite")
    session.insert(
        "review_task_rows",
        {
            "project": [t.project for t in tasks],
            "task_id": [t.task_id for t in tasks],
            "clip_id": [t.clip_id for t in tasks],
            "model_version": [t.model_version for t in tasks],
            "score": [t.score for t in tasks],
            "suggested": as_lists([numbers[k] for k in t.suggested] for t in tasks),
            "page_hash": [t.page_hash for t in tasks],
            "batch_id": [batch_id] * len(tasks),
        },
        "select project, task_id, clip_id, model_version, score::double, suggested::integer[], "
        "page_hash, batch_id from arrays",
    )


def _append_versions(session: WriteSession, reviews: Sequence[Review], batch_id: int) -> None:
    if not reviews:
        return
    session.check_clips((r.clip_id for r in reviews if r.clip_id is not None), "reviews")
    vocabulary = session.vocabulary()
    stored = dict(zip(vocabulary.names, vocabulary.stored, strict=True))
    for review in reviews:
        unknown = [name for name in review.labels if name not in stored]
        if unknown:
            raise StoreError(f"answer {review.annotation_id}: no class {unknown[0]!r}")
        if review.answer not in ANSWERS:
            raise StoreError(
                f"answer {review.annotation_id} is {review.answer!r}; known: {', '.join(ANSWERS)}"
            )
    first = session.next_id("review_rows", "review_id")
    columns: dict[str, Iterable[Any]] = {
        name: [getattr(review, name) for review in reviews] for name in _REVIEW.split(", ")
    }
    session.insert(
        "review_rows",
        {
            **columns,
            "review_id": range(first, first + len(reviews)),
            "updated_at": [r.updated_at.isoformat() for r in reviews],
            "labels": as_lists(sorted(stored[name] for name in r.labels) for r in reviews),
            "batch_id": [batch_id] * len(reviews),
        },
        "select review_id, project, task_id, annotation_id, updated_at::timestamp, "
        "clip_id::bigint, annotator_id::bigint, annotator, answer, labels::integer[], "
        "comment::varchar, origin::varchar, model_version::varchar, lead_time_s::double, "
        "problem::varchar, raw, batch_id from arrays",
    )


def _append_pulls(session: WriteSession, pulls: Sequence[Pull], batch_id: int) -> None:
    session.insert(
        "review_pulls",
        {
            "project": [p.project for p in pulls],
            "watermark": [p.watermark.isoformat() for p in pulls],
            "batch_id": [batch_id] * len(pulls),
        },
        "select project, watermark::timestamp, batch_id from arrays",
    )


def repair_reasons(session: Session, project: str, word: str) -> list[str]:
    """Read the reasons of a project's batches of answers that hold a word and stand, in order."""
    rows = session.rows(
        "select reason from batches where kind = ? and contains(reason, ?) and batch_id in "
        "(select batch_id from reviews where project = ?) "
        "and batch_id not in (select batch_id from taken_back) order by batch_id",
        [REVIEW, word, project],
    )
    return [reason for (reason,) in rows]


def answered_projects(session: Session) -> list[str]:
    """List the names of the projects that answers which stand are of, set up here or not."""
    return [name for (name,) in session.rows("select distinct project from reviews_now order by 1")]


def answers_in_other_projects(
    session: Session, project: str, clip_ids: Sequence[int]
) -> dict[int, list[Any]]:
    """Read the annotations that were answers of clips in other projects, verbatim."""
    found: dict[int, list[Any]] = {}
    for clip_id, raw in session.rows(
        "select clip_id, raw from reviews where project <> ? and answer not in "
        "('deleted', 'task_deleted') and clip_id in (select unnest(?)) "
        "and batch_id not in (select batch_id from taken_back) order by review_id",
        [project, list(clip_ids)],
    ):
        found.setdefault(clip_id, []).append(json.loads(raw))
    return found


def versions_that_stand(
    session: Session, project: str, task_ids: Sequence[int]
) -> dict[tuple[int, int | None], datetime]:
    """Read what :func:`known_versions` reads, without what was taken back."""
    rows = session.rows(
        "select annotation_id, clip_id, max(updated_at) from reviews where project = ? "
        "and task_id in (select unnest(?)) and answer <> 'task_deleted' "
        "and batch_id not in (select batch_id from taken_back) group by all",
        [project, list(task_ids)],
    )
    return {(annotation_id, clip_id): when for annotation_id, clip_id, when in rows}


def annotations_by_project(session: Session, prefix: str) -> dict[str, list[tuple[int, Any]]]:
    """Read all annotations that ever came in, of projects whose name begins so: number, verbatim.

    Projects come in the order of their first answers.
    """
    found: dict[str, list[tuple[int, Any]]] = {}
    for name, number, raw in session.rows(
        "select project, annotation_id, raw from reviews where starts_with(project, ?) "
        "and answer not in ('deleted', 'task_deleted') order by review_id",
        [prefix],
    ):
        found.setdefault(name, []).append((number, json.loads(raw)))
    return found
