"""Human review in Label Studio: what goes there, what comes back, and what it comes to.

:func:`set_up` connects a project, ``push.push`` and ``pull.pull`` carry tasks and answers, the
rest says what is asked, what was answered, and where people differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.review import pull, push, status
    from labelkit.review.doctor import examine
    from labelkit.review.pull import pull_file, watch
    from labelkit.review.queue import Choice, read_queue
    from labelkit.review.setup import set_up
    from labelkit.review.status import compare_annotators, list_disagreements, list_quarantine

__all__ = [
    "Choice",
    "compare_annotators",
    "examine",
    "list_disagreements",
    "list_quarantine",
    "pull",
    "pull_file",
    "push",
    "read_queue",
    "set_up",
    "status",
    "watch",
]

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.attach(
        __name__,
        {
            "doctor": ("examine",),
            "pull": ("pull", "pull_file", "watch"),
            "push": ("push",),
            "queue": ("Choice", "read_queue"),
            "setup": ("set_up",),
            "status": ("compare_annotators", "list_disagreements", "list_quarantine", "status"),
        },
    )
