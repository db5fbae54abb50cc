"""Pictures of what was measured against what the fit predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from photonic.calibration.checks import SHAPE
from photonic.calibration.model import Array
from photonic.calibration.ratios import RATIO
from photonic.calibration.reportnumbers import alone
from photonic.calibration.reportplots import BLUE, ORANGE, Picture, cloud, legend, limits, lines, picture
from photonic.records import Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 16  # of the photon transfer
_RAIL_SIGMA = 4.0  # a mean this close to a rail has a variance that says little about the noise


def means(calibration: Calibration) -> list[Picture]:
    """Mean counts of readings that the fit has not seen."""
    a = calibration.arrays
    measured, expected = a["check_mean"], a["check_mean_predicted"]
    error = measured - expected
    points, m = error.shape
    rms = alone(float(np.sqrt(np.nanmean(error**2))), 3)

    def against(axes: Axes) -> None:
        ends = [float(np.nanmin(expected)), float(np.nanmax(expected))]
        axes.plot(ends, ends, "--", color=ORANGE, linewidth=1, label="equal")
        cloud(axes, expected, measured, "one output at one point")
        legend(axes)

    def residuals(axes: Axes) -> None:
        axes.axhline(0, color=ORANGE, linestyle="--", linewidth=1)
        cloud(axes, expected, error)

    return [
        picture(against, "predicted mean (counts)", "measured mean (counts)",
                f"Mean counts at {points} held-out points of {m} outputs."),
        picture(residuals, "predicted mean (counts)", "measured less predicted (counts)",
                f"Residuals, {rms} counts rms; the noise of the means is part of them, and the checks subtract it."),
    ]  # fmt: skip


def variances(calibration: Calibration) -> list[Picture]:
    """Variances of readings that the fit has not seen."""
    a = calibration.arrays
    measured, expected = a["check_variance"], a["check_variance_predicted"]
    weight = 1 / (expected + 1 / 12)  # as the checks have it: where nothing varies, at a rail, counts little
    ratios = [(weight * measured).sum(axis) / np.maximum((weight * expected).sum(axis), 1e-12) for axis in (0, 1)]
    low, high = 1 - RATIO, 1 + RATIO

    def against(axes: Axes) -> None:
        most = float(np.nanmax(expected))
        axes.plot([0, most], [0, most], "--", color=ORANGE, linewidth=1, label="equal")
        cloud(axes, expected, measured, "one output at one point")
        legend(axes)

    def pooled(axes: Axes, values: Array) -> None:
        limits(axes, (low, high), f"margin, {low:g} to {high:g}")
        axes.plot(values, ".", color=BLUE)
        legend(axes)

    return [
        picture(against, "predicted variance (counts²)", "measured variance (counts²)",
                "Variance of the counts at held-out points, ADC included."),
        picture(lambda axes: pooled(axes, ratios[0]), "output", "variance, measured over predicted",
                "Ratio of variances of each output, all points pooled."),
        picture(lambda axes: pooled(axes, ratios[1]), "point", "variance, measured over predicted",
                "Ratio of variances at each point, all outputs pooled."),
    ]  # fmt: skip


def distribution(calibration: Calibration) -> list[Picture]:
    """How far the probability integral transform is from uniform."""
    levels, below = calibration.arrays["check_pit"]

    def paint(axes: Axes) -> None:
        limits(axes, (-SHAPE, SHAPE), f"margin, ± {SHAPE:g}")
        axes.plot(levels, below - levels, color=BLUE, label="held-out counts")
        legend(axes)

    return [
        picture(paint, "level of the PIT", "fraction below, less the level",
                "Probability integral transform (PIT) of all held-out counts: 0 everywhere if the predicted "
                "distribution is right."),
    ]  # fmt: skip


def photon_transfer(calibration: Calibration) -> list[Picture]:
    """Variance over S and over D squared: what was measured, and where the model expects it."""
    a = calibration.arrays
    kept = _off_rails(calibration, "noise")
    measured, expected = a["noise_variance"][kept], a["noise_variance_predicted"][kept]
    if not kept.any():
        return []
    left = int(kept.size - kept.sum())
    note = f" {left:,} of {kept.size:,} readings near a rail of the ADC are left out." if left else ""
    return [
        _noise_over(x, measured, expected, label, f"Variance of the counts over {words}.{note}")
        for x, label, words in (
            (a["noise_s"][kept], "total power S", "the total power at the detectors"),
            (a["noise_d"][kept] ** 2, "D²", "the square of the result"),
        )
    ]


def _noise_over(x: Array, measured: Array, expected: Array, label: str, caption: str) -> Picture:
    """The band is what the model predicts for the readings of each bin, least to most."""
    order = np.argsort(x)
    parts = [part for part in np.array_split(order, min(_BINS, len(x))) if len(part)]
    centre = np.array([x[part].mean() for part in parts])
    low, mean, high = (
        np.array([summary(expected[part]) for part in parts]) for summary in (np.min, np.mean, np.max)
    )  # fmt: skip

    def paint(axes: Axes) -> None:
        cloud(axes, x, measured, "measured")
        axes.fill_between(centre, low, high, color=ORANGE, alpha=0.25, linewidth=0, label="model, least to most")
        axes.plot(centre, mean, color=ORANGE, label="its mean")
        axes.plot(centre, [measured[part].mean() for part in parts], "o", color=BLUE, markersize=3.5)
        axes.set_ylim(bottom=0)
        legend(axes)

    return picture(paint, label, "variance (counts²)", f"{caption} Large dots: means of the measured ones in a bin.")


def _off_rails(calibration: Calibration, name: str) -> np.ndarray:
    """Which readings (P, M) have predicted means that are well inside the range of the ADC; all, if it is not known."""
    mean, variance = (calibration.arrays.get(f"{name}_{kind}_predicted") for kind in ("mean", "variance"))
    shape = calibration.arrays[f"{name}_variance"].shape
    if calibration.spec is None or mean is None or variance is None or mean.shape != shape:
        return np.ones(shape, dtype=bool)
    low, high = calibration.spec.count_range
    room = np.minimum(mean - low, high - mean)
    found: np.ndarray = (room > _RAIL_SIGMA * np.sqrt(variance)) & (room > 1)
    return found


def allan(calibration: Calibration) -> list[Picture]:
    """Allan deviation of readings of one pattern, each output thin, their rms with its interval."""
    a = calibration.arrays
    tau, shape = a["allan_tau_s"], a["allan_deviation"].shape
    pooled = _pooled(a["allan_deviation"])

    def paint(axes: Axes) -> None:
        if len(shape) == 2 and shape[1] > 1:
            lines(axes, tau, a["allan_deviation"])
        elif {"allan_low", "allan_high"} <= a.keys() and a["allan_low"].shape == a["allan_high"].shape == shape:
            axes.fill_between(tau, _pooled(a["allan_low"]), _pooled(a["allan_high"]), color=BLUE, alpha=0.25,
                              linewidth=0, label="95 % interval")  # fmt: skip
        axes.plot(
            tau, pooled, "o-", color=BLUE, markersize=3.5, label="measured" if len(shape) == 1 else "rms of outputs"
        )
        if "allan_predicted" in a and len(a["allan_predicted"]) == len(tau):
            axes.plot(tau, _pooled(a["allan_predicted"]), "--", color=ORANGE, label="model")
        if (pooled > 0).all() and (tau > 0).all():
            axes.set(xscale="log", yscale="log")
            _plain_decades(axes)
        legend(axes)

    return [
        picture(paint, "averaging time (s)", "Allan deviation (unit of the readings)",
                "Overlapping Allan deviation of one pattern that was read again and again.")
    ]  # fmt: skip


def _plain_decades(axes: Axes) -> None:
    """Numbers on logarithmic axes as text: what is set as mathematics is cut into pieces."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    plain = FuncFormatter(lambda value, _: alone(float(value)))
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        few = high / low < 100  # decades alone would be one or two numbers
        axis.set_major_formatter(plain)
        axis.set_minor_locator(LogLocator(subs=(2, 5) if few else "auto"))
        axis.set_minor_formatter(plain if few else NullFormatter())


def _pooled(values: Array) -> Array:
    found: Array = values if values.ndim == 1 else np.sqrt((values**2).mean(1))
    return found
