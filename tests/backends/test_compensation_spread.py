"""Products through a measured calibration of a strongly spread simulated chip, and through ADCs that are not linear."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from photonic.backends.base import ConvGeometry
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.compensation import Compensation
from photonic.backends.simulated import SimulatedChip, open_simulated
from photonic.calibration.model import NO_NEIGHBOURS, NO_OFFSETS
from photonic.physics.optics import Surroundings
from photonic.physics.ringbank import RingBank
from photonic.records import Calibration, Response
from tests.backends.modelchip import (
    MZM,
    M,
    ModelChip,
    backend_of,
    error_of,
    model_of,
    randn,
    record_of,
    spec_of,
)

# ---------------------------------------------------------------- a simulated chip that is strongly spread


STRONG: dict[str, Any] = {
    "n_outputs": 16, "n_inputs": 16, "channel_leakage": False,
    "shot_noise": False, "thermal_noise_a_per_rthz": 0.0, "rin_db_per_hz": None, "dark_current_a": 0.0,
    "gain_spread": 0.1, "channel_spread": 0.1, "resonance_spread_nm": 0.003,
    "v_pi_spread": 0.02, "bias_spread_rad": 0.02,
    # 2 of the 8-bit LSB of a chip with the ADC at 0.25
    "adc_bits": 16, "adc_full_scale": 1.0, "offset_spread_lsb": 2 * 64.0,
}  # fmt: skip


class Truth:
    """What a simulated chip hides: weights (M, N, 255) of all codes and levels (N, 256) of all codes."""

    def __init__(self, chip: SimulatedChip) -> None:
        device, spec = chip._evaluation.device, chip.spec
        optics, transmitter = device.optics, device.transmitter
        assert isinstance(optics, RingBank)
        m, n = spec.n_outputs, spec.n_inputs
        codes = torch.arange(-127.0, 128.0, dtype=torch.float64)
        tiles = codes.view(-1, 1, 1).expand(-1, m, n)
        generator = torch.Generator()
        self.weights = optics.matrices(tiles, Surroundings(generator))[0].permute(1, 2, 0) * n
        light = torch.arange(256, dtype=torch.float64).unsqueeze(1).expand(-1, n)
        self.levels = transmitter.light(light, None, generator).T
        self.per_d, self.device, self.spec = spec.response.counts_per_d[0], device, spec

    def record(self) -> Calibration:
        """The truth as arrays; curves are singular vectors of the elements' own, as many as there is anything in."""
        spec, device = self.spec, self.device
        values = self.weights.flatten(0, 1).numpy()
        mean = values.mean(0)
        vectors = np.linalg.svd(values - mean)[2][:24]
        curves = np.stack([np.ones_like(mean), mean, *vectors])
        element = np.linalg.lstsq(curves.T, values.T, rcond=None)[0].T.reshape(*self.weights.shape[:2], -1)
        transmitter, receiver = device.transmitter, device.receiver
        arrays = {
            "counts_per_d": receiver.gain.numpy() * self.per_d,
            "zero_count": receiver.offset_d.numpy() * self.per_d,
            "power": transmitter.power.numpy(),
            "inverse_v_pi": transmitter.inverse_v_pi.numpy(),
            "bias_rad": transmitter.bias_rad.numpy(),
            "level_min": np.array([transmitter.level_min]),
            "curves": curves,
            "element": element,
            "neighbour_offsets": NO_OFFSETS,
            "neighbour": NO_NEIGHBOURS,
            "neighbour_target": np.ones(1),
        }
        return Calibration(chip_id=spec.chip_id, nominal=False, response=spec.response, spec=spec, arrays=arrays)

    def floor(self, x: Tensor, weight: Tensor, offset: bool) -> Tensor:
        """The product (B, M) of the nearest weights and levels that the chip has, each found among all codes."""
        m, n = weight.shape
        w, levels = self.weights[:m, :n], self.levels[:n]
        scale = torch.maximum(weight / w.amax(-1), weight / w.amin(-1)).amax(1, keepdim=True)
        nearest = (w - (weight / scale).unsqueeze(-1)).abs().argmin(-1, keepdim=True)
        w = w.gather(-1, nearest).squeeze(-1) * scale
        low = levels.amin(1).amax()
        span = levels.amax(1).amin() - low

        def lit(v: Tensor) -> Tensor:
            rows = (levels - (low + span * v).unsqueeze(-1)).abs().argmin(-1, keepdim=True)
            found: Tensor = (levels.expand(len(v), -1, -1).gather(-1, rows).squeeze(-1) - low) / span
            return found

        top = x.abs().max()
        v = x / top
        if offset:
            return (2 * lit((v + 1) / 2) - 1) @ w.T * top
        return (lit(v.clamp(min=0)) - lit(v.neg().clamp(min=0))) @ w.T * top


