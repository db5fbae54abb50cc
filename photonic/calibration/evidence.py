"""All that readings know of noise: repeats of one vector, readings in the dark, and single readings of any vector.

Repeats come first: they need no response, decide which total power the noise follows and whether inputs share their
intensity noise, and stay the judge of the rest. Single readings (``singles``) are many more, but what the response
lacks is noise to them. They are used where they agree with the repeats; where they do not, the terms that they may have
more of are left to the repeats (thermal: what the response lacks is like it; RIN: a drift of the gain is), and where
that does not help, they are not used at all. The record says which.

Points without light serve only where the ADC is taken as ideal. All of an output's meet the same two or three
transitions, and an error of 0.01 LSB there is 1 % of the variance that they seem to have, in all of them; with light,
results and transitions are different ones everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2

from photonic.calibration import noise as noises
from photonic.calibration.adc import Inl
from photonic.calibration.drift import DriftFit
from photonic.calibration.driftnoise import shot_s
from photonic.calibration.gaincorrelation import gain_correlations, lags_of, together
from photonic.calibration.model import Array, ChipModel
from photonic.calibration.noise import TERMS, Choice, NoiseData, NoiseFit
from photonic.calibration.ownnoise import OwnNoise, own_noise
from photonic.calibration.points import Points
from photonic.calibration.quantised import gaussian_moments
from photonic.calibration.reading import Taken
from photonic.calibration.secondmoments import Flags, unsure_of_transitions
from photonic.calibration.singles import Equations, Receivers, Shots, equations
from photonic.calibration.timing import with_repeats
from photonic.records import DriftModel, NoiseModel

SINGLE = ("matrix", "ramp")
_LEAST_SETTINGS = 32  # of single readings, whose scatter says how sure they are
_LEAST_SIGMA = 0.3  # counts; below, the variance of a count hangs on means as no response knows them
_SOME = 2_500_000  # counts of single readings, enough while the response is not final
_LIT, _LEAST_LIT = 0.05, 8  # of the most light, from which on a point is not in the dark; fewest such points
_AGREES = 0.01  # probability of a larger disagreement by chance, from which on there is none
_MOST_EXCESS = (
    0.01  # of the squares, that may be taken for the response's own: how it is spread over S and D is not known
)
_RIN, _THERMAL = TERMS.index("rin"), TERMS.index("thermal")
# what may be more in single readings than it is in repeats, the least first
_EXTRA: tuple[tuple[int, ...], ...] = ((), (_RIN,), (_THERMAL,), (_THERMAL, _RIN))


class Noise(NamedTuple):
    """What was found.

    Attributes:
        model: with the power law that the noise follows.
        power: which, and how surely.
        rin: whether inputs share their intensity noise.
        fit: of the terms.
        own: thermal and shot noise of each output; None: alike, as far as repeats tell.
    """

    model: ChipModel
    power: Choice
    rin: Choice
    fit: NoiseFit
    own: OwnNoise | None = None


@dataclass(frozen=True)
class _Beside:
    """Single readings as evidence: some terms may be others in them."""

    found: Equations
    free: tuple[int, ...]

    @property
    def shots(self) -> int:
        return self.found.shots

    def score(self, theta: Array) -> tuple[Array, Array]:
        return self.found.score(theta, self.free)


def fit_all_noise(model: ChipModel, inl: Inl | None, parts: Mapping[str, Sequence[Taken]], drift: DriftModel) -> Noise:
    """Fits the noise terms to everything that was read before the verification.

    Args:
        model: the response, fitted.
        inl: of the ADCs, with its errors; None: ideal.
        parts: readings by purpose; "noise" at least.
        drift: of the gain: single readings hold all of it, repeats what moves within them.
    """
    points = Points.of(model.spec, [*parts["noise"], *_pieces(parts.get("allan", ()), len(parts["noise"][0].counts))])
    data, uneven = points.measured(model), inl is not None and inl.kind != "none"
    if uneven and _lit(data).sum() >= _LEAST_LIT:
        points, data = points.only(_lit(data)), data.only(_lit(data))
    inputs, weighted = (points.powers(replace(model, power_law=np.array(law))) for law in ((1.0, 0.0), (0.0, 1.0)))
    power = noises.choose_power(data, inputs, weighted)
    model = replace(model, power_law=np.array([1 - power.share, power.share]))
    data = replace(data, S=points.powers(model))
    rin, fit = noises.choose_rin(data)
    if rin.best == "per line" and rin.decided:
        said = "not used: each input has intensity noise of its own"
        return Noise(model, power.choice, rin, fit._replace(singles=said))
    if uneven and inl is not None:
        repeats = unsure_of_transitions([data], inl.standard_error)
    else:
        repeats = [data, *_dark(model, parts.get("dark", ()))]
    fit = noises.fit_noise(repeats[0], more=repeats[1:])
    own = own_noise(repeats, fit)
    if own is not None:
        repeats, fit = [replace(each, own=own.factors) for each in repeats], own.fit
        model = replace(model, own_noise=own.factors)
    return Noise(model, power.choice, rin, _with_singles(model, parts, drift, repeats, fit), own)


def noise_so_far(
    model: ChipModel, before: NoiseModel, parts: Mapping[str, Sequence[Taken]], points: Points
) -> NoiseModel:
    """The noise with a response that is not final, from the repeats; with transitions, from some single readings, too.

    Args:
        model: the response so far.
        before: the noise so far.
        parts: readings by purpose.
        points: repeats.
    """
    data = points.measured(model)
    taken = [item for name in SINGLE for item in parts.get(name, ())]
    lit = _lit(data)
    if model.transitions is None or len(taken) < _LEAST_SETTINGS or lit.sum() < _LEAST_LIT:
        return noises.fit_noise(data).model
    each = taken[0].counts.numel()
    some = taken[:: max(1, len(taken) * each // max(_LEAST_SETTINGS * each, _SOME))]
    theta = np.array([getattr(before, name) for name in TERMS])
    if _quiet(model, theta):
        return noises.fit_noise(data).model
    found = equations(_shots(model, some), _receivers(model, DriftModel(), 1.0), theta)
    return noises.fit_noise(data.only(lit), beside=_Beside(found, ())).model


def _lit(data: NoiseData) -> Flags:
    """(P,) points with light."""
    light = data.S.mean(1)
    return np.asarray(light > _LIT * light.max())


def _quiet(model: ChipModel, theta: Array) -> bool:
    """Whether the noise is so small that a count's variance hangs on its mean."""
    least = _LEAST_SIGMA if model.spec.adc_bits is not None else 0.0
    return bool(np.abs(model.gain).min() * theta[_THERMAL] ** 0.5 <= least)


