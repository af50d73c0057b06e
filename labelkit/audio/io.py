"""Decode, mix down, resample and trim recordings. Nothing here writes."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np

from labelkit.audio import ogg
from labelkit.errors import InvalidInput
from labelkit.types import Floats

EXTENSIONS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")


def hash_file(path: Path) -> str:
    """Hash a file's bytes: the identity of a recording whatever it is called."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def read_audio(path: Path) -> tuple[Floats, int]:
    """Decode a whole file.

    A file cut off in the middle yields what can be decoded of it.

    Args:
        path: wav, flac, ogg, mp3 or anything else libsndfile reads.

    Returns:
        Samples in [-1, 1], float32, shape ``(n_samples, n_channels)``, and the rate in Hz.

    Raises:
        InvalidInput: If the file is missing or cannot be decoded.
    """
    import soundfile

    try:
        try:
            samples, rate = soundfile.read(_source(path), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            samples, rate = _read_what_is_left(path)
    except soundfile.LibsndfileError as error:
        if not path.exists():
            raise InvalidInput(f"{path}: no such file") from error
        raise InvalidInput(f"{path}: not a readable recording ({error.error_string})") from error
    return np.nan_to_num(samples, posinf=1.0, neginf=-1.0), rate


def _source(path: Path) -> Path | BytesIO:
    """Return the file, or what can be saved of an Ogg stream that was cut off."""
    if not is_cut_off_ogg(path):
        return path
    return BytesIO(ogg.mend(path.read_bytes()))


def is_cut_off_ogg(path: Path) -> bool:
    """Tell whether a file is an Ogg stream without its end."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"OggS":
                return False
            file.seek(max(0, path.stat().st_size - 65_536))
            return ogg.is_cut_off(file.read())
    except OSError:
        return False


def _read_what_is_left(path: Path) -> tuple[Floats, int]:
    """Decode in small steps up to the first one that fails, which must not be the first."""
    import soundfile

    blocks: list[Floats] = []
    with soundfile.SoundFile(path) as file:
        try:
            while len(block := file.read(1024, dtype="float32", always_2d=True)):
                blocks.append(block)
        except soundfile.LibsndfileError:
            if not blocks:
                raise
        nothing = np.zeros((0, file.channels), np.float32)
        return np.concatenate([nothing, *blocks]), file.samplerate


def duration_s(path: Path) -> float | None:
    """Return the length that a file's header states, in seconds; None without a readable one."""
    import soundfile

    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError:
        return None
    seconds: float = info.frames / info.samplerate
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


def find_sound(samples: Floats, top_db: float) -> tuple[int, int]:
    """Find first and last (exclusive) sample between edges ``top_db`` below peak; 0 cuts none."""
    import librosa

    if not top_db or not len(samples):
        return 0, len(samples)
    start, stop = librosa.effects.trim(samples, top_db=top_db)[1]
    return int(start), int(stop)
