"""Samples a second of each recipe's training at its published size, on synthetic spectrograms.

On a GPU a whole epoch at the published batch size, in bf16, with the peak of memory; on
a processor a few steps of small batches, to know what to expect of a laptop.

    python benchmarks/first_epoch.py                  the table, cuda where there is one
    python benchmarks/first_epoch.py --batch 8 --steps 2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from report import machine, write_section

from labelkit.config import InputSpec, read_recipe
from labelkit.models import create_model
from labelkit.training.batches import Examples, MiniBatch, TrainingBatches
from labelkit.training.spectrograms import Spectrograms
from labelkit.training.trainer import Trainer

RECIPES = (
    "argus", "argus/corr_noisy_003", "argus/corrections_002", "bouteillon", "bouteillon/vgg16",
    "dorfer/spec1_1", "dorfer/spec1_2", "dorfer/spec2", "ninth/m1", "ninth/m2", "ninth/m3",
)  # fmt: skip
CLIPS, CLASSES = 4000, 80


class Few:
    """The first steps of an epoch."""

    def __init__(self, batches: TrainingBatches, steps: int | None) -> None:
        self.batches = batches
        self.steps = min(steps or len(batches), len(batches))

    def __len__(self) -> int:
        """Steps."""
        return self.steps

    def epoch(self, number: int) -> Iterator[MiniBatch]:
        """The batches, one after the other."""
        return islice(self.batches.epoch(number), self.steps)


def measure(name: str, device: str, batch: int | None, steps: int | None) -> dict[str, object]:
    """Train the first epoch of a recipe's first stage."""
    recipe = read_recipe(name)
    stage = next(iter(recipe.stages.values()))
    stage = replace(stage, epochs=1, batch_size=batch or stage.batch_size)
    rng = np.random.default_rng(0)
    lengths = rng.integers(recipe.input.frames // 2, 3 * recipe.input.frames, CLIPS)
    shape = (int(lengths.sum()), recipe.features.n_mels)
    frames = (rng.standard_normal(shape, np.float32) * 20 - 40).astype(np.float16)
    spec: InputSpec = recipe.input
    bank = Spectrograms(frames, np.cumsum(lengths) - lengths, lengths, spec, device)
    targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, CLIPS)]
    pools = np.where(np.arange(CLIPS) % 3 == 0, 2, np.where(np.arange(CLIPS) % 3 == 1, 1, 0))
    batches = TrainingBatches(
        [bank], Examples(np.arange(CLIPS), targets, pools), stage,
        n_frames=spec.frames, seed=(0,),
    )  # fmt: skip
    torch.manual_seed(0)
    model = create_model(
        recipe.model.name, CLASSES, in_channels=spec.channels, width=recipe.model.width,
        dropout=recipe.model.dropout,
    ).to(device, memory_format=torch.channels_last)  # fmt: skip
    head = "softmax" if recipe.model.head == "softmax" else "sigmoid"
    trainer = Trainer(model, replace(stage, monitor="none"), head=head)
    Trainer(model, stage, head=head).run_epoch(Few(batches, 1), 0, trainer.train_step)
    few = Few(batches, steps)
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    loss = trainer.run_epoch(few, 0, trainer.train_step)
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    assert np.isfinite(loss)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else float("nan")
    return {
        "recipe": name,
        "network": recipe.model.name,
        "input": f"{spec.channels}x{recipe.features.n_mels}x{spec.frames}",
        "batch": stage.batch_size,
        "steps": len(few),
        "samples a second": f"{len(few) * stage.batch_size / seconds:.3g}",
        "peak GiB": f"{peak:.1f}" if device == "cuda" else "-",
    }


def main() -> None:
    """Measure every recipe and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    cuda = torch.cuda.is_available()
    parser.add_argument("--batch", type=int, default=None if cuda else 8)
    parser.add_argument("--steps", type=int, default=None if cuda else 3)
    options = parser.parse_args()
    device = "cuda" if cuda else "cpu"
    rows = [measure(name, device, options.batch, options.steps) for name in RECIPES]
    where = torch.cuda.get_device_name() if cuda else "no GPU, float32"
    lines = [f"Machine: {machine()[:-1]}; {where}.", "", f"| {' | '.join(rows[0])} |"]
    lines.append("|---" * len(rows[0]) + "|")
    lines += [f"| {' | '.join(map(str, row.values()))} |" for row in rows]
    write_section("first_epoch", "\n".join(lines))


if __name__ == "__main__":
    main()
