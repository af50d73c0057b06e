"""The whole loop on the user's own clips, with errors that are known because they were planted.

A share of the verified clips is hidden: they play unverified ones, and some get wrong
labels. What the loop makes of them says what it would make of the real unverified
clips, before a label of those is touched. All of it happens in a scratch project.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from labelkit import metrics, progress, registry
from labelkit.cleaning.inputs import read_inputs
from labelkit.cleaning.score import score
from labelkit.cleaning.simulated_project import (
    TRUTH,
    Source,
    count_parts,
    deal_parts,
    label_state,
    read_source,
    write_scratch,
)
from labelkit.config import Recipe, fingerprint, round_stages
from labelkit.errors import InvalidInput, NotYet
from labelkit.noise.classes import class_similarity
from labelkit.project import Project
from labelkit.recordings.features import compute_features
from labelkit.recordings.fitting import settle_recipe
from labelkit.runs.cross_validation import device_name
from labelkit.runs.verify import verify
from labelkit.states import SELF_VERIFIED
from labelkit.types import Floats

# Parts that are rehearsed if the user does not say how many.
REPEATS = 2
# Kinds that make sense only where clips have several labels.
SEVERAL_LABELS = ("extra", "missing")


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What ``verify`` makes of hidden clips whose errors are known.

    Shares are in [0, 1], NaN where there is none.

    Args:
        kind: Name of the planted noise.
        rate: Share of the hidden clips, or of their labels, that got an error.
        hide: Share of the verified clips that was hidden at a time.
        repeats: How many times, each with other clips hidden.
        hidden: Clips that were hidden and judged.
        planted: Those with a planted error.
        self_verified: Hidden clips that ``verify`` trusts.
        self_verified_right: Those of them without an error.
        found: Errors among as many lowest-scored clips as there are errors.
        repaired: Those whose suggested class is the right one.
        destroyed: Right labels among the lowest-scored whose suggested class is wrong.
        average_precision: Of the score against the errors.
        auroc: Of the same.
        effort: Share of the clips to review for 90 % of the errors.
        hidden_accuracy: Share of the hidden clips whose suggested class is right.
        test: What ``verify`` reached on held-out clips, by metric.
        precision: Share of the self-verified clips that is right.
        precision_low: Lower end of its 95 % interval (Wilson).
        precision_high: Upper end.
        recall: Share of the right clips that is self-verified.
        found_share: Share of the errors that was found.
        folder: Where the scratch projects are.
        signature: What the numbers stand on.
    """

    kind: str
    rate: float
    hide: float
    repeats: int
    hidden: int
    planted: int
    self_verified: int
    self_verified_right: int
    found: int
    repaired: int
    destroyed: int
    average_precision: float
    auroc: float
    effort: float
    hidden_accuracy: float
    test: dict[str, float] = field(metadata={"spread": "test_{}"})
    precision: float
    precision_low: float
    precision_high: float
    recall: float
    found_share: float
    folder: Path
    signature: str


def rehearse(
    project: Project,
    recipe: Recipe,
    *,
    kind: str,
    rate: float,
    hide: float = 0.5,
    repeats: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    device: str = "auto",
    say: Callable[[str], None] = progress.say,
) -> Rehearsal:
    """Plant known errors among verified clips, run the real ``verify``, and compare.

    The user's store is only read. Folds are taken over, and the user's own unverified
    clips take part as in a real run, but are not measured. Fewer clips stay verified
    than in a real run, so a prediction errs to the careful side. The same call again shows
    the finished result; stopped, it goes on.

    Args:
        project: Whose verified clips; its spectrograms are shared.
        recipe: What ``verify`` would be run with.
        kind: Name of the noise to plant.
        rate: Share of the hidden clips (of their labels, for missing and extra ones) that
            gets an error, above 0 and below 1.
        hide: Share of the verified clips of each class to hide at a time, whole groups,
            above 0 and below 1. A class keeps its only group.
        repeats: How many times, each with other clips hidden; results are pooled. As many
            as ``hide`` leaves room for, at most 2, if None.
        seed: Number from which everything random follows.
        workers: Processes at once; all cores if None.
        device: ``auto``, ``cpu`` or ``cuda``.
        say: Gets a line on each step.

    Returns:
        Counts and shares over all parts.

    Raises:
        InvalidInput: If a number is out of range, no clip can be hidden, or the noise
            does not fit the labels.
        StoreBusy: If another process rehearses the same.
    """
    round_stages(recipe)
    plant = registry.resolve("noise", kind)
    repeats = _count_repeats(rate, hide, repeats)
    recipe = settle_recipe(project, recipe)
    device = device_name(device)
    source = read_source(project, say)
    if kind in SEVERAL_LABELS and source.labels.sum(axis=1).max() < 2:
        raise InvalidInput(
            f"kind {kind} is for clips with several labels, and here each has one at most; "
            "take uniform, confusable or out_of_vocabulary"
        )
    parts = deal_parts(source, hide, repeats, seed)
    options = {}
    if "similarity" in inspect.signature(plant).parameters:
        options["similarity"] = _read_similarity(project, recipe, source, workers, device)
    settings = [kind, rate, hide, seed, device, asdict(replace(recipe, changes=()))]
    folder = project.work / "rehearsals" / fingerprint([settings, label_state(source)])
    scratches = []
    for number, hidden in enumerate(parts):
        try:
            rng = np.random.default_rng([seed, number])
            planted = plant(source.labels, rate=rate, seed=rng, eligible=hidden, **options)
        except InvalidInput as error:
            raise InvalidInput(
                f"kind {kind} cannot be rehearsed on these labels: {error}"
            ) from error
        scratches.append(write_scratch(project, folder / str(number), source, hidden, planted))
    found = []
    for number, scratch in enumerate(scratches, 1):
        say(f"part {number} of {repeats}: {int(parts[number - 1].sum())} verified clips are hidden")
        run = verify(
            scratch,
            recipe,
            seed=seed,
            workers=workers,
            device=device,
            on_round=lambda row: say(
                f"  round {row['iteration']}: {row['accepted']} accepted, {row['revoked']} "
                f"revoked, {row['self_verified']} self-verified"
            ),
        )
        found.append(_measure(scratch, run))
    pooled = _pool(found)
    test = {name: pooled.pop(name) for name in list(pooled) if name.startswith("test_")}
    return Rehearsal(
        kind=kind,
        rate=rate,
        hide=hide,
        repeats=repeats,
        test={name.removeprefix("test_"): value for name, value in test.items()},
        folder=folder,
        signature=f"{kind} noise at {rate:g}, {hide:g} hidden; {run['signature']}",
        **pooled,
    )


