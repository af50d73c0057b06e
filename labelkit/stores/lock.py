"""One writer at a time: an flock on a side file, held around every open of the store.

DuckDB's own lock is a POSIX one, which any second open and close of the file in the
same process drops without a word; this one stays. Writers queue on a second file, so that
only the first of them ever competes with readers. Readers who wait hold a third, which the
next writer needs to get in: a reader waits for one commit at most.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from labelkit.errors import StoreBusy, StoreError
from labelkit.progress import say


def side_files(path: Path) -> list[Path]:
    """Return the files that the lock of ``path`` needs beside it, there or not."""
    return [path.with_name(f"{path.name}{end}") for end in (".lock", ".queue", ".door")]


@contextmanager
def locked(path: Path, *, exclusive: bool, timeout_s: float) -> Iterator[None]:
    """Hold the lock of ``path``, waiting up to ``timeout_s`` for others to leave it.

    After a second of waiting a line names the holder.

    Args:
        path: The file to protect; the lock lies beside it as ``<path>.lock``, the queue of
            those who want to write as ``<path>.queue``, the door as ``<path>.door``.
        exclusive: True to write, False to read beside other readers.
        timeout_s: Seconds to wait.

    Raises:
        StoreBusy: If the time is over.
        StoreError: If the lock file cannot be opened.
    """
    with ExitStack() as stack:
        if not exclusive and _is_unlockable(f"{path}.lock"):
            # On a disk that nobody writes to nobody has to be waited for.
            yield
            return
        lock = _open(stack, f"{path}.lock", exclusive)
        wait = _Wait(path, lock, timeout_s)
        if not exclusive:
            if not _try(lock, fcntl.LOCK_SH):
                with ExitStack() as waiting:
                    wait.acquire(_open(waiting, f"{path}.door", False), fcntl.LOCK_SH)
                    wait.acquire(lock, fcntl.LOCK_SH)
            yield
            return
        wait.acquire(_open(stack, f"{path}.queue", True), fcntl.LOCK_EX)
        with ExitStack() as waiting:
            # Whoever waits to read is let in before.
            wait.acquire(_open(waiting, f"{path}.door", True), fcntl.LOCK_EX)
            wait.acquire(lock, fcntl.LOCK_EX)
        command = " ".join(os.path.basename(part) for part in sys.argv[:2])
        holder = f"PID {os.getpid()} on {socket.gethostname()} ({command})"
        os.ftruncate(lock, 0)
        os.pwrite(lock, holder.encode(), 0)
        try:
            yield
        finally:
            if lock in _open_here:
                os.ftruncate(lock, 0)
                # Before the queue is left, so that the next writer finds it free.
                fcntl.flock(lock, fcntl.LOCK_UN)


# A lock goes with its last descriptor, and a forked child has all of them: it closes them.
_open_here: set[int] = set()


def _close_in_child() -> None:
    for descriptor in _open_here:
        os.close(descriptor)
    _open_here.clear()


os.register_at_fork(after_in_child=_close_in_child)


def _is_unlockable(path: str) -> bool:
    """Tell whether a lock is not there, nor can be made: no writer waits for this user."""
    return not os.path.lexists(path) and not os.access(os.path.dirname(path) or ".", os.W_OK)


def _open(stack: ExitStack, path: str, exclusive: bool) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        try:
            # Where one may only read, one can still wait for those who write.
            descriptor = -1 if exclusive else os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            descriptor = -1
        if descriptor < 0:
            why = "a link, not a file" if os.path.islink(path) else error.strerror
            raise StoreError(f"{path}: {why}; is the folder writable?") from error
    _open_here.add(descriptor)
    stack.callback(_release, descriptor)
    return descriptor


def _release(descriptor: int) -> None:
    """Give a lock back at once: a child forked this moment may not have closed its copy yet."""
    if descriptor in _open_here:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    _close(descriptor)


def _close(descriptor: int) -> None:
    if descriptor in _open_here:
        _open_here.remove(descriptor)
        os.close(descriptor)


def _try(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Wait:
    """Waiting for a lock, for a limited time, in the order of arrival that the kernel keeps."""

    def __init__(self, path: Path, lock: int, timeout_s: float) -> None:
        self.path, self.lock = path, lock
        self.end = time.monotonic() + timeout_s
        self.tell_at: float | None = time.monotonic() + 1

    def acquire(self, descriptor: int, mode: int) -> None:
        if _try(descriptor, mode):
            return
        # A blocking call keeps its place in the queue, but cannot be called off: a thread
        # does it on a descriptor of its own, which it gives back if it comes too late.
        got, twin, guard = threading.Event(), os.dup(descriptor), threading.Lock()
        _open_here.add(twin)
        given_up = False

        def block() -> None:
            fcntl.flock(twin, mode)
            with guard:
                if given_up:
                    fcntl.flock(twin, fcntl.LOCK_UN)
                _close(twin)
                got.set()

        threading.Thread(target=block, daemon=True).start()
        try:
            self._until(got)
        except BaseException:
            with guard:
                given_up = True
            raise

    def _until(self, got: threading.Event) -> None:
        if self.tell_at is not None:
            if got.wait(max(0.0, min(self.tell_at, self.end) - time.monotonic())):
                return
            if time.monotonic() < self.end:
                self.tell_at = None
                say(f"waiting for {self.path.name}, in use by {self._holder()}")
        if not got.wait(max(0.0, self.end - time.monotonic())):
            raise StoreBusy(
                f"{self.path.name} is in use by {self._holder()}; "
                "wait, stop it, or give a longer --lock-timeout"
            )

    def _holder(self) -> str:
        said = os.pread(self.lock, 500, 0).decode(errors="replace")
        words = said.split()
        # What a killed writer left there holds nothing: readers do, who leave no name.
        if len(words) > 3 and words[3] == socket.gethostname() and words[1].isdecimal():
            try:
                os.kill(int(words[1]), 0)
            except ProcessLookupError:
                said = ""
            except PermissionError:
                pass
        return said or "another process"
