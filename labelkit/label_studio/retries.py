"""Requests sent again where a server or the way to it fails for a moment."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

# Timeout, conflict, too many requests; and whatever a server finds wrong with itself.
PASSING = (408, 409, 429)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
# Clients that failed together should not come back together.
JITTER = 0.1


def send(request: Callable[[], httpx.Response], *, retries: int) -> httpx.Response:
    """Send a request, and again where it fails in a way that may pass.

    Only what may be carried out twice may be sent again: reading, changing, deleting by id.

    Args:
        request: Sends it once.
        retries: How often it may be sent again.

    Returns:
        The last response, whatever its status.

    Raises:
        httpx.HTTPError: If none came; a timeout is never tried again.
    """
    import httpx

    for attempt in range(retries):
        answer = None
        try:
            answer = request()
        except (httpx.ConnectError, httpx.RemoteProtocolError):
            pass
        if answer is not None and not may_pass(answer.status_code):
            return answer
        time.sleep(pause_s(attempt, answer))
    return request()


def may_pass(status: int) -> bool:
    """Tell whether the same request may be answered otherwise a little later.

    Example:
        >>> [status for status in (200, 404, 409, 429, 500, 503) if may_pass(status)]
        [409, 429, 500, 503]
    """
    return status >= 500 or status in PASSING


def pause_s(attempt: int, answer: httpx.Response | None = None) -> float:
    """Return how many seconds to wait before a request is sent again.

    Args:
        attempt: How often it was sent again before; the pause doubles with each.
        answer: The response, if one came; what its Retry-After asks for counts.
    """
    asked = 0.0 if answer is None else _retry_after_s(answer.headers.get("retry-after", ""))
    if asked > 0:
        return min(asked, LONGEST_PAUSE_S)
    return min(FIRST_PAUSE_S * 2.0**attempt, LONGEST_PAUSE_S) * random.uniform(
        1 - JITTER, 1 + JITTER
    )


def _retry_after_s(text: str) -> float:
    """Read a Retry-After, seconds or a date (RFC 9110, 10.2.3); 0 where it is neither."""
    if text.isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
        return (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return 0.0
