"""Losses, schedules, augmentation, batches, trainer, prediction."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from labelkit import registry
from labelkit.config import StageSpec
from labelkit.errors import InvalidInput
from labelkit.training.augment import Mixup, SpecAugment
from labelkit.training.batches import FeatureBank, TrainingBatches
from labelkit.training.callbacks import Callback, Checkpoint
from labelkit.training.predict import predict_clips
from labelkit.training.trainer import Trainer


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", registry.names("loss"))
def test_losses_are_per_sample_and_finite_at_extremes(name, head):
    loss = registry.resolve("loss", name)
    logits = torch.tensor([[80.0, -80.0, 0.0], [-300.0, 300.0, 1.0], [0.0, 0.0, 0.0]])
    logits.requires_grad_()
    values = loss(logits, torch.eye(3), head=head, beta=0.7)
    assert values.shape == (3,)
    assert torch.isfinite(values).all()
    values.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_losses_against_formulas():
    logits, target = torch.tensor([[1.0, -0.5, 0.2]]), torch.tensor([[0.0, 1.0, 0.0]])
    p, q = logits.softmax(1), logits.sigmoid()
    soft = 0.7 * target + 0.3 * p
    resolve = registry.resolve
    assert resolve("loss", "cross_entropy")(logits, target).item() == pytest.approx(
        -p[0, 1].log().item()
    )
    binary = -(target * q.log() + (1 - target) * (1 - q).log()).sum().item()
    assert resolve("loss", "bce")(logits, target).item() == pytest.approx(binary)
    assert resolve("loss", "lsoft")(logits, target, head="softmax", beta=0.7).item() == (
        pytest.approx(-(soft * p.log()).sum().item())
    )


def test_lsoft_lets_no_gradient_through_the_belief():
    logits = torch.tensor([[1.0, -0.5, 0.2]], requires_grad=True)
    target = torch.tensor([[0.0, 1.0, 0.0]])
    registry.resolve("loss", "lsoft")(logits, target, head="softmax", beta=0.6).sum().backward()
    p = logits.detach().softmax(1)
    torch.testing.assert_close(logits.grad, p - (0.6 * target + 0.4 * p))


@pytest.mark.parametrize("name", registry.names("schedule"))
def test_schedules_stay_between_nothing_and_the_peak(name):
    factor = registry.resolve("schedule", name)
    values = [factor(done, 0.25) for done in np.linspace(0, 1, 101)]
    assert min(values) >= -1e-9 and max(values) == pytest.approx(1)
    assert values[25] == pytest.approx(1)
    assert name == "constant" or values[-1] == pytest.approx(0, abs=1e-9)


def test_spec_augment_masks_what_was_drawn_and_nothing_at_strength_zero():
    x = torch.ones(6, 1, 20, 30)
    draw = SpecAugment(2, 0.3, 2, 0.3).draw(np.random.default_rng(0), tuple(x.shape))
    again = SpecAugment(2, 0.3, 2, 0.3).draw(np.random.default_rng(0), tuple(x.shape))
    assert all((a == b).all() for a, b in zip(draw, again, strict=True))
    masked = SpecAugment().apply(x, draw) == 0
    expected = draw[0][:, None, :, None] | draw[1][:, None, None, :]
    assert (masked.numpy() == expected).all() and masked.any()
    for none in (SpecAugment(0, 0.5, 0, 0.5), SpecAugment(2, 0.0, 2, 0.0)):
        assert (none.apply(x, none.draw(np.random.default_rng(1), tuple(x.shape))) == x).all()


def test_spec_augment_is_never_wider_than_its_share():
    draws = SpecAugment(1, 0.25, 1, 0.5).draw(np.random.default_rng(0), (500, 1, 20, 30))
    assert draws[0].sum(axis=1).max() <= 5 and draws[1].sum(axis=1).max() <= 15
    assert draws[0].sum(axis=1).max() >= 4


def test_mixup_blends_by_the_drawn_share():
    x = torch.arange(4.0)[:, None]
    partner, share = np.array([1, 0, 3, 2]), np.array([0.5, 1.0, 0.75, 0.6], np.float32)
    mixed = Mixup().apply(x, (partner, share))
    torch.testing.assert_close(mixed[:, 0], torch.tensor([0.5, 1.0, 2.25, 2.6]))
    still = Mixup(0).draw(np.random.default_rng(0), (4,))
    assert (Mixup(0).apply(x, still) == x).all()
    assert Mixup(0.4).draw(np.random.default_rng(0), (300,))[1].min() >= 0.5


def make_bank(n_clips=12, n_mels=16, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 60, n_clips)
    frames = rng.standard_normal((lengths.sum(), n_mels)).astype(np.float16)
    return FeatureBank(frames, np.cumsum(lengths) - lengths, lengths), frames


def test_windows_are_cut_and_short_clips_repeated():
    bank, frames = make_bank()
    clips, places = np.arange(12), np.linspace(0, 1, 12)
    windows = bank.windows(clips, 24, places).numpy()
    for clip, place in zip(clips, places, strict=True):
        start, length = bank.starts[clip], bank.lengths[clip]
        room = length - 24 if length >= 24 else length - 1
        first = round(place * room)
        rows = [start + (first + k) % length for k in range(24)]
        np.testing.assert_allclose(windows[clip, 0], frames[rows].T.astype(np.float32))


def test_bank_statistics_are_of_the_asked_clips():
    bank, frames = make_bank()
    mean, std = bank.statistics(np.array([2, 5]))
    chosen = np.concatenate(
        [frames[bank.starts[c] : bank.starts[c] + bank.lengths[c]] for c in (2, 5)]
    ).astype(np.float64)
    np.testing.assert_allclose(mean, chosen.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(std, chosen.std(axis=0), atol=1e-4)


def test_a_memory_map_gives_the_same_windows(tmp_path, monkeypatch):
    bank, frames = make_bank()
    frames.tofile(tmp_path / "f16")
    mapped = np.memmap(tmp_path / "f16", np.float16, "r").reshape(frames.shape)
    monkeypatch.setattr(FeatureBank, "_fits", lambda self, frames: False)
    lean = FeatureBank(mapped, bank.starts, bank.lengths)
    clips, places = np.arange(12), np.full(12, 0.3)
    torch.testing.assert_close(lean.windows(clips, 20, places), bank.windows(clips, 20, places))
    np.testing.assert_allclose(lean.statistics(clips), bank.statistics(clips))


def test_a_clip_without_frames_is_refused():
    with pytest.raises(InvalidInput, match="at least one frame"):
        FeatureBank(np.zeros((4, 2), np.float16), np.array([0, 4]), np.array([4, 0]))


def make_batches(batch_size=4, seed=(1,), **options):
    bank, _ = make_bank()
    clips = np.array([0, 2, 3, 5, 7, 8, 11, 10, 9])
    targets = np.eye(3)[np.arange(len(clips)) % 3]
    noisy = np.arange(len(clips)) % 2 == 0
    return TrainingBatches(
        bank, clips, targets, noisy, batch_size=batch_size, n_frames=20, seed=seed,
        spec_augment=options.get("spec_augment", SpecAugment(0, 0, 0, 0)),
        mixup=options.get("mixup", Mixup(0)),
    )  # fmt: skip


def test_an_epoch_holds_each_clip_once_and_is_the_same_when_asked_again():
    batches = make_batches(5)
    first, again, other = (list(batches.epoch(n)) for n in (0, 0, 1))
    assert [len(b.x) for b in first] == [5, 4] and len(batches) == 2
    assert torch.cat([b.targets for b in first]).sum(0).tolist() == [3, 3, 3]
    assert all((a.x == b.x).all() for a, b in zip(first, again, strict=True))
    assert (first[0].x != other[0].x).any()
    assert np.flatnonzero(batches.drawn).tolist() == [0, 2, 3, 5, 7, 8, 9, 10, 11]


def test_a_last_step_of_one_clip_is_left_out():
    assert [len(b.x) for b in make_batches(4).epoch(0)] == [4, 4]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 3)

    def forward(self, x):
        return self.linear(x.mean(dim=(1, 3)))


def make_trainer(callbacks=(), **options):
    torch.manual_seed(0)
    spec = StageSpec(**{"epochs": 6, "batch_size": 4, "lr": 0.05, "mixup_alpha": 0.0} | options)
    return Trainer(Net(), spec, head="softmax", callbacks=callbacks)


def test_training_learns_and_keeps_a_plain_history():
    trainer = make_trainer(epochs=30)
    history = trainer.fit(make_batches(), valid=make_batches())
    assert history[-1]["loss"] < history[0]["loss"] - 0.1
    assert history[-1]["valid_loss"] < history[0]["valid_loss"]
    assert [row["epoch"] for row in history] == list(range(1, 31))


def test_seven_events_in_order():
    heard = []

    class Ear(Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                heard.append(name[3:])
            return super().__getattribute__(name)

    make_trainer([Ear()], epochs=1).fit(make_batches(5))
    step = ["batch_begin", "gradients", "batch_end"]
    assert heard == ["train_begin", "epoch_begin", *step, *step, "epoch_end", "train_end"]


@pytest.mark.parametrize("optimizer", registry.names("optimizer"))
def test_a_stopped_training_ends_like_an_unstopped_one(tmp_path, optimizer):
    whole = make_trainer(optimizer=optimizer)
    whole.fit(make_batches())

    class Stop(Callback):
        def on_epoch_end(self, trainer):
            if len(trainer.history) == 3:
                raise KeyboardInterrupt

    path = tmp_path / "c.pt"
    with pytest.raises(KeyboardInterrupt):
        make_trainer([Checkpoint(path, every_s=0), Stop()], optimizer=optimizer).fit(make_batches())
    resumed = make_trainer([Checkpoint(path, every_s=0)], optimizer=optimizer)
    resumed.fit(make_batches())
    assert resumed.history == whole.history
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert (a == b).all()


def test_noisy_samples_follow_the_noisy_loss_and_weight():
    batch = next(iter(make_batches().epoch(0)))
    plain = make_trainer(noisy_loss="cross_entropy").losses(batch)
    half = make_trainer(noisy_loss="cross_entropy", noisy_weight=0.5).losses(batch)
    torch.testing.assert_close(half, torch.where(batch.noisy > 0, plain / 2, plain))
    soft = make_trainer(noisy_loss="lsoft", beta=0.5).losses(batch)
    noisy = batch.noisy > 0
    torch.testing.assert_close(soft[~noisy], plain[~noisy])
    assert (soft[noisy] != plain[noisy]).all()


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_prediction_is_the_mean_over_the_same_windows(head):
    bank, _ = make_bank()
    net = copy.deepcopy(make_trainer().model)
    options = {"head": head, "n_frames": 20, "seed": (4,)}
    probs = predict_clips(net, bank, np.arange(12), n_windows=7, batch_size=3, **options)
    again = predict_clips(net, bank, np.arange(12), n_windows=7, batch_size=100, **options)
    np.testing.assert_allclose(probs, again, atol=1e-6)
    assert probs.shape == (12, 3) and ((probs > 0) & (probs < 1)).all()
    if head == "softmax":
        np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    places = np.random.default_rng((4,)).random((12, 7))
    x = bank.windows(np.full(7, 3), 20, places[3])
    with torch.no_grad():
        logits = net.eval()(x)
    mean = (logits.softmax(1) if head == "softmax" else logits.sigmoid()).mean(0).numpy()
    np.testing.assert_allclose(probs[3], mean, atol=1e-6)


def test_no_clips_no_probabilities():
    bank, _ = make_bank()
    net = make_trainer().model
    empty = predict_clips(
        net, bank, np.array([], int), head="softmax", n_frames=20, n_windows=2, seed=(0,)
    )
    assert len(empty) == 0
