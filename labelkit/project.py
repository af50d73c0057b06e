"""A project: labelkit.toml, the label store, the work folder, and the way to the audio."""

from __future__ import annotations

import getpass
import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from labelkit.audio.fitting import FittedFeatures
from labelkit.errors import InvalidInput, NoProject, RecordingsGone
from labelkit.files import replacing
from labelkit.personal import config_folder, trusted_projects
from labelkit.progress import say
from labelkit.stores.epochs import EpochStore
from labelkit.stores.history import changed_since, newest_batch
from labelkit.stores.labels import LabelStore
from labelkit.stores.windows import WindowStore

FILE = "labelkit.toml"
VERSION = 1
MAX_MISSING = 0.1
# The table of what was chosen by the recordings, and what is written above it.
FITTED = "fitted"
_ABOUT_FITTED = "# Chosen by the recordings, once; chosen anew by: labelkit features --refit"


class Project:
    """Where everything of a project lies.

    Args:
        root: Folder of ``labelkit.toml``.
        audio_dir: Folder of the recordings; only ever read.
        lock_timeout_s: How long to wait for the store.
        cache: Folder of what is computed from recordings alone; that of another project
            on the same ``audio_dir`` can be shared. The own work folder if None.
        as_of: Read labels as they were at this moment: a batch, a date, a time or a run.
        max_missing: Share of the recordings that an import saw which may be missing; above it
            nothing is computed.
        fitted: What was chosen by the recordings for settings that are words; None if nothing
            was yet.
    """

    def __init__(
        self,
        root: Path,
        audio_dir: Path,
        *,
        lock_timeout_s: float = 30.0,
        cache: Path | None = None,
        as_of: str | None = None,
        max_missing: float = MAX_MISSING,
        fitted: FittedFeatures | None = None,
    ) -> None:
        self.max_missing, self.fitted = max_missing, fitted
        self.root, self.audio_dir = root, audio_dir
        self.store = LabelStore(root / "labels.duckdb", timeout_s=lock_timeout_s, as_of=as_of)
        self.work = root / ".labelkit"
        self.cache = self.work if cache is None else cache

    def check_audio(self) -> None:
        """Refuse to go on without the audio folder.

        Raises:
            RecordingsGone: If it is not there.
        """
        if not self.audio_dir.is_dir():
            raise RecordingsGone(
                f"the audio folder {self.audio_dir} is not there; "
                f"bring it back, or change audio in {self.root / FILE}"
            )

    @property
    def current(self) -> LabelStore:
        """The store as it is now, also where the project looks back."""
        return LabelStore(self.store.path, timeout_s=self.store.timeout_s)

    def labels_changed_since(self, as_of: int) -> bool:
        """Tell whether labels were read as of a batch since when some have changed."""
        if self.store.as_of is None:
            return False
        with self.current.read() as session:
            return changed_since(session, as_of)

    @property
    def features(self) -> Path:
        """Folder of the cached spectrograms."""
        return self.cache / "features"

    @property
    def windows(self) -> WindowStore:
        """Judgements of the single windows of clips."""
        return WindowStore(self.work / "windows")

    @property
    def epochs(self) -> EpochStore:
        """Judgements of every clip epoch by epoch."""
        return EpochStore(self.work / "epochs")

    @property
    def runs(self) -> Path:
        """Folder of trainings, finished and not."""
        return self.work / "runs"


