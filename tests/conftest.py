"""Fixtures: small projects on synthesised clips, and the real clips where they are at hand."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from labelkit.cleaning.score import score
from labelkit.config import FormatSpec, read_recipe
from labelkit.datasets.demo import SAMPLE_RATE, plan_demo, synthesise, write_demo
from labelkit.labels.importing import import_labels
from labelkit.project import create_project
from labelkit.runs.folds import freeze_folds
from labelkit.runs.train import train
from labelkit.runs.verify import verify
from tests.label_studio_server import binary, running_server

# Seconds instead of minutes: a narrow net, few mels, few epochs.
TINY = (
    "features.sample_rate=8000",
    "features.n_fft=512",
    "features.hop_length=500",
    "features.n_mels=16",
    "input.frames=48",
    "model.width=4",
    "pretrain.epochs=3",
    "finetune.epochs=1",
    "verify.iterations=2",
    "verify.windows=2",
    "verify.threshold=0",
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """No project and no token of the developer's own is ever found."""
    for name in ("LABELKIT_PROJECT", "LABEL_STUDIO_API_KEY", "LABEL_STUDIO_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data that LABELKIT_TEST_DATA names."""
    named = os.environ.get("LABELKIT_TEST_DATA")
    if not named:
        absent("real-clips", "LABELKIT_TEST_DATA is not set: no real clips here")
    folder = Path(named)
    for part in ("esc10/labels.csv", "fsdkaggle2018/train_post_competition.csv", "argus"):
        if not (folder / part).exists():
            raise FileNotFoundError(f"LABELKIT_TEST_DATA={named} has no {part}")
    return folder


@pytest.fixture(scope="session")
def tiny_recipe():
    return read_recipe("quick", TINY)


@pytest.fixture(scope="session")
def demo_clips(tmp_path_factory):
    """A small demonstration set: its plan and its folder; only ever read."""
    folder = tmp_path_factory.mktemp("demo")
    clips = plan_demo(3, n_train=10, n_test=2)
    write_demo(folder, clips, 3)
    return clips, folder


@pytest.fixture
def demo_project(demo_clips, tmp_path):
    """A project on the small demonstration set, labels imported."""
    return make_demo_project(demo_clips, tmp_path / "project")


def make_demo_project(demo_clips, root):
    _, folder = demo_clips
    root.mkdir()
    project, _ = create_project(root, folder / "audio")
    for name in ("train", "test"):
        spec = FormatSpec(subset=name)
        import_labels(project, folder / f"{name}.csv", "fsdkaggle2018", spec)
    return project


@pytest.fixture(scope="session")
def verified_project(demo_clips, tiny_recipe, tmp_path_factory):
    """A project after train, verify, score and train on the trusted; only ever read."""
    project = make_demo_project(demo_clips, tmp_path_factory.mktemp("v") / "p")
    freeze_folds(project, n=3)
    before = _labels(project)
    train(project, tiny_recipe, workers=1)
    seen = []
    summary = verify(project, tiny_recipe, workers=2, on_round=seen.append)
    score(project, methods=("lwlrap", "margin", "cleanlab"))
    train(project, tiny_recipe, trusted=True, workers=1)
    return project, before, summary, seen


def _labels(project):
    with project.store.read() as session:
        return session.rows("select path, labels, state from labels_now order by path")


@pytest.fixture
def tone_project(tmp_path):
    """A project on six one-second tones of two classes, nothing imported yet."""
    audio = tmp_path / "audio"
    audio.mkdir()
    for number in range(6):
        write_tone(audio / f"{number}.wav", 300 + 400 * (number % 2) + 10 * number)
    root = tmp_path / "project"
    root.mkdir()
    return create_project(root, audio)[0]


def write_tone(path, frequency, seconds=1.0, rate=SAMPLE_RATE):
    t = np.arange(int(seconds * rate)) / rate
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * frequency * t), rate)


def write_csv(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def pair_clips(folder, n, seed):
    """Write ``n`` sums of two demonstration sounds; returns their names and two labels each."""
    rng = np.random.default_rng(seed)
    classes = ["Bell", "Falling_glide", "Gallop", "Rising_glide", "Surf", "Siren"]
    (folder / "audio").mkdir(parents=True)
    pairs = []
    for number in range(n):
        first, second = rng.choice(classes, 2, replace=False)
        wave = 0.5 * (synthesise(first, rng) + synthesise(second, rng))
        name = f"{number:03d}.wav"
        soundfile.write(folder / "audio" / name, wave, SAMPLE_RATE)
        pairs.append((name, (str(first), str(second))))
    return classes, pairs


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory):
    """A running Label Studio, one for all tests: a test makes a project of its own in it."""
    try:
        binary()
    except FileNotFoundError as error:
        if os.environ.get("LABELKIT_LABEL_STUDIO"):
            raise
        absent("label-studio", str(error))
    with running_server(tmp_path_factory.mktemp("label-studio")) as server:
        yield server


def absent(what, reason):
    """Skip, or fail where LABELKIT_REQUIRE, names with commas between, says it must be there."""
    if what in os.environ.get("LABELKIT_REQUIRE", "").split(","):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
