"""The four published systems on the demonstration set, every recipe and flavour, shrunk."""

import hashlib
import json

import numpy as np
import pytest

from labelkit import metrics
from labelkit.config import list_flavours, list_recipes, read_recipe
from labelkit.ensemble import mean_by_group
from labelkit.errors import InvalidInput
from labelkit.project import open_project
from labelkit.records import multi_hot
from labelkit.runs.dataset import read_dataset
from labelkit.runs.folds import freeze_folds
from labelkit.runs.train import train
from labelkit.runs.verify import verify
from tests.support import shared
from tests.support.projects import copy_project

pytestmark = pytest.mark.slow

COMMON = ["features.sample_rate=8000", "features.fmax_hz=none", "features.n_fft=512", "epochs=3",
          "batch_size=16"]  # fmt: skip
IMAGE = ["features.hop_length=250", "features.n_mels=32", "input.frames=64", "model.width=8"]
SHRUNK = {
    "argus": [*IMAGE, "first.epochs=5", "pools.draws=96", "inference.step=32"],
    "bouteillon": [*IMAGE, "model_3.select.at_least=0.3", "model_4.select.at_least=0.5"],
    "dorfer": [
        "features.hop_length=125", "features.n_mels=48", "input.frames=192",
        "input.fill_frames=200", "model.width=8", "model.dropout=0.1", "batch_size=8",
        "pretrain.epochs=10", "pretrain.lr=3e-3", "finetune.epochs=1", "verify.iterations=2",
        "verify.windows=2", "verify.threshold=0.1", "verify.until=all",
    ],
    "ninth": [
        *IMAGE, "epochs=4", "stage_2a.epochs=2", "stage_2b.epochs=1", "stage_1.select.n=30",
        "inference.n=3", "validation.n=1",
    ],
}  # fmt: skip
LOG_BANK = ["features.bands_per_octave=12", "features.fmax_hz=3800", "features.n_mels=61"]
OF_VARIANT = {
    "dorfer/spec2": LOG_BANK,
    "dorfer/spec2_no_pp": LOG_BANK,
    "argus/after_train": ["after.epochs=2"],
}
PUBLISHED = [name for name in list_recipes() if name not in ("quick", "probe")]


def shrink(name, flavour, settings=()):
    """A recipe of seconds; a key that this variant has no stage for is left out."""
    stages = read_recipe(name, flavour=flavour).stages
    tables = ("features", "input", "model", "inference", "validation", "verify", "pools")
    wanted = [*COMMON, *SHRUNK[name.split("/")[0]], *OF_VARIANT.get(name, []), *settings]
    settings = [
        text for text in wanted
        if "." not in text.split("=")[0] or text.split(".")[0] in (*stages, *tables)
    ]  # fmt: skip
    pools = [text for text in settings if text.startswith("pools.")]
    settings = [text for text in settings if text not in pools]
    settings += [f"{stage}.{text}" for text in pools for stage in stages]
    return read_recipe(name, settings, flavour=flavour)


@pytest.fixture
def prepare(imported_project, tmp_path):
    """Makes a project with folds, and with the spectrograms of a recipe, made once a run."""

    def make(recipe):
        def fill(folder):
            project = copy_project(imported_project, folder / "p")
            freeze_folds(project, n=2)
            read_dataset(project, recipe, workers=1)

        name = hashlib.sha256(repr(recipe.features).encode()).hexdigest()[:12]
        folder, _ = shared.once(f"systems-{name}", fill)
        return copy_project(open_project(folder / "p"), tmp_path / "p")

    return make


class Stopped(Exception):
    pass


def stop(row):
    raise Stopped


def files_of(project):
    return {path: path.stat().st_mtime_ns for path in project.runs.glob("*/*/*/result.npz")}


def check_predictions(project, run_id):
    """Every clip is judged, by a model that never saw it, and windows say how."""
    with project.store.read() as session:
        assert session.find_leaks() == []
        clip_ids, judges, probs = session.predictions(run_id)
        table = session.labels()
        locked = set(table.clip_ids[table.subsets == "test"].tolist())
    assert clip_ids.tolist() == table.clip_ids.tolist()
    assert np.isfinite(probs).all() and (judges != run_id).sum() == len(clip_ids) - len(locked)
    for judge in set(judges) - {run_id}:
        windows = project.windows.read(judge)
        assert (windows.ends_s > windows.starts_s).all() and windows.ends_s.max() < 3.6
        mine = clip_ids[judges == judge]
        assert set(windows.clip_ids.tolist()) == set(mine.tolist()) | locked
        use = np.isin(windows.clip_ids, mine)
        mean = mean_by_group(
            windows.probs[use], np.searchsorted(mine, windows.clip_ids[use]), len(mine),
            kind="arithmetic", single=False,
        )  # fmt: skip
        np.testing.assert_allclose(mean, probs[judges == judge], atol=1e-5)
    return clip_ids, probs, table


