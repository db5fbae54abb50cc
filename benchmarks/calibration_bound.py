"""Cramér-Rao bound of a calibration's response, for the readings that were measured, at the true parameters.

One shot of output i has the mean v = sum_j W_ij T_j + z_i before the ADC and says of it the Fisher information of a
Gaussian seen through the ADC, sum over codes of (dp/dv)^2 / p. Free are: what each element does (its coefficients along
given functions of the code), zeros, V_pi and bias of each input, T_min, and, in the documented model, the curves that
elements share, what neighbours take, and the ADCs' transitions where the fit has them. Two models:

- documented: four curves of 1 number each for every element, the curves themselves, the neighbours' numbers;
- of the true family: what the simulated chip draws: gains, powers, and two numbers of each ring (none of a cell).

Left out, as they hardly matter for means: noise terms (a Gaussian's mean and deviation are orthogonal but for
quantisation, whose phase is random here), the covariance of outputs (means take the marginal variance), and drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from calibration_chips import Array, Truth
from calibration_gauge import Gauge, along, own_counts, tested
from numpy.typing import NDArray
from scipy.sparse import csr_array

from photonic.calibration.model import ChipModel, shifted
from photonic.calibration.points import Points
from photonic.calibration.programming import rank_one
from photonic.calibration.quantised import cells
from photonic.calibration.reading import Taken
from photonic.physics.ringbank import RingBank

Index = NDArray[np.intp]

USED = ("dark", "matrix", "ramp")  # readings that the fit of the response takes
_SMOOTH = 33  # knots of the curves but the first, where they are piecewise linear between as many
_REACH = 5.0  # standard deviations
_CUT = 1e-10  # eigenvalues of the scaled information below which a direction is a freedom of gauge
_CHUNK = 2**15


@dataclass(frozen=True)
class Family:
    """A model of the elements, linearised.

    Attributes:
        name: of it.
        basis: (Q, K, M, N) functions of the code, counts of an input at full level per unit of a coefficient.
        knots: (Q, K, k) by curve, what its knots add to it at each code; empty: curves are not free.
        raw: (M, N, Q) true coefficients; of use where curves are free.
        rank_one: whether the first coefficient of an element is gain times power.
    """

    name: str
    basis: Array
    knots: tuple[Array, ...] = ()
    raw: Array = field(default_factory=lambda: np.zeros((0, 0, 0)))
    rank_one: bool = False


def documented(gauge: Gauge) -> Family:
    """The record's: coefficients along curves, and the curves."""
    q, k = gauge.curves.shape
    m, n = gauge.counts.shape
    basis = np.broadcast_to(gauge.curves[:, :, None, None], (q, k, m, n))
    knots = [np.zeros((k, 0)), np.eye(k)]
    few = _hats(k, min(_SMOOTH, k))
    for curve in gauge.curves[2:]:
        coarse = few @ np.linalg.lstsq(few, curve, rcond=None)[0]
        knots.append(few if np.allclose(coarse, curve, atol=1e-6 * np.abs(curve).max()) else np.eye(k))
    return Family("documented", basis, tuple(knots), gauge.raw)


def true_family(truth: Truth, gauge: Gauge) -> Family:
    """The simulated chip's own: gain times power, and of a ring its resonance and its width."""
    functions = [gauge.own]
    optics = truth.device.optics
    if isinstance(optics, RingBank):
        rest, step = gauge.codes[np.abs(gauge.curves[1]).argmin()], 1e-4
        for name in ("offset", "inverse_width"):
            ends = []
            for sign in (1, -1):
                moved = replace(optics, **{name: getattr(optics, name) + sign * step})
                ends.append(_own(truth, moved, gauge.codes, float(rest)))
            functions.append((ends[0] - ends[1]) / (2 * step))
    return Family("of the true family", np.stack(functions), rank_one=True)


def _own(truth: Truth, optics: RingBank, codes: Array, rest: float) -> Array:
    other = object.__new__(Truth)
    other.__dict__.update(truth.__dict__, device=replace(truth.device, optics=optics))
    return own_counts(other, codes, rest)


