"""Fixtures: small projects on synthesised clips, the real clips, a server; and who runs what."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from labelkit.cleaning.score import score
from labelkit.config import read_recipe
from labelkit.datasets.demo import plan_demo, write_demo
from labelkit.project import create_project, open_project
from labelkit.runs.dataset import read_dataset
from labelkit.runs.folds import freeze_folds
from labelkit.runs.train import train
from labelkit.runs.verify import verify
from tests.support import schedule, shared
from tests.support.clips import write_tone
from tests.support.label_studio_server import binary, shared_server, stop_shared_server
from tests.support.labelled import make_labelled
from tests.support.projects import PROBE, TINY, copy_project, copy_tones, make_demo_project
from tests.support.requirements import absent

_FIRST = pytest.StashKey[bool]()


def pytest_configure(config):
    """Workers share a folder, and do not fight over the processors."""
    # Workers inherit it, and numpy heeds it where it is there from the start.
    os.environ["OMP_NUM_THREADS"] = "1"
    # What the developer confirmed, say, is nobody's business here, nor is he to confirm anything.
    if not hasattr(config, "workerinput"):
        os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="labelkit-config-")
        os.environ["XDG_STATE_HOME"] = os.environ["XDG_CONFIG_HOME"]
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)
    config.stash[_FIRST] = shared.begin()


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["XDG_CONFIG_HOME"], ignore_errors=True)
    if config.stash.get(_FIRST, False):
        stop_shared_server()
        shared.end()


def pytest_collection_modifyitems(items):
    items.sort(key=schedule.rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return schedule.Schedule(config, log)


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """No project and no token of the developer's own is ever found."""
    for name in ("LABELKIT_PROJECT", "LABEL_STUDIO_API_KEY", "LABEL_STUDIO_API_KEY_FILE",
                 "LABEL_STUDIO_URL", "LABELKIT_PLUGINS"):  # fmt: skip
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
def demo_clips():
    """A small demonstration set: its plan and its folder; only ever read."""

    def make(folder):
        clips = plan_demo(3, n_train=10, n_test=2)
        write_demo(folder, clips, 3)
        return clips

    folder, clips = shared.once("demo", make)
    return clips, folder


@pytest.fixture(scope="session")
def bare_project(demo_clips):
    """A project on the small demonstration set, labels imported; only ever read."""

    def make(folder):
        make_demo_project(demo_clips, folder / "p")

    folder, _ = shared.once("bare", make)
    return open_project(folder / "p")


@pytest.fixture(scope="session")
def imported_project(bare_project):
    """The same with the arrays of what most tests train, which cost more than the training."""

    def make(folder):
        project = copy_project(bare_project, folder / "p")
        read_dataset(project, read_recipe("quick", TINY), workers=1)
        read_dataset(project, read_recipe("probe", PROBE), workers=1)

    folder, _ = shared.once("imported", make)
    return open_project(folder / "p")


@pytest.fixture
def demo_project(imported_project, tmp_path):
    """A copy of it to write to."""
    return copy_project(imported_project, tmp_path / "project")


@pytest.fixture(scope="session")
def verified_project(imported_project, tiny_recipe, tmp_path_factory):
    """A project after train, verify, score and train on the trusted; only ever read."""

    def make(folder):
        project = copy_project(imported_project, folder / "p")
        freeze_folds(project, n=3)
        before = _labels(project)
        train(project, tiny_recipe, workers=1)
        seen = []
        summary = verify(project, tiny_recipe, workers=1, on_round=seen.append)
        score(project, methods=("lwlrap", "margin", "cleanlab"))
        train(project, tiny_recipe, trusted=True, workers=1)
        return before, summary, seen

    folder, (before, summary, seen) = shared.once("verified", make)
    # Each worker reads a copy of its own: no worker waits for a lock that another holds.
    project = open_project(folder / "p")
    return copy_project(project, tmp_path_factory.mktemp("v") / "p"), before, summary, seen


def _labels(project):
    with project.store.read() as session:
        return session.rows("select path, labels, state from labels_now order by path")


@pytest.fixture(scope="session")
def tones():
    """A folder of six one-second tones of two classes and a project on them; only ever read."""

    def make(folder):
        for name in ("audio", "project"):
            (folder / name).mkdir()
        for number in range(6):
            write_tone(folder / f"audio/{number}.wav", 300 + 400 * (number % 2) + 10 * number)
        create_project(folder / "project", folder / "audio")

    folder, _ = shared.once("tones", make)
    return folder


@pytest.fixture
def tone_project(tones, tmp_path):
    """A project on them to write to, nothing imported yet."""
    return copy_tones(tones, tmp_path)


@pytest.fixture(scope="session")
def label_studio():
    """A running Label Studio, one for all tests: a test makes a project of its own in it."""
    try:
        binary()
    except FileNotFoundError as error:
        if os.environ.get("LABELKIT_LABEL_STUDIO"):
            raise
        absent("label-studio", str(error))
    return shared_server()


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """A project without recordings, of tests.support.labelled; only ever read."""
    return make_labelled(tmp_path_factory.mktemp("labelled") / "p")


@pytest.fixture(scope="session")
def tone(tmp_path_factory):
    """The bytes of a short WAV, for tests to which any recording will do."""
    path = tmp_path_factory.mktemp("tone") / "t.wav"
    write_tone(path, 400, seconds=0.05)
    return path.read_bytes()
