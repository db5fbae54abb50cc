"""`photonic profile`: the counts are the chip's own, and every figure is what its formula says."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import photonic
from photonic.analysis.profile import profile_model
from photonic.backends.base import Backend
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.chip import Chip
from photonic.backends.digital import DigitalBackend
from photonic.errors import ConversionError, RangeError, SpecError
from photonic.models.networks import convnet, mlp
from photonic.physics import svdmesh
from photonic.records import BackendSpec, ChipSpec, EnergyModel, NoiseModel, Response

SMALL = "n_outputs=16&n_inputs=16"
ENERGY = EnergyModel(laser_w=2.0, hold_w=3.0, tia_w=5.0, dac_j=7e-3, modulator_j=11e-3, adc_j=13e-3, write_j=17e-3)


def images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def mixed():
    """Strided, grouped and depthwise convolutions of one and two dimensions, an attention, and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 24, 3, stride=2, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, groups=24, bias=False),
        nn.Flatten(2),
        nn.Conv1d(24, 40, 2, stride=2, dilation=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.LazyLinear(7),
    )


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 2, kdim=20, vdim=8, batch_first=True)

    def forward(self, x):
        return self.attention(x[..., :12], x, x[..., :8])[0]


def case(name):
    torch.manual_seed(0)
    if name == "mlp":
        return mlp((1, 8, 8), 10, "relu"), images(5, 1, 8, 8)
    if name == "signed mlp":
        return mlp((1, 8, 8), 10, "tanh"), images(5, 1, 8, 8) - 0.5
    if name == "convnet":
        return convnet((1, 8, 8), 10, "gelu", widths=(6, 10, 12)).eval(), images(3, 1, 8, 8)
    if name == "attention":
        return Attends(), images(2, 5, 20)
    model, x = mixed(), images(3, 4, 9, 9)
    model(x)  # the lazy layer gets its size
    return model, x


# ---------------------------------------------------------------- counts


@pytest.mark.parametrize("name", ["mlp", "signed mlp", "convnet", "mixed", "attention"])
@pytest.mark.parametrize(
    "spec",
    [
        "sim",
        f"sim?{SMALL}",
        f"sim?{SMALL}&resident_tiles=5&shots=3",
        f"sim?{SMALL}&resident_tiles=10000&max_counts_bytes=4096",
        f"sim?{SMALL}&max_counts_bytes=2000&sign=space",
        f"sim?{SMALL}&sign=offset",
        f"sim:crossbar-typical?{SMALL}",
        "sim:mesh-typical?n_outputs=6&n_inputs=8",
    ],
)
def test_counts_are_those_of_a_real_forward(name, spec):
    """Layer by layer, and what the chip and its clock say in sum; in a further forward too."""
    model, x = case(name)
    with photonic.open_backend(spec) as backend:
        profile = profile_model(model, x, backend)
        assert (backend.chip.usage.calls, backend.chip.state()["calls"]) == (0, 0)  # the chip was not asked
        real = photonic.convert_(copy.deepcopy(model), backend).eval()
        before = photonic.routes(real)
        real(x)
        usage, routes = copy.copy(backend.chip.usage), photonic.routes(real)
        clock_s = backend.chip.state()["clock_s"]
        real(x)
        again = backend.chip.usage
    assert all(route.usage.calls == 0 for route in before)
    assert {layer.layer for layer in profile.layers} == {route.name for route in routes}
    for layer in profile.layers:
        route = next(route for route in routes if route.name == layer.layer)
        assert (layer.kind, layer.cost.counts.shots) == (route.kind, route.usage.shots)
        assert layer.cost.counts.programmed == route.usage.tiles_programmed
        if layer.layer != "attention.in_proj" and "space" not in spec:  # routes has one grid, and for both signs
            assert layer.grids == (route.tiles,)
    counts = profile.total.counts
    assert (counts.shots, counts.programmed) == (usage.shots, usage.tiles_programmed)
    if "mesh" not in spec:  # which converts all its outputs, in use or not
        assert counts.conversions == usage.counts
    assert profile.total.latency.total_s == pytest.approx(clock_s, rel=1e-12)
    assert profile.again.counts.programmed == again.tiles_programmed - usage.tiles_programmed
    assert profile.again.counts.shots == usage.shots


