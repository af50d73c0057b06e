"""One contract for every network, and the published sizes."""

import functools

import pytest
import torch
from torch import nn

from labelkit.errors import InvalidInput
from labelkit.models import check_window, create_model, list_models, main_logits

# Bands and frames of which a network's pooling just leaves something.
SMALLEST = {
    "densenet121": (29, 29),
    "dense_m2": (8, 8),
    "resnet18": (1, 1),
    "resnet34": (1, 1),
    "se_resnext50": (1, 1),
    "vgg16_bn": (32, 32),
    "vgg16_bn_pooled": (32, 32),
    "vgg_gap": (47, 191),
}

DROPOUT = {
    "aux_skip_attention": (0.4, 0.2),
    "cnn_model_1": (0.25, 0.5),
    "dense_m0": (0.2, 0.1),
    "rnn_aux_skip_attention": (0.4, 0.2),
    "simple_attention": (0.2, 0.1),
    "skip_attention": (0.2, 0.1),
    "skip_attention_k3": (0.2, 0.1),
    "vgg16_bn": (0.5, 0.5),
    "vgg16_bn_pooled": (0.25, 0.5),
    "vgg_gap": (0.3,) * 8 + (0.5, 0.5),
}

AUXILIARY = ["aux_skip_attention", "rnn_aux_skip_attention"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(params=list_models())
def name(request):
    return request.param


@functools.cache
def small(name):
    torch.manual_seed(0)
    return create_model(name, 5, in_channels=1, width=4).eval()


def heads(output):
    return output if isinstance(output, tuple) else (output,)


@pytest.mark.parametrize("n_classes, size", [(2, (64, 384)), (41, (77, 211)), (80, None)])
def test_logits_for_any_classes_and_size(name, n_classes, size):
    bands, frames = size or SMALLEST.get(name, (16, 16))
    model = create_model(name, n_classes, in_channels=2, width=4).eval()
    with torch.no_grad():
        output = model(torch.randn(3, 2, bands, frames))
    assert len(heads(output)) == (4 if name in AUXILIARY else 1)
    for logits in heads(output):
        assert logits.shape == (3, n_classes)
        assert torch.isfinite(logits).all()


def test_every_parameter_has_a_gradient(name):
    model = create_model(name, 5, in_channels=3, width=16)
    sum(part.square().sum() for part in heads(model(torch.randn(4, 3, 64, 224)))).backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias right before batch normalisation moves nothing, so its gradient may vanish.
    assert [key for key in without if not key.endswith("bias")] == []


def test_halves_make_the_whole_and_state_survives(name, tmp_path):
    model = small(name)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    twin = create_model(name, 5, in_channels=1, width=4).eval()
    twin.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))
    x = torch.randn(2, 1, 64, 224)
    with torch.no_grad():
        torch.testing.assert_close(model.forward_head(model.forward_features(x)), twin(x))


def test_features_under_autocast_and_channels_last(name):
    x = torch.randn(2, 1, 64, 224)
    model = create_model(name, 5, in_channels=1, width=8).eval()
    with torch.no_grad():
        plain = heads(model.forward_features(x))
        model = model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
        moved = heads(model.forward_features(x))
        with torch.autocast("cpu", torch.bfloat16):
            rounded = heads(model.forward_features(x))
    for a, b, c in zip(plain, moved, rounded, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
        assert (a - c.float()).norm() < 0.1 * a.norm()


def test_dropout_is_published_unless_set(name):
    def rates(**options):
        with torch.device("meta"):
            model = create_model(name, 5, width=4, **options)
        return tuple(m.p for m in model.modules() if isinstance(m, nn.Dropout))

    if name not in DROPOUT:
        assert rates() == ()
        message = f"{name} has no dropout to set; leave model.dropout unset"
        with pytest.raises(InvalidInput, match=message):
            rates(dropout=0.1)
        return
    published = DROPOUT[name]
    assert rates() == pytest.approx(published * (4 if name in AUXILIARY else 1))
    assert set(rates(dropout=0)) == {0}
    halved = tuple(p / 2 for p in published) * (4 if name in AUXILIARY else 1)
    assert rates(dropout=max(published) / 2) == pytest.approx(halved)


@pytest.mark.parametrize("width", [1, 5, 12])
@pytest.mark.parametrize("n", ["densenet121", "se_resnext50", "skip_attention", "vgg_gap"])
def test_odd_widths(n, width):
    with torch.device("meta"):
        model = create_model(n, 3, in_channels=1, width=width).eval()
        assert model(torch.empty(1, 1, 64, 224)).shape == (1, 3)


# Name, classes, channels, width, parameters, features of one 128 x 256 window.
PUBLISHED = [
    ("aux_skip_attention", 80, 3, 64, 17_326_950, (512,)),
    ("cnn_model_1", 80, 3, 64, 5_258_128, (1024,)),
    ("dense_m0", 80, 1, 64, 4_764_305, (512,)),
    ("dense_m1", 80, 1, 64, 6_380_753, (1024,)),
    ("dense_m2", 80, 1, 64, 6_720_593, (1792,)),
    ("dense_m3", 80, 1, 64, 26_129_489, (3840,)),
    ("dense_m4", 80, 1, 64, 25_667_153, (2048,)),
    ("densenet121", 1000, 3, 64, 7_978_856, (1024,)),
    ("resnet18", 1000, 3, 64, 11_689_512, (512,)),
    ("resnet34", 1000, 3, 64, 21_797_672, (512,)),
    ("rnn_aux_skip_attention", 80, 3, 64, 22_054_246, (512,)),
    ("se_resnext50", 1000, 3, 64, 27_559_896, (2048,)),
    ("simple_attention", 80, 3, 64, 4_807_961, (512,)),
    ("skip_attention", 80, 3, 64, 16_793_587, (512,)),
    ("skip_attention_k3", 80, 3, 64, 16_793_507, (512,)),
    ("vgg16_bn", 1000, 3, 64, 138_365_992, (25_088,)),
    ("vgg16_bn_pooled", 80, 3, 64, 15_292_048, (1024,)),
    ("vgg_gap", 41, 1, 64, 14_855_570, (512, 6, 2)),
    ("vgg_gap", 41, 1, 48, 8_362_306, (384, 6, 2)),
]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row[0]}-{row[3]}")
def test_published_sizes(row):
    name, n_classes, in_channels, width, n_parameters, shape = row
    with torch.device("meta"):
        # At width 64 nothing is passed, so that the defaults are what is counted.
        model = create_model(name, n_classes, width=None if width == 64 else width).eval()
        features = heads(model.forward_features(torch.empty(1, in_channels, 128, 256)))
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    assert {part.shape for part in features} == {(1, *shape)}


