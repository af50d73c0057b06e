"""Self-verification on ESC-10 under an FSDKaggle2018-like protocol.

Per class 40 % of the clips are verified, and 35 % of the others get a wrong label,
uniformly; official folds, the source recording as group. For three seeds, in one go:
``verify`` with ``quick``, the published rule, and the same net trained equally many
steps on all labels as given. The table goes to docs/benchmarks.md.

    python benchmarks/esc10_verify.py            the table (half an hour on two cores)
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from report import machine, write_section
from scipy.stats import t as student

from labelkit import metrics
from labelkit.config import RULES, FormatSpec, Recipe, change_verify, read_recipe
from labelkit.labels.importing import import_labels
from labelkit.noise.selection import select_confident
from labelkit.project import Project, create_project
from labelkit.records import multi_hot
from labelkit.runs.train import train
from labelkit.runs.verify import verify
from labelkit.states import SELF_VERIFIED

SEEDS = (0, 1, 2)
FOLDS = 5


class Draw:
    """ESC-10 with some labels verified and some of the others made wrong."""

    def __init__(self, data: Path, seed: int) -> None:
        with (data / "labels.csv").open(newline="") as file:
            self.rows = list(csv.DictReader(file))
        self.audio = data / "audio"
        self.classes = sorted({row["label"] for row in self.rows})
        self.truth = np.array([self.classes.index(row["label"]) for row in self.rows])
        self.given, self.verified = self.truth.copy(), np.zeros(len(self.rows), bool)
        rng = np.random.default_rng(seed)
        for label in range(len(self.classes)):
            clips = rng.permutation(np.flatnonzero(self.truth == label))
            n_verified = round(0.4 * len(clips))
            self.verified[clips[:n_verified]] = True
            others = [other for other in range(len(self.classes)) if other != label]
            for clip in clips[n_verified:][: round(0.35 * (len(clips) - n_verified))]:
                self.given[clip] = rng.choice(others)
        self.right = self.given == self.truth

    def project(self, folder: Path) -> Project:
        """A project on this draw; clip ids are row numbers."""
        folder.mkdir()
        with (folder / "train.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("fname", "label", "verified", "fold", "source"))
            for row, given, verified in zip(self.rows, self.given, self.verified, strict=True):
                label = self.classes[given]
                writer.writerow((row["fname"], label, int(verified), row["fold"], row["source"]))
        project, _ = create_project(folder, self.audio)
        spec = FormatSpec(verified_column="verified", fold_column="fold", group_column="source")
        import_labels(project, folder / "train.csv", "csv", spec)
        return project

    def found(self, chosen: np.ndarray) -> tuple[int, float, float]:
        """Clips chosen, share of them that is right, share of the right ones that is found."""
        chosen = chosen & ~self.verified
        right = (chosen & self.right).sum()
        precision = right / chosen.sum() if chosen.any() else np.nan
        return int(chosen.sum()), precision, right / (self.right & ~self.verified).sum()


def self_verified(project: Project) -> np.ndarray:
    """Mask of the clips the store has as self-verified."""
    with project.store.read() as session:
        return session.labels().states == SELF_VERIFIED


def out_of_fold(project: Project, run_id: str, iteration: int | None = None) -> np.ndarray:
    """Probabilities of all clips from a run's fold models, of its last round or a given one."""
    with project.store.read() as session:
        if iteration is None:
            return session.predictions(run_id)[2]
        found = session.rows(
            "select p.probs from predictions p join runs r on r.run_id = p.run_id "
            "where r.part_of = ? and r.iteration = ? order by p.clip_id",
            [run_id, iteration],
        )
    return np.array([probs for (probs,) in found])


