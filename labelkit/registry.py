"""Every pluggable name in labelkit, and where its code lives.

The table holds strings, so listing names costs no import: ``labelkit --help``
can offer every model without loading torch. Anything can be replaced by a
plug-in named ``package.module:function``.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from labelkit.errors import UnknownName

TABLE: dict[str, dict[str, str]] = {
    "feature": {"log_mel": "labelkit.audio.features:log_mel"},
    "format": {
        "fsdkaggle2018": "labelkit.datasets.formats:read_fsdkaggle2018",
        "fsdkaggle2019": "labelkit.datasets.formats:read_fsdkaggle2019",
        "folder": "labelkit.datasets.formats:read_folder",
        "csv": "labelkit.datasets.formats:read_csv",
        "jsonl": "labelkit.datasets.formats:read_jsonl",
        "corrections": "labelkit.datasets.formats:read_corrections",
    },
    "loss": {
        "cross_entropy": "labelkit.training.losses:cross_entropy",
        "bce": "labelkit.training.losses:bce",
        "lsoft": "labelkit.training.losses:lsoft",
    },
    "model": {"dense_m1": "labelkit.models.dense:dense_m1"},
    "optimizer": {"adam": "torch.optim:Adam", "adamw": "torch.optim:AdamW"},
    "schedule": {
        "constant": "labelkit.training.schedules:constant",
        "linear_decay": "labelkit.training.schedules:linear_decay",
        "one_cycle": "labelkit.training.schedules:one_cycle",
    },
    "score": {
        "lwlrap": "labelkit.noise.scoring:score_lwlrap",
        "self_confidence": "labelkit.noise.scoring:score_self_confidence",
        "margin": "labelkit.noise.scoring:score_margin",
        "cleanlab": "labelkit.noise.scoring:score_cleanlab",
    },
}


def names(kind: str) -> list[str]:
    """Names registered under ``kind``, sorted."""
    return sorted(TABLE[kind])


def suggestion(name: str, known: list[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}" if close else f"known: {', '.join(known)}"


def check(kind: str, name: str) -> str:
    """Return the target of ``name`` without importing it, or say which name was meant.

    Raises:
        UnknownName: If ``name`` is neither registered nor ``package.module:attribute``.
    """
    target = TABLE[kind].get(name, name)
    if ":" not in target:
        raise UnknownName(f"no {kind} called {name!r}; {suggestion(name, names(kind))}")
    return target


def resolve(kind: str, name: str) -> Any:
    """Return the object called ``name``; ``package.module:attribute`` also works.

    Raises:
        UnknownName: If there is no such name, module or attribute.
    """
    module, attribute = check(kind, name).split(":", 1)
    try:
        return getattr(import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        if name in TABLE[kind]:
            raise
        raise UnknownName(f"no {kind} called {name!r}: {error}") from error
