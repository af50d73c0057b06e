"""Learning rate over a training, as a factor of its peak.

Each function takes the share of the steps that are done and the share at which the
rate begins to fall.
"""

from __future__ import annotations

import math


def constant(done: float, turn: float) -> float:
    """Always the peak."""
    return 1.0


def linear_decay(done: float, turn: float) -> float:
    """The peak until ``turn``, then straight to zero, as Dorfer and Widmer trained."""
    return min(1.0, (1 - done) / max(1 - turn, 1e-9))


def one_cycle(done: float, turn: float) -> float:
    """Up from a 25th of the peak until ``turn`` and down to nothing, in cosines (Smith 2018)."""
    if done < turn:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * done / turn)) / 2
    return (1 + math.cos(math.pi * (done - turn) / max(1 - turn, 1e-9))) / 2