def test_every_name_has_a_published_size():
    assert {row[0] for row in PUBLISHED} == set(list_models())


@pytest.mark.parametrize("width, n_numbers", [(64, 14_865_124), (48, 8_369_492)])
def test_vgg_gap_counts_the_statistics_of_batch_normalisation(width, n_numbers):
    with torch.device("meta"):
        state = create_model("vgg_gap", 41, width=width).state_dict()
    counted = {key: v for key, v in state.items() if not key.endswith("num_batches_tracked")}
    assert sum(v.numel() for v in counted.values()) == n_numbers


@pytest.mark.parametrize("frames, places", [(384, 4), (3000, 44)])
def test_vgg_gap_averages_logits_over_any_length(frames, places):
    model = create_model("vgg_gap", 41, width=4).eval()
    with torch.no_grad():
        features = model.forward_features(torch.randn(2, 1, 128, frames))
        logits = model.forward_head(features)
        by_place = model.head.conv(features)
    assert features.shape == (2, 32, 6, places)
    torch.testing.assert_close(logits, by_place.mean(dim=(2, 3)))


def test_skips_of_the_published_size():
    with torch.device("meta"):
        maps = create_model("aux_skip_attention", 80).trunk(torch.empty(2, 3, 128, 256))
    assert [part.shape for part in maps] == [(2, 512, 8, 16)] * 4


@pytest.mark.parametrize("n", AUXILIARY)
def test_auxiliary_heads_follow_the_main_one_from_the_last_skip_on(n):
    model = small(n)
    x = torch.randn(2, 1, 37, 83)
    with torch.no_grad():
        before = model(x)
        changed = []
        for position in (3, 2, 1):
            # Numbers from here on change, and with them the heads that see them.
            block = model.trunk.blocks[position]
            model.trunk.blocks[position] = nn.Sequential(block, nn.Hardtanh(0, 1e-3))
            after = model(x)
            model.trunk.blocks[position] = block
            changed.append([not torch.equal(a, b) for a, b in zip(before, after, strict=True)])
    # Main, aux3, aux2, aux1: the fourth block feeds no skip, the second feeds skips 2 and 3.
    assert changed == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
    ]
    assert torch.equal(main_logits(before), before[0])


def test_main_logits_of_a_network_with_one_head():
    logits = torch.zeros(2, 3)
    assert main_logits(logits) is logits


@pytest.mark.parametrize("options", [{"width": 0}, {"in_channels": 0}])
def test_sizes_below_one(options):
    with pytest.raises(InvalidInput, match="must be at least 1, got 0"):
        create_model("dense_m1", 3, **options)


@pytest.mark.parametrize("dropout", [-0.1, 1, float("nan")])
def test_dropout_outside_its_range(dropout):
    message = f"dense_m0: dropout must be at least 0 and below 1, got {dropout}"
    with pytest.raises(InvalidInput, match=message):
        create_model("dense_m0", 3, dropout=dropout)


@pytest.mark.parametrize("axis", [0, 1])
def test_smallest_window(name, axis):
    size = list(SMALLEST.get(name, (16, 16)))
    check_window(small(name), name, 1, *size)
    size[axis] -= 1
    message = (
        f"a window of {size[0]} bands x {size[1]} frames is too small for {name}: .+; "
        "set input.frames or features.n_mels higher"
    )
    with pytest.raises(InvalidInput, match=message):
        check_window(small(name), name, 1, *size)


def test_check_window_leaves_the_network_as_it_was():
    model = create_model("dense_m0", 3, width=4)
    model.head.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    check_window(model, "dense_m0", 1, 32, 32)
    with pytest.raises(InvalidInput, match="too small"):
        check_window(model, "dense_m0", 1, 8, 8)
    assert model.training and model.body.training and not model.head[0].training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


class Fails(nn.Module):
    """A network of which only what it raises or returns matters."""

    def __init__(self, outcome):
        super().__init__()
        self.outcome = outcome

    def forward(self, x):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def test_window_with_undefined_logits():
    with pytest.raises(InvalidInput, match=r"too small for n: its output is not finite; set"):
        check_window(Fails(torch.full((2, 3), torch.nan)), "n", 1, 8, 8)


@pytest.mark.parametrize(
    "outcome",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory"),
    ],
)
def test_window_beyond_memory(outcome):
    message = "a window of 8 bands x 9 frames is too long for n: memory does not suffice; set "
    with pytest.raises(InvalidInput, match=message + r"input\.frames lower"):
        check_window(Fails(outcome), "n", 1, 8, 9)


@pytest.mark.parametrize("exponent", [50, 62])
def test_window_beyond_any_memory(exponent):
    with pytest.raises(InvalidInput, match="is too long for dense_m0: memory does not suffice"):
        check_window(small("dense_m0"), "dense_m0", 1, 64, 2**exponent)
