"""Ogg streams that were cut off (RFC 3533): tell them, and save their last whole packets."""

from __future__ import annotations

_CAPTURE, _HEADER = b"OggS", 27
_LAST = 4  # Flag of the last page of a stream.


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


_TABLE = _crc_table()


def _crc(page: bytes) -> int:
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _TABLE[value >> 24 ^ byte]
    return value


def _page_length(data: bytes, start: int) -> int | None:
    """Return the bytes of the page at ``start``, or None if its table is not all there."""
    if len(data) < start + _HEADER or len(data) < start + _HEADER + data[start + 26]:
        return None
    lengths = data[start + _HEADER : start + _HEADER + data[start + 26]]
    return _HEADER + len(lengths) + sum(lengths)


def is_cut_off(data: bytes) -> bool:
    """Tell whether a stream, or its end, lacks a whole page that is marked as the last."""
    start = data.rfind(_CAPTURE)
    length = _page_length(data, start) if start >= 0 else None
    return length is None or start + length > len(data) or not data[start + 5] & _LAST


def mend(data: bytes) -> bytes:
    """End a stream that was cut off after the last packet that is whole.

    A page holds a second or more, so without this much of what is there is not heard.

    Args:
        data: All bytes of the file.

    Returns:
        A stream that ends where it says; ``data`` itself if no page can be saved.
    """
    start = data.rfind(_CAPTURE)
    length = _page_length(data, start) if start >= 0 else None
    if length is None:
        # Not even the table of the last page is whole: end with the page before.
        data = data[: max(start, 0)]
        start = data.rfind(_CAPTURE)
        length = _page_length(data, start) if start >= 0 else None
    if length is None:
        return data
    lengths = data[start + _HEADER : start + _HEADER + data[start + 26]]
    body = start + _HEADER + len(lengths)
    size, kept, kept_size = 0, 0, 0
    for number, segment in enumerate(lengths, 1):
        size += segment
        if body + size > len(data):
            break
        if segment < 255:  # The end of a packet.
            kept, kept_size = number, size
    head = bytearray(data[start : start + _HEADER])
    head[5] |= _LAST
    head[22:26] = bytes(4)
    head[26] = kept
    page = bytes(head) + lengths[:kept] + data[body : body + kept_size]
    crc = _crc(page).to_bytes(4, "little")
    return data[:start] + page[:22] + crc + page[26:]
