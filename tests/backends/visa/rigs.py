"""Rigs in memory around simulated chips, and their lab chip."""

from __future__ import annotations

from typing import Any

import photonic
from photonic.backends.visa.assembly import Assembly
from photonic.backends.visa.benchfile import bench_spec
from photonic.backends.visa.chip import VisaChip
from tests.backends.visa.benches import bench_of
from tests.backends.visa.memory import Rig

SMALL = "sim:typical?n_inputs=4&n_outputs=3"


def rig_of(spec: str = SMALL, seed: int = 3, rig: dict[str, Any] | None = None, **tables: Any) -> Rig:
    """A rig whose device is ``spec``; ``rig`` are fields of its own, ``tables`` those of its bench."""
    chip = photonic.open_chip(spec, seed=seed)
    timing = {"settle_time_s": 1e-6, **tables.pop("timing", {})}
    return Rig(chip, bench_of(bench_spec(chip.spec), timing=timing, **tables), **(rig or {}))


def opened(rig: Rig) -> VisaChip:
    """The lab chip on that rig, opened."""
    return VisaChip(rig.bench, Assembly(rig.bench, ".", rig).open())
