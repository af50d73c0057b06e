"""Limits of one answer as a whole: a server may send it slowly, or never stop.

Time-outs of the HTTP library count from one read to the next, so a byte now and then keeps a
request waiting for ever, and with it whatever lock is held.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import httpx

# No answer that labelkit asks for comes near this: pages of tasks, lists of uploads.
MOST_BYTES = 2**28

Found = TypeVar("Found")


def within(seconds: float, call: Callable[[], Found]) -> Found:
    """Return what a call returns, or raise in time: it goes on in a thread that nobody waits for.

    Raises:
        httpx.ReadTimeout: If it takes longer.
    """
    import httpx

    box: list[Any] = []

    def run() -> None:
        try:
            box.append((call(), None))
        except BaseException as error:
            box.append((None, error))

    # A daemon: what hangs must not keep the process from ending either.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not box:
        raise httpx.ReadTimeout(f"no whole answer within {seconds:g} s")
    found, error = box[0]
    if error is not None:
        raise error
    value: Found = found
    return value


def receive(
    http: httpx.Client, method: str, url: str, *, deadline_s: float, **request: Any
) -> httpx.Response:
    """Send a request and return the whole answer.

    Raises:
        httpx.ReadTimeout: If it is not there in time, however steadily it comes.
        httpx.DecodingError: If it is larger than any answer may be, unpacked.
    """
    import httpx

    def ask() -> httpx.Response:
        with http.stream(method, url, **request) as answer:
            parts, size = [], 0
            for part in answer.iter_bytes():
                size += len(part)
                if size > MOST_BYTES:
                    raise httpx.DecodingError(
                        f"it goes on after {MOST_BYTES >> 20} MB", request=answer.request
                    )
                parts.append(part)
            # The parts are unpacked, and their length is another one now.
            packed = ("content-encoding", "content-length", "transfer-encoding")
            headers = [(k, v) for k, v in answer.headers.multi_items() if k not in packed]
            return httpx.Response(
                answer.status_code,
                headers=headers,
                content=b"".join(parts),
                request=answer.request,
            )

    return within(deadline_s, ask)
