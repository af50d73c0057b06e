"""The short form of `make crash`: the same work, fewer kills of each kind."""

import pytest

from labelkit.stores.labels import LabelStore
from tests.crash.campaign import (
    Campaign,
    answer_project,
    make_empty_project,
    make_probe_project,
    make_store,
    make_undo_project,
    show,
)
from tests.crash.contents import batch_contents
from tests.crash.damage import KINDS, make_torn_store, run_damage, show_damage
from tests.crash.workers import STORE
from tests.support.projects import copy_project

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def attack(work, template, folder, kills, setting=None, seed=7):
    row = Campaign(work, template, folder, setting=setting, seed=seed).run(kills)
    assert row.passed(), show([row])
    assert row.kills == kills and row.acknowledged
    return row


def test_whatever_is_changed_in_a_batch_is_seen(verified_project, tmp_path):
    """No change of a row, and no row that is gone, leaves the contents as they were."""
    project = copy_project(verified_project[0], tmp_path / "p")
    with project.store.write() as session:
        run_id = session.rows("select min(run_id) from runs")[0][0]
        session.rows("insert into prediction_files values (?, 'x.parquet', 3)", [run_id])
        before = batch_contents(session._con)
        for table, change in (
            ("event_rows", "score = coalesce(score, 0) + 1"), ("verdict_rows", "class_id = 99"),
            ("prediction_rows", "probs = [0.5]"), ("score_rows", "value = value + 1"),
            ("fold_rows", "fold = fold + 1"), ("prediction_files", "n_clips = 2"),
        ):  # fmt: skip
            session.rows(f"create temp table kept as from {table}")
            assert session.rows("select count(*) from kept") > [(0,)], table
            for statement in (f"update {table} set {change}", f"delete from {table}"):
                session.rows(statement)
                assert batch_contents(session._con) != before, statement
            session.rows(f"insert into {table} from kept")
            session.rows("drop table kept")
            assert batch_contents(session._con) == before, table


@pytest.mark.parametrize("work", ["append", "checkpoint"])
def test_plain_work_is_killed(work, tmp_path):
    template = make_store(tmp_path / "store", 5_000)
    # On a busy machine it may be killed before it has written anything.
    assert any(
        attack(work, template, tmp_path / "w", 5, seed=seed).with_log for seed in range(7, 17)
    )


def test_imports_are_killed_and_end_as_if_they_were_not(tmp_path):
    template = make_empty_project(tmp_path / "p")
    assert attack("import", template, tmp_path / "w", 3, setting=20).finished


def test_undoing_is_killed_and_ends_as_if_it_was_not(tmp_path):
    template = make_undo_project(tmp_path / "p")
    assert attack("undo", template, tmp_path / "w", 3).finished


def test_verify_is_killed_and_ends_as_if_it_was_not(demo_project, tmp_path):
    template = make_probe_project(demo_project)
    assert attack("verify", template, tmp_path / "w", 2, setting=1).finished


def test_pull_is_killed_and_ends_as_if_it_was_not(bare_project, label_studio, tmp_path):
    project = copy_project(bare_project, tmp_path / "p")
    token = answer_project(project, label_studio, 24)
    assert attack("pull", project.root, tmp_path / "w", 2, setting=token).finished


def test_a_damaged_log_is_right_or_refused(tmp_path):
    """The high-water mark tells what DuckDB opens without a word (spec: STORE.md 2.2)."""
    torn = make_torn_store(tmp_path / "torn", 6)
    table, faults = run_damage(torn, tmp_path / "d", dict.fromkeys(KINDS, 3) | {"torn": 8})
    assert not faults, "\n".join([show_damage(table), *faults])
    for kind, found in table.items():
        refused = found["refused by DuckDB"] + found["refused by the mark"]
        assert found["right"] + refused == found["n"], show_damage(table)
        assert found["refused by the mark"] == found["silent without it"]
        if kind in ("torn", "deleted"):
            assert refused == found["refused by the mark"] == found["n"], show_damage(table)


def test_a_log_that_is_whole_is_taken_in(tmp_path):
    torn = make_torn_store(tmp_path / "torn", 3)
    store = LabelStore(torn / STORE)
    with store.read() as session:
        assert session.last_batch() == 4
    assert (torn / f"{STORE}.wal").exists()
    with store.write() as session:
        assert session.last_batch() == 4
    assert not (torn / f"{STORE}.wal").exists()
