"""Looking at a review: how far it is, who differs from whom, what could not be read."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.errors import LabelkitError
from labelkit.label_studio.page import check_page, page_hash
from labelkit.noise.consensus import measure_agreement
from labelkit.project import Project
from labelkit.records import Review
from labelkit.review.ledger import rule_in_force
from labelkit.review.pull import read_probs
from labelkit.review.resolution import (
    DECISIVE,
    by_clip,
    count_votes,
    decisive_answers,
    differ,
    newest_answers,
    resolve,
)
from labelkit.review.setup import connect, read_setup
from labelkit.stores.reviews import (
    count_deleted,
    last_watermark,
    read_quarantine,
    sent_tasks,
    standing_reviews,
)


def status(project: Project, *, token_file: Path | None = None) -> list[dict[str, Any]]:
    """Tell how far a review is, one row of ``what`` and ``value`` each.

    Drafts, duplicates and drift are the server's to tell; where it cannot be reached, the
    rows say so and the store's part stands.

    Args:
        project: Whose review.
        token_file: File of the token, where the environment holds none.

    Raises:
        InvalidInput: If nothing was set up.
    """
    setup, spec, share = read_setup(project)
    with project.store.read() as session:
        sent, classes = sent_tasks(session, setup.name), session.classes()
        reviews = standing_reviews(session, setup.name)
        watermark = last_watermark(session, setup.name)
        unread = len(read_quarantine(session))
        deleted = count_deleted(session, setup.name)
    found = by_clip(reviews)
    answers = {clip_id: newest_answers(mine) for clip_id, mine in found.items()}
    answered = {clip_id for clip_id, mine in answers.items() if mine}
    differing = [i for i, mine in found.items() if differ(mine)]
    said = Counter(review.answer for review in reviews)
    rows = {
        "project": f"{setup.title} ({setup.project_id} at {setup.url})",
        "annotators a clip": spec.overlap,
        "suggestions": "hidden" if spec.blind else "shown",
        "audio": share.mode,
        "last pull up to": "never" if watermark is None else f"{watermark:%Y-%m-%d %H:%M:%S} UTC",
        "pushed": len(sent),
        "reviewed": len(answered),
        "awaiting more answers": sum(len(answers[i]) < spec.overlap for i in answered),
        "answers with labels": said["labels"],
        "none of these": said["none"],
        "no usable sound": said["no_sound"],
        "unsure": said["unsure"],
        "skipped": said["skipped"],
        "disagreements": len(differing),
        "quarantine": unread,
        "answers deleted": deleted.get("deleted", 0),
        "tasks deleted": deleted.get("task_deleted", 0),
    }
    try:
        client = connect(project, setup.url, token_file)
        there = client.project(setup.project_id)
        seen: Counter[int] = Counter()
        drafts = 0
        for page in client.pages(setup.project_id, include="id,data,draft_exists,drafts"):
            for task in page:
                if type(task["data"].get("clip_id")) is int:
                    drafts += bool(task.get("draft_exists") or task.get("drafts"))
                    seen[task["data"]["clip_id"]] += 1
        faults = check_page(there["label_config"], classes, blind=spec.blind)
        drift = "none" if page_hash(there["label_config"]) == setup.page_hash else "page changed"
        rows |= {
            "drafts": drafts,
            "clips with two tasks": sum(n > 1 for n in seen.values()),
            "page drift": "; ".join(faults) or drift,
        }
    except LabelkitError as error:
        rows["server"] = str(error)
    return [{"what": what, "value": value} for what, value in rows.items()]


def list_disagreements(project: Project) -> list[dict[str, Any]]:
    """List clips on which annotators answered differently, with what each of them said."""
    setup, spec, _ = read_setup(project)
    with project.store.read() as session:
        reviews, classes = standing_reviews(session, setup.name), session.classes()
        rule = rule_in_force(session, spec)
        table = session.labels()
    row_of = {int(clip_id): row for row, clip_id in enumerate(table.clip_ids)}
    found = by_clip(reviews)
    probs = read_probs(project, spec)
    decisions = resolve(found, classes, overlap=spec.overlap, rule=rule, probs=probs)
    rows = []
    for clip_id, mine in sorted(found.items()):
        if differ(mine):
            row = row_of[clip_id]
            rows.append(
                {
                    "path": table.paths[row],
                    "answers": [
                        f"{r.annotator}: {_words(r)}" for r in newest_answers(mine).values()
                    ],
                    "labels": table.names(row),
                    "state": str(table.states[row]),
                    "decided": decisions[clip_id].status == "decided",
                }
            )
    return rows


def compare_annotators(project: Project) -> list[dict[str, Any]]:
    """Tell how much each annotator answered, and how far others answered the same."""
    setup, _, _ = read_setup(project)
    with project.store.read() as session:
        reviews, classes = standing_reviews(session, setup.name), session.classes()
    mine = defaultdict(list)
    for review in reviews:
        mine[review.annotator].append(review)
    answers = {i: decisive_answers(part) for i, part in by_clip(reviews).items()}
    shared = {i: part for i, part in answers.items() if len(part) > 1}
    names, _, votes = count_votes(shared, {name: k for k, name in enumerate(classes)})
    agreement = measure_agreement(votes) if names else None
    rows = []
    for name in sorted(mine):
        said = Counter(review.answer for review in mine[name])
        shown = [r for r in mine[name] if r.origin is not None]
        times = [r.lead_time_s for r in mine[name] if r.lead_time_s is not None]
        row: dict[str, Any] = {
            "annotator": name,
            "answers": sum(said[kind] for kind in DECISIVE),
            "unsure": said["unsure"],
            "skipped": said["skipped"],
            "suggestion_accepted": _share([r.origin == "accepted" for r in shown]),
            "median_s": None if not times else round(float(np.median(times)), 1),
        }
        if agreement is not None and name in names:
            k = names.index(name)
            row |= {
                "shared": int(agreement.shared[k]),
                "agree": _rounded(agreement.exact[k]),
                "jaccard": _rounded(agreement.jaccard[k]),
                "kappa": _rounded(agreement.kappa[k]),
                "with_majority": _rounded(agreement.majority[k]),
            }
        else:
            row |= dict.fromkeys(("shared", "agree", "jaccard", "kappa", "with_majority"))
        rows.append(row)
    return rows


def list_quarantine(project: Project) -> list[dict[str, Any]]:
    """List answers that could not be read, with why and what to do."""
    with project.store.read() as session:
        answers = read_quarantine(session)
    return [
        {
            "id": answer.review_id, "path": answer.path, "annotator": answer.annotator,
            "problem": answer.problem, "task": answer.task_id,
            "annotation": answer.annotation_id, "updated_at": answer.updated_at,
        }
        for answer in answers
    ]  # fmt: skip


def _words(review: Review) -> str:
    return ", ".join(review.labels) or {
        "none": "none of these", "no_sound": "no usable sound", "unsure": "unsure",
    }.get(review.answer, review.answer)  # fmt: skip


def _share(flags: list[bool]) -> float | None:
    return round(sum(flags) / len(flags), 4) if flags else None


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
