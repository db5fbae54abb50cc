"""The outputs of a product: their mean, what one shot's outputs share, and one draw for the rest of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.backends.twin.light import Light
from photonic.backends.twin.prepared import Prepared
from photonic.physics.draws import NormalDraws
from photonic.physics.many import many


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
    """One independent sample for each output (G, B, M); ``variance`` broadcasts, and is overwritten."""
    if many(y, variance) and y.shape == variance.shape:
        from photonic.physics.compiled import outputs  # numba takes a while to import

        rows, nothing = y.view(-1, 1, y.shape[-1]), y.new_zeros(1)
        draws.stretch(y.numel(), lambda first, key: outputs.add_noise_(rows, None, variance, None, nothing, first, key))
        return y
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

    def factors(mean: float, variance: float) -> Tensor:
        # of all rows at once: between two products on all cores, a small draw on one of them costs the most
        return light.plus.new_empty(cut.rows, g, b, c, 1).normal_(mean, math.sqrt(variance), generator=generator)

    readings = range(light.readings)
    rin = [factors(1.0, common.rin) for _ in readings] if common.rin > 0 else []
    balance = [factors(0.0, common.common_mode) for _ in readings] if common.common_mode > 0 else []
    shared = torch.empty_like(light.plus) if rin else None
    y = base.new_empty(g, b, cut.outputs)
    for row in range(cut.rows):
        rows = slice(row * cut.m, min((row + 1) * cut.m, cut.outputs))
        now = light if again is None or row == 0 else again()
        seen = now.difference if shared is None else _shaken(now, [rho[row] for rho in rin], shared)
        part = y[..., rows]
        torch.baddbmm(base[..., rows], seen.flatten(2), prepared.matrix[:, rows].flatten(2).mT, out=part)
        for each, rho in zip(now.shots if balance else (), balance, strict=True):
            _add_common_mode(part, each, rho[row], prepared, rows)
    return y


def _shaken(light: Light, factors: Sequence[Tensor], out: Tensor) -> Tensor:
    """The light that the mean follows, each column tile's shot times a factor of its own; overwrites ``out``."""
    torch.mul(light.plus, factors[0], out=out)
    return out if light.minus is None else out.addcmul_(light.minus, factors[1], value=-1.0)


def _add_common_mode(part: Tensor, light: Tensor, factor: Tensor, prepared: Prepared, rows: slice) -> None:
    """Adds worth S rho for each column tile."""
    worth = prepared.worth[..., rows]
    if prepared.uniform:
        part.baddbmm_((light @ prepared.power) * factor.squeeze(-1), worth)
        return
    matrix = prepared.power[:, rows] * worth.transpose(1, 2).unsqueeze(-1)
    part.baddbmm_((light * factor).flatten(2), matrix.flatten(2).mT)
