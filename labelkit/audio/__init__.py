"""Recordings: decoding, faults, spectrograms, embedders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.audio.bandwidth import find_bandwidth as find_bandwidth
    from labelkit.audio.batched import compute_batch as compute_batch
    from labelkit.audio.embedding import Embedder as Embedder
    from labelkit.audio.embedding import check_embedder as check_embedder
    from labelkit.audio.embedding import pool_frames as pool_frames
    from labelkit.audio.faults import inspect as inspect
    from labelkit.audio.features import compute as compute
    from labelkit.audio.features import log_filter_bank as log_filter_bank
    from labelkit.audio.features import log_mel as log_mel
    from labelkit.audio.features import perceptual_mel as perceptual_mel
    from labelkit.audio.fitting import FittedFeatures as FittedFeatures
    from labelkit.audio.fitting import fit_features as fit_features
    from labelkit.audio.io import duration_s as duration_s
    from labelkit.audio.io import hash_file as hash_file
    from labelkit.audio.io import read_audio as read_audio

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
        __name__,
        {
            "bandwidth": ("find_bandwidth",),
            "batched": ("compute_batch",),
            "embedding": ("Embedder", "check_embedder", "pool_frames"),
            "faults": ("inspect",),
            "features": ("compute", "log_filter_bank", "log_mel", "perceptual_mel"),
            "fitting": ("FittedFeatures", "fit_features"),
            "io": ("duration_s", "hash_file", "read_audio"),
        },
    )
