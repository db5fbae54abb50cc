"""How a virtual bench is built: rates, voltages, powers and memories of its instruments."""

from __future__ import annotations

from dataclasses import dataclass

from photonic.records import ChipSpec

HEATER_SPAN_V = 5.0  # from the lowest to the highest code of a drive


@dataclass(frozen=True)
class Drive:
    """How volts and drive codes belong together: volts = ``volts_at_zero_code`` + ``volts_per_code`` x code.

    The lowest code is 0 V, so that heaters are coldest when they are off; a chip without converter takes its codes as
    volts.
    """

    volts_per_code: float
    volts_at_zero_code: float
    volts_min: float
    volts_max: float

    @classmethod
    def of(cls, spec: ChipSpec) -> Drive:
        """For the codes of a chip."""
        low, high = spec.weight_code_range
        if spec.weight_bits is None:
            return cls(1.0, 0.0, low, high)
        step = HEATER_SPAN_V / (high - low)
        return cls(step, -low * step, 0.0, HEATER_SPAN_V)

    @property
    def off_v(self) -> float:
        """What a channel gives while its output is off."""
        return 0.0


@dataclass(frozen=True)
class Setup:
    """Numbers of the bench that do not depend on the chip.

    Attributes:
        symbol_rate_hz: of inputs and outputs.
        samples_per_symbol: of modulator and digitizer, as the bench file says; the modulator's raster decides.
        sync_symbols: at the start of a segment.
        guard_symbols: after them, and after the data.
        sample_phase: of a symbol, at which the driver reads.
        settle_time_s: after a programming of the weights.
        memory_samples: of each channel of modulator and digitizer.
        granularity_samples: a waveform's length is a multiple.
        minimum_samples: of a waveform.
        list_length: tiles that a weight box steps through.
        power_full_w: laser power that is 1 to the chip.
        power_max_w: highest that the laser gives.
        wavelength_m: of the laser.
        temperature_c: of the chip, as calibrated.
        ambient_c: of the room.
        tap_ratio: part of the laser's power that each tap gives to the power meter.
        heater_resistance_ohm: of each drive.
    """

    symbol_rate_hz: float = 1e6
    samples_per_symbol: int = 4
    sync_symbols: int = 8
    guard_symbols: int = 4
    sample_phase: float = 0.75
    settle_time_s: float = 10e-3
    memory_samples: int = 2**20
    granularity_samples: int = 16
    minimum_samples: int = 64
    list_length: int = 4096
    power_full_w: float = 10e-3
    power_max_w: float = 12e-3
    wavelength_m: float = 1550e-9
    temperature_c: float = 25.0
    ambient_c: float = 21.0
    tap_ratio: float = 0.01
    heater_resistance_ohm: float = 10e3
