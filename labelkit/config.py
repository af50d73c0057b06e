"""Settings, declared once: library argument, command-line option, run record, cache key.

A recipe is a TOML file with the tables ``features``, ``model``, ``stages.*`` and
``verify``; every key is a field of one of the dataclasses below.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from labelkit import registry
from labelkit.errors import InvalidInput, UnknownName

Spec = TypeVar("Spec")


def setting(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field that the command line can also offer as an option.

    Args:
        default: Value where nothing else is said.
        help: One sentence for ``--help``.
        limits: ``kind`` (a registry table the value must name), ``choices``
            (allowed strings), ``low`` and ``high`` (closed numeric bounds), ``filled``
            (no empty string).
    """
    return field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True, kw_only=True)
class FormatSpec:
    """How a label file is to be read, where its format leaves a choice."""

    path_column: str = setting("fname", "csv: column of the clip's path.", filled=True)
    label_column: str = setting("label", "csv: column of its label or labels.", filled=True)
    verified_column: str | None = setting(None, "csv: column that says 1 where it is verified.")
    fold_column: str | None = setting(None, "csv: column of a given fold.")
    group_column: str | None = setting(None, "csv: column of the source or uploader.")
    separator: str = setting(",", "csv: what parts several labels of a clip.", filled=True)
    state: str | None = setting(
        None,
        "State of all rows, where the file does not say it.",
        choices=("unverified", "verified"),
    )
    subset: str = setting("train", "test locks the clips away.", choices=("train", "test"))
    prefix: str = setting("", "Folder below the audio folder in which the file's paths lie.")


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """How a recording becomes a log-mel spectrogram."""

    kind: str = setting("log_mel", "Spectrogram to compute.", kind="feature")
    sample_rate: int = setting(32000, "Rate every recording is resampled to, in Hz.", low=1000)
    trim_db: float = setting(60.0, "Cut edges this far below the peak, in dB; 0 keeps all.", low=0)
    n_fft: int = setting(1024, "Samples of an analysis window.", low=16)
    hop_length: int = setting(500, "Samples between two frames.", low=1)
    n_mels: int = setting(64, "Mel bands; the networks halve them four times.", low=16)
    fmin_hz: float = setting(20.0, "Lower edge of the lowest band, in Hz.", low=0)
    fmax_hz: float | None = setting(None, "Upper edge of the highest band; half the rate if unset.")
    floor_db: float = setting(-100.0, "Energies below this are raised to it, in dB.")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Which network, and what it looks at."""

    name: str = setting("dense_m1", "Network to train.", kind="model")
    width: int | None = setting(None, "Channels of the first block; as published if unset.", low=1)
    head: str = setting(
        "auto",
        "softmax for one label a clip, sigmoid for several; auto looks at the labels.",
        choices=("auto", "softmax", "sigmoid"),
    )
    frames: int = setting(256, "Frames of a window.", low=16, high=10_000)


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """One training: which clips, for how long, with which loss and augmentation."""

    clips: str = setting(
        "all",
        "all: unverified labels are the noisy pool; trusted: only labels somebody vouched for.",
        choices=("all", "trusted"),
    )
    epochs: int = setting(30, "Passes over the training clips.", low=1)
    batch_size: int = setting(32, "Clips of a step.", low=2)
    optimizer: str = setting("adam", "Optimiser.", kind="optimizer")
    lr: float = setting(1e-3, "Peak learning rate.", low=0)
    weight_decay: float = setting(0.0, "Weight decay.", low=0)
    schedule: str = setting("one_cycle", "Learning rate over the steps.", kind="schedule")
    turn: float = setting(0.25, "Share of the steps after which it falls.", low=0, high=1)
    loss: str = setting("auto", "Loss of trusted labels; auto follows the head.", kind="loss")
    noisy_loss: str = setting("lsoft", "Loss of labels nobody vouched for.", kind="loss")
    noisy_weight: float = setting(1.0, "Weight of the noisy labels in the loss.", low=0)
    beta: float = setting(0.7, "Lsoft: share of the label in its target.", low=0, high=1)
    mixup_alpha: float = setting(0.4, "Mixup: parameter of the Beta distribution; 0 is off.", low=0)
    freq_masks: int = setting(1, "SpecAugment: bands of mels that are masked.", low=0)
    freq_share: float = setting(0.15, "SpecAugment: widest band, share of mels.", low=0, high=1)
    time_masks: int = setting(1, "SpecAugment: spans of frames that are masked.", low=0)
    time_share: float = setting(0.2, "SpecAugment: widest span, share of frames.", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class VerifySpec:
    """How the loop decides which noisy labels to trust."""

    iterations: int = setting(10, "Rounds of self-verification and fine-tuning.", low=1)
    windows: int = setting(25, "Random windows whose mean probability judges a clip.", low=1)
    threshold: float = setting(
        0.95, "Every given label must exceed this probability.", low=0, high=1
    )
    per_class: int = setting(40, "At most so many clips of a class; 0 is no limit.", low=0)
    accumulate: bool = setting(False, "Keep what earlier rounds accepted, and add to it.")
    keep: str = setting(
        "last",
        "Which round counts in the end: the last, or the one of lowest verified loss.",
        choices=("last", "best"),
    )


# The rule of Dorfer and Widmer (DCASE 2018 task 2), as their report states it and as
# their released command applies it, and the bare argmax condition of both.
RULES: dict[str, dict[str, Any]] = {
    "as_written": {"windows": 25, "threshold": 0.95, "per_class": 40},
    "as_coded": {"windows": 25, "threshold": 0.0, "per_class": 40},
    "argmax": {"threshold": 0.0, "per_class": 0},
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole training as data."""

    name: str
    features: FeatureSpec = FeatureSpec()
    model: ModelSpec = ModelSpec()
    stages: Mapping[str, StageSpec] = field(default_factory=dict)
    verify: VerifySpec = VerifySpec()


