"""Few rows take a shorter way: with the numbers, the noise, the checks and the counters of the long one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import photonic
from photonic.backends import fewrows, simulated
from photonic.backends.base import Backend
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.chip import Conditions, Measurement
from photonic.backends.resident import Grid
from photonic.backends.simulated import SimulatedChip, open_simulated
from photonic.errors import ClosedError, RangeError, SaturationError, ShapeError
from photonic.models import functional
from photonic.physics.presets import PRESETS

CHIPS = (
    "sim:typical",
    "sim:pessimistic",  # what balancing lets through is shared
    "sim:crossbar-typical",  # S depends on the weights
    "sim:typical?n_outputs=16&n_inputs=24",
    "sim:typical?arm_imbalance_spread=0.05",
    "sim:typical?shot_noise=false",
    "sim:typical?adc_enob=6",
    "twin:typical",
    "twin:typical?n_outputs=16&n_inputs=24",
    "twin:crossbar-typical",
    "twin:crossbar-pessimistic",
    "twin:typical?shot_noise=false&rin_db_per_hz=none",
)


def _layer(spec: str, inputs: int, outputs: int = 40) -> nn.Module:
    torch.manual_seed(1)
    layer = nn.Linear(inputs, outputs)
    photonic.convert_(layer, photonic.open_backend(spec, seed=3))
    return layer


def _calls(spec: str, x: Tensor, outputs: int = 40, calls: int = 4) -> tuple[Tensor, photonic.Usage]:
    layer = _layer(spec, x.shape[-1], outputs)
    with torch.no_grad():
        found = torch.stack([layer(x) for _ in range(calls)])
    return found, layer.backend.site.usage


def _the_long_way(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(simulated, "FEW", 0)
    patch.setattr(fewrows, "FEW", 0)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", [(1, 64, 40), (3, 64, 40), (2, 150, 40), (1, 10, 40), (20, 1, 1)])
@pytest.mark.parametrize("spec", CHIPS)
def test_the_shorter_way_gives_the_same_numbers_and_counters(
    spec: str, shape: tuple[int, int, int], signed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    x = torch.rand(shape[:2]) - 0.5 * signed
    short, spent = _calls(spec, x, shape[2])
    with monkeypatch.context() as patch:
        _the_long_way(patch)
        long, wanted = _calls(spec, x, shape[2])
    assert (short[1:] != short[0]).any()  # noise is fresh in each call
    # the order of sums differs: noise and rounding are the same but for a count in thousands
    off = (short - long).abs() > 1e-5 * long.std()
    assert off.float().mean() <= 0.002
    assert (spent.calls, spent.shots, spent.counts) == (wanted.calls, wanted.shots, wanted.counts)
    assert (spent.tiles_programmed, spent.saturated) == (wanted.tiles_programmed, wanted.saturated)


@pytest.mark.parametrize("spec", ["sim:typical", "twin:typical"])
def test_the_shorter_way_is_taken(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = _layer(spec, 64), torch.rand(2, 64)
    monkeypatch.setattr(Backend, "matmul", lambda *_: pytest.fail("the long way"))
    with torch.no_grad():
        layer(x)


@pytest.mark.parametrize("spec", ["sim:typical", "twin:typical"])
def test_gradients_and_the_way_to_them_change_no_number(spec: str) -> None:
    x = torch.rand(2, 64)
    with torch.no_grad():
        without = _layer(spec, 64)(x)
    with_gradients = _layer(spec, 64)(x)
    assert torch.equal(without, with_gradients)
    with_gradients.sum().backward()


@pytest.mark.parametrize("spec", ["sim:typical", "twin:typical"])
def test_a_resumed_run_gives_the_same_numbers(spec: str) -> None:
    layer, x = _layer(spec, 64), torch.rand(2, 64)
    with torch.no_grad():
        for _ in range(3):
            layer(x)
        state, wanted = layer.backend.state(), layer(x)
        other = _layer(spec, 64)
        other.backend.restore(state)
        assert torch.equal(other(x), wanted)


@pytest.mark.parametrize("spec", ["sim:typical", "twin:typical"])
@pytest.mark.parametrize("way", ["in place", "other memory", "other parameter"])
def test_a_changed_weight_is_noticed(spec: str, way: str) -> None:
    layer, x = _layer(spec, 64), torch.rand(1, 64)
    with torch.no_grad():
        before = torch.stack([layer(x) for _ in range(3)]).mean(0)
        weight, bias = -layer.weight.detach(), layer.bias.detach() + 100
        if way == "in place":
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        elif way == "other memory":
            layer.weight.data, layer.bias.data = weight, bias
        else:
            layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        after = layer(x)
    bias = bias - 100
    # the product has the other sign, and the bias is the new one
    assert torch.allclose(after - 100 - bias, -(before - bias), atol=0.3)


@pytest.mark.parametrize("spec", ["sim:typical", "twin:typical"])
def test_what_is_not_finite_is_refused(spec: str) -> None:
    layer, x = _layer(spec, 64), torch.rand(2, 64)
    with torch.no_grad():
        layer(x)
        for bad in (float("nan"), float("inf"), -float("inf")):
            wrong = x.clone()
            wrong[1, 5] = bad
            with pytest.raises(RangeError, match="NaN or infinite"):
                layer(wrong)
        layer.weight[3, 4] = float("nan")
        with pytest.raises(RangeError, match="weight"):
            layer(x)


def test_a_twin_beyond_its_rails_refuses_few_rows_too() -> None:
    layer, x = _layer("twin:typical?adc_full_scale=0.01", 64), torch.ones(4, 64)
    with torch.no_grad(), pytest.raises(RangeError, match="beyond the rails"):
        layer(x)


def test_a_static_range_holds() -> None:
    layer, x = _layer("sim:typical", 64), torch.rand(1, 64)
    photonic.set_input_range(layer, 0.5)
    with torch.no_grad():
        layer(x)
        assert layer.backend.site.clipped == int((x > 0.5).sum())
        with pytest.raises(RangeError, match="input range"):
            layer.backend.linear(x, layer.weight)


def test_linear_of_any_backend_is_its_matmul() -> None:
    backend = photonic.open_backend("sim:ideal", seed=0)
    x, weight, bias = torch.rand(3, 5), torch.rand(4, 5), torch.rand(4)
    with torch.no_grad():
        assert torch.allclose(backend.linear(x, weight, bias), x @ weight.T + bias, atol=1e-5)
        assert torch.allclose(backend.linear(x, weight), x @ weight.T, atol=1e-5)
        with pytest.raises(ShapeError, match="bias"):
            backend.linear(x, weight, torch.rand(5))
        with pytest.raises(ShapeError):
            backend.linear(x, torch.rand(4, 6))
        with pytest.raises(ShapeError):
            functional.linear(x.double(), weight, None, backend)


def test_codes_that_change_in_place_are_checked_again() -> None:
    chip = open_simulated("typical", seed=0)
    weights, inputs = torch.zeros(1, 1, 64, dtype=torch.int16), torch.full((1, 1, 8), 100, dtype=torch.int16)
    for expected in (1, 0, 0):
        assert chip.measure(weights, inputs).usage.tiles_programmed == expected
    weights[0, 0, 3] = 5
    assert chip.measure(weights, inputs).usage.tiles_programmed == 1
    weights[0, 0, 3] = 500
    with pytest.raises(RangeError, match="weights"):
        chip.measure(weights, inputs)
    inputs[0, 0, 0] = -1
    weights[0, 0, 3] = 5
    with pytest.raises(RangeError, match="inputs"):
        chip.measure(weights, inputs)


def test_settings_of_a_call_are_its_own() -> None:
    chip = open_simulated("typical", seed=0)
    weights, inputs = torch.full((1, 1, 64), 60, dtype=torch.int16), torch.full((1, 1, 8), 200, dtype=torch.int16)
    gains = torch.ones(1, 1)
    mean = []
    for gain in (1.0, 1.0, 1.0, 4.0, 4.0, 4.0):
        gains.fill_(gain)  # the same tensor, with another number
        mean.append(float(chip.measure(weights, inputs, {"analog_gain": gains}).counts.float().mean()))
    assert sum(mean[3:]) / sum(mean[:3]) == pytest.approx(4.0, rel=0.2)
    dark = chip.measure(weights, inputs, {"laser_power": 0.0}).counts.float().mean()
    assert abs(float(dark)) < 3


def _ready(**options: float) -> tuple[SimulatedChip, Grid]:
    """A chip that has made a grid ready for few shots."""
    chip = open_simulated("typical", seed=0, **options)
    weights, inputs = torch.full((1, 1, 64), 60, dtype=torch.int16), torch.full((1, 1, 8), 200, dtype=torch.int16)
    assert chip.ready(weights, 8) is None
    for _ in range(2):
        chip.measure(weights, inputs)
    grid = chip.ready(weights, 8)
    assert grid is not None
    weights.fill_(1)  # the chip has a copy of its own
    return chip, grid


def test_few_shots_of_a_chip_are_its_measurement() -> None:
    weights, inputs = torch.full((1, 1, 64), 60, dtype=torch.int16), torch.full((1, 3, 8), 200, dtype=torch.int16)
    (one, grid), (other, _) = _ready(), _ready()
    for _ in range(2):
        found, wanted = one.measure_few(grid, inputs.numpy(), {}), other.measure(weights, inputs)
        assert found is not None
        assert torch.equal(torch.from_numpy(found[0]), wanted.counts)
        assert (found[1].shots, found[1].counts, found[1].tiles_programmed) == (3, 24, 0)
    assert (one.usage.shots, one.usage.saturated) == (other.usage.shots, other.usage.saturated)
    assert one.state() == other.state()


def test_few_shots_are_checked() -> None:
    chip, grid = _ready()
    good = np.full((1, 1, 8), 200, np.int16)
    calls = chip.state()["calls"]
    for bad in (-1, 256):
        wrong = good.copy()
        wrong[0, 0, 3] = bad
        with pytest.raises(RangeError, match="inputs"):
            chip.measure_few(grid, wrong, {})
    assert chip.state()["calls"] == calls  # nothing was sent
    assert chip.measure_few(grid, good[..., :5], {}) is None  # for `measure` to refuse
    assert chip.measure_few(grid, good[:, :0], {}) is None
    assert chip.measure_few(grid, good, {"analog_gain": 4.0}) is None  # another gain is another grid
    assert chip.measure_few(grid, np.full((1, 4096, 8), 200, np.int16), {}) is None  # too many
    chip.close()
    with pytest.raises(ClosedError):
        chip.measure_few(grid, good, {})


def test_few_shots_at_the_rails_are_counted_and_refused() -> None:
    chip, grid = _ready(adc_full_scale=0.01)
    inputs = np.full((1, 1, 8), 255, np.int16)
    found = chip.measure_few(grid, inputs, {})
    assert found is not None
    assert found[1].saturated == 8
    layer, x = _layer("sim:typical?adc_full_scale=0.01&max_saturated_fraction=0.1", 64), torch.ones(1, 64)
    with torch.no_grad():
        for _ in range(4):
            with pytest.raises(SaturationError, match="rails"):
                layer(x)
    assert layer.backend.site.usage.calls == 4  # what was spent is counted all the same


def test_a_chip_with_a_way_of_its_own_is_always_asked() -> None:
    class Counting(SimulatedChip):
        asked = 0

        def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Measurement:
            self.asked += 1
            return super()._measure(weights, inputs, conditions)

    chip = Counting(PRESETS["typical"])
    layer = nn.Linear(64, 40)
    photonic.convert_(layer, CalibratedBackend(chip))
    with torch.no_grad():
        for _ in range(5):
            layer(torch.rand(1, 64))
    assert chip.asked == 5


def test_an_observer_sees_few_rows_too() -> None:
    layer, x, seen = _layer("sim:typical", 64), torch.rand(1, 64), []
    with torch.no_grad():
        for _ in range(3):
            layer(x)
        layer.backend.site.observe = seen.append
        layer(x)
    assert seen[0].measured.counts.shape == (1, 1, 1, 40)
    assert float(seen[0].measured.telemetry["clock_s"]) > 0


def test_a_weight_that_is_made_anew_is_used() -> None:
    layer, x = nn.utils.parametrizations.weight_norm(nn.Linear(64, 40)), torch.rand(1, 64)
    photonic.convert_(layer, photonic.open_backend("sim:typical", seed=3))
    with torch.no_grad():
        before = layer(x) - layer.bias
        layer.parametrizations.weight.original0.mul_(-1)
        after = layer(x) - layer.bias
    assert torch.allclose(after, -before, atol=0.3)


def test_what_a_static_range_lets_through_stays_within_the_codes() -> None:
    layer, x = _layer("sim:typical", 64), torch.full((1, 64), 0.5)
    photonic.set_input_range(layer, 0.5)
    with torch.no_grad():
        layer(x)
        beyond = layer.backend.linear(x * (1 + 5e-6), layer.weight)
    assert beyond.isfinite().all()
