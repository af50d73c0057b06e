"""One vector a clip: pooled spectrograms, and embedders that hear windows of samples."""

from __future__ import annotations

import inspect
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from labelkit import registry
from labelkit.audio import io
from labelkit.config import EmbeddingSpec
from labelkit.errors import InvalidInput, LabelkitError, UnknownName, needing
from labelkit.progress import say
from labelkit.types import Floats

# Of pool_frames; part of cache keys.
POOLING = 1
# Windows and samples that an embedder gets at once, at most, but for a single window.
BATCH_WINDOWS, BATCH_SAMPLES = 64, 2**23

# Share of clips with one vector in common that is told, and that is refused; what counts as
# rounding, beside the largest number of all; and of how many clips the common vector is sought.
_TOLD_SHARE, _REFUSED_SHARE, _ROUNDING, _SAMPLED = 0.1, 0.9, 1e-6, 1000
_RANGE_DB = 80.0
_LAG = 2  # Frames of a difference.
_OCTAVES = 8
_CEPSTRA = 30
_SEGMENTS = 8  # Of order_frames.


def pool_frames(frames: Floats) -> Floats:
    """Pool statistics of a spectrogram of any length and level: an embedding without a model.

    Mean, deviation and percentiles of each band and of its change over time, the energy of
    its envelope in octaves of the modulation frequency, and how bands go together: the
    logarithm of the covariance of the cepstra (Arsigny et al., 2006), whose entries may be
    compared one by one.

    Args:
        frames: In dB, shape ``(n_frames, n_mels)``, at least one; 80 dB below the highest
            count as silence, and the mean is taken away, so that a gain changes nothing.

    Returns:
        Float32 vector, 17 numbers a band and 465 more if there are at least 30 bands.

    Raises:
        InvalidInput: If there are no frames.

    Example:
        >>> ramp = np.outer(np.arange(100), np.ones(64))
        >>> pool_frames(ramp).shape
        (1553,)
        >>> np.allclose(pool_frames(ramp), pool_frames(ramp - 20), atol=1e-3)
        True
    """
    x = _above_floor(frames)
    change = x[_LAG:] - x[:-_LAG] if len(x) > _LAG else np.zeros_like(x[:1])
    parts: list[Floats] = [
        *(x.mean(axis=0), x.std(axis=0), *np.percentile(x, (5, 50, 95), axis=0)),
        *(change.mean(axis=0), change.std(axis=0), *np.percentile(change, (5, 95), axis=0)),
        _modulation(x).ravel(),
        _log_covariance(x),
    ]
    return np.concatenate(parts).astype(np.float32)


def order_frames(frames: Floats) -> Floats:
    """Describe a spectrogram of any length and level in the order of time.

    The means of 30 cepstra over each eighth of it, and how they deviate and change, in all and
    within each eighth: what pooling over time loses, as words need it.

    Args:
        frames: In dB, shape ``(n_frames, n_mels)``, at least one; 80 dB below the highest
            count as silence.

    Returns:
        Float32 vector, 19 numbers a cepstrum, of which there are no more than bands; what a gain
        changes is taken away.

    Raises:
        InvalidInput: If there are no frames.

    Example:
        >>> rising, falling = (np.outer(np.arange(16)[::d], np.ones(40)) for d in (1, -1))
        >>> a, b = order_frames(rising), order_frames(falling)
        >>> a.shape, bool(np.allclose(a, b))
        ((570,), False)
    """
    cepstra = _cepstra(_above_floor(frames))
    change = cepstra[_LAG:] - cepstra[:-_LAG] if len(cepstra) > _LAG else np.zeros_like(cepstra[:1])
    parts = [part.mean(axis=0) for part in _split(cepstra)]
    parts += [cepstra.std(axis=0), change.mean(axis=0), change.std(axis=0)]
    parts += [part.std(axis=0) for part in _split(change)]
    vector: Floats = np.concatenate(parts).astype(np.float32)
    return vector


def average_frames(frames: Floats) -> Floats:
    """Describe a spectrogram by means and deviations of its cepstra, as is customary.

    Few numbers, which neighbours tell apart better than many.

    Args:
        frames: In dB, shape ``(n_frames, n_mels)``, at least one; 80 dB below the highest
            count as silence.

    Returns:
        Float32 vector, two numbers a cepstrum, of which there are at most 30.

    Raises:
        InvalidInput: If there are no frames.
    """
    cepstra = _cepstra(_above_floor(frames))
    vector: Floats = np.concatenate([cepstra.mean(axis=0), cepstra.std(axis=0)]).astype(np.float32)
    return vector


