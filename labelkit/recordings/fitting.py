"""Settings of recipes that are words until the recordings of a project say which numbers fit."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from labelkit.audio import io
from labelkit.audio.fitting import FittedFeatures, fit_features
from labelkit.config import FeatureSpec, Recipe, find_words
from labelkit.errors import InvalidInput, NotYet
from labelkit.progress import say
from labelkit.project import FILE, Project, keep_fitted
from labelkit.stores.arrays import FeatureStore
from labelkit.stores.session import Session

# Recordings whose headers are read; of more these many, evenly spread over the paths.
_READ = 2_000
# Recordings are of another length if they are so many times as long, or as short.
_OTHER_LENGTH = 1.5
# What recipes had before they looked at the recordings. Projects that computed by it keep it.
FORMER = FittedFeatures(
    sample_rate=32000,
    n_fft=1024,
    hop_length=500,
    coarse_n_fft=2048,
    coarse_hop_length=1000,
    min_s=0.0,
    frames=128,
)
_FORMER_BANDS = (64, 32)


def settle(project: Project, spec: FeatureSpec) -> FeatureSpec:
    """Put the numbers of a project in the place of words; what is a number stays.

    They are chosen by the recordings once, and kept in ``labelkit.toml`` from then on, unless the
    project looks back or its folder cannot be written to.

    Args:
        project: Whose recordings.
        spec: Settings of a spectrogram, with or without words.

    Returns:
        The settings, all of them numbers.
    """
    if not find_words(spec):
        return spec
    return (project.fitted or _choose(project)).settle(spec)


def settle_recipe(project: Project, recipe: Recipe) -> Recipe:
    """Put the numbers of a project in the place of a recipe's words, as :func:`settle` does.

    Its name and its changes stay as they were asked for; names and settings of runs hold numbers.
    """
    if not find_words(recipe.features) and not find_words(recipe.input):
        return recipe
    fitted = project.fitted or _choose(project)
    features = fitted.settle(recipe.features)
    return replace(recipe, features=features, input=fitted.settle_input(recipe.input, features))


def refit(project: Project) -> FittedFeatures:
    """Choose anew by the recordings there are now, and keep it.

    Raises:
        NotYet: If no recording can be read.
        InvalidInput: If the project looks back, or ``labelkit.toml`` cannot be written.
    """
    if project.store.as_of is not None:
        raise InvalidInput("settings are chosen by the recordings of now; leave --as-of out")
    found = measure(project)
    if found is None:
        raise NotYet("no recording can be read; bring some in with: labelkit import FILE")
    try:
        keep_fitted(project, found)
    except OSError as error:
        raise InvalidInput(
            f"{project.root / FILE} cannot be written ({error.strerror}); nothing is chosen anew"
        ) from error
    say(f"{found.describe()}; kept in {FILE}")
    return found


def measure(project: Project, paths: Collection[str] | None = None) -> FittedFeatures | None:
    """Find what fits the recordings of a project, or some of them, as they are now.

    Lengths are those of the import; rates stand in the headers.

    Args:
        project: Whose recordings.
        paths: Which of them; all if None.

    Returns:
        What fits; None if no recording can be read.
    """
    with project.store.read() as session:
        lengths = _read_lengths(session)
    wanted = sorted(lengths if paths is None else lengths.keys() & set(paths))
    at = np.unique(np.linspace(0, len(wanted) - 1, min(len(wanted), _READ)).astype(int))
    some = [wanted[index] for index in at.tolist()]
    rates = _read_rates([project.audio_dir / path for path in some])
    if not any(rates):
        return None
    # Those of an import of metadata alone have no length yet.
    durations = [lengths[path] or _duration(project.audio_dir / path) for path in some]
    return replace(fit_features(rates, durations), recordings=len(wanted))


def tell_others(project: Project, paths: Collection[str] | None = None) -> None:
    """Tell in a line if recordings are of another rate or length than what was chosen fits.

    Args:
        project: Whose recordings; nothing is said where nothing was chosen yet.
        paths: Which of them, those of an import say; all if None.
    """
    fitted = project.fitted
    if fitted is None or not fitted.recordings:
        return
    found = measure(project, paths)
    if found is None:
        return
    longer = found.length_s / fitted.length_s if math.isfinite(found.length_s) else 1.0
    other_length = not 1 / _OTHER_LENGTH <= longer <= _OTHER_LENGTH
    if found.sample_rate == fitted.sample_rate and not other_length:
        return
    say(
        f"{found.recordings} recordings would have {_say_short(found)}, and the project has "
        f"{_say_short(fitted)}, which stays; to choose anew: labelkit features --refit"
    )


def tell_newest(project: Project, n_clips: int) -> None:
    """Tell it of the clips that came in last, as :func:`tell_others` does."""
    if n_clips and project.fitted is not None:
        with project.store.read() as session:
            paths = session.labels().paths
        tell_others(project, paths[-n_clips:])


def _say_short(fitted: FittedFeatures) -> str:
    length = f" for {fitted.length_s:.2g} s" if math.isfinite(fitted.length_s) else ""
    return f"{fitted.sample_rate} Hz{length}"


def _choose(project: Project) -> FittedFeatures:
    """Choose by the recordings, tell it, and keep it where that may be."""
    if _has_former(project):
        found: FittedFeatures | None = FORMER
        told = f"{FORMER.describe()}, as before; by the recordings: labelkit features --refit"
    else:
        found = measure(project)
        told = "" if found is None else found.describe()
    if found is None:
        # Without recordings nothing is computed, and nothing is chosen for good.
        return fit_features([], [])
    project.fitted = found
    kept = ""
    if project.store.as_of is None and (project.root / FILE).is_file():
        try:
            keep_fitted(project, found)
            kept = f"; kept in {FILE}"
        except OSError as error:
            kept = f"; {FILE} cannot be written ({error.strerror}), so it is not kept"
    say(told + kept)
    return found


def _has_former(project: Project) -> bool:
    """Tell whether spectrograms lie there that were computed before recipes had words."""
    specs = (
        replace(FORMER.settle(FeatureSpec(n_fft=n_fft, hop_length=hop)), n_mels=bands)
        for n_fft, hop, bands in (
            (FORMER.n_fft, FORMER.hop_length, _FORMER_BANDS[0]),
            (FORMER.coarse_n_fft, FORMER.coarse_hop_length, _FORMER_BANDS[1]),
        )
    )
    return any(FeatureStore(project.features, spec).folder.is_dir() for spec in specs)


def _read_lengths(session: Session) -> dict[str, float | None]:
    """Read the length of each clip's recording, by path."""
    table, lengths = session.labels(), session.durations_s()
    ids = table.clip_ids.tolist()
    return {path: lengths[clip_id] for path, clip_id in zip(table.paths, ids, strict=True)}


def _read_rates(files: Sequence[Path]) -> list[float]:
    """Read the rate of each recording from its header; 0 where it cannot be."""

    def read(file: Path) -> float:
        try:
            return float(io.Recording(file).rate)
        except (OSError, InvalidInput):
            return 0

    with ThreadPoolExecutor() as pool:
        return list(pool.map(read, files))


def _duration(file: Path) -> float:
    try:
        return io.duration_s(file) or math.nan
    except OSError:
        return math.nan
