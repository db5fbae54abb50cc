"""`photonic explain`: the dominant effect is named, and every figure is what its formula says."""

from __future__ import annotations

import json
import math

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from photonic.analysis.budget import Budget, ModelBudget, Product, compare, interval, student_95
from photonic.analysis.budget_plot import draw_budget
from photonic.analysis.explain import explain_model, explain_product, standard_product
from photonic.analysis.switches import SwitchedChip
from photonic.backends.chip import Chip
from photonic.cli import main
from photonic.errors import ShapeError, SpecError
from photonic.physics.presets import PRESETS
from photonic.records import ChipSpec, Response

from .calibration.synthetic import calibration_of

SMALL = {"n_outputs": 16, "n_inputs": 16}
QUIET = {**SMALL, "offset_spread_lsb": 0.02}
PRODUCT = {"batch": 16, "blocks": 8, "repeats": 8}
FAST = ["--batch", "2", "--blocks", "2", "--repeats", "2"]
PNG = b"\x89PNG\r\n\x1a\n"


def chip_of(preset, device=0, **fields):
    base = PRESETS[preset]
    return SwitchedChip.from_parameters(type(base)(**{**base.model_dump(), **fields}), device=device)


def budget_of(chip, **fields):
    return explain_product(chip, standard_product(chip.parameters, **{**PRODUCT, **fields}))


def share(budget, effect):
    return next(share for share in budget.effects if share.effect == effect)


# ---------------------------------------------------------------- the dominant effect


@pytest.mark.parametrize(
    ("preset", "fields", "effect"),
    [
        ("typical", {"thermal_noise_a_per_rthz": 300e-12}, "thermal noise"),
        ("typical", {"power_per_pair_w": 1e-6}, "thermal noise"),
        ("typical", {"power_per_pair_w": 1e-6, "thermal_noise_a_per_rthz": 1e-13}, "shot noise"),
        ("typical", {"rin_db_per_hz": -110.0}, "RIN"),
        ("typical", {"adc_bits": 3}, "ADC quantisation and clipping"),
        ("typical", {"input_bits": 2}, "input quantisation"),
        ("typical", {"weight_bits": 2}, "weight quantisation"),
        ("typical", {"gain_spread": 0.29}, "gain spread"),
        ("typical", {"resonance_spread_nm": 0.03}, "ring spread"),
        ("typical", {"offset_spread_lsb": 20.0}, "offset spread"),
        ("crossbar-typical", {"thermal_noise_a_per_rthz": 300e-12}, "thermal noise"),
        ("crossbar-typical", {"gain_spread": 0.29}, "gain spread"),
        ("crossbar-typical", {"channel_spread": 0.29}, "channel imbalance"),
        ("mesh-typical", {"phase_error_rad": 0.3}, "phase error"),
        ("mesh-typical", {"power_per_pair_w": 1e-6}, "thermal noise"),
        ("mesh-typical", {"lo_phase_spread_rad": 0.9}, "local oscillator phase"),
    ],
)
def test_the_dominant_effect_is_named(preset, fields, effect):
    """On a chip with one effect far above the others, that one, in the sentence too, and well ahead of the next."""
    budget = budget_of(chip_of(preset, **{**QUIET, **fields}), batch=8, blocks=4, repeats=4)
    assert budget.dominant == effect
    assert budget.sentence.startswith(f"The dominant effect is {effect}:")
    assert budget.margin.value > 4 * budget.margin.standard_error
    # and without it much of the error is gone
    assert share(budget, effect).change.value > 0.3 * budget.total.total.value


def test_equal_effects_are_not_told_apart():
    """Two effects that make the same error are both named, as too close to tell."""
    chip = chip_of("ideal", thermal_noise_a_per_rthz=15e-12, **SMALL)
    alone = budget_of(chip).effects[0].alone.total.value
    # RIN alone makes an error of 10^(RIN / 10) B of the output's mean square
    rin = 10 * math.log10(alone / chip.parameters.bandwidth_hz)
    budget = budget_of(chip_of("ideal", thermal_noise_a_per_rthz=15e-12, rin_db_per_hz=rin, **SMALL))
    assert "too close to tell" in budget.sentence


def test_a_known_extinction_ratio_makes_no_error_but_enlarges_others():
    """The nominal calibration knows it and takes the dark level off; the light that is left carries less signal."""
    budget = budget_of(chip_of("typical", **{**QUIET, "extinction_ratio_db": 5.0}))
    extinction = share(budget, "finite extinction")
    assert extinction.alone.total.rms < 1e-12
    assert extinction.change.value > 10 * extinction.change.standard_error
    assert budget.interaction.value > 10 * budget.interaction.standard_error
    assert budget.dominant != "finite extinction"


