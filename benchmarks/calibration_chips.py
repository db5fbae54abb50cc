"""Chips for the benchmark of calibrations: what is hidden in them, and whether they make a fair test.

A test chip satisfies four conditions; where one does not hold, "not distinguishable" may be the right answer:

| condition | quantity | at least |
| --- | --- | --- |
| shot noise shows | V(1, 0) / V(0, 0), quantisation not included | 2 |
| outputs share noise | correlation of two outputs at (S, D) = (1, ADC range), quantisation included | 0.2 |
| the ADC is not ideal | rms over outputs and transitions of INL after the best line, LSB | 0.5 |
| drift shows | degrees of freedom of the averaging times at which drift is most of the Allan variance | 15 |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from photonic.backends.simulated import SimulatedChip
from photonic.calibration.allan import degrees_of_freedom
from photonic.calibration.driftnoise import gain_variance
from photonic.calibration.plan import SHARES, default_budget
from photonic.physics.device import Device
from photonic.physics.optics import Surroundings
from photonic.physics.presets import PRESETS
from photonic.records import ChipSpec, DriftModel

Array = NDArray[np.float64]

NEEDED = (2.0, 0.2, 0.5, 15.0)
# a curve that bends three times, the same for all outputs: 0.59 LSB after the best line
_INL = (0.0, 1.05, 1.4, 0.6, -0.6, -1.4, -1.05, 0.0)
# 0.5 % of gain, correlated over 10 shots: over the 800 repeats of a point its mean is small against 1/4 LSB, and from
# averages of some ten readings on it is larger than the noise
_DRIFT = {"laser_drift": 0.005, "drift_s": 2e-9}


@dataclass(frozen=True)
class Kind:
    """A kind of chip: a preset with other options.

    Attributes:
        preset: its name.
        options: fields of the parameters.
        size: inputs and outputs.
    """

    preset: str
    options: Mapping[str, Any] = field(default_factory=dict)
    size: int = 16

    def open(self, device: int, seed: int | None = None, **options: Any) -> SimulatedChip:
        """The chip of that device; noise of ``seed``, by default the device's number."""
        parameters = PRESETS[self.preset]
        values = {**parameters.model_dump(), "n_inputs": self.size, "n_outputs": self.size, **self.options, **options}
        made = type(parameters)(**values)
        return SimulatedChip(made, device=device, seed=device if seed is None else seed, chip_id=f"hidden {device}")

    @property
    def text(self) -> str:
        """As the options of a spec string."""
        return "&".join(f"{name}={value}" for name, value in self.options.items())


_REAL_ADC = {"adc_inl_lsb": _INL, "adc_mismatch": 0.03}
_MORE_LIGHT = {"power_per_pair_w": 1.5e-3}
KINDS = {
    "ring": Kind("typical"),
    "ring-alone": Kind("typical", {"channel_leakage": False}),
    "crossbar": Kind("crossbar-typical"),
    "ring-inl": Kind("typical", _REAL_ADC),
    "ring-alone-inl": Kind("typical", {"channel_leakage": False, **_REAL_ADC}),
    "crossbar-inl": Kind("crossbar-typical", {**_MORE_LIGHT, **_REAL_ADC}),
    "ring-full": Kind("typical", {**_REAL_ADC, **_DRIFT}),
    "crossbar-full": Kind("crossbar-typical", {**_MORE_LIGHT, **_REAL_ADC, **_DRIFT}),
    "ring-64": Kind("typical", size=64),
    "ring-64-inl": Kind("typical", _REAL_ADC, size=64),
}


