"""Labels of a project in, out, over time, and taken back.

``history.history`` and its neighbours look back, ``undo.undo`` takes a batch back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.labels import history, undo
    from labelkit.labels.exporting import ExportReport, export_labels
    from labelkit.labels.importing import ImportReport, import_labels
    from labelkit.labels.query import ask

__all__ = [
    "ExportReport",
    "ImportReport",
    "ask",
    "export_labels",
    "history",
    "import_labels",
    "undo",
]

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.attach(
        __name__,
        {
            "exporting": ("ExportReport", "export_labels"),
            "history": ("history",),
            "importing": ("ImportReport", "import_labels"),
            "query": ("ask",),
            "undo": ("undo",),
        },
    )
