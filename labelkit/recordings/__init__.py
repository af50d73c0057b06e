"""What is known of recordings: features, embeddings, faults, duplicates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.recordings.checking import check as check
    from labelkit.recordings.duplicates import list_duplicates as list_duplicates
    from labelkit.recordings.embedding import compute_embeddings as compute_embeddings
    from labelkit.recordings.embedding import read_embeddings as read_embeddings
    from labelkit.recordings.embedding import similar as similar
    from labelkit.recordings.features import compute_features as compute_features

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
        __name__,
        {
            "checking": ("check",),
            "duplicates": ("list_duplicates",),
            "embedding": ("compute_embeddings", "read_embeddings", "similar"),
            "features": ("compute_features",),
        },
    )
