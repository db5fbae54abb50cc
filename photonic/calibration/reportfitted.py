"""Pictures of what a fit found: outputs, inputs, weights, crosstalk and converters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from photonic.calibration import reportmesh as mesh
from photonic.calibration.model import Array, Inputs, powers
from photonic.calibration.reportnumbers import alone
from photonic.calibration.reportplots import BLUE, ORANGE, Picture, each, histogram, legend, lines, picture
from photonic.physics.converters import inl_dnl
from photonic.records import Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NUMBERS = 30  # cells of a map that are also written
_WIDEST_NUMBERS = 2  # columns on each side, beyond which numbers do not fit into their cells


def outputs(calibration: Calibration) -> list[Picture]:
    """Gain and zero of each output."""
    a = calibration.arrays
    gain, zero = a["counts_per_d"], a["zero_count"]
    bars = "Bars: 95 % intervals."
    return [
        picture(
            lambda axes: each(axes, gain, a.get("counts_per_d_se")),
            "output",
            "gain (counts per D)",
            f"Gain of each output. {bars}",
        ),
        picture(
            lambda axes: each(axes, zero, a.get("zero_count_se")),
            "output",
            "zero (counts)",
            f"Count of each output in the dark. {bars}",
        ),
    ]


def transfer(calibration: Calibration) -> list[Picture]:
    """Level over code of each channel, how it differs from the data sheet's, and the channels' powers."""
    a, given, spec = calibration.arrays, calibration.response.inputs, calibration.spec
    inputs = Inputs(given, a["inverse_v_pi"], a["bias_rad"], float(a["level_min"][0]))
    n = len(inputs.bias_rad)
    nominal = Inputs(given, np.ones(n), np.zeros(n), given.level_min)
    low, high = (given.code_zero, given.code_one) if spec is None else spec.input_code_range
    codes = np.linspace(low, high, 65)
    every = np.repeat(codes[:, None], n, 1)
    levels, expected = inputs.levels(every), nominal.levels(every)

    def paint(axes: Axes) -> None:
        lines(axes, codes, levels)
        axes.plot(codes, expected[:, 0], "--", color=ORANGE, label="data sheet")
        axes.plot([], [], color=BLUE, label="fitted, each channel")
        legend(axes)

    found = mesh.fields(calibration)
    if inputs.curved:
        found = [
            picture(paint, "input code", "level T", f"Transfer of the {n} input channels, as fitted."),
            picture(
                lambda axes: lines(axes, codes, 100 * (levels - expected)),
                "input code",
                "T, fitted less data sheet (%)",
                "How each channel differs from the data sheet, in % of full level.",
            ),
        ]
    power = picture(
        lambda axes: each(axes, a["power"], a.get("power_se")),
        "input channel",
        "power (mean = 1)",
        "Power of each input channel, over their mean. Bars: 95 % intervals.",
    )
    return [*found, power]


def programming(calibration: Calibration) -> list[Picture]:
    """The curves of weight over code, and how elements differ."""
    curves, element, spec = calibration.arrays["curves"], calibration.arrays["element"], calibration.spec
    if spec is None:
        return []
    codes = np.linspace(*spec.weight_code_range, curves.shape[1])
    straight = codes / spec.response.weight_code_one

    def bend(axes: Axes) -> None:
        axes.plot(codes, curves[1] - straight, color=BLUE, label="all elements")
        for q in range(2, len(curves)):
            size = float(np.sqrt(np.mean(element[..., q] ** 2)))
            axes.plot(codes, size * curves[q], "--", color=ORANGE, alpha=1 / (q - 1), label=f"curve {q}, rms")
        legend(axes)

    rows, columns = element.shape[:2]
    spread = (("offset", "weight at code s = 0", 0), ("slope", "weight per s, over the row's mean", 1))

    def shared(axes: Axes) -> None:
        axes.plot(codes, curves[1], color=BLUE)

    return [
        picture(
            shared,
            "weight code",
            "weight s(code)",
            "Programming curve that all elements share.",
        ),
        picture(
            bend,
            "weight code",
            "weight",
            "What bends it: the shared curve less its straight line, and the curves by which elements differ, each "
            "times the rms of its coefficients.",
        ),
        *(
            picture(
                lambda axes, q=index: histogram(axes, element[..., q]),  # type: ignore[misc]
                label,
                "elements",
                f"Spread of the {name} over the {rows} × {columns} elements.",
            )
            for name, label, index in spread
        ),
    ]


def converters(calibration: Calibration) -> list[Picture]:
    """INL and DNL of the ADCs."""
    inl, dnl = (part.numpy() for part in inl_dnl(torch.from_numpy(calibration.arrays["transitions"].copy())))
    count, low = inl.shape[0], 0.0 if calibration.spec is None else calibration.spec.count_range[0]
    codes = low + np.arange(inl.shape[1])
    found = []
    for name, values in (("INL", inl), ("DNL", dnl)):
        worst = int(np.abs(values).max(1).argmax())

        def paint(axes: Axes, values: Array = values, worst: int = worst) -> None:
            if count > 1:
                low, high = values.min(0), values.max(0)
                axes.fill_between(
                    codes, low, high, step="mid", color=BLUE, alpha=0.25, linewidth=0, label="all outputs"
                )
            axes.step(codes, values[worst], where="mid", color=BLUE, linewidth=0.8, label=f"output {worst}")
            if count > 1:
                legend(axes)

        most = alone(float(np.abs(values).max()), 3)
        which = f"largest at output {worst}" if count > 1 else "one table for all outputs"
        caption = f"{name} of the ADCs, at most {most} LSB ({which}); gain and offset taken out at the end points."
        found.append(picture(paint, "count", f"{name} (LSB)", caption))
    return found


def crosstalk(calibration: Calibration) -> list[Picture]:
    """What a neighbour adds to a weight of 0, over its own code, and the most of it for each place."""
    a, spec = calibration.arrays, calibration.spec
    offsets, target = a["neighbour_offsets"].astype(int), float(a["neighbour_target"][0])
    if spec is None or not len(offsets):
        return []
    codes = np.linspace(*spec.weight_code_range, a["curves"].shape[1])
    # far away, the target makes the term a sum: only its product with the coefficients means anything
    added = target * np.stack([powers(a["curves"][1], row) for row in a["neighbour"]])
    largest = added[np.arange(len(added)), np.abs(added).argmax(1)]
    first = np.argsort(-np.abs(largest))[:4]

    def paint(axes: Axes) -> None:
        for index, style in zip(first, ("-", "--", "-.", ":"), strict=False):
            row, column = offsets[index]
            axes.plot(codes, added[index], style, color=BLUE if style in {"-", "-."} else ORANGE,
                      label=_place(row, column))  # fmt: skip
        legend(axes)

    curves = picture(
        paint, "code of the neighbour", "added to a weight of 0",
        f"What a neighbour takes over its own code: the {len(first)} strongest of {len(offsets)} places "
        "(outputs, inputs away).",
    )  # fmt: skip
    return [curves, _map(offsets, largest)]


def _map(offsets: np.ndarray, largest: Array) -> Picture:
    from matplotlib.ticker import FixedLocator, MaxNLocator

    reach = np.maximum(np.abs(offsets).max(0), [0, 1])
    grid = np.full(2 * reach + 1, np.nan)
    grid[tuple((offsets + reach).T)] = largest
    most = float(np.abs(largest).max()) or 1.0

    def paint(axes: Axes) -> None:
        x, y = (np.arange(-r - 0.5, r + 1) for r in reach[::-1])
        mesh = axes.pcolormesh(x, y, np.ma.masked_invalid(grid), cmap="PuOr", vmin=-most, vmax=most)
        axes.figure.colorbar(mesh, ax=axes, label="added to a weight of 0")
        axes.grid(visible=False)
        axes.invert_yaxis()
        for axis, r in zip((axes.xaxis, axes.yaxis), reach[::-1], strict=True):
            axis.set_major_locator(MaxNLocator(integer=True) if r else FixedLocator([0]))
        axes.annotate("itself", (0, 0), ha="center", va="center")
        if len(offsets) > _MOST_NUMBERS or reach[1] > _WIDEST_NUMBERS:
            return
        for (row, column), value in zip(offsets, largest, strict=True):
            color = "white" if abs(value) > 0.6 * most else "black"
            axes.annotate(
                f"{value:.2g}".replace("-", "−"), (column, row), ha="center", va="center", color=color, fontsize=8
            )

    return picture(
        paint, "inputs away", "outputs away",
        "Map of the crosstalk: the most that the neighbour at each place adds, over all its codes.",
    )  # fmt: skip


def _place(row: int, column: int) -> str:
    return f"({row:+d}, {column:+d})".replace("-", "−").replace("+0", "0")
