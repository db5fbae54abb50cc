"""Ranges and gains from data: less error than before, near the least there is, and nothing else changed."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from exact_backend import ExactBackend
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import photonic
from photonic.backends.base import Backend
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.digital import DigitalBackend
from photonic.backends.simulated import open_simulated
from photonic.errors import ConversionError, DataError, RangeError, SaturationError, ShapeError
from photonic.records import BackendSpec


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _heavy(rows: int, n: int, seed: int) -> Tensor:
    """Lognormal magnitudes of both signs: the largest of a batch is some 50 times the typical one."""
    g = _generator(seed)
    return torch.randn(rows, n, generator=g) * torch.randn(rows, n, generator=g).exp()


def _linear(outputs: int, inputs: int, seed: int = 0) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=_generator(seed)) / math.sqrt(inputs))
    return layer


def _on(layer: nn.Module, **options: object) -> nn.Module:
    return photonic.convert_(copy.deepcopy(layer), CalibratedBackend(open_simulated("typical", **options)))


@torch.no_grad()
def _error(model: nn.Module, exact: nn.Module, x: Tensor) -> float:
    """Rms error of the chip's results, relative to their rms."""
    y = exact(x)
    return float((model(x) - y).norm() / y.norm())


def test_heavy_tails_lose_most_of_their_error() -> None:
    """On sim:typical, against each batch's absolute maximum, and on other data than was fitted."""
    layer, test = _linear(96, 128), _heavy(256, 128, 9)
    model = _on(layer)
    before = _error(model, layer, test)
    report = photonic.fit_ranges(model, [_heavy(256, 128, seed) for seed in range(4)])
    assert _error(model, layer, test) < before / 2
    assert report[0].error_after < report[0].error_before / 2
    assert 0 < report[0].clipped < 0.02
    assert model.input_range == pytest.approx(report[0].range)
    assert report[0].range < report[0].largest / 2


@pytest.mark.parametrize("adc_bits", [5, 8])
@pytest.mark.parametrize("data", ["normal", "heavy"])
def test_no_other_range_is_much_better(adc_bits: int, data: str) -> None:
    """A sweep over ranges, each measured on the chip, finds none that is better by 10 %."""

    def draw(seed: int) -> Tensor:
        return _heavy(256, 128, seed) if data == "heavy" else torch.randn(256, 128, generator=_generator(seed))

    layer, test = _linear(64, 128), draw(9)
    model = _on(layer, adc_bits=adc_bits)
    chosen = photonic.fit_ranges(model, [draw(0), draw(1)])[0].range
    fitted = _error(model, layer, test)
    for factor in (0.4, 0.6, 0.8, 1.25, 1.6, 2.5):
        photonic.set_input_range(model, chosen * factor)
        assert _error(model, layer, test) > 0.9 * fitted
    photonic.set_input_range(model, None)
    assert _error(model, layer, test) > 1.2 * fitted


def test_gains_lower_the_error_where_tiles_use_little_of_the_adc() -> None:
    """Random signs in 2 x 4 tiles; no single gain for all of them is better."""
    layer = _linear(128, 256)
    x, test = (torch.randn(256, 256, generator=_generator(seed)) for seed in (1, 2))
    model = _on(layer, adc_bits=6)
    photonic.fit_ranges(model, [x], adc=False)
    assert model.backend.site.gains is None
    plain = _error(model, layer, test)
    report = photonic.fit_ranges(model, [x])
    fitted = _error(model, layer, test)
    assert fitted < 0.8 * plain
    assert sum(report[0].gains.values()) == 8
    assert min(report[0].gains) > 1
    for gain in (1.0, 2.0, 4.0, 8.0):
        model.backend.site.gains = torch.full((2, 4), gain)
        assert _error(model, layer, test) > 0.97 * fitted


def test_gains_help_at_eight_bits_too() -> None:
    """Less, for the chip's noise is larger than its steps; the range is the same in both."""
    layer = _linear(128, 256)
    x, test = (torch.randn(512, 256, generator=_generator(seed)) for seed in (1, 2))
    model = _on(layer)
    photonic.fit_ranges(model, [x])
    fitted = _error(model, layer, test)
    model.backend.site.gains = None
    assert fitted < 0.98 * _error(model, layer, test)


def test_each_tile_has_its_own_gain() -> None:
    """A tile of one sign fills the ADC by itself; its neighbour of random signs needs gain."""
    layer = _linear(64, 128)
    with torch.no_grad():
        layer.weight[:, :64].fill_(1 / 8)
    model = _on(layer)
    photonic.fit_ranges(model, [torch.rand(256, 128, generator=_generator(1)) * 0.4])
    gains = model.backend.site.gains
    assert gains.shape == (1, 2)
    assert gains[0, 0] == 1.0
    assert gains[0, 1] >= 4.0


