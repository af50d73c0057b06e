"""What `labelkit gc` frees on the demonstration, and whether anything is answered otherwise.

    python benchmarks/gc.py DEMO    ten minutes on two cores; DEMO is what `make demo` made

On a copy of it: ten more trainings (classifiers and small networks in turns), a backup, five
restores; then the questions of docs/store.md before and after, and `verify` once more.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from report import PAGE, machine, write_section

from labelkit.config import read_recipe
from labelkit.demo import SETTINGS
from labelkit.maintenance.backup import backup, restore
from labelkit.maintenance.doctor import examine
from labelkit.maintenance.gc import collect
from labelkit.project import Project, open_project
from labelkit.runs.train import train
from labelkit.runs.verify import verify
from labelkit.stores.query import query

RUNS, RESTORES = 10, 5
SMALL = ("epochs=2", "model.width=4")


def main() -> None:
    """Measure once and write the section."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(sys.argv[1], Path(folder) / "demo")
        project = open_project(Path(folder) / "demo")
        networks = read_recipe("quick", [*SETTINGS, *SMALL])
        for seed in range(RUNS):
            train(project, networks if seed % 2 else read_recipe("probe"), seed=100 + seed)
        backup(project, Path(folder) / "backup")
        for _ in range(RESTORES):
            restore(project, Path(folder) / "backup")
        before, asked = measure(project), answers(project)
        gone, report = collect(project)
        after = measure(project)
        same = sum(answers(project)[sql] == rows for sql, rows in asked.items())
        again = verify(project, read_recipe("quick", SETTINGS))["finished_before"]
        wrong = [finding for finding in examine(project, fast=True) if finding.state != "ok"]
    lines = [
        f"The demonstration after {RUNS} more trainings and {RESTORES} restores: {before:.1f} MB "
        f"without the recordings, {after:.1f} MB after `labelkit gc`, which removed {len(gone)} "
        f"things of {report.freed_mb} MB. Of the {len(asked)} questions of docs/store.md {same} "
        f"are answered as before, `verify` is {'' if again else 'not '}finished before, and "
        f"`doctor` finds {len(wrong)} things wrong.",
        "",
        machine(),
    ]
    write_section("gc", "\n".join(lines))


def measure(project: Project) -> float:
    """Return megabytes of all that is not a recording."""
    files = (file for file in project.root.rglob("*") if file.is_file())
    audio = project.audio_dir.resolve()
    return sum(f.stat().st_size for f in files if not f.resolve().is_relative_to(audio)) / 1e6


def answers(project: Project) -> dict[str, list[str]]:
    """Answer every question of the page on the store."""
    text = (PAGE.parent / "store.md").read_text(encoding="utf-8")
    questions = re.findall(r"```sql\n(.*?)```", text, re.S)
    return {
        sql: sorted(map(repr, query(project.store, sql, timeout_s=60).rows)) for sql in questions
    }


if __name__ == "__main__":
    main()
