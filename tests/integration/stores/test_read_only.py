"""A project on a disk that may only be read answers whatever needs nothing computed."""

import json
import subprocess

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from labelkit.commands import prompt
from labelkit.commands.shell import Shell
from labelkit.project import open_project
from labelkit.stores.lock import locked
from tests.support.commands import call
from tests.support.disks import small_disk
from tests.support.projects import copy_project

# Kills nothing, but mounts a disk, which others need not see half done.
pytestmark = pytest.mark.alone

ASKED = (
    ["status"], ["log"], ["history", "00.wav"], ["blame", "00.wav"], ["diff", "2"],
    ["query", "select state, count(*) from labels_now group by all"],
    ["query", "from class_summary"],
    ["query", "--as-of", "1", "from labels_now"], ["doctor", "--fast"], ["recipes"],
    ["gc", "--dry-run"], ["review", "quarantine"],
)  # fmt: skip
# These want to write: one line, and nothing is done.
REFUSED = (["undo", "2"], ["folds", "--n", "3"], ["restore", "nothing.duckdb"], ["train"])


@pytest.fixture(params=["locks are there", "no locks", "copied"])
def disk(request, labelled, tmp_path):
    """A disk of its own with the project, mounted again so that it can only be read."""
    with small_disk(tmp_path / "disk", 64) as folder:
        project = copy_project(labelled, folder / "p")
        if request.param == "locks are there":
            with project.store.write():
                pass
        else:
            kinds = ("lock", "queue", "door") if request.param == "copied" else ("lock",)
            for kind in kinds:
                project.store.path.with_name(f"labels.duckdb.{kind}").unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield open_project(folder / "p")


def test_it_answers(disk):
    before = {file: file.stat().st_mtime_ns for file in disk.root.rglob("*")}
    for words in ASKED:
        done = call(disk, *words)
        assert done.exit_code == 0, (words, done.output)
        assert "Traceback" not in done.output
    rows = json.loads(call(disk, "query", "--json", "select count(*) as n from labels_now").stdout)
    assert rows == [{"n": 46}]
    assert {file: file.stat().st_mtime_ns for file in disk.root.rglob("*")} == before


def test_the_prompt_answers(disk, capsys):
    with create_pipe_input() as keys:
        keys.send_text("select count(*) as n from labels_now;\r\x04")
        prompt.talk(Shell(disk, timeout_s=60), input=keys, output=DummyOutput())
    assert "46" in capsys.readouterr().out


def test_what_writes_says_so_in_one_line(disk):
    for words in REFUSED:
        done = call(disk, *words)
        assert done.exit_code not in (0, 130), (words, done.output)
        last = done.stderr.rstrip("\n").rpartition("\n")[2]
        assert last.startswith("Error: ") and "Traceback" not in done.output, (words, done.output)


def test_a_lock_that_can_be_made_is_made(tmp_path):
    with locked(tmp_path / "x", exclusive=False, timeout_s=1):
        assert (tmp_path / "x.lock").exists()
