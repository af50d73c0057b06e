"""Which method finds planted label errors best, on every set at hand and every kind of noise.

The row `default` is what `labelkit score` gives in a fresh project (a test compares the two), the
rows above the line need no network. Cases and what every method gives for them are kept in
--folder, so a run goes on where one ended; `noise/SET-NOISE-SEED.csv` says what was planted, for
whoever wants to try another method.

    python benchmarks/head_to_head.py --folder DIR                  seeds 10 to 19, the tables
    python benchmarks/head_to_head.py --folder DIR --seeds 100,101  others, to choose by
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from report import machine, write_section

from labelkit import metrics
from labelkit.audio.io import read_audio, to_mono
from labelkit.config import FormatSpec, read_recipe
from labelkit.folds import make_folds
from labelkit.labels.importing import import_labels
from labelkit.noise.classes import class_similarity
from labelkit.noise.fusion import score_fusion
from labelkit.noise.neighbours import score_neighbour_vote, score_neighbours
from labelkit.noise.probe import Probe, cross_probs
from labelkit.noise.scoring import score_cleanlab, score_mixture, score_self_confidence
from labelkit.noise.simulate import plant_confusable, plant_uniform
from labelkit.project import Project, create_project
from labelkit.recordings.embedding import compute_embeddings, read_embeddings, view_widths

SEEDS = tuple(range(10, 20))
# Of each set the column that names what was recorded at once.
SETS = {
    "esc10": "source",
    "arabic_commands": None,
    "instrument_notes": None,
    "motor_throttle": "source_clip",
    "finch_syllables_gy": None,
}
NOISES = (
    "uniform 5 %", "uniform 10 %", "uniform 20 %", "confusable 15 %", "class-dependent", "open-set",
)  # fmt: skip
# Those of benchmarks/detection.py.
ESC10_NOISES = ("confusable 20 %", "40/35")
# Lower 95 % bounds that are wanted on ESC-10, in the order of the columns.
WANTED = ("uniform 5 %", "uniform 10 %", "uniform 20 %", *ESC10_NOISES)
RIVALS = ("cleanlab script, 140 MFCC", "Datalab, 40 MFCC", "kNN, 40 MFCC")
# Foreign sounds of a set with open-set noise, by number of clips.
FOREIGN = 0.1


@dataclass(frozen=True)
class Set:
    """Real clips, foreign ones behind them, and what methods read of them.

    ``truth`` is -1 for foreign clips; ``mfcc`` the 140 numbers of a script, whose last 40 are
    means and deviations; ``views`` the widths of ``vectors``, of which the last is the encoder's.
    """

    name: str
    classes: list[str]
    paths: list[str]
    truth: np.ndarray
    groups: list[str | None]
    folds: np.ndarray | None
    mfcc: np.ndarray
    plain: np.ndarray
    vectors: np.ndarray
    views: tuple[int, ...]

    @property
    def own(self) -> np.ndarray:
        """Clips of the set itself."""
        return self.truth >= 0

    @cached_property
    def similarity(self) -> np.ndarray:
        """How easily a plain probe, taught the truth, takes one class for another."""
        right = np.eye(len(self.classes))[self.truth[self.own]]
        folds = make_folds(right, n=5, seed=0) if self.folds is None else self.folds[self.own]
        vectors = self.vectors[self.own, : self.views[0]]
        return class_similarity(right, probs=cross_probs(
            Probe(embeddings=vectors, labels=right, folds=folds), folds
        ))  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A set with planted errors: rows of the set that are in it, given classes, verified clips."""

    set_: Set
    noise: str
    seed: int
    rows: np.ndarray
    given: np.ndarray
    verified: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """Clips whose class is not theirs."""
        return self.given != self.set_.truth[self.rows]

    @property
    def labels(self) -> np.ndarray:
        """Multi-hot labels."""
        return np.eye(len(self.set_.classes))[self.given]

    @property
    def folds(self) -> np.ndarray:
        """Official folds where there are some, others as labelkit deals them."""
        if self.set_.folds is not None:
            return self.set_.folds[self.rows]
        groups = [self.set_.groups[k] for k in self.rows]
        return make_folds(self.labels, n=5, seed=0, groups=groups, verified=self.verified)

    def vectors(self, *names: str) -> tuple[np.ndarray, list[int]]:
        """Views side by side, and their widths."""
        known = ("pooled", "ordered", "cepstra", "aisfx")
        parts = np.split(self.set_.vectors[self.rows], np.cumsum(self.set_.views)[:-1], axis=1)
        chosen = [parts[known.index(name)] for name in names]
        return np.hstack(chosen), [part.shape[1] for part in chosen]