def _pieces(series: Sequence[Taken], length: int) -> Iterator[Taken]:
    """Readings of one vector without a pause, cut to ``length`` shots; what is left over is too short for a point."""
    for item in series:
        for start in range(0, len(item.counts) - length + 1, length):
            part = slice(start, start + length)
            yield replace(
                item, reading=replace(item.reading, inputs=item.reading.inputs[part]), counts=item.counts[part]
            )


def _dark(model: ChipModel, taken: Sequence[Taken]) -> list[NoiseData]:
    """Readings without light, each a point; none: not taken."""
    if not taken:
        return []
    spec = model.spec
    counts = np.stack([item.counts.double().numpy() for item in taken])
    ranged = spec.count_range if spec.adc_bits is not None else None
    table = model.transitions
    moments = gaussian_moments(counts.transpose(0, 2, 1), None if table is None else table[None], ranged)
    volts = np.where(moments.identified, moments.mean, model.zero)
    return [NoiseData(counts, volts, np.zeros_like(volts), np.zeros_like(volts), model.gain, ranged, table)]


def _with_singles(
    model: ChipModel, parts: Mapping[str, Sequence[Taken]], drift: DriftModel, repeats: Sequence[NoiseData],
    fit: NoiseFit,
) -> NoiseFit:  # fmt: skip
    """The fit with what single readings add, and what is to be said of them."""
    theta = np.array([getattr(fit.model, name) for name in TERMS])
    taken = [item for name in SINGLE for item in parts.get(name, ())]
    if len(taken) < _LEAST_SETTINGS:
        return fit._replace(singles=f"not used: {len(taken)} settings are too few")
    if _quiet(model, theta) or not all(np.isfinite(term.standard_error) for term in fit.terms.values()):
        return fit._replace(singles="not used: noise is too small beside a count, or not told apart by the repeats")
    receivers, beyond = _receivers(model, drift, shot_s(model.spec, taken)), np.zeros(len(TERMS))
    beyond[_RIN] = max(0.0, receivers.wander - drift.within) if receivers.wander else 0.0
    found = equations(_shots(model, taken), receivers, theta + beyond)._replace(theta=theta)
    if found.excess - noises.TWO_SIDED * found.excess_se > _MOST_EXCESS:
        return fit._replace(singles=f"not used: {100 * found.excess:.1f} % of their squares is what the response lacks")
    walks = drift.kind == "random walk"  # how far in all of the sweep, the response has a part in
    for free in _EXTRA[1:] if walks else _EXTRA:
        chance = agreement(found, fit.covariance, free)
        if chance > _AGREES:
            both = noises.fit_noise(repeats[0], more=repeats[1:], beside=_Beside(found, free))
            return both._replace(singles=_said(found, free, chance))
    return fit._replace(
        singles=f"not used: they differ from the repeats, p = {agreement(found, fit.covariance, ()):.2g}"
    )