# ---------------------------------------------------------------- figures against formulas


def test_thermal_noise_alone_is_its_formula():
    """Variance sum_c (max|w_rc| N max x)^2 i_n^2 B / I^2 of each output, all of it random."""
    chip = chip_of("typical", **QUIET)
    product = standard_product(chip.parameters)
    budget = explain_product(chip, product)
    assert product.batch * product.outputs * product.blocks * product.repeats >= 200_000
    noise = chip.parameters.model_copy(update={"shot_noise": False}).noise.thermal
    variance, power = 0.0, 0.0
    for block in range(product.blocks):
        x, weight = product.draw(block)
        scales = weight.reshape(product.outputs, -1, chip.parameters.n_inputs).abs().amax(-1)
        worth = chip.parameters.n_inputs * x.max()
        variance += float((scales * worth).square().sum(-1).mean() * noise)
        power += float((x @ weight.mT).square().mean())
    alone = share(budget, "thermal noise").alone
    assert alone.random.value == pytest.approx(variance / power, rel=0.02)
    assert abs(alone.systematic.value) < 3 * alone.systematic.standard_error


@pytest.mark.parametrize("preset", ["typical", "crossbar-typical", "mesh-typical"])
def test_rin_alone_is_its_formula(preset):
    """One factor for each tile-shot: with weights of both signs the relative variance is 10^(RIN/10) B."""
    chip = chip_of(preset, **SMALL)
    alone = share(budget_of(chip, batch=48), "RIN").alone.random
    expected = 10 ** (chip.parameters.rin_db_per_hz / 10) * chip.parameters.bandwidth_hz
    if preset == "typical":  # on the others both signs share an output no more than here, but scales differ
        assert alone.value == pytest.approx(expected, rel=0.1)
    assert 0.5 * expected < alone.value < 20 * expected


@pytest.mark.parametrize("preset", ["typical", "pessimistic", "crossbar-typical", "mesh-typical", "mesh-pessimistic"])
def test_all_effects_off_is_exact(preset):
    """An effect without a switch would show here."""
    chip = chip_of(preset, **SMALL)
    product = standard_product(chip.parameters, batch=4, blocks=2, repeats=2)
    with chip.opener(chip.ideal().parameters) as backend:
        x, weight = product.draw(0)
        error = backend.matmul(x, weight) - x @ weight.mT
    assert float(error.abs().max()) < 1e-9 * float((x @ weight.mT).abs().max())


def test_an_ideal_chip_has_an_empty_budget():
    """No effects, no error, and no effect is named."""
    budget = budget_of(chip_of("ideal", **SMALL), blocks=2, repeats=2)
    assert budget.effects == ()
    assert (budget.dominant, budget.margin) == (None, None)
    assert budget.total.total.rms < 1e-12
    assert "ideal" in budget.sentence


def test_parts_and_interaction_are_what_they_are_defined_as():
    """interaction = total - sum of the parts, change = total - off, total = systematic + random: mean squares."""
    budget = budget_of(chip_of("pessimistic", **SMALL), signed=True, blocks=4)
    total = budget.total.total.value
    parts = sum(part.alone.total.value for part in budget.effects)
    assert budget.interaction.value == pytest.approx(total - parts, rel=1e-9)
    for part in budget.effects:
        assert part.change.value == pytest.approx(total - part.off.total.value, abs=1e-9 * total)
        assert part.alone.total.value == pytest.approx(part.alone.systematic.value + part.alone.random.value)
    alone = [part.alone.total.value for part in budget.effects]
    assert alone == sorted(alone, reverse=True)


def test_offsets_do_not_grow_when_the_adc_is_switched_off():
    """They are stated in LSB, and a chip without an ADC has another LSB; the offset in D must stay."""
    chip = chip_of("typical", **{**SMALL, "offset_spread_lsb": 20.0})
    alone = chip.alone("offset spread").parameters
    assert alone.adc_bits is None
    assert alone.offset_spread_lsb * alone.lsb == pytest.approx(20.0 * chip.parameters.lsb)


def test_the_hidden_device_stays():
    """Another device has another gain spread, and switching others off does not change it."""
    gains = {"gain_spread": 0.1, "shot_noise": False}
    alone = [budget_of(chip_of("ideal", device=n, **SMALL, **gains), blocks=2).total.systematic for n in (0, 1)]
    among = budget_of(chip_of("typical", device=0, **SMALL, gain_spread=0.1), blocks=2)
    assert share(among, "gain spread").alone.systematic.value == pytest.approx(alone[0].value, rel=1e-6)
    assert alone[0] != alone[1]


