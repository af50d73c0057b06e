"""Fields of settings: how they are declared, checked and filled from plain values."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import types
from collections.abc import Mapping
from dataclasses import asdict, field, fields, is_dataclass, replace
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from labelkit import registry
from labelkit.errors import InvalidInput

Spec = TypeVar("Spec")

# Words in the place of a number that follows from the recordings (labelkit.audio.fitting). Any: who
# reads a setting reads a number, and what is settled too late fails at once.
AUTO: Any = "auto"
COARSE: Any = "coarse"


def setting(default: Any, help: str, **limits: Any) -> Any:
    """Declare a dataclass field that the command line can also offer as an option.

    Args:
        default: Value where nothing else is said; a dataclass or a mapping is a table.
        help: One sentence for ``--help``.
        limits: ``kind`` (a registry table the value must name), ``choices``
            (allowed strings), ``low`` and ``high`` (closed numeric bounds), ``filled``
            (no empty string), ``tables`` (a mapping whose values are the settings of one
            object of that registry table each), ``options`` (a mapping that holds a
            ``rule`` of that registry table and its keyword arguments), ``words`` (that may
            stand in the place of a value of its type, until somebody settles them).
    """
    metadata = {"help": help, **limits}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def fingerprint(spec: Any) -> str:
    """Hash a spec or plain data shortly, equal for equal content; a cache and run key."""
    content = asdict(spec) if hasattr(spec, "__dataclass_fields__") else spec
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def create_spec(
    cls: type[Spec], values: Mapping[str, Any], where: str = "", *, imports: bool = True
) -> Spec:
    """Make a spec from plain values, checking every name, type and bound.

    Args:
        cls: A dataclass whose fields are :func:`setting`.
        values: Field name to value; strings are converted to the field's type.
        where: Prefix for messages, ``"stages.finetune."`` say.
        imports: False leaves the settings of plug-ins as they are: nothing of them is run.

    Raises:
        InvalidInput: If a key is unknown or a value does not fit its field.
    """
    hints = get_type_hints(cls)
    by_name = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    checked: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{where}{key}"
        if key not in by_name:
            raise InvalidInput(f"no setting {name}; {registry.suggestion(key, sorted(by_name))}")
        limits = by_name[key].metadata
        if is_dataclass(hints[key]):
            table = check_table(value, name)
            checked[key] = create_spec(hints[key], table, f"{name}.", imports=imports)
        elif "tables" in limits:
            table = check_table(value, name)
            checked[key] = _fill_tables(limits["tables"], table, f"{name}.", imports)
        elif "options" in limits:
            table = check_table(value, name)
            plain = not imports and _names_code(table)
            checked[key] = (
                dict(table) if plain else fill_options(limits["options"], table, f"{name}.")
            )
        elif isinstance(value, str) and value.strip() in limits.get("words", ()):
            checked[key] = value.strip()
        else:
            checked[key] = _convert(value, hints[key], name)
            _check_limits(checked[key], limits, name)
    return replace(cls(), **checked)  # type: ignore[type-var]


def find_words(spec: Any) -> list[str]:
    """List the settings of a spec that are words yet, in the place of numbers."""
    return [f.name for f in fields(spec) if getattr(spec, f.name) in f.metadata.get("words", ())]


def check_table(value: Any, name: str) -> Mapping[str, Any]:
    """Return the value itself, if it is a table.

    Raises:
        InvalidInput: If it is anything else.
    """
    if not isinstance(value, Mapping):
        raise InvalidInput(f"recipe: {name} must be a table, got {value!r}")
    return value


def _names_code(value: Any) -> bool:
    """Tell whether a value, or anything in it, may be the name of a plug-in: by its colon."""
    if isinstance(value, Mapping):
        return any(_names_code(part) for item in value.items() for part in item)
    if isinstance(value, list | tuple):
        return any(map(_names_code, value))
    return isinstance(value, str) and ":" in value


def _fill_tables(
    kind: str, tables: Mapping[str, Any], where: str, imports: bool
) -> dict[str, dict[str, Any]]:
    """Fill every table with all settings of the class its ``kind``, or else its name, names."""
    filled = {}
    for name, table in tables.items():
        values = dict(check_table(table, f"{where}{name}"))
        cls_name = values.pop("kind", name)
        if not isinstance(cls_name, str):
            raise InvalidInput(f"{where}{name}.kind must be a name, got {cls_name!r}")
        # Some augmentations hold others, which they make.
        if not imports and _names_code({cls_name: values}):
            filled[name] = {"kind": cls_name, **values}
            continue
        spec = create_spec(registry.resolve(kind, cls_name), values, f"{where}{name}.")
        filled[name] = {"kind": cls_name, **asdict(spec)}
    return filled


def fill_options(kind: str, table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fill the table with all keyword arguments of its rule that have a default."""
    if not table:
        return {}
    values = dict(table)
    if "rule" not in values:
        raise InvalidInput(f"{where}rule is missing; known: {', '.join(registry.names(kind))}")
    rule = values.pop("rule")
    if not isinstance(rule, str):
        raise InvalidInput(f"{where}rule must be a name, got {rule!r}")
    function = registry.resolve(kind, rule)
    import numpy as np

    hints = get_type_hints(function)
    known = {
        p.name: p.default
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY and isinstance(p.default, bool | int | float | str)
    }
    judges = _convert(values.pop("judges", ()), tuple[str, ...], f"{where}judges")
    for key, value in values.items():
        if key not in known:
            raise InvalidInput(
                f"no setting {where}{key}; {registry.suggestion(key, ['judges', *sorted(known)])}"
            )
        known[key] = _convert(value, hints[key], f"{where}{key}")
    # The rule knows its own bounds; asked about no clips, it only checks them.
    nothing = np.zeros((0, 1))
    try:
        function(nothing, nothing, **known)
    except InvalidInput as error:
        raise InvalidInput(f"{where}{rule}: {error}") from error
    return {"rule": rule, "judges": judges, **known}


def value_type(hint: Any) -> type:
    """Return the plain type of a setting's annotation: ``int`` for ``int | None``."""
    if get_origin(hint) in (types.UnionType, Union):
        hint = next(part for part in get_args(hint) if part is not type(None))
    plain: type = hint
    return plain


def _convert(value: Any, hint: Any, name: str) -> Any:
    kind = value_type(hint)
    if kind is not hint and value in (None, "none", ""):
        return None
    if get_origin(kind) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise InvalidInput(f"{name} must be a list, got {value!r}")
        return tuple(
            _convert(part.strip() if isinstance(part, str) else part, get_args(kind)[0], name)
            for part in parts
            if part != ""
        )
    if kind is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    fits = isinstance(value, bool) == (kind is bool) and not isinstance(value, dict | list)
    try:
        converted = kind(value) if fits else None
    except (OverflowError, TypeError, ValueError):
        converted = None
    if isinstance(converted, int) and abs(converted) >= 2**63:
        raise InvalidInput(f"{name} must be below 2**63, got {str(value)[:40]}")
    if converted is None or (kind is int and str(converted) != str(value).strip()):
        raise InvalidInput(f"{name} must be {kind.__name__}, got {value!r}")
    return converted


def _check_limits(value: Any, limits: Mapping[str, Any], name: str) -> None:
    if value is None:
        return
    if isinstance(value, tuple):
        for part in value:
            _check_limits(part, limits, name)
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
        bounds = "finite" if low is None else f"at least {low}"
        if high is not None:
            bounds = f"at most {high}" if low is None else f"from {low} to {high}"
        raise InvalidInput(f"{name} must be {bounds}, got {value}")
