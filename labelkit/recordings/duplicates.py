"""Recordings that are copies of each other, and where that is a leak.

Spectrograms tell which may be; the same sound are those alone whose waveforms are, laid over each
other. All others only sound alike, and nothing follows from that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from labelkit.audio.alignment import Alignment
from labelkit.config import FeatureSpec
from labelkit.noise.similarity import THRESHOLD, find_lag, find_near_duplicates
from labelkit.progress import say
from labelkit.project import Project
from labelkit.recordings.confirming import LONGEST_S, Candidate, confirm
from labelkit.recordings.features import compute_features
from labelkit.recordings.usable import same_recordings, unusable
from labelkit.records import LabelTable
from labelkit.states import REJECTED
from labelkit.stores.arrays import FeatureStore
from labelkit.types import Floats, Ints

# What is said of clips whose waveforms are not the same.
ALIKE = "alike"
# No copy is less similar, as far as can be told before waveforms are compared.
_LOWEST = 0.25


@dataclass(frozen=True, kw_only=True)
class DuplicatePair:
    """Two clips that are copies of each other or sound alike, and why it is said.

    ``what`` is ``same bytes``, ``same sound`` or ``alike``. ``similarity`` of the spectrograms is
    in [0, 1], and so is ``correlation``, that of the samples, which is 0.95 at least for the same
    sound; ``offset_s`` is where in the first clip the other one begins. ``parted`` is ``folds`` or
    ``subsets`` where those part the same sound, which is a leak.
    """

    path: str
    other: str
    what: str
    similarity: float
    correlation: float
    offset_s: float
    labels: list[str]
    other_labels: list[str]
    same_source: bool
    parted: str | None
    reason: str


@dataclass(frozen=True)
class Pair:
    """Rows of two clips, how similar their spectrograms are, and how their waveforms lie."""

    clip: int
    other: int
    similarity: float
    alignment: Alignment = field(default_factory=lambda: Alignment(1.0, 1.0))

    @property
    def is_same(self) -> bool:
        """Whether the two are the same sound, not only alike."""
        return self.alignment.is_same


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

    def remarks(self, clip: int, other: int, *, is_copy: bool = True) -> list[str]:
        """List what is to be said of ``other`` as a copy of ``clip``, or as no more than alike."""
        found = []
        if set(self.table.labels[clip]) != set(self.table.labels[other]):
            found.append(f"labelled {', '.join(self.table.names(other)) or 'with nothing'}")
        parted = self.parted(clip, other) if is_copy else None
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
    """List pairs of clips that are copies of each other or alike; rejected clips are left out.

    Of several clips with the same bytes each is paired with the first one, and only that
    one with near-duplicates.

    Args:
        project: Whose recordings.
        spec: Spectrograms to compare; computed where they are missing.
        threshold: Lowest similarity of a pair. If None, that of ``find_near_duplicates`` for those
            that are alike, and of the same sound all that are found.
        workers: Processes that compute at once; all cores if None.

    Returns:
        Pairs: of the same bytes first, then of the same sound, then alike, the most similar first.

    Raises:
        InvalidInput: If the threshold is out of range.
    """
    standing = read_standing(project)
    table = standing.table
    store = compute_features(project, spec, workers=workers)
    use = usable_rows(store, table)
    contents = [store.entries[table.paths[row]].content_hash for row in use]
    exact = [
        Pair(int(use[twins[0]]), int(use[twin]), 1.0)
        for twins in group_exact(contents)
        for twin in twins[1:]
    ]
    near = pair_near(project, store, table.paths, use, threshold, workers=workers)
    least = THRESHOLD if threshold is None else threshold
    alike = [pair for pair in near if not pair.is_same and pair.similarity >= least]
    told = [
        *((pair, "same bytes") for pair in exact),
        *((pair, "same sound") for pair in near if pair.is_same),
        *((pair, ALIKE) for pair in alike),
    ]
    return [_describe(standing, pair, what) for pair, what in told]


def _describe(standing: Standing, pair: Pair, what: str) -> DuplicatePair:
    """Say what is known of a pair."""
    table, clip, other = standing.table, pair.clip, pair.other
    is_copy = what != ALIKE
    remarks = standing.remarks(clip, other, is_copy=is_copy)
    return DuplicatePair(
        path=table.paths[clip],
        other=table.paths[other],
        what=what,
        similarity=round(pair.similarity, 4),
        correlation=round(pair.alignment.correlation, 4),
        offset_s=round(pair.alignment.offset_s, 4),
        labels=table.names(clip),
        other_labels=table.names(other),
        same_source=standing.same_source(clip, other),
        parted=standing.parted(clip, other) if is_copy else None,
        reason=", ".join([f"the {what}" if is_copy else what, *remarks]),
    )


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
    project: Project,
    store: FeatureStore,
    paths: Sequence[str],
    use: Ints,
    threshold: float | None = None,
    *,
    workers: int | None = None,
) -> list[Pair]:
    """Find clips of different bytes that may be copies, and align them.

    Args:
        project: Whose recordings.
        store: Spectrograms of all clips to use.
        paths: Paths of all clips.
        use: Rows of the clips to compare; of equal bytes the first one is taken.
        threshold: Lowest similarity of a pair; as low as a copy may have if None.
        workers: Processes that align at once; as many as cores and memory allow if None.

    Returns:
        The pairs, the most similar first.
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
    pairs, similarity = find_near_duplicates(
        frames, threshold=_LOWEST if threshold is None else threshold
    )
    rows = use[first[pairs]].tolist()
    candidates = [
        _place(store, (paths[row], paths[other]), (frames[a], frames[b]))
        for (row, other), (a, b) in zip(rows, pairs.tolist(), strict=True)
    ]
    alignments = confirm(project.audio_dir, candidates, workers=workers) if candidates else []
    return [
        Pair(row, other, value, alignment)
        for (row, other), value, alignment in zip(
            rows, similarity.tolist(), alignments, strict=True
        )
    ]


def _place(store: FeatureStore, paths: tuple[str, str], frames: tuple[Floats, Floats]) -> Candidate:
    """Say what of two recordings to align: of long ones what lies over each other."""
    hop_s = store.spec.hop_length / store.spec.sample_rate
    if max(map(len, frames)) * hop_s <= LONGEST_S:
        return Candidate(*paths)
    begins = [store.entries[path].start_s for path in paths]
    offset_s = find_lag(*frames) * hop_s + begins[0] - begins[1]
    ends = [start + len(one) * hop_s for start, one in zip(begins, frames, strict=True)]
    # What they have in common, in seconds of the first one.
    start, stop = max(begins[0], offset_s + begins[1]), min(ends[0], offset_s + ends[1])
    start = max(0.0, start, (start + stop - LONGEST_S) / 2)
    return Candidate(*paths, start_s=start, other_start_s=max(0.0, start - offset_s))
