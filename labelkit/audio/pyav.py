"""What libsndfile does not decode, by PyAV (FFmpeg's decoders), an extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from labelkit.audio.mp3 import skip_tags
from labelkit.audio.source import Pieced, Source
from labelkit.errors import InvalidInput
from labelkit.types import Floats

EXTENSIONS = (
    ".m4a", ".m4b", ".m4r", ".mp4", ".mov", ".aac", ".adts", ".webm", ".weba", ".mka", ".mkv",
    ".wma", ".asf", ".amr", ".3gp", ".3g2", ".ac3", ".eac3", ".wv", ".tta", ".spx",
)  # fmt: skip

# FFmpeg finds something in any bytes; only files that say what they are are given to it.
_MARKS = {
    (0, b"OggS"): "Ogg", (0, b"fLaC"): "FLAC", (0, b"RIFF"): "WAV", (0, b"FORM"): "AIFF",
    (0, b"caff"): "CAF", (4, b"ftyp"): "MPEG-4", (0, b"\x1a\x45\xdf\xa3"): "Matroska or WebM",
    (0, b"\x30\x26\xb2\x75"): "ASF", (0, b"#!AMR"): "AMR", (0, b"\x0b\x77"): "AC-3",
    (0, b"RF64"): "RF64", (0, b"BW64"): "BW64", (0, b"\0\0\1\xba"): "MPEG", (0, b"FLV\1"): "FLV",
    (0, b"wvpk"): "WavPack", (0, b"TTA1"): "TTA", (0, b"MAC "): "APE", (0, b"Creative Voi"): "VOC",
    (0, b"\x7f\xfe\x80\x01"): "DTS",
    (0, b"\xff\xf1"): "AAC", (0, b"\xff\xf9"): "AAC", (0, b"riff"): "Wave64", (0, b".snd"): "AU",
}  # fmt: skip
_LOSSLESS = ("alac", "flac", "wavpack", "tta", "ape")
# Containers that know how long they are; what others say is guessed from a bit rate.
_STATING = {"mov", "mp4", "matroska", "webm", "asf"}
_SLACK_S = 0.2


def is_there() -> bool:
    """Tell whether PyAV is installed."""
    return find_spec("av") is not None


def find_kind(path: Path) -> str | None:
    """Name the kind of a file by its first bytes; None if it is none that PyAV is given."""
    with path.open("rb", buffering=0) as file:
        source = Source(file)
        head = source.read(skip_tags(source, 0), 16)
    return next((kind for (at, mark), kind in _MARKS.items() if head[at:].startswith(mark)), None)


class Sound(NamedTuple):
    """Rate in Hz, channels and kind of numbers of a recording."""

    rate: int
    channels: int
    holds_floats: bool
    is_lossy: bool


class NoDecoder(InvalidInput):
    """A recording that PyAV could decode, perhaps, which is not installed."""


def look(path: Path, why: InvalidInput) -> Sound:
    """Look at a recording that libsndfile refused.

    Args:
        path: The file.
        why: What is raised if PyAV is of no use, either.

    Raises:
        InvalidInput: If it cannot be decoded.
        NoDecoder: If PyAV is not there to try.
        OSError: If it cannot be read.
    """
    kind = find_kind(path)
    if kind is None:
        raise why
    if not is_there():
        raise NoDecoder(
            f"{path}: libsndfile cannot decode this {kind}; PyAV may: pip install av, or convert "
            "it, with ffmpeg say"
        ) from why
    with _open(path) as (_, stream):
        coder = stream.codec_context
        lossless = coder.name.startswith(("pcm_", *_LOSSLESS))
        floats = coder.name.startswith(("pcm_f32", "pcm_f64"))
        return Sound(int(coder.sample_rate), int(coder.channels), floats, not lossless)


def decode(path: Path, rate: int, channels: int) -> Iterator[Floats | None]:
    """Yield float32 samples as they are decoded, shape ``(n, n_channels)``.

    None stands for a part that is damaged or missing.

    Args:
        path: The file.
        rate: Wanted rate in Hz; frames of others are brought to it.
        channels: Wanted, in the same way.

    Raises:
        InvalidInput: If it cannot be opened.
        OSError: If it cannot be read.
    """
    import av

    with _open(path) as (container, stream):
        layout, form, end_s = stream.codec_context.layout, None, 0.0
        resampler: Any = None
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    yield None
                    continue
                for frame in frames:
                    if frame.time is not None:
                        end_s = max(end_s, frame.time + frame.samples / frame.sample_rate)
                    frame.pts = None
                    found = frame.format.name, frame.layout.name, frame.sample_rate
                    if found != form:
                        # Where parts of several kinds were joined, no resampler takes them all.
                        yield from _rest(resampler, channels)
                        resampler = av.AudioResampler("flt", layout, rate)
                        form = found
                    for block in resampler.resample(frame):
                        yield _samples(block, channels)
        except av.error.FFmpegError:
            yield None
        yield from _rest(resampler, channels)
        length_s = (container.duration or 0) / av.time_base
        states = set(container.format.name.split(",")) & _STATING
        # A film may go on without sound.
        if states and len(container.streams) == 1 and end_s < length_s - _SLACK_S:
            yield None


def _rest(resampler: Any, channels: int) -> Iterator[Floats]:
    """Yield what a resampler still holds."""
    if resampler is not None:
        yield from (_samples(block, channels) for block in resampler.resample(None))


def _samples(block: Any, channels: int) -> Floats:
    samples: Floats = block.to_ndarray().reshape(-1, channels)
    return samples


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        import av
    except ImportError as error:
        raise NoDecoder(
            f"{path}: PyAV is installed and does not work ({error}); install it anew: "
            "pip install --force-reinstall av"
        ) from error
    # FFmpeg goes to any place that a size points to, and takes what a disk says for an end.
    with Pieced(path.open("rb"), [(0, path.stat().st_size)]) as file:
        try:
            with av.open(file, mode="r", metadata_errors="replace") as container:
                if not container.streams.audio:
                    raise InvalidInput(f"{path}: holds no sound")
                if container.streams.audio[0].codec_context is None:
                    raise InvalidInput(f"{path}: FFmpeg knows no decoder for its sound")
                yield container, container.streams.audio[0]
        except av.error.FFmpegError as error:
            if file.error is None:
                raise InvalidInput(f"{path}: FFmpeg says: {error.strerror}") from error
        if file.error is not None:
            raise file.error