@pytest.mark.parametrize(
    ("spec", "low", "shots"),
    [
        ("sim", 0.0, 1),
        ("sim", -1.0, 2),
        ("sim?shots=3", 0.0, 3),
        ("sim?shots=3", -1.0, 6),
        ("sim?sign=offset", -1.0, 1),
        ("sim?sign=space", -1.0, 1),
        ("sim:mesh-typical", -1.0, 1),
    ],
)
def test_signs_decide_the_shots_of_an_input(spec, low, shots):
    """One where none is negative, two where the chip has to see both signs one after the other."""
    with photonic.open_backend(spec) as backend:
        (layer,) = profile_model(nn.Linear(9, 4), images(6, 9) + low, backend).layers
    assert (layer.signed, layer.shots_per_input) == (low < 0, shots)
    assert layer.cost.counts.shots == 6 * shots * math.prod(layer.grids[0])


def test_signs_are_those_of_the_exact_model():
    """A layer behind a ReLU is cheap, the same layer behind a tanh is not, whatever the weights."""
    with photonic.open_backend("sim") as backend:
        found = {
            act: profile_model(mlp((1, 8, 8), 10, act), images(4, 1, 8, 8), backend).layers for act in ("relu", "tanh")
        }
    assert [layer.shots_per_input for layer in found["relu"]] == [1, 1, 1]
    assert [layer.shots_per_input for layer in found["tanh"]] == [1, 2, 2]


def test_macs_are_those_of_the_products():
    """B x M x N, for convolutions B x positions x C_out x C_in / groups x kernel; unused parts of tiles do no work."""
    model, x = case("mixed")
    with photonic.open_backend("sim") as backend:
        profile = profile_model(model, x, backend)
    # 9 x 9 images: 5 x 5 positions, then 3 x 3, then 4 (of 9, dilation 2, stride 2)
    macs = [3 * 25 * 24 * 2 * 9, 3 * 9 * 24 * 1 * 9, 3 * 4 * 40 * 24 * 2, 3 * 7 * 160]
    assert [layer.macs for layer in profile.layers] == macs
    assert profile.total.macs == sum(macs)


def test_a_layer_that_is_called_twice_is_one_layer():
    """Its weight is on the chip once and programmed once, and its products are added up."""
    layer = nn.Linear(8, 8)
    with photonic.open_backend("sim") as backend:
        profile = profile_model(nn.Sequential(layer, nn.ReLU(), layer), images(3, 8), backend)
    (found,) = profile.layers
    assert found.grids == ((1, 1),)
    assert (found.cost.counts.tiles, found.cost.counts.programmed, found.cost.counts.shots) == (1, 1, 6)
    assert found.macs == 2 * 3 * 64


