"""Bench files for the tests of this folder."""

from __future__ import annotations

from typing import Any

from photonic.backends.visa.benchfile import BenchFile, bench_spec
from photonic.records import ChipSpec


def box(name: str, channels: int | None = None, first: int = 0, **more: Any) -> dict[str, Any]:
    """One instrument that holds ``channels`` logical channels from ``first``."""
    found: dict[str, Any] = {"name": name, "resource": f"TCPIP0::127.0.0.1::1::SOCKET::{name}", **more}
    if channels is not None:
        found["channels"] = [[first, first + channels - 1]]
    return found


def bench_of(spec: ChipSpec, **tables: Any) -> BenchFile:
    """A bench around a chip, one instrument for each role; ``tables`` replaces keys of tables, or whole fields."""
    content: dict[str, Any] = {
        "name": "of-a-test",
        "chip": bench_spec(spec),
        "timing": {"symbol_rate_hz": 1e6, "settle_time_s": 1e-3},
        "safety": {"laser_consent": True},
        "weights": {
            "volts_min": -5.0,
            "volts_max": 5.0,
            "volts_per_code": 4.0 / max(map(abs, spec.weight_code_range)),
            "instruments": [box("dac", spec.drives)],
        },
        "inputs": {"instruments": [box("awg", spec.n_inputs)]},
        "digitizer": {"instruments": [box("adc", spec.n_outputs)]},
        "laser": {"power_full_w": 0.01, "power_max_w": 0.02, "instruments": [box("laser")]},
        "temperature": {"instruments": [box("tec")]},
        "power_monitor": {"instruments": [box("taps", 1)]},
    }
    for key, value in tables.items():
        content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
    return BenchFile(**content)
