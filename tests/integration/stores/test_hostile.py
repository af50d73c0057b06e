"""Statements that want to write, to read what is not theirs, or to take the machine down."""

import hashlib
import os
import time
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.config import FormatSpec
from labelkit.labels.importing import import_labels
from labelkit.project import create_project
from labelkit.stores.sandbox import GRACE_S
from tests.support.clips import write_csv
from tests.support.processes import children

TOKEN = "t0k3n-of-somebody-else"
LIMIT_S = 0.5
# What starting a process and opening the store may take beside, on a machine with other work.
SLACK_S = 20.0

# Places: {store} the store, {out} a folder to write to, {secret} a file without its ending.
REFUSED = [
    # Writing files, the store itself most of all.
    "copy clips to '{out}/x.csv'",
    "copy (select 1) to '{store}' (format csv, use_tmp_file false)",
    "copy clips from '{secret}.csv'",
    "copy (select 1) to '/tmp/labelkit_hostile_copy.csv'",
    "copy from database memory to memory",
    "export database '{out}/dump'",
    "import database '{out}'",
    "explain analyze copy (select 1) to '{out}/x.csv'",
    "explain analyze copy (select 1) to '{store}' (format csv, use_tmp_file false)",
    "explain analyze copy (select 1) to '{store}.wal' (format csv, use_tmp_file false)",
    "explain (analyze) copy (select 1) to '{store}' (format csv, use_tmp_file false)",
    "EXPLAIN/**/ANALYZE\ncopy (select 1) to '{store}' (format csv, use_tmp_file false)",
    "explain /* /* */ select 1 -- */ analyze copy (select 1) to '{store}' (use_tmp_file false)",
    "explain analyze explain analyze copy (select 1) to '{store}' (use_tmp_file false)",
    "with x as (copy (select 1) to '{store}' (format csv, use_tmp_file false)) from x",
    "from (copy (select 1) to '{store}' (format csv, use_tmp_file false))",
    "from (explain analyze copy (select 1) to '{store}' (format csv, use_tmp_file false))",
    "from query('copy (select 1) to ''{store}'' (format csv, use_tmp_file false)')",
    "from query('explain analyze copy (select 1) to ''{store}'' (use_tmp_file false)')",
    "describe copy (select 1) to '{store}' (format csv, use_tmp_file false)",
    "from json_execute_serialized_sql(json_serialize_sql('drop table clips'))",
    "from enable_logging(storage := 'file', storage_path := '{out}/log')",
    "from enable_profiling()",
    "from import_database('{out}')",
    "from copy_database('memory', 'labels')",
    # Changing the store.
    "insert into classes values (99, 'x', 1)",
    "update label_events set state = 'verified'",
    "delete from label_events",
    "merge into classes using clips on false when not matched then insert values (9, 'x', 1)",
    "truncate batches",
    "drop table clips",
    "drop view labels_now",
    "alter table clips add column x integer",
    "create table x as select 1",
    "create or replace view labels_now as select 1",
    "create index i on clips (path)",
    "create schema s",
    "create sequence q",
    "create type t as enum ('a')",
    "create trigger t after insert on clips for each statement execute select 1",
    "with x as (insert into classes values (99, 'x', 1) returning *) from x",
    "with x as (delete from batches returning *) select * from x",
    "with x as (update clips set path = '' returning *) select * from x",
    "explain analyze delete from label_events",
    "explain delete from label_events",
    "from force_checkpoint()",
    "checkpoint",
    "force checkpoint",
    "vacuum",
    "analyze",
    "comment on table clips is 'x'",
    # What would stay for, or hide things from, a later statement.
    "create temp table x as select 1",
    "create temp view labels_now as select 'shadow' as path",
    "create or replace temp macro labels_at(x) as table select 1",
    "create secret s (type http, bearer_token 'x')",
    "create persistent secret s (type http, bearer_token 'x')",
    "drop secret s",
    "set variable x = 1",
    "set threads = 64",
    "set memory_limit = '100GB'",
    "set enable_external_access = true",
    "set global lock_configuration = false",
    "set allowed_paths = ['/']",
    "reset enable_external_access",
    "pragma enable_external_access",
    "pragma threads = 64",
    "pragma database_list",
    "prepare p as select 1",
    "execute p",
    "deallocate p",
    "begin",
    "commit",
    "rollback",
    "use memory",
    "call pragma_version()",
    "call force_checkpoint()",
    # Other databases and extensions.
    "attach '{secret}.duckdb' as other",
    "attach '{store}' as other",
    "attach '{store}' as other (read_only false)",
    "attach ':memory:' as other",
    "detach labels",
    "install httpfs",
    "install 'https://127.0.0.1:9/x.duckdb_extension'",
    "load httpfs",
    "load '{secret}.so'",
    "update extensions",
    "from read_duckdb('{secret}.duckdb', table_name := 'secret')",
    "from read_duckdb('{store}', table_name := 'clips')",
    # Several, or none.
    "select 1; select 2",
    "select 1; drop table clips",
    "select 1;\n--\n;copy clips to '{out}/x.csv';",
    "pivot clips on subset using count(*)",
    "",
    ";",
    "-- nothing",
    # Files.
    "from read_text('{secret}.csv')",
    "from read_blob('{secret}.csv')",
    "from read_blob('{store}')",
    "from read_csv('{secret}.csv')",
    "from read_csv_auto('{secret}.csv')",
    "from sniff_csv('{secret}.csv')",
    "from read_json('{secret}.json')",
    "from read_json_auto('{secret}.json')",
    "from read_ndjson_objects('{secret}.json')",
    "from read_parquet('{secret}.parquet')",
    "from parquet_scan('{secret}.parquet')",
    "from parquet_metadata('{secret}.parquet')",
    "from parquet_schema('{secret}.parquet')",
    "from parquet_kv_metadata('{secret}.parquet')",
    "from parquet_bloom_probe('{secret}.parquet', 'secret', 1)",
    "from '{secret}.csv'",
    "from '{secret}.json'",
    "from '{secret}.parquet'",
    "from '{secret}.duckdb'",
    "from '{secret}.c*v'",
    "from query_table('{secret}.csv')",
    "from query('from ''{secret}.csv''')",
    "select (from read_text('{secret}.csv') select content)::integer",
    "from glob('{secret}*')",
    "from glob('/etc/*')",
    "from read_text('/proc/self/environ')",
    "from read_blob('/proc/self/mem')",
    "from read_text('/dev/stdin')",
    "from read_text('/dev/fd/0')",
    "from read_text('/etc/passwd')",
    "from read_text('{out}/../store/labelkit.toml')",
    "from read_text('file://{secret}.csv')",
    "from read_csv(['{secret}.csv'], union_by_name := true)",
    "describe from '{secret}.csv'",
    "summarize from '{secret}.csv'",
    "explain analyze from '{secret}.csv'",
    "from read_csv('http://127.0.0.1:9/x.csv')",
    "from 'https://127.0.0.1:9/x.parquet'",
    "from read_text('s3://bucket/key')",
    # This process.
    "from secret_frame",
    "select * from os",
    "select getenv('LABELKIT_HOSTILE')",
    "from query_table('secret_frame')",
    "from pandas_scan(1)",
    "from arrow_scan_dumb(1, 1, 1)",
    # More than a value can hold.
    "select repeat(repeat('x', 1000000), 100000)",
    "select range(10000000000)",
    # Text that is none.
    "select 1 \0; drop table clips",
    "drop table clips\0",
    "select '\ud800'",
    "\ufeff\u202edrop table clips",
    "d\u200brop table clips",
    "\uff53elect 1; \uff44rop table clips",
    "select " + "(" * 50_000 + "1" + ")" * 50_000,
    "select " + "not " * 50_000 + "true",
    "select " + "[" * 20_000 + "]" * 20_000,
    "select " * 5000,
    "'" * 99_999,
    "/*" * 50_000,
]

