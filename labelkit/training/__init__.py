"""Training: batches, augmentation, losses, the trainer, and models that judge unseen clips.

Knows no project. Losses, augmentations and schedules go by the names of the registry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.training.batches import Examples, MiniBatch, TrainingBatches
    from labelkit.training.callbacks import Callback
    from labelkit.training.crossfit import CrossFit
    from labelkit.training.mixing import create_augmentations
    from labelkit.training.predict import WindowProbs, clip_probs, predict_windows
    from labelkit.training.spectrograms import Spectrograms
    from labelkit.training.trainer import Batches, Trainer

__all__ = [
    "Batches",
    "Callback",
    "CrossFit",
    "Examples",
    "MiniBatch",
    "Spectrograms",
    "Trainer",
    "TrainingBatches",
    "WindowProbs",
    "clip_probs",
    "create_augmentations",
    "predict_windows",
]

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.attach(
        __name__,
        {
            "batches": ("Examples", "MiniBatch", "TrainingBatches"),
            "callbacks": ("Callback",),
            "crossfit": ("CrossFit",),
            "mixing": ("create_augmentations",),
            "predict": ("WindowProbs", "clip_probs", "predict_windows"),
            "spectrograms": ("Spectrograms",),
            "trainer": ("Batches", "Trainer"),
        },
    )
