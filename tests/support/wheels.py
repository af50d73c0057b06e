"""A wheel as pip leaves it, but for what is in its weights; and the real one."""

import hashlib
from importlib import metadata

import numpy as np
import torch

from labelkit.audio import aisfx
from tests.support.requirements import absent

CHANNELS = (1, 64, 128, 256, 512)


def random_tensors(seed=0):
    """Tensors of the names and shapes of the real ones, of no meaning."""
    rng = torch.Generator().manual_seed(seed)
    tensors = {}
    for block in range(1, 5):
        for number in (1, 2):
            inputs, outputs = CHANNELS[block - 1 + (number > 1)], CHANNELS[block]
            at = f"embedding_net.conv_block{block}"
            shape = (outputs, inputs, 3, 3)
            scale = (9 * inputs / 2) ** -0.5
            tensors[f"{at}.conv{number}.weight"] = scale * torch.randn(shape, generator=rng)
            for name in ("weight", "running_var"):
                drawn = 0.5 + torch.rand(outputs, generator=rng)
                tensors[f"{at}.bn{number}.{name}"] = drawn
            for name in ("bias", "running_mean"):
                drawn = 0.1 * torch.randn(outputs, generator=rng)
                tensors[f"{at}.bn{number}.{name}"] = drawn
    return tensors


def write_wheel(folder, *, version=aisfx.VERSION, weights=None):
    """Write what pip would install; importing it would fail, as nothing of it may be run."""
    about = folder / f"aisfx-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: aisfx\nVersion: {version}\n")
    (folder / "aisfx" / "models").mkdir(parents=True)
    (folder / "aisfx" / "__init__.py").write_text("raise RuntimeError('never to be imported')\n")
    if weights is not None:
        (folder / "aisfx" / "models" / "checkpoint.pth").write_bytes(weights)
    return folder


def save_weights(file, tensors=None):
    """Save tensors as the real checkpoint has them, and return its bytes and their hash."""
    sizes = {"ucsMixed": (0, 69)}
    torch.save((random_tensors() if tensors is None else tensors, sizes), file)
    weights = file.read_bytes()
    return weights, hashlib.sha256(weights).hexdigest()


def need_aisfx():
    """Skip without the real wheel, or fail where it is required."""
    try:
        found = metadata.version("aisfx")
    except metadata.PackageNotFoundError:
        found = None
    if found != aisfx.VERSION:
        absent("aisfx", f"aisfx {aisfx.VERSION} is not installed: {aisfx.INSTALL}")


def sweep(seconds, rate=aisfx.SAMPLE_RATE):
    """A sound that rises from 200 Hz to 8 kHz, over a little noise."""
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (200 * t + (8000 - 200) * t**2 / (2 * seconds))
    noise = np.random.default_rng(0).standard_normal(len(t))
    return (0.5 * np.sin(phase) + 0.01 * noise).astype(np.float32)