def _above_floor(frames: Floats) -> Floats:
    """Return checked frames, float64, raised to the range below the highest, without their mean."""
    if frames.ndim != 2 or not frames.size:
        raise InvalidInput(f"frames must have shape (n_frames, n_mels), got {frames.shape}")
    x = np.asarray(frames, np.float64)
    x = np.maximum(x, x.max() - _RANGE_DB)
    centred: Floats = x - x.mean()
    return centred


def _cepstra(x: Floats) -> Floats:
    from scipy.fft import dct

    cepstra: Floats = dct(x, axis=1, norm="ortho")[:, :_CEPSTRA]
    return cepstra


def _split(x: Floats) -> list[Floats]:
    """Cut frames into eighths; of fewer than eight some stand in several."""
    edges = np.linspace(0, len(x), _SEGMENTS + 1)
    return [x[int(low) : max(int(low) + 1, int(high))] for low, high in itertools.pairwise(edges)]


def _modulation(x: Floats) -> Floats:
    """Return the energy of each band's envelope in octaves below half the frame rate, in dB."""
    n = max(1024, 1 << (len(x) - 1).bit_length())
    window = np.hanning(len(x) + 2)[1:-1, None]
    power = np.abs(np.fft.rfft((x - x.mean(axis=0)) * window, n, axis=0)) ** 2 / (len(x) * n)
    edges = n // 2 >> np.arange(_OCTAVES, -1, -1)
    sums = [power[low + 1 : top + 1].sum(axis=0) for low, top in itertools.pairwise(edges)]
    return 10 * np.log10(np.array(sums) + 1e-3)


def _log_covariance(x: Floats) -> Floats:
    cepstra = _cepstra(x - x.mean(axis=0))
    # A variance of 1 dB in each direction keeps the logarithm of short clips finite.
    covariance = cepstra.T @ cepstra / len(x) + np.eye(cepstra.shape[1])
    values, vectors = np.linalg.eigh(covariance)
    logarithm = 10 * (vectors * np.log10(np.maximum(values, 1))) @ vectors.T
    rows, columns = np.triu_indices(len(logarithm))
    entries: Floats = logarithm[rows, columns] * np.where(rows == columns, 1, np.sqrt(2))
    return entries


@dataclass(frozen=True)
class Embedder:
    """A function from windows ``(n_windows, n_samples)`` at ``sample_rate`` to vectors."""

    name: str
    sample_rate: int
    embed: Callable[[Floats], Any]


def check_embedder(spec: EmbeddingSpec) -> None:
    """Refuse settings that no embedder can have.

    Raises:
        InvalidInput: If the embedder is unknown, or a setting of windows or weights has no use.
    """
    registry.check("embedder", spec.embedder)
    if spec.hop_s and not spec.window_s:
        raise InvalidInput(f"embedding: hop_s {spec.hop_s:g} needs a window_s above 0")
    if spec.hop_s > spec.window_s:
        raise InvalidInput(
            f"embedding: hop_s {spec.hop_s:g} leaves gaps between windows of {spec.window_s:g} s; "
            "take at most window_s"
        )
    if spec.weights and not spec.embedder.startswith("hear:"):
        raise InvalidInput(f"embedding: weights are for hear:MODULE, not for {spec.embedder}")


def import_embedder(spec: EmbeddingSpec) -> ModuleType:
    """Import the module of ``package.module:function`` or ``hear:package.module``.

    Raises:
        UnknownName: If there is none.
    """
    kind, target = spec.embedder.split(":", 1)
    name = target if kind == "hear" else kind
    try:
        return import_module(name)
    except Exception as error:
        raise UnknownName(f"no embedder called {spec.embedder!r}: {_line(error)}") from error


def identify_module(module: ModuleType) -> list[str]:
    """Return version and source of a module: what its results depend on, as far as one can see."""
    package = import_module(module.__name__.split(".")[0])
    version = getattr(module, "__version__", getattr(package, "__version__", ""))
    try:
        source = io.hash_file(Path(inspect.getfile(module)))
    except (TypeError, OSError):
        source = ""
    return [str(version), source]


def load_plugin(spec: EmbeddingSpec) -> Embedder:
    """Load the function that ``package.module:function`` names.

    Raises:
        UnknownName: If there is none.
    """
    function = getattr(import_embedder(spec), spec.embedder.split(":", 1)[1], None)
    if not callable(function):
        raise UnknownName(f"no embedder called {spec.embedder!r}: no such function in the module")
    return Embedder(spec.embedder, spec.sample_rate, function)


