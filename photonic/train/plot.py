"""The picture of a run: how the control and the photonic model learnt."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from photonic.train.result import Result
from photonic.train.runs import Metrics

# Okabe and Ito's vermillion and blue: told apart by everyone, and in gray; dashes last, so that both are seen where
# the curves are one
_STYLES = {"photonic": ("#D55E00", "-", "photonic"), "digital": ("#0072B2", "--", "digital control")}


def draw_curves(history: Sequence[Metrics], result: Result) -> io.BytesIO:
    """Draws loss and test accuracy over epochs, and the final accuracy of the noisy passes, as a PNG."""
    # slow to import; and a Figure of its own touches neither pyplot's state nor a display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    figure = Figure(figsize=(9, 3.8), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    for name, (color, dashes, label) in _STYLES.items():
        rows = [row for row in history if row["model"] == name]
        style: dict[str, Any] = {"color": color, "linestyle": dashes, "label": label, "marker": ".", "markersize": 4}
        epochs = [row["epoch"] for row in rows]
        loss.plot(epochs, [row["train_loss"] for row in rows], **style)
        accuracy.plot(epochs, [100 * row["test_accuracy"] for row in rows], **style)
    loss.set(xlabel="epoch", ylabel="training loss (cross-entropy)", yscale="log")
    accuracy.set(xlabel="epoch", ylabel=f"accuracy on {result.test_images} test images (%)")
    for axes in (loss, accuracy):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for ticks in (loss.yaxis.set_major_formatter, loss.yaxis.set_minor_formatter):
        ticks(FuncFormatter(lambda value, _: f"{value:g}"))
    loss.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    loss.legend(frameon=False)
    accuracy.legend(frameon=False, loc="lower right")
    figure.suptitle(
        f"{result.model} on {_short(result.data)}, {_short(result.backend)}, seed {result.seed}", fontsize=10
    )
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png


def _short(text: str, limit: int = 40) -> str:
    """The end of a long path or spec string, which says more than its beginning."""
    return text if len(text) <= limit else "..." + text[3 - limit :]
