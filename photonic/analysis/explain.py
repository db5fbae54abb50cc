"""The error budget of a simulated chip at the output of a matmul: each effect alone, each off, and the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from photonic.analysis.budget import Budget, Estimate, Product, Samples, Share, compare, estimate, interaction
from photonic.analysis.explain_model import explain_model
from photonic.analysis.plan import ALL, IDEAL, Key, Progress, contributions, each_once, plan_of
from photonic.analysis.switches import SwitchedChip, Variant
from photonic.backends.base import Backend
from photonic.physics.parameters import ChipParameters

__all__ = ["explain_model", "explain_product", "standard_product"]

OUTPUTS_MEASURED = 200_000


def standard_product(parameters: ChipParameters, **fields: int | bool) -> Product:
    """The product that a chip is judged by: 2 row tiles, 3 column tiles, at least 200,000 measured outputs.

    Args:
        parameters: of the chip.
        fields: of ``Product``, in place of these.
    """
    sizes: dict[str, Any] = {"outputs": 2 * parameters.n_outputs, "inputs": 3 * parameters.n_inputs, "batch": 1}
    product = Product(**{**sizes, **fields})
    if "batch" in fields:
        return product
    each = product.outputs * product.blocks * product.repeats
    return product.model_copy(update={"batch": math.ceil(OUTPUTS_MEASURED / each)})


def explain_product(chip: SwitchedChip, product: Product | None = None, progress: Progress | None = None) -> Budget:
    """Measures the error budget of a product on the exact simulated chip, with the nominal calibration.

    Args:
        chip: whose effects are switched.
        product: what is computed; default ``standard_product``.
        progress: is told how it goes.

    Returns:
        Mean-square errors, relative to the mean square of the exact output.
    """
    product = product or standard_product(chip.parameters)
    plan = plan_of(chip)

    def measure(variant: Variant) -> Samples:
        with chip.opener(variant.parameters) as backend:
            return _measure(backend, product)

    found = each_once(plan, measure, progress, "product")
    alone = contributions(plan, found)
    shares = sorted((_share(name, plan, found, alone[name]) for name in chip.effects), key=_alone, reverse=True)
    ideal = found[IDEAL].error()
    dominant = shares[0] if shares and _is_error(shares[0].alone.total, ideal.total) else None
    return Budget(
        chip=chip.name,
        product=product,
        dominant=None if dominant is None else dominant.effect,
        margin=None if dominant is None else _margin(shares, alone),
        total=found[ALL].error(),
        ideal=ideal,
        effects=tuple(shares),
        interaction=interaction(found[ALL], alone.values()),
    )


def _measure(backend: Backend, product: Product) -> Samples:
    blocks: list[Tensor] = []
    for block in range(product.blocks):
        x, weight = product.draw(block)
        # a call for each repeat: what drifts between calls, and what a shot leaves for the next, is as in use
        measured = torch.stack([backend.matmul(x, weight) for _ in range(product.repeats)])
        blocks.append(compare(x @ weight.mT, measured))
    return Samples.of_blocks(blocks)


def _share(name: str, plan: Mapping[Key, Variant], found: Mapping[Key, Samples], alone: Samples) -> Share:
    whole, off = found[ALL], found["off", name]
    return Share(
        effect=name,
        alone=alone.error(),
        off=off.error(),
        # block by block: both met the same product
        change=estimate(whole.total - off.total, whole.power),
        alone_beside=plan["alone", name].beside,
        off_beside=plan["off", name].beside,
    )


def _alone(share: Share) -> float:
    return share.alone.total.value


def _is_error(found: Estimate, rounding: Estimate) -> bool:
    return found.value > max(2 * found.standard_error, 10 * rounding.value)


def _margin(shares: Sequence[Share], alone: Mapping[str, Samples]) -> Estimate | None:
    """How far the largest effect is ahead of the next, block by block."""
    if len(shares) < 2:
        return None
    first, second = (alone[share.effect] for share in shares[:2])
    return (first - second).error().total
