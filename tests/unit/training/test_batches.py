"""Windows cut from spectrograms, and batches drawn from pools."""

import librosa
import numpy as np
import pytest
import torch

from labelkit.config import InputSpec
from labelkit.errors import InvalidInput
from labelkit.training.spectrograms import Spectrograms
from tests.support.trainers import CLIPS, make_bank, make_batches


def clip_of(bank, frames, clip):
    start = bank.starts[clip]
    return frames[start : start + bank.stored[clip]].astype(np.float32)


def test_windows_are_cut_and_short_clips_repeated():
    bank, frames = make_bank()
    clips, places = np.arange(12), np.linspace(0, 0.999, 12)
    first = bank.place(clips, 24, places, np.zeros(12, bool))
    windows = bank.windows(clips, 24, first, False).numpy()
    for clip, place in zip(clips, places, strict=True):
        length = bank.lengths[clip]
        begin = int(place * (length - 23 if length >= 24 else length))
        expected = clip_of(bank, frames, clip)[(begin + np.arange(24)) % length]
        np.testing.assert_allclose(windows[clip, 0], expected.T)


def test_short_clips_are_centred_on_their_minimum():
    bank, frames = make_bank(pad="constant")
    clips = np.arange(12)
    windows = bank.training_windows(clips, 40, np.random.default_rng(0)).numpy()
    for clip in np.flatnonzero(bank.lengths < 40):
        own = clip_of(bank, frames, clip)
        before = (40 - len(own)) // 2
        expected = np.full((40, 16), own.min())
        expected[before : before + len(own)] = own
        np.testing.assert_allclose(windows[clip, 0], expected.T)


def test_either_padding_comes_by_chance():
    bank, frames = make_bank(pad="either")
    short = np.repeat(np.flatnonzero(bank.lengths < 40)[:1], 200)
    windows = bank.training_windows(short, 40, np.random.default_rng(0)).numpy()
    least = clip_of(bank, frames, short[0]).min()
    padded = (windows[:, 0, :, 0] == least).all(axis=1)
    assert 70 < padded.sum() < 130


def test_clips_are_repeated_to_a_number_of_frames_and_cut_there():
    bank, frames = make_bank(fill_frames=50)
    clips = np.arange(12)
    windows = bank.windows(clips, 50, np.zeros(12, int), False).numpy()
    for clip in clips:
        own = clip_of(bank, frames, clip)
        np.testing.assert_allclose(windows[clip, 0], own[np.arange(50) % len(own)].T)
    assert (bank.lengths == 50).all()
    first = bank.place(clips, 20, np.full(12, 0.999), np.zeros(12, bool))
    assert (first == 30).all()


def test_windows_are_drawn_where_the_energy_is():
    frames = np.full((100, 4), -80, np.float16)
    frames[70] = 0
    spec = InputSpec(place="energy", normalise="none")
    bank = Spectrograms(frames, np.array([0]), np.array([100]), spec)
    windows = bank.training_windows(np.zeros(30, int), 20, np.random.default_rng(1)).numpy()
    assert (windows[:, 0, 0].argmax(axis=1) == 10).all() and (
        windows.max(axis=(1, 2, 3)) == 0
    ).all()


@pytest.mark.parametrize("kind", ["band", "fixed", "clip", "clip_8bit", "none"])
def test_normalisation(kind):
    bank, frames = make_bank(normalise=kind, mean=0.5, std=2.0)
    if kind == "band":
        bank.normalise(*bank.statistics(np.arange(12)))
    clip = int(bank.lengths.argmax())
    own = clip_of(bank, frames, clip)
    window = bank.windows(np.array([clip]), len(own), np.array([0]), False)[0, 0].numpy().T
    every = frames.astype(np.float64)
    expected = {
        "band": (own - every.mean(axis=0)) / every.std(axis=0),
        "fixed": (own - 0.5) / 2,
        "clip": (own - own.mean()) / own.std(),
        "clip_8bit": np.floor(255 * (own - own.min()) / np.ptp(own)) / 255,
        "none": own,
    }[kind]
    # A value at a step of 1 / 255 may fall either way.
    np.testing.assert_allclose(window, expected, atol=1 / 254 if kind == "clip_8bit" else 1e-4)
    if kind == "clip_8bit":
        assert window.min() == 0 and window.max() == 1
        assert np.isclose(window, expected, atol=1e-6).mean() > 0.99


def test_deltas_are_of_the_window_and_channels_are_copied():
    bank, _ = make_bank(deltas=2, copies=2)
    x = torch.randn(2, 1, 16, 30)
    channels = bank.add_channels(x).numpy()
    assert channels.shape == (2, 6, 16, 30) and bank.spec.channels == 6
    for order in (1, 2):
        expected = librosa.feature.delta(x[1, 0].numpy(), order=order, mode="interp")
        np.testing.assert_allclose(channels[1, order], expected, atol=1e-5)
        np.testing.assert_array_equal(channels[1, order], channels[1, order + 3])


