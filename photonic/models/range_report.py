"""What fitting the ranges of a model chose, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerRange:
    """The fit of one layer.

    Attributes:
        name: of the layer.
        range: of its inputs; None: left as it was, ``note`` says why.
        largest: |x| that was seen.
        clipped: fraction of its inputs beyond the range.
        error_before: expected rms error of its results before the fit, relative to what an rms input gives: input
            converter, clipping of inputs, chip noise, rounding of the ADC. What clips at the ADC is only counted.
        error_after: after the fit, clipping at the ADC included where the gains were fitted.
        saturated_before: fraction of the counts at a rail, as measured while each batch had a range of its own.
        saturated_after: as expected with the chosen range and gains; None: not fitted.
        gains: how many tiles got which analog gain; empty: the backend's.
        note: what was left alone, and why.
    """

    name: str
    range: float | None
    largest: float
    clipped: float
    error_before: float
    error_after: float
    saturated_before: float
    saturated_after: float | None
    gains: Mapping[float, int]
    note: str = ""


@dataclass(frozen=True)
class RangeReport:
    """The fits of all layers on a chip, in the order of the model; prints as a table.

    Attributes:
        layers: one for each.
        passes: how often the data went through the model.
    """

    layers: tuple[LayerRange, ...]
    passes: int

    @property
    def ranges(self) -> dict[str, float]:
        """By layer, for ``photonic.set_input_range(model, report.ranges)`` of another copy of the model."""
        return {layer.name: layer.range for layer in self.layers if layer.range is not None}

    def __iter__(self) -> Iterator[LayerRange]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> LayerRange:
        return self.layers[index]

    def __str__(self) -> str:
        head = ("layer", "range", "largest", "clipped", "error", "now", "saturated", "now", "gains", "note")
        table = [head, *(_cells(layer) for layer in self.layers)]
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        return "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in table
        )


def _cells(layer: LayerRange) -> tuple[str, ...]:
    name = layer.name or "(model)"
    if layer.range is None:
        return (name, "", f"{layer.largest:.4g}", "", "", "", f"{layer.saturated_before:.3%}", "", "", layer.note)
    return (
        name,
        f"{layer.range:.4g}",
        f"{layer.largest:.4g}",
        f"{layer.clipped:.3%}",
        f"{layer.error_before:.2%}",
        f"{layer.error_after:.2%}",
        f"{layer.saturated_before:.3%}",
        "" if layer.saturated_after is None else f"{layer.saturated_after:.3%}",
        " ".join(f"{gain:g}: {tiles}" for gain, tiles in layer.gains.items()),
        layer.note,
    )
