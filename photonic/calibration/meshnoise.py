"""Noise of a mesh's shots: V = thermal + shot S + rin D^2 + common_mode S^2, S = S_0 + k D^2.

Without signal, S is the local oscillators' alone, so that thermal and shot noise are told apart by readings with less
light, if the chip has it. k is not in the data sheet: it is taken from a short list, and is that of an oscillator as
strong as the signal unless the points reject it.

A mesh's receivers have little noise, often far less than a count. The covariance of second moments is then known only
roughly (``secondmoments``), so that standard errors come from the points themselves: the jackknife over groups of
them, where it gives more than the information does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from photonic.calibration import noise as noises
from photonic.calibration.meshmodel import MeshModel, middles
from photonic.calibration.model import Array
from photonic.calibration.noise import Choice, NoiseFit, Term
from photonic.calibration.points import Points
from photonic.calibration.quantised import gaussian_moments
from photonic.calibration.reading import Taken
from photonic.calibration.secondmoments import NoiseData
from photonic.errors import CalibrationError
from photonic.records import NoiseModel

DEFAULT = "as strong as the signal"
# D^2's part of S over S_0: one over the power of the local oscillator in units of the signal's
OSCILLATORS = {DEFAULT: 1.0, "4 times the signal": 0.25, "a quarter of the signal": 4.0, "much stronger": 0.0}
_DIMMED = 0.05  # by how much light may differ from what the source was set to
_GROUPS = 8  # of the jackknife


@dataclass(frozen=True)
class MeshNoise:
    """What the repeats say.

    Attributes:
        fit: of the terms.
        oscillator: how strong the local oscillators are, and how surely.
        s_per_d2: k.
        light: of the dim readings, relative, as it was found; None: there are none.
        dimmed: whether they were of use: not, where light does not follow what the source was set to.
    """

    fit: NoiseFit
    oscillator: Choice
    s_per_d2: float
    light: float | None
    dimmed: bool


def fit_mesh_noise(model: MeshModel, parts: Mapping[str, Sequence[Taken]]) -> MeshNoise:
    """Fits the noise terms to the readings for "noise", and the light of the dim ones to those for "level"."""
    bright = max(_power(item) for item in parts["noise"])
    groups: dict[float, list[Taken]] = {}
    for item in parts["noise"]:
        groups.setdefault(_power(item) / bright, []).append(item)
    at = [(model, Points.of(model.spec, groups.pop(1.0)))]
    light, dimmed = None, False
    levels = parts.get("level", ())
    if groups and levels:
        light, zero = _dim(model, levels)
        relative = _power(levels[0]) / bright
        dimmed = abs(light / relative - 1) < _DIMMED
        if dimmed:
            at.append((replace(model.dimmed(light), zero=zero), Points.of(model.spec, groups[relative])))
    candidates = {name: _joined(at, ratio * model.s_offset) for name, ratio in OSCILLATORS.items()}
    choice = noises.compare({name: noises.fit_noise(data) for name, data in candidates.items()})
    if choice.z[DEFAULT] <= noises.TWO_SIDED:
        choice = choice._replace(best=DEFAULT)
    data = candidates[choice.best]
    fit = _with_spread(noises.fit_noise(data), _spread(data), data)
    return MeshNoise(fit, choice, OSCILLATORS[choice.best] * model.s_offset, light, dimmed)


def brightest(taken: Sequence[Taken]) -> list[Taken]:
    """The readings with the most light."""
    bright = max(_power(item) for item in taken)
    return [item for item in taken if _power(item) == bright]


def rough_noise(model: MeshModel, parts: Mapping[str, Sequence[Taken]]) -> NoiseModel:
    """The noise at full light, with the oscillators of ``model``."""
    points = Points.of(model.spec, brightest(parts["noise"]))
    return noises.fit_noise(_joined([(model, points)], model.s_per_d2)).model


def _power(item: Taken) -> float:
    return float(item.reading.conditions.get("laser_power", 1.0))


def _dim(model: MeshModel, taken: Sequence[Taken]) -> tuple[float, Array]:
    """Light, relative, and zeros (M,) of the readings with less light: nothing else changes."""
    expected = [
        model.results(item.reading.weights.double().numpy(), item.reading.inputs.double().numpy()) * model.gain
        for item in taken
    ]
    x, y = (
        np.concatenate(expected),
        np.concatenate([middles(model.spec, item.counts.double().numpy(), model.transitions) for item in taken]),
    )
    centred = x - x.mean(0)
    light = float((centred * y).sum() / (centred**2).sum())
    return light, np.asarray(y.mean(0) - light * x.mean(0))


def _joined(points: Sequence[tuple[MeshModel, Points]], s_per_d2: float) -> NoiseData:
    """Points of several levels of light together."""
    points = [(replace(model, s_per_d2=s_per_d2), at) for model, at in points]
    model, counts = points[0][0], np.concatenate([at.counts for _, at in points])
    table, ranged = model.transitions, model.spec.count_range if model.spec.adc_bits is not None else None
    moments = gaussian_moments(counts.transpose(0, 2, 1), None if table is None else table[None], ranged)
    results = [at.results(of) for of, at in points]
    expected = np.concatenate([d * of.gain + of.zero for d, (of, _) in zip(results, points, strict=True)])
    return NoiseData(
        counts=counts,
        volts=np.where(moments.identified, moments.mean, expected),
        S=np.concatenate([at.powers(of) for of, at in points]),
        D=np.concatenate(results),
        gain=model.gain,
        count_range=ranged,
        transitions=table,
        volts_se=model.mean_se,
    )


def _spread(data: NoiseData) -> Array:
    """(4, 4) covariance of the terms by the jackknife over groups of points (Efron and Stein, Ann. Stat. 9, 586)."""
    group = np.arange(len(data.counts)) % _GROUPS
    found = []
    for left in range(_GROUPS):
        kept = group != left
        part = replace(data, counts=data.counts[kept], volts=data.volts[kept], S=data.S[kept], D=data.D[kept])
        try:
            terms = noises.fit_noise(part).model
        except CalibrationError:
            continue
        found.append([getattr(terms, name) for name in noises.TERMS])
    if len(found) < _GROUPS // 2:
        return np.zeros((len(noises.TERMS),) * 2)
    centred = np.array(found) - np.mean(found, axis=0)
    return np.asarray((len(found) - 1) / len(found) * centred.T @ centred)


def _with_spread(fit: NoiseFit, spread: Array, data: NoiseData) -> NoiseFit:
    """The fit with the larger of both standard errors of each term."""
    terms = {name: _wider(term, float(np.sqrt(spread[a, a])), data) for a, (name, term) in enumerate(fit.terms.items())}
    larger = np.trace(spread) > np.trace(fit.covariance)
    return fit._replace(terms=terms, covariance=spread if larger else fit.covariance)


def _wider(term: Term, error: float, data: NoiseData) -> Term:
    if error <= term.standard_error:
        return term
    half = noises.TWO_SIDED * error
    low = max(0.0, term.value - half)
    shots = data.counts.shape[0] * data.counts.shape[1]
    needed = None if low > 0 or term.value == 0 else int(np.ceil(shots * (2 * error / term.value) ** 2))
    return Term(term.value, error, low, term.value + half, low > 0, needed)
