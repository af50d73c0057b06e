"""How well each score finds planted label errors on ESC-10.

Label sets: a share of all labels replaced by any other class (the protocol of
SelfClean-Audio) or by one that sounds alike, and the 40/35 protocol (40 % verified, 35 % of
the others wrong; only the others are ranked). The network is trained through ``train`` on
the official folds, which part no recording; the cheap scores also as if recordings did not
matter. The default of ``labelkit score`` was chosen on the development seeds alone.

    python benchmarks/detection.py --folder DIR                the table (an hour on two cores)
    python benchmarks/detection.py --folder DIR --train 0,1,2  only these seeds' networks
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from report import machine, write_section

from labelkit import metrics, registry
from labelkit.cleaning.inputs import ScoreInputs, read_inputs, score_by
from labelkit.config import FormatSpec, read_recipe
from labelkit.folds import make_folds
from labelkit.labels.importing import import_labels
from labelkit.noise.classes import class_similarity
from labelkit.noise.fusion import score_probe
from labelkit.noise.neighbours import score_neighbours
from labelkit.noise.probe import Probe, cross_probs
from labelkit.noise.scoring import fuse_ranks
from labelkit.noise.simulate import plant_confusable, plant_uniform
from labelkit.project import Project, create_project
from labelkit.recordings.embedding import compute_embeddings, read_embeddings
from labelkit.runs.train import train
from labelkit.states import UNVERIFIED

DEVELOPMENT_SEEDS, SEEDS = (0, 1, 2), (3, 4, 5)
NOISES = ("uniform 5 %", "uniform 10 %", "uniform 20 %", "confusable 20 %", "40/35")
RECIPE = (
    "model.width=8",
    "pretrain.epochs=16",
    "pretrain.lr=3e-3",
    "pretrain.schedule=one_cycle",
    "pretrain.noisy_loss=auto",
    "pretrain.log_every=1",
)
TITLES = {
    "fusion": "`fusion`",
    "probe": "cleanlab's audio recipe (`probe`)",
    "neighbours": "kNN ratio (`neighbours`)",
}
FUSIONS = (
    ("aum", "self_confidence"),
    ("self_confidence", "probe"),
    ("aum", "probe", "neighbours"),
    ("aum", "self_confidence", "probe"),
)


@dataclass(frozen=True)
class Clips:
    """ESC-10: its clips, their true classes, folds and recordings, by row of the table."""

    audio: Path
    rows: list[dict[str, str]]
    classes: list[str]
    truth: np.ndarray


def read_clips(data: Path) -> Clips:
    """Read ESC-10."""
    with (data / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})
    truth = np.array([classes.index(row["label"]) for row in rows])
    return Clips(data / "audio", rows, classes, truth)


def similarity(clips: Clips, folder: Path) -> np.ndarray:
    """How easily the probe, taught the truth, takes one class for another."""
    verified = np.zeros(len(clips.truth), bool)
    project = make_project(clips, clips.truth, verified, folder / "truth", folder / "cache")
    recipe = read_recipe("probe")
    paths = [row["fname"] for row in clips.rows]
    compute_embeddings(project, recipe.embedding, recipe.features)
    embeddings, _ = read_embeddings(project, recipe.embedding, recipe.features, paths)
    keep_cache(project, folder / "cache")
    right = np.eye(len(clips.classes))[clips.truth]
    folds = np.array([int(row["fold"]) for row in clips.rows])
    probe = Probe(embeddings=embeddings, labels=right, folds=folds)
    return class_similarity(right, probs=cross_probs(probe, folds))


def plant(clips: Clips, noise: str, seed: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Noisy class of each clip, and which clips are verified."""
    right = np.eye(len(clips.classes))[clips.truth]
    verified = np.zeros(len(right), bool)
    if noise.startswith("uniform"):
        planted = plant_uniform(right, rate=int(noise.split()[1]) / 100, seed=seed)
    elif noise.startswith("confusable"):
        planted = plant_confusable(right, similarity(clips, folder), rate=0.2, seed=seed)
    else:
        rng = np.random.default_rng(seed)
        for label in range(len(clips.classes)):
            members = rng.permutation(np.flatnonzero(clips.truth == label))
            verified[members[: round(0.4 * len(members))]] = True
        planted = plant_uniform(right, rate=0.35, seed=seed, eligible=~verified)
    return planted.labels.argmax(axis=1), verified


