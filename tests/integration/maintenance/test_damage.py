"""Damaged stores: every damage ends in the right answer or a clear refusal, and can be mended."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from labelkit.commands.maintenance import doctor
from labelkit.commands.options import Place
from labelkit.errors import StoreError
from labelkit.maintenance.doctor import examine
from labelkit.maintenance.repair import repair
from labelkit.project import open_project
from labelkit.stores.damage import TornLog, cut_log, find_torn_log, keep_copies, log_files
from labelkit.stores.high_water_mark import read_mark
from labelkit.stores.labels import LabelStore
from tests.support.paths import ROOT

N_CLIPS, N_BATCHES = 12, 20

# A writer that never gets to close its last connections: all commits but the first stay in the log.
WRITER = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from labelkit.records import Batch, Clip, LabelEvent
from labelkit.stores.labels import LabelStore
from labelkit.project import create_project
from tests.integration.maintenance.test_damage import N_BATCHES, N_CLIPS, touched

class Unclosed(LabelStore):
    @contextmanager
    def opened(self, *, read_only):
        with super().opened(read_only=read_only) as con:
            con.execute("pragma disable_checkpoint_on_shutdown")
            yield con

root = Path(sys.argv[1])
(root / "audio").mkdir(parents=True)
project, _ = create_project(root, root / "audio")
clips = [Clip(path=f"{c}.wav", labels=("A",)) for c in range(N_CLIPS)]
def append(store, **values):
    with store.write() as session:
        session.append(Batch(actor="t", by_person=False, kind="test", **values))
append(project.store, key="1", classes=["A", "B"], clips=clips)
for k in range(2, N_BATCHES + 1):
    append(Unclosed(project.store.path), key=str(k), events=[
        LabelEvent(clip_id=c, state="self_verified", labels=[k % 2], source=f"{k}")
        for c in touched(k)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def touched(batch):
    return [c for c in range(N_CLIPS) if (c + batch) % 3]


def expected(last):
    """Label and source of every clip after a batch, by hand."""
    now = {c: ("A", "test") for c in range(N_CLIPS)} if last else {}
    for k in range(2, last + 1):
        now |= {c: ("AB"[k % 2], str(k)) for c in touched(k)}
    return [(f"{c}.wav", [label], source) for c, (label, source) in sorted(now.items())]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a project whose writer was killed, with all but its first batch in the log."""
    root = tmp_path_factory.mktemp("killed") / "p"
    done = subprocess.run([sys.executable, "-c", WRITER, str(root)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_mark(root / "labels.duckdb").batch_id == N_BATCHES
    assert (root / "labels.duckdb.wal").stat().st_size > 20_000
    return root


@pytest.fixture
def damaged(killed, tmp_path):
    """Makes fresh copies of it, with a file changed: ``damaged(ending, change)``."""
    numbers = itertools.count()

    def make(ending="", change=lambda data: data):
        root = tmp_path / str(next(numbers))
        shutil.copytree(killed, root)
        file = root / f"labels.duckdb{ending}"
        data = change(file.read_bytes())
        file.unlink() if data is None else file.write_bytes(data)
        return open_project(root)

    return make


def content(project):
    with project.store.read() as session:
        rows = session.rows("select path, labels, source from labels_now order by clip_id")
        batches = session.rows("select batch_id, batch_key from batches order by 1")
    return rows, batches


def is_prefix(project):
    """The number of the last batch; what is there must be exactly what it was then."""
    rows, batches = content(project)
    assert batches == [(k, str(k)) for k in range(1, len(batches) + 1)]
    assert rows == expected(len(batches))
    return len(batches)


def outcome(project):
    """True if it reads, and is right; False if it is refused, in one line."""
    try:
        assert is_prefix(project) == N_BATCHES
        return True
    except StoreError as error:
        assert len(str(error).splitlines()) == 1
        return False


def flip(position, bit=0):
    return lambda data: data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


def overwrite(position, new):
    return lambda data: data[:position] + new + data[position + len(new) :]


def zero_tail(position):
    return lambda data: data[:position] + bytes(len(data) - position)


def mended(project):
    """Repair, and check what the doctor says before and after; returns the last batch."""
    before = {file.name: file.read_bytes() for file in files(project)}
    first = [finding for finding in examine(project) if finding.state == "problem"]
    assert {file.name: file.read_bytes() for file in files(project)} == before
    assert first and all(finding.remedy for finding in first)
    lines = []
    repair(project, lines.append)
    assert [f for f in examine(project) if f.state == "problem"] == []
    last = is_prefix(project)
    assert read_mark(project.store.path).batch_id == last
    # What there was is kept, byte for byte, and named.
    [kept] = [line for line in lines if line.startswith("kept as they were: ")]
    for name in kept.partition(": ")[2].split(", "):
        ending = name.partition("before-repair-")[2][15:]
        assert (project.root / name).read_bytes() == before[f"labels.duckdb{ending}"]
    if last < N_BATCHES:
        lost = f"{last + 1} to {N_BATCHES}" if last + 1 < N_BATCHES else f"{N_BATCHES}"
        assert f"what was written in {lost} is LOST" in lines[-1]
    with project.store.write() as session:
        assert session.last_batch() == last
    return last


def files(project):
    endings = ("", ".wal", ".hwm")
    paths = [project.root / f"labels.duckdb{ending}" for ending in endings]
    return [path for path in paths if path.exists()]


def run(project, *args):
    return CliRunner().invoke(doctor, args, obj=Place(project.root, 5.0))


def test_a_log_that_is_whole_is_taken_in(damaged):
    project = damaged()
    assert log_files(project.store.path) == [project.root / "labels.duckdb.wal"]
    assert is_prefix(project) == N_BATCHES
    said = next(f.what for f in examine(project) if f.check == "log")
    assert said.endswith("for the next one")
    with project.store.write():
        pass
    assert log_files(project.store.path) == [] and is_prefix(project) == N_BATCHES


@pytest.mark.slow
def test_a_log_cut_short_anywhere_is_refused(damaged, killed):
    size = (killed / "labels.duckdb.wal").stat().st_size
    for position in random.Random(1).sample(range(size), 50):
        project = damaged(".wal", lambda data, n=position: data[:n])
        assert not outcome(project), position
        with pytest.raises(StoreError, match="has lost something: it ends at batch"):
            with project.store.write():
                pass
        # The refused writer has left the log alone.
        assert (project.root / "labels.duckdb.wal").stat().st_size == position


@pytest.mark.slow
def test_zeros_flipped_bits_and_foreign_bytes_are_refused_or_harmless(damaged, killed):
    """A flipped bit may lie where it says nothing: then all is right."""
    data = (killed / "labels.duckdb.wal").read_bytes()
    rng = random.Random(2)
    changes = [zero_tail(rng.randrange(len(data))) for _ in range(10)]
    changes += [flip(rng.randrange(len(data)), rng.randrange(8)) for _ in range(30)]
    # The head of the log, and the lengths of its first entries.
    changes += [flip(position, position % 8) for position in range(0, 100, 3)]
    changes += [overwrite(rng.randrange(len(data) - 3), rng.randbytes(3)) for _ in range(20)]
    right = [outcome(damaged(".wal", change)) for change in changes]
    assert not any(right[:10]) and not any(right[-20:])
    assert sum(right) < 10


@pytest.mark.parametrize("change", [lambda _: None, lambda d: random.Random(3).randbytes(len(d)),
                                    lambda _: b""], ids=["gone", "garbage", "empty"])  # fmt: skip
def test_a_log_that_is_gone_is_noticed_and_given_up_when_asked(damaged, change):
    project = damaged(".wal", change)
    assert not outcome(project)
    assert mended(project) == 1


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
@pytest.mark.parametrize("kind", ["cut", "zeros", "flip", "bytes"])
def test_repair_brings_back_all_before_the_damage(damaged, killed, share, kind):
    data = (killed / "labels.duckdb.wal").read_bytes()
    n = int(share * len(data))
    changes = {
        "cut": lambda d: d[:n], "zeros": zero_tail(n), "flip": flip(n, 3),
        "bytes": overwrite(n, bytes(b ^ 255 for b in data[n : n + 3])),
    }  # fmt: skip
    last = mended(damaged(".wal", changes[kind]))
    # A commit takes about as many bytes as any other.
    assert abs(last - (1 + share * (N_BATCHES - 1))) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("position", [2, 5, 9, 31, 38])
def test_a_log_with_a_damaged_head_is_given_up_when_asked(damaged, position):
    project = damaged(".wal", flip(position, position % 8))
    assert not outcome(project)
    assert mended(project) == 1


def test_the_doctor_names_the_byte(damaged):
    project = damaged(".wal", flip(9000))
    with pytest.raises(StoreError) as said:
        content(project)
    torn = find_torn_log(project.store.path, said.value)
    size = (project.root / "labels.duckdb.wal").stat().st_size
    assert torn.file == project.root / "labels.duckdb.wal" and 7000 < torn.position <= 9000
    [problem] = [f for f in examine(project) if f.state == "problem"]
    assert problem.what == f"labels.duckdb.wal is damaged at byte {torn.position} of {size}"
    assert problem.remedy == "labelkit restore FILE, or labelkit doctor --repair"


UNREADABLE = [
    ("cut in half", lambda d: d[: len(d) // 2], "Could not read enough bytes"),
    ("header", flip(100), "Corrupt database file"),
    ("second header", flip(4096 + 20), "Corrupt database file"),
    ("empty", lambda _: b"", "not a valid DuckDB database"),
    ("junk", lambda _: b"junk" * 5000, "not a valid DuckDB database"),
]


@pytest.mark.parametrize(("change", "message"), [u[1:] for u in UNREADABLE],
                         ids=[u[0] for u in UNREADABLE])  # fmt: skip
def test_a_damaged_database_is_refused_and_left_alone(damaged, change, message):
    project = damaged("", change)
    before = {file.name: file.read_bytes() for file in files(project)}
    with pytest.raises(StoreError, match=message):
        content(project)
    assert [f.state for f in examine(project) if f.check == "file"] == ["problem"]
    done = run(project, "--repair")
    assert done.exit_code == 3 and "labelkit restore FILE" in done.stdout
    assert "Traceback" not in done.output
    assert {file.name: file.read_bytes() for file in files(project)} == before
    assert not list(project.root.glob("*.before-repair-*"))


@pytest.mark.slow
def test_flipped_bits_in_blocks_are_found(damaged, killed):
    """Wherever a block is in use, reading every row finds it; elsewhere nothing is wrong."""
    with_rows = damaged()
    with with_rows.store.write():
        pass
    data = (with_rows.root / "labels.duckdb").read_bytes()
    rng, found = random.Random(4), 0
    for position in rng.sample(range(12288, len(data)), 20):
        (with_rows.root / "labels.duckdb").write_bytes(flip(position)(data))
        problems = [f for f in examine(with_rows) if f.state == "problem"]
        if problems:
            found += 1
            # What rows do not show, the index of a table does when it is asked.
            assert problems[0].check in ("file", "rows", "replay")
            assert "restore" in problems[0].remedy
        else:
            assert is_prefix(with_rows) == N_BATCHES
    assert found


def test_copies_have_names_of_their_own(damaged):
    project = damaged()
    first = keep_copies(project.store.path, "why")
    second = keep_copies(project.store.path, "why")
    assert len(first) == 3 and not {*first} & {*second}
    assert [p.name.removeprefix(first[0].name) for p in first] == ["", ".wal", ".hwm"]
    for copies in (first, second):
        # A copy with its log opens under its own name.
        with LabelStore(copies[0]).read() as session:
            assert session.last_batch() == N_BATCHES
    linked = keep_copies(project.store.path, "link", link=True)
    assert os.path.samefile(linked[0], project.store.path)


def test_cutting(tmp_path):
    file = tmp_path / "x.wal"
    file.write_bytes(b"0123456789")
    cut_log(TornLog(file, 4, ""))
    assert file.read_bytes() == b"0123"
    cut_log(TornLog(file, 0, ""))
    assert not file.exists()


def test_other_errors_are_no_torn_log(tmp_path):
    for text in ("labels.duckdb: IO Error: Could not set lock", "Corrupt database file: computed"):
        assert find_torn_log(tmp_path / "labels.duckdb", StoreError(text)) is None
    text = ('labels.duckdb: Failure while replaying WAL file "/a b/labels.duckdb.wal.recovery": '
            "Corrupt WAL file: entry at byte position 77 computed checksum 1")  # fmt: skip
    torn = find_torn_log(tmp_path / "labels.duckdb", StoreError(text))
    assert (torn.file, torn.position) == (tmp_path / "labels.duckdb.wal.recovery", 77)


@pytest.mark.slow
def test_the_command_mends_when_asked_and_only_then(damaged):
    project = damaged(".wal", lambda d: d[: len(d) // 2])
    before = {file.name: file.read_bytes() for file in files(project)}
    done = run(project, "--json")
    rows = json.loads(done.stdout)
    assert done.exit_code == 3
    [mark] = [row for row in rows if row["state"] == "problem"]
    assert mark["check"] == "high-water mark" and f"batch {N_BATCHES} was acknowl" in mark["what"]
    assert {file.name: file.read_bytes() for file in files(project)} == before
    done = run(project, "--repair", "--json")
    assert done.exit_code == 0, done.output
    assert "problem" not in {row["state"] for row in json.loads(done.stdout)}
    assert "is LOST" in done.stderr and "kept as they were: labels.duckdb.before" in done.stderr
    again = run(project, "--repair")
    assert again.exit_code == 0 and "kept" not in again.stderr
    assert len(list(project.root.glob("*.before-repair-*.wal"))) == 1
