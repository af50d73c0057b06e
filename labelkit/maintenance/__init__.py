"""The health of a project: status, doctor, repair, backup.

``backup.backup``, ``repair.repair`` and ``status.status`` are called like their modules;
:func:`examine` is what ``labelkit doctor`` finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.maintenance import backup as backup
    from labelkit.maintenance import repair as repair
    from labelkit.maintenance import status as status
    from labelkit.maintenance.backup import restore as restore
    from labelkit.maintenance.doctor import examine as examine
    from labelkit.maintenance.findings import Finding as Finding

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
        __name__,
        {
            "backup": ("backup", "restore"),
            "doctor": ("examine",),
            "findings": ("Finding",),
            "repair": ("repair",),
            "status": ("status",),
        },
    )