def probe(case: Case, *views: str, classifier: str = "logistic_regression") -> np.ndarray:
    """Out-of-fold probabilities of a classifier on some views."""
    vectors, widths = case.vectors(*views)
    judge = Probe(embeddings=vectors, labels=case.labels, folds=case.folds,
                  classifier=classifier, views=widths)  # fmt: skip
    return cross_probs(judge, case.folds)


def panel(case: Case, *views: str) -> np.ndarray:
    """What `labelkit score` gives."""
    return score_fusion(case.labels, probe(case, *views, classifier="panel"))


def run_cleanlab_script(case: Case) -> np.ndarray:
    """Twenty lines a user writes: scaled MFCC numbers, logistic regression, five random folds."""
    from cleanlab.rank import get_label_quality_scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=case.seed)
    probs = cross_val_predict(
        model, case.set_.mfcc[case.rows], case.given, cv=folds, method="predict_proba"
    )
    return get_label_quality_scores(case.given, probs)


def run_datalab(case: Case) -> np.ndarray:
    """Datalab given nothing but the 40 numbers."""
    from cleanlab import Datalab

    features = case.set_.plain[case.rows]
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    lab = Datalab({"label": case.given}, label_name="label", verbosity=0)
    lab.find_issues(features=scaled, issue_types={"label": {}})
    return lab.get_issues("label")["label_score"].to_numpy()


def run_knn(case: Case) -> np.ndarray:
    """The share of ten neighbours that has the same class."""
    from sklearn.neighbors import NearestNeighbors

    features = case.set_.plain[case.rows]
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    near = NearestNeighbors(n_neighbors=11).fit(scaled).kneighbors(scaled)[1][:, 1:]
    return (case.given[near] == case.given[:, None]).mean(axis=1)


def run_relation_graph(case: Case) -> np.ndarray:
    """Agreement with all others, weighed by similarity (Kim et al., 2023), on pooled vectors."""
    vectors, _ = case.vectors("pooled")
    scaled = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-9)
    unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    near = np.maximum(unit @ unit.T, 0) ** 4
    np.fill_diagonal(near, 0)
    same = case.given[:, None] == case.given
    return np.where(same, near, -near).sum(axis=1)


METHODS: dict[str, Callable[[Case], np.ndarray]] = {
    "default": lambda c: panel(c, "pooled", "ordered", "cepstra"),
    "default, --encoder aisfx": lambda c: panel(c, "pooled", "ordered", "cepstra", "aisfx"),
    RIVALS[0]: run_cleanlab_script,
    RIVALS[1]: run_datalab,
    RIVALS[2]: run_knn,
    "probe": lambda c: score_self_confidence(c.labels, probe(c, "pooled")),
    "probe, aisfx": lambda c: score_self_confidence(c.labels, probe(c, "aisfx")),
    "cleanlab's score, probe": lambda c: score_cleanlab(c.labels, probe(c, "pooled")),
    "loss mixture, probe": lambda c: score_mixture(c.labels, probe(c, "pooled")),
    "neighbours": lambda c: score_neighbours(c.labels, c.vectors("pooled")[0]),
    "neighbour vote (SimiFeat)": lambda c: score_neighbour_vote(c.labels, c.vectors("pooled")[0]),
    "neighbour vote, aisfx": lambda c: score_neighbour_vote(c.labels, c.vectors("aisfx")[0]),
    "relation graph": run_relation_graph,
    "trees, pooled": lambda c: score_self_confidence(
        c.labels, probe(c, "pooled", classifier="extra_trees")
    ),
}


