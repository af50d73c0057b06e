"""What a training reads: labels, folds, and what the learner hears, taken at one moment.

A network hears spectrograms, a classifier embeddings; which of the two learns is asked here
once, and everything else asks the learner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from labelkit import metrics
from labelkit.config import Recipe, choose_head, fingerprint
from labelkit.errors import NotYet
from labelkit.noise.probe import check_probe, is_panel
from labelkit.progress import say
from labelkit.project import Project
from labelkit.recordings.embedding import compute_embeddings, read_embeddings, view_widths
from labelkit.recordings.features import compute_features, compute_variant, read_variant
from labelkit.recordings.usable import parted_twins, unusable
from labelkit.records import Frames, LabelTable, Windows, multi_hot
from labelkit.runs.folds import freeze_folds
from labelkit.states import REJECTED, RELABELED, TRUSTED_STATES, UNVERIFIED, VERIFIED
from labelkit.stores.arrays import ArrayStore
from labelkit.types import Bools, Floats, Ints

if TYPE_CHECKING:
    from labelkit.training.crossfit import CrossFit
    from labelkit.training.predict import WindowProbs
    from labelkit.training.probefit import ProbeFit


@dataclass(frozen=True)
class Network:
    """A network, which hears spectrograms of the clips of a run: training, then held-out ones.

    ``recordings`` are the hashes of their bytes; ``starts_s`` says where the first frame of each
    clip lies in its recording, in seconds.
    """

    recipe: Recipe
    recordings: list[str] = field(repr=False)
    frames: Frames
    variants: dict[str, Frames]
    starts_s: Floats = field(repr=False)

    def describe(self) -> str:
        """Name what judges, for signatures."""
        return f"features {fingerprint(self.recipe.features)}"

    def identify(self, settings: dict[str, Any]) -> list[Any]:
        """List what tells this learner from others, and drop settings it does not read."""
        del settings["probe"], settings["embedding"]
        return []

    def fit_predict(self, data: Dataset, shared: dict[str, Any], **network: Any) -> CrossFit:
        """Set up the trainings of all folds; ``network`` is what no classifier has use for."""
        from labelkit.training.crossfit import CrossFit

        return CrossFit(
            **shared,
            **network,
            frames=self.frames,
            variants=self.variants,
            once_noisy=data.once_noisy,
            paths=data.paths,
            classes=data.table.classes,
            head=data.head,
        )

    def workers(self, wanted: int | None) -> int | None:
        """Take all cores where nothing is said."""
        return wanted

    def locate(self, clip_ids: Ints, found: WindowProbs) -> Windows:
        """Say where windows lie: frames are seconds, slower or faster ones of a variant too."""
        spec = self.recipe.features
        hop_s, starts_s = spec.hop_length / spec.sample_rate * spec.speed, self.starts_s[found.rows]
        return Windows(
            clip_ids=clip_ids[found.rows],
            starts_s=starts_s + found.first * hop_s,
            ends_s=starts_s + found.last * hop_s,
            probs=found.probs,
        )


@dataclass(frozen=True)
class Classifier:
    """A classifier, which hears embeddings of the same clips.

    ``name`` is the embedder's and stands for all its vectors depend on; ``matrix`` has the
    shape ``(n_clips, dim)``; ``durations_s`` are those of the recordings, NaN where unknown;
    ``views`` says of how many numbers each the vectors consist.
    """

    recipe: Recipe
    recordings: list[str] = field(repr=False)
    name: str
    matrix: Floats = field(repr=False)
    durations_s: Floats = field(repr=False)
    views: tuple[int, ...] = ()

    def describe(self) -> str:
        """Name the classifier and the embedder."""
        return f"{self.recipe.probe.classifier} on {self.name}"

    def identify(self, settings: dict[str, Any]) -> list[Any]:
        """Tell its vectors by their name."""
        return [self.name]

    def fit_predict(self, data: Dataset, shared: dict[str, Any], **network: Any) -> ProbeFit:
        """Set up the fits of all folds."""
        from labelkit.training.probefit import ProbeFit

        return ProbeFit(**shared, embeddings=self.matrix, views=self.views)

    def workers(self, wanted: int | None) -> int | None:
        """Take one where nothing is said, or a panel judges all folds together."""
        return 1 if is_panel(self.recipe.probe.classifier or "") else wanted or 1

    def locate(self, clip_ids: Ints, found: WindowProbs) -> Windows:
        """Say that each clip is one window."""
        return Windows(
            clip_ids=clip_ids[found.rows],
            starts_s=np.zeros(len(found.rows)),
            ends_s=self.durations_s[found.rows],
            probs=found.probs,
        )


@dataclass(frozen=True)
class Dataset:
    """Everything a training reads, taken from the store at one moment.

    ``train`` and ``test`` are indices into ``table``: training clips that can be heard and are
    not rejected, and held-out clips that can. ``learner`` hears both, in this order.
    ``once_noisy`` are training clips that came in unverified, ``unsure`` pairs of clip and
    class ids that a person could not decide on.
    """

    table: LabelTable
    train: Ints
    test: Ints
    labels: Floats
    human: Bools
    trusted: Bools
    once_noisy: Bools
    unsure: list[tuple[int, int]]
    folds: Ints
    fold_set: str
    head: str
    learner: Network | Classifier

    @property
    def ids(self) -> Ints:
        """Clip ids of the training clips."""
        ids: Ints = self.table.clip_ids[self.train]
        return ids

    @property
    def all_ids(self) -> Ints:
        """Clip ids of training clips and, behind them, held-out ones."""
        ids: Ints = self.table.clip_ids[np.concatenate([self.train, self.test])]
        return ids

    @property
    def paths(self) -> list[str]:
        """Paths of training clips and, behind them, held-out ones."""
        return [self.table.paths[i] for i in np.concatenate([self.train, self.test])]

    def mask(self) -> Floats | None:
        """Return the classes that count in the loss of each training clip; None if all do."""
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
        """Name of the score on labels: accuracy, or lwlrap for several labels."""
        return "accuracy" if self.head == "softmax" else "lwlrap"

    def score(self, labels: Floats, probs: Floats) -> float:
        """Compute the :attr:`metric` of probabilities."""
        return (metrics.accuracy if self.head == "softmax" else metrics.lwlrap)(labels, probs)

    def test_labels(self) -> Floats:
        """Return the multi-hot labels of the held-out clips."""
        return multi_hot([self.table.labels[i] for i in self.test], len(self.table.classes))


def read_dataset(
    project: Project, recipe: Recipe, *, workers: int | None, device: str = "cpu"
) -> Dataset:
    """Compute what is missing of features and folds, and read the labels as they stand.

    Raises:
        InvalidInput: If nothing can be trained on, the head does not fit the labels, or the
            classifier has no such option.
    """
    classifies = bool(recipe.probe.classifier)
    if classifies:
        check_probe(recipe.probe)
    with project.store.read() as session:
        if not session.labels().paths:
            raise NotYet("the project has no clips; bring some in with: labelkit import FILE")
    arrays: ArrayStore
    if classifies:
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
    train, test = _usable_clips(arrays, table, folds)
    heard = np.concatenate([train, test])
    chosen = dict(zip(table.clip_ids[heard].tolist(), (table.paths[i] for i in heard), strict=True))
    states, ids = table.states[train], table.clip_ids[train].tolist()
    labels = multi_hot([table.labels[i] for i in train], len(table.classes))
    hear = _hear_embeddings if classifies else _hear_spectrograms
    return Dataset(
        table=table,
        train=train,
        test=test,
        labels=labels,
        human=np.isin(states, (VERIFIED, RELABELED)),
        trusted=np.isin(states, TRUSTED_STATES),
        once_noisy=np.array([first_states[i] == UNVERIFIED for i in ids]),
        unsure=unsure,
        folds=np.array([folds[i] for i in ids]),
        fold_set=fold_set,
        head=choose_head(recipe.model.head, several=table.several),
        learner=hear(project, recipe, arrays, chosen, workers, device),
    )


def _usable_clips(
    arrays: ArrayStore, table: LabelTable, folds: dict[int, int]
) -> tuple[Ints, Ints]:
    """Choose the training clips and the held-out ones that can be used, and tell of the others.

    Raises:
        InvalidInput: If nothing can be trained on.
    """
    left_out = unusable(arrays, table)
    usable = np.array([path not in left_out for path in table.paths])
    usable &= table.states != REJECTED
    usable &= ~parted_twins(arrays, table, folds, usable)
    train = np.flatnonzero(usable & (table.subsets == "train"))
    if left_out:
        wanted = int(((table.subsets == "train") & (table.states != REJECTED)).sum())
        kinds = Counter(left_out.values()).most_common()
        why = ", ".join(f"{n} {fault} ({_first(left_out, fault)} say)" for fault, n in kinds)
        say(f"trained on {len(train)} of {wanted} clips; of all recordings are left out: {why}")
    if not len(train):
        raise NotYet("no usable training clip; see: labelkit check")
    if len(table.classes) < 2:
        raise NotYet("the project has a single class; nothing can be told from it")
    return train, np.flatnonzero(usable & (table.subsets == "test"))


def _first(left_out: Mapping[str, str], fault: str) -> str:
    return next(path for path, why in left_out.items() if why == fault)


def _hear_spectrograms(
    project: Project,
    recipe: Recipe,
    arrays: ArrayStore,
    clips: dict[int, str],
    workers: int | None,
    device: str,
) -> Network:
    paths = list(clips.values())
    names = sorted({name for stage in recipe.stages.values() for name in stage.variants})
    variants = {
        name: compute_variant(project, read_variant(recipe.features, name), paths, workers, device)
        for name in names
    }
    return Network(
        recipe=recipe,
        recordings=[arrays.entries[path].content_hash for path in paths],
        frames=Frames(arrays.frames_path, *arrays.places(paths)),
        variants=variants,
        starts_s=arrays.starts_s(paths),
    )


def _hear_embeddings(
    project: Project, recipe: Recipe, arrays: ArrayStore, clips: dict[int, str], *rest: Any
) -> Classifier:
    paths = list(clips.values())
    matrix, _ = read_embeddings(project, recipe.embedding, recipe.features, paths)
    with project.store.read() as session:
        durations_s = session.durations_s()
    return Classifier(
        recipe=recipe,
        recordings=[arrays.entries[path].content_hash for path in paths],
        name=arrays.folder.name,
        matrix=matrix,
        durations_s=np.array([durations_s[clip_id] for clip_id in clips], float),
        views=view_widths(project, recipe.embedding, recipe.features),
    )
