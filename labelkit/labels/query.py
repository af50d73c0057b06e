"""Questions in SQL to a project: answered by a process with limits, written as Parquet."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from labelkit.files import replacing
from labelkit.project import Project, check_target
from labelkit.stores import completion, sandbox


def ask(
    project: Project, sql: str, *, timeout_s: float = 30.0, max_rows: int | None = None
) -> AbstractContextManager[sandbox.Reply]:
    """Answer one SELECT in a process with limits; see :func:`labelkit.stores.sandbox.ask`."""
    return sandbox.ask(project.store, sql, timeout_s=timeout_s, max_rows=max_rows)


def write_parquet(
    project: Project,
    sql: str,
    file: Path,
    *,
    timeout_s: float = 30.0,
    max_rows: int | None = None,
    force: bool = False,
) -> int:
    """Write the answer of one SELECT as Parquet, whole or not at all.

    Args:
        project: The project.
        sql: One statement that reads.
        file: The file to make.
        timeout_s: Seconds after which the statement is stopped.
        max_rows: Write no more than these; all if None.
        force: Write over ``file`` if it is there.

    Returns:
        The number of rows.

    Raises:
        InvalidInput: If ``file`` is there, cannot be made, or belongs to the project or its
            recordings; or if the statement does not only read.
        StoreError: If a limit stops the statement, or the store cannot be opened.
    """
    with replacing(check_target(project, file, force=force)) as stream:
        return sandbox.write_parquet(
            project.store, sql, Path(stream.name), timeout_s=timeout_s, max_rows=max_rows
        )


def read_names(
    project: Project, *, timeout_s: float = 5.0, lock_timeout_s: float | None = None
) -> completion.Names:
    """Read the names to complete a statement with, as the store has them now.

    Args:
        project: The project.
        timeout_s: Seconds the question may take.
        lock_timeout_s: Wait no longer than this for a writer; as long as the store says if None.

    Raises:
        StoreError: If the store cannot be opened.
        StoreBusy: If a writer holds it for longer.
    """
    return completion.read_names(project.store, timeout_s=timeout_s, lock_timeout_s=lock_timeout_s)
