"""Training: batches, augmentation, losses, the trainer, and models that judge unseen clips.

Knows no project. Losses, augmentations and schedules go by the names of the registry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.training.batches import Examples as Examples
    from labelkit.training.batches import MiniBatch as MiniBatch
    from labelkit.training.batches import TrainingBatches as TrainingBatches
    from labelkit.training.callbacks import Callback as Callback
    from labelkit.training.crossfit import CrossFit as CrossFit
    from labelkit.training.mixing import create_augmentations as create_augmentations
    from labelkit.training.predict import WindowProbs as WindowProbs
    from labelkit.training.predict import clip_probs as clip_probs
    from labelkit.training.predict import predict_windows as predict_windows
    from labelkit.training.spectrograms import Spectrograms as Spectrograms
    from labelkit.training.trainer import Batches as Batches
    from labelkit.training.trainer import Trainer as Trainer

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
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
