"""The front door from Python, its types, and import paths of old."""

import dataclasses
import datetime
import importlib
import inspect
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import labelkit
from labelkit import moved
from labelkit.api import OpenProject
from labelkit.cli import cli
from labelkit.config import FormatSpec, VerifySpec, read_recipe
from labelkit.errors import InvalidInput, NoProject, UnknownName
from labelkit.output import as_row
from labelkit.records import Batch, LabelEvent
from labelkit.review.pull import PullReport
from labelkit.review.queue import Choice
from tests.support.paths import ROOT
from tests.support.projects import TINY

METHODS = {
    name: getattr(OpenProject, "import_labels" if name == "import" else name)
    for name in ("import", "check", "score", "verify", "train", "push", "pull", "query")
}
# What an option is called in Python, and those that Python leaves to settings or to functions.
NAMES = {"set_": "settings", "format_": "format", "timeout": "timeout_s"}
LEFT_OUT = {
    "import": ["yes", *(field.name for field in dataclasses.fields(FormatSpec))],
    "check": ["moved", "dry_run"],
    "score": ["pairs"],
    "verify": [field.name for field in dataclasses.fields(VerifySpec)],
    "push": ["lowest_lwlrap"],
    "pull": ["watch"],
    "query": ["file", "as_csv", "parquet", "force"],
}
# Python's own.
ADDED = {"spec", "on_round", "on_stage"}

SCRIPT = """
import labelkit
from labelkit import LabelStore, create, make_folds

data = labelkit.open(".", as_of="1")
reveal_type(data)
reveal_type(data.score(lowest=3))
reveal_type(data.import_labels("labels.csv", "csv").added)
reveal_type(data.push(where="fusion < 0.1"))
reveal_type(create("here", "clips").project)
reveal_type(make_folds)
reveal_type(LabelStore)
labelkit.opne()
data.score(lowset=3)
"""


@pytest.fixture
def data(tmp_path):
    """A project of three clips without recordings; the second is rejected in batch 2."""
    (tmp_path / "audio").mkdir()
    rows = ["path,labels,state,subset,group", 'a.wav,"Bark,Rain",verified,train,one',
            "b.wav,Meow,unverified,train,", "c.wav,Rain,verified,test,"]  # fmt: skip
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    found = labelkit.create(tmp_path, tmp_path / "audio")
    spec = FormatSpec(group_column="group", subset_column="subset")
    report = found.import_labels(tmp_path / "labels.csv", "csv", spec=spec, metadata_only=True)
    assert report.added == 3
    [clip_id] = found.query("select clip_id from clips where path = 'b.wav'")["clip_id"]
    event = LabelEvent(clip_id=int(clip_id), state="rejected", labels=[], source="me")
    with found.project.store.write() as session:
        session.append(
            Batch(key="no", kind="say", actor="me", by_person=True, reason="", events=[event])
        )
    return found


@pytest.fixture
def fresh():
    """No old module is loaded, neither before nor after."""

    def forget():
        for name in [*moved.MODULES, *moved.PACKAGES]:
            sys.modules.pop(name, None)

    forget()
    yield
    forget()


def test_open_finds_a_project_as_the_commands_do(data, tmp_path, monkeypatch):
    for found in (labelkit.open(tmp_path), labelkit.open(str(tmp_path), lock_timeout_s=3)):
        assert isinstance(found, OpenProject)
        assert found.project.root == tmp_path
    assert found.project.store.timeout_s == 3
    monkeypatch.chdir(tmp_path / "audio")
    assert labelkit.open().project.root == tmp_path
    assert labelkit.open("..").labels().equals(data.labels())
    with pytest.raises(NoProject):
        labelkit.open(".")
    monkeypatch.setenv("LABELKIT_PROJECT", str(tmp_path / "none"))
    with pytest.raises(NoProject):
        labelkit.open()


def test_create_is_harmless_where_the_project_is(data, tmp_path):
    again = labelkit.create(str(tmp_path), str(tmp_path / "audio"))
    assert again.labels().equals(data.labels())
    assert str(tmp_path) in repr(again)
    (tmp_path / "other").mkdir()
    with pytest.raises(InvalidInput, match="has a project on"):
        labelkit.create(tmp_path, tmp_path / "other")


