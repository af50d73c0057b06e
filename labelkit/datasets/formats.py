"""Readers of label files.

A reader takes a path and a ``FormatSpec`` and returns the clips it found together
with every fault of the file, one line each: row, value, remedy. It checks the file
alone; whether classes and recordings exist is the importer's business.

A new format is one function here and one line in ``registry.TABLE["format"]``.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from labelkit.audio.io import EXTENSIONS
from labelkit.config import FormatSpec
from labelkit.records import REJECTED, RELABELED, UNVERIFIED, VERIFIED, Clip

REMOVE = "remove"
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no", "")


@dataclass
class Reading:
    """What a reader found: clips in the order of the file, and its faults."""

    clips: list[Clip] = field(default_factory=list)
    noted: list[tuple[int, str]] = field(default_factory=list)
    _rows: dict[str, int] = field(default_factory=dict)

    def fault(self, row: int, problem: str, remedy: str) -> None:
        """Note what is wrong with a row and how to mend it."""
        where = f"row {row}: " if row else ""
        self.noted.append((row, f"{where}{problem}; {remedy}"))

    @property
    def faults(self) -> list[str]:
        """One line a fault, in the order of the rows, those of the whole file first."""
        return [text for _, text in sorted(self.noted, key=lambda fault: fault[0])]

    def add(self, clip: Clip) -> None:
        """Take a clip, unless its path cannot be one or was there before."""
        parts = PurePosixPath(clip.path).parts
        if not clip.path or clip.path.startswith("/") or ".." in parts or _unsayable(clip.path):
            self.fault(clip.row, f"path {clip.path!r}", "give a path below the audio folder")
        elif clip.path in self._rows:
            self.fault(
                clip.row,
                f"duplicate file name {clip.path!r}, first in row {self._rows[clip.path]}",
                "keep one of the two",
            )
        else:
            self._rows[clip.path] = clip.row
            self.clips.append(clip)

    def split(self, text: str, separator: str, row: int) -> tuple[str, ...] | None:
        """Labels of a cell, or None and a fault if one of them is empty or said twice."""
        labels = tuple(label.strip() for label in text.split(separator))
        return self.check_labels(labels, row, repr(text))

    def check_labels(self, labels: tuple[str, ...], row: int, shown: str) -> tuple[str, ...] | None:
        """The labels, or None and a fault if one of them is empty or said twice."""
        if any(label == REMOVE or _unsayable(label) for label in labels):
            self.fault(row, f"label list {shown} has a name no class can have", "rename the class")
            return None
        if any(not label for label in labels):
            self.fault(row, f"label list {shown} has an empty entry", "give a class or remove it")
            return None
        if len(set(labels)) < len(labels):
            self.fault(row, f"label list {shown} repeats a class", "name each class once")
            return None
        return labels


def _unsayable(name: str) -> bool:
    """Whether a name holds control characters, or bytes that are no UTF-8."""
    return any(unicodedata.category(c) in ("Cc", "Cs") for c in name)


def read_csv(path: Path, spec: FormatSpec) -> Reading:
    """Read a CSV file whose columns the spec names."""
    found = Reading()
    columns = {
        "path": spec.path_column,
        "labels": spec.label_column,
        "verified": spec.verified_column,
        "fold": spec.fold_column,
        "group": spec.group_column,
    }
    state = spec.state or UNVERIFIED
    for number, row in _csv_rows(path, [c for c in columns.values() if c], found):
        cells = {key: row[column].strip() for key, column in columns.items() if column}
        labels = found.split(cells["labels"], spec.separator, number)
        verified = _flag(cells["verified"], number, found) if "verified" in cells else None
        fold = _fold(cells["fold"], number, found) if "fold" in cells else None
        if labels is not None:
            found.add(
                Clip(
                    path=_join(spec.prefix, cells["path"]),
                    labels=labels,
                    state=state if verified is None else (UNVERIFIED, VERIFIED)[verified],
                    fold=fold,
                    group=cells.get("group") or None,
                    subset=spec.subset,
                    row=number,
                )
            )
    return found


def read_fsdkaggle2018(path: Path, spec: FormatSpec) -> Reading:
    """Read FSDKaggle2018's training table: fname, one label, manually_verified."""
    return read_csv(
        path,
        _columns(spec, label_column="label", verified_column="manually_verified", separator="\0"),
    )


