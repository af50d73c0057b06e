"""Promises about the shape of the package rather than about any one function."""

import ast
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import labelkit
from labelkit import registry
from labelkit.errors import UnknownName
from tests.support.paths import ROOT

# Every folder with code, but not what the command line and the settings are made of.
ROOMS = sorted(
    ".".join(file.parent.relative_to(ROOT).parts)
    for file in (ROOT / "labelkit").rglob("*/__init__.py")
    if file.parent.name not in ("commands", "config")
)

HEAVY = ("torch", "numpy", "pandas", "duckdb", "cleanlab", "ray", "httpx", "librosa")


@pytest.mark.parametrize("module", ["labelkit", "labelkit.cli", "labelkit.registry"])
def test_import_stays_light(module):
    code = f"import {module}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module", ["noise.scoring", "noise.windows", "noise.verify", "metrics", "folds"]
)
def test_noise_handling_needs_no_framework(module):
    code = (
        f"import labelkit.{module}, sys; "
        "print([m for m in ('torch', 'duckdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_module_runs_like_the_command():
    command = [sys.executable, "-m", "labelkit", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"labelkit, version {labelkit.__version__}\n"


@pytest.mark.parametrize("name", labelkit.__all__)
def test_public_names_exist(name):
    assert getattr(labelkit, name) is not None


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_is_public_in_it(room):
    package = import_module(room)
    assert package.__doc__ and package.__all__ and set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        found = getattr(package, name)
        # Whatever was imported before: a function that is called like a module is had from there.
        module = (Path(package.__file__).parent / f"{name}.py").exists()
        assert isinstance(found, ModuleType) == module, name
        found = getattr(found, name) if module else found
        assert callable(found) and found.__doc__, name
        assert found.__module__.startswith(room), name
    with pytest.raises(AttributeError, match=f"module '{room}' has no attribute 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize("room", ["labelkit", *sorted(set(ROOMS) - {"labelkit.models"})])
def test_type_checkers_read_the_same_names(room):
    package = import_module(room)
    tree = ast.parse(Path(package.__file__).read_text())
    branches = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        alias.name
        for branch in branches
        for node in branch.body
        if isinstance(node, ast.ImportFrom) and node.module.startswith("labelkit")
        for alias in node.names
    }
    assert typed | {"__version__"} == set(package.__all__) | {"__version__"}


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_stays_light(room):
    code = f"import {room}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_public_name():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = labelkit.nothing


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in registry.TABLE for name in registry.TABLE[kind]]
)
def test_every_registered_name_resolves(kind, name):
    assert callable(registry.resolve(kind, name))


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'vgg_gap'"):
        registry.resolve("model", "vgg_gp")


def test_plug_in_is_a_name():
    assert registry.resolve("score", "math:sqrt")(4) == 2


@pytest.mark.parametrize("target", ["no_such_package:f", "math:no_such_function"])
def test_missing_plug_in_is_named(target):
    with pytest.raises(UnknownName, match="no_such"):
        registry.resolve("score", target)


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda f: f.name)
def test_what_a_benchmark_imports_is_there(file):
    """Nothing runs them here, and modules move."""
    for node in ast.walk(ast.parse(file.read_text())):
        modules = [node.module] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in filter(None, modules):
            if module.partition(".")[0] in ("labelkit", "tests"):
                found = import_module(module)
                for alias in node.names if isinstance(node, ast.ImportFrom) else ():
                    name = f"{module}.{alias.name}"
                    assert hasattr(found, alias.name) or find_spec(name), name
