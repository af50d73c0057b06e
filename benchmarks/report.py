"""Where benchmark tables go, what they say about machine and commit, and how a command is timed."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from labelkit.stores.append import versions

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def machine() -> str:
    """One line on processor, versions and commit."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=PAGE.parent
    ).stdout.strip()
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.processor(),
    )
    found = ", ".join(f"{name} {number}" for name, number in versions().items())
    return f"{model}, {os.cpu_count()} cores; {found}; commit {commit}."


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def write_section(name: str, text: str, page_file: Path = PAGE) -> None:
    """Replace a marked section of docs/benchmarks.md, or another page, and print it."""
    print(text)
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    page = page_file.read_text(encoding="utf-8")
    before, rest = page.split(begin, 1)
    after = rest.split(end, 1)[1]
    page_file.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def take_time(
    command: Sequence[str], cwd: Path, checkout: Path | None = None
) -> tuple[float, float]:
    """Return wall and processor seconds of a command and its children, each with one thread.

    Args:
        command: To be run.
        cwd: Where.
        checkout: Whose labelkit it finds first; that which is installed if None.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if checkout:
        environment["PYTHONPATH"] = str(checkout)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
