"""A small chip that does as it is told, plans for it, and the same plans on a simulated one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import photonic
from photonic.backends.chip import Chip, Conditions, Measurement
from photonic.calibration.raw import RawStore
from photonic.calibration.reading import Reading, Taken
from photonic.records import ChipSpec, Response

M, N, SHOTS = 4, 6, 24
SPEC = ChipSpec(
    chip_id="small",
    n_outputs=M,
    n_inputs=N,
    response=Response(counts_per_d=(400.0,)),
    conditions={"laser_power": (0.0, 1.0)},
)
SIM = f"sim:typical?n_inputs={N}&n_outputs={M}&laser_drift=0.02&gain_drift=0.01&drift_s=1e-5&device=7"


class Small(Chip):
    """Linear, and as it is told: ``answers`` maps the number of a call to what it gives or raises."""

    def __init__(self, spec: ChipSpec = SPEC, answers: dict[int, Any] | None = None, clock: Sequence[Any] = ()) -> None:
        super().__init__(spec)
        self.answers, self.clock, self.calls = answers or {}, clock, 0
        self.seen: list[Conditions] = []

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Measurement:
        call, self.calls = self.calls, self.calls + 1
        self.seen.append(conditions)
        tiles = weights.double().unflatten(-1, (M, N)) / 127
        counts = 400 * torch.einsum("rcmn,cbn->rcbm", tiles, inputs.double() / 255) / N
        answer = self.answers.get(call, self.answers.get(-1))
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            counts = answer(self, counts)
        counts = counts if self.spec.adc_bits is None else counts.round().clamp(-128, 127).to(torch.int16)
        if call < len(self.clock) and self.clock[call] is not None:
            return Measurement(counts, telemetry={"clock_s": torch.tensor(self.clock[call]), "tap": torch.ones(2)})
        return Measurement(counts, telemetry={"tap": torch.tensor([[1.0, 2.0, 6.0]])})


def plan_for(readings: int = 12, conditions: dict[str, float | str] | None = None, seed: int = 0) -> list[Reading]:
    """Readings of random codes, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)

    def codes(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator).to(torch.int16)

    return [
        Reading("matrix", codes(-40, 41, M * N), codes(0, 256, SHOTS, N), conditions or {}, 0) for _ in range(readings)
    ]


def new_store(folder: Path, plan: Sequence[Reading], spec: ChipSpec = SPEC) -> RawStore:
    """Raw data of the plan, with no reading yet."""
    return RawStore.create(folder, spec, plan, seed=0, budget=10_000)


def counts_of(taken: Sequence[Taken]) -> Tensor:
    """Counts of all readings."""
    return torch.stack([item.counts for item in taken])


def simulated() -> Chip:
    """A chip with noise and drift, at the beginning of both."""
    return photonic.open_chip(SIM, seed=3)


def uninterrupted(plan: Sequence[Reading]) -> Tensor:
    """Counts of a simulated chip that measures the plan without a sweep."""
    chip = simulated()
    return torch.stack([chip.measure(r.weights[None, None], r.inputs[None], r.conditions).counts[0, 0] for r in plan])