def user() -> str:
    """Return who acts here, as the store notes it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def create_project(root: Path, audio_dir: Path) -> tuple[Project, bool]:
    """Make a project in ``root``; harmless if the same one is there.

    Returns:
        The project, and whether it is new.

    Raises:
        InvalidInput: If ``audio_dir`` is no folder, or ``root`` has a project of another.
    """
    if not audio_dir.is_dir():
        raise InvalidInput(f"{audio_dir} is not a folder; give the folder of your recordings")
    if (root / FILE).exists():
        project = open_project(root)
        if project.audio_dir.resolve() != audio_dir.resolve():
            raise InvalidInput(
                f"{root} has a project on {project.audio_dir}; "
                f"change audio in {FILE}, or start elsewhere"
            )
        project.store.create()
        return project, False
    try:
        shown = audio_dir.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        shown = audio_dir.resolve().as_posix()
    project = Project(root, audio_dir)
    project.work.mkdir(parents=True, exist_ok=True)
    (project.work / ".gitignore").write_text("*\n")
    project.store.create()
    # The file that makes it a project comes last, so a stopped init can be repeated.
    (root / FILE).write_text(f"version = {VERSION}\naudio = {json.dumps(shown)}\n")
    return project, True


def find_root(start: Path | None) -> Path:
    """Find the folder of the project: the one named, or the nearest from here upwards.

    Args:
        start: A folder the user named, or None for ``LABELKIT_PROJECT`` or, without
            it, the current folder and those above it.

    Raises:
        NoProject: If there is none.
    """
    named = start or (Path(p) if (p := os.environ.get("LABELKIT_PROJECT")) else None)
    if named is not None:
        if (named / FILE).is_file():
            return named
        raise NoProject(f"no {FILE} in {named}; make a project there with: labelkit init AUDIO_DIR")
    here = Path.cwd()
    if (here / FILE).is_file():
        return here
    for folder in here.parents:
        if (folder / FILE).is_file():
            _check_owner(folder)
            return folder
    raise NoProject(
        f"no {FILE} in {here} or above it; make a project with: labelkit init AUDIO_DIR"
    )


def _check_owner(folder: Path) -> None:
    """Refuse a project that was only come upon, where it is somebody else's."""
    owners = {folder.stat().st_uid, (folder / FILE).stat().st_uid}
    if owners <= {os.getuid()} or folder.resolve() in trusted_projects():
        return
    raise NoProject(
        f"{folder} above has a project of another user; if it is meant, name it with -C {folder} "
        f"or LABELKIT_PROJECT, or list it in {config_folder() / 'config.toml'}: "
        f'projects = ["{folder}"]'
    )


def open_project(root: Path, *, lock_timeout_s: float = 30.0, as_of: str | None = None) -> Project:
    """Read ``labelkit.toml``.

    Raises:
        InvalidInput: If it is not valid, of a newer version, or names no audio folder.
    """
    try:
        values = tomllib.loads((root / FILE).read_text(encoding="utf-8"))
        version, audio = int(values.get("version", 1)), Path(values["audio"])
        if version > VERSION:
            raise InvalidInput(
                f"{root / FILE} is of version {version}, this labelkit knows up to {VERSION}; "
                "install a newer labelkit"
            )
        if unknown := sorted(set(values) - {"version", "audio", "max_missing", FITTED}):
            raise ValueError(
                f"{unknown[0]} is nothing it has; settings go by --set, or into a recipe"
            )
        max_missing = float(values.get("max_missing", MAX_MISSING))
        if not 0 <= max_missing <= 1:
            raise ValueError(f"max_missing must be from 0 to 1, got {max_missing:g}")
        fitted = _read_fitted(values[FITTED]) if FITTED in values else None
    except InvalidInput:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        wanted = f'it needs: version = {VERSION} and audio = "FOLDER"'
        raise InvalidInput(f"{root / FILE} is not valid ({error}); {wanted}") from error
    return Project(
        root,
        root / audio,
        lock_timeout_s=lock_timeout_s,
        as_of=as_of,
        max_missing=max_missing,
        fitted=fitted,
    )


def _read_fitted(table: Any) -> FittedFeatures:
    """Read what was chosen by the recordings.

    Raises:
        ValueError: If the table has not exactly the numbers it needs.
    """
    known = {f.name: 1 if f.type == "int" else 1e-3 for f in fields(FittedFeatures)}
    known["min_s"] = known["recordings"] = 0
    remedy = f"take {FITTED} away, and it is chosen anew"
    if not isinstance(table, Mapping) or set(table) != set(known):
        raise ValueError(f"{FITTED} has not the numbers {', '.join(known)}; {remedy}")
    for f in fields(FittedFeatures):
        value, wanted = table[f.name], int if f.type == "int" else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted) or not value >= known[f.name]:
            raise ValueError(f"{FITTED}.{f.name} cannot be {value!r}; {remedy}")
    return FittedFeatures(**table)