def read_set(name: str, data: Path, folder: Path) -> Set:
    """Read a set, foreign clips of another one behind it, and compute all vectors once."""
    home = folder / "sets" / name
    rows = list(csv.DictReader((data / name / "labels.csv").open(newline="")))
    audio = home / "audio"
    paths = [Path(row["fname"]).name for row in rows]
    other = [*SETS][([*SETS].index(name) + 1) % len(SETS)]
    foreign = list(csv.DictReader((data / other / "labels.csv").open(newline="")))
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    n_foreign = round(2 * FOREIGN * len(rows))
    chosen = [Path(foreign[k]["fname"]).name for k in rng.permutation(len(foreign))[:n_foreign]]
    audio.mkdir(parents=True, exist_ok=True)
    for path, source in ((p, data / name) for p in paths):
        shutil.copy(source / "audio" / path, audio / path)
    for path in chosen:
        shutil.copy(data / other / "audio" / path, audio / f"foreign-{path}")
    every = paths + [f"foreign-{path}" for path in chosen]
    file = home / "vectors.npz"
    if not file.exists():
        own = [row["label"] for row in rows] + [rows[0]["label"]] * len(chosen)
        write_vectors(file, audio, every, own)
    with np.load(file) as saved:
        arrays = {key: saved[key] for key in saved.files}
    classes = sorted({row["label"] for row in rows})
    group = SETS[name]
    folds = None
    if name == "esc10":
        folds = np.array(
            [int(row["fold"]) for row in rows] + [k % 5 + 1 for k in range(len(chosen))]
        )
    return Set(
        name=name,
        classes=classes,
        paths=every,
        truth=np.array([classes.index(row["label"]) for row in rows] + [-1] * len(chosen)),
        groups=[row[group] if group else None for row in rows] + [None] * len(chosen),
        folds=folds,
        mfcc=arrays["mfcc"],
        plain=arrays["plain"],
        vectors=arrays["vectors"],
        views=tuple(arrays["views"].tolist()),
    )


def write_vectors(file: Path, audio: Path, paths: list[str], labels: list[str]) -> None:
    """Compute what methods read: by labelkit as it would, and MFCC numbers as a script does."""
    recipe = read_recipe("panel", ("embedding.beside=ordered_mel,mean_cepstra,aisfx",))
    project = make_project(file.parent / "project", audio, paths, labels)
    compute_embeddings(project, recipe.embedding, recipe.features)
    vectors, usable = read_embeddings(project, recipe.embedding, recipe.features, paths)
    if not usable.all():
        raise SystemExit(f"{(~usable).sum()} clips of {audio} have no vector")
    mfcc = [describe_by_mfcc(audio / path) for path in paths]
    np.savez(
        file,
        vectors=vectors,
        views=view_widths(project, recipe.embedding, recipe.features),
        mfcc=np.array([whole for whole, _ in mfcc]),
        plain=np.array([part for _, part in mfcc]),
    )


