"""How well a classifier knows labels of domains it heard, beside those it never heard."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labelkit.errors import InvalidInput
from labelkit.folds import make_folds
from labelkit.noise.probe import Probe, cross_probs
from labelkit.progress import say
from labelkit.recordings.usable import same_recordings
from labelkit.runs.dataset import Classifier, Dataset
from labelkit.types import Floats


def agreement(labels: Floats, probs: Floats) -> float:
    """Measure how often the most probable class of a clip is one of its given labels.

    Args:
        labels: Multi-hot labels, shape ``(n_clips, n_classes)``; clips without any do not count.
        probs: Probabilities of models that did not hear the clip, of the same shape.

    Returns:
        The share of the clips; NaN where none has a label.
    """
    some = labels.any(axis=1)
    if not some.any():
        return float("nan")
    return float((labels[some, probs[some].argmax(axis=1)] > 0).mean())


def compare_domains(data: Dataset, probs: Floats, *, seed: int) -> dict[str, float]:
    """Measure agreement with and without parting domains, where clips have any; it is told.

    Speakers, say, that are in several folds are judged by models that heard them. Parted, each is
    judged by a model that did not: how much less it agrees is what strangers will cost.

    Args:
        data: What was learned from; of a network nothing is measured, as that takes a training.
        probs: Out-of-fold probabilities of the run, ``(n_train, n_classes)``.
        seed: Seed of the folds that part domains.

    Returns:
        Agreement as the folds are, and with every domain in one fold; empty where there are no
        domains that could be parted.
    """
    domains = [data.table.domains[i] for i in data.train]
    n_domains = len({name for name in domains if name is not None})
    if not isinstance(data.learner, Classifier) or n_domains < 2:
        return {}
    n_folds = len(np.unique(data.folds))
    whole = same_recordings(data.table, domains=True)
    groups = [whole[i] for i in data.train]
    n_groups = len({name for name in groups if name is not None}) + groups.count(None)
    if min(n_folds, n_groups) < 2:
        return {}
    parted = make_folds(data.labels, n=min(n_folds, n_groups), seed=seed, groups=groups)
    spec = data.learner.recipe.probe
    probe = Probe(
        embeddings=data.learner.matrix[: len(data.labels)],
        labels=data.labels,
        folds=data.folds,
        classifier=str(spec.classifier),
        options=spec.options,
        standardise=spec.standardise,
        seed=seed,
        mask=None if (mask := data.mask()) is None else mask > 0,
        views=data.learner.views,
    )
    try:
        across = cross_probs(replace(probe, folds=parted), parted)
    except InvalidInput as error:
        say(f"agreement across domains is not measured: {error}")
        return {}
    found = {
        "agreement_as_dealt": agreement(data.labels, probs),
        "agreement_across_domains": agreement(data.labels, across),
    }
    say(
        "agreement with the given labels out of fold: "
        f"{found['agreement_as_dealt']:.1%} as the folds are, "
        f"{found['agreement_across_domains']:.1%} where none of {n_domains} domains is heard and "
        "judged by the same model"
    )
    return found
