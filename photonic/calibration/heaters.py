"""Phase of an interferometer against the power of its heater, from spectra.

Heating one arm moves the fringes of the transmission; the phase of the fringe, followed from spectrum to spectrum, is
the phase that the heater adds. It is proportional to the electrical power to first order (thermo-optic effect), with a
curvature where the heater's efficiency changes with temperature (reference/calibration.md 2, step 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photonic.errors import CalibrationError, RangeError, ShapeError

Array = NDArray[np.float64]

_LEAST_FRINGES = 3.0  # in the window: with fewer, the slow shape of the spectrum passes for a fringe
_LEAST_CONTRAST = 4.0  # of the fringe's line above the median of the others
_LARGEST_STEP_RAD = 2.5  # between neighbouring powers; half a turn or more cannot be told from less


@dataclass(frozen=True)
class HeaterFit:
    """Polynomial phase(P) = c0 + c1 P + c2 P^2 of one output of one device.

    Attributes:
        coefficients: (degree + 1,) rad, rad/W, rad/W^2.
        errors: (degree + 1,) standard errors from the residuals; nan where none are left over.
        residual_rms: rad, of the points in the fit.
        left_out_rms: rad, each point predicted from the others.
    """

    coefficients: Array
    errors: Array
    residual_rms: float
    left_out_rms: float

    def at(self, power_w: Array) -> Array:
        """(n,) rad at (n,) W."""
        return np.asarray(np.polynomial.polynomial.polyval(power_w, self.coefficients))


def fringe_phase(wavelength_nm: Array, power_dbm: Array, reference_dbm: Array, window_nm: tuple[float, float]) -> Array:
    """Phase of the fringe in each spectrum, relative to the first.

    Transmission = 10^((power - reference) / 10) on an even grid of optical frequency, a Hann window, and its Fourier
    component at the one line that stands out in all spectra together. Positive phase moves a fringe towards lower
    frequency, hence longer wavelength: the phase of cos(2 pi nu tau + phase). The sign tells which arm is heated.

    Args:
        wavelength_nm: (W,) rising.
        power_dbm: (n, W) spectra in the order of the drive, so that neighbours differ by less than half a turn.
        reference_dbm: (W,) what the path has without the interferometer.
        window_nm: part of the spectrum to use.

    Returns:
        (n,) rad, the first 0, unwrapped.

    Raises:
        ShapeError, RangeError: spectra that do not fit together, or a window outside of them.
        CalibrationError: no fringe stands out, or the phase jumps by too much to be followed.
    """
    _check_spectra(wavelength_nm, power_dbm, reference_dbm, window_nm)
    inside = (wavelength_nm >= window_nm[0]) & (wavelength_nm <= window_nm[1])
    frequency = 1.0 / wavelength_nm[inside][::-1]  # in units of c / nm; the scale drops out
    even = np.linspace(frequency[0], frequency[-1], frequency.size)
    transmission = 10 ** ((power_dbm[:, inside] - reference_dbm[inside])[:, ::-1] / 10)
    waves = np.stack([np.interp(even, frequency, each) for each in transmission])
    window = np.hanning(even.size)
    window = window / window.sum()
    flat = waves / (waves @ window)[:, None] - 1.0
    line = _line(np.sqrt(np.sum(np.abs(np.fft.rfft(flat * window, 4 * even.size)) ** 2, axis=0)) / 4)
    component = (flat * window) @ np.exp(-2j * np.pi * line * np.arange(even.size) / even.size)
    phase = np.unwrap(np.angle(component))
    steps = np.abs(np.diff(phase))
    if steps.size and steps.max() > _LARGEST_STEP_RAD:
        raise CalibrationError(
            f"the phase moves by {steps.max():.2f} rad between neighbouring drives, where {_LARGEST_STEP_RAD} can be "
            f"followed without doubt; take spectra at more drives"
        )
    return np.asarray(phase - phase[0])


def _check_spectra(wavelength: Array, power: Array, reference: Array, window: tuple[float, float]) -> None:
    if power.ndim != 2 or power.shape[1:] != wavelength.shape or reference.shape != wavelength.shape:
        raise ShapeError(
            f"spectra must be (n, {wavelength.size}) and the reference ({wavelength.size},) for this wavelength axis, "
            f"found {power.shape} and {reference.shape}"
        )
    if not all(np.isfinite(values).all() for values in (wavelength, power, reference)):
        raise RangeError("wavelengths and spectra must be finite; cut the part that was not measured")
    if not (np.diff(wavelength) > 0).all():
        raise RangeError("wavelengths must rise; sort the spectra by them")
    if not wavelength[0] <= window[0] < window[1] <= wavelength[-1]:
        raise RangeError(f"window {window} nm must lie inside the spectra, {wavelength[0]:g} to {wavelength[-1]:g} nm")


def _line(spectrum: Array) -> float:
    """Cycles per window of the strongest line, from a spectrum padded four times."""
    slowest = int(4 * _LEAST_FRINGES)
    peak = slowest + int(np.argmax(spectrum[slowest:]))
    if peak == slowest or spectrum[peak] < _LEAST_CONTRAST * np.median(spectrum[slowest:]):
        raise CalibrationError(
            f"no fringe stands out with at least {_LEAST_FRINGES:g} periods in the window; widen the window, or check "
            f"that the spectra are of an interferometer"
        )
    return peak / 4


def fit_heater(power_w: Array, phase_rad: Array, degree: int = 1) -> HeaterFit:
    """Least squares of phase against heater power, and its leave-one-out error.

    Leaving one out costs no refit: the error is residual / (1 - leverage).

    Args:
        power_w: (n,) electrical power.
        phase_rad: (n,) from ``fringe_phase``.
        degree: 1 or 2.

    Raises:
        CalibrationError: fewer than degree + 2 different powers: nothing would be left to judge the fit by.
    """
    if power_w.shape != phase_rad.shape or power_w.ndim != 1:
        raise ShapeError(f"power and phase must be two vectors of one length, found {power_w.shape}, {phase_rad.shape}")
    if np.unique(power_w).size < degree + 2:
        raise CalibrationError(
            f"degree {degree} takes at least {degree + 2} different heater powers, found {np.unique(power_w).size}"
        )
    scale = float(np.abs(power_w).max())
    basis = np.vander(power_w / scale, degree + 1, increasing=True)
    orthogonal, upper = np.linalg.qr(basis)
    solution = np.linalg.solve(upper, orthogonal.T @ phase_rad)
    residual = phase_rad - basis @ solution
    leverage = np.minimum(np.sum(orthogonal**2, axis=1), 1 - 1e-12)
    inverse = np.linalg.inv(upper)
    variance = np.sum(residual**2) / (power_w.size - degree - 1)
    units = scale ** -np.arange(degree + 1.0)
    return HeaterFit(
        coefficients=solution * units,
        errors=np.sqrt(np.sum(inverse**2, axis=1) * variance) * units,
        residual_rms=float(np.sqrt(np.mean(residual**2))),
        left_out_rms=float(np.sqrt(np.mean((residual / (1 - leverage)) ** 2))),
    )


def pooled_curvature(quadratic: Sequence[HeaterFit]) -> tuple[float, float]:
    """Curvature kappa in phase = c0 + c1 (P + kappa P^2) that the series have in common, and its standard error.

    Least squares of c2 on c1 through the origin; the error is a jackknife over the series.

    Args:
        quadratic: fits of degree 2, at least 2 of them.

    Returns:
        1/W, 1/W.

    Raises:
        CalibrationError: fewer than 2 fits.
    """
    if len(quadratic) < 2:
        raise CalibrationError(f"a pooled curvature takes at least 2 series, found {len(quadratic)}")
    linear, square = np.array([fit.coefficients[1:] for fit in quadratic]).T
    kappa = float(linear @ square / (linear @ linear))
    without = (linear @ square - linear * square) / (linear @ linear - linear**2)
    count = len(quadratic)
    return kappa, float(np.sqrt((count - 1) / count * np.sum((without - without.mean()) ** 2)))


def heater_power(volts: Array, amperes: Array) -> tuple[Array, int]:
    """Power of the one heater that a series drives, and which it is.

    Args:
        volts: (n, H) measured at each heater.
        amperes: (n, H).

    Returns:
        (n,) W, and the heater's number from 0.

    Raises:
        CalibrationError: no heater's power changes, or more than one does (over 1 % of the largest change): then the
            phase belongs to no single heater.
    """
    if volts.shape != amperes.shape or volts.ndim != 2:
        raise ShapeError(f"volts and amperes must be (n, heaters) alike, found {volts.shape} and {amperes.shape}")
    power = volts * amperes
    if not np.isfinite(power).all():
        raise RangeError("volts and amperes must be finite in every spectrum of a series")
    change = np.ptp(power, axis=0)
    driven = np.flatnonzero(change > 0.01 * change.max())
    if driven.size != 1:
        raise CalibrationError(
            f"expected one heater to change its power in a series, found {driven.size} of {change.size} "
            f"(changes in W: {', '.join(f'{each:.3g}' for each in change)}); fit the series of each heater apart"
        )
    return np.asarray(power[:, driven[0]]), int(driven[0])
