"""Data-centric labeling and cleaning for audio tagging.

The public names are loaded on first use, so that ``import labelkit`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "LabelStore": "labelkit.stores.labels",
    "LabelkitError": "labelkit.errors",
    "create_model": "labelkit.models",
    "list_models": "labelkit.models",
    "lwlrap": "labelkit.metrics",
    "make_folds": "labelkit.folds",
    "read_recipe": "labelkit.config",
    "self_verify": "labelkit.noise.verify",
}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'labelkit' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
