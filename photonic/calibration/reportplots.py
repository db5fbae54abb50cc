"""Pictures for a page: one small SVG each, readable on a phone, in the page's own ink so that dark pages work."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from photonic.calibration.model import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Paint = Callable[["Axes"], None]

# Middle tones of blue and orange, told apart by everyone and seen on white and on black
BLUE, ORANGE = "#3b82c4", "#d9702b"
INK = "#010203"  # stands for the page's text colour
_SIZE = (4.5, 3.1)
_MOST_LINES = 64  # that are drawn as lines; more as pixels, so that the page stays small
# typed by key in matplotlib
_RC: Any = {
    "svg.fonttype": "none",  # text stays text
    "text.usetex": False,
    "axes.unicode_minus": True,
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "lines.linewidth": 1.2,
}


class Picture(NamedTuple):
    """An SVG element and its caption."""

    svg: str
    caption: str


def picture(paint: Paint, x: str, y: str, caption: str) -> Picture:
    """Draws one pair of axes.

    Args:
        paint: draws on the axes.
        x: label, with unit.
        y: label, with unit.
        caption: what is seen; its first sentence is what a screen reader says.
    """
    # slow to import; and a Figure of its own touches neither pyplot's state nor a display
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    file = io.StringIO()
    # ids are made from the salt: two pictures on one page must not share any
    with rc_context({**_RC, "svg.hashsalt": f"{y} against {x}: {caption}"}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.set(xlabel=x, ylabel=y)
        paint(axes)
        figure.savefig(file, format="svg", transparent=True, dpi=200, metadata={"Date": None})
    return Picture(_inline(file.getvalue(), f"{y} against {x}. {caption}"), caption)


def cloud(axes: Axes, x: Array, y: Array, label: str | None = None, color: str = BLUE) -> None:
    """Many points, as pixels within the SVG."""
    alpha = float(np.clip(200 / max(x.size, 1), 0.15, 0.7))
    axes.plot(x.ravel(), y.ravel(), ".", color=color, alpha=alpha, markersize=3, rasterized=True)
    if label is not None:
        axes.plot([], [], ".", color=color, markersize=5, label=label)


def lines(axes: Axes, x: Array, y: Array) -> None:
    """The columns of y over x, all alike."""
    alpha = float(np.clip(4 / y.shape[1], 0.25, 1.0))
    axes.plot(x, y, color=BLUE, alpha=alpha, linewidth=0.8, rasterized=y.shape[1] > _MOST_LINES)


def each(axes: Axes, values: Array, errors: Array | None) -> None:
    """A value for each channel or output, with its 95 % interval."""
    bars = None if errors is None or errors.shape != values.shape else 1.96 * errors
    axes.errorbar(
        np.arange(values.size), values, yerr=bars, fmt=".", color=BLUE, markersize=4, elinewidth=1, capsize=1.5
    )


def histogram(axes: Axes, values: Array) -> None:
    """How many values are where."""
    values = values[np.isfinite(values)]
    axes.hist(values, bins=int(np.clip(2 * np.sqrt(values.size), 8, 40)), color=BLUE, alpha=0.8)


def limits(axes: Axes, levels: Sequence[float], label: str) -> None:
    """Horizontal dashed lines."""
    for index, level in enumerate(levels):
        axes.axhline(level, color=ORANGE, linestyle="--", linewidth=1, label=None if index else label)


def legend(axes: Axes) -> None:
    """Above the axes, where no curve can be."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, borderaxespad=0.2, handlelength=1.6)


def _inline(svg: str, label: str) -> str:
    """An SVG file as an element of a page: no header, no names of formats, no ids but those that are referred to."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = body.replace("xlink:href", "href").replace(INK, "currentColor")
    size = re.search(r'viewBox="[^"]*"', body)
    start = body.index(">") + 1
    return f'<svg role="img" aria-label="{escape(label)}" {size.group() if size else ""}>{body[start:].strip()}'
