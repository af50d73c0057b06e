"""From the store to label files."""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labelkit import registry
from labelkit.datasets.writers import LEFT_OUT, folder_files, holds_folds
from labelkit.errors import InvalidInput, NotYet, UnknownName
from labelkit.files import sync_folder
from labelkit.project import Project, check_target
from labelkit.records import Clip
from labelkit.stores.session import Session


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote, and what its format could not say, by reason."""

    clips: int
    fold_set: str | None
    unsaid: dict[str, list[str]]


def export_labels(
    project: Project,
    file: Path,
    format: str,
    *,
    fold_set: str | None = None,
    separator: str | None = None,
    force: bool = False,
) -> ExportReport:
    r"""Write the clips and their labels as a file that an import reads back.

    Args:
        project: Where from; its ``as_of`` says as of when.
        file: The file to make; of a format of several files (fsdkaggle2019) a folder, which is
            made where it is missing.
        format: Name of a writer.
        fold_set: Whose folds to write; the newest if None.
        separator: What parts several labels, in a format that has a separator; its own, which
            is a comma in csv, if None.
        force: Write over what is there.

    Returns:
        What was written, and what could not be said.

    Raises:
        InvalidInput: If there is nothing to write, no such fold set, or the file is there,
            cannot be made, or lies where labelkit never writes.

    Example:
        >>> import tempfile
        >>> from labelkit.config import FormatSpec
        >>> from labelkit.labels.importing import import_labels
        >>> from labelkit.project import create_project
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "audio").mkdir()
        >>> project, _ = create_project(folder, folder / "audio")
        >>> source = folder / "in.csv"
        >>> _ = source.write_text("fname,label\na.wav,Dog")
        >>> _ = import_labels(project, source, "csv", FormatSpec(), metadata_only=True)
        >>> export_labels(project, folder / "out.csv", "csv").clips
        1
        >>> print((folder / "out.csv").read_text().strip())
        path,labels,state,fold,group,subset,content_hash,duration_s
        a.wav,Dog,unverified,,,train,,
    """
    write = registry.resolve("writer", format)
    options = {} if separator is None else {"separator": separator}
    if not options.keys() <= inspect.signature(write).parameters.keys():
        raise InvalidInput(f"{format} has no separator; leave it out, or export as csv")
    if fold_set is not None and not holds_folds(write):
        raise InvalidInput(f"{format} holds no folds; leave out --fold-set, or export as csv")
    files = folder_files(write)
    target = _find_target(project, file, format, files, force=force)
    with project.store.read() as session:
        fold_set = _choose_folds(session, fold_set)
        clips = read_clips(session, fold_set)
        classes = session.classes()
    if not clips:
        raise NotYet("the project has no clips; bring some in with: labelkit import FILE")
    if files and not target.exists():
        with _new_folder(target) as partial:
            unsaid = write(partial, clips, classes, **options)
    else:
        unsaid = write(target, clips, classes, **options)
    left_out = sum(len(names) for what, names in unsaid.items() if what.startswith(LEFT_OUT))
    written = fold_set if holds_folds(write) else None
    return ExportReport(len(clips) - left_out, written, unsaid)


def read_clips(session: Session, fold_set: str | None) -> list[Clip]:
    """Read every clip as it stands, in the order in which they came in."""
    table = session.labels()
    durations = session.durations_s()
    folds = {} if fold_set is None else session.folds(fold_set)
    return [
        Clip(
            path=table.paths[i],
            labels=tuple(table.names(i)),
            state=str(table.states[i]),
            group=table.groups[i],
            fold=folds.get(clip_id),
            subset=str(table.subsets[i]),
            content_hash=table.content_hashes[i],
            duration_s=durations[clip_id],
            domain=table.domains[i],
        )
        for i, clip_id in enumerate(table.clip_ids.tolist())
    ]


def _choose_folds(session: Session, wanted: str | None) -> str | None:
    known = session.fold_sets()
    if wanted is None:
        return known[-1] if known else None
    if wanted not in known:
        hint = registry.suggestion(wanted, known) if known else "make one with: labelkit folds"
        raise UnknownName(f"no fold set {wanted!r}; {hint}")
    return wanted


def _find_target(
    project: Project, file: Path, format: str, files: tuple[str, ...], *, force: bool
) -> Path:
    """Find the file or folder to write, links followed, or refuse it."""
    if files and os.path.isdir(file):
        for name in files:
            check_target(project, file / name, force=force)
        return file.resolve()
    target = check_target(project, file, force=force)
    if files and target.exists():
        raise InvalidInput(f"{file} is no folder; {format} is one of {len(files)} files")
    return target


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Make a folder to fill, which gets its name once it is full and is gone where that fails."""
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir()
        yield partial
        partial.rename(folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
