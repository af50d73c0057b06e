"""Decode, mix down, resample and trim recordings. Nothing here writes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelkit.audio import pyav
from labelkit.audio.quiet import quietly
from labelkit.audio.source import Pieced
from labelkit.audio.spool import InMemory, Samples, chunks
from labelkit.audio.streams import Stream, find_streams, resume
from labelkit.errors import InvalidInput
from labelkit.types import Floats

if TYPE_CHECKING:
    import soundfile

# What libsndfile decodes, and what PyAV does beyond.
EXTENSIONS = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64", ".mp2", ".mpga", ".wave", ".bwf", ".aff", ".voc", ".sph", ".nist",
    *pyav.EXTENSIONS,
)  # fmt: skip

# Samples per channel that are handed on at once, fewer of many channels; and decoded.
_BLOCK, _STEP = 2**16, 2**12
_HASHED = 2**16  # Bytes at once.
# What a decoder may fail at before it is given up.
_FAILURES = 100
_LOSSY = ("VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III")
_SYSTEM_ERROR = 2  # libsndfile's code.
# More than a year of sound: a length that nobody knows.
_PLAUSIBLE_SAMPLES = 2**41
# Recordings at other rates are nothing that a microphone brings.
RATES_HZ = (1_000, 1_536_000)
TRIM_FRAME, _TRIM_HOP = 2048, 512  # librosa's.


def hash_file(path: Path) -> str:
    """Hash a file's bytes: the identity of a recording whatever it is called."""
    found = hashlib.blake2b(digest_size=16)
    with path.open("rb", buffering=0) as file:
        # hashlib.file_digest makes a buffer of 256 kB for each file, however small.
        while block := file.read(_HASHED):
            found.update(block)
    return found.hexdigest()