def fingerprint(spec: Any) -> str:
    """Short hash of a spec or of plain data, equal for equal content; a cache and run key."""
    content = asdict(spec) if hasattr(spec, "__dataclass_fields__") else spec
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def create_spec(cls: type[Spec], values: Mapping[str, Any], where: str = "") -> Spec:
    """Make a spec from plain values, checking every name, type and bound.

    Args:
        cls: One of the dataclasses of this module.
        values: Field name to value; strings are converted to the field's type.
        where: Prefix for messages, ``"stages.finetune."`` say.

    Raises:
        InvalidInput: If a key is unknown or a value does not fit its field.
    """
    return replace(cls(), **_checked(cls, values, where))  # type: ignore[type-var]


def _checked(cls: Any, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    hints = get_type_hints(cls)
    by_name = {f.name: f for f in fields(cls)}
    checked = {}
    for key, value in values.items():
        if key not in by_name:
            raise InvalidInput(
                f"no setting {where}{key}; {registry.suggestion(key, sorted(by_name))}"
            )
        checked[key] = _convert(value, hints[key], f"{where}{key}")
        _check_limits(checked[key], by_name[key].metadata, f"{where}{key}")
    return checked


def value_type(hint: Any) -> type:
    """The plain type of a setting's annotation: ``int`` for ``int | None``."""
    if get_origin(hint) in (types.UnionType, Union):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def _convert(value: Any, hint: Any, name: str) -> Any:
    kind = value_type(hint)
    if kind is not hint and value in (None, "none", ""):
        return None
    if kind is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    fits = isinstance(value, bool) == (kind is bool) and not isinstance(value, dict | list)
    try:
        converted = kind(value) if fits else None
    except (TypeError, ValueError):
        converted = None
    if converted is None or (kind is int and str(converted) != str(value).strip()):
        raise InvalidInput(f"{name} must be {kind.__name__}, got {value!r}")
    return converted


def _check_limits(value: Any, limits: Mapping[str, Any], name: str) -> None:
    if value is None:
        return
    if "kind" in limits and value != "auto":
        registry.check(limits["kind"], value)
    if "choices" in limits and value not in limits["choices"]:
        raise InvalidInput(f"{name} must be one of {', '.join(limits['choices'])}, got {value!r}")
    if limits.get("filled") and not value:
        raise InvalidInput(f"{name} must not be empty")
    low, high = limits.get("low"), limits.get("high")
    inside = (low is None or value >= low) and (high is None or value <= high)
    if not inside or (isinstance(value, float) and not math.isfinite(value)):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InvalidInput(f"{name} must be {bounds}, got {value}")


def list_recipes() -> list[str]:
    """Names of the recipes that come with labelkit."""
    found = resources.files("labelkit").joinpath("recipes").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in found if f.name.endswith(".toml"))


