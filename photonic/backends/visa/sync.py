"""What the sync symbols of a play say: whether symbols are where they must be, and settled.

The sync symbols of a segment, read as the data are, follow ``a + h_next p[k+1] + h_0 p[k] + h_prev p[k-1]`` with the
known pattern p. ``h_prev`` is what a count still has of the symbol before (sampled before it has settled), ``h_next``
what it has of the one after (sampled too late); their sum ``c`` is the settled contrast. One play says little of one
output, so that all tiles and outputs are pooled, weighted by their contrast.

Noise is taken from what the fit leaves, in two parts: of each output by itself, and of all outputs of a tile alike (the
laser's). Bounds are quantiles of Student and Fisher with the false alarms that five standard errors have, so that few
outputs alarm no more often than many. Where no light can be seen, nothing is said.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as fisher
from scipy.stats import norm
from scipy.stats import t as student

from photonic.backends.visa.sections import Timing
from photonic.backends.visa.waveform import sync_design
from photonic.errors import TimingError

Array = NDArray[np.float64]
SIGMAS = 5.0
_SEEN = 9.0  # power of contrasts over that of their noise, from which they are contrasts
_ROUNDING = 1.0 / 12.0  # variance of a count that is a whole number


class Sync(NamedTuple):
    """What the sync symbols of a play say, pooled over outputs and tiles.

    Attributes:
        contrast: (K, T) counts.
        seen: whether there is light enough to say more.
        noise: variance of one contrast.
        common: relative standard error that all contrasts of the play share.
        sigmas: standard errors of a bound, for noise of each output and for noise that they share.
        before: part of a step between symbols that is still missing; how far that may be by chance.
        after: part of the next symbol's step that is there already; likewise.
        drift: relative mean square change of the contrast from the begin to the end of a segment; how far that may be
            by chance.
    """

    contrast: Array
    seen: bool
    noise: float
    common: float
    sigmas: tuple[float, float]
    before: tuple[float, float] = (0.0, 0.0)
    after: tuple[float, float] = (0.0, 0.0)
    drift: tuple[float, float] = (0.0, 0.0)

    def by_chance(self, power: float) -> float:
        """How far the size of all contrasts may be off, relative to expected ones whose squares sum up to ``power``."""
        own, shared = self.sigmas
        return float(np.hypot(own * np.sqrt(self.noise / power), shared * self.common))


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
        self._tap = covariance[1, 1], covariance[3, 3]
        self._with = float(covariance[1] @ sums), float(covariance[3] @ sums)
        self._freedom = len(pattern) - 4
        self._student: dict[int, float] = {}
        self._fisher: dict[tuple[int, int], float] = {}

    def contrasts(self, symbols: NDArray[np.generic]) -> Array:
        """Settled contrast (K, T, 2) at begin and end of symbols (K, T, 2, S)."""
        return np.asarray(symbols.astype(np.float64) @ self._inverse[1:].sum(0), dtype=np.float64)

    def read(self, symbols: NDArray[np.generic]) -> Sync:
        """What symbols (K, T, 2, S) say."""
        values = symbols.astype(np.float64)
        taps = values @ self._inverse.T
        rest = values - taps @ self._design.T
        outputs, tiles = values.shape[:2]
        number, freedom = 2 * outputs * tiles, 2 * tiles * self._freedom
        noise = float((rest**2).sum()) / (number * self._freedom)
        if symbols.dtype.kind == "i":
            noise = max(noise, _ROUNDING)
        contrast = taps[..., 1:].sum(-1)
        mean, power = contrast.mean(-1), float((contrast**2).sum())
        expected = number * self._contrast * noise
        sigmas = self._sigmas(number * self._freedom), self._sigmas(freedom)
        seen = power > max(_SEEN, self._ratio(number, number * self._freedom)) * expected
        if not seen or power <= 1e-12 * float((values**2).sum()):
            return Sync(mean, False, self._contrast * noise / 2, 0.0, sigmas)
        signal = power - expected
        # noise of the sum over outputs, weighted by contrast: what they have in common is in it
        shared = float((np.einsum("kth,kths->ths", contrast, rest) ** 2).sum()) / self._freedom
        laser = max(0.0, shared - noise * power) / signal**2  # relative variance, of the sum over 2 T parts

        def part(index: int) -> tuple[float, float]:
            tap, bias = taps[..., 1 + 2 * index], number * self._with[index] * noise
            value = (float((tap * contrast).sum()) - bias) / signal
            own, common = sigmas[0] ** 2 * noise * power, sigmas[1] ** 2 * max(0.0, shared - noise * power)
            return value, float(np.sqrt((own + common) * self._tap[index])) / signal

        drift = self._drift(contrast, rest, signal, symbols.dtype.kind == "i")
        common = float(np.sqrt(self._contrast * laser))
        return Sync(mean, True, self._contrast * noise / 2, common, sigmas, part(1), part(0), drift)

    def _drift(self, contrast: Array, rest: Array, signal: float, whole: bool) -> tuple[float, float]:
        """Relative mean square change from begin to end, and how far that may be by chance.

        Noise is that of the quieter half: while weights settle the pattern fits badly, which is no noise.
        """
        outputs, tiles = contrast.shape[:2]
        freedom = tiles * self._freedom
        noise = float((rest**2).sum((0, 1, 3)).min()) / (outputs * freedom)
        if whole:
            noise = max(noise, _ROUNDING)
        power = (contrast**2).sum((0, 1))
        halves = (np.einsum("kth,kths->ths", contrast, rest) ** 2).sum((0, 2)) / self._freedom
        laser = float(np.maximum(0.0, (halves - noise * power) / np.maximum(power, 1e-30) ** 2).min())
        change = float(((contrast[..., 0] - contrast[..., 1]) ** 2).sum()) / (signal / 2)
        by_chance = self._ratio(outputs * tiles, outputs * freedom) * 2 * outputs * tiles * self._contrast * noise
        by_laser = self._ratio(tiles, freedom) * 2 * tiles * self._contrast * laser
        return change, by_chance / (signal / 2) + by_laser

    def _sigmas(self, freedom: int) -> float:
        """Student's quantile with as few false alarms as five standard errors of a known noise have."""
        if freedom not in self._student:
            self._student[freedom] = float(student.isf(norm.sf(SIGMAS), freedom))
        return self._student[freedom]

    def _ratio(self, number: int, freedom: int) -> float:
        """Fisher's quantile of the same, for the mean of ``number`` squares over a noise of ``freedom`` degrees."""
        key = number, freedom
        if key not in self._fisher:
            self._fisher[key] = float(fisher.isf(norm.sf(SIGMAS), *key))
        return self._fisher[key]


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
    changed, bound = found.drift
    if not changed <= timing.max_unsettled**2 + bound:
        raise TimingError(
            f"the response of the weights changes by {np.sqrt(changed):.1%} from the begin of a segment to its end, "
            f"the bench allows {timing.max_unsettled:.1%}: weights have not settled; raise timing.settle_time_s"
        )