def describe_by_mfcc(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Means of four segments, deviation, and both of the deltas: 140; and mean and deviation."""
    import librosa

    samples, rate = read_audio(path)
    mono = to_mono(samples, rate, rate)
    mfcc = librosa.feature.mfcc(y=np.pad(mono, (0, max(0, 2048 - len(mono)))), sr=rate, n_mfcc=20)
    delta = librosa.feature.delta(
        mfcc, width=min(9, (mfcc.shape[1] - 1) // 2 * 2 + 1), mode="nearest"
    )
    means = [
        part.mean(axis=1) if part.size else mfcc.mean(axis=1)
        for part in np.array_split(mfcc, 4, axis=1)
    ]
    whole = [*means, mfcc.std(axis=1), delta.mean(axis=1), delta.std(axis=1)]
    return np.concatenate(whole), np.concatenate([mfcc.mean(axis=1), mfcc.std(axis=1)])


def make_project(
    folder: Path,
    audio: Path,
    paths: Sequence[str],
    labels: Sequence[str],
    columns: dict[str, Sequence[object]] | None = None,
) -> Project:
    """A project of clips and labels, further columns among them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    columns = {"fname": paths, "label": labels, **(columns or {})}
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    project, _ = create_project(folder, audio)
    given = {f"{name}_column": name for name in columns if name not in ("fname", "label")}
    import_labels(project, folder / "labels.csv", "csv", FormatSpec(**given))
    return project


def plant(set_: Set, noise: str, seed: int) -> Case:
    """Plant errors in a set."""
    own = np.flatnonzero(set_.own)
    right = np.eye(len(set_.classes))[set_.truth[own]]
    verified = np.zeros(len(own), bool)
    rng = np.random.default_rng([seed, zlib.crc32(noise.encode())])
    if noise == "open-set":
        foreign = rng.permutation(np.flatnonzero(~set_.own))[: round(FOREIGN * len(own))]
        rows = np.append(own, foreign)
        given = np.append(set_.truth[own], rng.choice(set_.truth[own], len(foreign)))
        return Case(set_, noise, seed, rows, given, np.zeros(len(rows), bool))
    rate = {"class-dependent": 0.1, "40/35": 0.35}.get(noise) or int(noise.split()[1]) / 100
    if noise.startswith("confusable"):
        planted = plant_confusable(right, set_.similarity, rate=rate, seed=seed)
    elif noise == "class-dependent":
        # Of every class as many are wrong, and all of them are called the same other one.
        order = rng.permutation(len(set_.classes))
        taken_for = np.zeros((len(order), len(order)))
        taken_for[order, np.roll(order, 1)] = 1
        planted = plant_confusable(right, taken_for, rate=rate, seed=seed)
    else:
        if noise == "40/35":
            # As benchmarks/detection.py draws them.
            draw = np.random.default_rng(seed)
            for label in range(len(set_.classes)):
                members = draw.permutation(np.flatnonzero(set_.truth[own] == label))
                verified[members[: round(0.4 * len(members))]] = True
        planted = plant_uniform(right, rate=rate, seed=seed, eligible=~verified)
    return Case(set_, noise, seed, own, planted.labels.argmax(axis=1), verified)


def name_case(case: Case) -> str:
    """A name for files."""
    noise = case.noise.replace(" %", "").replace(" ", "").replace("/", "-")
    return f"{case.set_.name}-{noise}-{case.seed}"


def write_noise(case: Case, folder: Path) -> None:
    """Write what was planted, for anybody's method."""
    file = folder / "noise" / f"{name_case(case)}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    names, truth = case.set_.classes, case.set_.truth[case.rows]
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("fname", "label", "truth", "fold", "verified"))
        writer.writerows(
            (
                case.set_.paths[row],
                names[given],
                names[right] if right >= 0 else "",
                fold,
                int(sure),
            )
            for row, given, right, fold, sure in zip(
                case.rows, case.given, truth, case.folds, case.verified, strict=True
            )
        )


def judge(case: Case, method: str, folder: Path) -> tuple[float, float]:
    """Average precision of a method on a case, and what it misses, computed once.

    The second is the share of wrong clips that are not among the lowest, as many as are wrong
    (arXiv 2510.16211).
    """
    file = folder / "results" / f"{name_case(case)}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(file.read_text()) if file.exists() else {}
    if method not in known:
        asked = ~case.verified
        scores = np.nan_to_num(METHODS[method](case)[asked], nan=1.0)
        wrong = case.wrong[asked]
        lowest = np.argsort(scores, kind="stable")[: wrong.sum()]
        known[method] = [metrics.average_precision(wrong, scores), 1 - float(wrong[lowest].mean())]
        file.write_text(json.dumps(known))
    return tuple(known[method])


def lower_bound(values: np.ndarray) -> float:
    """Lower bound of the mean at 95 %, two-sided, by Student's t."""
    from scipy.stats import t

    if len(values) < 2:
        return float("nan")
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half)


