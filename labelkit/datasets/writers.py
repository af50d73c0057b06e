"""Writers of label files: what they write, the reader of the same name reads back.

A writer takes a file, the clips and the vocabulary, and returns what its format cannot say:
which clips it left out, and what of the others is lost. A file is whole or not there.

What else it needs it declares itself, a plug-in as well: a keyword ``separator`` where there is
something to part, and :func:`fills_folder` where it makes several files.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from labelkit.datasets.cells import join_names, quote
from labelkit.datasets.formats import COLUMNS, CURATED, NOISY
from labelkit.errors import InvalidInput
from labelkit.files import replacing, sync_folder
from labelkit.records import Clip
from labelkit.states import REJECTED, RELABELED, SELF_VERIFIED, VERIFIED

# What is said in words, and the paths or classes it is said of.
Unsaid = dict[str, list[str]]
LEFT_OUT = "left out, "

_Writer = TypeVar("_Writer", bound=Callable[..., Unsaid])


def fills_folder(*files: str) -> Callable[[_Writer], _Writer]:
    """Declare that a writer is given a folder, in which it makes the files of these names."""

    def declare(write: _Writer) -> _Writer:
        vars(write)["files"] = files
        return write

    return declare


def folder_files(write: Callable[..., Unsaid]) -> tuple[str, ...]:
    """Return the names of the files that a writer makes in a folder; none if it makes one file."""
    return getattr(write, "files", ())


def without_folds(write: _Writer) -> _Writer:
    """Declare that what a writer makes has no place for folds."""
    vars(write)["folds"] = False
    return write


def holds_folds(write: Callable[..., Unsaid]) -> bool:
    """Tell whether folds stand in what a writer makes."""
    return getattr(write, "folds", True)


def write_csv(
    file: Path, clips: Sequence[Clip], classes: Sequence[str], *, separator: str = ","
) -> Unsaid:
    """Write all that is known of the clips; only the vocabulary's order is lost.

    Args:
        file: The file to make.
        clips: The clips, in their order.
        classes: The vocabulary.
        separator: What parts several labels; a name that holds it stands in quotes.

    Returns:
        What the format cannot say.

    Raises:
        InvalidInput: If the separator is empty or holds a quote.
    """
    if not separator or '"' in separator:
        raise InvalidInput(f"separator {separator!r}: give one without a quote, ';' say")
    columns = _columns(clips)
    rows = (
        [
            quote(clip.path),
            join_names(sorted(clip.labels), separator),
            clip.state,
            clip.fold,
            None if clip.group is None else quote(clip.group),
            clip.subset,
            clip.content_hash,
            clip.duration_s,
            None if clip.domain is None else quote(clip.domain),
        ][: len(columns)]
        for clip in clips
    )
    with replacing(file) as stream:
        stream.write(_table(columns, rows))
    return _unsaid_classes(clips, classes)


def write_jsonl(file: Path, clips: Sequence[Clip], classes: Sequence[str]) -> Unsaid:
    """Write the vocabulary on the first line and then one object a clip, nothing is lost."""
    with replacing(file) as stream:
        for item in chain([{"classes": list(classes)}], map(_item, clips)):
            stream.write(json.dumps(item, ensure_ascii=False).encode() + b"\n")
    return {}


def write_parquet(file: Path, clips: Sequence[Clip], classes: Sequence[str]) -> Unsaid:
    """Write one row a clip and the vocabulary as metadata; nothing is lost."""
    import duckdb

    labels = np.empty(len(clips), object)
    labels[:] = [sorted(clip.labels) for clip in clips]
    names = _columns(clips)
    rest = [name for name in names if name != "labels"]
    arrays = {name: np.array([getattr(clip, name) for clip in clips], object) for name in rest}
    arrays["labels"] = labels
    types = {"labels": "varchar[]", "fold": "integer", "duration_s": "double"}
    columns = ", ".join(f'"{name}"::{types.get(name, "varchar")} as "{name}"' for name in names)
    with replacing(file) as stream, duckdb.connect(config={"threads": 1}) as con:
        # Column types come from all rows, not from a sample that may miss the lists.
        con.execute("set pandas_analyze_sample = 0")
        con.register("arrays", arrays)
        con.execute(
            f"copy (select {columns} from arrays) to {_literal(stream.name)} "
            "(format parquet, compression zstd, use_tmp_file false, "
            f"kv_metadata {{classes: {_literal(json.dumps(list(classes)))}}})"
        )
    return {}


@without_folds
def write_fsdkaggle2018(file: Path, clips: Sequence[Clip], classes: Sequence[str]) -> Unsaid:
    """Write FSDKaggle2018's training table: clips of one label, and whether people checked it."""
    unsaid = _Losses()
    kept = unsaid.leave_out(clips, several=False)
    rows = ([clip.path, clip.labels[0], int(_curated(clip))] for clip in kept)
    with replacing(file) as stream:
        stream.write(_table(("fname", "label", "manually_verified"), rows))
    return unsaid.tell(kept, classes)


