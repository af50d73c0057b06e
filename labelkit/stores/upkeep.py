"""Statements that look after the file of an open label store; none of them changes a fact."""

from __future__ import annotations

from typing import Any

from labelkit.stores.catalog import create_views, drop_views
from labelkit.stores.materialised import rebuild_state
from labelkit.stores.session import Session


def checkpoint(con: Any) -> None:
    """Take what waits in the log into the file."""
    con.execute("checkpoint")


def rebuild(con: Any) -> None:
    """Make the views and the maintained state anew, in one transaction."""
    con.execute("begin")
    # What is maintained is made by asking the views.
    drop_views(con)
    create_views(con)
    rebuild_state(Session(con))
    con.execute("commit")
