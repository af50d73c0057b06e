"""The bridge to Label Studio: its labelling page, its tasks, its answers, its server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.label_studio.answers import read_answers as read_answers
    from labelkit.label_studio.audio import Share as Share
    from labelkit.label_studio.audio import share_folder as share_folder
    from labelkit.label_studio.client import Client as Client
    from labelkit.label_studio.page import Page as Page
    from labelkit.label_studio.page import create_page as create_page
    from labelkit.label_studio.tasks import create_prediction as create_prediction
    from labelkit.label_studio.tasks import create_task as create_task

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy.attach(
        __name__,
        {
            "answers": ("read_answers",),
            "audio": ("Share", "share_folder"),
            "client": ("Client",),
            "page": ("Page", "create_page"),
            "tasks": ("create_prediction", "create_task"),
        },
    )
