"""How well wrong and missing labels are found, pair by pair, where clips have several.

Each of 400 clips is the sum of two ESC-10 clips of different classes and of one official
fold, so that no recording is on two sides of a split, each brought to the same root mean
square. 15 % of the 800 labels are dropped, a clip keeping one, then 10 % of the other 680
become a class that the clip was not given, one label a clip at most. A class that comes
back so after it was dropped is right, and counts neither as wrong nor as missing. The
seeds of the table have other pairs than the development seeds.

    LABELKIT_TEST_DATA=... python benchmarks/multilabel.py --folder DIR [--print]
    LABELKIT_TEST_DATA=... python benchmarks/multilabel.py --folder DIR --seeds 0,1,2
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detection import read_clips
from report import machine, write_section

from labelkit import metrics
from labelkit.audio import io
from labelkit.cleaning.inputs import ScoreInputs, read_inputs
from labelkit.config import FormatSpec, read_recipe
from labelkit.labels.importing import import_labels
from labelkit.noise import pairs, scoring
from labelkit.noise.simulate import plant_missing, plant_uniform
from labelkit.project import create_project
from labelkit.runs.train import train

DEVELOPMENT_SEEDS, SEEDS = (0, 1, 2), (3, 4, 5)
CLIPS_A_FOLD, RATE, LEVEL = 80, 32_000, 0.05
DROPPED, REPLACED = 0.15, 0.1
RECIPE = (
    "model.width=8",
    "model.head=sigmoid",
    "pretrain.epochs=16",
    "pretrain.lr=3e-3",
    "pretrain.schedule=one_cycle",
    "pretrain.noisy_loss=bce",
)


@dataclass(frozen=True)
class Mixes:
    """Sums of two clips: their names, classes, folds and true labels ``(n_clips, n_classes)``."""

    audio: Path
    names: list[str]
    classes: list[str]
    folds: np.ndarray
    truth: np.ndarray


def mix_clips(data: Path, audio: Path, seed: int) -> Mixes:
    """Draw pairs within each fold, no pair twice, and write what is not there yet."""
    import soundfile

    clips = read_clips(data)
    rng = np.random.default_rng(seed)
    given_folds = np.array([int(row["fold"]) for row in clips.rows])
    drawn = []
    for fold in np.unique(given_folds):
        members = np.flatnonzero(given_folds == fold)
        first, second = (members[i] for i in np.triu_indices(len(members), 1))
        differ = np.flatnonzero(clips.truth[first] != clips.truth[second])
        chosen = rng.choice(differ, CLIPS_A_FOLD, replace=False)
        drawn.append(np.column_stack([first[chosen], second[chosen]]))
    both = np.concatenate(drawn)
    names = [f"{number:03d}.wav" for number in range(len(both))]
    audio.mkdir(parents=True, exist_ok=True)
    for name, row in zip(names, both, strict=True):
        if not (audio / name).exists():
            parts = [_leveled(clips.audio / clips.rows[clip]["fname"]) for clip in row]
            length = max(map(len, parts))
            wave = sum(np.pad(part, (0, length - len(part))) for part in parts)
            soundfile.write(audio / name, np.clip(wave, -1, 1), RATE)
    truth = np.zeros((len(both), len(clips.classes)), bool)
    truth[np.arange(len(both))[:, None], clips.truth[both]] = True
    return Mixes(audio, names, clips.classes, given_folds[both[:, 0]], truth)


def _leveled(path: Path) -> np.ndarray:
    """A clip of the root mean square ``LEVEL``."""
    wave = io.to_mono(*io.read_audio(path), RATE)
    return wave * (LEVEL / max(float(np.sqrt(np.mean(np.square(wave)))), 1e-9))


def plant(truth: np.ndarray, seed: int) -> np.ndarray:
    """Drop labels, a clip keeping one; then replace a share of the others, one a clip at most."""
    rng = np.random.default_rng(seed)
    dropped = plant_missing(truth, rate=DROPPED, seed=rng).labels
    share = REPLACED * dropped.sum() / len(truth)
    return plant_uniform(dropped, rate=share, seed=rng).labels.astype(bool)


def make_evidence(mixes: Mixes, seed: int, root: Path, cache: Path) -> ScoreInputs:
    """Train the network on planted noise, or take what was trained."""
    given = plant(mixes.truth, seed)
    root.mkdir(parents=True, exist_ok=True)
    with (root / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("fname", "label", "fold"))
        for name, row, fold in zip(mixes.names, given, mixes.folds, strict=True):
            labels = ",".join(mixes.classes[index] for index in np.flatnonzero(row))
            writer.writerow((name, labels, fold))
    project, _ = create_project(root, mixes.audio)
    project.cache = cache
    import_labels(project, root / "train.csv", "csv", FormatSpec(fold_column="fold"))
    run = train(project, read_recipe("quick", RECIPE), seed=seed, workers=1)
    return read_inputs(project, run["run_id"], probe=read_recipe("probe"), workers=1)


@dataclass(frozen=True)
class Case:
    """One label set: what is given, what is true, and how clips were judged out of fold."""

    given: np.ndarray
    truth: np.ndarray
    probs: dict[str, np.ndarray]

    @property
    def wrong(self) -> np.ndarray:
        """Given labels that are not true."""
        return self.given & ~self.truth

    @property
    def missing(self) -> np.ndarray:
        """True labels that are not given."""
        return self.truth & ~self.given


def read_case(mixes: Mixes, evidence: ScoreInputs) -> Case:
    """The network's, the probe's and the mean probabilities of all clips."""
    place = {name: row for row, name in enumerate(mixes.names)}
    rows = np.array([place[path] for path in evidence.paths])
    network, probe = evidence.probs.astype(np.float64), evidence.probe_probs
    probs = {
        "network": network,
        "probe": probe,
        "their mean": (network + probe) / 2,
    }
    return Case(evidence.labels > 0, mixes.truth[rows], probs)


def score_like_cleanlab(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Cleanlab's default score of each (clip, class), before it is put together by clip."""
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    lists = [np.flatnonzero(row).tolist() for row in labels]
    return get_label_quality_scores_per_class(lists, np.clip(probs, 0, 1))


