"""Scores of the labels as they stand, from a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from labelkit import registry
from labelkit.config import fingerprint
from labelkit.errors import InvalidInput
from labelkit.records import Batch, LabelTable, Run, Scores, multi_hot
from labelkit.workflows.project import Project
from labelkit.workflows.recorder import ROUND_SCORES


def score(
    project: Project,
    *,
    run_id: str | None = None,
    methods: Sequence[str] = ROUND_SCORES,
    lowest: int = 30,
) -> list[dict[str, Any]]:
    """Score the labels as they stand now against a run's out-of-fold probabilities.

    Args:
        project: Where the run is; the scores go to its store.
        run_id: A finished run; the last one if None.
        methods: Names of scores; the first one orders the result, the next break ties.
        lowest: How many clips to return.

    Returns:
        Rows of path, labels, state, suggested class and the scores, the most doubtful first.

    Raises:
        InvalidInput: If there is no such run.
    """
    for name in methods:
        registry.check("score", name)
    with project.store.read() as session:
        wanted = run_id or session.last_run()
        run = session.run(wanted) if wanted else None
        if run is None or wanted is None:
            raise InvalidInput(
                f"no finished run {run_id!r}; see: labelkit status" if run_id
                else "no finished run; make one with: labelkit train"
            )  # fmt: skip
        clip_ids, judges, probs = session.predictions(wanted)
        table = session.labels()
    keep = np.flatnonzero((judges != wanted) & np.isin(clip_ids, table.clip_ids))
    clip_ids, judges, probs = clip_ids[keep], judges[keep], probs[keep]
    index = np.searchsorted(table.clip_ids, clip_ids)
    labels = multi_hot([table.labels[i] for i in index], len(table.classes))
    probs = np.pad(probs, ((0, 0), (0, labels.shape[1] - probs.shape[1])))
    values = {name: registry.resolve("score", name)(labels, probs) for name in methods}
    _store_scores(project, wanted, table, labels, clip_ids, judges, values)
    order = np.lexsort([clip_ids, *(values[name] for name in reversed(methods))])
    rows: list[dict[str, Any]] = []
    for k in order:
        if np.isfinite(values[methods[0]][k]) and len(rows) < lowest:
            clip = int(index[k])
            rows.append(
                {
                    "path": table.paths[clip],
                    "labels": table.names(clip),
                    "state": str(table.states[clip]),
                    "suggested": table.classes[int(probs[k].argmax())],
                    **{name: round(float(values[name][k]), 4) for name in methods},
                }
            )
    return rows


def _store_scores(
    project: Project,
    run_id: str,
    table: LabelTable,
    labels: np.ndarray,
    clip_ids: np.ndarray,
    judges: np.ndarray,
    values: dict[str, np.ndarray],
) -> None:
    """One run per judging model, so that each score keeps its own line of ancestors."""
    content = [run_id, sorted(values), clip_ids.tolist(), labels.tolist()]
    score_id = f"score-{fingerprint(content)}"
    with project.store.write() as session:
        runs: list[Run] = []
        rows: list[Scores] = []
        source = session.run(run_id)
        assert source is not None
        for number, judge in enumerate(sorted(set(judges))):
            name, mine = f"{score_id}/{number}", judges == judge
            runs.append(
                Run(
                    run_id=name,
                    kind="score",
                    part_of=score_id,
                    recipe=source["recipe"],
                    settings={"methods": sorted(values), "of": run_id},
                    seed=source["seed"],
                    classes=table.classes,
                    as_of=table.as_of,
                    fold_set=source["fold_set"],
                    parents=[judge],
                )
            )
            for metric, numbers in values.items():
                use = mine & np.isfinite(numbers)
                rows.append(
                    Scores(run_id=name, metric=metric, clip_ids=clip_ids[use], values=numbers[use])
                )
        session.append(
            Batch(
                key=score_id,
                kind="score",
                actor="labelkit",
                by_person=False,
                reason=f"{', '.join(values)} of {run_id}",
                run_id=score_id,
                runs=runs,
                scores=rows,
            )
        )
