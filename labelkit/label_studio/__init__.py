"""The bridge to Label Studio: its labelling page, its tasks, its answers, its server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelkit import lazy

if TYPE_CHECKING:
    from labelkit.label_studio.answers import read_answers
    from labelkit.label_studio.audio import Share, share_folder
    from labelkit.label_studio.client import Client
    from labelkit.label_studio.page import Page, create_page
    from labelkit.label_studio.tasks import create_prediction, create_task

__all__ = [
    "Client",
    "Page",
    "Share",
    "create_page",
    "create_prediction",
    "create_task",
    "read_answers",
    "share_folder",
]

# Type checkers shall know the names above and no others.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.attach(
        __name__,
        {
            "answers": ("read_answers",),
            "audio": ("Share", "share_folder"),
            "client": ("Client",),
            "page": ("Page", "create_page"),
            "tasks": ("create_prediction", "create_task"),
        },
    )
