"""Embeddings on disk: one float32 vector a recording, in a folder per embedder and setting."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.config import fingerprint
from labelkit.errors import InvalidInput
from labelkit.stores.arrays import ArrayStore
from labelkit.stores.foreign_arrays import UNREADABLE, explain, map_array, open_arrays
from labelkit.types import Bools, Floats


class EmbeddingStore(ArrayStore):
    """The vectors of one embedder, kept as spectrograms are: a number is a row of one.

    So the length of a vector need not be known beforehand; all have the same.

    Args:
        folder: Parent of all embedding folders of a project.
        name: What the embedder is called.
        about: All that its vectors depend on; its fingerprint names the folder.
    """

    def __init__(self, folder: Path, name: str, about: Mapping[str, Any]) -> None:
        plain = re.sub(r"[^\w.]+", "_", name).strip("_.")
        path = folder / f"{plain}-{fingerprint(about)}" / "vectors.f32"
        super().__init__(path, about, width=1, dtype=np.float32)

    @property
    def dim(self) -> int:
        """Length of the vectors; 0 as long as there is none."""
        return next((entry.length for entry in self.entries.values() if entry.length), 0)

    def read(self, paths: Sequence[str]) -> tuple[Floats, Bools]:
        """Read the vectors of recordings.

        Args:
            paths: Theirs, below the audio folder.

        Returns:
            Float32 ``(n, dim)``, zeros where there is none; and which there are, ``(n,)``.
        """
        starts, lengths = self.places(paths)
        there = lengths > 0
        matrix = np.zeros((len(starts), self.dim), np.float32)
        if there.any():
            saved = np.memmap(self.frames_path, np.float32, mode="r")
            whole = saved[: len(saved) // self.dim * self.dim].reshape(-1, self.dim)
            matrix[there] = whole[starts[there] // self.dim]
        return matrix, there


def read_vectors(file: Path) -> tuple[list[str] | None, Floats]:
    """Read vectors that somebody made elsewhere.

    Args:
        file: ``.npz`` with ``paths`` and ``embeddings``, or ``.npy`` with the matrix alone.

    Returns:
        Paths, None for ``.npy``; and float32 ``(n, dim)``.

    Raises:
        InvalidInput: If it is no such file, or the two do not fit.
    """
    paths = None
    try:
        if zipfile.is_zipfile(file):
            with open_arrays(file) as saved:
                matrix, paths = saved["embeddings"], [str(path) for path in saved["paths"]]
        else:
            matrix = map_array(file)
    except FileNotFoundError as error:
        raise InvalidInput(f"{file}: no such file") from error
    except UNREADABLE as error:
        raise InvalidInput(
            f"{file}: {explain(error)}; wanted .npz with paths (strings) and embeddings, or .npy"
        ) from error
    if matrix.ndim != 2 or not matrix.shape[1] or matrix.dtype.kind not in "fiu":
        raise InvalidInput(
            f"{file}: embeddings are {matrix.dtype} of shape {matrix.shape}, "
            "wanted numbers of shape (n_clips, dim)"
        )
    if paths is not None and len(paths) != len(matrix):
        raise InvalidInput(f"{file}: {len(paths)} paths for {len(matrix)} embeddings")
    if paths is not None and len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise InvalidInput(f"{file}: {twice} is there twice")
    with np.errstate(over="ignore"):
        return paths, matrix.astype(np.float32)
