"""A crossbar's matrices are those of its pairs of cells: levels, spreads, reading noise, drift."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from photonic.errors import RecordError
from photonic.physics.crossbar import Crossbar, CrossbarParameters
from photonic.physics.effects import effects, without
from photonic.physics.optics import Surroundings

IDEAL = {"cell_levels": None, "cell_extinction_db": None, "weight_bits": None}
SHAPE = {"n_outputs": 6, "n_inputs": 10}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _crossbar(seed: int = 1, **fields: object) -> Crossbar:
    return Crossbar.draw(CrossbarParameters(**(SHAPE | fields)), _generator(seed))


def _matrices(crossbar: Crossbar, codes: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    return crossbar.matrices(codes, Surroundings(_generator(seed)))


def _weights(*shape: int, seed: int = 3) -> Tensor:
    """Evenly in [-1, 1], with 0 and both ends."""
    weights = 2 * torch.rand(*shape, generator=_generator(seed), dtype=torch.float64) - 1
    weights.view(-1)[:3] = torch.tensor([0.0, 1.0, -1.0])
    return weights


# ---------------------------------------------------------------- cells


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-8), (torch.float64, 1e-17)])
@pytest.mark.parametrize("bits", [None, 8])
def test_an_ideal_crossbar_is_its_codes(dtype: torch.dtype, rounding: float, bits: int | None) -> None:
    """W_D = w / N, W_S = |w| / N, the codes not changed, whatever their strides."""
    crossbar = _crossbar(**(IDEAL | {"weight_bits": bits}))
    one = crossbar.parameters.weight_code_one
    codes = (_weights(5, 6, 10) * one).to(dtype)
    before = codes.clone()
    for given in (codes, codes.mT.contiguous().mT):
        w_d, w_s = _matrices(crossbar, given)
        assert torch.equal(given, before)
        assert w_d.dtype == w_s.dtype == dtype
        # one unit in the last place of 1 / N
        assert (w_d.double() - before.double() / one / 10).abs().max().item() <= 2 * rounding
        assert (w_s.double() - before.double().abs() / one / 10).abs().max().item() <= 2 * rounding
    assert crossbar.repeatable


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("levels", "extinction"), [(16, 8.92), (2, 3.0), (5, 20.0), (256, 30.0)])
def test_the_driver_takes_the_nearest_level(levels: int, extinction: float, dtype: torch.dtype) -> None:
    """Against the distance to every level T_k = (1 - l)^k of the cell that is programmed."""
    crossbar = _crossbar(cell_levels=levels, cell_extinction_db=extinction, weight_bits=None)
    weights = _weights(4, 6, 10).to(dtype)
    w_d, _ = _matrices(crossbar, weights)
    step = crossbar.parameters.level_step
    assert step is not None
    transmissions = (1 - step) ** torch.arange(levels, dtype=torch.float64)
    assert transmissions[-1].item() == pytest.approx(10 ** (-extinction / 10))
    available = (transmissions - transmissions[-1]) / (1 - transmissions[-1])
    available = torch.cat([available, -available])
    nearest = available[(weights.double().unsqueeze(-1) - available).abs().argmin(-1)]
    assert (w_d * 10 - nearest).abs().max().item() < (1e-6 if dtype == torch.float32 else 1e-14)


def test_four_bits_are_sixteen_log_spaced_levels_with_a_step_of_0128() -> None:
    """31 weights, 0 and both ones among them; the gap below 1 is the widest, 0.147, that at 0 the narrowest, 0.0216."""
    crossbar = _crossbar(weight_bits=None)
    assert crossbar.parameters.level_step == pytest.approx(0.128, abs=5e-5)
    w_d, _ = _matrices(crossbar, torch.linspace(-1, 1, 6000, dtype=torch.float64).view(-1, 6, 10))
    taken = (w_d * 10).flatten().unique()
    taken = taken[torch.cat([torch.tensor([True]), taken.diff() > 1e-9])]
    assert len(taken) == 31
    assert taken[[0, 15, 30]].tolist() == pytest.approx([-1, 0, 1], abs=1e-15)
    gaps = taken.diff()
    assert (gaps[-1].item(), gaps[15].item()) == pytest.approx((0.1468, 0.0216), abs=1e-4)
    # against an even grid of 8 bits: weights are off by as much as half the widest gap
    error = w_d * 10 - torch.linspace(-1, 1, 6000, dtype=torch.float64).view(-1, 6, 10)
    assert error.abs().max().item() == pytest.approx(0.0734, abs=1e-3)


def test_dark_cells_add_light_and_no_weight() -> None:
    """D is not changed by a finite extinction; S is |w| + 2 T_min / (1 - T_min)."""
    crossbar = _crossbar(**(IDEAL | {"cell_extinction_db": 10.0}))
    weights = _weights(5, 6, 10)
    w_d, w_s = _matrices(crossbar, weights)
    assert (w_d * 10 - weights).abs().max().item() < 1e-15
    assert (w_s * 10 - (weights.abs() + 2 * 0.1 / 0.9)).abs().max().item() < 1e-15


def test_a_pair_without_drive_has_no_weight() -> None:
    """Two dark cells."""
    crossbar = _crossbar()
    codes = torch.full((1, 6, 10), crossbar.parameters.dead_code, dtype=torch.float64)
    w_d, w_s = _matrices(crossbar, codes)
    assert not w_d.any()
    floor = 10 ** (-crossbar.parameters.cell_extinction_db / 10)
    assert (w_s * 10).flatten().tolist() == pytest.approx([2 * floor / (1 - floor)] * 60)


def test_fewer_rows_are_the_first_of_the_chip() -> None:
    """With each cell's own spread."""
    crossbar = _crossbar(cell_spread=0.05)
    codes = (_weights(3, 6, 10) * 127).round()
    for whole, part in zip(_matrices(crossbar, codes), _matrices(crossbar, codes[:, :4]), strict=True):
        assert torch.equal(whole[:, :4], part)


