"""What is known of recordings: features, embeddings, faults, duplicates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.recordings.checking import check
    from labelkit.recordings.duplicates import list_duplicates
    from labelkit.recordings.embedding import (
        compute_embeddings,
        read_embeddings,
        similar,
    )
    from labelkit.recordings.features import compute_features

__all__ = [
    "check",
    "compute_embeddings",
    "compute_features",
    "list_duplicates",
    "read_embeddings",
    "similar",
]

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.attach(
        __name__,
        {
            "checking": ("check",),
            "duplicates": ("list_duplicates",),
            "embedding": ("compute_embeddings", "read_embeddings", "similar"),
            "features": ("compute_features",),
        },
    )
