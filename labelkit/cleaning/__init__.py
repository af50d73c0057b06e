"""Which labels to doubt and which to trust: scores, selections, missing labels, rehearsals.

Each works on a finished run of a project; ``score.score`` and :func:`select` store what they find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.cleaning import score
    from labelkit.cleaning.external import import_probs
    from labelkit.cleaning.inputs import ScoreInputs, read_inputs, score_by
    from labelkit.cleaning.missing import find_missing_labels
    from labelkit.cleaning.rehearsal import rehearse
    from labelkit.cleaning.selection import select

__all__ = [
    "ScoreInputs",
    "find_missing_labels",
    "import_probs",
    "read_inputs",
    "rehearse",
    "score",
    "score_by",
    "select",
]

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.attach(
        __name__,
        {
            "external": ("import_probs",),
            "inputs": ("ScoreInputs", "read_inputs", "score_by"),
            "missing": ("find_missing_labels",),
            "rehearsal": ("rehearse",),
            "score": ("score",),
            "selection": ("select",),
        },
    )
