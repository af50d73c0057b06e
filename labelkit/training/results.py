"""Finished trainings on disk: a folder with ``result.npz`` and ``weights.pt`` each."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelkit.training.predict import WindowProbs


@dataclass(frozen=True)
class FoldState:
    """A finished training: what to warm-start from, and the record of what it saw.

    ``name`` and ``parent`` are names of runs, ``number`` says which stage or round of
    its run it is, ``trained_on`` are the indices of the clips that were really drawn,
    ``test_probs`` the judgement of the locked clips, shape ``(n_test, n_classes)``.
    """

    name: str
    folder: Path
    number: int
    fold: int
    parent: str | None
    trained_on: np.ndarray
    test_probs: np.ndarray
    history: list[dict[str, Any]]

    def windows(self) -> WindowProbs:
        """Every window this model judged; ``rows`` are clip indices."""
        with np.load(self.folder / "result.npz") as saved:
            return WindowProbs(
                *(saved[f"windows_{part}"] for part in ("clip", "first", "last", "probs"))
            )


def write_result(folder: Path, about: dict[str, Any], result: dict[str, Any]) -> None:
    """Save a result so that the file is whole or not there."""
    text = json.dumps(about | {"history": result.pop("history")})
    temporary = folder / f"result.{os.getpid()}.partial"
    with temporary.open("wb") as file:
        np.savez(file, about=text, **result)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "result.npz")


def read_result(folder: Path, key: str | None = None) -> tuple[np.ndarray, FoldState] | None:
    """The finished training of a folder, unless it is another's: made from other clips.

    Args:
        folder: Where it would be.
        key: What it must have been made from; None takes any.
    """
    path = folder / "result.npz"
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file) as saved:
            about = json.loads(str(saved["about"]))
            if key is not None and about["key"] != key:
                return None
            state = FoldState(
                name=about["name"],
                folder=folder,
                number=about["number"],
                fold=about["fold"],
                parent=about["parent"],
                trained_on=saved["trained_on"],
                test_probs=saved["test_probs"],
                history=about["history"],
            )
            return saved["probs"], state
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # Damaged: the training is done again.
