"""What libsndfile does not decode, by PyAV (FFmpeg's decoders), an extra."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from labelkit.errors import InvalidInput
from labelkit.types import Floats

EXTENSIONS = (".m4a", ".mp4", ".aac", ".webm", ".mka", ".mkv", ".wma", ".amr", ".3gp", ".ac3")

# FFmpeg finds something in any bytes; only files that say what they are are given to it.
_MARKS = {
    (0, b"OggS"): "Ogg", (0, b"fLaC"): "FLAC", (0, b"RIFF"): "WAV", (0, b"FORM"): "AIFF",
    (0, b"caff"): "CAF", (4, b"ftyp"): "MPEG-4", (0, b"\x1a\x45\xdf\xa3"): "Matroska or WebM",
    (0, b"\x30\x26\xb2\x75"): "ASF", (0, b"#!AMR"): "AMR", (0, b"\x0b\x77"): "AC-3",
    (0, b"\xff\xf1"): "AAC", (0, b"\xff\xf9"): "AAC", (0, b"riff"): "Wave64", (0, b".snd"): "AU",
}  # fmt: skip
_MAX_CHANNELS = 64


def is_there() -> bool:
    """Tell whether PyAV is installed."""
    return find_spec("av") is not None


def find_kind(path: Path) -> str | None:
    """Name the kind of a file by its first bytes; None if it is none that PyAV is given."""
    with path.open("rb") as file:
        head = file.read(16)
        if head[:3] == b"ID3" and len(head) >= 10:
            size = 0
            for byte in head[6:10]:
                size = size << 7 | byte & 0x7F
            file.seek(10 + size)
            head = file.read(16)
    return next((kind for (at, mark), kind in _MARKS.items() if head[at:].startswith(mark)), None)


def look(path: Path, why: InvalidInput) -> tuple[int, int]:
    """Return rate in Hz and channels of a recording that libsndfile refused.

    Args:
        path: The file.
        why: What is raised if PyAV is of no use, either.

    Raises:
        InvalidInput: If it cannot be decoded.
        OSError: If it cannot be read.
    """
    kind = find_kind(path)
    if kind is None:
        raise why
    if not is_there():
        raise InvalidInput(
            f"{path}: libsndfile cannot decode this {kind}; PyAV may: pip install av, or convert "
            "it, with ffmpeg say"
        ) from why
    with _open(path) as (_, stream):
        return int(stream.codec_context.sample_rate), int(stream.codec_context.channels)


def decode(path: Path, rate: int, note: Callable[[], None]) -> Iterator[Floats]:
    """Yield float32 samples as they are decoded, shape ``(n, n_channels)``.

    Args:
        path: The file.
        rate: Wanted rate in Hz, that of its first frames.
        note: Called for each part that is damaged.

    Raises:
        InvalidInput: If it cannot be opened.
        OSError: If it cannot be read.
    """
    import av

    with _open(path) as (container, stream):
        resampler = av.AudioResampler(format="flt", layout=stream.codec_context.layout, rate=rate)
        channels = stream.codec_context.channels
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    note()
                    continue
                for frame in frames:
                    frame.pts = None
                    for block in resampler.resample(frame):
                        yield _samples(block, channels)
        except av.error.FFmpegError:
            note()
        for block in resampler.resample(None):
            yield _samples(block, channels)


def _samples(block: Any, channels: int) -> Floats:
    samples: Floats = block.to_ndarray().reshape(-1, channels)
    return samples


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    import av

    with path.open("rb") as file:
        try:
            with av.open(file, mode="r", metadata_errors="replace") as container:
                if not container.streams.audio:
                    raise InvalidInput(f"{path}: holds no sound")
                yield container, container.streams.audio[0]
        except av.error.FFmpegError as error:
            raise InvalidInput(f"{path}: cannot be decoded ({error.strerror})") from error