def test_the_model_stays_as_it_was():
    """Neither converted, nor in evaluation mode, nor with other statistics."""
    model = convnet((1, 8, 8), 10, "relu", widths=(4, 4, 4)).train()
    before = copy.deepcopy(model.state_dict())
    with photonic.open_backend("sim") as backend:
        profile_model(model, images(2, 1, 8, 8), backend)
    assert model.training
    assert all(route.backend == "digital" for route in photonic.routes(model))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_what_the_chip_would_refuse_is_refused():
    """By the name of the layer, as in a real forward."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    nn.init.constant_(model[1].weight, math.nan)
    with photonic.open_backend("sim") as backend, pytest.raises(RangeError, match="layer 1 "):
        profile_model(model, images(2, 4), backend)


# ---------------------------------------------------------------- time and energy against formulas


class LabChip(Chip):
    """Any chip; it is never asked."""

    def __init__(self, **fields):
        response = Response(counts_per_d=(512.0,), noise=NoiseModel(thermal=1e-6))
        super().__init__(ChipSpec(**{"chip_id": "lab", "n_outputs": 4, "n_inputs": 4, "response": response, **fields}))

    def _measure(self, weights, inputs, conditions):
        raise AssertionError("a profile measures nothing")


def open_lab():
    return LabChip()


def lab_profile(layer, x, *, options=None, **fields):
    times = {"shot_time_s": 1e-3, "settle_time_s": 0.1, "partial_tiles": True}
    with CalibratedBackend(LabChip(**{**times, **fields}), **(options or {})) as backend:
        return profile_model(layer, x, backend)


def test_time_and_energy_are_their_formulas():
    """A 10 x 6 product of three vectors of both signs on a chip of 4 inputs and 3 outputs, by hand: 2 x 3 tiles."""
    total = lab_profile(nn.Linear(10, 6), images(3, 10) - 0.5, energy=ENERGY, n_outputs=3).total
    counts = total.counts
    assert (counts.tiles, counts.shots, counts.programmed) == (6, 36, 6)
    # ragged tiles are filled up: 4 inputs, 3 outputs and 12 weights of each
    assert (counts.samples, counts.conversions, counts.drives) == (144, 108, 72)
    seconds = 36 * 1e-3 + 6 * 0.1
    assert total.latency.symbols_s == pytest.approx(0.036)
    assert total.latency.settling_s == pytest.approx(0.6)
    assert (total.latency.total_s, total.latency.bottleneck) == (pytest.approx(seconds), "settling")
    expected = {
        "laser_j": 2.0 * seconds,
        "heaters_j": 3.0 * seconds,
        "tia_j": 5.0 * seconds,
        "dac_j": 7e-3 * 144,
        "modulators_j": 11e-3 * 144,
        "adc_j": 13e-3 * 108,
        "write_j": 17e-3 * 72,
    }
    assert total.energy.model_dump() == pytest.approx({**expected, "total_j": sum(expected.values())})
    assert total.macs_per_j == pytest.approx(180 / sum(expected.values()))
    assert total.tops == pytest.approx(2 * 180 / seconds / 1e12)


@pytest.mark.parametrize(("partial", "inputs", "outputs"), [(True, 3, 2), (False, 4, 4)])
def test_a_weight_smaller_than_the_chip_drives_a_part_of_it(partial, inputs, outputs):
    """Converters and writing are billed by what is driven; laser, heaters and amplifiers are on for the whole chip."""
    total = lab_profile(nn.Linear(3, 2), images(5, 3), energy=ENERGY, partial_tiles=partial).total
    assert total.counts.samples == 5 * inputs
    assert total.counts.conversions == 5 * outputs
    assert total.counts.drives == inputs * outputs
    assert total.energy.laser_j == pytest.approx(2.0 * (5e-3 + 0.1))
    assert total.energy.heaters_j == pytest.approx(3.0 * (5e-3 + 0.1))


def test_a_mesh_is_programmed_and_read_as_a_whole():
    """All P phases and all outputs, however small the weight."""
    with photonic.open_backend("sim:mesh-typical?n_outputs=6&n_inputs=8") as backend:
        counts = profile_model(nn.Linear(3, 2), images(5, 3), backend).total.counts
    assert (counts.samples, counts.conversions) == (5 * 8, 5 * 6)
    assert counts.drives == svdmesh.drive_count(6, 8)


def test_every_tile_that_is_held_is_heated():
    """Three tiles on a chip that keeps two: one is held in the first call and two from then on."""
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    profile = lab_profile(model, images(10, 4), energy=ENERGY, resident_tiles=2)
    for layer, held in zip(profile.layers, (1, 2, 2), strict=True):
        assert layer.cost.energy.heaters_j == pytest.approx(3.0 * held * layer.cost.latency.total_s)
    assert profile.again.energy.heaters_j == pytest.approx(3.0 * 2 * profile.again.latency.total_s)


def test_a_chip_that_keeps_all_tiles_only_pays_for_shots_afterwards():
    """No settling, no writing; the bottleneck moves from settling to symbols."""
    profile = lab_profile(nn.Linear(8, 8), images(3, 8), energy=ENERGY, resident_tiles=4)
    assert (profile.total.counts.programmed, profile.again.counts.programmed) == (4, 0)
    assert profile.again.energy.write_j == 0.0
    assert profile.again.latency.total_s == pytest.approx(3 * 4 * 1e-3)
    assert (profile.total.latency.bottleneck, profile.again.latency.bottleneck) == ("settling", "symbols")


def test_too_few_converters_take_time():
    """Two outputs at once, of three in use: each shot is read twice."""
    total = lab_profile(nn.Linear(4, 3), images(200, 4), simultaneous_outputs=1, settle_time_s=0.0).total
    assert total.latency.converters_s == pytest.approx(2 * total.latency.symbols_s)
    assert total.latency.bottleneck == "converters"


@pytest.mark.parametrize("sign", ["auto", "offset", "space"])
@pytest.mark.parametrize("averaged", [1, 3])
def test_digital_work_is_its_formula(sign, averaged):
    """5 vectors of both signs, 10 x 6 on a 4 x 4 chip whose weights are not negative: the outputs are doubled."""
    options = {"sign": sign, "shots": averaged}
    fields = {"weight_code_range": (0.0, 127.0)}
    work = lab_profile(nn.Linear(10, 6), images(5, 10) - 0.5, options=options, **fields).digital
    results, arms = 5 * 6, 2 * 5 * 6
    sums = arms * (2 if sign == "auto" else 1)
    columns = 5 if sign == "space" else 3  # of 20 or of 10 inputs
    assert work.column_adds == sums * averaged * (columns - 1)
    assert work.dark_adds == sums * averaged
    assert work.average_adds == sums * (averaged - 1)
    assert work.sign_adds == (0 if sign == "space" else arms) + results
    assert work.bias_adds == results
    assert work.multiplies == sums * averaged * columns + (sums if averaged > 1 else 0) + results
    assert work.adds == work.column_adds + work.dark_adds + work.average_adds + work.sign_adds + work.bias_adds


def test_an_attention_has_a_bias_for_each_projection():
    """Query, key and value, of two sequences of five; the output projection is a layer of its own."""
    model, x = case("attention")
    with photonic.open_backend("sim") as backend:
        layers = {layer.layer: layer for layer in profile_model(model, x, backend).layers}
    assert layers["attention.in_proj"].digital.bias_adds == 3 * 2 * 5 * 12
    assert layers["attention.in_proj"].macs == 2 * 5 * 12 * (12 + 20 + 8)
    assert layers["attention.out_proj"].digital.bias_adds == 2 * 5 * 12


def test_groups_do_not_add_up():
    """Column tiles of different groups make different outputs."""
    layer = nn.Conv1d(8, 8, 1, groups=4, bias=False)
    work = lab_profile(layer, images(3, 8, 5)).digital
    assert (work.column_adds, work.bias_adds) == (0, 0)
    assert work.dark_adds == 3 * 5 * 8


# ---------------------------------------------------------------- what is not stated


def test_what_a_chip_does_not_state_is_not_zero():
    """No energy model, no time of a shot, no converter: None, and what depends on it too."""
    layer, x = nn.Linear(4, 4), images(2, 4)
    silent = lab_profile(layer, x).total
    assert (silent.energy, silent.macs_per_j) == (None, None)
    assert silent.latency is not None
    timeless = lab_profile(layer, x, energy=ENERGY, shot_time_s=0.0).total
    assert (timeless.latency, timeless.tops) == (None, None)
    energy = timeless.energy
    assert (energy.laser_j, energy.heaters_j, energy.tia_j, energy.total_j) == (None,) * 4
    assert energy.adc_j == pytest.approx(13e-3 * 8)
    with photonic.open_backend("sim:ideal") as backend:
        ideal = profile_model(layer, x, backend).total.energy
    assert (ideal.dac_j, ideal.adc_j, ideal.write_j, ideal.total_j) == (None,) * 4
    assert ideal.laser_j > 0


def test_exact_arithmetic_has_macs_only():
    """No chip, no cost."""
    profile = profile_model(nn.Linear(4, 4), images(2, 4), DigitalBackend())
    assert (profile.chip, profile.total, profile.again, profile.enob) == (None,) * 4
    assert (profile.digital_macs, profile.layers[0].cost) == (32, None)


def test_layers_that_stay_digital_are_in_no_total():
    """By glob; the last match wins."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with photonic.open_backend("sim") as backend:
        profile = profile_model(model, images(2, 4), backend, on_chip={"*": True, "1": False})
    assert [layer.cost is None for layer in profile.layers] == [False, True]
    assert (profile.total.macs, profile.digital_macs) == (32, 32)


