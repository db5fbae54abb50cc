"""Cramér-Rao bound of V(S, D) at points, for the readings that were measured, at the true parameters.

One shot of all outputs has the likelihood of ``photonic.calibration.quantised.cramer_rao``: Gaussian noise of each
output and two factors that all share, seen through the ADC. Means are known, transitions are the ideal ones, which meet
the same random phases as any others. Free are the terms of the noise that are not 0, and two kinds of nuisances, which
nobody outside of a chip knows:

- the unit of each output: thermal and shot noise are those of the receiver, in counts of its gain, and the gain that
  means tell is the receiver's times the mean slope of a row of elements. Only the noise itself can tell the two apart.
  (RIN is that of the counts, and needs no unit.)
- where the noise follows a mixture of all light and of that which weights let through: the share of the latter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from calibration_bound import inverse
from calibration_chips import Array, Truth

from photonic.calibration.points import Points
from photonic.calibration.quantised import factor_nodes, given_factors
from photonic.calibration.reading import Taken

_NODES = 25  # of the quadrature in each common factor
_CHUNK = 200
_EVEN = 1e-6  # of a share, below which a chip has no mixture


class _Shots(NamedTuple):
    """Of B vectors: signed results, total power, and its change by the share of the weighted power; (B, M) each."""

    D: Array
    S: Array
    by_share: Array


def noise_bound(truth: Truth, taken: Sequence[Taken], held: Points, draws: int = 4000) -> dict[str, Array]:
    """Bounds (P, M) of the relative variance of V at points, from readings of any kind.

    Returns:
        "terms": units and share known; "share", "units": these free; "all": both.

    The information is that of ``draws`` random shots, times their share of all.
    """
    rng = np.random.default_rng(0)
    some, shots = _some_shots(truth, taken, rng, draws)
    information = _information(truth, some, rng) * (shots / draws)
    slopes = _by_parameter(truth, _at(truth, held.weights, held.inputs))
    m, on = len(truth.gain), truth.noise > 0
    free = {"terms": (False, False), "share": (False, True), "units": (True, False), "all": (True, True)}
    found = {}
    for name, (units, share) in free.items():
        keep = np.r_[on, np.full(m, units), share and _mixed(truth)]
        part = slopes[..., keep]
        found[name] = np.einsum("pma,ab,pmb->pm", part, inverse(information[np.ix_(keep, keep)]), part)
    return found


def _mixed(truth: Truth) -> bool:
    """Whether the noise follows neither all light nor that of the weights alone."""
    share = truth.share
    return bool(_EVEN < share < 1 - _EVEN and truth.noise[[1, 3]].any())


def _by_parameter(truth: Truth, at: _Shots) -> Array:
    """(P, M, 4 + M + 1) relative change of V by terms, units (log) and share."""
    a, b, c, e = truth.noise
    one, m = np.ones_like(at.S), len(truth.gain)
    own = a + b * at.S + e * at.S**2
    found = np.zeros((*at.S.shape, 4 + m + 1))
    found[..., :4] = np.stack([one, at.S, at.D**2, at.S**2], -1)
    found[:, np.arange(m), 4 + np.arange(m)] = 2 * own
    found[..., -1] = (b + 2 * e * at.S) * at.by_share
    return np.asarray(found / (own + c * at.D**2)[..., None])


def _information(truth: Truth, shots: _Shots, rng: np.random.Generator) -> Array:
    """(4 + M + 1, same) sum of the squared scores of drawn shots: posterior means of those with the factors known."""
    low, high = truth.spec.count_range
    edges, m = np.arange(low + 0.5, high), len(truth.gain)
    total = np.zeros((4 + m + 1, 4 + m + 1))
    factors = [f for f in (2, 3) if truth.noise[f] > 0]
    nodes = factor_nodes(len(factors), _NODES)
    for start in range(0, len(shots.S), _CHUNK):
        part = _Shots(*(each[start : start + _CHUNK] for each in shots))
        score = _scores(truth, part, factors, nodes, edges, rng)
        total += score.T @ score
    return total


def _scores(
    truth: Truth, shots: _Shots, factors: list[int], nodes: tuple[Array, Array], edges: Array, rng: np.random.Generator
) -> Array:
    """(B, 4 + M + 1) of counts drawn once for each shot."""
    (a, b, _, e), g, m = truth.noise, truth.gain, len(truth.gain)
    (grid, weights), (B, _) = nodes, shots.S.shape
    own = np.abs(g) * np.sqrt(a + b * shots.S)
    sizes = np.stack((shots.D, shots.S), -1)[..., [f - 2 for f in factors]] * g[:, None] * np.sqrt(truth.noise[factors])
    volts = truth.volts(shots.D)
    drawn = volts + own * rng.standard_normal(own.shape)
    code = np.searchsorted(edges, drawn + (sizes * rng.standard_normal((B, 1, len(factors)))).sum(-1))
    mean = volts[:, None] + np.einsum("bmf,qf->bqm", sizes, grid)
    posterior, by_mean, by_variance = given_factors(code, mean, own, edges, weights)
    # the common mode's size follows the unit and the share, and moves the mean with its factor
    size = np.sqrt(e) * g * grid[:, [factors.index(3)]] if 3 in factors else np.zeros((len(grid), m))  # (Q, M)
    by_own = np.einsum("bq,bqm->bm", posterior, by_variance)
    by_size = np.einsum("bq,bqm,qm->bm", posterior, by_mean, size)
    score = np.zeros((B, 4 + m + 1))
    score[:, 0] = by_own @ g**2
    score[:, 1] = (by_own * shots.S) @ g**2
    score[:, factors] = posterior @ ((grid**2 - 1) / (2 * truth.noise[factors]))
    score[:, 4:-1] = 2 * own**2 * by_own + shots.S * by_size
    score[:, -1] = ((b * g**2 * by_own + by_size) * shots.by_share).sum(1)
    return score


def _some_shots(truth: Truth, taken: Sequence[Taken], rng: np.random.Generator, draws: int) -> tuple[_Shots, int]:
    """Random shots, and how many there are in all."""
    sizes = np.array([len(item.counts) for item in taken])
    shape, found = (truth.spec.n_outputs, truth.spec.n_inputs), list[_Shots]()
    for item, some in zip(taken, rng.multinomial(draws, sizes / sizes.sum()), strict=True):
        if not some:
            continue
        inputs = item.reading.inputs.double().numpy()[rng.integers(0, len(item.counts), some)]
        at = truth.shots(item.reading.weights.double().numpy().reshape(shape), inputs)
        lit = 0.0 if item.reading.conditions.get("laser_power") == 0 else 1.0
        found.append(_Shots(*(lit * each for each in at)))
    return _joined(found), int(sizes.sum())


def _at(truth: Truth, weights: Array, inputs: Array) -> _Shots:
    """Of points, (P, M, N) and (P, N)."""
    return _joined([_Shots(*truth.shots(w, u[None])) for w, u in zip(weights, inputs, strict=True)])


def _joined(parts: Sequence[_Shots]) -> _Shots:
    return _Shots(*(np.concatenate(each) for each in zip(*parts, strict=True)))