def find_onnx(spec: EmbeddingSpec) -> list[Path]:
    """Find the file that ``onnx:FILE`` names, and those with its weights beside it.

    Raises:
        InvalidInput: If there is none.
    """
    file = Path(spec.embedder.split(":", 1)[1])
    if not file.is_file():
        raise InvalidInput(f"{spec.embedder}: no such file; give the path of an ONNX file")
    beside = (path for path in file.parent.iterdir() if path.name.startswith(file.name))
    return sorted(path for path in beside if path.is_file())


def load_onnx(spec: EmbeddingSpec, device: str = "cpu") -> Embedder:
    """Load an ONNX model whose input is ``(batch, samples)`` or ``(batch, 1, samples)``, float32.

    Its first output is the embedding.

    Raises:
        MissingPackage: If onnxruntime is not installed.
        InvalidInput: If the file is no such model.
    """
    file = find_onnx(spec)[0]
    with needing(spec.embedder, "onnx", "onnxruntime"):
        import onnxruntime
    wanted = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    known = onnxruntime.get_available_providers()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # Errors; they are raised as well.
    try:
        session = onnxruntime.InferenceSession(
            str(file),
            options,
            providers=[name for name in (*wanted, "CPUExecutionProvider") if name in known],
        )
    except Exception as error:
        raise InvalidInput(f"{spec.embedder} is no readable ONNX model: {_line(error)}") from error
    first, output = session.get_inputs()[0], session.get_outputs()[0].name
    shape = list(first.shape)
    # What is not fixed has a name or None in place of its number.
    channels = [n for n in shape[1:-1] if isinstance(n, int) and n != 1]
    if first.type != "tensor(float)" or len(shape) not in (2, 3) or channels:
        raise InvalidInput(
            f"{spec.embedder}: the first input is {first.type} {shape}, "
            "wanted float (batch, samples) or (batch, 1, samples)"
        )

    def embed(windows: Floats) -> Floats:
        if isinstance(shape[-1], int) and shape[-1] != windows.shape[1]:
            raise InvalidInput(
                f"{spec.embedder} takes windows of {shape[-1]} samples, not {windows.shape[1]}; "
                f"set window_s to {shape[-1] / spec.sample_rate:g} at {spec.sample_rate} Hz"
            )
        # Many models are exported for one window at a time.
        step = 1 if shape[0] == 1 else len(windows)
        whole = windows.reshape(len(windows), *[1] * (len(shape) - 2), -1)
        parts = [whole[k : k + step] for k in range(0, len(whole), step)]
        return np.concatenate([session.run([output], {first.name: part})[0] for part in parts])

    return Embedder(spec.embedder, spec.sample_rate, embed)


