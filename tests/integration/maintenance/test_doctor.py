"""The doctor: a sound project is sound, and everything that can be wrong is found and named."""

import json
import os
import subprocess
import sys
import unicodedata
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner

from labelkit.audio.io import hash_file
from labelkit.commands.maintenance import doctor
from labelkit.commands.options import Place
from labelkit.errors import StoreBusy
from labelkit.maintenance import doctor as health
from labelkit.maintenance import environment as surroundings
from labelkit.maintenance.doctor import examine
from labelkit.maintenance.environment import find_file_system, find_leftovers
from labelkit.maintenance.repair import repair
from labelkit.project import create_project, open_project
from labelkit.records import (
    Batch,
    Clip,
    LabelEvent,
    Predictions,
    Run,
    Suggestions,
    Verdict,
    Windows,
)
from labelkit.stores import materialised, schema
from labelkit.stores.catalog import create_predictions
from labelkit.stores.high_water_mark import mark_path, read_mark
from tests.support.clips import write_tone
from tests.support.projects import copy_project

N = 6


def maintain(monkeypatch):
    """The maintained state from the first event on."""
    monkeypatch.setattr(materialised, "TAIL", 0)
    monkeypatch.setattr(materialised, "TAIL_SHARE", 0)


@pytest.fixture
def project(judged, tmp_path, monkeypatch):
    """A copy to write to."""
    maintain(monkeypatch)
    # The checks are of the store, wherever the tests run.
    monkeypatch.setattr(surroundings, "_own_file_system", lambda folder: "ext4")
    return copy_project(judged, tmp_path / "p")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Six recordings, a fold run that judged two of them, decisions of machines and people."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        maintain(monkeypatch)
        return make_judged(tmp_path_factory.mktemp("judged") / "p")


def make_judged(root):
    (root / "audio").mkdir(parents=True)
    project, _ = create_project(root, root / "audio")
    for c in range(N):
        write_tone(root / "audio" / f"{c}.wav", 300 + 50 * c, seconds=0.1)
    clips = [
        Clip(path=f"{c}.wav", labels=("A",), content_hash=hash_file(root / "audio" / f"{c}.wav"))
        for c in range(N)
    ]
    append(project, "1", by_person=True, classes=["A", "B"], clips=clips)
    run = Run(run_id="r/fold-0", kind="fold", part_of="r", recipe="quick", settings={}, seed=0,
              classes=["A", "B"], as_of=1, trained_on=[0, 1, 2])  # fmt: skip
    probs = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    clip_ids = np.array([3, 4])
    windows = Windows(clip_ids=clip_ids, starts_s=np.zeros(2), ends_s=np.ones(2), probs=probs)
    project.windows.write("r/fold-0", windows)
    append(project, "2", runs=[run],
           predictions=[Predictions(run_id="r/fold-0", clip_ids=clip_ids, probs=probs)],
           suggestions=[Suggestions(run_id="r/fold-0", clip_ids=clip_ids, given=[[0], [0]],
                                    suggested=[[0], [1]], reasons=["a", "b"])],
           events=[event(3, "self_verified", run_id="r/fold-0", score=0.9)])  # fmt: skip
    append(project, "3", by_person=True, events=[event(4, "relabeled", [0, 1])],
           verdicts=[Verdict(clip_id=4, class_id=1, verdict="present", rule="me")])  # fmt: skip
    return project


def append(project, key, **values):
    given = {"key": key, "kind": "test", "actor": "t", "by_person": False} | values
    with project.store.write() as session:
        session.append(Batch(**given))


def event(clip_id, state, labels=(0,), **values):
    return LabelEvent(clip_id=clip_id, state=state, labels=labels, source="test", **values)


def spoil(project, *statements):
    with project.store.opened(read_only=False) as con:
        for statement in statements:
            con.execute(statement)


def wrong(project, **options):
    return [f for f in examine(project, **options) if f.state != "ok"]


def say(project, *args):
    return CliRunner().invoke(doctor, args, obj=Place(project.root, 5.0))


