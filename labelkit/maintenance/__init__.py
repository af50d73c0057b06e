"""The health of a project: status, doctor, repair, backup.

``backup.backup``, ``repair.repair`` and ``status.status`` are called like their modules;
:func:`examine` is what ``labelkit doctor`` finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.maintenance import backup, repair, status
    from labelkit.maintenance.backup import restore
    from labelkit.maintenance.doctor import examine
    from labelkit.maintenance.findings import Finding

__all__ = ["Finding", "backup", "examine", "repair", "restore", "status"]

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.attach(
        __name__,
        {
            "backup": ("backup", "restore"),
            "doctor": ("examine",),
            "findings": ("Finding",),
            "repair": ("repair",),
            "status": ("status",),
        },
    )
