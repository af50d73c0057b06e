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
from labelkit.errors import RecordingsGone
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
from labelkit.recordings.fitting import settle_recipe, tell_others
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
_HELD_OUT = " (held out)"
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
        """Return the hash of a recording, None if it cannot be read, and its faults."""
        file = self.audio_dir / path
        found = faults.inspect(file, self.spec, window_s=self.window_s)
        try:
            return None if "missing" in found.faults else io.hash_file(file), found
        except OSError as error:
            return None, faults.say_unread(file, error)


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
        workers: Processes at once; as many as cores and memory allow if None.

    Returns:
        Issues, in the order of the paths.

    Raises:
        RecordingsGone: If there is no audio folder.
    """
    standing = read_standing(project)
    paths = standing.table.paths
    project.check_audio()
    recipe = settle_recipe(project, recipe)
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
    tell_others(project)
    computed = FeatureStore(project.features, recipe.features)
    issues += _left_out(computed, standing, project.audio_dir)
    if not fast:
        try:
            issues += _compare(project, standing, probe or read_recipe("probe"), workers)
        except RecordingsGone as error:
            say(f"near-duplicates and outliers are not looked for: {error}")
    issues = list(dict.fromkeys(issues))
    used = (standing.table.subsets == "train") & (standing.table.states != REJECTED)
    unfit = {row for row, issue, _ in issues if issue in faults.UNUSABLE}
    used[[*unfit, *_parted_twins(standing, groups, unfit)]] = False
    order = list(faults.REASONS)
    issues.sort(key=lambda issue: (paths[issue[0]], order.index(issue[1])))
    return [
        ClipIssue(
            path=paths[row],
            issue=issue,
            used=bool(used[row]),
            reason=reason if standing.table.subsets[row] == "train" else reason + _HELD_OUT,
        )
        for row, issue, reason in issues
    ]


def _compare(
    project: Project, standing: Standing, probe: Recipe, workers: int | None
) -> Iterator[Issue]:
    """Yield what shows when recordings are compared.

    Raises:
        RecordingsGone: If more of them are missing than may be.
    """
    store = compute_features(project, probe.features, workers=workers)
    yield from _left_out(store, standing, project.audio_dir)
    use = usable_rows(store, standing.table)
    yield from _copies(standing, "near_duplicate", pair_near(store, standing.table.paths, use))
    yield from _outliers(project, standing, probe, workers)


def gather(issues: Sequence[ClipIssue], project: Project) -> list[ClipIssue]:
    """Make one issue of those that most clips of a set have, for people to read.

    Args:
        issues: As of :func:`check`.
        project: Whose clips.
    """
    with project.store.read() as session:
        n_clips = len(session.labels().paths)
    kinds: dict[str, list[ClipIssue]] = defaultdict(list)
    for issue in issues:
        kinds[issue.issue].append(issue)
    found = []
    for issue in issues:
        alike = kinds[issue.issue]
        if len(alike) <= n_clips / 2 or len(alike) < _MANY:
            found.append(issue)
        elif issue is alike[0]:
            reasons = Counter(one.reason.removesuffix(_HELD_OUT) for one in alike)
            reason, n = reasons.most_common(1)[0]
            more = "" if n == len(alike) else f"; so {n} of them, the others in other words"
            used = 2 * sum(one.used for one in alike) >= len(alike)
            path = f"{len(alike)} of {n_clips} clips"
            found.append(replace(issue, path=path, reason=reason + more, used=used))
    return found


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


def _left_out(store: FeatureStore, standing: Standing, audio_dir: Path) -> Iterator[Issue]:
    """Yield what only the features show, as far as they were computed of the files there are."""
    stale = set(store.missing(audio_dir, standing.table.paths))
    for row, path in enumerate(standing.table.paths):
        entry = None if path in stale else store.entries.get(path)
        for fault in entry.faults if entry and not entry.length else ():
            if fault in faults.OF_FEATURES:
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
