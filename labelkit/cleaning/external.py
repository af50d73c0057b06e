"""Probabilities that somebody else's model wrote, as a run of the store."""

from __future__ import annotations

import csv
import difflib
import io
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
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

# How far a row of probabilities may be from 1: of 80 classes, rounded to three digits.
SUM_TOLERANCE = 0.05


def import_probs(project: Project, file: Path) -> str:
    """Keep probabilities of a file as a run; the same file again is the same run.

    labelkit cannot know what the model was trained on: whether it saw the clips it judges
    is for its owner to know.

    Args:
        project: Where to.
        file: CSV with the path first and a column for each class, delimited by comma, semicolon
            or TAB, numbers of rows and ids beside it or not; ``.npz`` with ``paths``,
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
    rows = _rows_of(file, table, _as_clips(file, project, table, paths))
    probs = probs[:, _columns_of(file, table, names)]
    _check_values(file, paths, probs)
    _tell_sums(file, table, paths, probs)
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


# What programs write before or beside a table, and no class is called: numbers of rows, and ids.
_INDEX = re.compile(r"|unnamed: \d+|index|rownames|row|id|clip_id|uid", re.IGNORECASE)


def _read_csv(file: Path, table: LabelTable) -> tuple[list[str], list[str], Floats]:
    """Read a table as programs write it: any delimiter, spaces in the header, columns of an id."""
    lines, delimiter = _read_lines(file, table.classes)
    header = [name.strip() for name in lines[0][1]] if lines else []
    rows = lines[1:]
    if rows and all(len(row) == len(header) + 1 for _, row in rows):
        # R writes the names of rows, and no name above them.
        header = ["", *header]
    for number, row in rows:
        if len(row) != len(header):
            raise ValueError(f"line {number} has {len(row)} fields, the header {len(header)}")
    place = _find_paths(header, rows, table)
    columns = [
        k for k, name in enumerate(header)
        if k != place and (name in table.classes or not _INDEX.fullmatch(name))
    ]  # fmt: skip
    ignored = [header[k] for k in range(len(header)) if k != place and k not in columns]
    if ignored:
        say(f"{file.name}: {', '.join(map(shown, ignored))} hold no probabilities; left out")
    paths, values = [row[place].strip() for _, row in rows], []
    for number, row in rows:
        cells = [row[k].strip() for k in columns]
        if delimiter != ",":
            cells = [cell.replace(",", ".") for cell in cells]
        try:
            found = np.array(cells, np.float64)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        # What float32 cannot hold is infinite in it, and no probability either.
        with np.errstate(over="ignore"):
            values.append(found.astype(np.float32))
    names = [header[k] for k in columns]
    return paths, names, np.array(values, np.float32).reshape(len(values), len(names))


def _read_lines(file: Path, classes: Sequence[str]) -> tuple[list[tuple[int, list[str]]], str]:
    """Read the rows that hold anything, numbered from 1, and the delimiter that names most classes.

    A comma is taken where others do no better.
    """
    text = file.read_text(encoding="utf-8-sig")
    found: dict[str, list[str]] = {}
    for delimiter in (",", "\t", ";"):
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        found[delimiter] = next(reader, [])
    known = {d: sum(name.strip() in classes for name in names) for d, names in found.items()}
    delimiter = max(found, key=lambda d: (known[d], d == ",", len(found[d])))
    if not known[delimiter]:
        delimiter = max(found, key=lambda d: len(found[d]))
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter != "\t"
    )
    return [(number, row) for number, row in enumerate(reader, 1) if any(row)], delimiter


def _find_paths(
    header: Sequence[str], rows: Sequence[tuple[int, Sequence[str]]], table: LabelTable
) -> int:
    """Find the column of the paths: the first, but for numbers of rows and ids before it."""
    stems = {PurePosixPath(path).name for path in table.paths}

    def count(k: int) -> int:
        return sum(re.split(r"[/\\]", row[k].strip())[-1] in stems for _, row in rows[:100])

    for k, name in enumerate(header):
        if not _INDEX.fullmatch(name) or name in table.classes:
            break
        if any(count(later) > count(k) for later in range(k + 1, len(header))):
            continue
        return k
    return min(k, len(header) - 1) if header else 0


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


def _as_clips(file: Path, project: Project, table: LabelTable, paths: list[str]) -> list[str]:
    """Write paths as the project has them: with ``/``, below the audio folder, without ``./``."""
    known, found = set(table.paths), list(paths)
    folders = [f"{folder}/" for folder in {project.audio_dir, project.audio_dir.resolve()}]
    for k, path in enumerate(paths):
        for text in (path, path.replace("\\", "/")):
            inner = next((text.removeprefix(f) for f in folders if text.startswith(f)), text)
            clean = posixpath.normpath(inner)
            if path not in known and clean in known:
                found[k] = clean
    changed = [k for k, path in enumerate(paths) if found[k] != path]
    if changed:
        k = changed[0]
        say(
            f"{file.name}: {len(changed)} paths are read as clips, {paths[k]!r} as {found[k]!r} say"
        )
    return found


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


def _tell_sums(file: Path, table: LabelTable, paths: list[str], probs: Floats) -> None:
    """Tell of rows that do not sum to 1, where a clip has one label."""
    if table.several:
        return
    sums = probs.sum(axis=1)
    odd = np.flatnonzero(abs(sums - 1) > SUM_TOLERANCE)
    if not len(odd):
        return
    k = odd[abs(sums[odd] - 1).argmax()]
    told = (
        f"{file.name}: {len(odd)} of {len(paths)} rows do not sum to 1, {sums[k]:g} of "
        f"{paths[k]!r} say, although every clip has one label"
    )
    if 2 * len(odd) > len(paths):
        say(f"{told}; those of a sigmoid for each class do not, and are taken as they are")
    else:
        say(f"{told}; are they whole? they are taken as they are")


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
