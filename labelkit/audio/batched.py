"""Spectrograms of many recordings at once, on torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from labelkit.audio import banks
from labelkit.audio.compat import import_torchaudio
from labelkit.audio.features import count_frames, cut_frames, pad_end
from labelkit.audio.spool import InMemory
from labelkit.config import FeatureSpec
from labelkit.errors import InvalidInput
from labelkit.types import Floats

_DTYPE = torch.float64
# A chunk that outgrows the processor's cache is several times slower there.
_CPU_BYTES, _GPU_BYTES = 2**25, 2**29
_FRAME_BYTES = 32  # Of each sample of a window: windowed copy, spectrum, magnitude, power.


@dataclass(frozen=True)
class _Piece:
    """Consecutive frames of one recording."""

    clip: int
    first: int
    n_frames: int


def compute_batch(waves: Sequence[Floats], spec: FeatureSpec, device: str = "cpu") -> list[Floats]:
    """Compute spectrograms of prepared recordings, those of similar length together.

    Each recording's edges are its own, so its frames do not depend on the company it is
    in, and long ones are cut between frames, so memory stays below 1 GB. On real clips the
    result lies within 2e-5 dB of librosa's. That takes float64: in float32 it is up to
    1.3e-3 dB away where energies lie within 80 dB of the clip's highest, and 0.15 dB below.

    Args:
        waves: Mono recordings at ``spec.sample_rate`` as ``features.prepare`` returns
            them, shape ``(n_samples,)`` each.
        spec: Every parameter of the spectrogram.
        device: Where to compute.

    Returns:
        What the function of ``labelkit.audio.features`` called ``spec.kind`` returns for
        each: float32, shape ``(n_frames, n_mels)``.

    Raises:
        InvalidInput: If the spectrogram is a plug-in, which knows no batches.
    """
    if spec.kind not in ("log_mel", "perceptual_mel", "log_filter_bank"):
        raise InvalidInput(f"features: {spec.kind!r} cannot be computed in batches")
    n_frames = [count_frames(len(wave), spec) for wave in waves]
    at_once = _frames_at_once(spec, device)
    pieces = [
        _Piece(clip, first, min(at_once, n - first))
        for clip, n in enumerate(n_frames)
        for first in range(0, n, at_once)
    ]
    frames: list[Floats] = [np.empty((n, spec.n_mels), np.float32) for n in n_frames]
    peaks: dict[int, torch.Tensor] = {}
    if spec.kind == "perceptual_mel" and spec.top_db is not None:
        parts = [piece for piece in pieces if piece.n_frames < n_frames[piece.clip]]
        for piece, power in _transform(waves, parts, spec, device):
            peak = power.amax()
            peaks[piece.clip] = torch.maximum(peak, peaks.get(piece.clip, peak))
    weigh = _Weighing(spec, device)
    for piece, spectrum in _transform(waves, pieces, spec, device):
        bands = weigh(spectrum, peaks.get(piece.clip))
        stop = piece.first + piece.n_frames
        frames[piece.clip][piece.first : stop] = bands.T.to("cpu", torch.float32).numpy()
    if spec.kind == "log_mel" and spec.top_db is not None:
        frames = [np.maximum(clip, clip.max() - np.float32(spec.top_db)) for clip in frames]
    return frames


class _Weighing:
    """From magnitudes or powers of frequencies to the bands of a spectrogram."""

    def __init__(self, spec: FeatureSpec, device: str) -> None:
        bank = banks.log_bank(spec) if spec.kind == "log_filter_bank" else banks.mel_bank(spec)
        self.spec = spec
        self.bank = torch.tensor(bank, dtype=_DTYPE, device=device)
        self.a_weighting = torch.tensor(banks.a_weighting(spec), dtype=_DTYPE, device=device)

    def __call__(self, spectrum: torch.Tensor, peak: torch.Tensor | None) -> torch.Tensor:
        """Compute the bands of some frames.

        Args:
            spectrum: Shape ``(n_fft // 2 + 1, n_frames)``.
            peak: Highest power of the recording; None if all of it is here.
        """
        if self.spec.kind == "log_filter_bank":
            return torch.log10(1 + self.bank @ spectrum)
        if self.spec.kind == "log_mel":
            return _decibels(self.bank @ spectrum, 10 ** (self.spec.floor_db / 10))
        decibels = _decibels(spectrum, 1e-10)
        if self.spec.top_db is not None:
            highest = _decibels(spectrum.amax() if peak is None else peak, 1e-10)
            decibels = torch.maximum(decibels, highest - self.spec.top_db)
        return self.bank @ (decibels + self.a_weighting[:, None])


def _decibels(power: torch.Tensor, floor: float) -> torch.Tensor:
    return 10 * torch.log10(power.clamp(min=floor))


def _transform(
    waves: Sequence[Floats], pieces: Sequence[_Piece], spec: FeatureSpec, device: str
) -> Iterator[tuple[_Piece, torch.Tensor]]:
    """Yield magnitudes or powers of each piece, the short ones first."""
    spectrogram = import_torchaudio().functional.spectrogram
    magnitude = spec.kind == "log_filter_bank"
    window = torch.hann_window(spec.n_fft, periodic=not magnitude, dtype=_DTYPE, device=device)
    for group in _group(pieces, spec, device):
        cuts = [
            cut_frames(InMemory(waves[piece.clip]), piece.first, piece.n_frames, spec)
            for piece in group
        ]
        longest = max(map(len, cuts))
        samples = np.stack([pad_end(cut, longest) for cut in cuts])
        spectra = spectrogram(
            torch.as_tensor(samples, dtype=_DTYPE, device=device),
            pad=0,
            window=window,
            n_fft=spec.n_fft,
            hop_length=spec.hop_length,
            win_length=spec.n_fft,
            power=1.0 if magnitude else 2.0,
            normalized=False,
            center=False,
        )
        for piece, spectrum in zip(group, spectra, strict=True):
            yield piece, spectrum[:, : piece.n_frames]


def _group(pieces: Sequence[_Piece], spec: FeatureSpec, device: str) -> Iterator[list[_Piece]]:
    group: list[_Piece] = []
    for piece in sorted(pieces, key=lambda piece: piece.n_frames):
        if (len(group) + 1) * piece.n_frames > _frames_at_once(spec, device) and group:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _frames_at_once(spec: FeatureSpec, device: str) -> int:
    chunk = _CPU_BYTES if device == "cpu" else _GPU_BYTES
    return max(1, chunk // (_FRAME_BYTES * spec.n_fft))
