"""What a calibration of a mesh measures: a few programs, each with many input vectors.

| part | share | for |
| --- | --- | --- |
| allan | 2 x 3 % | one vector over and over, at the beginning and for the verdict |
| matrix | 46 % | all programs with random inputs: their matrices, zeros, input transfer; the same readings show INL |
| level | 3 % | the same with less light, where the chip has it: zeros and gain there |
| noise | 12 % | one vector over and over, a third of them with less light: V(S, D), what outputs share |
| verify | 30 % | the same programs with other vectors, later: for the verdict alone |

Programs are the data sheet's decomposition of random matrices, and of those that the caller gives. Intensity noise is
most of a homodyne receiver's noise at large results and all outputs share it, so that their repeats do not add up: a
verdict takes more repeats than that of a chip with a code for each weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from photonic.backends import encoding
from photonic.calibration.meshmodel import check_mesh, programmed_matrices
from photonic.calibration.plan import REFERENCE_SHOTS, REFERENCES
from photonic.calibration.reading import Reading
from photonic.errors import CalibrationError, ShapeError
from photonic.physics import modulator
from photonic.records import ChipSpec

SHARES = {"allan": 0.03, "matrix": 0.46, "level": 0.03, "noise": 0.12, "verify": 0.30}
_MOST_PROGRAMS, _LEAST_PROGRAMS = 6, 4
_PARTS = 4  # of a program's matrix readings, over the whole sweep
# shots of a program for each unknown of an output's row: a mean is then known to 1/22 of a shot's standard deviation
_PER_UNKNOWN, _LEAST_PER_UNKNOWN = 512, 32
# of the ADC's range, that nominal results stay in: the rest is for gains, zeros and errors that are not known yet; of
# repeated vectors, and of random ones, where no count may be at a rail
_USED, _USED_AT_RANDOM = 0.75, 0.6
_POINTS, _LEAST_POINTS, _LEAST_REPEATS = 32, 12, 600
_NOISE_REPEATS = 400


def make_mesh_plan(
    spec: ChipSpec, budget: int, generator: torch.Generator, matrices: Tensor | None = None
) -> list[Reading]:
    """The readings of a mesh's calibration, in order.

    Args:
        spec: of the chip.
        budget: shots, of which the plan takes a few less.
        generator: of programs, patterns and order; owned by the caller.
        matrices: (K, M, N) that are programmed besides random ones.

    Raises:
        CalibrationError: a mesh that cannot be programmed, or a budget below what the smallest plan takes.
        ShapeError: matrices of another size.
    """
    check_mesh(spec)
    given = _checked(spec, matrices)
    least = least_mesh_budget(spec, len(given))
    if budget < least:
        raise CalibrationError(
            f"a calibration of a mesh of {spec.n_outputs} x {spec.n_inputs} with {len(given)} matrices of the caller's "
            f"takes at least {least:,} shots, found {budget:,}"
        )
    shots = budget - REFERENCES * REFERENCE_SHOTS
    each = _PER_UNKNOWN * (2 * spec.n_inputs + 1)
    wanted = min(_MOST_PROGRAMS, max(_LEAST_PROGRAMS, int(shots * SHARES["matrix"]) // each))
    size = max(0, wanted - len(given)), spec.n_outputs, spec.n_inputs
    drawn = torch.randn(size, generator=generator, dtype=torch.float64)
    plan = _Planner.of(spec, shots, generator, programs_of(spec, torch.cat([given, drawn])))
    fit = [*plan.matrix(), *plan.level(), *plan.noise()]
    order = torch.randperm(len(fit), generator=generator).tolist()
    reference = plan.reference()
    first = [plan.allan(reference, 0), *(fit[index] for index in order)]
    later = [*plan.verify(), plan.allan(reference, 1)]
    return [*_between(first, reference, 0, REFERENCES * 3 // 4), *_between(later, reference, 1, REFERENCES // 4)]


def make_mesh_retest(spec: ChipSpec, budget: int, generator: torch.Generator, programs: np.ndarray) -> list[Reading]:
    """The readings that test a record of a mesh later, of the programs (K, P) that it holds.

    Raises:
        CalibrationError: as ``make_mesh_plan``.
    """
    check_mesh(spec)
    references, part = REFERENCES // 4 * REFERENCE_SHOTS, SHARES["verify"] + SHARES["allan"]
    least = math.ceil(_LEAST_POINTS * _LEAST_REPEATS / SHARES["verify"] * part) + references
    if budget < least:
        raise CalibrationError(
            f"a test of a mesh of {spec.n_outputs} x {spec.n_inputs} takes at least {least:,} shots, found {budget:,}"
        )
    codes = torch.tensor(programs).to(spec.code_dtype)
    plan = _Planner.of(spec, int((budget - references) / part), generator, codes)
    reference = plan.reference()
    return list(_between([*plan.verify(), plan.allan(reference, 1)], reference, 1, REFERENCES // 4))


def least_mesh_budget(spec: ChipSpec, given: int = 0) -> int:
    """What every part needs at least, with this many matrices of the caller's."""
    programs = max(_LEAST_PROGRAMS, given) * _LEAST_PER_UNKNOWN * (2 * spec.n_inputs + 1) / SHARES["matrix"]
    points = _LEAST_POINTS * _LEAST_REPEATS / SHARES["verify"]
    return math.ceil(max(programs, points)) + REFERENCES * REFERENCE_SHOTS


