"""A sine at the electrical input of an ADC: INL from its histogram, effective bits from its residual."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.quantised import check_counts
from photonic.errors import CalibrationError, RangeError, ShapeError

Array = NDArray[np.float64]

_STEPS = 50
_LEAST = 1e-12
_GAP = 4.0  # of the widest gap between n random phases, log(n) / n


class SineFit(NamedTuple):
    """A sine through counts: offset + amplitude cos(2 pi frequency n + phase).

    Attributes:
        amplitude: counts.
        offset: counts.
        phase: rad.
        frequency: cycles per reading.
        residual: rms of what is left, counts.
        sinad_db: signal to noise and distortion.
        enob: log2(2^bits / (residual sqrt(12))), IEEE Std 1241.
        enob_se: standard error, of white residuals.
    """

    amplitude: float
    offset: float
    phase: float
    frequency: float
    residual: float
    sinad_db: float
    enob: float
    enob_se: float


def sine_histogram_inl(counts: Array, bits: int) -> tuple[Array, Array]:
    """Transitions and standard errors (2^bits - 1,) from a sine at the ADC's electrical input.

    The share of readings below T is arccos(-(T - offset) / amplitude) / pi, so that -cos(pi share) is linear in T (IEEE
    Std 1241, 4.1.6; Doernberg, Lee and Hodges, IEEE J. Solid-State Circuits 19, 820 (1984)). Amplitude and offset go
    with the line, by least squares over all transitions that readings straddle; beyond them the INL continues. Standard
    errors are those of random phases; a whole number of periods that has no factor in common with n does better.

    Args:
        counts: (n,) of even spacing in time, from -2^(bits - 1); noise of the input rounds the ends of the sine only.
        bits: of the ADC.

    Raises:
        RangeError: counts that the ADC cannot give, fewer than 4 codes in use, or a sine that repeats itself.
        CalibrationError: the counts are all alike.
    """
    low = -(2.0 ** (bits - 1))
    check_counts(counts, (low, -low - 1))
    ideal = np.arange(1, 1 << bits) + low - 0.5
    histogram = np.bincount((counts - low).astype(np.int64), minlength=1 << bits)
    share = histogram.cumsum()[:-1] / len(counts)
    known = (share > 0) & (share < 1)
    if known.sum() < 3:
        raise RangeError(
            f"the sine must pass 4 codes or more, found {np.count_nonzero(histogram)}; raise its amplitude"
        )
    _check_phases(counts)
    place = -np.cos(np.pi * share)
    gain, offset = np.polyfit(place[known], ideal[known], 1)
    raw = gain * place + offset - ideal
    slope, rest = np.polyfit(ideal[known], raw[known], 1)
    inl = np.interp(ideal, ideal[known], (raw - rest - slope * ideal)[known])
    spread = np.sqrt(share * (1 - share) / len(counts))
    return ideal + inl, np.where(known, gain * np.pi * np.sin(np.pi * share) * spread, np.inf)


def _check_phases(counts: Array) -> None:
    """Refuses a sine whose readings leave gaps in its phase that chance would not leave."""
    frequency = _strongest(counts)
    phases = np.sort(frequency * np.arange(len(counts)) % 1.0)
    gap = float(np.diff(phases, append=phases[0] + 1.0).max())
    if gap > _GAP * math.log(len(counts)) / len(counts):
        raise RangeError(
            f"the readings must meet the sine at phases all over, found a gap of {gap:.2g} periods at {frequency:.6g} "
            "cycles per reading; choose a frequency that is no simple fraction of the sampling rate"
        )


def sine_fit(counts: Array, bits: int, frequency: float | None = None) -> SineFit:
    """Sine through counts by least squares: 3 parameters at a known frequency, 4 otherwise (IEEE Std 1057, annex A).

    Args:
        counts: (n,) of even spacing in time, with 3 periods or more.
        bits: of the ADC, for its full scale.
        frequency: cycles per reading, above 0 and below 0.5; None: fitted, from the largest line of the spectrum.

    Raises:
        ShapeError: fewer than 16 counts.
        RangeError: a frequency out of bounds, or counts that are not finite.
        CalibrationError: no sine is in the counts, or the frequency does not settle.
    """
    if counts.ndim != 1 or len(counts) < 16:
        raise ShapeError(f"counts must be (n >= 16,), found {counts.shape}")
    if not np.isfinite(counts).all() or not (frequency is None or 0 < frequency < 0.5):
        raise RangeError(f"counts must be finite and the frequency between 0 and 0.5, found {frequency}")
    time = np.arange(len(counts), dtype=np.float64)
    f = _strongest(counts) if frequency is None else frequency
    coefficients, residual = _three(counts, time, f)
    for _ in range(_STEPS if frequency is None else 0):
        turn = 2 * np.pi * f * time
        slope = 2 * np.pi * time * (coefficients[1] * np.cos(turn) - coefficients[0] * np.sin(turn))
        design = np.stack((np.cos(turn), np.sin(turn), np.ones_like(time), slope), 1)
        change = float(np.linalg.lstsq(design, counts, rcond=None)[0][3])
        f += change
        if not 0 < f < 0.5:
            raise CalibrationError("the frequency of the sine does not settle; pass it, or record 3 periods or more")
        coefficients, residual = _three(counts, time, f)
        if abs(change) * len(counts) < 1e-9:
            break
    amplitude = float(np.hypot(coefficients[0], coefficients[1]))
    degrees = len(counts) - (3 if frequency is not None else 4)
    rms = max(float(np.sqrt((residual**2).sum() / degrees)), _LEAST)
    enob = math.log2(2**bits / (rms * math.sqrt(12)))
    return SineFit(
        amplitude, float(coefficients[2]), math.atan2(-coefficients[1], coefficients[0]), f, rms,
        20 * math.log10(max(amplitude, _LEAST) / (math.sqrt(2) * rms)), enob,
        1 / (math.log(2) * math.sqrt(2 * degrees)),
    )  # fmt: skip


def _three(counts: Array, time: Array, frequency: float) -> tuple[Array, Array]:
    """Cosine, sine and offset at a frequency, and the residual."""
    turn = 2 * np.pi * frequency * time
    design = np.stack((np.cos(turn), np.sin(turn), np.ones_like(time)), 1)
    found = np.linalg.lstsq(design, counts, rcond=None)[0]
    return found, counts - design @ found


def _strongest(counts: Array) -> float:
    """Frequency of the largest line, between the bins by the parabola through its window's logarithms."""
    power = np.abs(np.fft.rfft((counts - counts.mean()) * np.hanning(len(counts)))) ** 2
    top = int(power[1:-1].argmax()) + 1
    if not power[top] > 0:
        raise CalibrationError("no sine is in the counts: they are all alike; check the generator")
    left, middle, right = np.log(np.maximum(power[top - 1 : top + 2], _LEAST))
    bend = left - 2 * middle + right
    return float((top + (0.5 * (left - right) / bend if bend < 0 else 0.0)) / len(counts))
