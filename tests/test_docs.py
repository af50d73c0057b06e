"""The documentation does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from labelkit.cli import cli
from labelkit.workflows import review

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_readme_names_every_command():
    known = [f"`{name}`" for name in cli.commands] + [f"labelkit {name}" for name in cli.commands]
    found = {text.strip("`").removeprefix("labelkit ") for text in known if text in README}
    assert found == set(cli.commands)


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.split("\n")[0])
def test_readme_python_runs(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("sql", [s for s in blocks("sql")[0].split(";") if s.strip()])
def test_readme_sql_runs(verified_project, sql):
    assert review.query(verified_project[0], sql).columns


def test_readme_commands_parse():
    for line in "".join(blocks("console")).splitlines():
        words = line.removeprefix("$ labelkit ").split()
        command = cli.commands[words.pop(0)]
        if words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        flags = {flag for p in command.params for flag in getattr(p, "opts", [])}
        assert {w for w in words if w.startswith("--")} <= flags, line


def test_changelog_has_something_unreleased():
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
