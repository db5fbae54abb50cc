"""The transfer of each input channel: V_pi, bias and extinction of its modulator, from all shots at once.

One Gauss-Newton step: what is left of the counts after the matrices of all settings, against the change that each
channel's parameters would make. Every output of every shot says something of every channel. The matrices are free in
every setting, so the changes are first made orthogonal to what a matrix could take up (variable projection: Golub and
Pereyra, SIAM J. Numer. Anal. 10, 413; Kaufman, BIT 15, 49): errors are those of the joint fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from photonic.calibration.effective import Setting
from photonic.calibration.model import Array, Inputs


@dataclass(frozen=True)
class TransferStep:
    """What one step found.

    Attributes:
        inputs: the improved transfer.
        inverse_v_pi_se: (N,) standard errors.
        bias_se: (N,).
        level_min_se: of T_min; None where it was not free.
        largest: change over its standard error, of the parameter that moved most.
    """

    inputs: Inputs
    inverse_v_pi_se: Array
    bias_se: Array
    level_min_se: float | None
    largest: float


def improve_transfer(
    inputs: Inputs, settings: Sequence[Setting], matrices: Array, zero: Array, noise: Array, *, extinction: bool
) -> TransferStep:
    """One step from ``inputs``.

    Args:
        inputs: the transfer so far, of shape "mzm".
        settings: K of them.
        matrices: (K, M, N) counts of each input at full level, NaN where an output is not used.
        zero: (M,) counts without light.
        noise: (M,) variance of a shot.
        extinction: whether T_min is free: only where a dark reading tells it from the zero of the outputs.
    """
    n = len(inputs.bias_rad)
    size = 2 * n + int(extinction)
    normal, right = np.zeros((size, size)), np.zeros(size)
    weight = 1.0 / noise
    for setting, matrix in zip(settings, matrices, strict=True):
        usable = ~np.isnan(matrix).any(axis=1)
        b, w = matrix[usable], weight[usable]
        root = np.sqrt(setting.weight)[:, None]
        light = root * inputs.levels(setting.inputs)
        rest = root * (setting.volts[:, usable] - zero[usable]) - light @ b.T
        changes = root * np.concatenate(_slopes(inputs, setting.inputs), axis=1)  # (B, 3 N)
        free = changes - light @ np.linalg.solve(light.T @ light, light.T @ changes)
        curve, dark = free[:, : 2 * n], free[:, 2 * n :] @ b.T
        normal[: 2 * n, : 2 * n] += np.tile(b.T @ (b * w[:, None]), (2, 2)) * (curve.T @ curve)
        right[: 2 * n] += (curve * np.tile((rest * w) @ b, 2)).sum(0)
        if extinction:
            normal[-1, -1] += float((dark**2 * w).sum())
            right[-1] += float((dark * rest * w).sum())
            cross = (curve * np.tile((dark * w) @ b, 2)).sum(0)
            normal[-1, :-1] += cross
            normal[:-1, -1] += cross
    covariance = np.linalg.inv(normal)
    change, errors = covariance @ right, np.sqrt(np.diag(covariance))
    found = replace(
        inputs,
        inverse_v_pi=inputs.inverse_v_pi + change[:n],
        bias_rad=inputs.bias_rad + change[n : 2 * n],
        level_min=inputs.level_min + (float(change[-1]) if extinction else 0.0),
    )
    return TransferStep(
        inputs=found,
        inverse_v_pi_se=errors[:n],
        bias_se=errors[n : 2 * n],
        level_min_se=float(errors[-1]) if extinction else None,
        largest=float(np.abs(change / errors).max()),
    )


def _slopes(inputs: Inputs, codes: Array) -> tuple[Array, Array, Array]:
    """Derivatives of T (B, N) with respect to the inverse V_pi, the bias of the half phase, and T_min."""
    phase = inputs.half_phase(codes)
    bias = (1.0 - inputs.level_min) * np.sin(2.0 * phase)
    return bias * inputs.drive(codes) * (math.pi / 2), bias, np.cos(phase) ** 2
