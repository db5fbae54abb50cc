"""The fitted response against the hidden truth of simulated chips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import photonic
from photonic.backends.simulated import SimulatedChip
from photonic.calibration.effective import Setting, effective_matrices
from photonic.calibration.model import Array, ChipModel, powers, shifted
from photonic.calibration.patterns import Patterns
from photonic.calibration.programming import rank_one
from photonic.calibration.response import ResponseFit, fit_response, with_believed_curves
from photonic.errors import CalibrationError
from photonic.physics.optics import Surroundings
from photonic.records import ChipSpec

SIZE = "n_inputs=12&n_outputs=8"


@dataclass(frozen=True)
class Measured:
    """Random settings of a chip, and readings without light."""

    chip: SimulatedChip
    settings: list[Setting]
    dark: tuple[Array, Array]

    @classmethod
    def of(cls, options: str, settings: int = 260, shots: int = 96, seed: int = 5) -> Measured:
        chip = photonic.open_chip(options, seed=seed)
        assert isinstance(chip, SimulatedChip)
        patterns = Patterns(chip.spec, torch.Generator().manual_seed(seed))
        share, found = patterns.share_in_range(False), []
        for _ in range(settings):
            weights = patterns.weights_uniform()
            some = shots // 3
            inputs = torch.cat(
                [patterns.inputs_binary(shots - some, share), patterns.inputs_uniform(some, min(1.0, 2 * share))]
            )
            counts = chip.measure(weights.reshape(1, 1, -1), inputs[None]).counts[0, 0].double().numpy()
            low, high = chip.spec.count_range
            usable = ((counts > low) & (counts < high)).all(0)
            found.append(
                Setting(weights.double().numpy(), inputs.double().numpy(), counts, usable, np.ones(len(counts)))
            )
        dark = chip.measure(
            patterns.weights_uniform().reshape(1, 1, -1), patterns.inputs_binary(4000)[None], {"laser_power": 0.0}
        ).counts[0, 0]
        zero = dark.double().numpy()
        return cls(chip, found, (zero.mean(0), zero.std(0) / len(zero) ** 0.5))

    def fit(self) -> ResponseFit:
        return fit_response(self.chip.spec, self.settings, self.dark)

    def truth(self, codes: Array, inputs: Array) -> Array:
        """Counts before the ADC without noise, of one setting."""
        device, k = self.chip._evaluation.device, self.chip.spec.response.counts_per_d[0]
        around = Surroundings(torch.Generator())
        signed = device.optics.matrices(torch.from_numpy(codes)[None].clone(), around)[0][0]
        light = device.transmitter.light(torch.from_numpy(inputs)[None], None, torch.Generator())[0]
        volts = (light @ signed.T * device.receiver.gain + device.receiver.offset_d) * k
        return np.asarray(volts)


CHIPS = {
    "rings": f"sim:typical?{SIZE}&channel_leakage=false&resonance_spread_nm=0.002&fwhm_spread=0.03",
    "rings that leak": f"sim:typical?{SIZE}",
    "rings with large spreads": f"sim:typical?{SIZE}&gain_spread=0.1&channel_spread=0.1&v_pi_spread=0.02",
    "cells": f"sim:crossbar-typical?{SIZE}",
}


@pytest.mark.parametrize("name", CHIPS)
def test_it_predicts_settings_that_it_has_not_seen(name: str) -> None:
    """A tenth of a count for random codes, of inputs and weights; the nominal response is many times further off."""
    measured = Measured.of(CHIPS[name])
    model, spec = measured.fit().model, measured.chip.spec
    patterns, errors, nominal = Patterns(spec, torch.Generator().manual_seed(99)), [], []
    for _ in range(20):
        codes = patterns.weights_uniform().double().numpy()
        inputs = patterns.inputs_uniform(20, patterns.share_in_range(False)).double().numpy()
        truth = measured.truth(codes, inputs)
        errors.append(model.volts(codes, inputs) - truth)
        nominal.append(ChipModel.nominal(spec).volts(codes, inputs) - truth)
    error, before = np.sqrt(np.mean(np.square(errors))), np.sqrt(np.mean(np.square(nominal)))
    assert error < 0.12
    assert before > 8 * error


def test_parameters_lie_within_their_errors() -> None:
    """Modulators, extinction, zeros: mean square of (found - true) / error over 3 chips."""
    deviations: dict[str, list[Array]] = {"v_pi": [], "bias": [], "zero": [], "extinction": []}
    for seed in (1, 2, 3):
        measured = Measured.of(CHIPS["rings"], seed=seed)
        fit, device = measured.fit(), measured.chip._evaluation.device
        assert fit.transfer is not None
        assert fit.transfer.level_min_se is not None
        found, k = fit.model.inputs, measured.chip.spec.response.counts_per_d[0]
        true = device.transmitter
        deviations["v_pi"].append((found.inverse_v_pi - true.inverse_v_pi.numpy()) / fit.transfer.inverse_v_pi_se)
        deviations["bias"].append((found.bias_rad - true.bias_rad.numpy()) / fit.transfer.bias_se)
        deviations["zero"].append((fit.model.zero - device.receiver.offset_d.numpy() * k) / fit.zero_se)
        deviations["extinction"].append(np.array([(found.level_min - true.level_min) / fit.transfer.level_min_se]))
    for name, values in deviations.items():
        square = float(np.mean(np.concatenate(values) ** 2))
        assert 0.3 < square < (1.8 if name != "extinction" else 5.0), (name, square)


def test_neighbours_are_found_where_they_are() -> None:
    """Leakage lies along the row and moves weights towards +1; a bank without it gets no such part."""
    leaking, alone = Measured.of(CHIPS["rings that leak"]).fit(), Measured.of(CHIPS["rings"]).fit()
    assert set(leaking.programming.crosstalk.offsets) >= {(0, -1), (0, 1)}
    assert leaking.model.target == 1.0
    assert not alone.programming.crosstalk.offsets


def test_what_a_neighbour_adds_has_an_interval() -> None:
    """What each of the nearest neighbours adds to a weight of 0 at its lowest code, on average over all pairs."""
    measured = Measured.of(CHIPS["rings that leak"])
    fit, spec = measured.fit(), measured.chip.spec
    found, codes = fit.programming, np.linspace(*spec.weight_code_range, fit.model.curves.shape[1])
    near = [k for k, (_, column) in enumerate(found.crosstalk.offsets) if abs(column) == 1]
    assert len(near) == 2
    rest, optics = codes[np.abs(found.curves[1]).argmin()], measured.chip._evaluation.device.optics
    for k in near:
        most, error, away = found.added[0][k], found.added[1][k], int(found.offsets[k, 1])
        at = np.arange(max(0, -away), spec.n_inputs - max(0, away))
        settings = np.full((1 + len(at), spec.n_outputs, spec.n_inputs), rest)
        settings[np.arange(len(at)) + 1, :, at + away] = spec.weight_code_range[0]
        w = optics.matrices(torch.from_numpy(settings), Surroundings(torch.Generator()))[0].numpy() * spec.n_inputs
        true = 1 - (1 - w[np.arange(len(at)) + 1, :, at]) / (1 - w[0].T[at])
        assert 0 < error < 0.1 * abs(most)
        assert abs(most - true.mean()) < 4 * error + 0.05 * abs(true.mean()), (k, most, true.mean(), true.std(), error)


def test_curves_that_elements_do_not_differ_by_are_left_out() -> None:
    """Cells differ by gain and offset alone; rings by their widths and resonances."""
    for name, most, least in (("cells", 2, 2), ("rings", 4, 3)):
        measured = Measured.of(CHIPS[name])
        found = with_believed_curves(measured.chip.spec, measured.settings, measured.fit()).programming
        assert least <= len(found.curves) <= most
        assert found.raw.shape[2] == len(found.curves)


def test_the_gauge_is_the_documented_one() -> None:
    """Mean power 1, mean slope of each row 1, and the curve's line is code / code_one."""
    model = Measured.of(CHIPS["rings with large spreads"]).fit().model
    line = np.linspace(*model.spec.weight_code_range, model.curves.shape[1]) / model.spec.response.weight_code_one
    assert np.isclose(model.power.mean(), 1.0)
    assert np.allclose(model.element[..., 1].mean(1), 1.0)
    assert np.allclose(np.polyfit(line, model.curves[1], 1), [1.0, 0.0], atol=1e-9)


