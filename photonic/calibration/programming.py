"""From weight codes to weights: a few curves for all elements, numbers for each, and what neighbours take.

Fitted to the effective matrices of many random settings. Elements, curve and neighbours are each linear in their own
parameters, so they take turns; the neighbours' part is made orthogonal to the elements' before it is solved, which
leaves few turns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from photonic.calibration.effective import Effective
from photonic.calibration.model import NO_NEIGHBOURS, NO_OFFSETS, Array, powers, shifted
from photonic.records import ChipSpec

POWERS = 12  # of s, in what a neighbour takes: light of a ring far off its channel falls steeply
_MOST_KNOTS = 257
_TURNS = 12
_SETTLED = 3e-5  # of the misfit, from one turn to the next
_SMOOTH_KNOTS = 33
_STIFF = 1e-6  # of a curve, beside what readings say of it
FAR = 1e6  # a target as far away as this makes the neighbours' part a sum

Offsets = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Crosstalk:
    """A hypothesis on neighbours: which, and towards what they move a weight."""

    name: str
    offsets: Offsets
    target: float


NO_CROSSTALK = Crosstalk("none", (), 1.0)


def beside(reach: int, target: float) -> Crosstalk:
    """The elements up to ``reach`` away in the same row."""
    offsets = tuple((0, d) for step in range(1, reach + 1) for d in (-step, step))
    return Crosstalk(f"row, {reach} away, {_towards(target)}", offsets, target)


def around(target: float) -> Crosstalk:
    """The four elements around."""
    return Crosstalk(f"4 around, {_towards(target)}", ((0, -1), (0, 1), (-1, 0), (1, 0)), target)


def _towards(target: float) -> str:
    return "as a sum" if target == FAR else f"towards {target:+g}"


@dataclass(frozen=True)
class Programming:
    """The fit, in counts of an input at full level.

    Attributes:
        scale: (M, N) g_i p_j / N, the rank-one part of the slopes.
        raw: (M, N, Q) coefficients of the curves, in counts.
        raw_se: their standard errors.
        curves: (Q, K): 1, s, and what elements differ by, at evenly spread codes.
        crosstalk: the hypothesis.
        neighbour: (L, POWERS).
        neighbour_se: standard errors.
        residual: (M, N) mean square of what is left over its expected variance.
    """

    scale: Array
    raw: Array
    raw_se: Array
    curves: Array
    crosstalk: Crosstalk
    neighbour: Array
    neighbour_se: Array
    residual: Array

    @property
    def offsets(self) -> Array:
        """(L, 2)."""
        return np.array(self.crosstalk.offsets, dtype=float).reshape(-1, 2) if self.crosstalk.offsets else NO_OFFSETS


def rank_one(slopes: Array) -> tuple[Array, Array]:
    """g (M,) and p (N,) of slopes (M, N) in the documented gauge: mean of p is 1, mean over j of slope / (g p) is 1."""
    p = np.ones(slopes.shape[1])
    for _ in range(50):
        g = (slopes / p).mean(1)
        p = (slopes / g[:, None]).mean(0)
        p /= p.mean()
    return (slopes / p).mean(1), p


def fit_programming(spec: ChipSpec, data: Effective, crosstalk: Crosstalk) -> Programming:
    """Fits elements, curve and neighbours to the matrices of all settings."""
    fit, before = _Fit(spec, data, crosstalk), np.inf
    for _ in range(_TURNS):
        fit.elements()
        if before - (now := fit.misfit) < _SETTLED * now:
            break
        before = now
        if crosstalk.offsets:
            fit.neighbours()
            fit.elements()
        fit.improve_curves()
    fit.elements()
    return fit.result()


def _first_curves(line: Array) -> Array:
    """1, the line, and its square and cube, from which the learned curves start."""
    return _gauged(np.stack([np.ones_like(line), line, line**2, line**3]), line)


def _gauged(curves: Array, line: Array) -> Array:
    """The line through s is code / one; the others have no part along 1, s and each other, and a mean square of 1."""
    found = curves.copy()
    tilt, shift = np.polyfit(line, found[1], 1)
    found[1] = (found[1] - shift) / tilt
    for index in range(2, len(found)):
        others = found[:index]
        found[index] -= others.T @ np.linalg.lstsq(others.T, found[index], rcond=None)[0]
        found[index] /= np.sqrt((found[index] ** 2).mean())
    return found


def fit_elements(spec: ChipSpec, data: Effective, shared: Programming) -> Programming:
    """Fits all elements with the curve and the neighbours of another fit."""
    fit = _Fit(spec, data, shared.crosstalk, shared.curves)
    fit.coefficients = shared.neighbour
    fit.refresh()
    for _ in range(2):
        fit.elements()
        fit.improve_curves()  # their errors are the same in all elements, so all data should have a say
    fit.elements()
    return replace(fit.result(), neighbour_se=shared.neighbour_se)


def misfit(spec: ChipSpec, data: Effective, found: Programming) -> Array:
    """(K,) mean of squared residual over variance of settings that the fit has not seen; 1 where nothing is missed."""
    fit = _Fit(spec, data, found.crosstalk, found.curves)
    fit.raw, fit.coefficients, fit.scale = found.raw, found.neighbour, found.scale
    fit.refresh()
    squares, known = fit.residual() ** 2 * fit.weight, ~np.isnan(data.matrix)
    found_each: Array = np.where(known, squares, 0.0).sum((1, 2)) / np.maximum(known.sum((1, 2)), 1)
    return found_each


class _Fit:
    """The state of a fit that takes turns."""

    def __init__(self, spec: ChipSpec, data: Effective, crosstalk: Crosstalk, curves: Array | None = None) -> None:
        low, high = spec.weight_code_range
        self._data, self._crosstalk = data, crosstalk
        # every code has a value of its own where there are not too many: levels of a cell are steps
        knots = _MOST_KNOTS if spec.weight_bits is None else min(_MOST_KNOTS, round(high - low) + 1)
        self._line = np.linspace(low, high, knots) / spec.response.weight_code_one
        self.curves = _first_curves(self._line) if curves is None else curves
        self.coefficients = np.zeros((len(crosstalk.offsets), POWERS)) if crosstalk.offsets else NO_NEIGHBOURS
        self._known = ~np.isnan(data.matrix)
        self._y = np.where(self._known, data.matrix, 0.0)
        self.weight = self._known / data.variance[..., None]
        self._position = (data.codes - low) / (high - low) * (knots - 1)
        whole = np.rint(self._position)
        self._index = whole.astype(np.intp) if np.allclose(whole, self._position, atol=1e-9) else None
        self._errors: Array = np.zeros(0)
        self._covariance: Array
        self.raw = np.zeros((*self._y.shape[1:], len(self.curves)))
        self.scale = np.zeros(self._y.shape[1:])
        self.refresh()

    def refresh(self) -> None:
        """The curves at all codes, and what neighbours take."""
        self._basis = np.empty((*self._y.shape, len(self.curves)))
        for index in range(len(self.curves)):
            self._look_up(index)
        self._take()

    def _look_up(self, index: int) -> None:
        """One curve at all codes."""
        curve = self.curves[index]
        if self._index is not None:
            self._basis[..., index] = curve[self._index]
        else:
            self._basis[..., index] = np.interp(self._position, np.arange(len(curve)), curve)

    def _take(self) -> None:
        """What neighbours take of each element."""
        self._taken = np.zeros_like(self._y)
        for offset, row in zip(self._crosstalk.offsets, self.coefficients, strict=True):
            self._taken += shifted(powers(self._basis[..., 1], row), *offset)

    @property
    def _own(self) -> Array:
        own: Array = np.einsum("kmnq,mnq->kmn", self._basis, self.raw)
        return own

    def residual(self) -> Array:
        """(K, M, N) measured less modelled; NaN where nothing was measured."""
        own = self._own
        modelled = own + (self._crosstalk.target * self.scale - own) * self._taken
        return np.where(self._known, self._y - modelled, np.nan)

    @property
    def misfit(self) -> float:
        """Mean of squared residual over variance."""
        return float(np.nanmean(self.residual() ** 2 * self.weight))

    def elements(self) -> None:
        """(M, N, Q) by weighted least squares, each element by itself."""
        keep = 1.0 - self._taken
        target = self._y - self._crosstalk.target * self.scale * self._taken
        features = keep[..., None] * self._basis
        weighted = features * self.weight[..., None]
        self._covariance = np.linalg.inv(np.einsum("kmna,kmnb->mnab", weighted, features))
        self.raw = np.einsum("mnab,mnb->mna", self._covariance, np.einsum("kmna,kmn->mna", weighted, target))
        gain, power = rank_one(self.raw[..., 1])
        self.scale = gain[:, None] * power

    def neighbours(self) -> None:
        """(L, POWERS) for all elements together, orthogonal to what each element's own numbers can say."""
        own, base, weight = self._own, self._basis, self.weight
        pull = self._crosstalk.target * self.scale - own
        rest = np.where(self._known, self._y - own, 0.0)
        inverse = np.linalg.inv(np.einsum("kmna,kmn,kmnb->mnab", base, weight, base))

        def orthogonal(values: Array) -> Array:
            inside = np.einsum("kmna,kmn->mna", base, values * weight)
            found: Array = values - np.einsum("kmna,mna->kmn", base, np.einsum("mnab,mnb->mna", inverse, inside))
            return found

        s_powers = np.cumprod(np.broadcast_to(base[..., 1], (POWERS, *pull.shape)), axis=0)
        features = np.stack(
            [
                orthogonal(pull * shifted(s_power, *offset)).ravel()
                for offset in self._crosstalk.offsets
                for s_power in s_powers
            ]
        )
        covariance = np.linalg.inv((features * weight.ravel()) @ features.T)
        solved = covariance @ (features @ (orthogonal(rest) * weight).ravel())
        self.coefficients = solved.reshape(-1, POWERS)
        self._errors = np.sqrt(np.maximum(np.diag(covariance), 0.0)).reshape(-1, POWERS)
        self._take()

    def improve_curves(self) -> None:
        """One step of each curve but the constant, for all elements together; then the gauge."""
        keep = 1.0 - self._taken
        for index in range(1, len(self.curves)):
            knots = self.curves.shape[1] if index == 1 else min(_SMOOTH_KNOTS, self.curves.shape[1])
            step = self._knot_steps(self.raw[..., index] * keep, knots)
            self.curves[index] += np.interp(np.linspace(0, 1, self.curves.shape[1]), np.linspace(0, 1, knots), step)
            self._look_up(index)
        self.curves = _gauged(self.curves, self._line)
        self.refresh()

    def _knot_steps(self, slope: Array, knots: int) -> Array:
        """Change (knots,) of a piecewise linear curve that takes most of the residual away; ``slope`` is its weight."""
        position = self._position * ((knots - 1) / (self.curves.shape[1] - 1))
        left = np.minimum(position.astype(int), knots - 2)
        part, rest = position - left, np.where(self._known, self.residual(), 0.0)
        normal, right = np.zeros((knots, knots)), np.zeros(knots)
        squared = slope**2 * self.weight
        for knot, share in ((left, 1.0 - part), (left + 1, part)):
            right += np.bincount(knot.ravel(), (share * slope * rest * self.weight).ravel(), knots)
            normal += np.diag(np.bincount(knot.ravel(), (share**2 * squared).ravel(), knots))
        beside = np.bincount(left.ravel(), (part * (1 - part) * squared).ravel(), knots)[:-1]
        normal += np.diag(beside, 1) + np.diag(beside, -1)
        # codes that were never met follow the ones beside them
        bend = np.diff(np.eye(knots), n=2, axis=0)
        normal += _STIFF * max(float(np.trace(normal)), 1.0) / knots * (bend.T @ bend + _STIFF * np.eye(knots))
        return np.asarray(np.linalg.solve(normal, right), dtype=np.float64)

    def result(self) -> Programming:
        """What was found."""
        rest: Array = self.residual() ** 2 / self._data.variance[..., None]
        return Programming(
            scale=self.scale,
            raw=self.raw,
            raw_se=np.sqrt(np.einsum("mnaa->mna", self._covariance)),
            curves=self.curves,
            crosstalk=self._crosstalk,
            neighbour=self.coefficients,
            neighbour_se=self._errors if len(self._errors) else NO_NEIGHBOURS,
            residual=np.nanmean(rest, axis=0),
        )
