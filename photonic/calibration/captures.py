"""Captures from instruments: arrays from a file, the drive behind its codes, and what differs between captures."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from photonic.errors import DataError

Array = NDArray[np.float64]

_WINDOWS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
_AS_GOOD = 1.05
_STRAIGHT = 0.005  # of the span: how far a drive may leave its own moving average and still be followed


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file, by name; never unpickles.

    Raises:
        DataError: no such file, no ``.npz``, or one that holds objects.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: expected an .npz file of plain arrays, and could not read it: {error}") from error


def follow_drive(codes: Array) -> tuple[Array, Array]:
    """The analog drive behind quantised, noisy codes in the order of time, and which way it moves.

    A straight line through a window of 2 h + 1 samples; h is the largest that predicts a sample from its neighbours
    (leave-one-out) within 5 % as well as the best h does. A drive in random order, or one that is exact, cannot be
    told better than it is and comes back unchanged. Otherwise an error in the drive would appear as noise of the
    output, times the slope.

    Args:
        codes: (n,).

    Returns:
        (n,) drive in the unit of ``codes``; (n,) direction, +1 or -1, 0 near a reversal and where none is significant
        (three standard errors).
    """
    candidates = [_smoothed(codes, half) for half in _WINDOWS if 4 * half + 2 <= codes.size]
    if not candidates:
        raise DataError(f"a drive takes at least {4 * _WINDOWS[0] + 2} samples to be followed, found {codes.size}")
    best = min(each[0] for each in candidates)
    error, half, value, slope = [each for each in candidates if each[0] <= _AS_GOOD * best][-1]
    steps = np.diff(np.unique(codes))
    one = float(steps.min()) if steps.size else 0.0
    noise = error / np.sqrt(half * (half + 1) * (2 * half + 1) / 3)
    direction = np.where(np.abs(slope) > 3 * noise, np.sign(slope), 0.0)
    if np.mean(direction != 0) < 0.5:  # no order in time to speak of
        return codes.astype(np.float64), np.zeros(codes.size)
    followed = value if error <= max(one, _STRAIGHT * np.ptp(codes)) else codes.astype(np.float64)
    return followed, _near_reversal(direction, half)


def _smoothed(codes: Array, half: int) -> tuple[float, int, Array, Array]:
    """Leave-one-out error, h, value and slope of the local straight line."""
    around = np.arange(-half, half + 1)
    padded = np.pad(codes.astype(np.float64), half, mode="reflect", reflect_type="odd")
    value = np.convolve(padded, np.full(around.size, 1 / around.size), mode="valid")
    slope = np.convolve(padded, around[::-1] / np.sum(around**2), mode="valid")
    error = np.sqrt(np.mean((codes - value) ** 2)) / (1 - 1 / around.size)
    return float(error), half, value, slope


def _near_reversal(direction: Array, half: int) -> Array:
    """``direction`` with zeros within ``half`` samples of a change: there the straight line cuts the corner."""
    turning = np.concatenate((direction[1:] != direction[:-1], [False]))
    reach = np.convolve(turning, np.ones(2 * half + 1), mode="same") > 0
    return np.where(reach, 0.0, direction)


def equal_code_scatter(drive: Array, output: Array, least: int = 5) -> float:
    """Median over the drive's codes of the output's standard deviation at that code: what no function of it can beat.

    Args:
        drive: (n,) raw codes.
        output: (n,).
        least: samples that a code needs to count.

    Raises:
        DataError: no code has that many samples.
    """
    groups = [output[drive == code] for code in np.unique(drive)]
    deviations = [float(np.std(group, ddof=1)) for group in groups if group.size >= least]
    if not deviations:
        raise DataError(f"no code of the drive occurs {least} times: the scatter at equal code is unknown")
    return float(np.median(deviations))


@dataclass(frozen=True)
class Between:
    """How much one parameter differs between captures of the same device, beyond the captures' own errors.

    Attributes:
        relative: standard deviation between captures, as a share of the value; nan if no device has two captures.
        degrees: of freedom behind it; with few, ``interval`` is wide, and rightly so.
    """

    relative: float
    degrees: int

    def interval(self, values: Array, errors: Array, level: float = 0.95) -> tuple[float, float, float]:
        """Mean of a device's captures and the interval for its true value.

        Args:
            values: (k,) one per capture.
            errors: (k,) their own standard errors.
            level: of confidence.

        Returns:
            Mean, half width of the Student interval, standard error. The last two are nan where ``relative`` is.
        """
        mean = float(np.mean(values))
        own = float(np.sum(errors**2)) / errors.size**2
        total = float(np.sqrt((self.relative * mean) ** 2 / values.size + own))
        if self.degrees == 0:
            return mean, float("nan"), float("nan")
        return mean, float(student.ppf((1 + level) / 2, self.degrees)) * total, total


def between_captures(values: Array, errors: Array, devices: Sequence[str]) -> Between:
    """Variance component between captures, pooled over devices: moments, one-way random effects (ANOVA).

    Args:
        values: (k,) above zero, one per capture.
        errors: (k,) standard errors within the capture.
        devices: (k,) which device each capture shows.
    """
    squares, degrees, within = 0.0, 0, 0.0
    for device in sorted(set(devices)):
        chosen = np.array([each == device for each in devices])
        ratio = values[chosen] / values[chosen].mean()
        squares += float(np.sum((ratio - 1) ** 2))
        degrees += int(chosen.sum()) - 1
        within += (chosen.sum() - 1) * float(np.mean((errors[chosen] / values[chosen].mean()) ** 2))
    if degrees == 0:
        return Between(float("nan"), 0)
    return Between(float(np.sqrt(max(squares / degrees - within / degrees, 0.0))), degrees)
