"""No room left: nothing that was acknowledged is lost, nothing is half, one line says so."""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import duckdb
import numpy as np
import pytest

from labelkit.errors import StoreError
from labelkit.records import Batch, LabelEvents
from labelkit.stores import labels
from labelkit.stores.high_water_mark import mark_path, read_mark
from labelkit.stores.labels import LabelStore
from tests.crash.campaign import make_empty_project, make_store
from tests.crash.contents import batch_contents, find_faults, read_notes
from tests.crash.workers import NOTES, STORE, Notes, append_one
from tests.support.disks import small_disk

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def fill(folder, notes, largest, limit, seed):
    """Append until there is no room; ends with 3 and the message on a line of its notes."""
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    notes = Notes(notes)
    notes.commits()
    rng = np.random.default_rng(seed)
    store = LabelStore(folder / STORE)
    try:
        for _ in range(2_000):
            append_one(store, notes, rng, largest=largest)
    except StoreError as error:
        notes.write("refused", str(error))
        os._exit(3)


def fill_up(folder, path, largest, limit=None, seed=0):
    """What the child that filled a disk was told."""
    with LabelStore(folder / STORE).read() as session:
        notes = Notes(path)
        for batch in batch_contents(session._con, notes.last):
            notes.write("batch", *batch)
    process = multiprocessing.get_context("spawn").Process(
        target=fill, args=(folder, path, largest, limit, seed)
    )
    process.start()
    process.join(300)
    assert process.exitcode == 3
    *_, last = path.read_text().splitlines()
    kind, said = json.loads(last)
    assert kind == "refused"
    return said


def check(folder, path, *, read_only):
    noted, wanted = read_notes(path)
    with LabelStore(folder / STORE).connect(read_only=read_only) as con:
        held = {batch[0]: batch for batch in batch_contents(con)}
        assert find_faults(con) == []
    assert {k: held[k] for k in noted} == noted and len(noted) > 1
    assert all(wanted.get(key, n) == n for _, key, n, *_ in held.values())
    # What is there without a note was committed by the one that failed, and is whole.
    assert len(held) - len(noted) <= 1
    return held


def one_line(said):
    assert "\n" not in said and "there is no room (" in said and " MB free)" in said, said
    assert said.endswith("make room and run the same command again")


@pytest.mark.parametrize("largest", [200, 100_000], ids=["small", "large"])
def test_a_full_disk(tmp_path, largest):
    with small_disk(tmp_path / "disk", 24) as disk:
        folder = make_store(disk / "store", 5_000)
        # Small transactions would take long to fill it.
        ballast = disk / "ballast"
        free = 2**18 if largest < 1_000 else 6 * 2**20
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - free))
        notes = tmp_path / NOTES
        one_line(fill_up(folder, notes, largest))
        check(folder, notes, read_only=True)
        ballast.unlink()
        before = check(folder, notes, read_only=False)
        append_again(folder, notes)
        assert len(check(folder, notes, read_only=True)) == len(before) + 1


def append_again(folder, path):
    """What had no room, once there is some; and not twice."""
    n = 2_000
    events = LabelEvents(
        clip_ids=np.arange(n) + 1_000,
        states=["verified"] * n,
        labels=[[1]] * n,
        sources=["test"] * n,
    )
    batch = Batch(key="again", kind="test", actor="t", by_person=True, events=events)
    for repeated in (False, True):
        with LabelStore(folder / STORE).write() as session:
            assert session.append(batch).repeated == repeated
    with LabelStore(folder / STORE).read() as session:
        [last] = batch_contents(session._con, session.last_batch() - 1)
    Notes(path).write("batch", *last)


@pytest.mark.parametrize("largest", [200, 100_000], ids=["small", "large"])
def test_a_limit_on_the_size_of_files(tmp_path, largest):
    folder = make_store(tmp_path / "store", 5_000)
    # The log cannot grow beyond it, and of the file only the beginning can be written.
    limit = 2**18 if largest < 1_000 else 2**21
    notes = tmp_path / NOTES
    one_line(fill_up(folder, notes, largest, limit))
    check(folder, notes, read_only=True)
    before = check(folder, notes, read_only=False)
    append_again(folder, notes)
    assert len(check(folder, notes, read_only=True)) == len(before) + 1


