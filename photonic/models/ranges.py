"""Static, learned and moving input ranges of converted layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from photonic.backends.encoding import check_finite
from photonic.errors import ConversionError, RangeError, SpecError
from photonic.models.sites import Location, is_photonic, locations


def set_input_range(
    model: nn.Module,
    value: float | Mapping[str, float | None] | None,
    *,
    learned: bool = False,
    moving: float | None = None,
) -> nn.Module:
    """Sets the input range of converted layers, in place; inputs beyond it are clamped, and counted.

    A static range is a buffer that ``state_dict`` does not hold. A learned one is a parameter and adds exactly
    ``<layer>.input_range``; build the optimiser after this call. A moving one is such a buffer too: in training mode
    each forward first sets it to ``moving * range + (1 - moving) * largest |x|``, in evaluation it stands still. It
    starts from ``value``, or else from the first batch in training mode (before which each batch has its own).

    The gradient of a learned range comes from the inputs beyond it alone (as in PACT): d clamp(x) / d r is sign(x)
    there. Rounding counts as straight through, so nothing but the loss makes a range smaller; weight decay does.

    Args:
        model: with converted layers.
        value: the range r, inputs are taken in [-r, r]; None goes back to each batch's absolute maximum; or a mapping
            from globs over layer names, the last match wins. ``photonic.fit_ranges`` finds good ones.
        learned: make it a parameter.
        moving: make it a moving average, with this weight of the past, in (0, 1). In half-precision layers the buffer
            has their few digits, and a weight above 0.9 hardly moves it.

    Returns:
        The same model.

    Raises:
        RangeError: a range that is not finite and positive, or a weight outside (0, 1).
        SpecError: both learned and moving.
        ConversionError: a glob matches no converted layer.
    """
    if learned and moving is not None:
        raise SpecError("a range is learned by the optimiser or moved with the batches; give learned or moving")
    if moving is not None and not 0 < moving < 1:
        raise RangeError(f"moving is the weight of the past, between 0 and 1, found {moving}")
    limits = _resolve(model, value if isinstance(value, Mapping) else {"*": value})
    # all are checked before the first is set
    scalars = [(module, None if limit is None else _scalar(module, limit)) for module, limit in limits]
    for module, scalar in scalars:
        _set(module, scalar, learned)
        if moving is not None:
            module.register_forward_pre_hook(MovingRange(moving), with_kwargs=True)
    return model


def _resolve(model: nn.Module, chosen: Mapping[str, float | None]) -> list[tuple[nn.Module, float | None]]:
    """Converted layers and their limits; the last glob that matches wins."""
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
    return list(limits.values())


@dataclass(frozen=True)
class MovingRange:
    """A forward pre-hook: in training mode the layer's range follows the largest |x|, as a moving average.

    A batch of zeros says nothing about the range and leaves it.

    Attributes:
        momentum: weight of the past.
    """

    momentum: float

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # the first batch changes what is computed
    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Updates the buffer from what the layer is about to multiply.

        Raises:
            RangeError: the input holds NaN or infinite values; the range was left as it was.
        """
        if module.training:
            self._follow(module, [x.detach() for x in inputs_of(module, args, kwargs) if x.numel()])

    @torch.no_grad()
    def _follow(self, module: nn.Module, inputs: list[Tensor]) -> None:
        if not inputs:
            return
        ends = [torch.aminmax(x) for x in inputs]
        for low, high in ends:
            check_finite("the input of a layer with a moving range", low, high)
        largest = max(max(-float(low), float(high)) for low, high in ends)
        if largest == 0:
            return
        past: Tensor | None = module.input_range  # type: ignore[assignment]  # a scalar, as OnBackend says
        if past is not None:
            largest = self.momentum * float(past) + (1 - self.momentum) * largest
        # a new tensor: in place, a second forward before backward would change what the first one saved
        module.input_range = _scalar(module, largest)


def inputs_of(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """What a converted layer multiplies, from the arguments of its call: of an attention query, key and value.

    Self-attention projects one tensor for all three.
    """
    if not isinstance(module, nn.MultiheadAttention):
        return [args[0] if args else kwargs["input"]]
    named = dict(zip(("query", "key", "value"), args, strict=False))
    query, key, value = ((named | dict(kwargs))[name] for name in ("query", "key", "value"))
    return [query] if query is key and key is value else [query, key, value]


def drop_moving(module: nn.Module) -> None:
    """Takes a moving range's hook off a layer; its last value stays."""
    hooks = module._forward_pre_hooks  # noqa: SLF001 - torch keeps no other way to a hook that was copied or unpickled
    for key in [key for key, hook in hooks.items() if isinstance(hook, MovingRange)]:
        del hooks[key]
        module._forward_pre_hooks_with_kwargs.pop(key, None)  # noqa: SLF001 - as above


def assign(module: nn.Module, limit: float) -> None:
    """Gives a converted layer another range and leaves what kind it is: learned, moving or static.

    Raises:
        RangeError: the limit is 0 or infinite in the layer's dtype.
    """
    scalar = _scalar(module, limit)
    if isinstance(module.input_range, nn.Parameter):
        with torch.no_grad():
            module.input_range.copy_(scalar)
    else:
        module.input_range = scalar


def _matches(location: Location, glob: str) -> bool:
    return any(fnmatchcase(name, glob) for name in location.names)


def _set(module: nn.Module, limit: Tensor | None, learned: bool) -> None:
    drop_moving(module)
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
