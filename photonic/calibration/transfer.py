"""The transfer of each input channel: V_pi, bias and extinction of its modulator, from all shots at once.

One Gauss-Newton step: what is left of the counts after the matrices of all settings, against the change that each
channel's parameters would make. Every output of every shot says something of every channel. The matrices are free in
every setting, so the changes are first made orthogonal to what a matrix could take up (variable projection: Golub and
Pereyra, SIAM J. Numer. Anal. 10, 413; Kaufman, BIT 15, 49): errors are those of the joint fit. Outputs share the
source's noise, shot by shot, so that M outputs say less than M times one: errors come from the spread of whole shots'
scores (the sandwich of White, Econometrica 50, 1 (1982)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.effective import Setting
from photonic.calibration.model import Array, Inputs

_SURE = 1e-6  # counts; without noise a zero is known as well as this


@dataclass(frozen=True)
class TransferStep:
    """What one step found.

    Attributes:
        inputs: the improved transfer.
        zero: (M,) counts without light, improved with T_min.
        inverse_v_pi_se: (N,) standard errors.
        bias_se: (N,).
        level_min_se: of T_min; None where it was not free.
        scale_covariance: (N, N) of the relative change that these errors make of each channel's full light.
        largest: change over its standard error, of the parameter that moved most.
    """

    inputs: Inputs
    zero: Array
    inverse_v_pi_se: Array
    bias_se: Array
    level_min_se: float | None
    scale_covariance: Array
    largest: float


def improve_transfer(
    inputs: Inputs,
    settings: Sequence[Setting],
    matrices: Array,
    zero: Array,
    noise: Array,
    dark: tuple[Array, Array] | None,
) -> TransferStep:
    """One step from ``inputs``.

    Args:
        inputs: the transfer so far, of shape "mzm".
        settings: K of them.
        matrices: (K, M, N) counts of each input at full level, NaN where an output is not used.
        zero: (M,) counts without light.
        noise: (M,) variance of a shot.
        dark: (M,) zeros from readings without light, and their standard errors. With them T_min is free, and so are the
            zeros, which it is nearly the same as; None: T_min is kept, light at the dark code is part of the zeros.
    """
    n = len(inputs.bias_rad)
    sums = _Sums.empty(2 * n, 0 if dark is None else len(zero))
    absorbed, shots = np.zeros((n, 3, n)), 0
    for setting, matrix in zip(settings, matrices, strict=True):
        usable = ~np.isnan(matrix).any(axis=1)
        if not usable.any():
            continue  # its inputs do not tell its weights apart
        b, w = matrix[usable], 1.0 / noise[usable]
        root = np.sqrt(setting.weight)[:, None]
        light = root * inputs.levels(setting.inputs)
        rest = root * (setting.volts[:, usable] - zero[usable]) - light @ b.T
        slopes = [*slopes_of(inputs, setting.inputs), np.ones((len(root), 1))]
        changes = root * np.concatenate(slopes, axis=1)  # (B, 3 N + 1)
        taken_up = np.linalg.solve(light.T @ light, light.T @ changes)
        absorbed += len(root) * taken_up[:, :-1].reshape(n, 3, n)
        shots += len(root)
        free = changes - light @ taken_up
        curve, level, one = free[:, : 2 * n], free[:, 2 * n : -1] @ b.T, free[:, -1]
        sums.add_curves(curve, b, w, rest)
        if dark is not None:
            sums.add_levels(curve, level, one, (b, w, rest), usable)
        sums.add_scores(curve, level, one, (b, w, rest), usable)
    if dark is not None:
        sums.add_dark(dark[0] - zero, dark[1])
    inverse = np.linalg.inv(sums.normal)
    covariance = inverse @ sums.scores @ inverse
    change, errors = inverse @ sums.right, np.sqrt(np.diag(covariance))
    shown = 2 * n + (dark is not None)
    found = replace(
        inputs,
        inverse_v_pi=inputs.inverse_v_pi + change[:n],
        bias_rad=inputs.bias_rad + change[n : 2 * n],
        level_min=inputs.level_min + (0.0 if dark is None else float(change[2 * n])),
    )
    return TransferStep(
        inputs=found,
        zero=zero if dark is None else zero + change[2 * n + 1 :],
        inverse_v_pi_se=errors[:n],
        bias_se=errors[n : 2 * n],
        level_min_se=None if dark is None else float(errors[2 * n]),
        scale_covariance=_scales(absorbed / max(shots, 1), covariance[:shown, :shown]),
        largest=float(np.abs(change / errors)[:shown].max()),
    )


@dataclass(frozen=True)
class _Sums:
    """Normal equations of the curves' parameters (C), and with them of T_min and the zeros (M)."""

    normal: Array
    right: Array
    scores: Array
    curves: int

    @classmethod
    def empty(cls, curves: int, zeros: int) -> _Sums:
        size = curves + (zeros + 1 if zeros else 0)
        return cls(np.zeros((size, size)), np.zeros(size), np.zeros((size, size)), curves)

    def add_curves(self, curve: Array, b: Array, w: Array, rest: Array) -> None:
        """One setting, with ``curve`` (B, C) per count of a matrix's element."""
        c = self.curves
        self.normal[:c, :c] += np.tile(b.T @ (b * w[:, None]), (2, 2)) * (curve.T @ curve)
        self.right[:c] += (curve * np.tile((rest * w) @ b, 2)).sum(0)

    def add_levels(
        self, curve: Array, level: Array, one: Array, seen: tuple[Array, Array, Array], usable: NDArray[np.bool_]
    ) -> None:
        """The same setting's T_min, ``level`` (B, used outputs), and zeros, ``one`` (B,) for each output."""
        b, w, rest = seen
        c, zeros = self.curves, self.curves + 1 + np.flatnonzero(usable)
        self.normal[c, c] += float((level**2 * w).sum())
        self.right[c] += float((level * rest * w).sum())
        cross = (curve * np.tile((level * w) @ b, 2)).sum(0)
        self.normal[c, :c] += cross
        self.normal[:c, c] += cross
        self.normal[zeros, zeros] += w * float(one @ one)
        self.right[zeros] += w * (one @ rest)
        of_level = w * (one @ level)
        self.normal[c, zeros] += of_level
        self.normal[zeros, c] += of_level
        of_curve = (w[:, None] * np.tile(b, 2)) * (one @ curve)  # (used outputs, C)
        self.normal[np.ix_(zeros, np.arange(c))] += of_curve
        self.normal[np.ix_(np.arange(c), zeros)] += of_curve.T

    def add_scores(
        self, curve: Array, level: Array, one: Array, seen: tuple[Array, Array, Array], usable: NDArray[np.bool_]
    ) -> None:
        """Products of the scores of each shot of a setting, with what its matrix took of the residuals put back."""
        b, w, rest = seen
        c = self.curves
        score = np.zeros((len(rest), len(self.right)))
        score[:, :c] = curve * np.tile((rest * w) @ b, 2)
        if len(self.right) > c:
            score[:, c] = (level * rest * w).sum(1)
            score[:, c + 1 + np.flatnonzero(usable)] = one[:, None] * rest * w
        left = len(rest) - b.shape[1]
        if left > 0:
            self.scores[...] += len(rest) / left * (score.T @ score)

    def add_dark(self, away: Array, errors: Array) -> None:
        """What readings without light say of the zeros: (M,) how far away they are, and their standard errors."""
        zeros = np.arange(self.curves + 1, len(self.right))
        sure = 1 / np.maximum(errors, _SURE) ** 2
        self.normal[zeros, zeros] += sure
        self.scores[zeros, zeros] += sure
        self.right[zeros] += sure * away


def _scales(absorbed: Array, covariance: Array) -> Array:
    """Covariance (N, N) of what a matrix takes up of errors, relative to each channel's own light.

    Args:
        absorbed: (N, 3, N) part of a change of V_pi, bias and T_min (each of one channel) that each channel takes up.
        covariance: of 2 N curves' parameters, and with them of T_min where it was free.
    """
    n = len(absorbed)
    own = np.einsum("npn->np", absorbed)  # what other channels take up does not follow a channel's codes
    slope = np.zeros((n, len(covariance)))
    each = np.arange(n)
    slope[each, each], slope[each, n + each] = own[:, 0], own[:, 1]
    if len(covariance) > 2 * n:
        slope[:, 2 * n] = own[:, 2]
    found: Array = slope @ covariance @ slope.T
    return found


def slopes_of(inputs: Inputs, codes: Array) -> tuple[Array, Array, Array]:
    """Derivatives of T (B, N) with respect to the inverse V_pi, the bias of the half phase, and T_min."""
    phase = inputs.half_phase(codes)
    bias = (1.0 - inputs.level_min) * np.sin(2.0 * phase)
    return bias * inputs.drive(codes) * (math.pi / 2), bias, np.cos(phase) ** 2