def read_fsdkaggle2019(path: Path, spec: FormatSpec) -> Reading:
    """Read FSDKaggle2019's tables: fname and comma-joined labels.

    A folder stands for its ``train_curated.csv`` and ``train_noisy.csv``. The name of
    a file says which of the two it is; the curated labels count as verified.
    """
    found = Reading()
    names = ("train_curated.csv", "train_noisy.csv")
    files = [path / name for name in names if (path / name).exists()] if path.is_dir() else [path]
    if not files:
        found.fault(0, f"neither {names[0]} nor {names[1]} lies in {path}", "give the CSV file")
    for file in files:
        state = spec.state or next(
            (s for key, s in (("noisy", UNVERIFIED), ("curated", VERIFIED)) if key in file.stem),
            None,
        )
        if state is None:
            found.fault(0, f"{file.name} is neither curated nor noisy by name", "give --state")
            continue
        part = read_csv(file, _columns(spec, label_column="labels", state=state))
        found.noted += [(row, f"{file.name} {text}") for row, text in part.noted]
        for clip in part.clips:
            found.add(clip)
    return found


def _columns(spec: FormatSpec, **fixed: Any) -> FormatSpec:
    kept = {"subset": spec.subset, "prefix": spec.prefix, "state": spec.state}
    kept |= {"group_column": spec.group_column, "fold_column": spec.fold_column}
    return FormatSpec(**(kept | fixed))


def read_folder(path: Path, spec: FormatSpec) -> Reading:
    """Read a folder with one folder of recordings per class.

    Paths are relative to ``path``; the importer puts the way to it in front.
    """
    found = Reading()
    if not path.is_dir():
        found.fault(0, f"{path} is not a folder", "give a folder with one folder per class")
        return found
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in EXTENSIONS)
    for number, file in enumerate(files, 1):
        parts = file.relative_to(path).parts
        if len(parts) < 2:
            found.fault(number, f"{parts[0]!r} lies in no class folder", "move it into one")
            continue
        found.add(
            Clip(
                path=_join(spec.prefix, "/".join(parts)),
                labels=(parts[0],),
                state=spec.state or UNVERIFIED,
                subset=spec.subset,
                row=number,
            )
        )
    if not files:
        found.fault(0, f"no recordings below {path}", f"known: {', '.join(EXTENSIONS)}")
    return found


