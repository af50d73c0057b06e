"""Labels of a project in, out, over time, and taken back.

``history.history`` and its neighbours look back, ``undo.undo`` takes a batch back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.labels import history as history
    from labelkit.labels import undo as undo
    from labelkit.labels.exporting import ExportReport as ExportReport
    from labelkit.labels.exporting import export_labels as export_labels
    from labelkit.labels.importing import ImportReport as ImportReport
    from labelkit.labels.importing import import_labels as import_labels
    from labelkit.labels.query import ask as ask

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
        __name__,
        {
            "exporting": ("ExportReport", "export_labels"),
            "history": ("history",),
            "importing": ("ImportReport", "import_labels"),
            "query": ("ask",),
            "undo": ("undo",),
        },
    )
