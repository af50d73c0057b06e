"""Public names of a package, loaded on first use, so that importing the package costs nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attach(
    package: str, homes: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Create the ``__getattr__`` and ``__dir__`` of a package whose names lie in its modules.

    Args:
        package: Name of the package, which has an ``__all__``.
        homes: Names by the module that holds them, which is named as seen from the package.
            A module that lists itself is handed out as it is: ``from labelkit.runs import train``
            gives the module in any case once somebody has imported it.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{home[name]}")
        return module if name == home[name] else getattr(module, name)

    def list_names() -> list[str]:
        return list(sys.modules[package].__all__)

    return get, list_names
