"""Many processes at one store: everybody gets a turn, and whoever is killed leaves no trace."""

import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from labelkit.errors import StoreBusy, StoreError
from labelkit.records import Batch, LabelEvent
from labelkit.stores.labels import LabelStore
from labelkit.stores.lock import locked
from tests.crash.campaign import context, make_empty_project, make_store
from tests.crash.contents import find_faults
from tests.crash.workers import STORE
from tests.crash.writers import find_lost, run_writers

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture
def path(tmp_path):
    return make_store(tmp_path / "store", 20) / STORE


def append(path, key, *, timeout_s=30):
    with LabelStore(path, timeout_s=timeout_s).write() as session:
        event = LabelEvent(clip_id=1, state="verified", labels=[2], source="test")
        session.append(Batch(key=key, kind="test", actor="t", by_person=True, events=[event]))


def keys(path):
    with LabelStore(path).read() as session:
        return [key for (key,) in session.rows("select batch_key from batches order by batch_id")]


def hold(path, exclusive, said, go, name=""):
    """Take the lock, say so, and give it back when told."""
    with locked(path, exclusive=exclusive, timeout_s=60):
        os.write(said, f"{name}\n".encode())
        go.wait()


def free(path):
    """Whether nobody has the lock and nobody queues."""
    for name in ("lock", "queue", "door"):
        with open(f"{path}.{name}", "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True


def waiting(path, name):
    """How many wait for a side file, as the kernel tells it."""
    inode = os.stat(f"{path}.{name}").st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return sum("->" in line and f":{inode} " in line for line in lines)


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


class Crowd:
    """Processes that take a lock by name, and say when they have it."""

    def __init__(self, path):
        # Forked from this process as it is: quick, and what a fork inherits is at stake, too.
        self.context = multiprocessing.get_context("fork")
        self.path, self.processes, self.go = path, {}, {}
        self.read_end, self.write_end = os.pipe()

    def start(self, name, *, exclusive):
        self.go[name] = self.context.Event()
        self.processes[name] = self.context.Process(
            target=hold, args=(self.path, exclusive, self.write_end, self.go[name], name)
        )
        self.processes[name].start()

    def next(self):
        return os.read(self.read_end, 2).decode().strip()

    def close(self):
        for event in self.go.values():
            event.set()
        for process in self.processes.values():
            process.join(10)
        os.close(self.read_end)
        os.close(self.write_end)


@pytest.fixture
def crowd(path):
    found = Crowd(path)
    yield found
    found.close()


def test_eight_writers_and_two_readers(tmp_path):
    store, traffic = run_writers(tmp_path / "s", 8)
    assert find_lost(store, traffic) == []
    with store.connect(read_only=True) as con:
        assert find_faults(con) == []
    # Nobody starves, however busy the machine; when it is idle, 1.3 times is the most.
    assert max(traffic.batches) <= 3 * min(traffic.batches) + 8 and min(traffic.reads) > 0


@pytest.mark.parametrize("attempt", range(10))
def test_a_reader_who_waits_comes_before_the_next_writer(path, crowd, attempt):
    crowd.start("a", exclusive=True)
    assert crowd.next() == "a"
    crowd.start("w", exclusive=True)
    until(lambda: waiting(path, "queue") == 1)
    crowd.start("r", exclusive=False)
    until(lambda: waiting(path, "lock") == 1)
    crowd.go["r"].set()
    crowd.go["w"].set()
    crowd.go["a"].set()
    assert [crowd.next(), crowd.next()] == ["r", "w"]


def test_a_reader_is_not_kept_by_writers_who_wait(path, crowd):
    """A reader is in, writers wait for it: another reader gets in at once."""
    crowd.start("r", exclusive=False)
    assert crowd.next() == "r"
    for name in ("v", "w"):
        crowd.start(name, exclusive=True)
    until(lambda: waiting(path, "lock") == 1 and waiting(path, "queue") == 1)
    with locked(path, exclusive=False, timeout_s=0):
        pass


def test_a_writer_gets_in_between_readers_who_queue(path, crowd):
    """Readers who come while a writer waits for the door share one turn, and it is next."""
    crowd.start("a", exclusive=True)
    assert crowd.next() == "a"
    for name in ("r", "s"):
        crowd.start(name, exclusive=False)
    crowd.start("w", exclusive=True)
    until(lambda: waiting(path, "lock") == 2 and waiting(path, "queue") == 1)
    crowd.go["a"].set()
    assert {crowd.next(), crowd.next()} == {"r", "s"}
    crowd.go["r"].set()
    crowd.go["s"].set()
    assert crowd.next() == "w"


def labelkit(root, *arguments, timeout="30"):
    command = [sys.executable, "-m", "labelkit", "-C", str(root), "--lock-timeout", timeout]
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_commands_name_the_holder_and_end_with_75(tmp_path):
    root = make_empty_project(tmp_path / "p")
    source = tmp_path / "labels.csv"
    source.write_text("fname,label\na.wav,Dog\n")
    add = ["import", str(source), "--format", "csv", "--metadata-only"]
    with LabelStore(root / STORE).write():
        patient = labelkit(root, *add)
        for arguments in (["status"], add):
            impatient = labelkit(root, *arguments, timeout="1.5")
            out, err = impatient.communicate(timeout=60)
            assert impatient.returncode == 75 and out == ""
            waited, refused = err.splitlines()
            holder = rf"in use by PID {os.getpid()} on "
            assert waited.startswith("waiting for labels.duckdb, ") and holder in waited
            assert refused.startswith("Error: labels.duckdb is ") and holder in refused
            assert refused.endswith("wait, stop it, or give a longer --lock-timeout")
        assert patient.poll() is None
    out, err = patient.communicate(timeout=60)
    assert patient.returncode == 0 and "waiting for labels.duckdb" in err
    assert keys(root / STORE) != []


@contextmanager
def opened_by_duckdb(path, read_only):
    """As DuckDB's own command line, DBeaver or a notebook have it."""
    code = (
        "import duckdb, sys\n"
        f"con = duckdb.connect({str(path)!r}, read_only={read_only})\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], **pipes)
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.communicate()


@pytest.mark.parametrize("read_only", [True, False], ids=["to read", "to write"])
@pytest.mark.parametrize("job", ["query", "status", "import", "undo"])
def test_a_store_that_others_opened_is_waited_for(tmp_path, read_only, job):
    root = make_empty_project(tmp_path / "p")
    source = tmp_path / "labels.csv"
    source.write_text("fname,label\na.wav,Dog\n")
    words = {
        "query": ["query", "select 1"], "status": ["status"], "undo": ["undo", "1"],
        "import": ["import", str(source), "--format", "csv", "--metadata-only"],
    }[job]  # fmt: skip
    with opened_by_duckdb(root / STORE, read_only) as holder:
        if read_only and job in ("query", "status"):
            # Readers do not get in each other's way.
            reader = labelkit(root, *words)
            assert "waiting" not in reader.communicate(timeout=60)[1] and reader.returncode == 0
            return
        impatient = labelkit(root, *words, timeout="1.5")
        out, err = impatient.communicate(timeout=60)
        assert impatient.returncode == 75
        waited, refused = [line for line in err.splitlines() if "labels.duckdb" in line]
        assert waited.startswith("waiting for labels.duckdb, in use by ")
        assert f"(PID {holder.pid})" in waited and "without labelkit" in waited
        assert refused.startswith("Error: labels.duckdb is in use by ") and out == ""
        assert refused.endswith("wait, or give a longer --lock-timeout")
        assert f"(PID {holder.pid})" in refused
        patient = labelkit(root, *words)
        time.sleep(3)
        assert patient.poll() is None
    out, err = patient.communicate(timeout=60)
    assert "waiting for labels.duckdb" in err and patient.returncode in (0, 2)
    assert "Error: labels.duckdb" not in err


def test_duckdb_in_the_same_process_is_named(path):
    con = duckdb.connect(str(path))
    with pytest.raises(StoreError, match=r"open in this process, by duckdb.connect.*close that"):
        append(path, "x")
    con.close()
    append(path, "x")


@contextmanager
def child_that_dies(path, body):
    process = context().Process(target=body, args=(path,))
    process.start()
    yield process
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def write_for_ever(path):
    with LabelStore(path).write() as session:
        session.append(Batch(key="never", kind="t", actor="t", by_person=True, classes=["new"]))
        (path.parent / "inside").touch()
        time.sleep(600)


def wait_for_ever(path):
    with LabelStore(path, timeout_s=600).write():
        raise AssertionError("it got in")


def test_a_killed_holder_frees_the_lock_and_leaves_no_name(path, capfd, crowd):
    with child_that_dies(path, write_for_ever) as process:
        until((path.parent / "inside").exists)
        with pytest.raises(StoreBusy, match=f"in use by PID {process.pid} "):
            append(path, "early", timeout_s=0.1)
    assert f"PID {process.pid} " in (path.parent / f"{STORE}.lock").read_text()
    # A reader holds it now, who leaves no name; that of the dead one is not told.
    crowd.start("r", exclusive=False)
    assert crowd.next() == "r"
    with pytest.raises(StoreBusy, match="in use by another process"):
        append(path, "early", timeout_s=0.1)
    crowd.go["r"].set()
    append(path, "after")
    assert keys(path) == ["clips", "after"] and free(path)


def test_a_killed_waiter_leaves_no_trace(path):
    with locked(path, exclusive=True, timeout_s=0):
        with child_that_dies(path, wait_for_ever):
            until(lambda: waiting(path, "queue") == 1)
        until(lambda: waiting(path, "queue") == 0)
    assert free(path)
    append(path, "after")
    assert keys(path) == ["clips", "after"]


def test_who_gave_up_does_not_get_in_the_way(path):
    """The call that waits cannot be called off; it gives back what it gets too late."""
    with locked(path, exclusive=True, timeout_s=0):
        for exclusive in (True, False):
            with pytest.raises(StoreBusy):
                with locked(path, exclusive=exclusive, timeout_s=0.05):
                    pass
    until(lambda: free(path))
    append(path, "after")


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_child_forked_under_the_lock_does_not_have_it(path, exclusive):
    """It neither keeps the lock when its parent leaves, nor drops it when it leaves itself."""
    go = os.pipe()
    with locked(path, exclusive=exclusive, timeout_s=0):
        name = (path.parent / f"{STORE}.lock").read_text()
        child = os.fork()
        if not child:
            os.read(go[0], 1)
            os._exit(0)
        assert (path.parent / f"{STORE}.lock").read_text() == name
        assert not free(path)
    # The child lives, and has nothing.
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    assert free(path)
    append(path, "after", timeout_s=1)
    os.write(go[1], b"x")
    os.waitpid(child, 0)
    for descriptor in go:
        os.close(descriptor)


def test_a_forked_child_that_leaves_the_block_drops_nothing(path):
    child, before = None, {*threading.enumerate()}
    try:
        with locked(path, exclusive=True, timeout_s=0):
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                assert not free(path)
                with pytest.raises(StoreBusy, match=f"PID {os.getpid()} "):
                    append(path, "early", timeout_s=0.1)
    finally:
        if child == 0:
            os._exit(0)
    # The one whose time was over gets the lock at last, and lets go at once.
    for thread in {*threading.enumerate()} - before:
        thread.join(10)
    assert free(path)


def test_threads_of_one_process_take_turns(path):
    inside = []

    def work(number):
        for _ in range(20):
            with locked(path, exclusive=True, timeout_s=30):
                inside.append(number)
                assert len(inside) == 1
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert free(path) and not inside


def overwrite_raw(path):
    con = duckdb.connect(str(path))
    con.execute("create table theirs as select range as k from range(300000)")
    con.execute("checkpoint")
    con.close()


def run_child(target, *args):
    process = context().Process(target=target, args=args)
    process.start()
    process.join(60)
    return process.exitcode


def test_the_hazard_is_real_and_the_store_survives_it(path, tmp_path):
    """DuckDB's own lock goes with any close of the file in the process that has it."""
    raw = tmp_path / "raw.duckdb"
    con = duckdb.connect(str(raw))
    con.execute("create table mine as select range as k from range(1000)")
    con.execute("checkpoint")
    assert run_child(overwrite_raw, raw) == 1  # Refused: the lock is held.
    raw.read_bytes()
    assert run_child(overwrite_raw, raw) == 0  # The lock is gone, and nobody was told.
    con.execute("insert into mine select 7 from range(300000)")
    con.execute("checkpoint")
    con.close()
    con = duckdb.connect(str(raw))
    tables = [name for (name,) in con.execute("select table_name from duckdb_tables()").fetchall()]
    con.close()
    assert tables == ["mine"], "DuckDB keeps its lock now: the side file may not be needed"
    # The same, through the store: the other process waits its turn.
    with LabelStore(path).write() as session:
        path.read_bytes()
        process = context().Process(target=append, args=(path, "theirs"))
        process.start()
        until(lambda: waiting(path, "queue") == 1)
        path.read_bytes()
        event = LabelEvent(clip_id=2, state="verified", labels=[3], source="test")
        session.append(Batch(key="mine", kind="t", actor="t", by_person=True, events=[event]))
    process.join(60)
    assert process.exitcode == 0 and keys(path) == ["clips", "mine", "theirs"]
    with LabelStore(path).connect(read_only=True) as con:
        assert find_faults(con) == []
