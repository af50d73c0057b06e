"""What a training reads: labels, folds and spectrograms or embeddings, taken at one moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from labelkit import metrics
from labelkit.config import FeatureSpec, ProbeSpec, Recipe, create_spec, fingerprint
from labelkit.errors import InvalidInput
from labelkit.noise.probe import Probe
from labelkit.progress import say
from labelkit.project import Project
from labelkit.recordings.embedding import compute_embeddings, read_embeddings
from labelkit.recordings.features import compute_features
from labelkit.recordings.usable import unusable
from labelkit.records import (
    REJECTED,
    RELABELED,
    TRUSTED_STATES,
    UNVERIFIED,
    VERIFIED,
    Frames,
    LabelTable,
    multi_hot,
)
from labelkit.runs.folds import freeze_folds
from labelkit.stores.arrays import ArrayStore


@dataclass(frozen=True)
class Embeddings:
    """What a classifier learns from instead of spectrograms.

    ``matrix`` has the shape ``(n_clips, dim)``; ``name`` is the embedder's and stands for
    all it depends on; ``durations_s`` are those of the recordings, NaN where unknown.
    """

    name: str
    matrix: np.ndarray
    durations_s: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Everything a training reads, taken from the store at one moment.

    ``train`` and ``test`` are indices into ``table``: training clips with a
    spectrogram that are not rejected, and locked clips with one. ``frames``, ``variants``,
    ``starts_s`` and ``recordings`` go over both, in this order. ``once_noisy`` are training
    clips that came in unverified, ``unsure`` pairs of clip and class ids that a person
    could not decide on. Where a classifier is trained there are ``embeddings`` of both
    instead of ``frames``.
    """

    table: LabelTable
    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    human: np.ndarray
    trusted: np.ndarray
    once_noisy: np.ndarray
    unsure: list[tuple[int, int]]
    folds: np.ndarray
    fold_set: str
    head: str
    frames: Frames | None
    variants: dict[str, Frames]
    starts_s: np.ndarray
    recordings: list[str]
    embeddings: Embeddings | None = None

    @property
    def ids(self) -> np.ndarray:
        """Clip ids of the training clips."""
        return self.table.clip_ids[self.train]

    @property
    def all_ids(self) -> np.ndarray:
        """Clip ids of training clips and, behind them, locked ones."""
        return self.table.clip_ids[np.concatenate([self.train, self.test])]

    @property
    def paths(self) -> list[str]:
        """Paths of training clips and, behind them, locked ones."""
        return [self.table.paths[i] for i in np.concatenate([self.train, self.test])]

    def mask(self) -> np.ndarray | None:
        """Classes that count in the loss of each training clip; None if all do."""
        if not self.unsure:
            return None
        row = {int(clip_id): k for k, clip_id in enumerate(self.ids)}
        mask = np.ones(self.labels.shape, np.float32)
        for clip_id, class_id in self.unsure:
            if clip_id in row:
                mask[row[clip_id], class_id] = 0
        return mask

    @property
    def metric(self) -> str:
        """What a score on labels is called here: accuracy, or lwlrap for several labels."""
        return "accuracy" if self.head == "softmax" else "lwlrap"

    def score(self, labels: np.ndarray, probs: np.ndarray) -> float:
        """The :attr:`metric` of probabilities."""
        return (metrics.accuracy if self.head == "softmax" else metrics.lwlrap)(labels, probs)

    def test_labels(self) -> np.ndarray:
        """Multi-hot labels of the locked clips."""
        return multi_hot([self.table.labels[i] for i in self.test], len(self.table.classes))


def read_dataset(
    project: Project, recipe: Recipe, *, workers: int | None, device: str = "cpu"
) -> Dataset:
    """Compute what is missing of features and folds, and read the labels as they stand.

    Raises:
        InvalidInput: If nothing can be trained on, the head does not fit the labels, or the
            classifier has no such option.
    """
    probe = bool(recipe.probe.classifier)
    if probe:
        _check_probe(recipe.probe)
    with project.store.read() as session:
        if not session.labels().paths:
            raise InvalidInput("the project has no clips; bring some in with: labelkit import FILE")
    arrays: ArrayStore
    if probe:
        arrays = compute_embeddings(
            project, recipe.embedding, recipe.features, workers=workers, device=device
        )
    else:
        arrays = compute_features(project, recipe.features, workers=workers, device=device)
    fold_set = freeze_folds(project)
    with project.current.read() as session:
        # A clip never changes its fold, so what stands now stood then.
        folds = session.folds(fold_set)
    with project.store.read() as session:
        table = session.labels()
        first_states, unsure = session.first_states(), session.unsure()
    left_out = unusable(arrays, table)
    if left_out:
        some = ", ".join(f"{path} ({fault})" for path, fault in list(left_out.items())[:3])
        say(f"{len(left_out)} clips are left out: {some}{' ...' if len(left_out) > 3 else ''}")
    usable = np.array([path not in left_out for path in table.paths])
    usable &= table.states != REJECTED
    usable &= ~_parted_twins(arrays, table, folds, usable)
    train = np.flatnonzero(usable & (table.subsets == "train"))
    test = np.flatnonzero(usable & (table.subsets == "test"))
    if not len(train):
        raise InvalidInput("no usable training clip; see: labelkit check")
    if len(table.classes) < 2:
        raise InvalidInput("the project has a single class; nothing can be told from it")
    states = table.states[train]
    chosen = [table.paths[i] for i in np.concatenate([train, test])]
    names = sorted({name for stage in recipe.stages.values() for name in stage.variants})
    variants = {
        name: _variant(project, read_variant(recipe.features, name), chosen, workers, device)
        for name in names
    }
    labels = multi_hot([table.labels[i] for i in train], len(table.classes))
    return Dataset(
        table=table,
        train=train,
        test=test,
        labels=labels,
        human=np.isin(states, (VERIFIED, RELABELED)),
        trusted=np.isin(states, TRUSTED_STATES),
        once_noisy=np.array([first_states[int(i)] == UNVERIFIED for i in table.clip_ids[train]]),
        unsure=unsure,
        folds=np.array([folds[int(i)] for i in table.clip_ids[train]]),
        fold_set=fold_set,
        head=choose_head(recipe.model.head, labels),
        frames=None if probe else Frames(arrays.frames_path, *arrays.places(chosen)),
        variants=variants,
        starts_s=arrays.starts_s(chosen),
        recordings=[arrays.entries[path].content_hash for path in chosen],
        embeddings=_read_embeddings(project, recipe, arrays.folder.name, chosen) if probe else None,
    )


