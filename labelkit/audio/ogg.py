"""Ogg files (RFC 3533): streams in a row, ends that are missing, rates that are remarks."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field

from labelkit.audio.source import Piece, Source

_PAGE, _HEADER = re.compile(b"OggS"), 27
_FIRST, _LAST = 2, 4  # Flags of the first and the last page of a stream.
_NUMBERS = 2**32
OPUS, _OPUS_RATE, _OPUS_HZ = b"OpusHead", 12, 48_000
_BACKWARDS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _crc(page: bytes) -> bytes:
    """Return the checksum of a page, four bytes.

    It is that of zlib with all bits in the other order, from another beginning.
    """
    backwards = memoryview(page.translate(_BACKWARDS))
    value = 0xFFFFFFFF
    for part in (backwards[:22], bytes(4), backwards[26:]):
        value = zlib.crc32(part, value)
    value ^= 0xFFFFFFFF
    return value.to_bytes(4, "little").translate(_BACKWARDS)[::-1]


@dataclass
class Link:
    """A stream of a file, or several that were recorded at once: what lies between two places.

    Args:
        start: Place of its first page.
        first_packet: The beginning of its first packet, which names the codec.
        stop: Where its last page ends, or what is there of it.
        last: Place of that page.
        before: Place of the page before that one.
        ended: Whether the last page is whole and marked as the last.
        damaged: Whether pages lack, or are not whole.
        numbers: Of the last page of each stream, by its serial number.
    """

    start: int
    first_packet: bytes
    stop: int = 0
    last: int | None = None
    before: int | None = None
    ended: bool = False
    damaged: bool = False
    numbers: dict[bytes, int] = field(default_factory=dict)

    def add(self, start: int, stop: int, *, ended: bool) -> None:
        """Note a page."""
        self.before, self.last, self.stop, self.ended = self.last, start, stop, ended


def find_links(source: Source) -> list[Link]:
    """Walk over the pages of a file, by their checksums.

    A chained file (RFC 3533, section 4) holds several streams one after the other: each begins
    with a page marked as the first after others that are not. One that was cut off before it
    was joined with others ends in the middle of a page.

    Returns:
        Its streams in their order.
    """
    links: list[Link] = []
    at, opening = 0, False
    while (start := source.search(_PAGE, at)) is not None:
        head = source.read(start, _HEADER + 255)
        length = _page_length(head)
        page = source.read(start, length)
        serial, first = head[14:18], bool(head[5:6] and head[5] & _FIRST)
        if links and start > at:
            links[-1].damaged = True
        if len(page) < max(length, _HEADER) or _crc(page) != page[22:26]:
            at = source.search(_PAGE, start + 1) or source.size
            if links:
                links[-1].damaged = True
                if at < start + length and not first and serial in links[-1].numbers:
                    links[-1].add(start, at, ended=False)
            continue
        at = start + length
        if not links or (first and not opening):
            links.append(Link(start, page[_HEADER + page[26] :][:64]))
        opening, link = first, links[-1]
        number = int.from_bytes(page[18:22], "little")
        if serial not in link.numbers and not first and link.numbers:
            link.damaged = True  # The page that began this stream is not there.
            continue
        link.damaged |= number != (link.numbers.get(serial, number - 1) + 1) % _NUMBERS
        link.numbers[serial] = number
        link.add(start, at, ended=bool(page[5] & _LAST))
    return links


def _page_length(head: bytes) -> int:
    """Return the bytes of a page by its header, at least those that are there."""
    if len(head) < _HEADER:
        return _HEADER
    return _HEADER + head[26] + sum(head[_HEADER : _HEADER + head[26]])


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
    if not link.ended:
        for last, stop in ((link.last, link.stop), (link.before, link.last)):
            if last is None or stop is None or last < at:
                continue
            # Where not even the table of the last page is whole, the page before is the end.
            if (ended := _end(source.read(last, stop - last))) is not None:
                return [*pieces, (at, last), ended]
    return [*pieces, (at, link.stop)]


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
    page[22:26] = _crc(bytes(page))
    return bytes(page)
