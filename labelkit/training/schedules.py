"""Learning rate over a training, as a factor of its peak.

Each function takes how many epochs are done, in fractions where the rate changes within
one, the stage's settings, and the history, from which alone a plateau is known; so a
stopped training goes on with the same rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from labelkit.config import StageSpec

History = Sequence[dict[str, Any]]
Schedule = Callable[[float, StageSpec, History], float]
# What counts as a gain on the best score so far, as a share of it.
LEAST_GAIN = 1e-4


def constant(epoch: float, spec: StageSpec, history: History) -> float:
    """Return the peak, always."""
    return 1.0


def linear_decay(epoch: float, spec: StageSpec, history: History) -> float:
    """Hold the peak until ``turn``, then go straight to zero, as Dorfer and Widmer trained."""
    return min(1.0, (1 - epoch / spec.epochs) / max(1 - spec.turn, 1e-9))


def one_cycle(epoch: float, spec: StageSpec, history: History) -> float:
    """Rise from a 25th of the peak until ``turn`` and fall to nothing, in cosines (Smith 2018)."""
    done, turn = epoch / spec.epochs, spec.turn
    if done < turn:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * done / turn)) / 2
    return (1 + math.cos(math.pi * (done - turn) / max(1 - turn, 1e-9))) / 2


def cosine(epoch: float, spec: StageSpec, history: History) -> float:
    """Rise straight from ``lr_start`` to ``turn``, then fall; the half cosine has full length.

    The 9th place of 2019 warmed up by ``lr_start + lr * done / turn`` and let the cosine
    begin anew behind it, so it does not reach ``lr_min``.
    """
    warm = spec.turn * spec.epochs
    if epoch < warm:
        return (spec.lr_start + spec.lr * epoch / warm) / max(spec.lr, 1e-30)
    behind = epoch - (math.ceil(warm) if spec.per_epoch else warm)
    return _half_cosine(max(behind, 0) / spec.epochs, spec)


def cosine_restarts(epoch: float, spec: StageSpec, history: History) -> float:
    """Repeat half cosines from peak to ``lr_min``, each longer than the last (Loshchilov 2017)."""
    start, length = 0.0, float(spec.cycle)
    while epoch >= start + length:
        start, length = start + length, length * spec.cycle_factor
    return _half_cosine((epoch - start) / length, spec)


def plateau(epoch: float, spec: StageSpec, history: History) -> float:
    """Multiply by ``factor`` whenever the score gains nothing for ``patience`` epochs.

    Epochs are counted like torch's ``ReduceLROnPlateau`` counts them.
    """
    lr, best, bad = spec.lr, -math.inf, 0
    for row in history[: int(epoch)]:
        value = gain(row, spec.monitor)
        if is_gain(value, best):
            best, bad = value, 0
        else:
            bad += 1
        if bad > spec.patience:
            lr, bad = max(lr * spec.factor, spec.lr_min), 0
    return lr / max(spec.lr, 1e-30)


def gain(row: dict[str, Any], monitor: str) -> float:
    """Return the monitored score of an epoch, turned so that higher is better."""
    if monitor == "none":
        loss: float = row["loss"]
        return -loss
    value: float = row[f"valid_{monitor}"]
    return -value if monitor == "loss" else value


def is_gain(value: float, best: float) -> bool:
    """Tell whether a score is better than the best so far by more than a ten-thousandth."""
    return best == -math.inf or value > best + LEAST_GAIN * abs(best)


def _half_cosine(done: float, spec: StageSpec) -> float:
    low = spec.lr_min / max(spec.lr, 1e-30)
    return low + (1 - low) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