def programs_of(spec: ChipSpec, matrices: Tensor) -> Tensor:
    """Drive codes (K, P) of matrices (K, M, N), as a backend programs them."""
    return encoding.encode_weight(matrices, spec, spec.response, per_row=False).codes[0]


def dim_light(spec: ChipSpec) -> float | None:
    """The least laser power of those from a tenth to 0.6 of the largest; None: the chip has none."""
    powers = [float(value) for value in spec.conditions.get("laser_power", ())]
    return min((value for value in powers if 0.1 <= value / max(powers) <= 0.6), default=None)


def full_light(spec: ChipSpec) -> float | None:
    """The largest laser power; None: it cannot be set."""
    return max((float(value) for value in spec.conditions.get("laser_power", ())), default=None)


def _checked(spec: ChipSpec, matrices: Tensor | None) -> Tensor:
    empty = torch.empty(0, spec.n_outputs, spec.n_inputs, dtype=torch.float64)
    given = empty if matrices is None else matrices.detach().to("cpu", torch.float64)
    if given.shape[1:] != empty.shape[1:]:
        raise ShapeError(
            f"matrices must be (K, {spec.n_outputs}, {spec.n_inputs}), found {tuple(given.shape)}; pad them with zeros"
        )
    return given


def _between(readings: Sequence[Reading], reference: Reading, block: int, count: int) -> Iterator[Reading]:
    """The readings of a block of time, with references at even intervals, the first before all."""
    every = max(1, math.ceil(len(readings) / count))
    for index, reading in enumerate(readings):
        if index % every == 0:
            yield Reading("reference", reference.weights, reference.inputs, reference.conditions, block)
        yield reading


