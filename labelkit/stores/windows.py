"""How single windows of clips were judged: one compressed file a run, below one folder.

A file is written before the batch that names its run, so the windows of every
prediction in the store are there.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from labelkit.errors import StoreError
from labelkit.files import replacing
from labelkit.records import Windows


class WindowStore:
    """Window probabilities of runs.

    Args:
        folder: Where they lie; ``RUN.npz`` each, in folders where the name has slashes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, run_id: str) -> Path:
        """Return the file of a run."""
        return self.folder / f"{run_id}.npz"

    def write(self, run_id: str, windows: Windows) -> None:
        """Save the windows of a run, whole or not at all; the same again changes nothing."""
        path = self.path(run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.savez_compressed(
                file,
                clip_ids=windows.clip_ids,
                starts_s=windows.starts_s,
                ends_s=windows.ends_s,
                probs=windows.probs,
            )

    def read(self, run_id: str) -> Windows:
        """Read the windows of a run.

        Raises:
            StoreError: If there are none, or the file is damaged.
        """
        path = self.path(run_id)
        try:
            with path.open("rb") as file, np.load(file) as saved:
                parts = {name: saved[name] for name in ("clip_ids", "starts_s", "ends_s", "probs")}
        except FileNotFoundError as error:
            raise StoreError(f"no windows of run {run_id!r}; see: labelkit status") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise StoreError(f"{path} is damaged; train again with another --seed") from error
        return Windows(**parts)
