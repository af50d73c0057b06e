"""The documentation does what it says."""

import inspect
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from labelkit import registry
from labelkit.audio.faults import REASONS
from labelkit.cli import cli
from labelkit.stores.query import query
from tests.support.paths import ROOT

PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        *(f"docs/{page}.md" for page in "noise examples encoders review store".split()),
    )
}
README = PAGES["README.md"]
# A number of its own: not a part of a file name.
NUMBER = re.compile(r"(?<![\w/.])-?\d+(?:\.\d*)?(?![\w/]|\.\w)")


def blocks(language, page=README):
    return re.findall(rf"```{language}\n(.*?)```", page, re.S)


def programs():
    """Every block of Python, and the output that is printed below it, if any."""
    for name, page in PAGES.items():
        pairs = re.findall(r"```python\n(.*?)```(?:\n```text\n(.*?)```)?", page, re.S)
        for number, (code, printed) in enumerate(pairs):
            yield pytest.param(code, printed, id=f"{name}-{number}")


def test_readme_names_every_command():
    known = [f"`{name}`" for name in cli.commands] + [f"labelkit {name}" for name in cli.commands]
    found = {text.strip("`").removeprefix("labelkit ") for text in known if text in README}
    assert found == set(cli.commands)


@pytest.mark.slow
@pytest.mark.parametrize("code, printed", list(programs()))
def test_python_runs_and_prints_what_the_page_says(code, printed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    if printed:
        assert NUMBER.sub("#", done.stdout) == NUMBER.sub("#", printed)
        # The last digits are the processor's.
        found, told = (np.array(NUMBER.findall(text), float) for text in (done.stdout, printed))
        assert found == pytest.approx(told, rel=0.25, abs=0.05)


def test_every_example_says_what_it_prints():
    page = PAGES["docs/examples.md"]
    assert len(blocks("python", page)) == len(blocks("text", page)) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "sql",
    [
        sql
        for name in ("README.md", "docs/review.md")
        for sql in blocks("sql", PAGES[name])[0].split(";")
        if sql.strip()
    ],
)
def test_sql_runs(verified_project, sql):
    assert query(verified_project[0].store, sql, timeout_s=30).columns


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_commands_parse(page):
    for line in "".join(blocks("console", page)).splitlines():
        words = line.removeprefix("$ labelkit ").split()
        command = cli.commands[words.pop(0)]
        if words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        flags = {flag for p in command.params for flag in getattr(p, "opts", [])}
        assert {w for w in words if w.startswith("--")} <= flags, line


@pytest.mark.parametrize("kind", ["score", "selection", "noise", "classifier", "embedder"])
def test_guide_names_everything_registered(kind):
    guide = PAGES["docs/noise.md"]
    assert [name for name in registry.names(kind) if f"`{name}`" not in guide] == []


def test_guide_names_every_fault():
    assert [name for name in REASONS if f"`{name}`" not in PAGES["docs/noise.md"]] == []


def test_guide_says_the_options_of_every_rule():
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", PAGES["docs/noise.md"], re.M))
    for name in registry.names("selection"):
        parameters = inspect.signature(registry.resolve("selection", name)).parameters.values()
        options = {
            p.name: str(p.default).lower() if isinstance(p.default, bool) else str(p.default)
            for p in parameters
            if p.kind is p.KEYWORD_ONLY and p.default is not None
        }
        assert dict(re.findall(r"`(\w+)=([^`]*)`", rows[name])) == options, name


def test_changelog_has_something_unreleased():
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
