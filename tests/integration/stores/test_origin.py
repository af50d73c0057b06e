"""A store from elsewhere: what it says of itself is not believed because it opens."""

import json
import os
import shutil

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.config import FormatSpec
from labelkit.errors import InvalidInput, StoreError
from labelkit.labels.importing import import_labels
from labelkit.maintenance.backup import backup, restore
from labelkit.maintenance.doctor import examine
from labelkit.maintenance.repair import repair
from labelkit.paths import is_clip_path
from labelkit.project import create_project, open_project
from labelkit.records import Batch, Clip
from labelkit.stores.arrays import ArrayStore, Entry
from labelkit.stores.catalog import find_altered
from labelkit.stores.origin import find_faults, is_noted, note_path
from tests.support.clips import write_csv, write_tone

MARK = "words of a file that is none of the store's"
NOW = (("0.wav", ["Dog"]), ("1.wav", ["Rain"]), ("2.wav", ["Dog"]))


@pytest.fixture
def project(tmp_path):
    audio = tmp_path / "p" / "audio"
    audio.mkdir(parents=True)
    for k in range(3):
        write_tone(audio / f"{k}.wav", 300 + 50 * k, seconds=0.1)
    project, _ = create_project(tmp_path / "p", audio)
    rows = [[path, labels[0]] for path, labels in NOW]
    import_labels(project, write_csv(tmp_path / "l.csv", ["fname", "label"], rows), "csv",
                  FormatSpec())  # fmt: skip
    (tmp_path / "elsewhere.txt").write_text(MARK)
    return project


def change(store, *statements):
    """Change a store with the database's own means, as somebody else would."""
    with duckdb.connect(str(store)) as con:
        for statement in statements:
            con.execute(statement)


def labels(project):
    with project.store.read() as session:
        return tuple(session.rows("select path, labels from labels_now order by clip_id"))


def problems(project):
    return {finding.check: finding for finding in examine(project) if finding.state == "problem"}


def call(project, *words):
    return CliRunner().invoke(cli, ["-C", str(project.root), *map(str, words)])


def altered(tmp_path):
    """Views of the store's names that say something else, one of them from a file outside."""
    text = f"(select content from read_text('{tmp_path / 'elsewhere.txt'}'))"
    return [
        "create or replace view labels_now as select c.clip_id, c.path, "
        f"[{text}] as labels, 'verified' as state, 't' as source, now()::timestamp as made_at, "
        "null::varchar as run_id, null::integer as iteration, null::double as score, "
        "0::bigint as event_id, 1::bigint as batch_id, null::varchar as group_name, "
        "'train' as subset from clips c",
        f"create or replace view flips as select {text} as path",
        f"create or replace macro labels_at(moment) as table select {text} as path",
        # Two columns have changed their names, and nothing else.
        "create or replace view flips (flip_at, clip_id) as select clip_id, now() from clips",
        "create or replace view Review_Queue as select 1 as x",
        # The last of two bodies is right.
        "create or replace macro labels_at(text VARCHAR) as table (select 'x' as path), "
        "(moment) as table (select 'x' as path)",
    ]


ALTERED = range(6)


@pytest.mark.parametrize("number", ALTERED)
def test_views_are_those_of_the_code(project, tmp_path, number):
    change(project.store.path, altered(tmp_path)[number])
    assert not is_noted(project.store.path)
    found = problems(project)
    assert set(found) <= {"views", "replay"} and "not what labelkit makes: " in found["views"].what
    # A reader has its own, a writer makes them anew.
    assert labels(project) == NOW
    done = call(project, "query", "--csv", "select path from labels_at('2999-01-01')")
    assert done.exit_code == 0 and MARK not in done.stdout and "0.wav" in done.stdout
    assert problems(project)
    with project.store.write():
        pass
    assert not problems(project) and is_noted(project.store.path) and labels(project) == NOW


