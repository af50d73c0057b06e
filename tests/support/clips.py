"""Recordings and tables of labels, written by hand."""

import csv

import numpy as np
import soundfile

from labelkit.datasets.demo import SAMPLE_RATE, synthesise


def write_tone(path, frequency, seconds=1.0, rate=SAMPLE_RATE):
    t = np.arange(int(seconds * rate)) / rate
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * frequency * t), rate)


def write_csv(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def pair_clips(folder, n, seed):
    """Write ``n`` sums of two demonstration sounds; returns their names and two labels each."""
    rng = np.random.default_rng(seed)
    classes = ["Bell", "Falling_glide", "Gallop", "Rising_glide", "Surf", "Siren"]
    (folder / "audio").mkdir(parents=True)
    pairs = []
    for number in range(n):
        first, second = rng.choice(classes, 2, replace=False)
        wave = 0.5 * (synthesise(first, rng) + synthesise(second, rng))
        name = f"{number:03d}.wav"
        soundfile.write(folder / "audio" / name, wave, SAMPLE_RATE)
        pairs.append((name, (str(first), str(second))))
    return classes, pairs
