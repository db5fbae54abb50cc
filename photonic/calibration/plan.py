"""What a calibration measures, in which order: shots are spent by design, not evenly.

| part | share | for |
| --- | --- | --- |
| allan | 2 x 3 % | one vector over and over, at the beginning and for the verdict: how long averaging helps |
| dark | 2 % | no light: zero of each output, noise floor |
| one row | 1 % | polarity and order of the outputs |
| matrix | 45 % | random codes and inputs: gains, input transfer, programming curves, crosstalk |
| ramp | 12 % | all of the ADC's range, the same D from other subsets of inputs: INL apart from the inputs' curves |
| noise | 17 % | one vector over and over, at S from 0 to 1 and |D| up to the range: V(S, D), what outputs share |
| sine | 4,096 shots | a sine at the ADCs' electrical input, where the chip offers one: effective bits, INL |
| verify | 17 % | the same kinds of points, other ones, later: for the verdict alone |

The parts but the last are in random order, so that drift becomes noise and not a slope, with a reference reading in
between at even intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from photonic.calibration import sinetest
from photonic.calibration.patterns import Patterns
from photonic.calibration.reading import Reading
from photonic.errors import CalibrationError
from photonic.records import ChipSpec

SHARES = {"allan": 0.03, "dark": 0.02, "row": 0.01, "matrix": 0.45, "ramp": 0.12, "noise": 0.17, "verify": 0.17}
_RETEST = SHARES["verify"] + SHARES["allan"]
REFERENCES = 64  # of a whole plan
REFERENCE_SHOTS = 32
LEAST_BUDGET = 200_000
_PER_ELEMENT = 244  # shots for each weight: 1 M for 64 x 64
# samples for each statement of the verification (reference/calibration.md 4: +-10 % of a variance takes 2,400)
POOLED = 7_500
_POINTS = 40
_ALLAN_STEP = 64  # shots
_LEAST_SIZE = 0.1  # of weights in a point's row, over the largest
# of the channels full in one half of the binary inputs, and dark in the other, at most: S from little to nearly all
_LOW_SHARE = 0.3


def default_budget(spec: ChipSpec) -> int:
    """Shots that the default calibration of a chip takes: a million for 64 x 64."""
    return max(LEAST_BUDGET, _PER_ELEMENT * spec.n_outputs * spec.n_inputs, least_budget(spec))


def make_plan(spec: ChipSpec, budget: int, generator: torch.Generator) -> list[Reading]:
    """The readings of a calibration, in order.

    Args:
        spec: of the chip, whose layout gives each weight a code.
        budget: shots, of which the plan takes a few less.
        generator: of patterns and order; owned by the caller.

    Raises:
        CalibrationError: a mesh, or a budget below what the smallest plan takes.
    """
    _check_layout(spec)
    least = least_budget(spec)
    if budget < least:
        raise CalibrationError(
            f"a calibration of {spec.n_outputs} x {spec.n_inputs} takes at least {least:,} shots, found {budget:,}"
        )
    plan = _Planner(spec, budget - REFERENCES * REFERENCE_SHOTS - _sine_shots(spec), generator)
    fit = [*plan.dark(), *plan.rows(), *plan.matrix(), *plan.ramps(), *plan.noise()]
    order = torch.randperm(len(fit), generator=generator).tolist()
    reference = plan.reference()
    shuffled = plan.sine(reference) + plan.allan(reference, 0) + [fit[index] for index in order]
    later = [*plan.verify(), *plan.allan(reference, 1)]
    return [*_with_references(shuffled, reference, 0, REFERENCES * 3 // 4), *_with_references(later, reference, 1)]


def make_retest(spec: ChipSpec, budget: int, generator: torch.Generator) -> list[Reading]:
    """The readings that test a record later: points, and one vector over and over; references in between.

    Raises:
        CalibrationError: as ``make_plan``.
    """
    _check_layout(spec)
    plan = _Planner(spec, int((budget - REFERENCES // 4 * REFERENCE_SHOTS) / _RETEST), generator)
    least = least_retest(spec)
    if budget < least:
        raise CalibrationError(
            f"a test of {spec.n_outputs} x {spec.n_inputs} takes at least {least:,} shots, found {budget:,}"
        )
    reference = plan.reference()
    return list(_with_references([*plan.verify(), *plan.allan(reference, 1)], reference, 1))


def _check_layout(spec: ChipSpec) -> None:
    if spec.layout != "elementwise":
        raise CalibrationError(
            f"chip {spec.chip_id} has layout {spec.layout!r}; this version calibrates chips with a code for each weight"
        )
    if spec.coupling != "dc":
        raise CalibrationError(
            f"chip {spec.chip_id} is {spec.coupling.upper()}-coupled: its counts follow what was measured before; "
            "let the driver measure plus and minus in turn, and state dc for their difference"
        )


def least_budget(spec: ChipSpec) -> int:
    """What every part needs at least: enough settings for every curve, and pooled samples for the verdict."""
    settings = 4 * spec.n_inputs * 2 * spec.n_inputs / SHARES["matrix"]
    points = 24 * _repeats(spec) / SHARES["verify"]
    return math.ceil(max(settings, points)) + REFERENCES * REFERENCE_SHOTS + _sine_shots(spec)


def _sine_shots(spec: ChipSpec) -> int:
    return sinetest.SHOTS if sinetest.offered(spec) else 0


def least_retest(spec: ChipSpec) -> int:
    """Shots that a test of a record takes at least; the fewer the outputs, the more of each."""
    return math.ceil(24 * _repeats(spec) / SHARES["verify"] * _RETEST) + REFERENCES // 4 * REFERENCE_SHOTS


def _repeats(spec: ChipSpec) -> int:
    """Of a verification's point, so that all outputs together give enough samples."""
    # outputs that share intensity noise are not that many samples, so there is a least number of repeats
    return max(220, math.ceil(POOLED / spec.n_outputs))


