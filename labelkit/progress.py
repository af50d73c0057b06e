"""Progress on stderr: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from labelkit.terminal import visible

Item = TypeVar("Item")


def say(message: str) -> None:
    """Write one line to stderr."""
    print(visible(message), file=sys.stderr, flush=True)  # noqa: T201


def track(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """Yield ``items`` and show how many of ``total`` are through."""
    if total == 0:
        yield from items
    elif sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=label, leave=False)
    else:
        told = 0
        for done, item in enumerate(items, 1):
            yield item
            if done * 4 // total > told or done == total:
                told = done * 4 // total
                say(f"{label}: {done} of {total}")
