"""The trainer and what listens to it, and how windows become judgements."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from labelkit import registry
from labelkit.config import InputSpec, StageSpec, WindowSpec
from labelkit.errors import InvalidInput, LabelkitError
from labelkit.training.callbacks import BestWeights, Callback, Checkpoint, Seeding, Validation
from labelkit.training.predict import clip_probs, plan_windows, predict_windows
from labelkit.training.spectrograms import Spectrograms
from labelkit.training.trainer import create_optimizer
from tests.support.trainers import Dropping, Net, make_bank, make_batches, make_trainer, scored


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
    noisy = torch.zeros(len(batch.x), dtype=torch.bool)
    noisy[batch.noisy_rows] = True
    plain = make_trainer(noisy_loss="cross_entropy").losses(batch)
    half = make_trainer(noisy_loss="cross_entropy", noisy_weight=0.5).losses(batch)
    torch.testing.assert_close(half, torch.where(noisy, plain / 2, plain))
    soft = make_trainer(noisy_loss="lsoft", beta=0.5).losses(batch)
    torch.testing.assert_close(soft[~noisy], plain[~noisy])
    assert (soft[noisy] != plain[noisy]).all()


def test_pools_may_weigh_alike_whatever_their_share_of_the_batch():
    batch = next(iter(make_batches().epoch(0)))
    plain = make_trainer(noisy_loss="auto").losses(batch)
    options = {"noisy_loss": "auto", "noisy_weight": 0.5, "trusted_weight": 0.5}
    by_clip = make_trainer(**options).losses(batch)
    torch.testing.assert_close(by_clip, plain / 2)
    by_pool = make_trainer(weigh_by="pool", **options).losses(batch).mean()
    noisy = batch.noisy_rows
    trusted = [k for k in range(len(plain)) if k not in noisy.tolist()]
    torch.testing.assert_close(by_pool, (plain[noisy].mean() + plain[trusted].mean()) / 2)


def test_losses_are_averaged_over_classes_if_asked():
    batch = next(iter(make_batches().epoch(0)))
    summed = make_trainer(head="sigmoid").losses(batch)
    mean = make_trainer(head="sigmoid", over_classes="mean").losses(batch)
    torch.testing.assert_close(mean, summed / 3)


class Heads(Net):
    """Three heads, the main one first."""

    def forward_features(self, x):
        return tuple(x.mean(dim=(1, 3)) * k for k in (1, 2, 3))

    def forward_head(self, features):
        return tuple(self.linear(part) for part in features)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def test_auxiliary_heads_are_weighed():
    batch = next(iter(make_batches().epoch(0)))
    trainer = make_trainer(net=Heads, noisy_loss="auto", head_weights=(1.0, 0.4, 0.2))
    outputs = trainer.model(batch.x)
    expected = sum(
        weight * trainer.loss(logits, batch.targets)
        for weight, logits in zip((1.0, 0.4, 0.2), outputs, strict=True)
    )
    torch.testing.assert_close(trainer.losses(batch), expected)
    with pytest.raises(InvalidInput, match="3 heads, head_weights only 1"):
        make_trainer(net=Heads, head_weights=(1.0,)).losses(batch)


def test_multi_sample_dropout_averages_heads():
    batch = next(iter(make_batches().epoch(0)))
    trainer = make_trainer(net=Heads, dropout_samples=4000, dropout_rate=0.3)
    trainer.model.train()
    mean = trainer._output(batch.x)
    assert len(mean) == 3
    for head, plain in zip(mean, trainer.model(batch.x), strict=True):
        torch.testing.assert_close(head, plain, atol=0.15, rtol=0.05)


def test_weight_decay_spares_the_named():
    spec = StageSpec(weight_decay=0.01, no_decay=("bias",))
    groups = create_optimizer(Net(), spec).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.01), (1, 0.0)]
    assert groups[1]["params"][0].shape == (3,)


@pytest.mark.parametrize(("options", "limit"), [
    ({"clip_value": 1e-3}, lambda g: g.abs().max() <= 1e-3 + 1e-9),
    ({"clip_norm": 1e-3}, lambda g: g.norm() <= 1e-3 + 1e-6),
])  # fmt: skip
def test_gradients_are_clipped(options, limit):
    seen = []

    class Look(Callback):
        def on_gradients(self, trainer):
            seen.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters()]))

    make_trainer([Look()], epochs=1, **options).fit(make_batches())
    assert seen and all(limit(gradient) for gradient in seen)
    make_trainer([Look()], epochs=1).fit(make_batches())
    assert not limit(seen[-1])


def test_a_loss_that_is_not_finite_names_batch_and_clips(monkeypatch):
    batches, wrong = make_batches(4), []
    inner = batches.epoch

    def spoilt(number):
        for step, batch in enumerate(inner(number)):
            if number == 1 and step == 1:
                batch.x[2] = float("nan")
                wrong.extend(batch.clips)
            yield batch

    monkeypatch.setattr(batches, "epoch", spoilt)
    trainer = make_trainer(clip_name=lambda clip: f"{clip}.wav")
    with pytest.raises(LabelkitError, match="epoch 2, batch 2 is not finite") as caught:
        trainer.fit(batches)
    assert len(wrong) == 4 and all(f"{clip}.wav" in str(caught.value) for clip in wrong)


def test_on_a_gpu_losses_are_read_after_the_epoch():
    trainer, batches, steps = make_trainer(), make_batches(3), []
    trainer.device = SimpleNamespace(type="cuda")

    def step(batch, epoch):
        steps.append(batch.clips)
        return torch.full((3,), float("inf") if len(steps) == 2 else 1.0)

    with pytest.raises(LabelkitError, match="epoch 1, batch 2 is not finite") as caught:
        trainer.run_epoch(batches, 0, step)
    assert len(steps) == 3 and ", ".join(map(str, steps[1])) in str(caught.value)


def test_early_stopping_waits_for_its_patience():
    values = [0.1, 0.3, 0.2, 0.25, 0.3, 0.29, 0.9]
    trainer = make_trainer([scored(values)], epochs=7, monitor="lwlrap", stop_patience=3)
    assert len(trainer.fit(make_batches())) == 5


def test_training_stops_once_the_rate_is_low():
    trainer = make_trainer(
        [scored([0.5] * 30)], epochs=30, lr=1e-4, schedule="plateau", patience=1, factor=0.1,
        monitor="lwlrap", stop_lr=1e-6, per_epoch=True,
    )  # fmt: skip
    history = trainer.fit(make_batches())
    assert [row["lr"] for row in history] == pytest.approx([1e-4] * 3 + [1e-5] * 2)


def test_the_best_epochs_are_kept_and_the_best_one_taken(tmp_path):
    values = [0.1, 0.7, 0.6, 0.9, 0.2, 0.9]
    weights = []

    class Keep(Callback):
        def on_epoch_end(self, trainer):
            weights.append(copy.deepcopy(trainer.model.state_dict()))

    best = BestWeights(tmp_path, "lwlrap", 2, Checkpoint(tmp_path / "c.pt"))
    trainer = make_trainer([scored(values), Keep(), best], epochs=6)
    history = trainer.fit(make_batches())
    names = sorted(path.name for path in tmp_path.glob("best-*"))
    assert names == ["best-004-0.9000.pt", "best-006-0.9000.pt"]
    assert history[3]["best"]
    for name, value in trainer.model.state_dict().items():
        torch.testing.assert_close(value, weights[3][name])


@pytest.mark.parametrize("stopped_after", [2, 3, 4, 5])
def test_a_stopped_training_with_dropout_ends_with_the_same_best_weights(tmp_path, stopped_after):
    values = [0.1, 0.7, 0.6, 0.9, 0.2, 0.8]

    def make(folder, *more):
        folder.mkdir(exist_ok=True)
        # A checkpoint is due only where the best weights demand it.
        checkpoint = Checkpoint(folder / "c.pt", every_s=1e9)
        best = BestWeights(folder, "lwlrap", 1, checkpoint)
        callbacks = [Seeding((3,)), scored(values), best, checkpoint, *more]
        return make_trainer(callbacks, net=Dropping, epochs=6)

    class Stop(Callback):
        def on_epoch_end(self, trainer):
            if len(trainer.history) == stopped_after:
                raise KeyboardInterrupt

    whole = make(tmp_path / "whole")
    whole.fit(make_batches())
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "parts", Stop()).fit(make_batches())
    torch.manual_seed(99)
    resumed = make(tmp_path / "parts")
    resumed.fit(make_batches())
    assert resumed.history == whole.history
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert (a == b).all()


def test_validation_writes_its_scores():
    labels = np.eye(3)[[0, 1, 1]]
    probs = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    row = make_trainer([Validation(lambda: probs, labels, single=True)], epochs=1).fit(
        make_batches()
    )[0]
    assert row["valid_accuracy"] == pytest.approx(2 / 3)
    assert row["valid_lwlrap"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert row["valid_loss"] == pytest.approx(-np.log([0.5, 0.3, 0.8]).mean())


CHANCE = np.random.default_rng(0)


@pytest.mark.parametrize(("length", "count"), [(128, 1), (129, 2), (176, 2), (177, 3)])
def test_spaced_windows_are_bouteillons(length, count):
    rows, first = plan_windows(
        np.array([length]), 128, WindowSpec(windows="spaced", step=48), CHANCE
    )
    assert len(rows) == count and first[0] == 0 and first[-1] == length - 128


@pytest.mark.parametrize("length", [100, 256, 257, 400, 1000])
def test_tiles_cover_the_clip_with_even_margins(length):
    _, first = plan_windows(np.array([length]), 256, WindowSpec(windows="tiles", step=64), CHANCE)
    assert (np.diff(first) == 64).all()
    left, right = -first[0], first[-1] + 256 - length
    assert (0 <= left <= right <= left + 1 and right < 64) or length < 256


def test_regular_random_centre_and_full_windows():
    lengths = np.array([100, 300])
    rows, first = plan_windows(lengths, 100, WindowSpec(windows="regular", n=5), CHANCE)
    assert rows.tolist() == [0, 1, 1, 1, 1, 1] and first.tolist() == [0, 0, 50, 100, 150, 200]
    rows, first = plan_windows(lengths, 100, WindowSpec(windows="random", n=50), CHANCE)
    assert rows.tolist() == [0] + [1] * 50 and 0 <= first.min() < 20 and 180 < first.max() <= 200
    assert plan_windows(lengths, 120, WindowSpec(windows="centre"), CHANCE)[1].tolist() == [-10, 90]
    assert plan_windows(lengths, 100, WindowSpec(windows="full"), CHANCE)[1].tolist() == [0, 0]


class Mean(nn.Module):
    """Answers by what its window holds, so that places can be told from probabilities."""

    def forward(self, x):
        return torch.stack([x.mean(dim=(1, 2, 3)), torch.zeros(len(x))], dim=1)


@pytest.mark.parametrize("kind", ["arithmetic", "geometric"])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("windows", ["tiles", "spaced", "regular", "random", "centre", "full"])
def test_prediction_is_the_mean_over_the_windows(windows, head, kind):
    bank, _ = make_bank(pad="constant")
    spec = WindowSpec(windows=windows, n=4, step=7, mean=kind)
    clips = np.array([3, 0, 7, 11, 5])
    found = predict_windows(Mean(), bank, clips, spec, head=head, n_frames=20, seed=(4,))
    probs = clip_probs(found, len(clips), kind=kind, head=head)
    _, first = plan_windows(bank.lengths[clips], 20, spec, np.random.default_rng((4,)))
    for row, clip in enumerate(clips):
        size = max(20, bank.lengths[clip]) if windows == "full" else 20
        each = []
        for begin in first[found.rows == row]:
            if bank.lengths[clip] < size:
                begin = -((size - bank.lengths[clip]) // 2)
            x = bank.windows(np.array([clip]), int(size), np.array([begin]), True)
            logits = Mean()(x)
            each.append(logits.softmax(1) if head == "softmax" else logits.sigmoid())
        each = torch.cat(each).numpy()
        expected = each.mean(axis=0)
        if kind == "geometric":
            expected = np.exp(np.log(each).mean(axis=0))
            expected /= expected.sum() if head == "softmax" else 1
        np.testing.assert_allclose(probs[row], expected, atol=1e-5)


def test_windows_say_which_frames_they_heard():
    frames = np.zeros((150, 4), np.float16)
    spec = InputSpec(pad="constant", normalise="none")
    bank = Spectrograms(frames, np.array([0, 50]), np.array([50, 100]), spec)
    found = predict_windows(
        Mean(), bank, np.array([0, 1]), WindowSpec(windows="tiles", step=40), head="sigmoid",
        n_frames=60, seed=(0,),
    )  # fmt: skip
    assert found.rows.tolist() == [0, 1, 1]
    assert found.first.tolist() == [0, 0, 40] and found.last.tolist() == [50, 60, 100]


def test_no_clips_no_probabilities():
    bank, _ = make_bank()
    nothing = np.array([], int)
    options = {"head": "softmax", "n_frames": 20, "seed": (0,)}
    found = predict_windows(make_trainer().model, bank, nothing, WindowSpec(), **options)
    assert len(clip_probs(found, 0, kind="arithmetic", head="softmax")) == 0
