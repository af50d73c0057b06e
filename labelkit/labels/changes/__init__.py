"""Change sets: what became of the labels in one copy of a data set, brought into another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.labels.changes.change_set import ChangeSet as ChangeSet
    from labelkit.labels.changes.exporting import export_changes as export_changes
    from labelkit.labels.changes.importing import ImportPlan as ImportPlan
    from labelkit.labels.changes.importing import import_changes as import_changes
    from labelkit.labels.changes.reading import read_changes as read_changes

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
        __name__,
        {
            "change_set": ("ChangeSet",),
            "exporting": ("export_changes",),
            "importing": ("ImportPlan", "import_changes"),
            "reading": ("read_changes",),
        },
    )
