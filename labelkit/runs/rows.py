"""What a run found, as rows of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import labelkit
from labelkit import registry
from labelkit.config import Recipe
from labelkit.ensemble import mean_probs
from labelkit.noise.suggestion import suggest_and_explain
from labelkit.noise.verify import describe_rule
from labelkit.records import LabelEvent, Predictions, Run, Scores, Suggestions, Verdict, Windows
from labelkit.runs.dataset import Dataset
from labelkit.states import MACHINE_STATES, SELF_VERIFIED, UNVERIFIED
from labelkit.stores.runs import read_trained_on
from labelkit.stores.session import Session
from labelkit.types import Bools, Floats

if TYPE_CHECKING:
    from labelkit.training.results import FoldState

ROUND_SCORES = ("lwlrap", "self_confidence")


@dataclass(frozen=True)
class RunRows:
    """Turns what a run found into rows of the store.

    A run on labels ``of_the_past``, which have changed since, is not what the store knows last.
    """

    recipe: Recipe
    seed: int
    data: Dataset
    run_id: str
    device: str
    threads: int
    of_the_past: bool = False

    @property
    def rule(self) -> str:
        """The rule of self-verification in a few words."""
        return describe_rule(self.recipe, single=self.data.head == "softmax")

    def run(self, **values: Any) -> Run:
        """Make the row of a run of this recipe on these labels."""
        settings = asdict(self.recipe) | {"device": self.device, "threads": self.threads}
        if self.of_the_past:
            settings["of_the_past"] = True
        return Run(
            recipe=self.recipe.name,
            settings=settings,
            seed=self.seed,
            classes=self.data.table.classes,
            as_of=self.data.table.as_of,
            fold_set=self.data.fold_set,
            **values,
        )

    def fold_runs(self, states: Sequence[FoldState]) -> list[Run]:
        """Make a row for the training of each fold."""
        return [
            self.run(
                run_id=state.name,
                kind="fold",
                part_of=self.run_id,
                fold=state.fold,
                iteration=state.iteration,
                parents=[state.parent] if state.parent else [],
                trained_on=self.data.ids[state.trained_on].tolist(),
                metrics={"history": state.history},
            )
            for state in states
        ]

    def predictions(self, states: Sequence[FoldState], probs: Floats) -> list[Predictions]:
        """Return the out-of-fold probabilities under the fold model they come from."""
        folds, ids = self.data.folds, self.data.ids
        return [
            Predictions(
                run_id=state.name,
                clip_ids=ids[folds == state.fold],
                probs=probs[folds == state.fold],
            )
            for state in states
        ]

    def scores(
        self, run_ids: Sequence[str], folds: Sequence[int], probs: Floats, names: Sequence[str]
    ) -> list[Scores]:
        """Score the given labels; a clip that has none gets none."""
        rows = []
        for name in names:
            values = registry.resolve("score", name)(self.data.labels, probs)
            for run_id, fold in zip(run_ids, folds, strict=True):
                use = (self.data.folds == fold) & np.isfinite(values)
                rows.append(
                    Scores(
                        run_id=run_id,
                        metric=name,
                        clip_ids=self.data.ids[use],
                        values=values[use],
                    )
                )
        return rows

    def suggestions(self, states: Sequence[FoldState], probs: Floats) -> list[Suggestions]:
        """Suggest what the model of each fold would give the clips it never saw, and why."""
        data = self.data
        suggested, reasons = suggest_and_explain(
            data.labels, probs, data.table.classes, several=data.table.several
        )
        found = []
        for state in states:
            rows = np.flatnonzero(data.folds == state.fold).tolist()
            found.append(
                Suggestions(
                    run_id=state.name,
                    clip_ids=data.ids[rows],
                    given=[data.table.labels[data.train[k]] for k in rows],
                    suggested=[suggested[k] for k in rows],
                    reasons=[reasons[k] for k in rows],
                )
            )
        return found

    def test_metrics(self, states: Sequence[FoldState]) -> tuple[dict[str, Any], list[Predictions]]:
        """Score of the folds' mean on the held-out clips, and its probabilities."""
        if not len(self.data.test):
            return {}, []
        probs = mean_probs(
            np.stack([state.test_probs for state in states]),
            kind=self.recipe.inference.fold_mean,
            single=self.data.head == "softmax",
        )
        clip_ids = self.data.table.clip_ids[self.data.test]
        labels = self.data.test_labels()
        if not labels.any():
            return {}, [Predictions(run_id=self.run_id, clip_ids=clip_ids, probs=probs)]
        return (
            {f"test_{self.data.metric}": self.data.score(labels, probs)},
            [Predictions(run_id=self.run_id, clip_ids=clip_ids, probs=probs)],
        )

    def signature(self) -> str:
        """Name what a printed score stands on."""
        data = self.data
        flavour = f" {self.recipe.flavour}" if self.recipe.flavour else ""
        changes = f" with {' '.join(self.recipe.changes)}" if self.recipe.changes else ""
        return (
            f"{data.metric} of {self.recipe.name}{flavour}{changes}, "
            f"{data.learner.describe()}, folds {data.fold_set}, "
            f"seed {self.seed}, labels at batch {data.table.as_of}, "
            f"labelkit {labelkit.__version__}"
        )

    def windows(self, state: FoldState) -> Windows:
        """Say how a fold's model judged every window, in seconds of the recordings."""
        return self.data.learner.locate(self.data.all_ids, state.windows())

    def changes(
        self,
        session: Session,
        chosen: Bools,
        judged: Floats,
        judges: Sequence[FoldState],
        rule: str,
        iteration: int,
    ) -> list[LabelEvent]:
        """Make the events of a decision, leaving what was decided since by people.

        A clip whose labels are no longer those that were judged is left, too.

        Args:
            session: The store as it is.
            chosen: Noisy clips that are vouched for now, ``(n_train,)``.
            judged: Probabilities the decision came from, ``(n_train, n_classes)``.
            judges: The trainings they came from, one a fold.
            rule: The decision in words.
            iteration: Round or stage of the run.
        """
        data = self.data
        now, judged_labels = self._now(session), session.labels_of(data.table)
        judge = {state.fold: state for state in judges}
        confidence = registry.resolve("score", "self_confidence")(data.labels, judged)
        events = []
        for k in np.flatnonzero(~data.human):
            clip_id, wanted = int(data.ids[k]), SELF_VERIFIED if chosen[k] else UNVERIFIED
            labels = data.table.labels[data.train[k]]
            state, labels_now = now[clip_id]
            unchanged = labels_now == judged_labels[data.train[k]]
            if state not in MACHINE_STATES or state == wanted or not unchanged:
                continue
            fold = int(data.folds[k])
            events.append(
                LabelEvent(
                    clip_id=clip_id,
                    state=wanted,
                    labels=labels,
                    source="self_verification",
                    run_id=judge[fold].name,
                    iteration=iteration,
                    score=float(confidence[k]) if np.isfinite(confidence[k]) else None,
                    evidence={
                        "rule": rule,
                        "judged_as": data.table.classes[int(judged[k].argmax())],
                        "probability": round(float(judged[k].max()), 4),
                        "fold": fold,
                    },
                )
            )
        return events

    def removals(self, session: Session, removed: Bools, rule: str) -> list[Verdict]:
        """Make verdicts that the labels of noisy clips left out by a rule are absent."""
        data, now = self.data, self._now(session)
        judged_labels = session.labels_of(data.table)
        return [
            Verdict(clip_id=int(data.ids[k]), class_id=int(label), verdict="absent", rule=rule)
            for k in np.flatnonzero(removed)
            if now[int(data.ids[k])][0] in MACHINE_STATES
            and now[int(data.ids[k])][1] == judged_labels[data.train[k]]
            for label in data.table.labels[data.train[k]]
        ]

    def _now(self, session: Session) -> dict[int, tuple[str, list[int]]]:
        """State and labels of each clip id, as the store has them now."""
        now = session.labels()
        pairs = zip(now.states.tolist(), now.labels, strict=True)
        return dict(zip(now.clip_ids.tolist(), pairs, strict=True))

    def matches(self, session: Session, states: Sequence[FoldState], probs: Floats) -> bool:
        """Tell whether the store holds the judgements of trainings as they are."""
        for stored, state in zip(self.predictions(states, probs), states, strict=True):
            clip_ids, _, found = session.predictions(stored.run_id, self.data.table)
            order = np.argsort(stored.clip_ids)
            if not np.array_equal(clip_ids, stored.clip_ids[order]) or not np.array_equal(
                found, stored.probs[order]
            ):
                return False
            trained_on = read_trained_on(session, state.name)
            if trained_on != self.data.ids[state.trained_on].tolist():
                return False
        return True
