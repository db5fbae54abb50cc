"""Noise terms against the truth: intervals at their stated coverage, close to the Cramer-Rao bound, faults seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from photonic.calibration.noise import TERMS, NoiseData, choose_power, choose_rin, fit_noise, variance_error
from photonic.calibration.quantised import cramer_rao
from photonic.errors import CalibrationError, RangeError, ShapeError

RANGE = (-128.0, 127.0)
IDEAL = np.arange(-127.5, 127.0)
GAIN = 512.0
TYPICAL = np.array([0.29, 0.43, 4.2, 0.02]) / GAIN**2  # 0.54 counts in the dark, 0.85 at full light


def made(
    noise: np.ndarray, seed: int, points: int = 60, repeats: int = 100, outputs: int = 8, lines: int = 0,
    extra: float = 0.0, loud: float = 1.0, edges: np.ndarray = IDEAL,
) -> NoiseData:  # fmt: skip
    """Counts of the model; ``lines``: RIN of each input; ``extra``: another source; ``loud``: thermal of output 0."""
    rng = np.random.default_rng(seed)
    shape = points, outputs
    share = np.array([0.0, 0.25, 0.5, 1.0, 1.0])[np.arange(points) % 5]
    S = share[:, None] * rng.uniform(0.9, 1.1, shape)
    D = np.clip(rng.uniform(-0.22, 0.22, shape), -S, S)
    gain = GAIN * rng.uniform(0.95, 1.05, outputs) * np.where(np.arange(outputs) == 1, -1, 1)
    table = None
    if lines:
        table = rng.uniform(-1, 1, (*shape, lines)) * share[:, None, None] / lines
        D = table.sum(-1)
        shared = np.matmul(rng.standard_normal((points, repeats, lines)), table.transpose(0, 2, 1))
    else:
        shared = D[:, None] * rng.standard_normal((points, repeats, 1))
    own = np.full(outputs, noise[0])
    own[0] *= loud
    y = np.sqrt(own + noise[1] * S)[:, None] * rng.standard_normal((points, repeats, outputs))
    y += np.sqrt(noise[2]) * shared + np.sqrt(noise[3]) * S[:, None] * rng.standard_normal((points, repeats, 1))
    y += np.sqrt(extra) * rng.standard_normal((points, repeats, 1)) * np.where(np.arange(outputs) % 2, 1, -1)
    counts = np.searchsorted(edges, gain * (D[:, None] + y), side="right") - 128.0
    return NoiseData(counts, gain * D, S, D, gain, RANGE, edges[None], table)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])  # 0.3, 0.54, 0.94 counts in the dark
def test_intervals_cover_the_truth(scale: float) -> None:
    noise = TYPICAL * scale
    inside, p_values = [], []
    for seed in range(80):
        fit = fit_noise(made(noise, seed, points=50))
        inside.append([term.low <= truth <= term.high for term, truth in zip(fit.terms.values(), noise, strict=True)])
        p_values.append([fit.outputs_p, fit.correlation_p, fit.correlation_any_p])
        assert fit.used == 1.0
    assert 0.91 < np.mean(inside) < 0.985  # 320 intervals: +-2.5 standard errors about 0.95
    assert (np.array(p_values) < 0.01).mean() < 0.04


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_variance_is_as_well_known_as_can_be(scale: float) -> None:
    noise, runs = TYPICAL * scale, 500
    S, D = np.array([0.1, 0.3, 0.5, 1.0, 1.0, 1.0]), np.array([0.0, 0.1, 0.22, 0.0, 0.1, 0.22])
    truth = np.stack((np.ones(6), S, D**2, S**2), -1) @ noise
    errors, inside = [], []
    for seed in range(runs):
        data = made(noise, seed)
        fit = fit_noise(data)
        terms = fit.model
        found = np.array([terms.variance(s, d) for s, d in zip(S, D, strict=True)])
        errors.append((found - truth) / truth)
        inside.append([term.low <= value <= term.high for term, value in zip(fit.terms.values(), noise, strict=True)])
    rng = np.random.default_rng(1)
    bounds = [
        variance_error(cramer_rao(noise, d.volts, d.S, d.D, d.gain, IDEAL, 100, rng), S, D) / truth
        for d in (made(noise, seed) for seed in range(4))
    ]
    efficiency = (np.array(bounds) ** 2).mean() / (np.array(errors) ** 2).mean()
    assert efficiency > 0.8
    assert 0.935 < np.mean(inside) < 0.97


def test_errors_of_the_variance_cover() -> None:
    z = []
    for seed in range(60):
        fit = fit_noise(made(TYPICAL, seed, points=30))
        z.append(fit.model.variance(0.7, 0.15) - (TYPICAL @ [1, 0.7, 0.0225, 0.49]))
        z[-1] /= variance_error(fit.covariance, np.array(0.7), np.array(0.15))
    assert 0.8 < np.std(z) < 1.2
    assert abs(np.mean(z)) < 0.4


def test_a_term_that_is_not_there_is_not_identified() -> None:
    found = [fit_noise(made(TYPICAL * [1, 1, 0, 0], seed, points=30)).terms for seed in range(60)]
    assert np.mean([terms["rin"].identified for terms in found]) < 0.07  # one-sided 2.3 %
    assert all(terms["rin"].low == 0 for terms in found if not terms["rin"].identified)
    assert all(terms["thermal"].identified and terms["thermal"].shots_needed is None for terms in found)
    shots = [terms["common_mode"].shots_needed for terms in found if not terms["common_mode"].identified]
    assert all(needed is None or needed > 3000 for needed in shots)


def test_what_it_would_take_is_what_it_takes() -> None:
    noise = TYPICAL * [1, 1, 0.15, 0]
    term = next(t for t in (fit_noise(made(noise, s, points=20)).terms["rin"] for s in range(99)) if t.shots_needed)
    assert term.shots_needed is not None
    more = fit_noise(made(noise, 5, points=20, repeats=2 * term.shots_needed // 20)).terms["rin"]
    assert more.identified


def test_points_that_are_all_alike_cannot_tell_terms_apart() -> None:
    data = made(TYPICAL, 1)
    fit = fit_noise(replace(data, S=np.ones_like(data.S)))
    for name in ("thermal", "shot"):
        assert not fit.terms[name].identified
        assert fit.terms[name].standard_error == np.inf
    assert fit.terms["rin"].identified


def test_a_chip_without_noise() -> None:
    fit = fit_noise(made(np.zeros(4), 1))
    assert not any(term.identified or term.value for term in fit.terms.values())
    assert fit.outputs_p > 0.5


def test_without_a_converter_counts_have_any_size() -> None:
    data = made(TYPICAL, 3)
    rng = np.random.default_rng(0)
    y = data.D[:, None] + 1e-3 * rng.standard_normal(data.counts.shape)
    fit = fit_noise(NoiseData(y, data.D, data.S, data.D, np.ones(8), None))
    assert fit.model.variance(0.5, 0.1) == pytest.approx(1e-6, rel=0.02)


def test_noise_that_follows_the_weights_is_told_from_noise_that_follows_the_inputs() -> None:
    data = made(TYPICAL * [1, 1, 1, 0], 2)
    other = data.S * np.random.default_rng(3).uniform(0, 1, data.S.shape)
    power = choose_power(data, data.S, other)
    assert (power.share, power.choice.best) == (0.0, "input power")
    assert power.choice.z["weighted power"] > 1.96
    assert power.fit.terms["shot"].low < TYPICAL[1] < power.fit.terms["shot"].high
    power = choose_power(data, other, data.S)
    assert (power.share, power.choice.best) == (1.0, "weighted power")
    same = choose_power(data, data.S, data.S * (1 + 1e-9))
    assert same.share == 0.0
    assert not same.choice.decided


def test_a_mixture_of_powers_is_found_where_neither_does() -> None:
    data = made(TYPICAL * [1, 3, 1, 0], 2)
    rng = np.random.default_rng(3)
    weighted = rng.uniform(0, 1, data.S.shape)
    inputs = (data.S - 0.6 * weighted) / 0.4  # so that the true S is 0.4 of one and 0.6 of the other
    power = choose_power(data, inputs, weighted)
    assert power.share == pytest.approx(0.6, abs=0.05)
    assert power.choice.decided
    assert power.fit.terms["shot"].low < 3 * TYPICAL[1] < power.fit.terms["shot"].high


def test_one_laser_per_line_is_told_from_one_laser() -> None:
    noise = TYPICAL * [1, 1, 0, 0] + [0, 0, 1e-3, 0]
    data = made(noise, 4, lines=8)
    choice, fit = choose_rin(data)
    assert (choice.best, choice.decided) == ("per line", True)
    assert fit.terms["rin"].low < 1e-3 < fit.terms["rin"].high
    assert fit.correlation_any_p > 0.01
    assert fit_noise(data).correlation_any_p < 1e-3  # D D^T does not explain it
    together = made(TYPICAL * [1, 1, 4, 0], 4)
    lines = np.random.default_rng(0).uniform(-1, 1, (*together.D.shape, 8))
    lines += (together.D - lines.sum(-1))[..., None] / 8
    choice, _ = choose_rin(replace(together, lines=lines))
    assert (choice.best, choice.decided) == ("common", True)


def test_another_common_source_is_seen() -> None:
    fit = fit_noise(made(TYPICAL, 5, extra=0.03 / GAIN**2))
    assert fit.correlation_p < 1e-4


def test_a_louder_output_is_seen_and_named() -> None:
    fit = fit_noise(made(TYPICAL, 6, loud=1.4))
    assert fit.outputs_p < 1e-6
    assert int(np.argmax(np.abs(fit.ratio - 1))) == 0
    assert fit.ratio[0] > 1.1


def test_own_transitions_matter_where_noise_is_small() -> None:
    steps = np.random.default_rng(7).uniform(-0.4, 0.4, 255)
    data = made(TYPICAL * 0.3, 7, edges=IDEAL + steps)
    fit = fit_noise(data)
    assert all(term.low < truth < term.high for term, truth in zip(fit.terms.values(), TYPICAL * 0.3, strict=True))
    blind = fit_noise(replace(data, transitions=None))
    assert blind.outputs_p < 1e-3 or not blind.terms["thermal"].low < TYPICAL[0] * 0.3 < blind.terms["thermal"].high


def test_outputs_at_a_rail_are_left_out() -> None:
    data = made(TYPICAL, 8)
    far = np.where(np.arange(60)[:, None] % 3 == 0, 140.0, data.volts)
    railed = np.where(np.arange(60)[:, None, None] % 3 == 0, 127.0, data.counts)
    fit = fit_noise(replace(data, volts=far, counts=railed))
    assert fit.used == pytest.approx(2 / 3)
    assert fit.terms["thermal"].low < TYPICAL[0] < fit.terms["thermal"].high
    near = 127.2 + np.random.default_rng(1).standard_normal(data.counts.shape)
    near = np.where(np.arange(60)[:, None, None] % 3 == 0, np.minimum(np.round(near), 127.0), data.counts)
    fit = fit_noise(replace(data, volts=np.where(far == 140.0, 126.2, data.volts), counts=near))  # volts 1 count off
    assert fit.used == pytest.approx(2 / 3)
    assert fit.terms["thermal"].low < TYPICAL[0] < fit.terms["thermal"].high
    with pytest.raises(CalibrationError, match="rail"):
        fit_noise(replace(data, volts=np.full_like(far, 140.0), counts=np.full_like(railed, 127.0)))


def test_wrong_volts_count_only_as_far_as_they_are_stated() -> None:
    data = made(TYPICAL * 0.3, 9)
    off = data.volts + 0.1 * np.random.default_rng(1).standard_normal(data.volts.shape)
    stated = fit_noise(replace(data, volts=off, volts_se=0.1))
    assert stated.terms["thermal"].standard_error > 1.1 * fit_noise(data).terms["thermal"].standard_error


def test_refusals() -> None:
    data = made(TYPICAL, 10)
    with pytest.raises(ShapeError, match="R >= 2"):
        replace(data, counts=data.counts[:, :1])
    with pytest.raises(ShapeError, match="gain"):
        replace(data, gain=data.gain[:3])
    with pytest.raises(ShapeError, match="transitions"):
        replace(data, transitions=np.zeros((1, 9)))
    with pytest.raises(RangeError, match="S must be finite"):
        replace(data, S=np.full_like(data.S, np.nan))
    with pytest.raises(RangeError, match="not averages"):
        replace(data, counts=data.counts + 0.5)
    with pytest.raises(ShapeError, match="lines"):
        fit_noise(data, "per line")
    assert list(fit_noise(data).terms) == list(TERMS)
