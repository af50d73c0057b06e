"""Losses against their formulas, schedules against their publications."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from labelkit import registry
from labelkit.config import StageSpec
from labelkit.training.schedules import gain

ALL_LOSSES = registry.names("loss")


def loss(name, logits, targets, **options):
    return registry.resolve("loss", name)(logits, targets, **options)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", ALL_LOSSES)
def test_losses_are_per_sample_and_finite_at_extremes(name, head):
    logits = torch.tensor([[80.0, -80.0, 0.0], [-300.0, 300.0, 1.0], [0.0, 0.0, 0.0]])
    logits.requires_grad_()
    values = loss(name, logits, torch.eye(3), head=head)
    assert values.shape == (3,)
    assert torch.isfinite(values).all()
    values.sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", ALL_LOSSES)
def test_a_masked_class_does_not_count(name, head):
    """Neither its target nor its logit changes the loss, and it gets no gradient."""
    torch.manual_seed(0)
    logits = torch.randn(4, 5, requires_grad=True)
    targets = torch.eye(5)[:4]
    mask = torch.ones(4, 5)
    mask[:, 4] = 0
    mask[2, 1] = 0
    values = loss(name, logits, targets, head=head, mask=mask)
    values.sum().backward()
    assert not logits.grad[mask == 0].any()
    assert logits.grad[0, 0] != 0
    moved = loss(name, torch.where(mask == 0, logits + 5, logits), targets, head=head, mask=mask)
    torch.testing.assert_close(moved, values)
    full = loss(name, logits, targets, head=head, mask=torch.ones(4, 5))
    torch.testing.assert_close(full, loss(name, logits, targets, head=head))


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


def test_lq_against_its_formula_and_limits():
    logits, target = torch.tensor([[1.0, -0.5, 0.2]]), torch.tensor([[0.0, 1.0, 0.0]])
    p, s = logits.softmax(1), logits.sigmoid()
    expected = (1 - p[0, 1] ** 0.5) / 0.5
    torch.testing.assert_close(loss("lq", logits, target, head="softmax", q=0.5)[0], expected)
    p_t = torch.where(target > 0, s, 1 - s)
    expected = ((1 - p_t**0.7) / 0.7).sum()
    torch.testing.assert_close(loss("lq", logits, target, head="sigmoid", q=0.7)[0], expected)
    for head, plain in (("softmax", "cross_entropy"), ("sigmoid", "bce")):
        tiny = loss("lq", logits, target, head=head, q=1e-4)
        torch.testing.assert_close(tiny, loss(plain, logits, target), rtol=1e-3, atol=1e-3)


def test_lq_teaches_absent_classes():
    """The published multi-label form gives them no gradient."""
    logits = torch.tensor([[0.5, 0.5]], requires_grad=True)
    loss("lq", logits, torch.tensor([[1.0, 0.0]]), head="sigmoid", q=0.5).sum().backward()
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]


def test_max_outlier_drops_the_highest_losses():
    logits = torch.tensor([[5.0, 0.0], [0.0, 5.0], [0.0, 4.2], [1.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0]] * 4)
    plain = loss("bce", logits, targets)
    pruned = loss("max_outlier", logits, targets, outlier=0.8)
    keep = plain <= 0.8 * plain.max()
    assert keep.tolist() == [True, False, False, True]
    torch.testing.assert_close(pruned, torch.where(keep, plain, torch.zeros(4)))


SCHEDULES = registry.names("schedule")


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_stay_between_nothing_and_the_peak(name):
    factor, spec = registry.resolve("schedule", name), StageSpec(epochs=40, lr=0.1)
    values = [factor(epoch, spec, []) for epoch in np.linspace(0, 39.99, 101)]
    assert min(values) >= -1e-9 and max(values) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", ["linear_decay", "one_cycle"])
def test_one_cycle_and_linear_decay_turn_where_they_should_and_end_at_nothing(name):
    factor, spec = registry.resolve("schedule", name), StageSpec(epochs=100, turn=0.25)
    assert factor(25, spec, []) == pytest.approx(1) and factor(30, spec, []) < 1
    assert factor(100, spec, []) == pytest.approx(0, abs=1e-9)


def test_dorfer_decays_from_epoch_100_of_500():
    factor, spec = registry.resolve("schedule", "linear_decay"), StageSpec(epochs=500, turn=0.2)
    assert factor(99, spec, []) == 1
    assert factor(300, spec, []) == pytest.approx(0.5)


def test_ninth_warms_up_and_ends_at_its_published_rate():
    spec = StageSpec(epochs=65, lr=1e-3, lr_start=5e-5, lr_min=1e-7, turn=0.1, per_epoch=True)
    factor = registry.resolve("schedule", "cosine")
    rates = [spec.lr * factor(epoch, spec, []) for epoch in range(65)]
    assert rates[0] == pytest.approx(5e-5)
    assert rates[3] == pytest.approx(5e-5 + 1e-3 * 3 / 6.5)
    assert rates[7] == pytest.approx(1e-3)
    assert rates[64] == pytest.approx(3.7e-5, rel=0.02)


def test_cosine_restarts_are_torchs():
    spec = StageSpec(epochs=150, lr=3e-4, lr_min=1e-5, cycle=10, cycle_factor=2)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3e-4)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 10, 2, eta_min=1e-5)
    factor = registry.resolve("schedule", "cosine_restarts")
    for epoch in range(150):
        expected = optimizer.param_groups[0]["lr"]
        assert spec.lr * factor(epoch, spec, []) == pytest.approx(expected, rel=1e-6)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(("monitor", "mode"), [("lwlrap", "max"), ("loss", "min")])
def test_plateau_is_torchs(monitor, mode):
    rng = np.random.default_rng(4)
    values = 0.5 + 0.05 * rng.standard_normal(60) + 0.1 * (np.arange(60) < 20)
    spec = StageSpec(epochs=60, lr=0.01, patience=3, factor=0.6, lr_min=1e-4, monitor=monitor)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode=mode, patience=3, factor=0.6, min_lr=1e-4
    )
    factor, history = registry.resolve("schedule", "plateau"), []
    for epoch, value in enumerate(values):
        ours = spec.lr * factor(epoch, spec, history)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        history.append({f"valid_{monitor}": float(value)})
        theirs.step(float(value))
    assert ours < 0.01 * 0.6**2


def test_higher_gain_is_better():
    row = {"loss": 0.2, "valid_loss": 0.3, "valid_lwlrap": 0.9}
    assert [gain(row, m) for m in ("none", "loss", "lwlrap")] == [-0.2, -0.3, 0.9]
    assert not math.isnan(gain(row, "loss"))
