"""Recipes: read, changed by single settings, checked and explained."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from labelkit import registry
from labelkit.config.settings import check_table, create_spec, find_words
from labelkit.config.specs import Recipe, StageSpec, VerifySpec
from labelkit.config.tables import (
    ABOUT,
    PARTS,
    change_setting,
    flatten,
    list_flavours,
    list_plugins,
    list_recipes,
    read_tables,
    refuse_plugins,
    resolve_tables,
    split_setting,
)
from labelkit.errors import InvalidInput
from labelkit.progress import say

# The stage that verify repeats round by round; train leaves it out.
ROUND_STAGE = "finetune"
# What means nothing to a classifier on embeddings, and what of it does all the same.
_OF_NETWORKS = ("input.*", "model.*", "stages.*", "inference.*", "validation.*")
_OF_BOTH = ("stages.*.clips", "stages.*.select.*", "stages.*.remove.*", "inference.fold_mean")


@dataclass(frozen=True)
class RecipeRow:
    """One setting of a recipe: its value, where it comes from, and what is to be said of it."""

    key: str
    value: Any
    source: str
    other: str
    note: str


def recipe_table() -> list[dict[str, Any]]:
    """Make a row for each recipe: its name, flavours, network, stages, and a sentence."""
    rows = []
    for name in list_recipes():
        recipe = read_recipe(name)
        rows.append(
            {
                "recipe": name,
                "flavours": list_flavours(name),
                "model": recipe.probe.classifier or recipe.model.name,
                "stages": list(recipe.stages),
                "about": read_tables(name).get("about", ""),
            }
        )
    return rows


def read_recipe(name: str, settings: Sequence[str] = (), *, flavour: str | None = None) -> Recipe:
    """Read a recipe by name or path and change single settings of it.

    Args:
        name: One of :func:`list_recipes`, or the path of a TOML file.
        settings: ``key=value`` strings. ``epochs=3`` sets a key in every stage,
            ``finetune.epochs=3`` in one, ``model.width=8`` in another table.
        flavour: ``as_written`` or ``as_coded``; None takes the first of
            :func:`list_flavours`.

    Raises:
        UnknownName: If there is no such recipe.
        InvalidInput: If a key or a value does not fit, or its file names code of packages
            that nobody allowed (:func:`labelkit.registry.allowing`); ``settings`` may.

    Example:
        >>> read_recipe("quick", ["finetune.epochs=3"]).stages["finetune"].epochs
        3
    """
    refuse_plugins(name)
    return _read(name, settings, flavour)


def read_encoded(
    name: str, encoder: str | None, settings: Sequence[str] = (), flavour: str | None = None
) -> Recipe:
    """Read a recipe whose vectors are of an encoder; to a panel they are one more view.

    Args:
        name: As for :func:`read_recipe`.
        encoder: An embedder; None leaves the recipe as it is.
        settings: As for :func:`read_recipe`.
        flavour: As for :func:`read_recipe`.

    Raises:
        InvalidInput: If the recipe hears no vectors, or a setting names an embedder as well.
    """
    recipe = read_recipe(name, settings, flavour=flavour)
    if encoder is None:
        return recipe
    if not recipe.probe.classifier:
        raise InvalidInput(
            f"recipe {name} trains a network, which hears spectrograms and no vectors; leave out "
            "--encoder, or take --recipe panel"
        )
    key, value = "embedding.embedder", encoder
    if recipe.embedding.beside:
        key, value = "embedding.beside", ",".join((*recipe.embedding.beside, encoder))
    for text in settings:
        if split_setting(text)[0].strip() in ("embedding.embedder", key):
            raise InvalidInput(f"encoder {encoder} and --set {text} exclude one another")
    if encoder in (recipe.embedding.embedder, *recipe.embedding.beside):
        return recipe
    return read_recipe(name, (f"{key}={value}", *settings), flavour=flavour)


def _read(
    name: str, settings: Sequence[str], flavour: str | None, *, imports: bool = True
) -> Recipe:
    tables = resolve_tables(name, flavour)
    for text in settings:
        change_setting(tables, text)
    stem = Path(name).stem if name.endswith(".toml") else name
    plain = {key: value for key, value in tables.items() if key not in ABOUT}
    recipe = recipe_from_dict({**plain, "name": stem, "changes": tuple(settings)}, imports=imports)
    if tables.get("sources"):
        _refuse_words(recipe)
    return recipe


def _refuse_words(recipe: Recipe) -> None:
    """Refuse to leave settings of a published training, of which each has a source, open.

    Raises:
        InvalidInput: If it leaves one to the recordings.
    """
    for table in ("features", "input"):
        for key in find_words(getattr(recipe, table)):
            raise InvalidInput(
                f"{table}.{key} is {getattr(getattr(recipe, table), key)}, and recipe "
                f"{recipe.name} is a published one, whose settings do not follow from the "
                "recordings; give a number"
            )


def explain_recipe(
    name: str, settings: Sequence[str] = (), *, flavour: str | None = None
) -> tuple[str, list[RecipeRow], list[str]]:
    """Explain a recipe: a sentence, a row for every setting, and the unknowns.

    Code that it names is shown and not imported.

    Raises:
        UnknownName: If there is no such recipe.
        InvalidInput: If a key or a value does not fit.
    """
    tables = resolve_tables(name, flavour)
    recipe = _read(name, settings, flavour, imports=False)
    values, published = _values(recipe), _values(_read(name, (), flavour, imports=False))
    others = {
        other: _values(_read(name, settings, other, imports=False))
        for other in list_flavours(name)
        if other != recipe.flavour
    }
    given = {key for key, _ in flatten({k: v for k, v in tables.items() if k not in ABOUT})}
    of_flavour = read_tables(name).get("flavours", {}).get(recipe.flavour, {})
    plugins = {key: registry.find_package(found) for key, found in list_plugins(asdict(recipe))}
    rows = []
    for key, value in values.items():
        differing = [
            f"{other}: {theirs.get(key, 'absent')}"
            for other, theirs in others.items()
            if theirs.get(key, "absent") != value
        ]
        source = "default"
        if key in given:
            source = _find_source(key, tables.get("sources", {})) or "chosen"
        elsewhere = any(key in theirs for theirs in others.values())
        if differing and recipe.flavour and (elsewhere or key in given):
            own = _find_source(key, of_flavour.get("sources", {}))
            source = own or recipe.flavour.removeprefix("as_")
        if published.get(key, "absent") != value:
            source = "set"
        notes = [text for pattern, text in tables.get("notes", {}).items()
                 if fnmatchcase(key, pattern)]  # fmt: skip
        if key in plugins:
            notes.append(f"code of {plugins[key]}, which runs in a training")
        rows.append(RecipeRow(key, value, source, "; ".join(differing), " ".join(notes)))
    for other in others:
        theirs = resolve_tables(name, other)
        for key, value in flatten({k: v for k, v in theirs.items() if k not in ABOUT}):
            if key not in values and key != "flavour":
                mark = (recipe.flavour or "").removeprefix("as_")
                rows.append(RecipeRow(key, "absent", mark, f"{other}: {value}", ""))
    if recipe.probe.classifier:
        rows = [row for row in rows if not _is_of_networks(row.key)]
    return tables.get("about", ""), rows, list(tables.get("unknowns", []))


def list_stages(rows: Sequence[RecipeRow]) -> list[str]:
    """List the stages that the rows of a whole recipe are of, in their order."""
    keys = [row.key.split(".") for row in rows]
    return list(dict.fromkeys(key[1] for key in keys if key[0] == "stages"))


def summarise_rows(rows: Sequence[RecipeRow], stages: Sequence[str]) -> list[RecipeRow]:
    """Drop untouched defaults, and make one row for stages that agree on a setting."""
    groups: dict[str, list[RecipeRow]] = {}
    for row in rows:
        if row.source != "default" or row.other:
            table, _, rest = row.key.partition(".")
            name = row.key if table != "stages" else rest.partition(".")[2]
            content = (name, row.value, row.source, row.other, row.note)
            groups.setdefault(repr(content), []).append(row)
    found = []
    for members in groups.values():
        first = members[0]
        if first.key.startswith("stages."):
            names = [row.key.split(".", 2)[1] for row in members]
            where = "*" if len(names) == len(stages) > 1 else ",".join(names)
            first = replace(first, key=f"stages.{where}.{first.key.split('.', 2)[2]}")
        found.append(first)
    return found


def _values(recipe: Recipe) -> dict[str, Any]:
    """Return every setting of a recipe by its key; a choice that is off has none."""
    leaves = flatten(asdict(recipe))
    return {k: v for k, v in leaves if k not in ("name", "flavour", "changes") and v != {}}


def _find_source(key: str, sources: Mapping[str, str]) -> str | None:
    """Return the mark of the last pattern that fits."""
    marks = [mark for pattern, mark in sources.items() if fnmatchcase(key, pattern)]
    return marks[-1] if marks else None


def recipe_from_dict(tables: Mapping[str, Any], *, imports: bool = True) -> Recipe:
    """Make a recipe from plain tables; the inverse of ``dataclasses.asdict``.

    Args:
        tables: Its tables, and its name.
        imports: False leaves the settings of plug-ins unchecked: nothing of them is run.

    Raises:
        InvalidInput: If a table, key or value is unknown or out of bounds.
    """
    for key in tables:
        if key not in ("name", "flavour", "changes", "stages", *PARTS):
            raise InvalidInput(
                f"no recipe table [{key}]; {registry.suggestion(key, [*PARTS, 'stages'])}"
            )
    stages = {
        stage: create_spec(
            StageSpec,
            check_table(values, f"stages.{stage}"),
            f"stages.{stage}.",
            imports=imports,
        )
        for stage, values in check_table(tables.get("stages", {}), "stages").items()
    }
    parts: dict[str, Any] = {key: check_table(tables.get(key, {}), key) for key in PARTS}
    options = check_table(parts["probe"].get("options", {}), "probe.options")
    parts["probe"] = {key: value for key, value in parts["probe"].items() if key != "options"}
    parts = {key: create_spec(cls, parts[key], f"{key}.") for key, cls in PARTS.items()}
    plain = {key: _plain(value, f"probe.options.{key}") for key, value in options.items()}
    parts["probe"] = replace(parts["probe"], options=plain)
    recipe = Recipe(
        name=tables["name"],
        flavour=tables.get("flavour"),
        changes=tuple(tables.get("changes", ())),
        stages=stages,
        **parts,
    )
    _check_stages(recipe)
    _check_probe(recipe)
    return recipe


def change_verify(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other settings of its self-verification.

    Raises:
        InvalidInput: If a setting is unknown or out of bounds.
    """
    spec = create_spec(VerifySpec, asdict(recipe.verify) | dict(changes), "verify.")
    texts = [f"verify.{key}={value}" for key, value in changes.items()]
    return replace(recipe, verify=spec, changes=(*recipe.changes, *texts))