def test_layers_that_no_backend_takes_are_named():
    """With the reason, so that nobody thinks that they were counted."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 1, 3))
    with photonic.open_backend("sim") as backend:
        profile = profile_model(model, images(1, 1, 5, 5), backend)
        with pytest.raises(ConversionError, match="no layer"):
            profile_model(nn.ReLU(), images(1, 4), backend)
    assert list(profile.unsupported) == ["1"]
    assert "transposed" in profile.unsupported["1"]


@pytest.mark.parametrize("options", ["", "&shots=3&sign=offset", "&sign=space"])
def test_a_twin_costs_what_its_chip_costs(options):
    """Its options included; it has no counters of converters of its own, and its chip is the one that is billed."""
    model, x = case("signed mlp")
    found = []
    for scheme in ("sim", "twin"):
        with photonic.open_backend(f"{scheme}:typical?{SMALL}&power_per_pair_w=2e-3{options}") as backend:
            profile = profile_model(model, x, backend)
        found.append(profile.model_dump(exclude={"backend", "chip"}))
    assert found[0] == found[1]


class Silent(Backend):
    """Stands for a chip and does not say what it asks of it."""

    def __init__(self):
        super().__init__(BackendSpec(name="silent", chip=LabChip().spec))

    def _matmul(self, x, weight):
        return x @ weight.mT


def test_a_backend_that_does_not_say_what_it_asks_is_refused():
    """Nothing is guessed of options that it may have."""
    with pytest.raises(SpecError, match="profile the chip itself"):
        profile_model(nn.Linear(4, 4), images(2, 4), Silent())