# ---------------------------------------------------------------- statistics


def test_the_parts_of_an_error_are_without_bias():
    """Over many blocks of two repeats each, the variance of the mean does not end up in the systematic part."""
    generator = torch.Generator().manual_seed(0)
    exact = torch.ones(200_000, dtype=torch.float64)
    noise = torch.randn(2, 200_000, generator=generator, dtype=torch.float64)
    systematic, random, power = compare(exact, exact + 0.1 + 0.5 * noise)
    assert float(systematic) == pytest.approx(0.01, abs=0.002)
    assert float(random) == pytest.approx(0.25, rel=0.01)
    assert float(power) == 1.0


@pytest.mark.parametrize(("freedom", "t"), [(1, 12.7062), (2, 4.3027), (9, 2.2622), (30, 2.0423), (1000, 1.9623)])
def test_student_s_t(freedom, t):
    """As in the tables."""
    assert student_95(freedom) == pytest.approx(t, abs=1e-4)


def test_intervals_cover():
    """95 % of 95 % intervals of five passes hold the true mean."""
    draws = torch.randn(2000, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    covered = sum(abs(found.mean) <= found.ci95 for found in map(interval, draws))
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


# ---------------------------------------------------------------- models


def tiny_model():
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 4, 3, bias=False)
    return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))


def tiny_budget(chip, **options):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(24, 1, 6, 6, generator=generator)
    model = tiny_model().eval()
    with torch.inference_mode():
        y = model(x).argmax(1)  # what the digital model says, so that its accuracy is 1
    return explain_model(chip, model, x, y, passes=3, **options)


def test_a_model_s_layers_are_measured_on_exact_inputs():
    """A gain error makes the same relative error in every layer; were inputs passed on, it would grow with depth."""
    budget = tiny_budget(chip_of("ideal", gain_spread=0.05, **SMALL))
    assert [layer.layer for layer in budget.layers] == ["0", "3", "5"]
    for layer in budget.layers:
        assert layer.total.systematic.rms == pytest.approx(0.05, rel=0.8)
        assert layer.total.random.rms < 1e-5
        assert layer.ideal.total.rms < 1e-5
        assert list(layer.alone) == ["gain spread"]
        assert abs(layer.interaction.value) < 1e-12


def test_a_model_s_budget_names_each_effect_in_each_layer_and_in_accuracy():
    """Noise costs accuracy, its absence gives it back, and all effects off is the digital model."""
    chip = chip_of("ideal", thermal_noise_a_per_rthz=1e-9, gain_spread=1e-4, **SMALL)
    budget = tiny_budget(chip)
    assert all(next(iter(layer.alone)) == "thermal noise" for layer in budget.layers)
    assert budget.digital == budget.ideal.mean == 1.0
    assert budget.ideal.ci95 == 0.0
    first = budget.effects[0]
    assert first.effect == "thermal noise"
    assert first.loss.mean == pytest.approx(1 - first.alone.mean)
    assert first.loss.mean > 0.1
    assert first.change.mean == pytest.approx(first.off.mean - budget.total.mean)
    losses = sum(effect.loss.mean for effect in budget.effects)
    assert budget.interaction.mean == pytest.approx(1 - budget.total.mean - losses)


def test_layers_can_stay_digital():
    """By glob; the last match wins."""
    budget = tiny_budget(chip_of("ideal", gain_spread=0.05, **SMALL), on_chip={"*": True, "0": False})
    assert [layer.layer for layer in budget.layers] == ["3", "5"]


def test_too_few_images_are_refused():
    """One image has no spread to make an interval of."""
    with pytest.raises(ShapeError, match="at least 2"):
        explain_model(chip_of("ideal", **SMALL), tiny_model(), torch.rand(1, 1, 6, 6), torch.zeros(1), passes=3)


# ---------------------------------------------------------------- specs


def test_a_spec_string_gives_the_chip_that_its_parameters_give():
    """Options of chip and backend included; effects are switched by opening the spec with other options."""
    spec = "sim:pessimistic?device=3&n_outputs=16&n_inputs=16&laser_power_w=1e-3&weight_scale=tile"
    chip = SwitchedChip.from_spec(spec, seed=5)
    same = SwitchedChip.from_parameters(chip.parameters, device=3, seed=5, weight_scale="tile")
    product = Product(outputs=16, inputs=32, batch=2, blocks=2, repeats=2)
    assert explain_product(chip, product).effects == explain_product(same, product).effects


