"""One call of a chip on one tile: what is asked, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Reading:
    """What a sweep asks.

    Attributes:
        purpose: the part of the plan, e.g. "matrix".
        weights: (P,) drive codes.
        inputs: (B, N) input codes, one shot each.
        conditions: settings of the chip.
        block: of time; what is held out lies in a later one.
    """

    purpose: str
    weights: Tensor
    inputs: Tensor
    conditions: Mapping[str, float | str]
    block: int


@dataclass(frozen=True)
class Taken:
    """What a chip answered.

    Attributes:
        reading: that was asked.
        counts: (B, M).
        clock_s: on the chip's own clock where it has one, else since the sweep began.
        telemetry: numbers that the chip gave besides.
        utc: seconds since 1970.
        seconds: that the call took.
    """

    reading: Reading
    counts: Tensor
    clock_s: float
    telemetry: Mapping[str, float]
    utc: float
    seconds: float
