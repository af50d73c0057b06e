"""Ogg files (RFC 3533): streams in a row, ends that are missing, rates that are remarks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labelkit.audio.source import Piece, Source

_CAPTURE, _HEADER = b"OggS", 27
_PAGE = re.compile(_CAPTURE)
_LONGEST = _HEADER + 255 + 255 * 255
_FIRST, _LAST = 2, 4  # Flags of the first and the last page of a stream.
OPUS, _OPUS_RATE, _OPUS_HZ = b"OpusHead", 12, 48_000


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


@dataclass
class Link:
    """A stream of a file, or several that were recorded at once: what lies between two places.

    Args:
        start: Place of its first page.
        pages: Places of its pages.
        stop: Where the last of them ends, or would end.
        first_packet: The beginning of its first packet, which names the codec.
        ended: Whether its last page is marked as such.
    """

    start: int
    pages: list[int]
    stop: int
    first_packet: bytes
    ended: bool = False


def find_links(source: Source) -> list[Link]:
    """Walk over the pages of a file.

    A chained file (RFC 3533, section 4) holds several streams one after the other: each begins
    with a page marked as the first after others that are not.

    Returns:
        Its streams in their order; damaged pages belong to none.
    """
    links: list[Link] = []
    at, opening = 0, False
    while len(head := source.read(at, _HEADER + 255)) >= _HEADER:
        if head[:4] != _CAPTURE:
            found = source.search(_PAGE, at + 1)
            if found is None:
                break
            at = found
            continue
        first = bool(head[5] & _FIRST)
        if not links or (first and not opening):
            body = at + _HEADER + head[26]
            links.append(Link(at, [], at, source.read(body, 64)))
        opening, link = first, links[-1]
        link.pages.append(at)
        link.stop = at + _page_length(head)
        link.ended = bool(head[5] & _LAST)
        at = link.stop
    return links


def _page_length(head: bytes) -> int:
    """Return the bytes of a page by its header, at least those that are there."""
    lengths = head[_HEADER : _HEADER + head[26]]
    return _HEADER + head[26] + sum(lengths)


def is_cut_off(source: Source, link: Link) -> bool:
    """Tell whether a stream lacks a whole page that is marked as the last."""
    return not link.ended or link.stop > source.size


def make_pieces(source: Source, link: Link) -> list[Piece]:
    """Make a stream of its own that ends where it says and tells the rate it is decoded at.

    A stream that was cut off ends after the last packet that is whole: a page holds a second
    or more, so without this much of what is there is not heard. The header of Opus says at
    which rate the sound once was, if at all, which is a remark (RFC 7845, section 5.1);
    libsndfile takes it for the rate to decode at, which is 48 kHz.
    """
    pieces: list[Piece] = []
    at = link.start
    if link.first_packet[: len(OPUS)] == OPUS:
        page = bytearray(source.read(at, _page_length(source.read(at, _HEADER + 255))))
        where = _HEADER + page[26] + _OPUS_RATE
        page[where : where + 4] = _OPUS_HZ.to_bytes(4, "little")
        pieces.append(_sealed(page))
        at += len(page)
    stop = min(link.stop, source.size)
    if is_cut_off(source, link):
        last = link.pages[-1]
        ended = _end(source.read(last, stop - last))
        if ended is None and len(link.pages) > 1:
            # Not even the table of the last page is whole: end with the page before.
            last, stop = link.pages[-2], link.pages[-1]
            ended = _end(source.read(last, stop - last))
        if ended is not None and last >= at:
            return [*pieces, (at, last), ended]
    return [*pieces, (at, stop)]


def _end(page: bytes) -> bytes | None:
    """End a page after the last packet that is whole; None without its whole table."""
    if len(page) < _HEADER or len(page) < _HEADER + page[26]:
        return None
    lengths = page[_HEADER : _HEADER + page[26]]
    body = _HEADER + len(lengths)
    size, kept, kept_size = 0, 0, 0
    for number, segment in enumerate(lengths, 1):
        size += segment
        if body + size > len(page):
            break
        if segment < 255:  # The end of a packet.
            kept, kept_size = number, size
    head = bytearray(page[:_HEADER])
    head[5] |= _LAST
    head[26] = kept
    return _sealed(head + lengths[:kept] + page[body : body + kept_size])


def _sealed(page: bytearray) -> bytes:
    """Return a page with the checksum of what it holds now."""
    page[22:26] = bytes(4)
    page[22:26] = _crc(bytes(page)).to_bytes(4, "little")
    return bytes(page)
