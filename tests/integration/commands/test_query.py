"""One statement: where it comes from, what its answer looks like, and the process behind it."""

import csv
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from labelkit import output
from labelkit.cli import cli
from labelkit.config import FormatSpec
from labelkit.errors import InvalidInput, LabelkitError, StoreBusy, StoreError
from labelkit.labels.importing import import_labels
from labelkit.project import create_project, open_project
from labelkit.stores import sandbox
from labelkit.stores.catalog import create_predictions
from labelkit.stores.query import query
from tests.support.clips import write_csv
from tests.support.processes import children, wait_for, wait_for_end

SOUND = ("0.wav", ["Dog", "Rain, heavy"]), ("1.wav", ["Dog"]), ("2.wav", ["Rain, heavy"])
BOMB = "select sum(hash(range)) from range(1000000000000)"
TYPES = (
    "select 1::tinyint as i, 2.5::decimal(9, 2) as d, [1, null] as l, {'a': [1.5]} as s, "
    "map {'k': 2} as m, timestamp '2026-01-02 03:04:05' as t, date '2026-01-02' as day, "
    "timestamptz '2026-01-02 03:04:05+02' as z, interval 3 days as iv, '\\x00a'::blob as b, "
    "uuid '00000000-0000-0000-0000-000000000001' as u, null as n, true as yes"
)


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    """A project of three clips without recordings and the files it comes from; only ever read.

    The last clip is corrected in a second batch.
    """
    tmp_path = tmp_path_factory.mktemp("corrected")
    (tmp_path / "p" / "audio").mkdir(parents=True)
    project, _ = create_project(tmp_path / "p", tmp_path / "p" / "audio")
    rows = [(path, ";".join(labels)) for path, labels in SOUND]
    source = write_csv(tmp_path / "x.csv", ("fname", "label"), rows)
    import_labels(project, source, "csv", FormatSpec(separator=";"), metadata_only=True)
    (tmp_path / "c.json").write_text('{"2.wav": "Dog"}')
    import_labels(project, tmp_path / "c.json", "corrections", FormatSpec())
    return tmp_path


@pytest.fixture
def project(corrected, tmp_path):
    """A copy to write to."""
    shutil.copytree(corrected, tmp_path, dirs_exist_ok=True)
    return open_project(tmp_path / "p")


def call(project, *args, **options):
    words = ["-C", str(project.root), "query", *map(str, args)]
    return CliRunner().invoke(cli, words, **options)


def refused(done, *messages, code=2):
    """One clear line on stderr, nothing on stdout."""
    assert done.exit_code == code and done.stdout == "", done.output
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr
    for message in messages:
        assert message in done.stderr


def rows(project, sql, **limits):
    with sandbox.ask(project.store, sql, timeout_s=20, **limits) as reply:
        return [row for batch in reply.batches for row in batch]


def test_a_statement_comes_from_an_argument_a_file_or_stdin(project, tmp_path):
    sql = "select count(*) as 'größe' from clips"
    file = tmp_path / "q.sql"
    file.write_bytes(b"\xef\xbb\xbf-- how many\r\n" + sql.encode() + b";\r\n")
    answers = [
        call(project, "--json", sql),
        call(project, "--json", "--file", file),
        call(project, "--json", input=sql),
        call(project, "--json", "-", input=sql + ";\n"),
    ]
    assert [json.loads(done.stdout) for done in answers] == [[{"größe": 3}]] * 4


@pytest.mark.parametrize(
    "args, says",
    [
        (["select 1", "--file", "x.sql"], "SQL and --file exclude one another"),
        (["--file", "nowhere.sql"], "nowhere.sql cannot be read"),
        (["--json", "--csv", "select 1"], "exclude one another"),
        (["--force", "select 1"], "--force is for --parquet"),
        (["--timeout", "nan", "select 1"], "got nan"),
        (["--timeout", "inf", "select 1"], "got inf"),
        (["--timeout", "0", "select 1"], "got 0"),
        (["--timeout", "-3", "select 1"], "got -3"),
        (["--timeout", "1e9", "select 1"], "got 1e+09"),
        (["--timeout", "nan", "--parquet", "x.parquet", "select 1"], "got nan"),
        (["--max-rows", "0", "select 1"], "max_rows must be at least 1, got 0"),
        (["--as-of", "9", "select 1"], "no batch 9"),
    ],
)
def test_what_cannot_be_is_told(project, monkeypatch, tmp_path, args, says):
    monkeypatch.chdir(tmp_path)
    done = call(project, *args)
    assert done.exit_code == 2 and says in done.stderr and done.stdout == "", done.output
    assert not list(tmp_path.glob("x.parquet*"))


