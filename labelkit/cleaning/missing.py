"""Labels that are likely missing: proposals for people, and a mask for the loss."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from labelkit.cleaning.inputs import judge_first, read_inputs
from labelkit.config import Recipe, fingerprint
from labelkit.noise.pairs import find_missing, rank_missing
from labelkit.noise.suggestion import explain_missing
from labelkit.progress import say
from labelkit.project import Project
from labelkit.records import Batch, Run, Scores, Verdict
from labelkit.runs.judge import tell_weak_judge
from labelkit.runs.persist import refuse_leaks
from labelkit.stores.scores import name_newest, newest_proposal_batch

METRIC = "missing"


@dataclass(frozen=True, kw_only=True)
class MissingLabel:
    """A label that a clip likely lacks, and why; ``score`` is 1 less its probability."""

    path: str
    labels: list[str]
    suggested: str
    score: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class MissingReport:
    """How many labels are proposed, and how many of them are masked, in which batch.

    ``masked`` and ``batch`` are None where no mask was written.
    """

    proposed: int
    judged_by: str
    masked: int | None = field(default=None, metadata={"optional": True})
    batch: int | None = field(default=None, metadata={"optional": True})


def find_missing_labels(
    project: Project,
    *,
    run_id: str | None = None,
    percentile: float = 99.0,
    mask: bool = False,
    most: int = 50,
    probe: Recipe | None = None,
    workers: int | None = None,
) -> tuple[list[MissingLabel], MissingReport]:
    """Propose labels that are likely missing, and keep them in the store.

    Args:
        project: Where the labels are.
        run_id: Run whose probabilities judge; the last one if None.
        percentile: Of each class's absent labels; those above are proposed.
        mask: Say of each that nobody knows, so that training does not take it for absent.
        most: How many labels to return.
        probe: Recipe of the embeddings and what judges them beside the run; ``panel``
            if None.
        workers: Processes at once; all cores if None.

    Returns:
        Labels, the most probable first, and how many there are in all.

    Raises:
        InvalidInput: If there is no such run or ``percentile`` is out of range.
        LabelkitError: If a model judged what it saw.
    """
    run_id = judge_first(project, run_id, probe, workers)
    inputs = read_inputs(project, run_id, probe=probe, workers=workers)
    tell_weak_judge(project, inputs.run_id)
    table = inputs.table
    row_of = {int(clip_id): k for k, clip_id in enumerate(inputs.clip_ids)}
    known = np.zeros(inputs.labels.shape, bool)
    with project.store.read() as session:
        for clip_id, class_id in session.decided():
            if clip_id in row_of:
                known[row_of[clip_id], class_id] = True
    with project.current.read() as session:
        now, settled = session.labels(), set(session.decided())
        places = session.places_of(table)
        # Proposals that were taken back may be made again.
        undone = session.undone_batches(METRIC)
    found = find_missing(inputs.labels, inputs.both_probs, percentile=percentile, known=known)
    unheard = [name for name, n in zip(table.classes, inputs.labels.sum(axis=0), strict=True)
               if not n]  # fmt: skip
    if unheard:
        say(f"nothing is proposed for classes without clips: {', '.join(unheard[:5])}")
    proposals = rank_missing(found, inputs.both_probs)
    labels = [
        MissingLabel(
            path=inputs.paths[k],
            labels=inputs.names(k),
            suggested=table.classes[class_id],
            score=round(1 - p, 4),
            reason=explain_missing([(table.classes[class_id], p)]),
        )
        for k, class_id, p in proposals[:most]
    ]
    report = MissingReport(proposed=len(proposals), judged_by=inputs.run_id)
    if not proposals:
        say("no label is likely missing; of few clips only a lower --percentile finds some")
        return labels, report
    if project.store.as_of is not None and not mask:
        say("proposals for labels of the past are shown and not kept")
        return labels, report
    clips, class_ids, values = (np.array(column) for column in zip(*proposals, strict=True))
    rule = f"{METRIC}: percentile {percentile:g}, judged by {inputs.run_id}"
    if inputs.both_probs is not inputs.probs and inputs.network_probs is not None:
        views = ", ".join(part.embedder for part in inputs.probe.embedding.parts)
        rule += f" and {inputs.probe.probe.classifier} on {views}"
    found_ids = [inputs.clip_ids[clips].tolist(), class_ids.tolist(), values.tolist()]
    content = [rule, found_ids, mask, undone]
    run_name = f"{METRIC}-{fingerprint(content)}"
    with project.current.read() as session:
        run_name = name_newest(session, run_name, newest_proposal_batch(session, METRIC))
    judges = sorted({str(inputs.judges[k]) for k in clips})
    given = dict(zip(now.clip_ids.tolist(), now.labels, strict=True))
    # What was settled since the labels were read stays so.
    masked = [
        Verdict(clip_id=clip_id, class_id=int(c), verdict="unsure", rule=rule, score=float(1 - p))
        for k, c, p in proposals
        for clip_id in [int(inputs.clip_ids[k])]
        if mask and (clip_id, places[c]) not in settled and places[c] not in given[clip_id]
    ]
    with project.store.write() as session:
        receipt = session.append(
            Batch(
                key=run_name,
                kind=METRIC,
                actor="labelkit",
                by_person=False,
                reason=rule,
                run_id=run_name,
                runs=[
                    Run(
                        run_id=f"{run_name}/{number}", kind="score", part_of=run_name,
                        recipe=inputs.run["recipe"],
                        settings={"percentile": percentile, "of": inputs.run_id},
                        seed=inputs.run["seed"], classes=table.classes, as_of=table.as_of,
                        parents=[judge],
                    )
                    for number, judge in enumerate(judges)
                ],
                scores=[
                    Scores(
                        run_id=f"{run_name}/{number}",
                        metric=METRIC,
                        clip_ids=inputs.clip_ids[clips][mine],
                        class_ids=class_ids[mine],
                        values=1 - values[mine],
                    )
                    for number, judge in enumerate(judges)
                    for mine in [inputs.judges[clips] == judge]
                    # Of labels of the past they would stand as the newest word on those of today.
                    if project.store.as_of is None
                ],
                verdicts=masked,
            )
        )  # fmt: skip
        refuse_leaks(session, [f"{run_name}/{number}" for number in range(len(judges))])
    if mask:
        report = replace(report, masked=len(masked), batch=receipt.batch_id)
    return labels, report
