"""Matrices of a mesh's programs, zeros, and the transfer of each input, from counts of random inputs.

    c_i = z_i + sum_j (B_ij sin phi_j + Q_ij cos phi_j)

B and Q of every program are free: linear least squares for a given transfer, shots weighed by their noise.
V_pi of each channel is improved by Gauss-Newton steps on what is left, with the changes made orthogonal to what the
matrices could take up (variable projection, as in ``transfer``); the bias follows from Q, see ``meshmodel``.

Standard errors come from the spread of what each shot adds (sandwich: White, Econometrica 48, 817): an output's noise
need not be what the shot's weight says, and intensity noise common to the outputs of a shot counts once in V_pi and
bias, to which all outputs contribute. Those of B and Q are those of the joint fit, with what the errors of V_pi and of
the zeros add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from photonic.calibration.meshmodel import fields
from photonic.calibration.model import Array, Inputs
from photonic.errors import CalibrationError

_STEPS = 10
_SETTLED = 0.1  # of a standard error


@dataclass(frozen=True)
class Shots:
    """All shots of one program.

    Attributes:
        inputs: (B, N) codes.
        volts: (B, M) counts, corrected for the ADC.
        weight: (B,) of each, the inverse of its variance, up to a factor.
    """

    inputs: Array
    volts: Array
    weight: Array


@dataclass(frozen=True)
class Matrices:
    """What the shots of K programs say.

    Attributes:
        inputs: transfer of the channels.
        inverse_v_pi_se: (N,); 0 where the inputs are linear.
        bias_se: (N,).
        matrix: (K, M, N) B, counts.
        matrix_se: its standard errors.
        quadrature: (K, M, N) Q, counts; 0 where the inputs are linear.
        quadrature_se: its standard errors.
        zero: (M,) counts.
        zero_se: (M,).
        noise: (M,) mean square of what a shot is off, in counts^2, rounding included.
        mean_se: standard error of a mean count that is predicted for one of these programs, rms.
        taken: (K, N) share of B that a unit of error of a channel's inverse V_pi adds to it; 0 where inputs are linear.
    """

    inputs: Inputs
    inverse_v_pi_se: Array
    bias_se: Array
    matrix: Array
    matrix_se: Array
    quadrature: Array
    quadrature_se: Array
    zero: Array
    zero_se: Array
    noise: Array
    mean_se: float
    taken: Array

    def volts(self, k: int, inputs: Array) -> Array:
        """Counts (B, M) before the ADC of input codes (B, N) in program k."""
        field, quadrature = fields(self.inputs, inputs)
        found: Array = self.zero + field @ self.matrix[k].T + quadrature @ self.quadrature[k].T
        return found


def fit_matrices(inputs: Inputs, programs: Sequence[Shots]) -> Matrices:
    """Fits matrices, zeros and transfer.

    Args:
        inputs: the transfer to begin with.
        programs: K of them, random inputs, no count at a rail.

    Raises:
        CalibrationError: inputs that do not tell the channels apart.
    """
    found, _ = _solve(inputs, programs)
    if inputs.transfer.shape == "linear":
        return found
    for _ in range(_STEPS):
        found, moved = _improved(found.inputs, programs)
        if moved < _SETTLED:
            break
    return found


def summed_errors(found: Matrices, programs: Sequence[Shots], rows: Array, columns: Array) -> tuple[Array, Array]:
    """Standard errors of sums over the elements of the matrices, from what each shot adds to them.

    Elements err together where noise goes with the result (intensity noise), along the row itself, and by what is not
    known of V_pi.

    Args:
        found: from ``programs``.
        programs: K of them.
        rows: (K, M, N) weights r of sum_kj r_kij B_kij, for each output.
        columns: (K, M, N) weights c of sum_ki c_kij B_kij, for each input.

    Returns:
        (M,) and (N,).
    """
    n = rows.shape[2]
    of_rows, of_columns = np.zeros(rows.shape[1]), np.zeros(n)
    for k, each in enumerate(programs):
        light = _design(found.inputs, each.inputs)[:, :-1]
        pull = ((light * each.weight[:, None]) @ _inverse(light, each.weight))[:, :n]
        rest = each.volts - found.volts(k, each.inputs)
        of_rows += ((pull @ rows[k].T * rest) ** 2).sum(0)
        of_columns += ((pull * (rest @ columns[k])) ** 2).sum(0)
    # errors of V_pi are those of all programs and outputs alike
    shared = found.matrix * found.taken[:, None] * found.inverse_v_pi_se
    of_rows += ((rows * shared).sum(0) ** 2).sum(1)
    of_columns += (columns * shared).sum((0, 1)) ** 2
    return np.sqrt(of_rows), np.sqrt(of_columns)


def _solve(inputs: Inputs, programs: Sequence[Shots]) -> tuple[Matrices, list[Array]]:
    """Least squares for this transfer, with one zero for all programs; and the inverse (2 N, 2 N) of each program."""
    n, m = programs[0].inputs.shape[1], programs[0].volts.shape[1]
    designs = [_design(inputs, each.inputs) for each in programs]
    zero, zero_se = _zeros(designs, programs)
    solved, errors, inverses, noise, mean = [], [], [], np.zeros(m), 0.0
    for design, each in zip(designs, programs, strict=True):
        light = design[:, :-1]
        inverse = _inverse(light, each.weight)
        pull = (light * each.weight[:, None]) @ inverse
        solution = pull.T @ (each.volts - zero)
        square = _squares(each.volts - zero - light @ solution, light.shape[1])
        errors.append(((pull**2).T @ square).T + (pull.sum(0) * zero_se[:, None]) ** 2)
        noise += square.mean(0) / len(programs)
        mean += float(square.mean()) * light.shape[1] / len(light) / len(programs)
        solved.append(solution.T)
        inverses.append(inverse)
    every, every_se, nothing = np.array(solved), np.sqrt(np.array(errors)), np.zeros((len(programs), m, n))
    curved = every.shape[2] > n
    found = Matrices(
        inputs=inputs,
        inverse_v_pi_se=np.zeros(n),
        bias_se=np.zeros(n),
        matrix=every[..., :n],
        matrix_se=every_se[..., :n],
        quadrature=every[..., n:] if curved else nothing,
        quadrature_se=every_se[..., n:] if curved else nothing,
        zero=zero,
        zero_se=zero_se,
        noise=noise,
        mean_se=float(np.sqrt(mean)),
        taken=np.zeros((len(programs), n)),
    )
    return found, inverses


def _zeros(designs: Sequence[Array], programs: Sequence[Shots]) -> tuple[Array, Array]:
    """Zeros (M,) and their standard errors.

    Each program says something of them whatever its matrix is; its inverse variance weighs it.
    """
    total, value, square = 0.0, np.zeros(programs[0].volts.shape[1]), np.zeros(programs[0].volts.shape[1])
    for design, each in zip(designs, programs, strict=True):
        inverse = _inverse(design, each.weight)
        pull, share = (design * each.weight[:, None]) @ inverse, 1 / inverse[-1, -1]
        rest = _squares(each.volts - design @ (pull.T @ each.volts), design.shape[1])
        total += share
        value += share * (pull[:, -1] @ each.volts)
        square += share**2 * (pull[:, -1] ** 2 @ rest)
    return value / total, np.sqrt(square) / total


def _squares(rest: Array, unknowns: int) -> Array:
    """Squares (B, M) of what is left, made up for the unknowns that were fitted to it."""
    found: Array = rest**2 * (len(rest) / (len(rest) - unknowns))
    return found


def _improved(inputs: Inputs, programs: Sequence[Shots]) -> tuple[Matrices, float]:
    """One step of V_pi and bias, the matrices that go with it, and by how many standard errors it moved."""
    known, inverses = _solve(inputs, programs)
    n = len(inputs.bias_rad)
    normal, right, scatter, scatter_bias = np.zeros((n, n)), np.zeros(n), np.zeros((n, n)), np.zeros(n)
    taken = []  # by the matrix, of a change of V_pi
    for k, each in enumerate(programs):
        light, b, weight = _design(inputs, each.inputs)[:, :-1], known.matrix[k], each.weight[:, None]
        change = inputs.drive(each.inputs) * (np.pi / 2) * light[:, n:]
        along = inverses[k] @ (light.T @ (weight * change))
        free, along_b = change - light @ along, weight * ((each.volts - known.volts(k, each.inputs)) @ b)
        normal += (b.T @ b) * (free.T @ (weight * free))
        right += (free * along_b).sum(0)
        scatter += (free * along_b).T @ (free * along_b)
        scatter_bias += (((light @ inverses[k][:, n:]) * along_b) ** 2).sum(0)
        taken.append(np.stack([np.diag(along[:n]), np.diag(along[n:])]))
    inverse_normal = np.linalg.inv(normal)
    step, errors = inverse_normal @ right, np.sqrt(np.diag(inverse_normal @ scatter @ inverse_normal))
    size = (known.matrix**2).sum((0, 1))
    bias = np.arctan((known.matrix * known.quadrature).sum((0, 1)) / size)
    bias_se = np.sqrt(scatter_bias) / size
    moved = replace(inputs, inverse_v_pi=inputs.inverse_v_pi + step, bias_rad=inputs.bias_rad + bias)
    found, _ = _solve(moved, programs)
    in_phase, quadrature = np.array(taken).transpose(1, 0, 2)
    found = replace(
        found,
        inverse_v_pi_se=errors,
        bias_se=bias_se,
        matrix_se=np.hypot(found.matrix_se, in_phase[:, None] * found.matrix * errors),
        quadrature_se=np.hypot(found.quadrature_se, quadrature[:, None] * found.matrix * errors),
        taken=in_phase,
    )
    return found, float(max(np.abs(step / errors).max(), np.abs(bias / bias_se).max()))


def _design(inputs: Inputs, codes: Array) -> Array:
    """(B, 2 N + 1), or (B, N + 1) where inputs are linear; the last column is the zero's."""
    field, quadrature = fields(inputs, codes)
    columns = [field] if inputs.transfer.shape == "linear" else [field, quadrature]
    return np.concatenate([*columns, np.ones((len(codes), 1))], axis=1)


def _inverse(design: Array, weight: Array) -> Array:
    square = design.T @ (design * weight[:, None])
    if len(design) <= design.shape[1] or np.linalg.cond(square) > 1e10:
        raise CalibrationError(
            f"{len(design)} random input vectors do not tell {design.shape[1]} columns of light apart: do the inputs "
            "have more than a few codes? Measure with more shots"
        )
    return np.asarray(np.linalg.inv(square), dtype=np.float64)