def test_stdin_that_is_no_text_is_told(project):
    refused(call(project, input=b"select '\xff'"), "stdin is not UTF-8")


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf"), 1e7])
def test_the_library_refuses_such_times_too(project, timeout_s):
    with pytest.raises(InvalidInput, match="timeout must be above 0"):
        query(project.store, "select 1", timeout_s=timeout_s)
    with pytest.raises(InvalidInput), sandbox.ask(project.store, "select 1", timeout_s=timeout_s):
        pass


def test_csv_is_read_back_by_any_reader(project):
    sql = (
        "select path, labels, made_at, null as nothing, 'a \"b\", c\nd' as text, true as yes, "
        "0.1::double as f, 'nan'::double as x, 1.50::decimal(4, 2) as d from labels_now "
        "order by path limit 1"
    )
    done = call(project, "--csv", sql)
    assert done.stdout_bytes.startswith(b"path,labels,made_at,nothing,text,yes,f,x,d\r\n0.wav,")
    (found,) = csv.DictReader(io.StringIO(done.stdout_bytes.decode(), newline=""))
    assert json.loads(found.pop("labels")) == SOUND[0][1]
    time_ = datetime.fromisoformat(found.pop("made_at"))
    assert time_.tzinfo == UTC and abs((datetime.now(UTC) - time_).total_seconds()) < 600
    assert found == {
        "path": "0.wav", "nothing": "", "text": 'a "b", c\nd', "yes": "true", "f": "0.1",
        "x": "nan", "d": "1.50",
    }  # fmt: skip


@pytest.mark.parametrize("sql", ["from labels_now", "from labels_now where false", TYPES])
def test_json_is_what_other_commands_print(project, capsys, sql):
    answer = query(project.store, sql, timeout_s=20)
    output.show([dict(zip(answer.columns, row, strict=True)) for row in answer.rows], True)
    assert call(project, "--json", sql).stdout == capsys.readouterr().out


def test_both_ways_give_the_same_values(project, monkeypatch):
    # Times do not depend on where one lives.
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    there, here = rows(project, TYPES), query(project.store, TYPES, timeout_s=20)
    assert there == here.rows and list(map(type, there[0])) == list(map(type, here.rows[0]))
    assert there[0][7].isoformat() == "2026-01-02T01:04:05+00:00"
    assert len(rows(project, "from test_all_types()")) == 3


def test_names_of_columns_never_hide_one_another(project):
    answer = query(project.store, "select 1 as a, 2 as a, 3 as a_2, 4 as a", timeout_s=20)
    assert (answer.columns, answer.rows) == (["a", "a_3", "a_2", "a_4"], [(1, 2, 3, 4)])


def test_rows_beyond_the_limit_are_told(project):
    sql = "select range as n from range(5000)"
    for limit, more in ((4999, True), (5000, False), (1, True)):
        answer = query(project.store, sql, timeout_s=20, max_rows=limit)
        assert answer.rows == [(n,) for n in range(limit)] and answer.more is more
    done = call(project, "--json", "--max-rows", 2, sql)
    assert json.loads(done.stdout) == [{"n": 0}, {"n": 1}]
    assert done.stderr == "There are more than these 2 rows; --max-rows N shows more.\n"
    # The rest is never made.
    assert len(rows(project, "from range(1000000000000)", max_rows=10)) == 10
    assert call(project, "--csv", sql).stdout.count("\n") == 5001
    assert call(project, sql).stdout.count("\n") == 5002
    refused(call(project, "from range(100001)"), "more than 100000 rows are too many for a table")


def test_a_table_on_a_terminal_ends_in_time(project):
    primary, secondary = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "labelkit", "-C", project.root, "query", "from range(100000)"],
        stdout=secondary, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        os.close(secondary)
        printed = b""
        while True:
            try:
                printed += os.read(primary, 65536)
            except OSError:
                break
        os.close(primary)
        assert b"more than these 1000 rows" in process.stderr.read()
    assert printed.count(b"\n") == 1002 and process.returncode == 0


def test_parquet_keeps_types(project, tmp_path):
    file = tmp_path / "it's.parquet"
    done = call(project, "--parquet", file, TYPES + " -- the end")
    assert done.exit_code == 0 and done.stdout == "" and "1 rows in" in done.stderr
    with duckdb.connect() as con:
        found = con.execute("from read_parquet(?)", [str(file)])
        types = {column[0]: str(column[1]) for column in found.description}
    assert types["i"] == "TINYINT" and types["d"] == "DECIMAL(9,2)" and types["l"] == "INTEGER[]"
    assert types["t"] == "TIMESTAMP" and types["day"] == "DATE" and types["b"] == "BLOB"
    assert types["s"].startswith("STRUCT") and types["m"].startswith("MAP")
    assert list(tmp_path.glob("*.partial")) == []


