"""Chips outside the fitted family, each with an effect of twice a margin or more: none may pass as calibrated.

Two effects are options of the simulated chip. The others are made here, by a chip with the same equations that hands
its light, codes and powers through a fault. The effect's size is the largest over held-out points of the change of a
mean that a best gain and zero of each output leave, over 1/4 LSB, or of the change of a variance, over 10 %. What a
thermal memory does on average is part of the calibration: it is compared with a chip that is as warm all the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from calibration_chips import KINDS, Array, Truth
from calibration_tables import Row

import photonic
from photonic.backends.chip import Chip, Conditions, Measurement
from photonic.backends.simulated import SimulatedChip
from photonic.calibration.plan import make_plan
from photonic.calibration.reading import Reading
from photonic.errors import PhotonicError
from photonic.physics import seeds
from photonic.testing import OnlyMeasured

KIND = "ring-alone"  # rings have the same S whatever their weights, so that saturation is no INL
# ends of margins
_MEAN_LSB, _RATIO = 0.25, 0.1
_SLOW_S = 5e-5  # of memory: five settings
_WARM_K = 0.2  # of all heaters at full drive; random settings drive half


@dataclass
class Fault:
    """What a faulty chip does otherwise.

    Attributes:
        channel: input without light; None: none.
        stuck: row, column and code of a weight that holds it; None: none.
        saturation: of each arm's detector, P / (1 + P / P_0), P_0 in units of S; None: none.
    """

    channel: int | None = None
    stuck: tuple[int, int, float] | None = None
    saturation: float | None = None


class FaultyChip(Chip):
    """A simulated chip's hidden truth with a fault, evaluated tile by tile in float64.

    Args:
        chip: whose truth it is.
        device: its seed.
        fault: in it.
    """

    def __init__(self, chip: SimulatedChip, device: int, fault: Fault) -> None:
        super().__init__(chip.spec)
        self.truth, self.fault = Truth(chip, device), fault
        self._rng = np.random.default_rng(device)
        self._clock_s = 0.0

    def _measure(self, weights: torch.Tensor, inputs: torch.Tensor, conditions: Conditions) -> Measurement:
        (rows, columns), (low, high) = weights.shape[:2], self.spec.count_range
        m, n = self.spec.n_outputs, self.spec.n_inputs
        counts = torch.empty(rows, columns, inputs.shape[1], m, dtype=self.spec.count_dtype)
        power = float(conditions.get("laser_power", 1.0))
        for r in range(rows):
            for c in range(columns):
                d, s = self.point(weights[r, c].numpy().reshape(m, n), inputs[c].numpy(), power)
                volts = self.truth.volts(d) + self._noise(d, s)
                counts[r, c] = torch.from_numpy(np.clip(np.rint(volts), low, high)).to(counts.dtype)
        telemetry = {"clock_s": torch.tensor(self._clock_s, dtype=torch.float64)}
        self._clock_s += rows * columns * (1e-5 + inputs.shape[1] * 2e-10)
        return Measurement(counts, telemetry=telemetry)

    def point(self, codes: Array, inputs: Array, power: float = 1.0) -> tuple[Array, Array]:
        """D and S (B, M)."""
        fault, truth = self.fault, self.truth
        codes = codes.astype(np.float64)
        if fault.stuck is not None:
            codes[fault.stuck[:2]] = fault.stuck[2]
        light = truth.light(inputs) * power
        if fault.channel is not None:
            light[:, fault.channel] = 0.0
        signed, total = truth.matrices(codes[None])
        d, s = light @ signed[0].T, light @ total[0].T
        if fault.saturation is None:
            return d, s
        plus, minus = ((s + sign * d) / 2 for sign in (1, -1))
        plus, minus = (arm / (1 + arm / fault.saturation) for arm in (plus, minus))
        return plus - minus, plus + minus

    def _noise(self, d: Array, s: Array) -> Array:
        a, b, c, e = self.truth.noise
        own = np.sqrt(a + b * s) * self._rng.standard_normal(d.shape)
        rho, common = self._rng.standard_normal((2, len(d), 1))
        return np.asarray(self.truth.gain * (own + np.sqrt(c) * d * rho + np.sqrt(e) * s * common))


def _optional(**options: Any) -> Callable[[int], Chip]:
    return lambda device: KINDS[KIND].open(device, **options)


def _faulty(fault: Callable[[int], Fault]) -> Callable[[int], Chip]:
    return lambda device: FaultyChip(KINDS[KIND].open(device), device, fault(device))


CHIPS: dict[str, Callable[[int], Chip]] = {
    "none (a chip of the family, for comparison)": _faulty(lambda device: Fault()),
    "slow thermal memory": _optional(thermal_memory_k=_WARM_K, thermal_memory_s=_SLOW_S),
    "input-dependent crosstalk": _optional(input_crosstalk=0.012),
    "one laser per wavelength": _optional(rin_per_line=True, rin_db_per_hz=-143.0),
    "dead channel": _faulty(lambda device: Fault(channel=device % 16)),
    "stuck weight": _faulty(lambda device: Fault(stuck=(device % 16, device // 16 % 16, -80.0))),
    "saturating detector": _faulty(lambda device: Fault(saturation=50.0)),
}


def outside(name: str, device: int) -> Row:
    """Verdict, causes and size of the effect; an error of the library names what it found."""
    chip = CHIPS[name](device)
    row: Row = {"effect": effect(name, device)}
    try:
        record = photonic.calibrate(OnlyMeasured(chip), seed=device)
    except PhotonicError as error:
        return {**row, "verdict": "refused", "causes": [f"{type(error).__name__}: {error}"]}
    assert record.verification is not None
    found = record.verification
    named = [f"suspect: {suspect.name}" for suspect in found.suspects]
    return {**row, "verdict": found.verdict, "causes": [*found.causes, *named], "model": dict(record.model)}


def effect(name: str, device: int) -> float:
    """Size of an effect at held-out points, in margins, from both chips' equations without noise."""
    plain, chip = KINDS[KIND].open(device), CHIPS[name](device)
    warm = isinstance(chip, SimulatedChip) and chip.parameters.thermal_memory_k > 0
    truth = Truth(plain, device)
    plan = make_plan(plain.spec, 200_000, seeds.generator("calibration plan", device))
    points = [reading for reading in plan if reading.purpose == "verify"]
    shape = plain.spec.n_outputs, plain.spec.n_inputs
    pairs = [(p.weights.numpy().reshape(shape), p.inputs[:1].numpy()) for p in points]
    d, s = (np.concatenate(each) for each in zip(*(truth.point(*pair) for pair in pairs), strict=True))
    if warm:
        d = _noiseless(KINDS[KIND].open(device, temperature_error_k=_WARM_K / 2), device, points)
    if isinstance(chip, FaultyChip):
        moved = np.concatenate([chip.point(*pair)[0] for pair in pairs])
    else:
        assert isinstance(chip, SimulatedChip)
        moved = _noiseless(chip, device, points)
    clear = np.abs(truth.volts(d)) < 0.9 * plain.spec.count_range[1]
    sizes = [_left(d[clear[:, i], i], moved[clear[:, i], i]) * truth.gain[i] for i in range(shape[0])]
    mean = float(max(sizes)) / _MEAN_LSB
    if not getattr(getattr(chip, "parameters", None), "rin_per_line", False):
        return mean
    assert isinstance(chip, SimulatedChip)
    rin, (a, b, *_) = chip.parameters.noise.rin, truth.noise
    lines = np.stack([(truth.matrices(w[None])[0][0] ** 2) @ truth.light(u)[0] ** 2 for w, u in pairs])
    return float(np.abs(rin * (lines - d**2) / (a + b * s + rin * d**2)).max()) / _RATIO


def _left(x: Array, y: Array) -> float:
    """Largest deviation of y from its best line in x."""
    return float(np.abs(y - np.polyval(np.polyfit(x, y, 1), x)).max())


def _noiseless(chip: SimulatedChip, device: int, points: list[Reading]) -> Array:
    """D (P, M) of a chip with the same options and without noise and ADC, in the order of the plan."""
    off = {"shot_noise": False, "thermal_noise_a_per_rthz": 0.0, "rin_db_per_hz": None, "adc_bits": None}
    values = {**chip.parameters.model_dump(), **off, "rin_per_line": False, "dark_current_a": 0.0}
    quiet = SimulatedChip(type(chip.parameters)(**values), device=device, seed=device)
    truth = Truth(quiet, device)
    twice = [*points, *points]  # the first time a memory fills
    found = [quiet.measure(p.weights[None, None], p.inputs[None]).counts[0, 0, -1].double().numpy() for p in twice]
    return np.asarray((np.stack(found[len(points) :]) - truth.zero) / truth.gain)
