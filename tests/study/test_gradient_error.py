"""The gradient-error experiment: against the study's figures, against exact sums, and as a command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from photonic.cli import main
from photonic.errors import SpecError
from photonic.models.activations import Gelu, Interpolated, Rectifier, Silu
from photonic.physics.codes import MidTread
from photonic.study.amplification import Reading, amplification, mean_near_zero
from photonic.study.gradienterror import derivative_errors, region
from photonic.study.gradientstudy import CURVES
from photonic.study.weightgradient import weight_gradient_errors

# ratio ReLU / GELU of the max, mean and rms in the zoom, EP 0.5, of an independent re-implementation of unknown, small
# numbers of draws; and of the mean error where |a w| <= 1 / p
FIGURES = {
    4: (3.3, 2.6, 3.4, 2.0),
    16: (9.4, 10.0, 14.0, 8.0),
    64: (28.0, 25.0, 44.0, 34.0),
    256: (99.0, 41.0, 113.0, 137.0),
}


@pytest.mark.parametrize("p", FIGURES)
def test_ratios_are_those_of_the_study(p):
    """Within 6 %, which is what those figures are good for."""
    found = derivative_errors(CURVES, p, 0.5, draws=300 if p == 256 else 2000).ratio("relu", "gelu")
    near = derivative_errors(CURVES, p, 0.5, where="near", draws=300).ratio("relu", "gelu")["mean"]
    measured = [found["max"], found["mean"], found["rms"], near]
    for value, expected in zip(measured, FIGURES[p], strict=True):
        assert value.value == pytest.approx(expected, rel=0.06, abs=2 * value.error)


def test_the_largest_error_is_that_of_each_draw():
    """.960 / .292 at p = 4: not that of the averaged map, which is much smaller."""
    found = derivative_errors(CURVES, 4, 0.5, draws=4000)
    assert found.error("relu")["max"].value == pytest.approx(0.97, abs=0.015)
    assert found.error("gelu")["max"].value == pytest.approx(0.287, abs=0.01)
    assert float(found.means["relu"].max()) < 0.7


def test_one_draw_alone_says_little_at_two_bits():
    """46 % spread of the ratio."""
    found = derivative_errors(CURVES, 4, 0.5, draws=4000)
    assert found.single_draw_spread("relu", "gelu") == pytest.approx(0.46, abs=0.03)


@pytest.mark.parametrize("name", CURVES)
def test_averages_are_the_exact_sums_over_all_readings(name):
    """Mean and rms by enumerating a~, w~ and z~ with their probabilities, p = 4."""
    codes, reading = MidTread(4), Reading.of(4, 0.5)
    values, points, curve = codes.values, region("zoom", codes), CURVES[name]
    of_value = reading.probabilities(values)
    products = (values[:, None] * values).flatten()
    of_product = reading.probabilities(products)
    mean, square = 0.0, 0.0
    for a, w in zip(points.a.tolist(), points.w.tolist(), strict=True):
        weights = (of_value[a][:, None] * of_value[w]).flatten() @ of_product
        error = (curve.derivative(values) - curve.derivative(values[a] * values[w])).abs()
        mean += float(weights @ error) / len(points.a)
        square += float(weights @ error.square()) / len(points.a)
    found = derivative_errors(CURVES, 4, 0.5, draws=20_000).error(name)
    assert found["mean"].value == pytest.approx(mean, abs=4 * found["mean"].error)
    assert found["rms"].value == pytest.approx(math.sqrt(square), abs=4 * found["rms"].error)
    assert found["mean"].error < 0.01 * mean


def test_standard_errors_cover_other_seeds():
    """The stated error is the spread over seeds."""
    ratios = [derivative_errors(CURVES, 4, 0.5, draws=500, seed=seed).ratio("relu", "gelu") for seed in range(30)]
    for name in ("max", "mean", "rms"):
        spread = float(torch.tensor([row[name].value for row in ratios]).std())
        assert ratios[0][name].error == pytest.approx(spread, rel=0.45)


def test_regions_are_what_they_say():
    """The zoom, the products within one step of zero, and all."""
    codes = MidTread(16)
    assert len(region("zoom", codes).a) == 9**2
    assert len(region("square", codes).a) == 33**2
    near = region("near", codes)
    products = codes.values[near.a] * codes.values[near.w]
    assert float(products.abs().max()) == pytest.approx(1 / 16)
    with pytest.raises(SpecError, match="zoom, near, square"):
        region("middle", codes)


@pytest.mark.parametrize(
    ("p", "expected"), [(256, (0.301, 0.227, 0.152, 0.077, 0.002)), (4, (0.301, 0.256, 0.211, 0.166, 0.121))]
)
def test_interpolation_moves_the_error_near_zero_as_the_study_has_it(p, expected):
    """In one dimension, within one step of zero, i = 0, .25, .5, .75, 1: linear at fine precision."""
    found = [mean_near_zero(Interpolated(Gelu(), i), p, 0.5) for i in (0, 0.25, 0.5, 0.75, 1)]
    assert found == pytest.approx(list(expected), abs=2e-3)


CLOSED = [Rectifier(), Rectifier(leak=0.2), Gelu(), Silu(2.0), Interpolated(Silu(), 0.5)]


@pytest.mark.parametrize("ep", [0.2, 0.8])
@pytest.mark.parametrize("p", [4, 64])
@pytest.mark.parametrize("curve", CLOSED, ids=str)
def test_the_closed_form_is_what_is_drawn_and_keeps_its_bound(curve, p, ep):
    """At zero, beside it, and where the clamp begins."""
    reading = Reading.of(p, ep)
    z = torch.tensor([0.0, 0.5, -1.0, 2.0, 0.6 * p, -p], dtype=torch.float64) / p
    exact, bound = reading.rms_error(curve, z), reading.bound(curve, z)
    for value, drawn in zip(exact.tolist(), reading.drawn_error(curve, z, 50_000, seed=1), strict=True):
        # as squares, of which events that happen less than five times in all samples may be missing
        assert drawn.value**2 == pytest.approx(value**2, abs=9 * drawn.value * drawn.error + 5 / 50_000)
    assert bool((exact <= bound * (1 + 1e-12)).all())


def test_no_bound_on_the_ratio_is_free_of_the_precision():
    """ReLU's error at zero is sqrt(EP / 2) at every p, the smooth one's falls as 1 / p: the ratio doubles with p."""
    found = {p: amplification(Rectifier(), Gelu(), p, 0.5) for p in (64, 128, 256, 512)}
    assert all(row.rectified == pytest.approx(0.5) for row in found.values())
    assert all(row.least_ratio <= row.ratio for row in found.values())
    for p in (64, 128, 256):
        assert found[2 * p].ratio / found[p].ratio == pytest.approx(2, rel=1e-3)
        assert found[p].one_step == pytest.approx(p / 0.798, rel=1e-3)


def test_the_bound_needs_zero_on_one_side():
    """A derivative of its own at zero is refused, not ignored."""
    with pytest.raises(SpecError, match="left side"):
        Reading.of(4, 0.5).bound(Rectifier(derivative_at_zero=0.5), torch.zeros(1, dtype=torch.float64))


def test_a_layer_s_weight_gradient_suffers_near_zero_under_relu_alone():
    """Far from zero ReLU' has no error at all, and what is left is the noise of the inputs."""
    found = weight_gradient_errors(CURVES, 64, 0.5, inputs=16, samples=500)
    zero, far = found.pre_activations.index(0.0), len(found.pre_activations) - 1
    assert found.whole["relu"][zero].value > 8 * found.whole["gelu"][zero].value
    assert found.derivative["relu"][far].value == 0.0
    assert found.whole["relu"][far].value == pytest.approx(found.operands.value, rel=0.02)
    assert found.derivative["gelu"][far].value > 0
    # noise of sigma .0116 and rounding to 1 / 64, over inputs uniform in [-1, 1]
    expected = math.sqrt((0.01158**2 + 1 / (12 * 64**2)) * 3)
    assert found.operands.value == pytest.approx(expected, rel=0.04)  # of few inputs, |x| itself varies