def score_by_ranks(case: Case) -> np.ndarray:
    """Mean rank by the network's and by the probe's self-confidence, each direction apart."""
    parts = [pairs.score_pairs(case.given, case.probs[source]) for source in ("network", "probe")]
    fused = np.empty(case.given.shape)
    for direction in (case.given, ~case.given):
        fused[direction] = scoring.fuse_ranks([part[direction] for part in parts])
    return fused


PAIR_SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cleanlab, default": score_like_cleanlab,
    "self_confidence": pairs.score_pairs,
    "class_rank": lambda y, p: pairs.score_pairs(y, p, method="class_rank"),
}
CLIP_SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "lwlrap": scoring.score_lwlrap,
    "log_loss": scoring.score_log_loss,
    "cleanlab (exponential, its default)": scoring.score_cleanlab,
    "cleanlab_softmin": scoring.score_cleanlab_softmin,
    "cleanlab_minimum": scoring.score_cleanlab_minimum,
}


def judge_pairs(case: Case, scores: np.ndarray) -> list[float]:
    """AP and AUROC of wrong labels, of missing ones, and AP of both kinds in one list."""
    given, faults = case.given, case.wrong | case.missing
    return [
        metrics.average_precision(case.wrong[given], scores[given]),
        metrics.auroc(case.wrong[given], scores[given]),
        metrics.average_precision(case.missing[~given], scores[~given]),
        metrics.auroc(case.missing[~given], scores[~given]),
        metrics.average_precision(case.wrong.ravel(), scores.ravel()),
        metrics.average_precision(faults.ravel(), scores.ravel()),
    ]


def judge_clips(case: Case, scores: np.ndarray) -> list[float]:
    """AP and AUROC of clips with any fault."""
    faulty = (case.wrong | case.missing).any(axis=1)
    return [metrics.average_precision(faulty, scores), metrics.auroc(faulty, scores)]


def judge_proposals(case: Case, source: str, percentile: float) -> list[float]:
    """How many labels are proposed, how many of them are missing, and the share found."""
    found = pairs.find_missing(case.given, case.probs[source], percentile=percentile)
    hits = (found & case.missing).sum()
    return [found.sum(), hits / found.sum(), hits / case.missing.sum()]


