"""The figures of a study: accuracy against every axis that its cells vary."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from photonic.study.cell import DIGITAL, NAMES, Cell, label
from photonic.study.intervals import NOISE, SETTING, Group, Setting
from photonic.study.outcome import Outcome
from photonic.study.verdicts import last, maximum
from photonic.study.words import setting_text, varying

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# axes of a setting, and of an activation, with what they are called
OF_SETTING = {
    "ep": "error probability EP",
    "precision": "precision p (steps per unit)",
    "n_conv": "convolutions",
    "n_linear": "linear layers",
    "depth": "blocks",
    "lr": "learning rate",
    "noise": "kind of noise",
    "backend": "backend",
}
OF_ACTIVATION = {"interpolation": "interpolation factor i", "scale": "scale s", "leak": "leak"}
MOST_PANELS = 12
LEAST_SPAN = 10.0  # points of accuracy: less would make scatter look like a result
# middle tones: told apart, and seen on white and on black
_COLOURS = ("#3b82c4", "#d9702b", "#2f9e73", "#b065c0", "#b8922a", "#22a0b0", "#c94f5a", "#858a93")
_MARKERS = "os^Dv<>P"
Lines = dict[str, dict[Any, Group]]


@dataclass(frozen=True)
class Figure:
    """Accuracy against one axis in one setting.

    Attributes:
        name: of its file.
        axis: label of x.
        lines: by activation, groups by x.
        caption: what is seen.
        chance: accuracy of guessing.
    """

    name: str
    axis: str
    lines: Lines
    caption: str
    chance: float

    def paint(self, axes: Axes) -> None:
        """Draws means with intervals: the last epoch solid, the maximum over epochs dashed."""
        places = sorted({x for line in self.lines.values() for x in line}, key=_order)
        numeric = all(isinstance(x, int | float) for x in places)
        at = {x: float(x) if numeric else float(i) for i, x in enumerate(places)}
        if numeric and self.axis == OF_SETTING["precision"]:
            axes.set_xscale("log", base=2)
        span = (max(at.values()) - min(at.values())) / max(len(places) - 1, 1) if not numeric else 0.0
        for index, (name, line) in enumerate(self.lines.items()):
            shift = span * 0.5 * (index / max(len(self.lines) - 1, 1) - 0.5)
            self._line(axes, name, [(at[x] + shift, line[x]) for x in places if x in line], index, numeric)
        low, high = axes.get_ylim()
        wider = max(0.0, LEAST_SPAN - (high - low)) / 2
        axes.set_ylim(low - wider, high + wider)
        if low < 100 * self.chance + 25:  # else the curves would be squeezed to the top
            axes.axhline(100 * self.chance, color="#858a93", linewidth=0.8, linestyle=":")
        if not numeric:
            axes.set_xticks(list(at.values()), [_short(str(x)) for x in places])
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False, borderaxespad=0.2, handlelength=1.6
        )

    def _line(self, axes: Axes, name: str, points: Sequence[tuple[float, Group]], index: int, joined: bool) -> None:
        turn, index = divmod(index, len(_COLOURS))
        colour, marker = _COLOURS[index], _MARKERS[index]
        # beyond the colours that can be told apart: hollow markers, dash-dotted
        style, face = ("-", colour) if turn == 0 else ("-.", "none")
        xs = [x for x, _ in points]
        found = [group.interval(last) for _, group in points]
        axes.errorbar(
            xs,
            [100 * each.mean for each in found],
            yerr=[100 * (each.half or 0.0) for each in found],
            color=colour,
            marker=marker,
            markersize=4,
            markerfacecolor=face,
            linestyle=style if joined else "none",
            capsize=2,
            label=name,
        )
        best = [100 * group.interval(maximum).mean for _, group in points]
        axes.plot(xs, best, color=colour, linestyle="--" if joined else "none", marker=".", linewidth=0.9, alpha=0.7)


def draw_figures(settings: Mapping[Setting, Mapping[str, Group]]) -> tuple[list[Figure], list[str]]:
    """The figures that the axes of these cells allow, and notes on what is left out."""
    figures, notes = list[Figure](), list[str]()
    cells = [group.cell for groups in settings.values() for group in groups.values()]
    if not cells:
        return figures, notes
    for axis, title in {**OF_SETTING, **OF_ACTIVATION}.items():
        against = _against_activation if axis in OF_ACTIVATION else _against_setting
        panels = against(settings, axis)
        kept = list(panels.items())[:MOST_PANELS]
        if len(panels) > len(kept):
            notes.append(
                f"Against {title}: {len(kept)} of {len(panels)} settings are drawn; the table has all of them."
            )
        for number, (where, lines) in enumerate(kept, 1):
            figures.append(_figure(axis, title, number, where, lines))
    return figures, notes


def png(figure: Figure) -> io.BytesIO:
    """A figure as a picture file."""
    # slow to import; and a Figure of its own touches neither pyplot's state nor a display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(5.2, 3.9), layout="constrained", dpi=130)
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    axes.set(xlabel=figure.axis, ylabel="test accuracy (%)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.paint(axes)
    file = io.BytesIO()
    canvas.savefig(file, format="png")
    return file


def _figure(axis: str, title: str, number: int, where: str, lines: Lines) -> Figure:
    some = next(iter(next(iter(lines.values())).values()))
    outcome: Outcome = next(iter(some.by_seed.values()))
    seeds = {len(group.by_seed) for line in lines.values() for group in line.values()}
    count = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    caption = f"Accuracy against {title}{', ' + where if where else ''}. {count} seeds, 95 % intervals"
    digital = axis == "ep" and any(group.cell.backend == DIGITAL for line in lines.values() for group in line.values())
    caption += "; EP 0 is the digital network." if digital else "."
    return Figure(f"{axis}-{number}", title, lines, caption, 1 / outcome.n_classes)


def _against_setting(settings: Mapping[Setting, Mapping[str, Group]], axis: str) -> dict[str, Lines]:
    """By the rest of the setting, lines over this axis of it; those with a single point are left out."""
    groups = [group for each in settings.values() for group in each.values()]
    others = [name for name in varying(group.cell for group in groups) if name in SETTING and name != axis]
    panels: dict[tuple[object, ...], Lines] = {}
    for group in groups:
        x = getattr(group.cell, axis)
        if x is not None:
            panels.setdefault(_key(group.cell, others), {}).setdefault(group.label, {})[x] = group
    if axis == "ep":
        _add_digital(panels, groups, others)
    return {setting_text(others, key): _enough(lines) for key, lines in panels.items() if _enough(lines)}


def _add_digital(panels: Mapping[tuple[object, ...], Lines], groups: Iterable[Group], others: Sequence[str]) -> None:
    """The network without noise is at EP 0, where no quantised one is there."""
    clean = {
        (group.label, _key(group.cell, _quiet(others))): group for group in groups if group.cell.backend == DIGITAL
    }
    for key, lines in panels.items():
        quiet = tuple(value for name, value in zip(others, key, strict=True) if name not in NOISE)
        for name, line in lines.items():
            if 0.0 not in line and (name, quiet) in clean:
                line[0.0] = clean[name, quiet]


def _against_activation(settings: Mapping[Setting, Mapping[str, Group]], axis: str) -> dict[str, Lines]:
    """By setting, lines over a parameter of the activation; one of all activations that differ in it alone."""
    groups = [group for each in settings.values() for group in each.values()]
    others = [name for name in varying(group.cell for group in groups) if name in SETTING]
    panels: dict[tuple[object, ...], Lines] = {}
    for group in groups:
        name, x = _family(group.cell, axis)
        if name:
            panels.setdefault(_key(group.cell, others), {}).setdefault(name, {})[x] = group
    for lines in panels.values():
        _add_rectifier(lines, axis)
    # two points of i are ReLU and the smooth curve alone, which every table has
    least = 3 if axis == "interpolation" else 2
    return {setting_text(others, key): _enough(lines, least) for key, lines in panels.items() if _enough(lines, least)}


def _family(cell: Cell, axis: str) -> tuple[str, float]:
    """The line that a cell belongs to, and where on it."""
    x = float(getattr(cell, axis))
    if cell.activation == "relu" and axis != "leak":
        return ("ReLU", 0.0) if label(cell) == "ReLU" and axis == "interpolation" else ("", x)
    default = 0.0 if axis == "leak" else 1.0
    name = label(cell.model_copy(update={axis: default}))
    return (name, x) if axis != "leak" or cell.activation == "relu" else ("", x)


def _add_rectifier(lines: Lines, axis: str) -> None:
    """ReLU is i = 0 of every smooth curve."""
    if axis != "interpolation":
        return
    rectifier = lines.pop("ReLU", None)
    for name, line in lines.items():
        if rectifier and name in NAMES.values():
            line.setdefault(0.0, rectifier[0.0])


def _enough(lines: Lines, least: int = 2) -> Lines:
    """Lines of at least so many points."""
    return {name: line for name, line in lines.items() if len(line) >= least}


def _quiet(names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in NOISE]


def _key(cell: Cell, names: Sequence[str]) -> tuple[object, ...]:
    return tuple(getattr(cell, name) for name in names)


def _order(x: object) -> tuple[bool, float, str]:
    return isinstance(x, str), float(x) if isinstance(x, int | float) else 0.0, str(x)


def _short(text: str, limit: int = 16) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