def read_jsonl(path: Path, spec: FormatSpec) -> Reading:
    """Read one JSON object a line: path, labels, and if wanted verified, fold, group, subset.

    An empty list of labels is allowed: a clip nobody labelled.
    """
    found = Reading()
    for number, line in enumerate(_text(path, found).split("\n"), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            values = dict(item)
            name, labels = str(values.pop("path")), values.pop("labels")
        except (ValueError, TypeError, RecursionError):
            found.fault(number, f"not a JSON object: {line[:60]!r}", "one object a line")
            continue
        except KeyError as error:
            found.fault(number, f"no key {error}", 'give {"path": ..., "labels": [...]}')
            continue
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            found.fault(number, f"labels {labels!r}", "give a list of class names")
            continue
        checked = found.check_labels(tuple(labels), number, repr(labels))
        verified = _flag(str(values.pop("verified", "")), number, found)
        fold = _fold(str(values.pop("fold", "")), number, found)
        group, subset = values.pop("group", None), values.pop("subset", spec.subset)
        if subset not in ("train", "test"):
            found.fault(number, f"subset {subset!r}", "give train or test")
        elif values:
            found.fault(number, f"unknown key {min(values)!r}", "remove it")
        elif checked is not None:
            found.add(
                Clip(
                    path=_join(spec.prefix, name),
                    labels=checked,
                    state=VERIFIED if verified else spec.state or UNVERIFIED,
                    fold=fold,
                    group=None if group is None else str(group),
                    subset=subset,
                    row=number,
                )
            )
    return found


def read_corrections(path: Path, spec: FormatSpec) -> Reading:
    """Read corrections of clips that are in the store: ``{fname: "new,labels" or "remove"}``.

    A list of labels may stand for the string, where a class name holds the separator.

    The form in which argus (1st place, Freesound 2019) published its hand corrections.
    The clips come back as ``relabeled``, or ``rejected`` and without labels.
    """
    found = Reading()
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=list)
    except (ValueError, OSError, RecursionError) as error:
        found.fault(0, f"not a JSON file: {error}", 'give {"fname": "labels"}')
        return found
    for number, pair in enumerate(pairs if isinstance(pairs, list) else [pairs], 1):
        name, said = pair if isinstance(pair, tuple) else (None, None)
        if said == REMOVE:
            labels: tuple[str, ...] | None = ()
        elif isinstance(said, str):
            labels = found.split(said, spec.separator, number)
        elif isinstance(said, list) and said and all(isinstance(label, str) for label in said):
            labels = found.check_labels(tuple(said), number, repr(said))
        else:
            found.fault(number, f"{pair!r} is no correction", 'give "fname": "labels"')
            continue
        if labels is not None:
            state = REJECTED if said == REMOVE else RELABELED
            found.add(Clip(path=_join(spec.prefix, name), labels=labels, state=state, row=number))
    return found


def _text(path: Path, found: Reading) -> str:
    try:
        # Line ends stay as they are: a quoted cell may hold some.
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        found.fault(0, f"not UTF-8 at byte {error.start}", "save the file as UTF-8")
    except OSError as error:
        found.fault(0, f"cannot be read ({error.strerror})", "give a readable file")
    return ""


def _csv_rows(
    path: Path, columns: list[str], found: Reading
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each row; faults for missing columns and short rows."""
    text = _text(path, found)
    if found.faults:
        return
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    header = reader.fieldnames or []
    for column in columns:
        if column not in header:
            found.fault(
                0, f"no column {column!r} in {', '.join(header) or 'an empty file'}",
                "part the cells by commas" if ";" in "".join(header)
                else "rename it, or name yours (see labelkit import --help)",
            )  # fmt: skip
        elif header.count(column) > 1:
            found.fault(1, f"column {column!r} is there {header.count(column)} times", "keep one")
    if found.faults:
        return
    n_rows = 0
    try:
        for row in reader:
            n_rows += 1
            if any(row[column] is None for column in columns):
                found.fault(reader.line_num, "too few cells", f"give {len(header)}")
            elif None in row:
                found.fault(reader.line_num, "too many cells", "put quotes around commas in a cell")
            else:
                yield reader.line_num, row
    except csv.Error as error:
        found.fault(reader.line_num, f"not CSV: {error}", "mend the quotes")
    if not n_rows:
        found.fault(0, "no rows below the header", "add some")


def _flag(text: str, row: int, found: Reading) -> bool | None:
    if text.lower() not in _TRUE + _FALSE:
        found.fault(row, f"verified is {text!r}", "give 1 or 0")
    return text.lower() in _TRUE


def _fold(text: str, row: int, found: Reading) -> int | None:
    if text == "":
        return None
    if not text.isdecimal() or len(text) > 4:
        found.fault(row, f"fold is {text[:20]!r}", "give a whole number from 0 to 9999")
        return None
    return int(text)


def _join(prefix: str, path: str) -> str:
    return f"{prefix.rstrip('/')}/{path}" if prefix else path
