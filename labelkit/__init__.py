"""Data-centric labeling and cleaning for audio tagging.

``labelkit.open()`` gives a project, whose methods do what the commands do. The public names
are loaded on first use, so that ``import labelkit`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from labelkit import moved

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
_PUBLIC = {
    "LabelStore": "labelkit.stores.labels",
    "LabelkitError": "labelkit.errors",
    "OpenProject": "labelkit.api",
    "create": "labelkit.api",
    "create_model": "labelkit.models",
    "list_models": "labelkit.models",
    "lwlrap": "labelkit.metrics",
    "make_folds": "labelkit.folds",
    "open": "labelkit.api",
    "read_recipe": "labelkit.config",
    "self_verify": "labelkit.noise.verify",
}

moved.install()

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _PUBLIC:
            raise AttributeError(f"module 'labelkit' has no attribute {name!r}")
        return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
