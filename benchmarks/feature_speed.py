"""The command that computes spectrograms, beside a pool of two librosa workers; and how they agree.

LABELKIT_TEST_DATA names the folder of real clips.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from report import machine, take_time, write_section

POOL = """
import sys, numpy as np
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

def compute(path):
    import librosa
    wave, rate = librosa.load(path, sr=44100, mono=True)
    wave, _ = librosa.effects.trim(wave, top_db=60)
    mel = librosa.feature.melspectrogram(
        y=wave, sr=rate, n_fft=2560, hop_length=690, n_mels=128, fmin=20, fmax=22050
    )
    return librosa.power_to_db(mel, top_db=80).T.astype(np.float16)

if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        frames = list(pool.map(compute, sorted(Path(sys.argv[1]).iterdir()), chunksize=8))
    print(sum(map(len, frames)))
"""


def compare(clips: list[Path]) -> tuple[float, float]:
    """Return the largest difference in dB within 60 dB of a clip's peak, and within 80 dB."""
    import librosa

    from labelkit.audio import features, io
    from labelkit.config import read_recipe

    spec = read_recipe("argus").features
    worst = [0.0, 0.0]
    for path in clips:
        wave, _ = features.prepare(*io.read_audio(path), spec)
        mel = librosa.feature.melspectrogram(
            y=wave.astype(np.float64), sr=spec.sample_rate, n_fft=spec.n_fft,
            hop_length=spec.hop_length, n_mels=spec.n_mels, fmin=spec.fmin_hz, fmax=spec.fmax_hz,
            pad_mode="reflect",
        )  # fmt: skip
        expected = librosa.power_to_db(mel, amin=10 ** (spec.floor_db / 10), top_db=80).T
        apart = np.abs(features.log_mel(wave, spec) - expected)
        for k, range_db in enumerate((60, 80)):
            worst[k] = max(worst[k], float(apart[expected > expected.max() - range_db].max()))
    return worst[0], worst[1]


def main(repeats: int) -> None:
    """Measure in turn and write the section."""
    clips = Path(os.environ["LABELKIT_TEST_DATA"]) / "esc10" / "audio"
    labels = clips.parent / "labels.csv"
    labelkit = [sys.executable, "-m", "labelkit"]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "pool.py").write_text(POOL)
        subprocess.run([*labelkit, "init", str(clips)], cwd=root, check=True, capture_output=True)
        subprocess.run(
            [*labelkit, "import", str(labels), "--format", "csv"],
            cwd=root, check=True, capture_output=True,
        )  # fmt: skip
        command = [*labelkit, "features", "--recipe", "argus", "--workers", "2"]
        for k in range(repeats):
            # Another cache each time.
            ours.append(take_time([*command, "--set", f"features.silence_db={-90 - k}"], root))
            theirs.append(take_time([sys.executable, "pool.py", str(clips)], root))
    within_60, within_80 = compare(sorted(clips.iterdir())[::4])
    rows = ["| | wall, s | processor, s |", "|---|---|---|"]
    for name, found in (("`labelkit features`", ours), ("two librosa workers", theirs)):
        walls, used = zip(*found, strict=True)
        spread = [
            f"{statistics.median(x):.1f} ({min(x):.1f} to {max(x):.1f})" for x in (walls, used)
        ]
        rows.append(f"| {name} | {spread[0]} | {spread[1]} |")
    ratios = [
        statistics.median(a[k] / b[k] for a, b in zip(ours, theirs, strict=True)) for k in (0, 1)
    ]
    rows.append(f"| ratio, median of {repeats} pairs | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    said = (
        f"Before rounding, 100 of the clips differ from librosa in float64 by at most "
        f"{within_60:.1e} dB within 60 dB of a clip's peak, and {within_80:.1e} dB within 80."
    )
    write_section("feature_speed", "\n".join([machine(), "", *rows, "", said]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    main(parser.parse_args().repeats)
