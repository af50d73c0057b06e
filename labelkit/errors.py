"""Every error labelkit raises on purpose.

LabelkitError            1   something failed
├── InvalidInput         2   a value, a file or a command line labelkit cannot use
│   ├── UnknownName      2   a name in no registry table
│   ├── NoProject        2   no project here or above
│   ├── MissingPackage   2   a package that an extra brings is not installed
│   ├── FaultyFile       2   a label file with faults, all of them listed
│   └── NotYet           1   nothing can be done before a step that comes earlier
├── WorkerDied           1   a worker process ended without an answer
├── RecordingsGone       1   the audio folder, or much of what lay in it, is not there
├── ServiceError         4   an outside service, Label Studio say, failed or refused
└── StoreError           3   the label store refuses or is damaged
    ├── NoRoom           3   the disk of a store is full
    └── StoreBusy       75   another process holds the label store
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

SHOWN_FAULTS = 50


class LabelkitError(Exception):
    """Base class; the command line prints it without a traceback."""

    exit_code = 1


class InvalidInput(LabelkitError, ValueError):
    """A value was given that labelkit cannot use."""

    exit_code = 2


class UnknownName(InvalidInput):
    """A name is in no registry table."""


class NoProject(InvalidInput):
    """No project lies in the current folder or above it."""


class MissingPackage(InvalidInput):
    """A package is not installed that only some commands need."""


class NotYet(InvalidInput):
    """Nothing can be done before a step that comes earlier; the message names its command.

    What was typed is right, so this is no bad usage.
    """

    exit_code = 1


def check_count(name: str, value: object) -> None:
    """Refuse what is no number of things.

    Raises:
        InvalidInput: If it is below 1, or no integer.
    """
    if type(value) is not int or value < 1:
        raise InvalidInput(f"{name} must be a number from 1 on, got {value!r}")


class RecordingsGone(LabelkitError):
    """The audio folder is not there, or more of its recordings are missing than may be."""


@contextmanager
def needing(what: str, extra: str, *packages: str) -> Iterator[None]:
    """Say which packages to install where an import within finds one of them missing.

    Args:
        what: What needs them, in words.
        extra: The extra that brings them.
        packages: Their names, as pip knows them.

    Raises:
        MissingPackage: If one is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in {package.replace("-", "_") for package in packages}:
            raise
        raise MissingPackage(
            f"{what} needs {missing}, which is not installed; install it with: "
            f"pip install {' '.join(packages)} (in a checkout: pip install '.[{extra}]')"
        ) from error


class FaultyFile(InvalidInput):
    """A label file has faults; ``faults`` holds one line for each, the message the first."""

    def __init__(self, name: str, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        count = f"{len(self.faults)} fault{'s' if len(self.faults) > 1 else ''}"
        lines = [f"{name}: {count}, nothing was imported", *self.faults[:SHOWN_FAULTS]]
        if len(self.faults) > SHOWN_FAULTS:
            lines.append(f"... and {len(self.faults) - SHOWN_FAULTS:,} more")
        super().__init__("\n  ".join(lines))


class WorkerDied(LabelkitError):
    """A worker process ended without an answer, usually for lack of memory."""


class ServiceError(LabelkitError):
    """An outside service failed or refused; the message holds no token and no cookie."""

    exit_code = 4


class StoreError(LabelkitError):
    """The label store refuses an operation or cannot be read."""

    exit_code = 3


class NoRoom(StoreError):
    """The disk is full, or a file may not grow; what was kept before stays."""


class StoreBusy(StoreError):
    """Another process holds the label store."""

    exit_code = 75