def test_parquet_is_whole_or_as_it_was(project, tmp_path):
    file = tmp_path / "x.parquet"
    assert call(project, "--parquet", file, "from labels_now;").exit_code == 0
    before = file.read_bytes()
    refused(call(project, "--parquet", file, "from labels_now"), "is there already", "--force")
    refused(call(project, "--force", "--parquet", file, "from nowhere"), "nowhere")
    refused(call(project, "--force", "--parquet", file, "--timeout", 0.3, BOMB), "stopped", code=3)
    assert file.read_bytes() == before and len(list(tmp_path.glob("x.parquet*"))) == 1
    args = ["--force", "--parquet", file, "--max-rows", 2]
    assert "2 rows" in call(project, *args, "from clips order by path desc").stderr
    found = duckdb.sql(f"select path from '{file}'").fetchall()
    assert found == [("2.wav",), ("1.wav",)]


def test_parquet_never_goes_where_it_must_not(project, tmp_path):
    (tmp_path / "alias").symlink_to(project.audio_dir)
    (tmp_path / "link.parquet").symlink_to(project.store.path)
    os.link(project.store.path, tmp_path / "hard.parquet")
    store = project.store.path.read_bytes()
    for file, says in {
        project.audio_dir / "x.parquet": "in the audio folder",
        tmp_path / "alias" / "x.parquet": "in the audio folder",
        project.store.path: "belongs to the project",
        project.root / "labels.duckdb.wal": "belongs to the project",
        project.root / "labelkit.toml": "belongs to the project",
        project.work / "x.parquet": "belongs to the project",
        tmp_path / "link.parquet": "belongs to the project",
        tmp_path / "hard.parquet": "belongs to the project",
        tmp_path / "nowhere" / "x.parquet": "give a name in a folder",
        tmp_path: "give a name in a folder",
    }.items():
        refused(call(project, "--force", "--parquet", file, "from clips"), says)
    assert project.store.path.read_bytes() == store and list(project.audio_dir.iterdir()) == []


def test_parquet_without_room_is_told(project, tmp_path):
    file, sql = tmp_path / "x.parquet", "select md5(range::varchar) from range(100000)"
    command = [sys.executable, "-m", "labelkit", "-C", project.root, "query", "--parquet", file]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 100; exec "$@"', "-", *map(str, command), sql],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "has no room" in done.stderr and done.stdout == ""
    assert done.stderr.count("\n") == 1 and list(tmp_path.glob("x.parquet*")) == []


def test_predictions_beside_the_store_are_read_and_nothing_else(project, tmp_path):
    name = f".labelkit/predictions/{'0' * 16}.parquet"
    (project.work / "predictions").mkdir()
    with project.store.connect(read_only=False) as con:
        con.execute(
            "copy (select 'r' as run_id, clip_id, [0.25::float, 0.75] as probs, 1 as top_class "
            f"from clips) to '{project.root / name}'"
        )
        con.execute("insert into prediction_files values ('r', ?, 3)", [name])
        create_predictions(con)
    assert rows(project, "select probs from predictions") == [([0.25, 0.75],)] * 3
    before = (project.root / name).read_bytes()
    for sql in (
        f"from read_csv('{tmp_path / 'x.csv'}')",
        f"explain analyze copy clips to '{project.root / name}' (use_tmp_file false)",
    ):
        with pytest.raises(InvalidInput):
            rows(project, sql)
    assert (project.root / name).read_bytes() == before


def test_the_past_can_be_asked(project):
    sql = "select labels from labels_now where path = '2.wav'"
    assert json.loads(call(project, "--json", sql).stdout) == [{"labels": ["Dog"]}]
    then = call(project, "--json", "--as-of", 1, sql)
    assert json.loads(then.stdout) == [{"labels": ["Rain, heavy"]}]
    past = open_project(project.root)
    past.store.as_of = "1"
    assert query(past.store, sql, timeout_s=20).rows == [(["Rain, heavy"],)]


@pytest.mark.parametrize(
    "sql",
    [
        "explain analyze copy (select 1) to '{}' (format csv, use_tmp_file false)",
        "explain/**/analyze copy (select 1) to '{}' (format csv, use_tmp_file false)",
        "explain /* /* */ select 1 -- */ analyze copy (select 1) to '{}' (use_tmp_file false)",
        "copy (select 1) to '{}' (format csv, use_tmp_file false)",
    ],
)
def test_the_library_never_writes_over_the_store(project, sql):
    before = project.store.path.read_bytes()
    with pytest.raises(InvalidInput, match=r"one SELECT is needed|Parser Error"):
        query(project.store, sql.format(project.store.path), timeout_s=20)
    assert project.store.path.read_bytes() == before


