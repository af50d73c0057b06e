"""Label files as they are published with the sets that people in this trade have.

Each is a table whose columns, folds and groups are known, so that it imports by its name. The
layouts are those of ESC-50 (Piczak 2015), UrbanSound8K (Salamon 2014), FSD50K (Fonseca 2020), the
DCASE challenges, BirdCLEF, and AudioSet (Gemmeke 2017).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath

from labelkit.audio.io import EXTENSIONS
from labelkit.config import FormatSpec
from labelkit.datasets.cells import is_missing, read_list, split_names
from labelkit.datasets.columns import Columns, Row, Split, named_columns, take_rows
from labelkit.datasets.matching import STEM
from labelkit.datasets.reading import Reading, shown
from labelkit.datasets.tables import Table, read_table

AUDIOSET = "audioset"
# The file of what is held out, not "retrieval.csv".
_EVAL = re.compile(r"(?<![a-z])eval(uation)?(?![a-z])", re.IGNORECASE)


def _whole_cell(file: Path) -> Split:
    return lambda text: (text,)


def _by_commas(file: Path) -> Split:
    return lambda text: split_names(text, ",")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A label file as it is published.

    Attributes:
        title: What it is called.
        needs: Columns by which it is known, which all of its kind have.
        columns: Column of what it says of a clip; those of group, domain and fold may be missing.
        split: Makes the function that makes labels of a cell, given the file.
        others_of: What the recording of a row may be called besides its path.
        path_of: Makes the path of a row where no column is it.
        more_labels: Another column of labels, and what makes labels of its cells.
        domain_of: Finds the domains of paths, given the file; what it cannot read it notes.
        join: Whether a clip may have several rows.
        may_be_empty: Whether a row may have no labels.
        has_test: A file of this layout may be the held-out part of its set, by its name.
        marks_train: A column that only a file of what is not held out has.
    """

    title: str
    needs: tuple[str, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    split: Callable[[Path], Split] = _whole_cell
    others_of: Callable[[Row], tuple[str, ...]] | None = None
    path_of: Callable[[Row], str] | None = None
    more_labels: tuple[str, Split] | None = None
    domain_of: Callable[[Path, Reading], Mapping[str, str]] | None = None
    join: bool = False
    may_be_empty: bool = False
    has_test: bool = False
    marks_train: str | None = None


def _audioset_names(file: Path) -> dict[str, str]:
    """Read what the ids of AudioSet's classes are called, where a table of it lies beside."""
    for folder in (file.parent, file.parent.parent):
        try:
            with (folder / "class_labels_indices.csv").open(encoding="utf-8", newline="") as table:
                return {row["mid"]: row["display_name"] for row in csv.DictReader(table)}
        except (OSError, ValueError, KeyError, csv.Error):
            pass
        try:
            items = json.loads((folder / "ontology.json").read_text(encoding="utf-8"))
            return {item["id"]: item["name"] for item in items}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
    return {}


def _audioset_split(file: Path) -> Split:
    names = _audioset_names(file)

    def split(text: str) -> tuple[str, ...] | None:
        # Some copies have more quotes around the list.
        return tuple(names.get(id_.strip(), id_.strip()) for id_ in text.strip('"').split(","))

    return split


def _segment_names(row: Row) -> tuple[str, ...]:
    """List what downloaders call a segment: with or without its seconds, or milliseconds."""
    names = [row.get("YTID", "")]
    try:
        start, end = float(row["start_seconds"]), float(row["end_seconds"])
    except (KeyError, ValueError):
        return (f"Y{names[0]}",)
    for first, last in (
        (f"{start:.3f}", f"{end:.3f}"), (f"{start:.1f}", f"{end:.1f}"), (f"{start:g}", f"{end:g}"),
        (f"{start * 1000:.0f}", f"{end * 1000:.0f}"), (f"{start:06.0f}", f"{end:06.0f}"),
    ):  # fmt: skip
        names += [f"{names[0]}_{first}_{last}", f"{names[0]}_{first}"]
    return tuple(dict.fromkeys([*names[1:], *(f"Y{name}" for name in names)]))


def _strong_segment_names(row: Row) -> tuple[str, ...]:
    name, _, start = row.get("segment_id", "").rpartition("_")
    return (f"Y{name}_{start}", name, f"Y{name}")


def _uploaders(file: Path, found: Reading) -> dict[str, str]:
    """Read who uploaded FSD50K's clips, where its metadata lie beside."""
    part = "eval" if _EVAL.search(file.stem) else "dev"
    name = f"{part}_clips_info_FSD50K.json"
    for folder in (file.parent, file.parent / "FSD50K.metadata",
                   file.parent.parent / "FSD50K.metadata"):  # fmt: skip
        try:
            items = json.loads((folder / name).read_text(encoding="utf-8"))
            return {clip: str(about["uploader"]) for clip, about in items.items()}
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            found.notes.append(
                f"{shown(str(folder / name))} cannot be read, so that uploaders are no domains"
            )
            break
    return {}


def _more_birds(text: str) -> tuple[str, ...] | None:
    """Read a list of further birds, also without quotes or brackets; None if it may be several.

    Names with spaces need quotes: "a b" is one bird, or two.
    """
    if is_missing(text):
        return ()
    if (listed := read_list(text)) is not None:
        return listed
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    names = tuple(name.strip() for name in bare.split(","))
    if any(re.search(r"""[\s'"\[\]{};|]""", name) for name in names):
        return None
    return tuple(name for name in names if not is_missing(name))


LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "esc50": (
        Layout(
            title="ESC-50",
            needs=("filename", "fold", "target", "category", "src_file"),
            columns={"path": "filename", "labels": "category", "fold": "fold", "group": "src_file"},
        ),
    ),
    "urbansound8k": (
        Layout(
            title="UrbanSound8K",
            needs=("slice_file_name", "fsID", "fold", "class"),
            columns={"path": "slice_file_name", "labels": "class", "fold": "fold", "group": "fsID"},
            path_of=lambda row: f"fold{row['fold']}/{row['slice_file_name']}",
        ),
    ),
    "fsd50k": (
        Layout(
            title="FSD50K",
            needs=("fname", "labels", "mids"),
            columns={"path": "fname", "labels": "labels"},
            split=_by_commas,
            domain_of=_uploaders,
            has_test=True,
            marks_train="split",
        ),
    ),
    "dcase": (
        Layout(
            title="DCASE (strong labels)",
            needs=("filename", "onset", "offset", "event_label"),
            columns={"path": "filename", "labels": "event_label"},
            join=True, may_be_empty=True,
        ),
        Layout(
            title="DCASE (weak labels)",
            needs=("filename", "event_labels"),
            columns={"path": "filename", "labels": "event_labels"},
            split=_by_commas, join=True, may_be_empty=True,
        ),
        Layout(
            title="DCASE (acoustic scenes)",
            needs=("filename", "scene_label"),
            columns={"path": "filename", "labels": "scene_label", "group": "identifier",
                     "domain": "source_label"},
        ),
    ),
    "birdclef": (
        Layout(
            title="BirdCLEF",
            needs=("primary_label", "secondary_labels", "filename"),
            columns={"path": "filename", "labels": "primary_label", "domain": "author"},
            more_labels=("secondary_labels", _more_birds),
        ),
    ),
    AUDIOSET: (
        Layout(
            title="AudioSet",
            needs=("YTID", "start_seconds", "end_seconds", "positive_labels"),
            columns={"path": "YTID", "labels": "positive_labels"},
            split=_audioset_split,
            others_of=_segment_names,
            has_test=True,
        ),
        Layout(
            title="AudioSet (strong labels)",
            needs=("segment_id", "start_time_seconds", "end_time_seconds", "label"),
            columns={"path": "segment_id", "labels": "label"},
            split=_audioset_split,
            others_of=_strong_segment_names,
            join=True,
            has_test=True,
        ),
    ),
}  # fmt: skip