def test_labels_are_labels_now(data):
    found = data.labels()
    assert list(found.columns) == ["path", "labels", "state", "subset", "group", "domain"]
    assert found["path"].tolist() == ["a.wav", "b.wav", "c.wav"]
    assert found["labels"].tolist() == [["Bark", "Rain"], [], ["Rain"]]
    assert found["state"].tolist() == ["verified", "rejected", "verified"]
    assert found["subset"].tolist() == ["train", "train", "test"]
    assert found["group"].isna().tolist() == [False, True, True]
    view = data.query("select path, labels, state, subset from labels_now order by clip_id")
    pd.testing.assert_frame_equal(found.drop(columns=["group", "domain"]), view)


def test_labels_of_the_past(data, tmp_path):
    before = labelkit.open(tmp_path, as_of="1")
    assert before.labels()["labels"].tolist() == [["Bark", "Rain"], ["Meow"], ["Rain"]]
    states = before.query("select state from labels_now where path = 'b.wav'")["state"]
    assert states.tolist() == ["unverified"]
    now = datetime.datetime.now(datetime.UTC)
    for moment in (2, now, now.date()):
        assert labelkit.open(tmp_path, as_of=moment).labels().equals(data.labels())
    for moment in (99, datetime.date(2020, 1, 1)):
        with pytest.raises(InvalidInput):
            labelkit.open(tmp_path, as_of=moment)


def test_labels_of_an_empty_project(tmp_path):
    empty = labelkit.create(tmp_path / "new", tmp_path)
    assert empty.labels().shape == (0, 6)
    assert empty.query("select path, labels from labels_now").shape == (0, 2)


def test_query_keeps_types(data):
    large, huge = 2**53 + 1, 2**100
    found = data.query(
        "select labels, timestamp '2026-11-01 10:00:00' as moment, "
        "timestamptz '2026-11-01 10:00:00+02' as zoned, date '2026-11-01' as day, "
        "rank() over (order by path) as number, 0.5::double as half, "
        f"case when path = 'a.wav' then {large} end as large, "
        f"case when path = 'a.wav' then {huge} end as huge, "
        "case when path = 'a.wav' then 0.5::double end as gap, "
        "{'a': 1} as struct, state = 'verified' as sure from labels_now order by path"
    )
    assert found["labels"].tolist() == [["Bark", "Rain"], [], ["Rain"]]
    assert (found["moment"] == pd.Timestamp("2026-11-01 10:00")).all()
    assert (found["zoned"] == pd.Timestamp("2026-11-01 08:00", tz="UTC")).all()
    assert found["day"].tolist() == [datetime.date(2026, 11, 1)] * 3
    assert found["number"].tolist() == [1, 2, 3]
    assert found["large"].dtype == "Int64"
    assert found["large"][0] == large
    assert found["huge"].tolist() == [huge, None, None]
    assert found["gap"].dtype == found["half"].dtype == "float64"
    assert found["struct"][0] == {"a": 1}
    assert found["sure"].dtype == bool
    assert found["number"].dtype.kind == "i"


def test_query_says_what_it_cuts_off(data, capsys):
    assert len(data.query("from labels_now", max_rows=2)) == 2
    assert "more than these 2 rows" in capsys.readouterr().err
    with pytest.raises(InvalidInput, match="one SELECT"):
        data.query("drop table clips")


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_what_commands_take(name):
    parameters = dict(inspect.signature(METHODS[name]).parameters)
    del parameters["self"]
    options = {
        NAMES.get(option.name, option.name): option
        for option in cli.commands[name].params
        if option.expose_value and option.name not in {"as_json", *LEFT_OUT.get(name, ())}
    }
    assert set(parameters) - ADDED == set(options)
    for key, option in options.items():
        default = parameters[key].default
        if isinstance(option.default, str | int | float):
            assert default == option.default, key
        elif key != "methods":
            assert default in (None, False, (), inspect.Parameter.empty), key


