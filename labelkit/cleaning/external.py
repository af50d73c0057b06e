"""Probabilities that somebody else's model wrote, as a run of the store."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from labelkit import metrics
from labelkit.audio.io import hash_file
from labelkit.cleaning.inputs import EXTERNAL
from labelkit.datasets.reading import shown
from labelkit.errors import InvalidInput, UnknownName
from labelkit.noise.classes import find_class_order
from labelkit.progress import say
from labelkit.project import Project, user
from labelkit.records import Batch, LabelTable, Predictions, Run, multi_hot
from labelkit.registry import suggestion
from labelkit.stores.foreign_arrays import UNREADABLE, explain, map_array, open_arrays
from labelkit.types import Array, Floats, Ints


def import_probs(project: Project, file: Path) -> str:
    """Keep probabilities of a file as a run; the same file again is the same run.

    labelkit cannot know what the model was trained on: whether it saw the clips it judges
    is for its owner to know.

    Args:
        project: Where to.
        file: CSV with the path first and a column for each class; ``.npz`` with ``paths``,
            ``classes`` and ``probs``; or ``.npy``, a row for every clip in the order of the
            sorted paths, columns in the order of the project's classes.

    Returns:
        Name of the run.

    Raises:
        InvalidInput: If a clip or class is unknown or missing, a number is no probability,
            or the columns of a file without names fit the labels better in another order.
    """
    if not file.is_file():
        raise InvalidInput(f"{file}: no such file; give a CSV, npz or npy of probabilities")
    run_id = f"{EXTERNAL}-{hash_file(file)[:12]}"
    # A file tells of the clips there are, whatever moment the labels are read from.
    with project.current.read() as session:
        if session.run(run_id) is not None:
            return run_id
        table = session.labels()
    readers = {".csv": _read_csv, ".npz": _read_npz, ".npy": _read_npy}
    if file.suffix.lower() not in readers:
        raise InvalidInput(f"{file}: probabilities come as {', '.join(readers)}")
    try:
        paths, names, probs = readers[file.suffix.lower()](file, table)
    except (*UNREADABLE, csv.Error) as error:
        raise InvalidInput(
            f"{file} cannot be read ({explain(error)}); give a CSV, npz or npy"
        ) from error
    rows = _rows_of(file, table, paths)
    probs = probs[:, _columns_of(file, table, names)]
    _check_values(file, paths, probs)
    _check_order(file, table, rows, probs, named=file.suffix.lower() != ".npy")
    silent = table.subsets == "train"
    silent[rows] = False
    if silent.any():
        say(f"{file.name} says nothing of {silent.sum()} clips, {table.paths[silent.argmax()]} say")
    order = np.argsort(rows)
    settings: dict[str, Any] = {"file": file.name, "hash": hash_file(file)}
    if project.labels_changed_since(table.as_of):
        settings["of_the_past"] = True
    with project.store.write() as session:
        session.append(
            Batch(
                key=run_id,
                kind=EXTERNAL,
                actor=user(),
                by_person=False,
                reason=f"probabilities of {file.name}",
                run_id=run_id,
                runs=[
                    Run(
                        run_id=run_id, kind=EXTERNAL, recipe=EXTERNAL, settings=settings, seed=0,
                        classes=table.classes, as_of=table.as_of,
                    )
                ],
                predictions=[
                    Predictions(
                        run_id=run_id,
                        clip_ids=table.clip_ids[rows][order],
                        probs=probs[order].astype(np.float32),
                    )
                ],
            )
        )  # fmt: skip
    return run_id


def _read_csv(file: Path, table: LabelTable) -> tuple[list[str], list[str], Floats]:
    with file.open(newline="", encoding="utf-8-sig") as text:
        reader = csv.reader(text)
        header = next(reader, [])
        paths, rows = [], []
        for number, row in enumerate(reader, 2):
            if not row:
                continue
            if len(row) != len(header):
                raise ValueError(f"line {number} has {len(row)} fields, the header {len(header)}")
            paths.append(row[0])
            try:
                values = np.array(row[1:], np.float64)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            # What float32 cannot hold is infinite in it, and no probability either.
            with np.errstate(over="ignore"):
                rows.append(values.astype(np.float32))
    return paths, header[1:], np.array(rows, np.float32).reshape(len(rows), len(header[1:]))


def _read_npz(file: Path, table: LabelTable) -> tuple[list[str], list[str], Floats]:
    # A small file can unpack to much more than the project has use for.
    longest = max([0, *map(len, table.paths), *map(len, table.classes)])
    most = 2**20 + (len(table.paths) + len(table.classes)) * 8 * (longest + 1000)
    most += 32 * len(table.paths) * len(table.classes)
    with open_arrays(file, most=most) as saved:
        paths, names = ([str(n) for n in np.ravel(saved[key])] for key in ("paths", "classes"))
        probs = _as_numbers(saved["probs"])
    if probs.shape != (len(paths), len(names)):
        raise ValueError(
            f"probs has shape {probs.shape}, paths and classes {len(paths), len(names)}"
        )
    return paths, names, probs


def _read_npy(file: Path, table: LabelTable) -> tuple[list[str], list[str], Floats]:
    saved = map_array(file)
    wanted = (len(table.paths), len(table.classes))
    if saved.shape != wanted:
        raise ValueError(
            f"it has shape {saved.shape}, the project {wanted[0]} clips and {wanted[1]} classes"
        )
    return sorted(table.paths), table.classes, _as_numbers(saved)


def _as_numbers(saved: Array) -> Floats:
    if saved.dtype.kind not in "fiub":
        raise ValueError(f"probs are {saved.dtype}, wanted numbers")
    # A signalling NaN would warn of itself; it is refused later, as whatever is no probability.
    with np.errstate(invalid="ignore"):
        return np.array(saved, float)


def _rows_of(file: Path, table: LabelTable, paths: list[str]) -> Ints:
    row_of = {path: row for row, path in enumerate(table.paths)}
    unknown = [path for path in paths if path not in row_of]
    if unknown:
        close = difflib.get_close_matches(unknown[0], table.paths, n=1)
        hint = f"did you mean {close[0]!r}" if close else "give paths as labels_now shows them"
        raise InvalidInput(
            f"{file}: {len(unknown)} of {len(paths)} paths are no clips of the project, "
            f"{shown(unknown[0])} is the first; {hint}"
        )
    rows = np.array([row_of[path] for path in paths], int)
    if not len(rows):
        raise InvalidInput(f"{file} has no rows; give one a clip")
    if len(np.unique(rows)) < len(rows):
        twice = Counter(paths).most_common(1)[0][0]
        raise InvalidInput(f"{file}: clip {twice!r} is there twice; keep one row")
    return rows


def _columns_of(file: Path, table: LabelTable, names: list[str]) -> list[int]:
    """Return the column of each class of the project."""
    unknown = [name for name in names if name not in table.classes]
    if unknown:
        raise UnknownName(
            f"{file}: no class {shown(unknown[0])} in the project; "
            f"{suggestion(unknown[0], table.classes)}"
        )
    missing = [name for name in table.classes if name not in names]
    if missing or len(set(names)) < len(names):
        what = f"no column for class {missing[0]!r}" if missing else "a class is there twice"
        raise InvalidInput(f"{file}: {what}; give one column for each of the project's classes")
    return [names.index(name) for name in table.classes]


def _check_values(file: Path, paths: list[str], probs: Floats) -> None:
    bad = np.argwhere(~((probs >= 0) & (probs <= 1)))
    if len(bad):
        row, column = bad[0]
        raise InvalidInput(
            f"{file}: {len(bad)} numbers are no probabilities, {probs[row, column]:g} of "
            f"{paths[row]!r} is the first; bring them to [0, 1]"
        )


def _check_order(file: Path, table: LabelTable, rows: Ints, probs: Floats, *, named: bool) -> None:
    """Refuse or name columns that, moved, would fit the labels much better."""
    labels = multi_hot([table.labels[row] for row in rows], len(table.classes))
    order = find_class_order(labels, probs)
    moved = np.flatnonzero(order != np.arange(len(order)))
    if not len(moved):
        agrees, chance = metrics.accuracy(labels, probs), 1 / len(table.classes)
        if labels.any() and agrees < 1.5 * chance:
            say(
                f"{file.name} agrees with {agrees:.0%} of the labels, hardly more than chance: "
                "are its rows in the order of the sorted paths?"
            )
        return
    first = int(moved[0])
    message = (
        f"{file}: the column of {table.classes[first]} fits clips of "
        f"{table.classes[int(np.flatnonzero(order == first)[0])]}, and {len(moved)} columns fit "
        "others better"
    )
    if not named:
        raise InvalidInput(f"{message}; is the class order another? give a CSV with a header")
    say(f"{message}; are its names right?")