class Bound:
    """Information of readings on the parameters of a family, and bounds of functions of them.

    Args:
        truth: of the chip.
        gauge: of the record's curves.
        model: fitted; says which neighbours and transitions are free.
        family: of the elements.
    """

    def __init__(self, truth: Truth, gauge: Gauge, model: ChipModel, family: Family) -> None:
        self.truth, self.gauge, self.model, self.family = truth, gauge, model, family
        self.m, self.n = gauge.counts.shape
        self.q = len(family.basis)
        free = family.knots if family.knots else ()
        self.curves = sum(each.shape[1] for each in free)
        self.neighbours = model.neighbour.size if family.knots else 0
        self.local = self.n * self.q + 1  # of one output: coefficients and zero
        self.shared = 2 * self.n + 1 + self.curves + self.neighbours
        self.inl = truth.transitions is not None and model.transitions is not None
        low, high = truth.spec.count_range
        self.ideal = np.arange(low + 0.5, high)
        self._edges = np.broadcast_to(self.ideal, (self.m, len(self.ideal)))
        if truth.transitions is not None:
            self._edges = truth.transitions
        size = self.local + self.shared
        self.information = np.zeros((self.m, size, size))
        if self.inl:
            self._cross = np.zeros((self.m, size, len(self.ideal)))
            self._own = np.zeros((self.m, len(self.ideal), len(self.ideal)))

    def add(self, taken: Sequence[Taken]) -> None:
        """Adds what readings say."""
        for item in taken:
            inputs = item.reading.inputs.double().numpy()
            repeats = 1.0
            if (inputs == inputs[0]).all():
                inputs, repeats = inputs[:1], float(len(inputs))
            codes = item.reading.weights.double().numpy().reshape(self.m, self.n)
            dark = item.reading.conditions.get("laser_power") == 0
            self._add(codes, inputs, repeats, dark)

    def _add(self, codes: Array, inputs: Array, repeats: float, dark: bool) -> None:
        truth = self.truth
        if dark:
            inputs, repeats = inputs[:1], repeats * len(inputs)
        columns = self.columns(inputs) * (0.0 if dark else 1.0)
        columns[:, -1] = 1.0
        d, s = truth.point(codes, inputs)
        d, s = (d * 0, s * 0) if dark else (d, s)
        volts, sigma = truth.volts(d), np.sqrt(truth.variance(d, s))
        for i, to in enumerate(self.maps(codes)):
            single, cross, own = self._shots(i, volts[:, i], sigma[:, i])
            gram = columns.T @ (columns * single[:, None])
            self.information[i] += repeats * (to.T @ (gram @ to))
            if self.inl:
                self._cross[i] += repeats * (to.T @ (columns.T @ cross))
                self._own[i] += repeats * own

    def columns(self, inputs: Array) -> Array:
        """(B, 4 N + 1): T_j, its derivatives by inverse V_pi, bias and T_min, times the power; and 1."""
        t = self.truth.device.transmitter
        codes = inputs.astype(np.float64)
        phase = codes * t.slope.numpy() + t.bias_rad.numpy()
        level = t.level_min + (1 - t.level_min) * np.sin(phase) ** 2
        by_bias = (1 - t.level_min) * np.sin(2 * phase)
        by_v_pi = by_bias * codes * t.slope.numpy() / t.inverse_v_pi.numpy()
        one = np.ones((len(codes), 1))
        return np.concatenate([level, by_v_pi, by_bias, np.cos(phase) ** 2, one], axis=1)

    def maps(self, codes: Array) -> list[csr_array]:
        """From the parameters of each output to the columns, (4 N + 1, P) each, for one setting; nearly empty."""
        step = self.gauge.codes[1] - self.gauge.codes[0]
        place = np.rint((codes - self.gauge.codes[0]) / step).astype(int)
        keep, pulls = self._taken(place)
        weights = self.truth.matrices(codes[None])[0][0] * self.truth.gain[:, None] * self.truth.power
        return [self._map(i, place[i], keep[i], pulls[i], weights[i]) for i in range(self.m)]

    def _map(self, i: int, place: np.ndarray, keep: Array, pulls: Array, weights: Array) -> csr_array:
        n, q, to = self.n, self.q, np.zeros((4 * self.n + 1, self.local + self.shared))
        j = np.arange(n)
        for a in range(q):
            to[j, j * q + a] = keep * self.family.basis[a, place, i, j]
        to[-1, n * q] = 1.0
        start = self.local
        to[n + j, start + j] = weights
        to[2 * n + j, start + n + j] = weights
        to[3 * n + j, start + 2 * n] = weights
        start += 2 * n + 1
        for a, knots in enumerate(self.family.knots):
            width = knots.shape[1]
            to[:n, start : start + width] = (keep * self.family.raw[i, :, a])[:, None] * knots[place]
            start += width
        to[:n, start:] = pulls
        return csr_array(to)

    def _taken(self, place: np.ndarray) -> tuple[Array, Array]:
        """What neighbours leave of each element (M, N), and what their numbers do to its weight (M, N, L q)."""
        if not self.neighbours:
            return np.ones(place.shape), np.zeros((*place.shape, 0))
        model, s = self.model, self.gauge.curves[1][place]
        own = np.take_along_axis(self.gauge.own, place[None], 0)[0]
        pull = model.target * self.gauge.counts - own
        powers = np.cumprod(np.broadcast_to(s, (model.neighbour.shape[1], *s.shape)), axis=0)
        pulls = [pull * shifted(power, *map(int, offset)) for offset in model.offsets for power in powers]
        return 1 - model.taken(s), np.stack(pulls, axis=-1)

    def _shots(self, i: int, volts: Array, sigma: Array) -> tuple[Array, Array, Array]:
        """Information of shots on the mean (B,), and with transitions (B, K) and (K, K) where these are free."""
        edges = self._edges[i]
        size = len(edges)
        if self.truth.spec.adc_bits is None:
            return 1 / sigma**2, np.zeros((0, 0)), np.zeros((0, 0))
        reach = int(np.ceil(_REACH * sigma.max())) + 3
        first = np.searchsorted(edges, volts)[:, None] + np.arange(-reach, reach)
        padded = np.concatenate([[-np.inf], edges, [np.inf]])
        borders = padded[(first + 1).clip(0, size + 1)]
        borders[:, 0], borders[:, -1] = -np.inf, np.inf
        p, by_mean, _ = cells(borders, volts[:, None], sigma[:, None])
        sure = ~(borders[:, 1:] > borders[:, :-1])  # beyond a rail, or a missing code
        ratio = np.where(sure, 0.0, by_mean / np.maximum(p, 1e-12))
        single = (ratio * by_mean).sum(1)
        if not self.inl:
            return single, np.zeros((0, 0)), np.zeros((0, 0))
        inner = first[:, 1:-1]
        exists = (inner >= 0) & (inner < size)
        index = inner.clip(0, size - 1)
        z = (edges[index] - volts[:, None]) / sigma[:, None]
        slope = np.where(exists, np.exp(-0.5 * z * z) / (np.sqrt(2 * np.pi) * sigma[:, None]), 0.0)
        return (single, *_with_transitions(slope, p, ratio, index, size))

    def covariance(self) -> Array:
        """Of all parameters, outputs' own first, then shared ones; freedoms of gauge left out."""
        m, local, shared = self.m, self.local, self.shared
        total = np.zeros((m * local + shared, m * local + shared))
        for i in range(m):
            each = self.information[i]
            if self.inl:
                each = each - self._lost(i)
            at = np.concatenate([np.arange(i * local, (i + 1) * local), np.arange(m * local, len(total))])
            total[np.ix_(at, at)] += each
        if not self.family.rank_one:
            return inverse(total)
        reduced = self._rank_one(len(total))
        return np.asarray(reduced @ inverse(reduced.T @ total @ reduced) @ reduced.T)

    def _lost(self, i: int) -> Array:
        """Of the information of one output, what its transitions take: they are free but for their line."""
        line = np.stack([np.ones_like(self.ideal), self.ideal], axis=1)
        rest = np.linalg.svd(line, full_matrices=True)[0][:, 2:]
        cross = self._cross[i] @ rest
        return np.asarray(cross @ inverse(rest.T @ self._own[i] @ rest) @ cross.T)

    def _rank_one(self, size: int) -> Array:
        """(P, p) from parameters in which first coefficients are log gain + log power, to all."""
        m, n, q, local = self.m, self.n, self.q, self.local
        first = np.zeros(size, dtype=bool)
        for i in range(m):
            first[i * local + np.arange(n) * q] = True
        others = np.flatnonzero(~first)
        found = np.zeros((size, m + n + len(others)))
        for i in range(m):
            at = i * local + np.arange(n) * q
            found[at, i] = 1.0
            found[at, m + np.arange(n)] = 1.0
        found[others, m + n + np.arange(len(others))] = 1.0
        return found


