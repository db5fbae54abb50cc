"""What the chip behind the bench makes of one play."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from photonic.backends.chip import Chip
from photonic.errors import ChipError, PhotonicError


def symbol_counts(
    chip: Chip, weights: Tensor, symbols: NDArray[Any], data: tuple[int, int], conditions: Mapping[str, float]
) -> NDArray[Any]:
    """Counts (M, T, K) of all symbols of a play.

    The chip's own sequence of calls sees the data symbols alone: what it draws for the others is taken back where it
    keeps a state. Weights that hold still make one call of the data.

    Args:
        chip: behind the bench.
        weights: (J, R, C, P) drive codes at J moments of each segment.
        symbols: (N, C, K) input codes.
        data: first symbol under the marker, and how many.
        conditions: of the calls.
    """
    inputs = torch.from_numpy(symbols).permute(1, 2, 0).contiguous().to(chip.spec.code_dtype)  # (C, K, N)
    counts = torch.empty(*weights.shape[1:3], inputs.shape[1], chip.spec.n_outputs, dtype=chip.spec.count_dtype)
    parts = list(_parts(weights, inputs.shape[1]))
    for codes, begin, end in parts:
        low, high = max(begin, data[0]), min(end, data[0] + data[1])
        if low < high:
            counts[:, :, low:high] = _measured(chip, codes, inputs[:, low:high], conditions)
    state = chip.state()
    for codes, begin, end in parts:
        where = [k for k in range(begin, end) if not data[0] <= k < data[0] + data[1]]
        if where:
            counts[:, :, where] = _measured(chip, codes, inputs[:, where], conditions)
            if state:
                chip.restore(state)
    return counts.flatten(0, 1).permute(2, 0, 1).contiguous().numpy()


def _measured(chip: Chip, codes: Tensor, inputs: Tensor, conditions: Mapping[str, float]) -> Tensor:
    try:
        return chip.measure(codes, inputs.contiguous(), conditions).counts
    except PhotonicError:
        raise
    except Exception as error:  # whatever a third party's chip raises, its client learns from the error queue
        raise ChipError(f"{type(error).__name__}: {error}") from error


def _parts(weights: Tensor, symbols: int) -> Iterator[tuple[Tensor, int, int]]:
    """Weights, and the symbols during which they hold: all of them, where nothing moves."""
    if all(torch.equal(weights[0], other) for other in weights[1:]):
        yield weights[0], 0, symbols
        return
    ends = np.linspace(0, symbols, len(weights) + 1).round().astype(int)
    for codes, begin, end in zip(weights, ends[:-1], ends[1:], strict=True):
        yield codes, int(begin), int(end)
