"""Ranges and gains from data: less error than before, and near the least there is."""

from __future__ import annotations

import copy

import pytest
import torch
from onchip import error, heavy, linear, on, seeded
from torch import Tensor, nn

import photonic
from photonic.backends.base import Backend
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.simulated import open_simulated
from photonic.records import BackendSpec


def test_heavy_tails_lose_most_of_their_error() -> None:
    """On sim:typical, against each batch's absolute maximum, and on other data than was fitted."""
    layer, test = linear(96, 128), heavy(256, 128, 9)
    model = on(layer)
    before = error(model, layer, test)
    report = photonic.fit_ranges(model, [heavy(256, 128, seed) for seed in range(4)])
    assert error(model, layer, test) < before / 2
    assert report[0].error_after < report[0].error_before / 2
    assert 0 < report[0].clipped < 0.02
    assert model.input_range == pytest.approx(report[0].range)
    assert report[0].range < report[0].largest / 2


@pytest.mark.parametrize("adc_bits", [5, 8])
@pytest.mark.parametrize("data", ["normal", "heavy"])
def test_no_other_range_is_much_better(adc_bits: int, data: str) -> None:
    """A sweep over ranges, each measured on the chip, finds none that is better by 10 %."""

    def draw(seed: int) -> Tensor:
        return heavy(256, 128, seed) if data == "heavy" else torch.randn(256, 128, generator=seeded(seed))

    layer, test = linear(64, 128), draw(9)
    model = on(layer, adc_bits=adc_bits)
    chosen = photonic.fit_ranges(model, [draw(0), draw(1)])[0].range
    fitted = error(model, layer, test)
    for factor in (0.4, 0.6, 0.8, 1.25, 1.6, 2.5):
        photonic.set_input_range(model, chosen * factor)
        assert error(model, layer, test) > 0.9 * fitted
    photonic.set_input_range(model, None)
    assert error(model, layer, test) > 1.2 * fitted


def test_gains_lower_the_error_where_tiles_use_little_of_the_adc() -> None:
    """Random signs in 2 x 4 tiles; no single gain for all of them is better."""
    layer = linear(128, 256)
    x, test = (torch.randn(256, 256, generator=seeded(seed)) for seed in (1, 2))
    model = on(layer, adc_bits=6)
    photonic.fit_ranges(model, [x], adc=False)
    assert model.backend.site.gains is None
    plain = error(model, layer, test)
    report = photonic.fit_ranges(model, [x])
    fitted = error(model, layer, test)
    assert fitted < 0.8 * plain
    assert sum(report[0].gains.values()) == 8
    assert min(report[0].gains) > 1
    for gain in (1.0, 2.0, 4.0, 8.0):
        model.backend.site.gains = torch.full((2, 4), gain)
        assert error(model, layer, test) > 0.97 * fitted


def test_gains_help_at_eight_bits_too() -> None:
    """Less, for the chip's noise is larger than its steps; the range is the same in both."""
    layer = linear(128, 256)
    x, test = (torch.randn(512, 256, generator=seeded(seed)) for seed in (1, 2))
    model = on(layer)
    photonic.fit_ranges(model, [x])
    fitted = error(model, layer, test)
    model.backend.site.gains = None
    assert fitted < 0.98 * error(model, layer, test)


def test_each_tile_has_its_own_gain() -> None:
    """A tile of one sign fills the ADC by itself; its neighbour of random signs needs gain."""
    layer = linear(64, 128)
    with torch.no_grad():
        layer.weight[:, :64].fill_(1 / 8)
    model = on(layer)
    photonic.fit_ranges(model, [torch.rand(256, 128, generator=seeded(1)) * 0.4])
    gains = model.backend.site.gains
    assert gains.shape == (1, 2)
    assert gains[0, 0] == 1.0
    assert gains[0, 1] >= 4.0


def test_a_layer_that_saturates_gets_a_wider_range() -> None:
    """Positive weights and inputs: D is far beyond the rails at the largest |x|; the range grows beyond it."""
    layer = linear(64, 64)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 1.0, generator=seeded(3))
    x, test = torch.rand(256, 64, generator=seeded(1)), torch.rand(256, 64, generator=seeded(2))
    model = on(layer)
    before = error(model, layer, test)
    report = photonic.fit_ranges(model, [x])
    assert report[0].saturated_before > 0.9
    assert report[0].saturated_after < 1e-3
    assert report[0].range > report[0].largest
    assert report.passes > 2
    assert error(model, layer, test) < before / 2


def test_a_chip_without_gains_has_its_ranges_fitted() -> None:
    """Nothing is sent that the chip does not offer."""
    chip = open_simulated("typical")
    chip.spec = chip.spec.model_copy(update={"conditions": {}, "tile_conditions": ()})
    layer, test = linear(64, 64), heavy(128, 64, 9)
    model = photonic.convert_(copy.deepcopy(layer), CalibratedBackend(chip))
    before = error(model, layer, test)
    report = photonic.fit_ranges(model, [heavy(128, 64, 0)])
    assert (report[0].gains, model.backend.site.gains) == ({}, None)
    assert error(model, layer, test) < 0.6 * before