def test_a_sound_project_is_sound(project):
    before = {f: f.read_bytes() for f in project.root.rglob("*") if f.is_file()}
    findings = examine(project)
    assert [f for f in findings if f.state != "ok"] == []
    assert [f.what for f in findings if f.check == "numbers"] == [
        "3 batches, 6 clip_rows, 2 class_rows, 8 event_rows, 1 verdict_rows: numbered without a gap"
    ]
    assert [f.what for f in findings if f.check == "clip_state"] == [
        "clip_state: 6 clips, what their events make of them"
    ]
    done = say(project)
    assert done.exit_code == 0 and "0 problems, 0 warnings" in done.stderr
    assert {f: f.read_bytes() for f in project.root.rglob("*") if f.is_file()} == before


@pytest.mark.slow
def test_a_project_after_real_work_is_sound(verified_project):
    project, *_ = verified_project
    assert [f for f in wrong(project) if f.check != "file system"] == []


def test_an_empty_project_is_sound(tmp_path, monkeypatch):
    monkeypatch.setattr(surroundings, "_own_file_system", lambda folder: "ext4")
    (tmp_path / "audio").mkdir()
    project, _ = create_project(tmp_path, tmp_path / "audio")
    assert wrong(project) == []


EVENT = "insert into event_rows select {id}, {batch}, {clip}, '{state}', {labels}, 'x', {run}, "
EVENT += "null, null, null, now()::timestamp"


def sneak(event_id=8, batch=3, clip=0, state="unverified", labels="[0]", run="null"):
    """An event that no append would have let in."""
    return EVENT.format(id=event_id, batch=batch, clip=clip, state=state, labels=labels, run=run)