@pytest.mark.parametrize("number", ALTERED)
def test_a_restored_store_has_the_views_of_the_code(project, tmp_path, number):
    backup(project, tmp_path / "b")
    change(tmp_path / "b", altered(tmp_path)[number])
    with duckdb.connect(str(tmp_path / "b")) as con:
        said = con.execute("select comment from duckdb_views() where view_name = 'taken_back'")
        assert len(said.fetchone()[0]) == 64
    restore(project, tmp_path / "b")
    with project.store.opened(read_only=True) as con:
        assert find_altered(con) == []
    assert labels(project) == NOW and not problems(project)


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("max_by", "create macro max_by(a, b) as 'nothing'"),
        ("list_transform", "create macro list_transform(a, b) as ['nothing']"),
        ("regexp_matches", "create macro regexp_matches(a, b) as false"),
        ("duckdb_views", "create macro duckdb_views() as table select 'x' as view_name"),
        ("labels_at", "create macro labels_at(moment) as 'nothing'"),
        ("read_parquet", "create macro read_parquet(a) as table select 1 as run_id"),
        ("answers", "create type answers as enum ('a')"),
        ("zz", "create schema zz; create view zz.labels_now as select 1 as clip_id"),
        ("b c", 'create schema "b c"; create macro "b c".max_by(a, b) as 1'),
        ("_", "create schema _; create table _.clips (path varchar)"),
    ],
)
def test_functions_of_somebody_else_answer_nothing(project, tmp_path, name, statement):
    backup(project, tmp_path / "b")
    change(tmp_path / "b", statement)
    change(project.store.path, statement)
    for words in (["status"], ["log"], ["query", "select 1"], ["train"], ["undo", "1"]):
        done = call(project, *words)
        assert done.exit_code == 3 and done.stderr.count("\n") == 1, done.output
        assert f"labelkit did not make ({name})" in done.stderr
        assert "labelkit doctor --repair" in done.stderr
    [found] = problems(project).values()
    assert found.check == "origin" and name in found.what and "--repair" in found.remedy
    lines = []
    repair(project, lines.append)
    assert f"removed '{name}', which labelkit did not make" in lines
    assert labels(project) == NOW and not problems(project)
    restore(project, tmp_path / "b")
    assert labels(project) == NOW and not problems(project)


PATHS = ("../outside.wav", "/etc/hostname", "a/../../outside.wav", "a//b.wav", "./a.wav", "",
         "a/", "..", "a\nb.wav", "a/./b.wav")  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_paths_stay_below_the_audio_folder(project, tmp_path, path):
    assert not is_clip_path(path)
    backup(project, tmp_path / "b")
    quoted = path.replace("'", "''")
    for store in (tmp_path / "b", project.store.path):
        change(store, f"update clip_rows set path = '{quoted}' where clip_id = 1")
    for words in (["status"], ["check"], ["export", tmp_path / "e.csv", "--format", "csv"]):
        done = call(project, *words)
        assert done.exit_code == 3 and done.stderr.count("\n") == 1, done.output
        assert "does not stay below the audio folder" in done.stderr
        assert "labelkit restore FILE" in done.stderr
    assert "does not stay below" in problems(project)["origin"].what
    with pytest.raises(InvalidInput, match="does not stay below the audio folder"):
        restore(project, tmp_path / "b")
    # Nor does such a clip come in.
    other, _ = create_project(tmp_path / "other", project.audio_dir)
    with pytest.raises(StoreError, match="does not stay below"), other.store.write() as session:
        clip = Clip(path=path, labels=("Dog",))
        session.append(
            Batch(key="1", kind="t", actor="a", by_person=True, classes=["Dog"], clips=[clip])
        )


def test_odd_paths_may_be_right():
    for path in ("a.wav", "a/b c.wav", "...wav", "..a/b", "a/.hidden.wav", "a..b.wav", "é/ü.wav",
                 ".../a.wav", "a\\b.wav"):  # fmt: skip
        assert is_clip_path(path)


@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../x.parquet", ".labelkit/predictions/../../labels.duckdb",
             ".labelkit/predictions/x.parquet", "https://127.0.0.1:1/0123456789abcdef.parquet"],
)  # fmt: skip
def test_no_file_is_opened_for_predictions_but_ours(project, tmp_path, name):
    backup(project, tmp_path / "b")
    for store in (tmp_path / "b", project.store.path):
        change(store, f"insert into prediction_files values ('r', '{name}', 3)")
    done = call(project, "query", "select * from predictions")
    assert done.exit_code == 3 and "is no file of predictions" in done.stderr
    assert "is no file of predictions" in problems(project)["origin"].what
    with pytest.raises(InvalidInput, match="is no file of predictions"):
        restore(project, tmp_path / "b")