def steps_of(project: Project, run_id: str, recipe: Recipe) -> float:
    """Optimiser steps of a run, mean over its folds."""
    with project.store.read() as session:
        rows = session.rows(
            "select iteration, len(trained_on) from runs where part_of = ?", [run_id]
        )
    total = 0
    for iteration, n_clips in rows:
        stage = recipe.stages["finetune" if iteration else "pretrain"]
        total += stage.epochs * -(-n_clips // stage.batch_size)
    return total / FOLDS


def run_verify(project: Project, draw: Draw, recipe: Recipe, seed: int) -> dict:
    """Verify, noting after each round what the store says."""
    rounds = []
    start = time.perf_counter()
    summary = verify(
        project,
        recipe,
        seed=seed,
        on_round=lambda row: rounds.append(draw.found(self_verified(project))),
    )
    truth = np.eye(len(draw.classes))[draw.truth]
    return {
        "run_id": summary["run_id"],
        "seconds": time.perf_counter() - start,
        "rounds": rounds[1:],
        "kept": draw.found(self_verified(project)),
        "accuracy": metrics.accuracy(truth, out_of_fold(project, summary["run_id"])),
        "first_accuracy": metrics.accuracy(truth, out_of_fold(project, summary["run_id"], 0)),
    }


def run_seed(data: Path, folder: Path, seed: int) -> dict:
    """Everything the table needs of one seed."""
    draw, quick = Draw(data, seed), read_recipe("quick")
    project = draw.project(folder / f"quick{seed}")
    ours = run_verify(project, draw, quick, seed)
    print(f"seed {seed}: quick {ours['kept']}, {ours['seconds']:.0f} s", flush=True)

    labels = multi_hot(draw.given[:, None], len(draw.classes))
    first = out_of_fold(project, ours["run_id"], 0)
    argmax = draw.found(select_confident(labels, first, threshold=0, per_class=0))

    # Dorfer and Widmer fine-tuned without mixup; with it, hardly a probability exceeds 0.95.
    published_recipe = change_verify(
        read_recipe("quick", ["finetune.augment.mixup.p=0"]),
        RULES["as_written"] | {"until": "all", "keep": "last"},
    )
    other = draw.project(folder / f"published{seed}")
    published = run_verify(other, draw, published_recipe, seed)
    print(f"seed {seed}: published {published['kept']}", flush=True)

    steps = steps_of(project, ours["run_id"], quick)
    per_epoch = -(-len(draw.rows) * (FOLDS - 1) // FOLDS // quick.stages["pretrain"].batch_size)
    epochs = round(steps / per_epoch)
    plain = train(
        draw.project(folder / f"given{seed}"),
        read_recipe("quick", [f"pretrain.epochs={epochs}"]),
        seed=seed,
    )
    truth = np.eye(len(draw.classes))[draw.truth]
    as_given = out_of_fold(Project(folder / f"given{seed}", draw.audio), plain["run_id"])
    result = {
        "quick": ours,
        "argmax": argmax,
        "published": published,
        "steps": steps,
        "given_steps": epochs * per_epoch,
        "given_accuracy": metrics.accuracy(truth, as_given),
    }
    print(f"seed {seed}: {ours['accuracy']:.4f} against {result['given_accuracy']:.4f}", flush=True)
    return result


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Mean and half width of the 95 % t-interval."""
    n = len(differences)
    half = student.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)
    return float(differences.mean()), float(half)


def report(results: list[dict]) -> str:
    """The table as Markdown."""

    def cell(values: list[tuple[int, float, float]]) -> str:
        count, precision, recall = np.nanmean(np.array(values, float), axis=0)
        return f"{count:.0f} | {precision:.1%} | {recall:.1%}"

    rule = read_recipe("quick").verify
    lines = [
        machine(),
        "",
        f"Mean of seeds {', '.join(map(str, SEEDS))}. Right: share of the self-verified clips "
        "whose label is true. Found: share of the unverified clips with a true label that were "
        f"self-verified. `quick`: its default rule, {rule.windows} windows; a run whose rounds "
        "ended earlier counts with its last one; published: p > 0.95, 40 per class, 25 windows, "
        "fine-tuned without mixup.",
        "",
        "| round | quick: clips | right | found | published: clips | right | found |",
        "|---|---|---|---|---|---|---|",
    ]
    for number in range(max(len(r["published"]["rounds"]) for r in results)):
        cells = [
            cell([(r[kind]["rounds"] or [r[kind]["kept"]])[: number + 1][-1] for r in results])
            for kind in ("quick", "published")
        ]
        lines.append(f"| {number + 1} | {cells[0]} | {cells[1]} |")
    lines.append(f"| argmax, no rounds | {cell([r['argmax'] for r in results])} | | | |")
    last = [r["quick"]["kept"] for r in results]
    each = "; ".join(f"{p:.1%} right, {f:.1%} found" for _, p, f in last)
    differences = np.array([r["quick"]["accuracy"] - r["given_accuracy"] for r in results])
    mean, half = interval(differences)
    verdict = (
        "The interval excludes 0."
        if abs(mean) > half
        else "The interval includes 0: three seeds show no certain gain."
    )
    seconds = ", ".join(f"{r['quick']['seconds']:.0f} s" for r in results)
    lines += [
        "",
        f"`quick`, the round that counts, seed by seed: {each}. Time of `verify`: {seconds}.",
        "",
        "Accuracy against the truth on all 400 clips, out of fold:",
        "",
        "| seed | first training | `verify` | as given, equal steps | gain |",
        "|---|---|---|---|---|",
    ]
    for seed, r in zip(SEEDS, results, strict=True):
        ours, given = r["quick"]["accuracy"], r["given_accuracy"]
        lines.append(
            f"| {seed} | {r['quick']['first_accuracy']:.1%} | "
            f"{ours:.1%} ({r['steps']:.0f} steps) | "
            f"{given:.1%} ({r['given_steps']} steps) | {ours - given:+.1%} |"
        )
    lines.append(f"\nPaired gain {mean:+.1%} ± {half:.1%} (95 % t-interval, n = 3). {verdict}")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark on the clips below LABELKIT_TEST_DATA."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    data = Path(os.environ["LABELKIT_TEST_DATA"]) / "esc10"
    with tempfile.TemporaryDirectory() as name:
        results = [run_seed(data, Path(name), seed) for seed in SEEDS]
        write_section("esc10_verify", report(results))


if __name__ == "__main__":
    main()