FAULTS = [
    # What is done to the store, the check that finds it, and what it says.
    ([sneak(clip=77)], "references", "event_rows.clip_id: 1 that clip_rows does not know: 77"),
    ([sneak(batch=9)], "references", "event_rows.batch_id: 1 that batches does not know: 9"),
    ([sneak(run="'ghost'")], "references", "event_rows.run_id: 1 that runs does not know: ghost"),
    ([sneak(labels="[0, 5]")], "references", "event_rows.labels: 1 that class_rows does not know"),
    (["insert into verdict_rows values (1, 3, 0, 9, null, null, 'absent', 'x', null)"],
     "references", "verdict_rows.class_id: 1 that class_rows does not know: 9"),
    (["update batches set undoes = 44 where batch_id = 3"],
     "references", "batches.undoes: 1 that batches does not know: 44"),
    (["update runs set parents = ['lost', 'gone']"],
     "references", "runs.parents: 2 that runs does not know: gone, lost"),
    (["update runs set trained_on = [0, 99]"],
     "references", "runs.trained_on: 1 that clip_rows does not know: 99"),
    (["update runs set as_of = 2"], "runs", "1 runs read labels of a batch not before their own"),
    (["insert into score_rows values ('ghost', 0, -1, 'm', 1)"],
     "references", "score_rows.run_id: 1 that runs does not know: ghost"),
    (["insert into suggestion_rows values ('r/fold-0', 0, [0], [7], 'x')"],
     "references", "suggestion_rows.suggested: 1 that class_rows does not know: 7"),
    (["insert into prediction_rows values ('r/fold-0', 0, [0.5], 0)"],
     "runs", "1 runs have predictions that do not fit their classes: r/fold-0"),
    (["update prediction_rows set probs = [0.5, 'nan'::float] where clip_id = 3"],
     "runs", "1 runs have predictions that do not fit"),
    (["update prediction_rows set top_class = 1 where clip_id = 3"],
     "runs", "1 runs have predictions that do not fit"),
    ([sneak(event_id=12)], "numbers", "event_rows: 9 rows with 9 numbers from 0 to 12, not from "
     "0 to 8"),
    (["delete from batches where batch_id = 2"], "numbers", "batches: 2 rows with 2 numbers"),
    ([sneak(labels="[1, 0]")], "label sets", "1 events have labels out of order or twice: 8"),
    ([sneak(labels="[0, 0]")], "label sets", "1 events have labels out of order or twice: 8"),
    ([sneak(batch=2, clip=4)], "people first", "a machine decided over a person in 1 events: 8"),
    ([sneak(batch=2, state="verified")], "people first", "a machine decided over a person in 1"),
    (["insert into batches select 4, '4', 'undo', 't', true, '', null, 2, '0', now()::timestamp"],
     "people first", "1 undos say they are a person's of a machine's batch"),
    (["insert into clip_rows values (6, 'no-event.wav', null, null, null, 'train', 3, null)"],
     "replay", "1 clips have no event: 6"),
    (["update state_rows set state = 'rejected' where clip_id = 1"],
     "clip_state", "clip_state is not what the events make of 1 clips: 1"),
    (["update state_rows set state = 'rejected' where clip_id = 1"],
     "replay", "1 clips are not what their events make of them: 1"),
    (["delete from state_rows where clip_id = 2"], "replay", "1 clips are not what their events"),
    (["insert into state_rows select * from state_rows where clip_id = 2"],
     "clip_state", "clip_state is not what the events make of 1 clips: 2"),
    (["insert into clip_state_mark values (3, 1)"], "clip_state", "6 rows and 2 marks"),
    (["delete from clip_state_mark"], "clip_state", "6 rows and 0 marks"),
    (["update clip_state_mark set batch_id = 2"], "clip_state", "ends at event 7 of batch 2,"),
    (["update clip_scores set lwlrap = 9 where clip_id = 4"],
     "clip_scores", "clip_scores is not what the runs say of 1 clips: 4"),
    (["update clip_scores set judge = 'r/fold-1' where clip_id = 3"],
     "clip_scores", "clip_scores is not what the runs say of 1 clips: 3"),
    (["update clip_scores set fused = 9"],
     "clip_scores", "clip_scores is not what the runs say of 2 clips: 3, 4"),
    (["update clip_scores set trained = 9 where clip_id = 4"],
     "clip_scores", "clip_scores is not what the runs say of 1 clips: 4"),
    (["delete from clip_scores_mark"], "clip_scores", "2 rows and 0 marks"),
    (["update runs set trained_on = [0, 1, 3]"], "leaks", "judged clip 3, r/fold-0 learnt clip 3"),
    (["create or replace view labels_now as from (select c.clip_id, c.path, ['B'] as labels, "
      "e.state, e.source, e.made_at, e.run_id, e.iteration, e.score, e.event_id, e.batch_id, "
      "c.group_name, c.subset from current_events e join clips c using (clip_id))"],
     "views", "not what labelkit makes: labels_now"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("statements", "check", "what"), FAULTS, ids=[f[2][:50] for f in FAULTS])
def test_each_fault_is_found(project, statements, check, what):
    spoil(project, *statements)
    done = say(project, "--fast", "--json")
    assert done.exit_code == 3
    found = [row for row in json.loads(done.stdout) if row["state"] != "ok"]
    mine = [row for row in found if row["check"] == check]
    assert any(what in row["what"] for row in mine), found
    assert all(row["state"] == "problem" and row["remedy"] for row in mine)
    problems = sum(row["state"] == "problem" for row in found)
    assert done.stderr.startswith(f"{problems} problems, ")


def test_problems_are_printed_as_a_table(project):
    statements, _, what = FAULTS[0]
    spoil(project, *statements)
    done = say(project, "--fast")
    assert done.exit_code == 3 and what in " ".join(done.stdout.split())
    # It counts twice: an event without a clip has no state either.
    assert done.stderr.startswith("2 problems, ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        s
        for s, check, _ in FAULTS
        if check in ("clip_state", "clip_scores", "replay") and "insert into clip_rows" not in s[0]
    ],
)
def test_the_maintained_state_is_made_anew_when_asked(project, statement):
    with project.store.read() as session:
        before = session.rows("from labels_now order by clip_id")
    spoil(project, *statement)
    spoilt, lines = project.store.path.read_bytes(), []
    repair(project, lines.append)
    assert "clip_state, clip_scores and views: made anew" in lines
    [kept] = list(project.root.glob("labels.duckdb.before-repair-*[0-9]"))
    assert kept.read_bytes() == spoilt
    assert wrong(project) == []
    with project.store.read() as session:
        assert session.rows("from labels_now order by clip_id") == before
        # Anew from what there is: with the mark at the last event, as a large store has it.
        assert session.rows("from clip_state_mark") == [(7, 3)]