def list_verify_settings(spec: VerifySpec, *, of_before: bool) -> dict[str, Any]:
    """List the settings of self-verification that count in the name of a run.

    Those that came later are left out where they say what was done before there were any, so that
    a published rule keeps its runs.

    Args:
        spec: The settings.
        of_before: Fill defaults as versions before 0.2 did.
    """
    found = asdict(spec)
    if of_before and spec == VerifySpec():
        found |= {"threshold": 0.95, "per_class": 40, "keep": "last", "until": "all"}
    if found["threshold"] is not None:
        del found["precision"]
    if found["until"] == "all":
        del found["until"]
    return found


def round_stages(recipe: Recipe) -> tuple[str, str]:
    """Return the first stage of self-verification and the one that is repeated.

    Raises:
        InvalidInput: If the recipe has not exactly these two.
    """
    first = [name for name in recipe.stages if name != ROUND_STAGE]
    if ROUND_STAGE not in recipe.stages or len(first) != 1:
        raise InvalidInput(
            f"recipe {recipe.name} cannot self-verify: that takes one stage and {ROUND_STAGE!r}, "
            f"it has {', '.join(recipe.stages)}; run it with: labelkit train"
        )
    for name, stage in recipe.stages.items():
        for key in ("start", "select", "remove"):
            if getattr(stage, key):
                raise InvalidInput(
                    f"stages.{name}.{key} has no meaning in self-verification, which starts each "
                    "round from the last one and chooses by [verify]; leave it out"
                )
    return first[0], ROUND_STAGE


