"""Standard normal samples in large numbers: several streams, so that several cores can fill one tensor.

torch draws normal samples on one core, and these draws are most of what an exact chip costs. So a large tensor is cut
into ``STREAMS`` parts, each with a generator of its own, whatever the number of threads: it decides about time only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

STREAMS = 4
# below, waking another thread costs more than it spares
_SMALLEST = 2**16


class NormalDraws:
    """Generators that one owner seeds, and the threads that they are used on."""

    def __init__(self) -> None:
        self._generators = tuple(torch.Generator() for _ in range(STREAMS))
        self._seeds: Sequence[int] = (0,) * STREAMS
        self._seeded = 0  # how many of them have their seed
        self._elsewhere: dict[torch.device, torch.Generator] = {}
        self._pool: tuple[int, int, ThreadPoolExecutor] | None = None

    @property
    def first(self) -> torch.Generator:
        """The generator of the first stream, for what is drawn in small numbers."""
        if not self._seeded:
            self._seed(1)
        return self._generators[0]

    def on(self, device: torch.device) -> torch.Generator:
        """The generator of the first stream on that device, seeded for this call."""
        if device.type == "cpu":
            return self.first
        if device not in self._elsewhere:
            self._elsewhere[device] = torch.Generator(device).manual_seed(self._seeds[0])
        return self._elsewhere[device]

    def seed(self, seeds: Sequence[int]) -> None:
        """Begins ``STREAMS`` new streams; the seeds take effect when a stream is first used."""
        self._seeds, self._seeded = seeds, 0
        self._elsewhere.clear()

    def fill_(self, out: Tensor) -> Tensor:
        """Overwrites a tensor with independent standard normal samples."""
        if out.numel() < _SMALLEST or not out.is_contiguous() or out.device.type != "cpu":
            return out.normal_(generator=self.on(out.device))
        self._seed(STREAMS)
        parts = out.view(-1).chunk(STREAMS)
        threads = min(len(parts), torch.get_num_threads())
        waiting = [self._workers(threads).submit(self._fill, parts, first, threads) for first in range(1, threads)]
        self._fill(parts, 0, threads)
        for future in waiting:
            future.result()
        return out

    def close(self) -> None:
        """Ends the threads; they come back when they are needed."""
        if self._pool is not None:
            self._pool[2].shutdown()
            self._pool = None

    def _fill(self, parts: Sequence[Tensor], first: int, step: int) -> None:
        # inference mode belongs to a thread, and its tensors may not be written outside
        with torch.inference_mode(parts[0].is_inference()):
            for part, generator in list(zip(parts, self._generators, strict=False))[first::step]:
                part.normal_(generator=generator)

    def _seed(self, count: int) -> None:
        for generator, seed in list(zip(self._generators, self._seeds, strict=True))[self._seeded : count]:
            generator.manual_seed(seed)
        self._seeded = max(self._seeded, count)

    def _workers(self, threads: int) -> ThreadPoolExecutor:
        """A pool for the other threads; a forked process, which has none of its parent's, makes its own."""
        if self._pool is None or self._pool[:2] != (os.getpid(), threads):
            self._pool = os.getpid(), threads, ThreadPoolExecutor(max(1, threads - 1), "photonic-draws")
        return self._pool[2]
