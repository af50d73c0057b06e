"""A bank of random spectrograms, batches of it, and a trainer of the smallest net."""

import numpy as np
import torch
from torch import nn

from labelkit.config import InputSpec, StageSpec, create_spec
from labelkit.training.batches import Examples, TrainingBatches
from labelkit.training.callbacks import Callback
from labelkit.training.spectrograms import Spectrograms
from labelkit.training.trainer import Trainer


def make_bank(n_clips=12, n_mels=16, seed=0, **options):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 60, n_clips)
    frames = rng.standard_normal((lengths.sum(), n_mels)).astype(np.float16)
    spec = InputSpec(**{"normalise": "none"} | options)
    return Spectrograms(frames, np.cumsum(lengths) - lengths, lengths, spec), frames


CLIPS = np.array([0, 2, 3, 5, 7, 8, 11, 10, 9])


def make_batches(batch_size=4, seed=(1,), banks=1, mask=None, members=None, **options):
    examples = Examples(
        CLIPS, np.eye(3)[np.arange(9) % 3],
        np.where(np.arange(9) % 2 == 0, 0, 2) if members is None else members, mask,
    )  # fmt: skip
    spec = create_spec(StageSpec, {"batch_size": batch_size, **options})
    every = [make_bank(seed=number)[0] for number in range(1)]
    if banks > 1:
        first = every[0]
        every += [Spectrograms(np.full((int(first.stored.sum()), 16), number, np.float16),
                              first.starts, first.stored, first.spec)
                  for number in range(50, 50 + banks - 1)]  # fmt: skip
    return TrainingBatches(every, examples, spec, n_frames=20, seed=seed)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 3)

    def forward(self, x):
        return self.linear(x.mean(dim=(1, 3)))


def make_trainer(callbacks=(), *, net=Net, head="softmax", clip_name=str, **options):
    torch.manual_seed(0)
    spec = StageSpec(**{"epochs": 6, "batch_size": 4, "lr": 0.05} | options)
    return Trainer(net(), spec, head=head, callbacks=callbacks, clip_name=clip_name)


def scored(values):
    """A callback that writes given scores to the history."""

    class Score(Callback):
        def on_epoch_end(self, trainer):
            trainer.history[-1]["valid_lwlrap"] = values[len(trainer.history) - 1]

    return Score()


class Dropping(Net):
    """With a head that drops."""

    def forward(self, x):
        return self.linear(torch.nn.functional.dropout(x.mean(dim=(1, 3)), 0.5, self.training))
