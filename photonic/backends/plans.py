"""How a product's inputs and weights are scaled and encoded: what every backend between numbers and codes decides."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.backends import encoding
from photonic.backends.base import Site
from photonic.backends.ends import ends
from photonic.backends.signs import Sign
from photonic.errors import RangeError, SpecError
from photonic.records import ChipSpec

SIGNS = ("auto", "time", "space", "offset")


@dataclass(frozen=True)
class EncodingOptions:
    """What a user may choose.

    Attributes:
        sign: how signed inputs reach a chip whose light is non-negative. "auto" is one shot for inputs that are all
            non-negative and "time" otherwise; "time" is two shots, "space" twice the inputs, "offset" one shot of
            doubled noise.
        shots: evaluations averaged for every product; noise falls as 1 / sqrt(shots).
        weight_scale: "row" scales each output of each tile to full scale, "tile" each tile.
        analog_gain: a setting that the chip offers before its ADC, or None.
    """

    sign: str = "auto"
    shots: int = 1
    weight_scale: str = "row"
    analog_gain: float | None = None

    def check(self, spec: ChipSpec) -> None:
        """Refuses what does not exist or does not fit the chip.

        Raises:
            SpecError: which option, and what it may be.
        """
        _check_option("sign", self.sign, SIGNS)
        _check_option("weight_scale", self.weight_scale, ("row", "tile"))
        if not isinstance(self.shots, int) or isinstance(self.shots, bool) or self.shots < 1:
            raise SpecError(f"shots must be a whole number of at least 1, found {self.shots!r}")
        offered = spec.conditions.get("analog_gain", ())
        if self.analog_gain is not None and self.analog_gain not in offered:
            raise SpecError(
                f"chip {spec.chip_id} offers the analog gains {offered or 'none'}, found {self.analog_gain}"
            )

    def input_sign(self, spec: ChipSpec, one_sided: bool) -> Sign:
        """How inputs are encoded that are all non-negative, or are not."""
        if one_sided or spec.signed_inputs:
            # even where sign="space": the weight stays as it is and no input is wasted
            return "plain"
        if self.sign == "space":
            return "space"
        return "offset" if self.sign == "offset" else "time"

    def tiles_of(self, spec: ChipSpec, groups: int, outputs: int, inputs: int) -> encoding.Geometry:
        """The tiling of a weight, for inputs of both signs."""
        m = outputs * (2 if weight_sign(spec) == "space" else 1)
        n = inputs * (2 if self.sign == "space" and not spec.signed_inputs else 1)
        return encoding.Geometry.of(spec, groups, m, n)


def _check_option(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SpecError(f"{name} must be one of {allowed}, found {value!r}")


def weight_sign(spec: ChipSpec) -> Sign:
    """How weights are encoded."""
    return "plain" if spec.signed_weights else "space"


@dataclass(frozen=True)
class Plan:
    """How one product is encoded: the inputs' scale, a number or (G, 1, 1), and the signs of inputs and weights.

    ``limited`` where the scale is the layer's range, which inputs may exceed by rounding.
    """

    scale: Tensor | float
    inputs: Sign
    weights: Sign
    limited: bool = False

    @property
    def signs(self) -> tuple[Sign, Sign]:
        """Of inputs and weights."""
        return self.inputs, self.weights

    def scaled(self, x: Tensor) -> Tensor:
        """x (G, B, N) in units of the scale; a scale of zero belongs to zeros only, and any divisor keeps them."""
        if isinstance(self.scale, Tensor):
            return x / encoding.nonzero(self.scale)
        return x / (self.scale or 1.0)

    def scaled_images(self, x: Tensor, groups: int) -> Tensor:
        """The same for images (B, G x C, *size)."""
        if not isinstance(self.scale, Tensor):
            return self.scaled(x)
        return x / _over_channels(encoding.nonzero(self.scale), x, groups)


def _over_channels(scale: Tensor, x: Tensor, groups: int) -> Tensor:
    """(G, 1, 1) to (1, G x C, 1, ...)."""
    return scale.flatten().repeat_interleave(x.shape[1] // groups).view(1, -1, *[1] * (x.ndim - 2))


def plan_product(x: Tensor, site: Site, spec: ChipSpec, options: EncodingOptions, dtype: torch.dtype) -> Plan:
    """Finds the range and the signs of x, whose first dimension is the group.

    Raises:
        RangeError: a number is not finite, or beyond the layer's static range.
    """
    if x.shape[0] == 1:
        return plan_between(*ends(x), site, spec, options)
    lows, highs = torch.stack(torch.aminmax(x.reshape(len(x), -1), dim=1)).tolist()
    if not (math.isfinite(sum(lows)) and math.isfinite(sum(highs))):
        raise _not_finite(site)
    spans = [max(-low, high) for low, high in zip(lows, highs, strict=True)]
    if site.input_range is not None:
        spans = [_static_range(max(spans), float(site.input_range), site.name)] * len(spans)
    scale = spans[0] if len(set(spans)) == 1 else torch.tensor(spans, dtype=dtype, device=x.device).reshape(-1, 1, 1)
    return Plan(scale, options.input_sign(spec, min(lows) >= 0), weight_sign(spec))


def plan_between(low: float, high: float, site: Site, spec: ChipSpec, options: EncodingOptions) -> Plan:
    """The same for one group of numbers from ``low`` to ``high``."""
    if not math.isfinite(low + high):
        raise _not_finite(site)
    span, limited = high if high > -low else -low, site.input_range is not None
    if site.input_range is not None:
        span = _static_range(span, float(site.input_range), site.name)
    return Plan(span, options.input_sign(spec, low >= 0), weight_sign(spec), limited)


def _not_finite(site: Site) -> RangeError:
    return RangeError(f"the input of layer {site.name or '(unnamed)'} {encoding.NOT_FINITE}")


def plain(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x without its history, in a dtype; the same tensor where it is that already."""
    x = x.detach() if x.requires_grad else x
    return x if x.dtype == dtype else x.to(dtype)


def check_weight(weight: Tensor, site: Site) -> None:
    """Refuses a weight that is not finite.

    Raises:
        RangeError: names the layer.
    """
    encoding.check_finite(f"the weight of layer {site.name or '(unnamed)'}", *torch.aminmax(weight))


def _static_range(span: float, limit: float, layer: str) -> float:
    """The calibrated range of a layer; what exceeds it must have been clamped, and counted, before."""
    if span > limit * (1 + 1e-5):
        raise RangeError(
            f"layer {layer or '(unnamed)'}: inputs reach {span:g}, its input range is {limit:g}; "
            "clamp them first, or widen the range"
        )
    return limit
