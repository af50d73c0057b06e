"""The last frame of a FLAC stream (RFC 9639), which tells how many samples there really are."""

from __future__ import annotations

import re
from functools import cache

from labelkit.audio.source import Source

_SYNC = re.compile(rb"\xff[\xf8\xf9]")
# Sizes of blocks by their code, section 9.1.1; others follow the number of the frame.
_SIZES = {1: 192, **{k: 144 << k for k in range(2, 6)}, **{k: 1 << k for k in range(8, 16)}}
_LONGEST = 2**17


def find_end(source: Source, start: int, stop: int) -> int | None:
    """Find behind which sample the last frame of a stream ends.

    Args:
        source: The file.
        start: Place of the mark ``fLaC``.
        stop: Where the stream ends.

    Returns:
        Samples per channel; None if no frame is found near the end.
    """
    info = source.read(start + 8, 18)
    block, longest = int.from_bytes(info[2:4], "big"), int.from_bytes(info[7:10], "big")
    low = max(start + 42, stop - (longest + 16 if longest else _LONGEST))
    tail = source.read(low, stop - low)
    for match in reversed(list(_SYNC.finditer(tail))):
        end = _read_header(tail[match.start() : match.start() + 16], block)
        if end is not None:
            return end
    return None


def _read_header(head: bytes, block: int) -> int | None:
    """Return the sample behind a frame by its header; None if it is none."""
    if len(head) < 6 or head[3] & 1:
        return None
    size_code, rate_code, n = head[2] >> 4, head[2] & 15, 5
    number = head[4]
    if number >= 0x80:
        # As UTF-8 writes numbers, up to 36 bits.
        n_bytes = 8 - (~number & 0xFF).bit_length()
        if not 2 <= n_bytes <= 7 or len(head) < 4 + n_bytes:
            return None
        number &= 0x7F >> n_bytes
        for byte in head[5 : 4 + n_bytes]:
            number = number << 6 | byte & 0x3F
        n = 4 + n_bytes
    size = _SIZES.get(size_code)
    if size_code in (6, 7):
        size = int.from_bytes(head[n : n + size_code - 5], "big") + 1
        n += size_code - 5
    n += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if size is None or rate_code == 15 or len(head) <= n or _crc8(head[:n]) != head[n]:
        return None
    return number + size if head[1] & 1 else number * block + size


@cache
def _crc8_of_byte(value: int) -> int:
    for _ in range(8):
        value = (value << 1 ^ 0x07) & 0xFF if value & 0x80 else value << 1
    return value


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _crc8_of_byte(value ^ byte)
    return value