def make_project(
    clips: Clips, given: np.ndarray, verified: np.ndarray, folder: Path, cache: Path
) -> Project:
    """A project on noisy labels; spectrograms and embeddings are computed once for all."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("fname", "label", "verified", "fold", "source"))
        for row, label, sure in zip(clips.rows, given, verified, strict=True):
            values = (row["fname"], clips.classes[label], int(sure), row["fold"], row["source"])
            writer.writerow(values)
    project, _ = create_project(folder, clips.audio)
    spec = FormatSpec(verified_column="verified", fold_column="fold", group_column="source")
    import_labels(project, folder / "train.csv", "csv", spec)
    for name in ("features", "embeddings"):
        if (cache / name).exists():
            shutil.copytree(cache / name, project.work / name, dirs_exist_ok=True)
    return project


def keep_cache(project: Project, cache: Path) -> None:
    """Let other projects have what was computed of the recordings."""
    for name in ("features", "embeddings"):
        if (project.work / name).exists():
            shutil.copytree(project.work / name, cache / name, dirs_exist_ok=True)


def train_network(clips: Clips, noise: str, seed: int, folder: Path) -> Project:
    """Train on a label set, or take what was trained."""
    given, verified = plant(clips, noise, seed, folder)
    name = noise.replace(" %", "").replace(" ", "").replace("/", "-")
    project = make_project(clips, given, verified, folder / f"{name}-{seed}", folder / "cache")
    train(project, read_recipe("quick", RECIPE), seed=seed, workers=1)
    keep_cache(project, folder / "cache")
    print(f"{noise}, seed {seed} is trained", flush=True)
    return project


def rank(clips: Clips, noise: str, seed: int, folder: Path) -> dict[str, tuple[float, ...]]:
    """Average precision, AUROC and effort of every row on a label set."""
    project = train_network(clips, noise, seed, folder)
    evidence = read_inputs(project, None, probe=read_recipe("probe"))
    truth_of = {row["fname"]: label for row, label in zip(clips.rows, clips.truth, strict=True)}
    names = clips.classes
    truth = np.array([evidence.table.classes.index(names[truth_of[p]]) for p in evidence.paths])
    wrong = evidence.labels[np.arange(len(truth)), truth] == 0
    scores = {name: score_by(name, evidence) for name in registry.names("score")}
    keep_cache(project, folder / "cache")
    rows = {TITLES.get(name, f"`{name}`"): values for name, values in scores.items()}
    for parts in FUSIONS:
        rows[f"fused: {', '.join(parts)}"] = fuse_ranks([scores[part] for part in parts])
    rows["every score fused"] = fuse_ranks(list(scores.values()))
    rows |= without_groups(evidence, seed)
    asked = evidence.table.states[evidence.rows] == UNVERIFIED
    return {
        row: (
            metrics.average_precision(wrong[asked], values[asked]),
            metrics.auroc(wrong[asked], values[asked]),
            metrics.effort(wrong[asked], values[asked]),
        )
        for row, values in rows.items()
    }


def without_groups(evidence: ScoreInputs, seed: int) -> dict[str, np.ndarray]:
    """The cheap scores as if recordings did not matter, and of simpler vectors."""
    labels, embeddings = evidence.labels, evidence.embeddings
    random = make_folds(labels, n=5, seed=seed)

    def probe(vectors: np.ndarray, folds: np.ndarray) -> np.ndarray:
        return score_probe(
            labels, cross_probs(Probe(embeddings=vectors, labels=labels, folds=folds), folds)
        )

    # The first of the pooled numbers are mean and deviation of each band.
    plain = embeddings[:, : 2 * evidence.probe.features.n_mels]
    return {
        f"{TITLES['probe']}, folds part recordings": probe(embeddings, random),
        f"{TITLES['probe']}, on band means and deviations": probe(plain, evidence.folds),
        f"{TITLES['probe']}, on these, folds part recordings": probe(plain, random),
        f"{TITLES['neighbours']}, same recording included": score_neighbours(labels, embeddings),
    }


def head(columns: Sequence[str]) -> list[str]:
    """First two lines of a table of scores."""
    return [f"| score | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]


def report(found: dict[tuple[str, int], dict[str, tuple[float, ...]]]) -> str:
    """The tables as Markdown."""
    rows = list(next(iter(found.values())))
    known = [noise for noise in NOISES if all((noise, seed) in found for seed in SEEDS)]

    def mean(row: str, noise: str, seeds: Sequence[int], number: int) -> float:
        return float(np.mean([found[noise, seed][row][number] for seed in seeds]))

    lines = [machine(), "", f"Mean of seeds {', '.join(map(str, SEEDS))}."]
    for number, what in enumerate(("Average precision", "AUROC", "Effort")):
        lines += ["", f"{what}:", "", *head(known)]
        order = sorted(rows, key=lambda r: -np.mean([mean(r, n, SEEDS, 0) for n in known]))
        for row in order:
            cells = [f"{mean(row, noise, SEEDS, number):.3f}" for noise in known]
            lines.append(f"| {row} | {' | '.join(cells)} |")
    others = [row for row in rows if row != TITLES["fusion"]]
    behind = max(
        max(mean(row, noise, SEEDS, 0) for row in others) - mean(TITLES["fusion"], noise, SEEDS, 0)
        for noise in known
    )
    lines += ["", f"The default's average precision is at most {behind:.3f} below the best other "
              "row of a column (negative: above)."]  # fmt: skip
    developed = [n for n in NOISES if all((n, seed) in found for seed in DEVELOPMENT_SEEDS)]
    lines += ["", "Average precision on the development seeds 0 to 2, by which the default was "
              "chosen, the best ten:", "", *head([*developed, "mean"])]  # fmt: skip
    values = {row: [mean(row, n, DEVELOPMENT_SEEDS, 0) for n in developed] for row in rows}
    for row in sorted(values, key=lambda r: -np.mean(values[r]))[:10]:
        cells = [f"{value:.3f}" for value in (*values[row], np.mean(values[row]))]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark on the clips below LABELKIT_TEST_DATA."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="Where projects are kept.")
    parser.add_argument("--train", help="Seeds whose networks to train, and nothing else.")
    parser.add_argument("--noise", action="append", choices=NOISES, help="Only these label sets.")
    parser.add_argument("--print", action="store_true", help="Leave docs/benchmarks.md alone.")
    arguments = parser.parse_args()
    clips = read_clips(Path(os.environ["LABELKIT_TEST_DATA"]) / "esc10")
    noises = arguments.noise or NOISES
    if arguments.train:
        for noise, seed in itertools.product(noises, map(int, arguments.train.split(","))):
            train_network(clips, noise, seed, arguments.folder)
        return
    found = {
        (noise, seed): rank(clips, noise, seed, arguments.folder)
        for noise, seed in itertools.product(noises, (*DEVELOPMENT_SEEDS, *SEEDS))
    }
    text = report(found)
    print(text) if arguments.print else write_section("detection", text)


if __name__ == "__main__":
    main()