@without_folds
@fills_folder(CURATED, NOISY)
def write_fsdkaggle2019(folder: Path, clips: Sequence[Clip], classes: Sequence[str]) -> Unsaid:
    """Write FSDKaggle2019's two tables, curated and noisy, with comma-joined labels.

    Both are there even where one has no clips, so no older one is taken for it.
    """
    unsaid = _Losses()
    kept = unsaid.leave_out(clips, several=True)
    contents = {}
    for name, curated in ((NOISY, False), (CURATED, True)):
        rows = [
            [clip.path, ",".join(sorted(clip.labels))] for clip in kept if _curated(clip) == curated
        ]
        # A link is followed: what it leads to is replaced.
        contents[(folder / name).resolve()] = _table(("fname", "labels"), rows)
    _replace_all(contents)
    return unsaid.tell(kept, classes)


class _Losses(defaultdict[str, list[str]]):
    """Collects what the two FSDKaggle formats cannot say."""

    def __init__(self) -> None:
        super().__init__(list)

    def leave_out(self, clips: Sequence[Clip], *, several: bool) -> list[Clip]:
        """Return the clips that can be said; note of the others why they cannot."""
        kept = []
        for clip in clips:
            reason = _unsayable(clip, several)
            if reason:
                self[LEFT_OUT + reason].append(clip.path)
            else:
                kept.append(clip)
        return kept

    def tell(self, kept: Sequence[Clip], classes: Sequence[str]) -> Unsaid:
        """Tell what was left out, and what is lost of the clips that were not."""
        for clip in kept:
            if clip.state in (RELABELED, SELF_VERIFIED):
                says = "" if _curated(clip) else "not "
                self[f"{clip.state}, which the file calls {says}manually verified"].append(
                    clip.path
                )
            for name in ("fold", "group", "content_hash", "duration_s", "domain"):
                if getattr(clip, name) is not None:
                    self[f"{name} is not in the file"].append(clip.path)
        return dict(self) | _unsaid_classes(kept, classes)


def _unsayable(clip: Clip, several: bool) -> str:
    """Say why the FSDKaggle formats have no row for a clip; empty where they do."""
    if clip.state == REJECTED:
        return "rejected"
    if clip.subset != "train":
        return f"subset {clip.subset}"
    if len(clip.labels) == 0:
        return "no label"
    if len(clip.labels) > 1 and not several:
        return "several labels"
    if several and any("," in name for name in clip.labels):
        return "a comma in a label"
    if quote(clip.path) != clip.path or any(name != name.strip() for name in clip.labels):
        return "a space or a quote at the end of a name"
    return ""


def _unsaid_classes(clips: Sequence[Clip], classes: Sequence[str]) -> Unsaid:
    """Find classes that come back elsewhere, or not at all, where only labels are written."""
    used = {name for clip in clips for name in clip.labels}
    unused = [name for name in classes if name not in used]
    unsaid = {"class without a clip is not in the file": unused} if unused else {}
    known = [name for name in classes if name in used]
    if known != sorted(known):
        unsaid["order of the classes is lost, they come back sorted"] = known
    return unsaid


def _curated(clip: Clip) -> bool:
    return clip.state in (VERIFIED, RELABELED)


def _columns(clips: Sequence[Clip]) -> tuple[str, ...]:
    """List the columns of a table of clips; that of domains, which is new, only where one has."""
    return COLUMNS if any(clip.domain is not None for clip in clips) else COLUMNS[:-1]


def _item(clip: Clip) -> dict[str, Any]:
    values = {name: getattr(clip, name) for name in COLUMNS} | {"labels": sorted(clip.labels)}
    return {name: value for name, value in values.items() if value is not None}


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _replace_all(contents: dict[Path, bytes]) -> None:
    """Write several files; all are on the disk before the first gets its name."""
    new = {file: file.with_name(f"{file.name}.{os.getpid()}.new") for file in contents}
    try:
        for file, content in contents.items():
            with replacing(new[file]) as stream:
                stream.write(content)
        for file, written in new.items():
            written.replace(file)
        for folder in {file.parent for file in contents}:
            sync_folder(folder)
    finally:
        for written in new.values():
            written.unlink(missing_ok=True)
