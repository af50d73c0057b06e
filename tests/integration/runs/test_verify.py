"""The main job on projects: what it may change, what it may know, and that it survives a kill."""

import dataclasses
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from labelkit.cleaning.score import score
from labelkit.config import FormatSpec, change_verify, read_recipe
from labelkit.errors import InvalidInput, LabelkitError, StoreBusy
from labelkit.labels.importing import import_labels
from labelkit.labels.undo import undo
from labelkit.project import create_project
from labelkit.records import Batch, LabelEvent
from labelkit.runs.dataset import read_dataset
from labelkit.runs.folds import freeze_folds
from labelkit.runs.train import train
from labelkit.runs.verify import verify
from labelkit.training.batches import Examples
from labelkit.training.crossfit import CrossFit, Training
from tests.support.clips import pair_clips, write_csv
from tests.support.commands import call
from tests.support.processes import children, wait_for_end
from tests.support.projects import TINY, copy_project

pytestmark = pytest.mark.slow


def rows(project, sql):
    with project.store.read() as session:
        return session.rows(sql)


def leaks(project):
    with project.store.read() as session:
        return session.find_leaks()


def labels_now(project):
    return rows(project, "select path, labels, state from labels_now order by path")


def test_no_judgement_comes_from_a_model_that_saw_the_clip(verified_project):
    project, *_ = verified_project
    n_judged = rows(
        project, "select (select count(*) from predictions) + (select count(*) from scores)"
    )
    assert n_judged[0][0] > 1000
    assert leaks(project) == []


def test_every_fold_model_says_what_it_saw_and_comes_from(verified_project):
    project, _, summary, _ = verified_project
    found = rows(
        project,
        "select fold, iteration, len(trained_on), parents from runs "
        f"where part_of = '{summary['run_id']}' order by fold, iteration",
    )
    assert [(fold, iteration) for fold, iteration, *_ in found] == [
        (f, i) for f in range(3) for i in range(3)
    ]
    for fold, iteration, n_seen, parents in found:
        assert n_seen > 10
        expected = (
            [f"{summary['run_id']}/round-{iteration - 1:02d}/fold-{fold}"] if iteration else []
        )
        assert parents == expected


def test_each_round_is_one_batch_with_run_rule_and_evidence(verified_project):
    project, _, summary, seen = verified_project
    batches = rows(
        project,
        "select reason, by_person from batches where kind = 'verify' order by batch_id",
    )
    assert len(batches) == 4 and not any(by_person for _, by_person in batches)
    assert batches[1][0] == summary["rule"]
    assert [row["iteration"] for row in seen] == [0, 1, 2]
    events = rows(
        project,
        "select iteration, state, run_id, score, evidence, labels, source from label_history "
        "where kind = 'verify'",
    )
    accepted = sum(row["accepted"] for row in seen)
    revoked = sum(row["revoked"] for row in seen)
    assert accepted > 0
    assert sum(state == "self_verified" for _, state, *_ in events) == accepted
    assert sum(state == "unverified" for _, state, *_ in events) == revoked
    for iteration, _, run_id, value, evidence, labels, source in events:
        assert run_id.startswith(f"{summary['run_id']}/round-{iteration - 1:02d}/fold-")
        assert 0 <= value <= 1 and '"rule"' in evidence and len(labels) == 1
        assert source == "self_verification"


def test_no_clip_of_a_person_is_touched_and_no_label_changes(verified_project):
    project, before, *_ = verified_project
    after = labels_now(project)
    for (path, labels, state), (_, labels_after, state_after) in zip(before, after, strict=True):
        assert labels == labels_after, path
        assert state_after == state or (state, state_after) == ("unverified", "self_verified")
    changed = rows(
        project,
        "select count(*) from label_events e join batches b using (batch_id) "
        "where b.kind = 'verify' "
        "and e.clip_id in (select clip_id from labels_now where state = 'verified')",
    )
    assert changed == [(0,)]


def test_locked_clips_are_judged_but_never_learnt(verified_project):
    project, *_ = verified_project
    assert rows(
        project,
        "select count(*) from (select unnest(trained_on) as clip_id from runs) t "
        "join clips c using (clip_id) where c.subset = 'test'",
    ) == [(0,)]
    assert rows(
        project,
        "select r.kind, count(*) from predictions p join clips c using (clip_id) "
        "join runs r using (run_id) where c.subset = 'test' group by r.kind order by 1",
    ) == [("train", 40), ("verify", 20)]
    assert rows(project, "select count(*) from folds join clips using (clip_id) "
                         "where subset = 'test'") == [(0,)]  # fmt: skip