def _row(names: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """A line of a table: the means over the seeds."""
    return "| " + " | ".join([*names, *(f"{v:.3f}" for v in np.mean(values, axis=0))]) + " |"


def report(cases: Sequence[Case], seeds: Sequence[int]) -> str:
    """The tables."""
    counts = np.mean(
        [[c.given.sum(), c.wrong.sum(), (~c.given).sum(), c.missing.sum()] for c in cases], axis=0
    )
    clips = np.mean([(c.wrong | c.missing).any(axis=1).mean() for c in cases])
    fit = {
        source: np.mean([metrics.lwlrap(c.truth, c.probs[source]) for c in cases])
        for source in cases[0].probs
    }
    lines = [
        machine(), "",
        f"Means of seeds {', '.join(map(str, seeds))}. Of {counts[0]:.0f} given labels "
        f"{counts[1]:.1f} are wrong, of {counts[2]:.0f} absent ones {counts[3]:.1f} are missing; "
        f"{clips:.1%} of the clips have a fault. lwlrap out of fold, against the truth: "
        + ", ".join(f"{source} {value:.3f}" for source, value in fit.items()) + ".", "",
        "| probabilities | score | wrong: AP | AUROC | missing: AP | AUROC "
        "| wrong, all pairs: AP | either, all pairs: AP |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for source in cases[0].probs:
        for name, score in PAIR_SCORES.items():
            values = [judge_pairs(c, score(c.given, c.probs[source])) for c in cases]
            lines.append(_row((source, name), values))
    ranks = [score_by_ranks(c) for c in cases]
    values = [judge_pairs(c, r) for c, r in zip(cases, ranks, strict=True)]
    lines.append(_row(("both", "self_confidence, mean rank"), values))
    by_seed = {
        f"cleanlab, default, on {source}": [
            score_like_cleanlab(c.given, c.probs[source]) for c in cases
        ]
        for source in ("network", "probe")
    }
    mean = [pairs.score_pairs(c.given, c.probs["their mean"]) for c in cases]
    by_seed |= {"self_confidence on their mean": mean, "mean rank of both": ranks}
    lines += ["", "Seed by seed, AP of wrong and of missing labels:", ""]
    lines += ["| score | " + " | ".join(f"seed {seed}" for seed in seeds) + " |"]
    lines += ["|---" * (len(seeds) + 1) + "|"]
    for name, scores in by_seed.items():
        found = [judge_pairs(c, s) for c, s in zip(cases, scores, strict=True)]
        lines.append(f"| {name} | " + " | ".join(f"{v[0]:.3f}, {v[2]:.3f}" for v in found) + " |")
    lines += ["", "Clips with any fault:", "", "| probabilities | score | AP | AUROC |"]
    lines += ["|---|---|---|---|"]
    for source in cases[0].probs:
        for name, score in CLIP_SCORES.items():
            values = [judge_clips(c, score(c.given, c.probs[source])) for c in cases]
            lines.append(_row((source, name), values))
    lines += ["", "`find_missing`:", ""]
    lines += ["| probabilities | percentile | proposed | right | found |", "|---|---|---|---|---|"]
    for source in cases[0].probs:
        for percentile in (95, 97, 99):
            found = [judge_proposals(c, source, percentile) for c in cases]
            n, right, share = np.mean(found, axis=0)
            lines.append(f"| {source} | {percentile} | {n:.1f} | {right:.1%} | {share:.1%} |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark on the clips below LABELKIT_TEST_DATA."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="Where projects are kept.")
    parser.add_argument("--seeds", help="Other seeds than those of the table.")
    parser.add_argument("--print", action="store_true", help="Only print the tables.")
    arguments = parser.parse_args()
    seeds = tuple(map(int, arguments.seeds.split(","))) if arguments.seeds else SEEDS
    data, folder = Path(os.environ["LABELKIT_TEST_DATA"]) / "esc10", arguments.folder
    cases = []
    for seed in seeds:
        draw = int(seed not in DEVELOPMENT_SEEDS)
        mixes = mix_clips(data, folder / f"audio-{draw}", draw)
        evidence = make_evidence(mixes, seed, folder / f"seed-{seed}", folder / f"cache-{draw}")
        cases.append(read_case(mixes, evidence))
    text = report(cases, seeds)
    if arguments.print or seeds != SEEDS:
        print(text)
    else:
        write_section("multilabel", text)


if __name__ == "__main__":
    main()