# All of these would take minutes or more memory than there is.
STOPPED = [
    "select repeat('x', 2000000000)",
    "select list(range) from range(10000000000)",
    "select string_agg(range, ',') from range(10000000000)",
    "select lpad('', 2147483647, 'x') || lpad('', 2147483647, 'x')",
    "select max(len(x)) from (select repeat('x', 900000000 + range::int) as x from range(1000))",
    "from range(3000000000) order by hash(range)",
    "select range % 1000000000 as k, count(*) from range(3000000000) group by k",
    "select count(*) from range(1000000000) a, range(1000000000) b",
    "select count(*) from range(1000000) a join range(1000000) b on a.range < b.range "
    "where hash(a.range + b.range) = 1",
    "with recursive x as (select 1 as n union all select n + 1 from x) select max(n) from x",
    "with recursive x as (select 1 as n union all select n + 1 from x, range(9)) from x",
    "select sum(hash(range)) from range(1000000000000)",
    "select regexp_matches(repeat('a', 1000000), '(a?){1000}a{1000}') from range(1000000000)",
    "select levenshtein(repeat('a', 100000), repeat('b', 100000))",
    "select count(*) from clips a, clips b, clips c, clips d, clips e, clips f, clips g, "
    "range(100000) h",
    " union ".join(f"select {n} as x" for n in range(20_000)),
    "select " + ", ".join(f"(select count(*) from range({n}))" for n in range(20_000)),
    "from clips where " + " or ".join(f"path = hash(clip_id + {n})" for n in range(900)) + " or "
    "(select count(*) from range(1000000000) a, range(1000000000) b) = clip_id",
    "select * from range(1000000000)",
    "select repeat('x', 1000) from range(1000000000)",
    "select unnest(range(1000000000))",
    "explain analyze select count(*) from range(1000000000) a, range(1000000000) b",
    "summarize from range(10000000000)",
]  # fmt: skip

