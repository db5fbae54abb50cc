"""What faults of the bench do to its signals: dead channels, saturation, drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Disturbance:
    """Faults of the signal path; none at first.

    Attributes:
        dead: outputs, from 0, that read nothing but zero.
        gain: factor of all counts.
        saturated: outputs whose next record is at the upper rail, with the overload bit set.
    """

    def __init__(self) -> None:
        self.dead: set[int] = set()
        self.gain = 1.0
        self.saturated: set[int] = set()

    def of_counts(self, counts: NDArray[Any], rails: tuple[float, float] | None) -> NDArray[Any]:
        """Counts (M, ...) with the faults in them; the same array where there are none."""
        if self.gain == 1.0 and not self.dead and not self.saturated:
            return counts
        changed = counts * self.gain
        changed[[m for m in self.dead if m < len(changed)]] = 0.0
        if rails is not None:
            changed[[m for m in self.saturated if m < len(changed)]] = rails[1]
            changed = np.rint(changed).clip(*rails)
        return changed.astype(counts.dtype)

    def overloaded(self, outputs: int) -> Sequence[int]:
        """Channels, from 1, that were overloaded in this record; the next one is clean again."""
        found = sorted(m + 1 for m in self.saturated if m < outputs)
        self.saturated.clear()
        return found
