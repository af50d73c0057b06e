"""Without the packages of an extra, the command that needs it says what to install."""

import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.errors import MissingPackage, needing
from labelkit.label_studio.client import PACKAGES, Client
from labelkit.project import create_project
from tests.support.metadata import extras

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln"


def test_extras_hold_what_their_commands_name():
    found = extras()
    assert found["review"] == set(PACKAGES) and found["prompt"] == {"prompt_toolkit"}
    assert not found[""] & (found["review"] | found["prompt"])


def test_the_bridge_names_what_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingPackage) as caught:
        Client("http://localhost:8080", TOKEN)
    assert "Label Studio needs httpx, which is not installed" in str(caught.value)
    assert "pip install httpx (" in str(caught.value)
    assert "'.[review]'" in str(caught.value)


def test_the_prompt_names_what_it_lacks_and_a_script_lacks_nothing(tmp_path, monkeypatch):
    (tmp_path / "audio").mkdir()
    create_project(tmp_path, tmp_path / "audio")
    monkeypatch.delitem(sys.modules, "labelkit.commands.prompt", raising=False)
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    done = CliRunner().invoke(cli, ["-C", str(tmp_path), "sql"], input="select 7 as x;\n")
    assert done.exit_code == 0 and "7" in done.stdout
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("labelkit.commands.query.sys", terminal)
    done = CliRunner().invoke(cli, ["-C", str(tmp_path), "sql"])
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.startswith("Error: the prompt needs prompt_toolkit")
    assert "pip install prompt_toolkit" in done.stderr and done.stderr.count("\n") == 1


def test_other_missing_modules_are_no_matter_of_an_extra():
    with pytest.raises(ModuleNotFoundError), needing("x", "review", *PACKAGES):
        import no_such_module  # noqa: F401
