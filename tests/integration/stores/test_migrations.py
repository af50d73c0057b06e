"""Stores of every earlier schema version come up whole, or stay as they were."""

import shutil

import duckdb
import pytest
from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.errors import StoreError
from labelkit.records import Batch, LabelEvent
from labelkit.stores import schema
from labelkit.stores.labels import LabelStore
from tests.support.paths import DATA

OLD = DATA / "stores_of_old"
VERSIONS = range(1, schema.VERSION)


def make_old(folder, version):
    """A store as labelkit of that day wrote it, with whatever its statements say."""
    path = folder / "labels.duckdb"
    with duckdb.connect(str(path), config={"storage_compatibility_version": "v1.5.0"}) as con:
        con.execute((OLD / f"v{version}.sql").read_text(encoding="utf-8"))
    return LabelStore(path)


def rows(path, sql):
    with duckdb.connect(str(path), read_only=True) as con:
        return con.execute(sql).fetchall()


def shape(path):
    """Columns, constraints, views and macros of a store."""
    return [
        rows(path, sql)
        for sql in (
            "select table_name, column_name, data_type, is_nullable from duckdb_columns() "
            "where not internal order by all",
            "select table_name, constraint_text from duckdb_constraints() order by all",
            "select view_name, sql from duckdb_views() where not internal order by all",
            "select function_name, macro_definition from duckdb_functions() where not internal "
            "and macro_definition is not null order by all",
        )
    ]


def facts(path):
    """What no migration may lose, in the columns that every version has."""
    found = {}
    clips = "clip_id, path, content_hash, duration_s, group_name, subset, batch_id"
    found["clips"] = rows(path, f"select {clips} from clips order by all")
    for table in ("classes", "batches", "label_events", "folds", "runs", "scores"):
        found[table] = rows(path, f"from {table} order by all")
    found["verdicts"] = rows(path, "from label_verdicts order by verdict_id")
    found["predictions"] = rows(path, "select run_id, clip_id, probs from predictions order by all")
    return found


def test_there_is_a_store_of_every_earlier_version():
    assert sorted(OLD.iterdir()) == [OLD / f"v{version}.sql" for version in VERSIONS]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_store_comes_up_with_all_it_held(version, tmp_path, capsys):
    store = make_old(tmp_path, version)
    before, held = facts(store.path), store.path.read_bytes()
    for way in (store.read, store.write):
        with pytest.raises(
            StoreError, match=f"version {version}, {schema.VERSION} is needed.*init"
        ):
            with way():
                pass
    store.create()
    kept = tmp_path / f"labels.duckdb.v{version}"
    assert f"kept as {kept.name}" in capsys.readouterr().err
    assert rows(kept, "select max(number) from schema_migrations") == [(version,)]
    assert facts(kept) == before and len(kept.read_bytes()) == len(held)
    assert facts(store.path) == before
    fresh = LabelStore(tmp_path / "fresh" / "labels.duckdb")
    fresh.path.parent.mkdir()
    fresh.create()
    assert shape(store.path) == shape(fresh.path)
    cat, dog = ["Cat"], ["Dog"]
    with store.read() as session:
        assert session.rows("select path, labels, state from labels_now order by clip_id") == [
            ("dog/0.wav", [*cat, *dog], "verified"),
            ("dog/1.wav", dog, "verified"),
            ("dog/2.wav", [*cat, *dog], "verified"),
            ("dog/3.wav", dog, "unverified"),
            ("dog/4.wav", cat, "relabeled"),
            ("dog/5.wav", *(([*cat, *dog], "relabeled") if version > 3 else ([], "rejected"))),
            ("tëst/löcked 'x'.wav", cat, "verified"),
        ]  # fmt: skip
        assert session.rows("select path, labels from labels_at(3) where clip_id in (3, 4) "
                            "order by clip_id") == [
            ("dog/3.wav", dog), ("dog/4.wav", [*cat, *dog]),
        ]  # fmt: skip
        assert session.rows("select top_class from predictions order by clip_id") == [
            (1,),
            (0,),
            (0,),
        ]
        assert session.taken_back() == [3]
    # It goes on from there; a second time is no migration.
    store.create()
    with store.write() as session:
        event = LabelEvent(clip_id=3, state="rejected", labels=[], source="t")
        session.append(Batch(key="t", kind="t", actor="t", by_person=True, events=[event]))
    assert sorted(path.name for path in tmp_path.glob("labels.duckdb.v*")) == [kept.name]