def recognise(table: Table, format: str | None = None) -> tuple[str, Layout] | None:
    """Tell which published label file a table is by its columns; None if it is none of them.

    Args:
        table: Its header counts.
        format: The only one that it may be.
    """
    for name, layouts in LAYOUTS.items():
        for layout in layouts if format in (None, name) else ():
            if set(layout.needs) <= set(table.header):
                return name, layout
    return None


def layout_columns(
    layout: Layout,
    file: Path,
    table: Table,
    spec: FormatSpec,
    found: Reading,
    split: Split | None = None,
) -> Columns:
    """Say which column of a published table says what, and how its cells are read.

    Args:
        layout: The layout.
        file: The file; others beside it may say more.
        table: Its table.
        spec: Columns that it names count instead.
        found: Where it is noted what goes without saying nowhere.
        split: Makes labels of a cell of a column that the spec names.
    """
    named = named_columns(spec)
    usual = {
        what: column for what, column in layout.columns.items() if table.place(column) is not None
    }
    at = usual | named
    own_path, own_labels = (
        what in named and table.place(named[what]) != table.place(layout.columns[what])
        for what in ("path", "labels")
    )
    return Columns(
        at=at,
        split=split if split and own_labels else layout.split(file),
        join=layout.join,
        may_be_empty=layout.may_be_empty,
        path_of=None if own_path else layout.path_of,
        others_of=None if own_path else layout.others_of,
        # Who names the one column of labels means that one.
        more_labels=None if "labels" in named else layout.more_labels,
        layout=True,
        domains=layout.domain_of(file, found) if layout.domain_of and "domain" not in at else {},
        subset=None if spec.subset or "subset" in at else _subset_of(layout, file, table, found),
    )


