"""What the demonstration comes to, as two numbers: one of its labels, one of its probabilities.

Run it with the interpreter of two versions of labelkit, on the same machine: equal numbers say
that the same seed gives the same labels and, bit for bit, the same probabilities. It reads the
store with DuckDB alone and names runs by kind, round, fold and order, as their ids may change.

    python benchmarks/fingerprint.py FOLDER
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb

_LABELS = "select path, labels, state, group_name, subset from labels_now order by path"
_EVENTS = """
select c.path, e.state, e.labels, e.iteration, e.score
from label_events e join clips c using (clip_id) order by e.event_id
"""
_PROBS = """
with named as (
    select run_id, kind, iteration, fold, batch_id,
           row_number() over (order by batch_id, iteration, fold, kind) as place
    from runs
)
select n.place, n.kind, n.iteration, n.fold, c.path, p.probs
from predictions p join named n using (run_id) join clips c using (clip_id)
order by n.place, c.path
"""


def fingerprint(rows: list[tuple[Any, ...]]) -> str:
    """Hash rows; floats by their shortest text, which tells every bit."""
    return hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest()[:16]


def main(folder: Path) -> None:
    """Run the demonstration where it was not yet, and print its numbers."""
    if not (folder / "labels.duckdb").exists():
        command = [sys.executable, "-m", "labelkit", "demo", str(folder)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    with duckdb.connect(str(folder / "labels.duckdb"), read_only=True) as con:
        for name, sql in (("labels", _LABELS), ("events", _EVENTS), ("probabilities", _PROBS)):
            rows = con.execute(sql).fetchall()
            print(f"{name}: {len(rows)} rows, {fingerprint(rows)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
