"""Trainings on a project, in the order in which a round happens.

``train.train`` and ``verify.verify`` make runs of the folds of :func:`freeze_folds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.runs import train, verify
    from labelkit.runs.dataset import Dataset, read_dataset
    from labelkit.runs.folds import freeze_folds

__all__ = ["Dataset", "freeze_folds", "read_dataset", "train", "verify"]

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.attach(
        __name__,
        {
            "dataset": ("Dataset", "read_dataset"),
            "folds": ("freeze_folds",),
            "train": ("train",),
            "verify": ("verify",),
        },
    )
