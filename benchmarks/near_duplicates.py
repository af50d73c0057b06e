"""Copies planted among the clips of real sets, how many are found again, and what else is.

LABELKIT_TEST_DATA=... python benchmarks/near_duplicates.py [--print] [SEED ...]

The threshold was chosen on seed 0; the seeds of the table had no part in it.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from report import machine, write_section

from labelkit.audio import io
from labelkit.audio.features import compute
from labelkit.config import FeatureSpec, FormatSpec, read_recipe
from labelkit.labels.importing import import_labels
from labelkit.noise.neighbours import find_neighbours
from labelkit.noise.similarity import find_near_duplicates
from labelkit.project import create_project
from labelkit.recordings.duplicates import list_duplicates

KINDS = ("exact", "gain", "ogg", "mp3", "crop_begin", "crop_end", "crop_both", "zeroed")
# Found since waveforms are aligned.
MORE_KINDS = ("resampled", "silence", "inverted", "channel", "noise")
SETS = (
    "arabic_commands", "instrument_notes", "motor_throttle", "finch_syllables_gy",
    "body_percussion_tags", "instrument_mix_tags",
)  # fmt: skip
SEEDS = (3, 4, 5)
KBITS = 64


def copy(mono: np.ndarray, rate: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """A copy of one of ``KINDS`` of a recording."""
    if kind == "gain":
        gained = np.clip(mono * 10 ** (rng.uniform(-20, 12) / 20), -1, 1)
        return np.round(gained * 32767) / 32767
    if kind in ("ogg", "mp3"):
        return encode(mono, rate, kind)
    cut = int(len(mono) * rng.uniform(0.1, 0.25)) if kind != "exact" else 0
    before = {"crop_begin": cut, "crop_both": int(rng.integers(0, cut + 1))}.get(kind, 0)
    if kind == "zeroed":
        start = int(rng.integers(0, len(mono) - cut + 1))
        return np.concatenate([mono[:start], np.zeros(cut), mono[start + cut :]])
    return mono[before : len(mono) - (cut - before)]


def alter(
    samples: np.ndarray, rate: int, kind: str, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """A copy of one of all kinds of a recording, shape ``(n, n_channels)``, and its rate."""
    mono = samples.mean(axis=1)
    if kind == "resampled":
        target = 8000 if rate <= 16_000 else 16_000
        return soxr.resample(mono, rate, target), target
    if kind == "silence":
        return np.concatenate([np.zeros(int(rng.uniform(0.1, 1) * rate)), mono]), rate
    if kind == "channel":
        return samples[:, 0], rate
    if kind == "noise":
        return mono + 0.1 * mono.std() * rng.standard_normal(len(mono)), rate
    return -mono if kind == "inverted" else copy(mono, rate, kind, rng), rate


def list_set(name: str, seed: int, folder: Path) -> tuple[str, str]:
    """Rows of one set: what is found in it as it is, and with a copy of each clip among it."""
    data = Path(os.environ["LABELKIT_TEST_DATA"]) / name
    with (data / "labels.csv").open(newline="", encoding="utf-8") as file:
        names = [row["fname"] for row in csv.DictReader(file)]
    below = "" if (data / names[0]).exists() else "audio/"
    audio = folder / "audio"
    audio.mkdir()
    kinds = (*KINDS, *MORE_KINDS)
    dealt = np.random.default_rng(seed).permutation(len(names)) % len(kinds)
    clips: list[str] = []
    for n, (path, kind) in enumerate(zip(names, dealt, strict=True)):
        samples, rate = io.read_audio(data / (below + path))
        shutil.copy(data / (below + path), audio / f"{n:04}{Path(path).suffix}")
        rng = np.random.default_rng((seed, n))
        altered, new_rate = alter(samples, rate, kinds[kind], rng)
        soundfile.write(audio / f"{n:04}_copy.wav", altered, new_rate, subtype="PCM_16")
        clips.append(f"{n:04}{Path(path).suffix}")
    found = {}
    for what in ("as it is", "with copies"):
        root = folder / what
        root.mkdir()
        project, _ = create_project(root, audio)
        rows = clips + ([f"{clip[:4]}_copy.wav" for clip in clips] if what != "as it is" else [])
        table = root / "labels.csv"
        table.write_text("fname,label\n" + "".join(f"{row},x\n" for row in rows))
        import_labels(project, table, "csv", FormatSpec(), metadata_only=True)
        start = time.perf_counter()
        pairs = list_duplicates(project, read_recipe("probe").features)
        found[what] = pairs, time.perf_counter() - start
    alone, seconds = found["as it is"]
    same = [pair for pair in alone if pair.what == "same sound"]
    lowest = min((pair.correlation for pair in same), default=None)
    first = [name, len(names), len(same), "-" if lowest is None else f"{lowest:.3f}",
             sum(pair.what == "alike" for pair in alone), f"{seconds:.0f}"]  # fmt: skip
    told = {(pair.path[:4], pair.other[:4]) for pair in found["with copies"][0]
            if pair.what != "alike"}  # fmt: skip
    known = {(pair.path[:4], pair.other[:4]) for pair in same}
    recall = [
        np.mean([(f"{n:04}", f"{n:04}") in told for n in np.flatnonzero(dealt == k)])
        for k in range(len(kinds))
    ]
    wrong = {tuple(sorted(pair)) for pair in told if pair[0] != pair[1]} - known
    second = [name, *(f"{share:.0%}" for share in recall), len(wrong)]
    return tuple(f"| {' | '.join(map(str, cells))} |" for cells in (first, second))


def measure_sets(seed: int) -> list[str]:
    """Tables of all sets but ESC-10, with waveforms aligned."""
    first = ["| set | clips | the same sound | lowest correlation | alike | seconds |", "|---" * 6]
    kinds = (*KINDS, *MORE_KINDS)
    second = [f"| set | {' | '.join(kinds)} | others |", "|---" * (len(kinds) + 2)]
    first[1] += "|"
    second[1] += "|"
    for name in ("esc10", *SETS):
        with tempfile.TemporaryDirectory() as folder:
            rows = list_set(name, seed, Path(folder))
        first.append(rows[0])
        second.append(rows[1])
    return [
        "\n`labelkit duplicates` on the sets as they are; seconds include the spectrograms:\n",
        *first,
        f"\nAnd with a copy of each clip among them, seed {seed}: the share of each kind that is "
        "said to be the same sound, and pairs of others that are and were not before:\n",
        *second,
    ]


def encode(mono: np.ndarray, rate: int, kind: str) -> np.ndarray:
    """What comes out of a coder at about ``KBITS``."""
    file = BytesIO()
    if kind == "ogg":
        # The level of a variable rate: so much for broadband sound, less for silence.
        options: dict[str, Any] = {"format": "OGG", "subtype": "VORBIS", "compression_level": 0.97}
    else:
        # libsndfile's levels lie evenly between the rates that the sample rate allows.
        low, high = (32, 320) if rate >= 32_000 else (8, 160)
        options = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT"}
        options["compression_level"] = (high - KBITS) / (high - low)
    soundfile.write(file, mono, rate, **options)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


def spectrogram(job: tuple[Path, str | None, Sequence[int]]) -> np.ndarray:
    """Frames of a recording, or of a copy of it, as the feature store holds them."""
    path, kind, seed = job
    samples, rate = io.read_audio(path)
    if kind:
        samples = copy(samples.mean(axis=1), rate, kind, np.random.default_rng(seed))[:, None]
    return compute(samples.astype(np.float32), rate, FeatureSpec())[0].astype(np.float16)


def waveform_correlation(first: Path, second: Path) -> float:
    """Correlation of samples in the best second, two recordings laid over each other.

    The lag is that of the whitened cross-correlation: it owes nothing to spectrograms.
    """
    (a, rate), (b, _) = ((s.mean(axis=1), r) for s, r in map(io.read_audio, (first, second)))
    length = len(a) + len(b)
    cross = np.fft.rfft(a, length) * np.fft.rfft(b, length).conj()
    lag = int(np.abs(np.fft.irfft(cross / (np.abs(cross) + 1e-9), length)).argmax())
    lag = lag if lag < len(a) else lag - length
    a, b = a[max(0, lag) :], b[max(0, -lag) :]
    n = min(len(a), len(b))
    best = 0.0
    for start in range(0, n - rate + 1, rate // 4):
        x, y = a[start : start + rate], b[start : start + rate]
        if min(x.std(), y.std()) > 1e-4:
            best = max(best, float(abs(np.corrcoef(x, y)[0, 1])))
    return best


def read_rows(folder: Path) -> list[dict[str, str]]:
    """Lines of ESC-10's table."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def plant(
    folder: Path, originals: Sequence[np.ndarray], seed: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Spectrograms of all clips and one copy of each, and the kinds of the copies."""
    rows = read_rows(folder)
    kinds = np.array(KINDS)[np.random.default_rng(seed).permutation(len(rows)) % len(KINDS)]
    jobs = [
        (folder / "audio" / row["fname"], str(kind), (seed, n))
        for n, (row, kind) in enumerate(zip(rows, kinds, strict=True))
    ]
    with ProcessPoolExecutor() as executor:
        copies = list(executor.map(spectrogram, jobs, chunksize=20))
    return [*originals, *copies], kinds


def judge(
    folder: Path, pairs: np.ndarray, kinds: np.ndarray
) -> tuple[dict[str, float], int, int, set[tuple[int, int]]]:
    """Recall of each kind, pairs found wrongly, and pairs of clips that share samples.

    Pairs of one source count neither way, nor do those of two sources whose recordings
    share samples; the latter are named.
    """
    rows, n = read_rows(folder), len(kinds)
    found = {(int(i), int(j)) for i, j in pairs}
    recall = {
        kind: float(np.mean([(i, i + n) in found for i in np.flatnonzero(kinds == kind)]))
        for kind in KINDS
    }
    others = [
        (min(i % n, j % n), max(i % n, j % n))
        for i, j in found
        if rows[i % n]["source"] != rows[j % n]["source"]
    ]
    shared = {
        pair
        for pair in set(others)
        if waveform_correlation(*(folder / "audio" / rows[c]["fname"] for c in pair)) > 0.9
    }
    planted = sum((i, i + n) in found for i in range(n))
    return recall, planted, sum(pair not in shared for pair in others), shared


def time_neighbours() -> float:
    """Seconds for the ten nearest of 100,000 vectors of 128 numbers, with groups."""
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((100_000, 128), dtype=np.float32)
    groups = rng.integers(0, 60_000, 100_000)
    start = time.perf_counter()
    find_neighbours(embeddings, k=10, groups=groups)
    return time.perf_counter() - start


def main() -> None:
    """Plant, find, and write the table."""
    folder = Path(os.environ["LABELKIT_TEST_DATA"]) / "esc10"
    rows = read_rows(folder)
    seeds = [int(word) for word in sys.argv[1:] if word.isdigit()] or SEEDS
    with ProcessPoolExecutor() as executor:
        jobs = [(folder / "audio" / row["fname"], None, ()) for row in rows]
        originals = list(executor.map(spectrogram, jobs, chunksize=20))
    lines = [machine(), "", "| seed | " + " | ".join(KINDS) + " | precision | seconds |"]
    lines.append("|---" * (len(KINDS) + 3) + "|")
    siblings: set[tuple[int, int]] = set()
    for seed in seeds:
        frames, kinds = plant(folder, originals, seed)
        start = time.perf_counter()
        pairs, _ = find_near_duplicates(frames)
        seconds = time.perf_counter() - start
        recall, planted, wrong, shared = judge(folder, pairs, kinds)
        siblings |= shared
        cells = [f"{recall[kind]:.1%}" for kind in KINDS]
        precision = planted / max(planted + wrong, 1)
        lines.append(f"| {seed} | {' | '.join(cells)} | {precision:.2%} | {seconds:.1f} |")
    lines.append(f"\nRecall of each kind, {len(rows)} clips and {len(rows)} copies.")
    lines.append("Clips of different sources that share samples, and count neither way:")
    lines += [f"{rows[i]['fname']} and {rows[j]['fname']}." for i, j in sorted(siblings)]
    lines += measure_sets(seeds[0])
    lines.append(f"\n10 nearest of 100,000 x 128 with groups: {time_neighbours():.0f} s.")
    if "--print" in sys.argv:
        print("\n".join(lines))
    else:
        write_section("near_duplicates", "\n".join(lines))


if __name__ == "__main__":
    main()
