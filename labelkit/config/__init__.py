"""Settings, declared once: library argument, command-line option, run record, cache key."""

from labelkit.config.recipes import (
    FLAVOURS,
    ROUND_STAGE,
    change_verify,
    explain_recipe,
    list_flavours,
    list_recipes,
    read_recipe,
    recipe_from_dict,
    recipe_table,
    summarise_rows,
)
from labelkit.config.settings import create_spec, fingerprint, setting, value_type
from labelkit.config.specs import (
    RULES,
    FeatureSpec,
    FormatSpec,
    InputSpec,
    ModelSpec,
    PoolSpec,
    Recipe,
    StageSpec,
    VerifySpec,
    WindowSpec,
)

__all__ = [
    "FLAVOURS",
    "ROUND_STAGE",
    "RULES",
    "FeatureSpec",
    "FormatSpec",
    "InputSpec",
    "ModelSpec",
    "PoolSpec",
    "Recipe",
    "StageSpec",
    "VerifySpec",
    "WindowSpec",
    "change_verify",
    "create_spec",
    "explain_recipe",
    "fingerprint",
    "list_flavours",
    "list_recipes",
    "read_recipe",
    "recipe_from_dict",
    "recipe_table",
    "setting",
    "summarise_rows",
    "value_type",
]
