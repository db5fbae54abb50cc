"""What the mean of a row's counts changes with: numbers of its own, and numbers that all rows share.

A row's own are the coefficients of its elements along the curves and its zero. Shared are the curves, what neighbours
take, and the transfer of the inputs. Within a setting all of them act through a few columns of its shots: the light
T_j of each channel, 1, and the derivatives of T_j by V_pi and bias (T_min acts through T_j and 1). So the sums over a
setting's shots of products of these columns are all that is needed of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.model import Array, Inputs, all_taken, powers, shifted
from photonic.calibration.programming import Programming
from photonic.calibration.sharedstep import hats_of
from photonic.calibration.transfer import slopes_of
from photonic.records import ChipSpec


@dataclass(frozen=True)
class Shared:
    """What rows share, and how a vector of its changes is laid out.

    The curves but the constant come first, then the neighbours' coefficients, T_min, and last the inverse V_pi and the
    bias of every channel; the last three only where the inputs have a curve of their own.

    Attributes:
        spec: of the chip.
        found: curves, neighbours, all rows' coefficients, and the scale of what neighbours take.
        inputs: transfer of the channels.
        dark: whether T_min is free.
    """

    spec: ChipSpec
    found: Programming
    inputs: Inputs
    dark: bool

    @cached_property
    def hats(self) -> list[Array]:
        """(nodes, knots) of each curve but the constant."""
        return hats_of(self.found.curves)

    @cached_property
    def curves(self) -> list[slice]:
        """Places of each curve's knots."""
        ends = np.cumsum([0, *(hat.shape[1] for hat in self.hats)])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    @property
    def neighbours(self) -> slice:
        """Places of the neighbours' coefficients."""
        start = self.curves[-1].stop
        return slice(start, start + int(self.found.crosstalk.free.sum()))

    @property
    def level_min(self) -> int | None:
        """Place of T_min, if it is free."""
        return int(self.neighbours.stop) if self.dark and self.inputs.curved else None

    @property
    def plain(self) -> int:
        """How many of the parameters act through T_j and 1."""
        return int(self.neighbours.stop) + (self.level_min is not None)

    @property
    def transfer(self) -> slice:
        """Places of V_pi and bias."""
        return slice(self.plain, self.plain + 2 * self.spec.n_inputs * self.inputs.curved)

    @property
    def power(self) -> Array:
        """(N,) of the channels, 1 on average."""
        size = np.abs(self.found.scale)
        return np.asarray(size.mean(0) / size.mean())

    def columns(self, codes: Array) -> Array:
        """(B, N + 1 or 3 N + 1) of shots with input codes (B, N)."""
        found = [self.inputs.levels(codes), np.ones((len(codes), 1))]
        if self.inputs.curved:
            found += slopes_of(self.inputs, codes)[:2]
        return np.concatenate(found, axis=1)


@dataclass(frozen=True)
class RowColumns:
    """How parameters act on one row of K settings, per count of a shot's columns T_j and 1.

    Attributes:
        shared: what rows share.
        node: (K, N) of the curves, at or below each code.
        share: (K, N) of the next node, 0 to below 1; None: all codes are at nodes.
        features: (K, N, Q) on T_j, of the element's own coefficients.
        bends: (K, N, Q) on T_j, of its curves' values at its code.
        pull: (K, N) on T_j, of the row's mean slope, which neighbours move weights towards.
        beside: (K, N, free) on T_j, of the neighbours' coefficients.
        weights: (K, N) of the row, counts of an input at full level; on the derivatives of T_j, of V_pi and bias.
    """

    shared: Shared
    node: NDArray[np.intp]
    share: Array | None
    features: Array
    bends: Array
    pull: Array
    beside: Array
    weights: Array

    @property
    def by_slope(self) -> Array:
        """(N,) derivative of the row's mean slope by its elements' slopes."""
        power = self.shared.power
        return np.asarray(1.0 / (len(power) * power))

    @property
    def dense(self) -> Array:
        """(K, N + 1, P) on T_j and 1: of the row's own numbers, its zero last of them, then of the shared ones."""
        shared, (k, n, q) = self.shared, self.features.shape
        columns, each = np.zeros((k, n + 1, n * q + 1 + shared.plain)), np.arange(n)
        for a in range(q):
            columns[:, each, each * q + a] = self.features[..., a]
        columns[:, :n, 1 : n * q : q] += self.pull[..., None] * self.by_slope
        columns[:, n, n * q] = 1.0
        own = columns[:, :, n * q + 1 :]
        for a, (hat, place) in enumerate(zip(shared.hats, shared.curves, strict=True), 1):
            own[:, :n, place] = at_codes(hat, self.node, self.share) * self.bends[..., a, None]
        own[:, :n, shared.neighbours] = self.beside
        if shared.level_min is not None:
            dark = self._dark
            own[:, :n, shared.level_min], own[:, n, shared.level_min] = -dark, dark.sum(1)
        return columns

    def gathered(self, plain: Array) -> tuple[Array, Array]:
        """(K, own) and (K, shared) sums over T_j and 1 of ``dense`` times ``plain`` (K, N + 1), without making it."""
        shared, (k, n) = self.shared, self.weights.shape
        light, each = plain[:, :n], np.arange(k)[:, None]
        own = self.features * light[..., None]
        own[..., 1] += (self.pull * light).sum(1, keepdims=True) * self.by_slope
        together = np.empty((k, shared.plain))
        for a, (hat, place) in enumerate(zip(shared.hats, shared.curves, strict=True), 1):
            nodes, value = len(hat), self.bends[..., a] * light
            at = each * nodes + self.node
            if self.share is None:
                by_node = np.bincount(at.ravel(), value.ravel(), k * nodes)
            else:
                by_node = np.bincount(at.ravel(), (value * (1 - self.share)).ravel(), k * nodes)
                beyond = each * nodes + np.minimum(self.node + 1, nodes - 1)
                by_node = by_node + np.bincount(beyond.ravel(), (value * self.share).ravel(), k * nodes)
            by_node = by_node.reshape(k, nodes)
            together[:, place] = by_node if hat.shape[1] == nodes else by_node @ hat
        together[:, shared.neighbours] = np.einsum("knl,kn->kl", self.beside, light)
        if shared.level_min is not None:
            together[:, shared.level_min] = (self._dark * (plain[:, n:] - light)).sum(1)
        return np.concatenate([own.reshape(k, -1), plain[:, n:]], axis=1), together

    @property
    def _dark(self) -> Array:
        """(K, N) of T_min: dT / dT_min = (1 - T) / (1 - T_min)."""
        return np.asarray(self.weights / (1.0 - self.shared.inputs.level_min))


