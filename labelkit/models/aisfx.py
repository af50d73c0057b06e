"""The network of Ma and Lerch (ISMIR 2022), for the weights that :mod:`labelkit.audio.aisfx` reads.

Four blocks of two 3 x 3 convolutions, each with batch normalisation and ReLU, 64 to 512 channels;
the first three end with 2 x 2 maximum pooling. The mean over the bands and the maximum over time
are 512 numbers.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from labelkit.audio import aisfx
from labelkit.audio.embedding import Embedder
from labelkit.errors import InvalidInput
from labelkit.types import Floats

# Blocks that go through the network together: their maps shall stay in the processor's cache.
_AT_ONCE = 4
_N_BLOCKS, _N_POOLED = 4, 3
_EPS = 1e-5


class Encoder(nn.Module):
    """The convolutions, from the tensors of a checkpoint; the classifiers behind them stay there.

    Args:
        tensors: By their names in the checkpoint, those of ``embedding_net`` at least.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block in range(1, _N_BLOCKS + 1):
            for number in (1, 2):
                layers += [_make_conv(tensors, block, number), nn.ReLU(inplace=True)]
            if block <= _N_POOLED:
                layers.append(nn.MaxPool2d(2))
        self.body = nn.Sequential(*layers)
        self.requires_grad_(False).eval()

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, n_frames, n_mels)``, at least 8 of both, to ``(batch, 512)``."""
        maps = frames[:, None].contiguous(memory_format=torch.channels_last)
        found: torch.Tensor = self.body(maps).mean(dim=3).amax(dim=2)
        return found


def _make_conv(tensors: Mapping[str, torch.Tensor], block: int, number: int) -> nn.Conv2d:
    """Make a convolution with the batch normalisation behind it, whose statistics stand."""
    at = f"embedding_net.conv_block{block}"
    kernel, norm = f"{at}.conv{number}.weight", f"{at}.bn{number}"
    weight, bias = fuse_conv_bn_weights(
        tensors[kernel],
        None,
        tensors[f"{norm}.running_mean"],
        tensors[f"{norm}.running_var"],
        _EPS,
        tensors[f"{norm}.weight"],
        tensors[f"{norm}.bias"],
    )
    made = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    made.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
    made.bias = bias
    return made


def read_tensors(checkpoint: bytes) -> Mapping[str, torch.Tensor]:
    """Read the tensors of a checkpoint; nothing in it is run.

    Args:
        checkpoint: A file of tensors by name, beside what else was saved with them.

    Raises:
        InvalidInput: If it is none.
    """
    from numpy._core.multiarray import scalar

    # Beside the tensors lie sizes of data sets, as numbers of numpy's, under their name of then.
    numbers: list[Any] = [
        (scalar, "numpy.core.multiarray.scalar"),
        np.dtype,
        type(np.dtype(np.int64)),
    ]
    try:
        with torch.serialization.safe_globals(numbers):
            tensors = torch.load(io.BytesIO(checkpoint), "cpu", weights_only=True)[0]
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise InvalidInput(f"the weights of {aisfx.PACKAGE} cannot be read: {reason}") from error
    found: Mapping[str, torch.Tensor] = tensors
    return found


def embed(encoder: Encoder, windows: Floats, device: str = "cpu") -> Floats:
    """Return the direction of the mean vector of the blocks of each window.

    Scaled to length 1 they serve a linear classifier better, or as well: how long one is says how
    much there is to hear, not of what.

    Args:
        encoder: On ``device``.
        windows: At 44.1 kHz, shape ``(n_windows, n_samples)``.
        device: Where to compute.

    Returns:
        Float32, shape ``(n_windows, 512)``, of length 1 each.
    """
    # Windows of one length have as many blocks, of one length.
    cut = np.stack([aisfx.cut_blocks(window) for window in windows])
    blocks = torch.from_numpy(cut.reshape(-1, *cut.shape[2:]))
    parts = [blocks[k : k + _AT_ONCE] for k in range(0, len(blocks), _AT_ONCE)]
    with torch.inference_mode():
        vectors = torch.cat([encoder(part.to(device)).cpu() for part in parts])
    means = vectors.reshape(*cut.shape[:2], -1).mean(dim=1)
    found: Floats = nn.functional.normalize(means, dim=1).numpy()
    return found


def load_aisfx(device: str = "cpu") -> Embedder:
    """Load the encoder of the installed wheel.

    Raises:
        MissingPackage: If the wheel is not installed.
        InvalidInput: If it is of another version, or its weights are others.
    """
    encoder = Encoder(read_tensors(aisfx.read_weights())).to(device)
    return Embedder(
        aisfx.PACKAGE, aisfx.SAMPLE_RATE, lambda windows: embed(encoder, windows, device)
    )