def test_scores_and_the_review_queue(verified_project):
    project, *_ = verified_project
    queue = rows(project, "select path, state, lwlrap, suggested from review_queue")
    assert {state for _, state, *_ in queue} <= {"unverified", "self_verified"}
    assert [row[2] for row in queue] == sorted(row[2] for row in queue)
    metrics = {m for (m,) in rows(project, "select distinct metric from scores")}
    assert metrics == {"lwlrap", "self_confidence", "margin", "cleanlab"}
    worst = score(project, methods=("lwlrap", "margin"), lowest=5)
    lowest = [clip.scores["lwlrap"] for clip in worst]
    assert lowest == sorted(lowest) and len(worst) == 5
    again = score(project, methods=("lwlrap", "margin"), lowest=5)
    assert again == worst


def test_a_finished_run_is_shown_and_changes_nothing(verified_project, tiny_recipe):
    project, _, summary, _ = verified_project
    history = rows(project, "from label_history order by event_id")
    batch = rows(project, "select max(batch_id) from batches")
    shown = verify(project, tiny_recipe, workers=1)
    assert shown.pop("finished_before") and not summary["finished_before"]
    assert shown == {k: v for k, v in summary.items() if k != "finished_before"}
    assert train(project, tiny_recipe, workers=1)["run_id"].startswith("train-")
    assert rows(project, "from label_history order by event_id") == history
    assert (
        rows(project, "select max(batch_id) from batches")[0][0] <= batch[0][0] + 2
    )  # A stage and the end of the run.


def add_person(project, path, state, labels):
    with project.store.write() as session:
        table = session.labels()
        clip = table.paths.index(path)
        session.append(
            Batch(
                key=f"person:{path}:{state}:{session.last_batch()}",
                kind="review",
                actor="ann",
                by_person=True,
                events=[
                    LabelEvent(
                        clip_id=int(table.clip_ids[clip]),
                        state=state,
                        labels=[table.classes.index(name) for name in labels],
                        source="test",
                    )
                ],
            )
        )


def test_changed_human_labels_start_a_new_run_and_other_seeds_too(demo_project, tiny_recipe):
    freeze_folds(demo_project, n=2)
    recipe = change_verify(tiny_recipe, {"iterations": 1})
    first = verify(demo_project, recipe, workers=1)
    assert verify(demo_project, recipe, workers=1)["finished_before"]
    assert verify(demo_project, recipe, seed=1, workers=1)["run_id"] != first["run_id"]
    clip, labels = rows(demo_project, "select path, labels from labels_now where state = "
                                      "'unverified' and subset = 'train' limit 1")[0]  # fmt: skip
    add_person(demo_project, clip, "verified", labels)
    second = verify(demo_project, recipe, workers=1)
    assert second["run_id"] != first["run_id"] and not second["finished_before"]
    assert leaks(demo_project) == []


def test_what_a_person_decides_meanwhile_stands(demo_project, tiny_recipe, monkeypatch):
    freeze_folds(demo_project, n=2)
    decided = {}

    def decide(row):
        # Between two rounds somebody rejects and relabels clips the loop has accepted.
        if row["iteration"] == 1:
            chosen = rows(demo_project, "select path from labels_now where state = 'self_verified' "
                                        "order by path limit 2")  # fmt: skip
            for (path,), (state, labels) in zip(
                chosen, (("rejected", []), ("relabeled", ["Bell"])), strict=True
            ):
                add_person(demo_project, path, state, labels)
                decided[path] = (labels, state)

    verify(demo_project, tiny_recipe, workers=1, on_round=decide)
    after = {path: (labels, state) for path, labels, state in labels_now(demo_project)}
    assert len(decided) == 2
    assert {path: after[path] for path in decided} == decided


def test_rejected_clips_are_never_learnt(demo_project, tiny_recipe):
    path = rows(demo_project, "select path from labels_now where subset = 'train' limit 1")[0][0]
    add_person(demo_project, path, "rejected", [])
    freeze_folds(demo_project, n=2)
    train(demo_project, tiny_recipe, workers=1)
    assert rows(
        demo_project,
        "select count(*) from (select unnest(trained_on) as clip_id from runs) "
        f"join clips using (clip_id) where path = '{path}'",
    ) == [(0,)]