class LabChip(Chip):
    def __init__(self):
        super().__init__(ChipSpec(chip_id="lab", n_outputs=2, n_inputs=2, response=Response(counts_per_d=(1.0,))))

    def _measure(self, weights, inputs, conditions):
        return torch.zeros(*weights.shape[:2], inputs.shape[1], self.spec.n_outputs, dtype=self.spec.count_dtype)


@pytest.mark.parametrize("spec", ["digital", "tests.test_explain:LabChip"])
def test_only_a_simulated_chip_has_switches(spec):
    """What has no parameters is refused, and the message says what would do."""
    with pytest.raises(SpecError, match="only a simulated chip has switches"):
        SwitchedChip.from_spec(spec)


# ---------------------------------------------------------------- the command


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(main, list(args))


SPEC = "sim:typical?n_outputs=16&n_inputs=16&thermal_noise_a_per_rthz=3e-10"


def test_the_table_begins_with_the_answer(run):
    """And shows every effect; the warning of the nominal calibration has no place where that is the question."""
    result = run("explain", SPEC, *FAST)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("The dominant effect is thermal noise: alone it makes ")
    for text in ("gain spread", "RIN", "interaction", "all effects", "none (rounding)"):
        assert text in result.stdout
    assert "warning" not in result.stderr


def test_json_and_picture(run, tmp_path):
    """One object, whose fields are the budget's; the picture is a PNG."""
    result = run("explain", SPEC, *FAST, "--json", "--out", "budget.png", "--signed", "--seed", "3")
    content = json.loads(result.stdout)
    assert (content.pop("model"), content.pop("picture")) == (None, "budget.png")
    sentence = content.pop("sentence")
    budget = Budget(**content)
    assert budget.sentence == sentence
    assert budget.product == Product(outputs=32, inputs=48, batch=2, blocks=2, repeats=2, signed=True, seed=3)
    assert (tmp_path / "budget.png").read_bytes().startswith(PNG)


def test_a_trained_run_is_explained(run):
    """Its layers, its accuracy, and the same weights as the run tested digitally; the picture has a third panel."""
    trained = json.loads(
        run("train", "--epochs", "1", "--limit", "96", "--out", "here", "--route", "1=digital", "--json").stdout
    )
    result = run("explain", SPEC, *FAST, "--model", "here", "--passes", "2", "--json", "--out", "budget.png")
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    model = ModelBudget(**content["model"])
    assert [layer.layer for layer in model.layers] == ["3", "5"]  # what the run kept digital stays so
    assert model.digital == trained["accuracy"]["digital_same_weights"]
    assert model.images == trained["test_images"]
    assert {effect.effect for effect in model.effects} == {effect["effect"] for effect in content["effects"]}
    table = run("explain", SPEC, *FAST, "--model", "here", "--passes", "2", "--images", "8").stdout
    assert "gained without it" in table
    assert "accuracy on 8 test images" in table


def test_a_measured_chip_says_what_can_be_done_instead(run, tmp_path):
    """Its record holds what effects do together."""
    calibration_of().save(tmp_path / "chip.json")
    found = run("explain", f"sim:{tmp_path / 'chip.json'}")
    assert found.exit_code == 2
    for way in ("photonic report FILE.json", "sim:typical?n_outputs=16&n_inputs=16"):
        assert way in found.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("digital",), "only a simulated chip has switches"),
        (("sim:nothing",), "unknown preset"),
        (("sim", "--model", "nowhere"), "no run folder"),
        (("sim", "--out", "budget.pdf"), "expected a .png"),
        (("sim", "--out", "nowhere/budget.png"), "a folder that exists"),
        (("sim", "--repeats", "1"), "--repeats"),
        ((), "SPEC"),
    ],
)
def test_a_mistake_is_one_line(run, args, message):
    """Exit code 2, and nothing on stdout."""
    result = run("explain", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_unfinished_run_is_refused(run, tmp_path):
    """Its weights are not what its result will be of."""
    run("train", "--epochs", "1", "--limit", "96", "--out", "here")
    (tmp_path / "here" / "result.json").unlink()
    result = run("explain", "sim", "--model", "here")
    assert result.exit_code == 2
    assert "photonic train --resume here" in result.stderr


def test_the_picture_of_an_ideal_chip_is_drawn_too():
    """With nothing in it but the frame."""
    assert draw_budget(budget_of(chip_of("ideal", **SMALL), blocks=2, repeats=2)).getvalue().startswith(PNG)
