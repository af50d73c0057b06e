"""Processes looked at from outside.

Whatever is asked of one may be gone before the answer is read: that is an answer, too.
"""

import time
from contextlib import suppress
from pathlib import Path

GONE = (FileNotFoundError, ProcessLookupError)


def children(pid):
    """Process ids of children, sorted; some may have ended and not been asked for yet."""
    found: list[int] = []
    with suppress(*GONE):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(*GONE):
                found += map(int, (task / "children").read_text().split())
    return sorted(found)


def is_running(pid):
    """Whether it exists, and does more than wait to be asked how it ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except GONE:
        return False
    return fields[0] != "Z"


def wait_for(fact, seconds=20):
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.02)


def wait_for_end(pids, seconds=20):
    wait_for(lambda: not any(map(is_running, pids)), seconds)
