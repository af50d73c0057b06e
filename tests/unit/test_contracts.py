"""Promises about the shape of the package rather than about any one function."""

import subprocess
import sys

import pytest

import labelkit
from labelkit import registry
from labelkit.errors import UnknownName

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
