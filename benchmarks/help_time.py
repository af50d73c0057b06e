"""How long a command takes in two versions of labelkit, side by side in one run.

python benchmarks/help_time.py OLD_PYTHON NEW_PYTHON
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 15


def run_s(python: str) -> float:
    """Seconds that ``labelkit --help`` takes, the interpreter's start included."""
    begun = time.perf_counter()
    subprocess.run([python, "-m", "labelkit", "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main(old: str, new: str) -> None:
    """Print medians, and the median of the ratios of runs next to each other."""
    # The first ones write bytecode.
    run_s(old), run_s(new)
    pairs = [(run_s(old), run_s(new)) for _ in range(RUNS)]
    before, now = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"old {before:.3f} s, new {now:.3f} s, new / old {ratio:.2f} (medians of {RUNS} pairs)")


if __name__ == "__main__":
    main(*sys.argv[1:])
