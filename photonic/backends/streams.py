"""The noise of simulated backends, keyed by call, rank and worker (docs/decisions/0004)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.distributed as dist
from torch.utils.data import get_worker_info

from photonic.errors import ChipError
from photonic.physics import seeds
from photonic.physics.draws import NormalDraws


class CallStreams:
    """Draws that a call's number, and nothing before it, decides about.

    Args:
        key: names the streams, e.g. device, run seed and purpose.

    Attributes:
        draws: seeded for the current call.
        calls: index of the next call; all that a resumed run needs.
    """

    def __init__(self, *key: int | str) -> None:
        self._key = key
        self._place: tuple[int, int | None] | None = None  # rank and worker
        self._base = 0
        self.draws = NormalDraws()
        self.calls = 0

    def begin_call(self) -> None:
        """Seeds the draws of this call, from rank and worker as they are now: they may have come after the chip."""
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        worker = get_worker_info()
        place = rank, None if worker is None else worker.id
        if place != self._place:
            self._place = place
            self._base = seeds.derive(*self._key, *(part for part in place if part is not None))
        # consecutive calls of a stream get consecutive seeds, which differ in the bits that torch's generator takes too
        self.draws.seed(self._base + self.calls)
        self.calls += 1

    def state(self) -> dict[str, Any]:
        """The index of the next call."""
        return {"calls": self.calls}

    def restore(self, state: Mapping[str, Any], owner: str) -> None:
        """Goes on with call ``state["calls"]``.

        Raises:
            ChipError: the state is not one of these streams, which are those of ``owner``.
        """
        calls = state.get("calls")
        if set(state) != {"calls"} or type(calls) is not int or calls < 0:
            raise ChipError(f"{owner}: expected the state {self.state()}, found {dict(state)}")
        self.calls = calls
