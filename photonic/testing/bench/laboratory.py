"""What a laboratory does to a chip's signals: parameters of ``--physics lab``, with units and sources."""

from __future__ import annotations

from pydantic import Field

from photonic.records.base import Record


class Laboratory(Record):
    """Imperfections of the instruments around a chip; all of them at 0, or at None, are ``ideal``.

    Sizes are chosen so that a driver that waits for the weights, reads at the phase that the bench file names, and
    corrects each output's delay, loses less to them than to the chip's own noise, while one that does not reads grossly
    other counts. Times are shorter than in a real laboratory, in proportion: heaters settle in 10 ms and a laser in a
    second, where published setups wait 20 to 500 ms (phox, lightlab) and half an hour.
    """

    heater_lag_s: float = Field(
        default=1e-3, ge=0, description="first-order lag of a heater; thermal time constant of its mount"
    )
    heater_tail: float = Field(default=0.002, ge=0, lt=1, description="part of a step that follows more slowly")
    heater_tail_s: float = Field(default=3e-3, gt=0, description="time constant of that part; heat in the substrate")
    skew_symbols: float = Field(
        default=0.05, ge=0, le=0.5, description="delay of an output, uniform in [0, this]; unequal fibres and cables"
    )
    delay_symbols: float = Field(default=0.02, ge=0, le=0.5, description="delay of all outputs")
    clock_ppm: float = Field(default=2.0, ge=0, description="offset of the digitizer's clock; of crystals: 1 to 50 ppm")
    memory_symbols: float = Field(
        default=0.085, ge=0, description="time constant of the receivers, in symbols: 0.16 / (bandwidth / symbol rate)"
    )
    high_pass_hz: float = Field(default=1e3, ge=0, description="corner of the receivers; 0: none")
    high_pass_part: float = Field(
        default=1e-4, ge=0, le=1, description="of the signal that passes it; 1 for AC-coupled receivers"
    )
    rail_recovery: float = Field(default=0.03, ge=0, description="of a rail that remains as it is left")
    rail_recovery_symbols: float = Field(default=0.08, gt=0, description="time constant with which it goes")
    hum: float = Field(default=1e-4, ge=0, description="amplitude of mains hum, in the converter's full scale")
    hum_hz: float = Field(default=50.0, gt=0)
    mode_hops_per_s: float = Field(default=1 / 1800, ge=0, description="of the bench's time, while there is light")
    hop_power: float = Field(default=5e-4, ge=0, description="standard deviation of the power after a hop, relative")
    hop_wavelength_m: float = Field(default=2e-12, ge=0, description="standard deviation of the wavelength after a hop")
    laser_start: float = Field(default=-0.03, description="relative error of the power as the light goes on")
    laser_start_s: float = Field(default=0.3, gt=0, description="time constant with which it goes")
    temperature_s: float = Field(default=0.3, gt=0, description="time constant of the chip's mount")
    response_per_k: float = Field(default=2e-3, description="relative change of counts per kelvin from the setpoint")
    crosstalk: float = Field(
        default=1e-4,
        ge=0,
        description="of each neighbouring channel of the digitizer; no calibration has a parameter "
        "for it, because it makes an output depend on the weights of others",
    )
