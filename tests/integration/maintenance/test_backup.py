"""Backups: one consistent file while others read, and the way back, whatever happens on it."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner

from labelkit.commands.maintenance import backup as backup_command
from labelkit.commands.maintenance import restore as restore_command
from labelkit.commands.options import Place
from labelkit.errors import InvalidInput, StoreBusy, StoreError
from labelkit.maintenance.backup import backup, restore
from labelkit.maintenance.doctor import examine
from labelkit.project import create_project, open_project
from labelkit.records import Batch, Clip, LabelEvent, Predictions, Run
from labelkit.stores import materialised, schema
from labelkit.stores.high_water_mark import mark_path, missing_batches, read_mark
from labelkit.stores.labels import LabelStore
from tests.support.paths import ROOT
from tests.support.projects import copy_project

SIDE = {"labels.duckdb.lock", "labels.duckdb.queue", "labels.duckdb.door"}


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """A project of five clips; only ever read."""
    return make_project(tmp_path_factory.mktemp("five") / "p")


@pytest.fixture
def project(five, tmp_path):
    """A copy to write to."""
    return copy_project(five, tmp_path / "p")


def make_project(root):
    (root / "audio").mkdir(parents=True)
    project, _ = create_project(root, root / "audio")
    clips = [Clip(path=f"{c}.wav", labels=("A",)) for c in range(5)]
    append(project.store, "1", classes=["A", "B"], clips=clips)
    return project


def append(store, key, **values):
    with store.write() as session:
        session.append(Batch(key=key, kind="test", actor="t", by_person=False, **values))


def change(project, key, clip_id=0):
    event = LabelEvent(clip_id=clip_id, state="self_verified", labels=[1], source=key)
    append(project.store, key, events=[event])


def leave_log(project, key):
    """Append as a writer does that is killed right afterwards: what it wrote is in the log."""
    store = project.store
    change(project, key)
    whole = store.path.read_bytes()
    with store.opened(read_only=False) as con:
        con.execute("pragma disable_checkpoint_on_shutdown")
        con.execute("begin")
        con.execute("insert into class_rows values (?, ?, 1)", [int(key), f"C{key}"])
        con.execute("commit")
    assert store.path.read_bytes() == whole and Path(f"{store.path}.wal").stat().st_size


def content(store):
    with store.read() as session:
        tables = session.rows(
            "select table_name from duckdb_tables() where not internal order by 1"
        )
        return {t: session.rows(f"select t::varchar from {t} t order by 1") for (t,) in tables}


def names(folder):
    return {file.name for file in folder.iterdir()}


def call(command, project, *args):
    return CliRunner().invoke(command, [str(a) for a in args], obj=Place(project.root, 5.0))


def test_a_backup_is_the_store_and_nothing_else(project, tmp_path):
    change(project, "2")
    before, there = content(project.store), names(project.root)
    report = backup(project, tmp_path / "b.duckdb")
    assert (report.batches, report.clips, report.events) == (2, 5, 6)
    assert report.file == tmp_path / "b.duckdb" and "windows" in report.not_in_it
    assert content(LabelStore(tmp_path / "b.duckdb")) == before
    assert content(project.store) == before and names(project.root) == there
    (tmp_path / "b.duckdb.lock").unlink()
    assert names(tmp_path) == {"p", "b.duckdb"}


def test_what_a_killed_writer_left_in_the_log_is_in_it(project, tmp_path):
    leave_log(project, "2")
    backup(project, tmp_path / "b.duckdb")
    with LabelStore(tmp_path / "b.duckdb").read() as session:
        assert session.classes() == ["A", "B", "C2"] and session.last_batch() == 2
    assert not Path(f"{project.store.path}.wal").exists()


def test_others_read_meanwhile_and_writers_wait(project, tmp_path, monkeypatch):
    copying, go_on = threading.Event(), threading.Event()
    copy = shutil.copyfileobj

    def slow(*args):
        copying.set()
        assert go_on.wait(20)
        copy(*args)

    monkeypatch.setattr("labelkit.stores.damage.shutil.copyfileobj", slow)
    worker = threading.Thread(target=backup, args=(project, tmp_path / "b.duckdb"))
    worker.start()
    assert copying.wait(20)
    before = content(project.store)
    impatient = LabelStore(project.store.path, timeout_s=0.1)
    with pytest.raises(StoreBusy):
        append(impatient, "2")
    go_on.set()
    worker.join()
    change(project, "2")
    assert content(LabelStore(tmp_path / "b.duckdb")) == before != content(project.store)


def test_where_a_backup_may_not_go(project, tmp_path):
    store = project.store.path
    (tmp_path / "link.duckdb").symlink_to(store)
    os.link(store, tmp_path / "hard.duckdb")
    (tmp_path / "there").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    before = store.read_bytes()
    for file, message in (
        (store, "belongs to the project"),
        (tmp_path / "link.duckdb", "belongs to the project"),
        (tmp_path / "hard.duckdb", "belongs to the project"),
        (Path(f"{store}.hwm"), "belongs to the project"),
        (Path(f"{store}.lock"), "belongs to the project"),
        (project.audio_dir / "b", "lies in the audio folder"),
        (project.audio_dir / ".." / "audio" / "b", "lies in the audio folder"),
        (tmp_path, "is no file that can be made"),
        (tmp_path / "no" / "b", "is no file that can be made"),
        (tmp_path / "pipe", "is not a plain file"),
    ):
        with pytest.raises(InvalidInput, match=re.escape(message)):
            backup(project, file, force=True)
    with pytest.raises(InvalidInput, match=r"is there already; .* --force"):
        backup(project, tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine" and store.read_bytes() == before
    assert names(project.audio_dir) == set()
    backup(project, tmp_path / "there", force=True)
    with LabelStore(tmp_path / "there").read() as session:
        assert session.last_batch() == 1


def test_a_backup_is_whole_or_not_there(project, tmp_path, monkeypatch):
    (tmp_path / "b").write_text("old")

    def full(reader, writer, size):
        writer.write(reader.read(1000))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("labelkit.stores.damage.shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        backup(project, tmp_path / "b", force=True)
    assert names(tmp_path) == {"p", "b"} and (tmp_path / "b").read_text() == "old"


def test_a_copy_that_is_not_the_store_is_no_backup(project, tmp_path, monkeypatch):
    copy = shutil.copyfileobj

    def spoilt(reader, writer, size):
        copy(reader, writer, size)
        writer.seek(4096 + 20)
        writer.write(b"\xff\xff\xff")

    monkeypatch.setattr("labelkit.stores.damage.shutil.copyfileobj", spoilt)
    with pytest.raises(StoreError, match="Corrupt database file"):
        backup(project, tmp_path / "b")
    assert names(tmp_path) == {"p"}


def test_a_store_written_to_meanwhile_costs_no_good_backup(project, tmp_path, monkeypatch):
    backup(project, tmp_path / "b")
    good, copy = (tmp_path / "b").read_bytes(), shutil.copyfileobj
    change(project, "2")

    def touched(reader, writer, size):
        copy(reader, writer, size)
        os.utime(project.store.path, (1, 1))

    monkeypatch.setattr("labelkit.stores.damage.shutil.copyfileobj", touched)
    with pytest.raises(StoreError, match="written to meanwhile"):
        backup(project, tmp_path / "b", force=True)
    assert (tmp_path / "b").read_bytes() == good and names(tmp_path) == {"p", "b"}


def test_a_store_that_went_its_own_way_is_refused(project, tmp_path):
    """As long as the right one, or longer, but with other batches."""
    path = project.store.path
    old = path.read_bytes(), mark_path(path).read_bytes()
    change(project, "2")
    right = mark_path(path).read_bytes()
    path.write_bytes(old[0])
    mark_path(path).write_bytes(old[1])
    for key in ("other 2", "other 3"):
        change(project, key)
        with LabelStore(path).opened(read_only=True) as con:
            said = read_mark(path)
            assert missing_batches(path, con, said) == ""
        mine = mark_path(path).read_bytes()
        mark_path(path).write_bytes(right)
        with pytest.raises(StoreError, match=r"batch 2 is another one than labels\.duckdb\.hwm"):
            content(project.store)
        with pytest.raises(StoreError, match="has lost something"):
            change(project, "x")
        mark_path(path).write_bytes(mine)


def test_runs_beside_the_store_are_asked_for(project, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(materialised, "ROWS_OF_RUN", 1)
    run = Run(run_id="large", kind="train", recipe="quick", settings={}, seed=0,
              classes=["A", "B"], as_of=1)  # fmt: skip
    judged = Predictions(run_id="large", clip_ids=np.array([1, 2]), probs=np.full((2, 2), 0.5))
    append(project.store, "2", runs=[run], predictions=[judged])
    report = backup(project, tmp_path / "b")
    assert report.runs_beside_the_store == 1 and ".labelkit/predictions/" in report.not_in_it
    with project.store.read() as session:
        [(file,)] = session.rows("select file from prediction_files")
    restore(project, tmp_path / "b")
    assert file not in capsys.readouterr().err
    (project.root / file).unlink()
    restore(project, tmp_path / "b")
    [line] = [line for line in capsys.readouterr().err.splitlines() if file in line]
    assert "is not there, the predictions of large: bring it back" in line
    [found] = [f for f in examine(project) if f.state == "problem"]
    assert found.check == "large runs"


def test_a_store_that_lost_something_gives_no_backup(project, tmp_path):
    old = project.store.path.read_bytes()
    change(project, "2")
    project.store.path.write_bytes(old)
    with pytest.raises(StoreError, match="has lost something"):
        backup(project, tmp_path / "b")
    assert names(tmp_path) == {"p"}


def test_rights_are_kept(project, tmp_path):
    project.store.path.chmod(0o640)
    backup(project, tmp_path / "b")
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o640
    (tmp_path / "b").chmod(0o444)
    restore(project, tmp_path / "b")
    assert stat.S_IMODE(project.store.path.stat().st_mode) == 0o640


def test_there_and_back(project, tmp_path, capsys):
    backup(project, tmp_path / "b")
    then, saved = content(project.store), (tmp_path / "b").read_bytes()
    change(project, "2")
    leave_log(project, "3")
    now = content(project.store)
    report = restore(project, tmp_path / "b")
    assert content(project.store) == then and report.batches == 1
    assert read_mark(project.store.path).batch_id == 1
    assert (tmp_path / "b").read_bytes() == saved and names(tmp_path) == {"p", "b"}
    # What was there before has a name of its own, and is a store like any other.
    kept = report.kept
    said = capsys.readouterr().err
    assert f"batches 2 to 3 of the old store are no longer in force; they are in {kept[0]}" in said
    assert re.fullmatch(r"labels\.duckdb\.before-restore-\d{8}T\d{6}", kept[0])
    assert [name.removeprefix(kept[0]) for name in kept] == ["", ".hwm"]
    assert content(LabelStore(project.root / kept[0])) == now
    change(project, "another 2")
    restore(project, project.root / kept[0])
    assert content(project.store) == now
    change(project, "4")


def told(capsys):
    """What restore said of batches."""
    said = capsys.readouterr().err.splitlines()
    return [line for line in said if "batch" in line]


def test_what_a_restore_takes_out_of_force_is_told(project, tmp_path, capsys):
    store = project.store.path
    backup(project, tmp_path / "1")
    change(project, "2")
    backup(project, tmp_path / "2")
    # A longer history holds all of the old one.
    restore(project, tmp_path / "1")
    capsys.readouterr()
    restore(project, tmp_path / "2")
    assert told(capsys) == []
    # Histories that parted: as long, and another batch.
    restore(project, tmp_path / "1")
    change(project, "another 2")
    capsys.readouterr()
    kept = restore(project, tmp_path / "2").kept[0]
    assert told(capsys) == [f"batch 2 of the old store is no longer in force; it is in {kept}"]
    # Without a high-water mark it is the batches of the store that count.
    change(project, "3")
    mark_path(store).unlink()
    kept = restore(project, tmp_path / "2").kept[0]
    assert told(capsys) == [f"batch 3 of the old store is no longer in force; it is in {kept}"]
    # What only the high-water mark knows of is nowhere.
    change(project, "3")
    for damage in (lambda: store.write_bytes(b"garbage" * 9999), store.unlink):
        said = mark_path(store).read_bytes()
        damage()
        restore(project, tmp_path / "2")
        assert told(capsys) == [
            f"batch 3 of the old store was acknowledged and is not in {tmp_path / '2'}"
        ]
        mark_path(store).write_bytes(said)
    restore(project, tmp_path / "2")
    capsys.readouterr()
    restore(project, tmp_path / "1")
    assert "batch 2 of the old store" in told(capsys)[0]


def test_another_store_takes_all_of_the_old_one_out_of_force(project, tmp_path, capsys):
    other = make_project(tmp_path / "other")
    backup(other, tmp_path / "b")
    change(project, "2")
    kept = restore(project, tmp_path / "b").kept[0]
    assert told(capsys) == [
        f"batches 1 to 2 of the old store are no longer in force; they are in {kept}"
    ]


def test_twice_is_harmless(project, tmp_path):
    backup(project, tmp_path / "b")
    first, second = restore(project, tmp_path / "b"), restore(project, tmp_path / "b")
    assert first.kept != second.kept
    assert content(project.store) == content(LabelStore(tmp_path / "b"))


@pytest.mark.parametrize("damage", ["missing", "cut", "junk", "behind", "torn", "nothing at all"])
def test_a_lost_store_is_brought_back(project, tmp_path, damage):
    backup(project, tmp_path / "b")
    then, path = content(project.store), project.store.path
    old = path.read_bytes()
    if damage == "torn":
        leave_log(project, "2")
        log = Path(f"{path}.wal")
        log.write_bytes(log.read_bytes()[:-40] + bytes(40))
    else:
        change(project, "2")
    spoilt = {"cut": old[:5000], "junk": b"junk", "behind": old}
    if damage in spoilt:
        path.write_bytes(spoilt[damage])
    if damage in ("missing", "nothing at all"):
        path.unlink()
    if damage == "nothing at all":
        mark_path(path).unlink()
    pieces = {file.name: file.read_bytes() for file in path.parent.glob("labels.duckdb*")}
    with pytest.raises(StoreError):
        content(project.store)
    kept = restore(project, tmp_path / "b").kept
    assert content(project.store) == then
    assert names(project.root) - set(kept) - SIDE == {
        "audio", "labels.duckdb", "labels.duckdb.hwm", "labelkit.toml", ".labelkit",
    }  # fmt: skip
    # Every piece is kept as it was.
    stem = kept[0].rpartition("-")[0] if kept else ""
    assert {
        "labels.duckdb" + name.removeprefix(stem)[16:]: (project.root / name).read_bytes()
        for name in kept
    } == {name: data for name, data in pieces.items() if name not in SIDE}
    change(project, "x")


def test_what_is_no_backup(project, tmp_path):
    good, store = tmp_path / "good", project.store.path
    backup(project, good)
    data = good.read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    with duckdb.connect(str(tmp_path / "other")) as con:
        con.execute("create table t (x integer)")
    shutil.copy(good, tmp_path / "newer")
    with duckdb.connect(str(tmp_path / "newer")) as con:
        con.execute("insert into schema_migrations values (999, 'x', now()::timestamp)")
    (tmp_path / "link").symlink_to(store)
    before, there = content(project.store), names(project.root)
    for name, message in (
        ("cut", "is no sound label store"), ("text", "is no sound label store"),
        ("empty", "is no sound label store"), ("other", "but no label store"),
        ("newer", "of schema version 999.*install a newer labelkit"),
        ("nowhere", "is not a file"), ("p", "is not a file"), ("link", "is the store itself"),
    ):  # fmt: skip
        file = tmp_path / name
        saved = file.read_bytes() if file.is_file() else None
        with pytest.raises(InvalidInput, match=message) as said:
            restore(project, file)
        assert len(str(said.value).splitlines()) == 1 and str(file) in str(said.value)
        assert saved is None or file.read_bytes() == saved
        assert content(project.store) == before and names(project.root) == there
    assert not list(tmp_path.glob("*.wal"))


@pytest.mark.slow
def test_a_backup_with_a_damaged_block_is_none(project, tmp_path):
    event = LabelEvent(clip_id=0, state="self_verified", labels=[1], source="x" * 3000)
    append(project.store, "big", events=[event] * 200)
    backup(project, tmp_path / "b")
    data = bytearray((tmp_path / "b").read_bytes())
    refused = 0
    for position in range(20000, len(data), 262144):
        (tmp_path / "b").write_bytes(data[:position] + b"\xff\x00\xff" + data[position + 3 :])
        try:
            restore(project, tmp_path / "b")
        except InvalidInput as error:
            refused += 1
            assert "Corrupt database file" in str(error)
    assert refused


def test_an_older_backup_is_brought_up_to_date(project, tmp_path, capsys):
    """A store of version 4, made by the migrations up to there."""
    old = tmp_path / "old"
    with duckdb.connect(str(old)) as con:
        con.execute("create table schema_migrations "
                    "(number integer primary key, name varchar, applied_at timestamp)")  # fmt: skip
        for number, title, statements in schema.MIGRATIONS[:4]:
            if statements:
                con.execute(statements)
            con.execute("insert into schema_migrations values (?, ?, now())", [number, title])
        con.execute("insert into classes values (0, 'Owl', 1)")
        con.execute("insert into batches values (1, 'k', 'import', 'me', true, '', null, null, "
                    "'0.1', timestamp '2025-01-01')")  # fmt: skip
    saved = old.read_bytes()
    report = restore(project, old)
    assert report.batches == 1 and old.read_bytes() == saved
    assert f"of schema version 4; the store made from it is of {schema.VERSION}" in (
        capsys.readouterr().err
    )
    with project.store.read() as session:
        assert session.classes() == ["Owl"]


def test_a_store_in_use_is_copied_between_two_writes(project, tmp_path):
    """What is restored may be the store of another project, with a log and with writers."""
    other, _ = create_project(tmp_path, project.audio_dir)
    with project.store.write():
        impatient = open_project(other.root, lock_timeout_s=0.1)
        with pytest.raises(StoreBusy):
            restore(impatient, project.store.path)
    leave_log(project, "2")
    expected = content(project.store)
    restore(other, project.store.path)
    assert content(other.store) == expected == content(project.store)


HOLDER = """
import duckdb, sys
con = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_a_store_that_another_program_has_open_is_left_alone(project, tmp_path):
    backup(project, tmp_path / "b")
    before = project.store.path.read_bytes()
    project.store.timeout_s = 0.5
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, project.store.path], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout.readline() == "open\n"
        for attempt in (lambda: restore(project, tmp_path / "b"),
                        lambda: backup(project, tmp_path / "b2")):  # fmt: skip
            with pytest.raises(StoreError, match=f"in use by .*PID {holder.pid}"):
                attempt()
        [problem] = [f for f in examine(project) if f.state == "problem"]
        assert problem.check == "file" and problem.remedy.startswith("end that program")
        holder.stdin.close()
    assert project.store.path.read_bytes() == before and names(tmp_path) == {"p", "b"}
    assert names(project.root) - SIDE == {
        "audio", "labels.duckdb", "labels.duckdb.hwm", "labelkit.toml", ".labelkit",
    }  # fmt: skip
    restore(project, tmp_path / "b")


