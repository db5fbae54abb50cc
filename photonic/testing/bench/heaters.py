"""Heaters that follow their volts with a lag, and a slow tail."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Volts = NDArray[np.float64]


class LaggingHeaters:
    """A step is followed as 1 - (1 - tail) exp(-t / lag) - tail exp(-t / slow).

    Two first-order lags in parallel: the usual form of the measured step response of a thermo-optic phase shifter,
    whose substrate warms more slowly than its waveguide.

    Args:
        levels_v: (channels,) at rest.
        lag_s: of the fast part.
        tail: the slow part, of 1.
        slow_s: of the slow part.
    """

    def __init__(self, levels_v: Volts, lag_s: float, tail: float, slow_s: float) -> None:
        self._lag_s, self._tail, self._slow_s = lag_s, tail, slow_s
        self._target = levels_v
        self._fast = self._slow = levels_v  # of the moment of the last change
        self._since_s = -math.inf

    def follow(self, levels_v: Volts, now_s: float) -> None:
        """From now on the box gives these volts."""
        self._fast, self._slow = self._at(now_s, self._fast, self._lag_s), self._at(now_s, self._slow, self._slow_s)
        self._target, self._since_s = levels_v, now_s

    def levels_v(self, now_s: float) -> Volts:
        """What the drives have come to."""
        fast, slow = self._at(now_s, self._fast, self._lag_s), self._at(now_s, self._slow, self._slow_s)
        found: Volts = (1.0 - self._tail) * fast + self._tail * slow
        return found

    def _at(self, now_s: float, before: Volts, time_s: float) -> Volts:
        left = 0.0 if time_s == 0 else math.exp(-max(0.0, now_s - self._since_s) / time_s)
        found: Volts = self._target + (before - self._target) * left
        return found
