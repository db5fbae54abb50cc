"""A watch over reference readings in service: an alarm when gain or offset leave the record, and what they are then."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from photonic.errors import RangeError, ShapeError
from photonic.records import DriftModel

Array = NDArray[np.float64]


class Cusum:
    """Two-sided cumulative sum of standardised readings (Page, Biometrika 41, 100 (1954)).

    With k = 0.5 and h = 5 a false alarm comes after 465 readings on average, an alarm 38 readings after a shift by half
    a standard deviation and 10.4 after one by a whole (reference/calibration.md 3.5).

    Attributes:
        count: readings so far.
        alarm: index of the reading that raised the alarm; None: none yet. It stays.
        change: index of the reading with which the excursion began that raised it.
    """

    def __init__(self, k: float = 0.5, h: float = 5.0) -> None:
        self._k, self._h = k, h
        self._sums, self._starts = [0.0, 0.0], [0, 0]
        self.count = 0
        self.alarm: int | None = None
        self.change: int | None = None

    @property
    def start(self) -> int:
        """Index of the reading with which the older of the excursions under way began; ``count`` if there is none."""
        return min(self._starts)

    def update(self, z: float) -> bool:
        """Takes a reading, in standard deviations from where it should be; whether there is an alarm, now or before.

        Raises:
            RangeError: the reading is not a number; a monitor that went on would be silent for ever.
        """
        if not math.isfinite(z):
            raise RangeError(f"a reference reading must be finite, found {z} standard deviations; measure it again")
        for side, sign in enumerate((1.0, -1.0)):
            self._sums[side] = max(0.0, self._sums[side] + sign * z - self._k)
            if self._sums[side] == 0.0:
                self._starts[side] = self.count + 1
            elif self._sums[side] > self._h and self.alarm is None:
                self.alarm, self.change = self.count, self._starts[side]
        self.count += 1
        return self.alarm is not None


class Alarm(NamedTuple):
    """What a monitor found.

    Attributes:
        quantity: what left the record first.
        position: index of the reading at which it was certain.
        change: index of the reading since which it seems to be so.
    """

    quantity: Literal["gain", "offset"]
    position: int
    change: int


class _Seen(NamedTuple):
    """One reading's gain and offset (2,), their covariance (2, 2), the time since the one before, standardised both."""

    value: Array
    covariance: Array
    step_s: float
    z: tuple[float, float] = (0.0, 0.0)