def test_a_planted_leak_is_caught(demo_project, tiny_recipe, monkeypatch):
    """A trainer that also learns from the fold it judges gets nothing into the store."""
    freeze_folds(demo_project, n=2)
    honest = Training.run

    def leaky(self, start, judge):
        if start is not None:
            labels = self.cross.labels
            clips = np.arange(len(labels))
            seen = Examples(clips, labels, np.full(len(clips), 2))
            self = dataclasses.replace(self, examples=seen)
        return honest(self, start, judge)

    monkeypatch.setattr(Training, "run", leaky)
    with pytest.raises(LabelkitError, match=r"round-01/fold-0 judged clip .* nothing of this was"):
        verify(demo_project, tiny_recipe, workers=1)
    assert {state for *_, state in labels_now(demo_project)} == {"verified", "unverified"}
    assert rows(demo_project, "select max(iteration) from runs") == [(0,)]


def test_folds_that_change_between_rounds_are_caught(demo_project, tiny_recipe, monkeypatch):
    """The published leak: fine-tuning on folds drawn anew, warm-started from the old ones."""
    freeze_folds(demo_project, n=2)
    honest = CrossFit.__call__

    def redrawn(self, trusted, fold, warm_start):
        if warm_start is not None:
            self = dataclasses.replace(self, folds=np.roll(self.folds, 7))
        probs, state = honest(self, trusted, fold, warm_start)
        return np.full(((self_folds == fold).sum(), probs.shape[1]), 0.1, np.float32), state

    data = read_dataset(demo_project, tiny_recipe, workers=1)
    self_folds = data.folds
    monkeypatch.setattr(CrossFit, "__call__", redrawn)
    with pytest.raises(LabelkitError, match="was trained on clip"):
        verify(demo_project, tiny_recipe, workers=1)


def test_twins_of_a_metadata_import_are_kept_apart(demo_clips, tiny_recipe, tmp_path):
    """Without hashes the folds part identical recordings; training leaves one of them out."""
    audio = tmp_path / "audio"
    shutil.copytree(demo_clips[1] / "audio", audio)
    shutil.copy(audio / "train" / "0001.wav", audio / "twin.wav")
    project, _ = create_project(tmp_path, audio)
    with (demo_clips[1] / "train.csv").open() as file:
        lines = [line.strip().split(",") for line in file][1:]
    name, label, _ = next(line for line in lines if line[0] == "train/0001.wav")
    others = [line[0] for line in lines if line[0] != name]
    lines = [(*line, len(others[:k]) % 2) for k, line in enumerate(lines)]
    fold = next(line[3] for line in lines if line[0] == name)
    source = write_csv(
        tmp_path / "x.csv",
        ("fname", "label", "ok", "fold"),
        [*lines, ("twin.wav", label, 1, 1 - fold)],
    )
    spec = FormatSpec(verified_column="ok", fold_column="fold")
    import_labels(project, source, "csv", spec, metadata_only=True)
    train(project, tiny_recipe, workers=1)
    learnt = rows(
        project,
        "select distinct path from (select unnest(trained_on) as clip_id from runs) "
        f"join clips using (clip_id) where path in ('twin.wav', '{name}')",
    )
    assert len(learnt) == 1


def test_a_lost_run_folder_is_not_mistaken_for_the_stored_run(
    demo_project, tiny_recipe, monkeypatch
):
    freeze_folds(demo_project, n=2)

    class Stop(Exception):
        pass

    def stop(row):
        if row["iteration"] == 1:
            raise Stop

    with pytest.raises(Stop):
        verify(demo_project, tiny_recipe, workers=1, on_round=stop)
    shutil.rmtree(demo_project.runs)
    # The same training gives the same bits, so losing the folder costs only time ...
    with pytest.raises(Stop):
        verify(demo_project, tiny_recipe, workers=1, on_round=stop)
    # ... and where it does not, on another machine say, nothing is mixed.
    shutil.rmtree(demo_project.runs)
    honest = Training.run

    def other(self, *args):
        result = honest(self, *args)
        return result | {"probs": result["probs"][:, ::-1]}

    monkeypatch.setattr(Training, "run", other)
    with pytest.raises(LabelkitError, match="is not what the store says of round 0"):
        verify(demo_project, tiny_recipe, workers=1)