def test_bank_statistics_are_of_the_asked_clips():
    bank, frames = make_bank()
    mean, std = bank.statistics(np.array([2, 5]))
    chosen = np.concatenate([clip_of(bank, frames, clip) for clip in (2, 5)]).astype(np.float64)
    np.testing.assert_allclose(mean, chosen.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(std, chosen.std(axis=0), atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"pad": "constant"}, {"place": "energy"}])
def test_a_memory_map_gives_the_same_windows(tmp_path, monkeypatch, options):
    bank, frames = make_bank(**options)
    frames.tofile(tmp_path / "f16")
    mapped = np.memmap(tmp_path / "f16", np.float16, "r").reshape(frames.shape)
    monkeypatch.setattr(Spectrograms, "_fits", lambda self, frames: False)
    lean = Spectrograms(mapped, bank.starts, bank.stored, bank.spec)
    windows = [
        each.training_windows(np.arange(12), 20, np.random.default_rng(3)) for each in (lean, bank)
    ]
    torch.testing.assert_close(*windows)
    np.testing.assert_allclose(lean.statistics(np.arange(12)), bank.statistics(np.arange(12)))


def test_a_clip_without_frames_is_refused():
    with pytest.raises(InvalidInput, match="at least one frame"):
        Spectrograms(np.zeros((4, 2), np.float16), np.array([0, 4]), np.array([4, 0]))


def test_an_epoch_holds_each_clip_once_and_is_the_same_when_asked_again():
    batches = make_batches(5)
    first, again, other = (list(batches.epoch(n)) for n in (0, 0, 1))
    assert [len(b.x) for b in first] == [5, 4] and len(batches) == 2
    assert torch.cat([b.targets for b in first]).sum(0).tolist() == [3, 3, 3]
    assert sorted(np.concatenate([b.clips for b in first])) == sorted(CLIPS)
    assert all((a.x == b.x).all() for a, b in zip(first, again, strict=True))
    assert (first[0].x != other[0].x).any()
    assert np.flatnonzero(batches.drawn).tolist() == [0, 2, 3, 5, 7, 8, 9, 10, 11]
    noisy = {int(c) for b in first for c in b.clips[b.noisy_rows.numpy()]}
    assert noisy == {0, 3, 7, 11, 9}


def test_a_last_step_of_one_clip_is_left_out():
    assert [len(b.x) for b in make_batches(4).epoch(0)] == [4, 4]


def test_pools_are_drawn_by_their_shares():
    pools = np.array([0, 0, 0, 0, 0, 1, 2, 2, 2])
    shares = {"noisy": 0.1, "selected": 0.3, "curated": 0.6, "draws": 4000}
    batches = make_batches(50, members=pools, pools=shares)
    assert len(batches) == 80
    drawn = np.concatenate([b.clips for b in batches.epoch(0)])
    counts = {int(c): int((drawn == c).sum()) for c in CLIPS}
    noisy, chosen = sum(counts[c] for c in CLIPS[:5]), counts[CLIPS[5]]
    assert 320 < noisy < 480 and 1080 < chosen < 1320
    assert min(counts.values()) > 40


def test_an_empty_pool_is_left_to_the_others_and_all_empty_is_an_error():
    pools = np.full(9, 2)
    batches = make_batches(4, members=pools, pools={"noisy": 0.5, "curated": 0.5})
    assert batches.shares.tolist() == [0, 0, 1]
    with pytest.raises(InvalidInput, match="the pools noisy have no clips"):
        make_batches(4, members=pools, pools={"noisy": 1.0})


@pytest.mark.parametrize("partner", ["pool", "batch_pool", "any", "permutation", "reverse"])
def test_partners_come_from_where_they_should(partner):
    """Mixed with their partner's targets alone, samples show where it is from."""
    pools = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2])
    mixup = {"distribution": "uniform", "uniform_high": 0.5, "partner": partner}
    batches = make_batches(9, members=pools, augment={"mixup": mixup})
    batches.targets = torch.eye(3)[torch.from_numpy(pools)]
    crossed = 0.0
    for number in range(40):
        for batch in batches.epoch(number):
            own = torch.from_numpy(pools[[list(CLIPS).index(c) for c in batch.clips]])
            crossed += float(1 - batch.targets[torch.arange(len(own)), own].mean())
    assert crossed < 1e-5 if partner.endswith("pool") else crossed > 1


def test_variants_are_drawn_beside_the_clip():
    batches = make_batches(9, banks=3)
    seen = [float(x.mean()) for n in range(60) for b in batches.epoch(n) for x in b.x]
    share = [np.isclose(seen, value).mean() for value in (50, 51)]
    assert all(0.25 < part < 0.42 for part in share)


def test_masked_classes_stay_masked_in_a_mix():
    mask = np.ones((9, 3))
    mask[0, 1] = 0
    batches = make_batches(9, mask=mask, augment={"mixup": {"partner": "reverse"}})
    batch = next(iter(batches.epoch(0)))
    own = [list(CLIPS).index(c) for c in batch.clips]
    both = np.minimum(mask[own], mask[own[::-1]])
    np.testing.assert_array_equal(batch.mask.numpy(), both)
