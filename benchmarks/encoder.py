"""What the encoder aisfx costs, and how well a linear probe on its vectors finds planted errors.

The label sets are those of benchmarks/detection.py, on ESC-10 and its official folds. Pooling,
scaling and the length of short clips were chosen on seeds 100 to 104 and on other sets; the seeds
below served for nothing before. LABELKIT_TEST_DATA names the folder of real clips.

    python benchmarks/encoder.py --folder DIR
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from detection import Clips, plant, read_clips
from report import machine, take_time, write_section
from scipy import stats

from labelkit import metrics
from labelkit.audio import aisfx, io
from labelkit.config import EmbeddingSpec, FeatureSpec, read_recipe
from labelkit.noise.fusion import score_probe
from labelkit.noise.probe import Probe, cross_probs
from labelkit.project import open_project
from labelkit.recordings.embedding import compute_embeddings, read_embeddings

SEEDS = range(10, 20)
NOISES = ("uniform 5 %", "uniform 10 %", "uniform 20 %", "confusable 20 %", "40/35")
TIMED = ("esc10", "arabic_commands")

# Noisy class of each clip and which are verified, by noise and seed.
Planted = dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]


def count_blocks(data: Path) -> int:
    """Count the blocks of 2.3 s of a set; a shorter clip is one."""
    with (data / "labels.csv").open(newline="") as file:
        names = [row["fname"] for row in csv.DictReader(file)]
    audio = data / "audio" if (data / "audio" / names[0]).exists() else data
    waves = (io.to_mono(*io.read_audio(audio / name), aisfx.SAMPLE_RATE) for name in names)
    return sum(len(aisfx.cut_blocks(wave)) for wave in waves)


def time_embedding(data: Path, folder: Path) -> list[str]:
    """Return a row: clips, blocks, and seconds of one command, all it starts included."""
    audio = data / "audio" if data.name == "esc10" else data
    root = folder / data.name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    labelkit = [sys.executable, "-m", "labelkit"]
    take_time([*labelkit, "init", str(audio)], root)
    take_time([*labelkit, "import", str(data / "labels.csv"), "--format", "csv"], root)
    wall, used = take_time([*labelkit, "embed", "--encoder", "aisfx", "--workers", "1"], root)
    again, _ = take_time([*labelkit, "embed", "--encoder", "aisfx"], root)
    n = count_blocks(data)
    return [data.name, str(n), f"{wall:.0f}", f"{used:.1f}", f"{used / n:.3f}", f"{again:.1f}"]


def read_vectors(clips: Clips, root: Path) -> dict[str, np.ndarray]:
    """Vectors of the clips of ESC-10 by aisfx, and by what needs no model."""
    project, found = open_project(root), {}
    features = read_recipe("probe").features
    for name in ("aisfx", "pooled_mel"):
        spec = EmbeddingSpec(embedder=name)
        compute_embeddings(project, spec, features if name == "pooled_mel" else FeatureSpec())
        paths = [row["fname"] for row in clips.rows]
        found[name], _ = read_embeddings(project, spec, features, paths)
    return found


def measure(clips: Clips, vectors: np.ndarray, planted: Planted) -> list[str]:
    """Accuracy on true labels, and average precision with its lower bound for each noise."""
    folds = np.array([int(row["fold"]) for row in clips.rows])
    right = np.eye(len(clips.classes))[clips.truth]
    probs = cross_probs(Probe(embeddings=vectors, labels=right, folds=folds), folds)
    cells = [f"{metrics.accuracy(right, probs):.1%}"]
    for noise in NOISES:
        values = []
        for seed in SEEDS:
            given, verified = planted[noise, seed]
            labels = np.eye(len(clips.classes))[given]
            probs = cross_probs(Probe(embeddings=vectors, labels=labels, folds=folds), folds)
            wrong, asked = given != clips.truth, ~verified
            scores = score_probe(labels, probs)
            values.append(metrics.average_precision(wrong[asked], scores[asked]))
        margin = stats.t.ppf(0.95, len(values) - 1) * stats.sem(values)
        cells.append(f"{np.mean(values):.3f} ({np.mean(values) - margin:.3f})")
    return cells


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="Where projects are kept.")
    folder = parser.parse_args().folder.resolve()
    data = Path(os.environ["LABELKIT_TEST_DATA"])
    lines = [machine(), "", "| set | blocks | wall, s | processor, s | a block | again, s |"]
    lines.append("|---" * 6 + "|")
    lines += [f"| {' | '.join(time_embedding(data / name, folder))} |" for name in TIMED]
    clips = read_clips(data / "esc10")
    lines += ["", f"Average precision of `probe`, mean of seeds {SEEDS[0]} to {SEEDS[-1]} "
              "(lower 95 % bound of the mean), on ESC-10:", ""]  # fmt: skip
    lines.append(f"| vectors | accuracy, true labels | {' | '.join(NOISES)} |")
    lines.append("|---" * (2 + len(NOISES)) + "|")
    planted = {(n, seed): plant(clips, n, seed, folder) for n in NOISES for seed in SEEDS}
    for name, vectors in read_vectors(clips, folder / "esc10").items():
        lines.append(f"| `{name}` | {' | '.join(measure(clips, vectors, planted))} |")
    write_section("encoder", "\n".join(lines))


if __name__ == "__main__":
    main()