def test_a_damaged_result_is_made_again(imported_project, tiny_recipe, tmp_path):
    found = []
    for name in ("sound", "damaged"):
        project = copy_project(imported_project, tmp_path / name)
        freeze_folds(project, n=2)

        def spoil(row, project=project, name=name):
            if row["iteration"] == 1 and name == "damaged":
                for path in project.runs.glob("*/round-01/fold-0/result.npz"):
                    path.write_text("no longer an archive")
                raise KeyboardInterrupt

        if name == "damaged":
            with pytest.raises(KeyboardInterrupt):
                verify(project, tiny_recipe, workers=1, on_round=spoil)
            # The weights it was fine-tuned from are gone by then, and the message says so.
            with pytest.raises(LabelkitError, match=r"weights.pt cannot be read; delete the fold"):
                verify(project, tiny_recipe, workers=1)
            shutil.rmtree(project.runs)
        verify(project, tiny_recipe, workers=1)
        found.append(labels_now(project))
    assert found[0] == found[1]


def test_a_finished_run_says_which_later_one_is_in_force(demo_project, tiny_recipe):
    freeze_folds(demo_project, n=2)
    recipe = change_verify(tiny_recipe, {"iterations": 1})
    first = verify(demo_project, recipe, workers=1)
    assert "superseded_by" not in verify(demo_project, recipe, workers=1)
    second = verify(demo_project, recipe, seed=1, workers=1)
    assert verify(demo_project, recipe, workers=1)["superseded_by"] == second["run_id"]
    assert first["run_id"] != second["run_id"]


@pytest.mark.parametrize("iterations", [1, 2])
def test_a_finished_run_says_how_it_was_taken_back(demo_project, tiny_recipe, iterations):
    freeze_folds(demo_project, n=2)
    recipe = change_verify(tiny_recipe, {"iterations": iterations})
    run_id = verify(demo_project, recipe, workers=1)["run_id"]
    after = labels_now(demo_project)
    undo(demo_project, run_id)
    again = verify(demo_project, recipe, workers=1)
    assert again["finished_before"] and again["taken_back_by"]
    assert labels_now(demo_project) != after
    # The commands that it names bring everything back.
    for batch in again["taken_back_by"][::-1]:
        assert call(demo_project, "undo", batch).exit_code == 0
    assert labels_now(demo_project) == after
    assert "taken_back_by" not in verify(demo_project, recipe, workers=1)


def test_one_run_has_one_process(demo_project, tiny_recipe):
    freeze_folds(demo_project, n=2)
    demo_project.store.timeout_s = 0.2

    def again(row):
        with pytest.raises(StoreBusy, match="in use by PID"):
            verify(demo_project, tiny_recipe, workers=1)

    verify(demo_project, tiny_recipe, workers=1, on_round=again)


def test_nothing_verified_is_one_clear_line(tone_project, tiny_recipe):
    source = write_csv(
        tone_project.root / "x.csv",
        ("fname", "label"),
        [(f"{n}.wav", f"c{n % 2}") for n in range(6)],
    )
    import_labels(tone_project, source, "csv", FormatSpec())
    freeze_folds(tone_project, n=2)
    with pytest.raises(InvalidInput, match="no clip is verified"):
        verify(tone_project, tiny_recipe, workers=1)


def test_keep_best_takes_the_round_of_lowest_verified_loss(demo_project, tiny_recipe):
    freeze_folds(demo_project, n=2)
    recipe = change_verify(tiny_recipe, {"keep": "best", "iterations": 3})
    seen = []
    summary = verify(demo_project, recipe, workers=1, on_round=seen.append)
    best = min(seen[1:], key=lambda row: row["verified_loss"])
    assert summary["kept_round"] == best["iteration"]
    assert summary["verified_loss"] == pytest.approx(best["verified_loss"])
    now = rows(demo_project, "select count(*) from labels_now where state = 'self_verified'")
    assert now == [(best["self_verified"],)]


