"""What is wrong with clips apart from their labels."""

from __future__ import annotations

import itertools
import re
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
# Clips of one issue that are a matter of the set, if they are most of it; of what comes of how a
# set was made, if they are a fifth.
_MANY = 20
_SHARE, _SHARE_OF_MAKING = 0.5, 0.2
_OF_MAKING = ("truncated", "no_numbers", "scale", "clipped", "very_short", "short", "sample_rate")
# Below such a part of the usual length a clip is shorter than a set explains.
_FAR_SHORTER = 0.5
_OF_LENGTH = ("very_short", "short")
_NUMBER = re.compile(r"\d+(\.\d+)?")
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
    issues += _lengths(found, window_s)
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
    near = pair_near(project, store, standing.table.paths, use, workers=workers)
    same = [(pair.clip, pair.other, pair.similarity) for pair in near if pair.is_same]
    yield from _copies(standing, "near_duplicate", same)
    yield from _outliers(project, standing, probe, workers)


def gather(issues: Sequence[ClipIssue], project: Project) -> list[ClipIssue]:
    """Make one issue of those that are a matter of the set, for people to read.

    So is what most clips have, and what a fifth of them have of being short, clipped, sampled up
    and so on. Few clips of which it is said in other words, as of the shortest, stay by themselves.

    Args:
        issues: As of :func:`check`.
        project: Whose clips.
    """
    with project.store.read() as session:
        n_clips = len(session.labels().paths)
    kinds: dict[str, list[ClipIssue]] = defaultdict(list)
    for issue in issues:
        kinds[issue.issue].append(issue)
    told = {name: _gather_kind(name, alike, n_clips) for name, alike in kinds.items()}
    found = []
    for issue in issues:
        one, of_set = told[issue.issue]
        if id(issue) not in of_set:
            found.append(issue)
        elif one is not None:
            found.append(one)
            told[issue.issue] = None, of_set
    return found


def _gather_kind(
    name: str, alike: Sequence[ClipIssue], n_clips: int
) -> tuple[ClipIssue | None, set[int]]:
    """Make one of all clips of an issue, if they are a matter of the set.

    Returns:
        The one, and the ids of the issues that it stands for.
    """
    share = _SHARE_OF_MAKING if name in _OF_MAKING else _SHARE
    if len(alike) <= share * n_clips or len(alike) < _MANY:
        return None, set()
    wordings: dict[str, list[ClipIssue]] = defaultdict(list)
    for issue in alike:
        wordings[_NUMBER.sub("0", _plain(issue))].append(issue)
    usual = max(wordings.values(), key=len)
    few_others = len(alike) - len(usual) < _MANY
    gathered = usual if few_others else alike
    reasons = sorted(map(_plain, usual), key=_numbers)
    say_one = ", say" if reasons[0] != reasons[-1] else ""
    others = "" if few_others else f"; so {len(usual)} of them, the others in other words"
    one = replace(
        alike[0],
        path=f"{len(gathered)} of {n_clips} clips",
        reason=f"{reasons[len(reasons) // 2]}{say_one}{others}; each: labelkit check --json",
        used=2 * sum(issue.used for issue in gathered) >= len(gathered),
    )
    return one, set(map(id, gathered))


def _plain(issue: ClipIssue) -> str:
    """Return the reason of an issue, the same whether its clip is held out or not."""
    return issue.reason.removesuffix(_HELD_OUT)


def _numbers(reason: str) -> list[float]:
    """Return the numbers in a reason, to order those of one wording by them."""
    return [float(match.group()) for match in _NUMBER.finditer(reason)]


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
            if fault in _OF_LENGTH:
                continue
            why = f": {one.why}" if one.why and fault == one.unusable else ""
            yield row, fault, faults.REASONS[fault] + why


def _lengths(found: Sequence[Inspection], window_s: float) -> Iterator[Issue]:
    """Yield recordings that are short for what is done with them, or for their set."""
    lengths = np.array([one.n_samples / one.rate if one.rate else 0.0 for one in found])
    usual_s = float(np.median(lengths[lengths > 0])) if (lengths > 0).any() else 0.0
    for row, one in enumerate(found):
        fault = next((fault for fault in one.faults if fault in _OF_LENGTH), None)
        if fault is None:
            continue
        far_shorter = lengths[row] < _FAR_SHORTER * usual_s
        if fault == "very_short" and not far_shorter:
            # Where others last no longer, clips are named by that.
            if lengths[row] >= window_s:
                continue
            fault = "short"
        reason = faults.REASONS[fault] + (f" of {window_s:.2g} s" if fault == "short" else "")
        if far_shorter:
            reason += f": {lengths[row]:.2g} s, where {usual_s:.2g} s are usual"
        yield row, fault, reason


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
