"""The tables of recipes: whole trainings as data, in TOML files.

A file holds the tables of :class:`~labelkit.config.specs.Recipe`, and beside them

- ``about``: a sentence;
- ``common``: what all stages share;
- ``variants.NAME`` and ``flavours.NAME``: tables that change those of the file, where
  ``false`` takes a table away; a variant may have flavours of its own;
- ``sources``: where a setting comes from, by a pattern of its key, the last that fits:
  ``written``, ``coded``, ``inferred`` or ``chosen``; what a flavour changes comes from there;
- ``notes``: a sentence on a setting, by the same patterns;
- ``unknowns``: what the publication leaves open.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from labelkit import registry
from labelkit.config.settings import check_table
from labelkit.config.specs import (
    EmbeddingSpec,
    FeatureSpec,
    InputSpec,
    ModelSpec,
    ProbeSpec,
    VerifySpec,
    WindowSpec,
)
from labelkit.errors import InvalidInput, UnknownName

PARTS = {
    "features": FeatureSpec,
    "input": InputSpec,
    "model": ModelSpec,
    "inference": WindowSpec,
    "validation": WindowSpec,
    "verify": VerifySpec,
    "probe": ProbeSpec,
    "embedding": EmbeddingSpec,
}
FLAVOURS = ("as_coded", "as_written")
SOURCES = ("written", "coded", "inferred", "chosen")
ABOUT = ("about", "notes", "sources", "unknowns")
_DEEPEST = 20


def list_recipes() -> list[str]:
    """List the recipes that come with labelkit, variants as ``recipe/variant``."""
    names = []
    for stem in _stems():
        names += [stem, *(f"{stem}/{variant}" for variant in _load(stem).get("variants", {}))]
    return names


def list_flavours(name: str) -> list[str]:
    """List the flavours of a recipe, the default first; none if it has one only."""
    tables = read_tables(name)
    return [flavour for flavour in FLAVOURS if flavour in tables.get("flavours", {})]


def read_tables(name: str) -> dict[str, Any]:
    """Read the tables of a recipe, with its variant in place.

    Raises:
        UnknownName: If there is no such recipe.
        InvalidInput: If its file is no recipe.
    """
    tables = _load(name)
    stem, slash, variant = name.partition("/")
    if not slash or name.endswith(".toml"):
        return tables
    variants = tables.get("variants", {})
    if variant not in variants:
        known = [f"{stem}/{v}" for v in variants] or [stem]
        raise UnknownName(f"no recipe called {name!r}; {registry.suggestion(name, known)}")
    return _merge(tables, variants[variant])


def refuse_plugins(name: str) -> None:
    """Refuse a recipe's file that names code of packages that nobody allowed.

    Raises:
        InvalidInput: If any table of it does, also one of a variant or flavour not asked for.
    """
    if name.endswith(".toml"):
        for key, found in list_plugins(_load(name)):
            registry.refuse_plugin(found, f"recipe {name}: {key}")


def list_plugins(tables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what names code in the tables of a recipe, as ``package.module:attribute``, by its key.

    A colon is what tells such names apart, wherever a name may stand: as a value, in a list, or as
    the key of a table. ``onnx:`` and ``vectors:`` are files, which are read and not run.
    """
    for path, value in _leaves(tables, ()):
        key = ".".join(path)
        if path[-2:] == ("embedding", "embedder") and value.startswith(("onnx:", "vectors:")):
            continue
        yield from ((key, text) for text in (path[-1], value) if ":" in text)


def _check_depth(tables: Mapping[str, Any], name: str) -> None:
    """Refuse tables and lists nested deeper than any recipe has them."""
    parts: list[Any] = [tables]
    for _ in range(_DEEPEST):
        parts = [inner for part in parts if isinstance(part, dict | list)
                 for inner in (part.values() if isinstance(part, dict) else part)]  # fmt: skip
    if parts:
        raise InvalidInput(f"recipe {name} is nested more than {_DEEPEST} deep; no recipe is")


def _check_about(tables: Mapping[str, Any]) -> None:
    """Refuse what is for people and no text."""
    if not isinstance(tables.get("about", ""), str):
        raise InvalidInput(f"recipe: about must be a sentence, got {tables['about']!r}")
    unknowns = tables.get("unknowns", [])
    if not isinstance(unknowns, list) or not all(isinstance(text, str) for text in unknowns):
        raise InvalidInput(f"recipe: unknowns must be a list of sentences, got {unknowns!r}")
    for pattern, text in check_table(tables.get("notes", {}), "notes").items():
        if not isinstance(text, str):
            raise InvalidInput(f"recipe: notes.{pattern} must be a sentence, got {text!r}")


