"""The outputs of a product: their mean, what one shot's outputs share, and one draw for the rest of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.backends.plans import Plan
from photonic.backends.twin.light import Light
from photonic.backends.twin.prepared import Prepared
from photonic.physics import modulator
from photonic.physics.draws import NormalDraws
from photonic.physics.parameters import ChipParameters
from photonic.records import ChipSpec


@dataclass(frozen=True)
class Common:
    """Variances of what all outputs of one tile's shot share.

    Attributes:
        rin: of the factor on D.
        common_mode: of the factor on S that balancing lets through.
    """

    rin: float
    common_mode: float

    @property
    def none(self) -> bool:
        """Whether outputs share nothing."""
        return self.rin == 0 and self.common_mode == 0


def outputs(
    light: Light, again: Callable[[], Light] | None, prepared: Prepared, common: Common, draws: NormalDraws
) -> Tensor:
    """(G, B, M) before signs are decoded, two shots already subtracted.

    Args:
        light: of all shots.
        again: draws it anew where row tiles do not see the same.
        prepared: the weight.
        common: what is one factor per shot: row tile, column tile and input.
        draws: of all noise.
    """
    base = prepared.base if light.minus is None else torch.zeros_like(prepared.base)
    if common.none and again is None:
        y = torch.baddbmm(base, light.difference.flatten(2), prepared.matrix.flatten(2).mT)
    else:
        y = _row_by_row(light, again, prepared, base, common, draws)
    if prepared.silent:
        return y
    return add_noise_(y, prepared.variance(light.total, light.readings), draws)


def add_noise_(y: Tensor, variance: Tensor, draws: NormalDraws) -> Tensor:
    """One independent sample for each output; ``variance`` broadcasts, and is overwritten."""
    return y.addcmul_(draws.fill_(torch.empty_like(y)), variance.sqrt_())


def _row_by_row(
    light: Light,
    again: Callable[[], Light] | None,
    prepared: Prepared,
    base: Tensor,
    common: Common,
    draws: NormalDraws,
) -> Tensor:
    """A factor on a shot's outputs is the same factor on its light, so that the column tiles stay one product."""
    g, b, c = light.plus.shape[:3]
    cut, generator = prepared.cut, draws.on(light.plus.device)
    y = light.plus.new_empty(g, b, cut.outputs)
    shared = torch.empty_like(light.plus)
    for row in range(cut.rows):
        rows = slice(row * cut.m, min((row + 1) * cut.m, cut.outputs))
        now = light if again is None or row == 0 else again()
        _shaken(now, common.rin, generator, shared)
        part = torch.baddbmm(base[..., rows], shared.flatten(2), prepared.matrix[:, rows].flatten(2).mT)
        if common.common_mode > 0:
            for each in (now.plus, *([] if now.minus is None else [now.minus])):
                factor = each.new_empty(g, b, c, 1).normal_(0.0, math.sqrt(common.common_mode), generator=generator)
                _add_common_mode(part, each, factor, prepared, rows)
        y[..., rows] = part
    return y


def _shaken(light: Light, rin: float, generator: torch.Generator, out: Tensor) -> None:
    """The light that the mean follows, each column tile's shot times a factor of its own."""
    if rin == 0:
        out.copy_(light.difference)
        return

    def factor() -> Tensor:
        return light.plus.new_empty(*light.plus.shape[:3], 1).normal_(1.0, math.sqrt(rin), generator=generator)

    torch.mul(light.plus, factor(), out=out)
    if light.minus is not None:
        out.addcmul_(light.minus, factor(), value=-1.0)


def _add_common_mode(part: Tensor, light: Tensor, factor: Tensor, prepared: Prepared, rows: slice) -> None:
    """Adds worth S rho for each column tile."""
    worth = prepared.worth[..., rows]
    if prepared.uniform:
        part.baddbmm_((light @ prepared.power) * factor.squeeze(-1), worth)
        return
    matrix = prepared.power[:, rows] * worth.transpose(1, 2).unsqueeze(-1)
    part.baddbmm_((light * factor).flatten(2), matrix.flatten(2).mT)


def actual_weight(prepared: Prepared, parameters: ChipParameters, plan: Plan, inputs: int) -> Tensor:
    """(G, M, N) the weight that the device really holds, spread and crosstalk included, in the layer's units."""
    n = prepared.cut.n
    matrix = prepared.matrix[..., :n].flatten(2)
    matrix = matrix * (1.0 - parameters.input_transfer.level_min)
    if plan.inputs == "space":
        return (matrix[..., :inputs] - matrix[..., inputs : 2 * inputs]) / 2
    return matrix[..., :inputs]


def seen_inputs(codes: Tensor, plan: Plan, spec: ChipSpec) -> Tensor:
    """(G, B, N) the inputs as their codes nominally say them."""
    transfer = spec.response.inputs
    levels = modulator.levels(transfer, codes if spec.signed_inputs else codes.abs())
    levels = (levels - transfer.level_min) / (1.0 - transfer.level_min)
    return (levels if spec.signed_inputs else levels.copysign(codes)) * plan.scale