@pytest.mark.slow
def test_methods_are_the_functions(verified_project, tmp_path):
    project, _, summary, _ = verified_project
    data = OpenProject(project)
    # The same recipe is the same run, and this one is finished: nothing is trained.
    again = data.verify(settings=TINY, workers=1)
    assert again == summary | {"finished_before": True}
    run = data.train(read_recipe("quick", TINY), trusted=True, workers=1)
    assert data.train("quick", settings=list(TINY), trusted=True)["run_id"] == run["run_id"]

    shutil.copytree(project.root, tmp_path / "copy")
    copy = labelkit.open(tmp_path / "copy")
    clips = copy.score(methods=["lwlrap", "margin"], lowest=5, run_id=run["run_id"], workers=1)
    assert len(clips) == 5
    assert all(list(clip.scores) == ["lwlrap", "margin"] for clip in clips)
    columns = {"path", "labels", "suggested", "lwlrap", "margin", "reason"}
    assert columns <= set(as_row(clips[0]))
    assert {issue.issue for issue in copy.check(fast=True, workers=1)} == {"short"}
    assert copy.check(settings=TINY, fast=True, workers=1) == []


def test_rule_of_verify(data, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "labelkit.runs.verify.verify", lambda project, recipe, **rest: seen.append(recipe) or {}
    )
    data.verify(rule="as_written", settings=["verify.iterations=3"])
    assert seen[0].verify.iterations == 3
    assert "verify.iterations=3" in seen[0].changes
    assert len(seen[0].changes) > 1
    with pytest.raises(UnknownName, match="did you mean 'as_written'"):
        data.verify(rule="as_writen")


def test_review_by_method(data, tmp_path, monkeypatch):
    seen = []
    for name in ("push.push", "pull.pull", "pull.pull_file"):
        monkeypatch.setattr(
            f"labelkit.review.{name}", lambda *given, name=name, **rest: seen.append((name, rest))
        )
    monkeypatch.setattr(
        "labelkit.review.push.push",
        lambda project, choice, **rest: seen.append(("push", choice, rest)),
    )
    data.push(lowest=("fusion", 3), dry_run=True)
    data.push(clips="clips.txt", token_file="token")
    data.pull(full=True)
    data.pull(file="export.json")
    none = {"token_file": None}
    sent = {"dry_run": False, "follow_links": False, "token_file": Path("token")}
    assert seen == [
        ("push", Choice(lowest=("fusion", 3)), {"dry_run": True, "follow_links": False, **none}),
        ("push", Choice(clips=Path("clips.txt")), sent),
        ("pull.pull", {"full": True, **none}),
        ("pull.pull_file", {}),
    ]
    with pytest.raises(InvalidInput, match="leave out full"):
        data.pull(full=True, file="export.json")


def test_review_that_is_not_set_up(data, tmp_path):
    with pytest.raises(InvalidInput, match="one of"):
        data.push()
    with pytest.raises(InvalidInput):
        data.push(where="true")
    (tmp_path / "export.json").write_text(json.dumps([]))
    assert data.pull(file=tmp_path / "export.json") == PullReport()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda data: data.train(settings="epochs=3"), r"settings is a list, \['epochs=3'\] say"),
        (lambda data: data.score(methods="lwlrap"), r"methods is a list"),
        (lambda data: data.score(methods=[]), "no score is named; known: aum, "),
        (lambda data: data.train("quik"), "did you mean 'quick'"),
        (lambda data: data.train(settings=["epoch=3"]), "epoch"),
        (lambda data: data.train(read_recipe("quick"), settings=["epochs=3"]), "read_recipe"),
        (lambda data: data.check(read_recipe("quick"), flavour="as_coded"), "read_recipe"),
        (lambda data: data.import_labels("none.csv", "csv"), "none.csv"),
    ],
)
def test_mistakes_are_told(data, call, message):
    with pytest.raises(InvalidInput, match=message):
        call(data)


@pytest.mark.parametrize(
    ("what", "call"),
    [
        ("import", lambda data: data.import_labels("none.csv", "csv")),
        ("push", lambda data: data.push(lowest=("lwlrap", 10))),
        ("push", lambda data: data.push(where="true", dry_run=True)),
        ("pull", lambda data: data.pull()),
        ("pull", lambda data: data.pull(file="export.json")),
    ],
)
def test_the_past_is_not_sent_and_not_written_to(data, what, call):
    past = labelkit.open(data.project.root, as_of="1")
    with pytest.raises(InvalidInput, match=f"looks back to batch 1, and to {what} is of the pres"):
        call(past)


