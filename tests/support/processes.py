"""Processes looked at from outside."""

import time
from pathlib import Path


def children(pid):
    tasks = Path(f"/proc/{pid}/task")
    return [int(p) for task in tasks.iterdir() for p in (task / "children").read_text().split()]


def wait_for(fact, seconds=20):
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.02)
