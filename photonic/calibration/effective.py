"""The matrix that each weight setting really was, from counts: linear least squares in the light of its inputs.

Such a matrix with its spread is all that a setting's shots say of the weights (the model is linear in them, and noise
within one setting is nearly even), and needs no model of how codes make weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.model import Array

_SINGULAR = 1e-10


@dataclass(frozen=True)
class Setting:
    """One weight setting and its shots.

    Attributes:
        codes: (M, N) weight codes.
        inputs: (B, N) input codes.
        volts: (B, M) counts, corrected for the ADC.
        usable: (M,) outputs that stayed off the rails.
        weight: (B,) of the shots, 1 on average: one over the variance of what they say.
    """

    codes: Array
    inputs: Array
    volts: Array
    usable: NDArray[np.bool_]
    weight: Array


@dataclass(frozen=True)
class Moments:
    """Weighted sums over the shots b of each of K settings, of light x and volts y; all that least squares needs.

    Attributes:
        light_light: (K, N, N) x_j x_j'.
        light: (K, N) x_j.
        ones: (K,).
        light_volts: (K, N, M) x_j y_i; 0 where an output was not usable.
        volts: (K, M) y_i; likewise.
        usable: (K, M).
    """

    light_light: Array
    light: Array
    ones: Array
    light_volts: Array
    volts: Array
    usable: NDArray[np.bool_]

    @classmethod
    def of(cls, settings: Sequence[Setting], light: Sequence[Array]) -> Moments:
        """Sums of the settings with the light (B, N) of their inputs."""
        usable = np.array([setting.usable for setting in settings])
        weighed = [setting.weight[:, None] * x for setting, x in zip(settings, light, strict=True)]
        volts = [np.where(setting.usable, setting.volts, 0.0) for setting in settings]
        return cls(
            light_light=np.array([w.T @ x for w, x in zip(weighed, light, strict=True)]),
            light=np.array([w.sum(0) for w in weighed]),
            ones=np.array([setting.weight.sum() for setting in settings]),
            light_volts=np.array([w.T @ y for w, y in zip(weighed, volts, strict=True)]),
            volts=np.array([setting.weight @ y for setting, y in zip(settings, volts, strict=True)]),
            usable=usable,
        )


@dataclass(frozen=True)
class Effective:
    """Matrices of K settings.

    Attributes:
        codes: (K, M, N).
        matrix: (K, M, N) counts of an input at full level; NaN where an output was not usable.
        variance: (K, M) mean over j of its variance, in counts^2.
        zero: (M,) counts without light.
        zero_se: its standard error.
        noise: (M,) variance of a shot of average weight, in counts^2.
        moments: of the shots.
    """

    codes: Array
    matrix: Array
    variance: Array
    zero: Array
    zero_se: Array
    noise: Array
    moments: Moments


def effective_matrices(settings: Sequence[Setting], light: Sequence[Array], zero: Array | None) -> Effective:
    """Solves every setting for its matrix.

    Args:
        settings: K of them.
        light: (B, N) of the inputs of each.
        zero: (M,) known from readings in the dark; None: found from these, one for all settings.
    """
    n = light[0].shape[1]
    found, spread, noise, free = [], [], [], zero is None
    for setting, levels in zip(settings, light, strict=True):
        root = np.sqrt(setting.weight)[:, None]
        design = root * (np.concatenate([levels, np.ones((len(levels), 1))], axis=1) if free else levels)
        target = root * (setting.volts if zero is None else setting.volts - zero)
        inverse = _inverse(design.T @ design)
        solution = inverse @ (design.T @ target)
        residual = target - design @ solution
        per_shot = (residual**2).sum(0) / (len(levels) - design.shape[1])
        noise.append(np.where(setting.usable, per_shot, np.nan))
        spread.append(np.diag(inverse))
        found.append(np.where(setting.usable, solution, np.nan))
    each, matrices, per_unit = _mean(np.array(noise)), np.array(found), np.nan_to_num(spread, nan=1.0)
    zeros, zeros_se = (zero, np.zeros_like(zero)) if zero is not None else _pooled(matrices[:, n], per_unit[:, n], each)
    return Effective(
        codes=np.array([setting.codes for setting in settings]),
        matrix=matrices[:, :n].transpose(0, 2, 1),
        variance=each * per_unit[:, :n].mean(1, keepdims=True),
        zero=zeros,
        zero_se=zeros_se,
        noise=each,
        moments=Moments.of(settings, light),
    )


def _mean(noise: Array) -> Array:
    """(M,) of (K, M) where an output could be used; NaN for one that never could."""
    known = ~np.isnan(noise)
    count = known.sum(0)
    found: Array = np.where(count, np.where(known, noise, 0.0).sum(0) / np.maximum(count, 1), np.nan)
    return found


def _inverse(gram: Array) -> Array:
    """(n, n) inverse; NaN where the inputs of a setting do not tell its weights apart."""
    try:
        scale = np.diagonal(np.linalg.cholesky(gram)) ** 2
    except np.linalg.LinAlgError:
        return np.full_like(gram, np.nan)
    if scale.min() < _SINGULAR * np.diagonal(gram).max():
        return np.full_like(gram, np.nan)
    return np.asarray(np.linalg.inv(gram), dtype=np.float64)


def _pooled(values: Array, per_unit: Array, noise: Array) -> tuple[Array, Array]:
    """Intercepts (K, M) weighed by their variances, and the standard error of the result."""
    weight = np.where(np.isnan(values), 0.0, 1.0 / per_unit[:, None])
    total = weight.sum(0)
    return np.nansum(values * weight, axis=0) / total, np.sqrt(noise / total)
