"""From weight codes to weights: a few curves for all elements, numbers for each, and what neighbours take.

Fitted to the effective matrices of many random settings: elements by least squares, each by itself; curves and
neighbours, which all elements share, in steps with the elements projected out (``sharedstep``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.effective import Effective
from photonic.calibration.model import NO_NEIGHBOURS, NO_OFFSETS, Array, all_taken, powers, shifted
from photonic.calibration.sharedstep import Readings, shared_step
from photonic.records import ChipSpec

POWERS = 12  # of s, in what a neighbour takes: light of a ring far off its channel falls steeply
_MOST_KNOTS = 257
_TURNS = 12
_TRIES = 6  # of a step, ever shorter
_DAMPING = 1e-6
_SETTLED = 5e-6  # of the misfit, from one turn to the next
# a target as far away as this makes the neighbours' part a sum: products of two terms are a thousandth of a sum that
# moves weights by 1; farther away, terms would be too small beside the other parameters of a fit
FAR = 1e3

Offsets = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Crosstalk:
    """A hypothesis on neighbours: which, and towards what they move a weight.

    Attributes:
        name: for people.
        offsets: rows and columns away.
        target: weight that all light taken would make.
    """

    name: str
    offsets: Offsets
    target: float

    @property
    def free(self) -> NDArray[np.bool_]:
        """(L, POWERS) coefficients: the farther a neighbour, the less what it takes bends with its own state."""
        most = [POWERS // max(abs(a), abs(b)) for a, b in self.offsets]
        found: NDArray[np.bool_] = np.arange(POWERS) < np.array(most, dtype=int).reshape(-1, 1)
        return found


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
        neighbour_pulls: (K, L, POWERS) whose Gram matrix is the covariance of the neighbours' coefficients.
        residual: (M, N) mean square of what is left over its expected variance.
    """

    scale: Array
    raw: Array
    raw_se: Array
    curves: Array
    crosstalk: Crosstalk
    neighbour: Array
    neighbour_pulls: Array
    residual: Array

    @property
    def neighbour_se(self) -> Array:
        """(L, POWERS) standard errors."""
        return np.asarray(np.sqrt((self.neighbour_pulls**2).sum(0)))

    @property
    def added(self) -> tuple[Array, Array]:
        """(L,) what each neighbour adds to a weight of 0 at that end of its codes where it adds more; standard errors.

        Single coefficients say little: powers of s are hardly told apart.
        """
        ends = self.curves[1][[0, -1], None] ** np.arange(1, self.neighbour.shape[1] + 1)  # (2, POWERS)
        added, pulls = (self.crosstalk.target * each @ ends.T for each in (self.neighbour, self.neighbour_pulls))
        most = np.arange(len(added)), np.abs(added).argmax(1)
        return added[most], np.sqrt((pulls[:, *most] ** 2).sum(0))

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


def fit_programming(
    spec: ChipSpec, data: Effective, crosstalk: Crosstalk, start: Programming | None = None
) -> Programming:
    """Fits elements, curves and neighbours to the matrices of all settings.

    Args:
        spec: of the chip.
        data: matrices.
        crosstalk: hypothesis on neighbours.
        start: an earlier fit with the same hypothesis, to begin with.
    """
    fit = _Fit(spec, data, crosstalk, None if start is None else start.curves)
    if start is not None:
        fit.coefficients, fit.scale = start.neighbour, start.scale[: len(fit.scale)]
        fit.refresh()
    fit.elements()
    damping = _DAMPING
    for _ in range(_TURNS):
        before = fit.misfit
        damping = fit.shared(damping)
        if before - fit.misfit < _SETTLED * before:
            break
    return fit.result()


def first_curves(curve: Array, line: Array) -> Array:
    """1, a programming curve, and its square and cube, from which the learned curves start; ``line`` is code / one."""
    return gauged(np.stack([np.ones_like(curve), curve, curve**2, curve**3]), line)


def gauged(curves: Array, line: Array) -> Array:
    """The line through s is code / one; the others have no part along 1, s and each other, and a mean square of 1."""
    found = curves.copy()
    tilt, shift = np.polyfit(line, found[1], 1)
    found[1] = (found[1] - shift) / tilt
    for index in range(2, len(found)):
        others = found[:index]
        found[index] -= others.T @ np.linalg.lstsq(others.T, found[index], rcond=None)[0]
        found[index] /= np.sqrt((found[index] ** 2).mean())
    return found


def centred(found: Programming, line: Array) -> Array:
    """The curves (Q, K) with that of all elements in the middle: what elements differ by is 0 on average.

    Otherwise s could have any part of the curves that elements differ by, and gains, slopes along it, with it.
    """
    gain, power = rank_one(found.raw[..., 1])
    mean = (found.raw / (gain[:, None] * power)[..., None]).mean((0, 1))
    curves = found.curves.copy()
    curves[1] = mean[1:] @ found.curves[1:]
    return gauged(curves, line)


