"""Opinions of several kinds made into one order of the clips.

A network and judges of fixed embeddings err on different clips, so together they find more wrong
labels than either: see docs/benchmarks.md.
"""

from __future__ import annotations

import numpy as np

from labelkit import metrics
from labelkit.errors import InvalidInput
from labelkit.noise.dynamics import Dynamics, score_aum
from labelkit.noise.panel import fuse_opinions
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
    probe_probs: Floats | None = None,
    network_probs: Floats | None = None,
    dynamics: Dynamics | None = None,
) -> Floats:
    """Weigh what judges of embeddings and a network say out of fold, and how the network learnt.

    The default of ``labelkit score``. Opinions are pooled with weights by how well they judge
    here (:mod:`labelkit.noise.panel`); the pooled probability of the given label counts, of several
    the lowest one. Where the epochs of a network were logged, the area under the margin, which is
    of models that trained on the label, counts as much by its ranks.

    Source:
        labelkit.

    Use:
        By default.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``.
        probe_probs: Out-of-fold probabilities of what judges embeddings, of the same shape; None
            where there are no embeddings.
        network_probs: Those of a network or of a foreign model, of the same shape; None where
            there is none.
        dynamics: What the network's epochs were like; None if they were not logged.

    Returns:
        Scores in [0, 1], shape ``(n_clips,)``, lower is worse.

    Raises:
        InvalidInput: If the arrays do not fit or hold NaN, or nobody judges.

    Example:
        >>> probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
        >>> score_fusion(np.eye(2)[[0, 0, 0]], probs)
        array([0.9, 0.4, 0.2])
    """
    opinions = [
        metrics.check_arrays(labels, probs)[1]
        for probs in (probe_probs, network_probs)
        if probs is not None
    ]
    if not opinions:
        raise InvalidInput("nobody judges; give probe_probs or network_probs")
    single = bool((metrics.check_labels(labels).sum(axis=1) <= 1).all())
    judged = score_self_confidence(labels, fuse_opinions(labels, opinions, single=single))
    if dynamics is None:
        return judged
    learnt = score_aum(labels, dynamics)
    ranked = fuse_ranks([judged])
    # Of a clip that no logged model trained on only the judgement is known.
    return fuse_ranks([ranked, np.where(np.isnan(learnt), ranked, fuse_ranks([learnt]))])
