"""Augmentation: one contract over every registered name, then each against a naive version."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from labelkit import registry
from labelkit.config.settings import create_spec
from labelkit.errors import InvalidInput
from labelkit.training.augment import (
    BrightnessContrast,
    RandomErasing,
    RandomResizedCrop,
    SpecAugment,
    Zoom,
)
from labelkit.training.mixing import (
    Compose,
    Mixup,
    OneOf,
    SigmoidConcat,
    SpecMix,
    create_augmentations,
)

NAMES = registry.names("augmentation")
SHAPES = [(8, 1, 17, 41), (7, 3, 32, 64), (5, 1, 16, 16), (3, 1, 1, 1)]

# Settings without which a name does nothing, and those with which it must do nothing.
NEEDED = {
    "one_of": {"of": {"mixup": {}, "cut": {"kind": "spec_mix"}, "sigmoid_concat": {"weight": 2}}}
}
STILL = {
    "brightness_contrast": {"brightness": 0, "contrast": 0},
    "mixup": {"alpha": 0},
    "one_of": {"of": {}},
    "random_erasing": {"area_low": 0, "area_high": 0},
    "random_resized_crop": {"scale_low": 1, "aspect_low": 41 / 17, "aspect_high": 41 / 17},
    "spec_augment": {"masks": 0},
    "spec_mix": {"freq_share": 0, "time_share": 0},
    "zoom": {"most": 1},
}


def make(name, **values):
    filled = {**NEEDED.get(name, {}), **values}
    return create_spec(registry.resolve("augmentation", name), filled)


def noise(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(-1, 2, shape).astype(np.float32))


def change(step, x, params, other=None):
    if not step.mixes:
        return step.apply(x, params)
    return step.apply(x, noise(x.shape, seed=9).to(x.dtype) if other is None else other, params)


def arrays(params):
    for part in params:
        yield from arrays(part) if isinstance(part, tuple) else [part]


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_valid_and_survive_a_recipe(name):
    cls = registry.resolve("augmentation", name)
    assert create_spec(cls, {}) == cls()
    single, mixers = create_augmentations(create_spec(OneOf, {"of": {name: {}}}).of)
    assert [*single.steps, *mixers] == [cls()]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_same_state_same_result_in_shape_type_and_finite(name, shape):
    step, x = make(name), noise(shape)
    before = x.clone()
    draws = [step.draw(np.random.default_rng(3), shape) for _ in range(2)]
    for a, b in zip(*map(arrays, draws), strict=True):
        np.testing.assert_array_equal(a, b)
    assert draws[0][0].dtype == bool and draws[0][0].shape == shape[:1]
    first, again = (change(step, x, params) for params in draws)
    assert torch.equal(first, again) and torch.equal(x, before)
    assert first.shape == x.shape and first.dtype == x.dtype and first.isfinite().all()
    assert shape[2:] == (1, 1) or not torch.equal(first, x)
    half = change(step, x.to(torch.bfloat16), draws[0])
    assert half.dtype == torch.bfloat16 and half.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_identity_without_chance_or_strength(name):
    x, targets = noise(SHAPES[0]), torch.rand(8, 5)
    for values in ({"p": 0}, *([STILL[name]] if name in STILL else [])):
        step = make(name, **values)
        params = step.draw(np.random.default_rng(0), SHAPES[0])
        assert torch.equal(change(step, x, params), x)
        if step.mixes:
            assert torch.equal(step.apply_targets(targets, targets.flip(0), params), targets)


@pytest.mark.parametrize("name", NAMES)
def test_p_is_the_share_of_changed_samples(name):
    shape = (400, 1, 9, 20)
    step, x = make(name, p=0.3), noise(shape)
    params = step.draw(np.random.default_rng(0), shape)
    chosen = torch.from_numpy(params[0])
    assert 0.22 < chosen.float().mean() < 0.38
    same = (change(step, x, params) == x).flatten(1).all(1)
    assert same[~chosen].all()
    # Narrow masks and whole boxes change nothing now and then.
    assert same[chosen].float().mean() < 0.5
    if step.mixes:
        targets = torch.eye(400)[:, :390]
        mixed = step.apply_targets(targets, targets.flip(0), params)
        assert torch.equal(mixed[~chosen], targets[~chosen])
        assert not torch.equal(mixed[chosen], targets[chosen])


@pytest.mark.parametrize("name", ["augment", "mixing"])
def test_importing_needs_no_torch(name):
    code = f"import sys, labelkit.training.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("spec_augment", {"least": 3, "masks": 2}),
        ("zoom", {"least": 1.2, "most": 1.1}),
        ("random_resized_crop", {"scale_low": 0.9, "scale_high": 0.8}),
        ("random_erasing", {"aspect_low": 3, "aspect_high": 2}),
        ("sigmoid_concat", {"radius_low": 20}),
        ("mixup", {"partner": "enemy"}),
        ("brightness_contrast", {"contrast": 1}),
        ("one_of", {"of": {"mixup": {"weight": 0}}}),
        ("one_of", {"of": {"mixup": {}, "zoom": {}}}),
        ("one_of", {"of": {"mixup": {"alfa": 1}}}),
    ],
)
def test_impossible_settings_are_refused(name, values):
    with pytest.raises(InvalidInput):
        make(name, **values)


# Each against a naive version.


@pytest.mark.parametrize("fill", ["zero", "min", "mean"])
def test_spec_augment_fills_the_drawn_cells(fill):
    shape = SHAPES[1]
    step, x = SpecAugment(masks=2, p=0.6, freq_share=0.4, fill=fill), noise(shape)
    chosen, freq, time = params = step.draw(np.random.default_rng(0), shape)
    expected = x.numpy().copy()
    for b in np.flatnonzero(chosen):
        value = {"zero": 0, "min": float(x[b].min()), "mean": float(x[b].mean())}[fill]
        for mel in range(shape[2]):
            for frame in range(shape[3]):
                if freq[b, mel] or time[b, frame]:
                    expected[b, :, mel, frame] = value
    np.testing.assert_allclose(step.apply(x, params), expected, rtol=1e-5, atol=1e-6)


def runs(mask):
    """Number of separate spans of each row."""
    padded = np.pad(mask.astype(int), ((0, 0), (1, 0)))
    return (np.diff(padded) == 1).sum(axis=1)


@pytest.mark.parametrize(("least", "most"), [(1, 2), (None, 2), (None, 1)])
def test_spec_augment_counts_its_masks(least, most):
    # So long and narrow that masks hardly ever touch: argus draws 1 or 2, the ninth 2 + 2.
    step = SpecAugment(masks=most, least=least, freq_share=0.02, time_share=0.02)
    _, freq, time = step.draw(np.random.default_rng(0), (500, 1, 4000, 4000))
    for mask in (freq, time):
        assert runs(mask).max() == most
        singles = (runs(mask) == 1).mean()
        assert singles == pytest.approx(
            {(1, 2): 0.52, (None, 2): 0.04}.get((least, most), 1), abs=0.1
        )
    if least == 1:
        assert (runs(freq) == runs(time)).mean() > 0.9


def test_spec_augment_is_never_wider_than_its_share():
    step = SpecAugment(freq_share=0.25, time_share=0.5)
    _, freq, time = step.draw(np.random.default_rng(0), (2000, 1, 20, 30))
    assert freq.sum(1).max() == 4 and time.sum(1).max() == 14
    assert freq.sum(1).min() == 0 and (runs(freq) <= 1).all()
    assert freq.any(0).all() and time.any(0).all()


def test_random_resized_crop_is_cutting_and_resizing():
    shape = SHAPES[1]
    step, x = RandomResizedCrop(scale_low=0.3, p=0.8), noise(shape)
    chosen, boxes = params = step.draw(np.random.default_rng(0), shape)
    changed = step.apply(x, params)
    for b, (top, left, height, width) in enumerate(boxes.astype(int)):
        cut = x[b : b + 1, :, top : top + height, left : left + width]
        expected = F.interpolate(cut, shape[2:], mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(
            changed[b], expected if chosen[b] else x[b], rtol=1e-4, atol=1e-4
        )


def test_random_resized_crop_keeps_to_its_bounds():
    _, boxes = RandomResizedCrop().draw(np.random.default_rng(0), (1000, 1, 128, 256))
    top, left, height, width = boxes.T
    assert (boxes == boxes.round()).all() and (boxes[:, 2:] >= 1).all() and boxes.min() == 0
    assert (top + height).max() == 128 and (left + width).max() == 256
    share, aspect = height * width / (128 * 256), width / height
    assert 0.79 < share.min() < 0.81 and 0.97 < share.max() <= 1
    assert 1.68 < aspect.min() < 1.75 and 2.25 < aspect.max() < 2.32


@pytest.mark.parametrize(
    ("size", "box"), [((64, 256), (0, 54, 64, 147)), ((100, 100), (20, 0, 59, 100))]
)
def test_random_resized_crop_falls_back_to_the_centre(size, box):
    _, boxes = RandomResizedCrop(scale_low=1).draw(np.random.default_rng(0), (20, 1, *size))
    assert (boxes == box).all()


@pytest.mark.parametrize("about", ["centre", "random"])
def test_zoom_is_bilinear_inside_its_box(about):
    shape = (4, 2, 9, 13)
    step, x = Zoom(most=1.6, about=about), noise(shape)
    _, boxes = params = step.draw(np.random.default_rng(0), shape)
    changed = step.apply(x, params).numpy()
    for b, (top, left, height, width) in enumerate(boxes):
        assert height / 9 == pytest.approx(width / 13) and 1 / 1.6 <= height / 9 <= 1
        if about == "centre":
            assert (2 * top + height, 2 * left + width) == pytest.approx((9, 13))
        for i in range(9):
            for j in range(13):
                row = top + min(max((i + 0.5) * height / 9 - 0.5, 0), height - 1)
                col = left + min(max((j + 0.5) * width / 13 - 0.5, 0), width - 1)
                expected = np.zeros(2)
                for r in (math.floor(row), min(math.floor(row) + 1, 8)):
                    for c in (math.floor(col), min(math.floor(col) + 1, 12)):
                        weight = (1 - abs(row - r)) * (1 - abs(col - c))
                        expected += weight * x[b, :, r, c].numpy()
                np.testing.assert_allclose(changed[b, :, i, j], expected, atol=1e-4)


def test_brightness_contrast_by_its_formula():
    shape = SHAPES[1]
    step, x = BrightnessContrast(brightness=0.5, contrast=0.5), noise(shape)
    _, shift, stretch = params = step.draw(np.random.default_rng(0), shape)
    for b, sample in enumerate(x.numpy().astype(float)):
        mean, std = sample.mean(), sample.std()
        expected = (sample - mean) * stretch[b] + mean + shift[b] * std
        np.testing.assert_allclose(step.apply(x, params)[b], expected, rtol=1e-4, atol=1e-4)
    _, shift, stretch = step.draw(np.random.default_rng(0), (2000, 1, 2, 2))
    assert -0.5 <= shift.min() < -0.48 and 0.48 < shift.max() <= 0.5
    assert 0.49 < stretch.min() < 0.51 and 1.97 < stretch.max() < 2.01
    assert np.median(stretch) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("fill", ["random", "zero", "min"])
def test_random_erasing_changes_one_box(fill):
    shape = (40, 2, 30, 50)
    step, x = RandomErasing(fill=fill, p=0.5), noise(shape)
    chosen, freq, time, _ = params = step.draw(np.random.default_rng(0), shape)
    changed = step.apply(x, params)
    assert (runs(freq) == 1).all() and (runs(time) == 1).all()
    for b in range(40):
        box = torch.from_numpy(np.outer(freq[b], time[b])) & bool(chosen[b])
        assert torch.equal(changed[b][:, ~box], x[b][:, ~box])
        inside = changed[b][:, box]
        if fill == "random" and chosen[b]:
            assert x[b].min() <= inside.min() < inside.max() <= x[b].max()
        elif chosen[b]:
            assert (inside == (0 if fill == "zero" else x[b].min())).all()
    if fill == "random":
        places = torch.cat(
            [
                ((changed[b] - x[b].min()) / (x[b].max() - x[b].min()))[
                    :, torch.from_numpy(np.outer(freq[b], time[b]))
                ].flatten()
                for b in np.flatnonzero(chosen)
            ]
        )
        assert places.mean() == pytest.approx(0.5, abs=0.02)
        assert places.std() == pytest.approx(12**-0.5, abs=0.02)


def test_random_erasing_keeps_to_its_bounds():
    _, freq, time, _ = RandomErasing().draw(np.random.default_rng(0), (2000, 1, 128, 128))
    height, width = freq.sum(1), time.sum(1)
    area, aspect = height * width / 128**2, height / width
    assert 0.017 < area.min() < 0.03 and 0.38 < area.max() < 0.42
    assert 0.27 < aspect.min() < 0.4 and 3.2 < aspect.max() < 3.7
    high = RandomErasing(area_high=0.1, aspect_low=2, aspect_high=3)
    _, freq, time, _ = high.draw(np.random.default_rng(0), (500, 1, 128, 128))
    assert (freq.sum(1) > 1.7 * time.sum(1)).all()
    # A band that cannot fit is cut to what there is.
    _, freq, _, _ = RandomErasing(area_low=0.4).draw(np.random.default_rng(0), (50, 1, 4, 900))
    assert freq.sum(1).max() == 4


@pytest.mark.parametrize("distribution", ["beta", "uniform"])
def test_mixup_blends_by_the_drawn_share(distribution):
    shape = SHAPES[1]
    step = Mixup(distribution=distribution, p=0.7)
    x, other, targets, others = noise(shape), noise(shape, 1), noise((7, 4), 2), noise((7, 4), 3)
    chosen, share = params = step.draw(np.random.default_rng(0), shape)
    assert not chosen.all()
    for b in range(7):
        own = share[b] if chosen[b] else 1
        for a, z, mixed in (
            (x, other, step.apply(x, other, params)),
            (targets, others, step.apply_targets(targets, others, params)),
            (targets[:, 0], others[:, 0], step.apply_targets(targets[:, 0], others[:, 0], params)),
        ):
            torch.testing.assert_close(mixed[b], own * a[b] + (1 - own) * z[b])


def test_mixup_shares_are_distributed_as_set():
    def shares(**values):
        return Mixup(**values).draw(np.random.default_rng(0), (5000, 1, 2, 2))[1]

    assert shares().min() >= 0.5
    free = shares(keep_larger=False)
    assert free.min() < 0.01 and free.mean() == pytest.approx(0.5, abs=0.02)
    assert free.var() == pytest.approx(0.25 / 1.8, abs=0.01)
    added = shares(distribution="uniform")
    assert 0.5 <= added.min() < 0.51 and added.mean() == pytest.approx(0.75, abs=0.01)
    assert len(np.unique(shares(per="batch"))) == 1


def test_sigmoid_concat_fades_over_and_takes_the_union():
    shape = SHAPES[1]
    step, x, other = SigmoidConcat(p=0.8), noise(shape), noise(shape, 1)
    chosen, radius = params = step.draw(np.random.default_rng(0), shape)
    mixed = step.apply(x, other, params).numpy()
    for b in range(7):
        for frame, at in enumerate(np.linspace(-radius[b], radius[b], shape[3])):
            own = 1 / (1 + math.exp(-at)) if chosen[b] else 1
            expected = own * x[b, :, :, frame] + (1 - own) * other[b, :, :, frame]
            np.testing.assert_allclose(mixed[b, :, :, frame], expected, rtol=1e-4, atol=1e-5)
    _, radius = SigmoidConcat().draw(np.random.default_rng(0), (500, 1, 2, 2))
    assert np.unique(radius).tolist() == list(range(3, 13))
    one, two = torch.tensor([[1.0, 0, 0.25, 0]]), torch.tensor([[1.0, 1, 0.5, 0]])
    union = SigmoidConcat().apply_targets(one, two, (np.array([True]), radius[:1]))
    assert union.tolist() == [[1, 1, 0.75, 0]]


@pytest.mark.parametrize("masks", [1, 2])
def test_spec_mix_replaces_the_drawn_cells(masks):
    shape = SHAPES[1]
    step, x, other = SpecMix(masks=masks, p=0.8), noise(shape), noise(shape, 1)
    chosen, freq, time, share = params = step.draw(np.random.default_rng(0), shape)
    mixed = step.apply(x, other, params)
    targets, others = noise((7, 4), 2), noise((7, 4), 3)
    labels = step.apply_targets(targets, others, params)
    for b in range(7):
        for mel in range(shape[2]):
            for frame in range(shape[3]):
                taken = chosen[b] and (freq[b, mel] or time[b, frame])
                source = other if taken else x
                assert (mixed[b, :, mel, frame] == source[b, :, mel, frame]).all()
        other_share = share[b] if chosen[b] else 0
        torch.testing.assert_close(
            labels[b], (1 - other_share) * targets[b] + other_share * others[b]
        )
    # The targets' share is that of the cells, up to rounding and to how two masks fell.
    _, freq, time, share = step.draw(np.random.default_rng(0), (2000, 1, 200, 200))
    cells = (freq[:, :, None] | time[:, None, :]).mean((1, 2))
    assert np.abs(cells - share).max() < (0.011 if masks == 1 else 0.25)
    assert cells.mean() == pytest.approx(share.mean(), abs=0.01)


class Fixed:
    """A generator whose fractions are given."""

    def __init__(self, *fractions):
        self.fractions = iter(fractions)

    def uniform(self, low, high, size):
        return np.full(size, next(self.fractions))

    def random(self, size):
        return np.full(size, 0.5)


@pytest.mark.parametrize(
    ("freq", "time", "masks", "share"),
    [(0.25, 0.25, 1, 0.4375), (0, 0.2, 1, 0.2), (0.1, 0, 1, 0.1), (0.5, 0, 2, 0.75)],
)
def test_spec_mix_share_of_unrounded_fractions(freq, time, masks, share):
    params = SpecMix(masks=masks).draw(Fixed(freq, time), (3, 1, 7, 7))
    assert params[3] == pytest.approx([share] * 3)


def test_one_of_gives_each_sample_one_choice_by_weight():
    shape = (3000, 1, 4, 6)
    step = OneOf(
        p=0.8,
        of={"sigmoid_concat": {"weight": 0.6}, "add": {"kind": "mixup", "weight": 0.4, "p": 0.5}},
    )
    chosen, sigmoid, add = params = step.draw(np.random.default_rng(0), shape)
    assert not (sigmoid[0] & add[0]).any() and ((sigmoid[0] | add[0]) == chosen).all()
    assert sigmoid[0].mean() == pytest.approx(0.48, abs=0.03)
    assert add[0].mean() == pytest.approx(0.16, abs=0.03)
    x, other = noise(shape), noise(shape, 1)
    targets, others = torch.rand(3000, 3), torch.rand(3000, 3)
    expected, labels = x.clone(), targets.clone()
    for child, own in zip(step.children, (sigmoid, add), strict=True):
        expected[own[0]] = child.apply(x, other, own)[own[0]]
        labels[own[0]] = child.apply_targets(targets, others, own)[own[0]]
    assert torch.equal(step.apply(x, other, params), expected)
    assert torch.equal(step.apply_targets(targets, others, params), labels)


def test_one_of_single_ones_and_of_itself():
    step = make(
        "one_of",
        of={"zoom": {"most": 2}, "deep": {"kind": "one_of", "of": {"spec_augment": {}}}},
    )
    assert not step.mixes and make("one_of").mixes and not OneOf().mixes
    shape = (200, 1, 12, 12)
    x = noise(shape)
    chosen, zoom, deep = params = step.draw(np.random.default_rng(0), shape)
    assert chosen.all() and (deep[0] == deep[1][0]).all() and (zoom[0] ^ deep[0]).all()
    changed = step.apply(x, params)
    masked = (changed == 0).flatten(1).any(1).numpy()
    assert not masked[zoom[0]].any() and masked[deep[0]].any()


def test_partners():
    def ask(name):
        return Mixup(partner=name).partners(np.random.default_rng(0), pools)

    pools = np.random.default_rng(1).integers(0, 3, 60)
    assert sorted(ask("permutation")) == list(range(60))
    assert ask("reverse").tolist() == list(range(59, -1, -1))
    assert ask("pool") is None and ask("any") is None
    inside = ask("batch_pool")
    assert sorted(inside) == list(range(60)) and (pools[inside] == pools).all()
    rng, pools = np.random.default_rng(0), np.array([1, 0, 1, 1])
    found = [Mixup(partner="batch_pool").partners(rng, pools)[0] for _ in range(600)]
    values, counts = np.unique(found, return_counts=True)
    assert values.tolist() == [0, 2, 3] and counts.min() > 150


def test_create_augmentations_parts_single_ones_from_mixers_in_order():
    tables = {
        "mix": {"kind": "mixup", "alpha": 0.2},
        "zoom": {},
        "masks": {"kind": "spec_augment", "masks": 2},
        "spec_mix": {},
        "either": {"kind": "one_of", "of": {"zoom": {}, "spec_augment": {}}},
    }
    single, mixers = create_augmentations({})
    assert single.steps == [] and mixers == []
    single, mixers = create_augmentations(tables)
    assert single.steps[:2] == [Zoom(), SpecAugment(masks=2)] and len(single.steps) == 3
    assert mixers == [Mixup(alpha=0.2), SpecMix()]


def test_compose_applies_its_steps_in_order():
    x = noise(SHAPES[0])
    steps = [Zoom(most=1.5), SpecAugment(freq_share=0.5)]
    params = Compose(steps).draw(np.random.default_rng(0), SHAPES[0])
    rng = np.random.default_rng(0)
    expected = x
    for step in steps:
        expected = step.apply(expected, step.draw(rng, SHAPES[0]))
    assert torch.equal(Compose(steps).apply(x, params), expected)