def _with_transitions(slope: Array, p: Array, ratio: Array, index: Index, size: int) -> tuple[Array, Array]:
    """Information of shots on the mean with each transition (B, K), and of all shots on pairs of transitions (K, K).

    A transition takes from the code above it what it gives to the code below: dp_k / dT_k = -slope = -dp_(k-1) / dT_k.
    """
    cross = np.zeros((len(slope), size))
    rows = np.broadcast_to(np.arange(len(slope))[:, None], index.shape)
    np.add.at(cross, (rows, index), slope * (ratio[:, :-1] - ratio[:, 1:]))
    below, above = np.maximum(p[:, :-1], 1e-12), np.maximum(p[:, 1:], 1e-12)
    own = np.diag(np.bincount(index.ravel(), (slope**2 * (1 / below + 1 / above)).ravel(), size))
    beside = (slope[:, :-1] * slope[:, 1:] / above[:, :-1]).ravel()
    pair = np.bincount(index[:, :-1].ravel(), beside, size)[: size - 1]
    return cross, np.asarray(own - np.diag(pair, 1) - np.diag(pair, -1), dtype=np.float64)


def functions(bound: Bound, held: Points, device: int) -> dict[str, Array]:
    """Rows of derivatives by the parameters of ``Bound.covariance``: families as ``calibration_gauge.errors``."""
    gauge, m, n, q, local = bound.gauge, bound.m, bound.n, bound.q, bound.local
    size = m * local + bound.shared
    zeros = np.zeros((m, size))
    zeros[np.arange(m), np.arange(m) * local + n * q] = 1.0
    by_slope = np.concatenate([_own_rows(bound, i, along(gauge.curves)[1:2]) for i in range(m)])  # (M N, P)
    gains, powers = _gauge_slopes(gauge)
    log_gain, log_power = gains @ by_slope, powers @ by_slope
    places, weights = tested(gauge, device)
    rows = []
    for place, weight in zip(places[:4], weights[:4], strict=True):
        for i in range(m):
            at = np.zeros((n, len(gauge.codes)))
            at[np.arange(n), place[i]] = 1.0
            own = _own_rows(bound, i, at[:, None], each=True) / gauge.counts[i][:, None]
            rows.append(own - weight[i][:, None] * (log_gain[i] + log_power))
    return {"gains": log_gain, "zeros": zeros, "weights": np.concatenate(rows), "means": _mean_rows(bound, held)}


