"""The distribution has a name of its own, and nothing fetches it, or the import's, from an index.

Somebody else's package lies there as ``labelkit``: whoever follows such an instruction in a fresh
environment runs a stranger's code.
"""

import re
import tokenize
from importlib.metadata import requires, version

import pytest

import labelkit
from labelkit.errors import MissingPackage, needing
from tests.support.metadata import distribution, extras
from tests.support.paths import ROOT

IMPORT = "labelkit"
# Words after which an index is asked for what follows.
FETCH = re.compile(
    r"\b(?:pip3?|pipx|uv|uvx|conda|mamba|poetry|pdm|easy_install)\s+"
    r"(?:(?:pip|tool)\s+)?(?:install|add|run|download|wheel|inject)?\s*(?P<what>[^\n)`]*)"
)


def fetched(text, names):
    """Name what a text would have an index hand out under one of the names."""
    found = []
    for match in FETCH.finditer(text):
        for word in re.split(r"\s+", match["what"]):
            bare = re.split(r"[\[<>=~!@;]", word.strip("'\"`,.()"))[0]
            # A path starts with a dot or holds a slash; '.[onnx]' has no name left.
            if bare.lower().replace("_", "-") in names and not word.strip("'\"").startswith("."):
                found.append(match[0])
    return found


def names_with_extras(text, names):
    return [word for word in re.findall(r"([\w-]+)\[[\w, ]+\]", text) if word in names]


def texts():
    """Yield whatever somebody may read or run: pages, messages, settings and scripts."""
    patterns = (
        "*.md", "docs/**/*.md", "docs/**/*.py", "labelkit/**/*.md", "labelkit/**/*.toml",
        "benchmarks/**/*.py", "findings/*.sh", "tools/*.py", "Makefile", ".ci/run",
        ".pre-commit-config.yaml", "setup.cfg", "pyproject.toml", "constraints.txt",
    )  # fmt: skip
    for pattern in patterns:
        for file in ROOT.glob(pattern):
            yield file, file.read_text("utf-8")
    for file in (ROOT / "labelkit").rglob("*.py"):
        with tokenize.open(file) as source:
            for token in tokenize.generate_tokens(source.readline):
                if (
                    token.type in (tokenize.STRING, tokenize.COMMENT)
                    or "FSTRING" in (tokenize.tok_name[token.type])
                ):
                    yield file, token.string


def test_the_name_is_not_that_of_somebody_elses_package():
    assert distribution() not in (IMPORT, "label-kit")
    assert version(distribution()) == labelkit.__version__


def test_nothing_fetches_it_from_an_index():
    names = {IMPORT, distribution()}
    read = list(texts())
    assert len({file for file, _ in read}) > 200
    for file, text in read:
        assert not fetched(text, names), file
        assert not names_with_extras(text, names), file


def test_it_requires_no_other_package_by_its_own_name():
    for line in requires(distribution()) or []:
        assert re.split(r"[\s\[<>=;]", line)[0] not in (IMPORT, distribution())


@pytest.mark.parametrize("extra", sorted(set(extras()) - {""}))
def test_what_is_missing_is_named_itself(extra):
    packages = sorted(extras()[extra])
    with pytest.raises(MissingPackage) as caught, needing("This", extra, *packages):
        raise ModuleNotFoundError(name=packages[0].replace("-", "_"))
    said = str(caught.value)
    assert f"pip install {packages[0]}" in said and f"pip install '.[{extra}]'" in said
    assert not fetched(said, {IMPORT, distribution()})


@pytest.mark.parametrize(
    "text",
    [
        "pip install NAME", "pip install 'NAME[onnx]'", "uv pip install NAME>=0.1",
        "pipx run NAME doctor", "uvx NAME", "uv add NAME",
        "python -m pip install --upgrade NAME==0.1.0", 'conda install "NAME"',
        "poetry add NAME@latest",
        "uv tool install NAME",
    ],
)  # fmt: skip
def test_the_net_catches(text):
    for name in (IMPORT, IMPORT.title(), distribution()):
        assert fetched(text.replace("NAME", name), {IMPORT, distribution()})


@pytest.mark.parametrize(
    "text",
    [
        "pip install '.[onnx]'", "pip install -e .", "pip install onnxruntime",
        "pip install ./labelkit",
        "uv pip install --constraint constraints.txt '.[dev]'", "labelkit recipes show pip",
    ],
)  # fmt: skip
def test_the_net_lets_through(text):
    assert not fetched(text, {"labelkit", "labelkit-audio"})
