"""Which recordings can be used, and which are the same one."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from labelkit.errors import RecordingsGone
from labelkit.progress import say
from labelkit.project import FILE, Project
from labelkit.records import LabelTable
from labelkit.stores.arrays import ArrayStore
from labelkit.types import Bools


def refuse_gone(project: Project, table: LabelTable, store: ArrayStore | None = None) -> None:
    """Refuse to go on where the audio folder, or much of what lay in it, is not there.

    A disk that is not mounted looks like that; to leave out what is missing would be to train on
    another set.

    Args:
        project: Whose recordings.
        table: Its clips; those of an import of metadata alone may never have been there.
        store: What was made of them, where some could not be read although they are there.

    Raises:
        RecordingsGone: If there is no folder, or more than ``project.max_missing`` of the
            recordings that an import saw are missing or could not be read.
    """
    project.check_audio()
    seen = [
        path for path, content in zip(table.paths, table.content_hashes, strict=True) if content
    ]
    gone = [path for path in seen if _is_gone(project.audio_dir / path)]
    entries = {} if store is None else store.entries
    unread = [path for path in seen if path in entries and entries[path].faults[:1] == ["unread"]]
    if len(gone) + len(unread) <= project.max_missing * len(seen):
        return
    allow = f"or allow it with max_missing = 1 in {project.root / FILE}"
    if len(gone) >= len(unread):
        raise RecordingsGone(
            f"{len(gone)} of {len(seen)} recordings are not in {project.audio_dir}, {gone[0]} say; "
            f"bring them back (is the disk mounted?), {allow}"
        )
    raise RecordingsGone(
        f"{len(unread)} of {len(seen)} recordings below {project.audio_dir} could not be read, "
        f"{unread[0]} say; see why above or with: labelkit check, mend it, {allow}"
    )


def _is_gone(path: Path) -> bool:
    """Tell whether there is no such file; one that cannot be looked at now is not gone."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def unusable(store: ArrayStore, table: LabelTable) -> dict[str, str]:
    """Find clips without a spectrogram or vector of the recording that was imported, and why."""
    left_out = {}
    for path, imported in zip(table.paths, table.content_hashes, strict=True):
        entry = store.entries.get(path)
        if entry is None or not entry.length:
            left_out[path] = entry.faults[0] if entry and entry.faults else "missing"
        elif imported not in (None, entry.content_hash):
            left_out[path] = "changed"
    return left_out


def same_recordings(table: LabelTable, *, domains: bool = False) -> list[str | None]:
    """Return the group of each clip that no fold may part: its own, joined with its twins'.

    Clips with the same bytes belong together even if their groups say otherwise.

    Args:
        table: The clips.
        domains: Whether clips of one domain belong together, too.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    keys: list[str | None] = []
    more = table.domains if domains else [None] * len(table.paths)
    for group, content, domain in zip(table.groups, table.content_hashes, more, strict=True):
        kinds = (("g", group), ("h", content), ("d", domain))
        names = [f"{kind}:{name}" for kind, name in kinds if name]
        for a, b in itertools.pairwise(names):
            parent[root(a)] = root(b)
        keys.append(names[0] if names else None)
    return [None if key is None else root(key) for key in keys]


def parted_twins(
    arrays: ArrayStore, table: LabelTable, folds: dict[int, int], usable: Bools
) -> Bools:
    """Find clips with the bytes of an earlier one in another fold or subset, to be left out.

    An import that saw the recordings keeps them together; one of metadata alone cannot.
    """
    first: dict[str, int] = {}
    parted = np.zeros(len(table.paths), bool)
    for clip in np.flatnonzero(usable):
        twin = first.setdefault(arrays.entries[table.paths[clip]].content_hash, clip)
        places = [(table.subsets[k], folds.get(int(table.clip_ids[k]))) for k in (clip, twin)]
        if places[0] != places[1]:
            parted[clip] = True
            say(f"{table.paths[clip]} is left out: the same recording as {table.paths[twin]}")
    return parted