def test_a_layer_that_saturates_gets_a_wider_range() -> None:
    """Positive weights and inputs: D is far beyond the rails at the largest |x|; the range grows beyond it."""
    layer = _linear(64, 64)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 1.0, generator=_generator(3))
    x, test = torch.rand(256, 64, generator=_generator(1)), torch.rand(256, 64, generator=_generator(2))
    model = _on(layer)
    before = _error(model, layer, test)
    report = photonic.fit_ranges(model, [x])
    assert report[0].saturated_before > 0.9
    assert report[0].saturated_after < 1e-3
    assert report[0].range > report[0].largest
    assert report.passes > 2
    assert _error(model, layer, test) < before / 2


def test_a_chip_without_gains_has_its_ranges_fitted() -> None:
    """Nothing is sent that the chip does not offer."""
    chip = open_simulated("typical")
    chip.spec = chip.spec.model_copy(update={"conditions": {}, "tile_conditions": ()})
    layer, test = _linear(64, 64), _heavy(128, 64, 9)
    model = photonic.convert_(copy.deepcopy(layer), CalibratedBackend(chip))
    before = _error(model, layer, test)
    report = photonic.fit_ranges(model, [_heavy(128, 64, 0)])
    assert (report[0].gains, model.backend.site.gains) == ({}, None)
    assert _error(model, layer, test) < 0.6 * before


def test_without_converters_nothing_is_clipped() -> None:
    """An ideal chip: the range is the largest |x|, the error is nothing."""
    model = photonic.convert_(_linear(8, 8), CalibratedBackend(open_simulated("ideal")))
    x = torch.randn(64, 8, generator=_generator(0))
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
    x = [_heavy(128, 96, 0)]
    silent, model = photonic.convert_(_linear(128, 96), Silent()), _on(_linear(128, 96))
    report = photonic.fit_ranges(silent, x)
    assert report[0].range == pytest.approx(photonic.fit_ranges(model, x, adc=False)[0].range)
    assert (report[0].gains, report[0].saturated_after) == ({}, None)


def _net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(4 * 36, 10),
    )


def test_nothing_else_of_the_model_changes() -> None:
    """Weights, statistics, modes of each module, gradients, hooks, the global generator; shots are counted."""
    model = photonic.convert_(_net(), photonic.open_backend("sim", seed=0))
    model[1].eval()
    state = copy.deepcopy(model.state_dict())
    generator = torch.get_rng_state()
    report = photonic.fit_ranges(model, [torch.randn(8, 2, 6, 6, generator=_generator(0))])
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert list(model.state_dict()) == list(state)
    assert [module.training for module in model] == [True, False, True, True, True, True]
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(module._forward_pre_hooks for module in model)
    assert model[0].backend.site.observe is None
    routes = [row for row in photonic.routes(model) if row.tiles]
    assert [row.usage.calls for row in routes] == [report.passes] * 2
    assert [row.clipped_fraction for row in routes] == [0, 0]
    model(torch.randn(4, 2, 6, 6, requires_grad=True)).sum().backward()
    assert model[5].weight.grad is not None


def test_every_kind_of_layer_is_fitted() -> None:
    """Convolutions in groups, self-attention in one product and its out_proj."""
    model = photonic.convert_(_net(), photonic.open_backend("sim", seed=0))
    report = photonic.fit_ranges(model, DataLoader(TensorDataset(torch.rand(16, 2, 6, 6), torch.zeros(16)), 8))
    assert [layer.name for layer in report] == ["0", "5"]
    assert model[0].backend.site.gains.shape == (1, 2)
    assert report.ranges == {"0": pytest.approx(model[0].input_range), "5": pytest.approx(model[5].input_range)}
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    photonic.convert_(encoder, photonic.open_backend("sim", seed=0))
    report = photonic.fit_ranges(encoder, [torch.randn(4, 5, 8, generator=_generator(0))])
    assert [layer.name for layer in report] == ["self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2"]
    assert all(layer.range and layer.gains for layer in report)