def _count_repeats(rate: float, hide: float, repeats: int | None) -> int:
    """Return how many parts to rehearse, if the numbers can be used."""
    for name, value in (("rate", rate), ("hide", hide)):
        if not 0 < value < 1:
            raise InvalidInput(f"{name} must be above 0 and below 1, got {value:g}")
    most = count_parts(hide)
    if repeats is None:
        return min(most, REPEATS)
    if not 1 <= repeats <= most:
        raise InvalidInput(
            f"hide {hide:g} leaves room for 1 to {most} repeats with other clips each, "
            f"got {repeats}"
        )
    return repeats


def _read_similarity(
    project: Project, recipe: Recipe, source: Source, workers: int | None, device: str
) -> Floats:
    """Read how alike classes are to the last run, or by their mean spectra where there is none."""
    table, known = source.table, source.open_to
    with project.store.read() as session:
        run_id = session.last_run()
    if run_id is not None:
        inputs = read_inputs(project, run_id, probe=recipe, workers=workers)
        use = np.isin(inputs.clip_ids, table.clip_ids[known])
        if use.any():
            return class_similarity(inputs.labels[use], probs=inputs.probs[use])
    features = compute_features(project, recipe.features, workers=workers, device=device)
    starts, lengths = features.places(table.paths)
    clips = np.flatnonzero(known & (lengths > 0))
    if not len(clips):
        raise NotYet("no verified clip has a spectrogram; see: labelkit check")
    frames = np.memmap(features.frames_path, np.float16, "r").reshape(-1, recipe.features.n_mels)
    means = [
        frames[starts[clip] : starts[clip] + lengths[clip]].mean(axis=0, dtype=np.float32)
        for clip in clips
    ]
    return class_similarity(source.labels[clips], embeddings=np.stack(means))


def _measure(scratch: Project, run: dict[str, Any]) -> dict[str, Any]:
    """Measure what the loop made of the hidden clips, in numbers."""
    truth = json.loads((scratch.root / TRUTH).read_text(encoding="utf-8"))
    with scratch.store.read() as session:
        n_clips = len(session.labels().paths)
    # The most doubtful first.
    clips = [
        clip
        for clip in score(scratch, run_id=run["run_id"], lowest=n_clips)
        if clip.path in truth
    ]  # fmt: skip
    if not clips:
        raise InvalidInput("none of the hidden clips could be judged; see: labelkit check")
    right = [set(truth[clip.path]) for clip in clips]
    wrong = np.array([set(clip.labels) != names for clip, names in zip(clips, right, strict=True)])
    chosen = np.array([clip.state == SELF_VERIFIED for clip in clips])
    # A suggestion takes the place of a single label, and joins several.
    fits = np.array([clip.suggested in names for clip, names in zip(clips, right, strict=True)])
    lacks = np.array([clip.suggested not in clip.labels for clip in clips])
    place = np.arange(len(clips))
    lowest = place < wrong.sum()
    return {
        "hidden": len(clips),
        "planted": int(wrong.sum()),
        "self_verified": int(chosen.sum()),
        "self_verified_right": int((chosen & ~wrong).sum()),
        "found": int((lowest & wrong).sum()),
        "repaired": int((lowest & wrong & fits & lacks).sum()),
        "destroyed": int((lowest & ~wrong & ~fits).sum()),
        "average_precision": metrics.average_precision(wrong, place),
        "auroc": metrics.auroc(wrong, place),
        "effort": metrics.effort(wrong, place, recall=0.9),
        "hidden_accuracy": float(fits[[bool(names) for names in right]].mean()),
        **{name: value for name, value in run.items() if name.startswith("test_")},
    }


def _pool(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sum the counts of all parts, take shares of those sums, and average other figures."""
    from scipy.stats import binomtest

    pooled: dict[str, Any] = {}
    for name, value in found[0].items():
        if not all(name in part for part in found):
            continue
        values = [part[name] for part in found]
        known = [v for v in values if not np.isnan(v)]
        mean = float(np.mean(known)) if known else float("nan")
        pooled[name] = sum(values) if isinstance(value, int) else mean

    def share(part: int, whole: int) -> float:
        return part / whole if whole else float("nan")

    right, chosen = pooled["self_verified_right"], pooled["self_verified"]
    low = high = float("nan")
    if chosen:
        low, high = binomtest(right, chosen).proportion_ci(method="wilson")
    return pooled | {
        "precision": share(right, chosen),
        "precision_low": float(low),
        "precision_high": float(high),
        "recall": share(right, pooled["hidden"] - pooled["planted"]),
        "found_share": share(pooled["found"], pooled["planted"]),
    }
