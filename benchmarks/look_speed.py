"""`check --fast` and `import` of this checkout beside those of another one.

LABELKIT_TEST_DATA names the folder of real clips.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from report import machine, take_time, write_section

HERE = Path(__file__).parent.parent
SETS = {"esc10": (), "finch_syllables_gy": ("--group-column", "song")}


def take_times(
    checkout: Path, data: Path, options: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    """Return wall and processor seconds of both commands on a new project."""
    labelkit = [sys.executable, "-m", "labelkit"]
    commands = {
        "import": [*labelkit, "import", str(data / "labels.csv"), "--format", "csv", *options],
        "check --fast": [*labelkit, "check", "--fast", "--workers", "2"],
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        inside = data if options else data / "audio"
        take_time([*labelkit, "init", str(inside)], root, checkout)
        return {name: take_time(words, root, checkout) for name, words in commands.items()}


def main(before: Path, commit: str, repeats: int) -> None:
    """Measure in turn and write the section."""
    rows = ["| set | command | before, s | now, s | ratio, wall | ratio, processor |"]
    rows.append("|---" * 6 + "|")
    for name, options in SETS.items():
        data = Path(os.environ["LABELKIT_TEST_DATA"]) / name
        pairs = []
        for k in range(repeats):
            # Whoever comes first finds a colder disk.
            order = (before, HERE) if k % 2 else (HERE, before)
            found = {tree: take_times(tree, data, options) for tree in order}
            pairs.append((found[before], found[HERE]))
        for command in pairs[0][0]:
            times = np.array([[old[command], new[command]] for old, new in pairs])
            walls = np.median(times[:, :, 0], axis=0)
            ratios = np.median(times[:, 1] / times[:, 0], axis=0)
            shown = " | ".join(f"{x:.2f}" for x in (*walls, *ratios))
            rows.append(f"| {name} | `{command}` | {shown} |")
    said = f"Before is commit {commit}; seconds of the whole command, medians of {repeats} pairs."
    write_section("look_speed", "\n".join([machine(), "", said, "", *rows]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("before", type=Path, help="a checkout of the commit to compare with")
    parser.add_argument("--commit", required=True, help="what that is")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    main(args.before.resolve(), args.commit, args.repeats)
