"""From symbols to samples: where sync, guard and data symbols of a segment are, and the waveforms that hold them.

A segment is sync, guard, data, guard, sync, guard, then dark up to the length that the instruments want::

    [sync S][guard G][data B x stride][guard G][sync S][guard G][padding]

Every symbol is ``samples_per_symbol`` equal samples. The sync symbols at the end see a wrong sample clock, and weights
that have not settled when the segment begins. With an AC-coupled receiver a shot is two symbols, light and dark, and
its count is the difference; where shots are spaced, dark symbols follow each of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[Any]
_CANDIDATES = 256  # patterns of which the best is taken


@dataclass(frozen=True)
class Segment:
    """Where the symbols of a segment are.

    Attributes:
        shots: B.
        stride: symbols of a shot: the data symbol, a dark one with an AC-coupled receiver, and dark ones to recover.
        sync: S.
        guard: G.
        samples_per_symbol: r.
        samples: of the whole segment.
    """

    shots: int
    stride: int
    sync: int
    guard: int
    samples_per_symbol: int
    samples: int

    @classmethod
    def of(
        cls,
        shots: int,
        *,
        sync: int,
        guard: int,
        samples_per_symbol: int,
        granularity: int = 1,
        minimum: int = 0,
        stride: int = 1,
    ) -> Segment:
        """The shortest segment for this many shots whose length instruments take, and that holds whole symbols."""
        symbols = 2 * sync + 3 * guard + shots * stride
        step = math.lcm(granularity, samples_per_symbol)
        samples = -(-max(symbols * samples_per_symbol, minimum) // step) * step
        return cls(shots, stride, sync, guard, samples_per_symbol, samples)

    @property
    def data(self) -> int:
        """First symbol of the data."""
        return self.sync + self.guard

    @property
    def tail(self) -> int:
        """First symbol of the sync at the end."""
        return self.data + self.shots * self.stride + self.guard

    @property
    def marker(self) -> tuple[int, int]:
        """First sample of the data, and how many."""
        return self.data * self.samples_per_symbol, self.shots * self.stride * self.samples_per_symbol

    def sync_symbols(self) -> NDArray[np.intp]:
        """(2, S) positions of the sync symbols, in symbols."""
        return np.asarray(np.arange(self.sync) + np.array([[0], [self.tail]]))

    def data_symbols(self) -> NDArray[np.intp]:
        """(B,) positions of the data symbols, in symbols."""
        return np.asarray(self.data + np.arange(self.shots) * self.stride)


def sync_pattern(symbols: int) -> NDArray[np.float64]:
    """(S,) zeros and ones in which a symbol, the one before and the one after can best be told apart."""
    generator = np.random.default_rng(symbols)
    patterns = generator.integers(0, 2, (_CANDIDATES, symbols)).astype(np.float64)
    worst = [np.linalg.eigvalsh(design.T @ design)[0] for design in map(sync_design, patterns)]
    return np.asarray(patterns[int(np.argmax(worst))])


def sync_design(pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, 4): a constant, the symbol after, the symbol itself, the symbol before; it is dark around the pattern."""
    framed = np.concatenate([[0.0], pattern, [0.0]])
    return np.stack([np.ones_like(pattern), framed[2:], framed[1:-1], framed[:-2]], axis=1)


def waveforms(
    inputs: Codes, segment: Segment, pattern: NDArray[np.float64], bright: Codes, dark: float, idle: float
) -> Codes:
    """Raw codes (N, C x samples) of C segments.

    Args:
        inputs: (C, B, N) codes of the data.
        segment: where they go.
        pattern: (S,) of the sync symbols.
        bright: (C, N) codes of a sync symbol that is 1.
        dark: code of a sync symbol that is 0, of guards, and between shots.
        idle: code of the padding.
    """
    columns, _, n = inputs.shape
    r = segment.samples_per_symbol
    played = (segment.tail + segment.sync + segment.guard) * r
    out = np.full((n, columns, segment.samples), dark, dtype=inputs.dtype)
    out[:, :, played:] = idle
    symbols = out[:, :, :played].reshape(n, columns, -1, r)  # splitting an axis gives a view
    symbols[:, :, segment.data_symbols()] = inputs.transpose(2, 0, 1)[..., None]
    lit = np.flatnonzero(pattern)
    for start in (0, segment.tail):
        symbols[:, :, start + lit] = bright.T[:, :, None, None]
    return out.reshape(n, -1)
