"""Noise from single readings: the equations as they are written out, terms inside their intervals, lack of fit seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from photonic.calibration.evidence import agreement
from photonic.calibration.singles import Equations, Receivers, Shots, _part, _softened, covariance_of, equations

GAIN = 512.0
TERMS = np.array([0.29, 0.43, 4.2, 0.02]) / GAIN**2  # 0.54 counts in the dark, 0.85 at full light
TABLE = np.arange(-127.5, 127.0)[None]
M, N, B = 8, 6, 96


def settings(
    seed: int, count: int = 60, terms: np.ndarray = TERMS, off: float = 0.0, extra: float = 0.0, wander: float = 0.0
) -> Iterator[Shots]:
    """Shots as a response sees them; ``off``: error of the weights of each setting; ``extra``: noise it lacks."""
    rng = np.random.default_rng(seed)
    gain = GAIN * rng.uniform(0.95, 1.05, M)
    for _ in range(count):
        light, weights = rng.uniform(0, 1, (B, N)), rng.uniform(-1, 1, (M, N)) / N
        S, D = np.repeat(light.mean(1, keepdims=True), M, 1), light @ weights.T
        rho = terms[2] ** 0.5 * rng.standard_normal((B, 1))
        if wander:
            rho += wander**0.5 * walk(rng, B)[:, None]
        y = D * (1 + rho) + S * terms[3] ** 0.5 * rng.standard_normal((B, 1))
        y += np.sqrt(terms[0] + terms[1] * S + extra) * rng.standard_normal((B, M))
        counts = np.clip(np.round(gain * y), -128, 127)
        volts = gain * (D + off * light @ rng.standard_normal((N, M)) / N)
        yield Shots(counts, volts, S, D, light)


def walk(rng: np.random.Generator, shots: int) -> np.ndarray:
    """AR(1) of variance 1 over 10 shots."""
    found, keep = np.empty(shots), np.exp(-0.1)
    value = rng.standard_normal()
    for k in range(shots):
        value = keep * value + (1 - keep**2) ** 0.5 * rng.standard_normal()
        found[k] = value
    return found


def receivers(seed: int, wander: float = 0.0) -> Receivers:
    gain = GAIN * np.random.default_rng(seed).uniform(0.95, 1.05, M)
    return Receivers(gain, TABLE, -128.0, wander, 10.0)


def solved(found: Equations) -> tuple[np.ndarray, np.ndarray]:
    score, information = found.score(found.theta)
    return found.theta + np.linalg.solve(information, score), np.sqrt(np.diagonal(np.linalg.inv(information)))


def test_short_products_are_those_of_whole_matrices() -> None:
    rng, near = np.random.default_rng(1), 0.24 * np.ones((B, 1))
    shots = next(settings(1))
    D = np.where(rng.uniform(size=(B, M)) < 0.1, near, shots.D)  # some near a rail
    shots = Shots(shots.counts, D * GAIN, shots.S, D, shots.light)
    common = Receivers(GAIN * np.ones(M), TABLE, -128.0)
    c, part = covariance_of(shots, common, TERMS), _part(shots, common, TERMS)
    soft = _softened(c.excess, c.inverse_diagonal, c.keep)
    value, slopes, by_excess = np.zeros(4), np.zeros((4, 4)), np.zeros(4)
    for b in range(B):
        on = np.flatnonzero(c.keep[b])
        shared = sum(TERMS[a] * np.outer(c.vector[a, b, on], c.vector[a, b, on]) for a in (2, 3))
        whole = shared - np.diag(np.diag(shared)) + np.diag(c.variance[b, on])
        w, r = np.linalg.inv(whole), (shots.counts - c.mean)[b, on]
        change = [np.diag(c.diagonal[a, b, on]) + np.outer(c.vector[a, b, on], c.vector[a, b, on]) for a in range(4)]
        for a in range(4):
            q = 0.5 * w @ (change[a] - np.diag(soft[b, on] * 0.5 * np.diag(w @ change[a] @ w))) @ w
            value[a] += (q * (np.outer(r, r) - whole)).sum()
            by_excess[a] += (q * np.diag(c.variance[b, on])).sum()
            slopes[a] += [(q * each).sum() for each in change]
    assert 0.6 < c.keep.mean() < 0.9
    np.testing.assert_allclose(part.value, value, rtol=1e-9)
    np.testing.assert_allclose(part.slopes, slopes, rtol=1e-9)
    np.testing.assert_allclose(part.by_excess, by_excess, rtol=1e-9)


def test_intervals_hold_the_terms_whatever_they_are_taken_about() -> None:
    z, p = [], []
    for seed in range(20):
        found = equations(settings(seed, 40), receivers(seed), TERMS * [1.02, 0.97, 1.05, 1.3])
        terms, errors = solved(found)
        z.append((terms - TERMS) / errors)
        at_truth = found._replace(value=found.value - found.slopes @ (TERMS - found.theta))
        p.append(agreement(at_truth, np.zeros((4, 4)), ()))
    assert 0.8 < np.std(z) < 1.2  # 80 values
    assert abs(np.mean(z)) < 0.3
    assert 0.3 < np.mean(p) < 0.7


def test_errors_of_a_settings_weights_are_not_taken_for_noise() -> None:
    at = np.array([1.0, 0.5, 0.01, 0.25])  # V at S = 0.5, D = 0.1
    ratio, excess = [], []
    for seed in range(12):
        found = equations(settings(seed, off=0.0008), receivers(seed), TERMS)
        ratio.append(at @ solved(found)[0] / (at @ TERMS))
        excess.append(found.excess)
    error = np.std(ratio) / len(ratio) ** 0.5
    assert np.mean(excess) > 5 * error  # which V would be off by
    assert abs(np.mean(ratio) - 1) < 2.5 * error


def test_a_gain_that_wanders_within_a_reading_is_intensity_noise() -> None:
    wander, z = 3e-5, []
    truth = TERMS + np.array([0.0, 0.0, wander, 0.0])
    for seed in range(12):
        found = equations(settings(seed, wander=wander), receivers(seed, wander), truth)
        terms, errors = solved(found)
        z.append((terms - truth) / errors)
        assert abs(found.excess) < 4 * found.excess_se
    assert np.abs(np.mean(z, axis=0)).max() < 1.2


def test_noise_that_repeats_do_not_have_is_seen_and_can_be_left_free() -> None:
    covariance = np.diag((TERMS * [0.005, 0.005, 0.02, 1.0]) ** 2)
    all_found = [equations(settings(seed, extra=0.15 * TERMS[0]), receivers(seed), TERMS) for seed in range(6)]
    assert max(agreement(found, covariance, ()) for found in all_found) < 1e-3
    assert np.median([agreement(found, covariance, (0,)) for found in all_found]) > 0.1
    whole, rest = (all_found[0].score(TERMS, free)[1] for free in ((), (0,)))
    assert abs(rest[0, 0]) < 1e-6 * whole[0, 0]
    assert rest[1, 1] > 0.01 * whole[1, 1]