def _check_stages(recipe: Recipe) -> None:
    """Refuse stages that start from, or are judged by, one that does not come before."""
    before: list[str] = []
    for name, stage in recipe.stages.items():
        if "/" in name or not name:
            raise InvalidInput(
                f"recipe {recipe.name}: a stage cannot be called {name!r}; leave out slashes"
            )
        needed = [("start", stage.start)] if stage.start else []
        for key in ("select", "remove"):
            table = getattr(stage, key)
            if table and not table.get("judges", True):
                raise InvalidInput(f"stages.{name}.{key}.judges is empty; name an earlier stage")
            needed += [(f"{key}.judges", judge) for judge in table.get("judges", ())]
        for key, wanted in needed:
            if wanted not in before:
                known = ", ".join(before) or "none"
                raise InvalidInput(
                    f"stages.{name}.{key}: {wanted!r} is no earlier stage; known: {known}"
                )
        if stage.pools.draws and not (
            stage.pools.noisy or stage.pools.selected or stage.pools.curated
        ):
            raise InvalidInput(
                f"stages.{name}.pools.draws needs shares; set pools.noisy, selected or curated"
            )
        before.append(name)
    if recipe.input.place == "energy" and recipe.features.kind != "log_mel":
        raise InvalidInput(
            f"input.place energy is for log_mel, features.kind is {recipe.features.kind}; take "
            "input.place=uniform"
        )