def test_without_converters_nothing_is_clipped() -> None:
    """An ideal chip: the range is the largest |x|, the error is nothing."""
    model = photonic.convert_(linear(8, 8), CalibratedBackend(open_simulated("ideal")))
    x = torch.randn(64, 8, generator=seeded(0))
    report = photonic.fit_ranges(model, [x])
    assert report[0].range == pytest.approx(float(x.abs().max()))
    assert (report[0].error_before, report[0].error_after, report[0].clipped, report[0].gains) == (0, 0, 0, {})


class Silent(Backend):
    """Has a chip's converters and noise, and shows no counts, as a statistical twin."""

    def __init__(self) -> None:
        super().__init__(BackendSpec(name="silent", chip=open_simulated("typical").spec))

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.mT


def test_a_backend_that_shows_no_counts_gets_the_range_of_its_chip() -> None:
    """The chip's noise is that of its data sheet; gains are left alone."""
    x = [heavy(128, 96, 0)]
    silent, model = photonic.convert_(linear(128, 96), Silent()), on(linear(128, 96))
    report = photonic.fit_ranges(silent, x)
    assert report[0].range == pytest.approx(photonic.fit_ranges(model, x, adc=False)[0].range)
    assert (report[0].gains, report[0].saturated_after) == ({}, None)


def test_gains_stay_when_the_weight_changes_and_saturation_is_counted() -> None:
    """Results are right at any gain; a weight that grew into its ADC's rails shows in the routes."""
    layer = linear(64, 64)
    model, x = on(layer), torch.rand(128, 64, generator=seeded(0))
    photonic.fit_ranges(model, [x])
    with torch.no_grad():
        model.weight.copy_(torch.randn(64, 64, generator=seeded(5)) / 8)
        layer.weight.copy_(model.weight)
    assert error(model, layer, x) < 0.5
    before = photonic.routes(model)[0].usage.saturated
    with torch.no_grad():
        model.weight.abs_()
    model(x)
    assert photonic.routes(model)[0].usage.saturated > before


def test_fitting_again_changes_little() -> None:
    """The second fit starts from the ranges and gains of the first, and ends near them."""
    model = photonic.convert_(nn.Sequential(linear(64, 64), nn.Tanh(), linear(64, 64)), photonic.open_backend("sim"))
    x = [torch.randn(256, 64, generator=seeded(0))]
    first, second = photonic.fit_ranges(model, x), photonic.fit_ranges(model, x)
    for one, other in zip(first, second, strict=True):
        assert other.range == pytest.approx(one.range, rel=0.1)
        assert other.error_before == pytest.approx(one.error_after, rel=0.1)


def test_ranges_do_not_shrink_with_what_the_layers_before_clamp() -> None:
    """Layer upon layer on a noisy chip: the second pass sees clamped activations, the ranges are of the whole ones."""
    net = nn.Sequential(*(layer for seed in range(4) for layer in (linear(64, 64, seed), nn.ReLU())))
    with torch.no_grad():
        for layer in net[::2]:
            layer.weight.mul_(2)
    backend = CalibratedBackend(open_simulated("pessimistic", resonance_spread_nm=0, fwhm_spread=0))
    model, x = photonic.convert_(net, backend), [torch.randn(256, 64, generator=seeded(9))]
    alone = photonic.fit_ranges(model, x, adc=False)
    whole = photonic.fit_ranges(model, x)
    assert all(fit.clipped > 0.05 for fit in alone)
    # noise moves the ranges of the last layers by some 10 %
    assert all(fit.range > 0.8 * one.range for one, fit in zip(alone, whole, strict=True))


@pytest.mark.parametrize("options", [{"sign": "offset"}, {"sign": "space"}, {"shots": 4}, {"weight_scale": "tile"}])
def test_every_encoding_is_fitted(options: dict[str, object]) -> None:
    """The expected error is the measured one on a chip without hidden spread, to a quarter."""
    noise = {"shot_noise": True, "thermal_noise_a_per_rthz": 15e-12}
    chip = open_simulated("crossbar-ideal", input_bits=8, adc_bits=8, adc_full_scale=0.25, **noise)
    layer, test = linear(64, 64), torch.randn(1024, 64, generator=seeded(9))
    model = photonic.convert_(copy.deepcopy(layer), CalibratedBackend(chip, **options))
    report = photonic.fit_ranges(model, [torch.randn(1024, 64, generator=seeded(0))])
    assert error(model, layer, test) == pytest.approx(report[0].error_after, rel=0.25)
    assert (model.backend.site.gains is None) == (options.get("sign") == "space")
