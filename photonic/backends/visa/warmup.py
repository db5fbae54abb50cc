"""Warm-up by evidence: a bench is warm when averaging a reference longer still helps, not when a timer says so.

The overlapping Allan deviation of IEEE Std 1139 at a quarter of the readings: white noise has averaged out there, and
what is left is drift.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.sections import WarmUp
from photonic.errors import UnstableError

Array = NDArray[np.float64]


def relative_deviation(readings: Array) -> float:
    """Allan deviation at a quarter of the readings (T, M), over their mean, rms over outputs weighted by their size."""
    length = len(readings) // 4
    total = np.concatenate([np.zeros((1, readings.shape[1])), readings.cumsum(0)])
    steps = total[2 * length :] - 2 * total[length:-length] + total[: -2 * length]
    variance = (steps**2).mean(0) / 2 / length**2
    return float(np.sqrt(variance.sum() / max(float((readings.mean(0) ** 2).sum()), 1e-30)))


def wait_until_warm(
    section: WarmUp,
    read: Callable[[], Array],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Reads a reference until it is steady.

    Args:
        section: of the bench file.
        read: (M,) responses of all outputs to the reference pattern.
        clock: seconds.
        sleep: waits.

    Returns:
        The relative deviation that was found in the end.

    Raises:
        UnstableError: it is not steady by the deadline.
    """
    end, kept = clock() + section.deadline_s, deque[Array](maxlen=section.readings)
    found = float("inf")
    while True:
        kept.append(read())
        if len(kept) == section.readings:
            found = relative_deviation(np.stack(kept))
            if found <= section.max_deviation:
                return found
        if clock() > end:
            raise UnstableError(
                f"the reference still moves by {found:.2%} (Allan deviation over a quarter of {section.readings} "
                f"readings) after {section.deadline_s:g} s, warm_up.max_deviation is {section.max_deviation:.2%}; is "
                "the temperature controlled, is the laser locked?"
            )
        sleep(section.spacing_s)
