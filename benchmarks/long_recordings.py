"""Peak memory of one worker that computes spectrograms of long recordings.

Each length and recipe is a process of its own; what counts is its largest resident set.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from report import machine, write_section

MINUTES = (1, 10, 60)
RECIPES = {
    "quick": "quick",
    "argus": "argus",
    "dorfer": "dorfer",
    "quick, at 0.9 times the speed": "quick features.speed=0.9",
    "quick, 2 semitones higher": "quick features.semitones=2",
}


def measure(path: str, words: str) -> None:
    """Compute one recording as a worker does, and print the peak in MB."""
    from labelkit.config import read_recipe
    from labelkit.recordings.features import Extractor

    folder, (recipe, *settings) = Path(path).parent, words.split()
    found = Extractor(folder, read_recipe(recipe, settings).features, folder)(Path(path).name)
    rows = found.rows.stat().st_size if isinstance(found.rows, Path) else found.rows.nbytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([peak, rows, found.entry.faults]))


def main() -> None:
    """Write recordings and measure."""
    lines = ["| recipe | " + " | ".join(f"{m} min" for m in MINUTES) + " |",
             "|---" * (1 + len(MINUTES)) + "|"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for minutes in MINUTES:
            path = Path(folder) / f"{minutes}.wav"
            rng = np.random.default_rng(minutes)
            with soundfile.SoundFile(path, "w", 44100, 2, "PCM_16") as file:
                for _ in range(minutes):
                    file.write(0.1 * rng.standard_normal((60 * 44100, 2)))
            paths.append(path)
        for name, words in RECIPES.items():
            peaks = []
            for path in paths:
                done = subprocess.run(
                    [sys.executable, __file__, "--one", str(path), words],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                peak, _, faults = json.loads(done.stdout.splitlines()[-1])
                peaks.append(f"{peak:.0f} MB" + (f" ({faults[0]})" if faults else ""))
            lines.append(f"| {name} | " + " | ".join(peaks) + " |")
    write_section("long_recordings", "\n".join([machine(), "", *lines]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", nargs=2)
    options = parser.parse_args()
    if options.one:
        measure(*options.one)
    else:
        main()
