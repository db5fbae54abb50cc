"""Ranges and gains from data: which layers of a model get them, nothing else changed, and nothing after an error."""

from __future__ import annotations

import copy

import pytest
import torch
from exact_backend import ExactBackend
from onchip import linear, on, seeded
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import photonic
from photonic.backends.digital import DigitalBackend
from photonic.errors import ConversionError, DataError, RangeError, SaturationError, ShapeError


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
    report = photonic.fit_ranges(model, [torch.randn(8, 2, 6, 6, generator=seeded(0))])
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
    report = photonic.fit_ranges(encoder, [torch.randn(4, 5, 8, generator=seeded(0))])
    assert [layer.name for layer in report] == ["self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2"]
    assert all(layer.range and layer.gains for layer in report)


@pytest.mark.parametrize("kdim", [None, 6])
def test_cross_attention_keeps_its_gain(kdim: int | None) -> None:
    """Query, key and value are products of their own; the range holds all three, gains are left alone."""
    attention = nn.MultiheadAttention(32, 2, kdim=kdim, vdim=kdim, batch_first=True)
    photonic.convert_(attention, photonic.open_backend("sim", seed=0))
    memory = 9 * torch.randn(4, 5, kdim or 32, generator=seeded(0))
    report = photonic.fit_ranges(
        attention, [torch.randn(4, 3, 32, generator=seeded(1))], call=lambda x: attention(x, memory, memory)
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
    report = photonic.fit_ranges(model, [torch.randn(8, 4, generator=seeded(0))])
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
    model = photonic.convert_(nn.Sequential(linear(64, 64), nn.ReLU(), linear(10, 64)), photonic.open_backend("sim"))
    report = photonic.fit_ranges(model, [torch.randn(64, 64, generator=seeded(0))])
    head, first, second = str(report).splitlines()
    assert head.split()[:4] == ["layer", "range", "largest", "clipped"]
    assert first.split()[:2] == ["0", f"{report[0].range:.4g}"]
    assert second.split()[0] == "2"
    assert len(report) == 2


def test_learned_and_moving_ranges_stay_what_they_are() -> None:
    """They get the fitted value; the optimiser's parameter is the same object."""
    model = photonic.convert_(nn.Sequential(linear(16, 16), linear(16, 16)), photonic.open_backend("sim", seed=0))
    photonic.set_input_range(model, {"0": 100.0}, learned=True)
    photonic.set_input_range(model, {"1": 100.0}, moving=0.5)
    learned = model[0].input_range
    report = photonic.fit_ranges(model, [torch.randn(64, 16, generator=seeded(0))])
    assert model[0].input_range is learned
    assert isinstance(learned, nn.Parameter)
    assert float(learned.detach()) == pytest.approx(report[0].range)
    assert report[0].range < 10
    fitted = float(model[1].input_range)
    model.train()(torch.zeros(1, 16).index_fill_(1, torch.tensor([0]), 1.0))
    assert float(model[1].input_range) != fitted


def test_gains_go_where_the_layer_goes() -> None:
    """A deep copy keeps them; attaching, converting anew and unconverting drop them."""
    model = photonic.convert_(nn.Sequential(linear(70, 64)), photonic.open_backend("sim", seed=0))
    x = torch.randn(64, 64, generator=seeded(0))
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


def test_what_cannot_be_fitted_is_refused() -> None:
    """One tensor, no batches, no numbers, no chip."""
    model = photonic.convert_(linear(4, 4), photonic.open_backend("sim", seed=0))
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
    model = photonic.convert_(nn.Sequential(linear(8, 8), linear(8, 8, 1)), photonic.open_backend("sim", seed=0))
    photonic.set_input_range(model, {"0": 7.0})
    model[1].backend.site.gains = gains = torch.tensor([[2.0]])
    good = torch.randn(4, 8, generator=seeded(0))
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
    layer = linear(64, 64)
    with torch.no_grad():
        layer.weight.abs_()
    model = on(layer, max_saturated_fraction=0.9)
    calls = []

    def call(x: Tensor) -> Tensor:
        calls.append(model.input_range)
        return model(x if len(calls) == 1 else 0 * x + 1e3)

    with pytest.raises(SaturationError):
        photonic.fit_ranges(model, [torch.rand(8, 64, generator=seeded(0)) * 0.01 - 0.005], call=call)
    assert calls[0] is None
    assert calls[1] is not None
    assert model.input_range is None


def test_an_iterator_is_read_once_and_kept() -> None:
    """Two passes need the data twice."""
    model = photonic.convert_(linear(8, 8), photonic.open_backend("sim", seed=0))
    batches = [torch.randn(4, 8, generator=seeded(seed)) for seed in range(3)]
    report = photonic.fit_ranges(model, iter(batches))
    assert report.passes == 2
    assert report[0].largest == pytest.approx(max(float(x.abs().max()) for x in batches))