def _check_probe(recipe: Recipe) -> None:
    """Refuse settings of networks that would change nothing."""
    if not recipe.probe.classifier:
        return
    stages = dict.fromkeys(recipe.stages, StageSpec())
    untouched = _values(Recipe(name=recipe.name, stages=stages))
    for key, value in _values(recipe).items():
        if _is_of_networks(key) and value != untouched.get(key):
            raise InvalidInput(
                f"{key} is a setting of networks, but probe.classifier is "
                f"{recipe.probe.classifier}; leave one of them out"
            )


def _is_of_networks(key: str) -> bool:
    """Tell whether a setting means nothing to a classifier on embeddings."""
    wanted, unless = (
        any(fnmatchcase(key, pattern) for pattern in patterns)
        for patterns in (_OF_NETWORKS, _OF_BOTH)
    )
    return wanted and not unless


def _plain(value: Any, name: str) -> Any:
    """Return a classifier's option, whose type nobody declares: a string is read as TOML has it."""
    if isinstance(value, Mapping):
        raise InvalidInput(f"{name} must be a number, a string or a list, got {dict(value)}")
    if not isinstance(value, str):
        return value
    if value.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[value.lower()]
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


UNREAD_BY_CLASSIFIERS = ("verify.windows",)


def drop_unread(recipe: Recipe, *, verifies: bool) -> Recipe:
    """Tell of settings somebody changed that this verb, or this learner, does not read.

    Returns:
        The recipe without them among its changes: no score stands on them.
    """
    read = []
    for change in recipe.changes:
        key = change.partition("=")[0].strip().removeprefix("stages.")
        table, why = key.partition(".")[0], ""
        if table in ("verify", ROUND_STAGE) and not verifies:
            why = "is read by labelkit verify alone"
        elif table in ("probe", "embedding") and not recipe.probe.classifier:
            why = "is of a classifier on embeddings, and this recipe trains a network"
        elif key in UNREAD_BY_CLASSIFIERS and recipe.probe.classifier:
            why = "is of a network, and this recipe fits a classifier, which judges whole clips"
        if why:
            say(f"--set {change} {why}; it changes nothing here")
        else:
            read.append(change)
    return replace(recipe, changes=tuple(read))


def choose_head(head: str, *, several: bool) -> str:
    """Choose the head a recipe asks for, or the one that fits the project.

    Args:
        head: As the recipe says it.
        several: Whether a clip may have several labels.

    Raises:
        InvalidInput: If softmax is asked for and it may.
    """
    if head == "softmax" and several:
        raise InvalidInput(
            "model.head is softmax, but clips of this project may have several labels; leave it "
            "at auto, or say that they have one: labelkit labels one"
        )
    return ("sigmoid" if several else "softmax") if head == "auto" else head
