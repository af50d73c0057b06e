"""The moment a user means: a batch, a day, a time, or the labels a run read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from labelkit.errors import InvalidInput

_KINDS = "give the number of a batch, a date, a time (UTC unless it says otherwise) or a run"


def find_batch(con: Any, moment: str) -> int:
    """Find the number of the last batch that counts at a moment.

    Args:
        con: A connection to a store.
        moment: The number of a batch; a date, which stands for its whole day in UTC; a time
            as ISO 8601; or the id of a run, which stands for the labels it read.

    Raises:
        InvalidInput: If it is none of these, or lies before the first batch.
    """

    def ask(sql: str, *values: Any) -> Any:
        row = con.execute(sql, values).fetchone()
        return row and row[0]

    word = moment.strip()
    if word.isdecimal():
        last: int = ask("select coalesce(max(batch_id), 0) from batches")
        number = read_number(word)
        if not 1 <= number <= last:
            raise InvalidInput(f"no batch {word}; there are 1 to {last}, see: labelkit log")
        return number
    run: int | None = ask("select as_of from runs where run_id = ?", word)
    if run is not None:
        return run
    time = read_time(word)
    if _is_date(word):
        time += timedelta(days=1, microseconds=-1)
    first = ask("select min(batch_id) from batches where made_at > ?", time)
    last = ask("select coalesce(max(batch_id), 0) from batches") if first is None else first - 1
    if not last:
        raise InvalidInput(f"{moment} lies before the first batch; see: labelkit log")
    return last


def read_number(word: str) -> int:
    """Read the number of a batch from its digits.

    Raises:
        InvalidInput: If it is longer than that of any batch can be.

    Example:
        >>> read_number("17")
        17
    """
    # A bigint holds 18 digits; of thousands Python makes no number at all.
    if len(word) > 18:
        raise InvalidInput(f"no batch {word[:12]}...; see: labelkit log")
    return int(word)


def read_time(moment: str) -> datetime:
    """Read a time a user wrote, in UTC without saying so; a date is its first instant.

    Raises:
        InvalidInput: If it is no time as ISO 8601.

    Example:
        >>> read_time("2026-11-01T12:00:00+02:00")
        datetime.datetime(2026, 11, 1, 10, 0)
    """
    try:
        time = datetime.fromisoformat(moment.strip())
        return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"no moment {moment!r}; {_KINDS}") from error


def _is_date(moment: str) -> bool:
    """Tell whether a moment names a day rather than a time."""
    return len(moment) == len("2026-01-01")
