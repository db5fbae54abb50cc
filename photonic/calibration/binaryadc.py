"""Transitions of a binary converter: few numbers for all of them.

A successive-approximation ADC compares its input with sums of binary elements. A bit is kept if the input reaches the
level of the trial code, so the transition into code k is the level of k, limited to the interval that earlier decisions
left (``photonic.physics.converters.sar_transitions``). Its elements, and a smooth curve for what bends before it, are
fitted to transitions that were measured one by one; the fit takes their noise away and says where those lie that no
reading has met.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray
from scipy.special import ndtr

from photonic.calibration.model import Array

_SMOOTH = (2, 3, 4)  # degrees of the curve; offset and line are in the elements
_TURNS = 6  # of which level decides each transition
_RIDGE = 0.02
_SPARE = 3  # transitions for each parameter, at least


def binary_transitions(found: Array, error: Array, ideal: Array, sigma: float) -> tuple[Array, Array] | None:
    """Transitions (K,) and standard errors (K,) of the binary converter nearest to those that were found.

    Args:
        found: (K,) transitions, counts, each by its own probit regression.
        error: (K,) standard errors; inf where not identified.
        ideal: (K,) transitions of the ideal converter.
        sigma: standard deviation of a reading, counts: transitions that share readings have errors in common.

    Returns:
        None where too few transitions were identified, or their number is not that of a binary converter.
    """
    codes = len(ideal) + 1
    bits = codes.bit_length() - 1
    known = np.isfinite(error)
    design = _design(bits, ideal)
    if codes != 1 << bits or known.sum() < _SPARE * design.shape[1]:
        return None
    place = ideal[known]
    spread = error[known][:, None] * error[known] * _correlation((place[:, None] - place) / sigma)
    white = np.linalg.inv(np.linalg.cholesky(spread))
    level = np.arange(1, codes)
    for _ in range(_TURNS):
        rows = _rows(design, level, ideal)
        scaled = white @ rows[known]
        values, vectors = np.linalg.eigh(scaled.T @ scaled)
        good = values > values.max() * 1e-12
        covariance = (vectors[:, good] / values[good]) @ vectors[:, good].T
        parameters = covariance @ (scaled.T @ (white @ found[known]))
        before, level = level, _deciding(design[:, : bits + 1] @ parameters[: bits + 1], bits)
        if np.array_equal(before, level):
            break
    rows = _rows(design, level, ideal)
    return rows @ parameters, np.sqrt(np.einsum("ka,ab,kb->k", rows, covariance, rows))


def binary_changes(ideal: Array) -> Array:
    """(K, parameters) what each number of a binary converter adds to its transitions, near the ideal ones.

    Args:
        ideal: (K,) transitions of the ideal converter, K + 1 a power of two.
    """
    bits = (len(ideal) + 1).bit_length() - 1
    return _rows(_design(bits, ideal), np.arange(1, 1 << bits), ideal)


def _correlation(apart: Array) -> Array:
    """Of the errors of two transitions, by their distance in standard deviations, readings being spread evenly.

    The score of a transition at z = 0 is (y - p) phi / (p q); with y of another one at distance d, which needs more,
    E = integral of phi(z) phi(z - d) / (p(z) q(z - d)). A little is added where they are the same, so that far more
    transitions than there are standard deviations still make a matrix that can be inverted.
    """
    z = np.arange(-8, 14, 0.05)
    distance = np.arange(0, 6.05, 0.1)
    later = z - distance[:, None]
    density = np.exp(-0.5 * (z**2 + later**2)) / (2 * np.pi)
    shared = (density / (ndtr(z) * ndtr(-later))).sum(1)
    return np.asarray(np.interp(np.abs(apart), distance, shared / shared[0], right=0.0) + _RIDGE * (apart == 0))


def _design(bits: int, ideal: Array) -> Array:
    """(2^bits, bits + 1 + smooth) what elements, offset and curve make of the level of each code."""
    code = np.arange(1 << bits)
    on = (code[:, None] >> np.arange(bits)) & 1
    place = np.concatenate([ideal[:1], ideal]) / np.abs(ideal).max()
    smooth = legvander(place, max(_SMOOTH))[:, list(_SMOOTH)]
    return np.concatenate([on, np.ones((1 << bits, 1)), smooth], axis=1)


def _rows(design: Array, level: NDArray[np.intp], ideal: Array) -> Array:
    """(K, parameters) of the transitions: elements of the level that decides, curve at the transition's own place."""
    elements = design.shape[1] - len(_SMOOTH)
    return np.concatenate([design[level, :elements], design[1:, elements:]], axis=1)


def _deciding(levels: Array, bits: int) -> NDArray[np.intp]:
    """(2^bits - 1,) code whose level is the transition into each code but the lowest."""
    low, high = np.full(1, -1), np.full(1, -1)  # -1: nothing was decided yet
    for bit in reversed(range(bits)):
        own = np.arange(2**bit, 1 << bits, 2 ** (bit + 1))
        at = levels[own]
        under = (low >= 0) & (at < levels[low])
        over = (high >= 0) & (at > levels[high])
        trial = np.where(under, low, np.where(over, high, own))
        low, high = np.stack((low, trial), -1).ravel(), np.stack((trial, high), -1).ravel()
    return low[1:]
