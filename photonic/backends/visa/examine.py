"""What ``photonic doctor bench.toml`` finds out: who answers on a bench, without touching an output."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from photonic.backends.visa.assembly import Assembly, Openers
from photonic.backends.visa.benchfile import BenchFile, load_bench
from photonic.backends.visa.inuse import InUse
from photonic.backends.visa.roles import InputModulator, Instrument, WeightBank
from photonic.backends.visa.sections import Box
from photonic.errors import LabError, PhotonicError


def examine_bench(path: str | os.PathLike[str], openers: Openers | None = None) -> dict[str, Any]:
    """Opens each instrument of a bench by itself, identifies it, reads its settings, and closes it.

    Args:
        path: of the bench file.
        openers: what opens one instrument.

    Returns:
        ``ready``, the bench's name, its chip, and one entry for each instrument with its answer or what went wrong.

    Raises:
        SpecError: the file says what no bench can be.
        LabError: somebody has the bench open.
    """
    bench = load_bench(path)
    in_use = InUse.of(path, bench.resources if openers is None else ())
    try:
        assembly = Assembly(bench, Path(path).parent, openers)
        found = [
            _examined(role, box, opener, bench) for role, (boxes, opener) in assembly.roles().items() for box in boxes
        ]
    finally:
        in_use.release()
    return {
        "ready": all(entry["error"] is None for entry in found),
        "bench": bench.name,
        "chip": bench.chip.chip_id,
        "laser_consent": bench.safety.laser_consent,
        "instruments": found,
    }


def _examined(role: str, box: Box, opener: Callable[[Box], Instrument], bench: BenchFile) -> dict[str, Any]:
    found: dict[str, Any] = {"role": role, "name": box.name, "resource": box.resource, "identity": None, "error": None}
    found["settings"] = {}
    try:
        instrument = opener(box)
        try:
            identity = instrument.identify()
            found["identity"] = ",".join((identity.manufacturer, identity.model, identity.serial, identity.firmware))
            found["settings"] = dict(instrument.snapshot())
            _check_size(instrument, box, bench)
        finally:
            instrument.close()
    except PhotonicError as error:
        found["error"] = f"{type(error).__name__}: {error}"
    return found


def _check_size(instrument: Instrument, box: Box, bench: BenchFile) -> None:
    """Whether the instrument has the channels and the memory that the file asks of it."""
    used = len(box.logical())
    if isinstance(instrument, WeightBank | InputModulator) and used and instrument.n_channels < used:
        raise LabError(f"{box.name} has {instrument.n_channels} channels, the bench file maps {used} to it")
    timing = bench.timing
    least = (2 * timing.sync_symbols + 3 * timing.guard_symbols + 1) * timing.samples_per_symbol
    if isinstance(instrument, InputModulator) and instrument.memory_samples < least:
        raise LabError(f"{box.name} holds {instrument.memory_samples} samples, one shot with its sync takes {least}")
