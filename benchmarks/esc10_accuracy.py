"""Accuracy on ESC-10 with clean labels and the official folds, without outside data.

The schedule in ``esc10_accuracy.toml`` was written down before the first run; nothing is
chosen on the scores, and the last epoch's weights are scored. Every clip is judged by
the one model of five that saw neither it nor another clip of its recording.

    python benchmarks/esc10_accuracy.py    half an hour on two cores
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from report import machine, write_section

from labelkit import metrics
from labelkit.config import FormatSpec, read_recipe
from labelkit.labels.importing import import_labels
from labelkit.project import create_project
from labelkit.recordings.features import compute_features
from labelkit.records import multi_hot
from labelkit.runs.train import train

RECIPE = Path(__file__).with_suffix(".toml")


def main() -> None:
    """Train the five folds once and write the table."""
    data = Path(os.environ["LABELKIT_TEST_DATA"]) / "esc10"
    recipe = read_recipe(str(RECIPE))
    with tempfile.TemporaryDirectory() as folder:
        project, _ = create_project(Path(folder), data / "audio")
        spec = FormatSpec(state="verified", fold_column="fold", group_column="source")
        import_labels(project, data / "labels.csv", "csv", spec)
        start = time.perf_counter()
        compute_features(project, recipe.features)
        featured = time.perf_counter()
        summary = train(project, recipe)
        trained = time.perf_counter()
        with project.store.read() as session:
            table, folds = session.labels(), session.folds("imported")
            clip_ids, _, probs = session.predictions(summary["run_id"])
    assert np.array_equal(clip_ids, table.clip_ids)
    labels = multi_hot(table.labels, len(table.classes))
    numbers = np.array([folds[int(clip)] for clip in clip_ids])
    per_fold = [
        metrics.accuracy(labels[numbers == fold], probs[numbers == fold])
        for fold in np.unique(numbers)
    ]
    lines = [
        f"Machine: {machine()}",
        f"Signature: {summary['signature']}.",
        "",
        "| what | value |",
        "|---|---|",
        f"| accuracy, 400 clips out of fold | {metrics.accuracy(labels, probs):.2%} |",
        f"| by fold | {', '.join(f'{value:.1%}' for value in per_fold)} |",
        f"| log-loss | {metrics.log_loss(labels, probs):.3f} |",
        f"| epochs, clips a fold | {recipe.stages['train'].epochs}, 320 |",
        f"| spectrograms | {featured - start:.0f} s |",
        f"| training all five folds | {(trained - featured) / 60:.1f} min |",
    ]
    write_section("esc10_accuracy", "\n".join(lines))


if __name__ == "__main__":
    main()
