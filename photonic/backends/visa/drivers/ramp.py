"""The one place where the levels of a weight bank are changed: limits come before anything is sent.

What sends the levels is another object (``LevelWriter``), so that a bank that is not SCPI has the same limits.
"""

from __future__ import annotations

import math
import time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.limits import PowerBudget, WeightLimits
from photonic.backends.visa.owner import Owner
from photonic.errors import LimitError

Array = NDArray[np.float64]
STEP_S = 0.02  # between two steps of a ramp
_MARGIN = 1 + 1e-6  # of time, for levels that are rounded on their way


class LevelWriter(Protocol):
    """Reads and writes levels of all channels of a bank; checks nothing."""

    def read_levels(self) -> Array:
        """(n_channels,) volts, read back."""

    def write_levels(self, levels_v: Array) -> None:
        """Sets (n_channels,) volts at once, and raises ReadbackError where they read back as others."""


class Ramp:
    """Changes levels within limits.

    Args:
        name: the bank's, for messages and for its reservation of power.
        writer: sends them.
        owner: of the bank's thread, on which this runs.
        limits: absolute ones.
        budget: of the whole bench; None: power is not limited.
    """

    def __init__(
        self, name: str, writer: LevelWriter, owner: Owner, limits: WeightLimits, budget: PowerBudget | None
    ) -> None:
        self._name, self._writer, self._owner = name, writer, owner
        self.__limits, self.__budget = limits, budget
        self._changed_s = time.monotonic()
        self._writes = 0

    @property
    def writes(self) -> int:
        """Programmings since this was made."""
        return self._writes

    def adopt(self) -> Array:
        """Levels that read back; the power that they take is a fact, whatever the limits say, and is noted."""
        levels = self._writer.read_levels()
        if self.__budget is not None:
            self.__budget.adopt(self._name, self.__limits.power_w(levels))
        return levels

    def check_found(self) -> None:
        """Raises LimitError where the levels that read back are outside the limits."""
        levels = self._writer.read_levels()
        self.__limits.check_levels(self._name, levels)
        self._reserve(levels)

    def to(self, levels_v: Array, counted: int | None = None) -> None:
        """Ramps from what reads back to new levels.

        Args:
            levels_v: (n_channels,) volts.
            counted: programmings as the instrument counts them; None: as this does.

        Raises:
            LimitError: a level, the bench's power or the bank's endurance would be exceeded; nothing was sent.
        """
        target = self._checked(levels_v)
        start = self.adopt()
        least_s = self.__limits.least_time_s(start, target) * _MARGIN
        steps = max(1, math.ceil(least_s / STEP_S))
        self._endure(steps, counted)
        self._reserve(target, start)
        for step in range(1, steps + 1):
            self._pause(least_s / steps)
            # the last one is exact; rounding must not move it
            self._write(target if step == steps else start + (target - start) * (step / steps))
        self._release(target)

    def to_safe(self) -> None:
        """Goes to the safe levels at once: no ramp, no endurance, nothing that could hold it up."""
        safe = self.safe()
        self._write(safe)
        self._release(safe)

    def safe(self) -> Array:
        """(n_channels,) safe levels."""
        return np.array(self.__limits.safe_v)

    def admit_list(self, levels_v: Array, dwell_s: float, counted: int | None = None) -> Array:
        """Checks a list of (tiles, n_channels) and reserves its power; ramps to its first tile where slew is limited.

        Raises:
            LimitError: as ``to``, for any tile or any step from one to the next.
        """
        levels = np.array(levels_v, dtype=np.float64)
        if levels.ndim != 2 or not len(levels):
            raise LimitError(f"{self._name}: a list is (tiles, channels), found {levels.shape}; nothing was sent")
        self.__limits.check_list(self._name, levels, dwell_s)
        self._endure(len(levels), counted)
        self._reserve(levels, self.adopt())
        if self.__limits.slew_v_per_s is not None:
            self.to(levels[0], counted)
            self._reserve(levels)
        self._writes += len(levels)
        return levels

    def played(self) -> None:
        """The levels may just have changed by themselves."""
        self._changed_s = time.monotonic()

    def _checked(self, levels_v: Array) -> Array:
        levels = np.array(levels_v, dtype=np.float64)  # a copy: the caller's array may change while this ramps
        if levels.ndim != 1:
            raise LimitError(f"{self._name}: levels are (channels,), found {levels.shape}; nothing was sent")
        self.__limits.check_levels(self._name, levels)
        return levels

    def _endure(self, more: int, counted: int | None) -> None:
        done, most = self._writes if counted is None else counted, self.__limits.writes_max
        if most is not None and done + more > most:
            raise LimitError(
                f"{self._name}: {more} more programmings after {done} exceed its endurance of {most}; nothing was sent"
            )

    def _reserve(self, *levels: Array) -> None:
        """Power of the greatest of some levels, besides what is held: a list that was armed may still play.

        Between two levels it is less, because it is convex.
        """
        if self.__budget is not None:
            held = self.__budget.held_w(self._name)
            self.__budget.reserve(self._name, max(held, *(self.__limits.power_w(each) for each in levels)))

    def _release(self, levels_v: Array) -> None:
        """Keeps the power of the levels that are now at the outputs, and no more."""
        if self.__budget is not None:
            power_w = self.__limits.power_w(levels_v)
            self.__budget.adopt(self._name, power_w)
            self.__budget.reserve(self._name, power_w)

    def _pause(self, seconds: float) -> None:
        self._owner.sleep(self._changed_s + seconds - time.monotonic())

    def _write(self, levels_v: Array) -> None:
        self._writes += 1
        try:
            self._writer.write_levels(levels_v)
        finally:
            self._changed_s = time.monotonic()
