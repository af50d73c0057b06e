"""What keeps a large store fast: the maintained state of clips, and large runs as Parquet.

``state_rows`` holds the newest event of every clip up to a mark, ``current_events`` adds what
came since. Moving the mark costs about as much as the events it moves over, so an append stays
an append. ``clip_scores`` is the same for scores, which come by the run rather than one by one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from labelkit.files import sync_folder
from labelkit.stores.views import SCORES_MARK

if TYPE_CHECKING:
    from labelkit.stores.session import Session

# Rows behind a mark that are looked up rather than kept: so many, or a share of the clips.
TAIL = 100_000
TAIL_SHARE = 0.5

# Predictions of a run that lie in the store; a run of more clips is one Parquet file, in a
# folder beside the store.
ROWS_OF_RUN = 10_000_000
FOLDER = ".labelkit/predictions"
# What such a file is called; no other is ever opened.
PREDICTIONS = re.compile(re.escape(FOLDER) + r"/[0-9a-f]{16}\.parquet")

_COLUMNS = "clip_id, event_id, batch_id, state, labels, source, run_id, iteration, score, made_at"


def keep_state(session: Session, last_event: int, batch_id: int) -> None:
    """Move the mark of ``clip_state`` to the last event where too many lie behind it.

    Args:
        session: An open transaction.
        last_event: Id of the newest event.
        batch_id: The batch it belongs to.
    """
    [(mark,)] = session.rows("select coalesce(max(event_id), -1) from clip_state_mark")
    if last_event - mark > _longest_tail(session):
        _move_mark(session, mark, last_event, batch_id)


def keep_scores(session: Session, batch_id: int) -> None:
    """Take scores and judgements behind the mark into ``clip_scores`` where there are too many.

    Args:
        session: An open transaction.
        batch_id: The newest batch.
    """
    [(n_rows,)] = session.rows(
        "with late as (select run_id from runs where batch_id > "
        f"{SCORES_MARK}) select (select count(*) from scores semi join late using (run_id)) "
        "+ (select count(*) from suggestions semi join late using (run_id))"
    )
    if n_rows > _longest_tail(session):
        session.execute("create or replace temp table moved as from newest_scores")
        session.execute("delete from clip_scores")
        session.execute("insert into clip_scores from moved")
        session.execute("delete from clip_scores_mark")
        session.execute("insert into clip_scores_mark values (?)", [batch_id])
        session.execute("drop table moved")


def _longest_tail(session: Session) -> float:
    [(n_clips,)] = session.rows("select coalesce(max(clip_id) + 1, 0) from clip_rows")
    longest: float = max(TAIL, TAIL_SHARE * n_clips)
    return longest


def _move_mark(session: Session, mark: int, last_event: int, batch_id: int) -> None:
    """Take the newest events behind the mark into ``clip_state``."""
    session.execute(
        "create or replace temp table moved as select max(event_id) as event_id "
        f"from event_rows where event_id > {mark:d} group by clip_id"
    )
    session.execute(
        "delete from state_rows where clip_id in (select clip_id from event_rows "
        f"where event_id > {mark:d})"
    )
    session.execute(
        f"insert into state_rows select {_COLUMNS} from event_rows semi join moved "
        f"using (event_id) where event_id > {mark:d}"
    )
    session.execute("delete from clip_state_mark")
    session.execute("insert into clip_state_mark values (?, ?)", [last_event, batch_id])
    session.execute("drop table moved")


def rebuild_state(session: Session) -> None:
    """Make ``clip_state`` and ``clip_scores`` anew, where there is enough to be worth it."""
    session.execute("delete from state_rows")
    session.execute("delete from clip_state_mark")
    [(last_event, batch_id)] = session.rows(
        "select coalesce(max(event_id), -1), coalesce(max_by(batch_id, event_id), 0) "
        "from event_rows"
    )
    keep_state(session, last_event, batch_id)
    session.execute("delete from clip_scores")
    session.execute("delete from clip_scores_mark")
    keep_scores(session, session.last_batch())


@contextmanager
def prediction_file(session: Session, run_id: str, n_clips: int) -> Iterator[Path]:
    """Name a file for the predictions of a large run; registered once it is written.

    It is whole on the disk before the transaction that names it commits.

    Args:
        session: An open transaction.
        run_id: The run.
        n_clips: How many clips it judged.

    Yields:
        Where to write.
    """
    [(root,)] = session.rows("select current_setting('file_search_path')")
    name = f"{FOLDER}/{hashlib.sha256(run_id.encode()).hexdigest()[:16]}.parquet"
    path = Path(root) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial.parquet")
    session.execute("insert into prediction_files values (?, ?, ?)", [run_id, name, n_clips])
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)