def test_temperature_does_not_move_the_cells() -> None:
    """To first order."""
    crossbar, codes = _crossbar(cell_spread=0.05), (_weights(3, 6, 10) * 127).round()
    hot = crossbar.matrices(codes, Surroundings(_generator(), torch.full((3,), 30.0, dtype=torch.float64)))
    for cold, warm in zip(_matrices(crossbar, codes), hot, strict=True):
        assert torch.equal(cold, warm)


# ---------------------------------------------------------------- spreads


def test_cells_differ_by_the_spread_and_stay_as_they_are() -> None:
    """524288 cells: the standard error of a variance is 0.2 %."""
    crossbar = _crossbar(n_outputs=512, n_inputs=512, cell_spread=0.03, **IDEAL)
    logarithm = crossbar.factor.log()
    assert logarithm.var().item() == pytest.approx(0.03**2, rel=0.02)
    assert abs(logarithm.mean().item()) < 5 * 0.03 / math.sqrt(logarithm.numel())
    weights = _weights(1, 512, 512)
    w_d, w_s = _matrices(crossbar, weights, seed=0)
    for again, first in zip(_matrices(crossbar, weights, seed=1), (w_d, w_s), strict=True):
        assert torch.equal(again, first)
    plus, minus = weights.clamp(min=0) * crossbar.factor[0], (-weights).clamp(min=0) * crossbar.factor[1]
    assert (w_d * 512 - (plus - minus)).abs().max().item() < 1e-14
    assert (w_s * 512 - (plus + minus)).abs().max().item() < 1e-14


def test_unequal_dark_cells_give_a_weight_of_zero_an_offset() -> None:
    """(T_plus - T_minus) / (1 - T_min): variance 2 (T_min s)^2 / (1 - T_min)^2 for a small spread s."""
    crossbar = _crossbar(n_outputs=512, n_inputs=512, cell_spread=0.02, cell_levels=None, cell_extinction_db=10.0)
    w_d, _ = _matrices(crossbar, torch.zeros(1, 512, 512, dtype=torch.float64))
    assert (w_d * 512).var().item() == pytest.approx(2 * (0.1 * 0.02 / 0.9) ** 2, rel=0.02)


def test_a_device_is_the_same_whatever_its_spread_is() -> None:
    """Draws do not depend on the switch."""
    generators = _generator(), _generator()
    for generator, spread in zip(generators, (0.0, 0.1), strict=True):
        Crossbar.draw(CrossbarParameters(cell_spread=spread), generator)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    assert torch.equal(_crossbar(cell_spread=0.0).factor, torch.ones(2, 6, 10, dtype=torch.float64))
    small, large = (_crossbar(cell_spread=spread).factor.log() for spread in (0.05, 0.1))
    assert (large - 2 * small).abs().max().item() < 1e-14


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cells_read_another_value_each_time(dtype: torch.dtype) -> None:
    """Variance 2 s^2 / (1 - T_min)^2 of D and of S in each pair, which do not correlate; no two readings agree."""
    s, floor = 0.007, 10**-0.892
    crossbar = _crossbar(read_spread=s)
    assert not crossbar.repeatable
    codes = (_weights(1, 6, 10) * 127).round().to(dtype)
    quiet = _matrices(_crossbar(), codes)
    noisy = _matrices(crossbar, codes.expand(4000, 6, 10))
    d, w = ((read - still).double().mul_(10) for read, still in zip(noisy, quiet, strict=True))
    expected = 2 * (s / (1 - floor)) ** 2
    assert d.var().item() == pytest.approx(expected, rel=0.02)
    assert w.var().item() == pytest.approx(expected, rel=0.02)
    assert abs(torch.corrcoef(torch.stack([d.flatten(), w.flatten()]))[0, 1].item()) < 5 / math.sqrt(d.numel())
    # of each tile and of each pair, and anew with every call
    assert d.mean(0).var().item() == pytest.approx(expected / 4000, rel=0.6)
    assert d.mean((1, 2)).var().item() == pytest.approx(expected / 60, rel=0.15)
    around = Surroundings(_generator())
    assert not torch.equal(crossbar.matrices(codes, around)[0], crossbar.matrices(codes, around)[0])