class Recording:
    """A recording that is decoded from its first sample to its last, whatever its header says.

    Args:
        path: wav, flac, ogg, mp3 or anything else libsndfile reads, or PyAV if it is there.

    Attributes:
        rate: Of its samples, in Hz; where streams of several rates were joined, of the first.
        channels: In the same way.
        n_samples: Decoded so far, per channel.
        holds_floats: Whether its numbers may exceed full scale, as those of lossy codecs may not.
        is_lossy: Whether its coder leaves out what is not heard.
        lacks: Whether something is missing of it, known once all blocks are read.

    Raises:
        InvalidInput: If it cannot be decoded at all.
        OSError: If it cannot be read, which says nothing of what it holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_samples, self.lacks = 0, False
        with _as_fault(path):
            self._streams = find_streams(path)
            self._first: soundfile.SoundFile | None = None
            try:
                self._first = first = _open(path, self._streams[0])
                self.rate, self.channels = first.samplerate, first.channels
                self._n_first: int = first.frames
                self.holds_floats = first.subtype in ("FLOAT", "DOUBLE")
                self.is_lossy = first.subtype in _LOSSY
                # How long an mp3 within a WAV is nobody knows.
                self._is_counted = not self.is_lossy or first.format in ("OGG", "MPEG", "MP3")
                self._foreign = False
            except InvalidInput as error:
                sound = pyav.look(path, error)
                self.rate, self.channels = sound.rate, sound.channels
                self.holds_floats, self.is_lossy = sound.holds_floats, sound.is_lossy
                self._foreign = True
        if not self.rate > 0 or not self.channels > 0:
            raise InvalidInput(f"{path}: its header says {self.rate} Hz, {self.channels} channels")

    def blocks(self) -> Iterator[Floats]:
        """Yield float32 samples as they are decoded, shape ``(n, n_channels)``.

        Full scale is 1, which files of floats may go beyond.
        """
        self.n_samples, self.lacks = 0, self._foreign and self._streams[0].lacks
        with _as_fault(self.path):
            for block in self._decode_foreign() if self._foreign else self._decode():
                # A resampler may have nothing ready yet.
                if len(block):
                    self.n_samples += len(block)
                    yield block

    def _decode_foreign(self) -> Iterator[Floats]:
        for block in pyav.decode(self.path, self.rate, self.channels):
            if block is None:
                self.lacks = True
            else:
                yield block

    def _decode(self) -> Iterator[Floats]:
        for number, stream in enumerate(self._streams):
            opened, self._first = self._first, None
            try:
                with opened or _open(self.path, stream) as file:
                    yield from self._match(self._read_on(file, stream), file.samplerate)
            except InvalidInput:
                if not number:
                    raise
                self.lacks = True

    def _read_on(self, file: soundfile.SoundFile, stream: Stream) -> Iterator[Floats]:
        """Decode a stream, also behind damage: what is lost there is silence."""
        done = 0
        for block in self._read(file, stream.counted):
            done += len(block)
            yield block
        expected = max(stream.stated or 0, stream.counted or 0)
        while (self._failed or done < expected) and (found := resume(self.path, stream, done)):
            self.lacks = True
            stream, first = found
            while done < first:
                n = min(_STEP, first - done)
                yield np.zeros((n, file.channels), np.float32)
                done += n
            try:
                rest = _open(self.path, stream)
            except InvalidInput:
                break
            with rest:
                for block in self._read(rest, None):
                    done += len(block)
                    yield block
        self.lacks |= self._failed or stream.lacks or expected > done

    def _read(self, file: soundfile.SoundFile, counted: int | None) -> Iterator[Floats]:
        """Decode in small steps, so that damage costs no more than one of them and what it hit."""
        import soundfile

        left, failed = counted if counted is not None else _PLAUSIBLE_SAMPLES, 0
        self._failed = False
        size = max(_STEP, _BLOCK * 2 // max(2, file.channels))
        while True:
            block, n = np.empty((size, file.channels), np.float32), 0
            while n < size and left:
                try:
                    with quietly():
                        step = len(file.read(out=block[n : n + min(_STEP, left)]))
                except soundfile.LibsndfileError as error:
                    if error.code == _SYSTEM_ERROR:
                        raise OSError(f"{self.path}: {_words(error)}") from error
                    self._failed, failed = True, failed + 1
                    # A decoder finds the next whole frame, ends, or fails for ever.
                    if failed > _FAILURES:
                        break
                    continue
                if not step:
                    break
                n, left = n + step, left - step
            if isinstance(file.name, Pieced) and file.name.error:
                raise file.name.error
            if n:
                yield block[:n]
            if n < size:
                return

    def count(self) -> int:
        """Count the samples per channel that there are, without decoding where that can be.

        Raises:
            InvalidInput: If it cannot be decoded.
            OSError: If it cannot be read.
        """
        if (
            self._foreign
            or not self._is_counted
            or any(stream.is_uncertain for stream in self._streams)
        ):
            return sum(map(len, self.blocks()))
        total: float = self._streams[0].counted or self._n_first
        try:
            for stream in self._streams[1:]:
                with _open(self.path, stream) as file:
                    n = file.frames if stream.counted is None else stream.counted
                    total += n * self.rate / file.samplerate
        except InvalidInput:
            return sum(map(len, self.blocks()))
        if total > _PLAUSIBLE_SAMPLES:
            return sum(map(len, self.blocks()))
        return round(total)

    def _match(self, blocks: Iterator[Floats], rate: int) -> Iterator[Floats]:
        """Bring a later stream to rate and channels of the first."""
        change = Resampler(rate, self.rate, self.channels) if rate != self.rate else None
        for block in blocks:
            if block.shape[1] != self.channels:
                block = np.repeat(block.mean(axis=1, keepdims=True), self.channels, axis=1)
            yield block if change is None else change(block).reshape(-1, self.channels)
        if change is not None:
            yield change.end().reshape(-1, self.channels)


class Resampler:
    """Brings blocks of a recording from one rate to another, by soxr at high quality.

    Args:
        rate: Of what comes in, in Hz.
        target_rate: Of what is wanted.
        channels: How many; of one flat arrays come out.
    """

    def __init__(self, rate: int, target_rate: int, channels: int = 1) -> None:
        import soxr

        self._channels = channels
        self._stream = soxr.ResampleStream(rate, target_rate, channels, dtype="float32")

    def __call__(self, block: Floats) -> Floats:
        """Return the samples that are done, which may be none."""
        block = block.ravel() if self._channels == 1 else np.ascontiguousarray(block)
        done: Floats = self._stream.resample_chunk(block.astype(np.float32, copy=False))
        return done

    def end(self) -> Floats:
        """Return the samples that are left."""
        shape = 0 if self._channels == 1 else (0, self._channels)
        done: Floats = self._stream.resample_chunk(np.zeros(shape, np.float32), last=True)
        return done


@contextmanager
def _as_fault(path: Path) -> Iterator[None]:
    """Make a fault of the file of whatever a decoder raises."""
    try:
        yield
    except (OSError, InvalidInput, MemoryError):
        raise
    except Exception as error:
        why = str(error) or type(error).__name__
        raise InvalidInput(f"{path}: its decoder failed: {why}") from error


def _open(path: Path, stream: Stream) -> soundfile.SoundFile:
    """Open a stream for reading on and on.

    Raises:
        InvalidInput: If libsndfile cannot decode it.
    """
    import soundfile

    # Never the name: libsndfile makes up its mind by the ending, too.
    source: Pieced | int
    if stream.pieces is None:
        source = os.open(path, os.O_RDONLY)
    else:
        source = Pieced(path.open("rb"), stream.pieces, stream.claim)
    try:
        with quietly():
            return _endless(soundfile)(source)
    except soundfile.LibsndfileError as error:
        if isinstance(source, Pieced):
            source.close()
            if source.error:
                raise source.error from error
        if error.code == _SYSTEM_ERROR:
            raise OSError(f"{path}: {_words(error)}") from error
        raise InvalidInput(f"{path}: libsndfile says: {_words(error)}") from error


@cache
def _endless(soundfile: Any) -> Any:
    """Make the class of files that are read to their end and never asked for a place."""

    class Endless(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            # The places of a FLAC of unknown length cannot be told.
            return False

        def close(self) -> None:
            super().close()
            if isinstance(self.name, Pieced):
                self.name.close()

    return Endless


def _words(error: Exception) -> str:
    """Say what libsndfile did not like."""
    return str(getattr(error, "error_string", "") or error).strip(" .") or type(error).__name__


def read_audio(path: Path) -> tuple[Floats, int]:
    """Decode a whole file.

    A file cut off in the middle yields what can be decoded of it.

    Args:
        path: wav, flac, ogg, mp3 or anything else :class:`Recording` reads.

    Returns:
        Samples, float32, full scale 1, shape ``(n_samples, n_channels)``, and the rate in Hz;
        what is no number is 0.

    Raises:
        InvalidInput: If the file is missing or cannot be decoded.
        OSError: If it cannot be read.
    """
    if not path.exists():
        raise InvalidInput(f"{path}: no such file")
    recording = Recording(path)
    blocks = [np.zeros((0, recording.channels), np.float32), *recording.blocks()]
    return np.nan_to_num(np.concatenate(blocks), posinf=1.0, neginf=-1.0), recording.rate


def duration_s(path: Path) -> float | None:
    """Return the length that will be decoded, in seconds; None if nothing can be.

    What can be counted is; the rest is decoded.

    Raises:
        OSError: If it cannot be read.
    """
    try:
        recording = Recording(path)
        n_samples = recording.count()
    except InvalidInput:
        return None
    seconds: float = n_samples / recording.rate
    return seconds


def to_mono(samples: Floats, rate: int, target_rate: int) -> Floats:
    """Average the channels, at another rate.

    Args:
        samples: Shape ``(n_samples, n_channels)``.
        rate: Their rate in Hz.
        target_rate: Wanted rate in Hz.

    Returns:
        Float32 samples, shape ``(n_samples * target_rate / rate,)``.
    """
    import soxr

    mono: Floats = samples.mean(axis=1)
    if rate != target_rate:
        mono = soxr.resample(mono, rate, target_rate)
    return mono


def mix_down(blocks: Iterable[Floats], rate: int, target_rate: int) -> Iterator[Floats]:
    """Average the channels of blocks, at another rate, as :func:`to_mono` does of a whole."""
    change = None if rate == target_rate else Resampler(rate, target_rate)
    for block in blocks:
        with np.errstate(over="ignore"):
            mono: Floats = block.mean(axis=1)
        yield mono if change is None else change(mono)
    if change is not None:
        yield change.end()


def find_sound(samples: Floats | Samples, top_db: float) -> tuple[int, int]:
    """Find first and last (exclusive) sample between edges ``top_db`` below peak; 0 cuts none.

    As :func:`librosa.effects.trim` does: by the root mean square of frames of 2,048 samples,
    every 512, the edges padded with zeros.
    """
    if not top_db or not len(samples):
        return 0, len(samples)
    source = InMemory(samples) if isinstance(samples, np.ndarray) else samples
    n = len(source)
    cells = np.concatenate([_cell_energies(chunk) for chunk in chunks(source)])
    # A frame reaches from two cells before its middle to two behind it.
    sums = np.concatenate([np.zeros(3), np.cumsum(np.concatenate([cells, np.zeros(2)]))])
    energies = (sums[4:] - sums[:-4])[: 1 + n // _TRIM_HOP] / TRIM_FRAME
    levels = 10 * np.log10(np.maximum(1e-10, energies))
    loud = np.flatnonzero(levels - levels.max() > -top_db)
    return int(loud[0]) * _TRIM_HOP, min(n, (int(loud[-1]) + 1) * _TRIM_HOP)


def _cell_energies(samples: Floats) -> Floats:
    """Return the energy of each 512 samples, the last ones filled with zeros."""
    n = -(-len(samples) // _TRIM_HOP)
    filled = np.zeros(n * _TRIM_HOP)
    filled[: len(samples)] = samples
    cells = filled.reshape(n, _TRIM_HOP)
    found: Floats = np.einsum("ij,ij->i", cells, cells)
    return found
