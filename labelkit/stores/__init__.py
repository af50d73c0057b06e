"""What outlives a run: the label store, and arrays on disk.

``LabelStore(file).read()`` gives a :class:`Session` on the labels at one moment, ``write()`` a
:class:`WriteSession`, the only way in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.stores.append import WriteSession
    from labelkit.stores.arrays import FeatureStore
    from labelkit.stores.embeddings import EmbeddingStore
    from labelkit.stores.epochs import EpochStore
    from labelkit.stores.labels import LabelStore
    from labelkit.stores.session import Session
    from labelkit.stores.windows import WindowStore

__all__ = [
    "EmbeddingStore",
    "EpochStore",
    "FeatureStore",
    "LabelStore",
    "Session",
    "WindowStore",
    "WriteSession",
]

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.attach(
        __name__,
        {
            "append": ("WriteSession",),
            "arrays": ("FeatureStore",),
            "embeddings": ("EmbeddingStore",),
            "epochs": ("EpochStore",),
            "labels": ("LabelStore",),
            "session": ("Session",),
            "windows": ("WindowStore",),
        },
    )
