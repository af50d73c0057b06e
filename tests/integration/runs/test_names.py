"""Names of runs: what an earlier version finished keeps its name, what it began begins anew."""

import pytest

from labelkit.config import read_recipe
from labelkit.records import Batch, Run
from labelkit.runs.cross_validation import choose_name, run_key
from labelkit.runs.dataset import read_dataset
from tests.support.projects import TINY, copy_project


@pytest.fixture
def named(verified_project, tmp_path):
    """A project, a recipe with a setting that ``train`` does not read, and both names of a run."""
    project = copy_project(verified_project[0], tmp_path / "p")
    recipe = read_recipe("quick", [*TINY, "verify.threshold=0.31"])
    data = read_dataset(project, recipe, workers=1)
    given = (recipe, 7, "cpu", data, data.table.states[data.train])
    before = run_key("train", *given, whole=True)
    assert before != run_key("train", *given)
    return project, given, before, run_key("train", *given)


def test_a_finished_run_of_before_is_found(named):
    project, given, before, now = named
    assert choose_name(project, "train", *given) == now
    run = Run(run_id=before, kind="train", recipe="quick", settings={}, seed=7, classes=[], as_of=1)
    with project.store.write() as session:
        session.append(Batch(key="old", kind="train", actor="t", by_person=False, runs=[run]))
    assert choose_name(project, "train", *given) == before


def test_a_run_that_was_begun_is_begun_anew_and_told(named, capsys):
    project, given, before, now = named
    (project.runs / before).mkdir(parents=True)
    assert choose_name(project, "train", *given) == now
    told = f"{before} was begun by an earlier version and is begun anew as {now}"
    assert told in capsys.readouterr().err
    (project.runs / now).mkdir()
    assert choose_name(project, "train", *given) == now
    assert told not in capsys.readouterr().err