@dataclass(frozen=True)
class _Planner:
    """Makes the readings of each part.

    Attributes:
        spec: of the chip.
        budget: shots, of which each part has its share.
        generator: owned by the caller.
        codes: (K, P) of the programs.
        matrices: (K, M, N) nominal, largest singular value 1.
    """

    spec: ChipSpec
    budget: int
    generator: torch.Generator
    codes: Tensor
    matrices: Tensor

    @classmethod
    def of(cls, spec: ChipSpec, budget: int, generator: torch.Generator, codes: Tensor) -> _Planner:
        matrices = torch.from_numpy(programmed_matrices(spec, codes.double().numpy()))
        return cls(spec, budget, generator, codes, matrices)

    def reference(self) -> Reading:
        """A vector of the first program, one result of which is large."""
        return self._reading("reference", 0, self._vector(0, 0.9).expand(REFERENCE_SHOTS, -1))

    def allan(self, reference: Reading, block: int) -> Reading:
        """The reference vector without a pause."""
        shots = 2 ** int(math.log2(self._shots("allan")))
        inputs = reference.inputs[:1].expand(shots, -1).contiguous()
        return Reading("allan", reference.weights, inputs, reference.conditions, block)

    def matrix(self) -> Iterator[Reading]:
        """Each program in several readings."""
        each = self._shots("matrix") // (len(self.codes) * _PARTS)
        for _ in range(_PARTS):
            for k in range(len(self.codes)):
                yield self._reading("matrix", k, self._random(k, each))

    def level(self) -> Iterator[Reading]:
        """Two programs with less light."""
        if dim_light(self.spec) is None:
            return
        for k in range(min(2, len(self.codes))):
            yield self._reading("level", k, self._random(k, self._shots("level") // 2), dim=True)

    def noise(self) -> Iterator[Reading]:
        """One vector many times: results from none to the range, every third with less light."""
        dim = dim_light(self.spec) is not None
        for index in range(max(_LEAST_POINTS, self._shots("noise") // _NOISE_REPEATS)):
            k, reach = index % len(self.codes), (0.0, 0.4, 0.7, 0.9, 1.0)[index % 5]
            inputs = self._vector(k, reach).expand(_NOISE_REPEATS, -1)
            yield self._reading("noise", k, inputs, dim=dim and index % 3 == 2)

    def verify(self) -> Iterator[Reading]:
        """Points of their own: results from none to the range."""
        shots = self._shots("verify")
        points = max(_LEAST_POINTS, min(_POINTS, shots // _LEAST_REPEATS))
        for index in range(points):
            k = index % len(self.codes)
            inputs = self._vector(k, index / (points - 1)).expand(shots // points, -1)
            yield self._reading("verify", k, inputs, block=1)

    def _shots(self, part: str) -> int:
        return int(self.budget * SHARES[part])

    def _reading(self, part: str, k: int, values: Tensor, block: int = 0, dim: bool = False) -> Reading:
        light = dim_light(self.spec) if dim else full_light(self.spec)
        conditions: Mapping[str, float | str] = {} if light is None else {"laser_power": light}
        low, high = self.spec.input_code_range
        codes = modulator.codes(self.spec.response.inputs, values.contiguous()).clamp_(low, high)
        codes = codes if self.spec.input_bits is None else codes.round_()
        return Reading(part, self.codes[k], codes.to(self.spec.code_dtype), conditions, block)

    def _random(self, k: int, shots: int) -> Tensor:
        """Fields (B, N) of codes drawn evenly, each vector made smaller where a result would leave the range."""
        low, high = self.spec.input_code_range
        drawn = torch.rand(shots, self.spec.n_inputs, generator=self.generator, dtype=torch.float64)
        fields = modulator.levels(self.spec.response.inputs, drawn * (high - low) + low)
        edge = _USED_AT_RANDOM * self.spec.adc_full_scale
        return fields * (edge / self._largest(k, fields)).clamp(max=1.0)

    def _vector(self, k: int, reach: float) -> Tensor:
        """One random vector (1, N) of fields, its largest result at ``reach`` of the range, or what light can give.

        Signs are mostly those of one row, so that every output has its turn with a large result of either sign.
        """
        fields = self._random(k, 1)
        row = int(torch.randint(self.spec.n_outputs, (1,), generator=self.generator))
        aligned = torch.rand(fields.shape, generator=self.generator) < 0.8
        sign = torch.rand(1, generator=self.generator).sub(0.5).sign() * self.matrices[k, row].sign()
        if self.spec.signed_inputs:
            fields = torch.where(aligned, fields.abs() * sign, fields)
        scale = reach * _USED * self.spec.adc_full_scale / self._largest(k, fields)
        return fields * scale.clamp(max=1 / float(fields.abs().amax().clamp(min=1e-9)))

    def _largest(self, k: int, fields: Tensor) -> Tensor:
        """(B, 1) largest |D| of fields (B, N)."""
        return (fields @ self.matrices[k].T).abs().amax(dim=1, keepdim=True).clamp(min=1e-9)