def test_no_reading_makes_light_negative() -> None:
    """A cell of infinite extinction reads at least nothing."""
    crossbar = _crossbar(**(IDEAL | {"read_spread": 0.1}))
    w_d, w_s = _matrices(crossbar, torch.zeros(500, 6, 10, dtype=torch.float64))
    assert w_s.min().item() >= 0
    assert (w_d.abs() <= w_s + 1e-15).all()


@pytest.mark.parametrize(("exponent", "age", "t0"), [(0.0, 1e5, 1.0), (0.05, 1e5, 1.0), (0.11, 3600.0, 60.0)])
def test_cells_drift_by_the_power_law(exponent: float, age: float, t0: float) -> None:
    """T (t / t0)^-nu of both cells: D and S shrink alike, the spread included."""
    weights = _weights(3, 6, 10)
    fresh = _matrices(_crossbar(cell_spread=0.05), weights * 127)
    aged = _matrices(_crossbar(cell_spread=0.05, drift_exponent=exponent, age_s=age, drift_t0_s=t0), weights * 127)
    for old, new in zip(fresh, aged, strict=True):
        assert (new - old * (age / t0) ** -exponent).abs().max().item() < 1e-15


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize("extinction", [None, 8.92, 3.0])
def test_one_power_is_light_current_and_source(extinction: float | None) -> None:
    """At +1 the pair sees power_per_pair_w, S in amperes is all of it, and each arm's cell is fed alike."""
    p = CrossbarParameters(
        **(SHAPE | IDEAL | {"cell_extinction_db": extinction}),
        power_per_pair_w=0.5e-3,
        responsivity_a_per_w=0.8,
        coupling_loss_db=2.0,
        device_loss_db=1.0,
    )
    w_d, w_s = _matrices(Crossbar.draw(p, _generator()), torch.ones(1, 6, 10, dtype=torch.float64))
    assert w_d.sum(-1).flatten().tolist() == pytest.approx([1.0] * 6)
    current = w_s.sum(-1)[0, 0].item() * p.full_scale_current_a
    assert current == pytest.approx(0.8 * 0.5e-3)
    floor = 0.0 if extinction is None else 10 ** (-extinction / 10)
    at_clear_cell = 0.5e-3 / (1 + floor)
    assert p.source_power_w == pytest.approx(2 * 6 * at_clear_cell * 10**0.3)
    given = CrossbarParameters(**(p.model_dump() | {"power_per_pair_w": None, "laser_power_w": p.source_power_w}))
    assert given.signal_power_w == pytest.approx(0.5e-3)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cell_extinction_db": None}, "cell_extinction_db must be given with cell_levels"),
        ({"cell_levels": 1}, "cell_levels"),
        ({"cell_extinction_db": 0.0}, "cell_extinction_db"),
        ({"cell_spread": 0.3}, "cell_spread"),
        ({"read_spread": -0.1}, "read_spread"),
        ({"drift_exponent": 1.0}, "drift_exponent"),
        ({"age_s": 0.5}, "age_s must be at least drift_t0_s"),
        ({"drift_t0_s": 0.0}, "drift_t0_s"),
        ({"level_step": 0.128}, "level_step"),
    ],
)
def test_what_no_cell_can_be_is_refused(fields: dict[str, object], said: str) -> None:
    """At construction, by field and bound; the step of the levels follows and is not stated twice."""
    with pytest.raises(RecordError, match=said):
        CrossbarParameters(**fields)


def test_each_effect_of_the_cells_has_its_switch() -> None:
    """Extinction alone needs continuous cells; all off is the ideal crossbar."""
    p = CrossbarParameters(**SHAPE, cell_spread=0.05, read_spread=0.007, drift_exponent=0.05, age_s=100.0)
    own = {"cell levels", "cell extinction", "cell spread", "cell read noise", "cell drift"}
    assert own <= set(effects(p))
    for effect in own - {"cell extinction"}:
        assert effect not in effects(without(p, effect))
    with pytest.raises(RecordError, match="cell_extinction_db"):
        without(p, "cell extinction")
    ideal = without(p, "weight quantisation", *own)
    assert isinstance(ideal, CrossbarParameters)
    weights = _weights(2, 6, 10)
    assert (_matrices(Crossbar.draw(ideal, _generator()), weights)[0] * 10 - weights).abs().max().item() < 1e-15


def test_without_levels_there_is_no_step() -> None:
    assert CrossbarParameters(cell_levels=None).level_step is None
