"""The whole job on the synthesised set, compared with the truth."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labelkit.cleaning.score import score
from labelkit.config import FormatSpec, read_recipe
from labelkit.datasets.demo import SAMPLE_RATE, plan_demo, write_demo
from labelkit.errors import InvalidInput
from labelkit.labels.importing import import_labels
from labelkit.project import create_project, open_project
from labelkit.recordings.checking import check
from labelkit.recordings.features import compute_features
from labelkit.runs.folds import freeze_folds
from labelkit.runs.train import train
from labelkit.runs.verify import verify
from labelkit.states import SELF_VERIFIED

ROUNDS, FOLDS, LOWEST = 3, 4, 30
# The number of the batch that brings the last label file in.
_IMPORTS = 2

# Windows of the demonstration's clips: 3 s in 96 frames.
SETTINGS = (
    f"features.sample_rate={SAMPLE_RATE}",
    "features.n_fft=1024",
    f"features.hop_length={SAMPLE_RATE // 32}",
    "input.frames=96",
    f"verify.iterations={ROUNDS}",
)


@dataclass(frozen=True)
class DemoFact:
    """One thing that was compared with the truth, and what was found."""

    what: str
    found: str


def run_demo(
    folder: Path, *, seed: int = 0, workers: int | None = None, say: Callable[[str], None]
) -> list[DemoFact]:
    """Write the set, do what its owner would do, and see what came of it.

    Args:
        folder: Where set and project go; what is there of the same demo is used again.
        seed: Seed of the sounds, the errors and the training.
        workers: Processes at once.
        say: Gets one line on each step.

    Returns:
        What was found, in the order of the job.
    """
    if folder.exists() and not (
        folder.is_dir() and ((folder / "truth.csv").exists() or not any(folder.iterdir()))
    ):
        raise InvalidInput(f"{folder} is there and no demonstration; give a new folder")
    clips = plan_demo(seed)
    folder.mkdir(parents=True, exist_ok=True)
    say(f"synthesising {len(clips)} clips in {folder / 'audio'}")
    write_demo(folder, clips, seed)
    rounds = read_recipe("quick", SETTINGS)
    recipe = read_recipe("quick", [text for text in SETTINGS if not text.startswith("verify.")])
    project, _ = create_project(folder, folder / "audio")
    for name in ("train", "test"):
        spec = FormatSpec(subset=name)
        report = import_labels(project, folder / f"{name}.csv", "fsdkaggle2018", spec)
        say(f"{name}.csv: {report.read} clips, {report.states}")
    issues = check(project, recipe, workers=workers)
    say(f"checked: {len(issues)} issues of recordings")
    compute_features(project, recipe.features, workers=workers)
    freeze_folds(project, n=FOLDS)

    say("training on all labels as given")
    # As they came in, also where a demonstration that was stopped has decided on some since.
    given = open_project(folder, as_of=str(_IMPORTS))
    before = train(given, recipe, seed=seed, workers=workers)
    say(f"self-verifying, {ROUNDS} rounds")
    verified = verify(
        project,
        rounds,
        seed=seed,
        workers=workers,
        on_round=lambda row: say(
            f"  round {row['iteration']}: {row['accepted']} accepted, {row['revoked']} revoked, "
            f"{row['self_verified']} self-verified"
        ),
    )
    doubtful = score(project, run_id=verified["run_id"], lowest=LOWEST)
    say("training on the cleaned store")
    after = train(project, recipe, seed=seed, trusted=True, workers=workers)

    truth = _read_truth(folder / "truth.csv")
    with project.store.read() as session:
        table = session.labels()
    found = {
        path: table.names(clip) == [truth[path]]
        for clip, path in enumerate(table.paths)
        if table.states[clip] == SELF_VERIFIED
    }
    planted = sum(clip.label != clip.truth for clip in clips)
    findable = sum(
        clip.label == clip.truth and not clip.verified and clip.subset == "train" for clip in clips
    )
    errors = sum(clip.labels != [truth[clip.path]] for clip in doubtful)
    right = sum(found.values())
    return [
        DemoFact("planted errors", f"{planted} of {len(clips)} labels"),
        DemoFact("self-verified clips", str(len(found))),
        DemoFact("  precision", f"{right / max(len(found), 1):.1%}"),
        DemoFact("  recall", f"{right / findable:.1%} of {findable} right ones"),
        DemoFact(f"errors among the {LOWEST} lowest-scored clips", str(errors)),
        DemoFact("held-out accuracy before", f"{before['test_accuracy']:.1%}"),
        DemoFact("  after self-verification", f"{verified['test_accuracy']:.1%}"),
        DemoFact("  after retraining on the cleaned store", f"{after['test_accuracy']:.1%}"),
    ]


def _read_truth(path: Path) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["fname"]: row["label"] for row in csv.DictReader(file)}
