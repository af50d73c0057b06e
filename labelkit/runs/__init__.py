"""Trainings on a project, in the order in which a round happens.

``train.train`` and ``verify.verify`` make runs of the folds of :func:`freeze_folds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.runs import train as train
    from labelkit.runs import verify as verify
    from labelkit.runs.dataset import Dataset as Dataset
    from labelkit.runs.dataset import read_dataset as read_dataset
    from labelkit.runs.folds import freeze_folds as freeze_folds

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
        __name__,
        {
            "dataset": ("Dataset", "read_dataset"),
            "folds": ("freeze_folds",),
            "train": ("train",),
            "verify": ("verify",),
        },
    )
