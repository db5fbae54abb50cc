"""Pictures of a mesh: what its programs do, against what they were made for, and its inputs' fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from photonic.calibration.model import Array, Inputs
from photonic.calibration.reportnumbers import alone
from photonic.calibration.reportplots import BLUE, ORANGE, Picture, cloud, legend, lines, picture
from photonic.records import Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def programs(calibration: Calibration) -> list[Picture]:
    """Elements of the measured programs, and how far each program's matrix is from what it was made for."""
    a = calibration.arrays
    amplitude = np.sqrt(a["power"])
    wanted, found = a["programmed"] * amplitude, a["matrix"] / a["counts_per_d"][:, None]
    count, value = len(found), 100 * a["matrix_error"]
    bars = np.abs(100 * np.stack([a["matrix_error_low"], a["matrix_error_high"]]) - value)

    def against(axes: Axes) -> None:
        ends = [float(wanted.min()), float(wanted.max())]
        axes.plot(ends, ends, "--", color=ORANGE, linewidth=1, label="equal")
        cloud(axes, wanted, found, "one element of one program")
        legend(axes)

    def errors(axes: Axes) -> None:
        axes.errorbar(np.arange(count), value, yerr=bars, fmt=".", color=BLUE, markersize=4, elinewidth=1, capsize=1.5)
        axes.set_ylim(bottom=0)

    return [
        picture(against, "programmed element (D)", "measured element (D)",
                f"Elements of the {count} programs' matrices. Programmed: what the phases give on a perfect device, "
                "times the channels' amplitudes."),
        picture(errors, "program", "error of the matrix (%)",
                f"Error of each program's matrix (Frobenius), {alone(float(value.mean()), 3)} % on average. "
                "Bars: 95 % intervals."),
    ]  # fmt: skip


def fields(calibration: Calibration) -> list[Picture]:
    """How each channel's field differs from the data sheet's."""
    a, given, spec = calibration.arrays, calibration.response.inputs, calibration.spec
    if spec is None or given.shape != "field":
        return []
    n = len(a["bias_rad"])
    codes = np.linspace(*spec.input_code_range, 65)
    every = np.repeat(codes[:, None], n, 1)
    fitted, nominal = (
        np.sin(Inputs(given, v, b, 0.0).half_phase(every))
        for v, b in ((a["inverse_v_pi"], a["bias_rad"]), (np.ones(n), np.zeros(n)))
    )
    apart: Array = 100 * (fitted - nominal)
    return [
        picture(lambda axes: lines(axes, codes, apart), "input code", "field, fitted less data sheet (%)",
                f"How the field of each of the {n} channels differs from the data sheet, in % of full level."),
    ]  # fmt: skip
