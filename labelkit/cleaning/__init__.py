"""Which labels to doubt and which to trust: scores, selections, missing labels, rehearsals.

Each works on a finished run of a project; ``score.score`` and :func:`select` store what they find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.cleaning import score as score
    from labelkit.cleaning.external import import_probs as import_probs
    from labelkit.cleaning.inputs import ScoreInputs as ScoreInputs
    from labelkit.cleaning.inputs import read_inputs as read_inputs
    from labelkit.cleaning.inputs import score_by as score_by
    from labelkit.cleaning.missing import find_missing_labels as find_missing_labels
    from labelkit.cleaning.rehearsal import rehearse as rehearse
    from labelkit.cleaning.selection import select as select

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
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