class Truth:
    """What is hidden in a simulated chip: means, powers, variances and transitions, without drift.

    Args:
        chip: opened by ``Kind.open``.
        device: its seed.

    Attributes:
        spec: of the chip.
        gain: (M,) counts per D.
        zero: (M,) counts.
        power: (N,) of each channel, relative.
        noise: (4,) thermal with the converter's, shot, rin, common mode, in D^2.
        transitions: (M, K) counts; None: ideal.
    """

    def __init__(self, chip: SimulatedChip, device: int) -> None:
        self.spec: ChipSpec = chip.spec
        self.parameters, self.device = chip.parameters, Device.draw(chip.parameters, device)
        per_d = chip.spec.response.counts_per_d[0]
        receiver, noise = self.device.receiver, chip.parameters.noise
        self.gain: Array = receiver.gain.numpy() * per_d
        self.zero: Array = receiver.offset_d.numpy() * per_d
        self.power: Array = self.device.transmitter.power.numpy()
        self.noise = np.array([noise.thermal + noise.converter, noise.shot, noise.rin, noise.common_mode])
        found = receiver.transitions
        shape = chip.spec.n_outputs, -1
        self.transitions = None if found is None else found.expand(*shape).numpy().astype(np.float64)

    def matrices(self, codes: Array) -> tuple[Array, Array]:
        """W_D and W_S (K, M, N) of settings (K, M, N), in D and S of an input at full level and power 1."""
        around = Surroundings(torch.Generator())
        signed, power = self.device.optics.matrices(torch.from_numpy(codes.astype(np.float64)), around)
        signed = signed + self.device.receiver.imbalance[:, None] / 2 * power
        return signed.numpy(), np.broadcast_to(power.numpy(), tuple(signed.shape))

    def light(self, inputs: Array) -> Array:
        """(B, N) of input codes, channel powers included."""
        codes = torch.from_numpy(inputs.astype(np.float64))
        return np.asarray(self.device.transmitter.light(codes, None, torch.Generator()).numpy(), dtype=np.float64)

    def point(self, codes: Array, inputs: Array) -> tuple[Array, Array]:
        """D and S (B, M) of one setting (M, N) with inputs (B, N)."""
        signed, power = self.matrices(codes[None])
        light = self.light(inputs)
        return light @ signed[0].T, light @ power[0].T

    def shots(self, codes: Array, inputs: Array) -> tuple[Array, Array, Array]:
        """D and S as ``point``, and the change (B, M) of S by ``share``, the light being the same in all."""
        signed, power = self.matrices(codes[None])
        light, n = self.light(inputs), self.spec.n_inputs
        turned = (np.abs(signed[0]) - 1 / n) * sum(self.law)
        return light @ signed[0].T, light @ power[0].T, light @ turned.T

    @cached_property
    def law(self) -> tuple[float, float]:
        """How much of S is all light of the inputs, and how much that which the size of their weights lets through."""
        low, high = self.spec.weight_code_range
        shape = 8, self.spec.n_outputs, self.spec.n_inputs
        signed, power = self.matrices(np.random.default_rng(0).integers(low, high + 1, shape).astype(np.float64))
        design = np.stack([np.full(signed.size, 1 / self.spec.n_inputs), np.abs(signed).ravel()], axis=1)
        fixed, follows = np.linalg.lstsq(design, power.ravel(), rcond=None)[0]
        return float(fixed), float(follows)

    @property
    def share(self) -> float:
        """Of the weighted power in S."""
        return self.law[1] / sum(self.law)

    def volts(self, d: Array) -> Array:
        """Mean before the ADC, counts, of results (..., M)."""
        return np.asarray(d * self.gain + self.zero)

    def variance(self, d: Array, s: Array) -> Array:
        """Before the ADC, counts^2, of (..., M)."""
        a, b, c, e = self.noise
        return np.asarray(self.gain**2 * (a + b * s + c * d**2 + e * s**2))

    def line(self, known: NDArray[np.bool_] | None = None) -> tuple[Array, Array, Array]:
        """Offset and slope (M,) of the best line through each INL, and what is left of it (M, K), in LSB.

        Args:
            known: (M, K) transitions that the line is through; None: all.
        """
        low, high = self.spec.count_range
        ideal = np.arange(low + 0.5, high)
        if self.transitions is None:
            m = len(self.gain)
            return np.zeros(m), np.zeros(m), np.zeros((m, len(ideal)))
        inl = self.transitions - ideal
        which = np.ones(inl.shape, dtype=bool) if known is None else known
        lines = [np.polyfit(ideal[row], each[row], 1) for each, row in zip(inl, which, strict=True)]
        slope, offset = np.array(lines).T
        return offset, slope, inl - offset[:, None] - slope[:, None] * ideal

    def conditions(self) -> tuple[float, float, float, float]:
        """The quantities of the module's table."""
        a, b, c, e = self.noise
        edge, lsb = self.parameters.adc_full_scale, self.parameters.lsb
        shared = c * edge**2 + e
        correlation = shared / (a + b + shared + lsb**2 / 12)
        inl = self.line()[2]
        return (a + b + e) / a if a else np.inf, correlation, float(np.sqrt((inl**2).mean())), self._drifting()

    def _drifting(self) -> float:
        """Degrees of freedom of an Allan series of the plan's length, at results spread evenly over the ADC's range."""
        p = self.parameters
        if p.laser_drift == 0:
            return 0.0
        drift = DriftModel(kind="ar1", sigma=p.laser_drift, time_s=p.drift_s)
        readings = 2 ** int(np.log2(SHARES["allan"] * default_budget(self.spec)))
        taus = 2 ** np.arange(int(np.log2(readings // 50)) + 1)
        d2 = (0.81 * p.adc_full_scale) ** 2 / 3
        a, b, c, e = self.noise
        white = (a + b / 2 + c * d2 + e / 4 + p.lsb**2 / 12) / taus
        drifting = taus[d2 * gain_variance(drift, taus.astype(float), self.spec.shot_time_s or 0.0) > white]
        return max((degrees_of_freedom(readings, int(m), "random walk") for m in drifting), default=0.0)
