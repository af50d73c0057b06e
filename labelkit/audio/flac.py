"""Frames of FLAC streams (RFC 9639): which one is the last, and where one is whole again."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from labelkit.audio.source import Source

_SYNC = re.compile(rb"\xff[\xf8\xf9]")
# Sizes of blocks by their code, section 9.1.1; others follow the number of the frame.
_SIZES = {1: 192, **{k: 144 << k for k in range(2, 6)}, **{k: 1 << k for k in range(8, 16)}}
_LONGEST = 2**17
_HEAD = 16  # Bytes that hold any header of a frame.
# More than silence needs: what only looks like a header mostly names a sample far away.
_SAMPLES_PER_BYTE = 2**10


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
        samples = _read_header(tail[match.start() : match.start() + _HEAD], block)
        if samples is not None:
            return samples[1]
    return None


class Frames(NamedTuple):
    """Where the frames of a stream lie in a file.

    Args:
        mark: Place of the mark ``fLaC``.
        start: Where they begin.
        stop: Behind the last one.
        begin: Where they began, before some were left out.
        base: Sample that the first of them begins with; what was cut out of a recording without
            being decoded counts from where it was.
    """

    mark: int
    start: int
    stop: int
    begin: int
    base: int = 0


def find_frames(source: Source, mark: int, stop: int) -> Frames:
    """Step over what stands before the frames of a stream."""
    at, last = mark + 4, False
    while not last and len(head := source.read(at, 4)) == 4:
        last = bool(head[0] & 0x80)
        at += 4 + int.from_bytes(head[1:], "big")
    at = min(at, stop)
    block = int.from_bytes(source.read(mark + 10, 2), "big")
    samples = _read_header(source.read(at, _HEAD), block)
    return Frames(mark, at, stop, at, samples[0] if samples else 0)


def find_next(source: Source, frames: Frames, done: int) -> tuple[int, int] | None:
    """Find the first frame that begins behind a sample, where those before are damaged.

    Args:
        source: The file.
        frames: Those that are looked at; the first one need not be whole.
        done: Samples per channel that were decoded, from the first frame on.

    Returns:
        Its place and its first sample, counted in the same way; None if there is none.
    """
    info = source.read(frames.mark + 8, 18)
    block, at = int.from_bytes(info[2:4], "big"), frames.start
    wanted = None
    while (found := source.search(_SYNC, at)) is not None and found < frames.stop:
        head = source.read(found, _HEAD)
        samples = _read_header(head, block)
        if samples is not None:
            # All frames of a stream have the same rate and bits.
            kind = head[:2], head[2] & 0x0F, head[3] & 0x0E
            wanted = wanted or kind
            first = samples[0] - frames.base
            most = _SAMPLES_PER_BYTE * (found - frames.start) + 2**17
            if kind == wanted and done < first <= done + most:
                return found, first
        at = found + 1
    return None


def _read_header(head: bytes, block: int) -> tuple[int, int] | None:
    """Return a frame's first sample and the one behind it by its header; None if it is none."""
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
    first = number if head[1] & 1 else number * block
    return first, first + size


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
