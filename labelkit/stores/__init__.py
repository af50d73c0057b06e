"""What outlives a run: the label store, and arrays on disk.

``LabelStore(file).read()`` gives a :class:`Session` on the labels at one moment, ``write()`` a
:class:`WriteSession`, the only way in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.stores.append import WriteSession as WriteSession
    from labelkit.stores.arrays import FeatureStore as FeatureStore
    from labelkit.stores.embeddings import EmbeddingStore as EmbeddingStore
    from labelkit.stores.epochs import EpochStore as EpochStore
    from labelkit.stores.labels import LabelStore as LabelStore
    from labelkit.stores.session import Session as Session
    from labelkit.stores.windows import WindowStore as WindowStore

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
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
