"""How a run gets into the store: alone, stage by stage, and never with a leak."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from labelkit import metrics
from labelkit.errors import LabelkitError
from labelkit.noise.verify import label_loss
from labelkit.project import Project
from labelkit.records import Batch, LabelEvent, verdicts_of
from labelkit.runs.dataset import Dataset
from labelkit.runs.rows import ROUND_SCORES, RunRows
from labelkit.stores.append import WriteSession
from labelkit.stores.lock import locked
from labelkit.stores.session import Session


def read_summary(session: Session, run_id: str) -> dict[str, Any] | None:
    """What a finished run printed; None if it is not finished."""
    run = session.run(run_id)
    return None if run is None else {"run_id": run_id, **run["metrics"]}


@contextmanager
def claim_run(project: Project, run_id: str) -> Iterator[dict[str, Any] | None]:
    """Be the only process on a run; yields what is known of it if it is finished."""
    project.runs.mkdir(parents=True, exist_ok=True)
    timeout_s = project.store.timeout_s
    with locked(project.runs / run_id, exclusive=True, timeout_s=timeout_s):
        # A run is finished, too, where it was not yet at the moment the project looks back to.
        with project.current.read() as session:
            done = read_summary(session, run_id)
        yield done


def refuse_leaks(session: WriteSession, run_ids: Sequence[str]) -> None:
    """Undo the transaction if a model judged what it, or an ancestor of it, saw.

    Raises:
        LabelkitError: If there is such a judgement.
    """
    leaks = session.find_leaks(run_ids)
    if leaks:
        judge, clip, ancestor, seen = leaks[0]
        many = "100 or more" if len(leaks) == 100 else len(leaks)
        raise LabelkitError(
            f"{judge} judged clip {clip}, but {ancestor} was trained on clip {seen} "
            f"({many} such cases); nothing of this was kept"
        )


def commit_trainings(
    project: Project,
    recorder: RunRows,
    states: Sequence[Any],
    probs: np.ndarray,
    *,
    key: str,
    kind: str,
    reason: str,
    decide: Callable[[Session], list[LabelEvent]] = lambda session: [],
) -> None:
    """Write the trainings of all folds, what they judged, and label changes as one batch.

    Args:
        project: Where to.
        recorder: Turns them into rows.
        states: The training of each fold.
        probs: Their out-of-fold probabilities, ``(n_train, n_classes)``.
        key: The batch's; written before, the store is only compared.
        kind: Of the batch.
        reason: Of the batch, in words.
        decide: Gives the label changes that go with it, from the store as it then is.

    Raises:
        LabelkitError: If a model judged what it saw, or the store holds something else.
    """
    names = [state.name for state in states]
    for state in states:
        project.windows.write(state.name, recorder.windows(state))
    # Scores of labels of the past would stand as the newest word on those of today.
    present = project.store.as_of is None
    scores = (
        recorder.scores(names, [state.fold for state in states], probs, ROUND_SCORES)
        if present
        else []
    )
    with project.store.write() as session:
        events = decide(session)
        receipt = session.append(
            Batch(
                key=key,
                kind=kind,
                actor="labelkit",
                by_person=False,
                reason=reason,
                run_id=recorder.run_id,
                runs=recorder.fold_runs(states),
                events=events,
                verdicts=[v for event in events for v in verdicts_of(event, reason)],
                predictions=recorder.predictions(states, probs),
                scores=scores,
                suggestions=recorder.suggestions(states, probs) if present else [],
            )
        )
        if receipt.repeated and not recorder.matches(session, states, probs):
            raise LabelkitError(
                f"{project.runs / recorder.run_id} is not what the store says of "
                f"{key.partition('/')[2]}; bring the folder back, or take another --seed"
            )
        refuse_leaks(session, names)


def verified_metrics(data: Dataset, probs: np.ndarray) -> dict[str, float]:
    """How out-of-fold probabilities fit the labels people vouch for."""
    labels, probs = data.labels[data.human], probs[data.human]
    if not len(labels):
        return {}
    single = data.head == "softmax"
    found = {
        f"verified_{data.metric}": data.score(labels, probs),
        "verified_loss": label_loss(labels, probs, single=single),
    }
    if single:
        found["verified_map3"] = metrics.map_at_k(labels, probs, 3)
    return found
