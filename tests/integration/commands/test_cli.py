"""The command line: stdout is data, one line an error, exit codes, JSON."""

import json
import os
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from labelkit.cli import cli
from tests.support.clips import write_csv
from tests.support.projects import copy_tones

COMMANDS = (
    "init import check features folds recipes train verify score classes select missing undo "
    "duplicates similar embed rehearse review push pull status history query demo log blame diff "
    "sql export changes backup restore doctor gc label labels"
).split()


def call(*args, cwd=None):
    runner = CliRunner()
    return runner.invoke(cli, [*(["-C", str(cwd)] if cwd else []), *map(str, args)])


@pytest.fixture(scope="module")
def labelled(tones, tmp_path_factory):
    """The folder of the tones and a project with their labels; only ever read."""
    folder = tmp_path_factory.mktemp("labelled")
    project = copy_tones(tones, folder)
    rows = [(f"{n}.wav", "Low" if n % 2 else "High", n % 3 == 0) for n in range(6)]
    source = write_csv(project.root / "x.csv", ("fname", "label", "ok"), [
        (name, label, int(ok)) for name, label, ok in rows
    ])  # fmt: skip
    done = call("import", source, "--format", "csv", "--verified-column", "ok", cwd=project.root)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def project(labelled, tmp_path):
    """A copy to write to."""
    return copy_tones(labelled, tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    done = call(command, "--help")
    assert done.exit_code == 0 and len(cli.commands[command].help.split()) > 3


def test_these_are_all_commands():
    assert sorted(cli.commands) == sorted(COMMANDS)


@pytest.mark.parametrize("command", sorted(cli.commands["review"].commands))
def test_every_review_command_explains_itself(command):
    done = call("review", command, "--help")
    assert done.exit_code == 0
    assert len(cli.commands["review"].commands[command].help.split()) > 3


@pytest.mark.parametrize(
    "words, says",
    [
        ("push", "one of --lowest-lwlrap N"),
        ("push --lowest-lwlrap 3 --missing 2", "one of --lowest-lwlrap N"),
        ("push --lowest-lwlrap 3 --lowest fusion 3", "exclude one another"),
        ("push --lowest-lwlrap 3", "labelkit review init"),
        *(
            (f"push {choice} {n}", f"{n} clips cannot be sent; give 1 or more")
            for choice in ("", "--missing", "--lowest-lwlrap", "--lowest fusion")
            for n in ("0", *(["-1"] if choice else []))
        ),
        ("push --missing 0 --clips x.txt", "one of --lowest-lwlrap N"),
        ("push 0 --missing 2", "one of --lowest-lwlrap N"),
        ("pull", "labelkit review init"),
        ("pull --full --from x.json", "--from excludes"),
        ("review status", "labelkit review init"),
        ("review repair --rename Dog", "OLD=NEW"),
        ("review init --url ftp://x --project abc", "ftp://x"),
        ("review init --url http://127.0.0.1:9 --project ab", "3 to 50"),
        ("review init --url http://127.0.0.1:9 --project abc --audio url", "go together"),
        ("review init --url http://127.0.0.1:9 --project abc --overlap 0", "overlap must be"),
    ],
)
def test_reviews_that_cannot_be(project, monkeypatch, words, says):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "a.b.c")
    done = call(*words.split(), cwd=project.root)
    # What is not set up yet is no wrong usage.
    code = 1 if says == "labelkit review init" else 2
    assert done.exit_code == code and says in done.stderr, done.output


def test_init_twice_is_harmless_and_another_folder_is_refused(tmp_path):
    (tmp_path / "audio").mkdir()
    for _ in range(2):
        assert call("init", tmp_path / "audio", cwd=tmp_path).exit_code == 0
    toml = (tmp_path / "labelkit.toml").read_text()
    done = call("init", tmp_path, cwd=tmp_path)
    assert done.exit_code == 2 and "has a project on" in done.stderr
    assert (tmp_path / "labelkit.toml").read_text() == toml
    done = call("init", tmp_path / "nowhere", cwd=tmp_path)
    assert done.exit_code == 2 and "is not a folder" in done.stderr


def test_a_project_is_found_from_below_and_by_its_variable(project, monkeypatch):
    below = project.root / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert call("status").exit_code == 0
    monkeypatch.chdir("/")
    assert call("status").exit_code == 2
    monkeypatch.setenv("LABELKIT_PROJECT", str(project.root))
    assert call("status").exit_code == 0


def test_query_prints_a_table_and_json(project):
    sql = "select path, labels, state, made_at from labels_now order by path limit 2"
    table = call("query", sql, cwd=project.root)
    assert table.stdout.splitlines()[0].split() == ["path", "labels", "state", "made_at"]
    rows = json.loads(call("query", "--json", sql, cwd=project.root).stdout)
    assert [(r["path"], r["labels"], r["state"]) for r in rows] == [
        ("0.wav", ["High"], "verified"), ("1.wav", ["Low"], "unverified"),
    ]  # fmt: skip
    assert rows[0]["made_at"].endswith("Z") and "T" in rows[0]["made_at"]


