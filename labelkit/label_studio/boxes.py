"""Containers that libsndfile does not read: whether they hold a sound and no pictures.

A file is known by what its structure says, as far as that goes without decoding: MP4 by its
boxes (ISO/IEC 14496-12), Matroska and WebM by their header and tracks (RFC 9559).
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_EBML = b"\x1a\x45\xdf\xa3"
# Tables of an hour's sound take less; the tracks of Matroska stand near the beginning.
_MOST_TABLES, _BEGINNING = 2**26, 2**18


def holds_sound_alone(path: Path) -> bool:
    """Tell whether a file is an MP4, Matroska or WebM file with a track of sound and none of video.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == _EBML:
            text = head + file.read(_BEGINNING)
            named = b"webm" in text[:64] or b"matroska" in text[:64]
            return named and b"A_" in text and b"V_" not in text
        tables = _find_box(file, path.stat().st_size) if head[4:8] == b"ftyp" else b""
        return b"soun" in tables and b"vide" not in tables


def _find_box(file: BinaryIO, size: int) -> bytes:
    """Return the box of tables, ``moov``; empty unless boxes follow each other up to it."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:  # Its size follows, in eight bytes.
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:  # It reaches to the end.
            length = size - at
        if length < 8 or at + length > size:
            return b""
        if kind == b"moov":
            file.seek(at)
            return file.read(min(length, _MOST_TABLES))
        at += length
    return b""