def read_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or path and change single settings of it.

    Args:
        name: One of :func:`list_recipes`, or the path of a TOML file.
        settings: ``key=value`` strings. ``epochs=3`` sets a key in every stage,
            ``finetune.epochs=3`` in one, ``model.width=8`` in another table.

    Raises:
        UnknownName: If there is no such recipe.
        InvalidInput: If a key or a value does not fit.

    Example:
        >>> read_recipe("quick", ["finetune.epochs=3"]).stages["finetune"].epochs
        3
    """
    if name.endswith(".toml"):
        path: Any = Path(name)
        if not path.is_file():
            raise InvalidInput(f"no recipe file {name}; give a path, or one of {list_recipes()}")
    elif name in list_recipes():
        path = resources.files("labelkit").joinpath("recipes", f"{name}.toml")
    else:
        raise UnknownName(f"no recipe called {name!r}; {registry.suggestion(name, list_recipes())}")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"recipe {name} is not valid TOML: {error}") from error
    for text in settings:
        _change(tables, text)
    return recipe_from_dict({"name": Path(name).stem, **tables})


def change_verify(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other settings of its self-verification.

    Raises:
        InvalidInput: If a setting is unknown or out of bounds.
    """
    return replace(
        recipe, verify=create_spec(VerifySpec, asdict(recipe.verify) | dict(changes), "verify.")
    )


def recipe_from_dict(tables: Mapping[str, Any]) -> Recipe:
    """The recipe written in plain tables; the inverse of ``dataclasses.asdict``.

    Raises:
        InvalidInput: If a table, key or value is unknown or out of bounds.
    """
    parts = {"features": FeatureSpec, "model": ModelSpec, "verify": VerifySpec}
    stages = tables.get("stages", {})
    for key, table in [*((k, tables.get(k, {})) for k in (*parts, "stages")), *_items(stages)]:
        if not isinstance(table, Mapping):
            raise InvalidInput(f"recipe: {key} must be a table, got {table!r}")
    for key in tables:
        if key not in ("name", "stages", *parts):
            raise InvalidInput(
                f"no recipe table [{key}]; {registry.suggestion(key, [*parts, 'stages'])}"
            )
    return Recipe(
        name=tables["name"],
        stages={
            stage: create_spec(StageSpec, values, f"stages.{stage}.")
            for stage, values in stages.items()
        },
        **{key: create_spec(cls, tables.get(key, {}), f"{key}.") for key, cls in parts.items()},
    )


def _items(stages: Any) -> list[tuple[str, Any]]:
    return [(f"stages.{k}", v) for k, v in stages.items()] if isinstance(stages, Mapping) else []


def _change(tables: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InvalidInput(f"--set takes key=value, got {text!r}")
    table, dot, name = key.strip().rpartition(".")
    stages = tables.get("stages", {})
    if not dot:
        targets = list(stages.values())
    elif table in stages:
        targets = [stages[table]]
    elif table in ("features", "model", "verify"):
        targets = [tables.setdefault(table, {})]
    else:
        raise InvalidInput(
            f"--set {text}: no stage or table {table!r}; "
            f"{registry.suggestion(table, [*stages, 'features', 'model', 'verify'])}"
        )
    for target in targets:
        target[name] = value.strip()
