"""Import paths of ``labelkit.workflows``, which is gone: for one version they go on working.

The old modules hand on what the new ones hold, so that a class is the same by both ways.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGES = ("labelkit.workflows", "labelkit.workflows.review")
MODULES = {
    "labelkit.workflows.checking": "labelkit.recordings.checking",
    "labelkit.workflows.demo": "labelkit.demo",
    "labelkit.workflows.duplicates": "labelkit.recordings.duplicates",
    "labelkit.workflows.embedding": "labelkit.recordings.embedding",
    "labelkit.workflows.evidence": "labelkit.cleaning.inputs",
    "labelkit.workflows.exporting": "labelkit.labels.exporting",
    "labelkit.workflows.external": "labelkit.cleaning.external",
    "labelkit.workflows.extraction": "labelkit.recordings.features",
    "labelkit.workflows.importing": "labelkit.labels.importing",
    "labelkit.workflows.missing": "labelkit.cleaning.missing",
    "labelkit.workflows.past": "labelkit.labels.history",
    "labelkit.workflows.prepare": "labelkit.runs.folds",
    "labelkit.workflows.progress": "labelkit.progress",
    "labelkit.workflows.project": "labelkit.project",
    "labelkit.workflows.rehearsal": "labelkit.cleaning.rehearsal",
    "labelkit.workflows.review.doctor": "labelkit.review.doctor",
    "labelkit.workflows.review.ledger": "labelkit.review.ledger",
    "labelkit.workflows.review.plan": "labelkit.review.plan",
    "labelkit.workflows.review.pull": "labelkit.review.pull",
    "labelkit.workflows.review.push": "labelkit.review.push",
    "labelkit.workflows.review.queue": "labelkit.review.queue",
    "labelkit.workflows.review.report": "labelkit.review.status",
    "labelkit.workflows.review.resolution": "labelkit.review.resolution",
    "labelkit.workflows.review.setup": "labelkit.review.setup",
    "labelkit.workflows.score": "labelkit.cleaning.score",
    "labelkit.workflows.selection": "labelkit.cleaning.selection",
    "labelkit.workflows.stages": "labelkit.runs.train",
    "labelkit.workflows.trainingset": "labelkit.runs.dataset",
    "labelkit.workflows.undo": "labelkit.labels.undo",
    "labelkit.workflows.verification": "labelkit.runs.verify",
}
# Names that are others now, or lie elsewhere than the rest of their module.
NAMES = {
    "labelkit.workflows.evidence": {
        "Evidence": ("labelkit.cleaning.inputs", "ScoreInputs"),
        "read_evidence": ("labelkit.cleaning.inputs", "read_inputs"),
    },
    "labelkit.workflows.prepare": {
        "same_recordings": ("labelkit.recordings.usable", "same_recordings"),
        "unusable": ("labelkit.recordings.usable", "unusable"),
    },
    "labelkit.workflows.project": {"look_back": ("labelkit.project", "fix_as_of")},
    "labelkit.workflows.trainingset": {
        "TrainingSet": ("labelkit.runs.dataset", "Dataset"),
        "read_training_set": ("labelkit.runs.dataset", "read_dataset"),
    },
}


# Functions that only the documentation called, and what does the same.
GONE = {
    ("labelkit.noise.pairs", "split_directions"): (
        "_split_directions", "numpy.where(labels, scores, nan) and the other way round"
    ),
    ("labelkit.noise.pairs", "loss_mask"): ("_loss_mask", "1 - missing"),
}  # fmt: skip


def find_gone(module: str, name: str) -> Any:
    """Find a function that is gone from a module, and warn.

    Raises:
        AttributeError: If the module never had one of this name.
    """
    if (module, name) not in GONE:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    function, instead = GONE[module, name]
    warnings.warn(
        f"{module}.{name} ends with the next version; write {instead}",
        DeprecationWarning,
        stacklevel=3,
    )
    return globals()[function]


def _split_directions(labels: Any, scores: Any) -> tuple[Any, Any]:
    """Part scores ``(n_clips, n_classes)`` into those of given and of absent labels; NaN else."""
    import numpy as np

    return np.where(labels, scores, np.nan), np.where(labels, np.nan, scores)


def _loss_mask(missing: Any) -> Any:
    """Weigh pairs ``(n_clips, n_classes)`` that may be missing with 0, all others with 1."""
    import numpy as np

    return np.logical_not(missing).astype(np.float32)


class MovedFinder:
    """Finds the old modules, after all others have found nothing."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Say how an old module is made; None for any other name."""
        if name not in MODULES and name not in PACKAGES:
            return None
        # No heir of importlib.abc.Loader, which takes longer to load than all that labelkit does.
        loader: Any = self
        return ModuleSpec(name, loader, is_package=name in PACKAGES)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave the empty module to Python."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Warn whoever imports an old module, and let it hand on what the new one holds."""
        name = module.__name__
        if name not in MODULES:
            return
        new, names = import_module(MODULES[name]), NAMES.get(name, {})
        # Frames of the import system do not count, so this is the line that imports.
        warnings.warn(_say(name), DeprecationWarning, stacklevel=2)

        def get(wanted: str) -> Any:
            if wanted in names:
                place, now = names[wanted]
                return getattr(import_module(place), now)
            try:
                return getattr(new, wanted)
            except AttributeError as error:
                raise AttributeError(f"module {name!r} has no attribute {wanted!r}") from error

        public = sorted({n for n in vars(new) if not n.startswith("_")} | set(names))
        module.__doc__ = new.__doc__
        vars(module).update(__getattr__=get, __dir__=lambda: public, __all__=public)


def install() -> None:
    """Let Python ask here for modules that it finds nowhere else."""
    if not any(isinstance(finder, MovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(MovedFinder())


def _say(name: str) -> str:
    """Name the new place of a module, and of what lies elsewhere or is called otherwise."""
    others = [f"{old} is {place}.{now}" for old, (place, now) in NAMES.get(name, {}).items()]
    moved = f"{name} is now {MODULES[name]}"
    return f"{'; '.join([moved, *others])}; the old path ends with the next version"