def test_workers_and_series_give_the_same_bits(imported_project, tiny_recipe, tmp_path):
    found = []
    for workers in (1, 2):
        project = copy_project(imported_project, tmp_path / str(workers))
        freeze_folds(project, n=2)
        verify(project, tiny_recipe, workers=workers)
        sql = "select run_id, clip_id, probs from predictions order by all"
        found.append((labels_now(project), rows(project, sql)))
    assert found[0] == found[1]


class Watch(threading.Thread):
    """Notes every finished training it sees, and when it was written."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.written, self.done = folder, {}, threading.Event()

    def run(self):
        while not self.done.is_set():
            for path in self.folder.glob("*/round-*/fold-*/result.npz"):
                try:
                    self.written.setdefault(path, set()).add(path.stat().st_mtime_ns)
                except OSError:
                    pass
            time.sleep(0.01)


def test_a_killed_run_goes_on_and_ends_like_an_unkilled_one(
    bare_project, imported_project, tiny_recipe, tmp_path
):
    """SIGKILL after ever more finished trainings, then at random moments, until it is through."""
    whole = copy_project(imported_project, tmp_path / "whole")
    freeze_folds(whole, n=3)
    verify(whole, tiny_recipe, workers=1)

    # Without spectrograms, so that it is killed amid them, too.
    project = copy_project(bare_project, tmp_path / "killed")
    freeze_folds(project, n=3)
    command = [
        sys.executable,
        "-m",
        "labelkit",
        "-C",
        str(project.root),
        "verify",
        "--workers",
        "2",
    ]
    for setting in TINY:
        command += ["--set", setting]
    watch = Watch(project.runs)
    watch.start()
    rng, kills, finished = np.random.default_rng(0), 0, False
    for after in (0, 1, 4, 7, 9):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while len(watch.written) < after and process.poll() is None:
            time.sleep(0.005)
        if not after:
            time.sleep(rng.uniform(2, 4))
        time.sleep(rng.uniform(0, 0.15))
        finished = process.poll() is not None
        workers = children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if finished:
            break
        kills += 1
        # Workers must not outlive their parent.
        wait_for_end(workers)
    assert kills >= 3
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    watch.done.set()
    watch.join()
    assert len(watch.written) == 9 and all(len(times) == 1 for times in watch.written.values())
    assert labels_now(project) == labels_now(whole)
    sql = "select run_id, clip_id, probs from predictions order by all"
    assert rows(project, sql) == rows(whole, sql)
    sql = "select clip_id, state, iteration, score from label_events order by event_id"
    assert rows(project, sql) == rows(whole, sql)
    assert leaks(project) == []


def test_several_labels_a_clip(tmp_path):
    """Summed pairs of demonstration clips: sigmoid head, lwlrap, every label must pass."""
    classes, pairs = pair_clips(tmp_path, 160, seed=5)
    rng = np.random.default_rng(6)
    lines, truth = [], {}
    for number, (name, labels) in enumerate(pairs):
        verified, given = number % 5 < 2, list(labels)
        if not verified and rng.random() < 0.35:
            given[0] = str(rng.choice([c for c in classes if c not in labels]))
        lines.append((name, ",".join(given), int(verified)))
        truth[name] = set(labels)
    project, _ = create_project(tmp_path, tmp_path / "audio")
    source = write_csv(tmp_path / "x.csv", ("fname", "label", "ok"), lines)
    import_labels(project, source, "csv", FormatSpec(verified_column="ok"))
    freeze_folds(project, n=3)
    settings = ["features.sample_rate=16000", "features.n_fft=1024", "features.hop_length=500"]
    settings += ["features.n_mels=24", "input.frames=96", "model.width=8", "pretrain.epochs=24"]
    settings += ["pretrain.lr=0.003", "pretrain.batch_size=16", "verify.iterations=2"]
    summary = verify(project, read_recipe("quick", settings), workers=1)
    assert "verified_lwlrap" in summary and "lwlrap of quick" in summary["signature"]
    given = {name: set(labels.split(",")) for name, labels, _ in lines}
    unverified = [name for name, _, ok in lines if not ok]
    base_rate = np.mean([given[name] == truth[name] for name in unverified])
    chosen = [path for path, _, state in labels_now(project) if state == "self_verified"]
    precision = np.mean([given[name] == truth[name] for name in chosen])
    assert summary["verified_lwlrap"] > 0.75
    assert len(chosen) >= 15 and precision > base_rate + 0.15
    assert leaks(project) == []
