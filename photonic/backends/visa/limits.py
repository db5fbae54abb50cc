"""Absolute limits of a bench's outputs. They live below the drivers' methods and are checked before anything is sent.

All of them are frozen, and hold their numbers as tuples: a driver is built with its limits and offers no way to others.
Out of a limit raises LimitError; nothing is clipped. A number that is not finite is out of every limit.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from photonic.errors import LimitError, SpecError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LaserLimits:
    """Limits of a laser.

    Attributes:
        power_max_w: most power that may ever be set.
        consent: whether the bench file consents to light; without it the laser is never switched on.
    """

    power_max_w: float
    consent: bool = False

    def __post_init__(self) -> None:
        _ordered("power_max_w", 0.0, self.power_max_w)

    def check_power(self, name: str, power_w: float) -> None:
        """Raises LimitError where the power is not within 0 and the limit."""
        _within(name, "power", power_w, 0.0, self.power_max_w, "W")


@dataclass(frozen=True, slots=True)
class TemperatureLimits:
    """Limits of a temperature controller's set point, in kelvin."""

    temperature_min_k: float
    temperature_max_k: float

    def __post_init__(self) -> None:
        _ordered("temperature_min_k, temperature_max_k", self.temperature_min_k, self.temperature_max_k)

    def check(self, name: str, temperature_k: float) -> None:
        """Raises LimitError where the temperature is outside."""
        _within(name, "temperature", temperature_k, self.temperature_min_k, self.temperature_max_k, "K")


@dataclass(frozen=True, slots=True)
class CodeLimits:
    """Codes of a converter, both ends included.

    Attributes:
        code_min: least code.
        code_max: greatest code.
        idle_code: what an output shows when nothing is played; no light passes.
        real: whether codes are real numbers (a converter without bits) and not whole ones.
    """

    code_min: float
    code_max: float
    idle_code: float = 0.0
    real: bool = False

    def __post_init__(self) -> None:
        _ordered("code_min, code_max", self.code_min, self.code_max)
        if not self.code_min <= self.idle_code <= self.code_max:
            raise SpecError(
                f"idle_code must be within {self.code_min:g} and {self.code_max:g}, found {self.idle_code:g}"
            )

    def check(self, name: str, codes: NDArray[np.generic]) -> None:
        """Raises LimitError where a code is outside, or not a number."""
        if codes.size:
            low, high = float(codes.min()), float(codes.max())
            if not (self.code_min <= low and high <= self.code_max):
                raise LimitError(
                    f"{name}: codes must be within {self.code_min:g} and {self.code_max:g}, found {low:g} to {high:g}; "
                    "nothing was sent"
                )

    def holds(self, codes: NDArray[np.generic]) -> bool:
        """Whether all codes are inside."""
        return not codes.size or bool(self.code_min <= codes.min() and codes.max() <= self.code_max)


class PowerBudget:
    """Heater power of a whole bench, shared by the drivers of all its weight instruments; any thread.

    Each driver reserves what its own channels may take, before it sends anything; the sum never exceeds the total.

    Args:
        total_w: most power that all heaters may take together.
    """

    __slots__ = ("__lock", "__reserved", "__total_w")

    def __init__(self, total_w: float) -> None:
        _ordered("total heater power", 0.0, total_w)
        self.__total_w = float(total_w)
        self.__reserved: dict[str, float] = {}
        self.__lock = threading.Lock()

    @property
    def total_w(self) -> float:
        """Most power that all heaters may take together."""
        return self.__total_w

    def reserved_w(self) -> float:
        """Power that is reserved now."""
        with self.__lock:
            return math.fsum(self.__reserved.values())

    def adopt(self, name: str, power_w: float) -> None:
        """Takes note of what outputs were found to take, if it is more; above the total, nobody gets more."""
        with self.__lock:
            self.__reserved[name] = max(power_w, self.__reserved.get(name, 0.0))

    def held_w(self, name: str) -> float:
        """What a driver has reserved."""
        with self.__lock:
            return self.__reserved.get(name, 0.0)

    def reserve(self, name: str, power_w: float) -> None:
        """Reserves a driver's power in place of what it had.

        Raises:
            LimitError: the bench's total would be exceeded; the old reservation stands. Less than it is never refused.
        """
        with self.__lock:
            others = math.fsum(power for key, power in self.__reserved.items() if key != name)
            most = max(self.__total_w - others, self.__reserved.get(name, 0.0))
            # NaN compares false, so it is refused
            if not 0.0 <= power_w <= most:
                raise LimitError(
                    f"{name}: its heaters would take {power_w:.6g} W and all others hold {others:.6g} W, more than the "
                    f"bench's total of {self.__total_w:.6g} W; nothing was sent"
                )
            self.__reserved[name] = power_w


