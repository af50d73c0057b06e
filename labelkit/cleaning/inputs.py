"""Everything a finished run, and embeddings beside it, say of the labels as they stand."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from labelkit import registry
from labelkit.config import EmbeddingSpec, Recipe, choose_head, read_recipe
from labelkit.errors import InvalidInput, NotYet
from labelkit.folds import group_indices
from labelkit.noise.dynamics import Dynamics, mean_dynamics, measure_dynamics
from labelkit.noise.panel import fuse_opinions
from labelkit.noise.probe import Probe, cross_probs
from labelkit.progress import say
from labelkit.project import Project
from labelkit.recordings.embedding import (
    compute_embeddings,
    open_embeddings,
    read_embeddings,
    view_widths,
)
from labelkit.recordings.usable import same_recordings
from labelkit.records import LabelTable, multi_hot
from labelkit.runs.folds import freeze_folds
from labelkit.runs.train import train
from labelkit.states import MACHINE_STATES, REJECTED
from labelkit.stores.arrays import Entry
from labelkit.stores.history import changed_since
from labelkit.stores.runs import read_trainings
from labelkit.stores.standing import move_columns, move_logits
from labelkit.types import Bools, Floats, Ints, Objects

# Runs of other people's models: nothing is known of what they were trained on.
EXTERNAL = "external"
# Kinds of runs that judge clips.
JUDGES = ("train", "verify", EXTERNAL)
# The recipe that judges embeddings where none is named.
JUDGE = "panel"
# What a score may ask for, by the names of its arguments.
PARTS = (
    "labels", "probs", "groups", "dynamics", "window_clips", "window_probs", "embeddings",
    "probe_probs", "network_probs",
)  # fmt: skip

# What models show of labels they trained on: a score that reads it orders clips for people.
_IN_SAMPLE = {"dynamics"}
# Classes that are named where several have something.
_NAMED = 5


@dataclass(frozen=True)
class ScoreInputs:
    """What there is to score labels by; each part is read or computed when it is asked for.

    A score is a function whose arguments are named like :data:`PARTS`. ``rows`` are
    indices into ``table``, ``judges`` the run that judged each of them, ``probs`` its
    probabilities, all of clips that their judge never saw.

    Args:
        project: Where the run is.
        run: The finished run.
        table: The labels as they stand.
        rows: Clips that were judged, neither held out nor rejected, ``(n_clips,)``.
        judges: The run that judged each, ``(n_clips,)``.
        probs: Their probabilities, ``(n_clips, n_classes)``.
        probe: Recipe of the embeddings and of the classifier on them.
        workers: Processes at once; all cores if None.
    """

    project: Project
    run: Mapping[str, Any]
    table: LabelTable
    rows: Ints
    judges: Objects
    probs: Floats
    probe: Recipe
    workers: int | None = None

    @property
    def run_id(self) -> str:
        """Name of the run."""
        return str(self.run["run_id"])

    @cached_property
    def labels(self) -> Floats:
        """Multi-hot labels, ``(n_clips, n_classes)``."""
        return multi_hot([self.table.labels[i] for i in self.rows], len(self.table.classes))

    @cached_property
    def clip_ids(self) -> Ints:
        """Clip ids, ``(n_clips,)``."""
        return self.table.clip_ids[self.rows]

    @cached_property
    def paths(self) -> list[str]:
        """Paths of the clips."""
        return [self.table.paths[i] for i in self.rows]

    def names(self, k: int) -> list[str]:
        """Return the names of the labels of judged clip ``k``."""
        return self.table.names(int(self.rows[k]))

    @cached_property
    def knowable(self) -> Bools:
        """Classes that those who judge their clips can know, ``(n_classes,)``.

        Of a class of one clip, or of one fold, nobody who judges it has heard anything.
        """
        parts = self.folds if self.run["fold_set"] else np.arange(len(self.rows))
        return np.array(
            [len(np.unique(parts[given])) > 1 for given in (self.labels.T > 0)], dtype=bool
        )

    @property
    def machine(self) -> Bools:
        """Clips whose state a machine may change, ``(n_clips,)``."""
        return np.isin(self.table.states[self.rows], MACHINE_STATES)

    @cached_property
    def groups(self) -> Ints:
        """Number of the recording each clip was cut from, -1 if it is alone, ``(n_clips,)``."""
        names = same_recordings(replace(self.table, content_hashes=self._hashes))
        numbers = group_indices([names[i] for i in self.rows], len(self.rows))
        return np.where([names[i] is None for i in self.rows], -1, numbers)

    @property
    def _hashes(self) -> list[str | None]:
        """Hash of each recording of the table; an import of metadata alone knows none."""
        entries = self._embedded[2]
        return [
            known or (entries[path].content_hash if path in entries else None)
            for path, known in zip(self.table.paths, self.table.content_hashes, strict=True)
        ]

    @cached_property
    def folds(self) -> Ints:
        """Frozen fold of each clip, those of the run where it has some, ``(n_clips,)``."""
        return self._read_folds(self.run["fold_set"] or freeze_folds(self.project))

    def dealt_folds(self) -> Ints:
        """Return :attr:`folds`, and deal none.

        Raises:
            InvalidInput: If some clip has no fold yet.
        """
        with self.project.current.read() as session:
            fold_set = self.run["fold_set"] or next(reversed(session.fold_sets()), None)
        folds = self._read_folds(fold_set) if fold_set else np.full(len(self.rows), -1)
        if (folds < 0).any():
            raise NotYet("some clips have no fold yet; deal them with: labelkit folds")
        return folds

    def _read_folds(self, fold_set: str) -> Ints:
        with self.project.current.read() as session:
            folds = session.folds(fold_set)
        return np.array([folds.get(int(clip_id), -1) for clip_id in self.clip_ids])

    @cached_property
    def dynamics(self) -> Dynamics | None:
        """Measures of how the first logged stage learnt each label; None without a log.

        Of a clip whose label has changed since, nothing is known.
        """
        with self.project.current.read() as session:
            trainings = read_trainings(session, self.run_id)
            before = session.labels(self.run["as_of"])
            places = session.class_places(self.run_id)
            given = session.labels_of(self.table)
        logged = [training for training in trainings if training.logged]
        row_of = {int(clip_id): k for k, clip_id in enumerate(self.clip_ids)}
        learnt = {int(i): labels for i, labels in zip(before.clip_ids, before.labels, strict=True)}
        parts = []
        for training in logged:
            if training.iteration != logged[0].iteration:
                break
            clip_ids, logits = self.project.epochs.read(training.run_id, training.logged)
            column = {int(clip_id): k for k, clip_id in enumerate(clip_ids)}
            logits = move_logits(logits, places, max(len(before.classes), logits.shape[2]))
            labels = multi_hot([learnt[int(i)] for i in clip_ids], logits.shape[2])
            head = self._head_of_then(before.several)
            seen = [
                i for i in training.trained_on
                if i in row_of and learnt[i] == given[self.rows[row_of[i]]]
            ]  # fmt: skip
            found = measure_dynamics(labels, logits, head=head)
            columns = np.array([column[i] for i in seen], int)
            part = Dynamics(*(values[columns] for values in vars(found).values()))
            parts.append((np.array([row_of[i] for i in seen], int), part))
        return mean_dynamics(parts, len(self.rows)) if parts else None

    def _head_of_then(self, several: bool) -> str:
        """Tell what made probabilities in the run: what it was measured by says so, if anything."""
        metrics = self.run["metrics"]
        for head, measure in (("softmax", "accuracy"), ("sigmoid", "lwlrap")):
            if f"verified_{measure}" in metrics or f"test_{measure}" in metrics:
                return head
        return choose_head(self.run["settings"]["model"]["head"], several=several)

    @cached_property
    def _windows(self) -> tuple[Ints, Floats]:
        row_of = {int(clip_id): k for k, clip_id in enumerate(self.clip_ids)}
        clips, probs = [], []
        for judge in sorted(set(self.judges)):
            found = self.project.windows.read(judge)
            rows = np.array([row_of.get(int(i), -1) for i in found.clip_ids], int)
            # A model also judges held-out clips, and of later stages clips of other folds.
            mine = (rows >= 0) & (self.judges[rows] == judge)
            clips.append(rows[mine])
            with self.project.current.read() as session:
                places = session.class_places(judge, self.table)
            probs.append(move_columns(found.probs[mine], places, self.labels.shape[1]))
        return np.concatenate(clips), np.concatenate(probs)

    @property
    def window_clips(self) -> Ints:
        """Row of the clip of each window, ``(n_windows,)``."""
        return self._windows[0]

    @property
    def window_probs(self) -> Floats:
        """Probabilities of each window, ``(n_windows, n_classes)``."""
        return self._windows[1]

    @cached_property
    def _embedded(self) -> tuple[Floats, Bools, dict[str, Entry]]:
        spec, features = self.probe.embedding, self.probe.features
        if not (self.project.audio_dir.is_dir() or spec.embedder.startswith("vectors:")):
            say(f"the audio folder {self.project.audio_dir} is not there: no clip is embedded")
            return np.zeros((len(self.rows), 1), np.float32), np.zeros(len(self.rows), bool), {}
        store = compute_embeddings(self.project, spec, features, workers=self.workers)
        matrix, usable = read_embeddings(self.project, spec, features, self.paths)
        if not usable.all():
            say(f"{(~usable).sum()} clips have no embedding and are not scored by it")
        return matrix, usable, store.entries

    @property
    def embeddings(self) -> Floats:
        """Vectors of the clips, 0 where there is none, ``(n_clips, dim)``."""
        return self._embedded[0]

    @property
    def embedded(self) -> Bools:
        """Clips that have a vector, ``(n_clips,)``."""
        return self._embedded[1]

    @cached_property
    def probe_probs(self) -> Floats:
        """Out-of-fold probabilities of what judges embeddings, ``(n_clips, n_classes)``.

        Those of the run where it is of the very recipe and labels are what they were; otherwise
        cross-validated on its folds. NaN for clips without an embedding or a fold.
        """
        if not self.run["fold_set"]:
            _tell_unheard(self)
        elif self._is_own and not is_outdated(self.project, self.run):
            return self.probs
        use = self.embedded & (self.folds >= 0) & ~self._parted()
        if not use.any():
            return np.full(self.labels.shape, np.nan)
        spec = self.probe.probe
        if not spec.classifier:
            raise InvalidInput(
                f"recipe {self.probe.name} has no classifier on embeddings; take --recipe panel"
            )
        probe = Probe(
            embeddings=self.embeddings[use],
            labels=self.labels[use],
            folds=self.folds[use],
            classifier=spec.classifier,
            options=spec.options,
            standardise=spec.standardise,
            views=view_widths(self.project, self.probe.embedding, self.probe.features),
        )
        probs = np.full(self.labels.shape, np.nan)
        probs[use] = cross_probs(probe, self.folds[use])
        return probs

    @property
    def _is_own(self) -> bool:
        """Whether the run is of the very recipe that judges embeddings here."""
        return is_run_of(self.project, self.run, self.probe)

    @cached_property
    def network_probs(self) -> Floats | None:
        """The run's probabilities, where they are an opinion of their own, as a network's are.

        None where the run judges by embeddings that :attr:`probe_probs` judges by, too: no
        opinion has two votes.
        """
        settings = self.run["settings"]
        if not settings.get("probe", {}).get("classifier") or not self.embedded.any():
            return self.probs
        theirs = {settings["embedding"]["embedder"], *settings["embedding"].get("beside", ())}
        mine = {self.probe.embedding.embedder, *self.probe.embedding.beside}
        return None if theirs <= mine else self.probs

    def _parted(self) -> Bools:
        """Mark the clips of a recording whose first clip lies in another fold, ``(n_clips,)``.

        Folds frozen before the recordings were seen may part copies of the same bytes.
        """
        first: dict[int, int] = {}
        return np.array([
            group >= 0 and first.setdefault(int(group), int(fold)) != fold
            for group, fold in zip(self.groups, self.folds, strict=True)
        ], bool)  # fmt: skip

    @cached_property
    def both_probs(self) -> Floats:
        """Run and what judges embeddings pooled, each as good as it is, ``(n_clips, n_classes)``.

        They err on different clips, so together they suggest and find more than either. Where
        there is no embedding the run decides alone.
        """
        network = self.network_probs
        there = np.isfinite(self.probe_probs).all(axis=1) & self.embedded
        if not there.any():
            return self.probs
        found = self.probs.astype(float)
        opinions = [self.probe_probs[there], *([] if network is None else [network[there]])]
        found[there] = fuse_opinions(self.labels[there], opinions, single=not self.table.several)
        return found


def is_run_of(project: Project, run: Mapping[str, Any], recipe: Recipe) -> bool:
    """Tell whether a run judged by the very vectors and classifier of a recipe, taught by all.

    The embedder's files may be others under the same name: the run's signature names the vectors.
    """
    settings = run["settings"]
    if not recipe.probe.classifier or not _teaches_all(run):
        return False
    name = open_embeddings(project, recipe.embedding, recipe.features).folder.name
    return f" on {name}, " in str(run["metrics"].get("signature")) and settings["probe"] == (
        json.loads(json.dumps(asdict(recipe.probe)))
    )


def _teaches_all(run: Mapping[str, Any]) -> bool:
    """Whether a run is a training on all labels as they were given."""
    return run["kind"] == "train" and str(run["metrics"].get("trained_on")).startswith("all ")


def _as_judged(probe: Recipe, run: Mapping[str, Any] | None) -> Recipe:
    """Return what judges embeddings: where nothing is asked for, as the run's panel did."""
    if run is None or probe != read_recipe(JUDGE):
        return probe
    settings = run["settings"]
    if settings.get("probe", {}).get("classifier") != probe.probe.classifier:
        return probe
    embedding = dict(settings["embedding"])
    embedding["beside"] = tuple(embedding.get("beside", ()))
    return replace(probe, embedding=EmbeddingSpec(**embedding))


