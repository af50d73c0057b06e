"""What self-verification trusts on sets of many kinds, with one label a clip and with several.

A share of 40 % of the clips is verified, of each class where clips have one label, and errors are
planted among the others: 35 % of single labels become another class, uniformly; of several labels
15 % are dropped and 10 % of the rest replaced, as ``multilabel.py`` does it. Then the loop of
``labelkit verify --recipe probe`` runs with its default rule, and with the one before: labels are
the most probable classes, each above 0.3, three rounds, the last one counts.

The rule was chosen on planting seeds from 100 on, and on other mixtures of ESC-10 (draws 0 and 100
to 102 of ``mix_clips``; the table has draw 1). A set and seed that was measured is kept below DIR.

    LABELKIT_TEST_DATA=... python benchmarks/verify_sets.py --folder DIR [--print] [--seeds 100,101]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from multilabel import mix_clips, plant
from report import machine, write_section

from labelkit.config import FormatSpec, VerifySpec, read_recipe
from labelkit.folds import make_folds
from labelkit.labels.importing import import_labels
from labelkit.noise.agreement import measure_agreement
from labelkit.noise.probe import Probe, cross_probs
from labelkit.noise.simulate import plant_uniform
from labelkit.noise.verify import self_verify
from labelkit.project import create_project
from labelkit.recordings.embedding import compute_embeddings, read_embeddings

SEEDS = tuple(range(10))
VERIFIED, WRONG = 0.4, 0.35
# The column that says which clips are of one recording; none parts speakers or instruments.
SETS = {
    "esc10": "source",
    "arabic_commands": None,
    "instrument_notes": None,
    "motor_throttle": "source_clip",
    "finch_syllables_gy": "song",
    "mixtures of ESC-10": None,
    "body_percussion_tags": "take_group",
    "instrument_mix_tags": None,
}
MIXTURES, DRAW = "mixtures of ESC-10", 1
RULES = {
    "default": VerifySpec(),
    "before": VerifySpec(threshold=0.3, iterations=3, until="all", keep="last"),
}


@dataclass(frozen=True)
class Clips:
    """A set: vectors of its clips, true labels ``(n_clips, n_classes)``, and folds."""

    x: np.ndarray
    truth: np.ndarray
    folds: np.ndarray

    @property
    def single(self) -> bool:
        """Whether every clip has one label."""
        return bool((self.truth.sum(axis=1) == 1).all())


def read_set(name: str, data: Path, folder: Path) -> Clips:
    """Read a set, and embed it as the recipe ``probe`` does, or take what was embedded."""
    if name == MIXTURES:
        mixes = mix_clips(data / "esc10", folder / f"audio-{DRAW}", DRAW)
        return Clips(embed(mixes.audio, mixes.names, folder / "mixtures"), mixes.truth, mixes.folds)
    with (data / name / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    sets = [row["labels"].split(";") if "labels" in row else [row["label"]] for row in rows]
    classes = sorted({label for labels in sets for label in labels})
    truth = np.array([[label in labels for label in classes] for labels in sets])
    audio = data / name / "audio" if name == "esc10" else data / name
    x = embed(audio, [row["fname"] for row in rows], folder / name)
    if name == "esc10":
        return Clips(x, truth, np.array([int(row["fold"]) for row in rows]))
    column = SETS[name]
    groups = [row[column] for row in rows] if column else None
    return Clips(x, truth, make_folds(truth, n=5, seed=0, groups=groups))


def embed(audio: Path, names: Sequence[str], root: Path) -> np.ndarray:
    """Vectors of recordings, by a project that is kept below the folder."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "clips.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("fname", "label"))
        writer.writerows((name, "any") for name in names)
    project, _ = create_project(root, audio)
    import_labels(project, root / "clips.csv", "csv", FormatSpec())
    recipe = read_recipe("probe")
    compute_embeddings(project, recipe.embedding, recipe.features, workers=1)
    return read_embeddings(project, recipe.embedding, recipe.features, list(names))[0]