@pytest.mark.parametrize(
    ("statement", "lost"),
    [("drop view labels_now", "labels_now"), ("drop macro table labels_at", "labels_at(moment)"),
     ("create or replace view flips as select 1 as x", None),
     ("create or replace view taken_back as select 1 as batch_id", None)],
)  # fmt: skip
def test_views_are_made_anew(project, statement, lost):
    with project.store.read() as session:
        before = session.rows("from labels_now order by clip_id")
    spoil(project, statement)
    if lost:
        found = {f.check: f for f in wrong(project, fast=True)}
        assert (
            set(found) <= {"views", "replay"} and f"{lost} cannot be asked" in found["views"].what
        )
        assert {(f.state, f.remedy) for f in found.values()} == {
            ("problem", "labelkit doctor --repair")
        }
    spoil(project, "update state_rows set state = 'rejected' where clip_id = 1")
    lines = []
    repair(project, lines.append)
    assert "clip_state, clip_scores and views: made anew" in lines and wrong(project) == []
    with project.store.read() as session:
        assert session.rows("from labels_now order by clip_id") == before


def test_views_of_another_version_are_told(project):
    spoil(project, "comment on view taken_back is 'older'")
    [found] = wrong(project)
    assert (found.check, found.state, found.remedy) == (
        "views", "warning", "labelkit doctor --repair"
    )  # fmt: skip
    repair(project, lambda line: None)
    assert wrong(project) == []


def test_a_check_that_fails_costs_no_other(project, monkeypatch):
    spoil(project, "alter table runs rename trained_on to learnt")
    [found] = wrong(project, fast=True)
    assert (found.check, found.what) == ("origin", "runs is not the table that this labelkit makes")
    monkeypatch.setattr("labelkit.maintenance.doctor.find_faults", lambda con, folder: [])
    found = {f.check: f for f in wrong(project, fast=True)}
    assert set(found) == {"views", "references", "leaks"}
    assert found["references"].what.startswith("this could not be examined: Binder Error")


def test_nothing_is_copied_for_what_cannot_be_mended(project):
    spoil(
        project,
        "insert into clip_rows values (6, 'no-event.wav', null, null, null, 'train', 3, null)",
    )
    [found] = wrong(project, fast=True)
    assert (found.check, found.remedy) == ("replay", "labelkit restore FILE")
    lines = []
    repair(project, lines.append)
    assert lines == [] and not list(project.root.glob("*before-repair*"))


def append_large(project, monkeypatch):
    """A fold run whose predictions lie beside the store; returns their file."""
    monkeypatch.setattr(materialised, "ROWS_OF_RUN", 1)
    run = Run(run_id="r/fold-1", kind="fold", part_of="r", recipe="quick", settings={}, seed=0,
              classes=["A", "B"], as_of=1, trained_on=[0, 1, 2])  # fmt: skip
    clip_ids, probs = np.array([3, 5]), np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    project.windows.write("r/fold-1", Windows(
        clip_ids=clip_ids, starts_s=np.zeros(2), ends_s=np.ones(2), probs=probs))  # fmt: skip
    judged = Predictions(run_id="r/fold-1", clip_ids=clip_ids, probs=probs)
    append(project, "4", runs=[run], predictions=[judged])
    with project.store.read() as session:
        [(file,)] = session.rows("select file from prediction_files")
    return project.root / file