def _with_references(
    readings: Sequence[Reading], reference: Reading, block: int, count: int = REFERENCES // 4
) -> Iterator[Reading]:
    """The readings with references at even intervals, the first before all."""
    every = max(1, math.ceil(len(readings) / count))
    for index, reading in enumerate(readings):
        if index % every == 0:
            yield Reading("reference", reference.weights, reference.inputs, reference.conditions, block)
        yield reading


def _powers(spec: ChipSpec) -> tuple[float, ...] | None:
    """The laser powers that a chip offers; None: it has one.

    Raises:
        CalibrationError: it offers names instead of numbers, or nothing but darkness.
    """
    offered = spec.conditions.get("laser_power")
    if offered is None:
        return None
    found = tuple(value for value in offered if not isinstance(value, str))
    if len(found) < len(offered) or max(found, default=0.0) <= 0:
        raise CalibrationError(
            f"chip {spec.chip_id} offers laser_power {tuple(offered)}; expected numbers, of which 0 is dark and one is "
            "above"
        )
    return found


class _Planner:
    """Makes the readings of each part."""

    def __init__(self, spec: ChipSpec, budget: int, generator: torch.Generator) -> None:
        self._spec, self._budget = spec, budget
        self._patterns = Patterns(spec, generator)
        self._m, self._n = spec.n_outputs, spec.n_inputs
        lit = _powers(spec)
        power: dict[str, float | str] = {} if lit is None else {"laser_power": max(lit)}
        self._lit: Mapping[str, float | str] = power | sinetest.light_only(spec)
        self._dark_offered = lit is not None and 0.0 in lit

    def _shots(self, part: str) -> int:
        return int(self._budget * SHARES[part])

    def _reading(self, part: str, weights: Tensor, inputs: Tensor, block: int = 0, dark: bool = False) -> Reading:
        conditions = {**self._lit, "laser_power": 0.0} if dark else self._lit
        return Reading(part, weights.flatten(), inputs, conditions, block)

    def reference(self) -> Reading:
        """A vector whose results lie all over the ADC's range."""
        inputs = self._patterns.inputs_subsets(1, torch.tensor([0.5], dtype=torch.float64))
        weights = self._patterns.weights_with_sum(self._patterns.results(self._m, 0.9), inputs[0])
        return self._reading("reference", weights, inputs.expand(REFERENCE_SHOTS, -1).contiguous())

    def allan(self, reference: Reading, block: int) -> list[Reading]:
        """The reference vector without a pause."""
        # averages of a power of two of readings, of which the longest is a fiftieth at most, fit in without a rest
        shots = self._shots("allan")
        if shots > _ALLAN_STEP:
            shots -= shots % _ALLAN_STEP
        inputs = reference.inputs[:1].expand(shots, -1).contiguous()
        return [Reading("allan", reference.weights, inputs, reference.conditions, block)]

    def sine(self, reference: Reading) -> list[Reading]:
        """A sine at the ADCs in place of light, where the chip offers one."""
        if not sinetest.offered(self._spec):
            return []
        inputs = torch.full((sinetest.SHOTS, self._n), self._spec.dark_code, dtype=self._spec.code_dtype)
        conditions = {**self._lit, sinetest.CONDITION: sinetest.ON} | (
            {"laser_power": 0.0} if self._dark_offered else {}
        )
        return [Reading(sinetest.PURPOSE, reference.weights, inputs, conditions, 0)]

    def dark(self) -> Iterator[Reading]:
        """No light, in 8 readings over the sweep; nothing where the source cannot be switched off."""
        if not self._dark_offered:
            return
        for _ in range(8):
            inputs = self._patterns.inputs_binary(self._shots("dark") // 8)
            yield self._reading("dark", self._patterns.weights_uniform(), inputs, dark=True)

    def rows(self) -> Iterator[Reading]:
        """One row at a time has a result, the others none."""
        result = 0.9 * self._spec.adc_full_scale
        shots = max(2, self._shots("row") // self._m)
        for row in range(self._m):
            results = torch.zeros(self._m, dtype=torch.float64)
            results[row] = min(0.95, 4 * result)
            share = torch.full((shots,), result / float(results[row]), dtype=torch.float64)
            inputs = self._patterns.inputs_subsets(shots, share)
            yield self._reading("row", self._patterns.weights_with_sum(results), inputs)

    def matrix(self) -> Iterator[Reading]:
        """Random codes; two thirds of the inputs 0 or 1, which says most of a weight, the rest all over.

        Rows are balanced where weights have signs, and half of the shots have most of the channels full.
        """
        draw, balanced = self._patterns, self._spec.signed_weights
        share = draw.share_in_range(balanced)
        each = max(2 * self._n, min(512, 8 * self._n))
        third = each // 3
        for _ in range(max(4 * self._n, self._shots("matrix") // each)):
            if balanced:
                low = min(share, _LOW_SHARE)
                inputs = [draw.inputs_binary(third, low), draw.inputs_binary(each - 2 * third, 1 - low)]
                weights = draw.weights_balanced()
            else:
                inputs, weights = [draw.inputs_binary(each - third, share)], draw.weights_uniform()
            inputs.append(draw.inputs_uniform(third, min(1.0, 2 * share)))
            yield self._reading("matrix", weights, torch.cat(inputs))

    def ramps(self) -> Iterator[Reading]:
        """Results over the whole range and a little beyond, by subsets of the inputs; rows of either sign."""
        each, edge = 256, 1.1 * self._spec.adc_full_scale
        both = self._spec.signed_weights
        for _ in range(max(6, self._shots("ramp") // each)):
            signs = torch.where(self._patterns.uniform(self._m, -1 if both else 0, 1) < 0, -1.0, 1.0)
            # a row's weights are one half on average
            share = self._patterns.uniform(each, 0.0, min(1.0, 2 * edge))
            inputs = self._patterns.inputs_subsets(each, share)
            yield self._reading("ramp", self._patterns.weights_one_sided(signs), inputs)

    def noise(self) -> Iterator[Reading]:
        """One vector many times: S at five levels, the rows' results all over the range."""
        each = 512
        for index in range(max(15, self._shots("noise") // each)):
            yield self._point("noise", (0.0, 0.25, 0.5, 1.0, 1.0)[index % 5], each, 0)

    def verify(self) -> Iterator[Reading]:
        """Points of their own: half of them built for their results, half all random."""
        shots, repeats = self._shots("verify"), _repeats(self._spec)
        points = max(24, min(_POINTS, shots // repeats))
        for index in range(points):
            if index % 2:
                share = 1.0 if self._spec.signed_weights else 2 * self._patterns.share_in_range(False)
                inputs = self._patterns.inputs_uniform(1, share).expand(shots // points, -1).contiguous()
                yield self._reading("verify", self._patterns.weights_uniform(), inputs, 1)
            else:
                yield self._point("verify", index / max(1, points - 2), shots // points, 1)

    def _point(self, part: str, share: float, repeats: int, block: int) -> Reading:
        """One vector with S = ``share`` and results all over what that much light can give.

        By large weights in half of the rows and by smaller ones in the others: noise may follow the light of the inputs
        or that of the weights.
        """
        inputs = self._patterns.inputs_subsets(1, torch.tensor([share], dtype=torch.float64))
        size = self._patterns.uniform(self._m, -0.8, 1.0)
        size = torch.where(size < _LEAST_SIZE, 1.0, size)
        weights = self._patterns.weights_with_sum(self._patterns.results(self._m), inputs[0], size)
        return self._reading(part, weights, inputs.expand(repeats, -1).contiguous(), block)