STEPS = ("replace", "rename", "link", "unlink")


@pytest.mark.slow
@pytest.mark.parametrize("state", ["sound", "log", "behind"])
def test_stopped_anywhere_it_is_the_old_store_or_the_new_one(project, tmp_path, monkeypatch, state):
    backup(project, tmp_path / "b")
    new = content(project.store)
    change(project, "2")
    if state == "log":
        leave_log(project, "3")
    old = content(project.store)
    if state == "behind":
        project.store.path.write_bytes((tmp_path / "b").read_bytes())
        old = None
    seen = set()
    for step in range(1, 50):
        root = shutil.copytree(project.root, tmp_path / str(step))
        here = open_project(root)
        with monkeypatch.context() as patch:
            left = iter(range(step - 1, -1, -1))
            for name in STEPS:
                real = getattr(os, name)

                def stop(*args, real=real, left=left, **kwargs):
                    if next(left, None) == 0:
                        raise KeyboardInterrupt
                    return real(*args, **kwargs)

                patch.setattr(os, name, stop)
            try:
                restore(here, tmp_path / "b")
                finished = True
            except KeyboardInterrupt:
                finished = False
        try:
            found = content(here.store)
        except StoreError as error:
            # A store that had lost something is still refused, and in one line.
            assert old is None and "has lost something" in str(error)
            found = None
        assert found in (old, new)
        seen.add("new" if found == new else "old")
        restore(here, tmp_path / "b")
        assert content(here.store) == new
        if finished:
            break
    assert finished and step > 4 and seen == {"old", "new"}


