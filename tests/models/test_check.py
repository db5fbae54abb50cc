"""``photonic.check`` finds every layer whose numbers leave the range where its backend is right."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import photonic
from photonic.errors import ConversionError, RangeError, ShapeError


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 20), nn.ReLU(), nn.Linear(20, 4)
    )


X = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def test_a_model_within_range_gets_a_table() -> None:
    """Each layer with the way in which its product was computed."""
    model = photonic.convert_(_network(), "twin")
    found = photonic.check(model, X)
    assert [layer.name for layer in found] == ["0", "3", "5"]
    assert [layer.judgements[0].way for layer in found] == ["native convolution", "row by row", "row by row"]
    assert all(layer.calls == 1 and layer.judgements[0].clipped == 0 for layer in found)
    assert "native convolution" in str(found)
    assert "twin:typical?device=0" in str(found)


def test_all_layers_that_are_wrong_are_named_at_once() -> None:
    """And the layers that are right are not."""
    coarse = photonic.open_backend("twin:typical?adc_full_scale=0.01")
    model = photonic.convert_(_network(), {"*": coarse, "3": photonic.open_backend("twin")})
    with pytest.raises(RangeError, match=r"layer 0: .*layer 5: ") as caught:
        photonic.check(model, [(X, None), (X[:2], None)])
    assert "layer 3" not in str(caught.value)
    # afterwards a refusal stops the layer again
    with pytest.raises(RangeError, match="layer 0"):
        model(X)


def test_exact_chips_report_their_saturation() -> None:
    """Since the call began, not since conversion."""
    model = photonic.convert_(_network(), "sim:typical?adc_full_scale=0.02")
    model(X)
    found = photonic.check(model, X)
    assert found[0].calls == 1
    assert 0.1 < found[0].saturated_fraction < 1
    assert found[0].judgements == ()


def test_neither_mode_nor_gradients_change() -> None:
    """It looks and touches nothing."""
    model = photonic.convert_(_network(), "twin").train()
    photonic.check(model, X)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_nothing_to_check_is_an_error() -> None:
    """No converted layer, no data, and data that meets none of the layers."""
    with pytest.raises(ConversionError, match="no converted layer"):
        photonic.check(_network(), X)
    model = photonic.convert_(_network(), "twin")
    with pytest.raises(ShapeError, match="at least one batch"):
        photonic.check(model, [])