def cut_windows(mono: Floats, rate: int, spec: EmbeddingSpec) -> Floats:
    """Cut a recording into windows, the last one filled with zeros.

    Args:
        mono: Shape ``(n_samples,)``, at least one.
        rate: In Hz.
        spec: Their length and distance.

    Returns:
        Float32, shape ``(n_windows, n_samples)``; all of it in one if ``window_s`` is 0.

    Example:
        >>> cut_windows(np.arange(5), 1, EmbeddingSpec(window_s=3.0, hop_s=2.0))
        array([[0., 1., 2.],
               [2., 3., 4.]], dtype=float32)
    """
    length = round(spec.window_s * rate) or len(mono)
    hop = max(1, round(spec.hop_s * rate)) if spec.hop_s else length
    n = 1 + max(0, -(-(len(mono) - length) // hop))
    padded = np.pad(mono.astype(np.float32), (0, max(0, (n - 1) * hop + length - len(mono))))
    return np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]


def embed_clips(embedder: Embedder, clips: Sequence[Floats]) -> Floats:
    """Return the mean vector of each clip's windows.

    Args:
        embedder: What makes vectors of windows.
        clips: Windows of each clip, ``(n_windows, n_samples)``, of one length.

    Returns:
        Float32, shape ``(n_clips, dim)``; NaN or infinite as the embedder's own are.

    Raises:
        InvalidInput: If the embedder fails, or does not return one vector a window.
    """
    windows = np.concatenate(clips)
    step = max(1, min(BATCH_WINDOWS, BATCH_SAMPLES // windows.shape[1]))
    parts = [_embed_windows(embedder, windows[k : k + step]) for k in range(0, len(windows), step)]
    for part in parts:
        check_length(embedder.name, parts[0].shape[1], "windows of a clip", part.shape[1])
    starts = np.cumsum([0, *map(len, clips[:-1])])
    counts = np.array([[len(clip)] for clip in clips])
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.add.reduceat(np.concatenate(parts).astype(np.float64), starts)
        means: Floats = sums / counts
        return means.astype(np.float32)


def _embed_windows(embedder: Embedder, windows: Floats) -> Floats:
    name = embedder.name
    try:
        vectors = np.asarray(embedder.embed(windows))
    except LabelkitError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidInput(
            f"embedder {name} failed on windows of shape {windows.shape}: {_line(error)}"
        ) from error
    if vectors.ndim != 2 or not vectors.shape[1] or vectors.dtype.kind not in "fiu":
        raise InvalidInput(
            f"embedder {name} returned {vectors.dtype} of shape {vectors.shape}, "
            "wanted numbers of shape (n_windows, dim)"
        )
    if len(vectors) != len(windows):
        raise InvalidInput(
            f"embedder {name} returned {len(vectors)} rows for {len(windows)} windows"
        )
    return vectors


def try_out(embedder: Embedder, names: Sequence[str], clips: Sequence[Floats]) -> int:
    """Refuse an embedder that no cache can trust, before anything is stored.

    Args:
        embedder: What makes vectors of windows.
        names: A few clips of different content.
        clips: Windows of each, ``(n_windows, n_samples)``.

    Returns:
        Length of its vectors; 0 if there are no clips.

    Raises:
        InvalidInput: If a clip twice gives two vectors, or all clips the same one, or they
            differ in length, or none is finite.
    """
    vectors = [embed_clips(embedder, [clip])[0] for clip in clips]
    for name, vector in zip(names, vectors, strict=True):
        check_length(embedder.name, len(vectors[0]), name, len(vector))
    finite = [vector for vector in vectors if np.isfinite(vector).all()]
    if vectors and not finite:
        raise InvalidInput(
            f"embedder {embedder.name} gives NaN or infinite numbers for {', '.join(names)}; is "
            "its input scaled?"
        )
    if len(finite) > 1 and all((vector == finite[0]).all() for vector in finite):
        raise InvalidInput(
            f"embedder {embedder.name} gives the same vector for every clip, {names[0]} and "
            f"{names[-1]} among them; is its model loaded, and its input scaled?"
        )
    if vectors and not _alike(vectors[0], embed_clips(embedder, clips[:1])[0]):
        raise InvalidInput(
            f"embedder {embedder.name} is not deterministic: {names[0]} twice gives two vectors; "
            "switch off dropout, or fix its seed"
        )
    return len(vectors[0]) if vectors else 0


def check_spread(embedder: str, names: Sequence[str], vectors: Floats) -> None:
    """Refuse vectors that tell no clips apart, and tell of many that do not.

    Args:
        embedder: Whose they are.
        names: Clips of different content.
        vectors: Theirs, finite, shape ``(n_clips, dim)``.

    Raises:
        InvalidInput: If nine in ten of them or more are one and the same, but for rounding.
    """
    if len(vectors) < 2:
        return
    row, n = Counter(vector.tobytes() for vector in vectors).most_common(1)[0]
    common = np.frombuffer(row, vectors.dtype)
    if n == 1:
        # What more than half have in common, but for rounding, is the median, of some of them too.
        common = np.median(vectors[:: -(-len(vectors) // _SAMPLED)], axis=0)
    rounding = _ROUNDING * max(abs(float(vectors.min())), abs(float(vectors.max())))
    parts = (vectors[k : k + _SAMPLED] for k in range(0, len(vectors), _SAMPLED))
    near = [(np.abs(part - common) <= rounding).all(axis=1) for part in parts]
    rows = np.flatnonzero(np.concatenate(near))
    if len(rows) < max(2, _TOLD_SHARE * len(vectors)):
        return
    told = f"embedder {embedder} gives the same vector for {len(rows)} of {len(vectors)} clips"
    some_names = f"{names[rows[0]]} and {names[rows[-1]]} among them"
    if len(rows) >= _REFUSED_SHARE * len(vectors):
        raise InvalidInput(
            f"{told}, {some_names}, though they differ; does it hear their rate and length?"
        )
    say(f"{told}, {some_names}, though they differ; nothing can tell these by it")


def check_length(embedder: str, wanted: int, clip: str, found: int) -> None:
    """Refuse a vector of another length than those before it.

    Raises:
        InvalidInput: If it has.
    """
    if found != wanted:
        raise InvalidInput(
            f"embedder {embedder} changes its length: {found} numbers for {clip}, "
            f"{wanted} before; it must not depend on the clip"
        )


def _alike(a: Floats, b: Floats) -> bool:
    scale = np.abs(a[np.isfinite(a)]).max(initial=0)
    return np.allclose(a, b, rtol=1e-3, atol=1e-4 * float(scale), equal_nan=True)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