KILLED = """
import os, signal, sys
from pathlib import Path
from labelkit.maintenance.backup import restore
from labelkit.project import open_project
left = [int(sys.argv[3])]
def kill(real):
    def step(*args, **kwargs):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return step
for name in ("replace", "rename", "link", "unlink"):
    setattr(os, name, kill(getattr(os, name)))
restore(open_project(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_anywhere_it_is_the_old_store_or_the_new_one(project, tmp_path):
    backup(project, tmp_path / "b")
    new = content(project.store)
    change(project, "2")
    old, seen = content(project.store), []
    for step in range(1, 20):
        root = shutil.copytree(project.root, tmp_path / str(step))
        done = subprocess.run(
            [sys.executable, "-c", KILLED, root, tmp_path / "b", str(step)],
            cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.returncode in (0, -signal.SIGKILL)
        found = content(open_project(root).store)
        assert found in (old, new)
        seen.append(found == new)
        restore(open_project(root), tmp_path / "b")
        assert content(open_project(root).store) == new
        if done.returncode == 0:
            break
    assert done.returncode == 0 and step > 4
    # Once it is the new one it stays so.
    assert seen == sorted(seen) and not seen[0]


def test_the_commands_say_what_they_did(project, tmp_path):
    done = call(backup_command, project, tmp_path / "b")
    assert done.exit_code == 0 and done.stdout == "", done.output
    for line in ("batches: 1", "clips: 5", "events: 5", "size mb: ", "not in it: recordings, .lab"):
        assert line in done.stderr
    again = call(backup_command, project, tmp_path / "b")
    assert isinstance(again.exception, InvalidInput)
    assert call(backup_command, project, tmp_path / "b", "--force").exit_code == 0
    done = call(restore_command, project, tmp_path / "b")
    assert done.exit_code == 0 and done.stdout == ""
    assert "kept: labels.duckdb.before-restore-" in done.stderr
