"""What a run found, as rows of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import labelkit
from labelkit import registry
from labelkit.config import Recipe, VerifySpec, fingerprint
from labelkit.noise.verify import Round
from labelkit.records import (
    MACHINE_STATES,
    SELF_VERIFIED,
    UNVERIFIED,
    LabelEvent,
    Predictions,
    Run,
    Scores,
)
from labelkit.stores.session import Session
from labelkit.workflows.trainingset import TrainingSet

ROUND_SCORES = ("lwlrap", "self_confidence")


def describe_rule(spec: VerifySpec) -> str:
    """The rule of self-verification in a few words, as the store notes it."""
    parts = [f"labels are the top classes of the mean over {spec.windows} windows"]
    if spec.threshold > 0:
        parts.append(f"each above {spec.threshold:g}")
    if spec.per_class:
        parts.append(f"at most {spec.per_class} {'new ' if spec.accumulate else ''}per class")
    return ", ".join(parts)


@dataclass(frozen=True)
class Recorder:
    """Turns what a run found into rows of the store."""

    recipe: Recipe
    seed: int
    data: TrainingSet
    run_id: str
    device: str
    threads: int

    def name(self, state: Any) -> str:
        """Run id of a fold's training."""
        return f"{self.run_id}/{state.name}"

    def run(self, **values: Any) -> Run:
        """A run of this recipe on these labels."""
        return Run(
            recipe=self.recipe.name,
            settings=asdict(self.recipe) | {"device": self.device, "threads": self.threads},
            seed=self.seed,
            classes=self.data.table.classes,
            as_of=self.data.table.as_of,
            fold_set=self.data.fold_set,
            **values,
        )

    def fold_runs(self, states: Sequence[Any]) -> list[Run]:
        """A row for the training of each fold."""
        return [
            self.run(
                run_id=self.name(state),
                kind="fold",
                part_of=self.run_id,
                fold=state.fold,
                iteration=state.round,
                parents=[f"{self.run_id}/{state.parent}"] if state.parent else [],
                trained_on=self.data.ids[state.trained_on].tolist(),
                metrics={"history": state.history},
            )
            for state in states
        ]

    def predictions(self, states: Sequence[Any], probs: np.ndarray) -> list[Predictions]:
        """Out-of-fold probabilities under the fold model they come from."""
        folds, ids = self.data.folds, self.data.ids
        return [
            Predictions(
                run_id=self.name(state),
                clip_ids=ids[folds == state.fold],
                probs=probs[folds == state.fold],
            )
            for state in states
        ]

    def scores(
        self, run_ids: Sequence[str], folds: Sequence[int], probs: np.ndarray, names: Sequence[str]
    ) -> list[Scores]:
        """Scores of the given labels; a clip that has none gets none."""
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

    def test_metrics(self, states: Sequence[Any]) -> tuple[dict[str, Any], list[Predictions]]:
        """Score of the folds' mean on the locked clips, and its probabilities."""
        if not len(self.data.test):
            return {}, []
        probs = np.stack([state.test_probs for state in states]).mean(axis=0, dtype=np.float64)
        probs = np.asarray(probs, np.float32)
        clip_ids = self.data.table.clip_ids[self.data.test]
        labels = self.data.test_labels()
        if not labels.any():
            return {}, [Predictions(run_id=self.run_id, clip_ids=clip_ids, probs=probs)]
        return (
            {f"test_{self.data.metric}": self.data.score(labels, probs)},
            [Predictions(run_id=self.run_id, clip_ids=clip_ids, probs=probs)],
        )

    def signature(self) -> str:
        """What a printed score stands on."""
        data = self.data
        return (
            f"{data.metric} of {self.recipe.name}, features {fingerprint(self.recipe.features)}, "
            f"folds {data.fold_set}, seed {self.seed}, labels at batch {data.table.as_of}, "
            f"labelkit {labelkit.__version__}"
        )

    def changes(self, session: Session, found: Round) -> list[LabelEvent]:
        """Events that bring the store to a round's decision, leaving what people decided since."""
        data = self.data
        now = session.labels()
        state_now = dict(zip(now.clip_ids.tolist(), now.states.tolist(), strict=True))
        judge = {state.fold: state for state in found.judges if state is not None}
        confidence = registry.resolve("score", "self_confidence")(data.labels, found.judged)
        events = []
        for k in np.flatnonzero(~data.human):
            clip_id, wanted = int(data.ids[k]), SELF_VERIFIED if found.trusted[k] else UNVERIFIED
            state = state_now[clip_id]
            if state not in MACHINE_STATES or state == wanted:
                continue
            fold = int(data.folds[k])
            events.append(
                LabelEvent(
                    clip_id=clip_id,
                    state=wanted,
                    labels=data.table.labels[data.train[k]],
                    source="self_verification",
                    run_id=self.name(judge[fold]),
                    iteration=found.iteration,
                    score=float(confidence[k]) if np.isfinite(confidence[k]) else None,
                    evidence={
                        "rule": describe_rule(self.recipe.verify),
                        "judged_as": data.table.classes[int(found.judged[k].argmax())],
                        "probability": round(float(found.judged[k].max()), 4),
                        "fold": fold,
                    },
                )
            )
        return events

    def matches(self, session: Session, found: Round) -> bool:
        """Whether the store holds a round's judgements as they are."""
        for stored, state in zip(
            self.predictions(found.states, found.probs), found.states, strict=True
        ):
            clip_ids, _, probs = session.predictions(stored.run_id)
            order = np.argsort(stored.clip_ids)
            if not np.array_equal(clip_ids, stored.clip_ids[order]) or not np.array_equal(
                probs, stored.probs[order]
            ):
                return False
            trained_on = session.rows(
                "select trained_on from runs where run_id = ?", [self.name(state)]
            )
            if trained_on[0][0] != self.data.ids[state.trained_on].tolist():
                return False
        return True
