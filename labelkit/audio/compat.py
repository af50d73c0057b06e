"""The one door to torchaudio."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def import_torchaudio() -> ModuleType:
    """Import torchaudio, whose compiled extension cannot load beside a CPU-only torch.

    Its published Linux wheels are built against CUDA. Everything labelkit uses of it,
    ``transforms`` and ``functional``, is Python; so where the extension does not load
    it is declared to be unavailable, as torchaudio itself does when it is not there.

    Returns:
        The module.
    """
    try:
        return importlib.import_module("torchaudio")
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
    extension = ModuleType("torchaudio._extension")
    declared: dict[str, Any] = {
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "_IS_ALIGN_AVAILABLE": False,
        "_check_cuda_version": lambda: None,
        "fail_if_no_align": _refuse,
    }
    for name, value in declared.items():
        setattr(extension, name, value)
    sys.modules["torchaudio._extension"] = extension
    return importlib.import_module("torchaudio")


def _refuse(function: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"{function.__name__} needs torchaudio's compiled extension")

    return refuse
