"""Recordings: decoding, faults, spectrograms, embedders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.audio.batched import compute_batch
    from labelkit.audio.embedding import Embedder, check_embedder, pool_frames
    from labelkit.audio.faults import inspect
    from labelkit.audio.features import compute, log_filter_bank, log_mel, perceptual_mel
    from labelkit.audio.io import duration_s, hash_file, read_audio

__all__ = [
    "Embedder",
    "check_embedder",
    "compute",
    "compute_batch",
    "duration_s",
    "hash_file",
    "inspect",
    "log_filter_bank",
    "log_mel",
    "perceptual_mel",
    "pool_frames",
    "read_audio",
]

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.attach(
        __name__,
        {
            "batched": ("compute_batch",),
            "embedding": ("Embedder", "check_embedder", "pool_frames"),
            "faults": ("inspect",),
            "features": ("compute", "log_filter_bank", "log_mel", "perceptual_mel"),
            "io": ("duration_s", "hash_file", "read_audio"),
        },
    )