def is_outdated(project: Project, run: Mapping[str, Any]) -> bool:
    """Tell whether labels have changed since a run read them."""
    with project.store.read() as session:
        return changed_since(session, run["as_of"])


def judge_first(
    project: Project, run_id: str | None, probe: Recipe | None, workers: int | None
) -> str | None:
    """Let what judges embeddings judge the labels as they stand, where nothing else has.

    Args:
        project: Where the run goes.
        run_id: A run that is asked for; it is returned as it is.
        probe: Recipe of embeddings and what judges them; ``panel`` if None.
        workers: Processes at once; all cores if None.

    Returns:
        The run to score by; None for the last one, whatever it is.

    Raises:
        InvalidInput: If the recipe has no classifier.
    """
    if run_id is not None or project.store.as_of is not None:
        return run_id
    with project.store.read() as session:
        last = session.last_run(JUDGES)
        run = session.run(last) if last else None
    recipe = _as_judged(probe or read_recipe(JUDGE), run)
    if run is not None:
        classifies = run["settings"].get("probe", {}).get("classifier")
        if not (classifies and _teaches_all(run) and is_outdated(project, run)):
            return last
        say(f"labels have changed since {last}: they are judged anew")
    if not recipe.probe.classifier:
        raise InvalidInput(f"recipe {recipe.name} judges no embeddings; take --recipe {JUDGE}")
    return str(train(project, recipe, workers=workers)["run_id"])


