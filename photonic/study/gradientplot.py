"""The pictures of the gradient-error experiment, as PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import torch

from photonic.physics.codes import MidTread
from photonic.study.gradienterror import STATISTICS, ZOOM, DerivativeErrors
from photonic.study.gradientstudy import CURVES, SMOOTH, GradientStudy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's: told apart by everyone
_COLORS = {"relu": "#D55E00", "gelu": "#0072B2", "silu": "#009E73"}
_LABELS = {"relu": "ReLU", "gelu": "GELU", "silu": "SiLU"}
_MARKERS = {"max": "s", "mean": "o", "rms": "D"}
_FLOOR = 1e-4  # of the maps' colours


def draw_maps(study: GradientStudy) -> io.BytesIO:
    """Error of the derivative at each (a, w) of the zoom: averaged over draws, a row for each precision."""
    from matplotlib.colors import LogNorm

    found = study.errors[study.ep]["zoom"]
    figure = _figure(2.4 * len(CURVES) + 1.2, 2.2 * len(found) + 0.6)
    axes = figure.subplots(len(found), len(CURVES), squeeze=False, sharex=True, sharey=True)
    image: Any = None
    for row, (p, errors) in zip(axes, found.items(), strict=True):
        for panel, name in zip(row, CURVES, strict=True):
            extent = (-ZOOM, ZOOM, -ZOOM, ZOOM)
            norm = LogNorm(_FLOOR, 1.0)
            grid = _map(errors, name).clamp(min=_FLOOR).numpy()
            image = panel.imshow(grid, origin="lower", extent=extent, norm=norm, cmap="viridis")
            panel.set_title(f"{_LABELS[name]}, p = {p}", fontsize=9)
        row[0].set_ylabel("input a")
    for panel in axes[-1]:
        panel.set_xlabel("weight w")
    figure.colorbar(image, ax=axes, shrink=0.6, label=f"mean |A'(z~) - A'(a w)| of {study.plan.draws} draws")
    figure.suptitle(f"Error of the derivative, EP = {study.ep:g}", fontsize=10)
    return _png(figure)


def draw_ratios(study: GradientStudy) -> io.BytesIO:
    """Errors of ReLU over those of GELU and SiLU, against precision, with the closed forms."""
    figure = _figure(9, 4)
    for panel, name in zip(figure.subplots(1, len(SMOOTH), sharey=True), SMOOTH, strict=True):
        found = study.ratios(study.ep, "zoom")[name]
        for statistic in STATISTICS:
            values = [row[statistic] for row in found.values()]
            panel.errorbar(
                list(found),
                [value.value for value in values],
                yerr=[2 * value.error for value in values],
                marker=_MARKERS[statistic],
                capsize=2,
                label=f"{statistic}, |a|, |w| <= {ZOOM:g}",
            )
        closed = study.amplified[name]
        panel.plot(list(closed), [each.ratio for each in closed.values()], "k--", label="rms at z = 0, closed form")
        panel.plot(list(closed), [each.one_step for each in closed.values()], "k:", label="p / L, one step off")
        panel.set(xscale="log", yscale="log", xlabel="precision p", title=f"ReLU over {_LABELS[name]}")
        panel.set_xticks(list(found), [str(p) for p in found])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend(frameon=False, fontsize=8)
    figure.suptitle(f"Ratio of the errors of the derivative, EP = {study.ep:g}", fontsize=10)
    return _png(figure)


def draw_layer(study: GradientStudy) -> io.BytesIO:
    """Error of the weight gradient of a linear layer against its pre-activation, a panel for each precision."""
    figure = _figure(3.2 * len(study.layers), 3.6)
    panels = figure.subplots(1, len(study.layers), sharey=True, squeeze=False)[0]
    for panel, (p, found) in zip(panels, study.layers.items(), strict=True):
        for name in CURVES:
            row = found.whole[name]
            panel.errorbar(
                found.pre_activations,
                [max(each.value, _FLOOR) for each in row],
                yerr=[2 * each.error for each in row],
                color=_COLORS[name],
                marker=".",
                label=_LABELS[name],
            )
        panel.axhline(found.operands.value, color="0.35", linestyle=":", label="noise of the inputs alone")
        panel.set(xscale="symlog", yscale="log", xlabel="pre-activation z", title=f"p = {p}")
        panel.set_xscale("symlog", linthresh=1 / 512)
        panel.set_xticks([-0.5, -1 / 32, 0, 1 / 32, 0.5], ["-1/2", "-1/32", "0", "1/32", "1/2"])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("rms error of the weight gradient / |x|")
    panels[0].legend(frameon=False, fontsize=8)
    figure.suptitle(f"Linear layer of {study.plan.inputs} inputs, EP = {study.ep:g}", fontsize=10)
    return _png(figure)


FIGURES = {"maps.png": draw_maps, "ratios.png": draw_ratios, "weight-gradient.png": draw_layer}


def _map(errors: DerivativeErrors, name: str) -> torch.Tensor:
    """(A, W) of the zoom, cut out of all digital values."""
    values = MidTread(errors.precision).values
    whole = torch.zeros(len(values), len(values), dtype=torch.float64)
    whole[errors.where.a, errors.where.w] = errors.means[name]
    inside = values.abs() <= ZOOM
    return whole[inside][:, inside]


def _figure(width: float, height: float) -> Figure:
    # slow to import; and a Figure of its own touches neither pyplot's state nor a display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> io.BytesIO:
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png