@pytest.mark.parametrize("size", [{"inputs": 0}, {"samples": 1}, {"pre_activations": (1.5,)}])
def test_layers_that_cannot_be_are_refused(size):
    """Not clipped."""
    with pytest.raises(SpecError, match="expected at least"):
        weight_gradient_errors(CURVES, 4, 0.5, **size)


def _run(*args: str):
    return CliRunner().invoke(main, ["study", "gradient-error", *args], standalone_mode=True)


def test_the_command_prints_ratios_by_activation_and_precision(tmp_path):
    """Keys are strings; figures are PNG; the same seed gives the same numbers."""
    args = ("--precision", "4", "--precision", "16", "--ep", "0.5", "--draws", "200", "--json")
    result = _run(*args, "--out", str(tmp_path / "figures"))
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert set(content["ratios"]) == {"gelu", "silu"}
    assert set(content["ratios"]["gelu"]) == {"4", "16"}
    assert set(content["ratios"]["gelu"]["4"]) == {"max", "mean", "rms"}
    assert content["standard_errors"]["gelu"]["4"]["max"] > 0
    assert [Path(path).read_bytes()[1:4] for path in content["figures"]] == [b"PNG"] * 3
    assert json.loads(_run(*args).stdout)["ratios"] == content["ratios"]
    assert json.loads(_run(*args, "--seed", "1").stdout)["ratios"] != content["ratios"]


def test_the_command_prints_tables_for_people():
    """With the claim as what it is."""
    result = _run("--precision", "4", "--draws", "50")
    assert result.exit_code == 0, result.output
    assert 'the "100x" of the study' in result.stdout
    assert "linear layer of 64 inputs" in result.stdout


def test_too_few_draws_are_said_and_not_divided_by():
    """Nothing over nothing is no ratio."""
    result = _run("--precision", "1", "--ep", "0.0001", "--draws", "2", "--json")
    assert result.exit_code == 2
    assert "take more draws" in result.stderr
    assert result.stdout == ""
