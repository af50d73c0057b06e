"""The network and the spectrogram of the encoder aisfx, on weights of no meaning."""

import io
import os

import librosa
import numpy as np
import pytest
import torch
from torch import nn

from labelkit.audio import aisfx
from labelkit.errors import InvalidInput
from labelkit.models.aisfx import Encoder, embed, read_tensors
from tests.support.wheels import CHANNELS, random_tensors, save_weights, sweep


@pytest.fixture(scope="module")
def tensors():
    return random_tensors()


@pytest.fixture(scope="module")
def encoder(tensors):
    return Encoder(tensors)


def as_published(tensors):
    """The network as its tensors are named, each normalisation a layer of its own."""
    layers = []
    for block in range(1, 5):
        for number in (1, 2):
            at = f"embedding_net.conv_block{block}"
            inputs = CHANNELS[block - 1 + (number > 1)]
            conv = nn.Conv2d(inputs, CHANNELS[block], 3, padding=1, bias=False)
            conv.weight.data = tensors[f"{at}.conv{number}.weight"]
            norm = nn.BatchNorm2d(CHANNELS[block])
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(norm, name).data = tensors[f"{at}.bn{number}.{name}"]
            layers += [conv, norm, nn.ReLU()]
        layers.append(nn.MaxPool2d(2 if block < 4 else 1))
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("shape", [(1, 100), (3, 48), (2, 109), (1, 8)])
def test_the_network_is_that_of_its_tensors(tensors, encoder, shape):
    frames = torch.rand((*shape, 96), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps = as_published(tensors)(frames[:, None])
        found = encoder(frames)
    assert maps.shape == (shape[0], 512, shape[1] // 8, 12)
    torch.testing.assert_close(found, maps.mean(dim=3).max(dim=2).values, rtol=1e-4, atol=1e-4)
    assert not any(p.requires_grad for p in encoder.parameters())


# Seconds of a sound; blocks it is cut into, and frames of each.
LENGTHS = {
    0.00002: (1, 48), 0.03: (1, 48), 0.5: (1, 48), 1.1: (1, 48), 1.2: (1, 56), 2.0: (1, 88),
    2.32: (1, 104), 3.4: (1, 152), 3.5: (2, 80), 5.0: (2, 112), 7.0: (3, 104), 20.0: (9, 96),
}  # fmt: skip


@pytest.mark.parametrize("seconds", LENGTHS)
def test_blocks_are_of_one_length_and_leave_out_nothing(seconds):
    mono = sweep(seconds) if seconds > 0.001 else np.ones(1, np.float32)
    blocks = aisfx.cut_blocks(mono)
    assert blocks.shape == (*LENGTHS[seconds], 96) and blocks.dtype == np.float32
    assert np.isfinite(blocks).all()
    # The sound of every block changes what the blocks are.
    n = len(blocks)
    for k in range(n):
        changed = mono.copy()
        part = slice(k * len(mono) // n, (k + 1) * len(mono) // n)
        changed[part] = 0.3 * np.random.default_rng(k).standard_normal(len(changed[part]))
        apart = np.abs(aisfx.cut_blocks(changed) - blocks).max(axis=(1, 2))
        assert apart[k] > 0.01 or len(mono) == 1


@pytest.mark.parametrize("seconds", [0.4, 1.0, 5.0])
def test_the_spectrogram_is_that_of_the_weights(seconds):
    """Frame by frame as librosa computes it."""
    mono = sweep(seconds)
    blocks = aisfx.cut_blocks(mono)
    whole = np.resize(mono / np.abs(mono).max(), max(len(mono), 47 * 1024))
    bands = librosa.feature.melspectrogram(
        y=whole.astype(np.float64), sr=44100, n_fft=2048, hop_length=1024, n_mels=96, fmin=0,
        fmax=22050, htk=True, norm=1, pad_mode="constant",
    ).T  # fmt: skip
    expected = np.log10(1 + 1e4 * bands) / 9.457798957824707
    n = blocks.shape[1]
    np.testing.assert_allclose(blocks[0], expected[:n], atol=1e-5)
    np.testing.assert_allclose(blocks[-1], expected[-n:], atol=1e-5)


@pytest.mark.parametrize("gain", [1e-4, 0.5, 30.0])
def test_a_gain_changes_nothing(gain):
    mono = sweep(1.5)
    np.testing.assert_allclose(aisfx.cut_blocks(gain * mono), aisfx.cut_blocks(mono), atol=1e-4)


def test_silence_is_zeros():
    assert not aisfx.cut_blocks(np.zeros(1000, np.float32)).any()


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.5])
def test_a_short_sound_is_repeated(seconds):
    """A click in the middle of it comes again as often as it fits."""
    mono = np.zeros(round(seconds * 44100), np.float32)
    mono[len(mono) // 2] = 1
    loud = aisfx.cut_blocks(mono)[0].max(axis=1) > 0
    filled = 47 * 1024 / len(mono)
    clicks = np.flatnonzero(np.diff(loud.astype(int)) == 1)
    assert loud.mean() > 0.9 if seconds < 0.1 else abs(len(clicks) - filled) <= 1


@pytest.mark.slow
def test_a_window_has_the_direction_of_the_mean_of_its_blocks_whatever_its_company(encoder):
    waves = np.stack([sweep(5.0), sweep(5.0)[::-1], np.roll(sweep(5.0), 9999)])
    found = embed(encoder, waves)
    assert found.shape == (3, 512) and found.dtype == np.float32
    for wave, row in zip(waves, found, strict=True):
        with torch.no_grad():
            mean = encoder(torch.from_numpy(aisfx.cut_blocks(wave))).mean(dim=0).numpy()
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(row, embed(encoder, wave[None])[0], rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-4


def test_tensors_are_read_as_they_were_saved(tensors, tmp_path):
    weights, _ = save_weights(tmp_path / "w.pth", tensors)
    found = read_tensors(weights)
    assert set(found) == set(tensors)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


class Spoils:
    """What a pickle can do to whoever loads it as one."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("content", [b"", b"this is no checkpoint", {}, Spoils(), (Spoils(), 1)])
def test_files_that_are_no_checkpoint_are_refused_and_not_run(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if not isinstance(content, bytes):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        content = buffer.getvalue()
    with pytest.raises(InvalidInput, match="weights of aisfx cannot be read: ") as caught:
        read_tensors(content)
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()
