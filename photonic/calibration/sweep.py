"""Measuring a plan: every reading to disk before the next decision, and a clear end where the chip gives up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from photonic.backends.chip import Chip, Measurement
from photonic.calibration.raw import RawStore
from photonic.calibration.reading import Reading, Taken
from photonic.errors import CalibrationError
from photonic.records import ChipSpec

# called with the shots that are done, and the shots in all
Progress = Callable[[int, int], None]

# lit readings in a row without any information, after which a sweep is given up
_HOPELESS = 8


def sweep(chip: Chip, plan: Sequence[Reading], store: RawStore, progress: Progress | None = None) -> None:
    """Measures what the store does not have yet, in the order of the plan.

    Args:
        chip: that is measured.
        plan: all of it.
        store: of this chip and this plan.
        progress: is told after every reading.

    Raises:
        CalibrationError: the chip raised, gave NaN or became another one, or the first readings say nothing; what was
            measured is on the disk, and the sweep can go on from there.
    """
    store.check(chip.spec, plan)
    total = sum(len(reading.inputs) for reading in plan)
    shots = sum(len(reading.inputs) for reading in plan[: store.done])
    began, hopeless = time.monotonic(), 0
    with store:
        for reading in plan[store.done :]:
            taken = _take(chip, reading, store, began)
            hopeless = hopeless + 1 if _says_nothing(taken, chip.spec) else 0
            store.append(taken)
            if hopeless == _HOPELESS:
                raise CalibrationError(
                    f"chip {chip.spec.chip_id}: {_HOPELESS} readings in a row gave {_what(taken.counts, chip.spec)}; "
                    f"look at light, bias and gain ({_kept(store)})"
                )
            shots += len(reading.inputs)
            if progress is not None:
                progress(shots, total)


def _take(chip: Chip, reading: Reading, store: RawStore, began: float) -> Taken:
    """One reading; whatever goes wrong is said together with what is kept."""
    started = time.monotonic()
    try:
        measured = chip.measure(reading.weights[None, None], reading.inputs[None], dict(reading.conditions))
    except KeyboardInterrupt:
        raise
    except Exception as error:
        raise CalibrationError(
            f"chip {chip.spec.chip_id} failed in reading {store.done} ({reading.purpose}): "
            f"{type(error).__name__}: {error} ({_kept(store)})"
        ) from error
    counts = measured.counts[0, 0]
    if counts.is_floating_point() and not bool(torch.isfinite(counts).all()):
        raise CalibrationError(f"chip {chip.spec.chip_id} gave counts that are not finite ({_kept(store)})")
    if chip.spec != store.spec:
        raise CalibrationError(
            f"the chip became another one during the sweep: {store.spec.chip_id} when it began, {chip.spec.chip_id} or "
            f"other stated values now ({_kept(store)})"
        )
    telemetry = _numbers(measured)
    clock = telemetry.get("clock_s", started - began)
    return Taken(reading, counts, clock, telemetry, time.time(), time.monotonic() - started)


def _numbers(measured: Measurement) -> dict[str, float]:
    return {name: float(value) for name, value in measured.telemetry.items() if value.numel() == 1}


def _says_nothing(taken: Taken, spec: ChipSpec) -> bool:
    """Whether every output of a reading with varied inputs is constant, or all are at the rails."""
    counts, inputs = taken.counts, taken.reading.inputs
    varied = len(counts) > 1 and bool((inputs != inputs[:1]).any()) and taken.reading.purpose != "dark"
    return (varied and bool((counts == counts[:1]).all())) or _railed(counts, spec)


def _railed(counts: Tensor, spec: ChipSpec) -> bool:
    low, high = spec.count_range
    return bool(((counts <= low) | (counts >= high)).all())


def _what(counts: Tensor, spec: ChipSpec) -> str:
    return "counts at the rails alone" if _railed(counts, spec) else "the same counts for all inputs"


def _kept(store: RawStore) -> str:
    return f"{store.done} readings are kept in {store.folder}; the same command goes on from there"
