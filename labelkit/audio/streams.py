"""What of a file is sound: its streams, made so that libsndfile decodes all of them.

What a header says of the length is what somebody knew before the end was written, or what was
true of another file; so the parts of a file are counted where that can be done without
decoding, and the rest is decoded until nothing comes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from labelkit.audio import flac, mp3, ogg
from labelkit.audio.chunks import find_sounds
from labelkit.audio.source import Piece, Source

_CODECS = (b"\x01vorbis", ogg.OPUS)
_FLAC, _FLAC_MARK = b"fLaC", re.compile(rb"fLaC\0\0\0\x22")
_FLAC_TOTAL = 2**36 - 1
# A film, in which an mp3 could be seen that is none.
_MPEG = b"\0\0\1\xba"
_CHUNKS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b".snd", b"caff", b"riff")
# Frames by which the count of a Xing header may be off, the header's own say.
_XING_SLACK = 2
# Between the lowest and the highest bit rate lies a factor of 40.
_FAR_LONGER = 100


class Stream(NamedTuple):
    """Sound of one rate; ``pieces`` are None where the file can be decoded as it is.

    Args:
        pieces: What libsndfile is to be given instead.
        stated: Samples per channel that must be there by the header; None if it does not say.
        lacks: Whether bytes of it are missing or damaged.
        claim: How many times as long the decoder shall believe it to be.
        counted: Samples per channel that there are, where the decoder could only guess.
        frames: Where those of a FLAC stream are, to go on behind a damaged one.
    """

    pieces: Sequence[Piece] | None = None
    stated: int | None = None
    lacks: bool = False
    claim: int = 1
    counted: int | None = None
    frames: flac.Frames | None = None

    @property
    def is_uncertain(self) -> bool:
        """Tell whether only decoding shows how much there is."""
        return self.lacks or (self.stated is not None and self.counted is None)


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
        if head[:4] in _CHUNKS:
            return [Stream(sound.pieces, lacks=sound.lacks) for sound in find_sounds(source, start)]
        if head[:4] == _MPEG:
            return [Stream()]
        return _of_mp3(source) or [Stream()]


def _of_ogg(source: Source) -> list[Stream]:
    links = ogg.find_links(source)
    if not all(link.first_packet.startswith(_CODECS) for link in links):
        return [Stream(lacks=any(link.damaged for link in links))]
    streams = []
    for link in links:
        pieces, lacks = ogg.make_pieces(source, link), link.damaged
        as_it_is = pieces == [(0, source.size)]
        streams.append(Stream(None if as_it_is else pieces, lacks=lacks))
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
        stated = info & _FLAC_TOTAL
        length = None if stated in (0, _FLAC_TOTAL) else stated
        frames = flac.find_frames(source, at, stop)
        end = flac.find_end(source, at, stop)
        if frames.base and end is not None:
            # Cut out without being decoded: the total is that of the whole.
            length = end - frames.base
        whole = length is not None and end is not None and end - frames.base == length
        as_it_is = whole and not frames.base and (at, stop) == (0, source.size)
        streams.append(
            Stream(
                None if as_it_is else pieces,
                stated=length,
                counted=length if whole else None,
                frames=frames,
            )
        )
    return streams or [Stream()]


def resume(path: Path, stream: Stream, done: int) -> tuple[Stream, int] | None:
    """Make a stream of what follows behind damage, where that can be found.

    Args:
        path: The file.
        stream: The one that could not be decoded further.
        done: Samples per channel that were.

    Returns:
        What follows, and its first sample as the stream counts them; None if nothing does.
    """
    if stream.frames is None:
        return None
    with path.open("rb", buffering=0) as file:
        source = Source(file)
        found = flac.find_next(source, stream.frames, done)
        if found is None:
            return None
        at, first = found
        mark = stream.frames.mark
        info = int.from_bytes(source.read(mark + 18, 8), "big") & ~_FLAC_TOTAL
    pieces: list[Piece] = [
        (mark, mark + 18),
        info.to_bytes(8, "big"),
        (mark + 26, stream.frames.begin),
    ]
    pieces.append((at, stream.frames.stop))
    return stream._replace(pieces=pieces, frames=stream.frames._replace(start=at)), first


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
        streams.append(Stream(pieces, lacks=cut or part.lacks, claim=claim, counted=length))
    return streams
