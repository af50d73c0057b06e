"""From recordings to one vector each, and the clips whose vectors are near."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.audio import aisfx, embedding, io
from labelkit.audio.embedding import Embedder
from labelkit.config import EmbeddingSpec, FeatureSpec
from labelkit.errors import InvalidInput
from labelkit.executor import Executor, worker_count
from labelkit.progress import say, track
from labelkit.project import Project
from labelkit.recordings.features import (
    WORKER_MB,
    Extracted,
    Extractor,
    compute_features,
    keep,
    read_recordings,
)
from labelkit.recordings.fitting import settle
from labelkit.recordings.usable import refuse_gone, same_recordings
from labelkit.registry import resolve
from labelkit.stores.arrays import Entry, FeatureStore, file_state
from labelkit.stores.embeddings import EmbeddingStore, read_vectors
from labelkit.types import Bools, Floats

# Clips an embedder is tried out on.
_TRIAL = 4
# What windows are cut from, so that vectors of before are not taken for those of today.
_HEARS = "all that is decoded"
# Unknown paths that are named.
_NAMED = 20
# Why a recording that can be heard has no vector.
NOT_FINITE, NO_VECTOR = "not_finite", "no_vector"

# The embedders that hear no samples, and of each the version of its numbers.
POOLED = {"pooled_mel": embedding.POOLING, "ordered_mel": 1, "mean_cepstra": 1}

Found = tuple[Entry, Floats]


@dataclass(frozen=True, kw_only=True)
class SimilarClip:
    """A clip and the cosine of its vector with that of another one.

    ``same_source`` tells whether both come of one source or are the same bytes.
    """

    path: str
    labels: list[str]
    state: str
    similarity: float
    same_source: bool


def open_embeddings(
    project: Project, spec: EmbeddingSpec, feature_spec: FeatureSpec
) -> EmbeddingStore:
    """Open the vectors computed so far; no model is loaded for it.

    Args:
        project: Whose recordings.
        spec: Which embedder, and what it hears.
        feature_spec: Spectrograms that ``pooled_mel`` and its like pool; others ignore it.

    Raises:
        InvalidInput: If the embedder is unknown or its files are not there.
    """
    if spec.beside:
        stores = _open_parts(project, spec, feature_spec)
        return EmbeddingStore(
            project.cache / "embeddings",
            f"{len(stores)}_views",
            {"parts": [store.folder.name for store in stores]},
        )
    embedding.check_embedder(spec)
    kind, _, target = spec.embedder.partition(":")
    about: dict[str, Any] = asdict(spec)
    del about["beside"]
    name = spec.embedder
    if spec.embedder in POOLED:
        settled = settle(project, feature_spec)
        about = {"pooling": POOLED[spec.embedder], "features": asdict(settled)}
    elif spec.embedder == aisfx.PACKAGE:
        # What is computed needs the wheel no more, so that the very file is looked at when it is.
        about = {"window_s": spec.window_s, "hop_s": spec.hop_s, "hears": _HEARS, **aisfx.ABOUT}
    elif kind == "vectors":
        name = Path(target).stem
        about = {"embedder": kind, "file": io.hash_file(_file(target, spec.embedder))}
    elif kind == "onnx":
        hashes = [io.hash_file(file) for file in embedding.find_onnx(spec)]
        name = Path(target).name
        about |= {"embedder": f"onnx:{name}", "files": hashes, "hears": _HEARS}
    else:
        about["hears"] = _HEARS
        about["module"] = embedding.identify_module(embedding.import_embedder(spec))
        if spec.weights:
            about["weights"] = io.hash_file(_file(spec.weights, "weights"))
    return EmbeddingStore(project.cache / "embeddings", name, {"embedder": spec.embedder} | about)


def _open_parts(
    project: Project, spec: EmbeddingSpec, feature_spec: FeatureSpec
) -> list[EmbeddingStore]:
    return [open_embeddings(project, part, feature_spec) for part in spec.parts]


def view_widths(
    project: Project, spec: EmbeddingSpec, feature_spec: FeatureSpec
) -> tuple[int, ...]:
    """Return how many numbers of a vector are of each embedder, in their order."""
    return tuple(store.dim for store in _open_parts(project, spec, feature_spec))


def compute_embeddings(
    project: Project,
    spec: EmbeddingSpec,
    feature_spec: FeatureSpec,
    *,
    workers: int | None = None,
    device: str = "cpu",
) -> EmbeddingStore:
    """Compute the vectors that are not there yet; a bad file costs only itself.

    Args:
        project: Whose recordings.
        spec: Which embedder, and what it hears.
        feature_spec: Spectrograms that ``pooled_mel`` and its like pool; others ignore it.
        workers: Processes that read at once; as many as cores and memory allow if None. The
            embedder is in this one.
        device: Where the spectrograms, aisfx, the HEAR or the ONNX model are computed.

    Raises:
        InvalidInput: If the embedder is unknown, fails, is not deterministic, or gives
            nearly every clip the same vector or vectors of different lengths.
        MissingPackage: If the embedder's package is not installed.
        RecordingsGone: If the audio folder, or much of what lay in it, is not there.
        StoreBusy: If another process computes the same embeddings.
    """
    store = open_embeddings(project, spec, feature_spec)
    if spec.beside:
        parts = [
            compute_embeddings(project, part, feature_spec, workers=workers, device=device)
            for part in spec.parts
        ]
        _join_parts(project, store, parts)
        return store
    _compute_missing(project, store, spec, feature_spec, workers, device)
    # The same bytes have the same vector for a good reason.
    heard = {e.content_hash: e.path for e in store.entries.values() if e.length}
    paths = sorted(heard.values())
    embedding.check_spread(spec.embedder, paths, store.read(paths)[0])
    return store


def _compute_missing(
    project: Project,
    store: EmbeddingStore,
    spec: EmbeddingSpec,
    feature_spec: FeatureSpec,
    workers: int | None,
    device: str,
) -> None:
    """Add to a store what is not there yet."""
    kind = spec.embedder.partition(":")[0]
    with project.store.read() as session:
        table = session.labels()
    if kind != "vectors":
        refuse_gone(project, table)
    if not store.missing(project.audio_dir, table.paths):
        return
    pooled = spec.embedder in POOLED
    if pooled:
        features = compute_features(project, feature_spec, workers=workers, device=device)
    elif kind != "vectors":
        embedder = load_embedder(spec, device)
    with store.writing(timeout_s=project.store.timeout_s):
        # Whoever was adding until now may have done some of it.
        missing = store.missing(project.audio_dir, table.paths)
        n_workers = (workers or worker_count(WORKER_MB)) if len(missing) > 8 else 1
        with Executor(n_workers) as executor:
            if pooled:
                found = _pool(spec, features, missing, executor)
            elif kind == "vectors":
                imported = dict(zip(table.paths, table.content_hashes, strict=True))
                found = _take(Path(spec.embedder.partition(":")[2]), project, imported, missing)
            else:
                hears = FeatureSpec(sample_rate=embedder.sample_rate, trim="none")
                extractor = Extractor(project.audio_dir, hears, samples_only=True)
                read = read_recordings(extractor, executor, missing)
                found = _embed(_waves(read), embedder, spec, store)
            for entry, vector in track(found, len(missing), "embeddings"):
                _add(store, spec, entry, vector)


def _join_parts(project: Project, store: EmbeddingStore, parts: Sequence[EmbeddingStore]) -> None:
    """Put the vectors of several embedders side by side; a clip that one lacks has none."""
    with project.store.read() as session:
        paths = session.labels().paths
    if not store.missing(project.audio_dir, paths):
        return
    with store.writing(timeout_s=project.store.timeout_s):
        missing = store.missing(project.audio_dir, paths)
        read = [part.read(missing) for part in parts]
        for row, path in enumerate(missing):
            entries = [part.entries[path] for part in parts if path in part.entries]
            if len(entries) < len(parts):
                continue
            vector = np.concatenate([matrix[row] for matrix, _ in read])
            if not all(there[row] for _, there in read):
                vector = vector[:0]
            faults = list(dict.fromkeys(fault for entry in entries for fault in entry.faults))
            keep(store, Extracted(replace(entries[0], faults=faults), vector[:, None]))


def read_embeddings(
    project: Project, spec: EmbeddingSpec, feature_spec: FeatureSpec, paths: Sequence[str]
) -> tuple[Floats, Bools]:
    """Read the vectors that are computed already.

    Args:
        project: Whose recordings.
        spec: Which embedder, and what it hears.
        feature_spec: Spectrograms that ``pooled_mel`` and its like pool; others ignore it.
        paths: Clips, in the order wanted.

    Returns:
        Float32 ``(n, dim)``; and ``(n,)`` which of them are usable: there is a vector, of
        the very recording that was imported. The others are zeros.

    Raises:
        InvalidInput: If the embedder is unknown or its files are not there.
    """
    store = open_embeddings(project, spec, feature_spec)
    matrix, usable = store.read(paths)
    with project.store.read() as session:
        table = session.labels()
    imported = dict(zip(table.paths, table.content_hashes, strict=True))
    for row in np.flatnonzero(usable):
        known = imported.get(paths[row])
        usable[row] = known in (None, store.entries[paths[row]].content_hash)
    matrix[~usable] = 0
    return matrix, usable


def similar(
    project: Project,
    clip: str,
    *,
    spec: EmbeddingSpec,
    feature_spec: FeatureSpec,
    k: int = 10,
    workers: int | None = None,
    device: str = "cpu",
) -> list[SimilarClip]:
    """List the clips that sound most like one; embeddings that are missing are computed.

    Args:
        project: Where it is.
        clip: Its path below the audio folder.
        spec: Which embedder, and what it hears.
        feature_spec: Spectrograms that ``pooled_mel`` and its like pool; others ignore it.
        k: How many.
        workers: Processes that read at once; all cores if None.
        device: Where missing embeddings are computed.

    Returns:
        Clips, the nearest first.

    Raises:
        InvalidInput: If there is no such clip, it has no vector, or ``k`` is below 1.
    """
    if k < 1:
        raise InvalidInput(f"k must be at least 1, got {k}")
    with project.store.read() as session:
        table = session.labels()
    if clip not in table.paths:
        raise InvalidInput(f"no clip {clip!r} in this project; give its path in the audio folder")
    compute_embeddings(project, spec, feature_spec, workers=workers, device=device)
    matrix, usable = read_embeddings(project, spec, feature_spec, table.paths)
    query = table.paths.index(clip)
    if not usable[query]:
        raise InvalidInput(f"{clip} has no embedding by {spec.embedder}; see: labelkit check")
    lengths = np.linalg.norm(matrix, axis=1)
    cosines = matrix @ matrix[query] / np.maximum(lengths * lengths[query], 1e-30)
    others = np.flatnonzero(usable & (np.arange(len(usable)) != query))
    nearest = others[np.argsort(-cosines[others], kind="stable")][:k]
    sources = same_recordings(table)
    return [
        SimilarClip(
            path=table.paths[row],
            labels=table.names(row),
            state=str(table.states[row]),
            similarity=round(float(np.clip(cosines[row], -1, 1)), 4),
            same_source=sources[row] is not None and sources[row] == sources[query],
        )
        for row in nearest
    ]


def load_embedder(spec: EmbeddingSpec, device: str = "cpu") -> Embedder:
    """Load what turns windows into vectors, ready to work.

    Raises:
        InvalidInput: If it is unknown or cannot be loaded.
    """
    kind = spec.embedder.partition(":")[0]
    if spec.embedder == aisfx.PACKAGE:
        say(f"{aisfx.PACKAGE}: {aisfx.ATTRIBUTION}")
        loaded: Embedder = resolve("embedder", spec.embedder)(device)
        return loaded
    if kind == "onnx":
        return embedding.load_onnx(spec, device)
    return load_hear(spec, device) if kind == "hear" else embedding.load_plugin(spec)


def load_hear(spec: EmbeddingSpec, device: str = "cpu") -> Embedder:
    """Load a model with the interface of HEAR 2021 (Turian et al., 2022), scene embeddings.

    Raises:
        InvalidInput: If the module lacks it, or the model cannot be loaded.
    """
    import torch

    module = embedding.import_embedder(spec)
    for needed in ("load_model", "get_scene_embeddings"):
        if not callable(getattr(module, needed, None)):
            raise InvalidInput(f"{spec.embedder} has no function {needed} as HEAR 2021 wants")
    try:
        model = module.load_model(spec.weights) if spec.weights else module.load_model()
        sample_rate = int(model.sample_rate)
    except Exception as error:
        raise InvalidInput(f"{spec.embedder}: no model could be loaded ({error!r})") from error
    if isinstance(model, torch.nn.Module):
        model = model.to(device).eval()

    def embed(windows: Floats) -> Floats:
        with torch.no_grad():
            vectors = module.get_scene_embeddings(torch.tensor(windows, device=device), model)
        return np.asarray(vectors.float().cpu().numpy())

    return Embedder(spec.embedder, sample_rate, embed)


@dataclass(frozen=True)
class Pooler:
    """Pools spectrograms of a store; a top-level class, so that workers can have it."""

    embedder: str
    frames_path: Path
    n_mels: int

    def __call__(self, place: tuple[str, int, int]) -> Floats:
        """Return the vector of a path whose frames lie at a start for a length."""
        _, start, length = place
        frames = np.memmap(self.frames_path, np.float16, mode="r").reshape(-1, self.n_mels)
        vector: Floats = resolve("embedder", self.embedder)(frames[start : start + length])
        return vector


def _pool(
    spec: EmbeddingSpec, features: FeatureStore, paths: Sequence[str], executor: Executor
) -> Iterator[Found]:
    """Turn spectrograms into vectors."""
    entries = [replace(features.entries[path], start_s=0.0) for path in paths]
    yield from ((entry, np.zeros(0, np.float32)) for entry in entries if not entry.length)
    places = [(entry.path, entry.start, entry.length) for entry in entries if entry.length]
    pooler = Pooler(spec.embedder, features.frames_path, features.spec.n_mels)
    for result in executor.map(pooler, places):
        yield replace(features.entries[result.item[0]], start_s=0.0), result.get()


def _take(
    file: Path, project: Project, imported: dict[str, str | None], missing: Sequence[str]
) -> Iterator[Found]:
    """Take the vectors of a file; the audio need not be there."""
    paths, matrix = read_vectors(file)
    if paths is None:
        paths = sorted(imported)
        if len(matrix) != len(paths):
            raise InvalidInput(f"{file} has {len(matrix)} rows, the project {len(paths)} clips")
    unknown = sorted(set(paths) - set(imported))
    if len(unknown) == len(paths):
        raise InvalidInput(
            f"{file}: none of its {len(paths)} paths is a clip of this project, "
            f"{', '.join(unknown[:3])} say; they must be relative to the audio folder"
        )
    if unknown:
        shown = ", ".join(unknown[:_NAMED]) + (", ..." if len(unknown) > _NAMED else "")
        say(f"{file}: {len(unknown)} paths are no clips of this project: {shown}")
    rows = {path: row for row, path in enumerate(paths)}
    for path in missing:
        size, mtime_ns = file_state(project.audio_dir / path)
        known = imported[path] or f"vector:{path}"
        content = io.hash_file(project.audio_dir / path) if size >= 0 else known
        vector = matrix[rows[path]] if path in rows else np.zeros(0, np.float32)
        faults = [] if path in rows else [NO_VECTOR]
        yield Entry(path, size, mtime_ns, content, faults=faults), vector


def _waves(read: Iterator[Extracted]) -> Iterator[Found]:
    """Yield entries and samples of recordings, which are never so many that they lie in a file."""
    for found in read:
        assert not isinstance(found.rows, Path)
        yield found.entry, found.rows if found.rows.ndim == 1 else found.rows[:0, 0]


def _embed(
    read: Iterator[Found], embedder: Embedder, spec: EmbeddingSpec, store: EmbeddingStore
) -> Iterator[Found]:
    """Turn samples into vectors, many windows at once; the first ones try the embedder out."""
    first, contents = [], set()
    for item in read:
        first.append(item)
        contents |= {item[0].content_hash} if len(item[1]) else set()
        if len(contents) == _TRIAL:
            break
    heard = {entry.content_hash: (entry.path, wave) for entry, wave in first if len(wave)}
    trial = [embedding.cut_windows(wave, embedder.sample_rate, spec) for _, wave in heard.values()]
    length = embedding.try_out(embedder, [path for path, _ in heard.values()], trial)
    for batch in _batches(itertools.chain(first, read), embedder, spec, store):
        if not len(batch[0][1]):
            yield from batch
            continue
        vectors = embedding.embed_clips(embedder, [windows for _, windows in batch])
        for (entry, _), vector in zip(batch, vectors, strict=True):
            embedding.check_length(spec.embedder, store.dim or length, entry.path, len(vector))
            yield entry, vector


def _batches(
    read: Iterable[Found], embedder: Embedder, spec: EmbeddingSpec, store: EmbeddingStore
) -> Iterator[list[Found]]:
    """Yield windows of one length together; what needs no embedding alone, with none."""
    waiting: list[Found] = []
    for entry, wave in read:
        if not len(wave) or store.knows(entry.content_hash):
            yield [(entry, np.zeros(0, np.float32))]
            continue
        windows = embedding.cut_windows(wave, embedder.sample_rate, spec)
        length, n = windows.shape[1], len(windows) + sum(len(w) for _, w in waiting)
        full = n > embedding.BATCH_WINDOWS or n * length > embedding.BATCH_SAMPLES
        if waiting and (full or length != waiting[0][1].shape[1]):
            yield waiting
            waiting = []
        waiting.append((entry, windows))
    if waiting:
        yield waiting


def _add(store: EmbeddingStore, spec: EmbeddingSpec, entry: Entry, vector: Floats) -> None:
    """Keep a vector if it can be used, and say so if not."""
    if not np.isfinite(vector).all():
        say(f"{entry.path}: left out ({spec.embedder} gave NaN or infinite numbers)")
        entry, vector = replace(entry, faults=[*entry.faults, NOT_FINITE]), vector[:0]
    keep(store, Extracted(entry, vector[:, None]))


def _file(name: str, what: str) -> Path:
    if not Path(name).is_file():
        raise InvalidInput(f"{what}: no such file {name}")
    return Path(name)
