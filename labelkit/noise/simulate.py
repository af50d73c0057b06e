"""Known noise, planted with a seed, and the truth about it.

A cleaning method is measured where the errors are known. Every ``plant_`` function of
labels takes multi-hot labels ``(n_clips, n_classes)`` that are held to be right and
returns :class:`Planted`; the share ``rate`` counts within ``eligible``, so that clips
standing for verified ones stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelkit import metrics
from labelkit.errors import InvalidInput
from labelkit.types import Array, Bools, Floats, Ints

Seed = int | np.random.Generator

KINDS = ("exact", "gain", "noise", "crop")


@dataclass(frozen=True)
class Planted:
    """Noisy labels and what is wrong with them.

    ``labels`` is float32 multi-hot ``(n_clips, n_classes)``; ``wrong`` marks labels given
    but absent, ``missing`` labels present but not given, both boolean of that shape, so
    that ``labels`` differs from the truth exactly where one of them is set. ``clips``
    ``(n_clips,)`` marks the clips that were drawn and changed.
    """

    labels: Floats
    wrong: Bools
    missing: Bools
    clips: Bools


def plant_uniform(
    labels: Array, *, rate: float, seed: Seed, eligible: Bools | None = None
) -> Planted:
    """Replace a label of a share of the clips by any other class, all equally likely.

    The protocol of SelfClean-Audio (2025): ``ceil(rate * n)`` clips, drawn without
    replacement. Of a clip with several labels one is replaced. Mistakes of people are
    rarely uniform, so this flatters most methods; see :func:`plant_confusable`.

    Args:
        labels: Right labels, multi-hot, shape ``(n_clips, n_classes)``.
        rate: Share of the eligible clips to change, from 0 to 1.
        seed: Seed or generator of all draws.
        eligible: Clips that may be changed, shape ``(n_clips,)``; all if None.

    Returns:
        The noisy labels and the truth about them.

    Raises:
        InvalidInput: If the arrays do not fit, ``rate`` is out of range, or fewer clips
            than it asks for can be changed.

    Example:
        >>> planted = plant_uniform(np.eye(2)[[0, 0, 1, 1]], rate=0.5, seed=0)
        >>> int(planted.clips.sum()), int(planted.wrong.sum()), int(planted.missing.sum())
        (2, 2, 2)
    """
    given, eligible = _check(labels, rate, eligible)
    return _replace(given, np.ones((given.shape[1],) * 2), rate, seed, eligible)


def plant_confusable(
    labels: Array,
    similarity: Floats,
    *,
    rate: float,
    seed: Seed,
    eligible: Bools | None = None,
) -> Planted:
    """Replace a label of a share of the clips by a class that resembles it.

    Like :func:`plant_uniform`, but the other class is drawn in proportion to the row of
    the replaced one, so that errors lie where people and models make them.

    Args:
        labels: Right labels, multi-hot, shape ``(n_clips, n_classes)``.
        similarity: How easily the row's class is taken for the column's, no negative
            values, shape ``(n_classes, n_classes)``; the diagonal does not count.
        rate: Share of the eligible clips to change, from 0 to 1.
        seed: Seed or generator of all draws.
        eligible: Clips that may be changed, shape ``(n_clips,)``; all if None.

    Returns:
        The noisy labels and the truth about them.

    Raises:
        InvalidInput: If the arrays do not fit, ``rate`` is out of range, or fewer clips
            than it asks for have a label that resembles another class.

    Example:
        >>> similarity = np.array([[0, 1, 0], [1, 0, 0], [0, 1, 0]])
        >>> plant_confusable(np.eye(3)[[0, 2]], similarity, rate=1, seed=0).labels
        array([[0., 1., 0.],
               [0., 1., 0.]], dtype=float32)
    """
    given, eligible = _check(labels, rate, eligible)
    similarity = np.asarray(similarity, float)
    if similarity.shape != (given.shape[1],) * 2:
        raise InvalidInput(
            f"similarity must have shape {(given.shape[1],) * 2}, got {similarity.shape}"
        )
    if not (np.isfinite(similarity).all() and (similarity >= 0).all()):
        raise InvalidInput(
            f"similarity must be finite and not negative, its lowest value is {similarity.min()}"
        )
    return _replace(given, similarity, rate, seed, eligible)


def plant_missing(
    labels: Array,
    *,
    rate: float,
    seed: Seed,
    eligible: Bools | None = None,
    allow_empty: bool = False,
) -> Planted:
    """Drop a share of all given labels.

    Args:
        labels: Right labels, multi-hot, shape ``(n_clips, n_classes)``.
        rate: Share of the labels of eligible clips to drop, rounded up, from 0 to 1.
        seed: Seed or generator of all draws.
        eligible: Clips that may be changed, shape ``(n_clips,)``; all if None.
        allow_empty: Clips may lose their last label; else one of each clip, drawn, stays.

    Returns:
        The noisy labels and the truth about them.

    Raises:
        InvalidInput: If the arrays do not fit, ``rate`` is out of range, or fewer labels
            than it asks for can go.

    Example:
        >>> plant_missing(np.ones((1, 3)), rate=0.6, seed=0).labels.sum()
        np.float32(1.0)
    """
    given, eligible = _check(labels, rate, eligible)
    rng = np.random.default_rng(seed)
    clips, classes = np.nonzero(given & eligible[:, None])
    order = rng.permutation(len(clips))
    open_to = order
    if not allow_empty:
        # The label of a clip that comes last in the order of dropping is the one that stays.
        last = len(order) - 1 - np.unique(clips[order][::-1], return_index=True)[1]
        open_to = np.delete(order, last)
    n = _count(rate, len(clips))
    if n > len(open_to):
        raise InvalidInput(
            f"rate {rate} asks to drop {n} labels, {len(open_to)} can go without leaving a clip "
            "with none; lower it or allow_empty"
        )
    noisy = given.copy()
    noisy[clips[open_to[:n]], classes[open_to[:n]]] = False
    return _planted(given, noisy)


def plant_extra(
    labels: Array, *, rate: float, seed: Seed, eligible: Bools | None = None
) -> Planted:
    """Add labels that are absent, as many as a share of all given ones.

    They fall on any absent class of a clip that has a label, all pairs equally likely.

    Args:
        labels: Right labels, multi-hot, shape ``(n_clips, n_classes)``.
        rate: How many to add, as a share of the labels of eligible clips, rounded up.
        seed: Seed or generator of all draws.
        eligible: Clips that may be changed, shape ``(n_clips,)``; all if None.

    Returns:
        The noisy labels and the truth about them.

    Raises:
        InvalidInput: If the arrays do not fit, ``rate`` is out of range, or there are
            fewer absent labels than it asks for.

    Example:
        >>> plant_extra(np.eye(3)[[0, 1]], rate=0.5, seed=0).labels.sum()
        np.float32(3.0)
    """
    given, eligible = _check(labels, rate, eligible)
    rng = np.random.default_rng(seed)
    n = _count(rate, int(given[eligible].sum()))
    absent = np.flatnonzero(~given & (eligible & given.any(axis=1))[:, None])
    if n > len(absent):
        raise InvalidInput(
            f"rate {rate} asks to add {n} labels, only {len(absent)} are absent; lower it"
        )
    noisy = given.copy()
    noisy.flat[rng.choice(absent, n, replace=False)] = True
    return _planted(given, noisy)


def plant_out_of_vocabulary(
    labels: Array,
    *,
    rate: float,
    seed: Seed,
    eligible: Bools | None = None,
    classes: Sequence[int] | None = None,
) -> Planted:
    """Hide classes, and give clips of them a label of the classes that remain.

    The commonest noise of sound collections: the sound is none of the classes at all.
    The hidden classes keep their columns, but nobody has them any more: ``labels`` is 0
    there and ``missing`` tells who had them. Clips of hidden classes alone that were not
    drawn are left without a label and are no longer part of the set: leave them out,
    eligible or not. ``clips`` marks only the drawn ones.

    Args:
        labels: Right labels, multi-hot, shape ``(n_clips, n_classes)``.
        rate: Share of the eligible clips that get a wrong label of a remaining class,
            from 0 to 1; they are drawn among those that have hidden classes alone.
        seed: Seed or generator of all draws.
        eligible: Clips that may be changed, shape ``(n_clips,)``; all if None.
        classes: Indices of the classes to hide; if None as many are drawn as are needed.

    Returns:
        The noisy labels and the truth about them.

    Raises:
        InvalidInput: If the arrays do not fit, ``rate`` is out of range, a class is not
            there, none would remain, or the hidden ones have too few clips.

    Example:
        >>> planted = plant_out_of_vocabulary(np.eye(2)[[0, 0, 1]], rate=0.3, seed=0, classes=[1])
        >>> planted.labels
        array([[1., 0.],
               [1., 0.],
               [1., 0.]], dtype=float32)
    """
    given, eligible = _check(labels, rate, eligible)
    rng = np.random.default_rng(seed)
    n, n_classes = _count(rate, int(eligible.sum())), given.shape[1]
    hidden = np.zeros(n_classes, bool)
    if classes is None:
        for index in rng.permutation(n_classes):
            if len(_only(given, hidden, eligible)) >= n:
                break
            hidden[index] = True
    else:
        outside = [index for index in classes if not 0 <= index < n_classes]
        if outside:
            raise InvalidInput(f"there is no class {outside[0]}, only 0 to {n_classes - 1}")
        hidden[list(classes)] = True
    if hidden.all():
        raise InvalidInput(f"all {n_classes} classes would be hidden; one must remain")
    clips = _draw_clips(_only(given, hidden, eligible), n, rate, "have hidden classes alone", rng)
    noisy = given & ~hidden
    noisy[clips, rng.choice(np.flatnonzero(~hidden), n)] = True
    return _planted(given, noisy, clips)


def distort(samples: Floats, rate_hz: int, kind: str, rng: np.random.Generator) -> Floats:
    """Make a near-duplicate of a recording.

    Args:
        samples: One channel in [-1, 1], shape ``(n_samples,)``.
        rate_hz: Samples a second.
        kind: ``exact``; ``gain``: by -20 to 12 dB, clipped; ``noise``: white noise 10 to
            30 dB below the clip; ``crop``: 10 to 25 % cut off at the begin, the end or
            both, where it is faded over 5 ms.
        rng: Source of randomness.

    Returns:
        New samples in [-1, 1], of the same type, fewer of them for ``crop``.

    Raises:
        InvalidInput: If the kind is unknown or there is more than one channel.

    Example:
        >>> len(distort(np.zeros(1000), 8000, "crop", np.random.default_rng(0))) <= 900
        True
    """
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise InvalidInput(f"samples must have shape (n_samples,), got {samples.shape}")
    if kind == "exact":
        return samples.copy()
    if kind == "gain":
        changed = samples * 10 ** (rng.uniform(-20, 12) / 20)
    elif kind == "noise":
        level = np.sqrt(np.mean(np.square(samples, dtype=float))) if len(samples) else 0
        noise = rng.standard_normal(len(samples))
        changed = samples + noise * level * 10 ** (-rng.uniform(10, 30) / 20)
    elif kind == "crop":
        return _crop(samples, rate_hz, rng)
    else:
        raise InvalidInput(f"no kind of copy called {kind!r}; known: {', '.join(KINDS)}")
    return np.clip(changed, -1, 1).astype(samples.dtype)


def _crop(samples: Floats, rate_hz: int, rng: np.random.Generator) -> Floats:
    cut = math.ceil(rng.uniform(0.1, 0.25) * len(samples))
    begin = (0, cut, int(rng.integers(cut + 1)))[rng.integers(3)]
    cropped = samples[begin : len(samples) - (cut - begin)].copy()
    ramp = np.linspace(0, 1, min(round(0.005 * rate_hz), len(cropped)))
    if begin > 0:
        cropped[: len(ramp)] *= ramp.astype(samples.dtype)
    if begin < cut:
        cropped[len(cropped) - len(ramp) :] *= ramp[::-1].astype(samples.dtype)
    return cropped


def _check(labels: Array, rate: float, eligible: Bools | None) -> tuple[Bools, Bools]:
    """Return labels and ``eligible`` as boolean arrays, if they and ``rate`` can be used."""
    given = metrics.check_labels(labels)
    return given, _check_share(len(given), rate, eligible)


def _check_share(n_clips: int, rate: float, eligible: Bools | None) -> Bools:
    if not 0 <= rate <= 1:
        raise InvalidInput(f"rate {rate} must be from 0 to 1")
    if eligible is None:
        return np.ones(n_clips, bool)
    eligible = np.asarray(eligible)
    if eligible.shape != (n_clips,) or eligible.dtype != bool:
        raise InvalidInput(
            f"eligible must be a mask of shape ({n_clips},), got {eligible.dtype} of shape "
            f"{eligible.shape}"
        )
    return eligible


def _count(rate: float, n: int) -> int:
    """Compute ``ceil(rate * n)``, where rounding makes no integer of 7.000000000000001."""
    return math.ceil(rate * n - 1e-9)


def _only(given: Bools, classes: Bools, eligible: Bools) -> Ints:
    """Find eligible clips that have labels, all of them among ``classes``."""
    return np.flatnonzero(eligible & given.any(axis=1) & ~(given & ~classes).any(axis=1))


def _draw_clips(
    open_to: Ints, n: int, rate: float, condition: str, rng: np.random.Generator
) -> Ints:
    if n > len(open_to):
        raise InvalidInput(
            f"rate {rate} asks for {n} clips, only {len(open_to)} eligible ones {condition}; "
            "lower it"
        )
    return rng.choice(open_to, n, replace=False)


def _replace(given: Bools, weights: Floats, rate: float, seed: Seed, eligible: Bools) -> Planted:
    """Turn a label of each drawn clip into an absent class, drawn by the weights of its row."""
    rng = np.random.default_rng(seed)
    replaceable = given & ((~given).astype(float) @ weights.T > 0)
    open_to = np.flatnonzero(eligible & replaceable.any(axis=1))
    n = _count(rate, int(eligible.sum()))
    clips = _draw_clips(open_to, n, rate, "have a label that can become another", rng)
    old = _draw_columns(replaceable[clips], rng)
    new = _draw_columns(weights[old] * ~given[clips], rng)
    noisy = given.copy()
    noisy[clips, old] = False
    noisy[clips, new] = True
    return _planted(given, noisy)


def _draw_columns(weights: Bools | Floats, rng: np.random.Generator) -> Ints:
    """Draw a column of each row in proportion to its weight."""
    sums = np.cumsum(weights, axis=1, dtype=float)
    # 1 - random lies in (0, 1], so a column without weight is never the first to reach it.
    reached = sums >= (1 - rng.random((len(weights), 1))) * sums[:, -1:]
    columns: Ints = reached.argmax(axis=1)
    return columns


def _planted(given: Bools, noisy: Bools, clips: Ints | None = None) -> Planted:
    changed = (noisy != given).any(axis=1)
    if clips is not None:
        changed = np.isin(np.arange(len(given)), clips)
    return Planted(noisy.astype(np.float32), noisy & ~given, given & ~noisy, changed)
