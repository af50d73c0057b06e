"""The log of the epochs: what it holds, that a stop changes nothing, and what it takes."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from labelkit.config import WindowSpec, read_recipe
from labelkit.errors import LabelkitError, StoreError
from labelkit.models import create_model
from labelkit.runs.dataset import read_dataset
from labelkit.runs.folds import freeze_folds
from labelkit.runs.train import train
from labelkit.stores.epochs import EpochStore
from labelkit.training.callbacks import Callback, Checkpoint, EpochLog, Seeding
from labelkit.training.crossfit import Training
from labelkit.training.predict import predict_windows
from labelkit.training.spectrograms import Spectrograms
from tests.support.projects import TINY, copy_project
from tests.support.trainers import Dropping, make_batches, make_trainer, scored

X = torch.randn(9, 1, 16, 5, generator=torch.Generator().manual_seed(0))


class Stop(Callback):
    """Stops a training after some epochs, as Ctrl-C would."""

    def __init__(self, after):
        self.after = after

    def on_epoch_end(self, trainer):
        if len(trainer.history) == self.after:
            raise KeyboardInterrupt


class Judges(Callback):
    """Keeps what the network says after each epoch."""

    def __init__(self):
        self.rows = []

    def on_epoch_end(self, trainer):
        self.rows.append(judge(trainer))


def judge(trainer):
    trainer.model.eval()
    with torch.no_grad():
        return trainer.model(X).numpy().copy()


def make(path, *, every=1, epochs=6, before=(), after=(), **options):
    trainer = make_trainer(net=Dropping, epochs=epochs, **options)
    log = EpochLog(path, lambda: judge(trainer), n_rows=epochs // every, every=every)
    trainer.callbacks = [Seeding((3,)), *before, log, *after]
    return trainer


@pytest.mark.parametrize("every", [1, 2, 4])
def test_rows_are_what_the_network_says_after_these_epochs(tmp_path, every):
    judges = Judges()
    trainer = make(tmp_path / "deep" / "log.npy", every=every, after=[judges])
    history = trainer.fit(make_batches())
    rows = np.load(tmp_path / "deep" / "log.npy")
    assert rows.dtype == np.float16 and rows.shape == (6 // every, 9, 3)
    np.testing.assert_allclose(rows, judges.rows[every - 1 :: every], atol=2e-3)
    assert np.ptp(rows.astype(float), axis=0).max() > 0.01 or len(rows) == 1
    expected = [n // every if n % every == 0 else None for n in range(1, 7)]
    assert [row.get("logged") for row in history] == expected


def test_a_log_changes_nothing_of_the_training(tmp_path):
    plain = make_trainer([Seeding((3,))], net=Dropping)
    plain.fit(make_batches())
    logged = make(tmp_path / "log.npy")
    logged.fit(make_batches())
    for a, b in zip(plain.model.parameters(), logged.model.parameters(), strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("saved_every_s", [0, 1e9])
@pytest.mark.parametrize("stopped_after", [1, 2, 3, 5])
@pytest.mark.parametrize("where", ["before the checkpoint", "after it"])
def test_a_stopped_training_writes_the_same_log(
    tmp_path, every, saved_every_s, stopped_after, where
):
    make(tmp_path / "whole.npy", every=every).fit(make_batches())

    def part(*stop):
        checkpoint = Checkpoint(tmp_path / "c.pt", every_s=saved_every_s)
        order = [*stop, checkpoint] if where.startswith("before") else [checkpoint, *stop]
        return make(tmp_path / "parts.npy", every=every, after=order)

    with pytest.raises(KeyboardInterrupt):
        part(Stop(stopped_after)).fit(make_batches())
    torch.manual_seed(99)
    history = part().fit(make_batches())
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert max(row.get("logged", 0) for row in history) == 6 // every


def test_half_a_file_of_a_killed_training_is_begun_anew(tmp_path):
    make(tmp_path / "whole.npy").fit(make_batches())
    (tmp_path / "log.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:40])
    make(tmp_path / "log.npy").fit(make_batches())
    assert (tmp_path / "log.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_rows_that_are_gone_are_not_made_up(tmp_path):
    def part(*stop):
        return make(tmp_path / "log.npy", after=[Checkpoint(tmp_path / "c.pt", every_s=0), *stop])

    with pytest.raises(KeyboardInterrupt):
        part(Stop(2)).fit(make_batches())
    (tmp_path / "log.npy").unlink()
    with pytest.raises(LabelkitError, match=r"log.npy is gone, half written; take another --seed"):
        part().fit(make_batches())


def test_after_an_early_stop_the_history_says_how_many_rows_count(tmp_path):
    values = [0.1, 0.3, 0.2, 0.25, 0.3, 0.29, 0.9, 0.9]
    trainer = make(
        tmp_path / "RUN" / "one" / "fold-0.npy", every=2, epochs=8, before=[scored(values)],
        monitor="lwlrap", stop_patience=3,
    )  # fmt: skip
    history = trainer.fit(make_batches())
    n_rows = max(row.get("logged", 0) for row in history)
    assert len(history) == 5 and n_rows == 2
    store = EpochStore(tmp_path)
    store.write_clips("RUN", np.arange(9))
    clips, rows = store.read("RUN/one/fold-0", n_rows)
    assert clips.tolist() == list(range(9)) and rows.shape == (2, 9, 3)
    assert np.abs(rows).max(axis=(1, 2)).min() > 0
    with pytest.raises(StoreError, match=r"fold-1.npy is gone; train again with another --seed"):
        store.read("RUN/one/fold-1", n_rows)
    with pytest.raises(StoreError, match="is of another run"):
        store.read("RUN/one/fold-0", 5)
    store.write_clips("RUN", np.arange(8))
    with pytest.raises(StoreError, match="is of another run"):
        store.read("RUN/one/fold-0", n_rows)
    (tmp_path / "RUN" / "one" / "fold-0.npy").write_bytes(b"no array")
    with pytest.raises(StoreError, match="is damaged; train again with another --seed"):
        store.read("RUN/one/fold-0", n_rows)


def test_huge_logits_stay_finite(tmp_path):
    trainer = make_trainer(epochs=1)
    huge = np.array([[1e30, -1e30, 0.0]])
    trainer.callbacks = [EpochLog(tmp_path / "log.npy", lambda: huge, n_rows=1, every=1)]
    trainer.fit(make_batches())
    assert np.isfinite(np.load(tmp_path / "log.npy")).all()


@pytest.mark.slow
def test_rows_are_written_one_at_a_time(tmp_path):
    """Twelve epochs of 20,000 clips and 40 classes: the file has 19 MB, a row 1.6."""
    path, row = tmp_path / "log.npy", np.ones((20_000, 40), np.float32)
    trainer = make_trainer(epochs=12)
    opened = []

    class Maps(Callback):
        def on_epoch_end(self, trainer):
            opened.append(str(path) in Path("/proc/self/maps").read_text())

    trainer.callbacks = [EpochLog(path, lambda: row, n_rows=12, every=1), Maps()]
    batches = make_batches()
    tracemalloc.start()
    try:
        trainer.fit(batches)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.load(path, mmap_mode="r").shape == (12, 20_000, 40)
    # A row in float32, once clipped and once as float16.
    assert peak < 8e6 < path.stat().st_size / 2
    assert opened == [False] * 12


@pytest.fixture(scope="module")
def trained(imported_project, tmp_path_factory):
    """A project with a training that logs every epoch, and what was trained."""
    project = copy_project(imported_project, tmp_path_factory.mktemp("log") / "p")
    freeze_folds(project, n=2)
    recipe = read_recipe("quick", [*TINY, "pretrain.log_every=1"])
    return project, recipe, train(project, recipe, workers=1)


def read_logs(project, run_id):
    folder = project.work / "epochs" / run_id / "pretrain"
    return {path.name: np.load(path) for path in sorted(folder.glob("*.npy"))}


@pytest.mark.slow
def test_the_last_row_is_the_final_models(trained):
    project, recipe, summary = trained
    data = read_dataset(project, recipe, workers=1)
    logs = read_logs(project, summary["run_id"])
    assert list(logs) == ["fold-0.npy", "fold-1.npy"]
    clips = np.load(project.work / "epochs" / summary["run_id"] / "clips.npy")
    assert clips.tolist() == data.ids.tolist()
    for fold in (0, 1):
        folder = project.runs / summary["run_id"] / "pretrain" / f"fold-{fold}"
        weights = torch.load(folder / "weights.pt", weights_only=True)
        model = create_model(recipe.model.name, 10, in_channels=recipe.input.channels, width=4)
        model.load_state_dict(weights["model"])
        frames = data.learner.frames
        shape = (int((frames.starts + frames.lengths).max()), 16)
        matrix = np.memmap(frames.path, np.float16, "r", shape=shape)
        bank = Spectrograms(matrix, frames.starts, frames.lengths, recipe.input, "cpu")
        bank.normalise(weights["mean"].numpy(), weights["std"].numpy())
        logits = predict_windows(
            model, bank, np.arange(len(data.labels)), WindowSpec(windows="centre"),
            head="none", n_frames=48, seed=(0,),
        ).probs  # fmt: skip
        row = logs[f"fold-{fold}.npy"][-1]
        assert np.ptp(logits) > 0.01
        np.testing.assert_allclose(row, logits, rtol=2e-3, atol=2e-3)
        assert np.abs(logs[f"fold-{fold}.npy"][0] - row).max() > 0.01


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_logs(trained, imported_project, tmp_path, monkeypatch):
    whole, recipe, summary = trained
    project = copy_project(imported_project, tmp_path / "stopped")
    freeze_folds(project, n=2)
    monkeypatch.setattr(Checkpoint.__init__, "__kwdefaults__", {"every_s": 0.0})
    run = Training.run

    def stopping(self, start, judge):
        def fall(callback, trainer):
            saved(callback, trainer)
            if self.fold == 1 and len(trainer.history) == 2:
                raise KeyboardInterrupt

        saved = Checkpoint.on_epoch_end
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "on_epoch_end", fall)
            return run(self, start, judge)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(project, recipe, workers=1)
    again = train(project, recipe, workers=1)
    assert again["run_id"] == summary["run_id"]
    before, after = (read_logs(p, summary["run_id"]) for p in (whole, project))
    assert list(before) == list(after)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


@pytest.mark.slow
def test_nothing_is_logged_unless_asked_for(trained):
    project, _, _ = trained
    for settings in (["pretrain.log_every=0"], ["pretrain.log_every=2", "pretrain.epochs=1"]):
        recipe = read_recipe("quick", [*TINY, "pretrain.epochs=1", *settings])
        run_id = train(project, recipe, workers=1)["run_id"]
        assert not (project.work / "epochs" / run_id / "pretrain").exists()
