"""A project without recordings, and what a model of somebody else says of its clips."""

import numpy as np

from labelkit.config import FormatSpec
from labelkit.labels.importing import import_labels
from labelkit.project import create_project
from labelkit.runs.folds import freeze_folds
from tests.support.clips import write_csv

CLASSES = ["Bird", "Car", "Dog", "Rain"]
N, LOCKED = 40, 6
TRUTH = np.arange(N + LOCKED) % 4


def make_labelled(root):
    """A project without recordings: 8 verified clips, 32 noisy ones, and 6 that are held out.

    Of the noisy ones a third has a wrong label. The paths are not in the order of the clips.
    """
    (root / "audio").mkdir(parents=True)
    project, _ = create_project(root, root / "audio")
    rng = np.random.default_rng(0)
    wrong = (rng.random(N + LOCKED) < 0.33) & (np.arange(N + LOCKED) >= 8)
    given = np.where(wrong, (TRUTH + rng.integers(1, 4, N + LOCKED)) % 4, TRUTH)
    lines = [(path(k), CLASSES[given[k]], int(k < 8)) for k in range(N + LOCKED)]
    header = ("fname", "label", "verified")
    for subset, part in (("train", lines[:N]), ("test", lines[N:])):
        source = write_csv(root / f"{subset}.csv", header, part)
        spec = FormatSpec(verified_column="verified", subset=subset)
        import_labels(project, source, "csv", spec, metadata_only=True)
    freeze_folds(project, n=2)
    return project


def path(k):
    return f"{k * 7 % (N + LOCKED):02d}.wav"


PATHS = [path(k) for k in range(N + LOCKED)]


def judge(seed=1, strength=2.0):
    """Probabilities of all clips, in the order of the import, float32."""
    rng = np.random.default_rng(seed)
    logits = strength * np.eye(4)[TRUTH] + rng.standard_normal((N + LOCKED, 4))
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


def write_probs(file, probs=None, paths=PATHS, names=CLASSES):
    probs = judge() if probs is None else probs
    if file.suffix == ".csv":
        rows = [[p, *map(repr, map(float, row))] for p, row in zip(paths, probs, strict=True)]
        write_csv(file, ["path", *names], rows)
    elif file.suffix == ".npz":
        np.savez(file, paths=np.array(paths), classes=np.array(names), probs=probs)
    else:
        np.save(file, probs[np.argsort(paths)])
    return file
