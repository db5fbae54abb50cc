"""Receivers that are not alike: thermal and shot noise of each output, relative to those of the chip.

Given the four terms, what the variances of one output have beyond what is predicted is explained by a change of its
thermal and of its shot noise, by weighted least squares. Each output's two numbers are known to a few per cent only, so
they are drawn towards 1 as far as outputs hardly differ: the changes of all outputs are taken for draws of one normal
distribution, whose covariance is the likeliest one (empirical Bayes; Efron and Morris, J. Am. Stat. Assoc. 70, 311
(1975); found by expectation and maximisation). Where chance explains what outputs differ by, they are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2

from photonic.calibration.noise import TERMS, NoiseFit, fit_noise
from photonic.calibration.secondmoments import Array, NoiseData, Rin, State, clear_of_rails, unit_covariances

_ALIKE = 1e-4  # probability of outputs that differ as much, by chance, from which on they are alike
_TURNS = 4  # of factors and terms
_STEPS = 300  # of expectation and maximisation
_FIRST = 0.1  # spread of the factors to begin with


class OwnNoise(NamedTuple):
    """What was found.

    Attributes:
        factors: (2, M) of thermal and of shot noise, none below 0, of mean 1.
        standard_error: (2, M).
        fit: of the terms, with these.
    """

    factors: Array
    standard_error: Array
    fit: NoiseFit


def own_noise(parts: Sequence[NoiseData], fit: NoiseFit, rin: Rin = "common") -> OwnNoise | None:
    """The noise of each output, where outputs differ by more than chance.

    Args:
        parts: repeated readings, as ``fit_noise`` had them.
        fit: of the terms, all outputs alike.
        rin: whether inputs share their intensity noise.
    """
    m = len(parts[0].gain)
    changes = np.zeros((m, 2))
    square, right = _equations(parts, fit, rin, changes)
    explained = np.einsum("ma,mab,mb->", right, np.linalg.pinv(square, hermitian=True), right)
    if m < 2 or chi2.sf(explained, 2 * m - 2) > _ALIKE:
        return None
    for turn in range(_TURNS):
        if turn:
            square, right = _equations(parts, fit, rin, changes)
        changes, spread = _drawn_together(square, right)
        factors = np.maximum(1 + changes.T, 0.0)
        factors /= factors.mean(1, keepdims=True)
        changes = factors.T - 1
        parts = [replace(data, own=factors) for data in parts]
        fit = fit_noise(parts[0], rin, more=parts[1:])
    return OwnNoise(factors, spread.T, fit)


def _equations(parts: Sequence[NoiseData], fit: NoiseFit, rin: Rin, changes: Array) -> tuple[Array, Array]:
    """Normal matrix (M, 2, 2) and right side (M, 2) of the outputs' changes, which are ``changes`` (M, 2) so far."""
    theta = np.array([getattr(fit.model, name) for name in TERMS])
    square, right = np.zeros((len(changes), 2, 2)), np.zeros((len(changes), 2))
    for data in parts:
        keep, alike = clear_of_rails(data), unit_covariances(replace(data, own=None), rin)
        state = State.at(data, unit_covariances(data, rin), theta, keep)
        seen, rest = (np.diagonal(each, axis1=1, axis2=2) for each in (state.predicted, state.residual))
        # of a count's variance by that before the ADC: the same for all terms
        by_variance = np.where(keep, state.by_variance, 0.0)
        columns = np.stack([theta[a] * np.diagonal(alike[a], axis1=1, axis2=2) * by_variance for a in (0, 1)], axis=-1)
        weight = np.where(keep, state.nu / (seen**2 * np.maximum(2 + state.excess / seen**2, 2 / (state.nu + 1))), 0.0)
        working = rest + np.einsum("pma,ma->pm", columns, changes)
        square += np.einsum("pm,pma,pmb->mab", weight, columns, columns)
        right += np.einsum("pm,pma,pm->ma", weight, columns, working)
    return square, right


def _drawn_together(square: Array, right: Array) -> tuple[Array, Array]:
    """Changes (M, 2) as draws of one normal distribution of mean 0, and their standard errors."""
    prior = _FIRST**2 * np.eye(2)
    for _ in range(_STEPS):
        covariance = np.linalg.inv(square + np.linalg.inv(prior))
        changes = np.einsum("mab,mb->ma", covariance, right)
        prior = np.einsum("ma,mb->ab", changes, changes) / len(changes) + covariance.mean(0)
    return changes, np.sqrt(np.einsum("maa->ma", covariance))