@pytest.mark.parametrize(
    ("table", "statements"),
    [
        ("clip_rows", ["alter table clip_rows rename to c", "create view clip_rows as from c"]),
        ("runs", ["alter table runs add column extra varchar"]),
        ("score_rows", ["drop table score_rows"]),
        ("review_pulls", ["alter table review_pulls alter project type blob"]),
        ("labels_now", ["drop view labels_now", "create table labels_now as from current_events"]),
        ("Flips", ["drop view flips", "create table Flips (path varchar)"]),
        ("score_rows", ["alter table score_rows alter value set default 0.5"]),
        (
            "clip_rows",
            [
                "drop table clip_rows",
                "create table clip_rows (clip_id bigint, content_hash varchar, duration_s double, "
                "group_name varchar, subset varchar, batch_id bigint, "
                "path varchar generated always as ('x/' || content_hash))",
            ],
        ),
    ],
)
def test_tables_are_those_of_this_version(project, tmp_path, table, statements):
    backup(project, tmp_path / "b")
    for store in (tmp_path / "b", project.store.path):
        change(store, *statements)
    with pytest.raises(StoreError, match=f"is not as labelkit makes it: {table} "):
        labels(project)
    assert table in problems(project)["origin"].what
    with pytest.raises(InvalidInput, match="no sound label store"):
        restore(project, tmp_path / "b")


@pytest.mark.parametrize("how", ["pipe", "link", "folder"])
def test_predictions_are_plain_files(project, tmp_path, how):
    name = ".labelkit/predictions/0123456789abcdef.parquet"
    place = project.root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if how == "pipe":
        os.mkfifo(place)
    elif how == "link":
        place.symlink_to(tmp_path / "elsewhere.txt")
    else:
        place.mkdir()
    change(project.store.path, f"insert into prediction_files values ('r', '{name}', 3)")
    with pytest.raises(StoreError, match="is no file of predictions"):
        labels(project)


def test_a_missing_file_of_predictions_vouches_for_no_views(project, tmp_path):
    name = ".labelkit/predictions/0123456789abcdef.parquet"
    change(
        project.store.path,
        f"insert into prediction_files values ('r', '{name}', 3)",
        *altered(tmp_path)[:3],
    )
    backup(project, tmp_path / "b")
    for _ in range(2):
        with project.store.write():
            pass
        assert labels(project) == NOW and not is_noted(project.store.path)
        done = call(project, "query", "--csv", "select path from labels_at('2999-01-01')")
        assert MARK not in done.stdout and "0.wav" in done.stdout
        restore(project, tmp_path / "b")
    with pytest.raises(StoreError, match=f"{name} is not there"), project.store.read() as session:
        session.rows("from predictions")


def test_notes_lie_with_the_user(project):
    note, beside = note_path(project.store.path), project.store.path.parent
    assert note.exists() and beside not in note.parents
    victim = project.root / "victim"
    victim.write_text("mine")
    # A note made ready beside the store is none, and nothing is written through it.
    (beside / "labels.duckdb.closed").symlink_to(victim)
    note.unlink()
    assert labels(project) == NOW and victim.read_text() == "mine" and note.exists()


@pytest.mark.parametrize("read_only", [True, False])
def test_no_connection_reaches_another_file(project, tmp_path, read_only):
    outside, target = tmp_path / "elsewhere.txt", tmp_path / "new.csv"
    for sql in (
        f"from read_text('{outside}')",
        f"from '{outside}'",
        f"copy (select 1) to '{target}'",
        f"attach '{tmp_path / 'other.duckdb'}'",
        "set enable_external_access = true",
        "install httpfs",
    ):
        with (
            pytest.raises(StoreError, match=r"disabled|Cannot|does not exist"),
            project.store.connect(read_only=read_only) as con,
        ):
            con.execute(sql)
    assert not target.exists() and not (tmp_path / "other.duckdb").exists()