def sorted_curves(found: Programming) -> Programming:
    """The same, with the curve that elements differ by most before the others."""
    rest = found.raw[..., 2:].reshape(-1, len(found.curves) - 2)
    turn = np.linalg.svd(rest, full_matrices=False)[2]
    curves, raw = found.curves.copy(), found.raw.copy()
    curves[2:], raw[..., 2:] = turn @ curves[2:], raw[..., 2:] @ turn.T
    return replace(found, curves=curves, raw=raw)


def fit_elements(spec: ChipSpec, data: Effective, shared: Programming) -> Programming:
    """Fits all elements with the curves and the neighbours of another fit."""
    fit = _Fit(spec, data, shared.crosstalk, shared.curves)
    fit.coefficients = shared.neighbour
    fit.refresh()
    for _ in range(3 if shared.crosstalk.offsets else 1):
        fit.elements()  # what neighbours move weights towards follows from the elements themselves
    return replace(fit.result(), neighbour_pulls=shared.neighbour_pulls)


def basis_of(spec: ChipSpec, codes: Array, found: Programming) -> tuple[Array, Array]:
    """The curves (K, M, N, Q) at codes (K, M, N), and what neighbours take of each element (K, M, N)."""
    low, high = spec.weight_code_range
    nodes = np.linspace(low, high, found.curves.shape[1])
    basis = np.stack([np.interp(codes, nodes, curve) for curve in found.curves], axis=-1)
    return basis, all_taken(basis[..., 1], found.offsets, found.neighbour)


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
        self.curves = first_curves(self._line, self._line) if curves is None else curves
        self.coefficients = np.zeros((len(crosstalk.offsets), POWERS)) if crosstalk.offsets else NO_NEIGHBOURS
        self._known = ~np.isnan(data.matrix)
        self._y = np.where(self._known, data.matrix, 0.0)
        self.weight = self._known / data.variance[..., None]
        self._position = (data.codes - low) / (high - low) * (knots - 1)
        whole = np.rint(self._position)
        self._index = whole.astype(np.intp) if np.allclose(whole, self._position, atol=1e-9) else None
        self._pulls: Array = np.zeros((0, *self.coefficients.shape))
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
        self._taken = all_taken(self._basis[..., 1], np.array(self._crosstalk.offsets), self.coefficients)

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

    def shared(self, damping: float) -> float:
        """A step of curves and neighbours that lessens the misfit, if there is one; then the gauge.

        Returns:
            The damping to go on with.
        """
        step = shared_step(self._readings())
        before, kept = self.misfit, (self.curves, self.coefficients)
        for _ in range(_TRIES):
            curves, change = step.changes(damping)
            self.curves = gauged(kept[0] + curves, self._line)
            self.coefficients = kept[1] + self._placed(change)
            self.refresh()
            self.elements()
            if self.misfit < before:
                damping *= 0.1
                break
            damping = max(10 * damping, _DAMPING)
        else:
            self.curves, self.coefficients = kept
            self.refresh()
            self.elements()
        if self._crosstalk.offsets:
            pulls = step.pulls()
            self._pulls = np.zeros((len(pulls), *self.coefficients.shape))
            self._pulls[:, self._crosstalk.free] = pulls
        return damping

    def _placed(self, values: Array) -> Array:
        """(L, POWERS) of values of the coefficients that are free."""
        found = np.zeros_like(self.coefficients)
        if self._crosstalk.offsets:
            found[self._crosstalk.free] = values
        return found

    def _readings(self) -> Readings:
        k, size = len(self._y), self._y[0].size
        nodes = self.curves.shape[1]
        position = self._position.reshape(k, size)
        node = np.rint(position).astype(np.intp) if self._index is not None else position.astype(np.intp)
        node = np.minimum(node, nodes - 1)
        return Readings(
            node=node,
            share=np.zeros_like(position) if self._index is not None else position - node,
            keep=(1.0 - self._taken).reshape(k, size),
            weight=self.weight.reshape(k, size),
            residual=np.where(self._known, self.residual(), 0.0).reshape(k, size),
            raw=self.raw.reshape(size, -1),
            curves=self.curves,
            features=self._neighbour_features().reshape(-1, k, size),
        )

    def _neighbour_features(self) -> Array:
        """(free, K, M, N) change of the modelled matrices by each coefficient."""
        if not self._crosstalk.offsets:
            return np.zeros((0, *self._y.shape))
        s = self._basis[..., 1]
        pull = (self._crosstalk.target * self.scale - self._own) * (1.0 - self._taken)
        s_powers = np.cumprod(np.broadcast_to(s, (POWERS, *pull.shape)), axis=0)
        found = []
        for offset, row, free in zip(self._crosstalk.offsets, self.coefficients, self._crosstalk.free, strict=True):
            # what this neighbour leaves is in all that are left, and is not part of its own slope
            each = pull / (1.0 - shifted(powers(s, row), *offset))
            found += [each * shifted(s_power, *offset) for s_power in s_powers[free]]
        return np.stack(found)

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
            neighbour_pulls=self._pulls,
            residual=np.nanmean(rest, axis=0),
        )
