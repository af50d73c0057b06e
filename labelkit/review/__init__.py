"""Human review in Label Studio: what goes there, what comes back, and what it comes to.

:func:`set_up` connects a project, ``push.push`` and ``pull.pull`` carry tasks and answers, the
rest says what is asked, what was answered, and where people differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.review import pull as pull
    from labelkit.review import push as push
    from labelkit.review import status as status
    from labelkit.review.doctor import examine as examine
    from labelkit.review.pull import pull_file as pull_file
    from labelkit.review.pull import watch as watch
    from labelkit.review.queue import Choice as Choice
    from labelkit.review.queue import read_queue as read_queue
    from labelkit.review.setup import set_up as set_up
    from labelkit.review.status import compare_annotators as compare_annotators
    from labelkit.review.status import list_disagreements as list_disagreements
    from labelkit.review.status import list_quarantine as list_quarantine

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
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