def test_a_store_is_known_until_somebody_else_writes_it(project, tmp_path):
    path = project.store.path
    assert is_noted(path)
    before = note_path(path).read_text()
    labels(project)
    assert note_path(path).read_text() == before
    change(path, "comment on table clips is 'seen'")
    assert not is_noted(path)
    # Looked at once, it is known again.
    assert labels(project) == NOW and is_noted(path)
    # A copy brings its note along, which is not of it.
    copied = tmp_path / "copied"
    shutil.copytree(project.root, copied)
    assert not is_noted(copied / path.name)
    there = open_project(copied)
    assert labels(there) == NOW and is_noted(there.store.path)


@pytest.mark.parametrize("note", ["", "{", "[]", "null", "[1, 2, 3, 4]", "\0"])
def test_a_note_that_says_nothing_right_is_none(project, note):
    note_path(project.store.path).write_text(note)
    assert not is_noted(project.store.path) and labels(project) == NOW
    assert is_noted(project.store.path)


def test_a_store_that_cannot_be_noted_is_read_all_the_same(project):
    note_path(project.store.path).unlink()
    note_path(project.store.path).mkdir()
    for _ in range(2):
        assert labels(project) == NOW and not is_noted(project.store.path)


def test_what_others_add_beside_is_left(project):
    change(project.store.path, "create view mine as select 1 as x", "create table notes (a int)")
    assert labels(project) == NOW
    done = call(project, "query", "--json", "from mine")
    assert json.loads(done.stdout) == [{"x": 1}]
    with project.store.opened(read_only=True) as con:
        assert find_faults(con, project.root) == []


@pytest.mark.parametrize("end", [".lock", ".queue", ".door", ".wal"])
def test_links_beside_the_store_are_not_written_through(project, tmp_path, end):
    place = project.store.path.with_name(f"labels.duckdb{end}")
    place.unlink(missing_ok=True)
    place.symlink_to(tmp_path / "elsewhere.txt")
    with pytest.raises(StoreError, match="a link"), project.store.write():
        pass
    assert (tmp_path / "elsewhere.txt").read_text() == MARK


ENTRY = {"path": "0.wav", "size": 1, "mtime_ns": 1, "content_hash": "x", "start": 0, "length": 1,
         "start_s": 0.0, "faults": []}  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [*(json.dumps(ENTRY | change) for change in (
        {"more": 1}, {"start": "a"}, {"start": -1}, {"start": 0.5}, {"length": -1}, {"path": [1]},
        {"content_hash": {}}, {"faults": [1]}, {"faults": "x"}, {"size": None}, {"start": True},
    )), "[" * 100_000, "[]", "3", ""],
    ids=lambda line: line[:20],
)  # fmt: skip
def test_a_journal_of_others_counts_up_to_its_first_odd_line(tmp_path, line):
    store = ArrayStore(tmp_path / "a" / "x.f16", {}, width=1, dtype=np.float16)
    with store.writing():
        store.add(Entry("a.wav", 1, 1, "h"), np.zeros((3, 1), np.float16))
    journal = tmp_path / "a" / "journal.jsonl"
    with journal.open("a") as file:
        file.write(f"{line}\n{json.dumps(ENTRY)}\n")
    again = ArrayStore(tmp_path / "a" / "x.f16", {}, width=1, dtype=np.float16)
    assert list(again.entries) == ["a.wav"]


def test_arrays_are_not_written_through_links(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("journal.jsonl", "x.f16"):
        store = ArrayStore(tmp_path / "a" / "x.f16", {}, width=1, dtype=np.float16)
        store.folder.mkdir(exist_ok=True)
        (store.folder / name).symlink_to(victim)
        with pytest.raises(OSError, match=r"x\.f16|journal"), store.writing():
            pass
        assert victim.read_text() == "mine"
        (store.folder / name).unlink()


def test_what_another_process_added_meanwhile_is_known(tmp_path):
    file = tmp_path / "a" / "x.f16"
    first, second = (ArrayStore(file, {}, width=1, dtype=np.float16) for _ in range(2))
    with second.writing():
        second.add(Entry("a.wav", 1, 1, "h"), np.ones((3, 1), np.float16))
    with first.writing():
        assert first.knows("h") and first.entries["a.wav"].length == 3
        # The same bytes under another name share the rows.
        first.add(Entry("b.wav", 1, 1, "h"), np.ones((3, 1), np.float16))
    assert first.entries["b.wav"].start == 0 and file.stat().st_size == 6
