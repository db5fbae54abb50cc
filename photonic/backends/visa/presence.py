"""Whether the chip answers as it must: light that is gone, gains that jumped, an output that is dead.

Sync symbols are read in every play, so that each of them says how large the response is. It is compared with what the
data sheet promises for these weights, corrected by what was found at opening, and, where weights have stayed the same,
with what they gave first. Meshes have no data sheet of single weights: of them only the second is asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.sections import Timing
from photonic.backends.visa.sync import Sync
from photonic.errors import ResponseError

Array = NDArray[np.float64]
_KNOWN = 0.5  # how far a size may be off by chance, beyond which nothing is said of it
_ENOUGH = 8  # contrasts, from which their scatter is known
_SWING = 4.0  # counts by which an output must move, to be called dead where it does not


class Presence:
    """Watches the size of the response.

    Args:
        timing: bounds, and outputs that are known not to answer.
        outputs: M.
    """

    def __init__(self, timing: Timing, outputs: int) -> None:
        self._timing = timing
        self.gains = np.ones(outputs)  # of each output, relative to the data sheet's
        self._first: dict[bytes, Sync] = {}

    def learn(self, contrasts: Array, promised: Array) -> None:
        """Takes the gains from contrasts (M,) of a reference and what the data sheet promises of it (M,)."""
        self.gains = np.where(promised == 0, 1.0, contrasts / np.where(promised == 0, 1.0, promised))
        self._first = {}

    def forget(self) -> None:
        """After weights were programmed, nothing is known of what they give."""
        self._first = {}

    def check(self, sync: Sync, promised: Array | None, outputs: NDArray[np.intp], key: bytes) -> None:
        """Refuses a play whose response is of another size.

        Args:
            sync: what its sync symbols said.
            promised: (K, T) contrasts by the data sheet; None: it says nothing.
            outputs: (K,) which they are.
            key: names the settings that the play was made with.

        Raises:
            ResponseError: too large or too small.
        """
        if promised is not None and sync.contrast.size >= _ENOUGH:
            expected = promised * self.gains[outputs][:, None]
            self._compare(sync, expected, 0.0, self._timing.max_response_error, "what the data sheet promises")
        first = self._first.get(key)
        if first is not None:
            power = float((first.contrast**2).sum()) - first.contrast.size * first.noise
            error = first.by_chance(power) if power > 0 else 1.0
            change = self._timing.max_response_change
            self._compare(sync, first.contrast, error, change, "what the same weights gave before")
        elif sync.seen:
            self._first[key] = sync

    def check_alive(self, record: NDArray[Any], outputs: NDArray[np.intp], swing: Any) -> None:
        """Refuses a record in which an output never moves although it must.

        Args:
            record: (K, T, samples).
            outputs: (K,) which they are.
            swing: gives (M,) by how many counts each output must move at least once.

        Raises:
            ResponseError: such an output.
        """
        still = record.max((1, 2)) == record.min((1, 2))
        still[np.isin(outputs, self._timing.silent_outputs)] = False
        if not still.any():
            return
        must = swing()[outputs] * np.abs(self.gains[outputs])
        dead = outputs[still & (must >= _SWING)]
        if dead.size:
            raise ResponseError(
                f"output {', '.join(map(str, dead[:8]))} reads {int(record[outputs == dead[0]].flat[0])} all the time, "
                f"though it must move by {float(must[outputs == dead[0]][0]):.0f} counts; is its receiver connected? "
                "One that is known not to answer goes into timing.silent_outputs"
            )

    def _compare(self, sync: Sync, expected: Array, error: float, bound: float, what: str) -> None:
        """Compares contrasts with expected ones, whose size may be off by a relative ``error``."""
        power = float((expected**2).sum())
        if power == 0 or (own := float(np.hypot(sync.by_chance(power), error))) > _KNOWN:
            return
        size = float((sync.contrast * expected).sum()) / power
        rest = float(((sync.contrast - size * expected) ** 2).sum()) / max(1, expected.size - 1)
        by_chance = max(own, sync.sigmas[0] * float(np.sqrt(rest / power)))
        if not abs(size - 1) <= bound + by_chance:
            raise ResponseError(
                f"the response is {size:.2f} (by chance within {by_chance:.2f}) of {what}, the bench allows a change "
                f"of {bound:.0%}: light, gain or coupling have changed; calibrate again"
            )
