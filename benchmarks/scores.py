"""Scores from probabilities at scale: seconds, and the memory of a process for each.

python benchmarks/scores.py [--print]
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from report import machine, write_section
from small_times import seconds

from labelkit import metrics
from labelkit.noise import classes, dynamics, neighbours, pairs, scoring, windows

CLIPS, CLASSES = 1_000_000, 80
EPOCHS, DYNAMIC_CLIPS = 50, 25_000
VECTORS, DIM = 100_000, 128

AT_SCALE: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {
    "nothing (the inputs alone)": lambda y, p: None,
    "score_lwlrap": scoring.score_lwlrap,
    "score_self_confidence": scoring.score_self_confidence,
    "score_self_confidence, adjust": lambda y, p: scoring.score_self_confidence(y, p, adjust=True),
    "score_margin": scoring.score_margin,
    "score_margin, adjust": lambda y, p: scoring.score_margin(y, p, adjust=True),
    "score_log_loss": scoring.score_log_loss,
    "score_cleanlab": scoring.score_cleanlab,
    "score_cleanlab, softmin": lambda y, p: scoring.score_cleanlab(y, p, aggregate="softmin"),
    "score_cleanlab, minimum of margins": lambda y, p: scoring.score_cleanlab(
        y, p, aggregate="minimum", method="normalized_margin"
    ),
    "score_mixture": scoring.score_mixture,
    "score_mixture, per class": lambda y, p: scoring.score_mixture(y, p, per_class=True),
    "score_window_consensus, 1,000,000 windows": lambda y, p: windows.score_window_consensus(
        y, np.arange(len(y)) // 2, p
    ),
    "window_spread, 1,000,000 windows": lambda y, p: windows.window_spread(
        y, np.arange(len(y)) // 2, p
    ),
    "fuse_ranks of three scores": lambda y, p: scoring.fuse_ranks([p[:, 0], p[:, 1], p[:, 2]]),
    "score_pairs": pairs.score_pairs,
    "score_pairs, class_rank": lambda y, p: pairs.score_pairs(y, p, method="class_rank"),
    "find_missing": pairs.find_missing,
    "find_confusable": classes.find_confusable,
    "estimate_noise": classes.estimate_noise,
    "class_similarity": lambda y, p: classes.class_similarity(y, probs=p),
}


def draw(n: int, rng: np.random.Generator, per_clip: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    """Labels, one a clip and some more, and float32 probabilities that lean towards them."""
    labels = np.zeros((n, CLASSES), bool)
    labels[np.arange(n), rng.integers(0, CLASSES, n)] = True
    more = rng.integers(0, CLASSES, (2, round((per_clip - 1) * n)))
    labels[rng.integers(0, n, more.shape[1]), more[1]] = True
    probs = rng.random((n, CLASSES), np.float32)
    probs **= 4
    clips, given = np.nonzero(labels)
    probs[clips, given] = np.sqrt(rng.random(len(clips), np.float32))
    return labels, probs


def child(name: str, file: str = "") -> None:
    """Run one thing in this process; print its seconds and the peak memory in MB."""
    rng = np.random.default_rng(0)
    if name == "neighbours":
        embeddings = rng.standard_normal((VECTORS, DIM), np.float32)
        groups = rng.integers(0, VECTORS // 2, VECTORS)
        start = time.perf_counter()
        neighbours.find_neighbours(embeddings, k=10, groups=groups)
    elif name == "dynamics":
        shape = (EPOCHS, DYNAMIC_CLIPS, CLASSES)
        labels, logits = draw(DYNAMIC_CLIPS, rng)[0], np.memmap(file, np.float16, "r", shape=shape)
        start = time.perf_counter()
        dynamics.measure_dynamics(labels, logits)
    else:
        labels, probs = draw(CLIPS, rng)
        start = time.perf_counter()
        AT_SCALE[name](labels, probs)
    took = time.perf_counter() - start
    print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure(name: str, file: str = "") -> tuple[float, float]:
    """Seconds and peak MB of a process of its own."""
    words = [sys.executable, __file__, "--child", name, file]
    took, peak = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    return float(took), float(peak)


def ratio(per_clip: float) -> str:
    """A row on per-clip lwlrap against scikit-learn."""
    from sklearn.metrics import label_ranking_average_precision_score as sklearn_lrap

    labels, probs = draw(DYNAMIC_CLIPS, np.random.default_rng(0), per_clip)
    fast = statistics.median(seconds(lambda: metrics.lwlrap_per_clip(labels, probs)))
    slow = statistics.median(seconds(lambda: sklearn_lrap(labels, probs), runs=3))
    difference = abs(metrics.lwlrap_per_clip(labels, probs).mean() - sklearn_lrap(labels, probs))
    return (
        f"| {labels.sum() / len(labels):.2f} | {fast:.4f} s | {slow:.3f} s | {slow / fast:.0f} | "
        f"{difference:.0e} |"
    )


def main() -> None:
    """Measure, and write the tables."""
    lines = [machine(), "", f"Per-clip lwlrap, {DYNAMIC_CLIPS:,} x {CLASSES}, float32:", ""]
    lines += ["| labels a clip | labelkit | scikit-learn | ratio | difference |"]
    lines += ["|---|---|---|---|---|", ratio(1.2), ratio(5)]
    lines += ["", f"One process each, {CLIPS:,} x {CLASSES}, float32, once:", ""]
    lines += ["| what | seconds | peak memory |", "|---|---|---|"]
    for name in AT_SCALE:
        took, peak = measure(name)
        lines.append(f"| {name} | {took:.2f} | {peak:,.0f} MB |")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "logits"
        with file.open("wb") as out:
            rng = np.random.default_rng(1)
            for _ in range(EPOCHS):
                block = rng.standard_normal((DYNAMIC_CLIPS, CLASSES), np.float32)
                block.astype(np.float16).tofile(out)
        took, peak = measure("dynamics", str(file))
    shape = f"{EPOCHS} x {DYNAMIC_CLIPS:,} x {CLASSES}"
    lines.append(f"| measure_dynamics, {shape}, float16 on disk | {took:.2f} | {peak:,.0f} MB |")
    took, peak = measure("neighbours")
    lines.append(
        f"| find_neighbours, k = 10, {VECTORS:,} x {DIM}, in groups | {took:.2f} | {peak:,.0f} MB |"
    )
    text = "\n".join(lines)
    if "--print" in sys.argv:
        print(text)
    else:
        write_section("scores", text)


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(*sys.argv[2:])
    else:
        main()
