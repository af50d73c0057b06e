"""What nothing needs any more goes; what anything needs, and every answer, stays."""

import json
import re
import shutil

import duckdb
import numpy as np
import pytest

from labelkit.cleaning.score import score
from labelkit.config import read_recipe
from labelkit.maintenance import gc
from labelkit.maintenance.backup import backup, restore
from labelkit.maintenance.doctor import examine
from labelkit.maintenance.gc import collect, find_garbage
from labelkit.review.queue import Choice, read_queue
from labelkit.runs.train import train
from labelkit.runs.verify import verify
from labelkit.stores.lock import locked
from tests.support.commands import call, rows
from tests.support.paths import ROOT
from tests.support.projects import TINY, copy_project

QUESTIONS = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "store.md").read_text(), re.S)
VIEWS = ("labels_now", "label_history", "run_summary", "review_queue", "class_summary",
         "predictions_long", "flips", "newest_scores")  # fmt: skip


@pytest.fixture(scope="module")
def grown(tmp_path_factory, verified_project, tiny_recipe):
    """A project after three trainings and five restores; only ever read."""
    folder = tmp_path_factory.mktemp("grown")
    project = copy_project(verified_project[0], folder / "p")
    for seed in (11, 12, 13):
        train(project, tiny_recipe, seed=seed, workers=1)
    backup(project, folder / "b")
    for _ in range(5):
        restore(project, folder / "b")
    return project


@pytest.fixture
def project(grown, tmp_path):
    return copy_project(grown, tmp_path / "p")


def answers(project):
    with project.store.read() as session:
        asked = {view: f"from {view}" for view in VIEWS} | {sql: sql for sql in QUESTIONS}
        return {name: sorted(map(repr, session.rows(sql))) for name, sql in asked.items()}


def size(project):
    return sum(file.stat().st_size for file in project.root.rglob("*") if file.is_file())


def finished(project):
    return {
        run_id
        for (run_id,) in rows(
            project, "select run_id from runs where kind in ('train', 'verify') and part_of is null"
        )
    }


@pytest.mark.slow
def test_less_is_there_and_every_answer_is_the_same(project, tiny_recipe):
    before, asked, runs = size(project), answers(project), finished(project)
    done = call(project, "gc", "--dry-run", "--json")
    listed = json.loads(done.stdout)
    assert size(project) == before and "would be removed" in done.stderr
    assert {row["why"] for row in listed} == {"superseded", "a later copy is there"}
    [fact] = [row["value"] for row in json.loads(call(project, "status", "--json").stdout)
              if row["what"] == "needed no more"]  # fmt: skip
    assert fact.endswith("MB; see: labelkit gc --dry-run")
    done = call(project, "gc", "--json")
    assert json.loads(done.stdout) == listed and "were removed" in done.stderr
    freed = before - size(project)
    assert freed == pytest.approx(1e6 * sum(row["size_mb"] for row in listed), abs=1e4)
    assert freed > 0.2 * before
    assert answers(project) == asked and finished(project) == runs
    assert find_garbage(project) == [] and json.loads(call(project, "gc", "--json").stdout) == []
    assert "needed no more" not in call(project, "status").stdout
    # What ran is known to have run, and nothing is wrong.
    for seed in (11, 13):
        assert train(project, tiny_recipe, seed=seed, workers=1)["run_id"] in runs
    assert verify(project, read_recipe("quick", TINY), workers=1)["finished_before"]
    assert [f for f in examine(project, fast=True) if f.state != "ok"] == []
    assert len(list(project.root.glob("*before-restore*"))) == 2


@pytest.mark.slow
def test_what_is_needed_stays(project):
    newest = rows(project, "select max_by(run_id, batch_id) from runs where kind = 'train'")[0][0]
    older = sorted(finished(project) - {newest})
    queue = [item.seconds for item in read_queue(project, Choice(where="true")).items]
    collect(project)
    assert (project.runs / newest).is_dir()
    assert read_queue(project, Choice(where="true")).items
    assert [item.seconds for item in read_queue(project, Choice(where="true")).items] == queue
    assert score(project, run_id=newest, methods=("aum",), lowest=3)
    assert any(not (project.runs / run).exists() for run in older)


@pytest.mark.slow
def test_runs_can_be_kept(project):
    superseded = sorted({one.path.rpartition("/")[2] for one in find_garbage(project)
                         if one.why == "superseded"})  # fmt: skip
    kept = superseded[0]
    assert kept not in {one.path.rpartition("/")[2] for one in find_garbage(project, keep=[kept])}
    done = call(project, "gc", "--keep", kept)
    assert done.exit_code == 0 and (project.runs / kept).is_dir()
    done = call(project, "gc", "--keep", "nothing")
    assert done.exit_code == 2 and "no finished run 'nothing' to keep" in done.stderr