@pytest.mark.parametrize("kdim", [None, 6])
def test_cross_attention_keeps_its_gain(kdim: int | None) -> None:
    """Query, key and value are products of their own; the range holds all three, gains are left alone."""
    attention = nn.MultiheadAttention(32, 2, kdim=kdim, vdim=kdim, batch_first=True)
    photonic.convert_(attention, photonic.open_backend("sim", seed=0))
    memory = 9 * torch.randn(4, 5, kdim or 32, generator=_generator(0))
    report = photonic.fit_ranges(
        attention, [torch.randn(4, 3, 32, generator=_generator(1))], call=lambda x: attention(x, memory, memory)
    )
    assert report[0].largest == pytest.approx(float(memory.abs().max()))
    assert report[0].note.startswith("gains left")
    assert attention.backend.site.gains is None
    assert attention.out_proj.backend.site.gains is not None
    attention(torch.randn(2, 3, 32), memory[:2], memory[:2])


def test_layers_without_a_range_say_why() -> None:
    """Never called, only zeros; digital layers are none of its business."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle, self.dark, self.exact = (nn.Linear(4, 4) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.exact(self.used(x)) + self.dark(torch.zeros_like(x))

    backend = photonic.open_backend("sim", seed=0)
    model = photonic.convert_(Model(), {"*": backend, "exact": DigitalBackend()})
    report = photonic.fit_ranges(model, [torch.randn(8, 4, generator=_generator(0))])
    assert [(layer.name, layer.note) for layer in report] == [
        ("used", ""),
        ("idle", "never called"),
        ("dark", "only zeros seen"),
    ]
    assert model.idle.input_range is None
    assert model.dark.input_range is None
    assert model.dark.backend.site.gains is None
    assert model.exact.input_range is None


def test_the_report_is_a_table() -> None:
    """One line for each layer, with what was chosen."""
    model = photonic.convert_(nn.Sequential(_linear(64, 64), nn.ReLU(), _linear(10, 64)), photonic.open_backend("sim"))
    report = photonic.fit_ranges(model, [torch.randn(64, 64, generator=_generator(0))])
    head, first, second = str(report).splitlines()
    assert head.split()[:4] == ["layer", "range", "largest", "clipped"]
    assert first.split()[:2] == ["0", f"{report[0].range:.4g}"]
    assert second.split()[0] == "2"
    assert len(report) == 2


def test_learned_and_moving_ranges_stay_what_they_are() -> None:
    """They get the fitted value; the optimiser's parameter is the same object."""
    model = photonic.convert_(nn.Sequential(_linear(16, 16), _linear(16, 16)), photonic.open_backend("sim", seed=0))
    photonic.set_input_range(model, {"0": 100.0}, learned=True)
    photonic.set_input_range(model, {"1": 100.0}, moving=0.5)
    learned = model[0].input_range
    report = photonic.fit_ranges(model, [torch.randn(64, 16, generator=_generator(0))])
    assert model[0].input_range is learned
    assert isinstance(learned, nn.Parameter)
    assert float(learned.detach()) == pytest.approx(report[0].range)
    assert report[0].range < 10
    fitted = float(model[1].input_range)
    model.train()(torch.zeros(1, 16).index_fill_(1, torch.tensor([0]), 1.0))
    assert float(model[1].input_range) != fitted


def test_gains_go_where_the_layer_goes() -> None:
    """A deep copy keeps them; attaching, converting anew and unconverting drop them."""
    model = photonic.convert_(nn.Sequential(_linear(70, 64)), photonic.open_backend("sim", seed=0))
    x = torch.randn(64, 64, generator=_generator(0))
    photonic.fit_ranges(model, [x])
    gains = model[0].backend.site.gains
    twin = copy.deepcopy(model)
    assert torch.equal(twin[0].backend.site.gains, gains)
    twin(x)
    photonic.attach(twin, photonic.open_backend("sim", seed=1))
    assert twin[0].backend.site.gains is None
    photonic.unconvert_(model)
    photonic.convert_(model, photonic.open_backend("sim", seed=0))
    assert model[0].backend.site.gains is None
    assert model[0].input_range is None


def test_gains_stay_when_the_weight_changes_and_saturation_is_counted() -> None:
    """Results are right at any gain; a weight that grew into its ADC's rails shows in the routes."""
    layer = _linear(64, 64)
    model, x = _on(layer), torch.rand(128, 64, generator=_generator(0))
    photonic.fit_ranges(model, [x])
    with torch.no_grad():
        model.weight.copy_(torch.randn(64, 64, generator=_generator(5)) / 8)
        layer.weight.copy_(model.weight)
    assert _error(model, layer, x) < 0.5
    before = photonic.routes(model)[0].usage.saturated
    with torch.no_grad():
        model.weight.abs_()
    model(x)
    assert photonic.routes(model)[0].usage.saturated > before


