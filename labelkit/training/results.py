"""Finished trainings on disk: a folder with ``result.npz`` and ``weights.pt`` each."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelkit.errors import InvalidInput, LabelkitError
from labelkit.files import replacing
from labelkit.training.predict import WindowProbs
from labelkit.types import Floats, Ints


@dataclass(frozen=True)
class FoldState:
    """A finished training: what to warm-start from, and the record of what it saw.

    ``name`` and ``parent`` are names of runs, ``iteration`` says which stage or round of
    its run it is, ``trained_on`` are the indices of the clips that were really drawn,
    ``test_probs`` the judgement of the held-out clips, shape ``(n_test, n_classes)``.
    """

    name: str
    folder: Path
    iteration: int
    fold: int
    parent: str | None
    trained_on: Ints
    test_probs: Floats
    history: list[dict[str, Any]]

    def windows(self) -> WindowProbs:
        """Return every window this model judged; ``rows`` are clip indices."""
        with np.load(self.folder / "result.npz") as saved:
            return WindowProbs(
                *(saved[f"windows_{part}"] for part in ("clip", "first", "last", "probs"))
            )


def write_result(folder: Path, about: dict[str, Any], result: dict[str, Any]) -> None:
    """Save a result, whole or not at all."""
    text = json.dumps(about | {"history": result.pop("history")})
    with replacing(folder / "result.npz") as file:
        np.savez(file, about=text, **result)


def read_result(folder: Path, key: str | None = None) -> tuple[Floats, FoldState] | None:
    """Read the finished training of a folder, unless it is another's: made from other clips.

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
                iteration=about["number"],
                fold=about["fold"],
                parent=about["parent"],
                trained_on=saved["trained_on"],
                test_probs=saved["test_probs"],
                history=about["history"],
            )
            return saved["probs"], state
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # Damaged: the training is done again.


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Save tensors and plain data, whole or not at all."""
    with replacing(path) as file:
        torch.save(state, file)


def read_state(path: Path) -> dict[str, Any]:
    """Read what :func:`write_state` wrote, on the CPU; runs no code from the file.

    Raises:
        LabelkitError: If the file is missing or damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler stumbles over.
        raise LabelkitError(
            f"{path} cannot be read; delete the folder {path.parents[2]} and run again"
        ) from error
    return state


def read_weights(path: Path, classes: Sequence[str], heard: str) -> dict[str, Any]:
    """Read weights to start from.

    Args:
        path: Where they are.
        classes: The class list they must be of.
        heard: Fingerprint of the spectrograms and windows they must be of.

    Raises:
        InvalidInput: If they are of others.
        LabelkitError: If the file is missing or damaged.
    """
    weights = read_state(path)
    theirs = list(weights["classes"])
    if theirs != list(classes):
        odd = sorted(set(theirs) ^ set(classes))
        how = f"they differ in {', '.join(odd[:5])}" if odd else "their order differs"
        raise InvalidInput(
            f"{path} was trained on {len(theirs)} classes, the project has {len(classes)}: {how}; "
            "train anew"
        )
    if weights["heard"] != heard:
        raise InvalidInput(
            f"{path} was trained on other spectrograms or windows; start from a run of the same "
            "features and input settings"
        )
    return weights
