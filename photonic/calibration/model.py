"""The response of a chip with a code for each weight, as a calibration holds it: codes to results, in float64.

    D_i = 1/N sum_j w_ij p_j T_j(u_j)           the count before the ADC is g_i D_i + z_i
    T_j(u) = T_min + (1 - T_min) sin^2(pi/2 v_j (u - u_0) / (u_1 - u_0) + b_j)      or (u - u_0) / (u_1 - u_0)
    t - w_ij = (t - w0_ij) prod_l (1 - sum_q n_lq s(c_neighbour)^(q + 1)),  w0_ij = sum_q e_ijq h_q(c_ij)
    S_i = 1/N sum_j (a_0 + a_1 |w0_ij|) p_j |T_j|

h are a few curves for all elements, piecewise linear: h_0 = 1, h_1 = s, and what elements differ by. What a neighbour
takes of an element's light moves its weight towards t: 1 in a bank of rings, where light that no ring has taken is on
the other arm; far away, t makes the term a sum.

Only products are identified, so the gauge is fixed: mean of p is 1, mean of e_ij1 over j is 1 in each row, the line
through s over all codes is code / code_one, and what elements differ by, e_ijq with q > 1, is 0 on average, within
its errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from photonic.physics.receiver import own_noise_of
from photonic.records import Calibration, ChipSpec, InputTransfer

Array = NDArray[np.float64]
NO_OFFSETS = np.zeros((0, 2))
NO_NEIGHBOURS = np.zeros((0, 1))


@dataclass(frozen=True)
class Inputs:
    """The transfer of each input channel.

    Attributes:
        transfer: nominal shape and codes.
        inverse_v_pi: (N,) nominal over actual V_pi.
        bias_rad: (N,) half phase at code zero.
        level_min: T_min.
    """

    transfer: InputTransfer
    inverse_v_pi: Array
    bias_rad: Array
    level_min: float

    @classmethod
    def nominal(cls, spec: ChipSpec) -> Inputs:
        """As the data sheet has them."""
        n, transfer = spec.n_inputs, spec.response.inputs
        return cls(transfer, np.ones(n), np.zeros(n), transfer.level_min)

    @property
    def curved(self) -> bool:
        """Whether the transfer has parameters of its own."""
        return self.transfer.shape == "mzm"

    def drive(self, codes: Array) -> Array:
        """Codes (..., N) over the range from level 0 to level 1."""
        return (codes - self.transfer.code_zero) / (self.transfer.code_one - self.transfer.code_zero)

    def half_phase(self, codes: Array) -> Array:
        """(..., N) of a Mach-Zehnder modulator, 0 at the null."""
        return self.drive(codes) * self.inverse_v_pi * (math.pi / 2) + self.bias_rad

    def levels(self, codes: Array) -> Array:
        """T (..., N) of codes (..., N)."""
        if not self.curved:
            return self.drive(codes)
        found: Array = self.level_min + (1 - self.level_min) * np.sin(self.half_phase(codes)) ** 2
        return found


@dataclass(frozen=True)
class ChipModel:
    """A fitted chip.

    Attributes:
        spec: of the chip.
        inputs: transfer of the channels.
        gain: (M,) g, counts per D.
        zero: (M,) z, counts.
        power: (N,) p.
        curves: (Q, K) h at evenly spread codes.
        element: (M, N, Q) e.
        offsets: (L, 2) where neighbours are, rows and columns away.
        neighbour: (L, Q) n.
        target: t.
        power_law: (2,) a.
        transitions: (M or 1, 2^bits - 1) of the ADCs; None: ideal.
        own_noise: (2, M) thermal and shot noise of each output, relative to those of all; None: alike.
    """

    spec: ChipSpec
    inputs: Inputs
    gain: Array
    zero: Array
    power: Array
    curves: Array
    element: Array
    offsets: Array = field(default_factory=lambda: NO_OFFSETS)
    neighbour: Array = field(default_factory=lambda: NO_NEIGHBOURS)
    target: float = 1.0
    power_law: Array = field(default_factory=lambda: np.array([1.0, 0.0]))
    transitions: Array | None = None
    own_noise: Array | None = None

    @classmethod
    def nominal(cls, spec: ChipSpec) -> ChipModel:
        """The data sheet as such a model."""
        m, n = spec.n_outputs, spec.n_inputs
        low, high = spec.weight_code_range
        element = np.zeros((m, n, 2))
        element[..., 1] = 1.0
        return cls(
            spec=spec,
            inputs=Inputs.nominal(spec),
            gain=np.broadcast_to(np.array(spec.response.counts_per_d), (m,)).copy(),
            zero=np.broadcast_to(np.array(spec.response.zero_count), (m,)).copy(),
            power=np.ones(n),
            curves=np.stack([np.ones(2), np.array([low, high]) / spec.response.weight_code_one]),
            element=element,
        )

    @classmethod
    def of(cls, calibration: Calibration, spec: ChipSpec) -> ChipModel:
        """The model that a record holds.

        Args:
            calibration: measured, of a chip with a code for each weight.
            spec: of that chip.

        Raises:
            ArraysError: noise of outputs that the chip does not have.
        """
        a = calibration.arrays
        inputs = Inputs(spec.response.inputs, a["inverse_v_pi"], a["bias_rad"], float(a["level_min"][0]))
        return cls(
            spec=spec,
            inputs=inputs,
            gain=a["counts_per_d"],
            zero=a["zero_count"],
            power=a["power"],
            curves=a["curves"],
            element=a["element"],
            offsets=a["neighbour_offsets"],
            neighbour=a["neighbour"],
            target=float(a["neighbour_target"][0]),
            power_law=a["power_law"],
            transitions=a.get("transitions"),
            own_noise=own_noise_of(spec, a),
        )

    @property
    def mean_se(self) -> float:
        """Of a mean count: of no account, beside the noise of chips with a code for each weight."""
        return 0.0

    def arrays(self) -> Mapping[str, Array]:
        """What a record keeps of it."""
        found = {
            "counts_per_d": self.gain,
            "zero_count": self.zero,
            "inverse_v_pi": self.inputs.inverse_v_pi,
            "bias_rad": self.inputs.bias_rad,
            "level_min": np.array([self.inputs.level_min]),
            "power": self.power,
            "curves": self.curves,
            "element": self.element,
            "neighbour_offsets": self.offsets,
            "neighbour": self.neighbour,
            "neighbour_target": np.array([self.target]),
            "power_law": self.power_law,
        }
        optional = {"transitions": self.transitions, "own_noise": self.own_noise}
        return {**found, **{name: values for name, values in optional.items() if values is not None}}

    def drive(self, codes: Array) -> Array:
        """s of weight codes of any shape."""
        return self._curve(1, codes)

    def own(self, codes: Array) -> Array:
        """w0 (..., M, N) of codes (..., M, N): each element as if it were alone."""
        found = np.zeros(np.broadcast_shapes(codes.shape, self.element.shape[:2]))
        for index in range(len(self.curves)):
            found += self.element[..., index] * self._curve(index, codes)
        return found

    def _curve(self, index: int, codes: Array) -> Array:
        low, high = self.spec.weight_code_range
        found: Array = np.interp(codes, np.linspace(low, high, self.curves.shape[1]), self.curves[index])
        return found

    def weights(self, codes: Array) -> Array:
        """w (..., M, N) of codes (..., M, N), neighbours included."""
        alone = self.own(codes)
        if not len(self.offsets):
            return alone
        return alone + (self.target - alone) * self.taken(self.drive(codes))

    def taken(self, s: Array) -> Array:
        """What the neighbours of each element take, (..., M, N), from s (..., M, N): one after the other."""
        return all_taken(s, self.offsets, self.neighbour)

    def results(self, codes: Array, inputs: Array) -> Array:
        """D (B, M) of codes (M, N) and input codes (B, N)."""
        light = self.inputs.levels(inputs) * self.power
        found: Array = light @ self.weights(codes).T / self.spec.n_inputs
        return found

    def powers(self, codes: Array, inputs: Array) -> Array:
        """S (B, M) of codes (M, N) and input codes (B, N)."""
        return self._powers(codes, self.inputs.levels(inputs) * self.power)

    def both(self, codes: Array, inputs: Array) -> tuple[Array, Array]:
        """D and S (B, M) of codes (M, N) and input codes (B, N)."""
        light = self.inputs.levels(inputs) * self.power
        return light @ self.weights(codes).T / self.spec.n_inputs, self._powers(codes, light)

    def _powers(self, codes: Array, light: Array) -> Array:
        (fixed, follows), light = self.power_law, np.abs(light)  # a signed input has power, too
        if follows == 0:
            return np.repeat(fixed * light.mean(-1, keepdims=True), len(self.gain), axis=-1)
        return np.asarray(light @ (fixed + follows * np.abs(self.own(codes))).T / self.spec.n_inputs)

    def volts(self, codes: Array, inputs: Array) -> Array:
        """Counts (B, M) before the ADC, without noise."""
        return self.results(codes, inputs) * self.gain + self.zero


def all_taken(s: Array, offsets: Array, neighbour: Array) -> Array:
    """1 - prod_l (1 - sum_q n_lq s^(q + 1)) of the neighbours at ``offsets`` (L, 2), with coefficients (L, Q)."""
    left = np.ones_like(s)
    for (rows, columns), coefficients in zip(offsets.astype(int), neighbour, strict=True):
        left *= 1 - shifted(powers(s, np.trim_zeros(coefficients, "b")), rows, columns)
    return 1 - left


def powers(s: Array, coefficients: Array) -> Array:
    """Sum of coefficients[q] s^(q + 1), by Horner's rule."""
    found = np.zeros_like(s)
    for coefficient in coefficients[::-1]:
        found = s * (coefficient + found)
    return found


def shifted(values: Array, rows: int, columns: int) -> Array:
    """values[..., i + rows, j + columns] at (i, j); 0 where there is none."""
    found = np.zeros_like(values)
    m, n = values.shape[-2:]
    if abs(rows) >= m or abs(columns) >= n:
        return found
    to = (slice(max(0, -rows), min(m, m - rows)), slice(max(0, -columns), min(n, n - columns)))
    source = (slice(max(0, rows), min(m, m + rows)), slice(max(0, columns), min(n, n + columns)))
    found[..., to[0], to[1]] = values[..., source[0], source[1]]
    return found
