"""The picture of an error budget."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from photonic.analysis.budget import Budget, Error, Estimate, ModelBudget

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's blue and vermillion: told apart by everyone; the hatching tells them apart in gray
_PARTS: dict[str, dict[str, Any]] = {
    "systematic": {"color": "#0072B2", "edgecolor": "white", "hatch": "///"},
    "random": {"color": "#D55E00", "edgecolor": "white"},
}
_DECADES = 3.5  # below the largest bar
_GRAY = "0.35"


def draw_budget(budget: Budget, model: ModelBudget | None = None) -> io.BytesIO:
    """Draws each effect alone and each off, and what they do to a model's accuracy, as a PNG.

    Args:
        budget: at the output of a matmul.
        model: adds a panel.
    """
    # slow to import; and a Figure of its own touches neither pyplot's state nor a display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [share.effect for share in budget.effects]
    panels = 2 if model is None else 3
    figure = Figure(figsize=(2.2 + 3.9 * panels, 1.9 + 0.36 * (len(names) + 1)), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, sharey=True)
    _draw_alone(axes[0], budget)
    _draw_off(axes[1], budget)
    if model is not None:
        _draw_accuracy(axes[2], model, names)
    axes[0].set_yticks(range(len(names) + 1), ["all effects", *(share.label for share in budget.effects)])
    axes[0].set_ylim(len(names) + 0.6, -0.6)
    for panel in axes:
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
        panel.axhline(0.5, color=_GRAY, linewidth=0.6)
    handles = [handle for panel in (axes[0], axes[-1]) for handle in _handles(panel)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    figure.suptitle(f"{budget.chip}\n{budget.sentence}", fontsize=10)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png


def _draw_alone(axes: Axes, budget: Budget) -> None:
    """Two bars for each effect, on a scale that shows the small ones too."""
    from matplotlib.ticker import FuncFormatter

    rows: list[Error] = [budget.total, *(share.alone for share in budget.effects)]
    largest = max(100 * math.sqrt(max(row.total.value, 0.0)) for row in rows) or 1.0
    floor = largest / 10**_DECADES
    for (part, style), shift in zip(_PARTS.items(), (-0.19, 0.19), strict=True):
        values = [_percent(getattr(row, part)) for row in rows]
        places = [row + shift for row in range(len(rows))]
        axes.barh(places, [max(value, floor / 10) for value in values], height=0.36, label=part, **style)
        for place, value in zip(places, values, strict=True):
            if value > floor:
                axes.annotate(f"{value:.2g}", (value, place), (3, 0), textcoords="offset points", va="center", size=6.5)
    axes.set(xscale="log", xlim=(floor, 2.5 * largest), title="alone")
    axes.set_xlabel("rms error (% of the output's rms)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_off(axes: Axes, budget: Budget) -> None:
    """What is left without each effect: mean squares add, so the parts are stacked."""
    rows: list[Error] = [budget.total, *(share.off for share in budget.effects)]
    whole = budget.total.total.value or 1.0
    left = [0.0] * len(rows)
    for part, style in _PARTS.items():
        values = [100 * max(getattr(row, part).value, 0.0) / whole for row in rows]
        axes.barh(range(len(rows)), values, left=left, height=0.6, **style)
        left = [start + value for start, value in zip(left, values, strict=True)]
    axes.axvline(100, color=_GRAY, linestyle="--", linewidth=1)
    axes.set(title="all but this one", xlabel="mean-square error left (% of that with all effects)")


def _draw_accuracy(axes: Axes, model: ModelBudget, names: list[str]) -> None:
    """Intervals; the bars of the other panels would start at an accuracy that means nothing."""
    found = {share.effect: share for share in model.effects}
    style: dict[str, Any] = {"linestyle": "none", "capsize": 2, "markersize": 5}
    series = (("alone", "o", -0.15, "#009E73"), ("off", "s", 0.15, "#CC79A7"))
    for kind, marker, shift, color in series:
        values = [getattr(found[name], kind) for name in names]
        axes.errorbar(
            [100 * value.mean for value in values],
            [row + 1 + shift for row in range(len(names))],
            xerr=[100 * value.ci95 for value in values],
            marker=marker,
            color=color,
            label={"alone": "this one alone", "off": "all but this one"}[kind],
            **style,
        )
    total = model.total
    axes.errorbar([100 * total.mean], [0], xerr=[100 * total.ci95], marker="D", color="black", **style)
    axes.axvline(100 * total.mean, color=_GRAY, linestyle="--", linewidth=1, label="all effects")
    axes.axvline(100 * model.digital, color=_GRAY, linestyle=":", linewidth=1.5, label="digital")
    axes.set(title="accuracy", xlabel=f"{model.images} test images, {model.passes} passes (%), 95 % intervals")


def _handles(axes: Axes) -> list[Any]:
    """What the panel's legend would show; stacked bars have the same as the bars beside them."""
    handles, labels = axes.get_legend_handles_labels()
    return [handle for handle, label in zip(handles, labels, strict=True) if label]


def _percent(found: Estimate) -> float:
    """The rms in %, or 0 where the statistics cannot tell it from nothing."""
    return 100 * found.rms if found.value > 2 * found.standard_error else 0.0
