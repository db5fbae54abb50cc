"""The bench file that a virtual bench writes of itself."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from photonic.backends.visa import sections
from photonic.backends.visa.benchfile import BenchFile, bench_spec, bench_toml
from photonic.errors import SpecError
from photonic.records import ChipSpec
from photonic.testing.bench.model import Bench
from photonic.testing.bench.serving import HOST
from photonic.testing.bench.temperature import TAPS

MARKER = "# written by photonic bench"
_KELVIN = 273.15


def describe(bench: Bench, ports: Mapping[str, int], name: str) -> BenchFile:
    """The bench file: what a driver may know, nothing of the hidden spread."""
    spec, setup, drive = bench.chip.spec, bench.setup, bench.drive
    power_w = drive.volts_max**2 / setup.heater_resistance_ohm

    def boxes(*names: str, channels: tuple[tuple[int, int], ...] = ()) -> dict[str, Any]:
        return {
            "instruments": [
                sections.Box(
                    name=one,
                    resource=f"TCPIP0::{HOST}::{ports[one]}::SOCKET",
                    dialect="virtual",
                    identity="^" + bench.instruments[one].identity.rpartition(",")[0] + ",",
                    channels=(channels[index],) if channels else (),
                )
                for index, one in enumerate(names)
            ]
        }

    ends = [0]
    for box in bench.boxes:
        ends.append(ends[-1] + box.channels)
    return BenchFile(
        name=name,
        chip=bench_spec(ChipSpec(**{**spec.model_dump(), "chip_id": public_id(spec.chip_id)})),
        timing=sections.Timing(
            symbol_rate_hz=setup.symbol_rate_hz,
            samples_per_symbol=setup.samples_per_symbol,
            sync_symbols=setup.sync_symbols,
            guard_symbols=setup.guard_symbols,
            sample_phase=setup.sample_phase,
            settle_time_s=setup.settle_time_s,
        ),
        # an ideal bench is warm at once
        warm_up=sections.WarmUp(readings=16, deadline_s=60.0) if bench.physics.moments > 1 else None,
        safety=sections.Safety(laser_consent=True, total_heater_power_w=1.01 * spec.drives * power_w, watchdog_s=600.0),
        weights=sections.Weights(
            volts_per_code=drive.volts_per_code,
            volts_at_zero_code=drive.volts_at_zero_code,
            safe_v=drive.off_v,
            volts_min=drive.volts_min,
            volts_max=drive.volts_max,
            resistance_ohm=setup.heater_resistance_ohm,
            **boxes(
                *(box.name for box in bench.boxes),
                channels=tuple((low, high - 1) for low, high in itertools.pairwise(ends)),
            ),
        ),
        inputs=sections.Inputs(idle_code=spec.dark_code, **boxes("awg", channels=((0, spec.n_inputs - 1),))),
        digitizer=sections.Digitizer(**boxes("digitizer", channels=((0, spec.n_outputs - 1),))),
        laser=sections.Laser(power_full_w=setup.power_full_w, power_max_w=setup.power_max_w, **boxes("laser")),
        temperature=sections.Temperature(temperature_k=setup.temperature_c + _KELVIN, **boxes("tec")),
        power_monitor=sections.PowerMonitor(
            wavelength_m=setup.wavelength_m, **boxes("power_meter", channels=((0, TAPS - 1),))
        ),
    )


def public_id(chip_id: str) -> str:
    """A chip's id as its bench gives it: the same for the same chip, from which its seed cannot be read."""
    digest = hashlib.blake2b(chip_id.encode(), digest_size=6, person=b"photonic bench").hexdigest()
    return f"virtual:{digest}"


def write_description(described: BenchFile, path: Path, control: str) -> None:
    """Writes the file as a whole; only one that a virtual bench wrote is overwritten.

    Raises:
        SpecError: a file of somebody else is there, or it cannot be written.
    """
    text = f"{MARKER}; its control port is {control}\n{bench_toml(described)}"
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.read_bytes().startswith(MARKER.encode()):
            raise SpecError(
                f"{path} was not written by photonic bench (its first line would be {MARKER!r}); "
                "it is left as it is: choose another --dir, or move it"
            )
        with part.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SpecError(f"{path} cannot be written: {error.strerror or error}") from error
