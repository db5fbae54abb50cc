"""The response of a mesh that was measured with some programs, as a calibration holds it: codes to results, in float64.

    E_j = sin(phi_j), F_j = cos(phi_j), phi_j = pi/2 v_j (u - u_0) / (u_1 - u_0) + b_j      linear inputs: E = u, F = 0
    c_i = z_i + sum_j (B_ij E_j + Q_ij F_j)         counts before the ADC, B and Q of one program
    D_i = (c_i - z_i) / g_i,  S_i = S_0 + k D_i^2

A program is what all drives of the mesh are set to; nothing is said of a program that was not measured. Q is what
modulators of finite extinction leave in quadrature, and what the phases of the paths make of it.

Gauge. B is g_i a_j W_ij on average over the programs (least squares, all elements alike), W being what the program's
phases give on a perfect device, with largest singular value 1; the mean of a_j is 1. b_j is such that Q has no part
that goes with B: sum_ki B_kij Q_kij = 0. The unit of S is that of an oscillator as strong as the signal: S_0 = 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from photonic.backends import adcvolts
from photonic.calibration.model import Array, Inputs
from photonic.errors import ArraysError, CalibrationError
from photonic.physics import svdmesh
from photonic.records import Calibration, ChipSpec

SHAPES = ("field", "linear")


@dataclass(frozen=True)
class MeshModel:
    """A fitted mesh.

    Attributes:
        spec: of the chip.
        inputs: transfer of the channels; ``level_min`` is not used.
        gain: (M,) g, counts per D.
        zero: (M,) z, counts.
        amplitude: (N,) a.
        programs: (K, P) drive codes.
        matrix: (K, M, N) B, counts.
        quadrature: (K, M, N) Q, counts.
        s_per_d2: k.
        light: of the source, relative to what B was measured with.
        transitions: (M or 1, 2^bits - 1) of the ADCs; None: ideal.
        mean_se: standard error of a mean count that it predicts for one of the programs, rms.
    """

    spec: ChipSpec
    inputs: Inputs
    gain: Array
    zero: Array
    amplitude: Array
    programs: Array
    matrix: Array
    quadrature: Array
    s_per_d2: float = 0.5
    light: float = 1.0
    transitions: Array | None = None
    mean_se: float = 0.0

    @classmethod
    def of(cls, calibration: Calibration, spec: ChipSpec) -> MeshModel:
        """The model that a record holds.

        Args:
            calibration: measured, of a mesh.
            spec: of that chip.

        Raises:
            ArraysError: arrays are missing, or do not fit the chip.
        """
        a = calibration.arrays
        _check_arrays(a, spec)
        return cls(
            spec=spec,
            inputs=Inputs(spec.response.inputs, a["inverse_v_pi"], a["bias_rad"], 0.0),
            gain=a["counts_per_d"],
            zero=a["zero_count"],
            amplitude=np.sqrt(a["power"]),
            programs=a["programs"],
            matrix=a["matrix"],
            quadrature=a["quadrature"],
            s_per_d2=float(a["s_per_d2"][0]),
            transitions=a.get("transitions"),
            mean_se=float(a["mean_se"][0]),
        )

    def arrays(self) -> Mapping[str, Array]:
        """What a record keeps of it."""
        found = {
            "counts_per_d": self.gain,
            "zero_count": self.zero,
            "inverse_v_pi": self.inputs.inverse_v_pi,
            "bias_rad": self.inputs.bias_rad,
            "level_min": np.zeros(1),
            "power": self.amplitude**2,
            "programs": self.programs,
            "programmed": programmed_matrices(self.spec, self.programs),
            "matrix": self.matrix,
            "quadrature": self.quadrature,
            "s_per_d2": np.array([self.s_per_d2]),
            "mean_se": np.array([self.mean_se]),
        }
        return found if self.transitions is None else {**found, "transitions": self.transitions}

    @property
    def own_noise(self) -> None:
        """Receivers of a mesh are taken as alike."""
        return

    @property
    def s_offset(self) -> float:
        """S_0, by the choice of the unit."""
        return 0.5

    def dimmed(self, light: float) -> MeshModel:
        """The same mesh with less light of its source, which feeds signal and oscillators; zeros are kept."""
        return replace(self, light=light)

    def results(self, codes: Array, inputs: Array) -> Array:
        """D (B, M) of codes (P,) and input codes (B, N).

        Raises:
            CalibrationError: a program that was not measured.
        """
        k, (field, quadrature) = self.program(codes), fields(self.inputs, inputs)
        counts = field @ self.matrix[k].T + quadrature @ self.quadrature[k].T
        found: Array = self.light * counts / self.gain
        return found

    def powers(self, codes: Array, inputs: Array) -> Array:
        """S (B, M) of codes (P,) and input codes (B, N); of less light, both of its parts are."""
        found: Array = self.s_offset * self.light + self.s_per_d2 * self.results(codes, inputs) ** 2 / self.light
        return found

    def program(self, codes: Array) -> int:
        """Which of the programs these codes (P,) are.

        Raises:
            CalibrationError: none of them.
        """
        found = self._index.get(codes.astype(np.float64).tobytes())
        if found is None:
            raise CalibrationError(
                f"chip {self.spec.chip_id}: these drive codes are none of the {len(self.programs)} programs that were "
                "measured, and a record of a mesh says nothing of others; calibrate with matrices=... to measure them"
            )
        return found

    @cached_property
    def _index(self) -> dict[bytes, int]:
        return {row.tobytes(): k for k, row in enumerate(self.programs)}


def _check_arrays(arrays: Mapping[str, Array], spec: ChipSpec) -> None:
    m, n, k = spec.n_outputs, spec.n_inputs, len(arrays.get("programs", ()))
    shapes = {
        "counts_per_d": (m,), "zero_count": (m,), "inverse_v_pi": (n,), "bias_rad": (n,), "power": (n,),
        "programs": (k, spec.drives), "matrix": (k, m, n), "quadrature": (k, m, n), "s_per_d2": (1,), "mean_se": (1,),
    }  # fmt: skip
    wrong = [
        f"{name} {shape}, found {arrays[name].shape if name in arrays else 'none'}"
        for name, shape in shapes.items()
        if name not in arrays or arrays[name].shape != shape or not np.isfinite(arrays[name]).all()
    ]
    if wrong or not k:
        raise ArraysError(
            f"the record of {spec.chip_id} does not fit a mesh: expected at least one program and finite arrays "
            f"{'; '.join(wrong)}; calibrate again"
        )


def fields(inputs: Inputs, codes: Array) -> tuple[Array, Array]:
    """E and F (..., N) of input codes (..., N)."""
    if inputs.transfer.shape == "linear":
        drive = inputs.drive(codes)
        return drive, np.zeros_like(drive)
    phase = inputs.half_phase(codes)
    return np.sin(phase), np.cos(phase)


def programmed_matrices(spec: ChipSpec, programs: Array) -> Array:
    """(K, M, N) what the phases of programs (K, P) give on a perfect device; largest singular value near 1."""
    turn = 2 * math.pi if spec.weight_bits is None else spec.weight_code_range[1] + 1
    drives = torch.from_numpy(programs * (2 * math.pi / turn))
    found: NDArray[np.float64] = svdmesh.transfer(drives, spec.n_outputs, spec.n_inputs).real.numpy()
    return found


def middles(spec: ChipSpec, counts: Array, transitions: Array | None) -> Array:
    """Counts (B, M) as what the ADC saw on average, with transitions (M or 1, K)."""
    if transitions is None:
        return counts
    table = adcvolts.seen_values(torch.from_numpy(transitions)).numpy()
    found: Array = table[np.arange(counts.shape[1]) % len(table), counts.astype(int) - int(spec.count_range[0])]
    return found


def check_mesh(spec: ChipSpec) -> None:
    """Refuses chips that this model does not describe.

    Raises:
        CalibrationError: no decomposition, or inputs that are no fields.
    """
    if spec.decomposition != "clements_svd":
        raise CalibrationError(
            f"chip {spec.chip_id} has layout {spec.layout!r} and the decomposition {spec.decomposition!r}: expected "
            "'clements_svd', by which the programs to measure are made"
        )
    if spec.response.inputs.shape not in SHAPES:
        raise CalibrationError(
            f"chip {spec.chip_id}: expected a mesh's inputs to be of shape {' or '.join(SHAPES)}, found "
            f"{spec.response.inputs.shape!r}"
        )