def _subset_of(layout: Layout, file: Path, table: Table, found: Reading) -> str | None:
    """Tell whether a file is what is held out of its set, by its name, and note it."""
    if not layout.has_test:
        return None
    if _EVAL.search(file.stem):
        found.notes.append(
            f"its name says that {shown(file.name)} is what {layout.title} holds out: its clips "
            "are of the test subset; --subset train takes them for training"
        )
        return "test"
    if layout.marks_train is not None and table.place(layout.marks_train) is None:
        found.notes.append(
            f"there is no column {layout.marks_train!r}, as in {layout.title}'s file of what is "
            "held out, but its name does not say eval: its clips are of the train subset; "
            "--subset test holds them out"
        )
    return None


def read_esc50(path: Path, spec: FormatSpec, *, audio_dir: Path | None = None) -> Reading:
    """Read ESC-50's meta/esc50.csv: five folds, and the recording each clip was cut from."""
    return _read("esc50", path, spec, audio_dir)


def read_urbansound8k(path: Path, spec: FormatSpec, *, audio_dir: Path | None = None) -> Reading:
    """Read UrbanSound8K.csv: ten folds, which are folders, and the recording of each slice."""
    return _read("urbansound8k", path, spec, audio_dir)


def read_fsd50k(path: Path, spec: FormatSpec, *, audio_dir: Path | None = None) -> Reading:
    """Read FSD50K's dev.csv or eval.csv: several labels a clip, names without extension.

    Clips of eval.csv are held out; who uploaded a clip is its group, where FSD50K.metadata
    lies beside. Its split into train and val is not kept: folds are dealt over both.
    """
    return _read("fsd50k", path, spec, audio_dir)


def read_dcase(path: Path, spec: FormatSpec, *, audio_dir: Path | None = None) -> Reading:
    """Read DCASE's tables: acoustic scenes, weak labels, or strong ones, a row an event."""
    return _read("dcase", path, spec, audio_dir)


def read_birdclef(path: Path, spec: FormatSpec, *, audio_dir: Path | None = None) -> Reading:
    """Read BirdCLEF's train_metadata.csv or train.csv: one primary label, and secondary ones."""
    return _read("birdclef", path, spec, audio_dir)


def read_audioset(path: Path, spec: FormatSpec, *, audio_dir: Path | None = None) -> Reading:
    """Read AudioSet's segments, or its strong labels.

    Classes get their names from class_labels_indices.csv or ontology.json, where one lies beside;
    those of eval_segments.csv are held out.
    """
    return _read("audioset", path, spec, audio_dir)


def _read(format: str, path: Path, spec: FormatSpec, audio_dir: Path | None) -> Reading:
    found = Reading(root=audio_dir, match=STEM)

    def fits(table: Table) -> bool:
        return recognise(table, format) is not None or (format == "dcase" and _is_bare(table))

    table = read_table(path, found, fits)
    if format == "dcase" and recognise(table, format) is None and _is_bare(table):
        table = _with_header(table)
    known = recognise(table, format)
    if found.noted:
        return found
    if known is None:
        _tell_columns(format, table, found)
        return found
    take_rows(table, layout_columns(known[1], path, table, spec, found), found, spec)
    if format == AUDIOSET:
        tell_ids(found)
    return found


def tell_ids(found: Reading) -> None:
    """Note labels of AudioSet that are ids, as no table beside the file says their names."""
    ids = [label for clip in found.clips for label in clip.labels
           if label.startswith(("/m/", "/t/", "/g/"))]  # fmt: skip
    if ids:
        found.notes.append(
            f"{len(ids)} labels are ids, {ids[0]} say: put class_labels_indices.csv or "
            "ontology.json of AudioSet beside the file, and classes are called by their names"
        )


def _tell_columns(format: str, table: Table, found: Reading) -> None:
    there = recognise(table)
    wanted = " or ".join(", ".join(layout.needs) for layout in LAYOUTS[format])
    columns = ", ".join(table.header)
    if there is not None:
        found.fault(0, f"the columns are those of {there[1].title}", f"give --format {there[0]}")
    elif not table.header:
        found.fault(0, "an empty file", f"give one with columns {wanted}")
    else:
        shown = columns if len(columns) < 200 and columns.isprintable() else ascii(columns)[:200]
        found.fault(
            0,
            f"no label file of {LAYOUTS[format][0].title}: its columns are {shown}",
            f"give one with columns {wanted}, or --format csv with --path-column, --label-column",
        )


def _is_bare(table: Table) -> bool:
    """Tell whether the first row of a table is a recording already, as in TUT Acoustic Scenes."""
    names = table.header
    return 2 <= len(names) <= 3 and PurePosixPath(names[0]).suffix.lower() in EXTENSIONS


def _with_header(table: Table) -> Table:
    names = ["filename", "scene_label", "identifier"][: len(table.header)]
    return Table(names, chain([(1, table.header)], table.rows), table.delimiter)