def check_losses_fall(project, run_id, stage):
    with project.store.read() as session:
        rows = session.rows(
            "select metrics from runs where part_of = ? and iteration = ?", [run_id, stage]
        )
    histories = [json.loads(text)["history"] for (text,) in rows]
    first, last = (np.mean([h[k]["loss"] for h in histories]) for k in (0, -1))
    assert last < first


@pytest.mark.parametrize(
    ("name", "flavour"),
    [
        (name, flavour)
        for name in PUBLISHED
        for flavour in list_flavours(name)
        # A variant differs from its recipe in data alone; one flavour of it shows that it runs.
        if "/" not in name or flavour == "as_coded"
    ],
)
def test_every_recipe_trains_selects_predicts_and_resumes(name, flavour, prepare):
    recipe = shrink(name, flavour)
    project = prepare(recipe)
    loops = name.startswith("dorfer")
    run, event = (verify, "on_round") if loops else (train, "on_stage")
    with pytest.raises(Stopped):
        run(project, recipe, workers=1, **{event: stop})
    before, rows = files_of(project), []
    assert before
    summary = run(project, recipe, workers=1, **{event: rows.append})
    after = files_of(project)
    if not loops:
        assert all(after[path] == changed for path, changed in before.items())
    check_predictions(project, summary["run_id"])
    check_losses_fall(project, summary["run_id"], 0)
    with project.store.read() as session:
        chosen = session.rows("select count(*) from labels_now where state = 'self_verified'")
        selections = session.rows("select reason from batches where kind = 'select'")
    if loops:
        assert chosen[0][0] == summary["self_verified"] > 0
    else:
        choosing = [stage for stage in recipe.stages.values() if stage.select]
        assert len(selections) == len(choosing) and chosen[0][0] == rows[-1]["selected"]
        assert all(rows[k]["selected"] > 0 for k in range(len(rows)) if list(
            recipe.stages.values())[k].select)  # fmt: skip
    again = run(project, recipe, workers=1)
    assert again["run_id"] == summary["run_id"]
    assert files_of(project) == after


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("argus", ["first.epochs=8", "train.epochs=8", "lr=3e-3", "pools.draws=240"]),
        ("ninth", ["batch_size=5", "model.width=12", "epochs=12", "noisy.epochs=6",
                   "stage_2a.epochs=3", "stage_2b.epochs=1"]),
    ],
)  # fmt: skip
def test_two_systems_beat_chance_clearly(name, settings, prepare):
    """On some forty clips of ten classes, where chance ranks to a lwlrap of 0.29."""
    recipe = shrink(name, "as_coded", settings)
    project = prepare(recipe)
    summary = train(project, recipe, workers=1)
    _, probs, table = check_predictions(project, summary["run_id"])
    labels = multi_hot(table.labels, len(table.classes))
    verified = table.states == "verified"
    chance = np.mean(1 / np.arange(1, len(table.classes) + 1))
    assert metrics.lwlrap(labels[verified], probs[verified]) > chance + 0.12


def test_a_recipe_goes_on_from_a_finished_run(prepare):
    noisy = shrink("bouteillon", "as_coded", ["model_1.epochs=2"])
    project = prepare(noisy)
    first = train(project, noisy, workers=1)["run_id"]
    later = shrink("bouteillon", "as_coded", ["model_1.epochs=1"])
    second = train(project, later, workers=1, start=first)["run_id"]
    with project.store.read() as session:
        parents = dict(session.rows("select run_id, parents from runs where part_of = ?", [second]))
        assert session.find_leaks() == []
    for fold in (0, 1):
        assert parents[f"{second}/model_1/fold-{fold}"] == [f"{first}/model_4/fold-{fold}"]
    with pytest.raises(InvalidInput, match="no finished run of that name"):
        train(project, later, workers=1, start="train-none")
    wide = shrink("bouteillon", "as_coded", ["model.width=4"])
    with pytest.raises(InvalidInput, match="of another shape than this cnn_model_1"):
        train(project, wide, workers=1, start=first)
    freeze_folds(project, n=3)
    with pytest.raises(InvalidInput, match="have seen what they would judge"):
        train(project, later, workers=1, start=first)
