"""Near-duplicates: recordings that are copies of each other, whatever was done to them.

Two clips of rain sound alike, yet their spectrograms differ cell by cell like two throws
of dice; those of a recording and its copy do not, be it fainter, re-encoded or cut. So
candidates are found by what a clip sounds like on the whole, and each pair is judged by
the fine texture of its spectrograms, laid over each other at the best time lag.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from labelkit.errors import InvalidInput
from labelkit.noise.neighbours import find_neighbours
from labelkit.types import Array, Bools, Floats, Ints

# What lies this far below a clip's loudest cell is silence: a fainter copy has it at its floor.
_RANGE_DB = 60.0
# A frame counts if it rises this far above that.
_RISE_DB = 6.0
# Larger steps from band to band say no more than that there is one.
_STEP_DB = 15.0
# Frames and bands of the surroundings that texture is measured against.
_AROUND = (9, 7)
# Standard deviations at which texture is clipped, so that no loud event decides alone.
_CLIP = 2.0
# Of the shorter clip's frames of sound such a share must lie over sound.
_OVERLAP = 0.5
# Fewer frames than that correlate by chance.
_FEW_FRAMES = 24
# Correlation that makes a pair, as chosen on ESC-10.
THRESHOLD = 0.5
# Complex numbers held at once in a batch of transforms, 8 bytes each.
_BATCH = 2**24


def find_near_duplicates(
    frames: Sequence[Floats],
    *,
    groups: Ints | None = None,
    threshold: float = THRESHOLD,
    n_candidates: int = 20,
) -> tuple[Ints, Floats]:
    """Find pairs of clips that may be cut from the same seconds of the same recording.

    Only their waveforms tell whether they are: see :func:`labelkit.audio.alignment.align`.

    Exact, gained, lightly clipped, re-encoded and cropped copies, and copies with a part
    set to zero, are found; time-stretched or pitch-shifted ones are not, nor clips with
    hardly any sound. Each clip is compared with its ``n_candidates`` most similar ones by
    its mean spectrum, hence of a crowd of copies not every pair is named.

    Args:
        frames: Log-mel spectrogram of each clip in dB, shape ``(n_frames, n_mels)``, all
            of the same parameters; it is read a few clips at a time.
        groups: Group of each clip, shape ``(n_clips,)``, -1 for none; pairs of one group
            are left out.
        threshold: Lowest correlation that makes a pair. The default was chosen on ESC-10,
            see docs/benchmarks.md.
        n_candidates: How many clips to compare each clip with.

    Returns:
        Pairs ``i < j`` of clip indices, shape ``(n_pairs, 2)``, the most similar first, and
        their correlations, shape ``(n_pairs,)``.

    Raises:
        InvalidInput: If a spectrogram does not fit or an option is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a, b = rng.normal(-40, 5, (2, 100, 16))
        >>> pairs, similarity = find_near_duplicates([a, b, a[20:] - 12])
        >>> pairs, similarity.round(1)
        (array([[0, 2]]), array([1.]))
    """
    if not 0 < threshold <= 1:
        raise InvalidInput(f"threshold must lie above 0 and be at most 1, got {threshold}")
    if n_candidates < 1:
        raise InvalidInput(f"n_candidates must be at least 1, got {n_candidates}")
    if len(frames) < 2:
        return np.zeros((0, 2), int), np.zeros(0)
    summaries = np.stack([_summarise(_check(clip, n, frames)) for n, clip in enumerate(frames)])
    near, _ = find_neighbours(summaries, k=min(n_candidates, len(frames) - 1), groups=groups)
    first = np.repeat(np.arange(len(near)), near.shape[1])
    pairs = np.sort(np.column_stack([first, near.ravel()])[near.ravel() >= 0], axis=1)
    # A clip without sound sounds like nothing, not like another one.
    sounding = np.asarray(summaries.any(axis=1))
    pairs = np.unique(pairs[sounding[pairs].all(axis=1)], axis=0)
    similarity = correlate_pairs(frames, pairs)
    # What has hardly any texture, like a beep, can only be told to be the very same.
    for row in np.flatnonzero(similarity < threshold):
        a, b = pairs[row]
        if (summaries[a] == summaries[b]).all() and np.array_equal(frames[a], frames[b]):
            similarity[row] = 1.0
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -similarity))
    order = order[similarity[order] >= threshold]
    return pairs[order], similarity[order]


def find_lag(first: Floats, second: Floats) -> int:
    """Find the frame of one spectrogram that another one begins with, by texture.

    Args:
        first: Log-mel spectrogram in dB, shape ``(n_frames, n_mels)``.
        second: Another one of the same parameters.

    Returns:
        The lag in frames, negative where the second one begins earlier.
    """
    from scipy import fft

    length = fft.next_fast_len(len(first) + len(second), real=True)
    textures = [_texture(np.asarray(clip, np.float32))[0].T for clip in (first, second)]
    cross = np.zeros(length // 2 + 1, np.complex64)
    # Band by band: those of hours at once are more than there is room for.
    for ours, theirs in zip(*textures, strict=True):
        cross += fft.rfft(ours, length) * fft.rfft(theirs, length).conj()
    lag = int(fft.irfft(cross, length).argmax())
    return lag if lag < len(first) else lag - length


def correlate_pairs(frames: Sequence[Floats], pairs: Ints) -> Floats:
    """Correlate the texture of two spectrograms at the best time lag, for many pairs.

    Frames of a clip and of its cropped copy hardly ever start at the same sample, so
    lags of half a frame are tried too.

    Args:
        frames: Log-mel spectrogram of each clip in dB, shape ``(n_frames, n_mels)``.
        pairs: Clip indices, shape ``(n_pairs, 2)``.

    Returns:
        Correlations in [0, 1], shape ``(n_pairs,)``: 1 for copies that differ in gain only,
        less if they have fewer than 24 frames of sound.
    """
    result = np.zeros(len(pairs))
    for part, length in _batches(frames, pairs):
        clips, index = np.unique(pairs[part], return_inverse=True)
        textures = [_texture(np.asarray(frames[clip], np.float32)) for clip in clips]
        result[part] = _best_lag(textures, index.reshape(-1, 2), length)
    return result


def _check(clip: Floats, index: int, frames: Sequence[Floats]) -> Floats:
    """Return the spectrogram of a clip in float32."""
    n_mels = np.shape(frames[0])[-1]
    if np.ndim(clip) != 2 or np.shape(clip)[1] != n_mels or n_mels < 2:
        raise InvalidInput(
            f"frames of clip {index} have shape {np.shape(clip)}; give every clip "
            f"(n_frames, n_mels) of one n_mels, at least 2 (clip 0 has {n_mels})"
        )
    if not np.isfinite(clip).all():
        raise InvalidInput(f"frames of clip {index} hold NaN or infinite values; leave it out")
    return np.asarray(clip, np.float32)


def _sound(clip: Floats) -> tuple[Floats, Bools]:
    """Raise silence to one level, and return a mask of the frames of sound as well."""
    floor = clip.max(initial=-np.inf) - _RANGE_DB
    return np.maximum(clip, floor), clip.max(axis=1, initial=-np.inf) > floor + _RISE_DB


def _summarise(clip: Floats) -> Floats:
    """Describe what a clip sounds like, whatever its gain and wherever it was cut.

    Mean and deviation over the frames of sound of the steps from band to band, clipped so
    that the bands a coder left out count little. All zeros for a clip without sound.
    """
    raised, sounding = _sound(clip)
    if not sounding.any():
        return np.zeros(2 * clip.shape[1] - 2, np.float32)
    steps = np.clip(np.diff(raised[sounding], axis=1), -_STEP_DB, _STEP_DB)
    return np.concatenate([steps.mean(axis=0), steps.std(axis=0)])


def _texture(clip: Floats) -> tuple[Floats, Bools]:
    """Return how cells differ from their surroundings in time and frequency, and a frame mask.

    Of deviation 1, clipped; 0 in silence.
    """
    from scipy.ndimage import uniform_filter1d

    raised, sounding = _sound(clip)
    texture = raised
    for axis, size in enumerate(_AROUND):
        texture = texture - uniform_filter1d(texture, size, axis=axis, mode="nearest")
    texture[~sounding] = 0
    texture[raised <= clip.max() - _RANGE_DB + 1] = 0
    deviation = np.sqrt((texture[sounding] ** 2).mean())
    return np.clip(texture / max(deviation, 1e-6), -_CLIP, _CLIP), sounding


def _batches(frames: Sequence[Floats], pairs: Ints) -> Iterator[tuple[Ints, int]]:
    """Yield positions of pairs to transform together, of clips of like length, and the length."""
    from scipy import fft

    lengths = np.array([len(clip) for clip in frames])
    longest = lengths[pairs].max(axis=1, initial=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], np.ceil(np.log2(longest))))
    start = 0
    while start < len(order):
        # Behind its end each clip needs as many zeros as the other one is long.
        length = fft.next_fast_len(int(2 * 2 ** np.ceil(np.log2(longest[order[start]]))), real=True)
        step = max(1, _BATCH // (length * frames[0].shape[1]))
        part = order[start : start + step]
        length = fft.next_fast_len(2 * int(longest[part].max()), real=True)
        yield part, length
        start += step


def _best_lag(textures: Sequence[tuple[Floats, Bools]], pairs: Ints, length: int) -> Floats:
    """Return the highest correlation of each pair over all lags of ``length`` frames."""
    from scipy import fft

    def sums(left: Array, right: Array) -> Floats:
        """Return the sums of products over the frames of each pair at each lag."""
        found: Floats = fft.irfft(left[a] * right[b].conj(), length, axis=1)
        return found

    a, b = pairs.T
    spectra = [fft.rfft(texture.T, length) for texture, _ in textures]
    cross = [np.einsum("mf,mf->f", spectra[i], spectra[j].conj()) for i, j in pairs]
    masks = fft.rfft([np.pad(m, (0, length - len(m))).astype(float) for _, m in textures])
    energy = fft.rfft([np.pad((t**2).sum(axis=1), (0, length - len(t))) for t, _ in textures])
    overlap = sums(masks, masks)
    scale = np.sqrt(np.maximum(sums(energy, masks), 1) * np.maximum(sums(masks, energy), 1))
    correlation = fft.irfft(cross, length, axis=1) / scale
    counts = np.array([mask.sum() for _, mask in textures])
    needed = _OVERLAP * np.minimum(counts[a], counts[b])
    correlation[overlap < needed[:, None] - 0.5] = 0
    correlation *= np.sqrt(np.clip(overlap / _FEW_FRAMES, 0, 1))
    # The mean of two neighbouring frames stands for the one between them, whose energy is
    # the lower the less they have in common.
    common = np.array([(t[1:] * t[:-1]).sum() / max((t**2).sum(), 1) for t, _ in textures])
    between = (correlation + np.roll(correlation, -1, axis=1)) / 2
    between /= np.sqrt((1 + (common[a] + common[b]) / 2) / 2)[:, None]
    best: Floats = np.maximum(correlation, between).max(axis=1)
    return np.clip(best, 0, 1)
