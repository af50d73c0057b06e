"""Every pluggable name in labelkit, and where its code lives.

The table holds strings, so listing names costs no import: ``labelkit --help``
can offer every model without loading torch. Anything can be replaced by a
plug-in named ``package.module:function``: code that runs. Whoever types such a name
has said what he wants; in a file or a store that came from elsewhere it counts only where
its package is allowed, by :func:`allowing` or the environment's ``LABELKIT_PLUGINS``.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from labelkit.errors import InvalidInput, UnknownName

# Packages whose code a file may name, parted by commas.
PLUGINS = "LABELKIT_PLUGINS"
# Of the process, as what is imported is: the packages of every :func:`allowing` that is open.
_allowed: list[str] = []

# A name of code, or of a module: hear:package.module.
_CODE = re.compile(r"\w[\w.]*:\w[\w.]*")

TABLE: dict[str, dict[str, str]] = {
    "augmentation": {
        "brightness_contrast": "labelkit.training.augment:BrightnessContrast",
        "mixup": "labelkit.training.mixing:Mixup",
        "one_of": "labelkit.training.mixing:OneOf",
        "random_erasing": "labelkit.training.augment:RandomErasing",
        "random_resized_crop": "labelkit.training.augment:RandomResizedCrop",
        "sigmoid_concat": "labelkit.training.mixing:SigmoidConcat",
        "spec_augment": "labelkit.training.augment:SpecAugment",
        "spec_mix": "labelkit.training.mixing:SpecMix",
        "zoom": "labelkit.training.augment:Zoom",
    },
    "classifier": {
        "extra_trees": "sklearn.ensemble:ExtraTreesClassifier",
        "gradient_boosting": "sklearn.ensemble:HistGradientBoostingClassifier",
        "knn": "sklearn.neighbors:KNeighborsClassifier",
        "panel": "labelkit.noise.panel:Panel",
        "logistic_regression": "sklearn.linear_model:LogisticRegression",
        "random_forest": "sklearn.ensemble:RandomForestClassifier",
        "svm": "sklearn.svm:SVC",
    },
    "consensus": {
        "majority": "labelkit.noise.consensus:consensus_majority",
        "per_class": "labelkit.noise.consensus:consensus_per_class",
        "quality": "labelkit.noise.consensus:consensus_quality",
    },
    "embedder": {
        "aisfx": "labelkit.models.aisfx:load_aisfx",
        "mean_cepstra": "labelkit.audio.embedding:average_frames",
        "ordered_mel": "labelkit.audio.embedding:order_frames",
        "pooled_mel": "labelkit.audio.embedding:pool_frames",
    },
    "feature": {
        "log_filter_bank": "labelkit.audio.features:log_filter_bank",
        "log_mel": "labelkit.audio.features:log_mel",
        "perceptual_mel": "labelkit.audio.features:perceptual_mel",
    },
    "format": {
        "fsdkaggle2018": "labelkit.datasets.formats:read_fsdkaggle2018",
        "fsdkaggle2019": "labelkit.datasets.formats:read_fsdkaggle2019",
        "folder": "labelkit.datasets.formats:read_folder",
        "csv": "labelkit.datasets.formats:read_csv",
        "jsonl": "labelkit.datasets.formats:read_jsonl",
        "parquet": "labelkit.datasets.formats:read_parquet",
        "corrections": "labelkit.datasets.formats:read_corrections",
        "esc50": "labelkit.datasets.published:read_esc50",
        "urbansound8k": "labelkit.datasets.published:read_urbansound8k",
        "fsd50k": "labelkit.datasets.published:read_fsd50k",
        "dcase": "labelkit.datasets.published:read_dcase",
        "birdclef": "labelkit.datasets.published:read_birdclef",
        "audioset": "labelkit.datasets.published:read_audioset",
    },
    "loss": {
        "cross_entropy": "labelkit.training.losses:cross_entropy",
        "bce": "labelkit.training.losses:bce",
        "lq": "labelkit.training.losses:lq",
        "lsoft": "labelkit.training.losses:lsoft",
        "max_outlier": "labelkit.training.losses:max_outlier",
    },
    "model": {
        "aux_skip_attention": "labelkit.models.attention:aux_skip_attention",
        "cnn_model_1": "labelkit.models.vgg:cnn_model_1",
        "dense_m0": "labelkit.models.dense:dense_m0",
        "dense_m1": "labelkit.models.dense:dense_m1",
        "dense_m2": "labelkit.models.dense:dense_m2",
        "dense_m3": "labelkit.models.dense:dense_m3",
        "dense_m4": "labelkit.models.dense:dense_m4",
        "densenet121": "labelkit.models.densenet:densenet121",
        "resnet18": "labelkit.models.resnet:resnet18",
        "resnet34": "labelkit.models.resnet:resnet34",
        "rnn_aux_skip_attention": "labelkit.models.recurrent:rnn_aux_skip_attention",
        "se_resnext50": "labelkit.models.resnet:se_resnext50",
        "simple_attention": "labelkit.models.attention:simple_attention",
        "skip_attention": "labelkit.models.attention:skip_attention",
        "skip_attention_k3": "labelkit.models.attention:skip_attention_k3",
        "vgg16_bn": "labelkit.models.vgg:vgg16_bn",
        "vgg16_bn_pooled": "labelkit.models.vgg:vgg16_bn_pooled",
        "vgg_gap": "labelkit.models.vgg:vgg_gap",
    },
    "noise": {
        "confusable": "labelkit.noise.simulate:plant_confusable",
        "extra": "labelkit.noise.simulate:plant_extra",
        "missing": "labelkit.noise.simulate:plant_missing",
        "out_of_vocabulary": "labelkit.noise.simulate:plant_out_of_vocabulary",
        "uniform": "labelkit.noise.simulate:plant_uniform",
    },
    "optimizer": {
        "adam": "torch.optim:Adam",
        "adamw": "torch.optim:AdamW",
        "sgd": "torch.optim:SGD",
    },
    "schedule": {
        "constant": "labelkit.training.schedules:constant",
        "cosine": "labelkit.training.schedules:cosine",
        "cosine_restarts": "labelkit.training.schedules:cosine_restarts",
        "linear_decay": "labelkit.training.schedules:linear_decay",
        "one_cycle": "labelkit.training.schedules:one_cycle",
        "plateau": "labelkit.training.schedules:plateau",
    },
    "score": {
        "aum": "labelkit.noise.dynamics:score_aum",
        "cleanlab": "labelkit.noise.scoring:score_cleanlab",
        "cleanlab_minimum": "labelkit.noise.scoring:score_cleanlab_minimum",
        "cleanlab_softmin": "labelkit.noise.scoring:score_cleanlab_softmin",
        "epoch_margin": "labelkit.noise.dynamics:score_epoch_margin",
        "forgetting": "labelkit.noise.dynamics:score_forgetting",
        "fusion": "labelkit.noise.fusion:score_fusion",
        "log_loss": "labelkit.noise.scoring:score_log_loss",
        "lwlrap": "labelkit.noise.scoring:score_lwlrap",
        "margin": "labelkit.noise.scoring:score_margin",
        "mean_confidence": "labelkit.noise.dynamics:score_mean_confidence",
        "mixture": "labelkit.noise.scoring:score_mixture",
        "neighbours": "labelkit.noise.neighbours:score_neighbours",
        "neighbour_vote": "labelkit.noise.neighbours:score_neighbour_vote",
        "probe": "labelkit.noise.fusion:score_probe",
        "self_confidence": "labelkit.noise.scoring:score_self_confidence",
        "typicality": "labelkit.noise.neighbours:score_typicality",
        "variability": "labelkit.noise.dynamics:score_variability",
        "window_consensus": "labelkit.noise.windows:score_window_consensus",
        "window_spread": "labelkit.noise.windows:score_window_spread",
    },
    "selection": {
        "clean_share": "labelkit.noise.selection:select_clean_share",
        "complete": "labelkit.noise.selection:select_complete",
        "confident": "labelkit.noise.selection:select_confident",
        "listed": "labelkit.noise.selection:select_listed",
        "lwlrap": "labelkit.noise.selection:select_lwlrap",
        "mixture": "labelkit.noise.selection:select_mixture",
        "rank_mean": "labelkit.noise.selection:select_rank_mean",
        "small_loss": "labelkit.noise.selection:select_small_loss",
    },
    "writer": {
        "csv": "labelkit.datasets.writers:write_csv",
        "fsdkaggle2018": "labelkit.datasets.writers:write_fsdkaggle2018",
        "fsdkaggle2019": "labelkit.datasets.writers:write_fsdkaggle2019",
        "jsonl": "labelkit.datasets.writers:write_jsonl",
        "parquet": "labelkit.datasets.writers:write_parquet",
    },
}


@contextmanager
def allowing(packages: Iterable[str]) -> Iterator[None]:
    """Let files name code of these packages, or modules, besides those of the environment."""
    names = list(packages)
    _allowed.extend(names)
    try:
        yield
    finally:
        for name in names:
            _allowed.remove(name)


def find_package(name: str) -> str:
    """Find the package that ``package.module:attribute``, or ``hear:package.module``, is of."""
    return _find_module(name).partition(".")[0]


def _find_module(name: str) -> str:
    module, target = (part.strip() for part in name.split(":", 1))
    return target if module == "hear" else module


def refuse_plugin(name: str, where: str) -> None:
    """Refuse a name in something that came from elsewhere, where it names code not allowed.

    Args:
        name: The name; one without a colon is the registry's, and harmless.
        where: What names it, for the message.

    Raises:
        InvalidInput: If it is ``package.module:attribute`` of a package nobody allowed.
    """
    if ":" not in name:
        return
    if not _CODE.fullmatch(name):
        raise InvalidInput(f"{where} is {name!r}, where package.module:attribute is meant")
    module, package = _find_module(name), find_package(name)
    known = {*_allowed, *(part.strip() for part in os.environ.get(PLUGINS, "").split(","))}
    if not any(module == part or module.startswith(f"{part}.") for part in known if part):
        raise InvalidInput(
            f"{where} names code outside labelkit, {name!r}, which would run here; if you trust "
            f"it, say --allow-plugins {package}, or set {PLUGINS}={package} in the environment"
        )


def names(kind: str) -> list[str]:
    """List the names registered under ``kind``, sorted."""
    return sorted(TABLE[kind])


def suggestion(name: object, known: list[str]) -> str:
    """End a message about an unknown name: with the nearest known one, or all of them."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {close[0]!r}" if close else f"known: {', '.join(known)}"


def check(kind: str, name: str) -> str:
    """Return the target of ``name`` without importing it, or say which name was meant.

    Raises:
        UnknownName: If ``name`` is neither registered nor ``package.module:attribute``.
    """
    target = TABLE[kind].get(name, name) if isinstance(name, str) else ""
    if ":" not in target:
        raise UnknownName(f"no {kind} called {name!r}; {suggestion(name, names(kind))}")
    return target


def resolve(kind: str, name: str) -> Any:
    """Return the object called ``name``; ``package.module:attribute`` also works.

    Raises:
        UnknownName: If there is no such name, module or attribute.
    """
    target = check(kind, name)
    if not _CODE.fullmatch(target):
        raise UnknownName(f"no {kind} called {name!r}: package.module:attribute is meant")
    module, attribute = target.split(":", 1)
    try:
        return getattr(import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        if name in TABLE[kind]:
            raise
        raise UnknownName(f"no {kind} called {name!r}: {error}") from error