@pytest.mark.slow
def test_type_checkers_see_types(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    # Its own cache, so that neither this nor make lint begins anew for the other's settings.
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent",
               "--cache-dir=.mypy_cache/strict", "--no-error-summary", str(script)]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = [line.partition("script.py:")[2] for line in done.stdout.splitlines()]
    pushed = "labelkit.review.push"
    wanted = [
        'note: Revealed type is "labelkit.api.OpenProject"',
        'note: Revealed type is "list[labelkit.cleaning.score.ScoredClip]"',
        'note: Revealed type is "int"',
        f'note: Revealed type is "tuple[list[{pushed}.PushedClip], {pushed}.PushReport]"',
        'note: Revealed type is "labelkit.project.Project"',
        'note: Revealed type is "def (labels: numpy.ndarray',
        'note: Revealed type is "def (path: pathlib.Path,',
        'error: Module has no attribute "opne"',
        'error: Unexpected keyword argument "lowset"',
    ]
    found = [line.partition(": ")[2] for line in lines if line]
    for text, start in zip(found, wanted, strict=False):
        assert text.replace("builtins.", "").startswith(start), done.stdout
    assert len(found) >= len(wanted), done.stdout + done.stderr


@pytest.mark.parametrize("old", moved.MODULES)
def test_old_module_hands_on_the_new_one(old, fresh):
    with pytest.warns(DeprecationWarning) as told:
        module = importlib.import_module(old)
    assert len(told) == 1
    assert f"{old} is now {moved.MODULES[old]}" in str(told[0].message)
    new = importlib.import_module(moved.MODULES[old])
    names = {name for name in vars(new) if not name.startswith("_")}
    assert names <= set(dir(module))
    for name in names:
        assert getattr(module, name) is getattr(new, name)
    for name, (place, now) in moved.NAMES.get(old, {}).items():
        assert getattr(module, name) is getattr(importlib.import_module(place), now)
        assert f"{name} is {place}.{now}" in str(told[0].message)
    with pytest.raises(AttributeError, match=f"'{old}' has no attribute 'nothing'"):
        _ = module.nothing


def test_warning_names_the_line_that_imports(fresh):
    with pytest.warns(DeprecationWarning) as told:
        from labelkit.workflows import review, stages
        from labelkit.workflows.project import Project, look_back
        from labelkit.workflows.score import score
    assert {warning.filename for warning in told} == {__file__}
    assert len({warning.lineno for warning in told}) == len(told) == 3
    # Once a process; who only names the package has no new place to go to.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.import_module("labelkit.workflows")
        from labelkit.workflows.score import score as again
    assert again is score is importlib.import_module("labelkit.cleaning.score").score
    assert stages.train is importlib.import_module("labelkit.runs.train").train
    assert Project is importlib.import_module("labelkit.project").Project
    assert look_back is importlib.import_module("labelkit.project").fix_as_of
    assert review.__path__ == []


def test_isinstance_holds_across_paths(data, fresh):
    with pytest.warns(DeprecationWarning):
        from labelkit.workflows.project import Project, open_project
    assert isinstance(data.project, Project)
    assert type(open_project(data.project.root)) is type(data.project)


def test_warning_shows_in_a_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import labelkit.workflows\nfrom labelkit.workflows.undo import undo\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert f"{script}:2: DeprecationWarning: labelkit.workflows.undo is now" in done.stderr
    strict = subprocess.run([sys.executable, "-W", "error", str(script)], capture_output=True)
    assert strict.returncode == 1


def test_module_that_never_was(fresh):
    with pytest.raises(ModuleNotFoundError, match=r"labelkit\.workflows\.nothing"):
        importlib.import_module("labelkit.workflows.nothing")


def test_functions_that_pages_showed_go_on_for_one_version():
    labels, scores = np.array([[1, 0]]), np.array([[0.9, 0.4]])
    with pytest.warns(DeprecationWarning, match="split_directions ends with the next version"):
        from labelkit.noise.pairs import split_directions
    given, absent = split_directions(labels, scores)
    np.testing.assert_array_equal(given, [[0.9, np.nan]])
    np.testing.assert_array_equal(absent, [[np.nan, 0.4]])
    with pytest.warns(DeprecationWarning, match="write 1 - missing") as caught:
        from labelkit.noise.pairs import loss_mask
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(loss_mask(np.array([[True, False]])), [[0, 1]])
    with pytest.raises(ImportError):
        from labelkit.noise.pairs import nothing  # noqa: F401


def test_one_finder_and_last():
    importlib.reload(labelkit)
    found = [isinstance(finder, moved.MovedFinder) for finder in sys.meta_path]
    assert sum(found) == 1
