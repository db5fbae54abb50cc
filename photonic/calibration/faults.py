"""What chips do that the model has no parameter for, each as the change of a mean count that it would make.

| fault | change of D, up to a factor |
| --- | --- |
| saturating detector | S D: each arm gives P - P^2 / P_0, and the arms' difference is D |
| results compressed | D^3, whatever the light |
| load | D times the light that weights let through, as of a current that drops along its wires |
| input-dependent crosstalk | sum_j w_ij T_j (T_{j-1} + T_{j+1}) / N: light heats the next channel's device |
| weights move together | (mean of all weights) sum_j T_j / N |
| memory of earlier settings | dD / dcode times the mean code of settings before, forgotten in 1, 5 or 25 of them |
| hysteresis of weights | D with the codes of the setting before |
| memory of earlier shots | D times the light of shots before, forgotten in 3 or 50 of them |
| slow receiver | D of the shot before |
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from photonic.calibration.model import Array, ChipModel
from photonic.calibration.reading import Taken

_SETTINGS, _SHOTS = (1.0, 5.0, 25.0), (3.0, 50.0)
_STEP = 0.02  # of the range of codes, by which a curve's slope is taken

NAMES = (
    "saturating detector",
    "results compressed",
    "load",
    "input-dependent crosstalk",
    "weights move together",
    *("memory of earlier settings",) * len(_SETTINGS),
    "hysteresis of weights",
    *("memory of earlier shots",) * len(_SHOTS),
    "slow receiver",
)
EXPLAINED = {
    "saturating detector": "gain falls as total power grows",
    "results compressed": "gain falls as the result grows",
    "load": "gain falls as weighted power grows",
    "input-dependent crosstalk": "a channel's light depends on the channels beside it",
    "weights move together": "every weight moves with the mean of all",
    "memory of earlier settings": "weights depend on the codes before",
    "hysteresis of weights": "weights keep a part of the codes before",
    "memory of earlier shots": "gain depends on the light before",
    "slow receiver": "a count keeps a part of the shot before",
}


@dataclass(frozen=True)
class Seen:
    """One reading as the faults see it.

    Attributes:
        taken: what was measured.
        codes: (M, N).
        before: (M, N) codes of the setting before.
        warmth: mean codes before, 0 .. 1, by time constant, less their mean over the sweep.
    """

    taken: Taken
    codes: Array
    before: Array
    warmth: Array


def in_order(model: ChipModel, taken: Sequence[Taken]) -> Iterator[Seen]:
    """Readings in the order in which they were taken, with what they might remember."""
    shape = model.spec.n_outputs, model.spec.n_inputs
    low, high = model.spec.weight_code_range
    codes = [item.reading.weights.double().numpy().reshape(shape) for item in taken]
    loads = np.array([(each.mean() - low) / (high - low) for each in codes])
    past = np.stack([_past(loads, each) for each in _SETTINGS], axis=1)
    past -= past.mean(0)
    for k, item in enumerate(taken):
        yield Seen(item, codes[k], codes[max(0, k - 1)], past[k])


def changes(model: ChipModel, seen: Seen) -> tuple[Array, Array, Array]:
    """D (B, M), S (B, M), and changes of D by each of ``NAMES`` (K, B, M), each fault of size 1."""
    n, inputs = model.spec.n_inputs, seen.taken.reading.inputs.double().numpy()
    lit = float(seen.taken.reading.conditions.get("laser_power", 1.0) != 0)
    light, weights = lit * model.inputs.levels(inputs) * model.power, model.weights(seen.codes)
    d, s = light @ weights.T / n, lit * model.powers(seen.codes, inputs)
    around = np.zeros_like(light)
    around[:, 1:] += light[:, :-1]
    around[:, :-1] += light[:, 1:]
    mean = light.mean(1)
    moved = light @ _slope(model, seen.codes).T / n
    found = [s * d, d**3, d * (light @ np.abs(weights).T) / n, (light * around) @ weights.T / n]
    found.append(np.broadcast_to((mean * weights.mean())[:, None], d.shape))
    found += [moved * warmth for warmth in seen.warmth]
    found.append(light @ model.weights(seen.before).T / n)
    found += [d * _past(mean, each)[:, None] for each in _SHOTS]
    found.append(np.concatenate([d[:1], d[:-1]]))
    return d, s, np.stack(found)


def _past(values: Array, length: float) -> Array:
    """(n,) exponential average of the values before each, which begins at their mean."""
    keep = math.exp(-1 / length)
    start = values.mean()
    filtered: Array = lfilter([1 - keep], [1, -keep], values - start) + start
    return np.concatenate([[start], filtered[:-1]])


def _slope(model: ChipModel, codes: Array) -> Array:
    """(M, N) change of all weights where all codes move by the whole range, to first order."""
    low, high = model.spec.weight_code_range
    above, below = (np.clip(codes + side * _STEP * (high - low), low, high) for side in (1, -1))
    found: Array = (model.weights(above) - model.weights(below)) / (2 * _STEP)
    return found
