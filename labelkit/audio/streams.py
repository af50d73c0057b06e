"""What of a file is sound: its streams, made so that libsndfile decodes all of them.

What a header says of the length is what somebody knew before the end was written, or what was
true of another file; so the parts of a file are counted where that can be done without
decoding, and the rest is decoded until nothing comes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelkit.audio import flac, mp3, ogg
from labelkit.audio.source import Piece, Source

_CODECS = (b"\x01vorbis", ogg.OPUS)
_FLAC, _FLAC_MARK = b"fLaC", re.compile(rb"fLaC\0\0\0\x22")
_FLAC_TOTAL = 2**36 - 1
# Sizes that encoders write who cannot go back: SoX, Android, arecord; ffmpeg, GStreamer.
_UNKNOWN_SIZES = (range(0x7FFF0000, 0x80010000), range(0xFFFF0000, 2**32))
# Some writers count a header or a chunk's pad into it.
_SLACK = 64
# Frames by which the count of a Xing header may be off, the header's own say.
_XING_SLACK = 2
# Between the lowest and the highest bit rate lies a factor of 40.
_FAR_LONGER = 100


@dataclass(frozen=True)
class Stream:
    """Sound of one rate; ``pieces`` are None where the file can be decoded as it is.

    Args:
        pieces: What libsndfile is to be given instead.
        stated: Samples per channel that must be there by the header; None if it does not say.
        lacks_end: Whether bytes of it are missing.
        claim: How many times as long the decoder shall believe it to be.
        counted: Samples per channel that there are, where the decoder could only guess.
    """

    pieces: Sequence[Piece] | None = None
    stated: int | None = None
    lacks_end: bool = False
    claim: int = 1
    counted: int | None = None

    @property
    def is_uncertain(self) -> bool:
        """Tell whether only decoding shows how much there is."""
        return self.lacks_end or (self.stated is not None and self.counted is None)


def find_streams(path: Path) -> list[Stream]:
    """Find the streams of a file by what it holds, whatever it is called.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        source = Source(file)
        start = mp3.skip_tags(source, 0)
        head = source.read(start, 12)
        if head[:4] == b"OggS":
            return _of_ogg(source)
        if head[:4] == _FLAC:
            return _of_flac(source, start)
        if head[:4] in (b"RIFF", b"RIFX") and head[8:] == b"WAVE":
            return [_of_wav(source)]
        if head[:4] in (b"RF64", b"FORM", b".snd", b"caff", b"riff"):
            return [Stream()]
        return _of_mp3(source) or [Stream()]


def _of_ogg(source: Source) -> list[Stream]:
    links = ogg.find_links(source)
    if not all(link.first_packet.startswith(_CODECS) for link in links):
        return [Stream()]
    streams = []
    for link in links:
        pieces, cut = ogg.make_pieces(source, link), ogg.is_cut_off(source, link)
        as_it_is = pieces == [(0, source.size)]
        streams.append(Stream(None if as_it_is else pieces, lacks_end=cut))
    return streams


def _of_flac(source: Source, start: int) -> list[Stream]:
    """Find FLAC streams, also where files were joined; a count that is not sure is taken away."""
    starts, at = [], start
    while (found := source.search(_FLAC_MARK, at)) is not None:
        starts.append(found)
        at = found + 8
    streams = []
    for at, stop in zip(starts, [*starts[1:], source.size][: len(starts)], strict=True):
        # STREAMINFO: rate, channels, bits and total share eight bytes.
        info = int.from_bytes(source.read(at + 18, 8), "big")
        unknown = (info & ~_FLAC_TOTAL).to_bytes(8, "big")
        pieces: list[Piece] = [(at, at + 18), unknown, (at + 26, stop)]
        stated = info & _FLAC_TOTAL or None
        whole = stated is not None and flac.find_end(source, at, stop) == stated
        if whole and (at, stop) == (0, source.size):
            streams.append(Stream(stated=stated, counted=stated))
        else:
            streams.append(Stream(pieces, stated=stated, counted=stated if whole else None))
    return streams or [Stream()]


def _of_wav(source: Source) -> Stream:
    """Look at the size of the samples; that of the file has no bearing on them."""
    order = "big" if source.read(0, 4) == b"RIFX" else "little"
    at = 12
    while len(head := source.read(at, 8)) == 8:
        size = int.from_bytes(head[4:], order)  # type: ignore[arg-type]
        if head[:4] != b"data":
            at += 8 + size + size % 2
            continue
        rest = source.size - at - 8
        if size == 0 and rest and not _are_chunks(source, at + 8, order):
            # The recorder lost power before it wrote the size.
            limit = min(rest, 2**32 - 64)
            total = (at + limit).to_bytes(4, order)  # type: ignore[arg-type]
            told = limit.to_bytes(4, order)  # type: ignore[arg-type]
            return Stream([(0, 4), total, (8, at + 4), told, (at + 8, at + 8 + limit)])
        known = not any(size in sizes for sizes in _UNKNOWN_SIZES)
        return Stream(lacks_end=known and size > rest + _SLACK)
    return Stream()


def _are_chunks(source: Source, at: int, order: str) -> bool:
    """Tell whether chunks of plausible names fill a file from a place on."""
    while len(head := source.read(at, 8)) == 8:
        if not all(32 <= byte < 127 for byte in head[:4]):
            return False
        size = int.from_bytes(head[4:], order)  # type: ignore[arg-type]
        at += 8 + size + size % 2
    return source.size <= at <= source.size + 1


def _of_mp3(source: Source) -> list[Stream]:
    """Count the frames; where a Xing header says another number, say this one.

    Without such a header mpg123 guesses from the size of the file and the first frames, and
    libsndfile decodes no more than that: a file that claims to be longer is decoded to its end.
    """
    streams = []
    for part in mp3.find_parts(source):
        xing = mp3.find_xing(source, part)
        stated = None if xing is None else mp3.stated_frames(source, xing)
        start, stop = part.ranges[0]
        pieces: list[Piece] = list(part.ranges)
        n_frames = part.n_frames - (xing is not None)
        claim = _FAR_LONGER if stated is None else 1
        if xing is not None and stated is None:
            pieces[0] = start + part.header.n_bytes, stop
        elif xing is not None and stated != n_frames:
            counts = mp3.correct_counts(source, xing, part)
            pieces[:1] = [(start, xing + 8), counts, (xing + 8 + len(counts), stop)]
        cut = stated is not None and stated > n_frames + _XING_SLACK
        length = n_frames * part.header.n_samples if stated is None else None
        streams.append(
            Stream(pieces, lacks_end=cut or part.lacking > 0, claim=claim, counted=length)
        )
    return streams