def report(
    found: dict[tuple[str, str, int], dict[str, tuple[float, float]]], seeds: Sequence[int]
) -> str:
    """The tables."""
    cases = list(dict.fromkeys((name, noise) for name, noise, _ in found))
    methods = list(next(iter(found.values())))

    def values(method: str, name: str, noise: str, number: int = 0) -> np.ndarray:
        return np.array([found[name, noise, seed][method][number] for seed in seeds])

    common = [case for case in cases if case[1] in NOISES]
    means = {m: {case: float(values(m, *case).mean()) for case in cases} for m in methods}
    overall = {m: float(np.mean([means[m][case] for case in common])) for m in methods}
    lines = [machine(), "", f"Average precision, mean of seeds {', '.join(map(str, seeds))}."]
    for name in dict.fromkeys(name for name, _ in cases):
        noises = [noise for other, noise in cases if other == name]
        lines += ["", f"{name}:", "", f"| method | {' | '.join(noises)} |"]
        lines += ["|---" * (len(noises) + 1) + "|"]
        for m in sorted(methods, key=lambda m: -overall[m]):
            cells = [f"{means[m][name, noise]:.3f}" for noise in noises]
            lines.append(f"| {m} | {' | '.join(cells)} |")
    lines += ["", f"Over all {len(common)} pairs of a set and a noise that every set has:", ""]
    lines += [
        "| method | average precision | lack (1 - AP) | missed of as many lowest as are wrong |"
    ]
    lines += ["|---|---|---|---|"]
    for m in sorted(methods, key=lambda m: -overall[m]):
        missed = np.mean([values(m, *case, 1).mean() for case in common])
        lines.append(f"| {m} | {overall[m]:.3f} | {1 - overall[m]:.3f} | {missed:.1%} |")
    behind = {
        case: max(means[rival][case] for rival in RIVALS) - means["default"][case] for case in cases
    }
    worst = max(behind, key=lambda case: behind[case])
    rival = max(RIVALS, key=lambda m: overall[m])
    single = max((m for m in methods if m not in RIVALS and not m.startswith("default")
                  and "aisfx" not in m), key=lambda m: overall[m])  # fmt: skip
    lack = {m: 1 - overall[m] for m in methods}
    lines += [
        "",
        f"`default` is at most {behind[worst]:.3f} below the best of the three rivals "
        f"({worst[0]}, {worst[1]}; negative: above everywhere). Its lack is "
        f"{lack['default'] / lack[rival]:.2f} of that of the best rival in this mean ({rival}), "
        f"and {lack['default'] / lack[single]:.2f} of that of our best single score without an "
        f"encoder ({single}).",
    ]
    if any(name == "esc10" for name, _ in cases):
        lines += [
            "",
            "ESC-10 as benchmarks/detection.py draws it, mean and lower 95 % bound of it:",
            "",
        ]
        lines += [f"| method | {' | '.join(WANTED)} |", "|---" * (len(WANTED) + 1) + "|"]
        for m in methods:
            cells = [values(m, "esc10", noise) for noise in WANTED]
            text = " | ".join(f"{c.mean():.3f} ({lower_bound(c):.3f})" for c in cells)
            lines.append(f"| {m} | {text} |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark on the clips below LABELKIT_TEST_DATA."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, required=True, help="Where cases and results are kept."
    )
    parser.add_argument("--seeds", help="Other seeds than those of the table.")
    parser.add_argument(
        "--set", action="append", choices=SETS, dest="sets", help="Only these sets."
    )
    parser.add_argument("--method", action="append", choices=METHODS, help="Only these methods.")
    parser.add_argument("--print", action="store_true", help="Leave docs/benchmarks.md alone.")
    arguments = parser.parse_args()
    seeds = tuple(map(int, arguments.seeds.split(","))) if arguments.seeds else SEEDS
    data, found = Path(os.environ["LABELKIT_TEST_DATA"]), {}
    for name in arguments.sets or SETS:
        set_ = read_set(name, data, arguments.folder)
        for noise in (*NOISES, *(ESC10_NOISES if name == "esc10" else ())):
            for seed in seeds:
                case = plant(set_, noise, seed)
                write_noise(case, arguments.folder)
                found[name, noise, seed] = {
                    method: judge(case, method, arguments.folder)
                    for method in arguments.method or METHODS
                }
            print(f"{name}, {noise}: done", flush=True)
    text = report(found, seeds)
    whole = seeds == SEEDS and not (arguments.sets or arguments.method)
    print(text) if arguments.print or not whole else write_section("head_to_head", text)


if __name__ == "__main__":
    main()