def test_a_missing_file_of_a_large_run(project, monkeypatch):
    file = append_large(project, monkeypatch)
    assert wrong(project) == []
    away = file.rename(project.root / "away")
    [found] = wrong(project)
    assert (found.check, found.state) == ("large runs", "problem")
    name = file.relative_to(project.root)
    assert f"1 of 1 are not right: {name} (predictions of r/fold-1) is not there" in found.what
    assert found.remedy.startswith("bring .labelkit/predictions/ back from where the store was")
    lines = []
    repair(project, lines.append)
    assert lines == [] and wrong(project) == [found]
    # What could be mended otherwise waits for the file.
    spoil(project, "update state_rows set state = 'rejected' where clip_id = 1")
    repair(project, lines.append)
    assert lines == ["views, clip_state and clip_scores: not made anew while large runs are wrong"]
    assert {f.check for f in wrong(project)} == {"large runs", "replay", "clip_state"}
    away.rename(file)
    repair(project, lines.append)
    assert wrong(project) == []


def test_windows_of_large_runs_are_looked_for(project, monkeypatch):
    append_large(project, monkeypatch)
    project.windows.path("r/fold-1").unlink()
    [found] = wrong(project)
    assert found.what == "1 of 2 are not there: .labelkit/windows/r/fold-1.npz"


def test_nothing_is_done_to_a_sound_store(project):
    before = {f: f.read_bytes() for f in project.root.rglob("*") if f.is_file()}
    lines = []
    repair(project, lines.append)
    assert lines == []
    assert {f: f.read_bytes() for f in project.root.rglob("*") if f.is_file()} == before


def test_warnings_are_no_problem(project):
    decomposed = unicodedata.normalize("NFD", "é.wav")
    hashes = dict(content_hash="h")
    append(project, "4", by_person=True, clips=[
        Clip(path="é.wav", **hashes), Clip(path=decomposed, **hashes)])  # fmt: skip
    spoil(project, "update batches set made_at = timestamp '2001-01-01' where batch_id = 3")
    found = {f.check: f for f in wrong(project, fast=True)}
    assert set(found) == {"paths", "recordings twice", "times"}
    assert {f.state for f in found.values()} == {"warning"}
    assert "1 paths differ from others only in how accents are written" in found["paths"].what
    assert found["recordings twice"].remedy == "labelkit duplicates"
    assert f"{decomposed} = é.wav" in found["recordings twice"].what
    assert found["times"].what == "1 batches are older than the one before them: 3"
    done = say(project, "--fast")
    assert done.exit_code == 0 and "0 problems, 3 warnings" in done.stderr


def test_recordings(project):
    (project.audio_dir / "0.wav").unlink()
    write_tone(project.audio_dir / "1.wav", 999, seconds=0.1)
    changed, gone = wrong(project)
    assert (changed.state, changed.what) == ("problem", "1 are not what was labelled: 1.wav")
    assert (gone.state, gone.what) == ("warning", "1 of 6 cannot be read: 0.wav")
    assert wrong(project, fast=True) == []
    before = sorted(f.name for f in project.audio_dir.iterdir())
    repair(project, lambda line: None)
    assert sorted(f.name for f in project.audio_dir.iterdir()) == before
    project.audio_dir.rename(project.root / "elsewhere")
    [away] = wrong(project)
    assert away.state == "warning" and "is not there" in away.what


