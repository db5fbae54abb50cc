"""What the mean response of a product is made of: the gradient of ``gradient="twin"``."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from photonic.backends.plans import Plan
from photonic.backends.twin.inputs import InputCodes, Inputs
from photonic.backends.twin.light import Light
from photonic.backends.twin.prepared import Prepared
from photonic.physics import modulator
from photonic.records import ChipSpec


def actual_weight(prepared: Prepared, span: float, plan: Plan, inputs: int) -> Tensor:
    """(G, M, N) the weight that the device really holds, spread and crosstalk included, in the layer's units.

    Args:
        prepared: the weight as it was programmed.
        span: what the light of a channel rises by when its input goes from 0 to 1.
        plan: of the product.
        inputs: N.
    """
    n = prepared.cut.n
    matrix = prepared.matrix[..., :n].flatten(2)
    matrix = matrix * span
    if plan.inputs == "space":
        return (matrix[..., :inputs] - matrix[..., inputs : 2 * inputs]) / 2
    return matrix[..., :inputs]


def seen_inputs(
    x: Tensor, plan: Plan, prepared: Prepared, inputs: Inputs, light: Callable[[InputCodes], Light]
) -> Tensor:
    """(G, B, N) the inputs as their rounded codes say them.

    Args:
        x: (G, B, N).
        plan: of the product.
        prepared: the weight, with its tiling.
        inputs: encodes x.
        light: that the chip makes of codes.
    """
    if inputs.encoder.by_image:
        return _by_code(inputs.by_value(plan.scaled(x), two_sided=True), plan, inputs.encoder.spec)
    return _by_light(light(inputs.codes(x, plan, prepared.cut)), plan, prepared, *inputs.levels(prepared.cut.n))


def _by_code(codes: Tensor, plan: Plan, spec: ChipSpec) -> Tensor:
    """As codes with a sign nominally say them."""
    transfer = spec.response.inputs
    levels = modulator.levels(transfer, codes if spec.signed_inputs else codes.abs())
    levels = (levels - transfer.level_min) / (1.0 - transfer.level_min)
    return (levels if spec.signed_inputs else levels.copysign(codes)) * plan.scale


def _by_light(light: Light, plan: Plan, prepared: Prepared, base: float, span: float) -> Tensor:
    """As each channel's own light says them; how they were encoded is undone."""
    cut = prepared.cut
    values = [(shot[..., : cut.n].flatten(2)[..., : cut.inputs] - base) / span for shot in light.shots]
    seen = values[0]
    if plan.inputs == "time":
        seen = seen - values[1]
    elif plan.inputs == "space":
        plus, minus = seen.chunk(2, dim=-1)
        seen = plus - minus
    elif plan.inputs == "offset":
        seen = 2 * seen - 1
    return seen * plan.scale