@pytest.mark.parametrize(
    ("version", "step"), [(v, step) for v in VERSIONS for step in VERSIONS if step >= v]
)
def test_a_step_that_fails_leaves_the_store_as_it_was(version, step, tmp_path, monkeypatch):
    store = make_old(tmp_path, version)
    before = facts(store.path)
    views = rows(store.path, "select view_name, sql from duckdb_views() order by all")
    broken = list(schema.MIGRATIONS)
    number, title, statements = broken[step]
    broken[step] = (number, title, f"{statements}; select error('no power')")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", broken)
        with pytest.raises(StoreError, match="no power"):
            store.create()
    assert facts(store.path) == before
    assert rows(store.path, "select max(number) from schema_migrations") == [(version,)]
    assert rows(store.path, "select view_name, sql from duckdb_views() order by all") == views
    store.create()
    assert rows(store.path, "select max(number) from schema_migrations") == [(schema.VERSION,)]


def test_a_newer_store_is_refused_and_left_alone(tmp_path):
    store = LabelStore(tmp_path / "labels.duckdb")
    store.create()
    with duckdb.connect(str(store.path)) as con:
        con.execute("insert into schema_migrations values (99, 'of tomorrow', now())")
    before = store.path.read_bytes()
    for way in (store.create, lambda: store.read().__enter__(), lambda: store.write().__enter__()):
        with pytest.raises(
            StoreError, match=rf"version 99.*up to {schema.VERSION}; install a newer labelkit"
        ):
            way()
    assert store.path.read_bytes() == before and not list(tmp_path.glob("*.v99"))


def test_init_brings_a_project_up(tmp_path):
    audio = tmp_path / "audio"
    audio.mkdir()
    run = CliRunner()
    assert run.invoke(cli, ["-C", str(tmp_path), "init", str(audio)]).exit_code == 0
    for name in ("labels.duckdb", "labels.duckdb.hwm"):
        (tmp_path / name).unlink()
    make_old(tmp_path, 3)
    done = run.invoke(cli, ["-C", str(tmp_path), "status"])
    assert done.exit_code == 3 and "bring it up with: labelkit init AUDIO_DIR" in done.stderr
    done = run.invoke(cli, ["-C", str(tmp_path), "init", str(audio)])
    assert done.exit_code == 0 and "of schema version 3; kept as labels.duckdb.v3" in done.stderr
    assert run.invoke(cli, ["-C", str(tmp_path), "status"]).exit_code == 0


def test_a_store_that_is_gone_is_not_begun_anew_unseen(tmp_path):
    store = LabelStore(tmp_path / "labels.duckdb")
    store.create()
    with store.write() as session:
        session.append(Batch(key="t", kind="t", actor="t", by_person=True, classes=["Dog"]))
    shutil.move(store.path, tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is gone, but it held 1 batches; bring it back"):
        store.create()
    shutil.move(tmp_path / "elsewhere", store.path)
    store.create()


def test_views_of_another_definition_are_made_anew(tmp_path):
    store = LabelStore(tmp_path / "labels.duckdb")
    store.create()
    wanted = shape(store.path)
    with duckdb.connect(str(store.path)) as con:
        con.execute("create or replace view flips as select 1 as one")
        con.execute("comment on view taken_back is 'of a labelkit between two others'")
    store.create()
    assert shape(store.path) == wanted


def test_an_old_copy_put_back_by_hand_is_not_taken_for_the_store(tmp_path):
    store = make_old(tmp_path, 3)
    store.path.chmod(0o600)
    store.create()
    old = tmp_path / "labels.duckdb.v3"
    assert old.stat().st_mode & 0o777 == 0o600
    shutil.copy(old, store.path)
    before = store.path.read_bytes()
    with pytest.raises(StoreError, match=r"version 3, its high-water mark.*restore FILE"):
        store.create()
    assert store.path.read_bytes() == before


def test_a_log_of_a_store_that_is_gone_is_kept(tmp_path, capsys):
    (tmp_path / "labels.duckdb.wal").write_bytes(b"commits")
    LabelStore(tmp_path / "labels.duckdb").create()
    [kept] = tmp_path.glob("labels.duckdb.wal.*")
    assert kept.read_bytes() == b"commits" and f"kept as {kept.name}" in capsys.readouterr().err
