"""From records to symbols: where each output's symbols are, by the sync symbols around the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.sections import Timing
from photonic.backends.visa.waveform import Segment
from photonic.errors import TimingError

Array = NDArray[np.float64]
SIGMAS = 5.0
_RESOLVED = 0.25  # samples
_DRIFT = 3  # symbols by which a sample clock may be off at the end of a segment when it is learned
_EXPLAINED = 0.5  # part of an output's variance that the pattern explains where it answers


@dataclass(frozen=True)
class Skew:
    """Where symbols begin.

    Attributes:
        start: (M,) first sample of the first symbol of a segment, of each output.
        clock: relative excess of the digitizer's sample rate over the source's.
    """

    start: Array
    clock: float = 0.0


class Sampler:
    """Takes symbols out of records.

    Args:
        skew: of the outputs.
        samples_per_symbol: r.
        phase: where in a symbol, 0 to 1.
    """

    def __init__(self, skew: Skew, samples_per_symbol: int, phase: float) -> None:
        self.skew, self._r = skew, samples_per_symbol
        # a symbol begins somewhere between its first sample and the one before: half a sample is left for that
        self._offset = max(0.0, float(np.floor(phase * samples_per_symbol - 0.5)))
        self._starts = np.rint(skew.start).astype(np.intp)

    def take(self, record: NDArray[np.generic], outputs: NDArray[np.intp], symbols: NDArray[np.intp]) -> NDArray[Any]:
        """Symbols of all segments, (K, T, *symbols) for a record (K, T, samples) of K outputs.

        Raises:
            TimingError: a symbol would lie outside of its segment.
        """
        flat = symbols.ravel()
        places = np.asarray(np.floor(flat * (self._r * (1.0 + self.skew.clock)) + self._offset + 1e-9), dtype=np.intp)
        starts = self._starts[outputs]
        if places.size:
            first, last = int(places.min() + starts.min()), int(places.max() + starts.max())
            if first < 0 or last >= record.shape[-1]:
                raise TimingError(
                    f"samples {first} to {last} of a segment are beyond its {record.shape[-1]}; raise "
                    "timing.guard_symbols"
                )
        found = np.empty((*record.shape[:2], flat.size), dtype=record.dtype)
        regular = _stride(places)
        for start in np.unique(starts):
            rows = starts == start
            which = slice(None) if rows.all() else np.flatnonzero(rows)
            if regular is not None:
                first = int(start + places[0])
                found[which] = record[which, :, first : first + regular * flat.size : regular]
            else:
                found[which] = np.take(record[which], start + places, axis=-1)
        return found.reshape(*record.shape[:2], *symbols.shape)


def _stride(places: NDArray[np.intp]) -> int | None:
    """The step of evenly spaced places; None: they are not."""
    if places.size < 2:
        return 1 if places.size else None
    steps = np.diff(places)
    return int(steps[0]) if steps[0] > 0 and (steps == steps[0]).all() else None


class Learned(NamedTuple):
    """What one play of sync symbols alone says of each output.

    Attributes:
        start: (M,) where its symbols begin, in samples.
        stretch: (M,) how many samples later the sync at the end comes than it was played.
        explained: (M,) part of the variance that the pattern explains.
    """

    start: Array
    stretch: Array
    explained: Array


def learn(record: NDArray[np.generic], segment: Segment, pattern: Array, longest: int) -> Learned:
    """Finds the symbols of a record (M, samples) of one segment, among delays up to ``longest`` samples.

    The delay is where the contrast, over the samples of a symbol, is greatest; a centre of gravity makes it finer.
    """
    r, values = segment.samples_per_symbol, record.astype(np.float64)
    centred = pattern - pattern.mean()
    places = segment.sync_symbols() * r  # (2, S)
    lags = np.arange(-_DRIFT * r, longest + (_DRIFT + 1) * r)
    index = np.clip(places[:, None, :] + lags[:, None], 0, values.shape[-1] - 1)  # (2, L, S)
    some = values[:, index]  # (M, 2, L, S)
    energy = (some @ centred) ** 2 / (centred**2).sum()
    spread = some.var(-1) * len(pattern)
    # summed over the samples of a symbol
    window = np.lib.stride_tricks.sliding_window_view(energy, r, axis=-1).sum(-1)
    best = window.argmax(-1)  # (M, 2)
    last = (best + r - 1)[..., None]
    explained = np.take_along_axis(energy, last, -1) / np.maximum(np.take_along_axis(spread, last, -1), 1e-30)
    near = np.clip(best[..., None] + np.arange(-1, r + 1), 0, len(lags) - 1)
    weight = np.take_along_axis(energy, near, -1)
    centres = (weight * lags[near]).sum(-1) / np.maximum(weight.sum(-1), 1e-30)
    start = lags[best[:, 0]].astype(np.float64)
    explained = np.where(start <= longest, explained.mean((1, 2)), 0.0)
    return Learned(start, centres[:, 1] - centres[:, 0], explained)


def clearest(some: list[Learned], others: list[Learned]) -> list[Learned]:
    """Of two lists of as many plays, for each output those that the pattern explains better."""
    better = np.mean([play.explained for play in others], 0) > np.mean([play.explained for play in some], 0)
    return [
        Learned(*(np.where(better, b, a) for a, b in zip(*pair, strict=True)))
        for pair in zip(some, others, strict=True)
    ]


def skew_of(plays: list[Learned], segment: Segment, timing: Timing) -> Skew:
    """Where symbols begin, from several plays; silent outputs begin where the others do.

    Raises:
        TimingError: an output does not show the pattern.
    """
    explained = np.mean([play.explained for play in plays], 0)
    silent = np.zeros(len(explained), dtype=bool)
    silent[list(timing.silent_outputs)] = True
    lost = np.flatnonzero(~silent & ~(explained >= _EXPLAINED))
    if lost.size:
        raise TimingError(
            f"{lost.size} of {len(explained)} outputs ({', '.join(map(str, lost[:8]))}) do not show the sync pattern: "
            f"it explains {float(explained[lost[0]]):.0%} of what output {lost[0]} reads; does light reach them, is "
            "the digitizer triggered, is their delay below timing.max_skew_symbols? An output that is known not to "
            "answer goes into timing.silent_outputs"
        )
    if silent.all():
        raise TimingError("all outputs are in timing.silent_outputs; nothing can be timed")
    start = np.median([play.start for play in plays], 0)
    start[silent] = np.median(start[~silent])
    stretch = np.stack([play.stretch[~silent] for play in plays])
    error = float(stretch.std(ddof=1) / np.sqrt(stretch.size)) if stretch.size > 1 else 0.0
    mean = float(stretch.mean())
    # what is not significant is not applied, nor what is less than a sample is resolved to
    applied = abs(mean) > max(_RESOLVED, SIGMAS * error)
    return Skew(start, mean / (segment.tail * segment.samples_per_symbol) if applied else 0.0)