@dataclass(frozen=True, slots=True)
class WeightLimits:
    """Limits of one weight instrument's channels; every sequence has one entry for each channel.

    Attributes:
        volts_min: least level.
        volts_max: greatest level.
        safe_v: level that harms nothing; where ``make_safe`` and ``disable`` go.
        slew_v_per_s: fastest change; None: a change may be a single step.
        resistance_ohm: of the heaters, for the power; None: they take none (a modulator, not a heater).
        writes_max: programmings that its limited endurance allows; None: unlimited.
    """

    volts_min: tuple[float, ...]
    volts_max: tuple[float, ...]
    safe_v: tuple[float, ...]
    slew_v_per_s: tuple[float, ...] | None = None
    resistance_ohm: tuple[float, ...] | None = None
    writes_max: int | None = None
    # the same numbers for arithmetic, in memory that nobody can write to
    _low: Array = field(init=False, repr=False, compare=False)
    _high: Array = field(init=False, repr=False, compare=False)
    _slew: Array | None = field(init=False, repr=False, compare=False)
    _ohm: Array | None = field(init=False, repr=False, compare=False)

    @classmethod
    def uniform(
        cls,
        channels: int,
        *,
        volts_min: float,
        volts_max: float,
        safe_v: float = 0.0,
        slew_v_per_s: float | None = None,
        resistance_ohm: float | None = None,
        writes_max: int | None = None,
    ) -> WeightLimits:
        """The same limits for all channels."""
        return cls(
            volts_min=(volts_min,) * channels,
            volts_max=(volts_max,) * channels,
            safe_v=(safe_v,) * channels,
            slew_v_per_s=None if slew_v_per_s is None else (slew_v_per_s,) * channels,
            resistance_ohm=None if resistance_ohm is None else (resistance_ohm,) * channels,
            writes_max=writes_max,
        )

    def __post_init__(self) -> None:
        for name in ("volts_min", "volts_max", "safe_v", "slew_v_per_s", "resistance_ohm"):
            given: Sequence[float] | None = getattr(self, name)
            if given is None:
                continue
            values = tuple(float(value) for value in given)
            object.__setattr__(self, name, values)
            if len(values) != len(self.volts_min) or not all(math.isfinite(value) for value in values):
                raise SpecError(f"{name} needs {len(self.volts_min)} finite numbers, found {len(values)}: {values[:4]}")
        for low, safe, high in zip(self.volts_min, self.safe_v, self.volts_max, strict=True):
            if not low <= safe <= high:
                raise SpecError(f"volts_min <= safe_v <= volts_max is needed, found {low:g}, {safe:g}, {high:g}")
        for name in ("slew_v_per_s", "resistance_ohm"):
            if min(getattr(self, name) or (1.0,)) <= 0:
                raise SpecError(f"{name} must be above 0")
        for name, values in (("_low", self.volts_min), ("_high", self.volts_max)):
            object.__setattr__(self, name, _immutable(values))
        for name, perhaps in (("_slew", self.slew_v_per_s), ("_ohm", self.resistance_ohm)):
            object.__setattr__(self, name, None if perhaps is None else _immutable(perhaps))

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.volts_min)

    def check_levels(self, name: str, levels_v: Array) -> None:
        """Raises LimitError where a level of (..., n_channels) is outside its channel's limits, or not a number."""
        if levels_v.shape[-1:] != (self.n_channels,):
            raise LimitError(
                f"{name}: expected {self.n_channels} levels, found shape {levels_v.shape}; nothing was sent"
            )
        inside = (levels_v >= self._low) & (levels_v <= self._high)
        if not inside.all():
            where = tuple(int(index) for index in np.argwhere(~inside)[0])
            channel = where[-1]
            raise LimitError(
                f"{name}: channel {channel} must be within {self.volts_min[channel]:g} and "
                f"{self.volts_max[channel]:g} V, found {float(levels_v[where]):g} V; nothing was sent "
                f"({int((~inside).sum())} values are outside)"
            )

    def power_w(self, levels_v: Array) -> float:
        """Greatest power of the rows of (..., n_channels) levels: the sum of V^2 / R."""
        if self._ohm is None or not levels_v.size:
            return 0.0
        return float((levels_v**2 / self._ohm).sum(-1).max())

    def least_time_s(self, start_v: Array, end_v: Array) -> float:
        """Shortest time in which the slew limit allows this change."""
        if self._slew is None or not start_v.size:
            return 0.0
        return float((np.abs(end_v - start_v) / self._slew).max())

    def check_list(self, name: str, levels_v: Array, dwell_s: float) -> None:
        """Raises LimitError where a list of (tiles, n_channels) steps faster than the slew limit allows."""
        self.check_levels(name, levels_v)
        if not (math.isfinite(dwell_s) and dwell_s >= 0):
            raise LimitError(
                f"{name}: a dwell time is a finite number of at least 0 s, found {dwell_s}; nothing was sent"
            )
        again = levels_v[:1]  # a second play goes from the last tile to the first
        for step, (start, end) in enumerate(itertools.pairwise(np.concatenate([levels_v, again]))):
            least = self.least_time_s(start, end)
            if least > dwell_s * (1 + 1e-9):
                raise LimitError(
                    f"{name}: from tile {step} to {(step + 1) % len(levels_v)} the slew limit needs {least:.6g} s, "
                    f"found a dwell time of {dwell_s:.6g} s; nothing was sent. Take a longer settle_time_s"
                )


def _immutable(values: Sequence[float]) -> Array:
    """An array over bytes, which numpy itself cannot be talked into writing to."""
    return np.frombuffer(np.array(values, dtype=np.float64).tobytes(), dtype=np.float64)


def _ordered(what: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise SpecError(f"{what}: expected finite limits in ascending order, found {low} and {high}")


def _within(name: str, what: str, value: float, low: float, high: float, unit: str) -> None:
    # NaN compares false, so it is refused
    if not low <= value <= high:
        raise LimitError(
            f"{name}: {what} must be within {low:g} and {high:g} {unit}, found {value:g} {unit}; nothing was sent"
        )
