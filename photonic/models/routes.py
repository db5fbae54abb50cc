"""What runs where: each product of a model, its backend, its tiles, what programming it costs, what it has spent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, overload

from torch import nn

from photonic.backends.base import Programming
from photonic.backends.chip import Usage
from photonic.models.sites import Location, is_photonic, locations, torch_class

_HEAD = ("layer", "kind", "backend", "tiles", "drives", "programming s", "calls", "shots", "saturated", "clipped")


@dataclass(frozen=True)
class Route:
    """One product of a model.

    Attributes:
        name: qualified name of the layer.
        kind: its class in torch.
        backend: the spec string of its backend; "digital" for a layer that is torch's own.
        tiles: row tiles and column tiles (of all groups), or None without a chip.
        programming: what one pass over its weight costs to program.
        usage: what it has spent since it was converted.
        clipped_fraction: of its inputs, beyond its input range; 0 without one.
        reason: why it cannot be converted, or "".
    """

    name: str
    kind: str
    backend: str
    tiles: tuple[int, int] | None = None
    programming: Programming = field(default_factory=Programming)
    usage: Usage = field(default_factory=Usage)
    clipped_fraction: float = 0.0
    reason: str = ""


class Routes:
    """The routes of a model, in the order of its modules: a sequence that prints as a table."""

    def __init__(self, rows: tuple[Route, ...]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Route]:
        return iter(self._rows)

    @overload
    def __getitem__(self, index: int) -> Route: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Route, ...]: ...

    def __getitem__(self, index: int | slice) -> Route | tuple[Route, ...]:
        return self._rows[index]

    def __repr__(self) -> str:
        return f"Routes({len(self)} layers, {sum(row.tiles is not None for row in self)} on a chip)"

    def __str__(self) -> str:
        table = [_HEAD, *(_cells(row) for row in self)]
        widths = [max(len(line[i]) for line in table) for i in range(len(_HEAD))]
        return "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in table
        )


def routes(model: nn.Module) -> Routes:
    """Lists every layer that multiplies with a weight: where it runs, what it costs, what it has spent."""
    return Routes(tuple(_route(location) for location in locations(model)))


def _route(location: Location) -> Route:
    kind = torch_class(location.module)
    if not is_photonic(location.module):
        return Route(location.name, kind.__name__, "digital", reason=location.reason or "")
    # a converted module has the attributes of layers.OnBackend, which nn.Module's typing cannot say
    module: Any = location.module
    backend, site = module.backend, module.backend.site
    shapes = weight_shapes(module)
    grids = [backend.tiles(*shape) for shape in shapes]
    costs = [backend.programming(*shape) for shape in shapes]
    chip = backend.spec.chip
    return Route(
        name=location.name,
        kind=kind.__bases__[0].__name__,
        backend=backend.spec.name,
        tiles=None if chip is None else (sum(rows for rows, _ in grids), max(columns for _, columns in grids)),
        programming=Programming(
            sum(cost.tiles for cost in costs), sum(cost.drives for cost in costs), sum(cost.seconds for cost in costs)
        ),
        usage=replace(site.usage),
        clipped_fraction=site.clipped / site.inputs if site.inputs else 0.0,
    )


def weight_shapes(module: Any) -> list[tuple[int, int, int]]:
    """(groups, outputs, inputs) of each of a converted layer's products.

    An attention has three where keys or values have a width of their own, else self-attention's packed one.
    """
    if isinstance(module, nn.MultiheadAttention):
        e = module.embed_dim
        packed = module.in_proj_weight is not None
        return [(1, 3 * e, e)] if packed else [(1, e, e), (1, e, module.kdim), (1, e, module.vdim)]
    if isinstance(module, nn.Linear):
        return [(1, module.out_features, module.in_features)]
    groups: int = module.groups
    return [(groups, module.out_channels // groups, module.weight[0].numel())]


def _cells(row: Route) -> tuple[str, ...]:
    if row.tiles is None:
        tail = ("", "", "", str(row.usage.calls or ""), "", row.reason and f"({row.reason})", "")
    else:
        tail = (
            f"{row.tiles[0]} x {row.tiles[1]}",
            str(row.programming.drives),
            f"{row.programming.seconds:.3g}",
            str(row.usage.calls),
            str(row.usage.shots),
            f"{row.usage.saturated_fraction:.2%}",
            f"{row.clipped_fraction:.2%}",
        )
    return (row.name or "(model)", row.kind, row.backend, *tail)
