"""What a user waits for at the prompt, and the metrics against a loop over clips.

python benchmarks/small_times.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from report import machine, write_section

from labelkit import metrics

RUNS = 11


def seconds(action: Callable[[], object], runs: int = RUNS) -> list[float]:
    """Wall-clock seconds of each of some calls, after one that does not count."""
    action()
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        found.append(time.perf_counter() - start)
    return found


def command(*words: str) -> Callable[[], object]:
    """A whole process; its output is thrown away."""
    return lambda: subprocess.run(words, check=True, capture_output=True)


def metadata_import(source: Path) -> Callable[[], object]:
    """A project made anew, and FSDKaggle2018's table imported into it, in one process each."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            words = [labelkit(), "-C", folder]
            subprocess.run([*words, "init", folder], check=True, capture_output=True)
            words += ["import", str(source), "--format", "fsdkaggle2018", "--metadata-only"]
            start = time.perf_counter()
            subprocess.run(words, check=True, capture_output=True)
            imports.append(time.perf_counter() - start)

    return run


imports: list[float] = []


def labelkit() -> str:
    """The installed command."""
    return str(Path(sys.executable).with_name("labelkit"))


def loop_lwlrap(labels: np.ndarray, probs: np.ndarray) -> list[float]:
    """Per-clip lwlrap as the published code computes it, clip by clip."""
    found = []
    for truth, scores in zip(labels, probs, strict=True):
        order = np.argsort(-scores, kind="stable")
        hits = truth[order]
        found.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits > 0].mean())
    return found


def main() -> None:
    """Measure, and write the table."""
    rng = np.random.default_rng(0)
    labels = np.eye(80)[rng.integers(0, 80, 25_000)]
    labels[np.arange(25_000), rng.integers(0, 80, 25_000)] = 1
    probs = rng.random((25_000, 80))
    fast = seconds(lambda: metrics.lwlrap_per_clip(labels, probs))
    slow = seconds(lambda: loop_lwlrap(labels, probs))
    np.testing.assert_allclose(metrics.lwlrap_per_clip(labels, probs), loop_lwlrap(labels, probs))
    bare = seconds(command(sys.executable, "-c", "import click"))
    shown = seconds(command(labelkit(), "--help"))
    imported = seconds(command(sys.executable, "-c", "import labelkit"))
    rows = [
        ("`labelkit --help`", shown),
        ("python with click imported, for comparison", bare),
        ("`import labelkit`, whole process", imported),
        ("per-clip lwlrap, 25,000 x 80", fast),
        ("the same, a loop over clips", slow),
    ]
    data = os.environ.get("LABELKIT_TEST_DATA")
    if data:
        seconds(metadata_import(Path(data) / "fsdkaggle2018" / "train_post_competition.csv"))
        rows.append(("`import --metadata-only` of 9,473 rows, whole process", imports[1:]))
    lines = [machine(), "", f"{RUNS} runs each.", "", "| what | median | lowest | highest |"]
    lines.append("|---|---|---|---|")
    lines += [
        f"| {what} | {statistics.median(t):.3f} s | {min(t):.3f} s | {max(t):.3f} s |"
        for what, t in rows
    ]
    ratio = statistics.median(slow) / statistics.median(fast)
    lines.append(f"\nPer-clip lwlrap is {ratio:.1f} times as fast as the loop.")
    write_section("small_times", "\n".join(lines))


if __name__ == "__main__":
    main()
