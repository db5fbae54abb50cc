"""Whether each layer's numbers stay where its backend is right, asked before training or compiling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from photonic.backends.chip import Usage
from photonic.backends.judgement import Judgement
from photonic.errors import ConversionError, RangeError, ShapeError
from photonic.models.sites import is_photonic, locations


@dataclass(frozen=True)
class LayerCheck:
    """What one layer did with the data.

    Attributes:
        name: of the layer.
        backend: its spec string.
        calls: of the backend.
        saturated_fraction: of the counts, at the rails of the ADC; of a twin, as its sample of them has it.
        clipped_fraction: of the inputs, beyond the input range.
        judgements: what a statistical backend said, by way of the product, summed; empty for others.
    """

    name: str
    backend: str
    calls: int
    saturated_fraction: float
    clipped_fraction: float
    judgements: tuple[Judgement, ...]


class Check(tuple[LayerCheck, ...]):
    """The layers that were called; prints as a table."""

    __slots__ = ()

    def __str__(self) -> str:
        head = ("layer", "backend", "way", "saturated", "coarse", "RIN share", "inputs clipped")
        rows = [head, *(line for layer in self for line in _lines(layer))]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def check(model: nn.Module, data: Tensor | Iterable[Any]) -> Check:
    """Runs a model over data, without gradients, and looks at the ranges of every converted layer.

    Compiled code cannot stop to ask; call this first, and read ``photonic.routes(model)`` after some steps.

    Args:
        model: with converted layers; its mode and weights stay.
        data: one batch, or batches; of a tuple or list (inputs, labels) the first is taken.

    Returns:
        What each layer did.

    Raises:
        RangeError: a twin would be wrong on this data: which layers, why, and what fraction of their tile outputs.
        ConversionError: no layer is converted, or none of them was called.
        ShapeError: there is no data.
    """
    modules: list[tuple[str, Any]] = [(at.name, at.module) for at in locations(model) if is_photonic(at.module)]
    if not modules:
        raise ConversionError("this model has no converted layer; use photonic.convert_(model, backend) first")
    sites = [module.backend.site for _, module in modules]
    before = [(_copied(site.usage), site.inputs, site.clipped) for site in sites]
    with _judged(sites) as found, torch.no_grad():
        batches = 0
        for batch in [data] if isinstance(data, Tensor) else data:
            model(batch[0] if isinstance(batch, (tuple, list)) else batch)
            batches += 1
    if not batches:
        raise ShapeError("check needs at least one batch of data, found none")
    layers = []
    for (name, module), site, (usage, inputs, clipped), said in zip(modules, sites, before, found, strict=True):
        calls = site.usage.calls - usage.calls
        if calls:
            layers.append(
                LayerCheck(
                    name=name,
                    backend=module.backend.spec.name,
                    calls=calls,
                    saturated_fraction=_fraction(
                        site.usage.saturated - usage.saturated, site.usage.counts - usage.counts
                    ),
                    clipped_fraction=_fraction(site.clipped - clipped, site.inputs - inputs),
                    judgements=_summed(said),
                )
            )
    if not layers:
        raise ConversionError("no converted layer was called; is this the model's data?")
    refusals = [text for layer in layers for said in layer.judgements if (text := said.refusal(layer.name))]
    if refusals:
        raise RangeError("; and ".join(refusals))
    return Check(layers)


@contextmanager
def _judged(sites: list[Any]) -> Iterator[list[list[Judgement]]]:
    """Collects what backends say of their ranges, where they would raise at the first refusal."""
    found: list[list[Judgement]] = [[] for _ in sites]
    previous = [site.judge for site in sites]
    try:
        for site, said in zip(sites, found, strict=True):
            site.judge = said.append
        yield found
    finally:
        for site, judge in zip(sites, previous, strict=True):
            site.judge = judge


def _copied(usage: Usage) -> Usage:
    copied = Usage()
    copied.add(usage)
    return copied


def _fraction(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _summed(said: list[Judgement]) -> tuple[Judgement, ...]:
    ways: dict[str, Judgement] = {}
    for one in said:
        known = ways.get(one.way, Judgement(one.way, 0, 0, 0, 0.0))
        ways[one.way] = Judgement(
            one.way,
            known.readings + one.readings,
            known.clipped + one.clipped,
            known.coarse + one.coarse,
            max(known.common_share, one.common_share),
        )
    return tuple(ways.values())


def _lines(layer: LayerCheck) -> Iterator[tuple[str, ...]]:
    saturated, clipped = f"{layer.saturated_fraction:.3%}", f"{layer.clipped_fraction:.3%}"
    name = layer.name or "(model)"
    if not layer.judgements:
        yield name, layer.backend, "", saturated, "", "", clipped
    for said in layer.judgements:
        fractions = f"{said.coarse_fraction:.3%}", f"{said.common_share:.2%}"
        yield name, layer.backend, said.way, f"{said.clipped_fraction:.3%}", *fractions, clipped