ANSWERED = [
    ("with x as (select 1 as n) from x", ["n"]),
    ("values (1), (2);", ["col0"]),
    ("describe labels_now", ["column_name"]),
    ("summarize clips", ["column_name"]),
    ("show tables", ["name"]),
    ("explain from labels_now", ["explain_key"]),
    ("explain analyze select 1", ["explain_key"]),
    ("-- why\nexplain (format json) select 1", ["explain_key"]),
    ("from labels_now", ["clip_id"]),
    ("from labels_at(1)", ["clip_id"]),
    ("from (pivot clips on subset in ('train', 'test') using count(*))", ["clip_id"]),
    ("select ';' as a, '--' as b -- ; drop table clips", ["a"]),
    ("from query('select 1 as one')", ["one"]),
    ("from query_table('clips')", ["clip_id"]),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A project, a folder one is in, one to write to, and files of somebody else's."""
    root = tmp_path_factory.mktemp("hostile")
    for name in ("store", "store/audio", "here", "out", "others"):
        (root / name).mkdir()
    project, _ = create_project(root / "store", root / "store" / "audio")
    source = write_csv(
        root / "others" / "labels.csv", ("fname", "label"), [(f"{n}.wav", "Dog") for n in range(50)]
    )
    import_labels(project, source, "csv", FormatSpec(), metadata_only=True)
    secret = root / "others" / "secret"
    pd.DataFrame({"secret": [TOKEN]}).to_csv(f"{secret}.csv", index=False)
    Path(f"{secret}.json").write_text(f'{{"secret": "{TOKEN}"}}\n')
    Path(f"{secret}.so").write_text(TOKEN)
    with duckdb.connect(f"{secret}.duckdb") as con:
        con.execute(f"create table secret as select '{TOKEN}' as secret")
        con.execute(f"copy secret to '{secret}.parquet'")
    return {"root": root, "store": project.store.path, "out": root / "out", "secret": secret}


@pytest.fixture
def attack(places, monkeypatch):
    """Runs a statement as the command line does, and sees to it that nothing else happened."""
    monkeypatch.chdir(places["root"] / "here")
    monkeypatch.setenv("LABELKIT_HOSTILE", TOKEN)
    before, here = snapshot(places["root"]), children(os.getpid())

    def run(sql, *options, limit_s=20.0):
        # What a replacement scan would find in the frames of this process.
        secret_frame = pd.DataFrame({"secret": [TOKEN]})
        start = time.monotonic()
        words = ["-C", str(places["root"] / "store"), "query", "--timeout", str(limit_s)]
        done = CliRunner().invoke(cli, [*words, *map(str, options), "--", fill(sql, places)])
        assert len(secret_frame) == 1
        assert time.monotonic() - start < limit_s + GRACE_S + SLACK_S
        assert TOKEN not in done.output
        return done

    yield run
    assert snapshot(places["root"]) == before
    assert children(os.getpid()) == here
    assert not list(Path("/tmp").glob("labelkit_hostile_*"))


def fill(sql, places):
    for name in ("store", "out", "secret"):
        sql = sql.replace(f"{{{name}}}", str(places[name]))
    return sql


def snapshot(root):
    return {
        path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file() else None
        for path in root.rglob("*")
    }  # fmt: skip


def name(sql):
    return " ".join(ascii(sql[:60])[1:-1].split())


def test_there_are_enough_of_them():
    assert len(set(REFUSED + STOPPED)) == len(REFUSED + STOPPED) >= 60


@pytest.mark.parametrize("sql", REFUSED, ids=name)
def test_is_refused(attack, sql):
    done = attack(sql, "--json")
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("sql", STOPPED, ids=name)
def test_is_stopped(attack, sql):
    done = attack(sql, "--csv", limit_s=LIMIT_S)
    assert done.exit_code == 3, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert "stopped" in done.stderr or "process that answered was ended" in done.stderr


@pytest.mark.parametrize("sql, columns", ANSWERED, ids=[name(sql) for sql, _ in ANSWERED])
def test_is_answered(attack, sql, columns):
    done = attack(sql, "--csv")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0].split(",")[: len(columns)] == columns


@pytest.mark.parametrize(
    "sql",
    [
        "select 1) to '{out}/y.csv' (format csv); --",
        "select 1\n) to '{out}/y.csv' (format csv); select (1",
        "from read_text('{secret}.csv')",
        "copy clips to '{out}/y.csv'",
        "explain analyze copy (select 1) to '{store}' (format csv, use_tmp_file false)",
        "explain select 1",
        "with x as (insert into classes values (99, 'x', 1) returning *) from x",
    ],
)
def test_parquet_writes_nothing_but_its_file(attack, places, sql):
    done = attack(sql, "--parquet", places["out"] / "x.parquet")
    assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.output


@pytest.mark.slow
@pytest.mark.parametrize(
    "sql",
    [
        "select md5(range::varchar) as x, uuid() as u from range(10000000000)",
        "select repeat('x', 2000000000)",
        "select count(*) from range(1000000000) a, range(1000000000) b",
    ],
)
def test_parquet_that_is_stopped_leaves_nothing(attack, places, sql):
    done = attack(sql, "--parquet", places["out"] / "x.parquet", limit_s=LIMIT_S)
    assert done.exit_code == 3 and done.stderr.count("\n") == 1, done.output
