"""Recordings that are copies of each other, and where that is a leak."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelkit.config import FeatureSpec
from labelkit.noise.similarity import find_near_duplicates
from labelkit.progress import say
from labelkit.project import Project
from labelkit.recordings.features import compute_features
from labelkit.recordings.usable import same_recordings, unusable
from labelkit.records import LabelTable
from labelkit.states import REJECTED
from labelkit.stores.arrays import FeatureStore
from labelkit.types import Ints


@dataclass(frozen=True, kw_only=True)
class DuplicatePair:
    """Two clips that are copies of each other, and why it is said.

    ``similarity`` is in [0, 1], 1 for copies. ``parted`` is ``folds`` or ``subsets`` where those
    part the two, which is a leak.
    """

    path: str
    other: str
    similarity: float
    labels: list[str]
    other_labels: list[str]
    same_source: bool
    parted: str | None
    reason: str


@dataclass(frozen=True)
class Standing:
    """What it matters of two clips if they are copies of each other.

    Args:
        table: The labels as they stand.
        sources: What no fold may part, of each clip, see :func:`same_recordings`.
        folds: Fold of each clip id in the newest fold set; empty where there is none.
    """

    table: LabelTable
    sources: Sequence[str | None]
    folds: dict[int, int]

    def fold(self, clip: int) -> int | None:
        """Return the fold of a clip; None if it has none."""
        return self.folds.get(int(self.table.clip_ids[clip]))

    def same_source(self, clip: int, other: int) -> bool:
        """Tell whether two clips come of one source or are the same bytes."""
        return self.sources[clip] is not None and self.sources[clip] == self.sources[other]

    def parted(self, clip: int, other: int) -> str | None:
        """Tell what parts two clips, ``subsets`` or ``folds``; None if models hear both or none."""
        if self.table.subsets[clip] != self.table.subsets[other]:
            return "subsets"
        folds = self.fold(clip), self.fold(other)
        return "folds" if None not in folds and folds[0] != folds[1] else None

    def remarks(self, clip: int, other: int) -> list[str]:
        """List what is to be said of ``other`` as a copy of ``clip``."""
        found = []
        if set(self.table.labels[clip]) != set(self.table.labels[other]):
            found.append(f"labelled {', '.join(self.table.names(other)) or 'with nothing'}")
        parted = self.parted(clip, other)
        if parted == "subsets":
            subset = self.table.subsets
            found.append(f"a leak: in {subset[other]}, not in {subset[clip]}")
        elif parted == "folds":
            found.append(f"a leak: in fold {self.fold(other)}, not {self.fold(clip)}")
        groups = self.table.groups
        if groups[clip] is not None and groups[clip] == groups[other]:
            found.append("of the same source")
        return found


def read_standing(project: Project) -> Standing:
    """Read the labels, sources and folds as they stand."""
    with project.store.read() as session:
        table, fold_sets = session.labels(), session.fold_sets()
        folds = session.folds(fold_sets[-1]) if fold_sets else {}
    return Standing(table, same_recordings(table), folds)


def list_duplicates(
    project: Project,
    spec: FeatureSpec,
    *,
    threshold: float | None = None,
    workers: int | None = None,
) -> list[DuplicatePair]:
    """List pairs of clips that are copies of each other; rejected clips are left out.

    Of several clips with the same bytes each is paired with the first one, and only that
    one with near-duplicates.

    Args:
        project: Whose recordings.
        spec: Spectrograms to compare; computed where they are missing.
        threshold: Lowest similarity of a pair; that of ``find_near_duplicates`` if None.
        workers: Processes that compute at once; all cores if None.

    Returns:
        Pairs: of the same bytes first, then the most similar.

    Raises:
        InvalidInput: If the threshold is out of range.
    """
    standing = read_standing(project)
    table = standing.table
    store = compute_features(project, spec, workers=workers)
    use = usable_rows(store, table)
    contents = [store.entries[table.paths[row]].content_hash for row in use]
    exact = [
        (int(use[twins[0]]), int(use[twin]), 1.0, "the same bytes")
        for twins in group_exact(contents)
        for twin in twins[1:]
    ]
    near = [(*pair, "the same sound") for pair in pair_near(store, table.paths, use, threshold)]
    return [
        DuplicatePair(
            path=table.paths[clip],
            other=table.paths[other],
            similarity=round(similarity, 4),
            labels=table.names(clip),
            other_labels=table.names(other),
            same_source=standing.same_source(clip, other),
            parted=standing.parted(clip, other),
            reason=", ".join([what, *standing.remarks(clip, other)]),
        )
        for clip, other, similarity, what in [*exact, *near]
    ]


def usable_rows(store: FeatureStore, table: LabelTable) -> Ints:
    """Return the rows of clips that have a spectrogram and are not rejected."""
    left_out = unusable(store, table)
    there = np.array([path not in left_out for path in table.paths], bool)
    return np.flatnonzero(there & (table.states != REJECTED))


def group_exact(contents: Sequence[str | None]) -> list[list[int]]:
    """Group indices of equal hashes, at least two a group; None equals nothing."""
    groups = defaultdict(list)
    for index, content in enumerate(contents):
        if content is not None:
            groups[content].append(index)
    return [group for group in groups.values() if len(group) > 1]


def pair_near(
    store: FeatureStore, paths: Sequence[str], use: Ints, threshold: float | None = None
) -> list[tuple[int, int, float]]:
    """Find copies among clips of different bytes.

    Args:
        store: Spectrograms of all clips to use.
        paths: Paths of all clips.
        use: Rows of the clips to compare; of equal bytes the first one is taken.
        threshold: Lowest similarity of a pair; that of ``find_near_duplicates`` if None.

    Returns:
        Row, row and similarity of each pair, the most similar first.
    """
    starts, lengths = store.places([paths[row] for row in use])
    # Equal bytes have their frames in common.
    first = np.sort(np.unique(starts, return_index=True)[1])
    if len(first) < 2:
        return []
    say(f"comparing {len(first)} spectrograms")
    # A plain view of the file: slices of a memory map cost much more.
    matrix = np.asarray(np.memmap(store.frames_path, np.float16, mode="r"))
    matrix = matrix[: len(matrix) // store.spec.n_mels * store.spec.n_mels]
    matrix = matrix.reshape(-1, store.spec.n_mels)
    frames = [matrix[starts[k] : starts[k] + lengths[k]] for k in first]
    pairs, similarity = (
        find_near_duplicates(frames)
        if threshold is None
        else find_near_duplicates(frames, threshold=threshold)
    )
    rows = use[first[pairs]].tolist()
    return [(a, b, value) for (a, b), value in zip(rows, similarity.tolist(), strict=True)]
