"""How a run gets into the store: alone, stage by stage, and never with a leak."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from labelkit import metrics
from labelkit.errors import LabelkitError
from labelkit.noise.agreement import agreement_metrics, warn_of_judge
from labelkit.noise.verify import label_loss
from labelkit.progress import say
from labelkit.project import Project
from labelkit.records import Batch, LabelEvent, verdicts_of
from labelkit.runs.dataset import Dataset
from labelkit.runs.rows import ROUND_SCORES, RunRows
from labelkit.stores.append import WriteSession
from labelkit.stores.lock import locked
from labelkit.stores.session import Session
from labelkit.types import Floats

if TYPE_CHECKING:
    from labelkit.training.results import FoldState


def read_summary(session: Session, run_id: str) -> dict[str, Any] | None:
    """Read what a finished run printed; None if it is not finished."""
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
    rows: RunRows,
    states: Sequence[FoldState],
    probs: Floats,
    *,
    key: str,
    kind: str,
    reason: str,
    decide: Callable[[Session], list[LabelEvent]] = lambda session: [],
) -> None:
    """Write the trainings of all folds, what they judged, and label changes as one batch.

    Args:
        project: Where to.
        rows: Turns them into rows.
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
        project.windows.write(state.name, rows.windows(state))
    # Scores of labels of the past would stand as the newest word on those of today.
    present = project.store.as_of is None
    scores = (
        rows.scores(names, [state.fold for state in states], probs, ROUND_SCORES) if present else []
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
                run_id=rows.run_id,
                runs=rows.fold_runs(states),
                events=events,
                verdicts=[v for event in events for v in verdicts_of(event, reason)],
                predictions=rows.predictions(states, probs),
                scores=scores,
                suggestions=rows.suggestions(states, probs) if present else [],
            )
        )
        if receipt.repeated and not rows.matches(session, states, probs):
            raise LabelkitError(
                f"{project.runs / rows.run_id} is not what the store says of "
                f"{key.partition('/')[2]}; bring the folder back, or take another --seed"
            )
        refuse_leaks(session, names)


def commit_run(
    project: Project,
    rows: RunRows,
    states: Sequence[FoldState],
    probs: Floats,
    *,
    kind: str,
    reason: str,
    summary: dict[str, Any],
    rest: dict[str, Any] | None = None,
    decide: Callable[[Session], list[LabelEvent]] = lambda session: [],
    rule: str = "",
) -> dict[str, Any]:
    """Write a run itself, how the folds together judge the held-out clips, and what it decided.

    Args:
        project: Where to.
        rows: Turns them into rows.
        states: The trainings the run ended with, one a fold.
        probs: Their out-of-fold probabilities, ``(n_train, n_classes)``.
        kind: Of the run and its batch.
        reason: Of the batch, in words.
        summary: What the run printed, before its scores.
        rest: What it printed behind its scores.
        decide: Gives the label changes that go with it, from the store as it then is.
        rule: The decision in words.

    Returns:
        The run's id and all that it printed.

    Raises:
        LabelkitError: If a model judged what it saw.
    """
    run_id = rows.run_id
    test_metrics, test_predictions = rows.test_metrics(states)
    data, single = rows.data, rows.data.head == "softmax"
    agreement = agreement_metrics(data.labels, probs, data.human, single=single)
    found = verified_metrics(data, probs) | agreement | test_metrics
    if warning := warn_of_judge(found):
        say(warning)
    metrics_ = summary | found | (rest or {}) | {"signature": rows.signature()}
    run = rows.run(
        run_id=run_id, kind=kind, parents=[state.name for state in states], metrics=metrics_
    )
    with project.store.write() as session:
        events = decide(session)
        session.append(
            Batch(
                key=f"{run_id}/end",
                kind=kind,
                actor="labelkit",
                by_person=False,
                reason=reason,
                run_id=run_id,
                runs=[run],
                events=events,
                verdicts=[v for event in events for v in verdicts_of(event, rule)],
                predictions=test_predictions,
            )
        )
        refuse_leaks(session, [run_id])
        return read_summary(session, run_id) or {}


def verified_metrics(data: Dataset, probs: Floats) -> dict[str, float]:
    """Measure how out-of-fold probabilities fit the labels people vouch for."""
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
