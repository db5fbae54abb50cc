"""Static and learned input ranges of converted layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from photonic.errors import ConversionError, RangeError
from photonic.models.sites import Location, is_photonic, locations


def set_input_range(
    model: nn.Module, value: float | Mapping[str, float | None] | None, *, learned: bool = False
) -> nn.Module:
    """Sets the input range of converted layers, in place; inputs beyond it are clamped, and counted.

    A static range is a buffer that ``state_dict`` does not hold. A learned one is a parameter and adds exactly
    ``<layer>.input_range``; build the optimiser after this call.

    Args:
        model: with converted layers.
        value: the range r, inputs are taken in [-r, r]; None goes back to each batch's absolute maximum; or a mapping
            from globs over layer names, the last match wins.
        learned: make it a parameter.

    Returns:
        The same model.

    Raises:
        RangeError: a range that is not finite and positive.
        ConversionError: a glob matches no converted layer.
    """
    chosen = value if isinstance(value, Mapping) else {"*": value}
    found = [location for location in locations(model) if is_photonic(location.module)]
    limits: dict[str, tuple[nn.Module, float | None]] = {}
    for glob, limit in chosen.items():
        if limit is not None and not (math.isfinite(limit) and limit > 0):
            raise RangeError(f"an input range must be finite and above 0, found {limit} for {glob!r}")
        matching = [location for location in found if _matches(location, glob)]
        if not matching:
            names = ", ".join(location.name for location in found) or "none"
            raise ConversionError(f"the glob {glob!r} matches no converted layer; the converted layers are: {names}")
        limits.update((location.name, (location.module, limit)) for location in matching)
    # all are checked before the first is set
    scalars = [(module, None if limit is None else _scalar(module, limit)) for module, limit in limits.values()]
    for module, scalar in scalars:
        _set(module, scalar, learned)
    return model


def _matches(location: Location, glob: str) -> bool:
    return any(fnmatchcase(name, glob) for name in location.names)


def _set(module: nn.Module, limit: Tensor | None, learned: bool) -> None:
    delattr(module, "input_range")
    if learned and limit is not None:
        module.register_parameter("input_range", nn.Parameter(limit))
    else:
        module.register_buffer("input_range", limit, persistent=False)


def _scalar(module: nn.Module, limit: float) -> Tensor:
    like = next(module.parameters())
    scalar = torch.tensor(limit, dtype=like.dtype, device=like.device)
    if not bool(torch.isfinite(scalar) & (scalar > 0)):
        raise RangeError(f"an input range of {limit} is {scalar.item():g} in the layer's {like.dtype}")
    return scalar
