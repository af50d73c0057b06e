"""Files a user wants written: never over recordings, the project, or something unasked."""

from __future__ import annotations

from pathlib import Path

from labelkit.errors import InvalidInput
from labelkit.workflows.project import FILE, Project


def check_target(project: Project, file: Path, *, force: bool) -> Path:
    """Where a file is to be written, links followed.

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
