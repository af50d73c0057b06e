"""One contract for every network, and the published sizes."""

import pytest
import torch

from labelkit.errors import InvalidInput
from labelkit.models import create_model, list_models


@pytest.fixture(params=list_models())
def name(request):
    return request.param


@pytest.mark.parametrize("n_classes", [2, 41, 80])
@pytest.mark.parametrize("size", [(32, 128), (17, 41), (64, 131)])
def test_logits_for_any_classes_and_length(name, n_classes, size):
    model = create_model(name, n_classes, width=4).eval()
    with torch.no_grad():
        logits = model(torch.randn(3, 1, *size))
    assert logits.shape == (3, n_classes)
    assert torch.isfinite(logits).all()


def test_every_parameter_has_a_gradient(name):
    model = create_model(name, 5, width=4, in_channels=3)
    model(torch.randn(4, 3, 32, 48)).square().sum().backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias right before batch normalisation moves nothing, so its gradient may vanish.
    assert [key for key in without if not key.endswith("bias")] == []


def test_halves_make_the_whole_and_state_survives(name, tmp_path):
    model = create_model(name, 5, width=4).eval()
    x = torch.randn(2, 1, 32, 64)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    twin = create_model(name, 5, width=4).eval()
    twin.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))
    with torch.no_grad():
        torch.testing.assert_close(model.forward_head(model.forward_features(x)), twin(x))


def test_dense_m1_is_of_the_published_size():
    model = create_model("dense_m1", 80)
    assert sum(p.numel() for p in model.parameters()) == 6_380_753
    with torch.no_grad():
        assert model.forward_features(torch.randn(1, 1, 64, 64)).shape == (1, 1024)


@pytest.mark.parametrize("options", [{"width": 0}, {"in_channels": 0}])
def test_sizes_below_one(options):
    with pytest.raises(InvalidInput, match="must be at least 1, got 0"):
        create_model("dense_m1", 3, **options)
