"""How the mean of a count moves with the transitions of its ADC.

A transition that lies higher by dT lowers the mean of the counts around it as a value does that is lower by dT: the
mean of a count is sum_k Phi((v - T_k) / sigma), and its derivative by T_k is that by v, in parts that add up to 1. So
transitions are changes of the value before the ADC, smoothed by its noise. Which changes are free depends on what all
outputs have in common; the line through them belongs to gain and zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.adc import Inl
from photonic.calibration.binaryadc import binary_changes
from photonic.calibration.model import Array

_STEP = 0.25  # counts, of the table
_REACH = 4.0  # standard deviations
_WIDE = 8  # transitions for each number of a curve that is free: finer changes are noise to gains and zeros


@dataclass(frozen=True)
class AdcColumns:
    """Changes of the mean by the numbers that transitions have, by value.

    Attributes:
        start: first value of the tables, counts.
        own: (M, V, A) by each output's own numbers, at values ``_STEP`` apart.
        shared: (M, V, B) by those that outputs share.
        own_changes: (K, A) transitions by each output's own numbers.
        shared_changes: (K, B) likewise.
    """

    start: float
    own: Array
    shared: Array
    own_changes: Array
    shared_changes: Array

    @classmethod
    def of(cls, inl: Inl, sigma: Array, count_range: tuple[float, float]) -> AdcColumns:
        """The columns of a hypothesis.

        Args:
            inl: transitions, and which hypothesis they are of.
            sigma: (M,) standard deviation of a shot, counts.
            count_range: rails.
        """
        low, high = count_range
        ideal, known = np.arange(low + 0.5, high), np.asarray(inl.identified.any(0))
        free, none = _wide(len(ideal)), np.zeros((len(ideal), 0))
        own = binary_changes(ideal) if "binary" in inl.kind else free if inl.kind == "per output" else none
        common = free if "pooled" in inl.kind else none
        own, common = (_beside_line(each, ideal, known) for each in (own, common))
        at = np.arange(low - 4, high + 4 + _STEP, _STEP)
        own_tables, shared_tables = [], []
        for each, transitions in zip(sigma, inl.transitions, strict=True):
            z = (at[:, None] - transitions) / each
            near = np.where(np.abs(z) < _REACH, np.exp(-0.5 * z * z) / (np.sqrt(2 * np.pi) * each), 0.0)
            own_tables.append(-near @ own)
            shared_tables.append(-near @ common)
        return cls(float(at[0]), np.stack(own_tables), np.stack(shared_tables), own, common)

    def gathered(self, volts: Sequence[Array], pulls: Sequence[Array], i: int) -> tuple[Array, Array]:
        """(K, A) and (K, B) sums over the shots of ``at`` times ``pulls``, both (B,) of each of K settings."""
        size, sizes = self.own.shape[1], [len(each) for each in volts]
        place = self._place(np.concatenate(volts)) + np.repeat(np.arange(len(volts)) * size, sizes)
        by_value = np.bincount(place, np.concatenate(pulls), len(volts) * size).reshape(len(volts), size)
        return by_value @ self.own[i], by_value @ self.shared[i]

    def _place(self, volts: Array) -> NDArray[np.intp]:
        return np.rint((volts - self.start) / _STEP).clip(0, self.own.shape[1] - 1).astype(np.intp)

    def at(self, volts: Array, i: int) -> tuple[Array, Array]:
        """(B, A) and (B, B') of values (B,) of one output."""
        place = self._place(volts)
        return self.own[i][place], self.shared[i][place]


def _wide(transitions: int) -> Array:
    """(K, k) piecewise linear functions."""
    knots = np.linspace(0, transitions - 1, max(2, transitions // _WIDE))
    each = np.arange(transitions)
    return np.stack([np.interp(each, knots, row) for row in np.eye(len(knots))], axis=1)


def _beside_line(changes: Array, ideal: Array, known: NDArray[np.bool_]) -> Array:
    """An orthonormal set of the changes, without the line through the transitions that were met."""
    if not changes.shape[1]:
        return changes
    line = np.stack([np.ones_like(ideal), ideal], axis=1)
    rest = changes - line @ np.linalg.lstsq(line[known], changes[known], rcond=None)[0]
    vectors, values, _ = np.linalg.svd(rest, full_matrices=False)
    return np.asarray(vectors[:, values > 1e-9 * values.max()] * np.sqrt(len(ideal)))
