"""Frames of MPEG audio (ISO/IEC 11172-3 and 13818-3), counted one by one.

How long an mp3 is stands in no place that can be relied on: the Xing header is optional, is
written before the end is known, and is that of the first part where files were joined.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from labelkit.audio.source import Source

_VERSION_1, _VERSION_2 = 3, 2
_LAYER_3 = 1
_KBIT = {  # By (is version 1, layer), index 1 to 14.
    (True, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBIT[False, 1] = _KBIT[False, 2]
_RATES = (44100, 48000, 32000)
_HALVINGS = {_VERSION_1: 0, _VERSION_2: 1, 0: 2}  # 0 is version 2.5.
# The third byte tells bit rate and rate, of which some are none.
_THIRD = bytes(b for b in range(256) if 0 < b >> 4 < 15 and b >> 2 & 3 < 3)
_SYNC = re.compile(rb"\xff[\xe2-\xff][" + re.escape(_THIRD) + rb"]")
_NOT_ZERO = re.compile(rb"[^\0]")
_MONO = 3
# What is looked at to find out whether a file without a mark is of this kind.
_SEARCH = 4096


class Header(NamedTuple):
    """What the four bytes before a frame say; two frames of one ``format`` are one stream."""

    format: tuple[int, int, int, bool]
    bit_rate: int
    n_bytes: int
    n_samples: int

    @property
    def rate(self) -> int:
        """Samples a second, in Hz."""
        return self.format[2]

    @property
    def is_layer_3(self) -> bool:
        """Tell whether it is an mp3 proper."""
        return self.format[1] == _LAYER_3

    @property
    def side_info(self) -> int:
        """Bytes between header and the place of a Xing header, a checksum left out."""
        version, _, _, mono = self.format
        return (17 if mono else 32) if version == _VERSION_1 else (9 if mono else 17)


@dataclass
class Part:
    """Frames of one format that follow each other, what lies between them left out."""

    header: Header
    head: bytes
    ranges: list[tuple[int, int]] = field(default_factory=list)
    n_frames: int = 0
    # Bytes that the last frame lacks, and those between frames that are neither frames nor tags.
    lacking: int = 0
    foreign: int = 0

    @property
    def lacks(self) -> bool:
        """Tell whether a frame or more is missing or damaged, as far as can be seen."""
        return self.lacking > 0 or self.foreign >= self.header.n_bytes


@lru_cache(maxsize=4096)
def read_header(head: bytes) -> Header | None:
    """Read the four bytes before a frame; None if they are none, or its length is not said."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    index, rate_index, padded = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 0 or index in (0, 15) or rate_index == 3:
        return None
    rate = _RATES[rate_index] >> _HALVINGS[version]
    kbit = _KBIT[version == _VERSION_1, layer][index - 1]
    if layer == 3:  # Layer I counts in slots of four bytes.
        n_samples, n_bytes = 384, (12_000 * kbit // rate + padded) * 4
    else:
        n_samples = 576 if layer == _LAYER_3 and version != _VERSION_1 else 1152
        n_bytes = n_samples // 8 * 1000 * kbit // rate + padded
    return Header((version, layer, rate, head[3] >> 6 == _MONO), kbit, n_bytes, n_samples)


def find_parts(source: Source) -> list[Part]:
    """Walk over all frames of a file.

    Tags, and what else is no frame, are stepped over: the next frame is where two headers of
    one format follow each other at the distance that the first one says.

    Returns:
        One part, or several where the format changes midway; none if the file does not begin
        with a frame, tags left out.
    """
    parts: list[Part] = []
    at = skip_tags(source, 0)
    at = source.search(_NOT_ZERO, at) or at
    first, synced, between = at, False, 0
    while (header := read_header(head := source.read(at, 4))) is not None or len(head) == 4:
        last = parts[-1] if parts else None
        same = header is not None and last is not None and header.format == last.header.format
        if header is None or not ((synced and same) or _is_followed(source, at, header, same)):
            behind = _skip_all_tags(source, at)
            found = source.search(_SYNC, max(at + 1, behind))
            if found is None or (last is None and found > first + _SEARCH):
                break
            between += found - behind
            at, synced = found, False
            continue
        if last is not None:
            last.foreign += between
        between = 0
        if last is None or not same:
            last = Part(header, head)
            parts.append(last)
        stop = min(at + header.n_bytes, source.size)
        if last.ranges and last.ranges[-1][1] == at:
            last.ranges[-1] = last.ranges[-1][0], stop
        else:
            last.ranges.append((at, stop))
        last.n_frames += 1
        last.lacking = at + header.n_bytes - stop
        at, synced = stop, True
    return parts


def skip_tags(source: Source, at: int) -> int:
    """Return where the ID3v2 tags that stand at a place end."""
    while (head := source.read(at, 10))[:3] == b"ID3" and len(head) == 10:
        size = 0
        for byte in head[6:]:
            size = size << 7 | byte & 0x7F
        at += 10 + size
    return at


def _skip_all_tags(source: Source, at: int) -> int:
    """Return where the tags end that stand at a place, also those of the end of a file."""
    while True:
        stop = skip_tags(source, at)
        head = source.read(stop, 32)
        if head[:3] == b"TAG":
            stop += 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            # The size leaves out a header of 32 bytes, and so it is if this is a footer alone.
            stop += 32 + int.from_bytes(head[12:16], "little") * bool(head[23] & 0x20)
        if stop == at:
            return at
        at = stop


def _is_followed(source: Source, at: int, header: Header, same: bool) -> bool:
    """Tell whether a frame is one: another of its format, a tag or the end comes after it."""
    mark = source.read(at + header.n_bytes, 4)
    follows = read_header(mark)
    if follows is not None:
        return follows.format == header.format
    return same and (len(mark) < 4 or mark[:3] in (b"ID3", b"TAG", b"APE"))


def find_xing(source: Source, part: Part) -> int | None:
    """Find the Xing header of a part; None where there is none."""
    at = part.ranges[0][0] + 4 + part.header.side_info
    marked = part.header.is_layer_3 and source.read(at, 4) in (b"Xing", b"Info")
    return at if marked else None


def stated_frames(source: Source, xing: int) -> int | None:
    """Read how many frames follow a Xing header, as it says; None if it does not."""
    head = source.read(xing, 12)
    return int.from_bytes(head[8:], "big") if head[7] & 1 else None


def correct_counts(source: Source, xing: int, part: Part) -> bytes:
    """Return what a Xing header should say from its count of frames on: that, and of bytes."""
    counts = (part.n_frames - 1).to_bytes(4, "big")
    if source.read(xing, 8)[7] & 2:
        counts += sum(stop - start for start, stop in part.ranges).to_bytes(4, "big")
    return counts
