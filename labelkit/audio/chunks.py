"""Files of chunks: WAV, RF64, Wave64, AIFF, CAF, and AU, which is a header and sound.

Their sizes are what a writer knew when it wrote the header: 0 where a recorder lost power, the
most there is where nobody could go back, those of half an hour ago where it is brought up to date
now and then, those of the first where files were joined.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from labelkit.audio.source import Piece, Source

_Order = Literal["little", "big"]


class _Form(NamedTuple):
    """How a kind of file writes its chunks."""

    first: int
    name: int
    size: int
    order: _Order
    align: int = 1
    # Whether the size counts name and size, too.
    all_counted: bool = False
    data: bytes = b"data"
    # Whether a wrong size of the sound can be put right by itself.
    can_be_mended: bool = True

    @property
    def head(self) -> int:
        return self.name + self.size


_FORMS = {
    b"RIFF": _Form(12, 4, 4, "little", 2),
    b"RIFX": _Form(12, 4, 4, "big", 2),
    b"RF64": _Form(12, 4, 4, "little", 2),
    b"BW64": _Form(12, 4, 4, "little", 2),
    b"FORM": _Form(12, 4, 4, "big", 2, data=b"SSND", can_be_mended=False),
    b"caff": _Form(8, 4, 8, "big", can_be_mended=False),
    b"riff": _Form(40, 16, 8, "little", 8, all_counted=True),
}
# Sizes of 32 bits that encoders write who cannot go back: SoX's AIFF; its WAV, Android, arecord;
# ffmpeg, GStreamer.
_UNKNOWN = (
    range(0x7F000000, 0x7F010000), range(0x7FFF0000, 0x80010000), range(0xFFFF0000, 2**32)
)  # fmt: skip
# What no file has: 4 EB.
_ENDLESS = 2**62
# Some writers count a header or a chunk's pad into it.
_SLACK = 64
# Bytes behind the sound that may be anything before they are taken for more of it.
_SCRAPS = 4096
_TEXT = re.compile(rb"[\t\n\r -~]{64}|ID3|TAG|APETAGEX|\0{64}")
_CHUNKS_BEHIND = frozenset(
    name.ljust(4).encode()
    for name in "LIST id3 ID3 JUNK PAD bext iXML axml cue smpl fact PEAK afsp FLLR wamd guan _PMX "
    "inst DISP acid strc slnt plst labl note".split()
)
_LARGEST = 2**32 - 64
# Codes of samples as they are: integers, floats, A-law, mu-law; and of "see below".
_PLAIN = (1, 3, 6, 7, 0xFFFE)


class Sound(NamedTuple):
    """Where the sound of a file is.

    Args:
        pieces: The file with sizes that are right; None if it can be read as it is.
        lacks: Whether bytes are missing that should be there.
    """

    pieces: list[Piece] | None
    lacks: bool


class _Chunk(NamedTuple):
    at: int
    name: bytes
    body: int
    size: int


def find_sounds(source: Source, start: int = 0) -> list[Sound]:
    """Find the sound of a file of chunks, of each part where WAV files were joined.

    Args:
        source: The file.
        start: Where it begins, behind tags say.
    """
    if source.read(start, 4) == b".snd":
        return [_of_au(source, start)]
    starts, sounds = [start], []
    for start in starts:
        sound, follower = _of_part(source, start)
        if follower is not None:
            starts.append(follower)
        sounds.append(sound)
    return sounds


def _of_au(source: Source, start: int) -> Sound:
    head = source.read(start, 12)
    body, size = start + int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:], "big")
    rest = source.size - body
    is_more = (size == 0 and rest > 0) or (size < rest and _is_more(source, body + size))
    lacks = not _is_unknown(size) and size > rest + _SLACK
    if lacks or not (is_more or _is_unknown(size) or start):
        return Sound(None, lacks)
    return Sound([(start, start + 8), b"\xff" * 4, (start + 12, source.size)], lacks=False)


def _of_part(source: Source, start: int) -> tuple[Sound, int | None]:
    """Return the sound of a part, and where the next part begins if one does."""
    mark = source.read(start, 4)
    form = _FORMS[mark]
    chunks = _walk(source, start + form.first, form)
    chunk = next((chunk for chunk in chunks if chunk.name[:4] == form.data), None)
    if chunk is None:
        return Sound([(start, source.size)] if start else None, lacks=False), None
    size, field, width = chunk.size, chunk.at + form.name, form.size
    if mark in (b"RF64", b"BW64") and size == 2**32 - 1:
        # The chunk ds64 comes first; its second number is this size.
        field, width = start + 28, 8
        size = int.from_bytes(source.read(field, width), form.order)
    rest = source.size - chunk.body
    # libsndfile goes by another chunk of AIFF, and knows that CAF may not say its size.
    grown, stop = form.can_be_mended and width == 8 and size >= _ENDLESS, source.size
    if size < rest:
        end = _find_end(source, chunk.body + size, form, mark)
        stop = source.size if end is None else end
        grown = (
            form.can_be_mended and end is None and (not size or _is_more(source, chunk.body + size))
        )
    if mark == b"riff" and (pieces := _as_rf64(source, start, chunk, form, grown)) is not None:
        return Sound(pieces, lacks=not _is_unknown(size) and size > rest + _SLACK), None
    if grown:
        return Sound(_mended(source, start, chunk, form, (field, width)), lacks=False), None
    lacks = not _is_unknown(size) and size > rest + _SLACK
    pieces = None if (start, stop) == (0, source.size) else [(start, stop)]
    if mark == b"BW64":
        pieces = [b"RF64", (start + 4, stop)]
    return Sound(pieces, lacks), stop if stop < source.size else None


def _as_rf64(
    source: Source, start: int, sound: _Chunk, form: _Form, grown: bool
) -> list[Piece] | None:
    """Make a file of another kind of one that libsndfile takes floats of 32 bit for integers in.

    Returns:
        None where samples are coded, of which more is needed than their format.
    """
    chunks = _walk(source, start + form.first, form)
    known = next((chunk for chunk in chunks if chunk.name[:4] in (b"fmt ", form.data)), sound)
    about = source.read(known.body, min(known.size, 40))
    if known.name[:4] != b"fmt " or int.from_bytes(about[:2], "little") not in _PLAIN:
        return None
    size = min(sound.size, source.size - sound.body)
    if grown or not sound.size or _is_unknown(sound.size):
        size = source.size - sound.body
    sizes = b"".join(n.to_bytes(8, "little") for n in (size + 80 + len(about), size, 0))
    head = b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0" + sizes + bytes(4)
    head += b"fmt " + len(about).to_bytes(4, "little") + about + b"data\xff\xff\xff\xff"
    return [head, (sound.body, sound.body + size)]


def _mended(
    source: Source, start: int, chunk: _Chunk, form: _Form, field: tuple[int, int]
) -> list[Piece]:
    """Make a file that says to hold sound up to its end; four bytes can say no more than 4 GB."""
    place, width = field
    size = source.size - chunk.body
    if width == 8:
        told = (size + form.head * form.all_counted).to_bytes(width, form.order)
        # BW64 is RF64 by another name.
        mark = [b"RF64"] if source.read(start, 4) == b"BW64" else [(start, start + 4)]
        return [*mark, (start + 4, place), told, (place + width, source.size)]
    size = min(size, _LARGEST - (chunk.body - start))
    total = (chunk.body + size - start - 8).to_bytes(4, form.order)
    told = size.to_bytes(4, form.order)
    sound = (place + width, chunk.body + size)
    return [(start, start + 4), total, (start + 8, place), told, sound]


def _walk(source: Source, at: int, form: _Form) -> Iterator[_Chunk]:
    while len(head := source.read(at, form.head)) == form.head:
        size = int.from_bytes(head[form.name :], form.order)
        size = max(0, size - form.head * form.all_counted)
        yield _Chunk(at, head[: form.name], at + form.head, size)
        at += form.head + -(-size // form.align) * form.align


def _find_end(source: Source, at: int, form: _Form, mark: bytes) -> int | None:
    """Find where a file ends whose sound ends at a place.

    Returns:
        The end of all, or where another WAV file begins; None if what is behind the sound are no
        chunks.
    """
    # Some writers forget the pad.
    for first in {at + -at % form.align, at}:
        end = first
        for chunk in _walk(source, first, form):
            if chunk.name == mark and source.read(chunk.body, 4) == b"WAVE":
                return chunk.at
            if not all(32 <= byte < 127 for byte in chunk.name[:4]):
                break
            end = chunk.body + -(-chunk.size // form.align) * form.align
        if source.size <= end <= source.size + form.align:
            return source.size
    return None


def _is_more(source: Source, at: int) -> bool:
    """Tell whether bytes behind the sound, as its size has it, are more of it.

    No text, no zeros, no tag and no chunk that writers put there, be it cut off.
    """
    behind = source.read(at, 65)
    is_other = _TEXT.match(behind) or {behind[:4], behind[1:5]} & _CHUNKS_BEHIND
    return source.size - at > _SCRAPS and not is_other


def _is_unknown(size: int) -> bool:
    return size >= _ENDLESS or any(size in sizes for sizes in _UNKNOWN)
