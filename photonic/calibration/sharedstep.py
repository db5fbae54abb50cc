"""One step of what all elements share: the programming curves and what neighbours take.

Elements are linear in their own numbers, so these are projected out (variable projection: Golub and Pereyra, SIAM J.
Numer. Anal. 10, 413; Kaufman, BIT 15, 49) and curves and neighbours move together. Turns of one after the other take
hundreds to settle, for a curve and the elements that use it are nearly the same thing.

Codes are sorted into nodes, at which the curves have their values: for each element and node the sum of the weights of
its readings, and of residual times weight, is all that curves need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.model import Array

_NULL = 1e-11  # of the largest eigenvalue: directions in which curves and elements trade places
_SMOOTH_KNOTS = 49  # of a curve that elements differ by; denser towards the ends, where such curves bend most


@dataclass(frozen=True)
class Readings:
    """What a step needs of K settings of E elements.

    Attributes:
        node: (K, E) node at or below each code.
        share: (K, E) of the next node, 0 to below 1.
        keep: (K, E) what neighbours leave.
        weight: (K, E) one over variance; 0 where nothing was measured.
        residual: (K, E) measured less modelled.
        raw: (E, Q) coefficients of the curves.
        curves: (Q, nodes).
        features: (L, K, E) change of the modelled by each coefficient of the neighbours.
    """

    node: NDArray[np.intp]
    share: Array
    keep: Array
    weight: Array
    residual: Array
    raw: Array
    curves: Array
    features: Array

    def by_node(self, values: Array) -> Array:
        """(E, nodes) sums of values (K, E) over the settings, by code."""
        elements, nodes = self.raw.shape[0], self.curves.shape[1]
        place = self.node + np.arange(elements) * nodes
        found = np.bincount(place.ravel(), (values * (1 - self.share)).ravel(), elements * nodes)
        if self.share.any():
            beyond = np.minimum(place + 1, elements * nodes - 1)
            found = found + np.bincount(beyond.ravel(), (values * self.share).ravel(), elements * nodes)
        return np.asarray(found.reshape(elements, nodes), dtype=np.float64)


@dataclass(frozen=True)
class SharedStep:
    """Equations of a step, solved with any damping.

    Attributes:
        hats: of each curve but the constant.
        count: coefficients of the neighbours.
        scale: (S,) of the parameters.
        values: (S,) eigenvalues of the scaled normal matrix, elements projected out.
        vectors: (S, S).
        gradient: (S,).
    """

    hats: Sequence[Array]
    count: int
    scale: Array
    values: Array
    vectors: Array
    gradient: Array

    def changes(self, damping: float) -> tuple[Array, Array]:
        """Of the curves (Q, nodes) and of the coefficients (L,).

        Args:
            damping: as of Levenberg and Marquardt, over the largest eigenvalue; the larger, the shorter the step.
        """
        pulled = self.vectors.T @ (self.gradient / self.scale)
        change = self.vectors @ (pulled * self._inverse(damping)) / self.scale
        step, start = np.zeros((len(self.hats) + 1, len(self.hats[0]))), 0
        for q, hat in enumerate(self.hats, 1):
            step[q] = hat @ change[start : start + hat.shape[1]]
            start += hat.shape[1]
        return step, change[start:]

    def pulls(self) -> Array:
        """(S, L) what one standard deviation along each eigenvector makes of the coefficients.

        Their covariance is its Gram matrix.
        """
        found = np.sqrt(self._inverse(0.0))[:, None] * self.vectors.T / self.scale
        return np.asarray(found[:, found.shape[1] - self.count :])

    def _inverse(self, damping: float) -> Array:
        most = self.values.max()
        safe = np.maximum(self.values, _NULL * most)
        return np.asarray(np.where(self.values > _NULL * most, 1 / (safe + damping * most), 0.0))


def shared_step(data: Readings) -> SharedStep:
    """The equations of curves and neighbours together.

    The constant curve stays. Directions that elements can take up wholly are left out.
    """
    count = len(data.features)
    hats = hats_of(data.curves)
    weighed = data.keep * data.weight
    omega, rho = data.by_node(data.keep * weighed), data.by_node(weighed * data.residual)
    own = np.einsum("an,en,bn->eab", data.curves, omega, data.curves)
    inverse = np.linalg.inv(own + np.einsum("eaa->e", own)[:, None, None] * 1e-12 * np.eye(len(data.curves)))
    cross = [_curve_by_element(hat, data.raw[:, q], omega, data.curves) for q, hat in enumerate(hats, 1)]
    right = [hat.T @ (data.raw[:, q] @ rho) for q, hat in enumerate(hats, 1)]
    if count:
        base = data.curves[:, data.node]  # (Q, K, E); codes between nodes are near enough for a step
        cross.append(np.einsum("lke,ke,qke->leq", data.features, weighed, base, optimize=True).reshape(count, -1))
        right.append(np.einsum("lke,ke->l", data.features, data.weight * data.residual))
    normal = _normal(data, hats, omega, weighed)
    outer, gradient = np.concatenate(cross), np.concatenate(right)
    pulled = np.einsum("seq,eqp->sep", outer.reshape(len(outer), *inverse.shape[:2]), inverse).reshape(len(outer), -1)
    of_elements = np.einsum("qn,en->eq", data.curves, rho).ravel()
    reduced = normal - pulled @ outer.T
    scale = np.sqrt(np.maximum(np.diag(normal), 0.0))
    scale = np.where(scale > 1e-8 * scale.max(), scale, np.inf)
    values, vectors = np.linalg.eigh(reduced / np.outer(scale, scale))
    return SharedStep(hats, count, scale, values, vectors, gradient - pulled @ of_elements)


def _normal(data: Readings, hats: Sequence[Array], omega: Array, weighed: Array) -> Array:
    """Normal matrix of curves' knots and neighbours' coefficients, elements held."""
    rows = []
    for q, hat in enumerate(hats, 1):
        rows.append(
            [hat.T @ (((data.raw[:, q] * data.raw[:, p]) @ omega)[:, None] * other) for p, other in enumerate(hats, 1)]
        )
    if len(data.features):
        for q, hat in enumerate(hats, 1):
            at_nodes = np.stack([data.by_node(feature * weighed).T @ data.raw[:, q] for feature in data.features])
            rows[q - 1].append((at_nodes @ hat).T)
        last = [row[-1].T for row in rows]
        flat = data.features.reshape(len(data.features), -1)
        rows.append([*last, (flat * data.weight.ravel()) @ flat.T])
    return np.block(rows)


def _curve_by_element(hat: Array, raw: Array, omega: Array, curves: Array) -> Array:
    """(knots, E Q) normal between a curve's knots and the elements' numbers."""
    scaled = raw[:, None] * omega
    found = np.stack([(hat.T @ (scaled * curve).T) for curve in curves], axis=-1)
    return np.asarray(found.reshape(hat.shape[1], -1))


def hats_of(curves: Array) -> list[Array]:
    """(nodes, knots) of the changes that each curve (Q, nodes) but the constant can make."""
    return [_hats(curves.shape[1], smooth=q > 1) for q in range(1, len(curves))]


def _hats(nodes: int, *, smooth: bool) -> Array:
    """(nodes, knots) piecewise linear functions: one for each node, or fewer, denser towards the ends."""
    if not smooth or nodes <= _SMOOTH_KNOTS:
        return np.eye(nodes)
    spread = (1 - np.cos(np.pi * np.arange(_SMOOTH_KNOTS) / (_SMOOTH_KNOTS - 1))) / 2
    knots = np.unique(np.rint(spread * (nodes - 1)))
    at = np.arange(nodes)
    return np.stack([np.interp(at, knots, np.eye(len(knots))[k]) for k in range(len(knots))], axis=1)
