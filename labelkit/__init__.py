"""Data-centric labeling and cleaning for audio tagging.

``labelkit.open()`` gives a project, whose methods do what the commands do. The public names
are loaded on first use, so that ``import labelkit`` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy, moved

if TYPE_CHECKING:
    from labelkit.api import OpenProject, create, open
    from labelkit.config import read_recipe
    from labelkit.errors import LabelkitError
    from labelkit.folds import make_folds
    from labelkit.metrics import lwlrap
    from labelkit.models import create_model, list_models
    from labelkit.noise.verify import self_verify
    from labelkit.stores.labels import LabelStore

__version__ = "0.2.0.dev0"

# Spelt out: type checkers read no list that is computed.
__all__ = [
    "LabelStore",
    "LabelkitError",
    "OpenProject",
    "__version__",
    "create",
    "create_model",
    "list_models",
    "lwlrap",
    "make_folds",
    "open",
    "read_recipe",
    "self_verify",
]

moved.install()

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, _ = lazy.attach(
        __name__,
        {
            "api": ("OpenProject", "create", "open"),
            "config": ("read_recipe",),
            "errors": ("LabelkitError",),
            "folds": ("make_folds",),
            "metrics": ("lwlrap",),
            "models": ("create_model", "list_models"),
            "noise.verify": ("self_verify",),
            "stores.labels": ("LabelStore",),
        },
    )