def test_what_cannot_be_fitted_is_refused() -> None:
    """One tensor, no batches, no numbers, no chip."""
    model = photonic.convert_(_linear(4, 4), photonic.open_backend("sim", seed=0))
    with pytest.raises(ShapeError, match=r"one tensor \(5, 4\); pass \[x\]"):
        photonic.fit_ranges(model, torch.zeros(5, 4))
    with pytest.raises(DataError, match="no batches"):
        photonic.fit_ranges(model, [])
    with pytest.raises(DataError, match="hold no numbers"):
        photonic.fit_ranges(model, [torch.zeros(0, 4)])
    with pytest.raises(ConversionError, match="no layer of this model is on a chip"):
        photonic.fit_ranges(nn.Linear(4, 4), [torch.zeros(5, 4)])
    with pytest.raises(ConversionError, match="no layer of this model is on a chip"):
        photonic.fit_ranges(photonic.convert_(nn.Linear(4, 4), ExactBackend()), [torch.zeros(5, 4)])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_after_an_error_everything_is_as_it_was(bad: float) -> None:
    """NaN in the second batch: the layer is named, ranges, gains, modes and hooks are back."""
    model = photonic.convert_(nn.Sequential(_linear(8, 8), _linear(8, 8, 1)), photonic.open_backend("sim", seed=0))
    photonic.set_input_range(model, {"0": 7.0})
    model[1].backend.site.gains = gains = torch.tensor([[2.0]])
    good = torch.randn(4, 8, generator=_generator(0))
    poor = good.clone()
    poor[1, 1] = bad
    with pytest.raises(RangeError, match="layer 0: the input holds NaN or infinite"):
        photonic.fit_ranges(model, [good, poor])
    assert (model[0].input_range, model[1].input_range) == (7.0, None)
    assert model[1].backend.site.gains is gains
    assert model.training
    assert not model[0]._forward_pre_hooks
    assert model[0].backend.site.observe is None


def test_an_error_in_the_second_pass_undoes_the_first() -> None:
    """The chip refuses to saturate: what the first pass had set is taken back."""
    layer = _linear(64, 64)
    with torch.no_grad():
        layer.weight.abs_()
    model = _on(layer, max_saturated_fraction=0.9)
    calls = []

    def call(x: Tensor) -> Tensor:
        calls.append(model.input_range)
        return model(x if len(calls) == 1 else 0 * x + 1e3)

    with pytest.raises(SaturationError):
        photonic.fit_ranges(model, [torch.rand(8, 64, generator=_generator(0)) * 0.01 - 0.005], call=call)
    assert calls[0] is None
    assert calls[1] is not None
    assert model.input_range is None


def test_an_iterator_is_read_once_and_kept() -> None:
    """Two passes need the data twice."""
    model = photonic.convert_(_linear(8, 8), photonic.open_backend("sim", seed=0))
    batches = [torch.randn(4, 8, generator=_generator(seed)) for seed in range(3)]
    report = photonic.fit_ranges(model, iter(batches))
    assert report.passes == 2
    assert report[0].largest == pytest.approx(max(float(x.abs().max()) for x in batches))


def test_fitting_again_changes_little() -> None:
    """The second fit starts from the ranges and gains of the first, and ends near them."""
    model = photonic.convert_(nn.Sequential(_linear(64, 64), nn.Tanh(), _linear(64, 64)), photonic.open_backend("sim"))
    x = [torch.randn(256, 64, generator=_generator(0))]
    first, second = photonic.fit_ranges(model, x), photonic.fit_ranges(model, x)
    for one, other in zip(first, second, strict=True):
        assert other.range == pytest.approx(one.range, rel=0.1)
        assert other.error_before == pytest.approx(one.error_after, rel=0.1)


def test_ranges_do_not_shrink_with_what_the_layers_before_clamp() -> None:
    """Layer upon layer on a noisy chip: the second pass sees clamped activations, the ranges are of the whole ones."""
    net = nn.Sequential(*(layer for seed in range(4) for layer in (_linear(64, 64, seed), nn.ReLU())))
    with torch.no_grad():
        for layer in net[::2]:
            layer.weight.mul_(2)
    backend = CalibratedBackend(open_simulated("pessimistic", resonance_spread_nm=0, fwhm_spread=0))
    model, x = photonic.convert_(net, backend), [torch.randn(256, 64, generator=_generator(9))]
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
    layer, test = _linear(64, 64), torch.randn(1024, 64, generator=_generator(9))
    model = photonic.convert_(copy.deepcopy(layer), CalibratedBackend(chip, **options))
    report = photonic.fit_ranges(model, [torch.randn(1024, 64, generator=_generator(0))])
    assert _error(model, layer, test) == pytest.approx(report[0].error_after, rel=0.25)
    assert (model.backend.site.gains is None) == (options.get("sign") == "space")