def make_errors(clips: Clips, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Given labels, and which clips are verified."""
    rng = np.random.default_rng(seed)
    verified = np.zeros(len(clips.truth), bool)
    strata = clips.truth.T if clips.single else [np.ones(len(clips.truth), bool)]
    for members in strata:
        order = rng.permutation(np.flatnonzero(members))
        verified[order[: round(VERIFIED * len(order))]] = True
    given = clips.truth.copy()
    if clips.single:
        planted = plant_uniform(clips.truth[~verified], rate=WRONG, seed=rng).labels
        given[~verified] = planted.astype(bool)
    else:
        given[~verified] = plant(clips.truth[~verified], seed)
    return given, verified


def measure(clips: Clips, seed: int, options: VerifySpec) -> dict[str, float | str]:
    """Run the loop on planted errors, and look at what the round that counts trusted."""
    given, verified = make_errors(clips, seed)
    spec = read_recipe("probe").probe
    judge = Probe(
        embeddings=clips.x, labels=given, folds=clips.folds, classifier=spec.classifier or "",
        options=spec.options, standardise=spec.standardise, seed=seed,
    )  # fmt: skip
    rounds = list(
        self_verify(
            given, verified, clips.folds, judge, options=options, single=clips.single
        )
    )  # fmt: skip
    trained = rounds[1:] or rounds
    best = min(trained, key=lambda found: found.loss) if options.keep == "best" else rounds[-1]
    right = (given == clips.truth).all(axis=1)
    chosen = best.trusted & ~verified
    judged = measure_agreement(clips.truth, rounds[0].probs, single=clips.single)
    return {
        "rounds": len(rounds) - 1,
        "end": rounds[-1].end,
        "trusted": int(chosen.sum()),
        "right": float(right[chosen].mean()) if chosen.any() else float("nan"),
        "found": float((right & chosen).sum() / (right & ~verified).sum()),
        "base": float(right[~verified].mean()),
        "first": judged.agreement,
    }


def measure_judge(clips: Clips) -> float:
    """Accuracy out of fold, or macro average precision, of the judge trained on clean labels."""
    judge = Probe(embeddings=clips.x, labels=clips.truth, folds=clips.folds)
    probs = cross_probs(judge, clips.folds)
    return measure_agreement(clips.truth, probs, single=clips.single).agreement


def read_or_measure(data: Path, folder: Path, seeds: Sequence[int]) -> dict[str, dict]:
    """Every set and seed, those that were measured before from their files."""
    found: dict[str, dict] = {}
    for name in SETS:
        clips = read_set(name, data, folder)
        kept = folder / f"{name}.json"
        rows = json.loads(kept.read_text()) if kept.exists() else {"judge": measure_judge(clips)}
        for seed in seeds:
            for rule, options in RULES.items():
                key = f"{rule} {seed}"
                if key not in rows:
                    rows[key] = measure(clips, seed, options)
                    kept.write_text(json.dumps(rows))
                    print(name, key, rows[key], flush=True)
        found[name] = rows
    return found


def report(found: dict[str, dict], seeds: Sequence[int]) -> str:
    """The table as Markdown."""
    lines = [
        machine(), "",
        f"Means of seeds {', '.join(map(str, seeds))}; lowest seed in brackets. Right: share of "
        "the trusted label sets that are right and whole; found: share of the right ones of "
        "unverified clips that are trusted; rounds: trained ones. The judge: accuracy out of fold "
        "on clean labels, for several labels macro average precision.", "",
        "| set | judge | right at first | default: right | found | rounds | nothing trusted "
        "| before: right | found |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, rows in found.items():
        cells = [name, f"{rows['judge']:.3f}"]
        for rule in RULES:
            mine = [rows[f"{rule} {seed}"] for seed in seeds]
            right = np.array([row["right"] for row in mine], float)
            if rule == "default":
                cells.append(f"{np.mean([row['base'] for row in mine]):.1%}")
            told = not np.isnan(right).all()
            cells.append(f"{np.nanmean(right):.1%} ({np.nanmin(right):.1%})" if told else "none")
            cells.append(f"{np.mean([row['found'] for row in mine]):.1%}")
            if rule == "default":
                cells.append(f"{np.mean([row['rounds'] for row in mine]):.1f}")
                cells.append(f"{int(np.isnan(right).sum())} of {len(seeds)}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark on the sets below LABELKIT_TEST_DATA."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, required=True, help="Where what is measured is kept."
    )
    parser.add_argument("--seeds", help="Other seeds than those of the table.")
    parser.add_argument("--print", action="store_true", help="Only print the table.")
    arguments = parser.parse_args()
    seeds = tuple(map(int, arguments.seeds.split(","))) if arguments.seeds else SEEDS
    arguments.folder.mkdir(parents=True, exist_ok=True)
    text = report(
        read_or_measure(Path(os.environ["LABELKIT_TEST_DATA"]), arguments.folder, seeds), seeds
    )
    if arguments.print or seeds != SEEDS:
        print(text)
    else:
        write_section("verify_sets", text)


if __name__ == "__main__":
    main()