def _leaves(
    tables: Mapping[str, Any], where: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield every text with its path, without those that are only read by people."""
    for key, value in tables.items():
        of_recipe = len(where) % 2 == 0 and set(where[::2]) <= {"variants", "flavours"}
        if of_recipe and key in ABOUT:
            continue
        # The key counts also where nothing is in the table.
        yield (*where, key), ""
        for part in _flat(value):
            if isinstance(part, Mapping):
                yield from _leaves(part, (*where, key))
            else:
                yield (*where, key), part if isinstance(part, str) else ""


def _flat(value: Any) -> Iterator[Any]:
    """Yield what lists hold, lists in them included."""
    if isinstance(value, list):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def resolve_tables(name: str, flavour: str | None) -> dict[str, Any]:
    """Read a recipe's tables, with variant, flavour and what its stages share in place.

    Raises:
        UnknownName: If there is no such recipe.
        InvalidInput: If its file is no recipe, or it has no such flavour.
    """
    tables = read_tables(name)
    tables.pop("variants", None)
    flavours = tables.pop("flavours", {})
    known = [key for key in FLAVOURS if key in flavours]
    if flavour is not None and flavour not in known:
        raise InvalidInput(
            f"recipe {name} has no flavour {flavour!r}; "
            + (f"known: {', '.join(known)}" if known else "write-up and code do not differ")
        )
    flavour = flavour or (known[0] if known else None)
    if flavour:
        tables = _merge(tables, flavours[flavour])
    common = check_table(tables.pop("common", {}), "common")
    stages = check_table(tables.get("stages", {}), "stages")
    tables["stages"] = {
        stage: _merge(common, check_table(values, f"stages.{stage}"))
        for stage, values in stages.items()
    }
    return {**tables, "flavour": flavour}


def _merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Put the leaves of ``change`` into ``base``; false takes a table away."""
    merged = dict(base)
    for key, value in change.items():
        is_table = isinstance(merged.get(key), Mapping)
        if value is False and is_table:
            del merged[key]
        elif isinstance(value, Mapping) and (is_table or key not in merged):
            merged[key] = _merge(merged.get(key, {}), value)
        else:
            merged[key] = value
    return merged


def flatten(tables: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting with its dotted key; an empty table is one."""
    for key, value in tables.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


def split_setting(text: str) -> tuple[str, str]:
    """Split ``key=value`` into key and value.

    Raises:
        InvalidInput: If it is anything else.
    """
    key, equals, value = text.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise InvalidInput(f"--set takes key=value, got {text!r}")
    return key.strip(), value.strip()


def change_setting(tables: dict[str, Any], text: str) -> None:
    """Put ``key=value`` in its place, in every stage if the key names none.

    Raises:
        InvalidInput: If it is anything else, or there is no such stage or table.
    """
    key, value = split_setting(text)
    path = key.split(".")
    stages = dict(check_table(tables.get("stages", {}), "stages"))
    tables["stages"] = stages
    if path[0] == "stages" and len(path) > 2:
        path = path[1:]
    if len(path) == 1:
        targets = [(stages, name) for name in stages]
    elif path[0] in stages:
        targets = [(stages, path[0])]
    elif path[0] in PARTS:
        targets = [(tables, path[0])]
    else:
        known = [*stages, *PARTS]
        raise InvalidInput(
            f"--set {text}: no stage or table {path[0]!r}; {registry.suggestion(path[0], known)}"
        )
    change: Any = value
    for part in reversed(path if len(path) == 1 else path[1:]):
        change = {part: change}
    for table, name in targets:
        table[name] = _merge(check_table(table.get(name, {}), name), change)


def _stems() -> list[str]:
    found = resources.files("labelkit").joinpath("recipes").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in found if f.name.endswith(".toml"))


def _load(name: str) -> dict[str, Any]:
    """Load the tables of the file that holds a recipe."""
    stem = name.partition("/")[0]
    if name.endswith(".toml"):
        path: Path | Traversable = Path(name)
        if not path.is_file():
            raise InvalidInput(f"no recipe file {name}; give a path, or one of {list_recipes()}")
    elif stem in _stems():
        path = resources.files("labelkit").joinpath("recipes", f"{stem}.toml")
    else:
        raise UnknownName(f"no recipe called {name!r}; {registry.suggestion(name, list_recipes())}")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"recipe {name} is not valid TOML: {error}") from error
    _check_depth(tables, name)
    _check_about(tables)
    for pattern, mark in check_table(tables.get("sources", {}), "sources").items():
        if mark not in SOURCES:
            raise InvalidInput(
                f"sources.{pattern} must be one of {', '.join(SOURCES)}, got {mark!r}"
            )
    for key in ("flavours", "notes", "variants"):
        for part, table in check_table(tables.get(key, {}), key).items():
            if key in ("flavours", "variants"):
                check_table(table, f"{key}.{part}")
    return tables
