"""Map a function over items, in series or in processes.

A failing item is a result with an error, never the end of its neighbours; a worker
that dies takes down only the item it was working on. Workers end with their parent.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import register_after_fork
from pathlib import Path
from typing import Any, Generic, TypeVar

from labelkit.errors import InvalidInput, WorkerDied

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Result(Generic[Item, Value]):
    """What became of one item: a value, or the error that took its place."""

    item: Item
    value: Value | None = None
    error: Exception | None = None

    def get(self) -> Value:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


def core_count() -> int:
    """Count the processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(memory_mb: int) -> int:
    """Choose how many workers fit: one a core, as far as the free memory goes.

    Args:
        memory_mb: What one of them takes at most.
    """
    return max(1, min(core_count(), _free_memory() // (memory_mb * 2**20)))


def _free_memory() -> int:
    """Return the bytes that are free, of the machine or of the group of processes we are in."""
    free = [2**62]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
        group = Path("/sys/fs/cgroup")
        limit, used, parts = (
            (group / f"memory.{name}").read_text() for name in ("max", "current", "stat")
        )
        # Files that were read and are kept for the next time give way.
        kept = dict(line.split() for line in parts.splitlines()).get("inactive_file", 0)
        free += [int(limit) - int(used) + int(kept)] if limit.strip().isdigit() else []
    except (OSError, ValueError):  # Another system, or an older kernel.
        pass
    return max(0, min(free))


class Executor:
    """Runs functions in up to ``workers`` processes; with one worker, in this process.

    Example:
        >>> with Executor(workers=1) as executor:
        ...     [result.get() for result in executor.map(abs, [-1, 2])]
        [1, 2]
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise InvalidInput(f"workers must be at least 1, got {workers}")
        self.workers = workers or core_count()
        self._pool: ProcessPoolExecutor | None = None
        # Workers of pools that broke; their pools end them, but not at once.
        self._left: list[BaseProcess] = []

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            if self._pool is not None:
                # Half a message of a worker that is gone would be waited for for ever, as
                # long as any process could still write the other half: this one, or a child
                # forked from it, see _start.
                self._pool._result_queue._writer.close()  # type: ignore[attr-defined]
                self._leave(self._pool)
            # Whoever stops the work does not want to wait for the end of a training; other
            # children of this process are none of the executor's business.
            for worker in self._left:
                worker.terminate()
        self.close()

    def close(self) -> None:
        """End the worker processes, dropping work that has not begun."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def map(
        self, fn: Callable[[Item], Value], items: Iterable[Item]
    ) -> Iterator[Result[Item, Value]]:
        """Yield one result per item, in the order they finish.

        Args:
            fn: A top-level function, or an instance of a top-level class.
            items: Picklable arguments.
        """
        items = list(items)
        if self.workers == 1:
            for item in items:
                yield _call(fn, item)
            return
        alone: list[Item] = []
        yield from self._map_pool(fn, items, self.workers, alone)
        for item in alone:
            # One at a time, so that a worker's death names the item that caused it.
            victims: list[Item] = []
            yield from self._map_pool(fn, [item], 1, victims)
            for victim in victims:
                error = WorkerDied(f"a worker died twice on {_name(victim)}; out of memory?")
                yield Result(victim, error=error)

    def call(self, fn: Callable[..., Value], jobs: Sequence[tuple[Any, ...]]) -> list[Value]:
        """Call a function with the arguments of each job; values in the order of the jobs.

        Raises:
            Exception: What went wrong in a job, after the others are through; of several the
                first.
        """
        found = {result.item[0]: result for result in self.map(_Spread(fn), list(enumerate(jobs)))}
        return [found[number].get() for number in range(len(jobs))]

    def _map_pool(
        self, fn: Callable[[Item], Value], items: list[Item], at_once: int, lost: list[Item]
    ) -> Iterator[Result[Item, Value]]:
        """Map in the pool with a short queue; items of a broken pool go to ``lost``."""
        waiting = iter(items)
        running: dict[Future[Result[Item, Value]], tuple[Item, ProcessPoolExecutor]] = {}
        while True:
            while len(running) < 2 * at_once and (item := next(waiting, _END)) is not _END:
                pool = self._start()
                try:
                    with _no_interrupt(), _hidden_script(fn):
                        running[pool.submit(_call, fn, item)] = item, pool
                except BrokenProcessPool:
                    lost.append(item)
                    self._drop(pool)
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item, pool = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    lost.append(item)
                    self._drop(pool)
                except Exception as error:
                    # What the pool itself raises: an argument or value that cannot be pickled.
                    yield Result(item, error=error)

    def _start(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = pool = ProcessPoolExecutor(
                self.workers, mp_context=get_context("spawn"), initializer=_follow_parent
            )
            # A child that the caller forks may outlive the workers, and must not keep their
            # ends of the pipes open.
            ends = pool._call_queue._reader, pool._result_queue._writer  # type: ignore[attr-defined]
            for end in ends:
                register_after_fork(end, Connection.close)
        return self._pool

    def _drop(self, pool: ProcessPoolExecutor) -> None:
        if self._pool is pool:
            self._leave(pool)
            self._pool = None

    def _leave(self, pool: ProcessPoolExecutor) -> None:
        """Remember the workers of a pool that is given up, as far as they still run."""
        workers = list(pool._processes.values())
        self._left = [worker for worker in (*self._left, *workers) if worker.is_alive()]


@dataclass(frozen=True)
class _Spread(Generic[Value]):
    """Calls a function with a numbered job's arguments; picklable, unlike a closure."""

    fn: Callable[..., Value]

    def __call__(self, job: tuple[int, tuple[Any, ...]]) -> Value:
        return self.fn(*job[1])


_END: Any = object()


def _call(fn: Callable[[Item], Value], item: Item) -> Result[Item, Value]:
    try:
        return Result(item, fn(item))
    except Exception as error:
        return Result(item, error=error)


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Start workers deaf to Ctrl-C, which reaches the whole process group.

    What to do about it is the parent's business, which hears it right afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _hidden_script(fn: object) -> Iterator[None]:
    """Start workers that do not run the user's script once more, as they would on their own.

    They need it only where the function itself is of that script, which then has to keep what it
    does under ``if __name__ == "__main__":``.
    """
    script = sys.modules["__main__"]
    while isinstance(fn, _Spread | partial):
        fn = fn.fn if isinstance(fn, _Spread) else fn.func
    if "__main__" in (getattr(fn, "__module__", ""), type(fn).__module__):
        yield
        return
    before = {name: vars(script)[name] for name in ("__file__", "__spec__") if name in vars(script)}
    for name in before:
        setattr(script, name, None)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(script, name, value)


def _name(item: object) -> str:
    """Name an item in a message; of a tuple only what comes first, which tells it from others."""
    return repr(item[0] if isinstance(item, tuple) else item)[:80]


def _follow_parent() -> None:
    """End this worker when its parent is gone, however that came about."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.join,), daemon=True).start()


def _exit_after(wait_for: Callable[[], None]) -> None:
    wait_for()
    os._exit(1)
