"""How a command ends when something ends it: one line, and what was done stays."""

import os
import signal
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.errors import NoProject
from labelkit.project import FILE, create_project, find_root
from tests.support.commands import call

RAISED = {
    "memory": MemoryError(),
    "an array": MemoryError("Unable to allocate 4.00 TiB for an array\nwith shape"),
    "a value": ValueError("wrong\nvalue"),
    "a key": KeyError("nowhere"),
    "recursion": RecursionError("maximum recursion depth exceeded"),
    "a runtime": RuntimeError("something of a library"),
    "a type": TypeError("f() takes 1 positional argument but 2 were given"),
    "an import": ImportError("cannot import name 'x'"),
    "an assertion": AssertionError(),
    "long": ValueError("x" * 10_000),
}


@pytest.mark.parametrize("error", RAISED.values(), ids=RAISED)
def test_whatever_goes_wrong_is_one_line(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("labelkit.project.find_root", fail)
    done = CliRunner().invoke(cli, ["status"])
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert len(done.stderr) < 600
    if isinstance(error, MemoryError):
        assert "not enough memory" in done.stderr and "--workers" in done.stderr
    else:
        assert type(error).__name__ in done.stderr and "--debug" in done.stderr
    debug = CliRunner().invoke(cli, ["--debug", "status"])
    assert debug.exception is error


def test_an_error_of_a_plug_in_names_its_file(tmp_path, monkeypatch):
    (tmp_path / "their_score.py").write_text(
        "def judge(labels, probs):\n    return labels[:, 99]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from their_score import judge

    def fail(*args, **kwargs):
        judge(__import__("numpy").eye(2), None)

    monkeypatch.setattr("labelkit.project.find_root", fail)
    done = CliRunner().invoke(cli, ["status"])
    assert done.exit_code == 1 and "IndexError" in done.stderr
    assert "(from their_score.py, line " in done.stderr


def test_usage_is_told_as_ever():
    assert CliRunner().invoke(cli, ["status", "--nothing"]).exit_code == 2
    for words in (["--help"], ["train", "--help"], ["review", "push", "--help"], ["--version"]):
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0 and done.stderr == "" and "Error" not in done.stdout
    with pytest.raises(click.UsageError):
        cli.main(["status", "--nothing"], standalone_mode=False)


WAITING = """
import sys, time
import labelkit.project
from labelkit.cli import cli

def wait(*args, **kwargs):
    print("waiting", flush=True)
    time.sleep(30)

labelkit.project.find_root = wait
cli(["status"], prog_name="labelkit")
"""


STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_say_what_ctrl_c_says(name):
    number = getattr(signal, name)
    # Whoever runs the tests may have some of them ignored, which children inherit.
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in STOPPING],
    )  # fmt: skip
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert told == "Stopped; the same command goes on where it was.\n"
    assert process.returncode == 128 + number


def test_a_signal_that_is_ignored_stays_ignored():
    """nohup: the terminal goes, the command goes on."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert "Stopped" in process.communicate(timeout=20)[1] and process.returncode == 143


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    CliRunner().invoke(cli, ["recipes"])
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == before


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A project of somebody else's above the current folder."""
    (tmp_path / "p" / "audio" / "deep").mkdir(parents=True)
    create_project(tmp_path / "p", tmp_path / "p" / "audio")
    monkeypatch.chdir(tmp_path / "p" / "audio" / "deep")
    mine = os.getuid()
    monkeypatch.setattr("labelkit.project.os.getuid", lambda: mine + 1)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "p"


def test_a_project_of_somebody_else_is_not_come_upon(theirs, monkeypatch):
    with pytest.raises(NoProject, match="has a project of another user") as caught:
        find_root(None)
    assert f"-C {theirs}" in str(caught.value) and "LABELKIT_PROJECT" in str(caught.value)
    assert f'projects = ["{theirs}"]' in str(caught.value)
    done = CliRunner().invoke(cli, ["status"])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1


@pytest.mark.parametrize("way", ["-C", "environment", "configuration", "here"])
def test_it_is_used_where_it_is_named(theirs, monkeypatch, tmp_path, way):
    if way == "-C":
        assert find_root(theirs) == theirs
        return
    if way == "environment":
        monkeypatch.setenv("LABELKIT_PROJECT", str(theirs))
    elif way == "configuration":
        (tmp_path / "config" / "labelkit").mkdir(parents=True)
        config = tmp_path / "config" / "labelkit" / "config.toml"
        config.write_text(f'projects = ["/elsewhere", "{theirs}"]\n')
    else:
        monkeypatch.chdir(theirs)
    assert find_root(None).resolve() == theirs.resolve()


@pytest.mark.parametrize("text", ["projects = 3", "projects = [3]", "[", "projects = '/x'"])
def test_a_wrong_configuration_is_told(theirs, tmp_path, text):
    (tmp_path / "config" / "labelkit").mkdir(parents=True)
    (tmp_path / "config" / "labelkit" / "config.toml").write_text(text)
    done = CliRunner().invoke(cli, ["status"])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert (theirs / FILE).is_file()


@pytest.mark.parametrize(("folder", "store"), [(0o755, 0o644), (0o700, 0o600), (0o770, 0o660),
                                               (0o777, 0o664), (0o750, 0o640)])  # fmt: skip
def test_a_new_store_may_be_read_by_who_may_enter_its_folder(tmp_path, folder, store):
    root = tmp_path / "p"
    (root / "audio").mkdir(parents=True)
    root.chmod(folder)
    project, _ = create_project(root, root / "audio")
    assert project.store.path.stat().st_mode & 0o777 == store
    project.store.path.chmod(0o600)
    create_project(root, root / "audio")
    assert project.store.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("what", ["pipe", "device"])
@pytest.mark.parametrize(
    "words",
    [["import", "{}", "--format", "csv"], ["import", "{}", "--format", "folder"],
     ["changes", "import", "{}"], ["pull", "--from", "{}"], ["push", "--clips", "{}"],
     ["select", "--rule", "listed", "--list", "{}"], ["pull", "--token-file", "{}"]],
)  # fmt: skip
def test_what_has_no_end_is_not_read(labelled, tmp_path, words, what):
    place = "/dev/zero"
    if what == "pipe":
        place = str(tmp_path / "pipe")
        os.mkfifo(place)
    done = call(labelled, *[word.format(place) for word in words])
    assert done.exit_code in (1, 2) and done.stderr.rstrip().count("\n") == 0, done.output


@pytest.mark.parametrize("words", [["pull", "--from", "{}"], ["changes", "import", "{}"],
                                   ["select", "--rule", "listed", "--list", "{}"],
                                   ["push", "--clips", "{}"], ["import", "{}", "--format", "jsonl"],
                                   ["import", "{}", "--format", "argus_corrections"]])  # fmt: skip
def test_what_is_nested_without_end_is_one_line(labelled, tmp_path, words):
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    done = call(labelled, *[word.format(deep) for word in words])
    assert done.exit_code in (1, 2) and "RecursionError" not in done.stderr, done.output


@pytest.mark.parametrize("words", [["undo", "\udcff"], ["changes", "export", "o.json", "--since",
                                   "\udcff"], ["train", "--start", "\udcff"],
                                   ["train", "--start", ""]])  # fmt: skip
def test_words_that_are_none_are_one_line(labelled, words):
    done = call(labelled, *words)
    assert done.exit_code in (1, 2, 3) and "labels.duckdb:" not in done.stderr, done.output
