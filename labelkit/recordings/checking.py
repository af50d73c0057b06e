"""What is wrong with clips apart from their labels."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from labelkit.audio import faults, io
from labelkit.audio.faults import Inspection
from labelkit.config import FeatureSpec, Recipe, read_recipe
from labelkit.executor import Executor, worker_count
from labelkit.folds import group_indices
from labelkit.noise.neighbours import find_neighbours, find_off_topic
from labelkit.progress import say, track
from labelkit.project import Project
from labelkit.recordings.duplicates import (
    Standing,
    group_exact,
    pair_near,
    read_standing,
    usable_rows,
)
from labelkit.recordings.embedding import compute_embeddings, read_embeddings
from labelkit.recordings.features import WORKER_MB, compute_features
from labelkit.states import REJECTED
from labelkit.stores.arrays import FeatureStore

# A rate is that of the set if such a share of the recordings has it.
_USUAL_SHARE = 0.95
# Clips that an off-topic one is compared with.
_NEIGHBOURS = 10
# Clips that tell how similar the nearest one usually is.
_SAMPLE = 500
# Clips of one issue that are a matter of the set, if they are most of it.
_MANY = 20
# Copies of a clip that are named.
_NAMED = 3

# Row of a clip, what is wrong with it, and why it is said.
Issue = tuple[int, str, str]


@dataclass(frozen=True, kw_only=True)
class ClipIssue:
    """Something that is wrong with a clip, and why it is said.

    ``issue`` is a key of ``faults.REASONS``; ``used`` tells whether the clip is trained on.
    """

    path: str
    issue: str
    used: bool
    reason: str


@dataclass(frozen=True)
class Inspector:
    """Looks at one recording; a top-level class, so that workers can have it."""

    audio_dir: Path
    spec: FeatureSpec
    window_s: float

    def __call__(self, path: str) -> tuple[str | None, Inspection]:
        """Inspect the recording at ``path`` below the audio folder, and hash it."""
        file = self.audio_dir / path
        found = faults.inspect(file, self.spec, window_s=self.window_s)
        try:
            return None if "missing" in found.faults else io.hash_file(file), found
        except OSError as error:
            return None, faults.say_unread(error)


def check(
    project: Project,
    recipe: Recipe,
    *,
    probe: Recipe | None = None,
    fast: bool = False,
    workers: int | None = None,
) -> list[ClipIssue]:
    """List what is wrong with clips apart from their labels; nothing is changed.

    Rejected clips are searched for faults, but not for copies and outliers.

    Args:
        project: Whose recordings.
        recipe: Says how long a window is.
        probe: Recipe of the spectrograms and embeddings that are compared, computed where
            they are missing; ``probe`` if None.
        fast: Leave out near-duplicates and outliers, which need those.
        workers: Processes at once; all cores if None.

    Returns:
        Issues, in the order of the paths.

    Raises:
        RecordingsGone: If there is no audio folder.
    """
    standing = read_standing(project)
    paths = standing.table.paths
    project.check_audio()
    window_s = recipe.input.frames * recipe.features.hop_length / recipe.features.sample_rate
    inspector = Inspector(project.audio_dir, recipe.features, window_s)
    contents, found = _inspect(paths, inspector, workers)
    issues = list(_faults(standing, contents, found))
    groups = group_exact(
        [
            None if {"empty", "silent"} & set(one.faults) or state == REJECTED else content
            for content, one, state in zip(contents, found, standing.table.states, strict=True)
        ]
    )
    pairs = [(*pair, 1.0) for group in groups for pair in itertools.combinations(group, 2)]
    issues += _copies(standing, "exact_duplicate", pairs)
    issues += _rates(found)
    if not fast:
        probe = probe or read_recipe("probe")
        store = compute_features(project, probe.features, workers=workers)
        issues += _left_out(store, standing, issues)
        use = usable_rows(store, standing.table)
        issues += _copies(standing, "near_duplicate", pair_near(store, paths, use))
        issues += _outliers(project, standing, probe, workers)
    used = (standing.table.subsets == "train") & (standing.table.states != REJECTED)
    out = (*faults.UNUSABLE, *faults.PASSING)
    unfit = {row for row, issue, _ in issues if issue in out}
    used[[*unfit, *_parted_twins(standing, groups, unfit)]] = False
    order = list(faults.REASONS)
    issues.sort(key=lambda issue: (paths[issue[0]], order.index(issue[1])))
    return [
        ClipIssue(
            path=paths[row],
            issue=issue,
            used=bool(used[row]),
            reason=reason if standing.table.subsets[row] == "train" else f"{reason} (held out)",
        )
        for row, issue, reason in issues
    ]


def gather(issues: Sequence[ClipIssue], project: Project) -> list[ClipIssue]:
    """Make one issue of those that most clips of a set have, for people to read.

    Args:
        issues: As of :func:`check`.
        project: Whose clips.
    """
    with project.store.read() as session:
        n_clips = len(session.labels().paths)
    counts = Counter((issue.issue, issue.reason, issue.used) for issue in issues)
    found: dict[tuple[str, str, str], ClipIssue] = {}
    for issue in issues:
        n = counts[issue.issue, issue.reason, issue.used]
        most = n > n_clips / 2 and n >= _MANY
        path = f"{n} of {n_clips} clips" if most else issue.path
        found.setdefault((path, issue.issue, issue.reason), replace(issue, path=path))
    return list(found.values())


def _inspect(
    paths: Sequence[str], inspector: Inspector, workers: int | None
) -> tuple[list[str | None], list[Inspection]]:
    """Hash and inspect each recording; one that kills its worker could not be read."""
    found: dict[str, tuple[str | None, Inspection]] = {}
    with Executor(workers or worker_count(WORKER_MB)) as executor:
        for result in track(executor.map(inspector, paths), len(paths), "checking"):
            dead = None, Inspection(["unread"], why=str(result.error))
            found[result.item] = dead if result.error else result.get()
    return [found[path][0] for path in paths], [found[path][1] for path in paths]


def _faults(
    standing: Standing, contents: Sequence[str | None], found: Sequence[Inspection]
) -> Iterator[Issue]:
    """Yield what recordings show by themselves, and by the hash they were imported with."""
    imported = standing.table.content_hashes
    for row, (content, one) in enumerate(zip(contents, found, strict=True)):
        changed = None not in (content, imported[row]) and content != imported[row]
        for fault in ["changed", *one.faults] if changed else one.faults:
            why = f": {one.why}" if one.why and fault == one.unusable else ""
            yield row, fault, faults.REASONS[fault] + why


def _left_out(store: FeatureStore, standing: Standing, issues: Sequence[Issue]) -> Iterator[Issue]:
    """Yield what only the spectrogram shows, of the recordings that are as they were then."""
    told = {(row, issue) for row, issue, _ in issues}
    for row, path in enumerate(standing.table.paths):
        entry = store.entries.get(path)
        if entry is None or entry.length:
            continue
        for fault in entry.faults:
            if fault in ("not_finite", "blank") and (row, fault) not in told:
                yield row, fault, faults.REASONS[fault]


def _rates(found: Sequence[Inspection]) -> Iterator[Issue]:
    """Yield recordings of another rate than almost all, and those upsampled from a lower one."""
    counts = Counter(one.rate for one in found if one.rate)
    usual, count = counts.most_common(1)[0] if counts else (0, 0)
    if count < _USUAL_SHARE * counts.total():
        usual = 0
    for row, one in enumerate(found):
        reasons = []
        if usual and one.rate not in (0, usual):
            reasons.append(f"{one.rate} Hz, where {count} of {counts.total()} have {usual} Hz")
        if one.cutoff:
            edge_hz, fall_db = one.cutoff
            reasons.append(
                f"{one.rate} Hz could hold up to {one.rate / 2000:.1f} kHz, but all ends at "
                f"{edge_hz / 1000:.1f} kHz, {fall_db:.0f} dB down, as if upsampled"
            )
        if reasons:
            yield row, "sample_rate", f"{faults.REASONS['sample_rate']}: {'; '.join(reasons)}"


def _copies(
    standing: Standing, issue: str, pairs: Sequence[tuple[int, int, float]]
) -> Iterator[Issue]:
    """Yield an issue for each clip that has copies, leaks named first."""
    copies: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for a, b, similarity in pairs:
        copies[a].append((b, similarity))
        copies[b].append((a, similarity))
    for row, others in copies.items():
        others.sort(key=lambda other: (standing.parted(row, other[0]) is None, -other[1]))
        named = []
        for other, similarity in others[:_NAMED]:
            remarks = standing.remarks(row, other)
            if issue == "near_duplicate":
                remarks.insert(0, f"similarity {similarity:.2f}")
            path = standing.table.paths[other]
            named.append(f"{path} ({', '.join(remarks)})" if remarks else path)
        more = f"; and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        yield row, issue, f"{faults.REASONS[issue]}: {'; '.join(named)}{more}"


def _parted_twins(
    standing: Standing, groups: Sequence[Sequence[int]], unfit: set[int]
) -> Iterator[int]:
    """Yield clips that training leaves out, since other folds or subsets have the same bytes."""
    for group in groups:
        fit = [row for row in group if row not in unfit]
        yield from (row for row in fit[1:] if standing.parted(fit[0], row))


def _outliers(
    project: Project, standing: Standing, probe: Recipe, workers: int | None
) -> Iterator[Issue]:
    """Yield clips that lie far from all clips of other sources."""
    specs = probe.embedding, probe.features
    compute_embeddings(project, *specs, workers=workers)
    matrix, there = read_embeddings(project, *specs, standing.table.paths)
    use = np.flatnonzero(there & (standing.table.states != REJECTED))
    if len(use) <= _NEIGHBOURS:
        say(f"outliers are not looked for: {len(use)} clips, fewer than {_NEIGHBOURS + 1}")
        return
    vectors = matrix[use]
    groups = group_indices([standing.sources[row] for row in use], len(use))
    off_topic = np.flatnonzero(find_off_topic(vectors, groups=groups, k=_NEIGHBOURS))
    if not len(off_topic):
        return
    some = np.unique(np.linspace(0, len(use) - 1, _SAMPLE).astype(int))
    usual = np.median(find_neighbours(vectors, k=1, groups=groups, queries=some)[1])
    near, away = find_neighbours(vectors, k=1, groups=groups, queries=off_topic)
    for row, other, distance in zip(use[off_topic], near[:, 0], away[:, 0], strict=True):
        # All the others are of its own source.
        if other < 0:
            continue
        nearest = standing.table.paths[use[other]]
        reason = (
            f"{faults.REASONS['outlier']}: the nearest, {nearest}, has similarity "
            f"{1 - 2 * distance:.2f} by {probe.embedding.embedder}, where {1 - 2 * usual:.2f} "
            "is usual"
        )
        yield int(row), "outlier", reason
