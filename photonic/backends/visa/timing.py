"""From records to counts: where each output's symbols are, and whether they are settled where they are sampled.

The sync symbols of a segment, read as the data are, follow ``a + h_next p[k+1] + h_0 p[k] + h_prev p[k-1]`` with the
known pattern p. ``h_prev`` is what a count still has of the symbol before (sampled before it has settled), ``h_next``
what it has of the one after (sampled too late); their sum ``c`` is the settled contrast. One play says little of one
output, so that all tiles and outputs are pooled, weighted by their contrast. Limits are five standard errors wide;
these are taken from what the fit leaves of that pooled signal, for outputs share noise (the laser's). Where no light
can be seen, nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from photonic.backends.visa.sections import Timing
from photonic.backends.visa.waveform import Segment, sync_design
from photonic.errors import TimingError

Array = NDArray[np.float64]
SIGMAS = 5.0
_SEEN = 3.0  # rms contrast over its noise, from which it is a contrast
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
            last = int(places.max() + starts.max())
            if places.min() + starts.min() < 0 or last >= record.shape[-1]:
                raise TimingError(
                    f"sample {last} of a segment is beyond its {record.shape[-1]}; raise timing.guard_symbols"
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


class Sync(NamedTuple):
    """What the sync symbols of a play say, pooled over outputs and tiles.

    Attributes:
        contrast: (K, T) counts.
        seen: whether there is light enough to say anything.
        before: part of a step between symbols that is still missing; how far that may be by chance.
        after: part of the next symbol's step that is there already; likewise.
        drift: relative change of the contrast from the begin to the end of a segment, rms, noise taken off; its bound.
    """

    contrast: Array
    seen: bool
    before: tuple[float, float] = (0.0, 0.0)
    after: tuple[float, float] = (0.0, 0.0)
    drift: tuple[float, float] = (0.0, 0.0)


class SyncReader:
    """Judges sync symbols.

    Args:
        pattern: (S,) zeros and ones.
    """

    def __init__(self, pattern: Array) -> None:
        self.pattern = pattern
        self._design = sync_design(pattern)
        self._inverse = np.asarray(np.linalg.pinv(self._design), dtype=np.float64)
        covariance = np.linalg.inv(self._design.T @ self._design)
        sums = np.array([0.0, 1.0, 1.0, 1.0])
        self._contrast = float(sums @ covariance @ sums)  # variance of c, of unit noise
        self._quantiles: dict[int, float] = {}
        self._tap = covariance[1, 1], covariance[3, 3]
        self._with = float(covariance[1] @ sums), float(covariance[3] @ sums)

    def contrasts(self, symbols: NDArray[np.generic]) -> Array:
        """Settled contrast (K, T, 2) at begin and end of symbols (K, T, 2, S)."""
        return np.asarray(symbols.astype(np.float64) @ self._inverse[1:].sum(0), dtype=np.float64)

    def read(self, symbols: NDArray[np.generic]) -> Sync:
        """What symbols (K, T, 2, S) say."""
        values = symbols.astype(np.float64)
        taps = values @ self._inverse.T
        rest = values - taps @ self._design.T
        outputs, tiles = values.shape[:2]
        freedom = len(self.pattern) - 4
        noise = float((rest**2).sum()) / (2 * outputs * tiles * freedom)
        contrast = taps[..., 1:].sum(-1)
        power, expected = float((contrast**2).sum()), 2 * outputs * tiles * self._contrast * noise
        if power <= _SEEN**2 * max(expected, 1e-12 * float((values**2).sum())):
            return Sync(contrast.mean(-1), False)
        signal = power - expected
        # noise of the weighted sum over outputs, whatever they have in common, from what is left of it
        common = np.einsum("kth,kths->ths", contrast, rest)
        shared = float((common**2).sum()) / freedom
        sigmas = self._sigmas(2 * tiles * freedom)

        def part(index: int) -> tuple[float, float]:
            tap, bias = taps[..., 1 + 2 * index], 2 * outputs * tiles * self._with[index] * noise
            value = (float((tap * contrast).sum()) - bias) / signal
            return value, sigmas * float(np.sqrt(max(shared, noise * power) * self._tap[index])) / signal

        # change is that of one contrast: compare it with the mean power of one
        change, by_noise = contrast[..., 0] - contrast[..., 1], expected
        excess = (float((change**2).sum()) - by_noise) / (signal / 2)
        bound = by_noise * SIGMAS * float(np.sqrt(2 / tiles)) / (signal / 2)
        return Sync(contrast.mean(-1), True, part(1), part(0), (excess, bound))

    def _sigmas(self, freedom: int) -> float:
        """Student's quantile with as few false alarms as five standard errors of a known noise have."""
        if freedom not in self._quantiles:
            self._quantiles[freedom] = float(student.isf(norm.sf(SIGMAS), freedom))
        return self._quantiles[freedom]


def check_sync(found: Sync, timing: Timing) -> None:
    """Refuses a play whose symbols are not where they must be, or not settled.

    Raises:
        TimingError: naming the key of the bench file that is likely wrong.
    """
    if not found.seen:
        return
    for (part, error), what in ((found.before, "before"), (found.after, "after")):
        if not abs(part) <= timing.max_memory + error:
            raise TimingError(
                f"the sampled phase has {part:.1%} (by chance up to {error:.1%}) of the symbol {what} it, the bench "
                f"allows {timing.max_memory:.1%}: symbols are not where they must be, or have not settled; check "
                "timing.sample_phase and timing.symbol_rate_hz, the trigger, and the sample clocks"
            )
    excess, bound = found.drift
    if not excess <= timing.max_unsettled**2 + bound:
        raise TimingError(
            f"the response of the weights changes by {np.sqrt(excess):.1%} from the begin of a segment to its end, the "
            f"bench allows {timing.max_unsettled:.1%}: weights have not settled; raise timing.settle_time_s"
        )


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
