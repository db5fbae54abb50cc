"""What a model costs on a backend: tiles, shots, programming, time, energy, and the digital work that remains.

The model is run once in exact arithmetic, which tells the signs of each layer's inputs; beside it, each product goes
through the backend's own encoder to a chip that only counts (``photonic.analysis.tally``). Nothing is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from photonic.analysis.billing import cost, digital_work, shots_per_input
from photonic.analysis.cost import Cost, Digital, LayerProfile, Profile, Source
from photonic.analysis.explain_model import EVERY_LAYER, exact_copy
from photonic.analysis.plan import Progress
from photonic.analysis.switches import parameters_of
from photonic.analysis.tally import Product, TallyBackend
from photonic.backends.base import Backend
from photonic.backends.twin.backend import TwinBackend
from photonic.models.convert import convert_
from photonic.models.sites import Location, locations, torch_class
from photonic.records import ChipSpec


def profile_model(
    model: nn.Module,
    x: Tensor,
    backend: Backend,
    *,
    on_chip: Mapping[str, bool] = EVERY_LAYER,
    progress: Progress | None = None,
) -> Profile:
    """Profiles one forward of a model, from an empty chip.

    Args:
        model: not changed; profiled in evaluation mode.
        x: a batch of inputs, whose values decide which layers see inputs of both signs.
        backend: opened; its chip is not asked.
        on_chip: which layers run on the backend, by glob over their names; the last match wins.
        progress: is told which layer is at work.

    Raises:
        ConversionError: the model has no layer for a backend, or ``on_chip`` does not fit it.
        SpecError: the backend stands for a chip and does not say what it asks of it.
    """
    digital = exact_copy(model)
    found, products = {location.name: location for location in locations(digital)}, list[Product]()

    def noted(product: Product) -> None:
        products.append(product)
        if progress is not None:
            done = len({known.layer for known in products})
            progress(done, len(found), f"layers: {product.layer}")

    tally, exact = TallyBackend.of(backend, noted), TallyBackend(None, None, noted)
    convert_(digital, {glob: tally if chosen else exact for glob, chosen in on_chip.items()})
    if progress is not None:
        progress(0, len(found), "layers")
    with torch.inference_mode():
        digital(x)
    layers = _by_layer(products)
    spec = backend.spec.chip
    rows = tuple(_layer(found[name], layer, spec) for name, layer in layers.items())
    chosen = [row for row in rows if row.cost is not None]
    return Profile(
        backend=backend.spec.name,
        input_shape=tuple(x.shape),
        layers=rows,
        total=_whole(products, spec),
        again=_whole(_again(products, tally), spec),
        digital=reduce(add, [row.digital for row in chosen], Digital()),
        digital_macs=sum(row.macs for row in rows if row.cost is None),
        unsupported={place.name: place.reason for place in found.values() if place.reason is not None},
        **_power(backend),
    )


def _by_layer(products: Sequence[Product]) -> dict[str, list[Product]]:
    layers: dict[str, list[Product]] = {}
    for product in products:
        layers.setdefault(product.layer, []).append(product)
    return layers


def _power(backend: Backend) -> dict[str, Any]:
    """What there is to say of the chip as a whole."""
    spec, source = backend.spec.chip, None
    parameters = backend.parameters if isinstance(backend, TwinBackend) else parameters_of(backend)
    if parameters is not None and parameters.states_power:
        source = Source(power_per_pair_w=parameters.signal_power_w, light_w=parameters.source_power_w)
    return {
        "chip": None if spec is None else spec.chip_id,
        "enob": None if spec is None else spec.enob,
        "source": source,
        "laser_w": None if spec is None or spec.energy is None else spec.energy.laser_w,
    }


def _layer(place: Location, products: Sequence[Product], spec: ChipSpec | None) -> LayerProfile:
    # a converted layer has the attributes of torch's, which nn.Module's typing cannot say
    module: Any = place.module
    bias = module.in_proj_bias if isinstance(module, nn.MultiheadAttention) else module.bias
    asked = spec is not None and any(product.calls for product in products)
    per_input = {shots_per_input(product) for product in products if product.calls}
    return LayerProfile(
        layer=place.name,
        kind=torch_class(module).__bases__[0].__name__,
        macs=sum(product.macs for product in products),
        grids=tuple({product.weight: product.grid for product in products if product.calls}.values()),
        signed=any(product.signed for product in products),
        shots_per_input=per_input.pop() if len(per_input) == 1 else None,
        cost=cost(products, spec) if asked and spec is not None else None,
        digital=reduce(add, [digital_work(product, bias=bias is not None) for product in products], Digital()),
    )


def _again(products: Sequence[Product], tally: TallyBackend) -> list[Product]:
    """The same products with what their calls would have to program now."""
    now = iter(tally.again())
    return [replace(product, calls=[next(now) for _ in product.calls]) for product in products]


def _whole(products: Sequence[Product], spec: ChipSpec | None) -> Cost | None:
    """The cost of all that is on the chip."""
    asked = [product for product in products if product.calls]
    return cost(asked, spec) if asked and spec is not None else None