def _own_rows(bound: Bound, i: int, weights: Array, each: bool = False) -> Array:
    """(N, P) derivatives of sum_k weights_k W_ij(k), weights (1, K), or (N, 1, K) where ``each`` has its own."""
    n, q, found = bound.n, bound.q, np.zeros((bound.n, bound.m * bound.local + bound.shared))
    start = bound.m * bound.local + 2 * n + 1
    for j in range(n):
        w = weights[j, 0] if each else weights[0]
        found[j, i * bound.local + j * q + np.arange(q)] = bound.family.basis[:, :, i, j] @ w
        at = start
        for a, knots in enumerate(bound.family.knots):
            found[j, at : at + knots.shape[1]] = bound.family.raw[i, j, a] * (w @ knots)
            at += knots.shape[1]
    return found


def _gauge_slopes(gauge: Gauge) -> tuple[Array, Array]:
    """Derivatives (M, M N) and (N, M N) of log gain and log power by the slopes, by differences."""
    slopes, columns = gauge.raw[..., 1], []
    step = 1e-5 * float(np.abs(slopes).mean())
    for index in range(slopes.size):
        ends = []
        for sign in (1, -1):
            moved = slopes.copy()
            moved.flat[index] += sign * step
            ends.append(np.log(np.concatenate(rank_one(moved))))
        columns.append((ends[0] - ends[1]) / (2 * step))
    found = np.stack(columns, axis=1)
    return found[: len(slopes)], found[len(slopes) :]


def _mean_rows(bound: Bound, held: Points) -> Array:
    """Derivatives (P M, parameters) of the means at points."""
    rows = np.zeros((len(held.inputs), bound.m, bound.m * bound.local + bound.shared))
    for point, (codes, inputs) in enumerate(zip(held.weights, held.inputs, strict=True)):
        columns = bound.columns(inputs[None])[0]
        for i, to in enumerate(bound.maps(codes)):
            each = columns @ to
            rows[point, i, i * bound.local : (i + 1) * bound.local] = each[: bound.local]
            rows[point, i, bound.m * bound.local :] = each[bound.local :]
    return rows.reshape(-1, rows.shape[-1])


def variances(covariance: Array, rows: Array) -> Array:
    """Bounds of the variance of functions with these derivatives."""
    return np.asarray(((rows @ covariance) * rows).sum(1))


def _hats(size: int, knots: int) -> Array:
    """(size, knots) of linear interpolation."""
    found = np.empty((size, knots))
    for k in range(knots):
        found[:, k] = np.interp(np.linspace(0, 1, size), np.linspace(0, 1, knots), np.eye(knots)[k])
    return found


def inverse(information: Array) -> Array:
    """Inverse on the directions that readings fix."""
    scale = np.sqrt(np.maximum(np.diagonal(information), 1e-300))
    values, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    good = values > _CUT * values.max()
    return np.asarray(((vectors[:, good] / values[good]) @ vectors[:, good].T) / np.outer(scale, scale))
