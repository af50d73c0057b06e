"""What belongs to the user and not to a project: kept in the user's own configuration.

A project may come from somebody else. Where a token goes, and whose projects are used without
being named, is therefore never read from one.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from labelkit.errors import InvalidInput
from labelkit.files import replacing


def config_folder() -> Path:
    """Return the folder of the user's configuration; it need not be there."""
    return _find_folder("XDG_CONFIG_HOME", "~/.config")


def state_folder() -> Path:
    """Return the folder of what labelkit notes for this user; it need not be there."""
    return _find_folder("XDG_STATE_HOME", "~/.local/state")


def _find_folder(variable: str, default: str) -> Path:
    named = os.environ.get(variable, "")
    # The specification of these folders says to ignore what is not absolute.
    try:
        base = Path(named) if os.path.isabs(named) else Path(default).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(2, f"this user has no home folder; set {variable}") from error
    return base / "labelkit"


def confirmed_addresses() -> set[str]:
    """Read the addresses that the user's token may go to: those that were confirmed, a line each.

    LABEL_STUDIO_URL of the environment is none of them; it counts by itself.
    """
    try:
        return set((config_folder() / "addresses").read_text(encoding="utf-8").split())
    except (OSError, ValueError):
        return set()


def confirm_address(address: str) -> None:
    """Remember that the user's token may go to an address.

    Raises:
        InvalidInput: If that cannot be written down.
    """
    known = confirmed_addresses()
    if address in known:
        return
    try:
        folder = config_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(folder / "addresses") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write("".join(f"{line}\n" for line in sorted({*known, address})).encode())
    except OSError as error:
        raise InvalidInput(
            f"{address} cannot be noted in your configuration ({error.strerror}); set "
            f"LABEL_STUDIO_URL={address} in the environment instead"
        ) from error


def trusted_projects() -> set[Path]:
    """Read the folders whose projects may be somebody else's and are used all the same.

    They are the list ``projects`` of ``config.toml`` in the user's configuration.

    Raises:
        InvalidInput: If that file is not valid.
    """
    try:
        file = config_folder() / "config.toml"
        listed = tomllib.loads(file.read_text(encoding="utf-8")).get("projects", [])
        return {Path(folder).expanduser().resolve() for folder in listed}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise InvalidInput(
            f'{file} is not valid ({error}); it may hold: projects = ["/a/folder"]'
        ) from error