@pytest.mark.parametrize(("sign", "n"), [("time", 16), ("offset", 16), ("time", 9)])
def test_a_strongly_spread_chip_is_as_good_as_its_codes(sign: str, n: int) -> None:
    """The error is that of the nearest weights and levels, found by search; a tenth of the uncalibrated one or less.

    Weights are not all the nearest ones: their errors cancel in a row, which inputs of both signs have little of.
    """
    for device in range(3):
        chip = open_simulated("typical", device=device, **STRONG)
        truth = Truth(chip)
        x, weight = randn(1, 300, n).float(), randn(1, 16, n, seed=1).float()
        exact = x.double() @ weight.double().mT
        floor = float(
            (truth.floor(x[0].double(), weight[0].double(), sign == "offset") - exact[0]).norm() / exact.norm()
        )
        error = error_of(CalibratedBackend(chip, truth.record(), sign=sign), x, weight)
        assert 0.97 * floor < error < 1.06 * floor
        assert error_of(CalibratedBackend(chip, sign=sign), x, weight) > 10 * error


def test_weights_of_a_row_are_balanced_for_light() -> None:
    """Inputs evenly spread from 0 to 1: an error well below that of the nearest weights."""
    for device in range(3):
        chip = open_simulated("typical", device=device, **STRONG)
        truth = Truth(chip)
        x = torch.rand(1, 300, 16, generator=torch.Generator().manual_seed(0))
        weight = randn(1, 16, 16, seed=1).float()
        exact = (x.double() @ weight.double().mT)[0]
        floor = (truth.floor(x[0].double(), weight[0].double(), False) - exact).norm() / exact.norm()
        assert error_of(CalibratedBackend(chip, truth.record()), x, weight) < 0.8 * float(floor)


@pytest.mark.parametrize("sign", ["auto", "space"])
def test_all_shapes_of_a_strongly_spread_chip(sign: str) -> None:
    """3 x 2 tiles in 2 groups with parts of tiles, and convolutions, depthwise ones too."""
    chip = open_simulated("typical", device=3, **STRONG)
    record = Truth(chip).record()
    measured, nominal = CalibratedBackend(chip, record, sign=sign), CalibratedBackend(chip, sign=sign)
    x, weight = randn(2, 60, 40).float(), randn(2, 20, 40, seed=1).float()
    assert error_of(nominal, x, weight) > 10 * error_of(measured, x, weight)
    images = randn(2, 8, 9, 9).float()
    for groups in (1, 8):
        kernel, geometry = randn(8, 8 // groups, 3, 3, seed=2).float(), ConvGeometry((1, 1), (1, 1), (1, 1), groups)
        exact = torch.nn.functional.conv2d(images, kernel, None, 1, 1, 1, groups)
        errors = [float((b.convolve(images, kernel, geometry) - exact).norm()) for b in (nominal, measured)]
        assert errors[0] > 10 * errors[1]


# ---------------------------------------------------------------- ADCs


def test_counts_are_read_at_the_middle_of_their_width() -> None:
    """Each output by its own table; end codes as wide as any; a missing code where its transitions meet."""
    table = np.array([[-2.0, -0.5, 0.5, 0.5, 2.5, 3.0, 4.0], np.arange(-2.5, 4.0)])
    spec = spec_of(n_outputs=2, adc_bits=3, count_range=(-4.0, 3.0))
    encoder = Compensation.of(record_of(replace(model_of(spec), transitions=table)), spec)
    counts = torch.arange(-4, 4, dtype=torch.int16).view(1, 1, 8, 1).expand(2, 1, 8, 2)
    volts = encoder.volts(counts, torch.float64)
    expected = [-2.5, -1.25, 0.0, 0.5, 1.5, 2.75, 3.5, 4.5]
    assert volts[1, 0, :, 0].tolist() == expected
    assert volts[0, 0, :, 1].tolist() == list(np.arange(-3.0, 5.0))
    assert encoder.volts(counts[..., :1], torch.float32)[0, 0, :, 0].tolist() == expected


@pytest.mark.parametrize("alike", [False, True])
def test_an_adc_s_nonlinearity_is_corrected(alike: bool) -> None:
    """4 counts of INL: what is left is a count's rounding, as with an ideal ADC, and not less than that."""
    spec = spec_of(response=Response(inputs=MZM, counts_per_d=(300.0,)))
    ideal = np.arange(1, 256) - 128.5
    size = np.array([[4.0]]) if alike else np.linspace(2, 6, M)[:, None]
    bent = ideal + size * ((ideal / 128) ** 2 - 0.5) + 0.2 * np.sin(ideal / 3)
    model = model_of(spec)
    # of one sign, so that counts reach as far as the INL bends
    x, weight = randn(1, 300, 17).abs(), randn(1, 9, 17, seed=1).abs()
    ideal_error = error_of(backend_of(model), x, weight)
    chip = ModelChip(replace(model, transitions=bent))
    error = error_of(CalibratedBackend(chip, record_of(chip.model)), x, weight)
    assert error == pytest.approx(ideal_error, rel=0.03)
    assert error_of(CalibratedBackend(chip, record_of(model)), x, weight) > 5 * error