def test_an_output_that_does_not_answer_is_named() -> None:
    """A dead channel is no small gain."""
    measured = Measured.of(CHIPS["rings"], settings=60)
    generator = np.random.default_rng(0)
    for setting in measured.settings:
        setting.volts[:, 3] = generator.normal(size=len(setting.volts))
    with pytest.raises(CalibrationError, match=r"output 3 does not answer"):
        measured.fit()


def test_effective_matrices_are_unbiased_with_their_stated_variance() -> None:
    """Random matrices, noise of different outputs: z has a mean square of 1; zeros are found along."""
    generator = np.random.default_rng(1)
    noise, zero = np.array([0.5, 2.0, 1.0]), np.array([3.0, -1.0, 0.5])
    settings, light, true = [], [], []
    for _ in range(200):
        matrix, levels = generator.normal(size=(3, 6)), generator.random((40, 6))
        volts = levels @ matrix.T + zero + generator.normal(size=(40, 3)) * np.sqrt(noise)
        settings.append(Setting(np.zeros((3, 6)), np.zeros((40, 6)), volts, np.ones(3, dtype=bool), np.ones(40)))
        light.append(levels)
        true.append(matrix)
    found = effective_matrices(settings, light, None)
    z = (found.matrix - np.array(true)) / np.sqrt(found.variance[..., None])
    assert np.allclose((z**2).mean((0, 2)), 1.0, atol=0.15)
    assert np.allclose(found.noise, noise, rtol=0.06)
    assert (np.abs(found.zero - zero) < 4 * found.zero_se).all()


def test_parts_of_the_model() -> None:
    """Shifts leave zeros where there is no neighbour; powers begin with the first; rank one splits a product."""
    values = np.arange(12.0).reshape(3, 4)
    assert shifted(values, 0, 1)[1].tolist() == [5.0, 6.0, 7.0, 0.0]
    assert shifted(values, -1, 0)[0].tolist() == [0.0] * 4
    assert shifted(values, 5, 0).sum() == 0
    assert np.allclose(powers(np.array([2.0]), np.array([1.0, 10.0])), 2 + 40)
    gain, power = np.array([2.0, -3.0]), np.array([0.5, 1.5, 1.0])
    found = rank_one(gain[:, None] * power)
    assert np.allclose(found[0], gain)
    assert np.allclose(found[1], power)


def test_nominal_model_is_the_data_sheet() -> None:
    """At full inputs and weights of +1, D = 1."""
    spec: ChipSpec = photonic.open_chip(f"sim:ideal?{SIZE}").spec
    model = ChipModel.nominal(spec)
    full = np.full((spec.n_outputs, spec.n_inputs), spec.response.weight_code_one)
    ones = np.full((1, spec.n_inputs), spec.response.inputs.code_one)
    assert np.allclose(model.results(full, ones), 1.0)
    assert np.allclose(model.powers(full, ones), 1.0)