def at_codes(hats: Array, node: NDArray[np.intp], share: Array | None) -> Array:
    """(..., knots) of functions (nodes, knots) between nodes."""
    if share is None:
        return np.asarray(hats[node])
    part = share[..., None]
    return np.asarray(hats[node] * (1 - part) + hats[np.minimum(node + 1, len(hats) - 1)] * part)


class Settings:
    """Codes of settings as curves and neighbours have them.

    Args:
        shared: curves, neighbours and inputs.
        codes: (K, M, N).
    """

    def __init__(self, shared: Shared, codes: Array) -> None:
        self._shared = shared
        found, (low, high) = shared.found, shared.spec.weight_code_range
        position = (codes - low) / (high - low) * (found.curves.shape[1] - 1)
        node = np.floor(position + 1e-9).clip(0, found.curves.shape[1] - 1)
        self._node, share = node.astype(np.intp), np.maximum(position - node, 0.0)
        self._share = share if (share > 1e-9).any() else None
        self._basis = at_codes(found.curves.T, self._node, self._share)
        self._taken = all_taken(self._basis[..., 1], found.offsets, found.neighbour)

    def row(self, i: int) -> RowColumns:
        """The columns of one row."""
        shared, found, power = self._shared, self._shared.found, self._shared.power
        raw, taken, basis = found.raw[i], self._taken[:, i], self._basis[:, i]
        left = 1.0 - taken
        features, pull = left[..., None] * basis, np.zeros_like(taken)
        beside = np.zeros((*taken.shape, 0))
        weights = np.einsum("knq,nq->kn", features, raw)
        if found.crosstalk.offsets:
            slope = float((raw[:, 1] / power).mean())
            pull = found.crosstalk.target * taken * power
            weights += pull * slope
            away = found.crosstalk.target * power * slope - np.einsum("knq,nq->kn", basis, raw)
            beside = self._neighbours(i, away * left)
        share = None if self._share is None else self._share[:, i]
        bends = left[..., None] * raw
        return RowColumns(shared, self._node[:, i], share, features, bends, pull, beside, weights)

    def _neighbours(self, i: int, away: Array) -> Array:
        """(K, N, free) change of a row's weights by each coefficient; ``away`` (K, N) is left to be taken."""
        found, columns = self._shared.found, []
        hypothesis = found.crosstalk
        for (rows, across), row, free in zip(hypothesis.offsets, found.neighbour, hypothesis.free, strict=True):
            beside = self._beside(i + rows, across)
            # what this neighbour leaves is in all that are left, and is not part of its own slope
            each = away / (1.0 - powers(beside, row[free]))
            columns += list(each * np.cumprod(np.broadcast_to(beside, (int(free.sum()), *beside.shape)), axis=0))
        return np.stack(columns, axis=-1)

    def _beside(self, i: int, across: int) -> Array:
        """(K, N) s of the neighbours of a row that are ``across`` columns away; 0 where there is none."""
        s = self._basis[..., 1]
        if not 0 <= i < s.shape[1]:
            return np.zeros_like(s[:, 0])
        return shifted(s[:, i : i + 1], 0, across)[:, 0]