class ReferenceMonitor:
    """Follows gain and offset of an output, or of outputs alike, by reading known vectors over and over.

    Reading = zero + gain (expected - zero) + offset + noise. What the record says of drift is no alarm: the CUSUM takes
    the innovations of a Kalman filter that knows it, which are white as long as the record holds. A random walk goes
    anywhere in time; there only jumps raise an alarm, and ``gain`` says how far it has gone. With an alarm the tracker
    forgets all from before the change. Two quantities are watched, so a false alarm comes after about 230 readings.

    Args:
        expected: (L,) counts that the record predicts, L >= 2, not all alike.
        sd: standard deviation of one reading of each, counts, a number or (L,): of an average, where a reading
            is one.
        drift: of the record.
        zero: (L,) or a number: count of D = 0.
        gain_se: standard error of the record's own gain, relative.
        k: of the CUSUM.
        h: of the CUSUM.

    Attributes:
        alarm: None until there is one.

    Raises:
        ShapeError: fewer than 2 references.
        RangeError: values that are not finite, sd not positive, or references that cannot tell gain from offset.
    """

    def __init__(
        self, expected: Array, sd: Array | float, drift: DriftModel, zero: Array | float = 0.0, gain_se: float = 0.0,
        k: float = 0.5, h: float = 5.0,
    ) -> None:  # fmt: skip
        if expected.ndim != 1 or len(expected) < 2:
            raise ShapeError(f"expected must be (L >= 2,), found {expected.shape}; choose 2 references or more")
        weight = 1 / np.broadcast_to(np.asarray(sd, dtype=np.float64), expected.shape)
        design = np.stack((expected - zero, np.ones_like(expected)), 1)
        if not (np.isfinite(design).all() and np.isfinite(weight).all() and (weight > 0).all()):
            raise RangeError("expected and zero must be finite and sd positive")
        if np.ptp(design[:, 0]) < 1e-6 * max(1.0, float(np.abs(design[:, 0]).max())):
            raise RangeError("all references are alike, so gain and offset cannot be told apart; choose other results")
        self._zero, self._drift, self._size = zero, drift, len(expected)
        information = (design * weight[:, None] ** 2).T @ design
        self._covariance: Array = np.asarray(np.linalg.inv(information), dtype=np.float64)
        self._solve = self._covariance @ (design * weight[:, None] ** 2).T
        self._cusums = (Cusum(k, h), Cusum(k, h))
        self._deviation, self._variance = 0.0, drift.sigma**2 + gain_se**2
        self._history: dict[int, _Seen] = {}  # readings from which a change may have begun
        self._last_s: float | None = None
        self._mean, self._spread = np.array([1.0, 0.0]), np.diag([self._variance, 0.0])
        self.alarm: Alarm | None = None

    @property
    def gain(self) -> float:
        """Of this moment, 1 being as in the record."""
        return float(self._mean[0])

    @property
    def gain_se(self) -> float:
        """Standard error of ``gain``, as far as the record knows drift."""
        return float(math.sqrt(self._spread[0, 0]))

    @property
    def offset(self) -> float:
        """Of this moment, counts."""
        return float(self._mean[1])

    @property
    def offset_se(self) -> float:
        """Standard error of ``offset``, counts."""
        return float(math.sqrt(self._spread[1, 1]))

    def update(self, reading: Array, time_s: float) -> bool:
        """Takes one reading (L,) of all references; whether there is an alarm, now or before.

        Raises:
            ShapeError: another number of readings.
            RangeError: a reading that is not finite, or a time before the last one.
        """
        if reading.shape != (self._size,):
            raise ShapeError(f"a reading must be ({self._size},), found {reading.shape}")
        step = 0.0 if self._last_s is None else time_s - self._last_s
        if not np.isfinite(reading).all() or not step >= 0:
            raise RangeError(f"readings must be finite and times rise, found {reading.tolist()} after {step} s")
        self._last_s = time_s
        seen = _Seen(self._solve @ (reading - self._zero), self._covariance, step)
        z = self._innovation(seen), float(seen.value[1] / math.sqrt(seen.covariance[1, 1]))
        if self.alarm is not None:
            self._track(seen)
            return True
        self._history[self._cusums[0].count] = seen._replace(z=z)
        alarms = [cusum.update(value) for cusum, value in zip(self._cusums, z, strict=True)]
        if any(alarms):
            self.alarm = self._dated(0 if alarms[0] else 1)
            self._restart(self.alarm.change)
            return True
        self._track(seen)
        start = min(cusum.start for cusum in self._cusums)
        self._history = {index: kept for index, kept in self._history.items() if index >= start}
        return False

    def _dated(self, which: int) -> Alarm:
        """The alarm, with the most likely beginning of a step that still lasts, not before the excursion.

        That is where the sum of all z since is largest for its number: (sum z)^2 / n.
        """
        cusum = self._cusums[which]
        indices = [index for index in self._history if index >= (cusum.change or 0)]
        sums = np.cumsum([self._history[index].z[which] for index in reversed(indices)])
        best = int(np.argmax(sums**2 / np.arange(1, len(sums) + 1)))
        return Alarm("offset" if which else "gain", cusum.count - 1, indices[len(indices) - 1 - best])

    def _innovation(self, seen: _Seen) -> float:
        """Standardised, of the gain, under the drift of the record."""
        kept = self._kept(seen.step_s)
        self._deviation *= kept
        self._variance = self._variance * kept**2 + self._added(seen.step_s)
        total = self._variance + float(seen.covariance[0, 0])
        innovation = float(seen.value[0]) - 1.0 - self._deviation
        self._deviation += self._variance / total * innovation
        self._variance *= float(seen.covariance[0, 0]) / total
        return innovation / math.sqrt(total)

    def _kept(self, step_s: float) -> float:
        return math.exp(-step_s / self._drift.time_s) if self._drift.time_s else 1.0

    def _added(self, step_s: float) -> float:
        walk = self._drift.per_root_s**2 * step_s
        return walk + self._drift.sigma**2 * (1.0 - self._kept(step_s) ** 2)

    def _restart(self, change: int) -> None:
        """The tracker from the readings since the change alone."""
        first, *rest = (seen for index, seen in self._history.items() if index >= change)
        self._mean, self._spread = first.value, first.covariance
        for seen in rest:
            self._track(seen)
        self._history = {}

    def _track(self, seen: _Seen) -> None:
        """Kalman filter of gain and offset: what the record's drift adds since the last reading, then the reading."""
        before = self._spread + np.diag([self._added(seen.step_s), 0.0])
        share = before @ np.linalg.inv(before + seen.covariance)
        self._mean = self._mean + share @ (seen.value - self._mean)
        self._spread = before - share @ before