def test_a_command_on_a_full_disk_ends_with_3_and_works_once_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk", 12) as disk:
        root = make_empty_project(disk / "p")
        source = tmp_path / "labels.csv"
        rows = "".join(f"{k:06d}-{k * 7919 % 10007}.wav,class{k % 10}\n" for k in range(20_000))
        source.write_text("fname,label\n" + rows)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - 2**18))
        command = [sys.executable, "-m", "labelkit", "-C", str(root), "import", str(source)]
        command += ["--format", "csv", "--metadata-only"]
        done = subprocess.run(command, capture_output=True, text=True)
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert done.returncode == 3 and len(errors) == 1 and "Traceback" not in done.stderr
        one_line(errors[0])
        with LabelStore(root / STORE).read() as session:
            assert session.last_batch() == 0
        ballast.unlink()
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with LabelStore(root / STORE).connect(read_only=True) as con:
            assert find_faults(con) == []
            assert con.execute("select count(*) from labels_now").fetchone() == (20_000,)


class Failing:
    """A connection whose commit ends in an error, before or after it is on the disk."""

    def __init__(self, con, through):
        self.con, self.through, self.armed = con, through, False

    def __getattr__(self, name):
        # DuckDB finds arrays in the frame that calls it, so no other may come between.
        return self.fail if self.armed and name == "execute" else getattr(self.con, name)

    def fail(self, sql):
        assert sql == "commit"
        self.armed = False
        if self.through:
            self.con.execute(sql)
        raise duckdb.FatalException("Failed to create checkpoint: No space left on device")


@pytest.mark.parametrize("through", [True, False])
def test_a_commit_that_ends_in_an_error_is_looked_for(tmp_path, monkeypatch, capsys, through):
    """It may have got through: then it counts, and its high-water mark is written, too."""
    folder = make_store(tmp_path / "store", 3_000)
    store, opened = LabelStore(folder / STORE), LabelStore.opened
    attempts = []

    @contextmanager
    def failing(self, *, read_only):
        with opened(self, read_only=read_only) as con:
            attempts.append(read_only)
            try:
                yield Failing(con, through) if len(attempts) == 1 else con
            except duckdb.Error as error:
                raise labels._store_error(self.path, error) from error

    event = LabelEvents(clip_ids=np.array([5]), states=["verified"], labels=[[1]], sources=["test"])
    batch = Batch(key="k", kind="test", actor="t", by_person=True, events=event)
    monkeypatch.setattr(LabelStore, "opened", failing)

    def append():
        with store.write() as session:
            session.append(batch)
            session._con.armed = True

    if through:
        append()
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and said.endswith("; the batch was kept all the same\n")
    else:
        with pytest.raises(StoreError) as raised:
            append()
        one_line(str(raised.value))
    monkeypatch.undo()
    assert len(attempts) == 2
    mark = read_mark(store.path)
    assert (mark.batch_id, mark.batch_key) == ((2, "k") if through else (1, "clips"))
    with store.connect(read_only=True) as con:
        assert len(batch_contents(con)) == 1 + through and find_faults(con) == []
    with store.write() as session:
        assert session.append(batch).repeated == through


def test_a_high_water_mark_that_cannot_be_written_is_told_and_made_up_for(tmp_path, capsys):
    folder = make_store(tmp_path / "store", 3_000)
    path = mark_path(folder / STORE)
    path.unlink()
    path.mkdir()
    append_again(folder, tmp_path / NOTES)
    said = capsys.readouterr().err.splitlines()
    assert said == [f"{path.name} could not be written (Is a directory)"]
    path.rmdir()
    store = LabelStore(folder / STORE)
    with store.read() as session:
        assert session.last_batch() == 2
    with store.write() as session:
        session.append(Batch(key="x", kind="test", actor="t", by_person=True, classes=["new"]))
    assert read_mark(store.path).batch_id == 3
