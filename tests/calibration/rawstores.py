"""Raw data of a small chip: a plan, what it answers, and the store that is filled with it."""

from __future__ import annotations

from pathlib import Path

import torch

from photonic.calibration.raw import Note, RawStore
from photonic.calibration.reading import Reading, Taken
from photonic.records import ChipSpec, Response

M, N = 3, 4
SPEC = ChipSpec(
    chip_id="small", n_outputs=M, n_inputs=N, response=Response(counts_per_d=(512.0,)), conditions={"gain": (0.1, 2.0)}
)
FLOATS = SPEC.model_copy(update={"weight_bits": None, "input_bits": None, "adc_bits": None})


def plan_for(spec: ChipSpec = SPEC, readings: int = 7, shots: int = 5) -> list[Reading]:
    """Readings of random codes, the same for the same chip."""
    generator = torch.Generator().manual_seed(3)

    def codes(*shape: int) -> torch.Tensor:
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64) * 127
        return drawn if spec.weight_bits is None else drawn.round().to(spec.code_dtype)

    return [
        Reading(("matrix", "noise")[k % 2], -codes(spec.drives), codes(shots, spec.n_inputs), {"gain": 0.1}, k // 4)
        for k in range(readings)
    ]


def answer(reading: Reading, index: int, spec: ChipSpec = SPEC) -> Taken:
    """What the chip gave to one reading, the same for the same index."""
    noise = torch.Generator().manual_seed(index)
    counts = 40 * torch.randn(len(reading.inputs), spec.n_outputs, generator=noise, dtype=torch.float64)
    counts = counts.round().clamp(-128, 127).to(spec.count_dtype) if spec.adc_bits else counts
    return Taken(reading, counts, index / 3, {"kelvin": 0.1 * index}, 1.7e9 + index, 0.01)


def filled(folder: Path, readings: int = 7, planned: int = 7, spec: ChipSpec = SPEC) -> RawStore:
    """An open store with the first readings of its plan."""
    plan = plan_for(spec, planned)
    store = RawStore.create(folder, spec, plan, seed=1, budget=100)
    for index, reading in enumerate(plan[:readings]):
        store.append(answer(reading, index, spec), Note("", {"calls": index}))
    return store


def same(a: Taken, b: Taken) -> bool:
    """Whether nothing of two readings differs."""
    pairs = [(a.counts, b.counts), (a.reading.weights, b.reading.weights), (a.reading.inputs, b.reading.inputs)]
    equal = all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)
    asked = [(t.reading.purpose, dict(t.reading.conditions), t.reading.block) for t in (a, b)]
    told = [(t.clock_s, dict(t.telemetry), t.utc, t.seconds) for t in (a, b)]
    return equal and asked[0] == asked[1] and told[0] == told[1]


def check(folder: Path, readings: int, spec: ChipSpec = SPEC) -> None:
    """A folder opens and holds the first readings as they were answered."""
    store = RawStore.open(folder)
    assert store.done == readings
    found, plan = store.taken(), plan_for(spec)
    assert all(same(found[k], answer(plan[k], k, spec)) for k in range(readings))
