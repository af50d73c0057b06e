"""How every clip was judged epoch by epoch: one array a training, below one folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelkit.errors import StoreError
from labelkit.files import replacing
from labelkit.types import Floats, Ints


class EpochStore:
    """Logits of trainings, as the trainer's epoch log writes them.

    Args:
        folder: Where they lie: ``RUN/STAGE/fold-N.npy``, and ``RUN/clips.npy``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write_clips(self, run_id: str, clip_ids: Ints) -> None:
        """Note which clip each column of the logs of a run is; the same again is harmless."""
        path = self.folder / run_id / "clips.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.save(file, clip_ids)

    def read(self, training: str, n_rows: int) -> tuple[Ints, Floats]:
        """Map the logits of one training.

        Args:
            training: Its name, ``RUN/STAGE/fold-N``.
            n_rows: How many rows its history says are written.

        Returns:
            Clip ids ``(n_clips,)`` and logits, float16 on disk, ``(n_rows, n_clips, n_classes)``.

        Raises:
            StoreError: If there is no log, or it is damaged.
        """
        path = self.folder / f"{training}.npy"
        try:
            clip_ids = np.load(self.folder / training.split("/")[0] / "clips.npy")
            rows = np.load(path, mmap_mode="r")
        except FileNotFoundError as error:
            raise StoreError(
                f"{error.filename} is gone; train again with another --seed"
            ) from error
        except (OSError, ValueError, EOFError) as error:
            raise StoreError(f"{path} is damaged; train again with another --seed") from error
        if rows.ndim != 3 or rows.shape[1] != len(clip_ids) or len(rows) < n_rows:
            raise StoreError(f"{path} is of another run; train again with another --seed")
        return clip_ids, rows[:n_rows]