def read_inputs(
    project: Project,
    run_id: str | None,
    *,
    probe: Recipe | None = None,
    workers: int | None = None,
) -> ScoreInputs:
    """Open what a finished run says of the labels as they stand, or as they stood.

    Args:
        project: Where the run is.
        run_id: A finished run, also a later one where the project looks back; the last of that
            moment if None, be it a training or probabilities of a file.
        probe: Recipe of the embeddings and of what judges them; ``panel`` if None.
        workers: Processes at once; all cores if None.

    Raises:
        InvalidInput: If there is no such run.
    """
    with project.store.read() as session:
        wanted, table = run_id or session.last_run(JUDGES), session.labels()
    with project.current.read() as session:
        run = session.run(wanted) if wanted else None
        if run is None or wanted is None:
            if run_id:
                raise InvalidInput(f"no finished run {run_id!r}; see: labelkit status")
            raise NotYet(
                "no finished run; make one with: labelkit score"
                if project.store.as_of is None
                else "no run was finished by then; name a later one with --run"
            )
        clip_ids, judges, probs = session.predictions(wanted, table)
    known = np.isin(clip_ids, table.clip_ids)
    clip_ids, judges, probs = clip_ids[known], judges[known], probs[known]
    rows = np.searchsorted(table.clip_ids, clip_ids)
    keep = (table.subsets[rows] == "train") & (table.states[rows] != REJECTED)
    if not keep.any():
        raise NotYet(
            f"run {wanted} judged no clip that is neither held out nor rejected; train anew"
        )
    probs = probs[keep]
    probe = _as_judged(probe or read_recipe(JUDGE), run)
    for change in probe.changes:
        if change.strip().partition(".")[0] not in ("probe", "embedding", "features"):
            say(f"--set {change} is not read by what judges here; it changes nothing")
    inputs = ScoreInputs(project, run, table, rows[keep], judges[keep], probs, probe, workers)
    if len(probs) > 1 and (probs == probs[0]).all():
        say(f"run {wanted} judges all {len(probs)} clips alike: it tells none from another")
    _tell_unheard(inputs)
    return inputs


