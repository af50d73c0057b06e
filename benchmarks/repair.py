"""What repairs by each score are worth: accuracy after retraining, on ESC-10.

The 40/35 protocol of detection.py. Each score puts the unverified clips in order; as many of
the lowest as errors are estimated get the class that the score's own model suggests. Then a
network is trained anew, and judged out of fold against the truth on all 400 clips.

    python benchmarks/repair.py --folder DIR     DIR as of detection.py
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from detection import RECIPE, SEEDS, Clips, keep_cache, make_project, read_clips, train_network
from report import machine, write_section
from scipy.stats import t as student

from labelkit.cleaning.inputs import ScoreInputs, read_inputs, score_by
from labelkit.config import read_recipe
from labelkit.noise.classes import estimate_noise
from labelkit.noise.neighbours import find_neighbours
from labelkit.project import Project
from labelkit.runs.train import train
from labelkit.states import UNVERIFIED

NOISE = "40/35"
METHODS = ("fusion", "probe", "self_confidence", "aum", "neighbours")


def accuracy(clips: Clips, project: Project) -> float:
    """Share of all clips whose true class a model that never saw them finds most probable."""
    evidence = read_inputs(project, None, probe=read_recipe("probe"))
    truth_of = {row["fname"]: label for row, label in zip(clips.rows, clips.truth, strict=True)}
    names = [clips.classes[truth_of[path]] for path in evidence.paths]
    truth = np.array([evidence.table.classes.index(name) for name in names])
    return float((evidence.probs.argmax(axis=1) == truth).mean())


def suggest(evidence: ScoreInputs, method: str) -> np.ndarray:
    """The class each clip would get, ``(n_clips,)``."""
    if method == "neighbours":
        nearest = find_neighbours(evidence.embeddings, k=1, groups=evidence.groups)[0][:, 0]
        return evidence.labels.argmax(axis=1)[nearest]
    if method == "probe":
        return evidence.probe_probs.argmax(axis=1)
    if method == "fusion":
        return (evidence.probs + evidence.probe_probs).argmax(axis=1)
    return evidence.probs.argmax(axis=1)


def repair(clips: Clips, project: Project, method: str) -> tuple[np.ndarray, int, float, float]:
    """Repaired class of each clip in the order of the table, and what was done.

    Returns:
        Class of each clip; how many were flagged; share of the errors that is right
        afterwards; share of the labels that were right and are not any more.
    """
    evidence = read_inputs(project, None, probe=read_recipe("probe"))
    asked = evidence.table.states[evidence.rows] == UNVERIFIED
    labels, mean = evidence.labels, (evidence.probs + evidence.probe_probs) / 2
    shares = estimate_noise(labels[asked], mean[asked])
    n_flagged = round(float(np.nansum(shares * labels[asked].sum(axis=0))))
    scores = np.where(asked, score_by(method, evidence), np.inf)
    flagged = np.argsort(scores, kind="stable")[:n_flagged]
    new = labels.argmax(axis=1)
    before = new.copy()
    new[flagged] = suggest(evidence, method)[flagged]
    names = evidence.table.classes
    label_of = {path: clips.classes.index(names[k]) for path, k in
                zip(evidence.paths, new, strict=True)}  # fmt: skip
    old_of = {path: clips.classes.index(names[k]) for path, k in
              zip(evidence.paths, before, strict=True)}  # fmt: skip
    repaired = np.array([label_of[row["fname"]] for row in clips.rows])
    given = np.array([old_of[row["fname"]] for row in clips.rows])
    wrong = given != clips.truth
    mended = (repaired == clips.truth)[wrong].mean()
    broken = (repaired != clips.truth)[~wrong].mean()
    return repaired, n_flagged, float(mended), float(broken)


def retrain(clips: Clips, labels: np.ndarray, seed: int, name: str, folder: Path) -> float:
    """Accuracy of the network trained on these labels, none of them verified."""
    nobody = np.zeros(len(labels), bool)
    project = make_project(clips, labels, nobody, folder / f"{name}-{seed}", folder / "cache")
    train(project, read_recipe("quick", RECIPE), seed=seed, workers=1)
    keep_cache(project, folder / "cache")
    return accuracy(clips, project)


def run_seed(clips: Clips, seed: int, folder: Path) -> dict[str, tuple[float, ...]]:
    """Accuracy, flagged, mended and broken of each row."""
    project = train_network(clips, NOISE, seed, folder)
    found: dict[str, tuple[float, ...]] = {
        "noisy": (accuracy(clips, project), 0, 0.0, 0.0),
        "clean": (retrain(clips, clips.truth, seed, "clean", folder), 0, 1.0, 0.0),
    }
    for method in METHODS:
        labels, *done = repair(clips, project, method)
        found[method] = (retrain(clips, labels, seed, f"repaired-{method}", folder), *done)
        print(f"seed {seed}: {method} {found[method]}", flush=True)
    return found


def interval(values: np.ndarray) -> str:
    """Mean and half width of the 95 % t-interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.0%} ± {half:.0%}"


def report(found: list[dict[str, tuple[float, ...]]]) -> str:
    """The table as Markdown."""
    lines = [machine(), "", f"Seeds {', '.join(map(str, SEEDS))}; ± is the 95 % t-interval over "
             "them, paired: clean, noisy and repaired of one seed.", "",
             "| labels | flagged | errors mended | right ones broken | accuracy, seed by seed | "
             "of the lost accuracy regained |", "|---|---|---|---|---|---|"]  # fmt: skip
    clean, noisy = (np.array([f[row][0] for f in found]) for row in ("clean", "noisy"))
    for row in found[0]:
        accuracies = np.array([f[row][0] for f in found])
        _, flagged, mended, broken = np.mean([f[row] for f in found], axis=0)
        each = ", ".join(f"{value:.1%}" for value in accuracies)
        cells = [f"{flagged:.0f}", f"{mended:.0%}", f"{broken:.1%}"]
        # Of all seeds together: the loss of a single one can be near nothing.
        share = (accuracies - noisy) / (clean - noisy).mean()
        regained = interval(share) if row not in ("clean", "noisy") else "-"
        lines.append(f"| {row} | {' | '.join(cells)} | {each} | {regained} |")
    lines += ["", f"Lost by the noise: {np.mean(clean - noisy):.1%} of accuracy."]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark on the clips below LABELKIT_TEST_DATA."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="That of detection.py.")
    parser.add_argument("--seed", type=int, help="Only train for this seed, and write nothing.")
    arguments = parser.parse_args()
    clips = read_clips(Path(os.environ["LABELKIT_TEST_DATA"]) / "esc10")
    if arguments.seed is not None:
        run_seed(clips, arguments.seed, arguments.folder)
        return
    write_section("repair", report([run_seed(clips, seed, arguments.folder) for seed in SEEDS]))


if __name__ == "__main__":
    main()
