"""Opinions of several kinds made into one order of the clips.

A network's training and a classifier on fixed embeddings err on different clips, so
their mean rank finds more wrong labels than either: see docs/benchmarks.md.
"""

from __future__ import annotations

import numpy as np

from labelkit.noise.dynamics import Dynamics, score_aum
from labelkit.noise.scoring import fuse_ranks, score_self_confidence
from labelkit.types import Array, Floats


def score_probe(labels: Array, probe_probs: Floats) -> Floats:
    """Return the lowest probability of a given label by a classifier on embeddings.

    Source:
        cleanlab's audio recipe; SelfClean-Audio 2025.

    Use:
        Without a GPU, with good embeddings.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probe_probs: Its out-of-fold probabilities, of the same shape.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.
    """
    return score_self_confidence(labels, probe_probs)


def score_fusion(
    labels: Array,
    probs: Floats,
    probe_probs: Floats | None = None,
    dynamics: Dynamics | None = None,
) -> Floats:
    """Average the ranks by how a network learnt the label and by a classifier on embeddings.

    The default of ``labelkit score``. The first is the area under the margin, which is of
    models that trained on the label; where no epochs were logged it is the out-of-fold
    self-confidence. The second is out of fold.

    Source:
        labelkit.

    Use:
        By default.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probs: Out-of-fold probabilities of the network, of the same shape.
        probe_probs: Out-of-fold probabilities of the classifier, of the same shape; None where
            there are no embeddings, and the network decides alone.
        dynamics: What the network's epochs were like; None if they were not logged.

    Returns:
        Scores in [0, 1], shape ``(n_clips,)``, lower is worse.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN.

    Example:
        >>> probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
        >>> score_fusion(np.eye(2)[[0, 0, 0]], probs, probs)
        array([1. , 0.5, 0. ])
    """
    learnt = score_self_confidence(labels, probs)
    if dynamics is not None:
        # Of a clip that no logged model trained on only the judgement is known.
        aum = score_aum(labels, dynamics)
        learnt = np.where(np.isnan(aum), fuse_ranks([learnt]), fuse_ranks([aum]))
    if probe_probs is None:
        return fuse_ranks([learnt])
    return fuse_ranks([learnt, score_probe(labels, probe_probs)])