@pytest.mark.slow
def test_what_is_begun_is_left_alone(project):
    begun = project.runs / "train-begun" / "one" / "fold-0"
    begun.mkdir(parents=True)
    (begun / "weights.pt").write_bytes(b"x")
    (project.windows.folder / "train-begun").mkdir(parents=True)
    np.savez(project.windows.folder / "train-begun" / "fold-0.npz", a=1)
    partial = project.windows.folder / "other.npz.1.partial"
    partial.write_bytes(b"x")
    (project.windows.folder / "ghost.npz").write_bytes(b"x")
    gone, _ = collect(project)
    assert (begun / "weights.pt").is_file() and partial.is_file()
    assert (project.windows.folder / "train-begun" / "fold-0.npz").is_file()
    assert ".labelkit/windows/ghost.npz" in {one.path for one in gone if one.why == "of no run"}


@pytest.mark.slow
def test_what_is_in_use_stays_and_is_told(project, capsys):
    path = next(one.path for one in find_garbage(project) if one.why == "superseded")
    with locked(project.root / path, exclusive=True, timeout_s=1):
        gone, report = collect(project)
    assert path not in {one.path for one in gone} and (project.root / path).is_dir()
    assert f"{path} stays: " in capsys.readouterr().err and report.removed == len(gone) > 0
    assert path in {one.path for one in collect(project)[0]}


def test_what_cannot_go_is_told_and_the_rest_goes(project, monkeypatch, capsys):
    first, *rest = find_garbage(project)
    unlink = gc._unlink

    def fail(places):
        if first.files[0] in places:
            raise PermissionError(13, "Permission denied")
        unlink(places)

    monkeypatch.setattr(gc, "_unlink", fail)
    gone, report = collect(project)
    assert [one.path for one in gone] == [one.path for one in rest]
    assert f"{first.path} stays: " in capsys.readouterr().err
    assert report.removed == len(rest)


def test_a_store_that_cannot_be_read_keeps_everything(project):
    before = sorted(str(file) for file in project.work.rglob("*"))
    project.store.path.write_bytes(b"no store")
    done = call(project, "gc")
    assert done.exit_code == 3 and done.stderr.count("\n") == 1
    assert sorted(str(file) for file in project.work.rglob("*")) == before


@pytest.mark.parametrize("name", ["runs", "windows", "epochs", "predictions"])
def test_folders_that_lead_elsewhere_are_left_alone(project, tmp_path, name):
    mine = tmp_path / "mine"
    (mine / "thesis").mkdir(parents=True)
    for file in ("thesis/a", "b.npz", "0123456789abcdef.parquet"):
        (mine / file).write_text("mine")
    folder = project.work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.symlink_to(mine)
    before = sorted(mine.rglob("*"))
    collect(project)
    assert sorted(mine.rglob("*")) == before


def test_lock_files_without_a_run_go(project):
    places = [project.runs / f"ghost{end}" for end in (".lock", ".queue", ".door")]
    for place in places:
        place.touch()
    dangling = project.windows.folder / "gone.npz"
    dangling.parent.mkdir(exist_ok=True)
    dangling.symlink_to(project.root / "nowhere")
    assert call(project, "status").exit_code == 0
    with locked(project.runs / "ghost", exclusive=True, timeout_s=1):
        collect(project)
        assert places[0].exists()
    collect(project)
    assert not any(place.exists() for place in places) and not dangling.is_symlink()


def test_predictions_of_a_copy_that_is_kept_stay(project):
    folder = project.work / "predictions"
    folder.mkdir(exist_ok=True)
    names = [f"{digit * 16}.parquet" for digit in "ab"]
    for name in names:
        (folder / name).write_bytes(b"x")
    copies = project.root.glob("*before-restore*")
    copy = max(file for file in copies if file.suffix != ".hwm")
    with duckdb.connect(str(copy)) as con:
        con.execute(
            f"insert into prediction_files values ('r', '.labelkit/predictions/{names[0]}', 1)"
        )
    collect(project)
    assert [file.name for file in folder.iterdir()] == names[:1]
    copy.write_bytes(b"no store")
    (folder / names[1]).write_bytes(b"x")
    collect(project)
    assert sorted(file.name for file in folder.iterdir()) == names


def test_links_are_not_followed(project, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").write_text("mine")
    path = next(one.path for one in find_garbage(project) if one.why == "superseded")
    shutil.rmtree(project.root / path)
    (project.root / path).symlink_to(tmp_path / "mine")
    collect(project)
    assert (tmp_path / "mine" / "a").read_text() == "mine"
    assert not (project.root / path).is_symlink()