def _tell_unheard(inputs: ScoreInputs) -> None:
    """Name the classes that none of the models that judge their clips has heard."""
    unheard = np.flatnonzero(~inputs.knowable & inputs.labels.any(axis=0))
    if not len(unheard):
        return
    single = unheard[inputs.labels[:, unheard].sum(axis=0) == 1]
    for found, what in (
        (single, "have one clip"),
        (np.setdiff1d(unheard, single), "lie in one fold"),
    ):
        names = ", ".join(inputs.table.classes[k] for k in found[:_NAMED])
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        if len(found):
            say(
                f"classes that {what}: {names}{more}; who judges them never heard them, so they "
                "are left out of estimates"
            )


def is_in_sample(name: str) -> bool:
    """Tell whether a registered score reads, by its arguments, what models show of seen labels.

    Raises:
        UnknownName: If there is no such score.
    """
    return not _IN_SAMPLE.isdisjoint(list_inputs(name))


def list_inputs(name: str) -> list[str]:
    """List what a registered score reads, by its arguments: names of :data:`PARTS`.

    Raises:
        UnknownName: If there is no such score.
    """
    parameters = inspect.signature(registry.resolve("score", name)).parameters
    return [parameter for parameter in parameters if parameter in PARTS]


def score_by(name: str, inputs: ScoreInputs) -> Floats:
    """Score the labels by a registered score, ``(n_clips,)``; NaN where nothing can be said.

    Raises:
        InvalidInput: If the run lacks what the score reads, or the score refuses it.
        UnknownName: If there is no such score.
    """
    function = registry.resolve("score", name)
    use = np.ones(len(inputs.rows), bool)
    values = {}
    for parameter in inspect.signature(function).parameters.values():
        key = parameter.name
        if key not in PARTS:
            if parameter.default is parameter.empty:
                raise InvalidInput(f"score {name} asks for {key}; known: {', '.join(PARTS)}")
            continue
        if key in ("embeddings", "probe_probs") and not inputs.embedded.any():
            if parameter.default is None:
                say(f"score {name}: no clip has an embedding, so the run decides alone")
                continue
        values[key] = getattr(inputs, key)
        if values[key] is None and key == "network_probs" and parameter.default is None:
            del values[key]
            continue
        if key == "dynamics" and values[key] is None and parameter.default is parameter.empty:
            raise InvalidInput(
                f"score {name} needs a log of the epochs, and run {inputs.run_id} kept none; "
                "take another score, or train a network with --set log_every=1"
            )
        if key in ("embeddings", "probe_probs"):
            use &= inputs.embedded
        if key == "probe_probs":
            use &= np.isfinite(values[key]).all(axis=1)
    if not use.any():
        raise InvalidInput(
            f"score {name}: no clip has an embedding by {inputs.probe.embedding.embedder}; "
            "see: labelkit check"
        )
    if not use.all():
        if "window_clips" in values:
            # Windows are rows of their own: those of the clips that stay, numbered anew.
            mine = use[values["window_clips"]]
            values["window_clips"] = (np.cumsum(use) - 1)[values["window_clips"][mine]]
            values["window_probs"] = values["window_probs"][mine]
        values = {
            key: value if key.startswith("window_") else _take(value, use)
            for key, value in values.items()
        }
    try:
        found = np.asarray(function(**values), float)
    except InvalidInput as error:
        raise InvalidInput(f"score {name}: {error}") from error
    if found.shape != (use.sum(),):
        raise InvalidInput(
            f"score {name} gave numbers of shape {found.shape} for {use.sum()} clips; it must "
            "give one a clip"
        )
    scores = np.full(len(use), np.nan)
    scores[use] = found
    return scores


def _take(value: Any, use: Bools) -> Any:
    if isinstance(value, Dynamics):
        return Dynamics(*(part[use] for part in vars(value).values()))
    return None if value is None else value[use]
