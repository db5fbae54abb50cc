"""Says what moved on a chip since its record was made, from the points of a test; see ``moves`` and ``pursuit``.

Means are explained first. Where all outputs changed by one factor, variances tell whether it was the light (then
thermal noise stays) or what comes behind the detectors (then all noise goes along). What is left of the variances is
explained by terms of the noise, or by the noise of one output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.checks import MEAN_LSB, MEAN_SIGMA
from photonic.calibration.model import Array
from photonic.calibration.moves import GAIN, Family, every_output, relative
from photonic.calibration.pooled import NOTHING, Sample
from photonic.calibration.predicted import Prediction
from photonic.calibration.pursuit import Left, explain
from photonic.calibration.ratios import RATIO
from photonic.records import NoiseModel, Suspect

Flags = NDArray[np.bool_]

_ROOM = 4.0  # standard deviations from a rail
_KNOWN = 0.02  # counts, to which a record may know a mean
_DECIDED = 9.0  # of chi-square, between light and gain
_LEAST_VARIANCE = 0.2  # counts^2: with less, where a mean lies between two codes decides it
_MOST_LEFT = 30.0  # of the means, over their variance: beyond, variances are not where they are predicted
_SAID = {
    "thermal": "thermal noise",
    "shot": "shot noise",
    "rin": "intensity noise",
    "common_mode": "noise that balancing lets through",
}


@dataclass(frozen=True)
class Retested:
    """The points of a test, and what a record says of them.

    Attributes:
        prediction: of them.
        families: what may have moved.
        d: (P, M) D.
        s: (P, M) S.
        gain: (M,) counts per D.
        noise: of a shot.
        own_noise: (2, M) thermal and shot noise of each output, relative to those of all; None: alike.
    """

    prediction: Prediction
    families: Sequence[Family]
    d: Array
    s: Array
    gain: Array
    noise: NoiseModel
    own_noise: Array | None = None

    @property
    def terms(self) -> Mapping[str, Array]:
        """(P, M) variance of each term of the noise, counts^2, per unit of its parameter."""
        square, (thermal, shot) = self.gain**2, (1.0, 1.0) if self.own_noise is None else self.own_noise
        return {
            "thermal": np.broadcast_to(square * thermal, self.d.shape),
            "shot": square * shot * self.s,
            "rin": square * self.d**2,
            "common_mode": square * self.s**2,
        }


def moved(given: Retested) -> tuple[Suspect, ...]:
    """What moved; nothing where the record explains means and variances."""
    sample = Sample(given.prediction)
    clear = _clear(given.prediction)
    means = explain(_means(sample, clear), given.families)
    named, expected = list(means.suspects), sample.moments.variance
    at = next((k for k, each in enumerate(named) if each.name == GAIN), None)
    if at is not None:
        named[at], expected = _light_or_gain(given, sample, clear, named[at], means.sizes[at])
    if means.left > _MOST_LEFT:
        return tuple(named)
    still = [i for i in range(clear.shape[1]) if f"gain of output {i}" not in {each.name for each in named}]
    if not still:
        return tuple(named)
    left = _variances(sample, expected, clear & np.isin(np.arange(clear.shape[1]), still))
    if named:  # S is not quite what was predicted, either
        left = replace(left, margin=2 * left.margin)
    return (*named, *explain(left, _noises(given, expected, still)).suspects)


def _clear(given: Prediction) -> Flags:
    """(P, M) where no count is at a rail, nor is predicted to be."""
    if given.count_range is None:
        return np.ones(given.volts.shape, dtype=np.bool_)
    low, high = given.count_range
    room = np.minimum(given.volts - low, high - given.volts)
    inside: Flags = (room > _ROOM * given.sigma + 1) & (given.counts.min(1) > low) & (given.counts.max(1) < high)
    return inside


def _means(sample: Sample, clear: Flags) -> Left:
    given = sample.given
    variance = np.maximum(sample.variances, sample.moments.variance) / given.counts.shape[1] + _KNOWN**2
    margin = np.maximum(MEAN_LSB, MEAN_SIGMA * given.sigma)
    return Left(sample.means - sample.moments.mean, clear / variance, margin)


def _variances(sample: Sample, expected: Array, clear: Flags) -> Left:
    freedom = sample.blocks * (sample.length - 1)
    spread = 2 * expected**2 / freedom + np.maximum(sample.moments.excess, 0.0) / (sample.blocks * sample.length)
    seen = clear & (expected > _LEAST_VARIANCE)
    return Left(sample.variances - expected, seen / np.maximum(spread, NOTHING), RATIO * np.maximum(expected, NOTHING))


def _light_or_gain(
    given: Retested, sample: Sample, clear: Flags, named: Suspect, change: float
) -> tuple[Suspect, Array]:
    """Which of them moved, if the variances tell, and the variances that it makes."""
    terms, factor = (
        {name: getattr(given.noise, name) * each for name, each in given.terms.items()},
        max(1 + change, 0.0),
    )
    dimmed = terms["shot"] * (factor - 1) + (terms["rin"] + terms["common_mode"]) * (factor**2 - 1)
    expected = {
        "light": dimmed,
        "gain": (terms["thermal"] * (factor**2 - 1) + dimmed + terms["shot"] * factor * change),
    }
    found = {name: np.maximum(sample.moments.variance + each, NOTHING) for name, each in expected.items()}
    sides = {name: _variances(sample, each, clear) for name, each in found.items()}
    misfit = {name: float((each.weight * each.rest**2).sum()) for name, each in sides.items()}
    likely = min(misfit, key=lambda name: misfit[name])
    if abs(misfit["light"] - misfit["gain"]) < _DECIDED:
        return named.model_copy(update={"name": f"{GAIN}, or their light"}), found[likely]
    if likely == "light":
        named = named.model_copy(update={"name": "light of all inputs", "note": f"{named.note}; thermal noise stays"})
    return named, found[likely]


def _noises(given: Retested, expected: Array, still: Sequence[int]) -> list[Family]:
    """Each term of the noise, all of it, and that of each output whose gain did not move."""
    told = [relative(_SAID[name], getattr(given.noise, name), "D^2") for name in given.terms]
    own = [relative(f"noise of output {i}") for i in still]
    return [
        every_output(told, np.stack(list(given.terms.values()))[:, None]),
        every_output([relative("noise of all outputs")], expected[None, None]),
        Family(own, expected.T[still][:, None, :, None], np.array(still)[:, None]),
    ]