@pytest.mark.parametrize(
    "sql",
    [
        "insert into classes values (9, 'x', 1)", "drop table clips", "select 1; select 2", "",
        "copy clips to '/tmp/x.csv'", "attach '/tmp/x.duckdb'", "set threads = 1",
        "select * from read_csv('/etc/passwd')", "select * from read_text('/etc/passwd')",
        "install httpfs", "create temp table t as select 1", "selec 1", "select * from nowhere",
    ],
)  # fmt: skip
def test_query_only_reads_the_store(project, sql):
    done = call("query", sql, cwd=project.root)
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


def test_query_stops_in_time(project):
    sql = "select count(*) from range(1000000000) a, range(1000000000) b"
    done = call("query", "--timeout", "0.3", sql, cwd=project.root)
    assert done.exit_code == 3 and "stopped after 0.3 s" in done.stderr


def test_query_tells_columns_of_one_name_apart(project):
    rows = json.loads(call("query", "--json", "select 1 as a, 2 as a", cwd=project.root).stdout)
    assert rows == [{"a": 1, "a_2": 2}]


def test_json_holds_whatever_sql_returns(project):
    sql = (
        "select 1.5 as n, 'nan'::double as x, date '2026-01-02' as d, [1.5, 'inf'::float] as l, "
        "{'a': [2]} as s, map {1: 2} as m, interval 1 day as i, 'a'::blob as b, uuid() as u"
    )
    row = json.loads(call("query", "--json", sql, cwd=project.root).stdout)[0]
    assert row["n"] == 1.5 and row["x"] is None and row["l"] == [1.5, None]
    assert row["d"] == "2026-01-02" and row["s"] == {"a": [2]} and row["m"] == {"1": 2}


def test_history_shows_every_event(project):
    source = project.root / "c.json"
    source.write_text('{"1.wav": "High"}')
    call("import", source, "--format", "corrections", cwd=project.root)
    rows = json.loads(call("history", "--json", "1.wav", cwd=project.root).stdout)
    assert [(r["state"], r["labels"]) for r in rows] == [
        ("unverified", ["Low"]),
        ("relabeled", ["High"]),
    ]
    done = call("history", "11.wav", cwd=project.root)
    assert done.exit_code == 2 and "did you mean '1.wav'" in done.stderr


def test_folds_are_printed_by_class(project):
    rows = json.loads(call("folds", "--n", "2", "--json", cwd=project.root).stdout)
    assert [r["class"] for r in rows] == ["High", "Low"]
    assert all(abs(r["fold 0"] - r["fold 1"]) <= 1 for r in rows)
    again = call("folds", "--json", cwd=project.root)
    assert json.loads(again.stdout) == rows


def test_check_lists_and_counts(project):
    rows = json.loads(call("check", "--fast", "--json", cwd=project.root).stdout)
    assert {r["issue"] for r in rows} == {"short"} and all(r["used"] for r in rows)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["verify", "--recipe", "quik"], "did you mean 'quick'"),
        (["verify", "--set", "epoch=3"], "did you mean 'epochs'"),
        (["verify", "--set", "epochs=three"], "epochs must be int, got 'three'"),
        (["verify", "--set", "epochs=0"], "epochs must be at least 1, got 0"),
        (["verify", "--set", "epochs"], "--set takes key=value"),
        (["verify", "--set", "finetuning.epochs=3"], "did you mean 'finetune'"),
        (["verify", "--set", "model.name=dense"], "no model called 'dense'"),
        (["verify", "--threshold", "-1"], "threshold must be from 0 to 1, got -1"),
        (["verify", "--set", "lr=inf"], "lr must be at least 0, got inf"),
        (["verify", "--set", "=3"], "--set takes key=value"),
        (["import", "x.csv", "--format", "csv", "--separator", ""], "separator must not be empty"),
        (["score", "--run", "nothing"], "no finished run 'nothing'"),
    ],
)
def test_bad_words_name_value_and_remedy(project, args, message):
    done = call(*args, cwd=project.root)
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_debug_shows_where_an_error_comes_from(project):
    done = CliRunner().invoke(cli, ["-C", str(project.root), "--debug", "classes"])
    assert type(done.exception).__name__ == "NotYet"


@pytest.mark.slow
def test_a_busy_store_has_its_own_exit_code(project):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from labelkit.stores.labels import LabelStore\n"
        "with LabelStore(Path(sys.argv[1])).write(): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(project.store.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        start = time.monotonic()
        done = call("--lock-timeout", "0.2", "status", cwd=project.root)
        assert done.exit_code == 75 and f"PID {holder.pid}" in done.stderr
        assert time.monotonic() - start < 30
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


@pytest.mark.slow
def test_a_closed_pipe_is_no_traceback(project):
    command = f"{sys.executable} -m labelkit -C {project.root} query 'from range(100000)' | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=os.environ)
    assert "Traceback" not in done.stderr