def test_recordings_are_read_in_blocks(project, monkeypatch):
    waiting = []

    class Pool(health.ThreadPoolExecutor):
        def map(self, function, items):
            waiting.append(len(items))
            return super().map(function, items)

    monkeypatch.setattr(health, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(health, "_BLOCK", 4)
    (project.audio_dir / "5.wav").unlink()
    assert [f.what for f in wrong(project)] == ["1 of 6 cannot be read: 5.wav"]
    assert waiting == [4, 2]


def test_versions(project):
    spoil(project, "insert into schema_migrations values (999, 'x', now()::timestamp)")
    [newer] = wrong(project)
    assert newer.check == "version" and newer.remedy == "install a newer labelkit"
    spoil(project, f"delete from schema_migrations where number >= {schema.VERSION}")
    [older] = wrong(project)
    assert (older.state, older.remedy) == ("problem", "labelkit init AUDIO_DIR")
    before = project.store.path.read_bytes()
    repair(project, lambda line: None)
    assert project.store.path.read_bytes() == before
    project.store.path.unlink()
    with duckdb.connect(str(project.store.path)) as con:
        con.execute("create table t (x integer)")
    [other] = wrong(project)
    assert (other.what, other.remedy) == ("a database, but no label store", "labelkit restore FILE")


def test_a_store_that_is_gone(project):
    project.store.path.unlink()
    done = say(project, "--repair", "--json")
    assert done.exit_code == 3 and not project.store.path.exists()
    [row] = [row for row in json.loads(done.stdout) if row["state"] == "problem"]
    assert row == {"check": "file", "state": "problem", "remedy": "labelkit restore FILE",
                   "what": "labels.duckdb is not there, but it held 3 batches"}  # fmt: skip


def mark_found(project):
    return next(f for f in examine(project, fast=True) if f.check == "high-water mark")


def test_the_high_water_mark(project):
    path, said = mark_path(project.store.path), read_mark(project.store.path)
    told = json.loads(path.read_text())

    def becomes(text, state, what, line):
        path.unlink() if text is None else path.write_text(text)
        found = mark_found(project)
        assert (found.state, what in found.what) == (state, True), found
        lines = []
        repair(project, lines.append)
        assert any(line in one for one in lines), lines
        assert read_mark(project.store.path) == said
        assert mark_found(project).state == "ok"

    there = "batches 1 to 3 are there"
    becomes(None, "warning", "is not there: a loss would not be noticed", there)
    becomes("{", "warning", "cannot be read", there)
    lost = f"{there}; what was written in 4 to 5 is LOST"
    becomes(json.dumps(told | {"batch_id": 5}), "problem", "batch 5 was acknowledged", lost)
    becomes(json.dumps(told | {"store_id": "x"}), "problem", "is of another store", "now says so")
    becomes(json.dumps(told | {"batch_key": "x"}), "problem", "batch 3 is another one", "now says")
    becomes(json.dumps(told | {"batch_id": 2, "batch_key": "2"}), "warning",
            "tells of batch 2, the store ends at 3: a writer was stopped", "now says")  # fmt: skip


def test_missing_and_foreign_arrays(project):
    project.windows.path("r/fold-0").unlink()
    project.windows.path("ghost").write_bytes(b"x")
    (project.runs / "open").mkdir(parents=True)
    (project.windows.folder / "open").mkdir()
    project.windows.path("open/fold-1").write_bytes(b"x")
    run = Run(run_id="whole", kind="train", recipe="quick", settings={}, seed=0, classes=["A"],
              as_of=2, parents=["r/fold-0"])  # fmt: skip
    log = Run(run_id="r/fold-1", kind="fold", recipe="quick", settings={}, seed=0, classes=["A"],
              as_of=2, metrics={"history": [{"epoch": 1, "logged": 1}]})  # fmt: skip
    append(project, "4", runs=[run, log])
    found = {f.check: f for f in examine(project, fast=True)}
    assert found["windows"].what == "1 of 1 are not there: .labelkit/windows/r/fold-0.npz"
    assert found["weights"].what == "1 of 1 are not there: .labelkit/runs/r/fold-0/weights.pt"
    assert found["logs of epochs"].what == "1 of 1 are not there: .labelkit/epochs/r/fold-1.npy"
    assert found["arrays of no run"].what == "1 files of windows and epochs are of no run: ghost"
    assert found["unfinished runs"].what == "1: open" and found["unfinished runs"].state == "ok"
    assert {found[name].state for name in ("windows", "weights", "logs of epochs")} == {"warning"}


def test_large_runs_in_files_of_their_own(project):
    folder = project.work / "predictions"
    folder.mkdir()
    name = f".labelkit/predictions/{'a' * 16}.parquet"
    with project.store.opened(read_only=False) as con:
        con.execute(f"copy (select * from prediction_rows) to '{project.root / name}'")
        con.execute("insert into prediction_files values ('r/fold-0', ?, 2)", [name])
        create_predictions(con)
    found = [f for f in examine(project, fast=True) if f.check == "large runs"]
    assert [(f.state, f.what) for f in found] == [("ok", "all 1 are there")]
    (folder / "b.parquet").write_bytes(b"x")
    [loose] = wrong(project, fast=True)
    assert loose.state == "warning"
    assert loose.what == "1 Parquet files are of no run: .labelkit/predictions/b.parquet"
    spoil(project, "update prediction_files set n_clips = 3")
    assert "holds 2 clips of r/fold-0, not 3" in wrong(project, fast=True)[0].what
    (project.root / name).unlink()
    [gone, _] = wrong(project, fast=True)
    assert gone.state == "problem" and f"1 of 1 are not right: {name}" in gone.what


def test_leftovers(project):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = project.root / f"labels.duckdb.{os.getpid()}.partial"
    (project.work / "predictions").mkdir()
    left = [project.work / "predictions" / f"x.{ended.pid}.partial.parquet",
            project.root / f"labels.duckdb.{ended.pid}.partial",
            project.root / f"labels.duckdb.{ended.pid}.partial.wal",
            project.work / "windows" / f"x.npz.{ended.pid}.partial"]  # fmt: skip
    foreign = [project.root / "notes.partial", project.root / f"notes.{ended.pid}.partial",
               project.root / f"a.{ended.pid}.partial.txt",
               project.audio_dir / f"x.{ended.pid}.partial"]  # fmt: skip
    for file in (mine, *left, *foreign):
        file.write_bytes(b"x")
    assert find_leftovers(project) == sorted(left)
    [found] = wrong(project)
    assert found.state == "warning" and found.what.startswith("4 unfinished files: ")
    with project.store.write(), pytest.raises(StoreBusy):
        repair(open_project(project.root, lock_timeout_s=0.1), lambda line: None)
    assert all(file.exists() for file in left)
    lines = []
    repair(project, lines.append)
    assert len(lines) == 4 and wrong(project) == []
    assert all(file.exists() for file in (mine, *foreign))


MOUNTS = """sysfs /sys sysfs rw 0 0
/dev/sda1 / ext4 rw,relatime 0 0
server:/x /mnt/with\\040blank nfs4 rw 0 0
overlay /mnt/box overlay rw 0 0
none /mnt/box tmpfs rw 0 0
//s/share /mnt/with cifs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/home/me", "ext4"), ("/mnt/with blank/p", "nfs4"), ("/mnt/with", "cifs"),
     ("/mnt/without", "ext4"), ("/mnt/box/a/b", "tmpfs"), ("/", "ext4")],
)  # fmt: skip
def test_file_systems_are_told_apart(tmp_path, folder, kind):
    assert find_file_system(type(tmp_path)(folder), MOUNTS) == kind


@pytest.mark.parametrize(
    ("kind", "what"),
    [("nfs4", "of a network"), ("fuse.sshfs", "of a network"), ("cifs", "of a network"),
     ("9p", "of a network"), ("overlay", "container"), ("tmpfs", "restart")],
)  # fmt: skip
def test_file_systems_that_are_warned_of(project, monkeypatch, kind, what):
    monkeypatch.setattr(surroundings, "_own_file_system", lambda folder: kind)
    [found] = wrong(project, fast=True)
    assert (found.check, found.state) == ("file system", "warning")
    assert found.what.startswith(f"{kind}: ") and what in found.what


def test_little_room_is_a_warning(project, monkeypatch):
    monkeypatch.setattr(surroundings.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    [found] = wrong(project, fast=True)
    assert (found.check, found.state) == ("room", "warning")
    assert found.what.startswith("1 MB free, the store takes")


def test_a_second_name_of_the_store_is_a_warning(project, tmp_path):
    os.link(project.store.path, tmp_path / "other")
    [found] = wrong(project, fast=True)
    assert (found.check, found.state) == ("rights", "warning") and "second name" in found.what


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_several_users_are_a_warning(project):
    os.chown(mark_path(project.store.path), 12345, -1)
    [found] = wrong(project, fast=True)
    assert found.check == "rights" and "several users: [0, 12345]" in found.what