def test_the_library_stops_in_time(project):
    with pytest.raises(StoreError, match=r"stopped after 0.2 s"):
        query(project.store, BOMB, timeout_s=0.2)
    # An interrupt before there is anything to interrupt is not lost.
    with pytest.raises(StoreError, match=r"stopped after 1e-06 s"):
        query(project.store, BOMB, timeout_s=1e-6)
    assert query(project.store, "select 1", timeout_s=20).rows == [(1,)]


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize(
    "sql", ["select list(range) from range(10000000000)", "select repeat('x', 1000000000)"
            " || range from range(9)"],
)  # fmt: skip
def test_memory_is_limited_and_so_named(project, sql):
    with pytest.raises(StoreError, match="for lack of memory"):
        rows(project, sql, max_rows=100)


def test_errors_of_the_process_arrive_as_what_they_are(project, monkeypatch):
    with project.store.write():
        done = CliRunner().invoke(
            cli, ["-C", str(project.root), "--lock-timeout", "0.1", "query", "select 1"]
        )
        refused(done, f"PID {os.getpid()}", code=75)
        project.store.timeout_s = 0.1
        with pytest.raises(StoreBusy):
            rows(project, "select 1")
    project.store.path.write_bytes(b"rubbish" * 1000)
    refused(call(project, "select 1"), "labels.duckdb", code=3)
    project.store.path.unlink()
    refused(call(project, "select 1"), "does not exist", code=3)


def test_a_process_that_dies_is_told(project, monkeypatch):
    monkeypatch.setattr(sandbox, "_START", "import os; {path}; os.abort()")
    with pytest.raises(StoreError, match="ended by SIGABRT, likely for lack of memory"):
        rows(project, "select 1")
    monkeypatch.setattr(sandbox, "_START", "import os; {path}; os._exit(7)")
    with pytest.raises(StoreError, match="ended with code 7"):
        rows(project, "select 1")


def test_an_answer_never_runs_anything(project, monkeypatch, tmp_path):
    evil = pickle.dumps(("started", None)) + pickle.dumps(("answer", Evil(tmp_path / "made")))
    monkeypatch.setattr(sandbox, "_START", f"import os; {{path}}; os.write(1, {evil!r})")
    with pytest.raises(LabelkitError, match="the answer cannot be read"):
        rows(project, "select 1")
    assert not (tmp_path / "made").exists()


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_the_store_is_free_while_an_answer_is_read(project):
    before = children(os.getpid())
    with sandbox.ask(project.store, "from range(1000000)", timeout_s=20) as reply:
        assert next(reply.batches)[0] == (0,)
        project.store.timeout_s = 1
        with project.store.write() as session:
            assert session.last_batch() == 2
        assert sum(map(len, reply.batches)) == 1_000_000 - 2000
    assert children(os.getpid()) == before


def test_modules_of_the_current_folder_are_not_taken_in(project, tmp_path):
    (tmp_path / "here").mkdir()
    for name in ("duckdb", "pytz", "json", "labelkit"):
        (tmp_path / "here" / f"{name}.py").write_text("raise SystemExit('taken in')")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "labelkit", "-C", project.root, "query", "--csv", "select 1"],
        cwd=tmp_path / "here", capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n1\n", "")


@pytest.fixture
def running(project):
    """A command that will take a minute, and the process that answers it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "labelkit", "-C", project.root, "query", "--timeout", "60", BOMB],
        env=os.environ | {"LABEL_STUDIO_API_KEY": "secret"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # What runs in the background has Ctrl-C ignored, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        wait_for(lambda: children(process.pid))
        (child,) = children(process.pid)
        # No file can be opened once the statement runs.
        wait_for(lambda: limit(child, "Max open files") == "0")
        yield process, child
    finally:
        process.kill()
        process.communicate()


def limit(pid, name):
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith(name):
            return line.removeprefix(name).split()[0]
    raise LookupError(name)


@pytest.mark.slow
def test_ctrl_c_ends_the_process_that_answers(running):
    process, child = running
    assert limit(child, "Max address space") == str(sandbox.MEMORY)
    assert limit(child, "Max file size") == limit(child, "Max core file size") == "0"
    assert 120 < int(limit(child, "Max cpu time")) < 200
    assert b"secret" not in Path(f"/proc/{child}/environ").read_bytes()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 130 and stdout == "" and stderr.startswith("Stopped")
    assert stderr.count("\n") == 1 and not Path(f"/proc/{child}").exists()


@pytest.mark.slow
def test_a_killed_command_leaves_no_orphan(running, project):
    process, child = running
    process.kill()
    process.wait()
    wait_for_end([child])
    project.store.timeout_s = 1
    with project.store.write():
        pass