def _check_probe(spec: ProbeSpec) -> None:
    """Refuse a classifier that cannot be made, before embeddings are computed for it."""
    nothing = np.zeros((1, 2))
    try:
        Probe(
            embeddings=nothing,
            labels=nothing,
            folds=np.zeros(1, int),
            classifier=spec.classifier or "",
            options=spec.options,
        )
    except TypeError as error:
        raise InvalidInput(f"probe.classifier {spec.classifier}: {error}") from error


def _read_embeddings(project: Project, recipe: Recipe, name: str, paths: list[str]) -> Embeddings:
    matrix, _ = read_embeddings(project, recipe.embedding, recipe.features, paths)
    with project.store.read() as session:
        table, durations_s = session.labels(), session.durations_s()
    clip_id = dict(zip(table.paths, table.clip_ids.tolist(), strict=True))
    return Embeddings(name, matrix, np.array([durations_s[clip_id[path]] for path in paths], float))


def read_variant(spec: FeatureSpec, name: str) -> FeatureSpec:
    """Features of an offline variant, ``speed:0.9`` or ``semitones:2``.

    Raises:
        InvalidInput: If it is neither.
    """
    key, _, value = name.partition(":")
    if key not in ("speed", "semitones"):
        raise InvalidInput(f"no variant {name!r}; write speed:FACTOR or semitones:NUMBER")
    return create_spec(FeatureSpec, asdict(spec) | {key: value}, "variant ")


def _variant(
    project: Project,
    spec: FeatureSpec,
    paths: list[str],
    workers: int | None,
    device: str,
) -> Frames:
    features = compute_features(project, spec, workers=workers, device=device)
    starts, lengths = features.places(paths)
    if not lengths.all():
        raise InvalidInput(
            f"{paths[int(lengths.argmin())]} cannot be had at speed {spec.speed:g}, shifted by "
            f"{spec.semitones:g} semitones; leave out variants"
        )
    return Frames(features.frames_path, starts, lengths)


def _parted_twins(
    arrays: ArrayStore, table: LabelTable, folds: dict[int, int], usable: np.ndarray
) -> np.ndarray:
    """Clips with the same bytes as an earlier one in another fold or subset, to be left out.

    An import that saw the recordings keeps them together; one of metadata alone cannot.
    """
    first: dict[str, int] = {}
    parted = np.zeros(len(table.paths), bool)
    for clip in np.flatnonzero(usable):
        twin = first.setdefault(arrays.entries[table.paths[clip]].content_hash, clip)
        places = [(table.subsets[k], folds.get(int(table.clip_ids[k]))) for k in (clip, twin)]
        if places[0] != places[1]:
            parted[clip] = True
            say(f"{table.paths[clip]} is left out: the same recording as {table.paths[twin]}")
    return parted


def choose_head(head: str, labels: np.ndarray) -> str:
    """The head a recipe asks for, or the one that fits the labels.

    Raises:
        InvalidInput: If softmax is asked for and a clip has several labels.
    """
    several = int((labels.sum(axis=1) > 1).sum())
    if head == "softmax" and several:
        raise InvalidInput(f"model.head is softmax, but {several} clips have several labels")
    return ("sigmoid" if several else "softmax") if head == "auto" else head


def run_key(
    kind: str,
    recipe: Recipe,
    seed: int,
    device: str,
    data: Dataset,
    states: np.ndarray,
    start: str | None = None,
) -> str:
    """Name of a run: equal for equal settings, seed, device, recordings, folds and labels."""
    clips = [
        (path, data.table.labels[i], str(state), int(fold))
        for path, i, state, fold in zip(
            [data.table.paths[i] for i in data.train], data.train, states, data.folds, strict=True
        )
    ]
    locked = [(data.table.paths[i], data.table.labels[i]) for i in data.test]
    settings = asdict(replace(recipe, changes=()))
    if data.embeddings is None:
        del settings["probe"], settings["embedding"]
    content = [
        settings,
        seed,
        device,
        clips,
        locked,
        data.recordings,
        data.fold_set,
    ]
    content += [data.table.classes, data.head, data.unsure, data.once_noisy.tolist()]
    content += [start] if start else []
    content += [data.embeddings.name] if data.embeddings else []
    return f"{kind}-{fingerprint(content)}"
