"""What a run says of itself as a judge, who warns of it, and a round that trusts nothing."""

import csv

import numpy as np
import pytest

from labelkit.cleaning.score import score
from labelkit.cleaning.selection import select
from labelkit.config import FormatSpec, list_verify_settings, read_recipe
from labelkit.errors import InvalidInput
from labelkit.labels.importing import import_labels
from labelkit.maintenance.status import status
from labelkit.project import create_project
from labelkit.runs.train import train
from labelkit.runs.verify import verify
from tests.support.projects import PROBE, TINY

pytestmark = pytest.mark.slow
RECIPE = read_recipe("probe", PROBE)


@pytest.fixture(params=["as they are", "dealt at random"])
def labelled(request, demo_clips, tmp_path):
    """A project whose labels say something, or nothing, of its recordings; half are verified."""
    folder = demo_clips[1]
    project, _ = create_project(tmp_path, folder / "audio")
    with (folder / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = [row["label"] for row in rows]
    if request.param == "dealt at random":
        labels = np.random.default_rng(0).permutation(labels).tolist()
    with (tmp_path / "l.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("fname", "label", "ok"))
        writer.writerows(
            (row["fname"], label, number % 2)
            for number, (row, label) in enumerate(zip(rows, labels, strict=True))
        )
    spec = FormatSpec(verified_column="ok", match="name")
    import_labels(project, tmp_path / "l.csv", "csv", spec)
    return project, request.param == "dealt at random"


def test_a_run_keeps_its_agreement_and_a_weak_one_is_warned_of(labelled, capsys):
    project, is_random = labelled
    run = train(project, RECIPE, workers=1)
    assert 0 <= run["agreement"] <= 1 and run["agreement_by_chance"] < 0.5
    assert run["verified_accuracy_low"] <= run["verified_accuracy"] <= run["verified_accuracy_high"]
    words = run["judge"]
    assert "by chance" in words and f"of {run['verified_clips']} clips that people" in words
    assert ("little more than chance" in capsys.readouterr().err) == is_random
    score(project, lowest=3)
    assert ("little more than chance" in capsys.readouterr().err) == is_random
    select(project, "confident", run_ids=(None,), dry_run=True)
    assert ("little more than chance" in capsys.readouterr().err) == is_random
    shown = {fact.what: fact.value for fact in status(project)}[f"run {run['run_id']}"]
    assert f"agreement beyond chance {run['agreement_beyond_chance']:.2f}" in shown


def test_verify_says_what_it_trusts_and_why_it_stops(labelled, capsys):
    project, is_random = labelled
    told = []
    run = verify(project, RECIPE, workers=1, on_round=told.append)
    assert told[-1]["end"] and not any("end" in row for row in told[:-1])
    assert told[-1]["end"] in run["kept_because"]
    with project.store.read() as session:
        trusted = session.rows("select count(*) from labels_now where state = 'self_verified'")
    assert trusted == [(run["self_verified"],)]
    if is_random:
        assert (run["self_verified"], run["kept_round"], len(told)) == (0, 0, 1)
        assert "nothing is trusted: by the" in capsys.readouterr().err
    again = verify(project, RECIPE, workers=1)
    assert again.pop("finished_before") and not run.pop("finished_before")
    assert again == run


def test_the_rest_of_the_clips_may_stay(demo_project, tiny_recipe, capsys):
    with pytest.raises(InvalidInput, match="give --trusted, too"):
        train(demo_project, tiny_recipe, rest=0.5, workers=1)
    with pytest.raises(InvalidInput, match="weighs no clips"):
        train(demo_project, RECIPE, trusted=True, rest=0.5, workers=1)
    recipe = read_recipe("quick", [*TINY, "pretrain.epochs=1"])
    run = train(demo_project, recipe, trusted=True, rest=0.5, workers=1)
    assert "clips that nobody trusts are the noisy pool, at a weight of 0.5" in (
        capsys.readouterr().err
    )
    assert "all" in run["trained_on"] and "noisy_weight=0.5" in run["signature"]


@pytest.mark.parametrize("name", ["dorfer", "dorfer/spec1_1"])
def test_a_published_rule_counts_in_names_as_it_did(name):
    spec = read_recipe(name).verify
    before = {"iterations": 10, "windows": 25, "threshold": 0.0, "per_class": 40,
              "accumulate": False, "keep": "last"}  # fmt: skip
    assert list_verify_settings(spec, of_before=False) == before


@pytest.mark.parametrize("name", ["argus", "bouteillon", "ninth"])
def test_runs_of_before_are_found_where_nothing_is_said_of_verify(name):
    before = {"iterations": 10, "windows": 25, "threshold": 0.95, "per_class": 40,
              "accumulate": False, "keep": "last"}  # fmt: skip
    assert list_verify_settings(read_recipe(name).verify, of_before=True) == before