def keep_fitted(project: Project, fitted: FittedFeatures) -> FittedFeatures:
    """Keep in ``labelkit.toml`` what was chosen by the recordings, in the place of what was there.

    All else in the file stays as it is, remarks too.

    Raises:
        OSError: If the file cannot be written.
    """
    file = (project.root / FILE).resolve()
    text = file.read_text(encoding="utf-8")
    # One line, so that whoever adds a setting at the end of the file adds none to it.
    own = rf"(?m)^(?:{re.escape(_ABOUT_FITTED)}\n)?{FITTED}[ \t]*=[ \t]*\{{[^\n]*\}}[ \t]*(?:\n|\Z)"
    before = re.sub(own, "", text).rstrip("\n")
    numbers = ", ".join(f"{name} = {_toml(value)}" for name, value in asdict(fitted).items())
    after = f"{before}\n\n{_ABOUT_FITTED}\n{FITTED} = {{{numbers}}}\n"
    try:
        is_whole = tomllib.loads(after) == {**tomllib.loads(text), FITTED: asdict(fitted)}
    except tomllib.TOMLDecodeError:
        is_whole = False
    if not is_whole:
        raise InvalidInput(
            f"{file}: {FITTED} is written in a way that cannot be changed; take it out"
        )
    with replacing(file) as target:
        target.write(after.encode())
    project.fitted = fitted
    return fitted


def _toml(value: float) -> str:
    return repr(value) if math.isfinite(value) else "inf"


def fix_as_of(project: Project) -> Project:
    """Fix the moment a project looks back to at one batch, and say which.

    A day may not be over yet, and a time be to come: batches written meanwhile stay out.

    Raises:
        InvalidInput: If there is no such moment.
    """
    if project.store.as_of is None:
        return project
    with project.store.read() as session:
        batch_id, made_at = newest_batch(session)
    say(f"labels as of batch {batch_id} ({made_at:%Y-%m-%d %H:%M:%S})")
    return open_project(project.root, lock_timeout_s=project.store.timeout_s, as_of=str(batch_id))


def check_target(project: Project, file: Path, *, force: bool) -> Path:
    """Return where a file is to be written, links followed.

    Args:
        project: Whose recordings and files are spared.
        file: The name the user gave.
        force: A plain file that is there may be replaced.

    Raises:
        InvalidInput: If it cannot be made, lies in the audio folder, belongs to the project,
            or is there already.
    """
    try:
        target = file.resolve()
        possible = not target.is_dir() and target.parent.is_dir()
    except (OSError, RuntimeError):  # A loop of links, or a name too long.
        possible = False
    if not possible:
        raise InvalidInput(f"{file} is no file that can be made; give a name in a folder there is")
    if target.is_relative_to(project.audio_dir.resolve()):
        raise InvalidInput(
            f"{file} lies in the audio folder {project.audio_dir}, where labelkit never writes; "
            "write elsewhere"
        )
    store, settings = project.store.path, project.root / FILE
    own = target.parent == store.resolve().parent and (
        target.name == FILE or target.name.startswith(store.name)
    )
    # Another name for a file of the project's is none of its own.
    same = target.exists() and any(
        target.samefile(mine) for mine in (store, settings) if mine.exists()
    )
    if own or same or target.is_relative_to(project.work.resolve()):
        raise InvalidInput(f"{file} belongs to the project; give another name")
    if target.exists() and not target.is_file():
        raise InvalidInput(f"{file} is not a plain file; write elsewhere")
    if target.exists() and not force:
        raise InvalidInput(f"{file} is there already; give another name, or --force")
    return target