def drift_with_singles(
    model: ChipModel, noise: NoiseModel, parts: Mapping[str, Sequence[Taken]], fit: DriftFit
) -> tuple[DriftModel, str]:
    """The drift with what single readings say of its size and time, and what is to be said of them.

    Args:
        model: the response, fitted.
        noise: of a shot.
        parts: readings by purpose.
        fit: of readings of one vector, gains before the ADC.
    """
    drift = fit.model
    alone = f"{'none found in' if drift.kind == 'none found' else 'of'} readings of one vector"
    taken = [item for name in SINGLE for item in parts.get(name, ())]
    spacing_s = shot_s(model.spec, taken)
    lags = lags_of(drift, spacing_s, min(len(item.counts) for item in taken))
    if lags is None or fit.covariance is None:
        return drift, alone
    theta = np.array([getattr(noise, name) for name in TERMS])
    seen = gain_correlations(_shots(model, taken), _receivers(model, DriftModel(), 1.0), theta, lags)
    if seen is None:
        return drift, alone
    both, chance = together(fit, seen, spacing_s)
    if both is None:
        return drift, f"{alone}; single readings differ from them, p = {chance:.2g}"
    said = f"of readings of one vector and of single ones, which agree: p = {chance:.2g}"
    return with_repeats(model.spec, both, spacing_s), said


def agreement(found: Equations, covariance: Array, free: tuple[int, ...]) -> float:
    """Probability of equations as far from 0 at the repeats' terms, by chance.

    Args:
        found: of single readings, about the repeats' terms.
        covariance: (4, 4) of these.
        free: terms that may differ.
    """
    weights = found.weights(free, found.slopes @ covariance @ found.slopes.T)
    degrees = max(1, int(np.linalg.matrix_rank(found.slopes)) - len(free))
    return float(chi2.sf(found.value @ weights @ found.value, degrees))


def _said(found: Equations, free: tuple[int, ...], chance: float) -> str:
    but = f" but for {' and '.join(TERMS[a] for a in free)}" if free else ""
    return (
        f"{found.shots:,} used{but}: they agree with the repeats, p = {chance:.2g}; what the response left or took is "
        f"{100 * found.excess:+.2f} +- {100 * found.excess_se:.2f} % of their squares"
    )


def _receivers(model: ChipModel, drift: DriftModel, spacing_s: float) -> Receivers:
    table = model.transitions
    low, high = model.spec.count_range
    if model.spec.adc_bits is not None and table is None:
        table = np.arange(low + 0.5, high)[None]
    found = Receivers(model.gain, table, None if table is None else low, own=model.own_noise)
    if drift.kind != "ar1" or drift.time_s is None:
        return found
    return replace(found, wander=drift.sigma**2, wander_shots=drift.time_s / spacing_s)


def _shots(model: ChipModel, taken: Sequence[Taken]) -> Iterator[Shots]:
    spec = model.spec
    for item in taken:
        codes = item.reading.weights.double().numpy().reshape(spec.n_outputs, spec.n_inputs)
        inputs = item.reading.inputs.double().numpy()
        d, s = model.both(codes, inputs)
        light = model.inputs.levels(inputs) * model.power
        yield Shots(item.counts.double().numpy(), d * model.gain + model.zero, s, d, light)
